#!/usr/bin/env python3
"""A training step of the feature extractor, and the whole loop with loading, beside a plain fp32 loop; then stage 03's extraction.

    python bench/02_train.py                                    # 02: se_resnext101_32x4d at 224, and 03
    python bench/02_train.py --device cuda --batch 128

Step, images a second:

    ours            the script's network, memory format, precision and optimizer on a batch that is there; and with the other precision
    plain           fp32, NCHW, torch's Adam as it comes, the loss taken each step
    limit           the step's multiply-adds at the rate of a large matrix product, in fp32 and in bf16

Loop: the same fed from face images of 240 x 240 on disk; ours by the script (its start is not in the figure: it prints its own rate), plain by a
DataLoader of PIL images, resized and normalised in the workers as torchvision's recipes do. Extraction: stage 03's network at --extract-batch beside
the plain network at 1 and at 32 images.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import ROOT, arguments, in_turn, peak_rate, ratio, record, seconds, show, table
from torch.nn import functional as F

from networks import extractor

ARCH, MULTIPLY_ADDS = "se_resnext101_32x4d", 7.97e9  # of one image of 224 x 224, forward
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def plain_network(device):
    """The network as pretrainedmodels has it, two classes."""
    import pretrainedmodels

    torch.manual_seed(0)
    model = pretrainedmodels.__dict__[ARCH](num_classes=1000, pretrained=None)
    model.last_linear = torch.nn.Linear(2048, 2)
    return model.to(device)


class PlainFaces(torch.utils.data.Dataset):
    """PIL images, normalised in the worker."""

    def __init__(self, paths):
        from torchvision import transforms

        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, k):
        return self.transform(Image.open(self.paths[k]).convert("RGB")), k % 2


def make_faces(folder, count):
    """Images of 240 x 240, smooth with some noise, so that they compress as faces do; and their index."""
    rng = np.random.default_rng(0)
    (folder / "v").mkdir(parents=True)
    lines = []
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
            (240, 240), Image.Resampling.BICUBIC
        )
        pixels = np.clip(np.asarray(coarse) + rng.normal(0, 3, (240, 240, 3)), 0, 255).astype(
            np.uint8
        )
        Image.fromarray(pixels).save(folder / f"v/{k:06d}.png", compress_level=1)
        lines.append(f"v/{k:06d}.png,v{k % 2},{k},,{k % 2},m,train")
    (folder / "index.csv").write_text(
        "path,video,frame,clip,label,method,split\n" + "\n".join(lines) + "\n"
    )


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="(default 16)")
    parser.add_argument("--extract-batch", type=int, default=32, help="of ours in 03 (default 32)")
    parser.add_argument("--steps", type=int, default=8, help="of the loop (default 8)")
    args = parser.parse_args()
    common, device = import_module("common"), torch.device(args.device)
    precision = common.choose_precision("auto", device)
    folder, n = Path(tempfile.mkdtemp()), args.batch
    images, labels = (
        torch.randint(0, 256, (n, 3, 224, 224), dtype=torch.uint8),
        torch.arange(n, device=device) % 2,
    )

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    torch.manual_seed(0)
    ours, plain = extractor.Extractor(ARCH).to(device), plain_network(device)
    our_adam = torch.optim.Adam(ours.parameters(), lr=2e-3, weight_decay=4e-5)
    adam = torch.optim.Adam(plain.parameters(), lr=2e-3, weight_decay=4e-5)
    normal = (
        (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    ).to(device)

    def our_step(precision):
        our_adam.zero_grad()
        with common.autocast(device, precision):
            loss = F.cross_entropy(ours(images.to(device)), labels)
        loss.backward()
        our_adam.step()
        wait()

    def plain_step():
        loss = F.cross_entropy(plain(normal), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        loss.item()

    def limit(times, dtype=torch.float32):
        return lambda: peak_rate(args.device, dtype) / (times * MULTIPLY_ADDS)

    try:
        our_step("fp32"), our_step("bf16"), plain_step()
        step = in_turn(
            {
                "ours": lambda: n / seconds(our_step, precision),
                **{
                    f"ours, {p}": lambda p=p: n / seconds(our_step, p)
                    for p in ("fp32", "bf16")
                    if p != precision
                },
                "plain": lambda: n / seconds(plain_step),
                "limit, fp32": limit(3),
                "limit, bf16": limit(3, torch.bfloat16),
            },
            args.rounds,
        )
        del our_adam, adam

        make_faces(folder / "faces", n * args.steps)
        paths = sorted((folder / "faces/v").iterdir())

        def our_loop():
            shutil.rmtree(folder / "run", ignore_errors=True)
            done = subprocess.run(
                [
                    sys.executable,
                    ROOT / "02_pretrain_extractor.py",
                    "--faces",
                    folder / "faces",
                    "--out",
                    folder / "run",
                    "--weights",
                    "none",
                    "--epochs",
                    "1",
                    "--batch",
                    str(n),
                    "--device",
                    args.device,
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            return float(re.search(r"([\d.]+) images a second", done.stdout)[1])

        def plain_loop():
            adam = torch.optim.Adam(plain.parameters(), lr=2e-3, weight_decay=4e-5)
            loader = torch.utils.data.DataLoader(
                PlainFaces(paths), n, shuffle=True, drop_last=True, num_workers=2
            )

            def epoch():
                for x, y in loader:
                    loss = F.cross_entropy(plain(x.to(device)), y.to(device))
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
                    loss.item()

            return len(paths) / seconds(epoch)

        loop = in_turn({"ours": our_loop, "plain": plain_loop}, max(2, args.rounds // 2))

        fast, plain = extractor.fold_batch_norm(ours.eval()), plain.eval()
        batch = torch.randint(0, 256, (args.extract_batch, 3, 224, 224), dtype=torch.uint8)
        x = (
            (batch[:32] / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        ).to(device)

        def our_features(precision):
            with torch.inference_mode(), common.autocast(device, precision):
                fast.features(batch.to(device)).cpu()

        def plain_features(x):
            with torch.no_grad():
                F.relu(plain.features(x)).mean((2, 3)).cpu()

        our_features("fp32"), our_features("bf16"), plain_features(x)
        features = in_turn(
            {
                "ours": lambda: len(batch) / seconds(our_features, precision),
                **{
                    f"ours, {p}": lambda p=p: len(batch) / seconds(our_features, p)
                    for p in ("fp32", "bf16")
                    if p != precision
                },
                "plain, batch 32": lambda: 32 / seconds(plain_features, x[:32]),
                "plain, batch 1": lambda: 1 / seconds(plain_features, x[:1]),
                "limit, fp32": limit(1),
                "limit, bf16": limit(1, torch.bfloat16),
            },
            args.rounds,
        )
    finally:
        shutil.rmtree(folder)
    lines = []
    for title, found in (
        (f"02, a step of {n} images (ours: {precision})", step),
        (f"02, the whole loop, {args.steps} steps of {n} images", loop),
        (f"03, {args.extract_batch} images at a time (ours: {precision})", features),
    ):
        lines += [
            f"{title}:",
            "",
            *table(
                ("", "images a second", "ours is so many times as fast"),
                [(name, show(v), ratio(found["ours"], v)) for name, v in found.items()],
            ),
            "",
        ]
    share = [a / b for a, b in zip(loop["ours"], step["ours"])]
    record(
        args,
        lines + [f"Our loop has {show([100 * s for s in share])} % of our step's rate."],
        args.device,
    )


if __name__ == "__main__":
    main()

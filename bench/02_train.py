#!/usr/bin/env python3
"""Training and extraction with the feature extractor (02, 03), beside a plain fp32 loop.

    python bench/02_train.py                            # se_resnext101_32x4d at 224 x 224
    python bench/02_train.py --device cuda --batch 128

Three tables, all in images per second:

    step         of training, on a batch that is in memory. ours: 02's network, memory format,
                 optimizer and precision, and the other precision. plain: fp32, NCHW, torch's Adam
                 as it comes, the value of the loss taken in each step
    loop         the same, fed from face images of 240 x 240 on disk. ours: 02 itself, the rate that
                 it prints, which leaves its start out. plain: a DataLoader of PIL images, resized
                 and normalized in the workers as in torchvision's recipes
    extraction   03's network at --extract-batch, beside the plain network at 1 and at 32 images

limit: the multiply-adds of a step at the rate of a large matrix product, in fp32 and in bf16.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import (
    arguments,
    in_turn,
    peak_rate,
    printed_rate,
    ratio,
    record,
    run_stage,
    seconds,
    show,
    table,
)
from torch.nn import functional as F

from networks.extractor import Extractor, fold_batch_norm
from running.devices import autocast, choose_precision

ARCH = "se_resnext101_32x4d"
MULTIPLY_ADDS = 7.97e9  # of one image of 224 x 224, forward
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def plain_network(device, arch=ARCH):
    """The network as pretrainedmodels has it, with two classes."""
    import pretrainedmodels

    torch.manual_seed(0)
    model = pretrainedmodels.__dict__[arch](num_classes=1000, pretrained=None)
    model.last_linear = torch.nn.Linear(model.last_linear.in_features, 2)
    return model.to(device)


def normalize(images):
    """(N, 3, S, S) uint8 -> what the plain network takes."""
    return (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


class PlainFaces(torch.utils.data.Dataset):
    """PIL images, normalized in the worker."""

    def __init__(self, paths, size=224):
        from torchvision import transforms

        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, k):
        return self.transform(Image.open(self.paths[k]).convert("RGB")), k % 2


def make_image(rng, size=240):
    """A picture, smooth with some noise so that it compresses as faces do."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    pixels = np.clip(smooth + rng.normal(0, 3, (size, size, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def make_faces(folder, count):
    """Write images of 240 x 240 and their index."""
    rng = np.random.default_rng(0)
    (folder / "v").mkdir(parents=True)
    lines = ["path,video,frame,clip,label,method,split"]
    for k in range(count):
        make_image(rng).save(folder / f"v/{k:06d}.png", compress_level=1)
        lines.append(f"v/{k:06d}.png,v{k % 2},{k},,{k % 2},m,train")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")


def add_ours_and_limits(alternatives, ours, count, multiply_adds, device):
    """All alternatives: `ours` in both precisions, those already there, and the limits.

    ours: a function of a precision that treats `count` images; multiply_adds: per image.
    """
    chosen = choose_precision("auto", device)
    other = {"fp32": "bf16", "bf16": "fp32"}[chosen]
    return {
        "ours": lambda: count / seconds(ours, chosen),
        f"ours, {other}": lambda: count / seconds(ours, other),
        **alternatives,
        "limit, fp32": lambda: peak_rate(device) / multiply_adds,
        "limit, bf16": lambda: peak_rate(device, torch.bfloat16) / multiply_adds,
    }


def measure_step(args, device, ours, plain):
    """Rates of a training step."""
    n = args.batch
    images = torch.randint(0, 256, (n, 3, 224, 224), dtype=torch.uint8)
    labels = torch.arange(n, device=device) % 2
    x = normalize(images).to(device)
    our_adam = torch.optim.Adam(ours.parameters(), lr=2e-3, weight_decay=4e-5, fused=True)
    plain_adam = torch.optim.Adam(plain.parameters(), lr=2e-3, weight_decay=4e-5)

    def our_step(precision):
        # In float32 also without TF32 on a GPU.
        choose_precision(precision, device)
        our_adam.zero_grad()
        with autocast(device, precision):
            loss = F.cross_entropy(ours(images.to(device)), labels)
        loss.backward()
        our_adam.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    def plain_step():
        loss = F.cross_entropy(plain(x), labels)
        plain_adam.zero_grad()
        loss.backward()
        plain_adam.step()
        loss.item()

    our_step("fp32")
    our_step("bf16")
    plain_step()
    alternatives = {"plain": lambda: n / seconds(plain_step)}
    # Three products: forward, the gradient of the input and that of the weights.
    alternatives = add_ours_and_limits(alternatives, our_step, n, 3 * MULTIPLY_ADDS, device)
    return in_turn(alternatives, args.rounds)


def measure_loop(args, device, plain, folder):
    """Rates of training from images on disk."""
    make_faces(folder / "faces", args.batch * args.steps)
    paths = sorted((folder / "faces/v").iterdir())
    flags = ("--faces", folder / "faces", "--out", folder / "run", "--weights", "none")
    flags += ("--epochs", 1, "--batch", args.batch, "--device", args.device)

    def our_loop():
        shutil.rmtree(folder / "run", ignore_errors=True)
        return printed_rate(run_stage("02_pretrain_extractor.py", *flags))

    def plain_loop():
        choose_precision("fp32", device)
        return plain_rate(plain, PlainFaces(paths), args.batch, device)

    return in_turn({"ours": our_loop, "plain": plain_loop}, max(2, args.rounds // 2))


def plain_rate(plain, faces, batch, device, workers=2):
    """Images per second of an epoch of a plain loop."""
    adam = torch.optim.Adam(plain.parameters(), lr=2e-3, weight_decay=4e-5)
    loader = torch.utils.data.DataLoader(
        faces, batch, shuffle=True, drop_last=True, num_workers=workers
    )

    def epoch():
        for x, y in loader:
            loss = F.cross_entropy(plain(x.to(device)), y.to(device))
            adam.zero_grad()
            loss.backward()
            adam.step()
            loss.item()

    return len(faces) / seconds(epoch)


def measure_extraction(args, device, ours, plain):
    """Rates of feature extraction."""
    ours = fold_batch_norm(ours.eval())
    plain = plain.eval()
    batch = torch.randint(0, 256, (args.extract_batch, 3, 224, 224), dtype=torch.uint8)
    x = normalize(batch[:32]).to(device)

    def our_features(precision):
        choose_precision(precision, device)
        with torch.inference_mode(), autocast(device, precision):
            ours.features(batch.to(device)).cpu()

    def plain_features(x):
        with torch.no_grad():
            F.relu(plain.features(x)).mean((2, 3)).cpu()

    our_features("fp32")
    our_features("bf16")
    plain_features(x)
    alternatives = {
        "plain, batch 32": lambda: len(x) / seconds(plain_features, x),
        "plain, batch 1": lambda: 1 / seconds(plain_features, x[:1]),
    }
    alternatives = add_ours_and_limits(
        alternatives, our_features, len(batch), MULTIPLY_ADDS, device
    )
    return in_turn(alternatives, args.rounds)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    parser.add_argument("--batch", type=int, default=16, help="images per step (default 16)")
    parser.add_argument("--extract-batch", type=int, default=32, help="of ours in 03 (default 32)")
    parser.add_argument("--steps", type=int, default=40, help="steps of the loop (default 40)")
    names = ("step", "loop", "extraction")
    parser.add_argument("--only", choices=names, help="measure one of the three")
    args = parser.parse_args()
    device = torch.device(args.device)
    precision = choose_precision("auto", device)
    torch.manual_seed(0)
    ours = Extractor(ARCH).to(device)
    plain = plain_network(device)
    n = args.batch
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        parts = {
            "step": lambda: measure_step(args, device, ours, plain),
            "loop": lambda: measure_loop(args, device, plain, folder),
            "extraction": lambda: measure_extraction(args, device, ours, plain),
        }
        found = {part: parts[part]() for part in parts if args.only in (None, part)}
    titles = {
        "step": f"02, a step of {n} images (ours: {precision})",
        "loop": f"02, the whole loop, {args.steps} steps of {n} images",
        "extraction": f"03, {args.extract_batch} images at a time (ours: {precision})",
    }
    lines = []
    for part, rates in found.items():
        header, rows = ("", "images per second"), [(name, show(v)) for name, v in rates.items()]
        if "ours" in rates:
            header += ("ours is faster by a factor of",)
            rows = [(*row, ratio(rates["ours"], v)) for row, v in zip(rows, rates.values())]
        lines += [f"{titles[part]}:", "", *table(header, rows), ""]
    if "loop" in found and "step" in found:
        share = [100 * a / b for a, b in zip(found["loop"]["ours"], found["step"]["ours"])]
        lines.append(f"Our loop reaches {show(share)} % of our step's rate.")
    record(args, lines, args.device)


if __name__ == "__main__":
    main()

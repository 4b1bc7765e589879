#!/usr/bin/env python3
"""End-to-end DANN: the backbone of 02 and BP-DANN in one network, trained from face images.

    python recipes/train_dann.py --source faces/FF-DF --target faces/FF-FS --target-split val \\
        --test faces/FF-FS faces/DFD --out runs/DANN-20epochs --scores scores/DANN-20epochs

It is what FeatureTransfer is compared with in section 4.6 and Figure 3; `figure3.sh` runs it. OUT
gets model.pt (the last epoch), last.pt, log.csv and args.json, and SCORES a file for each set of
--test. 07 does not take its checkpoints.

Deviations and choices (paper -> this script):

    heads, optimizer  not given -> Gf, Gy and Gd of 04 behind the backbone; Adam with 1e-4. It does
                      not see the 5.7 million faces that the extractor learned from, so Figure 3
                      compares the data of its two arms as well
    batch             not given -> 128 of each domain, batch norm over both together
    initial weights   not given -> ImageNet's
    augmentation      not given -> horizontal flip with probability 0.5, as in 02
    the others        see 04_train_bpdann.py
"""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import (
    Parser,
    add_system_flags,
    fail,
    margin,
    progress,
    read_index,
    rows_of_split,
    write_scores,
)
from networks.extractor import Extractor
from networks.weights import load_weights
from reporting.metrics import auc, percent
from running.devices import autocast, choose_device, choose_precision, describe_device
from running.folder import describe_data, flags_of, folder_names, start_run
from running.loading import Faces, load_batches, predict
from running.processes import run_script
from running.run import Run, draw_joint, is_complete, seed_of

bpdann = import_module("04_train_bpdann")

# Flags that may change when a run is resumed.
RUNTIME_FLAGS = ("out", "workers", "device", "scores", "test", "test_split")


class DANN(bpdann.BPDANN):
    """The backbone of stage 02, then Gf, Gy and Gd.

    Its input is uint8 RGB (N, 3, image_size, image_size). Raises ValueError for an unknown network
    or a size that it cannot take.
    """

    def __init__(self, arch, image_size=None, **heads):
        extractor = Extractor(arch, image_size)
        super().__init__(extractor.dimensions, **heads)
        del extractor.head
        self.extractor, self.image_size = extractor, extractor.image_size

    def embed(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, n2) Gf's embedding."""
        return self.extract(self.extractor.features(images))

    def forward(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, 2) label logits: real, fake."""
        return self.classify(self.embed(images))


def parse_args():
    parser = Parser(__doc__)
    splits = ("train", "val", "test", "all")
    add = parser.add_argument_group("data").add_argument
    text = "labeled faces, a folder of stage 01; its train split is used"
    add("--source", type=Path, required=True, metavar="DIR", help=text)
    text = "unlabeled faces to adapt to"
    add("--target", type=Path, required=True, metavar="DIR", help=text)
    add("--target-split", choices=splits, default="test", help="of the target (default test)")
    text = "folders of stage 01 to score"
    add("--test", type=Path, nargs="+", required=True, metavar="DIR", help=text)
    add("--test-split", choices=splits, default="test", help="of --test (default test)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    add("--scores", type=Path, required=True, metavar="DIR", help="folder for the scores")
    add = parser.add_argument_group("model").add_argument
    text = "any network of pretrainedmodels (default se_resnext101_32x4d)"
    add("--arch", default="se_resnext101_32x4d", metavar="NAME", help=text)
    text = "initial weights (default imagenet)"
    add("--weights", default="imagenet", metavar="imagenet|none|FILE", help=text)
    text = "side of the input (default: the network's own)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    add = parser.add_argument_group("training").add_argument
    text = "passes over the source (default 20)"
    add("--epochs", type=int, default=20, metavar="N", help=text)
    text = "images per step from each domain (default 128; half of what fits in 02)"
    add("--batch", type=int, default=128, metavar="N", help=text)
    text = "Adam's learning rate (default 1e-4)"
    add("--lr", type=float, default=1e-4, metavar="RATE", help=text)
    text = "processes that load images"
    add_system_flags(parser, workers=text, seed=True, device=True, precision="auto")
    args = parser.parse_args()
    if min(args.epochs, args.batch, args.image_size or 1) < 1:
        fail("--epochs, --batch and --image-size must be 1 or more")
    if not args.lr > 0:
        fail("--lr must be above 0")
    return args


def train(args, kwargs, paths, labels, target_paths, device, content):
    """Train a DANN in args.out, or resume it, and return it.

    Args:
        kwargs: arguments of DANN.
        paths, labels: the source's images and their labels, int64 on the device.
        target_paths: the target's images; their labels are not passed.
        content: what else the checkpoints store.
    """
    torch.manual_seed(args.seed)
    try:
        model = DANN(**kwargs)
    except ValueError as error:
        fail(error)
    if not (args.out / "last.pt").exists():
        load_weights(model.extractor, args.arch, args.weights)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    names = (bpdann.LOSSES, ("lambda", *bpdann.LOSSES))
    run = Run(args.out, "DANN", args, model, optimizer, len(paths), content, "last", *names)
    size, steps = run.size, run.per_epoch
    last_step = max(1, args.epochs * steps - 1)
    faces = Faces(paths + target_paths, model.image_size)
    # Source 0, target 1.
    domains = torch.arange(2, device=device).repeat_interleave(size)
    for epoch in progress(run.epochs(), total=args.epochs, initial=run.epoch, unit="epoch"):
        orders = bpdann.draw_orders((len(paths), len(target_paths)), args.seed, epoch, steps, size)
        rows = np.hstack([orders[0], len(paths) + orders[1]]).tolist()
        # Sent once an epoch, because sending makes the CPU wait for a GPU.
        y = labels[torch.from_numpy(orders[0]).to(device)]
        # Dropout's seed ends in 1.
        draws = [draw_joint(2 * size, 1, args.seed, epoch, 2 + k) for k in range(steps)]
        is_flipped = (torch.stack(draws)[..., None, None] < 0.5).to(device)
        torch.manual_seed(seed_of(args.seed, epoch, 1))
        model.train()
        loader = load_batches(faces, rows, args.workers, pin=device.type == "cuda")
        for k, images in enumerate(loader):
            weight = bpdann.lambda_at((epoch * steps + k) / last_step)
            images = images.to(device, non_blocking=True)
            images = torch.where(is_flipped[k], images.flip(3), images)
            with autocast(device, args.precision):
                embedding = model.embed(images)
                label_logits = model.classify(embedding[:size])
                reversed_ = bpdann.GradientReversal.apply(embedding, weight)
                domain_logits = model.discriminate(reversed_)
            label_loss = F.cross_entropy(label_logits.float(), y[k])
            domain_loss = F.cross_entropy(domain_logits.float(), domains)
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            accuracy = (domain_logits.argmax(1) == domains).float().mean()
            run.record(label_loss, domain_loss, accuracy)
        run.check_losses()
        run.end_epoch(**{"lambda": weight})
    run.finish()
    return model.eval()


def main():
    args = parse_args()
    tests = folder_names(args.test)
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    source, target = read_index(args.source), read_index(args.target, one_label=False)
    rows = rows_of_split(source, "train", args.source)
    target_rows = rows_of_split(target, args.target_split, args.target)
    labels = torch.from_numpy(source["label"][rows]).to(device)
    if labels.min() == labels.max():
        fail(f"the train split of {args.source} has only one class: real and fake are needed")
    scored = {}
    for name, folder in tests.items():
        index = read_index(folder, one_label=False)
        scored[name] = folder, index, rows_of_split(index, args.test_split, folder)
    inputs = [folder / "index.csv" for folder in (args.source, args.target)]
    start_run(args.out, args, inputs, RUNTIME_FLAGS, is_complete(args.out, args))
    kwargs = dict(arch=args.arch, image_size=args.image_size)
    roles = {args.source: "labeled source", args.target: "unlabeled target"}
    content = dict(
        kwargs=kwargs,
        args=flags_of(args, RUNTIME_FLAGS),
        data=[describe_data(folder, role) for folder, role in roles.items()],
    )
    print(
        f"DANN: {len(rows)} source images, {len(target_rows)} target images, {args.epochs} epochs; "
        f"{describe_device(device, args.precision)}, {args.workers} loading processes",
        flush=True,
    )
    paths = [str(args.source / source["path"][row]) for row in rows]
    target_paths = [str(args.target / target["path"][row]) for row in target_rows]
    model = train(args, kwargs, paths, labels, target_paths, device, content)
    for name, (folder, index, rows) in scored.items():
        faces = Faces([index["path"][row] for row in rows], model.image_size, folder)
        logits = margin(predict(model, faces, args.batch, args.workers, device, "scoring"))
        file = args.scores / f"{name}.csv"
        write_scores(file, index, rows, logits)
        value = percent(auc(index["label"][rows], logits))
        print(f"{file}: {len(logits)} images, AUC {value}", flush=True)


if __name__ == "__main__":
    run_script(main)

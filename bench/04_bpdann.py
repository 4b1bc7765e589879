#!/usr/bin/env python3
"""Images per second of BP-DANN's training at the paper's size, beside a DataLoader.

    python bench/04_bpdann.py                     # 2 epochs per round; 50 are computed from them
    python bench/04_bpdann.py --epochs 50 --rounds 1

43,200 source and 8,400 target features of 2048 dimensions, a batch of 128 of each; images of both
domains are counted.

    ours         04 itself on features on disk, the rate that it prints: its training with its
                 checkpoint in every epoch, in the precision that it chooses here, and in the other
    DataLoader   the same network and losses, fed by a TensorDataset and a DataLoader with 2 workers
                 for each domain; torch's Adam as it comes, the losses' values taken in each step
    limit        reading the features once per epoch at the rate of a copy in memory, and the
                 multiply-adds of the network at the rate of a large matrix product in fp32; both
                 measured in the same round
"""

import shutil
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
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
from torch.utils.data import DataLoader, TensorDataset

from running.devices import choose_precision

SOURCE, TARGET, DIMENSIONS, BATCH = 43_200, 8_400, 2048, 128
STEPS = SOURCE // BATCH  # per epoch


def write_features(folder, features, split):
    """Write features as stage 03 does; every other one is fake."""
    folder.mkdir()
    np.save(folder / "features.npy", features.numpy())
    lines = ["path,video,frame,clip,label,method,split"]
    lines += [f"v{k}/0.png,v{k},0,,{k % 2},m,{split}" for k in range(len(features))]
    (folder / "index.csv").write_text("\n".join(lines) + "\n")


def losses(stage, model, source_x, source_y, target_x, weight):
    """Both losses of equation 1, the two domains passed one after the other."""
    source = model.extract(source_x)
    target = model.extract(target_x)
    label_loss = F.cross_entropy(model.classify(source), source_y)
    source_domain = model.discriminate(stage.GradientReversal.apply(source, weight))
    target_domain = model.discriminate(stage.GradientReversal.apply(target, weight))
    zeros, ones = torch.zeros_like(source_y), torch.ones_like(source_y)
    domain_loss = F.cross_entropy(source_domain, zeros) + F.cross_entropy(target_domain, ones)
    return label_loss, domain_loss


def train_with_dataloaders(stage, source_x, source_y, target_x, epochs, device):
    """A plain loop, as tutorials have it."""
    model = stage.BPDANN(DIMENSIONS).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    options = dict(shuffle=True, drop_last=True, num_workers=2, pin_memory=device.type == "cuda")
    source = DataLoader(TensorDataset(source_x, source_y), BATCH, **options)
    target = DataLoader(TensorDataset(target_x), BATCH, **options)
    step = 0
    for _ in range(epochs):
        targets = endless(target)
        for x, y in source:
            (t,) = next(targets)
            weight = stage.lambda_at(step / (epochs * STEPS - 1))
            label_loss, domain_loss = losses(
                stage, model, x.to(device), y.to(device), t.to(device), weight
            )
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            label_loss.item()
            domain_loss.item()
            step += 1


def endless(loader):
    """The batches of a loader, over and over, each time in a new order."""
    while True:
        yield from loader


def limit(source_x, target_x, epochs, device):
    """Images per second if nothing but memory and arithmetic took time."""
    copied = torch.empty_like(source_x)
    copying = min(seconds(copied.copy_, source_x) for _ in range(3))
    bandwidth = 2 * source_x.nbytes / copying  # bytes per second, read and written
    reading = epochs * (source_x.nbytes + target_x.nbytes) / bandwidth
    # The first layer needs no gradient of its input, the features.
    multiply_adds = 2 * DIMENSIONS * 512 + 3 * (512 * 64 + 64 * 64)
    images = epochs * STEPS * 2 * BATCH
    return images / (reading + images * multiply_adds / peak_rate(device))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=2, help="epochs per round (default 2)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    args = parser.parse_args()
    stage = import_module("04_train_bpdann")
    device = torch.device(args.device)
    chosen = choose_precision("auto", device)
    other = {"fp32": "bf16", "bf16": "fp32"}[chosen]
    generator = torch.Generator().manual_seed(0)
    source_x = torch.rand(SOURCE, DIMENSIONS, generator=generator)
    target_x = torch.rand(TARGET, DIMENSIONS, generator=generator)
    source_y = torch.arange(SOURCE) % 2
    images = 2 * BATCH * args.epochs * STEPS
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_features(folder / "source", source_x, "train")
        write_features(folder / "target", target_x, "test")

        def ours(precision):
            shutil.rmtree(folder / "run", ignore_errors=True)
            flags = ("--source", folder / "source", "--target", folder / "target")
            flags += ("--epochs", args.epochs, "--batch", BATCH, "--precision", precision)
            flags += ("--device", args.device)
            outputs = ("--out", folder / "run", "--scores", folder / "scores")
            return printed_rate(run_stage("04_train_bpdann.py", *flags, *outputs))

        def dataloader():
            train_with_dataloaders(stage, source_x, source_y, target_x, args.epochs, device)

        alternatives = {
            "ours": lambda: ours(chosen),
            f"ours, {other}": lambda: ours(other),
            "DataLoader": lambda: images / seconds(dataloader),
            "limit": lambda: limit(source_x, target_x, args.epochs, args.device),
        }
        found = in_turn(alternatives, args.rounds)
    rows = []
    for name, rates in found.items():
        fifty = 50 * STEPS * 2 * BATCH / sorted(rates)[len(rates) // 2]
        rows.append((name, show(rates), f"{fifty:.0f}", ratio(found["ours"], rates)))
    header = ("images per second", "seconds for 50 epochs", "ours is faster by a factor of")
    record(args, table((f"ours: {chosen}", *header), rows), args.device)


if __name__ == "__main__":
    main()

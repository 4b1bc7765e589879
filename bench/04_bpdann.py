#!/usr/bin/env python3
"""Images a second of BP-DANN's training (source and target together) beside a DataLoader, at the paper's size.

    python bench/04_bpdann.py                                   # 2 epochs a round; the figure for 50 is computed from them
    python bench/04_bpdann.py --epochs 50 --rounds 1

43,200 source and 8,400 target features of 2048, batch 128 of each.

    ours            the script's `adapt`, its setting up and its checkpoint an epoch included, in the precision that it chooses here and in the other
    DataLoader      the same network and losses fed by a TensorDataset and a DataLoader with 2 workers for each domain, torch's Adam as it
                    comes, the losses' values taken each step for a progress bar
    products        the network's steps alone on one batch that is there, in fp32: forward, backward, Adam
    limit           reading the features once an epoch at the rate of a copy in memory, and the multiply-adds of the products at the rate of a
                    large matrix product in fp32; both measured in the same round
"""

import argparse
import contextlib
import io
import shutil
import tempfile
from importlib import import_module
from pathlib import Path

import torch
from side_by_side import arguments, in_turn, peak_rate, ratio, record, seconds, show, table
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

SOURCE, TARGET, WIDTH, BATCH = 43_200, 8_400, 2048, 128


def dataloader(stage, xs, ys, xt, epochs, device):
    """A plain loop, as tutorials have it."""
    model = stage.BPDANN(WIDTH).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    source = DataLoader(
        TensorDataset(xs, ys),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
    )
    target = DataLoader(
        TensorDataset(xt),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
    )
    step, total = 0, epochs * len(source)
    for _ in range(epochs):
        others = iter(target)
        for x, y in source:
            try:
                (t,) = next(others)
            except StopIteration:
                others = iter(target)
                (t,) = next(others)
            x, y, t = x.to(device), y.to(device), t.to(device)
            f_source, f_target = model.embed(x), model.embed(t)
            weight = stage.lambda_at(step / (total - 1))
            label_loss = F.cross_entropy(model.y(f_source), y)
            domain_loss = F.cross_entropy(
                model.d(stage.GradientReversal.apply(f_source, weight)), torch.zeros_like(y)
            ) + F.cross_entropy(
                model.d(stage.GradientReversal.apply(f_target, weight)), torch.ones_like(y)
            )
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            label_loss.item(), domain_loss.item()
            step += 1


def products(stage, xs, ys, steps, device):
    """The steps' arithmetic alone."""
    model = stage.BPDANN(WIDTH).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    x, y, domain = (
        xs[: 2 * BATCH].to(device),
        ys[:BATCH].to(device),
        torch.arange(2, device=device).repeat_interleave(BATCH),
    )
    for _ in range(steps):
        f = model.embed(x)
        loss = F.cross_entropy(model.y(f[:BATCH]), y) + F.cross_entropy(
            model.d(stage.GradientReversal.apply(f, 0.5)), domain
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()


def main():
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=2, help="a round (default 2)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    stage, device = import_module("04_train_bpdann"), torch.device(args.device)
    generator = torch.Generator().manual_seed(0)
    xs, xt = (torch.rand(n, WIDTH, generator=generator) for n in (SOURCE, TARGET))
    ys, steps = torch.arange(SOURCE) % 2, args.epochs * (SOURCE // BATCH)
    images = 2 * BATCH * steps
    common = import_module("common")
    chosen = common.choose_precision("auto", device)
    folder = Path(tempfile.mkdtemp())

    def ours(precision):
        x, y, t = (
            v.to(device, torch.bfloat16 if precision == "bf16" and v.is_floating_point() else None)
            for v in (xs, ys, xt)
        )
        shutil.rmtree(folder / "run", ignore_errors=True)
        (folder / "run").mkdir()
        settings = argparse.Namespace(
            seed=0,
            end_to_end=False,
            lr=1e-4,
            epochs=args.epochs,
            batch=BATCH,
            method="bp-dann",
            precision=precision,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            stage.adapt(
                folder / "run", settings, dict(dimensions=WIDTH), x, y, x[:0], [], t, device, ""
            )

    def limit():
        copied = torch.empty_like(xs)
        bandwidth = 2 * xs.nbytes / min(seconds(copied.copy_, xs) for _ in range(3))
        multiply_adds = (
            steps * 2 * BATCH * (2 * WIDTH * 512 + 3 * (512 * 64 + 64 * 64))
        )  # no gradient of the features
        return images / (
            args.epochs * (xs.nbytes + xt.nbytes) / bandwidth
            + multiply_adds / peak_rate(args.device)
        )

    try:
        found = in_turn(
            {
                "ours": lambda: images / seconds(ours, chosen),
                **{
                    f"ours, {p}": lambda p=p: images / seconds(ours, p)
                    for p in ("fp32", "bf16")
                    if p != chosen
                },
                "DataLoader": lambda: (
                    images / seconds(dataloader, stage, xs, ys, xt, args.epochs, device)
                ),
                "products": lambda: images / seconds(products, stage, xs, ys, steps, device),
                "limit": limit,
            },
            args.rounds,
        )
    finally:
        shutil.rmtree(folder)
    fifty = 2 * BATCH * 50 * (SOURCE // BATCH)
    rows = [
        (name, show(v), f"{fifty / sorted(v)[len(v) // 2]:.0f}", ratio(found["ours"], v))
        for name, v in found.items()
    ]
    record(
        args,
        table(
            (
                f"ours: {chosen}",
                "images a second",
                "seconds for 50 epochs",
                "ours is so many times as fast",
            ),
            rows,
        ),
        args.device,
    )


if __name__ == "__main__":
    main()

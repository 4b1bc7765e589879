#!/usr/bin/env python3
"""Stage 04: BP-DANN, adapt a classifier of source features to an unlabelled target set (FeatureTransfer 3.4, 3.5, 4.2).

    python 04_train_bpdann.py --source features/FF-DF --target features/DFD features/Celeb-DF --target-split all \\
        --target-fraction 0.1 --target-balance --out runs/FT --scores scores/FT
    python 04_train_bpdann.py --method source-only --source features/FF-DF --target features/DFD --out runs/only --scores scores/only
    python 04_train_bpdann.py --grid --source features/FF-DF --target features/DFD --out runs/grid --scores scores/FT-grid
    python 04_train_bpdann.py --end-to-end --source faces/FF-DF --target faces/FF-FS --target-split val --epochs 20 \\
        --test faces/FF-FS faces/DFD --out runs/DANN --scores scores/DANN-20epochs

What comes out, for each target NAME: OUT/NAME/model.pt (the last epoch: nothing is chosen on target data), last.pt, log.csv,
args.json; and SCORES/NAME.csv, P(fake) of the target's images, or of each folder of --test. With --grid, OUT/NAME/grid.csv holds all
combinations, a folder beside it each run, and model.pt is that with the highest AUC on the source's validation split.

Target labels are never used: not in a loss, not in the choice of epoch or setting. --target-balance, the paper's protocol, looks at
them to draw images, and for nothing else. `--method source-only` is the same network and the same batches with lambda = 0.

Paper settings are the defaults. Deviations and choices (paper -> ours):

    activations         "BP structure" -> ReLU after each hidden layer of Gf and Gd
    lambda in equation 1  on the domain loss -> in the gradient reversal layer, so on Gf's part of the gradient alone;
                        Gd always learns at full rate (what "gradient reversal layer" of Figure 1 means)
    p of equation 4     "linearly from 0 to 1" -> step / (steps - 1): exactly 0 at the first step, 1 at the last
    an epoch            not said -> once through the source; the target is shuffled and repeated beside it
    10 % of a target    as many real as fake (4.2) -> drawn blindly, since an unlabelled set has no labels to look at, unless
                        --target-balance is given
    target images       "all images" -> the test split, where the target has splits (--target-split all for all)
    grid of N1, N2, p   values not given -> 256 512 1024, 32 64 128, 0.3 0.5 0.7; chosen by AUC, then loss, on the source's val split
    precision           not said -> --precision: bfloat16 products where the CPU has them, float32 elsewhere; scores in float32
    end-to-end DANN     heads not given (4.6) -> the same Gf, Gy and Gd behind the backbone; Adam 1e-4 and batch 128 as in BP-DANN, ImageNet
                        weights and horizontal flips as in stage 02
"""

import argparse
import copy
import math
import os
import shutil
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import (
    Parser,
    add_system_arguments,
    autocast,
    choose_device,
    choose_precision,
    fail,
    folder_names,
    margin,
    percent,
    progress,
    read_index,
    rows_of_split,
    write_scores,
    write_table,
    write_whole,
)
from networks.extractor import Extractor, load_weights
from reporting.metrics import auc, validate
from running.folder import describe_data, start_run
from running.script import run_script
from training.checkpoints import load_checkpoint, save_checkpoint
from training.features import extractor_of, free_memory, load, read_features
from training.loading import Faces, epoch_batches, load_batches
from training.run import random_state, resume

GRID = dict(n1=[256, 512, 1024], n2=[32, 64, 128], dropout=[0.3, 0.5, 0.7])
PAPER = dict(n1=[512], n2=[64], dropout=[0.5])
COLUMNS = (
    "epoch",
    "step",
    "lambda",
    "label_loss",
    "domain_loss",
    "domain_accuracy",
    "source_val_auc",
    "source_val_loss",
)


def lambda_at(p):
    """Equation 4 with c = 10: 0 at p = 0, 0.9999 at p = 1; p is the training progress, 0..1."""
    return 2 / (1 + math.exp(-10 * p)) - 1


class GradientReversal(torch.autograd.Function):
    """The identity forward; backward, the gradient times -lambda, a tensor of one number or a float (FeatureTransfer, Figure 1)."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.weight * gradient, None


class BPDANN(nn.Module):
    """Gf, Gy and Gd of section 3.5: features (N, dimensions) -> label logits (N, 2) and domain logits (N, 2)."""

    def __init__(self, dimensions=2048, n1=512, n2=64, dropout=0.5):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(dimensions, n1), nn.ReLU(), nn.Linear(n1, n2), nn.ReLU())
        self.y = nn.Sequential(nn.Dropout(dropout), nn.Linear(n2, 2))
        self.d = nn.Sequential(nn.Linear(n2, n2), nn.ReLU(), nn.Linear(n2, 2))

    def embed(self, x):
        """(N, dimensions) -> (N, n2): what label classifier and domain discriminator see."""
        return self.f(x)

    def forward(self, x):
        """(N, dimensions) -> (N, 2) label logits: real, fake."""
        return self.y(self.embed(x))


class DANN(BPDANN):
    """The end-to-end network of section 4.6: an `Extractor` of stage 02 without its head, then Gf, Gy and Gd.

    Input is uint8 RGB (N, 3, image_size, image_size). Raises ValueError for an unknown network or a size that it cannot take.
    """

    def __init__(self, arch, image_size=None, n1=512, n2=64, dropout=0.5):
        extractor = Extractor(arch, image_size)
        super().__init__(extractor.dimensions, n1, n2, dropout)
        del extractor.head
        self.extractor, self.image_size = extractor, extractor.image_size

    def embed(self, x):
        return self.f(self.extractor.features(x))


def inputs_of(folder, data, rows, device, stream=False, precision="fp32"):
    """The inputs of the rows of a set, `data` as `read_features` gave it: features on the device or on disk; without features, a list of image paths."""
    features, index = data
    return (
        [os.path.join(folder, index["path"][r]) for r in rows]
        if features is None
        else load(folder, rows, features, device, stream, precision)
    )


def draw_target(labels, count, balance, rng):
    """Which target images to adapt with: positions, rising. Blind to `labels`, or with `balance` half real, half fake (4.2).

    With `balance`, a class that has fewer than half of `count` bounds both. Raises ValueError where a class is missing.
    """
    order = rng.permutation(len(labels))
    if not balance:
        return np.sort(order[:count])
    classes = [order[labels[order] == label] for label in (0, 1)]
    half = min(count // 2, *map(len, classes))
    if not half:
        raise ValueError("as many real as fake images cannot be drawn from it")
    return np.sort(np.concatenate([members[:half] for members in classes]))


@torch.inference_mode()
def score(model, x, args, device):
    """The label logits of each row of features, or of each image: (N, 2) float32 on the CPU."""
    model.eval()
    if args.end_to_end:
        faces, n = Faces(x, model.image_size), len(x)
        batches = [list(range(k, min(k + args.batch, n))) for k in range(0, n, args.batch)]
        parts = (
            images.to(device)
            for images in progress(
                load_batches(faces, batches, args.workers), total=len(batches), desc="scoring"
            )
        )
    else:
        parts = x.split(4096)
    return torch.cat([model(part).float() for part in parts]).cpu()


def train_batches(xs, xt, batches, partners, model, args, device, step):
    """Yield the inputs of each step of an epoch, source first: (2B, D) features, or (2B, 3, S, S) uint8 images, flipped at random."""
    if not args.end_to_end:
        for rows, partner in zip(batches, partners):
            yield torch.cat([xs[rows], xt[partner]])
        return
    faces = Faces(xs + xt, model.image_size)
    lists = torch.cat([batches, partners + len(xs)], 1).tolist()
    for k, images in enumerate(load_batches(faces, lists, args.workers, pin=device.type == "cuda")):
        # Flips depend on seed and step alone, so that a resumed run draws the same.
        flip = (
            torch.rand(
                len(images),
                generator=torch.Generator().manual_seed(args.seed * 1_000_003 + step + k),
            )
            < 0.5
        )
        yield torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images).to(
            device, non_blocking=True
        )


def adapt(out, args, kwargs, xs, ys, xv, yv, xt, device, about, val_videos=(), origin={}):
    """Train a network in OUT, or go on with it, and write model.pt, last.pt and log.csv.

    kwargs: arguments of BPDANN or DANN; xs, xv, xt: source training, source validation and target inputs; ys: labels of xs on the
    device, yv: of xv, an array, val_videos: their videos' names; origin: what the checkpoint is to say of its data. Returns (the network, the last row of its log as a dict).
    """
    torch.manual_seed(args.seed)
    try:
        model = (DANN if args.end_to_end else BPDANN)(**kwargs)
    except ValueError as error:
        fail(error)
    last = out / "last.pt"
    if args.end_to_end and not last.exists():
        load_weights(model.extractor, args.arch, args.weights)
    model.to(device)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=args.lr, fused=True
    )  # won on a CPU (bench/04_bpdann.py)
    state = resume(model, optimizer, dict(epoch=0, step=0, validation=None, log=[]), last, "04")
    content = load_checkpoint(last, "04") if last.exists() else None
    steps, first = len(epoch_batches(len(xs), args.batch, args.seed, 0)), state["epoch"]
    if first < args.epochs:
        print(
            f"{out.name}: {sum(p.numel() for p in model.parameters())} parameters, {args.epochs} epochs of {steps} steps, "
            f"{min(args.batch, len(xs))} images of each domain a step; {about}"
            + (f"; going on after epoch {first}" if first else ""),
            flush=True,
        )
    run = {
        k: str(v)
        for k, v in vars(args).items()
        if k not in ("out", "scores", "device", "workers", "test", "test_split", "go_on")
    }
    start, total = time.perf_counter(), args.epochs * steps
    # Of the training as it is configured now, which --go-on may have changed. On the device from the start, so that no step waits for a number.
    lambdas = [
        lambda_at(k / max(1, total - 1)) if args.method == "bp-dann" else 0.0 for k in range(total)
    ]
    weights = torch.tensor(lambdas, device=device)
    for epoch in progress(
        range(first, args.epochs), total=args.epochs, initial=first, desc=out.name, unit="epoch"
    ):
        model.train()
        # The order of both domains depends on seed and epoch alone, so that a resumed run sees the same batches.
        where = device if isinstance(xs, torch.Tensor) else "cpu"
        batches = torch.tensor(epoch_batches(len(xs), args.batch, args.seed, epoch), device=where)
        again = -(-batches.numel() // len(xt))
        order = torch.cat(
            [
                torch.from_numpy(np.random.default_rng((args.seed, epoch, k)).permutation(len(xt)))
                for k in range(again)
            ]
        )
        partners = order[: batches.numel()].view_as(batches).to(where)
        n, each = (
            batches.shape[1],
            torch.zeros(steps, 3, device=device),
        )  # label loss, domain loss, domain accuracy of each step
        domain = torch.arange(2, device=device).repeat_interleave(n)  # d = 0 source, 1 target (3.2)
        labels = ys[batches.to(device)]
        for k, (y, x) in enumerate(
            zip(
                labels, train_batches(xs, xt, batches, partners, model, args, device, state["step"])
            )
        ):
            with autocast(device, args.precision):
                f = model.embed(x)
                classes, logits = (
                    model.y(f[:n]),
                    model.d(GradientReversal.apply(f, weights[epoch * steps + k])),
                )
            label_loss = F.cross_entropy(classes.float(), y)  # equation 1, first sum
            domain_loss = F.cross_entropy(logits.float(), domain)  # equation 1, second sum
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            state["step"] += 1
            each[k] = torch.stack(
                [
                    label_loss.detach(),
                    domain_loss.detach(),
                    (logits.argmax(1) == domain).float().mean(),
                ]
            )
        values, finite = each.mean(0).tolist(), each.isfinite().all(1)
        if not finite.all():
            k = int(finite.int().argmin())
            fail(
                f"a loss is not finite at step {epoch * steps + k + 1} (epoch {epoch + 1}, batch {k + 1} of {steps}; label {each[k, 0]:g}, domain {each[k, 1]:g}): "
                f"lower --lr; {f'{last} is the last good state' if last.exists() else 'no state was saved yet'}"
            )
        checked = (float("nan"), float("nan"))
        if len(xv):
            logits = score(model, xv, args, device)
            checked = (
                auc(yv, margin(logits).numpy()),
                F.cross_entropy(logits, torch.from_numpy(yv)).item(),
            )
            state["validation"] = validate(val_videos, yv, margin(logits).numpy())
        state["log"].append(
            [
                epoch + 1,
                state["step"],
                *(round(v, 6) for v in (lambdas[(epoch + 1) * steps - 1], *values, *checked)),
            ]
        )
        state["epoch"] = epoch + 1
        content = dict(
            stage="04",
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            random=random_state(),
            kwargs=kwargs,
            end_to_end=args.end_to_end,
            args=run,
            **origin,
            **state,
        )
        save_checkpoint(last, **content)
    if first < args.epochs:
        seconds = time.perf_counter() - start
        print(
            f"{(args.epochs - first) * steps} steps in {seconds:.1f} s, "
            f"{2 * batches.numel() * (args.epochs - first) / seconds:.0f} images a second",
            flush=True,
        )
    save_checkpoint(out / "model.pt", **content)
    write_table(out / "log.csv", COLUMNS, state["log"])
    return model, dict(zip(COLUMNS, state["log"][-1]))


def main():
    parser = Parser(
        __doc__,
        usage="%(prog)s --source DIR --target DIR [DIR ...] --out DIR --scores DIR [options]",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--source",
        type=Path,
        required=True,
        metavar="DIR",
        help="labelled features, a folder of stage 03; its train split is used",
    )
    data.add_argument(
        "--target",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="features to adapt to, without their labels; several: to each in turn",
    )
    data.add_argument(
        "--target-split",
        choices=("train", "val", "test", "all"),
        default="test",
        help="the target's images; test takes all images of a set without splits (default test)",
    )
    data.add_argument(
        "--target-fraction",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the target images to adapt with, drawn by --seed; 0.1 in the paper for DFD, DFDC-P and Celeb-DF (default 1)",
    )
    data.add_argument(
        "--target-balance",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="draw as many real as fake target images: the paper's protocol, which LOOKS AT TARGET LABELS, for the draw only; "
        "--no-target-balance draws blindly (default)",
    )
    data.add_argument(
        "--test",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders to score (default: the targets' images of --target-split)",
    )
    data.add_argument(
        "--test-split",
        choices=("train", "val", "test", "all"),
        default="test",
        help="of --test (default test)",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the runs, e.g. runs/FT; each target gets a folder in it",
    )
    data.add_argument(
        "--scores",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the scores, e.g. scores/FT",
    )
    model_ = parser.add_argument_group("model")
    model_.add_argument(
        "--method",
        choices=("bp-dann", "source-only"),
        default="bp-dann",
        help="source-only: lambda = 0 (default bp-dann)",
    )
    model_.add_argument(
        "--n1",
        type=int,
        nargs="+",
        metavar="N",
        help="width of Gf's first layer (default 512; with --grid 256 512 1024)",
    )
    model_.add_argument(
        "--n2",
        type=int,
        nargs="+",
        metavar="N",
        help="width of Gf's second layer and of Gd (default 64; with --grid 32 64 128)",
    )
    model_.add_argument(
        "--dropout",
        type=float,
        nargs="+",
        metavar="P",
        help="p before Gy (default 0.5; with --grid 0.3 0.5 0.7)",
    )
    model_.add_argument(
        "--grid",
        action="store_true",
        help="train every combination of --n1, --n2 and --dropout, and keep the one that is best on "
        "the SOURCE's validation split; a choice on target data is not offered",
    )
    model_.add_argument(
        "--end-to-end",
        action="store_true",
        help="DANN from images: --source, --target and --test are folders of stage 01",
    )
    model_.add_argument(
        "--arch",
        default="se_resnext101_32x4d",
        metavar="NAME",
        help="end-to-end: a network of pretrainedmodels (default se_resnext101_32x4d)",
    )
    model_.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="end-to-end: where to start from (default imagenet)",
    )
    model_.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="end-to-end: side of the input (default: the network's own)",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=int,
        default=50,
        metavar="N",
        help="passes over the source (default 50; Figure 3: 20)",
    )
    training.add_argument(
        "--batch",
        type=int,
        default=128,
        metavar="N",
        help="images a step from each domain (default 128)",
    )
    training.add_argument(
        "--lr", type=float, default=1e-4, metavar="RATE", help="Adam's learning rate (default 1e-4)"
    )
    add_system_arguments(
        parser,
        workers="end-to-end: processes that load images",
        seed=True,
        device=True,
        precision="auto",
    )
    args = parser.parse_args()
    for name, values in (GRID if args.grid else PAPER).items():
        setattr(args, name, getattr(args, name) or values)
    points = list(product(args.n1, args.n2, args.dropout))
    if (
        min(args.epochs, args.batch, args.image_size or 1, *args.n1, *args.n2) < 1
        or not 0 < args.target_fraction <= 1
        or min(args.dropout) < 0
        or max(args.dropout) >= 1
        or args.workers < 0
    ):
        fail(
            "--epochs, --batch, --n1, --n2 must be 1 or more, --target-fraction above 0 and at most 1, --dropout 0 to below 1"
        )
    if len(points) > 1 and not args.grid:
        fail("several values of --n1, --n2 or --dropout need --grid")
    if args.grid and args.end_to_end:
        fail("--grid searches on features; --end-to-end takes one network")
    targets, tests = folder_names(args.target), folder_names(args.test)
    if len(targets) > 1 and tests:
        fail("--test scores other sets with the network of one target: give one --target")

    # Everything is read and checked before the first training begins; features stay on disk until it is known how many they are.
    def read(folder, labelled=False):
        return (
            (None, read_index(folder, labelled))
            if args.end_to_end
            else read_features(folder, labelled)
        )

    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    source = read(args.source, labelled=True)
    source_rows, val_rows = (
        rows_of_split(source[1], split, args.source) for split in ("train", "val")
    )
    ys, yv = (
        torch.from_numpy(source[1]["label"][source_rows]).to(device),
        source[1]["label"][val_rows],
    )
    val_videos = [source[1]["video"][r] for r in val_rows]
    if ys.min() == ys.max():
        fail(
            f"the train split of {args.source} has only one class: real and fake images are needed"
        )
    if args.grid and len(np.unique(yv)) < 2:
        fail(
            f"--grid needs real and fake images in a val split of {args.source}: the choice is made on it"
        )
    data = {folder: read(folder) for folder in (*targets.values(), *tests.values())}
    drawn, scored = {}, {}
    for name, folder in targets.items():
        index = data[folder][1]
        rows = rows_of_split(index, args.target_split, folder)
        count = max(1, round(args.target_fraction * len(rows)))
        try:
            drawn[name] = rows[
                draw_target(
                    index["label"][rows],
                    count,
                    args.target_balance,
                    np.random.default_rng((args.seed, 1)),
                )
            ]
        except ValueError as error:
            fail(f"--target-balance, {folder}: {error}")
        print(
            f"{name}: {len(drawn[name])} of {len(rows)} target images, "
            + (
                "as many real as fake"
                if args.target_balance
                else "drawn blindly"
                if len(drawn[name]) < len(rows)
                else "all"
            )
        )
        scored[folder] = rows
    scored |= {
        folder: rows_of_split(data[folder][1], args.test_split, folder) for folder in tests.values()
    }
    width = None if args.end_to_end else source[0].shape[1]
    for folder, (features, _) in data.items():
        if not args.end_to_end and features.shape[1] != width:
            fail(
                f"{folder} has {features.shape[1]} features an image, {args.source} has {width}: use one extractor for both"
            )
    extractors = {
        folder: None if args.end_to_end else extractor_of(folder) for folder in (args.source, *data)
    }
    for folder, extractor in extractors.items():
        if (
            extractor
            and extractors[args.source]
            and extractor["sha256"] != extractors[args.source]["sha256"]
        ):
            fail(
                f"{folder} was made by {extractor['path']}, {args.source} by {extractors[args.source]['path']}: use one extractor for both"
            )
    size, stream = "images from disk", False
    if not args.end_to_end:
        # At once: the source, one target, and one set to score.
        most = (
            4
            * width
            * (
                len(source_rows)
                + len(val_rows)
                + max(map(len, drawn.values()))
                + max(map(len, scored.values()))
            )
        )
        free = free_memory(device)
        stream = most > 0.8 * free
        size = f"{width} features, at most {most / 1e6:.0f} MB at once, " + (
            f"of {free / 1e6:.0f} MB free: too many, so they are read from disk batch by batch"
            if stream
            else "held in memory"
        )
    print(
        f"{'end-to-end DANN' if args.end_to_end else args.method}: {len(source_rows)} source images for training, {len(val_rows)} for validation, {size}; "
        f"device {device}, {args.precision}"
        + (f"; grid of {len(points)} for each of {len(targets)} targets" if args.grid else ""),
        flush=True,
    )
    xs, xv = (
        inputs_of(args.source, source, source_rows, device, stream, args.precision),
        inputs_of(args.source, source, val_rows, device, stream),
    )

    for name, folder in targets.items():
        xt = inputs_of(
            folder, data[folder], drawn[name], device, stream, args.precision
        )  # and no yt
        # args.json of a feature folder holds the hashes of its checkpoint and faces, and is read faster than gigabytes of features.
        inputs = sorted(
            {
                f / file
                for f in (args.source, folder)
                for file in (
                    "index.csv",
                    *(
                        []
                        if args.end_to_end
                        else ["args.json" if (f / "args.json").exists() else "features.npy"]
                    ),
                )
            }
        )
        free, out = ("out", "device", "scores", "workers", "test", "test_split"), args.out / name
        origin = dict(
            data=describe_data(args.source, "labelled source")
            + describe_data(folder, "unlabelled target"),
            extractor=extractors[args.source],
        )
        of_target = copy.copy(args)
        of_target.target = folder
        start_run(out, of_target, inputs=inputs, free=free)
        results = []
        for n1, n2, dropout in points:
            here, of_point = (
                out / f"{n1}-{n2}-{dropout:g}" if args.grid else out,
                copy.copy(of_target),
            )
            of_point.n1, of_point.n2, of_point.dropout = n1, n2, dropout
            if args.grid:
                start_run(here, of_point, inputs=inputs, free=free)
            kwargs = dict(n1=n1, n2=n2, dropout=dropout) | (
                dict(arch=args.arch, image_size=args.image_size)
                if args.end_to_end
                else dict(dimensions=width)
            )
            model, final = adapt(
                here,
                of_point,
                kwargs,
                xs,
                ys,
                xv,
                yv,
                xt,
                device,
                f"to {name}, {len(xt)} images",
                val_videos,
                origin,
            )
            results.append(
                (
                    -final["source_val_auc"],
                    final["source_val_loss"],
                    here,
                    (n1, n2, dropout),
                    model,
                    final,
                )
            )
        if args.grid:
            results.sort(key=lambda r: r[:2])
            write_table(
                out / "grid.csv",
                ("n1", "n2", "dropout", "source_val_auc", "source_val_loss", "chosen"),
                (
                    (*point, -minus, loss, int(k == 0))
                    for k, (minus, loss, _, point, *_) in enumerate(results)
                ),
            )
            for file in ("model.pt", "log.csv"):
                with write_whole(out / file) as part:
                    shutil.copyfile(results[0][2] / file, part)
            print(
                "chosen on the source's validation split: N1 {}, N2 {}, p {:g}; all in {}".format(
                    *results[0][3], out / "grid.csv"
                )
            )
        *_, model, final = results[0]
        print(
            f"last epoch: label loss {final['label_loss']:.4f}, domain loss {final['domain_loss']:.4f} (not told apart: {math.log(2):.4f}), domain "
            f"accuracy {percent(final['domain_accuracy'])}, AUC on the source's validation split {percent(final['source_val_auc'])}"
        )
        for tested, test in (tests or {name: folder}).items():
            index, rows = data[test][1], scored[test]
            logits = margin(
                score(model, inputs_of(test, data[test], rows, device, stream), args, device)
            ).numpy()
            write_scores(args.scores / f"{tested}.csv", index, rows, logits)
            print(
                f"{args.scores / (tested + '.csv')}: {len(rows)} images, AUC {percent(auc(index['label'][rows], logits))}",
                flush=True,
            )


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""Stage 04: BP-DANN, adapt a classifier to an unlabeled set of features (FeatureTransfer 3.5).

    python 04_train_bpdann.py --source features/FF-DF --target features/DFD features/Celeb-DF \\
        --target-split all --target-fraction 0.1 --target-balance --out runs/FT --scores scores/FT
    python 04_train_bpdann.py --method source-only --source features/FF-DF --target features/DFD \\
        --out runs/source-only --scores scores/source-only
    python 04_train_bpdann.py --grid --source features/FF-DF --target features/DFD \\
        --out runs/grid --scores scores/FT-grid

The first takes minutes on a CPU. It writes for each target NAME:

    OUT/NAME/model.pt        the last epoch: nothing is chosen on target data
    OUT/NAME/last.pt         the last state, from which the same command resumes
    OUT/NAME/log.csv         one row per epoch: lambda, losses, AUC on the source's val split
    OUT/NAME/args.json       all flags, and the hashes of the inputs
    OUT/NAME/grid.csv        with --grid: all combinations, one subfolder each; model.pt is the best
    OUT/NAME/embedding.csv   with .png and .pdf: the features of at most 500 images of each domain,
                             and Gf's embedding of them, in two dimensions
    SCORES/NAME.csv          scores of the target's images, or of each folder of --test

Target labels enter no loss, and choose no epoch or setting. --target-balance, the paper's protocol,
reads them to draw images. After training they stand in the scores, the AUC that is printed and the
embedding. `--method source-only` trains the same network on the same batches with lambda = 0.

The defaults are the paper's.

Deviations and choices (paper -> this script):

    activations       "BP structure" -> ReLU after each hidden layer of Gf and Gd
    domains in eq. 1  1/(n_s + n_t) over all images weights a domain by its size -> batches of equal
                      size weight both alike
    loss of Gd        equation 3 is printed as an argmin of eq. 1, where the domain loss is negative
                      -> Gd minimizes its own loss, as the text of 3.4 says
    lambda in eq. 1   on the domain loss -> in the gradient reversal layer, so on Gf's part of the
                      gradient alone; Gd always learns at the full rate (Figure 1)
    p of equation 4   "linearly changing from 0 to 1" -> step / (steps - 1): 0 at the first step, 1
                      at the last
    an epoch          not given -> once through the source, without its last incomplete batch; the
                      target is shuffled and repeated
    batch             128 -> 128 of each domain
    10 % of a target  as many real as fake (4.2) -> drawn without labels, which an
                      unlabeled set does not have, unless --target-balance is given
    target images     "all images" -> the test split if the target has splits (--target-split all;
                      for FF-FS, val is another reading, as the paper's Figure 3 adapts to it)
    grid N1, N2, p    values not given -> 256 512 1024, 32 64 128, 0 0.3 0.5 0.7; chosen by AUC,
                      then by loss, on the source's val split
    precision         not given -> --precision: bfloat16 products on GPUs and CPUs that have it,
                      float32 elsewhere; scores in float32 (TF32 on such a GPU)
"""

import argparse
import math
import shutil
import time
from collections import namedtuple
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import (
    Parser,
    add_system_flags,
    fail,
    margin,
    progress,
    rows_of_split,
    write_scores,
    write_table,
    write_whole,
)
from reporting.figures import draw_embedding, write_embedding
from reporting.metrics import auc, percent, validate
from running.devices import autocast, choose_device, choose_precision, describe_device
from running.folder import describe_data, flags_of, folder_names, start_run
from running.loading import check_extractors, load_rows, predict_rows, read_features
from running.processes import run_script
from running.run import Run, is_complete, seed_of

# Flags that may change when a run is resumed.
RUNTIME_FLAGS = ("out", "device", "scores", "test", "test_split")
LOSSES = ("label_loss", "domain_loss", "domain_accuracy")
COLUMNS = ("lambda", *LOSSES, "source_val_auc", "source_val_loss")
# The largest number of images of each domain in the picture of Gf's embedding.
SHOWN = 500

# The labeled source: its `FeatureSet`, the rows for training and validation, and on the device the
# features (N, D) and labels (N,) of the training rows.
Source = namedtuple("Source", "data train_rows val_rows x labels")


def parse_args():
    usage = "%(prog)s --source DIR --target DIR [DIR ...] --out DIR --scores DIR [options]"
    parser = Parser(__doc__, usage)
    splits = ("train", "val", "test", "all")
    add = parser.add_argument_group("data").add_argument
    text = "labeled features, a folder of stage 03; its train split is used"
    add("--source", type=Path, required=True, metavar="DIR", help=text)
    text = "unlabeled features to adapt to; with several, to each in turn"
    add("--target", type=Path, nargs="+", required=True, metavar="DIR", help=text)
    text = "split of the target to use; a set without splits counts as test (default test)"
    add("--target-split", choices=splits, default="test", help=text)
    text = (
        "share of the target images to adapt to, drawn by --seed; the paper has 0.1 for DFD, "
        "DFDC-P and Celeb-DF (default 1)"
    )
    add("--target-fraction", type=float, default=1.0, metavar="SHARE", help=text)
    text = (
        "draw as many real as fake target images: the paper's protocol, which READS TARGET "
        "LABELS, for the draw only (default: draw without labels)"
    )
    add("--target-balance", action=argparse.BooleanOptionalAction, default=False, help=text)
    text = "folders to score (default: the targets' images of --target-split)"
    add("--test", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    add("--test-split", choices=splits, default="test", help="split of --test (default test)")
    text = "folder of the runs, e.g. runs/FT; each target gets a folder in it"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "folder for the scores, e.g. scores/FT"
    add("--scores", type=Path, required=True, metavar="DIR", help=text)
    add = parser.add_argument_group("model").add_argument
    text = "source-only: lambda = 0 (default bp-dann)"
    add("--method", choices=("bp-dann", "source-only"), default="bp-dann", help=text)
    text = "width of Gf's first layer (default 512; with --grid 256 512 1024)"
    add("--n1", type=int, nargs="+", metavar="N", help=text)
    text = "width of Gf's second layer and of Gd (default 64; with --grid 32 64 128)"
    add("--n2", type=int, nargs="+", metavar="N", help=text)
    text = "dropout probability before Gy (default 0.5; with --grid 0 0.3 0.5 0.7)"
    add("--dropout", type=float, nargs="+", metavar="P", help=text)
    text = (
        "train every combination of --n1, --n2 and --dropout, and keep the best on the source's "
        "validation split; choosing by target labels is not offered"
    )
    add("--grid", action="store_true", help=text)
    add = parser.add_argument_group("training").add_argument
    text = "passes over the source (default 50; Figure 3: 20)"
    add("--epochs", type=int, default=50, metavar="N", help=text)
    text = "images per step from each domain (default 128)"
    add("--batch", type=int, default=128, metavar="N", help=text)
    text = "Adam's learning rate (default 1e-4)"
    add("--lr", type=float, default=1e-4, metavar="RATE", help=text)
    add_system_flags(parser, seed=True, device=True, precision="auto")
    args = parser.parse_args()
    args.n1 = args.n1 or ([256, 512, 1024] if args.grid else [512])
    args.n2 = args.n2 or ([32, 64, 128] if args.grid else [64])
    args.dropout = args.dropout or ([0.0, 0.3, 0.5, 0.7] if args.grid else [0.5])
    if min(args.epochs, args.batch, *args.n1, *args.n2) < 1:
        fail("--epochs, --batch, --n1 and --n2 must be 1 or more")
    if not args.lr > 0:
        fail("--lr must be above 0")
    if not 0 < args.target_fraction <= 1:
        fail("--target-fraction must be above 0 and at most 1")
    if min(args.dropout) < 0 or max(args.dropout) >= 1:
        fail("--dropout must be from 0 to below 1")
    if max(map(len, (args.n1, args.n2, args.dropout))) > 1 and not args.grid:
        fail("several values of --n1, --n2 or --dropout need --grid")
    if len(args.target) > 1 and args.test:
        fail("--test scores other sets with the network of one target: give one --target")
    return args


# ---------------------------------------------------------------- the method


def lambda_at(p):
    """Equation 4 with c = 10: 0 at p = 0, 0.9999 at p = 1. p is the training progress, 0..1."""
    return 2 / (1 + math.exp(-10 * p)) - 1


class GradientReversal(torch.autograd.Function):
    """Forward the identity; backward the gradient times -weight, lambda (Figure 1)."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.weight * gradient, None


class BPDANN(nn.Module):
    """Gf, Gy and Gd of section 3.5 on features (N, dimensions)."""

    def __init__(self, dimensions=2048, n1=512, n2=64, dropout=0.5):
        super().__init__()
        # Gf: features -> embedding (N, n2).
        self.extract = nn.Sequential(
            nn.Linear(dimensions, n1), nn.ReLU(), nn.Linear(n1, n2), nn.ReLU()
        )
        # Gy: embedding -> (N, 2) label logits: real, fake.
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(n2, 2))
        # Gd: embedding -> (N, 2) domain logits: source, target.
        self.discriminate = nn.Sequential(nn.Linear(n2, n2), nn.ReLU(), nn.Linear(n2, 2))

    def forward(self, x):
        """(N, dimensions) -> (N, 2) label logits: real, fake."""
        return self.classify(self.extract(x))


def draw_orders(sizes, seed, epoch, steps, batch):
    """The indices of the images of source and target in each step of an epoch: two (steps, batch).

    Both orders depend on the seed and the epoch alone. The source's incomplete last batch is left
    out. The target is shuffled anew each time that it is used up.

    Args:
        sizes: number of images of the source and of the target.
    """
    source = np.random.default_rng((seed, epoch)).permutation(sizes[0])
    # The third number is never 0, as (seed, epoch, 0) is (seed, epoch).
    rounds = range(1, 1 + -(-steps * batch // sizes[1]))
    target = [np.random.default_rng((seed, epoch, k)).permutation(sizes[1]) for k in rounds]
    orders = (source, np.concatenate(target))
    return [order[: steps * batch].reshape(steps, batch) for order in orders]


def train(out, args, source, target_x, device, content):
    """Train a network in OUT, or resume it; write model.pt, last.pt and log.csv.

    Args:
        source: `Source`. target_x: (N, D) features to adapt to; their labels are not passed.
        content: what else the checkpoints store; `kwargs` are the arguments of BPDANN.

    Returns the network in evaluation mode and the last row of its log as a dict.
    """
    torch.manual_seed(args.seed)
    model = BPDANN(**content["kwargs"]).to(device)
    # Fused was faster on a CPU too (bench/04_bpdann.py).
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    run = Run(out, "04", args, model, optimizer, len(source.x), content, "last", LOSSES, COLUMNS)
    first, steps, start = run.epoch, run.per_epoch, time.perf_counter()
    if not run.finished:
        print(
            f"{out}: {sum(p.numel() for p in model.parameters())} parameters, {len(target_x)} "
            f"target images, {args.epochs} epochs of {steps} steps, {run.size} images of each "
            "domain per step" + (f"; resumed after epoch {first}" if first else ""),
            flush=True,
        )

    # p refers to the current --epochs and --batch, even after --allow-changes.
    last_step = max(1, args.epochs * steps - 1)
    # Source 0, target 1 (3.2).
    domains = torch.arange(2, device=device).repeat_interleave(run.size)
    bar = progress(run.epochs(), total=args.epochs, initial=first, desc=out.name, unit="epoch")
    for epoch in bar:
        orders = draw_orders((len(source.x), len(target_x)), args.seed, epoch, steps, run.size)
        source_rows, target_rows = (torch.from_numpy(rows).to(device) for rows in orders)
        labels = source.labels[source_rows]
        # Dropout draws from this seed.
        torch.manual_seed(seed_of(args.seed, epoch, 1))
        model.train()
        for k in range(steps):
            p = (epoch * steps + k) / last_step
            weight = 0.0 if args.method == "source-only" else lambda_at(p)
            # Features of the source, then as many of the target: (2B, D).
            x = torch.cat([source.x[source_rows[k]], target_x[target_rows[k]]])
            with autocast(device, args.precision):
                embedding = model.extract(x)
                label_logits = model.classify(embedding[: run.size])
                domain_logits = model.discriminate(GradientReversal.apply(embedding, weight))
            # The two means of equation 1. They are added, as -lambda is in GradientReversal.
            label_loss = F.cross_entropy(label_logits.float(), labels[k])
            domain_loss = F.cross_entropy(domain_logits.float(), domains)
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            accuracy = (domain_logits.argmax(1) == domains).float().mean()
            run.record(label_loss, domain_loss, accuracy)
        # Before validation, which would fail on nan with another message.
        run.check_losses()
        model.eval()
        measured, validation = measure(model, source, device)
        measured["lambda"] = weight
        run.end_epoch(validation, **measured)
    run.finish()
    if first < args.epochs:
        seconds, taken = time.perf_counter() - start, (args.epochs - first) * steps
        rate = 2 * taken * run.size / seconds
        print(f"{taken} steps in {seconds:.1f} s, {rate:.0f} images per second", flush=True)
    return model.eval(), dict(zip(COLUMNS, run.log[-1][2:]))


def measure(model, source, device):
    """AUC and loss on the source's validation split as columns of the log, and `validate`'s."""
    rows, index = source.val_rows, source.data.index
    if not len(rows):
        return dict(source_val_auc=math.nan, source_val_loss=math.nan), None
    logits, labels = predict_rows(model, source.data, rows, device), index["label"][rows]
    loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    columns = dict(source_val_auc=auc(labels, margin(logits)), source_val_loss=loss)
    videos = [index["video"][row] for row in rows]
    return columns, validate(videos, labels, margin(logits))


# ---------------------------------------------------------------- data


def draw_target(folder, labels, count, balance, rng):
    """Positions of the images of a target, in `folder`, to adapt to, in rising order.

    Does not look at `labels`, unless `balance` asks for as many real as fake (4.2); the rarer class
    then bounds both. Exits with an error if a class is missing.
    """
    order = rng.permutation(len(labels))
    if not balance:
        return np.sort(order[:count])
    classes = [order[labels[order] == label] for label in (0, 1)]
    half = min(count // 2, *map(len, classes))
    if not half:
        fail(f"--target-balance: as many real as fake images cannot be drawn from {folder}")
    return np.sort(np.concatenate([members[:half] for members in classes]))


# ---------------------------------------------------------------- the script


def adapt(name, source, target, rows, args, device):
    """Adapt to rows of a target's `FeatureSet`, with --grid once per combination; the network."""
    out, folders = args.out / name, (source.data.folder, target.folder)
    inputs = [folder / "index.csv" for folder in folders]
    # The hashes of a folder's own inputs are in its args.json, which is quick to hash.
    inputs += [f / ("args.json" if (f / "args.json").exists() else "features.npy") for f in folders]
    described = map(describe_data, folders, ("labeled source", "unlabeled target"))
    content = dict(data=list(described), extractor=source.data.extractor)
    target_x = load_rows(target, rows, device, source.x.dtype)

    def start(folder, **changed):
        """Start a run in a folder; returns its flags."""
        flags = argparse.Namespace(**vars(args) | changed | dict(target=target.folder))
        # A grid may grow; each of its points is checked for itself.
        is_finished = is_complete(folder, args) and not (args.grid and folder == out)
        start_run(folder, flags, inputs, RUNTIME_FLAGS, is_finished)
        return flags

    if args.grid:
        start(out)
    results = []
    for n1, n2, dropout in product(args.n1, args.n2, args.dropout):
        folder = out / f"{n1}-{n2}-{dropout:g}" if args.grid else out
        point = dict(n1=n1, n2=n2, dropout=dropout)
        flags = start(folder, **point)
        content["kwargs"] = dict(dimensions=target_x.shape[1], **point)
        content["args"] = flags_of(flags, RUNTIME_FLAGS)
        model, row = train(folder, flags, source, target_x, device, content)
        results.append((folder, point, row, model))
    best = choose(results, out) if args.grid else results[0]
    *_, row, model = best
    values = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items())
    print(f"last epoch: {values} (a domain loss of {math.log(2):.4f} is chance)")
    return model


def choose(results, out):
    """The best result of a grid by AUC, then by loss, on the source's validation split.

    results: (folder, its N1, N2 and p, last row of its log, network). Writes grid.csv, and copies
    the best run's files to OUT.
    """
    order = sorted(results, key=lambda r: (-r[2]["source_val_auc"], r[2]["source_val_loss"]))
    best, point = order[0], order[0][1]
    lines = [
        (*values.values(), row["source_val_auc"], row["source_val_loss"], int(folder == best[0]))
        for folder, values, row, _ in order
    ]
    columns = (*point, "source_val_auc", "source_val_loss", "chosen")
    write_table(out / "grid.csv", columns, lines)
    for file in ("model.pt", "log.csv"):
        with write_whole(out / file) as part:
            shutil.copyfile(best[0] / file, part)
    print(
        f"best on the source's validation split: N1 {point['n1']}, N2 {point['n2']}, "
        f"p {point['dropout']:g}; all in {out / 'grid.csv'}"
    )
    return best


def show_embedding(out, model, domains, args, device):
    """Draw Gf's embedding of images of both domains: OUT/embedding.csv, .png and .pdf.

    domains: {name: (FeatureSet, rows)}. Labels, the target's too, only color the picture.
    """
    images, features, embeddings = [], [], []
    for domain, (data, rows) in domains.items():
        rows = np.sort(np.random.default_rng((args.seed, 2)).permutation(rows)[:SHOWN])
        columns = [data.index[name] for name in ("video", "frame", "label")]
        images += [(domain, *(column[row] for column in columns)) for row in rows]
        features.append(data.features[rows])
        embeddings.append(predict_rows(model.extract, data, rows, device))
    outputs = {"features": np.concatenate(features), args.method: np.concatenate(embeddings)}
    write_embedding(out / "embedding.csv", images, outputs)
    draw_embedding(out / "embedding", out.name, {"": out})


def main():
    args = parse_args()
    targets, tests = folder_names(args.target), folder_names(args.test)

    # All data are read and checked before the first training begins. They are memory maps; only
    # what is trained on, the source and one target at a time, is held in memory.
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    data = read_features(args.source, one_label=True)
    train_rows = rows_of_split(data.index, "train", args.source)
    val_rows = rows_of_split(data.index, "val", args.source, required=False)
    train_labels = torch.from_numpy(data.index["label"][train_rows]).to(device)
    if train_labels.min() == train_labels.max():
        fail(f"the train split of {args.source} has only one class: real and fake are needed")
    if args.grid and len(np.unique(data.index["label"][val_rows])) < 2:
        fail(f"--grid chooses on the val split of {args.source}: real and fake images are needed")
    sets = {folder: read_features(folder) for folder in (*targets.values(), *tests.values())}
    check_extractors(data, sets.values())
    target_rows = {}
    for name, folder in targets.items():
        rows = rows_of_split(sets[folder].index, args.target_split, folder)
        count = max(1, round(args.target_fraction * len(rows)))
        labels, rng = sets[folder].index["label"][rows], np.random.default_rng((args.seed, 1))
        drawn = draw_target(folder, labels, count, args.target_balance, rng)
        target_rows[name] = rows[drawn]
        how = "as many real as fake" if args.target_balance else "drawn without labels"
        print(f"{name}: {len(drawn)} of {len(rows)} target images, {how}")
    split, folders = (args.test_split, tests) if tests else (args.target_split, targets)
    scored = {f: rows_of_split(sets[f].index, split, f) for f in folders.values()}
    points = len(args.n1) * len(args.n2) * len(args.dropout)
    grid = f"; grid of {points} for each of {len(targets)} targets" if args.grid else ""
    print(
        f"{args.method}: {len(train_rows)} source images for training, {len(val_rows)} for "
        f"validation, {data.features.shape[1]} features; "
        f"{describe_device(device, args.precision)}{grid}",
        flush=True,
    )
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    x = load_rows(data, train_rows, device, dtype)
    source = Source(data, train_rows, val_rows, x, train_labels)

    for name, folder in targets.items():
        model = adapt(name, source, sets[folder], target_rows[name], args, device)
        both = {"source": (data, train_rows), "target": (sets[folder], target_rows[name])}
        show_embedding(args.out / name, model, both, args, device)
        for test_name, test in (tests or {name: folder}).items():
            index, file = sets[test].index, args.scores / f"{test_name}.csv"
            logits = margin(predict_rows(model, sets[test], scored[test], device))
            write_scores(file, index, scored[test], logits)
            value = percent(auc(index["label"][scored[test]], logits))
            print(f"{file}: {len(logits)} images, AUC {value}", flush=True)


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""Stage 04: BP-DANN, adapt a classifier to an unlabeled set of features (FeatureTransfer 3.5).

    python 04_train_bpdann.py --source features/FF-DF --target features/DFD features/Celeb-DF \\
        --target-split all --target-fraction 0.1 --target-balance --out runs/FT --scores scores/FT
    python 04_train_bpdann.py --method source-only --source features/FF-DF --target features/DFD \\
        --out runs/source-only --scores scores/source-only
    python 04_train_bpdann.py --grid --source features/FF-DF --target features/DFD \\
        --out runs/grid --scores scores/FT-grid
    python 04_train_bpdann.py --end-to-end --source faces/FF-DF --target faces/FF-FS \\
        --target-split val --epochs 20 --test faces/FF-FS faces/DFD \\
        --out runs/DANN --scores scores/DANN

The first takes minutes on a CPU. Each target NAME gets a folder OUT/NAME with model.pt (the last
epoch: nothing is chosen on target data), last.pt, log.csv and args.json. SCORES/NAME.csv holds the
scores of the target's images, or of each folder of --test. With --grid, OUT/NAME/grid.csv lists all
combinations, each in its own subfolder, and model.pt is the best of them by --choose. A warning is
printed if source-only with the same settings is as good by the same score.

At each tenth of the training, log.csv has two scores of the target that need no labels, measured
on at most 5,000 of its images: target_entropy, the mean entropy of the predictions (low: decided),
and target_density, their soft neighborhood density as a share of its maximum (Saito et al., ICCV
2021; high: dense). embedding.png and .pdf show the features of at most 500 images of each domain,
and what Gf makes of them; embedding.csv has the coordinates.

Target labels enter no loss and no score above, and choose no epoch or setting. --target-balance,
the paper's protocol, reads them to draw images, and the printed AUC reads them after training.
`--method source-only` trains the same network on the same batches with lambda = 0.

The defaults are the paper's.

Deviations and choices (paper -> this script):

    activations       "BP structure" -> ReLU after each hidden layer of Gf and Gd
    domains in eq. 1  1/(n_s + n_t) over all images weights a domain by its size -> batches of equal
                      size weight both alike
    loss of Gd        equation 3 is printed as an argmin of eq. 1, where the domain loss is negative
                      -> Gd minimizes its own loss, as the text of 3.4 says
    lambda in eq. 1   on the domain loss -> in the gradient reversal layer, so on Gf's part of the
                      gradient alone; Gd always learns at the full rate (Figure 1)
    p of equation 4   "linearly from 0 to 1" -> step / (steps - 1): 0 at the first step, 1 at the
                      last
    an epoch          not given -> once through the source; the target is shuffled and repeated
    batch             128 -> 128 of each domain; end to end, batch norm over both together
    10 % of a target  as many real as fake (4.2) -> drawn without looking at labels, which an
                      unlabeled set does not have, unless --target-balance is given
    target images     "all images" -> the test split if the target has splits (--target-split all;
                      for FF-FS, val is another reading, as the paper's Figure 3 adapts to it)
    grid N1, N2, p    values not given -> 256 512 1024, 32 64 128, 0 0.3 0.5 0.7; chosen by AUC,
                      then by loss, on the source's val split, or as --choose says
    density           of softmax outputs, as Saito et al. have it, not of Gf's output
    precision         not given -> --precision: bfloat16 products on GPUs and CPUs that have it,
                      float32 elsewhere; scores in float32 (TF32 on such a GPU)
    end-to-end DANN   heads and initial weights not given (4.6) -> the same Gf, Gy, Gd behind the
                      backbone; Adam 1e-4 and batch 128 as in BP-DANN, ImageNet weights and flips as
                      in stage 02. It does not see the 5.7 million faces that the extractor learned
                      from, so Figure 3 compares the data of its two arms as well
"""

import argparse
import copy
import math
import os
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
    read_index,
    rows_of_split,
    write_scores,
)
from networks.extractor import Extractor
from networks.weights import load_weights
from reporting.figures import draw_embedding, write_embedding
from reporting.metrics import auc, percent, validate
from running.choice import (
    CHOICES,
    TARGET_SCORES,
    choose_run,
    compare_with_source_only,
    describe_scores,
    is_tenth,
    score_target,
)
from running.devices import autocast, choose_device, choose_precision, describe_device
from running.features import (
    check_extractors,
    extractor_of,
    free_memory,
    load_features,
    read_features,
)
from running.folder import describe_data, flags_of, folder_names, start_run
from running.loading import Faces, load_batches, predict
from running.processes import run_script
from running.run import Run, draw_joint, is_complete, seed_of

GRID = dict(n1=[256, 512, 1024], n2=[32, 64, 128], dropout=[0.0, 0.3, 0.5, 0.7])
PAPER = dict(n1=[512], n2=[64], dropout=[0.5])
LOSSES = ("label_loss", "domain_loss", "domain_accuracy")
COLUMNS = ("lambda", *LOSSES, "source_val_auc", "source_val_loss", *TARGET_SCORES)
# Flags that may change when a run is resumed.
RUNTIME_FLAGS = ("out", "device", "scores", "workers", "test", "test_split", "choose")
# The most target images that entropy and density are measured on.
SCORED = 5000
# The most images of each domain in the picture of what Gf makes of them.
SHOWN = 500

# A set on disk: `features` is a memory map (N, D), or None where images are trained on.
DataSet = namedtuple("DataSet", "folder index features")
# The labeled source: inputs and labels for training, and inputs, labels, videos for validation.
Source = namedtuple("Source", "x labels val_x val_labels val_videos")
# The unlabeled target: the inputs to adapt to, and those of them (in float32) that are scored.
Target = namedtuple("Target", "x sample")


# ---------------------------------------------------------------- the method


def lambda_at(p):
    """Equation 4 with c = 10: 0 at p = 0, 0.9999 at p = 1. p is the training progress, 0..1."""
    return 2 / (1 + math.exp(-10 * p)) - 1


class GradientReversal(torch.autograd.Function):
    """Forward the identity; backward the gradient times -weight (FeatureTransfer, Figure 1).

    weight: lambda, a float or a tensor of one number.
    """

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

    def embed(self, x):
        """(N, dimensions) -> (N, n2)."""
        return self.extract(x)

    def forward(self, x):
        """(N, dimensions) -> (N, 2) label logits: real, fake."""
        return self.classify(self.embed(x))


class DANN(BPDANN):
    """The end-to-end network of section 4.6: the backbone of stage 02, then Gf, Gy and Gd.

    Its input is uint8 RGB (N, 3, image_size, image_size). Raises ValueError for an unknown network
    or a size that it cannot take.
    """

    def __init__(self, arch, image_size=None, n1=512, n2=64, dropout=0.5):
        extractor = Extractor(arch, image_size)
        super().__init__(extractor.dimensions, n1, n2, dropout)
        del extractor.head
        self.extractor, self.image_size = extractor, extractor.image_size

    def embed(self, x):
        return self.extract(self.extractor.features(x))

    def activation_maps(self, x):
        """(N, 3, S, S) uint8 RGB -> (N, h, w), see `networks.maps`."""
        head = nn.Sequential(self.extract, self.classify)
        return self.extractor.activation_maps(x, head)


def adapt(out, args, kwargs, source, target, device, about, content):
    """Train a network in OUT, or resume it; write model.pt, last.pt and log.csv.

    Args:
        kwargs: arguments of BPDANN or DANN.
        source: `Source`. target: `Target`; its labels do not come here.
        about: the end of the printed line of settings. content: what else the checkpoints store.

    Returns the network and the last row of its log as a dict.
    """
    torch.manual_seed(args.seed)
    try:
        model = (DANN if args.end_to_end else BPDANN)(**kwargs)
    except ValueError as error:
        fail(error)
    if args.end_to_end and not (out / "last.pt").exists():
        load_weights(model.extractor, args.arch, args.weights)
    model.to(device)
    # Fused was faster on a CPU too (bench/04_bpdann.py).
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    content = content | dict(kwargs=kwargs, end_to_end=args.end_to_end)
    samples = len(source.x)
    run = Run(out, "04", args, model, optimizer, samples, content, "last", LOSSES, COLUMNS)
    first = run.epoch
    if not run.finished:
        print(
            f"{out.name}: {sum(p.numel() for p in model.parameters())} parameters, {args.epochs} "
            f"epochs of {run.per_epoch} steps, {run.size} images of each domain per step; {about}"
            + (f"; resumed after epoch {first}" if first else ""),
            flush=True,
        )

    # p refers to the current --epochs and --batch, even after --allow-changes. All values of lambda
    # are on the device from the start, so that no step waits for one.
    total = args.epochs * run.per_epoch
    lambdas = [0.0] * total
    if args.method == "bp-dann":
        lambdas = [lambda_at(step / max(1, total - 1)) for step in range(total)]
    lambda_tensor = torch.tensor(lambdas, device=device)
    # Source 0, target 1 (3.2).
    domains = torch.arange(2, device=device).repeat_interleave(run.size)
    start = time.perf_counter()
    bar = progress(run.epochs(), total=args.epochs, initial=first, desc=out.name, unit="epoch")
    for epoch in bar:
        model.train()
        # Dropout draws from this seed.
        torch.manual_seed(seed_of(args.seed, epoch, 1))
        labels, batches = draw_batches(source, target.x, model, args, device, epoch)
        # x: inputs of the source, then as many of the target.
        for k, x in enumerate(batches):
            with autocast(device, args.precision):
                embedding = model.embed(x)
                label_logits = model.classify(embedding[: run.size])
                weight = lambda_tensor[epoch * run.per_epoch + k]
                domain_logits = model.discriminate(GradientReversal.apply(embedding, weight))
            # The two means of equation 1. They are added, as -lambda is in GradientReversal.
            label_loss = F.cross_entropy(label_logits.float(), labels[k])
            domain_loss = F.cross_entropy(domain_logits.float(), domains)
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            accuracy = (domain_logits.argmax(1) == domains).float().mean()
            run.record(label_loss, domain_loss, accuracy)
        run.check_losses()  # before validation, in which a nan would be an error of its own
        measured = dict.fromkeys(("source_val_auc", "source_val_loss", *TARGET_SCORES), math.nan)
        validation = None
        if len(source.val_x):
            logits = predict_logits(model, source.val_x, args, device)
            loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(source.val_labels))
            measured["source_val_auc"] = auc(source.val_labels, margin(logits))
            measured["source_val_loss"] = loss.item()
            if epoch + 1 == args.epochs:
                validation = validate(source.val_videos, source.val_labels, margin(logits))
        if is_tenth(epoch, args.epochs):
            measured |= score_target(predict_logits(model, target.sample, args, device))
        measured["lambda"] = lambdas[(epoch + 1) * run.per_epoch - 1]
        run.end_epoch(validation, **measured)
    run.finish()
    if first < args.epochs:
        seconds = time.perf_counter() - start
        taken = (args.epochs - first) * run.per_epoch
        rate = 2 * taken * run.size / seconds
        print(f"{taken} steps in {seconds:.1f} s, {rate:.0f} images per second", flush=True)
    return model, dict(zip(COLUMNS, run.log[-1][2:]))


def draw_batches(source, target_x, model, args, device, epoch):
    """An epoch of steps: (labels (steps, B) on the device, iterator over the inputs of each step).

    Inputs are the source's, then the target's: (2B, D) features, or (2B, 3, S, S) uint8 images,
    flipped at random. The order of both domains depends on the seed and the epoch alone.
    """
    where = device if isinstance(source.x, torch.Tensor) else "cpu"
    # An incomplete last batch is left out.
    size = min(args.batch, len(source.x))
    rows = torch.from_numpy(np.random.default_rng((args.seed, epoch)).permutation(len(source.x)))
    rows = rows[: len(rows) // size * size].view(-1, size).to(where)
    # The target is shuffled anew each time that it is used up. The third number is never 0, as
    # (seed, epoch, 0) is the same seed as (seed, epoch), which shuffles the source.
    rounds = range(1, 1 + -(-rows.numel() // len(target_x)))
    order = [
        np.random.default_rng((args.seed, epoch, k)).permutation(len(target_x)) for k in rounds
    ]
    target_rows = torch.from_numpy(np.concatenate(order))[: rows.numel()].view_as(rows).to(where)
    labels = source.labels[rows.to(device)]
    if not args.end_to_end:
        pairs = zip(rows, target_rows)
        return labels, (torch.cat([source.x[a], target_x[b]]) for a, b in pairs)
    faces = Faces(source.x + target_x, model.image_size)
    both = torch.cat([rows, target_rows + len(source.x)], 1)
    # Sent once an epoch, because sending makes the CPU wait for a GPU.
    # Dropout's seed ends in 1.
    draws = [draw_joint(both.shape[1], 1, args.seed, epoch, 2 + k) for k in range(len(both))]
    is_flipped = (torch.stack(draws)[..., None, None] < 0.5).to(device)

    def images():
        loader = load_batches(faces, both.tolist(), args.workers, pin=device.type == "cuda")
        for batch, flips in zip(loader, is_flipped):
            batch = batch.to(device, non_blocking=True)
            yield torch.where(flips, batch.flip(3), batch)

    return labels, images()


@torch.inference_mode()
def predict_logits(model, x, args, device, function=None):
    """The label logits of features or of image paths: a (N, 2) float32 array.

    function: what to compute instead of them; model.embed gives the embedding (N, n2).
    """
    model.eval()
    function = function or model
    if args.end_to_end:
        faces = Faces(x, model.image_size)
        return predict(function, faces, args.batch, args.workers, device, "scoring")
    return torch.cat([function(part).float() for part in x.split(4096)]).cpu().numpy()


# ---------------------------------------------------------------- data


def read_set(folder, end_to_end, one_label=False):
    """A folder of stage 03 (or of stage 01 for `end_to_end`) as a `DataSet`."""
    if end_to_end:
        return DataSet(folder, read_index(folder, one_label), None)
    features, index = read_features(folder, one_label)
    return DataSet(folder, index, features)


def load_inputs(data, rows, device, stream=False, precision="fp32"):
    """Rows of a `DataSet`: features on the device or `OnDisk`, or a list of image paths."""
    if data.features is None:
        return [os.path.join(data.folder, data.index["path"][row]) for row in rows]
    return load_features(data.folder, data.features, rows, device, stream, precision)


def draw_target(labels, count, balance, rng):
    """Positions of the target images to adapt to, in rising order.

    Does not look at `labels`, unless `balance` asks for as many real as fake (4.2); the rarer class
    then bounds both. Raises ValueError if a class is missing.
    """
    order = rng.permutation(len(labels))
    if not balance:
        return np.sort(order[:count])
    classes = [order[labels[order] == label] for label in (0, 1)]
    half = min(count // 2, *map(len, classes))
    if not half:
        raise ValueError("as many real as fake images cannot be drawn from it")
    return np.sort(np.concatenate([members[:half] for members in classes]))


def draw_sample(rows, most, seed):
    """At most so many of the rows, drawn without looking at labels, in rising order."""
    return np.sort(np.random.default_rng((seed, 2)).permutation(rows)[:most])


def draw_targets(targets, sets, args):
    """The rows of each target: {NAME: rows to adapt to}, {folder: rows to score}."""
    drawn, scored = {}, {}
    for name, folder in targets.items():
        index = sets[folder].index
        rows = rows_of_split(index, args.target_split, folder)
        count = max(1, round(args.target_fraction * len(rows)))
        rng = np.random.default_rng((args.seed, 1))
        try:
            drawn[name] = rows[draw_target(index["label"][rows], count, args.target_balance, rng)]
        except ValueError as error:
            fail(f"--target-balance, {folder}: {error}")
        how = "all" if len(drawn[name]) == len(rows) else "drawn blindly"
        how = "as many real as fake" if args.target_balance else how
        print(f"{name}: {len(drawn[name])} of {len(rows)} target images, {how}")
        scored[folder] = rows
    return drawn, scored


def must_stream(width, rows, device):
    """Whether features must stay on disk, and the reason as text.

    rows: how many are needed at once: of the source, one target, and one set to score.
    """
    needed, free = 4 * width * rows, free_memory(device)
    size = f"{width} features, at most {needed / 1e6:.0f} MB at once"
    if needed <= 0.8 * free:
        return False, f"{size}, held in memory"
    return True, f"{size}, of {free / 1e6:.0f} MB free: they are read from disk batch by batch"


# ---------------------------------------------------------------- the script


def parse_args():
    usage = "%(prog)s --source DIR --target DIR [DIR ...] --out DIR --scores DIR [options]"
    parser = Parser(__doc__, usage)
    splits = ("train", "val", "test", "all")
    add = parser.add_argument_group("data").add_argument
    text = "labeled features, a folder of stage 03; its train split is used"
    add("--source", type=Path, required=True, metavar="DIR", help=text)
    text = "features to adapt to, without their labels; several: to each in turn"
    add("--target", type=Path, nargs="+", required=True, metavar="DIR", help=text)
    text = "split of the target to use; a set without splits counts as test (default test)"
    add("--target-split", choices=splits, default="test", help=text)
    text = (
        "share of the target images to adapt to, drawn by --seed; the paper has 0.1 for DFD, "
        "DFDC-P and Celeb-DF (default 1)"
    )
    add("--target-fraction", type=float, default=1.0, metavar="SHARE", help=text)
    text = (
        "draw as many real as fake target images: the paper's protocol, which LOOKS AT TARGET "
        "LABELS, for the draw only (default: draw without looking)"
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
        "train every combination of --n1, --n2 and --dropout, keep the best by --choose, and "
        "compare it with source-only; choosing by target labels is not offered"
    )
    add("--grid", action="store_true", help=text)
    text = (
        "what the grid is chosen by: the AUC on the source's validation split, or without labels "
        "the lowest entropy of the target's predictions or their highest soft neighborhood density "
        "(default source; none of them could be relied on, see docs/experiments.md)"
    )
    add("--choose", choices=CHOICES, default="source", help=text)
    text = "DANN from images: --source, --target and --test are folders of stage 01"
    add("--end-to-end", action="store_true", help=text)
    text = "end-to-end: a network of pretrainedmodels (default se_resnext101_32x4d)"
    add("--arch", default="se_resnext101_32x4d", metavar="NAME", help=text)
    text = "end-to-end: initial weights (default imagenet)"
    add("--weights", default="imagenet", metavar="imagenet|none|FILE", help=text)
    text = "end-to-end: side of the input (default: the network's own)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    add = parser.add_argument_group("training").add_argument
    text = "passes over the source (default 50; Figure 3: 20)"
    add("--epochs", type=int, default=50, metavar="N", help=text)
    text = "images per step from each domain (default 128; end to end: half of 02's)"
    add("--batch", type=int, default=128, metavar="N", help=text)
    add(
        "--lr", type=float, default=1e-4, metavar="RATE", help="Adam's learning rate (default 1e-4)"
    )
    add_system_flags(
        parser,
        workers="end-to-end: processes that load images",
        seed=True,
        device=True,
        precision="auto",
    )
    args = parser.parse_args()
    for name, values in (GRID if args.grid else PAPER).items():
        setattr(args, name, getattr(args, name) or values)
    if min(args.epochs, args.batch, args.image_size or 1, *args.n1, *args.n2) < 1:
        fail("--epochs, --batch, --n1, --n2 and --image-size must be 1 or more")
    if not 0 < args.target_fraction <= 1:
        fail("--target-fraction must be above 0 and at most 1")
    if min(args.dropout) < 0 or max(args.dropout) >= 1 or args.workers < 0:
        fail("--dropout must be from 0 to below 1, --workers 0 or more")
    if max(map(len, (args.n1, args.n2, args.dropout))) > 1 and not args.grid:
        fail("several values of --n1, --n2 or --dropout need --grid")
    if args.grid and args.end_to_end:
        fail("--grid searches on features; --end-to-end takes one network")
    if len(args.target) > 1 and args.test:
        fail("--test scores other sets with the network of one target: give one --target")
    return args


def train_on_target(name, folder, target, source, source_folder, args, width, device):
    """Train on one target, with every combination of --grid: {method: network that is kept}."""
    out = args.out / name
    target_args = copy.copy(args)
    target_args.target = folder
    # args.json of a feature folder holds the hashes of its inputs, and is quick to hash.
    inputs = set()
    for path in (source_folder, folder):
        inputs.add(path / "index.csv")
        if not args.end_to_end:
            has_args = (path / "args.json").exists()
            inputs.add(path / ("args.json" if has_args else "features.npy"))
    # A grid may grow: each of its points is checked for itself.
    is_finished = not args.grid and is_complete(out, args)
    start_run(out, target_args, sorted(inputs), RUNTIME_FLAGS, is_finished)
    roles = {source_folder: "labeled source", folder: "unlabeled target"}
    content = dict(
        data=[describe_data(path, role) for path, role in roles.items()],
        extractor=None if args.end_to_end else extractor_of(source_folder),
    )

    def train_point(here, point, method):
        """One training in the folder HERE: (HERE, point, network, last row of its log)."""
        point_args = copy.copy(target_args)
        point_args.method = method
        point_args.n1, point_args.n2, point_args.dropout = point
        if here != out:
            is_finished = is_complete(here, args)
            start_run(here, point_args, sorted(inputs), RUNTIME_FLAGS, is_finished)
        kwargs = dict(zip(("n1", "n2", "dropout"), point))
        if args.end_to_end:
            kwargs |= dict(arch=args.arch, image_size=args.image_size)
        else:
            kwargs |= dict(dimensions=width)
        stored = content | dict(args=flags_of(point_args, RUNTIME_FLAGS))
        about = f"to {name}, {len(target.x)} images"
        trained = adapt(here, point_args, kwargs, source, target, device, about, stored)
        return here, point, *trained

    points = list(product(args.n1, args.n2, args.dropout))
    if args.grid:
        folders = {point: out / "{}-{}-{:g}".format(*point) for point in points}
        results = [train_point(folders[point], point, args.method) for point in points]
        _, point, model, row = choose_run(results, args.choose, out)
    else:
        _, _, model, row = train_point(out, points[0], args.method)
    print(
        f"last epoch: label loss {row['label_loss']:.4f}, domain loss {row['domain_loss']:.4f} "
        f"({math.log(2):.4f} if the domains cannot be told apart), domain accuracy "
        f"{percent(row['domain_accuracy'])}, {describe_scores(row)}"
    )
    networks = {args.method: model}
    if args.grid and args.method == "bp-dann":
        here = out / f"{folders[point].name}-source-only"
        _, _, networks["source-only"], source_only = train_point(here, point, "source-only")
        compare_with_source_only(row, source_only, args.choose)
    return networks


def show_embedding(out, networks, data, args, device):
    """Draw what Gf makes of images of both domains: OUT/embedding.csv, .png and .pdf.

    data: {domain: (DataSet, rows)}. Labels, the target's too, only color the picture.
    """
    images, inputs = [], []
    outputs = {}
    for domain, (data_set, rows) in data.items():
        rows = draw_sample(rows, SHOWN, args.seed)
        columns = [data_set.index[name] for name in ("video", "frame", "label")]
        images += [(domain, *(column[row] for column in columns)) for row in rows]
        inputs.append(load_inputs(data_set, rows, device))
    if not args.end_to_end:
        outputs["features"] = torch.cat(inputs).cpu().numpy()
    for method, model in networks.items():
        parts = [predict_logits(model, x, args, device, model.embed) for x in inputs]
        outputs[method] = np.concatenate(parts)
    write_embedding(out / "embedding.csv", images, outputs)
    draw_embedding(out / "embedding", out.name, {"": out})


def main():
    args = parse_args()
    targets, tests = folder_names(args.target), folder_names(args.test)

    # Everything is read and checked before the first training run begins. Features stay on disk
    # until their number is known.
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    source = read_set(args.source, args.end_to_end, one_label=True)
    train_rows = rows_of_split(source.index, "train", args.source)
    val_rows = rows_of_split(source.index, "val", args.source)
    labels = torch.from_numpy(source.index["label"][train_rows]).to(device)
    val_labels = source.index["label"][val_rows]
    if labels.min() == labels.max():
        fail(f"the train split of {args.source} has only one class: real and fake are needed")
    if args.grid and len(np.unique(val_labels)) < 2:
        fail(f"--grid chooses on the val split of {args.source}: real and fake images are needed")
    sets = {f: read_set(f, args.end_to_end) for f in (*targets.values(), *tests.values())}
    drawn, scored = draw_targets(targets, sets, args)
    for folder in tests.values():
        scored[folder] = rows_of_split(sets[folder].index, args.test_split, folder)
    stream, width = False, None
    where = "images from disk"
    if not args.end_to_end:
        check_extractors(source, sets.values())
        width = source.features.shape[1]
        rows = len(train_rows) + len(val_rows)
        rows += max(map(len, drawn.values())) + max(map(len, scored.values()))
        stream, where = must_stream(width, rows, device)
    points = len(args.n1) * len(args.n2) * len(args.dropout)
    grid = f"; grid of {points} for each of {len(targets)} targets" if args.grid else ""
    what = "end-to-end DANN" if args.end_to_end else args.method
    print(
        f"{what}: {len(train_rows)} source images for training, {len(val_rows)} for validation, "
        f"{where}; {describe_device(device, args.precision)}{grid}",
        flush=True,
    )
    labeled = Source(
        load_inputs(source, train_rows, device, stream, args.precision),
        labels,
        load_inputs(source, val_rows, device, stream),
        val_labels,
        [source.index["video"][row] for row in val_rows],
    )

    for name, folder in targets.items():
        sample = draw_sample(drawn[name], SCORED, args.seed)
        target = Target(
            load_inputs(sets[folder], drawn[name], device, stream, args.precision),
            load_inputs(sets[folder], sample, device),
        )
        networks = train_on_target(name, folder, target, labeled, args.source, args, width, device)
        both = {"source": (source, train_rows), "target": (sets[folder], drawn[name])}
        show_embedding(args.out / name, networks, both, args, device)
        for test_name, test in (tests or {name: folder}).items():
            rows, index = scored[test], sets[test].index
            x = load_inputs(sets[test], rows, device, stream)
            logits = margin(predict_logits(networks[args.method], x, args, device))
            file = args.scores / f"{test_name}.csv"
            write_scores(file, index, rows, logits)
            value = percent(auc(index["label"][rows], logits))
            print(f"{file}: {len(rows)} images, AUC {value}", flush=True)


if __name__ == "__main__":
    run_script(main)

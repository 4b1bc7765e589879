#!/usr/bin/env python3
"""Stage 04: BP-DANN, adapt a classifier of source features to an unlabelled target set (FeatureTransfer 3.4, 3.5, 4.2).

    python 04_train_bpdann.py --source features/FF-DF --target features/Celeb-DF --target-fraction 0.1 \\
        --out runs/bpdann/FF-DF-to-Celeb-DF --scores scores/FT
    python 04_train_bpdann.py --method source-only --source features/FF-DF --target features/Celeb-DF \\
        --out runs/bpdann/FF-DF-only --scores scores/source-only

What comes out: OUT/model.pt (the last epoch: nothing is chosen on target data), last.pt, log.csv, args.json, and
SCORES/NAME.csv with P(fake) for all images of the target, and of each folder of --test.

Target labels are never used: not in a loss, not in the choice of images, epoch or setting. They are copied into the score
file, for stage 06. `--method source-only` is the same network and the same batches with lambda = 0.

Paper settings are the defaults. Deviations and choices (paper -> ours):

    activations         "BP structure" -> ReLU after each hidden layer of Gf and Gd
    lambda in equation 1  on the domain loss -> in the gradient reversal layer, so on Gf's part of the gradient alone;
                        Gd always learns at full rate (what "gradient reversal layer" of Figure 1 means)
    p of equation 4     "linearly from 0 to 1" -> step / (steps - 1): exactly 0 at the first step, 1 at the last
    an epoch            not said -> once through the source; the target is shuffled and repeated beside it
    10 % of a target    as many real as fake (4.2) -> drawn blindly: a balanced draw would look at target labels
    target images       "all images" -> the test split, where the target has splits (--target-split all for all)
"""
import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import (add_system_arguments, auc, choose_device, epoch_batches, fail, folder_names, load_checkpoint, percent, progress,
                    random_state, read_index, rows_of_split, save_checkpoint, set_random_state, start_run, write_scores,
                    write_table)


def lambda_at(p):
    """Equation 4 with c = 10: 0 at p = 0, 0.9999 at p = 1; p is the training progress, 0..1."""
    return 2 / (1 + math.exp(-10 * p)) - 1


class GradientReversal(torch.autograd.Function):
    """The identity forward; backward, the gradient times -lambda (FeatureTransfer, Figure 1)."""

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

    def forward(self, x):
        """(N, dimensions) -> (N, 2) label logits: real, fake."""
        return self.y(self.f(x))


def read_features(folder, one_label=False):
    """Features and index of a folder of stage 03: ((N, D) float32 memory map, index); ends the script if they do not fit."""
    index, path = read_index(folder, one_label), Path(folder) / "features.npy"
    if not path.exists():
        fail(f"{folder} holds no features.npy: run 03_extract_features.py on it first")
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read: {error}")
    if features.ndim != 2 or features.dtype != np.float32 or len(features) != len(index["path"]):
        fail(f"{path} has shape {features.shape} and type {features.dtype}; (N, D) float32 is needed, N = {len(index['path'])} as in index.csv")
    return features, index


def load(folder, rows, features, device):
    """The rows of a feature file on the device: (len(rows), D); ends the script at a value that is not finite."""
    x = torch.from_numpy(np.ascontiguousarray(features[rows])).to(device)
    if not bool(torch.isfinite(x).all()):
        fail(f"{folder / 'features.npy'} holds values that are not finite numbers: extract the features again")
    return x


@torch.inference_mode()
def score(model, x):
    """P(fake) of each row of x: (N,) float32 array."""
    model.eval()
    return torch.cat([model(part).softmax(1)[:, 1] for part in x.split(65536)]).cpu().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--source", type=Path, required=True, help="labelled features, a folder of stage 03; its train split is used")
    data.add_argument("--target", type=Path, required=True, help="features to adapt to, without their labels")
    data.add_argument("--target-split", choices=("train", "val", "test", "all"), default="test",
                      help="the target's images; test takes all images of a set without splits (default test)")
    data.add_argument("--target-fraction", type=float, default=1.0, metavar="SHARE",
                      help="share of the target images to adapt with, drawn by --seed, blind to labels; 0.1 in the paper for DFD, "
                           "DFDC-P and Celeb-DF (default 1); all are scored")
    data.add_argument("--test", type=Path, nargs="+", default=[], help="more feature folders whose test split to score")
    data.add_argument("--out", type=Path, required=True, help="folder of the run, e.g. runs/bpdann/FF-DF-to-Celeb-DF")
    data.add_argument("--scores", type=Path, required=True, help="folder for the scores, e.g. scores/FT")
    model_ = parser.add_argument_group("model")
    model_.add_argument("--method", choices=("bp-dann", "source-only"), default="bp-dann", help="source-only: lambda = 0 (default bp-dann)")
    model_.add_argument("--n1", type=int, default=512, help="width of Gf's first layer (default 512)")
    model_.add_argument("--n2", type=int, default=64, help="width of Gf's second layer and of Gd (default 64)")
    model_.add_argument("--dropout", type=float, default=0.5, help="p before Gy (default 0.5)")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=50, help="(default 50)")
    training.add_argument("--batch", type=int, default=128, help="features a step from each domain (default 128)")
    training.add_argument("--lr", type=float, default=1e-4, help="Adam's learning rate (default 1e-4)")
    add_system_arguments(parser, seed=True, device=True)
    args = parser.parse_args()
    if min(args.epochs, args.batch, args.n1, args.n2) < 1 or not 0 < args.target_fraction <= 1 or not 0 <= args.dropout < 1:
        fail("--epochs, --batch, --n1, --n2 must be 1 or more, --target-fraction above 0 and at most 1, --dropout 0 to below 1")

    # Data. Everything lies on the device; a batch is an index look-up.
    tests = folder_names([args.target, *args.test])
    source, source_index = read_features(args.source, one_label=True)
    target, target_index = read_features(args.target)
    for folder, features in [(args.target, target), *((folder, read_features(folder)[0]) for folder in args.test)]:
        if features.shape[1] != source.shape[1]:
            fail(f"{folder} has {features.shape[1]} features an image, {args.source} has {source.shape[1]}: use one extractor for both")
    source_rows, val_rows = (rows_of_split(source_index, split, args.source) for split in ("train", "val"))
    target_rows = rows_of_split(target_index, args.target_split, args.target)
    drawn = np.random.default_rng((args.seed, 1)).permutation(len(target_rows))[:max(1, round(args.target_fraction * len(target_rows)))]
    device = choose_device(args.device)
    # args.json of a feature folder holds the hashes of its checkpoint and faces, and is read faster than gigabytes of features.
    inputs = sorted({folder / name for folder in (args.source, *tests.values())
                     for name in ("index.csv", "args.json" if (folder / "args.json").exists() else "features.npy")})
    start_run(args.out, args, inputs=inputs, free=("out", "device", "scores"))
    xs, ys = load(args.source, source_rows, source, device), torch.from_numpy(source_index["label"][source_rows]).to(device)
    xv = load(args.source, val_rows, source, device)
    xt = load(args.target, target_rows[np.sort(drawn)], target, device)   # and no yt
    if ys.min() == ys.max():
        fail(f"the train split of {args.source} has only one class: real and fake images are needed")

    torch.manual_seed(args.seed)
    kwargs = dict(dimensions=source.shape[1], n1=args.n1, n2=args.n2, dropout=args.dropout)
    model = BPDANN(**kwargs).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    steps = len(epoch_batches(len(xs), args.batch, args.seed, 0))
    state = content = dict(epoch=0, step=0, log=[])
    last = args.out / "last.pt"
    if last.exists():
        state = content = load_checkpoint(last, "04")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        set_random_state(state["random"])
    print(f"{args.method}: {len(xs)} source and {len(xt)} of {len(target_rows)} target images, {source.shape[1]} features, "
          f"{(xs.nbytes + xt.nbytes + xv.nbytes) / 1e6:.0f} MB on {device}; {sum(p.numel() for p in model.parameters())} parameters; "
          f"{args.epochs} epochs of {steps} steps, {min(args.batch, len(xs))} images of each domain a step", flush=True)

    run = {k: str(v) for k, v in vars(args).items() if k not in ("out", "scores", "device")}
    run["features_args"] = (args.source / "args.json").read_text() if (args.source / "args.json").exists() else ""
    columns = ("epoch", "step", "lambda", "label_loss", "domain_loss", "domain_accuracy", "source_val_auc")
    start, first, total = time.perf_counter(), state["epoch"], args.epochs * steps
    for epoch in progress(range(first, args.epochs), total=args.epochs, initial=first, desc=args.method, unit="epoch"):
        model.train()
        # The order of both domains depends on seed and epoch alone, so that a resumed run sees the same batches.
        batches = torch.tensor(epoch_batches(len(xs), args.batch, args.seed, epoch), device=device)
        again = -(-batches.numel() // len(xt))
        order = torch.cat([torch.from_numpy(np.random.default_rng((args.seed, epoch, k)).permutation(len(xt))) for k in range(again)])
        partners = order[:batches.numel()].view_as(batches).to(device)
        sums = torch.zeros(3, device=device)
        for rows, partner in zip(batches, partners):
            weight = lambda_at(state["step"] / max(1, total - 1)) if args.method == "bp-dann" else 0.0
            x, n = torch.cat([xs[rows], xt[partner]]), len(rows)
            domain = torch.cat([torch.zeros_like(rows), torch.ones_like(partner)])        # d = 0 source, 1 target (3.2)
            f = model.f(x)
            label_loss = F.cross_entropy(model.y(f[:n]), ys[rows])                        # equation 1, first sum
            logits = model.d(GradientReversal.apply(f, weight))
            domain_loss = F.cross_entropy(logits, domain)                                 # equation 1, second sum
            optimizer.zero_grad()
            (label_loss + domain_loss).backward()
            optimizer.step()
            state["step"] += 1
            sums += torch.stack([label_loss.detach(), domain_loss.detach(), (logits.argmax(1) == domain).float().mean()])
        values = (sums / steps).tolist()
        if not all(map(math.isfinite, values)):
            fail(f"a loss is not finite in epoch {epoch + 1} (label {values[0]}, domain {values[1]}): lower --lr; {last} is the last good state")
        value = auc(source_index["label"][val_rows], score(model, xv)) if len(xv) else float("nan")
        state["log"].append([epoch + 1, state["step"], *(round(v, 6) for v in (weight, *values, value))])
        state["epoch"] = epoch + 1
        content = dict(stage="04", model=model.state_dict(), optimizer=optimizer.state_dict(), random=random_state(), kwargs=kwargs,
                       args=run, epoch=state["epoch"], step=state["step"], log=state["log"])
        save_checkpoint(last, **content)
    if first < args.epochs:
        seconds = time.perf_counter() - start
        print(f"{(args.epochs - first) * steps} steps in {seconds:.1f} s, "
              f"{2 * batches.numel() * (args.epochs - first) / seconds:.0f} images a second")
    save_checkpoint(args.out / "model.pt", **content)
    write_table(args.out / "log.csv", columns, state["log"])
    final = dict(zip(columns, state["log"][-1]))
    print(f"last epoch: label loss {final['label_loss']:.4f}, domain loss {final['domain_loss']:.4f} (not told apart: {math.log(2):.4f}), "
          f"domain accuracy {percent(final['domain_accuracy'])}, AUC on the source's validation split {percent(final['source_val_auc'])}")

    for name, folder in tests.items():
        features, index = read_features(folder)
        rows = rows_of_split(index, args.target_split if folder == args.target else "test", folder)
        scores = score(model, load(folder, rows, features, device))
        write_scores(args.scores / f"{name}.csv", index, rows, scores)
        print(f"{args.scores / (name + '.csv')}: {len(rows)} images, AUC {percent(auc(index['label'][rows], scores))}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")

#!/usr/bin/env python3
"""Why does CLRNet not begin to learn? What its first steps look like, and what changes them.

    python recipes/clrnet_start.py --faces faces/FS --steps 150 --seeds 0 1 2 3 4

Reads clips of stage 01, and prints two Markdown tables, means over the seeds of initial weights:

    At the start   of one batch in training mode: how much the pooled features, behind the head's
                   batch norm, and the logit differ between samples (standard deviation over the
                   batch, mean over the features), and the norm of the gradient of each part of the
                   network over the norm of its weights, in thousandths
    After STEPS    the training loss (mean of the last 20 steps; chance is 0.693), how often it has
                   begun to learn (below 0.6), and the AUC on the val split, with the stored
                   statistics of batch norm, as 05 scores, and with those of the validation clips

The steps are those of 05: its initial weights, augmentation, loss and optimizer. Each line changes
one thing of the first; the network and 05's defaults stay as they are. It is an experiment of
docs/experiments.md, on few videos and with few filters.
"""

import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import Parser, margin, progress  # noqa: E402
from networks.clrnet import ConvLSTM  # noqa: E402
from reporting.metrics import auc  # noqa: E402
from reporting.tables import markdown_table  # noqa: E402
from running.loading import Faces, as_clips, load_batches, read_clips  # noqa: E402

stage = import_module("05_train_clrnet")
NETWORK = dict(filters=8, repetitions=(2,), image_size=64)
TRAINING = dict(lr=2e-3, batch=8, l2=1e-4, dropout=0.25, augment=False, warm_up=0)
VARIATIONS = {
    "the first line": {},
    "Adam 5e-5, the authors' rate": dict(lr=5e-5),
    "Adam 5e-4": dict(lr=5e-4),
    "batch 16": dict(batch=16),
    "no L2": dict(l2=0.0),
    "no dropout": dict(dropout=0.0),
    "augmentation": dict(augment=True),
    "warm-up over 50 steps": dict(warm_up=50),
    "input and output gates open": dict(open_gates=True),
    "batch norm of pooled features": dict(norm_pooled=True),
}
# Too slow to train here, and only looked at.
FULL_DEPTH = dict(repetitions=(3, 4, 6, 3))


def build(seed, repetitions=(2,), dropout=0.25, open_gates=False, norm_pooled=False, **others):
    """A CLRNet with 05's initial weights and what a variation changes."""
    torch.manual_seed(seed)
    model = stage.CLRNet(**NETWORK | dict(repetitions=repetitions))
    stage.initialize(model)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = dropout
        if isinstance(layer, ConvLSTM) and open_gates:
            # hard_sigmoid(2) is 0.9: of the gates i, f, c, o the first and the last.
            filters = len(layer.input.bias) // 4
            layer.input.bias.data[:filters] = layer.input.bias.data[-filters:] = 2
    if norm_pooled:
        norm = nn.BatchNorm1d(model.head.in_features, eps=1e-3, momentum=0.01)
        model.norm_pooled, pool = norm, model.features
        model.features = lambda x: norm(pool(x))
    return model


def read(folder, split, size):
    """The clips of a split, uint8 (N, T, 3, S, S), and their labels (N,)."""
    clips = read_clips(folder, split)
    batches = [[k] for k in range(len(clips.items))]
    images = list(load_batches(Faces(clips.items, size), batches, 0))
    return torch.cat(images), torch.from_numpy(clips.labels)


def loss_of(model, clips, labels):
    return stage.weighted_loss(model, model(clips), labels, torch.ones(2))


def look_at_start(model, clips, labels):
    """The columns of the first table of one network, for one batch."""
    model.train()
    with torch.no_grad():
        spread = model.features(clips).std(0).mean().item()
        logits = model(clips)
        logit_spread = (logits[:, 1] - logits[:, 0]).std().item()
    loss_of(model, clips, labels).backward()
    parts = dict(stem=model.stem, first=model.stages[0][0], last=model.stages[-1][-1])
    ratios = []
    for part in (*parts.values(), model.head):
        weights = [p for p in part.parameters() if p.ndim > 1]
        gradient = torch.stack([p.grad.norm() for p in weights]).norm()
        ratios.append(1000 * (gradient / torch.stack([p.norm() for p in weights]).norm()).item())
    return [spread, logit_spread, *ratios]


def train(seed, train_set, val_set, steps, **variation):
    """Train as 05 does: [loss at the end, AUC with stored statistics, AUC with the val split's]."""
    settings = TRAINING | variation
    model = build(seed, **settings)
    optimizer = stage.make_optimizer(model, settings["lr"], settings["l2"])
    (clips, labels), rng = train_set, np.random.default_rng(seed)
    size = min(settings["batch"], len(clips))
    per_epoch = len(clips) // size
    # An incomplete last batch is left out.
    epochs = [
        rng.permutation(len(clips))[: per_epoch * size] for _ in range(-(-steps // per_epoch))
    ]
    losses = []
    for step, rows in enumerate(torch.from_numpy(np.concatenate(epochs)).split(size)[:steps]):
        batch = as_clips(clips[rows])
        if settings["augment"]:
            batch = stage.augment(batch, torch.rand(len(batch), 5))
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * min(1, (step + 1) / (settings["warm_up"] or 1))
        model.train()
        optimizer.zero_grad()
        loss = loss_of(model, batch, labels[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    clips, labels = val_set
    values = [float(np.mean(losses[-20:]))]
    for use_stored in (True, False):
        model.eval()
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.train(not use_stored)
        with torch.no_grad():
            values.append(auc(labels.numpy(), margin(model(as_clips(clips)))))
    return values


def main():
    parser = Parser(__doc__)
    parser.add_argument("--faces", type=Path, required=True, metavar="DIR", help="clips of 01")
    parser.add_argument("--steps", type=int, default=150, metavar="N", help="(default 150)")
    text = "of initial weights and batches (default 0 to 4)"
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), help=text)
    args = parser.parse_args()
    sets = [read(args.faces, split, NETWORK["image_size"]) for split in ("train", "val")]

    rows = [["at the start", "features", "logit", "stem", "first block", "last block", "head"]]
    (clips, labels), names = (
        sets[0],
        ("input and output gates open", "batch norm of pooled features"),
    )
    looks = {"the first line": {}} | {name: VARIATIONS[name] for name in names}
    for name, variation in (looks | {"four stages (3 4 6 3)": FULL_DEPTH}).items():
        values = []
        for seed in args.seeds:
            some = torch.from_numpy(np.random.default_rng(seed).permutation(len(clips))[:16])
            model = build(seed, **TRAINING | variation)
            values.append(look_at_start(model, as_clips(clips[some]), labels[some]))
        rows.append([name, *(f"{value:.3g}" for value in np.mean(values, 0))])
    print("\n".join([*markdown_table(rows), ""]), flush=True)

    head = [f"after {args.steps} steps", "loss", "begun", "AUC, stored", "AUC, of the clips"]
    rows = [head]
    for name, variation in progress(VARIATIONS.items(), desc="variations"):
        run = partial(train, train_set=sets[0], val_set=sets[1], steps=args.steps)
        values = np.array([run(seed, **variation) for seed in args.seeds])
        loss, stored, of_clips = values.mean(0)
        begun = f"{(values[:, 0] < 0.6).sum()} of {len(values)}"
        rows.append([name, f"{loss:.3f}", begun, f"{100 * stored:.0f}", f"{100 * of_clips:.0f}"])
        print(f"{rows[-1]}: losses {np.round(values[:, 0], 3).tolist()}", file=sys.stderr)
    print("\n".join(markdown_table(rows)))


if __name__ == "__main__":
    main()

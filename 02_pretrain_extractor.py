#!/usr/bin/env python3
"""Stage 02: train the feature extractor on a large labeled set (FeatureTransfer 3.3, 4.2).

    python 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor        # wants a GPU
    python 02_pretrain_extractor.py --faces faces/X --arch resnet18 --weights none \\
        --image-size 96 --batch 32 --epochs 3 --out runs/small           # minutes on a CPU

It writes to OUT:

    model.pt    the epoch with the highest AUC on the validation split; the last one without a split
    last.pt     the last state, from which the same command resumes
    log.csv     epoch, step, train_loss, val_auc: one row per epoch
    args.json   all flags, and the hashes of the inputs

The defaults are the paper's: se_resnext101_32x4d from ImageNet weights, batch 128, 10 epochs, Adam
with learning rate 2e-3 and weight decay 4e-5.

Deviations and choices (paper -> this script):

    learning rate   "initial" 2e-3, no schedule given -> constant 2e-3
    which epoch     not given -> highest validation AUC; the test split is never used
    augmentation    not given -> horizontal flip with probability 0.5
    image size      not given -> the network's own (se_resnext101_32x4d: 224)
    head            not given -> one linear layer on the pooled features
    last batch      not given -> left out if incomplete
    precision       not given -> --precision: bfloat16 on GPUs and CPUs that have it (1.6 times as
                    fast on a CPU), float32 elsewhere; validation in float32 (TF32 on such a GPU)
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common import RANK, Parser, add_system_flags, fail, margin, read_index, rows_of_split
from networks.extractor import Extractor
from networks.weights import load_weights
from reporting.metrics import auc, validate
from running.devices import (
    autocast,
    choose_device,
    choose_precision,
    describe_device,
    distribute,
)
from running.folder import describe_data, flags_of, start_run
from running.loading import Faces, predict
from running.processes import run_script
from running.run import Run, is_complete, seed_of

# Flags that may change when a run is resumed.
RUNTIME_FLAGS = ("out", "workers", "device")


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument_group("data").add_argument
    text = "a face folder of stage 01 with a train split and, better, a val split"
    add("--faces", type=Path, required=True, metavar="DIR", help=text)
    text = "folder of the run, e.g. runs/extractor"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    add = parser.add_argument_group("model").add_argument
    text = "any network of pretrainedmodels (default se_resnext101_32x4d)"
    add("--arch", default="se_resnext101_32x4d", metavar="NAME", help=text)
    text = "initial weights (default imagenet)"
    add("--weights", default="imagenet", metavar="imagenet|none|FILE", help=text)
    text = "side of the input (default: the network's own)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    add = parser.add_argument_group("training").add_argument
    text = "passes over the training images (default 10)"
    add("--epochs", type=int, default=10, metavar="N", help=text)
    text = (
        "images per step (default 128). What fits on a GPU, counted for the default network and "
        "size: 16 GB: 112 in bf16, 56 in fp32 or tf32; 24 GB: 176 and 96; 40 GB: 320 and 160; "
        "80 GB: 640 and 320"
    )
    add("--batch", type=int, default=128, metavar="N", help=text)
    text = "Adam's learning rate (default 2e-3)"
    add("--lr", type=float, default=2e-3, metavar="RATE", help=text)
    text = "Adam's L2 penalty on all weights (default 4e-5)"
    add("--weight-decay", type=float, default=4e-5, metavar="RATE", help=text)
    add("--max-steps", type=int, metavar="N", help="stop after N steps, for a trial")
    add_system_flags(
        parser, workers="processes that load images", seed=True, device=True, precision="auto"
    )
    args = parser.parse_args()
    numbers = (args.epochs, args.batch, args.max_steps, args.image_size)
    if any(n is not None and n < 1 for n in numbers):
        fail("--epochs, --batch, --image-size and --max-steps must be 1 or more")
    if not (args.lr > 0 and args.weight_decay >= 0):
        fail("--lr must be above 0, --weight-decay 0 or more")
    return args


def flip(images, draws):
    """Flip uint8 images (N, 3, S, S) horizontally where a draw (N, 1) in 0..1 is below 0.5.

    Both are on one device.
    """
    return torch.where(draws.view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


def main():
    args = parse_args()

    # Data. Images are read again in every epoch, so their number is not bounded by memory.
    index = read_index(args.faces)
    train_rows = rows_of_split(index, "train", args.faces)
    val_rows = rows_of_split(index, "val", args.faces, required=False)
    labels = torch.from_numpy(index["label"][train_rows])
    val_labels = index["label"][val_rows]
    val_videos = [index["video"][row] for row in val_rows]
    if len(labels.unique()) < 2:
        fail(f"the train split of {args.faces} has only one class: add real and fake videos")

    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    torch.manual_seed(args.seed)
    try:
        model = Extractor(args.arch, args.image_size)
    except ValueError as error:
        fail(error)
    train = Faces([index["path"][row] for row in train_rows], model.image_size, args.faces)
    val = Faces([index["path"][row] for row in val_rows], model.image_size, args.faces)
    inputs = [args.faces / "index.csv"]
    start_run(args.out, args, inputs, RUNTIME_FLAGS, is_complete(args.out, args))
    if not (args.out / "last.pt").exists() and RANK == 0:
        load_weights(model, args.arch, args.weights)
    model.to(device)
    # FeatureTransfer 4.2.
    optimizer = torch.optim.Adam(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True
    )

    content = dict(
        kwargs=dict(arch=args.arch, image_size=model.image_size),
        args=flags_of(args, RUNTIME_FLAGS),
        data=[describe_data(args.faces, "trained on")],
    )
    run = Run(args.out, "02", args, model, optimizer, len(train), content, keep="best")
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"{args.arch} at {model.image_size} pixels: {parameters:.1f} million parameters, "
        f"{model.dimensions} features; from {args.weights}\n"
        f"{len(train)} training images ({int(labels.sum())} fake), {len(val)} for validation; "
        f"{args.epochs} epochs of {run.per_epoch} steps of {run.size} images; "
        f"{describe_device(device, args.precision)}, {args.workers} loading processes"
        f"{run.share_text()}",
        flush=True,
    )
    if not len(val):
        print(f"{args.faces} has no val split: model.pt will be the last epoch")

    example = torch.zeros(1, 3, model.image_size, model.image_size, dtype=torch.uint8)
    net = distribute(model, device, example)
    for epoch in run.epochs():
        net.train()
        # An incomplete last batch is left out: batch norm would weigh its few images too much.
        order = np.random.default_rng((args.seed, epoch)).permutation(len(train))
        order = order[: run.per_epoch * run.size].reshape(-1, run.size)
        for images, y, draws in run.batches(train, labels, order, device, args.workers, draws=1):
            # Dropout, which some networks have, draws from this seed.
            torch.manual_seed(seed_of(args.seed, run.step, 1 + RANK))
            images = flip(images, draws)
            optimizer.zero_grad()
            with autocast(device, args.precision):
                loss = F.cross_entropy(net(images), y)
            loss.backward()
            optimizer.step()
            run.record(loss)
        model.eval()
        logits = margin(predict(model, val, args.batch, args.workers, device, "validation"))
        validation = validate(val_videos, val_labels, logits)
        # model.pt becomes this epoch if its AUC is the highest so far.
        run.end_epoch(validation, val_auc=auc(val_labels, logits))
    run.finish()
    print(f"done: {args.out / 'model.pt'}")


if __name__ == "__main__":
    run_script(main)

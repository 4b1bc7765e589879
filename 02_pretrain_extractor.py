#!/usr/bin/env python3
"""Stage 02: train the feature extractor, a CNN with a real/fake head, on a large labelled set (FeatureTransfer 3.3, 4.2).

    python 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor                       # the paper; wants a GPU
    python 02_pretrain_extractor.py --faces faces/X --arch resnet18 --weights none --image-size 96 \\
        --batch 32 --epochs 3 --out runs/small                                                      # minutes on a CPU

What comes out, in OUT:

    model.pt    the epoch with the highest AUC on the validation split (the last epoch where there is no such split)
    last.pt     the last state, from which the same command goes on after a kill
    log.csv     epoch, steps, mean training loss, validation AUC
    args.json   all flags, and the hashes of what was read

Paper settings are the defaults: se_resnext101_32x4d from ImageNet weights, batch 128, 10 epochs, Adam, learning rate 2e-3,
weight decay 4e-5. Deviations and choices (paper -> ours):

    learning rate       "initial" 2e-3, no schedule given -> constant 2e-3
    which epoch         not said -> highest validation AUC, never the test split
    augmentation        not said -> horizontal flip, probability 0.5
    image size          not said -> the network's own (se_resnext101_32x4d: 224)
    head                not said -> one linear layer on the pooled features
    last batch          not said -> left out where incomplete
    precision           not said -> --precision: bfloat16 products where the CPU has them (1.6 times as fast), float32 elsewhere
"""

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common import (
    RANK,
    WORLD_SIZE,
    Parser,
    add_system_arguments,
    autocast,
    choose_device,
    choose_precision,
    fail,
    margin,
    percent,
    progress,
    read_index,
    rows_of_split,
    write_table,
)
from networks.extractor import Extractor, load_weights
from reporting.metrics import auc, validate
from running.distributed import distribute, gather
from running.folder import describe_data, start_run
from running.script import run_script
from training.checkpoints import save_checkpoint
from training.loading import Faces, epoch_batches, load_batches
from training.run import LOOK, random_state, resume, take_losses


@torch.no_grad()
def score(model, faces, batch, workers, device, what="validation"):
    """The logit of fake minus real of every item of a `Faces` data set, computed in fp32: (N,) float64 array. Of several processes each computes its share."""
    model.eval()
    mine = list(range(RANK, len(faces), WORLD_SIZE))
    batches = [mine[k : k + batch] for k in range(0, len(mine), batch)]
    loader = progress(
        load_batches(faces, batches, workers), total=len(batches), desc=what, unit="batch"
    )
    parts = [margin(model(images.to(device)).float().cpu()).numpy() for images in loader]
    return gather(np.concatenate(parts) if parts else np.zeros(0), len(faces))


def main():
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--faces",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder of stage 01 with a train and, better, a val split",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run, e.g. runs/extractor",
    )
    model_ = parser.add_argument_group("model")
    model_.add_argument(
        "--arch",
        default="se_resnext101_32x4d",
        metavar="NAME",
        help="any network of pretrainedmodels (default se_resnext101_32x4d)",
    )
    model_.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="where to start from (default imagenet)",
    )
    model_.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the input (default: the network's own)",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=int,
        default=10,
        metavar="N",
        help="passes over the training images (default 10)",
    )
    training.add_argument(
        "--batch",
        type=int,
        default=128,
        metavar="N",
        help="images a step (default 128; 2 hold 1 GB in se_resnext101_32x4d)",
    )
    training.add_argument(
        "--lr", type=float, default=2e-3, metavar="RATE", help="Adam's learning rate (default 2e-3)"
    )
    training.add_argument(
        "--weight-decay",
        type=float,
        default=4e-5,
        metavar="RATE",
        help="Adam's L2 on all weights (default 4e-5)",
    )
    training.add_argument(
        "--max-steps", type=int, metavar="N", help="end after N steps, for a trial"
    )
    training.add_argument(
        "--save-every",
        type=int,
        default=1000,
        metavar="N",
        help="steps between saves of last.pt inside an epoch (default 1000; every epoch saves too)",
    )
    add_system_arguments(
        parser, workers="processes that load images", seed=True, device=True, precision="auto"
    )
    args = parser.parse_args()
    if (
        min(args.epochs, args.batch, args.save_every, args.max_steps or 1, args.image_size or 1) < 1
        or args.workers < 0
    ):
        fail("--epochs, --batch, --image-size, --max-steps and --save-every must be 1 or more")
    if args.batch < WORLD_SIZE:
        fail(
            f"--batch {args.batch} is the joint batch of {WORLD_SIZE} processes: give each an image"
        )

    # Data. Images are read again in every epoch, so their number is not bounded by memory.
    index = read_index(args.faces)
    train_rows, val_rows = (rows_of_split(index, split, args.faces) for split in ("train", "val"))
    labels = torch.from_numpy(index["label"])
    if len(set(labels[train_rows].tolist())) < 2:
        fail(f"the train split of {args.faces} has only one class: real and fake faces are needed")
    if len(train_rows) < WORLD_SIZE:
        fail(
            f"{len(train_rows)} training images are too few for {WORLD_SIZE} processes: start fewer"
        )
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    torch.manual_seed(args.seed)
    try:
        model = Extractor(args.arch, args.image_size)
    except ValueError as error:
        fail(error)
    train, val = (
        Faces([index["path"][r] for r in rows], model.image_size, args.faces)
        for rows in (train_rows, val_rows)
    )
    start_run(
        args.out,
        args,
        inputs=[args.faces / "index.csv"],
        free=("out", "workers", "device", "save_every"),
    )

    last = args.out / "last.pt"
    if not last.exists() and RANK == 0:  # the others get the first one's
        load_weights(model, args.arch, args.weights)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    state = resume(
        model,
        optimizer,
        dict(
            epoch=0, batch=0, step=0, loss=0.0, best=-1.0, validation=None, log=[], finished=False
        ),
        last,
        "02",
    )
    state["finished"] = state["epoch"] >= args.epochs or state["step"] >= (
        args.max_steps or math.inf
    )  # --go-on may ask for more or for less
    per_epoch = len(epoch_batches(len(train), args.batch, args.seed, 0))
    print(
        f"{args.arch} at {model.image_size} pixels: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, "
        f"{model.dimensions} features; from {args.weights}\n"
        f"{len(train)} training images ({int(labels[train_rows].sum())} fake), {len(val)} for validation; {args.epochs} epochs of "
        f"{per_epoch} steps of {min(args.batch, len(train))} images; device {device}, {args.precision}, {args.workers} loading processes"
        + (
            f"; {WORLD_SIZE} processes, {min(args.batch, len(train)) / WORLD_SIZE:.3g} images a step each"
            if WORLD_SIZE > 1
            else ""
        ),
        flush=True,
    )
    if not len(val):
        print(f"{args.faces} has no val split: model.pt will be the last epoch")
    if state["finished"]:
        print(f"this run is finished: {args.out / 'model.pt'}")
        return

    def save(name):
        save_checkpoint(
            args.out / name,
            stage="02",
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            random=random_state(),
            kwargs=dict(arch=args.arch, image_size=model.image_size),
            args=run,
            data=describe_data(args.faces, "trained on"),
            **state,
        )

    net = distribute(
        model, device, torch.zeros(1, 3, model.image_size, model.image_size, dtype=torch.uint8)
    )
    run = {
        k: str(v) if isinstance(v, Path) else v
        for k, v in vars(args).items()
        if k not in ("workers", "device", "out", "save_every", "go_on")
    }
    while state["epoch"] < args.epochs and not state["finished"]:
        net.train()
        batches = epoch_batches(len(train), args.batch, args.seed, state["epoch"])[state["batch"] :]
        bar = progress(
            total=per_epoch,
            initial=state["batch"],
            desc=f"epoch {state['epoch'] + 1}",
            unit="step",
            iterable=None,
        )
        start = time.perf_counter()
        waited, mark, done, losses = 0.0, start, 0, []
        own = [batch[RANK::WORLD_SIZE] for batch in batches]  # this process's images of each
        for batch, mine, images in zip(
            batches, own, load_batches(train, own, args.workers, pin=device.type == "cuda")
        ):
            waited += time.perf_counter() - mark
            # Flips depend on seed and step alone, so that a resumed run draws the same, and several processes what one would.
            draw = args.seed * 1_000_003 + state["step"]
            flip = (
                torch.rand(len(batch), generator=torch.Generator().manual_seed(draw))[
                    RANK::WORLD_SIZE
                ]
                < 0.5
            )
            if WORLD_SIZE > 1:
                torch.manual_seed(draw * WORLD_SIZE + RANK)  # dropout's
            images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images).to(
                device, non_blocking=True
            )
            optimizer.zero_grad()
            with autocast(device, args.precision):
                loss = F.cross_entropy(net(images), labels[train_rows[mine]].to(device))
            loss = loss * (
                len(mine) * WORLD_SIZE / len(batch)
            )  # so that the mean over processes is that over the joint batch
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            state.update(batch=state["batch"] + 1, step=state["step"] + 1)
            bar.update()
            done += len(batch)
            ends = state["step"] >= (args.max_steps or math.inf)
            if (
                ends
                or state["step"] % LOOK.get(device.type, 50) == 0
                or state["step"] % args.save_every == 0
                or state["batch"] == per_epoch
            ):
                for value in take_losses(losses, state["step"], per_epoch, last):
                    state["loss"] += value
                bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            if ends:
                break
            if state["step"] % args.save_every == 0:
                save("last.pt")
            mark = time.perf_counter()
        seconds = time.perf_counter() - start
        bar.close()

        scores = score(model, val, args.batch, args.workers, device) if len(val) else []
        value = auc(index["label"][val_rows], scores) if len(val) else float("nan")
        mean = state["loss"] / state["batch"]
        better = not len(val) or np.isnan(value) or value > state["best"]
        checked = (
            f"validation AUC {percent(value)}{', the best' if better else ''}"
            if len(val)
            else "no validation"
        )
        print(
            f"epoch {state['epoch'] + 1}: loss {mean:.4f}, {checked}; "
            f"{done / seconds:.1f} images a second, {100 * waited / seconds:.0f} % of the time waiting for data",
            flush=True,
        )
        state["log"] = [
            row for row in state["log"] if row[0] <= state["epoch"]
        ]  # without this epoch's, if --max-steps had ended the run in it
        state["log"].append([state["epoch"] + 1, state["step"], round(mean, 6), round(value, 6)])
        state.update(
            validation=validate(
                [index["video"][r] for r in val_rows], index["label"][val_rows], scores
            ),
            best=max(state["best"], value) if value == value else state["best"],
        )
        if state["batch"] == per_epoch:  # not so where --max-steps ends the run inside the epoch
            state.update(epoch=state["epoch"] + 1, batch=0, loss=0.0)
        state["finished"] = state["epoch"] == args.epochs or state["step"] >= (
            args.max_steps or math.inf
        )
        write_table(args.out / "log.csv", ("epoch", "step", "train_loss", "val_auc"), state["log"])
        if better:
            save("model.pt")
        save("last.pt")
    print(f"done: {args.out / 'model.pt'}")


if __name__ == "__main__":
    run_script(main)

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
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import (
    LOOK,
    RANK,
    WORLD,
    Faces,
    Parser,
    add_system_arguments,
    auc,
    autocast,
    choose_device,
    choose_precision,
    describe_data,
    epoch_batches,
    fail,
    load_batches,
    margin,
    percent,
    progress,
    random_state,
    read_index,
    rows_of_split,
    run_script,
    save_checkpoint,
    start_run,
    take_losses,
    take_up,
    validate,
    write_table,
)
from running.distributed import gather, over_all

# A second copy of these weights for the same module names (other bytes, other hash), for when the first host is down.
MIRRORS = {
    "se_resnext101_32x4d": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
    "legacy_se_resnext101_32x4d-37725eac.pth"
}


class Extractor(nn.Module):
    """A network of pretrainedmodels without its classifier, pooled to one vector, and a linear layer to real, fake.

    It carries its preprocessing: input is uint8 RGB (N, 3, image_size, image_size), straight from an image file.

    Args: arch, a name of pretrainedmodels; image_size in pixels, None for the network's own.
    Raises ValueError for an unknown name or a size that the network cannot take.
    """

    def __init__(self, arch, image_size=None):
        super().__init__()
        import pretrainedmodels

        if arch not in pretrainedmodels.model_names:
            raise ValueError(
                f"pretrainedmodels has no network {arch}; it has: {', '.join(sorted(pretrainedmodels.model_names))}"
            )
        with warnings.catch_warnings():  # torchvision's, about how pretrainedmodels calls it
            warnings.simplefilter("ignore")
            self.backbone = pretrainedmodels.__dict__[arch](num_classes=1000, pretrained=None)
        if hasattr(
            self.backbone, "last_linear"
        ):  # squeezenets have another classifier, and keep it
            del self.backbone.last_linear
        options = pretrainedmodels.pretrained_settings[arch]
        settings = options.get("imagenet") or next(iter(options.values()))
        self.image_size = image_size or settings["input_size"][-1]
        self.bgr, self.top = settings["input_space"] == "BGR", float(settings["input_range"][1])
        self.register_buffer("mean", torch.tensor(settings["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings["std"]).view(3, 1, 1), persistent=False)
        # Channels innermost in memory: 1.1 to 1.3 times as fast on a CPU (bench/02_train.py). Some networks (vgg) cannot have it.
        for self.memory in (torch.channels_last, torch.contiguous_format):
            try:
                with torch.no_grad():
                    self.dimensions = (
                        self.eval()
                        .features(torch.zeros(1, 3, self.image_size, self.image_size))
                        .shape[1]
                    )
                break
            except (RuntimeError, ValueError, AttributeError) as error:
                reason = error
        else:
            raise ValueError(
                f"{arch} cannot take images of {self.image_size} pixels ({str(reason).splitlines()[0]}); "
                f"its own size is {settings['input_size'][-1]}"
            ) from reason
        self.head = nn.Linear(self.dimensions, 2)
        self.to(memory_format=self.memory).train()

    def features(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, D) pooled features (2048 for se_resnext101_32x4d)."""
        x = images.float() * (self.top / 255)
        x = (((x.flip(1) if self.bgr else x) - self.mean) / self.std).contiguous(
            memory_format=self.memory
        )
        # Some networks (xception, densenets, nasnets) have their last ReLU after `features`; for the others it does nothing.
        x = F.relu(self.backbone.features(x))
        return x.mean((2, 3)) if x.ndim == 4 else x

    def forward(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, 2) logits: real, fake."""
        return self.head(self.features(images))


def load_backbone(model, state, origin):
    """Load a network's own weights (a state dict without or with its classifier) into `model.backbone`, strictly."""
    state = (
        {k.removeprefix("module."): v for k, v in state.items()} if isinstance(state, dict) else {}
    )
    expected = model.backbone.state_dict()
    state = {
        k: v
        for k, v in state.items()
        if k in expected or k.split(".")[0] not in ("last_linear", "fc", "classifier", "AuxLogits")
    }
    if "num_batches_tracked" not in "".join(state):  # weights saved before torch 0.4.1
        state |= {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    wrong = [
        k
        for k in expected.keys() | state.keys()
        if getattr(state.get(k), "shape", None) != getattr(expected.get(k), "shape", 0)
    ]
    if wrong:
        raise ValueError(
            f"{origin} does not fit: {len(wrong)} of {len(expected)} arrays are missing, of another shape or "
            f"unknown, {min(wrong)} among them"
        )
    model.backbone.load_state_dict(state)


def load_weights(model, arch, weights):
    """Start the backbone from `weights`: "imagenet" (downloaded once into torch's cache), "none", or a file."""
    import pickle
    import socket

    import pretrainedmodels

    if weights == "none":
        return
    if weights != "imagenet":
        try:
            load_backbone(
                model, torch.load(weights, map_location="cpu", weights_only=True), weights
            )
        except FileNotFoundError:
            fail(f"--weights {weights}: no such file (imagenet, none or a file can be given)")
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            fail(f"--weights {weights}: {str(error).splitlines()[0]}")
        return
    urls = [
        options["url"]
        for name, options in pretrainedmodels.pretrained_settings[arch].items()
        if name == "imagenet"
    ]
    urls += [MIRRORS[arch]] if arch in MIRRORS else []
    reasons = []
    socket.setdefaulttimeout(30)  # seconds; a firewall that swallows packets
    for url in urls:
        try:
            print(f"ImageNet weights: {url}", flush=True)
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True
            )
            return load_backbone(model, state, url)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
    fail(
        f"no ImageNet weights for {arch} ({'; '.join(reasons) or 'no address known'}). Three ways: a network connection; "
        f"--weights FILE with {urls[0].split('/')[-1] if urls else 'a state dict'} from another machine; --weights none"
    )


@torch.no_grad()
def score(model, faces, batch, workers, device, what="validation"):
    """The logit of fake minus real of every item of a `Faces` data set, computed in fp32: (N,) float64 array. Of several processes each computes its share."""
    model.eval()
    mine = list(range(RANK, len(faces), WORLD))
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
    if args.batch < WORLD:
        fail(f"--batch {args.batch} is the joint batch of {WORLD} processes: give each an image")

    # Data. Images are read again in every epoch, so their number is not bounded by memory.
    index = read_index(args.faces)
    train_rows, val_rows = (rows_of_split(index, split, args.faces) for split in ("train", "val"))
    labels = torch.from_numpy(index["label"])
    if len(set(labels[train_rows].tolist())) < 2:
        fail(f"the train split of {args.faces} has only one class: real and fake faces are needed")
    if len(train_rows) < WORLD:
        fail(f"{len(train_rows)} training images are too few for {WORLD} processes: start fewer")
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
    state = take_up(
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
            f"; {WORLD} processes, {min(args.batch, len(train)) / WORLD:.3g} images a step each"
            if WORLD > 1
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

    net = over_all(
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
        own = [batch[RANK::WORLD] for batch in batches]  # this process's images of each
        for batch, mine, images in zip(
            batches, own, load_batches(train, own, args.workers, pin=device.type == "cuda")
        ):
            waited += time.perf_counter() - mark
            # Flips depend on seed and step alone, so that a resumed run draws the same, and several processes what one would.
            draw = args.seed * 1_000_003 + state["step"]
            flip = (
                torch.rand(len(batch), generator=torch.Generator().manual_seed(draw))[RANK::WORLD]
                < 0.5
            )
            if WORLD > 1:
                torch.manual_seed(draw * WORLD + RANK)  # dropout's
            images = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images).to(
                device, non_blocking=True
            )
            optimizer.zero_grad()
            with autocast(device, args.precision):
                loss = F.cross_entropy(net(images), labels[train_rows[mine]].to(device))
            loss = loss * (
                len(mine) * WORLD / len(batch)
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

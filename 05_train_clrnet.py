#!/usr/bin/env python3
"""Stage 05: train CLRNet, or a network its paper compares with, on clips of consecutive frames.

    python 05_train_clrnet.py --strategy single --source faces/FS --test faces/FS faces/DF \\
        --out runs/CLRNet-FS --scores scores/CLRNet-FS
    python 05_train_clrnet.py --strategy merge --source faces/FS faces/DF --out runs/CLRNet-merge
    python 05_train_clrnet.py --strategy transfer --checkpoint runs/CLRNet-FS/model.pt \\
        --target faces/DF faces/NT --out runs/CLRNet-FS-to-DF-NT
    python 05_train_clrnet.py --strategy single --source faces/X --filters 8 \\
        --repetitions 1 1 1 1 --image-size 64 --batch 8 --epochs 5 --out runs/small

The last takes minutes on a CPU. `--model MesoInception4` trains a baseline. For transfer after
merge, give the merged model as --checkpoint; recipes/grid_search.py is the grid search. `--init
weights.hdf5` starts from the authors' published weights; with --epochs 0 they are scored as they
are. The script writes to OUT:

    model.pt       single, merge: the epoch with the highest AUC on the sources' validation splits;
                   transfer, or without such splits: the last epoch
    last.pt, log.csv, args.json        as in stage 02
    cam_NAME.png   with --cam N: activation maps of N videos of each --test (Figure 8), of at most
                   five frames; exact for CLRNet and Xception, gradient-weighted for the others

SCORES/NAME.csv holds P(fake) of each sample of the test split of each --test. With --save-features,
DIR/NAME/features.npy and index.csv hold one feature vector per sample, which stage 04 reads.

The network is that of Figure 6, layer by layer as in the authors' code: networks/clrnet.py.

Deviations and choices (paper, or where named the authors' code -> this script; those of the
baselines are in networks/baselines.py):

    optimizer           not given (code: Adam 5e-5, L2 1e-4 on input kernels) -> as the code
    batch, epochs       not given (code: 16 and 300 single, 40 and 150 otherwise) -> as the code
    class weights       not given (code: given, without effect) -> clips / (2 x clips of the class)
    brightness          -30..30 % (code: factor 0.7..1.0) -> factor 0.7..1.3; --brightness
    channel shift       -50..50, meaning not given -> one value per clip, in gray levels of 255,
                        added to all channels (Keras clips to the image's own range)
    zoom, rotation      border not given -> the border pixels are repeated; one zoom for both axes
                        (Keras draws two)
    freezing            first half (code: all but the last 120 of 207) -> 103 of 207; --freeze
    frozen layers       batch statistics in the code -> stored statistics; frozen dropout is off
    transfer set        10 videos of each target (code: of the source too) -> 10 real and 10 fake of
                        each target; of the source too if --source names it. FaceForensics++'s
                        methods share their originals, so the same ten serve DF, F2F and NT
    which epoch         not given (code: picked by hand) -> highest validation AUC; in transfer the
                        last, because choosing on the targets' validation videos would use more
                        labels than those
    activation maps     not given (code: the fake class's map times the prediction, scaled per frame
                        and cut at 0.2) -> evidence for fake minus real, one scale per picture
    merged sets         "750 + 750 = 1500" (5.2.2) or "an equal number of samples" (6.2.3) -> all of
                        each, which the paper's costs fit (docs/deviations.md); --merge-balance
    batch norm          moving variance (code: biased) -> unbiased, as in PyTorch
    precision           not given -> --precision: bfloat16 on GPUs and CPUs that have it; scores,
                        features and maps in float32 (TF32 on such a GPU)
    augmentation        all networks (code: single-frame ones without) -> all; --no-augment, which
                        the recipes use for ShallowNet, Xception and MesoInception4
"""

import argparse
import re
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common import (
    INDEX_COLUMNS,
    RANK,
    Parser,
    add_system_flags,
    fail,
    margin,
    printable,
    write_scores,
    write_table,
    write_whole,
)
from networks.baselines import NETWORKS
from networks.clrnet import CLRNet, initialize  # noqa: F401
from networks.weights import load_keras_weights, load_published, load_weights  # noqa: F401
from reporting.figures import draw_maps
from reporting.metrics import auc, percent, validate
from running.devices import (
    autocast,
    choose_device,
    choose_precision,
    describe_device,
    distribute,
    place,
)
from running.folder import describe_data, flags_of, folder_names, start_run
from running.loading import Faces, as_clips, predict, read_clips
from running.processes import run_script
from running.run import Run, is_complete, load_checkpoint, load_state, seed_of

# Not compared when a run is resumed; kwargs only repeats flags that are compared.
RUNTIME_FLAGS = ("out", "workers", "device", "test", "test_split")
RUNTIME_FLAGS += ("scores", "save_features", "cam", "kwargs")

# What a strategy trains on. `val_videos`: (set, video) of each validation sample; `few_shot`: the
# names of the videos that transfer learning drew, {set: [name, ...]}.
TrainingData = namedtuple("TrainingData", "items labels val_items val_labels val_videos few_shot")

# Defaults of each network, from the authors' code where there is any. A pair is that of single, and
# of merge or transfer. `frames`: consecutive frames of a sample.
DEFAULTS = {
    "CLRNet": dict(frames=5, image_size=240, epochs=(300, 150), batch=(16, 40), lr=5e-5, l2=1e-4),
    "CNN+LSTM": dict(frames=20, image_size=299, epochs=50, batch=4, lr=5e-5, l2=0.0),
    "DBiRNN": dict(frames=5, image_size=224, epochs=50, batch=16, lr=5e-5, l2=0.0),
    "ShallowNet": dict(frames=1, image_size=128, epochs=50, batch=64, lr=5e-5, l2=1e-4),
    "Xception": dict(frames=1, image_size=240, epochs=50, batch=64, lr=5e-5, l2=0.0),
    "MesoInception4": dict(frames=1, image_size=256, epochs=50, batch=64, lr=1e-3, l2=0.0),
}


# ---------------------------------------------------------------- the flags


def parse_args():
    usage = "%(prog)s --strategy {single,merge,transfer} --out DIR [options]"
    parser = Parser(__doc__, usage)
    add = parser.add_argument_group("data (folders of stage 01 with --sampling clips)").add_argument
    text = (
        "single: train on one set (4.2.1); merge: on several together (4.2.2); transfer: adapt a "
        "checkpoint with a few videos of each target (4.2.3)"
    )
    add("--strategy", choices=("single", "merge", "transfer"), required=True, help=text)
    text = (
        "sets to train on; transfer: sets of which a few videos are added to those of the targets "
        "(default none, as in the paper; the authors' code adds the source)"
    )
    add("--source", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    text = "merge: take all clips of each set, or as many as the smallest has (default all)"
    add("--merge-balance", choices=("all", "smallest"), default="all", help=text)
    text = "transfer: model.pt of the source"
    add("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "transfer: sets to learn from a few videos"
    add("--target", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    text = "transfer: number of real, and of fake, videos of each set (default 10)"
    add("--few-shot", type=int, default=10, metavar="N", help=text)
    text = "sets to score"
    add("--test", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    text = "split of --test that is scored (default test)"
    add("--test-split", choices=("test", "val"), default="test", help=text)
    text = "folder of the run, e.g. runs/CLRNet-FS"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "folder for the scores, e.g. scores/CLRNet-FS"
    add("--scores", type=Path, metavar="DIR", help=text)
    text = "write features of all clips of all sets, for stage 04, to DIR/NAME"
    add("--save-features", type=Path, metavar="DIR", help=text)
    text = "draw activation maps of N videos of each --test"
    add("--cam", type=int, metavar="N", help=text)
    add = parser.add_argument_group("model (transfer takes the checkpoint's)").add_argument
    add("--model", choices=list(NETWORKS), help="network (default CLRNet)")
    text = "side of the input (default: CLRNet 240)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    text = "CLRNet: filters of the stem and the first stage (default 64)"
    add("--filters", type=int, metavar="N", help=text)
    text = "CLRNet: blocks of each stage (default 3 4 6 3)"
    add("--repetitions", type=int, nargs="+", metavar="N", help=text)
    text = "CLRNet, MesoInception4: start from published Keras weights, .hdf5, .h5 or .npz"
    add("--init", type=Path, metavar="FILE", help=text)
    text = "MesoInception4: the input that --init expects for black and white, of an unknown file"
    add("--init-range", nargs=2, type=float, metavar=("BLACK", "WHITE"), help=text)
    text = "MesoInception4: the class whose probability is the output, of an unknown file"
    add("--init-output", choices=("real", "fake"), help=text)
    text = "CNN+LSTM, DBiRNN, Xception: initial weights of the CNN (default none)"
    add("--weights", default="none", metavar="none|imagenet|FILE", help=text)
    title = "training (defaults of CLRNet, not in the paper; the others' are in DEFAULTS)"
    add = parser.add_argument_group(title).add_argument
    text = "passes over the clips (default: single 300, else 150); 0 only scores"
    add("--epochs", type=int, metavar="N", help=text)
    text = (
        "samples per step (default: single 16, else 40). What fits on a GPU, counted for CLRNet at "
        "full size: 16 GB: 40 in bf16, 24 in fp32 or tf32; 24 GB: 80 and 40; 40 GB: 160 and 80; "
        "80 GB: 320 and 160"
    )
    add("--batch", type=int, metavar="N", help=text)
    add("--lr", type=float, metavar="RATE", help="Adam's learning rate (default 5e-5)")
    add("--l2", type=float, metavar="RATE", help="L2 on the kernels (default 1e-4)")
    text = "augmentation: factor (default 0.7 1.3; the authors' code: 0.7 1.0)"
    pair = dict(nargs=2, default=[0.7, 1.3], metavar=("LOW", "HIGH"))
    add("--brightness", type=float, help=text, **pair)
    text = "train on samples as they are (the authors' code of the single-frame networks)"
    add("--no-augment", action="store_true", help=text)
    text = "transfer: share of the layers that are frozen (default 0.5; the authors' code: 0.4203)"
    add("--freeze", type=float, default=0.5, metavar="SHARE", help=text)
    add("--max-steps", type=int, metavar="N", help="stop after N steps, for a trial")
    add_system_flags(
        parser, workers="processes that load images", seed=True, device=True, precision="auto"
    )
    args = parser.parse_args()

    strategy = args.strategy
    is_whole = (args.checkpoint or args.init) and (args.target or args.epochs == 0)
    if strategy == "transfer" and not is_whole:
        fail("--strategy transfer needs --checkpoint of a source (or --init) and --target")
    if strategy in ("single", "merge") and (args.checkpoint or args.target):
        fail(f"--strategy {strategy} takes --source, no --checkpoint and no --target")
    if strategy == "single" and len(args.source) > 1:
        fail("--strategy single takes one --source; several are --strategy merge")
    needed = {"single": 1, "merge": 2}.get(strategy, 0)
    if len(args.source) < needed and args.epochs != 0:
        fail(f"--strategy {strategy} needs {('one', 'two or more')[needed - 1]} --source")
    if bool(args.test) != bool(args.scores) or args.cam and not args.test:
        fail("--test and --scores go together, and --cam with them: the sets, and their scores")
    if args.checkpoint:
        if args.init:
            fail("--checkpoint and --init both say where to start: give one")
        if args.filters or args.repetitions or args.image_size or args.weights != "none":
            flags = "--weights, --filters, --repetitions and --image-size"
            fail(f"the network is the checkpoint's: leave out {flags}")
        network = load_checkpoint(args.checkpoint, "05").get("network", "CLRNet")
        if network not in NETWORKS:
            fail(f"{args.checkpoint} holds a network {network!r}, which is not known here")
        if args.model not in (None, network):
            fail(f"{args.checkpoint} holds a {network}: leave out --model")
        args.model = network
    args.model = args.model or "CLRNet"
    if args.model != "CLRNet":
        if args.filters or args.repetitions:
            fail("--filters and --repetitions are for CLRNet")
        if args.init and args.model != "MesoInception4":
            fail("--init is for CLRNet and MesoInception4")
    if args.weights != "none" and not hasattr(NETWORKS[args.model], "arch"):
        fail("--weights is for CNN+LSTM, DBiRNN and Xception")
    defaults = DEFAULTS[args.model]
    for name in ("epochs", "batch", "lr", "l2", "image_size"):
        if getattr(args, name) is None:
            value = defaults[name]
            value = value[strategy != "single"] if isinstance(value, tuple) else value
            setattr(args, name, value)
    args.kwargs = dict(image_size=args.image_size, frames=defaults["frames"])
    if args.model == "CLRNet":
        args.kwargs["filters"] = args.filters or 64
        args.kwargs["repetitions"] = args.repetitions or [3, 4, 6, 3]
    numbers = [args.batch, args.image_size, args.few_shot, args.max_steps]
    numbers += [args.cam, args.filters, *(args.repetitions or ())]
    if any(n is not None and n < 1 for n in numbers):
        fail("numbers of samples, pixels, videos, steps, filters and blocks must be 1 or more")
    if not (args.epochs >= 0 and args.l2 >= 0 and args.lr > 0):
        fail("--epochs and --l2 must be 0 or more, --lr above 0")
    if not 0 <= args.freeze < 1 or not 0 <= args.brightness[0] <= args.brightness[1]:
        fail("--freeze must be from 0 to below 1, --brightness 0 or more and rising")
    return args


# ---------------------------------------------------------------- the strategies and their data


def read_training_data(args, frames):
    """The samples of `frames` frames that a strategy trains and validates on, as `TrainingData`.

    Exits with an error if a set has too few videos or a class is missing.
    """
    parts, val_parts, val_videos, few_shot = [], [], [], {}
    sets = folder_names([*args.source, *args.target])
    for name, folder in sets.items():
        clips = read_clips(folder, "train", frames)
        if args.strategy == "transfer":
            # 4.2.3: a few videos of each target, and none to validate on, so that the last epoch is
            # kept.
            items, labels, few_shot[name] = draw_few_shot(clips, args.few_shot, args.seed, folder)
            parts.append((items, labels))
            continue
        # 4.2.1 and 4.2.2: all of one set, or of several.
        parts.append((clips.items, clips.labels))
        val = read_clips(folder, "val", frames, required=False)
        val_parts.append((val.items, val.labels))
        val_videos += [(name, val.index["video"][row]) for row in val.first]
    if args.strategy == "merge":
        whole = parts
        if args.merge_balance == "smallest":
            parts = equal_parts(parts, args.seed)
        for name, (items, _), (of_set, _) in zip(sets, parts, whole):
            print(f"{printable(name)}: {len(items)} of {len(of_set)} training clips")
    items, labels = join_sets(parts)
    if parts and len(np.unique(labels)) < 2:
        fail("the training clips have only one class: real and fake ones are needed")
    return TrainingData(items, labels, *join_sets(val_parts), val_videos, few_shot)


def draw_few_shot(clips, count, seed, folder):
    """Draw `count` real and `count` fake videos of a set (5.2.3): (items, labels, video names)."""
    videos = np.array([clips.index["video"][row] for row in clips.first])
    names = []
    for label, kind in enumerate(("real", "fake")):
        of_class = np.unique(videos[clips.labels == label])
        if len(of_class) < count:
            fail(
                f"{folder}: {len(of_class)} {kind} videos in the train split, --few-shot asks for "
                f"{count}"
            )
        names += np.random.default_rng((seed, label)).permutation(of_class)[:count].tolist()
    rows = np.flatnonzero(np.isin(videos, names))
    return [clips.items[row] for row in rows], clips.labels[rows], names


def equal_parts(parts, seed):
    """As many samples of each set as the smallest has (6.2.3), drawn by seed."""
    smallest = min((len(items) for items, _ in parts), default=0)
    equal = []
    for k, (items, labels) in enumerate(parts):
        rows = np.sort(np.random.default_rng((seed, k)).permutation(len(items))[:smallest])
        equal.append(([items[row] for row in rows], labels[rows]))
    return equal


def join_sets(parts):
    """[(items, labels), ...] of several sets as one (items, labels)."""
    items = [item for items, _ in parts for item in items]
    return items, np.concatenate([np.zeros(0, np.int64), *(labels for _, labels in parts)])


def augment(clips, draws, brightness=(0.7, 1.3)):
    """Augment clips (N, T, 3, H, W) in 0..1 (5.1.3), all frames of a clip alike.

    Brightness by a factor in `brightness`, channel shift -50..50 of 255, zoom of both axes -20..20
    %, rotation -30..30 degrees, and a horizontal flip with probability 0.5.

    Args:
        draws: uniform numbers in 0..1, (N, 5): brightness, channel shift, zoom, rotation, flip;
            on the device of the clips.
        brightness: lowest and highest factor.
    """
    n, frames = clips.shape[:2]
    low, high = brightness
    factor = low + (high - low) * draws[:, 0]
    shift = (100 * draws[:, 1] - 50) / 255
    zoom = 0.8 + 0.4 * draws[:, 2]
    angle = torch.deg2rad(60 * draws[:, 3] - 30)
    mirror = torch.where(draws[:, 4] < 0.5, -1.0, 1.0)
    cos, sin, zero = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.zeros_like(zoom)
    # From places in the output to places in the input: zoom 1.2 shows more of the image.
    matrix = torch.stack([cos * mirror, -sin, zero, sin * mirror, cos, zero], 1).view(n, 2, 3)
    grid = F.affine_grid(matrix, (n, 3, *clips.shape[3:]), align_corners=False)
    moved = F.grid_sample(
        clips.flatten(0, 1),
        grid.repeat_interleave(frames, 0),
        padding_mode="border",
        align_corners=False,
    ).view_as(clips)
    factor, shift = (v.view(n, 1, 1, 1, 1) for v in (factor, shift))
    return (moved * factor + shift).clamp(0, 1)


# ---------------------------------------------------------------- the network and its training


def load_initial_weights(model, args, origin):
    """Start from a checkpoint's content `origin`, a published file, or random weights.

    Returns what the checkpoints store of the data behind these weights.
    """
    if origin:
        load_state(model, origin, args.checkpoint)
        return list(origin.get("data") or [])
    if args.model == "CLRNet":
        initialize(model)
    if args.init:
        try:
            known = load_published(model, args.init, args.init_range, args.init_output)
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if args.model == "CLRNet":
                reason += "; CLRNet50 is --filters 64 --repetitions 3 4 6 3"
            fail(f"--init {args.init}: {reason}")
        return [dict(set=known or args.init.name, role="weights of", extraction={})]
    if hasattr(model, "cnn") and not (args.out / "last.pt").exists() and RANK == 0:
        load_weights(model.cnn, model.arch, args.weights)
    return []


def frozen_layers(model, share):
    """The modules among the first `share` (0..1) of a network's layers, to be frozen (4.2.3).

    Layers without weights count too; CLRNet's are counted as Keras counts them. An Inception block
    into which the cut falls is frozen whole: its branches act side by side.
    """
    layers = model.layers()
    frozen = [layer for layer in layers[: int(share * len(layers))] if layer is not None]
    for block in model.modules():
        # Ours, and those of torchvision's InceptionV3.
        if re.fullmatch("Inception[A-E]?", type(block).__name__):
            parts = [layer for layer in layers if layer in set(block.modules())]
            if set(parts) & set(frozen):
                frozen += [layer for layer in parts if layer not in frozen]
    return frozen


def make_optimizer(model, lr, l2):
    """Adam over the parameters that train, with L2 on the network's kernels.

    l2 * w^2 in the loss is 2 * l2 * w in the gradient, which is Adam's weight_decay (not AdamW's).
    """
    kernels = model.kernels()
    kernel_ids = {id(p) for p in kernels}
    others = [p for p in model.parameters() if id(p) not in kernel_ids]
    groups = [
        dict(params=[p for p in kernels if p.requires_grad], weight_decay=2 * l2),
        dict(params=[p for p in others if p.requires_grad]),
    ]
    # eps is Keras' own. Fused was faster on a CPU too (bench/05_clrnet.py).
    return torch.optim.Adam(groups, lr=lr, eps=1e-7, fused=True)


def weighted_loss(model, logits, labels, class_weights):
    """Cross-entropy, or for MesoInception4 the squared error of P(fake), weighted by class."""
    if model.mean_squared_error:
        losses = (logits.softmax(1)[:, 1] - labels).square()
    else:
        losses = F.cross_entropy(logits, labels, reduction="none")
    return (class_weights[labels] * losses).mean()


# ---------------------------------------------------------------- what comes out


def print_settings(args, model, sets, data, run, device):
    """Print what is trained, on what and how, before it begins."""
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters) / 1e6
    trained = sum(p.numel() for p in parameters if p.requires_grad) / 1e6
    print(
        f"{args.model}: {total:.2f} million parameters, {trained:.2f} of them trained; samples of "
        f"{model.frames} x {model.image_size} x {model.image_size}\n"
        f"{args.strategy}: {len(data.items)} training samples ({int(data.labels.sum())} fake) of "
        f"{printable(', '.join(sets)) or 'nothing'}, {len(data.val_items)} for validation; "
        f"{args.epochs} epochs of {run.per_epoch} steps of {run.size} samples; "
        f"{describe_device(device, args.precision)}, {args.workers} loading processes"
        f"{run.share_text()}",
        flush=True,
    )


def score(model, faces, args, device, what):
    """The logit of fake minus real of each sample: a float64 array."""
    model.eval()
    rest = (faces, args.batch, args.workers, device, what)
    return margin(predict(lambda clips: model(as_clips(clips)), *rest))


def score_sets(model, sets, args, device):
    """Write SCORES/NAME.csv for {NAME: Clips}, and with --cam OUT/cam_NAME.png."""
    for name, clips in sets.items():
        faces = Faces(clips.items, model.image_size)
        logits = score(model, faces, args, device, name)
        file = args.scores / f"{name}.csv"
        write_scores(file, clips.index, clips.first, logits)
        value = percent(auc(clips.labels, logits))
        print(printable(f"{file}: {len(clips.labels)} samples, AUC {value}"), flush=True)
        if args.cam and RANK == 0:
            path, maps = args.out / f"cam_{name}", model.activation_maps
            draw_maps(path, name, clips, logits, faces, maps, args.cam, args.seed, device)


def save_features(model, folder, out, args, device):
    """Write OUT/features.npy (N, D) and index.csv, one row per sample, as stage 03 does."""
    checkpoint = args.out / "model.pt"
    extraction = describe_data(folder, "")["extraction"]
    flags = argparse.Namespace(checkpoint=checkpoint, faces=folder, extraction=extraction)
    start_run(out, flags, inputs=[checkpoint, folder / "index.csv"])
    # index.csv is written last: if it exists, the features are complete.
    if not (out / "index.csv").exists():
        clips = read_clips(folder, "all", model.frames)
        faces = Faces(clips.items, model.image_size)
        model.eval()
        rest = (faces, args.batch, args.workers, device, f"features of {folder.name}")
        features = predict(lambda clips: model.features(as_clips(clips)), *rest)
        if RANK == 0:
            with write_whole(out / "features.npy") as part, open(part, "wb") as file:
                np.save(file, features)
        index = clips.index
        rows = ([index[column][row] for column in INDEX_COLUMNS] for row in clips.first.tolist())
        write_table(out / "index.csv", INDEX_COLUMNS, rows)
    print(printable(f"{out}: features of {folder}"), flush=True)


# ---------------------------------------------------------------- the stage


def main():
    args = parse_args()
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    origin = load_checkpoint(args.checkpoint, "05") if args.checkpoint else {}
    kwargs = origin.get("kwargs") if origin else args.kwargs
    if not isinstance(kwargs, dict) or not isinstance(kwargs.get("frames"), int):
        fail(f"{args.checkpoint} does not say what its network is")
    frames = kwargs["frames"]
    data = read_training_data(args, frames)
    if args.epochs and not data.items:
        fail("there is nothing to train on; --epochs 0 scores a network as it is")
    tests = folder_names(args.test)
    test_clips = {n: read_clips(f, args.test_split, frames) for n, f in tests.items()}
    torch.manual_seed(args.seed)
    try:
        model = NETWORKS[args.model](**kwargs)
    except (ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        fail(f"{args.model}: {' '.join(str(error).split())[:200]}")
    sets = folder_names([*args.source, *args.target])
    settings = argparse.Namespace(**vars(args), few_shot_videos=data.few_shot)
    inputs = [*sorted(f / "index.csv" for f in sets.values()), args.checkpoint, args.init]
    inputs = list(filter(None, inputs))
    start_run(args.out, settings, inputs, RUNTIME_FLAGS, is_complete(args.out, args))
    inherited = load_initial_weights(model, args, origin)
    place(model, device)
    # CLRNet 4.2.3: transfer freezes the first layers.
    frozen = frozen_layers(model, args.freeze) if args.strategy == "transfer" else []
    for layer in frozen:
        layer.requires_grad_(False)
    optimizer = make_optimizer(model, args.lr, args.l2)
    role = "few videos of" if args.strategy == "transfer" else "trained on"
    sources = [describe_data(folder, role) for folder in sets.values()] + inherited
    flags = flags_of(settings, RUNTIME_FLAGS)
    content = dict(network=args.model, kwargs=kwargs, args=flags, data=sources)
    origin = None  # frees its memory
    run = Run(args.out, "05", args, model, optimizer, len(data.items), content, keep="best")
    print_settings(args, model, sets, data, run, device)

    train = Faces(data.items, model.image_size)
    val = Faces(data.val_items, model.image_size)
    labels = torch.from_numpy(data.labels)
    counts = torch.bincount(labels, minlength=2).clamp(min=1)
    class_weights = (len(labels) / (2 * counts)).to(device)
    shape = (frames, 3, model.image_size, model.image_size)
    net = distribute(model, device, torch.zeros(1, *shape))
    if frozen:
        # Looked up again, because `distribute` makes new layers of batch norm.
        frozen = frozen_layers(model, args.freeze)
    for epoch in run.epochs():
        # Frozen batch norm uses stored statistics, and frozen dropout is off.
        net.train()
        for layer in frozen:
            layer.eval()
        # An incomplete last batch is left out: batch norm would weigh its few samples too much.
        order = np.random.default_rng((args.seed, epoch)).permutation(len(train))
        order = order[: run.per_epoch * run.size].reshape(-1, run.size)
        for clips, y, draws in run.batches(train, labels, order, device, args.workers, draws=5):
            torch.manual_seed(seed_of(args.seed, run.step, 1 + RANK))  # dropout draws from it
            clips = as_clips(clips)  # float (N, T, 3, S, S) in 0..1
            if not args.no_augment:
                clips = augment(clips, draws, args.brightness)
            # Before the forward pass: this frees as much memory as the weights take.
            optimizer.zero_grad()
            with autocast(device, args.precision):
                logits = net(clips)
            loss = weighted_loss(model, logits.float(), y, class_weights)
            loss.backward()
            optimizer.step()
            run.record(loss)
        logits = score(model, val, args, device, "validation")
        validation = validate(data.val_videos, data.val_labels, logits)
        # model.pt becomes this epoch if its AUC is the highest so far, or there is none.
        run.end_epoch(validation, val_auc=auc(data.val_labels, logits))
    run.finish()

    load_state(model, load_checkpoint(args.out / "model.pt", "05"), args.out / "model.pt")
    score_sets(model, test_clips, args, device)
    if args.save_features:
        folders = {path.resolve(): path for path in (*sets.values(), *tests.values())}
        for name, folder in folder_names(folders.values()).items():
            save_features(model, folder, args.save_features / name, args, device)
    print(f"done: {args.out / 'model.pt'}", flush=True)


if __name__ == "__main__":
    run_script(main)

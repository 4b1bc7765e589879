#!/usr/bin/env python3
"""Stage 05: CLRNet, a residual network of ConvLSTM cells on clips of 5 frames, and its five baselines, by single, merge and transfer learning.

    python 05_train_clrnet.py --strategy single --source faces/FS --test faces/FS faces/DF --out runs/clrnet/FS --scores scores/CLRNet-FS
    python 05_train_clrnet.py --strategy merge --source faces/FS faces/DF faces/NT --test faces/F2F --out runs/clrnet/merge --scores scores/CLRNet-merge
    python 05_train_clrnet.py --strategy transfer --checkpoint runs/clrnet/FS/model.pt --target faces/DF faces/NT \\
        --test faces/DF faces/NT --out runs/clrnet/FS-to-DF-NT --scores scores/CLRNet-transfer
    python 05_train_clrnet.py --strategy search --reenactment faces/F2F faces/NT --swap faces/DF faces/FS faces/DFD \\
        --validation faces/DFW-val --test faces/DFW --out runs/search --scores scores/CLRNet-search
    add  --model MesoInception4  for a baseline; merge followed by transfer is transfer from a merged --checkpoint
    add  --init weights.hdf5     to start from the authors' published weights; with --epochs 0 they are scored as they are
    add  --save-features features/clips  to adapt the network's features to another set with 04_train_bpdann.py
    add  --filters 8 --repetitions 1 1 1 1 --image-size 64 --batch 8 --epochs 5  for minutes on a CPU

What comes out, in OUT: model.pt (single, merge: the epoch with the highest AUC on the sources' validation splits; transfer:
the last epoch), last.pt, log.csv, args.json; and SCORES/NAME.csv, P(fake) of every sample of the test split of each --test. With --cam N,
OUT/cam_NAME.png and .pdf: class activation maps of N videos of each --test (Figure 8). With --save-features, DIR/NAME/features.npy and index.csv:
2048 numbers a clip, which 04 reads as they are. With --strategy search, OUT/search.csv and a folder for each training (grid_search.py).

The network is that of the paper's Figure 6, layer by layer as the authors' published code builds it (clrnet.py; baselines.py has the
others, with their own deviations). Deviations and choices (paper or, where named, the authors' code -> ours):

    optimizer           not given (code: Adam 5e-5, L2 1e-4 on input kernels) -> as the code
    batch, epochs       not given (code: 16 and 300 single, 40 and 150 transfer and merge) -> as the code
    class weights       not given (code: given, but without effect) -> clips / (2 x clips of the class)
    brightness          -30..30 % (code: factor 0.7..1.0) -> the paper's, factor 0.7..1.3; --brightness
    channel shift       -50..50, meaning not given -> one value a clip added to all channels, grey levels of 255, as Keras does
    border after zoom and rotation   not given -> the border pixels repeated
    freezing            first half of the layers (code: all but the last 120 of 207) -> the paper's: 103 of 207 layers; --freeze
    frozen batch norm   (code: normalises with the batch's statistics) -> with its stored ones; frozen dropout is off
    transfer set        10 videos of each target (code: of the source too) -> 10 real and 10 fake of each target; the source's
                        too if --source names it
    which epoch         not said -> highest validation AUC; in transfer the last, since choosing on the targets' validation
                        videos would use more labelled target videos than the ten
    merged sets         "an equal number of samples from each" (6.2.3) -> as many clips from each as the smallest has
    batch norm's moving variance   (code: biased) -> unbiased, as torch has it
    precision           not said -> --precision: bfloat16 products and states where the CPU has them (twice as fast), float32 elsewhere;
                        scores, features and maps are computed in float32
    restricted grid search   chosen by its result on the open-domain test set -> by that on a validation set of its own
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common import (
    INDEX_COLUMNS,
    RANK,
    WORLD_SIZE,
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
    write_scores,
    write_table,
    write_whole,
)
from networks.baselines import NETWORKS
from networks.clrnet import frozen_layers, initialise
from networks.extractor import load_weights
from networks.keras_weights import load_keras_weights, read_keras_weights
from reporting import figures
from reporting.metrics import auc, validate
from running.distributed import distribute, gather
from running.folder import describe_data, start_run
from running.script import barrier, run_script
from training import grid_search
from training.checkpoints import load_checkpoint, load_state, save_checkpoint
from training.loading import Faces, as_clips, epoch_batches, load_batches, read_clips
from training.run import LOOK, random_state, resume, take_losses

FREE = (
    "out",
    "workers",
    "device",
    "save_every",
    "test",
    "test_split",
    "scores",
    "save_features",
    "cam",
    "go_on",
)  # flags that do not change a run


def augment(clips, generator, brightness=(0.7, 1.3), joint=None):
    """Section 5.1.3 on clips (N, T, 3, H, W) in 0..1: one draw a clip for all its frames; brightness: lowest and highest factor.

    joint: the size of the joint batch of several processes, of which these clips are this process's.
    """
    n, frames = clips.shape[:2]
    draw = torch.rand(joint or n, 5, generator=generator)
    draw = draw[RANK::WORLD_SIZE] if joint else draw
    factor, shift = (
        brightness[0] + (brightness[1] - brightness[0]) * draw[:, 0],
        (100 * draw[:, 1] - 50) / 255,
    )
    zoom, angle = 0.8 + 0.4 * draw[:, 2], torch.deg2rad(60 * draw[:, 3] - 30)
    mirror = torch.where(draw[:, 4] < 0.5, -1.0, 1.0)
    cos, sin, zero = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.zeros(n)
    matrix = (
        torch.stack([cos * mirror, -sin, zero, sin * mirror, cos, zero], 1)
        .view(n, 2, 3)
        .to(clips.device)
    )
    grid = F.affine_grid(matrix, (n, 3, *clips.shape[3:]), align_corners=False).repeat_interleave(
        frames, 0
    )
    moved = F.grid_sample(
        clips.flatten(0, 1), grid, padding_mode="border", align_corners=False
    ).view_as(clips)
    factor, shift = (v.view(n, 1, 1, 1, 1).to(clips.device) for v in (factor, shift))
    return (moved * factor + shift).clamp(0, 1)


def few_shot(items, index, first, count, seed, folder):
    """`count` real and `count` fake videos drawn by seed (5.2.3): (their clips, labels, names of the videos)."""
    names = []
    for label in (0, 1):
        videos = sorted({index["video"][r] for r in first if index["label"][r] == label})
        if len(videos) < count:
            fail(
                f"{folder}: {len(videos)} {('real', 'fake')[label]} videos in the train split, --few-shot asks for {count}"
            )
        names += np.random.default_rng((seed, label)).permutation(videos)[:count].tolist()
    chosen = [k for k, r in enumerate(first) if index["video"][r] in names]
    return [items[k] for k in chosen], index["label"][first[chosen]], names


def training_data(args, length):
    """What the strategy trains on: (items, labels, validation items, their labels, their (set, video), {set: its few-shot videos}).

    Ends the script where a set has too few videos or the classes are not both there.
    """
    train_items, labels, val_items, val_labels, val_videos, drawn = [], [], [], [], [], {}
    sets = folder_names([*args.source, *args.target])
    for name, folder in sets.items():
        items, index, first, y = read_clips(folder, "train", length)
        if args.strategy == "transfer":
            items, y, drawn[name] = few_shot(items, index, first, args.few_shot, args.seed, folder)
        else:
            more, of_val, more_first, more_y = read_clips(folder, "val", length)
            val_videos += [(name, of_val["video"][r]) for r in more_first]
            val_items, val_labels = val_items + more, [*val_labels, *more_y]
        train_items.append(items)
        labels.append(y)
    smallest = min(map(len, train_items), default=0)
    for k, name in enumerate(sets) if args.strategy == "merge" else ():
        keep = np.sort(
            np.random.default_rng((args.seed, k)).permutation(len(train_items[k]))[:smallest]
        )
        print(
            f"{name}: {len(keep)} of {len(train_items[k])} training clips, as many as the smallest set has"
        )
        train_items[k], labels[k] = [train_items[k][j] for j in keep], labels[k][keep]
    train_items, labels = (
        [item for items in train_items for item in items],
        np.concatenate([np.zeros(0, np.int64), *labels]),
    )
    if sets and len(np.unique(labels)) < 2:
        fail("the training clips have only one class: real and fake ones are needed")
    return train_items, labels, val_items, val_labels, val_videos, drawn


def build(network, kwargs):
    """A network by its name; ends the script where it cannot be built so."""
    try:
        return NETWORKS[network](**kwargs)
    except (ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        fail(f"{network}: {' '.join(str(error).split())[:200]}")


def weighted_loss(model, logits, labels, weights):
    """Cross-entropy, or the mean squared error of P(fake) where the network wants it, each sample times its class's weight."""
    each = (
        (logits.softmax(1)[:, 1] - labels).square()
        if model.mean_squared_error
        else F.cross_entropy(logits, labels, reduction="none")
    )
    return (weights[labels] * each).mean()


def adam(model, lr, l2):
    """Adam over the parameters that train, with L2 on the network's kernels: l2 * w^2 in the loss, so 2 * l2 * w in the gradient.

    That is plain Adam's weight_decay, not AdamW's. `fused`: one pass over the weights, which won on a CPU too (bench/05_clrnet.py).
    """
    kernels = model.kernels()
    others = [p for p in model.parameters() if all(p is not k for k in kernels)]
    return torch.optim.Adam(
        [
            dict(params=[p for p in kernels if p.requires_grad], weight_decay=2 * l2),
            dict(params=[p for p in others if p.requires_grad]),
        ],
        lr=lr,
        eps=1e-7,
        fused=True,
    )


@torch.inference_mode()
def predict(model, function, items, batch, workers, device, what):
    """`function` of every sample, a (N, T, 3, H, W) batch in 0..1 at a time, with `model` in evaluation mode: float32 array.

    Of several processes each computes its share.
    """
    model.eval()
    mine = list(range(RANK, len(items), WORLD_SIZE))
    batches = [mine[k : k + batch] for k in range(0, len(mine), batch)]
    loader = progress(
        load_batches(Faces(items, model.image_size), batches, workers),
        total=len(batches),
        desc=what,
        unit="batch",
    )
    parts = [function(as_clips(clips, device)).float().cpu().numpy() for clips in loader]
    return gather(np.concatenate(parts) if parts else np.zeros(0, np.float32), len(items))


def score(model, *args):
    """The logit of fake minus real of every sample: (N,) float64 array; arguments as in `predict`."""
    return margin(torch.from_numpy(predict(model, model, *args)).view(-1, 2)).numpy()


def score_sets(model, clips, scores, *args):
    """Write SCORES/NAME.csv for each set; clips: {NAME: what `read_clips` gives}."""
    for name, (items, index, first, y) in clips.items():
        logits = score(model, items, *args, name)
        write_scores(scores / f"{name}.csv", index, first, logits)
        print(
            f"{scores / (name + '.csv')}: {len(y)} samples, AUC {percent(auc(y, logits))}",
            flush=True,
        )


def save_features(model, folder, out, checkpoint, *args):
    """Write the features of all samples of a folder as 03 writes those of images: OUT/features.npy (N, D) and index.csv, a row a sample."""
    start_run(
        out,
        argparse.Namespace(
            checkpoint=checkpoint,
            faces=folder,
            extraction=describe_data(folder, "")[0]["extraction"],
        ),
        inputs=[checkpoint, folder / "index.csv"],
    )
    if not (out / "index.csv").exists():  # written last: its being there means done
        items, index, first, _ = read_clips(folder, "all", model.frames)
        features = predict(model, model.features, items, *args, f"features of {folder.name}")
        if RANK == 0:
            with write_whole(out / "features.npy") as part, open(part, "wb") as file:
                np.save(file, features)
        index["clip"] = [str(clip) for clip in index["clip"]]
        write_table(
            out / "index.csv",
            INDEX_COLUMNS,
            ([index[column][r] for column in INDEX_COLUMNS] for r in first.tolist()),
        )
    print(f"{out}: features of {folder}", flush=True)


def draw_activation_maps(path, model, name, clips, count, seed, device):
    """Class activation maps (Figure 8): a row a video, half of them real, its frames on the left, their maps over them on the right."""

    items, index, first, y = clips
    of_video = {}
    for k, row in enumerate(first):
        of_video.setdefault(index["video"][row], []).append(k)
    videos = [sorted(v for v in of_video if y[of_video[v][0]] == label) for label in (0, 1)]
    videos = [
        np.random.default_rng((seed, label))
        .permutation(v)[: count // 2 + count % 2 * label]
        .tolist()
        for label, v in enumerate(videos)
    ]
    chosen = [
        of_video[v][len(of_video[v]) // 2] for part in videos for v in part
    ]  # the clip in the video's middle
    faces, model = Faces(items, model.image_size), model.eval()
    frames = as_clips(torch.stack([faces[k] for k in chosen]), device)
    with torch.inference_mode():
        maps = torch.cat([model.activation_maps(clip[None]) for clip in frames])
        p_fake = torch.cat([model(clip[None]) for clip in frames]).softmax(1)[:, 1].tolist()
        maps = (
            F.interpolate(maps, size=frames.shape[-2:], mode="bilinear", align_corners=False)
            .cpu()
            .numpy()
        )
    images, top, length = (
        frames.permute(0, 1, 3, 4, 2).cpu().numpy(),
        np.abs(maps).max() or 1.0,
        model.frames,
    )
    side = figures.PAGE / (2 * length + 1)
    figure, axes = figures.pyplot().subplots(
        len(chosen),
        2 * length,
        figsize=(figures.PAGE, 0.4 + len(chosen) * 1.25 * side),
        squeeze=False,
        layout="compressed",
    )
    for row, k in enumerate(chosen):
        for t in range(length):
            axes[row, t].imshow(images[row, t])
            axes[row, length + t].imshow(images[row, t].mean(-1), cmap="gray", vmin=0, vmax=1)
            shown = axes[row, length + t].imshow(
                maps[row, t], cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.55
            )
        axes[row, 0].set_title(
            f"{index['video'][first[k]]}: {('real', 'fake')[y[k]]}, P(fake) {p_fake[row]:.3f}",
            fontsize=6,
            loc="left",
            pad=2,
        ).set_in_layout(False)
    for panel in axes.flat:
        panel.set_axis_off()
    figure.get_layout_engine().set(h_pad=0.08)
    figure.colorbar(
        shown, ax=axes, shrink=min(1.0, 2 / len(chosen)), aspect=15, pad=0.01
    ).set_label("speaks for real  |  for fake", fontsize=7)
    figure.suptitle(f"Class activation maps, {name} (CLRNet, Figure 8)")
    figures.save_figure(figure, path)
    print(f"{path}.png, .pdf: {len(chosen)} videos", flush=True)


def train(args):
    """Train a network by args.strategy single, merge or transfer into args.out, or go on with it, and score args.test."""
    transfer, tests, device = (
        args.strategy == "transfer",
        folder_names(args.test),
        choose_device(args.device),
    )
    origin, kwargs, args.precision = None, args.kwargs, choose_precision(args.precision, device)
    if args.checkpoint:
        origin = load_checkpoint(args.checkpoint, "05")
        kwargs = origin.get("kwargs")
        if not isinstance(kwargs, dict) or not isinstance(kwargs.get("frames"), int):
            fail(f"{args.checkpoint} does not say what its network is")
    frames = kwargs["frames"]
    train_items, labels, val_items, val_labels, val_videos, drawn = training_data(args, frames)
    if args.epochs and 0 < len(train_items) < WORLD_SIZE:
        fail(
            f"{len(train_items)} training samples are too few for {WORLD_SIZE} processes: start fewer"
        )
    if args.epochs and not train_items:
        fail("there is nothing to train on; --epochs 0 scores a network as it is")
    test_clips = {
        name: read_clips(folder, args.test_split, frames) for name, folder in tests.items()
    }
    torch.manual_seed(args.seed)
    model = build(args.model, kwargs)
    sets, last = folder_names([*args.source, *args.target]), args.out / "last.pt"
    inputs = sorted({folder / "index.csv" for folder in sets.values()}) + [
        f for f in (args.checkpoint, args.init) if f
    ]
    settings = argparse.Namespace(
        **{k: v for k, v in vars(args).items() if k != "kwargs"}, few_shot_videos=drawn
    )
    start_run(args.out, settings, inputs=inputs, free=FREE)
    if origin:
        load_state(model, origin, args.checkpoint)
    elif args.model == "CLRNet":
        initialise(model)
        if args.init:
            try:
                load_keras_weights(model, read_keras_weights(args.init))
            except (OSError, ValueError, KeyError) as error:
                fail(
                    f"--init {args.init}: {str(error).splitlines()[0]}; CLRNet50 is --filters 64 --repetitions 3 4 6 3"
                )
    elif (
        hasattr(model, "cnn") and not last.exists() and RANK == 0
    ):  # the other processes get the first one's
        load_weights(model.cnn, model.arch, args.weights)
    model.to(device)
    frozen = frozen_layers(model, args.freeze) if transfer else []
    for layer in frozen:
        layer.requires_grad_(False)
    optimizer = adam(model, args.lr, args.l2)
    state = resume(
        model,
        optimizer,
        dict(
            epoch=0, batch=0, step=0, loss=0.0, best=-1.0, validation=None, log=[], finished=False
        ),
        last,
        "05",
    )
    state["finished"] = state["epoch"] >= args.epochs or state["step"] >= (
        args.max_steps or math.inf
    )  # --go-on may ask for more or for less
    role = "few videos of" if transfer else "trained on"
    data = [entry for folder in sets.values() for entry in describe_data(folder, role)] + list(
        (origin or {}).get("data") or ()
    )
    if args.init:
        data.append(dict(set=args.init.name, role="started from", extraction={}))
    origin = None  # frees its memory
    per_epoch = len(epoch_batches(len(train_items), args.batch, args.seed, 0)) if train_items else 0
    print(
        f"{args.model}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters, "
        f"{sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6:.2f} of them trained; samples of "
        f"{model.frames} x {model.image_size} x {model.image_size}\n"
        f"{args.strategy}: {len(train_items)} training samples ({int(labels.sum())} fake) of {', '.join(sets) or 'nothing'}, {len(val_items)} for "
        f"validation; {args.epochs} epochs of {per_epoch} steps of {min(args.batch, len(train_items))} samples; device {device}, {args.precision}, "
        f"{args.workers} loading processes"
        + (
            f"; {WORLD_SIZE} processes, {min(args.batch, len(train_items)) / WORLD_SIZE:.3g} samples a step each"
            if WORLD_SIZE > 1
            else ""
        ),
        flush=True,
    )

    run = {
        k: [str(v) for v in value] if isinstance(value, list) else str(value)
        for k, value in vars(args).items()
        if k not in FREE and k != "kwargs"
    } | {"few_shot_videos": drawn}

    def save(name):
        save_checkpoint(
            args.out / name,
            stage="05",
            network=args.model,
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            random=random_state(),
            kwargs=kwargs,
            args=run,
            data=data,
            **state,
        )

    if state["finished"] and not (args.out / "model.pt").exists():  # --epochs 0
        save("model.pt")
    faces, labels = Faces(train_items, model.image_size), torch.from_numpy(labels)
    weights = (len(labels) / (2 * torch.bincount(labels, minlength=2).clamp(min=1))).to(device)
    net = distribute(model, device, torch.zeros(1, frames, 3, model.image_size, model.image_size))
    while not state["finished"]:
        net.train()
        for layer in frozen:
            layer.eval()
        batches = epoch_batches(len(faces), args.batch, args.seed, state["epoch"])[state["batch"] :]
        bar = progress(
            total=per_epoch,
            initial=state["batch"],
            desc=f"epoch {state['epoch'] + 1}",
            unit="step",
            iterable=None,
        )
        start = time.perf_counter()
        waited, mark, done, losses = 0.0, start, 0, []
        own = [batch[RANK::WORLD_SIZE] for batch in batches]  # this process's samples of each
        for batch, mine, clips in zip(
            batches, own, load_batches(faces, own, args.workers, pin=device.type == "cuda")
        ):
            waited += time.perf_counter() - mark
            # Augmentation depends on seed and step alone, so that a resumed run draws the same, and several processes what one would.
            draw = args.seed * 1_000_003 + state["step"]
            clips = augment(
                as_clips(clips, device),
                torch.Generator().manual_seed(draw),
                args.brightness,
                len(batch),
            )
            if WORLD_SIZE > 1:
                torch.manual_seed(draw * WORLD_SIZE + RANK)  # dropout's
            optimizer.zero_grad()  # here, not later: it frees as much as the weights take
            with autocast(device, args.precision):
                logits = net(clips)
            # The factor makes the mean over processes that over the joint batch.
            loss = weighted_loss(model, logits.float(), labels[mine].to(device), weights) * (
                len(mine) * WORLD_SIZE / len(batch)
            )
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

        logits = (
            score(model, val_items, args.batch, args.workers, device, "validation")
            if val_items
            else []
        )
        value = auc(val_labels, logits) if val_items else float("nan")
        state["validation"] = validate(val_videos, np.array(val_labels), logits)
        mean, better = (
            state["loss"] / state["batch"],
            not val_items or np.isnan(value) or value > state["best"],
        )
        checked = (
            f"validation AUC {percent(value)}{', the best' if better else ''}"
            if val_items
            else "no validation"
        )
        print(
            f"epoch {state['epoch'] + 1}: loss {mean:.4f}, {checked}; "
            f"{done / seconds:.1f} samples a second, {100 * waited / seconds:.0f} % of the time waiting for data",
            flush=True,
        )
        state["log"] = [
            row for row in state["log"] if row[0] <= state["epoch"]
        ]  # without this epoch's, if --max-steps had ended the run in it
        state["log"].append([state["epoch"] + 1, state["step"], round(mean, 6), round(value, 6)])
        state["best"] = max(state["best"], value) if value == value else state["best"]
        if state["batch"] == per_epoch:  # not so where --max-steps ends the run inside the epoch
            state.update(epoch=state["epoch"] + 1, batch=0, loss=0.0)
        state["finished"] = state["epoch"] == args.epochs or state["step"] >= (
            args.max_steps or math.inf
        )
        write_table(args.out / "log.csv", ("epoch", "step", "train_loss", "val_auc"), state["log"])
        if better:
            save("model.pt")
        save("last.pt")

    barrier()  # for model.pt
    load_state(model, load_checkpoint(args.out / "model.pt", "05"), args.out / "model.pt")
    score_sets(model, test_clips, args.scores, args.batch, args.workers, device)
    for name, clips in test_clips.items() if args.cam and RANK == 0 else ():
        draw_activation_maps(
            args.out / f"cam_{name}", model, name, clips, args.cam, args.seed, device
        )
    for name, folder in (
        folder_names(
            {path.resolve(): path for path in (*sets.values(), *tests.values())}.values()
        ).items()
        if args.save_features
        else ()
    ):
        save_features(
            model,
            folder,
            args.save_features / name,
            args.out / "model.pt",
            args.batch,
            args.workers,
            device,
        )
    print(f"done: {args.out / 'model.pt'}", flush=True)


def main():
    parser = Parser(
        __doc__, usage="%(prog)s --strategy {single,merge,transfer,search} --out DIR [options]"
    )
    data = parser.add_argument_group("data (folders of stage 01 with --sampling clips)")
    data.add_argument(
        "--strategy",
        choices=("single", "merge", "transfer", "search"),
        required=True,
        help="4.2.1, 4.2.2, 4.2.3, Algorithm 1",
    )
    data.add_argument(
        "--source",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="sets to train on: one (single), several (merge); transfer: sets whose few videos are added to the "
        "targets' (default none, the paper's; the authors' code adds the source)",
    )
    data.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="transfer: model.pt of the source"
    )
    data.add_argument(
        "--target",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="transfer: sets to learn from a few videos",
    )
    data.add_argument(
        "--few-shot",
        type=int,
        default=10,
        metavar="N",
        help="transfer: real and fake videos of each set (default 10)",
    )
    data.add_argument(
        "--reenactment",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="search: sets of facial reenactment, e.g. F2F NT",
    )
    data.add_argument(
        "--swap",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="search: sets of identity swap, e.g. DF FS DFD",
    )
    data.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="search: the set on which the best is chosen (its val split; all of a set "
        "without splits); never one to test on",
    )
    data.add_argument(
        "--test",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="sets whose test split to score",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run, e.g. runs/clrnet/FS",
    )
    data.add_argument(
        "--scores", type=Path, metavar="DIR", help="folder for the scores, e.g. scores/CLRNet-FS"
    )
    data.add_argument(
        "--save-features",
        type=Path,
        metavar="DIR",
        help="write features of all clips of every set named here, for stage 04, to DIR/NAME",
    )
    data.add_argument(
        "--cam",
        type=int,
        metavar="N",
        help="CLRNet: draw class activation maps of N videos of each --test into OUT",
    )
    model_ = parser.add_argument_group("model (transfer takes the checkpoint's)")
    model_.add_argument(
        "--model", choices=list(NETWORKS), default="CLRNet", help="the network (default CLRNet)"
    )
    model_.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the input (default: CLRNet 240, others in baselines.py)",
    )
    model_.add_argument(
        "--filters",
        type=int,
        metavar="N",
        help="CLRNet: of the stem and the first stage (default 64)",
    )
    model_.add_argument(
        "--repetitions",
        type=int,
        nargs="+",
        metavar="N",
        help="CLRNet: blocks of each stage (default 3 4 6 3)",
    )
    model_.add_argument(
        "--gates",
        choices=("hard_sigmoid", "sigmoid"),
        help="CLRNet: of the ConvLSTMs (default hard_sigmoid, the authors')",
    )
    model_.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="CLRNet: start from the authors' Keras weights, .hdf5 or .npz",
    )
    model_.add_argument(
        "--weights",
        default="none",
        metavar="none|imagenet|FILE",
        help="CNN+LSTM, DBiRNN, Xception: what the CNN starts from (default none)",
    )
    training = parser.add_argument_group(
        "training (defaults of CLRNet; not in the paper; others in baselines.py)"
    )
    training.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training clips (default: single 300, merge and transfer 150); 0 only scores",
    )
    training.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="samples a step (default: single 16, merge and transfer 40)",
    )
    training.add_argument(
        "--lr", type=float, metavar="RATE", help="Adam's learning rate (default 5e-5)"
    )
    training.add_argument(
        "--l2", type=float, metavar="RATE", help="L2 on the kernels (default 1e-4)"
    )
    training.add_argument(
        "--brightness",
        type=float,
        nargs=2,
        default=[0.7, 1.3],
        metavar=("LOW", "HIGH"),
        help="augmentation: factor (default 0.7 1.3, the paper's; the authors' code: 0.7 1.0)",
    )
    training.add_argument(
        "--freeze",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="transfer: share of the layers to keep as they are (default 0.5, the paper's; the authors' code: 0.4203)",
    )
    training.add_argument(
        "--max-steps", type=int, metavar="N", help="end after N steps, for a trial"
    )
    training.add_argument(
        "--save-every",
        type=int,
        default=500,
        metavar="N",
        help="steps between saves of last.pt inside an epoch (default 500; every epoch saves too)",
    )
    add_system_arguments(
        parser, workers="processes that load images", seed=True, device=True, precision="auto"
    )
    args = parser.parse_args()

    strategy = args.strategy
    if strategy == "transfer" and not ((args.checkpoint or args.init) and args.target):
        fail("--strategy transfer needs --checkpoint of a source (or --init) and --target")
    if strategy in ("single", "merge") and (args.checkpoint or args.target):
        fail(f"--strategy {strategy} takes --source, no --checkpoint and no --target")
    if strategy == "single" and len(args.source) > 1:
        fail("--strategy single takes one --source; several are --strategy merge")
    if (
        strategy in ("single", "merge")
        and len(args.source) < 1 + (strategy == "merge")
        and args.epochs != 0
    ):
        fail(
            f"--strategy {strategy} needs {'one' if strategy == 'single' else 'two or more'} --source"
        )
    if strategy == "search" and (
        not (args.reenactment and args.swap and args.validation)
        or args.source
        or args.target
        or args.checkpoint
    ):
        fail(
            "--strategy search takes --reenactment, --swap and --validation, no --source, --target or --checkpoint"
        )
    if strategy != "search" and (args.reenactment or args.swap or args.validation):
        fail("--reenactment, --swap and --validation are for --strategy search")
    if bool(args.test) != bool(args.scores):
        fail("--test and --scores go together: the sets to score, and the folder for the scores")
    if args.checkpoint:
        if args.init:
            fail("--checkpoint and --init both say where to start: give one")
        if args.filters or args.repetitions or args.gates or args.image_size:
            fail(
                "the network is the checkpoint's: leave out --filters, --repetitions, --gates and --image-size"
            )
        args.model = load_checkpoint(args.checkpoint, "05").get("network", "CLRNet")
        if args.model not in NETWORKS:
            fail(f"{args.checkpoint} holds a network {args.model!r}, which is not known here")
    if args.model != "CLRNet" and (
        args.filters or args.repetitions or args.gates or args.init or args.cam
    ):
        fail("--filters, --repetitions, --gates, --init and --cam are for CLRNet")
    if args.weights != "none" and not hasattr(NETWORKS[args.model], "arch"):
        fail("--weights is for CNN+LSTM, DBiRNN and Xception")
    defaults, many = NETWORKS[args.model].defaults, strategy != "single"
    for name in ("epochs", "batch", "lr", "l2", "image_size"):
        if getattr(args, name) is None and not (
            strategy == "search" and name in ("epochs", "batch")
        ):
            setattr(
                args,
                name,
                defaults[name][many] if isinstance(defaults[name], tuple) else defaults[name],
            )
    args.kwargs = dict(image_size=args.image_size, frames=defaults["frames"])
    if args.model == "CLRNet":
        args.kwargs |= dict(
            filters=args.filters or 64,
            repetitions=args.repetitions or [3, 4, 6, 3],
            gates=args.gates or "hard_sigmoid",
        )
    numbers = (
        args.batch,
        args.image_size,
        args.few_shot,
        args.save_every,
        args.max_steps,
        args.cam,
        args.filters,
        *(args.repetitions or ()),
    )
    if (
        any(n is not None and n < 1 for n in numbers)
        or (args.epochs or 0) < 0
        or not 0 <= args.freeze < 1
        or args.workers < 0
        or args.l2 < 0
        or not 0 <= args.brightness[0] <= args.brightness[1]
    ):
        fail(
            "numbers must be 1 or more, --epochs and --l2 0 or more, --freeze 0 to below 1, --brightness 0 or more and rising"
        )
    if args.batch and args.batch < WORLD_SIZE:
        fail(
            f"--batch {args.batch} is the joint batch of {WORLD_SIZE} processes: give each a sample"
        )
    args.test_split = "test"
    if strategy == "search":
        grid_search.search(args)
    else:
        train(args)


if __name__ == "__main__":
    run_script(main)

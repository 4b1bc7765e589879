#!/usr/bin/env python3
"""Stage 05: CLRNet, a residual network of ConvLSTM cells on clips of 5 frames, with single, merge and transfer learning.

    python 05_train_clrnet.py --strategy single --source faces/FS --test faces/FS faces/DF --out runs/clrnet/FS --scores scores/CLRNet-FS
    python 05_train_clrnet.py --strategy merge --source faces/FS faces/DF faces/NT --test faces/F2F --out runs/clrnet/merge --scores scores/CLRNet-merge
    python 05_train_clrnet.py --strategy transfer --checkpoint runs/clrnet/FS/model.pt --target faces/DF faces/NT \\
        --test faces/DF faces/NT --out runs/clrnet/FS-to-DF-NT --scores scores/CLRNet-transfer
    add  --save-features features/clips  to adapt the network's features to another set with 04_train_bpdann.py
    add  --filters 8 --repetitions 1 1 1 1 --image-size 64 --batch 8 --epochs 5  for minutes on a CPU

What comes out, in OUT: model.pt (single, merge: the epoch with the highest AUC on the sources' validation splits; transfer:
the last epoch), last.pt, log.csv, args.json; and SCORES/NAME.csv, P(fake) of every clip of the test split of each --test.
With --save-features, DIR/NAME/features.npy and index.csv: 2048 numbers a clip, which 04 reads as they are; the two papers combined.

The network is that of the paper's Figure 6, layer by layer as the authors' published code builds it. Deviations and choices
(paper or, where named, the authors' code -> ours):

    optimizer           not given (code: Adam 5e-5, L2 1e-4 on input kernels) -> as the code
    batch, epochs       not given (code: 16 and 300 single, 40 and 150 transfer and merge) -> as the code
    brightness          -30..30 % (code: factor 0.7..1.0) -> the paper's, factor 0.7..1.3
    channel shift       -50..50, meaning not given -> one value a clip added to all channels, grey levels of 255, as Keras does
    border after zoom and rotation   not given -> the border pixels repeated
    freezing            first half of the layers (code: all but the last 120 of 207) -> the paper's: 103 of 207 layers
    frozen batch norm   (code: normalises with the batch's statistics) -> with its stored ones; frozen dropout is off
    transfer set        10 videos of each target (code: of the source too) -> 10 real and 10 fake of each target; the source's
                        too if --source names it
    which epoch         not said -> highest validation AUC; in transfer the last, since choosing on the targets' validation
                        videos would use more labelled target videos than the ten
    merged sets         "an equal number of samples from each" (6.2.3) -> as many clips from each as the smallest has
    batch norm's moving variance   (code: biased) -> unbiased, as torch has it
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common import (INDEX_COLUMNS, Faces, add_system_arguments, auc, choose_device, epoch_batches, fail, folder_names, group_clips, load_batches,
                    load_checkpoint, percent, progress, random_state, read_index, rows_of_split, save_checkpoint,
                    set_random_state, start_run, write_scores, write_table, write_whole)


# ---------------------------------------------------------------- the network (CLRNet 4.1)

def pad_same(x, kernel, stride, value=0.0):
    """Pad (N, C, H, W) as TensorFlow's "same" does: the odd pixel goes after. Returns a tensor to convolve without padding."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def hard_sigmoid(x):
    """Keras' hard sigmoid, clip(0.2 x + 0.5, 0, 1); torch's hardsigmoid has another slope."""
    return (0.2 * x + 0.5).clamp(0, 1)


class ConvLSTM(nn.Module):
    """ConvLSTM without peepholes (4.1.1): (N, T, C, H, W) -> hidden states (N, T, F, H / stride, W / stride).

    Gates in the order i, f, c, o along the channels; the stride is the input convolution's alone; the state starts at
    zero, so the first frame needs neither the recurrent convolution nor the forget gate.
    """

    def __init__(self, channels, filters, kernel, stride=1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.input = nn.Conv2d(channels, 4 * filters, kernel, stride)
        self.recurrent = nn.Conv2d(filters, 4 * filters, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        n, frames = x.shape[:2]
        x = x.flatten(0, 1)
        if self.kernel == 1:
            x = x[:, :, ::self.stride, ::self.stride]
            z = F.conv2d(x, self.input.weight, self.input.bias)
        else:
            z = self.input(pad_same(x, self.kernel, self.stride))
        outputs = []
        for z_t in z.unflatten(0, (n, frames)).unbind(1):
            if outputs:
                i, f, g, o = (z_t + self.recurrent(h)).chunk(4, 1)
                c = hard_sigmoid(f) * c + hard_sigmoid(i) * torch.tanh(g)
            else:
                i, _, g, o = z_t.chunk(4, 1)
                c = hard_sigmoid(i) * torch.tanh(g)
            h = hard_sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, 1)


class FrameNorm(nn.BatchNorm2d):
    """Batch norm of (N, T, C, H, W) over batch, time, height and width, with Keras' epsilon and momentum."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Block(nn.Module):
    """Pre-activation bottleneck (He et al. 2016) of ConvLSTMs: (N, T, C, H, W) -> (N, T, 4 F, H / stride, W / stride)."""

    def __init__(self, channels, filters, stride=1, very_first=False, shortcut=False):
        super().__init__()
        self.norm_a = None if very_first else FrameNorm(channels)
        self.a = ConvLSTM(channels, filters, 3 if very_first else 1, stride)
        self.dropout_a, self.dropout_b = nn.Dropout(0.25), nn.Dropout(0.25)
        self.norm_b, self.b = FrameNorm(filters), ConvLSTM(filters, filters, 3)
        self.norm_c = FrameNorm(filters)
        self.shortcut = ConvLSTM(channels, 4 * filters, 1, stride) if shortcut else None
        self.norm_shortcut = FrameNorm(4 * filters) if shortcut else None
        self.c = ConvLSTM(filters, 4 * filters, 1)

    def forward(self, x):
        y = x if self.norm_a is None else F.relu(self.norm_a(x))
        y = self.dropout_a(self.a(y))
        y = self.dropout_b(self.b(F.relu(self.norm_b(y))))
        y = self.c(F.relu(self.norm_c(y)))
        return y + (x if self.shortcut is None else self.norm_shortcut(self.shortcut(x)))

    def layers(self):
        """The block's layers in Keras' order; None stands for one without weights or dropout (ReLU, sum)."""
        first = [] if self.norm_a is None else [self.norm_a, None]
        short = [] if self.shortcut is None else [self.shortcut, self.norm_shortcut]
        return [*first, self.a, self.dropout_a, self.norm_b, None, self.b, self.dropout_b, self.norm_c, None, *short, self.c, None]


class CLRNet(nn.Module):
    """The network of Figure 6: frames (N, T, 3, H, W) in 0..1 -> logits (N, 2): real, fake.

    Args: filters of the stem and the first stage (64: 248 million parameters); repetitions, blocks a stage; image_size
    and frames are not needed by the network, they are kept for whoever loads it.
    """

    def __init__(self, filters=64, repetitions=(3, 4, 6, 3), image_size=240, frames=5):
        super().__init__()
        self.image_size, self.frames = image_size, frames
        self.stem, self.norm_stem = ConvLSTM(3, filters, 7, 2), FrameNorm(filters)
        self.stages, channels = nn.ModuleList(), filters
        for stage, count in enumerate(repetitions):
            width = filters * 2 ** stage
            blocks = [Block(channels if k == 0 else 4 * width, width, 2 if k == 0 else 1, stage == k == 0, k == 0) for k in range(count)]
            self.stages.append(nn.Sequential(*blocks))
            channels = 4 * width
        self.norm_head, self.dropout, self.head = FrameNorm(channels), nn.Dropout(0.25), nn.Linear(channels, 2)

    def features(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, D) features; D = 2048 at full size."""
        x = F.relu(self.norm_stem(self.stem(x)))
        shape = x.shape[:2]
        x = F.max_pool2d(pad_same(x.flatten(0, 1), 3, 3, -torch.inf), 3, 3).unflatten(0, shape)
        for stage in self.stages:
            x = stage(x)
        return self.norm_head(x).mean((1, 3, 4))                          # no ReLU before the mean

    def forward(self, x):
        return self.head(self.dropout(self.features(x)))

    def layers(self):
        """All layers in Keras' order (207 at full size), None for one without weights or dropout."""
        blocks = [layer for stage in self.stages for block in stage for layer in block.layers()]
        return [None, self.stem, self.norm_stem, None, None, *blocks, self.norm_head, None, self.dropout, self.head]

    def frozen_part(self, share):
        """The modules among the first `share` (0..1) of the layers, counted as Keras counts them (4.2.3)."""
        layers = self.layers()
        return [layer for layer in layers[:int(share * len(layers))] if layer is not None]


def load_keras_weights(model, arrays):
    """Copy weights in Keras' order into a CLRNet, in place; the head's columns are swapped (theirs: fake, real).

    arrays: kernels height x width x in x 4F, biases, batch norms as gamma, beta, mean, variance. Raises ValueError
    where number or shape do not fit.
    """
    targets = []
    for layer in model.layers():
        if isinstance(layer, ConvLSTM):
            targets += [layer.input.weight, layer.recurrent.weight, layer.input.bias]
        elif isinstance(layer, FrameNorm):
            targets += [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    targets += [model.head.weight, model.head.bias]
    arrays = [np.asarray(array) for array in arrays]
    if len(arrays) != len(targets):
        raise ValueError(f"{len(arrays)} arrays do not fit this network: it takes {len(targets)}")
    for k, (target, array) in enumerate(zip(targets, arrays)):
        if k >= len(targets) - 2:
            array = array[..., ::-1]                                      # fake, real -> real, fake
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != tuple(target.shape):
            raise ValueError(f"array {k} has shape {array.shape} in torch's order, this network needs {tuple(target.shape)}")
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(array)))


@torch.no_grad()
def initialise(model):
    """Draw initial weights as the authors' code does: input kernels He normal (truncated), recurrent ones orthogonal,
    biases zero but 1 for the forget gate, the head Glorot uniform."""
    for layer in model.modules():
        if isinstance(layer, ConvLSTM):
            fan_in = layer.input.weight[0].numel()
            std = (2 / fan_in) ** 0.5 / 0.87962566                        # deviation of a normal cut off at 2 sigma
            nn.init.trunc_normal_(layer.input.weight, std=std, a=-2 * std, b=2 * std)
            out, channels, k, _ = layer.recurrent.weight.shape
            flat = nn.init.orthogonal_(torch.empty(k * k * channels, out))
            layer.recurrent.weight.copy_(flat.view(k, k, channels, out).permute(3, 2, 0, 1))
            layer.input.bias.zero_()
            layer.input.bias[out // 4:out // 2] = 1
    nn.init.xavier_uniform_(model.head.weight)
    nn.init.zeros_(model.head.bias)


# ---------------------------------------------------------------- clips

def augment(clips, generator):
    """Section 5.1.3 on clips (N, T, 3, H, W) in 0..1: one draw a clip for all its frames."""
    n, frames = clips.shape[:2]
    draw = torch.rand(n, 5, generator=generator)
    brightness, shift = 0.7 + 0.6 * draw[:, 0], (100 * draw[:, 1] - 50) / 255
    zoom, angle = 0.8 + 0.4 * draw[:, 2], torch.deg2rad(60 * draw[:, 3] - 30)
    mirror = torch.where(draw[:, 4] < 0.5, -1.0, 1.0)
    cos, sin, zero = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.zeros(n)
    matrix = torch.stack([cos * mirror, -sin, zero, sin * mirror, cos, zero], 1).view(n, 2, 3).to(clips.device)
    grid = F.affine_grid(matrix, (n, 3, *clips.shape[3:]), align_corners=False).repeat_interleave(frames, 0)
    moved = F.grid_sample(clips.flatten(0, 1), grid, padding_mode="border", align_corners=False).view_as(clips)
    brightness, shift = (v.view(n, 1, 1, 1, 1).to(clips.device) for v in (brightness, shift))
    return (moved * brightness + shift).clamp(0, 1)


def read_clips(folder, split):
    """The clips of a split: (items for Faces, index, row of each clip's first frame, labels)."""
    index = read_index(folder)
    rows = rows_of_split(index, split, folder)
    items, first = group_clips(index, rows, folder) if len(rows) else ([], np.zeros(0, np.int64))
    return items, index, first, index["label"][first]


def few_shot(items, index, first, count, seed, folder):
    """`count` real and `count` fake videos drawn by seed (5.2.3): (their clips, labels, names of the videos)."""
    names = []
    for label in (0, 1):
        videos = sorted({index["video"][r] for r in first if index["label"][r] == label})
        if len(videos) < count:
            fail(f"{folder}: {len(videos)} {('real', 'fake')[label]} videos in the train split, --few-shot asks for {count}")
        names += np.random.default_rng((seed, label)).permutation(videos)[:count].tolist()
    chosen = [k for k, r in enumerate(first) if index["video"][r] in names]
    return [items[k] for k in chosen], index["label"][first[chosen]], names


@torch.inference_mode()
def predict(model, function, faces, batch, workers, device, what):
    """`function` of every clip, a (N, T, 3, H, W) batch in 0..1 at a time, with `model` in evaluation mode: float32 array."""
    model.eval()
    batches = [list(range(k, min(k + batch, len(faces)))) for k in range(0, len(faces), batch)]
    loader = progress(load_batches(faces, batches, workers), total=len(batches), desc=what, unit="batch")
    return np.concatenate([function(clips.to(device) / 255).float().cpu().numpy() for clips in loader])


def score(model, *args):
    """P(fake) of every clip: (N,) float32 array; arguments as in `predict`."""
    return predict(model, lambda clips: model(clips).softmax(1)[:, 1], *args)


def save_features(model, folder, out, checkpoint, *args):
    """Write the features of all clips of a folder as 03 writes those of images: OUT/features.npy (N, D) and index.csv, a row a clip."""
    start_run(out, argparse.Namespace(checkpoint=checkpoint, faces=folder), inputs=[checkpoint, folder / "index.csv"])
    if not (out / "index.csv").exists():                                  # written last: its being there means done
        items, index, first, _ = read_clips(folder, "all")
        with write_whole(out / "features.npy") as part, open(part, "wb") as file:
            np.save(file, predict(model, model.features, Faces(items, model.image_size), *args, f"features of {folder.name}"))
        index["clip"] = [str(clip) for clip in index["clip"]]
        write_table(out / "index.csv", INDEX_COLUMNS, ([index[column][r] for column in INDEX_COLUMNS] for r in first.tolist()))
    print(f"{out}: features of {folder}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data (folders of stage 01 with --sampling clips)")
    data.add_argument("--strategy", choices=("single", "merge", "transfer"), required=True, help="4.2.1, 4.2.2, 4.2.3")
    data.add_argument("--source", type=Path, nargs="+", default=[], help="sets to train on: one (single), several (merge)")
    data.add_argument("--checkpoint", type=Path, help="transfer: model.pt of the source")
    data.add_argument("--target", type=Path, nargs="+", default=[], help="transfer: sets to learn from a few videos")
    data.add_argument("--few-shot", type=int, default=10, metavar="N", help="transfer: real and fake videos of each set (default 10)")
    data.add_argument("--test", type=Path, nargs="+", default=[], help="sets whose test split to score")
    data.add_argument("--out", type=Path, required=True, help="folder of the run, e.g. runs/clrnet/FS")
    data.add_argument("--scores", type=Path, help="folder for the scores, e.g. scores/CLRNet-FS")
    data.add_argument("--save-features", type=Path, metavar="DIR", help="write features of all clips of every set named here, for stage 04, to DIR/NAME")
    model_ = parser.add_argument_group("model (transfer takes the checkpoint's)")
    model_.add_argument("--filters", type=int, default=64, help="of the stem and the first stage (default 64)")
    model_.add_argument("--repetitions", type=int, nargs="+", default=[3, 4, 6, 3], help="blocks of each stage (default 3 4 6 3)")
    model_.add_argument("--image-size", type=int, default=240, metavar="PIXELS", help="side of the input (default 240)")
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, help="(default: single 300, merge and transfer 150; not in the paper)")
    training.add_argument("--batch", type=int, help="clips a step (default: single 16, merge and transfer 40; not in the paper)")
    training.add_argument("--lr", type=float, default=5e-5, help="Adam's learning rate (default 5e-5; not in the paper)")
    training.add_argument("--l2", type=float, default=1e-4, help="on the input kernels (default 1e-4; not in the paper)")
    training.add_argument("--freeze", type=float, default=0.5, metavar="SHARE",
                          help="transfer: share of the layers to keep as they are (default 0.5; the authors' code: 0.42)")
    training.add_argument("--max-steps", type=int, metavar="N", help="end after N steps, for a trial")
    training.add_argument("--save-every", type=int, default=500, metavar="N", help="steps between saves of last.pt inside an epoch "
                                                                                   "(default 500; every epoch saves too)")
    add_system_arguments(parser, workers="processes that load images", seed=True, device=True)
    args = parser.parse_args()
    transfer = args.strategy == "transfer"
    args.epochs = args.epochs or (300 if args.strategy == "single" else 150)
    args.batch = args.batch or (16 if args.strategy == "single" else 40)
    if min(args.epochs, args.batch, args.filters, args.image_size, args.few_shot, args.save_every, args.max_steps or 1,
           *args.repetitions) < 1 or not 0 <= args.freeze < 1 or args.workers < 0:
        fail("numbers must be 1 or more, --freeze 0 to below 1")
    if transfer and not (args.checkpoint and args.target):
        fail("--strategy transfer needs --checkpoint of a source and --target")
    if not transfer and (args.checkpoint or args.target or len(args.source) < 1 + (args.strategy == "merge")):
        fail(f"--strategy {args.strategy} takes {'one --source' if args.strategy == 'single' else 'two or more --source'}, "
             f"no --checkpoint and no --target")
    if args.strategy == "single" and len(args.source) > 1:
        fail("--strategy single takes one --source; several are --strategy merge")
    if bool(args.test) != bool(args.scores):
        fail("--test and --scores go together: the sets to score, and the folder for the scores")

    # Data: the same number of clips from each set (merge), or a few videos of each (transfer).
    tests, sets, drawn = folder_names(args.test), folder_names([*args.source, *args.target]), {}
    train_items, labels, val_items, val_labels = [], [], [], []
    for name, folder in sets.items():
        items, index, first, y = read_clips(folder, "train")
        if transfer:
            items, y, drawn[name] = few_shot(items, index, first, args.few_shot, args.seed, folder)
        else:
            more, _, _, more_y = read_clips(folder, "val")
            val_items, val_labels = val_items + more, [*val_labels, *more_y]
        train_items.append(items)
        labels.append(y)
    smallest = min(map(len, train_items))
    for k, name in enumerate(sets) if args.strategy == "merge" else ():
        keep = np.sort(np.random.default_rng((args.seed, k)).permutation(len(train_items[k]))[:smallest])
        print(f"{name}: {len(keep)} of {len(train_items[k])} training clips, as many as the smallest set has")
        train_items[k], labels[k] = [train_items[k][j] for j in keep], labels[k][keep]
    train_items, labels = [item for items in train_items for item in items], torch.from_numpy(np.concatenate(labels))
    if labels.min() == labels.max():
        fail("the training clips have only one class: real and fake ones are needed")
    test_clips = {name: read_clips(folder, "test") for name, folder in tests.items()}
    length = {len(item) for items in (train_items, val_items, *(clips[0] for clips in test_clips.values())) for item in items}
    if len(length) > 1:
        fail(f"the sets have clips of {min(length)} and of {max(length)} frames: extract them alike")

    # Model.
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    last = args.out / "last.pt"
    kwargs = dict(filters=args.filters, repetitions=args.repetitions, image_size=args.image_size, frames=length.pop())
    origin = load_checkpoint(args.checkpoint, "05") if transfer else None
    if transfer:
        kwargs = origin["kwargs"]
    inputs = sorted({folder / "index.csv" for folder in (*sets.values(), *tests.values())}) + ([args.checkpoint] if transfer else [])
    start_run(args.out, args, inputs=inputs, free=("out", "workers", "device", "save_every", "scores", "save_features"))
    model = CLRNet(**kwargs)
    saved = load_checkpoint(last, "05") if last.exists() else None
    if saved or transfer:
        model.load_state_dict((saved or origin)["model"])
    else:
        initialise(model)
    model.to(device)
    frozen = model.frozen_part(args.freeze) if transfer else []
    for layer in frozen:
        layer.requires_grad_(False)
    train, val = Faces(train_items, model.image_size), Faces(val_items, model.image_size)
    kernels = [layer.input.weight for layer in model.modules() if isinstance(layer, ConvLSTM)]
    others = [p for p in model.parameters() if all(p is not k for k in kernels)]
    # L2 adds args.l2 * w^2 to the loss, so 2 * args.l2 * w to the gradient: plain Adam's weight_decay, not AdamW's.
    optimizer = torch.optim.Adam([dict(params=[p for p in kernels if p.requires_grad], weight_decay=2 * args.l2),
                                  dict(params=[p for p in others if p.requires_grad])], lr=args.lr, eps=1e-7)
    state = dict(epoch=0, batch=0, step=0, loss=0.0, best=-1.0, log=[], finished=False)
    if saved:
        optimizer.load_state_dict(saved["optimizer"])
        set_random_state(saved["random"])
        state = {k: saved[k] for k in state}
    saved = origin = None                                                 # frees their memory
    per_epoch = len(epoch_batches(len(train), args.batch, args.seed, 0))
    print(f"CLRNet: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters, "
          f"{sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6:.2f} of them trained; clips of "
          f"{model.frames} x {model.image_size} x {model.image_size}\n"
          f"{args.strategy}: {len(train)} training clips ({int(labels.sum())} fake) of {', '.join(sets)}, {len(val)} for validation; "
          f"{args.epochs} epochs of {per_epoch} steps of {min(args.batch, len(train))} clips; device {device}, "
          f"{args.workers} loading processes", flush=True)

    run = {k: [str(v) for v in value] if isinstance(value, list) else str(value) for k, value in vars(args).items()
           if k not in ("out", "scores", "workers", "device", "save_every", "save_features")} | {"few_shot_videos": drawn}
    run["faces_args"] = {name: (f / "args.json").read_text() for name, f in sets.items() if (f / "args.json").exists()}

    def save(name):
        save_checkpoint(args.out / name, stage="05", model=model.state_dict(), optimizer=optimizer.state_dict(), random=random_state(),
                        kwargs=kwargs, args=run, **state)

    while state["epoch"] < args.epochs and not state["finished"]:
        model.train()
        for layer in frozen:
            layer.eval()
        batches = epoch_batches(len(train), args.batch, args.seed, state["epoch"])[state["batch"]:]
        bar = progress(total=per_epoch, initial=state["batch"], desc=f"epoch {state['epoch'] + 1}", unit="step", iterable=None)
        start = time.perf_counter()
        waited, mark, done = 0.0, start, 0
        for batch, clips in zip(batches, load_batches(train, batches, args.workers, pin=device.type == "cuda")):
            waited += time.perf_counter() - mark
            # Augmentation depends on seed and step alone, so that a resumed run draws the same.
            generator = torch.Generator().manual_seed(args.seed * 1_000_003 + state["step"])
            clips = augment(clips.to(device, non_blocking=True) / 255, generator)
            loss = F.cross_entropy(model(clips), labels[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            value = loss.item()
            if not np.isfinite(value):
                fail(f"the loss is {value} at step {state['step'] + 1} (epoch {state['epoch'] + 1}): lower --lr; {last} is the last good state")
            optimizer.step()
            state.update(batch=state["batch"] + 1, step=state["step"] + 1, loss=state["loss"] + value)
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()
            done += len(batch)
            if state["step"] == args.max_steps:
                break
            if state["step"] % args.save_every == 0:
                save("last.pt")
            mark = time.perf_counter()
        seconds = time.perf_counter() - start
        bar.close()

        value = auc(val_labels, score(model, val, args.batch, args.workers, device, "validation")) if len(val) else float("nan")
        mean, better = state["loss"] / state["batch"], not len(val) or np.isnan(value) or value > state["best"]
        checked = f"validation AUC {percent(value)}{', the best' if better else ''}" if len(val) else "no validation"
        print(f"epoch {state['epoch'] + 1}: loss {mean:.4f}, {checked}; "
              f"{done / seconds:.1f} clips a second, {100 * waited / seconds:.0f} % of the time waiting for data", flush=True)
        state["log"].append([state["epoch"] + 1, state["step"], round(mean, 6), round(value, 6)])
        state.update(epoch=state["epoch"] + 1, batch=0, loss=0.0, best=max(state["best"], value) if value == value else state["best"])
        state["finished"] = state["epoch"] == args.epochs or state["step"] == args.max_steps
        write_table(args.out / "log.csv", ("epoch", "step", "train_loss", "val_auc"), state["log"])
        if better:
            save("model.pt")
        save("last.pt")

    model.load_state_dict(load_checkpoint(args.out / "model.pt", "05")["model"])
    for name, (items, index, first, y) in test_clips.items():
        scores = score(model, Faces(items, model.image_size), args.batch, args.workers, device, name)
        write_scores(args.scores / f"{name}.csv", index, first, scores)
        print(f"{args.scores / (name + '.csv')}: {len(y)} clips, AUC {percent(auc(y, scores))}", flush=True)
    for name, folder in folder_names({path.resolve(): path for path in (*sets.values(), *tests.values())}.values()).items() if args.save_features else ():
        save_features(model, folder, args.save_features / name, args.out / "model.pt", args.batch, args.workers, device)
    print(f"done: {args.out / 'model.pt'}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")

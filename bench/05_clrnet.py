#!/usr/bin/env python3
"""A training step of the full CLRNet, beside other ConvLSTMs, and its peak of memory.

    python bench/05_clrnet.py --batch 1 4
    python bench/05_clrnet.py --batch 4 --tensorflow /path/to/python   # one with tensorflow
    python bench/05_clrnet.py --batch 16 --device cuda

248 million parameters, clips of 5 x 240 x 240.

    ours            as 05 trains it, without augmentation, in the precision that it chooses on this
                    device; and in fp32
    concatenating   the same network with the cell as known packages have it: input and state
                    concatenated, one convolution per frame (where the input has a stride, every
                    second pixel of it is taken, which is cheapest), and torch's Adam as it comes
    Keras           the authors' network in Keras, if --tensorflow is given
    limit           the multiply-adds of a step at the rate of a large matrix product, in fp32 and
                    in bf16, measured in the same round

Each run is a process of its own, so that its peak of memory is its own: two steps to warm up, then
--steps.
"""

import json
import resource
import subprocess
import sys
from importlib import import_module
from statistics import median

from side_by_side import ROOT, arguments, in_turn, peak_rate, ratio, record, seconds, show, table

# Without the zero state; training is three times that (forward, gradient of the input, gradient
# of the weights).
MULTIPLY_ADDS = 3 * 74e9
WARM_UP = 2


def concatenating():
    """A class to stand for `ConvLSTM`: (N, T, C, H, W) -> (N, T, F, H / stride, W / stride)."""
    import torch
    from torch import nn

    def hard_sigmoid(x):
        return (0.2 * x + 0.5).clamp(0, 1)

    class Concatenating(nn.Module):
        def __init__(self, channels, filters, kernel, stride=1):
            super().__init__()
            self.filters = filters
            self.stride = stride
            self.input = nn.Conv2d(channels + filters, 4 * filters, kernel, padding=kernel // 2)

        def forward(self, x):
            x = x[..., :: self.stride, :: self.stride]
            h = c = x.new_zeros(len(x), self.filters, *x.shape[3:])
            frames = []
            for t in range(x.shape[1]):
                i, f, g, o = self.input(torch.cat([x[:, t], h], 1)).chunk(4, 1)
                c = hard_sigmoid(f) * c + hard_sigmoid(i) * torch.tanh(g)
                h = hard_sigmoid(o) * torch.tanh(c)
                frames.append(h)
            return torch.stack(frames, 1)

    return Concatenating


def torch_step(which, batch, device):
    """A function that does one training step of `which` network."""
    import torch
    from torch.nn import functional as F

    from networks import clrnet
    from running.devices import autocast, choose_precision, place

    device = torch.device(device)
    # In float32 also without TF32 on a GPU.
    precision = choose_precision({"ours": "auto", "ours, bf16": "bf16"}.get(which, "fp32"), device)
    if which == "concatenating":
        clrnet.ConvLSTM = concatenating()
    torch.manual_seed(0)
    model = clrnet.CLRNet().train()
    if which == "concatenating":
        model.to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-5, eps=1e-7)
    else:
        clrnet.initialize(model)
        place(model, device)
        optimizer = import_module("05_train_clrnet").make_optimizer(model, 5e-5, 1e-4)
    clips = torch.rand(batch, 5, 3, 240, 240, device=device)
    labels = torch.arange(batch, device=device) % 2

    def step():
        optimizer.zero_grad()
        with autocast(device, precision):
            logits = model(clips)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def keras_step(batch):
    """A function that does one step of the authors' network: Keras' ConvLSTM2D throughout."""
    import keras
    import numpy as np
    from keras import layers

    def cell(x, filters, kernel, stride=1):
        return layers.ConvLSTM2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            return_sequences=True,
            recurrent_activation="hard_sigmoid",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(1e-4),
        )(x)

    def norm(x, relu=True):
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    inputs = layers.Input((5, 240, 240, 3))
    x = layers.MaxPooling3D((1, 3, 3), padding="same")(norm(cell(inputs, 64, 7, 2)))
    for stage, blocks in enumerate((3, 4, 6, 3)):
        filters = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            if stage == block == 0:
                y = cell(x, filters, 3, stride)
            else:
                y = cell(norm(x), filters, 1, stride)
            y = cell(norm(layers.Dropout(0.25)(y)), filters, 3)
            y = cell(norm(layers.Dropout(0.25)(y)), 4 * filters, 1)
            shortcut = norm(cell(x, 4 * filters, 1, 2), relu=False) if block == 0 else x
            x = layers.Add()([y, shortcut])
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling3D()(norm(x, relu=False)))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    assert model.count_params() == 248_160_514
    model.compile(keras.optimizers.Adam(5e-5), "categorical_crossentropy")
    clips = np.random.default_rng(0).random((batch, 5, 240, 240, 3), np.float32)
    labels = np.eye(2, dtype=np.float32)[np.arange(batch) % 2]
    return lambda: model.train_on_batch(clips, labels)


def measure_here(which, batch, steps, device):
    """Print, as JSON, the seconds of each step and the peak of memory in GB."""
    step = keras_step(batch) if which == "Keras" else torch_step(which, batch, device)
    times = [seconds(step) for _ in range(WARM_UP + steps)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if device != "cpu":
        import torch

        peak = torch.cuda.max_memory_allocated() / 1e9
    print(json.dumps(dict(seconds=times[WARM_UP:], peak=peak)))


def measure(which, batch, args):
    """What `measure_here` finds in a process of its own."""
    python = args.tensorflow if which == "Keras" else sys.executable
    command = [python, __file__, "--only", which, "--batch", str(batch)]
    command += ["--steps", str(args.steps), "--device", args.device]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "bench")
    if done.returncode:
        error = done.stderr.strip()[-300:]
        sys.exit(f"{which} at {batch} clips ended with status {done.returncode}: {error}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(batch, args):
    """Lines of the table for one batch size."""
    import torch

    peaks = {}

    def seconds_per_step(which):
        result = measure(which, batch, args)
        peaks[which] = max(peaks.get(which, 0), result["peak"])
        return median(result["seconds"])

    names = ["ours", "ours, fp32", "concatenating", *(["Keras"] if args.tensorflow else [])]
    alternatives = {name: lambda name=name: seconds_per_step(name) for name in names}
    for name in ("fp32", "bf16"):
        dtype = torch.float32 if name == "fp32" else torch.bfloat16
        alternatives[f"limit, {name}"] = lambda dtype=dtype: (
            batch * MULTIPLY_ADDS / peak_rate(args.device, dtype)
        )
    found = in_turn(alternatives, args.rounds)
    rows = []
    for name, times in found.items():
        per_clip = show([t / batch for t in times])
        peak = f"{peaks[name]:.1f}" if name in peaks else ""
        rows.append((name, show(times), per_clip, peak, ratio(times, found["ours"])))
    header = ("", "seconds per step", "seconds per clip", "peak memory, GB", "time, in ours")
    clips = "1 clip" if batch == 1 else f"{batch} clips"
    return [f"{clips} per step:", "", *table(header, rows), ""]


def main():
    parser = arguments(__doc__, rounds=3)
    add = parser.add_argument
    add("--batch", type=int, nargs="+", default=[1, 4], help="clips per step (default 1 4)")
    add("--steps", type=int, default=2, help="measured steps of a round (default 2)")
    add("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    text = "a Python that can import tensorflow, for the Keras network"
    add("--tensorflow", metavar="PYTHON", help=text)
    text = "measure one alternative at one batch size, in this process, and print JSON"
    choices = ("ours", "ours, fp32", "ours, bf16", "concatenating", "Keras")
    add("--only", choices=choices, help=text)
    args = parser.parse_args()
    if args.only:
        measure_here(args.only, args.batch[0], args.steps, args.device)
        return
    lines = []
    for batch in args.batch:
        lines += compare(batch, args)
    record(args, lines[:-1], args.device)


if __name__ == "__main__":
    main()

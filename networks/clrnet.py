"""CLRNet: the network of the CLRNet paper's Figure 6, its class activation maps, and the authors' Keras weights. Trained by 05_train_clrnet.py.

Every network that 05 trains, this one and those of baselines.py, has

    NAME.defaults        what 05 takes where a flag is not given; `frames` is the number of consecutive frames of a sample
    image_size, frames   side of the input in pixels, frames of a sample
    forward(x)           (N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake
    features(x)          (N, T, 3, S, S) in 0..1 -> (N, D)
    kernels()            the weights that --l2 acts on
    layers()             its layers in their order, for `frozen_part`
"""

from itertools import count, takewhile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


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


GATES = {"hard_sigmoid": hard_sigmoid, "sigmoid": torch.sigmoid}


def by_frame(x):
    """(N, T, ...) -> (T N, ...): frame by frame, as the network's activations lie in memory, so that each frame of a batch is one piece."""
    return x.transpose(0, 1).flatten(0, 1)


def by_sample(x, n):
    """What `by_frame` gave, or something a frame computed from it, as (N, T, ...) again; no copy."""
    return x.unflatten(0, (-1, n)).transpose(0, 1)


def pointwise(x, weight, bias=None):
    """A 1 x 1 convolution of (N, C, H, W) as one matrix product; the result's channels are innermost in memory, and those of x better are."""
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def rows(x):
    """(N, C, H, W) -> (N H W, C)."""
    return x.movedim(1, -1).flatten(0, 2)


class Recurrence(torch.autograd.Function):
    """The steps of a ConvLSTM behind its input convolutions: z (T, N, 4 F, H, W), weight (4 F, F, k, k) -> hidden states (T, N, F, H, W).

    Autograd would do the same with a weight gradient for each step, and keep every intermediate result. Here the steps' states and their
    gradients are two arrays, so that the weight's gradient is one convolution over all steps.
    """

    @staticmethod
    def forward(ctx, z, weight, hard):
        pad, gates = (
            weight.shape[-1] // 2,
            torch.empty_like(z),
        )  # gates after their activations: i, f, c, o
        cells, states = (torch.empty_like(z[:, :, : z.shape[2] // 4]) for _ in range(2))
        half = z.new_tensor(0.5)
        for t, z_t in enumerate(z):
            if t:
                z_t = (
                    F.conv2d(states[t - 1], weight, padding=pad)
                    if pad
                    else pointwise(states[t - 1], weight)
                ).add_(z_t)
            (i, f, g, o), zs = gates[t].chunk(4, 1), z_t.chunk(4, 1)
            for gate, x in ((i, zs[0]), (f, zs[1]), (o, zs[3])):
                if hard:
                    torch.add(half, x, alpha=0.2, out=gate).clamp_(0, 1)
                else:
                    torch.sigmoid(x, out=gate)
            torch.tanh(zs[2], out=g)
            c = torch.mul(i, g, out=cells[t])
            if t:
                c.addcmul_(f, cells[t - 1])
            torch.mul(o, torch.tanh(c), out=states[t])
        ctx.hard = hard
        ctx.save_for_backward(gates, cells, states, weight)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_states):
        gates, cells, states, weight = ctx.saved_tensors
        aten, frames, pad = torch.ops.aten, len(gates), weight.shape[-1] // 2

        def before(out, d, gate):  # the gradient before a gate's activation
            if ctx.hard:
                return aten.hardtanh_backward(d.mul_(0.2), gate, 0.0, 1.0, grad_input=out)
            return aten.sigmoid_backward(d, gate, grad_input=out)

        def convolution(x, d, which):  # the gradient of the states, or that of the weight
            return aten.convolution_backward(
                d, x, weight, None, (1, 1), (pad, pad), (1, 1), False, (0, 0), 1, which
            )

        d_z, d_c = torch.empty_like(gates), None
        for t in reversed(range(frames)):
            i, f, g, o = gates[t].chunk(4, 1)
            d_i, d_f, d_g, d_o = d_z[t].chunk(4, 1)
            d_h, squashed = d_states[t], torch.tanh(cells[t])
            if t < frames - 1:
                d_h = d_h + (
                    convolution(states[t], d_z[t + 1], (True, False, False))[0]
                    if pad
                    else pointwise(d_z[t + 1], weight.transpose(0, 1))
                )
            new = aten.tanh_backward(d_h * o, squashed)
            d_c = new if d_c is None else d_c.add_(new)
            before(d_o, squashed.mul_(d_h), o)
            before(d_i, d_c * g, i)
            aten.tanh_backward(d_c * i, g, grad_input=d_g)
            if t:
                before(d_f, d_c * cells[t - 1], f)
                d_c.mul_(f)
            else:
                d_f.zero_()
        d_weight = None
        if ctx.needs_input_grad[1]:  # of one frame, it is a sum over nothing: 0
            h, d = states[:-1].flatten(0, 1), d_z[1:].flatten(0, 1)
            d_weight = (
                (rows(d).T @ rows(h)).view_as(weight)
                if not pad or frames == 1
                else convolution(h, d, (False, True, False))[1]
            )
        return d_z, d_weight, None


class ConvLSTM(nn.Module):
    """ConvLSTM without peepholes (4.1.1): (N, T, C, H, W) -> hidden states (N, T, F, H / stride, W / stride).

    Gates in the order i, f, c, o along the channels; the stride is the input convolution's alone; the state starts at
    zero, so the first frame needs neither the recurrent convolution nor the forget gate.
    """

    def __init__(self, channels, filters, kernel, stride=1, gates="hard_sigmoid"):
        super().__init__()
        self.kernel, self.stride, self.sigma = kernel, stride, GATES[gates]
        self.input = nn.Conv2d(channels, 4 * filters, kernel, stride)
        self.recurrent = nn.Conv2d(filters, 4 * filters, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        n, x = len(x), by_frame(x)
        if self.kernel == 1:
            z = pointwise(
                x[:, :, :: self.stride, :: self.stride], self.input.weight, self.input.bias
            )
        else:
            z = self.input(
                pad_same(x, self.kernel, self.stride).contiguous()
            )  # or the weight's gradient would have to be rearranged
        # The weight follows z, which is bfloat16 under autocast, and so are then the gates and the states.
        return Recurrence.apply(
            z.unflatten(0, (-1, n)), self.recurrent.weight.to(z.dtype), self.sigma is hard_sigmoid
        ).transpose(0, 1)


class FrameNorm(nn.BatchNorm2d):
    """Batch norm of (N, T, C, H, W) over batch, time, height and width, with Keras' epsilon and momentum."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        return by_sample(super().forward(by_frame(x)), len(x))


class Block(nn.Module):
    """Pre-activation bottleneck (He et al. 2016) of ConvLSTMs: (N, T, C, H, W) -> (N, T, 4 F, H / stride, W / stride)."""

    def __init__(
        self, channels, filters, stride=1, very_first=False, shortcut=False, gates="hard_sigmoid"
    ):
        super().__init__()
        self.norm_a = None if very_first else FrameNorm(channels)
        self.a = ConvLSTM(channels, filters, 3 if very_first else 1, stride, gates)
        self.dropout_a, self.dropout_b = nn.Dropout(0.25), nn.Dropout(0.25)
        self.norm_b, self.b = FrameNorm(filters), ConvLSTM(filters, filters, 3, 1, gates)
        self.norm_c = FrameNorm(filters)
        self.shortcut = ConvLSTM(channels, 4 * filters, 1, stride, gates) if shortcut else None
        self.norm_shortcut = FrameNorm(4 * filters) if shortcut else None
        self.c = ConvLSTM(filters, 4 * filters, 1, 1, gates)

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
        return [
            *first,
            self.a,
            self.dropout_a,
            self.norm_b,
            None,
            self.b,
            self.dropout_b,
            self.norm_c,
            None,
            *short,
            self.c,
            None,
        ]


class CLRNet(nn.Module):
    """The network of Figure 6: frames (N, T, 3, H, W) in 0..1 -> logits (N, 2): real, fake.

    Args: filters of the stem and the first stage (64: 248 million parameters); repetitions, blocks a stage; gates, hard_sigmoid as in
    the authors' code or sigmoid; image_size and frames are not needed by the network, they are kept for whoever loads it.
    """

    # Not in the paper; the authors' code. Epochs and batch: of single, and of merge and transfer.
    defaults = dict(image_size=240, frames=5, epochs=(300, 150), batch=(16, 40), lr=5e-5, l2=1e-4)
    mean_squared_error = False

    def __init__(
        self, filters=64, repetitions=(3, 4, 6, 3), image_size=240, frames=5, gates="hard_sigmoid"
    ):
        super().__init__()
        self.image_size, self.frames = image_size, frames
        self.stem, self.norm_stem = ConvLSTM(3, filters, 7, 2, gates), FrameNorm(filters)
        self.stages, channels = nn.ModuleList(), filters
        for stage, count in enumerate(repetitions):
            width = filters * 2**stage
            blocks = [
                Block(
                    channels if k == 0 else 4 * width,
                    width,
                    2 if k == 0 else 1,
                    stage == k == 0,
                    k == 0,
                    gates,
                )
                for k in range(count)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = 4 * width
        self.norm_head, self.dropout, self.head = (
            FrameNorm(channels),
            nn.Dropout(0.25),
            nn.Linear(channels, 2),
        )

    def feature_maps(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, T, D, h, w), what the last ConvLSTM gives, after the head's batch norm; h = w = 3 at full size."""
        x = F.relu(self.norm_stem(self.stem(x)))
        x = by_sample(F.max_pool2d(pad_same(by_frame(x), 3, 3, -torch.inf), 3, 3), len(x))
        for stage in self.stages:
            x = stage(x)
        return self.norm_head(x)  # no ReLU before the mean

    def features(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, D) features; D = 2048 at full size."""
        return self.feature_maps(x).mean((1, 3, 4))

    def activation_maps(self, x):
        """Class activation maps (CLRNet 6.3.1, Figure 8): (N, T, 3, H, W) in 0..1 -> (N, T, h, w).

        How much each place of each frame speaks for fake (above 0) or real (below 0): their mean over T, h and w, plus the difference of the
        head's biases, is the logit of fake minus that of real.
        """
        weight = self.head.weight[1] - self.head.weight[0]
        return torch.einsum("ntdhw,d->nthw", self.feature_maps(x), weight)

    def forward(self, x):
        return self.head(self.dropout(self.features(x)))

    def layers(self):
        """All layers in Keras' order (207 at full size), None for one without weights or dropout."""
        blocks = [layer for stage in self.stages for block in stage for layer in block.layers()]
        return [
            None,
            self.stem,
            self.norm_stem,
            None,
            None,
            *blocks,
            self.norm_head,
            None,
            self.dropout,
            self.head,
        ]

    def kernels(self):
        """The input kernels: what L2 acts on in the authors' code."""
        return [layer.input.weight for layer in self.modules() if isinstance(layer, ConvLSTM)]


def frozen_part(model, share):
    """The modules among the first `share` (0..1) of a network's layers (4.2.3); CLRNet's are counted as Keras counts them."""
    layers = model.layers()
    return [layer for layer in layers[: int(share * len(layers))] if layer is not None]


def read_keras_weights(path):
    """The arrays of a Keras weight file in Keras' order: .hdf5 or .h5 of `save_weights` or `save`, or .npz with w000, w001, ...

    Raises ValueError or OSError where it is no such file; nothing in it is run, and no other file is opened.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            names = sorted(
                (name for name in file.files if name[0] == "w" and name[1:].isdigit()),
                key=lambda name: int(name[1:]),
            )
            if not names:
                raise ValueError("it holds no arrays w000, w001, ...")
            return [file[name] for name in names]
    import h5py

    def attribute(group, name):  # Keras cuts a long list into name0, name1, ...
        parts = (
            [group.attrs[name]]
            if name in group.attrs
            else [
                group.attrs[k]
                for k in takewhile(group.attrs.__contains__, (f"{name}{k}" for k in count()))
            ]
        )
        return [
            value.decode() if isinstance(value, bytes) else str(value)
            for part in parts
            for value in part
        ]

    def inside(group, name):  # a link could lead to another file
        for part in name.split("/"):
            if not isinstance(group, h5py.Group) or not isinstance(
                group.get(part, getlink=True), h5py.HardLink
            ):
                raise ValueError(f"{name} is not in it")
            group = group[part]
        return group

    arrays = []
    with h5py.File(path, "r") as file:
        root = inside(file, "model_weights") if "model_weights" in file else file
        for layer in attribute(root, "layer_names"):
            group = inside(root, layer)
            for name in attribute(group, "weight_names"):
                array = inside(group, name)
                if not isinstance(array, h5py.Dataset) or array.external:
                    raise ValueError(f"{layer}: {name} is not an array in it")
                arrays.append(array[()])
    if not arrays:
        raise ValueError("it holds no weights in Keras' layout (layer_names, weight_names)")
    return arrays


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
            array = array[..., ::-1]  # fake, real -> real, fake
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != tuple(target.shape):
            raise ValueError(
                f"array {k} has shape {array.shape} in torch's order, this network needs {tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(array)))


@torch.no_grad()
def initialise(model):
    """Draw initial weights as the authors' code does: input kernels He normal (truncated), recurrent ones orthogonal,
    biases zero but 1 for the forget gate, the head Glorot uniform."""
    for layer in model.modules():
        if isinstance(layer, ConvLSTM):
            fan_in = layer.input.weight[0].numel()
            std = (2 / fan_in) ** 0.5 / 0.87962566  # deviation of a normal cut off at 2 sigma
            nn.init.trunc_normal_(layer.input.weight, std=std, a=-2 * std, b=2 * std)
            out, channels, k, _ = layer.recurrent.weight.shape
            flat = nn.init.orthogonal_(torch.empty(k * k * channels, out))
            layer.recurrent.weight.copy_(flat.view(k, k, channels, out).permute(3, 2, 0, 1))
            layer.input.bias.zero_()
            layer.input.bias[out // 4 : out // 2] = 1
    nn.init.xavier_uniform_(model.head.weight)
    nn.init.zeros_(model.head.bias)

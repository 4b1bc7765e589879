"""The ConvLSTM cell."""

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


def frames_first(x):
    """(N, T, ...) -> (T N, ...): frame by frame, as the network's activations lie in memory, so that each frame of a batch is one piece."""
    return x.transpose(0, 1).flatten(0, 1)


def samples_first(x, n):
    """What `frames_first` gave, or something a frame computed from it, as (N, T, ...) again; no copy."""
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
        n, x = len(x), frames_first(x)
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

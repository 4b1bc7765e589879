"""The ConvLSTM cell of CLRNet (4.1.1), with a backward pass of its own.

It is the cell of Shi et al. as Keras implements it: without peepholes, with a hard sigmoid, and
padded as TensorFlow's "same". From h_0 = c_0 = 0, for each frame x_t (* is elementwise):

    z_t = conv(x_t; W_x, stride, bias) + conv(h_{t-1}; W_h)     i, f, c, o along the channels
    c_t = sigma(z_f) * c_{t-1} + sigma(z_i) * tanh(z_c)
    h_t = sigma(z_o) * tanh(c_t)

The numbers are those of a loop over these equations. The time is not: the input convolutions of
all frames are one call, the first frame needs neither W_h nor the forget gate, 1 x 1 convolutions
are matrix products, and the gradient of W_h is one convolution over all frames.
"""

import torch
from torch import nn
from torch.nn import functional as F


def pad_same(x, kernel, stride, value=0.0):
    """Pad (N, C, H, W) for a convolution without padding, as TensorFlow's "same" does.

    Where the number of pixels to add is odd, the odd one goes to the right and to the bottom.
    """
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def hard_sigmoid(x):
    """Keras' hard sigmoid, clip(0.2 x + 0.5, 0, 1); torch's hardsigmoid has the slope 1 / 6."""
    return (0.2 * x + 0.5).clamp(0, 1)


SIGMAS = {"hard_sigmoid": hard_sigmoid, "sigmoid": torch.sigmoid}


def memory_format_of(weight):
    """channels_last if a kernel (O, I, k, k) lies in memory so, else contiguous_format."""
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    if is_last and not weight.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def frames_first(x):
    """(N, T, ...) -> (T N, ...): one large batch for everything that treats frames one by one.

    The network's activations lie in memory in this order, so that each frame of the batch is one
    contiguous piece, and this is a view of them.
    """
    return x.transpose(0, 1).flatten(0, 1)


def samples_first(x, n):
    """(T n, ...) -> (n, T, ...), the inverse of `frames_first`; a view."""
    return x.unflatten(0, (-1, n)).transpose(0, 1)


def pointwise(x, weight, bias=None):
    """A 1 x 1 convolution of (N, C, H, W) as one matrix product.

    The channels of the result are innermost in memory; those of x had better be, too.
    """
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def convolve_states(h, weight):
    """The recurrent convolution, which keeps the size: (N, F, H, W) -> (N, 4 F, H, W)."""
    kernel = weight.shape[-1]
    if kernel == 1:
        return pointwise(h, weight)
    return F.conv2d(h, weight, padding=kernel // 2)


def state_gradient(h, d_z, weight):
    """The gradient of `convolve_states` with respect to h, given that of its result, d_z."""
    if weight.shape[-1] == 1:
        return pointwise(d_z, weight.transpose(0, 1))
    return convolution_backward(h, d_z, weight, (True, False, False))[0]


def weight_gradient(h, d_z, weight):
    """The gradient of `convolve_states` with respect to its weight, summed over all N."""
    if len(h) == 0:  # samples of one frame have no recurrence
        return torch.zeros_like(weight)
    if weight.shape[-1] == 1:
        return (pixels_as_rows(d_z).T @ pixels_as_rows(h)).view_as(weight)
    return convolution_backward(h, d_z, weight, (False, True, False))[1]


def pixels_as_rows(x):
    """(N, C, H, W) -> (N H W, C)."""
    return x.movedim(1, -1).flatten(0, 2)


def convolution_backward(x, d, weight, wanted):
    """torch's gradients of a convolution; `wanted`: of x, of the weight, of the bias."""
    pad = weight.shape[-1] // 2
    return torch.ops.aten.convolution_backward(
        d, x, weight, None, (1, 1), (pad, pad), (1, 1), False, (0, 0), 1, wanted
    )


class Recurrence(torch.autograd.Function):
    """All that follows the input convolutions.

    z (T, N, 4 F, H, W), weight (4 F, F, k, k), hard (bool) -> hidden states (T, N, F, H, W).

    Autograd would compute a weight gradient for each frame and keep every intermediate result.
    Here the states of all frames are one array, and so are the gradients of z, which makes the
    weight's gradient one convolution over all frames.
    """

    @staticmethod
    def forward(ctx, z, weight, hard):
        gates = torch.empty_like(z)  # i, f, g, o after their activations
        cells, states = (torch.empty_like(z[:, :, : z.shape[2] // 4]) for _ in range(2))
        half = z.new_full((), 0.5)  # filled on the device; `new_tensor` would wait for it
        for t, z_t in enumerate(z):
            if t > 0:
                z_t = convolve_states(states[t - 1], weight).add_(z_t)
            z_i, z_f, z_c, z_o = z_t.chunk(4, 1)
            i, f, g, o = gates[t].chunk(4, 1)
            for gate, value in ((i, z_i), (f, z_f), (o, z_o)):
                if hard:
                    torch.add(half, value, alpha=0.2, out=gate).clamp_(0, 1)
                else:
                    torch.sigmoid(value, out=gate)
            torch.tanh(z_c, out=g)
            c = torch.mul(i, g, out=cells[t])
            if t > 0:
                c.addcmul_(f, cells[t - 1])
            torch.mul(o, torch.tanh(c), out=states[t])
        ctx.hard = hard
        ctx.save_for_backward(gates, cells, states, weight)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_states):
        gates, cells, states, weight = ctx.saved_tensors
        aten = torch.ops.aten

        def sigma_backward(d, gate, out):
            if ctx.hard:
                aten.hardtanh_backward(d.mul_(0.2), gate, 0.0, 1.0, grad_input=out)
            else:
                aten.sigmoid_backward(d, gate, grad_input=out)

        last = len(gates) - 1
        d_z = torch.empty_like(gates)
        d_c = None
        for t in range(last, -1, -1):
            i, f, g, o = gates[t].chunk(4, 1)
            d_zi, d_zf, d_zc, d_zo = d_z[t].chunk(4, 1)
            tanh_c = torch.tanh(cells[t])
            # h_t is an output, and it went into z_{t+1}.
            d_h = d_states[t]
            if t < last:
                d_h = d_h + state_gradient(states[t], d_z[t + 1], weight)
            # c_t went into h_t and into c_{t+1}, whose share is what d_c already holds.
            d_c_through_h = aten.tanh_backward(d_h * o, tanh_c)
            d_c = d_c_through_h if d_c is None else d_c.add_(d_c_through_h)
            sigma_backward(tanh_c.mul_(d_h), o, out=d_zo)
            sigma_backward(d_c * g, i, out=d_zi)
            aten.tanh_backward(d_c * i, g, grad_input=d_zc)
            if t > 0:
                sigma_backward(d_c * cells[t - 1], f, out=d_zf)
                d_c.mul_(f)
            else:
                d_zf.zero_()
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = weight_gradient(states[:-1].flatten(0, 1), d_z[1:].flatten(0, 1), weight)
        return d_z, d_weight, None


class ConvLSTM(nn.Module):
    """A ConvLSTM layer: (N, T, C, H, W) -> hidden states (N, T, F, H / stride, W / stride).

    Args: channels, C; filters, F; kernel, side of both kernels; stride, of the input convolution
    alone; gates, the sigma of the equations: "hard_sigmoid" as in the authors' code, or "sigmoid".
    """

    def __init__(self, channels, filters, kernel, stride=1, gates="hard_sigmoid"):
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.sigma = SIGMAS[gates]
        self.input = nn.Conv2d(channels, 4 * filters, kernel, stride)
        self.recurrent = nn.Conv2d(filters, 4 * filters, kernel, padding=kernel // 2, bias=False)

    def forward(self, x):
        n = len(x)
        x = frames_first(x)
        if self.kernel == 1:
            # "Same" padding adds nothing to it, so that a stride takes every second pixel from 0.
            x = x[:, :, :: self.stride, :: self.stride]
            z = pointwise(x, self.input.weight, self.input.bias)
        else:
            # In the weight's own order, or its gradient would have to be rearranged in memory.
            x = pad_same(x, self.kernel, self.stride)
            z = self.input(x.contiguous(memory_format=memory_format_of(self.input.weight)))
        # Under autocast z is bfloat16: the weight follows it, and so do the gates and the states.
        weight = self.recurrent.weight.to(z.dtype)
        z = z.unflatten(0, (-1, n))
        return Recurrence.apply(z, weight, self.sigma is hard_sigmoid).transpose(0, 1)

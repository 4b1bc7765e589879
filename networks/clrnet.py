"""CLRNet, the network of Figure 6 (CLRNet 4.1), its ConvLSTM, and its class activation maps.

Figure 6 is only a picture; layers, padding and constants are those of the authors' published code.
Every network that 05_train_clrnet.py trains, this one and those of baselines.py, has

    mean_squared_error   whether its loss is that of P(fake), instead of cross-entropy
    image_size, frames   side of the input in pixels, and frames of a sample
    forward(x)           (N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake
    features(x)          (N, T, 3, S, S) in 0..1 -> (N, D)
    activation_maps(x)   (N, T, 3, S, S) in 0..1 -> (N, T, h, w), see networks/extractor.py
    kernels()            the weights that --l2 acts on
    layers()             its layers in the order in which they act, for 05's freezing
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks.extractor import gradient_maps

# ---------------------------------------------------------------- the ConvLSTM cell


def pad_same(x, kernel, stride, value=0.0):
    """Pad (N, C, H, W) for a convolution without padding, as TensorFlow's "same" does.

    Where the number of pixels to add is odd, the odd one goes to the right and to the bottom.
    """
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def memory_format_of(weight):
    """channels_last if a kernel (O, I, k, k) has that order in memory, else contiguous_format."""
    is_last = weight.is_contiguous(memory_format=torch.channels_last)
    if is_last and not weight.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def frames_first(x):
    """(N, T, ...) -> (T N, ...): one large batch for everything that treats frames one by one.

    The network's activations have this order in memory, so that each frame of the batch is one
    contiguous piece, and this is a view of them.
    """
    return x.transpose(0, 1).flatten(0, 1)


def samples_first(x, n):
    """(T n, ...) -> (n, T, ...), the inverse of `frames_first`; a view."""
    return x.unflatten(0, (-1, n)).transpose(0, 1)


def pointwise(x, weight, bias=None):
    """A 1 x 1 convolution of (N, C, H, W) as one matrix product.

    The channels of the result are innermost in memory; those of x should be, too.
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

    z (T, N, 4 F, H, W), weight (4 F, F, k, k) -> hidden states (T, N, F, H, W).

    Autograd would compute a weight gradient for each frame and keep every intermediate result.
    Here the states of all frames are one array, and so are the gradients of z, which makes the
    weight's gradient one convolution over all frames.
    """

    @staticmethod
    def forward(ctx, z, weight):
        gates = torch.empty_like(z)  # i, f, g, o after their activations
        cells, states = (torch.empty_like(z[:, :, : z.shape[2] // 4]) for _ in range(2))
        half = z.new_full((), 0.5)  # filled on the device; `new_tensor` would wait for it
        for t, z_t in enumerate(z):
            if t > 0:
                z_t = convolve_states(states[t - 1], weight).add_(z_t)
            z_i, z_f, z_c, z_o = z_t.chunk(4, 1)
            i, f, g, o = gates[t].chunk(4, 1)
            for gate, value in ((i, z_i), (f, z_f), (o, z_o)):
                # Keras' hard sigmoid, clip(0.2 x + 0.5, 0, 1); torch's has the slope 1 / 6.
                torch.add(half, value, alpha=0.2, out=gate).clamp_(0, 1)
            torch.tanh(z_c, out=g)
            c = torch.mul(i, g, out=cells[t])
            if t > 0:
                c.addcmul_(f, cells[t - 1])
            torch.mul(o, torch.tanh(c), out=states[t])
        ctx.save_for_backward(gates, cells, states, weight)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_states):
        gates, cells, states, weight = ctx.saved_tensors
        aten = torch.ops.aten

        def sigma_backward(d, gate, out):
            aten.hardtanh_backward(d.mul_(0.2), gate, 0.0, 1.0, grad_input=out)

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
        return d_z, d_weight


class ConvLSTM(nn.Module):
    """A ConvLSTM layer (4.1.1): (N, T, C, H, W) -> hidden states (N, T, F, H / stride, W / stride).

    It is the cell of Shi et al. as Keras implements it: without peepholes, with a hard sigmoid, and
    padded as TensorFlow's "same". From h_0 = c_0 = 0, for each frame x_t (* is elementwise):

        z_t = conv(x_t; W_x, stride, bias) + conv(h_{t-1}; W_h)     i, f, c, o along the channels
        c_t = sigma(z_f) * c_{t-1} + sigma(z_i) * tanh(z_c)
        h_t = sigma(z_o) * tanh(c_t)

    The numbers are those of a loop over these equations. The time is not: the input convolutions of
    all frames are one call, the first frame needs neither W_h nor the forget gate, 1 x 1
    convolutions are matrix products, and the gradient of W_h is one convolution over all frames.

    Args: channels, C; filters, F; kernel, side of both kernels; stride, of the input convolution
    alone.
    """

    def __init__(self, channels, filters, kernel, stride=1):
        super().__init__()
        self.kernel = kernel
        self.stride = stride
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
        return Recurrence.apply(z, weight).transpose(0, 1)


# ---------------------------------------------------------------- the network


def frame_norm(channels):
    """Batch norm with Keras' epsilon and momentum, for `normalize`."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def normalize(norm, x):
    """Batch norm of (N, T, C, H, W) over N, T, H and W."""
    return samples_first(norm(frames_first(x)), len(x))


class Block(nn.Module):
    """Pre-activation bottleneck (He et al. 2016) in which every convolution is a ConvLSTM.

    (N, T, C, H, W) -> (N, T, 4 F, H, W). The first block of a stage halves H and W, and its
    shortcut is a ConvLSTM; the first block of the network starts without batch norm and ReLU.
    """

    def __init__(self, channels, filters, first_of_stage, first_of_network):
        super().__init__()
        stride = 2 if first_of_stage else 1
        self.norm_a = None if first_of_network else frame_norm(channels)
        self.a = ConvLSTM(channels, filters, 3 if first_of_network else 1, stride)
        self.dropout_a = nn.Dropout(0.25)
        self.dropout_b = nn.Dropout(0.25)
        self.norm_b = frame_norm(filters)
        self.b = ConvLSTM(filters, filters, 3, 1)
        self.norm_c = frame_norm(filters)
        self.shortcut = self.norm_shortcut = None
        if first_of_stage:
            self.shortcut = ConvLSTM(channels, 4 * filters, 1, stride)
            self.norm_shortcut = frame_norm(4 * filters)
        self.c = ConvLSTM(filters, 4 * filters, 1, 1)

    def forward(self, x):
        y = x if self.norm_a is None else F.relu(normalize(self.norm_a, x))
        y = self.dropout_a(self.a(y))
        y = self.dropout_b(self.b(F.relu(normalize(self.norm_b, y))))
        y = self.c(F.relu(normalize(self.norm_c, y)))
        if self.shortcut is not None:
            x = normalize(self.norm_shortcut, self.shortcut(x))
        return y + x

    def layers(self):
        """The block's layers in Keras' order; None for a layer without state (ReLU, sum)."""
        layers = [] if self.norm_a is None else [self.norm_a, None]
        layers += [self.a, self.dropout_a, self.norm_b, None, self.b, self.dropout_b]
        layers += [self.norm_c, None]
        layers += [] if self.shortcut is None else [self.shortcut, self.norm_shortcut]
        return [*layers, self.c, None]


class CLRNet(nn.Module):
    """The network of Figure 6: frames (N, T, 3, H, W) in 0..1 -> logits (N, 2): real, fake.

    Args: filters, F of the stem and of the first stage (64: 248 million parameters); repetitions,
    the number of blocks in each stage; image_size and frames, which the network itself does not
    need, are kept for whoever loads it; gates, which checkpoints of release 2.0 name.

    Raises ValueError if gates are not "hard_sigmoid".
    """

    mean_squared_error = False

    def __init__(
        self, filters=64, repetitions=(3, 4, 6, 3), image_size=240, frames=5, gates="hard_sigmoid"
    ):
        super().__init__()
        if gates != "hard_sigmoid":
            raise ValueError(f"its gates are {gates}, and only hard_sigmoid is left")
        self.image_size = image_size
        self.frames = frames
        self.stem = ConvLSTM(3, filters, 7, 2)
        self.norm_stem = frame_norm(filters)
        self.stages = nn.ModuleList()
        channels = filters
        for stage, count in enumerate(repetitions):
            width = filters * 2**stage
            blocks = []
            for k in range(count):
                blocks.append(Block(channels, width, k == 0, stage == k == 0))
                channels = 4 * width
            self.stages.append(nn.Sequential(*blocks))
        self.norm_head = frame_norm(channels)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(channels, 2)

    def feature_maps(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, T, D, h, w), after the head's batch norm.

        At full size D = 2048 and h = w = 3.
        """
        n = len(x)
        x = F.relu(normalize(self.norm_stem, self.stem(x)))
        x = pad_same(frames_first(x), 3, 3, value=-torch.inf)
        x = samples_first(F.max_pool2d(x, 3, 3), n)
        for stage in self.stages:
            x = stage(x)
        return normalize(self.norm_head, x)  # the head has no ReLU

    def features(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, D); D = 2048 at full size."""
        return self.feature_maps(x).mean((1, 3, 4))

    def activation_maps(self, x, head=None):
        """Class activation maps (CLRNet 6.3.1, Figure 8): (N, T, 3, H, W) in 0..1 -> (N, T, h, w).

        The evidence for fake (above 0) or real (below 0) at each place of each frame. Their mean
        over T, h and w plus the difference of the head's biases is the logit of fake minus that of
        real. `head`: see networks/extractor.py.
        """
        head = head or self.head
        return gradient_maps(self.feature_maps(x), lambda maps: head(maps.mean((1, 3, 4))))

    def forward(self, x):
        return self.head(self.dropout(self.features(x)))

    def layers(self):
        """All layers in Keras' order (207 at full size); None for a layer without state."""
        layers = [None, self.stem, self.norm_stem, None, None]  # input; ReLU, max pool
        for stage in self.stages:
            for block in stage:
                layers += block.layers()
        return [*layers, self.norm_head, None, self.dropout, self.head]

    def kernels(self):
        """The kernels of the input convolutions: what L2 acts on in the authors' code."""
        return [layer.input.weight for layer in self.modules() if isinstance(layer, ConvLSTM)]


@torch.no_grad()
def initialize(model):
    """Draw a CLRNet's initial weights as the authors' code does.

    Input kernels He normal (truncated at two standard deviations), recurrent kernels orthogonal,
    biases 0 but 1 for the forget gate, the head Glorot uniform.
    """
    for layer in model.modules():
        if isinstance(layer, ConvLSTM):
            fan_in = layer.input.weight[0].numel()
            # Keras divides by the standard deviation of the truncated normal distribution.
            std = (2 / fan_in) ** 0.5 / 0.87962566
            nn.init.trunc_normal_(layer.input.weight, std=std, a=-2 * std, b=2 * std)
            out, channels, k, _ = layer.recurrent.weight.shape
            # Orthogonal as a matrix in Keras' order of the axes: height x width x in, out.
            flat = nn.init.orthogonal_(torch.empty(k * k * channels, out))
            layer.recurrent.weight.copy_(flat.view(k, k, channels, out).permute(3, 2, 0, 1))
            layer.input.bias.zero_()
            layer.input.bias[out // 4 : out // 2] = 1
    nn.init.xavier_uniform_(model.head.weight)
    nn.init.zeros_(model.head.bias)

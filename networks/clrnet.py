"""CLRNet, the network of Figure 6 (CLRNet 4.1.2), and its class activation maps.

Figure 6 is only a picture; layers, padding and constants are those of the authors' published code.
Every network that 05_train_clrnet.py trains, this one and those of baselines.py, has

    NETWORK.defaults     the values of flags that are not given; `frames`: consecutive frames of a
                         sample; `epochs` and `batch`: for single, and for merge and transfer
    mean_squared_error   whether its loss is that of P(fake), instead of cross-entropy
    image_size, frames   side of the input in pixels, and frames of a sample
    forward(x)           (N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake
    features(x)          (N, T, 3, S, S) in 0..1 -> (N, D)
    activation_maps(x)   (N, T, 3, S, S) in 0..1 -> (N, T, h, w), see networks/maps.py
    kernels()            the weights that --l2 acts on
    layers()             its layers in the order in which they act, for `frozen_layers`
"""

import re

import torch
from torch import nn
from torch.nn import functional as F

from networks.convlstm import ConvLSTM, frames_first, pad_same, samples_first
from networks.maps import gradient_maps


class FrameNorm(nn.BatchNorm2d):
    """Batch norm of (N, T, C, H, W) over N, T, H and W, with Keras' epsilon and momentum."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        return samples_first(super().forward(frames_first(x)), len(x))


class Block(nn.Module):
    """Pre-activation bottleneck (He et al. 2016) in which every convolution is a ConvLSTM.

    (N, T, C, H, W) -> (N, T, 4 F, H, W). The first block of a stage halves H and W, and its
    shortcut is a ConvLSTM; the first block of the network starts without batch norm and ReLU.
    """

    def __init__(self, channels, filters, first_of_stage, first_of_network, gates):
        super().__init__()
        stride = 2 if first_of_stage else 1
        self.norm_a = None if first_of_network else FrameNorm(channels)
        self.a = ConvLSTM(channels, filters, 3 if first_of_network else 1, stride, gates)
        self.dropout_a = nn.Dropout(0.25)
        self.dropout_b = nn.Dropout(0.25)
        self.norm_b = FrameNorm(filters)
        self.b = ConvLSTM(filters, filters, 3, 1, gates)
        self.norm_c = FrameNorm(filters)
        self.shortcut = self.norm_shortcut = None
        if first_of_stage:
            self.shortcut = ConvLSTM(channels, 4 * filters, 1, stride, gates)
            self.norm_shortcut = FrameNorm(4 * filters)
        self.c = ConvLSTM(filters, 4 * filters, 1, 1, gates)

    def forward(self, x):
        y = x if self.norm_a is None else F.relu(self.norm_a(x))
        y = self.dropout_a(self.a(y))
        y = self.dropout_b(self.b(F.relu(self.norm_b(y))))
        y = self.c(F.relu(self.norm_c(y)))
        return y + (x if self.shortcut is None else self.norm_shortcut(self.shortcut(x)))

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
    the number of blocks in each stage; gates, see `ConvLSTM`. The network itself does not need
    image_size and frames, which are kept for whoever loads it.
    """

    # Not in the paper: from the authors' code.
    defaults = dict(image_size=240, frames=5, epochs=(300, 150), batch=(16, 40), lr=5e-5, l2=1e-4)
    mean_squared_error = False

    def __init__(
        self, filters=64, repetitions=(3, 4, 6, 3), image_size=240, frames=5, gates="hard_sigmoid"
    ):
        super().__init__()
        self.image_size = image_size
        self.frames = frames
        self.stem = ConvLSTM(3, filters, 7, 2, gates)
        self.norm_stem = FrameNorm(filters)
        self.stages = nn.ModuleList()
        channels = filters
        for stage, count in enumerate(repetitions):
            width = filters * 2**stage
            blocks = []
            for k in range(count):
                blocks.append(Block(channels, width, k == 0, stage == k == 0, gates))
                channels = 4 * width
            self.stages.append(nn.Sequential(*blocks))
        self.norm_head = FrameNorm(channels)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(channels, 2)

    def feature_maps(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, T, D, h, w), after the head's batch norm.

        At full size D = 2048 and h = w = 3.
        """
        n = len(x)
        x = F.relu(self.norm_stem(self.stem(x)))
        x = pad_same(frames_first(x), 3, 3, value=-torch.inf)
        x = samples_first(F.max_pool2d(x, 3, 3), n)
        for stage in self.stages:
            x = stage(x)
        return self.norm_head(x)  # the head has no ReLU

    def features(self, x):
        """(N, T, 3, H, W) in 0..1 -> (N, D); D = 2048 at full size."""
        return self.feature_maps(x).mean((1, 3, 4))

    def activation_maps(self, x, head=None):
        """Class activation maps (CLRNet 6.3.1, Figure 8): (N, T, 3, H, W) in 0..1 -> (N, T, h, w).

        How much each place of each frame speaks for fake (above 0) or for real (below 0). Their
        mean over T, h and w plus the difference of the head's biases is the logit of fake minus
        that of real. `head`: see networks/maps.py.
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

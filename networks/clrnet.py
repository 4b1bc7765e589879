"""CLRNet: the network of the CLRNet paper's Figure 6, its class activation maps, and the authors' Keras weights. Trained by 05_train_clrnet.py.

Every network that 05 trains, this one and those of baselines.py, has

    NAME.defaults        what 05 takes where a flag is not given; `frames` is the number of consecutive frames of a sample
    image_size, frames   side of the input in pixels, frames of a sample
    forward(x)           (N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake
    features(x)          (N, T, 3, S, S) in 0..1 -> (N, D)
    kernels()            the weights that --l2 acts on
    layers()             its layers in their order, for `frozen_layers`
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks.convlstm import ConvLSTM, frames_first, pad_same, samples_first


class FrameNorm(nn.BatchNorm2d):
    """Batch norm of (N, T, C, H, W) over batch, time, height and width, with Keras' epsilon and momentum."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3, momentum=0.01)

    def forward(self, x):
        return samples_first(super().forward(frames_first(x)), len(x))


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
        x = samples_first(F.max_pool2d(pad_same(frames_first(x), 3, 3, -torch.inf), 3, 3), len(x))
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


def frozen_layers(model, share):
    """The modules among the first `share` (0..1) of a network's layers (4.2.3); CLRNet's are counted as Keras counts them."""
    layers = model.layers()
    return [layer for layer in layers[: int(share * len(layers))] if layer is not None]


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

"""The five networks that the CLRNet paper compares with (5.1), and NETWORKS, all six by name.

They have the interface of clrnet.py, and 05_train_clrnet.py --model NAME trains them. Each sees 80
frames of a video (5.1.1): 80 single ones, 16 samples of 5 consecutive ones, or 4 samples of 20.

Deviations and choices (paper, or where named the authors' code -> here):

    input, optimizer    not given (code: ShallowNetV3 at 128 x 128 and Xception at 240 x 240, Adam
                        5e-5; MesoInception4 at 256 x 256, squared error, Adam 1e-3) -> as the code;
                        CNN+LSTM and DBiRNN Adam 5e-5
    L2                  not given (code: ShallowNet 1e-4 on all convolutions and the dense layer)
                        -> as the code, for ShallowNet alone
    epochs, batch       not given (code: 50; 64, in merge and transfer up to 256) -> 50; 64 single
                        frames, 16 samples of 5, 4 samples of 20
    merge, transfer     not given (code: Xception and MesoInception4 merged, and Xception's
                        transfer, at 128 x 128; an epoch of merge is an eighth of the 520,000
                        frames, and each batch is of one set) -> size of single learning, all
                        frames, batches of all sets
    CNN+LSTM            Guera and Delp, no code -> InceptionV3 at 299 x 299, LSTM of 2048, dense
                        layer of 512, dropout 0.5
    DBiRNN              Sabir et al., no code -> densenet121 at 224 x 224, bidirectional GRU of 512,
                        dense layer
    initial weights     not given (code: random for Xception) -> random; --weights imagenet of 05 is
                        there for Xception, DBiRNN and CNN+LSTM, where the recipes use it as its own
                        paper does
    half of the layers  not given how it is counted (code: the last 40, 15 and 7 train of Xception,
                        ShallowNet and MesoInception4) -> over all layers, those without weights
                        too, in the order in which they act, once for each time that a module acts
                        (InceptionV3's ReLU and pooling are functions, which are not counted); an
                        Inception block into which the cut falls is frozen whole, as its branches
                        act side by side
    augmentation        for all (5.1.3; code: none for single frames) -> 05 --no-augment
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks.clrnet import CLRNet
from networks.extractor import Extractor, gradient_maps


class Baseline(nn.Module):
    """What the five have in common; clrnet.py explains the interface.

    Each has feature_maps(x), (N, T, 3, S, S) in 0..1 -> (N, T, D, h, w), and combine(maps), from
    them to features (N, D').
    """

    mean_squared_error = False

    def __init__(self, image_size, frames):
        super().__init__()
        self.image_size = image_size
        self.frames = frames

    def forward(self, x):
        """(N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake."""
        return self.head(self.features(x))

    def features(self, x):
        """(N, T, 3, S, S) in 0..1 -> (N, D')."""
        return self.combine(self.feature_maps(x))

    def activation_maps(self, x, head=None):
        """(N, T, 3, S, S) in 0..1 -> (N, T, h, w), see `networks.extractor`."""
        head = head or self.head
        return gradient_maps(self.feature_maps(x), lambda maps: head(self.combine(maps)))

    def kernels(self):
        """The weights of all convolutions and dense layers."""
        kinds = (nn.Conv2d, nn.Linear)
        return [layer.weight for layer in self.modules() if isinstance(layer, kinds)]

    def layers(self):
        """All layers in the order in which they act, those without weights too.

        A layer that acts several times, such as a shared ReLU, is listed as often. One empty
        sample goes through the network to find the order.
        """
        acting = []
        leaves = [layer for layer in self.modules() if not list(layer.children())]
        hooks = [
            leaf.register_forward_hook(lambda leaf, *_: acting.append(leaf)) for leaf in leaves
        ]
        mode = self.training
        device = next(self.parameters()).device
        with torch.no_grad():
            self.eval()(torch.zeros(1, self.frames, 3, *[self.image_size] * 2, device=device))
        for hook in hooks:
            hook.remove()
        self.train(mode)
        return acting


def headless_extractor(arch, image_size):
    """A network of pretrainedmodels that is used up to its `feature_maps`."""
    cnn = Extractor(arch, image_size)
    del cnn.head
    return cnn


def maps_of_frames(cnn, x):
    """(N, T, 3, S, S) in 0..1 -> (N, T, D, h, w)."""
    return cnn.feature_maps(255 * x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Xception(Baseline):
    """Chollet's Xception on single frames."""

    arch = "xception"

    def __init__(self, image_size=240, frames=1):
        super().__init__(image_size, frames=1)
        self.cnn = headless_extractor(self.arch, image_size)
        self.head = nn.Linear(self.cnn.dimensions, 2)

    def feature_maps(self, x):
        return maps_of_frames(self.cnn, x)

    def combine(self, maps):
        return maps.mean((1, 3, 4))


class CNNLSTM(Baseline):
    """CNN+LSTM (Guera and Delp): InceptionV3 on each of 20 consecutive frames, then an LSTM."""

    arch = "inceptionv3"

    def __init__(self, image_size=299, frames=20):
        super().__init__(image_size, frames)
        self.cnn = headless_extractor(self.arch, image_size)
        # InceptionV3's second classifier is not used here.
        self.cnn.backbone.aux_logits = False
        del self.cnn.backbone.AuxLogits
        self.lstm = nn.LSTM(self.cnn.dimensions, 2048, batch_first=True)
        self.dense = nn.Linear(2048, 512)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(512, 2)

    def feature_maps(self, x):
        return maps_of_frames(self.cnn, x)

    def combine(self, maps):
        _, (last, _) = self.lstm(maps.mean((3, 4)))
        return self.dropout(F.relu(self.dense(last[-1])))


class DBiRNN(Baseline):
    """DenseNet and a bidirectional recurrent network (Sabir et al.) on 5 consecutive frames."""

    arch = "densenet121"

    def __init__(self, image_size=224, frames=5):
        super().__init__(image_size, frames)
        self.cnn = headless_extractor(self.arch, image_size)
        self.gru = nn.GRU(self.cnn.dimensions, 512, batch_first=True, bidirectional=True)
        self.head = nn.Linear(1024, 2)

    def feature_maps(self, x):
        return maps_of_frames(self.cnn, x)

    def combine(self, maps):
        # (2, N, 512): forward's state after the last frame, backward's after the first
        _, last = self.gru(maps.mean((3, 4)))
        return torch.cat([last[0], last[1]], 1)


class ShallowNet(Baseline):
    """ShallowNetV3 (Tariq et al.) on single frames: convolutions without padding.

    It has one output, P(fake), and binary cross-entropy as its loss, which is the cross-entropy of
    the logits 0 and z.
    """

    def __init__(self, image_size=128, frames=1):
        super().__init__(image_size, frames=1)

        def convolution(channels, filters, kernel, pool=False):
            layers = [nn.Conv2d(channels, filters, kernel), nn.ReLU()]
            return [*layers, *([nn.MaxPool2d(2)] if pool else []), nn.Dropout(0.25)]

        self.convolutions = nn.Sequential(
            *convolution(3, 32, 5),
            *convolution(32, 32, 1),
            *convolution(32, 32, 1, pool=True),
            *convolution(32, 64, 3),
            *convolution(64, 64, 1),
            *convolution(64, 64, 1, pool=True),
            *convolution(64, 128, 3),
            *convolution(128, 32, 1),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            nn.Linear(count_outputs(self.convolutions, image_size), 1024),
            nn.ReLU(),
            nn.BatchNorm1d(1024),
            nn.Dropout(0.25),
        )
        self.output = nn.Linear(1024, 1)

    def head(self, features):
        return two_logits(self.output(features))

    def kernels(self):
        """The weights of the convolutions and of the dense layer, without those of the output."""
        return [weight for weight in super().kernels() if weight is not self.output.weight]

    def feature_maps(self, x):
        return self.convolutions[:-1](x[:, 0])[:, None]

    def combine(self, maps):
        flatten = self.convolutions[-1]
        return self.dense(flatten(maps[:, 0]))


class Inception(nn.Module):
    """An inception layer of MesoInception4: (N, C, H, W) -> (N, a + b + c + d, H, W).

    Four branches side by side: 1 x 1, and 3 x 3 with dilation 1, 2 and 3 behind 1 x 1.
    """

    def __init__(self, channels, a, b, c, d):
        super().__init__()

        def dilated(n, dilation):
            return nn.Sequential(
                nn.Conv2d(channels, n, 1),
                nn.ReLU(),
                nn.Conv2d(n, n, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            )

        self.a = nn.Sequential(nn.Conv2d(channels, a, 1), nn.ReLU())
        self.b = dilated(b, 1)
        self.c = dilated(c, 2)
        self.d = dilated(d, 3)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


class MesoInception4(Baseline):
    """Afchar et al.'s MesoInception4 on single frames.

    It has one output, P(fake), and the mean squared error as its loss.
    """

    mean_squared_error = True

    def __init__(self, image_size=256, frames=1):
        super().__init__(image_size, frames=1)

        def norm_and_pool(channels, pool):
            norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # as in Keras
            return [norm, nn.MaxPool2d(pool, ceil_mode=True)]

        self.convolutions = nn.Sequential(
            Inception(3, 1, 4, 4, 2),
            *norm_and_pool(11, 2),
            Inception(11, 2, 4, 4, 2),
            *norm_and_pool(12, 2),
            nn.Conv2d(12, 16, 5, padding=2),
            nn.ReLU(),
            *norm_and_pool(16, 2),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.ReLU(),
            *norm_and_pool(16, 4),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(count_outputs(self.convolutions, image_size), 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
        )
        self.output = nn.Linear(16, 1)

    def feature_maps(self, x):
        return self.convolutions[:-1](x[:, 0])[:, None]

    def combine(self, maps):
        flatten = self.convolutions[-1]
        return self.dense(flatten(maps[:, 0]))

    def head(self, features):
        return two_logits(self.output(features))


def two_logits(z):
    """(N, 1) -> (N, 2) logits 0 and z: their softmax is the sigmoid of z."""
    return torch.cat([torch.zeros_like(z), z], 1)


def count_outputs(convolutions, image_size):
    """The number of outputs for an image. Raises ValueError if the image is too small."""
    try:
        with torch.no_grad():
            return convolutions.eval()(torch.zeros(1, 3, image_size, image_size)).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"images of {image_size} pixels are too small for it: give a larger --image-size"
        ) from error
    finally:
        convolutions.train()


NETWORKS = {
    "CLRNet": CLRNet,
    "CNN+LSTM": CNNLSTM,
    "DBiRNN": DBiRNN,
    "ShallowNet": ShallowNet,
    "Xception": Xception,
    "MesoInception4": MesoInception4,
}

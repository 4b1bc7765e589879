"""The five networks that the CLRNet paper compares with (5.1), with the interface of clrnet.py. Trained by 05_train_clrnet.py --model NAME.

Every one sees 80 frames a video (5.1.1): 80 single frames, 16 samples of 5 consecutive ones, or 4 of 20. Deviations and choices (paper or,
where named, the authors' code -> ours):

    input, optimizer, epochs   not given (code: MesoInception4 256 x 256, MSE, Adam 1e-3, 50 epochs; ShallowNetV3 128 x 128, Xception
                      240 x 240 from scratch, both Adam 5e-5, 50 epochs) -> as the code; of the other two nothing is known: Adam 5e-5, 50 epochs
    batch             not given -> 64 single frames, 16 samples of 5, 4 samples of 20
    CNN+LSTM          Guera and Delp, no code -> InceptionV3 at 299 x 299, LSTM 2048, dense 512, dropout 0.5
    DBiRNN            Sabir et al., no code -> densenet121 at 224 x 224, a bidirectional GRU of width 512 and a dense layer
    weights to start from   not given -> drawn at random; `05 --weights imagenet` for CNN+LSTM, DBiRNN and Xception
    half of the layers   counting not given -> of all layers, those without weights too, in the order in which they act
"""

import torch
from torch import nn
from torch.nn import functional as F

from networks.clrnet import CLRNet
from networks.extractor import Extractor


class Baseline(nn.Module):
    """What the five have in common; see clrnet.py."""

    mean_squared_error = False  # the loss: of P(fake), instead of cross-entropy

    def forward(self, x):
        """(N, T, 3, S, S) in 0..1 -> (N, 2) logits: real, fake."""
        return self.head(self.features(x))

    def kernels(self):
        """The weights of all convolutions and dense layers."""
        return [
            layer.weight for layer in self.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]

    def layers(self):
        """All layers in the order in which they are built, which is that in which they act."""
        return [layer for layer in self.modules() if not list(layer.children())]


def backbone(arch, image_size):
    """A network of pretrainedmodels as a module whose `features` takes (N, 3, S, S) in 0..255 and gives (N, D)."""
    cnn = Extractor(arch, image_size)
    del cnn.head
    return cnn


class Xception(Baseline):
    """Chollet's Xception on single frames."""

    defaults = dict(image_size=240, frames=1, epochs=(50, 50), batch=(64, 64), lr=5e-5, l2=0.0)
    arch = "xception"

    def __init__(self, image_size=240, frames=1):
        super().__init__()
        self.image_size, self.frames, self.cnn = image_size, 1, backbone(self.arch, image_size)
        self.head = nn.Linear(self.cnn.dimensions, 2)

    def features(self, x):
        return self.cnn.features(255 * x[:, 0])


class CNNLSTM(Baseline):
    """CNN+LSTM (Guera and Delp): InceptionV3 on each of 20 consecutive frames, an LSTM over them, a dense layer."""

    defaults = dict(image_size=299, frames=20, epochs=(50, 50), batch=(4, 4), lr=5e-5, l2=0.0)
    arch = "inceptionv3"

    def __init__(self, image_size=299, frames=20):
        super().__init__()
        self.image_size, self.frames, self.cnn = image_size, frames, backbone(self.arch, image_size)
        self.cnn.backbone.aux_logits = False  # its second classifier has no part here
        del self.cnn.backbone.AuxLogits
        self.lstm = nn.LSTM(self.cnn.dimensions, 2048, batch_first=True)
        self.dense, self.dropout, self.head = (
            nn.Linear(2048, 512),
            nn.Dropout(0.5),
            nn.Linear(512, 2),
        )

    def features(self, x):
        f = self.cnn.features(255 * x.flatten(0, 1)).unflatten(0, x.shape[:2])
        _, (last, _) = self.lstm(f)
        return self.dropout(F.relu(self.dense(last[-1])))


class DBiRNN(Baseline):
    """DenseNet with a bidirectional recurrent network (Sabir et al.) on 5 consecutive frames."""

    defaults = dict(image_size=224, frames=5, epochs=(50, 50), batch=(16, 16), lr=5e-5, l2=0.0)
    arch = "densenet121"

    def __init__(self, image_size=224, frames=5):
        super().__init__()
        self.image_size, self.frames, self.cnn = image_size, frames, backbone(self.arch, image_size)
        self.gru, self.head = (
            nn.GRU(self.cnn.dimensions, 512, batch_first=True, bidirectional=True),
            nn.Linear(1024, 2),
        )

    def features(self, x):
        f = self.cnn.features(255 * x.flatten(0, 1)).unflatten(0, x.shape[:2])
        _, last = self.gru(f)  # (2, N, 512): forward's last frame, backward's first
        return torch.cat([last[0], last[1]], 1)


class ShallowNet(Baseline):
    """ShallowNetV3 (Tariq et al.) on single frames: convolutions without padding."""

    defaults = dict(image_size=128, frames=1, epochs=(50, 50), batch=(64, 64), lr=5e-5, l2=0.0)

    def __init__(self, image_size=128, frames=1):
        super().__init__()
        self.image_size, self.frames = image_size, 1

        def convolution(channels, filters, kernel, pool=False):
            return [
                nn.Conv2d(channels, filters, kernel),
                nn.ReLU(),
                *([nn.MaxPool2d(2)] if pool else []),
                nn.Dropout(0.25),
            ]

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
            nn.Linear(size_after(self.convolutions, image_size), 1024),
            nn.ReLU(),
            nn.BatchNorm1d(1024),
            nn.Dropout(0.25),
        )
        self.head = nn.Linear(1024, 2)

    def features(self, x):
        return self.dense(self.convolutions(x[:, 0]))


class Inception(nn.Module):
    """MesoInception4's first layers: four branches side by side, (N, C, H, W) -> (N, a + b + c + d, H, W)."""

    def __init__(self, channels, a, b, c, d):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(channels, a, 1), nn.ReLU())
        self.b, self.c, self.d = (
            nn.Sequential(
                nn.Conv2d(channels, n, 1),
                nn.ReLU(),
                nn.Conv2d(n, n, 3, padding=k, dilation=k),
                nn.ReLU(),
            )
            for k, n in ((1, b), (2, c), (3, d))
        )

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


class MesoInception4(Baseline):
    """Afchar et al.'s MesoInception4 on single frames; one output, P(fake), with the mean squared error as its loss."""

    defaults = dict(image_size=256, frames=1, epochs=(50, 50), batch=(64, 64), lr=1e-3, l2=0.0)
    mean_squared_error = True

    def __init__(self, image_size=256, frames=1):
        super().__init__()
        self.image_size, self.frames = image_size, 1

        def norm(channels):  # Keras' epsilon and momentum
            return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)

        self.convolutions = nn.Sequential(
            Inception(3, 1, 4, 4, 2),
            norm(11),
            nn.MaxPool2d(2, ceil_mode=True),
            Inception(11, 2, 4, 4, 2),
            norm(12),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(12, 16, 5, padding=2),
            nn.ReLU(),
            norm(16),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.ReLU(),
            norm(16),
            nn.MaxPool2d(4, ceil_mode=True),
            nn.Flatten(),
        )
        self.dense = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(size_after(self.convolutions, image_size), 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
        )
        self.output = nn.Linear(16, 1)

    def features(self, x):
        return self.dense(self.convolutions(x[:, 0]))

    def forward(self, x):
        """(N, 1, 3, S, S) in 0..1 -> (N, 2) logits 0 and z: the softmax is the sigmoid of z."""
        z = self.output(self.features(x))
        return torch.cat([torch.zeros_like(z), z], 1)


def size_after(convolutions, image_size):
    """How many numbers an image gives. Raises ValueError where it is too small."""
    try:
        with torch.no_grad():
            return convolutions.eval()(torch.zeros(1, 3, image_size, image_size)).shape[1]
    except RuntimeError as error:
        raise ValueError(f"images of {image_size} pixels are too small for it") from error
    finally:
        convolutions.train()


BASELINES = {
    "CNN+LSTM": CNNLSTM,
    "DBiRNN": DBiRNN,
    "ShallowNet": ShallowNet,
    "Xception": Xception,
    "MesoInception4": MesoInception4,
}


NETWORKS = {"CLRNet": CLRNet, **BASELINES}

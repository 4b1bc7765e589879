"""The feature extractor: any network of pretrainedmodels; folding of its batch norm."""

import copy
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from networks.maps import gradient_maps


def import_pretrainedmodels():
    """Return the module pretrainedmodels.

    Importing it makes both of its resnext101: here without values, which saves half a GB, a second
    and the random numbers.
    """
    with torch.device("meta"):
        import pretrainedmodels
    return pretrainedmodels


class Extractor(nn.Module):
    """A network of pretrainedmodels, pooled to one vector, and a linear layer to real, fake.

    The preprocessing is part of it: its input is uint8 RGB (N, 3, S, S), straight from image files.

    Args: arch, a name of pretrainedmodels; image_size, S in pixels, None for the network's own.
    Raises ValueError for an unknown name or a size that the network cannot take.
    """

    def __init__(self, arch, image_size=None):
        super().__init__()
        pretrainedmodels = import_pretrainedmodels()
        if arch not in pretrainedmodels.model_names:
            names = ", ".join(sorted(pretrainedmodels.model_names))
            raise ValueError(f"pretrainedmodels has no network {arch}; it has: {names}")
        with warnings.catch_warnings():  # torchvision's, about how pretrainedmodels calls it
            warnings.simplefilter("ignore")
            self.backbone = pretrainedmodels.__dict__[arch](num_classes=1000, pretrained=None)
        if arch.startswith("resnext101"):  # made at the import, without values
            self.backbone = copy.deepcopy(self.backbone).to_empty(device="cpu")
            for module in self.backbone.modules():
                getattr(module, "reset_parameters", lambda: None)()
        # Squeezenets have another classifier and keep it.
        if hasattr(self.backbone, "last_linear"):
            del self.backbone.last_linear
        options = pretrainedmodels.pretrained_settings[arch]
        settings = options.get("imagenet") or next(iter(options.values()))
        own_size = settings["input_size"][-1]
        self.image_size = image_size or own_size
        self.bgr = settings["input_space"] == "BGR"
        self.white = float(settings["input_range"][1])  # 1 or 255
        self.register_buffer("mean", torch.tensor(settings["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings["std"]).view(3, 1, 1), persistent=False)
        # Channels innermost in memory are 1.1 to 1.3 times as fast on a CPU (bench/02_train.py),
        # but some networks (vgg) cannot have them.
        self.eval()
        image = torch.zeros(1, 3, self.image_size, self.image_size)
        for memory_format in (torch.channels_last, torch.contiguous_format):
            self.memory_format = memory_format
            try:
                with torch.no_grad():
                    self.dimensions = self.features(image).shape[1]
                break
            except (RuntimeError, ValueError, AttributeError) as error:
                reason = error
        else:
            raise ValueError(
                f"{arch} cannot take images of {self.image_size} pixels "
                f"({str(reason).splitlines()[0]}); its own size is {own_size}"
            ) from reason
        self.head = nn.Linear(self.dimensions, 2)
        self.to(memory_format=self.memory_format).train()

    def normalize(self, images):
        """(N, 3, S, S) uint8 RGB -> what the backbone takes."""
        x = images.float() * (self.white / 255)
        x = ((x.flip(1) if self.bgr else x) - self.mean) / self.std
        return x.contiguous(memory_format=self.memory_format)

    def feature_maps(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, D, h, w); (N, D) if the backbone ends in dense layers."""
        # Some networks (xception, densenets, nasnets) have their last ReLU after `features`;
        # for the others it does nothing.
        return F.relu(self.backbone.features(self.normalize(images)))

    def features(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, D) pooled features (2048 for se_resnext101_32x4d)."""
        x = self.feature_maps(images)
        return x.mean((2, 3)) if x.ndim == 4 else x

    def forward(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, 2) logits: real, fake."""
        return self.head(self.features(images))

    def activation_maps(self, images, head=None):
        """(N, 3, S, S) uint8 RGB -> (N, h, w), see `networks.maps`; not after `fold_batch_norm`."""
        head = head or self.head
        if not hasattr(self.backbone, "_features"):
            return gradient_maps(self.feature_maps(images), lambda maps: head(maps.mean((2, 3))))
        # alexnet and vgg end in dense layers; a hook puts `maps` in the place of their own.
        convolutions = self.backbone._features

        def classify(maps):
            hook = convolutions.register_forward_hook(lambda *_: maps)
            try:
                return head(self.features(images))
            finally:
                hook.remove()

        return gradient_maps(convolutions(self.normalize(images)), classify)


class BackboneFeatures(nn.Module):
    """`features` of a backbone as the `forward` of a module, which is what torch.fx can trace."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone.features(x)


def fold_batch_norm(model):
    """Fold the batch norms of an `Extractor` into its convolutions, in place, and return it.

    The model must be in evaluation mode. Its backbone keeps `features` alone, equal to 1e-5 of the
    largest. A network that cannot be traced stays as it is. Folded and in its own memory format,
    se_resnext101_32x4d comes to 95 % of a CPU's peak rate in fp32 (bench/02_train.py).
    """
    from torch.fx.experimental.optimization import fuse

    refusals = (torch.fx.proxy.TraceError, TypeError, NotImplementedError, NameError)
    try:
        features = fuse(BackboneFeatures(model.backbone).eval())
    except refusals as error:
        reason = str(error).splitlines()[0]
        print(f"batch norm is not folded, which only costs time: {reason}", flush=True)
        return model
    model.backbone = nn.Module()
    model.backbone.features = features
    model.backbone.to(memory_format=model.memory_format).requires_grad_(False)
    return model

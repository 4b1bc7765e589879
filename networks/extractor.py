"""The feature extractor: any network of pretrainedmodels; its folded batch norm; activation maps.

Activation maps are evidence for fake (above 0) or real (below 0) at each place of an image. Every
network has `activation_maps(x, head=None)`: clips (N, T, 3, S, S) -> maps (N, T, h, w), or images
(N, 3, S, S) -> maps (N, h, w), with h and w of the network's last feature maps. `head` takes the
place of its last layer: a network of stage 04 is that of its extractor, so that
`extractor.activation_maps(x, bpdann)` are BP-DANN's maps.
"""

import copy
import warnings

import torch
from torch import nn
from torch.nn import functional as F


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
        """(N, 3, S, S) uint8 RGB -> (N, h, w), see `gradient_maps`; not after `fold_batch_norm`."""
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


# ---------------------------------------------------------------- activation maps


def gradient_maps(maps, classify):
    """Gradient-weighted class activation maps (Grad-CAM, Selvaraju et al., ICCV 2017), with signs.

    Each channel of the feature maps is weighted by the mean, over the places of its frame, of the
    gradient of the logit of fake minus that of real. Grad-CAM's last ReLU is left out, so that
    evidence for real stays visible.

    Where pooling and a linear layer follow (stage 02, CLRNet, Xception), these are the exact class
    activation maps of Zhou et al. (CVPR 2016): maps are multiplied by the number of places, so that
    their mean plus the difference of the biases is the difference of the logits. Where pooling and
    other layers follow (BP-DANN, DANN, CNN+LSTM, DBiRNN), the mean is the first order of that
    difference. Where no pooling follows (MesoInception4, ShallowNet, alexnet, vgg), maps only rank.
    CNN+LSTM's compare places within a frame; between frames its recurrent layer can mislead them.

    Args:
        maps: feature maps (N, D, h, w) or (N, T, D, h, w), with or without a graph.
        classify: the rest of the network, a function of them that returns (N, 2) logits.

    Returns (N, h, w) or (N, T, h, w), without a graph.
    """
    # cuDNN computes no gradient of a recurrent layer in evaluation mode.
    without_cudnn = torch.backends.cudnn.flags(enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), without_cudnn:
        maps = maps.detach().clone().requires_grad_()
        logits = classify(maps)
        (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), maps)
    places = maps[0].numel() // maps.shape[-3]
    weights = gradient.mean((-2, -1), keepdim=True)
    return places * (weights * maps.detach()).sum(-3)


@torch.no_grad()
def full_size_maps(function, clips):
    """A function's maps of each of the clips, one by one, at the size of their frames.

    (N, T, 3, S, S) on its device -> (N, T, S, S) float32 array.
    """
    maps = torch.cat([function(clip[None]) for clip in clips]).float()
    size = clips.shape[-2:]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False).cpu().numpy()

"""The feature extractor."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

from common import fail

# A second copy of these weights for the same module names (other bytes, other hash), for when the first host is down.
MIRRORS = {
    "se_resnext101_32x4d": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
    "legacy_se_resnext101_32x4d-37725eac.pth"
}


class Extractor(nn.Module):
    """A network of pretrainedmodels without its classifier, pooled to one vector, and a linear layer to real, fake.

    It carries its preprocessing: input is uint8 RGB (N, 3, image_size, image_size), straight from an image file.

    Args: arch, a name of pretrainedmodels; image_size in pixels, None for the network's own.
    Raises ValueError for an unknown name or a size that the network cannot take.
    """

    def __init__(self, arch, image_size=None):
        super().__init__()
        import pretrainedmodels

        if arch not in pretrainedmodels.model_names:
            raise ValueError(
                f"pretrainedmodels has no network {arch}; it has: {', '.join(sorted(pretrainedmodels.model_names))}"
            )
        with warnings.catch_warnings():  # torchvision's, about how pretrainedmodels calls it
            warnings.simplefilter("ignore")
            self.backbone = pretrainedmodels.__dict__[arch](num_classes=1000, pretrained=None)
        if hasattr(
            self.backbone, "last_linear"
        ):  # squeezenets have another classifier, and keep it
            del self.backbone.last_linear
        options = pretrainedmodels.pretrained_settings[arch]
        settings = options.get("imagenet") or next(iter(options.values()))
        self.image_size = image_size or settings["input_size"][-1]
        self.bgr, self.top = settings["input_space"] == "BGR", float(settings["input_range"][1])
        self.register_buffer("mean", torch.tensor(settings["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(settings["std"]).view(3, 1, 1), persistent=False)
        # Channels innermost in memory: 1.1 to 1.3 times as fast on a CPU (bench/02_train.py). Some networks (vgg) cannot have it.
        for self.memory in (torch.channels_last, torch.contiguous_format):
            try:
                with torch.no_grad():
                    self.dimensions = (
                        self.eval()
                        .features(torch.zeros(1, 3, self.image_size, self.image_size))
                        .shape[1]
                    )
                break
            except (RuntimeError, ValueError, AttributeError) as error:
                reason = error
        else:
            raise ValueError(
                f"{arch} cannot take images of {self.image_size} pixels ({str(reason).splitlines()[0]}); "
                f"its own size is {settings['input_size'][-1]}"
            ) from reason
        self.head = nn.Linear(self.dimensions, 2)
        self.to(memory_format=self.memory).train()

    def features(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, D) pooled features (2048 for se_resnext101_32x4d)."""
        x = images.float() * (self.top / 255)
        x = (((x.flip(1) if self.bgr else x) - self.mean) / self.std).contiguous(
            memory_format=self.memory
        )
        # Some networks (xception, densenets, nasnets) have their last ReLU after `features`; for the others it does nothing.
        x = F.relu(self.backbone.features(x))
        return x.mean((2, 3)) if x.ndim == 4 else x

    def forward(self, images):
        """(N, 3, S, S) uint8 RGB -> (N, 2) logits: real, fake."""
        return self.head(self.features(images))


def load_backbone(model, state, origin):
    """Load a network's own weights (a state dict without or with its classifier) into `model.backbone`, strictly."""
    state = (
        {k.removeprefix("module."): v for k, v in state.items()} if isinstance(state, dict) else {}
    )
    expected = model.backbone.state_dict()
    state = {
        k: v
        for k, v in state.items()
        if k in expected or k.split(".")[0] not in ("last_linear", "fc", "classifier", "AuxLogits")
    }
    if "num_batches_tracked" not in "".join(state):  # weights saved before torch 0.4.1
        state |= {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    wrong = [
        k
        for k in expected.keys() | state.keys()
        if getattr(state.get(k), "shape", None) != getattr(expected.get(k), "shape", 0)
    ]
    if wrong:
        raise ValueError(
            f"{origin} does not fit: {len(wrong)} of {len(expected)} arrays are missing, of another shape or "
            f"unknown, {min(wrong)} among them"
        )
    model.backbone.load_state_dict(state)


def load_weights(model, arch, weights):
    """Start the backbone from `weights`: "imagenet" (downloaded once into torch's cache), "none", or a file."""
    import pickle
    import socket

    import pretrainedmodels

    if weights == "none":
        return
    if weights != "imagenet":
        try:
            load_backbone(
                model, torch.load(weights, map_location="cpu", weights_only=True), weights
            )
        except FileNotFoundError:
            fail(f"--weights {weights}: no such file (imagenet, none or a file can be given)")
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            fail(f"--weights {weights}: {str(error).splitlines()[0]}")
        return
    urls = [
        options["url"]
        for name, options in pretrainedmodels.pretrained_settings[arch].items()
        if name == "imagenet"
    ]
    urls += [MIRRORS[arch]] if arch in MIRRORS else []
    reasons = []
    socket.setdefaulttimeout(30)  # seconds; a firewall that swallows packets
    for url in urls:
        try:
            print(f"ImageNet weights: {url}", flush=True)
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True
            )
            return load_backbone(model, state, url)
        except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
    fail(
        f"no ImageNet weights for {arch} ({'; '.join(reasons) or 'no address known'}). Three ways: a network connection; "
        f"--weights FILE with {urls[0].split('/')[-1] if urls else 'a state dict'} from another machine; --weights none"
    )


class Folded(nn.Module):
    """A backbone in evaluation mode whose batch norms are part of its convolutions: `features` as it was, to 1e-5 of the largest."""

    def __init__(self, features):
        super().__init__()
        self.body = features

    def features(self, x):
        return self.body(x)


class Body(nn.Module):
    """`features` of a backbone as a module, which is what torch.fx can trace."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone.features(x)


def fold_batch_norm(model):
    """An `Extractor` in evaluation mode with its batch norms folded into its convolutions; a network that cannot be traced stays as it is.

    Changes `model`. With the memory format of 02 it comes to 95 % of a CPU's peak rate in fp32 (bench/02_train.py).
    """
    from torch.fx.experimental.optimization import fuse

    try:
        body = fuse(Body(model.backbone).eval())
    except (
        torch.fx.proxy.TraceError,
        TypeError,
        NotImplementedError,
        NameError,
    ) as error:  # torch.fx's ways to refuse
        print(
            f"batch norm is not folded, which only costs time: {str(error).splitlines()[0]}",
            flush=True,
        )
        return model
    model.backbone = Folded(body).to(memory_format=model.memory).requires_grad_(False)
    return model

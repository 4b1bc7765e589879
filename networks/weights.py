"""Files of weights: those of torch.save, the published ones of the extractor's networks, Keras'."""

import pickle
import re
import socket
import struct
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common import fail
from networks.clrnet import ConvLSTM
from networks.extractor import import_pretrainedmodels

# A second copy of the weights for the same module names (other bytes, other hash), used while the
# first host is down.
MIRRORS = {
    "se_resnext101_32x4d": "https://github.com/rwightman/pytorch-image-models/releases/download/"
    "v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth"
}

# torchvision's names of arrays -> those of pretrainedmodels, which changes its networks.
RENAMED = (
    (r"(denselayer\d+\.(?:norm|conv))\.", r"\1"),  # densenets, as published
    (r"^features\.", "_features."),  # alexnet and vgg, as the next two
    (r"^classifier\.[01]\.", "linear0."),
    (r"^classifier\.[34]\.", "linear1."),
    (r"^classifier\.1\.", "last_conv."),  # squeezenets
)


# What torch.load raises for a file that is damaged, or is something else.
DAMAGES = (RuntimeError, EOFError, LookupError, TypeError, AttributeError, ValueError)
DAMAGES += (ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError)


def load_tensors(path):
    """Read a file of torch.save: nested dicts and lists of tensors, numbers and text.

    Nothing in the file is executed. Raises OSError, or a ValueError of one line that says what the
    file is instead.
    """
    with open(path, "rb") as file:
        start = file.read(100).lstrip()
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS: git lfs pull fetches the file itself")
    if start.startswith(b"<"):
        raise ValueError("it is a web page: the download has failed or asks for something")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        if "GLOBAL" in str(error):
            raise ValueError(
                "it holds Python objects, such as a whole model; these could run any code and are "
                "not loaded: save model.state_dict() instead"
            ) from error
        raise ValueError("it is damaged, or not a file of torch.save") from error


def load_backbone(model, state):
    """Load a state dict of the network, with or without its classifier, into `model.backbone`.

    It may lie in a dict under "state_dict", and its names may begin with "module." or "backbone.".
    Raises ValueError unless every array of the backbone is present and fits.
    """
    expected = model.backbone.state_dict()
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict):
        state = {}
    state = {rename(str(name), expected): value for name, value in state.items()}
    classifiers = ("last_linear", "fc", "classifier", "AuxLogits")
    state = {
        name: value
        for name, value in state.items()
        if name in expected or name.split(".")[0] not in classifiers
    }
    counters = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    if not counters.keys() & state.keys():  # weights saved before torch 0.4.1
        state |= counters
    wrong = [
        name
        for name in expected.keys() | state.keys()
        if name not in expected or getattr(state.get(name), "shape", None) != expected[name].shape
    ]
    if wrong:
        raise ValueError(
            f"it does not fit: {len(wrong)} of {len(expected)} arrays are missing, unknown or of "
            f"another shape, {min(wrong)} among them; it must hold weights of this network"
        )
    model.backbone.load_state_dict(state)


def rename(name, expected):
    """An array's name without prefixes, as pretrainedmodels has it if that is an expected one."""
    name = re.sub(r"^(module\.|backbone\.)+", "", name)
    for pattern, replacement in RENAMED:
        renamed = re.sub(pattern, replacement, name)
        if renamed in expected:
            return renamed
    return name


def load_weights(model, arch, weights):
    """Load initial weights into the backbone of an `Extractor`, or exit with an error.

    weights: "imagenet" (downloaded once, into torch's cache), "none", or a file with a state dict.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        load_imagenet_weights(model, arch)
        return
    try:
        load_backbone(model, load_tensors(weights))
    except FileNotFoundError:
        fail(f"--weights {weights}: no such file; give imagenet, none or a file with a state dict")
    except (OSError, ValueError) as error:
        fail(f"--weights {weights}: {error}")


def load_imagenet_weights(model, arch):
    """Load the published weights of a network, from its own address or from the mirror's."""
    pretrainedmodels = import_pretrainedmodels()
    urls = []
    if "imagenet" in pretrainedmodels.pretrained_settings[arch]:
        urls.append(pretrainedmodels.pretrained_settings[arch]["imagenet"]["url"])
    if arch in MIRRORS:
        urls.append(MIRRORS[arch])
    reasons = []
    socket.setdefaulttimeout(30)  # seconds; a firewall may swallow packets
    for url in urls:
        print(f"ImageNet weights: {url}", flush=True)
        try:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True
            )
            load_backbone(model, state)
            return
        except (OSError, RuntimeError, ValueError) as error:
            reasons.append((str(error).splitlines() or [type(error).__name__])[0])
        except pickle.UnpicklingError:
            reasons.append(f"{url} is not a file of weights")
    file = urls[0].split("/")[-1] if urls else "a state dict"
    fail(
        f"no ImageNet weights for {arch} ({'; '.join(reasons) or 'no address is known'}). There "
        f"are three ways: a network connection; --weights FILE with {file} from another machine; "
        "--weights none"
    )


# ---------------------------------------------------------------- Keras' files


def read_keras_weights(path):
    """Return the arrays of a weight file in Keras' order.

    The file is .hdf5 or .h5 as written by Keras' `save_weights` or `save`, or .npz with arrays
    w000, w001, ... Raises ValueError or OSError if it is not; nothing in the file is executed, and
    no other file is opened.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name[0] == "w" and name[1:].isdigit()]
            if not names:
                raise ValueError("it holds no arrays w000, w001, ...")
            return [file[name] for name in sorted(names, key=lambda name: int(name[1:]))]
    import h5py

    arrays = []
    with h5py.File(path, "r") as file:
        root = find_in_group(file, "model_weights") if "model_weights" in file else file
        for layer in read_names(root, "layer_names"):
            group = find_in_group(root, layer)
            for name in read_names(group, "weight_names"):
                array = find_in_group(group, name)
                if not isinstance(array, h5py.Dataset) or array.external:
                    raise ValueError(f"{layer}: {name} is not an array stored in the file")
                arrays.append(array[()])
    if not arrays:
        raise ValueError("it holds no weights in Keras' layout (layer_names, weight_names)")
    return arrays


def read_names(group, attribute):
    """A list of names among a group's attributes; Keras splits a long one into name0, name1, ..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    names = [name for part in parts for name in part]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def find_in_group(group, path):
    """What lies at a path inside a group. No link is followed: it could lead to another file."""
    import h5py

    for name in path.split("/"):
        is_group = isinstance(group, h5py.Group)
        if not is_group or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} is missing, or is a link")
        group = group[name]
    return group


def load_keras_weights(model, arrays):
    """Copy weights in Keras' order into a CLRNet, in place.

    arrays: for each ConvLSTM kernel, recurrent kernel (both height x width x in x 4 F) and bias;
    for each batch norm gamma, beta, moving mean and moving variance; the head's kernel (D x 2) and
    bias, whose columns are swapped: theirs are fake, real. Raises ValueError if their number or a
    shape does not fit.
    """
    targets = []
    for layer in model.layers():
        if isinstance(layer, ConvLSTM):
            targets += [layer.input.weight, layer.recurrent.weight, layer.input.bias]
        elif isinstance(layer, nn.BatchNorm2d):
            targets += [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    targets += [model.head.weight, model.head.bias]
    arrays = [np.asarray(array) for array in arrays]
    if len(arrays) != len(targets):
        raise ValueError(f"{len(arrays)} arrays do not fit this network: it takes {len(targets)}")
    arrays[-2:] = [array[..., ::-1] for array in arrays[-2:]]
    for k, (target, array) in enumerate(zip(targets, arrays)):
        # height, width, in, out -> out, in, height, width; in, out -> out, in
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != tuple(target.shape):
            raise ValueError(
                f"array {k} has shape {array.shape} in torch's order, but this network needs "
                f"{tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(array)))

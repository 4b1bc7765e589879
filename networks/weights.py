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
from networks.baselines import MesoInception4
from networks.clrnet import ConvLSTM
from networks.extractor import import_pretrainedmodels
from running.folder import sha256

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


# Published files of MesoInception4 by the first digits of their SHA-256: (by whom, what they are
# trained on, what the network takes for black and white, whose probability its output is).
MESONET = "MesoNet's authors (Afchar et al., 2018)"
FFPP = "FaceForensics++'s authors (Rössler et al., 2019)"
PUBLISHED = {
    "234586d40058": (MESONET, "Deepfakes of MesoNet's own data set", (0, 1), "real"),
    "d4533ac8a319": (MESONET, "Face2Face of FaceForensics", (0, 1), "real"),
    "28743977e28e": (FFPP, "Deepfakes of FaceForensics++ c23", (-1, 1), "real"),
    "b817f3856241": (FFPP, "Face2Face of FaceForensics++ c23", (-1, 1), "real"),
    "0f8257a04953": (FFPP, "FaceSwap of FaceForensics++ c23", (-1, 1), "real"),
    "8a3f3d796c35": (FFPP, "all methods of FaceForensics++ c23", (-1, 1), "real"),
}

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
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    state = state if isinstance(state, dict) else {}
    state = {rename(str(name), expected): value for name, value in state.items()}
    for name in state.keys() - expected.keys():
        if name.split(".")[0] in ("last_linear", "fc", "classifier", "AuxLogits"):
            del state[name]
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
    settings = pretrainedmodels.pretrained_settings[arch].get("imagenet", {})
    urls = [url for url in (settings.get("url"), MIRRORS.get(arch)) if url]
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
    """Return the arrays of a weight file in Keras' order, see `read_keras_layers`."""
    return [array for arrays in read_keras_layers(path).values() for array in arrays]


def read_keras_layers(path):
    """Return a weight file as {layer: list of arrays}, in the order of the file.

    The file is .hdf5 or .h5 as written by Keras' `save_weights` or `save`, or .npz with arrays
    w000, w001, ..., which are one layer, "w". Raises ValueError or OSError if it is not; nothing in
    the file is executed, and no other file is opened.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name[0] == "w" and name[1:].isdigit()]
            if not names:
                raise ValueError("it holds no arrays w000, w001, ...")
            return {"w": [file[name] for name in sorted(names, key=lambda name: int(name[1:]))]}
    import h5py

    layers, nodes = {}, {}
    with h5py.File(path, "r") as file:
        # This visits no links, which could lead to another file.
        file.visititems(lambda name, node: nodes.update({name: node}))
        top = "model_weights/" if "model_weights" in nodes else ""
        for layer in read_names(nodes[top[:-1]] if top else file, "layer_names"):
            if f"{top}{layer}" not in nodes:
                raise ValueError(f"{layer} is missing, or is a link")
            layers[layer] = []
            for name in read_names(nodes[f"{top}{layer}"], "weight_names"):
                array = nodes.get(f"{top}{layer}/{name}")
                if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
                    raise ValueError(f"{layer}: {name} is missing, or is a link")
                layers[layer].append(array[()])
    if not any(layers.values()):
        raise ValueError("it holds no weights in Keras' layout (layer_names, weight_names)")
    return layers


def read_names(group, attribute):
    """A list of names among a group's attributes; Keras splits a long one into name0, name1, ..."""
    parts = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{attribute}{len(parts)}"])
    names = [name for part in parts for name in part]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


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
    head = [np.asarray(array)[..., ::-1] for array in arrays[-2:]]
    copy_arrays(targets, [*arrays[:-2], *head])


def load_mesoinception4(model, layers, input_range, output):
    """Copy Keras' weights into a MesoInception4 that takes 0..1, in place.

    The numbers in the layers' names give the order of creation, which is that of our modules; the
    order of the file is another. A range of inputs other than 0..1 goes into the convolutions that
    see the image: they are 1 x 1 and have no padding, so that nothing changes. If the output is
    P(real), the last layer is negated.

    Args:
        layers: {name: arrays}, as `read_keras_layers` returns them.
        input_range: what the file's network takes for black and for white.
        output: "real" or "fake", the class whose probability is its output.

    Raises ValueError if the number of arrays or a shape does not fit.
    """
    kinds = {"conv2d": nn.Conv2d, "batch_normalization": nn.BatchNorm2d, "dense": nn.Linear}
    targets, arrays = [], []
    for kind, module in kinds.items():
        for layer in model.modules():
            if isinstance(layer, module):
                targets += [layer.weight, layer.bias]
                if module is nn.BatchNorm2d:
                    targets += [layer.running_mean, layer.running_var]
        numbers = {}
        for name, of_layer in layers.items():
            if match := re.fullmatch(rf"{kind}(?:_(\d+))?", name):
                numbers[int(match[1] or 0)] = of_layer
        arrays += [array for _, of_layer in sorted(numbers.items()) for array in of_layer]
    # Keras flattens height, width, channels, and PyTorch channels, height, width.
    dense = model.dense[1].weight
    k = next(k for k, target in enumerate(targets) if target is dense)
    if len(arrays) == len(targets) and arrays[k].shape == tuple(dense.T.shape):
        channels = model.convolutions[-3].num_features
        by_place = arrays[k].reshape(-1, channels, len(dense))
        arrays[k] = by_place.transpose(1, 0, 2).reshape(arrays[k].shape)
    copy_arrays(targets, arrays)

    black, white = input_range
    first = model.convolutions[0]
    with torch.no_grad():
        for layer in (first.a[0], first.b[0], first.c[0], first.d[0]):
            # weight * (black + (white - black) * x) + bias, for x in 0..1
            layer.bias += black * layer.weight.sum((1, 2, 3))
            layer.weight *= white - black
        if output == "real":
            model.output.weight.neg_()
            model.output.bias.neg_()


def copy_arrays(targets, arrays):
    """Copy Keras' arrays into tensors, in place. Raises ValueError if one does not fit."""
    if len(arrays) != len(targets):
        raise ValueError(f"{len(arrays)} arrays do not fit this network: it takes {len(targets)}")
    for k, (target, array) in enumerate(zip(targets, map(np.asarray, arrays))):
        # height, width, in, out -> out, in, height, width; in, out -> out, in
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != tuple(target.shape):
            raise ValueError(
                f"array {k} has shape {array.shape} in torch's order, but this network needs "
                f"{tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def load_published(model, path, input_range=None, output=None):
    """Load the Keras file of a CLRNet or MesoInception4, in place; returns whose weights it has.

    Args:
        input_range, output: of a MesoInception4, as in `load_mesoinception4`. Files in PUBLISHED
            need neither.

    Returns a text such as "MesoNet's authors (Afchar et al., 2018), trained on Deepfakes of ...",
    or None for a file that is not known. Raises OSError or ValueError.
    """
    if not isinstance(model, MesoInception4):
        load_keras_weights(model, read_keras_weights(path))
        return None
    known = PUBLISHED.get(sha256(path)[:12])
    if known and not (input_range or output):
        input_range, output = known[2:]
    if not (input_range and output):
        raise ValueError(
            "it is none of the published files that are known, and says neither what its network "
            "takes nor what it gives: give --init-range (0 1 or -1 1, for black and white) and "
            "--init-output (real or fake, the class whose probability is its output)"
        )
    load_mesoinception4(model, read_keras_layers(path), input_range, output)
    if not known:
        return None
    return f"{known[0]}, trained on {known[1]}: fakes by newer methods mostly pass as real"


def published_checkpoint(path):
    """A file in PUBLISHED as the content of a checkpoint of stage 05; exits with an error if it
    is another.
    """
    model = MesoInception4()
    try:
        origin = load_published(model, path)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        flags = "--strategy single --model MesoInception4 --init FILE --epochs 0"
        fail(f"{path}: {reason}. 05_train_clrnet.py {flags} makes a checkpoint of other files")
    return dict(
        stage="05",
        network="MesoInception4",
        kwargs=dict(image_size=model.image_size, frames=model.frames),
        model=model.state_dict(),
        data=[dict(set=origin, role="weights of", extraction={})],
        validation=None,
    )

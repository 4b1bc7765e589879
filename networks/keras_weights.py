"""The authors' Keras weights."""

from itertools import count, takewhile
from pathlib import Path

import numpy as np
import torch

from networks.clrnet import FrameNorm
from networks.convlstm import ConvLSTM


def read_keras_weights(path):
    """The arrays of a Keras weight file in Keras' order: .hdf5 or .h5 of `save_weights` or `save`, or .npz with w000, w001, ...

    Raises ValueError or OSError where it is no such file; nothing in it is run, and no other file is opened.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            names = sorted(
                (name for name in file.files if name[0] == "w" and name[1:].isdigit()),
                key=lambda name: int(name[1:]),
            )
            if not names:
                raise ValueError("it holds no arrays w000, w001, ...")
            return [file[name] for name in names]
    import h5py

    def attribute(group, name):  # Keras cuts a long list into name0, name1, ...
        parts = (
            [group.attrs[name]]
            if name in group.attrs
            else [
                group.attrs[k]
                for k in takewhile(group.attrs.__contains__, (f"{name}{k}" for k in count()))
            ]
        )
        return [
            value.decode() if isinstance(value, bytes) else str(value)
            for part in parts
            for value in part
        ]

    def inside(group, name):  # a link could lead to another file
        for part in name.split("/"):
            if not isinstance(group, h5py.Group) or not isinstance(
                group.get(part, getlink=True), h5py.HardLink
            ):
                raise ValueError(f"{name} is not in it")
            group = group[part]
        return group

    arrays = []
    with h5py.File(path, "r") as file:
        root = inside(file, "model_weights") if "model_weights" in file else file
        for layer in attribute(root, "layer_names"):
            group = inside(root, layer)
            for name in attribute(group, "weight_names"):
                array = inside(group, name)
                if not isinstance(array, h5py.Dataset) or array.external:
                    raise ValueError(f"{layer}: {name} is not an array in it")
                arrays.append(array[()])
    if not arrays:
        raise ValueError("it holds no weights in Keras' layout (layer_names, weight_names)")
    return arrays


def load_keras_weights(model, arrays):
    """Copy weights in Keras' order into a CLRNet, in place; the head's columns are swapped (theirs: fake, real).

    arrays: kernels height x width x in x 4F, biases, batch norms as gamma, beta, mean, variance. Raises ValueError
    where number or shape do not fit.
    """
    targets = []
    for layer in model.layers():
        if isinstance(layer, ConvLSTM):
            targets += [layer.input.weight, layer.recurrent.weight, layer.input.bias]
        elif isinstance(layer, FrameNorm):
            targets += [layer.weight, layer.bias, layer.running_mean, layer.running_var]
    targets += [model.head.weight, model.head.bias]
    arrays = [np.asarray(array) for array in arrays]
    if len(arrays) != len(targets):
        raise ValueError(f"{len(arrays)} arrays do not fit this network: it takes {len(targets)}")
    for k, (target, array) in enumerate(zip(targets, arrays)):
        if k >= len(targets) - 2:
            array = array[..., ::-1]  # fake, real -> real, fake
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        if array.shape != tuple(target.shape):
            raise ValueError(
                f"array {k} has shape {array.shape} in torch's order, this network needs {tuple(target.shape)}"
            )
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.ascontiguousarray(array)))

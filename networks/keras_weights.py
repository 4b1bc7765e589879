"""The authors' published Keras weights of CLRNet: reading the file, and loading them."""

from pathlib import Path

import numpy as np
import torch

from networks.clrnet import ConvLSTM, FrameNorm


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
        elif isinstance(layer, FrameNorm):
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

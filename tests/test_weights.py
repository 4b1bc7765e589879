"""Published Keras weights of MesoInception4: read, loaded, known by their content."""

import h5py
import numpy as np
import pytest
import torch
from conftest import call, judge, same, shared
from torch.nn import functional as F

from networks.baselines import MesoInception4
from networks.weights import (
    load_mesoinception4,
    load_published,
    published_checkpoint,
    read_keras_layers,
)
from running.run import load_checkpoint

SINGLE = "05_train_clrnet.py --strategy single --model MesoInception4 --epochs 0 --device cpu"
# Kernels in Keras' order (height, width, in, out), by the number in the layer's name.
KERNELS = {
    **{1: (1, 1, 3, 1), 2: (1, 1, 3, 4), 3: (3, 3, 4, 4), 4: (1, 1, 3, 4), 5: (3, 3, 4, 4)},
    **{6: (1, 1, 3, 2), 7: (3, 3, 2, 2), 8: (1, 1, 11, 2), 9: (1, 1, 11, 4), 10: (3, 3, 4, 4)},
    **{11: (1, 1, 11, 4), 12: (3, 3, 4, 4), 13: (1, 1, 11, 2), 14: (3, 3, 2, 2)},
    **{15: (5, 5, 12, 16), 16: (5, 5, 16, 16)},
}


def make_layers(seed=0):
    """Random weights of a MesoInception4 for 256 pixels as {layer: arrays}, in a shuffled order."""
    draw = np.random.default_rng(seed)
    layers = {}
    for number, shape in KERNELS.items():
        kernel = draw.normal(0, 1 / np.sqrt(np.prod(shape[:3])), shape)
        layers[f"conv2d_{number}"] = [kernel, draw.normal(0, 0.1, shape[3])]
    for number, channels in enumerate((11, 12, 16, 16), 1):
        norm = [draw.uniform(0.5, 1.5, channels), draw.normal(0, 0.1, channels)]
        norm += [draw.normal(0, 0.1, channels), draw.uniform(0.5, 1.5, channels)]
        layers[f"batch_normalization_{number}"] = norm
    for number, shape in ((1, (1024, 16)), (2, (16, 1))):
        layers[f"dense_{number}"] = [draw.normal(0, 0.1, shape), draw.normal(0, 0.1, shape[1])]
    names = draw.permutation(sorted(layers)).tolist()
    return {name: [a.astype(np.float32) for a in layers[name]] for name in names}


def keras_logit(layers, x):
    """The logit of Keras' network of these weights for images (N, H, W, C), step by step."""
    x = torch.from_numpy(x).permute(0, 3, 1, 2)

    def convolve(x, number, dilation=1, relu=True):
        kernel, bias = (torch.from_numpy(a) for a in layers[f"conv2d_{number}"])
        padding = dilation * (kernel.shape[0] // 2)
        kernel = kernel.permute(3, 2, 0, 1)
        return F.relu(F.conv2d(x, kernel, bias, padding=padding, dilation=dilation))

    def norm(x, number, pool):
        gamma, beta, mean, var = (
            torch.from_numpy(a)[:, None, None] for a in layers[f"batch_normalization_{number}"]
        )
        return F.max_pool2d((x - mean) / torch.sqrt(var + 1e-3) * gamma + beta, pool)

    for first, number in ((1, 1), (8, 2)):
        branches = [convolve(x, first)]
        for k, dilation in ((1, 1), (3, 2), (5, 3)):
            branches.append(convolve(convolve(x, first + k), first + k + 1, dilation))
        x = norm(torch.cat(branches, 1), number, 2)
    x = norm(convolve(x, 15), 3, 2)
    x = norm(convolve(x, 16), 4, 4)
    x = x.permute(0, 2, 3, 1).flatten(1)  # height, width, channels, as Keras flattens
    for number in (1, 2):
        kernel, bias = (torch.from_numpy(a) for a in layers[f"dense_{number}"])
        x = x @ kernel + bias
        x = F.leaky_relu(x, 0.1) if number == 1 else x
    return x[:, 0]


def write_h5(path, layers):
    """Write {layer: arrays} in the layout of Keras' `save_weights`."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, arrays in layers.items():
            names = [f"{name}/array_{k}:0" for k in range(len(arrays))]
            group = file.create_group(name)
            group.attrs["weight_names"] = [n.encode() for n in names]
            for n, array in zip(names, arrays):
                group[n] = array


@pytest.mark.parametrize("input_range, output", [((0, 1), "real"), ((-1, 1), "fake")])
@torch.inference_mode()
def test_a_made_file_gives_keras_logits(tmp_path, input_range, output):
    layers = make_layers()
    write_h5(tmp_path / "meso.h5", layers)
    model = MesoInception4().eval()
    read = read_keras_layers(tmp_path / "meso.h5")
    load_mesoinception4(model, read, input_range, output)
    x = np.random.default_rng(1).random((3, 256, 256, 3), np.float32)
    low, high = input_range
    expected = keras_logit(layers, (low + (high - low) * x).astype(np.float32))
    logits = model(torch.from_numpy(x).permute(0, 3, 1, 2)[:, None])
    sign = 1 if output == "fake" else -1
    assert torch.allclose(sign * logits[:, 1], expected, atol=1e-4)
    assert logits[:, 0].eq(0).all()


def test_layer_numbers_may_start_anywhere(tmp_path):
    """A network that is made after another one in the same program has higher numbers."""
    layers = make_layers()
    moved = {}
    for name, arrays in layers.items():
        kind, _, number = name.rpartition("_")
        moved[f"{kind}_{int(number) + 90}"] = arrays
    states = []
    for arrays in (layers, moved):
        model = MesoInception4()
        load_mesoinception4(model, arrays, (0, 1), "real")
        states.append(dict(model.state_dict()))
    assert same(*states)


def test_weights_of_another_network_are_refused():
    layers = make_layers()
    del layers["conv2d_16"]
    with pytest.raises(ValueError, match="arrays"):
        load_mesoinception4(MesoInception4(), layers, (0, 1), "real")
    layers = make_layers() | {"conv2d_16": [np.zeros((3, 3, 16, 16)), np.zeros(16)]}
    with pytest.raises(ValueError, match="shape"):
        load_mesoinception4(MesoInception4(), layers, (0, 1), "real")


@torch.inference_mode()
def test_parity_with_the_authors_network():
    path = shared("weights", "MesoInception_DF.h5")
    with np.load(shared("parity", "mesoinception4.npz")) as file:
        images, expected = file["images"], torch.from_numpy(file["logit_real"])
    model = MesoInception4().eval()
    assert "Afchar" in load_published(model, path)
    logits = model(torch.from_numpy(images).permute(0, 3, 1, 2)[:, None] / 255)
    assert torch.allclose(logits[:, 1].double(), -expected, atol=1e-4)
    content = published_checkpoint(shared("weights", "MesoInception_F2F.h5"))
    assert "trained on Face2Face" in content["data"][0]["set"]


def test_an_unknown_file_needs_its_range_and_its_class(tmp_path):
    """05 says which two flags are missing; with them it makes a checkpoint that gives P(fake)."""
    layers = make_layers()
    path = tmp_path / "meso.h5"
    write_h5(path, layers)
    error = call(f"{SINGLE} --init {path} --out {tmp_path / 'a'}", fails=True)
    assert "--init-range" in error and "--init-output" in error
    said = "--init-range -1 1 --init-output real"
    call(f"{SINGLE} --init {path} {said} --out {tmp_path / 'b'}")
    content = load_checkpoint(tmp_path / "b" / "model.pt", "05")
    model = MesoInception4().eval()
    model.load_state_dict(content["model"])
    x = np.random.default_rng(1).random((2, 256, 256, 3), np.float32)
    with torch.inference_mode():
        logits = model(torch.from_numpy(x).permute(0, 3, 1, 2)[:, None])
    assert torch.allclose(-logits[:, 1], keras_logit(layers, 2 * x - 1), atol=1e-4)
    with pytest.raises(SystemExit, match="--init FILE --epochs 0"):
        published_checkpoint(path)


def test_a_published_file_gives_a_verdict(tmp_path):
    """07 takes the file as it is, says whose it is, and scores as 05's checkpoint of it does."""
    weights = shared("weights", "MesoInception_DF.h5")
    clip = shared("data", "folders", "fake", "roop_snapshot.mp4")
    call(f"{SINGLE} --init {weights} --out {tmp_path / 'run'}")
    checkpoints = f"--checkpoint {weights} {tmp_path / 'run/model.pt'}"
    result, output = judge(f"{clip} {checkpoints} --out {tmp_path / 'verdicts'}")
    assert "Afchar et al., 2018" in output and "newer methods mostly pass" in output
    (video,) = result["videos"]
    direct, of_checkpoint = video["people"][0]["by"]
    assert direct["score"] == of_checkpoint["score"] and 0 < direct["score"] < 1

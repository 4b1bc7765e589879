"""Stage 05: the authors' outputs, a plain loop over frames, the strategies, kill and resume."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_CLRNET, call, drop_val, rows_of, run, shared, stage
from PIL import Image
from torch.nn import functional as F

import common
from networks.clrnet import CLRNet, ConvLSTM, initialize, pad_same
from networks.weights import load_keras_weights, read_keras_weights
from running import devices, loading
from running.run import seed_of

script = stage("05_train_clrnet")
NETWORK = "--filters 4 --repetitions 1 1 --image-size 48"
FEW = "--few-shot 1 --epochs 1 --batch 2"


def clrnet(flags, fails=False):
    """Stage 05 in this process; returns what it printed."""
    return call(f"05_train_clrnet.py --device cpu --workers 0 {flags}", fails)


def weights_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)["model"]


# ---------------------------------------------------------------- the network


def without_dropout(model):
    """The model with all its dropout layers turned off."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def load_fixture(path):
    """A network with the fixture's weights, its input (N, T, 3, H, W), and the file."""
    data = np.load(path)
    config = json.loads(str(data["config"]))
    model = CLRNet(filters=config["initial_filters"], repetitions=config["repetitions"]).eval()
    names = sorted(name for name in data.files if name[0] == "w" and name[1:].isdigit())
    load_keras_weights(model, [data[name] for name in names])
    return model, torch.from_numpy(data["input"]).permute(0, 1, 4, 2, 3), data


def check_parity(path):
    """Compare probabilities, features and the output of every stage with theirs, to 1e-4."""
    model, frames, data = load_fixture(path)
    with torch.no_grad():
        theirs = data["probs"][:, ::-1]  # fake, real -> real, fake
        assert np.abs(model(frames).softmax(1).numpy() - theirs).max() < 1e-4
        assert np.abs(model.features(frames).numpy() - data["out_head_gap"]).max() < 1e-4
        outputs = []
        for blocks in model.stages:
            blocks.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        model(frames)
    for k, output in enumerate(outputs):
        ours, theirs = output.permute(0, 1, 3, 4, 2).numpy(), data[f"out_stage{k}"]
        assert np.abs(ours - theirs).max() < 1e-4, f"stage {k}"


def test_parity_with_the_authors_network():
    check_parity(Path(__file__).parent / "data" / "clrnet_a.npz")


@pytest.mark.parametrize("name", ["clrnet_b", "clrnet_d"])
def test_parity_with_all_reference_outputs(name):
    check_parity(shared("parity", f"{name}.npz"))


def test_gradients_of_the_authors_network():
    """In training mode, without dropout: the loss, and each gradient to 1e-3 of its largest."""
    model, frames, data = load_fixture(shared("parity", "clrnet_train.npz"))
    without_dropout(model.train())
    fake = torch.from_numpy(data["target"][:, 0]).long()
    loss = F.cross_entropy(model(frames), fake)
    cells = [layer for layer in model.modules() if isinstance(layer, ConvLSTM)]
    l2 = 1e-4 * sum(cell.input.weight.square().sum() for cell in cells)
    assert (loss + l2).item() == pytest.approx(float(data["total_loss"]), rel=1e-4)
    (loss + l2).backward()
    names = [str(name) for name in json.loads(str(data["trainable_names"]))]
    parameters = []
    for layer in model.layers():
        if isinstance(layer, ConvLSTM):
            parameters += [layer.input.weight, layer.recurrent.weight, layer.input.bias]
        elif isinstance(layer, torch.nn.BatchNorm2d):
            parameters += [layer.weight, layer.bias]
    parameters += [model.head.weight, model.head.bias]
    assert len(parameters) == len(names)
    for k, (parameter, name) in enumerate(zip(parameters, names)):
        if name.startswith("batch_normalization_v1_15/beta"):  # exactly zero in theory
            continue
        theirs = data[f"grad{k:03d}"]
        if k >= len(names) - 2:
            theirs = theirs[..., ::-1]  # the head: fake, real -> real, fake
        theirs = theirs.transpose(3, 2, 0, 1) if theirs.ndim == 4 else theirs.T
        difference = np.abs(parameter.grad.numpy() - theirs).max()
        assert difference <= 1e-3 * np.abs(theirs).max() + 1e-7, name


def test_full_size():
    with torch.device("meta"):
        model = CLRNet()
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    assert sum(v.numel() for v in state.values()) == 248_160_514

    def count_cells(layers):
        return sum(isinstance(layer, ConvLSTM) for layer in layers)

    assert len(model.layers()) == 207
    assert count_cells(model.layers()) == 53
    authors_cut = script.frozen_layers(model, 0.4203)  # 87 of 207 layers
    assert count_cells(authors_cut) == 23
    assert authors_cut[-1] is script.frozen_layers(model, 87 / 207)[-1]
    half = script.frozen_layers(model, 0.5)
    assert half[-1] is model.stages[2][0].norm_shortcut
    assert model.stages[2][0].c not in half


def hard_sigmoid(x):
    """Keras' own, clip(0.2 x + 0.5, 0, 1)."""
    return (0.2 * x + 0.5).clamp(0, 1)


def plain_loop(layer, x):
    """A ConvLSTM as its equations stand: one frame at a time, every convolution, zero state."""
    h = c = None
    states = []
    for t in range(x.shape[1]):
        z = layer.input(pad_same(x[:, t], layer.kernel, layer.stride))
        if h is None:
            h = c = torch.zeros(len(z), z.shape[1] // 4, *z.shape[2:], dtype=z.dtype)
        i, f, g, o = (z + layer.recurrent(h)).chunk(4, 1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * torch.tanh(g)
        h = hard_sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize("frames", [4, 1])
@pytest.mark.parametrize(
    "channels, filters, kernel, stride, size",
    [(3, 4, 7, 2, (12, 15)), (5, 2, 3, 1, (6, 5)), (4, 3, 1, 2, (7, 8)), (4, 3, 3, 2, (9, 10))],
)
def test_cell_equals_a_plain_loop(channels, filters, kernel, stride, size, frames):
    """Outputs, and the gradients of the input and of every parameter; size not a multiple too."""
    torch.manual_seed(0)
    layer = ConvLSTM(channels, filters, kernel, stride).double()
    x = torch.randn(2, frames, channels, *size, dtype=torch.double, requires_grad=True)
    plain, ours = plain_loop(layer, x), layer(x)
    assert ours.shape == (2, frames, filters, -(-size[0] // stride), -(-size[1] // stride))
    weight = torch.randn_like(plain)
    parameters = [x, *layer.parameters()]
    expected = torch.autograd.grad((plain * weight).sum(), parameters)
    found = torch.autograd.grad((ours * weight).sum(), parameters)
    assert torch.allclose(ours, plain, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(found, expected))


def test_bfloat16_goes_in_the_direction_of_float32():
    """Under autocast: logits to 0.02, gradients in float32 and in the direction of those in it."""
    torch.manual_seed(0)
    model = without_dropout(CLRNet(8, (1, 1)).train())
    initialize(model)
    x, y = torch.rand(4, 5, 3, 48, 48), torch.arange(4) % 2
    logits, gradients = {}, {}
    for precision in ("fp32", "bf16"):
        with devices.autocast(torch.device("cpu"), precision):
            logits[precision] = model(x).float()
        loss = F.cross_entropy(logits[precision], y)
        each = torch.autograd.grad(loss, list(model.parameters()))
        assert {g.dtype for g in each} == {torch.float32}
        gradients[precision] = torch.cat([g.flatten() for g in each])
    assert 0 < (logits["fp32"] - logits["bf16"]).abs().max() < 0.02
    assert F.cosine_similarity(gradients["fp32"], gradients["bf16"], dim=0) > 0.95


def test_adam_is_plain_adam_with_l2_in_the_loss():
    """The fused optimizer with L2 as weight decay, against torch's own with the L2 in the loss."""
    torch.manual_seed(0)
    model = CLRNet(2, (1,)).eval()
    initialize(model)
    other = CLRNet(2, (1,)).eval()
    other.load_state_dict(model.state_dict())
    x, y = torch.rand(2, 3, 3, 16, 16), torch.tensor([0, 1])
    ours = script.make_optimizer(model, 1e-3, 0.01)
    plain = torch.optim.Adam(other.parameters(), lr=1e-3, eps=1e-7, fused=False, foreach=False)
    for _ in range(3):
        for network, optimizer, l2 in ((model, ours, 0), (other, plain, 0.01)):
            optimizer.zero_grad()
            squares = sum(kernel.square().sum() for kernel in network.kernels())
            (F.cross_entropy(network(x), y) + l2 * squares).backward()
            optimizer.step()
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_what_others_rely_on():
    """Code that checks weights of its own imports the network and the loader from the stage.

    A checkpoint of release 2 may name its gates.
    """
    assert script.CLRNet is CLRNet and script.load_keras_weights is load_keras_weights
    assert CLRNet(2, (1,), gates="hard_sigmoid").stem
    with pytest.raises(ValueError, match="only hard_sigmoid is left"):
        CLRNet(2, (1,), gates="sigmoid")
    with pytest.raises(ValueError, match="3 arrays"):
        load_keras_weights(CLRNet(2, (1,)), [np.zeros(1)] * 3)


def test_same_padding_is_tensorflows():
    padded = pad_same(torch.ones(1, 1, 240, 240), 7, 2)
    assert padded.shape[-1] == 245
    assert padded[0, 0, 2, 2] == 1 and padded[0, 0, 1, 2] == 0
    assert pad_same(torch.ones(1, 1, 5, 4), 3, 3).shape[2:] == (6, 6)


def test_initial_values():
    torch.manual_seed(0)
    model = CLRNet(8, (1, 1))
    initialize(model)
    layer = model.stages[0][0].b
    weight = layer.input.weight.detach()
    assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.1)
    flat = layer.recurrent.weight.detach().permute(2, 3, 1, 0).reshape(-1, 32)
    assert torch.allclose(flat.T @ flat, torch.eye(32), atol=1e-5)
    assert layer.input.bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


# ---------------------------------------------------------------- the authors' published weights


def keras_arrays(model):
    """The weights of a CLRNet as Keras holds them, in Keras' order, the head's columns fake, real.

    [(layer name, [(weight name, array), ...]), ...]; ReLU, dropout and sum are layers without any.
    """
    layers = []
    for k, layer in enumerate(model.layers(), 1):
        arrays = {}
        if isinstance(layer, ConvLSTM):
            kernels = (layer.input.weight, layer.recurrent.weight)
            arrays = dict(zip(("kernel", "recurrent_kernel"), kernels))
            arrays = {name: kernel.permute(2, 3, 1, 0) for name, kernel in arrays.items()}
            arrays["bias"] = layer.input.bias
        elif isinstance(layer, torch.nn.BatchNorm2d):
            arrays = dict(gamma=layer.weight, beta=layer.bias)
            arrays |= dict(moving_mean=layer.running_mean, moving_variance=layer.running_var)
        elif isinstance(layer, torch.nn.Linear):
            arrays = dict(kernel=layer.weight.T.flip(1), bias=layer.bias.flip(0))
        weights = [(f"layer_{k}/{name}:0", a.detach().numpy()) for name, a in arrays.items()]
        layers.append((f"layer_{k}", weights))
    return layers


def write_keras(path, layers, saved="weights", pieces=None):
    """Write an HDF5 file as Keras' save_weights does, or, saved="model", as its save does.

    Lists of names that are longer than `pieces` are split into that many attributes.
    """
    h5py = pytest.importorskip("h5py")

    def write_names(group, attribute, names):
        names = np.array([n.encode() for n in names], "S") if names else np.zeros(0, "S1")
        if pieces and len(names) > pieces:
            for k, part in enumerate(np.array_split(names, pieces)):
                group.attrs[f"{attribute}{k}"] = part
        else:
            group.attrs[attribute] = names

    with h5py.File(path, "w") as file:
        root = file if saved == "weights" else file.create_group("model_weights")
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.2.4-tf"
        write_names(root, "layer_names", [name for name, _ in layers])
        for name, weights in layers:
            group = root.create_group(name)
            write_names(group, "weight_names", [weight for weight, _ in weights])
            for weight, array in weights:
                group.create_dataset(weight, data=array)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    """(file in Keras' layout, the network whose weights it holds)."""
    torch.manual_seed(5)
    model = CLRNet(4, (1, 1), image_size=48).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(-0.3, 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("keras") / "clrnet.hdf5"
    write_keras(path, keras_arrays(model))
    return path, model


def test_published_weights_there_and_back(keras_file, tmp_path):
    """Written in Keras' HDF5 layouts and as .npz, and read again: every array and the outputs."""
    path, model = keras_file
    layers = keras_arrays(model)
    write_keras(tmp_path / "saved.h5", layers, saved="model")
    write_keras(tmp_path / "pieces.hdf5", layers, pieces=3)
    arrays = [array for _, weights in layers for _, array in weights]
    numbered = {f"w{k:03d}": array for k, array in enumerate(arrays)}
    np.savez(tmp_path / "w.npz", **numbered, input=np.zeros(1))
    frames = torch.rand(2, 5, 3, 48, 48)
    for file in (path, tmp_path / "saved.h5", tmp_path / "pieces.hdf5", tmp_path / "w.npz"):
        other = CLRNet(4, (1, 1), image_size=48).eval()
        load_keras_weights(other, read_keras_weights(file))
        state = other.state_dict()
        for name, value in model.state_dict().items():
            assert "num_batches" in name or torch.equal(state[name], value), (file, name)
        with torch.no_grad():
            assert torch.equal(other(frames), model(frames))


def test_published_weights_are_scored_as_they_are_and_transferred_from(small, keras_file, tmp_path):
    path, model = keras_file
    flags = f"{NETWORK} --init {path} --test {small / 'faces/clips'}"
    clrnet(f"--strategy single --epochs 0 {flags} --out {tmp_path / 'r'} --scores {tmp_path / 's'}")
    items, _, _, _ = loading.read_clips(small / "faces/clips", "test")
    faces = loading.Faces(items, 48)
    with torch.no_grad():
        logits = [model(faces[k][None] / 255) for k in range(len(items))]
    scores = [float(row["score"]) for row in rows_of(tmp_path / "s/clips.csv")]
    assert scores == pytest.approx([x.softmax(1)[0, 1].item() for x in logits], abs=1e-5)

    flags += f" --target {small / 'faces/clips-FS'} {FEW} --scores {tmp_path / 'st'}"
    output = clrnet(f"--strategy transfer {flags} --out {tmp_path / 't'}")
    assert torch.equal(weights_of(tmp_path / "t")["stem.input.weight"], model.stem.input.weight)
    assert "transfer: 4 training samples" in output


def test_bad_weight_files_are_one_line(keras_file, tmp_path):
    h5py = pytest.importorskip("h5py")
    path, model = keras_file
    layers = keras_arrays(model)
    (tmp_path / "text.hdf5").write_text("not HDF5")
    (tmp_path / "cut.hdf5").write_bytes(path.read_bytes()[:3000])
    write_keras(tmp_path / "short.hdf5", layers[:-1])
    kernel = "layer_2/layer_2/kernel:0"
    for name in ("missing", "link"):
        write_keras(tmp_path / f"{name}.hdf5", layers)
        with h5py.File(tmp_path / f"{name}.hdf5", "a") as file:
            del file[kernel]
            if name == "link":  # a link to another file is not followed
                file[kernel] = h5py.ExternalLink(str(path), kernel)
    with h5py.File(tmp_path / "empty.hdf5", "w"):
        pass
    np.savez(tmp_path / "none.npz", a=np.zeros(1))
    flags = f"{NETWORK} --strategy single --epochs 0 --out {tmp_path / 'r'}"
    for name, message in (
        ("text.hdf5", "text.hdf5: "),
        ("cut.hdf5", "cut.hdf5: "),
        ("short.hdf5", "arrays do not fit"),
        ("missing.hdf5", "layer_2/kernel:0 is missing"),
        ("link.hdf5", "layer_2/kernel:0 is missing, or is a link"),
        ("empty.hdf5", "no weights in Keras' layout"),
        ("none.npz", "no arrays w000"),
        ("gone.hdf5", "gone.hdf5: "),
    ):
        assert message in clrnet(f"{flags} --init {tmp_path / name}", fails=True)


# ---------------------------------------------------------------- augmentation (5.1.3)


def draws(seed, n=4000):
    return torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))


def test_augmentation_is_one_draw_a_clip():
    clip = torch.rand(3, 1, 3, 24, 24).expand(3, 5, 3, 24, 24)
    out = script.augment(clip, draws(0, 3))
    assert out.shape == clip.shape and 0 <= out.min() and out.max() <= 1
    assert torch.equal(out[:, :1].expand_as(out), out)
    assert not torch.allclose(out[0], out[1])
    again = script.augment(clip, draws(0, 3))
    assert torch.equal(out, again) and not torch.equal(out, script.augment(clip, draws(1, 3)))


def test_augmentation_ranges():
    """On a flat gray clip only brightness and shift act: 0.5 * (0.7..1.3) + (-50..50) / 255, both
    ends nearly reached.
    """
    out = script.augment(torch.full((4000, 1, 3, 2, 2), 0.5), draws(0))[:, 0, :, 0, 0]
    assert torch.allclose(out.std(1), torch.zeros(4000), atol=1e-6)
    assert 0.35 - 50 / 255 <= out.min() < 0.20 and 0.80 < out.max() <= 0.65 + 50 / 255

    theirs = script.augment(torch.full((4000, 1, 3, 2, 2), 0.5), draws(0), (0.7, 1.0))
    assert theirs.max() <= 0.5 + 50 / 255 + 1e-6 < out.max()  # the authors' code never brightens


def test_augmentation_moves_by_30_degrees_and_20_percent_and_mirrors():
    size, n = 101, 600
    image = torch.zeros(n, 1, 3, size, size)
    image[..., 50 - 2 : 50 + 3, 80 - 2 : 80 + 3] = 1  # a spot 30 pixels right of the center
    out = script.augment(image, draws(3, n))[:, 0, 0]
    out = out - out.amin((1, 2), keepdim=True)
    y, x = torch.meshgrid(torch.arange(size) - 50.0, torch.arange(size) - 50.0, indexing="ij")
    total = out.sum((1, 2))
    x, y = (out * x).sum((1, 2)) / total, (out * y).sum((1, 2)) / total
    radius, angle = (x**2 + y**2).sqrt(), torch.rad2deg(torch.atan2(y, x.abs()))
    # zoom 0.8..1.2 of the view: 30 / 1.2 .. 30 / 0.8
    assert 24 <= radius.min() < 26 and 36 < radius.max() <= 38.5
    assert -31 < angle.min() < -27 and 27 < angle.max() < 31
    assert 0.4 < (x < 0).float().mean() < 0.6


# ---------------------------------------------------------------- training


def single_of(faces, out, more="", epochs=2, fails=False):
    flags = f"--strategy single --source {faces} --epochs {epochs} {NETWORK} --batch 4"
    return clrnet(f"{flags} --out {out} {more}", fails)


def transfer_of(small, checkpoint, out, more=""):
    """Transfer to one real and one fake video of clips-FS."""
    flags = f"--checkpoint {checkpoint} --target {small / 'faces/clips-FS'} {FEW}"
    return clrnet(f"--strategy transfer {flags} --out {out} {more}")


@pytest.fixture(scope="module")
def single(small, tmp_path_factory):
    """A run r and its scores s of clips and clips-FS, made in a process of its own."""
    folder = tmp_path_factory.mktemp("single")
    run(
        f"05_train_clrnet.py --strategy single --source {small / 'faces/clips'} --epochs 2 "
        f"{SMALL_CLRNET} --test {small / 'faces/clips'} {small / 'faces/clips-FS'} "
        f"--out {folder / 'r'} --scores {folder / 's'}"
    )
    return folder


@pytest.fixture
def unbalanced(small, copy):
    """A copy of clips-FS without the originals of the first person: 1 real and 2 fake videos."""
    faces = copy(small / "faces/clips-FS")
    lines = (faces / "index.csv").read_text().splitlines(keepends=True)
    (faces / "index.csv").write_text("".join(line for line in lines if "youtube_000" not in line))
    return faces


def test_single(small, single):
    checkpoint = torch.load(single / "r/model.pt", weights_only=True)
    assert checkpoint["network"] == "CLRNet"
    assert checkpoint["kwargs"] == dict(filters=4, repetitions=[1, 1], image_size=48, frames=5)
    rows = rows_of(single / "s/clips.csv")
    assert len(rows) == 4 * 2 and {r["frame"] for r in rows} == {"0", "5"}
    # The scores are P(fake) of the stored network on those clips.
    model = CLRNet(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    items, index, first, _ = loading.read_clips(small / "faces/clips", "test")
    with torch.no_grad():
        p_fake = model(loading.Faces(items, 48)[0][None] / 255).softmax(1)[0, 1].item()
    assert float(rows[0]["score"]) == pytest.approx(p_fake, abs=1e-5)
    assert rows[0]["video"] == index["video"][first[0]]


def test_l2_is_on_the_input_kernels_alone(single):
    groups = torch.load(single / "r/last.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [2e-4, 0]
    assert len(groups[0]["params"]) == 1 + 2 * 4  # stem; a, b, c and the shortcut of two blocks


def test_merge_takes_all_of_each_set_or_as_many_as_the_smallest(small, unbalanced, tmp_path):
    """5.2.2 merges all videos; --merge-balance smallest is the reading of 6.2.3. No name of a
    folder can control the terminal.
    """
    faces = unbalanced.rename(unbalanced.with_name("FS\x1b[31m"))
    flags = f"--strategy merge --source {small / 'faces/clips'} '{faces}' --epochs 1 --max-steps 1"
    for name, more, first, total in (
        ("all", "", "8 of 8", 14),
        ("smallest", "--merge-balance smallest", "6 of 8", 12),
    ):
        output = clrnet(f"{flags} {more} {NETWORK} --batch 4 --out {tmp_path / name}")
        assert f"clips: {first} training clips" in output
        assert "FS\\x1b[31m: 6 of 6 training clips" in output and "\x1b" not in output
        assert f"merge: {total} training samples" in output
    # A merged network is transferred from.
    transfer_of(small, tmp_path / "all/model.pt", tmp_path / "t")
    a, b = (weights_of(tmp_path / name) for name in ("all", "t"))
    assert torch.equal(a["stem.input.weight"], b["stem.input.weight"])
    assert not torch.equal(a["head.weight"], b["head.weight"])


def test_transfer_freezes_the_first_half(small, single, tmp_path):
    flags = f"--test {small / 'faces/clips-FS'} --scores {tmp_path / 's'}"
    transfer_of(small, single / "r/model.pt", tmp_path / "r", f"{flags} --epochs 2")
    before = weights_of(single / "r")
    content = torch.load(tmp_path / "r/model.pt", weights_only=True)
    model = CLRNet(4, (1, 1))
    parts = script.frozen_layers(model, 0.5)
    frozen = {name for name, module in model.named_modules() if any(module is p for p in parts)}
    changed = {
        key.rsplit(".", 1)[0]
        for key, value in content["model"].items()
        if not torch.equal(value, before[key])
    }
    prefixes = {name for name in frozen if "dropout" not in name}
    assert prefixes
    assert not any(f"{key}.".startswith(f"{name}.") for key in changed for name in prefixes)
    assert "head" in changed and "stages.1.0.c.input" in changed and "norm_head" in changed
    settings = json.loads((tmp_path / "r/args.json").read_text())
    assert settings["flags"]["few_shot_videos"] == content["args"]["few_shot_videos"]
    names = content["args"]["few_shot_videos"]["clips-FS"]
    assert len(names) == 2 and names[0].startswith("youtube_") and names[1].startswith("FaceSwap_")
    index = common.read_index(small / "faces/clips-FS")
    assert {s for v, s in zip(index["video"], index["split"]) if v in names} == {"train"}


def test_the_sources_own_samples(small, single, tmp_path):
    """--source adds the source's few videos to the targets', as the authors' code does."""
    flags = f"--source {small / 'faces/clips'} --freeze 0.4203"
    output = transfer_of(small, single / "r/model.pt", tmp_path / "r", flags)
    assert "transfer: 8 training samples (4 fake) of clips, clips-FS" in output


def test_a_finished_network_is_scored_without_training(small, single, tmp_path):
    flags = f"--strategy transfer --checkpoint {single / 'r/model.pt'} --epochs 0"
    flags += f" --test {small / 'faces/clips-FS'}"
    clrnet(f"{flags} --out {tmp_path / 'r'} --scores {tmp_path / 's'}")
    scores = [(folder / "s/clips-FS.csv").read_bytes() for folder in (single, tmp_path)]
    assert scores[0] == scores[1]
    clrnet(f"{flags} --test-split val --out {tmp_path / 'r'} --scores {tmp_path / 'v'}")
    index = common.read_index(small / "faces/clips-FS")
    of_split = {video for video, split in zip(index["video"], index["split"]) if split == "val"}
    assert {row["video"] for row in rows_of(tmp_path / "v/clips-FS.csv")} == of_split


def test_class_weights_of_an_unbalanced_set(unbalanced, tmp_path):
    """Each sample counts n / (2 n of its class), as Keras weighs them: the mean over the batch is
    not divided by the weights' sum. Here of one real and two fake videos, in one step over all.
    """
    flags = f"--strategy single --source {unbalanced} {NETWORK} --batch 6 --precision fp32"
    clrnet(f"{flags} --max-steps 1 --epochs 1 --out {tmp_path / 'r'}")
    (row,) = rows_of(tmp_path / "r/log.csv")
    items, _, _, y = loading.read_clips(unbalanced, "train")
    assert sorted(y) == [0, 0, 1, 1, 1, 1]
    torch.manual_seed(0)
    model = CLRNet(4, (1, 1), 48).train()
    initialize(model)
    order = np.random.default_rng((0, 0)).permutation(6)
    clips = script.augment(
        torch.stack([loading.Faces(items, 48)[k] for k in order]) / 255,
        torch.rand(6, 5, generator=torch.Generator().manual_seed(seed_of(0, 0))),
    )
    torch.manual_seed(seed_of(0, 0, 1))  # dropout's
    labels, weights = torch.from_numpy(y[order]), torch.tensor([1.5, 0.75])
    each = F.cross_entropy(model(clips), labels, reduction="none")
    loss = (weights[labels] * each).sum() / 6
    assert float(row["train_loss"]) == pytest.approx(loss.item(), abs=1e-5)


def test_other_test_sets_without_training_again(small, single, copy):
    folder, faces = copy(single), small / "faces/clips"
    before = (folder / "r/model.pt").read_bytes()
    flags = f"--test {small / 'faces/clips-FS'} --scores {folder / 's2'}"
    output = single_of(faces, folder / "r", flags)
    assert "epoch 1:" not in output and (folder / "r/model.pt").read_bytes() == before
    assert (folder / "s2/clips-FS.csv").read_bytes() == (folder / "s/clips-FS.csv").read_bytes()
    # A finished run under other flags or inputs is refused, with --allow-changes too.
    flags += " --allow-changes"
    output = single_of(faces, folder / "r", f"{flags} --lr 1e-3", fails=True)
    assert "finished result of another run (lr was 5e-05, is 0.001)" in output
    output = single_of(small / "faces/clips-FS", folder / "r", flags, fails=True)
    assert "finished result of another run" in output and "clips-FS/index.csv" in output
    assert (folder / "r/model.pt").read_bytes() == before


def test_a_folder_of_release_2_is_scored_again(small, single, copy):
    """Its args.json has flags that are gone, which were not given."""
    folder, faces = copy(single), small / "faces/clips"
    settings = json.loads((folder / "r/args.json").read_text())
    settings["flags"] |= dict(gates=None, reenactment=[], swap=[], validation=None)
    (folder / "r/args.json").write_text(json.dumps(settings))
    flags = f"--test {small / 'faces/clips-FS'} --scores {folder / 's'}"
    assert "epoch 1:" not in single_of(faces, folder / "r", flags)
    settings["flags"]["gates"] = "sigmoid"
    (folder / "r/args.json").write_text(json.dumps(settings))
    assert "gates was sigmoid" in single_of(faces, folder / "r", flags, fails=True)


# ---------------------------------------------------------------- class activation maps (Figure 8)


def test_a_picture_of_activation_maps_for_each_set(small, single, copy):
    folder, faces = copy(single), small / "faces/clips"
    flags = f"--test {faces} {small / 'faces/clips-FS'} --scores {folder / 's'} --cam 3"
    output = single_of(faces, folder / "r", flags)
    for name in ("clips", "clips-FS"):
        with Image.open(folder / f"r/cam_{name}.png") as image:
            assert image.width > image.height > 200
        assert f"cam_{name}.png, .pdf: 3 videos" in output


@pytest.mark.slow
def test_training_learns(small, copy, tmp_path):
    """Stripes on every fake frame, which survive the augmentation: the loss falls, and the unseen
    videos are told apart.
    """
    faces = copy(small / "faces/clips")
    for path in faces.glob("Deepfakes_*/*.png"):
        pixels = np.array(Image.open(path))
        pixels[::8], pixels[1::8], pixels[2::8] = 255, 255, 255
        Image.fromarray(pixels).save(path)
    single_of(faces, tmp_path / "r", "--lr 3e-3", epochs=40)
    log = rows_of(tmp_path / "r/log.csv")
    losses = [float(row["train_loss"]) for row in log]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert max(float(row["val_auc"]) for row in log) > 0.9


def test_a_loss_that_is_not_finite_stops_the_run(small, tmp_path):
    output = single_of(small / "faces/clips", tmp_path / "r", "--lr 1e30", epochs=20, fails=True)
    assert "train_loss is nan at step" in output and ", batch " in output


def test_errors(small, single, extractor, copy, tmp_path):
    clips, checkpoint = small / "faces/clips", f"--checkpoint {single / 'r/model.pt'}"
    no_val = drop_val(copy(clips))
    (tmp_path / "empty").mkdir()
    one, few = f"single --source {clips}", f"transfer --target {clips} {checkpoint}"
    for flags, says in (
        (f"single --source {tmp_path / 'none'}", "not a folder"),
        (f"single --source {tmp_path / 'empty'}", "no index.csv"),
        (f"single --source {small / 'faces/frames'}", "single frames, not clips"),
        (f"{one} {clips}", "one --source"),
        (f"merge --source {clips}", "two or more"),
        (f"merge --source {clips} {clips}", "same name"),
        (f"transfer --target {clips}", "needs --checkpoint"),
        (f"transfer --target {clips} --checkpoint {extractor}", "stage 02; one of stage 05"),
        (few, "--few-shot asks for 10"),
        (f"{few} --filters 8", "the network is the checkpoint's"),
        (f"{few} --model Xception", "holds a CLRNet: leave out --model"),
        (f"{one} --lr nan", "--lr above 0"),
        (f"{one} --cam 2", "go together"),
        (f"{one} --test {no_val} --test-split val --scores {tmp_path}", "has no val split"),
        (f"{few} --init {clips}", "give one"),
        (f"{one} --model ShallowNet --filters 2", "are for CLRNet"),
        (f"{one} --weights imagenet", "--weights is for CNN+LSTM"),
        (f"{one} --test {clips}", "go together"),
    ):
        output = clrnet(f"--strategy {flags} --out {tmp_path / 'r'}", fails=True)
        assert says in output, output

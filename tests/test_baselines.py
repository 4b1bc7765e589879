"""The five networks that the CLRNet paper compares with: sizes, samples, losses, strategies."""

import numpy as np
import pytest
import torch
from conftest import call, rows_of, same, stage

from networks.baselines import CNNLSTM, NETWORKS, DBiRNN, MesoInception4, ShallowNet
from networks.weights import load_weights
from running import loading

clrnet = stage("05_train_clrnet")
SIZES = {"CNN+LSTM": 80, "DBiRNN": 64, "ShallowNet": 64, "Xception": 80, "MesoInception4": 64}


def train(flags, fails=False):
    """Stage 05 in this process; returns what it printed."""
    return call(f"05_train_clrnet.py --device cpu --workers 0 {flags}", fails)


LARGE = pytest.param("CNN+LSTM", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [LARGE if name == "CNN+LSTM" else name for name in SIZES])
def test_a_sample_gives_two_logits_and_every_weight_a_gradient(name):
    torch.manual_seed(0)
    model = NETWORKS[name](image_size=SIZES[name]).train()
    x = torch.rand(2, model.frames, 3, SIZES[name], SIZES[name])
    logits = model(x)
    assert logits.shape == (2, 2) and model.features(x).ndim == 2
    assert model.frames == {"CNN+LSTM": 20, "DBiRNN": 5}.get(name, 1)  # 5.1.1
    assert 80 % model.frames == 0
    clrnet.weighted_loss(model, logits, torch.tensor([0, 1]), torch.ones(2)).backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []
    # Half of the layers is counted over all of them.
    assert [type(layer).__name__ for layer in model.layers() if list(layer.children())] == []
    held = {id(p) for layer in model.layers() for p in layer.parameters()}
    assert held == {id(p) for p in model.parameters()}


def count_parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_sizes_that_are_known():
    """The authors' parameters of MesoInception4 and ShallowNetV3, and the input sizes of theirs."""
    assert count_parameters(MesoInception4()) == 28_615
    shapes = [(3, 32, 5), (32, 32, 1), (32, 32, 1), (32, 64, 3), (64, 64, 1), (64, 64, 1)]
    shapes += [(64, 128, 3), (128, 32, 1)]
    convolutions = sum(a * b * k * k + b for a, b, k in shapes)
    dense = 32 * 28 * 28 * 1024 + 1024 + 2 * 1024 + 1024 + 1
    assert count_parameters(ShallowNet()) == convolutions + dense
    sizes = {name: defaults["image_size"] for name, defaults in clrnet.DEFAULTS.items()}
    expected = {"CLRNet": 240, "CNN+LSTM": 299, "DBiRNN": 224, "ShallowNet": 128, "Xception": 240}
    assert sizes == expected | {"MesoInception4": 256}
    assert clrnet.DEFAULTS["MesoInception4"]["lr"] == 1e-3 and MesoInception4.mean_squared_error


def test_mesonet_scores_are_a_sigmoid_and_its_loss_the_squared_error():
    torch.manual_seed(0)
    model = MesoInception4(64).eval()
    x = torch.rand(4, 1, 3, 64, 64)
    with torch.no_grad():
        p_fake = torch.sigmoid(model.output(model.features(x)))[:, 0]
        logits = model(x)
    assert torch.allclose(logits.softmax(1)[:, 1], p_fake, atol=1e-6)
    y = torch.tensor([0, 1, 1, 0])
    loss = clrnet.weighted_loss(model, logits, y, torch.ones(2)).item()
    assert loss == pytest.approx((p_fake - y).square().mean().item(), abs=1e-6)


def test_shallownets_l2_sigmoid_and_binary_cross_entropy():
    """As its authors train it: L2 1e-4 on eight convolutions and the dense layer, one output."""
    torch.manual_seed(0)
    model = ShallowNet(32)
    optimizer = clrnet.make_optimizer(model, 5e-5, clrnet.DEFAULTS["ShallowNet"]["l2"])
    regularized, others = optimizer.param_groups
    assert regularized["weight_decay"] == 2e-4 and others["weight_decay"] == 0
    assert len(regularized["params"]) == 8 + 1
    assert any(parameter is model.output.weight for parameter in others["params"])
    features, y = torch.randn(4, 1024), torch.tensor([0, 1, 1, 0])
    z = model.output(features)[:, 0]
    loss = clrnet.weighted_loss(model, model.head(features), y, torch.ones(2))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(z, y.float())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_shallownet_has_no_padding():
    layers = [layer for layer in ShallowNet(128).modules() if isinstance(layer, torch.nn.Conv2d)]
    assert layers and all(layer.padding == (0, 0) for layer in layers)
    with pytest.raises(ValueError, match="too small"):
        ShallowNet(8)


def test_cnn_lstm_sees_the_order_of_the_frames_and_dbirnn_both_ends():
    torch.manual_seed(0)
    for network, size in ((CNNLSTM, 80), (DBiRNN, 64)):
        model = network(size, frames=4).eval()
        x = torch.rand(1, 4, 3, size, size)
        with torch.no_grad():
            assert not torch.allclose(model.features(x), model.features(x.flip(1)), atol=1e-6)


def test_single_frames_and_longer_samples_come_from_clips(small):
    """16 clips of 5 frames are 80 single frames; they give no sample of 20, and the error helps."""
    items, index, first, y = loading.read_clips(small / "faces/clips", "test", 1)
    clips, *_ = loading.read_clips(small / "faces/clips", "test", 5)
    assert len(items) == 5 * len(clips) == 5 * 8
    assert [path for clip in clips for path in clip] == [item[0] for item in items]
    assert [index["frame"][row] for row in first[:6]] == [0, 1, 2, 3, 4, 5]
    assert (y == index["label"][first]).all()
    with pytest.raises(SystemExit, match="--clip-length 20 --num-clips 4"):
        loading.read_clips(small / "faces/clips", "test", 20)


def test_single_and_transfer_of_mesonet(small, tmp_path):
    """One row per frame; transfer freezes the first half of the layers, statistics included."""
    faces = small / "faces/clips"
    flags = f"--strategy single --source {faces} --epochs 1 --model MesoInception4 --image-size 64"
    outputs = f"--out {tmp_path / 'm'} --scores {tmp_path / 's'}"
    train(f"{flags} --test {faces} --batch 8 {outputs}")
    rows = rows_of(tmp_path / "s/clips.csv")
    assert len(rows) == 8 * 5 and {r["frame"] for r in rows} == {str(k) for k in range(10)}
    checkpoint = torch.load(tmp_path / "m/model.pt", weights_only=True)
    assert checkpoint["network"] == "MesoInception4"
    assert checkpoint["kwargs"] == dict(image_size=64, frames=1)
    model = NETWORKS[checkpoint["network"]](**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    items, *_ = loading.read_clips(faces, "test", 1)
    with torch.no_grad():
        logits = model(loading.Faces(items, 64)[7][None, None] / 255)
    assert float(rows[7]["score"]) == pytest.approx(logits.softmax(1)[0, 1].item(), abs=1e-5)

    transfer = f"--strategy transfer --checkpoint {tmp_path / 'm/model.pt'} --epochs 1 --batch 8"
    transfer += f" --target {small / 'faces/clips-FS'} --few-shot 1 --out {tmp_path / 't'}"
    train(transfer)
    after = torch.load(tmp_path / "t/model.pt", weights_only=True)["model"]
    layers = {id(layer) for layer in clrnet.frozen_layers(model, 0.5)}
    frozen = {name for name, module in model.named_modules() if id(module) in layers}
    same = {k for k, v in after.items() if torch.equal(v, checkpoint["model"][k])}
    fixed = {k for k in after if k.rsplit(".", 1)[0] in frozen}
    assert fixed and fixed <= same
    assert {"output.weight", "dense.1.weight"}.isdisjoint(same)

    # A finished transfer of a version that froze fewer layers can be scored again.
    last = torch.load(tmp_path / "t/last.pt", weights_only=True)
    last["optimizer"]["param_groups"][0]["params"].append(99)
    torch.save(last, tmp_path / "t/last.pt")
    assert "done" in train(transfer)


def names_of_frozen(model, share):
    """The names of the layers with weights that are frozen."""
    frozen = clrnet.frozen_layers(model, share)
    names = [name for name, layer in model.named_modules() if any(layer is one for one in frozen)]
    return [name for name in names if list(model.get_submodule(name).parameters())]


@pytest.mark.parametrize("name", ["MesoInception4", LARGE])
def test_an_inception_block_is_frozen_whole_or_not_at_all(name):
    model = NETWORKS[name](image_size=SIZES[name])
    blocks = [m for m in model.modules() if type(m).__name__.startswith("Inception")]
    blocks = [m for m in blocks if type(m).__name__ != "Inception3"]  # the whole of InceptionV3
    assert len(blocks) == {"MesoInception4": 2, "CNN+LSTM": 11}[name]
    for share in (0.1, 0.3, 0.45, 0.5, 0.62, 0.9):
        frozen = {id(layer) for layer in clrnet.frozen_layers(model, share)}
        for block in blocks:
            parts = [id(m) in frozen for m in block.modules() if not list(m.children())]
            assert all(parts) or not any(parts), share
    if name == "MesoInception4":  # half of 46 layers is inside the second block, layers 17 to 30
        names = names_of_frozen(model, 0.5)
        assert {n.split(".")[1] for n in names} == {"0", "1", "3"} and len(names) == 7 + 1 + 7
        assert len(clrnet.frozen_layers(model, 16 / 46)) == 16  # a cut between blocks stays there


def test_layers_are_counted_in_the_order_in_which_they_act():
    """Xception's shortcuts are built first and act last; its shared ReLU counts each time."""
    model = NETWORKS["Xception"](image_size=80).train()
    name_of = {layer: name for name, layer in model.named_modules()}
    names = [name_of[layer] for layer in model.layers()]
    block = [n.split("block2.")[1] for n in names if ".block2." in n]
    expected = "rep.0 rep.1.conv1 rep.1.pointwise rep.2 relu rep.4.conv1 rep.4.pointwise rep.5"
    assert block == f"{expected} rep.6 skip skipbn".split()
    assert names[:3] == [f"cnn.backbone.{n}" for n in ("conv1", "bn1", "relu")]
    assert names.count("cnn.backbone.relu") == 3 and names[-1] == "head"
    assert model.training and all(not layer._forward_hooks for layer in model.modules())
    frozen = names_of_frozen(model, 0.5)
    assert frozen[-1] == "cnn.backbone.block7.rep.1.conv1" and len(frozen) == 56


SHALLOW = "--model ShallowNet --strategy single --batch 8 --epochs 1 --max-steps 1 --image-size 32"


def test_without_augmentation(small, tmp_path):
    """--no-augment: a brightness of 0, which would make all images black, has no effect."""
    weights = []
    for k, flags in enumerate(("--no-augment", "--no-augment --brightness 0 0", "")):
        train(f"{SHALLOW} {flags} --source {small / 'faces/clips'} --out {tmp_path / str(k)}")
        weights.append(dict(torch.load(tmp_path / f"{k}/model.pt", weights_only=True)["model"]))
    plain, black, augmented = weights
    assert same(plain, black) and not same(plain, augmented)


def test_weights_to_start_from(small, tmp_path):
    """--weights takes a file of the CNN's own weights, InceptionV3's second classifier aside."""
    import pretrainedmodels

    torch.manual_seed(1)
    source = pretrainedmodels.__dict__["inceptionv3"](num_classes=1000, pretrained=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = CNNLSTM(80)
    load_weights(model.cnn, model.arch, tmp_path / "w.pth")
    state = model.cnn.backbone.state_dict()
    assert len(state) > 500
    for name, value in source.state_dict().items():
        assert name not in state or torch.equal(value, state[name]), name
    flags = f"--model Xception --weights {tmp_path / 'w.pth'} --image-size 80 --strategy single"
    output = train(f"{flags} --source {small / 'faces/clips'} --out {tmp_path / 'r'}", fails=True)
    assert "does not fit" in output


def test_features_of_a_baseline(small, tmp_path):
    """And a size that it cannot take."""
    line = f"{SHALLOW} --source {small / 'faces/clips'} --out {tmp_path / 'r'}"
    assert "ShallowNet: images of 8 pixels are too small" in train(f"{line} --image-size 8", True)
    train(f"{line} --save-features {tmp_path / 'f'}")
    assert np.load(tmp_path / "f/clips/features.npy").shape == (24 * 5, 1024)

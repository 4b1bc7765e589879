"""The five networks that the CLRNet paper compares with: sizes, samples, losses, every strategy."""

import csv

import numpy as np
import pytest
import torch
from conftest import run, stage

from networks import baselines
from training import loading

clrnet = stage("05_train_clrnet")
SIZES = {"CNN+LSTM": 80, "DBiRNN": 64, "ShallowNet": 64, "Xception": 80, "MesoInception4": 64}


@pytest.mark.parametrize("name", SIZES)
def test_a_sample_gives_two_logits_and_every_weight_a_gradient(name):
    torch.manual_seed(0)
    model = baselines.BASELINES[name](image_size=SIZES[name])
    model.train()
    x = torch.rand(2, model.frames, 3, SIZES[name], SIZES[name])
    logits = model(x)
    assert logits.shape == (2, 2) and model.features(x).ndim == 2
    assert (
        model.frames == {"CNN+LSTM": 20, "DBiRNN": 5}.get(name, 1) and 80 % model.frames == 0
    )  # 5.1.1
    clrnet.weighted_loss(model, logits, torch.tensor([0, 1]), torch.ones(2)).backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []
    assert [type(layer).__name__ for layer in model.layers() if list(layer.children())] == []
    held = {id(p) for layer in model.layers() for p in layer.parameters()}
    assert held == {id(p) for p in model.parameters()}, (
        "half of the layers is counted over all of them"
    )


def test_sizes_that_are_known():
    """MesoInception4 has the authors' 28,615 parameters; ShallowNetV3's follow from its layers; the input sizes are those of the authors' runs."""

    def count(model):
        return sum(p.numel() for p in model.parameters())

    assert count(baselines.MesoInception4()) == 28_615
    convolutions = sum(
        a * b * k * k + b
        for a, b, k in (
            (3, 32, 5),
            (32, 32, 1),
            (32, 32, 1),
            (32, 64, 3),
            (64, 64, 1),
            (64, 64, 1),
            (64, 128, 3),
            (128, 32, 1),
        )
    )
    assert (
        count(baselines.ShallowNet())
        == convolutions + 32 * 28 * 28 * 1024 + 1024 + 2 * 1024 + 1024 * 2 + 2
    )
    assert [network.defaults["image_size"] for network in baselines.BASELINES.values()] == [
        299,
        224,
        128,
        240,
        256,
    ]
    assert (
        baselines.MesoInception4.defaults["lr"] == 1e-3
        and baselines.MesoInception4.mean_squared_error
    )


def test_mesonet_scores_are_a_sigmoid_and_its_loss_the_squared_error():
    torch.manual_seed(0)
    model = baselines.MesoInception4(64).eval()
    x = torch.rand(4, 1, 3, 64, 64)
    with torch.no_grad():
        p_fake = torch.sigmoid(model.output(model.features(x)))[:, 0]
        logits = model(x)
    assert torch.allclose(logits.softmax(1)[:, 1], p_fake, atol=1e-6)
    y = torch.tensor([0, 1, 1, 0])
    assert clrnet.weighted_loss(model, logits, y, torch.ones(2)).item() == pytest.approx(
        (p_fake - y).square().mean().item(), abs=1e-6
    )


def test_shallownet_has_no_padding():
    model = baselines.ShallowNet(128)
    assert all(
        layer.padding == (0, 0) for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)
    )
    with pytest.raises(ValueError, match="too small"):
        baselines.ShallowNet(8)


def test_cnn_lstm_sees_the_order_of_the_frames_and_dbirnn_both_ends():
    torch.manual_seed(0)
    for network, size in ((baselines.CNNLSTM, 80), (baselines.DBiRNN, 64)):
        model = network(size, frames=4).eval()
        x = torch.rand(1, 4, 3, size, size)
        with torch.no_grad():
            assert not torch.allclose(model.features(x), model.features(x.flip(1)), atol=1e-6)


def test_single_frames_and_longer_samples_come_from_clips(small):
    """16 clips of 5 frames are 80 single frames; clips of 5 are no sample of 20, and the message says what to extract."""
    items, index, first, y = loading.read_clips(small / "faces/clips", "test", 1)
    clips, *_ = loading.read_clips(small / "faces/clips", "test", 5)
    assert len(items) == 5 * len(clips) == 5 * 8 and [p for clip in clips for p in clip] == [
        item[0] for item in items
    ]
    assert [index["frame"][r] for r in first[:6]] == [0, 1, 2, 3, 4, 5] and (
        y == index["label"][first]
    ).all()
    with pytest.raises(SystemExit, match="--clip-length 20 --num-clips 4"):
        loading.read_clips(small / "faces/clips", "test", 20)


def test_single_and_transfer_of_mesonet(small, tmp_path):
    """Rows a frame; transfer freezes the first half of the layers with their batch statistics."""
    common_ = ("--device", "cpu", "--batch", 8)
    run(
        "05_train_clrnet.py",
        "--model",
        "MesoInception4",
        "--image-size",
        64,
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--epochs",
        2,
        *common_,
        "--test",
        small / "faces/clips",
        "--out",
        tmp_path / "m",
        "--scores",
        tmp_path / "s",
    )
    rows = list(csv.DictReader(open(tmp_path / "s/clips.csv")))
    assert len(rows) == 8 * 5 and {r["frame"] for r in rows} == {str(k) for k in range(10)}
    checkpoint = torch.load(tmp_path / "m/model.pt", weights_only=True)
    assert checkpoint["network"] == "MesoInception4" and checkpoint["kwargs"] == dict(
        image_size=64, frames=1
    )
    model = clrnet.build(checkpoint["network"], checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    items, *_ = loading.read_clips(small / "faces/clips", "test", 1)
    with torch.no_grad():
        p_fake = model(loading.Faces(items, 64)[7][None, None] / 255).softmax(1)[0, 1].item()
    assert float(rows[7]["score"]) == pytest.approx(p_fake, abs=1e-5)

    run(
        "05_train_clrnet.py",
        "--strategy",
        "transfer",
        "--checkpoint",
        tmp_path / "m/model.pt",
        "--target",
        small / "faces/clips-FS",
        "--few-shot",
        1,
        "--epochs",
        3,
        *common_,
        "--out",
        tmp_path / "t",
    )
    after = torch.load(tmp_path / "t/model.pt", weights_only=True)["model"]
    frozen = {
        name
        for name, module in model.named_modules()
        if any(module is part for part in clrnet.frozen_layers(model, 0.5))
    }
    same = {k for k, v in after.items() if torch.equal(v, checkpoint["model"][k])}
    fixed = {k for k in after if k.rsplit(".", 1)[0] in frozen}
    assert fixed and fixed <= same and {"output.weight", "dense.1.weight"}.isdisjoint(same)


def test_weights_to_start_from(small, tmp_path):
    """--weights takes a file of the CNN's own weights, InceptionV3's second classifier aside."""
    import pretrainedmodels

    torch.manual_seed(1)
    source = pretrainedmodels.__dict__["inceptionv3"](num_classes=1000, pretrained=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = baselines.CNNLSTM(80)
    stage("02_pretrain_extractor").load_weights(model.cnn, model.arch, tmp_path / "w.pth")
    state = model.cnn.backbone.state_dict()
    assert (
        all(torch.equal(v, state[k]) for k, v in source.state_dict().items() if k in state)
        and len(state) > 500
    )
    assert "does not fit" in run(
        "05_train_clrnet.py",
        "--model",
        "Xception",
        "--weights",
        tmp_path / "w.pth",
        "--image-size",
        80,
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--device",
        "cpu",
        "--out",
        tmp_path / "r",
        fails=True,
    )


def test_a_size_that_a_network_cannot_take(small, tmp_path):
    output = run(
        "05_train_clrnet.py",
        "--model",
        "ShallowNet",
        "--image-size",
        8,
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--device",
        "cpu",
        "--out",
        tmp_path / "r",
        fails=True,
    )
    assert "ShallowNet: images of 8 pixels are too small" in output


def test_features_of_a_baseline(small, tmp_path):
    run(
        "05_train_clrnet.py",
        "--model",
        "ShallowNet",
        "--image-size",
        64,
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--epochs",
        1,
        "--max-steps",
        1,
        "--batch",
        8,
        "--device",
        "cpu",
        "--out",
        tmp_path / "r",
        "--save-features",
        tmp_path / "f",
    )
    assert np.load(tmp_path / "f/clips/features.npy").shape == (24 * 5, 1024)

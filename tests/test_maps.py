"""Activation maps: exact where they can be, highest where the evidence is, drawn by 03, 05, 07."""

import numpy as np
import pytest
import torch
from conftest import call, stage
from PIL import Image
from torch import nn

from networks.baselines import NETWORKS
from networks.clrnet import CLRNet
from networks.extractor import Extractor, full_size_maps, gradient_maps
from reporting import figures
from running.loading import Clips, Faces

bpdann = stage("04_train_bpdann")


def difference(logits):
    return logits[:, 1] - logits[:, 0]


# ---------------------------------------------------------------- what a map is


def test_a_map_of_known_numbers():
    """The logit is the squared mean of the first channel: its gradient is twice the mean / 4."""
    maps = torch.arange(8.0).view(1, 2, 2, 2)

    def classify(maps):
        squared = maps[:, 0].mean((1, 2)) ** 2
        return torch.stack([torch.zeros_like(squared), squared], 1)

    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            found = gradient_maps(maps.clone(), classify)
        assert not found.requires_grad
        assert torch.allclose(found, 3 * maps[:, 0]), "4 places * (2 * 1.5 / 4) * the map"


def assert_exact(maps, logits, head):
    """The mean of a map is the difference of the logits without that of the biases."""
    bias = head.bias[1] - head.bias[0]
    means = maps.flatten(1).mean(1)
    assert torch.allclose(means + bias, difference(logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "squeezenet1_1"])
def test_exact_maps_of_an_extractor(arch):
    torch.manual_seed(0)
    model = Extractor(arch, 64).eval()
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        maps, logits = model.activation_maps(images), model(images)
    assert maps.ndim == 3 and len(maps) == 2 and maps[0].numel() > 1
    assert_exact(maps, logits, model.head)
    assert all(p.grad is None for p in model.parameters())


@torch.no_grad()
def test_exact_maps_of_xception_and_clrnet():
    torch.manual_seed(0)
    model = NETWORKS["Xception"](80).eval()
    x = torch.rand(2, 1, 3, 80, 80)
    assert_exact(model.activation_maps(x), model(x), model.head)
    model = CLRNet(3, (1, 1)).eval()
    x = torch.rand(2, 5, 3, 64, 64)
    maps = model.activation_maps(x)
    assert maps.shape[:2] == (2, 5)
    assert_exact(maps, model(x), model.head)
    # Another head takes the place of its own.
    head = nn.Linear(model.head.in_features, 2)
    assert_exact(model.activation_maps(x, head), head(model.features(x)), head)
    # Zhou et al.: the head's weight of fake minus that of real, times the maps, place by place.
    weight = model.head.weight[1] - model.head.weight[0]
    expected = torch.einsum("ntdhw,d->nthw", model.feature_maps(x), weight)
    assert torch.allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_maps_at_the_size_of_the_frames():
    clips = torch.rand(3, 2, 3, 32, 32)
    maps = full_size_maps(lambda clip: clip[:, :, 0, ::16, ::16], clips)
    assert maps.shape == (3, 2, 32, 32) and maps.dtype == np.float32
    assert maps[2, 1, 0, 0] == clips[2, 1, 0, 0, 0].item()
    assert maps[2, 1, -1, 0] == clips[2, 1, 0, 16, 0].item()


# ---------------------------------------------------------------- a planted patch

# Network: side in pixels, frames, training steps, clips of each class. Of those whose maps are
# exact, as tested above, there is CLRNet alone.
PLANTED = {
    "CLRNet": (48, 3, 100, 8),
    "ShallowNet": (40, 1, 40, 16),
    "MesoInception4": (96, 1, 80, 8),
    "CNN+LSTM": (96, 3, 60, 16),
    "DBiRNN": (64, 3, 60, 16),
    "alexnet": (224, 1, 30, 16),
    "BP-DANN": (96, 1, 60, 24),
}


def planted(count, frames, size, generator, fake):
    """Clips of gray noise in 0..1, with a checkered square in a frame of fakes, and the squares."""
    clips = 0.5 + 0.08 * torch.randn(count, frames, 3, size, size, generator=generator)
    side, places = size * 3 // 8, []
    for clip in clips:
        frame = torch.randint(frames, (), generator=generator).item()
        y, x = torch.randint(size - side + 1, (2,), generator=generator).tolist()
        if fake:
            board = torch.arange(side) // 4
            clip[frame, :, y : y + side, x : x + side] = ((board[:, None] + board) % 2).float()
        places.append((frame, y, x))
    return clips.clamp(0, 1), places, side


def build(name, size):
    """A network as (module, feature maps of clips, what follows them, activation maps of clips)."""
    if name in NETWORKS:
        kwargs = dict(filters=8, repetitions=(1, 1)) if name == "CLRNet" else {}
        net = NETWORKS[name](image_size=size, **kwargs)
        if name == "CNN+LSTM":
            # What InceptionV3 makes of a place, with random weights, depends on all others.
            net.cnn = Extractor("densenet121", size)
            net.lstm, net.dense = nn.LSTM(1024, 32, batch_first=True), nn.Linear(32, 512)
        pool = net.combine if hasattr(net, "combine") else lambda maps: maps.mean((1, 3, 4))
        return net, net.feature_maps, lambda maps: net.head(pool(maps)), net.activation_maps
    if name == "BP-DANN":
        net = nn.ModuleList([Extractor("resnet18", size), bpdann.BPDANN(512)])
        cnn, head = net
        maps = lambda images: cnn.activation_maps(images, head)  # noqa: E731
    else:
        net = cnn = Extractor(name, size)
        head, maps = net.head, net.activation_maps
    pool = lambda maps: maps.mean((2, 3)) if maps.ndim == 4 else maps  # noqa: E731
    frames = lambda clips: 255 * clips[:, 0]  # noqa: E731
    feature_maps = lambda clips: cnn.feature_maps(frames(clips))  # noqa: E731
    of_clips = lambda clips: maps(frames(clips))[:, None]  # noqa: E731
    return net, feature_maps, lambda maps: head(pool(maps)), of_clips


# One network of each kind is quick: exact maps, gradient-weighted ones, and BP-DANN's.
QUICK = ("CLRNet", "DBiRNN", "BP-DANN")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow][name in QUICK :]) for name in PLANTED]
)
def test_a_planted_patch_is_where_the_map_is_highest(name):
    """A network that learnt to tell clips with a square from those without one points at it.

    Large networks keep their random convolutions, and learn what follows them.
    """
    size, frames, steps, count = PLANTED[name]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net, feature_maps, follow, activation_maps = build(name, size)
    draw = lambda n: torch.cat(  # noqa: E731
        [planted(n, frames, size, generator, fake)[0] for fake in (False, True)]
    )
    learns_all = name in ("CLRNet", "ShallowNet", "MesoInception4")
    labels = torch.arange(2).repeat_interleave(count)
    net.train()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Few steps; the statistics of large networks become those of one batch.
            layer.momentum = 0.1 if learns_all else 1.0
    if not learns_all:
        with torch.no_grad():
            feature_maps(draw(6))
            net.eval()
            maps = torch.cat([feature_maps(part) for part in draw(count).split(8)])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3 if name == "ShallowNet" else 3e-3)
    for _ in range(steps):
        if learns_all:
            maps = feature_maps(draw(count))
        loss = nn.functional.cross_entropy(follow(maps), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    clips, places, side = planted(16, frames, size, generator, True)
    with torch.no_grad():
        is_fake = difference(follow(feature_maps(clips))) > 0
        maps = activation_maps(clips)
    assert maps.shape[:2] == (16, frames) and not maps.requires_grad
    # An LSTM that has learnt from few clips weights frames by their order: CNN+LSTM's maps compare
    # places within a frame.
    one_frame = name == "CNN+LSTM"
    hits = []
    for clip, (frame, top, left) in zip(maps, places):
        if one_frame:
            clip, frame = clip[frame : frame + 1], 0
        t, row, column = np.unravel_index(clip.argmax().item(), clip.shape)
        height, width = size / clip.shape[1], size / clip.shape[2]
        in_rows = row * height < top + side and top < (row + 1) * height
        in_columns = column * width < left + side and left < (column + 1) * width
        hits.append(t == frame and in_rows and in_columns)
    hits = np.array(hits)[is_fake.numpy()]
    assert len(hits) >= 8 and hits.mean() >= (0.75 if one_frame else 0.9)


# ---------------------------------------------------------------- pictures


def made_up_clips(folder, lengths, labels):
    """Clips of videos v0, v1 ... of as many samples, of 20 frames each, whose gray levels count."""
    count = sum(lengths)
    paths = [str(folder / f"{level}.png") for level in range(20 * count)]
    for level, path in enumerate(paths):
        Image.new("RGB", (8, 8), (level, level, level)).save(path)
    items = [tuple(paths[20 * k : 20 * k + 20]) for k in range(count)]
    videos = np.repeat([f"v{k}" for k in range(len(lengths))], lengths).tolist()
    return Clips(items, dict(video=videos), np.arange(count), np.repeat(labels, lengths))


def test_half_of_the_videos_are_real_where_possible(tmp_path):
    clips = made_up_clips(tmp_path, [3, 1, 1, 1], [0, 0, 1, 0])
    for count, reals in ((1, 0), (2, 1), (3, 2), (4, 3), (9, 3)):
        chosen = figures.choose_samples(clips, count, 0)
        assert len(set(chosen)) == len(chosen) == min(count, 4)
        assert sum(clips.labels[chosen] == 0) == reals
    assert figures.choose_samples(clips, 4, 0) != figures.choose_samples(clips, 4, 1)
    assert 1 in figures.choose_samples(clips, 4, 0), (
        "the middle one of the first video's three samples"
    )


def test_a_picture_shows_the_frames_its_maps_and_scores(tmp_path, monkeypatch):
    clips = made_up_clips(tmp_path, [1, 1, 1], [0, 1, 1])
    drawn = []
    monkeypatch.setattr(figures, "draw_activation_maps", lambda *args: drawn.append(args))
    faces, corner = Faces(clips.items, 16), lambda clip: clip[:, :, 0, :2, :2]
    rest = (clips, [-2.0, 0.0, 2.0], faces, corner, 3, 0, torch.device("cpu"))
    figures.draw_maps(tmp_path / "cam", "set", *rest)
    ((path, title, captions, frames, maps),) = drawn
    assert path == tmp_path / "cam" and "set" in title
    assert captions[0] == "v0: real, P(fake) 0.119"
    assert set(captions[1:]) == {"v1: fake, P(fake) 0.500", "v2: fake, P(fake) 0.881"}
    assert frames.shape == (3, 5, 16, 16, 3) and maps.shape == (3, 5, 16, 16)
    # Five of the 20 frames.
    assert np.allclose(255 * frames[0, :, 0, 0, 0], [0, 5, 10, 14, 19])
    assert np.allclose(maps, frames[..., 0])


def test_stage_05_draws_maps_of_a_baseline(small, tmp_path):
    flags = "--model MesoInception4 --image-size 64 --epochs 0 --strategy single --cam 4"
    flags += f" --test {small / 'faces/clips'} --scores {tmp_path / 's'} --out {tmp_path / 'r'}"
    output = call(f"05_train_clrnet.py --device cpu --workers 0 {flags}")
    assert "cam_clips.png, .pdf: 4 videos" in output
    with Image.open(tmp_path / "r/cam_clips.png") as image:
        assert image.width > image.height > 300


def test_stage_03_draws_maps_beside_its_scores(small, extractor, tmp_path):
    flags = f"--checkpoint {extractor} --faces {small / 'faces/phone'} --device cpu --workers 0"
    command = f"03_extract_features.py {flags} --out {tmp_path / 'f'}"
    error = call(f"{command} --cam 3", fails=True)
    assert "--cam must be 1 or more, and goes together with --scores" in error
    call(f"{command} --scores {tmp_path / 's'}")
    without = (tmp_path / "s/phone.csv").read_bytes()
    output = call(f"{command} --scores {tmp_path / 's'} --cam 3")
    assert "cam_phone.png, .pdf: 3 videos" in output
    assert (tmp_path / "s/cam_phone.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "s/phone.csv").read_bytes() == without

"""Pictures of activation maps, for --cam of stages 03 and 05."""

import numpy as np

from common import sigmoid
from networks.maps import full_size_maps
from reporting.figures import draw_activation_maps
from running.loading import as_clips, load_batches

# Frames of a sample that are shown.
MAX_FRAMES = 5


def draw_maps(path, name, clips, logits, faces, maps, count, seed, device):
    """Draw activation maps of `count` videos of the set `name`, half of them real where possible.

    clips, faces: the set's samples as `running.loading.Clips` and as `Faces`; logits: of fake
    minus real of each sample; maps: a function of clips (1, T, 3, S, S) in 0..1 that returns maps
    (1, T, h, w). The videos are drawn by seed, and of each the sample in its middle is taken.
    Writes path.png and path.pdf.
    """
    chosen = choose_samples(clips, count, seed)
    (images,) = load_batches(faces, [chosen], workers=0)
    images = as_clips(images)
    length = images.shape[1]
    shown = np.linspace(0, length - 1, min(length, MAX_FRAMES)).round().astype(int)
    heat = full_size_maps(maps, images.to(device))[:, shown]
    captions = []
    for k, p_fake in zip(chosen, sigmoid(np.asarray(logits)[chosen])):
        kind = ("real", "fake")[clips.labels[k]]
        # Three samples of one frame stand in a row, with room for so many characters.
        video = clips.index["video"][clips.first[k]][-24 if length == 1 else -90 :]
        captions.append(f"{video}: {kind}, P(fake) {p_fake:.3f}")
    title = f"Activation maps, {name}"
    draw_activation_maps(path, title, captions, images[:, shown].movedim(2, -1).numpy(), heat)
    print(f"{path}.png, .pdf: {len(chosen)} videos", flush=True)


def choose_samples(clips, count, seed):
    """Numbers of the samples of `count` videos: reals, then fakes; more of one if few are there."""
    samples = {}
    for k, row in enumerate(clips.first):
        samples.setdefault(clips.index["video"][row], []).append(k)
    drawn = []
    for label in (0, 1):
        videos = sorted(v for v in samples if clips.labels[samples[v][0]] == label)
        drawn.append(np.random.default_rng((seed, label)).permutation(videos).tolist())
    real, fake = drawn
    reals = min(len(real), max(count // 2, count - len(fake)))
    videos = real[:reals] + fake[: count - reals]
    return [samples[video][len(samples[video]) // 2] for video in videos]

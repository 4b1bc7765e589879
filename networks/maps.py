"""Activation maps: evidence for fake (above 0) or real (below 0) at each place of an image.

Every network has `activation_maps(x, head=None)`: clips (N, T, 3, S, S) -> maps (N, T, h, w), or
images (N, 3, S, S) -> maps (N, h, w), with h and w of the network's last feature maps. `head` takes
the place of its last layer: a network of stage 04 is that of its extractor, so that
`extractor.activation_maps(x, bpdann)` are BP-DANN's maps.
"""

import numpy as np
import torch
from torch.nn import functional as F

from common import sigmoid
from reporting.figures import draw_activation_maps
from running.loading import as_clips, load_batches

# Frames of a sample that are shown.
MAX_FRAMES = 5


def gradient_maps(maps, classify):
    """Gradient-weighted class activation maps (Grad-CAM, Selvaraju et al., ICCV 2017), with signs.

    Each channel of the feature maps is weighted by the mean, over the places of its frame, of the
    gradient of the logit of fake minus that of real. Grad-CAM's last ReLU is left out, so that
    evidence for real stays visible.

    Where pooling and a linear layer follow (stage 02, CLRNet, Xception), these are the exact class
    activation maps of Zhou et al. (CVPR 2016): maps are multiplied by the number of places, so that
    their mean plus the difference of the biases is the difference of the logits. Where pooling and
    other layers follow (BP-DANN, DANN, CNN+LSTM, DBiRNN), the mean is the first order of that
    difference. Where no pooling follows (MesoInception4, ShallowNet, alexnet, vgg), maps only rank.
    CNN+LSTM's compare places within a frame; between frames its recurrent layer can mislead them.

    Args:
        maps: feature maps (N, D, h, w) or (N, T, D, h, w), with or without a graph.
        classify: the rest of the network, a function of them that returns (N, 2) logits.

    Returns (N, h, w) or (N, T, h, w), without a graph.
    """
    # cuDNN computes no gradient of a recurrent layer in evaluation mode.
    without_cudnn = torch.backends.cudnn.flags(enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), without_cudnn:
        maps = maps.detach().clone().requires_grad_()
        logits = classify(maps)
        (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), maps)
    places = maps[0].numel() // maps.shape[-3]
    weights = gradient.mean((-2, -1), keepdim=True)
    return places * (weights * maps.detach()).sum(-3)


@torch.no_grad()
def full_size_maps(function, clips):
    """A function's maps of each of the clips, one by one, at the size of their frames.

    (N, T, 3, S, S) on its device -> (N, T, S, S) float32 array.
    """
    maps = torch.cat([function(clip[None]) for clip in clips]).float()
    size = clips.shape[-2:]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False).cpu().numpy()


# ---------------------------------------------------------------- pictures


def draw_maps(path, name, clips, logits, faces, maps, count, seed, device):
    """Draw activation maps of `count` videos of the set `name`, half of them real where possible.

    clips, faces: the set's samples as `running.loading.Clips` and as `Faces`; logits: of fake
    minus real of each sample; maps: a function of clips (1, T, 3, S, S) in 0..1 that returns maps
    (1, T, h, w). The videos are drawn by seed, and of each the sample in its middle is taken.
    Writes path.png and path.pdf.
    """
    samples = choose_samples(clips, count, seed)
    (images,) = load_batches(faces, [samples], workers=0)
    images = as_clips(images)
    length = images.shape[1]
    shown = np.linspace(0, length - 1, min(length, MAX_FRAMES)).round().astype(int)
    heat = full_size_maps(maps, images.to(device))[:, shown]
    captions = []
    for k, p_fake in zip(samples, sigmoid(np.asarray(logits)[samples])):
        kind = ("real", "fake")[clips.labels[k]]
        # Maximum number of characters in a caption: three samples of one frame share a row.
        video = clips.index["video"][clips.first[k]][-24 if length == 1 else -90 :]
        captions.append(f"{video}: {kind}, P(fake) {p_fake:.3f}")
    frames = images[:, shown].movedim(2, -1).numpy()
    draw_activation_maps(path, f"Activation maps, {name}", captions, frames, heat)
    print(f"{path}.png, .pdf: {len(samples)} videos", flush=True)


def choose_samples(clips, count, seed):
    """Numbers of the samples of `count` videos: reals, then fakes; more of one if few are there."""
    samples = {}
    for k, row in enumerate(clips.first):
        samples.setdefault(clips.index["video"][row], []).append(k)
    by_label = []
    for label in (0, 1):
        videos = sorted(v for v in samples if clips.labels[samples[v][0]] == label)
        by_label.append(np.random.default_rng((seed, label)).permutation(videos).tolist())
    real, fake = by_label
    reals = min(len(real), max(count // 2, count - len(fake)))
    videos = real[:reals] + fake[: count - reals]
    return [samples[video][len(samples[video]) // 2] for video in videos]

"""The videos of the demo: heads in front of a camera, and the manipulations that make fakes.

A frame is (height, width, 3), float32 while it is made and uint8 when it is done, in gray levels.
Sizes are (width, height) in pixels. All randomness comes from the seeds that `record` and `forge`
are given.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from media.demo_heads import (
    CANVAS,
    FACE_CENTER,
    color,
    draw_face,
    make_identity,
    make_motion,
    outline,
)

# What each method replaces, and the radius in pixels of the blur of its edge. The last one is made
# only on request.
METHODS = {
    "Deepfakes": ("face", 7),
    "FaceSwap": ("face", 0),
    "Face2Face": ("mouth", 5),
    "NeuralTextures": ("mouth", 3),
    "FaceShifter": ("face", 12),
}
STILL = (0.0, 0.0, 1.0)  # a jump of nothing: (dx, dy, scale)
# Capture conditions: frame size in pixels, standard deviation of the camera noise in gray levels,
# radius of the lens blur in pixels, gain of the red, green and blue channel, gamma, and x264's
# constant rate factor.
CONDITIONS = {
    "studio": dict(size=(320, 240), noise=2.0, blur=0.0, gain=(1, 1, 1), gamma=1.0, crf=18),
    "phone": dict(size=(240, 320), noise=8.0, blur=0.9, gain=(1.08, 0.98, 0.84), gamma=1.2, crf=30),
}


def record(seed, condition_name, number, frames):
    """What the camera records of person `number`: a list of (frame, pose)."""
    condition = CONDITIONS[condition_name]
    seeds = (seed, list(CONDITIONS).index(condition_name), number)
    motion = make_motion(np.random.default_rng((*seeds, 1)), frames)
    rng = np.random.default_rng((*seeds, 99))
    return [(film(person(*seeds), pose, condition, rng), pose) for pose in poses(motion)]


def forge(recording, seed, condition_name, number, partner, method):
    """Yield the frames of a recording of person `number`, manipulated with person `partner`."""
    condition = CONDITIONS[condition_name]
    place = list(CONDITIONS).index(condition_name)
    target, source = person(seed, place, number), person(seed, place, partner)
    motion = make_motion(np.random.default_rng((seed, place, partner, 1)), len(recording))
    rng = np.random.default_rng((seed, place, number, 2 + list(METHODS).index(method)))
    mask = region(target, *METHODS[method])
    for (frame, pose), source_pose in zip(recording, poses(motion)):
        yield manipulate(method, mask, frame, pose, target, source, source_pose, condition, rng)


@lru_cache(maxsize=4)
def person(seed, place, number):
    """Person `number` of the capture condition at a place in CONDITIONS, as `make_identity`."""
    size = list(CONDITIONS.values())[place]["size"]
    return make_identity(np.random.default_rng((seed, place, number)), size)


def poses(motion):
    """Yield the time steps of a motion (`make_motion`): dicts of floats."""
    for values in zip(*motion.values()):
        yield dict(zip(motion, map(float, values)))


def film(who, pose, condition, rng):
    """One frame of a person in front of the background: uint8."""
    size = condition["size"]
    scene = who["background"].copy()
    draw = ImageDraw.Draw(scene)
    x, y = size[0] / 2 + pose["x"] * 0.5, size[1] * 0.5 + pose["y"] * 0.3
    draw.ellipse((x - 105, y + 78, x + 105, y + 300), fill=color(who["cloth"]))
    draw.rectangle((x - 27, y + 40, x + 27, y + 96), fill=color(who["skin"], 0.66))  # neck
    mask = warp(who["static"][1], pose, size)[..., None] / 255
    frame = np.asarray(scene) * (1 - mask) + warp(draw_face(who, pose), pose, size) * mask
    return capture(frame, condition, rng)


def capture(frame, condition, rng):
    """Lens, sensor and processing of a capture condition: float frame -> uint8 frame."""
    frame = np.clip(frame, 0, 255)
    if condition["gamma"] != 1:
        frame = 255 * (frame / 255) ** np.float32(condition["gamma"])
    frame = frame * np.array(condition["gain"], np.float32)
    if condition["blur"]:
        blur = ImageFilter.GaussianBlur(condition["blur"])
        frame = np.asarray(to_image(frame).filter(blur), np.float32)
    if condition["noise"]:
        frame = frame + condition["noise"] * rng.standard_normal(frame.shape, np.float32)
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def to_image(pixels):
    """Floats as an image; fractions are cut off."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def warp(canvas, pose, size, jump=STILL):
    """Warp a canvas (image or array) into the frame by a pose and a jump (dx, dy, scale).

    Returns (height, width[, 3]) float32.
    """
    scale = 0.78 * pose["scale"] * jump[2]
    cos, sin = np.cos(pose["roll"]) / scale, np.sin(pose["roll"]) / scale
    tx = size[0] / 2 + pose["x"] + jump[0]
    ty = size[1] * 0.5 + pose["y"] + jump[1]
    cx, cy = FACE_CENTER
    matrix = (cos, sin, cx - cos * tx - sin * ty, -sin, cos, cy + sin * tx - cos * ty)
    image = canvas if isinstance(canvas, Image.Image) else to_image(canvas)
    image = image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


def region(who, part, soft):
    """Mask of the inner "face" or of the "mouth" on the canvas, blurred by `soft` pixels: image."""
    mask = Image.new("L", (CANVAS, CANVAS))
    cx, cy = FACE_CENTER
    if part == "face":  # from above the brows to the chin
        ImageDraw.Draw(mask).polygon([(x, max(y, cy - 46)) for x, y in outline(who, -9)], fill=255)
    else:
        ImageDraw.Draw(mask).ellipse((cx - 40, cy + 26, cx + 40, cy + 82), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(soft)) if soft else mask


def rescale(frame, factor, upsample):
    """Shrink a frame by `factor` and enlarge it again: the resolution a generator worked at."""
    height, width = frame.shape[:2]
    small = (max(1, int(width / factor)), max(1, int(height / factor)))
    image = to_image(frame).resize(small, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), upsample), np.float32)


def manipulate(method, mask, frame, pose, target, source, source_pose, condition, rng):
    """Manipulate a recorded frame of the person `target` with the person `source`: uint8.

    mask: the manipulated region on the canvas: image. It carries no camera noise and has the
    generator's resolution; it is blended into the recorded frame, which does carry noise. `rng`
    draws the jumps from frame to frame.
    """
    size = condition["size"]
    jump = (rng.normal(0, 1.5), rng.normal(0, 1.5), 1 + rng.normal(0, 0.015))
    flicker = 1 + rng.normal(0, 0.02)  # of brightness
    driven = dict(pose, mouth=source_pose["mouth"], smile=source_pose["smile"])
    # Both full swaps keep the light of the target.
    relit = dict(source, shade=target["shade"])

    def render(who, pose, gain=1.0):
        face = warp(draw_face(who, pose) * gain, pose, size, jump)
        return capture(face, dict(condition, noise=0.0), rng).astype(np.float32)

    mask = warp(mask, pose, size, jump if method == "FaceSwap" else STILL)[..., None] / 255
    if method == "Deepfakes":
        fake = render(relit, pose)
        weight = mask / mask.sum()
        fake += (frame * weight).sum((0, 1)) - (fake * weight).sum((0, 1))  # colors matched
        fake = rescale(fake * flicker, 4.0, Image.Resampling.BICUBIC)
    elif method == "FaceSwap":
        fake = render(source, pose, flicker)
        mask = (mask > 0.5).astype(np.float32)
    elif method == "Face2Face":
        fake = rescale(render(target, driven, flicker), 1.8, Image.Resampling.BILINEAR)
    elif method == "FaceShifter":
        sharpen = ImageFilter.UnsharpMask(radius=2, percent=220, threshold=0)
        fake = np.asarray(to_image(render(relit, pose, flicker)).filter(sharpen), np.float32)
    else:  # NeuralTextures, with the blocks and the grid of transposed convolutions
        fake = rescale(render(target, driven) * flicker, 2.0, Image.Resampling.NEAREST)
        fake[::2, ::2] += 7
        fake[1::2, 1::2] -= 7
    return np.clip(np.rint(frame * (1 - mask) + fake * mask), 0, 255).astype(np.uint8)

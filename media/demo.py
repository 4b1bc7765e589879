"""The videos of the demo: talking heads in front of a camera, and the manipulations of fakes.

A head is drawn on a square canvas and warped into the frame. A frame is (height, width, 3), float32
while it is made and uint8 when it is done. Colors are RGB in gray levels, 0 to 255, lengths are
pixels, of the canvas until it is warped, and sizes are (width, height). All randomness comes from
the seeds that `record` and `forge` are given.
"""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

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
CANVAS = 256
FACE_CENTER = (128, 140)
SKINS = ((238, 205, 180), (224, 182, 150), (205, 158, 122), (176, 126, 92), (142, 98, 70))
HAIRS = ((38, 28, 22), (78, 52, 34), (120, 84, 48), (176, 140, 84), (112, 108, 106))
IRISES = ((70, 48, 30), (60, 90, 120), (70, 100, 70))


def record(seed, condition_name, number, frames):
    """What the camera records of person `number`: a list of (frame, pose)."""
    condition = CONDITIONS[condition_name]
    seeds = (seed, list(CONDITIONS).index(condition_name), number)
    poses = make_poses(np.random.default_rng((*seeds, 1)), frames)
    rng = np.random.default_rng((*seeds, 99))
    return [(film(person(*seeds), pose, condition, rng), pose) for pose in poses]


def forge(recording, seed, condition_name, number, partner, method):
    """Yield the frames of a recording of person `number`, manipulated with person `partner`."""
    condition = CONDITIONS[condition_name]
    place = list(CONDITIONS).index(condition_name)
    target, source = person(seed, place, number), person(seed, place, partner)
    poses = make_poses(np.random.default_rng((seed, place, partner, 1)), len(recording))
    rng = np.random.default_rng((seed, place, number, 2 + list(METHODS).index(method)))
    mask = region(target, *METHODS[method])
    for (frame, pose), source_pose in zip(recording, poses):
        yield manipulate(method, mask, frame, pose, target, source, source_pose, condition, rng)


@lru_cache(maxsize=4)
def person(seed, place, number):
    """Person `number` of the capture condition at a place in CONDITIONS, as `make_identity`."""
    size = list(CONDITIONS.values())[place]["size"]
    return make_identity(np.random.default_rng((seed, place, number)), size)


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


def make_identity(rng, size):
    """Draw at random the looks of a person, and the background of videos of a size (width, height).

    Returns a dict. The order of the draws is part of what a seed stands for.
    """
    skin = np.array(SKINS[rng.integers(5)])
    skin = np.clip(skin + rng.normal(0, 6, 3), 60, 250)
    hair = np.array(HAIRS[rng.integers(5)])
    who = dict(
        skin=skin,
        hair=np.clip(hair * rng.uniform(0.8, 1.2), 10, 220),
        brow=np.clip(hair * 0.7, 8, 120),
        iris=np.array(IRISES[rng.integers(3)]),
        lips=np.clip(skin * (0.86, 0.58, 0.56) + rng.normal(0, 5, 3), 40, 230),
    )
    head = dict(half_width=(64, 72), half_height=(86, 95), jaw=(0.66, 0.86))
    eyes = dict(eye_gap=(29, 33), eye_width=(15, 18), eye_height=(6.5, 8.5))
    brows = dict(brow_height=(17, 21), brow_thick=(4.5, 7), brow_tilt=(-2.5, 2.5))
    nose = dict(nose_length=(34, 40), nose_width=(10, 14))
    mouth = dict(mouth_drop=(53, 58), mouth_width=(22, 28), lip_thick=(4, 6.5))
    ranges = head | eyes | brows | nose | mouth | dict(hairline=(50, 60), fringe=(-8, 8))
    who |= {name: rng.uniform(low, high) for name, (low, high) in ranges.items()}
    who["long_hair"] = bool(rng.random() < 0.5)
    who["texture"] = 4.0 * smooth_noise(rng, CANVAS, 1.2) + 3.0 * smooth_noise(rng, CANVAS, 6.0)
    who["light"] = np.array([rng.uniform(-0.55, 0.55), rng.uniform(-0.5, -0.1), 1.0])
    who["cloth"] = np.clip(rng.uniform(40, 180) + rng.normal(0, 25, 3), 20, 220)
    for _ in range(rng.integers(2, 8)):  # moles
        x, y = rng.integers(80, 176), rng.integers(100, 210)
        who["texture"][y : y + 2, x : x + 2] -= 28
    who["background"] = draw_background(rng, size)
    who["shade"] = shading(who)
    who["static"] = draw_static(who)
    return who


def smooth_noise(rng, size, radius):
    """Noise of zero mean and unit deviation, blurred with `radius` pixels: (size, size) float32."""
    image = Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8))
    noise = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def draw_background(rng, size):
    """A wall with five blurred rectangles, for shelves, pictures or a window: image."""
    width, height = size
    wall = np.clip(rng.uniform(80, 190) + rng.normal(0, 14, 3), 30, 230)
    image = Image.fromarray(np.broadcast_to(wall, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = rng.integers(-40, width), rng.integers(-40, height)
        shade = np.clip(wall + rng.normal(0, 30) + rng.normal(0, 12, 3), 20, 240)
        corner = (x + rng.integers(30, 120), y + rng.integers(30, 120))
        draw.rectangle((x, y, *corner), fill=color(shade))
    return image.filter(ImageFilter.GaussianBlur(4))


def color(values, factor=1.0):
    """Three numbers times `factor` as the tuple of ints that Pillow takes."""
    return tuple(int(v) for v in np.clip(np.asarray(values) * factor, 0, 255))


def outline(who, grow=0.0):
    """The head's outline: an ellipse whose lower half narrows to the jaw, as a list of (x, y)."""
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x, y = np.cos(t) * (who["half_width"] + grow), np.sin(t) * (who["half_height"] + grow)
    below = np.clip(y / who["half_height"], 0, 1)
    x = x * (1 - (1 - who["jaw"]) * below**1.5)
    return list(zip(x + FACE_CENTER[0], y + FACE_CENTER[1]))


def shading(who):
    """Lambert shading of an ellipsoid under the person's light.

    Returns (CANVAS, CANVAS, 1) float32, factors of about 0.6 to 1.1.
    """
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32)
    nx = (x - FACE_CENTER[0]) / (who["half_width"] * 1.25)
    ny = (y - FACE_CENTER[1]) / (who["half_height"] * 1.25)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.04, 1))
    light = who["light"] / np.linalg.norm(who["light"])
    lit = np.clip(nx * light[0] + ny * light[1] + nz * light[2], 0, 1)
    return (0.45 + 0.65 * lit)[..., None].astype(np.float32)


def draw_static(who):
    """What does not move in the head: hair, ears, skin, nose, eye sockets: (RGB image, mask)."""

    def skin(factor=1.0):
        return color(who["skin"], factor)

    cx, cy = FACE_CENTER
    image, mask = Image.new("RGB", (CANVAS, CANVAS)), Image.new("L", (CANVAS, CANVAS))
    hair = [(x, y) for x, y in outline(who, 9) if who["long_hair"] or y < cy]
    if who["long_hair"]:
        hair = [(x, min(y, cy + 60)) for x, y in hair]
    colors = (color(who["hair"]), skin(0.88), skin())
    for canvas, fills in ((image, colors), (mask, (255, 255, 255))):
        draw = ImageDraw.Draw(canvas)
        draw.polygon(hair, fill=fills[0])
        for side in (-1, 1):  # ears
            ex = cx + side * (who["half_width"] + 1)
            draw.ellipse((ex - 7, cy - 22, ex + 7, cy + 14), fill=fills[1])
        draw.polygon(outline(who), fill=fills[2])

    draw = ImageDraw.Draw(image)
    for side in (-1, 1):  # eye sockets and cheeks
        ex = cx + side * who["eye_gap"]
        draw.ellipse((ex - 24, cy - 36, ex + 24, cy - 2), fill=skin(0.84))
    width = who["nose_width"]
    tip = cy + who["nose_length"]
    bridge = [(cx - 6, cy - 24), (cx + 6, cy - 24), (cx + width, tip - 16), (cx - width, tip - 16)]
    draw.polygon(bridge, fill=skin(1.04))
    shadow = -1 if who["light"][0] > 0 else 1  # the nose's shadow falls away from the light
    edge = (cx + shadow * 7, cy - 20, cx + shadow * width, tip - 20)
    draw.line(edge, fill=skin(0.72), width=4)
    draw.ellipse((cx - 22, cy + 70, cx + 22, cy + 82), fill=skin(0.93))  # under the lips
    image = image.filter(ImageFilter.GaussianBlur(4))

    draw = ImageDraw.Draw(image)
    y = tip - 17
    draw.ellipse((cx - width, y - 6, cx + width, y + 6), fill=skin(0.92))
    for side in (-1, 1):  # nostrils
        nx = cx + side * width * 0.55
        draw.ellipse((nx - 4, y, nx + 4, y + 5), fill=skin(0.42))
    top = [(x, y) for x, y in outline(who, 2) if y < cy - who["hairline"] + 18]
    line = [
        (cx + t * who["half_width"], cy - who["hairline"] + 14 * t * t + who["fringe"] * t)
        for t in (1, 0.5, 0, -0.5, -1)
    ]
    draw.polygon(sorted(top) + line, fill=color(who["hair"]))
    return image.filter(ImageFilter.GaussianBlur(0.8)), mask.filter(ImageFilter.GaussianBlur(1.0))


def make_poses(rng, frames):
    """How a head moves, blinks and speaks in one video: a list of dicts of floats, one per frame.

    x, y and yaw are pixels, roll is radians, the others are factors or 0 (closed, none) to 1.
    """
    t = np.arange(frames)

    def wave(amplitude, slow=60.0, fast=25.0):
        waves = []
        for k in range(2):
            period, phase = rng.uniform(fast, slow), rng.uniform(0, 2 * np.pi)
            waves.append(amplitude / (k + 1) * np.sin(2 * np.pi * t / period + phase))
        return sum(waves)

    blink = np.zeros(frames)
    for start in np.cumsum(rng.integers(12, 45, size=frames // 12 + 1)) - 8:
        for k, closed in enumerate((0.5, 1.0, 0.9, 0.4)):
            if 0 <= start + k < frames:
                blink[start + k] = closed
    speech = np.abs(wave(0.6, 14, 6)) * (0.55 + 0.45 * np.sign(wave(1.0, 70, 40)))
    motion = dict(x=wave(6), y=wave(4), roll=wave(0.05), scale=1 + wave(0.025), yaw=wave(4.0))
    smile = np.clip(0.4 + wave(0.5, 90, 50), -1, 1)
    motion |= dict(blink=blink, mouth=np.clip(speech, 0, 1), smile=smile)
    return [dict(zip(motion, map(float, values))) for values in zip(*motion.values())]


def draw_face(who, pose):
    """The head of a person in a pose, one of `make_poses`: (CANVAS, CANVAS, 3) float32."""
    image = who["static"][0].copy()
    draw = ImageDraw.Draw(image)
    cx, cy = FACE_CENTER[0] + pose["yaw"], FACE_CENTER[1]
    for side in (-1, 1):
        draw_eye(draw, who, pose, cx + side * who["eye_gap"], cy - 18, side)
    draw_mouth(draw, who, pose, cx, cy + who["mouth_drop"])
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), np.float32)
    return (pixels + who["texture"][..., None]) * who["shade"]


def draw_eye(draw, who, pose, x, y, side):
    """An eye centered at (x, y), and its brow."""
    width, height = who["eye_width"], max(0.8, who["eye_height"] * (1 - pose["blink"]))
    draw.ellipse((x - width, y - height - 1, x + width, y + height), fill=(236, 232, 228))
    if height > 3:
        gaze, iris = x + 0.6 * pose["yaw"], min(height, 6.5)
        draw.ellipse((gaze - 6.5, y - iris, gaze + 6.5, y + iris), fill=color(who["iris"]))
        draw.ellipse((gaze - 3, y - 3, gaze + 3, y + 3), fill=(12, 10, 10))
        draw.ellipse((gaze + 1, y - 3, gaze + 3, y - 1), fill=(250, 250, 250))
    lid = (x - width - 2, y - height - 4, x + width + 2, y + height + 6)
    draw.arc(lid, 190, 350, fill=color(who["skin"], 0.32), width=4)
    brow = y - who["brow_height"] + 3 * pose["blink"]
    points = [(x - side * 15, brow + who["brow_tilt"]), (x + side * 4, brow - 5)]
    points.append((x + side * 20, brow + 2))
    draw.line(points, fill=color(who["brow"]), width=int(who["brow_thick"]), joint="curve")


def draw_mouth(draw, who, pose, x, y):
    """Mouth, teeth and lips centered at (x, y)."""
    w, lip = who["mouth_width"] + 3 * pose["smile"], who["lip_thick"]
    gap, lift = 11 * pose["mouth"], 3.5 * pose["smile"]
    lower = gap * 0.95
    if gap > 1.5:
        draw.ellipse((x - w * 0.85, y - gap * 0.6, x + w * 0.85, y + gap), fill=(52, 18, 20))
        teeth = (x - w * 0.5, y - gap * 0.5, x + w * 0.5, y - gap * 0.1)
        draw.rectangle(teeth, fill=(226, 220, 210))
    for sign, edge in ((-1, -gap * 0.55), (1, lower)):
        rim = y + edge + sign * lip
        xs = (x - w, x - w * 0.4, x, x + w * 0.4, x + w, x)
        ys = (y - lift, rim, y + edge + sign * lip * 0.8, rim, y - lift, y + edge)
        draw.polygon(list(zip(xs, ys)), fill=color(who["lips"], 0.9 if sign < 0 else 1.0))
    line = (x - w, y - lift, x, y + lower * 0.1, x + w, y - lift)
    draw.line(line, fill=color(who["lips"], 0.5), width=2)

"""The talking heads of the demo: what a person looks like, how the head moves, and its drawing.

A head is drawn on a square canvas and later warped into the frame (media/demo_fakes.py). Colors are
RGB in gray levels, 0 to 255; lengths are pixels of the canvas.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CANVAS = 256
FACE_CENTER = (128, 140)
SKINS = ((238, 205, 180), (224, 182, 150), (205, 158, 122), (176, 126, 92), (142, 98, 70))
HAIRS = ((38, 28, 22), (78, 52, 34), (120, 84, 48), (176, 140, 84), (112, 108, 106))
IRISES = ((70, 48, 30), (60, 90, 120), (70, 100, 70))


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
    ranges = dict(
        half_width=(64, 72),
        half_height=(86, 95),
        jaw=(0.66, 0.86),
        eye_gap=(29, 33),
        eye_width=(15, 18),
        eye_height=(6.5, 8.5),
        brow_height=(17, 21),
        brow_thick=(4.5, 7),
        brow_tilt=(-2.5, 2.5),
        nose_length=(34, 40),
        nose_width=(10, 14),
        mouth_drop=(53, 58),
        mouth_width=(22, 28),
        lip_thick=(4, 6.5),
        hairline=(50, 60),
        fringe=(-8, 8),
    )
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


def make_motion(rng, frames):
    """How a head moves, blinks and speaks in one video: a dict of arrays of `frames` values.

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
    return dict(
        x=wave(6),
        y=wave(4),
        roll=wave(0.05),
        scale=1 + wave(0.025),
        yaw=wave(4.0),
        blink=blink,
        mouth=np.clip(speech, 0, 1),
        smile=np.clip(0.4 + wave(0.5, 90, 50), -1, 1),
    )


def draw_face(who, pose):
    """The head of a person in a pose, a step of `make_motion`: (CANVAS, CANVAS, 3) float32."""
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
        points = [
            (x - w, y - lift),
            (x - w * 0.4, y + edge + sign * lip),
            (x, y + edge + sign * lip * 0.8),
            (x + w * 0.4, y + edge + sign * lip),
            (x + w, y - lift),
            (x, y + edge),
        ]
        draw.polygon(points, fill=color(who["lips"], 0.9 if sign < 0 else 1.0))
    line = (x - w, y - lift, x, y + lower * 0.1, x + w, y - lift)
    draw.line(line, fill=color(who["lips"], 0.5), width=2)

"""The talking heads of the demo."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

METHODS = (
    "Deepfakes",
    "FaceSwap",
    "Face2Face",
    "NeuralTextures",
    "FaceShifter",
)  # the last is made only if asked for


CANVAS = 256  # a head is drawn on a CANVAS x CANVAS square, then warped into the frame


FACE_CENTRE = (128, 140)


# Capture conditions: frame size in pixels, standard deviation of the camera noise in grey levels, radius of the lens
# blur in pixels, gain of the red, green and blue channel, gamma, and x264's constant rate factor.
CONDITIONS = {
    "studio": dict(
        size=(320, 240), noise=2.0, blur=0.0, gain=(1.00, 1.00, 1.00), gamma=1.0, crf=18
    ),
    "phone": dict(size=(240, 320), noise=8.0, blur=0.9, gain=(1.08, 0.98, 0.84), gamma=1.2, crf=30),
}


def smooth_noise(rng, size, radius):
    """Noise of zero mean and unit deviation, blurred with `radius` pixels: (size, size) float32."""
    image = Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8))
    noise = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def make_identity(rng, size):
    """Draw an identity's parameters: face shape, skin, hair, eyes, mouth, clothes, and the background of its video."""
    skin = np.array(
        [(238, 205, 180), (224, 182, 150), (205, 158, 122), (176, 126, 92), (142, 98, 70)][
            rng.integers(5)
        ]
    )
    skin = np.clip(skin + rng.normal(0, 6, 3), 60, 250)
    hair = np.array(
        [(38, 28, 22), (78, 52, 34), (120, 84, 48), (176, 140, 84), (112, 108, 106)][
            rng.integers(5)
        ]
    )
    who = dict(
        skin=skin,
        hair=np.clip(hair * rng.uniform(0.8, 1.2), 10, 220),
        brow=np.clip(hair * 0.7, 8, 120),
        iris=np.array([(70, 48, 30), (60, 90, 120), (70, 100, 70)][rng.integers(3)]),
        lips=np.clip(skin * (0.86, 0.58, 0.56) + rng.normal(0, 5, 3), 40, 230),
        half_width=rng.uniform(64, 72),
        half_height=rng.uniform(86, 95),
        jaw=rng.uniform(0.66, 0.86),
        eye_gap=rng.uniform(29, 33),
        eye_width=rng.uniform(15, 18),
        eye_height=rng.uniform(6.5, 8.5),
        brow_height=rng.uniform(17, 21),
        brow_thick=rng.uniform(4.5, 7),
        brow_tilt=rng.uniform(-2.5, 2.5),
        nose_length=rng.uniform(34, 40),
        nose_width=rng.uniform(10, 14),
        mouth_drop=rng.uniform(53, 58),
        mouth_width=rng.uniform(22, 28),
        lip_thick=rng.uniform(4, 6.5),
        hairline=rng.uniform(50, 60),
        fringe=rng.uniform(-8, 8),
        long_hair=bool(rng.random() < 0.5),
        texture=4.0 * smooth_noise(rng, CANVAS, 1.2) + 3.0 * smooth_noise(rng, CANVAS, 6.0),
        light=np.array([rng.uniform(-0.55, 0.55), rng.uniform(-0.5, -0.1), 1.0]),
        cloth=np.clip(rng.uniform(40, 180) + rng.normal(0, 25, 3), 20, 220),
    )
    for _ in range(rng.integers(2, 8)):  # moles
        x, y = rng.integers(80, 176), rng.integers(100, 210)
        who["texture"][y : y + 2, x : x + 2] -= 28
    width, height = size
    wall = np.clip(rng.uniform(80, 190) + rng.normal(0, 14, 3), 30, 230)
    background = Image.fromarray(np.broadcast_to(wall, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(background)
    for _ in range(5):  # shelves, frames, a window
        x, y = rng.integers(-40, width), rng.integers(-40, height)
        shade = np.clip(wall + rng.normal(0, 30) + rng.normal(0, 12, 3), 20, 240)
        draw.rectangle(
            (x, y, x + rng.integers(30, 120), y + rng.integers(30, 120)), fill=colour(shade)
        )
    who["background"] = background.filter(ImageFilter.GaussianBlur(4))
    who["shade"] = shading(who)
    who["static"] = draw_static(who)
    return who


def colour(values, factor=1.0):
    """Three floats -> the tuple of ints that Pillow wants, multiplied by `factor`."""
    return tuple(int(v) for v in np.clip(np.asarray(values) * factor, 0, 255))


def outline(who, grow=0.0):
    """The head's outline as a polygon: an ellipse whose lower half narrows to the jaw; list of (x, y)."""
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x, y = np.cos(t) * (who["half_width"] + grow), np.sin(t) * (who["half_height"] + grow)
    below = np.clip(y / who["half_height"], 0, 1)
    x = x * (1 - (1 - who["jaw"]) * below**1.5)
    return list(zip(x + FACE_CENTRE[0], y + FACE_CENTRE[1]))


def shading(who):
    """Lambert shading of an ellipsoid under the identity's light: (CANVAS, CANVAS, 1), about 0.6 to 1.1."""
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32)
    nx = (x - FACE_CENTRE[0]) / (who["half_width"] * 1.25)
    ny = (y - FACE_CENTRE[1]) / (who["half_height"] * 1.25)
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.04, 1))
    light = who["light"] / np.linalg.norm(who["light"])
    return (0.45 + 0.65 * np.clip(nx * light[0] + ny * light[1] + nz * light[2], 0, 1))[
        ..., None
    ].astype(np.float32)


def draw_static(who):
    """What does not move inside the head: hair, ears, skin, nose, eye sockets. Returns (RGB image, head mask)."""
    cx, cy = FACE_CENTRE
    image, mask = Image.new("RGB", (CANVAS, CANVAS)), Image.new("L", (CANVAS, CANVAS))
    hair = [(x, y) for x, y in outline(who, 9) if who["long_hair"] or y < cy]
    if who["long_hair"]:
        hair = [(x, min(y, cy + 60)) for x, y in hair]
    for canvas, fill in ((image, colour(who["hair"])), (mask, 255)):
        draw = ImageDraw.Draw(canvas)
        draw.polygon(hair, fill=fill)
        for side in (-1, 1):  # ears
            ex = cx + side * (who["half_width"] + 1)
            draw.ellipse(
                (ex - 7, cy - 22, ex + 7, cy + 14),
                fill=colour(who["skin"], 0.88) if canvas is image else 255,
            )
        draw.polygon(outline(who), fill=colour(who["skin"]) if canvas is image else 255)
    draw = ImageDraw.Draw(image)
    for side in (-1, 1):  # eye sockets and cheeks
        ex = cx + side * who["eye_gap"]
        draw.ellipse((ex - 24, cy - 36, ex + 24, cy - 2), fill=colour(who["skin"], 0.84))
    draw.polygon(
        [
            (cx - 6, cy - 24),
            (cx + 6, cy - 24),
            (cx + who["nose_width"], cy + who["nose_length"] - 16),
            (cx - who["nose_width"], cy + who["nose_length"] - 16),
        ],
        fill=colour(who["skin"], 1.04),
    )
    shadow = -1 if who["light"][0] > 0 else 1  # the nose's shadow falls away from the light
    draw.line(
        (cx + shadow * 7, cy - 20, cx + shadow * who["nose_width"], cy + who["nose_length"] - 20),
        fill=colour(who["skin"], 0.72),
        width=4,
    )
    draw.ellipse(
        (cx - 22, cy + 70, cx + 22, cy + 82), fill=colour(who["skin"], 0.93)
    )  # under the lips
    image = image.filter(ImageFilter.GaussianBlur(4))
    draw = ImageDraw.Draw(image)
    y = cy + who["nose_length"] - 17
    draw.ellipse(
        (cx - who["nose_width"], y - 6, cx + who["nose_width"], y + 6),
        fill=colour(who["skin"], 0.92),
    )
    for side in (-1, 1):
        nx = cx + side * who["nose_width"] * 0.55
        draw.ellipse((nx - 4, y, nx + 4, y + 5), fill=colour(who["skin"], 0.42))
    top = [(px, py) for px, py in outline(who, 2) if py < cy - who["hairline"] + 18]
    line = [
        (cx + t * who["half_width"], cy - who["hairline"] + 14 * t * t + who["fringe"] * t)
        for t in (1, 0.5, 0, -0.5, -1)
    ]
    draw.polygon(sorted(top) + line, fill=colour(who["hair"]))
    return image.filter(ImageFilter.GaussianBlur(0.8)), mask.filter(ImageFilter.GaussianBlur(1.0))


def make_motion(rng, frames):
    """Head motion, blinks and speech of one video as a dict of arrays of `frames` values (pixels, radians, 0..1)."""
    t = np.arange(frames)

    def wave(amplitude, slow=60.0, fast=25.0):
        return sum(
            amplitude
            / (k + 1)
            * np.sin(2 * np.pi * t / rng.uniform(fast, slow) + rng.uniform(0, 2 * np.pi))
            for k in range(2)
        )

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
    """The head of `who` in a pose (one time step of `make_motion`): (CANVAS, CANVAS, 3) float32, grey levels."""
    image = who["static"][0].copy()
    draw = ImageDraw.Draw(image)
    cx, cy = FACE_CENTRE[0] + pose["yaw"], FACE_CENTRE[1]
    for side in (-1, 1):
        ex, ey = cx + side * who["eye_gap"], cy - 18
        w, h = who["eye_width"], max(0.8, who["eye_height"] * (1 - pose["blink"]))
        draw.ellipse((ex - w, ey - h - 1, ex + w, ey + h), fill=(236, 232, 228))
        if h > 3:
            gx = ex + 0.6 * pose["yaw"]
            draw.ellipse(
                (gx - 6.5, ey - min(h, 6.5), gx + 6.5, ey + min(h, 6.5)), fill=colour(who["iris"])
            )
            draw.ellipse((gx - 3, ey - 3, gx + 3, ey + 3), fill=(12, 10, 10))
            draw.ellipse((gx + 1, ey - 3, gx + 3, ey - 1), fill=(250, 250, 250))
        draw.arc(
            (ex - w - 2, ey - h - 4, ex + w + 2, ey + h + 6),
            190,
            350,
            fill=colour(who["skin"], 0.32),
            width=4,
        )
        by = ey - who["brow_height"] + 3 * pose["blink"]
        inner, outer = ex - side * 15, ex + side * 20
        draw.line(
            [(inner, by + who["brow_tilt"]), (ex + side * 4, by - 5), (outer, by + 2)],
            fill=colour(who["brow"]),
            width=int(who["brow_thick"]),
            joint="curve",
        )
    my, w, lip = cy + who["mouth_drop"], who["mouth_width"] + 3 * pose["smile"], who["lip_thick"]
    gap, lift = 11 * pose["mouth"], 3.5 * pose["smile"]
    if gap > 1.5:
        draw.ellipse((cx - w * 0.85, my - gap * 0.6, cx + w * 0.85, my + gap), fill=(52, 18, 20))
        draw.rectangle(
            (cx - w * 0.5, my - gap * 0.5, cx + w * 0.5, my - gap * 0.1), fill=(226, 220, 210)
        )  # teeth
    for sign, edge in ((-1, -gap * 0.55), (1, gap * 0.95)):
        draw.polygon(
            [
                (cx - w, my - lift),
                (cx - w * 0.4, my + edge + sign * lip),
                (cx, my + edge + sign * lip * 0.8),
                (cx + w * 0.4, my + edge + sign * lip),
                (cx + w, my - lift),
                (cx, my + edge),
            ],
            fill=colour(who["lips"], 0.9 if sign < 0 else 1.0),
        )
    draw.line(
        (cx - w, my - lift, cx, my + edge * 0.1, cx + w, my - lift),
        fill=colour(who["lips"], 0.5),
        width=2,
    )
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)), np.float32)
    return (pixels + who["texture"][..., None]) * who["shade"]


def warp(canvas, pose, size, jump=(0.0, 0.0, 1.0)):
    """Warp a canvas into the frame by the pose and an extra (dx, dy, scale); uint8 array (height, width[, 3])."""
    scale = 0.78 * pose["scale"] * jump[2]
    cos, sin = np.cos(pose["roll"]) / scale, np.sin(pose["roll"]) / scale
    tx = size[0] / 2 + pose["x"] + jump[0]
    ty = size[1] * 0.5 + pose["y"] + jump[1]
    matrix = (
        cos,
        sin,
        FACE_CENTRE[0] - cos * tx - sin * ty,
        -sin,
        cos,
        FACE_CENTRE[1] + sin * tx - cos * ty,
    )
    if not isinstance(canvas, Image.Image):
        canvas = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.asarray(
        canvas.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC), np.float32
    )


def real_frames(who, motion, condition, rng):
    """Yield (frame, pose): what the camera of `condition` records, (height, width, 3) uint8."""
    size = condition["size"]
    for k in range(len(motion["x"])):
        pose = {name: float(values[k]) for name, values in motion.items()}
        scene = who["background"].copy()
        draw = ImageDraw.Draw(scene)
        bx, by = size[0] / 2 + pose["x"] * 0.5, size[1] * 0.5 + pose["y"] * 0.3
        draw.ellipse((bx - 105, by + 78, bx + 105, by + 300), fill=colour(who["cloth"]))
        draw.rectangle((bx - 27, by + 40, bx + 27, by + 96), fill=colour(who["skin"], 0.66))
        scene = np.asarray(scene, np.float32)
        mask = warp(who["static"][1], pose, size)[..., None] / 255
        frame = scene * (1 - mask) + warp(draw_face(who, pose), pose, size) * mask
        yield capture(frame, condition, rng), pose


def capture(frame, condition, rng):
    """Lens, sensor and processing of a capture condition: float frame -> uint8 frame."""
    frame = np.clip(frame, 0, 255)
    if condition["gamma"] != 1:
        frame = 255 * (frame / 255) ** np.float32(condition["gamma"])
    frame = frame * np.array(condition["gain"], np.float32)
    if condition["blur"]:
        image = Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8))
        frame = np.asarray(image.filter(ImageFilter.GaussianBlur(condition["blur"])), np.float32)
    if condition["noise"]:
        frame = frame + condition["noise"] * rng.standard_normal(frame.shape, np.float32)
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def region(who, part, soft):
    """Mask of the inner face or of the mouth on the canvas, blurred by `soft` pixels: image of grey levels."""
    mask = Image.new("L", (CANVAS, CANVAS))
    cx, cy = FACE_CENTRE
    if part == "face":  # from above the brows to the chin
        ImageDraw.Draw(mask).polygon([(x, max(y, cy - 46)) for x, y in outline(who, -9)], fill=255)
    else:
        ImageDraw.Draw(mask).ellipse((cx - 40, cy + 26, cx + 40, cy + 82), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(soft)) if soft else mask


def rescale(frame, factor, upsample):
    """Shrink a float frame by `factor` and enlarge it again: the resolution a generator worked at."""
    height, width = frame.shape[:2]
    image = Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8))
    small = image.resize(
        (max(1, int(width / factor)), max(1, int(height / factor))), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), upsample), np.float32)


def manipulate(method, frame, pose, who, other, other_pose, condition, rng):
    """Manipulate one recorded frame of the target `who` with the source `other`; uint8 in, uint8 out.

    The manipulated region carries no camera noise and the generator's resolution; it is blended into the recorded
    frame, which does carry noise. `rng` gives the jumps from frame to frame.
    """
    size = condition["size"]
    clean = dict(condition, noise=0.0)
    jump = (rng.normal(0, 1.5), rng.normal(0, 1.5), 1 + rng.normal(0, 0.015))
    gain = 1 + rng.normal(0, 0.02)  # flicker of brightness
    driven = dict(pose, mouth=other_pose["mouth"], smile=other_pose["smile"])
    if method == "Deepfakes":
        face = dict(other, shade=who["shade"])  # the autoencoder keeps the target's light
        fake = capture(warp(draw_face(face, pose), pose, size, jump), clean, rng).astype(np.float32)
        mask = warp(region(who, "face", 7), pose, size)[..., None] / 255
        weight = mask / mask.sum()
        fake += (frame * weight).sum((0, 1)) - (fake * weight).sum((0, 1))  # colours matched
        fake = rescale(fake * gain, 4.0, Image.Resampling.BICUBIC)
    elif method == "FaceSwap":
        fake = capture(warp(draw_face(other, pose) * gain, pose, size, jump), clean, rng).astype(
            np.float32
        )
        mask = (warp(region(who, "face", 0), pose, size, jump)[..., None] > 127).astype(np.float32)
    elif method == "Face2Face":
        fake = capture(warp(draw_face(who, driven) * gain, pose, size, jump), clean, rng).astype(
            np.float32
        )
        fake = rescale(fake, 1.8, Image.Resampling.BILINEAR)
        mask = warp(region(who, "mouth", 5), pose, size)[..., None] / 255
    elif method == "FaceShifter":
        face = dict(other, shade=who["shade"])
        fake = capture(warp(draw_face(face, pose) * gain, pose, size, jump), clean, rng)
        fake = np.asarray(
            Image.fromarray(fake).filter(
                ImageFilter.UnsharpMask(radius=2, percent=220, threshold=0)
            ),
            np.float32,
        )
        mask = warp(region(who, "face", 12), pose, size)[..., None] / 255
    else:  # NeuralTextures
        fake = capture(warp(draw_face(who, driven), pose, size, jump), clean, rng).astype(
            np.float32
        )
        fake = rescale(
            fake * gain, 2.0, Image.Resampling.NEAREST
        )  # transposed convolution: blocks and a grid
        fake[::2, ::2] += 7
        fake[1::2, 1::2] -= 7
        mask = warp(region(who, "mouth", 3), pose, size)[..., None] / 255
    return np.clip(np.rint(frame * (1 - mask) + fake * mask), 0, 255).astype(np.uint8)


def record(seed, condition_name, number, frames):
    """What the camera records of one person: a list of (frame, pose); a pure function of its arguments."""
    condition, where = CONDITIONS[condition_name], list(CONDITIONS).index(condition_name)
    who = make_identity(np.random.default_rng((seed, where, number)), condition["size"])
    motion = make_motion(np.random.default_rng((seed, where, number, 1)), frames)
    return list(
        real_frames(who, motion, condition, np.random.default_rng((seed, where, number, 99)))
    )


def forge(recording, seed, condition_name, number, partner, method):
    """Yield the frames of a recording of person `number`, manipulated by `method` with person `partner` as the source."""
    condition, where = CONDITIONS[condition_name], list(CONDITIONS).index(condition_name)
    who, other = (
        make_identity(np.random.default_rng((seed, where, n)), condition["size"])
        for n in (number, partner)
    )
    motion = make_motion(np.random.default_rng((seed, where, partner, 1)), len(recording))
    rng = np.random.default_rng((seed, where, number, 2 + METHODS.index(method)))
    for k, (frame, pose) in enumerate(recording):
        yield manipulate(
            method,
            frame,
            pose,
            who,
            other,
            {name: float(values[k]) for name, values in motion.items()},
            condition,
            rng,
        )

"""Face detectors."""

import math
import warnings
from itertools import groupby

import numpy as np
from PIL import Image

from common import fail

_detector = _mtcnn = None  # one a process, made at first use


def detect(frame, scale, window=None, enlarge=0):
    """The faces that dlib's HOG detector finds in a frame reduced to `scale`, the largest first: (left, top, right, bottom) in pixels of the frame.

    `window`: what to look at, in whole pixels of the reduced frame. `enlarge`: dlib doubles it so many times. A face has 80 pixels or more.
    """
    global _detector
    import dlib

    _detector = _detector or dlib.get_frontal_face_detector()
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = window or (0, 0, max(1, int(width * scale)), max(1, int(height * scale)))
    if scale < 1:  # only the piece of the frame under the window becomes an image
        left, top, right, bottom = (
            x0 / scale,
            y0 / scale,
            min(width, x1 / scale),
            min(height, y1 / scale),
        )
        x, y = int(left), int(top)
        piece = Image.fromarray(frame[y : math.ceil(bottom), x : math.ceil(right)])
        piece = np.asarray(
            piece.resize(
                (x1 - x0, y1 - y0),
                Image.Resampling.BILINEAR,
                box=(left - x, top - y, right - x, bottom - y),
            )
        )
    else:
        piece = np.ascontiguousarray(frame[y0:y1, x0:x1])
    boxes = sorted(_detector(piece, enlarge), key=lambda b: -b.area())
    return [
        tuple(
            (v + origin) / scale
            for v, origin in (
                (box.left(), x0),
                (box.top(), y0),
                (box.right() + 1, x0),
                (box.bottom() + 1, y0),
            )
        )
        for box in boxes
    ]


def largest_face(frame, last=None):
    """The largest face in a frame by dlib's HOG detector, or the one near the box `last`: (left, top, right, bottom) in its pixels, or None.

    With `last`, the box in the frame before, it looks there first (`face_near`). Otherwise, or where nothing is there, it looks at the whole frame:
    with a long side of at most 700 pixels, of 1920, and of twice that, ten times dearer each and needed for few frames.
    """
    box = last and face_near(frame, last)
    if box:
        return box
    small, large = whole_scales(frame)
    boxes = (
        detect(frame, small)
        or (detect(frame, large) if large > small else None)
        or detect(frame, large, enlarge=1)
    )
    return boxes[0] if boxes else None


def face_near(frame, last):
    """The largest face in a window around the box `last`, at a scale where that face had about 95 pixels, or None.

    Scales are powers of 5/6, the detector's own steps, and windows begin at multiples of 48 pixels, where its cells lie as in the whole frame
    (8 pixels on its first level, 9.6 on the second): so it finds the boxes that it would find there.
    """
    (left, top, right, bottom), (height, width) = last, frame.shape[:2]
    side = max(right - left, bottom - top)
    scale = (5 / 6) ** max(0, round(math.log(side / 95, 1.2)))
    half = side * scale  # the window is two faces wide
    x0, y0 = (
        max(0, int(((a + b) / 2 * scale - half) / 48) * 48)
        for a, b in ((left, right), (top, bottom))
    )
    x1, y1 = (
        min(int(size * scale), start + math.ceil(2 * half) + 48)
        for size, start in ((width, x0), (height, y0))
    )
    boxes = detect(frame, scale, (x0, y0, x1, y1)) if x1 > x0 and y1 > y0 else None
    return boxes[0] if boxes else None


def whole_scales(frame):
    """The two scales at which a whole frame is searched: those where its long side has at most 700 and at most 1920 pixels."""
    return [
        (5 / 6) ** max(0, math.ceil(math.log(max(frame.shape[:2]) / side, 1.2) - 1e-9))
        for side in (700, 1920)
    ]


def all_faces(frame):
    """All faces in a frame by dlib's HOG detector, the largest first, for 07: where the smaller scale shows a face the larger one adds those of others."""
    small, large = whole_scales(frame)
    boxes = detect(frame, small)
    for box in detect(frame, large) if large > small else ():
        # The same face has its centre inside the other box.
        if not any(
            b[0] < (box[0] + box[2]) / 2 < b[2] and b[1] < (box[1] + box[3]) / 2 < b[3]
            for b in boxes
        ):
            boxes.append(box)
    return boxes or detect(frame, large, enlarge=1)


def load_mtcnn(device):
    """facenet-pytorch's MTCNN (its weights come with the package) on a device."""
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    return MTCNN(keep_all=True, device=device)


def check_mtcnn(device):
    """End the script unless MTCNN is there."""
    try:
        load_mtcnn(device)
    except ImportError as error:
        fail(
            f"the detector MTCNN: {error}. Install it with: pip install requests && pip install --no-deps facenet-pytorch==2.6.0  (without "
            "--no-deps it would replace torch)"
        )


def detect_mtcnn(frames, device):
    """The faces that MTCNN finds in each of the frames, in batches: a list of lists of boxes, the largest first."""
    global _mtcnn
    _mtcnn = _mtcnn or load_mtcnn(device)
    found = []
    for _, same in groupby(frames, key=lambda frame: frame.shape):  # a batch has one size
        with warnings.catch_warnings():  # numpy's, about how facenet-pytorch builds its arrays
            warnings.simplefilter("ignore")
            boxes, _ = _mtcnn.detect(np.stack(list(same)))
        for of_frame in boxes:
            found.append(
                sorted(
                    (tuple(map(float, box)) for box in (() if of_frame is None else of_frame)),
                    key=lambda b: (b[0] - b[2]) * (b[3] - b[1]),
                )
            )
    return found

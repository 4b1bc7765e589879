"""Face detectors: dlib's HOG detector, and MTCNN of facenet-pytorch.

A face is a box (left, top, right, bottom) in pixels of the frame, a frame a (height, width, 3)
uint8 array. Both libraries are imported when a detector is first used.
"""

import contextlib
import math
import warnings
from collections import Counter
from functools import cache
from itertools import groupby

import numpy as np
from PIL import Image

from common import fail
from media.photos import Unreadable
from media.video import read_frames

# Masks of forged pixels are reduced to GRID x GRID cells.
GRID = 160


@cache
def hog_detector():
    """dlib's detector of frontal faces of 80 pixels or more."""
    import dlib

    return dlib.get_frontal_face_detector()


def largest_face(frame, last=None, confidence=0.0):
    """The largest face that dlib finds in a frame, or the one near the box `last`; None if none.

    Detections below `confidence` do not count.

    With `last`, the face in the frame before, it looks there first (`face_near`). Without, or if
    nothing is there, it searches the whole frame: first reduced to a long side of at most 700
    pixels, then of 1920, then of twice that. Each step costs ten times the one before, and few
    frames need it.
    """
    face = last and face_near(frame, last)
    if face:
        return face
    small, large = search_scales(frame)
    faces = detect(frame, small, confidence=confidence)
    if not faces and large > small:
        faces = detect(frame, large, confidence=confidence)
    faces = faces or detect(frame, large, doublings=1, confidence=confidence)
    return faces[0] if faces else None


def face_near(frame, last):
    """The largest face in a window around the box `last`, or None.

    The window is two faces wide, and searched at a scale at which that face had about 95 pixels.
    Scales are powers of 5/6, the detector's own steps, and windows begin at multiples of 48 pixels,
    where its cells lie as in the whole frame (8 pixels on its first level, 9.6 on the second): so
    it finds the boxes that it would find there.
    """
    left, top, right, bottom = last
    height, width = frame.shape[:2]
    side = max(right - left, bottom - top)
    scale = (5 / 6) ** max(0, round(math.log(side / 95, 1.2)))
    half = side * scale

    def extent(low, high, size):
        start = max(0, int(((low + high) / 2 * scale - half) / 48) * 48)
        return start, min(int(size * scale), start + math.ceil(2 * half) + 48)

    x0, x1 = extent(left, right, width)
    y0, y1 = extent(top, bottom, height)
    if x1 <= x0 or y1 <= y0:
        return None
    faces = detect(frame, scale, (x0, y0, x1, y1))
    return faces[0] if faces else None


def all_faces(frame):
    """All faces that dlib finds in a frame, the largest first; used by stage 07.

    Unlike in `largest_face`, the larger scale is searched even if the smaller one shows a face: it
    adds the smaller faces of others.
    """
    small, large = search_scales(frame)
    faces = detect(frame, small)
    smaller_faces = detect(frame, large) if large > small else []
    for face in smaller_faces:
        x = (face[0] + face[2]) / 2
        y = (face[1] + face[3]) / 2
        # A face whose center lies inside a known box is the same face.
        if not any(left < x < right and top < y < bottom for left, top, right, bottom in faces):
            faces.append(face)
    return faces or detect(frame, large, doublings=1)


def face_at_mask(frame, mask, last, faces=None):
    """The face that covers most of a mask (`read_masks`), and no less than a quarter; None if none.

    faces: those that MTCNN finds. Without them dlib looks near the box `last`, the face in the
    frame before, then in the whole frame. If there is no mask of this frame, `last` stands for it.
    """
    height, width = frame.shape[:2]

    def inside(box):
        cells = np.rint(np.array(box) * GRID / (width, height, width, height))
        left, top, right, bottom = cells.clip(0, GRID).astype(int)
        return np.s_[top:bottom, left:right]

    if mask is None:
        mask = np.zeros((GRID, GRID))
        mask[inside(last or (0, 0, 0, 0))] = 1

    def share(face):
        return mask[inside(face)].sum() / max(mask.sum(), 1e-9)

    if faces is None:
        near = last and face_near(frame, last)
        faces = [near] if near and share(near) >= 0.25 else all_faces(frame)
    face = max(faces, key=share, default=None)
    return face if face and share(face) >= 0.25 else None


def read_masks(path, wanted, turned):
    """Masks of the frames `wanted` from a video in which forged pixels are white: {number: mask}.

    A mask is GRID x GRID, whatever the size of the video: the share of white pixels in each cell.
    Frames without white pixels are left out. Empty if the video cannot be read.
    """
    masks = {}
    with contextlib.suppress(Unreadable):
        for number, frame in read_frames(path, wanted):
            white = (turn_frame(frame, turned).max(2) > 127).astype(np.float32)
            mask = np.asarray(Image.fromarray(white).resize((GRID, GRID), Image.Resampling.BOX))
            if mask.any():
                masks[number] = mask
    return masks


def search_scales(frame):
    """The scales at which a frame's long side has at most 700, and at most 1920 pixels."""
    steps = [math.log(max(frame.shape[:2]) / side, 1.2) for side in (700, 1920)]
    return [(5 / 6) ** max(0, math.ceil(step - 1e-9)) for step in steps]


def detect(frame, scale, window=None, doublings=0, confidence=0.0):
    """The faces that dlib finds in a frame reduced to `scale`, the largest first.

    `window` limits the search: (left, top, right, bottom) in whole pixels of the reduced frame,
    which dlib doubles `doublings` times. Faces of 80 pixels or more in the result are found.
    """
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = window or (0, 0, max(1, int(width * scale)), max(1, int(height * scale)))
    if scale < 1:
        # Only the piece of the frame under the window is resized.
        left, top = x0 / scale, y0 / scale
        right, bottom = min(width, x1 / scale), min(height, y1 / scale)
        x, y = int(left), int(top)
        image = Image.fromarray(frame[y : math.ceil(bottom), x : math.ceil(right)])
        inner = (left - x, top - y, right - x, bottom - y)
        image = image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, box=inner)
        piece = np.asarray(image)
    else:
        piece = np.ascontiguousarray(frame[y0:y1, x0:x1])
    found = sorted(hog_detector().run(piece, doublings, confidence)[0], key=lambda b: -b.area())
    edges = [(b.left() + x0, b.top() + y0, b.right() + 1 + x0, b.bottom() + 1 + y0) for b in found]
    return [tuple(edge / scale for edge in box) for box in edges]


@cache
def load_mtcnn(device):
    """MTCNN on a device; its weights come with the package. Raises ImportError."""
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    return MTCNN(keep_all=True, device=device)


def check_mtcnn(device):
    """Exit with an error unless MTCNN can be used."""
    try:
        load_mtcnn(device)
    except ImportError as error:
        fail(
            f"the detector MTCNN is not there: {error}. Install it with: pip install requests && "
            "pip install --no-deps facenet-pytorch==2.6.0  (without --no-deps it replaces torch)"
        )


def detect_mtcnn(frames, device, align=None):
    """The faces that MTCNN finds in each of the frames: a list of lists, the largest face first.

    With `align` "landmarks", each box is moved so that its center is the mean of the face's five
    landmarks, eyes, nose and corners of the mouth (CLRNet 5.1.3).
    """
    found = []
    # A batch takes frames of one size.
    for _, batch in groupby(frames, key=lambda frame: frame.shape):
        with warnings.catch_warnings():
            # numpy warns about how facenet-pytorch builds its arrays.
            warnings.simplefilter("ignore")
            images = np.stack(list(batch))
            boxes, _, landmarks = load_mtcnn(device).detect(images, landmarks=True)
        for faces, points in zip(boxes, landmarks):
            if faces is None:
                found.append([])
                continue
            faces = np.asarray(faces, float).reshape(-1, 4)
            if align == "landmarks":
                shift = np.asarray(points, float).mean(1) - (faces[:, :2] + faces[:, 2:]) / 2
                faces = faces + np.tile(shift, 2)
            faces = map(tuple, faces.tolist())
            found.append(sorted(faces, key=lambda b: (b[0] - b[2]) * (b[3] - b[1])))
    return found


def turn_frame(frame, degrees):
    """A frame turned clockwise by 0, 90, 180 or 270 degrees."""
    # dlib refuses strides of a view, even of one pixel, which counts as contiguous.
    return np.rot90(frame, -degrees // 90).copy() if degrees else frame


def find_turn(path, frames, shown, searched, detector, device="cpu"):
    """By how many degrees clockwise a video has to be turned to show faces; 0 if it is upright.

    Videos with a wrong rotation flag are common. Nothing is turned if `shown` of the `searched`
    frames show a face and these are half of them or more. Otherwise three frames are searched as
    they are and turned by 90, 180 and 270 degrees. Turned, half of them or more must show a face,
    and more than as they are: every search can also find a face where there is none. dlib must be
    sure of it: in three frames each of twelve real clips its confidence in faces was 0.65 to 3.4,
    and in what it took for faces where a frame was turned, or in diagrams, at most 0.44.
    """
    if 2 * shown >= searched:
        return 0
    faces = Counter()
    looked = 0
    with contextlib.suppress(Unreadable):
        for _, frame in read_frames(path, sorted({(2 * k + 1) * frames // 6 for k in range(3)})):
            looked += 1
            for degrees in (0, 90, 180, 270):
                image = turn_frame(frame, degrees)
                mtcnn = detector == "mtcnn"
                face = detect_mtcnn([image], device)[0] if mtcnn else largest_face(image, None, 0.5)
                faces[degrees] += bool(face)
    degrees = max((90, 180, 270), key=lambda degrees: faces[degrees])
    enough = 2 * faces[degrees] >= looked and faces[degrees] > faces[0]
    return degrees if enough else 0

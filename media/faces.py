"""Which frames of a video are taken, and how a face is cropped. Used by stages 01 and 07."""

import io
import zlib
from collections import Counter

import numpy as np
from PIL import Image

from media.detectors import turn_frame
from media.video import read_frames


def equal_intervals(frames, count):
    """Numbers of `count` frames at equal intervals: the middles of `count` equal parts of a video.

    Where the video has no more than `count` frames, all of them.
    """
    if frames <= count:
        return list(range(frames))
    return [int((k + 0.5) * frames / count) for k in range(count)]


def clip_starts(frames, clips, length):
    """First frames of up to `clips` clips of `length` frames, spread evenly over `frames` frames.

    Clips lie in the middle of equal parts of the video and never overlap.
    """
    clips = min(clips, frames // length)
    return [int(k * frames / clips + (frames / clips - length) / 2) for k in range(clips)]


def clip_starts_in_runs(numbers, clips, length):
    """As `clip_starts`, where frames may be missing: a clip has frames of consecutive numbers.

    numbers: the numbers of the frames, rising. Returns positions in them. Each run of consecutive
    numbers gets its share of the clips.
    """
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    firsts = [0, *breaks.tolist()]
    lengths = np.diff([*firsts, len(numbers)]).tolist()
    slots = [k for k, frames in enumerate(lengths) for _ in range(frames // length)]
    share = Counter(slots[k] for k in equal_intervals(len(slots), clips))
    return [
        first + start
        for k, (first, frames) in enumerate(zip(firsts, lengths))
        for start in clip_starts(frames, share[k], length)
    ]


def read_clips(path, wanted, length, detector, turned, sizes, warnings):
    """Yield the clips of a video in groups: a clip is `length` pairs (number, frame).

    dlib gets one clip at a time, to look where the last face was. MTCNN gets groups of clips, of
    which one frame each makes at most 16 million pixels. Clips that lack a frame are left out.
    Frames are turned clockwise by `turned` degrees. `sizes` becomes {number: (width, height)} of
    the frames that were decoded.
    """
    starts = set(wanted[::length])
    clip = []
    group = []
    for number, frame in read_frames(path, wanted, warnings):
        frame = turn_frame(frame, turned)
        height, width = frame.shape[:2]
        sizes[number] = (width, height)
        if clip and number != clip[-1][0] + 1:
            clip = []
        if clip or number in starts:
            clip.append((number, frame))
        if len(clip) == length:
            group.append(clip)
            clip = []
            if detector != "mtcnn" or (len(group) + 1) * height * width > 16e6:
                yield group
                group = []
    if group:
        yield group


def square_box(box, scale, width, height):
    """A square around a box's center, its side `scale` times the longer side of the box.

    It is moved, and if need be shrunk, to lie inside the frame (FeatureTransfer 3.3: 1.2 times).
    Returns whole pixels (left, top, right, bottom), right and bottom exclusive.
    """
    left, top, right, bottom = box
    side = max(1, min(round(scale * max(right - left, bottom - top)), width, height))
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, x + side, y + side


def crop_face(frame, box, size=None):
    """The part of a frame, (height, width, 3) uint8, inside a box as an image.

    With `size`, it is resized bicubically to size x size pixels.
    """
    left, top, right, bottom = box
    image = Image.fromarray(frame[top:bottom, left:right])
    return image.resize((size, size), Image.Resampling.BICUBIC) if size else image


def save_crop(image, file, format):
    """Save an image to a path or open file as "png", or as "jpg" with quality 95."""
    if format == "png":
        # Lossless, and as fast as zlib can be.
        image.save(file, "png", compress_level=1, compress_type=zlib.Z_RLE)
    else:
        image.save(file, "jpeg", quality=95, subsampling=0)


def crop(frames, box, plan):
    """The crops of a face as a network is given them, from T frames: (T, S, S, 3) uint8.

    `box`: None where each frame is a ready crop.

    They take the same steps as in stage 01 and in the loading of images for training: crop, resize
    where 01 did, compress where it saved JPEG files, and resize to S,
    plan["image_size"].
    """
    input_size = (plan["image_size"], plan["image_size"])
    crops = []
    for frame in frames:
        image = crop_face(frame, box or (0, 0, *frame.shape[1::-1]), plan["size"])
        if plan["format"] == "jpg":
            file = io.BytesIO()
            save_crop(image, file, "jpg")
            image = Image.open(file).convert("RGB")
        if image.size != input_size:
            image = image.resize(input_size, Image.Resampling.BICUBIC)
        crops.append(np.asarray(image))
    return np.stack(crops)

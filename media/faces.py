"""Which frames of a video are taken, and how a face is cropped. Used by stages 01 and 07."""

import io
import zlib

import numpy as np
from PIL import Image


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


def save_crop(image, file, format, quality):
    """Save an image to a path or open file, as "png" or as "jpg" with `quality` from 1 to 95."""
    if format == "png":
        # Lossless, and as fast as zlib can be.
        image.save(file, "png", compress_level=1, compress_type=zlib.Z_RLE)
    else:
        image.save(file, "jpeg", quality=quality, subsampling=0)


def crop(frames, box, plan):
    """The crops of a face as a network is given them, from T frames: (T, S, S, 3) uint8.

    They take the same steps as in stage 01 and in the loading of images for training: crop, resize
    where clips are taken, compress where 01 saved JPEG files, and resize to S, plan["image_size"].
    """
    size = plan["size"] if plan["sampling"] == "clips" else None
    input_size = (plan["image_size"], plan["image_size"])
    crops = []
    for frame in frames:
        image = crop_face(frame, box, size)
        if plan["format"] == "jpg":
            file = io.BytesIO()
            save_crop(image, file, "jpg", plan["jpg_quality"])
            image = Image.open(file).convert("RGB")
        if image.size != input_size:
            image = image.resize(input_size, Image.Resampling.BICUBIC)
        crops.append(np.asarray(image))
    return np.stack(crops)

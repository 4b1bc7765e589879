"""Which frames, and the crop of a face."""

import io

import numpy as np
from PIL import Image


def equal_intervals(frames, count):
    """`count` frame numbers at equal intervals among `frames` frames; all of them where there are fewer."""
    return (
        list(range(frames))
        if frames <= count
        else [int((k + 0.5) * frames / count) for k in range(count)]
    )


def clip_starts(frames, clips, length):
    """First frames of up to `clips` clips of `length` frames, spread over `frames` frames, never overlapping."""
    clips = min(clips, frames // length)
    return [int(k * frames / clips + (frames / clips - length) / 2) for k in range(clips)]


def square_box(box, scale, width, height):
    """A square of `scale` times the longer side around the box's centre, moved and if need be shrunk into the frame.

    Returns whole pixels (left, top, right, bottom), right and bottom exclusive (FeatureTransfer 3.3: 1.2 times).
    """
    left, top, right, bottom = box
    side = max(1, min(round(scale * max(right - left, bottom - top)), width, height))
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, x + side, y + side


def crop(frames, box, plan):
    """The crop of each frame as its network takes it: uint8 (T, S, S, 3), in the steps of stage 01 and of the training's loader."""
    images = []
    for frame in frames:
        image = Image.fromarray(frame[box[1] : box[3], box[0] : box[2]])
        if plan["sampling"] == "clips":
            image = image.resize((plan["size"],) * 2, Image.Resampling.BICUBIC)
        if plan["format"] == "jpg":
            file = io.BytesIO()
            image.save(file, "jpeg", quality=plan["jpg_quality"], subsampling=0)
            image = Image.open(file).convert("RGB")
        if image.size != (plan["image_size"],) * 2:
            image = image.resize((plan["image_size"],) * 2, Image.Resampling.BICUBIC)
        images.append(np.asarray(image))
    return np.stack(images)

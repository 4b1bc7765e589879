"""Photos and folders of images, read by Pillow.

A photo is a video of one frame, an animated PNG or WebP one of its frames (ffmpeg reads GIF), and
so is a folder of images: VidTIMIT ships its videos so, and other data sets their crops.
"""

import contextlib
import os
import re
import struct
import time
import warnings
import zlib
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

# How the names of photos end.
PHOTO_ENDINGS = set(".jpg .jpeg .jfif .png .webp .bmp .tif .tiff .heic .heif".split())
# The formats Pillow may recognize, whatever a file is called. Its other decoders are little used,
# and one starts a program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# Formats of which all frames are taken. Others hold previews or pages beside the picture.
ANIMATED = ("PNG", "WEBP")
HEIC_BRANDS = (b"hei", b"hev", b"mif1", b"msf1")
# The first bytes of JPEG, PNG, BMP and TIFF files.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
# What Pillow's decoders raise over damaged files.
PILLOW_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError),
    *(AttributeError, AssertionError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
# Photos with more pixels (8192 x 8192) are refused, and so are files of more bytes: a small file
# can claim any number of pixels, of which each takes up to 18 bytes of memory.
MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 30
# A JPEG file can ask its decoder for any number of passes over the picture; common are 1 to 10.
MAX_SCANS = 500
# How pixels become upright, a PIL.Image.Transpose, by EXIF orientation. (ImageOps.exif_transpose
# also writes the EXIF block anew, which may be damaged.)
UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


class Unreadable(Exception):
    """Raised for a video or photo that cannot be read; the message is the reason."""


def is_photo(path):
    """Whether Pillow reads a file: it begins as an image, or is named as one and is no GIF."""
    is_named = Path(path).suffix.lower() in PHOTO_ENDINGS
    return is_image(path) or (is_named and not first_bytes(path).startswith(b"GIF8"))


def first_bytes(path):
    """The first 12 bytes of a file; none if it cannot be read."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(12)
    return b""


@contextlib.contextmanager
def pillow_errors():
    """Raise Unreadable for whatever Pillow raises, and silence its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.UnidentifiedImageError:
            raise Unreadable("not an image of a known format")
        except PILLOW_ERRORS as error:
            text = ascii(f"{type(error).__name__}: {error}")[1:-1]
            raise Unreadable(f"Pillow cannot read it ({text[:150]})")


def open_photo(path):
    """Open an image file without decoding its pixels: a Pillow image. Raises Unreadable."""
    try:
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise Unreadable(f"an image of {size} bytes; at most {MAX_BYTES} are read")
        data = Path(path).read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror)
    formats = FORMATS
    if data[4:8] == b"ftyp" and data[8:12].startswith(HEIC_BRANDS):
        formats = ("HEIF",)
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise Unreadable("a HEIC photo: to read it, install pillow-heif with pip")
        register_heif_opener()
    with pillow_errors():
        image = Image.open(BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} are more than {MAX_PIXELS} pixels")
    # The mark of a scan also occurs by chance, about once in 65,536 bytes, in a clip that phones
    # append to a photo.
    scans = data.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans > MAX_SCANS + len(data) // 32768:
        raise Unreadable(f"a JPEG image in {scans} scans; at most {MAX_SCANS} are decoded")
    return image


@pillow_errors()
def decode(image):
    """The pixels of an opened image, upright by EXIF: (height, width, 3) uint8.

    Transparent parts become white, and of 16 bits the upper 8 are kept.
    """
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except PILLOW_ERRORS:  # a damaged EXIF block says nothing about the pixels
        turn = None
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode})")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if turn is not None:
        image = image.transpose(turn)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def count_images(path):
    """The number of images in a folder, or of frames of a photo. Raises Unreadable."""
    if os.path.isdir(path):
        frames = len(image_files(path))
        if not frames:
            raise Unreadable("a folder without images")
        return frames
    image = open_photo(path)
    with pillow_errors():
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    # A PNG may claim any number of frames. Each takes 32 bytes or more.
    return min(frames, 1 + os.path.getsize(path) // 32)


def read_images(path, wanted):
    """As `media.video.read_frames`, for a photo or a folder of images.

    Images of a folder that cannot be read are left out, and so is the rest of an animated image
    from the first frame on that cannot be read.
    """
    came = 0
    try:
        frames = read_folder(path, wanted) if path.is_dir() else read_photo(path, set(wanted))
        for came, (number, frame) in enumerate(frames, 1):
            yield number, frame
    except Unreadable:
        if not came:
            raise
    if not came:
        raise Unreadable("none of its images can be read")


def read_folder(folder, wanted):
    files = image_files(folder)
    for number in wanted:
        with contextlib.suppress(Unreadable):
            frame = decode(open_photo(files[number]))
            yield number, frame


def read_photo(path, wanted):
    image = open_photo(path)
    start = time.monotonic()
    for number in range(max(wanted) + 1):
        # A frame is drawn over the one before, so none can be skipped.
        with pillow_errors():
            image.seek(number)
        if number in wanted:
            yield number, decode(image)
        if time.monotonic() - start > 60 + 0.5 * number:
            raise Unreadable(f"decoding {number + 1} frames took longer than a minute")


def image_files(folder):
    """The images directly in a folder, recognized by their content: paths, 2 before 10.

    VidTIMIT's images have no file ending.
    """

    def natural_order(path):
        parts = re.split("([0-9]+)", path.name)
        return [int(part) if k % 2 else part for k, part in enumerate(parts)]

    return sorted(filter(is_image, Path(folder).iterdir()), key=natural_order)


def is_image(path):
    """Whether a file begins as an image does."""
    start = first_bytes(path)
    return start.startswith(SIGNATURES) or start[8:] == b"WEBP"


def image_numbers(folder):
    """The frame numbers in the names of the images of a folder: rising whole numbers.

    The last number in a name counts: 12 in c23_0012.png. It is the first in names of a frame and a
    person: fr001_subj0.jpg, or 10_0.png where the last numbers do not rise. Raises Unreadable if a
    name has no number or the numbers do not rise, which those of several people do not.
    """
    files = image_files(folder)
    digits = [re.findall("[0-9]+", path.stem) for path in files]
    last = [int(numbers[-1]) if numbers else 0 for numbers in digits]
    pattern = "[a-z]*[0-9]+_(subj|face|person|id)[0-9]+"
    if any(number <= before for before, number in pairwise(last)):
        pattern += "|[0-9]+_[0-9]+"
    has_people = all(re.fullmatch(pattern, path.stem, re.IGNORECASE) for path in files)
    frames = []
    for path, numbers in zip(files, digits):
        name = ascii(path.name)[:80]
        number = (numbers or [""])[0 if has_people else -1]
        # index.csv is read as int64.
        if not 0 < len(number) <= 18:
            raise Unreadable(f"no frame number in the name {name}: name crops FRAME.png")
        if frames and int(number) <= frames[-1]:
            raise Unreadable(
                f"the frame numbers do not rise: {frames[-1]}, then {name}; name crops FRAME.png, "
                "and give each person a folder"
            )
        frames.append(int(number))
    return frames

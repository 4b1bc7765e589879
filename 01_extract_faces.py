#!/usr/bin/env python3
"""Stage 01: find the face in the frames of every video of a data set and save the crops.

    python 01_extract_faces.py --layout ffpp --videos DIR --method Deepfakes --compression c23 --out faces/FF-DF
    python 01_extract_faces.py --layout celebdf --videos DIR --out faces/Celeb-DF
    python 01_extract_faces.py --list videos.csv --random-split 60 20 20 --sampling clips --out faces/MINE-clips
    python 01_extract_faces.py --layout celebdf --videos DIR --crf 23 40 --out faces/Celeb-DF        # faces/Celeb-DF-crf23 and -crf40

What comes out, in OUT:

    VIDEO/FRAME.png   the crops of one video, and faces.json, what was found in it
    index.csv         path, video, frame, clip, label, method, split, the crop's box in pixels of the frame, and how many warnings of
                      damage ffmpeg gave while it decoded the video (it ends with success on damaged streams)
    skipped.csv       video, frame, reason: frames without a face; frame is empty where the whole video is missing
    videos.csv        one row a video: where it came from, its frames' size, how many faces it gave and how many were asked for,
                      ffmpeg's warnings, their number and the first

Layouts (layouts.py has one function each; every layout prints what it found beside what the data set should hold):

    folders       [train|val|test/]real/**  and  [train|val|test/]fake/**; a folder inside fake/ names the method
    ffpp          FaceForensics++; splits from train.json, val.json, test.json in DIR or DIR/splits
    dfd           DeepFakeDetection, in the same tree as FaceForensics++; no splits
    celebdf       Celeb-DF v1 or v2; List_of_testing_videos.txt is the test split, the rest train
    dfdc          DFDC; all parts below DIR with their metadata.json, the public test set with its labels.csv
    dfdc-preview  DFDC-Preview with its dataset.json
    dftimit       DeepfakeTIMIT at --quality lq or hq, and --vidtimit for the originals' image folders; no splits
    --list        a CSV with the columns path (relative to the CSV), label (0 = real, 1 = fake), and if you like method, split

Splits never share a video, an original or a pair of swapped people: what would leak loses its split, with a warning.

Deviations from the papers (theirs -> ours):

    detector            MTCNN (FeatureTransfer 3.3, CLRNet 5.1.3) -> dlib's HOG detector, as a wheel on every system; --detector mtcnn
    alignment           CLRNet 5.1.3 aligns by landmarks -> the box is centred on the detected face; no rotation
    box                 expanded 1.2 times (FeatureTransfer 3.3) -> the same, made square and moved into the frame
    several faces       not said -> dlib: the largest of the first frame, then the one near where the last was found; MTCNN: the largest of each frame
    fakes' boxes        detected as the originals' are -> the same; --boxes-from takes the originals' boxes, which is ours
    "equal intervals"   not said where they start -> the middle of each of N equal parts of the video
    compression         the sets' own; others are CLRNet's future work (7) -> --crf: H.264 by x264's constant rate factor, preset medium, 4:2:0
    splits in order     750, 125, 125 of FF++ (CLRNet 5) -> the same; a fake whose pair of people is in two splits leaves the earlier one
    pixels not square   not said -> the frame as a player shows it (OpenCV, which most code reads videos with, shows it squeezed)
    clips of a video    16 x 5 (CLRNet 5.1.3), place not said -> the middle of each of 16 equal parts, never overlapping;
                        one box a clip, so that the face does not jump where the detector does
"""

import copy
import errno
import json
import math
import os
import re
import shutil
import subprocess
import threading
import warnings
import zlib
from collections import Counter
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from common import (
    INDEX_COLUMNS,
    RANK,
    WORLD,
    Parser,
    add_system_arguments,
    choose_device,
    fail,
    progress,
    read_index,
    read_table,
    run_script,
    start_run,
    wait_for_all,
    worker_pool,
    write_table,
)
from media import layouts

# What ffmpeg may take a file for. Playlists and scripts are left out: they would make it open other files.
MAX_PIXELS = 1 << 27  # a frame; 16384 x 8192. Larger ones are refused, not held
MAX_WARNINGS = 1000  # of a video that are counted
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,h264,hevc,m4v,mjpeg,mxf,ivf,dv,rm,nut,wtv"


# ---------------------------------------------------------------- which frames of a video


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


# ---------------------------------------------------------------- decoding


class Unreadable(Exception):
    """A video that ffmpeg cannot read; the message is the reason."""


def ffmpeg_command(path, *options):
    """ffmpeg on one local file: one thread, errors only, no other file and no network, whatever the name looks like."""
    import imageio_ffmpeg

    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-nostdin",
        "-v",
        "error",
        "-threads",
        "1",
        "-protocol_whitelist",
        "file",
        "-format_whitelist",
        CONTAINERS,
        "-max_pixels",
        str(MAX_PIXELS),
        "-i",
        f"file:{os.path.abspath(path)}",
        "-map",
        "0:V:0",
        *options,
    ]


def plain(message):
    """A message of ffmpeg's (bytes) as one line of plain text, without the addresses that differ from run to run."""
    text = re.sub(rb"\[[^\]]* @ 0x[0-9a-f]+\] ", b"", message).decode("utf-8", "replace").strip()
    return ascii(re.sub(r"file:.*/", "", text))[1:-1][:200]


def reason(messages):
    """Why a video cannot be read, from ffmpeg's messages (a list of bytes): its first, with what it means where that is not plain."""
    first = next((text for text in map(plain, messages) if text), "ffmpeg gave no reason")
    if "matches no streams" in first:
        return "no picture stream in it"
    if "moov atom not found" in first:
        return "not a video, or cut off: its index is missing (moov atom not found)"
    if "Invalid data found when processing input" in first or "Error opening input" in first:
        return f"not a video that ffmpeg knows ({first})"
    return first


def count_frames(path, with_seconds=False):
    """Number of frames (packets, without decoding them) of a video's first picture stream, or images in a folder. Raises Unreadable.

    `with_seconds`: (frames, the video's length in seconds, 0 where it is not known).
    """
    try:
        if path.is_dir():
            if not layouts.image_files(path):
                raise Unreadable("a folder without images")
            return (
                (len(layouts.image_files(path)), 0.0)
                if with_seconds
                else len(layouts.image_files(path))
            )
        if not os.path.getsize(path):
            raise Unreadable("an empty file")
        limit = 60 + os.path.getsize(path) / 5e6  # seconds
    except OSError as error:
        raise Unreadable(error.strerror)
    try:
        done = subprocess.run(
            ffmpeg_command(path, "-c", "copy", "-f", "null", "-progress", "pipe:1", "-"),
            capture_output=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"counting its frames took longer than {limit:.0f} s")
    counts = re.findall(rb"^frame=\s*(\d+)", done.stdout, re.MULTILINE)
    if not counts or not int(counts[-1]):
        raise Unreadable(
            reason(done.stderr.splitlines())
            if done.stderr
            else "no picture stream with frames in it"
        )
    seconds = re.findall(rb"^out_time_us=(\d+)", done.stdout, re.MULTILINE)
    return (
        (int(counts[-1]), int(seconds[-1]) / 1e6 if seconds else 0.0)
        if with_seconds
        else int(counts[-1])
    )


def recode(path, crf, file, warnings):
    """Encode a video anew as H.264 with constant rate factor `crf` into `file`, frame by frame as it is shown. Raises Unreadable.

    ffmpeg's warnings are appended to `warnings`. Sides become even, colour 4:2:0, which is what players and platforms take.
    """
    if path.is_dir():
        raise Unreadable("a folder of images is not re-encoded")
    limit = 60 + 2 * count_frames(path)  # seconds
    try:
        done = subprocess.run(
            ffmpeg_command(
                path,
                "-vf",
                "scale=trunc(iw/2)*2:trunc(ih/2)*2",
                "-c:v",
                "libx264",
                "-crf",
                str(crf),
                "-preset",
                "medium",
                "-pix_fmt",
                "yuv420p",
                "-threads",
                "1",
                "-filter_threads",
                "1",
                "-fps_mode",
                "passthrough",
                "-an",
                "-y",
                file,
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise Unreadable(f"encoding it took longer than {limit} s")
    messages = done.stderr.splitlines()
    if any(b"No space left" in message for message in messages) or (
        done.returncode and shutil.disk_usage(file.parent).free < 1 << 20
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))
    if done.returncode or not os.path.exists(file):
        raise Unreadable(reason(messages))
    warnings += list(filter(None, map(plain, messages[:MAX_WARNINGS])))


def read_images(folder, wanted):
    """The same as `read_frames` for a folder of images; one that cannot be read does not come."""
    files, came = layouts.image_files(folder), 0
    for number in wanted:
        try:
            with Image.open(files[number]) as image:
                frame = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        came += 1
        yield number, frame
    if not came:
        raise Unreadable("none of its images can be read")


def read_frames(path, wanted, warnings=None):
    """Decode a video and yield (number, frame) for the frame numbers in `wanted` (rising): (height, width, 3) uint8 RGB.

    Only the wanted frames are converted and leave ffmpeg, as PPM, which carries its own size: rotated phone videos
    come the right way up, and nothing has to be read from ffmpeg's messages. Those, the first MAX_WARNINGS of them, are
    appended to the list `warnings` as text. Raises Unreadable if no frame comes.
    """
    if path.is_dir():
        yield from read_images(path, wanted)
        return
    runs = []  # 7, 8, 9, 20 -> [7, 9], [20, 20]
    for n in wanted:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])

    def any_of(runs):  # a balanced tree: ffmpeg takes 100 levels, not 150 terms
        half = len(runs) // 2
        return (
            f"({any_of(runs[:half])}+{any_of(runs[half:])})"
            if half
            else f"between(n,{runs[0][0]},{runs[0][1]})"
        )

    # Pixels that are not square, up to 4 times as wide as high or the other way round, become square.
    # bilinear: where chroma is not halved, ffmpeg's default costs twice as much for the same pixels.
    filters = f"select='{any_of(runs)}',scale=w='trunc(iw*if(between(sar,0.25,4),sar,1)+0.5)':h=ih:flags=bilinear"
    command = ffmpeg_command(
        path,
        "-vf",
        filters,
        "-fps_mode",
        "passthrough",
        "-frames:v",
        str(len(wanted)),
        "-filter_threads",
        "1",
        "-sws_flags",
        "bilinear",
        "-f",
        "image2pipe",
        "-c:v",
        "ppm",
        "-pix_fmt",
        "rgb24",
        "pipe:1",
    )
    came, late, messages = 0, False, []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=1 << 20
    )

    def listen():
        for line in iter(lambda: process.stderr.readline(1000), b""):
            if len(messages) < MAX_WARNINGS:
                messages.append(line)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        for k, number in enumerate(wanted):
            limit = 60 + 0.5 * (
                number - (wanted[k - 1] if k else 0)
            )  # seconds to decode up to the next wanted frame

            def give_up():
                nonlocal late
                late = True
                process.kill()

            timer = threading.Timer(limit, give_up)
            timer.start()
            try:
                if process.stdout.readline() != b"P6\n":
                    break
                width, height = (int(v) for v in process.stdout.readline().split())
                process.stdout.readline()
                data = process.stdout.read(width * height * 3)
            finally:
                timer.cancel()
            if len(data) < width * height * 3:
                break
            came += 1
            yield number, np.frombuffer(data, np.uint8).reshape(height, width, 3)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        listener.join()
        process.stderr.close()
        if warnings is not None:
            warnings += filter(None, map(plain, messages))
    if not came:
        raise Unreadable(f"no frame within {limit:.0f} s" if late else reason(messages))


# ---------------------------------------------------------------- the face

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


def faces_mtcnn(frames, device):
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


def square_box(box, scale, width, height):
    """A square of `scale` times the longer side around the box's centre, moved and if need be shrunk into the frame.

    Returns whole pixels (left, top, right, bottom), right and bottom exclusive (FeatureTransfer 3.3: 1.2 times).
    """
    left, top, right, bottom = box
    side = max(1, min(round(scale * max(right - left, bottom - top)), width, height))
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, x + side, y + side


def read_boxes(folder):
    """The crops' boxes of the originals in a folder of stage 01: {original: (width, height, {frame: box or None})}.

    None stands for a frame in which no face was found. Ends the script if the folder holds no originals.
    """
    sides = ("left", "top", "right", "bottom")
    index = read_index(folder, also=sides)
    table = read_table(
        folder / "videos.csv",
        ("video", "label", "original", "width", "height"),
        {"width": (int, "0"), "height": (int, "0")},
    )
    boxes = {
        video: (original, int(w), int(h), {})
        for video, label, original, w, h in zip(
            table["video"], table["label"], table["original"], table["width"], table["height"]
        )
        if label == "0" and original
    }
    for video, frame, *box in zip(
        index["video"], index["frame"].tolist(), *(index[side].tolist() for side in sides)
    ):
        if video in boxes:
            boxes[video][3][frame] = tuple(box)
    skipped = read_table(folder / "skipped.csv", ("video", "frame"))
    for video, frame in zip(skipped["video"], skipped["frame"]):
        if video in boxes and frame.isdecimal():
            boxes[video][3].setdefault(int(frame), None)
    if not boxes:
        fail(
            f"{folder} holds no originals of FaceForensics++ or DFD: make it with --layout ffpp --method originals, or --layout dfd"
        )
    return {original: tuple(rest) for original, *rest in boxes.values()}


# ---------------------------------------------------------------- one video


def extract_video(video, out, settings):
    """Write the crops of one video to OUT/NAME, with faces.json: all at once, by renaming the finished folder."""
    part, rows, skipped, damage, size, last = (
        out / f".part-{video['name']}",
        [],
        [],
        [],
        (0, 0),
        None,
    )
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    frames_only, length = (
        settings["sampling"] == "frames",
        1 if settings["sampling"] == "frames" else settings["clip_length"],
    )
    middle_first = sorted(range(length), key=lambda k: (abs(k - length // 2), k))

    def near(image):
        """The face near the one that was found last in this video."""
        nonlocal last
        face = largest_face(image, last)
        last = face or last
        return face

    def choose_boxes(group):
        """One box for each clip (or frame: a clip of one) of a group, or None; the middle frame decides, then its neighbours."""
        if "boxes" in video:  # of the original: its nearest sampled frame
            width, height, known = video["boxes"]
            if (width, height) != size:
                raise Unreadable(
                    f"its frames are {size[0]} x {size[1]}, its original's {width} x {height}: boxes do not carry over"
                )
            return [
                known[min(known, key=lambda n: (abs(n - clip[length // 2][0]), n))]
                if known
                else None
                for clip in group
            ]
        boxes = [None] * len(group)
        for k in middle_first:
            open_ = [c for c, box in enumerate(boxes) if box is None]
            images = [group[c][k][1] for c in open_]
            if settings["detector"] == "dlib":
                found = [near(image) for image in images]
            else:
                found = (
                    [
                        faces[0] if faces else None
                        for faces in faces_mtcnn(images, settings["device"])
                    ]
                    if images
                    else ()
                )
            for c, face in zip(open_, found):
                boxes[c] = face and square_box(
                    face, settings["scale"], *group[c][k][1].shape[1::-1]
                )
        return boxes

    def save(group):
        for clip, box in zip(group, choose_boxes(group)):
            for number, frame in clip:
                if box is None:
                    skipped.append(
                        [
                            number,
                            "no face found"
                            + (
                                " in its original"
                                if "boxes" in video
                                else ""
                                if frames_only
                                else " in its clip"
                            ),
                        ]
                    )
                    continue
                image = Image.fromarray(frame[box[1] : box[3], box[0] : box[2]])
                image = (
                    image
                    if frames_only
                    else image.resize((settings["size"],) * 2, Image.Resampling.BICUBIC)
                )
                name = f"{number:06d}.{settings['format']}"
                image.save(
                    part / name,
                    **(
                        dict(quality=settings["jpg_quality"], subsampling=0)
                        if settings["format"] == "jpg"
                        else dict(compress_level=1, compress_type=zlib.Z_RLE)
                    ),
                )
                rows.append(
                    [
                        f"{video['name']}/{name}",
                        number,
                        "" if frames_only else starts.index(clip[0][0]),
                        *box,
                    ]
                )

    try:
        if not os.path.isfile(video["path"]) and not os.path.isdir(video["path"]):
            raise Unreadable("no such file")
        if video.get("boxes", True) is None:
            raise Unreadable(
                f"its original {video['original']} is not in the folder of --boxes-from"
            )
        path = video["path"]
        if settings["crf"] is not None:
            path = part / "recoded.mp4"
            recode(video["path"], settings["crf"], path, damage)
        frames = count_frames(path)
        starts = (
            equal_intervals(frames, video["asked"])
            if frames_only
            else clip_starts(frames, video["asked"] // length, length)
        )
        wanted = [start + k for start in starts for k in range(length)]
        if not wanted:
            raise Unreadable(f"{frames} frames are too few for a clip of {length}")
        seen, clip, group = set(), [], []
        for number, frame in read_frames(path, wanted, damage):
            size = size if seen else frame.shape[1::-1]
            seen.add(number)
            if clip and number != clip[-1][0] + 1:  # an image of the clip did not come
                clip = []
            if clip or number in starts:
                clip.append((number, frame))
            if len(clip) == length:
                group.append(clip)
                clip = []
                # MTCNN takes as many frames at once as make 16 million pixels; dlib takes one.
                if (
                    settings["detector"] == "dlib"
                    or (len(group) + 1) * frame.shape[0] * frame.shape[1] > 16e6
                ):
                    save(group)
                    group = []
        save(group)
        done = {row[1] for row in rows} | {number for number, _ in skipped}
        skipped += [
            [
                number,
                "its clip could not be decoded whole" if number in seen else "could not be decoded",
            ]
            for number in wanted
            if number not in done
        ]
        if not rows:
            skipped = [["", f"no face found in {len(skipped)} frames"]]
    except Unreadable as error:
        skipped = [["", f"unreadable: {error}"]]
    except (
        ValueError,
        RuntimeError,
        MemoryError,
    ) as error:  # of Pillow, dlib or MTCNN; one video never ends a run
        for image in part.iterdir():
            image.unlink()
        rows, skipped = [], [["", ascii(f"failed: {type(error).__name__}: {error}")[1:-1]]]
    (part / "recoded.mp4").unlink(missing_ok=True)
    record = dict(
        rows=rows,
        skipped=sorted(skipped),
        size=size,
        warnings=len(damage),
        first_warning=damage[0] if damage else "",
    )
    (part / "faces.json").write_text(json.dumps(record) + "\n")
    shutil.rmtree(out / video["name"], ignore_errors=True)
    os.rename(part, out / video["name"])


def read_record(out, video):
    """What an earlier run found in a video (faces.json), or None if it has to be done: it was not, or images of it have gone."""
    try:
        record = json.loads((out / video["name"] / "faces.json").read_text())
        there = set(os.listdir(out / video["name"])) - {"faces.json"}
        return record if there == {os.path.basename(row[0]) for row in record["rows"]} else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def main():
    parser = Parser(
        __doc__, usage="%(prog)s (--layout NAME --videos DIR | --list CSV) --out DIR [options]"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--layout",
        choices=("folders", "ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit"),
        help="how the data set lies on disk, see below",
    )
    data.add_argument("--videos", type=Path, metavar="DIR", help="the data set's folder")
    data.add_argument(
        "--list", type=Path, metavar="CSV", help="instead of both: a CSV of videos, see below"
    )
    data.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="ffpp: manipulation methods to take beside the originals (default: all; originals: none)",
    )
    data.add_argument(
        "--compression",
        choices=("raw", "c23", "c40"),
        default="c23",
        help="ffpp, dfd: compression (default c23)",
    )
    data.add_argument(
        "--quality",
        choices=("lq", "hq"),
        default="lq",
        help="dftimit: lower_quality or higher_quality (default lq)",
    )
    data.add_argument(
        "--vidtimit",
        type=Path,
        metavar="DIR",
        help="dftimit: VidTIMIT's folder, searched for the originals (default: --videos)",
    )
    data.add_argument(
        "--random-split",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VAL", "TEST"),
        help="draw the splits by --seed in this proportion, over videos; what has the same original or people stays together",
    )
    data.add_argument(
        "--split-in-order",
        nargs=3,
        type=int,
        metavar=("TRAIN", "VAL", "TEST"),
        help="the first TRAIN originals by name are train, and so on, fakes with their originals (CLRNet, FF++: 750 125 125)",
    )
    data.add_argument(
        "--split-draw",
        nargs=3,
        type=int,
        metavar=("TRAIN", "VAL", "TEST"),
        help="draw so many real and so many fake videos by --seed, and leave out the rest (CLRNet, DFD: 250 25 25)",
    )
    data.add_argument(
        "--boxes-from",
        type=Path,
        metavar="FACES",
        help="ffpp, dfd: take the boxes of the originals in this folder of stage 01, for the originals and for the fakes made from "
        "them: both are cropped alike, and nothing is detected twice (not in the paper)",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write to, e.g. faces/FF-DF",
    )
    what = parser.add_argument_group("sampling")
    what.add_argument(
        "--sampling",
        choices=("frames", "clips"),
        default="frames",
        help="frames: single frames at equal intervals (FeatureTransfer); clips: consecutive frames (CLRNet)",
    )
    what.add_argument(
        "--num-frames", type=int, default=30, metavar="N", help="frames a video (default 30)"
    )
    what.add_argument(
        "--num-frames-real",
        type=int,
        metavar="N",
        help="frames a real video, if other than --num-frames; 150 for the pretraining set DFDC-F",
    )
    what.add_argument(
        "--num-clips", type=int, default=16, metavar="N", help="clips a video (default 16)"
    )
    what.add_argument(
        "--clip-length",
        type=int,
        default=5,
        metavar="T",
        help="consecutive frames a clip (default 5)",
    )
    what.add_argument(
        "--crf",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="encode every video anew first, once for each constant rate factor (0 to 51; 23 and 40 are FaceForensics++'s), into OUT-crfN",
    )
    crop = parser.add_argument_group("crops")
    crop.add_argument(
        "--detector",
        choices=("dlib", "mtcnn"),
        default="dlib",
        help="dlib: its HOG detector (default); mtcnn: the papers', through "
        "facenet-pytorch, which is to be installed separately",
    )
    crop.add_argument(
        "--scale",
        type=float,
        default=1.2,
        metavar="FACTOR",
        help="side of the crop in sides of the detected box (default 1.2)",
    )
    crop.add_argument(
        "--size",
        type=int,
        default=240,
        metavar="PIXELS",
        help="clips: side to resize to (default 240); frames keep their own size",
    )
    crop.add_argument(
        "--format",
        choices=("png", "jpg"),
        default="png",
        help="png adds no second compression (default)",
    )
    crop.add_argument(
        "--jpg-quality",
        type=int,
        default=95,
        metavar="N",
        help="quality of jpg, 1 to 95 (default 95)",
    )
    add_system_arguments(parser, workers="processes, one thread each", seed=True, device=True)
    args = parser.parse_args()

    if bool(args.list) == bool(args.layout) or bool(args.layout) != bool(args.videos):
        fail("give either --layout and --videos, or --list")
    if (
        min(
            args.num_frames,
            args.num_frames_real or 1,
            args.num_clips,
            args.clip_length,
            args.size,
            args.workers,
        )
        < 1
        or not 0.1 <= args.scale <= 10
        or not 1 <= args.jpg_quality <= 95
    ):
        fail(
            "numbers of frames, clips, pixels and workers must be 1 or more, --scale 0.1 to 10, --jpg-quality 1 to 95"
        )
    if any(not 0 <= crf <= 51 for crf in args.crf):
        fail("--crf takes 0 to 51")
    if args.random_split and (min(args.random_split) < 0 or sum(args.random_split) <= 0):
        fail("--random-split needs three proportions, 0 or more, e.g. 80 10 10")
    drawn = [
        flag for flag in ("random_split", "split_in_order", "split_draw") if getattr(args, flag)
    ]
    if len(drawn) > 1 or min(args.split_in_order or args.split_draw or (0,)) < 0:
        fail(
            "give one of --random-split, --split-in-order and --split-draw, with numbers of 0 or more"
        )
    for flag, folder in (
        ("videos", args.videos),
        ("vidtimit", args.vidtimit),
        ("boxes-from", args.boxes_from),
    ):
        if folder and not folder.is_dir():
            fail(f"--{flag} {folder} is not a folder")
    if args.boxes_from and args.layout not in ("ffpp", "dfd"):
        fail(
            "--boxes-from is for --layout ffpp and dfd: their fakes keep the geometry of their originals"
        )
    if args.detector == "mtcnn":
        args.device = str(choose_device(args.device))
        check_mtcnn(args.device)

    if args.list:
        videos, expected = layouts.layout_list(args.list)
    elif args.layout == "ffpp":
        videos, expected = layouts.layout_ffpp(args.videos, args.method, args.compression)
    elif args.layout == "dfd":
        videos, expected = layouts.layout_dfd(args.videos, args.compression)
    elif args.layout == "dftimit":
        videos, expected = layouts.layout_dftimit(args.videos, args.vidtimit, args.quality)
    else:
        videos, expected = getattr(layouts, f"layout_{args.layout.replace('-', '_')}")(args.videos)
    layouts.print_counts(videos, expected)
    if args.random_split:
        layouts.random_split(videos, args.random_split, args.seed)
    elif args.split_in_order:
        layouts.split_in_order(videos, args.split_in_order)
    elif args.split_draw:
        videos = layouts.split_draw(videos, args.split_draw, args.seed)
    layouts.drop_leaks(videos)
    if drawn:
        print("split:")
        layouts.print_counts(videos, {})
    layouts.name_videos(videos)
    args.generated = layouts.generated(
        videos
    )  # kept in args.json: what learns from them is a demonstration
    boxes = read_boxes(args.boxes_from) if args.boxes_from else None
    for video in videos:
        frames = (
            (args.num_frames_real or args.num_frames) if video["label"] == 0 else args.num_frames
        )
        video["asked"] = frames if args.sampling == "frames" else args.num_clips * args.clip_length
        if boxes:
            video["boxes"] = boxes.get(ascii(video["original"])[1:-1])

    try:
        ffmpeg_command("")
    except RuntimeError as error:
        fail(
            f"no ffmpeg: {error} Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg of your own"
        )
    for crf in args.crf or [None]:
        one = copy.copy(args)
        one.crf, one.out = crf, args.out if crf is None else Path(f"{args.out}-crf{crf}")
        extract_all(videos, one)


def extract_all(videos, args):
    """Extract the faces of all videos into args.out, and write its tables."""
    start_run(args.out, args, inputs=[args.boxes_from / "index.csv"] if args.boxes_from else [])
    todo = [video for video in videos if read_record(args.out, video) is None]
    per = (
        f"{args.num_frames} frames"
        if args.sampling == "frames"
        else f"{args.num_clips} clips of {args.clip_length} frames"
    )
    print(
        f"{len(videos)} videos, {per} each; {len(videos) - len(todo)} done already; "
        + (f"{WORLD} times " if WORLD > 1 else "")
        + f"{args.workers} processes",
        flush=True,
    )
    settings = {
        name: getattr(args, name)
        for name in (
            "sampling",
            "scale",
            "size",
            "format",
            "jpg_quality",
            "clip_length",
            "detector",
            "crf",
        )
    }
    if args.detector == "mtcnn":
        settings["device"] = args.device
        print(f"MTCNN on {args.device}")
    wait_for_all()  # each has read what is done before anybody does more
    todo = todo[RANK::WORLD]
    try:
        with worker_pool(args.workers) as pool:
            futures = [pool.submit(extract_video, video, args.out, settings) for video in todo]
            for future in progress(as_completed(futures), total=len(todo), unit="video"):
                future.result()
    except BrokenProcessPool:
        fail(
            "a worker process died (out of memory?): run the same command again to go on, with fewer --workers"
        )
    except OSError as error:
        for part in args.out.glob(".part-*"):
            shutil.rmtree(part, ignore_errors=True)
        fail(
            f"cannot write to {args.out}: {error.strerror or error}. Run the same command again to go on"
        )
    wait_for_all()
    if RANK == 0:
        write_tables(videos, args.out)
    wait_for_all()


def write_tables(videos, out):
    """Write index.csv, videos.csv and skipped.csv from the records of all videos, one in memory at a time, and say how it adds up."""

    def records():
        for video in videos:
            record = read_record(out, video)
            if record is None:
                fail(
                    f"{out / video['name']} was done and is not there: do all machines see the same folder, and does nobody else write to it?"
                )
            yield video, record

    counts = Counter()

    def of_videos():
        for v, record in records():
            faces = len(record["rows"])
            lost = not faces and record["skipped"][0][1].startswith("failed: ")
            counts["failed" if lost else "skipped" if not faces else "done"] += 1
            counts.update(
                images=faces, short=0 < faces < v["asked"], damaged=record["warnings"] > 0
            )
            yield (
                v["name"],
                ascii(v["source"])[1:-1],
                v["label"],
                v["method"],
                v["split"],
                ascii(v["original"])[1:-1],
                *record["size"],
                faces,
                v["asked"],
                record["warnings"],
                record["first_warning"],
            )

    write_table(
        out / "videos.csv",
        (
            "video",
            "source",
            "label",
            "method",
            "split",
            "original",
            "width",
            "height",
            "faces",
            "asked",
            "warnings",
            "first_warning",
        ),
        of_videos(),
    )
    write_table(
        out / "skipped.csv",
        ("video", "frame", "reason"),
        ((v["name"], *row) for v, record in records() for row in record["skipped"]),
    )
    if not counts["images"]:
        fail(
            f"no face in any of the {len(videos)} videos: see {out / 'skipped.csv'} for the reasons"
        )
    write_table(
        out / "index.csv",
        (*INDEX_COLUMNS, "left", "top", "right", "bottom", "warnings"),
        (
            (
                row[0],
                v["name"],
                row[1],
                row[2],
                v["label"],
                v["method"],
                v["split"],
                *row[3:],
                record["warnings"],
            )
            for v, record in records()
            for row in record["rows"]
        ),
    )
    strangers = {
        entry.name for entry in os.scandir(out) if entry.is_dir() and not entry.name.startswith(".")
    } - {v["name"] for v in videos}
    if strangers:
        print(
            f"{len(strangers)} folders in {out} are of no video of this run and not in index.csv, {min(strangers)} among them"
        )
    print(
        f"done: {len(videos)} videos = {counts['done']} with faces + {counts['skipped']} skipped + {counts['failed']} failed; {counts['short']} gave fewer "
        f"faces than asked{f', {damaged} are damaged' if (damaged := counts['damaged']) else ''}; {counts['images']} images in {out}"
        + (
            f"; reasons in {out / 'skipped.csv'}"
            if counts["short"] + counts["skipped"] + counts["failed"]
            else ""
        )
    )


if __name__ == "__main__":
    run_script(main)

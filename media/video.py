"""Videos by ffmpeg."""

import errno
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
from PIL import Image

# What ffmpeg may take a file for. Playlists and scripts are left out: they would make it open other files.
MAX_PIXELS = 1 << 27  # a frame; 16384 x 8192. Larger ones are refused, not held


MAX_WARNINGS = 1000  # of a video that are counted


CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,h264,hevc,m4v,mjpeg,mxf,ivf,dv,rm,nut,wtv"


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
            if not image_files(path):
                raise Unreadable("a folder without images")
            return (len(image_files(path)), 0.0) if with_seconds else len(image_files(path))
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
    files, came = image_files(folder), 0
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


IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")  # first bytes of JPEG, PNG, BMP


def image_files(folder):
    """The images directly in a folder by their content, whatever their names end in: paths in the order of the numbers in their names."""

    def is_image(path):
        try:
            with open(path, "rb") as file:
                return file.read(8).startswith(IMAGES)
        except OSError:
            return False

    def natural(path):  # 2 before 10
        return [
            int(part) if k % 2 else part for k, part in enumerate(re.split("([0-9]+)", path.name))
        ]

    return sorted(
        (path for path in Path(folder).iterdir() if os.path.isfile(path) and is_image(path)),
        key=natural,
    )

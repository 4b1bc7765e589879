"""Video files: find them, and through ffmpeg count their frames, decode and encode.

Photos and folders of images count as videos; media/photos.py reads them.
"""

import contextlib
import math
import os
import re
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np

from common import write_whole
from media.photos import (
    PHOTO_ENDINGS,
    Unreadable,
    count_images,
    is_image,
    is_photo,
    read_images,
)

# How the names of video files end.
ENDINGS = set(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .flv .ts .3gp .gif".split())
# The formats ffmpeg may recognize. Playlists and scripts are not among them, because they would
# make it open other files.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,h264,hevc,m4v,mjpeg,mxf,ivf,dv"
    ",rm,nut,wtv"
)
# Frames with more pixels (16384 x 8192) are refused.
MAX_PIXELS = 1 << 27
# Maximum number of ffmpeg's warnings about a video that are kept and counted.
MAX_WARNINGS = 1000
# ffmpeg's flag of packets that are decoded and not shown.
DISCARD = 4
# At most so many runs of frames are named to ffmpeg: a command line is short on some systems.
MAX_RUNS = 500


def ffmpeg_command(path, *options, before=()):
    """The ffmpeg command that reads the first picture stream of one local file, on one thread.

    `options` stand behind the input, `before` stand before it. It prints errors only, and opens no
    other file and no network connection, whatever the file is called or contains. Raises
    RuntimeError if there is no ffmpeg.
    """
    import imageio_ffmpeg

    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *"-hide_banner -nostdin -v error -threads 1 -protocol_whitelist file".split(),
        *("-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)),
        *(*before, "-i", f"file:{os.path.abspath(path)}", "-map", "0:V:0"),
        *options,
    ]


def plain(message):
    """A message of ffmpeg (bytes) as one line of ASCII text of up to 200 characters.

    The memory addresses in it, which differ from run to run, and the folders are removed.
    """
    text = re.sub(rb"\[[^\]]* @ 0x[0-9a-f]+\] ", b"", message).decode("utf-8", "replace").strip()
    return ascii(re.sub(r"file:.*/", "", text))[1:-1][:200]


def reason(messages):
    """Why a video cannot be read: what the first of ffmpeg's messages (list of bytes) means."""
    first = next((text for text in map(plain, messages) if text), "ffmpeg gave no reason")
    if "matches no streams" in first:
        return "no picture stream in it"
    if "moov atom not found" in first:
        return "not a video, or cut off: its index is missing (moov atom not found)"
    if "Invalid data found when processing input" in first or "Error opening input" in first:
        return f"not a video format that ffmpeg supports ({first})"
    return first


@contextlib.contextmanager
def run_ffmpeg(command, messages):
    """Start a command and yield the process; its standard error goes to the list `messages`.

    The process ends with the block.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listener = threading.Thread(target=collect, args=(process.stderr, messages), daemon=True)
    listener.start()
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        listener.join()
        process.stderr.close()


@contextlib.contextmanager
def time_limit(process, seconds, reason):
    """Kill a process if the block lasts longer, and raise Unreadable at its end."""
    late = threading.Event()

    def give_up():
        late.set()
        process.kill()

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if late.is_set():
        raise Unreadable(f"{reason} {seconds:.0f} s")


def count_frames(path, with_seconds=False):
    """The number of frames of a video, photo or folder of images. Raises Unreadable.

    Counts the packets of the first picture stream without decoding them, but for those that the
    file says are not to be shown: a video that was cut without encoding it anew still holds frames
    before and after the cuts. `with_seconds`: returns (frames, length in seconds), the length 0 if
    it is not known.
    """
    try:
        size = os.path.getsize(path)
        if not size and not path.is_dir():
            raise Unreadable("an empty file")
        if path.is_dir() or is_photo(path):
            frames = count_images(path)
            return (frames, 0.0) if with_seconds else frames
    except OSError as error:
        raise Unreadable(error.strerror)
    frames, start, end, unit, messages = 0, math.inf, -math.inf, 0.0, []
    limit = 60 + size / 5e6  # seconds
    with run_ffmpeg(
        ffmpeg_command(path, *"-c copy -f framecrc pipe:1".split()), messages
    ) as ffmpeg:
        with time_limit(ffmpeg, limit, "counting its frames took longer than"):
            for line in ffmpeg.stdout:
                if line.startswith(b"#tb 0: "):
                    unit = float(Fraction(line[7:].decode()))  # seconds
                # stream, dts, pts, duration, bytes, checksum, F=flags
                flags = re.search(rb" F=0x([0-9A-Fa-f]+)", line)
                if line.startswith(b"#") or (flags and int(flags[1], 16) & DISCARD):
                    continue
                frames += 1
                pts, duration = (int(value) for value in line.split(b",")[2:4])
                if pts > -(1 << 62):  # it has a time
                    start, end = min(start, pts), max(end, pts + duration)
    if not frames:
        raise Unreadable(reason(messages) if messages else "no picture stream with frames in it")
    return (frames, max(0.0, end - start) * unit) if with_seconds else frames


def read_frames(path, wanted, warnings=None):
    """Decode a video and yield (number, frame) for the frame numbers in `wanted`, which rise.

    A frame is (height, width, 3) uint8 RGB. Frames that cannot be decoded are left out. Only wanted
    frames are converted and leave ffmpeg, as PPM images, each of which carries its own size: videos
    from rotated phones come out upright, and nothing has to be read from ffmpeg's messages. Those,
    MAX_WARNINGS at most, are appended to the list `warnings` as text. Raises Unreadable if not a
    single frame can be decoded.
    """
    if path.is_dir() or is_photo(path):
        yield from read_images(path, wanted)
        return
    output = "-filter_threads 1 -sws_flags bilinear -f image2pipe -c:v ppm -pix_fmt rgb24".split()
    passing = frame_runs(wanted)
    numbers = [number for first, last in passing for number in range(first, last + 1)]
    frames = ("-fps_mode", "passthrough", "-frames:v", str(len(numbers)))
    options = ("-vf", frame_filters(passing), *frames, *output, "pipe:1")
    wanted = set(wanted)
    came, messages = 0, []
    try:
        command = ffmpeg_command(path, *options, before=("-r", "1"))
        with run_ffmpeg(command, messages) as ffmpeg:
            for before, number in zip([0, *numbers], numbers):
                with time_limit(ffmpeg, 60 + 0.5 * (number - before), "no frame within"):
                    frame = read_ppm(ffmpeg.stdout)
                if frame is None:
                    break
                came += 1
                if number in wanted:
                    yield number, frame
    except Unreadable:
        if not came:
            raise
    finally:
        if warnings is not None:
            warnings += filter(None, map(plain, messages))
    if not came:
        raise Unreadable(reason(messages))


def frame_runs(wanted):
    """Runs of consecutive numbers: 7, 8, 9, 20 -> [(7, 9), (20, 20)]; MAX_RUNS of them at most.

    Where there are more, each is joined with the one after it, and so are the numbers between.
    """
    numbers = np.asarray(wanted)
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    runs = list(zip(numbers[[0, *(breaks + 1)]].tolist(), numbers[[*breaks, -1]].tolist()))
    while len(runs) > MAX_RUNS:
        runs = [(runs[k][0], runs[min(k + 1, len(runs) - 1)][1]) for k in range(0, len(runs), 2)]
    return runs


def frame_filters(runs):
    """ffmpeg's filters that let runs of frames pass (`frame_runs`) and make pixels square.

    Frames are told apart by their time, which `-r 1` before the input makes their number: `n`
    begins again with 0 where the size of the picture changes and ffmpeg makes its filters anew.
    """

    # A balanced tree, because ffmpeg takes 100 levels of brackets.
    def any_of(runs):
        half = len(runs) // 2
        if not half:
            return f"between(pts,{runs[0][0]},{runs[0][1]})"
        return f"if(lt(pts,{runs[half][0]}),{any_of(runs[:half])},{any_of(runs[half:])})"

    # Pixels up to 4 times as wide as high, or the other way round, become square. Bilinear, because
    # ffmpeg's default costs twice as much for the same pixels where chroma is not halved.
    width = "trunc(iw*if(between(sar,0.25,4),sar,1)+0.5)"
    return f"select='{any_of(runs)}',scale=w='{width}':h=ih:flags=bilinear"


def collect(pipe, messages):
    """Append the lines that come from a pipe to a list, up to MAX_WARNINGS; runs in a thread."""
    for line in iter(lambda: pipe.readline(1000), b""):
        if len(messages) < MAX_WARNINGS:
            messages.append(line)


def read_ppm(pipe):
    """The next PPM image from a pipe, (height, width, 3) uint8, or None if none is complete."""
    if pipe.readline() != b"P6\n":
        return None
    width, height = map(int, pipe.readline().split())
    pipe.readline()  # the largest value, 255
    data = pipe.read(width * height * 3)
    if len(data) < width * height * 3:
        return None
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def walk(folder):
    """os.walk in the order of names, following links but entering no folder twice.

    Yields (Path, names of its files). Prints a warning for folders that cannot be read.
    """

    def warn(error):
        if os.path.isdir(error.filename):
            name = ascii(error.filename)
            print(f"warning: {name} is left out: {error.strerror}", flush=True)

    seen = set()
    for root, folders, files in os.walk(folder, onerror=warn, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(root), sorted(files)


def find_videos(folder, photos=False):
    """Video files below a folder, in the order of their paths; hidden files are left out.

    With `photos`, those too.
    """
    endings = ENDINGS | PHOTO_ENDINGS if photos else ENDINGS
    paths = (root / name for root, names in walk(folder) for name in names if name[0] != ".")
    paths = (path for path in paths if path.suffix.lower() in endings)
    # Path.is_file raises an error for files that may not be looked at; os.path.isfile does not.
    return sorted(path for path in paths if os.path.isfile(path))


def find_crops(folder):
    """Folders that hold images, below a folder and itself, in the order of their paths."""
    found = [root for root, names in walk(folder) if any(is_image(root / n) for n in names)]
    return sorted(found)


def write_video(path, frames, size, crf):
    """Encode uint8 RGB frames of `size` (width, height) as H.264, 4:2:0, 25 frames per second.

    The file appears whole or not at all. Raises OSError if ffmpeg fails.
    """
    import imageio_ffmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    source = "-v error -y -f rawvideo -pix_fmt rgb24 -r 25 -s {}x{} -i -".format(*size).split()
    encoder = f"-c:v libx264 -pix_fmt yuv420p -crf {crf} -preset veryfast -threads 1".split()
    with write_whole(path) as part:
        # imageio_ffmpeg.write_frames does not notice if ffmpeg cannot finish the file.
        process = subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), *source, *encoder, str(part)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        # If the pipe breaks, ffmpeg's exit status and message say why.
        with contextlib.suppress(BrokenPipeError):
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(frame).data)
        _, errors = process.communicate()
        if process.returncode:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            message = lines[-1] if lines else f"ffmpeg ended with {process.returncode}"
            raise OSError(f"{message} (is the disk full?)")

#!/usr/bin/env python3
"""CPU seconds per video of stage 01 (user and system, with child processes), beside other ways.

    python bench/01_extract.py --data DIR
    python bench/01_extract.py --data DIR --only frames --rounds 1

DIR holds real clips: videos.csv as --list takes it. Two kinds of work: 30 frames per video; 16
clips of 5 frames.

    ours            the script with one process, on four copies of the videos, its start included
    every frame     as benchmark suites do it: ffmpeg decodes, converts and pipes every frame; in
                    each of the wanted ones, dlib's HOG searches the full frame with one doubling;
                    the crop, 1.2 times the box, is saved as PNG
    one HOG a clip  the same with one detection for the five frames of a clip, as ours has it
    MTCNN           every frame with facenet-pytorch's MTCNN, one at a time, if it is installed
    limit           ffmpeg decodes each video and throws it away, on one thread

The alternatives run in this process, so that their start is not included.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from side_by_side import ROOT, arguments, in_turn, ratio, record, show, table

from common import read_table
from media import video

faces = import_module("01_extract_faces")
COPIES = 4
WORK = {"frames": "30 frames", "clips": "16 clips of 5 frames"}


def cpu(function, *args):
    """User and system seconds of a call, with child processes."""

    def now():
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start = now()
    function(*args)
    return now() - start


def every_frame(videos, out, clips, find, each=True):
    """Decode and convert every frame, find the face in wanted ones, crop and save it.

    find: full frame -> box or None. each: in each wanted frame, else in the middle one of a clip.
    """
    import imageio_ffmpeg
    import numpy as np
    from PIL import Image

    for v, path in enumerate(videos):
        frames = video.count_frames(path)
        if clips:
            groups = [range(start, start + 5) for start in faces.clip_starts(frames, 16, 5)]
        else:
            groups = [[number] for number in faces.equal_intervals(frames, 30)]
        group_of = {number: group for group in groups for number in group}
        reader = imageio_ffmpeg.read_frames(
            str(path), input_params=["-threads", "1"], output_params=["-fps_mode", "passthrough"]
        )
        width, height = next(reader)["size"]
        kept = []
        for n, data in enumerate(reader):
            if n not in group_of:
                continue
            kept.append((n, np.frombuffer(data, np.uint8).reshape(height, width, 3)))
            if n != group_of[n][-1]:
                continue
            middle = None if each else find(kept[len(kept) // 2][1])
            for number, frame in kept:
                box = find(frame) if each else middle
                if not box:
                    continue
                crop = Image.fromarray(frame).crop(faces.square_box(box, 1.2, width, height))
                if clips:
                    crop = crop.resize((240, 240), Image.Resampling.BICUBIC)
                crop.save(out / f"{v}_{number}.png")
            kept = []


def hog():
    """dlib's detector on the full frame, with one doubling."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(frame):
        boxes = detector(frame, 1)
        box = max(boxes, key=lambda b: b.area()) if boxes else None
        return box and (box.left(), box.top(), box.right() + 1, box.bottom() + 1)

    return find


def mtcnn():
    """facenet-pytorch's MTCNN on one frame. Raises ImportError."""
    import torch
    from facenet_pytorch import MTCNN
    from PIL import Image

    torch.set_num_threads(1)
    network = MTCNN(keep_all=True, device="cpu")

    def find(frame):
        boxes, _ = network.detect(Image.fromarray(frame))
        if boxes is None:
            return None
        return max(map(tuple, boxes), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))

    return find


def extract(out, *flags):
    """Stage 01 with one process."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, ROOT / "01_extract_faces.py", *flags, "--workers", "1", "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def limit(paths):
    """Seconds per video of ffmpeg, which decodes them and throws them away."""

    def decode():
        for path in paths:
            subprocess.run(video.ffmpeg_command(path, "-f", "null", "-"), check=True)

    return cpu(decode) / len(paths)


def frames_or_clips(what, videos, work, rounds):
    """Lines about 30 frames per video, or 16 clips of 5."""
    (work / what).mkdir()
    flags = ["--layout", "folders", "--videos", work / "videos", "--sampling", what]
    finder = hog()
    ways = {"every frame": (finder, True)}
    if what == "clips":
        ways["one HOG a clip"] = (finder, False)
    else:
        try:
            ways["MTCNN"] = (mtcnn(), True)
        except ImportError:
            print("facenet-pytorch is not installed: without MTCNN")

    def ours():
        return cpu(extract, work / "ours", *flags) / len(videos) / COPIES

    def other(way):
        return cpu(every_frame, videos, work / what, what == "clips", *way) / len(videos)

    others = {name: lambda way=way: other(way) for name, way in ways.items()}
    found = in_turn({"ours": ours, **others, "limit": lambda: limit(videos)}, rounds)
    rows = [(name, show(values), ratio(values, found["ours"])) for name, values in found.items()]
    return [
        f"{WORK[what]} per video, {len(videos)} videos:",
        "",
        *table(("", "CPU seconds per video", "in ours"), rows),
        "",
        f"Ours in limits: {ratio(found['ours'], found['limit'])}.",
        "",
    ]


def main():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="real clips: videos.csv"
    )
    parser.add_argument("--only", choices=("frames", "clips"), help="one of the two")
    args = parser.parse_args()
    videos = [args.data / path for path in read_table(args.data / "videos.csv", ["path"])["path"]]
    work = Path(tempfile.mkdtemp())
    lines = []
    try:
        folder = work / "videos/real"
        folder.mkdir(parents=True)
        for copy in range(COPIES):
            for v, path in enumerate(videos):
                shutil.copy(path, folder / f"{v}_{copy}{path.suffix}")
        for what in WORK:
            if args.only in (None, what):
                lines += frames_or_clips(what, videos, work, args.rounds)
    finally:
        shutil.rmtree(work)
    record(args, lines)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""CPU seconds a video of stage 01 (user and system, child processes included) beside other ways, on real clips.

    python bench/01_extract.py --data DIR
    python bench/01_extract.py --data DIR --only frames --rounds 1

DIR holds videos.csv as --list takes it, and an ffpp/ tree. Work: 30 frames a video; 16 clips of 5 frames; fakes with --boxes-from.

    ours            the script with one process, on four copies of the videos: its start is in the figure
    every frame     as benchmark suites do it: every frame decoded and converted by ffmpeg and piped, dlib's HOG on the full frame with one
                    upsampling in each of the wanted ones, cropped 1.2 times and saved as PNG
    one HOG a clip  the same with one detection for the five frames of a clip, as ours has it
    MTCNN           every frame with facenet-pytorch's MTCNN, frame by frame, where it is installed
    limit           ffmpeg decoding each video to null, on one thread

The alternatives run in this process: their start is not in their figures.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from side_by_side import ROOT, arguments, in_turn, ratio, record, show, table

from media import faces, video

COPIES = 4


def cpu(function, *args):
    """User and system seconds of a call, child processes included."""

    def now():
        return sum(
            u.ru_utime + u.ru_stime
            for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    start = now()
    function(*args)
    return now() - start


def every_frame(stage, videos, out, clips, find, each=True):
    """Decode and convert every frame, keep the wanted ones, find the face in full frames (in each, or in the middle one of a clip), crop and save."""
    import imageio_ffmpeg
    import numpy as np
    from PIL import Image

    for v, path in enumerate(videos):
        frames = video.count_frames(path)
        groups = (
            [range(s, s + 5) for s in faces.clip_starts(frames, 16, 5)]
            if clips
            else [[n] for n in faces.equal_intervals(frames, 30)]
        )
        group_of = {n: group for group in groups for n in group}
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
                (crop.resize((240, 240), Image.Resampling.BICUBIC) if clips else crop).save(
                    out / f"{v}_{number}.png"
                )
            kept = []


def hog():
    """dlib's detector on the full frame, with one upsampling."""
    import dlib

    detector = dlib.get_frontal_face_detector()

    def find(frame):
        boxes = detector(frame, 1)
        box = max(boxes, key=lambda b: b.area()) if boxes else None
        return box and (box.left(), box.top(), box.right() + 1, box.bottom() + 1)

    return find


def mtcnn():
    """facenet-pytorch's MTCNN on one frame."""
    import torch
    from facenet_pytorch import MTCNN
    from PIL import Image

    torch.set_num_threads(1)
    network = MTCNN(keep_all=True, device="cpu")

    def find(frame):
        boxes, _ = network.detect(Image.fromarray(frame))
        return (
            None
            if boxes is None
            else max(map(tuple, boxes), key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
        )

    return find


def main():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="real clips: videos.csv and ffpp/"
    )
    parser.add_argument("--only", choices=("frames", "clips", "boxes"), help="one of the three")
    args = parser.parse_args()
    stage, common = import_module("01_extract_faces"), import_module("common")
    videos = [
        args.data / path for path in common.read_table(args.data / "videos.csv", ["path"])["path"]
    ]
    work = Path(tempfile.mkdtemp())

    def ours(*flags):
        shutil.rmtree(work / "ours", ignore_errors=True)
        subprocess.run(
            [
                sys.executable,
                ROOT / "01_extract_faces.py",
                *map(str, flags),
                "--workers",
                "1",
                "--out",
                work / "ours",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def limit(paths):
        for path in paths:
            subprocess.run(video.ffmpeg_command(path, "-f", "null", "-"), check=True)

    lines = []
    try:
        for copy in range(COPIES):
            for v, path in enumerate(videos):
                (work / "videos/real").mkdir(parents=True, exist_ok=True)
                shutil.copy(path, work / f"videos/real/{v}_{copy}{path.suffix}")
        finder = hog()
        others = {
            "frames": {"every frame": (finder, True)},
            "clips": {"every frame": (finder, True), "one HOG a clip": (finder, False)},
        }
        try:
            others["frames"]["MTCNN"] = mtcnn(), True
        except ImportError:
            print("facenet-pytorch is not installed: without MTCNN")
        for what, flags in (("frames", ()), ("clips", ("--sampling", "clips"))):
            if args.only not in (None, what):
                continue
            (work / what).mkdir()
            found = in_turn(
                {
                    "ours": lambda: (
                        cpu(ours, "--layout", "folders", "--videos", work / "videos", *flags)
                        / len(videos)
                        / COPIES
                    ),
                    **{
                        name: lambda how=how: (
                            cpu(every_frame, stage, videos, work / what, what == "clips", *how)
                            / len(videos)
                        )
                        for name, how in others[what].items()
                    },
                    "limit": lambda: cpu(limit, videos) / len(videos),
                },
                args.rounds,
            )
            lines += [
                f"{'30 frames' if what == 'frames' else '16 clips of 5 frames'} a video, {len(videos)} videos:",
                "",
                *table(
                    ("", "CPU seconds a video", "in ours"),
                    [(name, show(v), ratio(v, found["ours"])) for name, v in found.items()],
                ),
                "",
                f"Ours in limits: {ratio(found['ours'], found['limit'])}.",
                "",
            ]
        if args.only in (None, "boxes"):
            fakes = [v for v in videos if "manipulated_sequences" in str(v)]
            for (
                fake
            ) in fakes:  # FF++ has one fake of each pair a method: copies under the names of others
                target, source = fake.stem.split("_")
                tree = work / "ffpp"
                original = args.data / f"ffpp/original_sequences/youtube/c23/videos/{target}.mp4"
                (tree / "original_sequences/youtube/c23/videos").mkdir(parents=True, exist_ok=True)
                shutil.copy(original, tree / "original_sequences/youtube/c23/videos")
                (tree / "manipulated_sequences/Fakes/c23/videos").mkdir(parents=True, exist_ok=True)
                for copy in range(6 * COPIES):
                    shutil.copy(
                        fake,
                        tree / f"manipulated_sequences/Fakes/c23/videos/{target}_{900 + copy}.mp4",
                    )
            copies = sorted((work / "ffpp/manipulated_sequences/Fakes/c23/videos").iterdir())
            ours("--layout", "ffpp", "--videos", work / "ffpp", "--method", "originals")
            os.rename(work / "ours", work / "originals")
            each = {
                "ours": lambda: (
                    cpu(
                        ours,
                        "--layout",
                        "ffpp",
                        "--videos",
                        work / "ffpp",
                        "--method",
                        "Fakes",
                        "--boxes-from",
                        work / "originals",
                    )
                    / len(copies)
                ),
                "limit": lambda: cpu(limit, copies) / len(copies),
            }
            found = in_turn(each, args.rounds)
            lines += [
                f"Fakes with --boxes-from, 30 frames, {len(copies)} copies of {len(fakes)} fakes of FF++ (and their {len(fakes)} originals, which are in the figure):",
                "",
                *table(("", "CPU seconds a video"), [(name, show(v)) for name, v in found.items()]),
                "",
                f"Ours in limits: {ratio(found['ours'], found['limit'])}.",
            ]
    finally:
        shutil.rmtree(work)
    record(args, lines)


if __name__ == "__main__":
    main()

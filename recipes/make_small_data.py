#!/usr/bin/env python3
"""Lay generated videos out like each data set of the FeatureTransfer paper, to try every recipe.

    python recipes/make_small_data.py --out DIR

Writes FaceForensics++ (with DeepFakeDetection in the same tree), Celeb-DF, DFDC, DFDC-Preview,
DeepfakeTIMIT and VidTIMIT into DIR, each as its authors ship it (media/layouts.py), and
DeepFake-in-the-Wild, fakes alone. They are made from 60 videos of 00_make_demo_videos.py,
with 6 people per camera and 20 frames. They are a demonstration: no result on them says anything
about real videos.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from common import Parser  # noqa: E402

PAIRS = [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)]  # target, source
SUBJECTS = ("fadg0", "faks0", "fcft0", "fcmh0", "felc0", "fjas0")


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write(path, content):
    """Write text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1) + "\n")


class Videos:
    """Paths of the generated videos."""

    def __init__(self, folder):
        self.folder = folder

    def real(self, camera, number):
        name = f"original_sequences/youtube/c23/videos/{number:03d}.mp4"
        return self.folder / camera / name

    def fake(self, camera, method, target, source):
        name = f"manipulated_sequences/{method}/c23/videos/{target:03d}_{source:03d}.mp4"
        return self.folder / camera / name


def main():
    parser = Parser(__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write to; if it holds finished data, nothing is done",
    )
    out = parser.parse_args().out
    if (out / "complete").exists():
        return
    small = ("--identities", "6", "--frames", "20", "--out", out / "videos")
    subprocess.run([sys.executable, ROOT / "00_make_demo_videos.py", *small], check=True)
    lay_out(Videos(out / "videos"), out)


def lay_out(videos, out):
    """Copy the videos into the data sets."""
    make_ffpp_and_dfd(out / "FaceForensics++", videos)
    make_celebdf(out / "Celeb-DF", videos)
    make_dfdc(out / "DFDC", videos)
    make_dfdc_preview(out / "DFDC-Preview", videos)
    make_dftimit(out, videos)
    for a, b in PAIRS:
        copy(videos.fake("phone", "FaceSwap", a, b), out / f"DeepFake-in-the-Wild/{a}.mp4")
    write(out / "complete", "")


def make_ffpp_and_dfd(root, videos):
    shutil.copytree(videos.folder / "studio", root, dirs_exist_ok=True)
    originals = root / "original_sequences/actors/c23/videos"
    fakes = root / "manipulated_sequences/DeepFakeDetection/c23/videos"
    for a, b in PAIRS:
        copy(videos.real("phone", a), originals / f"{a + 1:02d}__walking_outside.mp4")
        name = f"{a + 1:02d}_{b + 1:02d}__walking_outside__AB12CD34.mp4"
        copy(videos.fake("phone", "Deepfakes", a, b), fakes / name)


def make_celebdf(root, videos):
    for a, b in PAIRS[:4]:
        fake = videos.fake("phone", "FaceSwap", a, b)
        copy(videos.real("phone", a), root / f"Celeb-real/id{a}_0000.mp4")
        copy(fake, root / f"Celeb-synthesis/id{a}_id{b}_0000.mp4")
    for a, _ in PAIRS[4:]:
        copy(videos.real("phone", a), root / f"YouTube-real/{a:05d}.mp4")
    tests = [
        "1 YouTube-real/00005.mp4",
        "1 Celeb-real/id2_0000.mp4",
        "1 Celeb-real/id3_0000.mp4",
        "0 Celeb-synthesis/id2_id3_0000.mp4",
        "0 Celeb-synthesis/id3_id2_0000.mp4",
    ]
    write(root / "List_of_testing_videos.txt", "\n".join(tests) + "\n")


def make_dfdc(root, videos):
    for part, camera in enumerate(("studio", "phone")):
        folder = root / f"dfdc_train_part_{part}"
        entries = {}
        for a, b in PAIRS:
            original = f"original{part}{a}.mp4"
            copy(videos.real(camera, a), folder / original)
            entries[original] = dict(label="REAL", split="train")
            for method in ("Deepfakes", "FaceSwap"):
                name = f"{method.lower()}{part}{a}.mp4"
                copy(videos.fake(camera, method, a, b), folder / name)
                entries[name] = dict(label="FAKE", split="train", original=original)
        write(folder / "metadata.json", entries)


def make_dfdc_preview(root, videos):
    entries = {}
    for a, b in PAIRS:
        split = "train" if a < 4 else "test"
        for label, name, video in (
            ("real", f"original_videos/{a}/{a}_A.mp4", videos.real("phone", a)),
            ("fake", f"method_A/{a}/{a}_{b}.mp4", videos.fake("phone", "Face2Face", a, b)),
            ("fake", f"method_B/{a}/{a}_{b}.mp4", videos.fake("phone", "NeuralTextures", a, b)),
        ):
            copy(video, root / name)
            entries[name] = dict(label=label, set=split)
    write(root / "dataset.json", entries)


def make_dftimit(out, videos):
    """DeepfakeTIMIT, and VidTIMIT with images without a file ending, and sound beside them."""
    qualities = {"lower_quality": "NeuralTextures", "higher_quality": "Face2Face"}
    for a, b in PAIRS:
        for quality, method in qualities.items():
            name = f"{quality}/{SUBJECTS[a]}/sa1-video-{SUBJECTS[b]}.avi"
            copy(videos.fake("phone", method, a, b), out / "DeepfakeTIMIT" / name)
        subject = out / "VidTIMIT" / SUBJECTS[a]
        frames = subject / "video/sa1"
        frames.mkdir(parents=True, exist_ok=True)
        source = ("-v", "error", "-y", "-i", videos.real("phone", a))
        images = ("-f", "image2", "-c:v", "mjpeg", "-q:v", "2", frames / "%03d")
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *source, *images], check=True)
        write(subject / "audio/sa1.wav", "RIFF")


if __name__ == "__main__":
    main()

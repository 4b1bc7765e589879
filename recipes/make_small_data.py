#!/usr/bin/env python3
"""Lay generated videos out like each data set of the FeatureTransfer paper, so that every recipe can be tried in minutes.

    python recipes/make_small_data.py --out DIR

Writes FaceForensics++ (with DeepFakeDetection in the same tree), Celeb-DF, DFDC, DFDC-Preview, DeepfakeTIMIT and VidTIMIT into DIR, each as
its authors ship it (layouts.py), and a DeepFake-in-the-Wild with real/ and fake/, from 60 videos of 00_make_demo_videos.py: 6 people a camera, 20 frames. They are a demonstration: no
result on them says anything about real videos.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)]  # target, source


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write to; if it holds finished data, nothing is done",
    )
    out = parser.parse_args().out
    if (out / "complete").exists():
        return
    subprocess.run(
        [
            sys.executable,
            ROOT / "00_make_demo_videos.py",
            "--identities",
            "6",
            "--frames",
            "20",
            "--out",
            out / "videos",
        ],
        check=True,
    )

    def real(camera, n):
        return out / "videos" / camera / f"original_sequences/youtube/c23/videos/{n:03d}.mp4"

    def fake(camera, method, a, b):
        return (
            out
            / "videos"
            / camera
            / f"manipulated_sequences/{method}/c23/videos/{a:03d}_{b:03d}.mp4"
        )

    ffpp = out / "FaceForensics++"
    shutil.copytree(out / "videos/studio", ffpp, dirs_exist_ok=True)
    for a, b in PAIRS:
        copy(
            real("phone", a),
            ffpp / f"original_sequences/actors/c23/videos/{a + 1:02d}__walking_outside.mp4",
        )
        copy(
            fake("phone", "Deepfakes", a, b),
            ffpp
            / f"manipulated_sequences/DeepFakeDetection/c23/videos/{a + 1:02d}_{b + 1:02d}__walking_outside__AB12CD34.mp4",
        )

    celeb = out / "Celeb-DF"
    for a, b in PAIRS[:4]:
        copy(real("phone", a), celeb / f"Celeb-real/id{a}_0000.mp4")
        copy(fake("phone", "FaceSwap", a, b), celeb / f"Celeb-synthesis/id{a}_id{b}_0000.mp4")
    for a, _ in PAIRS[4:]:
        copy(real("phone", a), celeb / f"YouTube-real/{a:05d}.mp4")
    tests = [
        "1 YouTube-real/00005.mp4",
        "1 Celeb-real/id2_0000.mp4",
        "1 Celeb-real/id3_0000.mp4",
        "0 Celeb-synthesis/id2_id3_0000.mp4",
        "0 Celeb-synthesis/id3_id2_0000.mp4",
    ]
    write(celeb / "List_of_testing_videos.txt", "\n".join(tests) + "\n")

    for part, camera in enumerate(("studio", "phone")):
        folder, entries = out / f"DFDC/dfdc_train_part_{part}", {}
        for a, b in PAIRS:
            original = f"original{part}{a}.mp4"
            copy(real(camera, a), folder / original)
            entries[original] = dict(label="REAL", split="train")
            for method in ("Deepfakes", "FaceSwap"):
                name = f"{method.lower()}{part}{a}.mp4"
                copy(fake(camera, method, a, b), folder / name)
                entries[name] = dict(label="FAKE", split="train", original=original)
        write(folder / "metadata.json", entries)

    preview, entries = out / "DFDC-Preview", {}
    for a, b in PAIRS:
        where = dict(set="train" if a < 4 else "test")
        for name, source in (
            (f"original_videos/{a}/{a}_A.mp4", real("phone", a)),
            (f"method_A/{a}/{a}_{b}.mp4", fake("phone", "Face2Face", a, b)),
            (f"method_B/{a}/{a}_{b}.mp4", fake("phone", "NeuralTextures", a, b)),
        ):
            copy(source, preview / name)
            entries[name] = dict(label="real" if name.startswith("original") else "fake", **where)
    write(preview / "dataset.json", entries)

    people, ffmpeg = (
        ("fadg0", "faks0", "fcft0", "fcmh0", "felc0", "fjas0"),
        imageio_ffmpeg.get_ffmpeg_exe(),
    )
    for a, b in PAIRS:
        for quality, method in (
            ("lower_quality", "NeuralTextures"),
            ("higher_quality", "Face2Face"),
        ):
            copy(
                fake("phone", method, a, b),
                out / f"DeepfakeTIMIT/{quality}/{people[a]}/sa1-video-{people[b]}.avi",
            )
        frames = (
            out / f"VidTIMIT/{people[a]}/video/sa1"
        )  # images without a file ending, sound beside them
        frames.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                ffmpeg,
                "-v",
                "error",
                "-y",
                "-i",
                real("phone", a),
                "-f",
                "image2",
                "-c:v",
                "mjpeg",
                "-q:v",
                "2",
                frames / "%03d",
            ],
            check=True,
        )
        write(out / f"VidTIMIT/{people[a]}/audio/sa1.wav", "RIFF")
    for a, b in PAIRS:
        copy(real("phone", a), out / f"DeepFake-in-the-Wild/real/{a}.mp4")
        copy(fake("phone", "FaceSwap", a, b), out / f"DeepFake-in-the-Wild/fake/{a}.mp4")
    write(out / "complete", "")


if __name__ == "__main__":
    main()

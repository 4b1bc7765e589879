#!/usr/bin/env python3
"""Stage 00: draw talking-head videos, real and manipulated, to try every other stage without a data set.

    python 00_make_demo_videos.py --out demo/videos                          # 1 to 2 minutes on 2 cores
    python 00_make_demo_videos.py --out /tmp/v --identities 4 --frames 10    # a few seconds

They are a DEMONSTRATION: cartoon-like heads with planted traces. No result on them says anything about real videos.

What comes out: one FaceForensics++ tree per capture condition, so that stage 01 reads them as it reads the real thing:

    OUT/studio/original_sequences/youtube/c23/videos/003.mp4
    OUT/studio/manipulated_sequences/Deepfakes/c23/videos/003_007.mp4       TARGET_SOURCE: the frames are the target's
    OUT/studio/splits/{train,val,test}.json                                  lists of pairs of names, as FaceForensics++ has them
    OUT/phone/...                                                            the same with other people and another camera

Each manipulation leaves the trace of its real family, and each jumps a little from frame to frame, as fakes made
frame by frame do (CLRNet paper, section 4, "Intuition"):

    Deepfakes       autoencoder swap: another identity's face at low resolution, soft blend, colours matched
    FaceSwap        graphics swap: another identity's face pasted with a hard edge, colours left as they are
    Face2Face       reenactment: the mouth driven by another video, resampled, soft blend
    NeuralTextures  re-rendered mouth with the grid that transposed convolutions leave
    FaceShifter     only with --methods: another identity's whole face, oversharpened; to be met by detectors that have never seen it

All randomness comes from --seed, so the same seed gives the same pixels before encoding.
"""

import contextlib
import json
import subprocess
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np

from common import Parser, add_system_arguments, fail, progress, write_whole
from media.demo_heads import CONDITIONS, METHODS, forge, record
from running.folder import start_run
from running.script import run_script
from running.workers import worker_pool


def encode(path, frames, size, crf):
    """Write frames as H.264 (yuv420p, 25 frames a second); the file appears whole or not at all. Raises OSError where ffmpeg fails."""
    import imageio_ffmpeg

    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        # Not imageio_ffmpeg.write_frames: it takes a file that ffmpeg could not finish for whole.
        process = subprocess.Popen(
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
                "-s",
                "{}x{}".format(*size),
                "-r",
                "25",
                "-i",
                "-",
                "-c:v",
                "libx264",
                "-pix_fmt",
                "yuv420p",
                "-crf",
                str(crf),
                "-preset",
                "veryfast",
                "-threads",
                "1",
                str(part),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with contextlib.suppress(BrokenPipeError):  # then its exit status says more
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(frame).data)
        _, errors = process.communicate()
        if process.returncode:
            said = errors.decode("utf-8", "replace").strip().splitlines() or [
                f"ffmpeg ended with {process.returncode}"
            ]
            raise OSError(f"{said[-1]} (is the disk full?)")


def make_videos(job):
    """Draw and encode the missing videos of one person: the real one, and the fakes made from it. Returns their number."""
    seed, condition_name, number, partner, frames, paths = job
    condition, missing = (
        CONDITIONS[condition_name],
        [method for method, path in paths.items() if not path.exists()],
    )
    recording = record(seed, condition_name, number, frames)
    for method in missing:
        images = (
            forge(recording, seed, condition_name, number, partner, method)
            if method
            else (frame for frame, _ in recording)
        )
        encode(paths[method], images, condition["size"], condition["crf"])
    return len(missing)


def plan(out, seed, identities, frames, methods):
    """The jobs of `make_videos`, one a person, and the split files as {path: pairs}."""
    jobs, splits = [], {}
    pairs = [(n, n + 1) for n in range(0, identities, 2)]
    held_out = max(1, round(len(pairs) * 0.2))  # 60 : 20 : 20
    parts = dict(
        train=pairs[: -2 * held_out], val=pairs[-2 * held_out : -held_out], test=pairs[-held_out:]
    )
    for condition in CONDITIONS:
        root = out / condition
        for name, chosen in parts.items():
            splits[root / "splits" / f"{name}.json"] = [[f"{a:03d}", f"{b:03d}"] for a, b in chosen]
        for a, b in [pair for a, b in pairs for pair in ((a, b), (b, a))]:
            paths = {
                None: root / "original_sequences" / "youtube" / "c23" / "videos" / f"{a:03d}.mp4"
            }
            for method in methods:
                paths[method] = (
                    root
                    / "manipulated_sequences"
                    / method
                    / "c23"
                    / "videos"
                    / f"{a:03d}_{b:03d}.mp4"
                )
            jobs.append((seed, condition, a, b, frames, paths))
    return jobs, splits


def main():
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    data.add_argument(
        "--identities",
        type=int,
        default=40,
        metavar="N",
        help="people a capture condition, even, 6 or more; each gives 1 real and 4 fake videos (default 40)",
    )
    data.add_argument(
        "--frames",
        type=int,
        default=30,
        metavar="N",
        help="frames a video, 25 a second (default 30)",
    )
    data.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=METHODS[:4],
        metavar="METHOD",
        help=f"of {', '.join(METHODS)} (default: the first four)",
    )
    add_system_arguments(parser, workers="processes", seed=True)
    args = parser.parse_args()
    if args.identities < 6 or args.identities % 2:
        fail(
            "--identities must be even and 6 or more: train, val and test each hold pairs of people"
        )
    if args.frames < 1:
        fail("--frames must be 1 or more")

    start_run(args.out, args)
    jobs, splits = plan(args.out, args.seed, args.identities, args.frames, args.methods)
    for path, pairs in splits.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as part:
            part.write_text(json.dumps(pairs, indent=1) + "\n")
    videos, missing = (
        sum(test(path) for *_, paths in jobs for path in paths.values())
        for test in (lambda path: True, lambda path: not path.exists())
    )
    print(
        f"{videos} videos of {args.frames} frames in {len(CONDITIONS)} capture conditions "
        f"({', '.join(CONDITIONS)}), {len(args.methods)} methods; {videos - missing} are there already; {args.workers} processes",
        flush=True,
    )
    try:
        with (
            worker_pool(args.workers) as pool,
            progress(total=missing, unit="video", iterable=None) as bar,
        ):
            for future in as_completed(
                [
                    pool.submit(make_videos, job)
                    for job in jobs
                    if not all(path.exists() for path in job[-1].values())
                ]
            ):
                bar.update(future.result())
    except OSError as error:
        for part in args.out.rglob(".part-*"):
            part.unlink()
        fail(
            f"cannot write to {args.out}: {error.strerror or error}. Run the same command again to go on"
        )
    print(
        f"done: {videos} videos in {args.out}. They are a demonstration: nothing measured on them holds for real videos."
    )


if __name__ == "__main__":
    run_script(main)

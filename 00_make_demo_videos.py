#!/usr/bin/env python3
"""Stage 00: draw talking-head videos, real and fake, to try all other stages without a data set.

    python 00_make_demo_videos.py --out demo/videos    # 1 to 2 minutes on 2 cores
    python 00_make_demo_videos.py --out /tmp/videos --identities 6 --frames 10    # a few seconds

They are a DEMONSTRATION: cartoon-like heads with planted traces. No result on them says anything
about real videos.

What it writes: one FaceForensics++ tree per capture condition, which stage 01 reads as it reads the
real one. A fake is called TARGET_SOURCE; its frames are those of the target.

    OUT/studio/original_sequences/youtube/c23/videos/002.mp4
    OUT/studio/manipulated_sequences/Deepfakes/c23/videos/002_003.mp4
    OUT/studio/splits/{train,val,test}.json    lists of pairs of names
    OUT/phone/...                              the same with other people and another camera
    OUT/videos.csv                             all of them in one list, for 01 --list

Each manipulation leaves the trace of the real one it is named after, and each jumps a little from
frame to frame, as fakes made frame by frame do (CLRNet, section 4, "Intuition"):

    Deepfakes       autoencoder swap: another person's face at low resolution, colors matched, soft
                    edge
    FaceSwap        graphics swap: another person's face pasted with a hard edge, colors left alone
    Face2Face       reenactment: the mouth driven by another video, resampled, soft edge
    NeuralTextures  re-rendered mouth with the grid that transposed convolutions leave
    FaceShifter     only with --methods: another person's face, oversharpened, soft edge; for
                    detectors that have never seen it

The same --seed gives the same pixels before encoding.
"""

import json
from pathlib import Path

from common import Parser, add_system_flags, fail, progress, write_table, write_whole
from media.demo import CONDITIONS, METHODS, forge, record
from media.video import write_video
from running.folder import start_run
from running.processes import describe_processor, map_in_workers, run_script


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument_group("data").add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    text = (
        "people per capture condition, even, 6 or more; there is one real video of each, and one "
        "fake by each method (default 40)"
    )
    add("--identities", type=int, default=40, metavar="N", help=text)
    text = "frames per video, 25 per second (default 30)"
    add("--frames", type=int, default=30, metavar="N", help=text)
    text = f"of {', '.join(METHODS)} (default: the first four)"
    first = list(METHODS)[:4]
    add("--methods", nargs="+", choices=METHODS, default=first, metavar="METHOD", help=text)
    add_system_flags(parser, workers="processes", seed=True)
    args = parser.parse_args()
    if args.identities < 6 or args.identities % 2:
        fail(
            "--identities must be even and 6 or more: train, val and test each hold pairs of people"
        )
    if args.frames < 1:
        fail("--frames must be 1 or more")
    return args


def main():
    args = parse_args()
    start_run(args.out, args)
    pairs = [(n, n + 1) for n in range(0, args.identities, 2)]
    split_of = write_splits(args.out, pairs)
    jobs = []
    rows = []
    for condition in CONDITIONS:
        for number, partner in (*pairs, *((b, a) for a, b in pairs)):
            paths = video_paths(args.out / condition, number, partner, args.methods)
            jobs.append((args.seed, condition, number, partner, args.frames, paths))
            for method, path in paths.items():
                name = f"{condition}-{method}" if method else condition
                original = f"{condition}/{number:03d}"
                labels = (int(bool(method)), name, original, split_of[number])
                rows.append((path.relative_to(args.out), *labels))
    write_table(args.out / "videos.csv", ("path", "label", "method", "original", "split"), rows)
    videos = [path for *_, paths in jobs for path in paths.values()]
    missing = sum(not path.exists() for path in videos)
    print(
        f"{len(videos)} videos of {args.frames} frames, {len(CONDITIONS)} capture conditions, "
        f"{len(args.methods)} methods; {len(videos) - missing} exist already; {args.workers} "
        f"processes on {describe_processor()}",
        flush=True,
    )
    jobs = [job for job in jobs if not all(path.exists() for path in job[-1].values())]
    results = map_in_workers(make_videos, jobs, args.workers)
    try:
        for is_made in progress(results, total=len(jobs), unit="person"):
            if not is_made:
                fail("a worker process died (out of memory?): resume with fewer --workers")
    except OSError as error:
        for part in args.out.rglob(".part-*"):
            part.unlink()
        fail(f"cannot write to {args.out}: {error.strerror or error}. Run it again to resume")
    print(
        f"done: {len(videos)} videos in {args.out}. They are a demonstration: nothing measured on "
        "them holds for real videos."
    )


def write_splits(out, pairs):
    """Write the pairs of people that are train, val and test (60 : 20 : 20) in every condition.

    Returns {number of a person: split}.
    """
    held_out = max(1, round(len(pairs) * 0.2))
    splits = dict(
        train=pairs[: -2 * held_out], val=pairs[-2 * held_out : -held_out], test=pairs[-held_out:]
    )
    for condition in CONDITIONS:
        folder = out / condition / "splits"
        folder.mkdir(parents=True, exist_ok=True)
        for split, chosen in splits.items():
            names = [[f"{a:03d}", f"{b:03d}"] for a, b in chosen]
            with write_whole(folder / f"{split}.json") as part:
                part.write_text(json.dumps(names, indent=1) + "\n")
    return {n: split for split, chosen in splits.items() for pair in chosen for n in pair}


def video_paths(root, number, partner, methods):
    """The videos of one person as {method: path}; the method of the real one is None."""
    paths = {None: root / f"original_sequences/youtube/c23/videos/{number:03d}.mp4"}
    for method in methods:
        folder = root / f"manipulated_sequences/{method}/c23/videos"
        paths[method] = folder / f"{number:03d}_{partner:03d}.mp4"
    return paths


def make_videos(job):
    """Draw and encode the missing videos of one person; runs in a worker. Returns True."""
    seed, condition_name, number, partner, frames, paths = job
    condition = CONDITIONS[condition_name]
    missing = [method for method, path in paths.items() if not path.exists()]
    recording = record(seed, condition_name, number, frames)
    for method in missing:
        images = (frame for frame, _ in recording)
        if method:
            images = forge(recording, seed, condition_name, number, partner, method)
        write_video(paths[method], images, condition["size"], condition["crf"])
    return True


if __name__ == "__main__":
    run_script(main)

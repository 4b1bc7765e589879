#!/usr/bin/env python3
"""Does adaptation help? Source-only, BP-DANN and end-to-end DANN on videos with a domain shift.

    python bench/adaptation.py --out /tmp/adaptation      # five seeds: about 50 minutes on 2 cores
    python bench/adaptation.py --out /tmp/a --seeds 1 --identities 6 --frames 6 --epochs 2 \\
        --dann-epochs 1 --no-record                       # a trial

Generated videos, and the protocol of FeatureTransfer 4.2, in small:

    third set     other people, both cameras, all four manipulations, one extractor for all seeds
                  (in the paper: DFDC-F)
    source        train split of Deepfakes recorded by the camera `studio` (FF-DF train)
    targets       each of the four manipulations recorded by the camera `phone`, all images,
                  without labels
    source-only   Gf and Gy of BP-DANN on the source's features, lambda = 0
    BP-DANN       adapted to each target in turn, with the paper's settings but for the epochs
    DANN          end to end from images; never sees the third set; adapted to phone-FaceSwap alone
                  and tested on all (4.6)

Each seed draws its own people, videos, weights and batches. Target labels are read only to measure.
Nothing is chosen by a result: widths, dropout, batch, learning rate and the schedule of lambda are
the paper's. Its 50 epochs are 16,850 steps; 50 epochs of the few images here are 150 steps, in
which a learning rate of 1e-4 moves little. So 1000 epochs are taken: 3,000 steps. For the same
reason DANN, from random weights, takes batches of 16 instead of 128 in its 20 epochs: 600 steps.

Printed and appended to bench/RESULTS.md: for each target the mean AUC over the seeds with its 95 %
interval (Student's t over seeds), and the mean of the paired difference BP-DANN minus source-only
with its own.
"""

import csv
import json
import platform
import time
from pathlib import Path

import numpy as np
from side_by_side import append_to_results, arguments, run_stage, table

METHODS = ("Deepfakes", "FaceSwap", "Face2Face", "NeuralTextures")
TARGETS = tuple(f"phone-{method}" for method in METHODS)
THIRD = 1000  # seed of the third set's people
SMALL = ("--weights", "none", "--device", "cpu")


def stage(script, *args):
    """Run a stage and show its time and its last line; exits with its error if it fails."""
    start = time.perf_counter()
    last = run_stage(script, *args).strip().splitlines()[-1]
    print(f"  {script} {time.perf_counter() - start:5.0f} s   {last[:150]}", flush=True)


def make_videos(out, seed, args, *flags):
    """Draw people and their videos: OUT/videos."""
    size = ("--identities", args.identities, "--frames", args.frames)
    stage("00_make_demo_videos.py", "--seed", seed, *size, *flags, "--out", out / "videos")


def list_third_set(out):
    """Write OUT/third.csv: all videos of both cameras; its test split is for training too."""
    rows = []
    for camera in ("studio", "phone"):
        root = out / "videos" / camera
        split_of = {}
        for split, used_as in (("train", "train"), ("val", "val"), ("test", "train")):
            for pair in json.loads((root / f"splits/{split}.json").read_text()):
                split_of.update((name, used_as) for name in pair)
        for path in sorted(root.rglob("*.mp4")):
            method = path.parts[-4]
            label = int(method in METHODS)
            split = split_of[path.stem[:3]]
            rows.append((path.relative_to(out), label, f"{camera}-{method}", split))
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "third.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "method", "split"), *rows])


def make_third_set(out, args):
    """The extractor of the third set: OUT/runs/extractor/model.pt."""
    faces = out / "faces/third"
    run = out / "runs/extractor"
    make_videos(out, THIRD, args)
    list_third_set(out)
    frames = ("--num-frames", 6, "--num-frames-real", 24)
    stage("01_extract_faces.py", "--list", out / "third.csv", *frames, "--out", faces)
    training = ("--arch", "resnet18", "--image-size", 96, "--batch", 32, "--epochs", 5)
    training += ("--lr", 1e-3, *SMALL)
    stage("02_pretrain_extractor.py", "--faces", faces, *training, "--out", run)
    return run / "model.pt"


def one_seed(out, seed, extractor, args):
    """{(method, target): AUC in percent}, and what BP-DANN's logs say of each target."""
    make_videos(out, seed, args)
    names = {"source": ("studio", "Deepfakes")}
    names |= {f"phone-{method}": ("phone", method) for method in METHODS}
    for name, (camera, method) in names.items():
        videos = ("--layout", "ffpp", "--videos", out / "videos" / camera, "--method", method)
        stage("01_extract_faces.py", *videos, "--num-frames", 10, "--out", out / "faces" / name)
    faces = [out / "faces" / name for name in TARGETS]
    features = [out / "features" / name for name in TARGETS]

    extraction = ("--checkpoint", extractor, "--device", "cpu", "--split", "all")
    extraction += ("--faces", out / "faces/source", *faces)
    outputs = ("--out", out / "features", "--scores", out / "scores/direct")
    stage("03_extract_features.py", *extraction, *outputs)

    def adapt(name, *flags):
        splits = ("--target-split", "all", "--test-split", "all", "--seed", seed)
        outputs = ("--out", out / "runs" / name, "--scores", out / "scores" / name)
        stage("04_train_bpdann.py", *flags, *splits, *outputs)

    source = ("--source", out / "features/source", "--epochs", args.epochs, "--device", "cpu")
    one_target = ("--target", features[1], "--test", *features)
    adapt("source-only", "--method", "source-only", *source, *one_target)
    adapt("bp-dann", *source, "--target", *features)
    dann = ("--end-to-end", "--arch", "resnet18", "--image-size", 64, "--batch", 16, *SMALL)
    dann += ("--source", out / "faces/source", "--target", faces[1], "--test", *faces)
    adapt("dann", *dann, "--epochs", args.dann_epochs)
    stage("06_evaluate.py", "--scores", out / "scores", "--resamples", 10, "--out", out / "results")

    found = {}
    for row in csv.DictReader(open(out / "results/results.csv")):
        if row["level"] == "image":
            found[row["detector"], row["set"]] = 100 * float(row["auc"])
    for log in sorted((out / "runs/bp-dann").glob("*/log.csv")):
        last = list(csv.DictReader(open(log)))[-1]
        name = log.parent.name
        found["bp-dann", f"{name} domain accuracy"] = 100 * float(last["domain_accuracy"])
        found["bp-dann", f"{name} source val"] = 100 * float(last["source_val_auc"])
    return found


def interval(values):
    """Mean and half the width of its 95 % interval (Student's t); nan for fewer than two values."""
    from scipy.stats import t  # comes with scikit-learn

    values = np.asarray(values, float)
    if len(values) < 2:
        return values.mean(), float("nan")
    return values.mean(), t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5


def plus_minus(values, sign=""):
    """Mean and 95 % interval as text; sign "+" shows the mean's sign."""
    mean, half = interval(values)
    return f"{mean:{sign}.1f} ± {half:.1f}"


def result_lines(found):
    """The table of all targets, and what BP-DANN's logs say; found: `one_seed` of every seed."""
    rows = []
    for target in TARGETS:
        direct, source_only, bp_dann, dann = (
            [f[method, target] for f in found]
            for method in ("direct", "source-only", "bp-dann", "dann")
        )
        gains = [a - b for a, b in zip(bp_dann, source_only)]
        gain = f"{plus_minus(gains, '+')} ({', '.join(f'{v:+.1f}' for v in gains)})"
        note = " (adapted to it)" if target == "phone-FaceSwap" else ""
        means = (plus_minus(direct), plus_minus(source_only), plus_minus(bp_dann))
        rows.append((target, *means, gain, plus_minus(dann) + note))
    header = (
        "target (all from the source studio-Deepfakes)",
        "extractor applied directly",
        "source-only",
        "BP-DANN",
        "BP-DANN minus source-only",
        "DANN end to end",
    )
    lines = table(header, rows)
    for title, key in (
        ("BP-DANN's domain accuracy in its last epoch (50 % = not told apart)", "domain accuracy"),
        ("BP-DANN's AUC on the source's validation split", "source val"),
    ):
        means = [f"{t} {plus_minus([f['bp-dann', f'{t} {key}'] for f in found])}" for t in TARGETS]
        lines += ["", f"{title}: {'; '.join(means)}"]
    return lines


def circumstances(minutes):
    """The machine, the versions and the time taken, as text."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {versions}, {minutes:.0f} minutes"


def main():
    parser = arguments(__doc__, rounds=None)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for videos, faces, runs and scores; run again, it resumes",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--identities", type=int, default=40, help="people per camera (default 40)")
    parser.add_argument("--frames", type=int, default=30, help="frames per video (default 30)")
    parser.add_argument(
        "--epochs",
        type=int,
        default=1000,
        help="of source-only and BP-DANN (default 1000: 3,000 steps)",
    )
    parser.add_argument(
        "--dann-epochs",
        type=int,
        default=20,
        help="of end-to-end DANN (default 20, as in Figure 3)",
    )
    args = parser.parse_args()
    args.out = args.out.resolve()
    start = time.perf_counter()
    print("third set", flush=True)
    extractor = make_third_set(args.out / "third", args)
    found = []
    for seed in range(args.seeds):
        print(f"seed {seed}", flush=True)
        found.append(one_seed(args.out / f"seed-{seed}", seed, extractor, args))
    lines = result_lines(found)
    title = f"AUC in percent, image level, mean over {args.seeds} seeds ± 95 % interval"
    print("\n".join(["", title, "", *lines]))
    flags = (
        f"--out OUT --seeds {args.seeds} --identities {args.identities} --frames {args.frames} "
        f"--epochs {args.epochs} --dann-epochs {args.dann_epochs}"
    )
    where = circumstances((time.perf_counter() - start) / 60)
    text = f"{where}. {title} (Student's t over seeds)."
    append_to_results(args, flags, text, lines)


if __name__ == "__main__":
    main()

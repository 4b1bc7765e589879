#!/usr/bin/env python3
"""Does adaptation help? Source-only against BP-DANN against end-to-end DANN on generated videos with a real domain shift.

    python bench/adaptation.py --out /tmp/adaptation              # five seeds: about 50 minutes on 2 cores
    python bench/adaptation.py --out /tmp/a --seeds 1 --identities 6 --frames 6 --epochs 2 --dann-epochs 1 --no-record     # a trial

The protocol is that of FeatureTransfer 4.2, in small:

    third set   other people, both cameras, all four manipulations, one extractor for all seeds (the paper: DFDC-F)
    source      train split of Deepfakes recorded by the camera `studio` (FF-DF train)
    targets     each of the four manipulations recorded by the camera `phone`, all its images, without labels
    source-only Gf and Gy of BP-DANN on the source's features, lambda = 0
    BP-DANN     adapted to each target in turn, paper settings but for the number of epochs (see below)
    DANN        end to end from images, never sees the third set; adapted to phone-FaceSwap alone and tested on all (4.6)

Each seed draws its own people, videos, weights and batches. Target labels are read once, to measure. Nothing is chosen by a result: widths,
dropout, batch, learning rate and lambda's schedule are the paper's. Its 50 epochs are 16,850 steps; 50 epochs of the few images here are
150 steps, in which a learning rate of 1e-4 moves little, so 1000 epochs are taken: 3,000 steps. For the same reason DANN, from random weights,
takes batches of 16 instead of 128 in its 20 epochs: 600 steps.

Printed and appended to bench/RESULTS.md: for each target the mean AUC over the seeds with its 95 % interval (Student's t over seeds), and the
mean of the paired difference BP-DANN minus source-only with its own.
"""

import argparse
import csv
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("Deepfakes", "FaceSwap", "Face2Face", "NeuralTextures")
THIRD = 1000  # seed of the third set's people
SMALL = ("--weights", "none", "--device", "cpu")


def stage(script, *args):
    """Run a stage and show its last line; ends the benchmark if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, ROOT / script, *map(str, args)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{script} {' '.join(map(str, args))}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    print(
        f"  {script} {time.perf_counter() - start:5.0f} s   {done.stdout.strip().splitlines()[-1][:150]}",
        flush=True,
    )


def make_third_set(out, args):
    """The extractor of the third set: OUT/runs/extractor/model.pt."""
    stage(
        "00_make_demo_videos.py",
        "--seed",
        THIRD,
        "--identities",
        args.identities,
        "--frames",
        args.frames,
        "--out",
        out / "videos",
    )
    rows = []
    for camera in ("studio", "phone"):
        root = out / "videos" / camera
        split_of = {
            name: split
            for split in ("train", "val", "test")
            for pair in json.loads((root / f"splits/{split}.json").read_text())
            for name in pair
        }
        for path in sorted(root.rglob("*.mp4")):
            method, split = path.parts[-4], split_of[path.stem[:3]]
            rows.append(
                (
                    path.relative_to(out),
                    int(method in METHODS),
                    f"{camera}-{method}",
                    "train" if split == "test" else split,
                )
            )
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "third.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "method", "split"), *rows])
    stage(
        "01_extract_faces.py",
        "--list",
        out / "third.csv",
        "--num-frames",
        6,
        "--num-frames-real",
        24,
        "--out",
        out / "faces/third",
    )
    stage(
        "02_pretrain_extractor.py",
        "--faces",
        out / "faces/third",
        "--arch",
        "resnet18",
        "--image-size",
        96,
        "--batch",
        32,
        "--epochs",
        5,
        "--lr",
        1e-3,
        *SMALL,
        "--out",
        out / "runs/extractor",
    )
    return out / "runs/extractor/model.pt"


def one_seed(out, seed, extractor, args):
    """AUC in percent of each method on each target: {(method, target): value}, and on the source's validation split."""
    stage(
        "00_make_demo_videos.py",
        "--seed",
        seed,
        "--identities",
        args.identities,
        "--frames",
        args.frames,
        "--out",
        out / "videos",
    )
    names = {
        "source": ("studio", "Deepfakes"),
        **{f"phone-{method}": ("phone", method) for method in METHODS},
    }
    for name, (camera, method) in names.items():
        stage(
            "01_extract_faces.py",
            "--layout",
            "ffpp",
            "--videos",
            out / "videos" / camera,
            "--method",
            method,
            "--num-frames",
            10,
            "--out",
            out / "faces" / name,
        )
    stage(
        "03_extract_features.py",
        "--checkpoint",
        extractor,
        "--faces",
        *(out / "faces" / name for name in names),
        "--device",
        "cpu",
        "--out",
        out / "features",
        "--scores",
        out / "scores/direct",
        "--split",
        "all",
    )
    targets = list(names)[1:]
    features, faces = ([out / kind / name for name in targets] for kind in ("features", "faces"))
    common = ("--target-split", "all", "--test-split", "all", "--seed", seed, "--device", "cpu")
    stage(
        "04_train_bpdann.py",
        "--method",
        "source-only",
        "--source",
        out / "features/source",
        "--target",
        features[1],
        "--test",
        *features,
        "--epochs",
        args.epochs,
        *common,
        "--out",
        out / "runs/source-only",
        "--scores",
        out / "scores/source-only",
    )
    stage(
        "04_train_bpdann.py",
        "--source",
        out / "features/source",
        "--target",
        *features,
        "--epochs",
        args.epochs,
        *common,
        "--out",
        out / "runs/bp-dann",
        "--scores",
        out / "scores/bp-dann",
    )
    stage(
        "04_train_bpdann.py",
        "--end-to-end",
        "--arch",
        "resnet18",
        "--image-size",
        64,
        *SMALL,
        "--source",
        out / "faces/source",
        "--target",
        faces[1],
        "--test",
        *faces,
        "--epochs",
        args.dann_epochs,
        "--batch",
        16,
        *common[:-2],
        "--out",
        out / "runs/dann",
        "--scores",
        out / "scores/dann",
    )
    stage("06_evaluate.py", "--scores", out / "scores", "--resamples", 10, "--out", out / "results")
    found = {
        (row["detector"], row["set"]): 100 * float(row["auc"])
        for row in csv.DictReader(open(out / "results/results.csv"))
        if row["level"] == "image"
    }
    for method in ("source-only", "bp-dann"):
        for log in sorted((out / "runs" / method).glob("*/log.csv")):
            last = list(csv.DictReader(open(log)))[-1]
            found[method, f"{log.parent.name} domain accuracy"] = 100 * float(
                last["domain_accuracy"]
            )
            found[method, f"{log.parent.name} source val"] = 100 * float(last["source_val_auc"])
    return found


def interval(values):
    """Mean and half the width of its 95 % interval (Student's t); nan for fewer than two values."""
    from scipy.stats import t  # comes with scikit-learn

    values = np.asarray(values, float)
    if len(values) < 2:
        return values.mean(), float("nan")
    return values.mean(), t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5


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
        help="folder for videos, faces, runs and scores; run again, it goes on",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="(default 5)")
    parser.add_argument("--identities", type=int, default=40, help="people a camera (default 40)")
    parser.add_argument("--frames", type=int, default=30, help="frames a video (default 30)")
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
    parser.add_argument(
        "--no-record", action="store_true", help="do not append to bench/RESULTS.md"
    )
    args = parser.parse_args()
    args.out, start = args.out.resolve(), time.perf_counter()
    print("third set", flush=True)
    extractor = make_third_set(args.out / "third", args)
    found = []
    for seed in range(args.seeds):
        print(f"seed {seed}", flush=True)
        found.append(one_seed(args.out / f"seed-{seed}", seed, extractor, args))

    lines = [
        "| target (all from the source studio-Deepfakes) | extractor applied directly | source-only | BP-DANN | BP-DANN minus source-only | DANN end to end |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for target in [f"phone-{method}" for method in METHODS]:
        cells = [
            "{:.1f} ± {:.1f}".format(*interval([f[method, target] for f in found]))
            for method in ("direct", "source-only", "bp-dann")
        ]
        difference = [f["bp-dann", target] - f["source-only", target] for f in found]
        cells.append(
            "{:+.1f} ± {:.1f} ({})".format(
                *interval(difference), ", ".join(f"{v:+.1f}" for v in difference)
            )
        )
        cells.append(
            "{:.1f} ± {:.1f}".format(*interval([f["dann", target] for f in found]))
            + (" (adapted to it)" if target == "phone-FaceSwap" else "")
        )
        lines.append(f"| {target} | " + " | ".join(cells) + " |")
    more = [
        (
            "BP-DANN's domain accuracy in its last epoch (50 % = not told apart)",
            "bp-dann",
            "{} domain accuracy",
        ),
        ("BP-DANN's AUC on the source's validation split", "bp-dann", "{} source val"),
    ]
    for title, method, key in more:
        lines.append(
            f"\n{title}: "
            + "; ".join(
                f"phone-{m} "
                + "{:.1f} ± {:.1f}".format(
                    *interval([f[method, key.format(f"phone-{m}")] for f in found])
                )
                for m in METHODS
            )
        )
    text = "\n".join(lines)
    print(f"\nAUC in percent, image level, mean over {args.seeds} seeds ± 95 % interval\n\n{text}")
    if not args.no_record:
        import torch

        with open(ROOT / "bench/RESULTS.md", "a") as file:
            file.write(
                f"\n## adaptation.py, {time.strftime('%Y-%m-%d')}\n\n`python bench/adaptation.py --out OUT --seeds {args.seeds} --identities {args.identities} "
                f"--frames {args.frames} --epochs {args.epochs} --dann-epochs {args.dann_epochs}`, {platform.processor() or platform.machine()}, "
                f"Python {platform.python_version()}, torch {torch.__version__}, {(time.perf_counter() - start) / 60:.0f} minutes. Image-level AUC in percent, mean over "
                f"{args.seeds} seeds ± 95 % interval (Student's t over seeds).\n\n{text}\n"
            )


if __name__ == "__main__":
    main()

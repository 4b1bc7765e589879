#!/usr/bin/env python3
"""Does it do what the CLRNet paper says? Single, merge and transfer learning for CLRNet and MesoInception4, on generated videos.

    python bench/strategies.py --out /tmp/strategies             # three seeds: about an hour on 2 cores
    python bench/strategies.py --out /tmp/s --seeds 1 --identities 10 --frames 10 --epochs 1 --no-record     # a trial

Four known methods by one camera, and a fifth that no detector is trained on, FaceShifter. As in the paper (6.1 to 6.3), in small:

    single     trained on FaceSwap (FS)
    merge      trained on FS, DF, F2F and NT, as many clips from each
    transfer   the single one, its first half frozen, continued on --few-shot real and fake videos of DF, F2F and NT

    in-domain      test split of FS
    out-of-domain  test splits of DF, F2F and NT, mean of the three; single has never seen them, merge and transfer have
    open-domain    test split of FaceShifter

Each seed draws its own people, videos, weights and batches. Printed and appended to bench/RESULTS.md: F1 (mean over both classes, a frame or
clip each, threshold 0.5) and AUC, mean over seeds with its 95 % interval (Student's t). Nothing is chosen by a result on a test split.
"""

import argparse
import csv
import platform
import time
from pathlib import Path

import numpy as np
from adaptation import ROOT, interval, stage

SETS = dict(FS="FaceSwap", DF="Deepfakes", F2F="Face2Face", NT="NeuralTextures", open="FaceShifter")
# CLRNet is narrow and of one stage, so that it trains in minutes; both have learning rates for few steps.
SMALL = {
    "CLRNet": ("--filters", 8, "--repetitions", 2, "--image-size", 96, "--lr", 2e-3),
    "MesoInception4": ("--image-size", 96, "--lr", 1e-3),
}


def one_seed(out, seed, args):
    """{(model, strategy, attack): (F1, AUC)} in percent."""
    stage(
        "00_make_demo_videos.py",
        "--seed",
        seed,
        "--identities",
        args.identities,
        "--frames",
        args.frames,
        "--methods",
        *SETS.values(),
        "--out",
        out / "videos",
    )
    common = (
        "--layout",
        "ffpp",
        "--videos",
        out / "videos/studio",
        "--sampling",
        "clips",
        "--num-clips",
        4,
        "--size",
        96,
    )
    stage("01_extract_faces.py", *common, "--method", "originals", "--out", out / "faces/originals")
    for name, method in SETS.items():
        stage(
            "01_extract_faces.py",
            *common,
            "--method",
            method,
            "--boxes-from",
            out / "faces/originals",
            "--out",
            out / "faces" / name,
        )
    known, tests = (
        [out / "faces" / name for name in list(SETS)[:4]],
        [out / "faces" / name for name in SETS],
    )
    for model, small in SMALL.items():
        # As many clips a step: one of 5 frames of CLRNet, 5 frames of MesoInception4.
        run = (
            "--epochs",
            args.epochs,
            "--batch",
            8 if model == "CLRNet" else 40,
            "--seed",
            seed,
            "--device",
            "cpu",
            "--test",
            *tests,
        )
        where = {
            s: ("--out", out / "runs" / f"{model}-{s}", "--scores", out / "scores" / f"{model}-{s}")
            for s in ("single", "merge", "transfer")
        }
        stage(
            "05_train_clrnet.py",
            "--model",
            model,
            *small,
            "--strategy",
            "single",
            "--source",
            known[0],
            *run,
            *where["single"],
        )
        stage(
            "05_train_clrnet.py",
            "--model",
            model,
            *small,
            "--strategy",
            "merge",
            "--source",
            *known,
            *run,
            *where["merge"],
        )
        stage(
            "05_train_clrnet.py",
            "--strategy",
            "transfer",
            "--checkpoint",
            out / "runs" / f"{model}-single/model.pt",
            "--target",
            *known[1:],
            "--few-shot",
            args.few_shot,
            *small[-2:],
            *run,
            *where["transfer"],
        )
    stage("06_evaluate.py", "--scores", out / "scores", "--resamples", 10, "--out", out / "results")
    rows = {
        (r["detector"], r["set"]): (100 * float(r["f1_macro"]), 100 * float(r["auc"]))
        for r in csv.DictReader(open(out / "results/results.csv"))
        if r["level"] == "image"
    }
    found = {}
    for model in SMALL:
        for strategy in ("single", "merge", "transfer"):
            for attack, names in (
                ("in-domain", ["FS"]),
                ("out-of-domain", ["DF", "F2F", "NT"]),
                ("open-domain", ["open"]),
            ):
                found[model, strategy, attack] = np.mean(
                    [rows[f"{model}-{strategy}", name] for name in names], 0
                )
    return found


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
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="(default 3)")
    parser.add_argument(
        "--identities",
        type=int,
        default=40,
        help="people (default 40: 24 train, 8 validate, 8 test)",
    )
    parser.add_argument("--frames", type=int, default=30, help="frames a video (default 30)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training (default 20)")
    parser.add_argument(
        "--few-shot",
        type=int,
        default=3,
        help="transfer: real and fake videos of each target (default 3)",
    )
    parser.add_argument(
        "--no-record", action="store_true", help="do not append to bench/RESULTS.md"
    )
    args = parser.parse_args()
    args.out, start, found = args.out.resolve(), time.perf_counter(), []
    for seed in range(args.seeds):
        print(f"seed {seed}", flush=True)
        found.append(one_seed(args.out / f"seed-{seed}", seed, args))

    attacks = ("in-domain", "out-of-domain", "open-domain")
    lines = ["| F1 / AUC in percent | " + " | ".join(attacks) + " |", "| --- " * 4 + "|"]
    for model in SMALL:
        for strategy in ("single", "merge", "transfer"):
            cells = [
                " / ".join(
                    "{:.1f} ± {:.1f}".format(
                        *interval([f[model, strategy, attack][k] for f in found])
                    )
                    for k in (0, 1)
                )
                for attack in attacks
            ]
            lines.append(f"| {model}, {strategy} | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    print(f"\nMean over {args.seeds} seeds ± 95 % interval\n\n{text}")
    if not args.no_record:
        import torch

        with open(ROOT / "bench/RESULTS.md", "a") as file:
            file.write(
                f"\n## strategies.py, {time.strftime('%Y-%m-%d')}\n\n`python bench/strategies.py --out OUT --seeds {args.seeds} --identities {args.identities} "
                f"--frames {args.frames} --epochs {args.epochs} --few-shot {args.few_shot}`, {platform.processor() or platform.machine()}, "
                f"Python {platform.python_version()}, torch {torch.__version__}, {(time.perf_counter() - start) / 60:.0f} minutes. Mean over {args.seeds} seeds "
                f"± 95 % interval.\n\n{text}\n"
            )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Single, merge and transfer learning (CLRNet 6.1 to 6.3), in small, on generated videos.

    python bench/strategies.py --out /tmp/strategies    # three seeds: about an hour on 2 cores
    python bench/strategies.py --out /tmp/s --seeds 1 --identities 10 --frames 10 --epochs 1 \\
        --no-record                                     # a trial

CLRNet and MesoInception4; four known methods by one camera, and a fifth that no detector is trained
on, FaceShifter. As in the paper:

    single     trained on FaceSwap (FS)
    merge      trained on FS, DF, F2F and NT, as many clips from each
    transfer   the single one, its first half frozen, trained further on --few-shot real and fake
               videos of each of DF, F2F and NT

    in-domain       test split of FS
    out-of-domain   test splits of DF, F2F and NT, mean of the three; single has never seen them,
                    merge and transfer have
    open-domain     test split of FaceShifter

Each seed draws its own people, videos, weights and batches. Printed and appended to
bench/RESULTS.md: F1 (mean over both classes, one row per frame or clip, threshold 0.5) and AUC,
mean over seeds with its 95 % interval (Student's t). Nothing is chosen by a result on a test split.
"""

import csv
import time
from pathlib import Path

import numpy as np
from adaptation import circumstances, make_videos, plus_minus, stage
from side_by_side import append_to_results, arguments, table

SETS = dict(FS="FaceSwap", DF="Deepfakes", F2F="Face2Face", NT="NeuralTextures", open="FaceShifter")
KNOWN = ("FS", "DF", "F2F", "NT")
STRATEGIES = ("single", "merge", "transfer")
ATTACKS = {
    "in-domain": ["FS"],
    "out-of-domain": ["DF", "F2F", "NT"],
    "open-domain": ["open"],
}
# CLRNet is narrow and has one stage, so that it trains in minutes; both have learning rates for few
# steps, and as many clips per step: 8 of CLRNet are 40 frames of MesoInception4.
NETWORKS = {
    "CLRNet": ("--filters", 8, "--repetitions", 2, "--image-size", 96),
    "MesoInception4": ("--image-size", 96),
}
TRAINING = {
    "CLRNet": ("--lr", 2e-3, "--batch", 8),
    "MesoInception4": ("--lr", 1e-3, "--batch", 40),
}


def make_faces(out, seed, args):
    """Draw videos and extract clips of all sets: {set: folder}."""
    make_videos(out, seed, args, "--methods", *SETS.values())
    clips = ("--layout", "ffpp", "--videos", out / "videos/studio", "--sampling", "clips")
    clips += ("--num-clips", 4, "--size", 96)
    originals = out / "faces/originals"
    stage("01_extract_faces.py", *clips, "--method", "originals", "--out", originals)
    faces = {name: out / "faces" / name for name in SETS}
    for name, method in SETS.items():
        flags = ("--method", method, "--boxes-from", originals, "--out", faces[name])
        stage("01_extract_faces.py", *clips, *flags)
    return faces


def train_all(model, faces, out, seed, args):
    """Train a network by each strategy, and score the test split of every set."""
    flags = ("--epochs", args.epochs, *TRAINING[model], "--seed", seed, "--device", "cpu")
    flags += ("--test", *faces.values())
    new_model = ("--model", model, *NETWORKS[model])
    checkpoint = out / "runs" / f"{model}-single/model.pt"
    known = [faces[name] for name in KNOWN]
    for strategy, data in (
        ("single", (*new_model, "--source", known[0])),
        ("merge", (*new_model, "--source", *known)),
        ("transfer", ("--checkpoint", checkpoint, "--target", *known[1:])),
    ):
        if strategy == "transfer":
            data += ("--few-shot", args.few_shot)
        name = f"{model}-{strategy}"
        outputs = ("--out", out / "runs" / name, "--scores", out / "scores" / name)
        stage("05_train_clrnet.py", "--strategy", strategy, *data, *flags, *outputs)


def one_seed(out, seed, args):
    """{(model, strategy, attack): array of F1 and AUC} in percent."""
    faces = make_faces(out, seed, args)
    for model in NETWORKS:
        train_all(model, faces, out, seed, args)
    stage("06_evaluate.py", "--scores", out / "scores", "--resamples", 10, "--out", out / "results")
    measured = {}
    for row in csv.DictReader(open(out / "results/results.csv")):
        if row["level"] == "image":
            values = (float(row["f1_macro"]), float(row["auc"]))
            measured[row["detector"], row["set"]] = 100 * np.array(values)
    found = {}
    for model in NETWORKS:
        for strategy in STRATEGIES:
            for attack, names in ATTACKS.items():
                values = [measured[f"{model}-{strategy}", name] for name in names]
                found[model, strategy, attack] = np.mean(values, 0)
    return found


def result_lines(found):
    """The table; found: `one_seed` of every seed."""
    rows = []
    for model in NETWORKS:
        for strategy in STRATEGIES:
            row = [f"{model}, {strategy}"]
            for attack in ATTACKS:
                f1, auc = zip(*[f[model, strategy, attack] for f in found])
                row.append(f"{plus_minus(f1)} / {plus_minus(auc)}")
            rows.append(row)
    return table(("F1 / AUC in percent", *ATTACKS), rows)


def main():
    parser = arguments(__doc__, rounds=None)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for videos, faces, runs and scores; run again, it resumes",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="(default 3)")
    parser.add_argument(
        "--identities",
        type=int,
        default=40,
        help="people (default 40: 24 to train, 8 to validate, 8 to test)",
    )
    parser.add_argument("--frames", type=int, default=30, help="frames per video (default 30)")
    parser.add_argument("--epochs", type=int, default=20, help="of each training (default 20)")
    parser.add_argument(
        "--few-shot",
        type=int,
        default=3,
        help="transfer: real and fake videos of each target (default 3)",
    )
    args = parser.parse_args()
    args.out = args.out.resolve()
    start = time.perf_counter()
    found = []
    for seed in range(args.seeds):
        print(f"seed {seed}", flush=True)
        found.append(one_seed(args.out / f"seed-{seed}", seed, args))
    lines = result_lines(found)
    title = f"Mean over {args.seeds} seeds ± 95 % interval"
    print("\n".join(["", title, "", *lines]))
    flags = (
        f"--out OUT --seeds {args.seeds} --identities {args.identities} --frames {args.frames} "
        f"--epochs {args.epochs} --few-shot {args.few_shot}"
    )
    where = circumstances((time.perf_counter() - start) / 60)
    append_to_results(args, flags, f"{where}. {title} (Student's t).", lines)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Single, merge and transfer learning (CLRNet 6.1 to 6.3), in small, on generated videos.

    python bench/strategies.py --out /tmp/strategies    # three seeds: hours on 2 cores
    python bench/strategies.py --out /tmp/s --seeds 1 --identities 10 --frames 10 --epochs 1 \\
        --few-shot 3 --no-record                        # a trial

CLRNet and MesoInception4; four known methods by one camera, and a fifth that no detector is trained
on, FaceShifter. As in the paper:

    single     trained on FaceSwap (FS)
    merge      trained on FS, DF, F2F and NT, all clips of each (5.2.2)
    transfer   the single one, its first half frozen, trained further on --few-shot real and fake
               videos of each of DF, F2F and NT

    in-domain       test split of FS
    out-of-domain   test splits of DF, F2F and NT, mean of the three; single has never seen them,
                    merge and transfer have
    open-domain     test split of FaceShifter

Each seed draws its own people, videos, weights and batches. Printed and appended to
bench/RESULTS.md: accuracy and macro F1 (the mean over both classes), both at the threshold 0.5, and
AUC, of single frames or clips; mean over seeds with its 95 % interval (Student's t). Nothing is
chosen by a result on a test split.

Beside them stands what the paper prints for the same detector (Tables 3 to 6). Its single detector
of Table 4 is trained on F2F and tested on DF, FS and NT, and its transfer of Table 6 starts from
NT; its open domain is DFW, its sets have 750 training videos per class, its networks are larger.
"""

import csv
import platform
import time
from pathlib import Path

import numpy as np
from side_by_side import append_to_results, arguments, run_stage, table

SETS = dict(FS="FaceSwap", DF="Deepfakes", F2F="Face2Face", NT="NeuralTextures", open="FaceShifter")
KNOWN = ("FS", "DF", "F2F", "NT")
STRATEGIES = ("single", "merge", "transfer")
ATTACKS = {
    "in-domain": ["FS"],
    "out-of-domain": ["DF", "F2F", "NT"],
    "open-domain": ["open"],
}
METRICS = ("accuracy", "f1_macro", "auc")
# Where the paper prints it: table, what follows the network's name, columns (their mean is shown).
PRINTED = {
    ("single", "in-domain"): (3, "", ["FS"]),
    ("single", "out-of-domain"): (4, "", ["DF", "FS", "NT"]),
    ("single", "open-domain"): (6, "", ["single FS"]),
    ("merge", "in-domain"): (5, ", merge", ["FS"]),
    ("merge", "out-of-domain"): (5, ", merge", ["DF", "F2F", "NT"]),
    ("merge", "open-domain"): (6, "", ["merge"]),
    ("transfer", "in-domain"): (5, ", transfer", ["FS"]),
    ("transfer", "out-of-domain"): (5, ", transfer", ["DF", "F2F", "NT"]),
    ("transfer", "open-domain"): (6, "", ["transfer NT"]),
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


def stage(script, *args):
    """Run a stage and show its time and its last line; exits with its error if it fails."""
    start = time.perf_counter()
    last = run_stage(script, *args).strip().splitlines()[-1]
    print(f"  {script} {time.perf_counter() - start:5.0f} s   {last[:150]}", flush=True)


def make_videos(out, seed, args, *flags):
    """Draw people and their videos: OUT/videos."""
    size = ("--identities", args.identities, "--frames", args.frames)
    stage("00_make_demo_videos.py", "--seed", seed, *size, *flags, "--out", out / "videos")


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


def circumstances(minutes):
    """The machine, the versions and the time taken, as text."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {versions}, {minutes:.0f} minutes"


def make_faces(out, seed, args):
    """Draw videos and extract clips of all sets: {set: folder}."""
    make_videos(out, seed, args, "--methods", *SETS.values())
    clips = ("--layout", "ffpp", "--videos", out / "videos/studio", "--sampling", "clips")
    clips += ("--num-clips", 4, "--size", 96)
    faces = {name: out / "faces" / name for name in SETS}
    for name, method in SETS.items():
        flags = ("--method", method, "--out", faces[name])
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
    """{(model, strategy, attack): array of the METRICS} in percent."""
    faces = make_faces(out, seed, args)
    for model in NETWORKS:
        train_all(model, faces, out, seed, args)
    stage("06_evaluate.py", "--scores", out / "scores", "--resamples", 10, "--out", out / "results")
    measured = {}
    for row in csv.DictReader(open(out / "results/results.csv")):
        if row["level"] == "image":
            values = [100 * float(row[metric]) for metric in METRICS]
            measured[row["detector"], row["set"]] = np.array(values)
    found = {}
    for model in NETWORKS:
        for strategy in STRATEGIES:
            for attack, names in ATTACKS.items():
                values = [measured[f"{model}-{strategy}", name] for name in names]
                found[model, strategy, attack] = np.mean(values, 0)
    return found


def printed(model, strategy, attack):
    """What the paper prints for a detector, in percent."""
    from reporting.tables import TABLES, rows_of

    number, suffix, columns = PRINTED[strategy, attack]
    row = model.replace("MesoInception4", "MesoNet") + suffix
    (of_paper,) = [t for t in TABLES if t["file"] == f"clrnet_table{number}.md"]
    (cells,) = [cells for label, cells in rows_of(of_paper) if label == row]
    by_column = dict(zip(of_paper["columns"], cells))
    return np.mean([float(by_column[column].split("±")[0]) for column in columns])


def result_lines(found):
    """The table; found: `one_seed` of every seed."""
    rows = []
    for model in NETWORKS:
        for strategy in STRATEGIES:
            for attack in ATTACKS:
                values = zip(*[f[model, strategy, attack] for f in found])
                cells = [plus_minus(of_metric) for of_metric in values]
                paper = f"{printed(model, strategy, attack):.2f}"
                rows.append((f"{model}, {strategy}", attack, *cells, paper))
    return table(("in percent", "test", "accuracy", "macro F1", "AUC", "paper"), rows)


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
        default=10,
        help="transfer: real and fake videos of each target (default 10, as in the paper)",
    )
    args = parser.parse_args()
    # 00 holds out two fifths of the pairs of people, at least one for each of two splits.
    to_train = args.identities - 4 * max(1, round(args.identities / 2 * 0.2))
    if args.few_shot > to_train:
        parser.error(f"--few-shot {args.few_shot}: there are {to_train} people to train on")
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

#!/usr/bin/env python3
"""Does adaptation help? Source-only, BP-DANN and end-to-end DANN on videos with a domain shift.

    python bench/adaptation.py --out /tmp/adaptation      # five seeds: hours on 2 cores
    python bench/adaptation.py --out /tmp/adaptation --only scores   # the scores without labels
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

Before and after that, it is measured which score that needs no target label can be trusted (04
--choose). BP-DANN is trained with several widths and p, and each score of the trained networks is
compared with the target's true AUC. First on the two moons of Ganin et al. (2016, section 5.1),
where the target is the source turned by 35 degrees, and both are seen through 256 random features;
then on the features of the four targets. To be cheap, each of these trainings has 100 epochs at a
learning rate of 1e-3.

Printed and appended to bench/RESULTS.md: for each target the mean AUC over the seeds with its 95 %
interval (Student's t over seeds), and the mean of the paired difference BP-DANN minus source-only
with its own; and how each score ranks the trainings.
"""

import contextlib
import csv
import io
import json
import platform
import tempfile
import time
from importlib import import_module
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from side_by_side import append_to_results, arguments, run_stage, table

METHODS = ("Deepfakes", "FaceSwap", "Face2Face", "NeuralTextures")
TARGETS = tuple(f"phone-{method}" for method in METHODS)
THIRD = 1000  # seed of the third set's people
SMALL = ("--weights", "none", "--device", "cpu")
# The grid by which scores are judged.
WIDTHS = ((256, 32), (512, 64))
DROPOUT = {"moons": (0.0, 0.5), "faces": (0.0, 0.3, 0.5, 0.7)}
MOONS_SEEDS = 5
# What is compared with the target's AUC, with 1 where a higher value should be better.
SCORES = {
    "AUC on the source": ("source_auc", 1),
    "loss on the source": ("source_loss", -1),
    "entropy": ("entropy", -1),
    "density of the softmax": ("density", 1),
    "density of Gf's output": ("density_gf", 1),
}
GRID_COLUMNS = ("group", "method", "n1", "n2", "dropout", "auc")
GRID_COLUMNS += tuple(name for name, _ in SCORES.values())


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


# ---------------------------------------------------------------- scores that need no target label


def make_moons(seed, count=300):
    """The source, its validation split and the target of the two moons: {name: (x, labels)}."""
    from sklearn.datasets import make_moons

    rng = np.random.default_rng(seed)
    directions, phases = rng.normal(size=(2, 256)), rng.uniform(0, 2 * np.pi, 256)
    turn = np.deg2rad(35)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    sets = {}
    for k, name in enumerate(("train", "val", "target")):
        x, labels = make_moons(count, noise=0.1, random_state=3 * seed + k)
        # The middle of the two moons.
        x = x - (0.5, 0.25)
        x = x @ turned if name == "target" else x
        sets[name] = (2**0.5 * np.cos(x @ directions + phases)).astype(np.float32), labels
    return sets


def read_faces(folder):
    """The source's splits and the targets of a seed's features: {name: (x, labels)}."""
    from running.features import read_features

    features, index = read_features(folder / "source")
    split = np.array(index["split"])
    sets = {
        name: (features[split == name], index["label"][split == name]) for name in ("train", "val")
    }
    for target in TARGETS:
        features, index = read_features(folder / target)
        sets[target] = np.array(features), index["label"]
    return sets


def train_setting(n1, n2, dropout, sets, seed):
    """Train one setting on the sets of one seed, on each target: a list of dicts of GRID_COLUMNS.

    Source-only does not depend on the target, so it is trained once for all targets.
    """
    import torch

    bpdann = import_module("04_train_bpdann")
    sets = {of: (torch.from_numpy(x), labels.astype(np.int64)) for of, (x, labels) in sets.items()}
    (x, labels), (val_x, val_labels) = sets.pop("train"), sets.pop("val")
    nothing = val_labels[:0]
    source = bpdann.Source(x, torch.from_numpy(labels), val_x[:0], nothing, [])
    args = SimpleNamespace(seed=seed, end_to_end=False, lr=1e-3, epochs=100, batch=128)
    args.precision, cpu = "fp32", torch.device("cpu")
    rows = []
    for method in ("source-only", *sets):
        args.method = "bp-dann" if method in sets else method
        adapted_to = method if method in sets else next(iter(sets))
        target = bpdann.Target(sets[adapted_to][0], sets[adapted_to][0])
        kwargs = dict(dimensions=x.shape[1], n1=n1, n2=n2, dropout=dropout)
        with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
            model, _ = bpdann.adapt(Path(out), args, kwargs, source, target, cpu, "", {})
        point = dict(method=args.method, n1=n1, n2=n2, dropout=dropout)
        point |= score_source(bpdann, model, val_x, val_labels, args)
        for of in [method] if method in sets else sets:
            scores = score_on(bpdann, model, *sets[of], args)
            rows.append(point | scores | dict(group=f"seed {seed} {of}"))
    return rows


def score_source(bpdann, model, x, labels, args):
    """AUC and loss on the source's validation split."""
    import torch

    from common import margin
    from reporting.metrics import auc

    logits = bpdann.predict_logits(model, x, args, torch.device("cpu"))
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    return dict(source_auc=auc(labels, margin(logits)), source_loss=loss.item())


def score_on(bpdann, model, x, labels, args):
    """The target's true AUC, and its scores without labels."""
    import torch

    from common import margin
    from reporting.metrics import auc
    from running.choice import neighborhood_density, score_target

    logits = bpdann.predict_logits(model, x, args, torch.device("cpu"))
    embedding = bpdann.predict_logits(model, x, args, torch.device("cpu"), model.embed)
    entropy, density = score_target(logits).values()
    density_gf = neighborhood_density(embedding)
    true = auc(labels, margin(logits))
    return dict(auc=true, entropy=entropy, density=density, density_gf=density_gf)


def grids(out, kind, seeds):
    """All rows of a kind of data; those of a setting are kept in OUT/scores-without-labels."""
    from common import read_table, write_table

    rows = []
    for seed, (n1, n2), dropout in product(seeds, WIDTHS, DROPOUT[kind]):
        name = f"{kind}-{seed}-{n1}-{n2}-{dropout:g}"
        path = out / f"scores-without-labels/{name}.csv"
        if not path.exists():
            print(f"  {name}", flush=True)
            is_faces = kind == "faces"
            sets = read_faces(out / f"seed-{seed}/features") if is_faces else make_moons(seed)
            found = train_setting(n1, n2, dropout, sets, seed)
            write_table(path, GRID_COLUMNS, [[row[c] for c in GRID_COLUMNS] for row in found])
        numbers = {column: (float, "nan") for column in GRID_COLUMNS[2:]}
        columns = read_table(path, GRID_COLUMNS, numbers)
        rows += [dict(zip(columns, values)) for values in zip(*columns.values())]
    return rows


def correlation(rows, score):
    """Spearman's rank correlation of a score with the AUC; nan where all values are equal."""
    from scipy.stats import spearmanr

    scores, true = [score(row) for row in rows], [row["auc"] for row in rows]
    if np.ptp(scores) == 0 or np.ptp(true) == 0:
        return np.nan
    return spearmanr(scores, true).statistic


def judge(rows):
    """How the scores rank BP-DANN's trainings, and what is gained by a choice: a table's lines."""
    adapted = [row for row in rows if row["method"] == "bp-dann"]
    before = {point_of(row): row for row in rows if row["method"] == "source-only"}
    groups = {}
    for row in adapted:
        groups.setdefault(row["group"], []).append(row)

    def agreement(of):
        """How often `of` and the AUC say the same about BP-DANN and source-only, in percent."""
        pairs = [(row, before[point_of(row)]) for row in adapted]
        return f"{100 * np.mean([(of(a) > of(b)) == (a['auc'] > b['auc']) for a, b in pairs]):.0f}"

    lines = []
    for title, (name, sign) in SCORES.items():

        def score(row, name=name, sign=sign):
            return sign * row[name]

        within = [correlation(group, score) for group in groups.values()]
        within = [value for value in within if not np.isnan(value)]
        above = f"{sum(value > 0 for value in within)} of {len(groups)} above 0"
        of_targets = f"{np.mean(within):+.2f} ({above})" if within else "undefined"
        # The source's loss decides between equals, as in 04.
        chosen = [
            max(group, key=lambda row: (score(row), -row["source_loss"]))["auc"]
            for group in groups.values()
        ]
        over_all = f"{correlation(adapted, score):+.2f}".replace("+nan", "undefined")
        lines.append(
            (title, over_all, of_targets, f"{100 * np.mean(chosen):.1f}", agreement(score))
        )
    ahead = 100 * np.mean([row["auc"] > before[point_of(row)]["auc"] for row in adapted])
    paper = [row for row in adapted if (row["n1"], row["n2"], row["dropout"]) == (512, 64, 0.5)]
    best = [max(group, key=lambda row: row["auc"]) for group in groups.values()]
    for title, of, right in (
        ("nothing: the mean of BP-DANN's trainings", adapted, f"{ahead:.0f} (always BP-DANN)"),
        ("nothing: N1 512, N2 64, p 0.5", paper, ""),
        ("the target's true AUC", best, "100"),
        ("source-only, the mean of its trainings", before.values(), ""),
    ):
        lines.append((title, "", "", f"{100 * np.mean([row['auc'] for row in of]):.1f}", right))
    header = (
        "chosen by",
        "rank correlation over all",
        "of each target and seed, mean",
        "AUC of the chosen, mean",
        "right about source-only, %",
    )
    return table(header, lines)


def point_of(row):
    """What a training of BP-DANN and one of source-only have in common."""
    return tuple(row[name] for name in ("group", "n1", "n2", "dropout"))


def by_dropout(rows):
    """Mean AUC of the target by p, source-only and BP-DANN, and the source's lowest AUC: a text."""
    texts = []
    for dropout in sorted({row["dropout"] for row in rows}):
        of = {
            method: [r["auc"] for r in rows if (r["method"], r["dropout"]) == (method, dropout)]
            for method in ("source-only", "bp-dann")
        }
        means = " and ".join(
            f"{method} {100 * np.mean(v):.1f} ({100 * min(v):.1f} to {100 * max(v):.1f})"
            for method, v in of.items()
        )
        texts.append(f"p = {dropout:g}: {means}")
    lowest = 100 * min(row["source_auc"] for row in rows)
    return f"Target AUC by p: {'; '.join(texts)}. The source's AUC is at least {lowest:.1f}."


def measure_scores(out, kind, seeds):
    """Train the grid on one kind of data: lines for the report."""
    rows = grids(out, kind, seeds)
    groups = len({row["group"] for row in rows})
    title = dict(moons="Two moons", faces="The four targets")[kind]
    points = len(WIDTHS) * len(DROPOUT[kind])
    lines = [f"{title}: {groups} targets and seeds, {points} settings each.", ""]
    return [*lines, *judge(rows), "", by_dropout(rows), ""]


def measure_adaptation(args):
    """Source-only, BP-DANN and DANN on all targets."""
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
    parser.add_argument(
        "--only",
        choices=("scores", "adaptation"),
        help="only the scores without labels (on features that are in OUT), or only the rest",
    )
    args = parser.parse_args()
    args.out = args.out.resolve()
    if args.only != "adaptation":
        print("\n".join(measure_scores(args.out, "moons", range(MOONS_SEEDS))), flush=True)
    if args.only != "scores":
        measure_adaptation(args)
    if args.only != "adaptation":
        start = time.perf_counter()
        lines = []
        for kind, seeds in (("moons", range(MOONS_SEEDS)), ("faces", range(args.seeds))):
            lines += measure_scores(args.out, kind, seeds)
        print("\n".join(lines))
        text = circumstances((time.perf_counter() - start) / 60)
        append_to_results(args, f"--out OUT --seeds {args.seeds} --only scores", text, lines)


if __name__ == "__main__":
    main()

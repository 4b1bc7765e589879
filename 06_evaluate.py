#!/usr/bin/env python3
"""Stage 06: from scores to tables and figures. Needs no network, no GPU and no faces: only score files.

    python 06_evaluate.py --scores scores --out results
    python 06_evaluate.py --scores scores --faces faces/* --runs runs --out results             # the report with counts and learning curves
    python 06_evaluate.py --faces faces/FF-DF faces/Celeb-DF --out results                      # Table 2: how many face images

Reads every SCORES/DETECTOR/NAME.csv (video, frame, label, score: one row an image or clip, score = P(fake)). A detector of your
own takes part by putting its CSV there. With a column `logit`, images are ranked by it: it tells apart what P(fake) rounds to 1. What comes out, in OUT:

    results.csv       one row a detector, data set and level: counts, every metric and its 95 % interval
    tables.md         a table a metric and level, detectors as rows, data sets as columns
    report.html       all of this on one page that needs nothing else: tables, figures, counts, settings, versions
    table3.md         where detectors and data sets have the names of FeatureTransfer's Table 3 (papers.py): ours, the paper's, the difference
    clrnet_table3.md  to clrnet_table6.md: the same for CLRNet's tables, F1 (macro) with our interval
    table2.md         with --faces: face images a data set and split beside the paper's Table 2

and as .png and .pdf, at the width of a paper's column or page:

    roc_NAME          ROC curves of all detectors on one data set, image or clip level
    scores_NAME       how their scores of real and of fake lie
    auc               AUC of all detectors on all data sets with their intervals, image or clip level beside video level
    figure2           image level against video level, one panel a detector (FeatureTransfer, Figure 2)
    figure3           two training strategies, where scores of FT-20epochs and DANN-20epochs are there (FeatureTransfer, Figure 3)
    compression_NAME  AUC and mean scores against compression, where there are scores of NAME-crf23, NAME-crf40 ... (01 --crf)
    learning          with --runs: losses and validation AUC of each run, epoch by epoch

Levels: image (one row of the score file: an image or a clip) and video (FeatureTransfer 4.5: the mean of its rows' scores).
Metrics: AUC, EER, average precision; at the threshold 0.5, accuracy, precision, recall and F1 of the fake class and their means over
both classes ("macro"). What is not defined (one class only) says "undefined". Intervals: percentile bootstrap over videos, since
the images of a video are not independent; resamples in which a metric is not defined are left out.
"""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

from common import (
    Parser,
    add_system_arguments,
    auc,
    eer,
    fail,
    folder_names,
    progress,
    read_index,
    read_scores,
    read_table,
    run_script,
    write_table,
    write_whole,
)
from reporting import papers, report

METRICS = {
    "auc": "AUC",
    "eer": "EER",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "precision": "Precision (fake)",
    "recall": "Recall (fake)",
    "f1": "F1 (fake)",
    "precision_macro": "Precision (macro)",
    "recall_macro": "Recall (macro)",
    "f1_macro": "F1 (macro)",
}
HISTOGRAM = 40  # parts of 0..1 in which scores are counted to be drawn


def measure(labels, scores, ranks):
    """All METRICS of a set of scores by scikit-learn: {name: 0..1, or nan where it is not defined}. ranks: what orders the scores, as `read_scores` gives it."""
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        precision_recall_fscore_support,
    )

    both = len(np.unique(labels)) == 2
    # nan where a class is neither there nor predicted, and so in the means over both classes.
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, scores >= 0.5, labels=[0, 1], zero_division=np.nan
    )
    return dict(
        auc=auc(labels, ranks),
        eer=eer(labels, ranks),
        average_precision=float(average_precision_score(labels, ranks)) if both else np.nan,
        accuracy=float(accuracy_score(labels, scores >= 0.5)),
        precision=precision[1],
        recall=recall[1],
        f1=f1[1],
        precision_macro=precision.mean(),
        recall_macro=recall.mean(),
        f1_macro=f1.mean(),
    )


def measure_resampled(labels, scores, ranks, groups, weights, bins=65536):
    """The same metrics, each for many resamples: {name: (R,) array}.

    labels, scores, ranks, groups: (N,), P(fake), what orders it, and its group (video) as 0..V-1; weights: (R, V), how often each resample
    holds each group. scikit-learn would sort the scores anew for each resample; here they are sorted once, and a resample's
    curves are sums over its groups: one product of a sparse matrix (scores x groups) with the weights. Ties share one point of the
    curve, as in scikit-learn. Of more than `bins` different scores, neighbours share a point too, about N / bins of them:
    that moves AUC, EER and average precision by at most some 1 / bins, and the other metrics not at all.
    """
    from scipy.sparse import csr_matrix

    order = np.argsort(-ranks, kind="stable")
    scores, ranks, fake, groups = scores[order], ranks[order], labels[order] == 1, groups[order]
    new = np.append(True, ranks[1:] != ranks[:-1])  # where another score begins
    point = np.cumsum(new) - 1
    if point[-1] >= bins:
        key = np.flatnonzero(new)[point] * bins // len(scores)
        point = np.cumsum(np.append(False, np.diff(key) != 0))
    called = [
        np.bincount(groups[(scores >= 0.5) & chosen], minlength=weights.shape[1])
        for chosen in (fake, ~fake)
    ]  # fake at the threshold, of each group
    shape = point[-1] + 1, weights.shape[1]
    images = [
        csr_matrix((np.ones(chosen.sum()), (point[chosen], groups[chosen])), shape)
        for chosen in (fake, ~fake)
    ]
    results = {name: np.full(len(weights), np.nan) for name in METRICS}
    zero = np.zeros((1, 1))
    for r in range(
        0, len(weights), 32
    ):  # a few at a time: the curves of all would not fit into memory
        w = np.ascontiguousarray(weights[r : r + 32].T, np.float64)
        tps, fps = (np.cumsum(matrix @ w, 0) for matrix in images)
        positives, negatives = tps[-1], fps[-1]
        tp, fp = (counts @ w for counts in called)
        fn, tn = positives - tp, negatives - fp
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is nan: not defined
            # F1 = 2 TP / (2 TP + FP + FN); not defined only where the class is neither there nor predicted.
            one = [
                [tp / (tp + fp), tp / positives, 2 * tp / (2 * tp + fp + fn)],
                [tn / (tn + fn), tn / negatives, 2 * tn / (2 * tn + fp + fn)],
            ]
            both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
            tpr, fpr = (
                np.concatenate([zero.repeat(w.shape[1], 1), counts / counts[-1]])
                for counts in (tps, fps)
            )
            gap = 1 - tpr - fpr
            after, column = np.argmax(gap <= 1e-12, 0), np.arange(w.shape[1])
            before = gap[after - 1, column]
            step = before / (before - gap[after, column])
            values = dict(
                accuracy=(tp + tn) / (positives + negatives),
                precision=one[0][0],
                recall=one[0][1],
                f1=one[0][2],
                precision_macro=(one[0][0] + one[1][0]) / 2,
                recall_macro=(one[0][1] + one[1][1]) / 2,
                f1_macro=(one[0][2] + one[1][2]) / 2,
                auc=both * np.trapezoid(tpr, fpr, axis=0),
                eer=both
                * (fpr[after - 1, column] + step * (fpr[after, column] - fpr[after - 1, column])),
                average_precision=both
                * np.sum(np.diff(tpr, axis=0) * tps / np.maximum(tps + fps, 1e-12), 0),
            )
        for name, value in values.items():
            results[name][r : r + 32] = value
    return results


def evaluate(videos, labels, scores, ranks, resamples, seed):
    """Rows of results.csv for one score file: a list of (level, counts, {metric: (value, low, high)})."""
    names = {name: k for k, name in enumerate(sorted(set(videos)))}
    groups = np.fromiter(map(names.get, videos), np.int64, len(videos))
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, len(names)), np.uint16)  # how often a video is drawn
    for row in weights:
        row[:] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    per_video = np.bincount(groups)
    video_scores = np.bincount(groups, scores) / per_video  # FeatureTransfer 4.5
    video_labels = (np.bincount(groups, labels) / per_video).round().astype(int)
    rows = []
    for level, y, s, r, g in (
        ("image", labels, scores, ranks, groups),
        ("video", video_labels, video_scores, video_scores, np.arange(len(names))),
    ):
        values, samples = measure(y, s, r), measure_resampled(y, s, r, g, weights)
        intervals = {}
        for name, value in values.items():
            good = samples[name][~np.isnan(samples[name])]
            low, high = (
                np.percentile(good, (2.5, 97.5))
                if len(good) and not np.isnan(value)
                else (np.nan, np.nan)
            )
            intervals[name] = (value, low, high)
        rows.append(
            (
                level,
                dict(rows=len(y), real=int((y == 0).sum()), fake=int((y == 1).sum())),
                intervals,
            )
        )
    return rows


def text(value, low, high):
    """A cell of a table in percent with its interval."""
    return (
        "undefined" if np.isnan(value) else f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
    )


def write_tables(path, results, detectors, sets):
    """tables.md: a table a metric and level. results: {(detector, set): rows of `evaluate`}."""

    def safe(name):
        return name.replace("|", "\\|")

    lines = [
        "# Results",
        "",
        "Percent, with the 95 % interval from resampling videos; the best of a column in bold. A score is P(fake); the threshold of accuracy, precision, "
        "recall and F1 is 0.5.",
        "",
        "Images (or clips) and videos, real + fake:",
        "",
    ]
    for name in sets:
        counts = {
            tuple(rows[k][1][c] for k in (0, 1) for c in ("real", "fake"))
            for (_, s), rows in results.items()
            if s == name
        }
        lines.append(
            f"- {safe(name)}: "
            + "; ".join(f"{a} + {b} images, {c} + {d} videos" for a, b, c, d in sorted(counts))
        )
    for metric, title in METRICS.items():
        for k, level in enumerate(report.LEVELS):
            top = report.best(results, detectors, sets, metric, k)
            lines += [
                "",
                f"## {title}, {level}",
                "",
                "| | " + " | ".join(map(safe, sets)) + " |",
                "| --- " * (len(sets) + 1) + "|",
            ]
            for detector in detectors:
                cells = []
                for name in sets:
                    values = (
                        results[detector, name][k][2][metric]
                        if (detector, name) in results
                        else None
                    )
                    bold = (
                        "**"
                        if values and name in top and round(100 * values[0], 2) == top[name]
                        else ""
                    )
                    cells.append(bold + text(*values) + bold if values else "")
                lines.append(f"| {safe(detector)} | " + " | ".join(cells) + " |")
    with write_whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def roc(labels, scores):
    """A ROC curve to draw: false and true positive rates, at most some 4,000 points; none where there is one class only."""
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return [], []
    fpr, tpr, _ = roc_curve(labels, scores)
    path = np.concatenate(
        [[0], np.cumsum(np.diff(fpr) + np.diff(tpr))]
    )  # from corner to corner: 2 long
    keep = (
        np.unique(np.append(np.searchsorted(path, np.linspace(0, path[-1], 4000)), len(path) - 1))
        if len(path) > 4000
        else slice(None)
    )
    return fpr[keep], tpr[keep]


def paper_table(results, table):
    """A table of `papers.TABLES` as rows of text: ours, the paper's, ours minus the paper's; None if there is nothing of ours to put into it."""

    def numbers(cell):
        return [None if part == "-" else float(part) for part in cell.split("±")[0].split("/")]

    def show(values, sign=""):
        return (
            "-"
            if values is None
            else " / ".join("-" if v is None or np.isnan(v) else f"{v:{sign}.2f}" for v in values)
        )

    rows = [["", "", *table["columns"]]]
    found = False
    for label, where, paper in table["rows"]:
        measured = [results[place][0][2] if place in results else None for place in where]
        ours = [
            values and [100 * values[metric][0] for metric in table["metrics"]]
            for values in measured
        ]
        if table["mean"]:
            chosen = [v for v, column in zip(ours, table["columns"]) if column in table["mean"]]
            ours.append([np.mean([v[0] for v in chosen])] if all(chosen) else None)
        shown = [show(values) for values in ours]
        if len(table["metrics"]) == 1:
            shown[: len(measured)] = [
                text(*values[table["metrics"][0]]) if values else "-" for values in measured
            ]
        theirs = [cell.replace("/", " / ").replace("±", " ± ") for cell in paper]
        difference = [
            show(
                a and [None if v is None else u - v for u, v in zip(a, numbers(cell))]
                if cell != "-"
                else None,
                "+",
            )
            for a, cell in zip(ours, paper)
        ]
        found |= any(ours)
        rows += (
            [[label, "ours", *shown], ["", "paper", *theirs], ["", "difference", *difference]]
            if any(ours)
            else [[label, "paper", *theirs]]
        )
    return rows if found else None


def table_2(folders):
    """Face images, real / fake, of each folder of stage 01 and split beside FeatureTransfer's Table 2, as rows of text."""
    rows = [["", "split", "real / fake", "paper", "difference"]]
    for name, folder in folders.items():
        index = read_index(folder)
        split, label = np.array(index["split"]), index["label"]
        wanted = [s for n, s in papers.TABLE_2 if n == name and s is not None] or [None]
        for s in wanted:
            chosen = label[split == s] if s else label
            ours, paper = (
                (int((chosen == 0).sum()), int((chosen == 1).sum())),
                papers.TABLE_2.get((name, s)),
            )
            rows.append(
                [
                    name,
                    s or "all",
                    "{} / {}".format(*ours),
                    "{} / {}".format(*paper) if paper else "-",
                    "{:+d} / {:+d}".format(ours[0] - paper[0], ours[1] - paper[1])
                    if paper
                    else "-",
                ]
            )
    return rows


def print_and_write(path, title, rows):
    """Print rows of text as a table with aligned columns, and write them as Markdown."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    print(f"\n{title}\n")
    for row in rows:
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths)).rstrip())
    lines = [
        f"# {title}",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "| --- " * len(rows[0]) + "|",
        *("| " + " | ".join(row) + " |" for row in rows[1:]),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_args(folder):
    """The flags in a folder's args.json as a dict; empty where there are none."""
    try:
        flags = json.loads((folder / "args.json").read_text(encoding="utf-8"))["flags"]
        return flags if isinstance(flags, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def count_faces(name, folder):
    """What became of the videos of a folder of stage 01, for the report; reasons that differ in numbers alone are counted as one."""
    index, has = read_index(folder), (folder / "videos.csv").exists()
    reasons = (
        Counter(
            re.sub(r"[0-9]+", "N", reason)
            for reason in read_table(folder / "skipped.csv", ("reason",))["reason"]
        )
        if (folder / "skipped.csv").exists()
        else Counter()
    )
    return dict(
        set=name,
        videos=len(read_table(folder / "videos.csv", ("video",))["video"])
        if has
        else len(set(index["video"])),
        with_faces=len(set(index["video"])),
        real=int((index["label"] == 0).sum()),
        fake=int((index["label"] == 1).sum()),
        reasons=reasons,
    )


def read_runs(folder):
    """{run: {column: array}} of every log.csv below a folder, for the learning curves."""
    runs = {}
    for path in sorted(folder.rglob("log.csv")):
        table = read_table(path, ("epoch",))
        numbers = {
            column: (float, "nan")
            for column in table
            if column == "epoch" or column.endswith(("loss", "auc", "accuracy"))
        }
        if table["epoch"]:
            runs[str(path.parent.relative_to(folder))] = {
                column: values
                for column, values in read_table(path, ("epoch",), numbers).items()
                if column in numbers
            }
    return runs


def compressions(sets):
    """{NAME: [(crf or None, set)], in order} of the sets that are NAME re-encoded by `01 --crf`, and NAME itself."""
    found = {}
    for name in sets:
        match = re.fullmatch(r"(.+)-crf([0-9]+)", name)
        if match:
            found.setdefault(match[1], []).append((int(match[2]), name))
    return {
        base: [*([(None, base)] if base in sets else []), *sorted(levels)]
        for base, levels in found.items()
    }


def main():
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="folder of folders of score files: SCORES/DETECTOR/NAME.csv",
    )
    data.add_argument(
        "--faces",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of stage 01 whose images and skipped videos to count",
    )
    data.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of the runs of 02, 04 and 05, for learning curves",
    )
    data.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for tables and figures"
    )
    data.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap resamples for the intervals (default 1000)",
    )
    add_system_arguments(parser, seed=True, go_on=False)
    args = parser.parse_args()
    if args.resamples < 1:
        fail("--resamples must be 1 or more")
    if not args.scores and not args.faces:
        fail("give --scores, --faces or both")
    folders = folder_names(args.faces)
    paper_tables = []
    if args.faces:
        rows = table_2(folders)
        title = "Number of face images" + (
            ", FeatureTransfer, Table 2" if any(row[3] != "-" for row in rows[1:]) else ""
        )
        print_and_write(args.out / "table2.md", title, rows)
        if not args.scores:
            return
        paper_tables += [(title, rows)] if "Table 2" in title else []
    for flag, folder in (("scores", args.scores), ("runs", args.runs)):
        if folder and not folder.is_dir():
            fail(f"--{flag} {folder} is not a folder")
    files = sorted(path for path in args.scores.glob("*/*.csv") if not path.name.startswith("."))
    if not files:
        fail(f"no score files in {args.scores}: it should hold DETECTOR/NAME.csv")
    runs = read_runs(args.runs) if args.runs else {}
    faces = [count_faces(name, folder) for name, folder in folders.items()]

    lines, results, curves, histograms, means = [], {}, {}, {}, {}
    print(f"{len(files)} score files, {args.resamples} resamples each", flush=True)
    for path in progress(files, unit="file"):
        videos, labels, scores, ranks = read_scores(path)
        if not len(labels):
            fail(f"{path} has no rows")
        detector, name = path.parent.name, path.stem
        results[detector, name] = evaluate(videos, labels, scores, ranks, args.resamples, args.seed)
        curves.setdefault(name, {})[detector] = (
            results[detector, name][0][2]["auc"][0],
            roc(labels, ranks),
        )
        of_class = [scores[labels == label] for label in (0, 1)]
        histograms.setdefault(name, {})[detector] = [
            np.histogram(part, HISTOGRAM, (0, 1))[0] for part in of_class
        ]
        means[detector, name] = [part.mean() if len(part) else np.nan for part in of_class]
        for level, counts, values in results[detector, name]:
            lines.append(
                (
                    detector,
                    name,
                    level,
                    *counts.values(),
                    *(f"{v:.6f}" for m in METRICS for v in values[m]),
                )
            )
    detectors, sets = sorted({d for d, _ in results}), sorted({s for _, s in results})
    header = (
        "detector",
        "set",
        "level",
        "rows",
        "real",
        "fake",
        *(column for m in METRICS for column in (m, f"{m}_low", f"{m}_high")),
    )
    try:
        write_table(args.out / "results.csv", header, lines)
    except OSError as error:
        fail(f"cannot write to {args.out}: {error.strerror}")
    write_tables(args.out / "tables.md", results, detectors, sets)

    svgs = {}  # of the figures, for the report
    for name in sets:
        report.draw_roc(args.out / f"roc_{name}", name, curves[name], detectors, svgs)
        report.draw_scores(args.out / f"scores_{name}", name, histograms[name], svgs)
    report.draw_auc(args.out / "auc", results, detectors, sets, svgs)
    report.draw_bars(
        args.out / "figure2",
        [(d, [("image or clip level", d, 0), ("video level", d, 1)]) for d in detectors],
        sets,
        results,
        "Image level against video level (FeatureTransfer, Figure 2)",
        svgs,
    )
    strategies = [(title, d, 0) for d, title in papers.FIGURE_3.items() if d in detectors]
    if strategies:
        report.draw_bars(
            args.out / "figure3",
            [("image level", strategies)],
            [s for s in sets if any((d, s) in results for _, d, _ in strategies)],
            results,
            "Two training strategies (FeatureTransfer, Figure 3)",
            svgs,
        )
    for base, levels in compressions(sets).items():
        report.draw_compression(
            args.out / f"compression_{base}",
            base,
            levels,
            [d for d in detectors if any((d, s) in results for _, s in levels)],
            results,
            means,
            svgs,
        )
    if runs:
        report.draw_learning(args.out / "learning", runs, svgs)

    for k, level in enumerate(report.LEVELS):
        print(f"\nAUC / EER in percent, {level}\n")
        width = max(map(len, detectors))
        columns = {name: max(len(name), 15) for name in sets}
        print(" " * width + "".join(f"  {name:>{w}}" for name, w in columns.items()))
        for detector in detectors:
            cells = []
            for name, w in columns.items():
                values = results[detector, name][k][2] if (detector, name) in results else None
                cell = (
                    ""
                    if values is None
                    else "undefined"
                    if np.isnan(values["auc"][0])
                    else f"{100 * values['auc'][0]:.2f} / {100 * values['eer'][0]:.2f}"
                )
                cells.append(f"  {cell:>{w}}")
            print(f"{detector:<{width}}" + "".join(cells))
    for table in papers.TABLES:
        rows = paper_table(results, table)
        if rows:
            print_and_write(args.out / table["file"], table["title"], rows)
            paper_tables.append((table["title"], rows))
    flags = {name: read_args(folder) for name, folder in folders.items()}
    flags |= {f"run {name}": read_args(args.runs / name) for name in runs}
    settings = {
        "This report": f"{len(files)} score files of {args.scores}, {args.resamples} resamples, seed {args.seed}",
        "Versions": report.versions(),
        **{
            name: "\n".join(f"{key}: {value}" for key, value in of.items())
            for name, of in flags.items()
            if of
        },
    }
    report.write_report(
        args.out / "report.html",
        results,
        detectors,
        sets,
        METRICS,
        svgs,
        faces,
        paper_tables,
        settings,
        any(of.get("generated") for of in flags.values()),
    )
    print(
        f"\nthe report: {args.out / 'report.html'}; all metrics with intervals: {args.out / 'tables.md'}, {args.out / 'results.csv'}; figures: {args.out}/*.png, *.pdf"
    )


if __name__ == "__main__":
    run_script(main)

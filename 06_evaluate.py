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
    fail,
    folder_names,
    progress,
    read_index,
    read_scores,
    read_table,
    write_table,
)
from reporting import figures, papers, report
from reporting.metrics import METRICS, evaluate, roc
from reporting.tables import paper_table, print_and_write, table_2, write_tables
from running.script import run_script

HISTOGRAM = 40  # parts of 0..1 in which scores are counted to be drawn


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
        figures.draw_roc(args.out / f"roc_{name}", name, curves[name], detectors, svgs)
        figures.draw_scores(args.out / f"scores_{name}", name, histograms[name], svgs)
    figures.draw_auc(args.out / "auc", results, detectors, sets, svgs)
    figures.draw_bars(
        args.out / "figure2",
        [(d, [("image or clip level", d, 0), ("video level", d, 1)]) for d in detectors],
        sets,
        results,
        "Image level against video level (FeatureTransfer, Figure 2)",
        svgs,
    )
    strategies = [(title, d, 0) for d, title in papers.FIGURE_3.items() if d in detectors]
    if strategies:
        figures.draw_bars(
            args.out / "figure3",
            [("image level", strategies)],
            [s for s in sets if any((d, s) in results for _, d, _ in strategies)],
            results,
            "Two training strategies (FeatureTransfer, Figure 3)",
            svgs,
        )
    for base, levels in compressions(sets).items():
        figures.draw_compression(
            args.out / f"compression_{base}",
            base,
            levels,
            [d for d in detectors if any((d, s) in results for _, s in levels)],
            results,
            means,
            svgs,
        )
    if runs:
        figures.draw_learning(args.out / "learning", runs, svgs)

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

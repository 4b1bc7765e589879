#!/usr/bin/env python3
"""Stage 06: from scores to tables and figures. Needs score files only, no network or GPU.

    python 06_evaluate.py --scores scores --out results
    python 06_evaluate.py --scores scores --out results --resamples 20      # quick, rough intervals
    python 06_evaluate.py --scores scores --faces faces/* --runs runs --out results
    python 06_evaluate.py --faces faces/FF-DF faces/Celeb-DF --out results  # Table 2 only

Reads every SCORES/DETECTOR/NAME.csv with the columns video, frame, label and score, P(fake), one
row per image or clip. To compare a detector of your own, put its CSV files there. If there is a
column `logit`, images are ranked by it: it still orders images whose P(fake) is rounded to 1. Extra
columns are ignored. What it writes to OUT:

    results.csv       one row per detector, data set and level: counts, and all metrics with their
                      95 % intervals
    tables.md         one table per metric and level: detectors as rows, data sets as columns
    report.html       all results on one self-contained page: tables, figures, counts, settings,
                      versions; learning curves with --runs, counts of faces with --faces
    table2.md         with --faces: numbers of face images beside FeatureTransfer's Table 2
    table3.md         FeatureTransfer's Table 3: ours, the paper's, the difference, if detectors and
                      data sets are named as in the paper (reporting/tables.py)
    clrnet_table3.md  to clrnet_table6.md: the same for CLRNet's tables, in balanced accuracy and
                      macro F1

and these figures, as PNG and PDF, as wide as a paper's column or page:

    roc_NAME          ROC curves of all detectors on one data set, image or clip level
    scores_NAME       distributions of their scores of reals and fakes
    figure2           AUC with intervals at image level against video level, one panel per detector
                      (FeatureTransfer, Figure 2)
    figure3           two training strategies, if there are scores of FT-20epochs or DANN-20epochs
                      (FeatureTransfer, Figure 3)
    learning          with --runs: losses and validation metrics of each run by epoch, of 40 runs
                      at most
    embedding_NAME    with --runs: 04's embedding of source and target images, NAME the target; one
                      row per run

Repeated trainings of a detector are folders DETECTOR@SEED, where SEED is a number. Where there are
several, tables, report and bars show their mean and sample standard deviation in one row DETECTOR,
in the place of a folder with just this name; results.csv, ROC curves and distributions have each
training.

Each table is followed by the data behind it: the numbers of videos and images that each training
scored of each data set, how many videos all of them have in common, and how many the paper has,
where it says so; the seed of each training, from the name of its folder or the args.json of the run
below --runs that has its name; and with --faces the flags by which the faces were taken.

Levels: image (one row of the score file, an image or a clip) and video (the mean of its rows'
scores, FeatureTransfer 4.5). Metrics: AUC, EER, average precision; and at the threshold 0.5
accuracy, and precision, recall and F1 of the fake class and as means over both classes (macro). A
metric that is not defined, as with one class only, is shown as "undefined" (nan in results.csv).

EER: the rate at which false positives and false negatives are equally frequent, interpolated
linearly on the ROC curve. Average precision: the sum of precision times the step in recall over all
thresholds, which is not interpolated.

Choices that the papers do not describe:

                      papers                here
    intervals         none (CLRNet: ±)      95 %, percentile bootstrap over videos, as the images of
                                            a video are not independent; resamples in which a metric
                                            is undefined are left out; of repeated trainings ± the
                                            sample standard deviation
    CLRNet's numbers  headed F1, in the     balanced accuracy (the macro recall) is compared with
                      text accuracy; equal  them, and macro F1 stands beside it: cells near 50 fit
                      numbers of real and   accuracy; calling everything real has macro F1 33
                      fake in the code
"""

from pathlib import Path

import numpy as np

from common import (
    Parser,
    add_system_flags,
    fail,
    no_formula,
    printable,
    progress,
    read_scores,
    write_table,
)
from reporting import figures, metrics, pages, tables
from running.folder import folder_names, read_flags
from running.processes import describe_processor, run_script


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument_group("data (--scores, --faces or both)").add_argument
    text = "folder of score files: DIR/DETECTOR/NAME.csv"
    add("--scores", type=Path, metavar="DIR", help=text)
    text = "folders of stage 01 whose images and skipped videos are counted"
    add("--faces", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    text = "folder of the runs of 02, 04 and 05, for learning curves"
    add("--runs", type=Path, metavar="DIR", help=text)
    text = "folder for tables and figures; files of an earlier run are overwritten"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "bootstrap resamples for the intervals (default 1000)"
    add("--resamples", type=int, default=1000, metavar="N", help=text)
    add_system_flags(parser, seed=True, allow_changes=False)
    args = parser.parse_args()
    if args.resamples < 1:
        fail("--resamples must be 1 or more")
    if not args.scores and (args.runs or not args.faces):
        fail("give --scores, --faces or both; --runs goes together with --scores")
    for flag, folder in (("scores", args.scores), ("runs", args.runs)):
        if folder and not folder.is_dir():
            fail(f"--{flag} {folder} is not a folder")
    return args


def find_score_files(folder):
    """{(detector, data set): path} of FOLDER/DETECTOR/NAME.csv or .CSV, in order."""
    files = {}
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() != ".csv" or path.name.startswith("."):
            continue
        key = printable(path.parent.name), printable(path.stem)
        if key in files:
            fail(f"{files[key]} and {path} are both the scores of {' on '.join(key)}: delete one")
        files[key] = path
    if not files:
        fail(f"no score files in {folder}: it should contain DETECTOR/NAME.csv")
    return files


def find_runs(folder):
    """{name: folder} of the runs of 02, 04 and 05 below a folder: those with log.csv and args.json.

    Those in subfolders, such as the runs of a grid, come last. A log.csv of another program is
    skipped, and named.
    """
    runs = {}
    for path in sorted(folder.rglob("log.csv"), key=lambda path: (len(path.parts), path)):
        if read_flags(path.parent):
            runs[printable(path.parent.relative_to(folder))] = path.parent
        else:
            print(f"{printable(path)} is skipped: its folder has no args.json of 02, 04 or 05")
    return runs


def evaluate(videos, labels, scores, ranks, resamples, seed):
    """All metrics of one score file with their intervals, at both levels: {level: dict}.

    Args:
        videos, labels, scores, ranks: of N images or clips, as `common.read_scores` returns them.
    """
    # FeatureTransfer 4.5: the score of a video is the mean of its images' scores.
    groups, video_labels, video_scores = metrics.video_means(videos, labels, scores)
    # The bootstrap resamples videos, as the images of a video are not independent: V of V videos
    # are drawn with replacement. weights (R, V): how often each resample has each video.
    weights = metrics.draw_resamples(len(video_labels), resamples, seed)
    each = np.arange(len(video_labels))
    return dict(
        image=with_intervals(labels, scores, ranks, groups, weights),
        video=with_intervals(video_labels, video_scores, video_scores, each, weights),
    )


def with_intervals(labels, scores, ranks, groups, weights):
    """The metrics of one level with their 95 % intervals from R resamples of V videos.

    groups: (N,), the number 0..V-1 of each image's video. Returns {"rows", "real", "fake": counts;
    metric: (value, low, high)}; a metric's interval leaves out resamples in which it is undefined.
    """
    result = dict(rows=len(labels), real=int((labels == 0).sum()), fake=int((labels == 1).sum()))
    resampled = metrics.measure_resampled(labels, scores, ranks, groups, weights)
    for name, value in metrics.measure(labels, scores, ranks).items():
        defined = resampled[name][~np.isnan(resampled[name])]
        low, high = np.nan, np.nan
        if len(defined) and not np.isnan(value):
            low, high = np.percentile(defined, (2.5, 97.5))
        result[name] = (value, low, high)
    return result


def contradictions(labels):
    """Warnings of videos that are real in one score file of a data set and fake in another.

    labels: {(detector, data set): {video: label}}.
    """
    first, different = {}, {}
    for (detector, name), of_file in labels.items():
        for video, label in of_file.items():
            other, of_other = first.setdefault((name, video), (detector, label))
            if label != of_other:
                different.setdefault(name, {})[video] = (other, detector)
    for name, of_set in different.items():
        video = min(of_set)
        yield (
            f"{name}: {len(of_set)} videos are real in one score file and fake in another, such as "
            f"{printable(video)}, in those of {' and '.join(of_set[video])}. Either the labels of "
            "one file are swapped (0 is real, 1 is fake), or the name stands for different videos."
        )


def below_chance(results):
    """A warning of the score files whose AUC is below 50 % by its whole interval.

    With fewer than five videos of a class, an AUC of 0 can be chance.
    """
    worse = []
    for (detector, name, level), result in results.items():
        value, _, high = result["auc"]
        of_videos = results[detector, name, "video"]
        if level == "image" and high < 0.5 and min(of_videos["real"], of_videos["fake"]) >= 5:
            at_most = metrics.percent(high)
            worse.append(f"{detector} on {name} ({metrics.percent(value)}, at most {at_most})")
    if worse:
        yield (
            f"The AUC is below 50 %, by its 95 % interval, of {'; '.join(worse)}. Likely causes: "
            "the scores are P(real) instead of P(fake), or the labels are swapped (0 is real, 1 is "
            "fake). The result can also be correct: a detector may fail on unknown fakes."
        )


def write_results(path, results):
    """Write results.csv: one row per detector, data set and level."""
    header = ["detector", "set", "level", "rows", "real", "fake"]
    for name in metrics.METRICS:
        header += [name, f"{name}_low", f"{name}_high"]
    rows = []
    for key, result in results.items():
        counts = [result[name] for name in ("rows", "real", "fake")]
        values = [f"{value:.6f}" for name in metrics.METRICS for value in result[name]]
        rows.append([*map(no_formula, key), *counts, *values])
    write_table(path, header, rows)


def draw_figures(out, curves, histograms, results, pooled, sets, runs):
    """Draw all figures; returns {name: SVG text} for the report.

    Curves and scores are drawn of each training, {(detector, set): data}; values with their spread
    are drawn from `pooled`, in which repeated trainings are one.
    """
    svgs = {}
    trained = sorted({detector for detector, _ in curves})
    detectors = sorted({detector for detector, *_ in pooled})
    for name in sets:
        of_set = [detector for detector in trained if (detector, name) in curves]
        lines = {d: (results[d, name, "image"]["auc"][0], curves[d, name]) for d in of_set}
        figures.draw_roc(out / f"roc_{name}", name, lines, trained, svgs)
        bars = {d: histograms[d, name] for d in of_set}
        figures.draw_scores(out / f"scores_{name}", name, bars, svgs)
    levels = [(title, level) for level, title in metrics.LEVELS.items()]
    charts = [(d, [(title, d, level) for title, level in levels]) for d in detectors]
    title = "Image level against video level (FeatureTransfer, Figure 2)"
    figures.draw_bars(out / "figure2", charts, sets, pooled, title, svgs)
    bars = [(title, d, "image") for d, title in tables.FIGURE_3.items() if d in detectors]
    if bars:
        scored = [name for name in sets if any((d, name, "image") in pooled for _, d, _ in bars)]
        title = "Two training strategies (FeatureTransfer, Figure 3)"
        figures.draw_bars(out / "figure3", [("image level", bars)], scored, pooled, title, svgs)

    figures.draw_learning(out / "learning", runs, svgs)
    figures.draw_embeddings(out, runs, svgs)
    return svgs


def main():
    args = parse_args()
    faces = {printable(name): folder for name, folder in folder_names(args.faces).items()}
    paper_tables = []
    if faces:
        title, rows = "Number of face images", tables.table_2(faces)
        if any(paper != "-" for _, _, _, paper, *_ in rows[1:]):
            title += ", FeatureTransfer, Table 2"
        paper_tables.append((title, rows, pages.describe_faces(faces, faces)))
        tables.print_and_write(args.out / "table2.md", *paper_tables[0])
    if not args.scores:
        return
    paths = find_score_files(args.scores)
    runs = find_runs(args.runs) if args.runs else {}

    settings = f"{args.resamples} resamples each; {describe_processor()}"
    print(f"{len(paths)} score files, {settings}", flush=True)
    results, curves, histograms, labels_of = {}, {}, {}, {}
    for (detector, name), path in progress(paths.items(), unit="file"):
        videos, labels, scores, ranks = read_scores(path)
        if not len(labels):
            fail(f"{path} has no rows: delete it, or write it again")
        measured = evaluate(videos, labels, scores, ranks, args.resamples, args.seed)
        for level, result in measured.items():
            results[detector, name, level] = result
        curves[detector, name] = metrics.roc(labels, ranks)
        histograms[detector, name] = figures.histograms(scores, labels)
        labels_of[detector, name] = dict(zip(videos, labels.tolist()))
    sets = sorted({name for _, name in paths})
    warnings = [*contradictions(labels_of), *below_chance(results)]

    pooled = metrics.pool_repeats(results)
    trainings = metrics.trainings_of(detector for detector, _ in paths)
    detectors = sorted(trainings)
    for name in detectors:
        if name not in trainings[name] and any(name == detector for detector, _ in paths):
            print(f"{name} is in results.csv; tables and bars have its repeated trainings")

    write_results(args.out / "results.csv", results)
    seeds = {run: printable(read_flags(path).get("seed", "")) for run, path in runs.items()}
    known = dict(videos=labels_of, results=results, faces=faces, seeds=seeds)
    basis = pages.describe_basis([(d, name) for d in detectors for name in sets], **known)
    tables.write_tables(args.out / "tables.md", pooled, detectors, sets, warnings, basis)
    svgs = draw_figures(args.out, curves, histograms, results, pooled, sets, runs)
    tables.print_auc_and_eer(pooled, detectors, sets)
    print("\n".join(["", *basis]))
    for table in tables.TABLES:
        rows = tables.paper_table(pooled, table)
        if rows:
            title, note = table["title"], table.get("note", "")
            papers = [title.split(",")[0]]
            of_table = pages.describe_basis(tables.places_of(table), **known, papers=papers)
            tables.print_and_write(args.out / table["file"], title, rows, of_table, note)
            paper_tables.append((title, rows, of_table))

    path = args.out / "report.html"
    inputs = (
        f"{len(paths)} score files of {args.scores}, {args.resamples} resamples, seed {args.seed}"
    )
    tables_ = (pooled, detectors, sets, paper_tables)
    pages.write_report(path, *tables_, svgs, faces, runs, basis, inputs, warnings)
    for warning in warnings:
        print(f"\nWARNING: {warning}")
    print(
        f"\nreport: {path}; all metrics with intervals: {args.out / 'tables.md'}, "
        f"{args.out / 'results.csv'}; figures: {args.out}/*.png, *.pdf"
    )


if __name__ == "__main__":
    run_script(main)

#!/usr/bin/env python3
"""Stage 06: from scores to tables and figures. Needs no network, no GPU and no faces: only score files.

    python 06_evaluate.py --scores scores --out results

Reads every SCORES/DETECTOR/NAME.csv (video, frame, label, score: one row an image or clip, score = P(fake)). A detector of your
own takes part by putting its CSV there. What comes out, in OUT:

    results.csv       one row a detector, data set and level: counts, every metric and its 95 % interval
    tables.md         a table a metric and level, detectors as rows, data sets as columns
    roc_NAME.png      ROC curves of all detectors on one data set, image or clip level
    auc.png           AUC of all detectors on all data sets with their intervals, image or clip level beside video level

Levels: image (one row of the score file: an image or a clip) and video (FeatureTransfer 4.5: the mean of its rows' scores).
Metrics: AUC, EER, average precision; at the threshold 0.5, accuracy, precision, recall and F1 of the fake class and their means over
both classes ("macro"). What is not defined (one class only) says "undefined". Intervals: percentile bootstrap over videos, since
the images of a video are not independent; resamples in which a metric is not defined are left out.
"""
import argparse
from pathlib import Path

import numpy as np

from common import add_system_arguments, auc, eer, fail, progress, read_scores, write_table, write_whole

METRICS = {"auc": "AUC", "eer": "EER", "average_precision": "Average precision", "accuracy": "Accuracy", "precision": "Precision (fake)",
           "recall": "Recall (fake)", "f1": "F1 (fake)", "precision_macro": "Precision (macro)", "recall_macro": "Recall (macro)",
           "f1_macro": "F1 (macro)"}
# Distinguishable for the colour-blind (Okabe and Ito), in print by their line styles.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")


def measure(labels, scores):
    """All METRICS of a set of scores by scikit-learn: {name: 0..1, or nan where it is not defined}."""
    from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support
    both = len(np.unique(labels)) == 2
    # nan where a class is neither there nor predicted, and so in the means over both classes.
    precision, recall, f1, _ = precision_recall_fscore_support(labels, scores >= 0.5, labels=[0, 1], zero_division=np.nan)
    return dict(auc=auc(labels, scores), eer=eer(labels, scores),
                average_precision=float(average_precision_score(labels, scores)) if both else np.nan,
                accuracy=float(accuracy_score(labels, scores >= 0.5)), precision=precision[1], recall=recall[1], f1=f1[1],
                precision_macro=precision.mean(), recall_macro=recall.mean(), f1_macro=f1.mean())


def measure_resampled(labels, scores, groups, weights):
    """The same metrics, each for many resamples: {name: (R,) array}.

    labels, scores, groups: (N,), the group (video) of each score as 0..V-1; weights: (R, V), how often each resample
    holds each group. scikit-learn would sort the scores anew for each resample; here they are sorted once and the curves
    come from cumulative weights. Ties share one point of the curve, as in scikit-learn.
    """
    order = np.argsort(-scores, kind="stable")
    fake, group = labels[order] == 1, groups[order]
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # last place of each run of equal scores
    above = np.searchsorted(-scores[order], -0.5, side="right")         # so many scores are 0.5 or more
    results = {name: np.full(len(weights), np.nan) for name in METRICS}

    def ratio(a, b):
        return a / b if b else np.nan

    for r, row in enumerate(weights):
        w = row[group].astype(np.float64)
        tps, alls = np.cumsum(np.where(fake, w, 0)), np.cumsum(w)
        positives, total = tps[-1], alls[-1]
        negatives = total - positives
        tp, predicted = (tps[above - 1], alls[above - 1]) if above else (0.0, 0.0)
        fp = predicted - tp
        fn, tn = positives - tp, negatives - fp
        # F1 = 2 TP / (2 TP + FP + FN); not defined only where the class is neither there nor predicted.
        one = [[ratio(tp, tp + fp), ratio(tp, positives), ratio(2 * tp, 2 * tp + fp + fn)],
               [ratio(tn, tn + fn), ratio(tn, negatives), ratio(2 * tn, 2 * tn + fp + fn)]]
        values = dict(accuracy=ratio(tp + tn, total), precision=one[0][0], recall=one[0][1], f1=one[0][2],
                      precision_macro=(one[0][0] + one[1][0]) / 2, recall_macro=(one[0][1] + one[1][1]) / 2,
                      f1_macro=(one[0][2] + one[1][2]) / 2)
        if positives and negatives:
            tps, alls = tps[ends], alls[ends]
            tpr, fpr = np.append(0, tps / positives), np.append(0, (alls - tps) / negatives)
            gap = 1 - tpr - fpr
            after = int(np.argmax(gap <= 1e-12))
            step = gap[after - 1] / (gap[after - 1] - gap[after])
            values |= dict(auc=np.trapezoid(tpr, fpr), eer=fpr[after - 1] + step * (fpr[after] - fpr[after - 1]),
                           average_precision=np.sum(np.diff(tpr) * tps / np.maximum(alls, 1e-12)))
        for name, value in values.items():
            results[name][r] = value
    return results


def evaluate(videos, labels, scores, resamples, seed):
    """Rows of results.csv for one score file: a list of (level, counts, {metric: (value, low, high)})."""
    names, groups = np.unique(np.array(videos), return_inverse=True)
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    per_video = np.bincount(groups)
    video_scores = np.bincount(groups, scores) / per_video                # FeatureTransfer 4.5
    video_labels = (np.bincount(groups, labels) / per_video).round().astype(int)
    rows = []
    for level, y, s, g in (("image", labels, scores, groups), ("video", video_labels, video_scores, np.arange(len(names)))):
        values, samples = measure(y, s), measure_resampled(y, s, g, weights)
        intervals = {}
        for name, value in values.items():
            good = samples[name][~np.isnan(samples[name])]
            low, high = np.percentile(good, (2.5, 97.5)) if len(good) and not np.isnan(value) else (np.nan, np.nan)
            intervals[name] = (value, low, high)
        rows.append((level, dict(rows=len(y), real=int((y == 0).sum()), fake=int((y == 1).sum())), intervals))
    return rows


def text(value, low, high):
    """A cell of a table in percent with its interval."""
    return "undefined" if np.isnan(value) else f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def write_tables(path, results, detectors, sets):
    """tables.md: a table a metric and level. results: {(detector, set): rows of `evaluate`}."""
    def safe(name):
        return name.replace("|", "\\|")

    lines = ["# Results", "", "Percent, with the 95 % interval from resampling videos. A score is P(fake); the threshold of accuracy, precision, "
             "recall and F1 is 0.5.", "", "Images (or clips) and videos, real + fake:", ""]
    for name in sets:
        counts = {tuple(rows[k][1][c] for k in (0, 1) for c in ("real", "fake")) for (_, s), rows in results.items() if s == name}
        lines.append(f"- {safe(name)}: " + "; ".join(f"{a} + {b} images, {c} + {d} videos" for a, b, c, d in sorted(counts)))
    for metric, title in METRICS.items():
        for k, level in enumerate(("image or clip level", "video level")):
            lines += ["", f"## {title}, {level}", "", "| | " + " | ".join(map(safe, sets)) + " |", "| --- " * (len(sets) + 1) + "|"]
            for detector in detectors:
                cells = [text(*results[detector, name][k][2][metric]) if (detector, name) in results else "" for name in sets]
                lines.append(f"| {safe(detector)} | " + " | ".join(cells) + " |")
    with write_whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def save_figure(figure, path):
    import matplotlib.pyplot as plt
    with write_whole(path) as part:
        figure.savefig(part, dpi=150, bbox_inches="tight", format=path.suffix[1:], metadata={"Software": None})
    plt.close(figure)


def draw_roc(path, name, curves):
    """ROC curves of one data set; curves: {detector: (labels, scores)}."""
    import matplotlib.pyplot as plt
    from sklearn.metrics import roc_curve
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    axes.plot([0, 100], [0, 100], color="0.75", linewidth=1)
    for k, (detector, (labels, scores)) in enumerate(curves.items()):
        value = auc(labels, scores)
        if np.isnan(value):
            axes.plot([], [], label=f"{detector}: undefined (one class)", color="0.75")
            continue
        fpr, tpr, _ = roc_curve(labels, scores)
        axes.plot(100 * fpr, 100 * tpr, label=f"{detector}: AUC {100 * value:.1f} %", color=COLOURS[k % len(COLOURS)],
                  linestyle=STYLES[k // len(COLOURS) % len(STYLES)], linewidth=1.6)
    axes.set(xlabel="false positive rate (%)", ylabel="true positive rate (%)", xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.set_title(f"{name}, image or clip level", fontsize=11)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_auc(path, results, detectors, sets):
    """AUC of each detector on each data set with its interval, one panel a level, a band a data set."""
    import matplotlib.pyplot as plt
    place, bands, y = {}, [], 0.0                                         # place: {(detector, set): height in the figure}
    for name in sets:
        top = y
        for detector in detectors:
            if (detector, name) in results:
                place[detector, name], y = y, y + 1
        bands.append((top - 0.9, y - 0.1))
        y += 0.8
    figure, panels = plt.subplots(1, 2, figsize=(10, 1.1 + 0.24 * y), sharey=True)
    for k, (axes, title) in enumerate(zip(panels, ("image or clip level", "video level"))):
        axes.axvline(50, color="0.75", linewidth=1)
        for top, bottom in bands[::2]:
            axes.axhspan(top, bottom, color="0.96", zorder=0)
        for d, detector in enumerate(detectors):
            found = [(place[detector, name], *(100 * v for v in results[detector, name][k][2]["auc"])) for name in sets if (detector, name) in place]
            found = np.array([values for values in found if not np.isnan(values[1])]).reshape(-1, 4)
            y, value, low, high = found.T
            # A percentile interval need not hold the value itself.
            axes.errorbar(value, y, xerr=np.clip([value - low, high - value], 0, None), fmt="os^D"[d % 4], color=COLOURS[d % len(COLOURS)],
                          markersize=5, capsize=2, label=detector)
        axes.set(xlabel="AUC (%)", xlim=(-2, 102), ylim=(bands[-1][1], bands[0][0]))
        axes.set_title(title, fontsize=11)
        axes.grid(axis="x", color="0.9")
    panels[0].set_yticks([(top + bottom) / 2 for top, bottom in bands], sets)
    panels[1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, frameon=False)
    save_figure(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--scores", type=Path, required=True, help="folder of folders of score files: SCORES/DETECTOR/NAME.csv")
    data.add_argument("--out", type=Path, required=True, help="folder for tables and figures")
    data.add_argument("--resamples", type=int, default=1000, metavar="N", help="bootstrap resamples for the intervals (default 1000)")
    add_system_arguments(parser, seed=True)
    args = parser.parse_args()
    if args.resamples < 1:
        fail("--resamples must be 1 or more")
    if not args.scores.is_dir():
        fail(f"--scores {args.scores} is not a folder")
    files = sorted(path for path in args.scores.glob("*/*.csv") if not path.name.startswith("."))
    if not files:
        fail(f"no score files in {args.scores}: it should hold DETECTOR/NAME.csv")
    import matplotlib
    matplotlib.use("Agg")

    table, results, curves = [], {}, {}
    print(f"{len(files)} score files, {args.resamples} resamples each", flush=True)
    for path in progress(files, unit="file"):
        videos, labels, scores = read_scores(path)
        if not len(labels):
            fail(f"{path} has no rows")
        detector, name = path.parent.name, path.stem
        results[detector, name] = evaluate(videos, labels, scores, args.resamples, args.seed)
        curves.setdefault(name, {})[detector] = labels, scores
        for level, counts, values in results[detector, name]:
            table.append((detector, name, level, *counts.values(), *(f"{v:.6f}" for m in METRICS for v in values[m])))
    detectors, sets = sorted({d for d, _ in results}), sorted({s for _, s in results})
    header = ("detector", "set", "level", "rows", "real", "fake", *(column for m in METRICS for column in (m, f"{m}_low", f"{m}_high")))
    try:
        write_table(args.out / "results.csv", header, table)
    except OSError as error:
        fail(f"cannot write to {args.out}: {error.strerror}")
    write_tables(args.out / "tables.md", results, detectors, sets)
    for name in sets:
        draw_roc(args.out / f"roc_{name}.png", name, curves[name])
    draw_auc(args.out / "auc.png", results, detectors, sets)

    for k, level in enumerate(("image or clip level", "video level")):
        print(f"\nAUC / EER in percent, {level}\n")
        width = max(map(len, detectors))
        columns = {name: max(len(name), 15) for name in sets}
        print(" " * width + "".join(f"  {name:>{w}}" for name, w in columns.items()))
        for detector in detectors:
            cells = []
            for name, w in columns.items():
                values = results[detector, name][k][2] if (detector, name) in results else None
                cell = "" if values is None else "undefined" if np.isnan(values["auc"][0]) else \
                    f"{100 * values['auc'][0]:.2f} / {100 * values['eer'][0]:.2f}"
                cells.append(f"  {cell:>{w}}")
            print(f"{detector:<{width}}" + "".join(cells))
    print(f"\nall metrics with intervals: {args.out / 'tables.md'}, {args.out / 'results.csv'}; figures: {args.out}/*.png")


if __name__ == "__main__":
    main()

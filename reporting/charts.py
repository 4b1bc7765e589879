"""The charts of stage 06: ROC curves, scores, AUC, learning curves.

`results` is {(detector, set, level): what `metrics.evaluate` returns for the level}. Each function
writes path.png and path.pdf, and adds the figure to `svgs` {name: SVG text} for the report.
"""

import numpy as np

from reporting.figures import COLORS, COLUMN, PAGE, STYLES, legend_below, pyplot, save_figure
from reporting.metrics import LEVELS

MARKERS = "os^D"


def find_auc(results, places):
    """AUC in percent where it is defined. places: [(position, (detector, set, level))].

    Returns four arrays: positions, values, and the lengths of the error bars (2, n).
    """
    found = [(x, *results[key]["auc"][:3]) for x, key in places if key in results]
    found = [row for row in found if not np.isnan(row[1])]
    position, value, low, high = np.array(found).reshape(-1, 4).T
    value, low, high = 100 * value, 100 * low, 100 * high
    # A percentile interval need not contain the value itself.
    return position, value, np.clip([value - low, high - value], 0, None)


def draw_roc(path, name, curves, detectors, svgs):
    """ROC curves of one data set, one column wide; a detector has the same color in all of them.

    curves: {detector: (AUC, (false positive rates, true positive rates))}; detectors: all of them.
    """
    figure, axes = pyplot().subplots(
        figsize=(COLUMN, COLUMN - 0.1 + 0.14 * len(curves)), layout="constrained"
    )
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.6)
    for detector, (auc, (fpr, tpr)) in curves.items():
        k = detectors.index(detector)
        style = STYLES[k % len(STYLES)]
        if np.isnan(auc):
            label = f"{detector}: undefined (one class)"
            axes.plot([], [], color="0.6", linestyle=style, label=label)
        else:
            x, y = 100 * np.asarray(fpr), 100 * np.asarray(tpr)
            label = f"{detector}: AUC {100 * auc:.1f} %"
            axes.plot(x, y, color=COLORS[k % len(COLORS)], linestyle=style, label=label)
    axes.set(
        xlabel="false positive rate (%)",
        ylabel="true positive rate (%)",
        xlim=(-1, 101),
        ylim=(-1, 101),
        aspect="equal",
        title=f"{name}, image or clip level",
    )
    legend_below(figure, axes, COLUMN)
    save_figure(figure, path, svgs)


def draw_scores(path, name, histograms, svgs):
    """Distributions of the scores of reals and fakes of one data set, one panel per detector.

    histograms: {detector: (counts of reals, counts of fakes)} in equal bins of 0..1.
    """
    columns = 3
    rows = -(-len(histograms) // columns)
    figure, panels = pyplot().subplots(
        rows,
        columns,
        figsize=(PAGE, 0.55 + 1.25 * rows),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for axes, (detector, pair) in zip(panels.flat, histograms.items()):
        for k, (label, counts) in enumerate(zip(("real", "fake"), pair)):
            share = 100 * counts / max(1, counts.sum())
            edges = np.linspace(0, 1, len(counts) + 1)
            axes.stairs(share, edges, fill=True, alpha=0.35, color=COLORS[k])
            axes.stairs(share, edges, color=COLORS[k], linestyle=STYLES[k], label=label)
        axes.axvline(0.5, color="0.5", linewidth=0.6, linestyle=":")
        axes.set_title(detector)
    for axes in panels[-1]:
        axes.set_xlabel("P(fake)")
    # A panel above an empty place shows the axis of its column.
    for k in range(len(histograms), panels.size):
        panels.flat[k].remove()
        if k >= columns:
            panels.flat[k - columns].tick_params(labelbottom=True)
            panels.flat[k - columns].set_xlabel("P(fake)")
    figure.suptitle(f"{name}: scores, image or clip level")
    figure.supylabel("share of images (%)", fontsize=8)
    legend_below(figure, panels[0, 0], PAGE)
    save_figure(figure, path, svgs)


def draw_auc(path, results, detectors, sets, svgs):
    """AUC with its interval, one panel per level, one band of rows per data set."""
    heights, bands, y = {}, [], 0.0
    for name in sets:
        top = y
        for detector in detectors:
            if (detector, name, "image") in results:
                heights[detector, name] = y
                y += 1
        bands.append((top - 0.9, y - 0.1))
        y += 0.8
    figure, panels = pyplot().subplots(
        1,
        2,
        figsize=(PAGE, 0.9 + 0.15 * y + 0.07 * len(detectors)),
        sharey=True,
        layout="constrained",
    )
    for axes, (level, title) in zip(panels, LEVELS.items()):
        axes.axvline(50, color="0.6", linewidth=0.6)
        for top, bottom in bands[::2]:
            axes.axhspan(top, bottom, color="0.5", alpha=0.1, zorder=0, linewidth=0)
        for k, detector in enumerate(detectors):
            places = [
                (height, (detector, name, level))
                for (of, name), height in heights.items()
                if of == detector
            ]
            height, value, error = find_auc(results, places)
            axes.errorbar(
                value,
                height,
                xerr=error,
                fmt=MARKERS[k % len(MARKERS)],
                color=COLORS[k % len(COLORS)],
                markersize=3.5,
                capsize=1.5,
                linewidth=0.9,
                label=detector,
            )
        axes.set(xlabel="AUC (%)", xlim=(-2, 102), ylim=(bands[-1][1], bands[0][0]), title=title)
        axes.grid(axis="x", color="0.5", alpha=0.25, linewidth=0.5)
    panels[0].set_yticks([(top + bottom) / 2 for top, bottom in bands], sets)
    legend_below(figure, panels[1], PAGE)
    save_figure(figure, path, svgs)


def draw_bars(path, panels, sets, results, title, svgs):
    """Bars of the AUC with its interval over data sets.

    panels: [(panel title, [(legend, detector, level)])].
    """
    # Long names of data sets are written at an angle.
    slanted = max(map(len, sets)) * len(sets) > 70
    figure, rows = pyplot().subplots(
        len(panels),
        1,
        figsize=(PAGE, (1.15 if slanted else 0.6) + 1.25 * len(panels)),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axes, (name, bars) in zip(rows[:, 0], panels):
        for k, (legend, detector, level) in enumerate(bars):
            places = [(x, (detector, of, level)) for x, of in enumerate(sets)]
            x, value, error = find_auc(results, places)
            x = x + (k - (len(bars) - 1) / 2) * 0.36
            axes.bar(
                x,
                value,
                0.34,
                color=COLORS[k],
                label=legend,
                hatch=("", "///")[k % 2],
                edgecolor="white",
                linewidth=0,
            )
            axes.errorbar(
                x, value, yerr=error, fmt="none", ecolor="0.4", elinewidth=0.8, capsize=1.5
            )
            for left, height, above in zip(x, value, np.nan_to_num(error[1])):
                text = f"{height:.1f}"
                axes.text(left, height + above + 2, text, ha="center", va="bottom", fontsize=6)
        axes.axhline(50, color="0.5", linewidth=0.6, linestyle=":")
        axes.set(
            ylabel="AUC (%)",
            ylim=(0, 122),
            xlim=(-0.6, len(sets) - 0.4),
            yticks=range(0, 101, 25),
            title=name,
        )
        rotation, align = (20, "right") if slanted else (0, "center")
        axes.set_xticks(range(len(sets)), sets, rotation=rotation, ha=align)
    legend_below(figure, rows[0, 0], PAGE)
    figure.suptitle(title)
    save_figure(figure, path, svgs)


def draw_learning(path, runs, svgs):
    """Learning curves, one row per run: losses on the left, validation metrics on the right.

    runs: {name: {column of log.csv: values}}.
    """
    figure, rows = pyplot().subplots(
        len(runs), 2, figsize=(PAGE, 0.3 + 1.3 * len(runs)), layout="constrained", squeeze=False
    )
    for (left, right), (name, log) in zip(rows, runs.items()):
        losses = [column for column in log if column.endswith("loss")]
        rates = [column for column in log if column.endswith(("auc", "accuracy"))]
        rates = [column for column in rates if not np.isnan(log[column]).all()]
        for axes, columns, scale in ((left, losses, 1), (right, rates, 100)):
            for k, column in enumerate(columns):
                axes.plot(
                    log["epoch"],
                    log[column] * scale,
                    color=COLORS[k],
                    linestyle=STYLES[k],
                    marker="." if len(log["epoch"]) < 30 else "",
                    markersize=3,
                    label=column.replace("_", " ").replace("auc", "AUC"),
                )
            axes.xaxis.get_major_locator().set_params(integer=True)
            if columns:
                axes.legend(loc="best", fontsize=6)
            else:
                axes.text(0.5, 0.5, "no validation", ha="center", transform=axes.transAxes)
        left.set_title(name, loc="left")
        left.set_ylabel("loss")
        right.set(ylabel="%", ylim=(-2, 102))
    for axes in rows[-1]:
        axes.set_xlabel("epoch")
    save_figure(figure, path, svgs)

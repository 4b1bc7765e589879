"""Every figure."""

import io
import re

import numpy as np

from common import write_whole
from reporting.report import LEVELS

COLUMN, PAGE = 3.4, 7.0  # inches


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


STYLES = ("-", "--", "-.", ":")


INK = "#1b1b1b"  # text and axes; in the report, the page's own colour


def pyplot():
    """matplotlib's pyplot with the settings of all figures."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.labelsize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "figure.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "lines.linewidth": 1.2,
            "savefig.dpi": 300,
            "pdf.fonttype": 42,
            "svg.fonttype": "none",
            "svg.hashsalt": "0",
            "text.parse_math": False,  # a $ in a name is a $
            **{
                key: INK
                for key in (
                    "text.color",
                    "axes.labelcolor",
                    "axes.edgecolor",
                    "axes.titlecolor",
                    "xtick.color",
                    "ytick.color",
                )
            },
        }
    )
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure, path, svgs=None):
    """Write a figure as path.png and path.pdf, and add it to `svgs` {name: SVG text}, if given, for the report."""
    from matplotlib.pyplot import close

    for kind, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
    ):
        with write_whole(path.with_name(f"{path.name}.{kind}")) as part:
            figure.savefig(part, format=kind, metadata=metadata)
        figure.set_layout_engine("none")  # it is laid out; the other kinds take it as it is
    if svgs is None:
        return close(figure)
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', text, count=1
    )
    # Two pictures on one page must not share the names of their parts.
    mark = re.sub(r"\W", "-", path.name)
    text = re.sub(r'(\bid="|url\(#|href="#)', lambda m: f"{m[1]}{mark}-", text)
    svgs[path.name] = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)


def below(figure, handles, labels, width):
    """A legend below a figure, in as many columns as fit."""
    longest = max(map(len, labels), default=1)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(len(labels), int(width * 13 / (longest + 5)))),
        handlelength=2.2,
        columnspacing=1.2,
    )


def draw_roc(path, name, curves, detectors, svgs):
    """ROC curves of one data set, a column wide, each of `detectors` in its own colour; curves: {detector: (AUC, (false positive rates, true positive rates))}."""
    figure, axes = pyplot().subplots(
        figsize=(COLUMN, COLUMN - 0.1 + 0.14 * len(curves)), layout="constrained"
    )
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.6)
    for detector, (value, (fpr, tpr)) in curves.items():
        k, defined = detectors.index(detector), not np.isnan(value)
        axes.plot(
            100 * np.asarray(fpr) if defined else [],
            100 * np.asarray(tpr) if defined else [],
            color=COLOURS[k % len(COLOURS)] if defined else "0.6",
            linestyle=STYLES[k % len(STYLES)],
            label=f"{detector}: AUC {100 * value:.1f} %"
            if defined
            else f"{detector}: undefined (one class)",
        )
    axes.set(
        xlabel="false positive rate (%)",
        ylabel="true positive rate (%)",
        xlim=(-1, 101),
        ylim=(-1, 101),
        aspect="equal",
        title=f"{name}, image or clip level",
    )
    below(figure, *axes.get_legend_handles_labels(), COLUMN)
    save_figure(figure, path, svgs)


def draw_scores(path, name, histograms, svgs):
    """How scores lie, real and fake, a panel a detector; histograms: {detector: (counts of real, counts of fake)} over equal parts of 0..1."""
    plt, columns = pyplot(), 3
    rows = -(-len(histograms) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(PAGE, 0.55 + 1.25 * rows),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for axes, (detector, pair) in zip(panels.flat, histograms.items()):
        for label, counts in enumerate(pair):
            share = 100 * counts / max(1, counts.sum())
            axes.stairs(
                share,
                np.linspace(0, 1, len(counts) + 1),
                fill=True,
                alpha=0.35,
                color=COLOURS[label],
            )
            axes.stairs(
                share,
                np.linspace(0, 1, len(counts) + 1),
                color=COLOURS[label],
                linestyle=STYLES[label],
                label=("real", "fake")[label],
            )
        axes.axvline(0.5, color="0.5", linewidth=0.6, linestyle=":")
        axes.set_title(detector)
    for k, axes in enumerate(panels.flat[len(histograms) :], len(histograms)):
        axes.remove()
        if k >= columns:
            panels.flat[k - columns].tick_params(labelbottom=True)
            panels.flat[k - columns].set_xlabel("P(fake)")
    figure.suptitle(f"{name}: scores, image or clip level")
    for axes in panels[-1]:
        axes.set_xlabel("P(fake)")
    figure.supylabel("share of images (%)", fontsize=8)
    below(figure, *panels[0, 0].get_legend_handles_labels(), PAGE)
    save_figure(figure, path, svgs)


def draw_auc(path, results, detectors, sets, svgs):
    """AUC of each detector on each data set with its interval, one panel a level, a band a data set."""
    place, bands, y = {}, [], 0.0  # place: {(detector, set): height in the figure}
    for name in sets:
        top = y
        for detector in detectors:
            if (detector, name) in results:
                place[detector, name], y = y, y + 1
        bands.append((top - 0.9, y - 0.1))
        y += 0.8
    figure, panels = pyplot().subplots(
        1,
        2,
        figsize=(PAGE, 0.9 + 0.15 * y + 0.07 * len(detectors)),
        sharey=True,
        layout="constrained",
    )
    for k, (axes, title) in enumerate(zip(panels, LEVELS)):
        axes.axvline(50, color="0.6", linewidth=0.6)
        for top, bottom in bands[::2]:
            axes.axhspan(top, bottom, color="0.5", alpha=0.1, zorder=0, linewidth=0)
        for d, detector in enumerate(detectors):
            found = [
                (place[detector, name], *(100 * v for v in results[detector, name][k][2]["auc"]))
                for name in sets
                if (detector, name) in place
            ]
            found = np.array([values for values in found if not np.isnan(values[1])]).reshape(-1, 4)
            y, value, low, high = found.T
            # A percentile interval need not hold the value itself.
            axes.errorbar(
                value,
                y,
                xerr=np.clip([value - low, high - value], 0, None),
                fmt="os^D"[d % 4],
                color=COLOURS[d % len(COLOURS)],
                markersize=3.5,
                capsize=1.5,
                linewidth=0.9,
                label=detector,
            )
        axes.set(xlabel="AUC (%)", xlim=(-2, 102), ylim=(bands[-1][1], bands[0][0]), title=title)
        axes.grid(axis="x", color="0.5", alpha=0.25, linewidth=0.5)
    panels[0].set_yticks([(top + bottom) / 2 for top, bottom in bands], sets)
    below(figure, *panels[1].get_legend_handles_labels(), PAGE)
    save_figure(figure, path, svgs)


def draw_bars(path, panels, sets, results, title, svgs):
    """Bars of the AUC with their intervals over data sets; panels: [(panel title, [(legend, detector, level as 0 image, 1 video)])]."""
    slant = max(map(len, sets)) * len(sets) > 70
    figure, rows = pyplot().subplots(
        len(panels),
        1,
        figsize=(PAGE, 0.6 + (0.55 if slant else 0) + 1.25 * len(panels)),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axes, (name, bars) in zip(rows[:, 0], panels):
        for k, (legend, detector, level) in enumerate(bars):
            found = [
                (x, *(100 * v for v in results[detector, s][level][2]["auc"]))
                for x, s in enumerate(sets)
                if (detector, s) in results
            ]
            x, value, low, high = (
                np.array([row for row in found if not np.isnan(row[1])]).reshape(-1, 4).T
            )
            where = x + (k - (len(bars) - 1) / 2) * 0.36
            axes.bar(
                where,
                value,
                0.34,
                color=COLOURS[k],
                label=legend,
                hatch=("", "///")[k % 2],
                edgecolor="white",
                linewidth=0,
            )
            axes.errorbar(
                where,
                value,
                yerr=np.clip([value - low, high - value], 0, None),
                fmt="none",
                ecolor="0.4",
                elinewidth=0.8,
                capsize=1.5,
            )
            for a, b, top in zip(where, value, high):
                axes.text(a, max(b, top) + 2, f"{b:.1f}", ha="center", va="bottom", fontsize=6)
        axes.axhline(50, color="0.5", linewidth=0.6, linestyle=":")
        axes.set(
            ylabel="AUC (%)",
            ylim=(0, 122),
            xlim=(-0.6, len(sets) - 0.4),
            yticks=range(0, 101, 25),
            title=name,
        )
        axes.set_xticks(
            range(len(sets)), sets, rotation=20 if slant else 0, ha="right" if slant else "center"
        )
    below(figure, *rows[0, 0].get_legend_handles_labels(), PAGE)
    figure.suptitle(title)
    save_figure(figure, path, svgs)


def draw_learning(path, runs, svgs):
    """Learning curves, a row a run: losses on the left, what was measured on validation data on the right; runs: {name: {column: values}}."""
    figure, rows = pyplot().subplots(
        len(runs), 2, figsize=(PAGE, 0.3 + 1.3 * len(runs)), layout="constrained", squeeze=False
    )
    for (left, right), (name, log) in zip(rows, runs.items()):
        for axes, part in (
            (left, [c for c in log if c.endswith("loss")]),
            (
                right,
                [c for c in log if c.endswith(("auc", "accuracy")) and not np.isnan(log[c]).all()],
            ),
        ):
            for k, column in enumerate(part):
                axes.plot(
                    log["epoch"],
                    log[column] * (1 if axes is left else 100),
                    color=COLOURS[k],
                    linestyle=STYLES[k],
                    marker="." if len(log["epoch"]) < 30 else "",
                    markersize=3,
                    label=column.replace("_", " ").replace("auc", "AUC"),
                )
            axes.xaxis.get_major_locator().set_params(integer=True)
            if part:
                axes.legend(loc="best", fontsize=6)
            else:
                axes.text(0.5, 0.5, "no validation", ha="center", transform=axes.transAxes)
        left.set_title(name, loc="left")
        left.set_ylabel("loss")
        right.set(ylabel="%", ylim=(-2, 102))
    for axes in rows[-1]:
        axes.set_xlabel("epoch")
    save_figure(figure, path, svgs)


def draw_compression(path, base, levels, detectors, results, means, svgs):
    """AUC, and the mean score of real and of fake, against compression; levels: [(x or None for as it is, set)] in order of x; means: {(detector, set): pair}."""
    figure, (left, right) = pyplot().subplots(
        1, 2, figsize=(PAGE, 2.4 + 0.07 * len(detectors)), layout="constrained"
    )
    for d, detector in enumerate(detectors):
        there = [(k, name) for k, (_, name) in enumerate(levels) if (detector, name) in results]
        style = dict(color=COLOURS[d % len(COLOURS)], markersize=3.5)
        x = [k for k, _ in there]
        value, low, high = (
            np.array([[100 * v for v in results[detector, name][0][2]["auc"]] for _, name in there])
            .reshape(-1, 3)
            .T
        )
        left.errorbar(
            x,
            value,
            yerr=np.clip([value - low, high - value], 0, None),
            fmt="os^D"[d % 4] + STYLES[d % len(STYLES)],
            capsize=1.5,
            label=detector,
            **style,
        )
        for label in (0, 1):
            right.plot(
                x,
                [means[detector, name][label] for _, name in there],
                ("--", "-")[label],
                marker="os^D"[d % 4],
                **style,
            )
    left.axhline(50, color="0.5", linewidth=0.6, linestyle=":")
    left.set(ylabel="AUC (%)", ylim=(-2, 102), title="image or clip level")
    right.set(ylabel="mean P(fake)", ylim=(-0.02, 1.02), title="solid: of fakes; dashed: of reals")
    for axes in (left, right):
        axes.set_xticks(
            range(len(levels)), ["as it is" if crf is None else f"crf {crf}" for crf, _ in levels]
        )
        axes.set_xlim(-0.3, len(levels) - 0.7)
    figure.suptitle(f"{base} against compression (x264's constant rate factor)")
    below(figure, *left.get_legend_handles_labels(), PAGE)
    save_figure(figure, path, svgs)

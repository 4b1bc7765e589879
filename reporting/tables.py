"""Tables in Markdown and for the terminal, and those in the form of the papers.

`results` is {(detector, set, level): what `metrics.evaluate` returns for the level} everywhere.
"""

import numpy as np

from common import read_index, write_whole
from reporting import papers
from reporting.metrics import LEVELS, METRICS

NOTE = (
    "Values are percentages with the 95 % interval from resampling videos; the best value of a "
    "column is in bold. A score is P(fake); accuracy, precision, recall and F1 are measured at the "
    "threshold 0.5. Values with ± are mean and sample standard deviation of n repeated trainings."
)


def markdown_table(rows):
    """Lines of a Markdown table. rows: lists of texts, of which the first is the header."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]]


def print_table(title, rows, align="<"):
    """Print rows of text with aligned columns; `align` (< or >) is that of all but the first."""
    first, *others = [max(map(len, column)) for column in zip(*rows)]
    print(f"\n{title}\n")
    for row in rows:
        cells = [f"{cell:{align}{width}}" for cell, width in zip(row[1:], others)]
        print("  ".join([f"{row[0]:<{first}}", *cells]).rstrip())


def write_markdown(path, title, lines):
    """Write a Markdown file of a title and lines, whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text("\n".join([f"# {title}", "", *lines]) + "\n", encoding="utf-8")


def percent_with_interval(value, low, high, trainings=None):
    """A cell in percent with its interval: "97.50 [95.1, 99.0]", or "undefined".

    Of several trainings (`pool_repeats`) it is "97.50 ± 0.20 (n=3)".
    """
    if np.isnan(value):
        return "undefined"
    if trainings:
        return f"{100 * value:.2f} ± {100 * (high - value):.2f} (n={trainings})"
    return f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def metric_table(results, detectors, sets, metric, level, show):
    """Rows of text of one metric at one level: one row per detector, one column per data set.

    show(interval, bold): the text of a cell. The best value of each column is bold, where at least
    two detectors have one; values that agree in the two decimals shown are equally good.
    """
    best = best_values(results, detectors, sets, metric, level)
    rows = [["", *sets]]
    for detector in detectors:
        cells = []
        for name in sets:
            result = results.get((detector, name, level))
            if result is None:
                cells.append("")
            else:
                interval = result[metric]
                bold = name in best and round(100 * interval[0], 2) == best[name]
                cells.append(show(interval, bold))
        rows.append([detector, *cells])
    return rows


def best_values(results, detectors, sets, metric, level):
    """{set: best value in percent to two decimals} where at least two detectors have a value."""
    best = {}
    for name in sets:
        found = [results.get((detector, name, level)) for detector in detectors]
        values = [round(100 * result[metric][0], 2) for result in found if result]
        values = [value for value in values if not np.isnan(value)]
        if len(values) > 1:
            best[name] = min(values) if metric == "eer" else max(values)
    return best


def count_scored(results, name):
    """Counts of a data set: [(reals, fakes, real videos, fake videos)], several if they differ."""
    counts = {}
    for (detector, of, _), result in results.items():
        if of == name:
            counts[detector] = (*counts.get(detector, ()), result["real"], result["fake"])
    return list(dict.fromkeys(counts.values()))


def write_tables(path, results, detectors, sets, warnings):
    """Write tables.md: what was scored, warnings, and one table per metric and level."""

    def show(interval, bold):
        text = percent_with_interval(*interval)
        return f"**{text}**" if bold else text

    lines = [NOTE, "", "Images (or clips) and videos, real + fake:", ""]
    for name in sets:
        counts = "; ".join(
            f"{real} + {fake} images, {real_videos} + {fake_videos} videos"
            for real, fake, real_videos, fake_videos in sorted(count_scored(results, name))
        )
        lines.append(f"- {name}: {counts}".replace("|", "\\|"))
    for warning in warnings:
        lines += ["", f"**Warning:** {warning}"]
    for metric, title in METRICS.items():
        for level, level_title in LEVELS.items():
            rows = metric_table(results, detectors, sets, metric, level, show)
            lines += ["", f"## {title}, {level_title}", "", *markdown_table(rows)]
    write_markdown(path, "Results", lines)


def print_auc_and_eer(results, detectors, sets):
    """Print AUC and EER of all detectors on all data sets, one table per level."""
    for level, title in LEVELS.items():
        rows = [["", *sets]]
        for detector in detectors:
            cells = []
            for name in sets:
                result = results.get((detector, name, level))
                if result is None:
                    cells.append("")
                elif np.isnan(result["auc"][0]):
                    cells.append("undefined")
                else:
                    cells.append(paper_cell(result, ("auc", "eer")))
            rows.append([detector, *cells])
        print_table(f"AUC / EER in percent, {title}", rows, align=">")


def paper_table(results, table):
    """One of `papers.TABLES` as rows of text, or None if none of its detectors was scored.

    A detector that was scored has rows of ours, of the paper's and of the difference (ours minus
    the paper's), the others only the paper's.
    """
    rows = [["", "", *table["columns"]]]
    for label, places, paper in table["rows"]:
        printed = [cell.replace("/", " / ").replace("±", " ± ") for cell in paper]
        found = [results.get((*place, "image")) for place in places]
        if not any(found):
            rows.append([label, "paper", *printed])
            continue
        for k, metrics in enumerate(table["metrics"]):
            ours = values_of(found, metrics, label, table)
            cells = [format_values(values) for values in ours]
            for place, result in enumerate(found):
                if result:
                    cells[place] = paper_cell(result, metrics)
            if k == 0:
                pairs = zip(ours, paper)
                difference = [format_values(subtract(*pair), sign="+") for pair in pairs]
                rows.append([label, "ours", *cells])
            else:
                rows.append(["", f"ours, {METRICS[metrics[0]]}", *cells])
        rows.append(["", "paper", *printed])
        rows.append(["", "difference", *difference])
    return rows if any(row[1] == "ours" for row in rows) else None


def paper_cell(result, metrics):
    """One metric with its interval, or several without; of repeated trainings with deviations."""
    intervals = [result[metric] for metric in metrics]
    if len(metrics) == 1 or len(intervals[0]) > 3:
        return " / ".join(percent_with_interval(*interval) for interval in intervals)
    return format_values([100 * value for value, *_ in intervals])


def values_of(found, metrics, label, table):
    """Our values in percent for the columns of a row: a list per column, or None if not scored.

    With an average column, it is the mean over the cells that the paper averages in this row, if
    all of them are scored.
    """
    ours = [result and [100 * result[metric][0] for metric in metrics] for result in found]
    if table["mean"]:
        averaged = table["mean_of"].get(label, table["mean"])
        values = [v for v, column in zip(ours, table["columns"]) if column in averaged]
        ours.append([np.mean([v[0] for v in values])] if all(values) else None)
    return ours


def format_values(values, sign=""):
    """A cell of a paper's table: numbers, with - for each that is missing, or for all of them."""
    if values is None:
        return "-"
    return " / ".join("-" if v is None or np.isnan(v) else f"{v:{sign}.2f}" for v in values)


def subtract(ours, cell):
    """Our values minus those of the paper's cell; None where one of them is missing."""
    if ours is None or cell == "-":
        return None
    paper = cell.split("±")[0].split("/")
    return [None if text == "-" else value - float(text) for value, text in zip(ours, paper)]


def table_2(folders):
    """Numbers of face images beside FeatureTransfer's Table 2: (title, rows of text).

    folders: {name: folder of stage 01}. One row per split that the paper counts, or one for all
    images of a folder; the title names the paper's table only if it has one of the data sets.
    """
    rows = [["", "split", "real / fake", "paper", "difference"]]
    title = "Number of face images"
    for name, folder in folders.items():
        index = read_index(folder)
        split, label = np.array(index["split"]), index["label"]
        counted = [of for known, of in papers.TABLE_2 if known == name and of is not None]
        for of in counted or [None]:
            chosen = label[split == of] if of else label
            real, fake = int((chosen == 0).sum()), int((chosen == 1).sum())
            paper, difference = "-", "-"
            if (name, of) in papers.TABLE_2:
                paper_real, paper_fake = papers.TABLE_2[name, of]
                paper = f"{paper_real} / {paper_fake}"
                difference = f"{real - paper_real:+d} / {fake - paper_fake:+d}"
                title = "Number of face images, FeatureTransfer, Table 2"
            rows.append([name, of or "all", f"{real} / {fake}", paper, difference])
    return title, rows


def print_and_write(path, title, rows, note=""):
    """Print rows of text as a table with a note, and write both as Markdown."""
    print_table(title, rows)
    if note:
        print(f"\n{note}")
    write_markdown(path, title, [*markdown_table(rows), *(["", note] if note else [])])

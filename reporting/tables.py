"""Tables for the terminal and in Markdown."""

import numpy as np

from common import read_index, write_whole
from reporting import papers, report
from reporting.metrics import METRICS


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

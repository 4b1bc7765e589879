"""Figures and report.html of stage 06: pictures for a paper (PNG and PDF, at a column's width), and one page with all of it. Nothing is computed here.

Widths: 3.4 inches, a column of a two-column page, and 7 inches, both columns. Colours are those of Okabe and Ito, which the colour-blind tell apart;
in black and white line styles and markers do.
"""

import html
import platform
from pathlib import Path

import numpy as np

from common import write_whole

LEVELS = ("image or clip level", "video level")
HEADLINE = ("auc", "eer")  # the metrics that the report begins with


STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #d0d0d0; --soft: #f4f4f4; --warn: #a00000 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --paper: #16181a; --line: #44484c; --soft: #22262a; --warn: #ff8a80 } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif }
h1, h2, h3 { line-height: 1.2; margin: 2em 0 .5em } h1 { margin-top: .5em }
nav { display: flex; flex-wrap: wrap; gap: .2em 1em } a { color: inherit }
.wide { overflow-x: auto; margin: 0 0 1em } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) } thead th { background: var(--soft); white-space: normal; vertical-align: bottom }
td.text { text-align: left; white-space: normal; min-width: 12em } .small { font-size: .75rem; opacity: .75; display: block }
figure { margin: 1em 0 } figure svg { width: 100%; height: auto; color: var(--ink) } .columns { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 0 1rem }
pre { overflow-x: auto; background: var(--soft); padding: .7em; font-size: .75rem } .warn { color: var(--warn); font-weight: bold }
@media print {
  :root { --ink: #000; --paper: #fff; --line: #bbb; --soft: #f4f4f4; --warn: #a00000 }
  body { font-size: 11px; padding: 0; max-width: none } nav { display: none } .columns { grid-template-columns: 1fr 1fr }
  h1, h2, h3 { break-after: avoid; margin: 1em 0 .4em } figure, .wide { break-inside: avoid } pre { white-space: pre-wrap }
}
"""


def table(head, rows, text=()):
    """An HTML table that scrolls by itself on a narrow screen; cells are HTML; `text`: columns of running text."""
    cells = (
        "".join(
            f"<td{' class=text' if k in text else ''}>{cell}</td>" for k, cell in enumerate(row)
        )
        for row in rows
    )
    return (
        "<div class=wide><table><thead><tr>"
        + "".join(f"<th>{cell}</th>" for cell in head)
        + "</tr></thead><tbody>"
        + "".join(f"<tr>{row}</tr>\n" for row in cells)
        + "</tbody></table></div>"
    )


def best(results, detectors, sets, metric, level):
    """{set: the best value, to the two decimals that are shown} where at least two detectors have one."""
    found = {}
    for name in sets:
        values = [
            round(100 * v, 2)
            for d in detectors
            if (d, name) in results and not np.isnan(v := results[d, name][level][2][metric][0])
        ]
        if len(values) > 1:
            found[name] = min(values) if metric == "eer" else max(values)
    return found


def metric_tables(results, detectors, sets, metrics):
    """HTML: a heading and a table for each metric and level."""
    parts = []
    for metric, title in metrics.items():
        for k, level in enumerate(LEVELS):
            top, rows = best(results, detectors, sets, metric, k), []
            for detector in detectors:
                cells = [html.escape(detector)]
                for name in sets:
                    value, low, high = (
                        results[detector, name][k][2][metric]
                        if (detector, name) in results
                        else (None, 0, 0)
                    )
                    shown = (
                        ""
                        if value is None
                        else "undefined"
                        if np.isnan(value)
                        else f"{100 * value:.2f}"
                    )
                    shown = (
                        f"<b>{shown}</b>"
                        if value is not None and name in top and round(100 * value, 2) == top[name]
                        else shown
                    )
                    cells.append(
                        shown
                        + (
                            ""
                            if value is None or np.isnan(value)
                            else f"<span class=small>{100 * low:.1f} to {100 * high:.1f}</span>"
                        )
                    )
                rows.append(cells)
            parts += [f"<h3>{title}, {level}</h3>", table(["", *map(html.escape, sets)], rows)]
    return parts


def write_report(
    path, results, detectors, sets, metrics, svgs, faces, tables, settings, demonstration
):
    """The page: a single file without anything from outside.

    results: {(detector, set): rows of 06's `evaluate`}; metrics: {name: title}; faces: [{"set", "videos", "with_faces", "real", "fake", "reasons": Counter}];
    tables: [(title, rows of text)], the papers'; settings: {title: text}; demonstration: whether the data are known to be generated.
    """
    esc = html.escape

    def figures(prefix):
        return "".join(
            f"<figure>{svg}</figure>" for name, svg in svgs.items() if name.startswith(prefix)
        )

    body = ["<h1>Results</h1>"]
    if demonstration:
        body.append(
            "<p class=warn>DEMONSTRATION: generated videos are among the data. No number here says anything about real videos.</p>"
        )
    body.append(
        "<nav>"
        + "".join(
            f'<a href="#{key}">{title}</a>'
            for key, title in (
                ("tables", "Tables"),
                ("roc", "ROC curves"),
                ("scores", "Scores"),
                ("levels", "Image against video level"),
                ("learning", "Learning curves"),
                ("data", "Data"),
                ("more", "All metrics"),
                ("settings", "Settings"),
            )
        )
        + "</nav>"
    )
    body.append(
        "<p>Percent, with the 95 % interval from resampling videos; the best of a column in bold. A score is P(fake); accuracy, precision, recall and F1 are "
        "at the threshold 0.5.</p><h2 id=tables>Tables</h2>"
    )
    body += metric_tables(results, detectors, sets, {name: metrics[name] for name in HEADLINE})
    if tables:
        body.append("<h2>The papers' tables</h2>")
        for title, rows in tables:
            body += [
                f"<h3>{esc(title)}</h3>",
                table(list(map(esc, rows[0])), [list(map(esc, row)) for row in rows[1:]]),
            ]
    body += [
        "<h2 id=roc>ROC curves</h2>",
        f"<div class=columns>{figures('roc_')}</div>",
        "<h2 id=scores>Scores</h2>",
        figures("scores_"),
        "<h2 id=levels>Image level against video level</h2>",
        figures("auc"),
        figures("figure"),
    ]
    if any(name.startswith("compression_") for name in svgs):
        body += ["<h2>Compression</h2>", figures("compression_")]
    body += [
        "<h2 id=learning>Learning curves</h2>",
        figures("learning") or "<p>No runs were given (<code>--runs</code>).</p>",
        "<h2 id=data>Data</h2>",
    ]
    rows = [
        [
            esc(name),
            *(
                str(next(rows for (_, s), rows in results.items() if s == name)[k][1][c])
                for k in (0, 1)
                for c in ("real", "fake")
            ),
        ]
        for name in sets
    ]
    body += [
        "<h3>What was scored</h3>",
        table(["", "real images or clips", "fake", "real videos", "fake"], rows),
    ]
    if faces:
        rows = [
            [
                esc(f["set"]),
                str(f["videos"]),
                str(f["with_faces"]),
                str(f["real"]),
                str(f["fake"]),
                "; ".join(f"{esc(reason)}: {n}" for reason, n in f["reasons"].most_common(8))
                or "none",
            ]
            for f in faces
        ]
        body += [
            "<h3>Faces</h3>",
            table(
                ["", "videos", "with faces", "real images", "fake images", "skipped"],
                rows,
                text=(5,),
            ),
        ]
    else:
        body.append("<p>No face folders were given (<code>--faces</code>).</p>")
    body.append("<h2 id=more>All metrics</h2>")
    body += metric_tables(
        results,
        detectors,
        sets,
        {name: title for name, title in metrics.items() if name not in HEADLINE},
    )
    body.append("<h2 id=settings>Settings</h2>")
    body += [f"<h3>{esc(title)}</h3><pre>{esc(text)}</pre>" for title, text in settings.items()]
    page = (
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'><title>Results</title>"
        f"<style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
    with write_whole(Path(path)) as part:
        part.write_text(page, encoding="utf-8", errors="backslashreplace")


def versions():
    """The versions of what computed the results, as text."""
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in (
        "numpy",
        "scipy",
        "scikit-learn",
        "matplotlib",
        "torch",
        "torchvision",
        "pretrainedmodels",
        "dlib-bin",
        "imageio-ffmpeg",
    ):
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)

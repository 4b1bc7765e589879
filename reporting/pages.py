"""report.html of stage 06: one page, without anything from outside, that shows all results.

`results` is {(detector, set, level): what `metrics.evaluate` returns for the level}; `svgs` is
{name: SVG text} of the figures. Nothing is computed here.
"""

import html
import platform
from pathlib import Path

import numpy as np

from common import write_whole
from reporting.metrics import LEVELS, METRICS
from reporting.tables import NOTE, count_scored, metric_table

# The metrics that the report begins with.
HEADLINE = ("auc", "eer")
SECTIONS = {
    "tables": "Tables",
    "roc": "ROC curves",
    "scores": "Scores",
    "levels": "Image level against video level",
    "learning": "Learning curves",
    "data": "Data",
    "more": "All metrics",
    "settings": "Settings",
}
PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "torch",
    "torchvision",
    "pretrainedmodels",
    "dlib-bin",
    "imageio-ffmpeg",
)


def write_report(
    path, results, detectors, sets, svgs, faces, paper_tables, settings, demonstration, warnings
):
    """Write the page.

    faces: [{"set", "videos", "with_faces", "real", "fake", "reasons": Counter}]; paper_tables:
    [(title, rows of text)]; settings: {title: text}; demonstration: whether there are generated
    videos among the data; warnings: texts.
    """
    headline = {name: METRICS[name] for name in HEADLINE}
    others = {name: title for name, title in METRICS.items() if name not in HEADLINE}
    body = [
        *introduction(demonstration, warnings),
        heading("tables"),
        *metric_tables(results, detectors, sets, headline),
        *papers_section(paper_tables),
        *figures_section(svgs),
        *data_section(results, sets, faces),
        heading("more"),
        *metric_tables(results, detectors, sets, others),
        heading("settings"),
        *(f"<h3>{escape(title)}</h3><pre>{escape(text)}</pre>" for title, text in settings.items()),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    page = [
        "<!doctype html>",
        "<html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>Results</title><style>\n{style}</style>",
        *body,
        "</html>\n",
    ]
    with write_whole(path) as part:
        part.write_text("\n".join(page), encoding="utf-8", errors="backslashreplace")


def escape(text):
    """Text as HTML."""
    return html.escape(str(text))


def heading(key):
    """The heading of one of the SECTIONS, which the links at the top lead to."""
    return f"<h2 id={key}>{SECTIONS[key]}</h2>"


def table(rows, text_columns=()):
    """An HTML table with its own scroll bar. rows: lists of HTML, of which the first is the header.

    text_columns: numbers of the columns that hold sentences.
    """
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    lines = [f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>"]
    for row in rows[1:]:
        cells = [
            f"<td class=text>{cell}</td>" if k in text_columns else f"<td>{cell}</td>"
            for k, cell in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def introduction(demonstration, warnings):
    """The title, warnings, links to the sections, how to read tables."""
    yield "<h1>Results</h1>"
    if demonstration:
        yield (
            "<p class=warn>DEMONSTRATION: there are generated videos among the data. "
            "No number here says anything about real videos.</p>"
        )
    for warning in warnings:
        yield f"<p class=warn>Warning: {escape(warning)}</p>"
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in SECTIONS.items())
    yield f"<nav>{links}</nav>"
    yield f"<p>{NOTE}</p>"


def metric_tables(results, detectors, sets, metrics):
    """A heading and a table for each metric and level. metrics: {name: title}."""

    def show(interval, bold):
        value, low, high, *trainings = interval
        if np.isnan(value):
            return "undefined"
        text = f"<b>{100 * value:.2f}</b>" if bold else f"{100 * value:.2f}"
        spread = f"{100 * low:.1f} to {100 * high:.1f}"
        if trainings:
            spread = f"± {100 * (high - value):.2f}, n = {trainings[0]}"
        return f"{text}<span class=small>{spread}</span>"

    for metric, title in metrics.items():
        for level, level_title in LEVELS.items():
            head, *rows = metric_table(results, detectors, sets, metric, level, show)
            rows = [[escape(detector), *cells] for detector, *cells in rows]
            yield f"<h3>{title}, {level_title}</h3>"
            yield table([map(escape, head), *rows])


def papers_section(paper_tables):
    """The tables in the form of the papers, if there are any."""
    if paper_tables:
        yield "<h2>The papers' tables</h2>"
    for title, rows in paper_tables:
        yield f"<h3>{escape(title)}</h3>"
        yield table([list(map(escape, row)) for row in rows])


def figures_section(svgs):
    """All figures, under their headings."""

    def figures(prefix):
        chosen = [svg for name, svg in svgs.items() if name.startswith(prefix)]
        return "".join(f"<figure>{svg}</figure>" for svg in chosen)

    yield heading("roc")
    yield f"<div class=columns>{figures('roc_')}</div>"
    yield heading("scores")
    yield figures("scores_")
    yield heading("levels")
    yield figures("auc")
    yield figures("figure")
    yield heading("learning")
    yield figures("learning") or "<p>No runs were given (<code>--runs</code>).</p>"
    yield figures("embedding")


def data_section(results, sets, faces):
    """How many images and videos were scored, and what became of the videos in stage 01."""
    yield heading("data")
    yield "<h3>What was scored</h3>"
    rows = [["", "real images or clips", "fake", "real videos", "fake"]]
    rows += [[escape(name), *count_scored(results, name)[0]] for name in sets]
    yield table(rows)
    if not faces:
        yield "<p>No face folders were given (<code>--faces</code>).</p>"
        return
    yield "<h3>Faces</h3>"
    rows = [["", "videos", "with faces", "real images", "fake images", "skipped"]]
    for entry in faces:
        counts = [entry[key] for key in ("videos", "with_faces", "real", "fake")]
        reasons = [f"{escape(reason)}: {n}" for reason, n in entry["reasons"].most_common(8)]
        rows.append([escape(entry["set"]), *counts, "; ".join(reasons) or "none"])
    yield table(rows, text_columns=(5,))


def versions():
    """The versions of what computed the results, one per line."""
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)

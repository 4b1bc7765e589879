"""report.html of stage 06: one page, without anything from outside, that shows all results.

`results` is {(detector, set, level): metrics of stage 06 for the level}; `svgs` is {name: SVG text}
of the figures. Nothing but faces is counted here. The pages' templates and styles lie beside this
file.
"""

import base64
import hashlib
import html
import io
import os
import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
from PIL import Image

from common import printable, read_index, read_table, write_whole
from reporting.metrics import LEVELS, METRICS
from reporting.tables import NOTE, count_videos, metric_table
from reporting.verdict import (
    DEMONSTRATION,
    describe,
    faces_text,
    limits_text,
    score_line,
    score_text,
    why_without_score,
)
from running.folder import read_flags

# The metrics that the report begins with.
HEADLINE = ("auc", "eer")
PACKAGES = "numpy scipy scikit-learn matplotlib torch torchvision pretrainedmodels dlib-bin"
PACKAGES = (*PACKAGES.split(), "imageio-ffmpeg")


# ---------------------------------------------------------------- pages


def read_beside(name):
    """The text of a template, style or script in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def write_page(path, template, **parts):
    """Fill a template, whose $names are `parts` of HTML, and write it whole or not at all."""
    text = Template(read_beside(template)).substitute(parts)
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def escape(text):
    """Text as HTML."""
    return html.escape(str(text))


def table(rows, text_columns=()):
    """An HTML table with its own scroll bar. rows: lists of HTML, of which the first is the header.

    text_columns: numbers of the columns that hold sentences.
    """
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    lines = [f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>"]
    for row in rows[1:]:
        kinds = [" class=text" if k in text_columns else "" for k in range(len(row))]
        cells = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row))
        lines.append(f"<tr>{cells}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


# ---------------------------------------------------------------- report.html


def write_report(
    path, results, detectors, sets, paper_tables, svgs, faces, runs, basis, inputs, warnings
):
    """Write the page.

    paper_tables: [(title, rows of text, basis)]; faces, runs: {name: folder of stage 01, or of a
    training}; basis: lines that say what all results rest on; inputs: what was read, in words;
    warnings: texts.
    """

    def figures(*prefixes):
        shown = [svg for name, svg in svgs.items() if name.startswith(prefixes)]
        return "".join(f"<figure>{svg}</figure>" for svg in shown)

    flags = {name: read_flags(folder) for name, folder in faces.items()}
    flags |= {f"run {name}": read_flags(folder) for name, folder in runs.items()}
    settings = {"This report": printable(inputs), "Versions": versions()}
    for name, of_folder in flags.items():
        lines = [printable(f"{key}: {value}") for key, value in of_folder.items()]
        settings[name] = "\n".join(lines)
    if any(of_folder.get("generated") for of_folder in flags.values()):
        warnings = [
            "DEMONSTRATION: there are generated videos among the data. No number here says "
            "anything about real videos.",
            *warnings,
        ]
    others = [name for name in METRICS if name not in HEADLINE]
    papers = [
        f"<h3>{escape(title)}</h3>\n{text_table(rows)}\n{text_lines(lines)}"
        for title, rows, lines in paper_tables
    ]
    no_runs = "<p>No runs were given (<code>--runs</code>).</p>"
    write_page(
        path,
        "report.html",
        style=read_beside("report.css"),
        warnings="\n".join(f"<p class=warn>{escape(text)}</p>" for text in warnings),
        note=NOTE,
        headline="\n".join(metric_tables(results, detectors, sets, HEADLINE)),
        papers="\n".join(["<h2>The papers' tables</h2>", *papers] if papers else []),
        roc=figures("roc_"),
        scores=figures("scores_"),
        levels=figures("figure"),
        learning=figures("learning", "embedding") or no_runs,
        scored=text_lines(basis),
        faces=faces_table(faces),
        more="\n".join(metric_tables(results, detectors, sets, others)),
        settings="\n".join(
            f"<h3>{escape(title)}</h3><pre>{escape(text)}</pre>" for title, text in settings.items()
        ),
    )


def text_table(rows):
    """An HTML table of rows of text."""
    return table([[escape(cell) for cell in row] for row in rows])


def text_lines(lines):
    """Lines of text as a paragraph of HTML; empty ones are left out."""
    return f"<p>{'<br>'.join(escape(line) for line in lines if line)}</p>"


def metric_tables(results, detectors, sets, metrics):
    """A heading and a table for each of the metrics and each level."""

    def show(interval, bold):
        value, low, high, *trainings = interval
        if np.isnan(value):
            return "undefined"
        text = f"<b>{100 * value:.2f}</b>" if bold else f"{100 * value:.2f}"
        spread = f"{100 * low:.1f} to {100 * high:.1f}"
        if trainings:
            spread = f"± {100 * (high - value):.2f}, n = {trainings[0]}"
        return f"{text}<span class=small>{spread}</span>"

    for metric in metrics:
        for level, level_title in LEVELS.items():
            head, *rows = metric_table(results, detectors, sets, metric, level, show)
            rows = [[escape(detector), *cells] for detector, *cells in rows]
            yield f"<h3>{METRICS[metric]}, {level_title}</h3>"
            yield table([list(map(escape, head)), *rows])


def faces_table(folders):
    """The numbers of videos in folders of stage 01 by their outcome. folders: {name: folder}.

    Reasons for skipping that differ only in numbers are counted as one.
    """
    if not folders:
        return "<p>No face folders were given (<code>--faces</code>).</p>"
    rows = [["", "videos", "with faces", "real images", "fake images", "skipped"]]
    for name, folder in folders.items():
        index = read_index(folder)
        with_faces = len(set(index["video"]))
        videos, reasons = count_videos(folder) or with_faces, []
        if (folder / "skipped.csv").exists():
            reasons = read_table(folder / "skipped.csv", ("reason",))["reason"]
        counts = Counter(re.sub(r"[0-9]+", "N", printable(reason)) for reason in reasons)
        skipped = "; ".join(f"{escape(reason)}: {n}" for reason, n in counts.most_common(8))
        images = np.bincount(index["label"], minlength=2).tolist()
        rows.append([escape(name), videos, with_faces, *images, skipped or "none"])
    return "<h3>Faces</h3>\n" + table(rows, text_columns=(5,))


def versions():
    """The versions of what computed the results, one per line."""
    lines = [f"python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)


# ---------------------------------------------------------------- index.html of stage 07

# All verdicts on one page that needs no other file and no network: the faces are small pictures
# within it, and only the links to the pictures of verdicts need those. Nothing on it runs or loads
# but its own style, script and faces, which its Content-Security-Policy names.

# Side of the picture of a face, in pixels of the file.
FACE = 96


def verdict_rows(result, people):
    """The table rows of a video: one for each person, or one that says why there is no verdict.

    result: an entry of verdicts.json; people: the samples of each person, of which `follow` of
    07_detect.py returns the crops last.
    """
    if not result["people"]:
        verdict, reason = bdi(result["verdict"]), bdi(result["reason"])
        return [f"<tr>{file_cell(result)}<td>{verdict}</td><td>{reason}</td></tr>"]
    rows = []
    for person, samples in zip(result["people"], people):
        who = ""
        if len(result["people"]) > 1:
            who = f"person {person['person']} of {len(result['people'])}"
        href, verdict = escape(quote(result["picture"], safe="")), escape(person["verdict"])
        notes = [f"{why_without_score(result, path)}: {path}" for path in person["without"]]
        if len(person["by"]) > 1:
            notes = [f"{score_line(one)}: {one['checkpoint']}" for one in person["by"]] + notes
        image = f'<img src="{face_uri(samples)}" width={FACE} height={FACE} alt="scores over time">'
        rows.append(
            f'<tr data-verdict="{verdict}"><td class=face><a href="{href}">{image}</a></td>'
            f"{file_cell(result, who, href)}"
            f'<td class=verdict><b class="{verdict}">{verdict}</b></td>'
            f'<td class=score data-key="{person["score"]!r}">{scale(person)}'
            f"{score_text(person['score'])} <small>{limits_text(person)}</small>"
            f"{note_lines(notes)}</td>"
            f'<td class=faces data-key="{person["faces"]}">{faces_text(person)}</td></tr>'
        )
    return rows


def file_cell(result, who="", href=""):
    """The name of a file, a link to its picture `href`, above its folder and notes."""
    folder, name = os.path.split(result["path"])
    name = bdi(name, " class=name")
    name = f'<a href="{href}">{name}</a>' if href else name
    turned = f"turned by {result['turned']} degrees" if result.get("turned") else ""
    notes = [folder, who, "demonstration" if result["demonstration"] else "", turned]
    return f"<td class=file>{name}{note_lines(filter(None, notes))}</td>"


def bdi(text, attributes=""):
    """A text from outside as HTML. What it holds changes the direction of no other text."""
    return f"<bdi{attributes}>{escape(printable(text))}</bdi>"


def note_lines(notes):
    """Texts in small print, one below the other."""
    return "".join(f"<span class=note>{bdi(note)}</span>" for note in notes)


def face_uri(samples):
    """A data URI of the face in the middle of a person's samples."""
    crops = samples[len(samples) // 2][-1]
    image = Image.fromarray(crops[len(crops) // 2]).resize((FACE, FACE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def scale(person):
    """A score on a scale of 0 to 1 as SVG, with its thresholds and the scores of checkpoints."""
    low, high = 100 * person["real_below"], 100 * person["fake_from"]
    scores = [one["score"] for one in person["by"]] if len(person["by"]) > 1 else []
    circles = "".join(
        f'<circle cx="{100 * score:.2f}%" cy="50%" r={radius} />'
        for score, radius in (*((score, 3) for score in scores), (person["score"], 5))
    )
    lines = "".join(
        f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="10%" y2="90%"/>' for at in sorted({low, high})
    )
    return (
        f'<svg role=img aria-label="P(fake) {score_line(person)}">'
        f'<rect class=real y="40%" width="{low:.2f}%" height="20%"/>'
        f'<rect class=uncertain x="{low:.2f}%" y="40%" width="{high - low:.2f}%" height="20%"/>'
        f'<rect class=fake x="{high:.2f}%" y="40%" width="{100 - high:.2f}%" height="20%"/>'
        f"{lines}{circles}</svg>"
    )


def write_verdict_page(path, rows, results, detectors):
    """Write the page. rows: what `verdict_rows` returned for each of the results."""
    style = read_beside("report.css") + read_beside("verdicts.css")
    script = read_beside("verdicts.js")
    judged = [row for result, part in zip(results, rows) if result["people"] for row in part]
    others = [row for result, part in zip(results, rows) if not result["people"] for row in part]
    verdicts = Counter(person["verdict"] for result in results for person in result["people"])
    choices = [("", "all", len(judged)), *((kind, kind, n) for kind, n in verdicts.most_common())]
    is_demonstration = any(result["demonstration"] for result in results)
    write_page(
        path,
        "verdicts.html",
        style=style,
        script=script,
        style_digest=digest(style),
        script_digest=digest(script),
        warning=DEMONSTRATION if is_demonstration else "",
        checkpoints="".join(f"<li>{bdi(describe(detector))}</li>" for detector in detectors),
        choices="".join(
            f'<label><input type=radio name=show value="{escape(value)}">{escape(text)} ({count})'
            "</label>"
            for value, text, count in choices
        ),
        rows="\n".join(judged),
        others="\n".join(others),
        others_count=len(others),
        others_hidden="" if others else "hidden",
    )


def digest(text):
    """The source expression that allows an inline style or script of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

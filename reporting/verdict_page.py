"""OUT/index.html of stage 07: all verdicts on one page that needs no other file and no network.

The faces are small pictures within the page; only the links to OUT/NAME.png need those. Nothing on
it runs or loads but its own style, script and faces: its Content-Security-Policy names them.
"""

import base64
import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from string import Template
from urllib.parse import quote

from common import printable, write_whole
from reporting.pages import escape
from reporting.verdict import DEMONSTRATION, faces_text, score_text, why_without_score

# Side of the picture of a face, in pixels of the file.
FACE = 96


def page_rows(result, people):
    """The table rows of a video: one for each person, or one that says why there is no verdict.

    result: an entry of verdicts.json; people: samples of each person, see `media.tracking.follow`.
    """
    if result["people"]:
        persons = zip(result["people"], people)
        return [person_row(result, person, samples) for person, samples in persons]
    verdict, reason = bdi(result["verdict"]), bdi(result["reason"])
    return [f"<tr>{file_cell(result)}<td>{verdict}</td><td>{reason}</td></tr>"]


def person_row(result, person, samples):
    """The table row of a person."""
    who = ""
    if len(result["people"]) > 1:
        who = f"person {person['person']} of {len(result['people'])}"
    href, verdict = escape(quote(result["picture"], safe="")), escape(person["verdict"])
    score, threshold = score_text(person["score"]), score_text(person["threshold"])
    notes = []
    if len(person["by"]) > 1:
        for one in person["by"]:
            scored = f"{score_text(one['score'])} at {score_text(one['threshold'])}"
            notes.append(f"{one['verdict']}, {scored}: {one['checkpoint']}")
    notes += [f"{why_without_score(result, path)}: {path}" for path in person["without"]]
    image = f'<img src="{face_uri(samples)}" width={FACE} height={FACE} alt="scores over time">'
    cells = [
        f'<td class=face><a href="{href}">{image}</a></td>',
        file_cell(result, who, href),
        f'<td class=verdict><b data-kind="{verdict}">{verdict}</b></td>',
        f'<td class=score data-key="{person["score"]!r}">{scale(person)}{score} '
        f"<small>at threshold {threshold}</small>{note_lines(notes)}</td>",
        f'<td class=faces data-key="{person["faces"]}">{faces_text(person)}</td>',
    ]
    return f'<tr data-verdict="{verdict}">{"".join(cells)}</tr>'


def file_cell(result, who="", href=None):
    """The name of a file, a link to its picture `href`, above its folder and notes."""
    folder, name = os.path.split(result["path"])
    name = bdi(name, " class=name")
    if href:
        name = f'<a href="{href}">{name}</a>'
    notes = [folder, who, "demonstration" if result["demonstration"] else ""]
    if result.get("turned"):
        notes.append(f"turned by {result['turned']} degrees")
    return f"<td class=file>{name}{note_lines(filter(None, notes))}</td>"


def bdi(text, attributes=""):
    """A text from outside as HTML. What it holds changes the direction of no other text."""
    return f"<bdi{attributes}>{escape(printable(text))}</bdi>"


def note_lines(notes):
    """Texts in small print, one below the other."""
    return "".join(f"<span class=note>{bdi(note)}</span>" for note in notes)


def face_uri(samples):
    """A data URI of the face in the middle of a person's samples."""
    from PIL import Image

    crops = samples[len(samples) // 2][-1]
    image = Image.fromarray(crops[len(crops) // 2]).resize((FACE, FACE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def scale(person):
    """A score on a scale of 0 to 1 as SVG, with its threshold and the scores of checkpoints."""
    at, score = (f"{100 * person[key]:.2f}%" for key in ("threshold", "score"))
    above = f"{100 - 100 * person['threshold']:.2f}%"
    scores = [one["score"] for one in person["by"]]
    circles = [f'cx="{100 * value:.2f}%" r=3' for value in scores if len(scores) > 1]
    circles.append(f'class=mean cx="{score}" r=5')
    circles = "".join(f'<circle cy="50%" {circle} />' for circle in circles)
    label = f"P(fake) {score_text(person['score'])}, threshold {score_text(person['threshold'])}"
    return (
        f'<svg role=img aria-label="{label}"><rect class=real y="40%" width="{at}" height="20%"/>'
        f'<rect class=fake x="{at}" y="40%" width="{above}" height="20%"/>'
        f'<line x1="{at}" x2="{at}" y1="10%" y2="90%"/>{circles}</svg>'
    )


def write_page(path, rows, results, detectors):
    """Write the page. rows: what `page_rows` returned for each of the results."""
    folder = Path(__file__).parent
    names = ("report.css", "verdict_page.css", "verdict_page.js", "verdict_page.html")
    report, own, script, page = ((folder / name).read_text(encoding="utf-8") for name in names)
    style = report + own
    persons = [row for result, part in zip(results, rows) if result["people"] for row in part]
    others = [row for result, part in zip(results, rows) if not result["people"] for row in part]
    is_demonstration = any(result["demonstration"] for result in results)
    text = Template(page).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {digest(style)}; "
        f"script-src {digest(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        warning=DEMONSTRATION if is_demonstration else "",
        checkpoints="".join(f"<li>{bdi(d.path)}: {bdi(d.summary())}</li>" for d in detectors),
        filters="".join(filter_inputs(results)),
        rows="\n".join(persons),
        others="\n".join(others),
        others_count=len(others),
        others_hidden="" if others else "hidden",
    )
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def filter_inputs(results):
    """An input for all verdicts, and for each kind of them."""
    verdicts = [person["verdict"] for result in results for person in result["people"]]
    for verdict, count in ((None, len(verdicts)), *Counter(verdicts).most_common()):
        value, text = escape(verdict or ""), escape(verdict or "all")
        yield f'<label><input type=radio name=show value="{value}">{text} ({count})</label>'


def digest(text):
    """The source expression that allows an inline style or script of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

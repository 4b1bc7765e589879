"""Verdicts of stage 07 as people read them: lines, tables, pictures and a page.

A result is an entry of verdicts.json, as `judge_video` of 07_detect.py returns it.
"""

import base64
import io
import json
import os
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from common import fail, no_formula, printable, write_table, write_whole
from media.photos import image_files
from reporting.figures import COLORS, PAGE, overlay, pyplot
from reporting.metrics import ENOUGH_VIDEOS, VERDICTS, percent
from reporting.pages import escape, read_beside, write_page

DEMONSTRATION = "DEMONSTRATION: trained on generated videos, it says nothing about real ones"
# Why a checkpoint of clips has no score of a person in a photo, or seen in single frames only.
NO_CLIP = "needs a video, as no complete clip shows this face"
# How the names of pictures end, so that they are known again.
PICTURE = ".verdict.png"
# People in a picture; the others are only in verdicts.csv.
MAX_PEOPLE = 4
# Side of the picture of a face on the page, in pixels of the file.
FACE = 96
NUMBERS = ("score", "threshold", "real_below", "fake_from")
RATES = ("missed_fakes", "false_alarms")
COLUMNS = (
    *("video", "person", "checkpoint", "verdict", "score", "threshold", "faces", "reason"),
    *("demonstration", "turned", "real_below", "fake_from", *RATES),
)


def is_picture(path):
    """Whether a file, or each image in a folder, has the name of a picture of a verdict."""
    files = image_files(path) if path.is_dir() else [path]
    return all(file.name.lower().endswith(PICTURE) for file in files)


def picture_name(video):
    """The name of a video's picture, which begins with the name that `splits.name_videos` gave."""
    return video["name"] + PICTURE


def check_outputs(out, videos, inputs):
    """Make the output folder; exit if a file that will be written is an input, by any name or link.

    inputs: files beside the videos. Nothing is written into a folder of ready crops either.
    """
    out.mkdir(parents=True, exist_ok=True)
    inputs = [*inputs, *(video["path"] for video in videos)]
    inputs += [file for path in inputs if path.is_dir() for file in path.iterdir()]
    names = ["index.html", "verdicts.csv", "verdicts.json", *map(picture_name, videos)]
    outputs = [out, *(out / start for name in names for start in (name, f".part-{name}"))]

    def by_identity(paths):
        statuses = [(os.stat(path), path) for path in paths if os.path.exists(path)]
        return {(status.st_dev, status.st_ino): path for status, path in statuses}

    taken = by_identity(inputs)
    for identity, path in by_identity(outputs).items():
        if identity in taken:
            fail(
                f"the output {path} would replace the input {taken[identity]}: give another --out "
                "or rename one of the two"
            )


# ---------------------------------------------------------------- lines


def score_text(value):
    """A score with 3 decimals, or 6 close to 0 and 1."""
    return f"{value:.3f}" if 0.001 <= value <= 0.999 else f"{value:.6f}"


def limits_text(scored):
    """What a score is compared with."""
    low, high = score_text(scored["real_below"]), score_text(scored["fake_from"])
    is_one = scored["real_below"] == scored["fake_from"]
    return f"threshold {low}" if is_one else f"real below {low}, fake from {high}"


def score_line(scored):
    """The score of a person as text, or that by one checkpoint."""
    return f"P(fake) {score_text(scored['score'])} ({limits_text(scored)})"


def faces_text(person):
    """What a verdict is based on: "30 faces"."""
    return "1 face" if person["faces"] == 1 else f"{person['faces']} faces"


def who_text(result, person):
    """Which person of several a verdict is about."""
    count = len(result["people"])
    return f"person {person['person']} of {count}" if count > 1 else ""


def turned_text(result):
    """By how much a video was turned to show its faces, if it was."""
    return f"turned by {result['turned']} degrees" if result.get("turned") else ""


def checkpoint_lines(person):
    """The verdict of a person by each of several checkpoints."""
    if len(person["by"]) + len(person["without"]) == 1:
        return []
    lines = [f"{one['verdict']}, {score_line(one)}: {one['checkpoint']}" for one in person["by"]]
    return lines + [f"{NO_CLIP}: {path}" for path in person["without"]]


def verdict_lines(result):
    """The lines that are printed for a video."""
    if not result["people"]:
        return [printable(f"{result['path']}: {result['verdict'].upper()} ({result['reason']})")]
    lines = []
    for person in result["people"]:
        head = ", ".join(filter(None, [result["path"], who_text(result, person)]))
        verdict = f"{person['verdict'].upper()}, {score_line(person)}, from {faces_text(person)}"
        line = ", ".join(filter(None, [f"{head}: {verdict}", turned_text(result)]))
        lines.append(f"{line}  [{DEMONSTRATION}]" if result["demonstration"] else line)
        lines += [f"    {of_checkpoint}" for of_checkpoint in checkpoint_lines(person)]
    return list(map(printable, lines))


def describe(detector):
    """What a user should know before trusting the verdicts of a checkpoint, in one line.

    detector: a Detector of 07_detect.py.
    """
    validation, limits = detector.validation or {}, detector.thresholds
    trained = ", ".join(f"{entry['role']} {entry['set']}" for entry in detector.data)
    count, length = detector.extraction["count"], detector.extraction["length"]
    parts = [
        trained or "its training data are not recorded",
        f"takes {count} x {length} frames of a video",
        f"verdicts: {limits_text(limits)}",
    ]
    if not detector.calibrated:
        parts.append("not calibrated: no validation videos of both classes")
    elif limits["real_below"] == limits["fake_from"]:
        few = f"fewer than {ENOUGH_VIDEOS} validation videos of a class"
        parts.append(f"no verdict is uncertain: thresholds that cross, or {few}")
    if validation:
        auc, eer = percent(validation["auc"]), percent(validation["eer"])
        parts.append(f"{validation['videos']} validation videos: AUC {auc}, equal error rate {eer}")
    if RATES[0] in validation:
        missed, alarms = (percent(validation[rate]) for rate in RATES)
        parts.append(
            f"{missed} of {validation['fakes']} fakes called real, {alarms} of "
            f"{validation['reals']} reals called fake"
        )
    return printable(f"{detector.path}: {'; '.join(parts)}")


def count_verdicts(results):
    """How many videos have which verdict, in one line."""
    counts = Counter(result["verdict"] for result in results).most_common()
    return ", ".join(f"{count} {verdict}" for verdict, count in counts)


# ---------------------------------------------------------------- tables


def write_verdicts(out, results, detectors):
    """Write verdicts.csv and verdicts.json."""
    checkpoints, rates = [], {}
    for detector in detectors:
        # JSON has no nan.
        known = {k: None if v != v else v for k, v in (detector.validation or {}).items()}
        rates[str(detector.path)] = {
            rate: repr(known[rate]) for rate in RATES if known.get(rate) is not None
        }
        about = dict(
            checkpoint=str(detector.path),
            trained_on=[{key: entry[key] for key in ("set", "role")} for entry in detector.data],
            demonstration=detector.demonstration,
            **detector.thresholds,
            calibrated=detector.calibrated,
            validation=known or None,
        )
        checkpoints.append(about)
    with write_whole(out / "verdicts.json") as part:
        content = dict(checkpoints=checkpoints, videos=results)
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    rows = []
    for result in results:
        of_video = dict(video=result["path"], verdict=result["verdict"], faces=0)
        of_video |= dict(reason=result.get("reason", ""), turned=result.get("turned", 0))
        of_video |= dict(demonstration=int(result["demonstration"]))
        if not result["people"]:
            rows.append(of_video)
        for person in result["people"]:
            of_person = of_video | dict(person=person["person"])
            means = [person | dict(checkpoint="mean")] if len(person["by"]) > 1 else []
            for one in (*person["by"], *means):
                row = of_person | {name: repr(one[name]) for name in NUMBERS}
                row |= {name: one[name] for name in ("checkpoint", "verdict")}
                rows.append(row | dict(faces=person["faces"]) | rates.get(one["checkpoint"], {}))
            for path in person["without"]:
                verdict, _, reason = NO_CLIP.partition(", as ")
                rows.append(of_person | dict(checkpoint=path, verdict=verdict, reason=reason))
    lines = [[no_formula(row.get(name, "")) for name in COLUMNS] for row in rows]
    write_table(out / "verdicts.csv", COLUMNS, lines)


# ---------------------------------------------------------------- pictures


def plain(text):
    """A name as ASCII, which every font has."""
    return ascii(str(text))[1:-1]


def draw_verdict(path, result, people, detectors, extractions):
    """Write the picture of a video, one row for each of the first four people.

    people, extractions: samples of each person, and how they were taken, as in 07_detect.py;
    detectors: its `Detector`s.
    """
    rows = result["people"][:MAX_PEOPLE]
    scored = {one["checkpoint"] for person in rows for one in person["by"]}
    # The detector whose faces are shown: the first with a score.
    shown = next(detector for detector in detectors if str(detector.path) in scored)
    # The length of a frame on the time axis.
    unit, step = "frame", 1
    if result["seconds"]:
        unit, step = "seconds", result["seconds"] / result["frames"]
    figure = pyplot().figure(figsize=(PAGE, 0.85 + 2.1 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, person, samples in zip(parts, rows, people):
        left, right = part.subfigures(1, 2, width_ratios=(1, 1.15))
        axes = left.subplots()
        draw_scores(axes, person, step)
        axes.set(xlim=(-0.5 * step, (result["frames"] - 0.5) * step), xlabel=unit)
        verdict = f"{person['verdict'].upper()}, P(fake) {score_text(person['score'])}"
        title = ", ".join(filter(None, [who_text(result, person), verdict, faces_text(person)]))
        axes.set_title(title, fontsize=8, loc="left", fontweight="bold")
        of_shown = [one["samples"] for one in person["by"] if one["checkpoint"] == str(shown.path)]
        if of_shown:
            own = [s for s in samples if extractions[s.extraction] == shown.extraction]
            crops = [sample.crops for sample in own]
            times = [sample["frame"] * step for sample in of_shown[0]]
            times = [f"{t:.2f} s" if unit == "seconds" else f"frame {t}" for t in times]
            draw_faces(right, shown, of_shown[0], crops, times)

    name = plain(os.path.basename(result["path"]))[:70]
    title = ", ".join(filter(None, [f"{name}: {result['verdict'].upper()}", turned_text(result)]))
    if len(result["people"]) > MAX_PEOPLE:
        title += f"; {len(result['people']) - MAX_PEOPLE} more people in verdicts.csv"
    if result["demonstration"]:
        title += f"\n{DEMONSTRATION}"
    figure.suptitle(title, fontsize=9, color="#A00000" if result["demonstration"] else "black")
    with write_whole(path) as part:
        figure.savefig(part, dpi=200, format="png", metadata={"Software": None})
    pyplot().close(figure)


def draw_scores(axes, person, step):
    """Scores of a person over time, one line per checkpoint, and the thresholds.

    step: the length of a frame on the time axis.
    """
    for k, one in enumerate(person["by"]):
        times = [sample["frame"] * step for sample in one["samples"]]
        scores = [sample["score"] for sample in one["samples"]]
        label = plain("/".join(Path(one["checkpoint"]).parts[-3:]))[-40:]
        style = dict(color=COLORS[k % len(COLORS)], markersize=3, linewidth=1)
        axes.plot(times, scores, "o-", label=label, **style)
    low, high = person["real_below"], person["fake_from"]
    for threshold in (low, high):
        axes.axhline(threshold, color="0.3", linewidth=1, linestyle="--")
    axes.axhspan(high, 1.03, color="#D55E00", alpha=0.08, linewidth=0, label="fake")
    if low < high:
        axes.axhspan(low, high, color="0.5", alpha=0.25, linewidth=0, label="uncertain")
    axes.set(ylim=(-0.03, 1.03), ylabel="P(fake)")
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.2))


def draw_faces(figure, detector, samples, crops, times):
    """The faces with the three highest and three lowest scores, above their activation maps.

    crops: uint8 (T, S, S, 3) of each of the samples, whose middle frame is shown; times: their
    places in the video as text.
    """
    order = np.argsort([-sample["score"] for sample in samples], kind="stable").tolist()
    shown = list(dict.fromkeys([*order[:3], *order[-3:]]))
    middle = detector.frames // 2
    grid = figure.subplots(2, len(shown), squeeze=False)
    clips = np.stack([crops[k][: detector.frames] for k in shown])
    maps = detector.activation_maps(clips)[:, middle]
    top = np.abs(maps).max() or 1.0
    for (upper, lower), k, heat in zip(grid.T, shown, maps):
        face = crops[k][middle]
        upper.imshow(face)
        upper.set_title(f"{samples[k]['score']:.2f}\n{times[k]}", fontsize=6, pad=2)
        overlay(lower, face / 255, heat, top)
        # A map is right below its face, however high the picture is.
        upper.set_anchor("S")
        lower.set_anchor("N")
    for axes in grid.flat:
        axes.set_axis_off()
    title = f"highest and lowest scores of\n{plain(detector.path)[-50:]}"
    figure.suptitle(f"{title}\nmaps: red is evidence for fake, blue for real", fontsize=7)


# ---------------------------------------------------------------- index.html

# All verdicts on one page that needs no other file: the faces are small pictures within it, and
# only the links to the pictures of verdicts need those. It has no script, and its
# Content-Security-Policy allows none.


def page_rows(result, people):
    """The table rows of a video, (score, HTML): one for each person, or one that says why none.

    people: the samples of each person, as `follow` of 07_detect.py returns them.
    """
    folder, name = os.path.split(result["path"])
    demonstration = "demonstration" if result["demonstration"] else ""
    notes = [folder, turned_text(result), demonstration]
    if not result["people"]:
        return [(-1, page_row("", "", "", [name, *notes], result["verdict"], [result["reason"]]))]
    rows = []
    for person, samples in zip(result["people"], people):
        link = f'<a href="{escape(quote(result["picture"], safe=""))}">{face_image(samples)}</a>'
        meter = f'<meter value="{person["score"]:.4f}" low="{person["real_below"]:.4f}" '
        meter += f'high="{person["fake_from"]:.4f}" optimum=0></meter>'
        file = [name, who_text(result, person), *notes]
        scores = [score_line(person), *checkpoint_lines(person), f"from {faces_text(person)}"]
        row = page_row(person["verdict"], link, meter, file, person["verdict"], scores)
        rows.append((person["score"], row))
    return rows


def page_row(kind, link, meter, file, verdict, scores):
    """A table row. kind: its class; link, meter: HTML; file, verdict, scores: text."""
    file, verdict, scores = (
        "".join(f"<div>{escape(printable(line))}</div>" for line in lines if line)
        for lines in (file, [verdict], scores)
    )
    cells = f"<td>{link}</td><td>{file}</td><td>{verdict}</td><td>{meter}{scores}</td>"
    return f'<tr class="{kind}">{cells}</tr>'


def face_image(samples):
    """The face in the middle of a person's samples as an image within the page."""
    crops = samples[len(samples) // 2].crops
    image = Image.fromarray(crops[len(crops) // 2]).resize((FACE, FACE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="scores over time">'


def write_verdict_page(path, rows, results, detectors):
    """Write the page. rows: what `page_rows` returned for all results."""
    is_demonstration = any(result["demonstration"] for result in results)
    checkpoints = [f"<li>{escape(describe(detector))}</li>" for detector in detectors]
    rows = sorted(rows, key=lambda row: row[0], reverse=True)
    write_page(
        path,
        "verdicts.html",
        style=read_beside("report.css") + read_beside("verdicts.css"),
        warning=DEMONSTRATION if is_demonstration else "",
        checkpoints="".join(checkpoints),
        counts=escape(count_verdicts(results)),
        choices="".join(f"<label><input type=radio name=show id={v}>{v}</label>" for v in VERDICTS),
        rows="\n".join(row for _, row in rows),
    )

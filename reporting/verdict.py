"""Verdicts of stage 07 as people read them: lines, tables and pictures.

A result is an entry of verdicts.json, as `judge_video` of 07_detect.py returns it.
"""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from common import fail, printable, write_table, write_whole
from media.photos import image_files
from reporting.figures import COLORS, PAGE, overlay, pyplot
from reporting.metrics import ENOUGH_VIDEOS, percent

DEMONSTRATION = "DEMONSTRATION: trained on generated videos, it says nothing about real ones"
# How the names of pictures end, and what is written into them, so that they are known again.
PICTURE = ".verdict.png"
SOFTWARE = "07_detect.py"
# People in a picture; the others are only in verdicts.csv.
MAX_PEOPLE = 4
COLUMNS = (
    "video",
    "person",
    "checkpoint",
    "verdict",
    "score",
    "threshold",
    "faces",
    "reason",
    "demonstration",
    "turned",
    "real_below",
    "fake_from",
    "missed_fakes",
    "false_alarms",
)


def is_picture(path):
    """Whether a file, or each image in a folder, is a picture that `draw_verdict` has written."""
    if path.is_dir():
        return all(map(is_picture, image_files(path)))
    if not path.name.lower().endswith(PICTURE):
        return False
    with contextlib.suppress(OSError):
        with open(path, "rb") as file:
            return SOFTWARE.encode() in file.read(500)
    return False


def picture_name(video):
    """The name of a video's picture, which begins with the name that `splits.name_videos` gave."""
    return video["name"] + PICTURE


def check_outputs(out, videos, inputs):
    """Make the output folder; exit if a file that will be written is an input, by any name or link.

    inputs: files beside the videos. Nothing is written into a folder of ready crops either.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the output folder {out} ({error.strerror}): give another --out")

    def identity(path):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            return status.st_dev, status.st_ino

    inputs = [*inputs, *(video["path"] for video in videos)]
    inputs += [file for path in inputs if path.is_dir() for file in path.iterdir()]
    taken = {identity(path): path for path in inputs}
    names = ["index.html", "verdicts.csv", "verdicts.json", *map(picture_name, videos)]
    outputs = [out, *(out / start for name in names for start in (name, f".part-{name}"))]
    for path in outputs:
        key = identity(path)
        if key and key in taken:
            fail(
                f"the output {path} would replace the input {taken[key]}: give another --out or "
                "rename one of the two"
            )


def score_text(value):
    """A score with 3 decimals, or 6 close to 0 and 1."""
    return f"{value:.3f}" if 0.001 <= value <= 0.999 else f"{value:.6f}"


def score_line(scored):
    """A verdict and its score as text, of a person or of a person by one checkpoint."""
    return f"{scored['verdict']}, P(fake) {score_text(scored['score'])} {limits_text(scored)}"


def limits_text(scored):
    """What a score is compared with, as text that continues "P(fake) 0.5"."""
    low, high = scored["real_below"], scored["fake_from"]
    if low < high:
        return f"(real below {score_text(low)}, fake from {score_text(high)})"
    return f"at threshold {score_text(high)}"


def faces_text(person):
    """What a verdict is based on: "30 faces"."""
    return "1 face" if person["faces"] == 1 else f"{person['faces']} faces"


def short_name(path):
    """A checkpoint in a legend: the last two folders of runs/RUN/model.pt."""
    parts = Path(path).parts
    if parts[-1] == "model.pt" and len(parts) > 1:
        parts = parts[:-1]
    return ascii("/".join(parts[-2:]))[1:-1][-40:]


def describe(detector):
    """What a user should know before trusting the verdicts of a checkpoint, in one line.

    detector: a Detector of 07_detect.py.
    """
    sets_of_role = {}
    for entry in detector.data:
        sets_of_role.setdefault(entry["role"], []).append(entry["set"])
    trained = "; ".join(f"{role} {', '.join(sets)}" for role, sets in sets_of_role.items())
    validated = "not validated"
    if detector.validation:
        auc, eer = (percent(detector.validation[key]) for key in ("auc", "eer"))
        validated = (
            f"on its {detector.validation['videos']} validation videos AUC {auc}, equal error rate "
            f"{eer}"
        )
    low, high = detector.thresholds["real_below"], detector.thresholds["fake_from"]
    limits = f"threshold {score_text(high)}"
    if low < high:
        limits = f"verdicts are real below {score_text(low)} and fake from {score_text(high)}"
    if not detector.calibrated:
        limits += " (not calibrated: no validation videos of both classes)"
    elif "real_below" in detector.validation:
        of = detector.validation
        limits += (
            f", which calls {percent(of['missed_fakes'])} of {of['fakes']} fakes real, and "
            f"{percent(of['false_alarms'])} of {of['reals']} reals fake"
        )
        if np.isnan(of["real_below"]):
            limits += (
                f"; with fewer than {ENOUGH_VIDEOS} of a class, 5 % of it cannot be known, and no "
                "verdict is uncertain"
            )
    trained = trained or "its training data are not recorded"
    return printable(f"{detector.path}: {trained}; {validated}; {limits}")


def count_verdicts(results, out):
    """How many videos have which verdict, and where the files are, in one line."""
    counts = Counter(result["verdict"] for result in results).most_common()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts)
    return printable(f"{summary}; pictures and tables in {out}")


def verdict_lines(result):
    """The lines that are printed for a video."""
    lines = []
    if not result["people"]:
        lines.append(f"{result['path']}: {result['verdict'].upper()} ({result['reason']})")
    for person in result["people"]:
        line = result["path"]
        if len(result["people"]) > 1:
            line += f", person {person['person']} of {len(result['people'])}"
        verdict = score_line(person | dict(verdict=person["verdict"].upper()))
        line += f": {verdict}, from {faces_text(person)}"
        if result.get("turned"):
            line += f", turned by {result['turned']} degrees"
        if result["demonstration"]:
            line += f"  [{DEMONSTRATION}]"
        lines.append(line)
        if len(person["by"]) + len(person["without"]) > 1:
            lines += [f"    {score_line(one)}: {one['checkpoint']}" for one in person["by"]]
        lines += [f"    {why_without_score(result, path)}: {path}" for path in person["without"]]
    return list(map(printable, lines))


def why_without_score(result, checkpoint):
    """Why a checkpoint has no score of a person in a result that others have scored, as text."""
    if checkpoint in result.get("needs_video", ()):
        return "needs a video"
    return "no score, as no complete clip shows this face"


def write_verdicts(out, results, detectors):
    """Write verdicts.csv and verdicts.json."""
    checkpoints, rates = [], {}
    for detector in detectors:
        validation = detector.validation
        if validation:
            # JSON has no nan.
            validation = {k: None if v != v else v for k, v in validation.items()}
        known = [(validation or {}).get(key) for key in COLUMNS[-2:]]
        rates[str(detector.path)] = ["" if rate is None else repr(rate) for rate in known]
        trained_on = [{key: entry[key] for key in ("set", "role")} for entry in detector.data]
        checkpoints.append(
            dict(
                checkpoint=str(detector.path),
                trained_on=trained_on,
                demonstration=detector.demonstration,
                **detector.thresholds,
                calibrated=detector.calibrated,
                validation=validation,
            )
        )
    content = dict(checkpoints=checkpoints, videos=results)
    with write_whole(out / "verdicts.json") as part:
        text = json.dumps(content, indent=1, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")

    rows = []
    for result in results:
        path, demonstration = csv_text(result["path"]), int(result["demonstration"])
        if not result["people"]:
            verdict, reason = csv_text(result["verdict"]), csv_text(result["reason"])
            rows.append((path, "", "", verdict, "", "", 0, reason, demonstration, 0, *[""] * 4))
        for person in result["people"]:
            scored = list(person["by"])
            if len(scored) > 1:
                scored.append(dict(person, checkpoint="mean"))
            for one in scored:
                row = [path, person["person"], csv_text(one["checkpoint"]), one["verdict"]]
                row += [repr(one["score"]), repr(one["threshold"]), person["faces"]]
                row += ["", demonstration, result.get("turned", 0)]
                row += [repr(one["real_below"]), repr(one["fake_from"])]
                rows.append([*row, *rates.get(one["checkpoint"], ("", ""))])
            for checkpoint in result.get("needs_video", ()):
                row = [path, person["person"], csv_text(checkpoint), "needs a video", "", "", 0]
                row += ["too few frames", demonstration, result["turned"], *[""] * 4]
                rows.append(row)
    write_table(out / "verdicts.csv", COLUMNS, rows)


def csv_text(text):
    """Text that no spreadsheet program takes for a formula; "./" before a path does that."""
    text = printable(text)
    return f"./{text}" if text.startswith(("=", "+", "-", "@")) else text


def draw_verdict(path, video, people, detectors, extractions):
    """Write the picture of a video, one row for each of the first four people.

    video: the result; people, extractions: samples of each person, and how they were taken, as in
    07_detect.py; detectors: its `Detector`s.
    """
    rows = video["people"][:MAX_PEOPLE]
    scored = {one["checkpoint"] for person in rows for one in person["by"]}
    # The detector whose faces are shown: the first with a score.
    shown = next(detector for detector in detectors if str(detector.path) in scored)
    per_frame, unit = 1, "frame"
    if video["seconds"]:
        per_frame, unit = video["seconds"] / video["frames"], "s"
    figure = pyplot().figure(figsize=(PAGE, 0.85 + 2.1 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, person, samples in zip(parts, rows, people):
        left, right = part.subfigures(1, 2, width_ratios=(1, 1.15))
        who = f"person {person['person']}: " if len(video["people"]) > 1 else ""
        draw_scores(left.subplots(), person, who, video["frames"], per_frame, unit)
        of_shown = [one for one in person["by"] if one["checkpoint"] == str(shown.path)]
        if not of_shown:
            continue
        crops = [c for k, _, _, c in samples if extractions[k] == shown.extraction]
        draw_faces(right, shown, of_shown[0]["samples"], crops, per_frame, unit)
        title = "highest and lowest scores"
        if len(detectors) > 1:
            title += f" of {short_name(shown.path)}"
        title += "\nmaps: red is evidence for fake, blue for real"
        right.suptitle(title, fontsize=7)

    name = ascii(os.path.basename(video["path"]))[1:-1]
    if len(name) >= 70:
        name = name[:67] + "..."
    title = f"{name}: {video['verdict'].upper()}"
    if video.get("turned"):
        title += f", turned by {video['turned']} degrees"
    if len(video["people"]) > MAX_PEOPLE:
        title += f"; {len(video['people']) - MAX_PEOPLE} more people in verdicts.csv"
    color = "black"
    if video["demonstration"]:
        title += f"\n{DEMONSTRATION}"
        color = "#A00000"
    figure.suptitle(title, fontsize=9, color=color)
    with write_whole(path) as part:
        figure.savefig(part, dpi=200, format="png", metadata={"Software": SOFTWARE})
    pyplot().close(figure)


def draw_scores(axes, person, who, frames, per_frame, unit):
    """Scores of a person over time, one line per checkpoint, and the threshold or the two.

    per_frame, unit: the length of a frame on the time axis, in seconds ("s") or frames ("frame").
    """
    for k, one in enumerate(person["by"]):
        axes.plot(
            [sample["frame"] * per_frame for sample in one["samples"]],
            [sample["score"] for sample in one["samples"]],
            "o-",
            color=COLORS[k % len(COLORS)],
            markersize=3,
            linewidth=1,
            label=short_name(one["checkpoint"]),
        )
    low, high = person["real_below"], person["fake_from"]
    for threshold in {low, high}:
        axes.axhline(threshold, color="0.3", linewidth=1, linestyle="--")
    axes.axhspan(high, 1.03, color="#D55E00", alpha=0.08, linewidth=0)
    axes.axhspan(low, high, color="0.5", alpha=0.25, linewidth=0)
    label, va = ("uncertain ", "center") if low < high else ("threshold ", "bottom")
    place = dict(ha="right", va=va, transform=axes.get_yaxis_transform())
    axes.text(0.99, (low + high) / 2, label, fontsize=6, **place)
    axes.set(
        ylim=(-0.03, 1.03),
        xlim=(0, frames * per_frame),
        xlabel="seconds" if unit == "s" else "frame",
        ylabel="P(fake)",
    )
    if frames == 1:
        axes.set(xlim=(-0.5, 0.5), xticks=[], xlabel="")
    verdict = f"{person['verdict'].upper()}, P(fake) {score_text(person['score'])}"
    title = f"{who}{verdict}, {faces_text(person)}"
    axes.set_title(title, fontsize=8, loc="left", fontweight="bold")
    if len(person["by"]) > 1:
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(0, -0.2))


def draw_faces(figure, detector, samples, crops, per_frame, unit):
    """The faces with the three highest and three lowest scores, above their activation maps.

    crops: uint8 (T, S, S, 3) of each of the samples, whose middle frame is shown.
    """
    order = np.argsort([-sample["score"] for sample in samples], kind="stable")
    chosen = [*order[:3], *order[-3:]] if len(order) > 5 else list(order)
    middle = detector.frames // 2
    grid = figure.subplots(2, len(chosen), squeeze=False)
    clips = np.stack([crops[k][: detector.frames] for k in chosen])
    maps = detector.activation_maps(clips)[:, middle]
    top = np.abs(maps).max() or 1.0
    for column, k in enumerate(chosen):
        face, sample = crops[k][middle], samples[k]
        time = sample["frame"] * per_frame
        when = f"{time:.1f} s" if unit == "s" else f"frame {time}"
        grid[0, column].imshow(face)
        grid[0, column].set_title(f"{sample['score']:.2f}\n{when}", fontsize=6, pad=2)
        overlay(grid[1, column], face / 255, maps[column], top)
        # A map is right below its face, however high the picture is.
        grid[0, column].set_anchor("S")
        grid[1, column].set_anchor("N")
    for panel in grid.flat:
        panel.set_axis_off()

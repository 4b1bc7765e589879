"""What the tables of stage 06 rest on, and report.html: one page that shows all results.

`results` is {(detector, set, level): metrics of stage 06 for the level}; `svgs` is {name: SVG text}
of the figures. Nothing but faces is counted here. The pages' templates and styles lie beside this
file.
"""

import contextlib
import html
import platform
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template

import numpy as np

from common import EXTRACTION, printable, read_index, read_table, write_whole
from reporting.metrics import LEVELS, METRICS, trainings_of
from reporting.tables import EXPECTED, NOTE, aligned, metric_table
from running.folder import read_flags

# The metrics that the report begins with.
HEADLINE = ("auc", "eer")
PACKAGES = "numpy scipy scikit-learn matplotlib torch torchvision pretrainedmodels dlib-bin"
PACKAGES = (*PACKAGES.split(), "imageio-ffmpeg")


# ---------------------------------------------------------------- what a table rests on


def describe_basis(places, videos, results, faces, seeds, papers=EXPECTED):
    """What the numbers of a table rest on, as lines of text: counts, seeds and faces.

    Args:
        places: (detector, data set) of the table's cells, where a detector may be the mean of its
            repeated trainings.
        videos: {(detector, data set): the videos by their names}, of each training, as `results`.
        faces: {data set: folder of stage 01}, {} without --faces.
        seeds: {name of a run: the seed in its args.json as text}.
        papers: those whose numbers of videos and images stand below ours.
    """
    trainings = trainings_of(training for training, _ in videos)
    counts = {}
    for detector, name in places:
        for training in trainings.get(detector, ()):
            if (training, name) in videos:
                levels = [results[training, name, level] for level in ("video", "image")]
                texts = [f"{of_level['real']} + {of_level['fake']}" for of_level in levels]
                counts[training, name] = " / ".join(texts)
    names = sorted({name for _, name in counts})
    rows = [["", "seed", *names]]
    for training in sum(trainings.values(), []):
        cells = [counts.get((training, name), "") for name in names]
        if any(cells):
            rows.append([training, seed_of(training, seeds), *cells])
    of_sets = [[set(videos[key]) for key in counts if key[1] == name] for name in names]
    in_all = [str(len(set.intersection(*of_set))) for of_set in of_sets]
    rows.append(["videos that all have", "", *in_all])
    for paper in papers:
        expected = [EXPECTED[paper].get(name, "-") for name in names]
        rows.append([f"expected, {paper}", "", *expected])
    title = "What this rests on: videos / images, real + fake (an image may be a clip)"
    return [title, "", *aligned(rows), "", *(describe_faces(names, faces) if faces else [])]


def seed_of(training, seeds):
    """The seed of a training as text: that of the runs of its name, or the SEED of its name."""
    of_runs = {seed for run, seed in seeds.items() if training in Path(run).parts}
    if len(of_runs) == 1:
        return of_runs.pop()
    of_name = re.fullmatch(".+@([0-9]+)", training)
    return of_name[1] if of_name else "unknown"


def describe_faces(names, folders):
    """The flags by which stage 01 took the faces of data sets, a line for each of the `names`.

    folders: {name: folder of stage 01}.
    """
    shown = ("layout", "compression", "quality", *EXTRACTION, "masks")
    lines = []
    for name in names:
        flags = read_flags(folders[name]) if name in folders else {}
        if "frame_size" in flags and flags.get("sampling") == "frames":
            flags["size"] = flags["frame_size"]  # as release 2.0 called it
        # args.json also has the defaults of flags that this layout or sampling does not read.
        is_clips, layout = flags.get("sampling") == "clips", flags.get("layout")
        unused = ("num_frames", "num_frames_real") if is_clips else ("num_clips", "clip_length")
        unused += () if layout in ("ffpp", "dfd") else ("compression",)
        unused += () if layout == "dftimit" else ("quality",)
        unused += ("scale",) if flags.get("detector") == "none" else ()
        used = [flag for flag in shown if flags.get(flag) and flag not in unused]
        texts = [f"--{k.replace('_', '-')} {flags[k]}".removesuffix(" True") for k in used]
        lines.append(printable(f"faces of {name}: {' '.join(texts) or 'unknown'}"))
    return lines


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


def table(rows):
    """An HTML table with its own scroll bar. rows: lists of HTML; the first one is the header."""
    lines = []
    for row in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join(["<div class=wide><table>", *lines, "</table></div>"])


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
    """Lines of text as HTML that keeps their columns."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def metric_tables(results, detectors, sets, metrics):
    """A heading and a table for each of the metrics and each level."""
    for metric in metrics:
        for level, level_title in LEVELS.items():
            head, *rows = metric_table(results, detectors, sets, metric, level, "<b>{}</b>")
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
        videos, reasons = len(set(index["video"])), []
        with_faces = videos
        if (folder / "videos.csv").exists():
            videos = len(read_table(folder / "videos.csv", ("video",))["video"])
        if (folder / "skipped.csv").exists():
            reasons = read_table(folder / "skipped.csv", ("reason",))["reason"]
        counts = Counter(re.sub(r"[0-9]+", "N", printable(reason)) for reason in reasons)
        skipped = "; ".join(f"{reason}: {n}" for reason, n in counts.most_common(8))
        images = np.bincount(index["label"], minlength=2).tolist()
        rows.append([name, videos, with_faces, *images, skipped or "none"])
    return f"<h3>Faces</h3>\n{text_table(rows)}"


def versions():
    """The versions of what computed the results, one per line."""
    lines = [f"python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return "\n".join(lines)

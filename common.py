"""What all stages agree on, and nothing else: labels, file formats, flags, errors.

Every CSV file is UTF-8 and has a header line. Columns that a stage does not know are ignored:

    faces/NAME/index.csv      path, video, frame, clip, label, method, split; one row per image
    features/NAME/index.csv   the same rows, in the order of features.npy (N x D, float32)
    scores/DETECTOR/NAME.csv  video, frame, label, score, logit; a row per image or clip

Labels: 0 is real, 1 is fake. `score` is always P(fake), the sigmoid of `logit`, which is the logit
of fake minus the logit of real. Images are ranked by the logit, because P(fake) of a confident
network rounds to the same 1.0 for images that its logits tell apart. A detector without logits
leaves that column out. A `video` is one video of one manipulation method; its name is unique within
its file. `clip` is empty where single frames were sampled. `split` is train, val, test, or empty.
"""

import argparse
import contextlib
import csv
import os
import sys
from array import array
from functools import partial
from pathlib import Path

import numpy as np

INDEX_COLUMNS = ("path", "video", "frame", "clip", "label", "method", "split")
SCORE_COLUMNS = ("video", "frame", "label", "score", "logit")

# How stage 01 takes faces from a video: its flags and their defaults. A checkpoint keeps those of
# its training data, so that stage 07 treats a new video in the same way.
EXTRACTION = dict(
    sampling="frames",
    num_frames=30,
    num_frames_real=None,
    num_clips=16,
    clip_length=5,
    scale=1.2,
    size=None,  # None: clips get CLIP_SIZE, single frames keep their own size
    format="png",
    detector="dlib",
    align=None,
)
CLIP_SIZE = 240
# Flags of earlier versions, and what to do instead.
REMOVED_FLAGS = "--boxes-from --choose --compile --crf --cuda-graph --gates --jpg-quality"
REMOVED_FLAGS = dict.fromkeys(REMOVED_FLAGS.split(), "leave it out; CHANGELOG.md says more")
REMOVED_FLAGS |= {"--end-to-end": "use recipes/train_dann.py", "--frame-size": "use --size"}
REMOVED_FLAGS |= {"--save-every": "last.pt is saved every ten minutes"}

# Where torchrun started several processes: how many, and which one this is. Only rank 0 prints and
# writes shared files.
WORLD_SIZE = int(os.environ.get("WORLD_SIZE") or 1)
RANK = int(os.environ.get("RANK") or 0) if WORLD_SIZE > 1 else 0


def fail(message):
    """Exit with status 1 and one line on standard error."""
    process = f" (process {RANK} of {WORLD_SIZE})" if RANK else ""
    raise SystemExit(f"{Path(sys.argv[0]).name}: error: {printable(message)}{process}")


def printable(text):
    """Text that any terminal shows on one line: characters that cannot be printed are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def no_formula(text):
    """Printable text that a spreadsheet does not take for a formula: a quote precedes = + - @."""
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def progress(iterable=None, **options):
    """A tqdm progress bar on a terminal; nothing in a log file."""
    from tqdm import tqdm

    return tqdm(iterable, disable=RANK > 0 or None, dynamic_ncols=True, leave=False, **options)


# ---------------------------------------------------------------- flags


class Parser(argparse.ArgumentParser):
    """The command line of a script. The script's docstring, without its deviations, is its help."""

    def __init__(self, doc, usage=None):
        doc, *deviations = doc.split("\nDeviations ")
        description, epilog = doc.rstrip().split("\n\n", 1)
        if deviations:
            epilog += "\n\nThe top of the script lists its deviations from the paper."
        wide = partial(argparse.RawDescriptionHelpFormatter, width=110)
        super().__init__(usage=usage, description=description, epilog=epilog, formatter_class=wide)

    def error(self, message):
        """Exit with status 2 and a line that says what to do instead of a flag that was removed."""
        words = message.replace("=", " ").split()
        for flag in REMOVED_FLAGS.keys() & set(words if "unrecognized" in words else ()):
            message = f"{flag} was removed: {REMOVED_FLAGS[flag]}"
        super().error(message)


def add_system_flags(
    parser, workers="", seed=False, device=False, precision="", allow_changes=True
):
    """Add those of the flags that several stages share.

    Args:
        workers: help text of --workers that says what the processes do; empty for no such flag.
        precision: default of --precision; empty for no such flag.
    """
    add = parser.add_argument_group("system").add_argument
    if device:
        text = "auto (a GPU if there is one), cpu, cuda, cuda:1 ... (default auto)"
        add("--device", default="auto", metavar="NAME", help=text)
    if precision:
        text = (
            "bf16: convolutions and matrix products in bfloat16 (autocast), weights and sums in "
            "float32, which on a GPU is computed in TF32; tf32: all in TF32; fp32: IEEE float32; "
            "auto: bf16 on GPUs from compute capability 8.0 on and on CPUs with bfloat16 "
            f"instructions, else fp32 (default {precision})"
        )
        add("--precision", choices=("auto", "bf16", "tf32", "fp32"), default=precision, help=text)
    if workers:
        text = f"{workers} (default: one per CPU core that this process may use, at most 16)"
        add("--workers", type=worker_count, default="auto", metavar="N", help=text)
    if seed:
        text = (
            "random seed; the same seed gives the same result on a CPU with the same number of "
            "threads (default 0)"
        )
        add("--seed", type=seed_number, default=0, metavar="N", help=text)
    if allow_changes:
        text = "resume in an output folder that was made with other flags or inputs"
        add("--allow-changes", action="store_true", help=text)
        # Old name of the flag.
        add("--go-on", action="store_true", dest="allow_changes", help=argparse.SUPPRESS)


def worker_count(text):
    """The value of --workers; of its default "auto", the processor cores for each process.

    argparse calls this for the default only where the flag is not given, and not for --help.
    """
    if text.isdecimal():
        return int(text)
    if text != "auto":
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    # joblib respects CPU affinity and container limits. It is slow to import.
    from joblib import cpu_count

    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return min(16, max(1, cpu_count() // processes))


def seed_number(text):
    """The value of --seed: a number that every random generator in use accepts."""
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return int(text)


# ---------------------------------------------------------------- files


@contextlib.contextmanager
def write_whole(path):
    """Yield a temporary path beside `path` and rename it to `path` at the end.

    The file appears whole or not at all. The temporary name is always the same, so that a resumed
    run overwrites what a killed one left behind.
    """
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_table(path, columns, rows):
    """Write a CSV file with a header, whole or not at all. Makes its folder; only rank 0 writes."""
    if RANK:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path, required, kinds=None, optional=None):
    """Read a CSV file as {column: values}. Exits with an error that names the row it cannot read.

    Args:
        required: columns that must be there.
        kinds: {column: (int or float, what an empty value stands for)}. These columns become int64
            or float64 arrays, the others lists of str, in which equal values share one object.
        optional: columns that are read if they are there; None for all.
    """
    kinds = kinds or {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in required if name not in header]
            if missing:
                fail(
                    f"{path}: no column {', '.join(missing)} (needed: {', '.join(required)}; "
                    f"found: {', '.join(header) or 'nothing'})"
                )
            columns, places = {}, {}
            for k, name in enumerate(header):
                if optional is None or name in required or name in optional:
                    kind, empty = kinds.get(name, (str, ""))
                    columns[name] = array("q" if kind is int else "d") if name in kinds else []
                    # Values of these two columns differ from row to row.
                    convert = kind if name in (*kinds, "path", "source") else sys.intern
                    places[name] = k, columns[name].append, convert, empty
            for row, line in enumerate(filter(None, reader), 1):
                if len(line) != len(header):
                    counts = f"{len(line)} values under {len(header)} columns"
                    fail(f"{path}, data row {row}: {counts}")
                for name, (k, append, convert, empty) in places.items():
                    try:
                        append(convert(line[k] or empty))
                    except (ValueError, OverflowError):
                        wanted = "a whole number" if convert is int else "a number"
                        fail(f"{path}, data row {row}: {name} is {line[k][:40]!r}, not {wanted}")
    except FileNotFoundError:
        fail(f"{path} does not exist")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fail(f"{path} cannot be read as CSV: {error}")
    return {k: np.array(v) if k in kinds else v for k, v in columns.items()}


def check_labels(path, videos, labels):
    """Exit with an error unless every label is 0 or 1 and no video has both."""
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        row = bad[0]
        fail(f"{path}, data row {row + 1}: label is {labels[row]}; it can be 0 (real) or 1 (fake)")
    seen = {}
    for video, label in zip(videos, labels.tolist()):
        if seen.setdefault(video, label) != label:
            fail(f"{path}: video {video} is labeled real in one row and fake in another")


def check_duplicates(path, columns):
    """Exit with an error if two rows agree in all of these columns and the first is not empty."""
    hashes = np.fromiter(map(hash, zip(*columns)), np.int64, len(columns[0]))
    ordered = np.sort(hashes)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    seen = {}
    for row in np.flatnonzero(np.isin(hashes, repeated)).tolist():
        key = tuple(column[row] for column in columns)
        if seen.setdefault(key, row) != row and key[0]:
            rows = f"data rows {seen[key] + 1} and {row + 1}"
            fail(f"{path}, {rows} are the same {' '.join(key)!r}: it would count twice")


# ---------------------------------------------------------------- face data


def read_index(folder, one_label=True, also=()):
    """Read FOLDER/index.csv as {column: values}; `frame`, `clip` (-1: none) and `label` are int64.

    Args:
        one_label: exit if a video has both labels. Target sets are read without this check,
            because their labels must not matter.
        also: further integer columns to read.
    """
    folder, path = Path(folder), Path(folder) / "index.csv"
    if not folder.is_dir():
        fail(f"{folder} is not a folder")
    if not path.exists():
        fail(f"{folder} holds no index.csv: it is not the finished output of an earlier stage")
    kinds = {"frame": (int, ""), "clip": (int, "-1"), "label": (int, "")}
    kinds |= {name: (int, "") for name in also}
    index = read_table(path, (*INDEX_COLUMNS, *also), kinds, optional=())
    if not index["path"]:
        fail(f"{path} has no rows")
    for name in index["path"]:
        outside = ".." in name and ".." in name.replace("\\", "/").split("/")
        if outside or name.startswith(("/", "\\")) or ":" in name[:2]:
            fail(f"{path}: {name!r} leads out of its folder")
        if "\0" in name:
            fail(f"{path}: {name!r} holds a zero byte")
    check_duplicates(path, [index["path"]])
    check_labels(path, index["video"] if one_label else (), index["label"])
    return index


def rows_of_split(index, split, folder, required=True):
    """Row indices of a split, int64: "train", "val", "test" or "all".

    All rows of an index without splits are its test split. Exits with an error if a `required`
    split is empty.
    """
    if split == "all" or (split == "test" and not any(index["split"])):
        return np.arange(len(index["split"]))
    rows = np.flatnonzero(np.array(index["split"]) == split)
    if not len(rows) and required:
        found = ", ".join(sorted(set(index["split"]) - {""})) or "none at all"
        fail(
            f"{folder} has no {split} split (it has: {found}): give 01_extract_faces.py the data "
            "set's split files, or --random-split"
        )
    return rows


def margin(logits):
    """(N, 2) logits of real and fake on the CPU -> (N,) fake minus real, float64, not rounded."""
    logits = np.asarray(logits, np.float64)
    return logits[:, 1] - logits[:, 0]


def sigmoid(logits):
    """P(fake) of logits of fake minus real: a float64 array; never overflows."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))


def read_scores(path):
    """Read a score file: (videos, labels, scores, ranks), one entry per image or clip.

    `scores` are P(fake). `ranks` are what orders the images: the file's logits, or its scores where
    it has none. Exits with an error if a score is not in 0..1 or does not belong to its logit.
    """
    kinds = {"label": (int, ""), "score": (float, ""), "logit": (float, "")}
    table = read_table(path, SCORE_COLUMNS[:4], kinds, optional=("logit",))
    labels, scores = table["label"], table["score"]
    ranks = table.get("logit", scores)
    check_labels(path, table["video"], labels)
    # Rows without a frame cannot be told apart.
    check_duplicates(path, [table["frame"], table["video"]])
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        row = bad[0]
        fail(f"{path}, data row {row + 1}: score is {scores[row]}; a score is P(fake), from 0 to 1")
    if "logit" in table:
        finite = np.isfinite(ranks)
        wrong = np.abs(sigmoid(np.where(finite, ranks, 0)) - scores) > 0.01
        bad = np.flatnonzero(~finite | wrong)
        if len(bad):
            row = bad[0]
            fail(
                f"{path}, data row {row + 1}: logit is {ranks[row]} and score {scores[row]}; the "
                "score is the sigmoid of the logit of fake minus that of real. Correct the column, "
                "or leave it out"
            )
    return table["video"], labels, scores, ranks


def write_scores(path, index, rows, logits):
    """Write a score file for the index rows `rows` from their logits of fake minus real, (n,).

    The logit and its sigmoid are written with all digits of a float64.
    """
    logits = np.asarray(logits, np.float64)
    columns = [[index[name][row] for row in rows] for name in SCORE_COLUMNS[:3]]
    write_table(path, SCORE_COLUMNS, zip(*columns, sigmoid(logits).tolist(), logits.tolist()))

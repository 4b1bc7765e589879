"""What the stages must agree on, and nothing else: file formats, face data, metrics, checkpoints, device and seed.

Formats (every CSV has a header line, is UTF-8, and may carry more columns than these):

    faces/NAME/index.csv      path, video, frame, clip, label, method, split     one row a face image
    features/NAME/index.csv   the same rows, in the order of features.npy (N x D, float32)
    scores/DETECTOR/NAME.csv  video, frame, label, score, logit                  one row an image or clip

Labels: 0 = real, 1 = fake. A score is always P(fake), the sigmoid of `logit`, the logit of fake minus that of real. Images are ranked by the
logit: P(fake) of a confident network is the same 1.0 for images that its logits tell apart. A detector without logits leaves that column out. A `video` is one video of one method: its name is unique in its
file. `clip` is empty where single frames were sampled. `split` is train, val, test, or empty where there are no splits.

torch is imported inside the functions that need it: stages 00, 01 and 06 run without it.
"""

import argparse
import contextlib
import csv
import hashlib
import os
import sys
from itertools import islice
from pathlib import Path

import numpy as np

INDEX_COLUMNS = ("path", "video", "frame", "clip", "label", "method", "split")
SCORE_COLUMNS = ("video", "frame", "label", "score", "logit")
WORLD_SIZE = int(
    os.environ.get("WORLD_SIZE") or 1
)  # processes of this run, where torchrun started several (processes.py)
RANK = (
    int(os.environ.get("RANK") or 0) if WORLD_SIZE > 1 else 0
)  # this one's number; 0 alone prints, and writes what all have a part in


def fail(message):
    """End the script with one line on standard error and exit status 1."""
    raise SystemExit(
        f"{Path(sys.argv[0]).name}: error: {message}"
        + (f" (process {RANK} of {WORLD_SIZE})" if RANK else "")
    )


def progress(iterable, **options):
    """A tqdm bar on a terminal, nothing in a log file."""
    from tqdm import tqdm

    return tqdm(
        iterable, disable=True if RANK else None, dynamic_ncols=True, leave=False, **options
    )


class Parser(argparse.ArgumentParser):
    """The command line of a script: its docstring is the help text."""

    def __init__(self, doc, usage=None):
        description, epilog = doc.split("\n\n", 1)
        super().__init__(
            description=description,
            epilog=epilog,
            usage=usage,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=110),
        )

    def parse_args(self, *given):
        """The flags as a namespace; --workers becomes the number of cores where it was not given."""
        args = super().parse_args(*given)
        if getattr(args, "workers", 0) is None:
            from joblib import cpu_count  # respects affinity and container limits; slow to import

            args.workers = min(
                16, max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
            )
        return args


def seed_number(text):
    """The value of --seed: what every random generator here takes."""
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from 0 to {(1 << 31) - 1}"
        )
    return int(text)


def add_system_arguments(
    parser, workers=None, seed=False, device=False, precision=None, go_on=True
):
    """The flags every stage shares; `workers` says in the help what the workers are, `precision` is its default."""
    group = parser.add_argument_group("system")
    if device:
        group.add_argument(
            "--device",
            default="auto",
            metavar="NAME",
            help="auto (a GPU if there is one), cpu, cuda, cuda:1 ... (default auto)",
        )
    if precision:
        group.add_argument(
            "--precision",
            choices=("auto", "fp32", "bf16"),
            default=precision,
            help="bf16: convolutions and matrix products in bfloat16 (autocast), weights and sums in float32; auto: bf16 where it was "
            f"measured to win, on a CPU that has it (avx512_bf16, amx_bf16), else fp32 (default {precision})",
        )
    if workers:
        group.add_argument(
            "--workers",
            type=int,
            metavar="N",
            help=f"{workers} (default: one per CPU core that this process may use, 16 at most)",
        )
    if seed:
        group.add_argument(
            "--seed",
            type=seed_number,
            default=0,
            metavar="N",
            help="seed of everything random; the same seed gives the same "
            "result on a CPU with as many threads (default 0)",
        )
    if go_on:
        group.add_argument(
            "--go-on",
            action="store_true",
            help="go on in an output folder whose run had other flags or inputs; args.json keeps both",
        )


def choose_device(name):
    """The torch.device that --device asks for; ends the script if there is no such device."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and WORLD_SIZE > 1:  # a GPU a process
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        fail(f"--device {name} cannot be used here: {str(error).splitlines()[0]}")
    return device


def choose_precision(name, device):
    """What --precision means on a device: "fp32" or "bf16"."""
    import torch

    if name != "auto":
        return name
    has = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"


def autocast(device, precision):
    """The context in which a network computes in "fp32" or "bf16"."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextlib.contextmanager
def write_whole(path):
    """Yield a path beside `path` to write to; rename it to `path` at the end: the file appears whole or not at all.

    The name of the part is always the same, so that a run that goes on after a kill writes over what the kill left.
    """
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sha256(path):
    """SHA-256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# How stage 01 takes faces from a video, with its defaults. A checkpoint keeps these flags of its
# training data, so that 07_detect.py does the same to a new video.
EXTRACTION = dict(
    sampling="frames",
    num_frames=30,
    num_frames_real=None,
    num_clips=16,
    clip_length=5,
    scale=1.2,
    size=240,
    format="png",
    jpg_quality=95,
    detector="dlib",
)


def folder_names(folders):
    """{NAME: folder} for folders given on the command line; ends the script if two have the same name."""
    named = {}
    for folder in folders:
        name = Path(folder).resolve().name
        if name in named:
            fail(
                f"{named[name]} and {folder} have the same name, and results are kept by name: rename one"
            )
        named[name] = Path(folder)
    return named


def write_table(path, columns, rows):
    """Write a CSV file with a header, whole or not at all; makes its folder. Of several processes the first alone writes."""
    if RANK:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path, required, kinds={}, others=True):
    """Read a CSV file with a header as {column: values}; ends the script if a required column is missing or a value is none of its kind.

    kinds: {column: (int or float, what an empty value stands for)}; these columns become int64 or float64 arrays, the others lists of str, in
    which equal values are one object where they often repeat. `others`: also the columns that are not required. 65,536 lines at a time: beside
    its result it needs no memory to speak of.
    """
    columns = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            missing = [name for name in required if name not in header]
            if missing:
                fail(
                    f"{path}: no column {', '.join(missing)} (needed: {', '.join(required)}; found: {', '.join(header) or 'nothing'})"
                )
            place = {name: k for k, name in enumerate(header) if others or name in required}
            columns = {name: [] for name in place}
            done = 0
            while lines := list(islice(reader, 512)):
                wrong = next((k for k, line in enumerate(lines) if len(line) != len(header)), None)
                if wrong is not None:
                    lines = [line for line in lines if line]  # empty lines say nothing
                    wrong = next(
                        (k for k, line in enumerate(lines) if len(line) != len(header)), None
                    )
                    if wrong is not None:
                        fail(
                            f"{path}, data row {done + wrong + 1}: {len(lines[wrong])} values under {len(header)} columns"
                        )
                turned = list(zip(*lines))
                for name, k in place.items() if lines else ():
                    if name in kinds:
                        columns[name].append(numbers(path, name, turned[k], *kinds[name], done))
                    else:
                        columns[name].extend(
                            turned[k] if name in ("path", "source") else map(sys.intern, turned[k])
                        )
                done += len(lines)
    except FileNotFoundError:
        fail(f"{path} does not exist")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fail(f"{path} cannot be read as CSV: {error}")
    for name, (kind, _) in kinds.items():
        columns[name] = np.concatenate(
            [np.zeros(0, np.int64 if kind is int else np.float64), *columns[name]]
        )
    return columns


def read_header(path):
    """The column names of a CSV file; none where it cannot be read."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def numbers(path, name, values, kind, empty="", before=0):
    """Texts as a numpy array of `kind` (int or float), empty ones as `empty`; ends the script at the first that is none.

    `before`: how many data rows come before these.
    """
    values = [value or empty for value in values]
    try:
        return np.array(list(map(kind, values)), dtype=np.int64 if kind is int else np.float64)
    except (ValueError, OverflowError):
        for row, value in enumerate(values, before + 1):
            try:
                np.int64(int(value)) if kind is int else float(value)
            except (ValueError, OverflowError):
                fail(
                    f"{path}, data row {row}: {name} is {value[:40]!r}, not {'a whole number' if kind is int else 'a number'}"
                )
        raise


def check_labels(path, videos, labels):
    """End the script unless every label is 0 or 1 and no video has both."""
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        fail(
            f"{path}, data row {bad[0] + 1}: label is {labels[bad[0]]}; 0 is real, 1 is fake, nothing else is allowed"
        )
    seen = {}
    for video, label in zip(videos, labels.tolist()):
        if seen.setdefault(video, label) != label:
            fail(f"{path}: video {video} is labelled real in one row and fake in another")


def check_duplicates(path, columns):
    """End the script if two rows of a table agree in all of the columns (of text), the first of which is not empty."""
    hashes = np.fromiter(map(hash, zip(*columns)), np.int64, len(columns[0]))
    ordered = np.sort(hashes)
    if (ordered[1:] != ordered[:-1]).all():
        return
    seen = {}
    for row in np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])).tolist():
        key = tuple(column[row] for column in columns)
        if seen.setdefault(key, row) != row and key[0]:
            fail(
                f"{path}, data rows {seen[key] + 1} and {row + 1} are the same {' '.join(key)!r}: it would count twice"
            )


def read_index(folder, one_label=True, also=()):
    """Read FOLDER/index.csv: {column: list or array}; `frame`, `clip` (-1 = none), `label` and the columns of `also` are integer arrays.

    With `one_label`, two labels for one video end the script; a target set is read without, for its labels say nothing.
    """
    folder, path = Path(folder), Path(folder) / "index.csv"
    if not folder.is_dir():
        fail(f"{folder} is not a folder")
    if not path.exists():
        fail(f"{folder} holds no index.csv: it is not the finished output of an earlier stage")
    kinds = {
        "frame": (int, ""),
        "clip": (int, "-1"),
        "label": (int, ""),
        **{name: (int, "") for name in also},
    }
    index = read_table(path, (*INDEX_COLUMNS, *also), kinds, others=False)
    if not index["path"]:
        fail(f"{path} has no rows")
    for name in index["path"]:
        if (
            name.startswith(("/", "\\"))
            or ":" in name[:2]
            or (".." in name and ".." in name.replace("\\", "/").split("/"))
        ):
            fail(f"{path}: {name!r} leads out of its folder")
        if "\0" in name:
            fail(f"{path}: {name!r} holds a zero byte")
    check_duplicates(path, [index["path"]])
    check_labels(path, index["video"] if one_label else (), index["label"])
    return index


def rows_of_split(index, split, folder):
    """Row numbers of a split ("train", "val", "test" or "all"). An index without any split belongs to "test" as a whole.

    Returns an int64 array, empty only for "val"; ends the script if there is nothing to train or test on.
    """
    if split == "all" or (split == "test" and not any(index["split"])):
        return np.arange(len(index["split"]))
    splits = np.array(index["split"])
    rows = np.flatnonzero(splits == split)
    if not len(rows) and split != "val":
        found = sorted(set(index["split"]) - {""})
        fail(
            f"{folder} has no {split} split ({'it has ' + ', '.join(found) if found else 'it has none at all'}): "
            f"give 01_extract_faces.py the data set's split files, or --random-split"
        )
    return rows


def sigmoid(logits):
    """P(fake) of the logits of fake minus real: float64, never an overflow."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float64)))


def read_scores(path):
    """Read a score file: (videos: list of str, labels: int array, scores: P(fake), ranks: what to order by), one entry an image or clip.

    ranks are the file's logits, or where it has none its scores; both are float64.
    """
    with_logit = "logit" in read_header(path)
    kinds = {
        "label": (int, ""),
        "score": (float, ""),
        **({"logit": (float, "")} if with_logit else {}),
    }
    table = read_table(
        path, (*SCORE_COLUMNS[:4], *(["logit"] if with_logit else [])), kinds, others=False
    )
    labels, scores, ranks = (
        table["label"],
        table["score"],
        table["logit" if with_logit else "score"],
    )
    check_labels(path, table["video"], labels)
    check_duplicates(
        path, [table["frame"], table["video"]]
    )  # where no frame is named, rows cannot be told apart
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        fail(
            f"{path}, data row {bad[0] + 1}: score is {scores[bad[0]]}; a score is P(fake), from 0 to 1"
        )
    if with_logit:
        finite = np.isfinite(ranks)
        bad = np.flatnonzero(
            ~finite | (np.abs(sigmoid(np.where(finite, ranks, 0)) - scores) > 0.01)
        )
        if len(bad):
            fail(
                f"{path}, data row {bad[0] + 1}: logit is {ranks[bad[0]]} and score {scores[bad[0]]}; the score is the sigmoid of the logit of fake minus that "
                "of real. Correct the column, or leave it out"
            )
    return table["video"], labels, scores, ranks


def write_scores(path, index, rows, logits):
    """Write scores/DETECTOR/NAME.csv for index rows `rows` from their logits of fake minus real: (n,) float64, all digits of it and of its sigmoid."""
    logits = np.asarray(logits, np.float64)
    write_table(
        path,
        SCORE_COLUMNS,
        (
            (
                index["video"][r],
                int(index["frame"][r]),
                int(index["label"][r]),
                repr(score),
                repr(logit),
            )
            for r, score, logit in zip(rows.tolist(), sigmoid(logits).tolist(), logits.tolist())
        ),
    )


def margin(logits):
    """(N, 2) logits of real and fake -> (N,) logits of fake minus real as a float64 tensor, in which the difference is not rounded away."""
    logits = logits.double()
    return logits[:, 1] - logits[:, 0]


def percent(value):
    """A rate for the terminal: 0.5 -> "50.0 %", nan -> "undefined"."""
    return "undefined" if np.isnan(value) else f"{100 * value:.1f} %"

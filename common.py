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
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np

INDEX_COLUMNS = ("path", "video", "frame", "clip", "label", "method", "split")
SCORE_COLUMNS = ("video", "frame", "label", "score", "logit")
WORLD = int(
    os.environ.get("WORLD_SIZE") or 1
)  # processes of this run, where torchrun started several (processes.py)
RANK = (
    int(os.environ.get("RANK") or 0) if WORLD > 1 else 0
)  # this one's number; 0 alone prints, and writes what all have a part in
LOOK = {"cuda": 50, "cpu": 1}  # steps between two looks at the loss


# ---------------------------------------------------------------- terminal, arguments, files


def fail(message):
    """End the script with one line on standard error and exit status 1."""
    raise SystemExit(
        f"{Path(sys.argv[0]).name}: error: {message}"
        + (f" (process {RANK} of {WORLD})" if RANK else "")
    )


def run_script(main):
    """Run a script's `main`. Ctrl-C, a file that cannot be written, and the end of another process of the run end it with one line."""
    if WORLD > 1:
        end_with(os.getppid())  # torchrun; killed, it would leave its processes at work
    if RANK:
        sys.stdout = open(os.devnull, "w")
    try:
        main()
        if WORLD > 1:
            from running import distributed

            distributed.part()
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        half = error.errno is None and " written" in str(
            error
        )  # numpy's way to say that a disk is full
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
        ):  # of reading or of writing: the system does not say
            fail(
                f"no access to {error.filename or 'a file'} ({error.strerror}): finished work is kept; change the permissions and run the same command again"
            )
        if not half and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        fail(
            f"cannot write{f' {error.filename}' if error.filename else ''}: {'is the disk full?' if half else error.strerror}. What was done before is "
            "whole; run the same command again to go on"
        )
    except RuntimeError as error:  # gloo's or NCCL's, which comes in a sea of addresses
        if WORLD == 1 or not any(
            sign in str(error)
            for sign in ("losed by peer", "reset by peer", "Broken pipe", "Socket", "NCCL")
        ):
            raise
        fail(
            "another process of this run has ended; its own message says why. Run the same command again to go on"
        )


def wait_for_all():
    """Return when all processes of the run have come here; alone, at once."""
    if WORLD > 1:
        from running import distributed

        distributed.meet()


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
    if name == "cuda" and WORLD > 1:  # a GPU a process
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


def take_losses(losses, step, per_epoch, last):
    """The values of the losses (tensors of one number) of the steps up to `step`, emptying the list; the means over all processes.

    Taking them waits for the device, so on a GPU it is done every 50 steps (`LOOK`). Ends the script at one that is not finite.
    """
    import torch

    values = torch.stack(losses) if losses else torch.zeros(0)
    losses.clear()
    if WORLD > 1:
        from running import distributed

        values = distributed.mean_over_all(values)
    values = values.tolist()
    for k, value in enumerate(values, step - len(values)):
        if not np.isfinite(value):
            state = f"{last} is the last good state" if last.exists() else "no state was saved yet"
            fail(
                f"the loss is {value} at step {k + 1} (epoch {k // per_epoch + 1}, batch {k % per_epoch + 1} of {per_epoch}): lower --lr, or look at that "
                f"batch's images; {state}"
            )
    return values


@contextlib.contextmanager
def worker_pool(workers):
    """A pool of `workers` fresh processes. They and what they started are gone when it is left by an exception, and when this process is, however."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children, get_context

    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=parent_watchdog,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    except BaseException:  # Ctrl-C or a full disk: do not wait for what is under way
        pool.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            kill_group(child.pid)
        raise
    pool.shutdown()


def kill_group(pid):
    """Kill a worker of `worker_pool` and the processes it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def parent_watchdog(parent):
    """Make this worker process the head of a process group that ends when process `parent` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    end_with(parent)


def go_with_parent(worker):
    """For a loader's process: end when the one that started it is gone; torch's own watch over that can wait for ever at the exit."""
    end_with(os.getppid())


def end_with(parent):
    """Start a thread that ends this process, and the group that it is the head of, when process `parent` is gone, however it went."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.1)
        kill_group(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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


def start_run(out, args, inputs=(), free=("out", "workers", "device")):
    """Make the output folder and write its args.json, or check that it belongs to the same command.

    A stage that is run again takes up what lies in its output folder. That is right only if flags and inputs are the
    same, so both are compared (`inputs` by the SHA-256 of each file); a difference ends the script and names it, or with --go-on
    is said and kept in args.json. `free` flags may differ. A folder that holds nothing but args.json and parts of files binds nobody; what
    parts another command left in it are deleted, so that nobody goes on from them. While this process lives no other one can start
    a run in the folder. Of several processes the first does all this and the others wait.
    """
    if RANK:
        return wait_for_all()
    for path in inputs:
        if not Path(path).is_file():
            fail(f"{path}: no such file")
    settings = {
        "script": Path(sys.argv[0]).name,
        "flags": {
            k: json.loads(json.dumps(v, default=str))
            for k, v in sorted(vars(args).items())
            if k not in (*free, "go_on")
        },
        "inputs": {str(path): sha256(path) for path in inputs},
    }
    out, file = Path(out), Path(out) / "args.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the output folder {out}: {error.strerror}")
    handle = lock(file)
    changed, text = ["a new run"], handle.read()
    results = [
        name for name in os.listdir(out) if name != "args.json" and not name.startswith(".part-")
    ]
    try:
        before = json.loads(text)
        pairs = [
            (k, before[g].get(k, "not there"), settings[g].get(k, "not there"))
            for g in ("flags", "inputs")
            for k in sorted({*before[g], *settings[g]})
        ]
        if (
            not results
            and before.get("script") == settings["script"]
            and all(a == b for _, a, b in pairs)
        ):
            changed = []
    except (ValueError, KeyError, TypeError, AttributeError):
        if text and results:
            fail(f"{file} is damaged: delete {out} and run again")
    if text and results:
        if before.get("script") != settings["script"]:
            fail(
                f"{out} holds the result of another run (it was written by {before.get('script')}): give another --out, or delete it to start over"
            )
        changed = [
            f"{k} was {a}, is {b}" if k in settings["flags"] else f"{k} has changed"
            for k, a, b in pairs
            if a != b
        ]
        if changed and not getattr(args, "go_on", False):
            fail(
                f"{out} holds the result of another run ({'; '.join(changed)}): give another --out, delete it to start over, or go on with it by --go-on"
            )
        if changed:
            print(f"going on in {out} with other settings: {'; '.join(changed)}", flush=True)
            settings["before"] = [
                *before.get("before", []),
                {k: before[k] for k in ("flags", "inputs")},
            ]
    if changed:
        for part in out.glob(".part-*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        handle.seek(0)
        handle.truncate()
        handle.write(json.dumps(settings, indent=1) + "\n")
        handle.flush()
    wait_for_all()


_locked = []


def lock(file):
    """Open a text file to read and write, made if it is missing, and lock it for the life of this process; ends the script if another one holds it.

    The lock is lost when this process closes any handle of the file: read it by the handle that comes back.
    """
    handle = open(file, "a+", encoding="utf-8")
    handle.seek(0)
    try:
        import fcntl

        fcntl.lockf(
            handle, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # a record lock: workers do not inherit it
    except ImportError:  # Windows: no lock
        pass
    except OSError:
        fail(f"another process is at work in {file.parent}: wait for it, or give another --out")
    _locked.append(handle)
    return handle


# What a checkpoint keeps of how its faces were extracted, so that 07_detect.py does the same to a new video.
EXTRACTION = (
    "sampling",
    "num_frames",
    "num_frames_real",
    "num_clips",
    "clip_length",
    "scale",
    "size",
    "format",
    "jpg_quality",
    "detector",
    "crf",
    "generated",
)


def describe_data(folder, role):
    """What a checkpoint keeps of a set that it learns from: a list of {"set": its name, "role": text, "extraction": flags of 01}.

    folder: faces of stage 01, or features of 03 or 05, which name their faces. What args.json does not tell is missing in the result.
    """
    try:
        flags = json.loads((Path(folder) / "args.json").read_text(encoding="utf-8"))["flags"]
        extraction = (
            flags["extraction"]
            if "extraction" in flags
            else {k: flags[k] for k in EXTRACTION if k in flags}
        )
        if not isinstance(extraction, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        extraction = {}
    return [dict(set=Path(folder).resolve().name, role=role, extraction=extraction)]


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


# ---------------------------------------------------------------- CSV files


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


def check_doubles(path, columns):
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
    check_doubles(path, [index["path"]])
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
    check_doubles(
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


# ---------------------------------------------------------------- face images and clips


def load_face(path, size):
    """Read an image file as RGB, resized to size x size: uint8 tensor (3, size, size). Raises OSError if it cannot."""
    import torch
    from PIL import Image

    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            pixels = np.array(image)
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Faces:
    """Face images or clips as a torch data set: item k is uint8 (3, S, S), or (T, 3, S, S) where item k is T rows.

    `items` is a list of paths in `folder`, or of tuples of them. An unreadable file comes back as its error message, so that `load_batches`
    can end the run with one line instead of a worker's traceback.
    """

    def __init__(self, items, size, folder=""):
        self.items, self.size, self.folder = items, size, str(folder)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        import torch

        frames, item = [], self.items[k]
        for path in (item,) if isinstance(item, str) else item:
            path = os.path.join(self.folder, path)
            try:
                frames.append(load_face(path, self.size))
            except (OSError, ValueError) as error:
                return f"{path} cannot be read ({error}): extract the faces again with 01_extract_faces.py"
        return frames[0] if len(frames) == 1 else torch.stack(frames)


def collate(items):
    """Stack the items of a batch, or hand on the first error message among them."""
    import torch

    errors = [item for item in items if isinstance(item, str)]
    return errors[0] if errors else torch.stack(items)


def load_batches(faces, batches, workers, pin=False):
    """Yield the batches (lists of item numbers) of a `Faces` data set as stacked uint8 tensors, in order."""
    import torch

    # A generator of its own: the loader would otherwise draw from the global one, and a resumed run would differ.
    loader = torch.utils.data.DataLoader(
        faces,
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate,
        pin_memory=pin,
        generator=torch.Generator(),
        worker_init_fn=go_with_parent,
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                fail(batch)
            yield batch
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(
            error
        ):  # torch's words for one that was killed; others are the worker's own errors
            raise
        fail(
            f"a process that loads images died ({str(error).splitlines()[0][:150]}): too little (shared) memory? Try fewer --workers, or 0"
        )


def group_clips(index, rows, folder, length):
    """Samples of `length` consecutive frames from the clips in the rows: (list of tuples of paths, row number of each sample's first frame).

    A clip whose number of frames is a multiple of `length` gives several. Ends the script if the folder holds single frames, clips of
    different lengths, or clips that cannot be cut so.
    """
    if (index["clip"][rows] < 0).any():
        fail(
            f"{folder} holds single frames, not clips: run 01_extract_faces.py with --sampling clips"
        )
    clips = {}
    for row in rows.tolist():
        clips.setdefault((index["video"][row], int(index["clip"][row])), []).append(row)
    for members in clips.values():
        members.sort(key=lambda row: index["frame"][row])
    lengths = {len(members) for members in clips.values()}
    if len(lengths) > 1:
        fail(
            f"{folder} has clips of {min(lengths)} and of {max(lengths)} frames: extract the faces again with 01_extract_faces.py"
        )
    if lengths and max(lengths) % length:
        fail(
            f"{folder} has clips of {max(lengths)} frames, the network takes {length} consecutive ones: extract the faces with "
            f"01_extract_faces.py --sampling clips --clip-length {length} --num-clips {max(1, 80 // length)}"
        )
    samples = [
        members[k : k + length]
        for members in clips.values()
        for k in range(0, len(members), length)
    ]
    return (
        [tuple(str(Path(folder) / index["path"][row]) for row in members) for members in samples],
        np.array([members[0] for members in samples], np.int64),
    )


def epoch_batches(count, batch, seed, epoch):
    """The batches of one training epoch: a permutation of 0..count-1 that depends on seed and epoch alone, cut up.

    An incomplete last batch is left out (batch norm would weigh its few images too much); what is left out differs
    from epoch to epoch. Fewer items than a batch make one smaller batch.
    """
    batch = min(batch, count)
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    return [order[k : k + batch] for k in range(0, count - batch + 1, batch)]


def margin(logits):
    """(N, 2) logits of real and fake -> (N,) logits of fake minus real as a float64 tensor, in which the difference is not rounded away."""
    logits = logits.double()
    return logits[:, 1] - logits[:, 0]


# ---------------------------------------------------------------- metrics


def auc(labels, scores):
    """Area under the ROC curve, 0..1; nan if only one class is there."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else float("nan")


def eer(labels, scores):
    """Equal error rate, 0..1: where the false positive rate equals the false negative rate, the ROC curve's points
    joined by straight lines; nan if only one class is there."""
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return float("nan")
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = (1 - tpr) - fpr  # falls from 1 to -1 along the curve
    after = int(np.argmax(gap <= 0))
    if gap[after] == 0:
        return float(fpr[after])
    step = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(fpr[after - 1] + step * (fpr[after] - fpr[after - 1]))


def eer_threshold(labels, scores):
    """The threshold of equal error rates: where the share of reals at or above it is nearest to that of fakes below it; nan for one class.

    It lies midway between two scores; of several such places it is the middle one.
    """
    values = np.unique(scores)
    if len(np.unique(labels)) < 2:
        return float("nan")
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    cuts = (
        np.maximum(cuts, np.nextafter(values[:-1], 2)) if len(values) > 1 else cuts
    )  # neighbouring numbers have no midpoint
    below = [
        np.searchsorted(np.sort(scores[labels == label]), cuts) / (labels == label).sum()
        for label in (0, 1)
    ]
    gap = np.abs((1 - below[0]) - below[1])
    best = np.flatnonzero(gap <= gap.min() + 1e-12)
    return float(cuts[best[len(best) // 2]])


def validate(videos, labels, logits):
    """What a validation set says of a network, at video level (the mean of a video's P(fake)), for its checkpoint and 07_detect.py; None without one.

    videos: a name for each of the logits of fake minus real. Returns {"videos": their number, "auc", "eer", "threshold"}, nan where there is one class only.
    """
    if not len(videos):
        return None
    names = {name: k for k, name in enumerate(dict.fromkeys(videos))}
    groups = np.fromiter(map(names.get, videos), np.int64, len(videos))
    count = np.bincount(groups)
    means, of_video = (
        np.bincount(groups, sigmoid(logits)) / count,
        (np.bincount(groups, labels) / count).round().astype(int),
    )
    return dict(
        videos=len(names),
        auc=auc(of_video, means),
        eer=eer(of_video, means),
        threshold=eer_threshold(of_video, means),
    )


def percent(value):
    """A rate for the terminal: 0.5 -> "50.0 %", nan -> "undefined"."""
    return "undefined" if np.isnan(value) else f"{100 * value:.1f} %"


# ---------------------------------------------------------------- checkpoints


def canonical(value):
    """Rebuild nested containers with interned keys and tensors of their own, so that equal contents give equal bytes."""
    import torch

    if isinstance(value, dict):
        return {sys.intern(k) if isinstance(k, str) else k: canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(canonical(v) for v in value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    return sys.intern(value) if isinstance(value, str) else value


def save_checkpoint(path, **content):
    """Write a checkpoint: tensors, numbers and text in nested dicts and lists, whole or not at all. Of several processes the first alone writes."""
    if RANK:
        return
    import torch

    with write_whole(path) as part, open(part, "wb") as file:
        try:
            torch.save(canonical(content), file)
        except RuntimeError as error:  # how torch reports that a disk is full
            fail(
                f"cannot write {path} ({str(error).splitlines()[0][:100]}): is the disk full? What was saved before is whole; run the same command "
                "again to go on"
            )


def load_checkpoint(path, *stages):
    """Read a checkpoint that one of the stages ("02", "04", "05") wrote, onto the CPU; ends the script if it is another thing."""
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        fail(
            f"no checkpoint {path}"
            + (f" (in that folder: {path / 'model.pt'}?)" if path.is_dir() else "")
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        fail(
            f"{path} is not a checkpoint of this project, or is damaged ({(str(error).splitlines() or ['no reason given'])[0][:100]})"
        )
    found = content.get("stage") if isinstance(content, dict) else None
    if found not in stages:
        fail(
            f"{path} is {f'a checkpoint of stage {found}' if found else 'not a checkpoint of this project'}; one of stage {' or '.join(stages)} is needed"
        )
    return content


def load_state(model, checkpoint, path):
    """Put the weights of a checkpoint that was read from `path` into a network; ends the script where they do not fit."""
    try:
        model.load_state_dict(checkpoint["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        fail(
            f"{path} does not hold the weights of this network ({' '.join(str(error).split())[:150]})"
        )


def rebuild(network, content, path):
    """The network of a checkpoint's content, `network(**kwargs)` with its weights; ends the script where it does not say what it is."""
    try:
        net = network(**content["kwargs"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        fail(f"{path} does not say what its network is ({' '.join(str(error).split())[:150]})")
    load_state(net, content, path)
    return net


def take_up(model, optimizer, state, path, stage):
    """Go on from the checkpoint `path` of an earlier run, if it is there: returns its {key of `state`: value}, or `state`.

    Network, optimizer and random generators are as they were then. Ends the script where they do not fit.
    """
    if not path.exists():
        return state
    saved = load_checkpoint(path, stage)
    load_state(model, saved, path)
    try:
        flags = [
            {k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(saved["optimizer"])
        for group, now in zip(
            optimizer.param_groups, flags
        ):  # with --go-on, --lr may be another than was saved
            group.update(now)
        set_random_state(saved["random"])
        return {k: saved[k] for k in state}
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        fail(
            f"{path} cannot be gone on from ({' '.join(str(error).split())[:150] or type(error).__name__}): delete it to start over"
        )


def random_state():
    """The state of torch's random generators, to be stored in a checkpoint."""
    import torch

    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state):
    """Put back what `random_state` gave."""
    import torch

    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

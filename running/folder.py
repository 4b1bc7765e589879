"""The output folder of a run: one command and one process at a time, and args.json."""

import errno
import hashlib
import json
import math
import os
import shutil
import sys
from pathlib import Path

from common import EXTRACTION, RANK, fail
from running.processes import barrier

# What the flags of stage 01 can be in the record of a checkpoint; other numbers are 1 or more.
CHOICES = dict(
    sampling=("frames", "clips"),
    detector=("dlib", "mtcnn", "none"),
    format=("png", "jpg"),
    align=(None, "landmarks"),
)
RANGES = dict(size=(1, 4096), clip_length=(1, 1000), scale=(0.1, 10))


def start_run(out, args, inputs=(), runtime_flags=("out", "workers", "device"), is_finished=False):
    """Make the output folder and write its args.json, or check that it belongs to this command.

    A stage that is run again uses what lies in its output folder. That is right only if flags and
    inputs are the same, so both are compared. A difference is an error that names it; with
    --allow-changes, unfinished work resumes all the same, and the difference is printed and kept in
    args.json. A folder without results can be used by any command; unfinished files of another
    command are deleted, so that no run continues from them. While this process runs, no other one
    can start a run in the folder. Rank 0 does all this and the others wait.

    Args:
        out: the folder.
        args: namespace of flags.
        inputs: files that the run reads, compared by their SHA-256.
        runtime_flags: those that may differ.
        is_finished: whether these flags leave nothing to do in the folder. Its result would stay as
            it is under settings that it was not made with, an error with --allow-changes too.
    """
    if RANK:
        return barrier()
    for path in inputs:
        if not Path(path).is_file():
            fail(f"{path}: no such file")
    settings = {
        "script": Path(sys.argv[0]).name,
        "flags": flags_of(args, runtime_flags),
        "inputs": {str(path): sha256(path) for path in inputs},
    }
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the output folder {out}: {error.strerror}")
    handle = lock(out / "args.json")
    text = handle.read()
    before = parse_settings(text)
    files = set(os.listdir(out)) - {"args.json"}
    if text and any(not name.startswith(".part-") for name in files):
        allow_changes = getattr(args, "allow_changes", False)
        changed = check_same_run(out, before, settings, allow_changes, is_finished)
    else:
        changed = before is None or bool(differences(before, settings))
    if changed:
        for part in out.glob(".part-*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        # Not truncated first: an args.json that a kill left empty would let any command in.
        handle.seek(0)
        handle.write(json.dumps(settings, indent=1) + "\n")
        handle.flush()
        handle.truncate()
    barrier()


def flags_of(args, runtime_flags):
    """The flags of a run as JSON stores them, without those that may differ when it is resumed."""
    free = (*runtime_flags, "allow_changes")
    flags = {k: v for k, v in sorted(vars(args).items()) if k not in free}
    return json.loads(json.dumps(flags, default=str))


def parse_settings(text):
    """The content of an args.json, or None if it is not one."""
    try:
        settings = json.loads(text)
        is_valid = isinstance(settings["flags"], dict) and isinstance(settings["inputs"], dict)
        return settings if is_valid and "script" in settings else None
    except (ValueError, KeyError, TypeError):
        return None


def differences(before, now):
    """What differs between two settings, as a list of texts.

    A flag that one of the two versions does not have counts as one that was not given.
    """
    if before["script"] != now["script"]:
        return [f"it was written by {before['script']}"]
    found = []
    for kind in ("flags", "inputs"):
        for name in sorted({*before[kind], *now[kind]}):
            a, b = (settings[kind].get(name, "not there") for settings in (before, now))
            is_new_or_gone = "not there" in (a, b) and kind == "flags"
            if a != b and not (is_new_or_gone and not (a and b)):
                found.append(
                    f"{name} was {a}, is {b}" if kind == "flags" else f"{name} has changed"
                )
    return found


def check_same_run(out, before, now, allow_changes, is_finished):
    """Whether the settings of a folder with results have changed; exits unless that is allowed."""
    if before is None:
        fail(f"{out / 'args.json'} is damaged: delete {out} and run again")
    found = differences(before, now)
    if not found:
        return False
    advice = "give another --out, delete it to start over"
    if before["script"] != now["script"]:
        fail(f"{out} holds the result of another run ({found[0]}): {advice}")
    if is_finished:
        fail(f"{out} holds the finished result of another run ({'; '.join(found)}): {advice}")
    if not allow_changes:
        advice += ", or resume it with the new settings by --allow-changes"
        fail(f"{out} holds the result of another run ({'; '.join(found)}): {advice}")
    print(f"resuming in {out} with other settings: {'; '.join(found)}", flush=True)
    old = {kind: before[kind] for kind in ("flags", "inputs")}
    now["before"] = [*before.get("before", []), old]
    return True


_locked = []


def lock(file):
    """Open a text file for reading and writing and lock it for the life of this process.

    Makes the file if it is missing. Exits with an error if another process holds the lock. The lock
    is lost when this process closes any handle of the file, so it must be read by the returned one.
    There is no lock on Windows, and a warning on a file system without locks.
    """
    handle = open(os.open(file, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    try:
        import fcntl

        # A record lock: worker processes do not inherit it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            fail(f"another process is using {file.parent}: wait for it, or give another --out")
        print(
            f"the file system of {file.parent} has no locks ({error.strerror}): nothing stops a "
            "second process there, so do not start one",
            flush=True,
        )
    _locked.append(handle)
    return handle


def sha256(path):
    """SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_names(folders):
    """{NAME: folder} of folders on the command line. Exits if two of them have the same name."""
    named = {}
    for folder in folders:
        name = Path(folder).resolve().name
        if name in named:
            fail(
                f"{named[name]} and {folder} have the same name, and results are kept by name: "
                "rename one of them"
            )
        named[name] = Path(folder)
    return named


def read_flags(folder):
    """The flags in a folder's args.json as a dict, empty if there are none."""
    try:
        flags = json.loads((Path(folder) / "args.json").read_text(encoding="utf-8"))["flags"]
        return flags if isinstance(flags, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def describe_data(folder, role):
    """What a checkpoint keeps of a data set: {"set": its name, "role": text, "extraction": flags}.

    Args:
        folder: faces of stage 01, or features of 03 or 05, whose args.json names their faces.
        role: how the set was used, for example "trained on".
    """
    flags = read_flags(folder)
    names = (*EXTRACTION, "frame_size", "generated")
    extraction = flags.get("extraction", {name: flags[name] for name in names if name in flags})
    extraction = extraction if isinstance(extraction, dict) else {}
    return dict(set=Path(folder).resolve().name, role=role, extraction=extraction)


def read_record(content, path):
    """What a checkpoint records of its training.

    content: of a checkpoint, read from `path`. Returns its data, as `describe_data` describes them;
    the flags of common.EXTRACTION by which their faces were taken, {} if there are none; and what
    `metrics.validate` returned, or None. Exits with an error if these are not what stages write.
    """
    try:
        data, validation = list(content.get("data") or []), content.get("validation")
        valid = all(isinstance(entry[key], str) for entry in data for key in ("set", "role"))
        recorded = [entry["extraction"] for entry in data if entry["extraction"].get("sampling")]
        recorded = recorded[0] if recorded else {}
        flags = {name: recorded[name] for name in EXTRACTION if name in recorded}
        if "frame_size" in recorded and recorded["sampling"] == "frames":
            flags["size"] = recorded["frame_size"]  # as release 2.0 called it
        for name, value in flags.items():
            if name in CHOICES:
                valid &= value in CHOICES[name]
            elif value is not None or EXTRACTION[name] is not None:
                lowest, highest = RANGES.get(name, (1, math.inf))
                valid &= type(value) in (int, type(EXTRACTION[name])) and lowest <= value <= highest
        if validation:
            numbers = [validation[key] for key in ("videos", "auc", "eer", "threshold")]
            # Earlier versions wrote none of these, and this one writes them all.
            later = ("reals", "fakes", "real_below", "fake_from", "missed_fakes", "false_alarms")
            if validation.keys() & later:
                numbers += [validation[key] for key in later]
            # nan is neither; infinity could not be written to verdicts.json.
            valid &= all(isinstance(n, int | float) and not abs(n) > 1e9 for n in numbers)
    except (KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        fail(f"{path}: its record of its training cannot be used: train it again")
    return data, flags, validation


def find_extractor(record, path, extractor):
    """The checkpoint that made the features of a checkpoint of stage 04.

    It is `extractor` (--extractor), or the file that the record names, with the same SHA-256.
    """
    record = record if isinstance(record, dict) else {}
    if not record and not extractor:
        fail(f"{path} does not say which extractor made its features: give --extractor FILE")
    # A relative path is that from the folder of the training, which is above the checkpoint.
    places = [Path(str(extractor or record.get("path")))]
    if not extractor:
        places += [parent / places[0] for parent in Path(path).resolve().parents]
    place = next((place for place in places if place.is_file()), None)
    if not place:
        fail(f"{places[0]}, which made the features of {path}, is missing: give --extractor FILE")
    if record and sha256(place) != record.get("sha256"):
        fail(
            f"{place} is not the extractor that made the features of {path}, or has changed since: "
            "give --extractor FILE"
        )
    return place

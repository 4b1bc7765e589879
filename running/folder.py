"""The output folder of a run: one process at a time, one command, args.json."""

import json
import os
import shutil
import sys
from pathlib import Path

from common import EXTRACTION, RANK, fail, sha256
from running.script import barrier


def start_run(out, args, inputs=(), free=("out", "workers", "device")):
    """Make the output folder and write its args.json, or check that it belongs to the same command.

    A stage that is run again takes up what lies in its output folder. That is right only if flags and inputs are the
    same, so both are compared (`inputs` by the SHA-256 of each file); a difference ends the script and names it, or with --go-on
    is said and kept in args.json. `free` flags may differ. A folder that holds nothing but args.json and parts of files binds nobody; what
    parts another command left in it are deleted, so that nobody goes on from them. While this process lives no other one can start
    a run in the folder. Of several processes the first does all this and the others wait.
    """
    if RANK:
        return barrier()
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
    barrier()


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


def describe_data(folder, role):
    """What a checkpoint keeps of a set that it learns from: a list of {"set": its name, "role": text, "extraction": flags of 01}.

    folder: faces of stage 01, or features of 03 or 05, which name their faces. What args.json does not tell is missing in the result.
    """
    try:
        flags = json.loads((Path(folder) / "args.json").read_text(encoding="utf-8"))["flags"]
        extraction = (
            flags["extraction"]
            if "extraction" in flags
            else {k: flags[k] for k in (*EXTRACTION, "crf", "generated") if k in flags}
        )
        if not isinstance(extraction, dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        extraction = {}
    return [dict(set=Path(folder).resolve().name, role=role, extraction=extraction)]

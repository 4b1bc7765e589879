"""What the tests share: running a script as a user does, comparing folders, and small data.

The small data are 6 people and 10 frames per video from stage 00, and what stages 01 to 03 make of
them. All test processes of a run share one copy, so tests only read it: a test that changes
something takes a copy of its own (the fixture `copy`).

Tests that use the authors' reference outputs or real clips look for them in the folder that the
environment variable SHARED names (default: ../shared beside the project), and are skipped with a
message where it is missing.
"""

import contextlib
import csv
import importlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from functools import lru_cache
from pathlib import Path

import forks
import pytest
from filelock import FileLock
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
sys.path.insert(0, str(ROOT))
# How long an example takes depends on the machine's load, and a draw that fails must fail again.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
if threading.current_thread() is threading.main_thread():
    # A background job, and whatever it starts, would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Flags(tuple):
    """Words of a command line: f"{FLAGS}" is their text, *FLAGS are the words."""

    def __str__(self):
        return " ".join(self)


SMALL_EXTRACTOR = Flags(
    "--arch resnet18 --weights none --image-size 64 --batch 8 --device cpu".split()
)
SMALL_CLRNET = Flags("--filters 4 --repetitions 1 1 --image-size 48 --batch 4 --device cpu".split())


def stage(name):
    """Import a numbered script, e.g. stage("05_train_clrnet")."""
    return importlib.import_module(name)


def command(script, *args):
    """The words of a command. script: its name, or a line of words that begins with it."""
    script, *words = shlex.split(script)
    return [sys.executable, str(ROOT / script), *words, *map(str, args)]


@lru_cache
def start_forks():
    """The forks.py of this test process and the folder of its socket s."""
    # A socket's path may have 108 characters, so it lies in a folder with a short one.
    folder = tempfile.TemporaryDirectory()
    line = [sys.executable, forks.__file__, "serve", f"{folder.name}/s"]
    process = subprocess.Popen(line, stdin=subprocess.PIPE)
    while not os.path.exists(f"{folder.name}/s"):
        assert process.poll() is None, "forks.py does not start"
        time.sleep(0.01)
    return process, folder


def forks_address():
    return f"{start_forks()[1].name}/s"


def forked_python(path):
    """Make an executable for shell scripts: as python, but each run is a fork of forks.py."""
    line = [sys.executable, "-IS", forks.__file__, "run", forks_address()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(line)} "$@"\n')
    path.chmod(0o755)


def run(script, *args, fails=False, fresh=False):
    """Run a script to its end in its own process, and return what it printed.

    `script` may be a whole line: run(f"06_evaluate.py --scores {folder} --out {tmp_path / 'r'}").
    Standard error is included. A wrong exit status fails the test; with `fails`, the script has to
    end with an error of one line. The process is forked from one that has imported the libraries
    (forks.py); with `fresh`, or on Windows, it is a new Python.
    """
    if fresh or not hasattr(os, "fork"):
        done = subprocess.run(command(script, *args), capture_output=True, text=True, timeout=600)
        status, output, errors = done.returncode, done.stdout, done.stderr
    else:
        status, output, errors = run_forked(command(script, *args)[1:])
    assert (status != 0) == fails, output + errors
    if fails:
        assert "Traceback" not in output + errors, output + errors
        assert len(errors.strip().splitlines()) == 1, f"not one clear line:\n{errors}"
        assert ": error: " in errors, errors
    return output + errors


def call(line, fails=False):
    """As `run`, in this process: a command as one string, such as "06_evaluate.py --out r".

    A warning of Python is an error. What `fails` is the exception's message, without a traceback.
    """
    script, *argv = shlex.split(line)
    output, message = io.StringIO(), None
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        patch.setattr(sys, "argv", [script, *argv])
        try:
            stage(script.removesuffix(".py").replace("/", ".")).main()
        except SystemExit as end:
            message = str(end)
    assert (message is not None) == fails, output.getvalue() + str(message)
    if fails:
        assert ": error: " in message and len(message.splitlines()) == 1, message
    return output.getvalue() + (message or "")


def run_forked(argv):
    """Run a script as a fork of forks.py; returns its exit status, its output and its errors."""
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("output", "errors")]
        with open(names[0], "w") as output, open(names[1], "w") as errors:
            status = forks.ask(forks_address(), argv, output.fileno(), errors.fileno())
        return status, *(Path(n).read_text(encoding="utf-8", errors="replace") for n in names)


def in_process(function, items, workers):
    """What `map_in_workers` does, without workers."""
    return (function(item) for item in items)


def extract(line, fails=False):
    """`call` of stage 01 with these flags, without workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage("01_extract_faces"), "map_in_workers", in_process)
        return call(f"01_extract_faces.py {line}", fails=fails)


def judge(line, fails=False):
    """`call` of stage 07 with these flags on a CPU, without workers.

    Returns the content of verdicts.json and what was printed; the error alone of what `fails`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage("07_detect"), "map_in_workers", in_process)
        said = call(f"07_detect.py {line} --device cpu", fails=fails)
    if fails:
        return said
    words = shlex.split(line)
    path = Path(words[words.index("--out") + 1], "verdicts.json")
    return json.loads(path.read_text(encoding="utf-8")), said


def run_and_kill(ready, script, *args):
    """Kill a script with SIGKILL as soon as `ready()` is true, and wait for its workers to end too.

    If the machine is so busy that the script ends before it is killed, it starts over.
    """
    outputs = [Path(args[args.index(f) + 1]) for f in ("--out", "--scores") if f in args]
    for _ in range(10):
        process = subprocess.Popen(
            command(script, *args), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        deadline = time.time() + 600
        while process.poll() is None and not ready():
            assert time.time() < deadline, "the script does not get to where it should be killed"
            time.sleep(0.002)
        process.kill()
        _, errors = process.communicate()
        assert_none_left(outputs[0])
        if process.returncode == -signal.SIGKILL:
            return
        assert process.returncode == 0, errors
        for folder in outputs:
            shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError("the script always ended before it could be killed")


def processes_of(text):
    """Command lines of all other processes of this machine that contain a text."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name != str(os.getpid()):
            with contextlib.suppress(OSError):  # the process has ended
                lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return [line for line in lines if str(text) in line]


def assert_none_left(text, seconds=60):
    """Wait until no process has the text in its command line; fail after `seconds`."""
    deadline = time.time() + seconds
    while left := processes_of(text):
        assert time.time() < deadline, left
        time.sleep(0.1)


def rows_of(file):
    """The rows of a CSV file as dicts."""
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def drop_val(folder):
    """Make the val split of a folder of faces or features test; returns the folder."""
    path = folder / "index.csv"
    path.write_text(path.read_text().replace(",val,", ",test,"))
    return folder


def tree(folder):
    """{relative path: bytes} of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def assert_same_tree(a, b):
    """Both folders contain the same files: checkpoints of equal content, all others bit for bit."""
    files_a, files_b = tree(a), tree(b)
    assert sorted(files_a) == sorted(files_b)
    different = []
    for name in files_a:
        if files_a[name] != files_b[name]:
            if not name.endswith(".pt") or not same_checkpoint(Path(a, name), Path(b, name)):
                different.append(name)
    assert different == []


def same_checkpoint(a, b):
    """Whether two files of torch.save have equal content."""
    import torch

    return same(*(torch.load(path, weights_only=True) for path in (a, b)))


def same(a, b):
    """Whether two nested structures are equal: tensors bit for bit, all else too."""
    import torch
    from torch.utils._pytree import tree_flatten

    def is_same(a, b):
        if type(a) is not type(b):
            return False
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return a == b or (a != a and b != b)

    (values_a, structure_a), (values_b, structure_b) = map(tree_flatten, (a, b))
    return structure_a == structure_b and all(map(is_same, values_a, values_b))


def shared(*parts):
    """A path in the shared folder; skips the test where it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(
            f"{path.name} is missing: set SHARED to the folder that contains {'/'.join(parts)}"
        )
    return path


# ---------------------------------------------------------------- several test processes

# Longest first, so that test processes side by side end at about the same time.
LONGEST = (
    "test_demo",
    "test_recipes",
    "test_killed",
    "test_processes",
    "test_02_03_extractor",
    "test_05_train_clrnet",
    "test_01_extract_faces",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """One test process runs all tests of a file, unless they are marked to be of other groups."""

    def position(item):
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=position)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """make_once(name, make) -> a folder that all test processes share, filled by make(folder).

    The first process that needs it makes it, while the others wait. It goes with the folder of
    the whole run, when the last process has ended.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    base = base / "shared"
    base.mkdir(exist_ok=True)

    def get(name, make):
        folder, done = base / name, base / f"{name.replace('/', '-')}.done"
        with FileLock(done.with_suffix(".lock")):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                make(folder)
                done.touch()
        return folder

    return get


def changes_below(*folders):
    """{file: (size, time of its last change)}"""
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="session")
def small(make_once):
    """A folder with videos/, faces/{frames,clips,clips-FS} of the studio condition, faces/phone."""

    def make(folder):
        run(f"00_make_demo_videos.py --out {folder}/videos --identities 6 --frames 10")
        clips = "--sampling clips --num-clips 2 --size 48"
        for name, condition, flags in (
            ("frames", "studio", "--method Deepfakes --num-frames 4"),
            ("phone", "phone", "--method Deepfakes --num-frames 4"),
            ("clips", "studio", f"--method Deepfakes {clips}"),
            ("clips-FS", "studio", f"--method FaceSwap {clips}"),
        ):
            videos = folder / "videos" / condition
            extract(f"--layout ffpp --videos {videos} {flags} --out {folder}/faces/{name}")

    folder = make_once("small", make)
    before = changes_below(folder / "videos", folder / "faces")
    yield folder
    assert changes_below(folder / "videos", folder / "faces") == before, (
        "a test has changed the data that all tests share: it should take a copy"
    )


@pytest.fixture(scope="session")
def extractor(small, make_once):
    """model.pt of a small extractor, trained for one epoch; its run is small/runs/extractor."""
    line = f"02_pretrain_extractor.py --faces {small}/faces/frames --epochs 1 {SMALL_EXTRACTOR}"
    runs = make_once("small/runs", lambda folder: run(f"{line} --out {folder}/extractor"))
    return runs / "extractor/model.pt"


@pytest.fixture(scope="session")
def features(small, extractor, make_once):
    """The features of faces/frames and faces/phone; their scores are small/scores/direct."""
    line = f"03_extract_features.py --checkpoint {extractor} --faces {small}/faces/frames "
    line += f"{small}/faces/phone --device cpu --precision fp32 --scores {small}/scores/direct"
    return make_once("small/features", lambda folder: run(f"{line} --out {folder}"))


@pytest.fixture(scope="session")
def small_data(small, make_once):
    """The data sets that the recipes are tried on, of the videos of `small`."""
    recipe = importlib.import_module("recipes.make_small_data")
    videos = recipe.Videos(small / "videos")
    return make_once("small-data", lambda folder: recipe.lay_out(videos, folder))


@pytest.fixture
def copy(tmp_path):
    """copy(folder) -> a copy of it in this test's own folder."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / Path(folder).name))

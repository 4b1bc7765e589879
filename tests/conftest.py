"""What the tests share: running a script as a user does, comparing folders, and small data made once a session.

The small data: 6 people and 10 frames a video from stage 00, and what stages 01 to 03 make of them. Tests that use the authors'
reference outputs or real clips look for them in the folder that SHARED names (../shared beside the project), and are
skipped, saying so, where it is missing.
"""

import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
sys.path.insert(0, str(ROOT))
if threading.current_thread() is threading.main_thread():
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a job in the background, and what it starts, would ignore Ctrl-C
SMALL_EXTRACTOR = (
    "--arch",
    "resnet18",
    "--weights",
    "none",
    "--image-size",
    "64",
    "--batch",
    "8",
    "--device",
    "cpu",
)
SMALL_CLRNET = (
    "--filters",
    "4",
    "--repetitions",
    "1",
    "1",
    "--image-size",
    "48",
    "--batch",
    "4",
    "--device",
    "cpu",
)


def stage(name):
    """Import a numbered script, e.g. stage("05_train_clrnet")."""
    return importlib.import_module(name)


def command(script, *args):
    return [sys.executable, str(ROOT / script), *map(str, args)]


_forks = []  # the process of forks.py, once it is needed


def run(script, *args, fails=False, fresh=False):
    """Run a script to its end in a process of its own; returns its output, standard error included. Fails the test on the wrong exit status.

    The process is a fork of one that has the libraries loaded (forks.py); with `fresh`, or on Windows, a new Python.
    """
    if fresh or not hasattr(os, "fork"):
        done = subprocess.run(command(script, *args), capture_output=True, text=True, timeout=600)
        status, output, errors = done.returncode, done.stdout, done.stderr
    else:
        if not _forks:
            _forks.append(
                subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("forks.py")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        with tempfile.TemporaryDirectory() as folder:
            names = [os.path.join(folder, name) for name in ("output", "errors")]
            print(
                json.dumps(
                    dict(
                        argv=command(script, *args)[1:],
                        cwd=os.getcwd(),
                        env=dict(os.environ),
                        output=names[0],
                        errors=names[1],
                    )
                ),
                file=_forks[0].stdin,
                flush=True,
            )
            assert select.select([_forks[0].stdout], [], [], 600)[0], "it does not end"
            status = int(_forks[0].stdout.readline())
            output, errors = (
                Path(name).read_text(encoding="utf-8", errors="replace") for name in names
            )
    assert (status != 0) == fails, output + errors
    if fails:
        assert "Traceback" not in output + errors, output + errors
        assert len(errors.strip().splitlines()) == 1 and ": error: " in errors, (
            f"not one clear line:\n{errors}"
        )
    return output + errors


def run_and_kill(ready, script, *args):
    """Start a script, kill it with SIGKILL as soon as `ready()` is true, and wait for its workers to go too."""
    process = subprocess.Popen(
        command(script, *args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 300
    while not ready():
        assert process.poll() is None, "the script ended before it could be killed"
        assert time.time() < deadline, "the script never got to the point where it should be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_none_left(args[args.index("--out") + 1])


def processes_of(text):
    """Command lines of the machine's processes, but this one, that hold a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(text) in line and folder.name != str(os.getpid()):
            found.append(line)
    return found


def assert_none_left(text, seconds=10):
    """No process whose command line holds the text is there any more, or within some seconds."""
    deadline = time.time() + seconds
    while left := processes_of(text):
        assert time.time() < deadline, left
        time.sleep(0.1)


def tree(folder):
    """{relative path: bytes} of all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def assert_same_tree(a, b):
    a, b = tree(a), tree(b)
    assert sorted(a) == sorted(b)
    assert [name for name in a if a[name] != b[name]] == []


def shared(*parts):
    """A path in the shared folder; skips the test where it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(
            f"{path.name} is not there: set SHARED to the folder that holds {'/'.join(parts)}"
        )
    return path


def pytest_collection_modifyitems(items):
    """The longest files first, so that test processes side by side end at about the same time."""
    longest = (
        "test_demo.py",
        "test_recipes.py",
        "test_killed.py",
        "test_processes.py",
        "test_02_03_extractor.py",
        "test_05_train_clrnet.py",
        "test_01_extract_faces.py",
    )
    items.sort(
        key=lambda item: (
            longest.index(item.path.name) if item.path.name in longest else len(longest)
        )
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A folder with videos/, faces/{frames,clips,clips-FS} of the studio condition, faces/phone."""
    folder = tmp_path_factory.mktemp("small")
    run("00_make_demo_videos.py", "--out", folder / "videos", "--identities", 6, "--frames", 10)
    common = ("--layout", "ffpp", "--videos", folder / "videos" / "studio")
    run(
        "01_extract_faces.py",
        *common,
        "--method",
        "Deepfakes",
        "--num-frames",
        4,
        "--out",
        folder / "faces/frames",
    )
    run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        folder / "videos/phone",
        "--method",
        "Deepfakes",
        "--num-frames",
        4,
        "--out",
        folder / "faces/phone",
    )
    for name, method in (("clips", "Deepfakes"), ("clips-FS", "FaceSwap")):
        run(
            "01_extract_faces.py",
            *common,
            "--method",
            method,
            "--sampling",
            "clips",
            "--num-clips",
            2,
            "--size",
            48,
            "--out",
            folder / "faces" / name,
        )
    return folder


@pytest.fixture(scope="session")
def extractor(small):
    """model.pt of a small extractor, trained for one epoch."""
    run(
        "02_pretrain_extractor.py",
        "--faces",
        small / "faces/frames",
        "--out",
        small / "runs/extractor",
        "--epochs",
        1,
        *SMALL_EXTRACTOR,
    )
    return small / "runs/extractor/model.pt"


@pytest.fixture(scope="session")
def features(small, extractor):
    """Folder with the features of faces/frames and faces/phone."""
    run(
        "03_extract_features.py",
        "--checkpoint",
        extractor,
        "--faces",
        small / "faces/frames",
        small / "faces/phone",
        "--out",
        small / "features",
        "--scores",
        small / "scores/direct",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    )
    return small / "features"


@pytest.fixture
def copy(tmp_path):
    """copy(folder) -> a copy of it in this test's own folder."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / Path(folder).name))

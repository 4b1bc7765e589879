"""A stage that was killed or whose disk was full ends, run again, as if nothing had happened.

Checkpoints have equal tensors, all other files equal bytes, and no process is left running. The
quick tests kill 01 and 05 once, the slow ones each stage ten times, at random moments, by
SIGKILL, SIGTERM and Ctrl-C.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import (
    ROOT,
    SMALL_CLRNET,
    SMALL_EXTRACTOR,
    assert_none_left,
    assert_same_tree,
    changes_below,
    command,
    run,
    run_and_kill,
)

from running import folder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def stage_params(*rows, marks=()):
    """Parameters of which the first is a stage: one process runs all tests of a stage."""
    return [
        pytest.param(*row, id=row[0], marks=(pytest.mark.xdist_group(f"killed-{row[0]}"), *marks))
        for row in rows
    ]


# fmt: off
@pytest.fixture(scope="module")
def stages(small, extractor, features):
    """{stage: (script, arguments, the flags of its output folders)}"""
    frames, phone, clips = (small / "faces" / name for name in ("frames", "phone", "clips"))
    return {
        "00": (
            "00_make_demo_videos.py",
            ("--identities", 6, "--frames", 6, "--methods", "Deepfakes"),
            ("--out",),
        ),
        "01": (
            "01_extract_faces.py",
            ("--layout", "ffpp", "--videos", small / "videos/studio", "--num-frames", 5),
            ("--out",),
        ),
        "02": (
            "tests/often.py 02_pretrain_extractor.py",
            ("--faces", frames, "--epochs", 2, *SMALL_EXTRACTOR, "--workers", 1),
            ("--out",),
        ),
        "03": (
            "03_extract_features.py",
            ("--checkpoint", extractor, "--faces", frames, phone, "--batch", 2, "--device", "cpu"),
            ("--out", "--scores"),
        ),
        "04": (
            "04_train_bpdann.py",
            (
                "--source", features / "frames", "--target", features / "phone", "--epochs", 60,
                "--device", "cpu", "--batch", 4,
            ),
            ("--out", "--scores"),
        ),
        "05": (
            "tests/often.py 05_train_clrnet.py",
            (
                "--strategy", "single", "--source", clips, "--epochs", 4, *SMALL_CLRNET,
                "--workers", 1, "--test", small / "faces/clips-FS",
            ),
            ("--out", "--scores"),
        ),
        "06": ("06_evaluate.py", ("--scores", small / "scores"), ("--out",)),
    }
# fmt: on


def output_flags(folder, flags):
    """The flags of a stage's output folders with their values, below one folder."""
    return [value for flag in flags for value in (flag, folder / flag.strip("-"))]


@pytest.fixture(scope="module")
def whole(stages, tmp_path_factory):
    """whole(stage) -> (folder with the output of an undisturbed run, its seconds), made once."""
    done = {}

    def get(name):
        if name not in done:
            script, args, flags = stages[name]
            folder, start = tmp_path_factory.mktemp("whole"), time.time()
            run(script, *args, *output_flags(folder, flags), fresh=True)
            done[name] = folder, time.time() - start
        return done[name]

    return get


# How many of which files there are when the quick test kills a stage.
@pytest.mark.parametrize(
    "name, pattern, count",
    stage_params(("01", "out/*/faces.json", 5), ("05", "out/last.pt", 1))
    + stage_params(
        ("00", "out/**/*.mp4", 5),
        ("03", "out/*/.part-*", 1),
        ("06", "out/*.png", 1),
        marks=[pytest.mark.slow],
    ),
)
def test_killed_once(stages, whole, name, pattern, count, tmp_path):
    script, args, flags = stages[name]
    part = tmp_path / "part"
    outputs = output_flags(part, flags)
    run_and_kill(lambda: len(list(part.glob(pattern))) >= count, script, *args, *outputs)
    run(script, *args, *outputs)
    assert_same_tree(whole(name)[0], part)


@pytest.mark.parametrize(
    "name",
    stage_params(*((f"0{number}",) for number in range(7)), marks=[pytest.mark.slow]),
)
def test_killed_ten_times(stages, whole, name, tmp_path):
    script, args, flags = stages[name]
    part = tmp_path / "part"
    outputs = output_flags(part, flags)
    undisturbed, seconds = whole(name)
    rng, killed = random.Random(name), 0
    while killed < 10:
        kind = SIGNALS[killed % 3]
        process = subprocess.Popen(
            command(script, *args, *outputs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Most of a short run is the import of torch; what comes after it is where it matters.
        try:
            process.wait(seconds * rng.uniform(0.15, 0.9))
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
        _, errors = process.communicate(timeout=300)
        assert_none_left(part)
        if process.returncode == 0:
            # It ended before it was killed: from the start again, and killed earlier.
            seconds *= 0.8
            shutil.rmtree(part)
            continue
        killed += 1
        # Ctrl-C while torch is being imported is Python's own to report.
        assert process.returncode in (-kind, 130, 1), errors
        if process.returncode == 130:
            assert "interrupted: run the same command again" in errors, errors
            assert "Traceback" not in errors, errors
    run(script, *args, *outputs)
    assert_same_tree(undisturbed, part)


def test_ctrl_c_begins_no_other_video_and_says_how_to_resume(small, tmp_path):
    """Of the long list of videos that 01 has submitted, most were never begun.

    Ctrl-C goes to the whole group, as from a terminal, so to workers and ffmpeg too.
    """
    process = subprocess.Popen(
        command(
            *("01_extract_faces.py", "--layout", "ffpp", "--videos", small / "videos/studio"),
            *("--num-frames", 10, "--out", tmp_path / "f"),
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.glob("f/*/faces.json")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert len(errors.strip().splitlines()) == 1
    assert errors.startswith("interrupted: run the same command again")
    assert_none_left(tmp_path)
    assert len(list(tmp_path.glob("f/*/faces.json"))) < 30
    assert not (tmp_path / "f/index.csv").exists()


def test_ctrl_c_in_a_constructor_is_still_one_line():
    """What was half built when Ctrl-C came fails in __del__, as torch's loaders do."""
    code = """
from running.processes import run_script

class Half:
    def __init__(self):
        raise KeyboardInterrupt

    def __del__(self):
        self.workers

run_script(Half)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "interrupted: run the same command again to resume\n"


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kilobytes) -> a folder with room for no more, where one can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes):
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder],
            capture_output=True,
        ).returncode:
            pytest.skip("no file system of a given size can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], capture_output=True)


@pytest.mark.parametrize(
    "name, kilobytes",
    stage_params(("01", 600), ("03", 60), ("05", 700), ("06", 40))
    + stage_params(("00", 100), ("02", 60_000), ("04", 250), marks=[pytest.mark.slow]),
)
def test_a_full_disk_is_one_line_and_no_half_file(stages, whole, name, kilobytes, small_disk):
    """And when there is room again, the same command ends with the undisturbed result."""
    script, args, flags = stages[name]
    disk = small_disk(kilobytes)
    outputs = output_flags(disk, flags)
    output = run(script, *args, *outputs, fails=True)
    assert "cannot write" in output or "cannot make" in output, output
    assert "No space left" in output or "is the disk full?" in output, output
    assert_none_left(disk)
    left = list(disk.rglob(".part-*"))
    assert [path for path in left if path.is_dir()] == []
    # 03 resumes after the batches that it has finished.
    assert all(name == "03" and re.fullmatch(r"\.part-\d+\.npy", path.name) for path in left)
    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
    run(script, *args, *outputs)
    assert_same_tree(whole(name)[0], disk)


def test_a_checkpoint_that_the_disk_has_no_room_for(stages, tmp_path):
    """A limit on the size of a file, which every system has: the checkpoints of before stay."""
    script, args, _ = stages["05"]
    args = args[: args.index("--test")]
    run(script, *args, "--epochs", 1, "--out", tmp_path / "r")
    before = {name: (tmp_path / "r" / name).read_bytes() for name in ("model.pt", "last.pt")}
    limit = len(before["model.pt"]) // 2
    code = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    # The number of epochs differs, so it has to be told to go on. Without workers, because the
    # limit also holds for the shared memory in which they hand over a batch.
    args = (*args, "--workers", 0, "--epochs", 2, "--allow-changes")
    python, path, *flags = command(script, *args, "--out", tmp_path / "r")
    done = subprocess.run(
        [python, "-c", code, path, *flags],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=os.path.dirname(path),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "cannot write" in done.stderr, done.stderr
    assert {name: (tmp_path / "r" / name).read_bytes() for name in before} == before
    assert not list((tmp_path / "r").glob(".part-*"))


# ---------------------------------------------------------------- other flags, other processes


def test_a_flag_that_is_new_counts_as_one_that_was_not_given():
    """A folder stays usable when a later version has more flags; other values are refused."""
    before = dict(script="a", flags=dict(seed=0), inputs={})
    for value, found in ((None, []), (False, []), (4, ["x was not there, is 4"])):
        now = dict(script="a", flags=dict(seed=0, x=value), inputs={})
        assert folder.differences(before, now) == found


def test_other_flags_are_refused_unless_allowed(small, tmp_path):
    """The message names what differs; if allowed the run resumes, and args.json keeps both."""
    faces, out = small / "faces/frames", tmp_path / "r"
    args = ("--faces", faces, *SMALL_EXTRACTOR, "--workers", 0, "--out", out)
    run("02_pretrain_extractor.py", *args, "--epochs", 1)
    others = (*args, "--epochs", 2, "--lr", "1e-3")
    output = run("02_pretrain_extractor.py", *others, fails=True)
    assert "epochs was 1, is 2; lr was 0.002, is 0.001" in output and "--allow-changes" in output
    before = json.loads((out / "args.json").read_text())
    # The name that this flag had in release 2.0.
    output = run("02_pretrain_extractor.py", *others, "--go-on")
    assert "epochs was 1, is 2; lr was 0.002, is 0.001" in output
    after = json.loads((out / "args.json").read_text())
    assert after["flags"]["epochs"] == 2
    assert after["before"] == [{key: before[key] for key in ("flags", "inputs")}]
    # A header and two epochs.
    assert len((out / "log.csv").read_text().splitlines()) == 3
    # Now these are the run's own flags.
    run("02_pretrain_extractor.py", *others)
    assert json.loads((out / "args.json").read_text()) == after
    # It is finished, and its result was made with the flags before.
    changed = (*others, "--lr", "2e-3", "--allow-changes")
    assert "finished result" in run("02_pretrain_extractor.py", *changed, fails=True)
    assert json.loads((out / "args.json").read_text()) == after


@pytest.mark.parametrize("number", ["02", "03", "04", "05"])
def test_a_finished_result_is_refused_under_other_settings(
    small, extractor, features, copy, tmp_path, number
):
    """Another index or, in 04, another extractor: --allow-changes would keep the old result."""
    faces = copy(small / ("faces/clips" if number == "05" else "faces/frames"))
    data = copy(features)
    extractor_flags, clrnet_flags = (
        " ".join(map(str, flags)) for flags in (SMALL_EXTRACTOR, SMALL_CLRNET)
    )
    script, args = {
        "02": ("02_pretrain_extractor.py", f"--faces {faces} --epochs 1 {extractor_flags}"),
        "03": (
            "03_extract_features.py",
            f"--checkpoint {extractor} --faces {faces} --device cpu",
        ),
        "04": (
            "04_train_bpdann.py",
            f"--source {data}/frames --target {data}/phone --epochs 1 --device cpu --batch 4 "
            f"--scores {tmp_path}/scores",
        ),
        "05": (
            "05_train_clrnet.py",
            f"--strategy single --source {faces} --epochs 1 {clrnet_flags}",
        ),
    }[number]
    args = (*args.split(), "--out", tmp_path / "out")
    run(script, *args)
    before = changes_below(tmp_path / "out")
    file = faces / "index.csv"
    if number == "04":
        file = data / "phone/args.json"
        settings = json.loads(file.read_text())
        settings["inputs"][settings["flags"]["checkpoint"]] = "0" * 64
        file.write_text(json.dumps(settings))
        shutil.copyfile(file, data / "frames/args.json")
    else:
        header, first, *rows = file.read_text().splitlines(keepends=True)
        file.write_text("".join([header, *rows, first]))
    for flags in ((), ("--allow-changes",)):
        output = run(script, *args, *flags, fails=True)
        assert "the finished result of another run" in output and "has changed" in output
        assert changes_below(tmp_path / "out") == before


@pytest.mark.parametrize("fresh", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_processes_on_one_folder(small, tmp_path, fresh):
    """The second ends with an error, in a new folder and in a resumed one; the first goes on."""
    faces, out = small / "faces/frames", tmp_path / "r"
    args = ("--faces", faces, *SMALL_EXTRACTOR, "--epochs", 9999, "--workers", 0, "--out", out)

    def epochs():
        return len((out / "log.csv").read_text().splitlines()) if (out / "log.csv").exists() else 0

    for _ in range(1 if fresh else 2):
        before = epochs()
        first = subprocess.Popen(
            command("02_pretrain_extractor.py", *args),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while epochs() <= before:
            assert first.poll() is None
            time.sleep(0.05)
        if not fresh and not before:
            first.kill()
            first.wait()
    output = run("02_pretrain_extractor.py", *args, fails=True)
    assert "another process is using" in output and first.poll() is None
    first.kill()
    first.wait()

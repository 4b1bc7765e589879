"""A stage that was killed or whose disk was full ends, run again, as if nothing had happened.

Checkpoints have equal tensors, all other files equal bytes, and no process is left running. The
quick tests kill 01 and 05 once, the slow ones each stage three times, at random moments, by
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
    call,
    changes_below,
    command,
    run,
    run_and_kill,
)

from running import folder

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
QUIET = dict(stdout=subprocess.DEVNULL, text=True)


def stage_params(*rows, marks=()):
    """Parameters of which the first is a stage: one process runs all tests of a stage."""
    return [
        pytest.param(*row, id=row[0], marks=(pytest.mark.xdist_group(f"killed-{row[0]}"), *marks))
        for row in rows
    ]


@pytest.fixture(scope="module")
def stages(small, extractor, features):
    """{stage: its command, the names of its output folders}"""
    faces = small / "faces"
    lines = {
        "00": "00_make_demo_videos.py --identities 6 --frames 6 --methods Deepfakes",
        "01": f"01_extract_faces.py --layout ffpp --videos {small}/videos/studio --num-frames 5",
        "02": f"tests/often.py 02_pretrain_extractor.py --faces {faces}/frames --epochs 2 "
        f"{SMALL_EXTRACTOR} --workers 1",
        "03": f"03_extract_features.py --checkpoint {extractor} --faces {faces}/frames "
        f"{faces}/phone --batch 2 --device cpu",
        "04": f"04_train_bpdann.py --source {features}/frames --target {features}/phone "
        "--epochs 60 --device cpu --batch 4",
        "05": f"tests/often.py 05_train_clrnet.py --strategy single --source {faces}/clips "
        f"--epochs 4 {SMALL_CLRNET} --workers 1 --test {faces}/clips-FS",
        "06": f"06_evaluate.py --scores {small}/scores",
    }
    scored = ("03", "04", "05")
    return {k: (line, ("out", "scores")[: 1 + (k in scored)]) for k, line in lines.items()}


def into(folder, stage):
    """The words of a stage's command with its output folders below one folder."""
    line, outputs = stage
    script, flags = line.split(" --", 1)
    flags = [f"--{flags}", *(f"--{name} {folder / name}" for name in outputs)]
    return script, *" ".join(flags).split()


@pytest.fixture(scope="module")
def whole(stages, tmp_path_factory):
    """whole(stage) -> (folder with the output of an undisturbed run, its seconds), made once."""
    done = {}

    def get(name):
        if name not in done:
            folder, start = tmp_path_factory.mktemp("whole"), time.time()
            run(*into(folder, stages[name]), fresh=True)
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
    part = tmp_path / "part"
    line = into(part, stages[name])
    run_and_kill(lambda: len(list(part.glob(pattern))) >= count, *line)
    run(*line)
    assert_same_tree(whole(name)[0], part)


@pytest.mark.parametrize(
    "name", stage_params(*((f"0{number}",) for number in range(7)), marks=[pytest.mark.slow])
)
def test_killed_at_random(stages, whole, name, tmp_path):
    """Once by each of three signals."""
    part = tmp_path / "part"
    line = into(part, stages[name])
    undisturbed, seconds = whole(name)
    rng, left = random.Random(name), list(SIGNALS)
    while left:
        kind = left[-1]
        process = subprocess.Popen(command(*line), stderr=subprocess.PIPE, **QUIET)
        # Most of a short run is the import of torch; what comes after it is where it matters.
        try:
            process.wait(seconds * rng.uniform(0.4, 0.9))
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
        _, errors = process.communicate(timeout=300)
        assert_none_left(part)
        if process.returncode == 0:
            # It ended before it was killed: from the start again, and killed earlier.
            seconds *= 0.8
            shutil.rmtree(part)
            continue
        left.pop()
        # Ctrl-C while torch is being imported is Python's own to report.
        assert process.returncode in (-kind, 130, 1), errors
        if process.returncode == 130:
            assert "interrupted: run the same command again" in errors, errors
            assert "Traceback" not in errors, errors
    run(*line)
    assert_same_tree(undisturbed, part)


def test_ctrl_c_begins_no_other_video_and_says_how_to_resume(small, tmp_path):
    """Of the long list of videos that 01 has submitted, most were never begun.

    Ctrl-C goes to the whole group, as from a terminal, so to workers and ffmpeg too.
    """
    line = f"01_extract_faces.py --layout ffpp --videos {small}/videos/studio --num-frames 10"
    words = command(f"{line} --out {tmp_path / 'f'}")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True, **QUIET)
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
        mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs".split()
        if subprocess.run([*mount, folder], capture_output=True).returncode:
            pytest.skip("no file system of a given size can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", "-l", folder], capture_output=True)


@pytest.mark.parametrize(
    "name, kilobytes",
    stage_params(("01", 600), ("05", 700))
    + stage_params(
        ("00", 100), ("02", 60_000), ("03", 60), ("04", 250), ("06", 40), marks=[pytest.mark.slow]
    ),
)
def test_a_full_disk_is_one_line_and_no_half_file(stages, whole, name, kilobytes, small_disk):
    """And when there is room again, the same command ends with the undisturbed result."""
    disk = small_disk(kilobytes)
    line = into(disk, stages[name])
    output = run(*line, fails=True)
    assert "cannot write" in output or "cannot make" in output, output
    assert "No space left" in output or "is the disk full?" in output, output
    assert_none_left(disk)
    left = list(disk.rglob(".part-*"))
    assert [path for path in left if path.is_dir()] == []
    # 03 resumes after the batches that it has finished.
    assert all(name == "03" and re.fullmatch(r"\.part-\d+\.npy", path.name) for path in left)
    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
    run(*line)
    assert_same_tree(whole(name)[0], disk)


def test_a_checkpoint_that_the_disk_has_no_room_for(stages, tmp_path):
    """A limit on the size of a file, which every system has: the checkpoints of before stay."""
    line = f"{stages['05'][0].split(' --test')[0]} --out {tmp_path / 'r'}"
    run(f"{line} --epochs 1")
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
    python, *words = command(f"{line} --workers 0 --epochs 2 --allow-changes")
    words = [python, "-c", code, *words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=ROOT / "tests")
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
    out = tmp_path / "r"
    line = f"02_pretrain_extractor.py --faces {small / 'faces/frames'} {SMALL_EXTRACTOR}"
    line += f" --workers 0 --out {out}"
    call(f"{line} --epochs 1")
    others = f"{line} --epochs 2 --lr 1e-3"
    output = call(others, fails=True)
    assert "epochs was 1, is 2; lr was 0.002, is 0.001" in output and "--allow-changes" in output
    before = json.loads((out / "args.json").read_text())
    # The name that this flag had in release 2.0.
    assert "epochs was 1, is 2; lr was 0.002, is 0.001" in call(f"{others} --go-on")
    after = json.loads((out / "args.json").read_text())
    assert after["flags"]["epochs"] == 2
    assert after["before"] == [{key: before[key] for key in ("flags", "inputs")}]
    # A header and two epochs.
    assert len((out / "log.csv").read_text().splitlines()) == 3
    # Now these are the run's own flags.
    call(others)
    assert json.loads((out / "args.json").read_text()) == after
    # It is finished, and its result was made with the flags before.
    assert "finished result" in call(f"{others} --lr 2e-3 --allow-changes", fails=True)
    assert json.loads((out / "args.json").read_text()) == after


@pytest.mark.parametrize("number", ["02", "03", "04", "05"])
def test_a_finished_result_is_refused_under_other_settings(
    small, extractor, features, copy, tmp_path, number
):
    """Another index or, in 04, another extractor: --allow-changes would keep the old result."""
    faces = copy(small / ("faces/clips" if number == "05" else "faces/frames"))
    data = copy(features)
    line = {
        "02": f"02_pretrain_extractor.py --faces {faces} --epochs 1 {SMALL_EXTRACTOR}",
        "03": f"03_extract_features.py --checkpoint {extractor} --faces {faces} --device cpu",
        "04": f"04_train_bpdann.py --source {data}/frames --target {data}/phone --epochs 1 "
        f"--device cpu --batch 4 --scores {tmp_path}/scores",
        "05": f"05_train_clrnet.py --strategy single --source {faces} --epochs 1 {SMALL_CLRNET}",
    }[number]
    line += f" --out {tmp_path / 'out'}" + ("" if number == "04" else " --workers 0")
    call(line)
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
    for flags in ("", "--allow-changes"):
        output = call(f"{line} {flags}", fails=True)
        assert "the finished result of another run" in output and "has changed" in output
        assert changes_below(tmp_path / "out") == before


def test_two_processes_on_one_folder(small, tmp_path):
    """The second ends with an error; the first continues."""
    out = tmp_path / "r"
    line = f"02_pretrain_extractor.py --faces {small / 'faces/frames'} {SMALL_EXTRACTOR}"
    line += f" --epochs 9999 --workers 0 --out {out}"
    first = subprocess.Popen(command(line), stderr=subprocess.DEVNULL, **QUIET)
    while not (out / "log.csv").exists():
        assert first.poll() is None
        time.sleep(0.05)
    output = run(line, fails=True)
    assert "another process is using" in output and first.poll() is None
    first.kill()
    first.wait()

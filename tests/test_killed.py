"""Every stage, killed ten times at random moments by SIGKILL, SIGTERM or Ctrl-C and run again, ends with the files of an undisturbed run, bit for
bit; so does one whose disk was full. Nothing is left at work."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import SMALL_CLRNET, SMALL_EXTRACTOR, assert_none_left, assert_same_tree, command, run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def stages(small, extractor, features):
    """{stage: (script, arguments, the flags of its output folders)}"""
    clips = small / "faces/clips"
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
            "02_pretrain_extractor.py",
            (
                "--faces",
                small / "faces/frames",
                "--epochs",
                2,
                *SMALL_EXTRACTOR,
                "--save-every",
                1,
                "--workers",
                1,
            ),
            ("--out",),
        ),
        "03": (
            "03_extract_features.py",
            (
                "--checkpoint",
                extractor,
                "--faces",
                small / "faces/frames",
                small / "faces/phone",
                "--batch",
                2,
                "--device",
                "cpu",
            ),
            ("--out", "--scores"),
        ),
        "04": (
            "04_train_bpdann.py",
            (
                "--source",
                features / "frames",
                "--target",
                features / "phone",
                "--epochs",
                60,
                "--device",
                "cpu",
                "--batch",
                4,
            ),
            ("--out", "--scores"),
        ),
        "05": (
            "05_train_clrnet.py",
            (
                "--strategy",
                "single",
                "--source",
                clips,
                "--epochs",
                4,
                *SMALL_CLRNET,
                "--save-every",
                1,
                "--workers",
                1,
                "--test",
                small / "faces/clips-FS",
            ),
            ("--out", "--scores"),
        ),
        "06": ("06_evaluate.py", ("--scores", small / "scores"), ("--out",)),
    }


@pytest.fixture(scope="module")
def whole(stages, tmp_path_factory):
    """whole(stage) -> (folder with the output of an undisturbed run, the seconds that it took); each stage runs once."""
    done = {}

    def get(name):
        if name not in done:
            script, args, outs = stages[name]
            folder, start = tmp_path_factory.mktemp("whole"), time.time()
            run(
                script,
                *args,
                *(v for flag in outs for v in (flag, folder / flag.strip("-"))),
                fresh=True,
            )
            done[name] = folder, time.time() - start
        return done[name]

    return get


@pytest.mark.parametrize(
    "name",
    [
        "00",
        "01",
        "06",
        *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("02", "03", "04", "05")),
    ],
)
def test_killed_ten_times(stages, whole, name, tmp_path):
    script, args, outs = stages[name]
    part = [v for flag in outs for v in (flag, tmp_path / "part" / flag.strip("-"))]
    undisturbed, seconds = whole(name)
    rng, died, runs = random.Random(name), 0, 0
    while died < 10:
        kind, runs = SIGNALS[died % 3], runs + 1
        assert runs < 40, "it ends before it can be killed"
        process, start = (
            subprocess.Popen(
                command(script, *args, *part),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ),
            time.time(),
        )
        # Most of a short run is the import of torch; what comes after it is where it matters.
        try:
            process.wait(seconds * rng.uniform(0.15, 0.9))
        except subprocess.TimeoutExpired:
            process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
        assert_none_left(tmp_path / "part")
        if process.returncode == 0:  # it was done: from the start again, with the time of now
            seconds = min(seconds, time.time() - start)
            shutil.rmtree(tmp_path / "part")
            continue
        died += 1
        # Ctrl-C while torch is being imported is Python's own to report.
        assert process.returncode in (-kind, 130, 1), errors
        if process.returncode == 130:
            assert (
                "interrupted: run the same command again" in errors and "Traceback" not in errors
            ), errors
    run(script, *args, *part)
    assert_same_tree(undisturbed, tmp_path / "part")


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(small, tmp_path):
    """01 has a long list of work submitted: none of it is begun after Ctrl-C. To a whole group, as a terminal sends it, workers and ffmpeg included."""
    process = subprocess.Popen(
        command(
            "01_extract_faces.py",
            "--layout",
            "ffpp",
            "--videos",
            small / "videos/studio",
            "--num-frames",
            10,
            "--out",
            tmp_path / "f",
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
    start = time.time()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and time.time() - start < 5
    assert errors.strip() == "interrupted: run the same command again to go on"
    assert_none_left(tmp_path)
    assert (
        len(list(tmp_path.glob("f/*/faces.json"))) < 30 and not (tmp_path / "f/index.csv").exists()
    )


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kilobytes) -> a folder that holds no more, where the system lets us mount one."""
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
    [("00", 100), ("01", 600), ("02", 60_000), ("03", 60), ("04", 250), ("05", 700), ("06", 40)],
)
def test_a_full_disk_is_one_line_and_no_half_file(stages, whole, name, kilobytes, small_disk):
    """And when there is room again, the same command goes on to the undisturbed result."""
    script, args, outs = stages[name]
    disk = small_disk(kilobytes)
    part = [v for flag in outs for v in (flag, disk / flag.strip("-"))]
    output = run(script, *args, *part, fails=True)
    assert "cannot write" in output or "cannot make" in output, output
    assert "No space left" in output or "is the disk full?" in output, output
    assert_none_left(disk)
    left = [path for path in disk.rglob(".part-*")]
    assert not [path for path in left if path.is_dir()] and all(
        path.name in (".part-features.npy", ".part-logits.npy", ".part-done.npy") for path in left
    ), left
    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
    run(script, *args, *part)
    assert_same_tree(whole(name)[0], disk)


def test_a_checkpoint_that_the_disk_has_no_room_for(stages, tmp_path):
    """A limit on the size of a file, which every system has: the save of last.pt fails, model.pt of before stays."""
    script, args, _ = stages["05"]
    run(script, *args[: args.index("--test")], "--epochs", 1, "--out", tmp_path / "r")
    good = (tmp_path / "r/model.pt").read_bytes()
    shutil.copytree(tmp_path / "r", tmp_path / "before")
    limit = len(good) // 2
    code = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    # The flags differ in the number of epochs alone, so it has to be told to go on.
    line = [
        *command(
            script, *args[: args.index("--test")], "--epochs", 2, "--go-on", "--out", tmp_path / "r"
        )
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *line[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=os.path.dirname(line[1]),
    )
    assert (
        done.returncode == 1 and "Traceback" not in done.stderr and "cannot write" in done.stderr
    ), done.stderr
    assert (tmp_path / "r/last.pt").read_bytes() == (tmp_path / "before/last.pt").read_bytes()
    assert (tmp_path / "r/model.pt").read_bytes() == good and not list(
        (tmp_path / "r").glob(".part-*")
    )


# ---------------------------------------------------------------- other flags, other processes


def test_other_flags_stop_unless_told_to_go_on(small, tmp_path):
    """The message names what differs; with --go-on the run takes up what is there, and args.json keeps both."""
    import json

    args = (
        "--faces",
        small / "faces/frames",
        *SMALL_EXTRACTOR,
        "--workers",
        0,
        "--out",
        tmp_path / "r",
    )
    run("02_pretrain_extractor.py", *args, "--epochs", 1)
    output = run("02_pretrain_extractor.py", *args, "--epochs", 2, "--lr", "1e-3", fails=True)
    assert "epochs was 1, is 2; lr was 0.002, is 0.001" in output and "--go-on" in output
    before = json.loads((tmp_path / "r/args.json").read_text())
    assert "going on in" in run(
        "02_pretrain_extractor.py", *args, "--epochs", 2, "--lr", "1e-3", "--go-on"
    )
    after = json.loads((tmp_path / "r/args.json").read_text())
    assert after["flags"]["epochs"] == 2 and after["before"] == [
        {k: before[k] for k in ("flags", "inputs")}
    ]
    assert len((tmp_path / "r/log.csv").read_text().splitlines()) == 3  # a header and two epochs
    run("02_pretrain_extractor.py", *args, "--epochs", 2, "--lr", "1e-3")  # now these are its flags
    assert json.loads((tmp_path / "r/args.json").read_text()) == after


@pytest.mark.parametrize("fresh", [True, False])
def test_two_processes_on_one_folder(small, tmp_path, fresh):
    """The second says so and ends, in a new folder and in one that is gone on with; the first is not disturbed."""
    args = (
        "--faces",
        small / "faces/frames",
        *SMALL_EXTRACTOR,
        "--epochs",
        300,
        "--workers",
        0,
        "--out",
        tmp_path / "r",
    )
    first = None
    for _ in range(1 if fresh else 2):
        if first:
            first.kill()
            first.wait()
        lines = len((tmp_path / "r/log.csv").read_text().splitlines()) if first else 0
        first = subprocess.Popen(
            command("02_pretrain_extractor.py", *args),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while (
            not (tmp_path / "r/log.csv").exists()
            or len((tmp_path / "r/log.csv").read_text().splitlines()) <= lines
        ):
            assert first.poll() is None
            time.sleep(0.05)
    output = run("02_pretrain_extractor.py", *args, fails=True)
    assert "another process is at work in" in output and first.poll() is None
    first.kill()
    first.wait()

"""Several processes on one machine without a GPU, started by torchrun.

They make the same files and have the same gradients as one process, only one of them writes, and
all end when one dies.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL_CLRNET, SMALL_EXTRACTOR, assert_none_left, assert_same_tree, run

import common

pytestmark = pytest.mark.slow
CPU_FP32 = ("--device", "cpu", "--precision", "fp32")


def torchrun(script, *args, number=2):
    """The command line that runs a script in `number` processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*command, f"--nproc-per-node={number}", str(ROOT / script), *map(str, args)]


def start(command, **pipes):
    """Start a command with one thread per process."""
    return subprocess.Popen(command, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)


def run_many(script, *args, number=2, fails=False):
    """Run a script in `number` processes; returns what it wrote to standard output and error."""
    pipe = subprocess.PIPE
    process = start(torchrun(script, *args, number=number), stdout=pipe, stderr=pipe)
    output, errors = process.communicate(timeout=600)
    assert (process.returncode != 0) == fails, output + errors
    return output, errors


def log_of(run_folder):
    with open(run_folder / "log.csv") as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


def test_gradients_are_those_of_the_joint_batch():
    """In float64 to rounding; in float32 within its rounding, some 1e-6 of the largest gradient.

    Which is about what float32 in one process differs from float64.
    """
    output, _ = run_many("tests/joint_gradients.py")
    result = json.loads(output.strip().splitlines()[-1])
    assert set(result) == {"Extractor", "CLRNet", "MesoInception4"}
    for name, found in result.items():
        assert found["off"]["float64"] < 1e-11, name
        assert found["statistics"]["float64"] < 1e-12 and found["odd"]["float64"] < 1e-12, name
        assert found["off"]["float32"] < 4 * found["own"], name
        assert found["off"]["float32"] < 2e-5 * found["largest"], name
        assert found["statistics"]["float32"] < 1e-6, name
        # There is something to compare.
        assert found["largest"] > 0.1, name


def test_faces_and_features_are_the_same_files(small, extractor, features, tmp_path):
    # fmt: off
    output, _ = run_many(
        "01_extract_faces.py", "--layout", "ffpp", "--videos", small / "videos/studio",
        "--method", "Deepfakes", "--num-frames", 4, "--workers", 1, "--out", tmp_path / "frames",
    )
    # fmt: on
    assert output.count("done: ") == 1 and "12 videos = 12 with faces" in output
    assert_same_tree(small / "faces/frames", tmp_path / "frames")
    # The number of images is no multiple of this batch.
    args = ("--checkpoint", extractor, "--faces", small / "faces/frames", "--batch", 7)
    args = (*args, *CPU_FP32, "--workers", 1)
    run("03_extract_features.py", *args, "--out", tmp_path / "one", "--scores", tmp_path / "s1")
    output, _ = run_many(
        "03_extract_features.py", *args, "--out", tmp_path / "two", "--scores", tmp_path / "s2"
    )
    assert output.count("48 images") == 1
    assert_same_tree(tmp_path / "one", tmp_path / "two")
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    # No row is empty.
    assert np.load(tmp_path / "two/frames/features.npy").any(1).all()


def extractor_args(faces, epochs, workers=0):
    """The flags of a training of stage 02."""
    flags = (*SMALL_EXTRACTOR, "--precision", "fp32", "--workers", workers)
    return ("--faces", faces, "--epochs", epochs, *flags)


def test_the_extractor_is_trained_as_by_one(small, tmp_path):
    """The first steps' loss, and the scores of a validation set that two do not divide."""
    args = (*extractor_args(small / "faces/frames", 2, workers=1), "--lr", "1e-4")
    run("02_pretrain_extractor.py", *args, "--out", tmp_path / "one")
    output, errors = run_many("02_pretrain_extractor.py", *args, "--out", tmp_path / "two")
    assert output.count("epoch 1: ") == 1
    assert "2 processes, 4 samples per step each" in output
    assert "Warning" not in errors
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(two) == 2 and np.allclose(one, two, atol=2e-3)
    a, b = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    assert list(a) == list(b)
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=2e-3) for k in a)


def test_a_killed_run_is_resumed_by_as_many_and_by_fewer(small, tmp_path):
    args = ("02_pretrain_extractor.py", *extractor_args(small / "faces/frames", 3))
    run_many(*args, "--out", tmp_path / "whole")
    for number in (2, 1):
        out = tmp_path / f"part{number}"
        process = start(
            torchrun("tests/often.py", *args, "--out", out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (out / "last.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        # torchrun: the processes that it has started end with it.
        process.kill()
        process.wait()
        assert_none_left(out)
        run_many(*args, "--out", out, number=number)
        if number == 2:
            assert_same_tree(tmp_path / "whole", out)
        else:
            assert len(log_of(out)) == 3
            assert np.allclose(log_of(tmp_path / "whole"), log_of(out), atol=0.05)


def test_clrnet_is_trained_and_scored_by_two(small, tmp_path):
    """Dropout differs, so losses of a few clips differ by 0.2 or more, and their mean is near.

    The scores of given weights are equal, each sample's once, also if three share eight.
    """
    clips = small / "faces/clips"
    args = ("--strategy", "single", "--source", clips, "--epochs", 16, *SMALL_CLRNET)
    # A batch of which two and three processes can take equal shares.
    args = (*args, "--batch", 6, "--precision", "fp32", "--workers", 0)

    def tests(number):
        folders = (tmp_path / f"s{number}", tmp_path / f"f{number}")
        return (
            *("--out", tmp_path / "one", "--test", small / "faces/clips-FS"),
            *("--scores", folders[0], "--save-features", folders[1]),
        )

    run("05_train_clrnet.py", *args, *tests(1))
    output, _ = run_many("05_train_clrnet.py", *args, "--out", tmp_path / "two")
    assert output.count("epoch 16: ") == 1
    losses = [np.mean([row[2] for row in log_of(tmp_path / name)]) for name in ("one", "two")]
    assert np.allclose(*losses, rtol=0, atol=0.15)
    # The training of `one` is finished, so this only scores.
    run_many("05_train_clrnet.py", *args, *tests(3), number=3)
    rows = [list(csv.DictReader(open(tmp_path / s / "clips-FS.csv"))) for s in ("s1", "s3")]
    assert len(rows[0]) == len(rows[1]) == 8
    assert [row["video"] for row in rows[0]] == [row["video"] for row in rows[1]]
    scores = [[float(row["score"]) for row in part] for part in rows]
    assert np.allclose(*scores, atol=1e-5)
    stored = [np.load(tmp_path / f / "clips-FS/features.npy") for f in ("f1", "f3")]
    assert np.allclose(*stored, atol=1e-5)


def test_a_process_that_ends_ends_the_run_with_its_reason(small, copy, tmp_path):
    """An image that only rank 1 reads cannot be read; and a process is killed."""
    faces = copy(small / "faces/frames")
    index = common.read_index(faces)
    train = common.rows_of_split(index, "train", faces)
    # The second sample of the first batch.
    victim = train[np.random.default_rng((0, 0)).permutation(len(train))[1]]
    path = faces / index["path"][victim]
    path.write_bytes(path.read_bytes()[:60])
    args = extractor_args(faces, 9999)
    _, errors = run_many("02_pretrain_extractor.py", *args, "--out", tmp_path / "r", fails=True)
    assert f"{path.name} cannot be read" in errors and "(process 1 of 2)" in errors

    args = extractor_args(small / "faces/frames", 9999)
    process = start(
        torchrun("02_pretrain_extractor.py", *args, "--out", tmp_path / "k"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "k/last.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (rank_1,) = (child for child in children_of(process.pid) if b"\0RANK=1\0" in environment(child))
    os.kill(rank_1, signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    assert process.returncode != 0 and "SIGKILL" in errors


def children_of(parent):
    """The numbers of a process's children."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"PPid:\t{parent}\n" in status.read_text():
                yield int(status.parent.name)
        except OSError:
            continue


def environment(process):
    """A process's environment variables as bytes, each ended by a zero byte."""
    return b"\0" + Path(f"/proc/{process}/environ").read_bytes()


def test_two_agents_meet_as_on_two_machines(small, tmp_path):
    """Two torchrun agents, one process each, that meet at an address as two machines would."""
    args = extractor_args(small / "faces/frames", 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = [str(ROOT / "02_pretrain_extractor.py"), *map(str, args), "--out", tmp_path / "r"]
    agents = []
    for rank in range(2):
        # fmt: off
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
            "--nproc-per-node", "1", "--node-rank", str(rank),
            "--master-addr", "127.0.0.1", "--master-port", str(port),
        ]
        # fmt: on
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        agents.append(start([*command, *script], **pipes))
    outputs = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert "epoch 1: " in outputs[0] and "epoch 1: " not in outputs[1]
    assert len(log_of(tmp_path / "r")) == 1


def test_a_batch_that_processes_cannot_share_equally_is_refused(small, tmp_path):
    args = (*extractor_args(small / "faces/frames", 1), "--batch", 7, "--out", tmp_path / "r")
    _, errors = run_many("02_pretrain_extractor.py", *args, fails=True)
    assert "--batch 7 is not divisible by 2 processes" in errors
    assert not (tmp_path / "r/model.pt").exists()

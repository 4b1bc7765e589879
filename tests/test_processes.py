"""Several processes, started by torchrun on one machine without a GPU: the same files, the same gradients, one writer, and an end when one dies."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL_CLRNET, SMALL_EXTRACTOR, assert_none_left, assert_same_tree, run

from training import loading

pytestmark = pytest.mark.slow
FP32 = ("--precision", "fp32")


def torchrun(script, *args, number=2):
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(number),
        str(ROOT / script),
        *map(str, args),
    ]


def run_many(script, *args, number=2, fails=False):
    """Run a script by `number` processes to its end; returns standard output and standard error."""
    done = subprocess.run(
        torchrun(script, *args, number=number),
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout, done.stderr


def log_of(run_folder):
    with open(run_folder / "log.csv") as file:
        return [[float(v) for v in row.values()] for row in csv.DictReader(file)]


def test_gradients_are_those_of_the_joint_batch():
    """In float64 to rounding. In float32 the two differ by no more than float32 itself is off, which is some 1e-6 of the largest gradient."""
    output, _ = run_many("tests/joint_gradients.py")
    result = json.loads(output.strip().splitlines()[-1])
    assert set(result) == {"Extractor", "CLRNet", "MesoInception4"}
    for name, found in result.items():
        assert found["off"]["float64"] < 1e-11 and found["statistics"]["float64"] < 1e-12, name
        assert (
            found["off"]["float32"] < 2 * found["own"] and found["statistics"]["float32"] < 1e-6
        ), name
        assert found["largest"] > 0.1, name  # there is something to compare


def test_faces_and_features_are_the_same_files(small, extractor, features, tmp_path):
    output, _ = run_many(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/studio",
        "--method",
        "Deepfakes",
        "--num-frames",
        4,
        "--workers",
        1,
        "--out",
        tmp_path / "frames",
    )
    assert output.count("done: ") == 1 and "12 videos = 12 with faces" in output
    assert_same_tree(small / "faces/frames", tmp_path / "frames")
    # Batches of another size than a multiple of the number of images; the small extractor's folder was made with the default size.
    args = (
        "--checkpoint",
        extractor,
        "--faces",
        small / "faces/frames",
        "--batch",
        7,
        "--device",
        "cpu",
        *FP32,
        "--workers",
        1,
    )
    run("03_extract_features.py", *args, "--out", tmp_path / "one", "--scores", tmp_path / "s1")
    output, _ = run_many(
        "03_extract_features.py", *args, "--out", tmp_path / "two", "--scores", tmp_path / "s2"
    )
    assert output.count("48 images") == 1
    assert_same_tree(tmp_path / "one", tmp_path / "two")
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    assert np.load(tmp_path / "two/frames/features.npy").any(1).all()  # no row is empty


def test_the_extractor_is_trained_as_by_one(small, tmp_path):
    """The first steps' loss, the scores of a validation set that two do not divide, and a resumed run by one process."""
    args = (
        "--faces",
        small / "faces/frames",
        "--epochs",
        2,
        *SMALL_EXTRACTOR,
        *FP32,
        "--workers",
        1,
        "--lr",
        "1e-4",
    )
    run("02_pretrain_extractor.py", *args, "--out", tmp_path / "one")
    output, errors = run_many("02_pretrain_extractor.py", *args, "--out", tmp_path / "two")
    assert (
        output.count("epoch 1: ") == 1
        and "2 processes, 4 images a step each" in output
        and "Warning" not in errors
    )
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(two) == 2 and np.allclose(one, two, atol=2e-3)
    a, b = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=2e-3) for k in a) and list(
        a
    ) == list(b)


def test_a_killed_run_goes_on_with_as_many_and_with_other_numbers(small, tmp_path):
    args = (
        "--faces",
        small / "faces/frames",
        "--epochs",
        3,
        *SMALL_EXTRACTOR,
        *FP32,
        "--workers",
        0,
        "--save-every",
        1,
    )
    run_many("02_pretrain_extractor.py", *args, "--out", tmp_path / "whole")
    for number in (2, 1):
        out = tmp_path / f"part{number}"
        process = subprocess.Popen(
            torchrun("02_pretrain_extractor.py", *args, "--out", out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (out / "last.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()  # torchrun: what it started ends with it
        process.wait()
        assert_none_left(out)
        run_many("02_pretrain_extractor.py", *args, "--out", out, number=number)
        if number == 2:
            assert_same_tree(tmp_path / "whole", out)  # bit for bit
        else:
            assert (
                np.allclose(log_of(tmp_path / "whole"), log_of(out), atol=0.05)
                and len(log_of(out)) == 3
            )


def test_clrnet_is_trained_and_scored_by_two(small, tmp_path):
    """Dropout differs, so losses are near and not equal; scores of given weights are equal, each sample's once, in an odd number too."""
    args = (
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--epochs",
        2,
        *SMALL_CLRNET,
        *FP32,
        "--workers",
        0,
    )
    run(
        "05_train_clrnet.py",
        *args,
        "--out",
        tmp_path / "one",
        "--test",
        small / "faces/clips-FS",
        "--scores",
        tmp_path / "s1",
        "--save-features",
        tmp_path / "f1",
    )
    output, _ = run_many("05_train_clrnet.py", *args, "--out", tmp_path / "two")
    assert output.count("epoch 2: ") == 1
    assert np.allclose(
        [row[2] for row in log_of(tmp_path / "one")],
        [row[2] for row in log_of(tmp_path / "two")],
        atol=0.2,
    )
    run_many(
        "05_train_clrnet.py",
        *args,
        "--out",
        tmp_path / "one",
        "--test",
        small / "faces/clips-FS",
        "--scores",
        tmp_path / "s3",
        "--save-features",
        tmp_path / "f3",
        number=3,
    )
    rows = [list(csv.DictReader(open(tmp_path / s / "clips-FS.csv"))) for s in ("s1", "s3")]
    assert len(rows[0]) == len(rows[1]) == 8 and [r["video"] for r in rows[0]] == [
        r["video"] for r in rows[1]
    ]
    assert np.allclose(*([float(r["score"]) for r in part] for part in rows), atol=1e-5)
    assert np.allclose(
        *(np.load(tmp_path / f / "clips-FS/features.npy") for f in ("f1", "f3")), atol=1e-5
    )


def test_a_process_that_ends_ends_the_run_with_its_reason(small, copy, tmp_path):
    """An image that only the second process reads cannot be read; and a process that is killed."""
    import common

    faces = copy(small / "faces/frames")
    index = common.read_index(faces)
    train = common.rows_of_split(index, "train", faces)
    victim = train[
        loading.epoch_batches(len(train), 8, 0, 0)[0][1]
    ]  # the second of the first batch
    path = faces / index["path"][victim]
    path.write_bytes(path.read_bytes()[:60])
    args = ("--epochs", 300, *SMALL_EXTRACTOR, "--workers", 0)
    _, errors = run_many(
        "02_pretrain_extractor.py", "--faces", faces, *args, "--out", tmp_path / "r", fails=True
    )
    assert f"{path.name} cannot be read" in errors and "(process 1 of 2)" in errors
    process = subprocess.Popen(
        torchrun(
            "02_pretrain_extractor.py",
            "--faces",
            small / "faces/frames",
            *args,
            "--out",
            tmp_path / "k",
        ),
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "k/last.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    children = [
        int(p.parent.name)
        for p in Path("/proc").glob("[0-9]*/environ")
        if _of(p, process.pid) and b"RANK=1\0" in p.read_bytes()
    ]
    os.kill(children[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "SIGKILL" in errors


def _of(environ, parent):
    try:
        return f"PPid:\t{parent}\n" in (environ.parent / "status").read_text()
    except OSError:
        return False


def test_two_agents_meet_as_on_two_machines(small, tmp_path):
    """Two torchrun agents with a process each, that meet at an address, as two machines would."""
    args = (
        "--faces",
        small / "faces/frames",
        "--epochs",
        1,
        *SMALL_EXTRACTOR,
        *FP32,
        "--workers",
        0,
    )
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agents = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nnodes",
                "2",
                "--nproc-per-node",
                "1",
                "--node-rank",
                str(k),
                "--master-addr",
                "127.0.0.1",
                "--master-port",
                str(port),
                str(ROOT / "02_pretrain_extractor.py"),
                *map(str, args),
                "--out",
                str(tmp_path / "r"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for k in range(2)
    ]
    outputs = [agent.communicate(timeout=200)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert (
        "epoch 1: " in outputs[0]
        and "epoch 1: " not in outputs[1]
        and len(log_of(tmp_path / "r")) == 1
    )


def test_a_batch_smaller_than_the_number_of_processes_is_refused(small, tmp_path):
    _, errors = run_many(
        "02_pretrain_extractor.py",
        "--faces",
        small / "faces/frames",
        *SMALL_EXTRACTOR[:-4],
        "--batch",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "r",
        fails=True,
    )
    assert "give each an image" in errors

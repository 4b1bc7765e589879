"""Several processes on one machine without a GPU, started by torchrun.

They make the same files and have the same gradients as one process, only one of them writes, and
all end when one dies. Trainings run through joint.py, which has a batch norm for CPUs.
"""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (
    SMALL_CLRNET,
    SMALL_EXTRACTOR,
    assert_none_left,
    assert_same_tree,
    command,
    rows_of,
    run,
)

import common

pytestmark = pytest.mark.slow
PIPES = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
EXTRACTOR = f"02_pretrain_extractor.py {SMALL_EXTRACTOR} --precision fp32 --workers 0"


def start(line, torchrun="--standalone --nproc-per-node=2", **pipes):
    """Start a command with torchrun, in two processes of one thread each."""
    python, *script = command(line)
    words = [python, "-m", "torch.distributed.run", *torchrun.split(), *script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, text=True, env=environment, **(pipes or PIPES))


def run_many(line, number=2, fails=False):
    """Run a command in `number` processes; returns what it wrote to standard output and error."""
    process = start(line, f"--standalone --nproc-per-node={number}")
    output, errors = process.communicate(timeout=600)
    assert (process.returncode != 0) == fails, output + errors
    return output, errors


def wait_for(file, process):
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.01)


def log_of(run_folder):
    return [[float(value) for value in row.values()] for row in rows_of(run_folder / "log.csv")]


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
    output, _ = run_many(
        f"01_extract_faces.py --layout ffpp --videos {small / 'videos/studio'} --method Deepfakes "
        f"--num-frames 4 --workers 1 --out {tmp_path / 'frames'}"
    )
    assert output.count("done: ") == 1 and "12 videos = 12 with faces" in output
    assert_same_tree(small / "faces/frames", tmp_path / "frames")
    # The number of images is no multiple of this batch.
    line = f"03_extract_features.py --checkpoint {extractor} --faces {small / 'faces/frames'} "
    line += "--batch 7 --device cpu --precision fp32 --workers 1"
    run(f"{line} --out {tmp_path / 'one'} --scores {tmp_path / 's1'}")
    output, _ = run_many(f"{line} --out {tmp_path / 'two'} --scores {tmp_path / 's2'}")
    assert output.count("48 images") == 1
    assert_same_tree(tmp_path / "one", tmp_path / "two")
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    # No row is empty.
    assert np.load(tmp_path / "two/frames/features.npy").any(1).all()


def test_the_extractor_is_trained_as_by_one(small, tmp_path):
    """The first steps' loss, and the scores of a validation set that two do not divide."""
    line = f"{EXTRACTOR} --workers 1 --faces {small / 'faces/frames'} --epochs 2 --lr 1e-4"
    run(f"{line} --out {tmp_path / 'one'}")
    output, errors = run_many(f"tests/joint.py {line} --out {tmp_path / 'two'}")
    assert output.count("epoch 1: ") == 1
    assert "2 processes, 4 samples per step each" in output
    assert "Warning" not in errors
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(two) == 2 and np.allclose(one, two, atol=2e-3)
    files = (tmp_path / name / "last.pt" for name in ("one", "two"))
    a, b = (torch.load(file, weights_only=True)["model"] for file in files)
    assert list(a) == list(b)
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=2e-3) for k in a)


def test_a_killed_run_is_resumed_by_as_many_and_by_fewer(small, tmp_path):
    line = f"{EXTRACTOR} --faces {small / 'faces/frames'} --epochs 3"
    run_many(f"tests/joint.py {line} --out {tmp_path / 'whole'}")
    for number in (2, 1):
        out = tmp_path / f"part{number}"
        process = start(
            f"tests/joint.py tests/often.py {line} --out {out}", stderr=subprocess.DEVNULL
        )
        wait_for(out / "last.pt", process)
        # torchrun: the processes that it has started end with it.
        process.kill()
        process.wait()
        assert_none_left(out)
        run_many(f"tests/joint.py {line} --out {out}", number)
    assert_same_tree(tmp_path / "whole", tmp_path / "part2")
    whole, by_one = log_of(tmp_path / "whole"), log_of(tmp_path / "part1")
    assert len(by_one) == 3 and np.allclose(whole, by_one, atol=0.05)


def test_clrnet_is_trained_and_scored_by_two(small, tmp_path):
    """Dropout differs, so losses of a few clips differ by 0.2 or more, and their mean is near.

    The scores of given weights are equal, each sample's once, also if three share eight. Frozen
    layers stay as they are, batch norm's statistics too.
    """
    clips, other = small / "faces/clips", small / "faces/clips-FS"
    # A batch of which two and three processes can take equal shares.
    flags = f"{SMALL_CLRNET} --batch 6 --precision fp32 --workers 0"
    line = f"05_train_clrnet.py --strategy single --source {clips} --epochs 16 {flags}"

    def outputs(number):
        features = f"--scores {tmp_path / f's{number}'} --save-features {tmp_path / f'f{number}'}"
        return f"--out {tmp_path / 'one'} --test {other} {features}"

    run(f"{line} {outputs(1)}")
    output, _ = run_many(f"tests/joint.py {line} --out {tmp_path / 'two'}")
    assert output.count("epoch 16: ") == 1
    losses = [np.mean([row[2] for row in log_of(tmp_path / name)]) for name in ("one", "two")]
    assert np.allclose(*losses, rtol=0, atol=0.15)
    # The training of `one` is finished, so this only scores.
    run_many(f"tests/joint.py {line} {outputs(3)}", 3)
    one, three = (rows_of(tmp_path / s / "clips-FS.csv") for s in ("s1", "s3"))
    assert len(one) == 8 and [row["video"] for row in one] == [row["video"] for row in three]
    assert np.allclose(*([float(row["score"]) for row in rows] for rows in (one, three)), atol=1e-5)
    stored = [np.load(tmp_path / f / "clips-FS/features.npy") for f in ("f1", "f3")]
    assert np.allclose(*stored, atol=1e-5)

    run_many(
        f"tests/joint.py 05_train_clrnet.py --strategy transfer --target {other} --few-shot 1 "
        f"--checkpoint {tmp_path / 'one/model.pt'} --epochs 1 --batch 2 --device cpu "
        f"--workers 0 --out {tmp_path / 'transfer'}"
    )
    files = (tmp_path / name / "model.pt" for name in ("one", "transfer"))
    before, after = (torch.load(file, weights_only=True)["model"] for file in files)
    equal = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("norm_stem.")} <= equal
    assert "norm_head.running_mean" not in equal


def test_a_process_that_ends_ends_the_run_with_its_reason(small, copy, tmp_path):
    """An image that only rank 1 reads cannot be read; and a process is killed."""
    faces = copy(small / "faces/frames")
    index = common.read_index(faces)
    train = common.rows_of_split(index, "train", faces)
    # The second sample of the first batch.
    victim = train[np.random.default_rng((0, 0)).permutation(len(train))[1]]
    path = faces / index["path"][victim]
    path.write_bytes(path.read_bytes()[:60])
    line = f"tests/joint.py {EXTRACTOR} --epochs 9999"
    _, errors = run_many(f"{line} --faces {faces} --out {tmp_path / 'r'}", fails=True)
    assert f"{path.name} cannot be read" in errors and "(process 1 of 2)" in errors

    process = start(f"{line} --faces {small / 'faces/frames'} --out {tmp_path / 'k'}")
    wait_for(tmp_path / "k/last.pt", process)
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = f"tests/joint.py {EXTRACTOR} --faces {small / 'faces/frames'} --epochs 1"
    torchrun = f"--nnodes 2 --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port}"
    agents = [
        start(f"{line} --out {tmp_path / 'r'}", f"{torchrun} --node-rank {rank}") for rank in (0, 1)
    ]
    outputs = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert "epoch 1: " in outputs[0] and "epoch 1: " not in outputs[1]
    assert len(log_of(tmp_path / "r")) == 1


@pytest.mark.parametrize(
    "flags, says",
    [("--batch 7", "--batch 7 is not divisible by 2 processes"),
     ("", "2 processes cannot train a network with batch norm on a CPU")],
)  # fmt: skip
def test_what_several_processes_cannot_do_is_one_line_each(small, tmp_path, flags, says):
    line = f"{EXTRACTOR} --faces {small / 'faces/frames'} --epochs 1 --out {tmp_path / 'r'} {flags}"
    _, errors = run_many(line, fails=True)
    assert re.search(f"^02_pretrain_extractor.py: error: {says}", errors, re.M)
    assert not (tmp_path / "r/model.pt").exists()

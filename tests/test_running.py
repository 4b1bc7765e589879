"""How a run goes on, reads its data and ends: resuming, loading processes, locks, errors."""

import errno
import math
import multiprocessing
import os
import signal
import time
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from running import folder, loading, processes
from running.run import Run, load_checkpoint, seed_of

CPU = torch.device("cpu")


class Numbers:
    """A data set of numbers, in which `spoil` runs in the process that loads them."""

    def __init__(self, count=10, spoil=lambda: None):
        self.count, self.spoil = count, spoil

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        self.spoil()
        return torch.tensor(k).repeat(4096)


@pytest.fixture
def ends():
    """The test fails where it would wait forever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits forever"))
    signal.alarm(60)
    yield
    signal.alarm(0)


def make_run(out, samples=10, model=None, optimizer=None, **flags):
    args = SimpleNamespace(**dict(epochs=2, batch=2, seed=3) | flags)
    model = model or nn.Linear(1, 1)
    optimizer = optimizer or torch.optim.Adam(model.parameters())
    return Run(out, "02", args, model, optimizer, samples, {}, "best")


@pytest.mark.parametrize("value", [0.9, math.nan])
def test_the_best_epoch_is_not_replaced_by_the_last(tmp_path, value):
    """model.pt was deleted: last.pt holds the last epoch, which without validation is the same."""
    run = make_run(tmp_path)
    for epoch in run.epochs():
        for _ in steps_of(run):
            run.record(torch.tensor(0.5))
        run.end_epoch(val_auc=value - epoch / 2)
    run.finish()
    (tmp_path / "model.pt").unlink()
    if math.isnan(value):
        make_run(tmp_path).finish()
        assert (tmp_path / "model.pt").exists()
        return
    with pytest.raises(SystemExit, match="model.pt, the best epoch, is missing"):
        make_run(tmp_path)


# ---------------------------------------------------------------- resuming inside an epoch


def steps_of(run, samples=10, order=None):
    """The steps of an epoch whose labels are 10 and more, with 5 draws a sample."""
    order = np.arange(samples).reshape(-1, run.size) if order is None else order
    return run.batches(Numbers(samples), 10 + torch.arange(samples), order, CPU, 0, draws=5)


@pytest.mark.parametrize("batch, samples", [(5, 10), (1, 10), (2, 6)])
def test_an_epoch_of_other_batches_starts_over(tmp_path, capsys, batch, samples):
    """Stopped after 4 of 5 steps, with another batch or fewer images each is seen once."""
    first = make_run(tmp_path)
    first.batch = first.step = 4
    first.sums = [2.0]
    first.save_last()
    assert make_run(tmp_path).batch == 4 and "starts over" not in capsys.readouterr().out
    run = make_run(tmp_path, samples, batch=batch)
    assert "inside epoch 1 with another --batch or other images" in capsys.readouterr().out
    seen = []
    for numbers, *_ in steps_of(run, samples):
        seen += numbers[:, 0].tolist()
        run.record(torch.tensor(0.5))
    assert sorted(seen) == list(range(samples)) and run.sums == [0.5 * samples / batch]
    run.end_epoch(val_auc=0.5)
    assert (run.epoch, run.step) == (1, 4 + samples // batch)


def test_weights_that_the_last_step_spoiled_are_not_kept(tmp_path):
    """A step with a finite loss can leave weights that are not."""
    model = nn.Linear(1, 1)
    run = make_run(tmp_path, model=model)
    with pytest.raises(SystemExit, match=r"weight is not finite after step 5 \(epoch 1, batch 5"):
        for _ in steps_of(run):
            run.record(torch.tensor(0.5))
            if run.batch == 5:
                model.weight.data.fill_(torch.nan)
        run.end_epoch(val_auc=0.5)
    assert list(tmp_path.iterdir()) == []


def test_labels_and_draws_are_those_of_each_step(tmp_path):
    """Sent once an epoch, they belong to the step's samples, also after resuming inside one."""
    run = make_run(tmp_path)
    run.epoch, run.batch, run.step = 1, 2, 7
    found = []
    order = np.random.default_rng(0).permutation(10).reshape(5, 2)
    for samples, labels, draws in steps_of(run, order=order):
        generator = torch.Generator().manual_seed(seed_of(3, run.step))
        assert torch.equal(draws, torch.rand(2, 5, generator=generator))
        assert torch.equal(labels, 10 + samples[:, 0])
        found += samples[:, 0].tolist()
        run.record(torch.tensor(0.5))
    assert found == order[2:].flatten().tolist()


def test_last_pt_is_saved_every_ten_minutes(tmp_path, monkeypatch):
    """A step takes 350 seconds here. The last step of an epoch leaves the saving to its end."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = make_run(tmp_path)
    steps, save = [], lambda name, **_: name == "last.pt" and steps.append(run.step)
    monkeypatch.setattr(run, "save", save)
    for _ in steps_of(run):
        now[0] += 350
        run.record(torch.tensor(0.5))
        if run.step == 5:
            now[0] += 700
    assert steps == [2, 4]
    run.end_epoch(val_auc=math.nan)
    assert steps == [2, 4, 5]


def test_saving_takes_a_twentieth_of_the_time_of_short_epochs(tmp_path, monkeypatch):
    """Saving takes 10 seconds here, an epoch 60: the first is saved, every fourth, and the last."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = make_run(tmp_path, epochs=10)
    saved = []

    def save(name, **_):
        if name == "last.pt":
            saved.append(run.epoch)
            now[0] += 10

    monkeypatch.setattr(run, "save", save)
    while not run.finished:
        for _ in range(run.per_epoch):
            run.record(torch.tensor(0.5))
        now[0] += 60
        run.end_epoch(val_auc=math.nan)
    assert saved == [1, 5, 9, 10]


def test_a_fused_adam_resumes_an_unfused_one(tmp_path):
    """Its `step` has to be where the weights are, and its state in their order in memory."""
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=False, foreach=False)
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    run = make_run(tmp_path, model=model, optimizer=optimizer)
    run.save_last()
    expected = optimizer.state[model.weight]["exp_avg_sq"].clone()

    other = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    fused = torch.optim.Adam(other.parameters(), lr=0.2, fused=True)
    make_run(tmp_path, model=other, optimizer=fused)
    state = fused.state[other.weight]
    assert fused.param_groups[0]["fused"] and fused.param_groups[0]["lr"] == 0.2
    assert torch.equal(other.weight, model.weight) and torch.equal(state["exp_avg_sq"], expected)
    assert state["exp_avg_sq"].stride() == state["exp_avg"].stride() == other.weight.stride()
    # The same step as the unfused one takes.
    optimizer.param_groups[0]["lr"] = 0.2
    for network, adam in ((model, optimizer), (other, fused)):
        adam.zero_grad()
        network(torch.ones(2, 3, 8, 8)).square().sum().backward()
        adam.step()
    assert torch.allclose(model.weight, other.weight, atol=1e-6)

    on_gpu_ = nn.Conv2d(3, 4, 3, device="meta")
    fused = torch.optim.Adam(on_gpu_.parameters())
    fused.param_groups[0]["fused"] = True  # the constructor does not know "meta"
    content = load_checkpoint(tmp_path / "last.pt", "02")
    run = make_run(tmp_path / "none", model=on_gpu_, optimizer=fused)
    run.last = tmp_path / "last.pt"
    run.write_log = lambda: None
    run.resume()
    assert content["optimizer"]["state"][0]["step"].device == CPU
    assert fused.state[on_gpu_.weight]["step"].device.type == "meta"


# ---------------------------------------------------------------- loading


def test_too_little_shared_memory_is_one_line(ends):
    """As with the 64 MB of /dev/shm that Docker gives by default."""
    resource = pytest.importorskip("resource")
    limit = (1000, resource.RLIM_INFINITY)
    data = Numbers(spoil=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    with pytest.raises(SystemExit, match="too little shared memory .* --workers 0.*--shm-size"):
        list(loading.load_batches(data, [[0, 1], [2, 3]], 1))


def test_a_bus_error_of_a_loading_process_is_one_line(ends):
    data = Numbers(spoil=lambda: os.kill(os.getpid(), signal.SIGBUS))
    with pytest.raises(SystemExit, match="died .*memory.*--workers"):
        list(loading.load_batches(data, [[0, 1], [2, 3]], 1))


def test_loading_processes_are_forks(ends):
    """Python 3.14 has another default, with which each epoch begins with seconds of imports."""
    multiprocessing.set_start_method("spawn", force=True)
    try:
        # What is local to a function exists in forks alone.
        batches = loading.load_batches(Numbers(spoil=lambda: None), [[0, 1]], 1)
        assert [batch[:, 0].tolist() for batch in batches] == [[0, 1]]
    finally:
        multiprocessing.set_start_method(None, force=True)


def test_a_damaged_png_is_an_error_of_the_file(tmp_path):
    """Pillow raises a SyntaxError where a chunk's name is not one."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"IDAT")
    size = int.from_bytes(content[start - 4 : start], "big")
    half, rest = content[start + 4 : start + 4 + size // 2], content[start + 4 + size // 2 :]
    crc = zlib.crc32(b"IDAT" + half).to_bytes(4, "big")
    chunk = len(half).to_bytes(4, "big") + b"IDAT" + half + crc
    (tmp_path / "a.png").write_bytes(content[: start - 4] + chunk + b"\0\0\1\0\0\1\2\3" + rest)
    with pytest.raises(SyntaxError), Image.open(tmp_path / "a.png") as image:
        image.load()
    with pytest.raises(OSError, match="broken PNG"):
        loading.load_face(tmp_path / "a.png", 64)


# ---------------------------------------------------------------- locks and errors


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch, capsys, number):
    fcntl = pytest.importorskip("fcntl")

    def no_lock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", no_lock)
    folder.lock(tmp_path / "args.json").close()
    assert f"has no locks ({os.strerror(number)})" in capsys.readouterr().out
    number = errno.EAGAIN
    with pytest.raises(SystemExit, match="another process is using"):
        folder.lock(tmp_path / "args.json")


@pytest.mark.parametrize(
    "error, says",
    [
        ("NCCL error in: x.cpp:1, unhandled system error, NCCL version 2.27\nncclSystemError: "
         "System call failed.\nLast error:\nError while creating shared memory segment",
         "ncclSystemError: System call failed. Last error: Error while creating shared memory"),
        ("NCCL error in: x.cpp:1, remote process exited or there was a network error\n"
         "ncclRemoteError: A call failed", "another process of this run has ended"),
        ("Connection closed by peer [10.0.0.1]:1", "another process of this run has ended"),
    ],
)  # fmt: skip
def test_an_error_of_nccl_is_told_from_the_end_of_a_process(monkeypatch, error, says):
    def main():
        raise RuntimeError(error)

    monkeypatch.setattr(processes, "WORLD_SIZE", 2)
    monkeypatch.setattr(processes, "end_with", lambda parent: None)
    with pytest.raises(SystemExit) as end:
        processes.run_script(main)
    assert says in end.value.code and "\n" not in end.value.code


def test_the_processor_is_named():
    """With the instructions that rounding depends on, from the names that Linux gives them."""
    text = processes.describe_processor()
    assert text and "\n" not in text
    if os.path.exists("/proc/cpuinfo"):
        flags = open("/proc/cpuinfo").read().split()
        assert ("avx512f" in text.split(", ")) == ("avx512f" in flags)

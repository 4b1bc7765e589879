"""Stage 01 over 200 videos with 4 workers: memory does not grow, and no process is left behind.

Open files are counted in test_numbers.py.
"""

import contextlib
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import assert_none_left, command


def workers_of(parent):
    """{process number: resident memory in MB} of the worker processes of a process."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # the process has ended
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            is_worker = b"spawn_main" in (status.parent / "cmdline").read_bytes()
            if int(lines["PPid"]) == parent and is_worker:
                found[int(lines["Pid"])] = int(lines["VmRSS"].split()[0]) / 1024
    return found


@pytest.mark.slow
def test_nothing_grows(small, tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc, which this system does not have")
    videos = sorted((small / "videos").rglob("*.mp4"))
    for k in range(200):
        (tmp_path / "v/real").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(videos[k % len(videos)], tmp_path / f"v/real/{k:03d}.mp4")
    line = f"01_extract_faces.py --layout folders --videos {tmp_path / 'v'} --num-frames 10"
    words = command(f"{line} --workers 4 --out {tmp_path / 'f'}")
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(words, **pipes)
    seen = []  # (videos done, {worker: memory})
    while process.poll() is None:
        done = len(list(tmp_path.glob("f/*/faces.json")))
        seen.append((done, workers_of(process.pid)))
        time.sleep(0.02)
    output, errors = process.communicate()
    assert process.returncode == 0 and "200 videos = " in output and not errors, output + errors
    early, late = (
        [workers for done, workers in seen if low <= done <= high and len(workers) == 4]
        for low, high in ((40, 80), (160, 199))
    )
    assert len(early) >= 5 and len(late) >= 5
    assert set(early[0]) == set(late[-1])  # the same four processes throughout
    for worker in early[0]:
        # A leak would raise the minimum; the memory of pipes and frames comes and goes.
        memory = [min(w[worker] for w in part if worker in w) for part in (early, late)]
        assert memory[1] < 1.1 * memory[0], f"MB: {memory}"
    assert_none_left(tmp_path)

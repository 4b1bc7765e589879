"""demo.sh in a copy of the project, at its smallest.

That each stage learns is asked by the tests `test_training_learns` of 02, 04 and 05.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, forked_python, rows_of


def copy_project(folder):
    """Copy what demo.sh needs into a folder."""
    for path in ROOT.iterdir():
        if path.suffix in (".py", ".sh", ".txt"):
            shutil.copy(path, folder)
        elif (path / "__init__.py").exists() or path.name == "recipes":
            shutil.copytree(path, folder / path.name)


def demo(folder, **variables):
    """Run demo.sh to its end; returns what it printed."""
    done = subprocess.run(
        ["./demo.sh"],
        cwd=folder,
        capture_output=True,
        text=True,
        # One worker process: other tests have the other cores.
        env={**os.environ, "PYTHON": sys.executable, "LOKY_MAX_CPU_COUNT": "1", **variables},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """(folder, output) of the demo at its smallest."""
    folder = tmp_path_factory.mktemp("demo")
    copy_project(folder)
    # An environment in which everything is installed, and a Python that need not import it.
    forked_python(folder / ".venv/bin/python")
    requirements = (folder / "requirements.txt").read_text()
    (folder / ".venv/.installed-requirements.txt").write_text(2 * requirements)
    return folder, demo(folder, SMALL="1")


def test_the_smallest_demo(smallest):
    """Commands, rows, tables, report and verdicts are as they should be."""
    folder, output = smallest
    for number in range(8):
        assert f"\n+ python 0{number}_" in output, "each command is printed before it runs"
    rows = {
        (row["detector"], row["set"], row["level"]): row
        for row in rows_of(folder / "demo/results/results.csv")
    }
    frames, clips = {"phone-FaceSwap"}, {"studio-Deepfakes-clips", "studio-FaceSwap-clips"}
    tested = {
        "extractor": frames | {"studio-Deepfakes"},
        "FT-source-only": frames,
        "FT-bp-dann": frames,
        "CLRNet-single": clips,
        "CLRNet-merge": clips,
    }
    assert set(rows) == {
        (detector, name, level)
        for detector, names in tested.items()
        for name in names
        for level in ("image", "video")
    }
    assert "FT-source-only" in output.split("AUC / EER")[1]
    assert "demo/results/tables.md" in output

    assert "DEMONSTRATION" in (folder / "demo/results/report.html").read_text()
    verdicts = output.split("+ python 07_")[1]
    assert verdicts.count("[DEMONSTRATION") == 2
    assert (folder / "demo/verdicts/004_005.verdict.png").exists()
    # The two answers are computed from the scores that are in the table.
    for name, first, second in (
        ("phone-FaceSwap", "FT-bp-dann", "FT-source-only"),
        ("studio-FaceSwap-clips", "CLRNet-merge", "CLRNet-single"),
    ):
        aucs = [100 * float(rows[detector, name, "image"]["auc"]) for detector in (first, second)]
        said = re.search(
            rf"^{name}: AUC (.*) % with {first}, (.*) % with {second}\.$", output, re.M
        )
        assert [float(value) for value in said.groups()] == pytest.approx(aucs, abs=0.051)
        assert re.search(r"The difference is .* points, 95 % interval", output[said.end() :])


@pytest.mark.slow
def test_a_second_run_makes_nothing_again(smallest):
    """It draws, extracts and trains nothing, and ends with the same numbers."""
    folder, output = smallest
    # 04 scores and draws its embedding again, as a run of it may name other test sets.
    before = {
        path: path.stat().st_mtime_ns
        for part in ("videos", "faces", "features", "runs")
        for path in (folder / "demo" / part).rglob("*")
        if path.suffix in (".mp4", ".png", ".npy", ".pt")
        and path.stem not in ("model", "embedding")
    }
    assert {path.suffix for path in before} == {".mp4", ".png", ".npy", ".pt"}
    again = demo(folder, SMALL="1")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.split("AUC / EER")[1] == output.split("AUC / EER")[1]

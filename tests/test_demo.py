"""demo.sh as it stands, in a copy of the project: ends with success, learns within the domain, and goes on where it was."""

import csv
import os
import shutil
import subprocess
import sys
import time

from conftest import ROOT


def test_demo(tmp_path):
    for path in ROOT.iterdir():
        if path.suffix in (".py", ".sh", ".txt"):
            shutil.copy(path, tmp_path)
        elif (path / "__init__.py").exists():
            shutil.copytree(path, tmp_path / path.name)
    if (ROOT / ".venv").exists():
        (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    done = subprocess.run(
        ["./demo.sh"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for number in range(8):
        assert f"\n+ python 0{number}_" in done.stdout, "each command is printed before it runs"

    rows = {
        (r["detector"], r["set"], r["level"]): r
        for r in csv.DictReader(open(tmp_path / "demo/results/results.csv"))
    }
    assert len(rows) == 2 * (3 * 2 + 3 * 3)
    # Within the domain both methods are clearly above chance: the whole 95 % interval is.
    for detector, name in (
        ("extractor", "studio-Deepfakes"),
        ("FT-source-only", "studio-Deepfakes"),
        ("FT-bp-dann", "studio-Deepfakes"),
        ("CLRNet-single", "studio-Deepfakes-clips"),
    ):
        row = rows[detector, name, "image"]
        assert float(row["auc"]) > 0.75 and float(row["auc_low"]) > 0.55, row
    assert ("FT-source-only", "phone-Deepfakes", "image") in rows and (
        "FT-bp-dann",
        "phone-Deepfakes",
        "image",
    ) in rows
    assert (
        "FT-source-only" in done.stdout.split("AUC / EER")[1]
        and "demo/results/tables.md" in done.stdout
    )

    assert (tmp_path / "demo/results/report.html").exists() and "DEMONSTRATION" in (
        tmp_path / "demo/results/report.html"
    ).read_text()
    verdicts = done.stdout.split("+ python 07_")[1]
    assert (
        verdicts.count("[DEMONSTRATION") == 2 and (tmp_path / "demo/verdicts/032_033.png").exists()
    )

    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "demo").rglob("*.[mp]*")
        if path.suffix in (".mp4", ".png") and not {"results", "verdicts"} & set(path.parts)
    }
    start = time.perf_counter()
    again = subprocess.run(["./demo.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    print(f"second run: {time.perf_counter() - start:.0f} s")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert again.stdout.split("AUC / EER")[1] == done.stdout.split("AUC / EER")[1]

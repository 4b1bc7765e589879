"""The programs of the experiments: differences paired by seed, the two moons, CLRNet's start."""

import csv
import re

import numpy as np
import pytest
from conftest import call, rows_of


@pytest.fixture
def results(tmp_path):
    """A results.csv of three detectors on one data set, in the columns that paired.py reads."""
    rows = [("direct", "X", "image", 0.7)]
    rows += [(f"old@{seed}", "X", "image", value) for seed, value in ((9, 0.5), (10, 0.6))]
    rows += [(f"new@{seed}", "X", "image", value) for seed, value in ((10, 0.9), (9, 0.6))]
    rows += [("old@9", "Y", "image", 0.5)]
    path = tmp_path / "results.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("detector", "set", "level", "auc"), *rows])
    return path


def test_differences_are_paired_by_seed(results):
    """Differences of 10 and 30 points: mean 20, and t(0.975, 1) = 12.706 times 14.142 / sqrt 2."""
    output = call(f"recipes/paired.py {results} direct old new")
    means, each = output.split("\n\n")[1:]
    assert "| test | direct | old | new | new - direct | new - old |" in means
    cells = means.splitlines()[-1].strip("| ").split(" | ")
    assert cells[:4] == ["X, image", "70.0", "55.0 ± 63.5", "75.0 ± 190.6"]
    assert cells[4:] == ["+5.0 ± 190.6, above 0 in 1 of 2", "+20.0 ± 127.1, above 0 in 2 of 2"]
    assert "| X, image | new | 60.0 90.0 |" in each, "in the order of the seeds"
    assert "Y" not in output, "where a detector has no score"


def test_the_mean_of_several_data_sets_is_paired_by_seed(results):
    """Of X (old 50 60, new 60 90) and Z (old 70 60, new 60 70)."""
    with open(results, "a") as file:
        file.write("old@9,Z,image,.7\nold@10,Z,image,.6\nnew@9,Z,image,.6\nnew@10,Z,image,.7\n")
    output = call(f"recipes/paired.py {results} old new --mean X Z")
    assert "| mean of X Z, image | old | 60.0 60.0 |" in output
    assert "| mean of X Z, image | new | 60.0 80.0 |" in output
    message = call(f"recipes/paired.py {results} old new --mean W X", fails=True)
    assert "has no W at image level" in message


def test_trainings_that_cannot_be_paired(results):
    with open(results, "a") as file:
        file.write("new@11,X,image,0.5\n")
    message = call(f"recipes/paired.py {results} old new", fails=True)
    assert "the trainings of old, new on X image have different seeds" in message
    message = call(f"recipes/paired.py {results} none new", fails=True)
    assert "no data set on which all of none new were tested" in message


def test_the_moons_are_features_that_04_adapts_to(tmp_path):
    for name in ("a", "b"):
        call(f"recipes/make_moons.py --seed 3 --out {tmp_path / name}")
    files = [np.load(tmp_path / name / "target/features.npy") for name in ("a", "b")]
    assert np.array_equal(*files)
    assert {r["split"] for r in rows_of(tmp_path / "a/source/index.csv")} == {"train", "val"}
    line = f"04_train_bpdann.py --source {tmp_path / 'a/source'} --target {tmp_path / 'a/target'}"
    output = call(f"{line} --epochs 20 --lr 1e-3 --out {tmp_path / 'r'} --scores {tmp_path / 's'}")
    # Turned by 35 degrees, the source's boundary is still far from chance, and far from right.
    auc = float(re.search("target.csv: 300 images, AUC ([0-9.]+)", output)[1])
    assert 55 < auc < 95


def test_clrnet_start_measures_what_a_line_changes(small):
    output = call(f"recipes/clrnet_start.py --faces {small}/faces/clips --steps 2 --seeds 0")
    start, after = output.split("\n\n")[:2]
    spread = {row.split(" | ")[0][2:]: float(row.split(" | ")[1]) for row in
              start.splitlines() if re.match(r"\| [a-z].* \| [0-9]", row)}  # fmt: skip
    # Batch norm of the pooled features gives them a standard deviation of 1 (of 16 or fewer).
    assert spread["batch norm of pooled features"] == pytest.approx(1, abs=0.1)
    assert spread["the first line"] < 0.5
    assert len(after.splitlines()) == 12 and "of 1 |" in after

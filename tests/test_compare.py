"""recipes/compare.py: the difference of two detectors, whichever way it falls."""

import numpy as np
import pytest
from conftest import call

import common


@pytest.fixture
def write(tmp_path):
    """A function that writes a score file of 20 videos x 4 images; returns its path."""

    def write(detector, logits, videos=20):
        rows = np.arange(4 * videos)
        frame, label = (rows % 4).tolist(), (rows // 4 % 2).tolist()
        index = dict(video=[f"v{row // 4}" for row in rows], frame=frame, label=label)
        path = tmp_path / detector / "set.csv"
        common.write_scores(path, index, rows, logits)
        return path

    return write


def compare(*files, fails=False):
    return call(" ".join(["recipes/compare.py", *map(str, files)]), fails)


def test_better_worse_and_neither(write):
    labels = np.arange(80) // 4 % 2
    noise = np.random.default_rng(0).normal(size=80)
    perfect, chance = write("perfect", 2.0 * labels - 1), write("chance", noise)
    output = compare(perfect, chance)
    assert "AUC 100.0 % with perfect" in output and output.endswith("perfect is better.\n")
    assert compare(chance, perfect).endswith("chance is worse.\n")
    output = compare(chance, chance)
    assert "+0.0 points, 95 % interval +0.0 to +0.0 over 20 videos" in output
    assert output.endswith("these videos cannot tell which is better.\n")


def test_files_that_cannot_be_compared(write):
    one, other = write("one", np.zeros(80)), write("other", np.zeros(40), videos=10)
    assert "do not have the same videos" in compare(one, other, fails=True)

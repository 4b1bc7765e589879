"""Stage 04: equation 4, the reversal layer, equation 1, and that no target label reaches the training."""
import csv
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import assert_same_tree, run, run_and_kill, stage

bpdann = stage("04_train_bpdann")
SHORT = ("--epochs", 4, "--batch", 4, "--device", "cpu")


def test_lambda():
    assert bpdann.lambda_at(0) == 0
    assert round(bpdann.lambda_at(1), 4) == 0.9999
    assert bpdann.lambda_at(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    values = [bpdann.lambda_at(p) for p in np.linspace(0, 1, 50)]
    assert values == sorted(values)


def test_lambda_of_a_run_goes_from_0_to_1(features, tmp_path):
    run("04_train_bpdann.py", "--source", features / "frames", "--target", features / "phone", *SHORT,
        "--out", tmp_path / "r", "--scores", tmp_path / "s")
    log = list(csv.DictReader(open(tmp_path / "r/phone/log.csv")))
    steps = int(log[-1]["step"])
    assert float(log[-1]["lambda"]) == pytest.approx(0.9999, abs=1e-4)
    assert float(log[0]["lambda"]) == pytest.approx(bpdann.lambda_at((int(log[0]["step"]) - 1) / (steps - 1)), abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_reversal_gradient_is_minus_lambda_times_the_plain_one(weight):
    torch.manual_seed(0)
    model, x, d = bpdann.BPDANN(6, 5, 4), torch.randn(8, 6), torch.arange(8) % 2
    plain = torch.autograd.grad(torch.nn.functional.cross_entropy(model.d(model.f(x)), d), list(model.f.parameters()))
    reversed_ = torch.autograd.grad(torch.nn.functional.cross_entropy(model.d(bpdann.GradientReversal.apply(model.f(x), weight)), d),
                                    list(model.f.parameters()))
    for a, b in zip(plain, reversed_):
        assert torch.allclose(b, -weight * a, atol=1e-7)
        assert a.abs().sum() > 0


def test_the_network_of_section_3_5():
    model = bpdann.BPDANN()
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(512, 2048), (64, 512), (2, 64), (64, 64), (2, 64)]
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]


def test_no_target_label_reaches_the_training(features, copy, tmp_path):
    """Training with the target's labels shuffled row by row gives the same weights, bit for bit; turning the source's
    labels around does not."""
    outputs = []
    for name, change in (("plain", None), ("target", "phone"), ("source", "frames")):
        folder = tmp_path / name
        shutil.copytree(features, folder)
        if change:
            path = folder / change / "index.csv"
            rows = list(csv.reader(open(path)))
            column = rows[0].index("label")
            labels = [row[column] for row in rows[1:]]
            new = np.random.default_rng(0).permutation(labels) if change == "phone" else ["10"[int(label)] for label in labels]
            assert list(new) != labels
            for row, label in zip(rows[1:], new):
                row[column] = label
            csv.writer(open(path, "w", newline=""), lineterminator="\n").writerows(rows)
        run("04_train_bpdann.py", "--source", folder / "frames", "--target", folder / "phone", *SHORT, "--target-fraction", 0.5,
            "--out", folder / "run", "--scores", folder / "s")
        outputs.append(torch.load(folder / "run/phone/model.pt", weights_only=True)["model"])
    plain, target, source = outputs
    assert all(torch.equal(plain[k], target[k]) for k in plain)
    assert not all(torch.equal(plain[k], source[k]) for k in plain)


def test_source_only_is_lambda_zero_and_ignores_the_target(features, tmp_path):
    for name, flags in (("a", ("--target", features / "phone")), ("b", ("--target", features / "frames", "--target-split", "val"))):
        run("04_train_bpdann.py", "--method", "source-only", "--source", features / "frames", *flags, *SHORT,
            "--out", tmp_path / name, "--scores", tmp_path / "s" / name)
    a, b = (torch.load(tmp_path / name / target / "model.pt", weights_only=True)["model"] for name, target in ("a phone".split(), "b frames".split()))
    assert all(torch.equal(a[k], b[k]) for k in a if k[0] in "fy")
    assert {row["lambda"] for row in csv.DictReader(open(tmp_path / "a/phone/log.csv"))} == {"0.0"}


def test_scores_for_all_target_images(features, tmp_path):
    run("04_train_bpdann.py", "--source", features / "frames", "--target", features / "phone", "--target-split", "all",
        "--target-fraction", 0.1, *SHORT, "--out", tmp_path / "r", "--scores", tmp_path / "s")
    index = list(csv.DictReader(open(features / "phone/index.csv")))
    scores = list(csv.DictReader(open(tmp_path / "s/phone.csv")))
    assert [(r["video"], r["frame"], r["label"]) for r in scores] == [(r["video"], r["frame"], r["label"]) for r in index]
    tests = [r for r in csv.DictReader(open(features / "frames/index.csv")) if r["split"] == "test"]
    assert len(list(csv.DictReader(open(tmp_path / "s/frames.csv")))) == len(tests) == 16
    # The scores are those of the network in model.pt on those features.
    checkpoint = torch.load(tmp_path / "r/phone/model.pt", weights_only=True)
    model = bpdann.BPDANN(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        expected = model(torch.from_numpy(np.load(features / "phone/features.npy"))).softmax(1)[:, 1].numpy()
    assert np.allclose([float(r["score"]) for r in scores], expected, atol=1e-6)


def test_killed_and_run_again(features, tmp_path):
    args = ("--source", features / "frames", "--target", features / "phone", "--epochs", 40, "--batch", 4, "--device", "cpu")
    run("04_train_bpdann.py", *args, "--out", tmp_path / "whole", "--scores", tmp_path / "s1")
    part = tmp_path / "part"
    run_and_kill((part / "phone/last.pt").exists, "04_train_bpdann.py", *args, "--out", part, "--scores", tmp_path / "s2")
    assert not (part / "phone/model.pt").exists()
    run("04_train_bpdann.py", *args, "--out", part, "--scores", tmp_path / "s2")
    assert_same_tree(tmp_path / "whole", part)
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")


def test_errors(features, extractor, small, tmp_path):
    out = ("--out", tmp_path / "r", "--scores", tmp_path / "s")
    (tmp_path / "empty").mkdir()
    for source, says in ((tmp_path / "none", "not a folder"), (tmp_path / "empty", "no index.csv"), (small / "faces/frames", "features.npy")):
        assert says in run("04_train_bpdann.py", "--source", source, "--target", features / "phone", *out, fails=True)
    narrow = tmp_path / "narrow"
    shutil.copytree(features / "phone", narrow)
    np.save(narrow / "features.npy", np.zeros((48, 7), np.float32))
    assert "7 features" in run("04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True)
    broken = np.load(features / "phone/features.npy").copy()
    broken[:] = np.nan
    np.save(narrow / "features.npy", broken)
    assert "not finite" in run("04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True)
    (narrow / "index.csv").write_text("path,video\na,b\n")
    assert "no column" in run("04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True)


def test_other_flags_on_the_same_folder_are_refused(features, tmp_path):
    args = ("--source", features / "frames", "--target", features / "phone", "--batch", 4, "--out", tmp_path / "r", "--scores", tmp_path / "s")
    run("04_train_bpdann.py", *args, "--epochs", 1)
    assert "epochs was 1, is 2" in run("04_train_bpdann.py", *args, "--epochs", 2, fails=True)


def test_two_processes_on_one_folder(features, tmp_path):
    import subprocess
    from conftest import command
    args = ("04_train_bpdann.py", "--source", features / "frames", "--target", features / "phone", "--epochs", 2000, "--batch", 4,
            "--device", "cpu", "--out", tmp_path / "r", "--scores", tmp_path / "s")
    first = subprocess.Popen(command(*args), stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "r/phone/last.pt").exists():
            assert first.poll() is None
        assert "another process is at work" in run(*args, fails=True)
    finally:
        first.kill()
        first.wait()

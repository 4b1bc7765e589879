"""Stage 04: equation 4, the reversal layer, equation 1, and that no target label reaches the
training.
"""

import csv
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import assert_same_tree, run, run_and_kill, stage

from running import choice, loading
from running import features as feature_files

bpdann = stage("04_train_bpdann")
SHORT = ("--epochs", 4, "--batch", 4, "--device", "cpu")


def test_lambda():
    assert bpdann.lambda_at(0) == 0
    assert round(bpdann.lambda_at(1), 4) == 0.9999
    assert bpdann.lambda_at(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    values = [bpdann.lambda_at(p) for p in np.linspace(0, 1, 50)]
    assert values == sorted(values)


def test_lambda_of_a_run_goes_from_0_to_1(features, tmp_path):
    run(
        "04_train_bpdann.py",
        "--source",
        features / "frames",
        "--target",
        features / "phone",
        *SHORT,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    log = list(csv.DictReader(open(tmp_path / "r/phone/log.csv")))
    steps = int(log[-1]["step"])
    assert float(log[-1]["lambda"]) == pytest.approx(0.9999, abs=1e-4)
    assert float(log[0]["lambda"]) == pytest.approx(
        bpdann.lambda_at((int(log[0]["step"]) - 1) / (steps - 1)), abs=1e-6
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_reversal_gradient_is_minus_lambda_times_the_plain_one(weight):
    torch.manual_seed(0)
    model, x, d = bpdann.BPDANN(6, 5, 4), torch.randn(8, 6), torch.arange(8) % 2
    plain = torch.autograd.grad(
        torch.nn.functional.cross_entropy(model.discriminate(model.extract(x)), d),
        list(model.extract.parameters()),
    )
    reversed_ = torch.autograd.grad(
        torch.nn.functional.cross_entropy(
            model.discriminate(bpdann.GradientReversal.apply(model.extract(x), weight)), d
        ),
        list(model.extract.parameters()),
    )
    for a, b in zip(plain, reversed_):
        assert torch.allclose(b, -weight * a, atol=1e-7)
        assert a.abs().sum() > 0


def test_the_network_of_section_3_5():
    model = bpdann.BPDANN()
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(512, 2048), (64, 512), (2, 64), (64, 64), (2, 64)]
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]


def test_no_target_label_reaches_the_training(features, copy, tmp_path):
    """Training with the target's labels shuffled row by row gives the same weights, the same log
    with its scores of the target, and the same places in the picture, bit for bit; turning the
    source's labels around does not.
    """
    outputs, logs, pictures = [], [], []
    for name, change in (("plain", None), ("target", "phone"), ("source", "frames")):
        folder = tmp_path / name
        shutil.copytree(features, folder)
        if change:
            path = folder / change / "index.csv"
            rows = list(csv.reader(open(path)))
            column = rows[0].index("label")
            labels = [row[column] for row in rows[1:]]
            new = (
                np.random.default_rng(0).permutation(labels)
                if change == "phone"
                else ["10"[int(label)] for label in labels]
            )
            assert list(new) != labels
            for row, label in zip(rows[1:], new):
                row[column] = label
            csv.writer(open(path, "w", newline=""), lineterminator="\n").writerows(rows)
        run(
            "04_train_bpdann.py",
            "--source",
            folder / "frames",
            "--target",
            folder / "phone",
            *SHORT,
            "--target-fraction",
            0.5,
            "--out",
            folder / "run",
            "--scores",
            folder / "s",
        )
        outputs.append(torch.load(folder / "run/phone/model.pt", weights_only=True)["model"])
        logs.append((folder / "run/phone/log.csv").read_text())
        with open(folder / "run/phone/embedding.csv") as file:
            pictures.append([row | {"label": ""} for row in csv.DictReader(file)])
    plain, target, source = outputs
    assert logs[0] == logs[1] != logs[2] and "nan" not in logs[0]
    assert pictures[0] == pictures[1] != pictures[2]
    assert all(torch.equal(plain[k], target[k]) for k in plain)
    assert not all(torch.equal(plain[k], source[k]) for k in plain)


def test_source_only_is_lambda_zero_and_ignores_the_target(features, tmp_path):
    for name, flags in (
        ("a", ("--target", features / "phone")),
        ("b", ("--target", features / "frames", "--target-split", "val")),
    ):
        run(
            "04_train_bpdann.py",
            "--method",
            "source-only",
            "--source",
            features / "frames",
            *flags,
            *SHORT,
            "--out",
            tmp_path / name,
            "--scores",
            tmp_path / "s" / name,
        )
    a, b = (
        torch.load(tmp_path / name / target / "model.pt", weights_only=True)["model"]
        for name, target in ("a phone".split(), "b frames".split())
    )
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith(("extract.", "classify.")))
    assert {row["lambda"] for row in csv.DictReader(open(tmp_path / "a/phone/log.csv"))} == {"0.0"}


def test_scores_for_all_target_images(features, tmp_path):
    run(
        "04_train_bpdann.py",
        "--source",
        features / "frames",
        "--target",
        features / "phone",
        "--target-split",
        "all",
        "--target-fraction",
        0.1,
        *SHORT,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    index = list(csv.DictReader(open(features / "phone/index.csv")))
    scores = list(csv.DictReader(open(tmp_path / "s/phone.csv")))
    assert [(r["video"], r["frame"], r["label"]) for r in scores] == [
        (r["video"], r["frame"], r["label"]) for r in index
    ]
    # The scores are those of the network in model.pt on those features.
    checkpoint = torch.load(tmp_path / "r/phone/model.pt", weights_only=True)
    model = bpdann.BPDANN(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        expected = (
            model(torch.from_numpy(np.load(features / "phone/features.npy")))
            .softmax(1)[:, 1]
            .numpy()
        )
    assert np.allclose([float(r["score"]) for r in scores], expected, atol=1e-6)


def test_balanced_draw():
    labels = np.array([0] * 30 + [1] * 70)
    for seed in range(5):
        drawn = bpdann.draw_target(labels, 20, True, np.random.default_rng(seed))
        assert len(set(drawn)) == 20 and labels[drawn].sum() == 10 and (np.diff(drawn) > 0).all()
    assert (
        labels[bpdann.draw_target(labels, 100, True, np.random.default_rng(0))].sum() == 30
    )  # the rarer class bounds both
    with pytest.raises(ValueError):
        bpdann.draw_target(np.ones(10, int), 4, True, np.random.default_rng(0))
    blind = bpdann.draw_target(labels, 20, False, np.random.default_rng(0))
    assert (
        list(blind) == list(bpdann.draw_target(1 - labels, 20, False, np.random.default_rng(0)))
        and len(set(blind)) == 20
    )


def test_several_targets_are_what_each_alone_gives(features, copy, tmp_path):
    other = copy(features / "frames").rename(tmp_path / "other")
    common = ("--source", features / "frames", "--target-fraction", 0.5, "--target-balance", *SHORT)
    output = run(
        "04_train_bpdann.py",
        *common,
        "--target",
        features / "phone",
        other,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    assert (
        "phone: 8 of 16 target images, as many real as fake" in output
        and "other: 8 of 16" in output
    )
    for folder in (features / "phone", other):
        run(
            "04_train_bpdann.py",
            *common,
            "--target",
            folder,
            "--out",
            tmp_path / "one",
            "--scores",
            tmp_path / "s1",
        )
    assert_same_tree(tmp_path / "r", tmp_path / "one")
    assert_same_tree(tmp_path / "s", tmp_path / "s1")
    assert "give one --target" in run(
        "04_train_bpdann.py",
        *common,
        "--target",
        features / "phone",
        other,
        "--test",
        other,
        "--out",
        tmp_path / "x",
        "--scores",
        tmp_path / "x",
        fails=True,
    )


def test_other_test_sets_without_training_again(features, tmp_path):
    """--test and --test-split say what is scored; the network stays as it is."""
    args = (
        "--source",
        features / "frames",
        "--target",
        features / "phone",
        *SHORT,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    run("04_train_bpdann.py", *args, "--test", features / "frames", "--test-split", "val")
    before = (tmp_path / "r/phone/model.pt").read_bytes()
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["frames.csv"] and len(
        list(csv.DictReader(open(tmp_path / "s/frames.csv")))
    ) == 16
    output = run("04_train_bpdann.py", *args, "--test", features / "phone", "--test-split", "all")
    assert " steps in " not in output and (tmp_path / "r/phone/model.pt").read_bytes() == before
    assert len(list(csv.DictReader(open(tmp_path / "s/phone.csv")))) == 48


def grid_args(folder, out, *flags):
    return (
        *("--grid", "--n1", 16, 32, "--n2", 4, "--dropout", 0, 0.5, *SHORT, "--lr", 1e-2),
        *("--source", folder / "frames", "--target", folder / "phone"),
        *("--out", out / "r", "--scores", out / "s", *flags),
    )


def test_grid_is_chosen_without_target_labels(features, tmp_path):
    """All combinations are in grid.csv. By each score the chosen one is the best, and turning all
    labels of the target around changes nothing. A choice by another score trains nothing again.
    """
    turned = tmp_path / "turned"
    shutil.copytree(features, turned)
    header, *rows = csv.reader(open(turned / "phone/index.csv"))
    column = header.index("label")
    rows = [[*r[:column], "10"[int(r[column])], *r[column + 1 :]] for r in rows]
    csv.writer(open(turned / "phone/index.csv", "w", newline="")).writerows([header, *rows])
    best_by = dict(
        source=lambda r: (-float(r["source_val_auc"]), float(r["source_val_loss"])),
        entropy=lambda r: float(r["target_entropy"]),
        density=lambda r: -float(r["target_density"]),
    )
    found = []
    for k, (choose, folder) in enumerate(
        [*((choose, features) for choose in best_by), ("entropy", turned)]
    ):
        out = tmp_path / folder.name
        output = run("04_train_bpdann.py", *grid_args(folder, out, "--choose", choose))
        trained = output.count(" steps in ")
        assert trained == 5 if k in (0, 3) else trained <= 1
        grid = list(csv.DictReader(open(out / "r/phone/grid.csv")))
        points = [(a, "4", p) for a in ("16", "32") for p in ("0.0", "0.5")]
        assert sorted((r["n1"], r["n2"], r["dropout"]) for r in grid) == points
        (best,) = [r for r in grid if r["chosen"] == "1"]
        assert best_by[choose](best) == min(map(best_by[choose], grid))
        assert {r["chosen_by"] for r in grid} == {choose}
        name = f"{best['n1']}-4-{float(best['dropout']):g}"
        kept, of_best = (out / f"r/phone/{part}model.pt" for part in ("", f"{name}/"))
        assert kept.read_bytes() == of_best.read_bytes()
        # Source-only with the same settings is compared by the same score.
        log = list(csv.DictReader(open(out / f"r/phone/{name}-source-only/log.csv")))
        assert {row["lambda"] for row in log} == {"0.0"}
        no_better = best_by[choose](best) >= best_by[choose](log[-1])
        assert ("BP-DANN is no better than source-only" in output) == no_better
        found.append(grid)
    assert found[1] == found[3]
    out = grid_args(features, tmp_path / "x")
    assert "need --grid" in run("04_train_bpdann.py", *out[1:], fails=True)
    assert "--end-to-end takes one" in run("04_train_bpdann.py", *out, "--end-to-end", fails=True)


# ---------------------------------------------------------------- scores that need no target label


def test_entropy_of_known_predictions():
    assert choice.mean_entropy(np.zeros((5, 2))) == pytest.approx(math.log(2))
    assert choice.mean_entropy(np.array([[0, 2000], [2000, 0]], np.float32)) == 0
    p = 0.9
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    logits = np.array([[0, math.log(p / (1 - p))], [0, 0]])
    assert choice.mean_entropy(logits) == pytest.approx((entropy + math.log(2)) / 2)


def test_neighborhood_density_of_known_rows():
    """Equal rows: everyone is everyone's neighbor. Two groups at right angles: only one's own."""
    assert choice.neighborhood_density(np.ones((9, 3))) == pytest.approx(1)
    groups = np.repeat(np.eye(2), [7, 7], 0) * np.arange(1, 15)[:, None]
    density = math.log(6) / math.log(13)
    assert choice.neighborhood_density(groups) == pytest.approx(density, abs=1e-4)
    for count in (1, 2):
        assert math.isnan(choice.neighborhood_density(np.ones((count, 2))))
    # Row by row, as the paper has it; in chunks of any size.
    rows = np.random.default_rng(0).random((50, 2))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    entropies = []
    for k in range(50):
        weights = np.exp(np.delete(unit @ unit[k], k) / 0.05)
        p = weights / weights.sum()
        entropies.append(-(p * np.log(p)).sum())
    for chunk in (1, 7, 50, 512):
        found = choice.neighborhood_density(rows, chunk=chunk)
        assert found == pytest.approx(np.mean(entropies) / math.log(49), abs=1e-5)


@pytest.mark.parametrize("epochs", [1, 4, 10, 23, 50])
def test_scores_are_measured_at_tenths_of_the_training(epochs):
    measured = [epoch for epoch in range(epochs) if choice.is_tenth(epoch, epochs)]
    assert len(measured) == min(10, epochs) and measured[-1] == epochs - 1
    assert all(abs((epoch + 1) * 10 / epochs - k - 1) < 10 / epochs
               for k, epoch in enumerate(measured) if epochs >= 10)  # fmt: skip


def test_scores_in_the_log_are_those_of_the_network(features, tmp_path):
    """Between the tenths they are nan, and a log that was begun without them can be resumed."""
    args = (
        *("--source", features / "frames", "--target", features / "phone", *SHORT[2:]),
        *("--out", tmp_path / "r", "--scores", tmp_path / "s"),
    )
    run("04_train_bpdann.py", *args, "--epochs", 1)
    last = tmp_path / "r/phone/last.pt"
    saved = torch.load(last, weights_only=True)
    saved["log"] = [row[:-2] for row in saved["log"]]
    torch.save(saved, last)
    output = run("04_train_bpdann.py", *args, "--epochs", 20, "--allow-changes")
    log = list(csv.DictReader(open(tmp_path / "r/phone/log.csv")))
    measured = [row["epoch"] for row in log if row["target_entropy"] != "nan"]
    assert measured == [str(epoch) for epoch in range(2, 21, 2)] and len(log[0]) == len(log[-1])
    # The test split is adapted to, and all of its images are scored.
    table = list(csv.DictReader(open(tmp_path / "s/phone.csv")))
    logits = np.array([[0, float(row["logit"])] for row in table])
    entropy = choice.mean_entropy(logits)
    assert float(log[-1]["target_entropy"]) == pytest.approx(entropy, abs=1e-5)
    p = torch.from_numpy(logits).softmax(1)
    density = choice.neighborhood_density(p)
    assert float(log[-1]["target_density"]) == pytest.approx(density, abs=1e-4)
    printed = re.search(r"predictions ([\d.]+) .* density ([\d.]+) %", output).groups()
    assert float(printed[0]) == pytest.approx(entropy, abs=1e-4)
    assert float(printed[1]) == pytest.approx(100 * density, abs=0.051)


def test_a_grid_from_before_the_scores_is_not_chosen_by_them(tmp_path):
    row = dict(source_val_auc=1.0, source_val_loss=0.1, target_entropy=math.nan)
    for column in choice.TARGET_SCORES:
        row[column] = math.nan
    result = (tmp_path / "8-4-0", (8, 4, 0.0), None, row)
    with pytest.raises(SystemExit, match="8-4-0 has no target_density, for which"):
        choice.choose_run([result], "density", tmp_path)


END_TO_END = (
    "--end-to-end",
    "--arch",
    "resnet18",
    "--weights",
    "none",
    "--image-size",
    32,
    "--batch",
    8,
    "--device",
    "cpu",
    "--workers",
    1,
)


def test_end_to_end_reverses_the_gradient_into_the_backbone():
    """The backbone gets the label loss's gradient minus lambda times the domain loss's (equation
    1).
    """
    torch.manual_seed(0)
    model = bpdann.DANN("resnet18", 32, n1=8, n2=4, dropout=0.0).eval()
    images, d = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 2
    weight, first = 0.3, model.extractor.backbone.conv1.weight
    f = model.embed(images)
    label = torch.nn.functional.cross_entropy(model.classify(f[:4]), d[:4])
    plain = torch.nn.functional.cross_entropy(model.discriminate(f), d)
    both = label + torch.nn.functional.cross_entropy(
        model.discriminate(bpdann.GradientReversal.apply(f, weight)), d
    )
    a, b, c = (
        torch.autograd.grad(loss, first, retain_graph=True)[0] for loss in (label, plain, both)
    )
    assert (
        torch.allclose(c, a - weight * b, atol=1e-6)
        and b.abs().sum() > 0
        and not hasattr(model.extractor, "head")
    )


@pytest.mark.slow
def test_end_to_end(small, tmp_path):
    """Kill and resume give the same files; target labels change nothing; the checkpoint rebuilds
    the network that was scored.
    """
    faces = tmp_path / "faces"
    shutil.copytree(small / "faces", faces)
    args = (
        *END_TO_END,
        "--source",
        faces / "frames",
        "--target",
        faces / "phone",
        "--target-split",
        "val",
        "--epochs",
        3,
        "--test",
        faces / "frames",
        faces / "phone",
    )
    run("04_train_bpdann.py", *args, "--out", tmp_path / "whole", "--scores", tmp_path / "s1")
    part = tmp_path / "part"
    run_and_kill(
        (part / "phone/last.pt").exists,
        "04_train_bpdann.py",
        *args,
        "--out",
        part,
        "--scores",
        tmp_path / "s2",
    )
    run("04_train_bpdann.py", *args, "--out", part, "--scores", tmp_path / "s2")
    assert_same_tree(tmp_path / "whole", part)
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    picture = list(csv.DictReader(open(part / "phone/embedding.csv")))
    assert {(r["network"], r["domain"]) for r in picture} == {
        ("bp-dann", "source"),
        ("bp-dann", "target"),
    }
    checkpoint = torch.load(part / "phone/model.pt", weights_only=True)
    model = bpdann.DANN(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    (row, *_) = csv.DictReader(open(tmp_path / "s1/phone.csv"))
    from running.loading import load_face

    with torch.no_grad():
        p_fake = (
            model(
                load_face(faces / "phone" / row["video"] / f"{int(row['frame']):06d}.png", 32)[None]
            )
            .softmax(1)[0, 1]
            .item()
        )
    assert float(row["score"]) == pytest.approx(p_fake, abs=1e-4)
    index = (faces / "phone/index.csv").read_text()
    turned = (
        index.replace(",0,youtube,", ",x,youtube,")
        .replace(",1,Deepfakes,", ",0,Deepfakes,")
        .replace(",x,", ",1,")
    )
    assert turned != index
    (faces / "phone/index.csv").write_text(turned)
    run("04_train_bpdann.py", *args, "--out", tmp_path / "turned", "--scores", tmp_path / "s3")
    turned = torch.load(tmp_path / "turned/phone/model.pt", weights_only=True)["model"]
    assert all(torch.equal(turned[k], v) for k, v in checkpoint["model"].items())


def test_features_of_clips_are_adapted_as_they_are(small, tmp_path):
    """05 --save-features, then 04: the two papers combined."""
    from conftest import SMALL_CLRNET

    run(
        "05_train_clrnet.py",
        "--strategy",
        "single",
        "--source",
        small / "faces/clips",
        "--epochs",
        1,
        *SMALL_CLRNET,
        "--out",
        tmp_path / "c",
        "--test",
        small / "faces/clips",
        small / "faces/clips-FS",
        "--scores",
        tmp_path / "s",
        "--save-features",
        tmp_path / "features",
    )
    stored = np.load(tmp_path / "features/clips-FS/features.npy")
    index = list(csv.DictReader(open(tmp_path / "features/clips-FS/index.csv")))
    assert stored.shape == (24, 32) == (len(index), 4 * 4 * 2) and {r["clip"] for r in index} == {
        "0",
        "1",
    }
    from networks import clrnet

    checkpoint = torch.load(tmp_path / "c/model.pt", weights_only=True)
    model = clrnet.CLRNet(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    items, faces_index, first, _ = loading.read_clips(small / "faces/clips-FS", "all")
    with torch.no_grad():
        vector = model.features(loading.Faces(items, 48)[3][None] / 255)[0]
    assert (
        np.allclose(stored[3], vector, atol=1e-4)
        and index[3]["video"] == faces_index["video"][first[3]]
    )
    run(
        "04_train_bpdann.py",
        "--source",
        tmp_path / "features/clips",
        "--target",
        tmp_path / "features/clips-FS",
        *SHORT,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s4",
    )
    scores, direct = (
        list(csv.DictReader(open(tmp_path / s / "clips-FS.csv"))) for s in ("s4", "s")
    )
    assert [(r["video"], r["frame"]) for r in scores] == [
        (r["video"], r["frame"]) for r in direct
    ] and len(scores) == 8


def test_a_loss_that_is_not_finite_stops_the_run(features, tmp_path):
    """It says at which step and batch, and the last good state stays."""
    args = (
        "--source",
        features / "frames",
        "--target",
        features / "phone",
        "--batch",
        4,
        "--device",
        "cpu",
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    run("04_train_bpdann.py", *args, "--epochs", 1)
    good = (tmp_path / "r/phone/last.pt").read_bytes()
    output = run(
        "04_train_bpdann.py", *args, "--epochs", 9, "--lr", "inf", "--allow-changes", fails=True
    )
    assert (
        " is nan at step " in output
        and ", batch " in output
        and "last.pt is the last good state" in output
    )
    assert (tmp_path / "r/phone/last.pt").read_bytes() == good


def test_errors(features, extractor, small, tmp_path):
    out = ("--out", tmp_path / "r", "--scores", tmp_path / "s")
    (tmp_path / "empty").mkdir()
    for source, says in (
        (tmp_path / "none", "not a folder"),
        (tmp_path / "empty", "no index.csv"),
        (small / "faces/frames", "features.npy"),
    ):
        assert says in run(
            "04_train_bpdann.py",
            "--source",
            source,
            "--target",
            features / "phone",
            *out,
            fails=True,
        )
    narrow = tmp_path / "narrow"
    shutil.copytree(features / "phone", narrow)
    np.save(narrow / "features.npy", np.zeros((48, 7), np.float32))
    assert "7 features" in run(
        "04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True
    )
    broken = np.load(features / "phone/features.npy").copy()
    broken[:] = np.nan
    np.save(narrow / "features.npy", broken)
    assert "not finite" in run(
        "04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True
    )
    (narrow / "index.csv").write_text("path,video\na,b\n")
    assert "no column" in run(
        "04_train_bpdann.py", "--source", features / "frames", "--target", narrow, *out, fails=True
    )


def test_other_flags_on_the_same_folder_are_refused(features, tmp_path):
    args = (
        "--source",
        features / "frames",
        "--target",
        features / "phone",
        "--batch",
        4,
        "--out",
        tmp_path / "r",
        "--scores",
        tmp_path / "s",
    )
    run("04_train_bpdann.py", *args, "--epochs", 1)
    assert "epochs was 1, is 2" in run("04_train_bpdann.py", *args, "--epochs", 2, fails=True)


# ---------------------------------------------------------------- features that do not fit into
# memory, the fused optimizer


def test_streamed_features_give_what_held_ones_give(features, tmp_path, monkeypatch, capsys):
    """With no memory free, features are read from disk batch by batch: weights and scores are the
    same bit for bit.
    """
    for name, free in (("held", 1e12), ("streamed", 0)):
        monkeypatch.setattr(bpdann, "free_memory", lambda device: free)
        monkeypatch.setattr(
            "sys.argv",
            [
                "04",
                *map(
                    str,
                    (
                        "--source",
                        features / "frames",
                        "--target",
                        features / "phone",
                        *SHORT,
                        "--out",
                        tmp_path / name,
                        "--scores",
                        tmp_path / f"scores-{name}",
                    ),
                ),
            ],
        )
        bpdann.main()
        output = capsys.readouterr().out
        assert (
            ("they are read from disk batch by batch" in output)
            == (name == "streamed")
            == ("held in memory" not in output)
        )
    weights = [
        torch.load(tmp_path / name / "phone/model.pt", weights_only=True)["model"]
        for name in ("held", "streamed")
    ]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    logs = [(tmp_path / name / "phone/log.csv").read_bytes() for name in ("held", "streamed")]
    assert logs[0] == logs[1]
    assert (tmp_path / "scores-held/phone.csv").read_bytes() == (
        tmp_path / "scores-streamed/phone.csv"
    ).read_bytes()


def test_streamed_features_are_checked_too(features, copy, tmp_path, monkeypatch, capsys):
    folder = copy(features / "phone")
    array = np.load(folder / "features.npy")
    array[-1, 3] = np.nan
    np.save(folder / "features.npy", array)
    monkeypatch.setattr(bpdann, "free_memory", lambda device: 0)
    monkeypatch.setattr(
        "sys.argv",
        [
            "04",
            *map(
                str,
                (
                    "--source",
                    features / "frames",
                    "--target",
                    folder,
                    *SHORT,
                    "--out",
                    tmp_path / "r",
                    "--scores",
                    tmp_path / "s",
                ),
            ),
        ],
    )
    with pytest.raises(SystemExit, match="not finite numbers"):
        bpdann.main()


def test_free_memory():
    assert 0 < feature_files.free_memory(torch.device("cpu"))


def test_source_and_target_of_equal_size_are_shuffled_apart():
    """Or row k of one would always meet row k of the other, in many data sets the same person."""
    x = torch.arange(12.0)[:, None]
    source = bpdann.Source(x, torch.zeros(12, dtype=int), x[:0], np.zeros(0, int), [])
    args = SimpleNamespace(seed=0, batch=6, end_to_end=False)
    for epoch in range(3):
        _, batches = bpdann.draw_batches(source, x, None, args, torch.device("cpu"), epoch)
        of_source, of_target = torch.cat([batch.view(2, 6) for batch in batches], 1)
        assert sorted(of_source.tolist()) == sorted(of_target.tolist()) == x.flatten().tolist()
        assert (of_source == of_target).sum() < 6


def test_training_equals_a_plain_loop(tmp_path):
    """Lambda as a tensor and the fused optimizer, against the paper's equations step by step with
    torch's plain Adam: to 1e-6.
    """
    torch.manual_seed(0)
    xs, xt, ys = torch.randn(24, 6), torch.randn(16, 6), torch.arange(24) % 2
    args = SimpleNamespace(
        seed=3, end_to_end=False, lr=1e-3, epochs=3, batch=8, method="bp-dann", precision="fp32"
    )
    model, _ = bpdann.adapt(
        tmp_path,
        args,
        dict(dimensions=6, n1=5, n2=4, dropout=0.0),
        bpdann.Source(xs, ys, xs[:0], np.zeros(0, int), []),
        bpdann.Target(xt, xt),
        torch.device("cpu"),
        "",
        {},
    )
    torch.manual_seed(3)
    plain, total, step = bpdann.BPDANN(6, 5, 4, 0.0), 9, 0
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=False, foreach=False)
    for epoch in range(3):
        order = np.concatenate(
            [np.random.default_rng((3, epoch, k)).permutation(16) for k in (1, 2)]
        )
        for k, rows in enumerate(np.random.default_rng((3, epoch)).permutation(24).reshape(3, 8)):
            f_s, f_t = plain.embed(xs[rows]), plain.embed(xt[order[8 * k : 8 * k + 8]])
            weight = bpdann.lambda_at(step / (total - 1))
            d = plain.discriminate(bpdann.GradientReversal.apply(torch.cat([f_s, f_t]), weight))
            loss = torch.nn.functional.cross_entropy(
                plain.classify(f_s), ys[rows]
            ) + torch.nn.functional.cross_entropy(d, torch.arange(16) // 8)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), plain.parameters())
    )


def test_bfloat16_trains_as_float32(tmp_path):
    """The same training in both precisions: weights move in the same direction; features held as
    bfloat16 are what autocast makes of them.
    """
    torch.manual_seed(0)
    xs, xt, ys, found = torch.randn(24, 6), torch.randn(16, 6), torch.arange(24) % 2, []
    for name, precision, dtype in (
        ("a", "fp32", None),
        ("b", "bf16", None),
        ("c", "bf16", torch.bfloat16),
    ):
        args = SimpleNamespace(
            seed=3,
            end_to_end=False,
            lr=1e-2,
            epochs=10,
            batch=8,
            method="bp-dann",
            precision=precision,
        )
        (tmp_path / name).mkdir()
        model, final = bpdann.adapt(
            tmp_path / name,
            args,
            dict(dimensions=6, n1=16, n2=8, dropout=0.0),
            bpdann.Source(xs.to(dtype), ys, xs[:0], np.zeros(0, int), []),
            bpdann.Target(xt.to(dtype), xt),
            torch.device("cpu"),
            "",
            {},
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        found.append((torch.cat([p.detach().flatten() for p in model.parameters()]), final))
    torch.manual_seed(3)
    start = torch.cat([p.detach().flatten() for p in bpdann.BPDANN(6, 16, 8, 0.0).parameters()])
    moved = [weights - start for weights, _ in found]
    assert torch.equal(found[1][0], found[2][0]) and not torch.equal(found[0][0], found[1][0])
    assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.95
    assert found[1][1]["label_loss"] == pytest.approx(found[0][1]["label_loss"], abs=0.02)

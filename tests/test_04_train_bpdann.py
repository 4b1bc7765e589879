"""Stage 04: equation 4, the reversal layer, equation 1, and that no target label reaches the
training; and end-to-end DANN, the recipe that shares its network.
"""

import csv
import math
import shutil
import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import (
    SMALL_CLRNET,
    assert_same_tree,
    call,
    drop_val,
    rows_of,
    run,
    run_and_kill,
    same,
    stage,
)
from torch.nn import functional as F

from common import margin
from reporting.metrics import auc
from running import loading

bpdann = stage("04_train_bpdann")
train_dann = stage("recipes.train_dann")
SHORT = "--epochs 4 --batch 4 --device cpu"
CPU = torch.device("cpu")


def adapt(line, fails=False):
    """What 04 prints; it runs in this process, which is faster."""
    return call(f"04_train_bpdann.py {line}", fails)


def weights_of(path):
    return dict(torch.load(path, weights_only=True)["model"])


def pair(features, out):
    """The flags of a training on features/frames that adapts to features/phone, below OUT."""
    sets = f"--source {features / 'frames'} --target {features / 'phone'}"
    return f"{sets} --out {out / 'r'} --scores {out / 's'}"


# ---------------------------------------------------------------- the method


def test_lambda_of_a_run_goes_from_0_to_1(features, tmp_path):
    """By equation 4."""
    assert bpdann.lambda_at(0) == 0
    assert round(bpdann.lambda_at(1), 4) == 0.9999
    assert bpdann.lambda_at(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    adapt(f"{pair(features, tmp_path)} {SHORT}")
    log = rows_of(tmp_path / "r/phone/log.csv")
    first, last = int(log[0]["step"]) - 1, int(log[-1]["step"]) - 1
    assert float(log[-1]["lambda"]) == pytest.approx(0.9999, abs=1e-4)
    assert float(log[0]["lambda"]) == pytest.approx(bpdann.lambda_at(first / last), abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_reversal_gradient_is_minus_lambda_times_the_plain_one(weight):
    torch.manual_seed(0)
    model, x, d = bpdann.BPDANN(6, 5, 4), torch.randn(8, 6), torch.arange(8) % 2

    def gradients(embedding):
        loss = F.cross_entropy(model.discriminate(embedding), d)
        return torch.autograd.grad(loss, list(model.extract.parameters()))

    plain = gradients(model.extract(x))
    reversed_ = gradients(bpdann.GradientReversal.apply(model.extract(x), weight))
    for a, b in zip(plain, reversed_):
        assert torch.allclose(b, -weight * a, atol=1e-7)
        assert a.abs().sum() > 0


def test_the_network_of_section_3_5():
    model = bpdann.BPDANN()
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(512, 2048), (64, 512), (2, 64), (64, 64), (2, 64)]
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]


def train_on(out, source_x, labels, target_x, **flags):
    """`train` on tensors, without a validation split."""
    nothing = np.zeros(0, int)
    source = bpdann.Source(SimpleNamespace(index={}), nothing, nothing, source_x, labels)
    args = SimpleNamespace(seed=3, batch=8, method="bp-dann", **flags)
    kwargs = dict(dimensions=6, n1=16, n2=8, dropout=0.0)
    return bpdann.train(out, args, source, target_x, CPU, dict(kwargs=kwargs))


def test_training_equals_a_plain_loop(tmp_path):
    """The fused optimizer, against the paper's equations step by step with torch's plain Adam: to
    1e-6.
    """
    torch.manual_seed(0)
    xs, xt, ys = torch.randn(24, 6), torch.randn(16, 6), torch.arange(24) % 2
    model, _ = train_on(tmp_path, xs, ys, xt, lr=1e-3, epochs=3, precision="fp32")
    torch.manual_seed(3)
    plain, total, step = bpdann.BPDANN(6, 16, 8, 0.0), 9, 0
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=False, foreach=False)
    for epoch in range(3):
        rows = np.random.default_rng((3, epoch)).permutation(24)
        order = [np.random.default_rng((3, epoch, k)).permutation(16) for k in (1, 2)]
        order = np.concatenate(order)
        for k in range(0, 24, 8):
            f_s, f_t = plain.extract(xs[rows[k : k + 8]]), plain.extract(xt[order[k : k + 8]])
            weight = bpdann.lambda_at(step / (total - 1))
            d = plain.discriminate(bpdann.GradientReversal.apply(torch.cat([f_s, f_t]), weight))
            loss = F.cross_entropy(plain.classify(f_s), ys[rows[k : k + 8]])
            loss = loss + F.cross_entropy(d, torch.arange(16) // 8)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    for a, b in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_training_learns(tmp_path):
    """Two clouds of features, shifted in the target: the loss falls, and unseen rows of both
    domains are told apart.
    """
    torch.manual_seed(0)
    labels = torch.arange(64) % 2

    def draw(shift):
        return torch.randn(64, 6) + 3 * labels[:, None] + shift

    model, _ = train_on(tmp_path, draw(0), labels, draw(1), lr=1e-2, epochs=40, precision="fp32")
    losses = [float(row["label_loss"]) for row in rows_of(tmp_path / "log.csv")]
    assert losses[-1] < 0.5 * losses[0]
    for shift in (0, 1):
        with torch.no_grad():
            logits = model.classify(model.extract(draw(shift)))
        assert auc(labels.numpy(), margin(logits)) > 0.9


def test_source_and_target_of_equal_size_are_shuffled_apart():
    """Or row k of one would always meet row k of the other, in many data sets the same person."""
    for epoch in range(3):
        source, target = bpdann.draw_orders((12, 12), 0, epoch, 2, 6)
        assert sorted(source.flat) == sorted(target.flat) == list(range(12))
        assert (source == target).sum() < 6


def test_bfloat16_trains_as_float32(tmp_path):
    """The same training in both precisions: weights move in the same direction; features held as
    bfloat16 are what autocast makes of them.
    """
    torch.manual_seed(0)
    xs, xt, ys = torch.randn(24, 6), torch.randn(16, 6), torch.arange(24) % 2
    weights, losses = [], []
    for name, precision, dtype in (("a", "fp32", None), ("b", "bf16", None), ("c", "bf16", True)):
        dtype = torch.bfloat16 if dtype else None
        (tmp_path / name).mkdir()
        flags = dict(lr=1e-2, epochs=10, precision=precision)
        model, row = train_on(tmp_path / name, xs.to(dtype), ys, xt.to(dtype), **flags)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        losses.append(row["label_loss"])
    torch.manual_seed(3)
    start = torch.cat([p.detach().flatten() for p in bpdann.BPDANN(6, 16, 8, 0.0).parameters()])
    assert torch.equal(weights[1], weights[2]) and not torch.equal(weights[0], weights[1])
    assert F.cosine_similarity(weights[0] - start, weights[1] - start, dim=0) > 0.95
    assert losses[1] == pytest.approx(losses[0], abs=0.02)


# ---------------------------------------------------------------- the target


def change_labels(path, change):
    """Rewrite the labels of an index.csv by a function of their list."""
    header, *rows = csv.reader(open(path))
    column = header.index("label")
    labels = [row[column] for row in rows]
    new = change(labels)
    assert list(new) != labels
    for row, label in zip(rows, new):
        row[column] = label
    csv.writer(open(path, "w", newline=""), lineterminator="\n").writerows([header, *rows])


def turned(labels):
    return ["10"[int(label)] for label in labels]


def test_no_target_label_reaches_the_training(features, tmp_path):
    """Training with the target's labels shuffled row by row gives the same weights, the same log
    and the same places in the picture, bit for bit; turning the source's labels around does not.
    """
    outputs, logs, pictures = [], [], []
    for name in ("plain", "phone", "frames"):
        folder = tmp_path / name
        shutil.copytree(features, folder)
        shuffled = np.random.default_rng(0).permutation
        if name != "plain":
            index = folder / name / "index.csv"
            change_labels(index, shuffled if name == "phone" else turned)
        adapt(f"{pair(folder, folder)} {SHORT} --target-fraction 0.5")
        outputs.append(weights_of(folder / "r/phone/model.pt"))
        logs.append((folder / "r/phone/log.csv").read_text())
        pictures.append([r | {"label": ""} for r in rows_of(folder / "r/phone/embedding.csv")])
    plain, target, source = outputs
    assert logs[0] == logs[1] != logs[2] and "nan" not in logs[0]
    assert pictures[0] == pictures[1] != pictures[2]
    assert same(plain, target) and not same(plain, source)


def test_source_only_is_lambda_zero_and_ignores_the_target(features, tmp_path):
    line = f"--method source-only --source {features / 'frames'} {SHORT} --out {tmp_path} --scores "
    adapt(f"{line} {tmp_path / 's'} --target {features / 'phone'}")
    adapt(f"{line} {tmp_path / 's'} --target {features / 'frames'} --target-split val")
    a, b = (weights_of(tmp_path / name / "model.pt") for name in ("phone", "frames"))
    assert all(torch.equal(a[k], b[k]) for k in a if k.startswith(("extract.", "classify.")))
    assert {row["lambda"] for row in rows_of(tmp_path / "phone/log.csv")} == {"0.0"}


def test_scores_for_all_target_images(features, tmp_path):
    """The scores are those of the network in model.pt on those features."""
    adapt(f"{pair(features, tmp_path)} {SHORT} --target-split all --target-fraction 0.1")
    index, scores = rows_of(features / "phone/index.csv"), rows_of(tmp_path / "s/phone.csv")
    columns = ("video", "frame", "label")
    assert [[r[c] for c in columns] for r in scores] == [[r[c] for c in columns] for r in index]
    checkpoint = torch.load(tmp_path / "r/phone/model.pt", weights_only=True)
    model = bpdann.BPDANN(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        logits = model(torch.from_numpy(np.load(features / "phone/features.npy")))
    expected = logits.softmax(1)[:, 1].numpy()
    assert np.allclose([float(r["score"]) for r in scores], expected, atol=1e-6)


def test_balanced_draw():
    labels = np.array([0] * 30 + [1] * 70)

    def draw(labels, count, balance, seed=0):
        return bpdann.draw_target("phone", labels, count, balance, np.random.default_rng(seed))

    for seed in range(5):
        drawn = draw(labels, 20, True, seed)
        assert len(set(drawn)) == 20 and labels[drawn].sum() == 10 and (np.diff(drawn) > 0).all()
    # The rarer class bounds both.
    assert labels[draw(labels, 100, True)].sum() == 30
    with pytest.raises(SystemExit, match="as many real as fake images cannot be drawn from phone"):
        draw(np.ones(10, int), 4, True)
    without_labels = draw(labels, 20, False)
    assert list(without_labels) == list(draw(1 - labels, 20, False))
    assert len(set(without_labels)) == 20


def test_several_targets_are_what_each_alone_gives(features, copy, tmp_path):
    other = copy(features / "frames").rename(tmp_path / "other")
    phone = features / "phone"
    common = f"--source {features / 'frames'} --target-fraction 0.5 --target-balance {SHORT}"
    together = f"--out {tmp_path / 'r'} --scores {tmp_path / 's'}"
    output = adapt(f"{common} --target {phone} {other} {together}")
    assert "phone: 8 of 16 target images, as many real as fake" in output
    assert "other: 8 of 16" in output
    for folder in (phone, other):
        adapt(f"{common} --target {folder} --out {tmp_path / 'one'} --scores {tmp_path / 's1'}")
    assert_same_tree(tmp_path / "r", tmp_path / "one")
    assert_same_tree(tmp_path / "s", tmp_path / "s1")
    output = adapt(f"{common} --target {phone} {other} --test {other} {together}", fails=True)
    assert "give one --target" in output


def test_other_test_sets_without_training_again(features, tmp_path):
    """--test and --test-split say what is scored; the network stays as it is."""
    args = f"{pair(features, tmp_path)} {SHORT}"
    adapt(f"{args} --test {features / 'frames'} --test-split val")
    before = (tmp_path / "r/phone/model.pt").read_bytes()
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["frames.csv"]
    assert len(rows_of(tmp_path / "s/frames.csv")) == 16
    output = adapt(f"{args} --test {features / 'phone'} --test-split all")
    assert " steps in " not in output and (tmp_path / "r/phone/model.pt").read_bytes() == before
    assert len(rows_of(tmp_path / "s/phone.csv")) == 48


def test_grid_is_chosen_on_the_source(features, tmp_path):
    """All combinations are in grid.csv, and the best is kept. Turning all labels of the target
    around changes nothing; a larger grid trains its new points alone.
    """
    shutil.copytree(features, tmp_path / "turned")
    change_labels(tmp_path / "turned/phone/index.csv", turned)
    flags = f"--n1 16 32 --n2 4 --dropout 0 0.5 {SHORT} --lr 1e-2"
    grids = []
    for folder in (features, tmp_path / "turned"):
        out = tmp_path / f"out-{folder.name}"
        assert adapt(f"--grid {flags} {pair(folder, out)}").count(" steps in ") == 4
        grid = rows_of(out / "r/phone/grid.csv")
        points = [(a, "4", p) for a in ("16", "32") for p in ("0.0", "0.5")]
        assert sorted((r["n1"], r["n2"], r["dropout"]) for r in grid) == points
        (best,) = [r for r in grid if r["chosen"] == "1"]
        merits = [(-float(r["source_val_auc"]), float(r["source_val_loss"])) for r in grid]
        assert merits[grid.index(best)] == min(merits)
        name = f"{best['n1']}-4-{float(best['dropout']):g}"
        kept, of_best = (out / f"r/phone/{part}model.pt" for part in ("", f"{name}/"))
        assert kept.read_bytes() == of_best.read_bytes()
        grids.append(grid)
    assert grids[0] == grids[1]
    more = f"--grid {flags.replace('--n2 4', '--n2 4 8')} {pair(folder, out)}"
    assert "n2 was [4], is [4, 8]" in adapt(more, fails=True)
    assert adapt(f"{more} --allow-changes").count(" steps in ") == 4
    assert len(rows_of(out / "r/phone/grid.csv")) == 8
    assert "need --grid" in adapt(f"{flags} {pair(features, tmp_path / 'x')}", fails=True)


# ---------------------------------------------------------------- memory, errors


def test_features_are_in_memory_once(features, tmp_path, monkeypatch):
    """The rows of one target are gone when those of the next are read; no second copy is made."""
    alive = []

    def watched(data, rows, *args):
        assert len([tensor for tensor in alive if tensor() is not None]) <= 1
        x = loading.load_rows(data, rows, *args)
        alive.append(weakref.ref(x))
        return x

    monkeypatch.setattr(bpdann, "load_rows", watched)
    for name in ("a", "b"):
        shutil.copytree(features / "phone", tmp_path / name)
    targets = f"--target {features / 'phone'} {tmp_path / 'a'} {tmp_path / 'b'}"
    out = f"--out {tmp_path / 'r'} --scores {tmp_path / 's'}"
    adapt(f"--source {features / 'frames'} {targets} {SHORT} {out}")
    assert len(alive) == 4

    array = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (40_000, 64))
    array[:, 0] = np.arange(40_000)
    data, rows = loading.FeatureSet(tmp_path, array, {}, None), np.arange(39_999, 0, -1)
    for dtype in (torch.float32, torch.bfloat16):
        # numpy's memory; the tensor itself is torch's.
        tracemalloc.start()
        x = loading.load_rows(data, rows, CPU, dtype)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert x.dtype == dtype and torch.equal(x[:, 0], torch.from_numpy(rows).to(dtype))
        assert taken < array.nbytes / 4


def test_a_loss_that_is_not_finite_stops_the_run(features, tmp_path):
    """It says at which step and batch, and the last good state stays."""
    args = f"{pair(features, tmp_path)} --batch 4 --device cpu"
    adapt(f"{args} --epochs 1")
    assert "epochs was 1, is 2" in adapt(f"{args} --epochs 2", fails=True)
    good = (tmp_path / "r/phone/last.pt").read_bytes()
    output = adapt(f"{args} --epochs 9 --lr inf --allow-changes", fails=True)
    assert " is nan at step " in output and ", batch " in output
    assert "last.pt is the last good state" in output
    assert (tmp_path / "r/phone/last.pt").read_bytes() == good


def test_errors(features, small, tmp_path):
    out = f"--out {tmp_path / 'r'} --scores {tmp_path / 's'}"
    (tmp_path / "empty").mkdir()
    for source, says in (
        (tmp_path / "none", "not a folder"),
        (tmp_path / "empty", "no index.csv"),
        (small / "faces/frames", "features.npy"),
    ):
        assert says in adapt(f"--source {source} --target {features / 'phone'} {out}", fails=True)
    narrow = tmp_path / "narrow"
    shutil.copytree(features / "phone", narrow)
    args = f"--source {features / 'frames'} --target {narrow} {out}"
    np.save(narrow / "features.npy", np.zeros((48, 7), np.float32))
    assert "7 features" in adapt(args, fails=True)
    array = np.load(features / "phone/features.npy").copy()
    np.save(narrow / "features.npy", array)
    drop_val(narrow)
    for flags in ("--target-split val", f"--test {narrow} --test-split val"):
        assert f"{narrow} has no val split" in adapt(f"{args} {flags}", fails=True)
    # One value that is not finite, in an image that is not trained on, is found before training.
    array[-1, 3] = np.nan
    np.save(narrow / "features.npy", array)
    assert "not finite numbers" in adapt(f"{args} --target-fraction 0.1", fails=True)
    assert "--lr must be above 0" in adapt(f"{args} --lr -1", fails=True)
    (narrow / "index.csv").write_text("path,video\na,b\n")
    assert "no column" in adapt(args, fails=True)
    assert not (tmp_path / "r").exists()


def test_features_of_clips_are_adapted_as_they_are(small, tmp_path):
    """05 --save-features, then 04: the two papers combined."""
    from networks import clrnet

    clips, other = small / "faces/clips", small / "faces/clips-FS"
    run(
        f"05_train_clrnet.py --strategy single --source {clips} --epochs 1 {SMALL_CLRNET} "
        f"--out {tmp_path / 'c'} --test {clips} {other} --scores {tmp_path / 's'} "
        f"--save-features {tmp_path / 'features'}"
    )
    stored = np.load(tmp_path / "features/clips-FS/features.npy")
    index = rows_of(tmp_path / "features/clips-FS/index.csv")
    assert stored.shape == (24, 32) == (len(index), 4 * 4 * 2)
    assert {r["clip"] for r in index} == {"0", "1"}
    checkpoint = torch.load(tmp_path / "c/model.pt", weights_only=True)
    model = clrnet.CLRNet(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    items, faces_index, first, _ = loading.read_clips(other, "all")
    with torch.no_grad():
        vector = model.features(loading.Faces(items, 48)[3][None] / 255)[0]
    assert np.allclose(stored[3], vector, atol=1e-4)
    assert index[3]["video"] == faces_index["video"][first[3]]
    sets = f"--source {tmp_path / 'features/clips'} --target {tmp_path / 'features/clips-FS'}"
    adapt(f"{sets} {SHORT} --out {tmp_path / 'r'} --scores {tmp_path / 's4'}")
    scores, direct = (rows_of(tmp_path / s / "clips-FS.csv") for s in ("s4", "s"))
    assert [(r["video"], r["frame"]) for r in scores] == [(r["video"], r["frame"]) for r in direct]
    assert len(scores) == 8


# ---------------------------------------------------------------- DANN end to end


def test_end_to_end_reverses_the_gradient_into_the_backbone():
    """The backbone gets the label loss's gradient minus lambda times the domain loss's (equation
    1).
    """
    torch.manual_seed(0)
    model = train_dann.DANN("resnet18", 32, n1=8, n2=4, dropout=0.0).eval()
    images, d = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 2
    weight, first = 0.3, model.extractor.backbone.conv1.weight
    f = model.embed(images)
    label = F.cross_entropy(model.classify(f[:4]), d[:4])
    plain = F.cross_entropy(model.discriminate(f), d)
    reversed_ = bpdann.GradientReversal.apply(f, weight)
    both = label + F.cross_entropy(model.discriminate(reversed_), d)
    losses = (label, plain, both)
    a, b, c = (torch.autograd.grad(loss, first, retain_graph=True)[0] for loss in losses)
    assert torch.allclose(c, a - weight * b, atol=1e-6) and b.abs().sum() > 0
    assert not hasattr(model.extractor, "head")


@pytest.mark.slow
def test_end_to_end(small, tmp_path):
    """Kill and resume give the same files; target labels change nothing; the checkpoint rebuilds
    the network that was scored.
    """
    faces = tmp_path / "faces"
    shutil.copytree(small / "faces", faces)
    args = (
        "--arch resnet18 --weights none --image-size 32 --batch 8 --device cpu --workers 1 "
        f"--source {faces / 'frames'} --target {faces / 'phone'} --target-split val --epochs 3 "
        f"--test {faces / 'frames'} {faces / 'phone'}"
    ).split()
    script, part = "recipes/train_dann.py", tmp_path / "part"
    run(script, *args, "--out", tmp_path / "whole", "--scores", tmp_path / "s1")
    outputs = ("--out", part, "--scores", tmp_path / "s2")
    run_and_kill((part / "last.pt").exists, script, *args, *outputs)
    run(script, *args, *outputs)
    assert_same_tree(tmp_path / "whole", part)
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    checkpoint = torch.load(part / "model.pt", weights_only=True)
    model = train_dann.DANN(**checkpoint["kwargs"]).eval()
    model.load_state_dict(checkpoint["model"])
    row = rows_of(tmp_path / "s1/phone.csv")[0]
    file = faces / "phone" / row["video"] / f"{int(row['frame']):06d}.png"
    with torch.no_grad():
        p_fake = model(loading.load_face(file, 32)[None]).softmax(1)[0, 1].item()
    assert float(row["score"]) == pytest.approx(p_fake, abs=1e-4)
    change_labels(faces / "phone/index.csv", turned)
    run(script, *args, "--out", tmp_path / "turned", "--scores", tmp_path / "s3")
    assert same(weights_of(tmp_path / "turned/model.pt"), dict(checkpoint["model"]))

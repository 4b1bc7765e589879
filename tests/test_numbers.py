"""Numbers that must be right.

Scores keep the order of the logits to the last table; settings that change or end a run do what
they say.
"""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_CLRNET, SMALL_EXTRACTOR, call, rows_of, run, stage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import common
from media import splits
from reporting import metrics
from running import loading, processes

FINITE = dict(width=32, allow_nan=False, allow_infinity=False)


# ---------------------------------------------------------------- scores


pairs = st.tuples(st.integers(0, 1), st.floats(**FINITE), st.floats(**FINITE))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pairs, min_size=2, max_size=40))
@example([(0, 0.0, 0.0), (0, 2.0**-52, 0.0)])
def test_the_written_file_has_the_auc_of_the_logits(tmp_path, rows):
    labels = np.array([row[0] for row in rows])
    if len(set(labels.tolist())) < 2:
        labels[:2] = 0, 1
    logits = torch.tensor([row[1:] for row in rows])
    difference = common.margin(logits)
    assert difference.tolist() == [float(fake) - float(real) for real, fake in logits.tolist()]
    numbers = np.arange(len(rows))
    index = dict(video=[f"v{k}" for k in numbers], frame=numbers, label=labels)
    common.write_scores(tmp_path / "s.csv", index, numbers, difference)
    _, read_labels, scores, ranks = common.read_scores(tmp_path / "s.csv")
    auc = metrics.auc(labels, difference)
    assert metrics.auc(read_labels, ranks) == auc
    assert auc == pytest.approx(roc_auc_score(labels, difference), 1e-12)
    assert ((scores >= 0) & (scores <= 1)).all()
    # Nearer to 0 than this, float64's sigmoid may round to 0.5.
    is_clear = np.abs(difference) > 1e-15
    assert ((scores > 0.5) == (difference > 0))[is_clear].all()


def test_a_confident_network_keeps_its_order_through_04_and_06(tmp_path):
    """The tables' AUC is that of the logits, where float32's P(fake) could not tell them apart.

    Most scores are nearer than 1e-9 to 0 or 1.
    """
    rng = np.random.default_rng(0)
    for name, n, split in (("source", 64, ["train", "val"]), ("target", 200, ["test"])):
        labels = np.arange(n) % 2
        x = rng.normal(0, 1, (n, 16)).astype(np.float32)
        x[:, 0] += np.float32(1.5 if name == "target" else 4) * (2 * labels - 1)
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "features.npy", 40 * x)
        rows = [f"v{k}/0.png,v{k},0,,{labels[k]},m,{split[k // 2 % len(split)]}" for k in range(n)]
        header = "path,video,frame,clip,label,method,split"
        (tmp_path / name / "index.csv").write_text("\n".join([header, *rows, ""]))
    output = call(
        f"04_train_bpdann.py --method source-only --source {tmp_path}/source --target "
        f"{tmp_path}/target --epochs 30 --batch 8 --lr 1e-3 --device cpu --out {tmp_path}/r "
        f"--scores {tmp_path}/s/FT"
    )
    rows = rows_of(tmp_path / "s/FT/target.csv")
    columns = ("logit", "score", "label")
    logits, scores, labels = (np.array([float(row[name]) for row in rows]) for name in columns)
    confident = (np.minimum(scores, 1 - scores) < 1e-9).mean()
    assert confident > 0.5, "the features are not as confident as this test needs"
    checkpoint = torch.load(tmp_path / "r/target/model.pt", weights_only=True)
    network = stage("04_train_bpdann").BPDANN(**checkpoint["kwargs"]).eval()
    network.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        outputs = network(torch.from_numpy(np.load(tmp_path / "target/features.npy"))).double()
    of_network = (outputs[:, 1] - outputs[:, 0]).numpy()
    assert np.allclose(logits, of_network, rtol=1e-4, atol=1e-3)
    assert np.array_equal(np.argsort(logits), np.argsort(of_network))
    assert np.allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-12, atol=0)
    expected = roc_auc_score(labels, of_network)
    call(f"06_evaluate.py --scores {tmp_path}/s --out {tmp_path}/t --resamples 20")
    image, video = rows_of(tmp_path / "t/results.csv")
    assert float(image["auc"]) == pytest.approx(expected, abs=1e-6)
    assert f"AUC {100 * expected:.1f} %" in output
    assert float(image["auc_low"]) <= expected <= float(image["auc_high"])
    assert float(video["auc"]) == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)


def test_a_logit_that_does_not_fit_its_score(tmp_path):
    for logit, says in (
        ("nan", "logit is nan"),
        ("inf", "logit is inf"),
        ("-2.0", "is the sigmoid of the logit"),
        ("x", "logit is 'x'"),
    ):
        (tmp_path / "s.csv").write_text(f"video,frame,label,score,logit\na,0,1,0.9,{logit}\n")
        with pytest.raises(SystemExit, match=says):
            common.read_scores(tmp_path / "s.csv")


def test_a_detector_without_logits_is_ranked_by_its_scores(tmp_path):
    (tmp_path / "s.csv").write_text("video,frame,label,score,more\na,0,0,0.2,x\nb,0,1,0.7,y\n")
    _, _, scores, ranks = common.read_scores(tmp_path / "s.csv")
    assert ranks.tolist() == scores.tolist() == [0.2, 0.7]


def test_the_threshold_of_scores_near_1():
    """Of two scores with no number between them the upper one is the threshold."""
    low = 1 - 2**-53
    assert metrics.eer_threshold(np.array([0, 1]), np.array([low, 1.0])) == 1.0


# ---------------------------------------------------------------- settings


def test_parts_of_another_run_are_not_resumed_from(small, extractor, tmp_path):
    """03, killed and run again with another checkpoint, does not use what the first has left."""
    faces, other = small / "faces/frames", tmp_path / "r"
    run(
        f"02_pretrain_extractor.py --faces {faces} --out {other} --max-steps 1 --seed 7 "
        f"{SMALL_EXTRACTOR}"
    )
    flags = f"--faces {faces} --batch 8 --device cpu --precision fp32 --workers 0"
    for name, checkpoint in (("first", extractor), ("second", other / "model.pt")):
        call(f"03_extract_features.py --checkpoint {checkpoint} {flags} --out {tmp_path / name}")
    first, second = tmp_path / "first/frames", tmp_path / "second/frames"
    for k, changes in enumerate(("", "--allow-changes")):
        out = tmp_path / f"mixed{k}/frames"
        out.mkdir(parents=True)
        # What a kill after half of the batches leaves behind.
        (out / "args.json").write_bytes((first / "args.json").read_bytes())
        vectors = np.load(first / "features.npy")
        for k in range(3):
            rows = np.pad(vectors[8 * k : 8 * k + 8], [(0, 0), (0, 2)])
            np.save(out / f".part-{k}.npy", rows)
        args = f"--checkpoint {other}/model.pt {flags} --out {out.parent} {changes}"
        call(f"03_extract_features.py {args}")
        assert (out / "features.npy").read_bytes() == (second / "features.npy").read_bytes()
        inputs = [json.loads((f / "args.json").read_text())["inputs"] for f in (out, second)]
        assert inputs[0] == inputs[1]


def test_lambda_follows_the_training_as_it_is_configured_now(features, tmp_path):
    """--allow-changes with a larger batch and more epochs: p of equation 4 is that of all epochs.

    How many steps were taken before does not matter.
    """
    lambda_at = stage("04_train_bpdann").lambda_at
    sets = f"--source {features}/frames --target {features}/phone --device cpu"
    args = f"04_train_bpdann.py {sets} --out {tmp_path}/r --scores {tmp_path}/s"

    def log():
        return rows_of(tmp_path / "r/phone/log.csv")

    call(f"{args} --batch 2 --epochs 3")
    call(f"{args} --batch 8 --epochs 6 --allow-changes")
    assert [int(row["step"]) for row in log()] == [8, 16, 24, 26, 28, 30]
    for epoch in (4, 5, 6):
        expected = lambda_at((2 * epoch - 1) / (2 * 6 - 1))
        assert float(log()[epoch - 1]["lambda"]) == pytest.approx(expected, abs=1e-6)
    call(f"{args} --batch 4 --epochs 7 --allow-changes")
    assert float(log()[-1]["lambda"]) == pytest.approx(lambda_at(1), abs=1e-6)


@pytest.mark.parametrize("number", [pytest.param("02", marks=pytest.mark.slow), "05"])
def test_max_steps_ends_inside_an_epoch_and_the_rest_of_it_follows(small, tmp_path, number):
    line = {
        "02": f"02_pretrain_extractor.py --faces {small}/faces/frames {SMALL_EXTRACTOR} --batch 4",
        "05": f"05_train_clrnet.py --strategy single --source {small}/faces/clips {SMALL_CLRNET} "
        "--batch 2",
    }[number]
    whole, part = tmp_path / "whole", tmp_path / "part"
    line += " --epochs 2 --precision fp32"
    run(f"{line} --out {whole}")
    run(f"{line} --max-steps 3 --out {part}")
    last = torch.load(part / "last.pt", weights_only=True)
    assert (last["epoch"], last["batch"], last["step"]) == (0, 3, 3)
    rows = rows_of(part / "log.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3")]
    # Fewer than there were: nothing is left to do, and the result is not one of 2 steps.
    fewer = f"{line} --max-steps 2 --allow-changes --out {part}"
    assert "max_steps was 3, is 2" in run(fewer, fails=True)
    assert torch.load(part / "last.pt", weights_only=True)["step"] == 3
    run(f"{line} --allow-changes --out {part}")
    a, b = (torch.load(folder / "last.pt", weights_only=True) for folder in (whole, part))
    assert b["step"] == a["step"] and b["epoch"] == 2
    assert all(torch.equal(b["model"][k], v) for k, v in a["model"].items())
    assert (part / "log.csv").read_text() == (whole / "log.csv").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "00_make_demo_videos.py",
        "01_extract_faces.py --list x.csv",
        "02_pretrain_extractor.py --faces x",
        "04_train_bpdann.py --source x --target x --scores x",
        "05_train_clrnet.py --strategy single --source x",
        "06_evaluate.py --scores x",
    ],
)
def test_an_impossible_seed_is_named(tmp_path, capsys, monkeypatch, line):
    for seed in ("-1", "1.5", str(1 << 31)):
        script, *args = f"{line} --out {tmp_path / 'o'} --seed={seed}".split()
        monkeypatch.setattr("sys.argv", [script, *args])
        with pytest.raises(SystemExit, match="2"):
            stage(script.removesuffix(".py")).main()
        says = f"error: argument --seed: '{seed}' is not a whole number from 0 to 2147483647\n"
        assert capsys.readouterr().err.endswith(says) and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "number, says",
    [
        (errno.EACCES, "no access to x/y"),
        (errno.EPERM, "no access to x/y"),
        (errno.ENOSPC, "cannot write x/y"),
        (errno.ENOTDIR, "cannot write x/y"),
    ],
)
def test_no_access_is_not_called_a_failure_to_write(number, says):
    def main():
        raise OSError(number, os.strerror(number), "x/y")

    with pytest.raises(SystemExit, match=says):
        processes.run_script(main)


def test_an_error_in_a_loaders_process_is_not_called_too_little_memory(monkeypatch):
    class Loader:
        def __init__(self, *args, **kwargs):
            pass

        def __iter__(self):
            raise RuntimeError(self.message)

    monkeypatch.setattr(torch.utils.data, "DataLoader", Loader)
    Loader.message = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback ..."
    with pytest.raises(RuntimeError, match="Caught RuntimeError"):
        list(loading.load_batches([], [], 1))
    for Loader.message in (
        "DataLoader worker (pid 7) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
    ):
        with pytest.raises(SystemExit, match="memory"):
            list(loading.load_batches([], [], 1))


def test_workers_are_as_many_as_the_cores_this_process_may_use(tmp_path):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system cannot bind a process to a core")
    line = "00_make_demo_videos.py --identities 6 --frames 1 --methods Deepfakes"
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert "1 processes" in run(f"{line} --out {tmp_path}/o", fresh=True)
    finally:
        os.sched_setaffinity(0, before)


def test_no_file_stays_open_from_video_to_video(small, tmp_path):
    """A process that extracts video after video has as many open files after 30 as after 1."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted in /proc, which this system does not have")
    extract, layouts = stage("01_extract_faces"), stage("media.layouts")
    videos = [
        layouts.make_video(path, 0, "") for path in sorted((small / "videos").rglob("*.mp4"))[:10]
    ]
    splits.name_videos(videos)
    flags = dict(common.EXTRACTION, device="cpu")
    counts = []
    for video in videos * 3:
        extract.extract_video(dict(video, asked=3, boxes="largest"), tmp_path, flags)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert set(counts) == {counts[0]} and len(list(tmp_path.glob("*/faces.json"))) == 10

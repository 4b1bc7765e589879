"""The recipes with SMALL=1: all commands run, all results exist, second runs train nothing.

Each recipe runs once at its smallest, CLRNet's tables with one model; the slow tests add others.
"""

import csv
import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT, forked_python, run

from reporting import tables

feature_transfer = pytest.mark.xdist_group("recipes-feature-transfer")
clrnet = pytest.mark.xdist_group("recipes-clrnet")


def recipe(name, out, *args, **variables):
    """Run a recipe with SMALL=1 into OUT; returns what it printed."""
    forked_python(out.parent / "bin/python")
    path = f"{out.parent / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "SMALL": "1", "OUT": str(out), "PATH": path, **variables}
    done = subprocess.run(
        [ROOT / "recipes" / name, *map(str, args)],
        capture_output=True,
        text=True,
        env=env,
        cwd=out.parent,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def rows_of(file):
    with open(file) as lines:
        return list(csv.DictReader(lines))


def times_of(out, *patterns):
    """{file: the time of its last change} of what a second run should leave alone."""
    times = {path: path.stat().st_mtime_ns for p in patterns for path in out.glob(p)}
    assert times
    return times


def sets_of(scores):
    """The names of the sets that a detector's folder has scores of."""
    return {path.stem for path in scores.iterdir()}


# ---------------------------------------------------------------- FeatureTransfer


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_data):
    """(OUT, output) of figure3.sh, which runs table3.sh, which runs table2.sh."""
    out = tmp_path_factory.mktemp("recipes") / "out"
    shutil.copytree(small_data, out / "small-data")
    return out, recipe("figure3.sh", out)


@feature_transfer
def test_table_2(made):
    out, output = made
    table = (out / "results/table2.md").read_text()
    for name, split in tables.TABLE_2:
        assert f"| {name} | {split or 'all'} |" in table
    assert "differ from" in output or "warning" in output.lower(), (
        "six people per data set are not what the data sets should contain, and 01 says so"
    )
    assert sets_of(out / "faces") == {name for name, _ in tables.TABLE_2} | {"FF-all"}


@feature_transfer
def test_table_3(made):
    out, _ = made
    table = (out / "results/table3.md").read_text()
    for detector in ("Xception", "Se_Res", "FT"):
        assert f"| {detector} | ours |" in table
        assert sets_of(out / "scores" / detector) - {"FF-DF"} == set(tables.SETS)
    # As in Table 2: the test split of FF-FS, all images of the other sets.
    for name in ("FF-FS", "DFD", "DF-TIMIT", "DFDC-P", "Celeb-DF"):
        images = rows_of(out / "faces" / name / "index.csv")
        if name == "FF-FS":
            images = [row for row in images if row["split"] == "test"]
        for detector in ("Xception", "Se_Res", "FT"):
            scores = rows_of(out / "scores" / detector / f"{name}.csv")
            assert [(row["video"], row["frame"]) for row in scores] == [
                (row["video"], row["frame"]) for row in images
            ]


@feature_transfer
def test_figures(made):
    out, _ = made
    for name in ("figure2.png", "figure3.png"):
        assert (out / "results" / name).read_bytes().startswith(b"\x89PNG")
    for detector in tables.FIGURE_3:
        assert sets_of(out / "scores" / detector) == set(tables.SETS)


@feature_transfer
def test_figure_2_after_figure_3_trains_nothing(made):
    """figure2.sh extracts, trains and draws nothing that figure3.sh has made."""
    out, _ = made
    before = times_of(out, "runs/**/last.pt", "faces/**/*.png", "features*/**/features.npy")
    recipe("figure2.sh", out)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@feature_transfer
def test_a_data_set_of_your_own_is_adapted_to(made):
    """adapt.sh takes a folder of real/ and fake/."""
    out, _ = made
    mine = out / "mine"
    for label, source in (
        ("real", "original_sequences/youtube"),
        ("fake", "manipulated_sequences/Deepfakes"),
    ):
        (mine / label).mkdir(parents=True)
        for path in sorted((out / "small-data/videos/phone" / source / "c23/videos").iterdir())[:3]:
            (mine / label / path.name).symlink_to(path)
    output = recipe("adapt.sh", out, mine, "Mine")
    assert (out / "runs/FT/Mine/model.pt").exists()
    assert "Mine" in output.split("AUC / EER")[1]
    assert len(rows_of(out / "scores/FT/Mine.csv")) == 18


def test_adapt_without_arguments_shows_its_usage():
    done = subprocess.run([ROOT / "recipes/adapt.sh"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: recipes/adapt.sh VIDEOS NAME" in done.stderr


# ---------------------------------------------------------------- CLRNet

STRATEGIES = ("merge", "transfer-FS")


@pytest.fixture(scope="module")
def table_5(tmp_path_factory, small_data):
    """OUT after clrnet_table5.sh with CLRNet alone: every strategy but the search."""
    out = tmp_path_factory.mktemp("recipes-clrnet") / "out"
    shutil.copytree(small_data, out / "small-data")
    recipe("clrnet_table5.sh", out, MODELS="CLRNet")
    return out


@clrnet
def test_clrnet_table_5(table_5):
    out = table_5
    assert (out / "results/clrnet_table5.md").read_text().count("| ours |") == 2
    for strategy in STRATEGIES:
        assert sets_of(out / f"scores/CLRNet-{strategy}") == {"FS", "DF", "DFD", "F2F", "NT"}
    assert len(rows_of(out / "scores/CLRNet-merge/DF.csv")) == 8


def check_search(out, model, pairs):
    """A search with `pairs` pairs was chosen on one half of DFW; all of Table 6 is of the other."""
    rows = rows_of(out / f"runs/clrnet/{model}-search/search.csv")
    assert len({(row["reenactment"], row["swap"]) for row in rows}) == pairs
    halves = {
        row["video"]: row["split"] for row in rows_of(out / "faces/clips/halves/DFW/index.csv")
    }
    for detector in ("FS", "merge", "transfer-NT", "search"):
        tested = {row["video"] for row in rows_of(out / f"scores/{model}-{detector}/DFW.csv")}
        assert tested == {video for video, split in halves.items() if split == "test"}
    assert set(halves.values()) == {"val", "test"}


@clrnet
def test_clrnet_table_6_and_its_search(table_5):
    out = table_5
    before = times_of(out, "runs/clrnet/*/last.pt")
    output = recipe("clrnet_table6.sh", out, MODELS="CLRNet", SEARCH_SWAP="DF")
    assert {path: path.stat().st_mtime_ns for path in before} == before, (
        "what Table 5 has trained is not trained again"
    )
    assert (out / "results/clrnet_table6.md").read_text().count("| ours |") == 1
    assert output.count("3 pairs, 15 trainings (4 sources, 3 merge, 8 transfer)") == 1
    check_search(out, "CLRNet", 3)


def check_own_row(out, number, detector):
    """A table has a row of ours for a detector, with a number in each column."""
    table = (out / f"results/clrnet_table{number}.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith(f"| {detector} | ours |"))
    assert "| - |" not in row


@clrnet
@pytest.mark.parametrize("number", [3, 4])
def test_clrnet_tables_3_and_4(table_5, number):
    recipe(f"clrnet_table{number}.sh", table_5, MODELS="CLRNet")
    check_own_row(table_5, number, "CLRNet")


@clrnet
def test_figure_8(table_5):
    out = table_5
    recipe("figure8.sh", out)
    for name in ("DF", "FS", "F2F", "NT", "DFD"):
        picture = out / f"runs/clrnet/CLRNet-{name}/cam_{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
    picture = out / "runs/clrnet/CLRNet-transfer-NT/cam_DFW.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


@clrnet
def test_dfw_is_balanced(small_data, tmp_path):
    """The last 2 of 6 originals, and as many of the 6 fakes, drawn by their names."""
    lists = []
    for name in ("a", "b"):
        flags = ("--fakes", small_data / "DeepFake-in-the-Wild", "--split-in-order", 2, 2, 2)
        flags += ("--ffpp", small_data / "FaceForensics++", "--out", tmp_path / name)
        assert "2 of 6 fakes" in run("recipes/list_dfw.py", *flags)
        lists.append(rows_of(tmp_path / name))
    assert lists[0] == lists[1]
    names = {
        label: [r["path"].split("/")[-1] for r in lists[0] if r["label"] == label] for label in "01"
    }
    assert names["0"] == ["004.mp4", "005.mp4"]
    assert len(set(names["1"])) == 2 and set(names["1"]) <= {f"{k}.mp4" for k in range(6)}


@clrnet
@pytest.mark.slow
def test_dfw_is_your_fakes_and_pristine_test_videos(small_data, tmp_path):
    """Of Table 4: no detector is trained on its reals; DFW_FRAMES=all takes all 20 frames."""
    out = tmp_path / "all/out"
    shutil.copytree(small_data, out / "small-data")
    recipe("clrnet_table4.sh", out, MODELS="CLRNet", DFW_FRAMES="all")
    videos = rows_of(out / "faces/clips/DFW/videos.csv")
    assert sorted(row["label"] for row in videos) == ["0", "0", "1", "1"]
    reals = [row["source"] for row in videos if row["label"] == "0"]
    assert sorted(path.split("/")[-1] for path in reals) == ["004.mp4", "005.mp4"]
    assert all("original_sequences/youtube" in path for path in reals)
    splits = {row["source"]: row["split"] for row in rows_of(out / "faces/clips/F2F/videos.csv")}
    assert {splits[path] for path in splits if path.endswith(("/004.mp4", "/005.mp4"))} == {"test"}
    frames = [row["video"] for row in rows_of(out / "faces/clips/DFW/index.csv")]
    assert {frames.count(video) for video in frames} == {20}
    assert len(rows_of(out / "scores/CLRNet-F2F/DFW.csv")) == 4 * 4


@clrnet
def test_minutes_per_epoch_stand_beside_the_papers(table_5, tmp_path):
    """200 steps of 40 samples at 80 per second are 1.67 minutes, and so on: (5/3) / (0.4 + 0.1)."""
    text = "150 epochs of {} steps of {} samples; device cpu\nepoch 1: loss 0.5, no validation; "
    text += "{} samples per second, 3 % of the time waiting for data\n"
    logs = []
    for name, numbers in (
        ("merge", (200, 40, "80.0")),
        ("source", (120, 16, "80.0")),
        ("transfer", (12, 40, "80.0")),
    ):
        (tmp_path / name).write_text(text.format(*numbers))
        logs += [f"--{name}", tmp_path / name]
    output = run("recipes/minutes_per_epoch.py", *logs)
    assert "merge 1.67, source 0.40, transfer 0.10" in output
    assert "= 3.33; the paper: 33.6 / 8.3 = 4.05" in output
    # What 05 prints is read: the recipe's own logs have epochs.
    names = (("merge", "merge"), ("source", "FS"), ("transfer", "transfer-FS"))
    logs = [x for k, v in names for x in (f"--{k}", table_5 / f"logs/CLRNet-{v}.txt")]
    assert "minutes per epoch: merge " in run("recipes/minutes_per_epoch.py", *logs)


@clrnet
@pytest.mark.slow
def test_seeds_are_repeated_trainings_in_one_row(table_5):
    """SEEDS="0 1" trains twice, from the same faces; 06 shows mean and deviation."""
    out = table_5
    recipe("clrnet_table5.sh", out, MODELS="CLRNet", SEEDS="0 1")
    for detector in ("merge", "FS", "transfer-FS"):
        one, two = (rows_of(out / f"scores/CLRNet-{detector}@{seed}/FS.csv") for seed in (0, 1))
        assert [row["score"] for row in one] != [row["score"] for row in two]
        # Seed 0 is the training without SEEDS.
        alone = rows_of(table_5 / f"scores/CLRNet-{detector}/FS.csv")
        assert [row["score"] for row in one] == [row["score"] for row in alone]
    table = (out / "results/clrnet_table5.md").read_text()
    assert table.count("| ours |") == 2 and table.count("(n=2)") == 2 * 2 * 5


@clrnet
@pytest.mark.slow
def test_table_5_with_a_model_of_each_kind_of_sample(table_5):
    """Samples are those of 5.1.1: frames, clips of 5 (2 per video), clips of 20 (1 per video)."""
    out, models = table_5, ("CNN+LSTM", "MesoInception4", "CLRNet")
    before = times_of(out, "runs/clrnet/*/last.pt")
    recipe("clrnet_table5.sh", out, MODELS=" ".join(models))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "results/clrnet_table5.md").read_text().count("| ours |") == 6
    for model in models:
        for strategy in STRATEGIES:
            sets = sets_of(out / f"scores/{model}-{strategy}")
            assert sets >= {"FS", "DF", "DFD", "F2F", "NT"}
    rows = {model: len(rows_of(out / f"scores/{model}-merge/DF.csv")) for model in models}
    assert rows == {"CLRNet": 8, "CNN+LSTM": 4, "MesoInception4": 40}


@clrnet
@pytest.mark.slow
def test_table_6_with_the_searches_of_two_models(table_5):
    out = table_5
    shutil.rmtree(out / "runs/clrnet/CLRNet-search", ignore_errors=True)
    output = recipe("clrnet_table6.sh", out)
    assert (out / "results/clrnet_table6.md").read_text().count("| ours |") == 2
    assert output.count("9 pairs, 41 trainings (5 sources, 9 merge, 27 transfer)") == 2
    for model in ("CLRNet", "MesoInception4"):
        check_search(out, model, 9)


@clrnet
@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 4])
def test_tables_3_and_4_of_a_model_of_single_frames(table_5, number):
    recipe(f"clrnet_table{number}.sh", table_5, MODELS="MesoInception4")
    check_own_row(table_5, number, "MesoNet")


# ---------------------------------------------------------------- all recipes


def commands(name, folder, **variables):
    """The commands of a recipe at full size, each as a list of words; nothing is run."""
    stub = folder / "bin/python"
    stub.parent.mkdir(parents=True, exist_ok=True)
    stub.write_text('#!/bin/sh\necho "STUB $*"\n')
    stub.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if k != "SMALL"}
    env |= dict(DATA="/data", OUT=str(folder / "out"), PATH=f"{stub.parent}:{env['PATH']}")
    recipe = [ROOT / "recipes" / name]
    done = subprocess.run(recipe, capture_output=True, text=True, env=env | variables, check=True)
    lines = done.stdout.splitlines()
    return [line.split()[1:] for line in lines if line.startswith("STUB")], done.stdout


def test_baselines_are_trained_as_their_authors_do(tmp_path):
    """Single frames without augmentation; CNN+LSTM from ImageNet; nobody else so."""
    found, _ = commands("clrnet_table6.sh", tmp_path)
    models = {}
    for words in found:
        if words[0] in ("05_train_clrnet.py", "recipes/grid_search.py"):
            name = words[words.index("--out") + 1].rpartition("/")[2]
            models.setdefault(name.split("-")[0], []).append(words)
    assert {name: len(of) for name, of in models.items()} == dict.fromkeys(models, 5)
    assert len(models) == 6
    for name, trainings in models.items():
        is_single = name in ("ShallowNet", "Xception", "MesoInception4")
        assert {"--no-augment" in words for words in trainings} == {is_single}
        # A transfer starts from its source, and all others from these weights.
        weights = ["imagenet" in words for words in trainings if "transfer" not in words]
        assert weights == [name == "CNN+LSTM"] * 4


def test_the_detector_of_the_papers(tmp_path):
    """DETECTOR=mtcnn, for clips with the landmarks' center; without it dlib in every command."""
    for name in ("clrnet_table4.sh", "table2.sh"):
        for detector in ("dlib", "mtcnn"):
            found, _ = commands(
                name, tmp_path, **({} if detector == "dlib" else dict(DETECTOR=detector))
            )
            extractions = [words for words in found if words[0] == "01_extract_faces.py"]
            assert len(extractions) >= 6
            for words in extractions:
                assert words[words.index("--detector") + 1] == detector
                by_landmarks = detector == "mtcnn" and "clips" in words
                assert ("landmarks" in words) == by_landmarks


def test_table_3_of_feature_transfer_by_seed(tmp_path):
    """Xception has FaceForensics++'s settings; each seed has runs, features and scores of its own.

    Celeb-DF v2 is named.
    """
    faces = tmp_path / "out/faces/Celeb-DF"
    faces.mkdir(parents=True)
    (faces / "videos.csv").write_text("a,Celeb-synthesis\n" * 5639)
    found, output = commands("table3.sh", tmp_path, SEEDS="0 1 2")
    assert output.count("this is Celeb-DF v2; the paper counts v1") == 1
    trained = [words for words in found if words[0] == "02_pretrain_extractor.py"]
    for seed in "012":
        extractor, xception = [w for w in trained if w[w.index("--seed") + 1] == seed]
        assert "--lr" not in extractor and extractor[-1].endswith(f"runs/Se_Res@{seed}")
        assert xception[xception.index("--lr") + 1] == "2e-4"
        assert xception[xception.index("--batch") + 1] == "32"
    outputs = [w[w.index("--scores") + 1].rpartition("/")[2] for w in found if "--scores" in w]
    names = {f"{name}@{seed}" for name in ("Se_Res", "FT", "Xception") for seed in range(3)}
    assert set(outputs) == names | {"scores"}
    for words in found:
        if words[0] == "04_train_bpdann.py":
            seed = words[words.index("--seed") + 1]
            assert f"features@{seed}/FF-DF" in words[words.index("--source") + 1]
    (faces / "videos.csv").write_text("a,Celeb-synthesis\n" * 795)
    found, output = commands("table3.sh", tmp_path)
    assert "Celeb-DF v2" not in output and not any("@" in word for w in found for word in w)


def test_without_data_a_recipe_says_what_it_needs(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("DATA", "SMALL")}
    done = subprocess.run(
        [ROOT / "recipes/table2.sh"],
        capture_output=True,
        text=True,
        env={**env, "OUT": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "set DATA to the folder that contains FaceForensics++" in done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("*.sh")), ids=lambda path: path.name
)
def test_a_recipe_says_how_to_run_it_and_what_it_takes(path):
    if path.name.endswith("common.sh"):
        return
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    assert "SMALL=1" in head and f"recipes/{path.name}" in head
    assert re.search(r"minute|hour|seconds|days", head)
    assert "DETECTOR=mtcnn" in head
    assert os.access(path, os.X_OK)

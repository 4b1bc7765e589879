"""The recipes. Two run to their ends at SMALL=1, one of each method, and the slow tests run others;
of all of them the commands are read by the parsers of the programs, without running anything.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, call, forked_python, rows_of, run, stage

from reporting import figures, tables

feature_transfer = pytest.mark.xdist_group("recipes-feature-transfer")
clrnet = pytest.mark.xdist_group("recipes-clrnet")
# FeatureTransfer's recipes in an order in which each finds what it needs.
FEATURE_TRANSFER = ["table3.sh", "table2.sh", "figure2.sh", "figure3.sh", "adapt.sh"]
CLRNET = [*(f"clrnet_table{k}.sh" for k in (3, 4, 5, 6)), "figure8.sh"]


def start_recipe(name, out, args, variables):
    """Run a recipe with OUT/../bin first in PATH; returns what it printed."""
    env = {k: v for k, v in os.environ.items() if k not in ("DATA", "SMALL")}
    env |= dict(OUT=str(out), PATH=f"{out.parent / 'bin'}:{os.environ['PATH']}") | variables
    env["LOKY_MAX_CPU_COUNT"] = "1"  # worker processes: other tests have the other cores
    recipe = [ROOT / "recipes" / name, *map(str, args)]
    done = subprocess.run(recipe, capture_output=True, text=True, env=env, timeout=3600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def write_python(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def recipe(name, out, *args, **variables):
    """Run a recipe with SMALL=1 into OUT; returns what it printed.

    Stage 06 is called in this process after the recipe; of its figures only the bars are drawn.
    """
    forks = out.parent / "bin/forks"
    forked_python(forks)
    text = f'case $1 in 06*) echo "EVALUATE $*" ;; *) exec {forks} "$@" ;; esac'
    write_python(out.parent / "bin/python", text)
    output = start_recipe(name, out, args, dict(SMALL="1", **variables))
    with pytest.MonkeyPatch.context() as patch:
        for function in ("draw_roc", "draw_scores", "draw_learning", "draw_embeddings"):
            patch.setattr(figures, function, lambda *args: None)
        for line in re.findall("^EVALUATE (.*)", output, re.M):
            output += call(line)
    return output


def times_of(out):
    """{file: the time of its last change} of the trainings, faces and features below a folder."""
    return {
        path: path.stat().st_mtime_ns
        for pattern in ("runs/**/last.pt", "faces*/**/*.png", "features*/**/features.npy")
        for path in out.glob(pattern)
    }


def sets_of(scores):
    """The names of the sets that a detector's folder has scores of."""
    return {path.stem for path in scores.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_data):
    """(OUT, output) of figure3.sh, which runs table3.sh, which runs table2.sh."""
    out = tmp_path_factory.mktemp("recipes") / "out"
    shutil.copytree(small_data, out / "small-data")
    return out, recipe("figure3.sh", out)


@feature_transfer
def test_the_tables_and_figures_of_feature_transfer(made):
    out, output = made
    counts = (out / "results/table2.md").read_text()
    for name, split in tables.TABLE_2:
        assert f"| {name} | {split or 'all'} |" in counts
    assert "differ from" in output or "warning" in output.lower(), (
        "six people per data set are not what the data sets should contain, and 01 says so"
    )
    assert sets_of(out / "faces") == {name for name, _ in tables.TABLE_2} | {"FF-all"}

    table = (out / "results/table3.md").read_text()
    assert "unknown" not in table
    for detector in ("Xception", "Se_Res", "FT"):
        assert re.search(rf"^    {detector} +0 ", table, re.M), "its seed, below the table"
    # As in Table 2: the test split of FF-FS, all images of the other sets.
    for name in tables.SETS:
        images = rows_of(out / "faces" / name / "index.csv")
        if name == "FF-FS":
            images = [row for row in images if row["split"] == "test"]
        for detector in ("Xception", "Se_Res", "FT"):
            assert f"| {detector} | ours |" in table
            scores = rows_of(out / "scores" / detector / f"{name}.csv")
            assert [(row["video"], row["frame"]) for row in scores] == [
                (row["video"], row["frame"]) for row in images
            ]
    for detector in tables.FIGURE_3:
        assert sets_of(out / "scores" / detector) == set(tables.SETS)
    for name in ("figure2.png", "figure3.png"):
        assert (out / "results" / name).read_bytes().startswith(b"\x89PNG")


@feature_transfer
def test_a_data_set_of_your_own_is_adapted_to(made, small):
    """adapt.sh takes a folder of real/ and fake/."""
    out, _ = made
    mine = out / "mine"
    for label, source in (("real", "original_sequences"), ("fake", "manipulated_sequences")):
        (mine / label).mkdir(parents=True)
        for path in sorted((small / "videos/phone" / source).rglob("*.mp4"))[:3]:
            (mine / label / path.name).symlink_to(path)
    before = times_of(out)
    output = recipe("adapt.sh", out, mine, "Mine")
    assert before.items() <= times_of(out).items()
    assert (out / "runs/FT/Mine/model.pt").exists()
    assert "Mine" in output.split("AUC / EER")[1]
    assert len(rows_of(out / "scores/FT/Mine.csv")) == 18


def test_a_recipe_says_what_it_needs(tmp_path):
    for name, error in (
        ("adapt.sh", "usage: recipes/adapt.sh VIDEOS NAME"),
        ("table2.sh", "set DATA to the folder that contains FaceForensics++"),
    ):
        with pytest.raises(AssertionError, match=re.escape(error)):
            start_recipe(name, tmp_path / "out", (), {})


@pytest.fixture(scope="module")
def table_5(tmp_path_factory, small_data):
    """(OUT/clrnet, output) of clrnet_table5.sh with CLRNet alone."""
    out = tmp_path_factory.mktemp("recipes-clrnet") / "out"
    shutil.copytree(small_data, out / "small-data")
    return out / "clrnet", recipe("clrnet_table5.sh", out, MODELS="CLRNet")


def check_table(out, number, rows):
    """A table of CLRNet has these rows of ours, with a number in each column; returns its text."""
    text = (out / f"results/clrnet_table{number}.md").read_text()
    ours = [line for line in text.splitlines() if "| ours |" in line]
    assert len(ours) == rows and not any("| - |" in line for line in ours)
    assert "unknown" not in text
    return text


@clrnet
def test_clrnet_table_5(table_5):
    out, output = table_5
    assert re.search("^    CLRNet-merge +0 ", check_table(out, 5, 2), re.M), "its seed"
    assert "FeatureTransfer" not in (out / "results/table2.md").read_text()
    for strategy in ("merge", "transfer-FS"):
        assert sets_of(out / f"scores/CLRNet-{strategy}") == {"FS", "DF", "DFD", "F2F", "NT"}
    assert len(rows_of(out / "scores/CLRNet-merge/DF.csv")) == 8
    # What 05 prints is read by minutes_per_epoch.py.
    assert "minutes per epoch: merge " in output


def test_minutes_per_epoch_stand_beside_the_papers(tmp_path):
    """200 steps of 40 samples at 80 per second are 1.67 minutes, and so on: (5/3) / (0.4 + 0.1)."""
    text = "150 epochs of {} steps of {} samples; device cpu\nepoch 1: loss 0.5, no validation; "
    text += "80.0 samples per second, 3 % of the time waiting for data\n"
    line = "recipes/minutes_per_epoch.py"
    for name, steps, samples in (("merge", 200, 40), ("source", 120, 16), ("transfer", 12, 40)):
        (tmp_path / name).write_text(text.format(steps, samples))
        line += f" --{name} {tmp_path / name}"
    output = run(line)
    assert "merge 1.67, source 0.40, transfer 0.10" in output
    assert "= 3.33; the paper: 33.6 / 8.3 = 4.05" in output


@clrnet
def test_dfw_is_balanced(small_data, tmp_path):
    """The last 2 of 6 originals, and as many of the 6 fakes, drawn by their names."""
    line = f"recipes/list_dfw.py --fakes {small_data / 'DeepFake-in-the-Wild'} --ffpp "
    line += f"{small_data / 'FaceForensics++'} --split-in-order 2 2 2 --out {tmp_path}"
    for name in ("a", "b"):
        assert "2 of 6 fakes" in run(f"{line}/{name}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    names = {"0": [], "1": []}
    for row in rows_of(tmp_path / "a"):
        names[row["label"]].append(Path(row["path"]).name)
    assert names["0"] == ["004.mp4", "005.mp4"]
    assert len(set(names["1"])) == 2 and set(names["1"]) <= {f"{k}.mp4" for k in range(6)}


@clrnet
@pytest.mark.slow
def test_seeds_are_repeated_trainings_in_one_row(table_5):
    """SEEDS="0 1" trains twice, from the same faces; 06 shows mean and deviation."""
    out, _ = table_5
    recipe("clrnet_table5.sh", out.parent, MODELS="CLRNet", SEEDS="0 1")
    for detector in ("merge", "FS", "transfer-FS"):
        one, two = (rows_of(out / f"scores/CLRNet-{detector}@{seed}/FS.csv") for seed in (0, 1))
        assert [row["score"] for row in one] != [row["score"] for row in two]
        # Seed 0 is the training without SEEDS.
        alone = rows_of(out / f"scores/CLRNet-{detector}/FS.csv")
        assert [row["score"] for row in one] == [row["score"] for row in alone]
    assert check_table(out, 5, 2).count("(n=2)") == 2 * 2 * 5


@pytest.fixture(scope="module")
def all_tables(tmp_path_factory):
    """(OUT/clrnet, {recipe: output}) of Tables 3 to 6 and Figure 8, on videos of 20 frames.

    Each table is checked at once, as the models of later ones have only a part of it.
    """
    out = tmp_path_factory.mktemp("recipes-all") / "out"
    two = dict(MODELS="CLRNet MesoInception4", SEARCH_SWAP="DF")
    outputs, before = {}, {}
    for name, rows, variables in (
        ("clrnet_table3.sh", 2, two),
        ("clrnet_table4.sh", 2, two | dict(DFW_FRAMES="all")),
        ("clrnet_table5.sh", 6, dict(MODELS="CNN+LSTM MesoInception4 CLRNet")),
        ("clrnet_table6.sh", 2, two),
        ("figure8.sh", 0, {}),
    ):
        outputs[name] = recipe(name, out, **variables)
        if rows:
            check_table(out / "clrnet", name[12], rows)
        times = times_of(out / "clrnet")
        assert before.items() <= times.items(), f"{name} makes again what it should share"
        before = times
    return out / "clrnet", outputs


@clrnet
@pytest.mark.slow
def test_tables_3_to_6_of_several_models_and_figure_8(all_tables):
    """Samples are those of 5.1.1: frames, clips of 5 (2 per video), clips of 20 (1 per video)."""
    out, outputs = all_tables
    models = ("CNN+LSTM", "MesoInception4", "CLRNet")
    rows = [len(rows_of(out / f"scores/{model}-merge/DF.csv")) for model in models]
    assert rows == [4, 40, 8]
    pictures = [f"CLRNet-{name}/cam_{name}.png" for name in ("DF", "FS", "F2F", "NT", "DFD")]
    for picture in (*pictures, "CLRNet-transfer-NT/cam_DFW.png"):
        assert (out / "runs" / picture).read_bytes().startswith(b"\x89PNG")

    # The searches choose on one half of DFW, and all of Table 6 is of the other.
    pairs = "3 pairs, 15 trainings (4 sources, 3 merge, 8 transfer)"
    assert outputs["clrnet_table6.sh"].count(pairs) == 2
    halves = {row["video"]: row["split"] for row in rows_of(out / "faces/halves/DFW/index.csv")}
    assert set(halves.values()) == {"val", "test"}
    for model in ("CLRNet", "MesoInception4"):
        searched = rows_of(out / f"runs/{model}-search/search.csv")
        assert len({(row["reenactment"], row["swap"]) for row in searched}) == 3
        for detector in ("FS", "merge", "transfer-NT", "search"):
            tested = {row["video"] for row in rows_of(out / f"scores/{model}-{detector}/DFW.csv")}
            assert tested == {video for video, split in halves.items() if split == "test"}


@clrnet
@pytest.mark.slow
def test_dfw_is_your_fakes_and_pristine_test_videos(all_tables):
    """Of Table 4: no detector is trained on its reals; DFW_FRAMES=all takes all 20 frames."""
    out, _ = all_tables
    videos = rows_of(out / "faces/DFW/videos.csv")
    assert sorted(row["label"] for row in videos) == ["0", "0", "1", "1"]
    reals = [row["source"] for row in videos if row["label"] == "0"]
    assert sorted(Path(path).name for path in reals) == ["004.mp4", "005.mp4"]
    # There they are below the folder of FaceForensics++, here below that of all data.
    splits = {row["source"]: row["split"] for row in rows_of(out / "faces/F2F/videos.csv")}
    assert {splits[path.removeprefix("FaceForensics++/")] for path in reals} == {"test"}
    frames = [row["video"] for row in rows_of(out / "faces/DFW/index.csv")]
    assert {frames.count(video) for video in frames} == {20}
    assert len(rows_of(out / "scores/CLRNet-F2F/DFW.csv")) == 4 * 4


# ---------------------------------------------------------------- the commands of all recipes


def commands(name, folder, *args, **variables):
    """The commands of a recipe, each as a list of words, and what it printed; nothing is run.

    Each --out and --scores becomes a folder with an index.csv.
    """
    record = "printf STUB; printf '\\t%s' \"$@\"; echo\n"
    record += 'for word; do case $last in --out | --scores) mkdir -p "$word"; '
    record += 'touch "$word/index.csv" "$word/videos.csv" ;; esac; last=$word; done'
    write_python(folder / "bin/python", record)
    output = start_recipe(name, folder / "out", args, dict(DATA=str(folder), **variables))
    lines = [line for line in output.splitlines() if line.startswith("STUB")]
    return [line.split("\t")[1:] for line in lines], output


def value_of(words, flag):
    return words[words.index(flag) + 1]


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """parse(words) -> the program of a command and its flags as its own parser reads them."""
    for name in "FaceForensics++ Celeb-DF DFDC DFDC-Preview DeepfakeTIMIT VidTIMIT".split():
        for data in (tmp_path, tmp_path / "out/small-data"):
            (data / name).mkdir(parents=True)

    def network(path, _):
        name = path.parent.name
        return dict(network="MesoInception4" if "Meso" in name else name.split("-")[0])

    monkeypatch.setattr(stage("05_train_clrnet"), "load_checkpoint", network)

    def parse(words):
        program = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
        monkeypatch.setattr(sys, "argv", words)
        if not hasattr(program, "parse_args"):
            return program, dict(out=Path(value_of(words, "--out"))) if "--out" in words else {}
        flags = vars(program.parse_args())
        if "training" in flags:  # what the search hands on to 05
            line = "05_train_clrnet.py --strategy single --source a --out b"
            parse([*line.split(), *flags["training"]])
        return program, flags

    return parse


@pytest.mark.parametrize("small", ["0", "1"])
@pytest.mark.parametrize("names", [FEATURE_TRANSFER, CLRNET], ids=["FeatureTransfer", "CLRNet"])
def test_all_commands_fit_together(tmp_path, parse, names, small):
    """Each is read by its program's parser, and reads what an earlier one has written.

    Recipes that write to one folder do so with the same flags: what one has made, another skips.
    """
    inputs = ("faces", "source", "target", "test", "reenactment", "swap", "validation")
    written, settings = set(), {}
    for name in names:
        if name in CLRNET:
            written.clear()  # it needs no other recipe
        args = (tmp_path, "Mine") if name == "adapt.sh" else ()
        found, _ = commands(name, tmp_path, *args, SMALL=small)
        assert "06_evaluate.py" in {words[0] for words in found}
        for words in found:
            program, flags = parse(words)
            if words[0] == "06_evaluate.py" or "out" not in flags:
                continue
            checkpoint = flags.get("checkpoint")
            read = [flags.get("list"), checkpoint and checkpoint.parent]
            for flag in inputs:
                value = flags.get(flag)
                read += value if isinstance(value, list) else [value]
            assert set(filter(None, read)) <= written, words
            # 03 and 04 write a folder for each set.
            flag = {"03": "faces", "04": "target"}.get(words[0][:2])
            sets = [path.name for path in flags.pop(flag)] if flag else [""]
            folders = [flags["out"] / name for name in sets]
            written.update(folders)
            for flag in getattr(program, "RUNTIME_FLAGS", ()):
                flags.pop(flag, None)
            assert [settings.setdefault(folder, flags) for folder in folders] == [flags] * len(sets)


@pytest.mark.parametrize("name", ["adaptation", "moons", "real_faces", "real_videos", "strategies"])
def test_the_commands_of_experiments(tmp_path, parse, name):
    """Each is read by its program's parser; the checkpoints that 05 reads hold their networks."""
    found, _ = commands(f"experiment_{name}.sh", tmp_path, WEIGHTS=str(tmp_path), SEEDS="10 11")
    assert {words[0] for words in found} >= {"06_evaluate.py", "recipes/paired.py"}
    for words in found:
        if "--videos" in words:
            Path(value_of(words, "--videos")).mkdir(parents=True, exist_ok=True)
        parse(words)


def test_baselines_are_trained_as_their_authors_do(tmp_path):
    """Single frames without augmentation; CNN+LSTM from ImageNet; nobody else so."""
    found, _ = commands("clrnet_table6.sh", tmp_path)
    models = {}
    for words in found:
        if words[0] in ("05_train_clrnet.py", "recipes/grid_search.py"):
            name = Path(value_of(words, "--out")).name
            models.setdefault(name.split("-")[0], []).append(words)
    assert [len(trainings) for trainings in models.values()] == [5] * 6
    for name, trainings in models.items():
        is_single = name in ("ShallowNet", "Xception", "MesoInception4")
        assert {"--no-augment" in words for words in trainings} == {is_single}
        # A transfer starts from its source, and all others from these weights.
        weights = ["imagenet" in words for words in trainings if "transfer" not in words]
        assert weights == [name == "CNN+LSTM"] * 4


@pytest.mark.parametrize("name", ["clrnet_table4.sh", "table2.sh"])
def test_the_detector_of_the_papers(tmp_path, name):
    """DETECTOR=mtcnn, for clips with the landmarks' center; without it dlib in every command."""
    for detector, variables in (("dlib", {}), ("mtcnn", dict(DETECTOR="mtcnn"))):
        found, _ = commands(name, tmp_path, **variables)
        extractions = [words for words in found if words[0] == "01_extract_faces.py"]
        assert len(extractions) >= 6
        for words in extractions:
            assert value_of(words, "--detector") == detector
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
    for seed in "012":
        of_seed = [
            words for words in found if "--seed" in words and value_of(words, "--seed") == seed
        ]
        extractor, *adaptations, xception = of_seed
        assert "--lr" not in extractor and extractor[-1].endswith(f"runs/Se_Res@{seed}")
        assert value_of(xception, "--lr") == "2e-4" and value_of(xception, "--batch") == "32"
        for words in adaptations:
            assert f"features@{seed}/FF-DF" in value_of(words, "--source")
    outputs = [Path(value_of(words, "--scores")).name for words in found if "--scores" in words]
    names = {f"{name}@{seed}" for name in ("Se_Res", "FT", "Xception") for seed in range(3)}
    assert set(outputs) == names | {"scores"}
    (faces / "videos.csv").write_text("a,Celeb-synthesis\n" * 795)
    found, output = commands("table3.sh", tmp_path)
    assert "Celeb-DF v2" not in output and not any("@" in word for w in found for word in w)


@pytest.mark.parametrize("name", [*FEATURE_TRANSFER, *CLRNET])
def test_a_recipe_says_how_to_run_it_and_what_it_takes(name):
    path = ROOT / "recipes" / name
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    assert "SMALL=1" in head and f"recipes/{name}" in head
    assert re.search(r"minute|hour|seconds|days", head)
    assert "DETECTOR=mtcnn" in head
    assert os.access(path, os.X_OK)

"""The recipes as they stand, with SMALL=1: every command runs, every result is there, and a second run trains nothing."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from reporting import papers


def recipe(name, out, *args, **variables):
    """Run a recipe with SMALL=1 into OUT; returns what it printed."""
    env = {
        **os.environ,
        "SMALL": "1",
        "OUT": str(out),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **variables,
    }
    done = subprocess.run(
        [ROOT / "recipes" / name, *map(str, args)],
        capture_output=True,
        text=True,
        env=env,
        cwd=out.parent,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(OUT, output) of figure3.sh, which runs table3.sh, which runs table2.sh."""
    out = tmp_path_factory.mktemp("recipes") / "out"
    return out, recipe("figure3.sh", out)


def test_table_2(made):
    out, output = made
    table = (out / "results/table2.md").read_text()
    for name, split in papers.TABLE_2:
        assert f"| {name} | {split or 'all'} |" in table
    assert "differ from" in output or "warning" in output.lower(), (
        "six people a data set are not what the data sets should hold, and 01 says so"
    )
    assert {p.name for p in (out / "faces").iterdir()} == {name for name, _ in papers.TABLE_2} | {
        "FF-all"
    }


def test_table_3(made):
    out, _ = made
    table = (out / "results/table3.md").read_text()
    for detector in ("Xception", "Se_Res", "FT"):
        assert f"| {detector} | ours |" in table
        assert {p.stem for p in (out / "scores" / detector).iterdir()} - {"FF-DF"} == set(
            papers.SETS
        )
    # As in Table 2: the test split of FF-FS, all images of the other sets.
    for name, split in (
        ("FF-FS", "test"),
        ("DFD", None),
        ("DF-TIMIT", None),
        ("DFDC-P", None),
        ("Celeb-DF", None),
    ):
        images = [
            r
            for r in csv.DictReader(open(out / "faces" / name / "index.csv"))
            if split in (None, r["split"])
        ]
        for detector in ("Xception", "Se_Res", "FT"):
            assert [
                (r["video"], r["frame"])
                for r in csv.DictReader(open(out / "scores" / detector / f"{name}.csv"))
            ] == [(r["video"], r["frame"]) for r in images]


def test_figures(made):
    out, _ = made
    for name in ("figure2.png", "figure3.png"):
        assert (out / "results" / name).read_bytes().startswith(b"\x89PNG")
    for detector in papers.FIGURE_3:
        assert {p.stem for p in (out / "scores" / detector).iterdir()} == set(papers.SETS)


def test_again_trains_nothing_and_a_set_of_ones_own_is_adapted_to(made):
    """figure2.sh after figure3.sh extracts, trains and draws nothing anew; adapt.sh then takes a folder of real/ and fake/."""
    out, _ = made
    before = {
        p: p.stat().st_mtime_ns
        for pattern in ("runs/**/last.pt", "faces/**/*.png")
        for p in out.glob(pattern)
    }
    recipe("figure2.sh", out)
    assert before and {p: p.stat().st_mtime_ns for p in before} == before
    mine = out / "mine"
    for label, source in (
        ("real", "original_sequences/youtube"),
        ("fake", "manipulated_sequences/Deepfakes"),
    ):
        (mine / label).mkdir(parents=True)
        for path in sorted((out / "small-data/videos/phone" / source / "c23/videos").iterdir())[:3]:
            (mine / label / path.name).symlink_to(path)
    output = recipe("adapt.sh", out, mine, "Mine")
    assert (out / "runs/FT/Mine/model.pt").exists() and "Mine" in output.split("AUC / EER")[1]
    assert len(list(csv.DictReader(open(out / "scores/FT/Mine.csv")))) == 18
    done = subprocess.run([ROOT / "recipes/adapt.sh"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: recipes/adapt.sh VIDEOS NAME" in done.stderr


# ---------------------------------------------------------------- CLRNet


@pytest.fixture(scope="module")
def clrnet(made):
    """OUT after clrnet_table5.sh with a model of each kind of sample: every strategy but the search."""
    out, _ = made
    models = "CNN+LSTM MesoInception4 CLRNet"
    recipe("clrnet_table5.sh", out, MODELS=models)
    return out, models.split()


def test_clrnet_table_5(clrnet):
    out, models = clrnet
    table = (out / "results/clrnet_table5.md").read_text()
    assert table.count("| ours |") == 6
    for model in models:
        for strategy in ("merge", "transfer-FS"):
            assert {p.stem for p in (out / f"scores/{model}-{strategy}").iterdir()} >= {
                "FS",
                "DF",
                "DFD",
                "F2F",
                "NT",
            }
    # Each model sees 5.1.1's samples: single frames, clips of 5 (of 2 a video), clips of 20 (1 a video).
    rows = {
        model: len(list(csv.DictReader(open(out / f"scores/{model}-merge/DF.csv"))))
        for model in models
    }
    assert rows == {"CLRNet": 8, "CNN+LSTM": 4, "MesoInception4": 40}


def test_clrnet_table_6_and_its_search(clrnet):
    out, _ = clrnet
    trained = {p: p.stat().st_mtime_ns for p in out.glob("runs/clrnet/*/last.pt")}
    output = recipe("clrnet_table6.sh", out)
    assert {p: p.stat().st_mtime_ns for p in trained} == trained, (
        "what Table 5 trained is not trained again"
    )
    assert (out / "results/clrnet_table6.md").read_text().count("| ours |") == 2
    assert output.count("9 pairs, 21 trainings (3 sources, 9 merge, 9 transfer)") == 2
    for model in ("CLRNet", "MesoInception4"):
        assert len(list(csv.DictReader(open(out / f"runs/clrnet/{model}-search/search.csv")))) == 18
        # Chosen on one half of DFW, tested on the other.
        halves = {
            r["video"]: r["split"]
            for r in csv.DictReader(open(out / "faces/clips/halves/DFW/index.csv"))
        }
        tested = {r["video"] for r in csv.DictReader(open(out / f"scores/{model}-search/DFW.csv"))}
        assert tested == {video for video, split in halves.items() if split == "test"} and set(
            halves.values()
        ) == {"val", "test"}


@pytest.mark.parametrize("number", [3, 4])
def test_clrnet_tables_3_and_4(clrnet, number):
    out, _ = clrnet
    recipe(f"clrnet_table{number}.sh", out, MODELS="MesoInception4")
    table = (out / f"results/clrnet_table{number}.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| MesoNet | ours |"))
    assert "| - |" not in row


def test_figure_8(clrnet):
    out, _ = clrnet
    recipe("figure8.sh", out)
    for name in ("DF", "FS", "F2F", "NT", "DFD"):
        assert (
            (out / f"runs/clrnet/CLRNet-{name}/cam_{name}.png").read_bytes().startswith(b"\x89PNG")
        )


def test_without_data_a_recipe_says_what_it_needs(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("DATA", "SMALL")}
    done = subprocess.run(
        [ROOT / "recipes/table2.sh"],
        capture_output=True,
        text=True,
        env={**env, "OUT": str(tmp_path)},
    )
    assert done.returncode and "set DATA to the folder that holds FaceForensics++" in done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("*.sh")), ids=lambda path: path.name
)
def test_a_recipe_says_how_to_run_it_what_it_takes_and_what_it_needs(path):
    head = re.match(r"(#.*\n)+", path.read_text())[0]
    if not path.name.endswith("common.sh"):
        assert (
            "SMALL=1" in head
            and os.access(path, os.X_OK)
            and f"recipes/{path.name}" in head
            and re.search(r"minute|hour|seconds|days", head)
        )

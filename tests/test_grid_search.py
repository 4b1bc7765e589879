"""The restricted grid search (CLRNet, Algorithm 1): the pairs, what is kept and best, the
trainings, kill and resume.
"""

import csv

import pytest
from conftest import SMALL_CLRNET, assert_same_tree, run, run_and_kill
from hypothesis import given
from hypothesis import strategies as st

from training import grid_search


def test_all_pairs_of_the_paper():
    pairs = [
        (i, j)
        for i in grid_search.subsets(("F2F", "NT"))
        for j in grid_search.subsets(("DF", "FS", "DFD"))
    ]
    assert (
        len(pairs) == 21
        and pairs[0] == (("F2F",), ("DF",))
        and pairs[-1] == (("F2F", "NT"), ("DF", "FS", "DFD"))
    )


def test_what_is_kept_and_what_is_best():
    """Transfer only if better than merge; of equal pairs that with fewer sets, then the first."""
    a, b, c = (("F2F",), ("DF", "FS")), (("F2F",), ("DF",)), (("NT",), ("DF",))
    kept, best = grid_search.choose(
        {
            a: dict(transfer=0.9, merge=0.8),
            b: dict(transfer=0.7, merge=0.9),
            c: dict(transfer=0.9, merge=0.9),
        }
    )
    assert kept == {a: "transfer", b: "merge", c: "merge"} and best == b
    assert (
        grid_search.choose({a: dict(transfer=0.91, merge=0.8), b: dict(transfer=0.9, merge=0.9)})[1]
        == a
    )


@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(grid_search.subsets("ab")), st.sampled_from(grid_search.subsets("xyz"))
        ),
        st.fixed_dictionaries(dict(transfer=st.integers(0, 4), merge=st.integers(0, 4))),
        min_size=1,
    )
)
def test_the_best_is_best(measured):
    kept, best = grid_search.choose(measured)
    top = max(value for found in measured.values() for value in found.values())
    assert measured[best][kept[best]] == top
    assert all(
        len(best[0]) + len(best[1]) <= len(i) + len(j)
        for (i, j), found in measured.items()
        if max(found.values()) == top
    )


@pytest.fixture(scope="module")
def sets(small, tmp_path_factory):
    """Folders F2F and NT, DF, and DFW with val and test, all of six people, two clips a video."""
    folder = tmp_path_factory.mktemp("sets")
    for name, method in (("F2F", "Face2Face"), ("NT", "NeuralTextures"), ("DF", "Deepfakes")):
        run(
            "01_extract_faces.py",
            "--layout",
            "ffpp",
            "--videos",
            small / "videos/studio",
            "--method",
            method,
            "--sampling",
            "clips",
            "--num-clips",
            1,
            "--size",
            48,
            "--out",
            folder / name,
        )
    run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/phone",
        "--method",
        "FaceSwap",
        "--sampling",
        "clips",
        "--num-clips",
        1,
        "--size",
        48,
        "--out",
        folder / "DFW",
    )
    return folder


def test_search(sets, tmp_path):
    """3 pairs, 9 trainings; killed in the middle and run again, all files are those of an
    undisturbed run; a third run trains nothing.
    """
    args = (
        "--strategy",
        "search",
        "--reenactment",
        sets / "F2F",
        sets / "NT",
        "--swap",
        sets / "DF",
        "--validation",
        sets / "DFW",
        "--test",
        sets / "DFW",
        "--few-shot",
        1,
        "--epochs",
        1,
        *SMALL_CLRNET,
    )
    whole, part = tmp_path / "whole", tmp_path / "part"
    output = run("05_train_clrnet.py", *args, "--out", whole, "--scores", tmp_path / "s1")
    assert (
        "3 pairs, 9 trainings (3 sources, 3 merge, 3 transfer), 0 done already" in output
        and "split val" in output
    )
    assert "training samples in all; one takes" in output
    rows = list(csv.DictReader(open(whole / "search.csv")))
    assert [(r["reenactment"], r["swap"], r["strategy"]) for r in rows] == [
        (i, "DF", s) for i in ("F2F", "NT", "F2F+NT") for s in ("transfer", "merge")
    ]
    assert sum(r["kept"] == "1" for r in rows) == 3
    (best,) = [r for r in rows if r["best"] == "1"]
    assert best["kept"] == "1" and float(best["accuracy"]) == max(
        float(r["accuracy"]) for r in rows
    )
    name = (
        f"merge/{best['reenactment']}+DF"
        if best["strategy"] == "merge"
        else f"transfer/{best['reenactment']}-to-DF"
    )
    assert (whole / name / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()
    for r in rows:  # the CSV says what the score files say
        name = (
            f"merge/{r['reenactment']}+DF"
            if r["strategy"] == "merge"
            else f"transfer/{r['reenactment']}-to-DF"
        )
        scores = list(csv.DictReader(open(whole / name / "scores/DFW.csv")))
        assert float(r["accuracy"]) == pytest.approx(
            sum((float(s["score"]) >= 0.5) == (s["label"] == "1") for s in scores) / len(scores),
            abs=1e-5,
        )
        assert len(scores) == 4
    assert len(list(csv.DictReader(open(tmp_path / "s1/DFW.csv")))) == 4

    run_and_kill(
        (part / "merge/NT+DF/model.pt").exists,
        "05_train_clrnet.py",
        *args,
        "--out",
        part,
        "--scores",
        tmp_path / "s2",
    )
    output = run("05_train_clrnet.py", *args, "--out", part, "--scores", tmp_path / "s2")
    assert "0 done already" not in output
    # args.json of a transfer names the checkpoint by its path, and its checkpoints hold it
    for name in (
        "search.csv",
        "source/F2F+NT/model.pt",
        "merge/F2F+NT+DF/model.pt",
        "transfer/NT-to-DF/scores/DFW.csv",
    ):
        assert (whole / name).read_bytes() == (part / name).read_bytes(), name
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    assert "9 done already" in run(
        "05_train_clrnet.py", *args, "--out", part, "--scores", tmp_path / "s2"
    )


def test_search_errors(sets, copy, tmp_path):
    whole = copy(sets / "DFW")
    lines = (
        (whole / "index.csv")
        .read_text()
        .replace(",train,", ",,")
        .replace(",val,", ",,")
        .replace(",test,", ",,")
    )
    (whole / "index.csv").write_text(lines)
    args = (
        "--strategy",
        "search",
        "--reenactment",
        sets / "F2F",
        "--swap",
        sets / "DF",
        "--epochs",
        1,
        *SMALL_CLRNET,
        "--out",
        tmp_path / "r",
    )
    assert "cannot both choose the best and test it" in run(
        "05_train_clrnet.py",
        *args,
        "--validation",
        whole,
        "--test",
        whole,
        "--scores",
        tmp_path / "s",
        fails=True,
    )
    assert "same name" in run("05_train_clrnet.py", *args, "--validation", sets / "DF", fails=True)

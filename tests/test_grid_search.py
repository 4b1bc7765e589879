"""The restricted grid search (CLRNet, Algorithm 1): the pairs, what is kept and best, the
trainings, kill and resume.
"""

import argparse
import csv

import pytest
from conftest import SMALL_CLRNET, assert_same_tree, run, run_and_kill
from hypothesis import given
from hypothesis import strategies as st

from running import grid_search


def plan(tmp_path):
    """The trainings of the paper's five sets, without the sets themselves."""
    names = dict(reenactment=("F2F", "NT"), swap=("DF", "FS", "DFD"))
    groups = {group: [tmp_path / name for name in of] for group, of in names.items()}
    folders = {folder.name: folder for folder in sum(groups.values(), [])}
    args = argparse.Namespace(
        **groups, validation=tmp_path / "DFW", out=tmp_path, model="CLRNet", epochs=None, batch=None
    )
    return grid_search.plan_trainings(args, folders)


def test_all_pairs_of_the_paper(tmp_path):
    """21 pairs; of each the merge, a transfer from each set to the others, one from i to j."""
    jobs, of_pair = plan(tmp_path)
    pairs = list(of_pair)
    assert len(pairs) == 21 and pairs[0] == (("F2F",), ("DF",))
    assert pairs[-1] == (("F2F", "NT"), ("DF", "FS", "DFD"))
    for (i, j), names in of_pair.items():
        merge, *transfers = names
        assert jobs[merge].strategy == "merge"
        assert {folder.name for folder in jobs[merge].source} == {*i, *j}
        assert len(transfers) == len(i) + len(j) + (len(i) > 1)
        for name in transfers:
            assert jobs[name].strategy == "transfer"
            source = jobs[str(jobs[name].checkpoint.parent.relative_to(tmp_path))]
            sets = [folder.name for folder in (*source.source, *jobs[name].target)]
            assert sorted(sets) == sorted((*i, *j)), "each set is source or target"
            assert list(jobs).index(name) > list(jobs).index(f"source/{source.out.name}")
    sources = [name for name in jobs if name.startswith("source")]
    assert sorted(sources) == [f"source/{n}" for n in ("DF", "DFD", "F2F", "F2F+NT", "FS", "NT")]
    assert len(jobs) == len(sources) + 21 + 71


def test_the_papers_own_combinations_are_searched(tmp_path):
    """NT -> {DF, FS, DFD, F2F} of Table 6, and FS -> {DF, NT} and FS u DF u NT of 4.3.3."""
    jobs, _ = plan(tmp_path)
    for source, targets in (("NT", {"DF", "FS", "DFD", "F2F"}), ("FS", {"DF", "NT"})):
        (job,) = [
            job
            for job in jobs.values()
            if job.strategy == "transfer"
            and job.checkpoint == tmp_path / f"source/{source}/model.pt"
            and {folder.name for folder in job.target} == targets
        ]
        assert job.epochs == 150
    assert "merge/NT+DF+FS" in jobs


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
    accuracy = {"merge/x": 0.5, "transfer/1": 0.6, "transfer/2": 0.7, "transfer/3": 0.7}
    assert grid_search.choose({a: accuracy})[0] == {a: "transfer/2"}
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


@pytest.mark.slow
def test_search(sets, tmp_path):
    """3 pairs, 15 trainings; killed in the middle and run again, all files are those of an
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
    assert "3 pairs, 15 trainings (4 sources, 3 merge, 8 transfer), 0 done already" in output
    assert "split val" in output and "training samples in all; one takes" in output
    assert "GB of checkpoints in the end" in output
    rows = list(csv.DictReader(open(whole / "search.csv")))
    assert [(r["reenactment"], r["training"]) for r in rows] == [
        ("F2F", "merge/F2F+DF"),
        ("F2F", "transfer/F2F-to-DF"),
        ("F2F", "transfer/DF-to-F2F"),
        ("NT", "merge/NT+DF"),
        ("NT", "transfer/NT-to-DF"),
        ("NT", "transfer/DF-to-NT"),
        ("F2F+NT", "merge/F2F+NT+DF"),
        ("F2F+NT", "transfer/F2F-to-NT+DF"),
        ("F2F+NT", "transfer/NT-to-F2F+DF"),
        ("F2F+NT", "transfer/DF-to-F2F+NT"),
        ("F2F+NT", "transfer/F2F+NT-to-DF"),
    ]
    assert {r["swap"] for r in rows} == {"DF"}
    assert sum(r["kept"] == "1" for r in rows) == 3
    (best,) = [r for r in rows if r["best"] == "1"]
    highest = max(float(r["accuracy"]) for r in rows)
    assert best["kept"] == "1" and float(best["accuracy"]) == highest
    chosen = (whole / best["training"] / "model.pt").read_bytes()
    assert chosen == (whole / "model.pt").read_bytes()
    for r in rows:  # the CSV says what the score files say
        assert r["strategy"] == r["training"].split("/")[0]
        scores = list(csv.DictReader(open(whole / r["training"] / "scores/DFW.csv")))
        assert float(r["accuracy"]) == pytest.approx(
            sum((float(s["score"]) >= 0.5) == (s["label"] == "1") for s in scores) / len(scores),
            abs=1e-5,
        )
        assert len(scores) == 4
    # All sources and merges keep their checkpoint, and of the transfers only the best.
    transfers = [r for r in rows if r["strategy"] == "transfer"]
    best_transfer = max(transfers, key=lambda r: (float(r["accuracy"]), -int(r["sets"])))
    kept = {str(path.parent.relative_to(whole)) for path in whole.glob("*/*/model.pt")}
    assert kept == {
        best_transfer["training"],
        *(r["training"] for r in rows if r["strategy"] == "merge"),
        *(f"source/{name}" for name in ("F2F", "NT", "F2F+NT", "DF")),
    }
    assert list(whole.rglob("last.pt")) == []
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
    assert {path.relative_to(part) for path in part.rglob("*.pt")} == {
        path.relative_to(whole) for path in whole.rglob("*.pt")
    }
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    assert "15 done already" in run(
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

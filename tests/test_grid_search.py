"""The restricted grid search (CLRNet, Algorithm 1): the pairs, what is kept and best, the
trainings, kill and resume.
"""

import shutil
from importlib import import_module

import pytest
import torch
from conftest import SMALL_CLRNET, assert_same_tree, rows_of, run, run_and_kill
from hypothesis import given
from hypothesis import strategies as st

grid_search = import_module("recipes.grid_search")


def plan(tmp_path):
    """The trainings of the paper's five sets, without the sets themselves."""
    groups = ({name: tmp_path / name for name in of} for of in (("F2F", "NT"), ("DF", "FS", "DFD")))
    return grid_search.plan_trainings(*groups, tmp_path)


def names_after(flag, flags):
    """The names of the folders that follow a flag of 05."""
    return [folder.name for folder in flags[flags.index(flag) + 1 :]]


def test_all_pairs_of_the_paper(tmp_path):
    """21 pairs; of each the merge, a transfer from each set to the others, one from i to j."""
    trainings, of_pair = plan(tmp_path)
    pairs = list(of_pair)
    assert len(pairs) == 21 and pairs[0] == (("F2F",), ("DF",))
    assert pairs[-1] == (("F2F", "NT"), ("DF", "FS", "DFD"))
    for (i, j), names in of_pair.items():
        merge, *transfers = names
        assert trainings[merge][:3] == ["--strategy", "merge", "--source"]
        assert set(names_after("--source", trainings[merge])) == {*i, *j}
        assert len(transfers) == len(i) + len(j) + (len(i) > 1)
        for name in transfers:
            flags = trainings[name]
            assert flags[:3] == ["--strategy", "transfer", "--checkpoint"]
            source = str(flags[3].parent.relative_to(tmp_path))
            sets = [*names_after("--source", trainings[source]), *names_after("--target", flags)]
            assert sorted(sets) == sorted((*i, *j)), "each set is source or target"
            assert list(trainings).index(name) > list(trainings).index(source)
    sources = [name for name in trainings if name.startswith("source")]
    assert sorted(sources) == [f"source/{n}" for n in ("DF", "DFD", "F2F", "F2F+NT", "FS", "NT")]
    assert len(trainings) == len(sources) + 21 + 71


def test_the_papers_own_combinations_are_searched(tmp_path):
    """NT -> {DF, FS, DFD, F2F} of Table 6, and FS -> {DF, NT} and FS u DF u NT of 4.3.3."""
    trainings, _ = plan(tmp_path)
    for source, targets in (("NT", {"DF", "FS", "DFD", "F2F"}), ("FS", {"DF", "NT"})):
        checkpoint = tmp_path / f"source/{source}/model.pt"
        of_source = [flags for flags in trainings.values() if checkpoint in flags]
        assert [set(names_after("--target", f)) for f in of_source].count(targets) == 1
    assert "merge/NT+DF+FS" in trainings


def test_what_is_kept_and_what_is_best():
    """Transfer only if better than merge; of equal pairs that with fewer sets, then the first."""
    a, b, c = (("F2F",), ("DF", "FS")), (("F2F",), ("DF",)), (("NT",), ("DF",))
    equal = {a: dict(transfer=0.9, merge=0.8), b: dict(transfer=0.7, merge=0.9)}
    kept, best = grid_search.choose(equal | {c: dict(transfer=0.9, merge=0.9)})
    assert kept == {a: "transfer", b: "merge", c: "merge"} and best == b
    accuracy = {"merge/x": 0.5, "transfer/1": 0.6, "transfer/2": 0.7, "transfer/3": 0.7}
    assert grid_search.choose({a: accuracy})[0] == {a: "transfer/2"}
    better = {a: dict(transfer=0.91, merge=0.8), b: dict(transfer=0.9, merge=0.9)}
    assert grid_search.choose(better)[1] == a


PAIRS = st.tuples(*(st.sampled_from(grid_search.subsets(names)) for names in ("ab", "xyz")))
ACCURACY = st.fixed_dictionaries(dict(transfer=st.integers(0, 4), merge=st.integers(0, 4)))


@given(st.dictionaries(PAIRS, ACCURACY, min_size=1))
def test_the_best_is_best(measured):
    kept, best = grid_search.choose(measured)
    top = max(value for accuracy in measured.values() for value in accuracy.values())
    assert measured[best][kept[best]] == top
    equals = [pair for pair, values in measured.items() if max(values.values()) == top]
    assert sum(map(len, best)) == min(sum(map(len, pair)) for pair in equals)


@pytest.fixture(scope="module")
def sets(small, tmp_path_factory):
    """Folders F2F, NT and DF, and DFW with val and test, all of six people, two clips a video."""
    folder = tmp_path_factory.mktemp("sets")
    for name, source in dict(F2F="clips", NT="clips-FS", DF="clips", DFW="clips-FS").items():
        shutil.copytree(small / "faces" / source, folder / name)
    return folder


def search(sets, reenactment, *flags, **more):
    """Run the search with --swap DF; `reenactment`: names of sets."""
    groups = ("--reenactment", *(sets / name for name in reenactment), "--swap", sets / "DF")
    flags = ("recipes/grid_search.py", *groups, *flags, "--epochs", 1, *SMALL_CLRNET)
    return run(*flags, **more) if "ready" not in more else run_and_kill(more["ready"], *flags)


@pytest.mark.slow
def test_search(sets, tmp_path):
    """3 pairs, 15 trainings; killed in the middle and run again, all files are those of an
    undisturbed run; a third run trains nothing.
    """
    whole, part = tmp_path / "whole", tmp_path / "part"
    flags = (sets, ("F2F", "NT"), "--few-shot", 1, "--validation", sets / "DFW")
    flags += ("--test", sets / "DFW")
    output = search(*flags, "--out", whole, "--scores", tmp_path / "s1")
    assert "3 pairs, 15 trainings (4 sources, 3 merge, 8 transfer), 0 done already" in output
    assert "split val" in output
    rows = rows_of(whole / "search.csv")
    names = {
        "F2F": "merge/F2F+DF transfer/F2F-to-DF transfer/DF-to-F2F",
        "NT": "merge/NT+DF transfer/NT-to-DF transfer/DF-to-NT",
        "F2F+NT": "merge/F2F+NT+DF transfer/F2F-to-NT+DF transfer/NT-to-F2F+DF "
        "transfer/DF-to-F2F+NT transfer/F2F+NT-to-DF",
    }
    expected = [(pair, name) for pair, text in names.items() for name in text.split()]
    assert [(r["reenactment"], r["training"]) for r in rows] == expected
    assert {r["swap"] for r in rows} == {"DF"}
    assert sum(r["kept"] == "1" for r in rows) == 3
    (best,) = [r for r in rows if r["best"] == "1"]
    highest = max(float(r["accuracy"]) for r in rows)
    assert best["kept"] == "1" and float(best["accuracy"]) == highest
    files = (whole / best["training"] / "model.pt", whole / "best/model.pt")
    winner, copied = (torch.load(file, weights_only=True)["model"] for file in files)
    assert all(torch.equal(winner[name], copied[name]) for name in winner)
    for r in rows:  # the CSV says what the score files say
        assert r["strategy"] == r["training"].split("/")[0]
        scores = rows_of(whole / r["training"] / "scores/DFW.csv")
        right = sum((float(s["score"]) >= 0.5) == (s["label"] == "1") for s in scores)
        assert float(r["accuracy"]) == pytest.approx(right / len(scores), abs=1e-5)
        assert len(scores) == 4 * 2
    # All sources and merges keep their checkpoint, and of the transfers only the best.
    transfers = [r for r in rows if r["strategy"] == "transfer"]
    best_transfer = max(transfers, key=lambda r: (float(r["accuracy"]), -int(r["sets"])))
    kept = {str(path.parent.relative_to(whole)) for path in whole.glob("*/*/model.pt")}
    assert kept == {
        best_transfer["training"],
        *(r["training"] for r in rows if r["strategy"] == "merge"),
        *(f"source/{name}" for name in ("F2F", "NT", "F2F+NT", "DF")),
    }
    assert list(whole.glob("*/*/last.pt")) == []
    assert len(rows_of(tmp_path / "s1/DFW.csv")) == 4 * 2

    outputs = ("--out", part, "--scores", tmp_path / "s2")
    search(*flags, *outputs, ready=(part / "merge/NT+DF/model.pt").exists)
    assert "0 done already" not in search(*flags, *outputs)
    # args.json of a transfer names the checkpoint by its path, and its checkpoints hold it
    same = "search.csv source/F2F+NT/model.pt merge/F2F+NT+DF/model.pt"
    for name in f"{same} transfer/NT-to-DF/scores/DFW.csv".split():
        assert (whole / name).read_bytes() == (part / name).read_bytes(), name
    left = ({path.relative_to(out) for path in out.rglob("*.pt")} for out in (whole, part))
    assert next(left) == next(left)
    assert_same_tree(tmp_path / "s1", tmp_path / "s2")
    assert "15 done already" in search(*flags, *outputs)


def test_search_errors(sets, copy, tmp_path):
    whole = copy(sets / "DFW")
    text = (whole / "index.csv").read_text()
    for split in ("train", "val", "test"):
        text = text.replace(f",{split},", ",,")
    (whole / "index.csv").write_text(text)
    flags = ("--out", tmp_path / "r", "--validation")
    more = (whole, "--test", whole, "--scores", tmp_path / "s")
    output = search(sets, ("F2F",), *flags, *more, fails=True)
    assert "cannot both choose the best and test it" in output
    assert "same name" in search(sets, ("F2F",), *flags, sets / "DF", fails=True)

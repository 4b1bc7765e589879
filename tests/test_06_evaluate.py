"""Stage 06 and its metrics: against scikit-learn, on known answers, on degenerate input."""

import csv
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import run, shared, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from reporting import charts, figures, metrics, papers, tables

evaluate = stage("06_evaluate")
scores_with_ties = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda k: k / 8)), min_size=1, max_size=60
)


def eer_by_search(labels, scores):
    """The crossing of the two error rates, found by walking along the ROC curve in small steps."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    t = np.linspace(0, len(fpr) - 1, 200_001)
    x, y = np.interp(t, np.arange(len(fpr)), fpr), np.interp(t, np.arange(len(fpr)), tpr)
    return x[np.argmin(np.abs(1 - y - x))]


def measure_by_sklearn(labels, scores):
    """All metrics by scikit-learn, and the EER by `eer_by_search`."""
    names = ("precision", "recall", "f1")
    called_fake = scores >= 0.5
    by_class = precision_recall_fscore_support(
        labels, called_fake, labels=[0, 1], zero_division=np.nan
    )
    values = dict(accuracy=accuracy_score(labels, called_fake))
    for name, pair in zip(names, by_class):
        values |= {name: pair[1], f"{name}_macro": pair.mean()}
    if len(set(labels)) < 2:
        return values | dict.fromkeys(("auc", "eer", "average_precision"), np.nan)
    return values | dict(
        auc=roc_auc_score(labels, scores),
        eer=eer_by_search(labels, scores),
        average_precision=average_precision_score(labels, scores),
    )


@given(scores_with_ties)
@settings(max_examples=150, deadline=None)
def test_all_metrics_agree_with_sklearn(pairs):
    labels, scores = np.array([y for y, _ in pairs]), np.array([s for _, s in pairs])
    found, expected = metrics.measure(labels, scores, scores), measure_by_sklearn(labels, scores)
    assert list(found) == list(metrics.METRICS) and found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = 2e-4 if name == "eer" else 1e-12
        assert found[name] == pytest.approx(value, abs=tolerance, nan_ok=True), name
    assert found["auc"] == pytest.approx(metrics.auc(labels, scores), nan_ok=True, abs=0)


@given(scores_with_ties, st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_resample_gives_what_measuring_its_copies_gives(pairs, seed):
    """The metrics of a resample are those of scores repeated as often as they weigh."""
    labels, scores = np.array([y for y, _ in pairs]), np.array([s for _, s in pairs])
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 5, len(labels))
    weights = rng.integers(0, 3, (1, 5))
    weights[0, groups[0]] = 1
    times = weights[0][groups]
    labels_, scores_ = np.repeat(labels, times), np.repeat(scores, times)
    expected = metrics.measure(labels_, scores_, scores_)
    found = metrics.measure_resampled(labels, scores, scores, groups, weights)
    assert found.keys() == expected.keys() == metrics.METRICS.keys()
    for name in expected:
        assert found[name][0] == pytest.approx(expected[name], abs=1e-9, nan_ok=True), name


def test_many_different_scores_share_points():
    """With more distinct scores than points of a curve, AUC, EER and AP move less than 1 / points.

    The other metrics do not move at all.
    """
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, 20_000)
    labels = (groups % 3 > 0).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(0.8 * labels, 1)))
    # 40 resamples are more than are computed at a time.
    weights = rng.multinomial(200, np.full(200, 1 / 200), size=40)
    exact = metrics.measure_resampled(labels, scores, scores, groups, weights)
    found = metrics.measure_resampled(labels, scores, scores, groups, weights, bins=500)
    for name in metrics.METRICS:
        tolerance = 1 / 500 if name in ("auc", "eer", "average_precision") else 0
        assert np.abs(found[name] - exact[name]).max() <= tolerance, name
    times = weights[39][groups]
    for name, value in metrics.measure(
        np.repeat(labels, times), np.repeat(scores, times), np.repeat(scores, times)
    ).items():
        assert exact[name][39] == pytest.approx(value, abs=1e-9), name


def test_a_thinned_roc_curve_is_the_curve():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(0, 2, 50_000), rng.normal(0, 1, 50_000)
    scores = 1 / (1 + np.exp(-noise - labels))
    x, y = metrics.roc(labels, scores)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert 2000 < len(x) <= 4000 < len(fpr) and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (
        set(zip(x, y)) <= set(zip(fpr, tpr))
        and np.abs(np.trapezoid(y, x) - roc_auc_score(labels, scores)) < 1e-5
    )
    assert (np.diff(x) + np.diff(y)).max() <= 2 / 4000 + (np.diff(fpr) + np.diff(tpr)).max()
    assert metrics.roc(np.ones(3), np.ones(3)) == ([], [])


def test_known_answers():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    found = metrics.measure(labels, scores, scores)
    assert found["auc"] == 0.75 and found["eer"] == 0.5 and found["accuracy"] == 0.5
    assert found["precision"] == found["recall"] == found["f1"] == found["f1_macro"] == 0.5
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, scores))
    for scores, metric, value in (
        (np.array([0.1, 0.2, 0.8, 0.9]), "eer", 0),
        (np.full(4, 0.5), "auc", 0.5),
    ):
        assert metrics.measure(labels, scores, scores)[metric] == value


def test_no_warnings_and_no_crash_on_one_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.measure(np.ones(3, int), *[np.array([0.2, 0.7, 0.9])] * 2)
    assert (
        np.isnan(found["auc"]) and np.isnan(found["eer"]) and np.isnan(found["average_precision"])
    )
    assert found["recall"] == pytest.approx(2 / 3) and found["precision"] == 1


def write(path, rows, header="video,frame,label,score"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "\n" + "\n".join(rows) + "\n")


def test_tables_and_figures(tmp_path):
    good = [
        f"v{k},{f},{k % 2},{0.2 + 0.6 * (k % 2) + 0.01 * f}" for k in range(6) for f in range(3)
    ]
    write(tmp_path / "s/ours/A.csv", good)
    write(tmp_path / "s/ours/B.csv", [row for row in good if row.split(",")[2] == "1"])
    write(tmp_path / "s/theirs/A.csv", [f"{r.rsplit(',', 1)[0]},0.5" for r in good])
    output = run(
        "06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 50
    )
    assert "100.00 / 0.00" in output and "50.00 / 50.00" in output and "undefined" in output
    rows = {
        (r["detector"], r["set"], r["level"]): r
        for r in csv.DictReader(open(tmp_path / "r/results.csv"))
    }
    assert len(rows) == 6
    assert rows["ours", "A", "image"]["rows"] == "18" and rows["ours", "A", "video"]["rows"] == "6"
    assert rows["ours", "A", "video"]["real"] == rows["ours", "A", "video"]["fake"] == "3"
    assert (
        float(rows["ours", "A", "image"]["auc"]) == 1 and rows["ours", "B", "image"]["auc"] == "nan"
    )
    text = (tmp_path / "r/tables.md").read_text()
    assert "| ours | **100.00 [100.0, 100.0]** | undefined |" in text
    assert text.count("## ") == 2 * len(metrics.METRICS)
    for name in ("roc_A", "roc_B", "scores_A", "scores_B", "auc", "figure2"):
        assert (tmp_path / "r" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "r" / f"{name}.pdf").read_bytes().startswith(b"%PDF")

    assert not (tmp_path / "r/table3.md").exists() and not (tmp_path / "r/figure3.png").exists()


def read_markdown(path):
    """The rows of a Markdown table as lists of cells."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text().splitlines()
        if line.startswith("| ")
    ]


def test_table_3_stands_beside_the_papers(tmp_path):
    """Ours, the paper's and the difference where there are scores; other rows are quoted."""
    # AUC 75, EER 50.
    rows = ["a,0,0,0.1", "b,0,0,0.6", "c,0,1,0.4", "d,0,1,0.9"]
    write(tmp_path / "s/FT/Celeb-DF.csv", rows)
    write(tmp_path / "s/FT/DFD.csv", ["c,0,1,0.4"])
    write(tmp_path / "s/mine/Celeb-DF.csv", ["a,0,0,0.1", "c,0,1,0.4"])
    output = run(
        "06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 10
    )
    rows = read_markdown(tmp_path / "r/table3.md")
    assert rows[0] == ["", "", "DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF"]
    ours, paper, difference = rows[-3:]
    assert ours == ["FT", "ours", "-", "-", "- / -", "-", "75.00 / 50.00"]
    assert paper == [
        "",
        "paper",
        "96.56 / 8.05",
        "88.62 / 19.52",
        "91.00 / 16.21",
        "98.77 / 5.75",
        "86.21 / 22.42",
    ]
    assert difference == ["", "difference", "-", "-", "- / -", "-", "-11.21 / +27.58"]
    assert [row[:2] for row in rows[2:-3]] == [
        ["Xception", "paper"],
        ["FSSpotter", "paper"],
        ["Face X-ray", "paper"],
        ["Se_Res", "paper"],
    ]
    assert rows[3][2:] == ["97.33 / -", "-", "-", "-", "76.26 / -"] and "mine" not in str(rows)
    assert "-11.21 / +27.58" in output


def test_clrnets_tables_stand_beside_the_papers(tmp_path):
    """Tables 3 to 6: accuracy and macro F1 with intervals; a mean only if all sets are scored."""
    # One of two is right in each class.
    half = ["a,0,0,0.1", "b,0,0,0.6", "c,0,1,0.4", "d,0,1,0.9"]
    good = ["a,0,0,0.1", "b,0,0,0.2", "c,0,1,0.8", "d,0,1,0.9"]
    for name in ("DF", "FS", "DFD", "DFDC", "F2F", "NT"):
        write(
            tmp_path / f"s/CLRNet-{name}/{name}.csv", good if name in ("DF", "FS", "DFD") else half
        )
    write(tmp_path / "s/MesoInception4-F2F/DFW.csv", half)
    write(tmp_path / "s/CNN+LSTM-merge/NT.csv", good)
    write(tmp_path / "s/CLRNet-transfer-FS/DF.csv", good)
    for detector, rows in (("FS", half), ("merge", good), ("transfer-NT", half), ("search", good)):
        write(tmp_path / f"s/CLRNet-{detector}/DFW.csv", rows)
    output = run(
        "06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 10
    )

    others = ["paper", "difference"]

    def found(number, label):
        rows = read_markdown(tmp_path / f"r/clrnet_table{number}.md")
        k = next(k for k, row in enumerate(rows) if row[0] == label)
        assert [row[1] for row in rows[k : k + 4]] == ["ours", "ours, F1 (macro)", *others]
        ours, f1, paper, difference = (
            [cell.split(" [")[0] for cell in row[2:]] for row in rows[k : k + 4]
        )
        # Each class has as many right answers in these score files: accuracy and macro F1 agree.
        assert f1 == ours
        return ours, paper, difference

    ours, paper, difference = found(3, "CLRNet")
    assert (
        ours == ["100.00"] * 3 + ["50.00"] * 3 + ["80.00"]
        and paper[0] == "99.20 ± 0.1"
        and paper[-1] == "98.61"
    )
    assert difference == ["+0.80", "+0.50", "+4.00", "-46.76", "-49.20", "-49.50", "-18.61"]
    assert (
        found(4, "MesoNet")[0] == ["-"] * 5 + ["50.00"]
        and found(4, "MesoNet")[1][5] == "49.77 ± 0.2"
    )
    assert found(4, "CLRNet")[0] == ["50.00"] + ["-"] * 5
    assert (
        found(5, "CNN+LSTM, merge")[0] == ["-"] * 4 + ["100.00", "-"]
        and found(5, "CLRNet, transfer")[2][1] == "+2.77"
    )
    ours, paper, difference = found(6, "CLRNet")
    assert ours == ["50.00", "100.00", "50.00", "100.00"] and paper == [
        "50.65 ± 0.9",
        "84.95 ± 0.2",
        "93.86 ± 0.2",
        "95.92",
    ]
    assert difference == ["-0.65", "+15.05", "-43.86", "+4.08"]
    title = "CLRNet, Table 6: open-domain, on DFW, balanced accuracy and macro F1 in percent"
    assert title in output
    assert "Avg. is over the cells that the paper averages" in output
    assert not (tmp_path / "r/table3.md").exists()


@pytest.mark.slow
def test_accuracy_is_compared_and_the_papers_cells_are_averaged(tmp_path):
    """A detector that calls everything real: accuracy 50, lower macro F1; ShallowNet with DFDC.

    Accuracy is balanced: with three reals and two fakes, it is 50 and not 60.
    """
    real = ["a,0,0,0.1", "b,0,0,0.2", "b,1,0,0.2", "c,0,1,0.3", "d,0,1,0.4"]
    good = ["a,0,0,0.1", "b,0,0,0.2", "c,0,1,0.8", "d,0,1,0.9"]
    for name in ("DF", "FS", "DFD", "DFDC", "F2F", "NT"):
        for model in ("CLRNet", "ShallowNet"):
            write(tmp_path / f"s/{model}-{name}/{name}.csv", real if name == "DFDC" else good)
    write(tmp_path / "s/CLRNet-F2F/NT.csv", real)
    run("06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 10)
    rows = read_markdown(tmp_path / "r/clrnet_table3.md")
    averages = {row[0]: float(row[-1]) for row in rows if row[1] == "ours"}
    assert averages == {"CLRNet": 100.0, "ShallowNet": pytest.approx(91.67)}
    rows = read_markdown(tmp_path / "r/clrnet_table4.md")
    k = next(k for k, row in enumerate(rows) if row[:2] == ["CLRNet", "ours"])
    accuracy, f1, paper, difference = (row[6].split(" [")[0] for row in rows[k : k + 4])
    assert (accuracy, f1, paper, difference) == ("50.00", "37.50", "50.60 ± 0.1", "-0.60")


def test_the_papers_tables_are_whole():
    for t in papers.TABLES:
        assert all(
            len(cells) == len(t["columns"]) == len(where) + bool(t["mean"])
            for _, where, cells in t["rows"]
        ), t["title"]
    assert [len(t["rows"]) for t in papers.TABLES] == [5, 6, 6, 12, 6]
    # The paper's averages are the means of its rows, without DFDC in Table 3 except ShallowNet's.
    for t in papers.TABLES:
        for label, _, cells in t["rows"] if t["mean"] else ():
            *values, mean = [float(cell.split("±")[0]) for cell in cells]
            averaged = t["mean_of"].get(label, t["mean"])
            values = [v for v, column in zip(values, t["columns"]) if column in averaged]
            # MesoNet, merge: the mean is 84.15, and 84.35 is printed.
            assert np.mean(values) == pytest.approx(mean, abs=0.25), (t["title"], label)


def test_repeated_trainings_are_one_row_with_mean_and_deviation(tmp_path):
    """DETECTOR@SEED: mean ± sample standard deviation beside the paper's, each one in results.csv.

    Accuracies of 100, 75 and 50 % on DF: mean 75, deviation 25.
    """
    labels = [0, 0, 1, 1]
    for seed, scores in enumerate(([0.1, 0.2, 0.8, 0.9], [0.1, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 1])):
        rows = [f"v{k},0,{y},{p}" for k, (y, p) in enumerate(zip(labels, scores))]
        write(tmp_path / f"s/CLRNet-DF@{seed}/DF.csv", rows)
        write(tmp_path / f"s/FT@{seed}/DFD.csv", rows)
    # Not repeats: one training alone, and a name without a number.
    write(tmp_path / "s/CLRNet-FS@0/FS.csv", rows)
    write(tmp_path / "s/me@home/DF.csv", rows)
    # A training without a seed gives way to the repeated ones.
    write(tmp_path / "s/CLRNet-DF/DF.csv", rows)
    out = tmp_path / "r"
    output = run("06_evaluate.py", "--scores", tmp_path / "s", "--out", out, "--resamples", 20)
    assert "CLRNet-DF is in results.csv; tables and bars have the repeated" in output
    table = (out / "clrnet_table3.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| CLRNet | ours |"))
    assert row.startswith("| CLRNet | ours | 75.00 ± 25.00 (n=3) | - |")
    assert "| difference | -24.20 |" in table
    assert "| FT | ours | - | - | 100.00 ± 0.00 (n=3) / 0.00 ± 0.00 (n=3) | - | - |" in (
        (out / "table3.md").read_text()
    )
    tables_md = (out / "tables.md").read_text()
    assert "CLRNet-DF@" not in tables_md and "| CLRNet-FS@0 |" in tables_md
    assert "| me@home |" in tables_md and "75.00 ± 25.00 (n=3)" in tables_md
    assert "± 25.00, n = 3" in (out / "report.html").read_text()
    rows = list(csv.DictReader(open(out / "results.csv")))
    accuracies = {r["detector"]: float(r["accuracy"]) for r in rows if r["level"] == "image"}
    assert [accuracies[f"CLRNet-DF@{seed}"] for seed in range(3)] == [1, 0.75, 0.5]
    assert accuracies["CLRNet-DF"] == 0.5 and "FT" not in accuracies
    for name in ("auc.png", "figure2.png", "roc_DF.png", "scores_DF.png"):
        assert (out / name).exists()


def test_a_set_that_one_of_the_repeats_has_keeps_its_interval():
    result = {name: (0.5, 0.4, 0.6) for name in metrics.METRICS}
    results = {("X@0", "A", "image"): result, ("X@1", "A", "image"): result}
    results["X@1", "B", "image"] = result
    pooled = metrics.pool_repeats(results)
    assert set(pooled) == {("X", "A", "image"), ("X", "B", "image")}
    assert pooled["X", "A", "image"]["auc"] == (0.5, 0.5, 0.5, 2)
    assert pooled["X", "B", "image"]["auc"] == (0.5, 0.4, 0.6)


def test_figure_2_and_figure_3(tmp_path, monkeypatch):
    """Figure 2: both levels of each detector. Figure 3: the two strategies at image level."""
    drawn = []
    draw = charts.draw_bars
    monkeypatch.setattr(
        charts,
        "draw_bars",
        lambda path, panels, sets, *rest: (
            drawn.append((path.name, panels, sets)) or draw(path, panels, sets, *rest)
        ),
    )
    rows = ["r,0,0,0.9", "r,1,0,0.1", "f,0,1,0.6", "f,1,1,0.8"]
    for detector in ("FT-20epochs", "DANN-20epochs", "mine"):
        write(tmp_path / f"s/{detector}/A.csv", rows)
    # One class: no bar, no crash.
    write(tmp_path / "s/mine/B.csv", [row for row in rows if row.startswith("f")])
    monkeypatch.setattr(
        "sys.argv",
        ["06", "--scores", str(tmp_path / "s"), "--out", str(tmp_path / "r"), "--resamples", "10"],
    )
    evaluate.main()
    (name2, panels2, sets2), (name3, panels3, sets3) = drawn
    assert (name2, sets2) == ("figure2", ["A", "B"]) and (name3, sets3) == ("figure3", ["A"])
    assert (
        panels2[-1]
        == ("mine", [("image or clip level", "mine", "image"), ("video level", "mine", "video")])
        and len(panels2) == 3
    )
    assert [bar[1:] for bar in panels3[0][1]] == [
        ("FT-20epochs", "image"),
        ("DANN-20epochs", "image"),
    ]
    for name in (name2, name3):
        assert (tmp_path / "r" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_table_2_counts_the_images(tmp_path):
    for name, rows in {
        "FF-DF": [("train", 0)] * 3 + [("train", 1)] * 2 + [("val", 1)] + [("test", 0)],
        "Mine": [("", 1)] * 4,
    }.items():
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        lines = [
            f"v{k}{label}/1.png,v{k}{label},1,,{label},m,{split}"
            for k, (split, label) in enumerate(rows)
        ]
        (folder / "index.csv").write_text(
            "path,video,frame,clip,label,method,split\n" + "\n".join(lines) + "\n"
        )
    run(
        "06_evaluate.py",
        "--faces",
        tmp_path / "faces/FF-DF",
        tmp_path / "faces/Mine",
        "--out",
        tmp_path / "r",
    )
    assert read_markdown(tmp_path / "r/table2.md")[2:] == [
        ["FF-DF", "train", "3 / 2", "21600 / 21600", "-21597 / -21598"],
        ["FF-DF", "test", "1 / 0", "4200 / 4200", "-4199 / -4200"],
        ["Mine", "all", "0 / 4", "-", "-"],
    ]


def test_video_level_is_the_mean_of_the_image_scores(tmp_path):
    # Image by image real 0.9 beats everything; its video's mean is below the fake's.
    write(tmp_path / "s/d/A.csv", ["r,0,0,0.9", "r,1,0,0.1", "f,0,1,0.6", "f,1,1,0.8"])
    run("06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 20)
    rows = {r["level"]: r for r in csv.DictReader(open(tmp_path / "r/results.csv"))}
    assert float(rows["image"]["auc"]) == 0.5 and float(rows["video"]["auc"]) == 1


def test_intervals_resample_videos_not_images():
    """Four videos of 500 images each are only four videos: the interval must stay wide."""
    rng = np.random.default_rng(0)
    videos = [f"v{k}" for k in range(4) for _ in range(500)]
    labels = np.repeat([0, 0, 1, 1], 500)
    scores = np.clip(np.repeat([0.3, 0.6, 0.5, 0.8], 500) + rng.normal(0, 0.02, 2000), 0, 1)
    value, low, high = evaluate.evaluate(videos, labels, scores, scores, 500, 0)["image"]["auc"]
    assert value == pytest.approx(0.75, abs=0.02) and low < 0.05 and high > 0.95


@pytest.mark.parametrize(
    "rows, header, says",
    [
        (["a,0,1"], "video,frame,label", "no column score"),
        (["a,0,1,x"], "video,frame,label,score", "not a number"),
        (["a,0,1,nan"], "video,frame,label,score", "score is nan"),
        (["a,0,1,1.5"], "video,frame,label,score", "score is 1.5"),
        (["a,0,2,0.5"], "video,frame,label,score", "label is 2"),
        (
            ["a,0,1,0.5", "a,1,0,0.5"],
            "video,frame,label,score",
            "real in one row and fake in another",
        ),
        (["a,0,1"], "video,frame,label,score", "3 values under 4 columns"),
        ([], "", "no column"),
    ],
)
def test_bad_score_files(tmp_path, rows, header, says):
    write(tmp_path / "s/d/A.csv", rows, header)
    output = run("06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", fails=True)
    assert says in output and "A.csv" in output


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    (tmp_path / "s/d").mkdir(parents=True)
    (tmp_path / "s/d/A.csv").write_bytes(
        "\ufeffvideo,frame,label,score\r\na,0,0,0.1\r\nb,0,1,0.9\r\n".encode()
    )
    assert "100.00 / 0.00" in run(
        "06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 10
    )


def test_missing_and_empty_folders(tmp_path):
    assert "give --scores, --faces or both" in run(
        "06_evaluate.py", "--out", tmp_path / "r", fails=True
    )
    assert "not a folder" in run(
        "06_evaluate.py", "--scores", tmp_path / "none", "--out", tmp_path / "r", fails=True
    )
    assert "no score files" in run(
        "06_evaluate.py", "--scores", tmp_path, "--out", tmp_path / "r", fails=True
    )


# ---------------------------------------------------------------- what looks wrong, and odd names


def set_of(good=True, videos=12, turned=False):
    """Rows of as many real as fake videos, which a good detector tells apart and a bad one not."""
    rows = []
    for k in range(videos):
        label, shift = k % 2, 0.3 * (k % 2 if good else (k // 2) % 2)
        rows += [f"v{k},{f},{label ^ turned},{0.3 + shift + 0.01 * f:.3f}" for f in range(2)]
    return rows


def test_turned_labels_and_scores_are_named(tmp_path):
    """Opposite labels of a video in two files, and an AUC below 50 by its interval."""
    write(tmp_path / "s/right/S.csv", set_of())
    write(tmp_path / "s/chance/S.csv", set_of(good=False))
    write(tmp_path / "s/labels/S.csv", set_of(turned=True))
    write(tmp_path / "s/P(real)/T.csv", [r[:-5] + f"{1 - float(r[-5:]):.3f}" for r in set_of()])
    # Four videos of each class are in the wrong order by chance once in 70 times.
    write(tmp_path / "s/few/U.csv", set_of(turned=True, videos=8))
    flags = ("--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 50)
    printed = run("06_evaluate.py", *flags)
    for text in (
        printed,
        (tmp_path / "r/tables.md").read_text(),
        Page((tmp_path / "r/report.html").read_text()).text,
    ):
        assert "S: 12 videos are real in one score file and fake in another, such as v0" in text
        (line,) = [line for line in text.split("\n") if "The AUC is below 50 %" in line]
        assert "labels on S (0.0 %" in line and "P(real) on T (0.0 %" in line
        assert not any(f"{name} on" in line for name in ("right", "chance", "few"))
        assert "the scores are P(real) instead of P(fake), or the labels are turned round" in line
    write(tmp_path / "s/labels/S.csv", set_of())
    (tmp_path / "s/P(real)/T.csv").unlink()
    assert "WARNING" not in run("06_evaluate.py", *flags)


def test_reported_score_files(tmp_path):
    """Opposite labels; Chinese names, what TeX would read, and the ending .CSV."""
    for name in ("inverted", "names"):
        folder = shared("data", "reports", "scores", name)
        flags = ("--scores", folder, "--out", tmp_path / name, "--resamples", 20)
        printed = run("06_evaluate.py", *flags)
        warnings_ = ("real in one score file", "The AUC is below 50 %", "B on set (0.3 %")
        assert all((text in printed) == (name == "inverted") for text in warnings_)
        assert "Warning" not in printed and printed.count("no installed font") == (name == "names")
    rows = list(csv.DictReader(open(tmp_path / "names/results.csv", encoding="utf-8")))
    assert {row["detector"] for row in rows} == {"我的模型", "x", "a$b_{c}^d", "My Model (v2)"}


def test_names_are_text_in_tables_figures_and_on_a_terminal(tmp_path):
    """No formula in a spreadsheet, no escape sequence on a terminal, no tag, no TeX."""
    names = (
        "=cmd|x",
        "+1",
        "-1",
        "@x",
        "\x1b[31mred",
        "two\nlines",
        "<b>&amp;",
        "$x^{",
        "\u202eabc",
    )
    for name in names:
        write(
            tmp_path / "s" / name / f"{name}.CSV", [f"v{k},0,{k % 2},{k / 10}" for k in range(10)]
        )
    output = run(
        "06_evaluate.py", "--scores", tmp_path / "s", "--out", tmp_path / "r", "--resamples", 5
    )
    cells = {row["detector"] for row in csv.DictReader(open(tmp_path / "r/results.csv"))}
    odd = {"\\x1b[31mred", "two\\nlines", "<b>&amp;", "$x^{", "\\u202eabc"}
    assert cells == {"'=cmd|x", "'+1", "'-1", "'@x", *odd}
    report = (tmp_path / "r/report.html").read_text()
    for text in (output, (tmp_path / "r/tables.md").read_text(), report):
        assert not any(c in text for c in "\x1b\u202e") and "red" in text
    assert "<b>&amp;amp;" not in report and "&lt;b&gt;&amp;amp;" in report
    assert "$x^{" in Page(report).text and "Warning" not in output
    assert "no installed font" not in output


def test_two_files_of_one_detector_and_set(tmp_path):
    for ending in ("csv", "CSV"):
        write(tmp_path / f"s/d/A.{ending}", set_of())
    if len(list((tmp_path / "s/d").iterdir())) == 1:
        pytest.skip("this file system does not tell A.csv from A.CSV")
    flags = ("--scores", tmp_path / "s", "--out", tmp_path / "r")
    assert "both the scores of d on A" in run("06_evaluate.py", *flags, fails=True)


def test_what_other_programs_leave_below_runs_is_left_out(tmp_path):
    write(tmp_path / "s/d/A.csv", set_of())
    write(tmp_path / "runs/keras/log.csv", ["0,0.5,x"], "epoch,loss,val_loss")
    write(tmp_path / "runs/other/log.csv", ["12:00,hello"], "time,message")
    write(tmp_path / "runs/other/embedding.csv", ["a,1"], "name,x")
    write(tmp_path / "runs/mine/log.csv", ["1,8,0.5,0.7"], "epoch,step,train_loss,val_auc")
    (tmp_path / "runs/mine/args.json").write_text('{"flags": {"lr": 0.1}}')
    flags = ("--scores", tmp_path / "s", "--runs", tmp_path / "runs", "--out", tmp_path / "r")
    output = run("06_evaluate.py", *flags, "--resamples", 5)
    assert [line.split(" is left out")[0] for line in output.split("\n") if "left out" in line] == [
        str(tmp_path / f"runs/{name}/log.csv") for name in ("keras", "other")
    ]
    text = Page((tmp_path / "r/report.html").read_text()).text
    assert "run mine" in text and "train loss" in text and "val loss" not in text


# ---------------------------------------------------------------- the report


class Page(HTMLParser):
    """What a page loads from outside, its unclosed tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.outside, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.outside += [
            value
            for name, value in attributes
            if name in ("src", "srcset", "data", "action")
            or (name.endswith("href") and not value.startswith("#"))
        ]
        if tag not in ("meta", "br", "img", "link", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_page_with_everything(small, extractor, features, tmp_path):
    """Tables, figures, counts with reasons, learning curves, settings; nothing from outside."""
    run(
        "06_evaluate.py",
        "--scores",
        small / "scores",
        "--faces",
        small / "faces/frames",
        small / "faces/phone",
        "--runs",
        small / "runs",
        "--out",
        tmp_path / "r",
        "--resamples",
        20,
    )
    text = (tmp_path / "r/report.html").read_text()
    page = Page(text)
    assert (
        page.outside == []
        and page.open == []
        and "@import" not in text
        and "url(http" not in text
        and "<script" not in text
    )
    for part in (
        "DEMONSTRATION",
        "AUC, image or clip level",
        "F1 (macro), video level",
        "ROC curves",
        "Learning curves",
        "resamples, seed 0",
        "numpy ",
        "num_frames: 4",
        "frames",
    ):
        assert part in page.text, part
    assert (
        text.count("<svg") == 1 + 1 + 2 * 2 + 1
        and "currentColor" in text
        and "prefers-color-scheme: dark" in text
        and "@media print" in text
    )
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids)), "each part of each picture has a name of its own"
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    before = text
    run(
        "06_evaluate.py",
        "--scores",
        small / "scores",
        "--faces",
        small / "faces/frames",
        small / "faces/phone",
        "--runs",
        small / "runs",
        "--out",
        tmp_path / "r",
        "--resamples",
        20,
    )
    assert (tmp_path / "r/report.html").read_text() == before


def test_the_best_of_a_column_is_bold():
    measured = {
        ("a", "S"): dict(auc=(0.9, 0, 1), eer=(0.2, 0, 1)),
        ("b", "S"): dict(auc=(0.90001, 0, 1), eer=(0.1, 0, 1)),
        ("c", "S"): dict(auc=(np.nan, 0, 1), eer=(np.nan, 0, 1)),
        ("a", "T"): dict(auc=(0.5, 0, 1), eer=(0.5, 0, 1)),
    }
    results = {(*key, level): of for key, of in measured.items() for level in metrics.LEVELS}
    detectors, sets = ["a", "b", "c"], ["S", "T"]
    assert tables.best_values(results, detectors, sets, "auc", "image") == {"S": 90.0}
    assert tables.best_values(results, detectors, sets, "eer", "video") == {"S": 10.0}

    def show(interval, bold):
        return f"{interval[0]}{'*' * bold}"

    assert tables.metric_table(results, detectors, sets, "auc", "image", show) == [
        ["", "S", "T"],
        ["a", "0.9*", "0.5"],
        ["b", "0.90001*", ""],
        ["c", "nan", ""],
    ]


def test_activation_maps_stand_beside_their_frames(tmp_path):
    """One row per clip: its frames in color, then the same frames in gray under their maps."""
    rng = np.random.default_rng(0)
    frames, maps = rng.random((2, 3, 8, 8, 3)), rng.normal(0, 2, (2, 3, 8, 8))
    drawn = []
    real_overlay = figures.overlay

    def overlay(axes, image, heat, top):
        drawn.append((image, heat, top))
        return real_overlay(axes, image, heat, top)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "overlay", overlay)
        figures.draw_activation_maps(tmp_path / "cam", "Maps", ["a", "$b^{"], frames, maps)
    assert len(drawn) == 6 and {top for *_, top in drawn} == {np.abs(maps).max()}
    for k, (image, heat, _) in enumerate(drawn):
        assert (image == frames[divmod(k, 3)]).all() and (heat == maps[divmod(k, 3)]).all()
    assert (tmp_path / "cam.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "cam.pdf").read_bytes().startswith(b"%PDF")

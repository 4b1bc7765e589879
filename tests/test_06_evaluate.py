"""Stage 06 and its metrics: against scikit-learn, on known answers, on degenerate input."""

import csv
import json
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import call, run, shared, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from reporting import figures, metrics, tables

evaluate = stage("06_evaluate")

# ---------------------------------------------------------------- metrics

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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics.measure(np.ones(3, int), *[np.array([0.2, 0.7, 0.9])] * 2)
    assert all(np.isnan(found[name]) for name in ("auc", "eer", "average_precision"))
    assert found["recall"] == pytest.approx(2 / 3) and found["precision"] == 1
    assert np.isnan(metrics.auc(np.array([], int), np.array([])))


def test_a_set_that_one_of_the_repeats_has_keeps_its_interval():
    result = {name: (0.5, 0.4, 0.6) for name in metrics.METRICS}
    results = {("X@0", "A", "image"): result, ("X@1", "A", "image"): result}
    results["X@1", "B", "image"] = result
    pooled = metrics.pool_repeats(results)
    assert set(pooled) == {("X", "A", "image"), ("X", "B", "image")}
    assert pooled["X", "A", "image"]["auc"] == (0.5, 0.5, 0.5, 2)
    assert pooled["X", "B", "image"]["auc"] == (0.5, 0.4, 0.6)


def test_intervals_resample_videos_not_images():
    """Four videos of 500 images each are only four videos: the interval must stay wide."""
    rng = np.random.default_rng(0)
    videos = [f"v{k}" for k in range(4) for _ in range(500)]
    labels = np.repeat([0, 0, 1, 1], 500)
    scores = np.clip(np.repeat([0.3, 0.6, 0.5, 0.8], 500) + rng.normal(0, 0.02, 2000), 0, 1)
    value, low, high = evaluate.evaluate(videos, labels, scores, scores, 500, 0)["image"]["auc"]
    assert value == pytest.approx(0.75, abs=0.02) and low < 0.05 and high > 0.95


# ---------------------------------------------------------------- one call, many assertions


def write(path, rows, header="video,frame,label,score"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + "\n" + "\n".join(rows) + "\n")


def read_results(folder):
    with open(folder / "results.csv", encoding="utf-8") as file:
        return {(r["detector"], r["set"], r["level"]): r for r in csv.DictReader(file)}


def read_markdown(path):
    """The rows of a Markdown table as lists of cells."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text().splitlines()
        if line.startswith("| ")
    ]


@pytest.fixture
def without_figures(monkeypatch):
    """Tables and pages alone: most of 06's time is that of drawing."""
    monkeypatch.setattr(evaluate, "draw_figures", lambda *_: {})


# Image by image real 0.9 beats everything; its video's mean is below the fake's.
BY_VIDEO = ["r,0,0,0.9", "r,1,0,0.1", "f,0,1,0.6", "f,1,1,0.8"]
# One of two is right in each class: AUC 75, EER 50. All are right. All are called real.
HALF = ["a,0,0,0.1", "b,0,0,0.6", "c,0,1,0.4", "d,0,1,0.9"]
GOOD = ["a,0,0,0.1", "b,0,0,0.2", "c,0,1,0.8", "d,0,1,0.9"]
REAL = ["a,0,0,0.1", "b,0,0,0.2", "b,1,0,0.2", "c,0,1,0.3", "d,0,1,0.4"]


def test_results_tables_and_figures(tmp_path, monkeypatch):
    """Counts, levels, one class alone, line ends of Windows; Figures 2 and 3."""
    bars = []
    draw_bars = figures.draw_bars

    def watch(path, charts, sets, *rest):
        bars.append((path.name, charts, sets))
        draw_bars(path, charts, sets, *rest)

    monkeypatch.setattr(figures, "draw_bars", watch)
    good = [
        f"v{k},{f},{k % 2},{0.2 + 0.6 * (k % 2) + 0.01 * f}" for k in range(6) for f in (0, 1, 2)
    ]
    write(tmp_path / "s/ours/A.csv", good)
    write(tmp_path / "s/ours/B.csv", [row for row in good if row.split(",")[2] == "1"])
    write(tmp_path / "s/FT-20epochs/A.csv", [f"{row.rsplit(',', 1)[0]},0.5" for row in good])
    write(tmp_path / "s/DANN-20epochs/A.csv", good)
    write(tmp_path / "s/ours/C.csv", BY_VIDEO)
    windows = "\ufeffvideo,frame,label,score\r\na,0,0,0.1\r\nb,0,1,0.9\r\n"
    (tmp_path / "s/ours/D.csv").write_bytes(windows.encode())
    out = tmp_path / "r"
    output = call(f"06_evaluate.py --scores {tmp_path}/s --out {out} --resamples 50")
    assert "100.00 / 0.00" in output and "50.00 / 50.00" in output and "undefined" in output
    assert "WARNING" not in output
    rows = read_results(out)
    assert len(rows) == 12
    image, video = (rows["ours", "A", level] for level in ("image", "video"))
    assert (image["rows"], video["rows"], video["real"], video["fake"]) == ("18", "6", "3", "3")
    assert float(image["auc"]) == 1 and rows["ours", "B", "image"]["auc"] == "nan"
    assert float(rows["ours", "C", "image"]["auc"]) == 0.5
    assert float(rows["ours", "C", "video"]["auc"]) == float(rows["ours", "D", "image"]["auc"]) == 1
    text = (out / "tables.md").read_text()
    assert "| ours | **100.00 [100.0, 100.0]** | undefined |" in text
    assert text.count("## ") == 2 * len(metrics.METRICS)
    for name in ("roc_A", "roc_B", "scores_A", "scores_B", "figure2", "figure3"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(out.glob("*table*3.md"))

    (name2, charts2, sets2), (name3, ((_, bars3),), sets3) = bars
    assert (name2, sets2) == ("figure2", list("ABCD")) and (name3, sets3) == ("figure3", ["A"])
    levels = [("image or clip level", "ours", "image"), ("video level", "ours", "video")]
    assert charts2[-1] == ("ours", levels) and len(charts2) == 3
    assert [bar[1:] for bar in bars3] == [("FT-20epochs", "image"), ("DANN-20epochs", "image")]


def test_the_papers_tables_stand_beside_ours(tmp_path, without_figures):
    """FeatureTransfer's Table 3 and CLRNet's Tables 3 to 6: ours, the paper's, the difference.

    Macro F1 stands below balanced accuracy; a mean needs all sets; other rows are quoted. Repeated
    trainings DETECTOR@SEED are mean ± sample standard deviation.
    """
    scores = {"FT/Celeb-DF": HALF, "FT/DFD": HALF[2:3], "mine/Celeb-DF": GOOD}
    for name in ("DF", "FS", "DFD", "DFDC", "F2F", "NT"):
        scores[f"CLRNet-{name}/{name}"] = GOOD if name in ("DF", "FS", "DFD") else HALF
        scores[f"ShallowNet-{name}/{name}"] = REAL if name == "DFDC" else GOOD
        scores[f"MesoInception4-{name}/{name}"] = REAL if name == "DFDC" else GOOD
    scores |= {"MesoInception4-F2F/DFW": HALF, "CNN+LSTM-merge/NT": GOOD}
    scores |= {"CLRNet-transfer-FS/DF": GOOD, "CLRNet-F2F/NT": REAL}
    scores |= {"CLRNet-FS/DFW": HALF, "CLRNet-merge/DFW": GOOD}
    scores |= {"CLRNet-transfer-NT/DFW": HALF, "CLRNet-search/DFW": GOOD}
    # Accuracies of 100, 75 and 50 % on DF: mean 75, deviation 25.
    labels = [0, 0, 1, 1]
    for seed, values in enumerate(([0.1, 0.2, 0.8, 0.9], [0.1, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 1])):
        rows = [f"v{k},0,{y},{p}" for k, (y, p) in enumerate(zip(labels, values))]
        scores |= {f"Xception-DF@{seed}/DF": rows, f"Se_Res@{seed}/DFD": rows}
    # Not repeats: one training alone, and a name without a number. A training without a seed gives
    # way to the repeated ones.
    scores |= dict.fromkeys(("Xception-FS@0/FS", "me@home/DF", "Xception-DF/DF"), rows)
    for name, lines in scores.items():
        write(tmp_path / f"s/{name}.csv", lines)
    out = tmp_path / "r"
    output = call(f"06_evaluate.py --scores {tmp_path}/s --out {out} --resamples 10")
    for text in (
        "-11.21 / +27.58",
        "CLRNet, Table 6: open-domain, on DFW, balanced accuracy and macro F1 in percent",
        "Avg. is over the cells that the paper averages",
        "Xception-DF is in results.csv; tables and bars have the repeated",
    ):
        assert text in output, text

    rows = read_markdown(out / "table3.md")
    assert rows[0] == ["", "", "DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF"]
    assert rows[-3:] == [
        ["FT", "ours", "-", "-", "- / -", "-", "75.00 / 50.00"],
        "|paper|96.56 / 8.05|88.62 / 19.52|91.00 / 16.21|98.77 / 5.75|86.21 / 22.42".split("|"),
        ["", "difference", "-", "-", "- / -", "-", "-11.21 / +27.58"],
    ]
    labels = ["Xception", "FSSpotter", "Face X-ray", "Se_Res"]
    assert [row[0] for row in rows[2:-3] if row[0]] == labels and "mine" not in str(rows)
    assert rows[3][1:] == ["paper", "97.33 / -", "-", "-", "-", "76.26 / -"]
    repeated = "100.00 ± 0.00 (n=3) / 0.00 ± 0.00 (n=3)"
    assert rows[5] == ["Se_Res", "ours", "-", "-", repeated, "-", "-"]

    def of_table(number, label):
        rows = read_markdown(out / f"clrnet_table{number}.md")
        k = next(k for k, row in enumerate(rows) if row[0] == label)
        names = ["ours", "ours, F1 (macro)", "paper", "difference"]
        assert [row[1] for row in rows[k : k + 4]] == names
        return [[cell.split(" [")[0] for cell in row[2:]] for row in rows[k : k + 4]]

    ours, f1, paper, difference = of_table(3, "CLRNet")
    # Each class has as many right answers in these score files: accuracy and macro F1 agree.
    assert ours == f1 == ["100.00"] * 3 + ["50.00"] * 3 + ["80.00"]
    assert paper[0] == "99.20 ± 0.1" and paper[-1] == "98.61"
    assert difference == ["+0.80", "+0.50", "+4.00", "-46.76", "-49.20", "-49.50", "-18.61"]
    # The paper averages ShallowNet's cells with DFDC, MesoNet's without it.
    assert of_table(3, "ShallowNet")[0][-1] == "91.67" and of_table(3, "MesoNet")[0][-1] == "100.00"
    ours, _, _, difference = of_table(3, "Xception")
    assert ours == ["75.00 ± 25.00 (n=3)", *"------"] and difference[0] == "-24.00"
    ours, f1, paper, _ = of_table(4, "MesoNet")
    assert ours == f1 == ["100.00", *"----", "50.00"] and paper[5] == "49.77 ± 0.2"
    # All are called real: accuracy, balanced, is 50 of three reals and two fakes; F1 is lower.
    ours, f1, paper, difference = of_table(4, "CLRNet")
    assert ours == ["50.00", *"---", "50.00", "-"] and f1[4] == "37.50"
    assert (paper[4], difference[4]) == ("50.60 ± 0.1", "-0.60")
    assert of_table(5, "CNN+LSTM, merge")[0] == [*"----", "100.00", "-"]
    assert of_table(5, "CLRNet, transfer")[3][1] == "+2.77"
    ours, f1, paper, difference = of_table(6, "CLRNet")
    assert ours == f1 == ["50.00", "100.00", "50.00", "100.00"]
    assert paper == ["50.65 ± 0.9", "84.95 ± 0.2", "93.86 ± 0.2", "95.92"]
    assert difference == ["-0.65", "+15.05", "-43.86", "+4.08"]

    text = (out / "tables.md").read_text()
    assert "Xception-DF@" not in text and "| Xception-FS@0 |" in text
    assert "| me@home |" in text and "75.00 ± 25.00 (n=3)" in text
    assert "± 25.00, n = 3" in (out / "report.html").read_text()
    results = read_results(out)
    accuracies = [float(results[f"Xception-DF@{k}", "DF", "image"]["accuracy"]) for k in range(3)]
    assert accuracies == [1, 0.75, 0.5]
    assert float(results["Xception-DF", "DF", "image"]["accuracy"]) == 0.5
    assert not any(detector == "Se_Res" for detector, *_ in results)


def test_the_papers_tables_are_whole():
    for table in tables.TABLES:
        width = len(table["columns"]) + ("mean" in table)
        assert all(len(cells) == width for _, cells in tables.rows_of(table)), table["title"]
    assert [len(tables.rows_of(table)) for table in tables.TABLES] == [5, 6, 6, 12, 6]
    # The paper's averages are the means of its rows, without DFDC in Table 3 except ShallowNet's.
    for table in (table for table in tables.TABLES if "mean" in table):
        for label, cells in tables.rows_of(table):
            *values, mean = [float(cell.split("±")[0]) for cell in cells]
            averaged = tables.columns_averaged(table, label)
            values = [v for v, column in zip(values, table["columns"]) if column in averaged]
            # MesoNet, merge: the mean is 84.15, and 84.35 is printed.
            assert np.mean(values) == pytest.approx(mean, abs=0.25), (table["title"], label)


def test_table_2_counts_the_images(tmp_path):
    """Its title names the paper only where one of the paper's sets is counted."""
    of_ff = [("train", 0)] * 3 + [("train", 1)] * 2 + [("val", 1)] + [("test", 0)]
    sets = {"FF-DF": of_ff, "Mine": [("", 1)] * 4, "Celeb-DF": [("", 0)]}
    for name, rows in sets.items():
        lines = [f"{k}.png,v{y},1,,{y},m,{split}" for k, (split, y) in enumerate(rows)]
        write(tmp_path / name / "index.csv", lines, "path,video,frame,clip,label,method,split")
    write(tmp_path / "Mine/videos.csv", ["a", "b", "c"], "video")
    titles = []
    for names in (["Mine"], list(sets)):
        folders = " ".join(f"{tmp_path}/{name}" for name in names)
        call(f"06_evaluate.py --faces {folders} --out {tmp_path}/r")
        titles.append((tmp_path / "r/table2.md").read_text().splitlines()[0])
    of_paper = "# Number of face images, FeatureTransfer, Table 2"
    assert titles == ["# Number of face images", of_paper]
    assert read_markdown(tmp_path / "r/table2.md")[2:] == [
        ["FF-DF", "train", "3 / 2", "21600 / 21600", "-21597 / -21598"],
        ["FF-DF", "test", "1 / 0", "4200 / 4200", "-4199 / -4200"],
        ["Celeb-DF", "all", "1 / 0", "12240 / 23850", "-12239 / -23850"],
        ["Mine", "all", "0 / 4", "-", "-"],
    ]
    assert basis_of(tmp_path / "r/table2.md") == [
        "What this rests on (real + fake):",
        "- FF-DF: 1 + 1 videos with faces",
        "- Celeb-DF: 1 + 0 videos with faces",
        "- Mine: 0 + 1 of 3 videos with faces",
        "- faces of FF-DF, Mine, Celeb-DF: unknown, no args.json",
    ]


def basis_of(path):
    """The lines that say what a table, the last one of a Markdown file, rests on."""
    text = path.read_text()
    return [line for line in text[text.index("What this rests on") :].splitlines() if line]


def test_each_table_says_what_it_rests_on(tmp_path, without_figures):
    """Videos and images scored and expected; who lacks two videos or one image; seeds; faces."""

    def rows(*videos):
        return [f"{v},{f},{int(v[0] == 'f')},0.{5 + f}{v[1]}" for v in videos for f in range(2)]

    def settings(folder, **flags):
        (tmp_path / folder / "args.json").write_text(json.dumps(dict(flags=flags)))

    videos = [f"{kind}{k}" for kind in "rf" for k in range(4)]
    celeb = dict(Xception=[*videos[1:], "r9"], Se_Res=[*videos[1:4], *videos[5:]], Mine=videos)
    for name, of_detector in (celeb | {"FT@0": videos, "FT@2": videos}).items():
        write(tmp_path / f"s/{name}/Celeb-DF.csv", rows(*of_detector))
    write(tmp_path / "s/FT@10/Celeb-DF.csv", rows(*videos)[:-1])
    write(tmp_path / "s/FT@2/DFD.csv", rows(*videos))
    write(tmp_path / "s/CLRNet-F2F@3/DFW.csv", rows(*videos))
    write(tmp_path / "s/CLRNet-F2F/DFW.csv", rows(*videos))
    # Seeds are those of the runs with the detectors' names. Those of Se_Res contradict each other.
    for name, seed in {"Mine": 7, "Se_Res/A": 1, "Se_Res/B": 2, "FT@2/Celeb-DF": 5}.items():
        write(tmp_path / f"runs/{name}/log.csv", ["1,8,0.5"], "epoch,step,train_loss")
        settings(f"runs/{name}", seed=seed)
    for name in ("Celeb-DF", "DFW"):
        line = ["a.png,v,1,,0,m,"]
        write(
            tmp_path / f"faces/{name}/index.csv", line, "path,video,frame,clip,label,method,split"
        )
    how = dict(detector="mtcnn", align="landmarks", scale=1.2, layout="ffpp", compression="c40")
    how |= dict(sampling="clips", num_clips=16, clip_length=5, size=240, masks=True)
    settings("faces/DFW", **how)
    how = dict(detector="dlib", scale=1.3, layout="crops", compression="c40", format="png")
    settings("faces/Celeb-DF", **how, sampling="frames", num_frames=30, num_clips=16, size=None)
    line = f"--scores {tmp_path}/s --runs {tmp_path}/runs --out {tmp_path}/r --resamples 5"
    printed = call(f"06_evaluate.py {line} --faces {tmp_path}/faces/Celeb-DF {tmp_path}/faces/DFW")

    of_ft = [
        "- Celeb-DF: 4 + 4 videos, 8 + 8 images; "
        "but Xception: 4 + 4 videos, 8 + 8 images (videos that FT@0 does not have: 1); "
        "but Se_Res: 3 + 3 videos, 6 + 6 images; but FT@10: 4 + 4 videos, 8 + 7 images; "
        "expected from FeatureTransfer: 12240 + 23850 images"
    ]
    of_celeb = (
        "dlib, crop 1.3 times the box, saved as png, 30 frames a video, crops of their own size"
    )
    of_dfw = "mtcnn, centered on landmarks, crop 1.2 times the box, 240 x 240 pixels, forged faces "
    of_dfw += "by masks, videos c40, 16 clips a video, 5 frames a clip"
    in_ft = "4 + 4 videos, 8 + 8 images; expected from FeatureTransfer: 10890 + 91740 images"
    trainings = "- trainings behind each number: "
    table3, table4 = (basis_of(tmp_path / f"r/{name}.md") for name in ("table3", "clrnet_table4"))
    assert table3 == [
        "What this rests on (image level; real + fake; an image may be a clip):",
        f"- DFD: {in_ft}",
        *of_ft,
        "- faces of DFD: unknown, not among --faces",
        f"- faces of Celeb-DF: detector {of_celeb}",
        f"{trainings}3 (seeds 0, 5, 10) of FT; 1 (seed unknown) of Xception, Se_Res",
    ]
    assert table4[1:] == [
        "- DFW: 4 + 4 videos, 8 + 8 images; expected from CLRNet: 200 fake videos",
        f"- faces of DFW: detector {of_dfw}",
        f"{trainings}1 (seed unknown) of CLRNet-F2F",
    ]
    every = basis_of(tmp_path / "r/tables.md")
    assert every[0] == (
        "What this rests on (image and video level; real + fake; an image may be a clip):"
    )
    assert f"- DFD: {in_ft}; expected from CLRNet: 25 + 25 videos" in every
    assert every[-1] == (
        f"{trainings}3 (seeds 0, 5, 10) of FT; 1 (seed 7) of Mine; "
        "1 (seed unknown) of Se_Res, Xception, CLRNet-F2F; 1 (seed 3) of CLRNet-F2F@3"
    )
    report = Page((tmp_path / "r/report.html").read_text()).text
    for line in (*table3, *table4, *every):
        assert line in printed.splitlines() and line in report, line


def test_input_that_cannot_be_evaluated(tmp_path):
    """Flags, folders, score files: one line that names the file."""
    flags = f"--scores {tmp_path}/s --out {tmp_path}/r"
    for line, says in (
        (f"--out {tmp_path}/r", "give --scores, --faces or both"),
        (flags, "not a folder"),
        (f"--scores {tmp_path} --out {tmp_path}/r", "no score files"),
        (f"{flags} --resamples 0", "--resamples must be 1 or more"),
    ):
        assert says in call(f"06_evaluate.py {line}", fails=True)
    header = "video,frame,label,score"
    for text, says in (
        ("video,frame,label\na,0,1", "no column score"),
        (f"{header}\na,0,1,x", "not a number"),
        (f"{header}\na,0,1,nan", "score is nan"),
        (f"{header}\na,0,1,1.5", "score is 1.5"),
        (f"{header}\na,0,2,0.5", "label is 2"),
        (f"{header}\na,0,1,0.5\na,1,0,0.5", "real in one row and fake in another"),
        (f"{header}\na,0,1", "3 values under 4 columns"),
        (header, "has no rows"),
        ("", "no column"),
    ):
        write(tmp_path / "s/d/A.csv", [], text)
        output = call(f"06_evaluate.py {flags}", fails=True)
        assert says in output and "A.csv" in output
    write(tmp_path / "s/d/A.CSV", [])
    if len(list((tmp_path / "s/d").iterdir())) == 2:
        assert "both the scores of d on A" in call(f"06_evaluate.py {flags}", fails=True)


# ---------------------------------------------------------------- what looks wrong, and odd names


def set_of(good=True, videos=12, turned=False):
    """Rows of as many real as fake videos, which a good detector tells apart and a bad one not."""
    rows = []
    for k in range(videos):
        label, shift = k % 2, 0.3 * (k % 2 if good else (k // 2) % 2)
        rows += [f"v{k},{f},{label ^ turned},{0.3 + shift + 0.01 * f:.3f}" for f in range(2)]
    return rows


def test_turned_labels_and_scores_are_named(tmp_path, without_figures):
    """Opposite labels of a video in two files, and an AUC below 50 by its interval."""
    write(tmp_path / "s/right/S.csv", set_of())
    write(tmp_path / "s/chance/S.csv", set_of(good=False))
    write(tmp_path / "s/labels/S.csv", set_of(turned=True))
    write(tmp_path / "s/P(real)/T.csv", [r[:-5] + f"{1 - float(r[-5:]):.3f}" for r in set_of()])
    # Four videos of each class are in the wrong order by chance once in 70 times.
    write(tmp_path / "s/few/U.csv", set_of(turned=True, videos=8))
    line = f"06_evaluate.py --scores {tmp_path}/s --out {tmp_path}/r --resamples 50"
    printed, report = call(line), Page((tmp_path / "r/report.html").read_text()).text
    for text in (printed, report, (tmp_path / "r/tables.md").read_text()):
        assert "S: 12 videos are real in one score file and fake in another, such as v0" in text
        (row,) = [row for row in text.split("\n") if "The AUC is below 50 %" in row]
        assert "labels on S (0.0 %" in row and "P(real) on T (0.0 %" in row
        assert not any(f"{name} on" in row for name in ("right", "chance", "few"))
        assert "the scores are P(real) instead of P(fake), or the labels are turned round" in row
    write(tmp_path / "s/labels/S.csv", set_of())
    (tmp_path / "s/P(real)/T.csv").unlink()
    assert "WARNING" not in call(line)


def test_reported_score_files(tmp_path, monkeypatch):
    """Opposite labels; Chinese names, what TeX would read, and the ending .CSV."""
    folder = shared("data", "reports", "scores")
    figures.warn_of_missing_glyphs.cache_clear()
    printed = call(f"06_evaluate.py --scores {folder}/names --out {tmp_path} --resamples 20")
    assert "WARNING" not in printed and printed.count("no installed font") <= 1
    names = {"我的模型", "x", "a$b_{c}^d", "My Model (v2)"}
    assert {detector for detector, *_ in read_results(tmp_path)} == names
    monkeypatch.setattr(evaluate, "draw_figures", lambda *_: {})
    printed = call(f"06_evaluate.py --scores {folder}/inverted --out {tmp_path} --resamples 20")
    for text in ("real in one score file", "The AUC is below 50 %", "B on set (0.3 %"):
        assert text in printed


def test_names_are_text_in_tables_figures_and_on_a_terminal(tmp_path):
    """No formula in a spreadsheet, no escape sequence on a terminal, no tag, no TeX."""
    plain = ("<b>&amp;", "$x^{", "_x")
    formulas, escapes = ("=cmd|x", "+1", "-1", "@x"), ("\x1b[31mred", "two\nlines", "\u202eabc")
    for name in (*plain, *formulas, *escapes):
        write(tmp_path / "s" / name / "A.csv", BY_VIDEO)
    for name in (formulas[0], escapes[0]):
        write(tmp_path / f"s/_x/{name}.CSV", BY_VIDEO)
    output = call(f"06_evaluate.py --scores {tmp_path}/s --out {tmp_path}/r --resamples 5")
    detectors, sets, _ = map(set, zip(*read_results(tmp_path / "r")))
    escaped = ("\\x1b[31mred", "two\\nlines", "\\u202eabc")
    assert detectors == {*plain, *(f"'{name}" for name in formulas), *escaped}
    assert sets == {"A", "'=cmd|x", escaped[0]}
    report = (tmp_path / "r/report.html").read_text()
    for text in (output, (tmp_path / "r/tables.md").read_text(), report):
        assert not any(c in text for c in "\x1b\u202e") and "red" in text
    assert "<b>&amp;amp;" not in report and "&lt;b&gt;&amp;amp;" in report
    text = Page(report).text
    assert "$x^{" in text and "_x: AUC" in text and "no installed font" not in output


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


def test_what_other_programs_leave_below_runs_is_left_out(tmp_path):
    write(tmp_path / "s/d/A.csv", BY_VIDEO)
    write(tmp_path / "runs/keras/log.csv", ["0,0.5,x"], "epoch,loss,val_loss")
    write(tmp_path / "runs/other/log.csv", ["12:00,hello"], "time,message")
    write(tmp_path / "runs/other/embedding.csv", ["a,1"], "name,x")
    write(tmp_path / "runs/mine/log.csv", ["1,8,0.5,0.7"], "epoch,step,train_loss,val_auc")
    (tmp_path / "runs/mine/args.json").write_text('{"flags": {"lr": 0.1}}')
    flags = f"--scores {tmp_path}/s --runs {tmp_path}/runs --out {tmp_path}/r --resamples 5"
    output = call(f"06_evaluate.py {flags}")
    left_out = re.findall("(.*) is left out", output)
    assert left_out == [str(tmp_path / f"runs/{name}/log.csv") for name in ("keras", "other")]
    text = Page((tmp_path / "r/report.html").read_text()).text
    assert "run mine" in text and "train loss" in text and "val loss" not in text


def test_the_report_is_one_page_with_everything(small, extractor, features, tmp_path):
    """Tables, figures, counts with reasons, learning curves, settings; nothing from outside.

    The same command writes the same page.
    """
    line = f"06_evaluate.py --scores {small}/scores --runs {small}/runs --out {tmp_path}"
    line += f" --faces {small}/faces/frames {small}/faces/phone --resamples 20"
    call(line)
    text = (tmp_path / "report.html").read_text()
    run(line, fresh=True)
    assert (tmp_path / "report.html").read_text() == text
    page = Page(text)
    assert page.outside == [] and page.open == []
    assert not any(part in text for part in ("@import", "url(http", "<script"))
    for part in (
        *("DEMONSTRATION", "AUC, image or clip level", "F1 (macro), video level", "ROC curves"),
        *("Learning curves", "resamples, seed 0", "numpy ", "num_frames: 4", "frames"),
    ):
        assert part in page.text, part
    for part in ("currentColor", "prefers-color-scheme: dark", "@media print"):
        assert part in text, part
    assert text.count("<svg") == 1 + 2 * 2 + 1
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids)), "each part of each picture has a name of its own"
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)


def test_the_best_of_a_column_is_bold():
    measured = {
        ("a", "S"): dict(auc=(0.9, 0, 1), eer=(0.2, 0, 1)),
        ("b", "S"): dict(auc=(0.90001, 0, 1), eer=(0.1, 0, 1)),
        ("c", "S"): dict(auc=(np.nan, 0, 1), eer=(np.nan, 0, 1)),
        ("a", "T"): dict(auc=(0.5, 0, 1), eer=(0.5, 0, 1)),
    }
    results = {(*key, level): of for key, of in measured.items() for level in metrics.LEVELS}

    def show(interval, bold):
        return f"{interval[0]}{'*' * bold}"

    for metric, level, columns in (
        ("auc", "image", (["0.9*", "0.90001*", "nan"], ["0.5", "", ""])),
        ("eer", "video", (["0.2", "0.1*", "nan"], ["0.5", "", ""])),
    ):
        rows = tables.metric_table(results, ["a", "b", "c"], ["S", "T"], metric, level, show)
        assert rows == [["", "S", "T"], *map(list, zip("abc", *columns))]


@pytest.mark.parametrize("count", [1, 8])
def test_the_title_of_a_roc_curve_is_within_its_figure(tmp_path, monkeypatch, count):
    def top_of_title(figure, name):
        return figure.axes[0].title.get_window_extent().y1 / figure.bbox.height

    monkeypatch.setattr(figures, "svg_text", top_of_title)
    curve = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.7, 1.0]))
    names, svgs = [f"a long name of a detector@{k}" for k in range(count)], {}
    figures.draw_roc(tmp_path / "roc", "Set", {name: (0.6, curve) for name in names}, names, svgs)
    assert 0.9 < svgs["roc"] < 1


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

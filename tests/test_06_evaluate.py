"""Stage 06 and its metrics: against scikit-learn, on known answers, on degenerate input."""

import csv
import json
import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import call, run, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from reporting import figures, metrics, pages, tables

evaluate = stage("06_evaluate")

# ---------------------------------------------------------------- metrics

pairs_with_ties = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda k: k / 8)), min_size=1, max_size=60
)
scores_with_ties = pairs_with_ties.map(lambda pairs: map(np.array, zip(*pairs)))


def measure_by_sklearn(labels, scores):
    """All metrics by scikit-learn; the EER is where the straight lines of its curve cross."""
    called_fake = scores >= 0.5
    by_class = precision_recall_fscore_support(
        labels, called_fake, labels=[0, 1], zero_division=np.nan
    )
    values = dict(accuracy=accuracy_score(labels, called_fake))
    for name, pair in zip(("precision", "recall", "f1"), by_class):
        values |= {name: pair[1], f"{name}_macro": pair.mean()}
    if len(set(labels)) < 2:
        return values | dict.fromkeys(("auc", "eer", "average_precision"), np.nan)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return values | dict(
        auc=roc_auc_score(labels, scores),
        eer=np.interp(0, fpr + tpr - 1, fpr),
        average_precision=average_precision_score(labels, scores),
    )


@given(scores_with_ties)
@settings(max_examples=150)
def test_all_metrics_agree_with_sklearn(pairs):
    labels, scores = pairs
    measured, expected = metrics.measure(labels, scores, scores), measure_by_sklearn(labels, scores)
    assert list(measured) == list(metrics.METRICS)
    assert measured == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert measured["auc"] == pytest.approx(metrics.auc(labels, scores), nan_ok=True, abs=0)


@given(scores_with_ties, st.integers(0, 1000))
@settings(max_examples=150)
def test_a_resample_gives_what_measuring_its_copies_gives(pairs, seed):
    """The metrics of a resample are those of scores repeated as often as they weigh."""
    labels, scores = pairs
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 5, len(labels))
    weights = rng.integers(0, 3, (1, 5))
    weights[0, groups[0]] = 1
    labels_, scores_ = (np.repeat(values, weights[0][groups]) for values in (labels, scores))
    expected = metrics.measure(labels_, scores_, scores_)
    resampled = metrics.measure_resampled(labels, scores, scores, groups, weights)
    values = {name: value for name, (value,) in resampled.items()}
    assert values == pytest.approx(expected, abs=1e-9, nan_ok=True)


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
    binned = metrics.measure_resampled(labels, scores, scores, groups, weights, bins=500)
    for name in metrics.METRICS:
        tolerance = 1 / 500 if name in ("auc", "eer", "average_precision") else 0
        assert np.abs(binned[name] - exact[name]).max() <= tolerance, name
    labels, scores = (np.repeat(values, weights[39][groups]) for values in (labels, scores))
    last = {name: values[39] for name, values in exact.items()}
    assert last == pytest.approx(metrics.measure(labels, scores, scores), abs=1e-9)


def test_a_thinned_roc_curve_is_the_curve():
    rng = np.random.default_rng(0)
    labels, noise = rng.integers(0, 2, 50_000), rng.normal(0, 1, 50_000)
    scores = 1 / (1 + np.exp(-noise - labels))
    x, y = metrics.roc(labels, scores)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert 2000 < len(x) <= 4000 < len(fpr) and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert set(zip(x, y)) <= set(zip(fpr, tpr))
    assert np.abs(np.trapezoid(y, x) - roc_auc_score(labels, scores)) < 1e-5
    assert (np.diff(x) + np.diff(y)).max() <= 2 / 4000 + (np.diff(fpr) + np.diff(tpr)).max()
    assert metrics.roc(np.ones(3), np.ones(3)) == ([], [])


def test_known_answers():
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    expected = dict.fromkeys(metrics.METRICS, 0.5) | dict(auc=0.75, average_precision=5 / 6)
    assert metrics.measure(labels, scores, scores) == pytest.approx(expected)
    same = np.full(4, 0.5)
    assert metrics.measure(labels, same, same)["auc"] == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_fakes = metrics.measure(np.ones(3, int), *[np.array([0.2, 0.7, 0.9])] * 2)
    assert all(np.isnan(of_fakes[name]) for name in ("auc", "eer", "average_precision"))
    assert of_fakes["recall"] == pytest.approx(2 / 3) and of_fakes["precision"] == 1
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


def run_06(folder, more="", fails=False):
    """Evaluate the scores in FOLDER/s into FOLDER/r; returns what was printed."""
    line = f"06_evaluate.py --scores {folder}/s --out {folder}/r --resamples 5"
    return call(f"{line} {more}", fails=fails)


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
    """Counts, levels, one class alone; Figures 2 and 3."""
    bars = []
    draw_bars = figures.draw_bars

    def watch(path, charts, sets, *rest):
        bars.append((path.name, charts, sets))
        draw_bars(path, charts, sets, *rest)

    monkeypatch.setattr(figures, "draw_bars", watch)
    good = [
        f"v{k},{f},{k % 2},{0.2 + 0.6 * (k % 2) + 0.01 * f}" for k in range(6) for f in range(3)
    ]
    write(tmp_path / "s/ours/A.csv", good)
    write(tmp_path / "s/ours/B.csv", [row for row in good if row.split(",")[2] == "1"])
    write(tmp_path / "s/FT-20epochs/A.csv", [f"{row.rsplit(',', 1)[0]},0.5" for row in good])
    write(tmp_path / "s/DANN-20epochs/A.csv", good)
    output, out = run_06(tmp_path), tmp_path / "r"
    assert "100.00 / 0.00" in output and "50.00 / 50.00" in output and "undefined" in output
    assert "WARNING" not in output
    rows = read_results(out)
    assert len(rows) == 8
    image, video = (rows["ours", "A", level] for level in ("image", "video"))
    assert (image["rows"], video["rows"], video["real"], video["fake"]) == ("18", "6", "3", "3")
    assert float(image["auc"]) == 1 and rows["ours", "B", "image"]["auc"] == "nan"
    text = (out / "tables.md").read_text()
    assert "| ours | **100.00 [100.0, 100.0]** | undefined |" in text
    assert text.count("## ") == 2 * len(metrics.METRICS)
    for name in ("roc_A", "roc_B", "scores_A", "scores_B", "figure2", "figure3"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(out.glob("*table*3.md"))

    (name2, charts2, sets2), (name3, ((_, bars3),), sets3) = bars
    assert (name2, sets2) == ("figure2", list("AB")) and (name3, sets3) == ("figure3", ["A"])
    levels = [("image or clip level", "ours", "image"), ("video level", "ours", "video")]
    assert charts2[-1] == ("ours", levels) and len(charts2) == 3
    assert [bar[1:] for bar in bars3] == [("FT-20epochs", "image"), ("DANN-20epochs", "image")]


def test_levels_and_line_ends_of_windows(tmp_path, without_figures):
    write(tmp_path / "s/ours/C.csv", BY_VIDEO)
    windows = "\ufeffvideo,frame,label,score\r\na,0,0,0.1\r\nb,0,1,0.9\r\n"
    (tmp_path / "s/ours/D.csv").write_bytes(windows.encode())
    run_06(tmp_path)
    aucs = {key[1:]: float(row["auc"]) for key, row in read_results(tmp_path / "r").items()}
    assert [*aucs.values()] == [0.5, 1, 1, 1] and [*aucs][:2] == [("C", "image"), ("C", "video")]


def test_the_papers_tables_stand_beside_ours(tmp_path, without_figures):
    """FeatureTransfer's Table 3 and CLRNet's Tables 3 to 6: ours, the paper's, the difference.

    Macro F1 stands below balanced accuracy; a mean needs all sets; other rows are quoted. Repeated
    trainings DETECTOR@SEED are mean ± sample standard deviation.
    """
    scores = {"FT/Celeb-DF": HALF, "FT/DFD": HALF[2:3], "mine/Celeb-DF": GOOD}
    for name in ("DF", "FS", "DFD", "DFDC", "F2F", "NT"):
        scores[f"CLRNet-{name}/{name}"] = GOOD if name in ("DF", "FS", "DFD") else HALF
        for model in ("ShallowNet", "MesoInception4"):
            scores[f"{model}-{name}/{name}"] = REAL if name == "DFDC" else GOOD
    scores |= {"MesoInception4-F2F/DFW": HALF, "CNN+LSTM-merge/NT": GOOD, "CLRNet-F2F/NT": REAL}
    scores |= {"CLRNet-transfer-FS/DF": GOOD, "CLRNet-FS/DFW": HALF, "CLRNet-merge/DFW": GOOD}
    scores |= {"CLRNet-transfer-NT/DFW": HALF, "CLRNet-search/DFW": GOOD}
    # Accuracies of 100, 75 and 50 % on DF: mean 75, deviation 25.
    for seed, values in enumerate(([0.1, 0.2, 0.8, 0.9], [0.1, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 1])):
        rows = [f"v{k},0,{k // 2},{p}" for k, p in enumerate(values)]
        scores |= {f"Xception-DF@{seed}/DF": rows, f"Se_Res@{seed}/DFD": rows}
    # Not repeats: one training alone, and a name without a number. A training without a seed gives
    # way to the repeated ones.
    scores |= dict.fromkeys(("Xception-FS@0/FS", "me@home/DF", "Xception-DF/DF"), rows)
    for name, lines in scores.items():
        write(tmp_path / f"s/{name}.csv", lines)
    out = tmp_path / "r"
    output = run_06(tmp_path)
    for text in (
        "-11.21 / +27.58",
        "CLRNet, Table 6: open-domain, on DFW, balanced accuracy and macro F1 in percent",
        "Avg. is over the cells that the paper averages",
        "Xception-DF is in results.csv; tables and bars have its repeated trainings",
    ):
        assert text in output, text

    rows = read_markdown(out / "table3.md")
    assert rows[0] == ["", "", "DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF"]
    assert rows[-3:] == [
        ["FT", "ours", "-", "-", "undefined / undefined", "-", "75.00 / 50.00"],
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

    text = (out / "tables.md").read_text().split("What this rests on")[0]
    assert "Xception-DF@" not in text and "| Xception-FS@0 |" in text
    assert "| me@home |" in text and "75.00 ± 25.00 (n=3)" in text
    assert "75.00 ± 25.00 (n=3)" in (out / "report.html").read_text()
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


def write_index(folder, rows):
    lines = [f"{k}.png,v{y},1,,{y},m,{split}" for k, (split, y) in enumerate(rows)]
    write(folder / "index.csv", lines, "path,video,frame,clip,label,method,split")


def test_table_2_counts_the_images(tmp_path):
    of_ff = [("train", 0)] * 3 + [("train", 1)] * 2 + [("val", 1)] + [("test", 0)]
    sets = {"FF-DF": of_ff, "Mine": [("", 1)] * 4, "Celeb-DF": [("", 0)]}
    for name, rows in sets.items():
        write_index(tmp_path / name, rows)
    for names, title in ((["Mine"], ""), (sets, ", FeatureTransfer, Table 2")):
        folders = " ".join(f"{tmp_path}/{name}" for name in names)
        call(f"06_evaluate.py --faces {folders} --out {tmp_path}/r")
        text = (tmp_path / "r/table2.md").read_text()
        assert text.startswith(f"# Number of face images{title}\n")
    assert read_markdown(tmp_path / "r/table2.md")[2:] == [
        ["FF-DF", "train", "3 / 2", "21600 / 21600", "-21597 / -21598", "2"],
        ["FF-DF", "test", "1 / 0", "4200 / 4200", "-4199 / -4200", "1"],
        ["Celeb-DF", "all", "1 / 0", "12240 / 23850", "-12239 / -23850", "1"],
        ["Mine", "all", "0 / 4", "-", "-", "1"],
    ]
    assert all(f"    faces of {name}: unknown" in text for name in sets)


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
    for name in ("FT@2/DFD", "CLRNet-F2F@3/DFW", "CLRNet-F2F/DFW"):
        write(tmp_path / f"s/{name}.csv", rows(*videos))
    # Seeds are those of the runs with the detectors' names. Those of Se_Res contradict each other.
    for name, seed in {"Mine": 7, "Se_Res/A": 1, "Se_Res/B": [2], "FT@2/Celeb-DF": 5}.items():
        write(tmp_path / f"runs/{name}/log.csv", ["1,8,0.5"], "epoch,step,train_loss")
        settings(f"runs/{name}", seed=seed)
    for name in ("Celeb-DF", "DFW"):
        write_index(tmp_path / "faces" / name, [("", 0)])
    how = dict(detector="mtcnn", align="landmarks", layout="ffpp", compression="c40")
    # args.json has all flags, also those that a layout or a sampling does not read.
    defaults = dict(num_frames=30, num_clips=16, clip_length=5, quality="lq")
    settings("faces/DFW", **how, **defaults, sampling="clips", size=240, masks=True)
    how = dict(detector="dlib", scale=1.3, layout="crops", format="png", compression="c23")
    settings("faces/Celeb-DF", **how, **defaults, sampling="frames", size=None)
    faces = f"--faces {tmp_path}/faces/Celeb-DF {tmp_path}/faces/DFW"
    printed = run_06(tmp_path, f"--runs {tmp_path}/runs {faces}")

    def basis_of(name):
        """The cells of the lines below the last table of a Markdown file."""
        text = (tmp_path / f"r/{name}.md").read_text().split("    What this rests on: ")[1]
        for line in text.splitlines()[1:]:
            assert line[4:] in printed.splitlines()
        return [re.split("  +", line.strip()) for line in text.splitlines()[1:] if line]

    def flags(name):
        return {
            "DFW": "--layout ffpp --compression c40 --sampling clips --num-clips 16 "
            "--clip-length 5 --size 240 --detector mtcnn --align landmarks --masks",
            "Celeb-DF": "--layout crops --sampling frames --num-frames 30 --scale 1.3 "
            "--format png --detector dlib",
        }.get(name, "unknown")

    all_of = "4 + 4 / 8 + 8"
    assert basis_of("table3") == [
        ["seed", "Celeb-DF", "DFD"],
        ["Se_Res", "unknown", "3 + 3 / 6 + 6"],
        ["Xception", "unknown", all_of],
        ["FT@0", "0", all_of],
        ["FT@2", "5", all_of, all_of],
        ["FT@10", "10", "4 + 4 / 8 + 7"],
        ["videos that all have", "6", "8"],
        ["expected, FeatureTransfer", "- / 12240 + 23850", "- / 10890 + 91740"],
        *([f"faces of {name}: {flags(name)}"] for name in ("Celeb-DF", "DFD")),
    ]
    of_dfw = ["CLRNet-F2F", "unknown", all_of]
    assert basis_of("clrnet_table4") == [
        ["seed", "DFW"],
        of_dfw,
        ["videos that all have", "8"],
        ["expected, CLRNet", "? + 200 / -"],
        [f"faces of DFW: {flags('DFW')}"],
    ]
    every = basis_of("tables")
    for row in (["Mine", "7", all_of], of_dfw, ["CLRNet-F2F@3", "3", all_of]):
        assert row in every
    assert ["expected, CLRNet", "-", "25 + 25 / -", "? + 200 / -"] in every
    report = Page((tmp_path / "r/report.html").read_text()).text
    assert f"faces of DFW: {flags('DFW')}" in report and "videos that all have" in report


def test_the_flags_of_faces_are_those_that_were_read(tmp_path):
    """No scale of crops that are not cut; release 2.0 recorded the size of clips for frames too."""
    for flags, shown in (
        (dict(detector="none", scale=1.2, size=240), "--size 240 --detector none"),
        (dict(sampling="frames", size=240, frame_size=64), "--sampling frames --size 64"),
    ):
        (tmp_path / "args.json").write_text(json.dumps(dict(flags=flags)))
        assert pages.describe_faces(["A"], {"A": tmp_path}) == [f"faces of A: {shown}"]


def test_input_that_cannot_be_evaluated(tmp_path):
    """Flags, folders, score files: one line that names the file."""
    for flags in ("", f"--runs {tmp_path} --faces {tmp_path}"):
        output = call(f"06_evaluate.py {flags} --out {tmp_path}", fails=True)
        assert "give --scores, --faces or both" in output
    assert "s is not a folder" in run_06(tmp_path, fails=True)
    assert "--resamples must be 1 or more" in run_06(tmp_path, "--resamples 0", fails=True)
    (tmp_path / "s").mkdir()
    assert "no score files" in run_06(tmp_path, fails=True)
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
    ):
        write(tmp_path / "s/d/A.csv", [], text)
        output = run_06(tmp_path, fails=True)
        assert says in output and "A.csv" in output
    write(tmp_path / "s/d/A.CSV", [])
    if len(list((tmp_path / "s/d").iterdir())) == 2:
        assert "both the scores of d on A" in run_06(tmp_path, fails=True)


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
    printed = run_06(tmp_path, "--resamples 50")
    report = Page((tmp_path / "r/report.html").read_text()).text
    for text in (printed, report, (tmp_path / "r/tables.md").read_text()):
        assert "S: 12 videos are real in one score file and fake in another, such as v0" in text
        (row,) = [row for row in text.split("\n") if "The AUC is below 50 %" in row]
        assert "labels on S (0.0 %" in row and "P(real) on T (0.0 %" in row
        assert not any(f"{name} on" in row for name in ("right", "chance", "few"))
        assert "the scores are P(real) instead of P(fake), or the labels are swapped" in row
    write(tmp_path / "s/labels/S.csv", set_of())
    (tmp_path / "s/P(real)/T.csv").unlink()
    assert "WARNING" not in run_06(tmp_path, "--resamples 50")


def test_names_are_text_in_tables_figures_and_on_a_terminal(tmp_path):
    """No formula in a spreadsheet, no escape sequence on a terminal, no tag, no TeX."""
    figures.warn_of_missing_glyphs.cache_clear()
    plain, escaped = ("<b>&amp;", "$x^{", "_x", "我的模型"), ("\\x1b[31mred", "\\u202eabc")
    for name in (*plain, "=cmd|x", "@x", "\x1b[31mred", "\u202eabc"):
        write(tmp_path / "s" / name / "A.csv", BY_VIDEO)
    write(tmp_path / "s/_x/=two\nlines.CSV", BY_VIDEO)
    output = run_06(tmp_path)
    detectors, sets, _ = map(set, zip(*read_results(tmp_path / "r")))
    assert detectors == {*plain, "'=cmd|x", "'@x", *escaped} and sets == {"A", "'=two\\nlines"}
    report = (tmp_path / "r/report.html").read_text()
    for text in (output, (tmp_path / "r/tables.md").read_text(), report):
        assert not any(c in text for c in "\x1b\u202e") and "red" in text
    assert "<b>&amp;amp;" not in report and "&lt;b&gt;&amp;amp;" in report
    text = Page(report).text
    assert "$x^{" in text and "_x: AUC" in text and output.count("no installed font") <= 1


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
    output = run_06(tmp_path, f"--runs {tmp_path}/runs")
    skipped = re.findall("(.*) is skipped", output)
    assert skipped == [str(tmp_path / f"runs/{name}/log.csv") for name in ("keras", "other")]
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
        ("a", "S"): dict(auc=(0.9,), eer=(0.2,)),
        ("b", "S"): dict(auc=(0.90001,), eer=(0.1,)),
        ("c", "S"): dict(auc=(np.nan,), eer=(np.nan,)),
        ("a", "T"): dict(auc=(0.5,), eer=(0.5,)),
    }
    results = {(*key, level): of for key, of in measured.items() for level in metrics.LEVELS}

    for metric, level, columns in (
        ("auc", "image", (["90.00*", "90.00*", "undefined"], ["50.00", "", ""])),
        ("eer", "video", (["20.00", "10.00*", "undefined"], ["50.00", "", ""])),
    ):
        rows = tables.metric_table(results, ["a", "b", "c"], ["S", "T"], metric, level, "{}*")
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

    def overlay(*args):
        drawn.append(args[1:])
        return real_overlay(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "overlay", overlay)
        figures.draw_activation_maps(tmp_path / "cam", "Maps", ["a", "$b^{"], frames, maps)
    assert len(drawn) == 6 and {top for *_, top in drawn} == {np.abs(maps).max()}
    for k, (image, heat, _) in enumerate(drawn):
        assert (image == frames[divmod(k, 3)]).all() and (heat == maps[divmod(k, 3)]).all()
    assert (tmp_path / "cam.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "cam.pdf").read_bytes().startswith(b"%PDF")

"""Tables in Markdown and for the terminal, and those of the papers with their printed numbers.

`results` is {(detector, set, level): metrics of stage 06 for the level} everywhere.
"""

import numpy as np

from common import read_index, write_whole
from reporting.metrics import LEVELS, METRICS
from running.folder import read_flags

NOTE = (
    "Values are percentages with the 95 % interval from resampling videos; the best value of a "
    "column is in bold. A score is P(fake); accuracy, precision, recall and F1 are measured at the "
    "threshold 0.5. Values with ± are mean and sample standard deviation of n repeated trainings."
)


# ---------------------------------------------------------------- numbers printed in the papers

# FeatureTransfer (Chen and Tan, 2021), Table 2: number of face images, (real, fake), by (data set,
# split), where None stands for all images.
TABLE_2 = {
    ("FF-DF", "train"): (21600, 21600),
    ("FF-DF", "test"): (4200, 4200),
    ("FF-FS", "val"): (4200, 4200),
    ("FF-FS", "test"): (4200, 4200),
    ("DF-TIMIT", None): (9600, 9600),
    ("DFD", None): (10890, 91740),
    ("Celeb-DF", None): (12240, 23850),
    ("DFDC-P", None): (33897, 123412),
    ("DFDC-F", "train"): (2839521, 2885045),
}
# What the papers test on, videos / images, real + fake. CLRNet (5) counts no reals of DFW, and
# nothing of DFDC.
EXPECTED = {
    "FeatureTransfer": {
        name: f"- / {real} + {fake}"
        for (name, split), (real, fake) in TABLE_2.items()
        if split in ("test", None)
    },
    "CLRNet": dict.fromkeys(("DF", "FS", "F2F", "NT"), "125 + 125 / -")
    | {"DFD": "25 + 25 / -", "DFW": "? + 200 / -"},
}
SETS = ("DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF")
# FeatureTransfer, Figure 3: the two training strategies, 20 epochs each. The paper shows bars
# without numbers.
FIGURE_3 = {"FT-20epochs": "FeatureTransfer (two stages)", "DANN-20epochs": "DANN (end to end)"}

# CLRNet (Tariq, Lee and Woo, 2021) heads its numbers F1 and calls the same numbers accuracy in the
# text ("93.86% detection accuracy" is Table 6's). Cells near 50 out of domain fit accuracy: a
# detector that calls everything real has accuracy 50 and macro F1 33. So accuracy is compared with
# the paper, balanced (the mean recall of both classes) as the authors test on equal numbers of
# both, and macro F1 stands beside it.
CLRNET_METRICS = (("recall_macro",), ("f1_macro",))
CLRNET_UNIT = "balanced accuracy and macro F1 in percent"
TABLE_6_TRAININGS = {
    "single FS": "FS",
    "merge": "merge",
    "transfer NT": "transfer-NT",
    "search": "search",
}


def model_of(label):
    """The name that 05's --model has for the model of a row."""
    return label.split(",")[0].replace("MesoNet", "MesoInception4")


# The tables that 06 prints in the form of the paper. `place` is the (detector, data set) whose
# score file belongs to a row and a column: detectors are named as the rows of FeatureTransfer, and
# of CLRNet MODEL-SET (single), MODEL-merge, MODEL-transfer-SOURCE and MODEL-search. `metrics` are
# columns of results.csv, a tuple for each row of ours, of which the first is compared with the
# paper. A cell of `rows` is VALUE, VALUE/VALUE or VALUE±SPREAD in percent, or - for none. The last
# column is the mean over the columns `mean`, and in some rows over those of `mean_of`.
TABLES = [
    # FeatureTransfer quotes FSSpotter and Face X-ray from their papers.
    dict(
        file="table3.md",
        title="FeatureTransfer, Table 3: AUC / EER in percent, image level",
        columns=SETS,
        place=lambda label, column: (label, column),
        metrics=(("auc", "eer"),),
        rows="""
            Xception:   98.80/5.95   99.56/2.74   83.06/25.92  82.10/27.23  72.54/34.71
            FSSpotter:  97.33/-      -            -            -            76.26/-
            Face X-ray: -            98.00/-      95.40/8.37   80.92/27.54  80.58/26.70
            Se_Res:     90.61/16.22  84.52/22.83  89.02/21.06  97.99/6.25   78.21/29.80
            FT:         96.56/8.05   88.62/19.52  91.00/16.21  98.77/5.75   86.21/22.42
        """,
    ),
    dict(
        file="clrnet_table3.md",
        title=f"CLRNet, Table 3: in-domain, {CLRNET_UNIT}",
        columns=("DF", "FS", "DFD", "DFDC", "F2F", "NT"),
        place=lambda label, column: (f"{model_of(label)}-{column}", column),
        metrics=CLRNET_METRICS,
        rows="""
            CNN+LSTM:   78.51±3.5 77.75±1.5 70.31±5.3 86.28±1.5 71.87±3.1 90.54±1.0 77.80
            DBiRNN:     80.54±2.7 80.56±1.8 82.45±3.4 81.94±3.5 73.12±6.1 94.38±0.3 82.21
            ShallowNet: 88.97±2.5 93.33±1.3 73.73±4.7 91.75±0.4 75.26±5.1 99.45±0.1 87.08
            Xception:   99.00±0.2 99.29±0.2 95.53±0.4 96.50±0.1 87.62±2.4 99.46±0.1 96.18
            MesoNet:    99.01±0.1 99.26±0.1 95.37±0.1 95.69±0.1 99.01±0.1 99.27±0.1 98.38
            CLRNet:     99.20±0.1 99.50±0.2 96.00±0.1 96.76±0.2 99.20±0.1 99.50±0.1 98.61
        """,
        mean=("DF", "FS", "DFD", "F2F", "NT"),
        mean_of={"ShallowNet": ("DF", "FS", "DFD", "DFDC", "F2F", "NT")},
        note="Avg. is over the cells that the paper averages: without DFDC, for ShallowNet with "
        "it. CLRNet's printed 98.61 is neither mean (98.68 without DFDC, 98.36 with it).",
    ),
    dict(
        file="clrnet_table4.md",
        title=f"CLRNet, Table 4: out-of-domain, trained on F2F, {CLRNET_UNIT}",
        columns=("F2F", "DF", "FS", "DFD", "NT", "DFW"),
        place=lambda label, column: (f"{model_of(label)}-F2F", column),
        metrics=CLRNET_METRICS,
        rows="""
            CNN+LSTM:   71.87±3.1 51.12±0.1 50.45±0.4 50.25±0.1 46.96±0.6 49.14±0.5
            DBiRNN:     73.12±6.1 53.65±0.3 50.12±0.3 50.86±0.5 48.45±0.3 49.34±0.1
            ShallowNet: 75.26±5.1 55.57±0.1 51.37±0.6 51.58±0.4 47.29±0.1 50.08±0.1
            Xception:   87.62±2.4 52.40±0.2 50.10±0.2 50.25±1.3 50.52±0.2 50.06±0.1
            MesoNet:    99.01±0.1 51.90±0.5 50.43±0.3 49.73±0.2 50.36±0.3 49.77±0.2
            CLRNet:     99.20±0.1 64.18±0.1 52.32±0.1 56.75±0.2 50.60±0.1 50.59±0.1
        """,
    ),
    dict(
        file="clrnet_table5.md",
        title=f"CLRNet, Table 5: merge learning, and transfer learning from FS, {CLRNET_UNIT}",
        columns=("FS", "DF", "DFD", "F2F", "NT"),
        place=lambda label, column: (
            f"{model_of(label)}-{'merge' if 'merge' in label else 'transfer-FS'}",
            column,
        ),
        metrics=CLRNET_METRICS,
        rows="""
            CNN+LSTM, merge:      57.45±5.1 63.12±2.3 55.54±4.1 53.23±7.5 80.12±4.1 61.89
            DBiRNN, merge:        59.42±2.1 61.75±2.1 59.85±5.2 55.42±1.3 82.10±3.8 63.71
            ShallowNet, merge:    55.86±7.1 65.16±5.4 50.92±1.2 58.84±5.2 86.03±1.8 63.36
            Xception, merge:      73.29±5.8 78.57±6.2 54.35±4.2 74.17±6.3 82.45±2.3 72.57
            MesoNet, merge:       80.17±2.6 84.21±1.2 86.27±0.2 82.52±3.1 87.60±1.9 84.35
            CLRNet, merge:        87.20±0.8 85.72±0.1 86.52±0.1 89.20±0.1 89.28±0.1 87.58
            CNN+LSTM, transfer:   70.21±1.0 52.75±5.1 53.52±4.5 50.73±3.1 63.34±4.1 58.11
            DBiRNN, transfer:     67.45±2.5 55.95±1.0 50.43±7.2 51.79±8.5 66.08±5.0 58.34
            ShallowNet, transfer: 87.51±3.7 50.29±1.4 42.38±9.9 53.83±7.2 67.24±8.2 60.25
            Xception, transfer:   73.90±7.6 65.04±5.7 57.60±8.1 55.43±9.2 76.79±7.0 65.75
            MesoNet, transfer:    93.36±3.1 69.60±9.3 64.58±7.9 83.58±7.2 81.51±9.1 78.52
            CLRNet, transfer:     98.70±0.2 97.23±0.3 97.13±0.1 97.50±0.2 97.30±0.1 97.57
        """,
        mean=("FS", "DF", "DFD", "F2F", "NT"),
        note="MesoNet's printed average of merge, 84.35, is not that of its cells, 84.15.",
    ),
    dict(
        file="clrnet_table6.md",
        title=f"CLRNet, Table 6: open-domain, on DFW, {CLRNET_UNIT}",
        columns=tuple(TABLE_6_TRAININGS),
        place=lambda label, column: (f"{model_of(label)}-{TABLE_6_TRAININGS[column]}", "DFW"),
        metrics=CLRNET_METRICS,
        rows="""
            CNN+LSTM:   45.23±1.2 53.75±3.1 55.10±4.7 63.64
            DBiRNN:     47.15±1.0 51.97±4.6 58.12±6.1 65.71
            ShallowNet: 48.36±2.1 57.84±7.7 60.35±8.3 70.72
            Xception:   49.12±3.2 71.45±5.9 61.41±7.2 72.51
            MesoNet:    49.45±1.3 78.12±4.8 75.56±6.6 80.25
            CLRNet:     50.65±0.9 84.95±0.2 93.86±0.2 95.92
        """,
        note="The paper chooses and reports on all of DFW. recipes/clrnet_table6.sh chooses on one "
        "half of DFW, and measures all four columns on the other half; with SEARCH=0, the first "
        "three on all of DFW.",
    ),
]


def rows_of(table):
    """[(label, cells)] of one of the TABLES."""
    rows = [line.split(":") for line in table["rows"].strip().splitlines()]
    return [(label.strip(), cells.split()) for label, cells in rows]


def places_of(table):
    """The (detector, data set) of each cell of one of the TABLES, row by row."""
    rows = [label for label, _ in rows_of(table)]
    return [table["place"](label, column) for label in rows for column in table["columns"]]


def columns_averaged(table, label):
    """The columns whose mean is in the last column of a row; none where there is no such column."""
    return table.get("mean_of", {}).get(label, table.get("mean", ()))


# ---------------------------------------------------------------- writing


def markdown_table(rows):
    """Lines of a Markdown table. rows: lists of texts, of which the first is the header."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]]


def write_markdown(path, title, lines):
    """Write a Markdown file of a title and lines, whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        part.write_text("\n".join([f"# {title}", "", *lines]) + "\n", encoding="utf-8")


def aligned(rows, align="<"):
    """Rows of text as lines with aligned columns; `align` (< or >) is that of all but the first."""
    first, *others = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [f"{cell:{align}{width}}" for cell, width in zip(row[1:], others)]
        lines.append("  ".join([f"{row[0]:<{first}}", *cells]).rstrip())
    return lines


def print_and_write(path, title, rows, basis, note=""):
    """Print rows of text as a table, below it a note and the table's basis; write all as Markdown.

    basis: lines of text that say what the table rests on.
    """
    notes = [note, ""] if note else []
    print("\n".join(["", title, "", *aligned(rows), "", *notes, *basis]))
    write_markdown(path, title, [*markdown_table(rows), "", *notes, *map(code, basis)])


def code(line):
    """A line of text as Markdown shows it unchanged."""
    return f"    {line}".rstrip()


def percent_with_interval(value, low=None, high=None, trainings=None):
    """A cell in percent with its interval, if there is one: "97.50 [95.1, 99.0]", or "undefined".

    Of several trainings (`pool_repeats`) it is "97.50 ± 0.20 (n=3)".
    """
    if np.isnan(value):
        return "undefined"
    if low is None:
        return f"{100 * value:.2f}"
    if trainings:
        return f"{100 * value:.2f} ± {100 * (high - value):.2f} (n={trainings})"
    return f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


# ---------------------------------------------------------------- all metrics


def metric_table(results, detectors, sets, metric, level, bold):
    """Rows of text of one metric at one level: one row per detector, one column per data set.

    bold: format of the best value of a column, "**{}**", where at least two detectors have one;
    values that agree in the two decimals shown are equally good.
    """
    best = min if metric == "eer" else max
    rows = [["", *sets], *([detector] for detector in detectors)]
    for name in sets:
        scored = [results.get((detector, name, level)) for detector in detectors]
        values = [round(100 * result[metric][0], 2) if result else np.nan for result in scored]
        defined = [value for value in values if not np.isnan(value)]
        for row, result, value in zip(rows[1:], scored, values):
            text = percent_with_interval(*result[metric]) if result else ""
            row.append(bold.format(text) if len(defined) > 1 and value == best(defined) else text)
    return rows


def write_tables(path, results, detectors, sets, warnings, basis):
    """Write tables.md: warnings, one table per metric and level, and what they rest on."""
    lines = [NOTE]
    for warning in warnings:
        lines += ["", f"**Warning:** {warning}"]
    for metric, title in METRICS.items():
        for level, level_title in LEVELS.items():
            rows = metric_table(results, detectors, sets, metric, level, "**{}**")
            lines += ["", f"## {title}, {level_title}", "", *markdown_table(rows)]
    write_markdown(path, "Results", [*lines, "", *map(code, basis)])


def print_auc_and_eer(results, detectors, sets):
    """Print AUC and EER of all detectors on all data sets, one table per level."""
    for level, title in LEVELS.items():
        rows = [["", *sets]]
        for detector in detectors:
            scored = [results.get((detector, name, level)) for name in sets]
            rows.append([detector, *(paper_cell(result, ("auc", "eer")) for result in scored)])
        print("\n".join(["", f"AUC / EER in percent, {title}", "", *aligned(rows, ">")]))


# ---------------------------------------------------------------- beside the papers


def paper_table(results, table):
    """One of the TABLES as rows of text, or None if none of its detectors was scored.

    A detector that was scored has rows of ours, of the paper's and of the difference (ours minus
    the paper's), the others only the paper's.
    """
    rows = [["", "", *table["columns"], *(["Avg."] if "mean" in table else [])]]
    for label, paper in rows_of(table):
        printed = [cell.replace("/", " / ").replace("±", " ± ") for cell in paper]
        places = {column: table["place"](label, column) for column in table["columns"]}
        scored = {column: results.get((*place, "image")) for column, place in places.items()}
        if not any(scored.values()):
            rows.append([label, "paper", *printed])
            continue
        if averaged := columns_averaged(table, label):
            scored["Avg."] = mean_result([scored[column] for column in averaged])
        for k, metrics in enumerate(table["metrics"]):
            cells = [paper_cell(result, metrics) for result in scored.values()]
            names = [label, "ours"] if k == 0 else ["", f"ours, {METRICS[metrics[0]]}"]
            rows.append([*names, *cells])
        rows.append(["", "paper", *printed])
        differences = [
            difference(result, table["metrics"][0], cell)
            for result, cell in zip(scored.values(), paper)
        ]
        rows.append(["", "difference", *differences])
    return rows if any(row[1] == "ours" for row in rows) else None


def mean_result(results):
    """The mean of each metric, without an interval; None if a result is missing."""
    if not all(results):
        return None
    return {name: (np.mean([result[name][0] for result in results]),) for name in METRICS}


def paper_cell(result, metrics):
    """One metric with its interval, or several without; of repeated trainings with deviations."""
    if result is None:
        return "-"
    intervals = [result[metric] for metric in metrics]
    if len(metrics) > 1 and len(intervals[0]) == 3:
        intervals = [interval[:1] for interval in intervals]
    return " / ".join(percent_with_interval(*interval) for interval in intervals)


def difference(result, metrics, cell):
    """Our values minus those of a cell of the paper, with - for each that is missing."""
    if result is None or cell == "-":
        return "-"
    texts = []
    for metric, text in zip(metrics, cell.split("±")[0].split("/")):
        value = result[metric][0]
        missing = text == "-" or np.isnan(value)
        texts.append("-" if missing else f"{100 * value - float(text):+.2f}")
    return " / ".join(texts)


def table_2(folders):
    """Numbers of face images beside FeatureTransfer's Table 2, as rows of text.

    folders: {name: folder of stage 01}. One row per split that the paper counts, or one for all
    images of a folder, in the paper's order. Clips are not compared with it.
    """
    rows = [["", "split", "images, real / fake", "paper", "difference", "videos"]]
    order = [name for name, _ in TABLE_2]
    for name in sorted(folders, key=lambda name: [*order, name].index(name)):
        index = read_index(folders[name])
        is_clips = read_flags(folders[name]).get("sampling") == "clips"
        of_paper = {} if is_clips else {key[1]: TABLE_2[key] for key in TABLE_2 if key[0] == name}
        for split in of_paper or [None]:
            is_counted = np.array(index["split"]) == split if split else slice(None)
            counts = np.bincount(index["label"][is_counted], minlength=2).tolist()
            paper = of_paper.get(split, ())
            differences = [f"{ours - theirs:+d}" for ours, theirs in zip(counts, paper)]
            numbers = [" / ".join(map(str, pair)) or "-" for pair in (counts, paper, differences)]
            videos = len(set(np.array(index["video"])[is_counted]))
            rows.append([name, split or "all", *numbers, str(videos)])
    return rows

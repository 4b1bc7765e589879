"""The numbers printed in the papers, which 06_evaluate.py shows beside its own.

Data sets and detectors are named as in the score files: scores/FT/Celeb-DF.csv is row FT, column
Celeb-DF.
"""

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

# FeatureTransfer, Figure 3: the two training strategies, 20 epochs each. The paper shows bars
# without numbers.
FIGURE_3 = {"FT-20epochs": "FeatureTransfer (two stages)", "DANN-20epochs": "DANN (end to end)"}


def make_table(columns, place, text, mean=(), mean_of=None, note="", **about):
    """A table that 06 prints in the form of the paper, as a dict.

    text: one line per row, "label: cell cell ...", where a cell is VALUE, VALUE/VALUE or
    VALUE±SPREAD in percent, or - where the paper gives none. place(label, column): the (detector,
    data set) whose score file belongs there. mean: the columns whose mean is in the last one;
    mean_of: {label: columns} of rows that the paper averages otherwise. note: a line below the
    table. about: file; title; metrics, names of columns of results.csv: one tuple per row of ours,
    of which the first is compared with the paper.
    """
    rows = []
    for line in text.strip().splitlines():
        label, cells = line.split(":")
        label = label.strip()
        rows.append((label, [place(label, column) for column in columns], cells.split()))
    if mean:
        columns = (*columns, "Avg.")
    return dict(columns=columns, mean=mean, mean_of=mean_of or {}, rows=rows, note=note, **about)


def clrnet_table(number, title, columns, place, text, mean=(), mean_of=None, note=""):
    """A table of CLRNet (Tariq, Lee and Woo, 2021), in percent, of single frames or clips.

    The paper heads its numbers F1 and calls the same numbers accuracy in the text ("93.86%
    detection accuracy" is Table 6's). Cells near 50 out of domain fit accuracy: a detector that
    calls everything real has accuracy 50 and macro F1 33. So accuracy is compared with the paper,
    and F1, the mean over both classes, stands beside it. Accuracy is balanced, the mean recall of
    both classes, as the authors test on equal numbers of both. Detectors are named MODEL-SET
    (single), MODEL-merge, MODEL-transfer-SOURCE and MODEL-search, where MODEL is one of
    05's --model; MesoNet is MesoInception4. place(label, column): (what follows MODEL-, data set).
    """

    def place_of_model(label, column):
        model = label.split(",")[0].replace("MesoNet", "MesoInception4")
        training, name = place(label, column)
        return f"{model}-{training}", name

    return make_table(
        columns,
        place_of_model,
        text,
        mean,
        mean_of,
        note,
        file=f"clrnet_table{number}.md",
        title=f"CLRNet, Table {number}: {title}, balanced accuracy and macro F1 in percent",
        metrics=(("recall_macro",), ("f1_macro",)),
    )


SETS = ("DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF")
TABLE_6_DETECTORS = {
    "single FS": "FS",
    "merge": "merge",
    "transfer NT": "transfer-NT",
    "search": "search",
}
TABLES = [
    # FeatureTransfer quotes FSSpotter and Face X-ray from their papers.
    make_table(
        SETS,
        lambda label, column: (label, column),
        """
            Xception:   98.80/5.95   99.56/2.74   83.06/25.92  82.10/27.23  72.54/34.71
            FSSpotter:  97.33/-      -            -            -            76.26/-
            Face X-ray: -            98.00/-      95.40/8.37   80.92/27.54  80.58/26.70
            Se_Res:     90.61/16.22  84.52/22.83  89.02/21.06  97.99/6.25   78.21/29.80
            FT:         96.56/8.05   88.62/19.52  91.00/16.21  98.77/5.75   86.21/22.42
        """,
        file="table3.md",
        title="FeatureTransfer, Table 3: AUC / EER in percent, image level",
        metrics=(("auc", "eer"),),
    ),
    clrnet_table(
        3,
        "in-domain",
        ("DF", "FS", "DFD", "DFDC", "F2F", "NT"),
        lambda label, column: (column, column),
        """
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
    clrnet_table(
        4,
        "out-of-domain, trained on F2F",
        ("F2F", "DF", "FS", "DFD", "NT", "DFW"),
        lambda label, column: ("F2F", column),
        """
            CNN+LSTM:   71.87±3.1 51.12±0.1 50.45±0.4 50.25±0.1 46.96±0.6 49.14±0.5
            DBiRNN:     73.12±6.1 53.65±0.3 50.12±0.3 50.86±0.5 48.45±0.3 49.34±0.1
            ShallowNet: 75.26±5.1 55.57±0.1 51.37±0.6 51.58±0.4 47.29±0.1 50.08±0.1
            Xception:   87.62±2.4 52.40±0.2 50.10±0.2 50.25±1.3 50.52±0.2 50.06±0.1
            MesoNet:    99.01±0.1 51.90±0.5 50.43±0.3 49.73±0.2 50.36±0.3 49.77±0.2
            CLRNet:     99.20±0.1 64.18±0.1 52.32±0.1 56.75±0.2 50.60±0.1 50.59±0.1
        """,
    ),
    clrnet_table(
        5,
        "merge learning, and transfer learning from FS",
        ("FS", "DF", "DFD", "F2F", "NT"),
        lambda label, column: ("merge" if label.endswith("merge") else "transfer-FS", column),
        """
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
    clrnet_table(
        6,
        "open-domain, on DFW",
        tuple(TABLE_6_DETECTORS),
        lambda label, column: (TABLE_6_DETECTORS[column], "DFW"),
        """
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

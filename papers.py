"""The numbers that the papers print, to stand beside ours. 06_evaluate.py prints and draws with them; nothing is computed from them.

Names of data sets and detectors are those of the score files: scores/FT/Celeb-DF.csv is row FT, column Celeb-DF.
"""

# FeatureTransfer (Chen and Tan, 2021), Table 2: number of face images, (real, fake) by (data set, split); None = all images.
TABLE_2 = {
    ("FF-DF", "train"): (21600, 21600), ("FF-DF", "test"): (4200, 4200),
    ("FF-FS", "val"): (4200, 4200), ("FF-FS", "test"): (4200, 4200),
    ("DF-TIMIT", None): (9600, 9600), ("DFD", None): (10890, 91740), ("Celeb-DF", None): (12240, 23850),
    ("DFDC-P", None): (33897, 123412), ("DFDC-F", "train"): (2839521, 2885045),
}

# FeatureTransfer, Table 3: (AUC, EER) in percent, image level; None = not given. FSSpotter and Face X-ray are quoted there from their papers.
TABLE_3_SETS = ("DF-TIMIT", "FF-FS", "DFD", "DFDC-P", "Celeb-DF")
TABLE_3 = {
    "Xception": ((98.80, 5.95), (99.56, 2.74), (83.06, 25.92), (82.10, 27.23), (72.54, 34.71)),
    "FSSpotter": ((97.33, None), None, None, None, (76.26, None)),
    "Face X-ray": (None, (98.00, None), (95.40, 8.37), (80.92, 27.54), (80.58, 26.70)),
    "Se_Res": ((90.61, 16.22), (84.52, 22.83), (89.02, 21.06), (97.99, 6.25), (78.21, 29.80)),
    "FT": ((96.56, 8.05), (88.62, 19.52), (91.00, 16.21), (98.77, 5.75), (86.21, 22.42)),
}

# FeatureTransfer, Figure 3: the two training strategies, both 20 epochs. Its values are bars without numbers.
FIGURE_3 = {"FT-20epochs": "FeatureTransfer (two stages)", "DANN-20epochs": "DANN (end to end)"}

#!/usr/bin/env python3
"""Time and disk of the papers' full experiments, computed from the rates that the other benchmarks measured.

    python bench/scale.py --cores 2 --decode 0.55 --frames 1.1 --clips 1.4 --train 4.5 --extract 20 --adapt 25000 --clip 2.3 \\
        --evaluate 60 --frame-kb 70 --clip-frame-kb 67

Counts are the papers': images of FeatureTransfer's Table 2 (papers.py), videos of the data sets, CLRNet's splits of section 5 and its 16 clips a
video, the epochs of both. Nothing at full size has been run. `hours` are wall time on one such machine with all its cores at work.
"""

from side_by_side import ROOT, arguments, record, table  # noqa: F401 (puts the project on the path)

from reporting import papers

DFDC, FF, DFD, CELEB_DF, DFDC_P, DF_TIMIT, DFW = (
    128_154,
    1_000,
    3_431,
    1_203,
    5_244,
    640,
    200,
)  # videos; FF: originals, or one method
EPOCHS = dict(single=300, merge=150, transfer=150)  # CLRNet, the authors' code
CLIPS = {
    "DF": 24_000,
    "FS": 24_000,
    "F2F": 24_000,
    "NT": 24_000,
    "DFD": 8_000,
    "DFDC": 24_000,
}  # 16 of each of 1,500 (500) training videos


def subsets(names):
    """All subsets but the empty one."""
    return [[n for k, n in enumerate(names) if bits >> k & 1] for bits in range(1, 2 ** len(names))]


def clrnet_clips():
    """Training clips times epochs of CLRNet's trainings: {what: number}."""

    def merge(sets):
        return len(sets) * min(CLIPS[s] for s in sets) * EPOCHS["merge"]

    def transfer(sets):
        return 20 * 16 * len(sets) * EPOCHS["transfer"]  # ten real and ten fake videos of each

    pairs = [(i, j) for i in subsets(["F2F", "NT"]) for j in subsets(["DF", "FS", "DFD"])]
    return {
        "Table 3 and 4, six single trainings": sum(CLIPS.values()) * EPOCHS["single"],
        "Table 5, merge of five and transfer from FS": merge(["FS", "DF", "DFD", "F2F", "NT"])
        + transfer(["DF", "DFD", "F2F", "NT"]),
        "Table 6, grid search of 21 pairs": sum(merge(i + j) + transfer(j) for i, j in pairs)
        + merge(["F2F", "NT"]),
    }


def main():
    parser = arguments(__doc__, rounds=None)
    for flag, help_ in (
        ("cores", "CPU cores of the machine"),
        ("decode", "01's limit, CPU seconds a video"),
        ("frames", "01, CPU seconds a video of 30 frames"),
        ("clips", "01, CPU seconds a video of 16 clips"),
        ("train", "02's loop, images a second"),
        ("extract", "03, images a second"),
        ("adapt", "04, images a second"),
        ("clip", "05, seconds a clip in training"),
        ("evaluate", "06, seconds for 6 million scores"),
        ("frame-kb", "KB of a face image of 01"),
        ("clip-frame-kb", "KB of a frame of a clip"),
    ):
        parser.add_argument(f"--{flag}", type=float, required=True, metavar="X", help=help_)
    args = parser.parse_args()
    images = {key: sum(counts) for key, counts in papers.TABLE_2.items()}
    pretraining, rest = (
        images["DFDC-F", "train"],
        sum(n for key, n in images.items() if key != ("DFDC-F", "train")),
    )
    frame = (args.frames - args.decode) / 30  # CPU seconds of a frame beside decoding
    videos = 3 * FF + DFD + CELEB_DF + DFDC_P + DF_TIMIT
    hours = 3600 * args.cores
    targets = 5 * 50 * 2 * 43_200  # five targets, 50 epochs, an image of each domain
    rows = [
        (
            "01, FeatureTransfer",
            f"DFDC: {DFDC} videos, {pretraining} faces",
            (DFDC * args.decode + pretraining * frame) / hours,
            pretraining * args.frame_kb / 1e6,
        ),
        (
            "",
            f"the other sets: {videos} videos, {rest} faces",
            (videos * args.decode + rest * frame) / hours,
            rest * args.frame_kb / 1e6,
        ),
        ("02", f"10 epochs of {pretraining} images", 10 * pretraining / args.train / 3600, 1.2),
        ("03", f"{rest} images", rest / args.extract / 3600, rest * 8192 / 1e9),
        ("04", "five targets, 50 epochs each", targets / args.adapt / 3600, 0.1),
        ("06", "Table 3, at most", 3 * args.evaluate / 3600, 0.1),
        (
            "01, CLRNet",
            f"{5 * FF + 600 + 3_000 + DFW} videos, 80 frames each (DFDC: 3,000 of them)",
            (5 * FF + 600 + 3_000 + DFW) * args.clips / hours,
            (5 * FF + 600 + 3_000 + DFW) * 80 * args.clip_frame_kb / 1e6,
        ),
    ]
    rows += [("05", what, clips * args.clip / 3600, 6.0) for what, clips in clrnet_clips().items()]
    total = sum(clrnet_clips().values()) * args.clip / 3600
    longest = (
        4 * 24_000 * EPOCHS["merge"] * args.clip / 86400
    )  # a merge of the four sets of FF++, in the grid search
    record(
        args,
        [
            "One machine, all its cores, without a GPU:",
            "",
            *table(
                ("stage", "work", "hours", "days", "disk, GB"),
                [
                    (stage, what, f"{h:,.1f}", f"{h / 24:,.1f}", f"{gb:,.1f}")
                    for stage, what, h, gb in rows
                ],
            ),
            "",
            "What several machines change. 01 and 03 share nothing: n machines take 1/n of the time, each with its own part of the videos (--list) and its own "
            "folder. 04 takes a target a machine. The trainings of 05 are independent of each other but for transfer, which waits for its source: "
            f"{6 + 2 + 43} machines would bring the {total / 24:,.0f} days down to the longest one of them, {longest:,.0f} days. 02 is one training, "
            f"which torchrun may share out, as it may 05's; what that gains was not measured: its {10 * pretraining / args.train / 86400:,.0f} days, and those of 05, want a GPU. For each to end within a week a GPU has to be "
            f"{10 * pretraining / args.train / 86400 / 7:,.0f} times (02) and {longest / 7:,.0f} times (the longest of 05) as fast as this CPU. Not measured on one.",
        ],
    )


if __name__ == "__main__":
    main()

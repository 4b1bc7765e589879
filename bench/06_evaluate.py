#!/usr/bin/env python3
"""Stage 06 on 6 million image scores of 128,000 videos, beside scikit-learn on the arrays.

    python bench/06_evaluate.py

    scikit-learn            the ten metrics at image and video level, on arrays: no reading, no
                            grouping, no intervals
    ours                    the script: reading, grouping, metrics, tables and figures, with one
                            resample
    ours, 1,000 resamples   the same with the intervals of the default

Each of ours runs in a process of its own, whose peak memory is in the table. The process that runs
scikit-learn holds only the arrays.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sklearn.metrics
from side_by_side import ROOT, arguments, in_turn, ratio, record, seconds, show

from reporting.tables import markdown_table


def make(videos, images):
    """Scores of a mediocre detector: (video of each image, label of each video, scores)."""
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(videos, size=images))
    labels = (rng.random(videos) < 0.83).astype(int)
    logits = 0.6 * labels[groups] + rng.normal(0, 1, videos)[groups] + rng.normal(0, 1, images)
    return groups, labels, 1 / (1 + np.exp(-logits))


def measure_by_sklearn(labels, scores):
    """The ten metrics of 06 by scikit-learn, which sorts the scores for each of three of them."""
    called_fake = scores >= 0.5
    fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
    return (
        sklearn.metrics.roc_auc_score(labels, scores),
        np.interp(0, fpr - (1 - tpr), fpr),
        sklearn.metrics.average_precision_score(labels, scores),
        sklearn.metrics.accuracy_score(labels, called_fake),
        sklearn.metrics.precision_recall_fscore_support(labels, called_fake),
    )


def write(path, groups, labels, scores):
    """Write the scores as a score file."""
    path.parent.mkdir(parents=True)
    # Where the video of each image begins.
    starts = np.searchsorted(groups, groups)
    with open(path, "w") as file:
        file.write("video,frame,label,score\n")
        for k, (v, s) in enumerate(zip(groups.tolist(), scores.tolist())):
            file.write(f"dfdc_{v:06d}abcd,{int(3 * (k - starts[k]))},{labels[v]},{s:.8f}\n")


def seconds_and_peak(*command):
    """Wall time of a command in seconds, and its peak memory in GB."""
    # A process in between has one child, so the peak of its children is that of the command.
    between = (
        "import resource, subprocess, sys, time; start = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9; "
        "print(time.perf_counter() - start, peak)"
    )
    line = [sys.executable, "-c", between, sys.executable, *map(str, command)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return map(float, done.stdout.split())


def main():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--videos", type=int, default=128_000, help="(default 128000)")
    parser.add_argument("--images", type=int, default=6_000_000, help="(default 6000000)")
    args = parser.parse_args()
    folder, peaks = Path(tempfile.mkdtemp()), {}
    try:
        print("writing the file", flush=True)
        groups, labels, scores = make(args.videos, args.images)
        path = folder / "scores/A/DFDC.csv"
        write(path, groups, labels, scores)
        per_video = np.bincount(groups, minlength=args.videos)
        there = per_video > 0
        video_scores = np.bincount(groups, scores, minlength=args.videos)[there] / per_video[there]

        def by_sklearn():
            images = seconds(measure_by_sklearn, labels[groups], scores)
            return images + seconds(measure_by_sklearn, labels[there], video_scores)

        def process(name, *command):
            def measure():
                taken, peak = seconds_and_peak(*command)
                peaks[name] = max(peak, peaks.get(name, 0))
                return taken

            return measure

        evaluate = (ROOT / "06_evaluate.py", "--scores", folder / "scores", "--out", folder / "out")
        alternatives = {
            "scikit-learn": by_sklearn,
            "ours": process("ours", *evaluate, "--resamples", 1),
            "ours, 1,000 resamples": process("ours, 1,000 resamples", *evaluate),
        }
        times = in_turn(alternatives, args.rounds)
        size = path.stat().st_size / 1e6
    finally:
        shutil.rmtree(folder)
    rows = [["", "seconds", "peak memory, GB", "ratio to scikit-learn"]]
    for name, values in times.items():
        peak = f"{peaks[name]:.2f}" if name in peaks else ""
        rows.append([name, show(values), peak, ratio(values, times["scikit-learn"])])
    counts = f"{args.images} scores of {args.videos} videos, {size:.0f} MB."
    record(args, [counts, "", *markdown_table(rows)])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Is one detector better than another on a data set? The difference of their AUCs, with interval.

    python recipes/compare.py scores/FT-bp-dann/DFD.csv scores/FT-source-only/DFD.csv

Prints two lines: both AUCs (by image or clip), and the difference with its 95 % interval. The
interval comes from resamples of the videos that both detectors share. It covers the choice of the
test videos and not the chance in the training: another seed gives another network.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import Parser, fail, read_scores  # noqa: E402
from reporting.metrics import auc, draw_resamples, measure_resampled, percent  # noqa: E402

RESAMPLES = 1000


def read(path):
    """A score file as (sorted videos, labels, scores, ranks, number of each row's video)."""
    videos, labels, scores, ranks = read_scores(path)
    names, groups = np.unique(videos, return_inverse=True)
    return names.tolist(), labels, scores, ranks, groups


def compare(first, second):
    """The difference in AUC of two score files as two lines of text.

    Exits with an error unless both have the same videos, with real and fake ones.
    """
    (videos, *ours), (others, *theirs) = read(first), read(second)
    if videos != others:
        fail(f"{first} and {second} do not have the same videos")
    labels, _, ranks, _ = ours
    if len(np.unique(labels)) < 2:
        fail(f"{first} has only one class: its AUC is undefined")
    weights = draw_resamples(len(videos), RESAMPLES, seed=0)
    resampled = [measure_resampled(*data, weights)["auc"] for data in (ours, theirs)]
    low, high = np.nanpercentile(100 * (resampled[0] - resampled[1]), (2.5, 97.5))
    values = auc(labels, ranks), auc(theirs[0], theirs[2])
    names = [path.parent.name for path in (first, second)]
    if low > 0:
        verdict = f"{names[0]} is better"
    elif high < 0:
        verdict = f"{names[0]} is worse"
    else:
        verdict = "these videos cannot tell which is better"
    return (
        f"{first.stem}: AUC {percent(values[0])} with {names[0]}, "
        f"{percent(values[1])} with {names[1]}.\n"
        f"The difference is {100 * (values[0] - values[1]):+.1f} points, 95 % interval {low:+.1f} "
        f"to {high:+.1f} over {len(videos)} videos: {verdict}."
    )


def main():
    parser = Parser(__doc__)
    parser.add_argument("first", type=Path, metavar="CSV", help="scores of one detector")
    parser.add_argument("second", type=Path, metavar="CSV", help="scores of the other")
    args = parser.parse_args()
    print(compare(args.first, args.second))


if __name__ == "__main__":
    main()

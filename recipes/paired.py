#!/usr/bin/env python3
"""Does a detector beat others over repeated trainings? Means and differences paired by seed.

    python recipes/paired.py results/results.csv direct source-only bp-dann
    python recipes/paired.py results/results.csv single transfer --metric recall_macro

The detectors are those of results.csv of stage 06, without @SEED; the last one is compared with
each of the others. Prints two Markdown tables for the data sets that all of them have, in percent:

    mean ± half the 95 % interval of the mean over the seeds (Student's t), and the differences,
    paired by seed, with how often they are above 0; the value of each seed

--mean adds a row for the mean of several data sets, of which each seed has one.

A detector without seeds has one value, which is compared with every seed's. An interval over seeds
covers the chance in what the seeds draw; that of results.csv covers the choice of the test videos.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import Parser, fail, read_table  # noqa: E402
from reporting.metrics import METRICS  # noqa: E402
from reporting.tables import markdown_table  # noqa: E402


def read_trainings(path, metric):
    """{(data set, level): {detector: {seed: percent}}} of a results.csv; "" for no seed."""
    columns = ("detector", "set", "level", metric)
    table = read_table(path, columns, {metric: (float, "nan")}, optional=())
    trainings = {}
    for training, name, level, value in zip(*(table[column] for column in columns)):
        detector, _, seed = training.partition("@")
        trainings.setdefault((name, level), {}).setdefault(detector, {})[seed] = 100 * value
    return trainings


def mean_of_sets(trainings, names, level):
    """{detector: {seed: mean over the data sets `names`}} of those that all of them have."""
    of_sets = [trainings[name, level] for name in names]
    detectors = set.intersection(*map(set, of_sets))
    return {
        detector: {seed: np.mean([of_set[detector][seed] for of_set in of_sets]) for seed in seeds}
        for detector, seeds in of_sets[0].items()
        if detector in detectors
    }


def by_seed(trainings, detectors, place):
    """The seeds that all detectors have, and the values of each detector, (seeds,)."""
    repeated = [set(trainings[name]) for name in detectors if set(trainings[name]) != {""}]
    seeds = sorted(set.intersection(*repeated), key=int) if repeated else [""]
    if not seeds or any(repeated[0] != others for others in repeated):
        fail(f"the trainings of {', '.join(detectors)} on {' '.join(place)} have different seeds")
    values = [[of.get(seed, of.get("")) for seed in seeds] for of in map(trainings.get, detectors)]
    return seeds, np.array(values)


def mean_and_interval(values, sign=""):
    """Mean and half the 95 % interval of the mean (Student's t) as text; of one value, itself."""
    from scipy.stats import t  # comes with scikit-learn

    if len(values) < 2 or np.ptp(values) == 0:
        return f"{values[0]:{sign}.1f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():{sign}.1f} ± {half:.1f}"


def main():
    parser = Parser(__doc__)
    parser.add_argument("results", type=Path, help="results.csv of stage 06")
    parser.add_argument("detectors", nargs="+", help="names without @SEED; the last is compared")
    text = "column of results.csv (default auc)"
    parser.add_argument("--metric", choices=METRICS, default="auc", metavar="NAME", help=text)
    text = "data sets whose mean is a row of its own"
    parser.add_argument("--mean", nargs="+", default=[], metavar="SET", help=text)
    args = parser.parse_args()
    *others, last = args.detectors
    all_trainings = read_trainings(args.results, args.metric)
    if args.mean:
        for level in sorted({level for _, level in all_trainings}):
            for name in args.mean:
                if (name, level) not in all_trainings:
                    fail(f"{args.results} has no {name} at {level} level")
            place = f"mean of {' '.join(args.mean)}", level
            all_trainings[place] = mean_of_sets(all_trainings, args.mean, level)

    summary = [["test", *args.detectors, *(f"{last} - {other}" for other in others)]]
    details = [["test", "detector", "each seed"]]
    for place, trainings in all_trainings.items():
        if not trainings.keys() >= set(args.detectors):
            continue
        seeds, values = by_seed(trainings, args.detectors, place)
        cells = [mean_and_interval(of_detector) for of_detector in values]
        for of_other in values[:-1]:
            difference = values[-1] - of_other
            above = f"above 0 in {(difference > 0).sum()} of {len(seeds)}"
            cells.append(f"{mean_and_interval(difference, '+')}, {above}")
        title = f"{place[0]}, {place[1]}"
        summary.append([title, *cells])
        for name, of_detector in zip(args.detectors, values):
            each = " ".join(f"{value:.1f}" for value in of_detector)
            details.append([title, name, each])
    if len(summary) == 1:
        fail(
            f"{args.results} has no data set on which all of {' '.join(args.detectors)} were tested"
        )
    print(f"{METRICS[args.metric]} in percent; seeds {' '.join(seeds)}\n")
    print("\n".join([*markdown_table(summary), "", *markdown_table(details)]))


if __name__ == "__main__":
    main()

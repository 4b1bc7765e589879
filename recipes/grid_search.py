#!/usr/bin/env python3
"""The restricted grid search over training sets (CLRNet 4.3.3, Algorithm 1), with stage 05.

    python recipes/grid_search.py --reenactment faces/F2F faces/NT \\
        --swap faces/DF faces/FS faces/DFD --validation faces/DFW --test faces/DFW \\
        --out runs/CLRNet-search --scores scores/CLRNet-search

For every non-empty subset i of --reenactment and j of --swap (21 pairs of {F2F, NT} and
{DF, FS, DFD}) 05 trains

    merge      one network on i and j together
    transfer   from each single set of i and j to all others of the pair, such as NT -> {DF, FS,
               DFD, F2F} (Table 6) and FS -> {DF, NT} (4.3.3); and from i, merged, to j

and scores --validation. The measure is the accuracy at 0.5 over all samples ("highest
classification accuracy"). The 21 pairs have 98 trainings: 6 sources, each trained once for all its
transfers, 21 merge and 71 transfer. It writes to OUT:

    search.csv              one row per pair and training: accuracy, macro F1, AUC, what is kept
    source/, merge/, transfer/NAME/   the runs of 05; model.pt remains of sources, of merges and of
                            the best transfer; finished trainings are skipped when it is run again
    best/model.pt           the best of all, whose scores of --test are in SCORES

Other flags of 05 hold for all trainings: --epochs 20 --few-shot 5, for example. Several processes
train as in 05, by torchrun.

Deviations and choices (paper -> this program):

    chosen on       the open-domain set that Table 6 then reports -> --validation, a set of its own
    sources         TransferLearning(i, j) does not say which set is the source, and the examples
                    have sources of both kinds -> the transfers above
    kept            not given -> the best transfer of a pair if it is better than merge, else merge
    equal pairs     "fewest sets" -> the pair with fewer sets, then the first in the order of the
                    flags, smaller subsets first
"""

import shlex
import sys
from importlib import import_module
from itertools import combinations, product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import (  # noqa: E402
    RANK,
    Parser,
    add_system_flags,
    fail,
    read_index,
    read_scores,
    write_table,
)
from reporting.metrics import auc, percent  # noqa: E402
from running.folder import folder_names, start_run  # noqa: E402
from running.loading import read_clips  # noqa: E402
from running.processes import barrier, run_script  # noqa: E402

stage = import_module("05_train_clrnet")

COLUMNS = ("reenactment", "swap", "sets", "strategy", "accuracy", "f1_macro", "auc", "kept", "best")
COLUMNS += ("training",)
KINDS = ("source", "merge", "transfer")
# Flags of 05 that only a new network takes; a transfer has that of its source.
NETWORK_FLAGS = ("--filters", "--repetitions", "--image-size", "--weights")
# Flags that may change when a search is resumed; system only repeats flags.
RUNTIME_FLAGS = ("out", "workers", "device", "test", "scores", "system")


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument_group("data (folders of stage 01 with --sampling clips)").add_argument
    folders = dict(type=Path, metavar="DIR", required=True)
    add("--reenactment", nargs="+", help="sets of facial reenactment, e.g. F2F NT", **folders)
    add("--swap", nargs="+", help="sets of identity swap, e.g. DF FS DFD", **folders)
    text = "the set to choose on (its val split, or all of it), never one to test on"
    add("--validation", help=text, **folders)
    text = "sets whose test split the best training scores"
    add("--test", type=Path, nargs="+", default=[], metavar="DIR", help=text)
    add("--out", help="folder of all runs, e.g. runs/CLRNet-search", **folders)
    text = "folder for the scores, e.g. scores/CLRNet-search"
    add("--scores", type=Path, metavar="DIR", help=text)
    add = parser.add_argument_group("network").add_argument
    add("--model", choices=list(stage.DEFAULTS), default="CLRNet", help="network (default CLRNet)")
    for name in NETWORK_FLAGS:
        add(name, nargs="+", metavar="VALUE", help="as in 05")
    workers = "processes that load images"
    add_system_flags(parser, workers=workers, seed=True, device=True, precision="auto")
    args, args.training = parser.parse_known_args()
    args.network = ["--model", args.model]
    for name in NETWORK_FLAGS:
        if values := getattr(args, name[2:].replace("-", "_")):
            args.network += [name, *values]
    args.system = ["--workers", args.workers, "--device", args.device]
    args.system += ["--precision", args.precision, "--seed", args.seed]
    args.system += ["--allow-changes"] if args.allow_changes else []
    if bool(args.test) != bool(args.scores):
        fail("--test and --scores go together: the sets to score, and the folder for the scores")
    return args


def subsets(names):
    """All non-empty subsets, smaller ones first, in the order of `names`."""
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def plan_trainings(reenactment, swap, out):
    """All trainings, sources before their transfers: ({name: flags of 05}, {(i, j): names}).

    reenactment, swap: {name of a set: its folder}. out: the folder of all runs.
    """
    folders = reenactment | swap

    def of(names):
        return [folders[name] for name in names]

    def train_on(sets):
        strategy = "merge" if len(sets) > 1 else "single"
        return ["--strategy", strategy, "--source", *of(sets)]

    trainings, of_pair = {}, {}
    for i, j in product(subsets(list(reenactment)), subsets(list(swap))):
        merge = "merge/" + "+".join(i + j)
        trainings[merge] = train_on(i + j)
        of_pair[i, j] = [merge]
        sources = [(name,) for name in i + j]
        for source in [*sources, i] if len(i) > 1 else sources:
            targets = [name for name in i + j if name not in source]
            of_source = "source/" + "+".join(source)
            trainings[of_source] = train_on(source)
            transfer = "transfer/" + "+".join(source) + "-to-" + "+".join(targets)
            checkpoint = out / of_source / "model.pt"
            flags = ["--strategy", "transfer", "--checkpoint", checkpoint, "--target", *of(targets)]
            trainings[transfer] = flags
            of_pair[i, j].append(transfer)
    return trainings, of_pair


def choose(measured):
    """Algorithm 1: ({(i, j): the training that is kept}, the best (i, j)).

    measured: {(i, j): {name of a training: accuracy}} in the order of the search.
    """
    kept = {}
    for pair, accuracy in measured.items():
        # Of equal trainings merge, or else the first transfer.
        kept[pair] = max(accuracy, key=lambda name: (accuracy[name], name.startswith("merge")))
    order = list(measured)

    def rank(pair):
        return -measured[pair][kept[pair]], len(pair[0]) + len(pair[1]), order.index(pair)

    return kept, min(order, key=rank)


def accuracies(of_pair, measured, kind=""):
    """What `choose` takes, of the trainings in `measured` whose names begin with `kind`."""
    accuracy = {
        pair: {n: measured[n][0] for n in names if n in measured and n.startswith(kind)}
        for pair, names in of_pair.items()
    }
    return {pair: values for pair, values in accuracy.items() if values}


def measure(file):
    """Accuracy at 0.5, mean F1 of both classes and AUC (0..1) of a score file."""
    from sklearn.metrics import f1_score

    _, labels, scores, ranks = read_scores(file)
    accuracy = float((labels == (scores >= 0.5)).mean())
    f1 = float(f1_score(labels, scores >= 0.5, average="macro"))
    return accuracy, f1, auc(labels, ranks)


def validation_split(folder, tests, frames):
    """The split of --validation to choose on. Exits with an error if there is none."""
    has_splits = any(read_index(folder)["split"])
    if not has_splits and folder.resolve() in [path.resolve() for path in tests]:
        fail(
            f"{folder} has no splits, so it cannot both choose the best and test it: split it with "
            "01_extract_faces.py --random-split 0 50 50"
        )
    split = "val" if has_splits else "test"
    if len(np.unique(read_clips(folder, split, frames).labels)) < 2:
        fail(f"{folder}, split {split}: real and fake clips are needed to choose by")
    return split


def run_stage(flags):
    """Run 05 with these flags, in this process."""
    before = sys.argv
    sys.argv = ["05_train_clrnet.py", *map(str, flags)]
    print(f"\n+ python {shlex.join(sys.argv)}", flush=True)
    stage.main()
    sys.argv = before
    barrier()


def delete_checkpoints(out, of_pair, measured):
    """Delete last.pt of all finished trainings, and model.pt of all transfers but the best."""
    best = None
    if transfers := accuracies(of_pair, measured, "transfer"):
        kept, pair = choose(transfers)
        best = kept[pair]
    if RANK == 0:
        for name in measured:
            (out / name / "last.pt").unlink(missing_ok=True)
            if name.startswith("transfer") and name != best:
                (out / name / "model.pt").unlink(missing_ok=True)
    barrier()


def write_search(path, of_pair, measured, kept, best):
    """Write search.csv: one row per pair and training."""
    rows = []
    for pair, names in of_pair.items():
        i, j = pair
        for name in names:
            strategy = name.split("/")[0]
            values = [f"{value:.6f}" for value in measured[name]]
            is_kept = int(kept[pair] == name)
            is_best = int(is_kept and pair == best)
            row = ("+".join(i), "+".join(j), len(i) + len(j), strategy, *values)
            rows.append((*row, is_kept, is_best, name))
    write_table(path, COLUMNS, rows)


def main():
    args = parse_args()
    folders = folder_names([*args.reenactment, *args.swap, args.validation])
    split = validation_split(args.validation, args.test, stage.DEFAULTS[args.model]["frames"])
    inputs = sorted(folder / "index.csv" for folder in folders.values())
    start_run(args.out, args, inputs=inputs, runtime_flags=RUNTIME_FLAGS)
    groups = folder_names(args.reenactment), folder_names(args.swap)
    trainings, of_pair = plan_trainings(*groups, args.out)
    count = {kind: sum(n.startswith(kind) for n in trainings) for kind in KINDS}
    file = {n: args.out / n / f"scores/{args.validation.resolve().name}.csv" for n in trainings}
    measured = {name: measure(file[name]) for name in trainings if file[name].exists()}
    print(
        f"{args.model}: {len(of_pair)} pairs, {len(trainings)} trainings ({count['source']} "
        f"sources, {count['merge']} merge, {count['transfer']} transfer), {len(measured)} done "
        f"already; chosen on {args.validation}, split {split}",
        flush=True,
    )

    def train(name, number):
        print(f"\n{name} ({number} of {len(trainings)})", flush=True)
        flags = trainings[name]
        if not name.startswith("transfer"):
            flags = [*flags, *args.network]
        outputs = ["--out", args.out / name, "--scores", file[name].parent]
        test = ["--test", args.validation, "--test-split", split]
        run_stage([*flags, *args.training, *args.system, *test, *outputs])

    delete_checkpoints(args.out, of_pair, measured)
    for number, name in enumerate(trainings, 1):
        if name not in measured:
            train(name, number)
            measured[name] = measure(file[name])
            delete_checkpoints(args.out, of_pair, measured)

    kept, best = choose(accuracies(of_pair, measured))
    winner = kept[best]
    if not (args.out / winner / "model.pt").exists():
        train(winner, list(trainings).index(winner) + 1)  # somebody deleted it
    write_search(args.out / "search.csv", of_pair, measured, kept, best)
    print(
        f"\nbest on {args.validation}: {winner}, accuracy {percent(measured[winner][0])}; all in "
        f"{args.out / 'search.csv'}"
    )
    flags = ["--strategy", "transfer", "--checkpoint", args.out / winner / "model.pt"]
    flags += [*args.training, *args.system, "--epochs", 0, "--out", args.out / "best"]
    if args.test:
        flags += ["--test", *args.test, "--scores", args.scores]
    run_stage(flags)


if __name__ == "__main__":
    run_script(main)

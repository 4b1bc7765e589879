"""The restricted grid search over training sets (CLRNet 4.3.3, Algorithm 1): 05 --strategy search.

For every non-empty subset i of --reenactment and j of --swap (21 pairs of {F2F, NT} and
{DF, FS, DFD}) these are trained:

    merge      one training on i and j together
    transfer   from each single set of i and j to all others of the pair, such as NT -> {DF, FS,
               DFD, F2F} (Table 6) and FS -> {DF, NT} (4.3.3); and from i, merged, to j

and measured on --validation by accuracy at 0.5 over all samples ("highest classification
accuracy"). The 21 pairs have 98 trainings: 6 sources, each trained once for all its transfers, 21
merge and 71 transfer. Checkpoints of sources and merges are kept, and of transfers that of the best
one; of the others the scores remain. What the paper leaves open: Algorithm 1's
TransferLearning(i, j) does not say which set is the source, while its examples have sources of
both kinds; the best transfer of a pair is kept if it is better than merge, and merge otherwise; of
equal pairs the one with fewer sets is best, then the first in the order of the flags, smaller
subsets first.

The paper chooses by the accuracy on the open-domain set that its Table 6 then reports, which is
test data. Here --validation is a set of its own.
"""

import argparse
import copy
import shutil
from itertools import combinations, product

import numpy as np

from common import RANK, fail, progress, read_index, read_scores, write_table, write_whole
from networks.baselines import NETWORKS
from reporting.metrics import auc, percent
from running.devices import choose_device, choose_precision
from running.folder import folder_names, start_run
from running.loading import read_clips
from running.processes import barrier
from running.run import is_complete

COLUMNS = ("reenactment", "swap", "sets", "strategy", "accuracy", "f1_macro", "auc", "kept", "best")
COLUMNS += ("training",)
# Flags that may change when a search is resumed, and what is not a flag.
RUNTIME_FLAGS = ("out", "workers", "device", "save_every", "test", "test_split", "scores", "cam")
RUNTIME_FLAGS += ("save_features", "cuda_graph", "kwargs")


def subsets(names):
    """All non-empty subsets, smaller ones first, in the order of `names`."""
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


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


def accuracies(of_pair, found, kind=""):
    """What `choose` takes, of the trainings in `found` whose names begin with `kind`."""
    measured = {
        pair: {name: found[name][0] for name in names if name in found and name.startswith(kind)}
        for pair, names in of_pair.items()
    }
    return {pair: accuracy for pair, accuracy in measured.items() if accuracy}


def measure(file):
    """Accuracy at 0.5, mean F1 of both classes and AUC (0..1) of a score file."""
    from sklearn.metrics import f1_score

    _, labels, scores, ranks = read_scores(file)
    accuracy = float((labels == (scores >= 0.5)).mean())
    f1 = float(f1_score(labels, scores >= 0.5, average="macro"))
    return accuracy, f1, auc(labels, ranks)


def search(args, train, read_training_data, time_step, score_checkpoint):
    """Train and measure all pairs into args.out, choose the best, and score args.test with it.

    Finished trainings are skipped when it is run again. The four functions are those of 05.
    """
    args.precision = choose_precision(args.precision, choose_device(args.device))
    folders = folder_names([*args.reenactment, *args.swap, args.validation])
    validation = args.validation.resolve().name
    check_validation(args)
    jobs, of_pair = plan_trainings(args, folders)
    settings = argparse.Namespace(**vars(args))
    inputs = sorted({folder / "index.csv" for folder in folders.values()})
    start_run(args.out, settings, inputs=inputs, runtime_flags=RUNTIME_FLAGS)

    def is_done(job):
        if job.scores:
            return (job.scores / f"{validation}.csv").exists()
        return is_complete(job.out, job)

    open_jobs = {name: job for name, job in jobs.items() if not is_done(job)}
    done = set(jobs) - set(open_jobs)
    found = {n: measure(jobs[n].scores / f"{validation}.csv") for n in done if jobs[n].scores}
    kinds = [
        sum(name.startswith(kind) for name in jobs) for kind in ("source", "merge", "transfer")
    ]
    print(
        f"{args.model}: {len(of_pair)} pairs, {len(jobs)} trainings ({kinds[0]} sources, "
        f"{kinds[1]} merge, {kinds[2]} transfer), {len(jobs) - len(open_jobs)} done already; "
        f"chosen on {validation}, split {args.test_split}",
        flush=True,
    )
    if open_jobs:
        # Besides sources and merges, the best transfer and the copy of the best of all.
        kept = kinds[0] + kinds[1] + 2
        print_estimate(list(open_jobs.values()), kept, read_training_data, time_step)
    delete_checkpoints(jobs, of_pair, found, done)
    for k, (name, job) in enumerate(open_jobs.items(), 1):
        print(f"\n{name} ({k} of {len(open_jobs)})", flush=True)
        train(job)
        barrier()
        done.add(name)
        if job.scores:
            found[name] = measure(job.scores / f"{validation}.csv")
        delete_checkpoints(jobs, of_pair, found, done)

    kept, best = choose(accuracies(of_pair, found))
    winner = jobs[kept[best]]
    if not (winner.out / "model.pt").exists():
        train(winner)  # somebody deleted it
    write_search(args.out / "search.csv", of_pair, found, kept, best)
    print(
        f"\nbest on {validation}: {kept[best]}, accuracy {percent(found[kept[best]][0])}; all in "
        f"{args.out / 'search.csv'}"
    )
    if RANK == 0:
        with write_whole(args.out / "model.pt") as part:
            shutil.copyfile(winner.out / "model.pt", part)
    barrier()
    args.batch = winner.batch
    score_checkpoint(args.out / "model.pt", args)


def delete_checkpoints(jobs, of_pair, found, done):
    """Delete last.pt of all finished trainings, and model.pt of all transfers but the best."""
    best = None
    if transfers := accuracies(of_pair, found, "transfer"):
        kept, pair = choose(transfers)
        best = kept[pair]
    if RANK == 0:
        for name in done:
            (jobs[name].out / "last.pt").unlink(missing_ok=True)
            if name.startswith("transfer") and name != best:
                (jobs[name].out / "model.pt").unlink(missing_ok=True)
    barrier()


def check_validation(args):
    """Set args.test_split to the part of --validation to choose on. Exits if there is none."""
    folder = args.validation
    has_splits = any(read_index(folder)["split"])
    if not has_splits and folder.resolve() in [path.resolve() for path in args.test]:
        fail(
            f"{folder} has no splits, so it cannot both choose the best and test it: split it with "
            "01_extract_faces.py --random-split 0 50 50"
        )
    args.test_split = "val" if has_splits else "test"
    labels = read_clips(folder, args.test_split, args.kwargs["frames"]).labels
    if len(np.unique(labels)) < 2:
        fail(f"{folder}, split {args.test_split}: real and fake clips are needed to choose by")


def plan_trainings(args, folders):
    """All trainings: ({name: its arguments}, {(i, j): names}). Sources come before transfers."""
    defaults = NETWORKS[args.model].defaults

    def add(name, strategy, source=(), target=(), checkpoint=None):
        job = copy.copy(args)
        job.strategy, job.out, job.checkpoint = strategy, args.out / name, checkpoint
        job.source = [folders[n] for n in source]
        job.target = [folders[n] for n in target]
        is_single = strategy == "single"
        if args.epochs is None:
            job.epochs = defaults["epochs"][0 if is_single else 1]
        job.batch = args.batch or defaults["batch"][0 if is_single else 1]
        is_source = name.startswith("source")
        job.test = [] if is_source else [args.validation]
        job.scores = None if is_source else job.out / "scores"
        job.cam = job.save_features = None
        jobs.setdefault(name, job)

    jobs, of_pair = {}, {}
    reenactment, swap = (list(folder_names(group)) for group in (args.reenactment, args.swap))
    for i, j in product(subsets(reenactment), subsets(swap)):
        merge = "merge/" + "+".join(i + j)
        add(merge, "merge", source=i + j)
        of_pair[i, j] = [merge]
        sources = [(name,) for name in i + j]
        for source in [*sources, i] if len(i) > 1 else sources:
            target = [name for name in i + j if name not in source]
            of_source = "source/" + "+".join(source)
            transfer = "transfer/" + "+".join(source) + "-to-" + "+".join(target)
            add(of_source, "merge" if len(source) > 1 else "single", source=source)
            checkpoint = args.out / of_source / "model.pt"
            add(transfer, "transfer", target=target, checkpoint=checkpoint)
            of_pair[i, j].append(transfer)
    return jobs, of_pair


def print_estimate(jobs, kept, read_training_data, time_step):
    """Print how long trainings will take, from the time of a step of the first one, and the disk.

    kept: the number of checkpoints that remain of the whole search.
    """
    samples = 0
    for job in progress(jobs, desc="counting samples", unit="training"):
        data = read_training_data(job, job.kwargs["frames"])
        batch = min(job.batch, len(data.items))
        steps = len(data.items) // batch * job.epochs
        samples += min(steps, job.max_steps or steps) * batch
    seconds, size = time_step(jobs[0], data.items)
    total = samples * seconds
    duration = f"{total / 3600:.1f} hours" if total > 3600 else f"{total:.0f} s"
    # Of a training: model.pt; last.pt, three times as large with Adam's state; the next last.pt.
    print(
        f"{samples} training samples in all; one takes {seconds:.3f} s here, so about {duration}, "
        f"without validation and scoring; {kept * size / 1e9:.1f} GB of checkpoints in the end, up "
        f"to {7 * size / 1e9:.1f} GB more during a training",
        flush=True,
    )


def write_search(path, of_pair, found, kept, best):
    """Write search.csv: one row per pair and training."""
    rows = []
    for pair, names in of_pair.items():
        i, j = pair
        for name in names:
            strategy = name.split("/")[0]
            values = [f"{value:.6f}" for value in found[name]]
            is_kept = int(kept[pair] == name)
            is_best = int(is_kept and pair == best)
            row = ("+".join(i), "+".join(j), len(i) + len(j), strategy, *values)
            rows.append((*row, is_kept, is_best, name))
    write_table(path, COLUMNS, rows)

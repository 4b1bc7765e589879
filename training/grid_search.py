"""Restricted grid search over the sets to train on (CLRNet 4.3.3, Algorithm 1): `05_train_clrnet.py --strategy search`.

For every non-empty subset i of --reenactment and j of --swap, 21 pairs of {F2F, NT} and {DF, FS, DFD}, both strategies are trained:

    transfer   a source trained on i (by single, or merge learning where i has several sets), then transfer to all of j: i -> j
    merge      one training on i and j together

and measured on --validation by accuracy at 0.5 over all samples (4.3.3: "highest classification accuracy"). What the paper leaves open: sources
come from i and targets from j, as in Algorithm 1's TransferLearning(i, j); transfer is kept if it is better than merge, and merge otherwise; of
equal pairs the one with fewer sets is best, and then the first in the order of the flags, smaller subsets first. A source is trained once
for all its j.

The paper chooses by the accuracy on the open-domain set that Table 6 then reports, so on test data. Here --validation is a set of its own.
"""

import argparse
import copy
import shutil
import time
from importlib import import_module
from itertools import combinations, product

import numpy as np
import torch

from common import (
    RANK,
    autocast,
    choose_device,
    choose_precision,
    fail,
    folder_names,
    percent,
    read_index,
    read_scores,
    write_table,
    write_whole,
)
from reporting.metrics import auc
from running.folder import start_run
from running.script import barrier
from training.checkpoints import load_checkpoint, load_state
from training.loading import Faces, epoch_batches, load_batches

COLUMNS = ("reenactment", "swap", "sets", "strategy", "accuracy", "f1_macro", "auc", "kept", "best")


def subsets(names):
    """All non-empty subsets, smaller ones first, in the order of `names`."""
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def choose(measured):
    """Algorithm 1: {(i, j): {strategy: accuracy}} in the order of the search -> ({(i, j): strategy kept}, the best (i, j))."""
    kept = {
        pair: "transfer" if found["transfer"] > found["merge"] else "merge"
        for pair, found in measured.items()
    }
    order = list(measured)
    best = min(
        order,
        key=lambda pair: (
            -measured[pair][kept[pair]],
            len(pair[0]) + len(pair[1]),
            order.index(pair),
        ),
    )
    return kept, best


def measure(file):
    """Accuracy at 0.5, mean F1 of both classes and AUC (0..1) of a score file."""
    from sklearn.metrics import f1_score

    _, labels, scores, ranks = read_scores(file)
    return (
        float((labels == (scores >= 0.5)).mean()),
        float(f1_score(labels, scores >= 0.5, average="macro")),
        auc(labels, ranks),
    )


def search(args):
    """Train and measure all pairs into args.out, choose the best, and score args.test with it. Run again, it goes on where it was."""
    clrnet = import_module("05_train_clrnet")
    folders = folder_names([*args.reenactment, *args.swap, args.validation])
    args.precision = choose_precision(args.precision, choose_device(args.device))
    (validation, reenactment, swap) = (
        [n for n, f in folders.items() if f in group]
        for group in ([args.validation], args.reenactment, args.swap)
    )
    if any(
        path.resolve() == args.validation.resolve() and any(read_index(path)["split"]) is False
        for path in args.test
    ):
        fail(
            f"{args.validation} has no splits, so it cannot both choose the best and test it: split it by 01_extract_faces.py --random-split 0 50 50"
        )
    index = read_index(args.validation)
    args.test_split = "val" if any(index["split"]) else "test"
    length = args.kwargs["frames"]
    if len(np.unique(clrnet.read_clips(args.validation, args.test_split, length)[3])) < 2:
        fail(
            f"{args.validation}, split {args.test_split}: real and fake clips are needed to choose by"
        )
    pairs = list(product(subsets(reenactment), subsets(swap)))

    def job(name, strategy, source=(), target=(), checkpoint=None):
        """The arguments of one training."""
        one, defaults = copy.copy(args), clrnet.NETWORKS[args.model].defaults
        one.strategy, one.out, one.checkpoint = strategy, args.out / name, checkpoint
        one.source, one.target = [folders[n] for n in source], [folders[n] for n in target]
        one.epochs = (
            defaults["epochs"][strategy != "single"] if args.epochs is None else args.epochs
        )
        one.batch = args.batch or defaults["batch"][strategy != "single"]
        one.test, one.scores = (
            ([], None) if name.startswith("source") else ([args.validation], one.out / "scores")
        )
        one.cam = one.save_features = None
        return one

    jobs, of_pair = {}, {}
    for i, j in pairs:
        names = (
            "source/" + "+".join(i),
            "merge/" + "+".join(i + j),
            "transfer/" + "+".join(i) + "-to-" + "+".join(j),
        )
        jobs.setdefault(names[0], job(names[0], "merge" if len(i) > 1 else "single", source=i))
        jobs[names[1]] = job(names[1], "merge", source=i + j)
        jobs[names[2]] = job(
            names[2], "transfer", target=j, checkpoint=args.out / names[0] / "model.pt"
        )
        of_pair[i, j] = dict(merge=names[1], transfer=names[2])
    kinds = [
        sum(name.startswith(kind) for name in jobs) for kind in ("source", "merge", "transfer")
    ]
    settings = argparse.Namespace(
        **{k: v for k, v in vars(args).items() if k not in ("kwargs", "test")}
    )
    start_run(
        args.out,
        settings,
        inputs=sorted({folder / "index.csv" for folder in folders.values()}),
        free=clrnet.FREE,
    )

    def finished(name):
        one = jobs[name]
        if one.scores:
            return (one.scores / f"{validation[0]}.csv").exists()
        last = one.out / "last.pt"
        return last.exists() and load_checkpoint(last, "05")["finished"]

    open_ = [name for name in jobs if not finished(name)]
    print(
        f"{args.model}: {len(pairs)} pairs, {len(jobs)} trainings ({kinds[0]} sources, {kinds[1]} merge, {kinds[2]} transfer), "
        f"{len(jobs) - len(open_)} done already; chosen on {validation[0]}, split {args.test_split}",
        flush=True,
    )
    if open_:
        estimate(clrnet, [jobs[name] for name in open_], args)
    for k, name in enumerate(open_):
        print(f"\n{name} ({k + 1} of {len(open_)})", flush=True)
        clrnet.train(jobs[name])
        barrier()
        if jobs[name].scores and RANK == 0:
            (jobs[name].out / "last.pt").unlink(
                missing_ok=True
            )  # a large network's would fill the disk; model.pt stays

    found = {
        (pair, strategy): measure(jobs[name].scores / f"{validation[0]}.csv")
        for pair, names in of_pair.items()
        for strategy, name in names.items()
    }
    kept, best = choose(
        {
            pair: {strategy: found[pair, strategy][0] for strategy in names}
            for pair, names in of_pair.items()
        }
    )
    write_table(
        args.out / "search.csv",
        COLUMNS,
        (
            (
                "+".join(i),
                "+".join(j),
                len(i) + len(j),
                strategy,
                *(f"{v:.6f}" for v in found[(i, j), strategy]),
                int(kept[i, j] == strategy),
                int((i, j) == best and kept[i, j] == strategy),
            )
            for (i, j), names in of_pair.items()
            for strategy in ("transfer", "merge")
        ),
    )
    winner = jobs[of_pair[best][kept[best]]].out
    print(
        f"\nbest on {validation[0]}: {winner.relative_to(args.out)}, accuracy {percent(found[best, kept[best]][0])}; all in {args.out / 'search.csv'}"
    )
    if RANK == 0:
        with write_whole(args.out / "model.pt") as part:
            shutil.copyfile(winner / "model.pt", part)
    barrier()
    content, device = load_checkpoint(args.out / "model.pt", "05"), choose_device(args.device)
    model = clrnet.build(args.model, content["kwargs"])
    load_state(model, content, args.out / "model.pt")
    clips = {
        name: clrnet.read_clips(folder, "test", length)
        for name, folder in folder_names(args.test).items()
    }
    clrnet.score_sets(
        model.to(device),
        clips,
        args.scores,
        jobs[of_pair[best]["merge"]].batch,
        args.workers,
        device,
    )


def estimate(clrnet, jobs, args):
    """Print how many steps the trainings have and how long they will take, from the time of one of the first."""
    steps = []
    for one in jobs:
        sets, length = (
            [
                clrnet.read_clips(folder, "train", args.kwargs["frames"])
                for folder in (*one.source, *one.target)
            ],
            0,
        )
        if one.strategy == "transfer":
            length = sum(
                len(clrnet.few_shot(*s[:3], one.few_shot, one.seed, "a target")[0]) for s in sets
            )
        else:
            length = min(len(s[0]) for s in sets) * len(sets)
        per_epoch = len(epoch_batches(length, one.batch, 0, 0))
        steps.append(
            min(per_epoch * one.epochs, one.max_steps or per_epoch * one.epochs)
            * min(one.batch, length)
        )
    device, items = choose_device(args.device), sets[0][0]
    model, batch = (
        clrnet.build(args.model, args.kwargs).to(device).train(),
        min(jobs[0].batch, len(items)),
    )
    optimizer = clrnet.adam(model, 0.0, args.l2)
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        (clips,) = load_batches(Faces(items, model.image_size), [list(range(batch))], 0)
        with autocast(device, args.precision):
            logits = model(
                clrnet.augment(clrnet.as_clips(clips, device), torch.Generator().manual_seed(0))
            )
        logits.sum().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = (time.perf_counter() - start) / batch
    size = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    total = sum(steps) * seconds
    print(
        f"{sum(steps)} training samples in all; one takes {seconds:.3f} s here, so about {f'{total / 3600:.1f} hours' if total > 3600 else f'{total:.0f} s'}, "
        f"without validation and scoring; {3 * size * len(jobs) / 1e9:.1f} GB of checkpoints",
        flush=True,
    )

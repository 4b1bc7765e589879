"""Which training of a grid is kept, and scores of an adaptation that need no label of the target.

No such score can be trusted unmeasured. bench/adaptation.py compares these, and the AUC on the
source, with the target's true AUC; docs/experiments.md has the result.
"""

import math
import shutil

import torch
from torch.nn import functional as F

from common import fail, write_table, write_whole
from reporting.metrics import percent

TARGET_SCORES = ("target_entropy", "target_density")
# What --choose can name: a title, and the columns of log.csv that decide, the first one first, with
# 1 where a higher value is better and -1 where a lower one is.
CHOICES = {
    "source": ("the source's validation split", dict(source_val_auc=1, source_val_loss=-1)),
    "entropy": ("the entropy of the target's predictions", dict(target_entropy=-1)),
    "density": ("the soft neighborhood density of the target", dict(target_density=1)),
}


def mean_entropy(logits):
    """Mean entropy of the predictions that logits (N, C) stand for, from 0 (certain) to log(C)."""
    p = torch.as_tensor(logits, dtype=torch.float64).softmax(1)
    return torch.special.entr(p).sum(1).mean().item()


@torch.inference_mode()
def neighborhood_density(rows, temperature=0.05, chunk=512):
    """Soft neighborhood density of rows (N, D), as a share of its maximum log(N - 1).

    Saito et al., "Tune it the Right Way", ICCV 2021: rows are scaled to unit length, the softmax of
    a row's similarities to all others, divided by the temperature, is its soft neighborhood, and
    the density is the mean entropy of these. It is high where images have many equally near
    neighbors. `chunk` rows are compared with all others at a time. nan for fewer than three rows.
    """
    if len(rows) < 3:
        return math.nan
    unit = F.normalize(torch.as_tensor(rows, dtype=torch.float32))
    entropies = []
    for start in range(0, len(unit), chunk):
        similarity = unit[start : start + chunk] @ unit.T / temperature
        similarity.diagonal(start).fill_(-math.inf)
        entropies.append(torch.special.entr(similarity.softmax(1)).sum(1))
    return torch.cat(entropies).mean().item() / math.log(len(unit) - 1)


def score_target(logits):
    """The scores that need no label, of the target's label logits (N, 2): {column: value}.

    The density is that of the softmax outputs, as in its paper.
    """
    p = torch.as_tensor(logits).softmax(1)
    return dict(zip(TARGET_SCORES, (mean_entropy(logits), neighborhood_density(p))))


def is_tenth(epoch, epochs):
    """Whether another tenth of the training ends with this epoch (0, 1, ...), as the last does."""
    return (epoch + 1) * 10 // epochs > epoch * 10 // epochs


def describe_scores(row):
    """The scores of a row of log.csv as text."""
    return (
        f"AUC on the source's validation split {percent(row['source_val_auc'])}, entropy of the "
        f"target's predictions {row['target_entropy']:.4f} ({math.log(2):.4f} if undecided), "
        f"soft neighborhood density {percent(row['target_density'])} of its maximum"
    )


def merit(row, choose):
    """What is compared of a row of log.csv: the greater tuple is better. choose: of CHOICES."""
    return tuple(sign * row[column] for column, sign in CHOICES[choose][1].items())


def choose_run(results, choose, out):
    """Write grid.csv, copy the best run's files to OUT, and return that run.

    results: (folder, (N1, N2, p), network, last log row) of each run; choose: of CHOICES. Exits
    with an error if a run has no such score: it was trained by an earlier version, or its target
    has fewer than three images.
    """
    for folder, _, _, row in results:
        if any(map(math.isnan, merit(row, choose))):
            names = " or ".join(CHOICES[choose][1])
            fail(f"{folder} has no {names}, for which a target needs three images: train it again")
    order = sorted(results, key=lambda result: merit(result[3], choose), reverse=True)
    best = order[0]
    scores = ("source_val_auc", "source_val_loss", *TARGET_SCORES)
    columns = ("n1", "n2", "dropout", *scores, "chosen", "chosen_by")
    rows = [
        (*point, *(row[name] for name in scores), int(folder == best[0]), choose)
        for folder, point, _, row in order
    ]
    write_table(out / "grid.csv", columns, rows)
    for file in ("model.pt", "log.csv"):
        with write_whole(out / file) as part:
            shutil.copyfile(best[0] / file, part)
    n1, n2, dropout = best[1]
    print(
        f"chosen by {CHOICES[choose][0]}: N1 {n1}, N2 {n2}, p {dropout:g}; "
        f"all in {out / 'grid.csv'}"
    )
    return best


def compare_with_source_only(row, source_only, choose):
    """Print the scores of source-only with the same settings, and a warning if it is as good.

    row, source_only: the last rows of the logs of BP-DANN and of source-only.
    """
    print(f"source-only with the same settings: {describe_scores(source_only)}")
    if not merit(row, choose) > merit(source_only, choose):
        print(
            f"warning: by {CHOICES[choose][0]}, BP-DANN is no better than source-only; "
            "docs/experiments.md says how far to trust that"
        )

"""Metrics of scores, and their intervals."""

import numpy as np

from common import sigmoid


def auc(labels, scores):
    """Area under the ROC curve, 0..1; nan if only one class is there."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else float("nan")


def eer(labels, scores):
    """Equal error rate, 0..1: where the false positive rate equals the false negative rate, the ROC curve's points
    joined by straight lines; nan if only one class is there."""
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return float("nan")
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = (1 - tpr) - fpr  # falls from 1 to -1 along the curve
    after = int(np.argmax(gap <= 0))
    if gap[after] == 0:
        return float(fpr[after])
    step = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(fpr[after - 1] + step * (fpr[after] - fpr[after - 1]))


def eer_threshold(labels, scores):
    """The threshold of equal error rates: where the share of reals at or above it is nearest to that of fakes below it; nan for one class.

    It lies midway between two scores; of several such places it is the middle one.
    """
    values = np.unique(scores)
    if len(np.unique(labels)) < 2:
        return float("nan")
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    cuts = (
        np.maximum(cuts, np.nextafter(values[:-1], 2)) if len(values) > 1 else cuts
    )  # neighbouring numbers have no midpoint
    below = [
        np.searchsorted(np.sort(scores[labels == label]), cuts) / (labels == label).sum()
        for label in (0, 1)
    ]
    gap = np.abs((1 - below[0]) - below[1])
    best = np.flatnonzero(gap <= gap.min() + 1e-12)
    return float(cuts[best[len(best) // 2]])


def validate(videos, labels, logits):
    """What a validation set says of a network, at video level (the mean of a video's P(fake)), for its checkpoint and 07_detect.py; None without one.

    videos: a name for each of the logits of fake minus real. Returns {"videos": their number, "auc", "eer", "threshold"}, nan where there is one class only.
    """
    if not len(videos):
        return None
    names = {name: k for k, name in enumerate(dict.fromkeys(videos))}
    groups = np.fromiter(map(names.get, videos), np.int64, len(videos))
    count = np.bincount(groups)
    means, of_video = (
        np.bincount(groups, sigmoid(logits)) / count,
        (np.bincount(groups, labels) / count).round().astype(int),
    )
    return dict(
        videos=len(names),
        auc=auc(of_video, means),
        eer=eer(of_video, means),
        threshold=eer_threshold(of_video, means),
    )


METRICS = {
    "auc": "AUC",
    "eer": "EER",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "precision": "Precision (fake)",
    "recall": "Recall (fake)",
    "f1": "F1 (fake)",
    "precision_macro": "Precision (macro)",
    "recall_macro": "Recall (macro)",
    "f1_macro": "F1 (macro)",
}


def measure(labels, scores, ranks):
    """All METRICS of a set of scores by scikit-learn: {name: 0..1, or nan where it is not defined}. ranks: what orders the scores, as `read_scores` gives it."""
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        precision_recall_fscore_support,
    )

    both = len(np.unique(labels)) == 2
    # nan where a class is neither there nor predicted, and so in the means over both classes.
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, scores >= 0.5, labels=[0, 1], zero_division=np.nan
    )
    return dict(
        auc=auc(labels, ranks),
        eer=eer(labels, ranks),
        average_precision=float(average_precision_score(labels, ranks)) if both else np.nan,
        accuracy=float(accuracy_score(labels, scores >= 0.5)),
        precision=precision[1],
        recall=recall[1],
        f1=f1[1],
        precision_macro=precision.mean(),
        recall_macro=recall.mean(),
        f1_macro=f1.mean(),
    )


def measure_resampled(labels, scores, ranks, groups, weights, bins=65536):
    """The same metrics, each for many resamples: {name: (R,) array}.

    labels, scores, ranks, groups: (N,), P(fake), what orders it, and its group (video) as 0..V-1; weights: (R, V), how often each resample
    holds each group. scikit-learn would sort the scores anew for each resample; here they are sorted once, and a resample's
    curves are sums over its groups: one product of a sparse matrix (scores x groups) with the weights. Ties share one point of the
    curve, as in scikit-learn. Of more than `bins` different scores, neighbours share a point too, about N / bins of them:
    that moves AUC, EER and average precision by at most some 1 / bins, and the other metrics not at all.
    """
    from scipy.sparse import csr_matrix

    order = np.argsort(-ranks, kind="stable")
    scores, ranks, fake, groups = scores[order], ranks[order], labels[order] == 1, groups[order]
    new = np.append(True, ranks[1:] != ranks[:-1])  # where another score begins
    point = np.cumsum(new) - 1
    if point[-1] >= bins:
        key = np.flatnonzero(new)[point] * bins // len(scores)
        point = np.cumsum(np.append(False, np.diff(key) != 0))
    called = [
        np.bincount(groups[(scores >= 0.5) & chosen], minlength=weights.shape[1])
        for chosen in (fake, ~fake)
    ]  # fake at the threshold, of each group
    shape = point[-1] + 1, weights.shape[1]
    images = [
        csr_matrix((np.ones(chosen.sum()), (point[chosen], groups[chosen])), shape)
        for chosen in (fake, ~fake)
    ]
    results = {name: np.full(len(weights), np.nan) for name in METRICS}
    zero = np.zeros((1, 1))
    for r in range(
        0, len(weights), 32
    ):  # a few at a time: the curves of all would not fit into memory
        w = np.ascontiguousarray(weights[r : r + 32].T, np.float64)
        tps, fps = (np.cumsum(matrix @ w, 0) for matrix in images)
        positives, negatives = tps[-1], fps[-1]
        tp, fp = (counts @ w for counts in called)
        fn, tn = positives - tp, negatives - fp
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is nan: not defined
            # F1 = 2 TP / (2 TP + FP + FN); not defined only where the class is neither there nor predicted.
            one = [
                [tp / (tp + fp), tp / positives, 2 * tp / (2 * tp + fp + fn)],
                [tn / (tn + fn), tn / negatives, 2 * tn / (2 * tn + fp + fn)],
            ]
            both = np.where((positives > 0) & (negatives > 0), 1.0, np.nan)
            tpr, fpr = (
                np.concatenate([zero.repeat(w.shape[1], 1), counts / counts[-1]])
                for counts in (tps, fps)
            )
            gap = 1 - tpr - fpr
            after, column = np.argmax(gap <= 1e-12, 0), np.arange(w.shape[1])
            before = gap[after - 1, column]
            step = before / (before - gap[after, column])
            values = dict(
                accuracy=(tp + tn) / (positives + negatives),
                precision=one[0][0],
                recall=one[0][1],
                f1=one[0][2],
                precision_macro=(one[0][0] + one[1][0]) / 2,
                recall_macro=(one[0][1] + one[1][1]) / 2,
                f1_macro=(one[0][2] + one[1][2]) / 2,
                auc=both * np.trapezoid(tpr, fpr, axis=0),
                eer=both
                * (fpr[after - 1, column] + step * (fpr[after, column] - fpr[after - 1, column])),
                average_precision=both
                * np.sum(np.diff(tpr, axis=0) * tps / np.maximum(tps + fps, 1e-12), 0),
            )
        for name, value in values.items():
            results[name][r : r + 32] = value
    return results


def evaluate(videos, labels, scores, ranks, resamples, seed):
    """Rows of results.csv for one score file: a list of (level, counts, {metric: (value, low, high)})."""
    names = {name: k for k, name in enumerate(sorted(set(videos)))}
    groups = np.fromiter(map(names.get, videos), np.int64, len(videos))
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, len(names)), np.uint16)  # how often a video is drawn
    for row in weights:
        row[:] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
    per_video = np.bincount(groups)
    video_scores = np.bincount(groups, scores) / per_video  # FeatureTransfer 4.5
    video_labels = (np.bincount(groups, labels) / per_video).round().astype(int)
    rows = []
    for level, y, s, r, g in (
        ("image", labels, scores, ranks, groups),
        ("video", video_labels, video_scores, video_scores, np.arange(len(names))),
    ):
        values, samples = measure(y, s, r), measure_resampled(y, s, r, g, weights)
        intervals = {}
        for name, value in values.items():
            good = samples[name][~np.isnan(samples[name])]
            low, high = (
                np.percentile(good, (2.5, 97.5))
                if len(good) and not np.isnan(value)
                else (np.nan, np.nan)
            )
            intervals[name] = (value, low, high)
        rows.append(
            (
                level,
                dict(rows=len(y), real=int((y == 0).sum()), fake=int((y == 1).sum())),
                intervals,
            )
        )
    return rows


def roc(labels, scores):
    """A ROC curve to draw: false and true positive rates, at most some 4,000 points; none where there is one class only."""
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return [], []
    fpr, tpr, _ = roc_curve(labels, scores)
    path = np.concatenate(
        [[0], np.cumsum(np.diff(fpr) + np.diff(tpr))]
    )  # from corner to corner: 2 long
    keep = (
        np.unique(np.append(np.searchsorted(path, np.linspace(0, path[-1], 4000)), len(path) - 1))
        if len(path) > 4000
        else slice(None)
    )
    return fpr[keep], tpr[keep]


def percent(rate):
    """A rate in 0..1 as text: 0.5 -> "50.0 %", nan -> "undefined"."""
    return "undefined" if np.isnan(rate) else f"{100 * rate:.1f} %"

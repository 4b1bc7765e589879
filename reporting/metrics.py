"""Metrics of scores, decision thresholds, bootstrap intervals, and spread over trainings."""

import re
from collections import Counter

import numpy as np

from common import sigmoid

LEVELS = {"image": "image or clip level", "video": "video level"}
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


def auc(labels, scores):
    """Area under the ROC curve, 0..1; nan if only one class is present."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(roc_auc_score(labels, scores))


def eer(labels, scores):
    """Equal error rate, 0..1; nan if only one class is present.

    It is the rate at which false positives and false negatives are equally frequent: where the two
    cross on the ROC curve, whose points are joined by straight lines.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return float("nan")
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    fnr = 1 - tpr
    # fpr - fnr rises from -1 to 1 along the curve.
    return float(np.interp(0, fpr - fnr, fpr))


def eer_threshold(labels, scores):
    """The threshold with the most equal error rates; nan if only one class is present.

    There, the share of reals at or above it is closest to the share of fakes below it. It lies
    midway between two scores; of several equally good places it is the middle one.
    """
    if len(np.unique(labels)) < 2:
        return float("nan")
    values = np.unique(scores)
    cuts = values
    if len(values) > 1:
        # Two adjacent floating-point numbers have no midpoint: the cut is then the upper one.
        cuts = np.maximum((values[1:] + values[:-1]) / 2, np.nextafter(values[:-1], 2))

    def share_below(label):
        of_class = np.sort(scores[labels == label])
        return np.searchsorted(of_class, cuts) / len(of_class)

    gap = np.abs((1 - share_below(0)) - share_below(1))
    best = np.flatnonzero(gap <= gap.min() + 1e-12)
    return float(cuts[best[len(best) // 2]])


def video_means(videos, labels, scores):
    """Labels and scores of videos from those of their images: the mean score (FeatureTransfer 4.5).

    videos: a name for each of the N images or clips. Returns groups (N,), the number 0..V-1 of each
    image's video in the order of the sorted names, and labels (V,) and scores (V,) of the videos.
    """
    numbers = {name: k for k, name in enumerate(sorted(set(videos), key=str))}
    groups = np.fromiter(map(numbers.get, videos), np.int64, len(videos))
    counts = np.bincount(groups)
    video_labels = (np.bincount(groups, labels) / counts).round().astype(int)
    return groups, video_labels, np.bincount(groups, scores) / counts


def validate(videos, labels, logits):
    """Validation metrics of a network at video level, which its checkpoint keeps for 07_detect.py.

    videos: a name for each of the logits of fake minus real. Returns {"videos": how many, "auc",
    "eer", "threshold"}, nan where only one class is present, or None if there are no videos.
    """
    if not len(videos):
        return None
    _, labels, scores = video_means(videos, labels, sigmoid(logits))
    return dict(
        videos=len(labels),
        auc=auc(labels, scores),
        eer=eer(labels, scores),
        threshold=eer_threshold(labels, scores),
    )


def measure(labels, scores, ranks):
    """All METRICS of a set of scores by scikit-learn: {name: 0..1, or nan where undefined}.

    scores: P(fake), which the threshold 0.5 is applied to; ranks: what orders the images, as
    `common.read_scores` returns it.
    """
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        precision_recall_fscore_support,
    )

    both = len(np.unique(labels)) == 2
    # nan where a class is neither present nor predicted, and so in the means over both classes.
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
    """The metrics of `measure`, each for R resamples of the groups: {name: (R,) array}.

    labels, scores, ranks, groups: (N,), where a group (a video) is a number 0..V-1; weights:
    (R, V), how often each resample contains each group.

    scikit-learn would sort the scores again for each resample. Here they are sorted once, and a
    resample's curve is a sum over its groups: the product of a sparse matrix (scores x groups) with
    the weights. Ties share one point of the curve, as in scikit-learn. With more than `bins`
    distinct scores, about N / bins neighbors share a point too: this moves AUC, EER and average
    precision by at most about 1 / bins, and the other metrics not at all.
    """
    from scipy.sparse import csr_matrix

    order = np.argsort(-ranks, kind="stable")
    scores, ranks, groups = scores[order], ranks[order], groups[order]
    fake = labels[order] == 1
    is_new = np.append(True, ranks[1:] != ranks[:-1])
    point = np.cumsum(is_new) - 1
    if point[-1] >= bins:
        bin_of = np.flatnonzero(is_new)[point] * bins // len(scores)
        point = np.cumsum(np.append(False, np.diff(bin_of) != 0))

    shape = (point[-1] + 1, weights.shape[1])
    curves, called_fake = [], []
    for chosen in (fake, ~fake):
        ones = np.ones(chosen.sum())
        curves.append(csr_matrix((ones, (point[chosen], groups[chosen])), shape))
        called_fake.append(np.bincount(groups[(scores >= 0.5) & chosen], minlength=shape[1]))

    results = {name: np.full(len(weights), np.nan) for name in METRICS}
    # 32 resamples at a time: the curves of all of them would not fit into memory.
    for start in range(0, len(weights), 32):
        part = slice(start, start + 32)
        w = np.ascontiguousarray(weights[part].T, np.float64)
        tps, fps = (np.cumsum(matrix @ w, 0) for matrix in curves)
        tp, fp = (counts @ w for counts in called_fake)
        # 0 / 0 is nan: undefined.
        with np.errstate(divide="ignore", invalid="ignore"):
            values = threshold_metrics(tp, fp, tps[-1] - tp, fps[-1] - fp)
            values |= curve_metrics(tps, fps)
        for name, value in values.items():
            results[name][part] = value
    return results


def threshold_metrics(tp, fp, fn, tn):
    """Metrics of counts of true and false positives and negatives, where fake is positive."""
    # F1 = 2 TP / (2 TP + FP + FN) is undefined only if the class is neither present nor predicted.
    fake = tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)
    real = tn / (tn + fn), tn / (tn + fp), 2 * tn / (2 * tn + fp + fn)
    values = dict(accuracy=(tp + tn) / (tp + fp + fn + tn))
    for name, of_fake, of_real in zip(("precision", "recall", "f1"), fake, real):
        values[name] = of_fake
        values[f"{name}_macro"] = (of_fake + of_real) / 2
    return values


def curve_metrics(tps, fps):
    """AUC, EER and average precision of R curves: tps, fps (points, R), cumulative counts."""
    zero = np.zeros((1, tps.shape[1]))
    tpr = np.concatenate([zero, tps / tps[-1]])
    fpr = np.concatenate([zero, fps / fps[-1]])
    gap = 1 - tpr - fpr
    column = np.arange(tps.shape[1])
    after = np.argmax(gap <= 1e-12, 0)
    before = gap[after - 1, column]
    step = before / (before - gap[after, column])
    left, right = fpr[after - 1, column], fpr[after, column]
    defined = np.where((tps[-1] > 0) & (fps[-1] > 0), 1.0, np.nan)
    return dict(
        auc=defined * np.trapezoid(tpr, fpr, axis=0),
        eer=defined * (left + step * (right - left)),
        average_precision=defined
        * np.sum(np.diff(tpr, axis=0) * tps / np.maximum(tps + fps, 1e-12), 0),
    )


def draw_resamples(count, resamples, seed):
    """How often each of R resamples draws each of `count` videos, with replacement: (R, count)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, count), np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
    return weights


def evaluate(videos, labels, scores, ranks, resamples, seed):
    """All metrics of one score file with their 95 % intervals, at both levels.

    Returns {level: {"rows", "real", "fake": counts; metric: (value, low, high)}}. Intervals are
    percentiles over resamples of the videos; resamples in which a metric is undefined are left out.
    """
    groups, video_labels, video_scores = video_means(videos, labels, scores)
    count = len(video_labels)
    weights = draw_resamples(count, resamples, seed)
    results = {}
    for level, *data in (
        ("image", labels, scores, ranks, groups),
        ("video", video_labels, video_scores, video_scores, np.arange(count)),
    ):
        y = data[0]
        results[level] = dict(rows=len(y), real=int((y == 0).sum()), fake=int((y == 1).sum()))
        resampled = measure_resampled(*data, weights)
        for name, value in measure(*data[:3]).items():
            defined = resampled[name][~np.isnan(resampled[name])]
            low, high = np.nan, np.nan
            if len(defined) and not np.isnan(value):
                low, high = np.percentile(defined, (2.5, 97.5))
            results[level][name] = (value, low, high)
    return results


def pool_repeats(results):
    """Results in which the repeated trainings DETECTOR@SEED of a detector are one, DETECTOR.

    results: {(detector, set, level): what `evaluate` returns for the level}. A metric that several
    trainings have is (mean, mean - s, mean + s, number of trainings), where s is the sample
    standard deviation, which the paper's ± is taken for (CLRNet, Tables 3 to 6). They replace a
    detector that is called DETECTOR itself. A single DETECTOR@SEED stays as it is.
    """
    name_of = {d: d.rpartition("@")[0] for d, *_ in results if re.fullmatch(".+@[0-9]+", d)}
    trainings = Counter(name_of.values())
    repeated = {d: name for d, name in name_of.items() if trainings[name] > 1}
    pooled, members = {}, {}
    for (detector, *place), result in results.items():
        if detector in repeated:
            members.setdefault((repeated[detector], *place), []).append(result)
        elif detector not in repeated.values():
            pooled[detector, *place] = result
    for key, found in members.items():
        pooled[key] = dict(found[0])
        if len(found) == 1:
            continue
        for name in METRICS:
            values = [result[name][0] for result in found]
            mean, deviation = np.mean(values), np.std(values, ddof=1)
            pooled[key][name] = (mean, mean - deviation, mean + deviation, len(values))
    return pooled


def roc(labels, scores):
    """A ROC curve to draw: false and true positive rates, at most about 4,000 points.

    Both are empty if only one class is present.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return [], []
    fpr, tpr, _ = roc_curve(labels, scores)
    if len(fpr) <= 4000:
        return fpr, tpr
    # The distance along the curve, from corner to corner 2 in all.
    distance = np.append(0, np.cumsum(np.diff(fpr) + np.diff(tpr)))
    even = np.linspace(0, distance[-1], 4000)
    keep = np.unique(np.append(np.searchsorted(distance, even), len(distance) - 1))
    return fpr[keep], tpr[keep]


def percent(rate):
    """A rate in 0..1 as text: 0.5 -> "50.0 %", nan -> "undefined"."""
    return "undefined" if np.isnan(rate) else f"{100 * rate:.1f} %"

"""Metrics of scores, decision thresholds, bootstrap intervals, and spread over trainings.

A detector is measured at two levels: `image`, one score per image or clip, and `video`, the mean of
a video's scores (FeatureTransfer 4.5). Metrics are in 0..1, and nan where they are undefined.
"""

import re

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
# From the mildest to the most serious: a video's verdict is the last one of its people.
VERDICTS = ("real", "uncertain", "fake")
# Which score 5 % of a class pass is not known from fewer videos than this.
ENOUGH_VIDEOS = 20


# ---------------------------------------------------------------- metrics


def measure(labels, scores, ranks):
    """All METRICS of N images or videos: {name: value}.

    Args:
        labels, scores: 0 or 1, and P(fake), to which the threshold 0.5 is applied.
        ranks: what orders the images, as `common.read_scores` returns it.
    """
    fake, called_fake = labels == 1, scores >= 0.5
    tp, fp = np.sum(called_fake & fake), np.sum(called_fake & ~fake)
    fn, tn = np.sum(~called_fake & fake), np.sum(~called_fake & ~fake)
    values = threshold_metrics(tp, fp, fn, tn) | curve_metrics(*roc_counts(labels, ranks))
    return {name: float(np.squeeze(values[name])) for name in METRICS}


def auc(labels, scores):
    """Area under the ROC curve; nan if only one class is present, or nothing is."""
    return float(curve_metrics(*roc_counts(labels, scores))["auc"][0])


def roc_counts(labels, ranks):
    """True and false positives at every threshold, from the highest to the lowest: (points, 1).

    The thresholds are the different values of `ranks`: equal ones share a point.
    """
    order = np.argsort(-ranks, kind="stable")
    last = np.flatnonzero(np.diff(ranks[order], append=np.nan) != 0)
    tps = np.cumsum(labels[order] == 1)[last]
    return tps[:, None], (last + 1 - tps)[:, None]


def curve_metrics(tps, fps):
    """AUC, EER and average precision of R curves: tps, fps (points, R), as of `roc_counts`.

    The points of a curve are joined by straight lines.
    """
    zero = np.zeros((1, tps.shape[1]))
    tps, fps = np.concatenate([zero, tps]), np.concatenate([zero, fps])
    # 0 / 0 is nan: undefined.
    with np.errstate(divide="ignore", invalid="ignore"):
        tpr, fpr = tps / tps[-1], fps / fps[-1]
        # Counts are whole numbers: only the division rounds.
        area = np.trapezoid(tps, fps, axis=0) / (tps[-1] * fps[-1])
    # The EER is where both error rates are equal: where fpr - fnr, from -1 to 1, passes 0.
    gap = fpr - (1 - tpr)
    column = np.arange(tps.shape[1])
    after = np.argmax(gap >= -1e-12, 0)
    before = after - 1
    step = gap[before, column] / (gap[before, column] - gap[after, column])
    left, right = fpr[before, column], fpr[after, column]
    precision = (tps / np.maximum(tps + fps, 1e-12))[1:]
    average_precision = np.sum(np.diff(tpr, axis=0) * precision, 0)
    return dict(
        auc=area,
        eer=left + step * (right - left),
        average_precision=np.where(fps[-1] > 0, average_precision, np.nan),
    )


def threshold_metrics(tp, fp, fn, tn):
    """The other metrics, of counts at one threshold, where fake is positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # F1 = 2 TP / (2 TP + FP + FN) is undefined if the class is neither present nor predicted.
        fake = tp / (tp + fp), tp / (tp + fn), 2 * tp / (2 * tp + fp + fn)
        real = tn / (tn + fn), tn / (tn + fp), 2 * tn / (2 * tn + fp + fn)
    values = dict(accuracy=(tp + tn) / (tp + fp + fn + tn))
    for name, of_fake, of_real in zip(("precision", "recall", "f1"), fake, real):
        values[name] = of_fake
        values[f"{name}_macro"] = (of_fake + of_real) / 2
    return values


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


def roc(labels, ranks, points=4000):
    """A ROC curve to draw: false and true positive rates, at most `points` of each.

    Both are empty if only one class is present.
    """
    tps, fps = (np.append(0, counts) for counts in roc_counts(labels, ranks))
    if not tps[-1] or not fps[-1]:
        return [], []
    fpr, tpr = fps / fps[-1], tps / tps[-1]
    if len(fpr) <= points:
        return fpr, tpr
    # The sum is the distance along the curve, from corner to corner 2 in all.
    keep = np.unique(np.searchsorted(fpr + tpr, np.linspace(0, 2, points)))
    return fpr[keep], tpr[keep]


# ---------------------------------------------------------------- levels and intervals


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

    videos: a name for each of the logits of fake minus real. Returns a dict, nan where a number is
    undefined, or None if there are no videos:

        videos, reals, fakes: how many there are, in all and of each class.
        auc, eer, threshold: the last of equal error rates.
        real_below, fake_from: the 5 % quantile of the fakes' scores, and the 95 % quantile of the
            reals' scores. At most 5 % of the fakes lie below the first, and at most 5 % of the
            reals lie at or above the second, unless scores are equal. nan with fewer than 20 videos
            of a class.
        missed_fakes, false_alarms: the error rates of the verdicts by `thresholds`: the share of
            the fakes that is called real, and of the reals that is called fake.
    """
    if not len(videos):
        return None
    _, labels, scores = video_means(videos, labels, sigmoid(logits))
    metrics = measure(labels, scores, scores)
    reals, fakes = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    real_below = fake_from = float("nan")
    if min(len(reals), len(fakes)) >= ENOUGH_VIDEOS:
        # Midway between two scores, of which the outer one belongs to the 5 %.
        outer, inner = len(fakes) // 20, len(reals) - len(reals) // 20
        real_below = float(fakes[outer - 1 : outer + 1].mean())
        fake_from = float(reals[inner - 1 : inner + 1].mean())
    values = dict(videos=len(labels), reals=len(reals), fakes=len(fakes))
    values |= {name: metrics[name] for name in ("auc", "eer")}
    values["threshold"] = eer_threshold(labels, scores)
    values |= dict(real_below=real_below, fake_from=fake_from)
    limits = thresholds(values)
    with np.errstate(invalid="ignore"):
        missed = np.divide(np.sum(fakes < limits["real_below"]), len(fakes))
        alarms = np.divide(np.sum(reals >= limits["fake_from"]), len(reals))
    return values | dict(missed_fakes=float(missed), false_alarms=float(alarms))


def thresholds(validation):
    """The thresholds of a checkpoint's verdicts: {"threshold", "real_below", "fake_from"}.

    validation: as `validate` returned it, now or in an earlier version, which had no real_below and
    fake_from. Where these are missing, nan, or cross (fake_from <= real_below), both are the
    threshold of equal error rates, and no verdict is uncertain. Without such a threshold it is 0.5.
    """
    nan = float("nan")
    names = ("threshold", "real_below", "fake_from")
    threshold, low, high = ((validation or {}).get(name, nan) for name in names)
    if np.isnan(threshold):
        threshold = 0.5
    if not low < high:
        low = high = threshold
    return dict(zip(names, (threshold, low, high)))


def verdict_of(scored):
    """The one of VERDICTS for a score and its thresholds, {"score", "real_below", "fake_from"}."""
    if scored["score"] >= scored["fake_from"]:
        return "fake"
    return "uncertain" if scored["score"] >= scored["real_below"] else "real"


def draw_resamples(count, resamples, seed):
    """How often each of R resamples draws each of `count` videos, with replacement: (R, count)."""
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, count), np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(count, size=count), minlength=count)
    return weights


def measure_resampled(labels, scores, ranks, groups, weights, bins=65536):
    """The metrics of `measure`, each for R resamples of the groups: {name: (R,) array}.

    labels, scores, ranks, groups: (N,), where a group (a video) is a number 0..V-1; weights:
    (R, V), how often each resample contains each group.

    `measure` would sort the scores again for each resample. Here they are sorted once, and a
    resample's curve is a sum over its groups: the product of a sparse matrix (points x groups) with
    the weights. With more than `bins` distinct scores, about N / bins neighbors share a point: this
    moves AUC, EER and average precision by at most about 1 / bins, and the other metrics not at
    all.
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
    for of_class in (fake, ~fake):
        ones = np.ones(of_class.sum())
        curves.append(csr_matrix((ones, (point[of_class], groups[of_class])), shape))
        called_fake.append(np.bincount(groups[(scores >= 0.5) & of_class], minlength=shape[1]))

    results = {name: np.empty(len(weights)) for name in METRICS}
    # 32 resamples at a time: the curves of all of them would not fit into memory.
    for start in range(0, len(weights), 32):
        part = slice(start, start + 32)
        w = np.ascontiguousarray(weights[part].T, np.float64)
        tps, fps = (np.cumsum(matrix @ w, 0) for matrix in curves)
        tp, fp = (counts @ w for counts in called_fake)
        values = threshold_metrics(tp, fp, tps[-1] - tp, fps[-1] - fp) | curve_metrics(tps, fps)
        for name, value in values.items():
            results[name][part] = value
    return results


# ---------------------------------------------------------------- repeated trainings


def trainings_of(names):
    """{detector: its trainings} of the names of trainings.

    Repeated ones are DETECTOR@SEED, and replace one that is called DETECTOR itself. A single
    DETECTOR@SEED is a detector of its own.
    """
    names = dict.fromkeys(names)
    repeats = {}
    for name in names:
        detector, _, seed = name.rpartition("@")
        if detector and re.fullmatch("[0-9]+", seed):
            repeats.setdefault(detector, []).append(name)
    repeats = {detector: of for detector, of in repeats.items() if len(of) > 1}
    for detector, of in repeats.items():
        of.sort(key=lambda name: int(name.rpartition("@")[2]))
        for name in (detector, *of):
            names.pop(name, None)
    return {name: [name] for name in names} | repeats


def pool_repeats(results):
    """Results in which the repeated trainings DETECTOR@SEED of a detector are one, DETECTOR.

    results: {(detector, set, level): {metric: (value, low, high), ...}}. A metric that several
    trainings have is (mean, mean - s, mean + s, number of trainings), where s is the sample
    standard deviation, which the paper's ± is taken for (CLRNet, Tables 3 to 6).
    """
    pooled = {}
    for detector, trainings in trainings_of(detector for detector, *_ in results).items():
        for place in dict.fromkeys((name, level) for _, name, level in results):
            repeats = [results[name, *place] for name in trainings if (name, *place) in results]
            if repeats:
                pooled[detector, *place] = repeats[0]
            if len(repeats) > 1:
                spreads = {name: spread([of[name][0] for of in repeats]) for name in METRICS}
                pooled[detector, *place] = repeats[0] | spreads
    return pooled


def spread(values):
    """(mean, mean - s, mean + s, how many) of a metric's values, where s is their deviation."""
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    return mean, mean - deviation, mean + deviation, len(values)


def percent(rate):
    """A rate in 0..1 as text: 0.5 -> "50.0 %", nan -> "undefined"."""
    return "undefined" if np.isnan(rate) else f"{100 * rate:.1f} %"

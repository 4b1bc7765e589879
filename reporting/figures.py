"""All figures but those of verdicts: of stage 06, of 04's embedding, and of activation maps.

Figures are as wide as a column (3.4 inches) or a page (7 inches) of a two-column paper. The colors
are those of Okabe and Ito, which color-blind readers can tell apart; in black and white, line
styles and markers tell them apart.

Each function writes path.png and path.pdf; with `svgs`, the report's {name: SVG text}, it adds the
figure to them. `results` is {(detector, set, level): metrics of stage 06 for the level}.
"""

import io
import re
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from common import fail, printable, read_table, sigmoid, write_table, write_whole
from reporting.metrics import percent

COLUMN, PAGE = 3.4, 7.0
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
# The color of text and axes in figures.mplstyle, which the report replaces by the page's own.
INK = "#1b1b1b"


# ---------------------------------------------------------------- style


@cache
def pyplot():
    """matplotlib's pyplot with the settings of all figures, figures.mplstyle.

    Of the fonts named there, those that are installed are used; the first that has a character
    shows it.
    """
    import matplotlib
    from matplotlib import font_manager

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.style.use(Path(__file__).with_suffix(".mplstyle"))
    installed = font_manager.get_font_names()
    settings = matplotlib.rcParams
    settings["font.family"] = [name for name in settings["font.family"] if name in installed]
    return plt


def panels(rows, columns, height, width=PAGE, **options):
    """A figure of `width` and `height` inches and its axes, an array (rows, columns)."""
    options = dict(figsize=(width, height), squeeze=False, layout="constrained") | options
    return pyplot().subplots(rows, columns, **options)


def look(k, **more):
    """How the k-th of several lines looks."""
    return dict(color=COLORS[k % len(COLORS)], linestyle=STYLES[k % len(STYLES)], **more)


def legend_below(figure, axes, width=PAGE):
    """Put the legend of `axes` below a figure `width` inches wide, in as many columns as fit.

    matplotlib leaves out labels that begin with _, so those of detectors begin with a space.
    """
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=1)
    columns = max(1, min(len(labels), int(width * 13 / (longest + 5))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def save_figure(figure, path, svgs=None, layouts=1):
    """Lay a figure out, write it as path.png and path.pdf, add it to `svgs`, and close it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Not left to the engine, with which each format would compute the layout, and draw twice.
        for _ in range(layouts):
            figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)
        no_pdf_metadata = {"CreationDate": None, "Creator": None, "Producer": None}
        for kind, metadata in (("png", {"Software": None}), ("pdf", no_pdf_metadata)):
            with write_whole(path.with_name(f"{path.name}.{kind}")) as part:
                figure.savefig(part, format=kind, metadata=metadata)
        if svgs is not None:
            svgs[path.name] = svg_text(figure, path.name)
    pyplot().close(figure)
    # One line in place of matplotlib's many.
    for warning in caught:
        if "missing from font" in str(warning.message):
            warn_of_missing_glyphs()
        else:
            warnings.warn(warning.message, stacklevel=2)


def svg_text(figure, name):
    """A figure as SVG to put into a page: without metadata, in the page's own text color."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    open_tag = r'<svg [^>]*?viewBox="([^"]*)"[^>]*>'
    text = re.sub(open_tag, r'<svg viewBox="\1" role="img">', text, count=1)
    # Element ids must be unique on a page with several figures.
    prefix = re.sub(r"\W", "-", name)
    text = re.sub(r'(\bid="|url\(#|href="#)', lambda m: f"{m[1]}{prefix}-", text)
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.S)


@cache
def warn_of_missing_glyphs():
    """Print once that names have characters that no font can show."""
    print(
        "no installed font has all characters of the names: some are boxes in the PNG and PDF "
        "figures (report.html uses the browser's fonts). Install a font such as Noto Sans CJK",
        flush=True,
    )


# ---------------------------------------------------------------- stage 06


def auc_points(results, places):
    """AUC in percent where it is defined. places: [(position, (detector, set, level))].

    Returns positions, values, and the lengths of the error bars (2, n).
    """
    rows = [(x, *results[key]["auc"][:3]) for x, key in places if key in results]
    rows = [row for row in rows if not np.isnan(row[1])]
    position, value, low, high = np.array(rows).reshape(-1, 4).T
    # A percentile interval need not contain the value itself.
    error = np.clip([value - low, high - value], 0, None)
    return position, 100 * value, 100 * error


def draw_roc(path, name, curves, detectors, svgs):
    """ROC curves of one data set, one column wide; a detector has the same color in all of them.

    curves: {detector: (AUC, (false positive rates, true positive rates))}; detectors: all of them.
    """
    figure, ((axes,),) = panels(1, 1, COLUMN - 0.1 + 0.14 * len(curves), COLUMN)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.6)
    for detector, (value, (fpr, tpr)) in curves.items():
        label = f" {detector}: AUC {percent(value)}"
        x, y = 100 * np.asarray(fpr), 100 * np.asarray(tpr)
        axes.plot(x, y, **look(detectors.index(detector), label=label))
    axes.set(xlabel="false positive rate (%)", ylabel="true positive rate (%)", aspect="equal")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), title=f"{name}, image or clip level")
    legend_below(figure, axes, COLUMN)
    # The place of a square's title is known after a first layout.
    save_figure(figure, path, svgs, layouts=2)


def histograms(scores, labels):
    """Counts of the scores of reals and of fakes in 40 equal bins of 0..1."""
    return [np.histogram(scores[labels == label], 40, (0, 1))[0] for label in (0, 1)]


def draw_scores(path, name, counts, svgs):
    """Distributions of the scores of reals and fakes of one data set, one panel per detector.

    counts: {detector: `histograms` of its scores}.
    """
    rows = -(-len(counts) // 3)
    figure, grid = panels(rows, 3, 0.55 + 1.25 * rows, sharex=True)
    for axes in grid.flat[len(counts) :]:
        axes.set_axis_off()
    for k, (axes, (detector, pair)) in enumerate(zip(grid.flat, counts.items())):
        for label, of_class in enumerate(pair):
            share = 100 * of_class / max(1, of_class.sum())
            edges = np.linspace(0, 1, len(of_class) + 1)
            axes.stairs(share, edges, fill=True, alpha=0.35, color=COLORS[label])
            axes.stairs(share, edges, **look(label, label=("real", "fake")[label]))
        axes.axvline(0.5, color="0.5", linewidth=0.6, linestyle=":")
        axes.set_title(detector)
        if k + 3 >= len(counts):
            axes.set_xlabel("P(fake)")
            axes.tick_params(labelbottom=True)
    figure.suptitle(f"{name}: scores, image or clip level")
    figure.supylabel("share of images (%)", fontsize=8)
    legend_below(figure, grid[0, 0])
    save_figure(figure, path, svgs)


def draw_bars(path, charts, sets, results, title, svgs):
    """Bars of the AUC with its interval over data sets.

    charts: [(title of a panel, [(legend, detector, level)])].
    """
    # Long names of data sets are rotated.
    slanted = max(map(len, sets)) * len(sets) > 70
    height = (1.15 if slanted else 0.6) + 1.25 * len(charts)
    figure, grid = panels(len(charts), 1, height, sharex=True)
    for axes, (name, bars) in zip(grid[:, 0], charts):
        for k, (legend, detector, level) in enumerate(bars):
            places = [(x, (detector, of, level)) for x, of in enumerate(sets)]
            x, value, error = auc_points(results, places)
            x = x + (k - (len(bars) - 1) / 2) * 0.36
            style = dict(color=COLORS[k], hatch=("", "///")[k % 2], edgecolor="white", linewidth=0)
            axes.bar(x, value, 0.34, label=legend, **style)
            axes.errorbar(x, value, error, fmt="none", ecolor="0.4", elinewidth=0.8, capsize=1.5)
            for left, high, above in zip(x, value, np.nan_to_num(error[1])):
                axes.text(left, high + above + 2, f"{high:.1f}", ha="center", fontsize=6)
        axes.axhline(50, color="0.5", linewidth=0.6, linestyle=":")
        axes.set(ylabel="AUC (%)", ylim=(0, 122), xlim=(-0.6, len(sets) - 0.4), title=name)
        axes.set_yticks(range(0, 101, 25))
        angle = dict(rotation=20, ha="right") if slanted else {}
        axes.set_xticks(range(len(sets)), sets, **angle)
    legend_below(figure, grid[0, 0])
    figure.suptitle(title)
    save_figure(figure, path, svgs)


def draw_learning(path, runs, svgs):
    """Learning curves, one row per run: losses on the left, validation metrics on the right.

    runs: {name: folder with a log.csv}; of more than 40, the first 40 are drawn, and the figure
    says so. Without runs, nothing is drawn.
    """
    if not runs:
        return
    rows = min(len(runs), 40)
    figure, grid = panels(rows, 2, 0.3 + 1.3 * rows)
    if rows < len(runs):
        figure.suptitle(f"the first {rows} of {len(runs)} runs")
    for (left, right), (name, folder) in zip(grid, runs.items()):
        log = read_log(folder / "log.csv")
        for axes, endings, scale in ((left, "loss", 1), (right, ("auc", "accuracy"), 100)):
            columns = [column for column in log if column.endswith(endings)]
            for k, column in enumerate(columns):
                label = column.replace("_", " ").replace("auc", "AUC")
                axes.plot(log["epoch"], scale * log[column], **look(k, marker=".", label=label))
            axes.xaxis.get_major_locator().set_params(integer=True)
            if columns:
                axes.legend(loc="best", fontsize=6)
            else:
                axes.text(0.5, 0.5, "no validation", ha="center", transform=axes.transAxes)
        left.set_title(name, loc="left")
        left.set(xlabel="epoch", ylabel="loss")
        right.set(xlabel="epoch", ylabel="%", ylim=(-2, 102))
    save_figure(figure, path, svgs)


def read_log(path):
    """{column: values} of the epochs, losses and validation metrics of a log.csv, if measured."""
    columns = [
        name
        for name in read_table(path, ("epoch",))
        if name.endswith(("epoch", "loss", "auc", "accuracy"))
    ]
    log = read_table(path, columns, dict.fromkeys(columns, (float, "nan")), optional=())
    return {name: values for name, values in log.items() if not np.isnan(values).all()}


# ---------------------------------------------------------------- the embedding of stage 04

# embedding.csv has one row per network and image. `features` is the network of Gf's inputs,
# `variance` the share that both dimensions hold, 0..1.
COLUMNS = ("network", "variance", "domain", "video", "frame", "label", "x", "y")
TITLES = {"features": "features", "source-only": "Gf, source-only", "bp-dann": "Gf, BP-DANN"}
# Domain, label, color, marker and its area; the source lies below the target.
GROUPS = (
    ("source", 0, COLORS[5], "o", 9),
    ("source", 1, COLORS[4], "s", 9),
    ("target", 0, COLORS[0], "+", 14),
    ("target", 1, COLORS[1], "x", 11),
)


def project(rows):
    """The first two principal components of rows (N, D): (N, 2), and their share of the variance.

    The components are fitted on all rows, those of both domains. What is missing is 0.
    """
    from sklearn.decomposition import PCA

    components = PCA(min(2, *rows.shape), random_state=0)
    xy = np.zeros((len(rows), 2))
    # Rows that are all equal have no variance to share.
    with np.errstate(invalid="ignore"):
        xy[:, : components.n_components] = components.fit_transform(rows)
        return xy, float(np.nan_to_num(components.explained_variance_ratio_.sum()))


def write_embedding(path, images, outputs):
    """Write an embedding.csv.

    images: (domain, video, frame, label) of N images; outputs: {network: (N, D) array}.
    """
    lines = []
    for network, rows in outputs.items():
        xy, variance = project(rows)
        for image, (x, y) in zip(images, xy):
            lines.append((network, f"{variance:.4f}", *image, f"{x:.6g}", f"{y:.6g}"))
    write_table(path, COLUMNS, lines)


def draw_embeddings(out, runs, svgs):
    """OUT/embedding_TARGET of every target set that runs of 04 adapted to: {name: folder}."""
    targets = {}
    for name, folder in runs.items():
        if (folder / "embedding.csv").exists():
            targets.setdefault(printable(folder.name), {})[name] = folder
    for target, folders in targets.items():
        draw_embedding(out / f"embedding_{target}", target, folders, svgs)


def draw_embedding(path, target, runs, svgs=None):
    """Gf's embedding of source and target images: a row per run, a panel per network.

    runs: {name: folder with an embedding.csv}.
    """
    tables = {run: read_embedding(folder / "embedding.csv") for run, folder in runs.items()}
    columns = max(map(len, tables.values()))
    width = max(5, 2.5 * columns)
    figure, grid = panels(len(runs), columns, 0.9 + 2.4 * len(runs), width)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    for row, (run, networks) in zip(grid, tables.items()):
        row[0].set_ylabel(run)
        for axes, (network, (variance, domains, labels, xy)) in zip(row, networks.items()):
            for domain, label, color, marker, area in GROUPS:
                x, y = xy[(domains == domain) & (labels == label)].T
                name = f"{domain} {('real', 'fake')[label]}"
                axes.scatter(x, y, s=area, c=color, marker=marker, linewidths=0.6, label=name)
            axes.set(title=network, xlabel=f"{100 * variance:.0f} % of the variance")
    figure.suptitle(
        f"{target}: Gf's embedding of source and target images\n"
        "principal components of both domains; target labels only color it"
    )
    legend_below(figure, grid[0, 0], width)
    save_figure(figure, path, svgs)


def read_embedding(path):
    """{title of a network: (variance, domains, labels, xy)} of an embedding.csv."""
    kinds = {name: (float, "nan") for name in ("variance", "label", "x", "y")}
    table = read_table(path, COLUMNS, kinds, optional=())
    xy = np.column_stack([table["x"], table["y"]])
    if not len(xy) or not (np.abs(xy) < 1e9).all():
        fail(f"{path} should hold finite coordinates: run 04_train_bpdann.py again")
    network, domain = np.array(table["network"]), np.array(table["domain"])
    networks = {}
    for name, title in TITLES.items():
        rows = np.flatnonzero(network == name)
        if len(rows):
            variance = table["variance"][rows[0]]
            networks[title] = (variance, domain[rows], table["label"][rows], xy[rows])
    return networks


# ---------------------------------------------------------------- activation maps


def overlay(axes, image, heat, top):
    """Draw an activation map over a face in gray: red is evidence for fake, blue for real.

    image: (H, W, 3) in 0..1; heat: (H, W), drawn from -top to top. Returns what a color bar needs.
    """
    axes.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=1)
    return axes.imshow(heat, cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.55)


def draw_activation_maps(path, title, captions, frames, maps):
    """Activation maps (CLRNet, Figure 8): one row per clip, its frames left and its maps right.

    Of clips of one frame there are three in a row. captions: one per clip; frames: (N, T, H, W, 3)
    in 0..1; maps: (N, T, H, W), above 0 where the image is evidence for fake.
    """
    count, length = frames.shape[:2]
    top = np.abs(maps).max() or 1.0
    in_row = 3 if length == 1 else 1
    rows, columns = -(-count // in_row), 2 * length * in_row
    height = 0.4 + rows * (PAGE / (columns + 1) + 0.25)
    figure, grid = panels(rows, columns, height, layout="compressed")
    for k, caption in enumerate(captions):
        axes = grid[k // in_row, 2 * length * (k % in_row) :]
        for t in range(length):
            axes[t].imshow(frames[k, t])
            colored = overlay(axes[length + t], frames[k, t], maps[k, t], top)
        text = axes[0].set_title(caption, fontsize=6, loc="left", pad=2)
        text.set_in_layout(False)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.get_layout_engine().set(h_pad=0.08)
    bar = figure.colorbar(colored, ax=grid, shrink=min(1.0, 2 / rows), aspect=15, pad=0.01)
    bar.set_label("evidence for real  |  for fake", fontsize=7)
    figure.suptitle(title)
    save_figure(figure, path)


def draw_maps(path, name, clips, logits, faces, maps, count, seed, device):
    """Draw activation maps of `count` videos of the set `name`, half of them real where possible.

    clips, faces: the set's samples as `running.loading.Clips` and as `Faces`; logits: of fake
    minus real of each sample; maps: a function of clips (1, T, 3, S, S) in 0..1 that returns maps
    (1, T, h, w). The videos are drawn by seed, and of each the sample in its middle is taken.
    """
    from networks.extractor import full_size_maps
    from running.loading import as_clips, load_batches

    samples = choose_samples(clips, count, seed)
    (images,) = load_batches(faces, [samples], workers=0)
    images = as_clips(images)
    length = images.shape[1]
    # At most five frames of a sample.
    shown = np.linspace(0, length - 1, min(length, 5)).round().astype(int)
    heat = full_size_maps(maps, images.to(device))[:, shown]
    captions = []
    for k, p_fake in zip(samples, sigmoid(np.asarray(logits)[samples])):
        kind = ("real", "fake")[clips.labels[k]]
        # Maximum number of characters in a caption: three samples of one frame share a row.
        video = clips.index["video"][clips.first[k]][-24 if length == 1 else -90 :]
        captions.append(f"{video}: {kind}, P(fake) {p_fake:.3f}")
    frames = images[:, shown].movedim(2, -1).numpy()
    draw_activation_maps(path, f"Activation maps, {name}", captions, frames, heat)
    print(f"{path}.png, .pdf: {len(samples)} videos", flush=True)


def choose_samples(clips, count, seed):
    """Numbers of the samples of `count` videos: reals, then fakes; more of one if few are there."""
    samples = {}
    for k, row in enumerate(clips.first):
        samples.setdefault(clips.index["video"][row], []).append(k)
    by_label = []
    for label in (0, 1):
        videos = sorted(v for v in samples if clips.labels[samples[v][0]] == label)
        by_label.append(np.random.default_rng((seed, label)).permutation(videos).tolist())
    real, fake = by_label
    reals = min(len(real), max(count // 2, count - len(fake)))
    videos = real[:reals] + fake[: count - reals]
    return [samples[video][len(samples[video]) // 2] for video in videos]

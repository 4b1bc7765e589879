"""The style of all figures, how they are saved, and faces with activation maps.

Figures are as wide as a column (3.4 inches) or a page (7 inches) of a two-column paper. The colors
are those of Okabe and Ito, which color-blind readers can tell apart; in black and white, line
styles and markers tell them apart.
"""

import contextlib
import io
import re
import warnings
from functools import cache

import numpy as np

from common import write_whole

COLUMN, PAGE = 3.4, 7.0
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
# Text and axes; the report replaces it by the page's own color.
INK = "#1b1b1b"
SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "0",
    # A $ in a name is a $.
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


# Fonts with Chinese, Japanese and Korean characters, which matplotlib's own font lacks; the first
# that is installed is used for them.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Arial Unicode MS",
)


def pyplot():
    """matplotlib's pyplot with the settings of all figures."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(SETTINGS)
    matplotlib.rcParams["font.family"] = fonts()
    import matplotlib.pyplot as plt

    return plt


@cache
def fonts():
    """The fonts of all figures by name, of which the first that has a character shows it."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *[name for name in CJK_FONTS if name in installed][:1]]


@cache
def warn_of_missing_glyphs():
    """Print once that names have characters that no font can show."""
    print(
        "no installed font has all characters of the names: some are boxes in the PNG and PDF "
        "figures (report.html uses the browser's fonts). Install a font such as Noto Sans CJK",
        flush=True,
    )


@contextlib.contextmanager
def one_line_for_missing_glyphs():
    """Print one line instead of matplotlib's many warnings of characters that no font has."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if re.match("Glyph .* missing from font", str(warning.message)):
            warn_of_missing_glyphs()
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def save_figure(figure, path, svgs=None):
    """Write a figure as path.png and path.pdf, and close it.

    svgs: {name: SVG text} of the report, to which the figure is added.
    """
    with one_line_for_missing_glyphs():
        # The layout is computed once; with an engine, each format would compute it, and draw twice.
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)
        no_pdf_metadata = {"CreationDate": None, "Creator": None, "Producer": None}
        for kind, metadata in (("png", {"Software": None}), ("pdf", no_pdf_metadata)):
            with write_whole(path.with_name(f"{path.name}.{kind}")) as part:
                figure.savefig(part, format=kind, metadata=metadata)
        if svgs is not None:
            svgs[path.name] = svg_text(figure, path.name)
    pyplot().close(figure)


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


def legend_below(figure, axes, width):
    """Put the legend of `axes` below a figure `width` inches wide, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=1)
    columns = max(1, min(len(labels), int(width * 13 / (longest + 5))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def overlay(axes, image, heat, top):
    """Draw an activation map over a face in gray: red speaks for fake, blue for real.

    image: (H, W, 3) in 0..1; heat: (H, W), drawn from -top to top. Returns what a color bar needs.
    """
    axes.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=1)
    return axes.imshow(heat, cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.55)


def draw_activation_maps(path, title, captions, frames, maps):
    """Activation maps (CLRNet, Figure 8): one row per clip, its frames left and its maps right.

    Of clips of one frame there are three in a row. captions: one per clip; frames: (N, T, H, W, 3)
    in 0..1; maps: (N, T, H, W), above 0 where the image speaks for fake. Writes path.png and
    path.pdf.
    """
    count, length = frames.shape[:2]
    top = np.abs(maps).max() or 1.0
    in_row = 3 if length == 1 else 1
    rows, columns = -(-count // in_row), 2 * length * in_row
    figure, axes = pyplot().subplots(
        rows,
        columns,
        figsize=(PAGE, 0.4 + rows * (PAGE / (columns + 1) + 0.25)),
        squeeze=False,
        layout="compressed",
    )
    for k, caption in enumerate(captions):
        panels = axes[k // in_row, 2 * length * (k % in_row) :]
        for t in range(length):
            panels[t].imshow(frames[k, t])
            colored = overlay(panels[length + t], frames[k, t], maps[k, t], top)
        text = panels[0].set_title(caption, fontsize=6, loc="left", pad=2)
        text.set_in_layout(False)
    for panel in axes.flat:
        panel.set_axis_off()
    figure.get_layout_engine().set(h_pad=0.08)
    bar = figure.colorbar(colored, ax=axes, shrink=min(1.0, 2 / rows), aspect=15, pad=0.01)
    bar.set_label("speaks for real  |  for fake", fontsize=7)
    figure.suptitle(title)
    save_figure(figure, path)

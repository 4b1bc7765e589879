"""What Gf makes of source and target images, in two dimensions: written by 04, drawn by 04 and 06.

embedding.csv has one row per network and image: network ("features" is what Gf is given), variance
(the share that both dimensions hold, 0..1), domain, video, frame, label, x, y. Labels of the target
only color the picture.
"""

import numpy as np

from common import fail, read_table, write_table
from reporting.figures import COLORS, PAGE, legend_below, pyplot, save_figure

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


def read_embeddings(paths):
    """Panels of several embedding.csv, those of the same images and features together.

    Returns {key: {panel title: (variance, domains, labels, xy)}}; key[0] is the target's name, the
    name of the file's folder. Of several files, networks are titled with the names of their runs,
    or with the paths where names are the same.
    """
    groups = {}
    for path in paths:
        kinds = {name: (float, "nan") for name in ("variance", "label", "x", "y")}
        table = read_table(path, COLUMNS, kinds, optional=())
        xy = np.column_stack([table["x"], table["y"]])
        if not len(xy) or not (np.abs(xy) < 1e9).all():
            fail(f"{path} should hold finite coordinates: run 04_train_bpdann.py again")
        network, domain = np.array(table["network"]), np.array(table["domain"])
        of = {name: np.flatnonzero(network == name) for name in TITLES if name in network}
        images = list(zip(table["domain"], table["video"], table["frame"]))
        same = tuple(images[row] for row in np.flatnonzero(network == network[0]))
        key = path.parent.name, same, xy[of.get("features", [])].tobytes()
        group = groups.setdefault(key, {})
        for name, rows in of.items():
            title = TITLES[name]
            if len(paths) > 1 and name != "features":
                run = path.parent.parent
                named = f"{title}\n{run.name}"
                title = f"{title}\n{run}" if named in group else named
            panel = table["variance"][rows[0]], domain[rows], table["label"][rows], xy[rows]
            group[title] = panel
    return groups


def draw_embedding(path, target, panels, svgs=None):
    """Source and target images in two dimensions, a panel per network: path.png and path.pdf.

    panels: {title: (variance, domains, labels, xy)} of `read_embeddings`.
    """
    # Source-only before BP-DANN.
    order = sorted(panels, key=lambda title: list(TITLES.values()).index(title.split("\n")[0]))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (PAGE if columns > 2 else 5.0, 0.9 + 2.4 * rows)
    figure, axes = pyplot().subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained"
    )
    for panel in axes.flat[len(panels) :]:
        panel.set_axis_off()
    for panel, title in zip(axes.flat, order):
        variance, domains, labels, xy = panels[title]
        for domain, label, color, marker, area in GROUPS:
            x, y = xy[(domains == domain) & (labels == label)].T
            name = f"{domain} {('real', 'fake')[label]}"
            panel.scatter(x, y, s=area, c=color, marker=marker, linewidths=0.6, label=name)
        panel.set(title=title, xticks=[], yticks=[])
        panel.set_xlabel(f"{100 * variance:.0f} % of the variance", fontsize=7)
    figure.suptitle(
        f"{target}: what Gf makes of source and target images\n"
        "principal components of both domains; target labels only color it"
    )
    legend_below(figure, axes[0, 0], size[0])
    save_figure(figure, path, svgs)

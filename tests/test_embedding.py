"""The picture of what adaptation does: what 04 writes of Gf's output, and what 06 draws of it."""

import numpy as np
import pytest
import torch
from conftest import call, rows_of, run, stage

from reporting import figures


def points(rows, network):
    return np.array([[float(r["x"]), float(r["y"])] for r in rows if r["network"] == network])


def test_projection_of_known_rows():
    """Points on a line have one component; a turned and moved rectangle is found again."""
    line = np.arange(9.0)[:, None] * [[2, 0, -1, 2]]
    xy, variance = figures.project(line)
    assert variance == pytest.approx(1) and np.allclose(xy[:, 1], 0)
    assert np.allclose(np.abs(xy[:, 0]), 3 * np.abs(np.arange(9) - 4))
    corners = np.array([[4, 1], [4, -1], [-4, 1], [-4, -1]])
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    xy, variance = figures.project(corners @ turned[:2] + 5)
    assert variance == pytest.approx(1) and np.allclose(np.abs(xy), np.abs(corners))
    for degenerate in (np.ones((5, 3)), np.ones((5, 1))):
        xy, variance = figures.project(degenerate)
        assert variance == 0 and not xy.any() and xy.shape == (5, 2)


@pytest.fixture(scope="module")
def runs(features, tmp_path_factory):
    """Source-only and BP-DANN with the same seed: RUNS/METHOD/phone, and their scores."""
    folder = tmp_path_factory.mktemp("embedding")
    for method in ("source-only", "bp-dann"):
        run(
            f"04_train_bpdann.py --method {method} --source {features}/frames --target "
            f"{features}/phone --epochs 3 --batch 4 --device cpu --out {folder}/runs/{method} "
            f"--scores {folder}/scores/{method}"
        )
    return folder


def test_the_picture_is_of_the_network_and_of_the_same_images(features, runs):
    bpdann = stage("04_train_bpdann")
    tables = {}
    for method in ("source-only", "bp-dann"):
        out = runs / "runs" / method / "phone"
        rows = tables[method] = rows_of(out / "embedding.csv")
        assert {r["network"] for r in rows} == {"features", method}
        assert (out / "embedding.png").read_bytes()[:4] == b"\x89PNG"
        assert (out / "embedding.pdf").read_bytes()[:4] == b"%PDF"
        # Gf's output for these images, which are found by video and frame.
        checkpoint = torch.load(out / "model.pt", weights_only=True)
        network = bpdann.BPDANN(**checkpoint["kwargs"]).eval()
        network.load_state_dict(checkpoint["model"])
        inputs = []
        for row in (r for r in rows if r["network"] == method):
            folder = features / {"source": "frames", "target": "phone"}[row["domain"]]
            index = rows_of(folder / "index.csv")
            place = [(r["video"], r["frame"]) for r in index].index((row["video"], row["frame"]))
            inputs.append(np.load(folder / "features.npy", mmap_mode="r")[place])
            assert row["label"] == index[place]["label"]
        with torch.no_grad():
            xy, _ = figures.project(network.extract(torch.from_numpy(np.stack(inputs))).numpy())
        assert np.allclose(points(rows, method), xy, atol=1e-4)
        xy, _ = figures.project(np.stack(inputs))
        assert np.allclose(points(rows, "features"), xy, atol=1e-3)
    a, b = ([r for r in rows if r["network"] == "features"] for rows in tables.values())
    assert a == b and {r["domain"] for r in a} == {"source", "target"}
    assert not np.allclose(*(points(rows, method) for method, rows in tables.items()))


def test_06_draws_a_row_per_run(runs):
    out = runs / "results"
    flags = f"--scores {runs}/scores --runs {runs}/runs --resamples 2 --out {out}"
    call(f"06_evaluate.py {flags}")
    assert [path.name for path in sorted(out.glob("embedding*.png"))] == ["embedding_phone.png"]
    report = (out / "report.html").read_text()
    for text in (
        *("phone: Gf's embedding of source and target images", "target labels only color it"),
        *("features", "Gf, source-only", "Gf, BP-DANN", "source fake", "target real"),
        *(">source-only/phone<", ">bp-dann/phone<"),
    ):
        assert text in report, text


def test_a_picture_has_a_row_per_run_and_a_panel_per_network(tmp_path, monkeypatch):
    """Runs may show other images and networks."""
    rng = np.random.default_rng(0)
    images = [(domain, f"v{k}", k, k % 2) for domain in ("source", "target") for k in range(3)]
    features, gf = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    figures.write_embedding(tmp_path / "a/embedding.csv", images, dict(features=features))
    outputs = {"features": features, "bp-dann": gf}
    figures.write_embedding(tmp_path / "b/embedding.csv", images[::-1], outputs)
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_: drawn.append(figure))
    runs = {"a": tmp_path / "a", "run b": tmp_path / "b"}
    figures.draw_embedding(tmp_path / "embedding", "phone", runs)
    (figure,) = drawn
    panels = [axes for axes in figure.axes if axes.get_title()]
    titles = [(axes.get_ylabel(), axes.get_title()) for axes in panels]
    assert titles == [("a", "features"), ("run b", "features"), ("", "Gf, BP-DANN")]
    for axes, rows, order in zip(panels, (features, features, gf), (1, -1, -1)):
        xy, variance = figures.project(rows)
        assert axes.get_xlabel() == f"{100 * variance:.0f} % of the variance"
        for domain, label, *_ in figures.GROUPS:
            name = f"{domain} {('real', 'fake')[label]}"
            (drawn,) = [group for group in axes.collections if group.get_label() == name]
            groups = [image[::3] for image in images[::order]]
            rows_of_group = [k for k, group in enumerate(groups) if group == (domain, label)]
            assert np.allclose(drawn.get_offsets(), xy[rows_of_group], atol=1e-4)
    figures.pyplot().close(figure)


@pytest.mark.parametrize("bad", ["inf", "1e300", "", "x"])
def test_a_damaged_file_is_one_line(tmp_path, bad):
    path = tmp_path / "phone/embedding.csv"
    figures.write_embedding(path, [("source", "v", 1, 0)] * 3, {"features": np.eye(3)})
    lines = path.read_text().split("\n")
    lines[2] = ",".join([*lines[2].split(",")[:-1], bad])
    path.write_text("\n".join(lines))
    with pytest.raises(SystemExit, match="embedding.csv"):
        figures.read_embedding(path)

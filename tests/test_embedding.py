"""The picture of what adaptation does: what 04 writes of Gf's output, and what 06 draws of it."""

import csv

import numpy as np
import pytest
import torch
from conftest import run, stage

from reporting import embedding


def read(path):
    return list(csv.DictReader(open(path)))


def points(rows, network):
    return np.array([[float(r["x"]), float(r["y"])] for r in rows if r["network"] == network])


def test_projection_of_known_rows():
    """Points on a line have one component; a turned and moved rectangle is found again."""
    line = np.arange(9.0)[:, None] * [[2, 0, -1, 2]]
    xy, variance = embedding.project(line)
    assert variance == pytest.approx(1) and np.allclose(xy[:, 1], 0)
    assert np.allclose(np.abs(xy[:, 0]), 3 * np.abs(np.arange(9) - 4))
    corners = np.array([[4, 1], [4, -1], [-4, 1], [-4, -1]])
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    xy, variance = embedding.project(corners @ turned[:2] + 5)
    assert variance == pytest.approx(1) and np.allclose(np.abs(xy), np.abs(corners))
    for degenerate in (np.ones((5, 3)), np.ones((5, 1))):
        xy, variance = embedding.project(degenerate)
        assert variance == 0 and not xy.any() and xy.shape == (5, 2)


@pytest.fixture(scope="module")
def runs(features, tmp_path_factory):
    """Source-only and BP-DANN with the same seed: RUNS/METHOD/phone, and their scores."""
    folder = tmp_path_factory.mktemp("embedding")
    for method in ("source-only", "bp-dann"):
        run(
            *("04_train_bpdann.py", "--method", method, "--source", features / "frames"),
            *("--target", features / "phone", "--epochs", 3, "--batch", 4, "--device", "cpu"),
            *("--out", folder / "runs" / method, "--scores", folder / "scores" / method),
        )
    return folder


def test_the_picture_is_of_the_network_and_of_the_same_images(features, runs):
    bpdann = stage("04_train_bpdann")
    index = read(features / "phone/index.csv")
    tables = {}
    for method in ("source-only", "bp-dann"):
        out = runs / "runs" / method / "phone"
        rows = tables[method] = read(out / "embedding.csv")
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
            index = read(folder / "index.csv")
            place = [(r["video"], r["frame"]) for r in index].index((row["video"], row["frame"]))
            inputs.append(np.load(folder / "features.npy", mmap_mode="r")[place])
            assert row["label"] == index[place]["label"]
        with torch.no_grad():
            xy, _ = embedding.project(network.embed(torch.from_numpy(np.stack(inputs))).numpy())
        assert np.allclose(points(rows, method), xy, atol=1e-4)
        assert np.allclose(
            points(rows, "features"), embedding.project(np.stack(inputs))[0], atol=1e-3
        )
    a, b = ([r for r in rows if r["network"] == "features"] for rows in tables.values())
    assert a == b and {r["domain"] for r in a} == {"source", "target"}
    assert not np.allclose(
        points(tables["source-only"], "source-only"), points(tables["bp-dann"], "bp-dann")
    )


def test_06_draws_both_side_by_side_and_the_scores(runs):
    out = runs / "results"
    command = ("06_evaluate.py", "--scores", runs / "scores", "--runs", runs / "runs")
    run(*command, "--resamples", 2, "--out", out)
    assert [path.name for path in sorted(out.glob("embedding*.png"))] == ["embedding1_phone.png"]
    report = (out / "report.html").read_text()
    for text in (
        *("phone: what Gf makes of source and target images", "target labels only color it"),
        *("features", "Gf, source-only", "Gf, BP-DANN", "source fake", "target real"),
    ):
        assert text in report, text


def test_files_of_the_same_images_are_drawn_together(tmp_path):
    """Networks are titled with their runs; another draw of images has a picture of its own."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 3))
    images = [(domain, f"v{k}", k, k % 2) for domain in ("source", "target") for k in range(3)]
    paths = [tmp_path / name / "phone/embedding.csv" for name in ("a", "b", "x/b", "c")]
    for path, pictured in zip(paths, (images, images, images, images[::-1])):
        outputs = {"features": rows, "bp-dann": rng.normal(size=(6, 2))}
        embedding.write_embedding(path, pictured, outputs)
    first, second = embedding.read_embeddings(paths).values()
    names = ("a", "b", tmp_path / "x/b")
    assert list(first) == ["features", *(f"Gf, BP-DANN\n{name}" for name in names)]
    assert list(second) == ["features", "Gf, BP-DANN\nc"]
    variance, domains, labels, xy = first["features"]
    assert variance < 1 and list(domains) == 3 * ["source"] + 3 * ["target"]
    assert list(labels) == [0, 1, 0, 0, 1, 0]
    assert np.allclose(xy, embedding.project(rows)[0], atol=1e-4)


@pytest.mark.parametrize("bad", ["inf", "1e300", "", "x"])
def test_a_damaged_file_is_one_line(tmp_path, bad):
    path = tmp_path / "phone/embedding.csv"
    embedding.write_embedding(path, [("source", "v", 1, 0)] * 3, {"features": np.eye(3)})
    lines = path.read_text().split("\n")
    lines[2] = ",".join([*lines[2].split(",")[:-1], bad])
    path.write_text("\n".join(lines))
    with pytest.raises(SystemExit, match="embedding.csv"):
        embedding.read_embeddings([path])

"""Stage 00: layout, counts, same seed same pixels, faces a detector finds, traces in the face."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
from conftest import run, stage

from media import demo as drawing
from media import detectors
from media import video as media_video

demo = stage("00_make_demo_videos")
faces = stage("01_extract_faces")


def frames(seed, condition, number, count, partner=None, method=None):
    recording = drawing.record(seed, condition, number, count)
    if method is None:
        return np.stack([frame for frame, _ in recording])
    return np.stack(list(drawing.forge(recording, seed, condition, number, partner, method)))


def test_layout_counts_and_splits(small):
    for condition in drawing.CONDITIONS:
        root = small / "videos" / condition
        assert len(list(root.glob("original_sequences/youtube/c23/videos/*.mp4"))) == 6
        for method in list(drawing.METHODS)[:4]:
            names = sorted(
                path.stem for path in root.glob(f"manipulated_sequences/{method}/c23/videos/*.mp4")
            )
            assert names == ["000_001", "001_000", "002_003", "003_002", "004_005", "005_004"]
        pairs = {
            split: json.loads((root / "splits" / f"{split}.json").read_text())
            for split in ("train", "val", "test")
        }
        assert pairs == {
            "train": [["000", "001"]],
            "val": [["002", "003"]],
            "test": [["004", "005"]],
        }
    assert len(list((small / "videos").rglob("*.mp4"))) == 2 * 6 * 5
    assert not list((small / "videos").rglob(".part-*"))


def test_the_list_names_every_video_with_its_label_and_split(small):
    root = small / "videos"
    with open(root / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {root / row["path"] for row in rows} == set(root.rglob("*.mp4"))
    assert Counter(row["split"] for row in rows) == dict(train=20, val=20, test=20)
    for row in rows:
        camera, kind, method, *_, name = row["path"].split("/")
        is_fake = kind == "manipulated_sequences"
        assert row["label"] == str(int(is_fake))
        assert row["method"] == (f"{camera}-{method}" if is_fake else camera)
        assert row["original"] == f"{camera}/{name[:3]}"
        first = {"train": "000", "val": "002", "test": "004"}[row["split"]]
        assert int(name[:3]) - int(first) in (0, 1)


def test_videos_have_the_frames_and_size_of_their_condition(small):
    for condition, settings in drawing.CONDITIONS.items():
        path = small / "videos" / condition / "original_sequences/youtube/c23/videos/000.mp4"
        assert media_video.count_frames(path) == 10
        ((_, frame),) = media_video.read_frames(path, [9])
        assert frame.shape == (settings["size"][1], settings["size"][0], 3)


def test_same_seed_same_pixels():
    for method in (None, *drawing.METHODS):
        first, second, other_seed = (
            frames(seed, "phone", 2, 3, 3 if method else None, method) for seed in (5, 5, 6)
        )
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other_seed)


def test_a_manipulation_changes_the_face_and_nothing_else():
    real = frames(0, "studio", 0, 3)
    for method in drawing.METHODS:
        fake = frames(0, "studio", 0, 3, 1, method)
        changed = (real != fake).any((0, 3))
        assert 0.01 < changed.mean() < 0.35, method
        borders = (changed[:20], changed[-20:], changed[:, :60], changed[:, -60:])
        assert not any(border.any() for border in borders), method


def test_methods_are_made_as_asked(tmp_path):
    run(
        "00_make_demo_videos.py",
        "--identities",
        6,
        "--frames",
        1,
        "--methods",
        "FaceShifter",
        "--out",
        tmp_path / "v",
    )
    assert {path.parts[-4] for path in (tmp_path / "v/studio").rglob("*.mp4")} == {
        "youtube",
        "FaceShifter",
    }


@pytest.mark.slow
def test_the_detector_finds_the_faces(small):
    """In at least 99 % of 600 frames, real and fake, of both conditions, after encoding."""
    found = asked = 0
    for path in sorted((small / "videos").rglob("*.mp4")):
        for _, frame in media_video.read_frames(path, range(10)):
            asked += 1
            found += detectors.largest_face(frame) is not None
    assert asked == 600
    assert found >= 0.99 * asked


def test_it_resumes_where_it_was(small, tmp_path):
    args = ("--out", tmp_path / "v", "--identities", 6, "--frames", 2)
    run("00_make_demo_videos.py", *args)
    victim = next((tmp_path / "v").rglob("*.mp4"))
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "v").rglob("*.mp4") if path != victim
    }
    content = victim.read_bytes()
    victim.unlink()
    assert "59 exist already" in run("00_make_demo_videos.py", *args)
    assert victim.read_bytes() == content
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_bad_numbers():
    for flags in (("--identities", 7), ("--identities", 4), ("--frames", 0)):
        run("00_make_demo_videos.py", "--out", "unused", *flags, fails=True)

"""Stage 00: layout, counts, same seed same pixels, faces a detector finds, traces in the face."""

import json
from collections import Counter

import numpy as np
import pytest
from conftest import call, rows_of, run

from media import detectors, video
from media.demo import CONDITIONS, METHODS, forge, record


def frames(seed, condition, number, count, partner=None, method=None):
    recording = record(seed, condition, number, count)
    if method is None:
        return np.stack([frame for frame, _ in recording])
    return np.stack(list(forge(recording, seed, condition, number, partner, method)))


def test_layout_counts_and_splits(small):
    root = small / "videos"
    pairs = dict(train=["000", "001"], val=["002", "003"], test=["004", "005"])
    names = sorted(f"{a}_{b}" for pair in pairs.values() for a, b in (pair, pair[::-1]))
    for condition, settings in CONDITIONS.items():
        originals = root / condition / "original_sequences/youtube/c23/videos"
        assert len(list(originals.glob("*.mp4"))) == 6
        assert video.count_frames(originals / "000.mp4") == 10
        ((_, frame),) = video.read_frames(originals / "000.mp4", [9])
        assert frame.shape == (*settings["size"][::-1], 3)
        for method in list(METHODS)[:4]:
            fakes = root / condition / "manipulated_sequences" / method / "c23/videos"
            assert sorted(path.stem for path in fakes.glob("*.mp4")) == names
        for split, pair in pairs.items():
            assert json.loads((root / condition / f"splits/{split}.json").read_text()) == [pair]
    assert len(list(root.rglob("*.mp4"))) == 2 * 6 * 5 and not list(root.rglob(".part-*"))
    rows = rows_of(root / "videos.csv")
    assert {root / row["path"] for row in rows} == set(root.rglob("*.mp4"))
    assert Counter(row["split"] for row in rows) == dict(train=20, val=20, test=20)
    for row in rows:
        camera, kind, method, *_, name = row["path"].split("/")
        is_fake = kind == "manipulated_sequences"
        assert row["label"] == str(int(is_fake)) and name[:3] in pairs[row["split"]]
        assert row["method"] == (f"{camera}-{method}" if is_fake else camera)
        assert row["original"] == f"{camera}/{name[:3]}"


def test_same_seed_same_pixels():
    for method in (None, *METHODS):
        partner = 3 if method else None
        first, second, other = (frames(seed, "phone", 2, 3, partner, method) for seed in (5, 5, 6))
        assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_a_manipulation_changes_the_face_and_nothing_else():
    real = frames(0, "studio", 0, 3)
    for method in METHODS:
        changed = (real != frames(0, "studio", 0, 3, 1, method)).any((0, 3))
        assert 0.01 < changed.mean() < 0.35, method
        borders = (changed[:20], changed[-20:], changed[:, :60], changed[:, -60:])
        assert not any(border.any() for border in borders), method


@pytest.mark.slow
def test_the_detector_finds_the_faces(small):
    """In at least 99 % of 600 frames, real and fake, of both conditions, after encoding."""
    paths = (small / "videos").rglob("*.mp4")
    images = [frame for path in paths for _, frame in video.read_frames(path, range(10))]
    faces = sum(detectors.largest_face(image) is not None for image in images)
    assert len(images) == 600 and faces >= 0.99 * 600


def test_it_resumes_where_it_was_and_makes_methods_as_asked(tmp_path):
    out = tmp_path / "v"
    flags = f"--out {out} --identities 6 --frames 1 --methods FaceShifter"
    run(f"00_make_demo_videos.py {flags}")
    videos = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    folders = {path.parts[len(out.parts) + 2] for path in videos}
    assert folders == {"youtube", "FaceShifter"} and len(videos) == 24
    victim = min(videos)
    content = victim.read_bytes()
    victim.unlink()
    assert "23 exist already" in run(f"00_make_demo_videos.py {flags}")
    assert victim.read_bytes() == content
    again = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    assert {path for path in videos if videos[path] != again[path]} == {victim}


def test_bad_numbers():
    for flags in ("--identities 7", "--identities 4", "--frames 0"):
        call(f"00_make_demo_videos.py --out unused {flags}", fails=True)

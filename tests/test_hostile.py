"""Stage 01 over the hostile files that hostile.py makes.

Each gives its faces or a reason that fits, and nothing else happens.
"""

import os
import sys

import numpy as np
import pytest
from conftest import processes_of, rows_of, run
from hostile import make

from common import printable
from media import video

GOOD = "videos/studio/original_sequences/youtube/c23/videos/000.mp4"


@pytest.mark.slow
def test_hostile_files(small, tmp_path):
    expected = make(tmp_path / "v/real", small / GOOD)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    out = tmp_path / "f"
    flags = f"--layout folders --videos {tmp_path}/v --num-frames 3 --out {out}"
    said = run(f"01_extract_faces.py {flags}")
    assert processes_of(str(tmp_path)) == []
    paths = [path for path in tmp_path.rglob("*") if out not in (path, *path.parents)]
    assert {path: path.lstat().st_mtime_ns for path in paths} == before, "written outside of OUT"
    assert "\x1b" not in said and "Traceback" not in said and "Warning" not in said, said

    # Each file is one video, and gives its faces or a reason that fits.
    videos, index = rows_of(out / "videos.csv"), rows_of(out / "index.csv")
    by_source = {video["source"].removeprefix("./"): video for video in videos}
    assert sorted(by_source) == sorted(map(printable, expected))
    assert len({video["video"].lower() for video in videos}) == len(videos) == len(expected) > 60
    reasons = {}
    for row in rows_of(out / "skipped.csv"):
        reasons.setdefault(row["video"], []).append(row["reason"])
    for name, says in expected.items():
        video = by_source[printable(name)]
        faces, why = int(video["faces"]), reasons.get(video["video"], [])
        assert not any("failed" in reason for reason in why), (name, why)
        assert any(
            faces == one if isinstance(one, int) else any(one in reason for reason in why)
            for one in (says if isinstance(says, tuple) else (says,))
        ), (name, says, faces, why)

    # Counts add up, and nothing is left.
    images = list(out.rglob("*.png"))
    assert len(index) == len(images) == len({row["path"] for row in index})
    assert all((out / row["path"]).is_file() for row in index)
    with_faces = sum(int(video["faces"]) > 0 for video in videos)
    skipped = len(videos) - with_faces
    counts = f"{len(videos)} videos = {with_faces} with faces + {skipped} skipped + 0 failed"
    assert counts in said and f"{len(images)} images in" in said
    names = {video["video"] for video in videos}
    files = {"args.json", "index.csv", "skipped.csv", "videos.csv"}
    assert {path.name for path in out.iterdir()} == names | files

    # Boxes in the rotated videos, and with pixels twice as wide as high, are the upright one's.
    boxes = {}
    for row in index:
        box = [int(row[side]) for side in ("left", "top", "right", "bottom")]
        boxes.setdefault(row["video"], []).append(box)
    front = by_source["front.mp4"]
    upright = "rotated_90.mp4 rotated_180.mp4 rotated_270.mp4 wide_pixels.mp4 hevc.mp4 alpha.mov"
    for name in (*upright.split(), "two_streams.mkv"):
        difference = np.array(boxes[by_source[name]["video"]]) - boxes[front["video"]]
        assert np.abs(difference).max() <= 16, name

    # Warnings of damage reach the index.
    assert int(by_source["damaged.mp4"]["warnings"]) and by_source["damaged.mp4"]["first_warning"]
    assert front["warnings"] == "0" and front["first_warning"] == ""
    cut = by_source["cut_front_90.mp4"]
    assert int(cut["warnings"]) > 0 and cut["video"] in boxes
    warnings = {video["video"]: video["warnings"] for video in videos}
    assert all(row["warnings"] == warnings[row["video"]] for row in index)


def test_neither_network_nor_other_files_are_opened(small, tmp_path):
    """Playlists and scripts that point to a good video are not followed: no frame of it comes."""
    for text in (
        f"#EXTM3U\n#EXTINF:1,\n{small / GOOD}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{small / GOOD}'\n",
        "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        f"<MPD><BaseURL>{small / GOOD}</BaseURL></MPD>",
    ):
        (tmp_path / "v.mp4").write_text(text)
        with pytest.raises(video.Unreadable):
            video.count_frames(tmp_path / "v.mp4")
        with pytest.raises(video.Unreadable):
            list(video.read_frames(tmp_path / "v.mp4", [0]))
    options = video.ffmpeg_command("-i.mp4")
    assert options[options.index("-protocol_whitelist") + 1] == "file"
    assert options[options.index("-i", 8) + 1].startswith("file:/")


def test_a_decoder_that_hangs_is_given_up(tmp_path, monkeypatch):
    """A program that prints nothing, in place of ffmpeg, is ended by the time limit."""
    (tmp_path / "v.mp4").write_bytes(b"x")
    hanging = [sys.executable, "-c", "import time; time.sleep(1000)"]
    monkeypatch.setattr(video, "ffmpeg_command", lambda *args, **kwargs: hanging)
    timer = video.threading.Timer
    limits = []

    def short_timer(seconds, function):
        limits.append(seconds)
        return timer(0.1, function)

    monkeypatch.setattr(video.threading, "Timer", short_timer)
    with pytest.raises(video.Unreadable, match="no frame within 65 s"):
        list(video.read_frames(tmp_path / "v.mp4", [10, 2000]))
    assert limits == [65]  # a minute, and half a second per frame
    with pytest.raises(video.Unreadable, match="longer than 60 s"):
        video.count_frames(tmp_path / "v.mp4")


def test_frames_too_large_are_refused(small, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 320 * 240)
    assert len(list(video.read_frames(small / GOOD, [0, 1]))) == 2
    monkeypatch.setattr(video, "MAX_PIXELS", 320 * 240 - 1)
    with pytest.raises(video.Unreadable):
        list(video.read_frames(small / GOOD, [0, 1]))


def test_unreadable_files_are_named(small, monkeypatch):
    """Root reads everything, so the error is made: a file that the system will not open."""

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os.path, "getsize", refuse)
    with pytest.raises(video.Unreadable, match="Permission denied"):
        video.count_frames(small / GOOD)

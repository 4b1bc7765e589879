"""Stage 01 over more than a hundred hostile files, which hostile.py makes.

Each gives its faces or a reason that fits, and nothing else happens.
"""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import command, processes_of
from hostile import make

from media import video as media_video


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module", params=[pytest.param("all", marks=pytest.mark.slow)])
def hostile(small, tmp_path_factory):
    """(folder, what is expected of each file, 01's output over it, its folder)."""
    folder = tmp_path_factory.mktemp("hostile")
    expected = make(
        folder / "v/real", small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    )
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    done = subprocess.run(
        command(
            "01_extract_faces.py",
            "--layout",
            "folders",
            "--videos",
            folder / "v",
            "--num-frames",
            3,
            "--out",
            folder / "f",
        ),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=600,
        cwd=folder,
    )
    after = {
        path: path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if folder / "f" not in (path, *path.parents)
    }
    assert after == before, "something was written outside of OUT"
    return folder, expected, done


def test_more_than_sixty_files_and_each_is_one_video(hostile):
    folder, expected, done = hostile
    assert len(expected) > 100 and done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not done.stderr.strip(), done.stderr
    videos = rows_of(folder / "f/videos.csv")
    assert sorted(v["source"] for v in videos) == sorted(ascii(name)[1:-1] for name in expected)
    assert len({v["video"].lower() for v in videos}) == len(videos)


def test_each_gives_its_faces_or_a_reason_that_fits(hostile):
    folder, expected, _ = hostile
    names = {v["source"]: v for v in rows_of(folder / "f/videos.csv")}
    reasons = {}
    for row in rows_of(folder / "f/skipped.csv"):
        reasons.setdefault(row["video"], []).append(row["reason"])
    wrong = []
    for name, says in expected.items():
        video = names[ascii(name)[1:-1]]
        found, why = int(video["faces"]), reasons.get(video["video"], [])
        fits = [
            found == one if isinstance(one, int) else any(one in reason for reason in why)
            for one in (says if isinstance(says, tuple) else (says,))
        ]
        if not any(fits):
            wrong.append((name, says, found, why))
    assert not wrong
    assert not [
        reason
        for all_ in reasons.values()
        for reason in all_
        if "failed" in reason or "Traceback" in reason
    ]


def test_counts_add_up_and_nothing_is_left(hostile):
    folder, expected, done = hostile
    index = rows_of(folder / "f/index.csv")
    images = [path for path in (folder / "f").rglob("*.png")]
    assert len(index) == len(images) == len({row["path"] for row in index}) and all(
        (folder / "f" / row["path"]).is_file() for row in index
    )
    videos = rows_of(folder / "f/videos.csv")
    skipped = {row["video"] for row in rows_of(folder / "f/skipped.csv") if not row["frame"]}
    with_faces = sum(int(v["faces"]) > 0 for v in videos)
    assert (
        f"{len(expected)} videos = {with_faces} with faces + {len(skipped)} skipped + 0 failed"
        in done.stdout
    )
    assert with_faces + len(skipped) == len(videos) and f"{len(images)} images in" in done.stdout
    assert sorted(path.name for path in (folder / "f").iterdir()) == sorted(
        [v["video"] for v in videos] + ["args.json", "index.csv", "skipped.csv", "videos.csv"]
    )
    assert processes_of(str(folder)) == []


def test_faces_are_the_right_way_up(hostile):
    """Boxes in the rotated videos, and with pixels twice as wide as high, are the upright one's."""
    folder = hostile[0]
    boxes = {}
    names = {v["video"]: v["source"] for v in rows_of(folder / "f/videos.csv")}
    for row in rows_of(folder / "f/index.csv"):
        boxes.setdefault(names[row["video"]], []).append(
            [int(row[side]) for side in ("left", "top", "right", "bottom")]
        )
    for name in (
        "rotated_90.mp4",
        "rotated_180.mp4",
        "rotated_270.mp4",
        "wide_pixels.mp4",
        "hevc.mp4",
        "two_streams.mkv",
        "alpha.mov",
    ):
        assert np.abs(np.array(boxes[name]) - boxes["front.mp4"]).max() <= 16, name


def test_warnings_of_damage_reach_the_index(hostile):
    folder = hostile[0]
    videos = {v["source"]: v for v in rows_of(folder / "f/videos.csv")}
    assert int(videos["damaged.mp4"]["warnings"]) > 0 and videos["damaged.mp4"]["first_warning"]
    assert videos["front.mp4"]["warnings"] == "0" and videos["front.mp4"]["first_warning"] == ""
    index = rows_of(folder / "f/index.csv")
    assert {row["warnings"] for row in index if row["video"] == videos["damaged.mp4"]["video"]} in (
        {videos["damaged.mp4"]["warnings"]},
        set(),
    )
    assert {row["warnings"] for row in index if row["video"] == videos["front.mp4"]["video"]} == {
        "0"
    }
    cut = videos["cut_front_90.mp4"]
    assert {row["warnings"] for row in index if row["video"] == cut["video"]} == {
        cut["warnings"]
    } and int(cut["warnings"]) > 0


def test_neither_network_nor_other_files_are_opened(small, tmp_path):
    """Playlists and scripts that point to a good video are not followed: no frame of it comes."""
    good = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    for name, text in (
        ("list.mp4", f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n"),
        ("script.mp4", f"ffconcat version 1.0\nfile '{good}'\n"),
        ("net.mp4", "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        ("dash.mp4", f"<MPD><BaseURL>{good}</BaseURL></MPD>"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(media_video.Unreadable):
            media_video.count_frames(tmp_path / name)
        with pytest.raises(media_video.Unreadable):
            list(media_video.read_frames(tmp_path / name, [0]))
    options = media_video.ffmpeg_command("-i.mp4")
    assert options[options.index("-protocol_whitelist") + 1] == "file" and options[
        options.index("-i", 8) + 1
    ].startswith("file:/")


def test_a_decoder_that_hangs_is_given_up(tmp_path, monkeypatch):
    """A program that prints nothing, in place of ffmpeg, is ended by the time limit."""
    (tmp_path / "v.mp4").write_bytes(b"x")
    hanging = [sys.executable, "-c", "import time; time.sleep(1000)"]
    monkeypatch.setattr(media_video, "ffmpeg_command", lambda *args: hanging)
    timer = media_video.threading.Timer
    limits = []

    def short_timer(seconds, function):
        limits.append(seconds)
        return timer(0.5, function)

    monkeypatch.setattr(media_video.threading, "Timer", short_timer)
    with pytest.raises(media_video.Unreadable, match="no frame within 65 s"):
        list(media_video.read_frames(tmp_path / "v.mp4", [10, 2000]))
    assert limits == [65]  # a minute, and half a second per frame
    run = subprocess.run
    monkeypatch.setattr(
        media_video.subprocess, "run", lambda *a, timeout, **k: run(*a, timeout=0.5, **k)
    )
    with pytest.raises(media_video.Unreadable, match="longer than 60 s"):
        media_video.count_frames(tmp_path / "v.mp4")


def test_frames_too_large_are_refused(small, monkeypatch):
    good = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    monkeypatch.setattr(media_video, "MAX_PIXELS", 320 * 240)
    assert len(list(media_video.read_frames(good, [0, 1]))) == 2
    monkeypatch.setattr(media_video, "MAX_PIXELS", 320 * 240 - 1)
    with pytest.raises(media_video.Unreadable):
        list(media_video.read_frames(good, [0, 1]))


def test_unreadable_files_are_named(small, tmp_path, monkeypatch):
    """Root reads everything, so the error is made: a file that the system will not open."""
    link = tmp_path / "v/real/a.mp4"
    link.parent.mkdir(parents=True)
    link.write_bytes(
        (small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4").read_bytes()
    )
    monkeypatch.setattr(
        os.path,
        "getsize",
        lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    with pytest.raises(media_video.Unreadable, match="Permission denied"):
        media_video.count_frames(link)

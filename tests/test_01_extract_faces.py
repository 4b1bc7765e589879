"""Stage 01: which videos, which frames, which box; unreadable input; kill and resume."""

import csv
import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import run, shared, stage, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from media import detectors, faces
from media import video as media_video

extract = stage("01_extract_faces")


def rows_of(path):
    return list(csv.DictReader(open(path)))


def write_video(path, frames, fps=25):
    """Write a video of frames, a list of (height, width, 3) uint8 arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        codec="libx264",
        quality=None,
        macro_block_size=1,
        output_params=["-crf", "1", "-preset", "ultrafast"],
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def flat(*values):
    return [np.full((32, 48, 3), value, np.uint8) for value in values]


# ---------------------------------------------------------------- which frames


@given(st.integers(1, 5000), st.integers(1, 200))
def test_equal_intervals(frames, count):
    chosen = faces.equal_intervals(frames, count)
    assert len(chosen) == len(set(chosen)) == min(frames, count) and chosen == sorted(chosen)
    assert 0 <= chosen[0] and chosen[-1] < frames
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_equal_intervals_known():
    assert faces.equal_intervals(300, 30) == list(range(5, 300, 10))
    assert faces.equal_intervals(3, 30) == [0, 1, 2]


@given(st.integers(0, 5000), st.integers(1, 30), st.integers(1, 20))
def test_clips_never_overlap_and_stay_inside(frames, clips, length):
    starts = faces.clip_starts(frames, clips, length)
    assert len(starts) == min(clips, frames // length)
    assert all(b - a >= length for a, b in zip(starts, starts[1:]))
    assert not starts or (starts[0] >= 0 and starts[-1] + length <= frames)


def test_clips_known():
    assert faces.clip_starts(80, 16, 5) == list(range(0, 80, 5))
    assert faces.clip_starts(24, 16, 5) == [0, 6, 12, 18] or len(faces.clip_starts(24, 16, 5)) == 4
    assert faces.clip_starts(4, 16, 5) == []


def test_the_right_frames_leave_ffmpeg(tmp_path):
    """Each frame's brightness is its number times 4, so that it tells which frame it is."""
    write_video(tmp_path / "v.mp4", flat(*(4 * k for k in range(60))))
    assert media_video.count_frames(tmp_path / "v.mp4") == 60
    wanted = [0, 7, 8, 9, 30, 58, 59]
    got = [(n, frame.mean()) for n, frame in media_video.read_frames(tmp_path / "v.mp4", wanted)]
    assert [n for n, _ in got] == wanted
    assert all(abs(mean - 4 * n) < 2 for n, mean in got)


def test_many_single_frames(tmp_path):
    write_video(tmp_path / "v.mp4", flat(*(k % 60 * 4 for k in range(320))))
    wanted = faces.equal_intervals(320, 150)
    assert [n for n, _ in media_video.read_frames(tmp_path / "v.mp4", wanted)] == wanted


def ffmpeg(*arguments):
    program = [imageio_ffmpeg.get_ffmpeg_exe(), *"-v error -nostdin -y".split()]
    subprocess.run([*program, *map(str, arguments)], check=True)


def test_frames_that_the_file_hides_do_not_count(tmp_path):
    """A video cut without encoding it anew holds frames that no player shows."""
    write_video(tmp_path / "v.mp4", flat(*(4 * k for k in range(60))))
    ffmpeg("-ss", 0.8, "-i", tmp_path / "v.mp4", "-t", 1, "-c", "copy", tmp_path / "cut.mp4")
    for path, shown in ((tmp_path / "cut.mp4", 25), (shared("data/reports/trim/trim.mp4"), 90)):
        frames, seconds = media_video.count_frames(path, True)
        means = [frame.mean() for _, frame in media_video.read_frames(path, range(frames))]
        assert frames == shown == len(means)
        if shown == 25:
            assert seconds == 1 and np.allclose(means, 4 * np.arange(20, 45), atol=2)


def test_numbers_go_on_where_the_size_changes(tmp_path):
    """The filters of ffmpeg are made anew there. Frames get the size of the first one."""
    parts = []
    for size, first in ((48, 0), (96, 20), (24, 40)):
        path = tmp_path / f"{size}.mp4"
        write_video(path, [np.full((size, size, 3), 4 * (first + k), np.uint8) for k in range(20)])
        ffmpeg("-i", path, "-c", "copy", path.with_suffix(".ts"))
        parts.append(path.with_suffix(".ts").read_bytes())
    (tmp_path / "v.ts").write_bytes(b"".join(parts))
    assert media_video.count_frames(tmp_path / "v.ts") == 60
    wanted = [0, 5, 19, 20, 30, 41, 59]
    got = list(media_video.read_frames(tmp_path / "v.ts", wanted))
    assert [number for number, _ in got] == wanted
    assert all(frame.shape == (48, 48, 3) and abs(frame.mean() - 4 * n) < 3 for n, frame in got)


def test_thousands_of_frames_fit_a_command_line(tmp_path):
    write_video(tmp_path / "v.mp4", flat(*(4 * k for k in range(60))))
    wanted = faces.equal_intervals(70_000, 7000)
    got = [(n, frame.mean()) for n, frame in media_video.read_frames(tmp_path / "v.mp4", wanted)]
    assert [n for n, _ in got] == [5, 15, 25, 35, 45, 55]
    assert all(abs(mean - 4 * n) < 2 for n, mean in got)


def test_pipes_of_the_usual_size_are_enough(tmp_path, monkeypatch):
    """An ordinary user with many ffmpegs may not enlarge them any more."""
    import fcntl

    def refuse(file, what, *more):
        if what == fcntl.F_SETPIPE_SZ:
            raise PermissionError(1, "Operation not permitted")
        return plain(file, what, *more)

    plain = fcntl.fcntl
    write_video(tmp_path / "v.mp4", flat(0, 40))
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert len(list(media_video.read_frames(tmp_path / "v.mp4", [0, 1]))) == 2


# ---------------------------------------------------------------- which box


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.floats(-50, 400),
    st.floats(-50, 400),
    st.floats(1, 300),
    st.floats(1, 300),
    st.floats(0.5, 3),
)
def test_square_box_is_square_and_inside(width, height, x, y, w, h, scale):
    left, top, right, bottom = faces.square_box((x, y, x + w, y + h), scale, width, height)
    assert (
        0 <= left < right <= width and 0 <= top < bottom <= height and right - left == bottom - top
    )
    assert right - left == max(1, min(round(scale * max((x + w) - x, (y + h) - y)), width, height))


def test_square_box_known():
    assert faces.square_box((100, 100, 200, 200), 1.2, 640, 480) == (90, 90, 210, 210)
    assert faces.square_box((0, 100, 100, 200), 1.2, 640, 480) == (0, 90, 120, 210)


def test_the_largest_face_is_taken(small):
    path = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    ((_, face),) = media_video.read_frames(path, [0])
    little = np.asarray(Image.fromarray(face).resize((240, 180)))
    scene = np.full((240, 640, 3), 90, np.uint8)
    scene[:180, 20:260], scene[:, 320:] = little, face
    left, _, right, _ = detectors.largest_face(scene)
    assert left > 320 and right - left > 80


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both)


def compare_with_full_frames(videos):
    """Faces that largest_face finds, following them, beside those of HOG on every full frame.

    Returns (frames, faces found in full frames, faces found by us, mean IoU of the two).
    """
    import dlib

    detector, counts, ious = dlib.get_frontal_face_detector(), np.zeros(3, int), []
    for path in videos:
        last = None
        for _, frame in media_video.read_frames(
            path, faces.equal_intervals(media_video.count_frames(path), 30)
        ):
            boxes = [(b.left(), b.top(), b.right() + 1, b.bottom() + 1) for b in detector(frame, 0)]
            face = detectors.largest_face(frame, last)
            last = face or last
            counts += 1, bool(boxes), face is not None
            if boxes and face:
                ious.append(overlap(face, max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))))
    return *counts.tolist(), float(np.mean(ious))


def test_the_window_finds_what_the_full_frame_has(small):
    """Recall is not lower than with full frames without upsampling, and boxes are the same."""
    videos = sorted((small / "videos/studio/original_sequences/youtube/c23/videos").glob("*.mp4"))
    frames, full, ours, iou = compare_with_full_frames(videos)
    assert frames == 60 and ours >= full > 50 and iou > 0.85


@pytest.mark.slow
def test_the_window_finds_what_the_full_frame_has_in_real_clips():
    videos = [shared("data") / row["path"] for row in rows_of(shared("data", "videos.csv"))]
    frames, full, ours, iou = compare_with_full_frames(videos)
    assert frames == 348 and ours >= full >= 340 and iou >= 0.85


def test_a_face_that_jumps_is_found(small):
    """If the window is empty, the whole frame is searched; it may lie outside a smaller frame."""
    path = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    ((_, face),) = media_video.read_frames(path, [0])
    scene = np.full((480, 1280, 3), 90, np.uint8)
    scene[240:, 960:] = face
    alone, there = detectors.largest_face(face), detectors.largest_face(scene)
    assert np.allclose(np.array(there) - (960, 240, 960, 240), alone, atol=12)
    assert detectors.largest_face(scene, last=(10, 10, 110, 110)) == there
    assert detectors.largest_face(face, last=there) == alone
    assert detectors.largest_face(np.full((480, 640, 3), 90, np.uint8), last=alone) is None


def test_bilinear_chroma_changes_no_pixel(small, tmp_path, monkeypatch):
    """Compared with ffmpeg's default, for both kinds of chroma in the data sets: 4:2:0, 4:4:4."""
    source = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    plain = media_video.ffmpeg_command
    for pixels in ("yuv420p", "yuv444p"):
        path = tmp_path / f"{pixels}.mp4"
        subprocess.run(
            plain(source, "-c:v", "libx264", "-crf", "23", "-pix_fmt", pixels, str(path)),
            check=True,
        )
        read = [[frame for _, frame in media_video.read_frames(path, range(10))]]
        with monkeypatch.context() as patch:
            patch.setattr(
                media_video,
                "ffmpeg_command",
                lambda path, *options: plain(
                    path, *(o.replace("bilinear", "bicubic") for o in options)
                ),
            )
            read.append([frame for _, frame in media_video.read_frames(path, range(10))])
        assert len(read[0]) == 10 and all(np.array_equal(a, b) for a, b in zip(*read))


# ---------------------------------------------------------------- layouts


def test_ffpp_index(small):
    index = rows_of(small / "faces/frames/index.csv")
    assert list(index[0])[:7] == ["path", "video", "frame", "clip", "label", "method", "split"]
    assert len(index) == 12 * 4
    assert {(r["method"], r["label"]) for r in index} == {("youtube", "0"), ("Deepfakes", "1")}
    for split, people in (("train", "01"), ("val", "23"), ("test", "45")):
        videos = {r["video"] for r in index if r["split"] == split}
        a, b = (f"00{p}" for p in people)
        assert videos == {
            f"youtube_{a}",
            f"youtube_{b}",
            f"Deepfakes_{a}_{b}",
            f"Deepfakes_{b}_{a}",
        }
    for row in index:
        image = Image.open(small / "faces/frames" / row["path"])
        assert image.size == (
            int(row["right"]) - int(row["left"]),
            int(row["bottom"]) - int(row["top"]),
        )
        assert row["path"] == f"{row['video']}/{int(row['frame']):06d}.png" and row["clip"] == ""
    assert {int(r["frame"]) for r in index} == {1, 3, 6, 8}
    assert len(list((small / "faces/frames").rglob("*.png"))) == len(index)


def test_clips_index(small):
    index = rows_of(small / "faces/clips/index.csv")
    assert len(index) == 12 * 2 * 5
    for row in index:
        assert int(row["frame"]) // 5 == int(row["clip"])
        assert Image.open(small / "faces/clips" / row["path"]).size == (48, 48)
    boxes = {(r["video"], r["clip"]): set() for r in index}
    for row in index:
        boxes[row["video"], row["clip"]].add((row["left"], row["top"], row["right"], row["bottom"]))
    assert all(len(found) == 1 for found in boxes.values()), "one box a clip"


def test_a_video_is_method_and_name(small, tmp_path):
    """000_001 exists for each of four methods (trap: grouping frames by name alone)."""
    run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/studio",
        "--num-frames",
        1,
        "--out",
        tmp_path / "f",
    )
    index = rows_of(tmp_path / "f/index.csv")
    assert len({r["video"] for r in index}) == len({r["path"] for r in index}) == len(index) == 30
    assert {r["method"] for r in index} == {
        "youtube",
        "Deepfakes",
        "FaceSwap",
        "Face2Face",
        "NeuralTextures",
    }


def link(small, path, method=None, name="000"):
    source = (
        small
        / "videos/studio"
        / (
            f"manipulated_sequences/{method}/c23/videos/{name}.mp4"
            if method
            else f"original_sequences/youtube/c23/videos/{name}.mp4"
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)


def test_folders_layout(small, tmp_path):
    root = tmp_path / "v"
    link(small, root / "train/real/a.mp4")
    link(small, root / "train/fake/swap/a.mp4", "Deepfakes", "000_001")
    link(small, root / "test/real/deep/er/b.mp4", name="001")
    link(small, root / "test/fake/b.mp4", "FaceSwap", "001_000")
    (root / "test/fake/notes.txt").write_text("not a video")
    run(
        "01_extract_faces.py",
        "--layout",
        "folders",
        "--videos",
        root,
        "--num-frames",
        2,
        "--num-frames-real",
        3,
        "--out",
        tmp_path / "f",
    )
    found = {
        (r["video"], r["label"], r["method"], r["split"], r["faces"], r["asked"])
        for r in rows_of(tmp_path / "f/videos.csv")
    }
    assert found == {
        ("real_a", "0", "real", "train", "3", "3"),
        ("swap_a", "1", "swap", "train", "2", "2"),
        ("deep_b", "0", "deep", "test", "3", "3"),
        ("fake_b", "1", "fake", "test", "2", "2"),
    }


def test_list(small, tmp_path):
    link(small, tmp_path / "x/a b.mp4")
    link(small, tmp_path / "x/c.mp4", "Deepfakes", "000_001")
    (tmp_path / "list.csv").write_text(
        "path,label,method,split\nx/a b.mp4,0,,train\nx/c.mp4,1,swap,test\nx/none.mp4,1,swap,test\n"
    )
    output = run(
        "01_extract_faces.py",
        "--list",
        tmp_path / "list.csv",
        "--num-frames",
        2,
        "--out",
        tmp_path / "f",
    )
    assert "3 videos = 2 with faces + 1 skipped" in output
    assert [(r["label"], r["method"], r["split"]) for r in rows_of(tmp_path / "f/index.csv")] == [
        ("0", "real", "train")
    ] * 2 + [("1", "swap", "test")] * 2
    (skip,) = rows_of(tmp_path / "f/skipped.csv")
    assert skip["video"] == "swap_none" and "no such file" in skip["reason"]


# ---------------------------------------------------------------- what cannot be read


def test_unreadable_and_faceless_videos_are_counted(small, tmp_path):
    root = tmp_path / "v/real"
    link(small, root / "good.mp4")
    whole = (root / "good.mp4").read_bytes()
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("<html>not here</html>")
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "playlist.mp4").write_text(
        "#EXTM3U\n#EXTINF:1,\n" + str(root / "good.mp4") + "\n#EXT-X-ENDLIST\n"
    )
    (root / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{root / 'good.mp4'}'\n")
    write_video(root / "gray.mp4", flat(*range(20)))
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    (root / "gone.mp4").symlink_to("nowhere")
    link(small, root / "-odd %d 'name'\n.mp4", name="001")
    output = run(
        "01_extract_faces.py",
        "--layout",
        "folders",
        "--videos",
        tmp_path / "v",
        "--num-frames",
        3,
        "--out",
        tmp_path / "f",
    )
    assert "8 videos = 2 with faces + 6 skipped" in output
    reasons = {r["video"]: r["reason"] for r in rows_of(tmp_path / "f/skipped.csv")}
    assert set(reasons) == {
        f"real_{n}" for n in ("empty", "text", "cut", "playlist", "script", "gray")
    }
    assert reasons["real_gray"] == "no face found in 3 frames"
    assert all(reasons[v].startswith("unreadable: ") for v in reasons if v != "real_gray")
    assert "moov atom not found" in reasons["real_cut"]
    assert len(rows_of(tmp_path / "f/index.csv")) == 6


def test_fewer_faces_than_asked_are_counted(small, tmp_path):
    face = [
        frame
        for _, frame in media_video.read_frames(
            small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4", range(10)
        )
    ]
    write_video(tmp_path / "v/real/half.mp4", face[:5] + [np.full_like(face[0], 90)] * 5)
    output = run(
        "01_extract_faces.py",
        "--layout",
        "folders",
        "--videos",
        tmp_path / "v",
        "--num-frames",
        10,
        "--out",
        tmp_path / "f",
    )
    assert "1 gave fewer faces than asked; 5 images" in output
    assert [(r["frame"], r["reason"]) for r in rows_of(tmp_path / "f/skipped.csv")] == [
        (str(n), "no face found") for n in range(5, 10)
    ]
    (video,) = rows_of(tmp_path / "f/videos.csv")
    assert (video["faces"], video["asked"]) == ("5", "10")


def test_nothing_but_faceless_videos_is_an_error(tmp_path):
    write_video(tmp_path / "v/real/gray.mp4", flat(*range(20)))
    assert "no face in any" in run(
        "01_extract_faces.py",
        "--layout",
        "folders",
        "--videos",
        tmp_path / "v",
        "--out",
        tmp_path / "f",
        fails=True,
    )


def test_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.csv").write_text("file,label\na.mp4,0\n")
    (tmp_path / "bad.csv").write_text("path,label\na.mp4,fake\n")
    out = ("--out", tmp_path / "f")
    for flags, says in (
        (("--layout", "folders", "--videos", tmp_path / "none"), "not a folder"),
        (("--layout", "folders", "--videos", tmp_path / "empty"), "no videos"),
        (("--layout", "ffpp", "--videos", tmp_path / "empty"), "not a FaceForensics++ tree"),
        (("--layout", "ffpp", "--videos", tmp_path / "empty", "--method", "X"), "has no X"),
        (("--list", tmp_path / "no.csv"), "no column path"),
        (("--list", tmp_path / "bad.csv"), "label is 'fake'"),
        (("--list", tmp_path / "none.csv"), "does not exist"),
        ((), "give either"),
    ):
        assert says in run("01_extract_faces.py", *flags, *out, fails=True)
    assert not (tmp_path / "f").exists()


# ---------------------------------------------------------------- MTCNN


def test_mtcnn(small, tmp_path):
    pytest.importorskip(
        "facenet_pytorch",
        reason="facenet-pytorch is not installed: pip install requests && "
        "pip install --no-deps facenet-pytorch==2.6.0",
    )
    path = small / "videos/studio/original_sequences/youtube/c23/videos/000.mp4"
    ((_, frame),) = media_video.read_frames(path, [0])
    frames = [frame, np.full_like(frame, 90), frame[:, ::-1], np.full((64, 64, 3), 90, np.uint8)]
    alone = [detectors.detect_mtcnn([image], "cpu")[0] for image in frames]
    together = detectors.detect_mtcnn(frames, "cpu")
    alone, together = (
        [boxes[0] if boxes else None for boxes in found] for found in (alone, together)
    )
    assert [box is None for box in together] == [False, True, False, True]
    assert [box is None for box in alone] == [False, True, False, True]
    # A batch gives the same boxes as one frame at a time.
    for a, b in zip(together, alone):
        assert a is None or np.allclose(a, b, atol=0.5)
    dlib_box = detectors.largest_face(frame)
    assert abs((together[0][0] + together[0][2]) - (dlib_box[0] + dlib_box[2])) / 2 < 20, (
        "both detectors see the same face"
    )
    output = run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/studio",
        "--method",
        "originals",
        "--num-frames",
        2,
        "--detector",
        "mtcnn",
        "--device",
        "cpu",
        "--out",
        tmp_path / "f",
    )
    assert "MTCNN on cpu" in output and "6 videos = 6 with faces + 0 skipped" in output


def test_mtcnn_missing_is_one_line(small, tmp_path, monkeypatch):
    (tmp_path / "facenet_pytorch.py").write_text(
        "raise ModuleNotFoundError('No module named facenet_pytorch')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/studio",
        "--detector",
        "mtcnn",
        "--device",
        "cpu",
        "--out",
        tmp_path / "f",
        fails=True,
    )
    assert "pip install --no-deps facenet-pytorch==2.6.0" in output


# ---------------------------------------------------------------- killed and run again


def test_other_flags_on_the_same_folder_are_refused(small, copy):
    folder = copy(small / "faces/frames")
    output = run(
        "01_extract_faces.py",
        "--layout",
        "ffpp",
        "--videos",
        small / "videos/studio",
        "--method",
        "Deepfakes",
        "--num-frames",
        5,
        "--out",
        folder,
        fails=True,
    )
    assert "num_frames was 4, is 5" in output


# ---------------------------------------------------------------- what is done again


def test_what_has_changed_is_done_again(small, tmp_path):
    """A video that was missing, broken or replaced, a path changed in --list; nothing else."""
    for name, content in (("a/x", "000"), ("b/x", "001"), ("c/y", "000"), ("c/z", "001")):
        link(small, tmp_path / f"{name}.mp4", name=content)
    broken = tmp_path / "c/z.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    (tmp_path / "c/y.mp4").rename(tmp_path / "later.mp4")

    def extract_list(first):
        lines = ("path,label", first, "c/y.mp4,1", "c/z.mp4,1", "")
        (tmp_path / "l.csv").write_text("\n".join(lines))
        flags = ("--list", tmp_path / "l.csv", "--num-frames", 2, "--out", tmp_path / "f")
        return run("01_extract_faces.py", *flags), tree(tmp_path / "f/real_x")

    said, before = extract_list("a/x.mp4,0")
    assert "3 videos = 1 with faces + 2 skipped" in said
    (tmp_path / "later.mp4").rename(tmp_path / "c/y.mp4")
    broken.write_bytes(whole)
    said, same = extract_list("a/x.mp4,0")
    assert "1 done already" in said and "3 videos = 3 with faces" in said and same == before
    said, other = extract_list("b/x.mp4,0")
    assert "2 done already" in said and other["000002.png"] != before["000002.png"]
    shutil.copyfile(tmp_path / "a/x.mp4", tmp_path / "b/x.mp4")  # another video of this name
    said, again = extract_list("b/x.mp4,0")
    assert "2 done already" in said and again["000002.png"] == before["000002.png"]
    assert "3 done already" in extract_list("b/x.mp4,0")[0]


def test_a_folder_of_images_has_changed_with_one_of_them(small, tmp_path):
    folder = tmp_path / "v/fake/a"
    folder.mkdir(parents=True)
    for k in range(2):
        Image.new("RGB", (64, 64), (k, k, k)).save(folder / f"{k}.png")
    flags = ("--layout", "crops", "--videos", tmp_path / "v", "--out", tmp_path / "f")
    run("01_extract_faces.py", *flags)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "1.png")
    assert "0 done already" in run("01_extract_faces.py", *flags)
    assert Image.open(tmp_path / "f/a_a/000001.png").getpixel((0, 0)) == (9, 9, 9)


def test_names_of_folders_are_no_formulas_and_no_commands(small, tmp_path):
    """A method is a folder's name, which may hold what a terminal or a spreadsheet obeys."""
    for name in ("\x1b[31mred", "=1+1", "\n", "面部"):
        link(small, tmp_path / "v/fake" / name / "=a.mp4")
    flags = ("--layout", "folders", "--videos", tmp_path / "v", "--num-frames", 1)
    said = run("01_extract_faces.py", *flags, "--out", tmp_path / "f")
    assert "\x1b" not in said and "面部" in said
    methods = {row["method"] for row in rows_of(tmp_path / "f/index.csv")}
    assert methods == {"\\x1b[31mred", "_=1+1", "\\n", "面部"}
    link(small, tmp_path / "w/fake/=a.mp4")
    flags = ("--layout", "folders", "--videos", tmp_path / "w", "--num-frames", 1)
    run("01_extract_faces.py", *flags, "--out", tmp_path / "g")
    assert rows_of(tmp_path / "g/videos.csv")[0]["source"] == "./=a.mp4"


def test_a_million_clips_are_all_of_them(small, tmp_path):
    flags = ("--layout", "ffpp", "--videos", small / "videos/studio", "--method", "originals")
    flags += ("--sampling", "clips", "--size", 8, "--num-clips")
    run("01_extract_faces.py", *flags, 1_000_000, "--out", tmp_path / "f")
    assert len(rows_of(tmp_path / "f/index.csv")) == 60
    how = json.loads((tmp_path / "f/args.json").read_text())["flags"]
    detector = SimpleNamespace(data=[dict(extraction=how)], frames=5, image_size=64)
    assert stage("07_detect").Detector.find_extraction(detector)["count"] >= 12


# ---------------------------------------------------------------- real clips, where they are


@pytest.mark.parametrize("sampling, images", [("frames", 348), ("clips", 840)])
def test_real_clips(tmp_path, sampling, images):
    """A face in each of twelve videos: of two, 24 frames, of the others, 30 frames or 16 x 5."""
    output = run(
        "01_extract_faces.py",
        "--list",
        shared("data", "videos.csv"),
        "--sampling",
        sampling,
        "--out",
        tmp_path / "f",
    )
    assert "12 videos = 12 with faces + 0 skipped + 0 failed" in output
    assert f"2 gave fewer faces than asked; {images} images" in output


def test_broken_clips(tmp_path):
    shutil.copytree(shared("data", "broken"), tmp_path / "v/real")
    output = run(
        "01_extract_faces.py",
        "--layout",
        "folders",
        "--videos",
        tmp_path / "v",
        "--num-frames",
        6,
        "--out",
        tmp_path / "f",
    )
    assert "8 videos = 4 with faces + 4 skipped" in output
    videos = {
        r["video"].removeprefix("real_"): int(r["faces"])
        for r in rows_of(tmp_path / "f/videos.csv")
    }
    assert videos == dict(
        audio_only=0,
        hevc_10bit=6,
        phone_portrait_rot90=6,
        single_frame=1,
        text=0,
        trunc_faststart_50=6,
        trunc_moovend_50=0,
        zero=0,
    )
    box = next(
        r for r in rows_of(tmp_path / "f/index.csv") if r["video"] == "real_phone_portrait_rot90"
    )
    assert int(box["bottom"]) > int(box["top"])

"""Stage 01: which videos, which frames, which box; unreadable input; what is done again."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import extract, rows_of, run, shared, stage, tree
from hostile import ffmpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from media import detectors, video
from media.demo import record
from running.folder import read_record

faces = stage("01_extract_faces")
BOX = ("left", "top", "right", "bottom")
VIDEOS = "videos/studio/original_sequences/youtube/c23/videos"


def write_video(path, frames):
    """Write a video of frames, a list of (height, width, 3) uint8 arrays, nearly lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write_video(path, frames, frames[0].shape[1::-1], 1)


def flat(*values):
    return [np.full((32, 48, 3), value, np.uint8) for value in values]


def means(path, wanted):
    """{number: mean value} of frames."""
    return {number: frame.mean() for number, frame in video.read_frames(path, wanted)}


def first_frame(small):
    ((_, frame),) = video.read_frames(small / VIDEOS / "000.mp4", [0])
    return frame


# ---------------------------------------------------------------- which frames


@given(st.integers(1, 5000), st.integers(1, 200))
def test_equal_intervals(frames, count):
    numbers = faces.equal_intervals(frames, count)
    assert len(numbers) == len(set(numbers)) == min(frames, count) and numbers == sorted(numbers)
    assert 0 <= numbers[0] and numbers[-1] < frames
    gaps = np.diff(numbers)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


@given(st.integers(0, 5000), st.integers(1, 30), st.integers(1, 20))
def test_clips_never_overlap_and_stay_inside(frames, clips, length):
    starts = faces.clip_starts(frames, clips, length)
    assert len(starts) == min(clips, frames // length)
    assert all(b - a >= length for a, b in zip(starts, starts[1:]))
    assert not starts or (starts[0] >= 0 and starts[-1] + length <= frames)


def test_known_frames_and_clips():
    assert faces.equal_intervals(300, 30) == list(range(5, 300, 10))
    assert faces.equal_intervals(3, 30) == [0, 1, 2]
    assert faces.clip_starts(80, 16, 5) == list(range(0, 80, 5))
    assert len(faces.clip_starts(24, 16, 5)) == 4 and faces.clip_starts(4, 16, 5) == []


def test_the_right_frames_leave_ffmpeg(tmp_path):
    """Each frame's brightness is its number times 4, so that it tells which frame it is."""
    path = tmp_path / "v.mp4"
    write_video(path, flat(*(4 * k for k in range(60))))
    assert video.count_frames(path) == 60
    thousands = faces.equal_intervals(70_000, 7000)  # more than a command line can name
    for wanted in ([0, 7, 8, 9, 30, 58, 59], thousands):
        came = means(path, wanted)
        assert list(came) == [number for number in wanted if number < 60]
        assert all(abs(mean - 4 * number) < 2 for number, mean in came.items())
    write_video(path, flat(*(k % 60 * 4 for k in range(320))))
    wanted = faces.equal_intervals(320, 150)
    assert list(means(path, wanted)) == wanted


def test_frames_that_the_file_hides_do_not_count(tmp_path):
    """A video cut without encoding it anew holds frames that no player shows."""
    write_video(tmp_path / "v.mp4", flat(*(4 * k for k in range(60))))
    ffmpeg("-ss", 0.8, "-i", tmp_path / "v.mp4", "-t", 1, "-c", "copy", tmp_path / "cut.mp4")
    frames, seconds = video.count_frames(tmp_path / "cut.mp4", True)
    assert 25 <= frames <= 27 and seconds == frames / 25  # two that refer to later ones stay
    came = means(tmp_path / "cut.mp4", range(60))
    assert np.allclose(list(came.values()), 4 * np.arange(20, 20 + frames), atol=2)
    trimmed = shared("data/reports/trim/trim.mp4")
    assert video.count_frames(trimmed) == 90 == len(means(trimmed, range(90)))


def test_numbers_go_on_where_the_size_changes(tmp_path):
    """The filters of ffmpeg are made anew there. Frames get the size of the first one."""
    parts = []
    for size, first in ((48, 0), (96, 20), (24, 40)):
        path = tmp_path / f"{size}.mp4"
        write_video(path, [np.full((size, size, 3), 4 * (first + k), np.uint8) for k in range(20)])
        ffmpeg("-i", path, "-c", "copy", path.with_suffix(".ts"))
        parts.append(path.with_suffix(".ts").read_bytes())
    (tmp_path / "v.ts").write_bytes(b"".join(parts))
    assert video.count_frames(tmp_path / "v.ts") == 60
    wanted = [0, 5, 19, 20, 30, 41, 59]
    came = dict(video.read_frames(tmp_path / "v.ts", wanted))
    assert list(came) == wanted
    assert all(f.shape == (48, 48, 3) and abs(f.mean() - 4 * n) < 3 for n, f in came.items())


# ---------------------------------------------------------------- which box


@given(
    *[st.integers(1, 400)] * 2, *[st.floats(-50, 400)] * 2, *[st.floats(1, 300)] * 2,
    st.floats(0.5, 3),
)  # fmt: skip
def test_square_box_is_square_and_inside(width, height, x, y, w, h, scale):
    left, top, right, bottom = faces.square_box((x, y, x + w, y + h), scale, width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert right - left == bottom - top
    assert right - left == max(1, min(round(scale * max((x + w) - x, (y + h) - y)), width, height))


def test_square_box_known():
    assert faces.square_box((100, 100, 200, 200), 1.2, 640, 480) == (90, 90, 210, 210)
    assert faces.square_box((0, 100, 100, 200), 1.2, 640, 480) == (0, 90, 120, 210)


def overlap(a, b):
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - both)


def compare_with_full_frames(videos, count):
    """Faces that largest_face finds, following them, beside those of HOG on every full frame.

    Returns (frames, faces found in full frames, faces found by us, mean IoU of the two).
    """
    import dlib

    detector, counts, ious = dlib.get_frontal_face_detector(), np.zeros(3, int), []
    for path in videos:
        last = None
        wanted = faces.equal_intervals(video.count_frames(path), count)
        for _, frame in video.read_frames(path, wanted):
            boxes = [(b.left(), b.top(), b.right() + 1, b.bottom() + 1) for b in detector(frame, 0)]
            face = detectors.largest_face(frame, last)
            last = face or last
            counts += 1, bool(boxes), face is not None
            if boxes and face:
                ious.append(overlap(face, max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))))
    return *counts.tolist(), float(np.mean(ious))


def test_the_window_finds_what_the_full_frame_has(small):
    """Recall is not lower than with full frames without upsampling, and boxes are the same."""
    frames, full, ours, iou = compare_with_full_frames(sorted((small / VIDEOS).glob("*.mp4")), 10)
    assert frames == 60 and ours >= full > 50 and iou > 0.85


@pytest.mark.slow
def test_the_window_finds_what_the_full_frame_has_in_real_clips():
    videos = [shared("data") / row["path"] for row in rows_of(shared("data", "videos.csv"))]
    frames, full, ours, iou = compare_with_full_frames(videos, 8)
    assert frames == 96 and ours >= full >= 94 and iou >= 0.85


def test_a_face_that_jumps_is_found(small):
    """If the window is empty, the whole frame is searched; it may lie outside a smaller frame."""
    face = first_frame(small)
    scene = np.full((480, 1280, 3), 90, np.uint8)
    scene[240:, 960:] = face
    alone, there = detectors.largest_face(face), detectors.largest_face(scene)
    assert np.allclose(np.array(there) - (960, 240, 960, 240), alone, atol=12)
    assert detectors.largest_face(scene, last=(10, 10, 110, 110)) == there
    assert detectors.largest_face(face, last=there) == alone
    assert detectors.largest_face(np.full((480, 640, 3), 90, np.uint8), last=alone) is None


def test_bilinear_chroma_changes_no_pixel(small, tmp_path, monkeypatch):
    """Compared with ffmpeg's default, for both kinds of chroma in the data sets: 4:2:0, 4:4:4."""
    plain = video.ffmpeg_command

    def bicubic(path, *options, **more):
        return plain(path, *(o.replace("bilinear", "bicubic") for o in options), **more)

    for pixels in ("yuv420p", "yuv444p"):
        path = tmp_path / f"{pixels}.mp4"
        ffmpeg("-i", small / VIDEOS / "000.mp4", "-crf", "23", "-pix_fmt", pixels, path)
        read = [[frame for _, frame in video.read_frames(path, range(10))]]
        with monkeypatch.context() as patch:
            patch.setattr(video, "ffmpeg_command", bicubic)
            read.append([frame for _, frame in video.read_frames(path, range(10))])
        assert len(read[0]) == 10 and all(np.array_equal(a, b) for a, b in zip(*read))


# ---------------------------------------------------------------- the forged face

LEFT, RIGHT = (128, 94, 278, 245), (493, 107, 619, 232)  # two faces, of which the left is larger


def forged(box, value=255, other=0, size=(720, 300)):
    """A frame of a mask: gray `value` in a box, `other` in the opposite face, black around."""
    image = Image.new("RGB", (720, 300))
    image.paste((other,) * 3, LEFT if box is RIGHT else RIGHT)
    image.paste((value,) * 3, box)
    return np.asarray(image.resize(size))


@pytest.fixture
def two_people(tmp_path):
    """FaceForensics++ with the same two people in all videos, and masks of all kinds."""
    root = tmp_path / "FF"
    people = ([frame for frame, _ in record(0, "studio", number, 12)] for number in (0, 1))
    frames = []
    for a, b in zip(*people):
        frame = np.full((300, 720, 3), 90, np.uint8)
        frame[:, :400] = np.asarray(Image.fromarray(a).resize((400, 300)))
        frame[30:270, 400:] = b
        frames.append(frame)
    write_video(root / "scene.mp4", frames)
    write_video(root / "turned.mp4", [np.rot90(frame) for frame in frames])
    for name, mask in {
        "000_001": [forged(RIGHT)] * 12,
        "001_000": [forged(LEFT)] * 6 + [forged(RIGHT)] * 6,
        "002_003": [forged(RIGHT, 160, 90, size=(360, 100))] * 12,
        "003_002": [forged(RIGHT)] * 5,
        "004_005": [np.rot90(forged(RIGHT))] * 12,
        "005_004": [forged(RIGHT, 90)] * 12,
        "006_007": None,
        "007_006": None,
    }.items():
        fake = root / f"manipulated_sequences/Deepfakes/c23/videos/{name}.mp4"
        fake.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / ("turned.mp4" if name == "004_005" else "scene.mp4"), fake)
        if mask:
            write_video(fake.parents[2] / f"masks/videos/{name}.mp4", mask)
    (fake.parents[2] / "masks/videos/007_006.mp4").write_text("no video")
    original = root / "original_sequences/youtube/c23/videos/000.mp4"
    original.parent.mkdir(parents=True)
    shutil.copyfile(root / "scene.mp4", original)
    return root


@pytest.mark.parametrize("detector", ["dlib", pytest.param("mtcnn", marks=pytest.mark.slow)])
def test_masks_tell_the_forged_face(two_people, tmp_path, detector):
    """In the frames 1, 4, 7 and 10. Without a mask that can be used, it is the larger face."""
    if detector == "mtcnn":
        pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed")
    flags = f"--layout ffpp --videos {two_people} --num-frames 4 --masks --device cpu"
    flags += f" --detector {detector} --out {tmp_path}/f"
    assert "3 videos have no mask that can be used" in extract(flags)
    videos = {row["video"]: row for row in rows_of(tmp_path / "f/videos.csv")}
    assert videos["Deepfakes_004_005"]["turned"] == ("0" if detector == "mtcnn" else "90")
    boxes = {name: row["boxes"] for name, row in videos.items()}
    sides = dict.fromkeys(videos, "")
    for row in rows_of(tmp_path / "f/index.csv"):
        # MTCNN also finds faces in the frames that were turned by 90 degrees.
        is_upright = videos[row["video"]]["width"] == "720"
        left = int(row["left"]) if is_upright else 720 - int(row["bottom"])
        sides[row["video"]] += "R" if left > 400 else "L"
    unusable = "largest, mask empty or unreadable"
    of_original = boxes.pop("youtube_000"), sides.pop("youtube_000")
    assert of_original == ("mask of Deepfakes/000_001", "RRRR")
    expected = {f"{k:03d}_{k ^ 1:03d}": ("RRRR", None) for k in range(8)}
    expected |= {"001_000": ("LLRR", None), "005_004": ("LLLL", unusable)}
    expected |= {"006_007": ("LLLL", "largest, no mask"), "007_006": ("LLLL", unusable)}
    assert {name: (sides[name], boxes[name]) for name in boxes} == {
        f"Deepfakes_{name}": (side, how or f"mask of Deepfakes/{name}")
        for name, (side, how) in expected.items()
    }


def test_a_mask_that_comes_later_is_used(two_people, tmp_path):
    flags = f"--layout ffpp --videos {two_people} --sampling clips --num-clips 1 --size 16 --masks"
    flags += f" --out {tmp_path}/f"
    masks = two_people / "manipulated_sequences/Deepfakes/masks/videos"
    extract(flags)
    shutil.copyfile(masks / "000_001.mp4", masks / "006_007.mp4")
    said = extract(flags)
    assert "8 done already" in said and "2 videos have no mask" in said
    rows = [row for row in rows_of(tmp_path / "f/index.csv") if row["video"].endswith("006_007")]
    assert len(rows) == 5 and all(int(row["left"]) > 400 for row in rows)


# ---------------------------------------------------------------- layouts


def test_ffpp_index(small):
    folder = small / "faces/frames"
    index = rows_of(folder / "index.csv")
    assert list(index[0])[:7] == ["path", "video", "frame", "clip", "label", "method", "split"]
    assert {(r["method"], r["label"]) for r in index} == {("youtube", "0"), ("Deepfakes", "1")}
    for split, (a, b) in (("train", "01"), ("val", "23"), ("test", "45")):
        names = {f"youtube_00{a}", f"youtube_00{b}"}
        names |= {f"Deepfakes_00{a}_00{b}", f"Deepfakes_00{b}_00{a}"}
        assert {r["video"] for r in index if r["split"] == split} == names
    for row in index:
        left, top, right, bottom = (int(row[side]) for side in BOX)
        assert Image.open(folder / row["path"]).size == (right - left, bottom - top)
        assert row["path"] == f"{row['video']}/{int(row['frame']):06d}.png" and row["clip"] == ""
    assert {int(r["frame"]) for r in index} == {1, 3, 6, 8}
    assert len(list(folder.rglob("*.png"))) == len(index) == 12 * 4


def test_clips_index(small):
    index = rows_of(small / "faces/clips/index.csv")
    assert len(index) == 12 * 2 * 5
    boxes = {}
    for row in index:
        assert int(row["frame"]) // 5 == int(row["clip"])
        assert Image.open(small / "faces/clips" / row["path"]).size == (48, 48)
        box = tuple(row[side] for side in BOX)
        assert boxes.setdefault((row["video"], row["clip"]), box) == box, "one box a clip"


def test_a_video_is_method_and_name(small, tmp_path):
    """000_001 exists for each of four methods (trap: grouping frames by name alone)."""
    flags = f"--layout ffpp --videos {small}/videos/studio --num-frames 1 --detector none"
    extract(f"{flags} --out {tmp_path}/f")
    index = rows_of(tmp_path / "f/index.csv")
    assert len({r["video"] for r in index}) == len({r["path"] for r in index}) == len(index) == 30
    methods = {"youtube", "Deepfakes", "FaceSwap", "Face2Face", "NeuralTextures"}
    assert {r["method"] for r in index} == methods


def link(small, path, name="000"):
    """Copy a video to a path: NAME of an original, or METHOD/NAME."""
    folder = small / VIDEOS
    if "/" in name:
        method, name = name.split("/")
        folder = small / f"videos/studio/manipulated_sequences/{method}/c23/videos"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / f"{name}.mp4", path)


def test_folders_layout(small, tmp_path):
    root = tmp_path / "v"
    link(small, root / "train/real/a.mp4")
    link(small, root / "train/fake/swap/a.mp4", "Deepfakes/000_001")
    link(small, root / "test/real/deep/er/b.mp4", "001")
    link(small, root / "test/fake/b.mp4", "FaceSwap/001_000")
    (root / "test/fake/notes.txt").write_text("not a video")
    flags = f"--layout folders --videos {root} --num-frames 2 --num-frames-real 3"
    extract(f"{flags} --out {tmp_path}/f")
    columns = ("video", "label", "method", "split", "faces", "asked")
    assert {" ".join(r[c] for c in columns) for r in rows_of(tmp_path / "f/videos.csv")} == {
        "real_a 0 real train 3 3",
        "swap_a 1 swap train 2 2",
        "deep_b 0 deep test 3 3",
        "fake_b 1 fake test 2 2",
    }


def test_list(small, tmp_path):
    link(small, tmp_path / "x/a b.mp4")
    link(small, tmp_path / "x/c.mp4", "Deepfakes/000_001")
    lines = "path,label,method,split x/a%b.mp4,0,,train x/c.mp4,1,swap,test x/none.mp4,1,swap,test"
    (tmp_path / "list.csv").write_text(lines.replace(" ", "\n").replace("%", " ") + "\n")
    output = extract(f"--list {tmp_path}/list.csv --num-frames 2 --out {tmp_path}/f")
    assert "3 videos = 2 with faces + 1 skipped" in output
    found = [(r["label"], r["method"], r["split"]) for r in rows_of(tmp_path / "f/index.csv")]
    assert found == [("0", "real", "train")] * 2 + [("1", "swap", "test")] * 2
    (skip,) = rows_of(tmp_path / "f/skipped.csv")
    assert skip["video"] == "swap_none" and "no such file" in skip["reason"]


def test_a_million_clips_are_all_of_them(small, tmp_path):
    flags = f"--layout ffpp --videos {small}/videos/studio --method originals --detector none"
    extract(f"{flags} --sampling clips --size 8 --num-clips 1000000 --out {tmp_path}/f")
    assert len(rows_of(tmp_path / "f/index.csv")) == 60
    how = json.loads((tmp_path / "f/args.json").read_text())["flags"]
    content = dict(data=[dict(set="f", role="trained on", extraction=how)])
    _, recorded, _ = read_record(content, "model.pt")
    assert stage("07_detect").find_extraction(recorded, 5, 64)["count"] >= 12


# ---------------------------------------------------------------- what cannot be read


def test_unreadable_and_faceless_videos_are_counted(small, tmp_path):
    root = tmp_path / "v/real"
    link(small, root / "good.mp4")
    good = root / "good.mp4"
    whole = good.read_bytes()
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("<html>not here</html>")
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{good}\n#EXT-X-ENDLIST\n")
    (root / "script.mp4").write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    write_video(root / "gray.mp4", flat(*range(20)))
    os.mkfifo(root / "pipe.mp4")
    (root / "folder.mp4").mkdir()
    (root / "gone.mp4").symlink_to("nowhere")
    link(small, root / "-odd %d 'name'\n.mp4", "001")
    flags = f"--layout folders --videos {tmp_path}/v --num-frames 3"
    output = run(f"01_extract_faces.py {flags} --out {tmp_path}/f")
    assert "8 videos = 2 with faces + 6 skipped" in output
    reasons = {r["video"]: r["reason"] for r in rows_of(tmp_path / "f/skipped.csv")}
    assert set(reasons) == {f"real_{n}" for n in "empty text cut playlist script gray".split()}
    assert reasons.pop("real_gray") == "no face found in 3 frames"
    assert all(reason.startswith("unreadable: ") for reason in reasons.values())
    assert "moov atom not found" in reasons["real_cut"]
    assert len(rows_of(tmp_path / "f/index.csv")) == 6


def test_fewer_faces_than_asked_are_counted(small, tmp_path):
    frames = [frame for _, frame in video.read_frames(small / VIDEOS / "000.mp4", range(10))]
    write_video(tmp_path / "v/real/half.mp4", frames[:5] + [np.full_like(frames[0], 90)] * 5)
    flags = f"--layout folders --videos {tmp_path}/v --num-frames 10"
    said = extract(f"{flags} --out {tmp_path}/f")
    assert "1 gave fewer faces than requested, 0 were" in said
    reasons = [(r["frame"], r["reason"]) for r in rows_of(tmp_path / "f/skipped.csv")]
    assert reasons == [(str(n), "no face found") for n in range(5, 10)]
    (row,) = rows_of(tmp_path / "f/videos.csv")
    assert (row["faces"], row["asked"]) == ("5", "10")


def test_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.csv").write_text("file,label\na.mp4,0\n")
    (tmp_path / "bad.csv").write_text("path,label\na.mp4,fake\n")
    for flags, says in (
        ("--layout folders --videos DIR/none", "not a folder"),
        ("--layout folders --videos DIR/empty", "no videos"),
        ("--layout ffpp --videos DIR/empty", "is not FaceForensics++"),
        ("--layout ffpp --videos DIR/empty --method X", "has no X"),
        ("--list DIR/no.csv", "no column path"),
        ("--list DIR/bad.csv", "label is 'fake'"),
        ("--list DIR/none.csv", "does not exist"),
        ("", "give either"),
        ("--layout folders --videos DIR/empty --align landmarks", "needs --detector mtcnn"),
        ("--layout crops --videos DIR/empty --detector dlib", "takes crops as they are"),
        ("--layout folders --videos DIR/empty --masks", "needs --layout ffpp or dfd"),
        ("--layout folders --videos DIR/empty --size 0", "1 or more"),
    ):
        flags = flags.replace("DIR", str(tmp_path))
        assert says in extract(f"{flags} --out {tmp_path}/f", fails=True)
    assert not (tmp_path / "f").exists()
    write_video(tmp_path / "v/real/gray.mp4", flat(*range(20)))
    flags = f"--layout folders --videos {tmp_path}/v --out {tmp_path}/f"
    assert "no face in any" in run(f"01_extract_faces.py {flags}", fails=True)


# ---------------------------------------------------------------- MTCNN


def test_mtcnn(small, tmp_path):
    install = "pip install requests && pip install --no-deps facenet-pytorch==2.6.0"
    pytest.importorskip("facenet_pytorch", reason=f"facenet-pytorch is not installed: {install}")
    frame = first_frame(small)
    frames = [frame, np.full_like(frame, 90), frame[:, ::-1], np.full((64, 64, 3), 90, np.uint8)]
    alone = [detectors.detect_mtcnn([image], "cpu")[0] for image in frames]
    together = detectors.detect_mtcnn(frames, "cpu")
    for found in (alone, together):
        assert [len(boxes) > 0 for boxes in found] == [True, False, True, False]
    # A batch gives the same boxes as one frame at a time.
    for a, b in zip(together, alone):
        assert not a or np.allclose(a[0], b[0], atol=0.5)
    dlib_box = detectors.largest_face(frame)
    ours = together[0][0]
    assert abs((ours[0] + ours[2]) - (dlib_box[0] + dlib_box[2])) / 2 < 20, "they see the same face"
    flags = f"--layout ffpp --videos {small}/videos/studio --method originals --num-frames 2"
    output = extract(f"{flags} --detector mtcnn --device cpu --out {tmp_path}/f")
    assert "MTCNN on cpu" in output and "6 videos = 6 with faces + 0 skipped" in output


def test_mtcnn_missing_is_one_line(small, tmp_path, monkeypatch):
    no_module = "raise ModuleNotFoundError('No module named facenet_pytorch')"
    (tmp_path / "facenet_pytorch.py").write_text(no_module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    flags = f"--layout ffpp --videos {small}/videos/studio --detector mtcnn --device cpu"
    said = run(f"01_extract_faces.py {flags} --out {tmp_path}/f", fails=True)
    assert "pip install --no-deps facenet-pytorch==2.6.0" in said


# ---------------------------------------------------------------- what is done again


def test_other_flags_on_the_same_folder_are_refused(small, copy):
    flags = f"--layout ffpp --videos {small}/videos/studio --method Deepfakes --num-frames 5"
    said = extract(f"{flags} --out {copy(small / 'faces/frames')}", fails=True)
    assert "num_frames was 4, is 5" in said


def test_what_has_changed_is_done_again(small, tmp_path):
    """A video that was missing, broken or replaced, a path changed in --list; nothing else."""
    for name, content in (("a/x", "000"), ("b/x", "001"), ("c/y", "000"), ("c/z", "001")):
        link(small, tmp_path / f"{name}.mp4", content)
    broken = tmp_path / "c/z.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:1000])
    (tmp_path / "c/y.mp4").rename(tmp_path / "later.mp4")

    def extract_list(first):
        (tmp_path / "l.csv").write_text(f"path,label\n{first},0\nc/y.mp4,1\nc/z.mp4,1\n")
        said = extract(f"--list {tmp_path}/l.csv --num-frames 2 --out {tmp_path}/f")
        return said, tree(tmp_path / "f/real_x")

    said, before = extract_list("a/x.mp4")
    assert "3 videos = 1 with faces + 2 skipped" in said
    (tmp_path / "later.mp4").rename(tmp_path / "c/y.mp4")
    broken.write_bytes(whole)
    said, same = extract_list("a/x.mp4")
    assert "1 done already" in said and "3 videos = 3 with faces" in said and same == before
    said, other = extract_list("b/x.mp4")
    assert "2 done already" in said and other["000002.png"] != before["000002.png"]
    shutil.copyfile(tmp_path / "a/x.mp4", tmp_path / "b/x.mp4")  # another video of this name
    said, again = extract_list("b/x.mp4")
    assert "2 done already" in said and again["000002.png"] == before["000002.png"]
    assert "3 done already" in extract_list("b/x.mp4")[0]


def test_a_folder_of_images_has_changed_with_one_of_them(tmp_path):
    folder = tmp_path / "v/fake/a"
    folder.mkdir(parents=True)
    for k in range(2):
        Image.new("RGB", (64, 64), (k, k, k)).save(folder / f"{k}.png")
    flags = f"--layout crops --videos {tmp_path}/v --out {tmp_path}/f"
    extract(flags)
    Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / "1.png")
    assert "0 done already" in extract(flags)
    assert Image.open(tmp_path / "f/fake_a/000001.png").getpixel((0, 0)) == (9, 9, 9)


# ---------------------------------------------------------------- real clips, where they are


@pytest.mark.parametrize(
    "flags, short, images", [("frames", 2, 348), ("clips --num-clips 4", 0, 240)]
)
def test_real_clips(tmp_path, flags, short, images):
    """A face in each of twelve videos, of which two have 24 frames alone."""
    flags = f"--list {shared('data', 'videos.csv')} --sampling {flags}"
    output = run(f"01_extract_faces.py {flags} --out {tmp_path}/f")
    assert "12 videos = 12 with faces + 0 skipped + 0 failed" in output
    assert f"{short} gave fewer faces" in output and f"{images} images" in output


def test_broken_clips(tmp_path):
    shutil.copytree(shared("data", "broken"), tmp_path / "v/real")
    flags = f"--layout folders --videos {tmp_path}/v --num-frames 6"
    assert "8 videos = 4 with faces + 4 skipped" in extract(f"{flags} --out {tmp_path}/f")
    videos = rows_of(tmp_path / "f/videos.csv")
    assert {r["video"].removeprefix("real_"): int(r["faces"]) for r in videos} == dict(
        audio_only=0, hevc_10bit=6, phone_portrait_rot90=6, single_frame=1, text=0,
        trunc_faststart_50=6, trunc_moovend_50=0, zero=0,
    )  # fmt: skip
    (phone,) = [row for row in videos if "portrait" in row["video"]]
    assert int(phone["height"]) > int(phone["width"])

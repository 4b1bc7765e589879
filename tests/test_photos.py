"""Photos, turned videos and ready crops, in stages 01 and 07."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import SMALL_CLRNET, extract, judge, rows_of, run, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import common
from media import detectors, photos, video
from running import loading
from running.folder import read_record

faces = stage("01_extract_faces")
detect = stage("07_detect")
ORIGINAL = "videos/studio/original_sequences/youtube/c23/videos/003.mp4"


def read(path):
    """The only frame of a photo."""
    assert video.count_frames(path) == 1
    ((number, frame),) = video.read_frames(path, [0])
    assert number == 0 and frame.dtype == np.uint8 and frame.shape[2] == 3
    return frame


def noise(height=6, width=9, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.fixture(scope="module")
def face(small):
    """A frame with a face, 320 x 240 pixels: the first of three at equal intervals."""
    ((_, frame),) = video.read_frames(small / ORIGINAL, [1])
    return frame


@pytest.fixture(scope="module")
def clrnet(tmp_path_factory):
    """model.pt of a CLRNet that was never trained: it takes clips of 5 frames."""
    out = tmp_path_factory.mktemp("clrnet")
    epochs = ("--strategy", "single", "--epochs", 0, *SMALL_CLRNET)
    run("05_train_clrnet.py", *epochs, "--out", out / "r")
    return out / "r/model.pt"


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("ending", ["png", "tiff", "jpg"])
def test_photos_are_upright(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(noise(16, 24)).save(path, exif=exif)
        with Image.open(path) as image:
            upright = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(read(path), upright), orientation
        if orientation == 6 and ending == "png":
            assert np.array_equal(upright, np.rot90(noise(16, 24), -1))


def test_every_kind_of_pixels_becomes_rgb(tmp_path):
    rgb = noise()
    gray = np.repeat(rgb[..., :1], 3, 2)
    deep = rgb[..., 0].astype(np.uint16) * 256 + 77
    image = Image.fromarray(rgb)
    palette = image.quantize(5)
    for name, picture, pixels, options in (
        *((name, image, rgb, {}) for name in ("a.png", "a.bmp", "a.tif", "a.TIFF")),
        # The content decides, not the ending.
        *((name, image, rgb, dict(format="webp", lossless=True))
          for name in ("a.webp", "webp.jpg", "webp.mp4", "webp.gif")),
        ("gray.png", Image.fromarray(rgb[..., 0]), gray, {}),
        ("deep.png", Image.fromarray(deep), gray, {}),
        ("deep.tif", Image.fromarray(deep), gray, {}),
        ("big_endian.tif", Image.fromarray(deep.astype(">u2")), gray, {}),
        ("palette.png", palette, np.asarray(palette.convert("RGB")), {}),
        ("cmyk.tif", image.convert("CMYK"), rgb, {}),
        ("one.png", image.resize((1, 1)), np.asarray(image.resize((1, 1))), {}),
    ):  # fmt: skip
        picture.save(tmp_path / name, **options)
        assert np.array_equal(read(tmp_path / name), pixels), name


def test_what_is_transparent_is_white(tmp_path):
    rgba = noise(channels=4)
    rgba[0, :, 3], rgba[1:, :, 3] = 0, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    frame = read(tmp_path / "a.png")
    assert (frame[0] == 255).all() and np.array_equal(frame[1:], rgba[1:, :, :3])
    palette = Image.fromarray(rgba[..., 0]).convert("P")
    palette.save(tmp_path / "p.png", transparency=int(np.asarray(palette)[2, 3]))
    assert (read(tmp_path / "p.png")[2, 3] == 255).all()


def test_an_animated_image_is_a_video(tmp_path):
    frames = [np.full((8, 8, 3), 40 * k, np.uint8) for k in range(6)]
    first, *others = map(Image.fromarray, frames)
    for name in ("a.png", "a.webp"):
        options = dict(lossless=True) if name == "a.webp" else {}
        first.save(tmp_path / name, save_all=True, append_images=others, duration=40, **options)
        assert video.count_frames(tmp_path / name, True) == (6, 0.0)
        got = list(video.read_frames(tmp_path / name, [1, 4, 5]))
        assert [number for number, _ in got] == [1, 4, 5], name
        assert all(np.array_equal(frame, frames[number]) for number, frame in got), name
    # ffmpeg reads GIF, whatever its name.
    first.save(tmp_path / "gif.jpg", format="GIF", save_all=True, append_images=others)
    assert [n for n, _ in video.read_frames(tmp_path / "gif.jpg", [1, 4, 5])] == [1, 4, 5]
    # Pages, and previews beside the picture, are no frames.
    for name in ("pages.tif", "a.jpg"):
        kind = dict(format="MPO") if name == "a.jpg" else {}
        first.save(tmp_path / name, save_all=True, append_images=others, **kind)
        assert np.array_equal(read(tmp_path / name), frames[0])


def test_what_cannot_be_read_says_why(tmp_path, monkeypatch):
    image = Image.fromarray(noise(64, 64))
    image.save(tmp_path / "whole.jpg")
    image.save(tmp_path / "whole.png")
    jpg, png = ((tmp_path / f"whole.{kind}").read_bytes() for kind in ("jpg", "png"))
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    image.save(tmp_path / "postscript.eps")
    eps = (tmp_path / "postscript.eps").read_bytes()

    def claim(side):
        header = b"IHDR" + side.to_bytes(4, "big") * 2 + png[24:29]
        return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]

    heic = b"\0\0\0\x18ftypheic" + bytes(100)
    for name, content, says in (
        ("cut.jpg", jpg[: len(jpg) // 2], "truncated"),
        ("cut.png", png[: len(png) // 2], "Pillow cannot read it"),
        ("text.jpg", b"not a photo", "not an image of a known format"),
        ("page.jpg", b"<!DOCTYPE html>", "not an image of a known format"),
        ("program.jpg", eps, "not an image of a known format"),
        ("empty.jpg", b"", "an empty file"),
        ("bomb.png", claim(60_000), "DecompressionBombError"),
        ("below_pillows_limit.png", claim(8_200), "8200 x 8200 are more than 67108864 pixels"),
        ("scans.jpg", jpg + b"\xff\xda" * 2000, "scans"),
        ("a.heic", heic, "install pillow-heif"),
        ("heic.jpg", heic, "install pillow-heif"),
        ("float.tif", None, "32 bits"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(photos.Unreadable, match=says):
            video.count_frames(tmp_path / name)
            list(video.read_frames(tmp_path / name, [0]))
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(photos.Unreadable, match="an empty file"):
        video.count_frames(tmp_path / "pipe.jpg")
    with pytest.raises(photos.Unreadable, match="No such file"):
        video.count_frames(tmp_path / "gone.jpg")
    monkeypatch.setattr(photos, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(photos.Unreadable, match="64 x 64 are more"):
        video.count_frames(tmp_path / "whole.png")
    monkeypatch.setattr(photos, "MAX_BYTES", 100)
    with pytest.raises(photos.Unreadable, match="at most 100 are read"):
        video.count_frames(tmp_path / "whole.png")


def test_heic(tmp_path):
    reason = "pillow-heif is not installed: pip install pillow-heif"
    heif = pytest.importorskip("pillow_heif", reason=reason)
    heif.from_pillow(Image.fromarray(noise(64, 64))).save(tmp_path / "a.heic", quality=-1)
    assert read(tmp_path / "a.heic").shape == (64, 64, 3)


def test_a_damaged_animation_gives_the_frames_before_the_damage(tmp_path):
    frames = [Image.fromarray(noise(40, 40) // (k + 1)) for k in range(6)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    came = [number for number, _ in video.read_frames(tmp_path / "a.png", range(6))]
    assert came == list(range(len(came))) and 1 <= len(came) < 6
    # It may claim any number of frames.
    place = content.index(b"acTL") + 4
    chunk = b"acTL" + (2**31 - 1).to_bytes(4, "big") + content[place + 4 : place + 8]
    chunk += zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "b.png").write_bytes(content[: place - 4] + chunk + content[place + 12 :])
    assert video.count_frames(tmp_path / "b.png") < len(content)


@settings(max_examples=150)
@given(st.sampled_from(["jpg", "png", "webp", "bmp", "tif"]), st.data())
def test_damaged_photos_are_pixels_or_unreadable(tmp_path_factory, ending, data):
    """Never another error, whichever bytes are changed."""
    path = tmp_path_factory.getbasetemp() / f"damaged.{ending}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(24, 32)).save(path, exif=exif)
    content = bytearray(path.read_bytes())
    place = st.integers(0, len(content) - 1)
    for k, value in data.draw(st.dictionaries(place, st.integers(0, 255), max_size=8)).items():
        content[k] = value
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        frames = video.count_frames(path)
        got = list(video.read_frames(path, range(min(frames, 3))))
        assert all(frame.ndim == 3 and frame.dtype == np.uint8 for _, frame in got)
    except photos.Unreadable as error:
        assert str(error) and "0x" not in str(error)


# ---------------------------------------------------------------- stage 01


def test_photos_and_turned_videos_in_stage_01(small, face, tmp_path):
    """All of them give the crop that the frame itself gives."""
    root = tmp_path / "v/real"
    root.mkdir(parents=True)
    turns = (0, 90, 180, 270)
    for degrees in turns:
        # By how many degrees the photo has to be turned clockwise.
        Image.fromarray(np.rot90(face, degrees // 90)).save(root / f"p{degrees}.png")
    Image.fromarray(np.full_like(face, 90)).save(root / "gray.png")
    (root / "text.jpg").write_text("not a photo")
    (root / "notes.txt").write_text("left alone")
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", small / ORIGINAL]
    turned = ["-vf", "transpose=clock", "-crf", "1", root / "turned.mp4"]
    subprocess.run([*ffmpeg, *turned], check=True)
    flags = f"--layout folders --videos {tmp_path}/v --num-frames 3"
    output = extract(f"{flags} --out {tmp_path}/f")
    assert "7 videos = 5 with faces + 2 skipped + 0 failed; 0 gave fewer" in output
    assert "4 were turned to show a face" in output
    box = faces.square_box(detectors.largest_face(face), 1.2, 320, 240)
    wanted = np.asarray(faces.crop_face(face, box))
    videos = {row["video"]: row for row in rows_of(tmp_path / "f/videos.csv")}
    for degrees in turns:
        row = videos[f"real_p{degrees}"]
        found = (row["turned"], row["faces"], row["asked"], row["width"], row["height"])
        assert found == (str(degrees), "1", "1", "320", "240")
        with Image.open(tmp_path / f"f/real_p{degrees}/000000.png") as image:
            assert np.array_equal(np.asarray(image), wanted)
    assert (videos["real_turned"]["turned"], videos["real_turned"]["faces"]) == ("270", "3")
    reasons = {row["video"]: row["reason"] for row in rows_of(tmp_path / "f/skipped.csv")}
    assert reasons == {
        "real_gray": "no face found in 1 frames",
        "real_text": "unreadable: not an image of a known format",
    }
    assert videos["real_gray"]["turned"] == "0"
    Image.fromarray(face).save(tmp_path / "b.tiff")
    lines = [f"v/real/{path.name},0" for path in sorted(root.iterdir()) if path.suffix == ".png"]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *lines, "b.tiff,1", ""]))
    output = extract(f"--list {tmp_path}/list.csv --num-frames 3 --out {tmp_path}/l")
    assert "6 videos = 5 with faces + 1 skipped" in output


def test_a_turn_needs_a_face_in_half_of_the_frames(monkeypatch):
    """One false alarm in nine searches turns no video, nor as many finds as upright."""
    for shown, degrees in (((), 0), ((1,), 0), ((0, 2), 180), ((0, 1, 2), 180)):

        def read_frames(path, wanted):
            for number in wanted:
                frame = np.zeros((4, 6, 3), np.uint8)
                frame[-1, -1] = number in shown
                yield number, frame

        monkeypatch.setattr(detectors, "read_frames", read_frames)
        monkeypatch.setattr(detectors, "largest_face", lambda frame, *_: bool(frame[0, 0].any()))
        assert detectors.find_turn("v", 3, 14, 30, "dlib") == degrees
        assert detectors.find_turn("v", 3, 15, 30, "dlib") == 0
        monkeypatch.setattr(detectors, "largest_face", lambda frame, *_: True)
        assert detectors.find_turn("v", 3, 0, 30, "dlib") == 0


def test_a_false_find_upright_does_not_prevent_the_turn(face, small, tmp_path, monkeypatch):
    """One frame of five shows something upright: in 01 and 07 the video is turned all the same."""
    folder = tmp_path / "v/real/a"
    folder.mkdir(parents=True)
    for k in range(5):
        Image.fromarray(face if k == 2 else np.rot90(face)).save(folder / f"{k}.png")
    (tmp_path / "l.csv").write_text("path,label\nv/real/a,0\n")
    said = extract(f"--list {tmp_path}/l.csv --out {tmp_path}/f")
    assert "1 were turned" in said and "4 images in" in said
    assert len(list((tmp_path / "f/real_a").glob("*.png"))) == 4
    plan = dict(sampling="frames", count=5, length=1, size=None, image_size=24)
    plan |= dict(format="png", detector="dlib", align=None, scale=1.2)
    result = detect.follow(folder, [plan])
    assert result["turned"] == 90 and [len(samples) for samples in result["people"]] == [4]


def test_a_turn_needs_a_face_that_dlib_is_sure_of(face, tmp_path):
    """Its doubtful finds turn nothing, as a photo has a single frame to find something in."""
    path = tmp_path / "a.png"
    height, width = face.shape[:2]
    found = {}
    for share in (0.0, 0.05, 0.1, 0.15, 0.2):
        blurred = np.clip(face + share * noise(height, width).astype(float) - 128 * share, 0, 255)
        photo = np.rot90(blurred.astype(np.uint8))
        Image.fromarray(photo).save(path)
        scores = detectors.hog_detector().run(detectors.turn_frame(photo, 90), 1, 0.0)[1]
        found[max(scores, default=-1.0)] = detectors.find_turn(path, 1, 0, 1, "dlib")
    assert {degrees for score, degrees in found.items() if score >= 0.5} == {90}
    assert {degrees for score, degrees in found.items() if score < 0.4} == {0}
    assert any(0 < score < 0.4 for score in found)


def test_single_frames_at_a_size_are_what_the_loader_would_make(small, tmp_path):
    flags = f"--layout ffpp --videos {small}/videos/studio --method Deepfakes --num-frames 4"
    extract(f"{flags} --size 64 --out {tmp_path}/f")
    rows = rows_of(tmp_path / "f/index.csv")
    assert rows == rows_of(small / "faces/frames/index.csv") and len(rows) == 48
    for row in rows[::7]:
        with Image.open(tmp_path / "f" / row["path"]) as image:
            pixels = np.asarray(image)
        wanted = loading.load_face(small / "faces/frames" / row["path"], 64)
        assert np.array_equal(pixels, wanted.permute(1, 2, 0).numpy())


def test_a_crop_is_centered_on_the_landmarks(face):
    pytest.importorskip(
        "facenet_pytorch",
        reason="facenet-pytorch is not installed: pip install requests && "
        "pip install --no-deps facenet-pytorch==2.6.0",
    )
    frames = [face, np.full_like(face, 90), face[:, ::-1].copy()]
    boxes = detectors.detect_mtcnn(frames, "cpu")
    aligned = detectors.detect_mtcnn(frames, "cpu", "landmarks")
    _, _, points = detectors.load_mtcnn("cpu").detect(np.stack(frames), landmarks=True)
    assert [len(of_frame) for of_frame in aligned] == [1, 0, 1]
    for k in (0, 2):
        (box,), (moved,) = np.array(boxes[k]), np.array(aligned[k])
        assert np.allclose((moved[:2] + moved[2:]) / 2, points[k][0].mean(0), atol=1e-3)
        assert np.allclose(moved[2:] - moved[:2], box[2:] - box[:2])
        assert not np.allclose(moved, box, atol=0.2)


# ---------------------------------------------------------------- ready crops


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 20), st.integers(1, 9))
def test_clips_have_consecutive_numbers(there, clips, length):
    numbers = [number for number, is_there in enumerate(there) if is_there]
    starts = faces.clip_starts_in_runs(numbers, clips, length)
    taken = [start + k for start in starts for k in range(length)]
    assert len(taken) == len(set(taken)) and taken == sorted(taken)
    for start in starts:
        clip = numbers[start : start + length]
        assert clip == list(range(clip[0], clip[0] + length))
    runs = "".join("x" if is_there else " " for is_there in there).split()
    assert len(starts) == min(clips, sum(len(run) // length for run in runs))


def test_clips_of_known_numbers():
    for frames in (4, 5, 24, 80, 311):
        known = faces.clip_starts(frames, 16, 5)
        assert faces.clip_starts_in_runs(range(frames), 16, 5) == known
    assert faces.clip_starts_in_runs([3, 4, 5, 9, 10, 11, 12], 5, 3) == [0, 3]
    assert faces.clip_starts_in_runs([0, 10, 20, 30], 5, 2) == []


@pytest.mark.parametrize(
    "names, says",
    [
        (["c23_008.png", "c23_9.png", "c23_0010.png"], [8, 9, 10]),
        # A frame and a person, as other people's programs name them.
        (["fr001_subj0.jpg", "fr012_subj0.jpg"], [1, 12]),
        (["fr007_subj0.jpg"], [7]),
        (["9_0.png", "10_0.png", "12_0.png"], [9, 10, 12]),
        (["0_0.png", "1_10.png", "2_20.png"], [0, 10, 20]),  # a count and a frame
        (["10_0.png", "10_1.png", "11_0.png"], "do not rise: 10, then '10_1.png'; name"),
        (["fr1_subj0.jpg", "fr1_subj1.jpg"], "give each person a folder"),
        (["c1_12.png", "c2_12.png"], "do not rise: 12, then 'c2_12.png'; name crops FRAME.png"),
        (["1.png", "face.png"], "no frame number in the name 'face.png'"),
        (["1.png", f"{10**20}.png"], "no frame number in the name '1000"),
    ],
)
def test_frame_numbers(tmp_path, names, says):
    for name in names:
        Image.fromarray(noise()).save(tmp_path / name)
    if isinstance(says, list):
        assert photos.image_numbers(tmp_path) == says
    else:
        with pytest.raises(photos.Unreadable, match=says):
            photos.image_numbers(tmp_path)


def crop_tree(index, root):
    """Copy the crops of an output folder of stage 01 as other people's data sets have them."""
    for row in rows_of(index):
        kind = ("real", "fake")[int(row["label"])]
        name = row["video"].removeprefix(row["method"] + "_")
        file = root / row["split"] / kind / row["method"] / name / f"f_{row['frame']}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(index.parent / row["path"], file)


@pytest.mark.parametrize("sampling", ["frames", "clips"])
def test_crops_of_others_are_those_of_stage_01(small, tmp_path, sampling):
    """What 01 writes, laid out as crops are shared, comes back: rows, pixels, clips, splits."""
    before = small / "faces" / sampling
    crop_tree(before / "index.csv", tmp_path / "v")
    flags = "--num-frames 4"
    if sampling == "clips":
        flags = "--sampling clips --num-clips 2 --size 48"
    output = extract(f"--layout crops --videos {tmp_path}/v {flags} --out {tmp_path}/f")
    columns = ("path", "video", "frame", "clip", "label", "method", "split")
    old, new = (
        sorted(tuple(row[c] for c in columns) for row in rows_of(folder / "index.csv"))
        for folder in (before, tmp_path / "f")
    )
    assert old == new and f"{len(old)} images in" in output and "12 videos = 12" in output
    for path, *_ in old:
        with Image.open(before / path) as a, Image.open(tmp_path / "f" / path) as b:
            assert np.array_equal(np.asarray(a), np.asarray(b))
    # They come from drawn videos, which a checkpoint has to say.
    (tmp_path / "link/real").mkdir(parents=True)
    (tmp_path / "link/real/a").symlink_to(before / old[0][1])
    extract(f"--layout crops --videos {tmp_path}/link {flags} --out {tmp_path}/g")
    assert json.loads((tmp_path / "g/args.json").read_text())["flags"]["generated"]


def test_images_without_folders_are_a_crop_each(tmp_path):
    """--layout folders --detector none, for data sets of images that belong to no video."""
    (tmp_path / "v/real").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(noise(40 + k, 40)).save(tmp_path / f"v/real/{k}.png")
    output = extract(f"--layout folders --detector none --videos {tmp_path}/v --out {tmp_path}/f")
    assert "3 videos = 3 with faces + 0 skipped + 0 failed; 0 gave fewer" in output
    assert {row["boxes"] for row in rows_of(tmp_path / "f/videos.csv")} == {"image"}
    with Image.open(tmp_path / "f/real_2/000000.png") as image:
        assert np.array_equal(np.asarray(image), noise(42, 40))


def test_ready_crops_may_differ_in_size(tmp_path):
    """As crops do that a detector made in each frame alone: each is taken whole, in 01 and 07."""
    root = tmp_path / "v/fake/swap/a"
    root.mkdir(parents=True)
    pixels = []
    for k in range(10):
        image = Image.fromarray(noise(40 + 3 * k, 50 - k))
        image.save(root / f"{k}.png")
        pixels.append(np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC)))
    flags = f"--layout crops --videos {tmp_path}/v --sampling clips --size 24"
    extract(f"{flags} --out {tmp_path}/f")
    for k in range(10):
        with Image.open(tmp_path / f"f/swap_a/{k:06d}.png") as image:
            assert np.array_equal(np.asarray(image), pixels[k])
    row = rows_of(tmp_path / "f/index.csv")[3]
    assert [row[side] for side in ("left", "top", "right", "bottom")] == ["0", "0", "47", "49"]
    plan = dict(sampling="clips", count=16, length=5, size=24, image_size=24, format="png")
    found = detect.follow(root, [dict(plan, detector="none", align=None, scale=1.2, frames=5)])
    ((one, two),) = found["people"]
    assert np.array_equal(np.concatenate([one.crops, two.crops]), np.stack(pixels))
    assert [one.first, two.first, found["frames"]] == [0, 5, 10]


def test_a_checkpoint_of_ready_crops_finds_faces_with_dlib():
    def extraction_of(**more):
        flags = dict(sampling="frames", num_frames=7, detector="none", scale=3.0) | more
        data = [dict(set="crops", role="trained on", extraction=flags)]
        _, recorded, _ = read_record(dict(data=data), "m.pt")
        return detect.find_extraction(recorded, 1, 64)

    how = extraction_of()
    assert (how["detector"], how["scale"], how["count"]) == ("dlib", 1.2, 7)
    # What was not recorded has its default.
    assert how["align"] is None and how["size"] is None
    # Release 2.0 recorded the size of clips for single frames, too, and theirs beside it.
    assert extraction_of(size=240, frame_size=64)["size"] == 64
    for wrong in (dict(size="large"), dict(size=0), dict(align="nose")):
        with pytest.raises(SystemExit, match="m.pt: its record of its training"):
            extraction_of(**wrong)


# ---------------------------------------------------------------- stage 07


def test_scores_of_ready_crops_are_those_of_their_video(small, extractor, clrnet, tmp_path):
    original = small / "faces/frames/youtube_003"
    flags = f"--layout ffpp --videos {small}/videos/studio --method originals --sampling clips"
    extract(f"{flags} --out {tmp_path}/clips")
    clips = tmp_path / "clips/youtube_003"
    for checkpoint, crops in ((extractor, original), (clrnet, clips)):
        flags = f"--checkpoint {checkpoint} --out {tmp_path}/v"
        (of_video,) = judge(f"{small / ORIGINAL} {flags}")[0]["videos"]
        result, said = judge(f"{crops} --ready-crops {flags}")
        (of_crops,) = result["videos"]
        one, other = (v["people"][0]["by"][0]["samples"] for v in (of_video, of_crops))
        assert [s["frame"] for s in one] == [s["frame"] for s in other] and len(one) > 1
        assert np.allclose([s["logit"] for s in one], [s["logit"] for s in other], atol=1e-5)
        assert "photos: 1;" in said and (tmp_path / "v" / of_crops["picture"]).is_file()


def test_photos_in_stage_07(small, face, extractor, clrnet, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    Image.fromarray(face).save(folder / "face.png")
    Image.fromarray(np.rot90(face)).save(folder / "turned.png")
    Image.fromarray(np.hstack([face, face[:, ::-1]])).save(
        folder / "two people.webp", lossless=True
    )
    Image.fromarray(np.full_like(face, 90)).save(folder / "gray.bmp")
    Image.fromarray(face[:1, :1]).save(folder / "one.jpg")
    (folder / "text.jpg").write_text("not a photo")
    (folder / "notes.txt").write_text("left alone")
    shutil.copy(small / ORIGINAL, folder / "video.mp4")
    result, said = judge(f"{folder} --checkpoint {extractor} {clrnet} --out {tmp_path}/v")
    verdicts = {os.path.basename(video["path"]): video for video in result["videos"]}
    assert len(verdicts) == 7 and "photos: 7;" in said
    assert verdicts["gray.bmp"]["verdict"] == verdicts["one.jpg"]["verdict"] == "no face found"
    assert verdicts["text.jpg"]["verdict"] == "unreadable"
    people = verdicts["two people.webp"]["people"]
    assert len(people) == 2 and [person["faces"] for person in people] == [1, 1]
    needs = [str(clrnet)]
    for name in ("face.png", "turned.png", "two people.webp"):
        result = verdicts[name]
        assert result["frames"] == 1
        for person in result["people"]:
            assert [one["checkpoint"] for one in person["by"]] == [str(extractor)]
            assert person["without"] == needs and person["verdict"] in ("real", "fake")
        assert (tmp_path / "v" / result["picture"]).read_bytes().startswith(b"\x89PNG")
    assert said.count(f"    needs a video, as no complete clip shows this face: {clrnet}") == 4
    # The video's first sample is the photo, and it is the same turned.
    first = verdicts["video.mp4"]["people"][0]["by"][0]["samples"][0]
    for name in ("face.png", "turned.png"):
        (sample,) = verdicts[name]["people"][0]["by"][0]["samples"]
        assert sample == first or abs(sample["logit"] - first["logit"]) < 1e-3
    assert verdicts["turned.png"]["turned"] == 90 and verdicts["face.png"]["turned"] == 0
    assert "from 1 face, turned by 90 degrees" in said
    rows = [row for row in rows_of(tmp_path / "v/verdicts.csv") if "turned" in row["video"]]
    assert [(r["verdict"], r["turned"]) for r in rows[1:]] == [("needs a video", "90")]
    assert rows[1]["score"] == "" and rows[1]["reason"] and rows[0]["score"]

    result, said = judge(f"{folder}/face.png --checkpoint {clrnet} --out {tmp_path}/w")
    (result,) = result["videos"]
    assert result["verdict"] == "needs a video" and result["people"] == []
    assert "face.png: NEEDS A VIDEO (" in said and "\n1 needs a video; " in said
    (row,) = rows_of(tmp_path / "w/verdicts.csv")
    assert row["verdict"] == "needs a video" and row["score"] == "" and row["reason"]


def test_a_network_of_single_frames_that_was_trained_on_clips(small, face, tmp_path):
    """It takes a photo, and a clip of a video as five frames, whose scores have one mean."""
    flags = f"--source {small / 'faces/clips'} --model ShallowNet --image-size 48 --max-steps 1"
    run(f"05_train_clrnet.py --strategy single {flags} --device cpu --out {tmp_path / 'r'}")
    Image.fromarray(face).save(tmp_path / "face.png")
    files = f"{tmp_path / 'face.png'} {small / ORIGINAL}"
    result, _ = judge(f"{files} --checkpoint {tmp_path / 'r/model.pt'} --out {tmp_path / 'v'}")
    photo, clips = (video["people"][0] for video in result["videos"])
    (sample,) = photo["by"][0]["samples"]
    assert photo["faces"] == 1 and sample["score"] == common.sigmoid(sample["logit"])
    assert clips["faces"] == 5 * len(clips["by"][0]["samples"])
    assert not any("logit" in sample for sample in clips["by"][0]["samples"])
    # The mean of the scores of a clip's frames, not the score of their mean logit.
    limits = dict(threshold=0.5, real_below=0.5, fake_from=0.5)
    detector = SimpleNamespace(path="m", extraction={}, thresholds=limits)
    detector.score = lambda crops: np.array([[-9.0, 9, 9, 9, 9]])
    sample = detect.Sample(0, 0, 0, (0, 0, 9, 9), np.zeros((5, 9, 9, 3), np.uint8))
    person = detect.judge([detector], [{}], [sample])
    assert person["score"] == pytest.approx(0.8, abs=1e-3) and person["faces"] == 5

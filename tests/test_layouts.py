"""Data sets on disk: exact counts and traps of each layout, splits that never leak, safe names."""

import json
import os
import re
import shutil
from collections import Counter, defaultdict

import pytest
from conftest import extract, rows_of, shared
from hypothesis import given
from hypothesis import strategies as st

from media import layouts, photos, splits

NAMES = ("train", "val", "test")


def touch(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def counts(videos, *columns):
    """How many videos there are of each split, label and method, as sorted text."""
    columns = columns or ("split", "label", "method")
    rows = Counter(" ".join(str(video[c]) or "-" for c in columns) for video in videos)
    return ", ".join(f"{row} {number}" for row, number in sorted(rows.items()))


def names_of(videos, stem):
    """Original and people of the video of this stem."""
    (video,) = (video for video in videos if video["stem"].startswith(stem))
    return video["original"], *video["people"]


def make(name, label=0, split="", original="", people=()):
    return layouts.make_video(f"/v/{name}.mp4", label, "m", split, original=original, people=people)


def sizes(videos, label=None):
    """How many videos of a label are in train, val and test."""
    videos = [video for video in videos if label in (None, video["label"])]
    return [sum(video["split"] == split for video in videos) for split in NAMES]


def assert_no_leak(videos):
    """No two splits share an original or a pair of people, and `drop_leaks` changes nothing."""
    splits_of = defaultdict(set)
    for video in videos:
        if video["split"] and video["original"]:
            splits_of[video["original"]].add(video["split"])
        if video["split"] and len(video["people"]) == 2:
            splits_of[tuple(sorted(video["people"]))].add(video["split"])
    assert all(len(names) == 1 for names in splits_of.values())
    before = [video["split"] for video in videos]
    splits.drop_leaks(videos)
    assert [video["split"] for video in videos] == before


# ---------------------------------------------------------------- each layout: exact counts


def test_ffpp(small_data, tmp_path, capsys):
    root = small_data / "FaceForensics++"
    videos, expected = layouts.layout_ffpp(root, None, "c23")
    kinds = ("0 youtube", "1 Deepfakes", "1 Face2Face", "1 FaceSwap", "1 NeuralTextures")
    names = ("test", "train", "val")
    assert counts(videos) == ", ".join(f"{split} {kind} 2" for split in names for kind in kinds)
    assert expected["train", 1, "FaceSwap"] == 720 and expected["test", 0, "youtube"] == 140
    swaps, _ = layouts.layout_ffpp(root, ["FaceSwap"], "c23")
    assert names_of(swaps, "001_000") == ("001", "001", "000")
    originals, _ = layouts.layout_ffpp(root, ["originals"], "c23")
    assert counts(originals, "method") == "youtube 6"
    for methods, compression, says in (
        (["DeepFakeDetection"], "c23", "--layout dfd"),  # it has other originals
        (None, "c40", "no videos at c40: give --compression, or --method"),
        (["X"], "c23", "has no X at c23"),
    ):
        with pytest.raises(SystemExit, match=says):
            layouts.layout_ffpp(root, methods, compression)
    # Without split files there should be 1000 of each.
    touch(tmp_path, "original_sequences/youtube/raw/videos/000.mp4")
    touch(tmp_path, "manipulated_sequences/FaceShifter/raw/videos/000_003.mp4")
    touch(tmp_path, "manipulated_sequences/DeepFakeDetection/c40/videos/01_02__x__y.mp4")
    videos, expected = layouts.layout_ffpp(tmp_path, ["FaceShifter"], "raw")
    assert expected == {("", 0, "youtube"): 1000, ("", 1, "FaceShifter"): 1000}
    splits.print_counts(videos, expected)
    output = capsys.readouterr().out
    assert "no split files" in output and "DIFFERS" in output


def test_dfd(small_data):
    videos, expected = layouts.layout_dfd(small_data / "FaceForensics++", "c23")
    assert counts(videos) == "- 0 actors 6, - 1 DeepFakeDetection 6"
    assert list(expected.values()) == [363, 3068]
    assert names_of(videos, "02_01__") == ("02__walking_outside", "02", "01")
    assert names_of(videos, "02__") == ("02__walking_outside", "02")


def test_masks(small_data, tmp_path):
    """Of a fake its own, of an original that of its first fake, for FaceForensics++ and DFD."""
    root = tmp_path / "ff"
    shutil.copytree(small_data / "FaceForensics++", root)
    names = ("FaceSwap/masks/videos/000_001", "Deepfakes/masks/videos/002_003")
    names += ("DeepFakeDetection/masks/videos/01_02__walking_outside__AB12CD34",)
    touch(root, *(f"manipulated_sequences/{name}.mp4" for name in names))
    videos, _ = layouts.layout_ffpp(root, None, "c23")
    videos += layouts.layout_dfd(root, "c23")[0]
    layouts.add_masks(videos, root)
    dfd = "DeepFakeDetection/01_02__walking_outside__AB12CD34"
    assert counts((v for v in videos if "mask" in v), "stem", "boxes") == (
        "000 mask of FaceSwap/000_001 1, 000_001 mask of FaceSwap/000_001 1, "
        "002 mask of Deepfakes/002_003 1, 002_003 mask of Deepfakes/002_003 1, "
        f"01_02__walking_outside__AB12CD34 mask of {dfd} 1, 01__walking_outside mask of {dfd} 1"
    )
    assert {v["boxes"] for v in videos if "mask" not in v} == {"largest, no mask"}


def test_celebdf(small_data):
    """In the test list 1 is REAL, and its first line is a video, not a header."""
    videos, expected = layouts.layout_celebdf(small_data / "Celeb-DF")
    assert counts(videos) == (
        "test 0 Celeb-real 2, test 0 YouTube-real 1, test 1 Celeb-synthesis 2, "
        "train 0 Celeb-real 2, train 0 YouTube-real 1, train 1 Celeb-synthesis 2"
    )
    (first,) = (video for video in videos if video["stem"] == "00005")
    assert first["split"] == "test" and first["label"] == 0
    assert names_of(videos, "id2_id3_0000") == ("id2_0000", "id2", "id3")
    assert sum(n for (split, *_), n in expected.items() if split is None) == 408 + 795


def test_celebdf_variants(tmp_path, capsys):
    """Folders videos/, Youtube-real, v2 by its size; a list that contradicts the folders fails."""
    fakes = (f"id0_id{k}_{n:04d}.mp4" for k in range(1, 41) for n in range(100))
    touch(tmp_path, *(f"Celeb-synthesis/videos/{name}" for name in fakes))
    touch(tmp_path, "Celeb-real/videos/id0_0000.mp4", "Youtube-real/videos/00170.mp4")
    file = tmp_path / "List_of_testing_videos.txt"
    lines = b"1 YouTube-real/00170.mp4\r\n0 Celeb-synthesis/id0_id1_0003.mp4\r\n\r\n"
    file.write_bytes(b"\xef\xbb\xbf" + lines + b"1 Celeb-real/id9_0009.mp4\r\n")
    videos, expected = layouts.layout_celebdf(tmp_path)
    output = capsys.readouterr().out
    assert "counted as Celeb-DF v2" in output and "1 videos of List_of_testing" in output
    assert expected[None, 1, "Celeb-synthesis"] == 5639
    assert expected[None, 0, "Celeb-real"] + expected[None, 0, "YouTube-real"] == 890
    assert counts(videos) == (
        "test 0 YouTube-real 1, test 1 Celeb-synthesis 1, "
        "train 0 Celeb-real 1, train 1 Celeb-synthesis 3999"
    )
    for text, says in (
        ("0 YouTube-real/00170.mp4", "1 is real"),
        ("label path", "line 1"),
        ("1,YouTube-real/00170.mp4", "line 1"),
    ):
        file.write_text(text)
        with pytest.raises(SystemExit, match=says):
            layouts.layout_celebdf(tmp_path)
    file.unlink()
    assert sizes(layouts.layout_celebdf(tmp_path)[0]) == [0, 0, 0]


def test_celebdf_plus_plus(capsys):
    """Generators are methods, and the list has deeper paths."""
    videos, expected = layouts.layout_celebdf(shared("data", "reports", "L6"))
    kinds = counts(videos, "method", "label", "split")
    assert [re.sub(r" \d+$", "", kind) for kind in kinds.split(", ")] == [
        *("BlendFace 1 test", "Celeb-real 0 test", "Celeb-real 0 train", "GHOST 1 train"),
        *("SadTalker 1 train", "YouTube-real 0 train"),
    ]
    output = capsys.readouterr().out
    assert "Celeb-DF++" in output and "missing" not in output and expected == {}
    splits.drop_leaks(videos)
    assert_no_leak(videos)


def test_dfdc(small_data, tmp_path, capsys):
    """All parts; `original` may be missing; labels.csv, where 1 is fake, precedes metadata.json."""
    videos, expected = layouts.layout_dfdc(small_data / "DFDC")
    assert counts(videos) == "train 0 real 12, train 1 fake 24"
    assert expected == {("train", 0, "real"): 19154, ("train", 1, "fake"): 100000}
    splits.random_split(videos, (50, 25, 25), 1)
    assert {video["split"] for video in videos} == {*NAMES}
    assert_no_leak(videos)
    root = shutil.copytree(small_data / "DFDC", tmp_path / "dfdc")
    meta = root / "dfdc_train_part_0/metadata.json"
    entries = json.loads(meta.read_text())
    del entries["deepfakes00.mp4"]["original"]
    entries["faceswap00.mp4"]["original"] = None
    entries["faceswap01.mp4"]["split"] = "validation"
    entries["gone.mp4"] = dict(label="FAKE", split="train", original="original00.mp4")
    meta.write_text(json.dumps(entries))
    # Of the two other sets, one has labels.csv, and the test set may have is_fake.
    touch(root, "dfdc_train_part_0/stranger.mp4", "validation/v.mp4", "validation/w.mp4")
    touch(root, "test/a.mp4", "test/b.mp4", "test/x/t.mp4", "test/x/u.mp4", "p1/c.mp4")
    (root / "validation/labels.csv").write_text("filename,label\nv.mp4,1\nw.mp4,0\n")
    (root / "test/labels.csv").write_text("filename,label\na.mp4,1\nb.mp4,0\n")
    (root / "test/metadata.json").write_text('{"a.mp4": {"is_fake": 0}}')
    (root / "test/x/metadata.json").write_text('{"t.mp4": {"is_fake": 1}, "u.mp4": {"is_fake": 0}}')
    capsys.readouterr()
    videos, expected = layouts.layout_dfdc(root)
    assert counts(videos) == (
        "test 0 real 2, test 1 fake 2, train 0 real 12, train 1 fake 23, val 0 real 1, val 1 fake 2"
    )
    others = [video for video in videos if video["path"].parent.name in ("validation", "test", "x")]
    assert counts(others, "stem", "label", "original") == (
        "a 1 - 1, b 0 b 1, t 1 - 1, u 0 u 1, v 1 - 1, w 0 w 1"
    )
    # With all three sets, the totals are those of the whole data set.
    assert expected[None, 0, None] == 23654 and expected[None, 1, None] == 104500
    assert names_of(videos, "deepfakes00") == names_of(videos, "faceswap00") == ("",)
    assert names_of(videos, "faceswap01") == ("original01",)
    output = capsys.readouterr().out
    assert "1 listed videos are missing" in output
    assert "2 videos are in no list and are left out, in: dfdc_train_part_0, p1\n" in output
    # One of the other sets alone is no incomplete training set.
    for name in ("validation", "test"):
        splits.print_counts(*layouts.layout_dfdc(root / name))
    assert "DIFFERS" not in capsys.readouterr().out
    for text, says in (
        ('{"../x.mp4": {"label": "REAL"}}', "leads out"),
        ('{"a.mp4": {"label": "real"}}', "no label"),
        ("[1]", "not an object"),
        ("{", "JSON"),
        ('{"a.mp4": 3}', "no label"),
    ):
        meta.write_text(text)
        with pytest.raises(SystemExit, match=says):
            layouts.layout_dfdc(root)


def test_dfdc_real_metadata():
    videos, _ = layouts.layout_dfdc(shared("data", "dfdc"))
    assert counts(videos, "stem", "label", "split", "original") == (
        "knqhpwoigk 0 train knqhpwoigk 1, widuwuoiur 1 train ybqmttnept 1"
    )


def test_dfdc_preview(small_data, tmp_path):
    videos, expected = layouts.layout_dfdc_preview(small_data / "DFDC-Preview")
    assert counts(videos) == (
        "test 0 original_videos 2, test 1 method_A 2, test 1 method_B 2, "
        "train 0 original_videos 4, train 1 method_A 4, train 1 method_B 4"
    )
    assert list(expected.values()) == [1131, 4113, 4464, 780]
    for text, says in (
        ('{"/etc/passwd": {"label": "real", "set": "train"}}', "leads out"),
        ('{"a/b.mp4": {"label": "real"}}', "no label real or fake"),
        ('{"a/b.mp4": {"label": "real", "set": "test"}}', "all 1 videos"),
    ):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(SystemExit, match=says):
            layouts.layout_dfdc_preview(tmp_path)


def test_dfdc_preview_tells_originals_and_people(tmp_path, capsys):
    """A random split leaks no original and no target; reals go with their targets."""
    entries = {}
    for k in range(20):
        real = f"original_videos/{k}/{k}_A.mp4"
        entries[real] = dict(label="real", set="train", target_id=str(k), swapped_id=None)
        for method, other in (("method_A", (k + 1) % 20), ("method_B", (k + 7) % 20)):
            people = dict(target_id=k, swapped_id=other)
            fake = dict(label="fake", set="train", source_video=real, **people)
            entries[f"{method}/{k}/{k}_{other}.mp4"] = fake
    touch(tmp_path, *entries)
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    videos, _ = layouts.layout_dfdc_preview(tmp_path)
    assert names_of(videos, "3_4") == ("3_A", "3", "4")
    splits.random_split(videos, (60, 20, 20), 0)
    assert {video["split"] for video in videos} == {"", *NAMES}
    assert_no_leak(videos)
    for person in map(str, range(20)):
        assert len({v["split"] for v in videos if person in v["people"] and v["split"]}) <= 1
    assert "the originals of" in capsys.readouterr().out


def test_dftimit(small_data, tmp_path, capsys):
    """Reals are the fakes' recordings alone, a folder deeper too; without any, there is a warning.

    Other subjects, head rotations and audio do not count, nor do files that are no images.
    """
    for quality in ("lq", "hq"):
        places = (small_data / "DeepfakeTIMIT", small_data / "VidTIMIT", quality)
        videos, expected = layouts.layout_dftimit(*places)
        assert counts(videos) == f"- 0 vidtimit 6, - 1 {quality} 6"
        assert list(expected.values()) == [320, 320]
        assert names_of(videos, "fadg0_sa1-video") == ("fadg0/sa1", "fadg0", "faks0")
        (real,) = (video for video in videos if video["stem"] == "fadg0_sa1")
        assert real["original"] == "fadg0/sa1"
        files = photos.image_files(real["path"])
        assert [path.name for path in files] == [f"{n:03d}" for n in range(1, 11)]
    assert capsys.readouterr().out == ""
    fakes, real = "DeepfakeTIMIT/lower_quality/fadg0", "VidTIMIT/fadg0/fadg0/video"
    touch(tmp_path, f"{fakes}/sa1-video-faks0.avi", f"{fakes}/notes.avi")
    more = (f"{real}/head/001", "VidTIMIT/mabw0/video/sa1/001", "VidTIMIT/fadg0/audio/sa1/001")
    jpeg = (small_data / "VidTIMIT/fadg0/video/sa1/001").read_bytes()
    touch(tmp_path, f"{real}/sa1/2", f"{real}/sa1/10", *more, content=jpeg)
    touch(tmp_path, f"{real}/sa1/Thumbs.db", f"{real}/sa1/1", content=b"no image")
    videos, _ = layouts.layout_dftimit(tmp_path, None, "lq")
    assert [video["stem"] for video in videos] == ["fadg0_sa1-video-faks0", "fadg0_sa1"]
    assert [path.name for path in photos.image_files(videos[1]["path"])] == ["2", "10"]
    assert "1 files of lower_quality are not named" in capsys.readouterr().out
    layouts.layout_dftimit(tmp_path / "DeepfakeTIMIT", None, "lq")
    assert "give --vidtimit" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="higher_quality"):
        layouts.layout_dftimit(tmp_path, None, "hq")


@pytest.mark.parametrize(
    "layout", ["ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit", "folders", "crops"]
)
def test_the_wrong_folder_is_one_line(layout, tmp_path):
    flags = f"--layout {layout} --videos {tmp_path} --out {tmp_path}/f"
    assert str(tmp_path) in extract(flags, fails=True) and not (tmp_path / "f").exists()


def test_faces_from_image_folders(small_data, tmp_path):
    """VidTIMIT's image folders give faces as videos do, and a damaged image is a skipped frame."""
    shutil.copytree(small_data / "VidTIMIT", tmp_path / "VidTIMIT")
    (tmp_path / "VidTIMIT/fadg0/video/sa1/006").write_bytes(b"\xff\xd8\xff damaged")
    flags = f"--layout dftimit --videos {small_data}/DeepfakeTIMIT --vidtimit {tmp_path}/VidTIMIT"
    output = extract(f"{flags} --num-frames 3 --out {tmp_path}/f")
    assert "real  vidtimit                   6 videos   expected     320   DIFFERS" in output
    assert "12 videos = 12 with faces + 0 skipped + 0 failed; 1 gave fewer faces" in output
    assert "35 images" in output
    (skipped,) = rows_of(tmp_path / "f/skipped.csv")
    assert [*skipped.values()] == ["vidtimit_fadg0_sa1", "5", "could not be decoded"]
    for name in ("vidtimit_faks0_sa1", "lq_fadg0_sa1-video-faks0"):
        assert (tmp_path / "f" / name / "000001.png").exists()


def test_folders_whatever_they_are_called(tmp_path, capsys):
    """Splits and labels in any case, valid/ and validation/, 0_real and 1_fake."""
    for name in ("valid", "validation", "VAL", "Train", "test"):
        touch(tmp_path, f"{name}/Real/r.mp4", f"{name}/1_fake/swap/f.mp4")
    videos, _ = layouts.layout_folders(tmp_path)
    assert counts(videos) == ", ".join(
        f"{split} {kind} {n}"
        for split, n in (("test", 1), ("train", 1), ("val", 3))
        for kind in ("0 real", "1 swap")
    )
    assert "left out" not in capsys.readouterr().out
    touch(tmp_path, "train/notes.txt", "more/a.mp4", "train/\x1b[31mreds/b.png", "train/c.mp4")
    assert len(layouts.layout_folders(tmp_path)[0]) == 10
    output = capsys.readouterr().out
    assert "3 folders or files" in output and "more, train/\\x1b[31mreds, train/c.mp4" in output


def test_links_in_circles_end(tmp_path):
    touch(tmp_path, "real/a.mp4")
    (tmp_path / "real/loop").symlink_to(tmp_path)
    assert len(layouts.layout_folders(tmp_path)[0]) == 1


def test_reports_of_folders():
    videos, _ = layouts.layout_folders(shared("data", "reports", "L2"))
    assert counts(videos) == ", ".join(
        f"{split} {kind} 1" for split in ("test", "train", "val") for kind in ("0 real", "1 fake")
    )
    videos, _ = layouts.layout_folders(shared("data", "reports", "L3a"))
    assert [video["label"] for video in videos] == [1, 0]


def test_a_list_may_tell_originals(tmp_path, capsys):
    """By the path, the file name or the stem of the real video, or by any name."""
    (tmp_path / "v.csv").write_text(
        "path,label,split,original\nr/a.mp4,0,train,\nr/b.mp4,0,train,\nr/c.mp4,0,Validation,\n"
        "f/1.mp4,1,test,r/a.mp4\nf/2.mp4,1,test,b\nf/3.mp4,1,test,other.mp4\nr/d.mp4,0,train,\n"
    )
    videos, _ = layouts.layout_list(tmp_path / "v.csv")
    originals = "r/a.mp4 b r/c.mp4 r/a.mp4 b other.mp4 r/d.mp4"
    assert [video["original"] for video in videos] == originals.split()
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == ["", "", "val", "test", "test", "test", "train"]
    assert "the originals of 5 and the people of 0 of 5 videos" in capsys.readouterr().out


# ---------------------------------------------------------------- splits that never leak


def test_planted_leaks(tmp_path, capsys):
    """An original, a pair of people, a linked and a copied file in two splits: one keeps them."""
    touch(tmp_path, "a.mp4", "copy.mp4", content=b"one")
    touch(tmp_path, "other.mp4", content=b"two")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    files = (("link", "train"), ("a", "val"), ("copy", "test"), ("other", "train"))
    videos = [
        make("r1", 0, "train", original="x"),
        make("f1", 1, "test", original="x"),
        make("f2", 1, "val", people=("p", "q")),
        make("f3", 1, "test", people=("q", "p")),
        *(layouts.make_video(tmp_path / f"{name}.mp4", 0, "m", split) for name, split in files),
    ]
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == ["", "test", "", "test", "", "", "test", "train"]
    output = capsys.readouterr().out
    assert output.count("warning: ") == 4 and "share the original with test" in output
    assert "the pair of people" in output and "the same bytes" in output
    assert_no_leak(videos)
    what = "a file, equal bytes, an original or a pair of people"
    output = capsys.readouterr().out
    assert f"checked: no two splits share {what}" in output
    assert "the originals of 1 and the people of 1 of 4 videos" in output


def test_a_planted_leak_in_a_data_set_gives_a_warning(small_data, tmp_path):
    """Of a fake in Celeb-DF's test list, the original is not in it: it leaves train."""
    shutil.copytree(small_data / "Celeb-DF", tmp_path / "c")
    lines = "0 Celeb-synthesis/id2_id3_0000.mp4\n1 YouTube-real/00005.mp4\n"
    (tmp_path / "c/List_of_testing_videos.txt").write_text(lines)
    flags = f"--layout celebdf --videos {tmp_path}/c --num-frames 1 --out {tmp_path}/f"
    output = extract(flags)
    assert "1 videos of train share the original with test" in output
    assert "1 videos of train share the pair of people with test" in output
    split_of = {row["video"]: row["split"] for row in rows_of(tmp_path / "f/index.csv")}
    assert split_of["Celeb-real_id2_0000"] == split_of["Celeb-synthesis_id3_id2_0000"] == ""
    assert split_of["Celeb-real_id3_0000"] == "train"


def test_what_was_not_checked_is_said(tmp_path, capsys):
    """Where originals are unknown, nothing is claimed of them: names alone do not tell them."""
    names = "train/real/000 train/fake/003_000 test/real/003 test/fake/000_003"
    touch(tmp_path, *(f"{name}.mp4" for name in names.split()))
    videos, _ = layouts.layout_folders(tmp_path)
    splits.drop_leaks(videos)
    output = capsys.readouterr().out
    assert "the originals of 0 and the people of 0 of 4 videos. What the others show" in output
    assert "cannot be checked" in output
    # With one split there is nothing to check.
    splits.drop_leaks([video for video in videos if video["split"] == "test"])
    assert capsys.readouterr().out == ""


def test_equal_crops_in_two_splits_and_under_two_labels(tmp_path, capsys):
    """Folders of images count by their images; other files in them do not."""
    crop = b"\x89PNG\r\n\x1a\n"
    touch(tmp_path, "train/real/a/1.png", "test/real/b/7.png", content=crop + b"same")
    touch(tmp_path, "val/real/c/1.png", "val/fake/d/1.png", content=crop + b"both")
    touch(tmp_path, "train/fake/e/1.png", content=crop + b"1234")
    touch(tmp_path, "test/fake/f/1.png", content=crop + b"5678")
    touch(tmp_path, *(f"{n}/Thumbs.db" for n in ("train/fake/e", "test/fake/f")), content=b"none")
    videos, _ = layouts.layout_crops(tmp_path)
    splits.drop_leaks(videos)
    assert counts(videos, "stem", "split") == (
        "a - 1, b test 1, c val 1, d val 1, e train 1, f test 1"
    )
    output = capsys.readouterr().out
    assert "1 videos of train share the same bytes with test" in output
    assert "1 files are both real and fake, byte for byte, as in " in output


people = st.integers(0, 7).map(str)
split_names = st.sampled_from(["", *NAMES])


def make_swaps(entries):
    """Videos of (target, source, number of the recording, split); real where both are the same."""
    return [
        make(k, int(a != b), split, f"{a}-{n}", (a, b) if a != b else (a,))
        for k, (a, b, n, split) in enumerate(entries)
    ]


@given(st.lists(st.tuples(people, people, st.integers(0, 2), split_names), min_size=1, max_size=40))
def test_nothing_is_shared_after_drop_leaks(entries):
    videos = make_swaps(entries)
    before = [video["split"] for video in videos]
    splits.drop_leaks(videos)
    after = [video["split"] for video in videos]
    assert_no_leak(videos)
    # A test split is never touched.
    assert all(b in ("" if a != "test" else a, a) for a, b in zip(before, after))


@given(
    st.lists(st.tuples(people, people, st.integers(0, 2), st.just("")), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_a_random_split_leaks_nothing(entries, seed):
    videos = make_swaps(entries)
    splits.random_split(videos, (60, 20, 20), seed)
    assert_no_leak(videos)
    split_of = {}
    for video in videos:
        for person in video["people"] if video["split"] else ():
            assert split_of.setdefault(person, video["split"]) == video["split"]


def test_random_split_keeps_pairs_together_and_both_labels():
    videos = [make(n, people=(n,)) for n in range(40)]
    videos += [make(f"{n}_{n ^ 1}", 1, people=(n, n ^ 1)) for n in range(40)]
    splits.random_split(videos, (60, 20, 20), 0)
    assert sizes(videos) == [48, 16, 16]


def test_random_split_where_everybody_is_swapped_with_everybody():
    """DFD: one connected group; people are drawn, and fakes between two splits have none."""
    pairs = [(a, b) for a in range(20) for b in range(20) if a != b]
    videos = [make(a, people=(str(a),)) for a in range(20)]
    videos += [make(f"{a}_{b}", 1, people=(str(a), str(b))) for a, b in pairs]
    splits.random_split(videos, (60, 20, 20), 0)
    assert {video["split"] for video in videos} == {"", *NAMES}
    assert all(video["split"] for video in videos if video["label"] == 0)


def test_split_in_order_is_that_of_the_paper(capsys):
    """FF++: of the originals by name 750 train, 125 validate, 125 test, fakes with their original.

    A pair of people in two splits leaves the earlier one, unless it is kept.
    """
    names = [f"{n:03d}" for n in range(1000)]
    videos = [make(name, 0, original=name, people=(name,)) for name in names[::-1]]
    pairs = [(name, f"{int(name) ^ 1:03d}") for name in names]
    videos += [make(f"{a}_{b}", 1, original=a, people=(a, b)) for a, b in pairs]
    splits.split_in_order(videos, (750, 125, 125))
    assert sizes(videos, 0) == sizes(videos, 1) == [750, 125, 125]
    assert {video["split"] for video in videos if video["original"] < "750"} == {"train"}
    assert {video["split"] for video in videos if video["original"] >= "875"} == {"test"}
    for keep in (True, False):
        splits.drop_leaks(videos, keep_pairs=keep)
        # 874 and 875 are swapped across the border: the fake in val goes, the one in test stays.
        assert [v["stem"] for v in videos if not v["split"]] == ([] if keep else ["874_875"])
        output = capsys.readouterr().out
        assert "1 videos of val share the pair of people with test" in output
        assert ("they stay (--keep-pairs)" in output) == keep


def test_split_in_order_without_originals_counts_by_name_and_leaves_the_rest():
    videos = [make(f"{label}{k}", label) for label in (0, 1) for k in range(7)]
    for video in videos:
        video["method"] += str(video["label"])
    splits.split_in_order(videos, (3, 2, 1))
    assert [v["split"] for v in videos] == 2 * ["train", "train", "train", "val", "val", "test", ""]


@given(
    st.lists(st.tuples(people, people, st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_split_draw_is_exact_or_ends_and_leaks_nothing(entries, seed):
    videos = [make(f"r{k}", original=f"r{k}") for k in range(8)]
    fakes = [(k, f"r{n}", (a, b)) for k, (a, b, n) in enumerate(entries) if a != b]
    videos += [make(k, 1, original=original, people=pair) for k, original, pair in fakes]
    try:
        drawn = splits.split_draw(videos, (2, 1, 1), seed)
    except SystemExit as error:
        assert "--split-draw" in str(error)
        return
    assert sizes(drawn, 0) == sizes(drawn, 1) == [2, 1, 1] and len(drawn) == 8
    assert_no_leak(drawn)


def test_split_draw_of_a_set_as_large_as_dfd():
    """Of 28 actors, all swapped with all, and 363 originals: 250 + 25 + 25, the same for a seed."""
    originals = [(f"{a:02d}", f"{a:02d}__{s}", a + s) for a in range(28) for s in range(13)][:363]
    videos = [make(name, original=name, people=(actor,)) for actor, name, _ in originals]
    for actor, name, number in originals:
        others = [f"{b:02d}" for b in range(28) if (b + number) % 3 == 0 and f"{b:02d}" != actor]
        videos += [make(f"{name}_{b}", 1, original=name, people=(actor, b)) for b in others]
    one, again, other = (
        splits.split_draw([dict(video) for video in videos], (250, 25, 25), seed)
        for seed in (0, 0, 1)
    )
    assert one == again != other and len(one) == len(other) == 600
    assert sizes(one, 0) == sizes(one, 1) == [250, 25, 25]
    assert_no_leak(one)


def test_split_flags(small_data, tmp_path):
    root, out = small_data / "FaceForensics++", tmp_path / "f"
    ffpp = f"--layout ffpp --videos {root} --method FaceSwap --num-frames 1"
    assert "split:" in extract(f"{ffpp} --split-in-order 3 2 1 --out {out}")
    rows = [row for row in rows_of(out / "videos.csv") if row["label"] == "0"]
    assert counts(rows, "original", "split") == (
        "000 train 1, 001 train 1, 002 train 1, 003 val 1, 004 val 1, 005 test 1"
    )
    dfd = f"--layout dfd --videos {root} --num-frames 1"
    assert "8 videos = 8 with faces" in extract(f"{dfd} --split-draw 2 1 1 --out {tmp_path}/d")
    for flags, says in (
        (f"{dfd} --split-draw 9 1 1", "there are"),
        (f"{ffpp} --split-draw 1 1 1 --split-in-order 1 1 1", "give one of"),
    ):
        assert says in extract(f"{flags} --out {tmp_path}/x", fails=True)


# ---------------------------------------------------------------- names, counts


def test_names_are_safe_and_unique():
    stems = ["a", "a", "A", ".._.._etc_x", "ü" * 90, "x\ny", "-rf", ".hidden", "a b", "a_b"]
    stems.append(os.fsdecode(b"\xff\xfe"))
    paths = [f"/data/{k}/{stem}.mp4" for k, stem in enumerate(stems)]
    videos = [layouts.make_video(path, 0, "../m") for path in paths]
    splits.name_videos(videos)
    names = [video["name"] for video in videos]
    assert len({name.lower() for name in names}) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]{,98}", name) for name in names)


def test_names_are_neither_formulas_nor_escapes_and_any_bytes_are_read(tmp_path, capsys):
    """Of videos, methods, sources and originals: for terminals and spreadsheets."""
    method = os.fsdecode(b"met\xff")
    touch(tmp_path, f"fake/{method}/a.mp4", "fake/=1+1/\x1b[31m.mp4")
    touch(tmp_path, "real/=2+2.mp4", "real/@a.mp4")
    videos, _ = layouts.layout_folders(tmp_path)
    videos.append(layouts.make_video(tmp_path / "-x.mp4", 0, "", original="+1"))
    splits.name_videos(videos)
    splits.print_counts(videos, {})
    for video in videos:
        for value in (video["method"], video["original"], video["name"], video["source"]):
            assert value.isprintable() and not value.startswith(("=", "+", "-", "@"))
            value.encode()
    assert {v["method"] for v in videos} == {"met\\udcff", "_1+1", "real", ""}
    assert "\x1b" not in capsys.readouterr().out


def test_counts_beside_those_of_the_data_set(capsys):
    videos = [layouts.make_video(f"{k}.mp4", 1, f"m{k}") for k in range(2000)]
    splits.print_counts(videos, {("", 1, "m7"): 1, (None, 1, None): 2000, (None, 0, None): 1})
    output = capsys.readouterr().out
    assert output.count("\n") == 2003 and "1 of these numbers" in output and "complete" in output
    assert "all      fake  all                     2000 videos   expected    2000\n" in output

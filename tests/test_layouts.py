"""Data sets on disk: exact counts and traps of each layout, splits that never leak, safe names."""

import json
import os
import shutil
import time
from collections import Counter

import pytest
from conftest import run, shared
from hypothesis import given, settings
from hypothesis import strategies as st

from media import layouts, photos, splits


def touch(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def counts(videos):
    return dict(Counter((video["split"], video["label"], video["method"]) for video in videos))


# ---------------------------------------------------------------- each layout: exact counts


def test_ffpp(small_data):
    videos, expected = layouts.layout_ffpp(small_data / "FaceForensics++", None, "c23")
    names = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    assert counts(videos) == {
        (split, *kind): 2
        for split in ("train", "val", "test")
        for kind in ((0, "youtube"), *((1, n) for n in names))
    }
    assert expected["train", 1, "FaceSwap"] == 720 and expected["test", 0, "youtube"] == 140
    fake = next(v for v in videos if v["method"] == "FaceSwap" and v["stem"] == "001_000")
    assert fake["original"] == "001" and fake["people"] == ("001", "000")
    videos, _ = layouts.layout_ffpp(small_data / "FaceForensics++", ["originals"], "c23")
    assert {v["method"] for v in videos} == {"youtube"} and len(videos) == 6
    with pytest.raises(SystemExit, match="--layout dfd"):  # it has other originals
        layouts.layout_ffpp(small_data / "FaceForensics++", ["DeepFakeDetection"], "c23")
    with pytest.raises(SystemExit, match="at c40"):
        layouts.layout_ffpp(small_data / "FaceForensics++", None, "c40")


def test_ffpp_without_split_files_should_have_1000_each(tmp_path, capsys):
    touch(
        tmp_path,
        "original_sequences/youtube/raw/videos/000.mp4",
        "manipulated_sequences/FaceShifter/raw/videos/000_003.mp4",
    )
    videos, expected = layouts.layout_ffpp(tmp_path, ["FaceShifter"], "raw")
    splits.print_counts(videos, expected)
    output = capsys.readouterr().out
    assert (
        expected == {("", 0, "youtube"): 1000, ("", 1, "FaceShifter"): 1000}
        and "no split files" in output
        and "DIFFERS" in output
    )


def test_dfd(small_data):
    videos, expected = layouts.layout_dfd(small_data / "FaceForensics++", "c23")
    assert counts(videos) == {("", 0, "actors"): 6, ("", 1, "DeepFakeDetection"): 6} and list(
        expected.values()
    ) == [363, 3068]
    fake = next(v for v in videos if v["stem"].startswith("02_01__"))
    assert fake["original"] == "02__walking_outside" and fake["people"] == ("02", "01")
    assert fake["original"] in {v["original"] for v in videos if v["label"] == 0}


def test_celebdf(small_data):
    """In the test list 1 is REAL, and its first line is a video, not a header."""
    videos, expected = layouts.layout_celebdf(small_data / "Celeb-DF")
    assert counts(videos) == {
        ("test", 0, "Celeb-real"): 2,
        ("test", 0, "YouTube-real"): 1,
        ("test", 1, "Celeb-synthesis"): 2,
        ("train", 0, "Celeb-real"): 2,
        ("train", 0, "YouTube-real"): 1,
        ("train", 1, "Celeb-synthesis"): 2,
    }
    first = next(v for v in videos if v["stem"] == "00005")
    assert first["split"] == "test" and first["label"] == 0
    fake = next(v for v in videos if v["stem"] == "id2_id3_0000")
    assert fake["original"] == "id2_0000" and fake["people"] == ("id2", "id3")
    assert sum(n for (split, *_), n in expected.items() if split is None) == 408 + 795


def test_celebdf_variants(tmp_path, capsys):
    """Folders videos/, Youtube-real, v2 by its size; a list that contradicts the folders fails."""
    touch(
        tmp_path,
        "Celeb-real/videos/id0_0000.mp4",
        "Youtube-real/videos/00170.mp4",
        *(
            f"Celeb-synthesis/videos/id0_id{k}_{n:04d}.mp4"
            for k in range(1, 51)
            for n in range(100)
        ),
    )
    (tmp_path / "List_of_testing_videos.txt").write_bytes(
        b"\xef\xbb\xbf1 YouTube-real/00170.mp4\r\n0 Celeb-synthesis/id0_id1_0003.mp4\r\n\r\n"
        b"1 Celeb-real/id9_0009.mp4\r\n"
    )
    videos, expected = layouts.layout_celebdf(tmp_path)
    assert (
        "counted as Celeb-DF v2" in (output := capsys.readouterr().out)
        and "1 videos of List_of_testing" in output
    )
    assert (
        expected[None, 1, "Celeb-synthesis"] == 5639
        and expected[None, 0, "Celeb-real"] + expected[None, 0, "YouTube-real"] == 890
    )
    assert counts(videos) == {
        ("test", 0, "YouTube-real"): 1,
        ("test", 1, "Celeb-synthesis"): 1,
        ("train", 0, "Celeb-real"): 1,
        ("train", 1, "Celeb-synthesis"): 4999,
    }
    for text, says in (
        ("0 YouTube-real/00170.mp4", "1 is real"),
        ("label path", "line 1"),
        ("1,YouTube-real/00170.mp4", "line 1"),
    ):
        (tmp_path / "List_of_testing_videos.txt").write_text(text)
        with pytest.raises(SystemExit, match=says):
            layouts.layout_celebdf(tmp_path)
    (tmp_path / "List_of_testing_videos.txt").unlink()
    assert {v["split"] for v in layouts.layout_celebdf(tmp_path)[0]} == {""}


def test_dfdc(small_data, tmp_path, capsys):
    """All parts; `original` may be missing; labels.csv, where 1 is fake, precedes metadata.json."""
    videos, expected = layouts.layout_dfdc(small_data / "DFDC")
    assert counts(videos) == {("train", 0, "real"): 12, ("train", 1, "fake"): 24} and expected == {
        ("train", 0, "real"): 19154,
        ("train", 1, "fake"): 100000,
    }
    root = tmp_path / "dfdc"
    shutil.copytree(small_data / "DFDC", root)
    meta = root / "dfdc_train_part_0/metadata.json"
    entries = json.loads(meta.read_text())
    del entries["deepfakes00.mp4"]["original"]
    entries["faceswap00.mp4"]["original"] = None
    entries["gone.mp4"] = dict(label="FAKE", split="train", original="original00.mp4")
    meta.write_text(json.dumps(entries))
    touch(root, "dfdc_train_part_0/stranger.mp4", "test/a.mp4", "test/b.mp4")
    (root / "test/labels.csv").write_text("filename,label\na.mp4,1\nb.mp4,0\n")
    (root / "test/metadata.json").write_text('{"a.mp4": {"is_fake": 1}}')
    videos, _ = layouts.layout_dfdc(root)
    assert counts(videos) == {
        ("train", 0, "real"): 12,
        ("train", 1, "fake"): 24,
        ("test", 0, "real"): 1,
        ("test", 1, "fake"): 1,
    }
    assert {v["stem"]: v["label"] for v in videos if v["split"] == "test"} == {"a": 1, "b": 0}
    # The public test set alone is no incomplete training set, and the training parts are not one.
    capsys.readouterr()
    splits.print_counts(*layouts.layout_dfdc(root / "test"))
    whole = [
        dict(split="train", label=label, method=method)
        for label, method in enumerate(("real", "fake"))
    ]
    splits.print_counts(19154 * whole[:1] + 100000 * whole[1:], expected)
    output = capsys.readouterr().out
    assert "DIFFERS" not in output and "warning" not in output and output.count("expected") == 2
    splits.print_counts(whole, expected)
    assert "is it complete" in capsys.readouterr().out
    # With the validation set too, the totals are those of the whole data set.
    entries["faceswap01.mp4"]["split"] = "validation"
    meta.write_text(json.dumps(entries))
    _, expected = layouts.layout_dfdc(root)
    assert expected[None, 0, None] + expected[None, 1, None] == 128154
    original = {v["stem"]: v["original"] for v in videos}
    assert (
        original["deepfakes00"] == ""
        and original["faceswap00"] == ""
        and original["faceswap01"] == "original01"
    )
    output = capsys.readouterr().out
    assert "1 listed videos are missing" in output
    assert "1 videos are in no list and are left out, in: dfdc_train_part_0" in output
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
    assert {(v["stem"], v["label"], v["split"], v["original"]) for v in videos} == {
        ("widuwuoiur", 1, "train", "ybqmttnept"),
        ("knqhpwoigk", 0, "train", "knqhpwoigk"),
    }


def test_dfdc_preview(small_data, tmp_path):
    videos, expected = layouts.layout_dfdc_preview(small_data / "DFDC-Preview")
    assert counts(videos) == {
        (split, *kind): n
        for split, n in (("train", 4), ("test", 2))
        for kind in ((0, "original_videos"), (1, "method_A"), (1, "method_B"))
    }
    assert (
        expected[None, 0, None] == 1131
        and expected[None, 1, None] == 4113
        and expected["train", None, None] + expected["test", None, None] == 1131 + 4113
    )
    for text, says in (
        ('{"/etc/passwd": {"label": "real", "set": "train"}}', "leads out"),
        ('{"a/b.mp4": {"label": "real"}}', "no label real or fake"),
        ('{"a/b.mp4": {"label": "real", "set": "test"}}', "all 1 videos"),
    ):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(SystemExit, match=says):
            layouts.layout_dfdc_preview(tmp_path)


@pytest.mark.parametrize("quality", ["lq", "hq"])
def test_dftimit(small_data, quality):
    videos, expected = layouts.layout_dftimit(
        small_data / "DeepfakeTIMIT", small_data / "VidTIMIT", quality
    )
    assert counts(videos) == {("", 0, "vidtimit"): 6, ("", 1, quality): 6} and set(
        expected.values()
    ) == {320}
    fake = next(v for v in videos if v["label"] == 1 and v["stem"].startswith("fadg0"))
    real = next(v for v in videos if v["label"] == 0 and v["stem"].startswith("fadg0"))
    assert fake["original"] == real["original"] == "fadg0/sa1" and fake["people"] == (
        "fadg0",
        "faks0",
    )
    files = photos.image_files(real["path"])
    assert [path.name for path in files] == [f"{n:03d}" for n in range(1, 11)]


def test_dftimit_traps(small_data, tmp_path, capsys):
    """Reals are the fakes' recordings alone, a folder deeper too; without any, there is a warning.

    Other subjects, head rotations and audio do not count, nor do files that are no images.
    """
    jpeg = (small_data / "VidTIMIT/fadg0/video/sa1/001").read_bytes()
    touch(
        tmp_path,
        "DeepfakeTIMIT/lower_quality/fadg0/sa1-video-faks0.avi",
        "DeepfakeTIMIT/lower_quality/fadg0/notes.avi",
    )
    touch(
        tmp_path,
        "VidTIMIT/fadg0/fadg0/video/sa1/2",
        "VidTIMIT/fadg0/fadg0/video/sa1/10",
        "VidTIMIT/fadg0/fadg0/video/head/001",
        "VidTIMIT/mabw0/video/sa1/001",
        "VidTIMIT/fadg0/audio/sa1/001",
        content=jpeg,
    )
    touch(
        tmp_path,
        "VidTIMIT/fadg0/fadg0/video/sa1/Thumbs.db",
        "VidTIMIT/fadg0/fadg0/video/sa1/1",
        content=b"no image",
    )
    videos, _ = layouts.layout_dftimit(tmp_path, None, "lq")
    assert [(v["label"], v["stem"]) for v in videos] == [
        (1, "fadg0_sa1-video-faks0"),
        (0, "fadg0_sa1"),
    ]
    assert [path.name for path in photos.image_files(videos[1]["path"])] == ["2", "10"]
    assert "1 files of lower_quality are not named" in capsys.readouterr().out
    layouts.layout_dftimit(tmp_path / "DeepfakeTIMIT", None, "lq")
    assert "give --vidtimit" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="higher_quality"):
        layouts.layout_dftimit(tmp_path, None, "hq")


@pytest.mark.parametrize(
    "layout", ["ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit", "folders"]
)
def test_the_wrong_folder_is_one_line(layout, tmp_path):
    output = run(
        "01_extract_faces.py",
        "--layout",
        layout,
        "--videos",
        tmp_path,
        "--out",
        tmp_path / "f",
        fails=True,
    )
    assert str(tmp_path) in output and not (tmp_path / "f").exists()


def test_faces_from_image_folders(small_data, tmp_path):
    """VidTIMIT's image folders give faces as videos do, and a damaged image is a skipped frame."""
    shutil.copytree(small_data / "VidTIMIT", tmp_path / "VidTIMIT")
    (tmp_path / "VidTIMIT/fadg0/video/sa1/011").write_bytes(b"\xff\xd8\xff damaged")
    output = run(
        "01_extract_faces.py",
        "--layout",
        "dftimit",
        "--videos",
        small_data / "DeepfakeTIMIT",
        "--vidtimit",
        tmp_path / "VidTIMIT",
        "--num-frames",
        3,
        "--out",
        tmp_path / "f",
    )
    assert "real  vidtimit                   6 videos   expected     320   DIFFERS" in output
    assert (
        "12 videos = 12 with faces + 0 skipped + 0 failed; 1 gave fewer faces than requested; "
        "35 images" in output
    )
    assert (tmp_path / "f/skipped.csv").read_text().splitlines()[1:] == [
        "vidtimit_fadg0_sa1,10,could not be decoded"
    ]
    assert (tmp_path / "f/vidtimit_faks0_sa1/000003.png").exists() and (
        tmp_path / "f/lq_fadg0_sa1-video-faks0/000003.png"
    ).exists()


def test_folders_whatever_they_are_called(tmp_path, capsys):
    """Splits and labels in any case, valid/ and validation/, 0_real and 1_fake."""
    for name in ("valid", "validation", "VAL", "Train", "test"):
        touch(tmp_path, f"{name}/Real/r.mp4", f"{name}/1_fake/swap/f.mp4")
    videos, _ = layouts.layout_folders(tmp_path)
    assert counts(videos) == {
        (split, *kind): 3 if split == "val" else 1
        for split in ("train", "val", "test")
        for kind in ((0, "real"), (1, "swap"))
    }
    assert "left out" not in capsys.readouterr().out
    touch(tmp_path, "train/notes.txt", "more/a.mp4", "train/\x1b[31mreds/b.png", "train/c.mp4")
    assert len(layouts.layout_folders(tmp_path)[0]) == 10
    output = capsys.readouterr().out
    assert "3 folders or files" in output and "more, train/\\x1b[31mreds, train/c.mp4" in output


def test_reports_of_folders(tmp_path):
    videos, _ = layouts.layout_folders(shared("data", "reports", "L2"))
    assert counts(videos) == {
        (split, label, kind): 1
        for split in ("train", "val", "test")
        for label, kind in enumerate(("real", "fake"))
    }
    videos, _ = layouts.layout_folders(shared("data", "reports", "L3a"))
    assert [video["label"] for video in videos] == [1, 0]


@pytest.mark.parametrize("missing, other", [("fake", "Deepfakes"), ("real", "originals")])
def test_one_class_beside_a_folder_that_looks_like_the_other(missing, other, tmp_path):
    touch(tmp_path, f"{dict(fake='real', real='fake')[missing]}/a.mp4", "more/b.mp4")
    assert len(layouts.layout_folders(tmp_path)[0]) == 1
    touch(tmp_path, f"{other}/c.mp4")
    with pytest.raises(SystemExit, match=f"has no {missing}/: call {other} so, or move it away"):
        layouts.layout_folders(tmp_path)


def test_ffpp_without_fakes_at_this_compression(tmp_path):
    touch(
        tmp_path,
        "original_sequences/youtube/c23/videos/000.mp4",
        "manipulated_sequences/DeepFakeDetection/c40/videos/01_02__x__y.mp4",
    )
    assert len(layouts.layout_ffpp(tmp_path, None, "c23")[0]) == 1
    touch(tmp_path, "manipulated_sequences/Deepfakes/c40/videos/000_003.mp4")
    assert len(layouts.layout_ffpp(tmp_path, ["originals"], "c23")[0]) == 1
    with pytest.raises(SystemExit, match="no videos at c23: give --compression, or --method"):
        layouts.layout_ffpp(tmp_path, None, "c23")


def test_dfdc_has_three_official_sets(tmp_path, capsys):
    """validation/labels.csv is val; the test set has labels.csv, or is_fake in metadata.json."""
    touch(tmp_path, "p0/r.mp4", "p0/f.mp4", "validation/v.mp4", "validation/w.mp4", "test/x/t.mp4")
    touch(tmp_path, "test/x/u.mp4", "p1/a.mp4", "p1/b.mp4")
    entries = {"r.mp4": dict(label="REAL", split="train")}
    entries["f.mp4"] = dict(label="FAKE", split="train", original="r.mp4")
    (tmp_path / "p0/metadata.json").write_text(json.dumps(entries))
    (tmp_path / "validation/labels.csv").write_text("filename,label\nv.mp4,1\nw.mp4,0\n")
    tests = {"t.mp4": dict(is_fake=1), "u.mp4": dict(is_fake=0)}
    (tmp_path / "test/x/metadata.json").write_text(json.dumps(tests))
    videos, expected = layouts.layout_dfdc(tmp_path)
    assert sorted((v["stem"], v["split"], v["label"], v["original"]) for v in videos) == [
        ("f", "train", 1, "r"),
        ("r", "train", 0, "r"),
        ("t", "test", 1, ""),
        ("u", "test", 0, "u"),
        ("v", "val", 1, ""),
        ("w", "val", 0, "w"),
    ]
    assert expected[None, 0, None] == 23654
    # Parts without a list are named.
    assert "2 videos are in no list and are left out, in: p1\n" in capsys.readouterr().out
    (alone, _), nothing = layouts.layout_dfdc(tmp_path / "validation")
    assert alone["split"] == "val" and nothing == {}


def test_dfdc_preview_tells_originals_and_people(tmp_path, capsys):
    """A random split leaks no original and no target; reals go with their targets."""
    entries = {}
    for k in range(20):
        real = dict(label="real", set="train", target_id=str(k), swapped_id=None)
        entries[f"original_videos/{k}/{k}_A.mp4"] = real
        for method, other in (("method_A", (k + 1) % 20), ("method_B", (k + 7) % 20)):
            entries[f"{method}/{k}/{k}_{other}.mp4"] = dict(
                label="fake",
                set="train",
                source_video=f"original_videos/{k}/{k}_A.mp4",
                target_id=k,
                swapped_id=other,
            )
    touch(tmp_path, *entries)
    (tmp_path / "dataset.json").write_text(json.dumps(entries))
    videos, _ = layouts.layout_dfdc_preview(tmp_path)
    assert {v["original"] for v in videos} == {f"{k}_A" for k in range(20)}
    assert sorted(v["people"] for v in videos if v["stem"] == "3_4") == [("3", "4")]
    splits.random_split(videos, (60, 20, 20), 0)
    assert {v["split"] for v in videos} == {"", "train", "val", "test"}
    before = [v["split"] for v in videos]
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == before
    assert not splits_of(videos, lambda v: v["original"])
    for person in map(str, range(20)):
        assert len({v["split"] for v in videos if person in v["people"] and v["split"]}) <= 1
    assert "the originals of" in capsys.readouterr().out


def test_celebdf_plus_plus(capsys):
    """Generators are methods, and the list has deeper paths."""
    videos, expected = layouts.layout_celebdf(shared("data", "reports", "L6"))
    assert {(v["method"], v["label"], v["split"]) for v in videos} == {
        ("BlendFace", 1, "test"),
        ("GHOST", 1, "train"),
        ("SadTalker", 1, "train"),
        ("Celeb-real", 0, "test"),
        ("Celeb-real", 0, "train"),
        ("YouTube-real", 0, "train"),
    }
    output = capsys.readouterr().out
    assert "Celeb-DF++" in output and "not there" not in output and expected == {}
    splits.drop_leaks(videos)
    assert not splits_of(videos, lambda v: v["original"])


def test_a_list_may_tell_originals(tmp_path, capsys):
    """By the path, the file name or the stem of the real video, or by any name."""
    (tmp_path / "v.csv").write_text(
        "path,label,split,original\nr/a.mp4,0,train,\nr/b.mp4,0,train,\nr/c.mp4,0,Validation,\n"
        "f/1.mp4,1,test,r/a.mp4\nf/2.mp4,1,test,b\nf/3.mp4,1,test,other.mp4\nr/d.mp4,0,train,\n"
    )
    videos, _ = layouts.layout_list(tmp_path / "v.csv")
    assert [v["original"] for v in videos] == [
        *("r/a.mp4", "b", "r/c.mp4"),
        *("r/a.mp4", "b", "other.mp4", "r/d.mp4"),
    ]
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == ["", "", "val", "test", "test", "test", "train"]
    assert "the originals of 5 and the people of 0 of 5 videos" in capsys.readouterr().out


# ---------------------------------------------------------------- splits that never leak


def splits_of(videos, key):
    found = {}
    for video in videos:
        if video["split"] and key(video):
            found.setdefault(key(video), set()).add(video["split"])
    return [splits for splits in found.values() if len(splits) > 1]


def test_planted_leaks(tmp_path, capsys):
    """An original, a pair of people, a linked and a copied file in two splits: one keeps them."""
    touch(tmp_path, "a.mp4", "copy.mp4", content=b"one")
    touch(tmp_path, "other.mp4", content=b"two")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    make = layouts.make_video
    videos = [
        make("r1", 0, "m", "train", original="x"),
        make("f1", 1, "m", "test", original="x"),
        make("f2", 1, "m", "val", people=("p", "q")),
        make("f3", 1, "m", "test", people=("q", "p")),
        make(tmp_path / "link.mp4", 0, "m", "train"),
        make(tmp_path / "a.mp4", 0, "m", "val"),
        make(tmp_path / "copy.mp4", 0, "m", "test"),
        make(tmp_path / "other.mp4", 0, "m", "train"),
    ]
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == ["", "test", "", "test", "", "", "test", "train"]
    output = capsys.readouterr().out
    assert (
        output.count("warning: ") == 4
        and "share the original with test" in output
        and "the pair of people" in output
        and "the same bytes" in output
    )
    splits.drop_leaks(videos)
    output = capsys.readouterr().out
    what = "a file, equal bytes, an original or a pair of people"
    assert f"checked: no two splits share {what}" in output
    assert "the originals of 1 and the people of 1 of 4 videos" in output


def test_a_planted_leak_in_a_data_set_gives_a_warning(small_data, tmp_path):
    """Of a fake in Celeb-DF's test list, the original is not in it: it leaves train."""
    shutil.copytree(small_data / "Celeb-DF", tmp_path / "c")
    (tmp_path / "c/List_of_testing_videos.txt").write_text(
        "0 Celeb-synthesis/id2_id3_0000.mp4\n1 YouTube-real/00005.mp4\n"
    )
    output = run(
        "01_extract_faces.py",
        "--layout",
        "celebdf",
        "--videos",
        tmp_path / "c",
        "--num-frames",
        1,
        "--out",
        tmp_path / "f",
    )
    assert (
        "1 videos of train share the original with test" in output
        and "1 videos of train share the pair of people with test" in output
    )
    import csv

    splits = {row["video"]: row["split"] for row in csv.DictReader(open(tmp_path / "f/index.csv"))}
    assert (
        splits["Celeb-real_id2_0000"] == splits["Celeb-synthesis_id3_id2_0000"] == ""
        and splits["Celeb-real_id3_0000"] == "train"
    )


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
    for folder in ("train/fake/e", "test/fake/f"):
        touch(tmp_path, f"{folder}/Thumbs.db", content=b"no image")
    videos, _ = layouts.layout_folders(tmp_path, crops=True)
    splits.drop_leaks(videos)
    assert {v["stem"]: v["split"] for v in videos} == {
        **dict(a="", b="test", c="val"),
        **dict(d="val", e="train", f="test"),
    }
    output = capsys.readouterr().out
    assert "1 videos of train share the same bytes with test" in output
    assert "1 files are both real and fake, byte for byte, as in " in output


people = st.integers(0, 7).map(str)


@given(
    st.lists(
        st.tuples(people, people, st.integers(0, 2), st.sampled_from(["", "train", "val", "test"])),
        min_size=1,
        max_size=40,
    )
)
def test_nothing_is_shared_after_drop_leaks(entries):
    videos = [
        layouts.make_video(
            f"/v/{k}.mp4",
            int(a != b),
            "m",
            split,
            original=f"{a}-{n}",
            people=(a, b) if a != b else (a,),
        )
        for k, (a, b, n, split) in enumerate(entries)
    ]
    before = [v["split"] for v in videos]
    splits.drop_leaks(videos)
    assert not splits_of(videos, lambda v: v["original"])
    assert not splits_of(
        videos, lambda v: tuple(sorted(v["people"])) if len(v["people"]) == 2 else None
    )
    assert all(after in ("", split) for after, split in zip([v["split"] for v in videos], before))
    assert all(v["split"] == "test" for v, split in zip(videos, before) if split == "test"), (
        "a test split is never touched"
    )


# The first call imports scipy, which takes longer than Hypothesis allows by default.
@settings(deadline=None)
@given(
    st.lists(st.tuples(people, people, st.integers(0, 2)), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_a_random_split_leaks_nothing(entries, seed):
    videos = [
        layouts.make_video(
            f"/v/{k}.mp4", int(a != b), "m", original=f"{a}-{n}", people=(a, b) if a != b else (a,)
        )
        for k, (a, b, n) in enumerate(entries)
    ]
    splits.random_split(videos, (60, 20, 20), seed)
    again = [v["split"] for v in videos]
    splits.drop_leaks(videos)
    assert [v["split"] for v in videos] == again
    split_of = {}
    for video in videos:
        for person in video["people"] if video["split"] else ():
            assert split_of.setdefault(person, video["split"]) == video["split"]


def test_random_split_keeps_pairs_together_and_both_labels():
    videos = [layouts.make_video(f"{n:03d}.mp4", 0, "m", people=(f"{n:03d}",)) for n in range(40)]
    videos += [
        layouts.make_video(f"{n:03d}_{n ^ 1:03d}.mp4", 1, "m", people=(f"{n:03d}", f"{n ^ 1:03d}"))
        for n in range(40)
    ]
    splits.random_split(videos, (60, 20, 20), 0)
    assert [sum(v["split"] == s for v in videos) for s in ("train", "val", "test")] == [48, 16, 16]


def test_random_split_where_everybody_is_swapped_with_everybody():
    """DFD: one connected group; people are drawn, and fakes between two splits have none."""
    videos = [layouts.make_video(f"{a}.mp4", 0, "m", people=(str(a),)) for a in range(20)]
    videos += [
        layouts.make_video(f"{a}_{b}.mp4", 1, "m", people=(str(a), str(b)))
        for a in range(20)
        for b in range(20)
        if a != b
    ]
    splits.random_split(videos, (60, 20, 20), 0)
    assert {v["split"] for v in videos} == {"", "train", "val", "test"}
    assert all(v["split"] for v in videos if v["label"] == 0)


def test_random_split_of_dfdc_keeps_fakes_with_their_original(small_data):
    videos, _ = layouts.layout_dfdc(small_data / "DFDC")
    splits.random_split(videos, (50, 25, 25), 1)
    assert not splits_of(videos, lambda v: v["original"]) and {v["split"] for v in videos} == {
        "train",
        "val",
        "test",
    }


def test_split_in_order_is_that_of_the_paper():
    """FF++: of the originals by name 750 train, 125 validate, 125 test, fakes with their original.

    A pair of people in two splits leaves the earlier one.
    """
    videos = [
        layouts.make_video(f"{n:03d}.mp4", 0, "youtube", original=f"{n:03d}", people=(f"{n:03d}",))
        for n in range(999, -1, -1)
    ]
    videos += [
        layouts.make_video(
            f"{n:03d}_{n ^ 1:03d}.mp4",
            1,
            "FaceSwap",
            original=f"{n:03d}",
            people=(f"{n:03d}", f"{n ^ 1:03d}"),
        )
        for n in range(1000)
    ]
    splits.split_in_order(videos, (750, 125, 125))
    for label in (0, 1):
        assert [
            sum(v["split"] == s and v["label"] == label for v in videos)
            for s in ("train", "val", "test")
        ] == [750, 125, 125]
    assert {v["split"] for v in videos if v["original"] < "750"} == {"train"} and {
        v["split"] for v in videos if v["original"] >= "875"
    } == {"test"}
    splits.drop_leaks(videos)
    # 874 and 875 are swapped across the border: the fake in val goes, the one in test stays.
    assert [v["stem"] for v in videos if not v["split"]] == ["874_875"] and next(
        v for v in videos if v["stem"] == "875_874"
    )["split"] == "test"


def test_keep_pairs_keeps_the_papers_numbers_and_warns(capsys):
    """Fakes of two people across a border, both ways: one leaves its split, unless it is kept."""
    for keep, kept in ((False, 1), (True, 2)):
        videos = [
            layouts.make_video(f"{a}_{b}.mp4", 1, "m", split, original=a, people=(a, b))
            for a, b, split in (("1", "2", "train"), ("2", "1", "test"))
        ]
        splits.drop_leaks(videos, keep_pairs=keep)
        assert sum(v["split"] != "" for v in videos) == kept and videos[1]["split"] == "test"
        output = capsys.readouterr().out
        assert "1 videos of train share the pair of people with test" in output
        assert ("they stay (--keep-pairs)" in output) == keep


def test_split_in_order_without_originals_counts_by_name_and_leaves_the_rest():
    videos = [
        layouts.make_video(f"{label}{k}.mp4", label, "m") for label in (0, 1) for k in range(7)
    ]
    splits.split_in_order(videos, (3, 2, 1))
    assert [v["split"] for v in videos] == 2 * ["train", "train", "train", "val", "val", "test", ""]


@given(
    st.lists(st.tuples(people, people, st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_split_draw_is_exact_or_ends_and_leaks_nothing(entries, seed):
    videos = [layouts.make_video(f"/v/r{k}.mp4", 0, "m", original=f"r{k}") for k in range(8)]
    videos += [
        layouts.make_video(f"/v/{k}.mp4", 1, "m", original=f"r{n}", people=(a, b))
        for k, (a, b, n) in enumerate(entries)
        if a != b
    ]
    try:
        drawn = splits.split_draw(videos, (2, 1, 1), seed)
    except SystemExit as error:
        assert "--split-draw" in str(error)
        return
    assert [
        sum(v["split"] == s and v["label"] == label for v in drawn)
        for label in (0, 1)
        for s in ("train", "val", "test")
    ] == [2, 1, 1, 2, 1, 1]
    before = [v["split"] for v in drawn]
    splits.drop_leaks(drawn)
    assert [v["split"] for v in drawn] == before


def test_split_draw_of_a_set_as_large_as_dfd():
    """Of 28 actors, all swapped with all, and 363 originals: 250 + 25 + 25, the same for a seed."""
    originals = [(a, s) for a in range(28) for s in range(13)][:363]
    videos = [
        layouts.make_video(
            f"{a:02d}__{s}.mp4", 0, "actors", original=f"{a:02d}__{s}", people=(f"{a:02d}",)
        )
        for a, s in originals
    ]
    fakes = [(a, b, s) for a, s in originals for b in range(28) if a != b and (a + b + s) % 3 == 0]
    videos += [
        layouts.make_video(
            f"{a:02d}_{b:02d}__{s}.mp4",
            1,
            "DFD",
            original=f"{a:02d}__{s}",
            people=(f"{a:02d}", f"{b:02d}"),
        )
        for a, b, s in fakes
    ]
    drawn = [
        splits.split_draw([dict(v) for v in videos], (250, 25, 25), seed) for seed in (0, 0, 1)
    ]
    assert [len(d) for d in drawn] == [600] * 3 and drawn[0] == drawn[1] != drawn[2]
    for label in (0, 1):
        assert [
            sum(v["split"] == s and v["label"] == label for v in drawn[0])
            for s in ("train", "val", "test")
        ] == [250, 25, 25]
    assert not splits_of(drawn[0], lambda v: v["original"]) and not splits_of(
        drawn[0], lambda v: tuple(sorted(v["people"])) if len(v["people"]) == 2 else None
    )


def test_split_flags(small_data, tmp_path):
    common = (
        "--layout",
        "ffpp",
        "--videos",
        small_data / "FaceForensics++",
        "--method",
        "FaceSwap",
        "--num-frames",
        1,
    )
    output = run(
        "01_extract_faces.py", *common, "--split-in-order", 3, 2, 1, "--out", tmp_path / "f"
    )
    assert "splits" in output or "split:" in output
    rows = [line.split(",") for line in (tmp_path / "f/videos.csv").read_text().splitlines()[1:]]
    assert {row[5]: row[4] for row in rows if row[2] == "0"} == dict(
        zip(("000", "001", "002", "003", "004", "005"), ("train",) * 3 + ("val",) * 2 + ("test",))
    )
    output = run(
        "01_extract_faces.py",
        "--layout",
        "dfd",
        "--videos",
        small_data / "FaceForensics++",
        "--num-frames",
        1,
        "--split-draw",
        2,
        1,
        1,
        "--out",
        tmp_path / "d",
    )
    assert "8 videos = 8 with faces" in output
    assert "there are" in run(
        "01_extract_faces.py",
        "--layout",
        "dfd",
        "--videos",
        small_data / "FaceForensics++",
        "--split-draw",
        9,
        1,
        1,
        "--out",
        tmp_path / "x",
        fails=True,
    )
    assert "give one of" in run(
        "01_extract_faces.py",
        *common,
        "--split-draw",
        1,
        1,
        1,
        "--split-in-order",
        1,
        1,
        1,
        "--out",
        tmp_path / "x",
        fails=True,
    )


# ---------------------------------------------------------------- names


def test_names_are_safe_and_unique():
    stems = [
        "a",
        "a",
        "A",
        "../../etc/x",
        "ü" * 90,
        "x\ny",
        "-rf",
        ".hidden",
        "a b",
        "a_b",
        os.fsdecode(b"\xff\xfe"),
    ]
    videos = [
        layouts.make_video(f"/data/{k}/" + (s.replace("/", "_") + ".mp4"), 0, "../m")
        for k, s in enumerate(stems)
    ]
    splits.name_videos(videos)
    names = [video["name"] for video in videos]
    assert len({name.lower() for name in names}) == len(names)
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        and not name.startswith(".")
        and len(name) < 100
        for name in names
    )


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


def test_counts_of_many_methods_are_fast(capsys):
    videos = [layouts.make_video(f"{k}.mp4", 1, f"m{k}") for k in range(20000)]
    start = time.monotonic()
    splits.print_counts(videos, {("", 1, "m7"): 1, (None, 1, None): 20000, (None, 0, None): 1})
    assert time.monotonic() - start < 5
    output = capsys.readouterr().out
    assert output.count("\n") == 20003 and "1 of these numbers" in output
    assert "all      fake  all                    20000 videos   expected   20000\n" in output


def test_links_in_circles_end(tmp_path):
    touch(tmp_path, "real/a.mp4")
    (tmp_path / "real/loop").symlink_to(tmp_path)
    videos, _ = layouts.layout_folders(tmp_path)
    assert len(videos) == 1

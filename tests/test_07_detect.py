"""Stage 07: the same faces and scores as in earlier stages, people told apart, honest verdicts.

A video without a face, or one that cannot be read, never gets a number.
"""

import base64
import hashlib
import json
import math
import os
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from conftest import SMALL_CLRNET, judge, rows_of, run, shared, stage
from hypothesis import given
from hypothesis import strategies as st

import common
from reporting import metrics, pages
from reporting.verdict import limits_text
from running.folder import sha256
from running.run import load_checkpoint, save_checkpoint

detect = stage("07_detect")
WARNING = "DEMONSTRATION: trained on generated videos"


def ffmpeg(*args):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)]
    subprocess.run(command, check=True)


def by_name(result):
    return {os.path.basename(video["path"]): video for video in result["videos"]}


@pytest.fixture(scope="module")
def runs(small, extractor, features):
    """A checkpoint of each stage by name, and the folder of the scores of 04 and 05."""
    folder, clips = small / "runs07", small / "faces/clips"
    run(
        *f"04_train_bpdann.py --source {features}/frames --target {features}/phone --epochs 20 "
        f"--test {features}/frames --batch 8 --device cpu --precision fp32 --out {folder}/ft "
        f"--scores {folder}/scores/ft".split()
    )
    run(
        *f"05_train_clrnet.py --strategy single --source {clips} --epochs 3 --test {clips} "
        f"--out {folder}/clrnet --scores {folder}/scores/clrnet".split(),
        *SMALL_CLRNET,
    )
    return dict(
        extractor=extractor,
        ft=folder / "ft/phone/model.pt",
        clrnet=folder / "clrnet/model.pt",
        scores=folder / "scores",
    )


@pytest.fixture(scope="module")
def videos(small):
    """Test videos of the Deepfakes set in the studio condition: {name in the index: file}."""
    rows = rows_of(small / "faces/frames/index.csv")
    names = {row["video"] for row in rows if row["split"] == "test"}
    root = small / "videos/studio"
    places = dict(youtube="original_sequences/youtube", Deepfakes="manipulated_sequences/Deepfakes")
    files = {
        f"{method}_{path.stem}": path
        for method, place in places.items()
        for path in (root / place / "c23/videos").iterdir()
    }
    return {name: files[name] for name in sorted(names)}


@pytest.fixture(scope="module")
def video(videos):
    return next(iter(videos.values()))


@pytest.fixture(scope="module")
def photo(video, tmp_path_factory):
    """A photo with a face, the first frame of a video."""
    path = tmp_path_factory.mktemp("photo") / "biden.png"
    ffmpeg("-i", video, "-frames:v", 1, path)
    return path


def test_scores_are_those_of_the_stages(runs, videos, small, tmp_path, capsys):
    """A person's score is the mean of the video's rows that 03, 04 and 05 wrote."""
    tables = {
        str(runs["extractor"]): small / "scores/direct/frames.csv",
        str(runs["ft"]): runs["scores"] / "ft/frames.csv",
        str(runs["clrnet"]): runs["scores"] / "clrnet/clips.csv",
    }
    files = " ".join(map(str, videos.values()))
    out = tmp_path / "v"
    result, output = judge(f"{files} --checkpoint {' '.join(tables)} --out {out} --json")
    said = capsys.readouterr().err
    assert json.loads(output) == result
    assert [*by_name(result)] == [path.name for path in videos.values()]
    for name, video in zip(videos, result["videos"]):
        (person,) = video["people"]
        assert {one["checkpoint"] for one in person["by"]} == set(tables) and video["demonstration"]
        for one in person["by"]:
            rows = [row for row in rows_of(tables[one["checkpoint"]]) if row["video"] == name]
            assert [s["frame"] for s in one["samples"]] == [int(row["frame"]) for row in rows]
            assert all(s["score"] == common.sigmoid(s["logit"]) for s in one["samples"])
            scores = [s["score"] for s in one["samples"]]
            assert np.allclose(scores, [float(row["score"]) for row in rows], atol=2e-4)
            assert one["score"] == pytest.approx(np.mean(scores))
        for key in ("score", "threshold", "real_below", "fake_from"):
            assert person[key] == pytest.approx(np.mean([one[key] for one in person["by"]]))
        verdict = "fake" if person["score"] >= person["threshold"] else "real"
        assert person["verdict"] == video["verdict"] == verdict
        assert said.count(f"{video['path']}: {verdict.upper()}, P(fake)") == 1
        assert (out / video["picture"]).read_bytes().startswith(b"\x89PNG")
    assert said.count(WARNING) == len(videos), "a warning with every verdict"
    rows = rows_of(out / "verdicts.csv")
    assert len(rows) == len(videos) * 4 and {row["demonstration"] for row in rows} == {"1"}
    assert {row["checkpoint"] for row in rows} == {*tables, "mean"}
    for about in result["checkpoints"]:
        assert about["demonstration"] and about["calibrated"]
        assert about["validation"]["videos"] == 4 and about["validation"]["auc"] is not None
        assert about["validation"]["reals"] == about["validation"]["fakes"] == 2
        assert about["real_below"] == about["fake_from"] == about["threshold"]
    assert said.count("with fewer than 20 of a class, 5 % of it cannot be known") == 3
    assert {(e["set"], e["role"]) for e in result["checkpoints"][1]["trained_on"]} == {
        ("frames", "labeled source"),
        ("phone", "unlabeled target"),
        ("frames", "trained on"),
    }


@pytest.mark.parametrize("name", ["extractor", "ft", "clrnet"])
def test_the_maps_explain_the_score(runs, name):
    """Their mean is the logit without its biases; BP-DANN's is its gradient times its features."""
    detector = detect.Detector(runs[name], None, torch.device("cpu"))
    rng, size = np.random.default_rng(0), detector.image_size
    crops = rng.integers(0, 256, (2, detector.frames, size, size, 3), np.uint8)
    maps = detector.activation_maps(crops)
    assert maps.shape == (2, detector.frames, size, size) and maps.std() > 0
    clips = torch.from_numpy(crops).permute(0, 1, 4, 2, 3)
    means = detector.maps(clips).mean((1, 2, 3)).numpy()
    if name == "ft":
        features = detector.below.features(clips).detach().requires_grad_()
        logits = detector.net(features)
        (logits[:, 1] - logits[:, 0]).sum().backward()
        expected = (features.grad * features).sum(1).detach().numpy()
    else:
        bias = (detector.net.head.bias[1] - detector.net.head.bias[0]).item()
        expected = detector.score(crops)[:, 0] - bias
    assert np.allclose(means, expected, rtol=1e-3, atol=1e-4)


def test_what_has_no_face_or_cannot_be_read_is_never_a_number(extractor, video, tmp_path):
    folder, out = tmp_path / "downloads", tmp_path / "v"
    (folder / "deeper").mkdir(parents=True)
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=160x120:duration=1", folder / "chart.mp4")
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "notes.txt").write_text("left alone")
    shutil.copy(video, folder / "deeper" / "$x^{_.mp4")
    shutil.copy(video, os.fsencode(folder) + b"/\xff\xfe \n.mp4")
    gone = tmp_path / "gone.mp4"
    result, said = judge(f"{folder} {gone} --checkpoint {extractor} --out {out}")
    verdicts = by_name(result)
    assert len(verdicts) == 6
    unreadable = dict.fromkeys(("text.mp4", "empty.mkv", "gone.mp4"), "unreadable")
    expected = {"chart.mp4": "no face found", **unreadable}
    for name, verdict in expected.items():
        entry = verdicts.pop(name)
        assert entry["verdict"] == verdict and entry["reason"] and entry["people"] == []
        assert "picture" not in entry and f"{name}: {verdict.upper()} (" in said
        (line,) = [line for line in said.splitlines() if f"{name}: " in line]
        assert "P(fake)" not in line
    assert {entry["verdict"] for entry in verdicts.values()} <= {"real", "fake"}
    assert len(list(out.glob("*.png"))) == 2
    assert "Traceback" not in said and "Warning" not in said
    rows = [row for row in rows_of(out / "verdicts.csv") if row["verdict"] in expected.values()]
    assert len(rows) == 4 and all(row["reason"] for row in rows)
    assert {(row["score"], row["threshold"], row["faces"]) for row in rows} == {("", "", "0")}
    assert "6 videos: " in said and "3 unreadable" in said and "1 no face found" in said
    page = read_page(out / "index.html")
    scores = [repr(person["score"]) for v in verdicts.values() for person in v["people"]]
    assert [row["score"] for row in page.rows] == scores
    assert [row["name"] for row in page.rows] == [*map(common.printable, verdicts)]
    assert page.links == {v["picture"] for v in verdicts.values()}
    assert {row["name"] for row in page.others} == set(expected)
    assert all(v["reason"] in page.text for v in result["videos"] if "reason" in v)


@pytest.mark.slow
def test_two_people_are_followed_apart(extractor, videos, tmp_path):
    """Two videos side by side: two people, each with nearly the box that it has alone."""
    (a, b), both = list(videos.values())[:2], tmp_path / "both.mp4"
    ffmpeg("-i", a, "-i", b, "-filter_complex", "hstack", "-crf", "12", both)
    result, said = judge(f"{a} {b} {both} --checkpoint {extractor} --out {tmp_path}/v")
    *alone, people = [video["people"] for video in result["videos"]]
    assert [p["faces"] for p in people] == [4, 4] and result["videos"][2]["left_out"] == 0
    assert "both.mp4, person 1 of 2: " in said and "both.mp4, person 2 of 2: " in said
    people.sort(key=lambda p: p["by"][0]["samples"][0]["box"][0])
    for person, (other,), shift in zip(people, alone, (0, 320)):
        for one, two in zip(person["by"][0]["samples"], other["by"][0]["samples"]):
            moved = np.array(one["box"]) - np.array(two["box"]) - [shift, 0, shift, 0]
            assert one["frame"] == two["frame"] and np.abs(moved).max() < 25


def test_a_false_find_gets_no_verdict(extractor, video, tmp_path, monkeypatch):
    """Neither in a turned video, which is judged turned, nor where it is the only face."""
    ffmpeg("-i", video, "-vf", "transpose=1", "-crf", 12, tmp_path / "turned.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=200x300:duration=2", tmp_path / "chart.mp4")
    content = load_checkpoint(extractor, "02")
    content["data"][0]["extraction"]["num_frames"] = 30
    save_checkpoint(tmp_path / "m.pt", **content)
    all_faces = detect.all_faces
    finds = []

    def one_false_find(image):
        """In one of the frames that are higher than wide, and no face in the others."""
        if image.shape[0] < image.shape[1]:
            return all_faces(image)
        finds.append([] if finds else [(0, 0, 50, 50)])
        return finds[-1]

    monkeypatch.setattr(detect, "all_faces", one_false_find)
    for name in ("turned.mp4", "chart.mp4"):
        finds.clear()
        check = f"{tmp_path}/{name} --checkpoint {tmp_path}/m.pt --out {tmp_path}/v"
        (result,) = judge(check)[0]["videos"]
        assert sum(map(len, finds)) == 1
        if name == "turned.mp4":
            (person,) = result["people"]
            assert result["turned"] == 270 and person["faces"] >= 8
            assert min(s["box"][0] for s in person["by"][0]["samples"]) > 0
        else:
            assert result["verdict"] == "no face found" and not result["people"]
            assert result["reason"] == "a face in 1 of 30 frames or clips, upright or turned"


def test_who_is_who():
    """People are told apart by place and size, and everybody is in a frame once."""
    last, left, right = [], (0, 0, 100, 100), (300, 0, 400, 100)
    assert detect.assign([left, right], last) == [0, 1]
    assert detect.assign([(310, 5, 412, 107), (20, 10, 120, 110)], last) == [1, 0]
    assert detect.assign([(20, 10, 320, 310)], last) == [2], "three times as large"
    assert detect.assign([(700, 0, 800, 100), (25, 10, 125, 110)], last) == [3, 0]
    assert detect.box_distance(left, left) == 0
    assert detect.box_distance(left, (100, 0, 200, 100)) == 1
    assert detect.box_distance(left, (0, 0, 201, 201)) == math.inf


box = st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(20, 300))


@given(st.lists(st.lists(box, max_size=5), max_size=8))
def test_nobody_is_twice_in_a_frame(frames):
    last = []
    for boxes in frames:
        boxes = [(x, y, x + side, y + side) for x, y, side in boxes]
        before = len(last)
        persons = detect.assign(boxes, last)
        assert len(set(persons)) == len(boxes)
        assert all(last[p] == box for p, box in zip(persons, boxes))
        assert len(last) == before + sum(p >= before for p in persons)


# ---------------------------------------------------------------- checkpoints


def test_the_extractor_is_found_or_named(runs, video, tmp_path):
    """A checkpoint of 04 names its extractor; where that is gone, --extractor gives it."""
    content = load_checkpoint(runs["ft"], "04")
    record = dict(path=str(runs["extractor"]), sha256=sha256(runs["extractor"]))
    assert content["extractor"] == record
    moved = tmp_path / "moved.pt"
    save_checkpoint(moved, **content | dict(extractor=record | dict(path=str(tmp_path / "gone"))))
    check, out = f"{video} --checkpoint {moved}", f"--out {tmp_path}/v"
    assert "gone, which made the features of" in judge(f"{check} {out}", fails=True)
    assert "P(fake)" in judge(f"{check} --extractor {runs['extractor']} {out}")[1]
    said = judge(f"{check} --extractor {runs['clrnet']} {out}", fails=True)
    assert "is not the extractor that made" in said
    # As if trained in project/, and used from another folder.
    (tmp_path / "project/runs/ft").mkdir(parents=True)
    shutil.copy(runs["extractor"], tmp_path / "project/runs/ex.pt")
    relative = tmp_path / "project/runs/ft/model.pt"
    save_checkpoint(relative, **content | dict(extractor=record | dict(path="runs/ex.pt")))
    assert "P(fake)" in judge(f"{video} --checkpoint {relative} {out}")[1]
    for odd in (None, 3, {}, [1]):
        save_checkpoint(moved, **content | dict(extractor=odd))
        assert "does not say which extractor" in judge(f"{check} {out}", fails=True)
    said = judge(f"{check} --extractor {runs['ft']} {out}", fails=True)
    assert "one of stage 02 or 05 is needed" in said


def test_a_checkpoint_that_was_never_trained(video, tmp_path):
    """05 --epochs 0 has no data and no validation: the output says so, and the threshold is 0.5."""
    flags = f"--strategy single --epochs 0 --out {tmp_path}/r".split()
    run("05_train_clrnet.py", *flags, *SMALL_CLRNET)
    check = f"{video} --checkpoint {tmp_path}/r/model.pt --out {tmp_path}/v"
    result, said = judge(check)
    (about,) = result["checkpoints"]
    assert about["threshold"] == 0.5 and not about["calibrated"]
    assert about["validation"] is None and not about["demonstration"] and WARNING not in said
    text = "its training data are not recorded; not validated; threshold 0.500 (not calibrated"
    assert text in said


def recorded(**flags):
    return dict(data=[dict(set="x", role="y", extraction=flags)])


BAND = dict(videos=61, reals=41, fakes=20, auc=0.9, eer=0.125, threshold=0.5)
BAND |= dict(real_below=0.4, fake_from=0.6, missed_fakes=0.05, false_alarms=2 / 41)
ODD = [
    dict(data=3),
    dict(data=[{}]),
    recorded(sampling="frames", num_frames="many"),
    recorded(sampling="frames", num_frames=0),
    recorded(sampling="clips", clip_length=10**9),
    recorded(sampling="frames", align="nose"),
    recorded(sampling="frames", size="large"),
    recorded(sampling="frames", scale=math.nan),
    recorded(sampling=["frames"]),
    dict(validation=7),
    dict(validation=dict(threshold="half")),
    dict(validation=BAND | dict(fake_from="high")),
    dict(validation=BAND | dict(false_alarms=math.inf)),
    dict(validation={key: BAND[key] for key in BAND if key != "missed_fakes"}),
    dict(kwargs={}),
    dict(model={}),
]


@pytest.mark.parametrize("change", ODD)
def test_an_odd_checkpoint_is_one_line(extractor, video, tmp_path, change):
    odd = tmp_path / "odd.pt"
    save_checkpoint(odd, **load_checkpoint(extractor, "02") | change)
    assert "odd.pt" in judge(f"{video} --checkpoint {odd} --out {tmp_path}/v", fails=True)


@pytest.mark.parametrize(
    "record, frames",
    [
        (dict(sampling="frames", num_frames=7), 7),
        (dict(sampling="frames", num_frames=7000), 1000),
        (dict(sampling="frames", num_frames=10**12, num_frames_real=10**30), 1000),
        (dict(sampling="clips", num_clips=1_000_000), 1000),
        (dict(sampling="clips", num_clips=3, clip_length=300), 900),
        (dict(sampling="clips", num_clips=3, clip_length=600), 600),
    ],
)
def test_a_network_of_all_frames_is_given_a_thousand(record, frames):
    how = detect.find_extraction(record, 1, 64)
    assert how["count"] * how["length"] == frames


def test_errors(extractor, video, tmp_path):
    check, out = f"{video} --checkpoint {extractor}", f"--out {tmp_path}/v"
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for command, says in {
        f"{tmp_path}/empty --checkpoint {extractor} {out}": "holds no videos",
        f"{video} --checkpoint {tmp_path}/file {out}": "not a checkpoint of this project",
        f"{video} --checkpoint {tmp_path}/none {out}": "no checkpoint",
        f"{check} --out {tmp_path}/file/v": "cannot make the output folder",
        f"{check} {out} --workers 0": "--workers",
    }.items():
        assert says in judge(command, fails=True)


# ---------------------------------------------------------------- inputs and outputs


def test_no_picture_replaces_a_photo(extractor, photo, tmp_path):
    """Run again, a folder gives the same verdicts: pictures of the first run are not judged."""
    shutil.copy(photo, tmp_path)
    check = f"--checkpoint {extractor} --out"
    for place, out in ((tmp_path / "biden.png", tmp_path), (tmp_path, tmp_path / "verdicts")):
        _, first = judge(f"{place} {check} {out}")
        assert (out / "biden.verdict.png").read_bytes().startswith(b"\x89PNG")
        (out / "biden.verdict.png").rename(out / "BIDEN.VERDICT.PNG")
        _, again = judge(f"{tmp_path} {check} {out}")
        assert "1 file: 1 " in first and "1 file: 1 " in again
        assert "left out, as pictures of earlier verdicts: " in again
        assert (tmp_path / "biden.png").read_bytes() == photo.read_bytes()
    # A photo of this name is not a picture of 07.
    shutil.copy(photo, tmp_path / "biden.verdict.png")
    assert "would replace the input" in judge(f"{tmp_path} {check} {tmp_path}", fails=True)
    assert (tmp_path / "biden.verdict.png").read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("name", ["index.html", "verdicts.csv", "verdicts.json", "link", "hard"])
def test_no_table_replaces_an_input(extractor, photo, tmp_path, name):
    file = tmp_path / name
    if name == "link":
        (tmp_path / "verdicts.csv").symlink_to(file)
    for source, command in (
        (photo, f"{file} --checkpoint {extractor}"),
        (extractor, f"{photo} --checkpoint {file}"),
        (extractor, f"{photo} --checkpoint {extractor} --extractor {file}"),
    ):
        shutil.copy(source, file)
        if name == "hard" and not (tmp_path / "index.html").exists():
            os.link(file, tmp_path / "index.html")
        said = judge(f"{command} --out {tmp_path}", fails=True)
        assert f"would replace the input {file}" in said
        assert file.read_bytes() == source.read_bytes()
    hidden = tmp_path / ".part-index.html"
    shutil.copy(photo, hidden)
    assert "would replace" in judge(
        f"{hidden} --checkpoint {extractor} --out {tmp_path}", fails=True
    )
    assert hidden.read_bytes() == photo.read_bytes()


def test_nothing_is_written_among_ready_crops(extractor, photo, tmp_path):
    crops = tmp_path / "crops"
    crops.mkdir()
    shutil.copy(photo, crops / "0.png")
    check = f"{tmp_path} --ready-crops --checkpoint {extractor} --out"
    assert "would replace" in judge(f"{check} {crops}", fails=True)
    for _ in range(2):
        assert "1 video: 1 " in judge(f"{check} {tmp_path}/verdicts")[1]
    assert os.listdir(crops) == ["0.png"]


def test_a_worker_that_dies_costs_its_video_alone(extractor, photo, video, tmp_path, monkeypatch):
    """The file is named, and all others have their verdict."""
    for name in ("a.mp4", "deadly.mp4", "deadly too.mp4", "z.mp4"):
        shutil.copy(video, tmp_path / name)
    shutil.copy(photo, tmp_path)
    # In place of ffmpeg: it kills the worker that starts it.
    program = tmp_path / "ffmpeg"
    kill = 'case "$*" in *deadly*) kill -9 $PPID;; esac'
    program.write_text(f'#!/bin/sh\n{kill}\nexec {imageio_ffmpeg.get_ffmpeg_exe()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    flags = f"--checkpoint {extractor} --workers 2 --device cpu --out {tmp_path}/v".split()
    said = run("07_detect.py", tmp_path, *flags)
    verdicts = {
        name: (entry["verdict"], entry.get("reason"))
        for name, entry in by_name(json.loads((tmp_path / "v/verdicts.json").read_text())).items()
    }
    assert [*verdicts] == ["a.mp4", "biden.png", "deadly too.mp4", "deadly.mp4", "z.mp4"]
    died = ("unreadable", "the process that looked for faces in it died, perhaps out of memory")
    assert verdicts["deadly.mp4"] == verdicts["deadly too.mp4"] == died
    assert {verdicts[name][0] for name in ("a.mp4", "biden.png", "z.mp4")} <= {"fake", "real"}
    assert "deadly.mp4: UNREADABLE (the process that" in said and "5 files: " in said
    assert len(rows_of(tmp_path / "v/verdicts.csv")) == 5


def test_what_is_done_is_kept_when_a_run_ends_early(extractor, photo, tmp_path, monkeypatch):
    shutil.copy(photo, tmp_path / "a.png")
    shutil.copy(photo, tmp_path / "b.png")
    judge_video = detect.judge_video

    def judge_or_stop(video, *args):
        if video["name"] == "b":
            raise KeyboardInterrupt
        return judge_video(video, *args)

    monkeypatch.setattr(detect, "judge_video", judge_or_stop)
    with pytest.raises(KeyboardInterrupt):
        judge(f"{tmp_path} --checkpoint {extractor} --out {tmp_path}/v")
    (row,) = rows_of(tmp_path / "v/verdicts.csv")
    assert row["video"] == str(tmp_path / "a.png")
    assert [row["name"] for row in read_page(tmp_path / "v/index.html").rows] == ["a.png"]


def test_names_cannot_write_to_the_terminal_or_be_formulas(extractor, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=cmd|x!A0.png", "+1.png", "-1.png", "@a.png", "\x1b[2J\x07\x9b31m.png", "\t=1.png"]
    for name in names:
        shutil.copy(photo, name)
    content = load_checkpoint(extractor, "02")
    content["data"][0]["set"] = "\x1b[31mset\x9b"
    save_checkpoint("=\x1b.pt", **content)
    _, said = judge(". --checkpoint '=\x1b.pt' --out 'v\x1b'")
    assert [c for c in said if not c.isprintable() and c != "\n"] == []
    assert "\\x1b[2J\\x07\\x9b31m.png: " in said and "\\x1b[31mset\\x9b" in said
    rows = rows_of("v\x1b/verdicts.csv")
    expected = {f"./{name}" for name in names[:4]} | {"\\x1b[2J\\x07\\x9b31m.png", "\\t=1.png"}
    assert {row["video"] for row in rows} == expected
    assert {row["checkpoint"] for row in rows} == {"./=\\x1b.pt"}
    assert "no checkpoint \\x1b[2J" in judge(". --checkpoint '\x1b[2J' --out v", fails=True)


# ---------------------------------------------------------------- index.html


class Page(HTMLParser):
    """What index.html shows, and a check that everything on it is the project's own."""

    TAGS = set(
        "html meta title style h1 h2 p ul li form label input table thead tbody tr th td button "
        "span small b a img bdi svg rect circle line script".split()
    )
    VOID = {"meta", "input", "img", "rect", "circle", "line"}

    def __init__(self, text):
        super().__init__()
        self.text, self.rows, self.others, self.links = "", [], [], set()
        self.open, self.found, self.policy, self.hashes = [], [], "", {}
        self.is_name = False
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in self.TAGS, tag
        self.found.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attributes)
        assert not [name for name in values if name.startswith("on") or name in ("style", "srcset")]
        if tag == "meta" and values.get("http-equiv"):
            assert self.found == ["html", "meta", "meta"], "before anything that it forbids"
            self.policy = values["content"]
        if tag == "tr" and "data-verdict" in values:
            self.rows.append(dict(name="", verdict=values["data-verdict"]))
        if values.get("class") == "file" and "h2" in self.found:
            self.others.append(dict(name=""))
        if tag == "td" and "data-key" in values:
            self.rows[-1][values["class"]] = values["data-key"]
        if tag == "a":
            assert ":" not in values["href"] and "/" not in values["href"]
            self.links.add(unquote(values["href"]))
        if tag == "img":
            assert values["src"].startswith("data:image/jpeg;base64,")
            self.rows[-1]["face"] = base64.b64decode(values["src"].split(",")[1])
        self.is_name = tag == "bdi" and values.get("class") == "name"

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag
        self.is_name = False

    def handle_data(self, text):
        if self.open and self.open[-1] in ("style", "script"):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            self.hashes[self.open[-1]] = f"'sha256-{digest}'"
            return
        self.text += text
        if self.is_name:
            part = self.others if "h2" in self.found else self.rows
            part[-1]["name"] += text


def read_page(path):
    page = Page(path.read_text(encoding="utf-8"))
    allowed = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert allowed["img-src"] == "data:"
    for kind in ("style", "script"):
        assert page.found.count(kind) == 1 and allowed[f"{kind}-src"] == page.hashes[kind]
    return page


HOSTILE = [
    "a \"quoted\" 'name'.mp4",
    "<script>alert(1)<\u2215script>.mp4",
    "</script><script>alert(1)</script>.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "\u202egpj.exe\u2066.mp4",
    "\u05e9\u05dc\u05d5\u05dd.mp4",
    "&lt;&amp;&#60;.mp4",
    "line\nbreak.mp4",
    "\udcff.mp4",
    "javascript:alert(1)",
    "--><!--.mp4",
    "$style $rows.mp4",
]


def made_up(path, scores, picture="x.png", **more):
    """A result as `judge_video` returns it, with one person for each of the scores."""
    limits = dict(threshold=0.5, real_below=0.5, fake_from=0.5)
    people = [
        dict(person=k, score=s, verdict="fake" if s >= 0.5 else "real", faces=k, **limits)
        | dict(by=[dict(checkpoint="m.pt", score=s, verdict="x", **limits)], without=[])
        for k, s in enumerate(scores, 1)
    ]
    return dict(path=path, demonstration=False, people=people, picture=picture, **more)


def write_made_up(path, results):
    faces = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    rows = [
        pages.verdict_rows(result, [[(0, 0, (0, 0, 9, 9), faces)] for _ in result["people"]])
        for result in results
    ]
    data = [dict(set="<i>x</i>", role="trained on")]
    detector = SimpleNamespace(path="<b>m</b>.pt", data=data, validation=None)
    detector.thresholds, detector.calibrated = metrics.thresholds(None), False
    pages.write_verdict_page(path, rows, results, [detector])
    page = read_page(path)
    assert "<b>m</b>.pt: trained on <i>x</i>; not validated; threshold 0.500 (not" in page.text
    return page


def test_names_can_do_nothing_on_the_page(tmp_path):
    results = [made_up(f"/<b>/{name}".replace("</", "<\u2215"), [0.25, 0.75]) for name in HOSTILE]
    odd = dict(verdict="<u>odd</u>", reason="<script>alert(2)</script>")
    results += [made_up(name, [], **odd) for name in HOSTILE]
    page = write_made_up(tmp_path / "index.html", results)
    names = [common.printable(os.path.basename(r["path"])) for r in results]
    assert [row["name"] for row in page.rows[::2]] == names[: len(HOSTILE)]
    assert [row["name"] for row in page.others] == names[len(HOSTILE) :]
    assert "\u202e" not in page.text and "\\u202egpj" in page.text
    assert odd["verdict"] in page.text and odd["reason"] in page.text
    assert [row["score"] for row in page.rows[:2]] == ["0.25", "0.75"]
    assert [row["verdict"] for row in page.rows[:2]] == ["real", "fake"]
    assert [row["faces"] for row in page.rows[:2]] == ["1", "2"]
    assert all(row["face"].startswith(b"\xff\xd8") for row in page.rows)
    assert "all (24)" in page.text and "fake (12)" in page.text and "real (12)" in page.text
    assert "Without a verdict (12)" in page.text


@given(st.text(min_size=1))
def test_any_name_is_shown_as_it_is_printed(name):
    cell = pages.file_cell(dict(path=name, demonstration=False), "", "x.png")
    shown = []
    parser = HTMLParser()
    parser.handle_data = shown.append
    parser.feed(f"<table>{cell}</table>")
    parser.close()
    folder, base = os.path.split(name)
    assert "".join(shown) == common.printable(base) + common.printable(folder)


def test_a_page_of_500_files(tmp_path):
    """Its size is that of its faces, and a verdict of another kind gets a filter of its own."""
    results = [made_up(f"{k}.mp4", [k / 500], f"{k}.png", turned=90) for k in range(500)]
    results[0]["people"][0]["verdict"] = "unsure"
    for result in results[1:3]:
        result["people"][0]["without"] = ["clip.pt"]
    results[1]["needs_video"] = ["clip.pt"]
    page = write_made_up(tmp_path / "index.html", results)
    assert len(page.rows) == 500 and len(page.links) == 500 and not page.others
    assert "unsure (1)" in page.text and "turned by 90 degrees" in page.text
    assert page.text.count("needs a video: clip.pt") == 1
    assert page.text.count("no score, as no complete clip shows this face: clip.pt") == 1
    size = sum(len(row["face"]) for row in page.rows) * 4 / 3
    assert (tmp_path / "index.html").stat().st_size < size + 500 * 1500 + 10_000
    nothing = write_made_up(tmp_path / "index.html", [made_up("x", [], verdict="v", reason="r")])
    assert not nothing.rows and [row["name"] for row in nothing.others] == ["x"]


# ---------------------------------------------------------------- thresholds


def test_the_threshold_of_known_scores():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    for scores, threshold in (
        ((0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9), 0.5),
        # One of four is wrong in each class.
        ((0.1, 0.2, 0.3, 0.7, 0.4, 0.7, 0.8, 0.9), 0.55),
    ):
        assert metrics.eer_threshold(labels, np.array(scores)) == pytest.approx(threshold)
    assert math.isnan(metrics.eer_threshold(np.ones(3, int), np.array([0.1, 0.2, 0.3])))
    assert metrics.eer_threshold(np.array([0, 1]), np.array([0.3, 0.3])) == 0.3
    logits = [math.log(p / (1 - p)) for p in (0.1, 0.3, 0.8, 0.4, 0.6)]
    found = metrics.validate(["a", "a", "b", "c", ("s", "d")], np.array([0, 0, 1, 0, 1]), logits)
    unknown = [found.pop(key) for key in ("real_below", "fake_from")]
    counts = dict(videos=4, reals=2, fakes=2)
    rates = dict(auc=1.0, eer=0.0, missed_fakes=0.0, false_alarms=0.0)
    assert found == counts | rates | dict(threshold=pytest.approx(0.5)) and np.isnan(unknown).all()
    assert metrics.validate([], np.zeros(0), []) is None


def validation_of(reals, fakes):
    """What a checkpoint keeps of validation videos with these scores."""
    scores = np.array([*reals, *fakes])
    labels = np.repeat([0, 1], [len(reals), len(fakes)])
    return metrics.validate(range(len(scores)), labels, np.log(scores / (1 - scores)))


def test_the_band_of_known_scores():
    """5 % of 40 reals are two, at 0.39 and 0.40; 5 % of 20 fakes are one, at 0.30."""
    reals, fakes = np.arange(1, 41) / 100, np.arange(30, 50) / 100
    found = validation_of(reals, fakes)
    band = dict(real_below=0.305, fake_from=0.385)
    rates = dict(reals=40, fakes=20, missed_fakes=0.05, false_alarms=0.05)
    assert {key: found[key] for key in band | rates} == pytest.approx(band | rates)
    limits = metrics.thresholds(found)
    assert limits == pytest.approx(band | dict(threshold=found["threshold"]))
    for score, verdict in ((0.3, "real"), (0.31, "uncertain"), (0.38, "uncertain"), (0.39, "fake")):
        assert metrics.verdict_of(limits | dict(score=score)) == verdict
    for name, verdict in dict(real_below="uncertain", fake_from="fake").items():
        assert metrics.verdict_of(limits | dict(score=limits[name])) == verdict, "the lower end"

    apart = validation_of(reals, fakes + 0.4)
    assert [apart[key] for key in ("fake_from", "real_below")] == pytest.approx([0.385, 0.705])
    assert apart["missed_fakes"] == apart["false_alarms"] == 0
    few = validation_of(reals, fakes[:19])
    assert math.isnan(few["real_below"]) and math.isnan(few["fake_from"]) and few["fakes"] == 19
    assert few["false_alarms"] == np.mean(reals >= few["threshold"])
    before = {key: found[key] for key in ("videos", "auc", "eer", "threshold")}
    for single in (apart, few, before):
        assert set(metrics.thresholds(single).values()) == {single["threshold"]}
        for shift, verdict in ((0, "fake"), (-1e-9, "real")):
            score = dict(score=single["threshold"] + shift)
            assert metrics.verdict_of(metrics.thresholds(single) | score) == verdict
    one_class = validation_of(reals, [])
    assert math.isnan(one_class["missed_fakes"]) and one_class["false_alarms"] == 0
    assert metrics.thresholds(one_class)["fake_from"] == 0.5


sizes = st.integers(20, 90)


@given(sizes, sizes, st.integers(0, 99))
def test_at_most_5_percent_are_beyond_the_band(count_real, count_fake, seed):
    rng = np.random.default_rng(seed)
    reals, fakes = rng.uniform(0.1, 0.7, count_real), rng.uniform(0.4, 0.9, count_fake)
    found = validation_of(reals, fakes)
    below, above = np.sum(fakes < found["real_below"]), np.sum(reals >= found["fake_from"])
    assert (below, above) == (count_fake // 20, count_real // 20)
    rates = (found["missed_fakes"], found["false_alarms"])
    crossed = found["real_below"] >= found["fake_from"]
    assert crossed or rates == (below / count_fake, above / count_real)


def test_a_score_in_the_band_is_uncertain(extractor, video, tmp_path):
    """Alone, and together with a checkpoint of one threshold, which counts as both ends."""
    content, runs = load_checkpoint(extractor, "02"), tmp_path / "runs"
    runs.mkdir()
    check = f"{video} --out {tmp_path}/v --checkpoint"
    score = judge(f"{check} {extractor}")[0]["videos"][0]["people"][0]["score"]
    low, high = score / 2, (1 + score) / 2
    band = BAND | dict(threshold=score, real_below=low, fake_from=high)
    save_checkpoint(runs / "band.pt", **content | dict(validation=band))
    before = {key: band[key] for key in ("videos", "auc", "eer", "threshold")}
    save_checkpoint(runs / "before.pt", **content | dict(validation=before))

    result, said = judge(f"{check} {runs}/band.pt {runs}/before.pt")
    (video_result,), (of_band, of_before) = result["videos"], result["checkpoints"]
    (person,) = video_result["people"]
    assert [one["verdict"] for one in person["by"]] == ["uncertain", "fake"]
    assert (of_band["real_below"], of_band["fake_from"]) == (low, high)
    assert of_band["validation"] == band and of_before["fake_from"] == score
    assert person["real_below"] == pytest.approx((low + score) / 2)
    assert person["fake_from"] == pytest.approx((score + high) / 2)
    assert person["verdict"] == video_result["verdict"] == "uncertain"
    assert ": UNCERTAIN, P(fake) " in said and "1 video: 1 uncertain" in said
    assert "calls 5.0 % of 20 fakes real, and 4.9 % of 41 reals fake" in said
    rows = rows_of(tmp_path / "v/verdicts.csv")
    assert [row["verdict"] for row in rows] == ["uncertain", "fake", "uncertain"]
    assert [row["missed_fakes"] for row in rows] == ["0.05", "", ""]
    assert [row["false_alarms"] for row in rows] == [repr(2 / 41), "", ""]
    assert (rows[0]["real_below"], rows[0]["fake_from"]) == (repr(low), repr(high))
    page = read_page(tmp_path / "v/index.html")
    assert [row["verdict"] for row in page.rows] == ["uncertain"]
    assert "uncertain (1)" in page.text and page.found.count("line") == 2
    assert "(real below " in limits_text(person) and limits_text(person) in page.text


@pytest.mark.parametrize(
    "verdicts, verdict",
    [
        (["real", "uncertain", "fake"], "fake"),
        (["uncertain", "real"], "uncertain"),
        (["real", "real"], "real"),
    ],
)
def test_a_video_is_as_its_worst_person(tmp_path, monkeypatch, verdicts, verdict):
    people = dict(people=[[]] * len(verdicts), left_out=0, turned=0, too_short=[])
    verdict_of = iter(verdicts)
    monkeypatch.setattr(detect, "judge", lambda *_: dict(verdict=next(verdict_of)))
    monkeypatch.setattr(detect, "draw_verdict", lambda *_: None)
    video = dict(path="x.mp4", name="x")
    assert detect.judge_video(video, people, [], [], tmp_path)["verdict"] == verdict


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=40))
def test_no_threshold_is_nearer_to_equal_error_rates(pairs):
    labels, scores = np.array([y for y, _ in pairs]), np.array([s / 9 for _, s in pairs])
    if len(set(labels)) < 2 or len(set(scores)) < 2:
        return

    def gap(threshold):
        missed = (scores[labels == 1] < threshold).mean()
        return abs((scores[labels == 0] >= threshold).mean() - missed)

    between = (np.unique(scores)[1:] + np.unique(scores)[:-1]) / 2
    assert gap(metrics.eer_threshold(labels, scores)) == pytest.approx(min(map(gap, between)))


@pytest.mark.slow
def test_real_clips(runs, tmp_path):
    """All clips, also broken ones: one verdict per file, and a face in all twelve sound ones."""
    data = shared("data")
    places = " ".join(str(data / name) for name in ("ffpp", "dfdc", "folders", "broken"))
    both = f"{runs['extractor']} {runs['clrnet']}"
    result, said = judge(f"{places} --checkpoint {both} --out {tmp_path}/v")
    verdicts = {name: entry["verdict"] for name, entry in by_name(result).items()}
    broken = {"audio_only.mp4", "text.mp4", "trunc_moovend_50.mp4", "zero.mp4"}
    assert {name for name, verdict in verdicts.items() if verdict == "unreadable"} == broken
    sound = [os.path.basename(row["path"]) for row in rows_of(data / "videos.csv")]
    assert {verdicts[name] for name in sound} <= {"real", "fake"}
    with_faces = sum(verdict in ("real", "fake") for verdict in verdicts.values())
    assert "Traceback" not in said and len(list((tmp_path / "v").glob("*.png"))) == with_faces

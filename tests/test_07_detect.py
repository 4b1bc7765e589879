"""Stage 07: the same faces and scores as in earlier stages, people told apart, honest verdicts.

A video without a face, or one that cannot be read, never gets a number.
"""

import base64
import json
import math
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from conftest import SMALL_CLRNET, judge, rows_of, run, shared, stage
from hostile import ffmpeg
from hypothesis import given
from hypothesis import strategies as st

import common
from reporting import metrics
from reporting.verdict import page_rows, score_line, write_verdict_page
from running.folder import sha256
from running.run import load_checkpoint, save_checkpoint

detect = stage("07_detect")
WARNING = "DEMONSTRATION: trained on generated videos"


def by_name(result):
    return {os.path.basename(video["path"]): video for video in result["videos"]}


def read_verdicts(folder):
    return rows_of(folder / "verdicts.csv")


@pytest.fixture(scope="module")
def runs(small, extractor, features):
    """A checkpoint of each stage by name, and the folder of the scores of 04 and 05."""
    folder, clips = small / "runs07", small / "faces/clips"
    run(
        f"04_train_bpdann.py --source {features}/frames --target {features}/phone --epochs 20 "
        f"--test {features}/frames --batch 8 --device cpu --precision fp32 --out {folder}/ft "
        f"--scores {folder}/scores/ft"
    )
    run(
        f"05_train_clrnet.py --strategy single --source {clips} --epochs 3 --test {clips} "
        f"--out {folder}/clrnet --scores {folder}/scores/clrnet {SMALL_CLRNET}"
    )
    ft, clrnet = folder / "ft/phone/model.pt", folder / "clrnet/model.pt"
    return dict(extractor=extractor, ft=ft, clrnet=clrnet, scores=folder / "scores")


@pytest.fixture(scope="module")
def videos(small):
    """Test videos of the Deepfakes set in the studio condition: {name in the index: file}."""
    rows = rows_of(small / "faces/frames/index.csv")
    names = {row["video"] for row in rows if row["split"] == "test"}
    files = (small / "videos/studio").glob("*/[yD]*/c23/videos/*.mp4")
    files = {f"{path.parts[-4]}_{path.stem}": path for path in files}
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
        kind = "fake" if person["score"] >= person["threshold"] else "real"
        assert person["verdict"] == video["verdict"] == kind
        assert said.count(f"{video['path']}: {kind.upper()}, P(fake)") == 1
        assert (out / video["picture"]).read_bytes().startswith(b"\x89PNG")
    assert said.count(WARNING) == len(videos), "a warning with every verdict"
    rows = read_verdicts(out)
    assert len(rows) == len(videos) * 4 and {row["demonstration"] for row in rows} == {"1"}
    assert {row["checkpoint"] for row in rows} == {*tables, "mean"}
    for about in result["checkpoints"]:
        assert about["demonstration"] and about["calibrated"]
        assert about["validation"]["videos"] == 4 and about["validation"]["auc"] is not None
        assert about["validation"]["reals"] == about["validation"]["fakes"] == 2
        assert about["real_below"] == about["fake_from"] == about["threshold"]
    assert said.count("no verdict is uncertain: thresholds that cross, or fewer than 20") == 3
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
    rows = [row for row in read_verdicts(out) if row["verdict"] in expected.values()]
    assert len(rows) == 4 and all(row["reason"] for row in rows)
    assert {(row["score"], row["threshold"], row["faces"]) for row in rows} == {("", "", "0")}
    assert "3 unreadable" in said and "1 no face found" in said
    page = read_page(out / "index.html")
    scores = [person["score"] for v in verdicts.values() for person in v["people"]]
    shown = [row for row in page.rows if row["kind"]]
    assert [row["value"] for row in shown] == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
    assert {row["lines"][0] for row in shown} == {*map(common.printable, verdicts)}
    assert page.links == {v["picture"] for v in verdicts.values()}
    assert {row["lines"][0] for row in page.rows if not row["kind"]} == set(expected)
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


def test_the_extractor_is_found_or_named(runs, tmp_path):
    """A checkpoint of 04 names its extractor; where that is gone, --extractor gives it."""
    content, extractor = load_checkpoint(runs["ft"], "04"), runs["extractor"]
    record = dict(path=str(extractor), sha256=sha256(extractor))
    assert content["extractor"] == record
    gone = record | dict(path=str(tmp_path / "gone"))
    (tmp_path / "ft").mkdir()

    def load(record, extractor=None):
        save_checkpoint(tmp_path / "ft/model.pt", **content | dict(extractor=record))
        return detect.Detector(tmp_path / "ft/model.pt", extractor, torch.device("cpu"))

    for of_features, path, says in (
        (gone, None, "gone, which made the features of"),
        (gone, runs["clrnet"], "is not the extractor that made"),
        *((odd, None, "does not say which extractor") for odd in (None, 3, {}, [1])),
        (None, runs["ft"], "one of stage 02 or 05 is needed"),
    ):
        with pytest.raises(SystemExit, match=says):
            load(of_features, path)
    assert load(gone, extractor).below.path == extractor
    # As if trained in the folder above, and used from another one.
    shutil.copy(extractor, tmp_path / "ex.pt")
    assert load(record | dict(path="ex.pt")).below.path == tmp_path / "ex.pt"


def test_a_checkpoint_that_was_never_trained(video, tmp_path):
    """05 --epochs 0 has no data and no validation: the output says so, and the threshold is 0.5."""
    run(f"05_train_clrnet.py --strategy single --epochs 0 --out {tmp_path}/r {SMALL_CLRNET}")
    check = f"{video} --checkpoint {tmp_path}/r/model.pt --out {tmp_path}/v"
    result, said = judge(check)
    (about,) = result["checkpoints"]
    assert about["threshold"] == 0.5 and not about["calibrated"]
    assert about["validation"] is None and not about["demonstration"] and WARNING not in said
    assert "its training data are not recorded; takes 16 x 5 frames of a video; " in said
    assert "threshold 0.500; not calibrated: no validation videos" in said


BAND = dict(videos=61, reals=41, fakes=20, auc=0.9, eer=0.125, threshold=0.5)
BAND |= dict(real_below=0.4, fake_from=0.6, missed_fakes=0.05, false_alarms=2 / 41)


def test_an_odd_checkpoint_is_one_line(extractor, tmp_path):
    content, odd = load_checkpoint(extractor, "02"), tmp_path / "odd.pt"
    frames = dict(sampling="frames")
    records = [
        *(frames | dict(num_frames=count) for count in ("many", 0)),
        dict(sampling="clips", clip_length=10**9),
        *(frames | change for change in (dict(align="nose"), dict(size="x"), dict(scale=math.nan))),
        dict(sampling=["frames"]),
    ]
    validations = [7, dict(threshold="half"), BAND | dict(fake_from="high")]
    validations.append(BAND | dict(false_alarms=math.inf))
    validations.append({key: BAND[key] for key in BAND if key != "missed_fakes"})
    for change in (
        *(dict(data=data) for data in (3, [{}])),
        *(dict(data=[dict(set="x", role="y", extraction=flags)]) for flags in records),
        *(dict(validation=validation) for validation in validations),
        *(dict(kwargs={}), dict(model={})),
    ):
        save_checkpoint(odd, **content | change)
        with pytest.raises(SystemExit, match="odd.pt"):
            detect.Detector(odd, None, torch.device("cpu"))


@pytest.mark.parametrize(
    "record, frames",
    [
        (dict(sampling="frames", num_frames=7), 7),
        (dict(sampling="frames", num_frames=10**12, num_frames_real=10**30), 1000),
        (dict(sampling="clips", num_clips=1_000_000), 1000),
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
        assert "photos: 1;" in first and "photos: 1;" in again
        assert "left out, as pictures of earlier verdicts: " in again
        assert (tmp_path / "biden.png").read_bytes() == photo.read_bytes()
    # A photo of this name is judged where it is named itself, and never replaced.
    shutil.copy(photo, tmp_path / "biden.verdict.png")
    both = f"{tmp_path}/biden.png {tmp_path}/biden.verdict.png"
    assert "would replace the input" in judge(f"{both} {check} {tmp_path}", fails=True)
    assert (tmp_path / "biden.verdict.png").read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("name", ["index.html", "verdicts.csv", ".part-index.html", "link", "hard"])
def test_no_table_replaces_an_input(photo, tmp_path, name):
    file = tmp_path / name
    shutil.copy(photo, file)
    if name == "link":
        (tmp_path / "verdicts.csv").symlink_to(file)
    if name == "hard":
        os.link(file, tmp_path / "verdicts.json")
    for videos, inputs in (([file], []), ([photo], [file])):
        videos = [dict(path=path, name="x") for path in videos]
        with pytest.raises(SystemExit, match=f"would replace the input {file}"):
            detect.check_outputs(tmp_path, videos, inputs)


def test_inputs_of_the_command_are_not_replaced(extractor, photo, tmp_path):
    """Neither a checkpoint nor an extractor, nor a folder of ready crops."""
    shutil.copy(extractor, tmp_path / "index.html")
    checkpoint = f"{photo} --checkpoint {tmp_path}/index.html"
    both = f"{photo} --checkpoint {extractor} --extractor {tmp_path}/index.html"
    for line in (checkpoint, both):
        assert "would replace the input" in judge(f"{line} --out {tmp_path}", fails=True)
    crops = tmp_path / "crops"
    crops.mkdir()
    shutil.copy(photo, crops / "0.png")
    check = f"{tmp_path} --ready-crops --checkpoint {extractor} --out"
    assert "would replace" in judge(f"{check} {crops}", fails=True)
    for _ in range(2):
        assert "photos: 1;" in judge(f"{check} {tmp_path}/verdicts")[1]
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
    flags = f"--checkpoint {extractor} --workers 2 --device cpu --out {tmp_path}/v"
    said = run(f"07_detect.py {tmp_path} {flags}")
    verdicts = {
        name: (entry["verdict"], entry.get("reason"))
        for name, entry in by_name(json.loads((tmp_path / "v/verdicts.json").read_text())).items()
    }
    assert [*verdicts] == ["a.mp4", "biden.png", "deadly too.mp4", "deadly.mp4", "z.mp4"]
    died = ("unreadable", "the process that looked for faces in it died, perhaps out of memory")
    assert verdicts["deadly.mp4"] == verdicts["deadly too.mp4"] == died
    assert {verdicts[name][0] for name in ("a.mp4", "biden.png", "z.mp4")} <= {"fake", "real"}
    assert "deadly.mp4: UNREADABLE (the process that" in said and "2 unreadable" in said
    assert len(read_verdicts(tmp_path / "v")) == 5


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
    (row,) = read_verdicts(tmp_path / "v")
    assert row["video"] == str(tmp_path / "a.png")
    assert [row["lines"][0] for row in read_page(tmp_path / "v/index.html").rows] == ["a.png"]


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
    rows = read_verdicts(Path("v\x1b"))
    expected = {f"'{name}" for name in names[:4]} | {"\\x1b[2J\\x07\\x9b31m.png", "\\t=1.png"}
    assert {row["video"] for row in rows} == expected
    assert {row["checkpoint"] for row in rows} == {"'=\\x1b.pt"}
    assert "no checkpoint \\x1b[2J" in judge(". --checkpoint '\x1b[2J' --out v", fails=True)


# ---------------------------------------------------------------- index.html


class Page(HTMLParser):
    """What index.html shows, and a check that everything on it is the project's own."""

    TAGS = set("html meta title style h1 p ul li form label input table tbody tr td a div".split())
    VOID = {"meta", "input", "img", "meter"}

    def __init__(self, text):
        super().__init__()
        self.text, self.rows, self.links, self.open = "", [], set(), []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in self.TAGS | self.VOID, tag
        values = dict(attributes)
        assert not [name for name in values if name.startswith("on") or name in ("style", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(dict(kind=values["class"], lines=[]))
        if tag == "div":
            self.rows[-1]["lines"].append("")
        if tag == "meter":
            self.rows[-1] |= {name: float(values[name]) for name in ("value", "low", "high")}
        if tag == "a":
            assert ":" not in values["href"] and "/" not in values["href"]
            self.links.add(unquote(values["href"]))
        if tag == "img":
            assert values["src"].startswith("data:image/jpeg;base64,")
            self.rows[-1]["face"] = base64.b64decode(values["src"].split(",")[1])

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag

    def handle_data(self, text):
        self.text += text
        if self.open[-1:] == ["div"]:
            self.rows[-1]["lines"][-1] += text


def read_page(path):
    """A page, whose policy stands before anything that it forbids."""
    text = path.read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    policy = f"{policy}form-action 'none'"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    assert text.startswith(f"<!doctype html>\n<html lang=en><meta charset=utf-8>\n{meta}\n")
    return Page(text)


HOSTILE = [
    "a \"quoted\" 'name'.mp4",
    "</script><script>alert(1)</script>.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "\u202egpj.exe\u2066.mp4",
    "&lt;&amp;&#60;.mp4",
    "line\nbreak\udcff.mp4",
    "javascript:alert(1)",
    "--><!--$style $rows.mp4",
]


def made_up(path, scores, picture="x.png", **more):
    """A result as `judge_video` returns it, with one person for each of the scores."""
    limits = dict(threshold=0.5, real_below=0.5, fake_from=0.5)
    people = [
        dict(person=k, score=s, verdict="fake" if s >= 0.5 else "real", faces=k, **limits)
        | dict(by=[dict(checkpoint="m.pt", score=s, verdict="x", **limits)], without=[])
        for k, s in enumerate(scores, 1)
    ]
    return dict(path=path, demonstration=False, people=people, picture=picture, verdict="x") | more


def write_made_up(path, results):
    faces = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    sample = detect.Sample(0, 0, 0, (0, 0, 9, 9), faces)
    rows = [
        row for result in results for row in page_rows(result, [[sample]] * len(result["people"]))
    ]
    data = [dict(set="<i>x</i>", role="trained on")]
    detector = SimpleNamespace(path="<b>m</b>.pt", data=data, validation=None, calibrated=False)
    detector.thresholds, detector.extraction = metrics.thresholds(None), dict(count=3, length=1)
    write_verdict_page(path, rows, results, [detector])
    page = read_page(path)
    assert "<b>m</b>.pt: trained on <i>x</i>; takes 3 x 1 frames of a video; verdicts" in page.text
    return page


def test_names_can_do_nothing_on_the_page(tmp_path):
    results = [made_up(f"/<b>/{name}".replace("</", "<\u2215"), [0.25, 0.75]) for name in HOSTILE]
    odd = dict(verdict="<u>odd</u>", reason="<script>alert(2)</script>")
    results += [made_up(name, [], **odd) for name in HOSTILE]
    page = write_made_up(tmp_path / "index.html", results)
    count = len(HOSTILE)
    names = [common.printable(os.path.basename(r["path"])) for r in results]
    shown = [row["lines"][0] for row in page.rows]
    assert shown == [*names[:count], *names], "the highest scores first, and last those without"
    assert "\u202e" not in page.text and "\\u202egpj" in page.text
    assert odd["verdict"] in page.text and odd["reason"] in page.text
    for rows, kind, value, faces in (
        (page.rows[:count], "fake", 0.75, "from 2 faces"),
        (page.rows[count : 2 * count], "real", 0.25, "from 1 face"),
    ):
        assert {(row["kind"], row["value"], row["lines"][-1]) for row in rows} == {
            (kind, value, faces)
        }
        assert all(row["face"].startswith(b"\xff\xd8") for row in rows)
        assert all(kind in row["lines"] for row in rows)


@given(st.text(min_size=1))
def test_any_name_is_shown_as_it_is_printed(name):
    (_, row), *_ = page_rows(made_up(name, [], verdict="v", reason="r"), [])
    folder, base = os.path.split(name)
    (row,) = Page(row).rows
    assert row["lines"] == [*filter(None, map(common.printable, (base, folder))), "v", "r"]


def test_a_page_of_500_files(tmp_path):
    """Its size is that of its faces."""
    results = [made_up(f"{k}.mp4", [k / 500], f"{k}.png", turned=90) for k in range(500)]
    results[1]["people"][0]["without"] = ["clip.pt"]
    page = write_made_up(tmp_path / "index.html", results)
    assert len(page.rows) == 500 and len(page.links) == 500
    assert "turned by 90 degrees" in page.text and "500 x" in page.text
    assert page.text.count("needs a video, as no complete clip shows this face: clip.pt") == 1
    size = sum(len(row["face"]) for row in page.rows) * 4 / 3
    assert (tmp_path / "index.html").stat().st_size < size + 500 * 1500 + 10_000


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
    assert ": UNCERTAIN, P(fake) " in said and "\n1 uncertain; " in said
    assert "5.0 % of 20 fakes called real, 4.9 % of 41 reals called fake" in said
    rows = read_verdicts(tmp_path / "v")
    assert [row["verdict"] for row in rows] == ["uncertain", "fake", "uncertain"]
    assert [row["missed_fakes"] for row in rows] == ["0.05", "", ""]
    assert [row["false_alarms"] for row in rows] == [repr(2 / 41), "", ""]
    assert (rows[0]["real_below"], rows[0]["fake_from"]) == (repr(low), repr(high))
    (row,) = read_page(tmp_path / "v/index.html").rows
    assert row["kind"] == "uncertain" and score_line(person) in row["lines"]
    for name, key in dict(low="real_below", high="fake_from").items():
        assert row[name] == pytest.approx(person[key], abs=1e-4)


@pytest.mark.parametrize(
    "verdicts, worst",
    [("real uncertain fake", "fake"), ("uncertain real", "uncertain"), ("real real", "real")],
)
def test_a_video_is_as_its_worst_person(tmp_path, monkeypatch, verdicts, worst):
    verdict_of = iter(verdicts.split())
    people = dict(people=[[]] * len(verdicts.split()), left_out=0, turned=0)
    monkeypatch.setattr(detect, "judge", lambda *_: dict(verdict=next(verdict_of)))
    monkeypatch.setattr(detect, "draw_verdict", lambda *_: None)
    video = dict(path="x.mp4", name="x")
    assert detect.judge_video(video, people, [], [], tmp_path)["verdict"] == worst


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

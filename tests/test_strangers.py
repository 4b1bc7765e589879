"""Files from strangers: CSVs, checkpoints, images and features that are not what they should be.

Each gives an error of one line, never a traceback, and never a number.
"""

import contextlib
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_CLRNET, SMALL_EXTRACTOR, call, extract, rows_of, run
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import common
from media import layouts
from reporting import metrics
from running import loading

HEADER = "path,video,frame,clip,label,method,split\n"
SCORES = "video,frame,label,score\n"


def index_of(folder, text, encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    (folder / "index.csv").write_bytes(text.encode(encoding))
    return common.read_index(folder)


# ---------------------------------------------------------------- CSV


def test_an_index_as_other_programs_write_it(tmp_path):
    """Windows line ends, a byte order mark, quotes, empty lines; extra columns, in any order."""
    plain = index_of(tmp_path / "a", HEADER + 'a/0.png,a,0,,1,m,train\n"b/0,1.png",b,5,2,0,m,val\n')
    other = index_of(
        tmp_path / "b",
        "\ufeffvideo,path,frame,label,clip,split,method,more\r\n"
        '"a",a/0.png,0,1,,train,m,x\r\n\r\nb,"b/0,1.png",5,0,2,val,m,\r\n',
    )
    assert all(list(plain[column]) == list(other[column]) for column in common.INDEX_COLUMNS)
    assert plain["clip"].tolist() == [-1, 2] and plain["path"] == ["a/0.png", "b/0,1.png"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "no column path"),
        ("path,video\n", "no column frame, clip"),
        (HEADER, "no rows"),
        (HEADER + "a.png,a,0,,1,m\n", "row 1: 6 values under 7"),
        (HEADER + "a.png,a,zero,,1,m,\n", "row 1: frame is 'zero'"),
        (HEADER + "a.png,a,0,,,m,\n", "label is ''"),
        (HEADER + "a.png,a,0,,2,m,\n", "label is 2"),
        (HEADER + "a.png,a,0,,0.5,m,\n", "label is '0.5'"),
        (HEADER + "a.png,a,0,,nan,m,\n", "label is 'nan'"),
        (HEADER + "a.png,a,9" + "9" * 30 + ",,1,m,\n", "frame is '999"),
        (HEADER + "a.png,a,0,,1,m,\nb.png,a,1,,0,m,\n", "labeled real in one row and fake"),
        (HEADER + "a.png,a,0,,1,m,\na.png,a,0,,1,m,\n", "rows 1 and 2 are the same"),
        (HEADER + "../a.png,a,0,,1,m,\n", "leads out of its folder"),
        (HEADER + "/etc/passwd,a,0,,1,m,\n", "leads out"),
        (HEADER + "C:\\a.png,a,0,,1,m,\n", "leads out"),
        (HEADER + "a\0.png,a,0,,1,m,\n", "cannot be read as CSV|holds a zero byte"),
        (HEADER + '"' + "a" * 200_000 + '",a,0,,1,m,\n', "cannot be read as CSV"),
        ("\x93NUMPY" + HEADER, "cannot be read as CSV"),
    ],
)
def test_an_index_that_cannot_be_used(tmp_path, text, says):
    with pytest.raises(SystemExit, match=says):
        index_of(tmp_path / "a", text, "latin-1")


@pytest.mark.parametrize(
    "text, says",
    [
        ("video,frame,label\n", "no column score"),
        (SCORES + "a,0,1,nan\n", "score is nan"),
        (SCORES + "a,0,1,\n", "score is ''"),
        (SCORES + "a,0,1,1.5\n", "score is 1.5"),
        (SCORES + "a,0,1,inf\n", "score is inf"),
        (SCORES + "a,0,real,0.5\n", "label is 'real'"),
        (SCORES + "a,0,-1,0.5\n", "label is -1"),
        (SCORES + "a,0,1,0.5\na,1,0,0.5\n", "real in one row and fake"),
        (SCORES + "a,3,1,0.5\nb,3,1,0.5\na,3,1,0.6\n", "rows 1 and 3 are the same '3 a'"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, text, says):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(SystemExit, match=says):
        common.read_scores(tmp_path / "s.csv")


def test_scores_without_frames_are_not_duplicates(tmp_path):
    (tmp_path / "s.csv").write_text(SCORES + "a,,1,0.5\na,,1,0.5\n")
    assert common.read_scores(tmp_path / "s.csv")[2].tolist() == [0.5, 0.5]


# Text near what is meant, and anything at all.
likely = [*"012a", "", "a/0.png", "../x", "0.5", "nan", "-1", "1e400", "é", " 1", "1_0", "train"]
cell = st.one_of(st.sampled_from(likely), st.text(max_size=8))
tables = st.lists(st.lists(cell, max_size=8), max_size=6).map(
    lambda rows: "\n".join(",".join(row) for row in rows)
)
headers = st.sampled_from([HEADER, SCORES, "path,label,method,split\n"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.one_of(st.binary(max_size=200), st.builds(lambda a, b: (a + b).encode(), headers, tables))
)
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example(b"\x22")
def test_readers_end_with_one_line_or_with_what_they_promise(tmp_path, content):
    """Whatever the bytes: columns of one length, labels 0 and 1, scores in 0..1; or an error."""
    file = tmp_path / "index.csv"
    file.write_bytes(content)
    with allowed_to_fail():
        index = common.read_index(tmp_path)
        assert len({len(index[column]) for column in common.INDEX_COLUMNS}) == 1
        assert set(index["label"].tolist()) <= {0, 1}
        paths = index["path"]
        assert not [path for path in paths if ".." in Path(path).parts or path.startswith("/")]
        assert len(set(paths)) == len(paths)
    with allowed_to_fail():
        videos, labels, scores, ranks = common.read_scores(file)
        assert len(videos) == len(labels) == len(scores) == len(ranks)
        assert np.isfinite(ranks).all() and ((scores >= 0) & (scores <= 1)).all()
        assert set(labels.tolist()) <= {0, 1}
    with allowed_to_fail():
        for video in layouts.layout_list(file)[0]:
            assert video["label"] in (0, 1) and video["split"] in ("", "train", "val", "test")


@contextlib.contextmanager
def allowed_to_fail():
    """The block may end with an error of one line, and with no other."""
    try:
        yield
    except SystemExit as end:
        assert len(str(end).splitlines()) == 1 and "error: " in str(end), str(end)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
score_rows = st.tuples(names, st.integers(0, 10**6), st.integers(0, 1), numbers)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(score_rows, min_size=1, max_size=30, unique_by=lambda row: row[0]))
def test_scores_are_read_as_they_were_written(tmp_path, rows):
    """What is written is read again: names to the letter, logits and scores to the last digit."""
    videos, frames, labels, logits = zip(*rows)
    index = dict(video=videos, frame=np.array(frames), label=np.array(labels))
    common.write_scores(tmp_path / "s.csv", index, np.arange(len(rows)), logits)
    read = common.read_scores(tmp_path / "s.csv")
    assert read[0] == list(videos) and read[1].tolist() == list(labels)
    assert read[3].tolist() == list(logits)
    assert read[2].tolist() == common.sigmoid(logits).tolist()


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60))
def test_metrics_hold_what_they_must(pairs):
    """AUC and EER lie in 0..1, and are undefined with one class.

    They do not change under a rising transform; AUC turns over with the labels, and EER with labels
    and scores.
    """
    labels, scores = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]) / 20

    def auc_and_eer(labels, scores):
        values = metrics.measure(labels, scores, scores)
        return values["auc"], values["eer"]

    auc, eer = auc_and_eer(labels, scores)
    if len(set(labels.tolist())) < 2:
        assert math.isnan(auc) and math.isnan(eer)
        return
    assert 0 <= auc <= 1 and 0 <= eer <= 1
    assert auc_and_eer(labels, scores**3 / 2) == pytest.approx((auc, eer))
    assert auc_and_eer(1 - labels, scores)[0] == pytest.approx(1 - auc)
    assert auc_and_eer(1 - labels, 1 - scores)[1] == pytest.approx(eer)


# ---------------------------------------------------------------- checkpoints


def changed(source, target, change):
    content = torch.load(source, weights_only=True)
    change(content)
    torch.save(content, target)
    return target


def test_extractors_that_do_not_fit(small, extractor, tmp_path):
    def shape(c):
        c["model"]["head.weight"] = torch.zeros(2, 7)

    def network(c):
        c["kwargs"] = dict(arch="resnet18; rm -rf", image_size=64)

    cases = {
        "shape": (shape, "does not hold the weights of this network"),
        "lost": (lambda c: c["model"].popitem(), "does not hold the weights"),
        "nothing": (lambda c: c.pop("model"), "does not hold the weights"),
        "kwargs": (lambda c: c.pop("kwargs"), "does not say what its network is"),
        "network": (network, "has no network"),
        "list": (lambda c: c.update(model=[1]), "does not hold the weights"),
        "stage": (lambda c: c.update(stage="04"), "stage 04; one of stage 02 is needed"),
    }
    for name, (change, says) in cases.items():
        checkpoint = changed(extractor, tmp_path / f"{name}.pt", change)
        command = f"03_extract_features.py --checkpoint {checkpoint} --faces {small}/faces/frames"
        assert says in call(f"{command} --device cpu --out {tmp_path}/o", fails=True)
    assert not (tmp_path / "o").exists()


def test_states_that_cannot_be_resumed_from(small, features, tmp_path):
    """last.pt of 02, 04 and 05: cut off, of another network, without its optimizer."""
    once = f"--epochs 1 --max-steps 1 --out {tmp_path}"
    pretrain = f"02_pretrain_extractor.py --faces {small}/faces/frames {SMALL_EXTRACTOR}"
    adapt = f"04_train_bpdann.py --source {features}/frames --target {features}/phone"
    single = f"05_train_clrnet.py --strategy single --source {small}/faces/clips {SMALL_CLRNET}"
    for command, last in (
        (f"{pretrain} {once}/02 --epochs 2", "02/last.pt"),
        (f"{adapt} --epochs 1 --out {tmp_path}/04 --scores {tmp_path}/s", "04/phone/last.pt"),
        (f"{single} {once}/05", "05/last.pt"),
    ):
        run(command)
        last = tmp_path / last
        good = last.read_bytes()
        changed(last, last, lambda c: c.pop("optimizer"))
        assert "cannot be resumed from" in run(command, fails=True)
        last.write_bytes(good)
        changed(last, last, lambda c: c["model"].popitem())
        assert "does not hold the weights" in run(command, fails=True)
        last.write_bytes(good[: len(good) // 2])
        assert "damaged" in run(command, fails=True)


def test_sources_of_a_transfer_that_do_not_fit(small, tmp_path):
    clips = small / "faces/clips"
    single = f"--strategy single --source {clips} --epochs 1 --max-steps 1 --out {tmp_path}/r"
    run(f"05_train_clrnet.py {single} {SMALL_CLRNET}")

    def size(c):
        c["kwargs"]["filters"] = 8

    for name, change, says in (
        ("kwargs", lambda c: c.pop("kwargs"), "does not say what its network is"),
        ("size", size, "does not hold the weights"),
        ("network", lambda c: c.update(network="VGG"), "not known here"),
        ("frames", lambda c: c["kwargs"].update(repetitions="many"), "CLRNet: "),
    ):
        checkpoint = changed(tmp_path / "r/model.pt", tmp_path / f"{name}.pt", change)
        command = f"05_train_clrnet.py --strategy transfer --checkpoint {checkpoint} --device cpu"
        flags = f"--target {clips} --few-shot 1 --out {tmp_path}/t"
        assert says in call(f"{command} {flags}", fails=True)


# ---------------------------------------------------------------- face images, features


def test_images_of_all_kinds_are_read_or_named(tmp_path):
    """Gray, palette, RGBA, CMYK, 16 bit, 1 x 1 become RGB.

    For a file that is missing, cut off or no image its error message comes back.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    rgb = Image.fromarray(pixels)
    modes = {"gray.png": "L", "palette.png": "P", "rgba.png": "RGBA", "la.png": "LA"}
    for name, mode in (modes | {"cmyk.jpg": "CMYK", "bit.png": "1"}).items():
        rgb.convert(mode).save(tmp_path / name)
    rgb.resize((1, 1)).save(tmp_path / "one.png")
    rgb.resize((500, 2)).save(tmp_path / "wide.png")
    deep = np.arange(1200, dtype=np.uint16).reshape(40, 30)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    names = sorted(path.name for path in tmp_path.iterdir())
    read = loading.Faces(names, 24, tmp_path)
    for k, name in enumerate(names):
        assert isinstance(read[k], torch.Tensor) and read[k].dtype == torch.uint8, name
        assert read[k].shape == (3, 24, 24), name
    gray, la = (loading.load_face(tmp_path / name, 24)[0] for name in ("gray.png", "la.png"))
    assert torch.equal(gray, la)
    rgb.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    damaged = bytearray((tmp_path / "rgba.png").read_bytes())
    damaged[37:41] = bytes(4)  # the kind of the second chunk, over which Pillow raises SyntaxError
    (tmp_path / "damaged.png").write_bytes(damaged)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name in ("cut.png", "damaged.png", "text.png", "empty.png", "gone.png", "folder.png"):
        message = loading.Faces([name], 24, tmp_path)[0]
        assert isinstance(message, str) and name in message and "cannot be read" in message


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_ends_the_run_with_its_name(small, copy, tmp_path, workers):
    """In training, in extraction, and in clips; not one score is written."""
    faces, clips = copy(small / "faces/frames"), copy(small / "faces/clips")
    for folder in (faces, clips):
        for victim in sorted(folder.glob("*/*.png")):
            victim.write_bytes(victim.read_bytes()[:60])
    pretrain = f"02_pretrain_extractor.py --faces {faces} --out {tmp_path}/r {SMALL_EXTRACTOR}"
    single = f"05_train_clrnet.py --strategy single --source {clips} --out {tmp_path}/c"
    test = f"--test {clips} --scores {tmp_path}/s {SMALL_CLRNET}"
    for command in (pretrain, f"{single} {test}"):
        assert "cannot be read" in run(f"{command} --workers {workers}", fails=True)
    assert not (tmp_path / "s").exists() and not (tmp_path / "r/model.pt").exists()


def test_features_that_do_not_fit(features, copy, tmp_path):
    """NaN, another width, another length, another type, objects, cut off, no file."""
    whole = np.load(features / "phone/features.npy")
    spoiled = whole.copy()
    spoiled[:, 5] = np.nan
    folder = copy(features / "phone")
    cases = [
        (spoiled, "not finite"),
        (whole[:, :-1], "use one extractor for both"),
        (whole[:-1], "is needed, N = "),
        (whole.astype(np.float64), "float32 is needed"),
        (whole.ravel(), "is needed"),
        (np.array([{}], object), "cannot be read"),
    ]
    command = (
        f"04_train_bpdann.py --source {features}/frames --target {folder} --epochs 1 --device cpu "
        f"--scores {tmp_path}/s"
    )
    for k, (array, says) in enumerate(cases):
        np.save(folder / "features.npy", array, allow_pickle=array.dtype == object)
        assert says in run(f"{command} --out {tmp_path}/r{k}", fails=True)
    shutil.copyfile(features / "phone/features.npy", folder / "features.npy")
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:1000])
    for says in ("cannot be read", "holds no features.npy"):
        assert says in run(f"{command} --out {tmp_path}/r9", fails=True)
        (folder / "features.npy").unlink(missing_ok=True)
    assert not (tmp_path / "s").exists()


def test_faces_that_vanished_are_extracted_again(small, copy):
    """01 run again extracts a video again that has too few or too many images."""
    folder = copy(small / "faces/frames")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    first, second = sorted(before)[0], sorted(before)[-1]
    first.unlink()
    second.with_name("999999.png").write_bytes(b"x")
    flags = f"--layout ffpp --videos {small}/videos/studio --method Deepfakes --num-frames 4"
    output = extract(f"{flags} --out {folder}")
    assert "10 done already" in output
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert len(rows_of(folder / "index.csv")) == len(before)

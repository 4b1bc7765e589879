"""How each data set lies on disk, as its authors ship it: one function per data set. Used by 01.

A video is a dict:

    path      the video file, or the folder of images if a data set ships videos so (VidTIMIT)
    label     0 = real, 1 = fake
    method    the manipulation, or the kind of original; with `stem` it names the video
    split     train, val, test, or empty
    stem      the file's name without its ending, made unique if the data set repeats names
    original  name of the recording that the video shows, if the data set tells it: the target of a
              fake, a real video itself
    people    the identities in the file's name: (target, source) of a fake, else (target,) or ()

Later steps add: name and source (splits.name_videos), asked and boxes (01_extract_faces.py).

A layout returns the videos and what the data set should hold: {(split, label, method): number},
None standing for any. Layouts print what they notice, and exit with an error if the folder is not
that data set.
"""

import json
import re
from pathlib import Path

from common import fail, read_table
from media.photos import image_files
from media.video import ENDINGS, find_crops, find_videos, walk

KINDS = ("real", "fake")
CELEBDF_FOLDERS = ("Celeb-real", "YouTube-real", "Celeb-synthesis")


def make_video(path, label, method, split="", stem=None, original="", people=()):
    """A video as the module's docstring describes it."""
    path = Path(path)
    names = dict(stem=stem or path.stem, original=original, people=tuple(people))
    return dict(path=path, label=label, method=method, split=split, **names)


def read_json(file, kind, expected):
    """The content of a JSON file that holds a `kind` (list or dict), in words `expected`.

    Exits with an error if it does not.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        fail(f"{file} cannot be read as JSON: {str(error)[:100]}")
    if not isinstance(content, kind):
        fail(f"{file} is not {expected}, as the data set ships it: download it again")
    return content


def inside(folder, name, file):
    """FOLDER/NAME for a name in `file`; exits with an error if it leads out of the folder."""
    parts = Path(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0]:
        fail(f"{file}: {name[:80]!r} leads out of its folder")
    return folder.joinpath(*parts)


def layout_folders(root, crops=False):
    """`[train|val|test/]real/**`, `[train|val|test/]fake/**`; folders inside name the method.

    Videos and photos; with `crops`, folders of images, each of which is a video.
    """
    videos = []
    for split in ("", "train", "val", "test"):
        for label, kind in enumerate(KINDS):
            base = root / split / kind
            for path in find_crops(base) if crops else find_videos(base, photos=True):
                parts = path.relative_to(base).parts
                method = parts[0] if len(parts) > 1 else kind
                videos.append(make_video(path, label, method, split))
    if not videos:
        fail(f"{root} has no videos in real/ and fake/, nor in train/real/, train/fake/, val/...")
    return videos, {}


def layout_list(file):
    """A CSV with path, label and, if you like, method and split. A folder of images is a video."""
    table = read_table(file, ("path", "label"))
    empty = [""] * len(table["path"])
    columns = (table["path"], table["label"], table.get("method", empty), table.get("split", empty))
    videos = []
    for row, (path, label, method, split) in enumerate(zip(*columns), 1):
        if label not in ("0", "1"):
            fail(f"{file}, data row {row}: label is {label[:20]!r}; 0 is real, 1 is fake")
        if split not in ("", "train", "val", "test"):
            fail(f"{file}, data row {row}: split is {split[:20]!r}, not train, val, test or empty")
        if "\0" in path:
            fail(f"{file}, data row {row}: the path contains a zero byte")
        method = method or KINDS[int(label)]
        videos.append(make_video(file.parent / path, int(label), method, split))
    if not videos:
        fail(f"{file} has no rows")
    return videos, {}


def layout_ffpp(root, methods, compression):
    """FaceForensics++: original_sequences/youtube, manipulated_sequences/METHOD, and split files.

    A fake is TARGET_SOURCE. methods: names of manipulations; ["originals"] for none; None for all
    but DeepFakeDetection, which is another data set in the same tree (`layout_dfd`).
    """
    fakes = root / "manipulated_sequences"
    there = {path.name for path in fakes.glob("*") if (path / compression / "videos").is_dir()}
    there = sorted(there - {"DeepFakeDetection"})
    if methods is None:
        methods = there
    elif methods == ["originals"]:
        methods = []
    for method in methods:
        if method == "DeepFakeDetection":
            fail("DeepFakeDetection has other originals: use --layout dfd")
        if method not in there:
            found = ", ".join(there) or "nothing"
            fail(f"{fakes} has no {method} at {compression} (it has: {found})")
    split_of = read_ffpp_splits(root)
    videos = []
    bases = [(0, "youtube", root / "original_sequences/youtube")]
    bases += [(1, method, fakes / method) for method in methods]
    for label, method, base in bases:
        for path in find_videos(base / compression / "videos"):
            people = path.stem.split("_")
            splits = {(split_of or {}).get(person, "") for person in people}
            split = splits.pop() if len(splits) == 1 else ""
            videos.append(make_video(path, label, method, split, original=people[0], people=people))
    if not videos:
        fail(
            f"{root} is not a FaceForensics++ tree at {compression}: no videos in "
            f"original_sequences/youtube/{compression}/videos"
        )
    outside = sum(video["split"] == "" for video in videos)
    if split_of is None:
        print("no split files (train.json, val.json, test.json) in this tree")
    elif outside:
        print(f"warning: {outside} of {len(videos)} videos have no split: in no split file, or two")
    sizes = {"": 1000} if split_of is None else {"train": 720, "val": 140, "test": 140}
    expected = {(split, label, m): n for label, m, _ in bases for split, n in sizes.items()}
    return videos, expected


def read_ffpp_splits(root):
    """{name of an original: split} from train.json, val.json and test.json; None without them."""
    split_of = {}
    files = 0
    for split in ("train", "val", "test"):
        names = (root / "splits" / f"{split}.json", root / f"{split}.json")
        file = next((file for file in names if file.is_file()), None)
        if file is None:
            continue
        files += 1
        for pair in read_json(file, list, "a list of pairs of names"):
            if not isinstance(pair, list) or len(pair) != 2:
                fail(f"{file} is not a list of pairs of names, as FaceForensics++ ships it")
            for name in map(str, pair):
                if split_of.setdefault(name, split) != split:
                    fail(f"{file}: {name} is in {split}, but also in {split_of[name]}: remove one")
    return split_of if files else None


def layout_dfd(root, compression):
    """DeepFakeDetection in a FaceForensics++ tree, without splits.

    Originals under actors are ACTOR__SCENE, fakes are TARGET_SOURCE__SCENE__ID.
    """
    originals = f"original_sequences/actors/{compression}/videos"
    fakes = f"manipulated_sequences/DeepFakeDetection/{compression}/videos"
    videos = []
    for path in find_videos(root / originals):
        people = path.stem.split("__")[:1]
        videos.append(make_video(path, 0, "actors", original=path.stem, people=people))
    for path in find_videos(root / fakes):
        people, _, rest = path.stem.partition("__")
        people = people.split("_")
        original = f"{people[0]}__{rest.split('__')[0]}"
        videos.append(make_video(path, 1, "DeepFakeDetection", original=original, people=people))
    if not videos:
        fail(f"{root} is not DeepFakeDetection: it has no {originals} and no {fakes}")
    return videos, {("", 0, "actors"): 363, ("", 1, "DeepFakeDetection"): 3068}


def layout_celebdf(root):
    """Celeb-DF v1 or v2: Celeb-real, YouTube-real, Celeb-synthesis, List_of_testing_videos.txt.

    Videos in the list are test, the others train. A fake idA_idB_N is made from idA_N. Of the two
    versions, the one is assumed whose number of videos is nearer.
    """
    methods = {method.lower(): method for method in CELEBDF_FOLDERS}
    videos = []
    for folder in sorted(root.iterdir()):
        method = methods.get(folder.name.lower())
        if method is None:
            continue
        for path in find_videos(folder):
            *people, number = path.stem.split("_")
            original = f"{people[0]}_{number}" if people else f"YouTube-real/{path.stem}"
            label = int(method == "Celeb-synthesis")
            videos.append(
                make_video(path, label, method, "train", original=original, people=people)
            )
    if not videos:
        fail(f"{root} is not Celeb-DF: no videos in Celeb-real, YouTube-real and Celeb-synthesis")
    file = root / "List_of_testing_videos.txt"
    if file.is_file():
        read_celebdf_list(file, videos)
    else:
        print(f"warning: no {file.name} in {root}: all videos are without a split")
        for video in videos:
            video["split"] = ""
    is_v1 = abs(len(videos) - 1203) < abs(len(videos) - 6529)
    real, youtube, fake, test = (158, 250, 795, 100) if is_v1 else (590, 300, 5639, 518)
    print(f"counted as Celeb-DF v{1 if is_v1 else 2}")
    expected = {
        (None, 0, "Celeb-real"): real,
        (None, 0, "YouTube-real"): youtube,
        (None, 1, "Celeb-synthesis"): fake,
    }
    if file.is_file():
        expected["test", None, None] = test
    return videos, expected


def read_celebdf_list(file, videos):
    """Make the videos in List_of_testing_videos.txt test. The file has no header; 1 is REAL."""
    by_name = {(video["method"].lower(), video["stem"]): video for video in videos}
    folders = {method.lower() for method in CELEBDF_FOLDERS}
    missing = 0
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([01])\s+(\S+)/(\S+)", line.strip())
        if not match or match[2].lower() not in folders:
            fail(f"{file}, line {number}: {line[:60]!r} is not like `1 YouTube-real/00170.mp4`")
        video = by_name.get((match[2].lower(), Path(match[3]).stem))
        if video is None:
            missing += 1
            continue
        if int(match[1]) == video["label"]:
            fail(f"{file}, line {number}: {match[1]} for {match[2]}; in it 1 is real, 0 is fake")
        video["split"] = "test"
    if missing:
        print(f"warning: {missing} videos of {file.name} are not there")


def layout_dfdc(root):
    """DFDC: every folder below DIR with a metadata.json, or the public test set's labels.csv."""
    splits = {"train": "train", "validation": "val", "val": "val", "test": "test"}
    videos = []
    missing = unknown = 0
    for folder, names in walk(root):
        # The test set has a metadata.json too, of another kind.
        if "labels.csv" in names:
            file = folder / "labels.csv"
            entries = read_dfdc_labels(file)
        elif "metadata.json" in names:
            file = folder / "metadata.json"
            entries = read_json(file, dict, "an object of videos")
        else:
            continue
        unknown += sum(Path(n).suffix.lower() in ENDINGS for n in names if n not in entries)
        for name, entry in sorted(entries.items()):
            label = entry.get("label") if isinstance(entry, dict) else None
            if label not in ("REAL", "FAKE"):
                fail(f"{file}: {name[:80]!r} has no label REAL or FAKE (labels.csv: 0 or 1)")
            path = inside(folder, name, file)
            if not path.is_file():
                missing += 1
                continue
            # "original" may be missing, also of a fake.
            original = entry.get("original")
            if not original or not isinstance(original, str):
                original = path.name
            original = Path(original).stem
            split = splits.get(entry.get("split"), "")
            method = label.lower()
            videos.append(make_video(path, KINDS.index(method), method, split, original=original))
    if not videos:
        fail(f"{root} is not DFDC: no metadata.json or labels.csv beside videos below it")
    if missing or unknown:
        print(f"warning: {missing} listed videos are not there; {unknown} videos are in no list")
    found = {video["split"] for video in videos}
    # The 50 training parts; 23654 real and 104500 fake are with validation and test.
    expected = {("train", 0, "real"): 19154, ("train", 1, "fake"): 100000}
    expected = {} if found == {"test"} else expected
    if {"train", "val", "test"} <= found:
        expected |= {(None, 0, None): 23654, (None, 1, None): 104500}
    return videos, expected


def read_dfdc_labels(file):
    """labels.csv of the public test set, in which 1 is fake, in the form of a metadata.json."""
    table = read_table(file, ("filename", "label"))
    return {
        name: dict(label={"0": "REAL", "1": "FAKE"}.get(label), split="test")
        for name, label in zip(table["filename"], table["label"])
    }


def layout_dfdc_preview(root):
    """DFDC-Preview: dataset.json, {path: {"label": real or fake, "set": train or test}}."""
    file = root / "dataset.json"
    if not file.is_file():
        fail(f"{root} is not DFDC-Preview: no dataset.json")
    entries = read_json(file, dict, "an object of videos")
    videos = []
    missing = 0
    for name, entry in sorted(entries.items()):
        entry = entry if isinstance(entry, dict) else {}
        label, split = entry.get("label"), entry.get("set")
        if label not in KINDS or split not in ("train", "test"):
            fail(f"{file}: {name[:80]!r} has no label real or fake, or no set train or test")
        path = inside(root, name, file)
        if not path.is_file():
            missing += 1
            continue
        method = path.relative_to(root).parts[0]
        videos.append(make_video(path, KINDS.index(label), method, split))
    if not videos:
        fail(f"{root}: none of the {len(entries)} videos of dataset.json is there")
    if missing:
        print(f"warning: {missing} videos of dataset.json are not there")
    labels = {(None, 0, None): 1131, (None, 1, None): 4113}
    return videos, labels | {("train", None, None): 4464, ("test", None, None): 780}


def layout_dftimit(root, vidtimit, quality):
    """DeepfakeTIMIT at one quality ("lq", "hq"), and the recordings its fakes were made from.

    Fakes are {higher,lower}_quality/SUBJECT/UTTERANCE-video-SOURCE.avi. The reals are VidTIMIT's
    folders of images .../SUBJECT/.../UTTERANCE/, wherever they are below `vidtimit` (or `root`).
    """
    name = {"lq": "lower_quality", "hq": "higher_quality"}[quality]
    bases = [path for path in (root / name, root / "DeepfakeTIMIT" / name) if path.is_dir()]
    if not bases:
        fail(f"{root} is not DeepfakeTIMIT: no {name}")
    videos = []
    recordings = set()
    misnamed = 0
    for path in find_videos(bases[0]):
        match = re.fullmatch(r"(.+)-video-(.+)", path.stem)
        if not match:
            misnamed += 1
            continue
        subject = path.parent.name.lower()
        utterance, source = match[1].lower(), match[2].lower()
        recordings.add((subject, utterance))
        video = make_video(path, 1, quality, stem=f"{path.parent.name}_{path.stem}")
        videos.append(video | dict(original=f"{subject}/{utterance}", people=(subject, source)))
    if not videos:
        fail(f"{bases[0]} holds no SUBJECT/UTTERANCE-video-SOURCE.avi")
    for folder, names in walk(vidtimit or root):
        parts = [part.lower() for part in folder.parts]
        if not names or "audio" in parts:
            continue
        for subject in parts[:-1]:
            recording = (subject, parts[-1])
            if recording in recordings and image_files(folder):
                recordings.remove(recording)
                video = make_video(folder, 0, "vidtimit", stem="_".join(recording))
                videos.append(video | dict(original="/".join(recording), people=(subject,)))
    if misnamed:
        print(f"warning: {misnamed} files of {name} are not named UTTERANCE-video-SOURCE: left out")
    if all(video["label"] for video in videos):
        print("warning: no real videos: give --vidtimit, the folder with VidTIMIT's image folders")
    return videos, {("", 0, "vidtimit"): 320, ("", 1, quality): 320}

"""How each data set lies on disk, as its authors ship it: one function a data set. Used by 01_extract_faces.py.

A video is a dict:

    path      the video file, or the folder of images where a data set ships a video so (VidTIMIT)
    label     0 = real, 1 = fake
    method    the manipulation, or the kind of original; together with `stem` it names the video
    split     train, val, test, or empty
    stem      the file's name without its ending, made unique by the layout where the data set repeats names
    original  name of the recording that the video shows, where the data set tells: a fake's target, a real video's own
    people    the identities that the name tells: (target, source) for a fake, (target,) or () otherwise

A layout returns the videos and what the data set should hold: {(split, label, method): number}, None standing for any.
Layouts print what they notice and end the script (`fail`) where the folder is not that data set.
"""

import json
import os
import re
from functools import cache
from pathlib import Path

from common import fail, read_table
from media.video import image_files

ENDINGS = {
    ".mp4",
    ".avi",
    ".mov",
    ".mkv",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".ts",
    ".3gp",
    ".gif",
}


def make_video(path, label, method, split="", stem=None, original="", people=()):
    """A video as the module's docstring has it."""
    return dict(
        path=Path(path),
        label=label,
        method=method,
        split=split,
        stem=stem or Path(path).stem,
        original=original,
        people=tuple(people),
    )


def walk(folder):
    """os.walk in order of names, following links, but into no folder twice: yields (Path, names of its files). Says which it cannot look into."""

    def blind(error):
        if os.path.isdir(error.filename):
            print(
                f"warning: {ascii(error.filename)} cannot be looked into ({error.strerror}): what it holds is left out",
                flush=True,
            )

    seen = set()
    for root, folders, files in os.walk(folder, onerror=blind, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(root), sorted(files)


def find_videos(folder):
    """Video files below a folder, in order of their paths."""
    found = [
        root / name
        for root, names in walk(folder)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS
    ]
    return sorted(
        path for path in found if os.path.isfile(path)
    )  # unlike Path's, it takes no file that cannot be looked at for an error


def generated(videos):
    """Whether any of the videos comes out of 00_make_demo_videos.py: a folder above it, links followed, holds that script's args.json."""

    @cache
    def below(folder):
        try:
            here = (
                json.loads((folder / "args.json").read_text(encoding="utf-8")).get("script")
                == "00_make_demo_videos.py"
            )
        except (OSError, ValueError, AttributeError):
            here = False
        return here or (folder != folder.parent and below(folder.parent))

    return any(below(Path(os.path.realpath(video["path"])).parent) for video in videos)


def read_json(file):
    """A JSON file that should hold one object or list; ends the script with the file's name where it does not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        fail(f"{file} cannot be read as JSON: {str(error)[:100]}")
    if not isinstance(content, (dict, list)):
        fail(f"{file} holds neither an object nor a list")
    return content


def inside(folder, name, file):
    """FOLDER/NAME for a name that `file` gives; ends the script if it leads out of the folder."""
    parts = Path(name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0]:
        fail(f"{file}: {name[:80]!r} leads out of its folder")
    return folder.joinpath(*parts)


def layout_folders(root):
    """`[train|val|test/]real/**` and `[train|val|test/]fake/**`; a folder inside fake/ names the method."""
    videos = []
    for split in ("", "train", "val", "test"):
        for label, kind in enumerate(("real", "fake")):
            base = root / split / kind
            for path in find_videos(base):
                parts = path.relative_to(base).parts
                videos.append(make_video(path, label, parts[0] if len(parts) > 1 else kind, split))
    if not videos:
        fail(
            f"{root} has no videos in real/ and fake/ (or train/real/, train/fake/, val/..., test/...)"
        )
    return videos, {}


def layout_list(file):
    """A CSV with path, label and if given method and split. A folder of images counts as a video."""
    table = read_table(file, ("path", "label"))
    videos = []
    for k, (path, label) in enumerate(zip(table["path"], table["label"])):
        if label not in ("0", "1"):
            fail(f"{file}, data row {k + 1}: label is {label[:20]!r}; 0 is real, 1 is fake")
        split = table["split"][k] if "split" in table else ""
        if split not in ("", "train", "val", "test"):
            fail(
                f"{file}, data row {k + 1}: split is {split[:20]!r}; it can be train, val, test or empty"
            )
        method = (table["method"][k] if "method" in table else "") or ("real", "fake")[int(label)]
        if "\0" in path:
            fail(f"{file}, data row {k + 1}: the path holds a zero byte")
        videos.append(make_video(file.parent / path, int(label), method, split))
    if not videos:
        fail(f"{file} has no rows")
    return videos, {}


def layout_ffpp(root, methods, compression):
    """FaceForensics++: original_sequences/youtube, manipulated_sequences/METHOD, split files in DIR or DIR/splits.

    methods: names of manipulations, "originals" for none, or None for all but DeepFakeDetection, which is another data set
    in the same tree (`layout_dfd`). A fake is TARGET_SOURCE.
    """
    fakes = root / "manipulated_sequences"
    there = sorted(
        path.name
        for path in fakes.glob("*")
        if (path / compression / "videos").is_dir() and path.name != "DeepFakeDetection"
    )
    if methods is None:
        methods = there
    elif methods == ["originals"]:
        methods = []
    for method in methods:
        if method not in there:
            fail(
                "DeepFakeDetection has other originals: use --layout dfd"
                if method == "DeepFakeDetection"
                else f"{fakes} has no {method} at {compression} (it has: {', '.join(there) or 'nothing'})"
            )
    split_of, files = {}, 0
    for split in ("train", "val", "test"):
        for file in (root / "splits" / f"{split}.json", root / f"{split}.json"):
            if file.is_file():
                pairs = read_json(file)
                if not isinstance(pairs, list) or not all(
                    isinstance(pair, list) and len(pair) == 2 for pair in pairs
                ):
                    fail(f"{file} is not a list of pairs of names, as FaceForensics++ ships it")
                files += 1
                for name in [str(name) for pair in pairs for name in pair]:
                    if split_of.setdefault(name, split) != split:
                        fail(
                            f"{file} puts {name} into {split}, but it is in {split_of[name]} already"
                        )
                break
    videos = []
    for label, base, names in ((0, root / "original_sequences", ["youtube"]), (1, fakes, methods)):
        for name in names:
            for path in find_videos(base / name / compression / "videos"):
                people = tuple(path.stem.split("_"))
                splits = {split_of.get(person, "") for person in people}
                videos.append(
                    make_video(
                        path,
                        label,
                        name,
                        splits.pop() if len(splits) == 1 else "",
                        original=people[0],
                        people=people,
                    )
                )
    if not videos:
        fail(
            f"{root} is not a FaceForensics++ tree at {compression}: no original_sequences/youtube/{compression}/videos, "
            f"no manipulated_sequences/METHOD/{compression}/videos"
        )
    outside = sum(video["split"] == "" for video in videos)
    if not files:
        print("no split files (train.json, val.json, test.json) in this tree")
    elif outside:
        print(
            f"warning: {outside} of {len(videos)} videos are in no split file, or between two splits: their split stays empty"
        )
    parts = {"train": 720, "val": 140, "test": 140} if files else {"": 1000}
    return videos, {
        (split, label, name): n
        for label, name in [(0, "youtube"), *((1, m) for m in methods)]
        for split, n in parts.items()
    }


def layout_dfd(root, compression):
    """DeepFakeDetection inside a FaceForensics++ tree: originals ACTOR__SCENE under actors, fakes TARGET_SOURCE__SCENE__ID."""
    videos = []
    for path in find_videos(root / "original_sequences" / "actors" / compression / "videos"):
        videos.append(
            make_video(path, 0, "actors", original=path.stem, people=path.stem.split("__")[:1])
        )
    for path in find_videos(
        root / "manipulated_sequences" / "DeepFakeDetection" / compression / "videos"
    ):
        people, scene, *_ = *path.stem.split("__"), ""
        people = people.split("_")
        videos.append(
            make_video(
                path, 1, "DeepFakeDetection", original=f"{people[0]}__{scene}", people=people
            )
        )
    if not videos:
        fail(
            f"{root} has no original_sequences/actors/{compression}/videos and no manipulated_sequences/DeepFakeDetection/{compression}/videos"
        )
    return videos, {("", 0, "actors"): 363, ("", 1, "DeepFakeDetection"): 3068}


def layout_celebdf(root):
    """Celeb-DF v1 or v2: Celeb-real, YouTube-real, Celeb-synthesis; List_of_testing_videos.txt, in which 1 is REAL.

    What the list names is test, the rest is train. A fake idA_idB_N is made from idA_N. The version is the one whose number of videos is nearer.
    """
    kinds = {
        "celeb-real": (0, "Celeb-real"),
        "youtube-real": (0, "YouTube-real"),
        "celeb-synthesis": (1, "Celeb-synthesis"),
    }
    videos = []
    for folder in sorted(root.iterdir()):
        label, method = kinds.get(folder.name.lower(), (0, None))
        for path in find_videos(folder) if method else ():
            *people, number = path.stem.split("_")
            original = f"{people[0]}_{number}" if people else f"YouTube-real/{path.stem}"
            videos.append(
                make_video(path, label, method, "train", original=original, people=people)
            )
    if not videos:
        fail(f"{root} is not Celeb-DF: no videos in Celeb-real, YouTube-real and Celeb-synthesis")
    by_name, file = (
        {(video["method"].lower(), video["stem"]): video for video in videos},
        root / "List_of_testing_videos.txt",
    )
    if file.is_file():
        missing = 0
        for n, line in enumerate(
            file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1
        ):  # no header line
            if not line.strip():
                continue
            match = re.fullmatch(r"([01])\s+(\S+)/(\S+)", line.strip())
            if not match or match[2].lower() not in kinds:
                fail(
                    f"{file}, line {n}: {line[:60]!r} is not `1 YouTube-real/00170.mp4` or the like"
                )
            video = by_name.get((match[2].lower(), Path(match[3]).stem))
            if video is None:
                missing += 1
                continue
            if int(match[1]) == video["label"]:
                fail(
                    f"{file}, line {n}: {match[1]} for {match[2]} (in this list 1 is real, 0 is fake)"
                )
            video["split"] = "test"
        if missing:
            print(f"warning: {missing} videos of {file.name} are not there")
    else:
        print(f"warning: no {file.name} in {root}: all videos are without a split")
        for video in videos:
            video["split"] = ""
    v1 = abs(len(videos) - 1203) < abs(len(videos) - 6529)
    real, youtube, fake, test = (158, 250, 795, 100) if v1 else (590, 300, 5639, 518)
    print(f"counted as Celeb-DF v{1 if v1 else 2}")
    return videos, {
        (None, 0, "Celeb-real"): real,
        (None, 0, "YouTube-real"): youtube,
        (None, 1, "Celeb-synthesis"): fake,
        **({("test", None, None): test} if file.is_file() else {}),
    }


def layout_dfdc(root):
    """DFDC: every folder below DIR with a metadata.json (training parts) or labels.csv (public test set, 1 = fake)."""
    videos, missing, unknown = [], 0, 0
    for folder, names in walk(root):
        if "labels.csv" in names:  # the test set has a metadata.json of another kind
            file, entries = folder / "labels.csv", {}
            table = read_table(file, ("filename", "label"))
            for name, label in zip(table["filename"], table["label"]):
                entries[name] = dict(label={"0": "REAL", "1": "FAKE"}.get(label), split="test")
        elif "metadata.json" in names:
            file = folder / "metadata.json"
            entries = read_json(file)
        else:
            continue
        if not isinstance(entries, dict):
            fail(f"{file} is not an object of videos, as DFDC ships it")
        for name, entry in sorted(entries.items()):
            label = entry.get("label") if isinstance(entry, dict) else None
            if label not in ("REAL", "FAKE"):
                fail(f"{file}: {name[:80]!r} has no label REAL or FAKE (labels.csv: 0 or 1)")
            path = inside(folder, name, file)
            if not path.is_file():
                missing += 1
                continue
            original = entry.get("original")  # may be missing, also for a fake
            split = {"train": "train", "validation": "val", "val": "val", "test": "test"}.get(
                entry.get("split"), ""
            )
            videos.append(
                make_video(
                    path,
                    int(label == "FAKE"),
                    label.lower(),
                    split,
                    original=Path(original).stem
                    if isinstance(original, str) and original
                    else path.stem,
                )
            )
        listed = set(entries)
        unknown += sum(
            Path(name).suffix.lower() in ENDINGS and name not in listed for name in names
        )
    if not videos:
        fail(
            f"{root} is not DFDC: no folder below it has a metadata.json or labels.csv beside its videos"
        )
    if missing or unknown:
        print(
            f"warning: {missing} listed videos are not there; {unknown} videos are in no list and are left out"
        )
    return videos, {("train", 0, "real"): 23654, ("train", 1, "fake"): 104500}


def layout_dfdc_preview(root):
    """DFDC-Preview: dataset.json, {relative path: {"label": real or fake, "set": train or test}}."""
    file = root / "dataset.json"
    if not file.is_file():
        fail(f"{root} is not DFDC-Preview: no dataset.json")
    entries, videos, missing = read_json(file), [], 0
    if not isinstance(entries, dict):
        fail(f"{file} is not an object of videos, as DFDC-Preview ships it")
    for name, entry in sorted(entries.items()):
        label, split = (
            (entry.get("label"), entry.get("set")) if isinstance(entry, dict) else (None, None)
        )
        if label not in ("real", "fake") or split not in ("train", "test"):
            fail(f"{file}: {name[:80]!r} has no label real or fake, or no set train or test")
        path = inside(root, name, file)
        if not path.is_file():
            missing += 1
            continue
        videos.append(
            make_video(path, int(label == "fake"), path.relative_to(root).parts[0], split)
        )
    if not videos:
        fail(f"{root}: none of the {len(entries)} videos of dataset.json is there")
    if missing:
        print(f"warning: {missing} videos of dataset.json are not there")
    return videos, {
        (None, 0, None): 1131,
        (None, 1, None): 4113,
        ("train", None, None): 4464,
        ("test", None, None): 780,
    }


def layout_dftimit(root, vidtimit, quality):
    """DeepfakeTIMIT at one quality, with the VidTIMIT recordings that its fakes were made from as reals.

    Fakes {higher,lower}_quality/SUBJECT/UTTERANCE-video-SOURCE.avi. Reals: folders of images, .../SUBJECT/.../UTTERANCE/, wherever
    below `vidtimit` they are; the images have no file ending in the official archive.
    """
    name = {"lq": "lower_quality", "hq": "higher_quality"}[quality]
    base = next(
        (path for path in (root / name, root / "DeepfakeTIMIT" / name) if path.is_dir()), None
    )
    if base is None:
        fail(f"{root} is not DeepfakeTIMIT: no {name}")
    videos, wanted, strange = [], set(), 0
    for path in find_videos(base):
        subject, match = path.parent.name, re.fullmatch(r"(.+)-video-(.+)", path.stem)
        if not match:
            strange += 1
            continue
        wanted.add((subject.lower(), match[1].lower()))
        videos.append(
            make_video(
                path,
                1,
                quality,
                stem=f"{subject}_{path.stem}",
                original=f"{subject}/{match[1]}".lower(),
                people=(subject.lower(), match[2].lower()),
            )
        )
    if not videos:
        fail(f"{base} holds no SUBJECT/UTTERANCE-video-SOURCE.avi")
    taken = set()
    for folder, names in walk(vidtimit or root):
        parts = [part.lower() for part in folder.parts]
        for key in (
            [(subject, parts[-1]) for subject in parts[:-1]]
            if names and "audio" not in parts
            else ()
        ):
            if key in wanted - taken and image_files(folder):
                taken.add(key)
                videos.append(
                    make_video(
                        folder,
                        0,
                        "vidtimit",
                        stem=f"{key[0]}_{key[1]}",
                        original="/".join(key),
                        people=key[:1],
                    )
                )
    if strange:
        print(
            f"warning: {strange} files of {base.name} are not named UTTERANCE-video-SOURCE and are left out"
        )
    if not taken:
        print(
            "warning: no real videos: give --vidtimit, the folder of VidTIMIT's SUBJECT/video/UTTERANCE image folders"
        )
    return videos, {("", 0, "vidtimit"): 320, ("", 1, quality): 320}

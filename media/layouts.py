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

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np

from common import fail, read_table

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
IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")  # first bytes of JPEG, PNG, BMP


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


def image_files(folder):
    """The images directly in a folder by their content, whatever their names end in: paths in the order of the numbers in their names."""

    def is_image(path):
        try:
            with open(path, "rb") as file:
                return file.read(8).startswith(IMAGES)
        except OSError:
            return False

    def natural(path):  # 2 before 10
        return [
            int(part) if k % 2 else part for k, part in enumerate(re.split("([0-9]+)", path.name))
        ]

    return sorted(
        (path for path in Path(folder).iterdir() if os.path.isfile(path) and is_image(path)),
        key=natural,
    )


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


# ---------------------------------------------------------------- the layouts


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


# ---------------------------------------------------------------- counts, splits, names


def count(videos, key):
    """How many of the videos have this (split, label, method), None standing for any."""
    return sum(
        all(
            want is None or video[name] == want
            for name, want in zip(("split", "label", "method"), key)
        )
        for video in videos
    )


def print_counts(videos, expected):
    """Print the videos found per split, label and method beside what the data set should have; warn where they differ."""
    found = Counter((video["split"], video["label"], video["method"]) for video in videos)
    exact = {key for key in expected if None not in key}
    wrong = 0
    for key in [*sorted(found.keys() | exact), *(key for key in expected if None in key)]:
        split, label, method = key
        title = f"{'all' if split is None else split or 'no split':<8} {('real', 'fake')[label] if label is not None else 'both':<5} {method or 'all':<20}"
        n = count(videos, key)
        differs = key in expected and n != expected[key]
        wrong += differs
        print(
            f"  {title} {n:7d} videos"
            + (f"   expected {expected[key]:7d}" if key in expected else "")
            + ("   DIFFERS" if differs else "")
        )
    if wrong:
        print(
            f"warning: {wrong} of these numbers are not the data set's own: is it complete, and is it this version?"
        )


def random_split(videos, parts, seed):
    """Draw train, val and test in the proportion of `parts` (three numbers), in place, reals and fakes alike.

    Videos of the same original or the same people stay together. Where nearly all hang together by their people (DFD, Celeb-DF:
    everybody is swapped with everybody), the people are drawn instead, and a fake between two splits gets none.
    """
    group = {}  # name -> its representative

    def find(name):
        while group.setdefault(name, name) != name:
            group[name] = group[group[name]]
            name = group[name]
        return name

    names = [video["people"] or (video["original"] or str(video["path"]),) for video in videos]
    for first, *others in names:
        for other in others:
            group[find(other)] = find(first)
    if max(Counter(find(first) for first, *_ in names).values()) > 0.5 * len(videos):
        group = {name: name for members in names for name in members}
    labels = defaultdict(set)
    for video, members in zip(videos, names):
        for name in members:
            labels[find(name)].add(video["label"])
    kinds, split_of, bounds = defaultdict(list), {}, np.cumsum(parts) / np.sum(parts)
    for name, found in labels.items():
        kinds[tuple(sorted(found))].append(name)
    for found in sorted(kinds):
        order = (
            np.random.default_rng((seed, len(found), found[0]))
            .permutation(sorted(kinds[found]))
            .tolist()
        )
        for k, name in enumerate(order):
            split_of[name] = ("train", "val", "test")[
                int(np.searchsorted(bounds, (k + 0.5) / len(order)))
            ]
    for video, members in zip(videos, names):
        splits = {split_of[find(name)] for name in members}
        video["split"] = splits.pop() if len(splits) == 1 else ""
    between = sum(video["split"] == "" for video in videos)
    if between:
        print(
            f"{between} of {len(videos)} videos show two people of different splits: they have no split"
        )


def split_in_order(videos, counts):
    """The first counts[0] originals in the order of their names are train, the next counts[1] val, the next counts[2] test; in place.

    A fake goes with its original; where a layout does not tell it, the videos of each method are counted in the order of their names. What
    comes after has no split (CLRNet, section 5: 750, 125, 125).
    """
    ends = np.cumsum(counts)
    originals = sorted(
        {video["original"] for video in videos if video["label"] == 0 and video["original"]}
    )
    place = {original: k for k, original in enumerate(originals)}
    seen = Counter()
    for video in sorted(
        videos, key=lambda video: (video["method"], video["stem"], str(video["path"]))
    ):
        k = place.get(video["original"])
        if k is None:
            k, seen[video["label"], video["method"]] = (
                seen[video["label"], video["method"]],
                seen[video["label"], video["method"]] + 1,
            )
        video["split"] = (*("train", "val", "test"), "")[
            int(np.searchsorted(ends, k, side="right"))
        ]


def split_draw(videos, counts, seed):
    """Draw counts[0] real and as many fake videos for train, counts[1] for val and counts[2] for test; returns the drawn ones alone.

    No two splits share an original or a pair of people; two splits may show the same person, as in the paper, whose DFD has 28 in all
    (CLRNet, section 5: of DFD 250, 25, 25). Ends the script where there are not so many.
    """
    owner = {}

    def keys(video):
        return [
            ("original", video["original"] or str(video["path"])),
            *([("people", tuple(sorted(video["people"])))] if len(video["people"]) == 2 else []),
        ]

    for label in (0, 1):
        pool = sorted(
            (video for video in videos if video["label"] == label),
            key=lambda video: str(video["path"]),
        )
        pool = [pool[k] for k in np.random.default_rng((seed, label)).permutation(len(pool))]
        for split, wanted in (("test", counts[2]), ("val", counts[1]), ("train", counts[0])):
            taken = []
            for video in pool:
                if len(taken) < wanted and all(
                    owner.get(key, split) == split for key in keys(video)
                ):
                    owner |= dict.fromkeys(keys(video), split)
                    video["split"] = split
                    taken.append(video)
            chosen = set(map(id, taken))
            pool = [video for video in pool if id(video) not in chosen]
            if len(taken) < wanted:
                fail(
                    f"--split-draw: {wanted} {('real', 'fake')[label]} videos are wanted for {split}, there are {len(taken)} that share no original "
                    f"and no pair of people with another split"
                )
        for video in pool:
            video["split"] = None
    return [video for video in videos if video["split"] is not None]


def drop_leaks(videos):
    """Take what would leak between splits out of its split, in place, and say so: the test split is kept, then val.

    Two splits must not share a video (the same file or the same bytes), an original, or a pair of target and source.
    """
    sizes = defaultdict(set)  # bytes -> the splits that have a file of that size
    for video in videos:
        if video["split"] and video["path"].is_file():
            video["bytes"] = video["path"].stat().st_size
            sizes[video["bytes"]].add(video["split"])

    def keys(video):
        if video["original"]:
            yield "the original", video["original"]
        yield "the file", os.path.realpath(video["path"])
        if len(sizes.get(video.get("bytes"), ())) > 1 and video["bytes"]:
            with open(video["path"], "rb") as file:
                yield "the same bytes", hashlib.file_digest(file, "sha256").hexdigest()
        if len(video["people"]) == 2:
            yield "the pair of people", tuple(sorted(video["people"]))

    owner, leaks = {}, Counter()
    for split in ("test", "val", "train"):
        kept = []
        for video in [video for video in videos if video["split"] == split]:
            try:
                found = list(keys(video))
            except OSError:  # unreadable: reported when it is decoded
                found = []
            leak = next(
                ((what, owner[what, value]) for what, value in found if (what, value) in owner),
                None,
            )
            if leak:
                leaks[split, *leak] += 1
                video["split"] = ""
            kept += [] if leak else found
        for what, value in kept:
            owner[what, value] = split
    for (split, what, other), n in sorted(leaks.items()):
        print(
            f"warning: {n} videos of {split} share {what} with {other}: they are taken out of {split}, and have no split now"
        )
    if any(video["split"] for video in videos) and not leaks:
        print("no video, original or pair of people is in two splits")


def name_videos(videos):
    """Give each video its unique name, `METHOD_STEM` (or `STEM`) in letters that every file system takes; in place.

    Where letters had to go or two names meet (000_003 of four methods, a.mp4 and a.avi), a hash of the path sets them apart.
    """
    plain = ["_".join(filter(None, (video["method"], video["stem"]))) for video in videos]
    names = [re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].strip(".") for name in plain]
    times = Counter(name.lower() for name in names)
    root = os.path.commonpath([os.path.abspath(video["path"].parent) for video in videos])
    for video, name, before in zip(videos, names, plain):
        video["source"] = os.path.relpath(os.path.abspath(video["path"]), root)
        if name != before or times[name.lower()] > 1:
            name += "-" + hashlib.sha1(os.fsencode(video["source"])).hexdigest()[:8]
        video["name"] = name
    twice = [name for name, n in Counter(video["name"] for video in videos).items() if n > 1]
    if twice:
        fail(
            f"the same video is listed twice: {[v['source'] for v in videos if v['name'] == twice[0]][0]!r}"
        )

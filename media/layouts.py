"""How each data set lies on disk, as its authors ship it: one function per data set. Used by 01.

A video is a dict:

    path      the video file, or the folder of images if a data set ships videos so (VidTIMIT)
    label     0 = real, 1 = fake
    method    the manipulation, or the kind of original; with `stem` it names the video
    split     train, val, test, or empty
    stem      the file's name without its ending, made unique if the data set repeats names
    original  name of the recording that the video shows, or empty if the data set does not tell it:
              the target of a fake, a real video itself
    people    the identities that the data set tells: (target, source) of a fake, else (target,) or
              ()

Later steps add: mask (add_masks), boxes, asked (01_extract_faces.py), name and source
(splits.name_videos).

A layout returns the videos and what the data set should hold: {(split, label, method): number},
None standing for any. Layouts print what they notice, and exit with an error if the folder is not
that data set.
"""

import json
import re
from pathlib import Path

from common import fail, printable, read_table
from media.photos import image_files
from media.video import ENDINGS, find_crops, find_videos, walk

KINDS = ("real", "fake")
# Names of folders, in lower case, and the splits and labels that they stand for.
SPLIT_OF = dict(train="train", val="val", valid="val", validation="val", test="test")
LABEL_OF = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}


def make_video(path, label, method, split="", stem=None, original="", people=()):
    """A video as the module's docstring describes it."""
    path = Path(path)
    names = dict(stem=stem or path.stem, original=plain(original), people=tuple(people))
    return dict(path=path, label=label, method=plain(method), split=split, **names)


def plain(name):
    """A name as printable text that no spreadsheet takes for a formula."""
    return re.sub("^[=+@-]", "_", printable(name))


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


def videos_listed(entries, folder, file):
    """Yield (name, entry, FOLDER/NAME) for {name: entry} of `file`; an entry is a dict.

    Exits with an error if a name leads out of the folder.
    """
    for name, entry in sorted(entries.items()):
        parts = Path(name.replace("\\", "/")).parts
        if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0]:
            fail(f"{file}: {name[:80]!r} leads out of its folder")
        yield name, entry if isinstance(entry, dict) else {}, folder.joinpath(*parts)


def warn(count, text):
    """Print a warning about `count` things, if there are any."""
    if count:
        print(f"warning: {count} {text}")


def layout_folders(root, crops=False):
    """`[train|val|test/]real/**`, `[train|val|test/]fake/**`; folders inside name the method.

    Videos and photos; with `crops`, folders of images, each of which is a video. Names of folders
    may be in any case, and those in SPLIT_OF and LABEL_OF. A warning names what is left out.
    """
    videos = []
    left_out = []
    parts = [path for path in sorted(root.glob("[!.]*")) if path.name.lower() in SPLIT_OF]
    for folder in (root, *filter(Path.is_dir, parts)):
        split = "" if folder == root else SPLIT_OF[folder.name.lower()]
        for base in sorted({*folder.glob("[!.]*")} - {*parts}):
            paths = find_crops(base) if crops else find_videos(base, photos=True)
            label = LABEL_OF.get(base.name.lower())
            if label is None and (paths or base.suffix.lower() in ENDINGS):
                left_out.append(printable(base.relative_to(root)))
            elif label is not None:
                for path in paths:
                    method = (*path.relative_to(base).parent.parts, KINDS[label])[0]
                    videos.append(make_video(path, label, method, split))
    names = ", ".join(left_out[:5])
    if not videos:
        fail(f"{root} has no videos in real/, fake/, train/real/ ...; it has: {names or 'none'}")
    warn(len(left_out), f"folders or files, neither real/ nor fake/, are left out: {names}")
    return videos, {}


def layout_crops(root):
    """As `layout_folders`, but each folder of images is a video."""
    return layout_folders(root, crops=True)


def layout_list(file):
    """A CSV with path, label and, optionally, method, split and original.

    A folder of images is a video. `original` names the recording that a video shows, by the path,
    file name or stem of its real video, or by any name.
    """
    table = read_table(file, ("path", "label"))
    names = ("path", "label", "method", "split", "original")
    columns = [table.get(name, [""] * len(table["path"])) for name in names]
    originals = {*columns[-1], ""}
    videos = []
    for row, (path, label, method, split, original) in enumerate(zip(*columns), 1):
        if label not in ("0", "1"):
            fail(f"{file}, data row {row}: label is {label[:20]!r}; 0 is real, 1 is fake")
        if split.lower() not in ("", *SPLIT_OF):
            fail(f"{file}, data row {row}: split is {split[:20]!r}, not train, val, test or empty")
        if "\0" in path:
            fail(f"{file}, data row {row}: the path contains a zero byte")
        if len(originals) > 1 and label == "0" and not original:
            names = (path, Path(path).name, Path(path).stem)
            original = next((name for name in names if name in originals), path)
        method, split = method or KINDS[int(label)], SPLIT_OF.get(split.lower(), "")
        videos.append(make_video(file.parent / path, int(label), method, split, original=original))
    if not videos:
        fail(f"{file} has no rows")
    return videos, {}


def layout_ffpp(root, methods, compression):
    """FaceForensics++: original_sequences/youtube, manipulated_sequences/METHOD, and split files.

    A fake is TARGET_SOURCE. methods: names of manipulations; ["originals"] for none; None for all
    but DeepFakeDetection, which is another data set in the same tree (`layout_dfd`).
    """
    fakes = root / "manipulated_sequences"
    trees = [path.parts[-3:-1] for path in sorted(fakes.glob("*/*/videos"))]
    trees = [(name, quality) for name, quality in trees if name != "DeepFakeDetection"]
    there = [name for name, quality in trees if quality == compression]
    if methods is None and trees and not there:
        fail(f"{fakes} has no videos at {compression}: give --compression, or --method originals")
    methods = there if methods is None else [name for name in methods if name != "originals"]
    for method in methods:
        if method not in there:
            fail(f"{fakes} has no {method} at {compression}; DeepFakeDetection is --layout dfd")
    split_of = read_ffpp_splits(root)
    videos = []
    bases = [(0, "youtube", root / "original_sequences/youtube")]
    bases += [(1, method, fakes / method) for method in methods]
    for label, method, base in bases:
        for path in find_videos(base / compression / "videos"):
            people = path.stem.split("_")
            splits = {split_of.get(person, "") for person in people}
            split = splits.pop() if len(splits) == 1 else ""
            videos.append(make_video(path, label, method, split, original=people[0], people=people))
    if not videos:
        fail(f"{root} is not FaceForensics++: no original_sequences/youtube/{compression}/videos")
    if not split_of:
        print("no split files (train.json, val.json, test.json) in this tree")
    outside = sum(video["split"] == "" for video in videos) if split_of else 0
    warn(outside, f"of {len(videos)} videos have no split: in no split file, or two")
    sizes = {"train": 720, "val": 140, "test": 140} if split_of else {"": 1000}
    return videos, {(split, label, m): n for label, m, _ in bases for split, n in sizes.items()}


def read_ffpp_splits(root):
    """{name of an original: split} from train.json, val.json and test.json, empty without them."""
    split_of = {}
    for split in ("train", "val", "test"):
        files = (root / "splits" / f"{split}.json", root / f"{split}.json")
        for file in filter(Path.is_file, files):
            for pair in read_json(file, list, "a list of pairs of names"):
                if not isinstance(pair, list) or len(pair) != 2:
                    fail(f"{file} is not a list of pairs of names, as FaceForensics++ ships it")
                for name in map(str, pair):
                    if split_of.setdefault(name, split) != split:
                        fail(f"{file}: {name} is also in {split_of[name]}: remove one")
    return split_of


def layout_dfd(root, compression):
    """DeepFakeDetection in a FaceForensics++ tree, without splits.

    Originals under actors are ACTOR__SCENE, fakes are TARGET_SOURCE__SCENE__ID.
    """
    folders = ("original_sequences/actors", "manipulated_sequences/DeepFakeDetection")
    videos = []
    for label, folder in enumerate(folders):
        method = Path(folder).name
        for path in find_videos(root / folder / compression / "videos"):
            people, _, scene = path.stem.partition("__")
            people = people.split("_") if label else [people]
            original = f"{people[0]}__{scene.split('__')[0]}" if label else path.stem
            videos.append(make_video(path, label, method, original=original, people=people))
    if not videos:
        fail(f"{root} is not DeepFakeDetection: no {compression}/videos in {' and '.join(folders)}")
    return videos, {("", 0, "actors"): 363, ("", 1, "DeepFakeDetection"): 3068}


def add_masks(videos, root):
    """Add to videos of a FaceForensics++ tree `mask`, a video in which forged pixels are white.

    That of METHOD/COMPRESSION/videos/NAME.mp4 is METHOD/masks/videos/NAME.mp4; an original gets
    that of its first fake by method and name. `boxes` names it, or says that there is none.
    """
    folders = sorted(root.glob("manipulated_sequences/*/masks/videos"))
    masks = {path: None for folder in folders for path in find_videos(folder)}
    of_original = {}
    for path in masks:
        people, *scene = path.stem.split("__")[:2]  # TARGET_SOURCE, of DFD TARGET_SOURCE__SCENE__ID
        of_original.setdefault("__".join([people.split("_")[0], *scene]), path)
    for video in videos:
        video["boxes"] = "largest, no mask"
        mask = of_original.get(video["original"])
        if video["label"]:
            mask = video["path"].parents[2] / "masks/videos" / video["path"].name
        if mask in masks:
            video |= dict(mask=mask, boxes=f"mask of {plain(mask.parts[-4])}/{plain(mask.stem)}")


def layout_celebdf(root):
    """Celeb-DF v1, v2 or ++: Celeb-real, YouTube-real, Celeb-synthesis, List_of_testing_videos.txt.

    Videos in the list are test, the others train. A fake idA_idB_N is made from idA_N. Celeb-DF++
    has Celeb-synthesis/KIND/GENERATOR, whose methods are the generators. Of versions 1 and 2, the
    one with the closer number of videos is assumed.
    """
    methods = {name.lower(): name for name in ("Celeb-real", "YouTube-real", "Celeb-synthesis")}
    videos = []
    file = root / "List_of_testing_videos.txt"
    split = "train" if file.is_file() else ""
    for folder in sorted(path for path in root.iterdir() if path.name.lower() in methods):
        for path in find_videos(folder):
            *people, number = path.stem.split("_")
            original = f"{people[0]}_{number}" if people else f"YouTube-real/{path.stem}"
            method = methods[folder.name.lower()]
            label = int(method == "Celeb-synthesis")
            if label and path.parent.name not in (folder.name, "videos"):
                method = path.parent.name
            names = dict(original=original, people=people[:2])
            videos.append(make_video(path, label, method, split, **names))
    if not videos:
        fail(f"{root} is not Celeb-DF: no videos in Celeb-real, YouTube-real and Celeb-synthesis")
    if split:
        read_celebdf_list(file, videos)
    else:
        print(f"warning: no {file.name} in {root}: all videos are without a split")
    if any(video["method"] not in methods.values() for video in videos):
        print("read as Celeb-DF++, whose numbers of videos are not compared")
        return videos, {}
    is_v1 = abs(len(videos) - 1203) < abs(len(videos) - 6529)
    print(f"counted as Celeb-DF v{1 if is_v1 else 2}")
    keys = [(None, int(k == 2), name) for k, name in enumerate(methods.values())]
    keys += [("test", None, None)] if split else []
    return videos, dict(zip(keys, (158, 250, 795, 100) if is_v1 else (590, 300, 5639, 518)))


def celebdf_name(path):
    """A path inside Celeb-DF without its ending, in lower case, without the folders `videos`."""
    return "/".join(part for part in path.with_suffix("").parts if part != "videos").lower()


def read_celebdf_list(file, videos):
    """Make the videos in List_of_testing_videos.txt test. The file has no header; 1 is REAL."""
    by_name = {celebdf_name(video["path"].relative_to(file.parent)): video for video in videos}
    missing = 0
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        match = re.fullmatch(r"([01])\s+((?:Celeb|YouTube)-\S+/\S+)|", line.strip(), re.I)
        if not match:
            fail(f"{file}, line {number}: {line[:60]!r} is not like `1 YouTube-real/00170.mp4`")
        if not match[1]:
            continue
        video = by_name.get(celebdf_name(Path(match[2])))
        if video is None:
            missing += 1
        elif int(match[1]) == video["label"]:
            fail(f"{file}, line {number}: {match[1]} for {match[2]}; in it 1 is real, 0 is fake")
        else:
            video["split"] = "test"
    warn(missing, f"videos of {file.name} are missing")


def layout_dfdc(root):
    """DFDC: every folder below DIR with a metadata.json or a labels.csv, in which 1 is fake.

    The test set's metadata.json has is_fake instead of label. An `original` may be missing.
    """
    labels = {"REAL": 0, "FAKE": 1, "0": 0, "1": 1}
    videos = []
    unlisted = []
    listed = 0
    for folder, names in walk(root):
        if "labels.csv" in names:
            # A metadata.json beside it holds the same labels.
            file = folder / "labels.csv"
            table = read_table(file, ("filename", "label"))
            entries = {n: dict(is_fake=k) for n, k in zip(table["filename"], table["label"])}
        elif "metadata.json" in names:
            file = folder / "metadata.json"
            entries = read_json(file, dict, "an object of videos")
        else:
            file, entries = folder, {}
        # The training parts state their split; of the two other sets, the folder's name tells it.
        parents = folder.resolve().parts[:-3:-1]
        place = next((name for name in parents if name.lower() in SPLIT_OF), "test")
        listed += len(entries)
        for name, entry, path in videos_listed(entries, folder, file):
            label = labels.get(str(entry.get("label", entry.get("is_fake"))))
            if label is None:
                fail(f"{file}: {name[:80]!r} has no label REAL or FAKE, and no is_fake 0 or 1")
            split = entry.get("split", place if "is_fake" in entry else "")
            split = SPLIT_OF.get(str(split).lower(), "")
            original = Path(str(entry.get("original") or "") if label else name).stem
            if path.is_file():
                videos.append(make_video(path, label, KINDS[label], split, original=original))
        unlisted += [folder / name for name in names if Path(name).suffix.lower() in ENDINGS]
    if not videos:
        fail(f"{root} is not DFDC: no metadata.json or labels.csv beside videos below it")
    warn(listed - len(videos), "listed videos are missing")
    unlisted = {*unlisted} - {video["path"] for video in videos}
    folders = sorted({printable(path.parent.relative_to(root)) for path in unlisted})
    warn(len(unlisted), f"videos are in no list and are left out, in: {', '.join(folders[:5])}")
    splits = {video["split"] for video in videos}
    # The 50 training parts; 23654 real and 104500 fake are with validation and test.
    train = {("train", 0, "real"): 19154, ("train", 1, "fake"): 100000}
    whole = {(None, 0, None): 23654, (None, 1, None): 104500}
    expected = train if "train" in splits else {}
    return videos, expected | (whole if {"train", "val", "test"} <= splits else {})


def layout_dfdc_preview(root):
    """DFDC-Preview: dataset.json, {path: {"label": real or fake, "set": train or test}}.

    Of a fake, it also has source_video, the original, and the numbers target_id and swapped_id of
    the two people.
    """
    file = root / "dataset.json"
    entries = read_json(file, dict, "an object of videos")
    videos = []
    for name, entry, path in videos_listed(entries, root, file):
        label, split = entry.get("label"), entry.get("set")
        if label not in KINDS or split not in ("train", "test"):
            fail(f"{file}: {name[:80]!r} has no label real or fake, or no set train or test")
        source = name if label == "real" else entry.get("source_video") or ""
        ids = (entry.get("target_id"), entry.get("swapped_id"))
        people = [str(number) for number in ids if number is not None]
        who = dict(original=Path(str(source)).stem, people=people)
        method = path.relative_to(root).parts[0]
        if path.is_file():
            videos.append(make_video(path, KINDS.index(label), method, split, **who))
    if not videos:
        fail(f"{root}: all {len(entries)} videos of dataset.json are missing")
    warn(len(entries) - len(videos), "videos of dataset.json are missing")
    labels = {(None, 0, None): 1131, (None, 1, None): 4113}
    return videos, labels | {("train", None, None): 4464, ("test", None, None): 780}


def layout_dftimit(root, vidtimit, quality):
    """DeepfakeTIMIT at one quality ("lq", "hq"), and the recordings its fakes were made from.

    Fakes are {higher,lower}_quality/SUBJECT/UTTERANCE-video-SOURCE.avi. The reals are VidTIMIT's
    folders of images .../SUBJECT/.../UTTERANCE/, wherever they are below `vidtimit` (or `root`).
    """
    name = {"lq": "lower_quality", "hq": "higher_quality"}[quality]
    base = root / name if (root / name).is_dir() else root / "DeepfakeTIMIT" / name
    videos = []
    recordings = set()
    paths = find_videos(base)
    for path in (path for path in paths if "-video-" in path.stem):
        subject = path.parent.name.lower()
        utterance, source = path.stem.lower().split("-video-", 1)
        recordings.add((subject, utterance))
        names = dict(stem=f"{path.parent.name}_{path.stem}", original=f"{subject}/{utterance}")
        videos.append(make_video(path, 1, quality, **names, people=(subject, source)))
    if not videos:
        fail(f"{root} is not DeepfakeTIMIT: no {name}/SUBJECT/UTTERANCE-video-SOURCE.avi")
    for folder, files in walk(vidtimit or root):
        parts = [part.lower() for part in folder.parts]
        if not files or "audio" in parts:
            continue
        for subject in parts[:-1]:
            recording = (subject, parts[-1])
            if recording in recordings and image_files(folder):
                recordings.remove(recording)
                names = dict(stem="_".join(recording), original="/".join(recording))
                videos.append(make_video(folder, 0, "vidtimit", **names, people=(subject,)))
    misnamed = len(paths) - sum(video["label"] for video in videos)
    warn(misnamed, f"files of {name} are not named UTTERANCE-video-SOURCE: left out")
    if all(video["label"] for video in videos):
        print("warning: no real videos: give --vidtimit, the folder with VidTIMIT's image folders")
    return videos, {("", 0, "vidtimit"): 320, ("", 1, quality): 320}

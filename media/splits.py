"""Splits of videos (drawn, in order, checked for leaks) and their unique names.

A video is a dict as media/layouts.py makes it. Functions change the videos in place.
"""

import contextlib
import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from common import fail, printable, progress
from media.photos import image_files

SPLITS = ("train", "val", "test")
PAIR = "the pair of people"


def print_counts(videos, expected):
    """Print the number of videos per split, label and method beside what the data set should have.

    expected: {(split, label, method): number}, None standing for any. Prints a warning if numbers
    differ.
    """
    counts = dict(Counter((video["split"], video["label"], video["method"]) for video in videos))
    counts |= {
        key: sum(n for of, n in counts.items() if all(k in (None, v) for k, v in zip(key, of)))
        for key in expected
    }
    different = 0
    for key in sorted(counts, key=lambda key: (None in key, [str(value) for value in key])):
        split, label, method = key
        split = "all" if split is None else split or "no split"
        kind = "both" if label is None else ("real", "fake")[label]
        line = f"  {split:<8} {kind:<5} {method or 'all':<20} {counts[key]:7d} videos"
        if key in expected:
            line += f"   expected {expected[key]:7d}"
            if counts[key] != expected[key]:
                line += "   DIFFERS"
                different += 1
        print(line)
    if different:
        print(
            f"warning: {different} of these numbers are not those of the data set: is it complete, "
            "and is it this version?"
        )


def random_split(videos, parts, seed):
    """Draw train, val and test in the proportion of `parts` (three numbers), reals and fakes alike.

    Videos of the same original or the same people stay together. If more than half of the videos
    are connected by their people (DFD, Celeb-DF: everybody is swapped with everybody), the people
    are drawn instead, and a fake between two splits gets none.
    """
    target_of = {v["original"]: v["people"][:1] for v in videos if v["original"] and v["people"]}
    members = []
    for video in videos:
        names = video["people"] or target_of.get(video["original"])
        members.append(names or (video["original"] or str(video["path"]),))
    connected = {}  # of each name, the set of all names that videos connect with it
    for names in members:
        group = set(names).union(*(connected.get(name, ()) for name in names))
        connected |= dict.fromkeys(group, group)
    group_of = {name: min(group) for name, group in connected.items()}
    if max(Counter(group_of[names[0]] for names in members).values()) > 0.5 * len(videos):
        group_of = {name: name for name in connected}
    # Groups that have videos of the same labels are drawn together.
    groups = [{group_of[name] for name in names} for names in members]
    labels = defaultdict(set)
    for video, groups_of_video in zip(videos, groups):
        for group in groups_of_video:
            labels[group].add(video["label"])
    kinds = defaultdict(list)
    for group in sorted(labels):
        kinds[tuple(sorted(labels[group]))].append(group)
    bounds = np.cumsum(parts) / np.sum(parts)
    split_of = {}
    for kind, members_of_kind in sorted(kinds.items()):
        random = np.random.default_rng((seed, len(kind), kind[0]))
        for k, place in enumerate(random.permutation(len(members_of_kind))):
            share = (k + 0.5) / len(members_of_kind)
            split_of[members_of_kind[place]] = SPLITS[int(np.searchsorted(bounds, share))]
    for video, groups_of_video in zip(videos, groups):
        splits = {split_of[group] for group in groups_of_video}
        video["split"] = splits.pop() if len(splits) == 1 else ""
    between = sum(video["split"] == "" for video in videos)
    if between:
        print(f"{between} videos show two people of different splits and are in no split")


def split_in_order(videos, counts):
    """The first counts[0] originals by name are train, the next counts[1] val, then counts[2] test.

    A fake goes with its original. Where a layout does not tell the original, the videos of each
    method are counted in the order of their names. Videos beyond the counts are in no split
    (CLRNet, section 5: 750, 125, 125).
    """
    ends = np.cumsum(counts)
    originals = {video["original"] for video in videos if video["label"] == 0}
    place = {original: k for k, original in enumerate(sorted(originals - {""}))}
    seen = Counter()
    for video in sorted(videos, key=lambda v: (v["method"], v["stem"], str(v["path"]))):
        k = place.get(video["original"])
        if k is None:
            kind = (video["label"], video["method"])
            k = seen[kind]
            seen[kind] += 1
        video["split"] = (*SPLITS, "")[int(np.searchsorted(ends, k, side="right"))]


def original_and_pair(video):
    """Yield what two splits must not share of a video's names, as (kind of name, name)."""
    if video["original"]:
        yield "the original", video["original"]
    if len(video["people"]) == 2:
        yield PAIR, tuple(sorted(video["people"]))


def split_draw(videos, counts, seed):
    """Draw counts[0] real and as many fake videos for train, counts[1] for val, counts[2] for test.

    Returns these videos. No two splits share an original or a pair of people. They may show the
    same person, as in the paper, whose DFD has 28 people in all (CLRNet, section 5: of DFD 250, 25,
    25). Exits with an error if there are not enough videos.
    """
    owner = {}
    selected = []
    for label, kind in enumerate(("real", "fake")):
        pool = [video for video in videos if video["label"] == label]
        pool.sort(key=lambda video: str(video["path"]))
        pool = [pool[k] for k in np.random.default_rng((seed, label)).permutation(len(pool))]
        for split, wanted in zip(SPLITS[::-1], counts[::-1]):
            rest = []
            number = 0
            for video in pool:
                keys = dict.fromkeys(original_and_pair(video), split)
                if number < wanted and all(owner.get(key, split) == split for key in keys):
                    owner |= keys
                    video["split"] = split
                    selected.append(video)
                    number += 1
                else:
                    rest.append(video)
            if number < wanted:
                fail(
                    f"--split-draw: {wanted} {kind} videos are needed for {split}, there are "
                    f"{number} that share no original and no pair of people with another split"
                )
            pool = rest
    return selected


def hash_files(videos):
    """The SHA-256 of the files of videos that could be equal: a list of sets, one per video.

    A file is hashed if another of its size has another split or label. Of a folder, the files are
    its images. Files that are empty or cannot be read are left out; decoding them will tell why.
    """
    kinds_of_size = defaultdict(set)
    files = []
    for number, video in enumerate(videos):
        path = video["path"]
        with contextlib.suppress(OSError):
            for file in image_files(path) if path.is_dir() else [path]:
                size = file.stat().st_size
                kinds_of_size[size].add((video["split"], video["label"]))
                files.append((number, file, size))
    hashes = [set() for _ in videos]
    files = [entry for entry in files if entry[2] and len(kinds_of_size[entry[2]]) > 1]
    for number, file, _ in progress(files, unit="file"):
        with contextlib.suppress(OSError), open(file, "rb") as handle:
            hashes[number].add(hashlib.file_digest(handle, "sha256").hexdigest())
    return hashes


def drop_leaks(videos, keep_pairs=False):
    """Take videos that would leak between splits out of their split; prints a warning.

    Two splits must not share a video (the same file or the same bytes), an original, or a pair of
    target and source. The test split is kept as it is, then val. With `keep_pairs`, as in CLRNet's
    protocol for FaceForensics++, a shared pair of people is only counted and warned of. Prints what
    was checked, and what of it the data set does not tell. Equal files under both labels are warned
    of.
    """
    hashes = hash_files(videos)
    first = {}
    equal = {}
    for video, hashes_of_video in zip(videos, hashes):
        for digest in hashes_of_video:
            other = first.setdefault(digest, video)
            if other["label"] != video["label"]:
                equal[digest] = f"{printable(other['path'])} and {printable(video['path'])}"
    if equal:
        example = min(equal.values())
        print(f"warning: {len(equal)} files are both real and fake, byte for byte, as in {example}")
    owner = {}
    leaks = Counter()
    for split in SPLITS[::-1]:
        kept = []
        for video, hashes_of_video in zip(videos, hashes):
            if video["split"] != split:
                continue
            keys = [("the file", os.path.realpath(video["path"])), *original_and_pair(video)]
            keys += [("the same bytes", digest) for digest in hashes_of_video]
            leak = next((key for key in keys if key in owner), None)
            if leak:
                leaks[split, leak[0], owner[leak]] += 1
            if leak and not (keep_pairs and leak[0] == PAIR):
                video["split"] = ""
            else:
                kept += keys
        owner = dict.fromkeys(kept, split) | owner
    for (split, what, other), number in sorted(leaks.items()):
        fate = f"they are taken out of {split} and are in no split now"
        if keep_pairs and what == PAIR:
            fate = "they stay (--keep-pairs), so the splits are not independent"
        print(f"warning: {number} videos of {split} share {what} with {other}: {fate}")
    in_split = [video for video in videos if video["split"]]
    if len({video["split"] for video in in_split}) > 1:
        originals = sum(video["original"] != "" for video in in_split)
        people = sum(video["people"] != () for video in in_split)
        pairs = "" if keep_pairs else " or a pair of people"
        print(
            f"checked: no two splits share a file, equal bytes, an original{pairs}, as far as "
            f"these are known: the originals of {originals} and the people of {people} of "
            f"{len(in_split)} videos. What the others show, and copies of other bytes, cannot be "
            "checked"
        )


def name_videos(videos):
    """Give each video a unique "name", METHOD_STEM or STEM, that every file system takes.

    Where characters had to be replaced or two names are the same (a.mp4 and a.avi, or 000_003 in
    two folders), a hash of the path is appended. "source" becomes the path below the folder that
    holds all videos. Neither has control characters or begins like a formula of a spreadsheet.
    Exits with an error if a video is listed twice.
    """
    titles = ["_".join(filter(None, (video["method"], video["stem"]))) for video in videos]
    names = [re.sub(r"[^A-Za-z0-9._-]+", "_", title)[:80].strip(".-") for title in titles]
    times = Counter(name.lower() for name in names)
    root = os.path.commonpath([os.path.abspath(video["path"].parent) for video in videos])
    taken = set()
    for video, name, title in zip(videos, names, titles):
        source = os.path.relpath(os.path.abspath(video["path"]), root)
        if name != title or times[name.lower()] > 1:
            name += "-" + hashlib.sha1(os.fsencode(source)).hexdigest()[:8]
        video["source"] = re.sub("^(?=[=+@-])", "./", printable(source))
        if name in taken:
            fail(f"{video['source']} is listed twice: remove one of the two")
        taken.add(name)
        video["name"] = name


def generated(videos):
    """Whether any video was made by 00_make_demo_videos.py, or is crops of one that was.

    Then a folder above it, links followed, holds that script's args.json, or stage 01's.
    """
    paths = (Path(os.path.realpath(video["path"])) for video in videos)
    for folder in {folder for path in paths for folder in path.parents}:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
            if args["script"] == "00_make_demo_videos.py" or args["flags"].get("generated"):
                return True
    return False

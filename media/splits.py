"""Splits of videos (drawn, in order, checked for leaks) and their unique names.

A video is a dict as media/layouts.py makes it. Functions change the videos in place.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np

from common import fail

SPLITS = ("train", "val", "test")


def print_counts(videos, expected):
    """Print the number of videos per split, label and method beside what the data set should have.

    expected: {(split, label, method): number}, None standing for any. Prints a warning if numbers
    differ.
    """

    def count(key):
        fields = ("split", "label", "method")
        wanted = [(name, value) for name, value in zip(fields, key) if value is not None]
        return sum(all(video[name] == value for name, value in wanted) for video in videos)

    found = {(video["split"], video["label"], video["method"]) for video in videos}
    exact = {key for key in expected if None not in key}
    different = 0
    for key in [*sorted(found | exact), *(key for key in expected if None in key)]:
        split, label, method = key
        split = "all" if split is None else split or "no split"
        kind = "both" if label is None else ("real", "fake")[label]
        number = count(key)
        line = f"  {split:<8} {kind:<5} {method or 'all':<20} {number:7d} videos"
        if key in expected:
            line += f"   expected {expected[key]:7d}"
            if number != expected[key]:
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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    members = [video["people"] or (video["original"] or str(video["path"]),) for video in videos]
    names = sorted({name for names_of_video in members for name in names_of_video})
    number = {name: k for k, name in enumerate(names)}
    members = [[number[name] for name in names_of_video] for names_of_video in members]
    edges = [(first, other) for first, *others in members for other in others]
    edges = np.array(edges, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    # The group of each name, by the number of the first name in it.
    _, first_name, inverse = np.unique(component, return_index=True, return_inverse=True)
    group_of = first_name[inverse].tolist()
    if max(Counter(group_of[first] for first, *_ in members).values()) > 0.5 * len(videos):
        group_of = range(len(names))
    # Groups that have videos of the same labels are drawn together.
    labels = defaultdict(set)
    for video, numbers in zip(videos, members):
        for k in numbers:
            labels[group_of[k]].add(video["label"])
    kinds = defaultdict(list)
    for group, found in labels.items():
        kinds[tuple(sorted(found))].append(group)
    bounds = np.cumsum(parts) / np.sum(parts)
    split_of = {}
    for found in sorted(kinds):
        random = np.random.default_rng((seed, len(found), found[0]))
        order = random.permutation(sorted(kinds[found])).tolist()
        for k, group in enumerate(order):
            place = (k + 0.5) / len(order)
            split_of[group] = SPLITS[int(np.searchsorted(bounds, place))]
    for video, numbers in zip(videos, members):
        splits = {split_of[group_of[k]] for k in numbers}
        video["split"] = splits.pop() if len(splits) == 1 else ""
    between = sum(video["split"] == "" for video in videos)
    if between:
        print(
            f"{between} of {len(videos)} videos show two people of different splits and are in no "
            "split"
        )


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


def split_draw(videos, counts, seed):
    """Draw counts[0] real and as many fake videos for train, counts[1] for val, counts[2] for test.

    Returns the drawn videos. No two splits share an original or a pair of people. They may show the
    same person, as in the paper, whose DFD has 28 people in all (CLRNet, section 5: of DFD 250, 25,
    25). Exits with an error if there are not enough videos.
    """
    owner = {}

    def keys(video):
        yield "original", video["original"] or str(video["path"])
        if len(video["people"]) == 2:
            yield "people", tuple(sorted(video["people"]))

    for label in (0, 1):
        pool = [video for video in videos if video["label"] == label]
        pool.sort(key=lambda video: str(video["path"]))
        pool = [pool[k] for k in np.random.default_rng((seed, label)).permutation(len(pool))]
        for split, wanted in zip(SPLITS[::-1], counts[::-1]):
            taken, rest = [], []
            for video in pool:
                free = all(owner.get(key, split) == split for key in keys(video))
                if len(taken) < wanted and free:
                    owner.update(dict.fromkeys(keys(video), split))
                    video["split"] = split
                    taken.append(video)
                else:
                    rest.append(video)
            if len(taken) < wanted:
                kind = ("real", "fake")[label]
                fail(
                    f"--split-draw: {wanted} {kind} videos are wanted for {split}, there are "
                    f"{len(taken)} that share no original and no pair of people with another split"
                )
            pool = rest
        for video in pool:
            video["split"] = None
    return [video for video in videos if video["split"] is not None]


def drop_leaks(videos, keep_pairs=False):
    """Take videos that would leak between splits out of their split; prints a warning.

    Two splits must not share a video (the same file or the same bytes), an original, or a pair of
    target and source. The test split is kept as it is, then val. With `keep_pairs`, as in CLRNet's
    protocol for FaceForensics++, a shared pair of people is only counted and warned of.
    """
    # Only files of a size that several splits have are read, to compare their bytes.
    splits_of_size = defaultdict(set)
    for video in videos:
        if video["split"] and video["path"].is_file():
            video["bytes"] = video["path"].stat().st_size
            splits_of_size[video["bytes"]].add(video["split"])

    def keys(video):
        if video["original"]:
            yield "the original", video["original"]
        yield "the file", os.path.realpath(video["path"])
        if video.get("bytes") and len(splits_of_size[video["bytes"]]) > 1:
            with open(video["path"], "rb") as file:
                yield "the same bytes", hashlib.file_digest(file, "sha256").hexdigest()
        if len(video["people"]) == 2:
            yield pair, tuple(sorted(video["people"]))

    pair = "the pair of people"
    owner = {}
    leaks = Counter()
    for split in SPLITS[::-1]:
        kept = []
        for video in [video for video in videos if video["split"] == split]:
            try:
                found = list(keys(video))
            except OSError:  # reported when the video is decoded
                found = []
            leak = next((key for key in found if key in owner), None)
            if leak:
                leaks[split, leak[0], owner[leak]] += 1
            if leak and not (keep_pairs and leak[0] == pair):
                video["split"] = ""
            else:
                kept += found
        owner = dict.fromkeys(kept, split) | owner
    for (split, what, other), number in sorted(leaks.items()):
        fate = f"they are taken out of {split} and are in no split now"
        if keep_pairs and what == pair:
            fate = "they stay (--keep-pairs), so the splits are not independent"
        print(f"warning: {number} videos of {split} share {what} with {other}: {fate}")
    if any(video["split"] for video in videos) and not leaks:
        print("no video, original or pair of people is in two splits")


def name_videos(videos):
    """Give each video a unique "name", METHOD_STEM or STEM, that every file system takes.

    Where characters had to be replaced or two names are the same (a.mp4 and a.avi, or 000_003 in
    two folders), a hash of the path is appended. "source" becomes the path below the folder that
    holds all videos. Exits with an error if a video is listed twice.
    """
    titles = ["_".join(filter(None, (video["method"], video["stem"]))) for video in videos]
    names = [re.sub(r"[^A-Za-z0-9._-]+", "_", title)[:80].strip(".") for title in titles]
    times = Counter(name.lower() for name in names)
    root = os.path.commonpath([os.path.abspath(video["path"].parent) for video in videos])
    taken = set()
    for video, name, title in zip(videos, names, titles):
        video["source"] = os.path.relpath(os.path.abspath(video["path"]), root)
        if name != title or times[name.lower()] > 1:
            name += "-" + hashlib.sha1(os.fsencode(video["source"])).hexdigest()[:8]
        if name in taken:
            fail(f"{video['source']!r} is listed twice: remove one of the two")
        taken.add(name)
        video["name"] = name


def generated(videos):
    """Whether any video was made by 00_make_demo_videos.py, or is crops of one that was.

    Then a folder above it, links followed, holds that script's args.json, or stage 01's.
    """

    @cache
    def is_demo(folder):
        try:
            args = json.loads((folder / "args.json").read_text(encoding="utf-8"))
            if args["script"] == "00_make_demo_videos.py" or args["flags"].get("generated"):
                return True
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        return folder != folder.parent and is_demo(folder.parent)

    return any(is_demo(Path(os.path.realpath(video["path"])).parent) for video in videos)

"""Splits and names of videos."""

import hashlib
import os
import re
from collections import Counter, defaultdict

import numpy as np

from common import fail


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

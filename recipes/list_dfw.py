#!/usr/bin/env python3
"""List the videos of DFW for 01_extract_faces.py --list: your fakes, and pristine test videos.

    python recipes/list_dfw.py --fakes DIR --ffpp DIR --split-in-order 750 125 125 --out DFW.csv

Every video below --fakes is fake. The reals are FaceForensics++'s originals (CLRNet, section 5)
that 01 makes the test split with the same --split-in-order: with 750 125 125 the last 125 by name.
The authors' code alternates real and fake, so that DFW is balanced there: of the class that has
more videos, as many are drawn as the other has, by their names alone.
"""

import csv
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import Parser  # noqa: E402
from media.layouts import layout_ffpp  # noqa: E402
from media.splits import split_in_order  # noqa: E402
from media.video import find_videos  # noqa: E402


def main():
    parser = Parser(__doc__)
    parser.add_argument("--fakes", type=Path, required=True, help="folder of fake videos")
    parser.add_argument("--ffpp", type=Path, required=True, help="folder of FaceForensics++")
    parser.add_argument("--split-in-order", type=int, nargs=3, required=True, metavar="N")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")
    args = parser.parse_args()
    fakes = find_videos(args.fakes)
    # Earlier versions asked for fake/ and real/.
    if (args.fakes / "fake").is_dir():
        fakes = find_videos(args.fakes / "fake")
    elif (args.fakes / "real").is_dir():
        parser.error(f"{args.fakes} has a folder real/: it is for fake videos only")
    if not fakes:
        parser.error(f"{args.fakes} has no videos: put the fakes there")
    originals, _ = layout_ffpp(args.ffpp, ["originals"], "c23")
    split_in_order(originals, args.split_in_order)
    reals = [video["path"] for video in originals if video["split"] == "test"]
    count = min(len(fakes), len(reals))
    rows = [(path.resolve(), 1, "DFW") for path in draw(fakes, count)]
    rows += [(path.resolve(), 0, "pristine") for path in draw(reals, count)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "method"), *rows])
    print(
        f"{args.out}: {count} of {len(fakes)} fakes of {args.fakes}, {count} of {len(reals)} test "
        f"videos of {args.ffpp}"
    )


def draw(paths, count):
    """`count` of the paths in the order of their names, the same in every run."""
    paths = sorted(paths)
    rows = np.random.default_rng(0).permutation(len(paths))[:count]
    return [paths[row] for row in sorted(rows)]


if __name__ == "__main__":
    main()

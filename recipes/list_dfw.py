#!/usr/bin/env python3
"""List the videos of DFW for 01_extract_faces.py --list: your fakes, and pristine test videos.

    python recipes/list_dfw.py --fakes DIR --ffpp DIR --split-in-order 750 125 125 --out DFW.csv

Every video below --fakes is fake. The reals are FaceForensics++'s originals (CLRNet, section 5)
that 01 makes the test split with the same --split-in-order: with 750 125 125 the last 125 by name.
"""

import csv
import sys
from pathlib import Path

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
    reals = sorted(video["path"] for video in originals if video["split"] == "test")
    rows = [(path.resolve(), 1, "DFW") for path in sorted(fakes)]
    rows += [(path.resolve(), 0, "pristine") for path in reals]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "method"), *rows])
    print(f"{args.out}: {len(fakes)} fakes of {args.fakes}, {len(reals)} reals of {args.ffpp}")


if __name__ == "__main__":
    main()

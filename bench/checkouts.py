#!/usr/bin/env python3
"""Seconds of every stage, --help included, of another checkout beside this one.

    git worktree add ../before COMMIT
    python bench/checkouts.py --before ../before --faces demo/faces --videos demo/videos

With `--before . --env NAME=VALUE`, it is this checkout without and with a variable. --videos and
--faces: as demo.sh leaves them. Each figure is of a whole process, which starts without its --out.
A stage takes what earlier stages of the same checkout wrote, so --only names those as well.
"""

import shutil
import tempfile
from functools import partial
from pathlib import Path

from side_by_side import (
    ROOT,
    arguments,
    in_turn,
    ratio,
    record,
    run_stage,
    seconds,
    show,
    table,
)


def parse_args():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="other checkout")
    parser.add_argument("--faces", type=Path, required=True, metavar="DIR", help="the demo's faces")
    parser.add_argument("--videos", type=Path, required=True, metavar="DIR", help="and its videos")
    help_text = "a variable of this checkout's processes"
    parser.add_argument("--env", metavar="NAME=VALUE", help=help_text)
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="stages such as 02 (all)")
    return parser.parse_args()


def stages(args):
    """{stage: (script, flags)}; OUT stands for a checkout's own folder."""
    frames, clips = args.faces / "studio-Deepfakes", args.faces / "studio-Deepfakes-clips"
    extractor = f"--faces {args.faces / 'people'} --arch resnet18 --weights none"
    return {
        "00": ("00_make_demo_videos.py", "--identities 6 --frames 16 --out OUT/00"),
        "01, frames": (
            "01_extract_faces.py",
            f"--layout ffpp --videos {args.videos / 'studio'} --method Deepfakes --out OUT/01",
        ),
        "01, clips": (
            "01_extract_faces.py",
            f"--layout ffpp --videos {args.videos / 'studio'} --method Deepfakes "
            "--sampling clips --num-clips 3 --out OUT/01",
        ),
        "02": (
            "02_pretrain_extractor.py",
            f"{extractor} --image-size 96 --batch 32 --epochs 1 --device cpu --out OUT/02",
        ),
        "03": (
            "03_extract_features.py",
            f"--checkpoint OUT/02/model.pt --faces {frames} {args.faces / 'phone-FaceSwap'} "
            "--device cpu --out OUT/03",
        ),
        "04": (
            "04_train_bpdann.py",
            "--source OUT/03/studio-Deepfakes --target OUT/03/phone-FaceSwap --epochs 200 "
            "--device cpu --out OUT/04 --scores OUT/scores/04",
        ),
        "05": (
            "05_train_clrnet.py",
            f"--strategy single --source {clips} --filters 8 --repetitions 2 --image-size 64 "
            f"--batch 8 --epochs 4 --device cpu --test {clips} --out OUT/05 --scores OUT/scores/05",
        ),
        "06": ("06_evaluate.py", "--scores OUT/scores --out OUT/06"),
        "02 --help": ("02_pretrain_extractor.py", "--help"),
        "06 --help": ("06_evaluate.py", "--help"),
    }


def time_stage(root, out, script, flags, variables):
    """Run a stage of a checkout to its end, in a new folder; returns its seconds."""
    words = flags.replace("OUT", str(out)).split()
    if "--out" in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    return seconds(partial(run_stage, script, *words, root=root, variables=variables))


def main():
    args = parse_args()
    variables = dict([args.env.split("=", 1)]) if args.env else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage, command in stages(args).items():
            if args.only and stage[:2] not in args.only:
                continue
            print(stage, *command, flush=True)
            before = partial(time_stage, args.before, Path(folder, "before"), *command, {})
            now = partial(time_stage, ROOT, Path(folder, "now"), *command, variables)
            found = in_turn({"before": before, "now": now}, args.rounds)
            values = (found["before"], found["now"])
            rows.append((stage, *map(show, values), ratio(*values)))
    record(args, table(("", "before, seconds", "now, seconds", "before, in now's"), rows))


if __name__ == "__main__":
    main()

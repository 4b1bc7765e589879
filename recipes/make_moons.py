#!/usr/bin/env python3
"""The two moons of Ganin et al. (2016, section 5.1) as folders of features, for stage 04.

    python recipes/make_moons.py --seed 10 --out features/moons@10

Writes OUT/source and OUT/target, as stage 03 does. The target is the source's two moons turned by
35 degrees about their middle, other points of them; both are seen through the same 256 random
Fourier features, so that they are not linearly separable by chance. 300 points each for training
and, in the source, for validation; label 0 is one moon, 1 the other.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import INDEX_COLUMNS, Parser, add_system_flags, write_table, write_whole  # noqa: E402

POINTS, FEATURES, NOISE, DEGREES = 300, 256, 0.1, 35


def main():
    from sklearn.datasets import make_moons

    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    add_system_flags(parser, seed=True, allow_changes=False)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    directions, phases = rng.normal(size=(2, FEATURES)), rng.uniform(0, 2 * np.pi, FEATURES)
    turn = np.deg2rad(DEGREES)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])

    for domain, splits in (("source", ("train", "val")), ("target", ("test",))):
        features, rows = [], []
        for split in splits:
            number = ("train", "val", "test").index(split)
            points, labels = make_moons(POINTS, noise=NOISE, random_state=3 * args.seed + number)
            points = points - (0.5, 0.25)
            if domain == "target":
                points = points @ rotation
            features.append(np.sqrt(2) * np.cos(points @ directions + phases))
            for k, label in enumerate(labels):
                name = f"{split}-{k}"
                rows.append((f"{name}.png", name, 0, "", label, "moons", split))
        folder = args.out / domain
        write_table(folder / "index.csv", INDEX_COLUMNS, rows)
        with write_whole(folder / "features.npy") as part, open(part, "wb") as file:
            np.save(file, np.concatenate(features).astype(np.float32))
    print(f"{args.out}: two moons, seed {args.seed}")


if __name__ == "__main__":
    main()

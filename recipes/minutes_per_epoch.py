#!/usr/bin/env python3
"""Minutes per epoch of merge and transfer learning, beside the paper's 33.6 and 8.3 (CLRNet 6.2.3).

    python recipes/minutes_per_epoch.py --merge LOG --source LOG --transfer LOG

The logs are what 05_train_clrnet.py printed: steps, samples per step, and samples per second of
each epoch, of which the median is taken; validation is not included. The paper's transfer learns
750 videos of the source and 10 of each target, so an epoch of the source is added to that of
transfer.
"""

import re
import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import Parser  # noqa: E402


def minutes_per_epoch(log):
    """Median minutes of an epoch in a log of 05, or None if no epoch in it is complete."""
    samples, minutes = None, []
    for line in log.read_text(encoding="utf-8").splitlines():
        if match := re.search(r"epochs of (\d+) steps of (\d+) samples", line):
            samples = int(match[1]) * int(match[2])
        elif match := re.match(r"epoch \d+: .* ([\d.]+) samples per second", line):
            minutes.append(samples / max(float(match[1]), 0.1) / 60)
    return median(minutes) if minutes else None


def main():
    parser = Parser(__doc__)
    names = ("merge", "source", "transfer")
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="LOG")
    args = parser.parse_args()
    minutes = {name: minutes_per_epoch(getattr(args, name)) for name in names}
    if unknown := [name for name in names if minutes[name] is None]:
        print(f"minutes per epoch are not known: no epochs in {getattr(args, unknown[0])}")
        return
    times = ", ".join(f"{name} {value:.2f}" for name, value in minutes.items())
    ratio = minutes["merge"] / (minutes["source"] + minutes["transfer"])
    print(
        f"minutes per epoch: {times}; merge / (source + transfer) = {ratio:.2f}; the paper: "
        "33.6 / 8.3 = 4.05"
    )


if __name__ == "__main__":
    main()

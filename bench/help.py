#!/usr/bin/env python3
"""Seconds of each script's --help beside `import torch`.

python bench/help.py
"""

import subprocess
import sys

from side_by_side import ROOT, arguments, in_turn, ratio, record, seconds, show, table


def main():
    args = arguments(__doc__).parse_args()
    scripts = sorted(path.name for path in ROOT.glob("0*.py"))

    def process(*command):
        return lambda: seconds(
            lambda: subprocess.run(
                [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT
            )
        )

    found = in_turn(
        {
            "import torch": process("-c", "import torch"),
            **{name: process(name, "--help") for name in scripts},
        },
        args.rounds,
    )
    record(
        args,
        table(
            ("", "seconds", "in import torch"),
            [(name, show(v), ratio(v, found["import torch"])) for name, v in found.items()],
        ),
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Seconds of each script's --help, beside `import torch`.

python bench/help.py
"""

import subprocess
import sys

from side_by_side import ROOT, arguments, in_turn, ratio, record, seconds, show, table


def main():
    args = arguments(__doc__).parse_args()

    def time_process(*command):
        command = [sys.executable, *command]
        options = dict(check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return lambda: seconds(lambda: subprocess.run(command, **options))

    alternatives = {"import torch": time_process("-c", "import torch")}
    for path in sorted(ROOT.glob("0*.py")):
        alternatives[path.name] = time_process(path.name, "--help")
    found = in_turn(alternatives, args.rounds)
    rows = [(name, show(v), ratio(v, found["import torch"])) for name, v in found.items()]
    record(args, table(("", "seconds", "in import torch"), rows))


if __name__ == "__main__":
    main()

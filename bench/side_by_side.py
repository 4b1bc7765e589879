"""What the benchmarks share: rounds in which all alternatives take turns, and RESULTS.md."""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def arguments(doc, rounds=5):
    """A parser with the flags of every benchmark; rounds: None for one that measures nothing."""
    description, _, epilog = doc.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(rounds=None)
    if rounds:
        help_text = f"rounds, in each of which every alternative runs once (default {rounds})"
        parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=help_text)
    help_text = "do not append the result to bench/RESULTS.md"
    parser.add_argument("--no-record", action="store_true", help=help_text)
    return parser


def run_stage(script, *args, root=ROOT, variables=()):
    """Run a stage to its end and return what it printed; exits with its error if it fails.

    root: the checkout; variables: {name: value} beside those of this process.
    """
    command = [sys.executable, str(root / script), *map(str, args)]
    environment = {**os.environ, **dict(variables)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        output = done.stdout[-1000:] + done.stderr[-1000:]
        sys.exit(f"{script} {shlex.join(command[2:])}\n{output}")
    return done.stdout


def printed_rate(output):
    """Images per second, as 02 and 04 print them after their training."""
    return float(re.search(r"([\d.]+) (?:images|samples) per second", output)[1])


def seconds(function, *args):
    """Wall time of one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def peak_rate(device, dtype=None):
    """Multiply-adds per second of a product of two 4096 x 4096 matrices: the arithmetic limit.

    In fp32 if no other type is given.
    """
    import torch

    a = torch.rand(4096, 4096, device=device).to(dtype or torch.float32)
    times = [seconds(lambda: (a @ a)[0, 0].item()) for _ in range(4)]
    return 4096**3 / median(times[1:])


def in_turn(alternatives, rounds):
    """Call every alternative once per round: {name: [what it returned in each round]}.

    The order rotates by one from round to round. On a machine that others use too, only what ran
    within the same minutes can be compared.
    """
    names = list(alternatives)
    found = {name: [] for name in names}
    for r in range(rounds):
        first = r % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(alternatives[name]())
            print(f"round {r + 1}, {name}: {found[name][-1]:.4g}", flush=True)
    return found


def show(values):
    """Median and range as text."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def ratio(a, b):
    """Median and range of the ratios a / b of each round, as text."""
    return show([x / y for x, y in zip(a, b)])


def table(header, rows):
    """Lines of a Markdown table."""
    from reporting.tables import markdown_table

    return markdown_table([header, *rows])


def machine(device="cpu"):
    """The machine and the versions in one line."""
    name = f"{len(os.sched_getaffinity(0))} cores"
    if Path("/proc/cpuinfo").exists():
        model = re.search(r"^model name\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if model:
            name += f" of {model[1].strip()}"
    if device != "cpu":
        import torch

        name += f", {torch.cuda.get_device_name()}"
    packages = ("torch", "numpy", "scikit-learn", "imageio-ffmpeg", "dlib-bin")
    versions = [f"{package} {metadata.version(package)}" for package in packages]
    return ", ".join([name, f"Python {platform.python_version()}", *versions])


def record(args, lines, device="cpu"):
    """Print a result, and append it to RESULTS.md with the command, the machine and the versions.

    lines: strings, or lists of them.
    """
    lines = [line for part in lines for line in ([part] if isinstance(part, str) else part)]
    print("\n" + "\n".join(lines))
    if args.no_record:
        return
    rounds = f"; {args.rounds} rounds, median (range)." if args.rounds else "."
    command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    title = f"\n## {Path(sys.argv[0]).name}, {time.strftime('%Y-%m-%d')}\n\n`{command}`\n"
    with open(ROOT / "bench/RESULTS.md", "a", encoding="utf-8") as file:
        file.write("\n".join([title, machine(device) + rounds, "", *lines]) + "\n")

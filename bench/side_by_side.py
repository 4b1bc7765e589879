"""What the benchmarks share: rounds in which every alternative runs in turn, medians with their spread, and the record in RESULTS.md."""

import argparse
import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def arguments(doc, rounds=5):
    """A parser with what every benchmark takes; `rounds` None: it measures nothing."""
    parser = argparse.ArgumentParser(
        description=doc.split("\n\n")[0],
        epilog=doc.split("\n\n", 1)[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(rounds=None)
    if rounds:
        parser.add_argument(
            "--rounds", type=int, default=rounds, metavar="N", help=f"(default {rounds})"
        )
    parser.add_argument(
        "--no-record", action="store_true", help="do not append to bench/RESULTS.md"
    )
    return parser


def seconds(function, *args):
    """Wall time of one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def peak_rate(device, dtype=None):
    """Multiply-adds a second of a product of two 4096 x 4096 matrices, in fp32 if no other type is given, which is the limit of arithmetic."""
    import torch

    a, times = torch.rand(4096, 4096, device=device).to(dtype or torch.float32), []
    for _ in range(4):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 4096**3 / median(times[1:])


def in_turn(alternatives, rounds):
    """Call every alternative once a round, in an order that turns by one: {name: [what it returned, a round each]}.

    On a machine that others use too, only what ran within the same minutes can be compared.
    """
    found, names = {name: [] for name in alternatives}, list(alternatives)
    for r in range(rounds):
        for name in names[r % len(names) :] + names[: r % len(names)]:
            found[name].append(alternatives[name]())
            print(f"round {r + 1}, {name}: {found[name][-1]:.4g}", flush=True)
    return found


def show(values):
    """Median and range as text."""
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def ratio(a, b):
    """Median and range of the rounds' ratios a / b as text."""
    return show([x / y for x, y in zip(a, b)])


def table(header, rows):
    """Lines of a Markdown table."""
    return [
        "| " + " | ".join(header) + " |",
        "| --- " * len(header) + "|",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]


def machine(device="cpu"):
    """The machine and the versions in one line."""
    name = f"{len(os.sched_getaffinity(0))} cores"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name += next(
            (
                " of " + line.split(":")[1].strip()
                for line in lines
                if line.startswith("model name")
            ),
            "",
        )
    if device != "cpu":
        import torch

        name += ", " + torch.cuda.get_device_name()
    versions = [
        f"{package} {metadata.version(package)}"
        for package in ("torch", "numpy", "scikit-learn", "imageio-ffmpeg", "dlib-bin")
    ]
    return f"{name}, Python {platform.python_version()}, " + ", ".join(versions)


def record(args, lines, device="cpu"):
    """Print a result, and append it to RESULTS.md with the command, the machine and the versions."""
    lines = [line for part in lines for line in ([part] if isinstance(part, str) else part)]
    print("\n" + "\n".join(lines))
    if not args.no_record:
        script = Path(sys.argv[0]).name
        with open(ROOT / "bench/RESULTS.md", "a", encoding="utf-8") as file:
            file.write(
                "\n".join(
                    [
                        f"\n## {script}, {time.strftime('%Y-%m-%d')}",
                        "",
                        f"`python bench/{script} {shlex.join(sys.argv[1:])}`".replace(" `", "`"),
                        "",
                        machine(device)
                        + (f"; {args.rounds} rounds, median (range)." if args.rounds else "."),
                        "",
                        *lines,
                        "",
                    ]
                )
            )

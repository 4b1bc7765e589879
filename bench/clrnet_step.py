#!/usr/bin/env python3
"""Memory and time of a training step of the full CLRNet (248 million parameters, 5 x 240 x 240), as 05 does it.

    python bench/clrnet_step.py --batch 1 2 4                  # one process a batch size, so that each peak is its own
    python bench/clrnet_step.py --batch 16 --device cuda

Prints a row a batch size: seconds a step (median of --steps after one to warm up), seconds a clip, and the peak of the process's resident
memory, or of the GPU's allocated memory; and appends them to bench/RESULTS.md.
"""
import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def measure(batch, steps, device):
    """Seconds of each step, and the peak of memory in GB."""
    from importlib import import_module
    stage = import_module("05_train_clrnet")
    torch.manual_seed(0)
    model = stage.CLRNet().to(device).train()
    stage.initialise(model)
    optimizer = torch.optim.Adam([dict(params=model.kernels(), weight_decay=2e-4)] + [
        dict(params=[p for p in model.parameters() if all(p is not k for k in model.kernels())])], lr=5e-5, eps=1e-7)
    clips = torch.randint(0, 256, (batch, 5, 3, 240, 240), dtype=torch.uint8)
    labels, weights, seconds = torch.arange(batch).remainder(2).to(device), torch.ones(2, device=device), []
    for step in range(steps + 1):
        start = time.perf_counter()
        x = stage.augment(stage.as_clips(clips, device), torch.Generator().manual_seed(step))
        loss = stage.weighted_loss(model, model(x), labels, weights)
        optimizer.zero_grad()
        loss.backward()
        loss.item()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return seconds[1:], peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="clips a step")
    parser.add_argument("--steps", type=int, default=3, help="measured steps (default 3)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-record", action="store_true", help="do not append to bench/RESULTS.md")
    args = parser.parse_args()
    device = torch.device(args.device)
    if len(args.batch) == 1 and args.no_record:
        seconds, peak = measure(args.batch[0], args.steps, device)
        print(f"| {args.batch[0]} | {median(seconds):.1f} ({', '.join(f'{s:.1f}' for s in seconds)}) | {median(seconds) / args.batch[0]:.1f} | {peak:.1f} |", flush=True)
        return
    lines = ["| clips a step | seconds a step: median (each) | seconds a clip | peak memory, GB |", "| --- | --- | --- | --- |"]
    print("\n".join(lines), flush=True)
    for batch in args.batch:
        done = subprocess.run([sys.executable, __file__, "--batch", str(batch), "--steps", str(args.steps), "--device", args.device, "--no-record"],
                              capture_output=True, text=True)
        lines.append(done.stdout.strip() if done.returncode == 0 else f"| {batch} | ended with status {done.returncode}: {done.stderr.strip()[-100:]} | | |")
        print(lines[-1], flush=True)
    if not args.no_record:
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
        with open(ROOT / "bench/RESULTS.md", "a") as file:
            file.write(f"\n## clrnet_step.py, {time.strftime('%Y-%m-%d')}\n\n`python bench/clrnet_step.py --batch {' '.join(map(str, args.batch))} --steps {args.steps} "
                       f"--device {args.device}`, {name}, torch {torch.__version__}, fp32.\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

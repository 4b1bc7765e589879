#!/usr/bin/env python3
"""What the project expects of a GPU, checked on one.

    python bench/gpu_check.py                        # one GPU
    python bench/gpu_check.py --nproc 2              # and trainings shared by two
    python bench/gpu_check.py --tiny --device cpu    # all of it with small networks, in minutes

It compares a step of 02, 04 and 05 in each precision with float64 on the CPU, looks for steps that
wait for the GPU, measures their rate and memory, resumes a training on the other device and back,
and times 02's whole loop. The table that it ends with is also appended to bench/RESULTS.md.
"""

import copy
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import torch
from side_by_side import ROOT, arguments, printed_rate, record, run_stage, seconds, table
from torch.nn import functional as F

from common import read_table
from networks.clrnet import CLRNet, initialize
from networks.extractor import Extractor
from running.devices import autocast, choose_device, choose_precision, place
from running.loading import as_clips

bpdann = import_module("04_train_bpdann")
make_faces = import_module("02_train").make_faces

# Samples per step: as in the papers, and where float64 on the CPU is computed too.
BATCH = {"02": 128, "04": 128, "05": 16}
COMPARED = {"02": 8, "04": 64, "05": 2}
# How far the gradient may be off the direction of that in float64: the cosine.
DIRECTION = dict(fp32=0.999, tf32=0.99, bf16=0.8)
SMALL_02 = "--arch resnet18 --weights none --image-size 64 --lr 1e-4 --precision fp32 --workers 0"


def make_network(name, is_tiny):
    """The network of a stage on the CPU with random weights, without dropout."""
    torch.manual_seed(0)
    if name == "02":
        return Extractor(*("resnet18", 64) if is_tiny else ("se_resnext101_32x4d", 224))
    if name == "04":
        return bpdann.BPDANN(64 if is_tiny else 2048, dropout=0.0)
    model = CLRNet(4, (1, 1), 48) if is_tiny else CLRNet(64, (3, 4, 6, 3), 240)
    initialize(model)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return model


def make_samples(name, model, n):
    """Random inputs of a stage's step; in 04, of n images of the source and n of the target."""
    generator = torch.Generator().manual_seed(1)
    if name == "04":
        width = next(model.parameters()).shape[1]
        return torch.rand(2 * n, width, generator=generator)
    shape = (n, 3) if name == "02" else (n, 5, 3)
    size = (*shape, model.image_size, model.image_size)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def loss_of(name, model, samples, precision):
    """The loss of a stage's step without augmentation; in float64 if the model is."""
    device, dtype = samples.device, next(model.parameters()).dtype
    if name == "05":
        samples = as_clips(samples)
    if name != "02":
        samples = samples.to(dtype)
    labels = torch.arange(len(samples), device=device) % 2
    with autocast(device, "fp32" if dtype == torch.float64 else precision):
        if name != "04":
            logits = model(samples)
        else:
            embedding = model.extract(samples)
            logits = model.classify(embedding)
            domains = model.discriminate(bpdann.GradientReversal.apply(embedding, 0.5))
    loss = F.cross_entropy(logits.to(dtype), labels)
    return loss + F.cross_entropy(domains.to(dtype), labels) if name == "04" else loss


def gradient_of(model):
    """All gradients as one vector in float64 on the CPU."""
    return torch.cat([p.grad.double().cpu().flatten() for p in model.parameters()])


def against_float64(name, args, device, precision):
    """A step against float64 on the CPU: a row of the table."""
    exact = make_network(name, args.tiny)
    model = place(copy.deepcopy(exact), device).train()
    samples = make_samples(name, exact, COMPARED[name])
    exact.double().train()
    loss_of(name, exact, samples, "fp32").backward()
    loss_of(name, model, samples.to(device), precision).backward()
    cosine = F.cosine_similarity(gradient_of(model), gradient_of(exact), dim=0).item()
    least = DIRECTION[precision]
    text = f"cosine of the gradients {cosine:.5f}, at least {least}"
    return f"{name}, step in {precision} against float64", text, cosine >= least


def step(name, args, device, precision):
    """Rate and memory of a whole step, and whether it waits for the GPU: a row of the table."""
    n = COMPARED[name] if args.tiny else BATCH[name]
    model = place(make_network(name, args.tiny), device).train()
    samples = make_samples(name, model, n).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def take_step():
        optimizer.zero_grad()
        loss_of(name, model, samples, precision).backward()
        optimizer.step()

    seconds(take_step)
    rate = 10 * n / seconds(lambda: [take_step() for _ in range(10)] and gradient_of(model))
    text, is_fine = f"{rate:.4g} samples per second", True
    if device.type == "cuda":
        text += f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB at most"
        torch.cuda.set_sync_debug_mode("error")
        try:
            take_step()
        except RuntimeError as error:
            text, is_fine = f"{text}, waits: {str(error).splitlines()[0]}", False
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.reset_peak_memory_stats(device)
    return f"{name}, step of {n} in {precision}", text, is_fine


def difference(*runs):
    """The largest difference between the losses that two trainings have logged."""
    a, b = (read_table(run / "log.csv", (), {"train_loss": (float, "")}) for run in runs)
    return abs(a["train_loss"] - b["train_loss"]).max()


def resumed(args, folder):
    """02 on the device, then on the CPU, then on the device again, against the CPU alone."""
    flags = f"--faces {folder / 'small'} {SMALL_02} --batch 4 --epochs 3 --allow-changes".split()
    for name, devices in (("cpu", ["cpu"] * 3), ("mixed", [args.device, "cpu", args.device])):
        for steps, device in zip((2, 4, 6), devices):
            more = ("--max-steps", steps, "--device", device, "--out", folder / name)
            run_stage("02_pretrain_extractor.py", *flags, *more)
    off = difference(folder / "cpu", folder / "mixed")
    return "02, resumed on the CPU and back", f"losses off by at most {off:.1e}", off < 0.02


def loop(args, folder):
    """The rate of 02's whole loop."""
    make_faces(folder / "faces", 16 if args.tiny else 128 * 40)
    flags = f"{SMALL_02} --batch 8" if args.tiny else "--weights none --lr 1e-5 --batch 128"
    flags = [*flags.split(), "--faces", folder / "faces", "--epochs", 1, "--device", args.device]
    rate = printed_rate(run_stage("02_pretrain_extractor.py", *flags, "--out", folder / "loop"))
    return "02, whole loop", f"{rate:.4g} images per second", True


def joint(args, folder):
    """02 by several processes, one GPU each, against one process."""
    flags = f"--faces {folder / 'small'} {SMALL_02} --batch {4 * args.nproc} --epochs 2".split()
    run_stage("02_pretrain_extractor.py", *flags, "--device", args.device, "--out", folder / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={args.nproc}", str(ROOT / "02_pretrain_extractor.py"), *flags]
    command += ["--device", args.device, "--out", str(folder / "joint")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    off = difference(folder / "one", folder / "joint")
    return f"02, {args.nproc} processes against one", f"losses off by at most {off:.1e}", off < 5e-3


def main():
    parser = arguments(__doc__, rounds=None)
    parser.add_argument("--device", default="cuda", help="cpu, cuda, ... (default cuda)")
    parser.add_argument("--nproc", type=int, default=1, help="GPUs to share a batch (default 1)")
    parser.add_argument("--tiny", action="store_true", help="small networks: only whether it runs")
    args = parser.parse_args()
    device = choose_device(args.device)
    precisions = [p for p in DIRECTION if p != "tf32" or device.type == "cuda"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_faces(folder / "small", 20)
        for name in BATCH:
            for precision in precisions:
                choose_precision(precision, device)
                rows.append(against_float64(name, args, device, precision))
                rows.append(step(name, args, device, precision))
        rows.append(resumed(args, folder))
        rows.append(loop(args, folder))
        if args.nproc > 1:
            rows.append(joint(args, folder))
    rows = [(what, text, "" if is_fine else "FAILED") for what, text, is_fine in rows]
    record(args, table(("check", "result", ""), rows), device.type)
    sys.exit(int(any(row[2] for row in rows)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Everything that the project expects of a GPU, checked on one.

    python bench/gpu_check.py                        # one GPU
    python bench/gpu_check.py --nproc 2              # and the joint batch of two
    python bench/gpu_check.py --tiny --device cpu    # all of it with small networks, in a minute

The project was written without a GPU. This compares a step of 02, 04 and 05 in each precision with
float64 on the CPU, looks for steps that wait for the GPU, compares counted and measured memory,
resumes a training on the other device and back, and measures
images per second of steps, of the whole loop and of the loader. It ends with one table in Markdown
for an issue, which is also appended to bench/RESULTS.md, and with the defaults that it would
change.

Rates stand beside a plain float32 loop, what others have published, and the rate of matrix products
of the same card. It is meant to take less than ten minutes, and has only been run on a CPU.
"""

import contextlib
import copy
import io
import math
import re
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import torch
from side_by_side import ROOT, arguments, printed_rate, record, run_stage, table
from torch import nn
from torch.nn import functional as F

from networks.clrnet import CLRNet, initialize
from networks.extractor import Extractor
from running.devices import (
    autocast,
    choose_device,
    choose_precision,
    place,
)
from running.loading import Faces, as_clips, load_batches

pretrain = import_module("02_pretrain_extractor")
bpdann = import_module("04_train_bpdann")
clrnet = import_module("05_train_clrnet")
bench_02 = import_module("02_train")
bench_04 = import_module("04_bpdann")

FULL = SimpleNamespace(
    arch="se_resnext101_32x4d",
    size=224,
    clrnet=dict(filters=64, repetitions=(3, 4, 6, 3), image_size=240),
    features=2048,
    batch={"02": 128, "04": 128, "05": 16},
    compared={"02": 8, "04": 64, "05": 2},  # samples in the comparison with float64 on the CPU
    faces=128 * 40,
    adapted=(43_200, 8_400),
    matrix=8192,
    repeats=10,
)
TINY = SimpleNamespace(
    arch="resnet18",
    size=64,
    clrnet=dict(filters=4, repetitions=(1, 1), image_size=48),
    features=64,
    batch={"02": 8, "04": 16, "05": 2},
    compared={"02": 8, "04": 16, "05": 2},
    faces=16,
    adapted=(64, 32),
    matrix=256,
    repeats=2,
)
# How far the gradient may be off the direction of that in float64 on the CPU: the cosine.
DIRECTION = dict(fp32=0.999, tf32=0.99, bf16=0.8)
PUBLISHED = "published, A100: 395 in TF32, 855 in AMP (float16)"
NAMES = ("02", "04", "05")


def kept_bytes(model, function):
    """Bytes of all tensors that `function` keeps for its backward pass, without the weights."""
    own = {tensor.untyped_storage()._cdata for tensor in model.state_dict(keep_vars=True).values()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            # Holding the storage keeps its address from being given to another one.
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
        total = sum(storage.nbytes() for storage in kept.values())
    del result
    return total


def make_network(name, sizes, with_dropout=False):
    """The network of a stage on the CPU, with random weights; each device draws other masks."""
    torch.manual_seed(0)
    if name == "02":
        return Extractor(sizes.arch, sizes.size)
    if name == "04":
        return bpdann.BPDANN(sizes.features, dropout=0.0)
    model = CLRNet(**sizes.clrnet)
    initialize(model)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout) and not with_dropout:
            layer.p = 0.0
    return model


def make_batch(name, sizes, n):
    """(samples, labels, draws) of a stage's step on the CPU."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    if name == "04":
        return torch.rand(2 * n, sizes.features, generator=generator), labels, None
    side = sizes.clrnet["image_size"]
    shape = (n, 3, sizes.size, sizes.size) if name == "02" else (n, 5, 3, side, side)
    samples = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return samples, labels, torch.rand(n, 1 if name == "02" else 5, generator=generator)


def loss_of(name, net, model, batch, device, precision):
    """The loss of a stage's step, as its script computes it; float64 if the model is."""
    samples, labels, draws = batch
    is_double = next(model.parameters()).dtype == torch.float64
    precision = "fp32" if is_double else precision
    if name == "02":
        with autocast(device, precision):
            return F.cross_entropy(net(pretrain.flip(samples, draws)), labels)
    if name == "05":
        clips = clrnet.augment(as_clips(samples), draws)
        with autocast(device, precision):
            logits = net(clips.double() if is_double else clips)
        logits = logits if is_double else logits.float()
        weights = torch.ones(2, dtype=logits.dtype, device=device)
        return clrnet.weighted_loss(model, logits, labels, weights)
    samples = samples.double() if is_double else samples
    domains = torch.arange(2, device=device).repeat_interleave(len(labels))
    with autocast(device, precision):
        embedding = net.extract(samples)
        label_logits = net.classify(embedding[: len(labels)])
        reversed_ = bpdann.GradientReversal.apply(embedding, 0.5)
        domain_logits = net.discriminate(reversed_)
    if not is_double:
        label_logits, domain_logits = label_logits.float(), domain_logits.float()
    return F.cross_entropy(label_logits, labels) + F.cross_entropy(domain_logits, domains)


def make_optimizer(name, model):
    """The optimizer of a stage."""
    if name == "05":
        return clrnet.make_optimizer(model, 5e-5, 1e-4)
    return torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)


def gradient_of(model):
    """All gradients as one vector in float64 on the CPU."""
    return torch.cat([p.grad.double().cpu().flatten() for p in model.parameters()])


def move(batch, device):
    return [None if part is None else part.to(device) for part in batch]


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate_of(step, samples, device, repeats):
    """Samples per second of a function: the median of `repeats` calls, after half as many."""
    times = []
    for _ in range(repeats // 2 + repeats):
        wait_for(device)
        start = time.perf_counter()
        step()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return samples / median(times[repeats // 2 :])


def precisions_of(device):
    """What --precision can be on a device."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return ("fp32",)
    return ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")


def run_here(script, *flags):
    """Run a stage in this process and return what it printed."""
    before, output = sys.argv, io.StringIO()
    sys.argv = [script, *map(str, flags)]
    try:
        with contextlib.redirect_stdout(output):
            import_module(script.removesuffix(".py")).main()
    finally:
        sys.argv = before
    return output.getvalue()


# ---------------------------------------------------------------- the checks


class Check:
    """The rows of the table, and what later rows need to know."""

    def __init__(self, args, device, folder):
        self.args, self.device, self.folder = args, device, Path(folder)
        self.sizes = TINY if args.tiny else FULL
        self.rows, self.rates, self.advice = [], {}, []
        self.is_gpu = device.type == "cuda"

    def add(self, what, found, beside="", fine=True):
        """Add a row; `fine`: whether the check is passed."""
        self.rows.append((what, found, beside, "" if fine else "FAILED"))
        print(" | ".join(self.rows[-1]), flush=True)

    def matrices(self):
        """The rate of matrix products, to which all other rates can be compared."""
        n = self.sizes.matrix
        for name in precisions_of(self.device):
            choose_precision(name, self.device)
            dtype = torch.bfloat16 if name == "bf16" else torch.float32
            a = torch.rand(n, n, device=self.device).to(dtype)
            self.rates["matrix", name] = rate_of(
                lambda a=a: a @ a, 2 * n**3, self.device, self.sizes.repeats
            )
            found = f"{self.rates['matrix', name] / 1e12:.3g} TFLOP per second"
            self.add(f"matrix product, {n} x {n}, {name}", found)

    def against_float64(self):
        """A step of each stage in each precision, against float64 on the CPU."""
        cpu = torch.device("cpu")
        for name in NAMES:
            batch = make_batch(name, self.sizes, self.sizes.compared[name])
            model = make_network(name, self.sizes)
            exact = copy.deepcopy(model).double().train()
            loss = loss_of(name, exact, exact, batch, cpu, "fp32")
            loss.backward()
            expected = gradient_of(exact)
            place(model, self.device).train()
            for precision in precisions_of(self.device):
                choose_precision(precision, self.device)
                model.zero_grad()
                ours = loss_of(name, model, model, move(batch, self.device), self.device, precision)
                ours.backward()
                cosine = F.cosine_similarity(gradient_of(model), expected, dim=0).item()
                off = abs(ours.item() - loss.item())
                self.add(
                    f"{name}, step in {precision} against float64",
                    f"loss off by {off:.1e}, cosine of the gradients {cosine:.5f}",
                    f"at least {DIRECTION[precision]}",
                    cosine >= DIRECTION[precision],
                )

    def steps(self):
        """Rate, memory and waiting of a whole step at the paper's batch, in each precision."""
        for name in NAMES:
            batch = make_batch(name, self.sizes, self.sizes.batch[name])
            for precision in precisions_of(self.device):
                choose_precision(precision, self.device)
                # Smaller cards have no room for all of these batches.
                try:
                    self.one_step(name, precision, move(batch, self.device))
                except torch.OutOfMemoryError:
                    what = f"{name}, step of {self.sizes.batch[name]}, {precision}"
                    self.add(what, "out of memory", "see --batch in the --help of the stage")

    def one_step(self, name, precision, batch):
        n, device = len(batch[1]), self.device
        model = place(make_network(name, self.sizes), device).train()
        optimizer = make_optimizer(name, model)

        def loss():
            return loss_of(name, model, model, batch, device, precision)

        def step():
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        rate = rate_of(step, n, device, self.sizes.repeats)
        self.rates[name, precision] = rate
        what = f"{name}, step of {n}, {precision}"
        beside = self.beside_step(name, precision, rate)
        self.add(what, f"{rate:.4g} samples per second", beside)
        self.memory(name, precision, model, kept_bytes(model, loss))
        self.waiting(name, precision, step)

    def beside_step(self, name, precision, rate):
        if name != "02":
            return ""
        flops = 6 * bench_02.MULTIPLY_ADDS * rate
        share = 100 * flops / self.rates["matrix", precision]
        return f"{PUBLISHED}; {share:.0f} % of the matrix rate" if not self.args.tiny else ""

    def memory(self, name, precision, model, counted):
        """What a step takes, beside what tests/test_gpu.py counts for the help."""
        weights = 16 * sum(p.numel() for p in model.parameters())
        text = f"counted: {counted / 1e9:.2f} GB kept, {weights / 1e9:.2f} of weights and Adam"
        if not self.is_gpu:
            self.add(f"{name}, memory in {precision}", "no GPU to measure on", text)
            return
        peak = torch.cuda.max_memory_allocated(self.device)
        limit = 1e9 + weights + 1.1 * counted
        is_fine = peak <= limit or self.args.tiny
        self.add(f"{name}, memory in {precision}", f"peak {peak / 1e9:.2f} GB", text, is_fine)
        if not is_fine:
            self.advice.append(f"what --help of {name} says fits in {precision} is too much")

    def waiting(self, name, precision, step):
        """Whether a step waits for the GPU."""
        if not self.is_gpu:
            self.add(f"{name}, waits in {precision}", "no GPU")
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
            found = "none"
        except RuntimeError as error:
            found = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        self.add(f"{name}, waits in {precision}", found, "", found == "none")

    def resuming(self):
        """A training of 02 and of 05 on the device, then on the CPU, then on the device again."""
        faces = self.folder / "small"
        bench_02.make_faces(faces, 20)
        text = (faces / "index.csv").read_text().splitlines()
        # Clips of five frames: columns path, video, frame, clip, label, method, split.
        clips = [text[0]]
        for k, line in enumerate(text[1:]):
            clips.append(f"{line.split(',')[0]},v{k // 5},{k % 5},0,{k // 5 % 2},m,train")
        (self.folder / "clips").mkdir()
        (self.folder / "clips/index.csv").write_text("\n".join(clips) + "\n")
        (self.folder / "clips/v").symlink_to(faces / "v")
        stages = {
            "02": (
                "02_pretrain_extractor.py",
                *("--faces", faces, "--arch", "resnet18", "--weights", "none"),
                *("--image-size", 64, "--batch", 4, "--lr", 1e-4),
            ),
            "05": (
                "05_train_clrnet.py",
                *("--strategy", "single", "--source", self.folder / "clips", "--filters", 4),
                *("--repetitions", 1, "--image-size", 48, "--batch", 2),
            ),
        }
        for name, (script, *flags) in stages.items():
            losses = {}
            flags += ["--precision", "fp32", "--workers", 0, "--epochs", 3]
            for devices in (["cpu"], [self.args.device, "cpu", self.args.device]):
                out = self.folder / f"resumed-{name}-{len(devices)}"
                for steps, device in zip((2, 4, 6), devices if devices[1:] else ["cpu"] * 3):
                    more = (
                        "--max-steps",
                        steps,
                        "--device",
                        device,
                        "--out",
                        out,
                        "--allow-changes",
                    )
                    run_here(script, *flags, *more)
                lines = (out / "log.csv").read_text().splitlines()[1:]
                losses[len(devices)] = [float(line.split(",")[2]) for line in lines]
            off = max(abs(a - b) for a, b in zip(*losses.values()))
            self.add(
                f"{name}, resumed on the CPU and back",
                f"losses off by at most {off:.1e}",
                "those of the CPU alone",
                # Dropout draws other masks on a GPU.
                off < (0.02 if name == "02" else 0.3),
            )

    def loops(self):
        """02's whole loop and its loader alone, beside a plain loop."""
        sizes = self.sizes
        faces, n = self.folder / "faces", sizes.batch["02"]
        bench_02.make_faces(faces, sizes.faces)
        paths = sorted((faces / "v").iterdir())
        data = Faces([str(path) for path in paths], sizes.size)
        batches = [list(range(k, k + n)) for k in range(0, len(paths), n)]
        start = time.perf_counter()
        for batch in load_batches(data, batches, self.args.workers, pin=self.is_gpu):
            batch.to(self.device, non_blocking=True)
        loader = len(paths) / (time.perf_counter() - start)
        workers = f"{self.args.workers} loading processes, their start included"
        self.add("02, loader alone", f"{loader:.4g} images per second", workers)
        flags = ("--faces", faces, "--arch", sizes.arch, "--image-size", sizes.size)
        flags += ("--weights", "none", "--epochs", 1, "--batch", n, "--device", self.args.device)
        flags += ("--workers", self.args.workers, "--out", self.folder / "loop", "--lr", 1e-5)
        ours = printed_rate(run_here("02_pretrain_extractor.py", *flags))
        choose_precision("fp32", self.device)
        plain = bench_02.plain_network(self.device, sizes.arch)
        if self.args.tiny:
            # Its pooling is made for 224 pixels.
            plain.avgpool = nn.AdaptiveAvgPool2d(1)
        plain_faces = bench_02.PlainFaces(paths, sizes.size)
        try:
            rate = bench_02.plain_rate(
                plain.train(), plain_faces, n, self.device, self.args.workers
            )
            beside = f"{rate:.4g}"
        except torch.OutOfMemoryError:
            beside = "out of memory"
        precision = choose_precision("auto", self.device)
        step = self.rates.get(("02", precision), math.nan)
        share = 100 * 6 * bench_02.MULTIPLY_ADDS * ours / self.rates["matrix", precision]
        matrix = "" if self.args.tiny else f"; {share:.0f} % of the matrix rate"
        self.add(
            "02, whole loop",
            f"{ours:.4g} images per second, {100 * ours / step:.0f} % of the step",
            f"plain float32 loop: {beside}; {PUBLISHED}{matrix}",
        )

    def adaptation(self):
        """BP-DANN's 50 epochs at the paper's size, by 04 itself."""
        generator = torch.Generator().manual_seed(0)
        for name, n, split in zip(("source", "target"), self.sizes.adapted, ("train", "test")):
            x = torch.rand(n, self.sizes.features, generator=generator)
            bench_04.write_features(self.folder / name, x, split)
        flags = ("--source", self.folder / "source", "--target", self.folder / "target")
        flags += ("--device", self.args.device, "--out", self.folder / "ft")
        flags += ("--batch", self.sizes.batch["04"], "--scores", self.folder / "scores")
        output = run_here("04_train_bpdann.py", *flags)
        seconds = float(re.search(r"steps in ([\d.]+) s", output)[1])
        is_fine = seconds < 20 or not self.is_gpu
        self.add("04, 50 epochs", f"{seconds:.1f} s", "goal on a GPU: under 20 s", is_fine)

    def joint(self):
        """02 by several processes, one GPU each, against one process."""
        number = self.args.nproc
        if number == 1:
            return
        flags = ["--faces", self.folder / "small", "--arch", "resnet18", "--weights", "none"]
        flags += ["--image-size", 64, "--batch", 4 * number, "--lr", 1e-4, "--epochs", 2]
        flags += ["--precision", "fp32", "--workers", 0, "--device", self.args.device]
        run_stage("02_pretrain_extractor.py", *flags, "--out", self.folder / "one")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={number}", ROOT / "02_pretrain_extractor.py", *flags]
        command = [*map(str, command), "--out", str(self.folder / "joint")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        losses = []
        for name in ("one", "joint"):
            lines = (self.folder / name / "log.csv").read_text().splitlines()[1:]
            losses.append([float(line.split(",")[2]) for line in lines])
        off = max(abs(a - b) for a, b in zip(*losses))
        what = f"02, {number} processes against one"
        self.add(what, f"losses off by at most {off:.1e}", "", off < 5e-3)

    def defaults(self):
        """What should change, as lines of text."""
        for name in ("02", "05"):
            chosen = choose_precision("auto", self.device)
            rates = {p: self.rates.get((name, p), 0) for p in precisions_of(self.device)}
            best = max(rates, key=rates.get)
            if rates[best] > 1.1 * rates[chosen]:
                factor = rates[best] / rates[chosen]
                self.advice.append(
                    f"--precision auto of {name} is {chosen}; {best} is {factor:.2f} times as fast"
                )
        if self.args.tiny:
            return ["Defaults: networks this small say nothing about them."]
        if not self.advice:
            return ["Defaults: none would change."]
        return ["Defaults that these figures would change:", ""] + [f"- {a}" for a in self.advice]


def main():
    parser = arguments(__doc__, rounds=None)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--nproc", type=int, default=1, help="GPUs to share a batch (default 1)")
    parser.add_argument("--tiny", action="store_true", help="small networks: only whether it runs")
    parser.add_argument("--workers", type=int, help="loading processes (default 16, tiny: 0)")
    args = parser.parse_args()
    if args.workers is None:
        args.workers = 0 if args.tiny else 16
    device = choose_device(args.device)
    if device.type == "cpu" and not args.tiny:
        sys.exit("gpu_check.py: error: there is no GPU here; --tiny tries everything on a CPU")
    # As every training has it (running/run.py).
    torch.backends.cudnn.benchmark = True
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(args, device, folder)
        for part in (
            check.matrices,
            check.against_float64,
            check.steps,
            check.resuming,
            check.loops,
            check.adaptation,
            check.joint,
        ):
            try:
                part()
            # One thing that fails must not hide the others; the table and the status say so.
            except (Exception, SystemExit) as error:
                reason = " ".join(str(error).split())[:200]
                check.add(part.__name__, f"{type(error).__name__}: {reason}", "", False)
        lines = table(("check", "found", "beside", ""), check.rows)
        lines += ["", *check.defaults(), "", f"{time.perf_counter() - start:.0f} seconds in all."]
    record(args, lines, device.type)
    if any(row[3] for row in check.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

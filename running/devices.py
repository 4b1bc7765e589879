"""Devices, precision, and one network in several processes.

    torchrun --nproc-per-node 2 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor

Stages 01, 02, 03 and 05 support this. A process knows its rank and the world size (common.py takes
both from torchrun's environment); alone it is rank 0 of 1, and nothing here does anything. Item k
of any list belongs to rank k % WORLD_SIZE.

A training in several processes equals one in a single process on the joint batch, to rounding: the
loss is a mean over the joint batch, batch norm takes its statistics over it, and flips and
augmentation are drawn for it. Only the masks of dropout differ.
"""

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common import RANK, WORLD_SIZE, fail
from running.processes import describe_processor


def choose_device(name):
    """The torch.device that --device names, made the current one. Exits if it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0) if WORLD_SIZE > 1 else 0}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        fail(f"--device {name} cannot be used here: {str(error).splitlines()[0]}")
    if device.type == "cuda":
        # Or the thread that pins memory would take some on the first GPU, whatever the rank.
        torch.cuda.set_device(device)
    return device


def describe_device(device, precision):
    """What the numbers and the speed of a run depend on, as text for its line of settings."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f"{describe_processor()}; {torch.get_num_threads()} threads"
    return f"device {device} ({hardware}), {precision}"


def choose_precision(name, device):
    """What --precision means on a device: "bf16", "tf32" or "fp32".

    Also sets what float32 means on a GPU from here on: TF32, or IEEE float32 with "fp32". Exits
    with an error if "tf32" is requested for a device that does not have it.
    """
    # Compute capability 8.0 is Ampere; before it bfloat16 is emulated, and there is no TF32.
    is_ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "tf32" and not is_ampere:
        fail(
            f"--precision tf32 needs an NVIDIA GPU of the Ampere generation or newer, not {device}"
        )
    if name == "auto":
        known = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
        has_bf16 = is_ampere or known.get("avx512_bf16") or known.get("amx_bf16")
        name = "bf16" if has_bf16 else "fp32"
    # By default, PyTorch has TF32 on for convolutions and off for matrix products.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name != "fp32"
    return name


def autocast(device, precision):
    """The context in which a network computes in a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def place(model, device):
    """Move a network to a device, and on a GPU put the channels of its kernels innermost.

    That is the order in memory for which its convolutions in bfloat16 and TF32 are made.
    """
    if device.type == "cuda":
        return model.to(device, memory_format=torch.channels_last)
    return model.to(device)


def fetch(*tensors):
    """Begin to copy tensors to the CPU. Returns a function that waits for them: a list of arrays.

    Meanwhile a GPU works on what it is given after them.
    """
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    copied = torch.cuda.Event() if tensors[0].is_cuda else None
    if copied:
        copied.record()

    def wait():
        if copied:
            copied.synchronize()
        return [copy.numpy() for copy in copies]

    return wait


def one_ahead(items):
    """Yield each item when the next one has been drawn from the iterator."""
    waiting = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


# ---------------------------------------------------------------- several processes


def mean_over_ranks(values):
    """The mean of a tensor over all processes."""
    if WORLD_SIZE == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / WORLD_SIZE


def gather(mine, n):
    """All n values, an (n, ...) array, of which each rank has computed its own."""
    if WORLD_SIZE == 1:
        return mine
    parts = [None] * WORLD_SIZE
    dist.all_gather_object(parts, mine)
    # A rank without an item does not know the shape of one.
    shape = next((part.shape[1:] for part in parts if len(part)), mine.shape[1:])
    values = np.empty((n, *shape), mine.dtype)
    for rank, part in enumerate(parts):
        if len(part):
            values[rank::WORLD_SIZE] = part
    return values


class AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all processes; backward, the sum of its gradients.

    PyTorch has the same in torch.distributed.nn.functional, where it is deprecated.
    """

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class JointNorm(_BatchNorm):
    """Batch norm over the joint batch of all processes, on a CPU: SyncBatchNorm needs a GPU."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        y = x if x.dtype == torch.float64 else x.float()
        count = y.new_full((1,), y.numel() / y.shape[1])
        sums = AllReduceSum.apply(torch.cat([y.sum(axes), count]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        y = y - mean.view(shape)
        var = AllReduceSum.apply(y.square().sum(axes)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        scale = (torch.rsqrt(var + self.eps) * self.weight).view(shape)
        return (y * scale + self.bias.view(shape)).to(x.dtype)


def join_norms(model, device):
    """Make all batch norms of a network take their statistics over the joint batch, in place."""
    joint = nn.SyncBatchNorm if device.type == "cuda" else JointNorm
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, joint):
            # Subclasses keep what they do around batch norm, which SyncBatchNorm's own conversion
            # would drop.
            kind = type(layer)
            layer.__class__ = type(f"Joint{kind.__name__}", (kind, joint), {})
            layer.process_group = None  # an attribute of SyncBatchNorm: all processes


def distribute(model, device, example):
    """The network to call in training: DistributedDataParallel with joint batch norms.

    A single process gets `model` itself. All processes get the weights of rank 0.

    Args:
        example: input of one sample. It shows which parameters have no part in the output (a second
            classifier, say), for whose gradients the processes would wait.
    """
    if WORLD_SIZE == 1:
        return model
    for layer in model.modules():
        # cuDNN's RNNs have no backward pass in evaluation mode.
        layer.training = isinstance(layer, nn.RNNBase)
    model(example.to(device)).sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    join_norms(model, device)
    devices = [device] if device.type == "cuda" else None
    net = nn.parallel.DistributedDataParallel(
        model, device_ids=devices, gradient_as_bucket_view=True
    )
    # All have received the buffers of rank 0, and joint batch norms keep them equal. (As an
    # argument, this would leave out the former too.)
    net.broadcast_buffers = False
    return net


def share(items):
    """This rank's part of a list or tensor."""
    return items[RANK::WORLD_SIZE]

"""Devices, precision, and one network in several processes.

    torchrun --nproc-per-node 2 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor

Stages 01, 02, 03 and 05 support this, 02 and 05 with a GPU for each process. A process knows its
rank and the world size (common.py takes both from torchrun's environment); alone it is rank 0 of 1,
and nothing here does anything. Item k of any list belongs to rank k % WORLD_SIZE.

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
    # Rank 0 has an item if there is one, and knows its shape.
    values = np.empty((n, *parts[0].shape[1:]), mine.dtype)
    for rank, part in enumerate(parts[:n]):
        values[rank::WORLD_SIZE] = part
    return values


def join_norms(model, device):
    """Replace all batch norms by such that take their statistics over the joint batch."""
    has_norms = any(isinstance(layer, _BatchNorm) for layer in model.modules())
    if has_norms and device.type != "cuda":
        fail(
            f"{WORLD_SIZE} processes cannot train a network with batch norm on a CPU, as its "
            "statistics are those of all processes: start one process, or give each a GPU"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


def distribute(model, device, example):
    """The network to call in training: DistributedDataParallel with joint batch norms.

    A single process gets `model` itself. All processes get the weights of rank 0, and new layers in
    place of batch norm. Exits with an error on a CPU if the network has batch norm.

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

"""Which device and which precision a script computes with, and what only a GPU needs."""

import os
import shutil

import torch

from common import WORLD_SIZE, fail


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


def choose_precision(name, device):
    """What --precision means on a device: "bf16", "tf32" or "fp32".

    Also sets what float32 means on a GPU from here on: TF32, or IEEE float32 with "fp32". Exits
    with an error if "tf32" is asked of a device that does not have it.
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


def autocast(device, precision, cache=True):
    """The context in which a network computes in a precision.

    cache: whether weights that were converted are kept for their next use in the same context.
    """
    is_on = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_on, cache_enabled=cache)


def place(model, device):
    """Move a network to a device, and on a GPU put the channels of its kernels innermost.

    That is the order in memory for which its convolutions in bfloat16 and TF32 are made.
    """
    if device.type == "cuda":
        return model.to(device, memory_format=torch.channels_last)
    return model.to(device)


def compile_network(network):
    """`network`, a module or a function, compiled by torch.compile at its first call."""
    names = (os.environ.get("CC"), os.environ.get("CXX"), "cc", "gcc", "g++", "clang")
    if not any(shutil.which(name) for name in names if name):
        fail("--compile needs a C compiler, and none was found: install gcc, or leave it out")
    return torch.compile(network)


def capture_graph(model, example, precision):
    """Capture a model's forward and backward pass of training as CUDA graphs, and return it.

    A captured pass is launched as a whole, where the thousands of small kernels of CLRNet are
    launched one by one. The model must be in training mode and in one process, and `example` of the
    shape of every batch to come. Its buffers stay as they are; dropout draws as without a graph.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    with autocast(example.device, precision, cache=False):
        model = torch.cuda.make_graphed_callables(model, (example,))
    # The passes before the capture, which warm up, have moved the statistics of batch norm.
    for buffer, value in zip(model.buffers(), before):
        buffer.copy_(value)
    return model


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

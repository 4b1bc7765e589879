"""Which device and which precision a script computes with."""

import os

import torch

from common import WORLD_SIZE, fail


def choose_device(name):
    """The torch.device that --device names. Exits with an error if it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and WORLD_SIZE > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        fail(f"--device {name} cannot be used here: {str(error).splitlines()[0]}")
    return device


def choose_precision(name, device):
    """What --precision means on a device: "fp32" or "bf16"."""
    if name != "auto":
        return name
    known = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return "bf16" if known.get("avx512_bf16") or known.get("amx_bf16") else "fp32"


def autocast(device, precision):
    """The context in which a network computes in "fp32" or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

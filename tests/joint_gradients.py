"""Run by test_processes.py under torchrun: gradients and batch norm's statistics of a joint batch, by two processes and by one. Prints them as JSON.

`off`: by how much the two differ at most, in float32 and float64; `own`: by how much one process in float32 differs from itself in float64.
"""

import copy
import json
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RANK, WORLD_SIZE
from networks import baselines, clrnet  # noqa: E402
from running import distributed as processes  # noqa: E402
from running.script import barrier


def networks():
    """(name, network, samples, their number not a multiple of two)."""
    torch.manual_seed(0)
    yield (
        "Extractor",
        import_module("02_pretrain_extractor").Extractor("resnet18", 64),
        torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8),
    )
    model = clrnet.CLRNet(4, (1, 1), 48)
    clrnet.initialise(model)
    yield "CLRNet", model, torch.rand(5, 5, 3, 48, 48)
    yield (
        "MesoInception4",
        baselines.BASELINES["MesoInception4"](image_size=64, frames=1),
        torch.rand(7, 1, 3, 64, 64),
    )


def gradients(net, x, y, share):
    (F.cross_entropy(net(x), y) * share).backward()


def most(a, b):
    """The largest difference between two lists of tensors; None in both counts as equal."""
    return max([(x - y).abs().max().item() for x, y in zip(a, b) if x is not None or y is not None])


torch.set_num_threads(1)
barrier()
result = {}
for name, model, x in networks():
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # each process draws its own
    y, mine, alone = torch.arange(len(x)) % 2, slice(RANK, None, WORLD_SIZE), {}
    result[name] = dict(off={}, statistics={})
    for dtype in (torch.float64, torch.float32):
        one, joint = (copy.deepcopy(model).to(dtype).train() for _ in range(2))
        inputs = x if x.dtype == torch.uint8 else x.to(dtype)
        gradients(one, inputs, y, 1)
        net = processes.distribute(joint, torch.device("cpu"), inputs[:1])
        net.train()
        gradients(net, inputs[mine], y[mine], len(y[mine]) * WORLD_SIZE / len(x))
        alone[dtype] = [p.grad for p in one.parameters()]
        result[name]["off"][str(dtype)[6:]] = most(
            alone[dtype], [p.grad for p in joint.parameters()]
        )
        result[name]["statistics"][str(dtype)[6:]] = most(one.buffers(), joint.buffers())
    result[name]["own"] = most(*alone.values())
    result[name]["largest"] = max(
        g.abs().max().item() for g in alone[torch.float64] if g is not None
    )
    del net, joint
processes.leave()
if RANK == 0:
    print(json.dumps(result))

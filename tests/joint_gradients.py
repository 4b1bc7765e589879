"""Gradients and batch norm's statistics of a joint batch, by two processes and by one, as JSON.

test_processes.py runs it with torchrun. Per network: `off`, by how much the gradients of the two
differ at most, in float32 and float64; `statistics`, the same of batch norm's buffers; `odd`, the
same after a further step with an odd number of samples; `own`, by how much the gradients of one
process in float32 differ from its own in float64; `largest`, the largest gradient.
"""

import copy
import json
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import_module("joint")
from common import RANK  # noqa: E402
from networks.baselines import NETWORKS  # noqa: E402
from networks.clrnet import initialize  # noqa: E402
from running.devices import distribute, share  # noqa: E402
from running.processes import barrier, leave  # noqa: E402


def networks():
    """(name, network, samples)"""
    torch.manual_seed(0)
    extractor = import_module("02_pretrain_extractor").Extractor("resnet18", 64)
    yield "Extractor", extractor, torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    model = NETWORKS["CLRNet"](4, (1, 1), 48)
    initialize(model)
    yield "CLRNet", model, torch.rand(6, 5, 3, 48, 48)
    model = NETWORKS["MesoInception4"](image_size=64, frames=1)
    yield "MesoInception4", model, torch.rand(8, 1, 3, 64, 64)


def gradients(net, x, y):
    """Leave the gradients of the mean loss in the network."""
    F.cross_entropy(net(x), y).backward()


def largest_difference(a, b):
    """The largest difference between two lists of tensors; None in both counts as equal."""
    return max((x - y).abs().max().item() for x, y in zip(a, b) if x is not None or y is not None)


def compare(model, x):
    """The numbers of one network (see above)."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            # Each process would draw its own mask.
            layer.p = 0.0
    y = torch.arange(len(x)) % 2
    found, alone = dict(off={}, statistics={}, odd={}), {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        one, joint = (copy.deepcopy(model).to(dtype).train() for _ in range(2))
        inputs = x if x.dtype == torch.uint8 else x.to(dtype)
        gradients(one, inputs, y)
        net = distribute(joint, torch.device("cpu"), inputs[:1])
        net.train()
        gradients(net, share(inputs), share(y))
        alone[name] = [p.grad for p in one.parameters()]
        found["off"][name] = largest_difference(alone[name], [p.grad for p in joint.parameters()])
        found["statistics"][name] = largest_difference(one.buffers(), joint.buffers())
        with torch.no_grad():
            one(inputs[:-1])
            joint(share(inputs[:-1]))
        found["odd"][name] = largest_difference(one.buffers(), joint.buffers())
    found["own"] = largest_difference(*alone.values())
    found["largest"] = max(g.abs().max().item() for g in alone["float64"] if g is not None)
    return found


torch.set_num_threads(1)
barrier()
result = {name: compare(model, x) for name, model, x in networks()}
leave()
if RANK == 0:
    print(json.dumps(result))

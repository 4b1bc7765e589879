"""One script in several processes, on one machine or many, started by torchrun.

    torchrun --nproc-per-node 2 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor

Stages 01, 02, 03 and 05 can run so. A process knows its rank and the world size (common.py takes
both from torchrun's environment); alone it is rank 0 of 1, and nothing here does anything. Item k
of any list belongs to rank k % WORLD_SIZE.

A training in several processes equals one in a single process on the joint batch, to rounding: the
loss is a mean over the joint batch, batch norm takes its statistics over it, and flips and
augmentation are drawn for it. Only the masks of dropout differ.
"""

from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common import RANK, WORLD_SIZE


def barrier():
    """Return when all processes have called this (used through `running.script.barrier`)."""
    if not dist.is_initialized():
        # The timeout is long because one process may have a week of videos while the others wait.
        # torchrun notices at once when a process dies.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=30))
    dist.all_reduce(torch.zeros(1))


def leave():
    """Leave the group when all processes have called this."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


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
    model.eval()(example.to(device)).sum().backward()
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

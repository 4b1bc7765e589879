"""One script run by several processes, on one machine or many, as torchrun starts them: how they meet, and how a network trains over them all.

    torchrun --nproc-per-node 2 02_pretrain_extractor.py --faces faces/DFDC-F --out runs/extractor

Stages 01, 02, 03 and 05 take part. A process knows its number, RANK, and how many there are, WORLD_SIZE (common.py has both, from torchrun's
environment); alone it is 0 of 1, and nothing here does anything. Work is dealt out by number: item k belongs to process k % WORLD_SIZE. The first
process alone writes what all have a part in (`write_table`, `save_checkpoint`) and prints.

A training over several processes equals that of one on the joint batch, to rounding: the loss is a mean over the joint batch, batch norm takes its
statistics over it, and flips and augmentation are drawn for it. Only dropout differs, whose masks each process draws for itself.
"""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from common import RANK, WORLD_SIZE


def barrier():
    """Return when all processes have come here (`barrier` of script.py)."""
    if not dist.is_initialized():
        # Long: one process may have a week of videos while the others wait. A process that dies is noticed at once, by torchrun.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            timeout=timedelta(days=30),
        )
    dist.all_reduce(torch.zeros(1))


def leave():
    """Leave the other processes, when all have come here; after it nothing can be shared."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


def mean_over_ranks(values):
    """The mean over all processes of a tensor."""
    values = values.clone()
    dist.all_reduce(values)
    return values / WORLD_SIZE


def gather(mine, n):
    """All n values, (n, ...) array, of which each process has its own, item k being process k % WORLD_SIZE's."""
    if WORLD_SIZE == 1:
        return mine
    width = torch.tensor(
        mine.shape[1:] if len(mine) else (), dtype=torch.int64
    ).prod()  # a process without an item knows no width
    dist.all_reduce(width, dist.ReduceOp.MAX)
    own = torch.from_numpy(mine)
    values = torch.zeros(n, int(width), dtype=own.dtype)
    if len(mine):
        values[RANK::WORLD_SIZE] = own.view(len(mine), -1)
    dist.all_reduce(values)  # zeros but for one process each: the sum is exact
    return values.numpy() if mine.ndim > 1 else values[:, 0].numpy()


class SumOverAll(torch.autograd.Function):
    """The sum of a tensor over all processes; backward, the sum of its gradients."""

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
    """Batch norm over the joint batch of all processes, whatever each one's share; torch's SyncBatchNorm is for GPUs only."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        axes, shape = [0, *range(2, x.ndim)], (1, -1) + (1,) * (x.ndim - 2)
        y = x if x.dtype == torch.float64 else x.float()
        sums = SumOverAll.apply(torch.cat([y.sum(axes), y.new_tensor([y.numel() / y.shape[1]])]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        y = y - mean.view(shape)
        var = SumOverAll.apply(y.square().sum(axes)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        return (
            y * (torch.rsqrt(var + self.eps) * self.weight).view(shape) + self.bias.view(shape)
        ).to(x.dtype)


def distribute(model, device, example):
    """The network to call in training: `model` in DistributedDataParallel, its batch norms joint ones; alone, `model` itself.

    example: an input of one sample, by which the parameters are found that have no part in the output (a second classifier): the
    processes would wait for their gradients. All processes get the first one's weights.
    """
    if WORLD_SIZE == 1:
        return model
    model.eval()(example.to(device)).sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and not isinstance(layer, JointNorm):
            layer.__class__ = type(f"Joint{type(layer).__name__}", (type(layer), JointNorm), {})
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )

"""Run a training on CPUs in several processes: torchrun tests/joint.py 02_... ARGUMENTS.

PyTorch's SyncBatchNorm needs a GPU for each process. Here its layers, made by PyTorch's own
conversion, compute the same on a CPU.
"""

import os
import runpy
import sys

import torch
import torch.distributed as dist
from torch import nn

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
sys.path.insert(0, ROOT)

from running import devices  # noqa: E402


class AllReduceSum(torch.autograd.Function):
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


def forward(self, x):
    """SyncBatchNorm's forward on a CPU."""
    if not self.training:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
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


nn.SyncBatchNorm.forward = forward
# It refuses a SyncBatchNorm on a CPU.
nn.parallel.DistributedDataParallel._passing_sync_batchnorm_handle = lambda *_: None
devices.join_norms = lambda model, device: nn.SyncBatchNorm.convert_sync_batchnorm(model)

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.argv[0] = os.path.join(ROOT, sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")

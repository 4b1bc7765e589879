"""What can be known about a GPU without one.

Tensors of FakeTensorMode are on cuda:0 and have no data, and neither have those on the device
"meta": shapes, dtypes, devices and the order in memory of everything that a step computes can be
seen, and which operations would wait. bench/gpu_check.py does the rest on a GPU.
"""

import contextlib
import copy
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import ROOT, SMALL_CLRNET, SMALL_EXTRACTOR, command, stage
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from networks.clrnet import CLRNet, ConvLSTM, Recurrence, frame_norm, initialize, normalize
from networks.extractor import Extractor
from running import devices, loading, processes
from running import run as training_run

pretrain = stage("02_pretrain_extractor")
features_ = stage("03_extract_features")
bpdann = stage("04_train_bpdann")
train_dann = stage("recipes.train_dann")
clrnet = stage("05_train_clrnet")
CPU, META = torch.device("cpu"), torch.device("meta")


@contextlib.contextmanager
def fake_gpu(precision="fp32"):
    """Tensors on cuda:0 without data, and CUDA's rules of autocast in bf16."""
    with FakeTensorMode():
        torch.set_autocast_enabled("cuda", precision == "bf16")
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            yield
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.clear_autocast_cache()


def on_gpu(model):
    """The model, which is on "meta", with tensors of `fake_gpu` in the same order in memory."""

    def move(tensor):
        size, stride = tensor.size(), tensor.stride()
        return torch.empty_strided(size, stride, dtype=tensor.dtype, device="cuda:0")

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(move(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = move(buffer)
    return model


def meta(network, *args, **kwargs):
    with META:
        return network(*args, **kwargs)


class Watch(TorchDispatchMode):
    """Counts operations that bring together the CPU and another device, numbers aside."""

    def __init__(self):
        super().__init__()
        self.copies = 0
        self.flipped_on = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        places = {
            t.device.type for t in tensors if t.ndim or func is torch.ops.aten._to_copy.default
        }
        self.copies += len(places) > 1
        if func is torch.ops.aten.flip.default:
            self.flipped_on |= places
        return result


# ---------------------------------------------------------------- device and precision


def test_precision_of_a_gpu(monkeypatch):
    gpu = torch.device("cuda:0")
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    for backend in backends:  # restored at the end
        monkeypatch.setattr(backend, "allow_tf32", backend.allow_tf32)
    for capability, name, says, is_tf32 in (
        ((7, 5), "auto", "fp32", False),
        ((8, 0), "auto", "bf16", True),
        ((9, 0), "auto", "bf16", True),
        ((8, 6), "tf32", "tf32", True),
        ((8, 6), "fp32", "fp32", False),
        ((7, 5), "bf16", "bf16", True),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert devices.choose_precision(name, gpu) == says
        assert {backend.allow_tf32 for backend in backends} == {is_tf32}
    for device in (gpu, CPU):
        with pytest.raises(SystemExit, match="tf32 needs an NVIDIA GPU"):
            devices.choose_precision("tf32", device)


@pytest.mark.parametrize("name, world, chosen", [("cuda", 1, 0), ("cuda", 2, 3), ("cuda:1", 1, 1)])
def test_each_process_makes_its_gpu_the_current_one(name, world, chosen, monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(devices, "WORLD_SIZE", world)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with FakeTensorMode():
        device = devices.choose_device(name)
    assert current == [device] and device == torch.device("cuda", chosen)


def test_out_of_memory_is_one_line():
    def main():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")

    with pytest.raises(SystemExit) as end:
        processes.run_script(main)
    message = end.value.code
    assert "Tried to allocate 2 GiB" in message and "\n" not in message
    assert "--batch" in message and "--precision bf16" in message


# ---------------------------------------------------------------- forward and backward


def check_outputs(model, precision, forward, inputs):
    """Run `forward` on a fake GPU; returns the dtypes of the outputs of each kind of layer."""
    found = {}

    def note(module, _, output):
        assert output.device == torch.device("cuda:0"), module
        found.setdefault(type(module).__name__, set()).add(output.dtype)

    with fake_gpu(precision), Watch() as watch:
        on_gpu(model)
        for module in model.modules():
            module.register_forward_hook(note)
        forward(inputs())
    assert watch.copies == 0
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_forward_of_all_networks(precision):
    """The device and the dtype of every layer's output, and no copy between CPU and GPU."""
    low = torch.bfloat16 if precision == "bf16" else torch.float32

    def images():
        return torch.zeros(4, 3, 64, 64, dtype=torch.uint8, device="cuda:0")

    def clips():
        draws = torch.rand(4, 5, device="cuda:0")
        frames = torch.zeros(4, 5, 3, 48, 48, dtype=torch.uint8, device="cuda:0")
        return clrnet.augment(loading.as_clips(frames), draws)

    model = meta(Extractor, "resnet18", 64)
    found = check_outputs(model, precision, model, images)
    expected = {"Conv2d": {low}, "BatchNorm2d": {low}, "Linear": {low}, "Extractor": {low}}
    assert found.items() >= expected.items()

    model = meta(train_dann.DANN, "resnet18", 64)

    def adapt(x):
        embedding = model.embed(x)
        reversed_ = bpdann.GradientReversal.apply(embedding, torch.zeros((), device="cuda:0"))
        return model.discriminate(reversed_), model.classify(embedding[:2])

    found = check_outputs(model, precision, adapt, images)
    assert found["Linear"] == found["Sequential"] == {low}

    model = meta(CLRNet, 4, (1, 1), 48)
    found = check_outputs(model, precision, model, clips)
    expected = {name: {low} for name in ("Conv2d", "ConvLSTM", "BatchNorm2d", "Block", "CLRNet")}
    assert found.items() >= expected.items()


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_recurrences_own_backward_on_a_gpu(kernel):
    """Called by hand, because autograd does not run there: dtypes, devices, channels innermost."""
    context = SimpleNamespace(needs_input_grad=(True, True))
    context.save_for_backward = lambda *tensors: setattr(context, "saved_tensors", tensors)
    last = dict(dtype=torch.bfloat16, device="cuda:0")
    with fake_gpu("bf16"), Watch() as watch:
        z = torch.empty(3 * 2, 8, 7, 6, **last).to(memory_format=torch.channels_last)
        weight = torch.empty(8, 2, kernel, kernel, **last).to(memory_format=torch.channels_last)
        z = z.unflatten(0, (3, 2))
        states = Recurrence.forward(context, z, weight)
        # `once_differentiable` would ask autograd.
        backward = Recurrence.backward.__wrapped__
        d_z, d_weight = backward(context, torch.empty_like(states))
    assert watch.copies == 0
    assert d_z.shape == z.shape and d_weight.shape == weight.shape
    for tensor in (*context.saved_tensors, d_z, d_weight):
        assert tensor.dtype == torch.bfloat16 and tensor.device == torch.device("cuda:0")
    for tensor in (states, d_z, *context.saved_tensors[:3]):
        assert tensor.stride(2) == 1, "channels are not innermost"


def test_clrnet_with_channels_innermost_is_the_same_network():
    """As on a GPU, in float64: outputs and gradients, and the order in memory inside."""
    torch.manual_seed(0)
    model = CLRNet(4, (1, 1), 48).double().eval()
    initialize(model)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    assert devices.place(copy.deepcopy(model), CPU).stem.input.weight.is_contiguous()
    x, y = torch.rand(2, 5, 3, 48, 48, dtype=torch.double), torch.tensor([0, 1])
    seen, convolved = [], []
    for layer in other.modules():
        if isinstance(layer, ConvLSTM):
            # Of 1 x 1 convolutions, which are matrix products, the module is not called.
            layer.input.register_forward_pre_hook(lambda _, found: convolved.append(found[0]))
            layer.register_forward_hook(lambda *found: seen.append(found[2].stride(2)))
            weight = layer.input.weight
            assert weight.is_contiguous(memory_format=torch.channels_last)
    logits = [network(x) for network in (model, other)]
    assert set(seen) == {1} and len(seen) == 9
    assert len(convolved) == 4
    assert all(v.is_contiguous(memory_format=torch.channels_last) for v in convolved)
    assert torch.allclose(*logits, atol=1e-12)
    gradients = [
        torch.autograd.grad(F.cross_entropy(z, y), list(network.parameters()))
        for z, network in zip(logits, (model, other))
    ]
    assert all(torch.allclose(a, b, atol=1e-11) for a, b in zip(*gradients))


# ---------------------------------------------------------------- no step waits


class Done(Exception):
    """Ends a training after its first epoch."""


@pytest.fixture
def on_meta(monkeypatch):
    """Trainings run on "meta", as they are but for what reads numbers; returns copies per step."""
    steps = []

    def end_epoch(self, *_, **__):
        raise Done

    def record(self, *losses):
        assert {loss.device for loss in losses} == {META}
        steps.append(watch.copies)
        self.batch += 1
        self.step += 1

    def no_scores(model, faces, *_):
        return np.zeros((len(faces), 2))

    for stage_ in (pretrain, bpdann, train_dann, clrnet):
        monkeypatch.setattr(stage_, "autocast", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr(stage_, "predict", no_scores, raising=stage_ is not bpdann)
    monkeypatch.setattr(training_run.Run, "check_weights", lambda self: None)
    monkeypatch.setattr(training_run.Run, "record", record)
    monkeypatch.setattr(training_run.Run, "end_epoch", end_epoch)
    # The fused Adam of a GPU has no kernel here.
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, **_: torch.optim.SGD(groups, lr=0.1))
    watch = Watch()

    def train(function, *args):
        with pytest.raises(Done), watch:
            function(*args)
        # The first step comes after what an epoch sends.
        return np.diff(steps).tolist(), watch.flipped_on

    return train


def test_a_step_of_02_sends_its_images_alone(small, on_meta, tmp_path, monkeypatch):
    line = f"02_pretrain_extractor.py --faces {small / 'faces/frames'} {SMALL_EXTRACTOR}"
    line += f" --device meta --precision fp32 --workers 0 --batch 4 --out {tmp_path / 'r'}"
    monkeypatch.setattr(sys, "argv", line.split())
    assert on_meta(pretrain.main) == ([1, 1, 1], {"meta"})


def test_a_step_of_05_sends_its_clips_alone(small, on_meta, tmp_path, monkeypatch):
    line = f"05_train_clrnet.py --strategy single --source {small / 'faces/clips'} {SMALL_CLRNET}"
    line += f" --device meta --precision fp32 --workers 0 --batch 2 --out {tmp_path / 'r'}"
    monkeypatch.setattr(sys, "argv", line.split())
    assert on_meta(clrnet.main)[0] == [1, 1, 1]


def test_a_step_of_dann_sends_its_images_alone(small, on_meta, tmp_path):
    paths = sorted(str(path) for path in (small / "faces/frames").glob("*/*.png"))[:16]
    labels = torch.zeros(8, dtype=torch.int64, device=META)
    args = SimpleNamespace(seed=0, lr=1e-4, epochs=20, batch=2, workers=0, out=tmp_path)
    args.precision, args.arch, args.weights = "fp32", "resnet18", "none"
    kwargs = dict(arch="resnet18", image_size=64)
    args = (args, kwargs, paths[:8], labels, paths[8:], META, {})
    assert on_meta(train_dann.train, *args) == ([1, 1, 1], {"meta"})


def test_a_step_of_bpdann_sends_nothing(on_meta, tmp_path):
    labels = torch.zeros(8, dtype=torch.int64, device=META)
    x, nothing = torch.zeros(8, 6, device=META), np.zeros(0, np.int64)
    source = bpdann.Source(SimpleNamespace(index={}), nothing, nothing, x, labels)
    args = SimpleNamespace(seed=0, lr=1e-4, epochs=20, batch=2, method="bp-dann", precision="fp32")
    args = (tmp_path, args, source, x, META, dict(kwargs=dict(dimensions=6)))
    assert on_meta(bpdann.train, *args)[0] == [0, 0, 0]


# ---------------------------------------------------------------- several processes


def test_joint_batch_norms_of_gpus_are_pytorchs_own(monkeypatch):
    """CLRNet's frames are in the batch that SyncBatchNorm gets."""
    inputs, sync = [], lambda x, *_: inputs.append(x.shape) or x
    functions = SimpleNamespace(apply=sync)
    monkeypatch.setattr(torch.nn.modules.batchnorm, "sync_batch_norm", functions)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)
    model = nn.Sequential(meta(frame_norm, 8), meta(nn.Conv3d, 2, 2, 1))
    devices.join_norms(model, torch.device("cuda:0"))
    assert isinstance(model[0], nn.SyncBatchNorm)
    assert model[0].momentum == 0.01 and model[0].eps == 1e-3
    with fake_gpu():
        on_gpu(model)
        out = normalize(model[0], torch.zeros(2, 5, 8, 4, 4, device="cuda:0"))
    assert inputs == [(10, 8, 4, 4)] and out.shape == (2, 5, 8, 4, 4)
    with pytest.raises(SystemExit, match="batch norm on a CPU"):
        devices.join_norms(nn.Sequential(nn.BatchNorm2d(8)), CPU)


@pytest.fixture
def two_processes(monkeypatch):
    """For `distribute` this is one of two processes, with a group that has no other."""
    monkeypatch.setattr(devices, "WORLD_SIZE", 2)
    monkeypatch.setattr(devices, "join_norms", lambda *_: None)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_buffers_are_not_sent_in_every_step(two_processes):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten())
    net = devices.distribute(model, CPU, torch.zeros(1, 3, 2, 2))
    assert isinstance(net, nn.parallel.DistributedDataParallel)
    assert not net.will_sync_module_buffers()


def test_rnns_find_their_gradients_in_training_mode(two_processes):
    """cuDNN has no backward pass of RNNs in evaluation mode; batch norm needs that for 1 sample."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(), Rnn(4, 3))
    model[3].unused = nn.Linear(2, 2)
    modes = {}
    for layer in model.modules():
        layer.register_forward_hook(lambda layer, *_: modes.update({type(layer): layer.training}))
    devices.distribute(model, CPU, torch.zeros(1, 4, 1))
    assert modes[Rnn] and not any(modes[kind] for kind in modes if kind is not Rnn)
    assert model[3].weight_ih_l0.requires_grad and not model[3].unused.weight.requires_grad


class Rnn(nn.LSTM):
    """An LSTM that returns its outputs alone."""

    def forward(self, x):
        return super().forward(x)[0]


def test_paths_are_one_array():
    """Not objects, which each process that loads images would copy; with any text in them."""
    paths = [f"ä/{k}/\U0001f600 {'x' * (k % 7)}.png" for k in range(20_000)]
    faces = loading.Faces(paths, 8, "folder")
    clips = loading.Faces([tuple(paths[k : k + 5]) for k in range(0, 20_000, 5)], 8)
    assert len(faces) == 20_000 and len(clips) == 4_000
    assert faces.paths(7) == [f"folder/{paths[7]}"] and faces.paths(-1) == [f"folder/{paths[-1]}"]
    assert clips.paths(3) == paths[15:20]
    with pytest.raises(IndexError):
        faces.paths(20_000)
    values = [*vars(faces).values(), *vars(clips).values()]
    assert not any(isinstance(value, list | tuple | dict) for value in values)
    assert len(pickle.dumps(faces)) < sum(len(p.encode()) for p in paths) + 8 * 20_001 + 1000
    empty = loading.Faces([], 8)
    assert len(empty) == 0 and list(empty) == []


# ---------------------------------------------------------------- memory


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


# Counted before, in bench/RESULTS.md and docs/performance.md: GB at a batch, in bf16 and fp32.
IMAGES = (lambda: Extractor("se_resnext101_32x4d"), (3, 224, 224), torch.uint8, 128, (13.2, 26.0))
CLIPS = (CLRNet, (5, 3, 240, 240), torch.float32, 40, (7.6, 13.9))


@pytest.mark.parametrize(
    "name, make, shape, dtype, batch, known",
    [("02_pretrain_extractor.py", *IMAGES),
     pytest.param("05_train_clrnet.py", *CLIPS, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_help_says_what_fits(name, make, shape, dtype, batch, known):
    words = [sys.executable, ROOT / name, "--help"]
    output = " ".join(subprocess.run(words, capture_output=True, text=True).stdout.split())
    said = re.findall(r"(\d+) GB: (\d+)(?: in bf16,)?(?: and)? (\d+)", output)
    said = [tuple(map(int, numbers)) for numbers in said]
    assert [gigabytes for gigabytes, *_ in said] == [16, 24, 40, 80]
    for k, precision in enumerate(("bf16", "fp32"), 1):
        counted = {}
        for n in (2, 4):
            model = meta(make)
            with fake_gpu(precision):
                on_gpu(model)
                x = torch.zeros(n, *shape, dtype=dtype, device="cuda:0")
                counted[n] = kept_bytes(model, lambda: model(x))  # noqa: B023
        each = (counted[4] - counted[2]) / 2
        once = counted[2] - 2 * each
        assert (once + batch * each) / 1e9 == pytest.approx(known[k - 1], rel=0.05)
        # Weights, gradients and Adam's two moments; 1 GB for CUDA itself and cuDNN's workspace;
        # 10 % of the activations for what lives for a moment only.
        always = 1e9 + 16 * sum(p.numel() for p in model.parameters()) + once
        for gigabytes, *samples in said:
            needed = (always + 1.1 * each * samples[k - 1]) / 1e9
            assert 0.7 * gigabytes < needed <= gigabytes, (precision, gigabytes)


# ---------------------------------------------------------------- the check for a GPU


@pytest.mark.slow
def test_the_check_for_a_gpu_runs_on_a_cpu():
    words = command("bench/gpu_check.py --tiny --device cpu --no-record")
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for what in ("02, step", "04, step", "05, step", "resumed", "whole loop"):
        assert any(what in row for row in rows), (what, done.stdout)
    assert not any("FAILED" in row for row in rows), done.stdout

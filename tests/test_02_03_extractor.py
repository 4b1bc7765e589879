"""Stages 02 and 03: the extractor's network, its training, kill and resume, features and scores."""

import contextlib
import hashlib
import http.server
import json
import os
import re
import shutil
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import (
    SMALL_EXTRACTOR,
    assert_same_tree,
    call,
    changes_below,
    drop_val,
    rows_of,
    run_and_kill,
    same,
    shared,
    stage,
)
from PIL import Image

import common
from networks import extractor as networks_extractor
from networks import weights
from reporting import metrics
from running import devices, loading
from running import run as training_run

features_ = stage("03_extract_features")
CPU = torch.device("cpu")


def pretrain(small, out, flags="", fails=False):
    """Stage 02 on faces/frames in this process, or on the folder that the flags name."""
    line = f"02_pretrain_extractor.py --faces {small / 'faces/frames'} --out {out} --workers 0"
    return call(f"{line} {SMALL_EXTRACTOR} {flags}", fails)


def content_of(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "arch, size, dimensions",
    [("resnet18", 96, 512), ("se_resnext50_32x4d", 64, 2048), ("squeezenet1_1", 64, 512),
     ("xception", 96, 2048), ("resnext101_32x4d", 64, 2048)],
)  # fmt: skip
def test_networks_of_pretrainedmodels(arch, size, dimensions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing a user can do nothing about
        model = networks_extractor.Extractor(arch, size).eval()
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    assert model.features(images).shape == (2, dimensions) and model(images).shape == (2, 2)
    assert not hasattr(model.backbone, "last_linear")
    rebuilt = networks_extractor.Extractor(arch, size).eval()
    weights = [next(net.backbone.parameters()) for net in (model, rebuilt)]
    assert not torch.equal(*weights), "each network has random weights of its own"
    rebuilt.load_state_dict(model.state_dict())
    assert torch.equal(rebuilt(images), model(images))


@pytest.mark.parametrize(
    "arch, size",
    [("resnet18", 64), ("se_resnext50_32x4d", 64), ("xception", 96), ("densenet121", 64),
     pytest.param("vgg11", 224, marks=pytest.mark.slow)],
)  # fmt: skip
def test_folded_batch_norm_changes_nothing(arch, size):
    """Features of a network with batch norms that have seen data, with and without folding: to 1e-5
    of the largest.
    """
    torch.manual_seed(0)
    model = networks_extractor.Extractor(arch, size)
    images = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        model.features(images)  # moves the running statistics
        plain = model.eval().features(images)
        folded = networks_extractor.fold_batch_norm(model)
        found = folded.features(images)
    assert type(folded.backbone) is torch.nn.Module  # of the folded features alone
    assert (found - plain).abs().max() <= 1e-5 * plain.abs().max() and plain.std() > 0
    norms = [type(m).__name__ for m in folded.backbone.modules() if "Norm" in type(m).__name__]
    # Half of a densenet's 121 stand before their convolutions.
    assert len(norms) == {"densenet121": 62}.get(arch, 0), norms


def test_a_network_that_cannot_be_traced_stays_as_it_is(capsys):
    model = networks_extractor.Extractor("resnet18", 64).eval()
    backbone, plain = model.backbone, model.backbone.features
    # What depends on values cannot be traced.
    backbone.features = lambda x: plain(x) if x.sum() > 0 else plain(x)
    assert networks_extractor.fold_batch_norm(model) is model and model.backbone is backbone
    assert "batch norm is not folded" in capsys.readouterr().out


def test_channels_last_and_bfloat16_train_as_plain_fp32():
    """The same gradients in either memory format, compared in float64, since a step in float32
    depends on the processor's kernels; in bfloat16 they have the same direction.
    """
    torch.manual_seed(0)
    model = networks_extractor.Extractor("resnet18", 64)
    images, labels = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8), torch.arange(8) % 2

    def gradients(precision):
        with devices.autocast(CPU, precision):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        parts = torch.autograd.grad(loss, [*model.parameters()])
        return loss.item(), torch.cat([part.flatten().double() for part in parts])

    loss, gradient = gradients("fp32")
    loss_bf16, gradient_bf16 = gradients("bf16")
    x = (images / 255 - model.mean) / model.std
    maps = torch.nn.functional.relu(model.backbone.features(x.contiguous()))
    plain = torch.nn.functional.cross_entropy(model.head(maps.mean((2, 3))), labels)
    assert loss == pytest.approx(plain.item(), abs=1e-5)
    assert loss_bf16 == pytest.approx(loss, abs=0.02)
    assert torch.nn.functional.cosine_similarity(gradient_bf16, gradient, dim=0) > 0.9

    model.double()
    loss, gradient = gradients("fp32")
    assert model.memory_format == torch.channels_last
    model.memory_format = torch.contiguous_format
    model.to(memory_format=torch.contiguous_format)
    loss_plain, gradient_plain = gradients("fp32")
    assert loss == pytest.approx(loss_plain, abs=1e-12)
    assert (gradient - gradient_plain).abs().max() <= 1e-9 * gradient_plain.abs().max()


def test_precision_is_what_the_processor_has(monkeypatch):
    for has, says in (("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True})
        assert devices.choose_precision("auto", CPU) == says
        assert devices.choose_precision("fp32", CPU) == "fp32"


def test_features_in_bfloat16(small, extractor, features, tmp_path):
    args = f"--checkpoint {extractor} --faces {small}/faces/phone --out {tmp_path} --device cpu"
    output = call(f"03_extract_features.py {args} --precision bf16")
    assert "; device cpu (" in output and " threads), bf16" in output
    found, plain = (np.load(folder / "phone/features.npy") for folder in (tmp_path, features))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - plain).max() < 0.05 * np.abs(plain).max()
    output = call(f"03_extract_features.py {args} --precision fp32", fails=True)
    assert "precision was bf16, is fp32" in output


def test_losses_are_checked_many_at_a_time(tmp_path):
    """Noted losses are summed up later; one that is not finite is named by step and batch."""
    model = torch.nn.Linear(1, 1)
    adam = torch.optim.Adam(model.parameters())
    args = SimpleNamespace(epochs=9, batch=2, seed=0)

    def make_run():
        run_ = training_run.Run(tmp_path, "02", args, model, adam, 10, {}, "best")
        for _ in range(7):
            run_.record(torch.tensor(0.0))
        run_.check_losses()
        run_.epoch, run_.batch = 1, 2
        return run_

    run_ = make_run()
    for value in (0.5, 0.25):
        run_.record(torch.tensor(value))
    run_.check_losses()
    run_.check_losses()
    assert run_.sums == [0.75] and run_.pending == [] and (run_.step, run_.per_epoch) == (9, 5)
    for there, says in ((False, "no state was saved yet"), (True, "is the last good state")):
        run_ = make_run()
        for value in (1.0, float("nan"), 2.0):
            run_.record(torch.tensor(value))
        if there:
            (tmp_path / "last.pt").touch()
        where = "at step 9 \\(epoch 2, batch 4 of 5\\)"
        with pytest.raises(SystemExit, match=f"train_loss is nan {where}: .*{says}"):
            run_.check_losses()


def test_preprocessing_is_the_networks_own():
    model = networks_extractor.Extractor("resnet18", 32)
    seen = []
    model.backbone.features = lambda x: seen.append(x) or torch.zeros(len(x), 512, 1, 1)
    model.features(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(seen[0][0, :, 0, 0].numpy(), expected, atol=1e-6)


def test_training_writes_what_it_says(small, extractor):
    folder = extractor.parent
    files = {"model.pt", "last.pt", "log.csv", "args.json"}
    assert {path.name for path in folder.iterdir()} == files
    checkpoint = content_of(extractor)
    assert checkpoint["stage"] == "02" and checkpoint["args"]["lr"] == 2e-3
    assert checkpoint["kwargs"] == dict(arch="resnet18", image_size=64)
    assert checkpoint["step"] == 2  # 16 training images of 48, batch 8
    flags = json.loads((folder / "args.json").read_text())["flags"]
    assert flags["batch"] == 8 and flags["weight_decay"] == 4e-5
    (row,) = rows_of(folder / "log.csv")
    assert list(row) == ["epoch", "step", "train_loss", "val_auc"]
    assert 0 <= float(row["val_auc"]) <= 1


def test_best_epoch_is_kept_not_the_last(small, tmp_path):
    pretrain(small, tmp_path / "r", "--epochs 4")
    log = rows_of(tmp_path / "r/log.csv")
    best = max(range(4), key=lambda k: float(log[k]["val_auc"]))
    model, last = (content_of(tmp_path / "r" / name) for name in ("model.pt", "last.pt"))
    assert model["epoch"] == best + 1 and last["epoch"] == 4
    # The validation AUC in the log is that of the stored network on the validation images.
    index = common.read_index(small / "faces/frames")
    rows = common.rows_of_split(index, "val", small)
    network = features_.load_extractor(tmp_path / "r/model.pt")
    faces = loading.Faces([index["path"][r] for r in rows], 64, small / "faces/frames")
    scores = common.margin(loading.predict(network, faces, 8, 0, CPU, "validation"))
    value = metrics.auc(index["label"][rows], scores)
    assert value == pytest.approx(float(log[best]["val_auc"]), abs=1e-6)


@pytest.mark.slow
def test_training_learns(small, tmp_path):
    """The loss on 16 images falls to a fraction: gradients, labels and optimizer fit together."""
    pretrain(small, tmp_path / "r", "--epochs 12 --lr 1e-3")
    losses = [float(row["train_loss"]) for row in rows_of(tmp_path / "r/log.csv")]
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, 8])
def test_resumes_in_the_middle_of_an_epoch(small, tmp_path, batch):
    flags = f"--epochs 3 --batch {batch}"
    pretrain(small, tmp_path / "whole", f"{flags} --workers 1")
    part = tmp_path / "part"
    args = ("--faces", small / "faces/frames", *SMALL_EXTRACTOR, *flags.split(), "--workers", 1)
    often = "tests/often.py 02_pretrain_extractor.py"
    run_and_kill((part / "last.pt").exists, often, *args, "--out", part)
    assert content_of(part / "last.pt")["epoch"] < 3
    pretrain(small, part, f"{flags} --workers 1")
    assert_same_tree(tmp_path / "whole", part)


def test_max_steps(small, tmp_path):
    pretrain(small, tmp_path / "r", "--epochs 9 --max-steps 3")
    assert content_of(tmp_path / "r/last.pt")["step"] == 3


def test_weights_from_a_file(small, tmp_path):
    """A state dict with its classifier, as published weights have it; a wrong one is refused by
    name, as are a network and a size that there are not.
    """
    import pretrainedmodels

    net = pretrainedmodels.resnet18(num_classes=1000, pretrained=None)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = networks_extractor.Extractor("resnet18", 64)
    weights.load_weights(model, "resnet18", str(tmp_path / "w.pth"))
    assert torch.equal(model.backbone.conv1.weight, net.conv1.weight)
    state = net.state_dict()
    del state["conv1.weight"]
    torch.save(state, tmp_path / "short.pth")
    (tmp_path / "text.pth").write_text("no")
    for flags, says in (
        (f"--weights {tmp_path}/short.pth", "conv1.weight"),
        (f"--weights {tmp_path}/text.pth", "text.pth"),
        (f"--weights {tmp_path}/none.pth", "no such file"),
        ("--arch resnet19", "no network resnet19"),
        ("--arch vgg11 --image-size 64", "cannot take images"),
    ):
        assert says in pretrain(small, tmp_path / "r", flags, fails=True)
    # A run that never began does not bind its folder.
    pretrain(small, tmp_path / "r", "--max-steps 1")


@pytest.mark.parametrize("arch", ["alexnet", "vgg11_bn", "squeezenet1_0", "densenet121"])
def test_published_weights_have_the_names_of_torchvision(arch):
    """Which pretrainedmodels changes in its networks; old densenets are published as norm.1."""
    import torchvision

    device = torch.device("cpu" if arch == "squeezenet1_0" else "meta")  # meta: no values
    with device:
        state = torchvision.models.__dict__[arch]().state_dict()
        model = networks_extractor.Extractor(arch, 224)
    state = {re.sub(r"(layer\d+\.(norm|conv))", r"\1.", name): x for name, x in state.items()}
    weights.load_backbone(model, state)
    weights.load_backbone(model, {"state_dict": {f"module.backbone.{k}": state[k] for k in state}})
    if arch == "squeezenet1_0":
        ours = model.backbone.state_dict()
        assert torch.equal(ours["last_conv.weight"], state["classifier.1.weight"])
    del state[next(iter(state))]
    with pytest.raises(ValueError, match="1 of .* arrays are missing"):
        weights.load_backbone(model, state)


def test_what_is_no_file_of_weights_is_named(tmp_path):
    """And no message recommends to run what is in the file, as torch's does."""
    path = tmp_path / "w.pth"
    model = networks_extractor.Extractor("resnet18", 32)
    torch.save(torch.nn.Linear(2, 2), path)
    whole = path.read_bytes()
    page = b"\n<!DOCTYPE html>\n<html>Quota exceeded</html>"
    for content, says in (
        (whole, "it holds Python objects, such as a whole model"),
        (whole[:1000], "it is damaged"),
        (b"no", "it is damaged, or not a file of torch.save"),
        (b"\x80\x02junk", "it is damaged"),
        (b"", "it is damaged, or not a file of torch.save"),
        (page, "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
    ):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=f"--weights {path}: .*{says}") as error:
            weights.load_weights(model, "resnet18", str(path))
        assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(SystemExit, match=says) as error:
            training_run.load_checkpoint(path, "02")
        assert "weights_only" not in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(SystemExit, match="pointer of Git LFS"):
        weights.load_weights(model, "resnet18", shared("data/reports/weights/lfs_pointer.pth"))


def test_no_network_names_the_three_ways(monkeypatch):
    def down(*args, **kwargs):
        raise OSError("host is down")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", down)
    with pytest.raises(SystemExit) as error:
        weights.load_weights(None, "se_resnext101_32x4d", "imagenet")
    message = str(error.value)
    assert message.count("host is down") == 2
    assert "--weights FILE" in message and "--weights none" in message


@contextlib.contextmanager
def serve(files):
    """A host on this machine with {path: bytes}: (its address, the paths that were asked for)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_imagenet_weights_come_from_the_first_host_that_has_them(tmp_path, monkeypatch, capsys):
    """First address down, second serves: the hash in its name and every key are checked, and the
    file stays in torch's own cache.
    """
    import pretrainedmodels

    source = networks_extractor.Extractor("resnet18", 32)
    classifier = {"last_linear.weight": torch.zeros(1000, 512), "last_linear.bias": torch.zeros(9)}
    names = {}
    for name, state in (
        ("net", source.backbone.state_dict() | classifier),
        ("other", {"conv1.weight": torch.zeros(3)}),
    ):
        torch.save(state, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        names[f"/{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"] = content
    good, misfit = names
    bad = "/net-00000000.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def load(address, first, second):
        settings = pretrainedmodels.pretrained_settings["resnet18"]["imagenet"]
        monkeypatch.setitem(settings, "url", address + first)
        monkeypatch.setattr(weights, "MIRRORS", {"resnet18": address + second})
        model = networks_extractor.Extractor("resnet18", 32)
        weights.load_weights(model, "resnet18", "imagenet")
        return model.backbone.state_dict()

    with serve(names | {bad: names[good]}) as (address, asked):
        state = load(address, "/gone.pth", good)
        assert asked == ["/gone.pth", good]
        assert same(dict(state), dict(source.backbone.state_dict()))
        printed = capsys.readouterr()
        assert address + "/gone.pth" in printed.out and "100%" in printed.err
        assert [p.name for p in (tmp_path / "cache/hub/checkpoints").iterdir()] == [good[1:]]
        load(address, good, "/gone.pth")  # from the cache
        assert asked == ["/gone.pth", good]
        # Other bytes than the name says; other arrays than the network's.
        with pytest.raises(SystemExit, match="invalid hash value.*does not fit.*--weights FILE"):
            load(address, bad, misfit)
    assert not (tmp_path / "cache/hub/checkpoints" / bad[1:]).exists()


def test_features_and_scores_are_the_networks(small, extractor, features):
    network = features_.load_extractor(extractor)
    for name in ("frames", "phone"):
        faces, folder = small / "faces" / name, features / name
        index = common.read_index(folder)
        stored, logits = np.load(folder / "features.npy"), np.load(folder / "logits.npy")
        assert stored.shape == (len(index["path"]), 512) and stored.dtype == np.float32
        assert (folder / "index.csv").read_bytes() == (faces / "index.csv").read_bytes()
        for row in (0, len(stored) - 1):
            image = Image.open(faces / index["path"][row]).convert("RGB")
            image = np.array(image.resize((64, 64), Image.Resampling.BICUBIC))
            with torch.no_grad():
                vector = network.features(torch.from_numpy(image).permute(2, 0, 1)[None])
                p_fake = network.head(vector).softmax(1)[0, 1].item()
            assert np.allclose(stored[row], vector[0].numpy(), atol=1e-4)
            assert common.sigmoid(logits[row]) == pytest.approx(p_fake, abs=1e-4)
    scores = rows_of(small / "scores/direct/frames.csv")
    index = common.read_index(features / "frames")
    tested = [video for video, split in zip(index["video"], index["split"]) if split == "test"]
    assert [row["video"] for row in scores] == tested


class Killed(BaseException):
    """Raised in place of the operation that a killed process does not come to."""


def test_03_can_be_killed_before_each_change_of_a_file(small, extractor, tmp_path, monkeypatch):
    """Before each rename, copy and deletion: the next run computes the batches that are left alone,
    and ends with the undisturbed result.
    """
    faces = tmp_path / "faces/few"
    shutil.copytree(small / "faces/frames", faces)
    lines = (faces / "index.csv").read_text().splitlines(keepends=True)
    (faces / "index.csv").write_text("".join(lines[:4]))
    model = networks_extractor.fold_batch_norm(features_.load_extractor(extractor))
    monkeypatch.setattr(features_, "load_extractor", lambda path: model)
    monkeypatch.setattr(features_, "fold_batch_norm", lambda model: model)
    loaded = []

    def load(faces, batches, *args):
        loaded.extend(batches)
        return loading.load_batches(faces, batches, *args)

    monkeypatch.setattr(features_, "load_batches", load)
    changes = [(os, "replace"), (Path, "replace"), (Path, "unlink"), (shutil, "copyfile")]
    flags = f"--checkpoint {extractor} --faces {faces} --batch 2 --device cpu --workers 0"

    def run_here(out, kill_before=None):
        """Run 03 to its end or to a change of a file; how many changes there were."""
        count = 0

        def counted(function):
            def change(*args, **kwargs):
                nonlocal count
                if count == kill_before:
                    raise Killed
                count += 1
                return function(*args, **kwargs)

            return change

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for owner, name in changes:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            call(f"03_extract_features.py {flags} --out {out}")
        return count

    total = run_here(tmp_path / "whole")
    assert total > 6 and np.load(tmp_path / "whole/few/features.npy").any(1).all()
    for kill_before in range(total):
        out = tmp_path / f"killed-{kill_before}"
        run_here(out, kill_before)
        is_joined = (out / "few/index.csv").exists()
        files = {0: [0, 1], 1: [2]}
        left = [files[k] for k in files if not (is_joined or (out / f"few/.part-{k}.npy").exists())]
        loaded.clear()
        run_here(out)
        assert loaded == left
        assert_same_tree(tmp_path / "whole", out)


def test_features_that_are_not_finite_are_refused(small, extractor, tmp_path, monkeypatch):
    """One infinite feature is refused, though here the logits do not depend on it."""
    model = features_.load_extractor(extractor)
    index = common.read_index(small / "faces/frames")
    faces = loading.Faces(index["path"], model.image_size, small / "faces/frames")
    plain, calls = model.features, []

    def spoiled(images):
        vectors = plain(images)
        calls.append(len(images))
        if len(calls) == 2:
            vectors[3, 7] = torch.inf
        return vectors

    monkeypatch.setattr(model, "features", spoiled)
    monkeypatch.setattr(model.head, "forward", lambda x: torch.zeros(len(x), 2))
    name = re.escape(index["path"][8 + 3])
    with pytest.raises(SystemExit, match=f"output for .*{name} is not a finite number"):
        features_.extract(model, faces, tmp_path, 8, 0, CPU)


def test_running_03_again_changes_nothing_and_another_checkpoint_is_refused(
    small, extractor, features, tmp_path
):
    before, faces = changes_below(features), small / "faces/frames"
    line = f"03_extract_features.py --faces {faces} --out {features} --device cpu --precision fp32"
    call(f"{line} --checkpoint {extractor}")
    assert changes_below(features) == before
    pretrain(small, tmp_path / "r", "--max-steps 1 --seed 7")
    output = call(f"{line} --checkpoint {tmp_path / 'r/model.pt'}", fails=True)
    assert "another run" in output


def test_errors(small, extractor, features, copy, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()

    def train(faces):
        return pretrain(small, tmp_path / "r", f"--faces {faces}", fails=True)

    def extract(checkpoint, faces):
        flags = f"--checkpoint {checkpoint} --faces {faces} --out {tmp_path / 'o'} --workers 0"
        return call(f"03_extract_features.py {flags}", fails=True)

    for flags in ("--lr -1", "--weight-decay nan"):
        assert "--lr must be above 0" in train(f"{small / 'faces/frames'} {flags}")
    for folder, says in ((tmp_path / "none", "not a folder"), (empty, "no index.csv")):
        assert says in train(folder)
        assert says in extract(extractor, folder)
    no_val = drop_val(shutil.copytree(small / "faces/frames", tmp_path / "no_val"))
    says = extract(extractor, f"{no_val} --split val --scores {tmp_path / 's'}")
    assert f"{no_val} has no val split" in says
    (empty / "index.csv").write_text("path,video,frame,label\na.png,a,0,0\n")
    assert "no column clip" in train(empty)
    torch.save({"stage": "05"}, tmp_path / "other.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "stranger.pt")
    (tmp_path / "cut.pt").write_bytes(extractor.read_bytes()[:1000])
    for name, says in (
        ("other.pt", "stage 05; one of stage 02"),
        ("stranger.pt", "not a checkpoint"),
        ("cut.pt", "damaged"),
        ("none.pt", "no checkpoint"),
    ):
        assert says in extract(tmp_path / name, small / "faces/frames")
    faces = copy(small / "faces/frames")
    victim = next(faces.glob("youtube_000/*.png"))  # of the train split
    victim.write_bytes(victim.read_bytes()[:60])
    assert victim.name in train(faces)
    victim.unlink()
    assert victim.name in extract(extractor, faces)


def test_a_pickle_bomb_is_not_run(tmp_path, small):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "boom"), "w")

    torch.save({"stage": "02", "x": Bomb()}, tmp_path / "bomb.pt")
    flags = f"--checkpoint {tmp_path}/bomb.pt --faces {small}/faces/frames --out {tmp_path}/o"
    output = call(f"03_extract_features.py {flags}", fails=True)
    assert "could run any code and are not loaded" in output
    assert not (tmp_path / "boom").exists()


def test_an_index_cannot_lead_out_of_its_folder(small, copy, tmp_path):
    faces = copy(small / "faces/frames")
    text = (faces / "index.csv").read_text()
    for path in ("../secret.png", "/etc/passwd", "a/../../b.png", "C:\\x.png"):
        (faces / "index.csv").write_text(text + f"{path},v,0,,0,youtube,train,0,0,1,1,0\n")
        assert "leads out" in pretrain(small, tmp_path / "r", f"--faces {faces}", fails=True)

"""Checkpoints: model.pt and last.pt."""

import sys
from pathlib import Path

from common import RANK, fail, write_whole


def canonical(value):
    """Rebuild nested containers with interned keys and tensors of their own, so that equal contents give equal bytes."""
    import torch

    if isinstance(value, dict):
        return {sys.intern(k) if isinstance(k, str) else k: canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(canonical(v) for v in value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    return sys.intern(value) if isinstance(value, str) else value


def save_checkpoint(path, **content):
    """Write a checkpoint: tensors, numbers and text in nested dicts and lists, whole or not at all. Of several processes the first alone writes."""
    if RANK:
        return
    import torch

    with write_whole(path) as part, open(part, "wb") as file:
        try:
            torch.save(canonical(content), file)
        except RuntimeError as error:  # how torch reports that a disk is full
            fail(
                f"cannot write {path} ({str(error).splitlines()[0][:100]}): is the disk full? What was saved before is whole; run the same command "
                "again to go on"
            )


def load_checkpoint(path, *stages):
    """Read a checkpoint that one of the stages ("02", "04", "05") wrote, onto the CPU; ends the script if it is another thing."""
    import pickle

    import torch

    path = Path(path)
    if not path.is_file():
        fail(
            f"no checkpoint {path}"
            + (f" (in that folder: {path / 'model.pt'}?)" if path.is_dir() else "")
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        fail(
            f"{path} is not a checkpoint of this project, or is damaged ({(str(error).splitlines() or ['no reason given'])[0][:100]})"
        )
    found = content.get("stage") if isinstance(content, dict) else None
    if found not in stages:
        fail(
            f"{path} is {f'a checkpoint of stage {found}' if found else 'not a checkpoint of this project'}; one of stage {' or '.join(stages)} is needed"
        )
    return content


def load_state(model, checkpoint, path):
    """Put the weights of a checkpoint that was read from `path` into a network; ends the script where they do not fit."""
    try:
        model.load_state_dict(checkpoint["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        fail(
            f"{path} does not hold the weights of this network ({' '.join(str(error).split())[:150]})"
        )


def rebuild(network, content, path):
    """The network of a checkpoint's content, `network(**kwargs)` with its weights; ends the script where it does not say what it is."""
    try:
        net = network(**content["kwargs"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        fail(f"{path} does not say what its network is ({' '.join(str(error).split())[:150]})")
    load_state(net, content, path)
    return net

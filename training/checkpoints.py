"""Checkpoints: nested dicts and lists of tensors, numbers and text."""

import pickle
from pathlib import Path

import torch

from common import RANK, fail, write_whole


def save_checkpoint(path, **content):
    """Write a checkpoint, whole or not at all. Only rank 0 writes."""
    if RANK:
        return
    with write_whole(path) as part, open(part, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # This is how torch reports a full disk.
            reason = str(error).splitlines()[0][:100]
            fail(
                f"cannot write {path} ({reason}): is the disk full? What was saved before is kept; "
                "run the same command again to resume"
            )


def load_checkpoint(path, *stages):
    """Read a checkpoint of one of the stages ("02", "04", "05") onto the CPU.

    Nothing in the file is executed. Exits with an error if it is something else.
    """
    path = Path(path)
    if not path.is_file():
        hint = f" (in that folder: {path / 'model.pt'}?)" if path.is_dir() else ""
        fail(f"no checkpoint {path}{hint}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0][:100]
        fail(f"{path} is not a checkpoint of this project, or is damaged ({reason})")
    found = content.get("stage") if isinstance(content, dict) else None
    if found not in stages:
        kind = f"a checkpoint of stage {found}" if found else "not a checkpoint of this project"
        fail(f"{path} is {kind}; one of stage {' or '.join(stages)} is needed")
    return content


def load_state(model, checkpoint, path):
    """Copy the weights of a checkpoint that was read from `path` into a network."""
    try:
        model.load_state_dict(checkpoint["model"])
    except (KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:150]
        fail(
            f"{path} does not hold the weights of this network ({reason}); a checkpoint of release "
            "1.0 has to be trained again"
        )


def rebuild(network, content, path):
    """Build `network(**kwargs)` as the content of a checkpoint says, with its weights."""
    try:
        model = network(**content["kwargs"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:150]
        fail(f"{path} does not say what its network is ({reason})")
    load_state(model, content, path)
    return model

"""The course of a training."""

import numpy as np

from common import WORLD_SIZE, fail
from training.checkpoints import load_checkpoint, load_state

LOOK = {"cuda": 50, "cpu": 1}  # steps between two looks at the loss


def take_losses(losses, step, per_epoch, last):
    """The values of the losses (tensors of one number) of the steps up to `step`, emptying the list; the means over all processes.

    Taking them waits for the device, so on a GPU it is done every 50 steps (`LOOK`). Ends the script at one that is not finite.
    """
    import torch

    values = torch.stack(losses) if losses else torch.zeros(0)
    losses.clear()
    if WORLD_SIZE > 1:
        from running import distributed

        values = distributed.mean_over_ranks(values)
    values = values.tolist()
    for k, value in enumerate(values, step - len(values)):
        if not np.isfinite(value):
            state = f"{last} is the last good state" if last.exists() else "no state was saved yet"
            fail(
                f"the loss is {value} at step {k + 1} (epoch {k // per_epoch + 1}, batch {k % per_epoch + 1} of {per_epoch}): lower --lr, or look at that "
                f"batch's images; {state}"
            )
    return values


def resume(model, optimizer, state, path, stage):
    """Go on from the checkpoint `path` of an earlier run, if it is there: returns its {key of `state`: value}, or `state`.

    Network, optimizer and random generators are as they were then. Ends the script where they do not fit.
    """
    if not path.exists():
        return state
    saved = load_checkpoint(path, stage)
    load_state(model, saved, path)
    try:
        flags = [
            {k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(saved["optimizer"])
        for group, now in zip(
            optimizer.param_groups, flags
        ):  # with --go-on, --lr may be another than was saved
            group.update(now)
        set_random_state(saved["random"])
        return {k: saved[k] for k in state}
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        fail(
            f"{path} cannot be gone on from ({' '.join(str(error).split())[:150] or type(error).__name__}): delete it to start over"
        )


def random_state():
    """The state of torch's random generators, to be stored in a checkpoint."""
    import torch

    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state):
    """Put back what `random_state` gave."""
    import torch

    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

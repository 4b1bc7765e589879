"""The course of a training: its state, losses, log, checkpoints and progress.

Everything that a training run needs in addition to its method. A script draws the order of its
samples, takes batches from a `Run`, computes the loss and takes the optimizer's step itself, and
hands the loss back:

    run = Run(args.out, "02", args, model, optimizer, len(train), content, keep="best")
    for epoch in run.epochs():
        order = ...  # indices of samples, (run.per_epoch, run.size)
        for images, y, draws in run.batches(train, labels, order, device, args.workers, draws=1):
            ...
            run.record(loss)
        run.end_epoch(validation, val_auc=value)
    run.finish()
"""

import math
import time
from pathlib import Path

import numpy as np
import torch

from common import RANK, WORLD_SIZE, fail, progress, write_table, write_whole
from networks.weights import load_tensors
from reporting.metrics import percent
from running.devices import mean_over_ranks, share
from running.loading import joint_batch, load_batches
from running.processes import barrier

# Within an epoch, last.pt is saved every ten minutes. At the ends of epochs, which may take
# milliseconds, it is saved if that takes at most a twentieth of the time.
SAVE_SECONDS = 600
SAVE_SHARE = 0.05

# What last.pt stores in addition to the weights and the optimizer.
STATE = ("epoch", "batch", "step", "sums", "best", "validation", "log")
# What the order of images within an epoch depends on, besides the seed.
ORDER = ("samples", "size")


def seed_of(*numbers):
    """A seed for torch that depends on all of the numbers: (seed, step) or (seed, epoch), say."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def draw_joint(size, columns, *numbers):
    """Uniform random numbers in 0..1, (size, columns), of the joint batch that `numbers` seed."""
    generator = torch.Generator().manual_seed(seed_of(*numbers))
    return torch.rand(size, columns, generator=generator)


class Run:
    """The course of one training, resumed from OUT/last.pt if it is there.

    Args:
        out: folder of model.pt, last.pt and log.csv.
        stage: "02", "04" or "05", for the checkpoints.
        args: namespace with epochs, batch, seed, and max_steps where a stage has it.
        model, optimizer: on their device.
        samples: number of training samples.
        content: what else the checkpoints store, a dict.
        keep: model.pt is the epoch with the "best" val_auc, or with none the latest, or the "last".
        losses: names of what `record` is given.
        columns: columns of log.csv after epoch and step.

    Attributes:
        epoch: epochs that are complete. batch: steps taken in the current one. step: steps in all.
        log: rows of log.csv. per_epoch: steps per epoch. size: samples per step, of all processes.
    """

    def __init__(
        self,
        out,
        stage,
        args,
        model,
        optimizer,
        samples,
        content,
        keep,
        losses=("train_loss",),
        columns=("train_loss", "val_auc"),
    ):
        self.out, self.stage, self.args = out, stage, args
        self.model, self.optimizer, self.content = model, optimizer, content
        self.keep, self.losses, self.columns = keep, losses, columns
        self.last, self.samples = out / "last.pt", samples
        self.size = joint_batch(samples, args.batch) if samples else 0
        self.per_epoch = samples // self.size if samples else 0
        self.max_steps = getattr(args, "max_steps", None) or math.inf
        self.epoch = self.batch = self.step = 0
        self.sums = [0.0] * len(losses)
        self.best, self.validation, self.log = -math.inf, None, []
        self.pending = []
        self.seconds = self.waited = 0.0
        self.steps_timed = 0
        self.saved, self.saving = time.monotonic(), 0.0
        # Every step has the same shapes, so that cuDNN can look for its fastest kernels.
        torch.backends.cudnn.benchmark = True
        if self.last.exists():
            self.resume()

    @property
    def finished(self):
        """Whether all epochs, or --max-steps, are done."""
        return self.epoch >= self.args.epochs or self.step >= self.max_steps

    def resume(self):
        """Read last.pt. Exits with an error if it does not fit this network."""
        saved = load_checkpoint(self.last, self.stage)
        load_state(self.model, saved, self.last)
        if not saved.keys() >= {*STATE, "optimizer"}:
            fail(f"{self.last} cannot be resumed from: delete it")
        vars(self).update({name: saved[name] for name in STATE})
        if self.epoch and self.best > -math.inf and not (self.out / "model.pt").exists():
            fail(
                f"{self.out / 'model.pt'}, the best epoch, is missing, and only the last is "
                f"stored: delete {self.out} and train again"
            )
        if self.batch and any(saved.get(name) != getattr(self, name) for name in ORDER):
            print(
                f"{self.last} was saved inside epoch {self.epoch + 1} with another --batch or "
                "other images: this epoch starts over",
                flush=True,
            )
            self.batch, self.sums = 0, [0.0] * len(self.losses)
        if not self.finished:
            # The flags of now: with --allow-changes, --lr may be another than was saved, and
            # PyTorch leaves each `step` on the CPU unless the groups that it loads are fused.
            for group, now in zip(saved["optimizer"]["param_groups"], self.optimizer.param_groups):
                group.update({name: now[name] for name in now if name != "params"})
            self.optimizer.load_state_dict(saved["optimizer"])
            match_strides(self.optimizer)
        self.write_log()

    def epochs(self):
        """Yield the number of each epoch that is still to be trained, from 0."""
        while not self.finished:
            yield self.epoch

    def batches(self, faces, labels, order, device, workers, draws):
        """Yield (samples, labels, draws) of each step that is left in this epoch, on the device.

        They are this process's share of the joint batch: items of the data set, a uint8 tensor,
        their labels, and uniform random numbers in 0..1. Call `record` once for each step. No step
        of a GPU waits for the CPU: images come from pinned memory, and labels and draws are sent
        once an epoch.

        Args:
            order: numbers of the samples in each step of the epoch, an array (per_epoch, size).
            draws: how many random numbers a sample gets.
        """
        mine = [share(numbers).tolist() for numbers in order[self.batch :]]
        loader = load_batches(faces, mine, workers, pin=device.type == "cuda")
        labels = labels[torch.tensor(mine, dtype=torch.int64)].to(device)
        steps = range(self.step, self.step + len(mine))
        draws = [share(draw_joint(self.size, draws, self.args.seed, step)) for step in steps]
        draws = torch.stack(draws).to(device)
        # Reading a loss waits for the device, so on a GPU it is read every 50 steps.
        look_every = 1 if device.type == "cpu" else 50
        bar = progress(
            total=self.per_epoch, initial=self.batch, desc=f"epoch {self.epoch + 1}", unit="step"
        )
        first = self.step
        start = mark = time.perf_counter()
        for samples, *of_step in zip(loader, labels, draws):
            self.waited += time.perf_counter() - mark
            yield samples.to(device, non_blocking=True), *of_step
            bar.update()
            is_last = self.step >= self.max_steps or self.batch == self.per_epoch
            if is_last or self.step % look_every == 0:
                self.check_losses()
                bar.set_postfix(loss=f"{self.sums[0] / self.batch:.3f}", refresh=False)
                # Rank 0, which alone writes, goes by its own clock.
                if not is_last and time.monotonic() - self.saved >= SAVE_SECONDS:
                    self.save_last()
            if self.step >= self.max_steps:
                break
            mark = time.perf_counter()
        self.seconds = time.perf_counter() - start
        self.steps_timed = self.step - first
        bar.close()

    def record(self, *losses):
        """Note the losses of a step: tensors of one number, in the order of `losses`."""
        self.pending.append(torch.stack([loss.detach() for loss in losses]))
        self.batch += 1
        self.step += 1

    def check_losses(self):
        """Add the noted losses to the epoch's sums.

        Exits with an error if one is not finite, or a weight at the end of the epoch.
        """
        if not self.pending:
            return
        values = mean_over_ranks(torch.stack(self.pending).float().cpu()).tolist()
        steps = range(self.step - len(values), self.step)
        batches = range(self.batch - len(values), self.batch)
        self.pending = []
        for step, batch, losses in zip(steps, batches, values):
            for k, (name, value) in enumerate(zip(self.losses, losses)):
                if not math.isfinite(value):
                    self.fail_at(f"{name} is {value} at", step + 1, batch + 1)
                self.sums[k] += value
        if self.batch == self.per_epoch or self.step >= self.max_steps:
            self.check_weights()

    def check_weights(self):
        """Exit with an error if a weight is not finite, which a finite loss does not exclude."""
        for name, value in self.model.state_dict().items():
            if not torch.isfinite(value).all():
                self.fail_at(f"{name} is not finite after", self.step, self.batch)

    def fail_at(self, what, step, batch):
        """Exit with an error about a training that diverged in a step, both counted from 1."""
        is_saved = self.last.exists()
        state = f"{self.last} is the last good state" if is_saved else "no state was saved yet"
        fail(
            f"{what} step {step} (epoch {self.epoch + 1}, batch {batch} of {self.per_epoch}): "
            f"lower --lr, or look at that batch's images; {state}"
        )

    def end_epoch(self, validation=None, **measured):
        """Write log.csv, last.pt unless it is recent, and model.pt if this is the best so far.

        A run that --max-steps ends inside an epoch validates too; when resumed, it trains the rest
        of that epoch.

        Args:
            validation: what `reporting.metrics.validate` returned, for the checkpoint.
            measured: values for the columns of log.csv that are not losses.
        """
        self.check_losses()
        means = {name: total / self.batch for name, total in zip(self.losses, self.sums)}
        value = measured["val_auc"] if self.keep == "best" else math.nan
        is_better = math.isnan(value) or value > self.best
        # Drop the row that a stop by --max-steps left for this epoch.
        self.log = [row for row in self.log if row[0] <= self.epoch]
        row = [round((means | measured)[name], 6) for name in self.columns]
        self.log.append([self.epoch + 1, self.step, *row])
        self.validation = validation
        if value > self.best:
            self.best = value
        if self.seconds:
            self.print_epoch(means[self.losses[0]], value, is_better)
        if self.batch == self.per_epoch:
            self.epoch += 1
            self.batch = 0
            self.sums = [0.0] * len(self.losses)
        if self.finished if self.keep == "last" else is_better:
            self.save("model.pt")
        if self.finished or self.saving <= SAVE_SHARE * (time.monotonic() - self.saved):
            self.save_last()
        # Written last: a log of all epochs means that the run is finished.
        self.write_log()

    def print_epoch(self, loss, value, is_better):
        """Print one line about an epoch that was trained with `batches`."""
        checked = "no validation"
        if not math.isnan(value):
            checked = f"validation AUC {percent(value)}{', the best so far' if is_better else ''}"
        rate = self.steps_timed * self.size / self.seconds
        print(
            f"epoch {self.epoch + 1}: loss {loss:.4f}, {checked}; {rate:.1f} samples per second, "
            f"{100 * self.waited / self.seconds:.0f} % of the time waiting for data",
            flush=True,
        )
        self.waited = 0.0

    def finish(self):
        """Make sure that model.pt exists before any process continues (after --epochs 0, say)."""
        if not (self.out / "model.pt").exists():
            self.save("model.pt")
        barrier()

    def save_last(self):
        """Write last.pt, from which the run can be resumed."""
        start = time.monotonic()
        self.save("last.pt", optimizer=self.optimizer.state_dict())
        self.saved = time.monotonic()
        self.saving = self.saved - start

    def save(self, name, **more):
        """Write a checkpoint into the run's folder."""
        self.check_weights()
        content = self.content | {key: getattr(self, key) for key in (*STATE, *ORDER)} | more
        weights = self.model.state_dict()
        save_checkpoint(self.out / name, stage=self.stage, model=weights, **content)

    def write_log(self):
        """Write log.csv."""
        write_table(self.out / "log.csv", ("epoch", "step", *self.columns), self.log)

    def share_text(self):
        """What each process takes of a step, as the end of a line of settings; empty for one."""
        each = f"; {WORLD_SIZE} processes, {self.size // WORLD_SIZE} samples per step each"
        return each if WORLD_SIZE > 1 else ""


def match_strides(optimizer):
    """Give an optimizer's state the order in memory of its weights, which a fused step relies on.

    A GPU has the channels of CLRNet's kernels innermost, and a checkpoint may come from a CPU.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def is_complete(out, args):
    """Whether the run in a folder has nothing left to do under these flags, by its log.csv."""
    if not (out / "model.pt").exists() or not (out / "log.csv").exists():
        return False
    *_, row = (out / "log.csv").read_text(encoding="utf-8").split()
    epoch, step = row.split(",")[:2]
    if not epoch.isdigit():
        return False
    return int(epoch) >= args.epochs or int(step) >= (getattr(args, "max_steps", None) or math.inf)


# ---------------------------------------------------------------- checkpoints


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
    if not Path(path).is_file():
        fail(f"no checkpoint {path}; it is a file, such as model.pt in the folder of a run")
    try:
        content = load_tensors(path)
    except (OSError, ValueError) as error:
        fail(f"{path} is not a checkpoint of this project: {error}")
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
        fail(f"{path} does not hold the weights of this network ({reason})")


def rebuild(network, content, path):
    """Build `network(**kwargs)` as the content of a checkpoint says, with its weights."""
    try:
        model = network(**content["kwargs"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:150]
        fail(f"{path} does not say what its network is ({reason})")
    load_state(model, content, path)
    return model

"""Feature files, in memory or on disk."""

import io
import json
import os
from pathlib import Path

import numpy as np
import torch

from common import RANK, fail, read_index
from running.script import barrier


class Rows:
    """A .npy file of `kind`, float32 or float64, that is written row by row: its place on disk is taken at once, and several processes may write to it."""

    def __init__(self, path, shape, kind):
        self.kind, self.bytes, header = (
            kind,
            int(np.prod(shape[1:], dtype=np.int64)) * int(kind[-1]),
            io.BytesIO(),
        )
        np.lib.format.write_array_header_1_0(
            header, dict(descr=kind, fortran_order=False, shape=shape)
        )
        header, size = header.getvalue(), len(header.getvalue()) + shape[0] * self.bytes
        self.start, fresh = len(header), not path.exists() or path.stat().st_size != size
        barrier()  # all have looked
        if fresh and RANK == 0:
            with open(path, "wb") as file:
                file.write(header)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(
                        file.fileno(), 0, size
                    )  # a full disk says so here, not after a day
                file.truncate(size)
        barrier()
        self.file = open(path, "r+b")

    def write(self, first, values):
        """Put values, (n, ...), into the rows from `first` on."""
        self.file.seek(self.start + first * self.bytes)
        self.file.write(np.ascontiguousarray(values, self.kind).tobytes())

    def flush(self):
        """Return when what was written is on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())


def read_features(folder, one_label=False):
    """Features and index of a folder of stage 03: ((N, D) float32 memory map, index); ends the script if they do not fit."""
    index, path = read_index(folder, one_label), Path(folder) / "features.npy"
    if not path.exists():
        fail(
            f"{folder} holds no features.npy: run 03_extract_features.py on it first"
            + (
                ", or give --end-to-end to train from images"
                if any(Path(folder).glob("*/faces.json"))
                else ""
            )
        )
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read: {error}")
    if features.ndim != 2 or features.dtype != np.float32 or len(features) != len(index["path"]):
        fail(
            f"{path} has shape {features.shape} and type {features.dtype}; (N, D) float32 is needed, N = {len(index['path'])} as in index.csv"
        )
    return features, index


def extractor_of(folder):
    """The checkpoint whose features a folder holds: {"path", "sha256"}, or None where its args.json does not tell."""
    try:
        settings = json.loads((folder / "args.json").read_text(encoding="utf-8"))
        path = settings["flags"]["checkpoint"]
        return dict(path=str(path), sha256=str(settings["inputs"][path]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class OnDisk:
    """Rows of a memory-mapped feature file that stay there: indexing by a tensor of positions reads them onto the device, (n, D)."""

    def __init__(self, features, rows, device):
        self.features, self.rows, self.device = features, rows, device

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, positions):
        return torch.from_numpy(self.features[self.rows[positions.cpu().numpy()]]).to(self.device)

    def split(self, size):
        """The rows in order, `size` at a time."""
        return (self[positions] for positions in torch.arange(len(self)).split(min(size, 4096)))


def free_memory(device):
    """Bytes that can be had on a device now; where the system does not say, without bound."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return next(
            1024 * int(line.split()[1])
            for line in open("/proc/meminfo")
            if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration):
        return float("inf")


def load(folder, rows, features, device, stream=False, precision="fp32"):
    """The rows of a feature file on the device, (len(rows), D), or with `stream` left on disk: `OnDisk`.

    For training in "bf16" they are held as bfloat16, which is what its first product would make of them. Ends the script at a value
    that is not finite.
    """
    x = (
        OnDisk(features, rows, device)
        if stream
        else torch.from_numpy(features[rows]).to(
            device, torch.bfloat16 if precision == "bf16" else None
        )
    )
    if not all(bool(torch.isfinite(part).all()) for part in x.split(65536)):
        fail(
            f"{folder / 'features.npy'} holds values that are not finite numbers: extract the features again"
        )
    return x

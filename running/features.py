"""Feature files, read into memory or from disk by 04."""

import json
from pathlib import Path

import numpy as np
import torch

from common import fail, read_index


def read_features(folder, one_label=False):
    """Features and index of a folder of stage 03 or 05: ((N, D) float32 memory map, index).

    Exits with an error if the two do not fit each other.
    """
    index = read_index(folder, one_label)
    path = Path(folder) / "features.npy"
    if not path.exists():
        hint = ""
        if any(Path(folder).glob("*/faces.json")):
            hint = ", or give --end-to-end to train from images"
        fail(f"{folder} holds no features.npy: run 03_extract_features.py on it first{hint}")
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read: {error}")
    n = len(index["path"])
    if features.ndim != 2 or features.dtype != np.float32 or len(features) != n:
        fail(
            f"{path} has shape {features.shape} and type {features.dtype}; (N, D) float32 "
            f"is needed, N = {n} as in index.csv: extract the features again"
        )
    return features, index


def extractor_of(folder):
    """The checkpoint whose features a folder holds: {"path", "sha256"}, or None if unknown."""
    try:
        settings = json.loads((folder / "args.json").read_text(encoding="utf-8"))
        path = settings["flags"]["checkpoint"]
        return dict(path=str(path), sha256=str(settings["inputs"][path]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_extractors(source, sets):
    """Exit with an error unless all sets hold features of the source's extractor."""
    width = source.features.shape[1]
    ours = extractor_of(source.folder)
    for data in sets:
        found = data.features.shape[1]
        if found != width:
            fail(
                f"{data.folder} has {found} features per image, {source.folder} has {width}: use "
                "one extractor for both"
            )
        theirs = extractor_of(data.folder)
        if ours and theirs and ours["sha256"] != theirs["sha256"]:
            fail(
                f"{data.folder} was made by {theirs['path']}, {source.folder} by {ours['path']}: "
                "use one extractor for both"
            )


class OnDisk:
    """Rows of a memory-mapped feature file that stay on disk.

    Indexing by a tensor of n positions reads those rows onto the device, (n, D).
    """

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
    """Free bytes on a device; infinity where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")
    return 1024 * int(line.split()[1])


def load_features(folder, features, rows, device, stream=False, precision="fp32"):
    """Rows of a feature file on the device, (len(rows), D), or with `stream` as `OnDisk`.

    For training in "bf16" they are held as bfloat16, which is what the first product would make of
    them. Exits with an error at a value that is not finite.
    """
    if stream:
        x = OnDisk(features, rows, device)
    else:
        dtype = torch.bfloat16 if precision == "bf16" else None
        x = torch.from_numpy(features[rows]).to(device, dtype)
    if not all(bool(torch.isfinite(part).all()) for part in x.split(65536)):
        path = folder / "features.npy"
        fail(f"{path} holds values that are not finite numbers: extract the features again")
    return x

"""Face images and clips in batches, and features."""

import json
import os
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from common import WORLD_SIZE, fail, progress, read_index, rows_of_split
from media.photos import PILLOW_ERRORS
from running.devices import gather, share
from running.processes import end_with_parent

# The samples of a set of clips: `items` for Faces, the set's index, the row of each sample's first
# frame, and the labels.
Clips = namedtuple("Clips", "items index first labels")


def load_face(path, size):
    """Read an image file as RGB and resize it to size x size: uint8 tensor (3, size, size).

    Raises OSError if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            pixels = np.array(image)
    except PILLOW_ERRORS as error:
        raise OSError(str(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Faces:
    """A torch data set of face images or clips.

    Item k is uint8 (3, S, S), or (T, 3, S, S) if it has T frames. A file that cannot be read comes
    back as an error message, so that `load_batches` can end the run with one line.

    Args:
        items: list of paths in `folder`, or of tuples of T paths each.
        size: S in pixels.
    """

    def __init__(self, items, size, folder=""):
        self.size, self.folder = size, str(folder)
        self.is_single = not items or isinstance(items[0], str)
        self.frames = 1 if self.is_single else len(items[0])
        paths = items if self.is_single else [path for item in items for path in item]
        encoded = [os.fsencode(path) for path in paths]
        # One array: a process that loads images would copy the memory of every string that it
        # touches, because it counts its references there.
        self.text = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self):
        return (len(self.ends) - 1) // self.frames

    def paths(self, k):
        """The paths of the frames of item k."""
        numbers = range(len(self))[k] * self.frames + np.arange(self.frames)
        names = [os.fsdecode(self.text[self.ends[n] : self.ends[n + 1]].tobytes()) for n in numbers]
        return [os.path.join(self.folder, name) for name in names]

    def __getitem__(self, k):
        frames = []
        for path in self.paths(k):
            try:
                frames.append(load_face(path, self.size))
            except (OSError, ValueError) as error:
                advice = "extract the faces again with 01_extract_faces.py"
                return f"{path} cannot be read ({error}): {advice}"
        return frames[0] if len(frames) == 1 else torch.stack(frames)


def collate(items):
    """Stack the items of a batch, or return an error message."""
    errors = [item for item in items if isinstance(item, str)]
    if errors:
        return errors[0]
    batch = torch.stack(items)
    if torch.utils.data.get_worker_info() is None:
        return batch
    try:
        # Done here, because the process that waits for the batch would wait forever after an error
        # in the thread that sends it.
        return batch.share_memory_()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        return (
            f"too little shared memory for the processes that load images ({reason}): try "
            "--workers 0, which needs none, or a larger /dev/shm (docker run --shm-size=8g)"
        )


def load_batches(faces, batches, workers, pin=False):
    """Yield the batches (lists of item numbers) of a `Faces` data set as uint8 tensors."""
    loader = torch.utils.data.DataLoader(
        faces,
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate,
        pin_memory=pin,
        # Without a generator of its own, the loader draws from the global one.
        generator=torch.Generator(),
        worker_init_fn=end_with_parent,
        # Forks start at once; Python's other ways import torch again, in every epoch.
        multiprocessing_context="fork" if workers and batches and sys.platform == "linux" else None,
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                fail(batch)
            yield batch
    except RuntimeError as error:
        # torch says this of a process that was killed. Other messages are its own errors.
        if "DataLoader worker (pid" not in str(error):
            raise
        reason = str(error).splitlines()[0][:150]
        fail(
            f"a process that loads images died ({reason}): too little (shared) memory? Try fewer "
            "--workers, or 0"
        )


@torch.inference_mode()
def predict(function, faces, batch, workers, device, what):
    """`function` of all items of a `Faces` data set, `batch` at a time: a float32 array (N, ...).

    Of several processes each computes its share. `what` is the text beside the progress bar.
    """
    mine = share(range(len(faces)))
    batches = [list(mine[k : k + batch]) for k in range(0, len(mine), batch)]
    loader = load_batches(faces, batches, workers, pin=device.type == "cuda")
    parts = [np.zeros((0, 2), np.float32)] if not mine else []
    for images in progress(loader, total=len(batches), desc=what, unit="batch"):
        parts.append(function(images.to(device, non_blocking=True)).float().cpu().numpy())
    return gather(np.concatenate(parts), len(faces))


def joint_batch(samples, batch):
    """Samples per step over all processes, which take equal shares; fewer if there are not enough.

    Exits with an error if equal shares cannot be made.
    """
    if batch % WORLD_SIZE:
        fail(
            f"--batch {batch} is not divisible by {WORLD_SIZE} processes, which take equal shares "
            "of it: change one of the two"
        )
    if samples < WORLD_SIZE:
        fail(f"{samples} training samples are too few for {WORLD_SIZE} processes: start fewer")
    return min(batch, samples - samples % WORLD_SIZE)


def group_clips(index, rows, folder, length):
    """Samples of `length` consecutive frames: (tuples of paths, row of each sample's first frame).

    A clip with a multiple of `length` frames gives several samples. Exits with an error if the
    folder holds single frames, clips of different lengths, or clips that cannot be cut so.
    """
    if (index["clip"][rows] < 0).any():
        advice = "run 01_extract_faces.py with --sampling clips"
        fail(f"{folder} holds single frames, not clips: {advice}")
    clips = {}
    for row in rows.tolist():
        clips.setdefault((index["video"][row], int(index["clip"][row])), []).append(row)
    for members in clips.values():
        members.sort(key=lambda row: index["frame"][row])
    lengths = {len(members) for members in clips.values()}
    if len(lengths) > 1:
        fail(
            f"{folder} has clips of {min(lengths)} and of {max(lengths)} frames: extract the faces "
            "again with 01_extract_faces.py"
        )
    if lengths and max(lengths) % length:
        fail(
            f"{folder} has clips of {max(lengths)} frames, the network takes {length} consecutive "
            f"ones: extract the faces with 01_extract_faces.py --sampling clips --clip-length "
            f"{length} --num-clips {max(1, 80 // length)}"
        )
    samples = [
        members[k : k + length]
        for members in clips.values()
        for k in range(0, len(members), length)
    ]
    paths = [tuple(str(Path(folder) / index["path"][row]) for row in rows) for rows in samples]
    return paths, np.array([rows[0] for rows in samples], np.int64)


def read_clips(folder, split, length=5, required=True):
    """The samples of `length` consecutive frames of a split, as `Clips`; see `rows_of_split`."""
    index = read_index(folder)
    rows = rows_of_split(index, split, folder, required)
    items, first = group_clips(index, rows, folder, length)
    return Clips(items, index, first, index["label"][first])


def as_clips(batch):
    """uint8 (N, T, 3, S, S), or (N, 3, S, S) of single frames -> float (N, T, 3, S, S) in 0..1."""
    return (batch if batch.ndim == 5 else batch[:, None]) / 255


# ---------------------------------------------------------------- features

# A folder of features, a memory map (N, D) of float32, and the checkpoint that they are of.
FeatureSet = namedtuple("FeatureSet", "folder features index extractor")


def read_features(folder, one_label=False):
    """A folder of stage 03 or 05 as a `FeatureSet`.

    Exits with an error if features and index do not fit each other, or a value is not finite.
    """
    index = read_index(folder, one_label)
    path = Path(folder) / "features.npy"
    if not path.exists():
        fail(f"{folder} holds no features.npy: run 03_extract_features.py on it first")
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
    for start in range(0, n, 4096):
        if not np.isfinite(features[start : start + 4096]).all():
            fail(f"{path} holds values that are not finite numbers: extract the features again")
    return FeatureSet(Path(folder), features, index, extractor_of(Path(folder)))


def load_rows(data, rows, device, dtype):
    """Rows of a `FeatureSet` on the device, (len(rows), D); read in parts, without a second copy.

    dtype: bfloat16 if the first product is computed in it, which would make the same of float32.
    """
    x = torch.empty(len(rows), data.features.shape[1], dtype=dtype, device=device)
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        x[part] = torch.from_numpy(data.features[rows[part]])
    return x


@torch.inference_mode()
def predict_rows(function, data, rows, device):
    """`function` of rows of a `FeatureSet`, read from disk in parts: a float32 array (N, ...)."""
    parts = [rows[start : start + 4096] for start in range(0, len(rows), 4096)]
    inputs = (torch.from_numpy(data.features[part]).to(device) for part in parts)
    return torch.cat([function(x).float().cpu() for x in inputs]).numpy()


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
    width, ours = source.features.shape[1], source.extractor
    for data in sets:
        size, theirs = data.features.shape[1], data.extractor
        differs = ours and theirs and ours["sha256"] != theirs["sha256"]
        if size != width or differs:
            made_by = f", by {theirs['path']} and {ours['path']}" if differs else ""
            fail(
                f"{data.folder} has {size} features per image, {source.folder} has {width}"
                f"{made_by}: use one extractor for both"
            )

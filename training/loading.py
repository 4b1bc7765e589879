"""Face images and clips in batches."""

import os
from pathlib import Path

import numpy as np

from common import fail, read_index, rows_of_split
from running.workers import end_with_parent


def load_face(path, size):
    """Read an image file as RGB, resized to size x size: uint8 tensor (3, size, size). Raises OSError if it cannot."""
    import torch
    from PIL import Image

    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BICUBIC)
            pixels = np.array(image)
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Faces:
    """Face images or clips as a torch data set: item k is uint8 (3, S, S), or (T, 3, S, S) where item k is T rows.

    `items` is a list of paths in `folder`, or of tuples of them. An unreadable file comes back as its error message, so that `load_batches`
    can end the run with one line instead of a worker's traceback.
    """

    def __init__(self, items, size, folder=""):
        self.items, self.size, self.folder = items, size, str(folder)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        import torch

        frames, item = [], self.items[k]
        for path in (item,) if isinstance(item, str) else item:
            path = os.path.join(self.folder, path)
            try:
                frames.append(load_face(path, self.size))
            except (OSError, ValueError) as error:
                return f"{path} cannot be read ({error}): extract the faces again with 01_extract_faces.py"
        return frames[0] if len(frames) == 1 else torch.stack(frames)


def collate(items):
    """Stack the items of a batch, or hand on the first error message among them."""
    import torch

    errors = [item for item in items if isinstance(item, str)]
    return errors[0] if errors else torch.stack(items)


def load_batches(faces, batches, workers, pin=False):
    """Yield the batches (lists of item numbers) of a `Faces` data set as stacked uint8 tensors, in order."""
    import torch

    # A generator of its own: the loader would otherwise draw from the global one, and a resumed run would differ.
    loader = torch.utils.data.DataLoader(
        faces,
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate,
        pin_memory=pin,
        generator=torch.Generator(),
        worker_init_fn=end_with_parent,
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                fail(batch)
            yield batch
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(
            error
        ):  # torch's words for one that was killed; others are the worker's own errors
            raise
        fail(
            f"a process that loads images died ({str(error).splitlines()[0][:150]}): too little (shared) memory? Try fewer --workers, or 0"
        )


def group_clips(index, rows, folder, length):
    """Samples of `length` consecutive frames from the clips in the rows: (list of tuples of paths, row number of each sample's first frame).

    A clip whose number of frames is a multiple of `length` gives several. Ends the script if the folder holds single frames, clips of
    different lengths, or clips that cannot be cut so.
    """
    if (index["clip"][rows] < 0).any():
        fail(
            f"{folder} holds single frames, not clips: run 01_extract_faces.py with --sampling clips"
        )
    clips = {}
    for row in rows.tolist():
        clips.setdefault((index["video"][row], int(index["clip"][row])), []).append(row)
    for members in clips.values():
        members.sort(key=lambda row: index["frame"][row])
    lengths = {len(members) for members in clips.values()}
    if len(lengths) > 1:
        fail(
            f"{folder} has clips of {min(lengths)} and of {max(lengths)} frames: extract the faces again with 01_extract_faces.py"
        )
    if lengths and max(lengths) % length:
        fail(
            f"{folder} has clips of {max(lengths)} frames, the network takes {length} consecutive ones: extract the faces with "
            f"01_extract_faces.py --sampling clips --clip-length {length} --num-clips {max(1, 80 // length)}"
        )
    samples = [
        members[k : k + length]
        for members in clips.values()
        for k in range(0, len(members), length)
    ]
    return (
        [tuple(str(Path(folder) / index["path"][row]) for row in members) for members in samples],
        np.array([members[0] for members in samples], np.int64),
    )


def epoch_batches(count, batch, seed, epoch):
    """The batches of one training epoch: a permutation of 0..count-1 that depends on seed and epoch alone, cut up.

    An incomplete last batch is left out (batch norm would weigh its few images too much); what is left out differs
    from epoch to epoch. Fewer items than a batch make one smaller batch.
    """
    batch = min(batch, count)
    order = np.random.default_rng((seed, epoch)).permutation(count).tolist()
    return [order[k : k + batch] for k in range(0, count - batch + 1, batch)]


def read_clips(folder, split, length=5):
    """The samples of `length` frames of a split: (items for Faces, index, row of each sample's first frame, labels)."""
    index = read_index(folder)
    items, first = group_clips(index, rows_of_split(index, split, folder), folder, length)
    return items, index, first, index["label"][first]


def as_clips(batch, device):
    """uint8 (N, T, 3, S, S), or (N, 3, S, S) of single frames -> float (N, T, 3, S, S) in 0..1 on the device."""
    return (batch if batch.ndim == 5 else batch[:, None]).to(device, non_blocking=True) / 255

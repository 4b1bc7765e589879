#!/usr/bin/env python3
"""How steady the crops of stage 01 are on a face: centered on a box, or on landmarks.

    python bench/align.py --data DIR

DIR holds real clips: videos.csv as --list takes it. In each video, clips of 5 consecutive frames
are taken as 01 --sampling clips takes them, and in every frame the largest face is found by each of

    dlib box        dlib's HOG detector, the default
    MTCNN box       --detector mtcnn
    MTCNN landmarks --detector mtcnn --align landmarks: the mean of eyes, nose and corners of the
                    mouth

Reported in percent of the side of MTCNN's box, the median over videos:

    between frames  the second difference of the center, c[t-1] - 2 c[t] + c[t+1], over sqrt(6): the
                    error of one center, if the face moves evenly over three frames
    between clips   the standard deviation of the center minus that of dlib's box, in the middle
                    frames of the clips: a face that moves takes both along, and dlib's own error is
                    in both of the others
"""

import sys
from pathlib import Path

import numpy as np
from side_by_side import arguments, record, table

from common import progress, read_table
from media import faces, video
from media.detectors import check_mtcnn, detect_mtcnn, largest_face

WAYS = ("dlib box", "MTCNN box", "MTCNN landmarks")
LENGTH = 5


def centers_of(frames):
    """Centers of the largest face in each of T frames by each way: (T, 3, 2); NaN without a face.

    Also returns the sides of MTCNN's boxes, (T,).
    """
    found = [[largest_face(frame) for frame in frames]]
    for align in (None, "landmarks"):
        found.append([(of_frame or [None])[0] for of_frame in detect_mtcnn(frames, "cpu", align)])
    boxes = np.array([[box or (np.nan,) * 4 for box in way] for way in found], float)
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = (boxes[1, :, 2:] - boxes[1, :, :2]).max(1)
    return centers.transpose(1, 0, 2), sides


def measure(path, clips):
    """What the docstring reports of one video, in percent: (between frames, between clips).

    Both have a value per way; NaN where a face was not found often enough.
    """
    starts = faces.clip_starts(video.count_frames(path), clips, LENGTH)
    wanted = [start + k for start in starts for k in range(LENGTH)]
    frames = [frame for _, frame in video.read_frames(path, wanted)]
    if len(frames) < len(wanted):
        sys.exit(f"{path}: not all of its frames can be decoded")
    centers, sides = centers_of(frames)
    centers = centers.reshape(len(starts), LENGTH, 3, 2)
    side = np.nanmedian(sides)
    # A face far away is another person.
    away = np.linalg.norm(centers - centers[:, :, 1:2], axis=-1).max(-1) > side / 2
    centers[away] = np.nan
    second = centers[:, :-2] - 2 * centers[:, 1:-1] + centers[:, 2:]
    between_frames = np.sqrt(np.nanmean((second**2).sum(-1), (0, 1)) / 6)
    middle = centers[:, LENGTH // 2]
    between_clips = np.sqrt(np.nanvar(middle - middle[:, :1], 0).sum(-1))
    return 100 * between_frames / side, 100 * between_clips / side


def main():
    parser = arguments(__doc__, rounds=None)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="real clips: videos.csv"
    )
    parser.add_argument("--clips", type=int, default=5, metavar="N", help="per video (default 5)")
    args = parser.parse_args()
    check_mtcnn("cpu")
    paths = [args.data / path for path in read_table(args.data / "videos.csv", ["path"])["path"]]
    found = np.array([measure(path, args.clips) for path in progress(paths, unit="video")])
    rows = []
    for k, way in enumerate(WAYS):
        rows.append((way, spread(found[:, 0, k]), spread(found[:, 1, k]) if k else "(0)"))
    lines = [
        f"{args.clips} clips of {LENGTH} frames of {len(paths)} videos, in percent of the side of "
        "MTCNN's box: median over videos (smallest to largest).",
        "",
        *table(("center of the crop", "between frames", "between clips"), rows),
    ]
    record(args, lines)


def spread(values):
    """Median and range of the values that are numbers, as text."""
    values = values[np.isfinite(values)]
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Stage 03: extract features of face images, and the extractor's own scores (FeatureTransfer 3.3).

    python 03_extract_features.py --checkpoint runs/extractor/model.pt \\
        --faces faces/FF-DF faces/Celeb-DF --out features --scores scores/Se_Res
    python 03_extract_features.py --checkpoint runs/small/model.pt --faces faces/X --out features

It writes, for each face folder NAME:

    OUT/NAME/features.npy   (N, D) float32; D is 2048 for se_resnext101_32x4d
    OUT/NAME/logits.npy     (N,) float64, the extractor's logit of fake minus that of real
    OUT/NAME/index.csv      the N rows of faces/NAME/index.csv, in the order of features.npy
    SCORES/NAME.csv         video, frame, label, score, logit of the extractor applied directly
                            (FeatureTransfer, Table 3, row "Se_Res")
    SCORES/cam_NAME.png     with --cam N: class activation maps of the middle image of N of these
                            videos, and its score

Features are written for all images, scores for the split that --split names. An interrupted run is
resumed by the same command, with any number of processes.

Deviations from the paper (paper -> this script):

    precision   not given -> --precision; in bfloat16, which is chosen where a CPU or GPU has it,
                features differ from float32 by up to about 1 % of the largest, at 1.8 times the
                speed (on a CPU); scores are computed from them in float32 (TF32 on such a GPU)
"""

import shutil
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from common import (
    RANK,
    Parser,
    add_system_flags,
    fail,
    margin,
    progress,
    read_index,
    rows_of_split,
    write_scores,
    write_whole,
)
from networks.extractor import Extractor, fold_batch_norm
from reporting.figures import draw_maps
from reporting.metrics import auc, percent
from running.devices import (
    autocast,
    choose_device,
    choose_precision,
    describe_device,
    share,
)
from running.folder import describe_data, folder_names, start_run
from running.loading import Clips, Faces, load_batches
from running.processes import barrier, run_script
from running.run import load_checkpoint, rebuild

# Flags that may change when a run is resumed.
RUNTIME_FLAGS = ("out", "workers", "device", "scores", "split", "cam")


def load_extractor(path):
    """The network of a stage 02 checkpoint on the CPU, in evaluation mode."""
    return rebuild(Extractor, load_checkpoint(path, "02"), path).eval()


def extract(model, faces, out, batch, workers, device, precision="fp32"):
    """Write the features of N face images, a file .part-K.npy for each batch; returns their paths.

    A file is (B, D + 2) float32: the features, and the logits of real and fake. It appears whole,
    so that an interrupted run continues after the last one, with the same batches and the same
    result. Each process writes every WORLD_SIZE-th file, and none writes into another's: on a file
    system of several machines, a page of a file that two of them change may lose what one wrote.
    """
    n = len(faces)
    batches = [range(k, min(k + batch, n)) for k in range(0, n, batch)]
    files = [out / f".part-{k}.npy" for k in range(len(batches))]
    # Listed, not looked up: a network file system may remember for a while that a file is missing.
    written = set(files) & set(out.iterdir())
    mine = [k for k in share(range(len(batches))) if files[k] not in written]
    loader = load_batches(faces, [list(batches[k]) for k in mine], workers, device.type == "cuda")
    bar = progress(total=len(mine), desc=out.name, unit="batch")

    for k, images in zip(mine, loader):
        with torch.inference_mode():
            with autocast(device, precision):
                vectors = model.features(images.to(device, non_blocking=True)).float()
            rows = torch.cat([vectors, model.head(vectors)], 1).cpu().numpy()
        is_finite = np.isfinite(rows).all(1)
        if not is_finite.all():
            (image,) = faces.paths(batches[k].start + int(np.argmin(is_finite)))
            fail(f"the output for {image} is not a finite number: is the checkpoint sound?")
        with write_whole(files[k]) as part, open(part, "wb") as file:
            np.save(file, rows)
        bar.update()
    bar.close()
    barrier()
    return files


def finish(folder, out, files, shape):
    """Join the batches' files to features.npy, of a shape (N, D), and logits.npy; copy index.csv.

    index.csv is written last: if it exists, the others are complete. A run that was
    killed before that joins the files again.
    """
    logits = []
    with write_whole(out / "features.npy") as part, open(part, "wb") as file:
        header = dict(descr="<f4", fortran_order=False, shape=shape)
        np.lib.format.write_array_header_1_0(file, header)
        for rows in map(np.load, files):
            file.write(rows[:, :-2].tobytes())
            logits.append(margin(rows[:, -2:]))
    with write_whole(out / "logits.npy") as part, open(part, "wb") as file:
        np.save(file, np.concatenate(logits))
    with write_whole(out / "index.csv") as part:
        shutil.copyfile(folder / "index.csv", part)


def draw_scored(name, folder, index, rows, logits, args, device):
    """Draw activation maps of args.cam of the videos in the scored rows of a folder."""
    model = load_extractor(args.checkpoint).to(device)
    paths = [index["path"][row] for row in rows]
    faces = Faces(paths, model.image_size, folder)
    clips = Clips(paths, index, rows, index["label"][rows])
    maps = lambda images: model.activation_maps(255 * images[:, 0])[:, None]  # noqa: E731
    path = args.scores / f"cam_{name}"
    draw_maps(path, name, clips, logits[rows], faces, maps, args.cam, 0, device)


def parse_args():
    parser = Parser(__doc__)
    add = parser.add_argument_group("data").add_argument
    text = "model.pt of stage 02"
    add("--checkpoint", type=Path, required=True, metavar="FILE", help=text)
    text = "face folders of stage 01"
    add("--faces", type=Path, nargs="+", required=True, metavar="DIR", help=text)
    text = "folder that gets a folder NAME for each of --faces"
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "folder for the extractor's own scores, e.g. scores/Se_Res"
    add("--scores", type=Path, metavar="DIR", help=text)
    text = "draw activation maps of N videos of each scored set, beside its scores"
    add("--cam", type=int, metavar="N", help=text)
    text = "whose scores to write; test is all images of a set without splits (default test)"
    add("--split", choices=("train", "val", "test", "all"), default="test", help=text)
    add = parser.add_argument_group("extraction").add_argument
    add("--batch", type=int, default=128, metavar="N", help="images at a time (default 128)")
    add_system_flags(parser, workers="processes that load images", device=True, precision="auto")
    args = parser.parse_args()
    if args.batch < 1:
        fail("--batch must be 1 or more")
    if args.cam is not None and (args.cam < 1 or not args.scores):
        fail("--cam must be 1 or more, and goes together with --scores")
    return args


def main():
    args = parse_args()
    folders = folder_names(args.faces)
    indexes = {name: read_index(folder) for name, folder in folders.items()}
    rows = {}
    if args.scores:
        rows = {n: rows_of_split(indexes[n], args.split, folder) for n, folder in folders.items()}
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    model = fold_batch_norm(load_extractor(args.checkpoint)).to(device)
    print(
        f"{args.checkpoint}: {model.dimensions} features from images of {model.image_size} pixels; "
        f"{describe_device(device, args.precision)}, batch {args.batch}, {args.workers} loading "
        "processes",
        flush=True,
    )

    for name, folder in folders.items():
        out, index = args.out / name, indexes[name]
        flags = Namespace(**vars(args))
        flags.faces, flags.extraction = folder, describe_data(folder, "")["extraction"]
        inputs = [args.checkpoint, folder / "index.csv"]
        start_run(out, flags, inputs, RUNTIME_FLAGS, is_finished=(out / "index.csv").exists())
        start = time.perf_counter()
        if not (out / "index.csv").exists():
            faces = Faces(index["path"], model.image_size, folder)
            files = extract(model, faces, out, args.batch, args.workers, device, args.precision)
            if RANK == 0:
                finish(folder, out, files, (len(faces), model.dimensions))
        if RANK == 0:
            for part in out.glob(".part-*"):
                part.unlink()
        barrier()
        logits = np.load(out / "logits.npy")
        size = len(logits) * model.dimensions * 4 / 1e6
        seconds = time.perf_counter() - start
        print(
            f"{name}: {len(logits)} images, features of {size:.0f} MB in {out}, {seconds:.1f} s",
            flush=True,
        )
        if args.scores:
            file = args.scores / f"{name}.csv"
            write_scores(file, index, rows[name], logits[rows[name]])
            value = auc(index["label"][rows[name]], logits[rows[name]])
            images = f"{len(rows[name])} images of the split {args.split}"
            print(f"  {file}: {images}, AUC {percent(value)}", flush=True)
        if args.cam and RANK == 0:
            draw_scored(name, folder, index, rows[name], logits, args, device)


if __name__ == "__main__":
    run_script(main)

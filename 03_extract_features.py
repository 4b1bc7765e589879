#!/usr/bin/env python3
"""Stage 03: run the extractor over face folders; keep its features and its own scores (FeatureTransfer 3.3).

    python 03_extract_features.py --checkpoint runs/extractor/model.pt --faces faces/FF-DF faces/Celeb-DF \\
        --out features --scores scores/Se_Res

What comes out, for each face folder NAME:

    OUT/NAME/features.npy   (N, D) float32; D = 2048 for se_resnext101_32x4d
    OUT/NAME/index.csv      the N rows of faces/NAME/index.csv, in the order of features.npy
    SCORES/NAME.csv         video, frame, label, score, logit: P(fake) of the extractor applied directly (Table 3, row "Se_Res")

Features are written for all images, scores for the split that --split names. No deviation from the paper, whose precision is not said: with
--precision auto, where the CPU has bfloat16, features differ from those in float32 by up to about 1 % of the largest, at twice the speed.
"""

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from common import (
    RANK,
    WORLD_SIZE,
    Parser,
    add_system_arguments,
    autocast,
    choose_device,
    choose_precision,
    fail,
    folder_names,
    margin,
    percent,
    progress,
    read_index,
    rows_of_split,
    write_scores,
)
from networks.extractor import Extractor, fold_batch_norm
from reporting.metrics import auc
from running.folder import describe_data, start_run
from running.script import barrier, run_script
from training.checkpoints import load_checkpoint, rebuild
from training.features import Rows
from training.loading import Faces, load_batches


def load_extractor(path):
    """Rebuild the network of a stage 02 checkpoint: `Extractor` of 02, on the CPU, ready to score."""
    return rebuild(Extractor, load_checkpoint(path, "02"), path).eval()


def extract(model, folder, index, out, batch, workers, device, precision="fp32", save_every=100):
    """Write OUT/features.npy and OUT/logits.npy, (N,) logits of fake minus real, for the images of an index.

    Of several processes each does every WORLD_SIZE-th batch. Every `save_every` batches they are on disk, and .part-done.npy has a 1 for each; an
    interrupted run goes on from there, with any number of processes, batches cut at the same places, so that the result is the same.
    """
    n = len(index["path"])
    steps = range(0, n, batch)
    parts = [out / f".part-{name}.npy" for name in ("features", "logits", "done")]
    if RANK == 0 and not all(part.exists() for part in parts):
        for part in parts:
            part.unlink(missing_ok=True)
    barrier()
    features, logits, done = (
        Rows(out / f".part-{name}.npy", shape, kind)
        for name, shape, kind in (
            ("features", (n, model.dimensions), "<f4"),
            ("logits", (n,), "<f8"),
            ("done", (len(steps),), "<f4"),
        )
    )
    missing = np.flatnonzero(np.load(out / ".part-done.npy") == 0)
    barrier()  # all have looked
    own = missing[RANK::WORLD_SIZE]
    faces = Faces(index["path"], model.image_size, folder)
    batches = [list(range(steps[k], min(steps[k] + batch, n))) for k in own]
    bar = progress(
        total=len(steps),
        initial=len(steps) - len(own),
        desc=folder.name,
        unit="batch",
        iterable=None,
    )
    written = []
    with torch.inference_mode():
        for k, rows, images in zip(
            own, batches, load_batches(faces, batches, workers, pin=device.type == "cuda")
        ):
            with autocast(device, precision):
                vectors = model.features(images.to(device, non_blocking=True)).float()
            own_scores = margin(model.head(vectors)).cpu().numpy()
            if not np.isfinite(own_scores).all():
                fail(
                    f"the network's output for {index['path'][rows[int(np.argmin(np.isfinite(own_scores)))]]} is not a finite number: is the checkpoint sound?"
                )
            features.write(rows[0], vectors.cpu().numpy())
            logits.write(rows[0], own_scores)
            written.append(k)
            bar.update()
            if len(written) == save_every or k == own[-1]:
                features.flush()
                logits.flush()
                for part in written:
                    done.write(part, np.ones(1))
                done.flush()
                written = []
    bar.close()
    barrier()
    if RANK == 0:
        for name in ("features.npy", "logits.npy"):
            (out / f".part-{name}").replace(out / name)


def main():
    parser = Parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="model.pt of stage 02"
    )
    data.add_argument(
        "--faces", type=Path, nargs="+", required=True, metavar="DIR", help="folders of stage 01"
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that gets a folder NAME for each of --faces",
    )
    data.add_argument(
        "--scores",
        type=Path,
        metavar="DIR",
        help="folder for the extractor's own scores, e.g. scores/Se_Res",
    )
    data.add_argument(
        "--split",
        choices=("train", "val", "test", "all"),
        default="test",
        help="whose scores to write; test takes all images of a set without splits (default test)",
    )
    group = parser.add_argument_group("extraction")
    group.add_argument(
        "--batch", type=int, default=128, metavar="N", help="images at a time (default 128)"
    )
    add_system_arguments(
        parser, workers="processes that load images", device=True, precision="auto"
    )
    args = parser.parse_args()
    if args.batch < 1 or args.workers < 0:
        fail("--batch must be 1 or more, --workers 0 or more")
    folders = folder_names(args.faces)
    indexes = {name: read_index(folder) for name, folder in folders.items()}
    rows = (
        {name: rows_of_split(index, args.split, folders[name]) for name, index in indexes.items()}
        if args.scores
        else {}
    )
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    model = fold_batch_norm(load_extractor(args.checkpoint)).to(device)
    print(
        f"{args.checkpoint}: {model.dimensions} features from images of {model.image_size} pixels; device {device}, {args.precision}, "
        f"batch {args.batch}, {args.workers} loading processes",
        flush=True,
    )

    for name, folder in folders.items():
        out, index = args.out / name, indexes[name]
        flags = argparse.Namespace(
            checkpoint=args.checkpoint,
            faces=folder,
            batch=args.batch,
            precision=args.precision,
            go_on=args.go_on,
            extraction=describe_data(folder, "")[0]["extraction"],
        )
        start_run(out, flags, inputs=[args.checkpoint, folder / "index.csv"])
        start = time.perf_counter()
        if not (out / "index.csv").exists():  # written last: its being there means done
            extract(model, folder, index, out, args.batch, args.workers, device, args.precision)
            if RANK == 0:
                shutil.copyfile(folder / "index.csv", out / ".part-index.csv")
                (out / ".part-index.csv").replace(out / "index.csv")
                for part in out.glob(".part-*"):
                    part.unlink()
        barrier()
        if not (out / "logits.npy").exists():
            fail(f"{out} was made by release 1.0, without logits: delete it and run again")
        logits = np.load(out / "logits.npy")
        size = len(logits) * model.dimensions * 4 / 1e6
        print(
            f"{name}: {len(logits)} images, features of {size:.0f} MB in {out}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
        if args.scores:
            write_scores(args.scores / f"{name}.csv", index, rows[name], logits[rows[name]])
            value = auc(index["label"][rows[name]], logits[rows[name]])
            print(
                f"  {args.scores / (name + '.csv')}: {len(rows[name])} images of the split {args.split}, AUC {percent(value)}",
                flush=True,
            )


if __name__ == "__main__":
    run_script(main)

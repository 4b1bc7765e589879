#!/usr/bin/env python3
"""Stage 03: run the extractor over face folders; keep its features and its own scores (FeatureTransfer 3.3).

    python 03_extract_features.py --checkpoint runs/extractor/model.pt --faces faces/FF-DF faces/Celeb-DF \\
        --out features --scores scores/Se_Res

What comes out, for each face folder NAME:

    OUT/NAME/features.npy   (N, D) float32; D = 2048 for se_resnext101_32x4d
    OUT/NAME/index.csv      the N rows of faces/NAME/index.csv, in the order of features.npy
    SCORES/NAME.csv         video, frame, label, score: P(fake) of the extractor applied directly (Table 3, row "Se_Res")

Features are written for all images, scores for the split that --split names. No deviation from the paper, whose precision is not said: with
--precision auto, where the CPU has bfloat16, features differ from those in float32 by up to about 1 % of the largest, at twice the speed.
"""
import argparse
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common import (Faces, add_system_arguments, auc, autocast, choose_device, choose_precision, fail, folder_names, help_format, load_batches, load_checkpoint,
                    percent, progress, read_index, rows_of_split, start_run, write_scores, write_whole)


def load_extractor(path):
    """Rebuild the network of a stage 02 checkpoint: `Extractor` of 02, on the CPU, ready to score."""
    checkpoint = load_checkpoint(path, "02")
    model = import_module("02_pretrain_extractor").Extractor(**checkpoint["kwargs"])
    model.load_state_dict(checkpoint["model"])
    return model.eval()


class Folded(nn.Module):
    """A backbone in evaluation mode whose batch norms are part of its convolutions: `features` as it was, to 1e-5 of the largest."""

    def __init__(self, features):
        super().__init__()
        self.body = features

    def features(self, x):
        return self.body(x)


class Body(nn.Module):
    """`features` of a backbone as a module, which is what torch.fx can trace."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone.features(x)


def fold(model):
    """An `Extractor` in evaluation mode with its batch norms folded into its convolutions; a network that cannot be traced stays as it is.

    Changes `model`. With the memory format of 02 it comes to 95 % of a CPU's peak rate in fp32 (bench/02_train.py).
    """
    from torch.fx.experimental.optimization import fuse
    try:
        body = fuse(Body(model.backbone).eval())
    except (torch.fx.proxy.TraceError, TypeError, NotImplementedError, NameError) as error:       # torch.fx's ways to refuse
        print(f"batch norm is not folded, which only costs time: {str(error).splitlines()[0]}", flush=True)
        return model
    model.backbone = Folded(body).to(memory_format=model.memory).requires_grad_(False)
    return model


def extract(model, folder, index, out, batch, workers, device, precision="fp32", save_every=100):
    """Write OUT/features.npy for the images of an index and return their P(fake): (N,) float32.

    Every `save_every` batches the state is on disk (.part-features.npy, .part-scores.npy, .part-rows); an interrupted run goes
    on from there, batches cut at the same places, so that the result is the same.
    """
    n, names = len(index["path"]), [out / f".part-{name}" for name in ("features.npy", "scores.npy", "rows")]
    done = int(names[2].read_text()) if all(name.exists() for name in names) else 0
    modes = dict(mode="r+") if done else dict(mode="w+", dtype=np.float32)
    features = np.lib.format.open_memmap(names[0], **modes, **({} if done else dict(shape=(n, model.dimensions))))
    scores = np.lib.format.open_memmap(names[1], **modes, **({} if done else dict(shape=(n,))))
    faces = Faces(index["path"], model.image_size, folder)
    batches = [list(range(k, min(k + batch, n))) for k in range(done, n, batch)]
    bar = progress(total=n, initial=done, desc=folder.name, unit="image", iterable=None)
    with torch.inference_mode(), autocast(device, precision):
        for k, images in enumerate(load_batches(faces, batches, workers, pin=device.type == "cuda"), 1):
            vectors = model.features(images.to(device, non_blocking=True)).float()
            rows = slice(batches[k - 1][0], batches[k - 1][-1] + 1)
            features[rows], scores[rows] = vectors.cpu().numpy(), model.head(vectors).float().softmax(1)[:, 1].cpu().numpy()
            bar.update(len(images))
            if k % save_every == 0:
                features.flush()
                scores.flush()
                with write_whole(names[2]) as part:
                    part.write_text(str(rows.stop))
    bar.close()
    features.flush()
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        fail(f"the network's output for {index['path'][bad[0]]} is not a finite number ({len(bad)} such images): is the checkpoint sound?")
    result = np.array(scores)
    del features, scores
    names[0].replace(out / "features.npy")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=help_format)
    data = parser.add_argument_group("data")
    data.add_argument("--checkpoint", type=Path, required=True, help="model.pt of stage 02")
    data.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of stage 01")
    data.add_argument("--out", type=Path, required=True, help="folder that gets a folder NAME for each of --faces")
    data.add_argument("--scores", type=Path, help="folder for the extractor's own scores, e.g. scores/Se_Res")
    data.add_argument("--split", choices=("train", "val", "test", "all"), default="test",
                      help="whose scores to write; test takes all images of a set without splits (default test)")
    add_system_arguments(parser, workers="processes that load images", device=True, precision="auto")
    parser.add_argument("--batch", type=int, default=128, help="images at a time (default 128)")
    args = parser.parse_args()
    if args.batch < 1 or args.workers < 0:
        fail("--batch must be 1 or more, --workers 0 or more")
    folders = folder_names(args.faces)
    indexes = {name: read_index(folder) for name, folder in folders.items()}
    rows = {name: rows_of_split(index, args.split, folders[name]) for name, index in indexes.items()} if args.scores else {}
    device = choose_device(args.device)
    args.precision = choose_precision(args.precision, device)
    model = fold(load_extractor(args.checkpoint)).to(device)
    print(f"{args.checkpoint}: {model.dimensions} features from images of {model.image_size} pixels; device {device}, {args.precision}, "
          f"batch {args.batch}, {args.workers} loading processes", flush=True)

    for name, folder in folders.items():
        out, index = args.out / name, indexes[name]
        flags = argparse.Namespace(checkpoint=args.checkpoint, faces=folder, batch=args.batch, precision=args.precision)
        start_run(out, flags, inputs=[args.checkpoint, folder / "index.csv"])
        start = time.perf_counter()
        if not (out / "index.csv").exists():                              # written last: its being there means done
            p_fake = extract(model, folder, index, out, args.batch, args.workers, device, args.precision)
            np.save(out / "scores.npy", p_fake)
            shutil.copyfile(folder / "index.csv", out / ".part-index.csv")
            (out / ".part-index.csv").replace(out / "index.csv")
            for part in out.glob(".part-*"):
                part.unlink()
        p_fake = np.load(out / "scores.npy")
        size = len(p_fake) * model.dimensions * 4 / 1e6
        print(f"{name}: {len(p_fake)} images, features of {size:.0f} MB in {out}, {time.perf_counter() - start:.1f} s", flush=True)
        if args.scores:
            write_scores(args.scores / f"{name}.csv", index, rows[name], p_fake[rows[name]])
            value = auc(index["label"][rows[name]], p_fake[rows[name]])
            print(f"  {args.scores / (name + '.csv')}: {len(rows[name])} images of the split {args.split}, AUC {percent(value)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")

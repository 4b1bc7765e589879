#!/usr/bin/env python3
"""Stage 07: is this video fake? A score and a verdict for every person in any video, by checkpoints of stages 02, 04 and 05.

    python 07_detect.py clip.mp4 --checkpoint runs/clrnet/merge/model.pt --out verdicts
    python 07_detect.py downloads/ clip.mov --checkpoint runs/clrnet/merge/model.pt runs/FT/Celeb-DF/model.pt --out verdicts
    python 07_detect.py clip.mp4 --checkpoint runs/extractor/model.pt --out verdicts --json | python -m json.tool

Faces are taken from a video as those were that the checkpoint was trained on (it says how: which frames, how large a crop), every sampled frame
or clip is scored, and a person's score is the mean of theirs (FeatureTransfer 4.5). Several people in a video are followed apart. What comes out:
a line a person on the terminal, and in OUT

    verdicts.csv    a row a video, person and checkpoint: verdict, score, threshold, on how many faces it rests
    verdicts.json   the same with every single score and logit, and what the checkpoints were trained on
    NAME.png        for each video with a face: scores over time, the faces with the highest and the lowest, with CLRNet's activation maps

    fake, real      the score is at or above the threshold, or below it. The threshold is the one with equal error rates on the checkpoint's
                    validation videos; without such videos it is 0.5, and that is said
    no face found   nothing was scored, which says nothing about the video
    unreadable      ffmpeg cannot read it; the reason is given

A score orders videos like those of the training. On a manipulation, a compression or a camera that the training did not know, fakes pass as
real and real videos as fakes. With several checkpoints the verdict is that of the mean score at the mean threshold, and each one's is beside it.

Choices of ours, of which the papers say nothing:

    who is who      a face belongs to the person whose last face was less than its side away and had half to twice its size: a cut can make two
                    persons of one, or one of two. Who appears less than a tenth as often as the most frequent person is left out, and counted
    crowds          the twenty largest faces of a frame
    small faces     01 stops at the first scale that shows a face; here larger scales are looked at for other people too
    frames          as many as the training took; where it took more of real videos (--num-frames-real), so many
    precision       float32, whatever the training had
"""

import json
import math
import os
import sys
from collections import Counter, deque
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

import numpy as np

from common import (
    Parser,
    add_system_arguments,
    choose_device,
    fail,
    margin,
    percent,
    progress,
    sha256,
    sigmoid,
    write_table,
    write_whole,
)
from media import layouts, splits
from media.detectors import check_mtcnn
from media.tracking import follow
from networks.baselines import NETWORKS
from networks.extractor import Extractor
from reporting.verdict import DEMONSTRATION, draw, faces, shown
from running.script import run_script
from running.workers import worker_pool
from training.checkpoints import load_checkpoint, rebuild

# What 01 does where a checkpoint does not say how its faces were extracted.
DEFAULTS = dict(
    sampling="frames",
    num_frames=30,
    num_frames_real=None,
    num_clips=16,
    clip_length=5,
    scale=1.2,
    size=240,
    format="png",
    jpg_quality=95,
    detector="dlib",
)


class Detector:
    """A checkpoint of stage 02, 04 or 05: what it learnt from, how its faces are to be extracted, and its score.

    `extractor`: for one of 04, the checkpoint of its features where it is not at its recorded place. Ends the script where a file does not fit.

    Attributes: path; data, as `common.describe_data` gives it; validation, as `common.validate`, or None; demonstration; threshold, 0..1; frames and
    image_size of a sample; plan, see `follow`; maps, a function (N, T, 3, S, S) -> (N, T, h, w), or None.
    """

    def __init__(self, path, extractor, device):
        content = load_checkpoint(path, "02", "04", "05")
        stage, self.path, self.device, self.maps, learnt = (
            content["stage"],
            Path(path),
            device,
            None,
            [],
        )
        self.validation, self.data = content.get("validation"), content.get("data") or []
        if stage == "04" and not content.get("end_to_end"):
            below = Detector(find_extractor(content, path, extractor), None, device)
            if below.features is None:
                fail(
                    f"{path} was trained on features of {below.path}, which is itself a checkpoint of stage 04"
                )
            self.net = rebuild(import_module("04_train_bpdann").BPDANN, content, path)
            self.forward, self.features = lambda clips: self.net(below.features(clips)), None
            self.frames, self.image_size, learnt = below.frames, below.image_size, below.data
        elif stage == "05":
            networks = NETWORKS
            if content.get("network") not in networks:
                fail(f"{path} holds a network {content.get('network')!r}, which is not known here")
            self.net = rebuild(networks[content["network"]], content, path)
            self.forward, self.features = (
                lambda clips: self.net(clips / 255),
                lambda clips: self.net.features(clips / 255),
            )
            self.maps, self.frames, self.image_size = (
                getattr(self.net, "activation_maps", None),
                self.net.frames,
                self.net.image_size,
            )
        else:
            owner = import_module("04_train_bpdann").DANN if stage == "04" else Extractor
            self.net = rebuild(owner, content, path)
            self.forward, self.features = (
                lambda clips: self.net(clips[:, 0]),
                (lambda clips: self.net.features(clips[:, 0])) if stage == "02" else None,
            )
            self.frames, self.image_size = 1, self.net.image_size
        self.net.to(device).eval()
        try:
            self.data = [*self.data, *learnt]  # the extractor's too
            self.demonstration = any(entry["extraction"].get("generated") for entry in self.data)
            threshold = float((self.validation or {}).get("threshold", math.nan))
            self.calibrated = not math.isnan(threshold)
            self.threshold = threshold if self.calibrated else 0.5
            self.plan = self.make_plan()
            self.about()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fail(
                f"{path}: what it says of its training cannot be used ({type(error).__name__}: {str(error)[:100]})"
            )

    def make_plan(self):
        """How 01 took the faces of the training data, and the size of the network's input."""
        known = next(
            (entry["extraction"] for entry in self.data if entry["extraction"].get("sampling")), {}
        )
        plan = {
            **DEFAULTS,
            **(
                {}
                if known or self.frames == 1
                else dict(
                    sampling="clips", num_clips=max(1, 80 // self.frames), clip_length=self.frames
                )
            ),
            **{k: v for k, v in known.items() if k in DEFAULTS},
        }
        clips = plan["sampling"] == "clips"
        plan.update(
            count=plan["num_clips"]
            if clips
            else max(plan["num_frames"], plan["num_frames_real"] or 1),
            length=plan["clip_length"] if clips else 1,
            image_size=self.image_size,
        )
        limits = dict(count=10_000, length=1000, size=4096, image_size=4096, jpg_quality=95)
        if (
            plan["length"] % self.frames
            or not all(isinstance(plan[k], int) and 1 <= plan[k] <= limits[k] for k in limits)
            or not 0.1 <= plan["scale"] <= 10
            or plan["sampling"] not in ("frames", "clips")
            or plan["format"] not in ("png", "jpg")
            or plan["detector"] not in ("dlib", "mtcnn")
        ):
            raise ValueError(f"{plan}, for {self.frames} frames at a time")
        return plan

    def score(self, crops):
        """The logits of fake minus real of each crop or clip: uint8 (N, T, S, S, 3) -> (N, samples of a clip) float64 array."""
        import torch

        clips = torch.from_numpy(crops).permute(0, 1, 4, 2, 3)
        samples = clips.reshape(
            -1, self.frames, *clips.shape[2:]
        )  # baselines on single frames take each of a clip's
        with torch.inference_mode():
            parts = [
                margin(self.forward(part.to(self.device)).float().cpu())
                for part in samples.split(max(1, 32 // self.frames))
            ]
        return torch.cat(parts).view(len(clips), -1).numpy()

    def about(self):
        """What is to be known before its verdicts are trusted, as a line."""
        sets = "; ".join(
            f"{role} {', '.join(e['set'] for e in self.data if e['role'] == role)}"
            for role in dict.fromkeys(e["role"] for e in self.data)
        )
        v = self.validation
        checked = (
            f"on its {v['videos']} validation videos AUC {percent(v['auc'])}, equal error rate {percent(v['eer'])}"
            if v
            else "it was not validated"
        )
        at = f"threshold {shown(self.threshold)}" + (
            "" if self.calibrated else " (not calibrated: no validation videos of both classes)"
        )
        return f"{sets or 'what it learnt from is not recorded'}; {checked}; {at}"


def find_extractor(content, path, given):
    """The checkpoint from whose features one of stage 04 was trained: the file it names, or `given`, by its SHA-256."""
    record = content.get("extractor")
    if not (isinstance(record, dict) and isinstance(record.get("path"), str)):
        record = None
    if not record and not given:
        fail(
            f"{path} does not say which extractor made its features: give --extractor FILE, model.pt of stage 02 or 05"
        )
    file = Path(given or record["path"])
    if (
        not given
    ):  # a relative path holds in the folder in which it was trained, above the checkpoint
        file = next(
            (
                place / file
                for place in ("", *Path(path).resolve().parents)
                if (place / file).is_file()
            ),
            file,
        )
    if not file.is_file():
        fail(f"{file}, which made the features of {path}, is not there: give --extractor FILE")
    if record and sha256(file) != record.get("sha256"):
        fail(
            f"{file} is not the extractor that made the features of {path}: it has changed since, or is another one; give --extractor FILE"
        )
    return file


def judge(detectors, plans, sample_lists):
    """Score a person: {"score", "threshold", "verdict", "faces", of how many frames, "by": [the same a checkpoint, with "samples"],
    "without": [checkpoints without a score]}."""
    by, without = [], []
    for detector in detectors:
        mine = [
            (first, box, crops)
            for k, first, box, crops in sample_lists
            if plans[k] == detector.plan
        ]
        if not mine:  # a single frame, and a network of clips
            without.append(str(detector.path))
            continue
        logits = detector.score(np.stack([crops for *_, crops in mine]))
        if not np.isfinite(logits).all():
            fail(f"the output of {detector.path} is not a finite number: is the checkpoint sound?")
        scores = sigmoid(logits).mean(1)
        by.append(
            dict(
                checkpoint=str(detector.path),
                score=float(scores.mean()),
                threshold=detector.threshold,
                samples=[
                    dict(
                        frame=first, box=list(map(int, box)), score=float(score), logit=float(logit)
                    )
                    for (first, box, _), score, logit in zip(mine, scores, logits.mean(1))
                ],
            )
        )
    person = dict(
        score=float(np.mean([one["score"] for one in by])),
        threshold=float(np.mean([one["threshold"] for one in by])),
        by=by,
        without=without,
    )
    for one in (person, *by):
        one["verdict"] = "fake" if one["score"] >= one["threshold"] else "real"
    person["faces"] = len(
        {n for k, first, *_ in sample_lists for n in range(first, first + plans[k]["length"])}
    )
    return person


def find(given):
    """The videos among files and folders of the command line, each once: a list of paths in their order."""
    paths = []
    for path in given:
        found = layouts.find_videos(path) if os.path.isdir(path) else [path]
        if not found:
            fail(f"{path} holds no videos ({' '.join(sorted(layouts.ENDINGS))})")
        paths += found
    return list({os.path.abspath(path): path for path in paths}.values())


def main():
    parser = Parser(
        __doc__, usage="%(prog)s VIDEO [VIDEO ...] --checkpoint FILE [FILE ...] --out DIR [options]"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "videos",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="video files, or folders that are searched for them",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for verdicts.csv, verdicts.json and a picture a video; what is there "
        "of an earlier run is written over",
    )
    data.add_argument(
        "--json",
        action="store_true",
        help="print verdicts.json on standard output, and everything else on standard error",
    )
    model_ = parser.add_argument_group("model")
    model_.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="model.pt of stages 02, 04, 05",
    )
    model_.add_argument(
        "--extractor",
        type=Path,
        metavar="FILE",
        help="for those of 04: the model.pt that made their features (default: where it was then)",
    )
    add_system_arguments(parser, workers="processes that look for faces", device=True, go_on=False)
    args = parser.parse_args()
    if args.workers < 1:
        fail("--workers must be 1 or more")
    say = sys.stderr if args.json else sys.stdout
    paths, device = find(args.videos), choose_device(args.device)
    detectors = [Detector(path, args.extractor, device) for path in dict.fromkeys(args.checkpoint)]
    plans = [
        plan
        for k, plan in enumerate(d.plan for d in detectors)
        if plan not in [d.plan for d in detectors[:k]]
    ]
    demonstration = any(d.demonstration for d in detectors)
    if any(plan["detector"] == "mtcnn" for plan in plans):
        check_mtcnn("cpu")
    for detector in detectors:
        print(f"{detector.path}: {detector.about()}", file=say)
    what = {
        f"{p['count']} frames"
        if p["length"] == 1
        else f"{p['count']} clips of {p['length']} frames"
        for p in plans
    }
    print(
        f"{len(paths)} video{'s' * (len(paths) > 1)}, {' and '.join(sorted(what))} of each; device {device}, {args.workers} processes. Fakes of other kinds than those of the training "
        "may pass as real.\n",
        file=say,
        flush=True,
    )
    videos = [layouts.make_video(path, 0, "") for path in paths]
    splits.name_videos(videos)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the output folder {args.out}: {error.strerror}")

    results = []
    try:
        with worker_pool(min(args.workers, len(videos))) as pool:
            waiting, left = deque(), deque(videos)
            bar = progress(total=len(videos), unit="video", iterable=None)
            while left or waiting:
                while (
                    left and len(waiting) < 2 * args.workers
                ):  # few at a time: their faces are held until they are scored
                    waiting.append((left[0], pool.submit(follow, left.popleft()["path"], plans)))
                video, future = waiting.popleft()
                found = future.result()
                result = dict(
                    path=str(video["path"]),
                    demonstration=demonstration,
                    frames=found.get("frames"),
                    seconds=found.get("seconds"),
                    people=[],
                )
                if "reason" in found:
                    result |= dict(verdict="unreadable", reason=found["reason"])
                elif not found["people"]:
                    result |= dict(
                        verdict="no face found", reason=f"none in {found['looked']} frames or clips"
                    )
                else:
                    result["people"] = [
                        dict(person=k, **judge(detectors, plans, samples))
                        for k, samples in enumerate(found["people"], 1)
                    ]
                    result |= dict(
                        verdict=max(
                            (p["verdict"] for p in result["people"]), key="real fake".index
                        ),
                        left_out=found["left_out"],
                        picture=f"{video['name']}.png",
                    )
                    draw(args.out / result["picture"], result, found["people"], detectors, plans)
                results.append(result)
                bar.write("\n".join(lines(result)), file=say)
                bar.update()
            bar.close()
    except BrokenProcessPool:
        fail("a process that looks for faces died (out of memory?): try fewer --workers")
    write(args.out, results, detectors)
    if args.json:
        print((args.out / "verdicts.json").read_text(encoding="utf-8"), end="")
    counts = Counter(result["verdict"] for result in results)
    print(
        f"\n{len(results)} video{'s' * (len(results) > 1)}: "
        + ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
        + f"; pictures and tables in {args.out}",
        file=say,
    )


def plain(text):
    """Text as a line that any terminal takes: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def lines(result):
    """The lines that are printed of a video."""
    end = f"  [{DEMONSTRATION}]" if result["demonstration"] else ""
    name, many = plain(result["path"]), len(result["people"])
    if not many:
        yield f"{name}: {result['verdict'].upper()} ({result['reason']})"
    for person in result["people"]:
        who = f", person {person['person']} of {many}" if many > 1 else ""
        yield (
            f"{name}{who}: {person['verdict'].upper()}, P(fake) {shown(person['score'])} at threshold "
            f"{shown(person['threshold'])}, from {faces(person)}{end}"
        )
        for one in person["by"] if len(person["by"]) + len(person["without"]) > 1 else ():
            yield f"    {one['verdict']}, P(fake) {shown(one['score'])} at {shown(one['threshold'])}: {one['checkpoint']}"
        for path in person["without"]:
            yield f"    no score, for want of a whole clip with this face: {path}"


def write(out, results, detectors):
    """verdicts.csv and verdicts.json."""
    about = [
        dict(
            checkpoint=str(d.path),
            trained_on=[{k: e[k] for k in ("set", "role")} for e in d.data],
            demonstration=d.demonstration,
            threshold=d.threshold,
            calibrated=d.calibrated,
            validation=d.validation and {k: None if v != v else v for k, v in d.validation.items()},
        )
        for d in detectors
    ]
    with write_whole(out / "verdicts.json") as part:
        part.write_text(
            json.dumps(dict(checkpoints=about, videos=results), indent=1, allow_nan=False) + "\n",
            encoding="utf-8",
        )
    rows = []
    for result in results:
        for person in result["people"]:
            every = [
                *person["by"],
                *([dict(person, checkpoint="mean")] if len(person["by"]) > 1 else []),
            ]
            rows += [
                (
                    plain(result["path"]),
                    person["person"],
                    one["checkpoint"],
                    one["verdict"],
                    repr(one["score"]),
                    repr(one["threshold"]),
                    person["faces"],
                    "",
                    int(result["demonstration"]),
                )
                for one in every
            ]
        if not result["people"]:
            rows.append(
                (
                    plain(result["path"]),
                    "",
                    "",
                    result["verdict"],
                    "",
                    "",
                    0,
                    result["reason"],
                    int(result["demonstration"]),
                )
            )
    write_table(
        out / "verdicts.csv",
        (
            "video",
            "person",
            "checkpoint",
            "verdict",
            "score",
            "threshold",
            "faces",
            "reason",
            "demonstration",
        ),
        rows,
    )


if __name__ == "__main__":
    run_script(main)

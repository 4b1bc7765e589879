#!/usr/bin/env python3
"""Stage 07: is this video or photo fake? A verdict for every person in it, by trained checkpoints.

    python 07_detect.py clip.mp4 --checkpoint runs/clrnet/merge/model.pt --out verdicts
    python 07_detect.py photo.jpg --checkpoint runs/extractor/model.pt --out verdicts
    python 07_detect.py downloads/ clip.mov --checkpoint A/model.pt B/model.pt --out verdicts --json

    # In seconds on a CPU after ./demo.sh; the verdict means nothing, as demo videos are generated:
    python 07_detect.py clip.mp4 --checkpoint demo/runs/CLRNet-merge/model.pt --out verdicts

Faces are taken from a video as they were from the checkpoint's training data: the checkpoint knows
which frames, and how large a crop. Every sampled frame or clip is scored, and a person's score is
the mean (FeatureTransfer 4.5). A photo is a video of one frame: JPEG, PNG, WebP, BMP and TIFF, and
HEIC if pillow-heif is installed. Prints one line per person, and writes to OUT:

    verdicts.csv    one row per video, person and checkpoint: verdict, score, threshold, number of
                    faces; with several checkpoints, also a row for their mean
    verdicts.json   the same with every single score and logit, and what the checkpoints were
                    trained on
    index.html      a page with a row per person, to be sorted and filtered by verdict, and the
                    files without a verdict; only its links to the pictures need other files
    NAME.verdict.png
                    for each video with a face: scores over time, and the faces with the highest and
                    lowest scores of the first checkpoint, with activation maps

No output replaces an input, and folders are searched without the pictures of earlier runs.

A verdict is one of:

    fake, real      the score is at or above the threshold, or below it. At the threshold the error
                    rates on the checkpoint's validation videos are equal. Without such videos it is
                    0.5, and the output mentions it
    no face found   nothing was scored, which says nothing about the video
    needs a video   all checkpoints take several consecutive frames, and this is a photo or too
                    short. With several checkpoints, the others decide
    unreadable      ffmpeg or Pillow cannot read the file, or the process that reads it dies; the
                    reason is given

With several checkpoints, the mean of their scores is compared with the mean of their thresholds.
Scores are only meaningful for videos like those of the training. With an unknown manipulation,
compression or camera, fakes pass as real and real videos as fakes.

Choices that the papers do not describe:

    same person     a face belongs to the person whose last face was less than its side away and
                    had half to twice its size, so a cut can turn one person into two, or two into
                    one. Whoever appears less than a tenth as often as the most frequent person is
                    left out; verdicts.json counts these faces
    crowds          the twenty largest faces of a frame
    small faces     stage 01 stops at the first scale with a face; here larger scales are searched
                    too, for other people
    frames          as many as in training, at most 1,000 of a video; where training took more of
                    real videos (--num-frames-real), that many
    precision       float32, whatever the training used
    no face         the video or photo is turned by 90, 180 and 270 degrees; if the detector is
                    sure of a face in half of three frames so, it is taken that way, and the output
                    says so
    ready crops     a checkpoint that was trained on crops of others does not know how they were
                    cut: other videos are cropped by stage 01's defaults
"""

import contextlib
import math
import os
import sys
from collections import Counter, deque
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

import numpy as np

from common import (
    CLIP_SIZE,
    EXTRACTION,
    Parser,
    add_system_flags,
    fail,
    margin,
    printable,
    progress,
    sigmoid,
)
from media import layouts, splits
from media.detectors import check_mtcnn
from media.photos import image_files, is_photo
from media.tracking import follow
from reporting.metrics import percent
from reporting.verdict import (
    PICTURE,
    draw_verdict,
    is_picture,
    score_text,
    verdict_lines,
    write_verdicts,
)
from reporting.verdict_page import page_rows, write_page
from running.folder import sha256
from running.processes import run_script, worker_pool

# The most frames of a video that are scored: their crops are held in memory.
MAX_FRAMES = 1000


def parse_args():
    usage = "%(prog)s VIDEO [VIDEO ...] --checkpoint FILE [FILE ...] --out DIR [options]"
    parser = Parser(__doc__, usage=usage)
    data = parser.add_argument_group("data")
    data.add_argument(
        "videos",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="videos, photos, or folders that are searched for them",
    )
    data.add_argument(
        "--ready-crops",
        action="store_true",
        help="files are crops of faces and taken as they are; a folder of images is one video, its "
        "frames in the order of the numbers in their names",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for index.html, verdicts.csv, verdicts.json and one picture per video; files "
        "of an earlier run are overwritten",
    )
    data.add_argument(
        "--json",
        action="store_true",
        help="print verdicts.json on standard output, and everything else on standard error",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="model.pt of stages 02, 04 or 05",
    )
    model.add_argument(
        "--extractor",
        type=Path,
        metavar="FILE",
        help="for checkpoints of stage 04: the model.pt that made their features (default: where "
        "it was in training)",
    )
    add_system_flags(
        parser, workers="processes that look for faces", device=True, allow_changes=False
    )
    args = parser.parse_args()
    if args.workers < 1:
        fail("--workers must be 1 or more")
    return args


class Detector:
    """A checkpoint of stage 02, 04 or 05, ready to score faces.

    Args: path of the checkpoint; extractor, for a checkpoint of stage 04, the checkpoint that made
    its features, or None if it is where it was in training; device. Exits with an error if a file
    does not fit.

    Attributes: data, what it was trained on, as `running.folder.describe_data` returns it;
    validation, as `metrics.validate` returns it, or None; demonstration, whether there were
    generated videos among its data; threshold, 0..1, and whether it is calibrated; frames, how many
    the network takes at a time, and image_size, their side in pixels; extraction, how its faces are
    taken, see `media.tracking`.
    """

    def __init__(self, path, extractor, device):
        # Imported here, like torch below, so that --help is quick.
        from networks.baselines import NETWORKS
        from networks.extractor import Extractor
        from running.run import load_checkpoint, rebuild

        content = load_checkpoint(path, "02", "04", "05")
        self.path, self.device = Path(path), device
        self.validation = content.get("validation")
        self.data = content.get("data") or []
        data_of_extractor = []
        # clips: (N, T, 3, S, S) in 0..255. `forward` returns logits, `features` (N, D).
        # `maps` takes clips in 0..1 and returns what networks/maps.py describes.
        self.features = None
        if content["stage"] == "05":
            if content.get("network") not in NETWORKS:
                fail(
                    f"{path} holds a network {content.get('network')!r}, which this version does "
                    "not know: train it again with 05_train_clrnet.py"
                )
            self.net = rebuild(NETWORKS[content["network"]], content, path)
            self.forward = lambda clips: self.net(clips / 255)
            self.features = lambda clips: self.net.features(clips / 255)
            self.maps = self.net.activation_maps
            self.frames, self.image_size = self.net.frames, self.net.image_size
        elif content["stage"] == "04":
            below = Detector(find_extractor(content, path, extractor), None, device)
            if below.features is None:
                fail(
                    f"{path} was trained on features of {below.path}, which is itself a checkpoint "
                    "of stage 04: give --extractor FILE, model.pt of stage 02 or 05"
                )
            self.net = rebuild(import_module("04_train_bpdann").BPDANN, content, path)
            self.forward = lambda clips: self.net(below.features(clips))
            self.maps = lambda clips: below.maps(clips, self.net)
            self.frames, self.image_size = below.frames, below.image_size
            data_of_extractor = below.data
        else:
            self.net = rebuild(Extractor, content, path)
            self.forward = lambda clips: self.net(clips[:, 0])
            maps_of = self.net.activation_maps
            self.maps = lambda clips, *head: maps_of(255 * clips[:, 0], *head)[:, None]
            self.features = lambda clips: self.net.features(clips[:, 0])
            self.frames, self.image_size = 1, self.net.image_size
        self.net.to(device).eval()
        try:
            self.data = [*self.data, *data_of_extractor]
            self.demonstration = any(entry["extraction"].get("generated") for entry in self.data)
            threshold = float((self.validation or {}).get("threshold", math.nan))
            self.calibrated = not math.isnan(threshold)
            self.threshold = threshold if self.calibrated else 0.5
            self.extraction = self.find_extraction()
            self.summary()  # raises if something it needs is not recorded
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fail(
                f"{path}: its record of its training cannot be used ({type(error).__name__}: "
                f"{str(error)[:100]}): train it again"
            )

    def find_extraction(self):
        """How stage 01 took the faces of the training data; defaults where that is not recorded.

        A network of several frames whose data are not recorded gets clips of as many frames, about
        80 frames of a video in all. Raises ValueError where the record makes no sense.
        """
        recorded = [entry["extraction"] for entry in self.data]
        recorded = next((flags for flags in recorded if flags.get("sampling")), {})
        how = dict(EXTRACTION)
        if not recorded and self.frames > 1:
            count = max(1, 80 // self.frames)
            how.update(sampling="clips", num_clips=count, clip_length=self.frames, size=CLIP_SIZE)
        how.update({name: value for name, value in recorded.items() if name in EXTRACTION})
        if how["detector"] == "none":
            how.update(detector="dlib", scale=EXTRACTION["scale"])
        if how["sampling"] == "frames" and "frame_size" in recorded:  # as release 2.0 called it
            how["size"] = recorded["frame_size"]
        if how["sampling"] == "clips":
            how.update(count=how["num_clips"], length=how["clip_length"])
        else:
            how.update(count=max(how["num_frames"], how["num_frames_real"] or 1), length=1)
        how["image_size"] = self.image_size
        limits = dict(length=MAX_FRAMES, image_size=4096)
        if how["size"] is not None:
            limits["size"] = 4096
        in_range = [isinstance(how[k], int) and 1 <= how[k] <= limits[k] for k in limits]
        if (
            not all(in_range)
            or not (isinstance(how["count"], int) and how["count"] >= 1)
            or how["length"] % self.frames
            or not 0.1 <= how["scale"] <= 10
            or how["sampling"] not in ("frames", "clips")
            or how["format"] not in ("png", "jpg")
            or how["detector"] not in ("dlib", "mtcnn")
            or how["align"] not in (None, "landmarks")
        ):
            raise ValueError(f"{how}, for {self.frames} frames at a time")
        how["count"] = min(how["count"], MAX_FRAMES // how["length"])
        return how

    def score(self, crops):
        """Logits of fake minus real of crops or clips: uint8 (N, T, S, S, 3) -> (N, n) float64.

        n = T / self.frames: a network of single frames scores each frame of a clip.
        """
        import torch

        clips = torch.from_numpy(crops).permute(0, 1, 4, 2, 3)
        samples = clips.reshape(-1, self.frames, *clips.shape[2:])
        logits = []
        with torch.inference_mode():
            for part in samples.split(max(1, 32 // self.frames)):
                logits.append(margin(self.forward(part.to(self.device)).float().cpu()))
        return np.concatenate(logits).reshape(len(clips), -1)

    def activation_maps(self, clips):
        """Activation maps at the size of the faces: uint8 (N, T, S, S, 3) -> (N, T, S, S)."""
        import torch

        from networks.maps import full_size_maps

        clips = torch.from_numpy(clips).permute(0, 1, 4, 2, 3).to(self.device) / 255
        return full_size_maps(self.maps, clips)

    def summary(self):
        """What a user should know before trusting its verdicts, in one line."""
        roles = {}
        for entry in self.data:
            roles.setdefault(entry["role"], []).append(entry["set"])
        trained = "; ".join(f"{role} {', '.join(sets)}" for role, sets in roles.items())
        validated = "not validated"
        if self.validation:
            validated = (
                f"on its {self.validation['videos']} validation videos "
                f"AUC {percent(self.validation['auc'])}, "
                f"equal error rate {percent(self.validation['eer'])}"
            )
        threshold = f"threshold {score_text(self.threshold)}"
        if not self.calibrated:
            threshold += " (not calibrated: no validation videos of both classes)"
        return f"{trained or 'its training data are not recorded'}; {validated}; {threshold}"


def find_extractor(content, path, given):
    """The checkpoint that made the features of a checkpoint of stage 04.

    It is `given` (--extractor) or the file that the checkpoint names, with the same SHA-256.
    """
    record = content.get("extractor")
    if not (isinstance(record, dict) and isinstance(record.get("path"), str)):
        record = None
    if not record and not given:
        fail(
            f"{path} does not say which extractor made its features: give --extractor FILE, "
            "model.pt of stage 02 or 05"
        )
    file = Path(given or record["path"])
    if not given:
        # A relative path is that from the folder of the training, which is above the checkpoint.
        places = [place / file for place in (Path(), *Path(path).resolve().parents)]
        file = next((place for place in places if place.is_file()), file)
    if not file.is_file():
        fail(f"{file}, which made the features of {path}, does not exist: give --extractor FILE")
    if record and sha256(file) != record.get("sha256"):
        fail(
            f"{file} is not the extractor that made the features of {path}, or has changed since: "
            "give --extractor FILE"
        )
    return file


def find_videos(arguments, crops):
    """Videos and photos among files and folders of the command line, each once, in their order.

    With `crops`, folders that hold images are taken instead of the single images. Returns them, and
    how many pictures of earlier runs were left out of folders.
    """
    paths = []
    pictures = 0
    for argument in arguments:
        if not os.path.isdir(argument):
            paths.append(argument)
            continue
        inside = layouts.find_crops(argument) if crops else []
        inside += layouts.find_videos(argument, photos=not crops)
        taken = [path for path in inside if not holds_pictures(path)]
        if not taken:
            fail(f"{argument} holds no videos or photos, by the endings of their names")
        pictures += len(inside) - len(taken)
        paths += taken
    return list({os.path.abspath(path): path for path in paths}.values()), pictures


def holds_pictures(path):
    """Whether a file, or every image in a folder, is a picture that this script has made."""
    return all(map(is_picture, image_files(path) if path.is_dir() else [path]))


def check_outputs(out, pictures, inputs):
    """Exit with an error if a file that will be written is an input, by whatever name or link.

    inputs: files, and folders of crops, into which nothing is written either.
    """

    def identity(path):
        with contextlib.suppress(OSError):
            found = os.stat(path)
            return found.st_dev, found.st_ino

    taken = {identity(path): path for path in inputs}
    names = ("index.html", "verdicts.csv", "verdicts.json", *pictures)
    for path in (out, *(out / start for name in names for start in (name, f".part-{name}"))):
        if identity(path) and identity(path) in taken:
            fail(
                f"the output {path} would replace the input {taken[identity(path)]}: "
                "give another --out"
            )


def follow_all(videos, extractions, workers):
    """Follow the people in all videos: yields (video, what `follow` returns) in their order.

    A worker process that dies, as the system ends those that exhaust the memory, costs its video
    alone. At most 2 * workers videos are in progress or queued, because their faces are held in
    memory.
    """
    waiting, left = deque(), deque(videos)
    while left:
        try:
            with worker_pool(min(workers, len(left))) as pool:
                while left or waiting:
                    while left and len(waiting) < 2 * workers:
                        future = pool.submit(follow, left[0]["path"], extractions)
                        waiting.append((left.popleft(), future))
                    found = waiting[0][1].result()
                    yield waiting.popleft()[0], found
        except BrokenProcessPool:
            # This ended all that was in progress. Which video did it, each shows by itself.
            while waiting:
                video, future = waiting.popleft()
                is_done = future.done() and not future.exception()
                yield video, future.result() if is_done else follow_alone(video, extractions)


def follow_alone(video, extractions):
    """What `follow` returns, from a process of its own, which may die."""
    try:
        with worker_pool(1) as pool:
            return pool.submit(follow, video["path"], extractions).result()
    except BrokenProcessPool:
        reason = "the process that looked for faces in it died, perhaps out of memory"
        return dict(verdict="unreadable", reason=reason)


def judge(detectors, extractions, samples):
    """Score one person, whose samples are as `follow` returns them.

    Returns {"score", "threshold", "by": [{"checkpoint", "score", "threshold", "samples",
    "verdict"}], "without": checkpoints without a score, "verdict", "faces": number of frames}.
    """
    by, without = [], []
    for detector in detectors:
        own = [rest for k, *rest in samples if extractions[k] == detector.extraction]
        if not own:
            # The network takes clips, and this person was seen in single frames only.
            without.append(str(detector.path))
            continue
        logits = detector.score(np.stack([crops for _, _, crops in own]))
        if not np.isfinite(logits).all():
            fail(
                f"the output of {detector.path} is not a finite number: the checkpoint may be "
                "damaged; train it again"
            )
        scores, logits = sigmoid(logits).mean(1), logits.mean(1)
        scored = [
            dict(frame=first, box=list(map(int, box)), score=float(score), logit=float(logit))
            for (first, box, _), score, logit in zip(own, scores, logits)
        ]
        # A person's score is the mean, as that of a video is (FeatureTransfer 4.5).
        by.append(
            dict(
                checkpoint=str(detector.path),
                score=float(scores.mean()),
                threshold=detector.threshold,
                samples=scored,
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
    numbers = set()
    for k, first, *_ in samples:
        numbers.update(range(first, first + extractions[k]["length"]))
    person["faces"] = len(numbers)
    return person


def judge_video(video, found, detectors, extractions, out):
    """The result of a video, an entry of verdicts.json. Draws its picture if it has a face."""
    result = dict(
        path=str(video["path"]),
        demonstration=any(detector.demonstration for detector in detectors),
        frames=found.get("frames"),
        seconds=found.get("seconds"),
        people=[],
    )
    if "reason" in found:
        return result | found
    if not found["people"]:
        reason = f"none in {found['looked']} frames or clips, upright or turned"
        return result | dict(verdict="no face found", reason=reason)
    for k, samples in enumerate(found["people"], 1):
        result["people"].append(dict(person=k, **judge(detectors, extractions, samples)))
    verdicts = [person["verdict"] for person in result["people"]]
    result["verdict"] = "fake" if "fake" in verdicts else "real"
    result["left_out"], result["turned"] = found["left_out"], found["turned"]
    too_short = [extractions[k] for k in found["too_short"]]
    result["needs_video"] = [str(d.path) for d in detectors if d.extraction in too_short]
    result["picture"] = video["picture"]
    draw_verdict(out / result["picture"], result, found["people"], detectors, extractions)
    return result


def main():
    args = parse_args()
    from running.devices import choose_device, choose_precision, describe_device  # imports torch

    log = sys.stderr if args.json else sys.stdout
    device = choose_device(args.device)
    paths, pictures = find_videos(args.videos, args.ready_crops)
    choose_precision("fp32", device)
    detectors = [Detector(path, args.extractor, device) for path in dict.fromkeys(args.checkpoint)]
    extractions = []
    for detector in detectors:
        if args.ready_crops:
            detector.extraction["detector"] = "none"
        if detector.extraction not in extractions:
            extractions.append(detector.extraction)
    if any(extraction["detector"] == "mtcnn" for extraction in extractions):
        check_mtcnn("cpu")
    for detector in detectors:
        print(printable(f"{detector.path}: {detector.summary()}"), file=log)
    if pictures:
        print(f"left out, as pictures of earlier verdicts: {pictures}", file=log)
    descriptions = set()
    for extraction in extractions:
        count, length = extraction["count"], extraction["length"]
        descriptions.add(f"{count} frames" if length == 1 else f"{count} clips of {length} frames")
    what = "file" if any(map(is_photo, paths)) else "video"
    number = f"1 {what}" if len(paths) == 1 else f"{len(paths)} {what}s"
    print(
        f"{number}, {' and '.join(sorted(descriptions))} of each; "
        f"{describe_device(device, 'fp32')}, {args.workers} "
        "worker processes. Fakes of other kinds than those of the training may pass as real.\n",
        file=log,
        flush=True,
    )
    videos = [layouts.make_video(path, 0, "") for path in paths]
    splits.name_videos(videos)
    for video in videos:
        video["picture"] = video["name"] + PICTURE
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the output folder {args.out} ({error.strerror}): give another --out")
    inputs = [*paths, *args.checkpoint, *filter(None, [args.extractor])]
    inputs += [file for path in paths if path.is_dir() for file in path.iterdir()]
    check_outputs(args.out, [video["picture"] for video in videos], inputs)

    results, rows = [], []
    try:
        with contextlib.closing(follow_all(videos, extractions, args.workers)) as followed:
            bar = progress(followed, total=len(videos), unit="video")
            for video, found in bar:
                results.append(judge_video(video, found, detectors, extractions, args.out))
                rows.append(page_rows(results[-1], found.get("people", [])))
                bar.write("\n".join(verdict_lines(results[-1])), file=log)
    finally:
        # However the loop ends, what is done is kept.
        if results:
            write_verdicts(args.out, results, detectors)
            write_page(args.out / "index.html", rows, results, detectors)
    if args.json:
        print((args.out / "verdicts.json").read_text(encoding="utf-8"), end="")
    counts = Counter(result["verdict"] for result in results).most_common()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts)
    print(f"\n{number}: {summary}; pictures and tables in {printable(args.out)}", file=log)


if __name__ == "__main__":
    run_script(main)

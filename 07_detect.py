#!/usr/bin/env python3
"""Stage 07: is this video or photo fake? A verdict for every person in it, by trained checkpoints.

    python 07_detect.py clip.mp4 --checkpoint MesoInception_DF.h5 --out verdicts   # docs/data.md
    python 07_detect.py clip.mp4 --checkpoint runs/CLRNet-merge/model.pt --out verdicts
    python 07_detect.py photo.jpg --checkpoint runs/extractor/model.pt --out verdicts
    python 07_detect.py downloads/ clip.mov --checkpoint A/model.pt B/model.pt --out verdicts --json

    # In seconds on a CPU after ./demo.sh; the verdict means nothing, as demo videos are generated:
    python 07_detect.py clip.mp4 --checkpoint demo/runs/CLRNet-merge/model.pt --out verdicts

Faces are taken from a video as they were from the checkpoint's training data: the checkpoint knows
which frames, and how large a crop. Every sampled frame or clip is scored, and a person's score is
the mean (FeatureTransfer 4.5). A photo is a video of one frame: JPEG, PNG, WebP, BMP and TIFF, and
HEIC if pillow-heif is installed. Prints one line per person, and writes to OUT:

    verdicts.csv    one row per video, person and checkpoint: verdict, score, thresholds and their
                    error rates, number of faces; with several checkpoints, also a row for their
                    mean
    verdicts.json   the same with the score of every frame or clip, its logit (but of the clips of a
                    network of single frames), and what the checkpoints were trained on
    index.html      a page with a row per person, the highest scores first, to be filtered by
                    verdict; only its links to the pictures need other files
    NAME.verdict.png
                    for each video with a face: scores over time, and the faces with the highest and
                    lowest scores of the first checkpoint, with activation maps

No output replaces an input, and folders are searched without the pictures of earlier runs.

A verdict is one of:

    fake, real      the score is at or above the upper threshold, or below the lower one. Of the
                    checkpoint's validation videos (for stage 04, those of its source, not of the
                    target), at most 5 % of the reals are at or above the upper one, and at most 5 %
                    of the fakes are below the lower one
    uncertain       the score is between the two thresholds. If they cross, or with fewer than 20
                    real or 20 fake validation videos, too few to estimate 5 %, there is one
                    threshold, at which the error rates are equal, and no verdict is uncertain.
                    Without validation videos of both classes it is 0.5. The output mentions both
    no face found   nothing was scored, which says nothing about the video
    needs a video   all checkpoints take several consecutive frames, and this is a photo or too
                    short. With several checkpoints, the others decide
    unreadable      ffmpeg or Pillow cannot read the file, or the process that reads it dies; the
                    reason is given

A video is fake if a person in it is, otherwise uncertain if a person is. With several checkpoints,
the mean of their scores is compared with the means of their thresholds, where a single threshold
counts as the upper and the lower one.

Scores are only meaningful for videos like those of the training. With an unknown manipulation,
compression or camera, fakes pass as real and real videos as fakes.

Choices that the papers do not describe:

    same person     a face belongs to the person whose last face was nearer than the side of the
                    larger of the two and had half to twice its size, so a cut can turn one person
                    into two, or two into one. Left out are those who appear less than a tenth as
                    often as the most frequent person, or only once if that person appears more than
                    three times; verdicts.json counts these faces
    crowds          the twenty largest faces of a frame
    small faces     stage 01 stops at the first scale with a face; here larger scales are searched
                    too, for other people
    frames          as many as in training, at most 1,000 of a video; where training took more of
                    real videos (--num-frames-real), that many
    precision       float32, whatever the training used
    few faces       if fewer than half of the frames show a face, three frames are searched turned
                    by 90, 180 and 270 degrees. If the detector is sure of a face in half of them,
                    and of more than upright, the video is judged turned, which the output mentions
    ready crops     a checkpoint that was trained on crops of others does not know how they were
                    cut: other videos are cropped by stage 01's defaults
"""

import contextlib
import io
import math
import os
import sys
from collections import Counter, deque, namedtuple
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

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
from media.detectors import all_faces, check_mtcnn, detect_mtcnn, face_near, find_turn, turn_frame
from media.photos import Unreadable, image_numbers
from media.video import count_frames, find_crops, find_videos, read_frames
from reporting.metrics import VERDICTS, thresholds, verdict_of
from reporting.verdict import (
    check_outputs,
    count_verdicts,
    describe,
    draw_verdict,
    is_picture,
    page_rows,
    picture_name,
    verdict_lines,
    write_verdict_page,
    write_verdicts,
)
from running.folder import find_extractor, read_record
from running.processes import map_in_workers, run_script

# How stage 01 takes faces: its sampling, box and crop.
stage_01 = import_module("01_extract_faces")
# The most frames of a video that are scored: their crops are held in memory.
MAX_FRAMES = 1000
# Of the faces in a frame, only the largest are followed.
MAX_FACES = 20


def parse_args():
    usage = "%(prog)s VIDEO [VIDEO ...] --checkpoint FILE [FILE ...] --out DIR [options]"
    parser = Parser(__doc__, usage)
    add = parser.add_argument_group("data").add_argument
    text = "videos, photos, or folders that are searched for them"
    add("videos", type=Path, nargs="+", metavar="VIDEO", help=text)
    text = (
        "files are crops of faces and taken as they are; a folder of images is one video, its "
        "frames in the order of the numbers in their names"
    )
    add("--ready-crops", action="store_true", help=text)
    text = (
        "folder for index.html, verdicts.csv, verdicts.json and one picture per video; files of an "
        "earlier run are overwritten"
    )
    add("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "print verdicts.json on standard output, and everything else on standard error"
    add("--json", action="store_true", help=text)
    add = parser.add_argument_group("model").add_argument
    text = "model.pt of stages 02, 04 or 05, or published weights of MesoInception4 (.h5)"
    add("--checkpoint", type=Path, nargs="+", required=True, metavar="FILE", help=text)
    text = (
        "for checkpoints of stage 04: the model.pt that made their features (default: where it was "
        "in training)"
    )
    add("--extractor", type=Path, metavar="FILE", help=text)
    add_system_flags(
        parser, workers="processes that look for faces", device=True, allow_changes=False
    )
    args = parser.parse_args()
    if args.workers < 1:
        fail("--workers must be 1 or more")
    return args


# ---------------------------------------------------------------- the people in a video

# `extractions` is a list of how the faces of each checkpoint are taken, see `find_extraction`. A
# sample is a single frame or a clip of T frames: the person's number, the number of the extraction,
# the first frame, the box of the face, and the crops, uint8 (T, S, S, 3).
Sample = namedtuple("Sample", "person extraction first box crops")


def plan_samples(numbers, extractions):
    """What to take of a video: [(last frame, first frame, number of the extraction)], in order.

    numbers: the numbers of its frames. The frames returned are positions in them.
    """
    planned = []
    for k, extraction in enumerate(extractions):
        count, length = extraction["count"], extraction["length"]
        if extraction["sampling"] == "frames":
            starts = stage_01.equal_intervals(len(numbers), count)
        else:
            starts = stage_01.clip_starts_in_runs(numbers, count, length)
        if not starts and extraction["frames"] == 1:
            # A network of single frames that was trained on those of clips.
            starts, length = stage_01.equal_intervals(len(numbers), count), 1
        planned += [(start + length - 1, start, k) for start in starts]
    return sorted(planned)


def box_distance(a, b):
    """Distance of the centers of two boxes (left, top, right, bottom) in sides of the larger one.

    Infinite if one box is more than twice as large as the other.
    """
    sides = [max(box[2] - box[0], box[3] - box[1]) for box in (a, b)]
    if max(sides) > 2 * min(sides):
        return math.inf
    return math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2 / max(sides)


def assign(boxes, last_seen):
    """Decide which person each box of a frame belongs to; returns a list of numbers.

    last_seen: the last box of each person, which this updates. The closest pairs of box and person
    are matched first. A box that is a side or more away from everybody is a new person.
    """
    pairs = sorted(
        (box_distance(box, seen), k, person)
        for k, box in enumerate(boxes)
        for person, seen in enumerate(last_seen)
    )
    persons = [None] * len(boxes)
    for distance, k, person in pairs:
        if distance < 1 and persons[k] is None and person not in persons:
            persons[k] = person
    for k, box in enumerate(boxes):
        if persons[k] is None:
            persons[k] = len(last_seen)
            last_seen.append(box)
        last_seen[persons[k]] = box
    return persons


def crop(images, box, extraction):
    """The crops of a face as a network is given them: a list of T images -> (T, S, S, 3) uint8.

    box: None for ready crops, which may differ in size.

    They take the same steps as in stage 01 and in the loading of images for training: crop, resize
    where 01 did, compress where it saved JPEG files, and resize to S.
    """
    crops = []
    for image in images:
        face = stage_01.crop_face(image, box or (0, 0, *image.shape[1::-1]), extraction["size"])
        if extraction["format"] == "jpg":
            file = io.BytesIO()
            stage_01.save_crop(face, file, "jpg")
            face = Image.open(file).convert("RGB")
        input_size = 2 * (extraction["image_size"],)
        if face.size != input_size:
            face = face.resize(input_size, Image.Resampling.BICUBIC)
        crops.append(np.asarray(face))
    return np.stack(crops)


def find_people(path, planned, extractions, turned=0):
    """Detect, tell apart and crop the faces of the planned samples.

    `turned`: by how many degrees clockwise each frame is turned first. Where the detector is "none"
    (ready crops), each whole frame is a face of one person.

    Returns how many frames and clips were searched, and the `Sample`s. One is skipped if a frame of
    it cannot be decoded.
    """
    due = deque(planned)
    needed = sorted({n for last, first, _ in planned for n in range(first, last + 1)})
    longest = max(extraction["length"] for extraction in extractions)
    searched, samples = 0, []
    images = {}  # those that a sample may still need, by frame number
    last_seen = []  # box of each person, in any sample
    last_boxes = {}  # box by extraction and person

    @cache
    def detect(number, detector, align):
        if detector == "dlib":
            return all_faces(images[number])[:MAX_FACES]
        return detect_mtcnn([images[number]], "cpu", align)[0][:MAX_FACES]

    for number, frame in read_frames(path, needed):
        images[number] = turn_frame(frame, turned)
        while due and due[0][0] <= number:
            last, first, k = due.popleft()
            numbers, extraction = range(first, last + 1), extractions[k]
            if not images.keys() >= set(numbers):
                continue
            clip = [images[n] for n in numbers]
            size = clip[0].shape[1::-1]
            searched += 1
            if extraction["detector"] == "none":
                samples.append(Sample(0, k, first, (0, 0, *size), crop(clip, None, extraction)))
                continue
            # The frame in the middle of a clip is searched first, then those around it.
            middle = first + len(clip) // 2
            for n in sorted(numbers, key=lambda n: (abs(n - middle), n)):
                boxes = detect(n, extraction["detector"], extraction["align"])
                if boxes:
                    break
            for box, person in zip(boxes, assign(boxes, last_seen)):
                # Stage 01 first looks near the last face, so this does the same to get its box.
                previous = last_boxes.get((k, person))
                if previous and extraction["detector"] == "dlib":
                    near = face_near(images[n], previous)
                    if near and box_distance(near, box) < 0.5:
                        box = near
                last_boxes[k, person] = box
                square = stage_01.square_box(box, extraction["scale"], *size)
                samples.append(Sample(person, k, first, square, crop(clip, square, extraction)))
        images = {n: image for n, image in images.items() if n > number - longest}
    return searched, samples


def follow(path, extractions):
    """Find and follow the people in a video; runs in a worker process.

    Returns a dict, or {"verdict", "reason"} if there is nobody to judge:

        frames, seconds: the length of the video.
        turned: by how many degrees it was turned clockwise, or 0.
        people: a list of `Sample`s for each person, the most frequent person first.
        left_out: how many samples belong to people who hardly appear.
    """
    try:
        frames, seconds = count_frames(path, True)
        numbers = range(frames)
        if path.is_dir() and extractions[0]["detector"] == "none":
            numbers = image_numbers(path)
        planned = plan_samples(numbers, extractions)
        if not planned:
            length = min(extraction["length"] for extraction in extractions)
            reason = f"no {length} consecutive frames in it, which the network takes"
            return dict(verdict="needs a video", reason=reason)
        searched, samples = find_people(path, planned, extractions)
        shown = len({(sample.extraction, sample.first) for sample in samples})
        detectors = sorted({extraction["detector"] for extraction in extractions} - {"none"})
        turns = (find_turn(path, frames, shown, searched, detector) for detector in detectors)
        turned = next(filter(None, turns), 0)
        if turned:
            searched, samples = find_people(path, planned, extractions, turned)
    except Unreadable as error:
        return dict(verdict="unreadable", reason=str(error))
    except (ValueError, RuntimeError, MemoryError, OSError) as error:
        # Pillow, dlib or MTCNN failed, or a program could not be started.
        reason = ascii(f"{type(error).__name__}: {error}")[1:-1]
        return dict(verdict="unreadable", reason=reason)
    if not searched:
        return dict(verdict="unreadable", reason="no clip of it could be decoded whole")
    times = Counter(sample.person for sample in samples)
    most = max(times.values(), default=0)
    if most < searched / 10:
        # A detector also finds faces where there are none.
        reason = f"a face in {most} of {searched} frames or clips, upright or turned"
        return dict(verdict="no face found", reason=reason, frames=frames, seconds=seconds)
    # Whoever appears less than a tenth as often as the most frequent person may be no person.
    fewest = max(most / 10, 2 if most > 3 else 1)
    people = [
        [s._replace(first=numbers[s.first]) for s in samples if s.person == person]
        for person, count in times.most_common()
        if count >= fewest
    ]
    return dict(
        frames=numbers[-1] + 1,
        seconds=seconds,
        turned=turned,
        people=people,
        left_out=len(samples) - sum(map(len, people)),
    )


# ---------------------------------------------------------------- scores


class Detector:
    """A checkpoint of stage 02, 04 or 05, or a published file of weights, ready to score faces.

    Exits with an error if a file does not fit.

    Args:
        extractor: for a checkpoint of stage 04, the checkpoint that made its features; None if it
            is where it was in training.
        stages: those whose checkpoints are accepted.

    Attributes:
        data: what it was trained on, as `running.folder.describe_data` returns it.
        demonstration: whether there were generated videos among these.
        validation: as `metrics.validate` returned it, or None.
        thresholds: as `metrics.thresholds` returns them. calibrated: whether they come from data.
        frames: how many the network takes at a time. image_size: their side in pixels.
        recorded: the flags of stage 01 in the checkpoint. extraction: see `find_extraction`.
    """

    def __init__(self, path, extractor, device, stages=("02", "04", "05")):
        # Imported here, like torch below, so that --help and the worker processes start quickly.
        from networks.baselines import NETWORKS
        from networks.extractor import Extractor
        from networks.weights import published_checkpoint
        from running.run import load_checkpoint, rebuild

        if Path(path).suffix.lower() in (".h5", ".hdf5"):
            content = published_checkpoint(path)
        else:
            content = load_checkpoint(path, *stages)
        self.path, self.device, self.stage = Path(path), device, content["stage"]
        self.data, self.recorded, self.validation = read_record(content, path)
        if self.stage == "02":
            network = Extractor
        elif self.stage == "05":
            network = NETWORKS.get(str(content.get("network")))
        else:
            network = import_module("04_train_bpdann").BPDANN
            file = find_extractor(content.get("extractor"), path, extractor)
            self.below = Detector(file, None, device, ("02", "05"))
            self.data += self.below.data
            self.recorded = self.recorded or self.below.recorded
        if not network:
            fail(f"{path} holds a network that this version does not know: train it again with 05")
        self.net = rebuild(network, content, path).to(device).eval()
        bottom = self.below if self.stage == "04" else self.net
        self.frames, self.image_size = getattr(bottom, "frames", 1), bottom.image_size
        self.extraction = find_extraction(self.recorded, self.frames, self.image_size)
        self.demonstration = any(entry["extraction"].get("generated") for entry in self.data)
        self.thresholds = thresholds(self.validation)
        self.calibrated = not math.isnan((self.validation or {}).get("threshold", math.nan))

    def inputs(self, clips):
        """uint8 clips (N, T, 3, S, S) as the network of stage 02 or 05 takes them."""
        return clips / 255 if self.stage == "05" else clips[:, 0]

    def features(self, clips):
        """uint8 clips (N, T, 3, S, S) -> features (N, D)."""
        return self.net.features(self.inputs(clips))

    def forward(self, clips):
        """uint8 clips (N, T, 3, S, S) -> (N, 2) logits: real, fake."""
        if self.stage == "04":
            return self.net(self.below.features(clips))
        return self.net(self.inputs(clips))

    def maps(self, clips, head=None):
        """uint8 clips (N, T, 3, S, S) -> activation maps (N, T, h, w), see `networks.extractor`."""
        if self.stage == "04":
            return self.below.maps(clips, self.net)
        maps = self.net.activation_maps(self.inputs(clips), head)
        return maps if self.stage == "05" else maps[:, None]

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

    def activation_maps(self, crops):
        """Activation maps at the size of the faces: uint8 (N, T, S, S, 3) -> (N, T, S, S)."""
        import torch

        from networks.extractor import full_size_maps

        clips = torch.from_numpy(crops).permute(0, 1, 4, 2, 3).to(self.device)
        return full_size_maps(self.maps, clips)


def find_extraction(recorded, frames, image_size):
    """How the faces for a network are taken: as stage 01 took those of its training data.

    A network of several frames whose data are not recorded gets clips of as many frames, about 80
    frames of a video in all.

    Args:
        recorded: flags of common.EXTRACTION, {} if there are none.
        frames, image_size: how many frames the network takes at a time, and their side in pixels.

    Returns a dict of these flags, frames, image_size, and how many samples (count) of how many
    frames (length) are taken.
    """
    how = EXTRACTION | recorded
    if not recorded and frames > 1:
        how.update(sampling="clips", num_clips=max(1, 80 // frames), clip_length=frames)
        how.update(size=CLIP_SIZE)
    if how["detector"] == "none":
        how.update(detector="dlib", scale=EXTRACTION["scale"])
    how.update(count=max(how["num_frames"], how["num_frames_real"] or 1), length=1)
    if how["sampling"] == "clips":
        how.update(count=how["num_clips"], length=how["clip_length"])
    if how["length"] % frames:
        fail(
            f"a network of {frames} frames was trained on {how['length']} at a time, according to "
            "its checkpoint"
        )
    count = min(how["count"], MAX_FRAMES // how["length"])
    return how | dict(count=count, frames=frames, image_size=image_size)


def judge(detectors, extractions, samples):
    """Score one person, whose samples are as `follow` returns them.

    Returns a dict:

        verdict, score, threshold, real_below, fake_from: the last four are means of those in `by`.
        by: a dict of checkpoint, samples, and these five, for each checkpoint with a score.
        without: checkpoints without a score.
        faces: number of frames.
    """
    by, without = [], []
    for detector in detectors:
        own = [s for s in samples if extractions[s.extraction] == detector.extraction]
        if not own:
            # The network takes clips, and this is a photo, or the person was never seen for one.
            without.append(str(detector.path))
            continue
        logits = detector.score(np.stack([sample.crops for sample in own]))
        if not np.isfinite(logits).all():
            fail(f"the output of {detector.path} is not a finite number: train it again")
        scores = sigmoid(logits).mean(1)
        scored = [
            dict(frame=sample.first, box=list(map(int, sample.box)), score=float(score))
            for sample, score in zip(own, scores)
        ]
        # A network of single frames scores each frame of a clip: several logits.
        if logits.shape[1] == 1:
            scored = [a | dict(logit=float(logit)) for a, (logit,) in zip(scored, logits)]
        # A person's score is the mean, as that of a video is (FeatureTransfer 4.5).
        result = dict(score=float(scores.mean()), **detector.thresholds, samples=scored)
        by.append(dict(checkpoint=str(detector.path), **result))
    numbers = ("score", "threshold", "real_below", "fake_from")
    person = {key: float(np.mean([result[key] for result in by])) for key in numbers}
    for result in (person, *by):
        result["verdict"] = verdict_of(result)
    frames = {s.first + n for s in samples for n in range(len(s.crops))}
    return person | dict(by=by, without=without, faces=len(frames))


def judge_video(video, people, detectors, extractions, out):
    """The result of a video, an entry of verdicts.json. Draws its picture if it has a face.

    people: what `follow` returns; None if the process that followed them died.
    """
    if people is None:
        reason = "the process that looked for faces in it died, perhaps out of memory"
        people = dict(verdict="unreadable", reason=reason)
    result = dict(
        path=str(video["path"]),
        demonstration=any(detector.demonstration for detector in detectors),
        frames=people.get("frames"),
        seconds=people.get("seconds"),
        people=[],
    )
    if "reason" in people:
        return result | people
    for k, samples in enumerate(people["people"], 1):
        result["people"].append(dict(person=k, **judge(detectors, extractions, samples)))
    verdicts = [person["verdict"] for person in result["people"]]
    result["verdict"] = max(verdicts, key=VERDICTS.index)
    result["left_out"], result["turned"] = people["left_out"], people["turned"]
    result["picture"] = picture_name(video)
    draw_verdict(out / result["picture"], result, people["people"], detectors, extractions)
    return result


# ---------------------------------------------------------------- the command


def find_files(arguments, crops):
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
        inside = find_crops(argument) if crops else []
        inside += find_videos(argument, photos=not crops)
        taken = [path for path in inside if not is_picture(path)]
        if not taken:
            fail(f"{argument} holds no videos or photos, by the endings of their names")
        pictures += len(inside) - len(taken)
        paths += taken
    return list({os.path.abspath(path): path for path in paths}.values()), pictures


def main():
    args = parse_args()
    from running.devices import choose_device, choose_precision, describe_device  # imports torch

    log = sys.stderr if args.json else sys.stdout
    device = choose_device(args.device)
    paths, pictures = find_files(args.videos, args.ready_crops)
    choose_precision("fp32", device)  # switches TF32 off
    detectors = [Detector(path, args.extractor, device) for path in dict.fromkeys(args.checkpoint)]
    extractions = []
    for detector in detectors:
        if args.ready_crops:
            detector.extraction["detector"] = "none"
        if detector.extraction not in extractions:
            extractions.append(detector.extraction)
        print(describe(detector), file=log)
    if any(extraction["detector"] == "mtcnn" for extraction in extractions):
        check_mtcnn("cpu")
    if pictures:
        print(f"left out, as pictures of earlier verdicts: {pictures}", file=log)
    print(
        f"videos and photos: {len(paths)}; {describe_device(device, 'fp32')}, {args.workers} "
        "worker processes. Fakes of other kinds than those of the training may pass as real.\n",
        file=log,
        flush=True,
    )
    videos = [layouts.make_video(path, 0, "") for path in paths]
    splits.name_videos(videos)
    check_outputs(args.out, videos, [*args.checkpoint, *filter(None, [args.extractor])])

    results, rows = [], []
    followed = map_in_workers(partial(follow, extractions=extractions), paths, args.workers)
    bar = progress(zip(videos, followed), total=len(videos), unit="video")
    try:
        with contextlib.closing(followed):
            for video, people in bar:
                results.append(judge_video(video, people, detectors, extractions, args.out))
                rows += page_rows(results[-1], (people or {}).get("people", []))
                bar.write("\n".join(verdict_lines(results[-1])), file=log)
    finally:
        # Finished results are written even if the loop is interrupted.
        if results:
            write_verdicts(args.out, results, detectors)
            write_verdict_page(args.out / "index.html", rows, results, detectors)
    if args.json:
        print((args.out / "verdicts.json").read_text(encoding="utf-8"), end="")
    counts = count_verdicts(results)
    print("\n" + printable(f"{counts}; page, pictures and tables in {args.out}"), file=log)


if __name__ == "__main__":
    run_script(main)

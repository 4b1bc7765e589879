"""Several people in one video, for 07_detect.py: which face belongs to whom.

`extractions` says how the faces of each checkpoint are taken. It is a list of dicts, each with the
flags of common.EXTRACTION, the `count` of its samples (single frames or clips), their `length` in
frames, and the `image_size` of its network in pixels.
"""

import io
import math
from collections import Counter, deque
from importlib import import_module

import numpy as np
from PIL import Image

from media.detectors import all_faces, detect_mtcnn, face_near, find_turn, turn_frame
from media.photos import Unreadable, image_numbers
from media.video import count_frames, read_frames

faces = import_module("01_extract_faces")

# Of the faces in a frame, only the largest are followed.
MAX_FACES = 20


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


def follow(path, extractions):
    """Find and follow the people in a video; runs in a worker process.

    Returns a dict: frames and seconds of the video; turned, by how many degrees clockwise, if only
    so it shows a face; looked, how many frames or clips were searched; people, the most frequent
    one first, each a list of samples (number of the extraction, first frame, box, crops of its T
    frames); left_out, how many samples belong to people who hardly appear; too_short, the numbers
    of the extractions whose clips are longer than the video. Or {"verdict", "reason"} if it cannot
    be read or is too short for all of them.
    """
    try:
        frames, seconds = count_frames(path, True)
        numbers = range(frames)
        if path.is_dir() and extractions[0]["detector"] == "none":
            numbers = image_numbers(path)
        planned = plan_samples(numbers, extractions)
        short = set(range(len(extractions))) - {k for _, _, k in planned}
        if not planned:
            length = min(extraction["length"] for extraction in extractions)
            reason = f"no {length} consecutive frames in it, which the network takes"
            return dict(verdict="needs a video", reason=reason)
        turned = 0
        looked, samples = find_people(path, planned, extractions)
        shown = len({(k, first) for _, k, first, _, _ in samples}), looked
        detectors = sorted({extraction["detector"] for extraction in extractions} - {"none"})
        turns = (find_turn(path, frames, *shown, detector) for detector in detectors)
        turned = next(filter(None, turns), 0)
        if turned:
            looked, samples = find_people(path, planned, extractions, turned)
    except Unreadable as error:
        return dict(verdict="unreadable", reason=str(error))
    except (ValueError, RuntimeError, MemoryError) as error:
        # Pillow, dlib or MTCNN failed.
        reason = ascii(f"{type(error).__name__}: {error}")[1:-1]
        return dict(verdict="unreadable", reason=reason)
    if not looked:
        return dict(verdict="unreadable", reason="no clip of it could be decoded completely")
    times = Counter(person for person, *_ in samples)
    most = max(times.values(), default=0)
    # Whoever appears less than a tenth as often as the most frequent person may be no person.
    fewest = max(most / 10, 2 if most > 3 else 1)
    kept = [person for person, count in times.most_common() if count >= fewest]
    people = [
        [(k, numbers[first], box, crops) for owner, k, first, box, crops in samples if owner == one]
        for one in kept
    ]
    left_out = len(samples) - sum(map(len, people))
    found = dict(frames=numbers[-1] + 1, seconds=seconds, turned=turned, looked=looked)
    return found | dict(people=people, left_out=left_out, too_short=short)


def plan_samples(numbers, extractions):
    """What to take of a video: [(last frame, first frame, number of the extraction)], in order.

    numbers: the numbers of its frames. The frames returned are positions in them.
    """
    planned = []
    for k, extraction in enumerate(extractions):
        count, length = extraction["count"], extraction["length"]
        if extraction["sampling"] == "frames":
            starts = faces.equal_intervals(len(numbers), count)
        else:
            starts = faces.clip_starts_in_runs(numbers, count, length)
        planned += [(start + length - 1, start, k) for start in starts]
    return sorted(planned)


def find_people(path, planned, extractions, turned=0):
    """Detect, tell apart and crop the faces of the planned samples.

    `turned`: by how many degrees clockwise each frame is turned first. Where the detector is "none"
    (ready crops), each whole frame is a face, of any size, and of one person.

    Returns how many samples were searched, and a list of (person, number of the extraction, first
    frame, box, crops). A sample is skipped if one of its frames cannot be decoded or differs in
    size.
    """
    due = deque(planned)
    needed = sorted({n for last, first, _ in planned for n in range(first, last + 1)})
    longest = max(extraction["length"] for extraction in extractions)
    looked, samples = 0, []
    held = {}  # frames that a sample may still need, by number
    detected = {}  # boxes by frame number, detector and alignment
    last_seen = []  # box of each person, in any sample
    last_boxes = {}  # box by extraction and person

    def detect(number, detector, align):
        if (number, detector, align) not in detected:
            image = held[number]
            if detector == "dlib":
                boxes = all_faces(image)
            else:
                boxes = detect_mtcnn([image], "cpu", align)[0]
            detected[number, detector, align] = boxes[:MAX_FACES]
        return detected[number, detector, align]

    for number, frame in read_frames(path, needed):
        frame = turn_frame(frame, turned)
        held[number] = frame
        while due and due[0][0] <= number:
            last, first, k = due.popleft()
            numbers, extraction = range(first, last + 1), extractions[k]
            ready = extraction["detector"] == "none"
            if any(n not in held for n in numbers):
                continue
            frames = [held[n] for n in numbers]
            if not ready and any(image.shape != frame.shape for image in frames):
                continue
            looked += 1
            if ready:
                whole = (0, 0, *frame.shape[1::-1])
                samples.append((0, k, first, whole, crop(frames, None, extraction)))
                continue
            # The frame in the middle of a clip is searched first, then those around it.
            middle = first + extraction["length"] // 2
            for n in sorted(numbers, key=lambda n: (abs(n - middle), n)):
                boxes = detect(n, extraction["detector"], extraction["align"])
                if boxes:
                    break
            for box, person in zip(boxes, assign(boxes, last_seen)):
                # Stage 01 first looks near the last face, so this does the same to get its box.
                previous = last_boxes.get((k, person))
                if previous and extraction["detector"] == "dlib":
                    near = face_near(held[n], previous)
                    if near and box_distance(near, box) < 0.5:
                        box = near
                last_boxes[k, person] = box
                square = faces.square_box(box, extraction["scale"], *frame.shape[1::-1])
                samples.append((person, k, first, square, crop(frames, square, extraction)))
        held = {n: image for n, image in held.items() if n > number - longest}
    return looked, samples


def crop(frames, box, plan):
    """The crops of a face as a network is given them, from T frames: (T, S, S, 3) uint8.

    `box`: None where each frame is a ready crop.

    They take the same steps as in stage 01 and in the loading of images for training: crop, resize
    where 01 did, compress where it saved JPEG files, and resize to S,
    plan["image_size"].
    """
    input_size = (plan["image_size"], plan["image_size"])
    crops = []
    for frame in frames:
        image = faces.crop_face(frame, box or (0, 0, *frame.shape[1::-1]), plan["size"])
        if plan["format"] == "jpg":
            file = io.BytesIO()
            faces.save_crop(image, file, "jpg")
            image = Image.open(file).convert("RGB")
        if image.size != input_size:
            image = image.resize(input_size, Image.Resampling.BICUBIC)
        crops.append(np.asarray(image))
    return np.stack(crops)

"""Several people in one video, for 07_detect.py: which face belongs to whom.

`extractions` says how the faces of each checkpoint are taken. It is a list of dicts, each with the
flags of common.EXTRACTION, the `count` of its samples (single frames or clips), their `length` in
frames, and the `image_size` of its network in pixels.
"""

import math
from collections import Counter, deque

from media.detectors import all_faces, detect_mtcnn, face_near
from media.faces import clip_starts, crop, equal_intervals, square_box
from media.video import Unreadable, count_frames, read_frames

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

    Returns a dict: frames and seconds of the video; looked, how many frames or clips were searched;
    people, the most frequent one first, each a list of samples (number of the extraction, first
    frame, box, crops of its T frames); left_out, how many samples belong to people who hardly
    appear. Or {"reason": why the video cannot be read}.
    """
    try:
        frames, seconds = count_frames(path, True)
        planned = plan_samples(frames, extractions)
        if not planned:
            shortest = min(extraction["length"] for extraction in extractions)
            return dict(reason=f"its {frames} frames are too few for a clip of {shortest}")
        looked, samples = find_people(path, planned, extractions)
    except Unreadable as error:
        return dict(reason=str(error))
    except (ValueError, RuntimeError, MemoryError) as error:
        # Pillow, dlib or MTCNN failed.
        return dict(reason=ascii(f"{type(error).__name__}: {error}")[1:-1])
    if not looked:
        return dict(reason="no clip of it could be decoded whole")
    times = Counter(person for person, *_ in samples)
    most = max(times.values(), default=0)
    # Whoever appears less than a tenth as often as the most frequent person may be no person.
    fewest = max(most / 10, 2 if most > 3 else 1)
    kept = [person for person, count in times.most_common() if count >= fewest]
    people = [[sample for owner, *sample in samples if owner == person] for person in kept]
    left_out = len(samples) - sum(map(len, people))
    return dict(frames=frames, seconds=seconds, looked=looked, people=people, left_out=left_out)


def plan_samples(frames, extractions):
    """What to take of a video: [(last frame, first frame, number of the extraction)], in order."""
    planned = []
    for k, extraction in enumerate(extractions):
        count, length = extraction["count"], extraction["length"]
        if extraction["sampling"] == "frames":
            starts = equal_intervals(frames, count)
        else:
            starts = clip_starts(frames, count, length)
        planned += [(start + length - 1, start, k) for start in starts]
    return sorted(planned)


def find_people(path, planned, extractions):
    """Detect, tell apart and crop the faces of the planned samples.

    Returns how many samples were searched, and a list of (person, number of the extraction, first
    frame, box, crops). A sample is skipped if one of its frames cannot be decoded or differs in
    size.
    """
    due = deque(planned)
    needed = sorted({n for last, first, _ in planned for n in range(first, last + 1)})
    longest = max(extraction["length"] for extraction in extractions)
    looked, samples = 0, []
    held = {}  # frames that a sample may still need, by number
    detected = {}  # boxes by frame number and detector
    last_seen = []  # box of each person, in any sample
    last_boxes = {}  # box by extraction and person

    def detect(number, detector):
        if (number, detector) not in detected:
            image = held[number]
            boxes = all_faces(image) if detector == "dlib" else detect_mtcnn([image], "cpu")[0]
            detected[number, detector] = boxes[:MAX_FACES]
        return detected[number, detector]

    for number, frame in read_frames(path, needed):
        held[number] = frame
        while due and due[0][0] <= number:
            last, first, k = due.popleft()
            numbers, extraction = range(first, last + 1), extractions[k]
            if any(n not in held or held[n].shape != frame.shape for n in numbers):
                continue
            looked += 1
            # The frame in the middle of a clip is searched first, then those around it.
            middle = first + extraction["length"] // 2
            for n in sorted(numbers, key=lambda n: (abs(n - middle), n)):
                boxes = detect(n, extraction["detector"])
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
                square = square_box(box, extraction["scale"], *frame.shape[1::-1])
                crops = crop([held[n] for n in numbers], square, extraction)
                samples.append((person, k, first, square, crops))
        held = {n: image for n, image in held.items() if n > number - longest}
    return looked, samples

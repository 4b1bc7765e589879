"""The people in a video."""

import math
from collections import Counter, deque

from media.detectors import all_faces, detect_mtcnn, face_near
from media.faces import clip_starts, crop, equal_intervals, square_box
from media.video import Unreadable, count_frames, read_frames


def near(a, b):
    """How far two boxes (left, top, right, bottom) are apart in sides of the larger; infinite where one is more than twice as large."""
    sides = [max(box[2] - box[0], box[3] - box[1]) for box in (a, b)]
    if max(sides) > 2 * min(sides):
        return math.inf
    return math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2 / max(sides)


def assign(boxes, last):
    """Give each box of a frame a person: a list of numbers. last: [box, ...] by person, where each was seen last; it is brought up to date."""
    persons, pairs = (
        [None] * len(boxes),
        sorted(
            (near(box, seen), k, person)
            for k, box in enumerate(boxes)
            for person, seen in enumerate(last)
        ),
    )
    for distance, k, person in pairs:
        if distance < 1 and persons[k] is None and person not in persons:
            persons[k] = person
    for k, box in enumerate(boxes):
        if persons[k] is None:
            persons[k] = len(last)
            last.append(box)
        last[persons[k]] = box
    return persons


def follow(path, plans):
    """Find and follow the people in a video; runs in a worker.

    plans: {"sampling", "count", "length", ...} as `Detector.make_plan` gives. Returns a dict: frames and seconds of the video; looked, how many
    frames or clips were looked at; people, for each a list of (plan number, first frame, box, crop of T frames), the most frequent person first; left_out,
    faces of those who hardly appear. Or {"reason": why it cannot be read}.
    """
    try:
        frames, seconds = count_frames(path, True)
        units = []  # (last frame, first frame, plan number)
        for k, plan in enumerate(plans):
            starts = (
                equal_intervals(frames, plan["count"])
                if plan["sampling"] == "frames"
                else clip_starts(frames, plan["count"], plan["length"])
            )
            units += [(start + plan["length"] - 1, start, k) for start in starts]
        units = deque(sorted(units))
        if not units:
            return dict(
                reason=f"its {frames} frames are too few for a clip of {min(plan['length'] for plan in plans)}"
            )
        wanted = sorted({n for end, start, _ in units for n in range(start, end + 1)})
        longest, held, known, last, seen, samples, looked = (
            max(plan["length"] for plan in plans),
            {},
            {},
            [],
            {},
            [],
            0,
        )

        def look(number, detector):
            if (number, detector) not in known:
                image = held[number]
                known[number, detector] = (
                    all_faces(image) if detector == "dlib" else detect_mtcnn([image], "cpu")[0]
                )[:20]
            return known[number, detector]

        for number, frame in read_frames(path, wanted):
            held[number] = frame
            while units and units[0][0] <= number:
                end, start, k = units.popleft()
                numbers, plan = range(start, end + 1), plans[k]
                if any(n not in held or held[n].shape != frame.shape for n in numbers):
                    continue  # a frame of it could not be decoded
                looked += 1
                middle_first = sorted(
                    numbers, key=lambda n: (abs(n - start - plan["length"] // 2), n)
                )
                shown, boxes = next(
                    (
                        (held[n], found)
                        for n in middle_first
                        if (found := look(n, plan["detector"]))
                    ),
                    (None, []),
                )
                for box, person in zip(boxes, assign(boxes, last)):
                    # 01 looks near where the plan's last frame had the face; so do we, for the same box.
                    again = (
                        face_near(shown, seen[k, person])
                        if plan["detector"] == "dlib" and (k, person) in seen
                        else None
                    )
                    box = seen[k, person] = again if again and near(again, box) < 0.5 else box
                    square = square_box(box, plan["scale"], *frame.shape[1::-1])
                    samples.append(
                        (person, k, start, square, crop([held[n] for n in numbers], square, plan))
                    )
            held = {n: image for n, image in held.items() if n > number - longest}
    except Unreadable as error:
        return dict(reason=str(error))
    except (ValueError, RuntimeError, MemoryError) as error:  # of Pillow, dlib or MTCNN
        return dict(reason=ascii(f"{type(error).__name__}: {error}")[1:-1])
    if not looked:
        return dict(reason="no clip of it could be decoded whole")
    times = Counter(person for person, *_ in samples)
    most = max(times.values(), default=0)
    kept = [
        person for person, n in times.most_common() if n >= max(most / 10, 2 if most > 3 else 1)
    ]
    people = [[sample for owner, *sample in samples if owner == person] for person in kept]
    return dict(
        frames=frames,
        seconds=seconds,
        looked=looked,
        people=people,
        left_out=len(samples) - sum(map(len, people)),
    )

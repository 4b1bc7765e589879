#!/usr/bin/env python3
"""Stage 01: find the face in frames of every video or photo of a data set and save the crops.

    python 01_extract_faces.py --layout celebdf --videos DIR --out faces/Celeb-DF
    python 01_extract_faces.py --layout folders --videos DIR --num-frames 3 --out TRY    # cheap
    python 01_extract_faces.py --layout ffpp --videos DIR --method Deepfakes --out faces/FF-DF
    python 01_extract_faces.py --list videos.csv --random-split 60 20 20 --out faces/MINE

What it writes to OUT:

    VIDEO/FRAME.png   the crops of one video, and faces.json, what was found in it
    index.csv         one row per crop: path, video, frame, clip, label, method, split, its box in
                      pixels of the frame, and how many warnings of damage ffmpeg gave while it
                      decoded the video (it reports success on damaged streams)
    skipped.csv       video, frame, reason: frames without a face, or whole videos (frame is empty)
    videos.csv        one row per video: its source, the size of its frames, how many faces were
                      found and asked for, how many warnings ffmpeg gave, the first of them, by how
                      many degrees it was turned clockwise to show its faces, and which of several
                      faces was taken (boxes)

Layouts (media/layouts.py has a function for each; counts are printed next to the published ones):

    folders       [train|val|test/]real/**, [train|val|test/]fake/**; folders in fake/ name methods.
                  valid/, validation/, 0_real/ and 1_fake/ are also accepted, in upper or lower
                  case. A photo counts as a video of one frame
    crops         [train|val|test/]{real,fake}/METHOD/VIDEO/FRAME.png: crops that others have made,
                  taken as they are. A clip has frames of consecutive numbers. fr001_subj0.jpg and
                  10_0.png are read as a frame and a person, one person per folder
    ffpp          FaceForensics++; splits from train.json, val.json, test.json in DIR or DIR/splits
    dfd           DeepFakeDetection, in the same tree as FaceForensics++; no splits
    celebdf       Celeb-DF v1, v2 or ++ (its generators are the methods); List_of_testing_videos.txt
                  is the test split, the rest train
    dfdc          DFDC; all parts below DIR with metadata.json, validation and test sets with
                  labels.csv or metadata.json
    dfdc-preview  DFDC-Preview with its dataset.json
    dftimit       DeepfakeTIMIT at --quality lq or hq, with originals from --vidtimit; no splits
    --list        a CSV with the columns path (relative to the CSV), label (0 = real, 1 = fake) and,
                  optionally, method, split, and original: the real video that a fake was made from

Splits share no file, equal bytes, known original or (without --keep-pairs) known pair of swapped
people: a video that would leak is left out of all splits, and a warning is printed. The output says
for how many videos originals and people are known.

Deviations from the papers (theirs -> ours):

    detector            MTCNN (FeatureTransfer 3.3, CLRNet 5.1.3) -> dlib's HOG detector, which
                        installs from a wheel everywhere; --detector mtcnn
    alignment           by landmarks (CLRNet 5.1.3) -> the box's center, not rotated; mtcnn with
                        --align landmarks: the mean of eyes, nose and corners of the mouth
    box                 expanded 1.2 times (FeatureTransfer 3.3) -> the same, made square and moved
                        into the frame
    several faces       not given -> dlib: the largest in the first frame, then the largest near the
                        last face found; mtcnn: the largest in each frame; ffpp and dfd with
                        --masks: the forged one, which covers most of the mask that the data set has
                        of a fake, and in an original the one where its first fake has a mask
    "equal intervals"   start not given -> the middle of each of N equal parts of the video
    clips of a video    16 x 5, place not given (CLRNet 5.1.3) -> the middle of each of 16 equal
                        parts, never overlapping; one box per clip, so that the face does not jump
                        where the detector does
    splits in order     750, 125, 125 of FF++ (CLRNet 5) -> the same; a fake whose pair of people is
                        in two splits leaves the earlier one, which leaves 682 of 750 training fakes
                        and 110 of 125 validation fakes of each method; --keep-pairs keeps all
    non-square pixels   not given -> the frame as players show it (OpenCV shows it squeezed)
"""

import contextlib
import json
import os
import shutil
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from common import (
    CLIP_SIZE,
    EXTRACTION,
    INDEX_COLUMNS,
    RANK,
    WORLD_SIZE,
    Parser,
    add_system_flags,
    fail,
    no_formula,
    progress,
    write_table,
)
from media import detectors, layouts, splits
from media.photos import Unreadable, image_numbers, is_photo
from media.video import count_frames, ffmpeg_command, read_frames
from running.folder import start_run
from running.processes import barrier, describe_processor, map_in_workers, run_script

LAYOUTS = ("folders", "crops", "ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit")
BOX = ("left", "top", "right", "bottom")
VIDEO_COLUMNS = ("video", "source", "label", "method", "split", "original", "width", "height")
VIDEO_COLUMNS += ("faces", "asked", "warnings", "first_warning", "turned", "boxes")


def parse_args():
    usage = "%(prog)s (--layout NAME --videos DIR | --list CSV) --out DIR [options]"
    parser = Parser(__doc__, usage=usage)
    parser.set_defaults(**{**EXTRACTION, "detector": None})
    add = parser.add_argument_group("data").add_argument
    add("--layout", choices=LAYOUTS, help="how the data set lies on disk, see below")
    add("--videos", type=Path, metavar="DIR", help="the data set's folder")
    text = "instead of both: a CSV of videos, see below"
    add("--list", type=Path, metavar="CSV", help=text)
    text = "ffpp: manipulations to extract besides the originals (default: all; originals: none)"
    add("--method", nargs="+", metavar="NAME", help=text)
    text = "ffpp, dfd: compression (default %(default)s)"
    add("--compression", choices=("raw", "c23", "c40"), default="c23", help=text)
    text = "dftimit: lower_quality or higher_quality (default %(default)s)"
    add("--quality", choices=("lq", "hq"), default="lq", help=text)
    text = "dftimit: folder that is searched for VidTIMIT's originals (default: --videos)"
    add("--vidtimit", type=Path, metavar="DIR", help=text)
    parts = ("TRAIN", "VAL", "TEST")
    text = (
        "draw splits of videos in this proportion by --seed; videos of the same original or people "
        "stay together"
    )
    add("--random-split", nargs=3, type=float, metavar=parts, help=text)
    text = (
        "the first TRAIN originals by name are train, and so on, fakes with their originals "
        "(CLRNet, FF++: 750 125 125)"
    )
    add("--split-in-order", nargs=3, type=int, metavar=parts, help=text)
    text = "keep fakes whose pair of people is in two splits, as CLRNet's protocol does; warns"
    add("--keep-pairs", action="store_true", help=text)
    text = (
        "draw this many real and as many fake videos of each split, and leave out the rest "
        "(CLRNet, DFD: 250 25 25)"
    )
    add("--split-draw", nargs=3, type=int, metavar=parts, help=text)
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")

    add = parser.add_argument_group("sampling").add_argument
    text = "frames: at equal intervals (FeatureTransfer, default); clips: consecutive (CLRNet)"
    add("--sampling", choices=("frames", "clips"), help=text)
    add("--num-frames", type=int, metavar="N", help="frames per video (default %(default)s)")
    text = "frames per real video (default: --num-frames); 150 for the pretraining set DFDC-F"
    add("--num-frames-real", type=int, metavar="N", help=text)
    add("--num-clips", type=int, metavar="N", help="clips per video (default %(default)s)")
    text = "consecutive frames per clip (default %(default)s)"
    add("--clip-length", type=int, metavar="T", help=text)

    add = parser.add_argument_group("crops").add_argument
    text = (
        "dlib: its HOG detector; mtcnn: the papers', through facenet-pytorch, which has to be "
        "installed separately; none: each image is a crop (default dlib; for --layout crops none)"
    )
    add("--detector", choices=("dlib", "mtcnn", "none"), help=text)
    text = (
        "ffpp, dfd: of several faces take the forged one, by the data set's masks in METHOD/masks "
        "(default: the largest, which is also taken where there is no mask)"
    )
    add("--masks", action="store_true", help=text)
    text = (
        "center of the crop: that of the box (default), or with mtcnn the mean of the face's five "
        "landmarks (CLRNet 5.1.3)"
    )
    add("--align", choices=("box", "landmarks"), help=text)
    text = "side of the crop, as a multiple of the longer side of the box (default %(default)s)"
    add("--scale", type=float, metavar="FACTOR", help=text)
    text = (
        "side of the resized crop (default: clips 240, frames keep their own size); 224 is what "
        "02 would resize to: the same pixels, read faster"
    )
    add("--size", type=int, metavar="PIXELS", help=text)
    text = "png adds no second compression; jpg has quality 95 (default %(default)s)"
    add("--format", choices=("png", "jpg"), help=text)
    add_system_flags(parser, workers="processes, one thread each", seed=True, device=True)
    args = parser.parse_args()

    if bool(args.list) == bool(args.layout) or bool(args.layout) != bool(args.videos):
        fail("give either --layout and --videos, or --list")
    if args.sampling == "clips" and args.size is None:
        args.size = CLIP_SIZE
    args.detector = args.detector or ("none" if args.layout == "crops" else "dlib")
    args.align = None if args.align == "box" else args.align
    counts = (args.num_frames, args.num_frames_real, args.num_clips, args.clip_length, args.size)
    if any(count is not None and count < 1 for count in (*counts, args.workers)):
        fail("numbers of frames, clips, pixels and workers must be 1 or more")
    if not 0.1 <= args.scale <= 10:
        fail("--scale must be 0.1 to 10")
    if args.random_split and (min(args.random_split) < 0 or sum(args.random_split) <= 0):
        fail("--random-split needs three proportions, 0 or more, e.g. 80 10 10")
    ways = [split for split in (args.random_split, args.split_in_order, args.split_draw) if split]
    if len(ways) > 1 or any(min(split) < 0 for split in ways):
        fail(
            "give one of --random-split, --split-in-order and --split-draw, with numbers of 0 or "
            "more"
        )
    for flag in ("videos", "vidtimit"):
        folder = getattr(args, flag)
        if folder and not folder.is_dir():
            fail(f"--{flag} {folder} is not a folder")
    if args.align and args.detector != "mtcnn":
        fail("--align landmarks needs --detector mtcnn: dlib's detector gives no landmarks")
    if args.masks and (args.layout not in ("ffpp", "dfd") or args.detector == "none"):
        fail("--masks needs --layout ffpp or dfd, which have masks, and a detector: leave it out")
    if args.layout == "crops" and args.detector != "none":
        fail(
            "--layout crops takes crops as they are: leave out --detector, or use --layout folders"
        )
    if args.detector == "mtcnn":
        from running.devices import choose_device  # imports torch

        args.device = str(choose_device(args.device))
        detectors.check_mtcnn(args.device)
    return args


def main():
    args = parse_args()
    try:
        ffmpeg_command("")
    except RuntimeError as error:
        fail(
            f"no ffmpeg: {error} Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg "
            "of your own"
        )
    videos = find_videos(args)
    # Kept in args.json: what is trained on these faces says that it is a demonstration.
    args.generated = splits.generated(videos)
    each = f"{args.num_frames} frames"
    if args.num_frames_real:
        each += f" ({args.num_frames_real} of real ones)"
    if args.sampling == "clips":
        each = f"{args.num_clips} clips of {args.clip_length} frames"
    for video in videos:
        video.setdefault("boxes", "image" if args.detector == "none" else "largest")
        if args.sampling == "clips":
            video["asked"] = args.num_clips * args.clip_length
        elif video["label"] == 0 and args.num_frames_real:
            video["asked"] = args.num_frames_real
        else:
            video["asked"] = args.num_frames

    start_run(args.out, args)
    todo = [video for video in videos if not is_done(args.out, video)]
    processes = f"{WORLD_SIZE} times {args.workers}" if WORLD_SIZE > 1 else args.workers
    print(
        f"{len(videos)} videos, {each} each; {len(videos) - len(todo)} done already; {processes} "
        f"processes on {describe_processor()}",
        flush=True,
    )
    if args.detector == "mtcnn":
        print(f"MTCNN on {args.device}")
    # All processes must have seen the same videos as done before one of them does more.
    barrier()
    todo = todo[RANK::WORLD_SIZE]
    settings = {name: getattr(args, name) for name in (*EXTRACTION, "device")}
    extract = partial(extract_video, out=args.out, settings=settings)
    results = map_in_workers(extract, todo, args.workers)
    try:
        for is_extracted in progress(results, total=len(todo), unit="video"):
            if not is_extracted:
                fail("a worker process died (out of memory?): resume with fewer --workers")
    except OSError:
        for part in args.out.glob(".part-*"):
            shutil.rmtree(part, ignore_errors=True)
        raise
    barrier()
    if RANK == 0:
        write_tables(videos, args.out)
    barrier()


def find_videos(args):
    """The videos of the data set with their names and splits; prints how many there are of each."""
    settings = dict(
        ffpp=(args.method, args.compression),
        dfd=(args.compression,),
        dftimit=(args.vidtimit, args.quality),
    )
    layout = getattr(layouts, f"layout_{args.layout or 'list'}".replace("-", "_"))
    videos, expected = layout(args.videos or args.list, *settings.get(args.layout, ()))
    if args.masks:
        layouts.add_masks(videos, args.videos)
    splits.print_counts(videos, expected)
    if args.random_split:
        splits.random_split(videos, args.random_split, args.seed)
    elif args.split_in_order:
        splits.split_in_order(videos, args.split_in_order)
    elif args.split_draw:
        videos = splits.split_draw(videos, args.split_draw, args.seed)
    splits.drop_leaks(videos, args.keep_pairs)
    if args.random_split or args.split_in_order or args.split_draw:
        print("split:")
        splits.print_counts(videos, {})
    splits.name_videos(videos)
    return videos


# ---------------------------------------------------------------- which frames


def equal_intervals(frames, count):
    """Indices of `count` frames at equal intervals (FeatureTransfer 4.1): the middles of `count`
    equal parts of a video. All frames if there are no more than `count`.
    """
    if frames <= count:
        return list(range(frames))
    return [int((k + 0.5) * frames / count) for k in range(count)]


def clip_starts(frames, clips, length):
    """First frames of up to `clips` clips of `length` frames, spread evenly over `frames` frames.

    Clips lie in the middle of equal parts of the video and never overlap.
    """
    clips = min(clips, frames // length)
    return [int(k * frames / clips + (frames / clips - length) / 2) for k in range(clips)]


def clip_starts_in_runs(numbers, clips, length):
    """As `clip_starts`, where frames may be missing: a clip has frames of consecutive numbers.

    numbers: the numbers of the frames, rising. Returns positions in them. Each run of consecutive
    numbers gets its share of the clips.
    """
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    firsts = [0, *breaks.tolist()]
    lengths = np.diff([*firsts, len(numbers)]).tolist()
    slots = [k for k, frames in enumerate(lengths) for _ in range(frames // length)]
    share = Counter(slots[k] for k in equal_intervals(len(slots), clips))
    return [
        first + start
        for k, (first, frames) in enumerate(zip(firsts, lengths))
        for start in clip_starts(frames, share[k], length)
    ]


def read_clips(path, starts, length, turned, warnings):
    """Yield the clips of a video that begin at `starts`, each a list of `length` (position, frame).

    Frames are turned clockwise by `turned` degrees. A clip that lacks a frame is left out.
    """
    clip = []
    wanted = [start + k for start in starts for k in range(length)]
    starts = set(starts)
    for position, frame in read_frames(path, wanted, warnings):
        if clip and position != clip[-1][0] + 1:
            clip = []
        if clip or position in starts:
            clip.append((position, detectors.turn_frame(frame, turned)))
        if len(clip) == length:
            yield clip
            clip = []


# ---------------------------------------------------------------- which box


def square_box(box, scale, width, height):
    """A square around a box's center, its side `scale` times the longer side of the box.

    It is moved, and if need be shrunk, to lie inside the frame (FeatureTransfer 3.3: 1.2 times).
    Returns whole pixels (left, top, right, bottom), right and bottom exclusive.
    """
    left, top, right, bottom = box
    side = max(1, min(round(scale * max(right - left, bottom - top)), width, height))
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, x + side, y + side


def group_clips(clips, detector):
    """Yield groups of clips that are searched together.

    dlib gets one clip at a time, to look where the last face was. MTCNN gets several, up to 16
    million pixels with one frame of each.
    """
    group = []
    for clip in clips:
        group.append(clip)
        height, width = clip[0][1].shape[:2]
        if detector != "mtcnn" or (len(group) + 1) * height * width > 16e6:
            yield group
            group = []
    if group:
        yield group


def find_boxes(clips, last_face, settings, masks=None):
    """Returns one crop box per clip, None where it shows no face, and the last face.

    The middle frame of a clip decides; if it shows no face, its neighbors do, the nearest first.
    dlib takes the face near the last one, or the largest; MTCNN takes the largest. With `masks`
    ({position: mask}), both take the face at the mask.
    """
    boxes = [None] * len(clips)
    middle = len(clips[0]) // 2
    for k in sorted(range(len(clips[0])), key=lambda k: (abs(k - middle), k)):
        missing = [c for c, box in enumerate(boxes) if box is None]
        frames = [clips[c][k][1] for c in missing]
        faces = [None] * len(frames)  # of each frame, for MTCNN
        if settings["detector"] == "mtcnn":
            faces = detectors.detect_mtcnn(frames, settings["device"], settings["align"])
        for c, frame, faces_of_frame in zip(missing, frames, faces):
            if masks is not None:
                face = detectors.face_at_mask(
                    frame, masks.get(clips[c][k][0]), last_face, faces_of_frame
                )
            elif faces_of_frame is None:
                face = detectors.largest_face(frame, last_face)
            else:
                face = (*faces_of_frame, None)[0]
            if face:
                last_face = face
                boxes[c] = square_box(face, settings["scale"], *frame.shape[1::-1])
    return boxes, last_face


# ---------------------------------------------------------------- crops


def crop_face(frame, box, size=None):
    """The part of a frame, (height, width, 3) uint8, inside a box as an image.

    With `size`, it is resized bicubically to size x size pixels.
    """
    left, top, right, bottom = box
    image = Image.fromarray(frame[top:bottom, left:right])
    return image.resize((size, size), Image.Resampling.BICUBIC) if size else image


def save_crop(image, file, format):
    """Save an image to a path or open file as "png", or as "jpg" with quality 95."""
    if format == "png":
        # Lossless, and as fast as zlib can be.
        image.save(file, "png", compress_level=1, compress_type=zlib.Z_RLE)
    else:
        image.save(file, "jpeg", quality=95, subsampling=0)


def save_crops(video, starts, length, numbers, folder, settings, turned, warnings):
    """Find and save the faces of a video in the clips of `length` frames that begin at `starts`.

    numbers: the frame number at each position. Returns the fields of a record (`extract_video`).
    """
    is_clip = settings["sampling"] == "clips"
    lost = "its clip could not be decoded completely" if is_clip else "could not be decoded"
    no_face = "no face found in its clip" if is_clip else "no face found"
    skipped = {numbers[start + k]: lost for start in starts for k in range(length)}
    number_of_clip = {start: k for k, start in enumerate(starts)}
    rows, last_face, size = [], None, (0, 0)
    masks = None
    choice = video["boxes"]
    if "mask" in video:
        masks = detectors.read_masks(video["mask"], list(skipped), turned) or None
        choice = choice if masks else "largest, mask empty or unreadable"
        no_face += " at its mask" if masks else ""
    clips = read_clips(video["path"], starts, length, turned, warnings)
    for group in group_clips(clips, settings["detector"]):
        boxes = [None] * len(group)
        if settings["detector"] != "none":
            boxes, last_face = find_boxes(group, last_face, settings, masks)
        for clip, box in zip(group, boxes):
            for position, frame in clip:
                number = numbers[position]
                whole = (0, 0, *frame.shape[1::-1])
                size = size if any(size) else whole[2:]
                if settings["detector"] == "none":
                    box = whole
                if box is None:
                    skipped[number] = no_face
                    continue
                del skipped[number]
                name = f"{number:06d}.{settings['format']}"
                image = crop_face(frame, box, settings["size"])
                save_crop(image, folder / name, settings["format"])
                clip_number = number_of_clip[clip[0][0]] if is_clip else ""
                rows.append([f"{video['name']}/{name}", number, clip_number, *box])
    return dict(rows=rows, skipped=sorted(skipped.items()), size=size, turned=turned, boxes=choice)


def extract_faces(video, folder, settings, warnings):
    """Sample a video, follow its face and save the crops in a folder; returns fields of a record.

    Raises Unreadable.
    """
    path, asked = video["path"], video["asked"]
    is_ready = settings["detector"] == "none"
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise Unreadable("no such file")
    frames = count_frames(path)
    if frames == 1 and is_photo(path):
        asked = 1
    numbers = image_numbers(path) if is_ready and path.is_dir() else range(frames)
    if settings["sampling"] == "clips":
        length = settings["clip_length"]
        starts = clip_starts_in_runs(numbers, settings["num_clips"], length)
        if not starts:
            raise Unreadable(f"no {length} consecutive frames in it for a clip")
    else:
        # A single frame is treated as a clip of length 1.
        length = 1
        starts = equal_intervals(frames, asked)
    save = partial(save_crops, video, starts, length, numbers, folder, settings)
    record = save(turned=0, warnings=warnings)
    if not is_ready:
        shown, searched = len(record["rows"]), len(starts) * length
        detector, device = settings["detector"], settings["device"]
        turned = detectors.find_turn(path, frames, shown, searched, detector, device)
        if turned:
            delete_files(folder)
            record = save(turned=turned, warnings=[])
    return record | dict(asked=asked)


# ---------------------------------------------------------------- records


def extract_video(video, out, settings):
    """Save the crops of a video in OUT/NAME, and its record in faces.json. Returns True.

    Runs in a worker process. The folder appears when it is finished. If the video cannot be read,
    it holds no crops, and the reason is in the record. `settings`: the flags of common.EXTRACTION,
    and the device.
    """
    folder = out / f".part-{video['name']}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    record = {name: video[name] for name in ("asked", "boxes")}
    record |= dict(rows=[], skipped=[], size=(0, 0), turned=0, file=file_state(video))
    warnings = []
    reason = ""
    try:
        record |= extract_faces(video, folder, settings, warnings)
        if not record["rows"]:
            reason = f"no face found in {len(record['skipped'])} frames"
    except Unreadable as error:
        reason = f"unreadable: {error}"
    except (ValueError, RuntimeError, MemoryError) as error:
        # Raised by Pillow, dlib or MTCNN; one bad video does not end the run.
        reason = ascii(f"failed: {type(error).__name__}: {error}")[1:-1]
    if reason:
        delete_files(folder)
        record |= dict(rows=[], skipped=[["", reason]], turned=0)
    record |= dict(warnings=len(warnings), first_warning=warnings[0] if warnings else "")
    (folder / "faces.json").write_text(json.dumps(record) + "\n")
    shutil.rmtree(out / video["name"], ignore_errors=True)
    os.rename(folder, out / video["name"])
    return True


def delete_files(folder):
    for file in folder.iterdir():
        file.unlink()


def file_state(video):
    """[path, size, time of the last change] of a video; of a folder, those of its files together.

    Size and time are None if there is no such file. Those of its mask follow, if it has one.
    """
    state = []
    for path in filter(None, (video["path"], video.get("mask"))):
        states = []
        with contextlib.suppress(OSError):
            files = [path, *path.iterdir()] if path.is_dir() else [path]
            states = [os.stat(file) for file in files]
        size = sum(state.st_size for state in states) if states else None
        state += [str(path), size, max((state.st_mtime_ns for state in states), default=None)]
    return state


def read_record(out, video):
    """The record of a video (faces.json); None without one, or if the crops are not its own."""
    folder = out / video["name"]
    try:
        record = json.loads((folder / "faces.json").read_text())
        crops = {os.path.basename(row[0]) for row in record["rows"]}
        return record if crops == set(os.listdir(folder)) - {"faces.json"} else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_done(out, video):
    """Whether an earlier run has found faces in a video, and it is still the same file.

    A video without a face is tried again: its file may have been unreadable for a while.
    """
    record = read_record(out, video) or {}
    return bool(record.get("rows")) and record.get("file") == file_state(video)


def read_records(out, videos):
    """Yield each video and its record, so that only one is in memory at a time."""
    for video in videos:
        record = read_record(out, video)
        if record is None:
            fail(
                f"{out / video['name']} was extracted but has disappeared: do all machines see the "
                "same folder, and does nothing else write to it?"
            )
        yield video, record


def write_tables(videos, out):
    """Write videos.csv, skipped.csv and index.csv from the records of all videos; print counts."""
    counts = Counter()
    video_rows, skipped = [], []
    for video, record in read_records(out, videos):
        faces = len(record["rows"])
        reason = "" if faces else record["skipped"][0][1]
        counts["images"] += faces
        counts["done"] += faces > 0
        counts["failed"] += reason.startswith("failed: ")
        counts["short"] += 0 < faces < record["asked"]
        counts["turned"] += record["turned"] > 0
        counts["damaged"] += record["warnings"] > 0
        names = [video[key] for key in ("name", "source", "label", "method", "split")]
        result = [record[key] for key in ("asked", "warnings", "first_warning", "turned")]
        result.append(record["boxes"])
        counts["unmasked"] += record["boxes"].startswith("largest,")
        video_rows.append((*names, no_formula(video["original"]), *record["size"], faces, *result))
        skipped += [(video["name"], *row) for row in record["skipped"]]
    write_table(out / "videos.csv", VIDEO_COLUMNS, video_rows)
    write_table(out / "skipped.csv", ("video", "frame", "reason"), skipped)
    if not counts["images"]:
        reasons = out / "skipped.csv"
        fail(f"no face in any of the {len(videos)} videos: see {reasons} for the reasons")
    crop_rows = (
        (path, video["name"], frame, clip, video["label"], video["method"], video["split"])
        + (*box, record["warnings"])
        for video, record in read_records(out, videos)
        for path, frame, clip, *box in record["rows"]
    )
    write_table(out / "index.csv", (*INDEX_COLUMNS, *BOX, "warnings"), crop_rows)
    print(
        f"done: {len(videos)} videos = {counts['done']} with faces + "
        f"{len(videos) - counts['done'] - counts['failed']} skipped + {counts['failed']} failed; "
        f"{counts['short']} gave fewer faces than requested, {counts['turned']} were turned to "
        f"show a face, {counts['damaged']} are damaged; {counts['images']} images in {out} "
        "(videos.csv and skipped.csv say more)"
    )
    if counts["unmasked"]:
        print(
            f"warning: {counts['unmasked']} videos have no mask that can be used: their largest "
            "face was taken (column boxes of videos.csv)"
        )


if __name__ == "__main__":
    run_script(main)

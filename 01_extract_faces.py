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
                      found and asked for, how many warnings ffmpeg gave, the first of them, and by
                      how many degrees it was turned clockwise because no face was found upright

Layouts (media/layouts.py has a function for each; counts are printed next to the published ones):

    folders       [train|val|test/]real/**, [train|val|test/]fake/**; folders in fake/ name methods.
                  valid/, validation/, 0_real/ and 1_fake/ are read too, and names in any case. A
                  photo counts as a video of one frame
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
people: a video that would leak is left out of all splits, and a warning says so. The output says of
how many videos originals and people are known.

Deviations from the papers (theirs -> ours):

    detector            MTCNN (FeatureTransfer 3.3, CLRNet 5.1.3) -> dlib's HOG detector, which
                        installs from a wheel everywhere; --detector mtcnn
    alignment           by landmarks (CLRNet 5.1.3) -> the box's center, not rotated; mtcnn with
                        --align landmarks: the mean of eyes, nose and corners of the mouth
    box                 expanded 1.2 times (FeatureTransfer 3.3) -> the same, made square and moved
                        into the frame
    several faces       not given -> dlib: the largest in the first frame, then the largest near the
                        last face found; mtcnn: the largest in each frame
    "equal intervals"   start not given -> the middle of each of N equal parts of the video
    clips of a video    16 x 5, place not given (CLRNet 5.1.3) -> the middle of each of 16 equal
                        parts, never overlapping; one box per clip, so that the face does not jump
                        where the detector does
    splits in order     750, 125, 125 of FF++ (CLRNet 5) -> the same; a fake whose pair of people is
                        in two splits leaves the earlier one, which leaves 682 of 750 training fakes
                        and 110 of 125 validation fakes of each method; --keep-pairs keeps all
    non-square pixels   not given -> the frame as players show it (OpenCV shows it squeezed)
"""

import json
import os
import shutil
from collections import Counter
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

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
    printable,
    progress,
    write_table,
)
from media import layouts, splits
from media.detectors import check_mtcnn, detect_mtcnn, find_turn, largest_face
from media.faces import (
    clip_starts_in_runs,
    crop_face,
    equal_intervals,
    read_clips,
    save_crop,
    square_box,
)
from media.photos import Unreadable, image_numbers, is_photo
from media.video import count_frames, ffmpeg_command
from running.folder import start_run
from running.processes import barrier, run_script, worker_pool

BOX = ("left", "top", "right", "bottom")
VIDEO_COLUMNS = ("video", "source", "label", "method", "split", "original", "width", "height")
VIDEO_COLUMNS += ("faces", "asked", "warnings", "first_warning", "turned")


def parse_args():
    parser = Parser(
        __doc__, usage="%(prog)s (--layout NAME --videos DIR | --list CSV) --out DIR [options]"
    )
    parser.set_defaults(**{**EXTRACTION, "detector": None})
    data = parser.add_argument_group("data")
    data.add_argument(
        "--layout",
        choices=("folders", "crops", "ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit"),
        help="how the data set lies on disk, see below",
    )
    data.add_argument("--videos", type=Path, metavar="DIR", help="the data set's folder")
    data.add_argument(
        "--list", type=Path, metavar="CSV", help="instead of both: a CSV of videos, see below"
    )
    data.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="ffpp: manipulations to take beside the originals (default: all; originals: none)",
    )
    data.add_argument(
        "--compression",
        choices=("raw", "c23", "c40"),
        default="c23",
        help="ffpp, dfd: compression (default %(default)s)",
    )
    data.add_argument(
        "--quality",
        choices=("lq", "hq"),
        default="lq",
        help="dftimit: lower_quality or higher_quality (default %(default)s)",
    )
    data.add_argument(
        "--vidtimit",
        type=Path,
        metavar="DIR",
        help="dftimit: folder that is searched for VidTIMIT's originals (default: --videos)",
    )
    parts = ("TRAIN", "VAL", "TEST")
    data.add_argument(
        "--random-split",
        nargs=3,
        type=float,
        metavar=parts,
        help="draw splits of videos in this proportion by --seed; videos of the same original or "
        "people stay together",
    )
    data.add_argument(
        "--split-in-order",
        nargs=3,
        type=int,
        metavar=parts,
        help="the first TRAIN originals by name are train, and so on, fakes with their originals "
        "(CLRNet, FF++: 750 125 125)",
    )
    data.add_argument(
        "--keep-pairs",
        action="store_true",
        help="keep fakes whose pair of people is in two splits, as CLRNet's protocol does; warns",
    )
    data.add_argument(
        "--split-draw",
        nargs=3,
        type=int,
        metavar=parts,
        help="draw this many real and as many fake videos of each split, and leave out the rest "
        "(CLRNet, DFD: 250 25 25)",
    )
    data.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--sampling",
        choices=("frames", "clips"),
        help="frames: at equal intervals (FeatureTransfer, default); clips: consecutive (CLRNet)",
    )
    sampling.add_argument(
        "--num-frames", type=int, metavar="N", help="frames per video (default %(default)s)"
    )
    sampling.add_argument(
        "--num-frames-real",
        type=int,
        metavar="N",
        help="frames per real video (default: --num-frames); 150 for the pretraining set DFDC-F",
    )
    sampling.add_argument(
        "--num-clips", type=int, metavar="N", help="clips per video (default %(default)s)"
    )
    sampling.add_argument(
        "--clip-length",
        type=int,
        metavar="T",
        help="consecutive frames per clip (default %(default)s)",
    )
    crops = parser.add_argument_group("crops")
    crops.add_argument(
        "--detector",
        choices=("dlib", "mtcnn", "none"),
        help="dlib: its HOG detector; mtcnn: the papers', through facenet-pytorch, which has to be "
        "installed separately; none: each image is a crop (default dlib; for --layout crops none)",
    )
    crops.add_argument(
        "--align",
        choices=("box", "landmarks"),
        help="center of the crop: that of the box (default), or with mtcnn the mean of the face's "
        "five landmarks (CLRNet 5.1.3)",
    )
    crops.add_argument(
        "--scale",
        type=float,
        metavar="FACTOR",
        help="side of the crop, as a multiple of the longer side of the box (default %(default)s)",
    )
    crops.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the resized crop (default: clips 240, frames keep their own size); 224 is "
        "what 02 would resize to: the same pixels, read faster",
    )
    crops.add_argument(
        "--format",
        choices=("png", "jpg"),
        help="png adds no second compression; jpg has quality 95 (default %(default)s)",
    )
    add_system_flags(parser, workers="processes, one thread each", seed=True, device=True)
    args = parser.parse_args()

    if bool(args.list) == bool(args.layout) or bool(args.layout) != bool(args.videos):
        fail("give either --layout and --videos, or --list")
    if args.sampling == "clips" and args.size is None:
        args.size = CLIP_SIZE
    args.detector = args.detector or ("none" if args.layout == "crops" else "dlib")
    args.align = None if args.align == "box" else args.align
    counts = (args.num_frames, args.num_frames_real or 1, args.num_clips, args.clip_length)
    size = 1 if args.size is None else args.size
    if min(*counts, size, args.workers) < 1:
        fail("numbers of frames, clips, pixels and workers must be 1 or more")
    if not 0.1 <= args.scale <= 10:
        fail("--scale must be 0.1 to 10")
    if args.random_split and (min(args.random_split) < 0 or sum(args.random_split) <= 0):
        fail("--random-split needs three proportions, 0 or more, e.g. 80 10 10")
    given = [split for split in (args.random_split, args.split_in_order, args.split_draw) if split]
    if len(given) > 1 or any(min(split) < 0 for split in given):
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
    if args.layout == "crops" and args.detector != "none":
        fail(
            "--layout crops takes crops as they are: leave out --detector, or use --layout folders"
        )
    if args.detector == "mtcnn":
        from running.devices import choose_device  # imports torch

        args.device = str(choose_device(args.device))
        check_mtcnn(args.device)
    return args


def main():
    args = parse_args()
    videos, expected = find_videos(args)
    for video in videos:
        video["method"] = no_formula(video["method"])  # a folder's name may be anything
    splits.print_counts(videos, expected)
    videos = split_videos(videos, args)
    splits.name_videos(videos)
    # Kept in args.json: what is trained on these faces says that it is a demonstration.
    args.generated = splits.generated(videos)
    for video in videos:
        if args.sampling == "clips":
            video["asked"] = args.num_clips * args.clip_length
        elif video["label"] == 0 and args.num_frames_real:
            video["asked"] = args.num_frames_real
        else:
            video["asked"] = args.num_frames
    try:
        ffmpeg_command("")
    except RuntimeError as error:
        fail(
            f"no ffmpeg: {error} Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg "
            "of your own"
        )
    extract_all(videos, args)


def find_videos(args):
    """The videos of the data set, and how many it should have (see media/layouts.py)."""
    if args.list:
        return layouts.layout_list(args.list)
    if args.layout == "ffpp":
        return layouts.layout_ffpp(args.videos, args.method, args.compression)
    if args.layout == "dfd":
        return layouts.layout_dfd(args.videos, args.compression)
    if args.layout == "dftimit":
        return layouts.layout_dftimit(args.videos, args.vidtimit, args.quality)
    if args.layout == "crops":
        return layouts.layout_folders(args.videos, crops=True)
    return getattr(layouts, f"layout_{args.layout.replace('-', '_')}")(args.videos)


def split_videos(videos, args):
    """Draw the splits that the flags ask for, and drop leaks; returns the videos that are left."""
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
    return videos


def extract_all(videos, args):
    """Extract the faces of all videos into args.out with a pool of workers; write its tables."""
    start_run(args.out, args)
    # What gave no face is tried again: it may have been missing or unreadable for a while.
    todo = [video for video in videos if not (read_record(args.out, video) or {}).get("rows")]
    each = f"{args.num_frames} frames"
    if args.sampling == "clips":
        each = f"{args.num_clips} clips of {args.clip_length} frames"
    processes = f"{WORLD_SIZE} times {args.workers}" if WORLD_SIZE > 1 else args.workers
    print(
        f"{len(videos)} videos, {each} each; {len(videos) - len(todo)} done already; {processes} "
        "processes",
        flush=True,
    )
    settings = {name: getattr(args, name) for name in (*EXTRACTION, "device")}
    if args.detector == "mtcnn":
        print(f"MTCNN on {args.device}")
    # All processes must have seen the same videos as done before one of them does more.
    barrier()
    todo = todo[RANK::WORLD_SIZE]
    try:
        with worker_pool(args.workers) as pool:
            futures = [pool.submit(extract_video, video, args.out, settings) for video in todo]
            for future in progress(as_completed(futures), total=len(todo), unit="video"):
                future.result()
    except BrokenProcessPool:
        fail(
            "a worker process died (out of memory?): run the same command again with fewer "
            "--workers; it resumes"
        )
    except OSError as error:
        for part in args.out.glob(".part-*"):
            shutil.rmtree(part, ignore_errors=True)
        fail(
            f"cannot write to {args.out}: {error.strerror or error}. Run the same command again to "
            "resume"
        )
    barrier()
    if RANK == 0:
        write_tables(videos, args.out)
    barrier()


def extract_video(video, out, settings):
    """Save the crops of one video in OUT/NAME, and in faces.json what was found; runs in a worker.

    The folder appears when it is finished. If the video cannot be read, it holds no crops, and the
    reason is in faces.json. `settings`: flags of this script, see `extract_all`.
    """
    folder = out / f".part-{video['name']}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = []
    skipped = []
    warnings = []
    sizes = {}
    turned = 0
    asked = video["asked"]
    file = file_state(video["path"])
    try:
        path = video["path"]
        if not os.path.isfile(path) and not os.path.isdir(path):
            raise Unreadable("no such file")
        frames = count_frames(path)
        if frames == 1 and is_photo(path):
            asked = 1
        numbers = range(frames)
        if settings["detector"] == "none" and path.is_dir():
            numbers = image_numbers(path)
        if settings["sampling"] == "frames":
            starts = equal_intervals(frames, asked)
        else:
            length = settings["clip_length"]
            starts = clip_starts_in_runs(numbers, asked // length, length)
            if not starts:
                raise Unreadable(f"no {length} consecutive frames in it for a clip")
        places = (path, starts, numbers, folder, settings)
        rows, skipped = save_crops(video, *places, turned, sizes, warnings)
        if settings["detector"] != "none":
            shown = len(rows), len(rows) + len(skipped)
            turned = find_turn(path, frames, *shown, settings["detector"], settings["device"])
            if turned:
                for row in rows:
                    (out / f".part-{row[0]}").unlink()
                rows, skipped = save_crops(video, *places, turned, sizes, [])
        if not rows:
            skipped = [["", f"no face found in {len(skipped)} frames"]]
    except Unreadable as error:
        skipped = [["", f"unreadable: {error}"]]
    except (ValueError, RuntimeError, MemoryError) as error:
        # Raised by Pillow, dlib or MTCNN; one bad video does not end the run.
        for file in folder.iterdir():
            file.unlink()
        rows = []
        skipped = [["", ascii(f"failed: {type(error).__name__}: {error}")[1:-1]]]
    record = dict(rows=rows, skipped=sorted(skipped))
    # The size of the first frame that was decoded.
    record["size"] = sizes[min(sizes)] if sizes else (0, 0)
    record |= dict(asked=asked, turned=turned if rows else 0, warnings=len(warnings))
    record["file"] = file
    record["first_warning"] = warnings[0] if warnings else ""
    (folder / "faces.json").write_text(json.dumps(record) + "\n")
    shutil.rmtree(out / video["name"], ignore_errors=True)
    os.rename(folder, out / video["name"])


def save_crops(video, path, starts, numbers, folder, settings, turned, sizes, warnings):
    """Find and save the faces of the frames or clips that begin at `starts`, positions of frames.

    Args: numbers, those of the frames, by position; turned, by how many degrees clockwise frames
    are turned first; sizes and warnings, see `read_clips`. Returns the rows of faces.json, one per
    crop, and (frame, reason) of the frames without one.
    """
    # A single frame is treated as a clip of length 1.
    single = settings["sampling"] == "frames"
    length = 1 if single else settings["clip_length"]
    no_face = "no face found" if single else "no face found in its clip"
    rows = []
    skipped = []
    last_face = None
    number_of_clip = {start: k for k, start in enumerate(starts)}
    wanted = [start + k for start in starts for k in range(length)]
    for clips in read_clips(path, wanted, length, settings["detector"], turned, sizes, warnings):
        if settings["detector"] == "none":
            boxes = [None] * len(clips)
        else:
            boxes, last_face = find_boxes(clips, last_face, settings)
        for clip, box in zip(clips, boxes):
            for position, frame in clip:
                if settings["detector"] == "none":
                    box = (0, 0, *frame.shape[1::-1])
                if box is None:
                    skipped.append([numbers[position], no_face])
                    continue
                name = f"{numbers[position]:06d}.{settings['format']}"
                image = crop_face(frame, box, settings["size"])
                save_crop(image, folder / name, settings["format"])
                clip_number = "" if single else number_of_clip[clip[0][0]]
                rows.append([f"{video['name']}/{name}", numbers[position], clip_number, *box])
    done = {row[1] for row in rows} | {number for number, _ in skipped}
    for position in wanted:
        if numbers[position] not in done:
            lost = "its clip could not be decoded whole"
            reason = lost if position in sizes else "could not be decoded"
            skipped.append([numbers[position], reason])
    return rows, skipped


def find_boxes(clips, last_face, settings):
    """Returns one crop box per clip, None where it shows no face, and the face found last.

    The middle frame of a clip decides; if it shows no face, its neighbors do, the nearest first.
    dlib takes the face near the last one, or the largest; MTCNN takes the largest.
    """
    boxes = [None] * len(clips)
    middle = len(clips[0]) // 2
    for k in sorted(range(len(clips[0])), key=lambda k: (abs(k - middle), k)):
        missing = [c for c, box in enumerate(boxes) if box is None]
        frames = [clips[c][k][1] for c in missing]
        if settings["detector"] == "dlib":
            faces = [largest_face(frame, last_face) for frame in frames]
        else:
            found = detect_mtcnn(frames, settings["device"], settings["align"])
            faces = [faces_of_frame[0] if faces_of_frame else None for faces_of_frame in found]
        for c, frame, face in zip(missing, frames, faces):
            if face:
                last_face = face
                boxes[c] = square_box(face, settings["scale"], *frame.shape[1::-1])
    return boxes, last_face


def file_state(path):
    """[path, size, time of the last change] of a video; of a folder, those of its files in sum.

    Size and time are None if there is no such file.
    """
    try:
        files = [path, *path.iterdir()] if path.is_dir() else [path]
        states = [os.stat(file) for file in files]
    except OSError:
        return [str(path), None, None]
    sizes = sum(state.st_size for state in states)
    return [str(path), sizes, max(state.st_mtime_ns for state in states)]


def read_record(out, video):
    """What an earlier run found in a video (faces.json), or None if it has to be done (again).

    A video is extracted again if it is another file now, by its path, its size or the time of its
    last change, if crops are missing or foreign files are present.
    """
    folder = out / video["name"]
    try:
        record = json.loads((folder / "faces.json").read_text())
        crops = {os.path.basename(row[0]) for row in record["rows"]}
        is_whole = crops == set(os.listdir(folder)) - {"faces.json"}
        return record if is_whole and record["file"] == file_state(video["path"]) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_records(out, videos):
    """Yield each video and its record, so that only one is in memory at a time."""
    for video in videos:
        record = read_record(out, video)
        if record is None:
            fail(
                f"{out / video['name']} was finished and is gone: do all machines see the same "
                "folder, and does nothing else write to it?"
            )
        yield video, record


def write_tables(videos, out):
    """Write videos.csv, skipped.csv and index.csv from the records of all videos; print counts."""
    counts = Counter()
    write_table(out / "videos.csv", VIDEO_COLUMNS, video_rows(out, videos, counts))
    skipped = (
        (video["name"], *row)
        for video, record in read_records(out, videos)
        for row in record["skipped"]
    )
    write_table(out / "skipped.csv", ("video", "frame", "reason"), skipped)
    reasons = out / "skipped.csv"
    if not counts["images"]:
        fail(f"no face in any of the {len(videos)} videos: see {reasons} for the reasons")
    write_table(out / "index.csv", (*INDEX_COLUMNS, *BOX, "warnings"), crop_rows(out, videos))
    folders = {entry.name for entry in os.scandir(out) if entry.is_dir() and entry.name[0] != "."}
    others = folders - {video["name"] for video in videos}
    if others:
        print(
            f"{len(others)} folders in {out}, e.g. {printable(min(others))}, belong to no video of "
            "this run and are not in index.csv"
        )
    summary = (
        f"done: {len(videos)} videos = {counts['done']} with faces + {counts['skipped']} skipped + "
        f"{counts['failed']} failed; {counts['short']} gave fewer faces than asked"
    )
    if counts["turned"]:
        summary += f", {counts['turned']} were turned to show a face (column turned of videos.csv)"
    if counts["damaged"]:
        summary += f", {counts['damaged']} are damaged"
    summary += f"; {counts['images']} images in {out}"
    if counts["short"] + counts["skipped"] + counts["failed"]:
        summary += f"; reasons in {reasons}"
    print(summary)


def video_rows(out, videos, counts):
    """Yield the rows of videos.csv, and count what became of the videos."""
    for video, record in read_records(out, videos):
        faces = len(record["rows"])
        asked, turned = record["asked"], record["turned"]
        if faces:
            counts["done"] += 1
        elif record["skipped"][0][1].startswith("failed: "):
            counts["failed"] += 1
        else:
            counts["skipped"] += 1
        counts["images"] += faces
        counts["short"] += 0 < faces < asked
        counts["turned"] += turned > 0
        counts["damaged"] += record["warnings"] > 0
        source, original = (no_formula(ascii(video[k])[1:-1]) for k in ("source", "original"))
        labels = (video["label"], video["method"], video["split"])
        found = (faces, asked, record["warnings"], record["first_warning"], turned)
        yield video["name"], source, *labels, original, *record["size"], *found


def crop_rows(out, videos):
    """Yield the rows of index.csv."""
    for video, record in read_records(out, videos):
        labels = (video["label"], video["method"], video["split"])
        for path, frame, clip, *box in record["rows"]:
            yield path, video["name"], frame, clip, *labels, *box, record["warnings"]


if __name__ == "__main__":
    run_script(main)

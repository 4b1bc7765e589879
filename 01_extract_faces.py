#!/usr/bin/env python3
"""Stage 01: find the face in the frames of every video of a data set and save the crops.

    python 01_extract_faces.py --layout ffpp --videos DIR --method Deepfakes --compression c23 --out faces/FF-DF
    python 01_extract_faces.py --layout celebdf --videos DIR --out faces/Celeb-DF
    python 01_extract_faces.py --list videos.csv --random-split 60 20 20 --sampling clips --out faces/MINE-clips
    python 01_extract_faces.py --layout celebdf --videos DIR --crf 23 40 --out faces/Celeb-DF        # faces/Celeb-DF-crf23 and -crf40

What comes out, in OUT:

    VIDEO/FRAME.png   the crops of one video, and faces.json, what was found in it
    index.csv         path, video, frame, clip, label, method, split, the crop's box in pixels of the frame, and how many warnings of
                      damage ffmpeg gave while it decoded the video (it ends with success on damaged streams)
    skipped.csv       video, frame, reason: frames without a face; frame is empty where the whole video is missing
    videos.csv        one row a video: where it came from, its frames' size, how many faces it gave and how many were asked for,
                      ffmpeg's warnings, their number and the first

Layouts (layouts.py has one function each; every layout prints what it found beside what the data set should hold):

    folders       [train|val|test/]real/**  and  [train|val|test/]fake/**; a folder inside fake/ names the method
    ffpp          FaceForensics++; splits from train.json, val.json, test.json in DIR or DIR/splits
    dfd           DeepFakeDetection, in the same tree as FaceForensics++; no splits
    celebdf       Celeb-DF v1 or v2; List_of_testing_videos.txt is the test split, the rest train
    dfdc          DFDC; all parts below DIR with their metadata.json, the public test set with its labels.csv
    dfdc-preview  DFDC-Preview with its dataset.json
    dftimit       DeepfakeTIMIT at --quality lq or hq, and --vidtimit for the originals' image folders; no splits
    --list        a CSV with the columns path (relative to the CSV), label (0 = real, 1 = fake), and if you like method, split

Splits never share a video, an original or a pair of swapped people: what would leak loses its split, with a warning.

Deviations from the papers (theirs -> ours):

    detector            MTCNN (FeatureTransfer 3.3, CLRNet 5.1.3) -> dlib's HOG detector, as a wheel on every system; --detector mtcnn
    alignment           CLRNet 5.1.3 aligns by landmarks -> the box is centred on the detected face; no rotation
    box                 expanded 1.2 times (FeatureTransfer 3.3) -> the same, made square and moved into the frame
    several faces       not said -> dlib: the largest of the first frame, then the one near where the last was found; MTCNN: the largest of each frame
    fakes' boxes        detected as the originals' are -> the same; --boxes-from takes the originals' boxes, which is ours
    "equal intervals"   not said where they start -> the middle of each of N equal parts of the video
    compression         the sets' own; others are CLRNet's future work (7) -> --crf: H.264 by x264's constant rate factor, preset medium, 4:2:0
    splits in order     750, 125, 125 of FF++ (CLRNet 5) -> the same; a fake whose pair of people is in two splits leaves the earlier one
    pixels not square   not said -> the frame as a player shows it (OpenCV, which most code reads videos with, shows it squeezed)
    clips of a video    16 x 5 (CLRNet 5.1.3), place not said -> the middle of each of 16 equal parts, never overlapping;
                        one box a clip, so that the face does not jump where the detector does
"""

import copy
import json
import os
import shutil
import zlib
from collections import Counter
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from PIL import Image

from common import (
    INDEX_COLUMNS,
    RANK,
    WORLD_SIZE,
    Parser,
    add_system_arguments,
    choose_device,
    fail,
    progress,
    read_index,
    read_table,
    write_table,
)
from media import layouts, splits
from media.detectors import check_mtcnn, detect_mtcnn, largest_face
from media.faces import clip_starts, equal_intervals, square_box
from media.video import Unreadable, count_frames, ffmpeg_command, read_frames, recode
from running.folder import start_run
from running.script import barrier, run_script
from running.workers import worker_pool


def read_boxes(folder):
    """The crops' boxes of the originals in a folder of stage 01: {original: (width, height, {frame: box or None})}.

    None stands for a frame in which no face was found. Ends the script if the folder holds no originals.
    """
    sides = ("left", "top", "right", "bottom")
    index = read_index(folder, also=sides)
    table = read_table(
        folder / "videos.csv",
        ("video", "label", "original", "width", "height"),
        {"width": (int, "0"), "height": (int, "0")},
    )
    boxes = {
        video: (original, int(w), int(h), {})
        for video, label, original, w, h in zip(
            table["video"], table["label"], table["original"], table["width"], table["height"]
        )
        if label == "0" and original
    }
    for video, frame, *box in zip(
        index["video"], index["frame"].tolist(), *(index[side].tolist() for side in sides)
    ):
        if video in boxes:
            boxes[video][3][frame] = tuple(box)
    skipped = read_table(folder / "skipped.csv", ("video", "frame"))
    for video, frame in zip(skipped["video"], skipped["frame"]):
        if video in boxes and frame.isdecimal():
            boxes[video][3].setdefault(int(frame), None)
    if not boxes:
        fail(
            f"{folder} holds no originals of FaceForensics++ or DFD: make it with --layout ffpp --method originals, or --layout dfd"
        )
    return {original: tuple(rest) for original, *rest in boxes.values()}


def extract_video(video, out, settings):
    """Write the crops of one video to OUT/NAME, with faces.json: all at once, by renaming the finished folder."""
    part, rows, skipped, damage, size, last = (
        out / f".part-{video['name']}",
        [],
        [],
        [],
        (0, 0),
        None,
    )
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    frames_only, length = (
        settings["sampling"] == "frames",
        1 if settings["sampling"] == "frames" else settings["clip_length"],
    )
    middle_first = sorted(range(length), key=lambda k: (abs(k - length // 2), k))

    def near(image):
        """The face near the one that was found last in this video."""
        nonlocal last
        face = largest_face(image, last)
        last = face or last
        return face

    def choose_boxes(group):
        """One box for each clip (or frame: a clip of one) of a group, or None; the middle frame decides, then its neighbours."""
        if "boxes" in video:  # of the original: its nearest sampled frame
            width, height, known = video["boxes"]
            if (width, height) != size:
                raise Unreadable(
                    f"its frames are {size[0]} x {size[1]}, its original's {width} x {height}: boxes do not carry over"
                )
            return [
                known[min(known, key=lambda n: (abs(n - clip[length // 2][0]), n))]
                if known
                else None
                for clip in group
            ]
        boxes = [None] * len(group)
        for k in middle_first:
            open_ = [c for c, box in enumerate(boxes) if box is None]
            images = [group[c][k][1] for c in open_]
            if settings["detector"] == "dlib":
                found = [near(image) for image in images]
            else:
                found = (
                    [
                        faces[0] if faces else None
                        for faces in detect_mtcnn(images, settings["device"])
                    ]
                    if images
                    else ()
                )
            for c, face in zip(open_, found):
                boxes[c] = face and square_box(
                    face, settings["scale"], *group[c][k][1].shape[1::-1]
                )
        return boxes

    def save(group):
        for clip, box in zip(group, choose_boxes(group)):
            for number, frame in clip:
                if box is None:
                    skipped.append(
                        [
                            number,
                            "no face found"
                            + (
                                " in its original"
                                if "boxes" in video
                                else ""
                                if frames_only
                                else " in its clip"
                            ),
                        ]
                    )
                    continue
                image = Image.fromarray(frame[box[1] : box[3], box[0] : box[2]])
                image = (
                    image
                    if frames_only
                    else image.resize((settings["size"],) * 2, Image.Resampling.BICUBIC)
                )
                name = f"{number:06d}.{settings['format']}"
                image.save(
                    part / name,
                    **(
                        dict(quality=settings["jpg_quality"], subsampling=0)
                        if settings["format"] == "jpg"
                        else dict(compress_level=1, compress_type=zlib.Z_RLE)
                    ),
                )
                rows.append(
                    [
                        f"{video['name']}/{name}",
                        number,
                        "" if frames_only else starts.index(clip[0][0]),
                        *box,
                    ]
                )

    try:
        if not os.path.isfile(video["path"]) and not os.path.isdir(video["path"]):
            raise Unreadable("no such file")
        if video.get("boxes", True) is None:
            raise Unreadable(
                f"its original {video['original']} is not in the folder of --boxes-from"
            )
        path = video["path"]
        if settings["crf"] is not None:
            path = part / "recoded.mp4"
            recode(video["path"], settings["crf"], path, damage)
        frames = count_frames(path)
        starts = (
            equal_intervals(frames, video["asked"])
            if frames_only
            else clip_starts(frames, video["asked"] // length, length)
        )
        wanted = [start + k for start in starts for k in range(length)]
        if not wanted:
            raise Unreadable(f"{frames} frames are too few for a clip of {length}")
        seen, clip, group = set(), [], []
        for number, frame in read_frames(path, wanted, damage):
            size = size if seen else frame.shape[1::-1]
            seen.add(number)
            if clip and number != clip[-1][0] + 1:  # an image of the clip did not come
                clip = []
            if clip or number in starts:
                clip.append((number, frame))
            if len(clip) == length:
                group.append(clip)
                clip = []
                # MTCNN takes as many frames at once as make 16 million pixels; dlib takes one.
                if (
                    settings["detector"] == "dlib"
                    or (len(group) + 1) * frame.shape[0] * frame.shape[1] > 16e6
                ):
                    save(group)
                    group = []
        save(group)
        done = {row[1] for row in rows} | {number for number, _ in skipped}
        skipped += [
            [
                number,
                "its clip could not be decoded whole" if number in seen else "could not be decoded",
            ]
            for number in wanted
            if number not in done
        ]
        if not rows:
            skipped = [["", f"no face found in {len(skipped)} frames"]]
    except Unreadable as error:
        skipped = [["", f"unreadable: {error}"]]
    except (
        ValueError,
        RuntimeError,
        MemoryError,
    ) as error:  # of Pillow, dlib or MTCNN; one video never ends a run
        for image in part.iterdir():
            image.unlink()
        rows, skipped = [], [["", ascii(f"failed: {type(error).__name__}: {error}")[1:-1]]]
    (part / "recoded.mp4").unlink(missing_ok=True)
    record = dict(
        rows=rows,
        skipped=sorted(skipped),
        size=size,
        warnings=len(damage),
        first_warning=damage[0] if damage else "",
    )
    (part / "faces.json").write_text(json.dumps(record) + "\n")
    shutil.rmtree(out / video["name"], ignore_errors=True)
    os.rename(part, out / video["name"])


def read_record(out, video):
    """What an earlier run found in a video (faces.json), or None if it has to be done: it was not, or images of it have gone."""
    try:
        record = json.loads((out / video["name"] / "faces.json").read_text())
        there = set(os.listdir(out / video["name"])) - {"faces.json"}
        return record if there == {os.path.basename(row[0]) for row in record["rows"]} else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def main():
    parser = Parser(
        __doc__, usage="%(prog)s (--layout NAME --videos DIR | --list CSV) --out DIR [options]"
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--layout",
        choices=("folders", "ffpp", "dfd", "celebdf", "dfdc", "dfdc-preview", "dftimit"),
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
        help="ffpp: manipulation methods to take beside the originals (default: all; originals: none)",
    )
    data.add_argument(
        "--compression",
        choices=("raw", "c23", "c40"),
        default="c23",
        help="ffpp, dfd: compression (default c23)",
    )
    data.add_argument(
        "--quality",
        choices=("lq", "hq"),
        default="lq",
        help="dftimit: lower_quality or higher_quality (default lq)",
    )
    data.add_argument(
        "--vidtimit",
        type=Path,
        metavar="DIR",
        help="dftimit: VidTIMIT's folder, searched for the originals (default: --videos)",
    )
    data.add_argument(
        "--random-split",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VAL", "TEST"),
        help="draw the splits by --seed in this proportion, over videos; what has the same original or people stays together",
    )
    data.add_argument(
        "--split-in-order",
        nargs=3,
        type=int,
        metavar=("TRAIN", "VAL", "TEST"),
        help="the first TRAIN originals by name are train, and so on, fakes with their originals (CLRNet, FF++: 750 125 125)",
    )
    data.add_argument(
        "--split-draw",
        nargs=3,
        type=int,
        metavar=("TRAIN", "VAL", "TEST"),
        help="draw so many real and so many fake videos by --seed, and leave out the rest (CLRNet, DFD: 250 25 25)",
    )
    data.add_argument(
        "--boxes-from",
        type=Path,
        metavar="FACES",
        help="ffpp, dfd: take the boxes of the originals in this folder of stage 01, for the originals and for the fakes made from "
        "them: both are cropped alike, and nothing is detected twice (not in the paper)",
    )
    data.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write to, e.g. faces/FF-DF",
    )
    what = parser.add_argument_group("sampling")
    what.add_argument(
        "--sampling",
        choices=("frames", "clips"),
        default="frames",
        help="frames: single frames at equal intervals (FeatureTransfer); clips: consecutive frames (CLRNet)",
    )
    what.add_argument(
        "--num-frames", type=int, default=30, metavar="N", help="frames a video (default 30)"
    )
    what.add_argument(
        "--num-frames-real",
        type=int,
        metavar="N",
        help="frames a real video, if other than --num-frames; 150 for the pretraining set DFDC-F",
    )
    what.add_argument(
        "--num-clips", type=int, default=16, metavar="N", help="clips a video (default 16)"
    )
    what.add_argument(
        "--clip-length",
        type=int,
        default=5,
        metavar="T",
        help="consecutive frames a clip (default 5)",
    )
    what.add_argument(
        "--crf",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="encode every video anew first, once for each constant rate factor (0 to 51; 23 and 40 are FaceForensics++'s), into OUT-crfN",
    )
    crop = parser.add_argument_group("crops")
    crop.add_argument(
        "--detector",
        choices=("dlib", "mtcnn"),
        default="dlib",
        help="dlib: its HOG detector (default); mtcnn: the papers', through "
        "facenet-pytorch, which is to be installed separately",
    )
    crop.add_argument(
        "--scale",
        type=float,
        default=1.2,
        metavar="FACTOR",
        help="side of the crop in sides of the detected box (default 1.2)",
    )
    crop.add_argument(
        "--size",
        type=int,
        default=240,
        metavar="PIXELS",
        help="clips: side to resize to (default 240); frames keep their own size",
    )
    crop.add_argument(
        "--format",
        choices=("png", "jpg"),
        default="png",
        help="png adds no second compression (default)",
    )
    crop.add_argument(
        "--jpg-quality",
        type=int,
        default=95,
        metavar="N",
        help="quality of jpg, 1 to 95 (default 95)",
    )
    add_system_arguments(parser, workers="processes, one thread each", seed=True, device=True)
    args = parser.parse_args()

    if bool(args.list) == bool(args.layout) or bool(args.layout) != bool(args.videos):
        fail("give either --layout and --videos, or --list")
    if (
        min(
            args.num_frames,
            args.num_frames_real or 1,
            args.num_clips,
            args.clip_length,
            args.size,
            args.workers,
        )
        < 1
        or not 0.1 <= args.scale <= 10
        or not 1 <= args.jpg_quality <= 95
    ):
        fail(
            "numbers of frames, clips, pixels and workers must be 1 or more, --scale 0.1 to 10, --jpg-quality 1 to 95"
        )
    if any(not 0 <= crf <= 51 for crf in args.crf):
        fail("--crf takes 0 to 51")
    if args.random_split and (min(args.random_split) < 0 or sum(args.random_split) <= 0):
        fail("--random-split needs three proportions, 0 or more, e.g. 80 10 10")
    drawn = [
        flag for flag in ("random_split", "split_in_order", "split_draw") if getattr(args, flag)
    ]
    if len(drawn) > 1 or min(args.split_in_order or args.split_draw or (0,)) < 0:
        fail(
            "give one of --random-split, --split-in-order and --split-draw, with numbers of 0 or more"
        )
    for flag, folder in (
        ("videos", args.videos),
        ("vidtimit", args.vidtimit),
        ("boxes-from", args.boxes_from),
    ):
        if folder and not folder.is_dir():
            fail(f"--{flag} {folder} is not a folder")
    if args.boxes_from and args.layout not in ("ffpp", "dfd"):
        fail(
            "--boxes-from is for --layout ffpp and dfd: their fakes keep the geometry of their originals"
        )
    if args.detector == "mtcnn":
        args.device = str(choose_device(args.device))
        check_mtcnn(args.device)

    if args.list:
        videos, expected = layouts.layout_list(args.list)
    elif args.layout == "ffpp":
        videos, expected = layouts.layout_ffpp(args.videos, args.method, args.compression)
    elif args.layout == "dfd":
        videos, expected = layouts.layout_dfd(args.videos, args.compression)
    elif args.layout == "dftimit":
        videos, expected = layouts.layout_dftimit(args.videos, args.vidtimit, args.quality)
    else:
        videos, expected = getattr(layouts, f"layout_{args.layout.replace('-', '_')}")(args.videos)
    splits.print_counts(videos, expected)
    if args.random_split:
        splits.random_split(videos, args.random_split, args.seed)
    elif args.split_in_order:
        splits.split_in_order(videos, args.split_in_order)
    elif args.split_draw:
        videos = splits.split_draw(videos, args.split_draw, args.seed)
    splits.drop_leaks(videos)
    if drawn:
        print("split:")
        splits.print_counts(videos, {})
    splits.name_videos(videos)
    args.generated = layouts.generated(
        videos
    )  # kept in args.json: what learns from them is a demonstration
    boxes = read_boxes(args.boxes_from) if args.boxes_from else None
    for video in videos:
        frames = (
            (args.num_frames_real or args.num_frames) if video["label"] == 0 else args.num_frames
        )
        video["asked"] = frames if args.sampling == "frames" else args.num_clips * args.clip_length
        if boxes:
            video["boxes"] = boxes.get(ascii(video["original"])[1:-1])

    try:
        ffmpeg_command("")
    except RuntimeError as error:
        fail(
            f"no ffmpeg: {error} Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg of your own"
        )
    for crf in args.crf or [None]:
        one = copy.copy(args)
        one.crf, one.out = crf, args.out if crf is None else Path(f"{args.out}-crf{crf}")
        extract_all(videos, one)


def extract_all(videos, args):
    """Extract the faces of all videos into args.out, and write its tables."""
    start_run(args.out, args, inputs=[args.boxes_from / "index.csv"] if args.boxes_from else [])
    todo = [video for video in videos if read_record(args.out, video) is None]
    per = (
        f"{args.num_frames} frames"
        if args.sampling == "frames"
        else f"{args.num_clips} clips of {args.clip_length} frames"
    )
    print(
        f"{len(videos)} videos, {per} each; {len(videos) - len(todo)} done already; "
        + (f"{WORLD_SIZE} times " if WORLD_SIZE > 1 else "")
        + f"{args.workers} processes",
        flush=True,
    )
    settings = {
        name: getattr(args, name)
        for name in (
            "sampling",
            "scale",
            "size",
            "format",
            "jpg_quality",
            "clip_length",
            "detector",
            "crf",
        )
    }
    if args.detector == "mtcnn":
        settings["device"] = args.device
        print(f"MTCNN on {args.device}")
    barrier()  # each has read what is done before anybody does more
    todo = todo[RANK::WORLD_SIZE]
    try:
        with worker_pool(args.workers) as pool:
            futures = [pool.submit(extract_video, video, args.out, settings) for video in todo]
            for future in progress(as_completed(futures), total=len(todo), unit="video"):
                future.result()
    except BrokenProcessPool:
        fail(
            "a worker process died (out of memory?): run the same command again to go on, with fewer --workers"
        )
    except OSError as error:
        for part in args.out.glob(".part-*"):
            shutil.rmtree(part, ignore_errors=True)
        fail(
            f"cannot write to {args.out}: {error.strerror or error}. Run the same command again to go on"
        )
    barrier()
    if RANK == 0:
        write_tables(videos, args.out)
    barrier()


def write_tables(videos, out):
    """Write index.csv, videos.csv and skipped.csv from the records of all videos, one in memory at a time, and say how it adds up."""

    def records():
        for video in videos:
            record = read_record(out, video)
            if record is None:
                fail(
                    f"{out / video['name']} was done and is not there: do all machines see the same folder, and does nobody else write to it?"
                )
            yield video, record

    counts = Counter()

    def of_videos():
        for v, record in records():
            faces = len(record["rows"])
            lost = not faces and record["skipped"][0][1].startswith("failed: ")
            counts["failed" if lost else "skipped" if not faces else "done"] += 1
            counts.update(
                images=faces, short=0 < faces < v["asked"], damaged=record["warnings"] > 0
            )
            yield (
                v["name"],
                ascii(v["source"])[1:-1],
                v["label"],
                v["method"],
                v["split"],
                ascii(v["original"])[1:-1],
                *record["size"],
                faces,
                v["asked"],
                record["warnings"],
                record["first_warning"],
            )

    write_table(
        out / "videos.csv",
        (
            "video",
            "source",
            "label",
            "method",
            "split",
            "original",
            "width",
            "height",
            "faces",
            "asked",
            "warnings",
            "first_warning",
        ),
        of_videos(),
    )
    write_table(
        out / "skipped.csv",
        ("video", "frame", "reason"),
        ((v["name"], *row) for v, record in records() for row in record["skipped"]),
    )
    if not counts["images"]:
        fail(
            f"no face in any of the {len(videos)} videos: see {out / 'skipped.csv'} for the reasons"
        )
    write_table(
        out / "index.csv",
        (*INDEX_COLUMNS, "left", "top", "right", "bottom", "warnings"),
        (
            (
                row[0],
                v["name"],
                row[1],
                row[2],
                v["label"],
                v["method"],
                v["split"],
                *row[3:],
                record["warnings"],
            )
            for v, record in records()
            for row in record["rows"]
        ),
    )
    strangers = {
        entry.name for entry in os.scandir(out) if entry.is_dir() and not entry.name.startswith(".")
    } - {v["name"] for v in videos}
    if strangers:
        print(
            f"{len(strangers)} folders in {out} are of no video of this run and not in index.csv, {min(strangers)} among them"
        )
    print(
        f"done: {len(videos)} videos = {counts['done']} with faces + {counts['skipped']} skipped + {counts['failed']} failed; {counts['short']} gave fewer "
        f"faces than asked{f', {damaged} are damaged' if (damaged := counts['damaged']) else ''}; {counts['images']} images in {out}"
        + (
            f"; reasons in {out / 'skipped.csv'}"
            if counts["short"] + counts["skipped"] + counts["failed"]
            else ""
        )
    )


if __name__ == "__main__":
    run_script(main)

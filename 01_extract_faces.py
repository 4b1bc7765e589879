#!/usr/bin/env python3
"""Stage 01: find the face in the frames of every video of a data set and save the crops.

    python 01_extract_faces.py --layout ffpp --videos DIR --method Deepfakes --compression c23 --out faces/FF-DF
    python 01_extract_faces.py --layout folders --videos DIR --sampling clips --out faces/MINE-clips
    python 01_extract_faces.py --list videos.csv --random-split 60 20 20 --out faces/LISTED

What comes out, in OUT:

    VIDEO/FRAME.png   the crops of one video, and faces.json, what was found in it
    index.csv         path, video, frame, clip, label, method, split, and the crop's box in pixels of the frame
    skipped.csv       video, frame, reason: frames without a face; frame is empty where the whole video is missing
    videos.csv        one row a video: where it came from, how many faces it gave and how many were asked for

Layouts, labels and splits:

    folders   [train|val|test/]real/**  and  [train|val|test/]fake/**; a folder inside fake/ names the method
    ffpp      original_sequences/youtube/COMPRESSION/videos, manipulated_sequences/METHOD/COMPRESSION/videos; splits from
              train.json, val.json, test.json in DIR or DIR/splits, as FaceForensics++ ships them
    --list    a CSV with the columns path (relative to the CSV), label (0 = real, 1 = fake), and if you like method, split

Deviations from the papers (theirs -> ours):

    detector            MTCNN (FeatureTransfer 3.3, CLRNet 5.1.3) -> dlib's HOG detector, as a wheel on every system
    alignment           CLRNet 5.1.3 aligns by landmarks -> the box is centred on the detected face; no rotation
    box                 expanded 1.2 times (FeatureTransfer 3.3) -> the same, made square and moved into the frame
    several faces       not said -> the largest
    "equal intervals"   not said where they start -> the middle of each of N equal parts of the video
    clips of a video    16 x 5 (CLRNet 5.1.3), place not said -> the middle of each of 16 equal parts, never overlapping;
                        one box a clip, so that the face does not jump where the detector does
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image

from common import INDEX_COLUMNS, add_system_arguments, fail, progress, read_table, start_run, worker_pool, write_table

ENDINGS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".gif"}
# What ffmpeg may take a file for. Playlists and scripts are left out: they would make it open other files.
CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,live_flv,ogg,gif,h264,hevc,m4v,mjpeg,mxf,ivf,dv,rm,nut,wtv"


# ---------------------------------------------------------------- which videos: label, method, split

def find_videos(folder):
    """Video files below a folder in order of their paths; follows links, but into no folder twice."""
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        found += [Path(root) / name for name in files if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS]
    return sorted(path for path in found if path.is_file())


def layout_folders(root):
    """Videos of `[split/]real/**` and `[split/]fake/**` as dicts of path, label, method, split."""
    videos = []
    for split in ("", "train", "val", "test"):
        for label, kind in enumerate(("real", "fake")):
            base = root / split / kind
            for path in find_videos(base):
                inside = path.relative_to(base).parts
                videos.append(dict(path=path, label=label, method=inside[0] if len(inside) > 1 else kind, split=split))
    if not videos:
        fail(f"{root} has no videos in real/ and fake/ (or train/real/, train/fake/, val/..., test/...)")
    return videos


def layout_ffpp(root, methods, compression):
    """Videos of a FaceForensics++ tree as dicts of path, label, method, split; methods=None takes all that are there."""
    fakes = root / "manipulated_sequences"
    there = sorted(path.name for path in fakes.glob("*") if (path / compression / "videos").is_dir())
    for method in methods or ():
        if method not in there:
            fail(f"{fakes} has no {method} at {compression} (it has: {', '.join(there) or 'nothing'})")
    split_of, files = {}, 0
    for split in ("train", "val", "test"):
        for file in (root / "splits" / f"{split}.json", root / f"{split}.json"):
            if file.is_file():
                try:
                    pairs = [(str(a), str(b)) for a, b in json.loads(file.read_text())]
                except (OSError, ValueError, TypeError):
                    fail(f"{file} is not a list of pairs of names, as FaceForensics++ ships it")
                files += 1
                for name in [name for pair in pairs for name in pair]:
                    if split_of.setdefault(name, split) != split:
                        fail(f"{file} puts {name} into {split}, but it is in {split_of[name]} already")
                break
    videos = []
    for label, base, names in ((0, root / "original_sequences", ["youtube"]), (1, fakes, methods or there)):
        for name in names:
            for path in find_videos(base / name / compression / "videos"):
                splits = {split_of.get(part, "") for part in path.stem.split("_")}
                videos.append(dict(path=path, label=label, method=name, split=splits.pop() if len(splits) == 1 else ""))
    if not videos:
        fail(f"{root} is not a FaceForensics++ tree at {compression}: no original_sequences/youtube/{compression}/videos, "
             f"no manipulated_sequences/METHOD/{compression}/videos")
    outside = sum(video["split"] == "" for video in videos)
    if not files:
        print("no split files (train.json, val.json, test.json) in this tree")
    elif outside:
        print(f"warning: {outside} of {len(videos)} videos are in no split file, or between two splits: their split stays empty")
    return videos


def layout_list(file):
    """Videos of a CSV with path, label and if given method and split, as dicts of path, label, method, split."""
    table = read_table(file, ("path", "label"))
    videos = []
    for k, (path, label) in enumerate(zip(table["path"], table["label"])):
        if label not in ("0", "1"):
            fail(f"{file}, data row {k + 1}: label is {label[:20]!r}; 0 is real, 1 is fake")
        split = table["split"][k] if "split" in table else ""
        if split not in ("", "train", "val", "test"):
            fail(f"{file}, data row {k + 1}: split is {split[:20]!r}; it can be train, val, test or empty")
        videos.append(dict(path=file.parent / path, label=int(label), split=split,
                           method=(table["method"][k] if "method" in table else "") or ("real", "fake")[int(label)]))
    if not videos:
        fail(f"{file} has no rows")
    return videos


def random_split(videos, parts, seed, connected):
    """Draw train, val and test in the proportion of `parts`, in place, the reals and the fakes each.

    With `connected`, videos that share a name's part stay together (FaceForensics++: 519_515 belongs to 519 and to 515).
    """
    group = {}                                                            # name -> its representative

    def find(name):
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    names = [video["path"].stem.split("_") if connected else [str(video["path"])] for video in videos]
    for first, *others in names:
        for other in others:
            group[find(other)] = find(first)
    kinds = {}                                                            # labels in a group -> its groups
    labels = {}
    for video, (first, *_) in zip(videos, names):
        labels.setdefault(find(first), set()).add(video["label"])
    for name, found in labels.items():
        kinds.setdefault(tuple(sorted(found)), []).append(name)
    split_of = {}
    bounds = np.cumsum(parts) / np.sum(parts)
    for found in sorted(kinds):
        order = np.random.default_rng((seed, len(found), found[0])).permutation(sorted(kinds[found])).tolist()
        for k, name in enumerate(order):
            split_of[name] = ("train", "val", "test")[int(np.searchsorted(bounds, (k + 0.5) / len(order)))]
    for video, (first, *_) in zip(videos, names):
        video["split"] = split_of[find(first)]


def name_videos(videos):
    """Give each video its unique name, `METHOD_STEM` in letters that every file system takes; in place.

    Where letters had to go or two names meet (000_003 of four methods, a.mp4 and a.avi), a hash of the path sets them apart.
    """
    plain = [f"{video['method']}_{video['path'].stem}" for video in videos]
    names = [re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].strip(".") for name in plain]
    times = Counter(name.lower() for name in names)
    root = os.path.commonpath([os.path.abspath(video["path"].parent) for video in videos])
    for video, name, before in zip(videos, names, plain):
        video["source"] = os.path.relpath(os.path.abspath(video["path"]), root)
        if name != before or times[name.lower()] > 1:
            name += "-" + hashlib.sha1(os.fsencode(video["source"])).hexdigest()[:8]
        video["name"] = name
    twice = [name for name, n in Counter(video["name"] for video in videos).items() if n > 1]
    if twice:
        fail(f"the same video is listed twice: {[v['source'] for v in videos if v['name'] == twice[0]][0]!r}")


# ---------------------------------------------------------------- which frames of a video

def equal_intervals(frames, count):
    """`count` frame numbers at equal intervals among `frames` frames; all of them where there are fewer."""
    return list(range(frames)) if frames <= count else [int((k + 0.5) * frames / count) for k in range(count)]


def clip_starts(frames, clips, length):
    """First frames of up to `clips` clips of `length` frames, spread over `frames` frames, never overlapping."""
    clips = min(clips, frames // length)
    return [int(k * frames / clips + (frames / clips - length) / 2) for k in range(clips)]


# ---------------------------------------------------------------- decoding

class Unreadable(Exception):
    """A video that ffmpeg cannot read; the message is the reason."""


def ffmpeg_command(path, *options):
    """ffmpeg on one local file: one thread, errors only, no other file and no network, whatever the name looks like."""
    import imageio_ffmpeg
    return [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-v", "error", "-threads", "1",
            "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", f"file:{os.path.abspath(path)}",
            "-map", "0:V:0", *options]


def reason(stderr):
    """ffmpeg's first complaint as one line of plain text, without the addresses that differ from run to run."""
    lines = re.sub(rb"\[[^\]]* @ 0x[0-9a-f]+\] ", b"", stderr).decode("utf-8", "replace").strip().splitlines()
    return ascii(re.sub(r"file:\S*/", "", lines[0]))[1:-1][:200] if lines else "ffmpeg gave no reason"


def count_frames(path):
    """Number of frames (packets, without decoding them) of a video's first picture stream. Raises Unreadable."""
    limit = 60 + os.path.getsize(path) / 5e6                              # seconds
    try:
        done = subprocess.run(ffmpeg_command(path, "-c", "copy", "-f", "null", "-progress", "pipe:1", "-"),
                              capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"counting its frames took longer than {limit:.0f} s")
    counts = re.findall(rb"^frame=\s*(\d+)", done.stdout, re.MULTILINE)
    if not counts or not int(counts[-1]):
        raise Unreadable(reason(done.stderr) if done.stderr else "no picture stream with frames in it")
    return int(counts[-1])


def read_frames(path, wanted):
    """Decode a video and yield (number, frame) for the frame numbers in `wanted` (rising): (height, width, 3) uint8 RGB.

    Only the wanted frames are converted and leave ffmpeg, as PPM, which carries its own size: rotated phone videos
    come the right way up, and nothing has to be read from ffmpeg's messages. Raises Unreadable if no frame comes.
    """
    runs = []                                                             # 7, 8, 9, 20 -> [7, 9], [20, 20]
    for n in wanted:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])

    def any_of(runs):                                                     # a balanced tree: ffmpeg takes 100 levels, not 150 terms
        half = len(runs) // 2
        return f"({any_of(runs[:half])}+{any_of(runs[half:])})" if half else f"between(n,{runs[0][0]},{runs[0][1]})"

    choose = f"select='{any_of(runs)}'"
    command = ffmpeg_command(path, "-vf", choose, "-fps_mode", "passthrough", "-frames:v", str(len(wanted)),
                             "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1")
    came, late = 0, False
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            for k, number in enumerate(wanted):
                limit = 60 + 0.5 * (number - (wanted[k - 1] if k else 0))   # seconds to decode up to the next wanted frame

                def give_up():
                    nonlocal late
                    late = True
                    process.kill()

                timer = threading.Timer(limit, give_up)
                timer.start()
                try:
                    if process.stdout.readline() != b"P6\n":
                        break
                    width, height = (int(v) for v in process.stdout.readline().split())
                    process.stdout.readline()
                    data = process.stdout.read(width * height * 3)
                finally:
                    timer.cancel()
                if len(data) < width * height * 3:
                    break
                came += 1
                yield number, np.frombuffer(data, np.uint8).reshape(height, width, 3)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if not came:
            errors.seek(0)
            raise Unreadable(f"no frame within {limit:.0f} s" if late else reason(errors.read()))


# ---------------------------------------------------------------- the face

_detector = None


def largest_face(frame):
    """The largest face that dlib's HOG detector finds: (left, top, right, bottom) in pixels of the frame, or None.

    The detector sees faces from 80 pixels on. It looks at the frame at a long side of 640 pixels first, at 1920
    if nothing is there, and last at twice that: ten times dearer each, and needed for few frames.
    """
    global _detector
    import dlib
    _detector = _detector or dlib.get_frontal_face_detector()
    height, width = frame.shape[:2]
    for side, enlarge in ((640, 0), (1920, 0), (1920, 1)):
        factor = min(1.0, side / max(height, width))
        if side == 1920 and not enlarge and max(height, width) <= 640:
            continue                                                      # seen already
        small = frame
        if factor < 1:
            size = max(1, round(width * factor)), max(1, round(height * factor))
            small = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
        boxes = _detector(small, enlarge)
        if boxes:
            box = max(boxes, key=lambda b: b.area())
            return tuple(v / factor for v in (box.left(), box.top(), box.right() + 1, box.bottom() + 1))
    return None


def square_box(box, scale, width, height):
    """A square of `scale` times the longer side around the box's centre, moved and if need be shrunk into the frame.

    Returns whole pixels (left, top, right, bottom), right and bottom exclusive (FeatureTransfer 3.3: 1.2 times).
    """
    left, top, right, bottom = box
    side = max(1, min(round(scale * max(right - left, bottom - top)), width, height))
    x = min(max(round((left + right - side) / 2), 0), width - side)
    y = min(max(round((top + bottom - side) / 2), 0), height - side)
    return x, y, x + side, y + side


# ---------------------------------------------------------------- one video

def extract_video(video, out, settings):
    """Write the crops of one video to OUT/NAME, with faces.json: all at once, by renaming the finished folder."""
    part, rows, skipped = out / f".part-{video['name']}", [], []
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()

    def save(number, clip, image, box):
        name = f"{number:06d}.{settings['format']}"
        options = dict(quality=settings["quality"], subsampling=0) if settings["format"] == "jpg" else dict(compress_level=1)
        image.save(part / name, **options)
        rows.append([f"{video['name']}/{name}", number, clip, *box])

    asked, length, seen, buffer = video["asked"], settings["clip_length"], set(), []
    try:
        if not video["path"].is_file():
            raise Unreadable("no such file")
        frames = count_frames(video["path"])
        if settings["sampling"] == "frames":
            wanted = equal_intervals(frames, asked)
        else:
            starts = clip_starts(frames, asked // length, length)
            wanted = [start + k for start in starts for k in range(length)]
            if not wanted:
                raise Unreadable(f"{frames} frames are too few for a clip of {length}")
        for number, frame in read_frames(video["path"], wanted):
            seen.add(number)
            if settings["sampling"] == "frames":
                face = largest_face(frame)
                if face is None:
                    skipped.append([number, "no face found"])
                    continue
                box = square_box(face, settings["scale"], frame.shape[1], frame.shape[0])
                save(number, "", Image.fromarray(frame).crop(box), box)
                continue
            buffer.append((number, frame))
            if len(buffer) < length:
                continue
            middle_first = sorted(range(length), key=lambda k: (abs(k - length // 2), k))
            face = next((face for k in middle_first if (face := largest_face(buffer[k][1]))), None)
            for number, frame in buffer:
                if face is None:
                    skipped.append([number, "no face found in its clip"])
                    continue
                box = square_box(face, settings["scale"], frame.shape[1], frame.shape[0])
                image = Image.fromarray(frame).resize((settings["size"],) * 2, Image.Resampling.BICUBIC, box=box)
                save(number, starts.index(buffer[0][0]), image, box)
            buffer = []
        skipped += [[number, "its clip could not be decoded whole"] for number, _ in buffer]
        skipped += [[number, "could not be decoded"] for number in wanted if number not in seen]
        if not rows:
            skipped = [["", f"no face found in {len(skipped)} frames"]]
    except Unreadable as error:
        skipped = [["", f"unreadable: {error}"]]
    except (ValueError, RuntimeError, MemoryError) as error:              # of Pillow or dlib; one video never ends a run
        for image in part.iterdir():
            image.unlink()
        rows, skipped = [], [["", ascii(f"failed: {type(error).__name__}: {error}")[1:-1]]]
    (part / "faces.json").write_text(json.dumps(dict(rows=rows, skipped=skipped)) + "\n")
    shutil.rmtree(out / video["name"], ignore_errors=True)
    os.rename(part, out / video["name"])


def read_record(out, video):
    """What an earlier run found in a video ({rows, skipped}), or None if it has to be done."""
    try:
        return json.loads((out / video["name"] / "faces.json").read_text())
    except (OSError, ValueError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--layout", choices=("folders", "ffpp"), help="how the data set lies on disk, see below")
    data.add_argument("--videos", type=Path, metavar="DIR", help="the data set's folder")
    data.add_argument("--list", type=Path, metavar="CSV", help="instead of both: a CSV of videos, see below")
    data.add_argument("--method", nargs="+", help="ffpp: manipulation methods to take beside the originals (default: all)")
    data.add_argument("--compression", choices=("raw", "c23", "c40"), default="c23", help="ffpp: compression (default c23)")
    data.add_argument("--random-split", nargs=3, type=float, metavar=("TRAIN", "VAL", "TEST"),
                      help="draw the splits by --seed in this proportion, over videos; for data sets that have none")
    data.add_argument("--out", type=Path, required=True, help="folder to write to, e.g. faces/FF-DF")
    what = parser.add_argument_group("sampling")
    what.add_argument("--sampling", choices=("frames", "clips"), default="frames",
                      help="frames: single frames at equal intervals (FeatureTransfer); clips: consecutive frames (CLRNet)")
    what.add_argument("--num-frames", type=int, default=30, metavar="N", help="frames a video (default 30)")
    what.add_argument("--num-frames-real", type=int, metavar="N", help="frames a real video, if other than --num-frames; "
                                                                       "150 for the pretraining set DFDC-F")
    what.add_argument("--num-clips", type=int, default=16, metavar="N", help="clips a video (default 16)")
    what.add_argument("--clip-length", type=int, default=5, metavar="T", help="consecutive frames a clip (default 5)")
    crop = parser.add_argument_group("crops")
    crop.add_argument("--scale", type=float, default=1.2, help="side of the crop in sides of the detected box (default 1.2)")
    crop.add_argument("--size", type=int, default=240, metavar="PIXELS",
                      help="clips: side to resize to (default 240); frames keep their own size")
    crop.add_argument("--format", choices=("png", "jpg"), default="png", help="png adds no second compression (default)")
    crop.add_argument("--quality", type=int, default=95, help="quality of jpg, 1 to 95 (default 95)")
    add_system_arguments(parser, workers="processes, one thread each", seed=True)
    args = parser.parse_args()

    if bool(args.list) == bool(args.layout) or bool(args.layout) != bool(args.videos):
        fail("give either --layout and --videos, or --list")
    if min(args.num_frames, args.num_frames_real or 1, args.num_clips, args.clip_length, args.size, args.workers) < 1 \
            or not 0.1 <= args.scale <= 10 or not 1 <= args.quality <= 95:
        fail("numbers of frames, clips, pixels and workers must be 1 or more, --scale 0.1 to 10, --quality 1 to 95")
    if args.random_split and (min(args.random_split) < 0 or sum(args.random_split) <= 0):
        fail("--random-split needs three proportions, 0 or more, e.g. 80 10 10")
    if args.videos and not args.videos.is_dir():
        fail(f"--videos {args.videos} is not a folder")

    if args.list:
        videos = layout_list(args.list)
    elif args.layout == "ffpp":
        videos = layout_ffpp(args.videos, args.method, args.compression)
    else:
        videos = layout_folders(args.videos)
    if args.random_split:
        random_split(videos, args.random_split, args.seed, connected=args.layout == "ffpp")
    name_videos(videos)
    for video in videos:
        frames = (args.num_frames_real or args.num_frames) if video["label"] == 0 else args.num_frames
        video["asked"] = frames if args.sampling == "frames" else args.num_clips * args.clip_length
    counts = Counter((video["split"] or "no split", video["method"], ("real", "fake")[video["label"]]) for video in videos)
    for (split, method, label), count in sorted(counts.items()):
        print(f"  {split:<8} {label} {method:<20} {count:6d} videos")

    start_run(args.out, args)
    todo = [video for video in videos if read_record(args.out, video) is None]
    per = f"{args.num_frames} frames" if args.sampling == "frames" else f"{args.num_clips} clips of {args.clip_length} frames"
    print(f"{len(videos)} videos, {per} each; {len(videos) - len(todo)} done already; {args.workers} processes", flush=True)
    settings = {name: getattr(args, name) for name in ("sampling", "scale", "size", "format", "quality", "clip_length")}
    with worker_pool(args.workers) as pool:
        try:
            futures = [pool.submit(extract_video, video, args.out, settings) for video in todo]
            for future in progress(as_completed(futures), total=len(todo), unit="video"):
                future.result()
        except BrokenProcessPool:
            fail("a worker process died (out of memory?): run the same command again to go on, with fewer --workers")
        except OSError as error:
            pool.shutdown(wait=False, cancel_futures=True)
            fail(f"cannot write to {args.out}: {error.strerror or error}. Run the same command again to go on")

    records = [read_record(args.out, video) for video in videos]
    index = [(row[0], v["name"], row[1], row[2], v["label"], v["method"], v["split"], *row[3:])
             for v, record in zip(videos, records) for row in record["rows"]]
    write_table(args.out / "videos.csv", ("video", "source", "label", "method", "split", "faces", "asked"),
                ((v["name"], ascii(v["source"])[1:-1], v["label"], v["method"], v["split"], len(record["rows"]), v["asked"])
                 for v, record in zip(videos, records)))
    write_table(args.out / "skipped.csv", ("video", "frame", "reason"),
                ((v["name"], *row) for v, record in zip(videos, records) for row in record["skipped"]))
    without = sum(not record["rows"] for record in records)
    short = sum(0 < len(record["rows"]) < v["asked"] for v, record in zip(videos, records))
    if not index:
        fail(f"no face in any of the {len(videos)} videos: see {args.out / 'skipped.csv'} for the reasons")
    write_table(args.out / "index.csv", (*INDEX_COLUMNS, "left", "top", "right", "bottom"), index)
    print(f"done: {len(videos)} videos = {len(videos) - without} with faces + {without} skipped; {short} gave fewer faces than "
          f"asked; {len(index)} images in {args.out}" + (f"; reasons in {args.out / 'skipped.csv'}" if short + without else ""))


if __name__ == "__main__":
    main()

"""Hostile videos, made from a good one by `make`, which also tells what 01 must find in each."""

import os
import subprocess

import imageio_ffmpeg
import numpy as np

GOOD = 3  # faces, of as many frames asked for
UNREADABLE = "unreadable: "
LOST = "could not be decoded"

# Encoded from the good video: name, ffmpeg's options, what 01 must find (default: GOOD).
ENCODED = (
    # Sizes and lengths.
    ("one_frame.mp4", "-frames:v 1", 1),
    ("one_pixel.mkv", "-vf scale=1:1 -c:v png", "no face"),
    ("flat.mkv", "-vf scale=4000:2 -c:v png", "no face"),
    ("huge.mp4", "-vf scale=8192:8192 -frames:v 1 -c:v mjpeg -q:v 20", 1),
    # Time.
    ("variable_rate.mp4", "-vf setpts=PTS+random(0)*0.2/TB -fps_mode vfr", (LOST, GOOD)),
    ("fast.mkv", "-vf setpts=N/100000/TB -enc_time_base 1:100000 -r 100000 -c:v ffv1"),
    ("early.mkv", "-output_ts_offset -3 -avoid_negative_ts disabled"),
    ("edit_list.mp4", "-ss 0.1"),
    # Pixels.
    ("hdr.mp4", "-pix_fmt yuv420p10le -colorspace bt2020nc -color_trc smpte2084"),
    ("gray16.mkv", "-c:v ffv1 -pix_fmt gray16le"),
    ("alpha.mov", "-c:v qtrle -pix_fmt argb"),
    ("wide_pixels.mp4", "-vf scale=iw/2:ih,setsar=2"),
    ("interlaced.mp4", "-vf interlace -flags +ildct+ilme", (LOST, GOOD)),
    # Codecs and containers.
    ("hevc.mp4", "-c:v libx265 -x265-params log-level=error -pix_fmt yuv420p10le"),
    ("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuva420p"),
    ("mpeg2.mpg", "-c:v mpeg2video -q:v 3"),
    ("wmv.wmv", "-c:v wmv2 -q:v 3"),
    ("moving.gif", "", ("no face found", GOOD)),  # of 256 colors
    ("raw_stream_in_disguise.mp4", "-c:v libx264 -f h264"),
    ("matroska_in_disguise.mp4", "-f matroska"),
)
NAMES = (
    *("quote'.mp4", "new\nline.mp4", "percent %d %06d.mp4", "-i.mp4", "=1+1.mp4", "pipe:0.mp4"),
    *("concat:front.mp4", "back\\slash.mp4", "dollar$HOME`id`.mp4", "видео 视频 🎬.mp4"),
    *("combining e\u0301.mp4", "é" * 125 + ".mp4", os.fsdecode(b"not utf-8 \xff\xfe.mp4")),
    *("right\u202eto left.mp4", "\x1b[31mred.mp4", "a/same.mp4", "b/same.mp4", "a_same.mp4"),
    *("same.mp4", "same.mkv", "SAME.mp4", "a/b/same.mp4", "a_b/same.mp4"),
)


def ffmpeg(*arguments):
    # Some encoders print messages at any level. They are shown only if ffmpeg fails.
    program = [imageio_ffmpeg.get_ffmpeg_exe(), *"-hide_banner -nostdin -v error -y".split()]
    subprocess.run([*program, *map(str, arguments)], check=True, stderr=subprocess.PIPE)


def make(folder, good):
    """Write the files below `folder`, from a video of a face of about 320 x 240, 10 frames or more.

    Returns {path in the folder: number of faces that it must give, or a part of the reason that
    skipped.csv must give; a tuple where any of them will do}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}

    def path(name, says=GOOD):
        expected[name] = says
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return folder / name

    # Cut off, with the index behind and in front; not videos at all.
    front = path("front.mp4")
    ffmpeg("-i", good, "-c", "copy", "-movflags", "+faststart", front)
    whole, early = good.read_bytes(), front.read_bytes()
    damaged = bytearray(early)
    rng = np.random.default_rng(0)
    for place in rng.integers(len(early) // 2, len(early), 40):
        damaged[place] ^= 0xFF
    says = (UNREADABLE, "no face found", LOST, GOOD)
    path("damaged.mp4", says).write_bytes(damaged)
    path("cut_behind_90.mp4", (UNREADABLE, GOOD)).write_bytes(whole[: len(whole) * 9 // 10])
    path("cut_front_90.mp4", (UNREADABLE, GOOD)).write_bytes(early[: len(early) * 9 // 10])
    for name, content in (
        ("cut_behind_50.mp4", whole[: len(whole) // 2]),
        ("cut_front_10.mp4", early[: len(early) // 10]),
        ("zero.mp4", b""),
        ("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
        ("noise.mp4", rng.bytes(100_000)),
        ("playlist.m3u8.mp4", b"#EXTM3U\n#EXTINF:1,\nfront.mp4\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", b"ffconcat version 1.0\nfile front.mp4\n"),
        ("sdp.mp4", b"v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    ):
        path(name, UNREADABLE).write_bytes(content)
    with open(path("sparse.mp4", UNREADABLE), "wb") as file:
        file.truncate(10**10)
    with open(path("sparse_tail.mp4"), "wb") as file:
        file.write(early)
        file.truncate(10**9)

    # Sound, several streams, length, rotation.
    tone = "-f lavfi -i sine=duration=1".split()
    cover = folder.parent / "cover.png"
    ffmpeg("-i", good, "-frames:v", "1", cover)
    copied = "-map 0 -map 1 -c:v copy -disposition:v:0 attached_pic".split()
    name = path("sound_with_cover.m4a.mp4", "no picture stream")
    ffmpeg(*tone, "-i", cover, *copied, name)
    ffmpeg("-i", good, *tone, *"-map 0:v -map 1:a -shortest".split(), path("with_sound.mp4"))
    both = "-map 0:v -map 1:v -filter:v:1 negate".split()
    ffmpeg("-i", good, "-i", good, *both, path("two_streams.mkv"))
    gray = "-f lavfi -i color=gray:size=16x16:rate=1000:duration=20 -c:v libx264 -preset ultrafast"
    ffmpeg(*gray.split(), path("long.mp4", "no face"))
    for degrees, turn in ((90, "transpose=clock"), (180, "hflip,vflip"), (270, "transpose=cclock")):
        turned = folder.parent / f"turned{degrees}.mp4"
        ffmpeg("-i", good, "-vf", turn, turned)
        rotated = path(f"rotated_{degrees}.mp4")
        ffmpeg("-display_rotation", degrees, "-i", turned, "-c", "copy", rotated)
    small, large = (folder.parent / f"{n}.ts" for n in ("small", "large"))
    ffmpeg("-i", good, "-c:v", "libx264", small)
    ffmpeg("-i", good, "-vf", "scale=iw*2:ih*2", "-c:v", "libx264", large)
    path("size_changes.ts").write_bytes(small.read_bytes() + large.read_bytes())

    for name, options, *says in ENCODED:
        ffmpeg("-i", good, *options.split(), path(name, *says))
    for name in NAMES:
        path(name).write_bytes(whole)
    path("forbidden.mp4", (UNREADABLE, GOOD)).write_bytes(whole)
    (folder / "forbidden.mp4").chmod(0)  # root can read it all the same

    # These are not counted as videos. Files with a leading dot are left behind by file managers.
    (folder / "._front.mp4").write_bytes(whole)
    os.symlink(folder, folder / "circle")
    os.symlink("nowhere", folder / "dangling.mp4")
    os.symlink("itself.mp4", folder / "itself.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    return expected

"""Hostile videos, made from a good one by `make`, which also tells what 01 must find in each."""

import os
import subprocess

import imageio_ffmpeg
import numpy as np

GOOD = 3  # faces, of as many frames asked for


def ffmpeg(*arguments):
    # Some encoders print messages at any level. They are shown only if ffmpeg fails.
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-hide_banner",
            "-nostdin",
            "-v",
            "error",
            "-y",
            *map(str, arguments),
        ],
        check=True,
        stderr=subprocess.PIPE,
    )


def make(folder, good):
    """Write the files below `folder`, from a video of a face of about 320 x 240, 10 frames or more.

    Returns {path in the folder: number of faces that it must give, or a part of the reason that
    skipped.csv must give; a tuple where any of them will do}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}

    def path(name, says):
        expected[name] = says
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        return folder / name

    def encode(name, *options, says=GOOD, before=()):
        ffmpeg(*before, "-i", good, *options, path(name, says))

    def write(name, content, says):
        path(name, says).write_bytes(content)

    # Cut off, with the index behind and in front; not videos at all.
    unreadable = "unreadable: "
    front = folder / "front.mp4"
    ffmpeg("-i", good, "-c", "copy", "-movflags", "+faststart", front)
    expected["front.mp4"] = GOOD
    whole, early = good.read_bytes(), front.read_bytes()
    for share in (1, 10, 50, 90, 99):
        write(
            f"cut_behind_{share}.mp4",
            whole[: len(whole) * share // 100],
            unreadable if share < 90 else (unreadable, GOOD),
        )
        write(
            f"cut_front_{share}.mp4",
            early[: len(early) * share // 100],
            unreadable if share < 50 else (unreadable, GOOD),
        )
    rng = np.random.default_rng(0)
    damaged = bytearray(early)
    for place in rng.integers(len(early) // 2, len(early), 40):
        damaged[place] ^= 0xFF
    write(
        "damaged.mp4", bytes(damaged), (unreadable, "no face found", "could not be decoded", GOOD)
    )
    write("zero.mp4", b"", unreadable)
    write("header.mp4", whole[:32], unreadable)
    write("text.mp4", b"not a video\n", unreadable)
    write("page.mp4", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", unreadable)
    write("quota.mp4", b'{"error": "quota exceeded"}', unreadable)
    write(
        "pointer.mp4",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n",
        unreadable,
    )
    write("noise.mp4", rng.bytes(100_000), unreadable)
    write("zeros.mp4", bytes(1_000_000), unreadable)
    write("playlist.m3u8.mp4", b"#EXTM3U\n#EXTINF:1,\nfront.mp4\n#EXT-X-ENDLIST\n", unreadable)
    write("concat.mp4", b"ffconcat version 1.0\nfile front.mp4\n", unreadable)
    write(
        "sdp.mp4",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        unreadable,
    )
    write("subtitles.mp4", b"1\n00:00:00,000 --> 00:00:01,000\nhello\n", unreadable)
    with open(path("sparse.mp4", unreadable), "wb") as file:
        file.truncate(10**10)
    with open(path("sparse_tail.mp4", GOOD), "wb") as file:
        file.write(early)
        file.truncate(10**9)

    # Sound, sizes, lengths.
    tone = ("-f", "lavfi", "-i", "sine=duration=1")
    ffmpeg(*tone, path("sound.mp4", "no picture stream"))
    cover = folder.parent / "cover.png"
    ffmpeg("-i", good, "-frames:v", "1", cover)
    ffmpeg(
        *tone,
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        path("sound_with_cover.m4a.mp4", "no picture stream"),
    )
    ffmpeg(
        "-i", good, *tone, "-map", "0:v", "-map", "1:a", "-shortest", path("with_sound.mp4", GOOD)
    )
    encode("one_frame.mp4", "-frames:v", "1", says=1)
    encode("two_frames.mp4", "-frames:v", "2", says=2)
    encode("one_pixel.mkv", "-vf", "scale=1:1", "-c:v", "png", says="no face")
    encode("two_pixels.mp4", "-vf", "scale=2:2", says="no face")
    encode("flat.mkv", "-vf", "scale=4000:2", "-c:v", "png", says="no face")
    encode("thin.mkv", "-vf", "scale=2:4000", "-c:v", "png", says="no face")
    encode("odd.mp4", "-vf", "scale=363:271", "-pix_fmt", "yuv444p")
    encode(
        "huge.mp4",
        "-vf",
        "scale=8192:8192",
        "-frames:v",
        "1",
        "-c:v",
        "mjpeg",
        "-q:v",
        "20",
        says=1,
    )
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "color=gray:size=16x16:rate=1000:duration=100",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        path("long.mp4", "no face"),
    )

    # Rotation, time.
    for degrees, turn in ((90, "transpose=clock"), (180, "hflip,vflip"), (270, "transpose=cclock")):
        turned = folder.parent / f"turned{degrees}.mp4"
        ffmpeg("-i", good, "-vf", turn, turned)
        ffmpeg(
            "-display_rotation",
            degrees,
            "-i",
            turned,
            "-c",
            "copy",
            path(f"rotated_{degrees}.mp4", GOOD),
        )
    encode(
        "variable_rate.mp4",
        "-vf",
        "setpts='PTS+random(0)*0.2/TB'",
        "-fps_mode",
        "vfr",
        says=("could not be decoded", GOOD),
    )
    encode("a_frame_an_hour.mp4", "-vf", "setpts=N*3600/TB", "-fps_mode", "vfr")
    encode("slow.mkv", "-vf", "setpts=N*1000/TB", "-fps_mode", "vfr")
    encode(
        "fast.mkv",
        "-vf",
        "setpts=N/100000/TB",
        "-enc_time_base",
        "1:100000",
        "-r",
        "100000",
        "-c:v",
        "ffv1",
    )
    encode("late.mp4", "-output_ts_offset", "5000")
    encode("early.mkv", "-output_ts_offset", "-3", "-avoid_negative_ts", "disabled")
    encode("edit_list.mp4", "-ss", "0.1")
    small, large = (folder.parent / f"{n}.ts" for n in ("small", "large"))
    ffmpeg("-i", good, "-c:v", "libx264", small)
    ffmpeg("-i", good, "-vf", "scale=iw*2:ih*2", "-c:v", "libx264", large)
    write(
        "size_changes.ts", small.read_bytes() + large.read_bytes(), ("could not be decoded", GOOD)
    )

    # Pixels.
    encode("ten_bit.mp4", "-pix_fmt", "yuv420p10le")
    encode(
        "hdr.mp4",
        "-pix_fmt",
        "yuv420p10le",
        "-colorspace",
        "bt2020nc",
        "-color_trc",
        "smpte2084",
        "-color_primaries",
        "bt2020",
    )
    encode("twelve_bit.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p12le")
    encode("gray.mp4", "-pix_fmt", "gray")
    encode("gray16.mkv", "-c:v", "ffv1", "-pix_fmt", "gray16le")
    encode("rgb.mp4", "-c:v", "libx264rgb", "-pix_fmt", "rgb24")
    encode("full_range.mp4", "-vf", "scale=out_range=full", "-color_range", "pc")
    encode("yuv422.mp4", "-pix_fmt", "yuv422p")
    encode("yuv411.avi", "-c:v", "huffyuv", "-pix_fmt", "yuv422p")
    encode("alpha.mov", "-c:v", "qtrle", "-pix_fmt", "argb")
    encode(
        "alpha.webm",
        "-c:v",
        "libvpx-vp9",
        "-pix_fmt",
        "yuva420p",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
    )
    encode("wide_pixels.mp4", "-vf", "scale=iw/2:ih,setsar=2")
    encode(
        "interlaced.mp4",
        "-vf",
        "interlace",
        "-flags",
        "+ildct+ilme",
        says=("could not be decoded", GOOD),
    )

    # Codecs and containers.
    encode("hevc.mp4", "-c:v", "libx265", "-x265-params", "log-level=error")
    encode(
        "hevc_ten_bit.mp4",
        "-c:v",
        "libx265",
        "-pix_fmt",
        "yuv420p10le",
        "-x265-params",
        "log-level=error",
    )
    encode("vp8.webm", "-c:v", "libvpx")
    encode("vp9.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    encode("av1.mp4", "-c:v", "libsvtav1", "-preset", "12")
    encode("prores.mov", "-c:v", "prores_ks")
    encode("prores4444.mov", "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")
    encode("mjpeg.avi", "-c:v", "mjpeg", "-q:v", "3")
    encode("mpeg4.avi", "-c:v", "mpeg4", "-q:v", "3")
    encode("mpeg2.mpg", "-c:v", "mpeg2video", "-q:v", "3")
    encode("mpeg2.ts", "-c:v", "mpeg2video", "-q:v", "3")
    encode("h264.flv", "-c:v", "libx264")
    encode("wmv.wmv", "-c:v", "wmv2", "-q:v", "3")
    encode("ffv1.mkv", "-c:v", "ffv1")
    encode("theora.mkv", "-c:v", "libtheora", "-q:v", "9")
    encode("moving.gif", says=("no face found", GOOD))  # of 256 colors
    encode("b_frames.mp4", "-c:v", "libx264", "-bf", "4", "-g", "250")
    ffmpeg(
        "-i",
        good,
        "-i",
        good,
        "-map",
        "0:v",
        "-map",
        "1:v",
        "-filter:v:1",
        "negate",
        path("two_streams.mkv", GOOD),
    )
    ffmpeg("-i", good, "-c:v", "libx264", "-f", "h264", path("raw_stream_in_disguise.mp4", GOOD))
    encode("matroska_in_disguise.mp4", "-f", "matroska")

    # Names.
    names = [
        "with space.mp4",
        "quote'.mp4",
        'double".mp4',
        "new\nline.mp4",
        "percent %d %06d.mp4",
        "-leading.mp4",
        "-i.mp4",
        "concat:front.mp4",
        "file:front.mp4",
        "pipe:0.mp4",
        "back\\slash.mp4",
        "comma,semi;colon.mp4",
        "bracket[0]{1}.mp4",
        "dollar$HOME`id`.mp4",
        "видео 视频 🎬.mp4",
        "combining e\u0301.mp4",
        "é.mp4",
        "upper.MP4",
        "Upper.mp4",
        "dots...mp4",
        "a" * 251 + ".mp4",
        "é" * 125 + ".mp4",
        os.fsdecode(b"not utf-8 \xff\xfe.mp4"),
        "tab\there.mp4",
        "right\u202eto left.mp4",
        "trailing .mp4",
        "nul.mp4",
        "star*.mp4",
        "what?.mp4",
    ]
    for name in names:
        path(name, GOOD).write_bytes(whole)
    for name in (
        "a/same.mp4",
        "b/same.mp4",
        "a_same.mp4",
        "same.mp4",
        "same.mkv",
        "same.avi.mp4",
        "SAME.mp4",
        "a/b/same.mp4",
        "a_b/same.mp4",
    ):
        path(name, GOOD).write_bytes(whole)

    # Root can read it all the same.
    path("forbidden.mp4", ("unreadable: ", GOOD)).write_bytes(whole)
    (folder / "forbidden.mp4").chmod(0)

    # These are not counted as videos. Files with a leading dot are left behind by file managers.
    (folder / "._front.mp4").write_bytes(whole)
    os.symlink(folder, folder / "circle")
    os.symlink("nowhere", folder / "dangling.mp4")
    os.symlink("itself.mp4", folder / "itself.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    return expected

#!/usr/bin/env python3
"""Time and disk space of the papers' full experiments, computed from rates measured elsewhere.

    python bench/scale.py --cores 2 --decode 0.55 --frames 1.1 --clips 1.4 --train 4.5 \\
        --extract 20 --adapt 25000 --clip 2.3 --evaluate 60 --frame-kb 70 --ready-kb 60 \\
        --clip-frame-kb 67 --read 800

The rates are those that the other benchmarks print, measured on a CPU. A second table is about an
A100 and an H100, from published and counted figures; nothing in it was measured. The counts are the
papers': images of FeatureTransfer's Table 2, videos of the data sets, CLRNet's splits (section 5)
and its 16 clips per video, the epochs of both. Nothing has been run at full size. Hours are wall
time on one such machine with all its cores at work.
"""

from side_by_side import arguments, record, table  # also puts the project on the path

from reporting import tables

# Videos of each set; FF is FaceForensics++'s originals, or one of its methods. DFDC is its training
# parts, which the images of Table 2 fit.
DFDC, FF, DFD, CELEB_DF, DFDC_P, DF_TIMIT, DFW = 119_154, 1_000, 3_431, 1_203, 5_244, 640, 250
# CLRNet's epochs are those of the authors' code, its clips 16 for each training video: 750 real and
# 682 fake ones, which are left without leaks (01 --split-in-order); 250 and 250 of DFD; 750 and 750
# of DFDC.
EPOCHS = dict(single=300, merge=150, transfer=150)
CLIPS = dict(DF=22_912, FS=22_912, F2F=22_912, NT=22_912, DFD=8_000, DFDC=24_000)
FIVE = ("FS", "DF", "DFD", "F2F", "NT")
TRAININGS = 6 + 2 + 98  # of CLRNet: Tables 3 and 4, Table 5, Table 6

FLAGS = {
    "cores": "CPU cores of the machine",
    "decode": "01's limit, CPU seconds per video",
    "frames": "01, CPU seconds per video of 30 frames",
    "clips": "01, CPU seconds per video of 16 clips",
    "train": "02's loop, images per second",
    "extract": "03, images per second",
    "adapt": "04, images per second",
    "clip": "05, seconds per clip in training",
    "evaluate": "06, seconds for 6 million scores",
    "frame-kb": "kB per face image of 01",
    "ready-kb": "kB per face image of 01 --size 224, as the extractor's are",
    "clip-frame-kb": "kB per frame of a clip",
    "read": "02, images per second that one core reads, ready at 224 x 224",
}

# Published: training of se_resnext101_32x4d on one A100, images per second in float16 (NVIDIA,
# DeepLearningExamples), and FLOP per second of dense matrix products in bfloat16 (data sheets).
A100_02 = 855
PEAK = dict(A100=312e12, H100=989e12)
# Counted: FLOP of a training step per image of 02 and per clip of CLRNet, and the seconds in which
# a CPU launches the 8,900 kernels of CLRNet's step. Its batch is 16 in single trainings, else 40.
FLOP_02, FLOP_05 = 6 * 7.97e9, 6 * 74e9
LAUNCHING = 0.053


def subsets(names):
    """All subsets but the empty one."""
    return [[n for k, n in enumerate(names) if bits >> k & 1] for bits in range(1, 2 ** len(names))]


def clrnet_clips():
    """Training clips times epochs of CLRNet's trainings: {what: number}."""

    def merge(sets):
        return sum(CLIPS[s] for s in sets) * EPOCHS["merge"]

    def transfer(sets):
        return 20 * 16 * len(sets) * EPOCHS["transfer"]  # ten real and ten fake videos of each

    table_5 = merge(FIVE) + transfer(["DF", "DFD", "F2F", "NT"])
    known = [name for name in CLIPS if name != "DFDC"]
    table_6 = sum(CLIPS[name] for name in known) * EPOCHS["single"] + merge(["F2F", "NT"])
    for i in subsets(["F2F", "NT"]):
        for j in subsets(["DF", "FS", "DFD"]):
            table_6 += merge(i + j) + sum(transfer({*i, *j} - {name}) for name in i + j)
            table_6 += transfer(j) if len(i) > 1 else 0
    return {
        "Table 3 and 4, six single trainings": sum(CLIPS.values()) * EPOCHS["single"],
        "Table 5, merge of five and transfer from FS": table_5,
        "Table 6, grid search of 21 pairs": table_6,
    }


def face_images():
    """Images of FeatureTransfer's Table 2: (those of the extractor's training, all others)."""
    images = {key: sum(counts) for key, counts in tables.TABLE_2.items()}
    pretraining = images.pop(("DFDC-F", "train"))
    return pretraining, sum(images.values())


def costs(args):
    """Rows of the table: stage, work, hours, GB."""
    pretraining, others = face_images()
    hours = 3600 * args.cores  # CPU seconds per hour
    frame = (args.frames - args.decode) / 30  # CPU seconds per frame, without decoding
    videos = 3 * FF + DFD + CELEB_DF + DFDC_P + DF_TIMIT
    # Each of the four methods is extracted with its originals (recipes/clrnet_common.sh).
    clip_videos = 4 * 2 * FF + 600 + 2_000 + DFW
    adapted = 5 * 50 * 2 * 43_200  # five targets, 50 epochs, one image of each domain
    rows = [
        (
            "01, FeatureTransfer",
            f"DFDC: {DFDC} videos, {pretraining} faces",
            (DFDC * args.decode + pretraining * frame) / hours,
            pretraining * args.ready_kb / 1e6,
        ),
        (
            "",
            f"the other sets: {videos} videos, {others} faces",
            (videos * args.decode + others * frame) / hours,
            others * args.frame_kb / 1e6,
        ),
        ("02", f"10 epochs of {pretraining} images", 10 * pretraining / args.train / 3600, 1.2),
        ("03", f"{others} images", others / args.extract / 3600, others * 8192 / 1e9),
        ("04", "five targets, 50 epochs each", adapted / args.adapt / 3600, 0.1),
        ("06", "Table 3, at most", 3 * args.evaluate / 3600, 0.1),
        (
            "01, CLRNet",
            f"{clip_videos} videos, 80 frames each (DFDC: 2,000 of them)",
            clip_videos * args.clips / hours,
            clip_videos * 80 * args.clip_frame_kb / 1e6,
        ),
    ]
    for what, clips in clrnet_clips().items():
        # The search keeps 29 checkpoints, and has 7 GB more during a training.
        disk = 36.0 if "search" in what else 6.0
        rows.append(("05", what, clips * args.clip / 3600, disk))
    return rows


def gpus(args):
    """Rows of the second table: stage, GPU, samples per second, hours, cores to feed it, basis."""
    pretraining, _ = face_images()
    rows = []
    share = A100_02 * FLOP_02 / PEAK["A100"]
    for gpu, peak in PEAK.items():
        rate = share * peak / FLOP_02
        basis = "published, float16"
        if gpu != "A100":
            basis = f"counted, at the A100's {100 * share:.0f} % of the peak"
        work = f"02, 10 epochs of {pretraining} images"
        rows.append((work, gpu, rate, 10 * pretraining / rate / 3600, rate / args.read, basis))
        for what, batch, clips in (
            ("Table 3, one single training", 16, CLIPS["DF"] * EPOCHS["single"]),
            ("Table 5, merge of five", 40, sum(CLIPS[s] for s in FIVE) * EPOCHS["merge"]),
        ):
            arithmetic = batch * FLOP_05 / (share * peak)
            rate = batch / max(LAUNCHING, arithmetic)
            bound = "launching its kernels" if arithmetic < LAUNCHING else "02's share of the peak"
            hours = clips / rate / 3600
            rows.append((f"05, {what}", gpu, rate, hours, None, f"counted, bound by {bound}"))
    return rows


def several_machines(args):
    """What several machines, or a GPU, would change, as text."""
    pretraining, _ = face_images()
    all_05 = sum(clrnet_clips().values()) * args.clip / 86400  # days
    # The merge of all five sets, in Table 5 and in the grid search.
    longest_05 = sum(CLIPS[s] for s in FIVE) * EPOCHS["merge"] * args.clip / 86400
    all_02 = 10 * pretraining / args.train / 86400
    return (
        "What several machines change. 01 and 03 share nothing: n machines take 1/n of the time, "
        "each with its own part of the videos (--list) and its own folder. 04 can run one target "
        "on each machine. The trainings of 05 are independent of each other, but transfer waits "
        f"for its source: {TRAININGS} machines would bring the {all_05:,.0f} days down to the "
        f"longest one of them, {longest_05:,.0f} days. 02 is one training, which torchrun can "
        "share among machines, as it can those of 05; what that gains was not measured. Its "
        f"{all_02:,.0f} days, and those of 05, want a GPU: for each to end within a week, the GPU "
        f"has to be {all_02 / 7:,.0f} times (02) and {longest_05 / 7:,.0f} times (the longest of "
        "05) as fast as this CPU. That was not measured on one."
    )


def main():
    parser = arguments(__doc__, rounds=None)
    for flag, help_text in FLAGS.items():
        parser.add_argument(f"--{flag}", type=float, required=True, metavar="X", help=help_text)
    args = parser.parse_args()
    rows = [
        (stage, work, f"{hours:,.1f}", f"{hours / 24:,.1f}", f"{gb:,.1f}")
        for stage, work, hours, gb in costs(args)
    ]
    lines = table(("stage", "work", "hours", "days", "disk, GB"), rows)
    title = "One machine, all its cores, without a GPU, computed from measured rates:"
    header = ("work", "GPU", "samples per second", "hours", "cores that read", "basis")
    on_gpus = [
        (work, gpu, f"{rate:,.0f}", f"{hours:,.1f}", f"{cores:.1f}" if cores else "", basis)
        for work, gpu, rate, hours, cores, basis in gpus(args)
    ]
    second = "One GPU, from published and counted figures; none of it was measured:"
    record(
        args,
        [title, "", lines, "", second, "", table(header, on_gpus), "", several_machines(args)],
    )


if __name__ == "__main__":
    main()

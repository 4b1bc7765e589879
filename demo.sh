#!/usr/bin/env bash
# Every stage on generated videos, on a CPU. Running it again resumes; rm -r demo starts over.
#
#   ./demo.sh            minutes: the numbers show that each stage learns something
#   SMALL=1 ./demo.sh    the same commands at their smallest, for the tests: nothing is learned
#
# studio and phone are two capture conditions, so two domains. The extractor is trained on all four
# manipulations of studio; BP-DANN takes studio's Deepfakes as its labeled source and phone's as its
# unlabeled target; CLRNet is trained on studio's Deepfakes, then with studio's FaceSwap, by merge
# and by transfer learning.
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements.txt

if [ "${SMALL:-0}" = 1 ]; then
    videos="--identities 6 --frames 10" clips="--num-clips 1 --size 48" video=004 swapped=005
    all_frames="--num-frames 1 --num-frames-real 4" frames="--num-frames 3"
    extractor="--image-size 32 --batch 8 --epochs 1" bpdann="--batch 4 --epochs 1"
    clrnet="--filters 2 --repetitions 1 --image-size 48" training="--batch 2 --lr 1e-3"
    single="--epochs 1" merge="--epochs 1" transfer="--epochs 1 --few-shot 1"
else
    videos="" clips="--num-clips 4 --size 96" video=032 swapped=033
    all_frames="--num-frames 6 --num-frames-real 24" frames="--num-frames 10"
    extractor="--image-size 96 --batch 32 --epochs 4 --lr 1e-3" bpdann=""
    clrnet="--filters 8 --repetitions 2 --image-size 96" training="--batch 8 --lr 1e-3"
    single="--epochs 12" merge="--epochs 10" transfer="--epochs 16"
fi

run() { echo; echo "+ $*"; "$@"; }
extract() {   # extract CONDITION NAME FLAGS...
    run python 01_extract_faces.py --layout ffpp --compression c23 --videos "demo/videos/$1" \
        "${@:3}" --out "demo/faces/$2"
}

run python 00_make_demo_videos.py $videos --out demo/videos

extract studio studio-all $all_frames
extract studio studio-Deepfakes --method Deepfakes $frames
extract phone phone-Deepfakes --method Deepfakes $frames
extract studio studio-Deepfakes-clips --method Deepfakes --sampling clips $clips
extract studio studio-FaceSwap-clips --method FaceSwap --sampling clips $clips
extract phone phone-Deepfakes-clips --method Deepfakes --sampling clips $clips

run python 02_pretrain_extractor.py --faces demo/faces/studio-all --arch resnet18 --weights none \
    $extractor --device cpu --out demo/runs/extractor
run python 03_extract_features.py --checkpoint demo/runs/extractor/model.pt \
    --faces demo/faces/studio-Deepfakes demo/faces/phone-Deepfakes \
    --device cpu --out demo/features --scores demo/scores/extractor
for method in source-only bp-dann; do
    run python 04_train_bpdann.py --method $method $bpdann --source demo/features/studio-Deepfakes \
        --target demo/features/phone-Deepfakes \
        --test demo/features/phone-Deepfakes demo/features/studio-Deepfakes \
        --device cpu --out demo/runs/$method --scores demo/scores/FT-$method
done

train_clrnet() {   # train_clrnet STRATEGY FLAGS...
    run python 05_train_clrnet.py --strategy "$@" $training --device cpu \
        --test demo/faces/{studio-Deepfakes,studio-FaceSwap,phone-Deepfakes}-clips \
        --out "demo/runs/clrnet-$1" --scores "demo/scores/CLRNet-$1"
}
train_clrnet single --source demo/faces/studio-Deepfakes-clips $clrnet $single
train_clrnet merge --source demo/faces/studio-{Deepfakes,FaceSwap}-clips $clrnet $merge
train_clrnet transfer --checkpoint demo/runs/clrnet-single/model.pt \
    --target demo/faces/studio-FaceSwap-clips $transfer

run python 06_evaluate.py --scores demo/scores --faces demo/faces/* --runs demo/runs \
    --out demo/results

# Two videos whose labels no training has seen, one real and one fake.
run python 07_detect.py \
    demo/videos/phone/original_sequences/youtube/c23/videos/$video.mp4 \
    demo/videos/phone/manipulated_sequences/Deepfakes/c23/videos/${video}_$swapped.mp4 \
    --checkpoint demo/runs/bp-dann/phone-Deepfakes/model.pt demo/runs/clrnet-merge/model.pt \
    --device cpu --out demo/verdicts
echo
echo "the report: demo/results/report.html"
echo "two verdicts: demo/verdicts/$video.png, demo/verdicts/${video}_$swapped.png"

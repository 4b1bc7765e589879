#!/usr/bin/env bash
# Every stage on generated videos, on a CPU. Running it again resumes; rm -r demo starts over.
#
#   ./demo.sh            every stage in minutes; it shows nothing about the methods
#   SEED=1 ./demo.sh     the same with other people, videos and initial weights, in demo-1
#   SMALL=1 ./demo.sh    the same commands at their smallest, for the tests: nothing is learned
#
# studio and phone are two capture conditions. FeatureTransfer: the extractor learns from other
# people, recorded in both conditions and manipulated in four ways; BP-DANN takes studio's Deepfakes
# as its labeled source and phone's FaceSwap as its unlabeled target, and source-only is the same
# network without adaptation. CLRNet: single is trained on studio's Deepfakes, merge on its FaceSwap
# as well, and both are tested on both.
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements.txt

seed=${SEED:-0} demo=demo${SEED:+-$SEED}
if [ "${SMALL:-0}" = 1 ]; then
    people="--identities 6 --frames 3 --methods FaceSwap"
    people_frames="--num-frames 1 --num-frames-real 3"
    videos="--identities 6 --frames 5" frames="--num-frames 3" video=004 swapped=005
    clips="--num-clips 1 --size 48"
    extractor="--image-size 32 --batch 8 --epochs 1" bpdann="--batch 4 --epochs 1"
    clrnet="--filters 2 --repetitions 1 --image-size 48 --batch 2" single=1 merge=1
else
    people="--identities 12 --frames 8" people_frames="--num-frames 3 --num-frames-real 8"
    videos="--identities 12 --frames 10" frames="--num-frames 6" video=010 swapped=011
    clips="--num-clips 2 --size 64"
    extractor="--image-size 48 --batch 32 --epochs 6" bpdann="--batch 32 --epochs 100"
    clrnet="--filters 8 --repetitions 2 --image-size 64 --batch 8" single=8 merge=6
fi

run() { echo; echo "+ $*"; "$@"; }
extract() {   # extract CONDITION METHOD NAME FLAGS...
    run python 01_extract_faces.py --layout ffpp --compression c23 --videos "$demo/videos/$1" \
        --method "$2" "${@:4}" --out "$demo/faces/$3"
}

run python 00_make_demo_videos.py $people --seed $((1000 + seed)) --out $demo/people
run python 00_make_demo_videos.py $videos --seed $seed --methods Deepfakes FaceSwap \
    --out $demo/videos

# No detector is tested on the extractor's people, so that their test split is for training too.
sed 's/,test$/,train/' $demo/people/videos.csv > $demo/people/training.csv
run python 01_extract_faces.py --list $demo/people/training.csv $people_frames \
    --out $demo/faces/people
extract studio Deepfakes studio-Deepfakes $frames
extract phone FaceSwap phone-FaceSwap $frames
extract studio Deepfakes studio-Deepfakes-clips --sampling clips $clips
extract studio FaceSwap studio-FaceSwap-clips --sampling clips $clips

run python 02_pretrain_extractor.py --faces $demo/faces/people --arch resnet18 --weights none \
    $extractor --lr 1e-3 --seed $seed --device cpu --out $demo/runs/extractor
run python 03_extract_features.py --checkpoint $demo/runs/extractor/model.pt \
    --faces $demo/faces/{studio-Deepfakes,phone-FaceSwap} --split all --device cpu \
    --out $demo/features --scores $demo/scores/extractor
for method in source-only bp-dann; do
    run python 04_train_bpdann.py --method $method $bpdann --seed $seed --device cpu \
        --source $demo/features/studio-Deepfakes --target $demo/features/phone-FaceSwap \
        --target-split all --test-split all \
        --out $demo/runs/FT-$method --scores $demo/scores/FT-$method
done

# Augmentation slows learning down: with it, merge has not begun in so few epochs in some seeds.
train_clrnet() {   # train_clrnet STRATEGY EPOCHS SETS...
    run python 05_train_clrnet.py --strategy $1 --epochs $2 --source "${@:3}" $clrnet --lr 2e-3 \
        --no-augment --seed $seed --device cpu \
        --test $demo/faces/studio-{Deepfakes,FaceSwap}-clips \
        --out $demo/runs/CLRNet-$1 --scores $demo/scores/CLRNet-$1
}
train_clrnet single $single $demo/faces/studio-Deepfakes-clips
train_clrnet merge $merge $demo/faces/studio-{Deepfakes,FaceSwap}-clips

run python 06_evaluate.py --scores $demo/scores --faces $demo/faces/* --runs $demo/runs \
    --out $demo/results

echo
echo "Does adaptation help, and does merge learning?"
python recipes/compare.py $demo/scores/FT-{bp-dann,source-only}/phone-FaceSwap.csv
python recipes/compare.py $demo/scores/CLRNet-{merge,single}/studio-FaceSwap-clips.csv

# Two videos whose labels neither detector has seen, one real and one fake.
run python 07_detect.py \
    $demo/videos/phone/original_sequences/youtube/c23/videos/$video.mp4 \
    $demo/videos/phone/manipulated_sequences/FaceSwap/c23/videos/${video}_$swapped.mp4 \
    --checkpoint $demo/runs/FT-bp-dann/phone-FaceSwap/model.pt $demo/runs/CLRNet-merge/model.pt \
    --device cpu --out $demo/verdicts

echo
echo "This shows the way and what comes out of it, and nothing about the methods: a few cartoon"
echo "heads, short trainings, one seed."
echo "the report: $demo/results/report.html"
echo "two verdicts: $demo/verdicts/index.html"

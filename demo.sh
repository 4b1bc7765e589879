#!/usr/bin/env bash
# Every stage on generated videos, on a CPU, in minutes. Running it again takes up where things stand; rm -r demo starts over.
#
# studio and phone are two capture conditions, so two domains. The extractor is trained on all four manipulations of
# studio; BP-DANN takes studio's Deepfakes as its labelled source and phone's as its unlabelled target; CLRNet is
# trained on studio's Deepfakes, then with studio's FaceSwap, by merge and by transfer learning.
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements.txt

run() { echo; echo "+ $*"; "$@"; }
cd_faces() { run python 01_extract_faces.py --layout ffpp --compression c23 "$@"; }

run python 00_make_demo_videos.py --out demo/videos

cd_faces --videos demo/videos/studio --num-frames 6 --num-frames-real 24 --out demo/faces/studio-all
cd_faces --videos demo/videos/studio --method Deepfakes --num-frames 10 --out demo/faces/studio-Deepfakes
cd_faces --videos demo/videos/phone --method Deepfakes --num-frames 10 --out demo/faces/phone-Deepfakes
for method in Deepfakes FaceSwap; do
    cd_faces --videos demo/videos/studio --method $method --sampling clips --num-clips 4 --size 96 --out demo/faces/studio-$method-clips
done
cd_faces --videos demo/videos/phone --method Deepfakes --sampling clips --num-clips 4 --size 96 --out demo/faces/phone-Deepfakes-clips

run python 02_pretrain_extractor.py --faces demo/faces/studio-all --arch resnet18 --weights none --image-size 96 \
    --batch 32 --epochs 4 --lr 1e-3 --device cpu --out demo/runs/extractor
run python 03_extract_features.py --checkpoint demo/runs/extractor/model.pt --faces demo/faces/studio-Deepfakes demo/faces/phone-Deepfakes \
    --device cpu --out demo/features --scores demo/scores/extractor
for method in source-only bp-dann; do
    run python 04_train_bpdann.py --method $method --source demo/features/studio-Deepfakes --target demo/features/phone-Deepfakes \
        --test demo/features/phone-Deepfakes demo/features/studio-Deepfakes --device cpu --out demo/runs/$method --scores demo/scores/FT-$method
done

clrnet="--batch 8 --lr 1e-3 --device cpu --test demo/faces/studio-Deepfakes-clips demo/faces/studio-FaceSwap-clips demo/faces/phone-Deepfakes-clips"
small="--filters 8 --repetitions 2 --image-size 96"
run python 05_train_clrnet.py --strategy single --source demo/faces/studio-Deepfakes-clips $small --epochs 12 $clrnet \
    --out demo/runs/clrnet-single --scores demo/scores/CLRNet-single
run python 05_train_clrnet.py --strategy merge --source demo/faces/studio-Deepfakes-clips demo/faces/studio-FaceSwap-clips $small \
    --epochs 10 $clrnet --out demo/runs/clrnet-merge --scores demo/scores/CLRNet-merge
run python 05_train_clrnet.py --strategy transfer --checkpoint demo/runs/clrnet-single/model.pt --target demo/faces/studio-FaceSwap-clips \
    --epochs 16 $clrnet --out demo/runs/clrnet-transfer --scores demo/scores/CLRNet-transfer

run python 06_evaluate.py --scores demo/scores --faces demo/faces/* --runs demo/runs --out demo/results

# Two videos that no training has seen the labels of, one real and one fake.
run python 07_detect.py demo/videos/phone/original_sequences/youtube/c23/videos/032.mp4 \
    demo/videos/phone/manipulated_sequences/Deepfakes/c23/videos/032_033.mp4 \
    --checkpoint demo/runs/bp-dann/phone-Deepfakes/model.pt demo/runs/clrnet-merge/model.pt --device cpu --out demo/verdicts
echo; echo "the report: demo/results/report.html; two verdicts: demo/verdicts/032.png, demo/verdicts/032_033.png"

#!/usr/bin/env bash
# Every stage on generated videos, on a CPU, in minutes. Running it again takes up where things stand; rm -r demo starts over.
#
# studio and phone are two capture conditions, so two domains. The extractor is trained on all four manipulations of
# studio; BP-DANN takes studio's Deepfakes as its labelled source and phone's as its unlabelled target; CLRNet is
# trained on studio's FaceSwap and on studio's Deepfakes after that.
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh
make_environment requirements.txt

run() { echo; echo "+ $*"; "$@"; }
cd_faces() { run python 01_extract_faces.py --layout ffpp --compression c23 "$@"; }

run python 00_make_demo_videos.py --out demo/videos

cd_faces --videos demo/videos/studio --num-frames 8 --num-frames-real 32 --out demo/faces/studio-all
cd_faces --videos demo/videos/studio --method Deepfakes --num-frames 10 --out demo/faces/studio-DF
cd_faces --videos demo/videos/phone --method Deepfakes --num-frames 10 --out demo/faces/phone-DF
for domain in studio phone; do
    cd_faces --videos demo/videos/$domain --method FaceSwap --sampling clips --num-clips 4 --size 96 --out demo/faces/$domain-FS-clips
done
cd_faces --videos demo/videos/studio --method Deepfakes --sampling clips --num-clips 4 --size 96 --out demo/faces/studio-DF-clips

run python 02_pretrain_extractor.py --faces demo/faces/studio-all --arch resnet18 --weights none --image-size 96 \
    --batch 32 --epochs 6 --lr 1e-3 --device cpu --out demo/runs/extractor
run python 03_extract_features.py --checkpoint demo/runs/extractor/model.pt --faces demo/faces/studio-DF demo/faces/phone-DF \
    --device cpu --out demo/features --scores demo/scores/extractor
for method in source-only bp-dann; do
    run python 04_train_bpdann.py --method $method --source demo/features/studio-DF --target demo/features/phone-DF \
        --test demo/features/studio-DF --device cpu --out demo/runs/$method --scores demo/scores/FT-$method
done

clrnet="--filters 8 --repetitions 1 1 1 1 --image-size 64 --batch 8 --lr 2e-3 --device cpu"
run python 05_train_clrnet.py --strategy single --source demo/faces/studio-FS-clips $clrnet --epochs 12 \
    --test demo/faces/studio-FS-clips demo/faces/studio-DF-clips demo/faces/phone-FS-clips \
    --out demo/runs/clrnet-FS --scores demo/scores/CLRNet-single
run python 05_train_clrnet.py --strategy merge --source demo/faces/studio-FS-clips demo/faces/studio-DF-clips $clrnet --epochs 8 \
    --test demo/faces/studio-FS-clips demo/faces/studio-DF-clips demo/faces/phone-FS-clips \
    --out demo/runs/clrnet-merge --scores demo/scores/CLRNet-merge
run python 05_train_clrnet.py --strategy transfer --checkpoint demo/runs/clrnet-FS/model.pt --target demo/faces/studio-DF-clips \
    --batch 8 --lr 2e-3 --device cpu --epochs 10 \
    --test demo/faces/studio-FS-clips demo/faces/studio-DF-clips demo/faces/phone-FS-clips \
    --out demo/runs/clrnet-transfer --scores demo/scores/CLRNet-transfer

run python 06_evaluate.py --scores demo/scores --out demo/results

#!/usr/bin/env bash
# FeatureTransfer, Table 2: the face images of every data set, counted beside the paper's numbers.
#
#   DATA=/where/the/data/sets/are recipes/table2.sh
#   SMALL=1 recipes/table2.sh
#
# Writes about 6 million crops into faces/. Computed from measurements on twelve real clips: 51 CPU
# hours and 322 GB, nearly all of it for DFDC (119,154 videos); without DFDC 4 CPU hours and 24 GB.
#
# Unlike the paper: faces are found by dlib; DETECTOR=mtcnn finds them by the paper's detector,
# which takes 8 times as long (bench/RESULTS.md).
# DFD's videos often show two people: where its masks are in the data set, they tell the forged one.
source "$(dirname "$0")/common.sh"

# 4.1: 30 frames at equal intervals from each video; 150 from each real one of DFDC, on which the
# extractor is pretrained.
extract() {   # extract NAME ARGUMENTS
    local name=$1
    shift
    run python 01_extract_faces.py "$@" --detector $DETECTOR --out "$FACES/$name"
}
ffpp=(--layout ffpp --videos "$DATA/FaceForensics++" --compression c23)
extract FF-DF "${ffpp[@]}" --method Deepfakes $FRAMES
extract FF-FS "${ffpp[@]}" --method FaceSwap $FRAMES
extract DF-TIMIT --layout dftimit --videos "$DATA/DeepfakeTIMIT" --vidtimit "$DATA/VidTIMIT" \
    --quality lq $FRAMES
extract DFD --layout dfd --videos "$DATA/FaceForensics++" --compression c23 --masks $FRAMES
extract Celeb-DF --layout celebdf --videos "$DATA/Celeb-DF" $FRAMES
if [ "$(grep -c Celeb-synthesis "$FACES/Celeb-DF/videos.csv")" -gt 1000 ]; then
    echo "note: this is Celeb-DF v2; the paper counts v1, 408 real and 795 fake videos"
fi
extract DFDC-P --layout dfdc-preview --videos "$DATA/DFDC-Preview" $FRAMES
extract DFDC-F --layout dfdc --videos "$DATA/DFDC" $PRETRAINING_FRAMES

evaluate

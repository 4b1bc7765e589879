#!/usr/bin/env bash
# FeatureTransfer, Table 2: the face images of every data set, counted beside the paper's numbers.
#
#   DATA=/where/the/data/sets/are recipes/table2.sh          SMALL=1 recipes/table2.sh
#
# Writes faces/ of about 6 million crops. Computed from 2.4 CPU seconds a video and 70 KB a crop, measured on twelve real clips: 100 CPU hours
# and 400 GB, nearly all of it DFDC (128,154 videos); without DFDC 8 CPU hours and 25 GB.
source "$(dirname "$0")/common.sh"

# 4.1: 30 frames at equal intervals from each video; from DFDC, the pretraining set, 150 from each real one.
run python 01_extract_faces.py --layout ffpp --videos "$DATA/FaceForensics++" --method Deepfakes --compression c23 $FRAMES --out "$FACES/FF-DF"
run python 01_extract_faces.py --layout ffpp --videos "$DATA/FaceForensics++" --method FaceSwap --compression c23 $FRAMES --out "$FACES/FF-FS"
run python 01_extract_faces.py --layout dftimit --videos "$DATA/DeepfakeTIMIT" --vidtimit "$DATA/VidTIMIT" --quality lq $FRAMES --out "$FACES/DF-TIMIT"
run python 01_extract_faces.py --layout dfd --videos "$DATA/FaceForensics++" --compression c23 $FRAMES --out "$FACES/DFD"
run python 01_extract_faces.py --layout celebdf --videos "$DATA/Celeb-DF" $FRAMES --out "$FACES/Celeb-DF"
run python 01_extract_faces.py --layout dfdc-preview --videos "$DATA/DFDC-Preview" $FRAMES --out "$FACES/DFDC-P"
run python 01_extract_faces.py --layout dfdc --videos "$DATA/DFDC" $PRETRAINING_FRAMES --out "$FACES/DFDC-F"

run python 06_evaluate.py --faces "$FACES"/{FF-DF,FF-FS,DF-TIMIT,DFD,Celeb-DF,DFDC-P,DFDC-F} --out "$RESULTS"

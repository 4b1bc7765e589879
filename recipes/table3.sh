#!/usr/bin/env bash
# FeatureTransfer, Table 3: AUC and EER of Xception, Se_Res and FT on five data sets, beside the
# paper's numbers.
#
#   DATA=/where/the/data/sets/are recipes/table3.sh
#   SMALL=1 recipes/table3.sh
#
# Runs table2.sh first (52 CPU hours, 379 GB). Then 57 million images of DFDC at 224 pixels are
# trained on, which needs a GPU with some 50 GB (computed, not measured on one). The features are
# 3 GB, of 0.4 million images. BP-DANN takes 2 minutes per target on 2 CPU cores.
#
# Unlike the paper: its Xception is the one that the authors of FaceForensics++ publish as a pickle
# of the whole network, which cannot be loaded safely; here stage 02 trains it on the same videos,
# 30 frames of each fake and 120 of each original. The rows FSSpotter and Face X-ray are quoted from
# their papers, there and here.
source "$(dirname "$0")/table2.sh"

others=(DF-TIMIT DFD DFDC-P Celeb-DF)

# 4.2: the extractor is trained on DFDC-F. No part of it is held out, so the last epoch is kept.
run python 02_pretrain_extractor.py --faces "$FACES/DFDC-F" $SE_RES $NETWORK $PRETRAINING \
    --out "$RUNS/Se_Res"
run python 03_extract_features.py --checkpoint "$RUNS/Se_Res/model.pt" \
    --faces "$FACES"/{FF-DF,FF-FS} --out "$FEATURES" --scores "$SCORES/Se_Res"
run python 03_extract_features.py --checkpoint "$RUNS/Se_Res/model.pt" \
    --faces "${others[@]/#/$FACES/}" --split all --out "$FEATURES" --scores "$SCORES/Se_Res"

# 4.2: all images of FF-FS (test) and DF-TIMIT; a balanced 10 % of the others. All are scored.
run python 04_train_bpdann.py --source "$FEATURES/FF-DF" --target "$FEATURES"/{FF-FS,DF-TIMIT} \
    $ADAPTATION --out "$RUNS/FT" --scores "$SCORES/FT"
run python 04_train_bpdann.py --source "$FEATURES/FF-DF" \
    --target "$FEATURES"/{DFD,DFDC-P,Celeb-DF} --target-split all \
    --target-fraction 0.1 --target-balance $ADAPTATION --out "$RUNS/FT" --scores "$SCORES/FT"

# 4.3: Xception, trained on the four manipulations of FaceForensics++, is applied directly.
extract FF-all "${ffpp[@]}" --method Deepfakes Face2Face FaceSwap NeuralTextures $FF_ALL_FRAMES
run python 02_pretrain_extractor.py --faces "$FACES/FF-all" $XCEPTION $NETWORK $PRETRAINING \
    --out "$RUNS/Xception"
run python 03_extract_features.py --checkpoint "$RUNS/Xception/model.pt" --faces "$FACES/FF-FS" \
    --out "$OUT/features-Xception" --scores "$SCORES/Xception"
run python 03_extract_features.py --checkpoint "$RUNS/Xception/model.pt" \
    --faces "${others[@]/#/$FACES/}" --split all \
    --out "$OUT/features-Xception" --scores "$SCORES/Xception"

evaluate --scores "$SCORES"

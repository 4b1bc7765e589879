#!/usr/bin/env bash
# FeatureTransfer, Table 3: AUC and EER of Xception, Se_Res and FT on five data sets, beside the
# paper's numbers.
#
#   DATA=/where/the/data/sets/are recipes/table3.sh
#   SMALL=1 recipes/table3.sh
#
# Runs table2.sh first (51 CPU hours, 322 GB). Then 57 million images of DFDC at 224 pixels are
# trained on, which needs a GPU, with 14 GB in bfloat16 or 27 GB in float32 (counted). The features
# of 0.4 million images are 3 GB. BP-DANN takes 2 minutes per target on 2 CPU cores.
#
# Unlike the paper: its Xception is the one that the authors of FaceForensics++ publish as a pickle
# of the whole network, which cannot be loaded safely; here stage 02 trains it on the same videos,
# 30 frames of each fake and 120 of each original, with the learning rate and the batch that
# FaceForensics++ (Rössler et al., ICCV 2019) gives for it, Adam 2e-4 and 32; epochs and weight
# decay are the extractor's. The rows FSSpotter and Face X-ray are quoted from their papers, there
# and here. Faces are found by dlib; DETECTOR=mtcnn finds them by the paper's detector, which takes
# 8 times as long (bench/RESULTS.md). SEEDS="0 1 2" trains everything three times.
source "$(dirname "$0")/table2.sh"

others=(DF-TIMIT DFD DFDC-P Celeb-DF)

extract FF-all "${ffpp[@]}" --method Deepfakes Face2Face FaceSwap NeuralTextures $FF_ALL_FRAMES

for seed in $SEEDS; do
    at=$(at $seed)
    features=$FEATURES$at

    # 4.2: the extractor is trained on DFDC-F. No part of it is held out, so the last epoch is kept.
    run python 02_pretrain_extractor.py --faces "$FACES/DFDC-F" $SE_RES $NETWORK $PRETRAINING \
        --seed $seed --out "$RUNS/Se_Res$at"
    run python 03_extract_features.py --checkpoint "$RUNS/Se_Res$at/model.pt" \
        --faces "$FACES"/{FF-DF,FF-FS} --out "$features" --scores "$SCORES/Se_Res$at"
    run python 03_extract_features.py --checkpoint "$RUNS/Se_Res$at/model.pt" \
        --faces "${others[@]/#/$FACES/}" --split all --out "$features" --scores "$SCORES/Se_Res$at"

    # 4.2: all images of FF-FS (test) and DF-TIMIT; a balanced 10 % of the others. All are scored.
    run python 04_train_bpdann.py --source "$features/FF-DF" --target "$features"/{FF-FS,DF-TIMIT} \
        $ADAPTATION --seed $seed --out "$RUNS/FT$at" --scores "$SCORES/FT$at"
    run python 04_train_bpdann.py --source "$features/FF-DF" \
        --target "$features"/{DFD,DFDC-P,Celeb-DF} --target-split all --target-fraction 0.1 \
        --target-balance $ADAPTATION --seed $seed --out "$RUNS/FT$at" --scores "$SCORES/FT$at"

    # 4.3: Xception, trained on the four manipulations of FaceForensics++, is applied directly.
    run python 02_pretrain_extractor.py --faces "$FACES/FF-all" $XCEPTION $NETWORK \
        $XCEPTION_TRAINING --seed $seed --out "$RUNS/Xception$at"
    run python 03_extract_features.py --checkpoint "$RUNS/Xception$at/model.pt" \
        --faces "$FACES/FF-FS" --out "$OUT/features-Xception$at" --scores "$SCORES/Xception$at"
    run python 03_extract_features.py --checkpoint "$RUNS/Xception$at/model.pt" \
        --faces "${others[@]/#/$FACES/}" --split all \
        --out "$OUT/features-Xception$at" --scores "$SCORES/Xception$at"
done

evaluate --scores "$SCORES" --runs "$RUNS"

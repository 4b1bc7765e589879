#!/usr/bin/env bash
# Adapt to a data set of your own: faces, features, BP-DANN from FF-DF, scores and tables.
#
#   recipes/adapt.sh VIDEOS NAME
#   SMALL=1 recipes/adapt.sh VIDEOS NAME
#
# VIDEOS is a folder with real/ and fake/. Labels are used only for the tables: if you have none,
# put every video into real/, and read P(fake) in scores/FT/NAME.csv. Needs the extractor and the
# features of FF-DF that table3.sh makes, with the same SEEDS and DETECTOR. Then, on 2 CPU cores,
# 1.1 CPU seconds per video for the faces, a second per 20 images for the features, and 2 minutes
# for BP-DANN (bench/RESULTS.md).
#
# Unlike the paper: faces are found by dlib; DETECTOR=mtcnn finds them by the paper's detector.
if [ $# != 2 ]; then
    echo "usage: recipes/adapt.sh VIDEOS NAME" >&2
    exit 2
fi
videos=$(cd "$1" && pwd) name=$2
DATA=${DATA:-.}
source "$(dirname "$0")/common.sh"

run python 01_extract_faces.py --layout folders --videos "$videos" $FRAMES --detector $DETECTOR \
    --out "$FACES/$name"
for seed in $SEEDS; do
    at=$(at $seed)
    run python 03_extract_features.py --checkpoint "$RUNS/Se_Res$at/model.pt" \
        --faces "$FACES/$name" --split all --out "$FEATURES$at" --scores "$SCORES/Se_Res$at"
    run python 04_train_bpdann.py --source "$FEATURES$at/FF-DF" --target "$FEATURES$at/$name" \
        --target-split all $ADAPTATION --seed $seed --out "$RUNS/FT$at" --scores "$SCORES/FT$at"
done
evaluate --scores "$SCORES" --runs "$RUNS"

#!/usr/bin/env bash
# Adapt to a data set of your own: faces, features, BP-DANN from FF-DF, scores and tables.
#
#   recipes/adapt.sh VIDEOS NAME
#   SMALL=1 recipes/adapt.sh VIDEOS NAME
#
# VIDEOS is a folder with real/ and fake/. Labels are used only for the tables: if you have none,
# put every video into real/, and read P(fake) in scores/FT/NAME.csv. Needs the extractor and the
# features of FF-DF that table3.sh makes. Then, on 2 CPU cores, 1.1 CPU seconds per video for the
# faces, a second per 20 images for the features, and 2 minutes for BP-DANN (bench/RESULTS.md).
if [ $# != 2 ]; then
    echo "usage: recipes/adapt.sh VIDEOS NAME" >&2
    exit 2
fi
videos=$(cd "$1" && pwd) name=$2
DATA=${DATA:-.}
source "$(dirname "$0")/common.sh"

run python 01_extract_faces.py --layout folders --videos "$videos" $FRAMES --out "$FACES/$name"
run python 03_extract_features.py --checkpoint "$RUNS/Se_Res/model.pt" --faces "$FACES/$name" \
    --split all --out "$FEATURES" --scores "$SCORES/Se_Res"
run python 04_train_bpdann.py --source "$FEATURES/FF-DF" --target "$FEATURES/$name" \
    --target-split all $ADAPTATION --out "$RUNS/FT" --scores "$SCORES/FT"
evaluate --scores "$SCORES"

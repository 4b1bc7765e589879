#!/usr/bin/env bash
# FeatureTransfer, Figure 2: image level against video level, AUC on five data sets. Ends with
# results/figure2.png.
#
#   DATA=/where/the/data/sets/are recipes/figure2.sh
#   SMALL=1 recipes/figure2.sh
#
# The scores are those of Table 3, so this takes what table3.sh takes; after it, a minute. What is
# unlike the paper is there too; faces are found by dlib, with DETECTOR=mtcnn by the paper's
# detector.
source "$(dirname "$0")/table3.sh"

echo
echo "Figure 2: $RESULTS/figure2.png"

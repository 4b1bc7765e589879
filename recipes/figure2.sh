#!/usr/bin/env bash
# FeatureTransfer, Figure 2: image level against video level, AUC on five data sets. Ends with
# results/figure2.png.
#
#   DATA=/where/the/data/sets/are recipes/figure2.sh
#   SMALL=1 recipes/figure2.sh
#
# Draws the scores of Table 3, so it takes as long as table3.sh, or a minute after it. Deviations
# from the paper are those of table3.sh; faces are found by dlib, or with DETECTOR=mtcnn by the
# paper's detector.
source "$(dirname "$0")/table3.sh"

echo
echo "Figure 2: $RESULTS/figure2.png"

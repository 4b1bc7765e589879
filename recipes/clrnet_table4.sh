#!/usr/bin/env bash
# CLRNet, Table 4: six detectors trained on F2F, tested on the other sets (out-of-domain) and on
# DFW. Ends with clrnet/results/clrnet_table4.md.
#
#   DATA=/where/the/data/sets/are recipes/clrnet_table4.sh
#   DATA=/where/the/data/sets/are MODELS=CLRNet SEEDS="0 1 2" recipes/clrnet_table4.sh
#   SMALL=1 recipes/clrnet_table4.sh
#
# The sets of Table 3 without DFDC, and DFW (250 videos, 2 GB; DFW_FRAMES=all: some 12 GB). The
# six trainings on F2F of clrnet_table3.sh; after that recipe, only scores are computed, in hours.
#
# Unlike the paper: DFW's reals are the 125 test videos of FaceForensics++, and its fakes are 125 of
# those that you have; recipes/clrnet_common.sh quotes what the paper says about DFW. Faces are
# found by dlib; DETECTOR=mtcnn takes the paper's detector.
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set F2F DF FS DFD NT DFW
for model in $MODELS; do
    single "$model" F2F "F2F DF FS DFD NT DFW"
done

evaluate --scores "$SCORES" --runs "$RUNS"

#!/usr/bin/env bash
# CLRNet, Table 4: six detectors trained on F2F, tested on the other sets (out-of-domain) and on
# DFW. Ends with results/clrnet_table4.md.
#
#   DATA=/where/the/data/sets/are recipes/clrnet_table4.sh
#   DATA=/where/the/data/sets/are MODELS=CLRNet recipes/clrnet_table4.sh
#   SMALL=1 recipes/clrnet_table4.sh
#
# The sets of Table 3 without DFDC, and DFW (200 videos, 1 GB). Six of the trainings of
# clrnet_table3.sh, which take as long as there; after it, hours for the scores alone.
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set F2F DF FS DFD NT DFW
for model in $MODELS; do
    single "$model" F2F "F2F DF FS DFD NT DFW"
done

evaluate --scores "$SCORES"

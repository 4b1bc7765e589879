#!/usr/bin/env bash
# CLRNet, Table 5: merge learning of all five sets, and transfer learning from FS to the other four.
# Ends with clrnet/results/clrnet_table5.md, and with the minutes per epoch of both (6.2.3).
#
#   DATA=/where/the/data/sets/are recipes/clrnet_table5.sh
#   DATA=/where/the/data/sets/are MODELS=CLRNet SEEDS="0 1 2" recipes/clrnet_table5.sh
#   SMALL=1 recipes/clrnet_table5.sh
#
# The sets of Table 4 without DFW. For each model the training on FS of clrnet_table3.sh, a merge of
# all clips of the five sets, 4 x 22,912 + 8,000 (CLRNet: 150 epochs of 2,491 steps of 40 clips),
# and a transfer with 4 x 320 clips (CLRNet: 150 epochs of 32 steps).
#
# Unlike the paper: faces are found by dlib; DETECTOR=mtcnn takes the paper's detector.
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set FS DF DFD F2F NT
for model in $MODELS; do
    merge "$model" "FS DF DFD F2F NT"
    single "$model" FS FS
    transfer "$model" FS "DF DFD F2F NT" "FS DF DFD F2F NT"
done

evaluate --scores "$SCORES" --runs "$RUNS"
for model in $MODELS; do
    for seed in $SEEDS; do
        run python recipes/minutes_per_epoch.py --merge "$OUT/logs/$model-merge$(at $seed).txt" \
            --source "$OUT/logs/$model-FS$(at $seed).txt" \
            --transfer "$OUT/logs/$model-transfer-FS$(at $seed).txt"
    done
done

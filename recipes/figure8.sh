#!/usr/bin/env bash
# CLRNet, Figure 8: class activation maps of CLRNet on its own test sets. Ends with runs/clrnet/CLRNet-SET/cam_SET.png.
#
#   DATA=/where/the/data/sets/are recipes/figure8.sh         SMALL=1 recipes/figure8.sh
#
# The sets and the CLRNet trainings of clrnet_table3.sh; where that has run, minutes.
MODELS=CLRNet
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set DF FS F2F NT DFD
for name in DF FS F2F NT DFD; do
    run python 05_train_clrnet.py --strategy single --source "$(faces_of CLRNet $name)" $(small CLRNet) --test "$(faces_of CLRNet $name)" \
        --cam 4 --out "$RUNS/CLRNet-$name" --scores "$SCORES/CLRNet-$name"
done

run python 06_evaluate.py --scores "$SCORES" --out "$RESULTS"

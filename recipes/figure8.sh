#!/usr/bin/env bash
# CLRNet, Figure 8: class activation maps of CLRNet on its own test sets. Ends with
# runs/clrnet/CLRNet-SET/cam_SET.png.
#
#   DATA=/where/the/data/sets/are recipes/figure8.sh
#   SMALL=1 recipes/figure8.sh
#
# The sets and the trainings of CLRNet of clrnet_table3.sh; after it, minutes.
MODELS=CLRNet
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set DF FS F2F NT DFD
for name in DF FS F2F NT DFD; do
    single CLRNet $name $name --cam 4
done

evaluate --scores "$SCORES"

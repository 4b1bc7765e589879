#!/usr/bin/env bash
# CLRNet, Figure 8: class activation maps of CLRNet on its own test sets, and of the transfer from
# NT on DFW. Ends with clrnet/runs/CLRNet-SET/cam_SET.png and
# clrnet/runs/CLRNet-transfer-NT/cam_DFW.png.
#
#   DATA=/where/the/data/sets/are recipes/figure8.sh
#   SMALL=1 recipes/figure8.sh
#
# Needs the sets and trainings of CLRNet in clrnet_table3.sh and the transfer in clrnet_table6.sh;
# if those recipes have run, it takes minutes.
#
# Unlike the paper: the videos are drawn at random, half of them real, and those of DFW from the
# half that Table 6 tests on (SEARCH=0: from all). The authors scale maps in another way
# (docs/deviations.md). Faces are found by dlib; DETECTOR=mtcnn takes the
# paper's detector.
MODELS=CLRNet
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set DF FS F2F NT DFD $OPEN
for name in DF FS F2F NT DFD; do
    single CLRNet $name $name --cam 4
done
transfer CLRNet NT "DF FS DFD F2F" $OPEN --cam 4

evaluate --scores "$SCORES" --runs "$RUNS"

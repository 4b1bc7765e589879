#!/usr/bin/env bash
# CLRNet, Table 3: six detectors, each trained and tested on one set (in-domain). Ends with results/clrnet_table3.md.
#
#   DATA=/where/the/data/sets/are recipes/clrnet_table3.sh   SMALL=1 recipes/clrnet_table3.sh   MODELS=CLRNet DATA=... recipes/clrnet_table3.sh
#
# Six sets of 11 GB, 11 GB more each for CNN+LSTM, and some 4 CPU hours for them. 36 trainings: CLRNet's are 300 epochs of 1,500 steps of 16 clips
# (a step of 16 clips takes 27 s on 2 CPU cores, see README.md: 3,400 hours a set), so they want several GPUs; checkpoints of CLRNet 6 GB a training.
#
# Other than in the paper: its split of DFDC is not given; here 750 + 125 + 125 real and as many fake videos are drawn.
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set DF FS DFD DFDC F2F NT
for model in $MODELS; do
    for name in DF FS DFD DFDC F2F NT; do
        single "$model" $name $name
    done
done

run python 06_evaluate.py --scores "$SCORES" --out "$RESULTS"

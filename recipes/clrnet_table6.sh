#!/usr/bin/env bash
# CLRNet, Table 6: single, merge, transfer and the restricted grid search against DFW (open-domain).
# Ends with results/clrnet_table6.md.
#
#   DATA=/where/the/data/sets/are recipes/clrnet_table6.sh
#   DATA=/where/the/data/sets/are MODELS=CLRNet recipes/clrnet_table6.sh
#   SMALL=1 recipes/clrnet_table6.sh
#
# The sets of Table 4; the trainings of clrnet_table5.sh and another transfer, from NT. The search
# is 45 trainings per model (05 says how long they take before it starts; for CLRNet days on several
# GPUs, and 400 GB); SEARCH=0 leaves it out.
#
# Unlike the paper: the search's best is chosen on one half of DFW and tested on the other; the
# paper chooses on all of what it then reports. DFW is given as folders real/ and fake/.
source "$(dirname "$0")/common.sh"
source recipes/clrnet_common.sh

make_set FS DF DFD F2F NT DFW
for model in $MODELS; do
    single "$model" FS DFW
    merge "$model" DFW
    single "$model" NT NT
    transfer "$model" NT "DF FS DFD F2F" DFW
done

if [ "${SEARCH:-1}" = 1 ]; then
    make_set halves/DFW
    for model in $MODELS; do
        mapfile -t reenactment < <(faces_of "$model" F2F NT)
        mapfile -t swap < <(faces_of "$model" $SEARCH_SWAP)
        half=$(faces_of "$model" halves/DFW)
        run python 05_train_clrnet.py --model "$model" --strategy search \
            --reenactment "${reenactment[@]}" --swap "${swap[@]}" $FEW_SHOT \
            $(size_of "$model") $(training_of "$model") --validation "$half" --test "$half" \
            --out "$RUNS/$model-search" --scores "$SCORES/$model-search"
    done
fi

evaluate --scores "$SCORES"

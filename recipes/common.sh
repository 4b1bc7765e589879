# Sourced by the recipes: where the data lie, where the results go, and the smaller settings of SMALL=1.
#
#   DATA   folder that holds FaceForensics++, Celeb-DF, DFDC, DFDC-Preview, DeepfakeTIMIT and VidTIMIT as their authors ship them, and for
#          CLRNet DeepFake-in-the-Wild with real/ and fake/; each recipe needs those that it names
#   OUT    folder for faces, runs, features, scores and results (default: paper; with SMALL=1 paper-small)
#   SMALL=1  tries the same commands on generated videos with a small network, in minutes on a CPU
#
# Every stage goes on where it was: a recipe can be stopped and run again, and recipes share what they have in common.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
run() { echo; echo "+ $*"; "$@"; }

if [ "${SMALL:-0}" = 1 ]; then
    OUT=$(absolute "${OUT:-paper-small}")
    DATA=$OUT/small-data
    run python recipes/make_small_data.py --out "$DATA"
    FRAMES="--num-frames 3" PRETRAINING_FRAMES="--num-frames 3 --num-frames-real 6" FF_ALL_FRAMES="--num-frames 2 --num-frames-real 8"
    NETWORK="--weights none --image-size 64" SE_RES="--arch resnet18" XCEPTION="--arch resnet18"
    PRETRAINING="--batch 16 --epochs 2 --lr 1e-3" ADAPTATION="--epochs 2 --batch 8" FIGURE_3="--epochs 1 --batch 8"
    echo "SMALL=1: generated videos and a small network. The numbers below say nothing about the methods."
else
    OUT=$(absolute "${OUT:-paper}")
    DATA=$(absolute "${DATA:?set DATA to the folder that holds FaceForensics++, Celeb-DF and the other data sets}")
    # The papers' numbers are the defaults of the stages: 30 frames, se_resnext101_32x4d, batch 128, 10 and 50 epochs.
    FRAMES="" PRETRAINING_FRAMES="--num-frames-real 150" FF_ALL_FRAMES="--num-frames-real 120"
    NETWORK="" SE_RES="--arch se_resnext101_32x4d" XCEPTION="--arch xception"
    PRETRAINING="" ADAPTATION="" FIGURE_3="--epochs 20"
fi
FACES=$OUT/faces RUNS=$OUT/runs FEATURES=$OUT/features SCORES=$OUT/scores RESULTS=$OUT/results

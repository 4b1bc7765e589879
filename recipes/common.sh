# Sourced by the recipes: where the data are, where the results go, and the settings of SMALL=1.
#
#   DATA      folder that contains FaceForensics++, Celeb-DF, DFDC, DFDC-Preview, DeepfakeTIMIT and
#             VidTIMIT as their authors ship them, and for CLRNet DeepFake-in-the-Wild, a folder of
#             fake videos; each recipe needs only those that it names
#   OUT       folder for faces, runs, features, scores and results, in which CLRNet's recipes have a
#             folder clrnet of their own (default: paper; with SMALL=1: paper-small)
#   SEEDS     "0 1 2" repeats every training once per seed. The names of runs, features and scores
#             then end in @SEED, and 06 shows mean and deviation. Default: 0, without @
#   DETECTOR  dlib (default) or mtcnn, the papers' face detector, which has to be installed
#             (docs/install.md); give another OUT for it
#   SMALL=1   tries the same commands on generated videos with a small network, in minutes on a CPU
#
# Every stage resumes: a recipe can be stopped and run again, and recipes share what they have in
# common.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
run() { echo; echo "+ $*"; "$@"; }

SEEDS=${SEEDS:-0} DETECTOR=${DETECTOR:-dlib}
at() {   # at SEED: the end of the names of a training; empty if there is one seed
    local seeds
    read -ra seeds <<< "$SEEDS"
    if [ ${#seeds[@]} -gt 1 ]; then echo "@$1"; fi
}

if [ "${SMALL:-0}" = 1 ]; then
    OUT=$(absolute "${OUT:-paper-small}")
    DATA=$OUT/small-data
    run python recipes/make_small_data.py --out "$DATA"
    FRAMES="--num-frames 3" PRETRAINING_FRAMES="--num-frames 1 --num-frames-real 2 --size 32"
    FF_ALL_FRAMES="--num-frames 1 --num-frames-real 4 --size 32"
    NETWORK="--weights none --image-size 32" SE_RES="--arch resnet18" XCEPTION="--arch resnet18"
    PRETRAINING="--batch 8 --epochs 1 --lr 1e-3" ADAPTATION="--batch 8 --epochs 1"
    XCEPTION_TRAINING=$PRETRAINING
    FIGURE_3="--batch 8 --epochs 1" EVALUATION="--resamples 50"
    echo "SMALL=1: generated videos and a small network. The numbers say nothing about the methods."
else
    OUT=$(absolute "${OUT:-paper}")
    DATA=$(absolute "${DATA:?set DATA to the folder that contains FaceForensics++ and the others}")
    # The papers' numbers are the defaults of the stages: 30 frames, se_resnext101_32x4d, batch 128,
    # 10 and 50 epochs.
    # What only one network is trained on has its input's size, so that training reads it faster.
    FRAMES="" PRETRAINING_FRAMES="--num-frames-real 150 --size 224"
    FF_ALL_FRAMES="--num-frames-real 120 --size 299"
    NETWORK="" SE_RES="--arch se_resnext101_32x4d" XCEPTION="--arch xception"
    PRETRAINING="" ADAPTATION="" FIGURE_3="--epochs 20" EVALUATION=""
    # FaceForensics++ (Rössler et al., ICCV 2019) trains its XceptionNet with Adam 2e-4 and batch 32.
    XCEPTION_TRAINING="--lr 2e-4 --batch 32"
fi
FACES=$OUT/faces RUNS=$OUT/runs FEATURES=$OUT/features SCORES=$OUT/scores RESULTS=$OUT/results

evaluate() (   # evaluate FLAGS...: with all sets of faces, so that 06 says how they were taken
    shopt -s nullglob
    faces=("$FACES"/*/index.csv)
    # Table 6 of CLRNet has one half of DFW, whose faces are those of all of it.
    if [ ! -e "$FACES/DFW" ]; then faces+=("$FACES"/halves/*/index.csv); fi
    run python 06_evaluate.py "$@" --faces "${faces[@]%/index.csv}" $EVALUATION --out "$RESULTS"
)

#!/usr/bin/env bash
# Experiment: single, merge and transfer learning. Does transfer beat merge?
#
#   recipes/experiment_strategies.sh      an hour or two on one CPU core; run again, it resumes
#   SEEDS="0 1" recipes/experiment_strategies.sh
#
# The plan, written before the runs:
#
# Question   CLRNet's Tables 3 to 6, in small: in-domain, out-of-domain and open-domain, how do
#            merge and transfer learning compare with each other and with single?
# Data       Generated videos (00) by both cameras, 40 originals: 24 for training, 8 for validation,
#            8 for the test, and as many fakes of each method. One clip of five frames of each.
# Detectors  CLRNet (8 filters, one stage of two blocks) and MesoInception4, both at 64 pixels.
#            single: Deepfakes. merge: Deepfakes, FaceSwap, Face2Face, NeuralTextures. transfer: the
#            single one, half frozen, trained further with ten real and ten fake videos of each of
#            the other three (4.2.3); authors: the same with ten of Deepfakes too and 0.4203 frozen,
#            as in the authors' code. No detector is trained on FaceShifter: the open domain.
# Seeds      10 to 19. Each draws its own people, videos, initial weights and orders.
# Settings   Chosen on seed 0 by the training loss and the validation AUC of single: Deepfakes as
#            its method (with FaceSwap neither network generalizes from so few videos), no
#            augmentation for CLRNet (with it, the loss stays at ln 2), Adam 2e-3 for all of
#            CLRNet's trainings; L2, dropout and what is not named are the defaults.
# Decides    The mean paired difference of the balanced accuracy of transfer and merge, CLRNet, on
#            each of the three methods that are out of single's domain, with its 95 % interval over
#            ten seeds. The other tests and metrics and MesoInception4 stand beside it.
# Trainings  Of each seed: 8, 80 in all.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { echo; echo "+ $*"; "$@"; }
OUT=${OUT:-experiment-strategies} SEEDS=${SEEDS:-10 11 12 13 14 15 16 17 18 19}
METHODS="Deepfakes FaceSwap Face2Face NeuralTextures FaceShifter"
export OMP_NUM_THREADS=1

train() {   # train SEED NETWORK STRATEGY FLAGS...: the run and its scores are NETWORK-STRATEGY@SEED
    run python 05_train_clrnet.py --seed $1 "${@:4}" --test "${faces[@]}" --device cpu \
        --out "$OUT/runs/$2-$3@$1" --scores "$OUT/scores/$2-$3@$1"
}

for seed in $SEEDS; do
    folder=$OUT/seed-$seed faces=()
    run python 00_make_demo_videos.py --seed $seed --identities 20 --frames 6 \
        --methods $METHODS --out "$folder/videos"
    for method in $METHODS; do
        awk -F, -v method=$method 'NR == 1 || $2 == 0 || $3 ~ method' \
            "$folder/videos/videos.csv" > "$folder/videos/$method.csv"
        run python 01_extract_faces.py --list "$folder/videos/$method.csv" --sampling clips \
            --num-clips 1 --size 64 --out "$folder/faces/$method"
        faces+=("$folder/faces/$method")
    done
    for network in CLRNet MesoInception4; do
        # 8 clips of CLRNet are 40 frames of MesoInception4.
        flags="--batch 40" epochs=(20 8 10) size="--image-size 64"
        if [ $network = CLRNet ]; then
            flags="--batch 8 --lr 2e-3 --no-augment" epochs=(30 10 15)
            size="--image-size 64 --filters 8 --repetitions 2"
        fi
        train $seed $network single --strategy single --model $network $size $flags \
            --epochs ${epochs[0]} --source "${faces[0]}"
        train $seed $network merge --strategy merge --model $network $size $flags \
            --epochs ${epochs[1]} --source "${faces[@]:0:4}"
        single=$OUT/runs/$network-single@$seed/model.pt
        train $seed $network transfer --strategy transfer --checkpoint "$single" $flags \
            --epochs ${epochs[2]} --target "${faces[@]:1:3}"
        train $seed $network authors --strategy transfer --checkpoint "$single" $flags \
            --epochs ${epochs[2]} --target "${faces[@]:1:3}" --source "${faces[0]}" --freeze 0.4203
    done
done

run python 06_evaluate.py --scores "$OUT/scores" --resamples 200 --out "$OUT/results"
for network in CLRNet MesoInception4; do
    for metric in recall_macro auc; do
        run python recipes/paired.py "$OUT/results/results.csv" --metric $metric \
            $network-single $network-merge $network-transfer
        run python recipes/paired.py "$OUT/results/results.csv" --metric $metric \
            $network-transfer $network-authors
    done
done

#!/usr/bin/env bash
# Experiment: does BP-DANN adapt where a domain-adversarial network should, on the two moons?
#
#   recipes/experiment_moons.sh        minutes on one CPU core; run again, it resumes
#
# The plan, written before the runs:
#
# Question   Ganin et al. (2016, section 5.1) show that a domain-adversarial network learns two
#            moons that are turned by 35 degrees, where a network without adaptation fails at their
#            ends. Does stage 04, and how often does it fail?
# Data       recipes/make_moons.py: 300 points each of the source's train and val splits and of the
#            target, seen through 256 random Fourier features.
# Seeds      10 to 19: points, features, initial weights, orders.
# Settings   Widths, batch and lambda as in 04; no dropout, Adam 1e-3, and 500 epochs of 2 steps: of
#            100 and 500 epochs, which had the higher mean AUC after BP-DANN on seeds 0 to 4 (88.9
#            and 93.4).
# Decides    The mean paired difference of the AUC on the target, BP-DANN minus source-only, with
#            its 95 % interval over ten seeds, and in how many seeds it is above 0.
# Trainings  10 source-only, 10 BP-DANN.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { echo; echo "+ $*"; "$@"; }
OUT=${OUT:-experiment-moons} SEEDS=${SEEDS:-10 11 12 13 14 15 16 17 18 19}
export OMP_NUM_THREADS=1

for seed in $SEEDS; do
    features=$OUT/features/$seed
    run python recipes/make_moons.py --seed $seed --out "$features"
    for method in source-only bp-dann; do
        run python 04_train_bpdann.py --method $method --source "$features/source" \
            --target "$features/target" --dropout 0 --epochs 500 --lr 1e-3 --seed $seed \
            --device cpu --out "$OUT/runs/$method@$seed" --scores "$OUT/scores/$method@$seed"
    done
done
run python 06_evaluate.py --scores "$OUT/scores" --resamples 200 --out "$OUT/results"
for metric in auc accuracy; do
    run python recipes/paired.py "$OUT/results/results.csv" source-only bp-dann --metric $metric
done

# Sourced by CLRNet's recipes after common.sh: the models, the sets of clips, and the trainings that
# several tables share.
#
#   MODELS      which of 05's --model to train (default: all six; with SMALL=1 CLRNet and
#               MesoInception4); MODELS=CLRNet for the paper's own alone
#   DFW_FRAMES  80 (default) or all: frames of each video of DFW
#   SEARCH=0    leaves the grid search out of Table 6
#
# A set of 2,000 videos has 160,000 frames of 240 x 240, which are 9 GB; CNN+LSTM needs its own
# samples of 20 frames, another 9 GB per set.
#
# DFW. The paper says that it has 200 videos, deepfakes of celebrities and politicians, with "more
# than 150,000 frames" (abstract, section 2), all for testing (section 5), and that pristine videos
# of FaceForensics++ are the real ones (section 5). Here the reals are FaceForensics++'s 125 test
# videos, which no detector is trained on, and as many fakes are drawn from those in
# DATA/DeepFake-in-the-Wild: the authors' code alternates real and fake, so that DFW is balanced
# there, and an accuracy of 50 % is chance. "We evaluate all the video frames" (5.1.2) and 16
# samples of 5 "from each real and fake video" (5.1.3) contradict each other: DFW_FRAMES=all or 80,
# for reals and fakes alike. 200 videos have 150,000 frames if all are taken, 16,000 at 80.
if [ "${SMALL:-0}" = 1 ]; then
    MODELS=${MODELS:-CLRNet MesoInception4} SEARCH_SWAP=${SEARCH_SWAP:-DF FS}
    CLIPS="--num-clips 2 --size 48" LONG_CLIPS="--num-clips 1 --clip-length 20 --size 80"
    FF_SPLIT="2 2 2" DFD_SPLIT="2 2 2" DFDC_SPLIT="2 2 2" FEW_SHOT="--few-shot 1"
    size_of() {   # size_of MODEL: the flags of its network
        case $1 in
            CLRNet) echo "--filters 4 --repetitions 1 1 --image-size 48" ;;
            CNN+LSTM) echo "--image-size 80" ;;
            *) echo "--image-size 64" ;;
        esac
    }
    training_of() {   # training_of MODEL: the flags of its training
        case $1 in
            CLRNet) echo "--epochs 1 --batch 4 --max-steps 4 --lr 1e-3" ;;
            CNN+LSTM) echo "--epochs 1 --batch 1 --max-steps 1" ;;
            *) echo "--epochs 1 --batch 4 --max-steps 4" ;;
        esac
    }
else
    MODELS=${MODELS:-CLRNet CNN+LSTM DBiRNN ShallowNet Xception MesoInception4}
    SEARCH_SWAP="DF FS DFD"
    # 5.1.1: 16 samples of 5 frames, 4 of 20. Section 5: 750, 125 and 125 videos; of DFD 250, 25
    # and 25.
    CLIPS="" LONG_CLIPS="--clip-length 20 --num-clips 4"
    FF_SPLIT="750 125 125" DFD_SPLIT="250 25 25" DFDC_SPLIT="750 125 125" FEW_SHOT=""
    # CNN+LSTM starts from ImageNet's weights in its own paper (Guera and Delp).
    size_of() { if [ "$1" = CNN+LSTM ]; then echo "--weights imagenet"; fi; }
    training_of() { :; }
fi
# Both papers have sets of the same names, one of frames and one of clips. What 06 says about faces
# is about the clips of 5 frames; those of CNN+LSTM are in faces-20.
OUT=$OUT/clrnet
FACES=$OUT/faces RUNS=$OUT/runs SCORES=$OUT/scores RESULTS=$OUT/results
# The authors' code trains the networks of single frames without augmentation.
augment_of() { case $1 in ShallowNet | Xception | MesoInception4) echo "--no-augment" ;; esac; }
# MTCNN's landmarks center the face, as in 5.1.3.
if [ "$DETECTOR" = mtcnn ]; then ALIGN="--align landmarks"; else ALIGN=""; fi
case ${DFW_FRAMES:=80} in
    80) DFW_CLIPS="" ;;
    all) DFW_CLIPS="--num-clips 1000000" ;;   # 01 takes as many as a video has
    *) echo "DFW_FRAMES is 80 or all, not $DFW_FRAMES" >&2; exit 2 ;;
esac
# The set that Table 6 and Figure 8 test on. One half of DFW chooses in the grid search, and the
# other half tests, also the detectors beside the search: the paper chooses on what it then reports.
SEARCH=${SEARCH:-1}
if [ "$SEARCH" = 1 ]; then OPEN=halves/DFW; else OPEN=DFW; fi

clips() {   # clips NAME ARGUMENTS: the set as 16 samples of 5 frames, and for CNN+LSTM as 4 of 20
    local name=$1
    shift
    set -- "$@" --detector "$DETECTOR" $ALIGN
    run python 01_extract_faces.py --sampling clips $CLIPS "$@" --out "$FACES/$name"
    case " $MODELS " in *" CNN+LSTM "*)
        run python 01_extract_faces.py --sampling clips $LONG_CLIPS "$@" \
            --out "$FACES-20/$name" ;;
    esac
}

make_set() {   # make_set NAME...: extract the sets of these names
    local name ffpp=(--layout ffpp --videos "$DATA/FaceForensics++" --split-in-order $FF_SPLIT)
    local dfw=(--list "$OUT/DFW.csv" $DFW_CLIPS)
    for name in "$@"; do
        case $name in
            DF) clips DF "${ffpp[@]}" --method Deepfakes ;;
            FS) clips FS "${ffpp[@]}" --method FaceSwap ;;
            F2F) clips F2F "${ffpp[@]}" --method Face2Face ;;
            NT) clips NT "${ffpp[@]}" --method NeuralTextures ;;
            DFD)   # of several people, the forged one is taken where the data set has masks
                clips DFD --layout dfd --videos "$DATA/FaceForensics++" --masks \
                    --split-draw $DFD_SPLIT ;;
            DFDC) clips DFDC --layout dfdc --videos "$DATA/DFDC" --split-draw $DFDC_SPLIT ;;
            DFW) list_dfw; clips DFW "${dfw[@]}" ;;
            halves/DFW) list_dfw; clips halves/DFW "${dfw[@]}" --random-split 0 50 50 ;;
        esac
    done
}

list_dfw() {
    run python recipes/list_dfw.py --fakes "$DATA/DeepFake-in-the-Wild" \
        --ffpp "$DATA/FaceForensics++" --split-in-order $FF_SPLIT --out "$OUT/DFW.csv"
}

faces_of() {   # faces_of MODEL NAME...: the sets' folders for a model, one per line
    local folder=$FACES name
    if [ "$1" = CNN+LSTM ]; then folder=$FACES-20; fi
    shift
    for name in "$@"; do echo "$folder/$name"; done
}

train() {   # train MODEL NAME FLAGS...: one training per seed; its output is also in OUT/logs
    train_by 05_train_clrnet.py "$@"
}

train_by() {   # train_by PROGRAM MODEL NAME FLAGS...
    local program=$1 model=$2 name=$3 seed at
    shift 3
    mkdir -p "$OUT/logs"
    for seed in $SEEDS; do
        at=$(at $seed)
        # A transfer starts from the source with the same seed.
        run python "$program" "${@//@SEED/$at}" $(training_of "$model") \
            $(augment_of "$model") --seed $seed --out "$RUNS/$model-$name$at" \
            --scores "$SCORES/$model-$name$at" | tee -a "$OUT/logs/$model-$name$at.txt"
    done
}

# Paths may contain blanks: the folders are read into arrays line by line.
single() {   # single MODEL SOURCE "TEST..." FLAGS...: train on a set, test on sets
    local model=$1 source=$2 tests
    mapfile -t tests < <(faces_of "$model" $3)
    train "$model" "$source" --model "$model" --strategy single \
        --source "$(faces_of "$model" "$source")" $(size_of "$model") --test "${tests[@]}" "${@:4}"
}

merge() {   # merge MODEL "TEST...": train on all five sets of FaceForensics++ and DFD
    local model=$1 tests sources
    mapfile -t tests < <(faces_of "$model" $2)
    mapfile -t sources < <(faces_of "$model" FS DF DFD F2F NT)
    train "$model" merge --model "$model" --strategy merge --source "${sources[@]}" \
        $(size_of "$model") --test "${tests[@]}"
}

transfer() {   # transfer MODEL SOURCE "TARGET..." "TEST..." FLAGS...: to ten videos per target
    local model=$1 source=$2 tests targets
    mapfile -t targets < <(faces_of "$model" $3)
    mapfile -t tests < <(faces_of "$model" $4)
    train "$model" "transfer-$source" --strategy transfer \
        --checkpoint "$RUNS/$model-$source@SEED/model.pt" --target "${targets[@]}" $FEW_SHOT \
        --test "${tests[@]}" "${@:5}"
}

search() {   # search MODEL: Algorithm 1, chosen on one half of DFW and tested on the other
    local model=$1 reenactment swap half
    mapfile -t reenactment < <(faces_of "$model" F2F NT)
    mapfile -t swap < <(faces_of "$model" $SEARCH_SWAP)
    half=$(faces_of "$model" halves/DFW)
    train_by recipes/grid_search.py "$model" search --model "$model" \
        --reenactment "${reenactment[@]}" --swap "${swap[@]}" $FEW_SHOT $(size_of "$model") \
        --validation "$half" --test "$half"
}

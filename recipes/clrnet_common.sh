# Sourced by CLRNet's recipes after common.sh: the models, the sets of clips, and the trainings that
# several tables share.
#
#   MODELS   which of 05's --model to train (default: all six; with SMALL=1 CLRNet and
#            MesoInception4); MODELS=CLRNet for the paper's own alone
#
# A set of 2,000 videos has 160,000 frames of 240 x 240, which are 11 GB; CNN+LSTM needs its own
# samples of 20 frames, another 11 GB per set.
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
    size_of() { :; }
    training_of() { :; }
fi
RUNS=$OUT/runs/clrnet

clips() {   # clips NAME ARGUMENTS: the set as 16 samples of 5 frames, and for CNN+LSTM as 4 of 20
    local name=$1
    shift
    run python 01_extract_faces.py "$@" --sampling clips $CLIPS --out "$FACES/clips/$name"
    case " $MODELS " in *" CNN+LSTM "*)
        run python 01_extract_faces.py "$@" --sampling clips $LONG_CLIPS \
            --out "$FACES/clips-20/$name" ;;
    esac
}

make_set() {   # make_set NAME...: extract the sets of these names
    local name ffpp=(--layout ffpp --videos "$DATA/FaceForensics++" --split-in-order $FF_SPLIT)
    local dfw=(--layout folders --videos "$DATA/DeepFake-in-the-Wild")
    for name in "$@"; do
        case $name in
            DF) clips DF "${ffpp[@]}" --method Deepfakes ;;
            FS) clips FS "${ffpp[@]}" --method FaceSwap ;;
            F2F) clips F2F "${ffpp[@]}" --method Face2Face ;;
            NT) clips NT "${ffpp[@]}" --method NeuralTextures ;;
            DFD) clips DFD --layout dfd --videos "$DATA/FaceForensics++" --split-draw $DFD_SPLIT ;;
            DFDC) clips DFDC --layout dfdc --videos "$DATA/DFDC" --split-draw $DFDC_SPLIT ;;
            DFW) clips DFW "${dfw[@]}" ;;
            # One half of DFW chooses in the grid search, the other half tests: the paper chooses on
            # what it then reports.
            halves/DFW) clips halves/DFW "${dfw[@]}" --random-split 0 50 50 ;;
        esac
    done
}

faces_of() {   # faces_of MODEL NAME...: the sets' folders for a model, one per line
    local folder=$FACES/clips name
    if [ "$1" = CNN+LSTM ]; then folder=$FACES/clips-20; fi
    shift
    for name in "$@"; do echo "$folder/$name"; done
}

# Paths may contain blanks: the folders are read into arrays line by line.
single() {   # single MODEL SOURCE "TEST..." FLAGS...: train on a set, test on sets
    local model=$1 source=$2 tests
    mapfile -t tests < <(faces_of "$model" $3)
    run python 05_train_clrnet.py --model "$model" --strategy single \
        --source "$(faces_of "$model" "$source")" $(size_of "$model") $(training_of "$model") \
        --test "${tests[@]}" "${@:4}" --out "$RUNS/$model-$source" --scores "$SCORES/$model-$source"
}

merge() {   # merge MODEL "TEST...": train on all five sets of FaceForensics++ and DFD
    local model=$1 tests sources
    mapfile -t tests < <(faces_of "$model" $2)
    mapfile -t sources < <(faces_of "$model" FS DF DFD F2F NT)
    run python 05_train_clrnet.py --model "$model" --strategy merge --source "${sources[@]}" \
        $(size_of "$model") $(training_of "$model") \
        --test "${tests[@]}" --out "$RUNS/$model-merge" --scores "$SCORES/$model-merge"
}

transfer() {   # transfer MODEL SOURCE "TARGET..." "TEST...": from a set to ten videos per target
    local model=$1 source=$2 tests targets
    mapfile -t targets < <(faces_of "$model" $3)
    mapfile -t tests < <(faces_of "$model" $4)
    run python 05_train_clrnet.py --strategy transfer \
        --checkpoint "$RUNS/$model-$source/model.pt" --target "${targets[@]}" $FEW_SHOT \
        $(training_of "$model") --test "${tests[@]}" \
        --out "$RUNS/$model-transfer-$source" --scores "$SCORES/$model-transfer-$source"
}

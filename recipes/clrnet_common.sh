# Sourced by CLRNet's recipes after common.sh: the models, the sets of clips, and the trainings that several tables share.
#
#   MODELS   those of 05's --model to train, default all six (with SMALL=1 "CLRNet MesoInception4"); MODELS=CLRNet for the paper's own alone
#
# A set of 2,000 videos has 160,000 frames of 240 x 240, 11 GB; CNN+LSTM wants its own samples of 20 frames, 11 GB more a set.
if [ "${SMALL:-0}" = 1 ]; then
    MODELS=${MODELS:-CLRNet MesoInception4}
    CLIPS="--num-clips 2 --size 48" LONG_CLIPS="--num-clips 1 --clip-length 20 --size 80"
    FF_SPLIT="2 2 2" DFD_SPLIT="2 2 2" DFDC_SPLIT="2 2 2" FEW_SHOT="--few-shot 1" SEARCH_SWAP="DF FS"
    small() {   # the small settings of a model
        case $1 in
            CLRNet) echo "--filters 4 --repetitions 1 1 --image-size 48 --epochs 1 --batch 4 --lr 1e-3" ;;
            CNN+LSTM) echo "--image-size 80 --epochs 1 --batch 1 --max-steps 1" ;;
            *) echo "--image-size 64 --epochs 1 --batch 4 --max-steps 4" ;;
        esac
    }
else
    MODELS=${MODELS:-CLRNet CNN+LSTM DBiRNN ShallowNet Xception MesoInception4}
    # 5.1.1: 16 samples of 5 frames, 4 of 20; section 5: 750, 125 and 125 videos, of DFD 250, 25 and 25.
    CLIPS="" LONG_CLIPS="--clip-length 20 --num-clips 4"
    FF_SPLIT="750 125 125" DFD_SPLIT="250 25 25" DFDC_SPLIT="750 125 125" FEW_SHOT="" SEARCH_SWAP="DF FS DFD"
    small() { :; }
fi
RUNS=$OUT/runs/clrnet

clips() {   # clips NAME ARGUMENTS: the set as 16 samples of 5 frames, and for CNN+LSTM as 4 of 20
    local name=$1
    shift
    run python 01_extract_faces.py "$@" --sampling clips $CLIPS --out "$FACES/clips/$name"
    case " $MODELS " in *" CNN+LSTM "*) run python 01_extract_faces.py "$@" --sampling clips $LONG_CLIPS --out "$FACES/clips-20/$name" ;; esac
}

make_set() {   # make_set NAME...: extract the sets of these names
    local name
    for name in "$@"; do
        case $name in
            DF) clips DF --layout ffpp --videos "$DATA/FaceForensics++" --method Deepfakes --split-in-order $FF_SPLIT ;;
            FS) clips FS --layout ffpp --videos "$DATA/FaceForensics++" --method FaceSwap --split-in-order $FF_SPLIT ;;
            F2F) clips F2F --layout ffpp --videos "$DATA/FaceForensics++" --method Face2Face --split-in-order $FF_SPLIT ;;
            NT) clips NT --layout ffpp --videos "$DATA/FaceForensics++" --method NeuralTextures --split-in-order $FF_SPLIT ;;
            DFD) clips DFD --layout dfd --videos "$DATA/FaceForensics++" --split-draw $DFD_SPLIT ;;
            DFDC) clips DFDC --layout dfdc --videos "$DATA/DFDC" --split-draw $DFDC_SPLIT ;;
            DFW) clips DFW --layout folders --videos "$DATA/DeepFake-in-the-Wild" ;;
            # Half of DFW chooses in the grid search, the other half tests: the paper chooses on what it then reports.
            halves/DFW) clips halves/DFW --layout folders --videos "$DATA/DeepFake-in-the-Wild" --random-split 0 50 50 ;;
        esac
    done
}

faces_of() {   # faces_of MODEL NAME...: the sets' folders for a model
    local folder=$FACES/clips name
    if [ "$1" = CNN+LSTM ]; then folder=$FACES/clips-20; fi
    shift
    for name in "$@"; do echo "$folder/$name"; done
}

# Paths with blanks: the folders are read into arrays line by line.
single() {   # single MODEL SOURCE TEST...: train on a set, test on sets
    local model=$1 source=$2 tests
    shift 2
    mapfile -t tests < <(faces_of "$model" "$@")
    run python 05_train_clrnet.py --model "$model" --strategy single --source "$(faces_of "$model" "$source")" $(small "$model") \
        --test "${tests[@]}" --out "$RUNS/$model-$source" --scores "$SCORES/$model-$source"
}

merge() {   # merge MODEL TEST...: train on all five sets of FaceForensics++ and DFD
    local model=$1 tests sources
    shift
    mapfile -t tests < <(faces_of "$model" "$@")
    mapfile -t sources < <(faces_of "$model" FS DF DFD F2F NT)
    run python 05_train_clrnet.py --model "$model" --strategy merge --source "${sources[@]}" $(small "$model") \
        --test "${tests[@]}" --out "$RUNS/$model-merge" --scores "$SCORES/$model-merge"
}

transfer() {   # transfer MODEL SOURCE "TARGET..." TEST...: from a set to ten videos of each other set
    local model=$1 source=$2 target=$3 tests targets
    shift 3
    mapfile -t tests < <(faces_of "$model" "$@")
    mapfile -t targets < <(faces_of "$model" $target)
    run python 05_train_clrnet.py --strategy transfer --checkpoint "$RUNS/$model-$source/model.pt" --target "${targets[@]}" $FEW_SHOT \
        $(small "$model" | sed 's/--filters.*--image-size [0-9]*//; s/--image-size [0-9]*//') \
        --test "${tests[@]}" --out "$RUNS/$model-transfer-$source" --scores "$SCORES/$model-transfer-$source"
}

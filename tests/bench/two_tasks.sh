#!/usr/bin/env bash
# two_tasks.sh [--torch] [--ranks] [--seeds "1 2"] [--epochs 3] [--np 2] [--out DIR]
#
# TREC question types and SST-2 sentiment, two tasks on two data sets, a BERT of 4 layers x 256 with
# random weights: trains with mttrain and prints the dev accuracy of both tasks for each seed.
# --torch does the same with a plain PyTorch loop beside it (Debian: python3-torch), on the ids that
# mttrain packed. --ranks runs one short epoch at 1, 2, 3, 4 and 8 ranks, and once stopped half-way
# and resumed at another rank count, and compares the hashes.
#
# The data are looked for in $MT_SHARED, else beside the source folder; mttrain in $MTTRAIN.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
shared=${MT_SHARED:-$source_dir/../shared}
mttrain=${MTTRAIN:-$source_dir/build/release/mttrain}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
torch=no ranks=no seeds="1 2" epochs=3 np=2 out=
while [ $# -gt 0 ]; do
    case $1 in
    --torch) torch=yes ;;
    --ranks) ranks=yes ;;
    --seeds) seeds=$2 && shift ;;
    --epochs) epochs=$2 && shift ;;
    --np) np=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' && exit 2 ;;
    esac
    shift
done
for file in trec/TREC.train.all sst2/train.tsv vocab/bert-base-uncased-vocab.txt; do
    if [ ! -e "$shared/data/$file" ]; then
        echo "skipped: $shared/data/$file absent"
        exit 77
    fi
done
if [ -z "$out" ]; then
    out=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-two-tasks-XXXXXX")
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

cat >"$out/job.cfg" <<END
name = "two-tasks"; run_dir = "run"; seed = 1;
model = { init = "random"; vocab = "$shared/data/vocab/bert-base-uncased-vocab.txt"; max_tokens = 64;
  config = { hidden_size = 256; num_hidden_layers = 4; num_attention_heads = 4;
             intermediate_size = 1024; max_position_embeddings = 64; };
  pooling = "mean"; dropout = 0.1; };
data = (
  { name = "trec"; train = [ "$shared/data/trec/TREC.train.all" ];
    dev = [ "$shared/data/trec/TREC.test.all" ]; delimiter = " "; header = false; text = "1"; },
  { name = "sst2"; train = [ "$shared/data/sst2/train.tsv" ]; dev = [ "$shared/data/sst2/dev.tsv" ];
    header = false; text = "0"; } );
tasks = (
  { name = "question"; data = "trec"; column = "0"; labels = [ "0", "1", "2", "3", "4", "5" ]; },
  { name = "sentiment"; data = "sst2"; column = "1"; labels = [ "0", "1" ]; } );
batch = { sentences = 32; lanes = 8; sampling = "proportional"; };
train = { epochs = $epochs.0; eval_every = "1ep"; save_every = "1h"; log_every = "50st"; };
optimizer = { lr = 3e-4; weight_decay = 0.01; clip = 1.0; };
phases = ( { name = "all"; until = "1.0run"; train = [ "*" ]; warmup = "0.1phase"; shape = "linear"; } );
END

train() { mpirun -np "$1" "$mttrain" -q "$out/job.cfg" "${@:2}" </dev/null; }
hash_of() { "$mttrain" inspect --hash "$1"; }
seconds() { grep '"event":"done"' "$1/metrics.jsonl" | grep -o '"seconds":[0-9.]*' | cut -d : -f 2; }

# accuracies RUN: of both tasks, after the last epoch.
accuracies() {
    local task
    for task in question sentiment; do
        grep '"event":"eval"' "$1/metrics.jsonl" | grep "\"task\":\"$task\"" | tail -n 1 |
            grep -o '"accuracy":[0-9.]*' | cut -d : -f 2
    done | xargs printf 'question %.4f  sentiment %.4f'
}

for seed in $seeds; do
    train "$np" --set "run_dir=$out/seed$seed" --set "seed=$seed"
    printf 'mttrain  np %s  seed %s: %s  %.0f s\n' "$np" "$seed" "$(accuracies "$out/seed$seed")" \
        "$(seconds "$out/seed$seed")"
    if [ "$torch" = yes ]; then
        /usr/bin/python3 "$source_dir/tests/bench/two_tasks_torch.py" --shards "$out/seed$seed/shards" \
            --seed "$seed" --epochs "$epochs"
    fi
done

if [ "$ranks" = yes ]; then
    short=(--set train.max_steps=40 --set train.epochs=1.0)
    for n in 1 2 3 4 8; do
        train "$n" --set "run_dir=$out/np$n" "${short[@]}"
        echo "np $n: $(hash_of "$out/np$n")"
    done
    mpirun -np 4 "$mttrain" -q "$out/job.cfg" --set "run_dir=$out/resumed" "${short[@]}" \
        --set 'train.log_every="1st"' </dev/null &
    pid=$!
    until grep -qs '"step":20,' "$out/resumed/metrics.jsonl"; do
        kill -0 "$pid"
        sleep 0.1
    done
    kill -USR1 "$pid"
    code=0
    wait "$pid" || code=$?
    train 3 --set "run_dir=$out/resumed" "${short[@]}" --set 'train.log_every="1st"'
    echo "np 4, stopped half-way (exit code $code), then np 3: $(hash_of "$out/resumed")"
fi

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
. "$(dirname "$0")/common.sh"
export OMPI_MCA_mpi_yield_when_idle=1
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
. "$source_dir/tests/bench/two_tasks_job.sh"
need_data
if [ -z "$out" ]; then
    out=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-two-tasks-XXXXXX")
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

two_tasks_job two-tasks 4 256 "$epochs" 50st >"$out/job.cfg"

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

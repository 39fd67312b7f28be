#!/usr/bin/env bash
# precision.sh [--epochs 3] [--every 100] [--seed 1] [--np 2] [--layers 4] [--hidden 256] [--steps N]
#              [--out DIR]
#
# The same job in fp32 and in bf16, on real data: TREC question types and SST-2 sentiment, as in
# two_tasks.sh. Prints the training loss of both in windows of --every steps, the dev accuracies after
# each epoch and the seconds of both; with --out also DIR/precision.md and DIR/precision.svg.
#
# The data are looked for in $MT_SHARED, else beside the source folder; MTTRAIN names the program,
# LOSS_CURVES the drawer (build/release/tests/bench_loss_curves).
set -euo pipefail
. "$(dirname "$0")/common.sh"
export OMPI_MCA_mpi_yield_when_idle=1
drawer=${LOSS_CURVES:-$(dirname "$mttrain")/tests/bench_loss_curves}
epochs=3 every=100 seed=1 np=2 layers=4 hidden=256 steps=0 out=
while [ $# -gt 0 ]; do
    case $1 in
    --epochs) epochs=$2 && shift ;;
    --every) every=$2 && shift ;;
    --seed) seed=$2 && shift ;;
    --np) np=$2 && shift ;;
    --layers) layers=$2 && shift ;;
    --hidden) hidden=$2 && shift ;;
    --steps) steps=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' && exit 2 ;;
    esac
    shift
done
. "$source_dir/tests/bench/two_tasks_job.sh"
need_data
work=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-precision-XXXXXX")
trap 'rm -rf "$work"' EXIT

two_tasks_job precision "$layers" "$hidden" "$epochs" "${every}st" >"$work/job.cfg"

for precision in fp32 bf16; do
    mpirun -np "$np" "$mttrain" -q "$work/job.cfg" --set "run_dir=$work/$precision" \
        --set "model.precision=\"$precision\"" --set "seed=$seed" --set "train.max_steps=$steps" </dev/null
done
python3 - "$work/fp32/metrics.jsonl" "$work/bf16/metrics.jsonl" <<'END2' | tee "$work/precision.md"
import json
import sys

runs = []
for path in sys.argv[1:]:
    loss, accuracy, seconds = {}, {}, 0.0
    with open(path, encoding="utf-8") as f:
        for line in f:
            e = json.loads(line)
            if e["event"] == "step":
                loss[e["step"]] = e["loss"]
            elif e["event"] == "eval" and e["split"] == "dev":
                accuracy[e["step"], e["task"]] = e["accuracy"]
            elif e["event"] == "done":
                seconds = e["seconds"]
    runs.append((loss, accuracy, seconds))
(loss32, acc32, s32), (loss16, acc16, s16) = runs
print("| steps up to | loss, fp32 | loss, bf16 | bf16 - fp32 |\n|---|---|---|---|")
for step in sorted(loss32):
    if step in loss16:
        print("| %d | %.5f | %.5f | %+.5f |" % (step, loss32[step], loss16[step],
                                                loss16[step] - loss32[step]))
print("\n| step | task | dev accuracy, fp32 | bf16 | bf16 - fp32 |\n|---|---|---|---|---|")
for key in sorted(acc32):
    if key in acc16:
        print("| %d | %s | %.4f | %.4f | %+.4f |" % (*key, acc32[key], acc16[key],
                                                     acc16[key] - acc32[key]))
print("\nseconds of training: fp32 %.1f, bf16 %.1f" % (s32, s16))
END2
if [ -n "$out" ]; then
    mkdir -p "$out"
    cp "$work/precision.md" "$out/"
    if [ -x "$drawer" ]; then
        "$drawer" "$out/precision.svg" "fp32=$work/fp32/metrics.jsonl" \
            "bf16=$work/bf16/metrics.jsonl"
    fi
fi

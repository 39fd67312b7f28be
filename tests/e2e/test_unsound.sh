#!/usr/bin/env bash
# Losses that are not finite or leap up are stopped at, skipped or gone back from, alike at any rank
# count, with a bundle that replay reproduces; a rank that hangs is named and the job can be started
# again; a start on too few cores, or with one OpenMP thread, says so.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/whole 6.0
bundles() { find "$1/bundles" -name 'step-*.json' 2>/dev/null | sort; }

# Rates that lead to infinity.
sed 's/lr = 1e-3/lr = 1e30/; s/lr = 5e-3/lr = 1e30/' job.cfg >wild.cfg
for policy in stop skip rollback; do
    for np in 1 3; do
        dir=runs/$policy$np rc=0
        ranks "$np" wild.cfg -q --set "run_dir=$dir" --set "train.nonfinite=$policy" || rc=$?
        equal "not finite, $policy, np $np: exit code" 5 "$rc"
        contains "... names the step and the way to look at it" out 'error: .*step [0-9]+.*mttrain replay'
    done
    equal "not finite, $policy: the same steps at np 1 and np 3" \
        "$(bundles "runs/${policy}1" | xargs -n 1 basename)" "$(bundles "runs/${policy}3" | xargs -n 1 basename)"
done
bundle=$(bundles runs/stop1 | head -n 1)
must 2 replay "$bundle" && contains "replay finds the same loss" out 'reproduced|same'
cp out replay.out

# Leaps: the factor is set so low that ordinary batches are some.
for policy in skip rollback; do
    for np in 1 3; do
        must "$np" job.cfg -q --set "run_dir=runs/spike-$policy$np" --set "train.spike=$policy" \
            --set train.spike_factor=1.6 --set 'train.save_every="7st"'
    done
    holds "spikes, $policy: there are some" [ -n "$(bundles "runs/spike-${policy}1")" ]
    equal "spikes, $policy: the same steps at np 1 and np 3" \
        "$(bundles "runs/spike-${policy}1" | xargs -n 1 basename)" \
        "$(bundles "runs/spike-${policy}3" | xargs -n 1 basename)"
    equal "spikes, $policy: the same bits at np 1 and np 3" \
        "$(hash_of "runs/spike-${policy}1")" "$(hash_of "runs/spike-${policy}3")"
done
must 2 replay "$(bundles runs/spike-skip1 | head -n 1)" && contains "replay of a spike finds it" out 'reproduced|same'

# A rank that hangs; the others are well as long as they are heard of once in a quarter of the limit.
timeout -k 10 "$limit_s" mpirun -np 3 "$MTTRAIN" job.cfg -q --set run_dir=runs/hangs --set watchdog=12 \
    --set 'train.save_every="5st"' --set train.epochs=2000.0 </dev/null >launch.out 2>&1 &
job_pid=$!
wait_steps runs/hangs 12
frozen=
for pid in $(pgrep -f "$MTTRAIN job.cfg -q --set run_dir=runs/hangs"); do
    if grep -qz '^OMPI_COMM_WORLD_RANK=2$' "/proc/$pid/environ" && [ "$(ps -o comm= -p "$pid")" = mttrain ]; then
        frozen=$pid
    fi
done
kill -STOP "$frozen"
rc=0
wait "$job_pid" || rc=$?
kill -KILL "$frozen" 2>/dev/null
equal "a rank that hangs: exit code" 75 "$rc"
contains "... is named, with host, phase, step and what it did" launch.out \
    'watchdog: no progress for 12 s: rank 2 on [^ ]+ \(phase [0-9]+, step [0-9]+, .*\)'
contains "... and who waits for it" launch.out 'Waiting for it: rank 0 on .*rank 1 on'
contains "... also as an event" <(grep '"event":"watchdog"' runs/hangs/metrics.jsonl) '"rank":2'

# The doctor.
np=$(($(nproc) * 2 > 8 ? 8 : $(nproc) * 2))
export OMPI_MCA_hwloc_base_binding_policy=none # else mpirun may bind to cores that we do not have
OMP_NUM_THREADS=1 ranks "$np" job.cfg --set run_dir=runs/doctor --set train.max_steps=2
[ "$np" -le "$(nproc)" ] || contains "more ranks than cores are told" out "warning: .*$np ranks"
OMP_NUM_THREADS=1 alone job.cfg --set run_dir=runs/doctor1 --set train.max_steps=2
[ "$(nproc)" -eq 1 ] || contains "one OpenMP thread is told" out 'warning: .*OMP_NUM_THREADS'
finish

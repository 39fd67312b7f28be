#!/usr/bin/env bash
# A disk that fills up while a run goes on and is freed again: with save_failure = warn training goes on
# and says loudly what is not saved, later saves succeed, and no event is missing; so on a slow disk.
. "$(dirname "$0")/../e2e/e2e_tools.sh"

cd "$work" || exit 1
make_slow
make_corpora .
make_job job.cfg runs/whole 150.0
sed -i '/^schedule = /,$d; s/eval_every = "1ep"/eval_every = "50ep"/; s/save_every = "1h"/save_every = "25st"/' job.cfg
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)
steps=$(grep -c '"event":"step"' runs/whole/metrics.jsonl)
if ! { [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=8m none disk 2>/dev/null; }; then
    echo "skipped: no tmpfs can be mounted here"
    exit 77
fi
mounted=$work/disk

told() { # told PATTERN FILE: in how many lines
    local n
    n=$(grep -c "$1" "$2" 2>/dev/null)
    echo "${n:-0}"
}
until_told() { # until_told N PATTERN FILE: or the run has ended
    while [ "$(told "$2" "$3")" -lt "$1" ] && kill -0 "$job_pid" 2>/dev/null; do sleep 0.02; done
}
LD_PRELOAD=$slow SLOW_FROM=50 SLOW_TO=1300 SLOW_STEP_US=5000 \
    timeout -k 10 "$limit_s" mpirun -np 2 "$MTTRAIN" job.cfg --set run_dir=disk/run \
    --set 'train.save_failure="warn"' </dev/null >out.run 2>&1 &
job_pid=$!
until_told 2 '"event":"checkpoint"' disk/run/metrics.jsonl
dd if=/dev/zero of=disk/ballast bs=4k status=none 2>/dev/null
holds "the disk is full" [ "$(df --output=avail disk | tail -n 1)" -lt 64 ]
until_told 3 'NOT saved' out.run
before=$(told '"event":"step"' disk/run/metrics.jsonl)
rm disk/ballast
until_told 1 'metrics.jsonl is written again' out.run
rc=0
wait "$job_pid" || rc=$?
equal "full disk for a while: exit code" 0 "$rc"
contains "... each failed save is told loudly" out.run 'warning: checkpoint at step [0-9]+ NOT saved: .*No space left'
holds "... three of them at least" [ "$(told 'NOT saved' out.run)" -ge 3 ]
equal "... events that waited are not lost" 0 "$(grep -o '[0-9]* events are lost' out.run | cut -d ' ' -f 1)"
holds "... it had gone on past them" [ "$before" -lt "$steps" ]
grep -o '"event":"step".*"step":[0-9]*' disk/run/metrics.jsonl | grep -o '[0-9]*$' >steps.out
holds "... every step told once" cmp -s <(seq "$steps") steps.out
holds "... the failed saves are events, too" [ "$(told '"event":"warning".*NOT saved' disk/run/metrics.jsonl)" -ge 3 ]
contains "... later saves succeed" \
    <(sed -n '/NOT saved/,$p' disk/run/metrics.jsonl) '"event":"checkpoint"'
holds "... the last checkpoint is valid" alone inspect --verify "$(ls -d disk/run/checkpoints/step-* | tail -n 1)"
holds "... nothing but our own words is printed" [ -z "$(grep -i hdf5 out.run)" ]
equal "... the same bits" "$expected" "$(hash_of disk/run)"
equal "... nothing half-written is left" "" "$(find disk -name '*.tmp*')"
finish

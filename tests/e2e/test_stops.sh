#!/usr/bin/env bash
# Every way to ask a run to stop leads to a save and exit code 75 on all ranks, and the same command goes
# on to the bits of the run left alone; a second INT leaves at once and harms nothing, also within a save.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_slow
make_corpora .
make_job job.cfg runs/whole 100.0
sed -i 's/eval_every = "1ep"/eval_every = "20ep"/' job.cfg
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)

# launch NP ARGUMENTS...: in the background, with $job_pid.
launch() {
    local np=$1
    shift
    timeout -k 10 "$limit_s" mpirun -np "$np" "$MTTRAIN" job.cfg "$@" </dev/null >launch.out 2>&1 &
    job_pid=$!
}
a_rank() { # one process of the run in folder $1
    pgrep -f "$MTTRAIN job.cfg.* run_dir=$1" | while read -r pid; do
        [ "$(ps -o comm= -p "$pid")" != mttrain ] || echo "$pid"
    done | tail -n 1
}
resumes() { # resumes WHAT DIR
    must 2 job.cfg -q --set "run_dir=$2"
    equal "$1: the same bits after a resume" "$expected" "$(hash_of "$2")"
}

for signal in USR2 TERM INT; do
    dir=runs/$signal
    LD_PRELOAD=$slow SLOW_FROM=5 SLOW_STEP_US=200000 launch 3 -q --set "run_dir=$dir"
    wait_steps "$dir" 5
    kill "-$signal" "$(a_rank "$dir")"
    rc=0
    wait "$job_pid" || rc=$?
    equal "$signal to one of three ranks: exit code" 75 "$rc"
    contains "$signal: the event names it" <(grep '"event":"stop"' "$dir/metrics.jsonl") "signal $signal"
    resumes "$signal" "$dir"
done

launch 2 -q --set run_dir=runs/command --set train.epochs=100000.0
wait_steps runs/command 5
# The status is written every two seconds.
while kill -0 "$job_pid" 2>/dev/null && { ! alone ctl runs/command status --json || grep -q starting out; }; do sleep 0.1; done
contains "ctl status tells what is done" out '"state": *"(training|evaluating|saving)"'
alone ctl runs/command stop || fail "ctl stop: $(cat out)"
rc=0
wait "$job_pid" || rc=$?
equal "ctl stop: exit code" 75 "$rc"
contains "ctl stop: the event names it" <(grep '"event":"stop"' runs/command/metrics.jsonl) 'stop command'

# The end of the time that SLURM gives, less what a save may take: time for the start, since the same run
# has its data packed, and then for steps.
LD_PRELOAD=$slow SLOW_STEP_US=100000 SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(($(date +%s) + 35)) \
    timeout "$limit_s" mpirun -np 2 "$MTTRAIN" job.cfg -q \
    --set run_dir=runs/command --set 'train.epochs=100000.0' </dev/null >launch.out 2>&1
equal "the time limit: exit code" 75 "$?"
contains "the time limit: the event names it" <(grep '"event":"stop"' runs/command/metrics.jsonl) 'time limit'

# A slow disk: a save takes seconds, and training does not wait for it; INT within it, twice.
slow_disk() { # slow_disk MICROSECONDS ARGUMENTS...
    LD_PRELOAD=$slow SLOW_SYNC_US=$1 timeout -k 5 "$limit_s" "$MTTRAIN" job.cfg -q "${@:2}" </dev/null >launch.out 2>&1
}
rc=0
slow_disk 20000 --set run_dir=runs/slow --set 'train.save_every="100st"' || rc=$?
equal "a slow disk: exit code" 0 "$rc"
equal "a slow disk: the same bits" "$expected" "$(hash_of runs/slow)"

SYNC_HOLD=$work/hold SLOW_FROM=5 SLOW_STEP_US=200000 slow_disk 0 --set run_dir=runs/twice &
job_pid=$!
wait_steps runs/twice 5
pid=$(a_rank runs/twice)
touch hold
kill -INT "$pid"
while ! ls -d runs/twice/checkpoints/*.tmp >/dev/null 2>&1 && kill -0 "$job_pid" 2>/dev/null; do sleep 0.02; done
holds "the first INT leads to a save" [ -n "$(ls -d runs/twice/checkpoints/*.tmp 2>/dev/null)" ]
kill -INT "$pid"
rc=0
wait "$job_pid" || rc=$?
rm hold
equal "a second INT within the save ends the program: exit code" 130 "$rc"
resumes "a second INT" runs/twice

OMPI_MCA_odls_base_sigkill_timeout=0 must 2 job.cfg --set run_dir=runs/short --set train.max_steps=3
contains "a kill timeout too short for a save is told" out 'a save takes about .* odls_base_sigkill_timeout'
finish

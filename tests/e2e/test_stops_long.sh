#!/usr/bin/env bash
# Every way to ask a run to stop also works within its long stretches that are no steps: packing, filling
# a cache, evaluating. All ranks leave with 75, nothing half-made is left, and the same command comes to
# the bits of the run left alone.
#
# One run is stopped again and again, made slow where it is to be stopped.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_slow
repeated() { # repeated FILE TIMES: the head, then the rows of a shipped table so many times
    head -n 1 "$MT_SOURCE_DIR/jobs/quickstart/$1"
    for _ in $(seq "$2"); do tail -n +2 "$MT_SOURCE_DIR/jobs/quickstart/$1"; done
}
repeated train.tsv 50 >many.tsv
repeated dev.tsv 200 >many-dev.tsv
make_job job.cfg runs/whole
sed -i '/^data = /,/^tasks = /d' job.cfg
cat >>job.cfg <<'END'
data = ( { name = "many"; train = [ "many.tsv" ]; dev = [ "many-dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "many"; labels = [ "personal", "fact", "app" ]; } );
END
sed -i 's/{ name = "sentiment"; data = "moods"; } );//
    s/train = { epochs = [0-9.]*; eval_every = "1ep"/train = { threads = 1; epochs = 1.0; max_steps = 24; eval_every = "1ep"/
    s/until = "0.3run"; train/until = "8st"; cache = "on"; train/; s/until = "0.6run"/until = "16st"/' job.cfg
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)
grep -q '"event":"cache"' runs/whole/metrics.jsonl || fail "the run has no cache to be filled"

cat >rank.sh <<'END'
"$@"
echo $? >"rc.$OMPI_COMM_WORLD_RANK"
END
dir=runs/stopped
launch() { # three ranks in the background, with $job_pid; their exit codes go to rc.N
    rm -f rc.*
    timeout -k 10 "$limit_s" mpirun -np 3 bash rank.sh "$MTTRAIN" job.cfg --set "run_dir=$dir" \
        </dev/null >launch.out 2>&1 &
    job_pid=$!
}
the_ranks() {
    pgrep -f "$MTTRAIN job.cfg --set run_dir=$dir" | while read -r pid; do
        [ "$(ps -o comm= -p "$pid")" != mttrain ] || echo "$pid"
    done
}
within() { # within STAGE: until the run is in it, or has ended
    while kill -0 "$job_pid" 2>/dev/null; do
        case $1 in
        hashing) [ ! -s "$dir/lock" ] || return 0 ;;
        packing) ls -d "$dir"/shards/*.tmp-* >/dev/null 2>&1 && return 0 ;;
        filling) ls -d "$dir"/cache/*.tmp-* >/dev/null 2>&1 && return 0 ;;
        evaluating) grep -qs '"state": *"evaluating"' "$dir/status.json" && return 0 ;;
        esac
        sleep 0.01
    done
}
ask() { # ask HOW: to stop
    case $1 in
    command) timeout 60 "$MTTRAIN" ctl "$dir" stop </dev/null >ask.out 2>&1 || fail "ctl: $(cat ask.out)" ;;
    # shellcheck disable=SC2046  # one word a rank
    *) kill "-$1" $(the_ranks) ;;
    esac
}
stops() { # stops STAGE HOW MESSAGE
    rm -f "$dir/status.json"
    launch
    within "$1"
    ask "$2"
    wait "$job_pid"
    equal "$2 within $1: the exit code of all ranks" "75 75 75" "$(cat rc.* | xargs)"
    contains "$2 within $1: says so" launch.out "$3"
    equal "$2 within $1: nothing half-made is left" "" "$(find "$dir" -name '*.tmp*')"
    [ "$failures" -eq 0 ] || finish # what follows builds on it
}

export LD_PRELOAD=$slow SLOW_READ_US=150000 READ_HOLD=$work/hold
stops hashing USR1 'stopped by signal USR1 before .*many.* were packed'
for how in USR1 TERM INT command; do
    stops packing $how 'stopped by .* before .*many.* were packed; the same command goes on'
done
holds "packing was not over" [ -z "$(ls "$dir/shards")" ]
rc=0
SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(($(date +%s) + 21)) ranks 2 job.cfg --set "run_dir=$dir" || rc=$?
equal "the time limit within packing: exit code" 75 "$rc"
contains "... says so" out 'stopped by time limit before .*many.* were packed'

# A second INT leaves at once; the next start clears away.
timeout -k 10 "$limit_s" "$MTTRAIN" job.cfg -q --set "run_dir=$dir" </dev/null >launch.out 2>&1 &
job_pid=$!
within packing
pid=$(pgrep -P "$job_pid")
touch hold
kill -INT "$pid"
catches_int() { # has not had the first: another one would be taken as the same
    local caught
    caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status")
    [ -n "$caught" ] && [ $((0x$caught & 2)) -ne 0 ]
}
while catches_int; do sleep 0.01; done
kill -INT "$pid"
rc=0
wait "$job_pid" || rc=$?
rm hold
equal "a second INT within packing: exit code" 130 "$rc"
holds "... leaves what was being made" [ -n "$(find "$dir/shards" -name '*.tmp-*')" ]

rc=0
"$MTTRAIN" pack --vocab "$vocab" --out packed --label category=category many.tsv </dev/null >pack.out 2>&1 &
job_pid=$!
until ls -d packed.tmp-* >/dev/null 2>&1 || ! kill -0 "$job_pid" 2>/dev/null; do sleep 0.01; done
kill -TERM "$job_pid"
wait "$job_pid" || rc=$?
equal "TERM to mttrain pack: exit code" 75 "$rc"
contains "... says so" pack.out 'stopped by signal TERM; packed was not made'
holds "... and leaves nothing" [ -z "$(ls -d packed* 2>/dev/null | grep -v '^packed\.out$')" ]
unset SLOW_READ_US

export SLOW_MEETING_US=50000
for how in USR1 TERM INT command; do
    stops filling $how 'stopped by .* after step 0 of 24; the state is saved'
done
for how in USR1 TERM INT command; do
    stops evaluating $how 'stopped by .* after step [0-9]+ of 24; the state is saved'
done
unset LD_PRELOAD SLOW_MEETING_US
must 2 job.cfg -q --set "run_dir=$dir"
equal "stopped again and again: the same bits" "$expected" "$(hash_of "$dir")"
equal "... every step told once" "$(seq 24 | xargs)" \
    "$(grep -o '"event":"step".*"step":[0-9]*' "$dir/metrics.jsonl" | grep -o '[0-9]*$' | xargs)"
equal "... nothing half-made is left" "" "$(find "$dir" -name '*.tmp*')"
finish

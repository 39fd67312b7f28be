#!/usr/bin/env bash
# A run that was stopped, killed or damaged anywhere and resumed at another rank count ends in the
# bits of the run that was left alone, and tells every step once.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_slow
make_corpora .
make_job job.cfg runs/whole 16.0

# The story of a run without what time and rank count alone decide.
story() {
    grep -E '"event":"(step|eval)"|"action":"end"' "$1/metrics.jsonl" |
        sed -E 's/"(time|iso|tokens_per_s|seconds)":("[^"]*"|[^,}]*),?//g; s/,?"(wait_s|ranks)":\{[^}]*\}//g; s/,"reduced_bytes":[0-9]*//; s/,\}/}/g'
}

# same_run WHAT DIR: the run is done, has the expected bits and the expected story.
same_run() {
    equal "$1: same bits" "$expected" "$(hash_of "$2")"
    if ! diff <(story runs/whole) <(story "$2") >diff.out; then
        fail "$1: metrics.jsonl tells another story:"
        cut -c 1-300 diff.out | head -n 10
    else
        ok "$1: every step and evaluation once, with the same numbers"
    fi
    equal "$1: done once" 1 "$(grep -c '"event":"done"' "$2/metrics.jsonl")"
    holds "$1: nothing half-written" [ -z "$(find "$2" -name '*.tmp*')" ]
    holds "$1: a model is exported" [ -s "$2/model/model.safetensors" ]
}

last_step() { grep -o '"event":"step".*"step":[0-9]*' "$1/metrics.jsonl" 2>/dev/null | tail -n 1 | grep -o '[0-9]*$'; }

# launch NP ARGUMENTS...: in the background; $mpirun_pid is mpirun's own.
launch() {
    local np=$1
    shift
    timeout -k 10 "$limit_s" mpirun -np "$np" "$MTTRAIN" "$@" </dev/null >launch.out 2>&1 &
    job_pid=$!
    mpirun_pid=
    while [ -z "$mpirun_pid" ] && kill -0 "$job_pid" 2>/dev/null; do
        mpirun_pid=$(pgrep -P "$job_pid" -x mpirun)
    done
}

# wait_step DIR N: until step N stands in metrics.jsonl, or the program has ended.
wait_step() {
    local at
    while kill -0 "$job_pid" 2>/dev/null; do
        at=$(last_step "$1")
        [ "${at:-0}" -lt "$2" ] || return 0
        sleep 0.01
    done
}

# until_done DIR NP ARGUMENTS...
until_done() {
    local dir=$1
    shift
    must "$@" --set "run_dir=$dir"
}

must 1 job.cfg || finish
expected=$(hash_of runs/whole)
steps=$(last_step runs/whole)
echo "the whole run: $steps steps, $expected"
equal "a complete run has nothing to do" 0 "$(must 2 job.cfg >&2; echo $?)"
same_run "complete run started again" runs/whole

# Stopped by USR1, once in each phase, at a random step and within the evaluations at the ends of
# phases, resumed at other rank counts.
nps=(1 3 2 4 8 2 3 1)
i=0
ends=$(grep '"action":"end"' runs/whole/metrics.jsonl | grep -o '"step":[0-9]*' | cut -d : -f 2 | sed '$d')
for at in 1 $((steps * 2 / 10)) $((steps * 45 / 100)) $((steps * 8 / 10)) $((RANDOM % (steps - 9) + 1)) $ends; do
    dir=runs/usr1-$i
    launch "${nps[i]}" job.cfg --set "run_dir=$dir"
    wait_step "$dir" "$at"
    kill -USR1 "$mpirun_pid"
    wait "$job_pid"
    rc=$?
    if [ "$rc" -eq 0 ]; then
        echo "(the run was over before the signal for step $at came)"
    else
        equal "USR1 at about step $at: exit code" 75 "$rc"
        contains "USR1 at about step $at: says where it stopped and how to go on" launch.out \
            'stopped by .* after step [0-9]+ of [0-9]+; the state is saved'
    fi
    until_done "$dir" "${nps[i + 1]}" job.cfg
    same_run "USR1 at about step $at, np ${nps[i]} then ${nps[i + 1]}" "$dir"
    i=$((i + 1))
done

# Every rank of a stopped run leaves with 75, though only one was told to stop.
cat >rank.sh <<'END'
"$@"
echo $? >"rc.$OMPI_COMM_WORLD_RANK"
END
LD_PRELOAD=$slow SLOW_FROM=10 SLOW_STEP_US=200000 \
    timeout -k 10 "$limit_s" mpirun -np 3 bash rank.sh "$MTTRAIN" job.cfg --set run_dir=runs/one-told \
    </dev/null >launch.out 2>&1 &
job_pid=$!
wait_step runs/one-told 10
told=$(pgrep -f "$MTTRAIN job.cfg --set run_dir=runs/one-told" | while read -r pid; do
    [ "$(ps -o comm= -p "$pid")" != mttrain ] || echo "$pid"
done | tail -n 1)
kill -USR1 "$told"
wait "$job_pid"
equal "one rank told to stop: all leave with 75" "75 75 75" "$(cat rc.0 rc.1 rc.2 | xargs)"
until_done runs/one-told 2 job.cfg
same_run "one rank told to stop" runs/one-told

# kill -9 of one rank, saving at every step so that it often dies within a save.
dir=runs/killed
for round in 1 2 3; do
    before=$(last_step "$dir")
    LD_PRELOAD=$slow SLOW_STEP_US=20000 \
        launch $((round % 3 + 1)) job.cfg --set "run_dir=$dir" --set 'train.save_every="1st"'
    wait_step "$dir" $((${before:-0} + RANDOM % 12 + 2))
    victim=$(pgrep -P "$mpirun_pid" | tail -n 1)
    kill -9 "$victim"
    wait "$job_pid"
    equal "kill $round of a rank: mpirun's exit code" 137 "$?"
done
until_done "$dir" 4 job.cfg
same_run "three times kill -9" "$dir"

# Resumed right at each transition and one step to either side: a save there holds the new phase.
ends=$(grep '"action":"end"' runs/whole/metrics.jsonl | grep -o '"step":[0-9]*' | cut -d : -f 2 | head -n 2)
launch 2 job.cfg --set run_dir=runs/saved --set 'train.save_every="1st"' --set train.keep_last=500
wait_step runs/saved $(($(echo "$ends" | tail -n 1) + 4))
kill -USR1 "$mpirun_pid"
wait "$job_pid"
for at in $ends; do
    for near in $((at - 1)) "$at" $((at + 1)); do
        dir=runs/from-$near
        mkdir -p "$dir/checkpoints"
        cp runs/saved/metrics.jsonl "$dir"
        for c in runs/saved/checkpoints/*; do
            case $c in
            */step-*) [ "$((10#${c##*step-}))" -gt "$near" ] || cp -r "$c" "$dir/checkpoints" ;;
            */base) cp -r "$c" "$dir/checkpoints" ;;
            esac
        done
        until_done "$dir" 3 job.cfg
        same_run "resumed at step $near, phase ends at $at" "$dir"
    done
done

# A damaged newest checkpoint is passed over with a message.
dir=runs/damaged
launch 2 job.cfg --set "run_dir=$dir" --set 'train.save_every="5st"' --set train.keep_last=3
wait_step "$dir" $((steps / 2))
kill -USR1 "$mpirun_pid"
wait "$job_pid"
newest=$(ls -d "$dir"/checkpoints/step-* | tail -n 1)
size=$(stat -c %s "$newest/state.h5")
byte=$(od -An -tu1 -j $((size / 2)) -N 1 "$newest/state.h5" | tr -d ' ')
printf "\\x$(printf %02x $((byte ^ 1)))" |
    dd of="$newest/state.h5" bs=1 seek=$((size / 2)) conv=notrunc status=none
until_done "$dir" 3 job.cfg
contains "a damaged checkpoint is named" out "$(basename "$newest").*(damage|hash|differ)"
same_run "newest checkpoint damaged" "$dir"

# --resume never refuses to mix two runs; a changed key that alters the result needs a word.
rc=0
ranks 2 job.cfg --resume never --set run_dir=runs/damaged || rc=$?
equal "--resume never in a used run_dir: exit code" 2 "$rc"
contains "... says what to do" out 'run_dir'
rc=0
ranks 2 job.cfg --set run_dir=runs/damaged --set optimizer.lr=0.5 || rc=$?
equal "a changed rate at a resume: exit code" 2 "$rc"
contains "... names the key and both values" out 'optimizer\.lr was .*0\.001.* is .*0\.5.*--accept-changes'
finish

#!/usr/bin/env bash
# kill -9 of a random rank, or of all, at random instants of one training run, resumed each time at a
# random rank count, with the optimizer state whole or shared out (then each rank writes a part of a save):
# the run ends in the bits of the one that was left alone, and a checkpoint that was there is never
# gone before a newer one is. KILLS=200 EPOCHS=1500 for the long version, in one run.
E2E_QUICK_DISK=yes # thousands of checkpoints that are forced to disk
. "$(dirname "$0")/e2e_tools.sh"

kills=${KILLS:-15}
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/whole "${EPOCHS:-$((kills * 3 + 6))}.0"
sed -i 's/eval_every = "1ep"/eval_every = "5ep"/; s/hidden_size = 32/hidden_size = 16/; s/intermediate_size = 64/intermediate_size = 32/' job.cfg
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)
steps=$(grep -c '"event":"step"' runs/whole/metrics.jsonl)
echo "the whole run: $steps steps, $expected; $kills kills to come"

dir=runs/killed
newest() { # newest=step of the newest checkpoint, -1 where there is none; no process is started
    local name
    newest=-1
    for name in "$dir"/checkpoints/step-*[0-9]; do
        [ ! -d "$name" ] || [ $((10#${name##*step-})) -le "$newest" ] || newest=$((10#${name##*step-}))
    done
}

counts=(1 2 3 4 8)
done_kills=0 starts=0 lost=0 whole_jobs=0 in_save=0 in_parts=0 before=-1
while [ "$done_kills" -lt "$kills" ] && [ "$starts" -lt $((kills * 10)) ]; do
    starts=$((starts + 1))
    np=${counts[RANDOM % 5]}
    shard=true
    [ $((RANDOM % 2)) -eq 0 ] || shard=false
    timeout -k 5 "$limit_s" mpirun -np "$np" "$MTTRAIN" job.cfg -q --set "run_dir=$dir" \
        --set 'train.save_every="2st"' --set "optimizer.shard=$shard" </dev/null >launch.out 2>&1 &
    job_pid=$!
    mpirun_pid=
    while [ -z "$mpirun_pid" ] && kill -0 "$job_pid" 2>/dev/null; do
        mpirun_pid=$(pgrep -P "$job_pid" -x mpirun)
    done
    # Mostly within the training, now and then within the start.
    if [ $((RANDOM % 6)) -ne 0 ]; then
        while newest && [ "$newest" -le "$before" ] && kill -0 "$job_pid" 2>/dev/null; do sleep 0.01; done
    fi
    sleep "0.$(printf %03d $((RANDOM % 150)))"
    ranks_now=()
    while [ ${#ranks_now[@]} -eq 0 ] && kill -0 "$job_pid" 2>/dev/null; do
        mapfile -t ranks_now < <(pgrep -P "$mpirun_pid" -f "$MTTRAIN")
    done
    if [ ${#ranks_now[@]} -gt 0 ]; then
        compgen -G "$dir/checkpoints/*.tmp" >/dev/null && in_save=$((in_save + 1))
        compgen -G "$dir/checkpoints/*.tmp/moments-*" >/dev/null && in_parts=$((in_parts + 1))
        if [ $((RANDOM % 4)) -eq 0 ]; then
            kill -9 "${ranks_now[@]}" 2>/dev/null && done_kills=$((done_kills + 1))
            whole_jobs=$((whole_jobs + 1))
        else
            kill -9 "${ranks_now[RANDOM % ${#ranks_now[@]}]}" 2>/dev/null && done_kills=$((done_kills + 1))
        fi
    fi
    wait "$job_pid"
    rc=$?
    newest
    if [ "$newest" -lt "$before" ]; then
        lost=$((lost + 1))
        fail "kill $done_kills: newest checkpoint was step $before and is step $newest"
    fi
    before=$newest
    [ "$rc" -ne 124 ] || fail "start $starts hung"
    ! grep -q 'checkpoint skipped' launch.out || fail "start $starts: $(grep 'checkpoint skipped' launch.out)"
    if grep -q '"event":"done"' "$dir/metrics.jsonl" 2>/dev/null && [ "$done_kills" -lt "$kills" ]; then
        # Done too soon: the rest of the kills falls on a second run.
        equal "a run of $starts starts ends in the expected bits" "$expected" "$(hash_of $dir)"
        rm -rf "$dir"
        before=-1
    fi
done
equal "kills made" "$kills" "$done_kills"
echo "$starts starts, $whole_jobs kills of all ranks, $in_save while a save was under way ($in_parts with parts), $lost checkpoints lost"
must 4 job.cfg -q --set "run_dir=$dir"
equal "after $done_kills kills: the bits of the run left alone" "$expected" "$(hash_of $dir)"
story() { # every number of the training, without those of the clock
    grep -E '"event":"(step|eval)"' "$1/metrics.jsonl" |
        grep -oE '"(event|step|phase|epoch|loss|lr|grad_norm|split|task|accuracy|confusion)":[^,}]*'
}
if diff <(story runs/whole) <(story $dir) >diff.out; then
    ok "every step and evaluation told once, with the same numbers"
else
    fail "another story: $(cut -c 1-200 diff.out | head -n 6)"
fi
equal "done once" 1 "$(grep -c '"event":"done"' $dir/metrics.jsonl)"
equal "nothing half-written is left" "" "$(find $dir -name '*.tmp*')"
finish

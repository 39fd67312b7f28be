#!/usr/bin/env bash
# A real SLURM cluster of four hosts on this machine: a job that is preempted twice, hits its time
# limit once and goes on with two hosts for four ends in the bits of one rank left alone, by srun and
# by mpirun; so does one that loses a host in the middle, and each element of a job array. Starts without
# progress have an end.
#
# The links are slow, so that a tiny job lasts; for a while one of them delays and drops packets.
. "$(dirname "$0")/../e2e/e2e_tools.sh"
here=$(cd "$(dirname "$0")" && pwd)

skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(id -u)" -eq 0 ] || skip "needs root"
for tool in slurmctld slurmd sbatch srun munged ip tc nsenter mpirun; do
    command -v "$tool" >/dev/null || skip "$tool absent (slurmctld slurmd slurm-client munge iproute2)"
done
ls /usr/lib/*/slurm*/mpi_pmix.so >/dev/null 2>&1 || skip "SLURM's PMIx plugin absent"
unshare --net --mount --uts true 2>/dev/null || skip "no right to make namespaces"
ip link add mtprobe type bridge 2>/dev/null || skip "no right to make bridges"
ip link del mtprobe
ip link show mtbridge >/dev/null 2>&1 && skip "another cluster is up"

# Every host has a /tmp of its own, so what they share lies elsewhere.
rm -rf "$work"
work=$(mktemp -d /var/tmp/mttrain-slurm-XXXXXX) || exit 1
clean_up() {
    trap '' INT TERM
    [ -z "${SLURM_CONF-}" ] || scancel -u root 2>/dev/null
    bash "$here/cluster_down.sh" "$work/cluster"
    [ "$failures" -eq 0 ] || {
        tail -n 40 "$work"/*.log
        tail -n 15 "$work"/cluster/log/slurmctld.log
    }
    rm -rf "$work"
}
trap 'exit 1' INT TERM
cd "$work" || exit 1

cp "$MTTRAIN" mttrain
MTTRAIN=$work/mttrain
export MTTRAIN
make_corpora .
cp "$vocab" vocab.txt
cat >job.cfg <<END
name = "slow"; run_dir = "runs/whole"; seed = 7;
model = { init = "random"; vocab = "vocab.txt"; max_tokens = 32;
  config = { hidden_size = 32; num_hidden_layers = 2; num_attention_heads = 2;
             intermediate_size = 64; max_position_embeddings = 32; }; };
data = ( { name = "kinds"; train = [ "kinds.tsv" ]; dev = [ "kinds-dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "kinds"; labels = [ "personal", "fact", "app" ]; } );
batch = { sentences = 16; lanes = 8; };
train = { epochs = 150.0; eval_every = "5ep"; save_every = "5min"; log_every = "1st"; };
optimizer = { lr = 1e-3; };
phases = ( { name = "heads"; until = "0.05run"; train = [ "heads.*" ]; lr = 5e-3; },
           { name = "all"; until = "1.0run"; train = [ "*" ]; } );
END
alone job.cfg -q || fail "one rank alone: $(tail -n 5 out)"
expected=$(hash_of runs/whole)
echo "one rank alone: $expected"

bash "$here/cluster_up.sh" "$work/cluster" 4 2 || {
    tail -n 20 "$work"/cluster/log/start.log "$work"/cluster/log/slurmctld.log
    skip "a cluster does not come up here"
}
export SLURM_CONF=$work/cluster/slurm.conf
ok "four hosts are up: $(sinfo -h -o '%D %T' | head -n 1)"

links() { # links RATE: of every host, both ways; empty = as fast as they are
    local i
    for i in 1 2 3 4; do
        tc qdisc del dev "vmth$i" root 2>/dev/null
        tc -n "mth$i" qdisc del dev eth0 root 2>/dev/null
        [ -n "$1" ] || continue
        tc qdisc add dev "vmth$i" root tbf rate "$1" burst 32kbit latency 400ms
        tc -n "mth$i" qdisc add dev eth0 root tbf rate "$1" burst 32kbit latency 400ms
    done
}

# submit NAME [OPTIONS OF SBATCH]: the job into runs/NAME; its id is the answer.
submit() {
    local name=$1
    shift
    sbatch --parsable --job-name="$name" --output="$name.log" --cpus-per-task=1 "$@" \
        "$MT_SOURCE_DIR/jobs/train.sbatch" job.cfg -q --set "run_dir=runs/$name"
}
state_of() { scontrol --oneliner show job "$1" | grep -o ' JobState=[A-Z]*' | cut -d = -f 2; }
hosts_of() { scontrol --oneliner show job "$1" | grep -o ' NumNodes=[0-9]*' | cut -d = -f 2; }
events() { # events NAME KIND: how many its run has told
    local n
    n=$(grep -c "\"event\":\"$2\"" "runs/$1/metrics.jsonl" 2>/dev/null)
    echo "${n:-0}"
}
steps_of() { grep -o '"event":"step".*"step":[0-9]*' "runs/$1/metrics.jsonl" 2>/dev/null | grep -o '[0-9]*$'; }

until_true() { # until_true SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.3
    done
}
both_trained() { # past start N of both, in which a step has been done
    local name at
    for name in by-srun by-mpirun; do
        [ "$(events $name start)" -ge "$1" ] || return 1
        at=$(grep -n '"event":"start"' "runs/$name/metrics.jsonl" 2>/dev/null | tail -n 1 | cut -d : -f 1)
        tail -n "+$at" "runs/$name/metrics.jsonl" | grep -q '"event":"step"' || return 1
    done
}
both_stopped() { [ "$(events by-srun stop)" -ge "$1" ] && [ "$(events by-mpirun stop)" -ge "$1" ]; }
all_ended() {
    local id
    for id in "$@"; do
        [ "$(state_of "$id")" = COMPLETED ] || return 1
    done
}

export MPIRUN_OPTIONS="--bind-to none" OMPI_MCA_odls_base_sigkill_timeout=2
links 40mbit
by_srun=$(submit by-srun --nodes=2-4 --time=1)
by_mpirun=$(LAUNCHER=mpirun submit by-mpirun --nodes=2-4 --time=1)
holds "both jobs train" until_true 40 both_trained 1
equal "... on four hosts" "4 4" "$(hosts_of "$by_srun") $(hosts_of "$by_mpirun")"

# A late and lossy network: the link of one host delays and drops packets, and is gone for a moment;
# TCP sends again what was lost. Without netem in the kernel a queue of a few packets drops the rest.
spoil() {
    tc qdisc del dev vmth2 root 2>/dev/null
    tc qdisc add dev vmth2 root netem rate 40mbit delay 20ms 5ms loss 2% 2>/dev/null ||
        tc qdisc add dev vmth2 root tbf rate 10mbit burst 4kb limit 5kb
}
spoil
told=$(events by-srun step)
sleep 2
ip link set vmth3 down && sleep 0.7 && ip link set vmth3 up
goes_on() { [ "$(events by-srun step)" -gt "$((told + 2))" ]; }
holds "both train on over a link that delays and drops" until_true 20 goes_on
echo "    $(tc -s qdisc show dev vmth2 | tr '\n' ' ' | grep -oE '(netem|tbf).*dropped [0-9]+')"
links 40mbit

for round in 1 2; do
    # The second time a third job waits, which will take two of the four hosts for itself.
    [ "$round" = 1 ] ||
        lost=$(submit loses-a-host --nodes=1-2 --nodelist=mth3 --exclude=mth1,mth2 --exclusive \
            --time=5 --priority=4294967000)
    sbatch --partition=high --nodes=4 --exclusive --output=/dev/null --wrap 'sleep 0.5' >/dev/null
    holds "preemption $round: both jobs save and leave" until_true 30 both_stopped "$round"
    [ "$round" = 1 ] || break
    holds "preemption $round: both jobs go on" until_true 60 both_trained $((round + 1))
done
holds "after preemption 2 both jobs go on" until_true 60 both_trained 3
equal "... on the two hosts that are left" "2 2" "$(hosts_of "$by_srun") $(hosts_of "$by_mpirun")"

# The job on the other two loses one of them.
is_training() { [ "$(events loses-a-host step)" -ge "$1" ]; }
holds "a third job trains on two hosts" until_true 30 is_training 20
equal "... of its own" 2 "$(hosts_of "$lost")"
ip -n mth4 link set eth0 down
ok "one of them is cut off at step $(steps_of loses-a-host | tail -n 1)"

holds "the time limit: both jobs save and leave" until_true 60 both_stopped 3
links ""
holds "all three jobs end" until_true 90 all_ended "$by_srun" "$by_mpirun" "$lost"

for name in by-srun by-mpirun loses-a-host; do
    equal "$name: the bits of one rank alone" "$expected" "$(hash_of "runs/$name")"
    equal "$name: done once" 1 "$(events "$name" 'done')"
    holds "$name: every step told once" [ -z "$(steps_of "$name" | sort | uniq -d)" ]
done
for name in by-srun by-mpirun; do
    contains "$name: its log tells four starts" $name.log ', start 4 on'
    equal "$name: preempted twice, then out of time" "signal signal time" \
        "$(grep '"event":"stop"' runs/$name/metrics.jsonl | grep -o '"reason":"[a-z]*' | cut -d '"' -f 4 | xargs)"
    # No work is repeated: each start goes on at the step where the one before stopped.
    stops=$(grep '"event":"stop"' runs/$name/metrics.jsonl | grep -o '"step":[0-9]*' | cut -d : -f 2 | xargs)
    starts=$(grep -o 'newest checkpoint: step [0-9]*' $name.log | grep -o '[0-9]*$' | xargs)
    equal "$name: each start begins where the last stopped" "$stops" "$starts"
done
contains "the third job was started again" loses-a-host.log ', start 2 on'

# The examples of job arrays: an element a seed, an element a schedule.
cp -r "$MT_SOURCE_DIR/jobs" "$MT_SOURCE_DIR/schedules" . # where all hosts see them
short=(-q --set train.epochs=5.0)
sed 's/^phases = .*/@include "schedules\/staged.cfg"/; /^ *{ name = "all"/d
    s/epochs = 150.0/epochs = 5.0/; s/runs.whole/runs\/many/' job.cfg >many.cfg
for seed in 1 2; do
    alone job.cfg "${short[@]}" --set seed=$seed --set run_dir=runs/alone-$seed || fail "seed $seed alone: $(tail -n 3 out)"
done
for schedule in heads-only full; do
    alone many.cfg -q --schedule "$schedule" --set run_dir=runs/alone-$schedule ||
        fail "schedule $schedule alone: $(tail -n 3 out)"
done
seeds=$(sbatch --parsable --array=1-2 --cpus-per-task=1 --time=2 --output=seeds-%a.log \
    jobs/array.sbatch job.cfg "${short[@]}" --set run_dir=runs/seeds)
schedules=$(sbatch --parsable --array=0-1 --cpus-per-task=1 --time=2 --output=schedules-%a.log \
    jobs/schedules.sbatch many.cfg heads-only full)

# A start that makes no progress is not repeated for ever: one that stops at the same step again and
# again, and one that never makes a checkpoint.
cat >stuck.sh <<'END'
#!/bin/sh
[ "$1" != check ] || exec "$REAL" "$@"
[ ! -e stuck.begun ] || exit 75
touch stuck.begun
SLURM_JOB_END_TIME=$(($(date +%s) + 22)) exec "$REAL" "$@" --set train.epochs=100000.0
END
printf '#!/bin/sh\n[ "$1" != check ] || exec "%s" "$@"\nexit 75\n' "$work/mttrain" >never.sh
chmod +x stuck.sh never.sh
stuck=$(REAL=$work/mttrain MTTRAIN=$work/stuck.sh TRIES=2 \
    submit stuck --nodes=1 --time=1)
never=$(MTTRAIN=$work/never.sh TRIES=1 submit never --nodes=1 --time=1)
completed() { # completed COUNT JOB: that many elements
    [ "$(scontrol --oneliner show job "$2" | grep -c ' JobState=COMPLETED')" -eq "$1" ]
}
has_failed() { [ "$(state_of "$1")" = FAILED ]; }
holds "array.sbatch: both seeds are done" until_true 40 completed 2 "$seeds"
holds "schedules.sbatch: both schedules are done" until_true 40 completed 2 "$schedules"
for seed in 1 2; do
    equal "... seed $seed: the bits of the job alone" "$(hash_of runs/alone-$seed)" "$(hash_of runs/seeds/seed-$seed)"
done
for schedule in heads-only full; do
    equal "... $schedule: the bits of the job alone" "$(hash_of runs/alone-$schedule)" \
        "$(hash_of "runs/many/$schedule")"
done
holds "a job without progress is given up" until_true 40 has_failed "$never"
contains "... and says so" never.log 'made no checkpoint after step -1: given up'
holds "so is one that stops at the same step again and again" until_true 60 has_failed "$stuck"
at=$(steps_of stuck | tail -n 1)
contains "... it had come to a step" <(echo "$at") '^[1-9]'
contains "... and says at which" stuck.log "2 starts in a row made no checkpoint after step $at: given up, not put back"
equal "... after that start and two more" 3 "$(grep -c 'newest checkpoint: step' stuck.log)"
finish

#!/usr/bin/env bash
# A run's folder belongs to one run at a time: a second one leaves, saying who is there, and harms nothing;
# one that was killed keeps nobody out, on file systems without locks neither.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_slow
make_corpora .
make_job job.cfg runs/whole 60.0
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)
holds "a run that is over leaves no lock" [ ! -e runs/whole/lock ]

# launch OUT COMMAND...: in the background, with $job_pid.
launch() {
    local out=$1
    shift
    timeout -k 10 "$limit_s" "$@" </dev/null >"$out" 2>&1 &
    job_pid=$!
}
holder_of() { cut -d ' ' -f 2 "$1/lock"; }
endless="--set train.epochs=100000.0"

# A second start beside one that works.
touch hold
LD_PRELOAD=$slow SLOW_FROM=6 STEP_HOLD=$work/hold \
    launch first.out mpirun -np 2 "$MTTRAIN" job.cfg -q --set run_dir=runs/two --set 'train.save_every="5st"'
# What inspect and ctl look at.
until [ -e runs/two/checkpoints/latest ] && [ -e runs/two/status.json ] || ! kill -0 "$job_pid" 2>/dev/null; do sleep 0.01; done
kill -STOP "$(holder_of runs/two)" # so that it is still there, however fast
pid=$(holder_of runs/two)
rm hold
rc=0
ranks 2 job.cfg -q --set run_dir=runs/two || rc=$?
equal "a second start: exit code" 2 "$rc"
contains "... waits a while" out 'waiting up to 5 s for it to end'
contains "... says who is there, since when, and what to do" out \
    "in use by another run: process $pid on $(hostname), since [0-9-]+T[0-9:]+Z; .*mttrain ctl .* stop.*--set run_dir="
alone ctl runs/two status || fail "ctl status: $(cat out)"
contains "status is there for all" out "process $pid"
holds "so is inspect" alone inspect runs/two
kill -CONT "$pid"
rc=0
wait "$job_pid" || rc=$?
equal "the first goes on: exit code" 0 "$rc"
equal "... to the same bits" "$expected" "$(hash_of runs/two)"
equal "... and told its story alone" 1 "$(grep -c '"event":"start"' runs/two/metrics.jsonl)"

# Both at the same instant: one trains, the other leaves.
launch a.out "$MTTRAIN" job.cfg -q $endless --set run_dir=runs/race
a=$job_pid
launch b.out "$MTTRAIN" job.cfg -q $endless --set run_dir=runs/race
b=$job_pid
rc=0
wait -n "$a" "$b" || rc=$?
equal "two starts at one instant: one leaves with" 2 "$rc"
alone ctl runs/race stop || fail "ctl stop: $(cat out)"
rc=0
kill -0 "$a" 2>/dev/null || a=$b # the other one
wait "$a" || rc=$?
equal "... and the other trained until it was stopped" 75 "$rc"
contains "... the one that left says so" <(cat a.out b.out) 'in use by another run'

# The old one is about to leave: the new one waits for it and goes on.
LD_PRELOAD=$slow SLOW_FROM=3 SLOW_STEP_US=200000 launch first.out "$MTTRAIN" job.cfg -q --set run_dir=runs/handed
old=$job_pid
wait_steps runs/handed 3
kill -STOP "$old" "$(holder_of runs/handed)" # timeout's child is the holder
kill -USR1 "$(holder_of runs/handed)"
: >out
(until grep -qs 'in use by' out || [ ! -e out ]; do sleep 0.1; done && kill -CONT "$(holder_of runs/handed)" "$old") &
# One that was put back by SLURM has the patience for any disk.
SLURM_JOB_ID=1 SLURM_RESTART_COUNT=1 must 3 job.cfg -q --set run_dir=runs/handed
contains "a start beside one that leaves waits" out 'in use by .* waiting up to 90 s'
rc=0
wait "$old" || rc=$?
equal "... the one that leaves saves: exit code" 75 "$rc"
equal "... and the new one ends in the same bits" "$expected" "$(hash_of runs/handed)"

# A stop ends the waiting.
launch first.out "$MTTRAIN" job.cfg -q $endless --set run_dir=runs/wait
first=$job_pid
wait_steps runs/wait 1
launch second.out env SLURM_JOB_ID=1 SLURM_RESTART_COUNT=1 "$MTTRAIN" job.cfg -q --set run_dir=runs/wait
second=$job_pid
until grep -q 'waiting up to 90 s' second.out || ! kill -0 "$second" 2>/dev/null; do sleep 0.05; done
contains "one that SLURM put back waits longer" second.out 'waiting up to 90 s'
kill -USR1 "$(pgrep -P "$second")"
rc=0
wait "$second" || rc=$?
equal "a stop while waiting: exit code" 75 "$rc"

alone ctl runs/wait stop || fail "ctl stop: $(cat out)"
wait "$first"

# kill -9 leaves the record and no lock: the next start does not even ask.
LD_PRELOAD=$slow SLOW_FROM=3 SLOW_STEP_US=200000 launch first.out "$MTTRAIN" job.cfg -q --set run_dir=runs/killed
first=$job_pid
wait_steps runs/killed 3
kill -KILL "$(pgrep -P "$first")"
wait "$first" 2>/dev/null
holds "kill -9 leaves a record" [ -s runs/killed/lock ]
must 2 job.cfg -q --set run_dir=runs/killed
holds "... which keeps nobody out" [ -z "$(grep -E 'in use|signs of life' out)" ]
equal "... and the run ends in the same bits" "$expected" "$(hash_of runs/killed)"

# The record of another host, which this kernel knows no lock of: signs of life decide.
mkdir -p runs/far
echo "elsewhere 4711 2026-01-01T00:00:00Z" >runs/far/lock
(while [ -e runs/far/lock ]; do date +%N >runs/far/status.json && sleep 0.5; done) &
alive=$!
rc=0
ranks 2 job.cfg -q --set run_dir=runs/far || rc=$?
equal "another host's run that lives: exit code" 2 "$rc"
contains "... is named" out 'in use by another run: process 4711 on elsewhere, since 2026-01-01'
kill "$alive"
wait "$alive" 2>/dev/null
[ -e runs/far/lock ] || fail "the other host's lock was removed"
must 2 job.cfg -q --set run_dir=runs/far
contains "another host's run that is dead is looked for" out 'not given back by process 4711 on elsewhere.*signs of life'
equal "... and the run ends in the same bits" "$expected" "$(hash_of runs/far)"

# A file system without locks.
cat >nolocks.c <<'END_OF_SOURCE'
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
int fcntl64(int fd, int command, ...)
{
    va_list more;
    va_start(more, command);
    long argument = va_arg(more, long);
    va_end(more);
    if (command == 37) { /* F_OFD_SETLK */
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}
int fcntl(int fd, int command, ...) __attribute__((alias("fcntl64")));
END_OF_SOURCE
if cc -shared -fPIC nolocks.c -o nolocks.so; then
    launch first.out env LD_PRELOAD="$work/nolocks.so" "$MTTRAIN" job.cfg -q $endless \
        --set run_dir=runs/nolocks --set 'train.save_every="100st"'
    first=$job_pid
    wait_steps runs/nolocks 3
    contains "without locks: a warning" first.out 'keeps no locks: see to it that only one run'
    rc=0
    LD_PRELOAD=$work/nolocks.so alone job.cfg -q --set run_dir=runs/nolocks || rc=$?
    equal "without locks: a second start beside one that lives: exit code" 2 "$rc"
    echo "elsewhere 4711 2026-01-01T00:00:00Z" >runs/nolocks/lock
    rc=0
    wait "$first" || rc=$?
    equal "a run whose folder another one has taken leaves at its next save: exit code" 4 "$rc"
    contains "... and says to whom" first.out 'was taken by process 4711 on elsewhere'
    equal "... whose lock it leaves" elsewhere "$(cut -d ' ' -f 1 runs/nolocks/lock)"
else
    echo "skipped: a file system without locks (no C compiler)"
fi
finish

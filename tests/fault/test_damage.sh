#!/usr/bin/env bash
# Flipped bits and cut ends in every kind of file that a run leaves, a disk that fills up, a clock that jumps,
# a rank that freezes, a rank with another job: never a crash or a hang; either the message says what
# is wrong, or the run goes on and ends in the bits that it would have had anyway.
# DAMAGE=30 for more faults in each kind of file (default 1 flip and 1 cut, in a file drawn at random).
E2E_QUICK_DISK=yes # hundreds of runs that force their files to disk
. "$(dirname "$0")/../e2e/e2e_tools.sh"

each=${DAMAGE:-1}
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/whole 6.0
sed -i 's/hidden_size = 32/hidden_size = 16/; s/intermediate_size = 64/intermediate_size = 32/' job.cfg
alone job.cfg -q || { fail "the whole run: $(cat out)"; finish; }
expected=$(hash_of runs/whole)
steps=$(grep -c '"event":"step"' runs/whole/metrics.jsonl)

# What remains of a run that was killed: older checkpoints, some of them in parts, a cache, events.
ranks 2 job.cfg -q --set run_dir=runs/part --set 'train.save_every="6st"' --set train.keep_last=100 \
    --set optimizer.shard=true
rm -rf runs/part/model runs/part/report.html runs/part/checkpoints/latest
for c in runs/part/checkpoints/step-*; do
    [ $((10#${c##*step-})) -le $((steps * 3 / 5)) ] || rm -rf "$c"
done
ls runs/part/checkpoints/step-*/moments-* >/dev/null || fail "no checkpoint is left to damage"

random() { echo $(((RANDOM << 15 | RANDOM) % $1)); }
harm() { # harm FILE KIND
    local size at byte
    size=$(stat -c %s "$1")
    [ "$size" -gt 0 ] || return 0
    case $2 in
    flip)
        at=$(random "$size")
        byte=$(od -An -tu1 -j "$at" -N 1 "$1" | tr -d ' ')
        printf "\\x$(printf %02x $((byte ^ 1 << RANDOM % 8)))" |
            dd of="$1" bs=1 seek="$at" conv=notrunc status=none
        ;;
    cut) truncate -s "$(random "$size")" "$1" ;;
    esac
}

# judge KIND WHAT RC [RUN]: a crash, a hang, a silent failure or other bits are failures.
declare -A seen=()
judge() {
    local kind=$1 what=$2 rc=$3 hash
    case $rc in
    0)
        if [ -n "$4" ]; then
            hash=$(hash_of "$4")
            if [ "$hash" != "$expected" ]; then
                fail "$what: ended well, but in other bits ($hash)"
                return
            fi
        fi
        seen["$kind: went on, same result"]=$((${seen["$kind: went on, same result"]:-0} + 1))
        ;;
    2 | 3 | 4)
        if ! grep -q 'error: .\{20\}' out; then
            fail "$what: ended with $rc and no message: $(tail -n 3 out)"
            return
        fi
        seen["$kind: refused with a message"]=$((${seen["$kind: refused with a message"]:-0} + 1))
        ;;
    *)
        fail "$what: ended with $rc: $(tail -n 5 out)"
        cp out "crash-$kind"
        ;;
    esac
}

files_of() { (cd "$1" && find . -type f -size +0 ! -name log.txt ! -name report.html | sort); }
kind_of() {
    case $1 in
    */shard-*) echo "shard" ;;
    */shards/*) echo "shard manifest" ;;
    */state.h5) echo "checkpoint state.h5" ;;
    */moments-*) echo "checkpoint parts" ;;
    */base/*.h5) echo "shared tensors" ;;
    */base/*) echo "shared tensors' manifest" ;;
    */checkpoints/*/manifest.json) echo "checkpoint manifest" ;;
    */checkpoints/*) echo "checkpoint texts" ;;
    */cache/*) echo "prefix cache" ;;
    *) basename "$1" ;;
    esac
}

total=0
declare -A of_kind=()
while read -r file; do of_kind["$(kind_of "$file")"]+="$file "; done < <(files_of runs/part)
for kind in "${!of_kind[@]}"; do
    read -ra files <<<"${of_kind[$kind]}"
    for ((i = 0; i < each; i++)); do
        for how in flip cut; do
            file=${files[RANDOM % ${#files[@]}]}
            rm -rf runs/harmed
            cp -a runs/part runs/harmed
            harm "runs/harmed/$file" $how
            rc=0
            alone job.cfg -q --set run_dir=runs/harmed || rc=$?
            judge "$kind" "$how in $file" "$rc" runs/harmed
            total=$((total + 1))
        done
    done
done

# A finished model folder: its numbers have no hash, so another result is no fault there; a crash is.
while read -r file; do
    for ((i = 0; i < each; i++)); do
        for how in flip cut; do
            rm -rf model
            cp -a runs/whole/model model
            harm "model/$file" $how
            rc=0
            alone predict model kinds-dev.tsv || rc=$?
            judge "model folder" "$how in model/$file" "$rc" ""
            total=$((total + 1))
        done
    done
done < <(files_of runs/whole/model)

# The vocabulary and the tables that a job names.
for file in kinds.tsv moods-dev.tsv vocab.txt; do
    for ((i = 0; i < each; i++)); do
        for how in flip cut; do
            rm -rf harmed runs/harmed
            mkdir harmed
            cp ./*.tsv job.cfg harmed
            cp "$vocab" harmed/vocab.txt
            sed -i 's|vocab = "[^"]*"|vocab = "vocab.txt"|' harmed/job.cfg
            harm "harmed/$file" $how
            rc=0
            alone harmed/job.cfg -q --set train.epochs=1.0 --set "run_dir=$work/runs/harmed" || rc=$?
            judge "$file" "$how in $file" "$rc" ""
            total=$((total + 1))
        done
    done
done
for what in "${!seen[@]}"; do printf '    %4d  %s\n' "${seen[$what]}" "$what"; done | sort -k 2
if [ "$failures" -eq 0 ]; then ok "$total damaged files: no crash, no hang, no wrong result"; fi

# A disk that fills up in the middle and is freed again.
if [ "$(id -u)" -eq 0 ] && mkdir disk && mount -t tmpfs -o size=8m none disk 2>/dev/null; then
    mounted=$work/disk
    cp -a runs/part disk/run
    dd if=/dev/zero of=disk/ballast bs=64k status=none 2>/dev/null
    rc=0
    alone job.cfg -q --set run_dir=disk/run --set 'train.save_every="2st"' || rc=$?
    equal "full disk: exit code" 4 "$rc"
    contains "full disk: says so" out 'No space left'
    rm disk/ballast
    alone job.cfg -q --set run_dir=disk/run || fail "after the disk was freed: $(tail -n 3 out)"
    equal "full disk, then freed: the same bits" "$expected" "$(hash_of disk/run)"

    rm -rf disk/run
    cp -a runs/part disk/run
    mount -o remount,ro disk
    rc=0
    alone job.cfg -q --set run_dir=disk/run || rc=$?
    equal "read-only disk: exit code" 4 "$rc"
    contains "read-only disk: says so" out '[Rr]ead-only file system'
    mount -o remount,rw disk
    umount disk && mounted=
else
    echo "skipped: full and read-only disk (no tmpfs can be mounted here)"
fi

# One rank is given another job.
sed 's/seed = 7/seed = 8/' job.cfg >other.cfg
rc=0
timeout -k 10 "$limit_s" mpirun -np 2 "$MTTRAIN" job.cfg --set run_dir=runs/odd : \
    -np 1 "$MTTRAIN" other.cfg --set run_dir=runs/odd </dev/null >out 2>&1 || rc=$?
equal "one rank with another job: exit code" 2 "$rc"
contains "one rank with another job: says so" out 'error: .*(job|command).*(rank|differ)'

# The wall clock jumps a day ahead, then two days back, and again and again; the scheduler's limit is an hour away.
cat >jump.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long shift(void)
{
    static int calls; /* each event asks twice */
    static const long jumps[] = {0, 86400, -86400};
    return jumps[calls++ / 60 % 3];
}
int clock_gettime(clockid_t id, struct timespec *t)
{
    int (*real)(clockid_t, struct timespec *);
    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, t);
    if (id == CLOCK_REALTIME)
        t->tv_sec += shift();
    return rc;
}
int gettimeofday(struct timeval *t, void *zone)
{
    (void)zone;
    struct timespec s;
    int rc = clock_gettime(CLOCK_REALTIME, &s);
    t->tv_sec = s.tv_sec;
    t->tv_usec = s.tv_nsec / 1000;
    return rc;
}
time_t time(time_t *out)
{
    struct timespec s;
    (void)clock_gettime(CLOCK_REALTIME, &s);
    if (out)
        *out = s.tv_sec;
    return s.tv_sec;
}
END
if cc -shared -fPIC jump.c -o jump.so -ldl 2>/dev/null; then
    rc=0
    SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(($(date +%s) + 3600)) LD_PRELOAD=$work/jump.so \
        timeout "$limit_s" "$MTTRAIN" job.cfg -q --set run_dir=runs/jumps --set 'train.save_every="1s"' \
        </dev/null >out 2>&1 || rc=$?
    equal "clock jumps: exit code" 0 "$rc"
    equal "clock jumps: the same bits" "$expected" "$(hash_of runs/jumps)"
    holds "clock jumps: they did happen" [ "$(grep -o '"iso":"[0-9-]*' runs/jumps/metrics.jsonl | sort -u | wc -l)" -ge 2 ]
else
    echo "skipped: clock jumps (no C compiler)"
fi

# One rank stands still for a while, then goes on.
timeout -k 10 "$limit_s" mpirun -np 3 "$MTTRAIN" job.cfg -q --set run_dir=runs/frozen </dev/null >out 2>&1 &
job_pid=$!
rank=
for _ in $(seq 200); do
    rank=$(pgrep -f "$MTTRAIN job.cfg -q --set run_dir=runs/frozen" | while read -r pid; do
        [ "$(ps -o comm= -p "$pid")" != mttrain ] || echo "$pid"
    done | tail -n 1)
    [ -z "$rank" ] || break
    sleep 0.02
done
sleep 0.3
kill -STOP "$rank" 2>/dev/null && sleep 1.5 && kill -CONT "$rank" 2>/dev/null
rc=0
wait "$job_pid" || rc=$?
equal "a rank that freezes for a while: exit code" 0 "$rc"
equal "a rank that freezes for a while: the same bits" "$expected" "$(hash_of runs/frozen)"

# No time at all: whatever is under way is left at once, and nothing is broken.
rc=0
SLURM_JOB_ID=1 SLURM_JOB_END_TIME=$(date +%s) alone job.cfg -q --set run_dir=runs/late || rc=$?
equal "the time limit within the filling of a cache: exit code" 75 "$rc"
alone job.cfg -q --set run_dir=runs/late || fail "after the time limit: $(tail -n 3 out)"
equal "the time limit: the same bits afterwards" "$expected" "$(hash_of runs/late)"
finish

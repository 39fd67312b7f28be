#!/usr/bin/env bash
# A save in parts, broken on one rank: a call on the file that rank 1 writes fails, or the rank is killed
# before it, call after call. A failed call fails the save as a whole, on all ranks, and leaves nothing
# half-written; training then stops or goes on, as the job says. A killed rank costs at most the save that
# was under way. The same command afterwards, at any rank count, ends in the bits of the run left alone.
#
# FAULTS=all for every call of two saves (default 4 of each sort, drawn at random).
E2E_QUICK_DISK=yes # many runs that force their files to disk
. "$(dirname "$0")/../e2e/e2e_tools.sh"

if ! cc -shared -fPIC "$MT_SOURCE_DIR/tests/fault/preload.c" -o "$work/faults.so" -ldl; then
    echo "skipped: no C compiler"
    exit 77
fi
faults=${FAULTS:-4}
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/whole 4.0
sed -i 's/hidden_size = 32/hidden_size = 16/; s/intermediate_size = 64/intermediate_size = 32/' job.cfg
sed 's|runs/whole|runs/one|; s/save_every = "1h"/save_every = "8st"/; s/lr = 1e-3/lr = 1e-3; shard = true/' job.cfg >parts.cfg
must 1 job.cfg -q || finish
expected=$(hash_of runs/whole)

broken() { # broken VARIABLE=VALUE... -- ARGUMENTS: three ranks, of which rank 1 has its file broken
    local set=()
    while [ "$1" != -- ]; do set+=("$1") && shift; done
    rm -rf runs/one
    timeout -k 5 "$limit_s" mpirun -np 1 "$MTTRAIN" parts.cfg -q "${@:2}" : \
        -np 1 env "${set[@]}" BREAK_PATH=moments-00001 LD_PRELOAD="$work/faults.so" \
        "$MTTRAIN" parts.cfg -q "${@:2}" : \
        -np 1 "$MTTRAIN" parts.cfg -q "${@:2}" </dev/null >out 2>&1
}
newest() { find runs/one/checkpoints -maxdepth 1 -name 'step-*[0-9]' 2>/dev/null | sort | tail -n 1; }
go_on() { # go_on WHAT: the newest checkpoint is sound, and leads to the expected bits
    local np=$((RANDOM % 4 + 1)) dir hash
    dir=$(newest)
    [ -z "$dir" ] || alone inspect --verify "$dir" || fail "$1: $dir: $(tail -n 2 out)"
    must "$np" parts.cfg -q
    ! grep -q 'checkpoint skipped' out || fail "$1: $(grep 'checkpoint skipped' out)"
    hash=$(hash_of runs/one)
    [ "$hash" = "$expected" ] || fail "$1, then $np ranks: $hash for $expected"
    rest=$(find runs/one -name '*.tmp*')
    [ -z "$rest" ] || fail "$1: left $rest"
}

broken BREAK_COUNT="$work/count" -- || fail "the run that counts: $(tail -n 5 out)"
equal "a run that saves in parts: the same bits" "$expected" "$(hash_of runs/one)"
equal "its files" 3 "$(sed -n 's/.*"name": *"\(moments-[0-9]*.h5\)".*/\1/p' \
    "$(find runs/one/checkpoints -name manifest.json | sort | head -n 1)" | sort -u | wc -l)"
calls=$(stat -c %s count)
echo "$calls calls on the parts of rank 1; $expected"
[ "$calls" -gt 40 ] || fail "calls were not counted"

each() { # each FUNCTION: for drawn or all numbers of a call
    local i
    made=0
    for ((i = 1; i <= calls; i++)); do
        [ "$faults" = all ] || [ "$made" -lt "$faults" ] || break
        if [ "$faults" = all ]; then "$1" "$i"; else "$1" $((RANDOM % calls + 1)); fi
        made=$((made + 1))
    done
}
killed() {
    local rc=0
    broken BREAK_AT="$1" BREAK_KILLS=1 -- || rc=$?
    [ "$rc" -ne 0 ] && [ "$rc" -ne 124 ] || fail "killed before call $1: ended with $rc"
    go_on "killed before call $1"
}
stopped() {
    local rc=0
    broken BREAK_AT="$1" -- --set 'train.save_failure="stop"' || rc=$?
    [ "$rc" -eq 4 ] || fail "call $1 failed: ended with $rc: $(tail -n 3 out)"
    grep -q 'error: .*moments-00001' out || fail "call $1 failed: no message: $(tail -n 3 out)"
    ! grep -q 'HDF5-DIAG' out || fail "call $1 failed: the library talks, too"
    rest=$(find runs/one -name '*.tmp*')
    [ -z "$rest" ] || fail "call $1 failed: left $rest"
    go_on "call $1 failed"
}
warned() {
    local rc=0
    broken BREAK_AT="$1" -- --set 'train.save_failure="warn"' || rc=$?
    [ "$rc" -eq 0 ] || fail "call $1 failed, with warnings: ended with $rc: $(tail -n 3 out)"
    grep -q 'NOT saved.*moments-00001' out || fail "call $1 failed, with warnings: none: $(tail -n 3 out)"
    go_on "call $1 failed, with warnings"
}
each killed
[ "$failures" -ne 0 ] || ok "$made kills of a rank within its part: nothing lost, the same bits"
each stopped
[ "$failures" -ne 0 ] || ok "$made failed calls: each ended the run on all ranks and left nothing, the same bits"
each warned
[ "$failures" -ne 0 ] || ok "$made failed calls with train.save_failure = \"warn\": training went on, the same bits"
finish

#!/usr/bin/env bash
# The program is killed before every kind of call that changes names in its run folder, and started
# again: it ends in the bits of the run left alone, and nothing half-written is left.
#
# A kind: the call, and the path without its numbers and without what lies in a folder that is
# under way. POINTS=3 kills at the last three of each kind (default 1).
E2E_QUICK_DISK=yes # many runs that force their files to disk
. "$(dirname "$0")/../e2e/e2e_tools.sh"

if ! cc -shared -fPIC "$MT_SOURCE_DIR/tests/fault/preload.c" -o "$work/kill.so"; then
    echo "skipped: no C compiler"
    exit 77
fi
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/one 4.0
sed -i 's/hidden_size = 32/hidden_size = 16/; s/intermediate_size = 64/intermediate_size = 32/
    s/save_every = "1h"/save_every = "4st"/; s/lr = 1e-3/lr = 1e-3; clip = 1.0/' job.cfg
mkdir -p runs

run=$work/runs/one
preloaded() { # preloaded VARIABLE=VALUE...
    timeout -k 5 "$limit_s" env "$@" KILL_WITHIN="$run" LD_PRELOAD="$work/kill.so" \
        bash -c '"$MTTRAIN" job.cfg -q; exit $?' </dev/null >out 2>&1
}
preloaded KILL_LIST="$work/list" || fail "the run that lists its calls: $(tail -n 5 out)"
expected=$(hash_of "$run")
mapfile -t points < <(awk -v most="${POINTS:-1}" '
    { kind = $0; sub(/\.tmp[-0-9]*\/.*/, ".tmp/FILE", kind); gsub(/-[0-9a-f]{16}/, "-HASH", kind); gsub(/\/[0-9a-f]{16}/, "/HASH", kind)
      gsub(/[0-9]+/, "N", kind); at[kind] = at[kind] " " NR }
    END { for (kind in at) { n = split(at[kind], where, " ")
          for (i = (n > most ? n - most + 1 : 1); i <= n; i++) print where[i] } }' list | sort -n)
echo "$(wc -l <list) calls, ${#points[@]} points to be killed at; $expected"
[ "${#points[@]}" -ge 30 ] || fail "only ${#points[@]} kinds of calls were found"

half=0 left=0
for n in "${points[@]}"; do
    what="$n ($(sed -n "${n}p" list))"
    rm -rf "$run"
    rc=0
    preloaded KILL_AT="$n" || rc=$?
    # Threads take turns differently, so the last points may come after the end of a run.
    [ "$rc" -eq 137 ] || [ "$rc" -eq 0 ] || fail "kill before call $what: ended with $rc: $(tail -n 3 out)"
    [ -z "$(find "$run" -name '*.tmp*')" ] || half=$((half + 1))
    alone job.cfg -q || fail "resumed after a kill before call $what: $(tail -n 5 out)"
    hash=$(hash_of "$run")
    [ "$hash" = "$expected" ] || fail "kill before call $what: $hash for $expected"
    rest=$(find "$run" -name '*.tmp*')
    [ -z "$rest" ] || fail "left by a kill before call $what: $rest"
    [ -z "$rest" ] || left=$((left + 1))
done
[ "$failures" -ne 0 ] || ok "${#points[@]} kills, $half of them left something half-written: the same bits, nothing left"
holds "kills did leave something" [ "$half" -gt 5 ]
finish

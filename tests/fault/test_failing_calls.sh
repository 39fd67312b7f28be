#!/usr/bin/env bash
# One call of a whole run fails: of input and output (EIO) or for memory, drawn at random from all that
# the program makes. The run ends with a message or goes on, without a crash or a hang; the same command
# again ends in the bits of the run left alone, and nothing half-written is left.
#
# FAULTS=500 for more of each sort (default 12); FAULTS=all for every one, with STRIDE=20 for every 20th.
E2E_QUICK_DISK=yes # many runs that force their files to disk
. "$(dirname "$0")/../e2e/e2e_tools.sh"

if ! cc -shared -fPIC "$MT_SOURCE_DIR/tests/fault/preload.c" -o "$work/faults.so" -ldl; then
    echo "skipped: no C compiler"
    exit 77
fi
faults=${FAULTS:-12} stride=${STRIDE:-1}
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/one 4.0
sed -i 's/hidden_size = 32/hidden_size = 16/; s/intermediate_size = 64/intermediate_size = 32/
    s/save_every = "1h"/save_every = "8st"/' job.cfg

faulty() { # faulty VARIABLE=VALUE...
    rm -rf runs
    timeout -k 5 "$limit_s" env "$@" LD_PRELOAD="$work/faults.so" \
        bash -c '"$MTTRAIN" job.cfg -q; exit $?' </dev/null >out 2>&1
}
faulty FAIL_COUNT="$work/count" || fail "the run that counts its calls: $(tail -n 5 out)"
expected=$(hash_of runs/one)
read -r io memory <count
echo "$io calls of input and output, $memory for memory; $expected"
[ "$io" -gt 500 ] && [ "$memory" -gt 200 ] || fail "calls were not counted"

for kind in IO MEMORY; do
    most=$io went_on=0 ended=0 before=$failures
    [ $kind = IO ] || most=$memory
    n=$((RANDOM % stride + 1 - stride))
    for ((i = 0; ; i++)); do
        if [ "$faults" = all ]; then
            [ $((n += stride)) -le "$most" ] || break
        else
            [ "$i" -lt "$faults" ] || break
            n=$(((RANDOM << 15 | RANDOM) % most + 1))
        fi
        rc=0
        faulty FAIL_$kind=$n || rc=$?
        case $rc in
        0) went_on=$((went_on + 1)) ;;
        1 | 2 | 3 | 4)
            ended=$((ended + 1))
            grep -q 'error: .\{20\}' out || fail "$kind $n: ended with $rc and no message: $(tail -n 3 out)"
            ;;
        *) fail "$kind $n: ended with $rc: $(tail -n 5 out)" ;;
        esac
        cp out first.out
        alone job.cfg -q || fail "$kind $n (ended with $rc), started again: $(tail -n 5 out) $(tail -n 3 first.out)"
        hash=$(hash_of runs/one)
        [ "$hash" = "$expected" ] || fail "$kind $n (ended with $rc): $hash for $expected"
        rest=$(find runs -name '*.tmp*')
        [ -z "$rest" ] || fail "$kind $n (ended with $rc): left $rest"
    done
    told="$i failed calls ($kind): $ended runs ended with a message, $went_on went on; the same bits afterwards"
    if [ "$failures" -eq "$before" ]; then ok "$told"; else fail "$told, but for the above"; fi
done
finish

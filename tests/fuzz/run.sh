#!/usr/bin/env bash
# run.sh [--seconds N] [--jobs N] [--build DIR] [--corpus DIR] [TARGET...]: fuzzes the readers of
# strangers' files.
#
# Builds tests/fuzz/fuzz_TARGET.c with clang, libFuzzer and sanitizers (build/fuzz), runs each target
# for N seconds (default 10) beginning from seeds/TARGET and what earlier runs found (--corpus keeps
# it between runs), and prints one line a target: executions, coverage, findings. Exit code 1 = a
# finding, whose input lies in the build folder; 77 = no clang.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=10 jobs=1 build=$root/build/fuzz corpus=
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2 && shift ;;
    --jobs) jobs=$2 && shift ;;
    --build) build=$2 && shift ;;
    --corpus) corpus=$2 && shift ;;
    -h | --help)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) targets+=("$1") ;;
    esac
    shift
done

clang=$(command -v clang) || {
    echo "skipped: clang absent"
    exit 77
}
probe=$(mktemp -d) || exit 1
trap 'rm -rf "$probe"' EXIT
echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { return d == 0 && n == 1; }' >"$probe/p.c"
if ! "$clang" -fsanitize=fuzzer,address,undefined "$probe/p.c" -o "$probe/p" 2>/dev/null; then
    echo "skipped: $clang has no libFuzzer (Debian: libclang-rt-dev)"
    exit 77
fi

if [ ${#targets[@]} -eq 0 ]; then
    for source in "$root"/tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        [ "$name" = fuzz_file ] || targets+=("${name#fuzz_}")
    done
fi
cmake -S "$root" -B "$build" -DCMAKE_C_COMPILER="$clang" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -gline-tables-only" \
    -DMT_FUZZ=ON -DMT_NATIVE=OFF -DMT_WERROR=OFF --log-level=WARNING >/dev/null || exit 1
cmake --build "$build" --parallel "${FUZZ_BUILD_JOBS:-$(nproc)}" \
    --target "${targets[@]/#/fuzz_}" >"$build/build.log" 2>&1 || {
    tail -n 30 "$build/build.log"
    exit 1
}

export ASAN_OPTIONS=allocator_may_return_null=1
export LSAN_OPTIONS=suppressions=$root/tests/support/lsan.supp:print_suppressions=0
fuzz_one() {
    local name=$1 kept=${corpus:-$build/corpus}/$1 seeds=$root/tests/fuzz/seeds/$1 log=$build/$1.log
    local found=$build/found-$1 dictionary=()
    mkdir -p "$kept" "$found"
    [ -d "$seeds" ] || seeds=
    [ ! -f "$root/tests/fuzz/seeds/$name.dict" ] || dictionary=(-dict="$root/tests/fuzz/seeds/$name.dict")
    (cd "$found" && "$build/tests/fuzz/fuzz_$name" "$kept" ${seeds:+"$seeds"} "${dictionary[@]}" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1500 -malloc_limit_mb=1000 \
        -print_final_stats=1) >"$log" 2>&1
    local code=$?
    printf '%-14s %10s executions  coverage %5s  %s\n' "$name" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2)" \
        "$([ $code -eq 0 ] && echo "no findings" || echo "FOUND: $(grep -m 1 -E 'does not hold|ERROR|runtime error' "$log"); input in $found, log $log")"
    return $code
}

code=0 running=0
for name in "${targets[@]}"; do
    fuzz_one "$name" &
    running=$((running + 1))
    if [ "$running" -ge "$jobs" ]; then
        wait -n || code=1
        running=$((running - 1))
    fi
done
while [ "$running" -gt 0 ]; do
    wait -n || code=1
    running=$((running - 1))
done
exit $code

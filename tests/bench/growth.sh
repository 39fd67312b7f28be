#!/usr/bin/env bash
# growth.sh [--part steps|data]... [--model bert-base] [--steps 2] [--rows "10000 100000 1000000"]
#           [--dir DIR] [--out FILE.md]
#
# How the cost grows, as tables.
#   steps: tokens/s of `mttrain bench step` over batch size, sentence length, layers and ranks,
#          each with the other three as in 32 sentences of 128 tokens, 12 layers, 1 rank.
#   data:  packing, opening and drawing from sets of --rows sentences (up to 10000000, which takes
#          2 GB under --dir while it runs; removed at the end).
# A row a measurement, written as it is done. Not a test: wants an idle machine.
#
# MTTRAIN names the program, GROWTH_DATA the helper (build/release/tests/bench_growth_data), MT_VOCAB
# the vocabulary of the text, WRAP a command put before every measurement.
set -u
. "$(dirname "$0")/common.sh"
export OMPI_MCA_mpi_yield_when_idle=1
helper=${GROWTH_DATA:-$(dirname "$mttrain")/tests/bench_growth_data}
vocab=${MT_VOCAB:-$source_dir/jobs/quickstart/vocab.txt}
wrap=${WRAP:-}
parts=() model=bert-base steps=2 rows="10000 100000 1000000" dir=${TMPDIR:-/tmp} out=
while [ $# -gt 0 ]; do
    case $1 in
    --part) parts+=("$2") && shift ;;
    --model) model=$2 && shift ;;
    --steps) steps=$2 && shift ;;
    --rows) rows=$2 && shift ;;
    --dir) dir=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) sed -n '2,15p' "$0" | sed 's/^# \{0,1\}//' && exit 2 ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=(steps data)

emit() { echo "$1"; [ -z "$out" ] || echo "$1" >>"$out"; }

# step WHAT VALUE RANKS OPTIONS...: one row.
step() {
    local what=$1 value=$2 ranks=$3
    shift 3
    $wrap timeout 1800 mpirun -np "$ranks" "$mttrain" bench step --json --steps "$steps" "$@" \
        2>/dev/null </dev/null | python3 -c '
import json, sys
try:
    r = json.load(sys.stdin)
except ValueError:
    sys.exit("| %s | %s | failed |" % (sys.argv[1], sys.argv[2]))
print("| %s | %s | %d | %.0f | %.0f | %.3f | %.1f | %.0f |" % (
    sys.argv[1], sys.argv[2], r["ranks"], r["tokens_per_s"], r["tokens_per_cpu_s"], r["step_s"],
    r["gflops"], r["peak_rss_bytes"] / 2**20))' "$what" "$value" >"$work/row" 2>&1
    emit "$(cat "$work/row")"
}

steps_part() {
    emit "| varied | value | ranks | tokens/s | tokens/s of processor time | s a step | GFLOP/s | MiB a rank |"
    emit "|---|---|---|---|---|---|---|---|"
    local n
    for n in 1 4 16 64; do step "sentences a rank" "$n" 1 --model "$model" --sentences "$n"; done
    for n in 8 16 32 64 128 256 512; do # always 4096 tokens
        step "tokens a sentence" "$n" 1 --model "$model" --tokens "$n" --sentences $((4096 / n))
    done
    for n in 1 2 4 8 12; do
        step layers "$n" 1 --model "$model" --layers "$n" --sentences 16
    done
    for n in 1 2 4 8; do step ranks "$n" "$n" --model "$model" --sentences 8; done
    emit ""
}

# timed COMMAND...: its seconds and the most memory it had, in MiB.
timed() {
    $wrap python3 -c '
import resource, subprocess, sys, time
begin = time.monotonic()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("%.2f %.0f" % (time.monotonic() - begin,
                     resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
sys.exit(code)' "$@"
}

data_part() {
    [ -x "$helper" ] || { echo "no helper at $helper; name it by GROWTH_DATA=..." >&2; exit 2; }
    emit "| sentences | text, MB | packing, s | sentences/s | tokens/s | MiB to pack | shards, MB | opening, ms | MiB opened | hashing, s | us a random sample | MiB at most |"
    emit "|---|---|---|---|---|---|---|---|---|---|---|---|"
    local n seconds pack_mib text_mb shards_mb
    for n in $rows; do
        "$helper" text "$vocab" "$n" >"$work/text.tsv" || exit 1
        read -r seconds pack_mib < <(timed "$mttrain" pack --vocab "$vocab" --out "$work/shards" --label mood=mood "$work/text.tsv")
        text_mb=$(du -m --apparent-size "$work/text.tsv" | cut -f 1)
        shards_mb=$(du -sm --apparent-size "$work/shards" | cut -f 1)
        read -r got tokens open_ms open_mib hash_s sample_us peak_mib \
            < <($wrap "$helper" open "$work/shards" 100000)
        [ "${got:-0}" = "$n" ] || { echo "$n sentences gave ${got:-no} rows" >&2; exit 1; }
        emit "$(awk -v n="$n" -v t="$tokens" -v s="$seconds" -v text="$text_mb" -v m="$pack_mib" \
            -v shards="$shards_mb" -v o="$open_ms" -v om="$open_mib" -v h="$hash_s" \
            -v us="$sample_us" -v p="$peak_mib" 'BEGIN {
            printf "| %d | %d | %s | %.0f | %.0f | %s | %d | %s | %s | %s | %s | %s |", n, text, s,
                n / s, t / s, m, shards, o, om, h, us, p }')"
        rm -rf "$work/shards" "$work/text.tsv"
    done
    emit ""
}

work=$(mktemp -d "$dir/mttrain-growth-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
emit "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1); load before: $(cut -d' ' -f1-3 /proc/loadavg)"
emit ""
for part in "${parts[@]}"; do
    case $part in
    steps) steps_part ;;
    data) data_part ;;
    *) echo "no part $part (steps, data)" >&2 && exit 2 ;;
    esac
done

#!/bin/bash
# Side by side with PyTorch DDP: for each kind of work N pairs of runs, mttrain and the peer in
# turn, and a table of medians.  Not a test: it takes minutes and wants an idle machine.
#
#   tests/bench/peer.sh [--pairs 5] [--steps 3] [--out FILE.md] [WORK...]
#
# MTTRAIN names the program, PEER the peer's script (default: shared/tools/peer_bert.py beside the
# source).  The peer runs with the settings that were found best for it; a work's row says on how
# many ranks and threads.
set -u
. "$(dirname "$0")/common.sh"
peer=${PEER:-$shared/tools/peer_bert.py}
pairs=5 steps=3 out=
works=()
while [ $# -gt 0 ]; do
    case $1 in
        --pairs) pairs=$2; shift 2 ;;
        --steps) steps=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        -*) sed -n '2,10p' "$0"; exit 2 ;;
        *) works+=("$1"); shift ;;
    esac
done

[ -f "$peer" ] || { echo "skipped: the peer $peer is absent" >&2; exit 77; }
/usr/bin/python3 -c 'import torch' 2>/dev/null ||
    { echo "skipped: python3-torch is absent" >&2; exit 77; }

# work | mttrain bench step ... | ranks and threads of the peer | the peer's options
table='full-fp32   |--precision fp32                          |2 1|--dtype fp32
full-bf16      |--precision bf16                              |2 1|--dtype bf16
sst2-fp32      |--precision fp32 --tokens sst2                |1 2|--dtype fp32 --lengths sst2-bucket
sst2-bf16      |--precision bf16 --tokens sst2                |1 2|--dtype bf16 --lengths sst2-bucket
top2-fp32      |--precision fp32 --train top(2)               |2 1|--dtype fp32 --freeze backbone --unfreeze-top 2
top2-bf16      |--precision bf16 --train top(2)               |2 1|--dtype bf16 --freeze backbone --unfreeze-top 2
embed-fp32     |--precision fp32 --train none --tokens sst2   |1 2|--dtype fp32 --mode embed --lengths sst2
embed-bf16     |--precision bf16 --train none --tokens sst2   |1 2|--dtype bf16 --mode embed --lengths sst2
embed128-fp32  |--precision fp32 --train none                 |2 1|--dtype fp32 --mode embed
embed128-bf16  |--precision bf16 --train none                 |2 1|--dtype bf16 --mode embed'

malloc=$(ls /usr/lib/*/libtcmalloc_minimal.so.4 2>/dev/null | head -1)

run_mttrain() { # options -> "tokens/s fraction highest rss_MiB"
    timeout 1800 mpirun -np 2 "$mttrain" bench step --json --steps "$steps" $1 2>/dev/null </dev/null |
        /usr/bin/python3 -c '
import json, sys
r = json.load(sys.stdin)
print("%.1f %.3f %.3f %d" % (r["tokens_per_s"], r["fraction_of_peak"],
    r["fraction_of_highest_peak"], r["peak_rss_bytes"] >> 20))'
}

# The peer detects its processor by itself: settings meant for other programs are taken away.
run_peer() { # "ranks threads" options -> "tokens/s rss_MiB"
    set -- $1 "$2"
    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE ATEN_CPU_CAPABILITY=avx512 \
        ${malloc:+LD_PRELOAD=$malloc} OMP_NUM_THREADS="$2" timeout 1800 /usr/bin/python3 "$peer" \
        --ranks "$1" --threads "$2" --steps "$steps" --port $((20000 + RANDOM % 10000)) $3 \
        2>/dev/null </dev/null | sed -n 's/.*tok\/s real=\([0-9.]*\).*rss_MiB=\[\([0-9]*\).*/\1 \2/p'
}

median() { tr ' ' '\n' | grep . | sort -g | awk '{v[NR] = $1} END {
    if (NR == 0) print 0; else print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2}'; }

emit() { echo "$1"; [ -z "$out" ] || echo "$1" >> "$out"; }

[ -z "$out" ] || : > "$out"
emit "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1); $pairs pairs of $steps steps; load before: $(cut -d' ' -f1-3 /proc/loadavg)"
emit ""
emit "| work | mttrain, tokens/s | peer, tokens/s | ratio of medians | ratios of the pairs | mttrain, of the peak under load (of the highest) | MiB a rank, mttrain / peer |"
emit "|---|---|---|---|---|---|---|"
while IFS='|' read -r work ours shape theirs; do
    work=${work// /}
    if [ ${#works[@]} -gt 0 ] && [[ " ${works[*]} " != *" $work "* ]]; then continue; fi
    a=() b=() f=() h=() ratios=() am=0 bm=0
    for ((i = 0; i < pairs; i++)); do
        read -r x fraction highest rss < <(run_mttrain "$ours")
        read -r y peer_rss < <(run_peer "$shape" "$theirs")
        echo "  $work pair $((i + 1)): mttrain ${x:-failed} peer ${y:-failed}" \
            "load $(cut -d' ' -f1 /proc/loadavg)" >&2
        [ -n "${x:-}" ] && [ -n "${y:-}" ] || continue
        a+=("$x") b+=("$y") f+=("$fraction") h+=("$highest") am=$rss bm=$peer_rss
        ratios+=("$(awk "BEGIN {printf \"%.2f\", $x / $y}")")
        x= y=
    done
    ma=$(echo "${a[*]:-}" | median) mb=$(echo "${b[*]:-}" | median) mf=$(echo "${f[*]:-}" | median)
    mh=$(echo "${h[*]:-}" | median)
    emit "| $work | $ma | $mb (${shape/ /x}) | $(awk "BEGIN {printf \"%.2f\", ($mb > 0 ? $ma / $mb : 0)}") | ${ratios[*]:-} | $mf ($mh) | $am / $bm |"
done <<< "$table"
emit ""
emit "load after: $(cut -d' ' -f1-3 /proc/loadavg)"

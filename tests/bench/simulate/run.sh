#!/usr/bin/env bash
# run.sh [--ranks "2 4 8 ..."] [--network GB/s] [--latency US] [--message US] [--memory GB/s]
#        [--nap US] [--bucket ELEMENTS] [--path auto|halving|direct|hosts] [--per-host N]
#        [--seconds 600] [--real N]
#
# The reduction of comm/, compiled as it stands, on a simulated cluster (Debian: libsimgrid-dev):
# first with real numbers on few ranks, then BERT-base's gradients on up to 1024 ranks beside what
# comm/reduce_time.h forecasts. Times in ms: "sums" until the owners have them, "gather" of other
# numbers from them to everybody, "whole" the sums until everybody has them, in one; messages and MB
# are those of sums and of a gather that the busiest rank sends.
#
# Scaled down: of 105 buckets some are simulated and the line is followed (simulate.c says how):
# 8 and 16. --per-host N puts N ranks on a host: with --path hosts its shared memory comes first,
# otherwise they exchange messages. --seconds ends a simulation that takes longer; its row then says so. --real N measures N ranks of Open MPI on this
# machine instead, with real numbers; --network and the others should then be this machine's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source_dir=$(cd "$here/../../.." && pwd)
ranks="2 4 8 16 32 64 128 256 512 1024" network=12.5 latency=2 message=1 memory=15 nap=60 bucket=0
path=0 per_host=1 seconds=600 real=
while [ $# -gt 0 ]; do
    case $1 in
    --ranks) ranks=$2 && shift ;;
    --network) network=$2 && shift ;;
    --latency) latency=$2 && shift ;;
    --message) message=$2 && shift ;;
    --memory) memory=$2 && shift ;;
    --nap) nap=$2 && shift ;;
    --bucket) bucket=$2 && shift ;;
    --path)
        case $2 in auto) path=0 ;; halving) path=2 ;; direct) path=3 ;; hosts) path=4 ;; *) exit 2 ;; esac
        shift
        ;;
    --per-host) per_host=$2 && shift ;;
    --real) real=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    *) sed -n '2,18p' "$0" | sed 's/^# \{0,1\}//' && exit 2 ;;
    esac
    shift
done
if ! command -v smpicc >/dev/null; then
    echo "skipped: smpicc absent (Debian: libsimgrid-dev)"
    exit 77
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-simulate-XXXXXX")
trap 'rm -rf "$work"' EXIT

cd "$source_dir"
comm=$(ls comm/reduce*.c)
comm="$comm comm/world.c comm/agree.c comm/exchange.c comm/lane_tree.c"
base=$(find comm/base -name '*.c' ! -name memory.c)
flags="-std=c11 -D_GNU_SOURCE -DSMPI_NO_OVERRIDE_MALLOC -O2 -I."
for name in MPI_Testall sched_yield clock_sleep_s; do flags="$flags -Wl,--wrap=$name"; done
parts="$here/simulate.c $here/instead_wait.c $comm $base"
of() { awk "BEGIN { print $1 }"; }
bytes=$(of "$network * 1e9") latency=$(of "$latency * 1e-6") message=$(of "$message * 1e-6")
memory=$(of "$memory * 1e9") nap=$(of "$nap * 1e-6")
row() {
    echo "bucket=$bucket path=$path memory=$memory nap=$nap latency=$latency" \
        "bandwidth=$bytes overhead=$message host=$per_host"
}
heading() {
    printf '\n%6s %-8s %8s %8s %8s %6s %8s %8s %6s %8s %8s %6s %8s %8s %8s\n' ranks path bucket sums \
        forecast % gather forecast % whole forecast % messages MB 'MB gath.'
}
if [ -n "$real" ]; then
    # shellcheck disable=SC2086
    mpicc -std=c11 -D_GNU_SOURCE -O3 -march=native -I. "$here/simulate.c" $comm $base \
        comm/shared.c comm/base/memory.c -o "$work/real" -lm -lpthread
    heading
    # shellcheck disable=SC2046
    timeout "$seconds" mpirun -np "$real" "$work/real" warm=1 buckets=1000 $(row)
    exit
fi
numbers=
for name in lane_tree_add reduce_add_into reduce_square_piece reduce_copy; do numbers="$numbers -Wl,--wrap=$name"; done
# shellcheck disable=SC2086
smpicc $flags $numbers $parts "$here/instead_kernels.c" "$here/instead_memory.c" \
    "$here/instead_shared.c" \
    -o "$work/simulate" -lm
# shellcheck disable=SC2086
smpicc $flags $parts comm/shared.c comm/base/memory.c -o "$work/check" -lm

# No model of TCP: a message takes latency + bytes / bandwidth. Short sums by recursive doubling.
settings="smpi/host-speed:100Gf smpi/simulate-computation:no smpi/coll-selector:ompi
    smpi/allreduce:rdb smpi/bw-factor:0:1 smpi/lat-factor:0:1 smpi/finalization-barrier:no
    network/crosstraffic:0 network/weight-S:0 smpi/os:0:$message:0 smpi/or:0:$message:0
    smpi/ois:0:$message:0 smpi/test:0 smpi/iprobe:0 smpi/wtime:0 smpi/grow-injected-times:no
    contexts/stack-size:256"
simulate() { # PROGRAM RANKS WORD...
    local program=$1 n=$2 options=
    shift 2
    local hosts=$((n > per_host ? n / per_host : 1))
    "$here/platform.sh" "$hosts" "$bytes" "$latency" "$per_host" >"$work/platform.xml"
    for ((i = 0; i < n; i++)); do echo "host$((i * hosts / n))"; done >"$work/hosts"
    for s in $settings; do options="$options --cfg=$s"; done
    # shellcheck disable=SC2086
    timeout "$seconds" nice -n 10 smpirun -np "$n" -hostfile "$work/hosts" \
        -platform "$work/platform.xml" $options --log=root.thresh:critical "$work/$program" "$@"
}

for n in 2 3 4 8; do simulate check "$n" check=1; done
heading
for n in $ranks; do
    # shellcheck disable=SC2046
    simulate simulate "$n" buckets=8 $(row) ||
        printf '%6d %s\n' "$n" "not finished within $seconds s"
done

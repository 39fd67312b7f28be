#!/usr/bin/env bash
# The exact reduction against the library's own in whole training steps, interleaved, medians:
#
#     cmake --preset release && cmake --build --preset release
#     tests/bench/reduction.sh [-np RANKS] [-n PAIRS] [-a] [-- options of `mttrain bench step`]
#
# -a: also with all rows of the word embeddings.  Prints a table and, last, the ratio of exact to
# mpi (1.03 = 3 % slower).  Run it on a machine that does nothing else.
set -eu
. "$(dirname "$0")/common.sh"
read_options "[-np RANKS] [-n PAIRS] [-a] [-- options of mttrain bench step]" "$@"
set -- "${rest[@]}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one() { # NAME OPTIONS...
    name=$1 && shift
    mpirun -np "$np" "$mttrain" bench step --json --steps 3 "$@" >"$work/out"
    python3 -c 'import json, sys
r = json.loads(open(sys.argv[1]).read().splitlines()[-1])
print(sys.argv[2], r["step_s"], r["seconds_per_step"]["reduction"], r["seconds_per_step"]["reduction hidden"])' \
        "$work/out" "$name" >>"$work/times"
}
for _ in $(seq "$pairs"); do
    one exact "$@"
    one mpi --reduction mpi "$@"
    [ -n "$all" ] || continue
    one exact-dense --dense "$@"
    one mpi-dense --reduction mpi --dense "$@"
done
python3 - "$work/times" <<'END'
import statistics, sys
rows = {}
for line in open(sys.argv[1]):
    name, *values = line.split()
    rows.setdefault(name, []).append([float(v) for v in values])
middle = {name: [statistics.median(column) for column in zip(*r)] for name, r in rows.items()}
print(f'{"way":12} {"step s":>9} {"waiting s":>10} {"hidden s":>9}')
for name, (step, wait, hidden) in middle.items():
    print(f"{name:12} {step:9.4f} {wait:10.4f} {hidden:9.4f}")
ratios = lambda a, b: statistics.median(x[0] / y[0] for x, y in zip(rows[a], rows[b]))
print(f'exact / mpi: {ratios("exact", "mpi"):.3f}')
if "mpi-dense" in rows:
    print(f'all rows: {ratios("exact-dense", "mpi-dense"):.3f}')
END

#!/usr/bin/env bash
# Weak scaling: training steps of one rank and of R ranks with the same work a rank, interleaved,
# medians:
#
#     cmake --preset release && cmake --build --preset release
#     tests/bench/scaling.sh [-np RANKS] [-n PAIRS] [-- options of `mttrain bench step`]
#
# Prints tokens/s of both, how much of R times one rank's that is, the same of the processor's peak
# under load (cores that share power or heat do not add up), and the quotient of the two.  Run it on
# a machine that does nothing else.
set -eu
. "$(dirname "$0")/common.sh"
read_options "[-np RANKS] [-n PAIRS] [-- options of mttrain bench step]" "$@"
set -- "${rest[@]}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
one() { # RANKS OPTIONS...
    ranks=$1 && shift
    mpirun -np "$ranks" "$mttrain" bench step --json --steps 2 "$@" >"$work/out"
    python3 -c 'import json, sys
r = json.loads(open(sys.argv[1]).read().splitlines()[-1])
print(r["tokens_per_s"], r["gflops"] / r["fraction_of_peak"])' "$work/out" >>"$work/$ranks"
}
for _ in $(seq "$pairs"); do
    one 1 "$@"
    one "$np" "$@"
done
python3 - "$work/1" "$work/$np" "$np" <<'END'
import statistics, sys
read = lambda path: [[float(v) for v in line.split()] for line in open(path)]
one, many, ranks = read(sys.argv[1]), read(sys.argv[2]), int(sys.argv[3])
median = lambda rows, column: statistics.median(r[column] for r in rows)
print(f"tokens/s: 1 rank {median(one, 0):.1f}, {ranks} ranks {median(many, 0):.1f}")
share = [statistics.median(m[c] / (ranks * o[c]) for o, m in zip(one, many)) for c in (0, 1)]
print(f"of {ranks} times one rank's: steps {share[0]:.3f}, peak under load {share[1]:.3f}, "
      f"quotient {share[0] / share[1]:.3f}")
END

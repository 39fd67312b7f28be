#!/usr/bin/env bash
# From a bare Debian or Ubuntu machine to a trained two-task model: installs, builds, packs the
# shipped sentences, trains on all cores through the staged schedule, evaluates and embeds.
# Usage: ./jobs/quickstart.sh        results in runs/quickstart (removed first, to start fresh)
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

say "1/6 packages"
./jobs/install.sh

say "2/6 build"
cmake --preset release
cmake --build --preset release
mttrain=build/release/mttrain
"$mttrain" --version

# mpirun refuses root and more ranks than cores unless it is told that both are meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
ranks=$(nproc)
[ "$ranks" -ge 2 ] || ranks=2
[ "$ranks" -le 8 ] || ranks=8 # the lanes of jobs/quickstart.cfg

out=runs/quickstart
rm -rf "$out" runs/quickstart-shards
mkdir -p runs

say "3/6 pack the shipped sentences (the job does this by itself; here to be looked at)"
"$mttrain" pack --vocab jobs/quickstart/vocab.txt --out runs/quickstart-shards --max-tokens 64 \
    --text-column sentence --label category=category --label sentiment=sentiment \
    jobs/quickstart/train.tsv
"$mttrain" inspect runs/quickstart-shards

say "4/6 train both tasks on $ranks ranks: heads, then top layers, then everything"
mpirun -np "$ranks" "$mttrain" jobs/quickstart.cfg

say "5/6 evaluate the best model"
mpirun -np "$ranks" "$mttrain" eval "$out"

say "6/6 embed and predict"
cut -f1 jobs/quickstart/dev.tsv | tail -n +2 >"$out/dev-sentences.txt"
mpirun -np "$ranks" "$mttrain" embed "$out" --in "$out/dev-sentences.txt" --out "$out/dev.npy"
printf '%s\n' "I love the new dark mode, it is so easy on my eyes." \
    "The update broke the login screen again." "Water boils at a lower temperature in the mountains." |
    "$mttrain" predict "$out"

say "done: the model is in $out/model, the numbers in $out/metrics.jsonl"

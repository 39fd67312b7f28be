#!/usr/bin/env bash
# Memory: a run that cannot fit is refused before it starts, with the mends; recomputation saves
# memory and no bits; the peak is told at the end.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/plain 1.0
must 1 job.cfg || finish
expected=$(hash_of runs/plain)
contains "the summary tells the peak" out "memory at most: [0-9]+ MiB on one rank \(rank 0\), [0-9]+ MiB on one host"
contains "the done event too" runs/plain/metrics.jsonl '"peak_rss_bytes":[1-9][0-9]*,"peak_rss_host_bytes":[1-9]'

for np in 1 2; do
    must "$np" job.cfg --set "run_dir=runs/again$np" --set batch.recompute=true &&
        equal "recomputing at np $np gives the same bits" "$expected" "$(hash_of "runs/again$np")"
done
must 1 job.cfg --set run_dir=runs/change --set train.max_steps=5 &&
    must 1 job.cfg --set run_dir=runs/change --set batch.recompute=true --set train.max_steps=0 --accept-changes &&
    contains "recomputation may begin at a resume" out "batch.recompute = true"

# Some terabytes, which no host has.
sed 's/hidden_size = 32; num_hidden_layers = 2;/hidden_size = 65536; num_hidden_layers = 24;/
    s/intermediate_size = 64/intermediate_size = 65536/' job.cfg >huge.cfg
ranks 2 huge.cfg --set run_dir=runs/huge
equal "a run that cannot fit is refused as a bad job" 2 $?
contains "by kinds" out "does not fit: phase \"all\" needs [0-9.]+ GiB on host .*2 ranks: parameters [0-9.]+, gradients"
contains "with the mends" out "set batch.recompute = true .*optimizer.shard = true .*fewer ranks.*train.memory_check=false"
holds "and nothing was trained" [ ! -e runs/huge/metrics.jsonl ]
finish

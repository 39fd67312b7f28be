#!/usr/bin/env bash
# save.sh [--np 1] [--shard] [--steps 16] [--every 8] [--out DIR]: what a checkpoint of a BERT-base with its
# optimizer state costs.
#
# Trains 12 layers x 768, random weights, in small steps, saves now and then, and prints
# for each checkpoint its size, the seconds that training stood still, and those that writing took
# beside it; then the same for a phase that trains the heads alone. --shard: the optimizer state is shared
# out, and each rank writes its own. Wants 5 GB of memory and of disk (in TMPDIR, or --out), and an
# idle machine. mttrain in $MTTRAIN.
set -euo pipefail
. "$(dirname "$0")/common.sh"
export OMPI_MCA_mpi_yield_when_idle=1
np=1 shard=false steps=16 every=8 out=
while [ $# -gt 0 ]; do
    case $1 in
    --np) np=$2 && shift ;;
    --shard) shard=true ;;
    --steps) steps=$2 && shift ;;
    --every) every=$2 && shift ;;
    --out) out=$2 && shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
    shift
done
if [ -z "$out" ]; then
    out=$(mktemp -d "${TMPDIR:-/var/tmp}/mttrain-save-XXXXXX")
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
cat >"$out/job.cfg" <<END_OF_JOB
name = "save"; run_dir = "run"; seed = 1;
model = { init = "random"; vocab = "$source_dir/jobs/quickstart/vocab.txt"; max_tokens = 64;
  config = { vocab_size = 30522; hidden_size = 768; num_hidden_layers = 12; num_attention_heads = 12;
             intermediate_size = 3072; max_position_embeddings = 512; }; };
data = ( { name = "kinds"; train = [ "$source_dir/jobs/quickstart/train.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "kinds"; labels = [ "personal", "fact", "app" ]; } );
batch = { sentences = 8; lanes = $np; };
train = { max_steps = $steps; save_every = "${every}st"; log_every = "1st"; keep_last = 1; keep_phase_ends = false; };
optimizer = { lr = 1e-5; shard = $shard; };
phases = ( { name = "all"; until = "1.0run"; train = [ "*" ]; } );
END_OF_JOB
show() { # show WHAT RUN
    grep '"event":"checkpoint"' "$2/metrics.jsonl" |
        sed -E 's/.*"step":([0-9]+).*"seconds":([0-9.e-]+).*"write_s":([0-9.e-]+).*"bytes":([0-9]+).*/\1 \2 \3 \4/' |
        while read -r step stood write bytes; do
            LC_ALL=C printf '%s, step %d: %.1f MB, training stood still for %.3f s, written in %.2f s\n' \
                "$1" "$step" "$(awk "BEGIN { print $bytes / 1e6 }")" "$stood" "$write"
        done
    sed -n 's/.*"peak_rss_host_bytes":\([0-9]*\).*/\1/p' "$2/metrics.jsonl" |
        awk -v what="$1" '{ printf "%s: %.0f MB of memory on the host at the most\n", what, $1 / 1e6 }'
}
mpirun -np "$np" "$mttrain" -q "$out/job.cfg" </dev/null
show "all tensors" "$out/run"
sed -i 's/train = \[ "\*" \]/train = [ "heads.*" ]/' "$out/job.cfg"
rm -rf "$out/run"
mpirun -np "$np" "$mttrain" -q "$out/job.cfg" </dev/null
show "heads alone" "$out/run"

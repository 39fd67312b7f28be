#!/usr/bin/env bash
# cache.sh [--np 2] [--precision fp32] [--epochs 3] [--layers 12] [--out DIR]
#
# What freezing saves, on a BERT-base-sized random model and the shipped sentences:
#   heads   sentences per second of a heads-only phase from the prefix cache, against those of the
#           pass that fills the cache
#   top(2)  the same phase with and without the cache, in turn
#   plan    for each of these runs and one of the schedule staged: seconds of the whole command and
#           reduced bytes a step, as `mttrain plan` told before and as the run had them
# Wants an idle machine; takes minutes. mttrain is looked for in $MTTRAIN.
set -euo pipefail
. "$(dirname "$0")/common.sh"
np=2 precision=fp32 epochs=3 layers=12 out=
while [ $# -gt 0 ]; do
    case $1 in
    --np) np=$2 ;;
    --precision) precision=$2 ;;
    --epochs) epochs=$2 ;;
    --layers) layers=$2 ;;
    --out) out=$2 ;;
    *) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' && exit 2 ;;
    esac
    shift 2
done
if [ -z "$out" ]; then
    out=$(mktemp -d "${TMPDIR:-/tmp}/mttrain-cache-XXXXXX")
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"

cat >"$out/job.cfg" <<END_OF_JOB
name = "cache"; run_dir = "run"; seed = 1;
model = { init = "random"; vocab = "$source_dir/jobs/quickstart/vocab.txt"; max_tokens = 64;
  config = { vocab_size = 30522; hidden_size = 768; num_hidden_layers = $layers;
             num_attention_heads = 12; intermediate_size = 3072; max_position_embeddings = 512; };
  precision = "$precision"; };
data = ( { name = "sentences"; train = [ "$source_dir/jobs/quickstart/train.tsv" ];
           dev = [ "$source_dir/jobs/quickstart/dev.tsv" ]; text = "sentence"; } );
tasks = ( { name = "category"; data = "sentences"; }, { name = "sentiment"; data = "sentences"; } );
batch = { sentences = 64; lanes = 2; };
train = { epochs = $epochs.0; eval_every = "1ep"; save_every = "1h"; log_every = "1st"; };
END_OF_JOB
printf 'phases = ( { name = "top"; train = [ "heads.*", "top(2)" ]; } );\n' >"$out/top2.cfg"

# one NAME SCHEDULE ARGUMENTS...: forecast, run, and a line that compares them.
one() {
    local name=$1 schedule=$2
    shift 2
    mpirun -np "$np" "$mttrain" plan -q "$out/job.cfg" --schedule "$schedule" \
        --set "run_dir=$out/$name" "$@" --json </dev/null >"$out/$name.plan"
    local begin=$EPOCHREALTIME
    mpirun -np "$np" "$mttrain" -q "$out/job.cfg" --schedule "$schedule" \
        --set "run_dir=$out/$name" "$@" </dev/null
    python3 - "$name" "$out/$name.plan" "$out/$name/metrics.jsonl" "$begin" "$EPOCHREALTIME" <<'END_OF_PYTHON'
import json, sys
name, plan, events = sys.argv[1], json.load(open(sys.argv[2])), [json.loads(l) for l in open(sys.argv[3])]
forecast, took = plan["total_s"], float(sys.argv[5]) - float(sys.argv[4])  # from mpirun to its end
print(f"{name:12} forecast {forecast:7.1f} s, took {took:7.1f} s: {100 * (took / forecast - 1):+5.1f} %")
for phase in plan["phases"]:
    told = {e["reduced_bytes"] for e in events if e["event"] == "step" and e["phase"] == phase["name"]}
    print(f"{'':12} {phase['name']}: reduced bytes a step, planned {phase.get('reduced_bytes')}, had {sorted(told)}")
END_OF_PYTHON
}

# rate NAME: sentences per second of its steps, but for the first two.
rate() {
    python3 - "$out/$1/metrics.jsonl" <<'END_OF_PYTHON'
import json, sys
steps = [e for e in map(json.loads, open(sys.argv[1])) if e["event"] == "step"][2:]
print(sum(e["sentences"] for e in steps) / sum(e["tokens"] / e["tokens_per_s"] for e in steps))
END_OF_PYTHON
}

filling() { # NAME: sentences per second of the pass that filled its cache
    python3 - "$out/$1/metrics.jsonl" <<'END_OF_PYTHON'
import json, sys
(fill,) = [e for e in map(json.loads, open(sys.argv[1])) if e["event"] == "cache"]
print(fill["sentences"] / fill["fill_s"])
END_OF_PYTHON
}

echo "$(nproc) cores, $np ranks, $layers layers x 768, $precision; load before: $(cut -d' ' -f1-3 /proc/loadavg)"
one heads heads-only --set 'cache.mode="on"'
one top2-off "$out/top2.cfg" --set 'cache.mode="off"'
one top2-on "$out/top2.cfg" --set 'cache.mode="on"'
one staged staged
awk -v a="$(rate heads)" -v b="$(filling heads)" 'BEGIN {
    printf "heads from the cache: %.0f sentences/s, filling %.1f: %.0f times\n", a, b, a / b }'
awk -v a="$(rate top2-on)" -v b="$(rate top2-off)" 'BEGIN {
    printf "top(2): %.1f sentences/s from the cache, %.1f without: %.2f times\n", a, b, a / b }'

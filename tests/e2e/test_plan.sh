#!/usr/bin/env bash
# What `mttrain plan` says of a job is what training then does: steps, parameters, bytes reduced; it
# leaves nothing behind; and wrong schedules are answered with file, line, key and the mend.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

cd "$work" || exit 1
make_base runs/base || finish
make_scheduled job.cfg runs/base
plan() { timeout -k 10 "$limit_s" mpirun -np "$@" </dev/null; }

# planned KEY PHASE: a number of plan.json; told KEY PHASE: of metrics.jsonl.
planned() {
    python3 -c 'import json, sys
phase = [p for p in json.load(open("plan.json"))["phases"] if p["name"] == sys.argv[2]][0]
for key in sys.argv[1].split("."): phase = phase[key]
print(phase)' "$1" "$2"
}
told() {
    python3 -c 'import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
print(*sorted({e[sys.argv[3]] for e in events if e["event"] == sys.argv[2] and e["phase"] == sys.argv[4] and sys.argv[3] in e}))' "$@"
}

# Files that are newer than the mark, but for what the shell writes, and the names of all.
everything() {
    find . -type f -newer mark ! -name 'plan.*' -print
    ls -A . runs
}
touch plan.json plan.err
dense='reduction_rows="dense"' # every step then sends the same
for reduction in exact mpi; do
    for np in 1 2 3 4; do
        dir=runs/staged-$reduction-$np
        must "$np" job.cfg -q --schedule staged --set "run_dir=$dir" --set "reduction=\"$reduction\"" --set "$dense" || continue
        touch mark
        before=$(everything)
        plan "$np" "$MTTRAIN" plan job.cfg -q --schedule staged --set "run_dir=runs/not-there" \
            --set "reduction=\"$reduction\"" --set "$dense" --json >plan.json 2>plan.err || { fail "plan: $(cat plan.err)"; continue; }
        [ "$np" != 2 ] || equal "plan leaves nothing behind" "$before" "$(everything)"
        for phase in heads top all; do
            equal "$reduction, np $np, $phase: reduced bytes are as planned" \
                "$(planned reduced_bytes "$phase")" "$(told "$dir/metrics.jsonl" step reduced_bytes "$phase")"
            equal "$reduction, np $np, $phase: trained parameters" \
                "$(planned trainable_parameters "$phase")" \
                "$(told "$dir/metrics.jsonl" phase trainable_parameters "$phase")"
            equal "$reduction, np $np, $phase: its end" "$(planned end "$phase")" \
                "$(told "$dir/metrics.jsonl" phase planned_end "$phase")"
        done
    done
done
# What is copied for a save, in bytes: 12 a parameter on rank 0; with shared out moments 4 there, and 8 over the ranks.
for np in 1 2; do
    for shard in false true; do
        plan "$np" "$MTTRAIN" plan job.cfg -q --schedule full --set run_dir=runs/not-there --set "optimizer.shard=$shard" \
            --json >plan.json 2>plan.err || fail "plan: $(cat plan.err)"
        phase=$(python3 -c 'import json; print(json.load(open("plan.json"))["phases"][0]["name"])')
        trained=$(planned trainable_parameters "$phase")
        echo "np $np, shard $shard: $(($(planned memory_bytes.copy "$phase") / trained)) $(($(planned memory_bytes.copy_owned "$phase") / trained))"
    done
done >copies
equal "what is copied for a save" "np 1, shard false: 12 0;np 1, shard true: 12 0;np 2, shard false: 12 0;np 2, shard true: 8 4" "$(paste -sd ';' copies)"
dir=runs/sharded
must 3 job.cfg -q --schedule full --set "run_dir=$dir" --set optimizer.shard=true --set "$dense" &&
    plan 3 "$MTTRAIN" plan job.cfg -q --schedule full --set optimizer.shard=true --set "$dense" --json >plan.json 2>plan.err &&
    equal "a sharded optimizer: reduced bytes are as planned" "$(planned reduced_bytes all)" \
        "$(told "$dir/metrics.jsonl" step reduced_bytes all)"


# Sparse rows depend on the words of a step: what is told lies between the two numbers planned.
for np in 2 3; do
    dir=runs/sparse$np
    must "$np" job.cfg -q --schedule staged --set "run_dir=$dir" || continue
    plan "$np" "$MTTRAIN" plan job.cfg -q --schedule staged --json >plan.json 2>plan.err
    for phase in heads top all; do
        least=$(planned reduced_bytes_least "$phase") most=$(planned reduced_bytes "$phase")
        for bytes in $(told "$dir/metrics.jsonl" step reduced_bytes "$phase"); do
            holds "np $np, $phase: $bytes bytes are in $least..$most" [ "$least" -le "$bytes" -a "$bytes" -le "$most" ]
        done
    done
    holds "np $np: rows are left out where embeddings are trained only" \
        [ "$(planned reduced_bytes_least top)" -eq "$(planned reduced_bytes top)" -a "$(planned reduced_bytes_least all)" -lt "$(planned reduced_bytes all)" ]
done

# The rates are those of the step events.
plan 1 "$MTTRAIN" plan job.cfg -q --schedule gradual --set run_dir=runs/not-there --json >plan.json 2>plan.err
must 1 job.cfg -q --schedule gradual --set run_dir=runs/gradual
last_rate() { grep "\"event\":\"step\".*\"phase\":\"$1\"" runs/gradual/metrics.jsonl | tail -n 1 | grep -o '"lr":[^,]*' | cut -d : -f 2; }
for phase in heads thaw-top1 thaw-all; do
    holds "gradual, $phase: the last rate is as planned" python3 -c 'import json, sys
phase = [p for p in json.load(open("plan.json"))["phases"] if p["name"] == sys.argv[1]][0]
end = max(g["lr_end"] for g in phase["groups"])
sys.exit(not abs(end - float(sys.argv[2])) <= 1e-9 * end)' "$phase" "$(last_rate "$phase")"
done

# The table, the picture, another machine, the time limit.
alone plan job.cfg --schedule staged --svg plan.svg && cp out plan.txt
for word in 'heads: steps 0\.\.' 'category .* epochs' 'rate  *heads\.sentiment .*start, peak, end' \
    'GFLOP a step' 'per rank: parameters .*gradients .*moments .*activations .*batches' 'cache  ' 'forecast: '; do
    contains "the table has: $word" plan.txt "$word"
done
holds "the picture is well-formed" python3 -c 'import xml.dom.minidom; xml.dom.minidom.parse("plan.svg")'
contains "the picture shows layers" plan.svg 'encoder\.layer\.2'
alone plan job.cfg --schedule full --ranks 8 --network 1.25 && contains "another machine" out 'on 8 ranks'
rc=0
alone plan job.cfg --ranks 16 || rc=$?
equal "more ranks than lanes: exit code" 2 "$rc"
contains "... names the key" out 'batch\.lanes'
alone plan job.cfg --schedule full --limit 1h && contains "a limit that is long enough" out 'fits the 1h00m .*one submission'
alone plan job.cfg --schedule full --limit 1s && contains "a limit that is too short" out 'no room for a step'
# What rank 0 forms of four groups, and of the sum: all; one and a quarter; eighths.
for row in "1 5" "4 1.25" "8 0.625"; do
    alone plan job.cfg --schedule full --ranks "${row% *}" --set 'wire="bf16"' --set wire_groups=4 --json &&
        holds "errors of bf16 on the wire on ${row% *} ranks: ${row#* } times the gradients in 2 bytes" python3 -c 'import json, sys
memory = json.load(open("out"))["phases"][0]["memory_bytes"]
block = memory["gradients"] / memory["gradient_blocks"]
parts = sum(n for name, n in memory.items() if name not in ("gradient_blocks", "copy_owned", "total"))
sys.exit(not (abs(memory["wire_errors"] - block / 2 * float(sys.argv[1])) < 16 and parts == memory["total"]))' "${row#* }"
done
SLURM_JOB_ID=1 SLURM_JOB_START_TIME=$(date +%s) SLURM_JOB_END_TIME=$(($(date +%s) + 30)) alone plan job.cfg \
    --schedule full --set train.epochs=20000.0 &&
    contains "SLURM's end time counts" out 'does not fit the .* that are left: [0-9]+ submissions'

# Wrong schedules.
wrong() { # PATTERN TEXT
    printf '%b' "$2" >x.cfg
    rc=0
    alone check job.cfg --schedule x.cfg || rc=$?
    equal "$(printf '%b' "$2" | tr -s '\n ' ' ' | cut -c 1-60): exit code" 2 "$rc"
    contains "... $1" out "x\\.cfg:$1"
}
wrong '3: phases\[1\]\.train: "encoder\.layer\.12\.\*" matches no tensor \(layers are 0\.\.2\)' \
    'phases = ( { name = "a"; until = "0.5run"; train = [ "heads.*" ]; },\n { name = "b";\n  train = [ "encoder.layer.12.*" ]; } );\n'
wrong '1: phases\[0\]\.train: "heads\.sentimnt" matches no tensor .*heads are category, sentiment' \
    'phases = ( { train = [ "heads.sentimnt" ]; } );\n'
wrong '2: phases\[0\]\.tran: unknown key, did you mean "train"' 'phases = ( {\n tran = [ "heads.*" ]; } );\n'
wrong '2: phases\[1\]\.until: 0\.4run is not after' \
    'phases = ( { until = "0.5run"; },\n { until = "0.4run"; } );\n'
wrong '1: phases\[0\]\.until\.metric: there is no task named "sentimnt", did you mean "sentiment"' \
    'phases = ( { until = { metric = "dev.sentimnt.loss"; patience = 2; }; } );\n'
wrong '1: phases\[0\]: .*cache = "on" and frozen_dropout = true rule each other out' \
    'phases = ( { train = [ "heads.*" ]; cache = "on"; frozen_dropout = true; } );\n'
wrong '1: phases\[0\]: no task.s loss counts .*add "heads' 'phases = ( { train = [ "encoder.*" ]; } );\n'
wrong '1: phases\[0\]: phase "a" trains no tensor' 'phases = ( { name = "a"; freeze = [ "*" ]; } );\n'
wrong '1: train\.epochs: neither epochs nor max_steps bounds the run' \
    'train = { epochs = 0.0; }; phases = ( { until = { metric = "dev.category.accuracy"; above = 1.1; }; } );\n'
awk -F '\t' -v OFS='\t' '{ if (NR > 1) $3 = ""; print $1, $2, $3 }' table.tsv >unlabelled.tsv
rc=0
alone check job.cfg --set 'data[0].train=["unlabelled.tsv"]' --set 'tasks[1].labels=["negative","neutral","positive"]' || rc=$?
holds "a head without data is found (exit code $rc)" [ "$rc" -ne 0 ]
contains "... and named" out 'job\.cfg:[0-9]+: .*sentiment'
alone check job.cfg --schedule heads-only && contains "a good one is valid" out 'is valid'
finish

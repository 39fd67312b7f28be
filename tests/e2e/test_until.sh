#!/usr/bin/env bash
# Every way a phase can end or begin: a run resumed inside the phase, at its last step, at the
# transition and after it has the bits of the run that was never interrupted, at any rank count.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

cd "$work" || exit 1
make_base runs/base || finish
make_scheduled job.cfg runs/base
sed -i 's/epochs = 3.0/epochs = 2.0/; s/eval_every = "1ep"/eval_every = "4st"/; s/save_every = "1h"/save_every = "1st"; keep_last = 500/' job.cfg

counts=(2 3 1 4)

# interrupted NAME REASON(S) PHASES: the whole run, then resumed around every transition.
interrupted() {
    local name=$1 reasons=$2 expected ends at near dir i=0
    printf 'schedule = "%s";\nphases = ( %s );\n' "$name" "$3" >"$name.cfg"
    must 1 job.cfg -q --schedule "$name.cfg" --set "run_dir=runs/$name" || return
    expected=$(hash_of "runs/$name")
    equal "$name: phases end as declared" "$reasons" "$(phase_end_reasons "runs/$name")"
    ends=$(phase_ends "runs/$name" | sed '$d')
    for at in $ends; do
        for near in $((at - 1)) "$at" $((at + 1)); do
            [ "$near" -gt 0 ] || continue
            dir=runs/$name-$near
            rm -rf "$dir"
            resume_at "runs/$name" "$near" "$dir"
            must "${counts[i++ % 4]}" job.cfg -q --schedule "$name.cfg" --set "run_dir=$dir" || continue
            equal "$name: resumed at step $near, transition at $at: bits" "$expected" "$(hash_of "$dir")"
            equal "$name: resumed at step $near: transitions" "$(phase_ends "runs/$name" | xargs)" \
                "$(phase_ends "$dir" | xargs)"
        done
    done
}

heads='train = [ "heads.*" ]; lr = 1.0e-3;'
all='{ name = "all"; train = [ "*" ]; lr = 1.0e-3; warmup = "0.2phase"; shape = "cosine"; }'

interrupted steps "steps steps" "{ name = \"a\"; until = \"9st\"; $heads }, $all"
interrupted epochs "steps steps" "{ name = \"a\"; until = \"1.25ep\"; $heads }, $all"
interrupted run "steps steps" "{ name = \"a\"; until = \"0.4run\"; $heads }, $all"
interrupted tokens "tokens steps" "{ name = \"a\"; until = \"2000tok\"; $heads }, $all"
interrupted time "time steps" "{ name = \"a\"; until = { length = \"0.0002s\"; }; $heads }, $all"
interrupted threshold "threshold steps" \
    "{ name = \"a\"; until = { metric = \"dev.category.accuracy\"; above = 0.01; }; $heads }, $all"
interrupted plateau "plateau steps" \
    "{ name = \"a\"; until = { metric = \"mean(dev.accuracy)\"; patience = 2; min_delta = 1.0; }; $heads }, $all"
interrupted several "plateau steps" \
    "{ name = \"a\"; until = ( \"0.9run\", \"1h\", { metric = \"dev.category.loss\"; patience = 1; min_delta = 100.0; } ); $heads }, $all"
interrupted best "steps steps" \
    "{ name = \"a\"; until = \"0.5run\"; $heads }, { name = \"b\"; start_from = \"best\"; train = [ \"*\" ]; lr = 5.0e-3; }"
interrupted refrozen "steps steps steps" \
    "{ name = \"a\"; until = \"0.3run\"; train = [ \"*\" ]; lr = 1.0e-3; },
     { name = \"b\"; until = \"0.6run\"; $heads cache = \"on\"; }, $all"
for state in keep reset reset_new; do
    interrupted "$state" "steps steps" "{ name = \"a\"; until = \"0.4run\"; $heads },
        { name = \"b\"; train = [ \"*\" ]; lr = 1.0e-3; optimizer_state = \"$state\"; }"
done
equal "reset_new keeps what was trained before, as keep does; reset does not" 2 \
    "$(for s in keep reset reset_new; do hash_of "runs/$s"; done | sort -u | wc -l)"
finish

#!/usr/bin/env bash
# Each schedule that comes along, on a job with two tasks: what it freezes keeps its bytes, what it
# trains does not, and the bits do not depend on ranks, on kills in any phase, or on the labels of a
# task whose head is frozen.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

compare=$MT_SOURCE_DIR/tests/e2e/compare_tensors.py
cd "$work" || exit 1
make_base runs/base || finish
make_scheduled job.cfg runs/base

declare -A trained=(
    [frozen]='^heads\.' [heads-only]='^heads\.' [freeze-head]='^(?!heads\.sentiment)'
    [staged]='.' [gradual]='.' [full]='.')
declare -A expected

for schedule in frozen heads-only freeze-head staged gradual full; do
    dir=runs/$schedule
    must 1 job.cfg --schedule "$schedule" --set "run_dir=$dir" || continue
    contains "$schedule: the closing summary tells of the freeze audit" out \
        'done: [0-9]+ steps .*frozen: [0-9]+ tensors verified unchanged'
    holds "$schedule: report.html is there" [ -s "$dir/report.html" ]
    must 1 export "$dir/checkpoints/latest" --to "$dir-last" # the run's own model is the best step's
    if python3 "$compare" runs/base/model "$dir-last" "${trained[$schedule]}" >tensors.out; then
        ok "$schedule: frozen tensors keep their bytes, trained ones do not ($(head -n 1 tensors.out))"
    else
        fail "$schedule: $(cat tensors.out)"
    fi
    expected[$schedule]=$(hash_of "$dir")
    for np in 2 4; do
        must "$np" job.cfg -q --schedule "$schedule" --set "run_dir=$dir-np$np" &&
            equal "$schedule: np $np gives the bits of np 1" "${expected[$schedule]}" \
                "$(hash_of "$dir-np$np")"
    done
done
equal "the schedules differ" 6 "$(printf '%s\n' "${expected[@]}" | sort -u | wc -l)"

# With the cache, and every evaluation from it, the bits do not depend on ranks either.
for schedule in heads-only staged gradual; do
    hash=
    for np in 1 2 4; do
        dir=runs/$schedule-cache$np
        must "$np" job.cfg --schedule "$schedule" --set "run_dir=$dir" --set 'cache.mode="on"' || continue
        contains "$schedule with a cache: it is filled" out 'prefix cache filled'
        [ -n "$hash" ] || hash=$(hash_of "$dir")
        equal "$schedule with a cache: np $np gives the bits of np 1" "$hash" "$(hash_of "$dir")"
    done
    dir=runs/$schedule-bf16
    must 2 job.cfg -q --schedule "$schedule" --set "run_dir=$dir" --set 'cache.mode="on"' \
        --set 'cache.precision="bf16"' &&
        contains "$schedule with a cache of bf16 trains to the end" "$dir/metrics.jsonl" '"event":"done"'
done

# Evaluation from the cache has the bits of evaluation without it: with a rate of 0 the parameters
# are the same at every evaluation.
for mode in on off; do
    must 2 job.cfg -q --schedule heads-only --set "run_dir=runs/still-$mode" \
        --set "cache.mode=\"$mode\"" --set phases.heads.lr=0.0
done
evals() { grep '"event":"eval"' "$1/metrics.jsonl" | grep -o '"loss":.*'; }
equal "evaluation from the cache gives the same bits as without it" "$(evals runs/still-off)" \
    "$(evals runs/still-on)"

# The labels of a task whose head is frozen have no influence.
awk -F '\t' -v OFS='\t' 'NR > 1 { label[NR] = $3 } { line[NR] = $0 }
    END { print line[1]; for (i = 2; i <= NR; i++) { split(line[i], f, "\t"); f[3] = label[(i * 7) % (NR - 1) + 2]; print f[1], f[2], f[3] } }' \
    table.tsv >shuffled.tsv
holds "labels were shuffled" [ "$(cut -f 3 table.tsv | md5sum)" != "$(cut -f 3 shuffled.tsv | md5sum)" ]
holds "and nothing else" [ "$(cut -f 1,2 table.tsv | md5sum)" = "$(cut -f 1,2 shuffled.tsv | md5sum)" ]
must 2 job.cfg -q --schedule freeze-head --set run_dir=runs/shuffled --set 'data[0].train=["shuffled.tsv"]' &&
    equal "freeze-head: the frozen task's labels change no bit" "${expected[freeze-head]}" \
        "$(hash_of runs/shuffled)"
must 2 job.cfg -q --schedule full --set run_dir=runs/shuffled-full --set 'data[0].train=["shuffled.tsv"]' &&
    holds "full: they do" [ "${expected[full]}" != "$(hash_of runs/shuffled-full)" ]
must 1 job.cfg -q --schedule freeze-head --set run_dir=runs/other-head --set frozen_head=category &&
    must 1 export runs/other-head/checkpoints/latest --to runs/other-head-last &&
    python3 "$compare" runs/base/model runs/other-head-last '^(?!heads\.category)' >tensors.out &&
    ok "freeze-head: --set frozen_head chooses the head" || fail "frozen_head: $(cat tensors.out)"

# kill -9 in every phase of every schedule, resumed at another rank count.
counts=(2 3 1 4)
for schedule in heads-only freeze-head staged gradual full frozen; do
    dir=runs/$schedule-killed i=0
    for phase in $(grep -o '"action":"begin","phase":"[^"]*"' "runs/$schedule/metrics.jsonl" | cut -d '"' -f 8); do
        kill_in_phase "$dir" "${counts[i % 4]}" "$phase" job.cfg -q --schedule "$schedule" \
            --set "run_dir=$dir" --set 'train.save_every="2st"'
        i=$((i + 1))
    done
    must "${counts[i % 4]}" job.cfg -q --schedule "$schedule" --set "run_dir=$dir" &&
        equal "$schedule: killed in each of $i phases, same bits" "${expected[$schedule]}" \
            "$(hash_of "$dir")"
done
finish

#!/usr/bin/env bash
# What multiplies is part of the bits: one library on all ranks, and a resumed run goes on by the
# one that it had.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

cd "$work" || exit 1
make_preloaded no_amx
make_corpora .
make_job job.cfg runs/auto
sed -i 's/save_every = "1h"/save_every = "1st"; keep_last = 500/' job.cfg

without_amx() { LD_PRELOAD=$work/no_amx.so "$@"; }

must 1 job.cfg -q || finish
auto=$(hash_of runs/auto)
must 1 job.cfg -q --set run_dir=runs/native --set 'model.products="native"' || finish
native=$(hash_of runs/native)

resume_at runs/native 20 runs/native-then-auto
must 2 job.cfg -q --set run_dir=runs/native-then-auto --accept-changes &&
    equal "a run by native that is resumed with auto: bits of native" "$native" \
        "$(hash_of runs/native-then-auto)"

without_amx must 2 job.cfg -q --set run_dir=runs/none &&
    equal "without AMX auto is native" "$native" "$(hash_of runs/none)"

# The rest needs a machine that has the unit: there auto is amx.
if ! "$MTTRAIN" --version 2>&1 | grep -q 'products *amx'; then
    echo "this machine has no AMX: not tried where some ranks have it"
    finish
fi
holds "amx gives other bits than native" [ "$auto" != "$native" ]
must 3 job.cfg -q --set run_dir=runs/amx --set 'model.products="amx"' &&
    equal "auto is amx" "$auto" "$(hash_of runs/amx)"
for rank in 0 1; do
    NO_AMX_RANK=$rank without_amx must 2 job.cfg -q --set "run_dir=runs/none$rank" &&
        equal "rank $rank alone without AMX: all go by native" "$native" "$(hash_of "runs/none$rank")"
done

rc=0
NO_AMX_RANK=1 without_amx ranks 2 job.cfg -q --set run_dir=runs/asked --set 'model.products="amx"' || rc=$?
equal "amx asked for where a rank has none: exit code" 2 "$rc"
contains "and why" out 'products by amx: the processor has none'

resume_at runs/auto 20 runs/lost
NO_AMX_RANK=1 without_amx must 2 job.cfg -q --set run_dir=runs/lost &&
    contains "resumed where a rank has no AMX: says that bits change" out \
        'multiplied fp32 by amx, which not all ranks have now; going on by native' &&
    contains "and ends" runs/lost/metrics.jsonl '"event":"done"'
resume_at runs/auto 20 runs/kept
must 3 job.cfg -q --set run_dir=runs/kept &&
    equal "resumed where all have it: bits of the run left alone" "$auto" "$(hash_of runs/kept)"

finish

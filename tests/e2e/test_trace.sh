#!/usr/bin/env bash
# --trace FILE: a trace of all ranks for chosen steps, that parses, nests and changes no bit.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
check=$MT_SOURCE_DIR/tests/e2e/trace_check.py
make_corpora .
make_job job.cfg runs/plain 1.0
must 1 job.cfg || finish
expected=$(hash_of runs/plain)

# traced WHAT FILE RANKS FIRST LAST NAME...
traced() {
    local what=$1
    shift
    if python3 "$check" "$@" >checked; then ok "$what: $(tail -n 1 checked)"; else
        fail "$what:"
        sed 's/^/    /' checked
    fi
}
parts=("wait for data" lanes lane forward backward kernels bucket "wait for reduction" update)

for np in 1 3; do
    must "$np" job.cfg --set "run_dir=runs/np$np" --trace "np$np.json" --trace-steps 5-7 || continue
    traced "np $np, three steps" "np$np.json" "$np" 5 7 "${parts[@]}"
    equal "np $np, traced, gives the bits of a run without" "$expected" "$(hash_of "runs/np$np")"
done

# Two threads, evaluation and a checkpoint beside training in the last chosen step.
last=$(grep -o '"event":"done".*' runs/plain/metrics.jsonl | grep -o '"step":[0-9]*' | cut -d : -f 2)
must 2 job.cfg --set run_dir=runs/threads --set train.threads=2 --set 'train.save_every="3st"' \
    --trace threads.json --trace-steps "3-$last" &&
    traced "two threads, saves and evaluations" threads.json 2 3 "$last" "${parts[@]}" save \
        "write checkpoint" evaluation
contains "workers have rows of their own" threads.json '"name":"worker 1"'

must 1 job.cfg --set run_dir=runs/default --trace default.json &&
    traced "without --trace-steps: the second to the fourth" default.json 1 2 4

must 2 bench step --model bert-tiny --tokens 16 --sentences 4 --steps 3 --trace bench.json &&
    traced "bench step" bench.json 2 1 3 lanes forward backward bucket update

ranks 1 job.cfg --set run_dir=runs/late --trace late.json --trace-steps 100000
contains "steps that never come are told" out "no trace: none of the steps"
holds "and no file is left" [ ! -e late.json ]
ranks 1 job.cfg --set run_dir=runs/bad --trace-steps 5 --trace x.json --trace-steps=7-5
equal "steps that make no sense are refused" 2 $?
ranks 1 job.cfg --set run_dir=runs/bad --trace absent/x.json
equal "a folder that is not there is told before the run" 4 $?
finish

#!/usr/bin/env bash
# The shipped example through mpirun, shortened to one epoch, from another working folder.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
must 2 "$MT_SOURCE_DIR/jobs/quickstart.cfg" --set train.epochs=1.0 --set "run_dir=$work/run" || finish
for file in job.cfg metrics.jsonl log.txt vocab.txt checkpoints/latest/state.h5 checkpoints/best/state.h5 \
    model/config.json model/model.safetensors; do
    holds "the run leaves $file" [ -s "run/$file" ]
done
contains "both tasks are evaluated" run/metrics.jsonl '"event":"eval".*"task":"category"'
contains "both tasks are evaluated" run/metrics.jsonl '"event":"eval".*"task":"sentiment"'
holds "all three phases are run" \
    [ "$(grep -c '"action":"end"' run/metrics.jsonl)" -eq 3 ]
equal "nothing is written beside the run" "out run" "$(ls "$work" | xargs)"
echo "The app keeps crashing and I am tired of it." | timeout "$limit_s" "$MTTRAIN" predict run >said
contains "the model answers" said '"category".*"sentiment"'
finish

#!/usr/bin/env bash
# `mttrain probe` fits classifiers to any file of embeddings: the same as the schedule frozen.cfg, and
# as another implementation of the same minimum where scikit-learn is at hand.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

cd "$work" || exit 1
make_base runs/base || finish
make_scheduled job.cfg runs/base
must 2 job.cfg -q --schedule frozen --set run_dir=runs/frozen || finish
e=runs/frozen/embeddings
probe() { timeout -k 10 "$limit_s" "$MTTRAIN" probe "$@" </dev/null >out 2>&1; }

probe "$e/both-train.h5" --dev "$e/both-dev.h5" --out probe.json || fail "$(cat out)"
contains "each task has its table" out '^task sentiment: 3 classes, 160 labelled rows'
contains "the grid says which strength was chosen" out '<- chosen'
contains "convergence is reported" out 'chosen on dev: [0-9]+ iterations, converged, largest gradient'
contains "accuracy, F1 and MCC on dev" out 'dev +60 rows +loss [0-9.]+ +accuracy [0-9.]+ +f1_macro [0-9.]+ +mcc'
accuracy() { grep '"event":"probe"' runs/frozen/metrics.jsonl | grep "\"task\":\"$1\"" | grep -o '"dev_accuracy":[0-9.]*' | cut -d : -f 2; }
for task in category sentiment; do
    holds "$task: the same accuracy as in frozen.cfg" python3 -c 'import json, sys
task = [t for t in json.load(open("probe.json"))["tasks"] if t["task"] == sys.argv[1]][0]
sys.exit(not (abs(task["dev"]["accuracy"] - float(sys.argv[2])) < 1e-12 and task["reason"] == "converged"))' \
        "$task" "$(accuracy "$task")"
done
cp probe.json first.json
for threads in 1 3; do
    probe "$e/both-train.h5" --dev "$e/both-dev.h5" --out probe.json --threads "$threads"
    holds "$threads threads give the same bits" cmp first.json probe.json
done
probe "$e/both-train.h5" --task category --l2 1 --out one.json &&
    holds "--task and --l2: one task, nothing chosen" python3 -c 'import json, sys
tasks = json.load(open("one.json"))["tasks"]
sys.exit(not (len(tasks) == 1 and tasks[0]["l2"] == 1 and tasks[0]["grid"] == []))'
probe "$e/both-train.h5" && contains "without dev the strength comes from folds" out 'chosen by folds of train'

# A .npy file with labels beside it.
cut -f 1 table.tsv | tail -n +2 >text.txt
cut -f 2 table.tsv | tail -n +2 >labels.txt
alone embed runs/base --in text.txt --out text.npy || fail "$(cat out)"
probe text.npy --labels labels.txt --l2 1 --out npy.json &&
    contains "labels of a text file" out 'task label: 3 classes, 160 labelled rows'
head -n 100 labels.txt >short.txt
rc=0
probe text.npy --labels short.txt || rc=$?
equal "too few labels: exit code" 3 "$rc"
contains "... says how many" out 'short\.txt has 100 lines, but text\.npy has 160 rows'
rc=0
probe text.npy || rc=$?
equal "no labels at all: exit code" 3 "$rc"
contains "... names --labels" out 'by --labels'
rc=0
probe "$e/both-train.h5" --task catgory || rc=$?
equal "an unknown task: exit code" 2 "$rc"
rc=0
probe runs/base/model/model.safetensors || rc=$?
holds "not a file of embeddings (exit code $rc)" [ "$rc" -ne 0 ]

if python3 -c 'import numpy, sklearn' 2>/dev/null; then
    holds "scikit-learn has the same classifier" python3 - <<'END'
import json, sys
import numpy
from sklearn.linear_model import LogisticRegression
x = numpy.load("text.npy").astype(float)
y = [line.strip() for line in open("labels.txt")]
ours = json.load(open("npy.json"))["tasks"][0]
mean, std = x.mean(0), x.std(0)
fit = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000).fit((x - mean) / std, y)
theirs = fit.coef_ / std
sys.exit(not numpy.allclose(numpy.array(ours["weight"]), theirs - theirs.mean(0) + numpy.array(ours["weight"]).mean(0), atol=1e-3))
END
else
    echo "skipped: scikit-learn absent"
fi
finish

#!/usr/bin/env bash
# `mttrain compare` trains each schedule as a run of its own with the bits it has alone, shares packed
# data and caches, goes on where it was stopped, and ends in a table, a page and a picture.
. "$(dirname "$0")/e2e_tools.sh"
. "$(dirname "$0")/schedule_tools.sh"

cd "$work" || exit 1
make_base runs/base || finish
make_scheduled job.cfg runs/base
cp "$MT_SOURCE_DIR/schedules/full.cfg" mine.cfg

must 2 compare job.cfg --schedules frozen,heads-only,staged.cfg,mine.cfg || finish
cp out table.txt
for name in frozen heads-only staged mine; do
    contains "the table has $name" table.txt "^$name +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9]+"
    holds "$name is a run of its own" [ -s "runs/job/compare/$name/metrics.jsonl" ]
done
must 1 job.cfg -q --schedule staged --set run_dir=runs/alone &&
    equal "staged has the bits it has alone" "$(hash_of runs/alone)" "$(hash_of runs/job/compare/staged)"
equal "data is packed once" 2 "$(grep -c '^packed ' table.txt)"
equal "frozen's cache is filled once and found by heads-only" "1 1" \
    "$(grep -c 'prefix cache filled: .*' table.txt) $(grep -c 'prefix cache found' table.txt)"
holds "compare.html is there" [ -s runs/job/compare/compare.html ]
holds "compare.svg is well-formed" python3 -c 'import xml.dom.minidom; xml.dom.minidom.parse("runs/job/compare/compare.svg")'
holds "compare.json has all" python3 -c 'import json, sys
rows = json.load(open("runs/job/compare/compare.json"))["schedules"]
sys.exit(not ([r["name"] for r in rows] == ["frozen", "heads-only", "staged", "mine"] and
    all(r["done"] and r["seconds"] > 0 and r["trained_parameters"] > 0 and r["peak_rss_bytes"] > 0 and
        0 <= r["tasks"]["category"]["accuracy"] <= 1 for r in rows)))'

# Stopped in the second schedule, it goes on there.
timeout -k 10 "$limit_s" mpirun -np 2 "$MTTRAIN" compare job.cfg --schedules heads-only,full \
    --set run_dir=runs/stopped --set 'cache.mode="off"' </dev/null >stop.out 2>&1 &
job_pid=$!
until grep -qs '"event":"step"' runs/stopped/compare/full/metrics.jsonl || ! kill -0 "$job_pid" 2>/dev/null; do sleep 0.02; done
kill -USR1 "$(pgrep -P "$job_pid" -x mpirun)"
wait "$job_pid"
rc=$?
[ "$rc" -eq 0 ] && echo "(it was over before the signal came)" || equal "stopped: exit code" 75 "$rc"
must 3 compare job.cfg --schedules heads-only,full --set run_dir=runs/stopped --set 'cache.mode="off"' &&
    contains "the first one is not trained again" out 'heads-only is complete|is complete at step'
must 1 job.cfg -q --schedule full --set run_dir=runs/full-alone &&
    equal "the stopped one has the bits it has alone" "$(hash_of runs/full-alone)" \
        "$(hash_of runs/stopped/compare/full)"

rc=0
ranks 2 compare job.cfg --schedules full,no-such || rc=$?
equal "an unknown schedule: exit code" 2 "$rc"
contains "... is named before anything is trained" out 'cannot find the schedule no-such'
rc=0
ranks 1 compare job.cfg --schedules full,./mine/../full.cfg || rc=$?
equal "two of one name: exit code" 2 "$rc"
finish

#!/usr/bin/env bash
# Twelve jobs through one daemon at 4 ranks, three of them broken, the daemon killed once in between:
# nine are done with the bits that each gives alone, three failed with their reasons.
. "$(dirname "$0")/e2e_tools.sh"

cd "$work" || exit 1
make_slow
make_corpora .
spool=$work/spool
mkdir -p jobs "$spool/queue"

# Jobs in a spool name their files from the root, since the job file itself moves about.
for i in 01 02 03 04 05 06 07 08 09 10 11 12; do
    make_job "jobs/$i.cfg" "$work/runs/$i" 2.0
    sed -i -e "s/seed = 7/seed = $i/;s/seed = 0*/seed = /" \
        -e "s#\"\\(kinds\\|moods\\)\\([^\" ]*\\)\\.tsv\"#\"$work/\\1\\2.tsv\"#g" "jobs/$i.cfg"
done
sed -i 's/epochs = 2.0/epochs = 12.0/' jobs/06.cfg        # killed in the middle
sed -i 's/seed = 3;/seed = 3; sead = 4;/' jobs/03.cfg     # an unknown key
sed -i 's/moods-dev\.tsv/no-such-file.tsv/' jobs/07.cfg   # a missing file
sed -i 's/"personal", "fact"/"personel", "fact"/' jobs/11.cfg # a label that is not in the list
good="01 02 04 05 06 08 09 10 12" bad="03 07 11"

for i in $good; do
    must 2 "jobs/$i.cfg" --set "run_dir=$work/alone/$i"
done
for i in $good $bad; do # put, as the page says: written elsewhere on the file system, then renamed
    cp "jobs/$i.cfg" "$spool/.new-$i"
    mv "$spool/.new-$i" "$spool/queue/$i.cfg"
done

LD_PRELOAD=$slow SLOW_RUN=runs/06 SLOW_STEP_US=200000 \
    timeout -k 10 "$limit_s" mpirun -np 4 "$MTTRAIN" --spool "$spool" </dev/null >daemon1.out 2>&1 &
timeout_pid=$!
while kill -0 "$timeout_pid" 2>/dev/null; do
    grep -qs '"event":"step"' runs/06/metrics.jsonl && break
    sleep 0.02
done
mpirun_pid=$(pgrep -P "$timeout_pid" -x mpirun)
kill -9 "$mpirun_pid" $(pgrep -P "$mpirun_pid")
wait "$timeout_pid" 2>/dev/null
equal "a killed daemon leaves its job in running/" "06.cfg" "$(ls "$spool/running")"

must 4 --spool "$spool" --drain && ok "the daemon started again drains the queue with exit code 0"
cp out daemon2.out
contains "it takes the interrupted job first" <(grep -Eo 'job [0-9]+\.cfg' daemon2.out | head -n 1) '06'
equal "the queue is empty" "" "$(ls "$spool/queue")$(ls "$spool/running")"

for i in $good; do
    holds "job $i is in done/" [ -f "$spool/done/$i.cfg" ]
    equal "job $i has the bits it gives alone" "$(hash_of "alone/$i")" "$(hash_of "runs/$i")"
done
equal "no other job is in done/" 9 "$(find "$spool/done" -name '*.cfg' | wc -l)"
equal "hashes of different jobs differ" 9 "$(for i in $good; do hash_of "runs/$i"; done | sort -u | wc -l)"
for i in $bad; do
    holds "job $i is in failed/" [ -f "$spool/failed/$i.cfg" ]
done
contains "the reason names the unknown key, its place and the nearest" "$spool/failed/03.cfg.why" \
    '03\.cfg:1: .*sead.*did you mean "?seed'
contains "the reason names the missing file" "$spool/failed/07.cfg.why" 'no-such-file\.tsv'
contains "the reason names the unknown label and its place" "$spool/failed/11.cfg.why" \
    'kinds\.tsv:[0-9]+: .*personal'
left=$(find runs spool -name "*.tmp*")
equal "nothing half-written" "" "$left"

# An idle daemon ends on a signal, at once and in peace.
timeout -k 10 "$limit_s" mpirun -np 2 "$MTTRAIN" --spool "$work/idle" </dev/null >idle.out 2>&1 &
timeout_pid=$!
until grep -qs 'waiting for jobs' idle.out || ! kill -0 "$timeout_pid" 2>/dev/null; do sleep 0.1; done
kill -USR1 "$(pgrep -P "$timeout_pid" -x mpirun)"
wait "$timeout_pid"
equal "an idle daemon ends with 0 on USR1" 0 "$?"
finish

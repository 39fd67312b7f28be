#!/usr/bin/env bash
# What a start says about where its ranks run: each mistake of a launcher that costs speed is told once,
# with the mend, and a sound start is told nothing.
. "$(dirname "$0")/e2e_tools.sh"

cores=$(nproc)
if [ "$cores" -lt 2 ] || ! mpirun --version 2>/dev/null | grep -q 'Open MPI.* 4\.'; then
    echo "skipped: needs two cores and mpirun of Open MPI 4"
    exit 77
fi
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/one 1.0
sed -i "s/sentences = 16; lanes = 8/sentences = 256; lanes = 256/" job.cfg
unset OMP_NUM_THREADS
first=$(taskset -pc $$ | grep -o '[0-9]*' | sed -n 2p) # a core that we have

start() { # start COMMAND...: warnings go to the file `warnings`
    rm -rf runs
    timeout -k 10 "$limit_s" "$@" job.cfg --set train.max_steps=1 </dev/null >out 2>&1 ||
        fail "$*: $(tail -n 5 out)"
    grep '^warning:' out | grep -v sigkill_timeout >warnings
}
warns() { # warns WHAT PATTERN: that and nothing else
    contains "$1: told" warnings "$2"
    equal "$1: and nothing else" 1 "$(wc -l <warnings)"
}

start "$MTTRAIN"
equal "alone: nothing to say" "" "$(cat warnings)"
contains "alone: as many threads as cores" out "1 rank on 1 host, $cores threads? a rank"
start mpirun -np 2 --bind-to none "$MTTRAIN"
equal "two ranks that are not bound: nothing to say" "" "$(cat warnings)"
start mpirun -np 2 --bind-to none taskset -c "$first" "$MTTRAIN"
contains "two ranks on one core: told as sharing it" warnings \
    '2 ranks share 1 core on .*: they take turns, .* start fewer ranks a host'
contains "... and as bound to it" warnings \
    "ranks 0 and 1 are bound to the same core of .*, which has $(nproc --all): use --bind-to none"
equal "... and nothing else" 2 "$(wc -l <warnings)"
start mpirun -np 2 --use-hwthread-cpus --bind-to hwthread:overload-allowed --cpu-set "$first" "$MTTRAIN"
contains "mpirun --cpu-set with one core: told" warnings 'ranks 0 and 1 are bound to the same core'
if [ "$cores" -le 16 ]; then # as many processes as a test may well start
    start mpirun -np $((cores + 1)) --bind-to none "$MTTRAIN"
    warns "more ranks than cores" "$((cores + 1)) ranks share $cores cores on .*: they take turns, .* start fewer"
    start env OMP_NUM_THREADS=1 mpirun -np "$cores" --use-hwthread-cpus --bind-to hwthread "$MTTRAIN"
    equal "OMP_NUM_THREADS=1 where each rank has a core: nothing to say" "" "$(cat warnings)"
fi
# A core of one thread, or one of the threads that share a core.
start mpirun -np 1 --use-hwthread-cpus --bind-to hwthread "$MTTRAIN"
warns "one rank bound to one core" "the 1 rank on .* is bound to 1 of $cores cores, the others are idle: .*--bind-to none"
start env OMP_NUM_THREADS=1 mpirun -np 1 --bind-to none "$MTTRAIN"
warns "OMP_NUM_THREADS=1" "OMP_NUM_THREADS=1 is set for rank 0 on .* although it may use $cores cores"
finish

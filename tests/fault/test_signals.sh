#!/usr/bin/env bash
# A run under a storm of signals: none of them falls into a product, where its frame would destroy what
# kernels made at run time keep (comm/stop.c), and the result is that of the run left alone.
# SIGNALS=1000000 for more.
. "$(dirname "$0")/../e2e/e2e_tools.sh"

signals=${SIGNALS:-20000}
cd "$work" || exit 1
make_corpora .
make_job job.cfg runs/whole 200.0
sed -i 's/eval_every = "1ep"/eval_every = "50ep"/; s/hidden_size = 32/hidden_size = 64/
    s/intermediate_size = 64/intermediate_size = 128/' job.cfg

# The handlers of mttrain, but without their wish to stop.
cat >deaf.c <<'END_OF_SOURCE'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
static atomic_long caught;
static void count(int number)
{
    (void)number;
    atomic_fetch_add(&caught, 1);
}
int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    int (*real)(int, const struct sigaction *, struct sigaction *);
    struct sigaction mine;
    *(void **)&real = dlsym(RTLD_NEXT, "sigaction");
    if (action != NULL && number == SIGUSR1) {
        mine = *action;
        mine.sa_handler = count;
        action = &mine;
    }
    return real(number, action, old);
}
__attribute__((destructor)) static void tell(void)
{
    FILE *out = atomic_load(&caught) > 0 ? fopen("caught", "w") : NULL; /* MPI's helpers load it, too */
    if (out != NULL && fprintf(out, "%ld\n", atomic_load(&caught)) > 0)
        (void)fclose(out);
}
END_OF_SOURCE
if ! cc -shared -fPIC deaf.c -o deaf.so -ldl; then
    echo "skipped: no C compiler"
    exit 77
fi
alone job.cfg -q || { fail "the run left alone: $(tail -n 5 out)"; finish; }
expected=$(hash_of runs/whole)

sent=0 round=0
while [ "$sent" -lt "$signals" ] && [ "$failures" -eq 0 ]; do
    round=$((round + 1))
    rm -rf runs/storm
    LD_PRELOAD=$work/deaf.so "$MTTRAIN" job.cfg -q --set run_dir=runs/storm </dev/null >out 2>&1 &
    pid=$!
    until [ -s runs/storm/metrics.jsonl ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
    while kill -USR1 "$pid" 2>/dev/null; do
        sent=$((sent + 1))
        for ((i = 0; i < 100; i++)); do :; done # else many are taken as one
    done
    rc=0
    wait "$pid" || rc=$?
    equal "round $round: exit code" 0 "$rc"
    equal "round $round: the same bits" "$expected" "$(hash_of runs/storm)"
    echo "    $(cat caught) of $sent signals seen"
done
holds "signals were seen" [ "$(cat caught)" -gt 500 ]
finish

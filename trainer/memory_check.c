/* See memory_check.h.  Refused: trying, and failing at the first page that is not there: Linux ends
 * such a process without a word, in the middle of a run. */
#include "trainer/memory_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "trainer/available_memory.h"
#include "trainer/phase_run.h"
#include "trainer/plan/plan.h"

static const double GIB = 1073741824.0, CLOSE = 0.9;

mt_status memory_check_forecast(struct memory_need *need, const struct run *run, int32_t rank,
                                int32_t threads)
{
    struct plan_target target = {
        .ranks = run->world->size, .threads = threads, .here = true, .cache_dir = run->cache_dir};
    struct plan plan;
    mt_status st;
    memset(need, 0, sizeof *need);
    MT_TRY_GOTO(st, plan_make(&plan, run, &target), done);
    for (int32_t i = 0; i < plan.phase_count; i++) {
        const struct plan_memory *m = &plan.phase[i].memory;
        int64_t copy = rank == 0 ? m->copy : m->copy_owned, total = m->total - m->copy + copy;
        if (total <= need->total)
            continue;
        *need = (struct memory_need){.parameters = m->parameters,
                                     .gradients = m->gradients,
                                     .moments = m->moments,
                                     .wire = m->wire,
                                     .activations = m->activations,
                                     .batches = m->batches,
                                     .evaluation = m->evaluation,
                                     .copy = copy,
                                     .total = total,
                                     .phase = i};
    }
done:
    plan_release(&plan);
    return st;
}

/* What each rank tells all others. */
struct rank_memory {
    struct memory_need need;
    struct available_memory available;
    int64_t recomputing; /* bytes of activations with batch.recompute */
};

static mt_status recomputing_bytes(int64_t *bytes, const struct run *run, int32_t phase,
                                   int32_t threads)
{
    struct lanes_setup l =
        phase_run_lanes(run, &run->plan[phase], run->world->size, run->world->rank, 0);
    if (run->plan[phase].probe)
        return MT_OK;
    MT_TRY(pass_measure(bytes, &run->model, l.micro_tokens, l.max_sentences, l.train_from, true));
    *bytes *= threads < l.count ? threads : l.count;
    return MT_OK;
}

static void add_text(char *text, int64_t bytes, const char *format, ...) MT_PRINTF(3, 4);
static void add_text(char *text, int64_t bytes, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, (size_t)bytes - used, format, args);
    va_end(args);
}

/* What could be changed, with what it saves on the host. */
static void describe_mends(char *text, int64_t bytes, const struct run *run,
                           const struct memory_need *sum, int64_t recomputing, int32_t ranks)
{
    if (recomputing < sum->activations && !run->job.batch.recompute)
        add_text(text, bytes, "set batch.recompute = true (saves %.1f GiB), ",
                 (double)(sum->activations - recomputing) / GIB);
    if (sum->activations > sum->total / 8)
        add_text(text, bytes,
                 "lower batch.micro_tokens (now %lld; half of it saves up to %.1f "
                 "GiB), ",
                 (long long)run->job.batch.micro_tokens, (double)sum->activations / 2.0 / GIB);
    if (sum->gradients > sum->total / 4 && run->job.batch.lanes > run->world->size)
        add_text(text, bytes,
                 "lower batch.lanes (now %lld; a rank with fewer lanes holds fewer gradient "
                 "blocks), ",
                 (long long)run->job.batch.lanes);
    if (!run->job.optimizer.shard && run->world->size > 1)
        add_text(text, bytes, "set optimizer.shard = true (saves %.1f GiB), ",
                 (double)sum->moments * (1.0 - 1.0 / run->world->size) / GIB);
    add_text(text, bytes, "train fewer layers, ");
    if (ranks > 1)
        add_text(text, bytes, "start fewer ranks on a host, ");
}

/* Adds up the ranks of a host and judges. */
static mt_status judge(const struct run *run, const struct rank_memory *all, int32_t first)
{
    const struct comm *w = run->world;
    struct memory_need sum = {0};
    char text[640] = "", mends[512] = "";
    int64_t recomputing = 0, available = -1;
    int32_t ranks = 0;
    for (int32_t r = first; r < w->size; r++) {
        const struct memory_need *n = &all[r].need;
        if (comm_node_of(w, r) != comm_node_of(w, first))
            continue;
        sum.parameters += n->parameters;
        sum.gradients += n->gradients;
        sum.moments += n->moments;
        sum.wire += n->wire;
        sum.activations += n->activations;
        sum.batches += n->batches;
        sum.evaluation += n->evaluation;
        sum.copy += n->copy;
        sum.total += n->total;
        recomputing += all[r].recomputing;
        ranks++;
        if (available < 0 || all[r].available.bytes < available)
            available = all[r].available.bytes;
    }
    if (available < 0 || (double)sum.total <= CLOSE * (double)available)
        return MT_OK;
    describe_mends(mends, (int64_t)sizeof mends, run, &sum, recomputing, ranks);
    (void)snprintf(text, sizeof text,
                   "phase \"%s\" needs %.1f GiB on host %s (%d rank%s: parameters %.1f, gradients "
                   "%.1f, moments %.1f, errors of bf16 wire %.1f, activations %.1f, batches %.1f, "
                   "evaluation %.1f, copy to "
                   "save from %.1f), and %.1f GiB are left there (%s)",
                   run->job.schedule.phase[all[first].need.phase].name, (double)sum.total / GIB,
                   comm_host(w, first), ranks, ranks == 1 ? "" : "s", (double)sum.parameters / GIB,
                   (double)sum.gradients / GIB, (double)sum.moments / GIB, (double)sum.wire / GIB,
                   (double)sum.activations / GIB, (double)sum.batches / GIB,
                   (double)sum.evaluation / GIB, (double)sum.copy / GIB, (double)available / GIB,
                   all[first].available.source);
    if (sum.total > available && run->job.train.memory_check)
        return MT_FAIL(MT_CONFIG,
                       "the run does not fit: %s; %sor start it all the same with --set "
                       "train.memory_check=false",
                       text, mends);
    if (w->rank == 0)
        log_warning("memory is short: %s", text);
    return MT_OK;
}

mt_status memory_check(const struct run *run, int32_t threads)
{
    const struct comm *w = run->world;
    struct rank_memory mine = {.recomputing = 0}, *all = NULL;
    mt_status st = memory_check_forecast(&mine.need, run, w->rank, threads);
    if (st == MT_OK)
        st = recomputing_bytes(&mine.recomputing, run, mine.need.phase, threads);
    if (st == MT_OK)
        st = mt_alloc(&all, w->size, sizeof *all, "what ranks need");
    MT_TRY_GOTO(st, comm_agree(w, st), done);
    available_memory_find(&mine.available, "");
    MT_TRY_GOTO(st, comm_allgather(w, &mine, (int64_t)sizeof mine, all), done);
    for (int32_t host = 0; host < w->node_count && st == MT_OK; host++) {
        int32_t first = 0;
        while (comm_node_of(w, first) != host)
            first++;
        st = judge(run, all, first);
    }
    st = comm_agree(w, st);
done:
    mt_free(&all);
    return st;
}

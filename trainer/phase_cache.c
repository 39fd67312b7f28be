/* See phase_cache.h. */
#include "trainer/phase_cache.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/exchange.h"
#include "io/file.h"
#include "io/prefix_file.h"
#include "trainer/decisions.h"
#include "trainer/events.h"

static const double VISITS_WORTH_IT = 1.5;

struct prefix_setup phase_cache_setup(const struct run *run, const struct phase_plan *plan)
{
    int32_t pooled = run->model.config.num_hidden_layers + 1;
    struct prefix_setup setup = {.world = run->world,
                                 .model = &run->model,
                                 .params = run->params,
                                 .corpora = &run->corpora,
                                 .pool = run->pool,
                                 .depth = plan->train_from < pooled ? plan->train_from : pooled,
                                 .dir = run->cache_dir,
                                 .memory_bytes = run->job.cache.memory_bytes,
                                 .bf16 = run->job.cache.precision == JOB_BF16};
    for (int32_t set = 0; set < run->job.data_count; set++)
        setup.used[set] = plan->rows[set] > 0;
    return setup;
}

bool phase_cache_pays(const struct run *run, const struct phase_plan *plan, int64_t steps,
                      int64_t bytes, int64_t free_bytes, const char **why)
{
    double rows = 0.0;
    for (int32_t set = 0; set < run->job.data_count; set++)
        rows += (double)plan->rows[set];
    double visits = (double)steps * (double)plan->phase->sentences / rows;
    if (!plan->probe && visits < VISITS_WORTH_IT) {
        *why = "sentences are hardly visited twice";
        return false;
    }
    if (free_bytes >= 0 && (double)bytes > 0.9 * (double)free_bytes) {
        *why = "it would not fit the disk";
        return false;
    }
    *why = "sentences are visited more than once and it fits";
    return true;
}

/* Whether the phase can have a cache at all. */
static bool is_possible(const struct phase_plan *plan, const char **why)
{
    *why = plan->train_from == 0         ? "nothing below the trained tensors is frozen"
           : plan->phase->frozen_dropout ? "frozen_dropout = true"
                                         : NULL;
    return *why == NULL;
}

mt_status phase_cache_choose(const struct run *run, const struct phase_plan *plan, int64_t steps,
                             int64_t free_bytes, bool *use, const char **why)
{
    struct prefix_setup setup = phase_cache_setup(run, plan);
    *use = is_possible(plan, why);
    if (!*use && plan->phase->cache == CACHE_ON && plan->phase->frozen_dropout)
        return MT_FAIL(MT_CONFIG, "%s: cache = on and frozen_dropout = true exclude each other",
                       plan->phase->where);
    if (!*use)
        return MT_OK;
    if (plan->phase->cache == CACHE_OFF && !plan->probe) {
        *use = false;
        *why = "cache = off";
    } else if (plan->phase->cache == CACHE_ON) {
        *why = "cache = on";
    } else {
        *use = phase_cache_pays(run, plan, steps, prefix_cache_bytes(&setup), free_bytes, why);
    }
    return MT_OK;
}

/* Root.  The decision of a first entry. */
static mt_status decide(const struct run *run, const struct phase_plan *plan, bool *use)
{
    const char *why;
    if (is_possible(plan, &why))
        MT_TRY(file_make_dir(run->cache_dir));
    MT_TRY(phase_cache_choose(run, plan, run->phase.steps, prefix_file_free_bytes(run->cache_dir),
                              use, &why));
    if (plan->train_from > 0)
        log_info("prefix cache: %s (%s)", *use ? "used" : "not used", why);
    return decisions_add_cache(run, run->machine.phase, *use);
}

mt_status phase_cache_open(struct run *run)
{
    const struct phase_plan *plan = run->phase.plan;
    int32_t *decided = &run->cache_use[run->machine.phase];
    struct prefix_cache *before = run->cache;
    run->cache = NULL;
    mt_status st = MT_OK;
    if (*decided == CACHE_UNDECIDED) {
        bool use = false;
        st = run->world->rank == 0 ? decide(run, plan, &use) : MT_OK;
        int64_t word = use;
        MT_TRY_GOTO(st, comm_agree(run->world, st), done);
        MT_TRY_GOTO(st, comm_max_i64(run->world, &word, 1), done);
        *decided = word != 0 ? CACHE_USED : CACHE_UNUSED;
    }
    if (*decided == CACHE_USED) {
        struct prefix_setup setup = phase_cache_setup(run, plan);
        if (before != NULL && prefix_cache_depth(before) <= setup.depth &&
            plan->phase->start_from != START_BEST && prefix_cache_covers(before, &setup))
            setup.lower = before;
        MT_TRY_GOTO(st, prefix_cache_open(&run->cache, &setup), done);
        event_cache(run, prefix_cache_bytes(&setup));
    }
done:
    prefix_cache_close(&before);
    return st;
}

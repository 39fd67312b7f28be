/*
 * See update.h.  Work is cut into pieces of one tensor each, so that the threads of a rank share
 * it; AdamW is element by element, so the cuts do not change a bit.
 */
#include "trainer/update.h"

#include <math.h>

#include "comm/base/memory.h"

#include "trainer/optim/adamw.h"
#include "trainer/watchdog.h"

struct update {
    struct run *run;
    float *grads;
    double lr_factor, grad_scale;
};

/* The parts of tensor e that this rank updates; calls AdamW on each. */
static void update_tensor(const struct update *u, int32_t index, int64_t begin, int64_t end)
{
    struct run *run = u->run;
    const struct phase_plan *plan = run->phase.plan;
    const struct job_optimizer *o = &run->job.optimizer;
    double steps = (double)run->adam_steps[index];
    double c1 = 1.0 - pow(o->betas.item[0], steps), c2 = 1.0 - pow(o->betas.item[1], steps);
    const struct range_list *owned = &run->phase.owned;
    for (int32_t i = 0; i < owned->count; i++) {
        int64_t from = owned->r[i].begin > begin ? owned->r[i].begin : begin;
        int64_t to = owned->r[i].end < end ? owned->r[i].end : end;
        if (from < to)
            adamw_update(run->params + from, run->adam_m + from, run->adam_v + from,
                         u->grads + from, to - from, plan->lr[index] * u->lr_factor,
                         o->betas.item[0], o->betas.item[1], o->eps, plan->weight_decay[index], c1,
                         c2, u->grad_scale);
    }
}

static mt_status update_piece(void *context, int32_t index, int32_t worker)
{
    const struct update *u = context;
    const struct update_piece *piece = &u->run->phase.piece[index];
    (void)worker;
    update_tensor(u, piece->tensor, piece->begin, piece->end);
    return MT_OK;
}

mt_status update_parameters(struct run *run, float *grads, double lr_factor, double divisor,
                            double grad_norm)
{
    const struct phase_plan *plan = run->phase.plan;
    double clip = run->job.optimizer.clip, scale = 1.0 / divisor;
    if (clip > 0.0 && clip < grad_norm + 1e-6)
        scale *= clip / (grad_norm + 1e-6);
    struct update u = {run, grads, lr_factor, scale};
    if (!run->job.optimizer.shard && !reducer_sum_is_whole(run->phase.reducer))
        MT_TRY(reducer_gather(run->phase.reducer, grads));
    watchdog_beat(WATCHDOG_UPDATE);
    for (int32_t i = 0; i < run->model.table.count; i++)
        if (plan->trainable[i])
            run->adam_steps[i]++;
    MT_TRY(pool_run(run->pool, update_piece, &u, run->phase.piece_count));
    if (run->job.optimizer.shard) {
        watchdog_beat(WATCHDOG_REDUCE);
        MT_TRY(reducer_gather(run->phase.reducer, run->params));
    }
    return MT_OK;
}

mt_status update_gather_moments(struct run *run)
{
    if (!run->job.optimizer.shard || run->phase.reducer == NULL)
        return MT_OK;
    MT_TRY(reducer_gather(run->phase.reducer, run->adam_m));
    return reducer_gather(run->phase.reducer, run->adam_v);
}

static void drop(struct run *run, int64_t begin, int64_t end)
{
    if (begin >= end)
        return;
    mt_discard(run->adam_m, begin, end - begin, sizeof(float));
    mt_discard(run->adam_v, begin, end - begin, sizeof(float));
}

void update_drop_foreign_moments(struct run *run)
{
    const struct range_list *all = &run->phase.ranges, *owned = &run->phase.owned;
    if (!run->job.optimizer.shard || run->phase.reducer == NULL)
        return;
    for (int32_t i = 0, k = 0; i < all->count; i++) {
        int64_t begin = all->r[i].begin;
        for (; k < owned->count && owned->r[k].begin < all->r[i].end; k++) {
            drop(run, begin, owned->r[k].begin);
            begin = owned->r[k].end;
        }
        drop(run, begin, all->r[i].end);
    }
}

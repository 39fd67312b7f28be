/*
 * See nonfinite.h.  The culprits are looked for only now: each sentence of this rank's lanes goes
 * forward alone, with the dropout it had, and those whose loss is not finite are named.
 */
#include "trainer/nonfinite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"

enum { NAMED_SAMPLES = 8, ROW_TEXT_BYTES = 256 };

/* "task sentiment, tickets: shards/x.h5: row 17; ..." of this rank's bad sentences. */
static mt_status name_samples(const struct run *run, const struct step_batch *batch,
                              const struct pass_plan *plan, char *text, size_t text_bytes)
{
    struct lane_range own =
        lane_tree_range((int32_t)run->job.batch.lanes, run->world->size, run->world->rank);
    int32_t named = 0;
    size_t used = 0;
    text[0] = '\0';
    for (int32_t lane = 0; lane < own.end - own.begin; lane++) {
        const struct batch *b = &batch->lane[lane];
        for (int32_t s = 0; s < b->B && named < NAMED_SAMPLES; s++) {
            struct task_sums sums[MODEL_TASKS_MAX];
            struct batch one = batch_slice(b, s, 1);
            lanes_forward_one(run->phase.lanes, run->params, &one, plan, run->phase.boundary,
                              run->phase.boundary_context, sums);
            for (int32_t t = 0; t < run->model.task_count; t++) {
                char row[ROW_TEXT_BYTES];
                if (isfinite(sums[t].loss) || !run->phase.loss[t].active)
                    continue;
                int32_t set = (int32_t)(b->sample[s] >> 40);
                int64_t number = b->sample[s] & (((int64_t)1 << 40) - 1);
                dataset_locate(run->corpora.set[SPLIT_TRAIN][set], number, row, sizeof row);
                int n = snprintf(text + used, text_bytes - used, "%s%s: %s", used > 0 ? "; " : "",
                                 run->model.task[t].name, row);
                if (n < 0 || (size_t)n >= text_bytes - used)
                    return MT_OK;
                used += (size_t)n;
                named++;
            }
        }
    }
    return MT_OK;
}

mt_status nonfinite_handle(struct run *run, const struct step_batch *batch,
                           const struct pass_plan *plan, const struct step_report *report)
{
    char text[600];
    void *all = NULL;
    mt_status st;
    int64_t *offsets;
    MT_ALL(run->world, mt_alloc(&offsets, run->world->size + 1, sizeof *offsets, "text offsets"));
    MT_TRY_GOTO(st, name_samples(run, batch, plan, text, sizeof text), done);
    MT_TRY_GOTO(st, comm_allgatherv(run->world, text, (int64_t)strlen(text), &all, offsets), done);
    char joined[700];
    (void)snprintf(joined, sizeof joined, "%.*s",
                   (int)(offsets[run->world->size] < 680 ? offsets[run->world->size] : 680),
                   (const char *)all);
    if (joined[0] == '\0')
        (void)snprintf(joined, sizeof joined, "the loss of each sentence alone is finite");
    run->skipped_steps++;
    run->skipped_in_row++;
    if (run->job.train.nonfinite == JOB_NONFINITE_STOP || run->skipped_in_row > 10)
        st = MT_FAIL(MT_NUMERIC,
                     "step %lld (phase \"%s\"): loss %g, gradient norm %g are not finite; %s. "
                     "Lower lr, or set train.nonfinite = \"skip\"",
                     (long long)report->step, run->phase.plan->phase->name, report->loss,
                     report->grad_norm, joined);
    else
        log_warning("step %lld skipped: loss %g, gradient norm %g are not finite; %s",
                    (long long)report->step, report->loss, report->grad_norm, joined);
done:
    mt_free(&all);
    mt_free(&offsets);
    return st;
}

/*
 * See step.h.  The story of mttrain in one file:
 *
 *   take the lane batch          io/prefetch.h      read ahead by a thread of its own
 *   forward and backward         trainer/lanes.h    this rank's lanes, combined up the lane tree
 *   reduce                       comm/reduce.h      one fixed tree over all lanes, any rank count
 *   judge                        trainer/nonfinite.h  stop, skip or go back where it is not sound
 *   clip and update              trainer/update.h   AdamW on the trainable ranges
 *
 * Ranks meet twice: when the batch is ready, with the rows of the word embeddings that it uses, and
 * in the sums.  Losses and gradients are added as sums; they are divided once, by the number of
 * labels that counted over all ranks.
 */
#include "trainer/step.h"

#include <math.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "trainer/nonfinite.h"
#include "trainer/phase_run.h"
#include "trainer/phase_step.h"
#include "trainer/replay.h"
#include "trainer/trace.h"
#include "trainer/update.h"
#include "trainer/watchdog.h"

/* Adds up the lanes' losses and counts in the lane tree; all ranks get the same sums. */
static mt_status sum_losses(struct run *run, struct step_report *out, double *divisor)
{
    int32_t tasks = run->model.task_count, lanes = (int32_t)run->job.batch.lanes, width = 4 * tasks;
    double total[4 * MODEL_TASKS_MAX], loss = 0.0;
    struct lane_range own = lane_tree_range(lanes, run->world->size, run->world->rank);
    for (int32_t lane = 0; lane < own.end - own.begin; lane++) {
        const struct task_sums *sums = lanes_sums(run->phase.lanes, lane);
        for (int32_t t = 0; t < tasks; t++) {
            double *row = run->lane_rows + (int64_t)lane * width + 4 * t;
            row[0] = sums[t].loss;
            row[1] = sums[t].weight;
            row[2] = (double)sums[t].labelled;
            row[3] = (double)sums[t].correct;
        }
    }
    MT_TRY(lane_sums(run->world, lanes, width, run->lane_rows, run->lane_work, total));
    *divisor = 0.0;
    for (int32_t t = 0; t < tasks; t++) {
        out->task[t] = (struct task_sums){total[4 * t], total[4 * t + 1], (int64_t)total[4 * t + 2],
                                          (int64_t)total[4 * t + 3]};
        if (run->phase.loss[t].active) {
            loss += (double)run->phase.loss[t].weight * out->task[t].loss;
            *divisor += out->task[t].weight;
        }
    }
    out->loss = *divisor > 0.0 ? loss / *divisor : 0.0;
    return MT_OK;
}

/* Losses and gradients over all lanes of all ranks; g->sum has this rank's part of them. */
static mt_status compute(struct run *run, const struct step_batch *batch,
                         const struct pass_plan *plan, struct step_report *out,
                         struct step_gradient *g)
{
    struct phase_run *phase = &run->phase;
    struct reduce_sum sum;
    struct lanes_listener listener = phase_step_listener(run);
    int32_t roots;
    double trace_s = trace_begin(run->trace);
    struct lane_range own =
        lane_tree_range((int32_t)run->job.batch.lanes, run->world->size, run->world->rank);
    MT_TRY(phase_run_agree_rows(run, batch->lane, own.end - own.begin));
    watchdog_beat(WATCHDOG_COMPUTE);
    MT_TRY(lanes_run(phase->lanes, run->params, batch->lane, plan, phase->boundary,
                     phase->boundary_context, &listener));
    trace_end(run->trace, TRACE_LANES, TRACE_ROW_MAIN, 0, trace_s);
    trace_s = trace_begin(run->trace);
    double begin_s = clock_now_s();
    watchdog_beat(WATCHDOG_REDUCE);
    MT_TRY(reducer_finish(phase->reducer, &sum));
    MT_TRY(sum_losses(run, out, &g->divisor));
    out->wait_reduce_s = clock_now_s() - begin_s;
    trace_end(run->trace, TRACE_WAIT_REDUCTION, TRACE_ROW_MAIN, 0, trace_s);
    out->grad_norm = g->divisor > 0.0 ? sqrt(sum.norm2) / g->divisor : 0.0;
    g->sum = lanes_roots(phase->lanes, &roots)[0];
    g->finite = sum.finite && isfinite(out->loss);
    return MT_OK;
}

static mt_status take_batch(struct run *run, struct step_batch **batch)
{
    watchdog_place(run->machine.step, run->machine.phase);
    watchdog_beat(WATCHDOG_BATCH);
    double trace_s = trace_begin(run->trace);
    mt_status st = prefetch_take(run->prefetch, batch);
    watchdog_beat(WATCHDOG_BOUNDARY);
    st = comm_agree(run->world, st);
    trace_end(run->trace, TRACE_WAIT_DATA, TRACE_ROW_MAIN, 0, trace_s);
    return st;
}

mt_status train_step(struct run *run, struct step_report *out)
{
    struct step_batch *batch;
    struct pass_plan plan;
    struct step_gradient g;
    struct reducer_stats before, after;
    trace_step(run->trace, run->machine.step + 1);
    double begin_s = clock_now_s(), trace_s = trace_begin(run->trace);
    memset(out, 0, sizeof *out);
    MT_TRY(take_batch(run, &batch));
    phase_step_plan_pass(run, &out->lr_factor, &plan);
    out->step = run->machine.step + 1;
    out->sentences = batch->sentences;
    out->tokens = batch->tokens;
    out->imbalance = batch->imbalance;
    out->wait_data_s = batch->wait_s;
    out->skipped = nonfinite_passes_over(run, out->step);
    reducer_stats(run->phase.reducer, &before);

    if (!out->skipped) {
        MT_TRY(compute(run, batch, &plan, out, &g));
        if (run->replay_step == out->step)
            MT_TRY(replay_show(run, batch, &plan, out, &g));
        else
            MT_TRY(nonfinite_judge(run, batch, &plan, out, g.finite));
        if (!out->skipped && g.divisor > 0.0) {
            double update_s = trace_begin(run->trace);
            watchdog_beat(WATCHDOG_UPDATE);
            MT_TRY(update_parameters(run, g.sum, out->lr_factor, g.divisor, out->grad_norm));
            trace_end(run->trace, TRACE_UPDATE, TRACE_ROW_MAIN, 0, update_s);
        }
    }
    run->position = batch->after;
    prefetch_give_back(run->prefetch, batch);
    reducer_stats(run->phase.reducer, &after);
    out->reduced_bytes = after.bytes_sent - before.bytes_sent;
    out->hidden_reduce_s = after.hidden_s - before.hidden_s;
    out->seconds = clock_now_s() - begin_s;
    trace_end(run->trace, TRACE_STEP, TRACE_ROW_MAIN, 0, trace_s);
    return MT_OK;
}

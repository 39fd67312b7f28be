/*
 * See nonfinite.h.  The culprits are looked for only now: each sentence of this rank's lanes goes
 * forward alone, with the dropout it had, and those whose loss is not finite are named.
 *
 * A step is a function of checkpoint, job and step number, so going back and doing the same again
 * would end in the same place: what helps is to leave batches out.
 */
#include "trainer/nonfinite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"
#include "trainer/bundle.h"
#include "trainer/decisions.h"
#include "trainer/events.h"

enum { NAMED_SAMPLES = 8, ROW_TEXT_BYTES = 256, IN_ROW_MAX = 10, NEAR_STEPS = 10, TRIES = 3 };

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

/* Collective.  The same text on all ranks. */
static mt_status name_culprits(const struct run *run, const struct step_batch *batch,
                               const struct pass_plan *plan, char *joined, size_t joined_bytes)
{
    char text[600];
    void *all = NULL;
    mt_status st;
    int64_t *offsets;
    MT_ALL(run->world, mt_alloc(&offsets, run->world->size + 1, sizeof *offsets, "text offsets"));
    MT_TRY_GOTO(st, name_samples(run, batch, plan, text, sizeof text), done);
    MT_TRY_GOTO(st, comm_allgatherv(run->world, text, (int64_t)strlen(text), &all, offsets), done);
    int64_t length = offsets[run->world->size], room = (int64_t)joined_bytes - 1;
    (void)snprintf(joined, joined_bytes, "%.*s", (int)(length < room ? length : room),
                   (const char *)all);
    if (joined[0] == '\0')
        (void)snprintf(joined, joined_bytes, "the loss of each sentence alone is finite");
done:
    mt_free(&all);
    mt_free(&offsets);
    return st;
}

bool nonfinite_passes_over(const struct run *run, int64_t step)
{
    for (int32_t i = 0; i < run->skip_count; i++)
        if (step >= run->skip[i].first && step <= run->skip[i].last)
            return true;
    return false;
}

bool nonfinite_choose_span(const struct run_skip *skip, int32_t count, int64_t checkpoint,
                           int64_t step, struct run_skip *out)
{
    int32_t tries = 0;
    for (int32_t i = 0; i < count; i++)
        tries += skip[i].last > checkpoint && skip[i].last >= step - NEAR_STEPS;
    *out = (struct run_skip){tries == 0 ? step : checkpoint + 1, step};
    return tries < TRIES;
}

/* What is wrong with the step; false where nothing is.  *policy: enum job_nonfinite. */
static bool find_fault(struct run *run, const struct step_report *report, bool finite,
                       struct bundle *b, int32_t *policy)
{
    const struct job_train *train = &run->job.train;
    const char *what = "loss or gradient";
    memset(b, 0, sizeof *b);
    b->median = NAN;
    *policy = train->nonfinite;
    if (finite) {
        if (train->spike == JOB_SPIKE_OFF)
            return false;
        what = spikes_judge(&run->spikes, run->machine.phase, report->loss, report->grad_norm,
                            train->spike_factor, &b->median);
        *policy = train->spike - JOB_SPIKE_STOP + JOB_NONFINITE_STOP;
    }
    if (what == NULL) {
        spikes_add(&run->spikes, run->machine.phase, report->loss, report->grad_norm);
        return false;
    }
    static const char *const actions[] = {"stop", "skip", "rollback"};
    b->step = report->step;
    b->phase = run->machine.phase;
    b->loss = report->loss;
    b->grad_norm = report->grad_norm;
    (void)snprintf(b->kind, sizeof b->kind, "%s", finite ? "spike" : "non-finite");
    (void)snprintf(b->what, sizeof b->what, "%s", what);
    (void)snprintf(b->action, sizeof b->action, "%s", actions[*policy]);
    (void)snprintf(b->phase_name, sizeof b->phase_name, "%s", run->phase.plan->phase->name);
    return true;
}

/* Root.  Bundle and event; a bundle that cannot be written costs the bundle. */
static void record_fault(struct run *run, struct bundle *b, const struct step_batch *batch,
                         const struct step_report *report, char path[BUNDLE_PATH_BYTES])
{
    path[0] = '\0';
    mt_status st = decisions_bytes(run, &b->decisions_bytes);
    if (st == MT_OK)
        st = bundle_write(run, b, batch, report, path);
    if (st != MT_OK) {
        log_warning("no bundle for step %lld: %s", (long long)b->step, mt_error_peek()->message);
        mt_error_clear();
        path[0] = '\0';
    }
    event_anomaly(run, report, b->kind, b->action, path);
}

/* "step 7 (phase "all"): loss nan, gradient norm 3 are not finite; ..." */
static void describe(const struct bundle *b, const char *path, char *text, size_t bytes)
{
    char how[160];
    if (isnan(b->median))
        (void)snprintf(how, sizeof how, "are not finite");
    else
        (void)snprintf(how, sizeof how, "are a spike (median %s %g)", b->what, b->median);
    int n = snprintf(text, bytes,
                     "step %lld (phase \"%.60s\"): loss %g, gradient norm %g %s%s%.300s%s%.200s",
                     (long long)b->step, b->phase_name, b->loss, b->grad_norm, how,
                     b->culprits[0] != '\0' ? "; " : "", b->culprits,
                     path[0] != '\0' ? ". Look at it: mttrain replay " : "", path);
    (void)n; /* what does not fit is cut */
}

static mt_status begin_rollback(struct run *run, const struct bundle *b, const char *text)
{
    struct run_skip span;
    int64_t checkpoint = run->saver.under_way ? run->saver.step : run->last_saved_step;
    if (!nonfinite_choose_span(run->skip, run->skip_count, checkpoint, b->step, &span))
        return MT_FAIL(MT_NUMERIC, "%s. Going back to step %lld did not help %d times; lower lr",
                       text, (long long)checkpoint, TRIES);
    MT_ALL(run->world, run->world->rank == 0 ? decisions_add_skip(run, &span) : MT_OK);
    log_warning("%s: going back to step %lld, passing over the batches of steps %lld to %lld", text,
                (long long)checkpoint, (long long)span.first, (long long)span.last);
    run->rollback_due = true;
    return MT_OK;
}

mt_status nonfinite_judge(struct run *run, const struct step_batch *batch,
                          const struct pass_plan *plan, struct step_report *report, bool finite)
{
    struct bundle b;
    char path[BUNDLE_PATH_BYTES] = "", text[MT_MESSAGE_BYTES - 100];
    int32_t policy;
    if (!find_fault(run, report, finite, &b, &policy)) {
        run->skipped_in_row = 0;
        return MT_OK;
    }
    if (!finite)
        MT_TRY(name_culprits(run, batch, plan, b.culprits, sizeof b.culprits));
    if (run->world->rank == 0)
        record_fault(run, &b, batch, report, path);
    MT_TRY(comm_broadcast(run->world, path, sizeof path, 0));
    describe(&b, path, text, sizeof text);
    report->skipped = true;
    if (policy == JOB_NONFINITE_ROLLBACK)
        return begin_rollback(run, &b, text);
    run->skipped_steps++;
    run->skipped_in_row++;
    if (policy == JOB_NONFINITE_STOP || run->skipped_in_row > IN_ROW_MAX)
        return MT_FAIL(MT_NUMERIC, "%s. Lower lr, or set train.%s = \"%s\"", text,
                       finite ? "spike" : "nonfinite",
                       policy == JOB_NONFINITE_STOP ? "skip" : "rollback");
    event_warning(run, "%s: skipped", text);
    return MT_OK;
}

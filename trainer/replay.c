/*
 * See replay.h.  Each rank takes the sentences of its own lanes forward alone; rank 0 sorts what
 * all found.
 */
#include "trainer/replay.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "trainer/bundle.h"

enum { ROW_TEXT_BYTES = 512 };

/* A sentence's loss in one task. */
struct row {
    int64_t sample;
    int32_t task, tokens;
    double loss;
};

static mt_status collect_rows(const struct run *run, const struct step_batch *batch,
                              const struct pass_plan *plan, struct row **rows, int64_t *count)
{
    struct lane_range own =
        lane_tree_range((int32_t)run->job.batch.lanes, run->world->size, run->world->rank);
    int64_t room = 0;
    *count = 0;
    for (int32_t lane = 0; lane < own.end - own.begin; lane++)
        room += batch->lane[lane].B;
    MT_TRY(mt_alloc(rows, room * run->model.task_count, sizeof **rows, "losses of sentences"));
    for (int32_t lane = 0; lane < own.end - own.begin; lane++) {
        const struct batch *b = &batch->lane[lane];
        for (int32_t s = 0; s < b->B; s++) {
            struct task_sums sums[MODEL_TASKS_MAX];
            struct batch one = batch_slice(b, s, 1);
            lanes_forward_one(run->phase.lanes, run->params, &one, plan, run->phase.boundary,
                              run->phase.boundary_context, sums);
            for (int32_t t = 0; t < run->model.task_count; t++)
                if (run->phase.loss[t].active && sums[t].labelled > 0)
                    (*rows)[(*count)++] = (struct row){b->sample[s], t, one.N, sums[t].loss};
        }
    }
    return MT_OK;
}

/* What is not finite first, then the largest. */
static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    double u = isfinite(x->loss) ? x->loss : INFINITY, v = isfinite(y->loss) ? y->loss : INFINITY;
    if (u != v)
        return u < v ? 1 : -1;
    return x->sample < y->sample ? -1 : x->sample > y->sample;
}

static void print_rows(const struct run *run, struct row *rows, int64_t count)
{
    const int64_t set_bits = 40;
    qsort(rows, (size_t)count, sizeof *rows, compare_rows);
    printf("\n%-14s %-16s %6s  sentence\n", "loss", "task", "tokens");
    for (int64_t i = 0; i < count; i++) {
        char where[ROW_TEXT_BYTES] = "";
        int32_t set = (int32_t)(rows[i].sample >> set_bits);
        int64_t number = rows[i].sample & (((int64_t)1 << set_bits) - 1);
        dataset_locate(run->corpora.set[SPLIT_TRAIN][set], number, where, sizeof where);
        printf("%-14.8g %-16s %6d  %s: %s\n", rows[i].loss, run->model.task[rows[i].task].name,
               rows[i].tokens, run->job.data[set].name, where);
    }
}

static void print_norms(const struct run *run, const struct step_gradient *g)
{
    printf("\n%-14s %-14s %10s  tensor\n", "gradient norm", "largest", "not finite");
    for (int32_t i = 0; i < run->model.table.count; i++) {
        const struct tensor *e = &run->model.table.entry[i];
        double sum = 0.0, largest = 0.0;
        int64_t bad = 0;
        if (!run->phase.plan->trainable[i])
            continue;
        for (int64_t k = 0; k < e->count; k++) {
            double x = (double)g->sum[e->offset + k] / g->divisor;
            bad += !isfinite(x);
            sum += x * x;
            largest = fabs(x) > largest ? fabs(x) : largest;
        }
        printf("%-14.8g %-14.8g %10lld  %s\n", sqrt(sum), largest, (long long)bad, e->name);
    }
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void print_head(const struct run *run, const struct step_report *report)
{
    const struct bundle *b = run->replay;
    bool reproduced = same(b->loss, report->loss) && same(b->grad_norm, report->grad_norm);
    printf("step %lld, phase \"%s\": %s (%s; action %s)\n", (long long)b->step, b->phase_name,
           b->kind, b->what, b->action);
    printf("loss      now %-20.17g then %.17g\n", report->loss, b->loss);
    printf("norm      now %-20.17g then %.17g\n", report->grad_norm, b->grad_norm);
    printf("reproduced: %s\n",
           reproduced ? "yes, the same bits" : "no: other machine, kernels, job or checkpoint");
}

mt_status replay_show(struct run *run, const struct step_batch *batch, const struct pass_plan *plan,
                      struct step_report *report, const struct step_gradient *g)
{
    struct row *mine = NULL;
    void *all = NULL;
    int64_t count = 0, *offsets = NULL;
    mt_status st;
    if (!reducer_sum_is_whole(run->phase.reducer))
        MT_TRY(reducer_gather(run->phase.reducer, g->sum));
    st = mt_alloc(&offsets, run->world->size + 1, sizeof *offsets, "offsets");
    if (st == MT_OK)
        st = collect_rows(run, batch, plan, &mine, &count);
    MT_TRY_GOTO(st, comm_agree(run->world, st), done);
    MT_TRY_GOTO(st, comm_gatherv(run->world, mine, count * (int64_t)sizeof *mine, &all, offsets, 0),
                done);
    run->replayed = report->skipped = true;
    if (run->world->rank != 0)
        goto done;
    print_head(run, report);
    print_rows(run, all, offsets[run->world->size] / (int64_t)sizeof *mine);
    print_norms(run, g);
done:
    mt_free(&all);
    mt_free(&mine);
    mt_free(&offsets);
    return st;
}

/* See phase_run.h. */
#include "trainer/phase_run.h"

#include <math.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/lane_plan.h"
#include "trainer/events.h"
#include "trainer/freeze_audit.h"
#include "trainer/phase_cache.h"
#include "trainer/save.h"
#include "trainer/trace.h"
#include "trainer/update.h"
#include "trainer/watchdog.h"

static const struct phase_plan *current_plan(const struct run *run)
{
    return &run->plan[run->machine.phase];
}

/* The moments of the tensors that the phase resets begin at zero again. */
static void reset_optimizer(struct run *run, const struct phase_plan *plan)
{
    const struct tensor_table *table = &run->model.table;
    int32_t policy = plan->phase->optimizer_state;
    const uint8_t *before =
        run->machine.phase > 0 ? run->plan[run->machine.phase - 1].trainable : NULL;
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        bool fresh = before == NULL || !before[i];
        bool resets = policy == STATE_RESET || (policy == STATE_RESET_NEW && fresh);
        if (!resets || run->adam_steps[i] == 0)
            continue;
        mt_discard(run->adam_m, e->offset, e->count, sizeof(float));
        mt_discard(run->adam_v, e->offset, e->count, sizeof(float));
        run->adam_steps[i] = 0;
    }
}

static void choose_losses(struct run *run, const struct phase_plan *plan)
{
    for (int32_t t = 0; t < run->job.task_count; t++) {
        run->phase.loss[t] = run->eval_loss[t];
        run->phase.loss[t].active = plan->active[t];
        run->phase.loss[t].weight = (real)plan->loss_weight[t];
    }
}

struct lanes_setup phase_run_lanes(const struct run *run, const struct phase_plan *plan,
                                   int32_t ranks, int32_t rank, int32_t start)
{
    const struct job *job = &run->job;
    struct lane_range own = lane_tree_range((int32_t)job->batch.lanes, ranks, rank);
    int32_t longest = 1;
    for (int32_t set = 0; set < job->data_count; set++)
        if (plan->rows[set] > 0 &&
            dataset_longest_row_tokens(run->corpora.set[SPLIT_TRAIN][set]) > longest)
            longest = dataset_longest_row_tokens(run->corpora.set[SPLIT_TRAIN][set]);
    int64_t micro = job->batch.micro_tokens > longest ? job->batch.micro_tokens : longest;
    int64_t most =
        lane_plan_tokens_bound((int32_t)job->batch.lanes, (int32_t)plan->phase->sentences, longest);
    return (struct lanes_setup){.model = &run->model,
                                .pool = run->pool,
                                .lanes = (int32_t)job->batch.lanes,
                                .first = own.begin,
                                .count = own.end - own.begin,
                                .micro_tokens = (int32_t)(micro < most ? micro : most),
                                .max_sentences = (int32_t)plan->phase->sentences,
                                .start = start,
                                .recompute = job->batch.recompute,
                                .groups = job_wire_groups(job),
                                .train_from = plan->phase->frozen_dropout ? 0 : plan->train_from};
}

mt_status phase_run_choose_rows(struct run *run, const uint8_t *trainable)
{
    const struct tensor *word = &run->model.table.entry[run->model.word];
    bool wanted = run->job.reduction_rows == JOB_ROWS_SPARSE || run->job.wire == JOB_WIRE_BF16;
    if (!wanted || !trainable[run->model.word])
        return MT_OK;
    return row_set_init(&run->phase.rows, word->offset, word->shape[0], word->shape[1],
                        &run->phase.ranges);
}

const struct row_set *phase_run_rows(const struct run *run)
{
    return run->phase.rows.rows > 0 ? &run->phase.rows : NULL;
}

mt_status phase_run_agree_rows(struct run *run, const struct batch *lane, int32_t count)
{
    struct row_set *rows = &run->phase.rows;
    if (rows->rows == 0)
        return MT_OK;
    row_set_clear(rows);
    for (int32_t i = 0; i < count; i++)
        row_set_add(rows, lane[i].ids, lane[i].N);
    MT_TRY(comm_or_i64(run->world, rows->mask, rows->words));
    row_set_list(rows);
    return MT_OK;
}

static mt_status create_lanes(struct run *run, const struct phase_plan *plan)
{
    struct lanes_setup setup =
        phase_run_lanes(run, plan, run->world->size, run->world->rank, run->phase.start);
    setup.ranges = &run->phase.ranges;
    setup.trace = run->trace;
    setup.rows = phase_run_rows(run);
    return lanes_create(&run->phase.lanes, &setup);
}

/* Cuts the trainable tensors into pieces that threads update; with piece == NULL only counts. */
static int32_t cut_pieces(const struct tensor_table *table, const uint8_t *mask,
                          struct update_piece *piece)
{
    enum { PIECE_ELEMENTS = 1 << 20 };
    int32_t count = 0;
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        for (int64_t k = 0; mask[i] && k < e->count; k += PIECE_ELEMENTS) {
            int64_t end = k + PIECE_ELEMENTS < e->count ? k + PIECE_ELEMENTS : e->count;
            if (piece != NULL)
                piece[count] = (struct update_piece){i, e->offset + k, e->offset + end};
            count++;
        }
    }
    return count;
}

static mt_status enter_local(struct run *run, const struct phase_plan *plan)
{
    MT_TRY(range_list_of(&run->phase.ranges, &run->model.table, plan->trainable));
    MT_TRY(phase_run_choose_rows(run, plan->trainable));
    int32_t pieces = cut_pieces(&run->model.table, plan->trainable, NULL);
    MT_TRY(mt_alloc(&run->phase.piece, pieces, sizeof *run->phase.piece, "update pieces"));
    run->phase.piece_count = cut_pieces(&run->model.table, plan->trainable, run->phase.piece);
    MT_TRY(create_lanes(run, plan));
    struct sampler_spec spec = phase_plan_sampler(plan, &run->job);
    return prefetch_start(run->prefetch, &spec, run->machine.step, &run->position);
}

static void measure_phase(struct run *run, const struct phase_plan *plan)
{
    const struct phase_machine *m = &run->machine;
    struct phase_run *phase = &run->phase;
    phase->steps = m->phase_end_step - m->phase_begin_step;
    phase->warmup_steps =
        schedule_warmup_steps(plan->phase, &run->length, m->phase, run->run_steps, phase->steps);
    phase->decay_steps =
        schedule_decay_steps(plan->phase, &run->length, m->phase, run->run_steps, phase->steps);
}

/* What training steps need. */
static mt_status prepare_steps(struct run *run, const struct phase_plan *plan)
{
    struct reducer_options reduction = {.whole = !run->job.optimizer.shard,
                                        .watch = run->trace != NULL ? trace_bucket : NULL,
                                        .watch_context = run->trace,
                                        .wire_groups = job_wire_groups(&run->job),
                                        .bucket_elements = run->job.reduction_bucket};
    enum reduce_mode mode = run->job.reduction == JOB_REDUCTION_MPI ? REDUCE_MPI : REDUCE_EXACT;
    MT_ALL(run->world, enter_local(run, plan));
    reduction.rows = phase_run_rows(run);
    MT_TRY(reducer_create(&run->phase.reducer, run->world, (int32_t)run->job.batch.lanes, mode,
                          &run->phase.ranges, &reduction));
    if (run->job.optimizer.shard)
        MT_ALL(run->world, reducer_owned(run->phase.reducer, &run->phase.owned));
    else
        MT_ALL(run->world, range_list_of(&run->phase.owned, &run->model.table, plan->trainable));
    update_drop_foreign_moments(run);
    run->phase.owned_ranges = run->phase.owned.count;
    return comm_sum_i64(run->world, &run->phase.owned_ranges, 1);
}

mt_status phase_run_enter(struct run *run)
{
    const struct phase_plan *plan = current_plan(run);
    phase_run_leave(run);
    watchdog_beat(WATCHDOG_PHASE);
    run->phase.plan = plan;
    run->phase.begin_s = clock_now_s();
    if (run->entered != run->machine.phase) {
        if (plan->phase->start_from == START_BEST)
            MT_TRY(save_load_best(run));
        reset_optimizer(run, plan);
        run->entered = run->machine.phase;
    }
    choose_losses(run, plan);
    measure_phase(run, plan);
    event_phase_begin(run);
    MT_ALL(run->world, freeze_audit_begin(run));
    MT_TRY(phase_cache_open(run));
    if (run->cache != NULL) {
        run->phase.boundary = prefix_cache_read_train;
        run->phase.boundary_context = run->cache;
        run->phase.start = prefix_cache_depth(run->cache);
    }
    return plan->probe ? MT_OK : prepare_steps(run, plan);
}

mt_status phase_run_rehearse(struct run *run, lanes_boundary boundary, void *context, int32_t start)
{
    const struct phase_plan *plan = current_plan(run);
    phase_run_leave(run);
    run->phase.plan = plan;
    run->phase.begin_s = clock_now_s();
    run->phase.boundary = boundary;
    run->phase.boundary_context = context;
    run->phase.start = start;
    choose_losses(run, plan);
    measure_phase(run, plan);
    MT_ALL(run->world, freeze_audit_begin(run));
    return prepare_steps(run, plan);
}

void phase_run_leave(struct run *run)
{
    struct phase_run *phase = &run->phase;
    if (phase->plan == NULL)
        return;
    prefetch_stop(run->prefetch);
    reducer_destroy(&phase->reducer);
    lanes_destroy(&phase->lanes);
    row_set_release(&phase->rows);
    range_list_release(&phase->ranges);
    range_list_release(&phase->owned);
    mt_free(&phase->piece);
    checkpoint_base_release(&phase->base);
    mt_free(&phase->frozen_hash);
    mt_free(&phase->touched);
    memset(phase, 0, sizeof *phase);
}

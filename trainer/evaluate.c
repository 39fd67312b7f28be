/*
 * See evaluate.h.  Blocks are dealt to ranks round robin and to threads one by one; between rounds
 * the ranks meet once to ask whether a stop was wished for.
 */
#include "trainer/evaluate.h"

#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "trainer/row_blocks.h"
#include "trainer/watchdog.h"

enum { ROUND_BLOCKS = 8 }; /* a round: so many blocks a thread */

struct worker {
    struct pass *pass;
    struct batch batch;
    real *boundary;  /* what a prefix cache gives for a block */
    int64_t *counts; /* counts and confusion tables of all tasks, see task_space */
};

/* Where a task's numbers lie in a worker's counts. */
struct task_space {
    int64_t counts, confusion; /* confusion -1 = none */
};

struct evaluator {
    struct evaluator_setup setup;
    int32_t threads, tasks;
    struct worker *worker;
    struct task_space space[MODEL_TASKS_MAX];
    int64_t space_elements;
    int64_t *total; /* [space_elements] */
    struct row_block *block[SPLIT_COUNT];
    int64_t block_count[SPLIT_COUNT];
    int64_t *sums; /* [blocks of the largest split][tasks][2] bits of loss, weight */
    struct eval_result result[MODEL_TASKS_MAX];
};

struct eval_round {
    struct evaluator *e;
    const float *params;
    const struct prefix_cache *cache;
    enum split split;
    int64_t first; /* index among this rank's blocks */
};

static bool set_has_labels(const struct corpora *c, enum split split, int32_t set)
{
    for (int32_t t = 0; t < c->task_count; t++)
        if (c->column[split][set][t] >= 0)
            return true;
    return false;
}

/* The blocks of all sets of a split that have labels; block NULL = only count. */
static int64_t cut_blocks(const struct evaluator *e, enum split split, struct row_block *block)
{
    const struct corpora *c = e->setup.corpora;
    int64_t count = 0;
    for (int32_t set = 0; set < c->set_count; set++)
        if (c->set[split][set] != NULL && set_has_labels(c, split, set))
            count += row_blocks_cut(c->set[split][set], set, block != NULL ? block + count : NULL);
    return count;
}

static int32_t most_tokens(const struct corpora *c)
{
    int32_t most = ROW_BLOCK_TOKENS;
    for (int32_t split = 0; split < SPLIT_COUNT; split++)
        for (int32_t set = 0; set < c->set_count; set++)
            if (c->set[split][set] != NULL && row_blocks_max_tokens(c->set[split][set]) > most)
                most = row_blocks_max_tokens(c->set[split][set]);
    return most;
}

static mt_status create_worker(struct evaluator *e, struct worker *w, int32_t tokens)
{
    const struct model *m = e->setup.model;
    MT_TRY(pass_create(&w->pass, m, tokens, ROW_BLOCK_SENTENCES, m->config.num_hidden_layers + 2));
    MT_TRY(batch_create(&w->batch, ROW_BLOCK_SENTENCES, tokens, e->tasks));
    MT_TRY(mt_alloc(&w->boundary, (int64_t)tokens * m->config.hidden_size, sizeof(real),
                    "a block's boundary"));
    return mt_alloc(&w->counts, e->space_elements, sizeof *w->counts, "class counts");
}

static mt_status create_parts(struct evaluator *e)
{
    const struct evaluator_setup *s = &e->setup;
    int32_t tokens = most_tokens(s->corpora);
    int64_t most_blocks = 0;
    for (int32_t t = 0; t < e->tasks; t++) {
        int64_t k = s->model->task[t].classes;
        e->space[t].counts = e->space_elements;
        e->space_elements += CLASS_COUNTS_WIDTH * k;
        e->space[t].confusion = k <= EVAL_CONFUSION_MAX ? e->space_elements : -1;
        if (k <= EVAL_CONFUSION_MAX)
            e->space_elements += k * k;
    }
    MT_TRY(mt_alloc(&e->total, e->space_elements, sizeof *e->total, "class counts"));
    MT_TRY(mt_alloc(&e->worker, e->threads, sizeof *e->worker, "evaluation workers"));
    for (int32_t i = 0; i < e->threads; i++)
        MT_TRY(create_worker(e, &e->worker[i], tokens));
    for (int32_t split = 0; split < SPLIT_COUNT; split++) {
        int64_t n = cut_blocks(e, (enum split)split, NULL);
        MT_TRY(mt_alloc(&e->block[split], n, sizeof(struct row_block), "evaluation blocks"));
        e->block_count[split] = cut_blocks(e, (enum split)split, e->block[split]);
        most_blocks = n > most_blocks ? n : most_blocks;
    }
    return mt_alloc(&e->sums, most_blocks * e->tasks * 2, sizeof *e->sums, "loss sums of blocks");
}

mt_status evaluator_create(struct evaluator **out, const struct evaluator_setup *setup)
{
    struct evaluator *e;
    MT_TRY(mt_alloc(&e, 1, sizeof *e, "the evaluator"));
    e->setup = *setup;
    e->tasks = setup->model->task_count;
    e->threads = pool_threads(setup->pool);
    mt_status st = create_parts(e);
    if (st != MT_OK)
        evaluator_destroy(&e);
    else
        *out = e;
    return st;
}

void evaluator_destroy(struct evaluator **evaluator)
{
    struct evaluator *e = *evaluator;
    if (e == NULL)
        return;
    for (int32_t i = 0; e->worker != NULL && i < e->threads; i++) {
        pass_destroy(&e->worker[i].pass);
        batch_destroy(&e->worker[i].batch);
        mt_free(&e->worker[i].boundary);
        mt_free(&e->worker[i].counts);
    }
    for (int32_t split = 0; split < SPLIT_COUNT; split++)
        mt_free(&e->block[split]);
    mt_free(&e->worker);
    mt_free(&e->total);
    mt_free(&e->sums);
    mt_free(evaluator);
}

static mt_status read_block(const struct evaluator *e, enum split split,
                            const struct row_block *block, struct batch *batch)
{
    const struct corpora *c = e->setup.corpora;
    const struct dataset *d = c->set[split][block->set];
    MT_TRY(row_blocks_read(d, block, batch));
    for (int32_t t = 0; t < e->tasks; t++) {
        int32_t column = c->column[split][block->set][t];
        for (int32_t i = 0; column >= 0 && i < block->rows; i++)
            batch_labels(batch, t)[i] = dataset_label(d, column, block->first_row + i);
    }
    return MT_OK;
}

static int32_t largest(const real *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t k = 1; k < n; k++)
        if (x[k] > x[best])
            best = k;
    return best;
}

static void count_block(const struct evaluator *e, struct worker *w)
{
    for (int32_t t = 0; t < e->tasks; t++) {
        int32_t classes = e->setup.model->task[t].classes;
        const int32_t *labels = batch_labels(&w->batch, t);
        const real *logits = pass_logits(w->pass, t);
        struct class_counts counts = class_counts_view(w->counts + e->space[t].counts, classes);
        for (int32_t b = 0; b < w->batch.B; b++) {
            if (labels[b] < 0)
                continue;
            int32_t predicted = largest(logits + (int64_t)b * classes, classes);
            class_counts_add(&counts, labels[b], predicted);
            if (e->space[t].confusion >= 0)
                w->counts[e->space[t].confusion + (int64_t)labels[b] * classes + predicted]++;
        }
    }
}

static mt_status eval_block(void *context, int32_t index, int32_t worker)
{
    const struct eval_round *round = context;
    struct evaluator *e = round->e;
    struct worker *w = &e->worker[worker];
    int64_t number = (round->first + index) * e->setup.world->size + e->setup.world->rank;
    struct task_sums sums[MODEL_TASKS_MAX];
    struct pass_plan plan = {.train_from = e->setup.model->config.num_hidden_layers + 2,
                             .loss = e->setup.loss};
    MT_TRY(read_block(e, round->split, &e->block[round->split][number], &w->batch));
    const real *boundary = NULL;
    if (prefix_cache_has(round->cache, round->split, e->block[round->split][number].set)) {
        plan.start = prefix_cache_depth(round->cache);
        prefix_cache_read(round->cache, round->split, &w->batch, w->boundary);
        boundary = w->boundary;
    }
    pass_forward(w->pass, round->params, &w->batch, &plan, boundary);
    pass_sums(w->pass, sums);
    for (int32_t t = 0; t < e->tasks; t++) {
        double pair[2] = {sums[t].loss, sums[t].weight};
        memcpy(e->sums + (number * e->tasks + t) * 2, pair, sizeof pair);
    }
    count_block(e, w);
    return MT_OK;
}

/* All of this rank's blocks, in rounds. */
static mt_status run_blocks(struct evaluator *e, enum split split, const float *params,
                            const struct prefix_cache *cache)
{
    const struct comm *world = e->setup.world;
    int64_t all = e->block_count[split], most = (all + world->size - 1) / world->size;
    int64_t mine = (all - world->rank + world->size - 1) / world->size;
    int64_t round_blocks = (int64_t)ROUND_BLOCKS * e->threads;
    struct eval_round round = {e, params, cache, split, 0};
    struct log_progress progress;
    progress_begin(&progress, "evaluating", "blocks", 0);
    for (round.first = 0; round.first < most; round.first += round_blocks) {
        int64_t left = mine - round.first;
        int32_t count = (int32_t)(left < 0 ? 0 : left < round_blocks ? left : round_blocks);
        enum stop_reason reason;
        watchdog_beat(WATCHDOG_EVALUATE);
        mt_status st = pool_run(e->setup.pool, eval_block, &round, count);
        watchdog_beat(WATCHDOG_BOUNDARY);
        MT_TRY(comm_agree(world, st));
        MT_TRY(stop_agree(world, &reason));
        if (reason != STOP_NONE) {
            progress_end(&progress);
            return MT_FAIL(MT_STOPPED, "stopped by %s during evaluation", stop_reason_text(reason));
        }
        progress_show(&progress, (round.first + count) * world->size, all, split_name(split));
    }
    progress_end(&progress);
    return MT_OK;
}

static void fill_result(struct evaluator *e, enum split split, int32_t t, struct eval_result *r)
{
    int32_t classes = e->setup.model->task[t].classes;
    double loss = 0.0, weight = 0.0;
    for (int64_t b = 0; b < e->block_count[split]; b++) {
        double pair[2];
        memcpy(pair, e->sums + (b * e->tasks + t) * 2, sizeof pair);
        loss += pair[0];
        weight += pair[1];
    }
    r->task = t;
    r->loss = weight > 0.0 ? loss / weight : 0.0;
    r->counts = class_counts_view(e->total + e->space[t].counts, classes);
    r->metrics = class_counts_metrics(&r->counts);
    r->confusion = e->space[t].confusion >= 0 ? e->total + e->space[t].confusion : NULL;
}

mt_status evaluator_run(struct evaluator *e, enum split split, const float *params,
                        const struct prefix_cache *cache, const struct eval_result **results,
                        int32_t *count)
{
    const struct comm *world = e->setup.world;
    int64_t sum_count = e->block_count[split] * e->tasks * 2;
    for (int32_t i = 0; i < e->threads; i++)
        memset(e->worker[i].counts, 0, (size_t)e->space_elements * sizeof(int64_t));
    memset(e->total, 0, (size_t)e->space_elements * sizeof(int64_t));
    memset(e->sums, 0, (size_t)sum_count * sizeof(double));
    MT_TRY(run_blocks(e, split, params, cache));
    for (int32_t i = 0; i < e->threads; i++)
        for (int64_t k = 0; k < e->space_elements; k++)
            e->total[k] += e->worker[i].counts[k];
    MT_TRY(comm_sum_i64(world, e->total, (int32_t)e->space_elements));
    /* Each number was written by one rank and its bits are zero elsewhere. */
    for (int64_t k = 0; k < sum_count; k += 1 << 20) {
        int64_t n = sum_count - k < 1 << 20 ? sum_count - k : 1 << 20;
        MT_TRY(comm_or_i64(world, e->sums + k, (int32_t)n));
    }
    *count = 0;
    for (int32_t t = 0; t < e->tasks; t++) {
        fill_result(e, split, t, &e->result[*count]);
        if (e->result[*count].metrics.count > 0)
            ++*count;
    }
    *results = e->result;
    return MT_OK;
}

/*
 * See lanes.h.
 *
 * Nodes of the tree are numbered like a heap: 1 is the root, node n has children 2n and 2n+1, lane
 * i is node lanes + i.  The thread that finishes a node looks at its sibling: if that is done too,
 * it adds right into left, gives the right block back and goes on with the parent.
 *
 * Blocks are handed out in lane order, whichever thread asks first, and a thread without one waits.
 * It never waits for ever: when no lane is being computed, all that have begun are finished, and
 * the blocks still held are the roots of their subtrees, which are counted beforehand; log2(count)
 * of them at most where the rank's lanes are a subtree, twice that where they lie across several.
 *
 * A single thread tells of its roots before the last lane's passes: what the other lanes have come
 * to, and the last lane's own block, which the reducer adds up beside the backward pass.  Refused
 * for several threads: they are in their last lanes together, and the reducer's one thread would
 * add up as many blocks as there are threads.
 */
#include "trainer/lanes.h"

#include <pthread.h>
#include <string.h>

#include "comm/base/memory.h"

struct lanes {
    struct lanes_setup setup;
    int32_t threads, tasks;
    struct pass **pass; /* [threads] */
    real **boundary;    /* [threads], room for a slice's boundary input; NULL where none is used */
    float **block;      /* [block_count] gradient blocks */
    int32_t block_count;
    struct range_list summed;  /* what passes add into: all but the gradients they set */
    int64_t *dirty;            /* [block_count][rows->words] rows that may not be zero */
    float **free_block;        /* [block_count] a stack */
    int32_t free_count, begun; /* begun: lanes that have had their block */
    float **node;              /* [2 * lanes] block of a finished node, or NULL */
    float **root;              /* [count] */
    int32_t *root_node;        /* [count] */
    int32_t root_count;
    struct task_sums *sums; /* [count][tasks] */
    pthread_mutex_t lock;
    pthread_cond_t block_freed;
    bool sync_ready;
};

struct run {
    struct lanes *l;
    const float *params;
    const struct batch *batch;
    const struct pass_plan *plan;
    lanes_boundary boundary;
    void *boundary_context;
    const struct lanes_listener *listener;
    bool early; /* it hears of the roots while the last lane is in backward */
};

/* Whether this rank adds up all of a node. */
static bool node_is_ours(const struct lanes_setup *s, int32_t node)
{
    if (node < s->groups)
        return false;
    struct lane_range below = lane_tree_lanes_of(s->lanes, node);
    return below.begin >= s->first && below.end <= s->first + s->count;
}

/* The most roots that finished lanes leave before the next one begins. */
static int32_t most_roots(const struct lanes_setup *s)
{
    int32_t first = s->first, most = 0;
    for (int32_t end = first; end < first + s->count; end++) {
        int32_t roots = 0;
        for (int32_t lane = first; lane < end; roots++) {
            int32_t node = s->lanes + lane, width = 1;
            while (node > 1 && node % 2 == 0 && lane + 2 * width <= end &&
                   node_is_ours(s, node >> 1)) {
                node >>= 1;
                width *= 2;
            }
            lane += width;
        }
        most = roots > most ? roots : most;
    }
    return most;
}

int32_t lanes_block_count(const struct lanes_setup *setup, int32_t threads)
{
    int32_t enough = threads + most_roots(setup);
    return enough < setup->count ? enough : setup->count;
}

static mt_status list_summed(struct lanes *l)
{
    const struct model *m = l->setup.model;
    uint8_t *mask;
    MT_TRY(mt_alloc(&mask, m->table.count, sizeof *mask, "a mask of tensors"));
    for (int32_t i = 0; i < m->table.count; i++) {
        const struct tensor *t = &m->table.entry[i];
        bool trains = range_list_within(l->setup.ranges, t->offset, t->offset + t->count) > 0;
        mask[i] = trains && !model_sets_gradient(m, i);
    }
    mt_status st = range_list_of(&l->summed, &m->table, mask);
    mt_free(&mask);
    return st;
}

static mt_status create_parts(struct lanes *l)
{
    const struct lanes_setup *s = &l->setup;
    MT_TRY(mt_alloc(&l->pass, l->threads, sizeof(struct pass *), "passes"));
    MT_TRY(mt_alloc(&l->boundary, l->threads, sizeof(real *), "boundary buffers"));
    MT_TRY(mt_alloc(&l->block, l->block_count, sizeof(float *), "gradient blocks"));
    MT_TRY(mt_alloc(&l->free_block, l->block_count, sizeof(float *), "free gradient blocks"));
    MT_TRY(mt_alloc(&l->node, 2 * s->lanes, sizeof(float *), "tree nodes"));
    MT_TRY(mt_alloc(&l->root, s->count, sizeof(float *), "roots"));
    MT_TRY(mt_alloc(&l->root_node, s->count, sizeof *l->root_node, "roots"));
    MT_TRY(mt_alloc(&l->sums, s->count * l->tasks, sizeof *l->sums, "sums of lanes"));
    for (int32_t i = 0; i < l->threads; i++) {
        MT_TRY((s->recompute ? pass_create_recomputing : pass_create)(
            &l->pass[i], s->model, s->micro_tokens, s->max_sentences, s->train_from));
        if (s->start > 0)
            MT_TRY(mt_alloc(&l->boundary[i],
                            (int64_t)s->micro_tokens * s->model->config.hidden_size, sizeof(real),
                            "a slice's boundary"));
    }
    if (s->rows != NULL)
        MT_TRY(mt_alloc(&l->dirty, (int64_t)l->block_count * s->rows->words, sizeof *l->dirty,
                        "rows in use"));
    MT_TRY(list_summed(l));
    for (int32_t i = 0; i < l->block_count; i++)
        MT_TRY(mt_alloc(&l->block[i], s->model->table.total, sizeof(float), "a gradient block"));
    if (pthread_mutex_init(&l->lock, NULL) != 0 || pthread_cond_init(&l->block_freed, NULL) != 0)
        return MT_FAIL(MT_NOMEM, "no lock for the lanes");
    l->sync_ready = true;
    return MT_OK;
}

mt_status lanes_create(struct lanes **out, const struct lanes_setup *setup)
{
    struct lanes *l;
    MT_TRY(mt_alloc(&l, 1, sizeof *l, "lanes"));
    l->setup = *setup;
    l->tasks = setup->model->task_count;
    l->threads = pool_threads(setup->pool);
    if (l->threads > setup->count)
        l->threads = setup->count;
    l->block_count = lanes_block_count(setup, l->threads);
    mt_status st = create_parts(l);
    if (st != MT_OK)
        lanes_destroy(&l);
    else
        *out = l;
    return st;
}

void lanes_destroy(struct lanes **lanes)
{
    struct lanes *l = *lanes;
    if (l == NULL)
        return;
    for (int32_t i = 0; l->pass != NULL && i < l->threads; i++)
        pass_destroy(&l->pass[i]);
    for (int32_t i = 0; l->boundary != NULL && i < l->threads; i++)
        mt_free(&l->boundary[i]);
    for (int32_t i = 0; l->block != NULL && i < l->block_count; i++)
        mt_free(&l->block[i]);
    if (l->sync_ready) {
        (void)pthread_mutex_destroy(&l->lock);
        (void)pthread_cond_destroy(&l->block_freed);
    }
    mt_free(&l->pass);
    mt_free(&l->boundary);
    mt_free(&l->block);
    range_list_release(&l->summed);
    mt_free(&l->dirty);
    mt_free(&l->free_block);
    mt_free(&l->node);
    mt_free(&l->root);
    mt_free(&l->root_node);
    mt_free(&l->sums);
    mt_free(lanes);
}

/* Zeros for a new lane, but where the first pass of one with sentences sets gradients.  Whatever is
 * added or received later touches rows of this step only. */
static void clear_block(struct lanes *l, float *block, bool sets)
{
    const struct row_set *rows = l->setup.rows;
    const struct range_list *ranges = sets ? &l->summed : l->setup.ranges;
    int32_t index = 0;
    for (int32_t i = 0; rows == NULL && i < ranges->count; i++) {
        const struct range *r = &ranges->r[i];
        memset(block + r->begin, 0, (size_t)(r->end - r->begin) * sizeof *block);
    }
    if (rows == NULL)
        return;
    while (l->block[index] != block)
        index++;
    int64_t *dirty = l->dirty + (int64_t)index * rows->words;
    row_set_zero(rows, ranges, dirty, block);
    memcpy(dirty, rows->mask, (size_t)rows->words * sizeof *dirty);
}

static float *take_block(struct lanes *l, int32_t index, bool sets)
{
    (void)pthread_mutex_lock(&l->lock);
    while (l->free_count == 0 || l->begun != index)
        (void)pthread_cond_wait(&l->block_freed, &l->lock);
    float *block = l->free_block[--l->free_count];
    l->begun++;
    (void)pthread_cond_broadcast(&l->block_freed); /* the next lane's turn */
    (void)pthread_mutex_unlock(&l->lock);
    clear_block(l, block, sets);
    return block;
}

/* left += right over the ranges that the step uses. */
static void add_block(const struct range_list *ranges, float *left, const float *right)
{
    for (int32_t i = 0; i < ranges->count; i++) {
        const struct range *r = &ranges->r[i];
        lane_tree_add(left + r->begin, right + r->begin, r->end - r->begin);
    }
}

static void finish_node(struct lanes *l, int32_t node, float *block)
{
    (void)pthread_mutex_lock(&l->lock);
    l->node[node] = block;
    while (node > 1 && node_is_ours(&l->setup, node >> 1) && l->node[node ^ 1] != NULL) {
        int32_t left = node & ~1;
        float *a = l->node[left], *b = l->node[left + 1];
        l->node[left] = l->node[left + 1] = NULL;
        (void)pthread_mutex_unlock(&l->lock);
        add_block(l->setup.rows != NULL ? &l->setup.rows->active : l->setup.ranges, a, b);
        (void)pthread_mutex_lock(&l->lock);
        l->free_block[l->free_count++] = b;
        (void)pthread_cond_broadcast(&l->block_freed);
        node >>= 1;
        l->node[node] = a;
    }
    (void)pthread_mutex_unlock(&l->lock);
}

/* How many sentences from `first` on are a slice: an equal share of the tokens that are left. */
static int32_t slice_length(const struct batch *b, int32_t first, int32_t max_tokens)
{
    int32_t end = first + 1, begin = b->offsets[first], left = b->offsets[b->B] - begin;
    int32_t slices = (left + max_tokens - 1) / max_tokens, share = (left + slices - 1) / slices;
    while (end < b->B && b->offsets[end] - begin < share &&
           b->offsets[end + 1] - begin <= max_tokens)
        end++;
    return end - first;
}

static void add_sums(struct task_sums *into, const struct task_sums *from, int32_t tasks)
{
    for (int32_t t = 0; t < tasks; t++) {
        into[t].loss += from[t].loss;
        into[t].weight += from[t].weight;
        into[t].labelled += from[t].labelled;
        into[t].correct += from[t].correct;
    }
}

static void collect_roots(struct lanes *l)
{
    l->root_count = 0;
    int32_t end = l->setup.first + l->setup.count;
    for (int32_t lane = l->setup.first; lane < end;) {
        int32_t node = l->setup.lanes + lane, width = 1;
        while (l->node[node] == NULL) {
            node >>= 1;
            width *= 2;
        }
        l->root_node[l->root_count] = node;
        l->root[l->root_count++] = l->node[node];
        lane += width;
    }
}

static mt_status run_lane(void *context, int32_t index, int32_t worker)
{
    struct run *run = context;
    struct lanes *l = run->l;
    const struct batch *lane = &run->batch[index];
    struct task_sums *sums = l->sums + (int64_t)index * l->tasks, slice_sums[MODEL_TASKS_MAX];
    bool backward = l->setup.ranges->elements > 0,
         early = run->early && index == l->setup.count - 1;
    struct trace_lane trace;
    memset(sums, 0, (size_t)l->tasks * sizeof *sums);
    int32_t node = l->setup.lanes + l->setup.first + index;
    float *grads = take_block(l, index, lane->B > 0);
    if (early) {
        l->node[node] = grads;
        collect_roots(l);
        run->listener->begin(run->listener->context);
    }
    trace_lane_begin(&trace, l->setup.trace, worker);
    for (int32_t first = 0; first < lane->B;) {
        int32_t count = slice_length(lane, first, l->setup.micro_tokens);
        struct batch slice = batch_slice(lane, first, count);
        real *input = NULL;
        if (run->boundary != NULL) {
            input = l->boundary[worker];
            run->boundary(run->boundary_context, &slice, input);
        }
        first += count;
        bool announces = early && first == lane->B;
        pass_forward(l->pass[worker], run->params, &slice, run->plan, input);
        pass_sums(l->pass[worker], slice_sums);
        add_sums(sums, slice_sums, l->tasks);
        if (backward && first == count)
            pass_expect_fresh(l->pass[worker]);
        if (backward)
            pass_backward(l->pass[worker], run->params, grads,
                          announces ? run->listener->done : NULL,
                          announces ? run->listener->context : NULL);
    }
    trace_lane_end(&trace, l->setup.first + index);
    if (!early)
        finish_node(l, node, grads);
    return MT_OK;
}

mt_status lanes_run(struct lanes *l, const float *params, const struct batch *batch,
                    const struct pass_plan *plan, lanes_boundary boundary, void *boundary_context,
                    const struct lanes_listener *listener)
{
    struct run run = {l,        params,           batch,    plan,
                      boundary, boundary_context, listener, listener != NULL && l->threads == 1};
    memset(l->node, 0, 2 * (size_t)l->setup.lanes * sizeof(float *));
    for (int32_t i = 0; i < l->block_count; i++)
        l->free_block[l->block_count - 1 - i] = l->block[i];
    l->free_count = l->block_count;
    l->begun = 0;
    MT_TRY(pool_run(l->setup.pool, run_lane, &run, l->setup.count));
    if (!run.early)
        collect_roots(l);
    if (listener != NULL && !run.early)
        listener->begin(listener->context);
    if (listener != NULL)
        listener->done(listener->context, 0);
    return MT_OK;
}

float *const *lanes_roots(const struct lanes *l, int32_t *count)
{
    *count = l->root_count;
    return l->root;
}

const int32_t *lanes_nodes(const struct lanes *l)
{
    return l->root_node;
}

void lanes_forward_one(struct lanes *l, const float *params, const struct batch *one,
                       const struct pass_plan *plan, lanes_boundary boundary,
                       void *boundary_context, struct task_sums *sums)
{
    if (boundary != NULL)
        boundary(boundary_context, one, l->boundary[0]);
    pass_forward(l->pass[0], params, one, plan, boundary != NULL ? l->boundary[0] : NULL);
    pass_sums(l->pass[0], sums);
}

const struct task_sums *lanes_sums(const struct lanes *l, int32_t lane_of_rank)
{
    return l->sums + (int64_t)lane_of_rank * l->tasks;
}

int64_t lanes_activation_bytes(const struct lanes *l)
{
    int64_t bytes = 0;
    for (int32_t i = 0; i < l->threads; i++)
        bytes += pass_bytes(l->pass[i]);
    return bytes;
}

int64_t lanes_gradient_bytes(const struct lanes *l)
{
    return l->block_count * l->setup.ranges->elements * (int64_t)sizeof(float);
}

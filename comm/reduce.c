/*
 * See reduce.h.
 *
 * MPI advances only inside its own calls, so a thread beside the computing one makes them: it
 * sleeps while no bucket is ready, looks and naps while buckets are under way, and naps shorter
 * once the computing thread waits for it.  With one rank, or without MPI_THREAD_MULTIPLE, the same
 * loop runs inside reducer_finish.
 *
 * The norm is made of one double per canonical block, by the block's owner, always in the same
 * order of additions; all other ranks add 0 to it, so MPI_SUM is exact whatever its order, and the
 * blocks are then added up in order by everybody.
 *
 * A rank sends its roots, (ranks-1)/ranks of n elements each, receives as much, and adds n/ranks
 * elements per root of all ranks.
 */
#include "comm/reduce.h"

#include <math.h>
#include <sched.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/hash.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"
#include "comm/reduce_kernels.h"

static const char *const path_name[REDUCE_PATH_COUNT] = {"auto", "node", "halving", "direct",
                                                         "hosts"};

static int64_t block_length(int64_t at, int64_t end)
{
    return end - at < REDUCE_BLOCK ? end - at : REDUCE_BLOCK;
}

void reduce_round(struct reducer *r, int32_t group, float *x, int64_t begin, int64_t end)
{
    struct range p;
    for (struct range_walk w = range_walk_over(r->active, begin, end); range_walk_next(&w, &p);)
        reduce_round_bf16(x + (p.begin - begin), r->lost[group] + p.begin, p.end - p.begin);
}

/* Adds the values up over n elements from flat offset `at` on, which are o elements into the slice;
 * the sum to out[n]. */
static void add_values(struct reducer *r, int64_t at, int64_t o, int64_t n, float *out)
{
    for (int32_t m = 0; m + 1 < r->values; m++) {
        float *into = r->value[r->merge[m].into] + o, *to = m + 2 < r->values ? into : out;
        reduce_add_into(to, into, r->value[r->merge[m].from] + o, n);
        if (r->groups > 0 && r->merge_group[m] > 0)
            reduce_round_bf16(to, r->lost[r->merge_group[m] - 1] + at, n);
    }
}

/* One canonical block at a time, so that what is added stays in cache until it is squared. */
static void sum_slice(struct reducer *r, const struct reduce_slice *s, bool add)
{
    int64_t block = s->first_block;
    for (int64_t at = s->begin; at < s->end; at += REDUCE_BLOCK, block++) {
        double square[REDUCE_PARTS] = {0};
        struct range p;
        struct range_walk w = range_walk_over(r->active, at, at + block_length(at, s->end));
        while (range_walk_next(&w, &p)) {
            float *out = r->root[0] + p.begin;
            if (add)
                add_values(r, p.begin, p.begin - s->begin, p.end - p.begin, out);
            if (r->groups > 0)
                reduce_round_bf16(out, r->lost[r->groups] + p.begin, p.end - p.begin);
            reduce_square_piece(square, p.begin - at, out, p.end - p.begin);
        }
        r->norm[block] = reduce_square_total(square);
    }
}

void reduce_add_slice(struct reducer *r, const struct reduce_slice *s)
{
    sum_slice(r, s, true);
}

void reduce_square_slice(struct reducer *r, const struct reduce_slice *s)
{
    sum_slice(r, s, false);
}

int32_t reduce_group_of(const struct reducer *r, int32_t node)
{
    return r->groups > 0 && node >= r->groups && node < 2 * r->groups ? node - r->groups : -1;
}

/* Rounds the groups among this rank's blocks and joins them, over elements [p.begin, p.end). */
static void join_piece(struct reducer *r, struct range p)
{
    for (int32_t i = 0; i < r->blocks; i++) {
        r->index[i] = r->node[i];
        if (reduce_group_of(r, r->node[i]) >= 0)
            reduce_round(r, reduce_group_of(r, r->node[i]), r->block[i] + p.begin, p.begin, p.end);
    }
    for (int32_t m = 0; m < r->local_merges; m++) {
        int32_t into = r->local_merge[m].into;
        lane_tree_add(r->block[into] + p.begin, r->block[r->local_merge[m].from] + p.begin,
                      p.end - p.begin);
        r->index[into] /= 2;
        if (reduce_group_of(r, r->index[into]) >= 0)
            reduce_round(r, reduce_group_of(r, r->index[into]), r->block[into] + p.begin, p.begin,
                         p.end);
    }
}

/* This rank's blocks into its roots, over a bucket. */
static void join_lanes(struct reducer *r, const struct reduce_bucket *b)
{
    for (int64_t at = b->begin; at < b->end; at += REDUCE_BLOCK) {
        struct range p;
        struct range_walk w = range_walk_over(r->active, at, at + block_length(at, b->end));
        while (range_walk_next(&w, &p))
            join_piece(r, p);
    }
}

bool reduce_start_bucket(struct reducer *r)
{
    if (r->started == r->plan.buckets)
        return false;
    const struct reduce_bucket *b = &r->plan.bucket[r->started];
    if (b->begin < (int64_t)atomic_load(&r->ready_from))
        return false;
    if (r->local_merges > 0 || r->groups > 0)
        join_lanes(r, b);
    r->started++;
    return true;
}

void reduce_rest(const struct reducer *r, int32_t *idle)
{
    enum { YIELDS = 50, SHORT_NAPS = 200 };
    bool awaited = atomic_load(&r->awaited);
    ++*idle;
    if (awaited && *idle <= YIELDS)
        (void)sched_yield();
    else
        clock_sleep_s(awaited && *idle <= SHORT_NAPS ? 10e-6 : 100e-6);
}

/* With one rank there is nothing to move: its root is the sum. */
static mt_status advance_alone(struct reducer *r, bool *moved)
{
    *moved = reduce_start_bucket(r);
    if (*moved) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, r->started - 1, 0);
        reduce_square_slice(r, &s);
        r->finished++;
    }
    return MT_OK;
}

/* Sleeps until the next bucket is ready; only where none is under way. */
static void wait_for_ready(struct reducer *r)
{
    double begin_s = clock_now_s();
    (void)pthread_mutex_lock(&r->lock);
    while (!r->closing && r->plan.bucket[r->started].begin < (int64_t)atomic_load(&r->ready_from))
        (void)pthread_cond_wait(&r->wake, &r->lock);
    (void)pthread_mutex_unlock(&r->lock);
    r->slept_s += clock_now_s() - begin_s;
}

/* Tells of buckets taken up and done since those told of. */
static void tell_watch(const struct reducer *r, int32_t *started, int32_t *finished)
{
    while (*started < r->started || *finished < r->finished) {
        bool done = *started == r->started;
        int32_t number = done ? (*finished)++ : (*started)++;
        const struct reduce_bucket *b = &r->plan.bucket[number];
        r->watch(r->watch_context, number, b->end - b->begin, done);
    }
}

static mt_status run_step(struct reducer *r)
{
    int32_t idle = 0, told_started = 0, told_finished = 0;
    r->run_s = clock_now_s();
    r->slept_s = 0.0;
    while (r->finished < r->plan.buckets) {
        bool moved = false;
        MT_TRY(r->transport != NULL ? r->transport->advance(r, &moved) : advance_alone(r, &moved));
        if (moved && r->watch != NULL)
            tell_watch(r, &told_started, &told_finished);
        if (moved)
            idle = 0;
        else if (r->threaded && r->started == r->finished)
            wait_for_ready(r);
        else
            reduce_rest(r, &idle);
        if (r->threaded && r->closing)
            return MT_FAIL(MT_BUG, "a reduction was given up in the middle of a step");
    }
    r->ended_s = clock_now_s();
    return MT_OK;
}

static void *thread_main(void *argument)
{
    struct reducer *r = argument;
    (void)pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->running && !r->closing)
            (void)pthread_cond_wait(&r->wake, &r->lock);
        if (r->closing)
            break;
        (void)pthread_mutex_unlock(&r->lock);
        mt_status st = run_step(r);
        (void)pthread_mutex_lock(&r->lock);
        r->status = st;
        if (st != MT_OK)
            mt_error_get(&r->error);
        r->running = false;
        (void)pthread_cond_signal(&r->done);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* The lanes of a rank, or on the way by hosts of all ranks of a host. */
static struct lane_range part_lanes(const struct reducer *r, int32_t part)
{
    const struct comm *c = r->comm;
    struct lane_range all = {INT32_MAX, 0};
    if (r->path != REDUCE_PATH_HOSTS)
        return lane_tree_range(r->lanes, c->size, part);
    for (int32_t p = 0; p < c->size; p++) {
        struct lane_range own = lane_tree_range(r->lanes, c->size, p);
        if (comm_node_of(c, p) == part && own.begin < all.begin)
            all.begin = own.begin;
        if (comm_node_of(c, p) == part)
            all.end = own.end;
    }
    return all;
}

/* The tree over the roots of all ranks, or all hosts. */
static mt_status plan_values(struct reducer *r)
{
    bool hosts = r->path == REDUCE_PATH_HOSTS;
    int32_t parts = hosts ? r->comm->node_count : r->comm->size;
    int32_t *nodes = NULL, found[LANE_ROOTS_MAX];
    mt_status st;
    MT_TRY(mt_alloc(&r->first_value, (int64_t)parts + 1, sizeof *r->first_value, "the roots"));
    for (int32_t p = 0; p < parts; p++)
        r->first_value[p + 1] =
            r->first_value[p] + lane_tree_roots(r->lanes, part_lanes(r, p), found);
    r->values = r->first_value[parts];
    r->roots =
        lane_tree_roots(r->lanes, lane_tree_range(r->lanes, r->comm->size, r->comm->rank), found);
    MT_TRY_GOTO(st, mt_alloc(&nodes, r->values + LANE_ROOTS_MAX, sizeof *nodes, "the nodes"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->merge, r->values, sizeof *r->merge, "the tree"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->value, r->values, sizeof *r->value, "the values"), done);
    MT_TRY_GOTO(st, mt_alloc(&r->merge_group, r->values, sizeof *r->merge_group, "the groups"),
                done);
    for (int32_t p = 0; p < parts; p++)
        (void)lane_tree_roots(r->lanes, part_lanes(r, p), nodes + r->first_value[p]);
    /* half the bytes where each part has one group, alone in its root */
    r->half = r->groups == parts && (hosts || r->path == REDUCE_PATH_DIRECT);
    for (int32_t v = 0; v < r->values; v++)
        r->half = r->half && reduce_group_of(r, nodes[v]) >= 0;
    (void)lane_tree_merges(nodes, r->values, r->merge, NULL);
    for (int32_t m = 0; m + 1 < r->values; m++)
        r->merge_group[m] = 1 + reduce_group_of(r, nodes[r->merge[m].into] /= 2);
done:
    mt_free(&nodes);
    return st;
}

/* The errors of the groups that this rank forms or, as owner of slices, helps to form. */
static mt_status make_errors(struct reducer *r)
{
    const struct comm *c = r->comm;
    int64_t end = r->ranges.count > 0 ? r->ranges.r[r->ranges.count - 1].end : 0;
    if (r->groups == 0)
        return MT_OK;
    MT_TRY(mt_alloc(&r->lost, r->groups + 1, sizeof *r->lost, "the errors of rounding"));
    for (int32_t g = 0; g <= r->groups; g++) {
        struct lane_range all = lane_tree_lanes_of(r->lanes, g < r->groups ? r->groups + g : 1);
        int32_t first = lane_tree_owner(r->lanes, c->size, all.begin);
        int32_t last = lane_tree_owner(r->lanes, c->size, all.end - 1);
        if (g == r->groups || first != last || first == c->rank)
            MT_TRY(mt_alloc(&r->lost[g], end, sizeof *r->lost[g], "the errors of rounding"));
    }
    return MT_OK;
}

static bool is_power_of_two(int32_t n)
{
    return (n & (n - 1)) == 0;
}

bool reduce_path_hosts_fits(const struct comm *c)
{
    bool neighbours = true;
    for (int32_t p = 1; p < c->size; p++)
        neighbours = neighbours && comm_node_of(c, p) >= comm_node_of(c, p - 1);
    return c->node_count > 1 && neighbours;
}

/* Path and bucket length, from what is asked for and what the world allows. */
static mt_status choose_path(struct reducer *r, enum reduce_path asked)
{
    const struct comm *c = r->comm;
    bool fits = asked != REDUCE_PATH_NODE || c->node_count == 1;
    fits = fits && (asked != REDUCE_PATH_HALVING || is_power_of_two(c->size));
    fits = fits && (asked != REDUCE_PATH_HOSTS || reduce_path_hosts_fits(c));
    if (!fits)
        return MT_FAIL(MT_BUG, "the reduction path \"%s\" does not fit %d ranks on %d hosts",
                       path_name[asked], c->size, c->node_count);
    r->path = asked;
    if (asked == REDUCE_PATH_AUTO && c->node_count == 1 && r->mode == REDUCE_EXACT)
        r->path = REDUCE_PATH_NODE;
    else if (asked == REDUCE_PATH_AUTO && r->mode == REDUCE_EXACT && c->node_count < c->size &&
             reduce_path_hosts_fits(c))
        r->path = REDUCE_PATH_HOSTS;
    else if (asked == REDUCE_PATH_AUTO && r->groups == c->size)
        r->path = REDUCE_PATH_DIRECT; /* half the bytes, which halving loses after one round */
    else if (asked == REDUCE_PATH_AUTO)
        r->path = is_power_of_two(c->size) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    if (c->size == 1)
        r->transport = NULL;
    else if (r->mode == REDUCE_MPI)
        r->transport = &reduce_transport_vendor;
    else if (r->path == REDUCE_PATH_NODE)
        r->transport = &reduce_transport_node;
    else if (r->path == REDUCE_PATH_HOSTS)
        r->transport = &reduce_transport_hosts;
    else
        r->transport =
            r->path == REDUCE_PATH_HALVING ? &reduce_transport_halving : &reduce_transport_direct;
    return MT_OK;
}

static mt_status copy_ranges(struct range_list *out, const struct range_list *from)
{
    MT_TRY(mt_alloc(&out->r, from->count, sizeof *out->r, "the reduction's ranges"));
    if (from->count > 0)
        memcpy(out->r, from->r, (size_t)from->count * sizeof *out->r);
    out->count = out->capacity = from->count;
    out->elements = from->elements;
    return MT_OK;
}

static mt_status prepare(struct reducer *r, const struct range_list *ranges,
                         const struct reducer_options *options)
{
    const struct comm *c = r->comm;
    struct lane_range mine = lane_tree_range(r->lanes, c->size, c->rank);
    r->own_lanes = mine.end - mine.begin;
    r->whole = options->whole;
    r->watch = options->watch;
    r->watch_context = options->watch_context;
    r->rows = options->rows;
    r->active = r->rows != NULL ? &r->rows->active : &r->ranges;
    r->groups = options->wire_groups;
    MT_TRY(copy_ranges(&r->ranges, ranges));
    MT_TRY(make_errors(r));
    MT_TRY(choose_path(r, options->path));
    bool halving = c->size > 1 && r->mode == REDUCE_EXACT && r->path == REDUCE_PATH_HALVING;
    MT_TRY(reduce_plan_init(
        &r->plan, ranges,
        reduce_plan_bucket_elements(r->mode == REDUCE_EXACT ? r->path : REDUCE_PATH_DIRECT,
                                    options->bucket_elements, c->size),
        c->size, halving));
    if (r->plan.blocks > INT32_MAX)
        return MT_FAIL(MT_BUG, "%lld blocks in a reduction", (long long)r->plan.blocks);
    MT_TRY(plan_values(r));
    MT_TRY(mt_alloc(&r->block, r->own_lanes, sizeof *r->block, "the lanes' blocks"));
    MT_TRY(mt_alloc(&r->node, r->own_lanes, sizeof *r->node, "the lanes' nodes"));
    MT_TRY(mt_alloc(&r->local_merge, r->own_lanes, sizeof *r->local_merge, "the lanes' tree"));
    MT_TRY(mt_alloc(&r->index, r->own_lanes, sizeof *r->index, "the lanes' indexes"));
    MT_TRY(mt_alloc(&r->counts, c->size, sizeof *r->counts, "the ranks' counts"));
    MT_TRY(mt_alloc(&r->offsets, c->size, sizeof *r->offsets, "the ranks' offsets"));
    return mt_alloc(&r->norm, r->plan.blocks, sizeof *r->norm, "the blocks' norms");
}

static mt_status start_thread(struct reducer *r)
{
    int error = pthread_create(&r->thread, NULL, thread_main, r);
    if (error != 0)
        return MT_FAIL(MT_NOMEM, "cannot start the thread of the reduction: %s", strerror(error));
    r->threaded = true;
    return MT_OK;
}

static uint64_t hash_arguments(int32_t lanes, enum reduce_mode mode,
                               const struct range_list *ranges, const struct reducer_options *o)
{
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add_int(&h, lanes);
    hash64_add_int(&h, (int64_t)mode);
    hash64_add_int(&h, o->bucket_elements);
    hash64_add_int(&h, (int64_t)o->path);
    hash64_add_int(&h, o->whole);
    hash64_add_int(&h, o->wire_groups);
    hash64_add_int(&h, o->rows != NULL ? o->rows->rows : 0);
    for (int32_t i = 0; i < ranges->count; i++) {
        hash64_add_int(&h, ranges->r[i].begin);
        hash64_add_int(&h, ranges->r[i].end);
    }
    return hash64_value(&h);
}

static mt_status create_with(struct reducer **out, const struct comm *c, int32_t lanes,
                             enum reduce_mode mode, const struct range_list *ranges,
                             const struct reducer_options *options)
{
    struct reducer *r = NULL;
    mt_status st;
    st = comm_agree(c, mt_alloc(&r, 1, sizeof *r, "the reduction"));
    if (st != MT_OK) {
        mt_free(&r);
        return st;
    }
    r->comm = c;
    r->lanes = lanes;
    r->mode = mode;
    (void)pthread_mutex_init(&r->lock, NULL);
    (void)pthread_cond_init(&r->wake, NULL);
    (void)pthread_cond_init(&r->done, NULL);
    MT_ALL_GOTO(st, c, prepare(r, ranges, options), failed);
    if (r->transport != NULL)
        MT_TRY_GOTO(st, r->transport->open(r), failed);
    if (c->threads && c->size > 1 && !options->no_thread)
        MT_ALL_GOTO(st, c, start_thread(r), failed);
    *out = r;
    return MT_OK;
failed:
    reducer_destroy(&r);
    return st;
}

mt_status reducer_create(struct reducer **out, const struct comm *c, int32_t lanes,
                         enum reduce_mode mode, const struct range_list *ranges,
                         const struct reducer_options *options)
{
    struct reducer_options chosen = {0};
    if (options != NULL)
        chosen = *options;
    MT_TRY(comm_agree_equal(c, "the plan of the reduction",
                            hash_arguments(lanes, mode, ranges, &chosen)));
    if (!lane_tree_valid(lanes, c->size))
        return MT_FAIL(MT_CONFIG,
                       "batch.lanes = %d cannot be dealt out to %d ranks: raise batch.lanes to a "
                       "power of two that is at least the number of ranks, or start fewer ranks",
                       lanes, c->size);
    int32_t groups = chosen.wire_groups;
    if (groups < 0 || groups > lanes || (groups & (groups - 1)) != 0)
        return MT_FAIL(MT_CONFIG,
                       "wire_groups = %d is no level of the tree over batch.lanes = %d: choose a "
                       "power of two that is at most batch.lanes, best the number of ranks",
                       groups, lanes);
    if (groups > 0 && mode == REDUCE_MPI)
        return MT_FAIL(MT_CONFIG, "wire = \"bf16\" needs reduction = \"exact\": the library's own "
                                  "collectives add in fp32 only");
    mt_status st = create_with(out, c, lanes, mode, ranges, &chosen);
    if (st == MT_NOMEM && chosen.path == REDUCE_PATH_AUTO && c->node_count < c->size) {
        chosen.path = is_power_of_two(c->size) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
        if (c->rank == 0)
            log_warning("%s; the ranks send messages instead", mt_error_peek()->message);
        mt_error_clear();
        st = create_with(out, c, lanes, mode, ranges, &chosen);
    }
    return st;
}

void reducer_destroy(struct reducer **reducer)
{
    struct reducer *r = *reducer;
    if (r == NULL)
        return;
    (void)pthread_mutex_lock(&r->lock);
    atomic_store(&r->closing, true);
    (void)pthread_cond_broadcast(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
    if (r->threaded)
        (void)pthread_join(r->thread, NULL);
    if (r->state != NULL)
        r->transport->close(r);
    (void)pthread_cond_destroy(&r->wake);
    (void)pthread_cond_destroy(&r->done);
    (void)pthread_mutex_destroy(&r->lock);
    reduce_plan_release(&r->plan);
    range_list_release(&r->ranges);
    for (int32_t g = 0; r->lost != NULL && g <= r->groups; g++)
        mt_free(&r->lost[g]);
    mt_free(&r->lost);
    mt_free(&r->merge_group);
    mt_free(&r->block);
    mt_free(&r->node);
    mt_free(&r->local_merge);
    mt_free(&r->index);
    mt_free(&r->first_value);
    mt_free(&r->merge);
    mt_free(&r->value);
    mt_free(&r->norm);
    mt_free(&r->counts);
    mt_free(&r->offsets);
    mt_free(reducer);
}

void reducer_begin(struct reducer *r, float *const *roots, int32_t count)
{
    int32_t nodes[LANE_ROOTS_MAX];
    struct lane_range mine = lane_tree_range(r->lanes, r->comm->size, r->comm->rank);
    if (count != lane_tree_roots(r->lanes, mine, nodes))
        __builtin_trap(); /* blocks that are not this rank's lanes: the sum would be wrong */
    reducer_begin_nodes(r, roots, nodes, count);
}

void reducer_begin_nodes(struct reducer *r, float *const *blocks, const int32_t *nodes,
                         int32_t count)
{
    if (count < r->roots || count > r->own_lanes)
        __builtin_trap(); /* as above */
    r->local_merges = lane_tree_merges(nodes, count, r->local_merge, r->index);
    if (count - r->local_merges != r->roots)
        __builtin_trap();
    memcpy(r->block, blocks, (size_t)count * sizeof *r->block);
    memcpy(r->node, nodes, (size_t)count * sizeof *r->node);
    r->blocks = count;
    for (int32_t i = 0; i < r->roots; i++)
        r->root[i] = r->block[r->index[i]];
    memset(r->norm, 0, (size_t)r->plan.blocks * sizeof *r->norm);
    r->started = r->finished = 0;
    r->status = MT_OK;
    atomic_store(&r->awaited, false);
    atomic_store(&r->ready_from, INT64_MAX);
    (void)pthread_mutex_lock(&r->lock);
    r->running = true;
    (void)pthread_cond_signal(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
}

void reducer_ready(struct reducer *r, int64_t from_offset)
{
    (void)pthread_mutex_lock(&r->lock);
    if (from_offset < (int64_t)atomic_load(&r->ready_from))
        atomic_store(&r->ready_from, from_offset);
    (void)pthread_cond_signal(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
}

static mt_status join_step(struct reducer *r)
{
    r->awaited_s = clock_now_s();
    atomic_store(&r->awaited, true);
    reducer_ready(r, INT64_MIN);
    if (!r->threaded) {
        r->running = false;
        return run_step(r);
    }
    (void)pthread_mutex_lock(&r->lock);
    while (r->running)
        (void)pthread_cond_wait(&r->done, &r->lock);
    (void)pthread_mutex_unlock(&r->lock);
    double until_s = r->ended_s < r->awaited_s ? r->ended_s : r->awaited_s;
    r->stats.hidden_s += fmax(0.0, until_s - r->run_s - r->slept_s);
    return r->status == MT_OK ? MT_OK : mt_error_set(&r->error);
}

mt_status reducer_finish(struct reducer *r, struct reduce_sum *out)
{
    double begin_s = clock_now_s(), norm2 = 0.0;
    MT_TRY(join_step(r));
    if (r->whole && r->transport != NULL && !r->transport->spreads)
        MT_TRY(r->transport->gather(r, r->root[0], true));
    if (r->comm->size > 1)
        MPI_TRY(MPI_Allreduce, MPI_IN_PLACE, r->norm, (int)r->plan.blocks, MPI_DOUBLE, MPI_SUM,
                r->comm->handles->reduce);
    for (int64_t i = 0; i < r->plan.blocks; i++)
        norm2 += r->norm[i];
    r->stats.steps++;
    r->stats.wait_s += clock_now_s() - begin_s;
    *out = (struct reduce_sum){.norm2 = norm2, .finite = isfinite(norm2)};
    return MT_OK;
}

bool reducer_sum_is_whole(const struct reducer *r)
{
    return r->whole || r->mode == REDUCE_MPI || r->comm->size == 1;
}

mt_status reducer_gather(struct reducer *r, float *block)
{
    double begin_s = clock_now_s();
    if (r->transport != NULL)
        MT_TRY(r->transport->gather(r, block, false));
    r->stats.wait_s += clock_now_s() - begin_s;
    return MT_OK;
}

mt_status reducer_owned(const struct reducer *r, struct range_list *out)
{
    if (out->capacity < r->plan.buckets) {
        MT_TRY(mt_grow(&out->r, 0, r->plan.buckets, sizeof *out->r, "the owned ranges"));
        out->capacity = r->plan.buckets;
    }
    out->count = 0;
    out->elements = 0;
    for (int32_t b = r->plan.buckets - 1; b >= 0; b--) { /* ascending offsets */
        struct reduce_slice s = reduce_plan_slice(&r->plan, b, r->comm->rank);
        if (s.begin == s.end)
            continue;
        if (out->count > 0 && out->r[out->count - 1].end == s.begin)
            out->r[out->count - 1].end = s.end;
        else
            out->r[out->count++] = (struct range){s.begin, s.end};
        out->elements += s.end - s.begin;
    }
    return MT_OK;
}

void reducer_stats(const struct reducer *r, struct reducer_stats *out)
{
    *out = r->stats;
}

enum reduce_path reducer_path(const struct reducer *r)
{
    return r->path;
}

const char *reduce_path_name(enum reduce_path path)
{
    return path_name[path];
}

double reduce_norm2(const struct range_list *ranges, const float *block)
{
    double norm2 = 0.0;
    for (int32_t i = 0; i < ranges->count; i++)
        for (int64_t at = ranges->r[i].begin; at < ranges->r[i].end; at += REDUCE_BLOCK)
            norm2 += reduce_square(block + at, block_length(at, ranges->r[i].end));
    return norm2;
}

mt_status lane_sums(const struct comm *c, int32_t lanes, int32_t width, const double *mine,
                    double *work, double *total)
{
    if (!lane_tree_valid(lanes, c->size) || (int64_t)lanes * width > INT32_MAX)
        return MT_FAIL(MT_BUG, "sums of %d values over %d lanes", width, lanes);
    for (int32_t p = 0; p < c->size; p++) {
        struct lane_range range = lane_tree_range(lanes, c->size, p);
        c->handles->counts[p] = (range.end - range.begin) * width;
        c->handles->offsets[p] = range.begin * width;
    }
    MPI_TRY(MPI_Allgatherv, mine, c->handles->counts[c->rank], MPI_DOUBLE, work, c->handles->counts,
            c->handles->offsets, MPI_DOUBLE, c->handles->main);
    lane_tree_sum_rows(lanes, width, work);
    memcpy(total, work, (size_t)width * sizeof *total);
    return MT_OK;
}

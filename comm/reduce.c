/*
 * See reduce.h: a step, from reducer_begin to reducer_finish, and the thread that drives it.  How a
 * reducer is made and which way its sums go: reduce_create.c; the additions: reduce_sums.c.
 *
 * MPI advances only inside its own calls, so a thread beside the computing one makes them: it
 * sleeps while no bucket is ready, looks and naps while buckets are under way, and naps shorter
 * once the computing thread waits for it.  With one rank, or without MPI_THREAD_MULTIPLE, the same
 * loop runs inside reducer_finish.
 */
#include "comm/reduce.h"

#include <math.h>
#include <sched.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"

bool reduce_start_bucket(struct reducer *r)
{
    if (r->started == r->plan.buckets)
        return false;
    const struct reduce_bucket *b = &r->plan.bucket[r->started];
    if (b->begin < (int64_t)atomic_load(&r->ready_from))
        return false;
    if (r->local_merges > 0 || r->groups > 0)
        reduce_join_lanes(r, b);
    r->started++;
    return true;
}

void reduce_rest(const struct reducer *r, bool moved, int32_t *idle)
{
    enum { YIELDS = 50, SHORT_NAPS = 200 };
    bool awaited = atomic_load(&r->awaited);
    *idle = moved ? 0 : *idle + 1;
    if (moved)
        return;
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
        if (!moved && r->threaded && r->started == r->finished)
            wait_for_ready(r);
        else
            reduce_rest(r, moved, &idle);
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

mt_status reduce_start_thread(struct reducer *r)
{
    int error = pthread_create(&r->thread, NULL, thread_main, r);
    if (error != 0)
        return MT_FAIL(MT_NOMEM, "cannot start the thread of the reduction: %s", strerror(error));
    r->threaded = true;
    return MT_OK;
}

void reduce_stop_thread(struct reducer *r)
{
    (void)pthread_mutex_lock(&r->lock);
    atomic_store(&r->closing, true);
    (void)pthread_cond_broadcast(&r->wake);
    (void)pthread_mutex_unlock(&r->lock);
    if (r->threaded)
        (void)pthread_join(r->thread, NULL);
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
        MT_TRY(r->transport->gather(r, block));
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

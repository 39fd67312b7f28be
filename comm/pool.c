/*
 * See pool.h.
 *
 * A run is a generation number: workers sleep until it changes, take indexes from one atomic
 * counter, and the last one out wakes the caller.  Every index below a failing one has been handed
 * out before it and is finished too, so the lowest failing index does not depend on timing.
 */
#include "comm/pool.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "comm/base/memory.h"

struct worker {
    struct pool *pool;
    pthread_t thread;
    int32_t number;
};

struct pool {
    int32_t threads;
    int32_t started; /* worker threads that exist */
    struct worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    uint64_t generation;
    int32_t busy;
    bool closing;
    pool_work work;
    void *context;
    int32_t count;
    _Atomic int64_t next;
    int32_t failed_index; /* under lock; INT32_MAX = none */
    struct mt_error error;
};

static void note_failure(struct pool *p, int32_t index)
{
    (void)pthread_mutex_lock(&p->lock);
    if (index < p->failed_index) {
        p->failed_index = index;
        mt_error_get(&p->error);
    }
    (void)pthread_mutex_unlock(&p->lock);
    atomic_store(&p->next, INT64_MAX / 2); /* hand out no more */
}

static void take_indexes(struct pool *p, int32_t number)
{
    for (;;) {
        int64_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->count)
            return;
        mt_status st = p->work(p->context, (int32_t)i, number);
        if (st != MT_OK) {
            (void)mt_error_frame(st, __func__, __FILE__, __LINE__);
            note_failure(p, (int32_t)i);
        }
    }
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct pool *p = w->pool;
    uint64_t seen = 0;
    (void)pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->closing && p->generation == seen)
            (void)pthread_cond_wait(&p->begin, &p->lock);
        if (p->closing)
            break;
        seen = p->generation;
        (void)pthread_mutex_unlock(&p->lock);
        take_indexes(p, w->number);
        (void)pthread_mutex_lock(&p->lock);
        if (--p->busy == 0)
            (void)pthread_cond_signal(&p->end);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

static mt_status start_workers(struct pool *p)
{
    for (int32_t i = 1; i < p->threads; i++) {
        struct worker *w = &p->worker[i];
        w->pool = p;
        w->number = i;
        int error = pthread_create(&w->thread, NULL, worker_main, w);
        if (error != 0)
            return MT_FAIL(MT_NOMEM, "cannot start thread %d of %d: %s; ask for fewer threads", i,
                           p->threads, strerror(error));
        p->started++;
    }
    return MT_OK;
}

mt_status pool_create(struct pool **out, int32_t threads)
{
    struct pool *p = NULL;
    mt_status st;
    if (threads < 1 || threads > POOL_THREADS_MAX)
        return MT_FAIL(MT_ARG, "%d threads; from 1 to %d are possible", threads, POOL_THREADS_MAX);
    MT_TRY(mt_alloc(&p, 1, sizeof *p, "the pool of threads"));
    p->threads = threads;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_cond_init(&p->begin, NULL);
    (void)pthread_cond_init(&p->end, NULL);
    MT_TRY_GOTO(st, mt_alloc(&p->worker, threads, sizeof *p->worker, "the pool's threads"), failed);
    MT_TRY_GOTO(st, start_workers(p), failed);
    *out = p;
    return MT_OK;
failed:
    pool_destroy(&p);
    return st;
}

void pool_destroy(struct pool **pool)
{
    struct pool *p = *pool;
    if (p == NULL)
        return;
    (void)pthread_mutex_lock(&p->lock);
    p->closing = true;
    (void)pthread_cond_broadcast(&p->begin);
    (void)pthread_mutex_unlock(&p->lock);
    for (int32_t i = 1; i <= p->started; i++)
        (void)pthread_join(p->worker[i].thread, NULL);
    (void)pthread_cond_destroy(&p->begin);
    (void)pthread_cond_destroy(&p->end);
    (void)pthread_mutex_destroy(&p->lock);
    mt_free(&p->worker);
    mt_free(pool);
}

int32_t pool_threads(const struct pool *p)
{
    return p->threads;
}

mt_status pool_run(struct pool *p, pool_work work, void *context, int32_t count)
{
    (void)pthread_mutex_lock(&p->lock);
    p->work = work;
    p->context = context;
    p->count = count;
    p->failed_index = INT32_MAX;
    atomic_store(&p->next, 0);
    p->busy = p->started;
    if (p->started > 0) {
        p->generation++;
        (void)pthread_cond_broadcast(&p->begin);
    }
    (void)pthread_mutex_unlock(&p->lock);
    take_indexes(p, 0);
    (void)pthread_mutex_lock(&p->lock);
    while (p->busy > 0)
        (void)pthread_cond_wait(&p->end, &p->lock);
    (void)pthread_mutex_unlock(&p->lock);
    return p->failed_index == INT32_MAX ? MT_OK : mt_error_set(&p->error);
}

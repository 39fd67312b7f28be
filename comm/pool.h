/*
 * pool: the worker threads of a rank.
 *
 * The calling thread is worker 0 and works too, so a pool of one thread is a plain loop.  Indexes
 * are handed out in order; after a failure no new ones are.
 */
#ifndef MT_COMM_POOL_H
#define MT_COMM_POOL_H

#include "comm/base/status.h"

enum { POOL_THREADS_MAX = 1024 };

struct pool;

/* Does index `index` of a run; `worker` in [0, threads) tells work space apart. */
typedef mt_status (*pool_work)(void *context, int32_t index, int32_t worker);

/* Local.  threads in [1, POOL_THREADS_MAX].  Owns threads - 1 threads until pool_destroy.
 * Errors: NOMEM, ARG. */
mt_status pool_create(struct pool **out, int32_t threads) MT_CHECKED;
void pool_destroy(struct pool **p);
int32_t pool_threads(const struct pool *p);

/* Local.  Calls work for 0 .. count-1 and waits for all.  Where several fail, the status and record
 * of the lowest index come back, whatever the timing.  Allocates nothing; not from inside `work`.
 */
mt_status pool_run(struct pool *p, pool_work work, void *context, int32_t count) MT_CHECKED;

#endif

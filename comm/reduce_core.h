/*
 * reduce_core: what reduce.c, reduce_create.c, reduce_sums.c and the transports share.  Included by
 * comm/reduce*.c only.
 *
 * A transport moves buckets; adding up, norms and the thread are the same for all.  A step is
 * driven by calls of `advance`, which never waits: it starts buckets that are ready, looks for
 * those that have arrived, and says whether anything moved.
 */
#ifndef MT_COMM_REDUCE_CORE_H
#define MT_COMM_REDUCE_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "comm/handles.h"
#include "comm/reduce.h"
#include "comm/reduce_plan.h"

struct reduce_transport {
    mt_status (*open)(struct reducer *r); /* Collective */
    void (*close)(struct reducer *r);     /* Local */
    /* sums for their owners, or where r->whole for all ranks */
    mt_status (*advance)(struct reducer *r, bool *moved);
    mt_status (*gather)(struct reducer *r, float *block); /* any block, all of the ranges */
};

extern const struct reduce_transport reduce_transport_direct;
extern const struct reduce_transport reduce_transport_halving;
extern const struct reduce_transport reduce_transport_vendor; /* MPI_Iallreduce */
extern const struct reduce_transport reduce_transport_node;
extern const struct reduce_transport reduce_transport_hosts;

struct reducer {
    const struct comm *comm;
    int32_t lanes;
    enum reduce_mode mode;
    enum reduce_path path;
    bool whole;
    const struct reduce_transport *transport; /* NULL = one rank: nothing to move */
    void *state;                              /* the transport's own */
    struct reduce_plan plan;
    struct range_list ranges;        /* all that takes part */
    const struct row_set *rows;      /* NULL = every step uses all of it */
    const struct range_list *active; /* what this step uses: &ranges or &rows->active */

    /* this rank's blocks of the step, and how they become its roots */
    int32_t own_lanes;
    int32_t roots;
    float *root[LANE_ROOTS_MAX];
    float **block; /* [own_lanes] */
    int32_t blocks;
    int32_t *node; /* [own_lanes] which node of the tree each block is */
    struct lane_merge *local_merge;
    int32_t local_merges;
    int32_t *index; /* [own_lanes] scratch */

    /* all ranks' roots in lane order: values first_value[p] .. first_value[p+1]-1 are rank p's;
     * with REDUCE_PATH_HOSTS those of all hosts, p being a host */
    int32_t values;
    int32_t *first_value;     /* [ranks+1] or [hosts+1] */
    struct lane_merge *merge; /* [values-1] */
    int32_t *merge_group;     /* [values] 1 + the group that a merge completes, or 0 */
    float **value;            /* [values] where each stands for the slice at hand */
    double *norm;             /* [plan.blocks] squares, 0 where another rank owns the block */
    int *counts, *offsets;    /* [ranks] arguments of gathers */

    /* bf16 on the wire: errors of rounding, in bf16, by flat offset */
    int32_t groups;  /* 0 = fp32 */
    bool half;       /* each rank has one group: roots travel as bf16 */
    uint16_t **lost; /* [groups + 1] NULL where another rank forms the group; last: the sum */

    /* progress of the step */
    int32_t started, finished; /* buckets, in plan order */
    atomic_llong ready_from;   /* flat offset */
    atomic_bool awaited;       /* the computing thread has nothing else to do */
    double awaited_s;          /* since when */
    double run_s, slept_s;     /* begin of the step's work; sleep for want of buckets in it */
    double ended_s;

    /* the thread, where there is one */
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    bool running; /* under lock */
    atomic_bool closing;
    mt_status status;
    struct mt_error error;

    struct reducer_stats stats;
    reduce_watch watch;
    void *watch_context;
};

/* Local.  Whether the next bucket may be started; then r->started counts it, and this rank's blocks
 * are added up within it. */
bool reduce_start_bucket(struct reducer *r);

/* Local.  This rank's blocks into its roots, over a bucket. */
void reduce_join_lanes(struct reducer *r, const struct reduce_bucket *b);

/* Local.  Adds r->value[] (each pointing at the slice's first element) up in the tree into roots[0]
 * and squares the result. */
void reduce_add_slice(struct reducer *r, const struct reduce_slice *s);

/* Local.  Squares a slice of the sum in roots[0]. */
void reduce_square_slice(struct reducer *r, const struct reduce_slice *s);

/* Local.  Rounds a whole tree node, x[0] being at flat offset `begin`, where the step uses it.
 * group: 0 .. groups - 1, or groups for the sum. */
void reduce_round(struct reducer *r, int32_t group, float *x, int64_t begin, int64_t end);

/* Local.  The group that a node of the tree is, or -1. */
int32_t reduce_group_of(const struct reducer *r, int32_t node);

/* Local.  Where root `root` of rank `rank` stands among the values. */
static inline int32_t reduce_value(const struct reducer *r, int32_t rank, int32_t root)
{
    return r->first_value[rank] + root;
}

/* Local.  The thread that drives steps; stopping it ends a step in the middle, too.  Errors: NOMEM.
 */
mt_status reduce_start_thread(struct reducer *r) MT_CHECKED;
void reduce_stop_thread(struct reducer *r);

/* Local.  After a look at what has arrived: where nothing moved, gives the core away for a while
 * that grows with *idle, the number of fruitless looks. */
void reduce_rest(const struct reducer *r, bool moved, int32_t *idle);

#endif

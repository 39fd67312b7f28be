/*
 * reduce_plan: which part of a flat block is added up where, in which order.  No MPI.
 *
 * Ranges are cut into canonical blocks of REDUCE_BLOCK elements, each range from its beginning, so
 * a block is always one contiguous piece and does not know of ranks.  Neighbouring blocks of one
 * range form buckets, which are sent at a time, highest offsets first: the order in which the
 * backward pass finishes them.  Within a bucket each rank owns a run of blocks, its slice.
 */
#ifndef MT_COMM_REDUCE_PLAN_H
#define MT_COMM_REDUCE_PLAN_H

#include "comm/base/tensors.h"
#include "comm/reduce.h"

/* Buckets under way at a time: as messages; by way of hosts' shared memory. */
enum { REDUCE_FLIGHTS = 8, REDUCE_HOSTS_FLIGHTS = 4 };

struct reduce_bucket {
    int64_t begin, end;  /* elements of a flat block */
    int64_t first_block; /* canonical blocks are numbered by ascending offset */
    int64_t blocks;
};

/* A run of canonical blocks of one bucket. */
struct reduce_slice {
    int64_t begin, end; /* elements of a flat block */
    int64_t first_block;
};

struct reduce_plan {
    struct reduce_bucket *bucket; /* descending offsets */
    int32_t buckets;
    int32_t ranks;
    bool halving; /* slices come from recursive halving; ranks is a power of two */
    int64_t blocks, elements;
    int64_t longest; /* elements of the longest bucket */
};

/* Local.  Elements of a bucket that is sent at a time: what is asked for, rounded up to whole
 * blocks, or for 0 what suits the path of exact sums (for others: DIRECT).  Short where buckets go
 * through a host's memory, so that they stay in cache; messages between many ranks want a block for
 * each of them, so that each owns one, up to a length that leaves a model enough buckets to travel
 * side by side. */
int64_t reduce_plan_bucket_elements(enum reduce_path path, int64_t asked, int32_t ranks);

/* Local.  bucket_elements: a multiple of REDUCE_BLOCK.  Owns its array.  Errors: NOMEM; BUG for
 * ranges that overlap or are out of order. */
mt_status reduce_plan_init(struct reduce_plan *p, const struct range_list *ranges,
                           int64_t bucket_elements, int32_t ranks, bool halving) MT_CHECKED;
void reduce_plan_release(struct reduce_plan *p);

/* Local.  What a rank owns of a bucket; may be empty.  Owners turn with the bucket's number, so
 * that many short buckets are dealt out evenly. */
struct reduce_slice reduce_plan_slice(const struct reduce_plan *p, int32_t bucket, int32_t rank);

/* Local.  What a rank still works on after `stages` halvings of a bucket; with as many stages as
 * ranks have bits it is the slice.  Only for plans with halving. */
struct reduce_slice reduce_plan_halved(const struct reduce_plan *p, int32_t bucket, int32_t rank,
                                       int32_t stages);

/* Local.  Elements of the longest slice of a rank. */
int64_t reduce_plan_longest_slice(const struct reduce_plan *p, int32_t rank);

#endif

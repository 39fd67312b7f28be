/*
 * exchange: plain collective exchanges of bytes and of small arrays.
 *
 * Lengths are int64_t and may pass MPI's int counts: longer ones go in pieces of comm->chunk_bytes.
 * Functions that allocate on the receiving side agree on the outcome, so their status is the same
 * on all ranks.  `root` is a rank in [0, size).
 */
#ifndef MT_COMM_EXCHANGE_H
#define MT_COMM_EXCHANGE_H

#include "comm/world.h"

/* Collective.  Waits until every rank is here. */
mt_status comm_barrier(const struct comm *c) MT_CHECKED;
mt_status comm_node_barrier(const struct comm *c) MT_CHECKED; /* only the ranks of this host */

/* Collective.  Copies root's data[bytes] to all ranks; bytes is the same on all ranks. */
mt_status comm_broadcast(const struct comm *c, void *data, int64_t bytes, int32_t root) MT_CHECKED;

/* Collective.  Copies a block of which only root knows the length.  On root *data and *bytes are
 * input; elsewhere *data must be NULL and becomes a new block with a NUL behind its last byte.
 * Owns: the caller, on every rank (mt_free).  Errors: NOMEM, MPI. */
mt_status comm_broadcast_blob(const struct comm *c, void **data, int64_t *bytes,
                              int32_t root) MT_CHECKED;

/* Collective.  all[size * bytes] = every rank's mine[bytes], in rank order. */
mt_status comm_allgather(const struct comm *c, const void *mine, int64_t bytes,
                         void *all) MT_CHECKED;

/* Collective.  Every rank's mine[bytes], of any length, one behind the other in rank order; rank
 * r's part is (*all)[offsets[r] .. offsets[r+1]).  offsets[size+1] belongs to the caller.
 * Owns: the caller gets *all (mt_free).  Errors: NOMEM, MPI. */
mt_status comm_allgatherv(const struct comm *c, const void *mine, int64_t bytes, void **all,
                          int64_t *offsets) MT_CHECKED;

/* Collective.  As comm_allgatherv, but only root gets *all and offsets (elsewhere both may be NULL
 * and are left alone). */
mt_status comm_gatherv(const struct comm *c, const void *mine, int64_t bytes, void **all,
                       int64_t *offsets, int32_t root) MT_CHECKED;

/* Collective.  Replaces values[count] by the result over all ranks, element by element. */
mt_status comm_max_i64(const struct comm *c, int64_t *values, int32_t count) MT_CHECKED;
mt_status comm_min_i64(const struct comm *c, int64_t *values, int32_t count) MT_CHECKED;
mt_status comm_sum_i64(const struct comm *c, int64_t *values, int32_t count) MT_CHECKED;
mt_status comm_or_i64(const struct comm *c, int64_t *values, int32_t count) MT_CHECKED;
mt_status comm_max_f64(const struct comm *c, double *values, int32_t count) MT_CHECKED;
mt_status comm_min_f64(const struct comm *c, double *values, int32_t count) MT_CHECKED;

/* Collective.  Sum in rank order, the same bits on all ranks and in every run at this rank count
 * (not at another: use lane_sums for that).  Errors: NOMEM, MPI. */
mt_status comm_sum_f64(const struct comm *c, double *values, int32_t count) MT_CHECKED;

#endif

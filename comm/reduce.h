/*
 * reduce: the sum of all lanes' gradients, the same bits at any rank count, beside the backward
 * pass.
 *
 * A flat block is a float array in the layout of the tensor table; only the given ranges of it take
 * part.  Each range is cut into canonical blocks of REDUCE_BLOCK elements (the last may be
 * shorter), a cut that does not know of ranks.  Every canonical block has one owner, which adds up
 * the lanes in the fixed tree of lane_tree.h and squares the result for the norm.
 *
 *     struct reducer_options options = {.whole = !shard};
 *     MT_TRY(reducer_create(&r, comm, lanes, REDUCE_EXACT, &ranges, &options));  // once a phase
 *     reducer_begin(r, roots, nroots);             // each step
 *     reducer_ready(r, offset) ...                 // as backward comes down: >= offset is final
 *     MT_TRY(reducer_finish(r, &sum));             // the sum now stands in roots[0]
 *     if (shard) { update(reducer_owned(r)); MT_TRY(reducer_gather(r, parameters)); }
 *     reducer_destroy(&r);
 *
 * A sharded optimizer needs only the owned part of the sum, updates the parameters there and
 * gathers them.  Rows of an embedding that a step does not use can be left out (row_set.h).
 * Otherwise `whole` makes the copying of finished sums to all ranks part of what
 * runs beside the backward pass.  No step allocates.
 */
#ifndef MT_COMM_REDUCE_H
#define MT_COMM_REDUCE_H

#include "comm/base/row_set.h"
#include "comm/lane_tree.h"
#include "comm/world.h"

enum { REDUCE_BLOCK = 16384 };

enum reduce_mode {
    REDUCE_EXACT, /* the fixed tree: same bits at any rank count */
    REDUCE_MPI    /* MPI_Iallreduce: the library's order of adding */
};

/* How exact sums travel; the bits are the same. */
enum reduce_path {
    REDUCE_PATH_AUTO,
    REDUCE_PATH_NODE,    /* through memory that all ranks of one host share */
    REDUCE_PATH_HALVING, /* recursive halving: ranks a power of two */
    REDUCE_PATH_DIRECT,  /* every rank to every owner */
    REDUCE_PATH_HOSTS,   /* shared memory of each host, then every host to every owner */
    REDUCE_PATH_COUNT
};

/* Hears, on the thread that reduces, when a bucket is taken up and when it is done, in order: for
 * traces.  bucket: its number in the step. */
typedef void (*reduce_watch)(void *context, int32_t bucket, int64_t elements, bool done);

struct reducer_options {
    int64_t bucket_elements; /* sent at a time, a multiple of REDUCE_BLOCK; 0 = chosen */
    enum reduce_path path;   /* a path that does not fit this world is BUG */
    /* bf16 on the wire, with what rounding took away given back at the next step; 0 = fp32.  The
     * tree's nodes of the level that has wire_groups nodes (a power of two <= lanes), and the whole
     * sum, are rounded to bf16 wherever they are formed, so the bits depend on wire_groups but not
     * on ranks.  Where each rank holds exactly one such node it sends it in half the bytes, and
     * whole sums always travel so.  Errors are kept while the reducer lives. */
    int32_t wire_groups;
    bool whole;         /* reducer_finish leaves the whole sum on every rank */
    bool no_thread;     /* all work happens in reducer_finish */
    reduce_watch watch; /* NULL = nobody listens */
    void *watch_context;
    /* Rows of one matrix that a step does not use: zero in every block of every rank, and left
     * alone.  Borrowed; made for the same ranges; agreed on before each reducer_begin.  NULL = all
     * of the ranges is used by each step.  The bits are the same. */
    const struct row_set *rows;
};

struct reduce_sum {
    double norm2; /* sum of squares of the whole sum, same bits on all ranks and rank counts */
    bool finite;  /* no infinity and no NaN in it */
};

struct reducer_stats {
    int64_t steps;
    int64_t bytes_sent; /* by this rank over all steps, gathers included */
    int64_t messages;   /* by this rank over all steps; not those of the library's collectives */
    double wait_s;      /* in reducer_finish and reducer_gather, over all steps */
    double hidden_s;    /* buckets under way while the caller computed, over all steps */
};

struct reducer;

/* Collective.  lanes: a power of two >= comm->size.  ranges: ascending, without overlap, the same
 * on all ranks; copied.  options: NULL = all chosen.  Owns a thread where comm->threads and more
 * than one rank.  Errors: NOMEM, MPI; CONFIG naming batch.lanes for more ranks than lanes,
 * naming wire_groups where they are no level of the tree, naming wire where the library adds. */
mt_status reducer_create(struct reducer **out, const struct comm *c, int32_t lanes,
                         enum reduce_mode mode, const struct range_list *ranges,
                         const struct reducer_options *options) MT_CHECKED;

/* Local.  Not between reducer_begin and reducer_finish, unless the run is failing. */
void reducer_destroy(struct reducer **r);

/* Local.  Starts a step.  roots[count]: the blocks of lane_tree_roots of this rank's lanes, in that
 * order; borrowed until reducer_finish, left as scratch but for roots[0]. */
void reducer_begin(struct reducer *r, float *const *roots, int32_t count);

/* Local.  As reducer_begin for blocks that are not added up yet: blocks[i] stands for tree node
 * nodes[i], together this rank's lanes in order, count <= those lanes, none above the level of
 * wire_groups; the reducer's thread adds
 * them up too.  The result is in blocks[0]. */
void reducer_begin_nodes(struct reducer *r, float *const *blocks, const int32_t *nodes,
                         int32_t count);

/* Local.  Any thread: all elements at flat offsets >= from_offset are final in all blocks of this
 * rank.  Not required. */
void reducer_ready(struct reducer *r, int64_t from_offset);

/* Collective.  Says that all elements are final, and waits until this rank's owned part of the sum
 * stands in roots[0] (in all ranges where reducer_sum_is_whole).  Errors: MPI. */
mt_status reducer_finish(struct reducer *r, struct reduce_sum *out) MT_CHECKED;

/* Local.  Whether reducer_finish leaves the whole sum on every rank: asked for, or REDUCE_MPI, or
 * one rank. */
bool reducer_sum_is_whole(const struct reducer *r);

/* Collective.  Every rank's owned part of `block`, rows that no step uses included,
 * is copied to all ranks (any flat block): then the ranges are equal everywhere.  Errors: MPI. */
mt_status reducer_gather(struct reducer *r, float *block) MT_CHECKED;

/* Local.  The flat ranges that this rank owns, ascending, neighbours joined; replaces what `out`
 * held (it may be zeroed).  Errors: NOMEM. */
mt_status reducer_owned(const struct reducer *r, struct range_list *out) MT_CHECKED;

/* Local.  What it has done so far; which path it took, and that path's name ("node"). */
void reducer_stats(const struct reducer *r, struct reducer_stats *out);
enum reduce_path reducer_path(const struct reducer *r);
const char *reduce_path_name(enum reduce_path path);

/* Local.  Whether REDUCE_PATH_HOSTS can be taken: several hosts, the ranks of each neighbours. */
bool reduce_path_hosts_fits(const struct comm *c);

/* Local.  The sum of squares that reducer_finish gives, of a block that is whole here. */
double reduce_norm2(const struct range_list *ranges, const float *block);

/* Collective.  Adds up width doubles per lane in the fixed tree: mine[own lanes][width], in lane
 * order; work[lanes][width] is scratch; total[width] has the same bits on all ranks and at all rank
 * counts.  Errors: MPI. */
mt_status lane_sums(const struct comm *c, int32_t lanes, int32_t width, const double *mine,
                    double *work, double *total) MT_CHECKED;

#endif

/* reduce_volume: what a reduction sends, without doing it.  No MPI. */
#ifndef MT_COMM_REDUCE_VOLUME_H
#define MT_COMM_REDUCE_VOLUME_H

#include "comm/reduce.h"

struct reduce_volume_setup {
    int32_t lanes, ranks; /* lane_tree_valid */
    enum reduce_mode mode;
    enum reduce_path path; /* as reducer_path answers; AUTO = ranks on hosts of their own */
    bool gathers;          /* the sums that ranks own are copied to all */
    bool gathers_blocks;   /* parameters are, instead: all rows, in fp32 */
    /* what a step uses of the ranges (row_set.h): bytes are then those of that step; NULL = all,
     * which bounds every step */
    const struct range_list *active;
    int64_t bucket_elements; /* 0 = chosen */
    int32_t wire_groups;     /* reducer_options.wire_groups */
    int32_t hosts;           /* of REDUCE_PATH_HOSTS: ranks in order, as evenly as can be */
};

/* Bytes of one step, as reducer_stats counts them. */
struct reduce_volume {
    int64_t rank0_bytes, most_bytes, total_bytes; /* of rank 0, of the busiest, of all together */
    int64_t shared_bytes; /* of total_bytes those to the memory of hosts, not to other ranks */
    int64_t messages;     /* sent by rank 0; those of the library's own gathers are not counted */
};

/* Local.  Errors: NOMEM, BUG as reduce_plan_init. */
mt_status reduce_volume_plan(struct reduce_volume *out, const struct range_list *ranges,
                             const struct reduce_volume_setup *setup) MT_CHECKED;

/* Local.  Bytes of the errors that rank 0 keeps where `elements` take part and wire_groups > 0: of
 * the groups that it forms alone, and of its share of the others and of the sum. */
int64_t reduce_errors_bytes(int32_t lanes, int32_t ranks, int32_t wire_groups, int64_t elements);

#endif

/*
 * See reduce_volume.h.  The same plan and slices as the transports use; each formula stands for one
 * of them (comm/reduce_node.c, reduce_wire.c, reduce_hosts.c).
 */
#include "comm/reduce_volume.h"

#include "comm/reduce_plan.h"

struct volume {
    const struct reduce_volume_setup *setup;
    struct reduce_plan plan;
    enum reduce_path path;
};

static int32_t log2_of(int32_t n)
{
    int32_t bits = 0;
    while ((1 << bits) < n)
        bits++;
    return bits;
}

/* Elements of [begin, end) that a step uses. */
static int64_t used_of(const struct volume *v, int64_t begin, int64_t end)
{
    return v->setup->active != NULL ? range_list_within(v->setup->active, begin, end) : end - begin;
}

static int64_t used_of_slice(const struct volume *v, int32_t bucket, int32_t rank)
{
    struct reduce_slice s = reduce_plan_slice(&v->plan, bucket, rank);
    return used_of(v, s.begin, s.end);
}

static int32_t host_of(const struct volume *v, int32_t rank)
{
    return (int32_t)((int64_t)rank * v->setup->hosts / v->setup->ranks);
}

static int32_t first_of(const struct volume *v, int32_t host)
{
    int32_t hosts = v->setup->hosts;
    return (int32_t)(((int64_t)host * v->setup->ranks + hosts - 1) / hosts);
}

/* Roots of all lanes of a host. */
static int32_t host_roots(const struct volume *v, int32_t host)
{
    int32_t nodes[LANE_ROOTS_MAX], lanes = v->setup->lanes, ranks = v->setup->ranks;
    struct lane_range all = {lane_tree_range(lanes, ranks, first_of(v, host)).begin,
                             lane_tree_range(lanes, ranks, first_of(v, host + 1) - 1).end};
    return lane_tree_roots(lanes, all, nodes);
}

/* Whether slices travel as bf16: one group for each rank or host, of equal lanes. */
static bool travels_half(const struct volume *v)
{
    const struct reduce_volume_setup *s = v->setup;
    int32_t parts = v->path == REDUCE_PATH_HOSTS ? s->hosts : s->ranks;
    bool even = s->ranks % parts == 0 && s->lanes % parts == 0;
    return s->wire_groups == parts && even && s->mode == REDUCE_EXACT &&
           (v->path == REDUCE_PATH_HOSTS || v->path == REDUCE_PATH_DIRECT);
}

/* Bytes to shared memory, and from it to the owners on other hosts. */
static int64_t hosts_bytes(const struct volume *v, int32_t bucket, int32_t rank, int32_t roots,
                           int64_t *messages)
{
    const struct reduce_bucket *b = &v->plan.bucket[bucket];
    int32_t host = host_of(v, rank), first = first_of(v, host);
    int64_t width = travels_half(v) ? 2 : 4, joined = host_roots(v, host);
    int64_t bytes = 4 * roots * used_of(v, b->begin, b->end);
    int32_t locals = first_of(v, host + 1) - first;
    for (int32_t h = 0; h < v->setup->hosts; h++)
        for (int32_t p = first_of(v, h) + rank - first; p < first_of(v, h + 1); p += locals) {
            int64_t used = h != host ? used_of_slice(v, bucket, p) : 0;
            bytes += width * joined * used;
            *messages += used > 0 ? joined : 0;
        }
    return bytes;
}

/* What a rank sends of a bucket before its slice is summed; *messages is added to (of rank 0
 * alone: counting costs as much as there are ranks). */
static int64_t reduced_bytes(const struct volume *v, int32_t bucket, int32_t rank, int32_t roots,
                             int64_t *messages)
{
    const struct reduce_bucket *b = &v->plan.bucket[bucket];
    int32_t ranks = v->setup->ranks;
    int64_t all = used_of(v, b->begin, b->end), sent = 0;
    if (v->setup->mode == REDUCE_MPI)
        return 2 * all * (ranks - 1) / ranks * 4;
    if (v->path == REDUCE_PATH_HOSTS)
        return hosts_bytes(v, bucket, rank, roots, messages);
    if (v->path == REDUCE_PATH_HALVING) {
        for (int32_t k = 0; k < log2_of(ranks); k++) {
            struct reduce_slice theirs =
                reduce_plan_halved(&v->plan, bucket, rank ^ (1 << k), k + 1);
            int64_t used = used_of(v, theirs.begin, theirs.end);
            sent += used;
            *messages += used > 0;
        }
        return 4 * sent;
    }
    for (int32_t p = 0; p < ranks && rank == 0 && v->path == REDUCE_PATH_DIRECT; p++)
        *messages += p != rank && used_of_slice(v, bucket, p) > 0 ? roots : 0;
    return (travels_half(v) ? 2 : 4) * roots * (all - used_of_slice(v, bucket, rank));
}

/* Doubling: what a rank has of the sum, to one partner after another. */
static int64_t doubled_elements(const struct volume *v, int32_t bucket, int32_t rank, bool all,
                                int64_t *messages)
{
    int64_t sent = 0;
    for (int32_t k = 0; k < log2_of(v->setup->ranks); k++) {
        struct reduce_slice mine = reduce_plan_halved(&v->plan, bucket, rank, k + 1);
        int64_t used = all ? mine.end - mine.begin : used_of(v, mine.begin, mine.end);
        sent += used;
        *messages += used > 0;
    }
    return sent;
}

static int64_t gathered_bytes(const struct volume *v, int32_t bucket, int32_t rank,
                              int64_t *messages)
{
    const struct reduce_volume_setup *s = v->setup;
    struct reduce_slice mine = reduce_plan_slice(&v->plan, bucket, rank);
    bool node = v->path == REDUCE_PATH_NODE && s->mode == REDUCE_EXACT, all = s->gathers_blocks;
    int64_t readers = node ? 1 : s->ranks - 1; /* written once, read by all */
    int64_t width = s->wire_groups > 0 && !node && !all ? 2 : 4;
    if (v->path == REDUCE_PATH_HOSTS && s->mode == REDUCE_EXACT) {
        int64_t elements = all ? mine.end - mine.begin : used_of(v, mine.begin, mine.end);
        *messages += elements > 0 ? s->hosts - 1 : 0;
        return (4 + width * (s->hosts - 1)) *
               elements; /* to its own host's memory, and the others */
    }
    if (v->plan.halving)
        return width * doubled_elements(v, bucket, rank, all, messages);
    int64_t elements = all ? mine.end - mine.begin : used_of(v, mine.begin, mine.end);
    if (!node && s->mode == REDUCE_EXACT && elements > 0)
        *messages += s->ranks - 1;
    return width * readers * elements;
}

/* Of a bucket's bytes those that stay on the host. */
static int64_t kept_bytes(const struct volume *v, int32_t bucket, int32_t rank, int32_t roots,
                          int64_t bytes)
{
    const struct reduce_bucket *b = &v->plan.bucket[bucket];
    struct reduce_slice mine = reduce_plan_slice(&v->plan, bucket, rank);
    if (v->setup->mode == REDUCE_EXACT && v->path == REDUCE_PATH_NODE)
        return bytes;
    if (v->setup->mode != REDUCE_EXACT || v->path != REDUCE_PATH_HOSTS)
        return 0;
    int64_t kept = roots * used_of(v, b->begin, b->end);
    if (v->setup->gathers_blocks)
        kept += mine.end - mine.begin;
    else if (v->setup->gathers)
        kept += used_of(v, mine.begin, mine.end);
    return 4 * kept;
}

static void add_rank(const struct volume *v, int32_t rank, struct reduce_volume *out)
{
    int32_t nodes[LANE_ROOTS_MAX], lanes = v->setup->lanes;
    int32_t roots = lane_tree_roots(lanes, lane_tree_range(lanes, v->setup->ranks, rank), nodes);
    int64_t bytes = 0, messages = 0;
    for (int32_t b = 0; b < v->plan.buckets; b++) {
        int64_t of_bucket = reduced_bytes(v, b, rank, roots, &messages);
        if (v->setup->gathers || v->setup->gathers_blocks)
            of_bucket += gathered_bytes(v, b, rank, &messages);
        out->shared_bytes += kept_bytes(v, b, rank, roots, of_bucket);
        bytes += of_bucket;
    }
    out->total_bytes += bytes;
    out->most_bytes = bytes > out->most_bytes ? bytes : out->most_bytes;
    if (rank == 0) {
        out->rank0_bytes = bytes;
        out->messages = messages;
    }
}

mt_status reduce_volume_plan(struct reduce_volume *out, const struct range_list *ranges,
                             const struct reduce_volume_setup *setup)
{
    struct volume v = {.setup = setup, .path = setup->path};
    struct reduce_volume total = {0};
    if (v.path == REDUCE_PATH_AUTO && setup->wire_groups == setup->ranks)
        v.path = REDUCE_PATH_DIRECT;
    else if (v.path == REDUCE_PATH_AUTO)
        v.path = is_power_of_two(setup->ranks) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    bool exact = setup->mode == REDUCE_EXACT;
    int64_t bucket = reduce_plan_bucket_elements(exact ? v.path : REDUCE_PATH_DIRECT,
                                                 setup->bucket_elements, setup->ranks);
    MT_TRY(reduce_plan_init(&v.plan, ranges, bucket, setup->ranks,
                            exact && v.path == REDUCE_PATH_HALVING));
    for (int32_t rank = 0; rank < setup->ranks && setup->ranks > 1; rank++)
        add_rank(&v, rank, &total);
    reduce_plan_release(&v.plan);
    *out = total;
    return MT_OK;
}

int64_t reduce_errors_bytes(int32_t lanes, int32_t ranks, int32_t wire_groups, int64_t elements)
{
    int64_t alone = 0, shared = 1; /* the sum */
    for (int32_t g = 0; g < wire_groups; g++) {
        struct lane_range all = lane_tree_lanes_of(lanes, wire_groups + g);
        int32_t first = lane_tree_owner(lanes, ranks, all.begin);
        int32_t last = lane_tree_owner(lanes, ranks, all.end - 1);
        alone += first == 0 && last == 0;
        shared += first != last;
    }
    if (wire_groups == 0)
        return 0;
    return (alone * elements + shared * elements / ranks) * (int64_t)sizeof(uint16_t);
}

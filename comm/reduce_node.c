/*
 * Transport of reduce.h through memory that the ranks of one host share.
 *
 * Each rank has a ring of slots there.  It copies the part of a bucket that others own into a slot
 * and counts it as posted; an owner that sees a bucket posted by all adds the slices up where they
 * stand and counts it as summed.  Where all ranks want the whole sum, it leaves its slice of it in
 * its own slot, and who sees a bucket summed by all copies those slices out and counts it as taken.
 * A slot is written again when all have taken what was in it.  Counts only grow, over steps and
 * gathers alike, so nothing is ever reset and no lock is needed.
 * Slots are short enough to stay in the processor's cache: the copy costs one reading of the block.
 *
 * Refused: owners reading the blocks themselves.  It saves the copy, but every flat block would
 * have to be allocated in shared memory, which hosts often limit.
 */
#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"
#include "comm/reduce_pack.h"
#include "comm/shared.h"

enum { SLOTS = 4, LINE_BYTES = 64 };

/* One cache line each: written by one rank, read by all. */
struct counter {
    _Alignas(LINE_BYTES) _Atomic int64_t posted;
    _Alignas(LINE_BYTES) _Atomic int64_t summed;
    _Alignas(LINE_BYTES) _Atomic int64_t taken;
};

struct node {
    struct shared *memory;
    struct counter *counter; /* [ranks] */
    float *slots;            /* [ranks][SLOTS][slot_elements] */
    int64_t slot_elements, root_elements;
    int64_t first;  /* the step's first bucket, counted over all steps and gathers */
    int32_t summed; /* buckets of this step that this rank has added up */
};

static void close_node(struct reducer *r)
{
    struct node *n = r->state;
    shared_destroy(&n->memory);
    mt_free(&r->state);
}

static mt_status open_node(struct reducer *r)
{
    struct node *n = NULL;
    int32_t ranks = r->comm->size, most = 1;
    for (int32_t p = 0; p < ranks; p++)
        if (r->first_value[p + 1] - r->first_value[p] > most)
            most = r->first_value[p + 1] - r->first_value[p];
    mt_status st = mt_alloc(&n, 1, sizeof *n, "the reduction's ring");
    r->state = n;
    MT_ALL(r->comm, st);
    n->root_elements = (r->plan.longest + 15) / 16 * 16;
    n->slot_elements = n->root_elements * most;
    int64_t counters = (int64_t)ranks * (int64_t)sizeof(struct counter);
    int64_t bytes = counters + ranks * SLOTS * n->slot_elements * (int64_t)sizeof(float);
    MT_TRY(shared_create(&n->memory, r->comm, bytes, "the reduction between the ranks of a host"));
    n->counter = shared_base(n->memory);
    n->slots = (float *)(void *)((char *)shared_base(n->memory) + counters);
    return MT_OK;
}

/* Root `root` of a rank's slot for a bucket. */
static float *slot_of(const struct node *n, int32_t rank, int64_t number, int32_t root)
{
    return n->slots + ((int64_t)rank * SLOTS + number % SLOTS) * n->slot_elements +
           root * n->root_elements;
}

/* Whether a count has come to `least` on all ranks; `first` is rank 0's. */
static bool all_reach(const struct reducer *r, const _Atomic int64_t *first, int64_t least)
{
    enum { STRIDE = (int)(sizeof(struct counter) / sizeof(int64_t)) };
    for (int32_t p = 0; p < r->comm->size; p++)
        if (atomic_load_explicit(first + (int64_t)p * STRIDE, memory_order_acquire) < least)
            return false;
    return true;
}

static void set_count(_Atomic int64_t *count, int64_t value)
{
    atomic_store_explicit(count, value, memory_order_release);
}

/* Copies what is used of [begin, end) to the same places of a slot. */
static void copy_out(struct reducer *r, const struct range_list *active, float *slot,
                     const float *block, int64_t bucket_begin, int64_t begin, int64_t end)
{
    int64_t count = reduce_copy(active, begin, end, block + begin, slot + (begin - bucket_begin));
    r->stats.bytes_sent += count * (int64_t)sizeof *slot;
}

static void post_bucket(struct reducer *r, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    const struct reduce_bucket *b = &r->plan.bucket[bucket];
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    for (int32_t i = 0; i < r->roots; i++) {
        float *slot = slot_of(n, me, n->first + bucket, i);
        copy_out(r, r->active, slot, r->root[i], b->begin, b->begin, mine.begin);
        copy_out(r, r->active, slot, r->root[i], b->begin, mine.end, b->end);
    }
    set_count(&n->counter[me].posted, n->first + bucket + 1);
}

static void add_bucket(struct reducer *r, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    int64_t begin = r->plan.bucket[bucket].begin;
    for (int32_t p = 0; p < r->comm->size; p++)
        for (int32_t i = 0; i < r->first_value[p + 1] - r->first_value[p]; i++)
            r->value[reduce_value(r, p, i)] =
                p == me ? r->root[i] + mine.begin
                        : slot_of(n, p, n->first + bucket, i) + (mine.begin - begin);
    reduce_add_slice(r, &mine);
    if (r->whole)
        copy_out(r, r->active, slot_of(n, me, n->first + bucket, 0), r->root[0], begin, mine.begin,
                 mine.end);
    set_count(&n->counter[me].summed, n->first + bucket + 1);
}

/* Copies what the other ranks own of a bucket from their slots. */
static void take_bucket(struct reducer *r, const struct range_list *active, float *block,
                        int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    for (int32_t rank = 0; rank < r->comm->size; rank++) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, rank);
        const float *slot = slot_of(n, rank, n->first + bucket, 0);
        if (rank != me)
            (void)reduce_copy(active, s.begin, s.end,
                              slot + (s.begin - r->plan.bucket[bucket].begin), block + s.begin);
    }
    set_count(&n->counter[me].taken, n->first + bucket + 1);
}

static mt_status advance_node(struct reducer *r, bool *moved)
{
    struct node *n = r->state;
    struct counter *c = n->counter;
    *moved = false;
    if (all_reach(r, &c->taken, n->first + r->started + 1 - SLOTS) && reduce_start_bucket(r)) {
        post_bucket(r, r->started - 1);
        *moved = true;
    }
    if (n->summed < r->started && all_reach(r, &c->posted, n->first + n->summed + 1)) {
        add_bucket(r, n->summed++);
        *moved = true;
    }
    if (r->finished < n->summed &&
        (!r->whole || all_reach(r, &c->summed, n->first + r->finished + 1))) {
        if (r->whole)
            take_bucket(r, r->active, r->root[0], r->finished);
        else
            set_count(&c[r->comm->rank].taken, n->first + r->finished + 1);
        r->finished++;
        *moved = true;
    }
    if (r->finished == r->plan.buckets) {
        n->first += r->plan.buckets;
        n->summed = 0;
    }
    return MT_OK;
}

static void gather_post(struct reducer *r, const float *block, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    copy_out(r, &r->ranges, slot_of(n, me, n->first + bucket, 0), block,
             r->plan.bucket[bucket].begin, mine.begin, mine.end);
    set_count(&n->counter[me].posted, n->first + bucket + 1);
}

static mt_status gather_node(struct reducer *r, float *block)
{
    struct node *n = r->state;
    int32_t posted = 0, taken = 0, idle = 0;
    atomic_store(&r->awaited, true);
    while (taken < r->plan.buckets) {
        bool moved = false;
        if (posted < r->plan.buckets &&
            all_reach(r, &n->counter->taken, n->first + posted + 1 - SLOTS)) {
            gather_post(r, block, posted++);
            moved = true;
        }
        if (taken < posted && all_reach(r, &n->counter->posted, n->first + taken + 1)) {
            take_bucket(r, &r->ranges, block, taken++);
            moved = true;
        }
        reduce_rest(r, moved, &idle);
    }
    n->first += r->plan.buckets;
    return MT_OK;
}

const struct reduce_transport reduce_transport_node = {open_node, close_node, advance_node,
                                                       gather_node};

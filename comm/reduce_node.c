/*
 * Transport of reduce.h through memory that the ranks of one host share.
 *
 * Each rank has a ring of slots there.  It copies the part of a bucket that others own into a slot
 * and counts it as posted; an owner that sees a bucket posted by all adds the slices up where they
 * stand and counts it as taken; a slot is written again when all have taken what was in it.  Both
 * counts only grow, over steps and gathers alike, so nothing is ever reset and no lock is needed.
 * Slots are short enough to stay in the processor's cache: the copy costs one reading of the block.
 *
 * Refused: owners reading the blocks themselves.  It saves the copy, but every flat block would
 * have to be allocated in shared memory, which hosts often limit.
 */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"
#include "comm/shared.h"

enum { SLOTS = 4, LINE_BYTES = 64 };

/* One cache line each: written by one rank, read by all. */
struct counter {
    _Alignas(LINE_BYTES) _Atomic int64_t posted;
    _Alignas(LINE_BYTES) _Atomic int64_t taken;
};

struct node {
    struct shared *memory;
    struct counter *counter; /* [ranks] */
    float *slots;            /* [ranks][SLOTS][slot_elements] */
    int64_t slot_elements, root_elements;
    int64_t first; /* the step's first bucket, counted over all steps and gathers */
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

static bool all_have_taken(const struct reducer *r, int64_t count)
{
    const struct node *n = r->state;
    for (int32_t p = 0; p < r->comm->size; p++)
        if (atomic_load_explicit(&n->counter[p].taken, memory_order_acquire) < count)
            return false;
    return true;
}

static bool all_have_posted(const struct reducer *r, int64_t count)
{
    const struct node *n = r->state;
    for (int32_t p = 0; p < r->comm->size; p++)
        if (atomic_load_explicit(&n->counter[p].posted, memory_order_acquire) < count)
            return false;
    return true;
}

static void copy_out(struct reducer *r, float *slot, const float *block, int64_t bucket_begin,
                     int64_t begin, int64_t end)
{
    if (end > begin)
        memcpy(slot + (begin - bucket_begin), block + begin, (size_t)(end - begin) * sizeof *slot);
    r->stats.bytes_sent += (end - begin) * (int64_t)sizeof *slot;
}

static void post_bucket(struct reducer *r, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    const struct reduce_bucket *b = &r->plan.bucket[bucket];
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    for (int32_t i = 0; i < r->roots; i++) {
        float *slot = slot_of(n, me, n->first + bucket, i);
        copy_out(r, slot, r->root[i], b->begin, b->begin, mine.begin);
        copy_out(r, slot, r->root[i], b->begin, mine.end, b->end);
    }
    atomic_store_explicit(&n->counter[me].posted, n->first + bucket + 1, memory_order_release);
}

static void take_bucket(struct reducer *r, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    int64_t o = mine.begin - r->plan.bucket[bucket].begin;
    for (int32_t p = 0; p < r->comm->size; p++)
        for (int32_t i = 0; i < r->first_value[p + 1] - r->first_value[p]; i++)
            r->value[reduce_value(r, p, i)] =
                p == me ? r->root[i] + mine.begin : slot_of(n, p, n->first + bucket, i) + o;
    reduce_add_slice(r, &mine);
    atomic_store_explicit(&n->counter[me].taken, n->first + bucket + 1, memory_order_release);
}

static mt_status advance_node(struct reducer *r, bool *moved)
{
    struct node *n = r->state;
    *moved = false;
    if (r->started - r->finished < SLOTS && all_have_taken(r, n->first + r->started + 1 - SLOTS) &&
        reduce_start_bucket(r)) {
        post_bucket(r, r->started - 1);
        *moved = true;
    }
    if (r->finished < r->started && all_have_posted(r, n->first + r->finished + 1)) {
        take_bucket(r, r->finished);
        r->finished++;
        *moved = true;
    }
    if (r->finished == r->plan.buckets)
        n->first += r->plan.buckets;
    return MT_OK;
}

static void gather_post(struct reducer *r, const float *block, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    copy_out(r, slot_of(n, me, n->first + bucket, 0), block, r->plan.bucket[bucket].begin,
             mine.begin, mine.end);
    atomic_store_explicit(&n->counter[me].posted, n->first + bucket + 1, memory_order_release);
}

static void gather_take(struct reducer *r, float *block, int32_t bucket)
{
    struct node *n = r->state;
    int32_t me = r->comm->rank;
    for (int32_t p = 0; p < r->comm->size; p++) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, p);
        if (p != me && s.end > s.begin)
            memcpy(block + s.begin,
                   slot_of(n, p, n->first + bucket, 0) + (s.begin - r->plan.bucket[bucket].begin),
                   (size_t)(s.end - s.begin) * sizeof *block);
    }
    atomic_store_explicit(&n->counter[me].taken, n->first + bucket + 1, memory_order_release);
}

static mt_status gather_node(struct reducer *r, float *block)
{
    struct node *n = r->state;
    int32_t posted = 0, taken = 0, idle = 0;
    atomic_store(&r->awaited, true);
    while (taken < r->plan.buckets) {
        bool moved = false;
        if (posted < r->plan.buckets && all_have_taken(r, n->first + posted + 1 - SLOTS)) {
            gather_post(r, block, posted++);
            moved = true;
        }
        if (taken < posted && all_have_posted(r, n->first + taken + 1)) {
            gather_take(r, block, taken++);
            moved = true;
        }
        if (moved)
            idle = 0;
        else
            reduce_rest(r, &idle);
    }
    n->first += r->plan.buckets;
    return MT_OK;
}

const struct reduce_transport reduce_transport_node = {open_node, close_node, advance_node,
                                                       gather_node};

/*
 * Transports of reduce.h that send messages: direct, halving, and the library's own allreduce.
 *
 * Direct: each rank sends its roots' slices to the owners; one round, any rank count and any deal
 * of lanes.  Halving (Thakur, Rabenseifner and Gropp, "Optimization of collective communication
 * operations in MPICH", 2005): in round k a rank and its neighbour at distance 2^k swap halves of
 * what both still hold; with one root a rank this walks the very tree of lanes upwards, log2(ranks)
 * messages a bucket, the longest to the nearest.  Direct sends the same bytes in ranks-1 messages.
 *
 * Some buckets are under way at a time (a flight each): what one waits for is hidden behind the
 * others.  The tag is the bucket's number, since flights may pass each other.
 */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/reduce_core.h"
#include "comm/reduce_pack.h"

enum { FLIGHTS = 4, TAGS = 32768 };

struct flight {
    int32_t bucket; /* -1 = free */
    int32_t stage;
    int requests;
    MPI_Request *request;
    float *staging;  /* what other ranks send */
    float *outgoing; /* what cannot travel from where it stands; NULL where all can */
    int64_t packed;  /* elements of it in use */
};

struct wire {
    struct flight flight[FLIGHTS];
    int64_t slice_elements; /* longest slice of this rank */
};

static void close_wire(struct reducer *r)
{
    struct wire *w = r->state;
    for (int i = 0; i < FLIGHTS; i++) {
        if (w->flight[i].bucket >= 0)
            continue; /* given up in the middle: messages may still arrive there */
        mt_free(&w->flight[i].request);
        mt_free(&w->flight[i].staging);
        mt_free(&w->flight[i].outgoing);
    }
    mt_free(&r->state);
}

static mt_status open_wire(struct reducer *r, int64_t requests, int64_t staging, int64_t outgoing)
{
    struct wire *w;
    MT_TRY(mt_alloc(&w, 1, sizeof *w, "the reduction's messages"));
    r->state = w;
    w->slice_elements = reduce_plan_longest_slice(&r->plan, r->comm->rank);
    for (int i = 0; i < FLIGHTS; i++)
        w->flight[i].bucket = -1;
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *f = &w->flight[i];
        MT_TRY(mt_alloc(&f->request, requests, sizeof *f->request, "the reduction's requests"));
        MT_TRY(mt_alloc(&f->staging, staging, sizeof *f->staging, "the reduction's buffers"));
        if (r->rows != NULL || r->groups > 0)
            MT_TRY(mt_alloc(&f->outgoing, outgoing, sizeof *f->outgoing, "what is sent"));
    }
    return MT_OK;
}

/* Sends what is used of block[begin..end); whoever receives it knows how much that is. */
static mt_status post_send(struct reducer *r, struct flight *f, const float *block, int64_t begin,
                           int64_t end, int32_t to)
{
    const float *data = block + begin;
    int64_t count = end - begin;
    if (r->half) {
        data = f->outgoing + f->packed;
        count = reduce_pack_half(r->active, block, begin, end,
                                 (uint16_t *)(void *)(f->outgoing + f->packed));
        f->packed += (count + 1) / 2;
    } else if (!reduce_is_whole(r->active, begin, end)) {
        data = f->outgoing + f->packed;
        count = reduce_pack(r->active, block, begin, end, f->outgoing + f->packed);
        f->packed += count;
    }
    if (count == 0)
        return MT_OK;
    MPI_TRY(MPI_Isend, data, (int)count, r->half ? MPI_UINT16_T : MPI_FLOAT, to, f->bucket % TAGS,
            r->comm->handles->reduce, &f->request[f->requests]);
    f->requests++;
    r->stats.bytes_sent += count * (r->half ? 2 : 4);
    r->stats.messages++;
    return MT_OK;
}

/* Receives `count` elements to the tail of room[length]. */
static mt_status post_receive(struct reducer *r, struct flight *f, float *room, int64_t length,
                              int64_t count, int32_t from)
{
    void *data = r->half ? (void *)((uint16_t *)(void *)(room + length) - count)
                         : (void *)(room + (length - count));
    if (count == 0)
        return MT_OK;
    MPI_TRY(MPI_Irecv, data, (int)count, r->half ? MPI_UINT16_T : MPI_FLOAT, from, f->bucket % TAGS,
            r->comm->handles->reduce, &f->request[f->requests]);
    f->requests++;
    return MT_OK;
}

/* Starts what is ready, then looks at each flight; `begin` posts the first messages of a bucket,
 * `arrived` handles a finished round and says whether the bucket is done. */
static mt_status advance_flights(struct reducer *r, bool *moved,
                                 mt_status (*begin)(struct reducer *, struct flight *),
                                 mt_status (*arrived)(struct reducer *, struct flight *, bool *))
{
    struct wire *w = r->state;
    *moved = false;
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *f = &w->flight[i];
        if (f->bucket < 0) {
            if (!reduce_start_bucket(r))
                continue;
            f->bucket = r->started - 1;
            f->stage = 0;
            f->requests = 0;
            f->packed = 0;
            MT_TRY(begin(r, f));
            *moved = true;
        }
        int all = 0;
        MPI_TRY(MPI_Testall, f->requests, f->request, &all, MPI_STATUSES_IGNORE);
        if (!all)
            continue;
        bool done = false;
        f->requests = 0;
        f->packed = 0;
        MT_TRY(arrived(r, f, &done));
        *moved = true;
        if (done) {
            f->bucket = -1;
            r->finished++;
        }
    }
    return MT_OK;
}

/* One bucket of a gather: in place, or by way of a flight's buffer where rows are left out or
 * values are sent as bf16. */
static mt_status gather_bucket(struct reducer *r, float *block, const struct range_list *active,
                               int32_t bucket, bool half, float *packed)
{
    const struct reduce_bucket *b = &r->plan.bucket[bucket];
    bool in_place = !half && reduce_is_whole(active, b->begin, b->end);
    float *data = in_place ? block + b->begin : packed;
    uint16_t *halves = (uint16_t *)(void *)packed;
    int32_t me = r->comm->rank;
    for (int32_t p = 0; p < r->comm->size; p++) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, p);
        r->counts[p] = (int)range_list_within(active, s.begin, s.end);
        r->offsets[p] = (int)range_list_within(active, b->begin, s.begin);
        if (p == me && half)
            (void)reduce_pack_half(active, block, s.begin, s.end, halves + r->offsets[p]);
        else if (p == me && !in_place)
            (void)reduce_pack(active, block, s.begin, s.end, data + r->offsets[p]);
    }
    MPI_TRY(MPI_Allgatherv, MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, r->counts, r->offsets,
            half ? MPI_UINT16_T : MPI_FLOAT, r->comm->handles->reduce);
    r->stats.bytes_sent += r->counts[me] * (int64_t)(r->comm->size - 1) * (half ? 2 : 4);
    if (half)
        reduce_unpack_half(active, halves, b->begin, b->end, block);
    else if (!in_place)
        reduce_unpack(active, data, b->begin, b->end, block);
    return MT_OK;
}

/* Buckets one after another: gathers are not hidden behind anything. */
mt_status reduce_gather_messages(struct reducer *r, float *block, bool sums, float *packed)
{
    const struct range_list *active = sums ? r->active : &r->ranges;
    bool half = sums && r->groups > 0; /* sums are rounded, other blocks are not */
    for (int32_t b = 0; b < r->plan.buckets; b++)
        if (range_list_within(active, r->plan.bucket[b].begin, r->plan.bucket[b].end) > 0)
            MT_TRY(gather_bucket(r, block, active, b, half, packed));
    return MT_OK;
}

static mt_status gather_wire(struct reducer *r, float *block, bool sums)
{
    struct wire *w = r->state;
    return reduce_gather_messages(r, block, sums, w->flight[0].outgoing);
}

static mt_status open_direct(struct reducer *r)
{
    int64_t ranks = r->comm->size, peers = r->values - r->roots;
    int64_t slice = reduce_plan_longest_slice(&r->plan, r->comm->rank);
    return comm_agree(r->comm, open_wire(r, peers + (ranks - 1) * r->roots, peers * slice,
                                         r->roots * r->plan.longest));
}

static mt_status begin_direct(struct reducer *r, struct flight *f)
{
    struct wire *w = r->state;
    int32_t me = r->comm->rank, ranks = r->comm->size;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, me);
    int64_t length = mine.end - mine.begin, used;
    float *staging = f->staging;
    used = range_list_within(r->active, mine.begin, mine.end);
    for (int32_t hop = 1; hop < ranks; hop++) { /* not everybody to rank 0 first */
        int32_t from = (me + ranks - hop) % ranks, to = (me + hop) % ranks;
        for (int32_t v = r->first_value[from]; v < r->first_value[from + 1]; v++) {
            MT_TRY(post_receive(r, f, staging, length, used, from));
            staging += w->slice_elements;
        }
        struct reduce_slice s = reduce_plan_slice(&r->plan, f->bucket, to);
        for (int32_t i = 0; i < r->roots; i++)
            MT_TRY(post_send(r, f, r->root[i], s.begin, s.end, to));
    }
    return MT_OK;
}

static mt_status arrived_direct(struct reducer *r, struct flight *f, bool *done)
{
    struct wire *w = r->state;
    int32_t me = r->comm->rank, ranks = r->comm->size;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, me);
    float *staging = f->staging;
    int64_t used = range_list_within(r->active, mine.begin, mine.end);
    for (int32_t hop = 1; hop < ranks; hop++) {
        int32_t from = (me + ranks - hop) % ranks;
        for (int32_t v = r->first_value[from]; v < r->first_value[from + 1]; v++) {
            reduce_spread(r->active, staging, used, mine.begin, mine.end, r->half);
            r->value[v] = staging;
            staging += w->slice_elements;
        }
    }
    for (int32_t i = 0; i < r->roots; i++)
        r->value[reduce_value(r, me, i)] = r->root[i] + mine.begin;
    reduce_add_slice(r, &mine);
    *done = true;
    return MT_OK;
}

static mt_status advance_direct(struct reducer *r, bool *moved)
{
    return advance_flights(r, moved, begin_direct, arrived_direct);
}

static mt_status open_halving(struct reducer *r)
{
    return comm_agree(r->comm,
                      open_wire(r, 2, r->plan.longest / 2 + REDUCE_BLOCK, r->plan.longest));
}

/* Keeps one half of what this rank holds and swaps the other with its partner. */
static mt_status begin_halving(struct reducer *r, struct flight *f)
{
    int32_t me = r->comm->rank, partner = me ^ (1 << f->stage);
    struct reduce_slice mine = reduce_plan_halved(&r->plan, f->bucket, me, f->stage + 1);
    struct reduce_slice theirs = reduce_plan_halved(&r->plan, f->bucket, partner, f->stage + 1);
    int64_t used = range_list_within(r->active, mine.begin, mine.end);
    MT_TRY(post_receive(r, f, f->staging, used, used, partner));
    return post_send(r, f, r->root[0], theirs.begin, theirs.end, partner);
}

static mt_status arrived_halving(struct reducer *r, struct flight *f, bool *done)
{
    struct reduce_slice mine = reduce_plan_halved(&r->plan, f->bucket, r->comm->rank, f->stage + 1);
    /* left + right and right + left are the same bits */
    reduce_add_packed(r->active, f->staging, mine.begin, mine.end, r->root[0]);
    f->stage++;
    if (r->groups > 0 && r->groups << f->stage == r->comm->size)
        reduce_round(r, r->comm->rank >> f->stage, r->root[0] + mine.begin, mine.begin, mine.end);
    *done = (1 << f->stage) == r->comm->size;
    if (!*done)
        return begin_halving(r, f);
    reduce_square_slice(r, &mine);
    return MT_OK;
}

static mt_status advance_halving(struct reducer *r, bool *moved)
{
    return advance_flights(r, moved, begin_halving, arrived_halving);
}

static mt_status open_vendor(struct reducer *r)
{
    return comm_agree(r->comm, open_wire(r, 1, 0, r->plan.longest));
}

/* The roots of a rank are added up first, then the library adds up the ranks. */
static mt_status begin_vendor(struct reducer *r, struct flight *f)
{
    const struct reduce_bucket *b = &r->plan.bucket[f->bucket];
    float *data = r->root[0] + b->begin;
    int64_t count = b->end - b->begin;
    struct range p;
    for (int32_t i = 1; i < r->roots; i++)
        for (struct range_walk w = range_walk_over(r->active, b->begin, b->end);
             range_walk_next(&w, &p);)
            lane_tree_add(r->root[0] + p.begin, r->root[i] + p.begin, p.end - p.begin);
    if (!reduce_is_whole(r->active, b->begin, b->end)) {
        data = f->outgoing;
        count = reduce_pack(r->active, r->root[0], b->begin, b->end, data);
    }
    if (count == 0)
        return MT_OK;
    MPI_TRY(MPI_Iallreduce, MPI_IN_PLACE, data, (int)count, MPI_FLOAT, MPI_SUM,
            r->comm->handles->reduce, f->request);
    f->requests = 1;
    r->stats.bytes_sent += 2 * count * (r->comm->size - 1) / r->comm->size * (int64_t)sizeof(float);
    return MT_OK;
}

static mt_status arrived_vendor(struct reducer *r, struct flight *f, bool *done)
{
    const struct reduce_bucket *b = &r->plan.bucket[f->bucket];
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, r->comm->rank);
    if (!reduce_is_whole(r->active, b->begin, b->end))
        reduce_unpack(r->active, f->outgoing, b->begin, b->end, r->root[0]);
    reduce_square_slice(r, &mine);
    *done = true;
    return MT_OK;
}

static mt_status advance_vendor(struct reducer *r, bool *moved)
{
    return advance_flights(r, moved, begin_vendor, arrived_vendor);
}

const struct reduce_transport reduce_transport_direct = {open_direct, close_wire, advance_direct,
                                                         gather_wire, false};
const struct reduce_transport reduce_transport_halving = {open_halving, close_wire, advance_halving,
                                                          gather_wire, false};
const struct reduce_transport reduce_transport_vendor = {open_vendor, close_wire, advance_vendor,
                                                         gather_wire, true};

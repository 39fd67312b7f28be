/*
 * Transports of reduce.h that send messages: direct, halving, and the library's own allreduce.
 *
 * Direct: each rank sends its roots' slices to the owners; one round, any rank count and any deal
 * of lanes.  Halving (Thakur, Rabenseifner and Gropp, "Optimization of collective communication
 * operations in MPICH", 2005): in round k a rank and its neighbour at distance 2^k swap halves of
 * what both still hold; with one root a rank this walks the very tree of lanes upwards, log2(ranks)
 * messages a bucket, the longest to the nearest.  Direct sends the same bytes in ranks-1 messages.
 * Where all ranks want the whole sum, both go on with their mirrors: doubling, the rounds in
 * reverse, each rank handing its partner what it has of the sum; or each owner's slice to
 * everybody. That is part of what runs beside the backward pass; a gather is the way back alone.
 *
 * Some buckets are under way at a time (a flight each, reduce_flight.h): what one waits for is
 * hidden behind the others.
 */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/reduce_flight.h"
#include "comm/reduce_pack.h"

enum { SLICES = 1 }; /* the stage of a flight on the direct path that takes slices of the sum */

/* Whose owned parts are copied to all ranks: the step's sum, or any block. */
struct spread {
    float *block;
    struct reduce_form form;
};

struct wire {
    struct reduce_flight flight[REDUCE_FLIGHTS];
    int64_t slice_elements; /* longest slice of this rank */
    struct spread spread;
};

static void close_wire(struct reducer *r)
{
    struct wire *w = r->state;
    for (int i = 0; i < REDUCE_FLIGHTS; i++)
        reduce_flight_release(&w->flight[i]);
    mt_free(&r->state);
}

static mt_status open_wire(struct reducer *r, int64_t requests, int64_t staging, int64_t outgoing)
{
    struct wire *w;
    MT_TRY(mt_alloc(&w, 1, sizeof *w, "the reduction's messages"));
    r->state = w;
    w->slice_elements = reduce_plan_longest_slice(&r->plan, r->comm->rank);
    for (int i = 0; i < REDUCE_FLIGHTS; i++)
        w->flight[i].bucket = -1;
    for (int i = 0; i < REDUCE_FLIGHTS; i++)
        MT_TRY(reduce_flight_init(&w->flight[i], r, requests, staging, outgoing));
    return MT_OK;
}

/* What flights do, a bucket each. */
struct journey {
    int32_t (*next)(struct reducer *); /* takes up a bucket and answers its number, or -1 */
    mt_status (*begin)(struct reducer *, struct reduce_flight *); /* posts the first messages */
    /* a round is over; whether the bucket is done */
    mt_status (*arrived)(struct reducer *, struct reduce_flight *, bool *done);
};

static int32_t next_of_step(struct reducer *r)
{
    return reduce_start_bucket(r) ? r->started - 1 : -1;
}

static mt_status take_off(struct reducer *r, struct reduce_flight *f, const struct journey *j,
                          bool *moved)
{
    int32_t bucket = j->next(r);
    if (bucket < 0)
        return MT_OK;
    reduce_flight_start(f, bucket);
    *moved = true;
    return j->begin(r, f);
}

/* The flight with the first bucket behind `after`, or NULL. */
static struct reduce_flight *next_flight(struct wire *w, int32_t after)
{
    struct reduce_flight *next = NULL;
    for (int i = 0; i < REDUCE_FLIGHTS; i++) {
        struct reduce_flight *f = &w->flight[i];
        if (f->bucket > after && (next == NULL || f->bucket < next->bucket))
            next = f;
    }
    return next;
}

/* One round of the first bucket that has arrived.  So buckets that started together come apart:
 * the first ends, and the next one's longest messages travel while the others are added up. */
static mt_status advance_flights(struct reducer *r, bool *moved, const struct journey *j)
{
    struct wire *w = r->state;
    bool arrived = false, done = false;
    *moved = false;
    for (int i = 0; i < REDUCE_FLIGHTS; i++)
        if (w->flight[i].bucket < 0)
            MT_TRY(take_off(r, &w->flight[i], j, moved));
    for (struct reduce_flight *f = next_flight(w, -1); f != NULL; f = next_flight(w, f->bucket)) {
        MT_TRY(reduce_flight_arrived(f, &arrived));
        if (!arrived)
            continue;
        MT_TRY(j->arrived(r, f, &done));
        if (done) {
            f->bucket = -1;
            r->finished++;
        }
        *moved = true;
        return MT_OK;
    }
    return MT_OK;
}

/* By the library, buckets one after another. */
static mt_status gather_vendor(struct reducer *r, float *block)
{
    int32_t me = r->comm->rank;
    for (int32_t i = 0; i < r->plan.buckets; i++) {
        const struct reduce_bucket *b = &r->plan.bucket[i];
        for (int32_t p = 0; p < r->comm->size; p++) {
            struct reduce_slice s = reduce_plan_slice(&r->plan, i, p);
            r->counts[p] = (int)(s.end - s.begin);
            r->offsets[p] = (int)(s.begin - b->begin);
        }
        MPI_TRY(MPI_Allgatherv, MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, block + b->begin, r->counts,
                r->offsets, MPI_FLOAT, r->comm->handles->reduce);
        r->stats.bytes_sent += r->counts[me] * (int64_t)(r->comm->size - 1) * 4;
    }
    return MT_OK;
}

static int64_t greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static mt_status open_direct(struct reducer *r)
{
    int64_t others = r->comm->size - 1, peers = r->values - r->roots;
    int64_t slice = reduce_plan_longest_slice(&r->plan, r->comm->rank);
    int64_t staging =
        greater(peers * slice, r->rows != NULL || r->groups > 0 ? r->plan.longest : 0);
    return comm_agree(r->comm, open_wire(r, greater(peers + others * r->roots, 2 * others), staging,
                                         r->roots * r->plan.longest));
}

static mt_status begin_direct(struct reducer *r, struct reduce_flight *f)
{
    struct wire *w = r->state;
    struct reduce_form form = reduce_form_of_parts(r);
    int32_t me = r->comm->rank, ranks = r->comm->size;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, me);
    int64_t length = mine.end - mine.begin, used;
    float *staging = f->staging;
    used = range_list_within(r->active, mine.begin, mine.end);
    for (int32_t hop = 1; hop < ranks; hop++) { /* not everybody to rank 0 first */
        int32_t from = (me + ranks - hop) % ranks, to = (me + hop) % ranks;
        for (int32_t v = r->first_value[from]; v < r->first_value[from + 1]; v++) {
            MT_TRY(reduce_flight_receive_tail(r, f, form.half, staging, length, used, from));
            staging += w->slice_elements;
        }
        struct reduce_slice s = reduce_plan_slice(&r->plan, f->bucket, to);
        for (int32_t i = 0; i < r->roots; i++)
            MT_TRY(reduce_flight_send(r, f, form, r->root[i], s.begin, s.end, to));
    }
    return MT_OK;
}

/* The way back: this rank's slice of the sum to everybody, and everybody's here. */
static mt_status swap_slices(struct reducer *r, struct reduce_flight *f)
{
    const struct spread *s = &((const struct wire *)r->state)->spread;
    int32_t me = r->comm->rank, ranks = r->comm->size;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, me);
    int64_t begin = r->plan.bucket[f->bucket].begin;
    struct reduce_parcel parcel = reduce_flight_pack(f, s->form, s->block, mine.begin, mine.end);
    f->stage = SLICES;
    for (int32_t hop = 1; hop < ranks; hop++) {
        int32_t from = (me + ranks - hop) % ranks, to = (me + hop) % ranks;
        struct reduce_slice theirs = reduce_plan_slice(&r->plan, f->bucket, from);
        bool plain = reduce_form_is_plain(s->form, theirs.begin, theirs.end);
        float *room = plain ? s->block + theirs.begin : f->staging + (theirs.begin - begin);
        MT_TRY(reduce_flight_receive(r, f, s->form.half, room,
                                     range_list_within(s->form.active, theirs.begin, theirs.end),
                                     from));
        MT_TRY(reduce_flight_post(r, f, &parcel, to));
    }
    return MT_OK;
}

/* What came by way of the flight's buffer, to its place: `packed` holds a slice of the sum. */
static void unpack_spread(const struct spread *s, const float *packed, struct reduce_slice slice)
{
    if (s->form.half)
        reduce_unpack_half(s->form.active, (const uint16_t *)(const void *)packed, slice.begin,
                           slice.end, s->block);
    else if (!reduce_form_is_plain(s->form, slice.begin, slice.end))
        reduce_unpack(s->form.active, packed, slice.begin, slice.end, s->block);
}

static mt_status arrived_slices(struct reducer *r, struct reduce_flight *f, bool *done)
{
    const struct spread *s = &((const struct wire *)r->state)->spread;
    int64_t begin = r->plan.bucket[f->bucket].begin;
    for (int32_t p = 0; p < r->comm->size; p++) {
        struct reduce_slice theirs = reduce_plan_slice(&r->plan, f->bucket, p);
        if (p != r->comm->rank)
            unpack_spread(s, f->staging + (theirs.begin - begin), theirs);
    }
    *done = true;
    return MT_OK;
}

static mt_status arrived_direct(struct reducer *r, struct reduce_flight *f, bool *done)
{
    if (f->stage == SLICES)
        return arrived_slices(r, f, done);
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
    *done = !r->whole;
    return *done ? MT_OK : swap_slices(r, f);
}

/* A step's sums, which stand in root 0, where they are gathered at once. */
static mt_status advance_sums(struct reducer *r, bool *moved, const struct journey *j)
{
    struct wire *w = r->state;
    w->spread = (struct spread){r->root[0], reduce_form_of_sums(r)};
    return advance_flights(r, moved, j);
}

static mt_status advance_direct(struct reducer *r, bool *moved)
{
    static const struct journey sums = {next_of_step, begin_direct, arrived_direct};
    return advance_sums(r, moved, &sums);
}

static int32_t next_of_gather(struct reducer *r)
{
    return r->started < r->plan.buckets ? r->started++ : -1;
}

/* The way back alone. */
static mt_status gather_flights(struct reducer *r, float *block, const struct journey *j)
{
    struct wire *w = r->state;
    int32_t idle = 0;
    w->spread = (struct spread){block, {&r->ranges, false}};
    atomic_store(&r->awaited, true);
    r->started = r->finished = 0;
    while (r->finished < r->plan.buckets) {
        bool moved;
        MT_TRY(advance_flights(r, &moved, j));
        reduce_rest(r, moved, &idle);
    }
    return MT_OK;
}

static mt_status gather_direct(struct reducer *r, float *block)
{
    static const struct journey gather = {next_of_gather, swap_slices, arrived_slices};
    return gather_flights(r, block, &gather);
}

static mt_status open_halving(struct reducer *r)
{
    int64_t half = r->plan.longest / 2 + REDUCE_BLOCK;
    return comm_agree(r->comm, open_wire(r, 2, half, half));
}

static int32_t halvings(const struct reducer *r)
{
    int32_t stages = 0;
    while ((1 << stages) < r->comm->size)
        stages++;
    return stages;
}

/* Keeps one half of what this rank holds and swaps the other with its partner. */
static mt_status swap_halves(struct reducer *r, struct reduce_flight *f)
{
    struct reduce_form form = reduce_form_of_parts(r);
    int32_t me = r->comm->rank, partner = me ^ (1 << f->stage);
    struct reduce_slice mine = reduce_plan_halved(&r->plan, f->bucket, me, f->stage + 1);
    struct reduce_slice theirs = reduce_plan_halved(&r->plan, f->bucket, partner, f->stage + 1);
    int64_t used = range_list_within(r->active, mine.begin, mine.end);
    MT_TRY(reduce_flight_receive(r, f, form.half, f->staging, used, partner));
    return reduce_flight_send(r, f, form, r->root[0], theirs.begin, theirs.end, partner);
}

/* The way back, rounds in reverse: sends what this rank has of the sum and gets as much. */
static mt_status swap_sums(struct reducer *r, struct reduce_flight *f)
{
    const struct spread *s = &((const struct wire *)r->state)->spread;
    int32_t k = 2 * halvings(r) - 1 - f->stage, me = r->comm->rank, partner = me ^ (1 << k);
    struct reduce_slice mine = reduce_plan_halved(&r->plan, f->bucket, me, k + 1);
    struct reduce_slice theirs = reduce_plan_halved(&r->plan, f->bucket, partner, k + 1);
    bool plain = reduce_form_is_plain(s->form, theirs.begin, theirs.end);
    int64_t used = range_list_within(s->form.active, theirs.begin, theirs.end);
    MT_TRY(reduce_flight_receive(r, f, s->form.half, plain ? s->block + theirs.begin : f->staging,
                                 used, partner));
    return reduce_flight_send(r, f, s->form, s->block, mine.begin, mine.end, partner);
}

static mt_status arrived_doubling(struct reducer *r, struct reduce_flight *f, bool *done)
{
    const struct spread *s = &((const struct wire *)r->state)->spread;
    int32_t k = 2 * halvings(r) - 1 - f->stage, partner = r->comm->rank ^ (1 << k);
    struct reduce_slice theirs = reduce_plan_halved(&r->plan, f->bucket, partner, k + 1);
    unpack_spread(s, f->staging, theirs);
    f->stage++;
    *done = k == 0;
    return *done ? MT_OK : swap_sums(r, f);
}

static mt_status arrived_halving(struct reducer *r, struct reduce_flight *f, bool *done)
{
    if (f->stage >= halvings(r))
        return arrived_doubling(r, f, done);
    struct reduce_slice mine = reduce_plan_halved(&r->plan, f->bucket, r->comm->rank, f->stage + 1);
    /* left + right and right + left are the same bits */
    reduce_add_packed(r->active, f->staging, mine.begin, mine.end, r->root[0]);
    f->stage++;
    if (r->groups > 0 && r->groups << f->stage == r->comm->size)
        reduce_round(r, r->comm->rank >> f->stage, r->root[0] + mine.begin, mine.begin, mine.end);
    if (f->stage < halvings(r))
        return swap_halves(r, f);
    reduce_square_slice(r, &mine);
    *done = !r->whole;
    return *done ? MT_OK : swap_sums(r, f);
}

static mt_status advance_halving(struct reducer *r, bool *moved)
{
    static const struct journey sums = {next_of_step, swap_halves, arrived_halving};
    return advance_sums(r, moved, &sums);
}

static mt_status begin_doubling(struct reducer *r, struct reduce_flight *f)
{
    f->stage = halvings(r);
    return swap_sums(r, f);
}

static mt_status gather_halving(struct reducer *r, float *block)
{
    static const struct journey gather = {next_of_gather, begin_doubling, arrived_doubling};
    return gather_flights(r, block, &gather);
}

static mt_status open_vendor(struct reducer *r)
{
    return comm_agree(r->comm, open_wire(r, 1, 0, r->plan.longest));
}

/* The roots of a rank are added up first, then the library adds up the ranks. */
static mt_status begin_vendor(struct reducer *r, struct reduce_flight *f)
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

static mt_status arrived_vendor(struct reducer *r, struct reduce_flight *f, bool *done)
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
    static const struct journey sums = {next_of_step, begin_vendor, arrived_vendor};
    return advance_flights(r, moved, &sums);
}

const struct reduce_transport reduce_transport_direct = {open_direct, close_wire, advance_direct,
                                                         gather_direct};
const struct reduce_transport reduce_transport_halving = {open_halving, close_wire, advance_halving,
                                                          gather_halving};
const struct reduce_transport reduce_transport_vendor = {open_vendor, close_wire, advance_vendor,
                                                         gather_vendor};

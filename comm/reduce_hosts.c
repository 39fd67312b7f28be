/*
 * Transport of reduce.h for several hosts with several ranks each: shared memory first, then one
 * message between two hosts for each slice.
 *
 * A bucket is owned in slices by all ranks, as on the other paths.  Every rank copies its roots
 * into its slot of the host's ring; for each slice one rank of the host, the adder, joins what the
 * host's ranks have of it up the tree, as far as the host's lanes go, and sends that to the slice's
 * owner. An owner is the adder for its own slice.  So a host sends each slice once where on the
 * direct path each of its ranks does, and the bits are the same, since the tree is.
 *
 * Whole sums take the way back: an owner sends its slice to one rank of each other host, into that
 * rank's slot, and everybody copies what it does not own from its host's memory.
 *
 * Counts in shared memory only grow, as in reduce_node.c.  A slot is written again when all ranks
 * of the host are done with the bucket, messages included.
 *
 * Needs the ranks of a host to be neighbours, so that their lanes are.
 */
#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/reduce_flight.h"
#include "comm/reduce_kernels.h"
#include "comm/reduce_pack.h"
#include "comm/shared.h"

enum { SLOTS = REDUCE_HOSTS_FLIGHTS, LINE_BYTES = 64 };

/* What a flight is about: parts of sums, then, where all ranks want them, the sums. */
enum stage { PARTS, SPREADING, SPREAD };

struct counter {
    _Alignas(LINE_BYTES) _Atomic int64_t posted;
    _Alignas(LINE_BYTES) _Atomic int64_t spread;
    _Alignas(LINE_BYTES) _Atomic int64_t taken;
};

struct hosts {
    struct shared *memory;
    struct counter *counter; /* [locals] */
    float *slots;            /* [locals][SLOTS][slot_elements] */
    int64_t slot_elements, root_elements, slice_elements;
    int32_t *first_rank; /* [hosts + 1] */
    int32_t host, locals;
    /* the values of this host's ranks, in lane order, and how they become the host's roots */
    int32_t values, merges, roots;
    int32_t *owner, *root;    /* [values] local rank, and which of its roots */
    struct lane_merge *merge; /* [values] */
    int32_t *merge_group;     /* [values] 1 + the group that a merge completes, or 0 */
    int32_t *left;            /* [values] values that are the host's roots */
    float **value;            /* [values] */
    struct reduce_flight flight[SLOTS];
    int64_t first;  /* the step's first bucket, counted over all steps */
    int32_t joined; /* buckets of this step that this rank has joined and sent */
    int32_t added;  /* whose slice it has added up */
};

static void close_hosts(struct reducer *r)
{
    struct hosts *n = r->state;
    for (int i = 0; i < SLOTS; i++)
        reduce_flight_release(&n->flight[i]);
    shared_destroy(&n->memory);
    mt_free(&n->first_rank);
    mt_free(&n->owner);
    mt_free(&n->root);
    mt_free(&n->merge);
    mt_free(&n->merge_group);
    mt_free(&n->left);
    mt_free(&n->value);
    mt_free(&r->state);
}

/* The rank of `host` that adds up the slice of rank p. */
static int32_t adder_of(const struct reducer *r, int32_t host, int32_t p)
{
    const struct hosts *n = r->state;
    int32_t home = comm_node_of(r->comm, p), locals = n->first_rank[host + 1] - n->first_rank[host];
    return home == host ? p : n->first_rank[host] + (p - n->first_rank[home]) % locals;
}

static mt_status find_hosts(struct reducer *r, struct hosts *n)
{
    const struct comm *c = r->comm;
    MT_TRY(mt_alloc(&n->first_rank, c->node_count + 1, sizeof *n->first_rank, "the hosts"));
    for (int32_t p = 0; p < c->size; p++)
        n->first_rank[comm_node_of(c, p) + 1] = p + 1;
    n->host = c->node_index;
    n->locals = n->first_rank[n->host + 1] - n->first_rank[n->host];
    return MT_OK;
}

/* The tree within this host. */
static mt_status plan_host(struct reducer *r, struct hosts *n)
{
    int32_t nodes[LANE_ROOTS_MAX], *all = NULL, most = n->locals * LANE_ROOTS_MAX;
    mt_status st;
    MT_TRY(mt_alloc(&all, most, sizeof *all, "the host's nodes"));
    MT_TRY_GOTO(st, mt_alloc(&n->owner, most, sizeof *n->owner, "the host's roots"), done);
    MT_TRY_GOTO(st, mt_alloc(&n->root, most, sizeof *n->root, "the host's roots"), done);
    MT_TRY_GOTO(st, mt_alloc(&n->merge, most, sizeof *n->merge, "the host's tree"), done);
    MT_TRY_GOTO(st, mt_alloc(&n->merge_group, most, sizeof *n->merge_group, "groups"), done);
    MT_TRY_GOTO(st, mt_alloc(&n->left, most, sizeof *n->left, "the host's roots"), done);
    MT_TRY_GOTO(st, mt_alloc(&n->value, most, sizeof *n->value, "the host's values"), done);
    for (int32_t q = 0; q < n->locals; q++) {
        int32_t rank = n->first_rank[n->host] + q;
        int32_t count =
            lane_tree_roots(r->lanes, lane_tree_range(r->lanes, r->comm->size, rank), nodes);
        for (int32_t i = 0; i < count; i++, n->values++) {
            n->owner[n->values] = q;
            n->root[n->values] = i;
            all[n->values] = nodes[i];
        }
    }
    n->merges = lane_tree_merges(all, n->values, n->merge, n->left);
    n->roots = n->values - n->merges;
    for (int32_t m = 0; m < n->merges; m++)
        n->merge_group[m] = 1 + reduce_group_of(r, all[n->merge[m].into] /= 2);
done:
    mt_free(&all);
    return st;
}

static mt_status make_flights(struct reducer *r, struct hosts *n)
{
    int64_t remote = r->values - n->roots, ranks = r->comm->size, sent = 0;
    n->slice_elements = reduce_plan_longest_slice(&r->plan, r->comm->rank);
    for (int32_t p = 0; p < ranks; p++)
        if (comm_node_of(r->comm, p) != n->host && adder_of(r, n->host, p) == r->comm->rank)
            sent += n->roots * reduce_plan_longest_slice(&r->plan, p);
    for (int i = 0; i < SLOTS; i++) {
        int64_t spread = (r->comm->node_count - 1) * n->slice_elements;
        int64_t room = sent > spread ? sent : spread;
        MT_TRY(reduce_flight_init(&n->flight[i], r, remote + ranks * n->roots,
                                  remote * n->slice_elements, room));
    }
    return MT_OK;
}

static mt_status prepare_hosts(struct reducer *r)
{
    struct hosts *n = r->state;
    MT_TRY(find_hosts(r, n));
    MT_TRY(plan_host(r, n));
    return make_flights(r, n);
}

static mt_status open_hosts(struct reducer *r)
{
    struct hosts *n = NULL;
    int32_t most = 1, nodes[LANE_ROOTS_MAX];
    mt_status st = mt_alloc(&n, 1, sizeof *n, "the reduction's ring");
    r->state = n;
    MT_ALL(r->comm, st);
    MT_ALL(r->comm, prepare_hosts(r));
    for (int32_t p = 0; p < r->comm->size; p++) {
        int32_t count =
            lane_tree_roots(r->lanes, lane_tree_range(r->lanes, r->comm->size, p), nodes);
        most = count > most ? count : most;
    }
    n->root_elements = (r->plan.longest + 15) / 16 * 16;
    n->slot_elements = n->root_elements * most;
    int64_t places = n->locals; /* the same on all hosts: the largest host decides */
    for (int32_t h = 0; h < r->comm->node_count; h++)
        if (n->first_rank[h + 1] - n->first_rank[h] > places)
            places = n->first_rank[h + 1] - n->first_rank[h];
    int64_t counters = places * (int64_t)sizeof(struct counter);
    int64_t bytes = counters + places * SLOTS * n->slot_elements * (int64_t)sizeof(float);
    MT_TRY(shared_create(&n->memory, r->comm, bytes, "the reduction between the ranks of a host"));
    n->counter = shared_base(n->memory);
    n->slots = (float *)(void *)((char *)shared_base(n->memory) + counters);
    return MT_OK;
}

static float *slot_of(const struct hosts *n, int32_t local, int64_t number, int32_t root)
{
    return n->slots + ((int64_t)local * SLOTS + number % SLOTS) * n->slot_elements +
           root * n->root_elements;
}

/* Whether a count has come to `least` on all ranks of the host; `first` is that of the first. */
static bool all_reach(const struct hosts *n, const _Atomic int64_t *first, int64_t least)
{
    enum { STRIDE = (int)(sizeof(struct counter) / sizeof(int64_t)) };
    for (int32_t q = 0; q < n->locals; q++)
        if (atomic_load_explicit(first + (int64_t)q * STRIDE, memory_order_acquire) < least)
            return false;
    return true;
}

static void post_bucket(struct reducer *r, int32_t bucket)
{
    struct hosts *n = r->state;
    const struct reduce_bucket *b = &r->plan.bucket[bucket];
    int32_t me = r->comm->node_rank;
    for (int32_t i = 0; i < r->roots; i++) {
        float *slot = slot_of(n, me, n->first + bucket, i);
        int64_t count = reduce_copy(r->active, b->begin, b->end, r->root[i] + b->begin, slot);
        r->stats.bytes_sent += count * (int64_t)sizeof *slot;
    }
    atomic_store_explicit(&n->counter[me].posted, n->first + bucket + 1, memory_order_release);
}

/* Joins what the host's ranks have of a slice; n->value[n->left[...]] are then the host's roots,
 * each standing for the slice's first element. */
static void join_slice(struct reducer *r, int32_t bucket, const struct reduce_slice *s)
{
    struct hosts *n = r->state;
    struct range p;
    for (int32_t v = 0; v < n->values; v++)
        n->value[v] = slot_of(n, n->owner[v], n->first + bucket, n->root[v]) +
                      (s->begin - r->plan.bucket[bucket].begin);
    for (int64_t at = s->begin; at < s->end; at += REDUCE_BLOCK) {
        int64_t end = at + REDUCE_BLOCK < s->end ? at + REDUCE_BLOCK : s->end;
        struct range_walk w = range_walk_over(r->active, at, end);
        while (range_walk_next(&w, &p))
            for (int32_t m = 0; m < n->merges; m++) {
                float *into = n->value[n->merge[m].into] + (p.begin - s->begin);
                const float *from = n->value[n->merge[m].from] + (p.begin - s->begin);
                lane_tree_add(into, from, p.end - p.begin);
                if (n->merge_group[m] > 0)
                    reduce_round(r, n->merge_group[m] - 1, into, p.begin, p.end);
            }
    }
}

static mt_status receive_slices(struct reducer *r, struct reduce_flight *f)
{
    struct hosts *n = r->state;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, f->bucket, r->comm->rank);
    int64_t length = mine.end - mine.begin;
    int64_t used = range_list_within(r->active, mine.begin, mine.end);
    float *staging = f->staging;
    for (int32_t h = 0; h < r->comm->node_count; h++)
        for (int32_t v = r->first_value[h]; v < r->first_value[h + 1] && h != n->host; v++) {
            MT_TRY(reduce_flight_receive_tail(r, f, r->half, staging, length, used,
                                              adder_of(r, h, r->comm->rank)));
            staging += n->slice_elements;
        }
    return MT_OK;
}

static mt_status join_bucket(struct reducer *r, int32_t bucket)
{
    struct hosts *n = r->state;
    struct reduce_flight *f = &n->flight[bucket % SLOTS];
    struct reduce_form form = reduce_form_of_parts(r);
    int32_t me = r->comm->rank, ranks = r->comm->size;
    reduce_flight_start(f, bucket);
    MT_TRY(receive_slices(r, f));
    for (int32_t hop = 1; hop <= ranks; hop++) { /* not everybody to rank 0 first; itself last */
        int32_t p = (me + hop) % ranks;
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, p);
        if (s.end == s.begin || adder_of(r, n->host, p) != me)
            continue;
        join_slice(r, bucket, &s);
        for (int32_t i = 0; i < n->roots && p != me; i++)
            MT_TRY(
                reduce_flight_send(r, f, form, n->value[n->left[i]] - s.begin, s.begin, s.end, p));
    }
    return MT_OK;
}

/* All hosts' roots of this rank's slice are here. */
static void add_bucket(struct reducer *r, int32_t bucket)
{
    struct hosts *n = r->state;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, r->comm->rank);
    int64_t used = range_list_within(r->active, mine.begin, mine.end);
    float *staging = n->flight[bucket % SLOTS].staging;
    for (int32_t h = 0; h < r->comm->node_count; h++)
        for (int32_t v = r->first_value[h]; v < r->first_value[h + 1]; v++) {
            if (h == n->host) {
                int32_t own = n->left[v - r->first_value[h]];
                r->value[v] = slot_of(n, n->owner[own], n->first + bucket, n->root[own]) +
                              (mine.begin - r->plan.bucket[bucket].begin);
                continue;
            }
            reduce_spread(r->active, staging, used, mine.begin, mine.end, r->half);
            r->value[v] = staging;
            staging += n->slice_elements;
        }
    reduce_add_slice(r, &mine);
}

/* Where a slice of a bucket's sum lies in this host's memory: in its adder's slot, which nobody
 * else reads there and whose own messages have left. */
static float *sum_slot(const struct reducer *r, int32_t bucket, int32_t p)
{
    const struct hosts *n = r->state;
    int32_t local = adder_of(r, n->host, p) - n->first_rank[n->host];
    return slot_of(n, local, n->first + bucket, 0) +
           (reduce_plan_slice(&r->plan, bucket, p).begin - r->plan.bucket[bucket].begin);
}

/* The mirror of the sums: an owner sends its slice to one rank of each other host, and leaves it in
 * its own slot for its neighbours. */
static mt_status spread_bucket(struct reducer *r, int32_t bucket, const float *block,
                               struct reduce_form form)
{
    struct hosts *n = r->state;
    struct reduce_flight *f = &n->flight[bucket % SLOTS];
    int32_t me = r->comm->rank, ranks = r->comm->size;
    struct reduce_slice mine = reduce_plan_slice(&r->plan, bucket, me);
    for (int32_t hop = 1; hop < ranks; hop++) {
        int32_t from = (me + ranks - hop) % ranks;
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, from);
        if (comm_node_of(r->comm, from) == n->host || adder_of(r, n->host, from) != me)
            continue;
        MT_TRY(reduce_flight_receive_tail(r, f, form.half, sum_slot(r, bucket, from),
                                          s.end - s.begin,
                                          range_list_within(form.active, s.begin, s.end), from));
    }
    struct reduce_parcel parcel = reduce_flight_pack(f, form, block, mine.begin, mine.end);
    for (int32_t i = 1; i < r->comm->node_count; i++) { /* not everybody to host 0 first */
        int32_t h = (n->host + i) % r->comm->node_count;
        MT_TRY(reduce_flight_post(r, f, &parcel, adder_of(r, h, me)));
    }
    int64_t count =
        reduce_copy(form.active, mine.begin, mine.end, block + mine.begin, sum_slot(r, bucket, me));
    r->stats.bytes_sent += count * (int64_t)sizeof *block;
    f->stage = SPREADING;
    return MT_OK;
}

/* The slices that this rank got for its host are here. */
static void count_spread(struct reducer *r, int32_t bucket, struct reduce_form form)
{
    struct hosts *n = r->state;
    int32_t me = r->comm->rank;
    for (int32_t p = 0; p < r->comm->size; p++) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, p);
        if (comm_node_of(r->comm, p) == n->host || adder_of(r, n->host, p) != me)
            continue;
        reduce_spread(form.active, sum_slot(r, bucket, p),
                      range_list_within(form.active, s.begin, s.end), s.begin, s.end, form.half);
    }
    n->flight[bucket % SLOTS].stage = SPREAD;
    atomic_store_explicit(&n->counter[r->comm->node_rank].spread, n->first + bucket + 1,
                          memory_order_release);
}

static void count_taken(struct reducer *r, int32_t bucket)
{
    struct hosts *n = r->state;
    n->flight[bucket % SLOTS].bucket = -1;
    atomic_store_explicit(&n->counter[r->comm->node_rank].taken, n->first + bucket + 1,
                          memory_order_release);
}

/* Copies what the other ranks own of a bucket out of the host's memory. */
static void take_bucket(struct reducer *r, int32_t bucket, float *block, struct reduce_form form)
{
    for (int32_t rank = 0; rank < r->comm->size; rank++) {
        struct reduce_slice s = reduce_plan_slice(&r->plan, bucket, rank);
        if (rank != r->comm->rank)
            (void)reduce_copy(form.active, s.begin, s.end, sum_slot(r, bucket, rank),
                              block + s.begin);
    }
    count_taken(r, bucket);
}

/* Whether a bucket that is being spread is done: moves it on as far as it comes. */
static mt_status end_spread(struct reducer *r, int32_t bucket, float *block,
                            struct reduce_form form, bool *moved, bool *done)
{
    struct hosts *n = r->state;
    struct reduce_flight *f = &n->flight[bucket % SLOTS];
    bool all = false;
    *done = false;
    if (f->stage == SPREADING)
        MT_TRY(reduce_flight_arrived(f, &all));
    if (all) {
        count_spread(r, bucket, form);
        *moved = true;
    }
    if (f->stage != SPREAD || !all_reach(n, &n->counter->spread, n->first + bucket + 1))
        return MT_OK;
    take_bucket(r, bucket, block, form);
    *moved = *done = true;
    return MT_OK;
}

static mt_status advance_hosts(struct reducer *r, bool *moved)
{
    struct hosts *n = r->state;
    struct reduce_form form = reduce_form_of_sums(r);
    *moved = false;
    if (r->started - r->finished < SLOTS &&
        all_reach(n, &n->counter->taken, n->first + r->started + 1 - SLOTS) &&
        reduce_start_bucket(r)) {
        post_bucket(r, r->started - 1);
        *moved = true;
    }
    if (n->joined < r->started && all_reach(n, &n->counter->posted, n->first + n->joined + 1)) {
        MT_TRY(join_bucket(r, n->joined));
        n->joined++;
        *moved = true;
    }
    if (n->added < n->joined) {
        bool all;
        MT_TRY(reduce_flight_arrived(&n->flight[n->added % SLOTS], &all));
        if (all) {
            add_bucket(r, n->added);
            if (r->whole)
                MT_TRY(spread_bucket(r, n->added, r->root[0], form));
            else
                count_taken(r, r->finished++);
            n->added++;
            *moved = true;
        }
    }
    if (r->finished < n->added) {
        bool done;
        MT_TRY(end_spread(r, r->finished, r->root[0], form, moved, &done));
        r->finished += done;
    }
    if (r->finished == r->plan.buckets) {
        n->first += r->plan.buckets;
        n->joined = n->added = 0;
    }
    return MT_OK;
}

static mt_status gather_hosts(struct reducer *r, float *block)
{
    struct hosts *n = r->state;
    struct reduce_form form = {&r->ranges, false};
    int32_t begun = 0, ended = 0, idle = 0;
    atomic_store(&r->awaited, true);
    while (ended < r->plan.buckets) {
        bool moved = false, done = false;
        if (begun < r->plan.buckets && begun - ended < SLOTS &&
            all_reach(n, &n->counter->taken, n->first + begun + 1 - SLOTS)) {
            reduce_flight_start(&n->flight[begun % SLOTS], begun);
            MT_TRY(spread_bucket(r, begun, block, form));
            begun++;
            moved = true;
        }
        if (ended < begun)
            MT_TRY(end_spread(r, ended, block, form, &moved, &done));
        ended += done;
        reduce_rest(r, moved, &idle);
    }
    n->first += r->plan.buckets;
    return MT_OK;
}

const struct reduce_transport reduce_transport_hosts = {open_hosts, close_hosts, advance_hosts,
                                                        gather_hosts};

/* See reduce_time.h. */
#include "comm/reduce_time.h"

#include <math.h>

#include "comm/reduce_plan.h"

enum { FLIGHTS = 4 }; /* buckets under way at a time, as in reduce_wire.c */

static const double WINDOW_S = 50e-6; /* of looking without a nap, as in reduce.c */

static double rounds_of(int32_t ranks)
{
    return ceil(log2((double)ranks));
}

/* Of one MPI_Allgatherv, by the method that Open MPI chooses.  Parts of unequal length (more ranks
 * than blocks in a bucket: some have none) keep every round as long as the longest needs. */
static double gatherv_s(int32_t ranks, double bytes, double longest, const struct reduce_network *n)
{
    double round_s = n->latency_s + 2.0 * n->message_s;
    if (bytes < 50000.0) /* Bruck */
        return rounds_of(ranks) * round_s + bytes / n->bytes_s;
    double rounds = ranks % 2 == 0 ? ranks / 2.0 : ranks - 1.0; /* of neighbours, round a ring */
    return rounds * round_s + (ranks - 1.0) * longest / n->bytes_s;
}

/* Of one short MPI_Allreduce: recursive doubling. */
static double allreduce_s(int32_t ranks, double bytes, const struct reduce_network *n)
{
    return rounds_of(ranks) * (n->latency_s + 2.0 * n->message_s + bytes / n->bytes_s);
}

/* Bytes that a host's ranks send to other hosts, from those that a rank sends.  Halving swaps most
 * with the nearest: what leaves the host is there already the sum of all its ranks. */
static double outside(double bytes, int32_t ranks, bool halves, const struct reduce_network *n)
{
    double of_host = n->host_ranks > 1 ? n->host_ranks : 1.0;
    if (of_host >= ranks)
        return 0.0;
    return bytes * (ranks - of_host) / (ranks - 1.0) * (halves ? 1.0 : of_host);
}

static double inside_s(double bytes, int32_t ranks, bool halves, const struct reduce_network *n)
{
    double of_host = n->host_ranks < ranks ? n->host_ranks : ranks;
    if (of_host <= 1.0)
        return 0.0;
    double share = (of_host - 1.0) / (ranks - 1.0) * (halves ? ranks / of_host : 1.0);
    return bytes * share / n->host_bytes_s;
}

/* Latencies of a bucket's rounds, and the half naps of those that last longer than the window; each
 * round of halving moves half as much as the one before. */
static double rounds_s(double rounds, double first_s, const struct reduce_network *n)
{
    double seconds = 0.0, round_s = FLIGHTS * first_s;
    for (int k = 0; k < (int)rounds; k++) {
        seconds += n->latency_s + (round_s > WINDOW_S ? n->look_s / 2.0 : 0.0);
        round_s /= 2.0;
    }
    return seconds;
}

/* Buckets that start together arrive together; while the first round's are added up nothing of
 * theirs is under way.  Where the link is what lasts, later rounds of other buckets fill the gap: a
 * fit to the simulation (comm/README.md). */
static double stall_s(double link_s, double work_s, double first)
{
    double s = first * fmin(link_s, work_s);
    return first < 1.0 && link_s > work_s ? s * (work_s / link_s) * (work_s / link_s) : s;
}

static void time_sums(struct reduce_time *t, const struct reduce_volume *v, double elements,
                      int32_t ranks, const struct reduce_network *n)
{
    bool halves = t->path == REDUCE_PATH_HALVING;
    double buckets = (double)t->buckets, rounds = halves ? rounds_of(ranks) : 1.0;
    double bytes = (double)v->most_bytes;
    double words = 3.0 * elements * (ranks - 1) / ranks + elements / ranks;
    double add_s = n->memory_bytes_s > 0.0 ? 4.0 * words / n->memory_bytes_s : 0.0;
    double first = halves ? ranks / 2.0 / (ranks - 1.0) : 1.0; /* the first round's share */
    t->link_s =
        fmax(outside(bytes, ranks, halves, n) / n->bytes_s, inside_s(bytes, ranks, halves, n));
    t->work_s = 2.0 * n->message_s * (double)v->messages + add_s;
    t->stall_s = stall_s(t->link_s, t->work_s, first);
    double chain_rounds_s = rounds_s(rounds, first * t->link_s / buckets, n);
    t->rounds_s = buckets * chain_rounds_s / FLIGHTS;
    t->chain_s = (t->link_s + t->work_s) / buckets + chain_rounds_s;
    t->reduce_s = fmax(t->link_s, t->work_s) + t->stall_s + t->rounds_s;
    t->reduce_s = fmax(t->reduce_s, t->chain_s) + t->norm_s;
}

static void time_gather(struct reduce_time *t, const struct reduce_plan *p,
                        const struct reduce_network *n)
{
    t->gather_s = 0.0;
    for (int32_t i = 0; i < p->buckets; i++) {
        const struct reduce_bucket *b = &p->bucket[i];
        int64_t most = (b->blocks + p->ranks - 1) / p->ranks * REDUCE_BLOCK;
        int64_t all = b->end - b->begin, longest = most < all ? most : all;
        t->gather_s += gatherv_s(p->ranks, 4.0 * (double)all, 4.0 * (double)longest, n);
    }
}

mt_status reduce_time_plan(struct reduce_time *out, const struct range_list *ranges,
                           const struct reduce_volume_setup *setup,
                           const struct reduce_network *network)
{
    struct reduce_time t = {.path = setup->path};
    struct reduce_volume_setup sums = *setup;
    struct reduce_volume volume;
    struct reduce_plan plan;
    int32_t ranks = setup->ranks;
    if (t.path == REDUCE_PATH_AUTO)
        t.path = (ranks & (ranks - 1)) == 0 ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    sums.gathers = sums.gathers_blocks = false;
    MT_TRY(reduce_volume_plan(&volume, ranges, &sums));
    t.bucket_elements =
        reduce_plan_bucket_elements(t.path, setup->bucket_elements, ranks);
    MT_TRY(
        reduce_plan_init(&plan, ranges, t.bucket_elements, ranks, t.path == REDUCE_PATH_HALVING));
    t.buckets = plan.buckets;
    if (ranks > 1 && plan.buckets > 0) {
        t.norm_s = allreduce_s(ranks, 8.0 * (double)plan.blocks, network);
        time_sums(&t, &volume, (double)plan.elements, ranks, network);
        if (setup->gathers || setup->gathers_blocks)
            time_gather(&t, &plan, network);
    }
    reduce_plan_release(&plan);
    *out = t;
    return MT_OK;
}

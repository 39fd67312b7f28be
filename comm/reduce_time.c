/* See reduce_time.h. */
#include "comm/reduce_time.h"

#include <math.h>

#include "comm/reduce_plan.h"

enum { FLIGHTS = 4 }; /* buckets under way at a time, as in reduce_wire.c */

static double rounds_of(int32_t ranks)
{
    return ceil(log2((double)ranks));
}

/* Rounds of one MPI_Allgatherv of `bytes` in all, as Open MPI chooses its method. */
static double gather_rounds(int32_t ranks, double bytes)
{
    if (bytes < 50000.0)
        return rounds_of(ranks);                       /* Bruck */
    return ranks % 2 == 0 ? ranks / 2.0 : ranks - 1.0; /* neighbour exchange, ring */
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

static void time_sums(struct reduce_time *t, const struct reduce_volume *v, double elements,
                      int32_t ranks, const struct reduce_network *n)
{
    bool halves = t->path == REDUCE_PATH_HALVING;
    double buckets = (double)t->buckets, rounds = halves ? rounds_of(ranks) : 1.0;
    double bytes = (double)v->most_bytes;
    double words = 3.0 * elements * (ranks - 1) / ranks + elements / ranks;
    double add_s = n->memory_bytes_s > 0.0 ? 4.0 * words / n->memory_bytes_s : 0.0;
    double round_s = n->latency_s + n->look_s / 2.0;
    t->link_s =
        fmax(outside(bytes, ranks, halves, n) / n->bytes_s, inside_s(bytes, ranks, halves, n));
    t->work_s = 2.0 * n->message_s * (double)v->messages + add_s;
    t->rounds_s = buckets * rounds * round_s / FLIGHTS;
    t->chain_s = (t->link_s + t->work_s) / buckets + rounds * round_s;
    double stream_s = fmax(fmax(t->link_s, t->work_s), buckets * t->chain_s / FLIGHTS);
    t->reduce_s = fmax(stream_s, t->chain_s) + t->norm_s;
}

static void time_gather(struct reduce_time *t, double elements, int32_t ranks,
                        const struct reduce_network *n)
{
    double bytes = 4.0 * elements / t->buckets;
    double round_s = n->latency_s + 2.0 * n->message_s;
    t->gather_s = t->buckets * (gather_rounds(ranks, bytes) * round_s +
                                bytes * (ranks - 1) / ranks / n->bytes_s);
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
    sums.gathers = false;
    MT_TRY(reduce_volume_plan(&volume, ranges, &sums));
    t.bucket_elements =
        reduce_plan_bucket_elements(t.path == REDUCE_PATH_NODE, setup->bucket_elements);
    MT_TRY(
        reduce_plan_init(&plan, ranges, t.bucket_elements, ranks, t.path == REDUCE_PATH_HALVING));
    t.buckets = plan.buckets;
    if (ranks > 1 && plan.buckets > 0) {
        t.norm_s = allreduce_s(ranks, 8.0 * (double)plan.blocks, network);
        time_sums(&t, &volume, (double)plan.elements, ranks, network);
        if (setup->gathers)
            time_gather(&t, (double)plan.elements, ranks, network);
    }
    reduce_plan_release(&plan);
    *out = t;
    return MT_OK;
}

/* See reduce_time.h. */
#include "comm/reduce_time.h"

#include <math.h>

#include "comm/reduce_plan.h"

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
 * round of halving moves half as much as the one before, doubling is its mirror. */
static double rounds_s(double rounds, double first_s, const struct reduce_network *n)
{
    double seconds = 0.0, round_s = REDUCE_FLIGHTS * first_s;
    for (int k = 0; k < (int)rounds; k++) {
        seconds += n->latency_s + (round_s > WINDOW_S ? n->look_s / 2.0 : 0.0);
        round_s /= 2.0;
    }
    return seconds;
}

/* What buckets that follow one another take: `ways` times through all rounds. */
struct stream {
    double link_s, work_s, rounds_s, chain_s;
};

static struct stream stream_of(const struct reduce_time *t, int32_t ranks, double bytes,
                               double messages, double add_s, double ways,
                               const struct reduce_network *n)
{
    bool halves = t->path == REDUCE_PATH_HALVING;
    double buckets = (double)t->buckets, rounds = halves ? rounds_of(ranks) : 1.0;
    double first = halves ? ranks / 2.0 / (ranks - 1.0) : 1.0; /* the first round's share */
    struct stream s = {.work_s = 2.0 * n->message_s * messages + add_s};
    s.link_s =
        fmax(outside(bytes, ranks, halves, n) / n->bytes_s, inside_s(bytes, ranks, halves, n));
    double chain_s = ways * rounds_s(rounds, first * s.link_s / ways / buckets, n);
    s.rounds_s = buckets * chain_s / REDUCE_FLIGHTS;
    s.chain_s = (s.link_s + s.work_s) / buckets + chain_s;
    return s;
}

static double stream_s(const struct stream *s)
{
    return fmax(fmax(s->link_s, s->work_s) + s->rounds_s, s->chain_s);
}

/* Of the sums; on the halving path with their way to all ranks, where that is asked for. */
static void time_sums(struct reduce_time *t, const struct reduce_volume *v, double elements,
                      int32_t ranks, bool spreads, const struct reduce_network *n)
{
    double words = 3.0 * elements * (ranks - 1) / ranks + elements / ranks;
    double add_s = n->memory_bytes_s > 0.0 ? 4.0 * words / n->memory_bytes_s : 0.0;
    struct stream s = stream_of(t, ranks, (double)v->most_bytes, (double)v->messages, add_s,
                                spreads ? 2.0 : 1.0, n);
    t->link_s = s.link_s;
    t->work_s = s.work_s;
    t->rounds_s = s.rounds_s;
    t->chain_s = s.chain_s;
    t->reduce_s = stream_s(&s) + t->norm_s;
}

static void time_library_gather(struct reduce_time *t, const struct reduce_plan *p,
                                const struct reduce_network *n)
{
    for (int32_t i = 0; i < p->buckets; i++) {
        const struct reduce_bucket *b = &p->bucket[i];
        int64_t most = (b->blocks + p->ranks - 1) / p->ranks * REDUCE_BLOCK;
        int64_t all = b->end - b->begin, longest = most < all ? most : all;
        t->gather_s += gatherv_s(p->ranks, 4.0 * (double)all, 4.0 * (double)longest, n);
    }
}

static mt_status time_all(struct reduce_time *t, const struct range_list *ranges,
                          const struct reduce_plan *plan, const struct reduce_volume_setup *setup,
                          const struct reduce_network *n)
{
    bool halves = t->path == REDUCE_PATH_HALVING, gathers = setup->gathers || setup->gathers_blocks;
    bool spreads = halves && setup->gathers;
    struct reduce_volume_setup what = *setup;
    struct reduce_volume sums, all;
    what.gathers = spreads;
    what.gathers_blocks = false;
    MT_TRY(reduce_volume_plan(&sums, ranges, &what));
    t->norm_s = allreduce_s(plan->ranks, 8.0 * (double)plan->blocks, n);
    time_sums(t, &sums, (double)plan->elements, plan->ranks, spreads, n);
    if (gathers && !halves)
        time_library_gather(t, plan, n);
    if (!gathers || !halves || spreads)
        return MT_OK;
    what.gathers_blocks = true;
    MT_TRY(reduce_volume_plan(&all, ranges, &what));
    struct stream gather = stream_of(t, plan->ranks, (double)(all.most_bytes - sums.most_bytes),
                                     (double)(all.messages - sums.messages), 0.0, 1.0, n);
    t->gather_s = stream_s(&gather);
    return MT_OK;
}

mt_status reduce_time_plan(struct reduce_time *out, const struct range_list *ranges,
                           const struct reduce_volume_setup *setup,
                           const struct reduce_network *network)
{
    struct reduce_time t = {.path = setup->path};
    struct reduce_plan plan;
    int32_t ranks = setup->ranks;
    mt_status st = MT_OK;
    if (t.path == REDUCE_PATH_AUTO)
        t.path = is_power_of_two(ranks) ? REDUCE_PATH_HALVING : REDUCE_PATH_DIRECT;
    t.bucket_elements = reduce_plan_bucket_elements(t.path, setup->bucket_elements, ranks);
    MT_TRY(
        reduce_plan_init(&plan, ranges, t.bucket_elements, ranks, t.path == REDUCE_PATH_HALVING));
    t.buckets = plan.buckets;
    if (ranks > 1 && plan.buckets > 0)
        st = time_all(&t, ranges, &plan, setup, network);
    reduce_plan_release(&plan);
    if (st == MT_OK)
        *out = t;
    return st;
}

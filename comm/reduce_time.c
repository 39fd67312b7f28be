/* See reduce_time.h. */
#include "comm/reduce_time.h"

#include <math.h>

#include "comm/reduce_plan.h"

static const double WINDOW_S = 50e-6; /* of looking without a nap, as in reduce.c */

static double rounds_of(int32_t ranks)
{
    return ceil(log2((double)ranks));
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

static double stream_s(const struct stream *s)
{
    return fmax(fmax(s->link_s, s->work_s) + s->rounds_s, s->chain_s);
}

/* What is the same for sums, sums for everybody, and blocks. */
struct part {
    const struct reduce_network *network;
    const struct reduce_time *time;
    double ranks, hosts, locals; /* locals: ranks of a host, on the way by hosts */
    double elements;
    double ways;  /* times through all rounds */
    double words; /* of memory that a rank reads and writes */
};

/* From a volume, or from what one has more than another. */
static struct stream stream_of(const struct part *p, const struct reduce_volume *all,
                               const struct reduce_volume *less)
{
    const struct reduce_network *n = p->network;
    const struct reduce_time *t = p->time;
    bool halves = t->path == REDUCE_PATH_HALVING, hosts = t->path == REDUCE_PATH_HOSTS;
    double bytes = (double)(all->most_bytes - less->most_bytes);
    double messages = (double)(all->messages - less->messages), buckets = (double)t->buckets;
    double flights = hosts ? REDUCE_HOSTS_FLIGHTS : REDUCE_FLIGHTS, chain_s;
    struct stream s = {.work_s = 2.0 * n->message_s * messages};
    if (n->memory_bytes_s > 0.0)
        s.work_s += 4.0 * p->words / n->memory_bytes_s;
    if (hosts) {
        double sent = (double)(all->total_bytes - all->shared_bytes) -
                      (double)(less->total_bytes - less->shared_bytes);
        s.link_s = sent / p->hosts / n->bytes_s;
        chain_s = p->ways * (n->latency_s + 2.0 * n->look_s / 2.0); /* shared memory, a message */
    } else {
        int32_t ranks = (int32_t)p->ranks;
        double first = halves ? p->ranks / 2.0 / (p->ranks - 1.0) : 1.0; /* of the bytes */
        s.link_s =
            fmax(outside(bytes, ranks, halves, n) / n->bytes_s, inside_s(bytes, ranks, halves, n));
        chain_s = p->ways * rounds_s(halves ? rounds_of(ranks) : 1.0,
                                     first * s.link_s / p->ways / buckets, n);
    }
    s.rounds_s = buckets * chain_s / flights;
    s.chain_s = (s.link_s + s.work_s) / buckets + chain_s;
    return s;
}

/* Two read and one written for each addition, one for a square, two for a copy. */
static double words_of_sums(const struct part *p)
{
    double n = p->elements;
    if (p->time->path != REDUCE_PATH_HOSTS)
        return 3.0 * n * (p->ranks - 1.0) / p->ranks + n / p->ranks;
    return 2.0 * n + 3.0 * n * (p->locals - 1.0) / p->locals +
           3.0 * n * (p->hosts - 1.0) / p->ranks + n / p->ranks;
}

static double words_of_spread(const struct part *p)
{
    return p->time->path == REDUCE_PATH_HOSTS ? 2.0 * p->elements : 0.0;
}

static mt_status time_all(struct reduce_time *t, const struct range_list *ranges,
                          const struct reduce_plan *plan, const struct reduce_volume_setup *setup,
                          const struct reduce_network *n)
{
    struct reduce_volume_setup what = *setup;
    struct reduce_volume none = {0}, sums, all;
    struct part p = {.network = n,
                     .time = t,
                     .ranks = plan->ranks,
                     .hosts = setup->hosts > 1 ? setup->hosts : 1.0,
                     .elements = (double)plan->elements,
                     .ways = setup->gathers ? 2.0 : 1.0};
    p.locals = p.ranks / p.hosts;
    what.path = t->path;
    what.gathers_blocks = false;
    MT_TRY(reduce_volume_plan(&sums, ranges, &what));
    p.words = words_of_sums(&p) + (setup->gathers ? words_of_spread(&p) : 0.0);
    struct stream s = stream_of(&p, &sums, &none);
    t->norm_s = allreduce_s(plan->ranks, 8.0 * (double)plan->blocks, n);
    t->link_s = s.link_s;
    t->work_s = s.work_s;
    t->rounds_s = s.rounds_s;
    t->chain_s = s.chain_s;
    t->reduce_s = stream_s(&s) + t->norm_s;
    if (!setup->gathers_blocks)
        return MT_OK;
    what.gathers_blocks = true;
    MT_TRY(reduce_volume_plan(&all, ranges, &what));
    p.words = words_of_spread(&p);
    s = stream_of(&p, &all, &sums);
    t->gather_s = stream_s(&s);
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

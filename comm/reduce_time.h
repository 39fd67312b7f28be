/*
 * reduce_time: how long a reduction takes on another machine, without doing it.  No MPI.
 *
 * A network of full bisection: a message of b bytes takes latency + b / bandwidth, a host sends and
 * receives at the bandwidth at the same time, and a rank spends some time of its own on each
 * message and on adding up.  Terms and formulas: comm/README.md, "At scale".  tests/bench/simulate
 * compares the forecast with a simulation of the reduction itself.
 */
#ifndef MT_COMM_REDUCE_TIME_H
#define MT_COMM_REDUCE_TIME_H

#include "comm/reduce_volume.h"

struct reduce_network {
    double latency_s;      /* of a message between two hosts, software included */
    double bytes_s;        /* of a host, each way; > 0 */
    double message_s;      /* a rank's own work on a message, sent or received */
    double memory_bytes_s; /* a rank's reading and writing, all working at once; 0 = no time */
    double look_s;         /* a nap between two looks at what has arrived */
    /* where ranks send messages (not REDUCE_PATH_HOSTS, whose hosts setup->hosts tells): */
    int32_t host_ranks;  /* neighbouring ranks that share a host and its network; 0 = 1 */
    double host_bytes_s; /* between two ranks of one host; needed where host_ranks > 1 */
};

/* Of one step, on the busiest rank, seconds. */
struct reduce_time {
    enum reduce_path path;
    int64_t bucket_elements;
    int32_t buckets;
    double link_s;   /* the bytes of what is in reduce_s, at the bandwidth */
    double work_s;   /* messages and additions, one after another */
    double rounds_s; /* latencies and naps of all rounds, some buckets side by side */
    double chain_s;  /* one bucket alone, from ready to summed */
    double norm_s;   /* the exchange of the norms */
    /* to the owners' sums, if all buckets are ready at once; to everybody's where setup->gathers:
     * backward hides that, too */
    double reduce_s;
    double gather_s; /* of blocks from their owners to all ranks: after backward */
};

/* Local.  Seconds of a reduction over setup->ranks > 1 (for one rank: zeros).
 * Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in
 * MPICH", 2005, for the cost of halving; the pipeline of buckets is this program's.
 * Errors: NOMEM, BUG as reduce_plan_init. */
mt_status reduce_time_plan(struct reduce_time *out, const struct range_list *ranges,
                           const struct reduce_volume_setup *setup,
                           const struct reduce_network *network) MT_CHECKED;

#endif

/*
 * The reduction of comm/ on a simulated cluster (SimGrid's SMPI), beside what comm/reduce_time.h
 * forecasts for it.  `run.sh` builds and starts it; as a program of real ranks it works too.
 *
 *     simulate check=1                       sums of real numbers against the tree, all paths
 *     simulate path=2 buckets=8 ...          one row of the table
 *
 * A reduction is its buckets one after another, some under way at a time, so that its time is a
 * straight line in their number: `buckets` and twice as many are simulated, and the line is
 * followed to those of the whole model.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/handles.h"
#include "comm/reduce.h"
#include "comm/reduce_plan.h"
#include "comm/reduce_time.h"
#include "tests/bench/simulate/instead.h"

struct instead_looks instead_looks;
double instead_memory_bytes_s;

struct setup {
    double check, warm, elements, bucket, buckets, lanes, path, memory, window, nap;
    double latency, bandwidth, overhead, host; /* for the forecast: those of the platform */
};

struct word {
    const char *name;
    size_t at;
    double value;
};

/* clang-format off */
#define WORD(name, value) {#name, offsetof(struct setup, name), value}
/* clang-format on */
static const struct word words[] = {WORD(check, 0),
                                    WORD(warm, 0), /* a step before the one that counts */
                                    WORD(elements, 109486854),
                                    WORD(bucket, 0),
                                    WORD(buckets, 8),
                                    WORD(lanes, 0), /* 0 = one a rank */
                                    WORD(path, 0),  /* as enum reduce_path */
                                    WORD(memory, 0),
                                    WORD(window, 50e-6),
                                    WORD(nap, 0),
                                    WORD(latency, 2e-6),
                                    WORD(bandwidth, 12.5e9),
                                    WORD(overhead, 0),
                                    WORD(host, 1)};

/* Of one simulated reduction, the slowest rank's; counts of the busiest. */
struct result {
    double reduce_s, gather_s, whole_s;
    double messages, bytes, gather_bytes;
};

static mt_status read_words(struct setup *s, int argc, char **argv)
{
    for (size_t w = 0; w < sizeof words / sizeof *words; w++)
        memcpy((char *)s + words[w].at, &words[w].value, sizeof(double));
    for (int i = 1; i < argc; i++) {
        size_t w = 0, n = strcspn(argv[i], "=");
        while (w < sizeof words / sizeof *words &&
               (strlen(words[w].name) != n || strncmp(words[w].name, argv[i], n) != 0))
            w++;
        if (w == sizeof words / sizeof *words || argv[i][n] != '=')
            return MT_FAIL(MT_ARG, "%s: no such word", argv[i]);
        double value = strtod(argv[i] + n + 1, NULL);
        memcpy((char *)s + words[w].at, &value, sizeof value);
    }
    return MT_OK;
}

enum { SUMS = 1, GATHER = 2, WHOLE = 4 };

static mt_status simulate(const struct comm *world, const struct setup *s, int64_t elements,
                          int what, struct result *out)
{
    struct range range = {0, elements};
    struct range_list ranges = {.r = &range, .count = 1, .capacity = 1, .elements = elements};
    struct reducer_options options = {.bucket_elements = (int64_t)s->bucket,
                                      .path = (enum reduce_path)s->path,
                                      .whole = what == WHOLE,
                                      .no_thread = true};
    int32_t nodes[LANE_ROOTS_MAX], lanes = (int32_t)s->lanes;
    int32_t roots = lane_tree_roots(lanes, lane_tree_range(lanes, world->size, world->rank), nodes);
    struct reducer_stats before, reduced, all;
    struct reducer *r = NULL;
    struct reduce_sum sum;
    float *root[LANE_ROOTS_MAX];
    for (int32_t i = 0; i < roots; i++)
        MT_TRY(mt_alloc(&root[i], elements, sizeof(float), "a root"));
    MT_TRY(reducer_create(&r, world, lanes, REDUCE_EXACT, &ranges, &options));
    if (s->warm > 0.0) {
        reducer_begin(r, root, roots);
        MT_TRY(reducer_finish(r, &sum));
        if ((what & GATHER) != 0)
            MT_TRY(reducer_gather(r, root[0]));
    }
    reducer_stats(r, &before);
    MT_TRY(comm_barrier(world));
    double begin_s = MPI_Wtime();
    if ((what & (SUMS | WHOLE)) != 0) {
        reducer_begin(r, root, roots);
        MT_TRY(reducer_finish(r, &sum));
    }
    double reduce_s = MPI_Wtime() - begin_s;
    reducer_stats(r, &reduced);
    MT_TRY(comm_barrier(world));
    begin_s = MPI_Wtime();
    if ((what & GATHER) != 0)
        MT_TRY(reducer_gather(r, root[0]));
    double gather_s = MPI_Wtime() - begin_s;
    reducer_stats(r, &all);
    double most[] = {reduce_s, gather_s, (double)(reduced.messages - before.messages),
                     (double)(reduced.bytes_sent - before.bytes_sent),
                     (double)(all.bytes_sent - reduced.bytes_sent)};
    MT_TRY(comm_max_f64(world, most, 5));
    *out = (struct result){most[0], most[1], most[0], most[2], most[3], most[4]};
    reducer_destroy(&r);
    for (int32_t i = 0; i < roots; i++)
        mt_free(&root[i]);
    return MT_OK;
}

static double along(double at_one, double at_two, double times)
{
    return at_one + (at_two - at_one) * (times - 1.0);
}

/* The whole model's, from simulations of some buckets and of twice as many. */
static mt_status simulate_line(const struct comm *world, const struct setup *s, int what,
                               int64_t some, struct result *out)
{
    int64_t whole = (int64_t)s->elements;
    double times = (double)whole / (double)some;
    struct result a, b;
    MT_TRY(simulate(world, s, 2 * some < whole ? some : whole, what, &a));
    b = a;
    if (2 * some < whole)
        MT_TRY(simulate(world, s, 2 * some, what, &b));
    *out = (struct result){
        along(a.reduce_s, b.reduce_s, times), along(a.gather_s, b.gather_s, times),
        along(a.whole_s, b.whole_s, times),   along(a.messages, b.messages, times),
        along(a.bytes, b.bytes, times),       along(a.gather_bytes, b.gather_bytes, times)};
    return MT_OK;
}

static mt_status simulate_whole(const struct comm *world, const struct setup *s, struct result *out)
{
    int64_t length =
        reduce_plan_bucket_elements((enum reduce_path)s->path, (int64_t)s->bucket, world->size);
    struct result sums, gather, whole;
    MT_TRY(simulate_line(world, s, GATHER, (int64_t)s->buckets * length, &gather));
    MT_TRY(simulate_line(world, s, SUMS, (int64_t)s->buckets * length, &sums));
    MT_TRY(simulate_line(world, s, WHOLE, (int64_t)s->buckets * length, &whole));
    sums.gather_s = gather.gather_s;
    sums.gather_bytes = gather.gather_bytes;
    sums.whole_s = whole.whole_s;
    *out = sums;
    return MT_OK;
}

static mt_status print_row(const struct comm *world, const struct setup *s,
                           const struct result *got)
{
    struct range range = {0, (int64_t)s->elements};
    struct range_list ranges = {.r = &range, .count = 1, .capacity = 1, .elements = range.end};
    struct reduce_volume_setup volume = {.lanes = (int32_t)s->lanes,
                                         .ranks = world->size,
                                         .mode = REDUCE_EXACT,
                                         .path = (enum reduce_path)s->path,
                                         .bucket_elements = (int64_t)s->bucket,
                                         .gathers_blocks = true,
                                         .hosts = world->node_count};
    struct reduce_network network = {.latency_s = s->latency,
                                     .bytes_s = s->bandwidth,
                                     .message_s = s->overhead,
                                     .memory_bytes_s = s->memory,
                                     .look_s = s->nap,
                                     .host_ranks = (int32_t)s->host,
                                     .host_bytes_s = 10e9};
    struct reduce_time t, all;
    MT_TRY(reduce_time_plan(&t, &ranges, &volume, &network));
    volume.gathers = true;
    volume.gathers_blocks = false;
    MT_TRY(reduce_time_plan(&all, &ranges, &volume, &network));
    const double got_s[] = {got->reduce_s, got->gather_s, got->whole_s};
    const double forecast_s[] = {t.reduce_s, t.gather_s, all.reduce_s + all.gather_s};
    printf("%6d %-8s %8.0f", world->size, reduce_path_name(t.path), (double)t.bucket_elements);
    for (int i = 0; i < 3; i++)
        printf(" %8.2f %8.2f %6.1f", 1e3 * got_s[i], 1e3 * forecast_s[i],
               got_s[i] > 0.0 ? 100.0 * (forecast_s[i] / got_s[i] - 1.0) : 0.0);
    printf(" %8.0f %8.1f %8.1f\n", got->messages, got->bytes / 1e6, got->gather_bytes / 1e6);
    return MT_OK;
}

static float lane_value(int32_t lane, int64_t i)
{
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)lane * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 31) * 0x94d049bb133111ebu;
    return (float)(int32_t)(uint32_t)(x >> 29) * 0x1p-31f * (float)(1 << (x >> 61));
}

static float tree_value(int32_t lanes, int32_t node, int64_t i)
{
    if (node >= lanes)
        return lane_value(node - lanes, i);
    return tree_value(lanes, 2 * node, i) + tree_value(lanes, 2 * node + 1, i);
}

static mt_status check_path(const struct comm *world, int32_t lanes, enum reduce_path path,
                            bool whole)
{
    enum { ELEMENTS = 3 * REDUCE_BLOCK + 77 };
    struct range range[2] = {{5, 40}, {64, ELEMENTS}};
    struct range_list ranges = {.r = range, .count = 2, .capacity = 2};
    struct reducer_options options = {
        .bucket_elements = 2 * REDUCE_BLOCK, .path = path, .whole = whole, .no_thread = true};
    int32_t nodes[LANE_ROOTS_MAX];
    int32_t roots = lane_tree_roots(lanes, lane_tree_range(lanes, world->size, world->rank), nodes);
    float *root[LANE_ROOTS_MAX];
    struct reducer *r = NULL;
    struct reduce_sum sum;
    MT_TRY(reducer_create(&r, world, lanes, REDUCE_EXACT, &ranges, &options));
    for (int32_t k = 0; k < roots; k++) {
        MT_TRY(mt_alloc(&root[k], ELEMENTS, sizeof(float), "a root"));
        for (int64_t i = 0; i < ELEMENTS; i++)
            root[k][i] = tree_value(lanes, nodes[k], i);
    }
    reducer_begin(r, root, roots);
    MT_TRY(reducer_finish(r, &sum));
    if (!whole)
        MT_TRY(reducer_gather(r, root[0]));
    for (int32_t k = 0; k < ranges.count; k++)
        for (int64_t i = range[k].begin; i < range[k].end; i++) {
            float expected = tree_value(lanes, 1, i);
            if (memcmp(&root[0][i], &expected, sizeof expected) != 0)
                return MT_FAIL(MT_BUG, "%s, rank %d: element %lld is %a, expected %a",
                               reduce_path_name(path), world->rank, (long long)i,
                               (double)root[0][i], (double)expected);
        }
    if (reduce_norm2(&ranges, root[0]) != sum.norm2)
        return MT_FAIL(MT_BUG, "%s: the norm is not that of the sum", reduce_path_name(path));
    for (int32_t k = 0; k < roots; k++)
        mt_free(&root[k]);
    reducer_destroy(&r);
    return MT_OK;
}

static mt_status check(const struct comm *world)
{
    bool halves = is_power_of_two(world->size);
    int32_t lanes = 1;
    while (lanes < world->size)
        lanes *= 2;
    for (int32_t more = 1; more <= 4; more *= 4)
        for (int whole = 0; whole < 2; whole++) {
            MT_TRY(check_path(world, more * lanes, REDUCE_PATH_DIRECT, whole));
            if (halves)
                MT_TRY(check_path(world, more * lanes, REDUCE_PATH_HALVING, whole));
        }
    if (world->rank == 0)
        printf("%6d ranks: sums and norms have the bits of the tree\n", world->size);
    return MT_OK;
}

/* Neighbouring ranks share a host, which comm_init would have found out. */
static void put_on_hosts(struct comm *world, int32_t locals)
{
    for (int32_t p = 0; p < world->size; p++)
        world->handles->node_of[p] = p / locals;
    world->node_size = locals;
    world->node_rank = world->rank % locals;
    world->node_index = world->rank / locals;
    world->node_count = (world->size + locals - 1) / locals;
}

static mt_status run(struct comm *world, int argc, char **argv)
{
    struct setup s;
    struct result got;
    MT_TRY(read_words(&s, argc, argv));
    if (s.path == REDUCE_PATH_HOSTS)
        put_on_hosts(world, (int32_t)s.host);
    if (s.check > 0.0)
        return check(world);
    if (s.lanes < 1.0)
        for (s.lanes = 1.0; s.lanes < world->size;)
            s.lanes *= 2.0;
    instead_looks = (struct instead_looks){s.window, s.nap, s.path == REDUCE_PATH_HOSTS};
    instead_memory_bytes_s = s.memory;
    MT_TRY(simulate_whole(world, &s, &got));
    return world->rank == 0 ? print_row(world, &s, &got) : MT_OK;
}

/* As comm_init with every rank on a host of its own, but without the exchanges that find this out:
 * simulating those takes longer than the reduction. */
static mt_status init_quickly(struct comm *world, int *argc, char ***argv)
{
    struct comm_handles *h;
    int rank, size;
    MPI_TRY(MPI_Init, argc, argv);
    MPI_TRY(MPI_Comm_rank, MPI_COMM_WORLD, &rank);
    MPI_TRY(MPI_Comm_size, MPI_COMM_WORLD, &size);
    MT_TRY(mt_alloc(&h, 1, sizeof *h, "the communicators"));
    h->main = h->reduce = MPI_COMM_WORLD;
    h->node = MPI_COMM_SELF;
    MT_TRY(mt_alloc(&h->host, size, sizeof *h->host, "the host names"));
    MT_TRY(mt_alloc(&h->node_of, size, sizeof *h->node_of, "the ranks' hosts"));
    MT_TRY(mt_alloc(&h->counts, size, sizeof *h->counts, "the ranks' counts"));
    MT_TRY(mt_alloc(&h->offsets, size, sizeof *h->offsets, "the ranks' offsets"));
    for (int i = 0; i < size; i++)
        h->node_of[i] = i;
    *world = (struct comm){.rank = rank,
                           .size = size,
                           .node_size = 1,
                           .node_count = size,
                           .node_index = rank,
                           .chunk_bytes = 1 << 30,
                           .handles = h};
    return MT_OK;
}

int main(int argc, char **argv)
{
    bool checks = argc > 1 && strcmp(argv[1], "check=1") == 0;
    struct comm world = {0};
    mt_status st = checks ? comm_init(&world, &argc, &argv) : init_quickly(&world, &argc, &argv);
    if (st == MT_OK)
        st = run(&world, argc, argv);
    if (st != MT_OK) {
        (void)fprintf(stderr, "%s\n", mt_error_peek()->message);
        comm_abort(&world, 1);
    }
    return checks ? comm_finalize(&world, 0) : MPI_Finalize();
}

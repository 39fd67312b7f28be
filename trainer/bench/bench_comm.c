/* See bench.h: the reduction alone, with the gradients of the whole model. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/exchange.h"
#include "comm/lane_tree.h"
#include "comm/reduce.h"
#include "trainer/bench/bench.h"

enum { REPEATS = 5, SST2_TOKENS = 25 };

struct comm_bench {
    struct model model;
    struct range_list ranges;
    struct row_set rows;
    float *block[LANE_ROOTS_MAX];
    int32_t roots;
};

static mt_status make(struct comm_bench *c, const struct bench *b)
{
    static const struct model_task task = {"task", 3};
    int32_t nodes[LANE_ROOTS_MAX];
    struct lane_range own = lane_tree_range(b->lanes, b->world->size, b->world->rank);
    uint8_t *mask = NULL;
    memset(c, 0, sizeof *c);
    MT_TRY(model_init(&c->model, &b->config, POOL_MEAN, false, &task, 1));
    MT_TRY(mt_alloc(&mask, c->model.table.count, 1, "trainable tensors"));
    memset(mask, 1, (size_t)c->model.table.count);
    mt_status st = range_list_of(&c->ranges, &c->model.table, mask);
    mt_free(&mask);
    MT_TRY(st);
    const struct tensor *word = &c->model.table.entry[c->model.word];
    MT_TRY(row_set_init(&c->rows, word->offset, word->shape[0], word->shape[1], &c->ranges));
    c->roots = lane_tree_roots(b->lanes, own, nodes);
    for (int32_t i = 0; i < c->roots; i++) {
        MT_TRY(mt_alloc(&c->block[i], c->model.table.total, sizeof(float), "gradients"));
        for (int64_t k = 0; k < c->model.table.total; k++)
            c->block[i][k] = 1e-6f * (float)(k % 1000);
    }
    return MT_OK;
}

static void release(struct comm_bench *c)
{
    for (int32_t i = 0; i < c->roots; i++)
        mt_free(&c->block[i]);
    row_set_release(&c->rows);
    range_list_release(&c->ranges);
    model_release(&c->model);
}

/* The rows of as many tokens as a step has, all words equally likely: more rows than of text. */
static mt_status agree_rows(const struct bench *b, struct comm_bench *c)
{
    int64_t tokens = (int64_t)b->sentences * (b->tokens > 0 ? b->tokens : SST2_TOKENS);
    row_set_clear(&c->rows);
    for (int64_t i = 0; i < tokens; i++) {
        struct rng_block x = rng_philox(3, (uint32_t)i, (uint32_t)b->world->rank, 0, 0);
        int32_t id = (int32_t)(x.v[0] % (uint32_t)c->rows.rows);
        row_set_add(&c->rows, &id, 1);
    }
    MT_TRY(comm_or_i64(b->world, c->rows.mask, c->rows.words));
    row_set_list(&c->rows);
    return MT_OK;
}

/* Median seconds of one reduction after which the whole sum stands on every rank. */
static mt_status time_reduction(const struct bench *b, struct comm_bench *c, struct reducer *r,
                                double *seconds)
{
    double took_s[REPEATS + 1];
    struct reduce_sum sum;
    for (int i = 0; i <= REPEATS; i++) {
        MT_TRY(comm_barrier(b->world));
        double begin_s = clock_now_s();
        reducer_begin(r, c->block, c->roots);
        MT_TRY(reducer_finish(r, &sum));
        took_s[i] = clock_now_s() - begin_s;
        MT_TRY(comm_max_f64(b->world, &took_s[i], 1));
    }
    *seconds = bench_median(took_s + 1, REPEATS);
    return MT_OK;
}

/* One way to reduce: what a row of the table is. */
struct setting {
    enum reduce_mode mode;
    bool sparse, half;
    int64_t bucket_elements;
};

static const char *mode_name(const struct setting *s)
{
    return s->mode == REDUCE_MPI ? "mpi" : "exact";
}

static void show(const struct bench *b, const struct comm_bench *c, const struct setting *s,
                 const char *path, double took_s)
{
    const char *rows = s->sparse ? "sparse" : "dense", *wire = s->half ? "bf16" : "fp32";
    char bucket[24] = "chosen";
    if (s->bucket_elements > 0)
        (void)snprintf(bucket, sizeof bucket, "%lld", (long long)s->bucket_elements);
    bench_line(b, "  %-6s %-15s %-6s %-4s %9s  %8.1f ms  %6.1f GB/s", mode_name(s), path, rows,
               wire, bucket, 1e3 * took_s,
               (double)c->ranges.elements * sizeof(float) / took_s / 1e9);
    if (b->json == NULL)
        return;
    json_write_object(b->json, NULL);
    json_write_string(b->json, "reduction", mode_name(s));
    json_write_string(b->json, "path", path);
    json_write_string(b->json, "rows", rows);
    json_write_string(b->json, "wire", wire);
    json_write_int(b->json, "bucket_elements", s->bucket_elements);
    json_write_real(b->json, "seconds", took_s);
    json_write_end(b->json);
}

static mt_status measure(const struct bench *b, struct comm_bench *c, const struct setting *s,
                         double *took_s)
{
    struct reducer *r = NULL;
    struct reducer_options options = {.bucket_elements = s->bucket_elements,
                                      .whole = true,
                                      .rows = s->sparse ? &c->rows : NULL,
                                      .wire_groups = s->half ? b->lanes : 0};
    MT_TRY(reducer_create(&r, b->world, b->lanes, s->mode, &c->ranges, &options));
    const char *path = s->mode == REDUCE_MPI ? "MPI_Iallreduce" : reduce_path_name(reducer_path(r));
    mt_status st = time_reduction(b, c, r, took_s);
    reducer_destroy(&r);
    MT_TRY(st);
    show(b, c, s, path, *took_s);
    return MT_OK;
}

/* The best of the exact settings with the wire of fp32, as keys of a job: its bits are those of any
 * other.  What changes them, and by how much it is faster, is only told. */
static void advise(const struct bench *b, const struct setting *best, double best_s, double half_s,
                   double mpi_s)
{
    bench_line(b, "best for these ranks (the bits are those of any other exact setting):");
    bench_line(b, "  reduction = \"exact\"; reduction_rows = \"sparse\"; reduction_bucket = %lld;",
               (long long)best->bucket_elements);
    bench_line(b,
               "  wire = \"bf16\"; wire_groups = %d; would take %.2f of its time, reduction = "
               "\"mpi\"; %.2f",
               b->lanes, half_s / best_s, mpi_s / best_s);
    if (b->json == NULL)
        return;
    json_write_object(b->json, NULL);
    json_write_int(b->json, "best_bucket_elements", best->bucket_elements);
    json_write_real(b->json, "seconds", best_s);
    json_write_real(b->json, "bf16_seconds", half_s);
    json_write_real(b->json, "mpi_seconds", mpi_s);
    json_write_end(b->json);
}

static mt_status measure_all(const struct bench *b, struct comm_bench *c)
{
    static const int64_t buckets[] = {0, 1 << 16, 1 << 18, 1 << 20, 1 << 22};
    static const struct setting ways[] = {{REDUCE_EXACT, true, false, 0},
                                          {REDUCE_EXACT, false, false, 0},
                                          {REDUCE_EXACT, true, true, 0},
                                          {REDUCE_MPI, true, false, 0},
                                          {REDUCE_MPI, false, false, 0}};
    enum { WAYS = sizeof ways / sizeof *ways };
    struct setting best = ways[0];
    double least_s[WAYS];
    bench_line(b,
               "reduction of %.1f million gradients over %d rank%s, %d lanes; sparse: %.1f "
               "million of a step of %d sentences a rank",
               (double)c->ranges.elements / 1e6, b->world->size, b->world->size == 1 ? "" : "s",
               b->lanes, (double)c->rows.active.elements / 1e6, b->sentences);
    bench_line(b, "  %-6s %-15s %-6s %-4s %9s", "mode", "path", "rows", "wire", "bucket");
    for (int w = 0; w < WAYS; w++) {
        least_s[w] = INFINITY;
        for (size_t i = 0; i < sizeof buckets / sizeof *buckets; i++) {
            struct setting s = ways[w];
            double took_s;
            s.bucket_elements = buckets[i];
            MT_TRY(measure(b, c, &s, &took_s));
            if (w == 0 && took_s < least_s[0])
                best = s;
            least_s[w] = fmin(least_s[w], took_s);
        }
    }
    advise(b, &best, least_s[0], least_s[2], fmin(least_s[3], least_s[4]));
    return MT_OK;
}

mt_status bench_comm(struct bench *b)
{
    struct comm_bench c;
    mt_status st = comm_agree(b->world, make(&c, b));
    if (st == MT_OK)
        st = agree_rows(b, &c);
    if (b->json != NULL)
        json_write_array(b->json, "comm");
    if (st == MT_OK)
        st = measure_all(b, &c);
    if (b->json != NULL)
        json_write_end(b->json);
    release(&c);
    return st;
}

/* See bench.h: the reduction alone, with the gradients of the whole model. */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/lane_tree.h"
#include "comm/reduce.h"
#include "trainer/bench.h"

enum { REPEATS = 5 };

struct comm_bench {
    struct model model;
    struct range_list ranges;
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
    range_list_release(&c->ranges);
    model_release(&c->model);
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

static mt_status measure(const struct bench *b, struct comm_bench *c, enum reduce_mode mode,
                         int64_t bucket_elements)
{
    struct reducer *r = NULL;
    struct reducer_options options = {.bucket_elements = bucket_elements, .whole = true};
    const char *name = mode == REDUCE_MPI ? "mpi" : "exact";
    double took_s, bytes = (double)c->ranges.elements * sizeof(float);
    MT_TRY(reducer_create(&r, b->world, b->lanes, mode, &c->ranges, &options));
    const char *path = mode == REDUCE_MPI ? "MPI_Iallreduce" : reduce_path_name(reducer_path(r));
    mt_status st = time_reduction(b, c, r, &took_s);
    reducer_destroy(&r);
    MT_TRY(st);
    if (bucket_elements > 0)
        bench_line(b, "  %-6s %-15s %9lld  %8.1f ms  %6.1f GB/s", name, path,
                   (long long)bucket_elements, 1e3 * took_s, bytes / took_s / 1e9);
    else
        bench_line(b, "  %-6s %-15s %9s  %8.1f ms  %6.1f GB/s", name, path, "chosen", 1e3 * took_s,
                   bytes / took_s / 1e9);
    if (b->json != NULL) {
        json_write_object(b->json, NULL);
        json_write_string(b->json, "reduction", name);
        json_write_string(b->json, "path", path);
        json_write_int(b->json, "bucket_elements", bucket_elements);
        json_write_real(b->json, "seconds", took_s);
        json_write_end(b->json);
    }
    return MT_OK;
}

static mt_status measure_all(const struct bench *b, struct comm_bench *c)
{
    static const int64_t buckets[] = {0, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 22};
    bench_line(b, "reduction of %.1f million gradients over %d rank%s, %d lanes",
               (double)c->ranges.elements / 1e6, b->world->size, b->world->size == 1 ? "" : "s",
               b->lanes);
    bench_line(b, "  %-6s %-15s %9s", "mode", "path", "bucket");
    for (size_t i = 0; i < sizeof buckets / sizeof *buckets; i++)
        MT_TRY(measure(b, c, REDUCE_EXACT, buckets[i]));
    for (size_t i = 0; i < sizeof buckets / sizeof *buckets; i++)
        MT_TRY(measure(b, c, REDUCE_MPI, buckets[i]));
    return MT_OK;
}

mt_status bench_comm(struct bench *b)
{
    struct comm_bench c;
    mt_status st = comm_agree(b->world, make(&c, b));
    if (b->json != NULL)
        json_write_array(b->json, "comm");
    if (st == MT_OK)
        st = measure_all(b, &c);
    if (b->json != NULL)
        json_write_end(b->json);
    release(&c);
    return st;
}

/* See bench.h: the limits that everything else is a fraction of. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/processor.h"
#include "comm/exchange.h"
#include "trainer/bench/bench.h"
#include "trainer/model/bf16.h"
#include "trainer/model/gemm.h"
#include "trainer/model/peak.h"

enum { COPY_BYTES = 128 << 20 };

static const double seconds = 0.4;

bool bench_prints(const struct bench *b)
{
    return b->world->rank == 0 && b->json == NULL;
}

void bench_line(const struct bench *b, const char *format, ...)
{
    va_list args;
    if (!bench_prints(b))
        return;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int32_t count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static mt_status make_buffers(char **to, char **from)
{
    MT_TRY(mt_alloc(to, COPY_BYTES, 1, "copies"));
    MT_TRY(mt_alloc(from, COPY_BYTES, 1, "what is copied"));
    memset(*from, 1, COPY_BYTES);
    return MT_OK;
}

mt_status bench_matrix(float **full, uint16_t **half, int64_t count)
{
    MT_TRY(mt_alloc(full, count, sizeof **full, "a matrix"));
    MT_TRY(mt_alloc(half, count, sizeof **half, "a matrix in bf16"));
    for (int64_t i = 0; i < count; i++)
        (*full)[i] = (float)(i * 2654435761 % 2001 - 1000) * 1e-3f;
    bf16_round(*half, *full, count);
    return MT_OK;
}

struct load {
    float *x, *w, *y; /* [LOAD_ROWS, LOAD_SIZE], [LOAD_SIZE, LOAD_SIZE], as x */
    uint16_t *x16, *w16;
};

enum { LOAD_ROWS = 1024, LOAD_SIZE = 768 };

static mt_status make_load(struct load *l)
{
    const int64_t rows = LOAD_ROWS, size = LOAD_SIZE;
    MT_TRY(bench_matrix(&l->x, &l->x16, rows * size));
    MT_TRY(bench_matrix(&l->w, &l->w16, size * size));
    return mt_alloc(&l->y, rows * size, sizeof *l->y, "a matrix");
}

static double peak_after_load(const struct load *l, bool bf16)
{
    const double load_s = 0.05, window_s = 0.001;
    for (double end_s = clock_now_s() + load_s; clock_now_s() < end_s;)
        if (bf16)
            gemm_forward_bf16(l->y, l->x16, l->w16, LOAD_ROWS, LOAD_SIZE, LOAD_SIZE);
        else
            gemm_forward(l->y, l->x, l->w, LOAD_ROWS, LOAD_SIZE, LOAD_SIZE);
    if (!bf16)
        return peak_float(window_s);
    double unit = peak_bf16_unit(window_s);
    return unit > 0 ? unit : peak_bf16_vectors(window_s);
}

mt_status bench_peak_loaded(const struct bench *b, double *rate)
{
    struct load l = {0};
    mt_status st = comm_agree(b->world, make_load(&l));
    if (st == MT_OK) {
        *rate = peak_after_load(&l, b->precision == MODEL_BF16);
        st = comm_sum_f64(b->world, rate, 1);
    }
    mt_free(&l.x);
    mt_free(&l.w);
    mt_free(&l.y);
    mt_free(&l.x16);
    mt_free(&l.w16);
    return st;
}

/* What is measured, in this order. */
enum { FLOAT, VECTORS, UNIT, COPY, RATES };

static double measure(int rate, char *to, const char *from)
{
    switch (rate) {
    case FLOAT:
        return peak_float(seconds);
    case VECTORS:
        return peak_bf16_vectors(seconds);
    case UNIT:
        return peak_bf16_unit(seconds);
    default:
        return peak_copy(to, from, COPY_BYTES, seconds);
    }
}

static void show(const struct bench *b, const double rate[RATES])
{
    bench_line(b, "peak of %d rank%s, one thread each (%s)", b->world->size,
               b->world->size == 1 ? "" : "s", processor_features());
    bench_line(b, "  fp32 multiply-add  %8.1f GFLOP/s", rate[FLOAT] / 1e9);
    if (b->peak_split > 0)
        bench_line(b, "  fp32 by AMX        %8.1f GFLOP/s, six bf16 products for one",
                   b->peak_split / 1e9);
    if (rate[VECTORS] > 0)
        bench_line(b, "  bf16 vdpbf16ps     %8.1f GFLOP/s", rate[VECTORS] / 1e9);
    if (rate[UNIT] > 0)
        bench_line(b, "  bf16 by AMX        %8.1f GFLOP/s", rate[UNIT] / 1e9);
    if (b->peak[MODEL_BF16] == 0)
        bench_line(b, "  bf16               none on this processor");
    bench_line(b, "  memory, copying    %8.1f GB/s", rate[COPY] / 1e9);
    if (b->json == NULL)
        return;
    json_write_object(b->json, "peak");
    json_write_real(b->json, "fp32_gflops", rate[FLOAT] / 1e9);
    json_write_real(b->json, "fp32_by_amx_gflops", b->peak_split / 1e9);
    json_write_real(b->json, "bf16_gflops", b->peak[MODEL_BF16] / 1e9);
    json_write_real(b->json, "bf16_vdpbf16ps_gflops", rate[VECTORS] / 1e9);
    json_write_real(b->json, "copy_gbytes_per_s", rate[COPY] / 1e9);
    json_write_end(b->json);
}

mt_status bench_peak(struct bench *b)
{
    char *to = NULL, *from = NULL;
    double rate[RATES] = {0};
    mt_status st = comm_agree(b->world, make_buffers(&to, &from));
    MT_TRY_GOTO(st, st, done);
    for (int i = 0; i < RATES; i++) {
        MT_TRY_GOTO(st, comm_barrier(b->world), done);
        rate[i] = measure(i, to, from);
    }
    MT_TRY_GOTO(st, comm_sum_f64(b->world, rate, RATES), done);
    b->peak[MODEL_FP32] = rate[FLOAT];
    b->peak[MODEL_BF16] = rate[UNIT] > rate[VECTORS] ? rate[UNIT] : rate[VECTORS];
    b->peak_split = rate[UNIT] / 6;
    show(b, rate);
done:
    mt_free(&to);
    mt_free(&from);
    return st;
}

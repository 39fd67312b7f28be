/* See bench.h: the matrix products of one encoder layer, forward, dX and dW. */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "trainer/bench/bench.h"
#include "trainer/model/gemm.h"

enum { KINDS = 3, SHAPES = 3, REPEATS = 3 };

static const char *const kind_name[KINDS] = {"y = x W'", "dx = dy W", "dW = dy' x"};

struct products {
    int64_t rows, in, out;
    float *x, *w, *y;
    uint16_t *x16, *w16, *y16;
};

static mt_status make(struct products *p, const struct bench *b)
{
    int64_t H = b->config.hidden_size, F = b->config.intermediate_size, wide = H > F ? H : F;
    memset(p, 0, sizeof *p);
    p->rows = (int64_t)b->sentences * (b->tokens > 0 ? b->tokens : 25);
    MT_TRY(bench_matrix(&p->x, &p->x16, p->rows * wide));
    MT_TRY(bench_matrix(&p->y, &p->y16, p->rows * wide));
    return bench_matrix(&p->w, &p->w16, H * wide);
}

static void release(struct products *p)
{
    mt_free(&p->x);
    mt_free(&p->x16);
    mt_free(&p->y);
    mt_free(&p->y16);
    mt_free(&p->w);
    mt_free(&p->w16);
}

static void multiply(const struct products *p, int kind, bool bf16)
{
    int64_t N = p->rows, in = p->in, out = p->out;
    if (kind == 0 && bf16)
        gemm_forward_bf16(p->y, p->x16, p->w16, N, in, out);
    else if (kind == 0)
        gemm_forward(p->y, p->x, p->w, N, in, out);
    else if (kind == 1 && bf16)
        gemm_backward_input_bf16(p->x, false, p->y16, p->w16, N, in, out);
    else if (kind == 1)
        gemm_backward_input(p->x, false, p->y, p->w, N, in, out);
    else if (bf16)
        gemm_backward_weight_bf16(p->w, p->y16, p->x16, N, in, out);
    else
        gemm_backward_weight(p->w, true, p->y, p->x, N, in, out);
}

/* Seconds of the fastest of a few, all ranks at once. */
static mt_status time_product(const struct bench *b, const struct products *p, int kind, bool bf16,
                              double *seconds)
{
    double best = 1e30;
    multiply(p, kind, bf16);
    MT_TRY(comm_barrier(b->world));
    for (int i = 0; i < REPEATS; i++) {
        double begin_s = clock_now_s();
        multiply(p, kind, bf16);
        double took_s = clock_now_s() - begin_s;
        best = took_s < best ? took_s : best;
    }
    MT_TRY(comm_max_f64(b->world, &best, 1));
    *seconds = best;
    return MT_OK;
}

/* All products of a layer by one library and precision; how often a shape occurs in a layer is its
 * weight in the total. */
static mt_status measure(const struct bench *b, struct products *p, const char *label, bool bf16)
{
    int64_t H = b->config.hidden_size, F = b->config.intermediate_size;
    const int64_t shape[SHAPES][2] = {{H, H}, {H, F}, {F, H}};
    const double times[SHAPES] = {4, 1, 1};
    double all_s = 0, all = 0, ranks = b->world->size, peak = b->peak[bf16 ? 1 : 0];
    if (b->json != NULL)
        json_write_object(b->json, NULL);
    if (b->json != NULL)
        json_write_string(b->json, "products", label);
    for (int s = 0; s < SHAPES; s++) {
        p->in = shape[s][0];
        p->out = shape[s][1];
        double rate[KINDS], work = 2.0 * (double)(p->rows * p->in * p->out);
        for (int kind = 0; kind < KINDS; kind++) {
            double took_s;
            MT_TRY(time_product(b, p, kind, bf16, &took_s));
            rate[kind] = ranks * work / took_s;
            all_s += times[s] * took_s;
            all += times[s] * work;
        }
        bench_line(b, "  %-24s %5lld x %5lld  %s %7.1f  %s %7.1f  %s %7.1f GFLOP/s", label,
                   (long long)p->in, (long long)p->out, kind_name[0], rate[0] / 1e9, kind_name[1],
                   rate[1] / 1e9, kind_name[2], rate[2] / 1e9);
    }
    double rate = ranks * all / all_s;
    bench_line(b, "  %-24s a layer: %.1f GFLOP/s, %.0f %% of the peak of %s", label, rate / 1e9,
               peak > 0 ? 100 * rate / peak : 0, bf16 ? "bf16" : "multiply-adds");
    if (b->json != NULL) {
        json_write_real(b->json, "gflops", rate / 1e9);
        json_write_real(b->json, "fraction_of_peak", peak > 0 ? rate / peak : 0);
        json_write_end(b->json);
    }
    return MT_OK;
}

/* A library that all ranks have, for one precision. */
static mt_status measure_library(const struct bench *b, struct products *p,
                                 mt_status (*choose)(const char *), const char *library,
                                 const char *label, bool bf16)
{
    int64_t has = choose(library) == MT_OK;
    mt_error_clear();
    MT_TRY(comm_min_i64(b->world, &has, 1));
    return has ? measure(b, p, label, bf16) : MT_OK;
}

static mt_status measure_all(struct bench *b, struct products *p)
{
    static const char *const library[] = {"amx", "native", "openblas", "onednn"};
    static const char *const library16[] = {"onednn", "amx"};
    static const char *const label16[] = {"onednn bf16", "amx bf16"};
    const char *why;
    for (int i = 0; i < 4; i++)
        MT_TRY(measure_library(b, p, gemm_choose, library[i], library[i], false));
    MT_ALL(b->world, gemm_choose(b->products));
    int64_t bf16 = gemm_has_bf16(&why);
    MT_TRY(comm_min_i64(b->world, &bf16, 1));
    if (!bf16)
        bench_line(b, "  bf16: %s", why);
    for (int i = 0; i < 2; i++)
        MT_TRY(measure_library(b, p, gemm_choose_bf16, library16[i], label16[i], true));
    return gemm_choose_bf16("auto");
}

mt_status bench_gemm(struct bench *b)
{
    struct products p;
    if (b->peak[MODEL_FP32] == 0)
        MT_TRY(bench_peak(b));
    gemm_init();
    mt_status st = comm_agree(b->world, make(&p, b));
    if (st == MT_OK) {
        bench_line(b, "products of a layer, %lld rows, all ranks at once", (long long)p.rows);
        if (b->json != NULL)
            json_write_array(b->json, "gemm");
        st = measure_all(b, &p);
        if (b->json != NULL)
            json_write_end(b->json);
    }
    release(&p);
    return st;
}

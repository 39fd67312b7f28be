/*
 * The kernels of attention where AMX multiplies: the method of attention_body.h with matrices and
 * operands in bf16; scores, softmax and sums are float.  CMakeLists.txt gives this file AVX-512.
 *
 * Operands are packed from where they lie.  1 / sqrt(D) goes into the scores and into the gradient
 * of what stands under the softmax, so that dQ and dK need no scaling.
 *
 * Cost: about half of it is softmax and dropout, the rest packing; the unit is hardly busy.
 */
#include "trainer/model/vector.h"

#if defined(VECTOR_AVX512) && defined(__linux__)

#include "trainer/model/attention_rows.h"
#include "trainer/model/gemm_amx.h"

enum { PANEL = GEMM_AMX_PANEL };

/* Where things lie in a head's room. */
struct amx_room {
    struct room rows; /* scores, dscores and lanes of a block */
    real *dk, *dv;    /* [T,Dp] sums of the blocks that have been */
};

static struct amx_room room_of(const struct attention_head *h)
{
    int64_t T = h->T, n = T < ATTENTION_BLOCK_AMX ? T : ATTENTION_BLOCK_AMX;
    struct amx_room r = {.rows = {.Tp = (T + ROW_LANES - 1) / ROW_LANES * ROW_LANES}};
    r.rows.scores = h->room;
    r.rows.dscores = r.rows.scores + n * attention_padded(T);
    r.dk = r.rows.dscores + n * attention_padded(T);
    r.dv = r.dk + T * attention_padded(h->D);
    r.rows.lanes = (uint16_t *)(r.dv + T * attention_padded(h->D));
    room_set_tail(&r.rows, T);
    return r;
}

/* Rows [T,D] of a head. */
static struct gemm_amx_matrix rows_of(const struct attention_head *h, const uint16_t *at,
                                      bool transposed)
{
    return (struct gemm_amx_matrix){at, NULL, h->H, transposed, false};
}

static struct gemm_amx_matrix scores_of(const struct attention_head *h, const real *at,
                                        bool transposed)
{
    return (struct gemm_amx_matrix){NULL, at, attention_padded(h->T), transposed, false};
}

/* Scores go to whole panels, which the room of a row has. */
struct scores {
    real *to;
    int64_t stride;
    real scale;
};

static void finish_scores(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                          int64_t columns)
{
    const struct scores *c = context;
    (void)columns;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < PANEL; j++)
            c->to[(row + r) * c->stride + column + j] = sums[r * PANEL + j] * c->scale;
}

/* Context: each row times its own factor. */
struct scaled {
    uint16_t *to;
    int64_t stride;
    const real *scale;
};

static void finish_scaled(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                          int64_t columns)
{
    const struct scaled *c = context;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < PANEL; j++)
            sums[r * PANEL + j] *= c->scale[row + r];
    gemm_amx_store_half(c->to + row * c->stride + column, c->stride, sums, NULL, rows, columns);
}

/* Gradients: added up over blocks of queries, rounded after the last. */
struct summed {
    uint16_t *to;
    int64_t stride;
    real *sum; /* rows sum_stride apart; unused if the first is the last */
    int64_t sum_stride;
    bool first, last;
};

static void finish_summed(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                          int64_t columns)
{
    const struct summed *c = context;
    for (int64_t r = 0; r < rows && !(c->first && c->last); r++) {
        real *sum = c->sum + (row + r) * c->sum_stride + column;
        for (int64_t j = 0; j < PANEL && !c->first; j++)
            sums[r * PANEL + j] += sum[j];
        for (int64_t j = 0; j < PANEL && !c->last; j++)
            sum[j] = sums[r * PANEL + j];
    }
    if (c->last)
        gemm_amx_store_half(c->to + row * c->stride + column, c->stride, sums, NULL, rows, columns);
}

/* scores[n,T] = left[n,D] right[T,D]^T / sqrt(D). */
static void multiply_across(const struct attention_head *h, real *scores, const uint16_t *left,
                            const uint16_t *right, int64_t n)
{
    struct scores to = {scores, attention_padded(h->T), h->scale};
    gemm_amx((struct gemm_amx_result){finish_scores, &to}, rows_of(h, left, false),
             rows_of(h, right, true), n, h->T, h->D);
}

/* One of dk, dv [T,D]: its share scores[n,T]^T right[n,D] of the queries from i. */
static void multiply_add(const struct attention_head *h, uint16_t *to, real *sum,
                         const real *scores, const uint16_t *right, int64_t i, int64_t n)
{
    struct summed s = {to, h->H, sum, attention_padded(h->D), i == 0, i + n == h->T};
    gemm_amx((struct gemm_amx_result){finish_summed, &s}, scores_of(h, scores, true),
             rows_of(h, right, false), h->T, h->D, n);
}

/* Rows of the next head into the second cache: they are short and far apart, so the machine does
 * not guess them. */
static void look_ahead(const struct attention_head *h, const uint16_t *from)
{
    enum { LINE = 64 / sizeof(uint16_t) };
    for (int64_t t = 0; t < h->T; t++)
        for (int64_t j = 0; j < h->D; j += LINE)
            __builtin_prefetch(from + h->next + t * h->H + j, 0, 2);
}

/* The first n <= VECTOR_LANES elements, then zeros. */
static inline vector load_half(const uint16_t *p, int64_t n)
{
    const __mmask16 some = (__mmask16)(n < VECTOR_LANES ? (1 << n) - 1 : 0xffff);
    __m512i x = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

/* slope[n in whole vectors]: each row of d[n,D] times that of context[n,D], over sqrt(D). */
static void multiply_rows(const struct attention_head *h, real *slope, const uint16_t *d,
                          const uint16_t *context, int64_t n)
{
    vector row[VECTOR_LANES];
    for (int l = 0; l < VECTOR_LANES; l++)
        row[l] = vector_all(0);
    for (int64_t t = 0; t < n; t += VECTOR_LANES) {
        int64_t rows = n - t < VECTOR_LANES ? n - t : VECTOR_LANES;
        for (int64_t l = 0; l < rows; l++, d += h->H, context += h->H) {
            row[l] = vector_all(0);
            for (int64_t j = 0; j < h->D; j += VECTOR_LANES)
                row[l] = row[l] + load_half(d + j, h->D - j) * load_half(context + j, h->D - j);
        }
        vector_store(slope + t, vector_fold_sum(row) * vector_all(h->scale));
    }
}

void attention_amx_forward(const struct attention_head *h, uint16_t *context)
{
    struct amx_room r = room_of(h);
    int64_t stride = attention_padded(h->T), most = ATTENTION_BLOCK_AMX;
    const uint16_t *q = h->half[0], *k = h->half[1], *v = h->half[2];
    for (int64_t i = 0; i < h->T; i += most) {
        int64_t n = h->T - i < most ? h->T - i : most;
        multiply_across(h, r.rows.scores, q + i * h->H, k, n);
        const uint16_t *lanes = lanes_of(h, &r.rows, i, n);
        real scale[ATTENTION_BLOCK_AMX];
        softmax_forward(h, &r.rows, r.rows.scores, stride, i, n, lanes, scale);
        for (int64_t t = 0; t < n; t++)
            scale[t] *= lanes ? h->drop->scale : 1;
        struct scaled to = {context + i * h->H, h->H, scale};
        gemm_amx((struct gemm_amx_result){finish_scaled, &to}, scores_of(h, r.rows.scores, false),
                 rows_of(h, v, false), n, h->D, h->T);
    }
    for (int x = 0; x < 3; x++)
        look_ahead(h, h->half[x]);
}

void attention_amx_backward(const struct attention_head *h, const uint16_t *context, uint16_t *d,
                            uint16_t *dk, uint16_t *dv)
{
    struct amx_room r = room_of(h);
    real *scores = r.rows.scores, *dscores = r.rows.dscores;
    int64_t stride = attention_padded(h->T), most = ATTENTION_BLOCK_AMX;
    const uint16_t *q = h->half[0], *k = h->half[1], *v = h->half[2];
    for (int64_t i = 0; i < h->T; i += most) {
        int64_t n = h->T - i < most ? h->T - i : most, at = i * h->H;
        multiply_across(h, scores, q + at, k, n);
        multiply_across(h, dscores, d + at, v, n);
        const uint16_t *lanes = lanes_of(h, &r.rows, i, n);
        real slope[ATTENTION_BLOCK_AMX];
        multiply_rows(h, slope, d + at, context + at, n);
        softmax_backward(h, &r.rows, scores, dscores, stride, i, n, lanes, slope);
        multiply_add(h, dv, r.dv, scores, d + at, i, n);
        multiply_add(h, dk, r.dk, dscores, q + at, i, n);
        struct summed dq = {d + at, h->H, NULL, 0, true, true};
        gemm_amx((struct gemm_amx_result){finish_summed, &dq}, scores_of(h, dscores, false),
                 rows_of(h, k, false), n, h->D, h->T);
    }
    for (int x = 0; x < 3; x++)
        look_ahead(h, h->half[x]);
    look_ahead(h, d);
    look_ahead(h, context);
}

#else

#include "trainer/model/attention_head.h"

void attention_amx_forward(const struct attention_head *h, uint16_t *context)
{
    (void)h, (void)context;
    __builtin_trap();
}

void attention_amx_backward(const struct attention_head *h, const uint16_t *context, uint16_t *d,
                            uint16_t *dk, uint16_t *dv)
{
    (void)h, (void)context, (void)d, (void)dk, (void)dv;
    __builtin_trap();
}

#endif

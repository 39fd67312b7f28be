/*
 * The kernels of attention where AMX multiplies: the method of attention_body.h with operands
 * rounded to bf16; scores, softmax and sums are float.  CMakeLists.txt gives this file AVX-512.
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

static struct room room_of(const struct attention_head *h)
{
    int64_t T = h->T, n = T < ATTENTION_BLOCK_AMX ? T : ATTENTION_BLOCK_AMX;
    struct room r = {.Tp = (T + ROW_LANES - 1) / ROW_LANES * ROW_LANES};
    r.scores = h->room;
    r.dscores = r.scores + n * attention_padded(T);
    r.lanes = (uint16_t *)(r.dscores + n * attention_padded(T));
    room_set_tail(&r, T);
    return r;
}

/* Rows [T,D] of a head. */
static struct gemm_amx_matrix rows_of(const struct attention_head *h, const real *at,
                                      bool transposed)
{
    return (struct gemm_amx_matrix){NULL, at, h->H, transposed, false};
}

static struct gemm_amx_matrix scores_of(const struct attention_head *h, const real *at,
                                        bool transposed)
{
    return (struct gemm_amx_matrix){NULL, at, attention_padded(h->T), transposed, false};
}

/* A product goes to rows of a matrix, each times its own factor, or all times one. */
struct scaled {
    real *to;
    int64_t stride;
    const real *row_scale; /* NULL: scale */
    real scale;
};

/* Scores: whole panels, which the room of a row has. */
static void finish_scores(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                          int64_t columns)
{
    const struct scaled *c = context;
    (void)columns;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < PANEL; j++)
            c->to[(row + r) * c->stride + column + j] = sums[r * PANEL + j] * c->scale;
}

static void finish_rows(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                        int64_t columns)
{
    const struct scaled *c = context;
    for (int64_t r = 0; r < rows; r++) {
        real scale = c->row_scale[row + r] * c->scale;
        for (int64_t j = 0; j < columns; j++)
            c->to[(row + r) * c->stride + column + j] = sums[r * PANEL + j] * scale;
    }
}

/* scores[n,T] = left[n,D] right[T,D]^T / sqrt(D). */
static void multiply_across(const struct attention_head *h, real *scores, const real *left,
                            const real *right, int64_t n)
{
    struct scaled to = {scores, attention_padded(h->T), NULL, h->scale};
    gemm_amx((struct gemm_amx_result){finish_scores, &to}, rows_of(h, left, false),
             rows_of(h, right, true), n, h->T, h->D);
}

/* sum[T,D] = or += scores[n,T]^T right[n,D]. */
static void multiply_add(const struct attention_head *h, real *sum, bool add, const real *scores,
                         const real *right, int64_t n)
{
    gemm_amx_full((struct gemm_amx_full){sum, h->H, add, NULL}, scores_of(h, scores, true),
                  rows_of(h, right, false), h->T, h->D, n);
}

/* Rows of the next head into the second cache: they are short and far apart, so the machine does
 * not guess them. */
static void look_ahead(const struct attention_head *h, const real *from)
{
    enum { LINE = 64 / sizeof(real) };
    for (int64_t t = 0; t < h->T; t++)
        for (int64_t j = 0; j < h->D; j += LINE)
            __builtin_prefetch(from + h->next + t * h->H + j, 0, 2);
}

static void head_forward(const struct attention_head *h, real *context)
{
    struct room r = room_of(h);
    int64_t stride = attention_padded(h->T), most = ATTENTION_BLOCK_AMX;
    for (int64_t i = 0; i < h->T; i += most) {
        int64_t n = h->T - i < most ? h->T - i : most;
        multiply_across(h, r.scores, h->q + i * h->H, h->k, n);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        real scale[ATTENTION_BLOCK_AMX];
        for (int64_t t = 0; t < n; t++) {
            real *s = r.scores + t * stride, max = maximum_of(&r, s);
            scale[t] = 1 / exponentials(h, &r, s, max, lanes ? lanes + t * h->T : NULL);
            h->row_max[(i + t) * h->A] = max;
            h->row_scale[(i + t) * h->A] = scale[t];
        }
        struct scaled to = {context + i * h->H, h->H, scale, lanes ? h->drop->scale : 1};
        gemm_amx((struct gemm_amx_result){finish_rows, &to}, scores_of(h, r.scores, false),
                 rows_of(h, h->v, false), n, h->D, h->T);
    }
    look_ahead(h, h->q);
    look_ahead(h, h->k);
    look_ahead(h, h->v);
}

static void head_backward(const struct attention_head *h, const real *context, real *d, real *dk,
                          real *dv)
{
    struct room r = room_of(h);
    int64_t stride = attention_padded(h->T), most = ATTENTION_BLOCK_AMX;
    for (int64_t i = 0; i < h->T; i += most) {
        int64_t n = h->T - i < most ? h->T - i : most, at = i * h->H;
        multiply_across(h, r.scores, h->q + at, h->k, n);
        multiply_across(h, r.dscores, d + at, h->v, n);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        for (int64_t t = 0; t < n; t++) {
            int64_t row = at + t * h->H;
            real slope = row_dot(d + row, context + row, h->D) * h->scale;
            softmax_backward(h, &r, r.scores + t * stride, r.dscores + t * stride, i + t, slope,
                             lanes ? lanes + t * h->T : NULL);
        }
        multiply_add(h, dv, i > 0, r.scores, d + at, n);
        multiply_add(h, dk, i > 0, r.dscores, h->q + at, n);
        gemm_amx_full((struct gemm_amx_full){d + at, h->H, false, NULL},
                      scores_of(h, r.dscores, false), rows_of(h, h->k, false), n, h->D, h->T);
    }
    look_ahead(h, h->q);
    look_ahead(h, h->k);
    look_ahead(h, h->v);
    look_ahead(h, d);
    look_ahead(h, context);
}

const struct attention_kernels *attention_kernels_amx(void)
{
    static const struct attention_kernels kernels = {"amx", head_forward, head_backward};
    return &kernels;
}

#else

#include "trainer/model/attention_head.h"

const struct attention_kernels *attention_kernels_amx(void)
{
    return NULL;
}

#endif

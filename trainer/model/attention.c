/*
 * One head of one sentence at a time: three T x T squares (at most 3 MB at T = 512, 200 kB at 128)
 * that stay in the second-level cache.
 *
 *     forward   S = Q K^T / sqrt(D)   P = softmax(S)   M = dropout mask   C = (P M) V
 *     backward  dV = (P M)^T dC   dPM = dC V^T   dS = PM dPM - P r,  r_i = dC_i . C_i
 *               dQ = dS K / sqrt(D)   dK = dS^T Q / sqrt(D)
 *
 * Refused: batched products over heads (copies, and T x T squares that leave the cache).
 */
#include "trainer/model/attention.h"

#include <math.h>

#include "trainer/model/gemm.h"
#include "trainer/model/kernel.h"
#include "trainer/model/vector_math.h"

int64_t attention_scores_plan(int64_t T)
{
    return 3 * T * T;
}

/* One head of one sentence. */
struct head {
    int64_t T, D, H;
    int64_t at;            /* of its first element in [N,H] */
    int64_t row;           /* of its first element in [N,A] */
    int64_t first_element; /* of its dropout */
    int64_t A, sample;
    real scale;
};

static struct head head_of(const struct attention *a, int32_t s, int64_t h)
{
    const int32_t *offsets = a->batch->offsets;
    int64_t begin = offsets[s] - offsets[0], T = offsets[s + 1] - offsets[s], H = a->A * a->D;
    return (struct head){.T = T,
                         .D = a->D,
                         .H = H,
                         .at = begin * H + h * a->D,
                         .row = begin * a->A + h,
                         .first_element = h * T * T,
                         .A = a->A,
                         .sample = a->batch->sample[s],
                         .scale = 1 / real_sqrt((real)a->D)};
}

static struct gemm_view columns(const struct head *h, const real *m, bool transposed)
{
    return (struct gemm_view){m + h->at, h->H, transposed};
}

static struct gemm_view square(const struct head *h, const real *m, bool transposed)
{
    return (struct gemm_view){m, h->T, transposed};
}

static void scores_of(const struct attention *a, const struct head *h, real *S)
{
    gemm_small(S, h->T, h->scale, columns(h, a->q, false), columns(h, a->k, true), h->T, h->T,
               h->D);
}

/* S -> P in place; notes the maximum and 1/sum of each row. */
static KERNEL void softmax_rows(const struct head *h, real *S, real *row_max, real *row_scale)
{
    int64_t T = h->T;
    for (int64_t i = 0; i < T; i++) {
        real *restrict s = S + i * T;
        real max = row_maximum(s, T);
        for (int64_t j = 0; j < T; j++)
            s[j] = real_exp(s[j] - max);
        real scale = 1 / row_sum(s, T);
        for (int64_t j = 0; j < T; j++)
            s[j] *= scale;
        row_max[i * h->A] = max;
        row_scale[i * h->A] = scale;
    }
}

/* The same P again, the same bits. */
static KERNEL void softmax_again(const struct head *h, real *S, const real *row_max,
                                 const real *row_scale)
{
    int64_t T = h->T;
    for (int64_t i = 0; i < T; i++) {
        real *restrict s = S + i * T;
        real max = row_max[i * h->A], scale = row_scale[i * h->A];
        for (int64_t j = 0; j < T; j++)
            s[j] = real_exp(s[j] - max) * scale;
    }
}

void attention_forward(const struct attention *a, real *context)
{
    for (int32_t s = 0; s < a->batch->B; s++) {
        for (int64_t i = 0; i < a->A; i++) {
            struct head h = head_of(a, s, i);
            real *P = a->scores;
            scores_of(a, &h, P);
            softmax_rows(&h, P, a->row_max + h.row, a->row_scale + h.row);
            dropout_apply(&a->drop, h.sample, h.first_element, h.T * h.T, P, P);
            gemm_small(context + h.at, h.H, 1, square(&h, P, false), columns(&h, a->v, false), h.T,
                       h.D, h.T);
        }
    }
}

/* dPM -> dS in place, given PM, P and the rows of the context and its gradient. */
static KERNEL void softmax_backward(const struct head *h, const real *P, const real *PM, real *dS,
                                    const real *context, const real *dcontext)
{
    int64_t T = h->T;
    for (int64_t i = 0; i < T; i++) {
        const real *restrict p = P + i * T, *restrict pm = PM + i * T;
        real *restrict ds = dS + i * T;
        int64_t at = h->at + i * h->H;
        real r = row_dot(dcontext + at, context + at, h->D);
        for (int64_t j = 0; j < T; j++)
            ds[j] = pm[j] * ds[j] - p[j] * r;
    }
}

void attention_backward(const struct attention *a, const real *context, real *d, real *dk, real *dv)
{
    for (int32_t s = 0; s < a->batch->B; s++) {
        for (int64_t i = 0; i < a->A; i++) {
            struct head h = head_of(a, s, i);
            int64_t T = h.T, D = h.D;
            real *P = a->scores, *dS = P + T * T, *PM = P;
            scores_of(a, &h, P);
            softmax_again(&h, P, a->row_max + h.row, a->row_scale + h.row);
            if (a->drop.threshold != 0) {
                PM = dS + T * T;
                dropout_apply(&a->drop, h.sample, h.first_element, T * T, P, PM);
            }
            gemm_small(dv + h.at, h.H, 1, square(&h, PM, true), columns(&h, d, false), T, D, T);
            gemm_small(dS, T, 1, columns(&h, d, false), columns(&h, a->v, true), T, T, D);
            softmax_backward(&h, P, PM, dS, context, d);
            gemm_small(d + h.at, h.H, h.scale, square(&h, dS, false), columns(&h, a->k, false), T,
                       D, T);
            gemm_small(dk + h.at, h.H, h.scale, square(&h, dS, true), columns(&h, a->q, false), T,
                       D, T);
        }
    }
}

/*
 * attention_rows: what attention does to rows of scores (softmax, its dropout, its gradient), for
 * kernels whatever multiplies for them; see attention_body.h.
 */
#ifndef MT_MODEL_ATTENTION_ROWS_H
#define MT_MODEL_ATTENTION_ROWS_H

#include "trainer/model/attention_head.h"
#include "trainer/model/vector.h"

enum { CHUNK = ROW_LANES / VECTOR_LANES }; /* vectors that a row goes by */

/* Where things lie in a head's room. */
struct room {
    int64_t Tp, Dp;         /* T and D in whole chunks */
    real *kt, *vt;          /* panels of K^T and V^T [D,T] */
    real *rows;             /* [T,Dp] V in forward, K in backward */
    real *dk, *dv;          /* [T,Dp] */
    real *query, *dcontext; /* [block,Dp] */
    real *scores, *dscores; /* [block,Tp] */
    uint16_t *lanes;
    real tail[ROW_LANES], behind[ROW_LANES]; /* 1 and 0 at columns of the last chunk below T, 0 and
                                                minus infinity at those behind */
};

static inline void room_set_tail(struct room *r, int64_t T)
{
    for (int l = 0; l < ROW_LANES; l++) {
        r->tail[l] = r->Tp - ROW_LANES + l < T;
        r->behind[l] = r->tail[l] > 0 ? 0 : -INFINITY;
    }
}

/* The dropout of queries i .. i+n-1; NULL where it is off. */
static const uint16_t *lanes_of(const struct attention_head *h, const struct room *r, int64_t i,
                                int64_t n)
{
    if (h->drop->threshold == 0)
        return NULL;
    return dropout_lanes(h->drop, h->sample, h->first + i * h->T, n * h->T, r->lanes);
}

/* One vector of what a row's vectors hold, in the order of row_fold_sum. */
static inline vector chunk_sum(vector sum[CHUNK])
{
    for (int half = CHUNK / 2; half > 0; half /= 2)
        for (int c = 0; c < half; c++)
            sum[c] = sum[c] + sum[c + half];
    return sum[0];
}

/* The row's maximum over T columns is the largest of what this answers. */
static inline vector maximum_of(const struct room *r, const real *s)
{
    vector max[CHUNK];
    for (int c = 0; c < CHUNK; c++)
        max[c] = vector_all(s[0]);
    int64_t j = 0, last = r->Tp - ROW_LANES;
    for (; j < last; j += ROW_LANES)
        for (int c = 0; c < CHUNK; c++)
            max[c] = vector_larger(vector_load(s + j + c * VECTOR_LANES), max[c]);
    for (int c = 0; c < CHUNK; c++) {
        vector x = vector_load(s + j + c * VECTOR_LANES);
        max[c] = vector_larger(x + vector_load(r->behind + c * VECTOR_LANES), max[c]);
    }
    for (int c = 1; c < CHUNK; c++)
        max[0] = vector_larger(max[c], max[0]);
    return max[0];
}

/* s -> exp(s - max), zero where it is dropped; the sum of what this answers is the sum before
 * dropping. */
static inline vector exponentials(const struct room *r, real *s, vector max, const uint16_t *lane,
                                  uint32_t threshold)
{
    vector sum[CHUNK];
    int64_t j = 0, last = r->Tp - ROW_LANES;
    for (int c = 0; c < CHUNK; c++)
        sum[c] = vector_all(0);
    for (; j < last; j += ROW_LANES) {
        for (int c = 0; c < CHUNK; c++) {
            int64_t at = j + c * VECTOR_LANES;
            vector e = vector_exp(vector_load(s + at) - max);
            sum[c] = sum[c] + e;
            vector_store(s + at, lane ? vector_keep(e, lane + at, threshold) : e);
        }
    }
    for (int c = 0; c < CHUNK; c++) {
        int64_t at = j + c * VECTOR_LANES;
        vector x = vector_load(s + at) + vector_load(r->behind + c * VECTOR_LANES);
        vector e = vector_exp(x - max) * vector_load(r->tail + c * VECTOR_LANES);
        sum[c] = sum[c] + e;
        vector_store(s + at, lane ? vector_keep(e, lane + at, threshold) : e);
    }
    return chunk_sum(sum);
}

/* Scores of queries i .. i+n-1, rows `stride` apart: s -> exp(s - max), zero where it is dropped;
 * scale[n in whole vectors] is 1 / sum.  Rows go by as many as a vector has lanes, so that what is
 * left to add up and compare meets in one fold. */
static void softmax_forward(const struct attention_head *h, const struct room *r, real *s,
                            int64_t stride, int64_t i, int64_t n, const uint16_t *lane, real *scale)
{
    vector row[VECTOR_LANES];
    for (int l = 0; l < VECTOR_LANES; l++)
        row[l] = vector_all(1);
    for (int64_t t = 0; t < n; t += VECTOR_LANES) {
        int64_t rows = n - t < VECTOR_LANES ? n - t : VECTOR_LANES;
        real max[VECTOR_LANES];
        for (int64_t l = 0; l < rows; l++)
            row[l] = maximum_of(r, s + (t + l) * stride);
        vector_store(max, vector_fold_largest(row));
        for (int64_t l = 0; l < rows; l++)
            row[l] = exponentials(r, s + (t + l) * stride, vector_all(max[l]),
                                  lane ? lane + (t + l) * h->T : NULL, h->drop->threshold);
        vector_store(scale + t, vector_all(1) / vector_fold_sum(row));
        for (int64_t l = 0; l < rows; l++) {
            h->row_max[(i + t + l) * h->A] = max[l];
            h->row_scale[(i + t + l) * h->A] = scale[t + l];
        }
    }
}

/* Rows of scores s -> PM, their gradients ds = dPM -> dS; slope[n] is the row term r. */
static void softmax_backward(const struct attention_head *h, const struct room *r, real *s,
                             real *ds, int64_t stride, int64_t i, int64_t n, const uint16_t *lane,
                             const real *slope)
{
    const vector kept = vector_all(h->drop->scale);
    const uint32_t threshold = h->drop->threshold;
    for (int64_t t = 0; t < n; t++, s += stride, ds += stride, lane += lane ? h->T : 0) {
        const vector max = vector_all(h->row_max[(i + t) * h->A]);
        const vector scale = vector_all(h->row_scale[(i + t) * h->A]);
        const vector term = vector_all(slope[t]);
        for (int64_t j = 0; j < r->Tp; j += VECTOR_LANES) {
            vector p = vector_exp(vector_load(s + j) - max) * scale, dp = vector_load(ds + j);
            vector pm = p;
            if (lane) {
                vector mask = vector_keep(kept, lane + j, threshold);
                pm = p * mask;
                dp = dp * mask;
            }
            vector_store(s + j, pm);
            vector_store(ds + j, p * (dp - term));
        }
    }
}

#endif

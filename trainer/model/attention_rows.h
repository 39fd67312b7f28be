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
    int64_t Tp, Dp;               /* T and D in whole chunks */
    real *kt, *vt;                /* panels of K^T and V^T [D,T] */
    real *rows;                   /* [T,Dp] V in forward, K in backward */
    real *dk, *dv;                /* [T,Dp] */
    real *query, *dcontext, *out; /* [block,Dp] */
    real *scores, *dscores;       /* [block,Tp] */
    uint16_t *lanes;
    real tail[ROW_LANES]; /* 1 at columns of the last chunk below T, else 0 */
};

static inline void room_set_tail(struct room *r, int64_t T)
{
    for (int l = 0; l < ROW_LANES; l++)
        r->tail[l] = r->Tp - ROW_LANES + l < T;
}

/* The dropout of queries i .. i+n-1; NULL where it is off. */
static const uint16_t *lanes_of(const struct attention_head *h, const struct room *r, int64_t i,
                                int64_t n)
{
    if (h->drop->threshold == 0)
        return NULL;
    return dropout_lanes(h->drop, h->sample, h->first + i * h->T, n * h->T, r->lanes);
}

/* The row's maximum over T columns. */
static real maximum_of(const struct room *r, const real *s)
{
    vector max[CHUNK];
    for (int c = 0; c < CHUNK; c++)
        max[c] = vector_all(s[0]);
    int64_t j = 0, last = r->Tp - ROW_LANES;
    for (; j < last; j += ROW_LANES)
        for (int c = 0; c < CHUNK; c++)
            max[c] = vector_larger(vector_load(s + j + c * VECTOR_LANES), max[c]);
    real lane[ROW_LANES], end[ROW_LANES];
    memcpy(end, s + last, sizeof end);
    for (int c = 0; c < CHUNK; c++)
        vector_store(lane + c * VECTOR_LANES, max[c]);
    for (int l = 0; l < ROW_LANES; l++)
        lane[l] = r->tail[l] > 0 && end[l] > lane[l] ? end[l] : lane[l];
    for (int width = ROW_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++)
            lane[l] = lane[l + width] > lane[l] ? lane[l + width] : lane[l];
    return lane[0];
}

/* s -> exp(s - max), zero where it is dropped; answers the sum before dropping. */
static real exponentials(const struct attention_head *h, const struct room *r, real *s, real max,
                         const uint16_t *lane)
{
    vector sum[CHUNK];
    const uint32_t threshold = h->drop->threshold;
    for (int c = 0; c < CHUNK; c++)
        sum[c] = vector_all(0);
    for (int64_t j = 0; j < r->Tp; j += ROW_LANES) {
        bool end = j == r->Tp - ROW_LANES;
        for (int c = 0; c < CHUNK; c++) {
            int64_t at = j + c * VECTOR_LANES;
            vector x = vector_load(s + at) - max, e = vector_exp(x);
            if (end) /* what stands behind T may be anything above the maximum */
                e = vector_exp(vector_smaller(vector_all(0), x)) *
                    vector_load(r->tail + c * VECTOR_LANES);
            sum[c] = sum[c] + e;
            vector_store(s + at, lane ? vector_keep(e, lane + at, threshold) : e);
        }
    }
    real lanes[ROW_LANES];
    for (int c = 0; c < CHUNK; c++)
        vector_store(lanes + c * VECTOR_LANES, sum[c]);
    return row_fold_sum(lanes);
}

/* One row: scores s -> PM, their gradient ds = dPM -> dS. */
static void softmax_backward(const struct attention_head *h, const struct room *r, real *s,
                             real *ds, int64_t query, real slope, const uint16_t *lane)
{
    const vector max = vector_all(h->row_max[query * h->A]);
    const vector scale = vector_all(h->row_scale[query * h->A]);
    const vector kept = vector_all(h->drop->scale);
    const uint32_t threshold = h->drop->threshold;
    for (int64_t j = 0; j < r->Tp; j += VECTOR_LANES) {
        vector p = vector_exp(vector_load(s + j) - max) * scale, dp = vector_load(ds + j), pm = p;
        if (lane) {
            vector mask = vector_keep(kept, lane + j, threshold);
            pm = p * mask;
            dp = dp * mask;
        }
        vector_store(s + j, pm);
        vector_store(ds + j, p * (dp - slope));
    }
}

#endif

/*
 * attention_body: the kernels of attention_head.h, written once; attention_avx512.c, _avx2.c and
 * _plain.c compile it.
 *
 * Queries go by in blocks of ATTENTION_BLOCK, so that a block's scores (16 kB at T = 128) stay in
 * the first cache and no T x T square exists:
 *
 *     forward   S = Q K^T   E = exp(S - max)   C = (E keep) V * drop scale / sum(E)
 *     backward  P = exp(S - max) / sum   dPM = dC V^T   PM = P M   dS = P (M dPM - r), r = dC . C
 *               dV += PM^T dC   dK += dS^T Q   dQ = dS K / sqrt(D)
 *
 * with 1 / sqrt(D) put into the block's copy of Q.  K^T and V^T are packed once a head in panels,
 * in the order in which tiles read them; other operands are read where they lie, or copied where
 * D columns are not whole vectors; tiles scale what they store and store it where it belongs.  What
 * stands behind T columns of a row of scores is never read by a product.
 *
 * Cost: seven products of T x T x D, two exponentials and two masks an element.
 */
#ifndef MT_MODEL_ATTENTION_BODY_H
#define MT_MODEL_ATTENTION_BODY_H

#include "trainer/model/attention_rows.h"
#include "trainer/model/tile.h"

static struct room room_of(const struct attention_head *h)
{
    int64_t T = h->T, Tq = attention_padded(T), Dq = attention_padded(h->D);
    struct room r = {.Tp = (T + ROW_LANES - 1) / ROW_LANES * ROW_LANES,
                     .Dp = (h->D + ROW_LANES - 1) / ROW_LANES * ROW_LANES};
    r.kt = h->room;
    r.vt = r.kt + Tq * Dq;
    r.rows = r.vt + Tq * Dq;
    r.dk = r.rows + T * Dq;
    r.dv = r.dk + T * Dq;
    r.query = r.dv + T * Dq;
    r.dcontext = r.query + ATTENTION_BLOCK * Dq;
    r.scores = r.dcontext + ATTENTION_BLOCK * Dq;
    r.dscores = r.scores + ATTENTION_BLOCK * Tq;
    r.lanes = (uint16_t *)(r.dscores + ATTENTION_BLOCK * Tq);
    room_set_tail(&r, T);
    return r;
}

/* Products will ask for the next head's rows of `count` matrices, be they read or written; there
 * are so many products of T x T x D. */
static struct tile_ahead look_ahead(const struct attention_head *h, int products,
                                    const real *const *from, int count)
{
    const int64_t tile = TILE_ROWS * TILE_COLUMNS;
    struct tile_ahead ahead = {.count = count,
                               .T = h->T,
                               .D = h->D,
                               .stride = h->H,
                               .every = products * h->T * h->D / (tile * count) + 1};
    for (int i = 0; i < count; i++)
        ahead.from[i] = from[i] + h->next;
    return ahead;
}

/* to[n,Dp] = scale * from[n,D], its rows H apart. */
static void copy_in(const struct attention_head *h, real *to, int64_t Dp, const real *from,
                    int64_t n, real scale)
{
    int64_t D = h->D, whole = D / VECTOR_LANES * VECTOR_LANES;
    for (int64_t i = 0; i < n; i++, to += Dp, from += h->H) {
        int64_t j = 0;
        for (; j < whole; j += VECTOR_LANES)
            vector_store(to + j, vector_load(from + j) * scale);
        if (j < D)
            vector_store(to + j, vector_load_part(from + j, D - j) * scale);
        for (j += j < D ? VECTOR_LANES : 0; j < Dp; j += VECTOR_LANES)
            vector_store(to + j, vector_all(0));
    }
}

/* Rows of D columns, in whole vectors. */
struct rows {
    const real *at;
    int64_t stride;
};

/* from[n,D], its rows H apart: where it lies, or copied to where its vectors are whole. */
static struct rows whole_rows(const struct attention_head *h, real *copy, int64_t Dp,
                              const real *from, int64_t n)
{
    if (h->D == Dp)
        return (struct rows){from, h->H};
    copy_in(h, copy, Dp, from, n, 1);
    return (struct rows){copy, Dp};
}

/* Panels [D,TILE_COLUMNS] of the transpose of from[T,D]; zeros behind T, as far as rows of scores
 * reach. */
static void copy_transposed(const struct attention_head *h, const struct room *r, real *panels,
                            const real *from)
{
    int64_t T = h->T, D = h->D;
    for (int64_t i = 0; i < r->Tp; i += VECTOR_LANES) {
        real *to = panels + i / TILE_COLUMNS * TILE_COLUMNS * D + i % TILE_COLUMNS;
        for (int64_t j = 0; j < D; j += VECTOR_LANES) {
            int64_t columns = D - j < VECTOR_LANES ? D - j : VECTOR_LANES;
            vector square[VECTOR_LANES];
            for (int64_t l = 0; l < VECTOR_LANES; l++) {
                const real *row = from + (i + l) * h->H + j;
                square[l] = i + l >= T                ? vector_all(0)
                            : columns == VECTOR_LANES ? vector_load(row)
                                                      : vector_load_part(row, columns);
            }
            vector_transpose(square);
            for (int64_t l = 0; l < columns; l++)
                vector_store(to + (j + l) * TILE_COLUMNS, square[l]);
        }
    }
}

/* scores[n,T] = left[n,D] times K^T or V^T. */
static void multiply_across(const struct attention_head *h, const struct room *r,
                            struct tile_ahead *ahead, real *scores, struct rows left, int64_t n,
                            const real *panels)
{
    struct tile_product g = {.c = scores,
                             .c_stride = r->Tp,
                             .a = left.at,
                             .a_stride = left.stride,
                             .b = panels,
                             .b_panel = TILE_COLUMNS * h->D,
                             .b_stride = TILE_COLUMNS,
                             .m = n,
                             .n = r->Tp,
                             .K = h->D};
    tile_multiply(&g, ahead);
}

/* to[n,D] = scores[n,T] right[T,D], each row times its scale; rows of `to` are H apart. */
static void multiply_down(const struct attention_head *h, const struct room *r,
                          struct tile_ahead *ahead, real *to, const real *scores, struct rows right,
                          const real *scale, int64_t n)
{
    struct tile_product g = {.c = to,
                             .c_stride = h->H,
                             .scale = scale,
                             .a = scores,
                             .a_stride = r->Tp,
                             .b = right.at,
                             .b_panel = TILE_COLUMNS,
                             .b_stride = right.stride,
                             .m = n,
                             .n = h->D,
                             .K = h->T};
    tile_multiply(&g, ahead);
}

/* to[T,D], rows H apart: its share scores[n,T]^T right[n,D] of the queries from i; sum[T,Dp] is
 * what blocks before have added. */
static void multiply_add(const struct attention_head *h, const struct room *r,
                         struct tile_ahead *ahead, real *to, real *sum, const real *scores,
                         struct rows right, int64_t i, int64_t n)
{
    bool last = i + n == h->T;
    struct tile_product g = {.c = last ? to : sum,
                             .c_stride = last ? h->H : r->Dp,
                             .sum = i > 0 ? sum : NULL,
                             .sum_stride = r->Dp,
                             .a = scores,
                             .a_stride = r->Tp,
                             .b = right.at,
                             .b_panel = TILE_COLUMNS,
                             .b_stride = right.stride,
                             .m = h->T,
                             .n = last ? h->D : r->Dp,
                             .K = n};
    tile_multiply_transposed(&g, ahead);
}

/* slope[n in whole vectors]: each row of dcontext[n,D] times that of context[n,D]. */
static void multiply_rows(const struct attention_head *h, real *slope, struct rows dcontext,
                          const real *context, int64_t n)
{
    vector row[VECTOR_LANES];
    for (int l = 0; l < VECTOR_LANES; l++)
        row[l] = vector_all(0);
    for (int64_t t = 0; t < n; t += VECTOR_LANES) {
        int64_t rows = n - t < VECTOR_LANES ? n - t : VECTOR_LANES;
        for (int64_t l = 0; l < rows; l++, dcontext.at += dcontext.stride, context += h->H) {
            vector sum[CHUNK];
            for (int c = 0; c < CHUNK; c++)
                sum[c] = vector_all(0);
            for (int64_t j = 0; j < h->D; j += VECTOR_LANES) {
                int c = (int)(j / VECTOR_LANES % CHUNK);
                vector x = h->D - j < VECTOR_LANES ? vector_load_part(context + j, h->D - j)
                                                   : vector_load(context + j);
                sum[c] = sum[c] + vector_load(dcontext.at + j) * x;
            }
            row[l] = chunk_sum(sum);
        }
        vector_store(slope + t, vector_fold_sum(row));
    }
}

static void head_forward(const struct attention_head *h, real *context)
{
    struct room r = room_of(h);
    struct tile_ahead ahead = look_ahead(h, 2, (const real *[]){h->q, h->k, h->v, context}, 4);
    copy_transposed(h, &r, r.kt, h->k);
    struct rows v = whole_rows(h, r.rows, r.Dp, h->v, h->T);
    for (int64_t i = 0; i < h->T; i += ATTENTION_BLOCK) {
        int64_t n = h->T - i < ATTENTION_BLOCK ? h->T - i : ATTENTION_BLOCK;
        copy_in(h, r.query, r.Dp, h->q + i * h->H, n, h->scale);
        multiply_across(h, &r, &ahead, r.scores, (struct rows){r.query, r.Dp}, n, r.kt);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        real scale[ATTENTION_BLOCK];
        softmax_forward(h, &r, r.scores, r.Tp, i, n, lanes, scale);
        for (int64_t t = 0; t < n && lanes; t++)
            scale[t] *= h->drop->scale;
        multiply_down(h, &r, &ahead, context + i * h->H, r.scores, v, scale, n);
    }
}

static void head_backward(const struct attention_head *h, const real *context, real *d, real *dk,
                          real *dv)
{
    struct room r = room_of(h);
    struct tile_ahead ahead =
        look_ahead(h, 5, (const real *[]){h->q, h->k, h->v, context, d, dk, dv}, 7);
    copy_transposed(h, &r, r.kt, h->k);
    copy_transposed(h, &r, r.vt, h->v);
    struct rows k = whole_rows(h, r.rows, r.Dp, h->k, h->T), query = {r.query, r.Dp};
    real slope[ATTENTION_BLOCK], scale[ATTENTION_BLOCK];
    for (int t = 0; t < ATTENTION_BLOCK; t++)
        scale[t] = h->scale;
    for (int64_t i = 0; i < h->T; i += ATTENTION_BLOCK) {
        int64_t n = h->T - i < ATTENTION_BLOCK ? h->T - i : ATTENTION_BLOCK, at = i * h->H;
        copy_in(h, r.query, r.Dp, h->q + at, n, h->scale);
        struct rows dcontext = whole_rows(h, r.dcontext, r.Dp, d + at, n);
        multiply_across(h, &r, &ahead, r.scores, query, n, r.kt);
        multiply_across(h, &r, &ahead, r.dscores, dcontext, n, r.vt);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        multiply_rows(h, slope, dcontext, context + at, n);
        softmax_backward(h, &r, r.scores, r.dscores, r.Tp, i, n, lanes, slope);
        multiply_add(h, &r, &ahead, dv, r.dv, r.scores, dcontext, i, n);
        multiply_add(h, &r, &ahead, dk, r.dk, r.dscores, query, i, n);
        multiply_down(h, &r, &ahead, d + at, r.dscores, k, scale, n);
    }
}

#endif

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
 * in the order in which tiles read them; rows of D columns are padded with zeros to whole vectors,
 * so tiles have no edge; what stands behind T columns of a row of scores is never read by a
 * product.  Only the functions that copy know how q, k, v and their gradients lie in memory.
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
    r.out = r.dcontext + ATTENTION_BLOCK * Dq;
    r.scores = r.out + ATTENTION_BLOCK * Dq;
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

/* One row to[D] = scale * from[D]. */
static void copy_out_row(const struct attention_head *h, real *to, const real *from, real scale)
{
    int64_t D = h->D, j = 0;
    for (; j + VECTOR_LANES <= D; j += VECTOR_LANES)
        vector_store(to + j, vector_load(from + j) * scale);
    if (j < D)
        vector_store_part(to + j, vector_load(from + j) * scale, D - j);
}

static void copy_out(const struct attention_head *h, real *to, const real *from, int64_t Dp,
                     int64_t n, real scale)
{
    for (int64_t i = 0; i < n; i++)
        copy_out_row(h, to + i * h->H, from + i * Dp, scale);
}

/* Panels [D,TILE_COLUMNS] of the transpose of from[T,D]; zeros behind T. */
static void copy_transposed(const struct attention_head *h, real *panels, const real *from)
{
    int64_t T = h->T, D = h->D, Tp = attention_padded(T);
    for (int64_t i = 0; i < Tp; i += VECTOR_LANES) {
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
                            struct tile_ahead *ahead, real *scores, const real *left, int64_t n,
                            const real *panels)
{
    struct tile_product g = {.c = scores,
                             .c_stride = r->Tp,
                             .a = left,
                             .a_stride = r->Dp,
                             .b = panels,
                             .b_panel = TILE_COLUMNS * h->D,
                             .b_stride = TILE_COLUMNS,
                             .m = n,
                             .n = r->Tp,
                             .K = h->D};
    tile_multiply(&g, false, ahead);
}

/* out[n,D] = scores[n,T] rows[T,D]. */
static void multiply_down(const struct attention_head *h, const struct room *r,
                          struct tile_ahead *ahead, real *out, const real *scores, int64_t n)
{
    struct tile_product g = {.c = out,
                             .c_stride = r->Dp,
                             .a = scores,
                             .a_stride = r->Tp,
                             .b = r->rows,
                             .b_panel = TILE_COLUMNS,
                             .b_stride = r->Dp,
                             .m = n,
                             .n = r->Dp,
                             .K = h->T};
    tile_multiply(&g, false, ahead);
}

/* sum[T,D] += scores[n,T]^T right[n,D]. */
static void multiply_add(const struct attention_head *h, const struct room *r,
                         struct tile_ahead *ahead, real *sum, const real *scores, const real *right,
                         int64_t n)
{
    struct tile_product g = {.c = sum,
                             .c_stride = r->Dp,
                             .a = scores,
                             .a_stride = r->Tp,
                             .b = right,
                             .b_panel = TILE_COLUMNS,
                             .b_stride = r->Dp,
                             .m = h->T,
                             .n = r->Dp,
                             .K = n};
    tile_multiply(&g, true, ahead);
}

/* slope[n in whole vectors]: each row of dcontext[n,Dp] times that of context[n,D]. */
static void multiply_rows(const struct attention_head *h, real *slope, const real *dcontext,
                          int64_t Dp, const real *context, int64_t n)
{
    vector row[VECTOR_LANES];
    for (int l = 0; l < VECTOR_LANES; l++)
        row[l] = vector_all(0);
    for (int64_t t = 0; t < n; t += VECTOR_LANES) {
        int64_t rows = n - t < VECTOR_LANES ? n - t : VECTOR_LANES;
        for (int64_t l = 0; l < rows; l++, dcontext += Dp, context += h->H) {
            vector sum[CHUNK];
            for (int c = 0; c < CHUNK; c++)
                sum[c] = vector_all(0);
            for (int64_t j = 0; j < h->D; j += VECTOR_LANES) {
                int c = (int)(j / VECTOR_LANES % CHUNK);
                vector x = h->D - j < VECTOR_LANES ? vector_load_part(context + j, h->D - j)
                                                   : vector_load(context + j);
                sum[c] = sum[c] + vector_load(dcontext + j) * x;
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
    copy_transposed(h, r.kt, h->k);
    copy_in(h, r.rows, r.Dp, h->v, h->T, 1);
    for (int64_t i = 0; i < h->T; i += ATTENTION_BLOCK) {
        int64_t n = h->T - i < ATTENTION_BLOCK ? h->T - i : ATTENTION_BLOCK;
        copy_in(h, r.query, r.Dp, h->q + i * h->H, n, h->scale);
        multiply_across(h, &r, &ahead, r.scores, r.query, n, r.kt);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        real scale[ATTENTION_BLOCK];
        softmax_forward(h, &r, r.scores, r.Tp, i, n, lanes, scale);
        multiply_down(h, &r, &ahead, r.out, r.scores, n);
        for (int64_t t = 0; t < n; t++)
            copy_out_row(h, context + (i + t) * h->H, r.out + t * r.Dp,
                         lanes ? scale[t] * h->drop->scale : scale[t]);
    }
}

static void head_backward(const struct attention_head *h, const real *context, real *d, real *dk,
                          real *dv)
{
    struct room r = room_of(h);
    size_t bytes = (size_t)(h->T * r.Dp) * sizeof *r.dk;
    struct tile_ahead ahead =
        look_ahead(h, 5, (const real *[]){h->q, h->k, h->v, context, d, dk, dv}, 7);
    copy_transposed(h, r.kt, h->k);
    copy_transposed(h, r.vt, h->v);
    copy_in(h, r.rows, r.Dp, h->k, h->T, 1);
    memset(r.dk, 0, bytes);
    memset(r.dv, 0, bytes);
    for (int64_t i = 0; i < h->T; i += ATTENTION_BLOCK) {
        int64_t n = h->T - i < ATTENTION_BLOCK ? h->T - i : ATTENTION_BLOCK, at = i * h->H;
        copy_in(h, r.query, r.Dp, h->q + at, n, h->scale);
        copy_in(h, r.dcontext, r.Dp, d + at, n, 1);
        multiply_across(h, &r, &ahead, r.scores, r.query, n, r.kt);
        multiply_across(h, &r, &ahead, r.dscores, r.dcontext, n, r.vt);
        const uint16_t *lanes = lanes_of(h, &r, i, n);
        real slope[ATTENTION_BLOCK];
        multiply_rows(h, slope, r.dcontext, r.Dp, context + at, n);
        softmax_backward(h, &r, r.scores, r.dscores, r.Tp, i, n, lanes, slope);
        multiply_add(h, &r, &ahead, r.dv, r.scores, r.dcontext, n);
        multiply_add(h, &r, &ahead, r.dk, r.dscores, r.query, n);
        multiply_down(h, &r, &ahead, r.out, r.dscores, n);
        copy_out(h, d + at, r.out, r.Dp, n, h->scale);
    }
    copy_out(h, dk, r.dk, r.Dp, h->T, 1);
    copy_out(h, dv, r.dv, r.Dp, h->T, 1);
}

#endif

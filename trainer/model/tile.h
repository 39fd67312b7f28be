/*
 * tile: products of small matrices in cache, for kernels that are compiled once for each width.
 *
 * A product is cut into tiles of up to TILE_ROWS rows and two vectors, whose sums stay in
 * registers.  Each element is one chain of vector_fma over k = 0, 1, ..., so its bits depend
 * neither on the cut nor on the width of vectors.
 */
#ifndef MT_MODEL_TILE_H
#define MT_MODEL_TILE_H

#include <stdbool.h>

#include "trainer/model/vector.h"

#if defined(VECTOR_AVX512)
enum { TILE_ROWS = 12 }; /* 24 sums of 32 registers */
#elif defined(VECTOR_AVX2)
enum { TILE_ROWS = 6 }; /* 12 of 16 */
#else
enum { TILE_ROWS = 4 }; /* 8 of 16 */
#endif
enum { TILE_COLUMNS = 2 * VECTOR_LANES };

/* c[m,n] = scale (sum + a b), or a^T b for a b: */
struct tile_product {
    real *c;
    int64_t c_stride;
    const real *sum; /* [m,n in whole vectors]; NULL = 0 */
    int64_t sum_stride;
    const real *scale; /* of each row; NULL = 1 */
    const real *a;     /* [m,K], or [K,m] where its transpose is multiplied */
    int64_t a_stride;
    const real *b;             /* panels of TILE_COLUMNS columns, in whole vectors */
    int64_t b_panel, b_stride; /* elements from panel to panel, from row to row in one */
    int64_t m, n, K;
};

/* What is to be in the second cache soon: rows [T,D] of some matrices.  They are short and far
 * apart, so the machine does not guess them; tiles ask for one row after `every` steps in k, as
 * memory would hold up what asks for many at once. */
struct tile_ahead {
    const real *from[7];
    int count;
    int64_t T, D, stride, every;
    int64_t row; /* the next to be asked for, of matrix `matrix` */
    int matrix;
};

VECTOR_INLINE void tile_fetch(struct tile_ahead *f)
{
    enum { LINE = 64 / sizeof(real) };
    if (f->row == f->T)
        return;
    const real *from = f->from[f->matrix] + f->row * f->stride;
    for (int64_t j = 0; j < f->D; j += LINE)
        __builtin_prefetch(from + j, 0, 2);
    if (++f->matrix == f->count) {
        f->matrix = 0;
        f->row++;
    }
}

/* Where a tile begins in c. */
struct tile_place {
    int64_t i, j;
};

/* Rows of a are addressed in threes, which saves registers. */
VECTOR_INLINE void tile_add(const struct tile_product *g, const bool transposed, const int R,
                            const int V, struct tile_place at, vector sum[TILE_ROWS][2],
                            struct tile_ahead *ahead)
{
    enum { THIRDS = (TILE_ROWS + 2) / 3 };
    const real *row[THIRDS], *a = g->a + at.i * (transposed ? 1 : g->a_stride);
    const real *b = g->b + at.j / TILE_COLUMNS * g->b_panel;
    const int64_t r_step = transposed ? 1 : g->a_stride, k_step = transposed ? g->a_stride : 1;
    const int64_t b_stride = g->b_stride;
#pragma GCC unroll 12
    for (int r = 0; r < R; r += 3)
        row[r / 3] = a + r * r_step;
    for (int64_t k = 0, end; k < g->K;) {
        tile_fetch(ahead);
        end = g->K - k < ahead->every ? g->K : k + ahead->every;
        for (; k < end; k++, b += b_stride) {
            vector right[2];
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                right[v] = vector_load(b + v * VECTOR_LANES);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                vector left = vector_all(row[r / 3][r % 3 * r_step]);
#pragma GCC unroll 2
                for (int v = 0; v < V; v++)
                    sum[r][v] = vector_fma(left, right[v], sum[r][v]);
            }
#pragma GCC unroll 12
            for (int r = 0; r < R; r += 3)
                row[r / 3] += k_step;
        }
    }
}

VECTOR_INLINE void tile(const struct tile_product *g, const bool transposed, const int R,
                        const int V, struct tile_place at, struct tile_ahead *ahead)
{
    vector sum[TILE_ROWS][2];
    real *c = g->c + at.i * g->c_stride + at.j;
    const real *from = g->sum ? g->sum + at.i * g->sum_stride + at.j : NULL;
    int64_t last = g->n - at.j - (V - 1) * VECTOR_LANES; /* columns of the last vector */
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) {
            sum[r][v] = vector_all(0);
            if (from)
                sum[r][v] = vector_load(from + r * g->sum_stride + v * VECTOR_LANES);
        }
    tile_add(g, transposed, R, V, at, sum, ahead);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++, c += g->c_stride) {
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) {
            vector x = sum[r][v];
            if (g->scale)
                x = x * vector_all(g->scale[at.i + r]);
            if (v < V - 1 || last >= VECTOR_LANES)
                vector_store(c + v * VECTOR_LANES, x);
            else
                vector_store_part(c + v * VECTOR_LANES, x, last);
        }
    }
}

#define TILE_CASE(R)                                                                               \
    case R:                                                                                        \
        if (R <= TILE_ROWS && g->n - at.j > VECTOR_LANES)                                          \
            tile(g, transposed, R <= TILE_ROWS ? R : 1, 2, at, ahead);                             \
        else if (R <= TILE_ROWS)                                                                   \
            tile(g, transposed, R <= TILE_ROWS ? R : 1, 1, at, ahead);                             \
        break;

/* Chooses the tile of `rows` rows, written out. */
VECTOR_INLINE void tile_choose(const struct tile_product *g, const bool transposed, int64_t rows,
                               struct tile_place at, struct tile_ahead *ahead)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
    }
}

/* Tiles have equal heights, give or take one row: a thin one would wait for its own sums. */
VECTOR_INLINE void tile_all(const struct tile_product *g, const bool transposed,
                            struct tile_ahead *ahead)
{
    int64_t tiles = (g->m + TILE_ROWS - 1) / TILE_ROWS, height = g->m / tiles;
    int64_t higher = g->m % tiles;
    for (int64_t j = 0; j < g->n; j += TILE_COLUMNS) {
        struct tile_place at = {0, j};
        for (int64_t t = 0, rows; t < tiles; t++, at.i += rows) {
            rows = height + (t < higher);
            tile_choose(g, transposed, rows, at, ahead);
        }
    }
}

/* Local. */
static void tile_multiply(const struct tile_product *g, struct tile_ahead *ahead)
{
    tile_all(g, false, ahead);
}

/* Local.  The same with the transpose of a. */
static void tile_multiply_transposed(const struct tile_product *g, struct tile_ahead *ahead)
{
    tile_all(g, true, ahead);
}

#endif

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
#else
enum { TILE_ROWS = 4 }; /* 8 of 16 */
#endif
enum { TILE_COLUMNS = 2 * VECTOR_LANES };

/* c[m,n] = a b, or c += a^T b, with n a multiple of VECTOR_LANES: */
struct tile_product {
    real *c;
    int64_t c_stride;
    const real *a; /* [m,K], or [K,m] where its transpose is multiplied */
    int64_t a_stride;
    const real *b;             /* panels of TILE_COLUMNS columns */
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

/* One tile of c = a b.  Rows of a are addressed in threes, which saves registers. */
VECTOR_INLINE void tile_rows(const struct tile_product *g, const int R, const int V, real *c,
                             const real *a, const real *b, struct tile_ahead *ahead)
{
    vector sum[TILE_ROWS][2];
    const real *row[(TILE_ROWS + 2) / 3];
    const int64_t a_stride = g->a_stride, b_stride = g->b_stride;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            sum[r][v] = vector_all(0);
#pragma GCC unroll 12
    for (int r = 0; r < R; r += 3)
        row[r / 3] = a + r * a_stride;
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
                vector left = vector_all(row[r / 3][r % 3 * a_stride]);
#pragma GCC unroll 2
                for (int v = 0; v < V; v++)
                    sum[r][v] = vector_fma(left, right[v], sum[r][v]);
            }
#pragma GCC unroll 12
            for (int r = 0; r < R; r += 3)
                row[r / 3]++;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            vector_store(c + r * g->c_stride + v * VECTOR_LANES, sum[r][v]);
}

/* One tile of c += a^T b. */
VECTOR_INLINE void tile_columns(const struct tile_product *g, const int R, const int V, real *c,
                                const real *a, const real *b, struct tile_ahead *ahead)
{
    vector sum[TILE_ROWS][2];
    const int64_t a_stride = g->a_stride, b_stride = g->b_stride;
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            sum[r][v] = vector_load(c + r * g->c_stride + v * VECTOR_LANES);
    for (int64_t k = 0, end; k < g->K;) {
        tile_fetch(ahead);
        end = g->K - k < ahead->every ? g->K : k + ahead->every;
        for (; k < end; k++, a += a_stride, b += b_stride) {
            vector right[2];
#pragma GCC unroll 2
            for (int v = 0; v < V; v++)
                right[v] = vector_load(b + v * VECTOR_LANES);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) {
                vector left = vector_all(a[r]);
#pragma GCC unroll 2
                for (int v = 0; v < V; v++)
                    sum[r][v] = vector_fma(left, right[v], sum[r][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < V; v++)
            vector_store(c + r * g->c_stride + v * VECTOR_LANES, sum[r][v]);
}

#define TILE_CASE(TILE, R)                                                                         \
    case R:                                                                                        \
        if (R <= TILE_ROWS && pair)                                                                \
            TILE(g, R <= TILE_ROWS ? R : 1, 2, c, a, b, ahead);                                    \
        else if (R <= TILE_ROWS)                                                                   \
            TILE(g, R <= TILE_ROWS ? R : 1, 1, c, a, b, ahead);                                    \
        break;

/* Chooses the tile of `rows` rows, written out. */
#define TILE_CHOOSE(NAME, TILE)                                                                    \
    static void NAME(const struct tile_product *g, int64_t rows, bool pair, real *c,               \
                     const real *a, const real *b, struct tile_ahead *ahead)                       \
    {                                                                                              \
        switch (rows) {                                                                            \
            TILE_CASE(TILE, 1)                                                                     \
            TILE_CASE(TILE, 2)                                                                     \
            TILE_CASE(TILE, 3)                                                                     \
            TILE_CASE(TILE, 4)                                                                     \
            TILE_CASE(TILE, 5)                                                                     \
            TILE_CASE(TILE, 6)                                                                     \
            TILE_CASE(TILE, 7)                                                                     \
            TILE_CASE(TILE, 8)                                                                     \
            TILE_CASE(TILE, 9)                                                                     \
            TILE_CASE(TILE, 10)                                                                    \
            TILE_CASE(TILE, 11)                                                                    \
            TILE_CASE(TILE, 12)                                                                    \
        }                                                                                          \
    }

TILE_CHOOSE(tile_rows_choose, tile_rows)
TILE_CHOOSE(tile_columns_choose, tile_columns)

/* Local.  c = a b, or c += a^T b where `transposed`.  Tiles have equal heights, give or take one
 * row: a thin one would wait for its own sums. */
static void tile_multiply(const struct tile_product *g, bool transposed, struct tile_ahead *ahead)
{
    int64_t tiles = (g->m + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t j = 0; j < g->n; j += TILE_COLUMNS) {
        const real *b = g->b + j / TILE_COLUMNS * g->b_panel;
        bool pair = g->n - j > VECTOR_LANES;
        for (int64_t t = 0; t < tiles; t++) {
            int64_t i = g->m * t / tiles, rows = g->m * (t + 1) / tiles - i;
            real *c = g->c + i * g->c_stride + j;
            if (transposed)
                tile_columns_choose(g, rows, pair, c, g->a + i, b, ahead);
            else
                tile_rows_choose(g, rows, pair, c, g->a + i * g->a_stride, b, ahead);
        }
    }
}

#endif

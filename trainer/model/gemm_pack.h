/*
 * gemm_pack: copies of operands in the order in which tiles read them.
 *
 * A panel of b holds its TILE_COLUMNS columns side by side for each k, a panel of a its TILE_ROWS
 * rows.  Include one of gemm_lanes_*.h and gemm_tile.h before it.
 */
#ifndef MT_MODEL_GEMM_PACK_H
#define MT_MODEL_GEMM_PACK_H

#include <string.h>

enum { TILE_COLUMNS = TILE_VECTORS * LANES, PACK_AHEAD = 4 };

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* to[l * width + i] = row[i][l] for `rows` <= LANES rows; up to LANES of a width are written, of
 * which a later k or panel overwrites the rest. */
LANES_INLINE void pack_transposed(float *to, int64_t width, const float *from, int64_t stride,
                                  int64_t rows, int64_t k)
{
    const float *row[LANES];
    for (int64_t i = 0; i < LANES; i++)
        row[i] = from + least(i, rows - 1) * stride;
    int64_t l = 0;
    for (; l + 4 <= k; l += 4) {
        lanes column[4];
        lanes_transpose4(column, row, l);
        for (int64_t i = 0; i < 4; i++)
            lanes_store(to + (l + i) * width, column[i]);
    }
    for (; l < k; l++)
        for (int64_t i = 0; i < rows; i++)
            to[l * width + i] = row[i][l];
}

/* `count` whole panels whose columns lie side by side: rows of b are read once, line by line. */
LANES_INLINE void pack_whole(float *to, const float *b, int64_t b_k, int64_t count, int64_t k)
{
    for (int64_t l = 0; l < k; l++, b += b_k, to += TILE_COLUMNS)
        for (int64_t i = 0; i < count; i++)
            for (int v = 0; v < TILE_COLUMNS; v += LANES) {
                __builtin_prefetch(b + PACK_AHEAD * b_k + i * TILE_COLUMNS + v);
                lanes_store(to + i * k * TILE_COLUMNS + v, lanes_load(b + i * TILE_COLUMNS + v));
            }
}

/* One panel of `columns` columns that lie side by side, not all of it. */
LANES_INLINE void pack_columns(float *to, const float *b, int64_t b_k, int64_t columns, int64_t k)
{
    for (int64_t v = 0; v < columns; v += LANES)
        for (int64_t l = 0; l < k; l++)
            if (columns - v >= LANES)
                lanes_store(to + l * TILE_COLUMNS + v, lanes_load(b + l * b_k + v));
            else
                lanes_store(to + l * TILE_COLUMNS + v,
                            lanes_load_part(b + l * b_k + v, lanes_first(columns - v)));
}

/* One panel of b. */
LANES_INLINE void pack_b(float *to, const float *b, int64_t b_k, int64_t b_column, int64_t columns,
                         int64_t k)
{
    if (b_column == 1)
        pack_columns(to, b, b_k, columns, k);
    else
        for (int64_t v = 0; v < columns; v += LANES)
            pack_transposed(to + v, TILE_COLUMNS, b + v * b_column, b_column,
                            least(LANES, columns - v), k);
}

/* One panel of a. */
LANES_INLINE void pack_a(float *to, const float *a, int64_t a_row, int64_t rows, int64_t k)
{
    for (int64_t i = 0; i < rows; i += LANES)
        pack_transposed(to + i, TILE_ROWS, a + i * a_row, a_row, least(LANES, rows - i), k);
}

/* One k of a panel of a whose rows lie side by side. */
LANES_INLINE void pack_side_by_side(float *to, const float *a, int64_t rows)
{
    if (rows == TILE_ROWS)
        memcpy(to, a, TILE_ROWS * sizeof *to);
    else
        memcpy(to, a, (size_t)rows * sizeof *to);
}

#endif

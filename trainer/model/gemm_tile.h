/*
 * gemm_tile: the innermost loop of a product, written once for all widths of vectors.
 *
 * Include ONE of gemm_lanes_*.h before it, which gives
 *     LANES, TILE_ROWS, TILE_VECTORS     floats of a vector; the largest tile that fits registers
 *     LANES_TARGET, LANES_INLINE         attributes of functions that use them; all callers bear
 * them lanes, lanes_part                  a vector; which of its first elements count
 *     lanes_first(n)                     the part of the first n, 1 <= n <= LANES
 *     lanes_set, _load, _load_part, _store, _store_part, _multiply_add (rounds once)
 *     lanes_transpose4(column, row, at)  column[j] = element at+j of each of LANES rows
 *
 * Bits: element (i,j) of a tile is ONE chain of fused multiply-adds over k in ascending order,
 * from +0 or from the c that is there: the same on every machine, in every position of every tile.
 * No operand is read outside its matrix.
 */
#ifndef MT_MODEL_GEMM_TILE_H
#define MT_MODEL_GEMM_TILE_H

#include <stdbool.h>
#include <stdint.h>

/* Loops of a constant number of rounds vanish, or sums would not lie in registers. */
#if defined(__clang__)
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#define TILE_UNROLL_2 _Pragma("clang loop unroll_count(2)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 16")
#define TILE_UNROLL_2 _Pragma("GCC unroll 2")
#endif

/* Memory that will be read soon: `count` times, once every TILE_STEP of k, `lines` lines that lie
 * side by side, `step` floats further each time. */
struct tile_fetch {
    const float *at;
    int64_t step;
    int64_t count, lines;
};

/* c[rows, columns] = a b, or c + a b where add. */
struct tile {
    float *c; /* [rows, columns], rows c_stride apart */
    int64_t c_stride;
    const float *a; /* element (i,l) at a[i * a_row + l * a_k] */
    int64_t a_row, a_k;
    const float *b; /* element (l,j) at b[l * b_k + j] */
    int64_t b_k;
    int64_t k;
    int64_t last;             /* columns of the last vector, 1 .. LANES */
    bool add;                 /* the chains begin with c */
    const float *bias;        /* or with this, [columns]; NULL: with 0 */
    const float *next_c;      /* a tile like c that is fetched meanwhile, or NULL */
    struct tile_fetch next_a; /* what will be packed, or the next panel, fetched meanwhile, too */
};

/* Lines of c and a are fetched every TILE_STEP of k, b TILE_AHEAD of k before it is used: packed
 * panels lie end to end, so the next one arrives while this one ends. */
enum { TILE_STEP = 16, TILE_AHEAD = 8, TILE_LINE = 16 };

LANES_INLINE void tile_begin(lanes sum[TILE_ROWS][TILE_VECTORS], const struct tile *t,
                             const int rows, const int vectors, const bool part, const bool add)
{
    const float *c = add ? t->c : t->bias;
    const int64_t c_stride = add ? t->c_stride : 0;
    TILE_UNROLL
    for (int i = 0; i < rows; i++, c += c_stride) {
        TILE_UNROLL
        for (int v = 0; v < vectors; v++) {
            if (!c)
                sum[i][v] = lanes_set(0);
            else if (part && v == vectors - 1)
                sum[i][v] = lanes_load_part(c + v * LANES, lanes_first(t->last));
            else
                sum[i][v] = lanes_load(c + v * LANES);
        }
    }
}

LANES_INLINE void tile_end(lanes sum[TILE_ROWS][TILE_VECTORS], const struct tile *t, const int rows,
                           const int vectors, const bool part)
{
    float *c = t->c;
    const int64_t c_stride = t->c_stride, last = t->last;
    TILE_UNROLL
    for (int i = 0; i < rows; i++, c += c_stride) {
        TILE_UNROLL
        for (int v = 0; v < vectors; v++) {
            if (part && v == vectors - 1)
                lanes_store_part(c + v * LANES, lanes_first(last), sum[i][v]);
            else
                lanes_store(c + v * LANES, sum[i][v]);
        }
    }
}

/* One tile of `rows` x `vectors` vectors, of which the last is whole unless `part`; where `packed`,
 * a_row is 1 and a_k TILE_ROWS, as constants: other rows of a are reached three from one pointer,
 * which costs 5-10 %.  All of these are constants where it is called. */
LANES_INLINE void tile_multiply(const struct tile *t, const int rows, const int vectors,
                                const bool part, const bool packed)
{
    lanes sum[TILE_ROWS][TILE_VECTORS];
    const float *base[(TILE_ROWS + 2) / 3], *a = t->a, *b = t->b, *next_c = t->next_c;
    const float *next_a = t->next_a.at;
    int64_t fetches = t->next_a.count;
    const int64_t a_row = t->a_row, a_k = t->a_k, b_k = t->b_k, k = t->k, last = t->last;
    TILE_UNROLL
    for (int i = 0; i < rows; i += 3)
        base[i / 3] = a + i * a_row;
    if (t->add)
        tile_begin(sum, t, rows, vectors, part, true);
    else
        tile_begin(sum, t, rows, vectors, part, false);
    for (int64_t step = 0; step < k; step += TILE_STEP) {
        if (next_c && step < TILE_STEP * rows) {
            TILE_UNROLL
            for (int v = 0; v < vectors; v += TILE_LINE / LANES)
                __builtin_prefetch(next_c + v * LANES);
            next_c += t->c_stride;
        }
        if (fetches-- > 0) {
            for (int64_t v = 0; v < t->next_a.lines; v++)
                __builtin_prefetch(next_a + v * TILE_LINE, 0, 2);
            next_a += t->next_a.step;
        }
        TILE_UNROLL_2
        for (int64_t l = k - step < TILE_STEP ? k - step : TILE_STEP; l > 0; l--, b += b_k) {
            lanes row[TILE_VECTORS];
            TILE_UNROLL
            for (int v = 0; v < vectors; v += TILE_LINE / LANES)
                __builtin_prefetch(b + v * LANES + TILE_AHEAD * b_k);
            TILE_UNROLL
            for (int v = 0; v < vectors; v++)
                row[v] = part && v == vectors - 1
                             ? lanes_load_part(b + v * LANES, lanes_first(last))
                             : lanes_load(b + v * LANES);
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                lanes x = lanes_set(packed ? a[i] : base[i / 3][i % 3 * a_row]);
                TILE_UNROLL
                for (int v = 0; v < vectors; v++)
                    sum[i][v] = lanes_multiply_add(x, row[v], sum[i][v]);
            }
            a += TILE_ROWS;
            TILE_UNROLL
            for (int i = 0; i < rows; i += 3)
                base[i / 3] += a_k;
        }
    }
    tile_end(sum, t, rows, vectors, part);
}

#endif

/*
 * gemm_blocks: a whole product from tiles; every instruction set compiles it once.
 *
 * A block of b, packed, stays in the second-level cache (K_BLOCK x N_BLOCK: 1.1 MB of the 2 MB of a
 * Sapphire Rapids) and streams through the first-level one; a panel of a stays in the latter. Tiles
 * walk along the rows of c, and the next one's lines come meanwhile.
 * The rows of a that are packed next are fetched meanwhile, too; those of a transposed a are packed
 * meanwhile.  Where c has several blocks of columns, or several products share a, it is packed once
 * and kept.
 * Refused: a panel of b that stays in the first-level cache while a streams, the usual order (it
 * walks down the columns of c: its reads and writes then cost 20 %); larger parts of k (fewer
 * passes over c, but b and a then leave no room in the second-level cache).
 *
 * Small products pack what they must (b transposed) or what is read often enough.
 * Include one of gemm_lanes_*.h before it.
 */
#ifndef MT_MODEL_GEMM_BLOCKS_H
#define MT_MODEL_GEMM_BLOCKS_H

#include "trainer/model/gemm_native.h"
#include "trainer/model/gemm_tile.h"
#include "trainer/model/workspace.h"
/* after tiles */
#include "trainer/model/gemm_pack.h"

enum {
    K_BLOCK = 384,
    N_BLOCK = 768,
    A_PANELS = 4, /* packed together: they share lines of a transposed a */
    B_PANELS = 4, /* the same for rows of b */
    ROOM_B = K_BLOCK * N_BLOCK,
    KEPT_A = 8 << 20 /* elements; a larger a is packed for each block of columns */
};
_Static_assert(N_BLOCK % TILE_COLUMNS == 0, "whole panels");
_Static_assert(TILE_VECTORS == 2, "as the table of tiles has it");

typedef void (*tile_function)(const struct tile *);

#define TILE(rows, vectors, part, packed)                                                          \
    static LANES_TARGET void tile_##rows##_##vectors##_##part##_##packed(const struct tile *t)     \
    {                                                                                              \
        tile_multiply(t, rows, vectors, part, packed);                                             \
    }
#define TILES(rows)                                                                                \
    TILE(rows, 1, 0, 0)                                                                            \
    TILE(rows, 1, 1, 0)                                                                            \
    TILE(rows, 2, 0, 0)                                                                            \
    TILE(rows, 2, 1, 0)                                                                            \
    TILE(rows, 1, 0, 1)                                                                            \
    TILE(rows, 1, 1, 1)                                                                            \
    TILE(rows, 2, 0, 1)                                                                            \
    TILE(rows, 2, 1, 1)
#define NAMES(rows)                                                                                \
    {                                                                                              \
        {{tile_##rows##_1_0_0, tile_##rows##_1_0_1}, {tile_##rows##_1_1_0, tile_##rows##_1_1_1}},  \
            {{tile_##rows##_2_0_0, tile_##rows##_2_0_1},                                           \
             {tile_##rows##_2_1_0, tile_##rows##_2_1_1}},                                          \
    }

TILES(1)
TILES(2)
TILES(3)
TILES(4)
#if TILE_ROWS >= 6
TILES(5)
TILES(6)
#endif
#if TILE_ROWS >= 12
TILES(7)
TILES(8)
TILES(9)
TILES(10)
TILES(11)
TILES(12)
#endif
#if TILE_ROWS >= 14
TILES(13)
TILES(14)
#endif

static const tile_function tile_of[TILE_ROWS][TILE_VECTORS][2][2] = {
    NAMES(1),  NAMES(2),  NAMES(3), NAMES(4),
#if TILE_ROWS >= 6
    NAMES(5),  NAMES(6),
#endif
#if TILE_ROWS >= 12
    NAMES(7),  NAMES(8),  NAMES(9), NAMES(10), NAMES(11), NAMES(12),
#endif
#if TILE_ROWS >= 14
    NAMES(13), NAMES(14),
#endif
};

struct span {
    int64_t begin, size;
};

/* Part `i` of `count` parts of n that differ by one at most; the empty one behind them. */
static struct span span_of(int64_t n, int64_t count, int64_t i)
{
    int64_t size = n / count, more = n % count;
    return (struct span){i * size + least(i, more), i < count ? size + (i < more) : 0};
}

static int64_t parts(int64_t n, int64_t most)
{
    return (n + most - 1) / most;
}

/* What a pass over c needs: part of the columns, part of k. */
struct block {
    const struct gemm_product *p;
    struct span k, n;
    int64_t row_panels; /* of c, up and down */
    bool pack_a, pack_b;
    bool keep_a;   /* all of a stays in the room, for other columns and products */
    bool a_packed; /* and is there */
    float *room_a, *room_b;
};

static const float *b_at(const struct block *b)
{
    return b->p->b + b->k.begin * b->p->b_k + b->n.begin * b->p->b_column;
}

static const float *a_at(const struct block *b, int64_t row)
{
    return b->p->a + row * b->p->a_row + b->k.begin * b->p->a_k;
}

static LANES_TARGET void pack_block(const struct block *b)
{
    const struct gemm_product *p = b->p;
    int64_t whole = p->b_column == 1 ? b->n.size / TILE_COLUMNS : 0;
    for (int64_t i = 0; i < whole; i += B_PANELS)
        pack_whole(b->room_b + i * TILE_COLUMNS * b->k.size, b_at(b) + i * TILE_COLUMNS, p->b_k,
                   least(B_PANELS, whole - i), b->k.size);
    for (int64_t j = whole * TILE_COLUMNS; j < b->n.size; j += TILE_COLUMNS)
        pack_b(b->room_b + j * b->k.size, b_at(b) + j * p->b_column, p->b_k, p->b_column,
               least(TILE_COLUMNS, b->n.size - j), b->k.size);
}

static float *panel_at(const struct block *b, int64_t panel)
{
    int64_t at = b->keep_a ? b->row_panels * b->k.begin + panel * b->k.size
                           : panel % (2 * A_PANELS) * b->k.size;
    return b->room_a + at * TILE_ROWS;
}

/* Panels of a that are packed together. */
struct group {
    int64_t first, count;
};

static struct group group_from(const struct block *b, int64_t panel)
{
    return (struct group){panel, least(A_PANELS, b->row_panels - panel)};
}

static struct span rows_of(const struct block *b, int64_t panel)
{
    return span_of(b->p->m, b->row_panels, panel);
}

static LANES_TARGET void pack_group(const struct block *b, struct group g)
{
    for (int64_t i = g.first; i < g.first + g.count; i++) {
        struct span rows = rows_of(b, i);
        pack_a(panel_at(b, i), a_at(b, rows.begin), b->p->a_row, rows.size, b->k.size);
    }
}

/* Part `k` of a group of a transposed a.  Its rows lie side by side, those of all panels too: they
 * are read once, line by line. */
static LANES_TARGET void pack_part(const struct block *b, struct group g, struct span k)
{
    float *to = panel_at(b, g.first);
    struct span rows[A_PANELS];
    for (int64_t i = 0; i < g.count; i++)
        rows[i] = rows_of(b, g.first + i);
    for (int64_t l = k.begin; l < k.begin + k.size; l++)
        for (int64_t i = 0; i < g.count; i++)
            pack_side_by_side(to + (i * b->k.size + l) * TILE_ROWS,
                              a_at(b, rows[i].begin) + l * b->p->a_k, rows[i].size);
}

/* What tile (i,j) fetches of the panel that comes next, or of the group that is packed next. */
static struct tile_fetch next_rows(const struct block *b, int64_t i, int64_t j)
{
    const struct tile_fetch nothing = {0};
    int64_t steps = parts(b->k.size, TILE_STEP), at = j * TILE_LINE;
    if (b->a_packed) {
        if (i + 1 == b->row_panels || at * steps >= TILE_ROWS * b->k.size)
            return nothing;
        return (struct tile_fetch){panel_at(b, i + 1) + at * steps, TILE_LINE, steps, 1};
    }
    if (!b->pack_a || i / A_PANELS * A_PANELS + A_PANELS >= b->row_panels || at >= b->k.size)
        return nothing;
    int64_t panel = least(i + A_PANELS, b->row_panels - 1);
    return (struct tile_fetch){a_at(b, rows_of(b, panel).begin) + at, b->p->a_row, steps, 1};
}

/* What a tile fetches of the part of a group that the next tile packs. */
static struct tile_fetch next_part(const struct block *b, struct group g, struct span k)
{
    int64_t rows = rows_of(b, g.first + g.count - 1).begin - rows_of(b, g.first).begin + TILE_ROWS;
    return (struct tile_fetch){a_at(b, rows_of(b, g.first).begin) + k.begin * b->p->a_k, b->p->a_k,
                               k.size, parts(rows + TILE_LINE - 1, TILE_LINE)};
}

/* A transposed a is packed a few rows of k at a time, by the tiles of the group before: rows that
 * lie far apart are brought little by little, and none of them waits in a cache of which it has a
 * small part. */
static LANES_TARGET void multiply_block(const struct block *b)
{
    const struct gemm_product *p = b->p;
    struct tile t = {.c_stride = p->c_stride,
                     .k = b->k.size,
                     .add = p->add || b->k.begin > 0,
                     .a_row = b->pack_a ? 1 : p->a_row,
                     .a_k = b->pack_a ? TILE_ROWS : p->a_k,
                     .b_k = b->pack_b ? TILE_COLUMNS : p->b_k};
    bool packs = b->pack_a && !b->a_packed, in_parts = packs && p->a_row == 1;
    int64_t wide = parts(b->n.size, TILE_COLUMNS);
    struct group group = {0}, next = {0};
    for (int64_t i = 0; i < b->row_panels; i++) {
        struct span rows = rows_of(b, i);
        if (packs && i % A_PANELS == 0) {
            group = group_from(b, i);
            next = group_from(b, i + group.count);
            if (!in_parts)
                pack_group(b, group);
            else if (i == 0)
                pack_part(b, group, (struct span){0, b->k.size});
        }
        t.a = b->pack_a ? panel_at(b, i) : a_at(b, rows.begin);
        for (int64_t j = 0; j < wide; j++) {
            int64_t column = j * TILE_COLUMNS, columns = least(TILE_COLUMNS, b->n.size - column);
            int64_t vectors = parts(columns, LANES);
            t.last = columns - (vectors - 1) * LANES;
            t.b = b->pack_b ? b->room_b + column * t.k : b_at(b) + column;
            t.c = p->c + rows.begin * p->c_stride + b->n.begin + column;
            t.bias = p->bias ? p->bias + b->n.begin + column : NULL;
            t.next_c = t.c + TILE_COLUMNS;
            if (!in_parts) {
                t.next_a = next_rows(b, i, j);
            } else if (next.count > 0) {
                int64_t tiles = group.count * wide, tile = (i - group.first) * wide + j;
                pack_part(b, next, span_of(t.k, tiles, tile));
                t.next_a = next_part(b, next, span_of(t.k, tiles, tile + 1));
            }
            tile_of[rows.size - 1][vectors - 1][t.last < LANES][b->pack_a](&t);
        }
    }
}

static LANES_TARGET void multiply_columns(struct block *b)
{
    int64_t k = b->p->k, k_parts = parts(k, K_BLOCK) + (k == 0);
    b->pack_b = b->p->b_column != 1 || (b->p->m > 3 * TILE_ROWS && k > 48);
    for (int64_t i = 0; i < k_parts; i++) {
        b->k = span_of(k, k_parts, i);
        if (b->pack_b)
            pack_block(b);
        multiply_block(b);
    }
    b->a_packed = b->pack_a && b->keep_a;
}

static LANES_TARGET void multiply(const struct gemm_product *p, int64_t count)
{
    int64_t columns = 0, n_parts = 0;
    for (int64_t i = 0; i < count; i++) {
        columns += p[i].n;
        n_parts += parts(p[i].n, N_BLOCK);
    }
    struct block b = {.row_panels = parts(p->m, TILE_ROWS), .pack_a = columns > 4 * TILE_COLUMNS};
    int64_t whole = b.row_panels * TILE_ROWS * p->k, groups = 2 * A_PANELS * TILE_ROWS * K_BLOCK;
    b.keep_a = b.pack_a && n_parts > 1 && whole <= KEPT_A;
    int64_t room = ROOM_B + (b.keep_a ? whole : groups) + LANES;
    b.room_b = workspace_take(room * (int64_t)sizeof(float));
    b.room_a = b.room_b + ROOM_B;
    for (b.p = p; b.p < p + count; b.p++)
        for (int64_t j = 0; j < b.p->n; j += N_BLOCK) {
            b.n = (struct span){j, least(N_BLOCK, b.p->n - j)};
            multiply_columns(&b);
        }
}

#endif

/*
 * gemm_blocks: a whole product from tiles; every instruction set compiles it once.
 *
 * A block of b, packed, stays in the second-level cache (K_BLOCK x N_BLOCK: 1.1 MB of the 2 MB of a
 * Sapphire Rapids) and streams through the first-level one; a panel of a stays in the latter. Tiles
 * walk along the rows of c, and the next one's lines come meanwhile.
 * The rows of a that are packed next are fetched meanwhile, too.  Where c has several blocks of
 * columns, or several products share a, it is packed once and kept.
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
    int64_t at =
        b->keep_a ? b->row_panels * b->k.begin + panel * b->k.size : panel % A_PANELS * b->k.size;
    return b->room_a + at * TILE_ROWS;
}

/* Packs the group of panels of a that begins with `panel`.  Rows of a transposed matrix lie side by
 * side, those of all panels too: they are read once, line by line. */
static LANES_TARGET void pack_group(const struct block *b, int64_t panel)
{
    const struct gemm_product *p = b->p;
    int64_t count = least(A_PANELS, b->row_panels - panel), size = TILE_ROWS * b->k.size;
    float *to = panel_at(b, panel);
    struct span rows[A_PANELS];
    for (int64_t i = 0; i < count; i++)
        rows[i] = span_of(p->m, b->row_panels, panel + i);
    if (p->a_row == 1)
        for (int64_t l = 0; l < b->k.size; l++)
            for (int64_t i = 0; i < count; i++)
                pack_side_by_side(to + i * size + l * TILE_ROWS,
                                  a_at(b, rows[i].begin) + l * p->a_k, rows[i].size);
    else
        for (int64_t i = 0; i < count; i++)
            pack_a(to + i * size, a_at(b, rows[i].begin), p->a_row, rows[i].size, b->k.size);
}

/* What tile (i,j) fetches of the panel that comes next, or of the group that will be packed next.
 */
static void set_next_a(const struct block *b, struct tile *t, int64_t i, int64_t j)
{
    const struct gemm_product *p = b->p;
    int64_t group = i / A_PANELS * A_PANELS + A_PANELS, at = j * TILE_LINE;
    int64_t fetched = parts(b->k.size, TILE_STEP) * TILE_LINE; /* by a tile of one row's lines */
    t->next_a = p->a;
    t->next_step = 0;
    if (b->a_packed) {
        if (i + 1 < b->row_panels && j * fetched < TILE_ROWS * b->k.size) {
            t->next_a = panel_at(b, i + 1) + j * fetched;
            t->next_step = TILE_LINE;
        }
        return;
    }
    if (!b->pack_a || group >= b->row_panels || at >= b->k.size)
        return;
    if (p->a_k == 1) {
        int64_t panel = least(i + A_PANELS, b->row_panels - 1);
        t->next_a = a_at(b, span_of(p->m, b->row_panels, panel).begin) + at;
        t->next_step = p->a_row;
    } else {
        int64_t column = span_of(p->m, b->row_panels, group).begin + i % A_PANELS * TILE_LINE;
        t->next_a = a_at(b, least(column, p->m - 1)) + at * p->a_k;
        t->next_step = p->a_k;
    }
}

static LANES_TARGET void multiply_block(const struct block *b)
{
    const struct gemm_product *p = b->p;
    struct tile t = {.c_stride = p->c_stride,
                     .k = b->k.size,
                     .add = p->add || b->k.begin > 0,
                     .a_row = b->pack_a ? 1 : p->a_row,
                     .a_k = b->pack_a ? TILE_ROWS : p->a_k,
                     .b_k = b->pack_b ? TILE_COLUMNS : p->b_k};
    for (int64_t i = 0; i < b->row_panels; i++) {
        struct span rows = span_of(p->m, b->row_panels, i);
        if (b->pack_a && !b->a_packed && i % A_PANELS == 0)
            pack_group(b, i);
        t.a = b->pack_a ? panel_at(b, i) : a_at(b, rows.begin);
        for (int64_t j = 0; j < b->n.size; j += TILE_COLUMNS) {
            int64_t columns = least(TILE_COLUMNS, b->n.size - j), vectors = parts(columns, LANES);
            t.last = columns - (vectors - 1) * LANES;
            t.b = b->pack_b ? b->room_b + j * t.k : b_at(b) + j;
            t.c = p->c + rows.begin * p->c_stride + b->n.begin + j;
            t.bias = p->bias ? p->bias + b->n.begin + j : NULL;
            t.next_c = t.c + TILE_COLUMNS;
            set_next_a(b, &t, i, j / TILE_COLUMNS);
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
    int64_t whole = b.row_panels * TILE_ROWS * p->k, group = A_PANELS * TILE_ROWS * K_BLOCK;
    b.keep_a = b.pack_a && n_parts > 1 && whole <= KEPT_A;
    int64_t room = ROOM_B + (b.keep_a ? whole : group) + LANES;
    b.room_b = workspace_take(room * (int64_t)sizeof(float));
    b.room_a = b.room_b + ROOM_B;
    for (b.p = p; b.p < p + count; b.p++)
        for (int64_t j = 0; j < b.p->n; j += N_BLOCK) {
            b.n = (struct span){j, least(N_BLOCK, b.p->n - j)};
            multiply_columns(&b);
        }
}

#endif

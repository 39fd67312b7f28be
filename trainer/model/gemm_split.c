/*
 * A step of the kernel is 32 of k for 2 x 2 tiles of sums: six pairs of parts, each of which keeps
 * one operand's part of the pair before, so 14 loads of a tile hide behind 24 multiplications.
 *
 *     k in blocks                     of 256, or all of it up to 768
 *       products, columns in blocks   pack b: 0.9 MB, stays in the second cache
 *         strips of 32 rows           pack a, for the first block of columns; the others find it
 *           k in slices               of 128: a strip's slice fits the first cache
 *             panels of 32 columns    kernel; sums go on from c or from a row of sums, 32 x n
 *
 * While the kernel multiplies, the next strip (or what it is packed from) and its rows of c come
 * into the second cache.
 *
 * Three parts are half as many bytes again as the floats, and memory decides about all the rest:
 * with real numbers the kernel does 440 GFLOP/s from the caches, 300 in products.  Refused: sums of
 * many rows in the second cache while slices of b stream past (0.9 of the speed: b comes from the
 * third cache, and so slowly); packing a and moving c in small pieces between the multiplications
 * (0.8: the vectors' stores wait behind the tiles').
 */
#include "trainer/model/gemm_split.h"

#include "trainer/model/gemm_amx_unit.h"

#if defined(MT_AMX)

#include <stdbool.h>

#include "trainer/model/workspace.h"

enum {
    PARTS = 3,
    PART_BYTES = 2 * TILE_BYTES,
    STEP_BYTES = PARTS * PART_BYTES,
    WHOLE_STEPS = 24, /* of k: up to here one block */
    K_STEPS = 8,      /* of a block, else */
    SLICE_STEPS = 4,
    B_STEPS = 144, /* of all panels of a block of b */
    MOST_PANELS = 24,
    CACHED = 1 << 18, /* elements: results up to here stay in the caches */
};

static int64_t parts_of(int64_t n, int64_t most)
{
    return (n + most - 1) / most;
}

struct span {
    int64_t begin, size;
};

/* Part `i` of `count` parts of n that differ by one at most. */
static struct span span_of(int64_t n, int64_t count, int64_t i)
{
    int64_t size = n / count, more = n % count;
    return (struct span){i * size + smaller(i, more), size + (i < more)};
}

/* Each part in the upper halves of 32 bits; the lower halves of the last one are not zero. */
static ALWAYS AMX void split(__m512i part[PARTS], __m512 x)
{
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(-0x10000);
    for (int p = 0; p < PARTS - 1; p++) {
        part[p] = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
        x = _mm512_sub_ps(x, _mm512_castsi512_ps(part[p]));
    }
    part[PARTS - 1] = _mm512_castps_si512(x);
}

/* A row of a tile of a: 32 of k. */
static ALWAYS AMX void store_row(char *to, __m512 low, __m512 high)
{
    const __m512i uppers =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27,
                         25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    __m512i l[PARTS], h[PARTS];
    split(l, low);
    split(h, high);
    for (int p = 0; p < PARTS; p++)
        _mm512_store_si512(to + p * PART_BYTES, _mm512_permutex2var_epi16(l[p], uppers, h[p]));
}

/* A row of a tile of b: two of k of 16 columns. */
static ALWAYS AMX void store_pairs(char *to, __m512 even, __m512 odd)
{
    __m512i e[PARTS], o[PARTS];
    split(e, even);
    split(o, odd);
    for (int p = 0; p < PARTS; p++)
        _mm512_store_si512(to + p * PART_BYTES,
                           _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(e[p], 16), o[p]));
}

/* An operand: rows i of a or columns i of b, along k. */
struct operand {
    const float *at;
    int64_t i_stride, k_stride; /* one of the two is 1 */
    bool of_b;
};

/* Up to 16 neighbours; zeros beyond `count`. */
static ALWAYS AMX __m512 line(const float *at, int64_t count)
{
    return _mm512_maskz_loadu_ps((__mmask16)first(smaller(count, TILE)), at);
}

/* 16 lines of memory, turned. */
static ALWAYS AMX void turned(__m512 t[TILE], const float *at, int64_t stride, int64_t rows,
                              int64_t columns)
{
    __m512i u[TILE];
#pragma GCC unroll 16
    for (int64_t r = 0; r < TILE; r++)
        u[r] =
            r < rows ? _mm512_castps_si512(line(at + r * stride, columns)) : _mm512_setzero_si512();
    transpose(u);
    for (int r = 0; r < TILE; r++)
        t[r] = _mm512_castsi512_ps(u[r]);
}

/* One tile of each part, of `count` rows (a) or columns (b) and `depth` of k. */
static ALWAYS AMX void pack_tile(char *to, const struct operand *x, bool along_k, bool of_b,
                                 const float *at, int64_t count, int64_t depth)
{
    __m512 t[2 * TILE], none = _mm512_setzero_ps();
    int64_t next = 16 * x->k_stride;
    if (along_k && of_b) {
        turned(t, at, x->i_stride, count, depth);
        turned(t + TILE, at + next, x->i_stride, count, depth - 16);
    } else if (!along_k && !of_b) {
        turned(t, at, x->k_stride, depth, count);
        turned(t + TILE, at + next, x->k_stride, depth - 16, count);
    } else if (of_b) {
        for (int64_t r = 0; r < STEP; r++)
            t[r] = r < depth ? line(at + r * x->k_stride, count) : none;
    } else {
        for (int64_t r = 0; r < TILE; r++) {
            t[r] = r < count ? line(at + r * x->i_stride, depth) : none;
            t[r + TILE] = r < count ? line(at + r * x->i_stride + next, depth - 16) : none;
        }
    }
    for (int r = 0; r < TILE; r++)
        if (of_b)
            store_pairs(to + r * LINE, t[2 * r], t[2 * r + 1]);
        else
            store_row(to + r * LINE, t[r], t[r + TILE]);
}

/* A part of an operand: `count` of its rows or columns from `i`, `depth` of k from `k`. */
struct part {
    int64_t i, count, k, depth;
};

/* Strips or panels one after the other, each with all its steps, at least one; the matrix is read
 * in the order in which it lies. */
static ALWAYS AMX void pack_as(char *to, const struct operand *x, bool along_k, bool of_b,
                               struct part p)
{
    int64_t steps = parts_of(p.depth, STEP) + (p.depth == 0), wides = parts_of(p.count, WIDE);
    for (int64_t n = 0; n < 2 * steps * wides; n++) {
        int64_t tile = along_k ? n / steps : n % (2 * wides);
        int64_t s = along_k ? n % steps : n / (2 * wides);
        int64_t count = p.count - tile * TILE, depth = p.depth - s * STEP;
        char *place = to + (tile / 2 * steps + s) * STEP_BYTES + tile % 2 * TILE_BYTES;
        const float *at =
            x->at + (p.i + tile * TILE) * x->i_stride + (p.k + s * STEP) * x->k_stride;
        if (count >= TILE && depth >= STEP)
            pack_tile(place, x, along_k, of_b, at, TILE, STEP);
        else
            pack_tile(place, x, along_k, of_b, at, count, depth);
    }
}

static AMX void pack(char *to, const struct operand *x, struct part p)
{
    if (x->of_b && x->k_stride == 1)
        pack_as(to, x, true, true, p);
    else if (x->of_b)
        pack_as(to, x, false, true, p);
    else if (x->k_stride == 1)
        pack_as(to, x, true, false, p);
    else
        pack_as(to, x, false, false, p);
}

/* Rows of `wide` lines to bring into the second cache. */
struct ahead {
    const char *at;
    int64_t stride, wide, line, left;
};

static ALWAYS AMX void fetch(struct ahead *x, int64_t most)
{
    for (int64_t n = smaller(most, x->left); n > 0; n--, x->left--) {
        _mm_prefetch(x->at + x->line * LINE, _MM_HINT_T1);
        if (++x->line == x->wide) {
            x->line = 0;
            x->at += x->stride;
        }
    }
}

/* 32 x 32 sums. */
struct place {
    float *at; /* NULL: zeros */
    int64_t stride;
};

/* What is fetched during a strip, so many lines a step. */
struct chores {
    struct ahead a, c;
    int64_t a_lines, c_lines;
};

#define LOAD_A(p)                                                                                  \
    _tile_loadd(4, a + ((p)-1) * PART_BYTES, LINE);                                                \
    _tile_loadd(5, a + ((p)-1) * PART_BYTES + TILE_BYTES, LINE)
#define LOAD_B(p)                                                                                  \
    _tile_loadd(6, b + ((p)-1) * PART_BYTES, LINE);                                                \
    _tile_loadd(7, b + ((p)-1) * PART_BYTES + TILE_BYTES, LINE)

/* to = from + a strip times a panel over `steps` steps. */
static AMX void multiply(struct place to, struct place from, const char *a, const char *b,
                         int64_t steps, struct chores *chores)
{
    MEMORY_IS_WRITTEN;
    if (from.at)
        unit_load_sums(from.at, from.stride);
    else
        unit_clear_sums();
    for (int64_t s = 0; s < steps; s++, a += STEP_BYTES, b += STEP_BYTES) {
        LOAD_A(2);
        LOAD_B(2);
        unit_multiply();
        LOAD_A(1);
        unit_multiply();
        fetch(&chores->a, chores->a_lines);
        LOAD_B(3);
        unit_multiply();
        LOAD_B(1);
        unit_multiply();
        fetch(&chores->c, chores->c_lines);
        LOAD_A(2);
        unit_multiply();
        LOAD_A(3);
        unit_multiply();
    }
    unit_store_sums(to.at, to.stride);
}

/* sums[32][32] from rows of memory, which are one where the stride is 0. */
static AMX void load_sums(float *sums, struct place from, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *row = from.at + r * from.stride;
        _mm512_store_ps(sums + r * WIDE, line(row, columns));
        _mm512_store_ps(sums + r * WIDE + TILE, line(row + TILE, columns - TILE));
    }
}

static AMX void store_sums(struct place to, const float *sums, bool past_caches, int64_t rows,
                           int64_t columns)
{
    __mmask16 left = (__mmask16)first(smaller(columns, TILE));
    __mmask16 right = (__mmask16)first(columns - TILE);
    for (int64_t r = 0; r < rows; r++) {
        float *row = to.at + r * to.stride;
        __m512 low = _mm512_load_ps(sums + r * WIDE), high = _mm512_load_ps(sums + r * WIDE + TILE);
        if (past_caches) {
            _mm512_stream_ps(row, low);
            _mm512_stream_ps(row + TILE, high);
        } else {
            _mm512_mask_storeu_ps(row, left, low);
            _mm512_mask_storeu_ps(row + TILE, right, high);
        }
    }
}

/* What a pass over c needs. */
struct block {
    const struct gemm_product *p;
    struct operand a;
    struct span k, n;   /* steps, panels */
    int64_t depth;      /* of k, without what fills the last step */
    bool begins, whole; /* k begins with it; it is all of k */
    bool packs_a;       /* else strips are there, from other columns or products */
    bool past_caches;   /* c is only written, in whole lines */
    char *room_a, *room_b;
    float *sums; /* [panels][SUMS] */
    int64_t strips;
};

static char *strip_at(const struct block *b, int64_t strip)
{
    return b->room_a + strip * b->k.size * STEP_BYTES;
}

static int64_t rows_of(const struct block *b, int64_t strip)
{
    return smaller(WIDE, b->p->m - strip * WIDE);
}

static struct ahead lines_of(const void *at, int64_t stride_bytes, int64_t wide, int64_t rows)
{
    return (struct ahead){at, stride_bytes, wide, 0, wide * rows};
}

/* What the next strip is packed from, or what it was packed into. */
static struct ahead next_a(const struct block *b, int64_t strip)
{
    int64_t step = sizeof(float), i = strip * WIDE, k = b->k.begin * STEP;
    const float *at = b->a.at + i * b->a.i_stride + k * b->a.k_stride;
    if (strip >= b->strips)
        return (struct ahead){0};
    if (!b->packs_a)
        return lines_of(strip_at(b, strip), 0, b->k.size * STEP_BYTES / LINE, 1);
    if (b->a.k_stride == 1)
        return lines_of(at, b->a.i_stride * step, parts_of(b->depth, TILE), rows_of(b, strip));
    return lines_of(at, b->a.k_stride * step, 2, b->depth);
}

static struct ahead next_c(const struct block *b, int64_t strip)
{
    const struct gemm_product *p = b->p;
    if (strip >= b->strips || b->past_caches)
        return (struct ahead){0};
    return lines_of(p->c + strip * WIDE * p->c_stride + b->n.begin * WIDE,
                    p->c_stride * (int64_t)sizeof(float), 2 * b->n.size, rows_of(b, strip));
}

/* Where the sums of a panel lie when the first slice of a block begins. */
static AMX struct place sums_before(const struct block *b, struct place own, struct place c,
                                    int64_t rows, int64_t column, int64_t columns)
{
    const struct gemm_product *p = b->p;
    bool fresh = b->begins && !p->add;
    if (fresh && !p->bias)
        return (struct place){0};
    if (!fresh && rows == WIDE && columns == WIDE)
        return c;
    if (fresh) /* load_sums only reads */
        c = (struct place){(float *)(uintptr_t)(p->bias + column), 0};
    load_sums(own.at, c, fresh ? WIDE : rows, columns);
    return own;
}

static AMX void multiply_strip(const struct block *b, int64_t strip)
{
    const struct gemm_product *p = b->p;
    int64_t rows = rows_of(b, strip), slices = parts_of(b->k.size, SLICE_STEPS);
    struct chores chores = {.a = next_a(b, strip + 1), .c = next_c(b, strip + 1)};
    chores.a_lines = parts_of(chores.a.left, b->k.size * b->n.size);
    chores.c_lines = parts_of(chores.c.left, b->k.size * b->n.size);
    for (int64_t s = 0; s < slices; s++) {
        struct span k = span_of(b->k.size, slices, s);
        const char *left = strip_at(b, strip) + k.begin * STEP_BYTES;
        for (int64_t j = 0; j < b->n.size; j++) {
            int64_t column = (b->n.begin + j) * WIDE, columns = smaller(WIDE, p->n - column);
            struct place own = {b->sums + j * SUMS, WIDE}, from = own, to = own;
            struct place c = {p->c + strip * WIDE * p->c_stride + column, p->c_stride};
            bool ends = s + 1 == slices, past = b->past_caches && columns == WIDE;
            bool direct = ends && !past && rows == WIDE && columns == WIDE;
            if (s == 0)
                from = sums_before(b, own, c, rows, column, columns);
            if (direct)
                to = c;
            multiply(to, from, left, b->room_b + (j * b->k.size + k.begin) * STEP_BYTES, k.size,
                     &chores);
            if (ends && !direct)
                store_sums(c, own.at, past, rows, columns);
        }
    }
}

static AMX void multiply_columns(struct block *b)
{
    const struct gemm_product *p = b->p;
    struct operand right = {p->b, p->b_column, p->b_k, true};
    int64_t column = b->n.begin * WIDE, k = b->k.begin * STEP;
    pack(b->room_b, &right,
         (struct part){column, smaller(b->n.size * WIDE, p->n - column), k, b->depth});
    for (int64_t i = 0; i < b->strips; i++) {
        if (b->packs_a)
            pack(strip_at(b, i), &b->a, (struct part){i * WIDE, rows_of(b, i), k, b->depth});
        multiply_strip(b, i);
    }
    b->packs_a = false;
}

static void multiply_product(struct block *b, int64_t most_panels)
{
    const struct gemm_product *p = b->p;
    int64_t panels = parts_of(p->n, WIDE), blocks = parts_of(panels, most_panels);
    bool whole_lines = (((uintptr_t)p->c | (uintptr_t)(p->c_stride * 4)) & (LINE - 1)) == 0;
    b->a = (struct operand){p->a, p->a_row, p->a_k, false};
    b->past_caches = b->whole && !p->add && whole_lines && p->m * p->n > CACHED;
    for (int64_t i = 0; i < blocks; i++) {
        b->n = span_of(panels, blocks, i);
        multiply_columns(b);
    }
}

AMX void gemm_split(const struct gemm_product *p, int64_t count)
{
    int64_t steps = parts_of(p->k, STEP) + (p->k == 0), strips = parts_of(p->m, WIDE);
    int64_t blocks = steps <= WHOLE_STEPS ? 1 : parts_of(steps, K_STEPS);
    int64_t most_steps = parts_of(steps, blocks);
    int64_t panels = smaller(B_STEPS / most_steps, MOST_PANELS);
    int64_t a_bytes = strips * most_steps * STEP_BYTES, b_bytes = panels * most_steps * STEP_BYTES;
    struct block b = {.whole = blocks == 1, .strips = strips};
    b.room_b = workspace_take(b_bytes + a_bytes + panels * SUMS * (int64_t)sizeof(float));
    b.room_a = b.room_b + b_bytes;
    b.sums = (float *)(void *)(b.room_a + a_bytes);
    unit_configure();
    for (int64_t i = 0; i < blocks; i++) {
        b.k = span_of(steps, blocks, i);
        b.depth = smaller(b.k.size * STEP, p->k - b.k.begin * STEP);
        b.begins = i == 0;
        b.packs_a = true;
        for (b.p = p; b.p < p + count; b.p++)
            multiply_product(&b, panels);
    }
    _tile_release();
    _mm_sfence(); /* streamed results are there for whoever is told of them */
}

#else

void gemm_split(const struct gemm_product *p, int64_t count)
{
    (void)p, (void)count;
    __builtin_trap();
}

#endif

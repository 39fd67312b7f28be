/*
 * The kernel holds 2 x 2 sums and uses each loaded tile twice: four loads of a kilobyte hide behind
 * four multiplications of 16 cycles.  `a` goes in strips of 32 rows and b in panels of 32 columns,
 * tile after tile, with zeros beyond the edges, so that there is one kernel.  A matrix in blocks
 * has its strips so already; everything else is packed, once where the work space allows.
 *
 *     a packed where all blocks of columns use it
 *     columns in blocks               b of a block is packed at once
 *       rows in blocks                32 rows if k is small: b then stays in the second cache
 *         k in blocks                 else pack a
 *           k in slices               of 256: strip and panel fit the first cache
 *             strips, panels          kernel; after the last slice the sums go to their place
 *
 * A sum runs over k in slices from 0 up, each from where the last one ended, whatever the blocks.
 * While the kernel multiplies, the next strip and the panel's next slice come into the second
 * cache: tile loads run ahead of nothing, and what the processor guesses comes too late.
 *
 * Refused: all of k in one slice (a strip then does not fit the first cache: 1.7 instead of 2.3
 * TFLOP/s); fetching the next sums into the first cache (no faster).
 *
 * Source: the loops follow Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication" (2008).
 */
#include "trainer/model/gemm_amx.h"

#include "trainer/model/gemm_amx_unit.h"

#if defined(MT_AMX)

#include "comm/base/processor.h"
#include "trainer/model/workspace.h"

enum {
    STEP_BYTES = 2 * TILE_BYTES,
    SLICE = 256,              /* k of a call of the kernel */
    RESIDENT_K = 1024,        /* up to here all of k is one block */
    RESIDENT_BYTES = 5 << 18, /* of b, in the second cache */
    BLOCK_ROWS = 384,
    BLOCK_COLUMNS = 768,
    WHOLE_BYTES = 8 << 20, /* of a, packed at once where several blocks of columns use it */
};

bool gemm_amx_has(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && processor_allows_amx();
}

static int64_t round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

enum form { FULL, HALF, BLOCKED };

static enum form form_of(const struct gemm_amx_matrix *x)
{
    return x->half == NULL ? FULL : x->blocked ? BLOCKED : HALF;
}

/* Up to 32 neighbours of one row of the matrix as it lies, rounded; zeros beyond `count`.  In
 * blocks they begin at a multiple of 32. */
static ALWAYS AMX __m512i line(const struct gemm_amx_matrix *x, enum form form, int64_t row,
                               int64_t column, int64_t count)
{
    __mmask32 mask = first(count);
    int64_t at = row * x->stride + column;
    if (form == BLOCKED)
        at = gemm_amx_block_at(x->stride, row, column) + row % WIDE * WIDE;
    if (form != FULL)
        return _mm512_maskz_loadu_epi16(mask, x->half + at);
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x->full + at);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x->full + at + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* A part of an operand: `count` of its rows (a) or columns (b) from `i`, `depth` of k from `k`. */
struct part {
    int64_t i, count, k, depth;
};

/* Two tiles side by side from 32 lines along k, or from 32 lines across k whose pairs are
 * interleaved; either gives one operand's tiles and, transposed, the other's. */
static ALWAYS AMX void pack_step(char *to, const struct gemm_amx_matrix *x, enum form form,
                                 bool along_k, bool transposes, struct part p)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    __m512i t[32], none = _mm512_setzero_si512();
    if (along_k) {
        for (int64_t r = 0; r < 32; r++)
            t[r] = r < p.count ? line(x, form, p.i + r, p.k, p.depth) : none;
    } else {
        for (int64_t r = 0; r < 16; r++) {
            int64_t k = 2 * r;
            __m512i even = k < p.depth ? line(x, form, p.k + k, p.i, p.count) : none;
            __m512i odd = k + 1 < p.depth ? line(x, form, p.k + k + 1, p.i, p.count) : none;
            t[r] = _mm512_permutex2var_epi16(even, low, odd);
            t[r + 16] = _mm512_permutex2var_epi16(even, high, odd);
        }
    }
    if (transposes) {
        transpose(t);
        transpose(t + 16);
    }
    for (int r = 0; r < 32; r++)
        _mm512_store_si512(to + 64 * r, t[r]);
}

/* Strips or panels one after the other, each with all its steps; the matrix is read in the order
 * in which it lies. */
static ALWAYS AMX void pack_as(char *to, const struct gemm_amx_matrix *x, enum form form,
                               bool along_k, bool transposes, struct part p)
{
    int64_t steps = round_up(p.depth, STEP) / STEP, all = (p.count + WIDE - 1) / WIDE * steps;
    for (int64_t at = 0; at < all; at++) {
        int64_t s = along_k ? at % steps : at / (all / steps);
        int64_t j = (along_k ? at / steps : at % (all / steps)) * WIDE;
        struct part one = {p.i + j, smaller(WIDE, p.count - j), p.k + s * STEP,
                           smaller(STEP, p.depth - s * STEP)};
        char *place = to + (j / WIDE * steps + s) * STEP_BYTES;
        if (one.count == WIDE && one.depth == STEP)
            pack_step(place, x, form, along_k, transposes, (struct part){one.i, WIDE, one.k, STEP});
        else
            pack_step(place, x, form, along_k, transposes, one);
    }
}

/* Strips of rows that lie along k already: copied a row at a time, as memory likes to be read. */
static ALWAYS AMX void pack_rows(char *to, const struct gemm_amx_matrix *x, enum form form,
                                 struct part p)
{
    int64_t steps = round_up(p.depth, STEP) / STEP, all = round_up(p.count, WIDE);
    for (int64_t r = 0; r < all; r++) {
        char *at = to + r / WIDE * steps * STEP_BYTES + r % WIDE * 64;
        for (int64_t s = 0; s < steps; s++) {
            __m512i v = _mm512_setzero_si512();
            if (r < p.count)
                v = line(x, form, p.i + r, p.k + s * STEP, p.depth - s * STEP);
            _mm512_store_si512(at + s * STEP_BYTES, v);
        }
    }
}

static ALWAYS AMX void pack_form(char *to, const struct gemm_amx_matrix *x, enum form form,
                                 bool along_k, bool of_b, struct part p)
{
    if (along_k && !of_b)
        pack_rows(to, x, form, p);
    else if (along_k)
        pack_as(to, x, form, true, true, p);
    else if (of_b)
        pack_as(to, x, form, false, false, p);
    else
        pack_as(to, x, form, false, true, p);
}

static AMX void pack(char *to, const struct gemm_amx_matrix *x, bool of_b, struct part p)
{
    bool along_k = x->transposed == of_b;
    switch (form_of(x)) {
    case FULL:
        pack_form(to, x, FULL, along_k, of_b, p);
        break;
    case HALF:
        pack_form(to, x, HALF, along_k, of_b, p);
        break;
    case BLOCKED:
        pack_form(to, x, BLOCKED, along_k, of_b, p);
        break;
    }
}

/* Lines to bring into the second cache during a call of the kernel, which waits for none of them.
 */
struct ahead {
    const char *a, *b;
    int64_t a_lines, b_lines;
};

static ALWAYS AMX void fetch(const char **at, int64_t *lines, int64_t most)
{
    for (int64_t l = smaller(*lines, most); l > 0; l--, *at += LINE, --*lines)
        _mm_prefetch(*at, _MM_HINT_T1);
}

/* sums[32][32] = or += a strip times a panel over `steps` steps. */
static AMX void multiply(float *sums, bool add, const char *a, const char *b, int64_t steps,
                         struct ahead next)
{
    MEMORY_IS_WRITTEN;
    if (add)
        unit_load_sums(sums, WIDE);
    else
        unit_clear_sums();
    for (int64_t s = 0; s < steps; s++, a += STEP_BYTES, b += STEP_BYTES) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 1024, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 1024, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        fetch(&next.a, &next.a_lines, 2);
        fetch(&next.b, &next.b_lines, 3);
    }
    unit_store_sums(sums, WIDE);
}

static AMX void finish_full(void *context, real *sums, int64_t row, int64_t rows, int64_t column,
                            int64_t columns)
{
    const struct gemm_amx_full *c = context;
    __mmask16 left = (__mmask16)first(columns), right = (__mmask16)(first(columns) >> 16);
    __m512 bias[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    /* what is only written need not be read first */
    bool streams = !c->add && columns == WIDE &&
                   (((uintptr_t)(c->at + column) | (uintptr_t)(c->stride * 4)) & 63) == 0;
    if (c->bias) {
        bias[0] = _mm512_maskz_loadu_ps(left, c->bias + column);
        bias[1] = _mm512_maskz_loadu_ps(right, c->bias + column + 16);
    }
    for (int64_t r = 0; r < rows; r++) {
        float *to = c->at + (row + r) * c->stride + column;
        __m512 low = _mm512_add_ps(_mm512_load_ps(sums + r * WIDE), bias[0]);
        __m512 high = _mm512_add_ps(_mm512_load_ps(sums + r * WIDE + 16), bias[1]);
        if (c->add) {
            low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(left, to));
            high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(right, to + 16));
        }
        if (streams) {
            _mm512_stream_ps(to, low);
            _mm512_stream_ps(to + 16, high);
        } else {
            _mm512_mask_storeu_ps(to, left, low);
            _mm512_mask_storeu_ps(to + 16, right, high);
        }
    }
}

AMX void gemm_amx_block_row(uint16_t *blocks, int64_t row, const real *x, int64_t columns)
{
    struct gemm_amx_matrix matrix = {.full = x, .stride = columns};
    uint16_t *to = blocks + gemm_amx_block_at(columns, row / WIDE * WIDE, 0) + row % WIDE * WIDE;
    for (int64_t j = 0; j < columns; j += WIDE, to += GEMM_AMX_BLOCK)
        _mm512_store_si512(to, line(&matrix, FULL, 0, j, columns - j));
}

AMX void gemm_amx_store_half(uint16_t *to, int64_t stride, const real *panel, const real *bias,
                             int64_t rows, int64_t columns)
{
    __mmask32 mask = first(columns);
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    bool streams = columns == WIDE && (((uintptr_t)to | (uintptr_t)(stride * 2)) & 63) == 0;
    if (bias) {
        low = _mm512_maskz_loadu_ps((__mmask16)mask, bias);
        high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), bias + 16);
    }
    for (int64_t r = 0; r < rows; r++, panel += WIDE, to += stride) {
        __m512 a = _mm512_add_ps(_mm512_loadu_ps(panel), low);
        __m512 b = _mm512_add_ps(_mm512_loadu_ps(panel + 16), high);
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(b, a);
        if (streams)
            _mm512_stream_si512((void *)to, both);
        else
            _mm512_mask_storeu_epi16(to, mask, both);
    }
}

AMX void gemm_amx_spin(int64_t rounds, const uint16_t x[4][TILE_BYTES / 2])
{
    unit_configure();
    MEMORY_IS_WRITTEN;
    _tile_loadd(4, x[0], LINE);
    _tile_loadd(5, x[1], LINE);
    _tile_loadd(6, x[2], LINE);
    _tile_loadd(7, x[3], LINE);
    for (int64_t i = 0; i < rounds; i++)
        unit_multiply();
    _tile_release();
}

/* Tiles of an operand of a block, where the kernel finds them. */
struct tiles {
    const char *at;     /* of the block's first strip or panel */
    int64_t steps;      /* from one strip or panel to the next */
    int64_t first_step; /* where the block's k begins */
};

struct product {
    struct gemm_amx_result to;
    struct gemm_amx_matrix a, b;
    int64_t m, n, k;
    int64_t block_m, block_n, block_k; /* see the head */
    bool as_it_lies;                   /* a lies in blocks, strip after strip */
    bool whole_a;                      /* a is packed once */
    bool whole_b;                      /* b of a block of columns is packed at once */
    char *packed_a, *packed_b;
    float *sums; /* [strips][panels][SUMS] of a block */
};

/* Sizes of the blocks, and the room that they take of the thread's work space. */
static void plan(struct product *p)
{
    int64_t deep = round_up(p->k, STEP), most = BLOCK_COLUMNS;
    bool small = deep <= (p->a.transposed ? RESIDENT_K / 4 : RESIDENT_K);
    if (small)
        most = RESIDENT_BYTES / (2 * deep) / WIDE * WIDE;
    int64_t blocks = (p->n + most - 1) / most, whole_bytes = 2 * round_up(p->m, WIDE) * deep;
    p->block_n = round_up((p->n + blocks - 1) / blocks, WIDE);
    p->block_m = small ? WIDE : BLOCK_ROWS;
    p->block_k = small ? deep : SLICE;
    p->as_it_lies = form_of(&p->a) == BLOCKED && !p->a.transposed;
    p->whole_a = !p->as_it_lies && !small && blocks > 1 && whole_bytes <= WHOLE_BYTES;
    p->whole_b = small || p->m > p->block_m;
    int64_t b_bytes = 2 * p->block_n * (p->whole_b ? deep : p->block_k);
    int64_t a_bytes = p->whole_a ? whole_bytes : 2 * p->block_m * p->block_k;
    int64_t sums = p->block_m * p->block_n;
    p->packed_b = workspace_take(b_bytes + a_bytes + sums * (int64_t)sizeof(float));
    p->packed_a = p->packed_b + b_bytes;
    p->sums = (float *)(void *)(p->packed_a + a_bytes);
}

/* What the kernel will read after strip `strip`, panel `panel` of a block of so many strips and
 * panels: a share of the next strip, or of the first one of the next slice, and a share of the same
 * panel in the next slice. */
static struct ahead ahead_of(const struct product *p, struct part rows, struct tiles a,
                             struct tiles b, int64_t slice, int64_t strip, int64_t panel)
{
    enum { LINES = SLICE / STEP * STEP_BYTES / LINE };
    int64_t strips = (rows.count + WIDE - 1) / WIDE, panels = p->block_n / WIDE;
    int64_t k = rows.k + slice + SLICE < p->k ? rows.k + slice + SLICE : 0;
    struct ahead next = {0};
    if (p->as_it_lies || p->whole_a) {
        bool within = strip + 1 < strips;
        int64_t i = within ? strip + 1 : k > 0 ? 0 : strips;
        int64_t from = LINES * panel / panels;
        next.a =
            a.at + (i * a.steps + (within ? rows.k + slice : k) / STEP) * STEP_BYTES + from * LINE;
        next.a_lines = LINES * (panel + 1) / panels - from;
    }
    if (p->whole_b && p->block_m > WIDE) {
        int64_t from = LINES * strip / strips;
        next.b = b.at + (panel * b.steps + k / STEP) * STEP_BYTES + from * LINE;
        next.b_lines = LINES * (strip + 1) / strips - from;
    }
    return next;
}

/* All strips and panels of a block over the slice of k that begins at `slice` within it. */
static void multiply_slice(const struct product *p, struct part rows, struct part columns,
                           struct tiles a, struct tiles b, int64_t slice)
{
    int64_t count = smaller(SLICE, rows.depth - slice), panels = p->block_n / WIDE;
    bool begins = rows.k + slice == 0, ends = rows.k + slice + SLICE >= p->k;
    count = round_up(count, STEP) / STEP;
    for (int64_t i = 0; i < rows.count; i += WIDE) {
        const char *left = a.at + (i / WIDE * a.steps + a.first_step + slice / STEP) * STEP_BYTES;
        for (int64_t j = 0; j < columns.count; j += WIDE) {
            const char *right =
                b.at + (j / WIDE * b.steps + b.first_step + slice / STEP) * STEP_BYTES;
            float *sums = p->sums + (i / WIDE * panels + j / WIDE) * SUMS;
            multiply(sums, !begins, left, right, count,
                     ahead_of(p, rows, a, b, slice, i / WIDE, j / WIDE));
            if (ends)
                p->to.finish(p->to.context, sums, rows.i + i, smaller(WIDE, rows.count - i),
                             columns.i + j, smaller(WIDE, columns.count - j));
        }
    }
}

static void multiply_block(const struct product *p, struct part rows, struct part columns)
{
    int64_t all_steps = round_up(p->k, STEP) / STEP;
    for (int64_t k = 0; k < p->k; k += p->block_k) {
        rows.k = columns.k = k;
        rows.depth = columns.depth = smaller(p->block_k, p->k - k);
        int64_t steps = round_up(rows.depth, STEP) / STEP;
        struct tiles a = {p->packed_a, steps, 0}, b = {p->packed_b, steps, 0};
        if (p->as_it_lies || p->whole_a) {
            const char *all = p->as_it_lies ? (const char *)p->a.half : p->packed_a;
            a = (struct tiles){all + rows.i / WIDE * all_steps * STEP_BYTES, all_steps, k / STEP};
        } else {
            pack(p->packed_a, &p->a, false, rows);
        }
        if (p->whole_b)
            b = (struct tiles){p->packed_b, all_steps, k / STEP};
        else
            pack(p->packed_b, &p->b, true, columns);
        for (int64_t slice = 0; slice < rows.depth; slice += SLICE)
            multiply_slice(p, rows, columns, a, b, slice);
    }
}

static AMX void run(struct product *p)
{
    plan(p);
    unit_configure();
    if (p->whole_a)
        pack(p->packed_a, &p->a, false, (struct part){0, p->m, 0, p->k});
    for (int64_t n = 0; n < p->n; n += p->block_n) {
        struct part columns = {n, smaller(p->block_n, p->n - n), 0, p->k};
        if (p->whole_b)
            pack(p->packed_b, &p->b, true, columns);
        for (int64_t m = 0; m < p->m; m += p->block_m)
            multiply_block(p, (struct part){m, smaller(p->block_m, p->m - m), 0, 0}, columns);
    }
    _tile_release();
    _mm_sfence(); /* streamed results are there for whoever is told of them */
}

void gemm_amx(struct gemm_amx_result to, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
              int64_t m, int64_t n, int64_t k)
{
    struct product p = {.to = to, .a = a, .b = b, .m = m, .n = n, .k = k};
    run(&p);
}

void gemm_amx_full(struct gemm_amx_full c, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
                   int64_t m, int64_t n, int64_t k)
{
    gemm_amx((struct gemm_amx_result){finish_full, &c}, a, b, m, n, k);
}

#else

bool gemm_amx_has(void)
{
    return false;
}

void gemm_amx_spin(int64_t rounds, const uint16_t x[4][512])
{
    (void)rounds, (void)x;
}

void gemm_amx(struct gemm_amx_result to, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
              int64_t m, int64_t n, int64_t k)
{
    (void)to, (void)a, (void)b, (void)m, (void)n, (void)k;
    __builtin_trap();
}

void gemm_amx_block_row(uint16_t *blocks, int64_t row, const real *x, int64_t columns)
{
    (void)blocks, (void)row, (void)x, (void)columns;
    __builtin_trap();
}

void gemm_amx_store_half(uint16_t *to, int64_t stride, const real *panel, const real *bias,
                         int64_t rows, int64_t columns)
{
    (void)to, (void)stride, (void)panel, (void)bias, (void)rows, (void)columns;
    __builtin_trap();
}

void gemm_amx_full(struct gemm_amx_full c, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
                   int64_t m, int64_t n, int64_t k)
{
    (void)c, (void)a, (void)b, (void)m, (void)n, (void)k;
    __builtin_trap();
}

#endif

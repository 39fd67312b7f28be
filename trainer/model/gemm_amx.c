/*
 * Tiles of 16 x 32 (a) and 32 x 16 (b, pairs of rows interleaved) are summed into tiles of 16 x 16.
 * The kernel holds 2 x 2 sums and uses each loaded tile twice: four loads of a kilobyte hide behind
 * four multiplications of 16 cycles.  `a` goes in strips of 32 rows and b in panels of 32 columns;
 * both are packed, tile after tile, with zeros beyond the edges, so that there is one kernel.
 *
 *     columns in blocks               b of a block is packed at once where it is a weight
 *       rows in blocks                32 rows if k is small: b then stays in the second cache
 *         k in blocks                 pack a (and b)
 *           k in slices               of 256: strip and panel fit the first cache
 *             strips, panels          kernel; after the last slice the sums go to their place
 *
 * A sum runs over k in slices from 0 up, each from where the last one ended, whatever the blocks.
 *
 * Refused: fetching ahead what the next block reads, by software (no faster where memory is the
 * limit); all of k in one slice (a strip then does not fit the first cache: 1.7 instead of 2.3
 * TFLOP/s).
 *
 * Source: the instructions' arithmetic is that of Intel's Software Developer's Manual, TDPBF16PS;
 * the loops follow Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
 * (2008).
 */
#include "trainer/model/gemm_amx.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(MT_REAL_double)

#include <immintrin.h>

#include "comm/base/processor.h"
#include "trainer/model/workspace.h"

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))

#define MEMORY_IS_WRITTEN __asm__ volatile("" ::: "memory")
#define ALWAYS inline __attribute__((always_inline))

enum {
    WIDE = 32,                /* rows of a strip, columns of a panel */
    STEP = 32,                /* k of a tile */
    STEP_BYTES = 2048,        /* two tiles */
    SLICE = 256,              /* k of a call of the kernel */
    SUMS = WIDE * WIDE,       /* four tiles of sums */
    RESIDENT_K = 1024,        /* up to here all of k is one block */
    RESIDENT_BYTES = 5 << 18, /* of b, in the second cache */
    BLOCK_ROWS = 384,
    BLOCK_COLUMNS = 768,
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

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline __mmask32 first(int64_t count)
{
    return count >= 32 ? 0xffffffffu : (1u << count) - 1;
}

/* Up to 32 neighbours of one row of the matrix as it lies, rounded; zeros beyond `count`. */
static ALWAYS AMX __m512i line(const struct gemm_amx_matrix *x, bool half, int64_t row,
                               int64_t column, int64_t count)
{
    __mmask32 mask = first(count);
    int64_t at = row * x->stride + column;
    if (half)
        return _mm512_maskz_loadu_epi16(mask, x->half + at);
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, x->full + at);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x->full + at + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* A tile of pairs the other way: t[i] pair j <-> t[j] pair i. */
static ALWAYS AMX void transpose(__m512i t[16])
{
    __m512i u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        u[i] = _mm512_unpacklo_epi32(t[i], t[i + 1]);
        u[i + 1] = _mm512_unpackhi_epi32(t[i], t[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        t[i] = _mm512_unpacklo_epi64(u[i], u[i + 2]);
        t[i + 1] = _mm512_unpackhi_epi64(u[i], u[i + 2]);
        t[i + 2] = _mm512_unpacklo_epi64(u[i + 1], u[i + 3]);
        t[i + 3] = _mm512_unpackhi_epi64(u[i + 1], u[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        u[i] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
        u[i + 4] = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        u[i + 8] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
        u[i + 12] = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(u[i], u[i + 8], 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(u[i + 4], u[i + 12], 0xdd);
    }
}

/* A part of an operand: `count` of its rows (a) or columns (b) from `i`, `depth` of k from `k`. */
struct part {
    int64_t i, count, k, depth;
};

/* Two tiles side by side from 32 lines along k, or from 32 lines across k whose pairs are
 * interleaved; either gives one operand's tiles and, transposed, the other's. */
static ALWAYS AMX void pack_step(char *to, const struct gemm_amx_matrix *x, bool half, bool along_k,
                                 bool transposes, struct part p)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    __m512i t[32], none = _mm512_setzero_si512();
    if (along_k) {
        for (int64_t r = 0; r < 32; r++)
            t[r] = r < p.count ? line(x, half, p.i + r, p.k, p.depth) : none;
    } else {
        for (int64_t r = 0; r < 16; r++) {
            int64_t k = 2 * r;
            __m512i even = k < p.depth ? line(x, half, p.k + k, p.i, p.count) : none;
            __m512i odd = k + 1 < p.depth ? line(x, half, p.k + k + 1, p.i, p.count) : none;
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
static ALWAYS AMX void pack_as(char *to, const struct gemm_amx_matrix *x, bool half, bool along_k,
                               bool transposes, struct part p)
{
    int64_t steps = round_up(p.depth, STEP) / STEP, all = (p.count + WIDE - 1) / WIDE * steps;
    for (int64_t at = 0; at < all; at++) {
        int64_t s = along_k ? at % steps : at / (all / steps);
        int64_t j = (along_k ? at / steps : at % (all / steps)) * WIDE;
        struct part one = {p.i + j, smaller(WIDE, p.count - j), p.k + s * STEP,
                           smaller(STEP, p.depth - s * STEP)};
        char *place = to + (j / WIDE * steps + s) * STEP_BYTES;
        if (one.count == WIDE && one.depth == STEP)
            pack_step(place, x, half, along_k, transposes,
                      (struct part){one.i, WIDE, one.k, STEP});
        else
            pack_step(place, x, half, along_k, transposes, one);
    }
}

/* Strips of rows that lie along k already: copied a row at a time, as memory likes to be read. */
static ALWAYS AMX void pack_rows(char *to, const struct gemm_amx_matrix *x, bool half,
                                 struct part p)
{
    int64_t steps = round_up(p.depth, STEP) / STEP, all = round_up(p.count, WIDE);
    for (int64_t r = 0; r < all; r++) {
        char *at = to + r / WIDE * steps * STEP_BYTES + r % WIDE * 64;
        for (int64_t s = 0; s < steps; s++) {
            __m512i v = _mm512_setzero_si512();
            if (r < p.count)
                v = line(x, half, p.i + r, p.k + s * STEP, p.depth - s * STEP);
            _mm512_store_si512(at + s * STEP_BYTES, v);
        }
    }
}

static AMX void pack(char *to, const struct gemm_amx_matrix *x, bool of_b, struct part p)
{
    bool along_k = x->transposed == of_b, half = x->half != NULL;
    if (along_k && !of_b && half)
        pack_rows(to, x, true, p);
    else if (along_k && !of_b)
        pack_rows(to, x, false, p);
    else if (along_k && half)
        pack_as(to, x, true, true, true, p);
    else if (along_k)
        pack_as(to, x, false, true, true, p);
    else if (of_b && half)
        pack_as(to, x, true, false, false, p);
    else if (of_b)
        pack_as(to, x, false, false, false, p);
    else if (half)
        pack_as(to, x, true, false, true, p);
    else
        pack_as(to, x, false, false, true, p);
}

/* sums[32][32] = or += a strip times a panel over `steps` steps. */
static AMX void multiply(float *sums, bool add, const char *a, const char *b, int64_t steps)
{
    enum { RIGHT = 16, BELOW = 16 * WIDE, STRIDE = 4 * WIDE };
    MEMORY_IS_WRITTEN; /* the compiler does not know what tile loads read */
    if (add) {
        _tile_loadd(0, sums, STRIDE);
        _tile_loadd(1, sums + RIGHT, STRIDE);
        _tile_loadd(2, sums + BELOW, STRIDE);
        _tile_loadd(3, sums + BELOW + RIGHT, STRIDE);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t s = 0; s < steps; s++, a += STEP_BYTES, b += STEP_BYTES) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + 1024, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + 1024, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, STRIDE);
    _tile_stored(1, sums + RIGHT, STRIDE);
    _tile_stored(2, sums + BELOW, STRIDE);
    _tile_stored(3, sums + BELOW + RIGHT, STRIDE);
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

AMX void gemm_amx_load_half(real *panel, const uint16_t *from, int64_t stride, int64_t rows,
                            int64_t columns)
{
    __mmask32 mask = first(columns);
    for (int64_t r = 0; r < rows; r++, panel += WIDE, from += stride) {
        __m512i both = _mm512_maskz_loadu_epi16(mask, from);
        __m512i a = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
        __m512i b = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(both, 1));
        _mm512_storeu_si512(panel, _mm512_slli_epi32(a, 16));
        _mm512_storeu_si512(panel + 16, _mm512_slli_epi32(b, 16));
    }
}

/* Eight tiles of 16 rows of 64 bytes, as the instruction reads it.  A constant: the compiler does
 * not know that the instruction reads more than its first bytes. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tiles = {.palette = 1,
           .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
           .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static AMX void configure(void)
{
    _tile_loadconfig(&tiles);
}

AMX void gemm_amx_spin(int64_t rounds)
{
    configure();
    for (int64_t i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

struct product {
    struct gemm_amx_result to;
    struct gemm_amx_matrix a, b;
    int64_t m, n, k;
    int64_t block_m, block_n, block_k; /* see the head */
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
    int64_t blocks = (p->n + most - 1) / most;
    p->block_n = round_up((p->n + blocks - 1) / blocks, WIDE);
    p->block_m = small ? WIDE : BLOCK_ROWS;
    p->block_k = small ? deep : SLICE;
    p->whole_b = small || !p->a.transposed; /* else b is as large as a batch */
    int64_t b_bytes = 2 * p->block_n * (p->whole_b ? deep : p->block_k);
    int64_t a_bytes = 2 * p->block_m * p->block_k, sums = p->block_m * p->block_n;
    p->packed_b = workspace_take(b_bytes + a_bytes + sums * (int64_t)sizeof(float));
    p->packed_a = p->packed_b + b_bytes;
    p->sums = (float *)(void *)(p->packed_a + a_bytes);
}

/* All strips and panels of a block over the slice of k that begins at `slice` within it. */
static void multiply_slice(const struct product *p, struct part rows, struct part columns,
                           int64_t slice)
{
    int64_t steps = round_up(rows.depth, STEP) / STEP, first_step = slice / STEP;
    int64_t b_steps = p->whole_b ? round_up(p->k, STEP) / STEP : steps;
    int64_t b_first = first_step + (p->whole_b ? rows.k / STEP : 0);
    int64_t count = smaller(SLICE / STEP, steps - first_step), panels = p->block_n / WIDE;
    bool begins = rows.k + slice == 0, ends = rows.k + slice + SLICE >= p->k;
    for (int64_t i = 0; i < rows.count; i += WIDE) {
        const char *a = p->packed_a + (i / WIDE * steps + first_step) * STEP_BYTES;
        for (int64_t j = 0; j < columns.count; j += WIDE) {
            const char *b = p->packed_b + (j / WIDE * b_steps + b_first) * STEP_BYTES;
            float *sums = p->sums + (i / WIDE * panels + j / WIDE) * SUMS;
            multiply(sums, !begins, a, b, count);
            if (ends)
                p->to.finish(p->to.context, sums, rows.i + i, smaller(WIDE, rows.count - i),
                             columns.i + j, smaller(WIDE, columns.count - j));
        }
    }
}

static void multiply_block(const struct product *p, struct part rows, struct part columns)
{
    for (int64_t k = 0; k < p->k; k += p->block_k) {
        rows.k = columns.k = k;
        rows.depth = columns.depth = smaller(p->block_k, p->k - k);
        pack(p->packed_a, &p->a, false, rows);
        if (!p->whole_b)
            pack(p->packed_b, &p->b, true, columns);
        for (int64_t slice = 0; slice < rows.depth; slice += SLICE)
            multiply_slice(p, rows, columns, slice);
    }
}

static AMX void run(struct product *p)
{
    plan(p);
    configure();
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

void gemm_amx_spin(int64_t rounds)
{
    (void)rounds;
}

void gemm_amx(struct gemm_amx_result to, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
              int64_t m, int64_t n, int64_t k)
{
    (void)to, (void)a, (void)b, (void)m, (void)n, (void)k;
    __builtin_trap();
}

void gemm_amx_store_half(uint16_t *to, int64_t stride, const real *panel, const real *bias,
                         int64_t rows, int64_t columns)
{
    (void)to, (void)stride, (void)panel, (void)bias, (void)rows, (void)columns;
    __builtin_trap();
}

void gemm_amx_load_half(real *panel, const uint16_t *from, int64_t stride, int64_t rows,
                        int64_t columns)
{
    (void)panel, (void)from, (void)stride, (void)rows, (void)columns;
    __builtin_trap();
}

void gemm_amx_full(struct gemm_amx_full c, struct gemm_amx_matrix a, struct gemm_amx_matrix b,
                   int64_t m, int64_t n, int64_t k)
{
    (void)c, (void)a, (void)b, (void)m, (void)n, (void)k;
    __builtin_trap();
}

#endif

/*
 * gemm_amx_unit: what products by the matrix unit are made of, for gemm_amx.c and gemm_split.c.
 *
 * The unit has eight tiles of 16 rows of 64 bytes.  It adds a tile of 16 x 32 (a) times one of
 * 32 x 16 (b, pairs of rows interleaved) to a tile of 16 x 16 sums.
 * Source: Intel's Software Developer's Manual, TDPBF16PS.
 */
#ifndef MT_MODEL_GEMM_AMX_UNIT_H
#define MT_MODEL_GEMM_AMX_UNIT_H

#if defined(__x86_64__) && defined(__linux__) && !defined(MT_REAL_double)

#define MT_AMX 1

#include <immintrin.h>
#include <stdint.h>

#define AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512bf16")))

/* The compiler does not know what tile loads read. */
#define MEMORY_IS_WRITTEN __asm__ volatile("" ::: "memory")
#define ALWAYS inline __attribute__((always_inline))

enum {
    TILE = 16,
    TILE_BYTES = 1024,
    WIDE = 2 * TILE, /* rows of a strip of a, columns of a panel of b: two tiles */
    STEP = 32,       /* k of a tile */
    SUMS = WIDE * WIDE,
    LINE = 64, /* bytes of the caches, and of a tile's row */
};

static inline int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline __mmask32 first(int64_t count)
{
    return count >= 32 ? 0xffffffffu : count <= 0 ? 0 : (1u << count) - 1;
}

/* A square of 16 x 16 the other way: t[i] element j <-> t[j] element i. */
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

/* Eight whole tiles, as the instruction reads it.  A constant: the compiler does not know that the
 * instruction reads more than its first bytes. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} unit_tiles = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static AMX inline void unit_configure(void)
{
    _tile_loadconfig(&unit_tiles);
}

/* 2 x 2 tiles of sums, 0 to 3, of rows `stride` floats apart. */
static ALWAYS AMX void unit_load_sums(const float *at, int64_t stride)
{
    _tile_loadd(0, at, 4 * stride);
    _tile_loadd(1, at + TILE, 4 * stride);
    _tile_loadd(2, at + TILE * stride, 4 * stride);
    _tile_loadd(3, at + TILE * stride + TILE, 4 * stride);
}

static ALWAYS AMX void unit_clear_sums(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

static ALWAYS AMX void unit_store_sums(float *at, int64_t stride)
{
    _tile_stored(0, at, 4 * stride);
    _tile_stored(1, at + TILE, 4 * stride);
    _tile_stored(2, at + TILE * stride, 4 * stride);
    _tile_stored(3, at + TILE * stride + TILE, 4 * stride);
}

/* Adds the tiles 4, 5 (a) times 6, 7 (b) to the sums. */
static ALWAYS AMX void unit_multiply(void)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

#endif

#endif

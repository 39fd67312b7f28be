/*
 * Philox4x32-10 on 32 counters at once, so that the compiler turns each round into vector
 * instructions; one block serves eight elements.  With AVX-512 by hand, in registers.
 *
 * Refused: keeping masks for backward (A T^2 bits a sentence and layer, and memory traffic that
 * costs as much as the arithmetic), 32-bit lanes (twice the work for a precision of p that nobody
 * can see).  Cost: about two instructions an element.
 */
#include "trainer/model/dropout.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "trainer/model/kernel.h"

enum { WIDTH = 32, LANES = 8, CHUNK = 1024 };

struct dropout dropout_make(double p, uint64_t key, int32_t depth, enum dropout_site_id site)
{
    uint32_t threshold = p > 0 ? (uint32_t)lrint(fmin(p, 1.0) * 65536.0) : 0;
    if (threshold > 65535)
        threshold = 65535;
    return (struct dropout){key, (uint32_t)depth << 8 | (uint32_t)site, threshold,
                            (real)(65536.0 / (65536.0 - threshold))};
}

/* WIDTH blocks from `block` on; out[2*l] is words 0 and 1 of block l, out[2*l+1] words 2 and 3, the
 * first in the low half.  While they are made, words stand in 64-bit lanes, so that a product and
 * both of its halves stay in place. */
static KERNEL void philox_blocks(uint64_t key, uint32_t block, uint32_t site, uint64_t sample,
                                 uint64_t *restrict out)
{
    const uint64_t low = 0xffffffffu;
    uint64_t c0[WIDTH], c1[WIDTH], c2[WIDTH], c3[WIDTH];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t l = 0; l < WIDTH; l++) {
        c0[l] = block + l;
        c1[l] = site;
        c2[l] = sample & low;
        c3[l] = sample >> 32;
    }
    for (int round = 0; round < 10; round++) {
        for (uint32_t l = 0; l < WIDTH; l++) {
            uint64_t a = 0xD2511F53u * c0[l], b = 0xCD9E8D57u * c2[l];
            c0[l] = (b >> 32) ^ c1[l] ^ k0;
            c2[l] = (a >> 32) ^ c3[l] ^ k1;
            c1[l] = b & low;
            c3[l] = a & low;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (uint32_t l = 0; l < WIDTH; l++) {
        out[2 * l] = c0[l] | c1[l] << 32;
        out[2 * l + 1] = c2[l] | c3[l] << 32;
    }
}

#if defined(__x86_64__) && defined(__gnu_linux__)

#include <immintrin.h>

enum { GROUPS = WIDTH / 8 };

/* The same.  Upper halves of the words may hold anything until the end: products and stores do not
 * look at them. */
__attribute__((target("avx512f"))) static void
philox_blocks_avx512(uint64_t key, uint32_t block, uint32_t site, uint64_t sample, uint64_t *out)
{
    const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
    __m512i c0[GROUPS], c1[GROUPS], c2[GROUPS], c3[GROUPS];
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g++) {
        c0[g] = _mm512_add_epi64(_mm512_set1_epi64((long long)block + 8 * g),
                                 _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
        c1[g] = _mm512_set1_epi64(site);
        c2[g] = _mm512_set1_epi64((long long)sample);
        c3[g] = _mm512_set1_epi64((long long)(sample >> 32));
    }
    for (int round = 0; round < 10; round++) {
        const __m512i key0 = _mm512_set1_epi64(k0), key1 = _mm512_set1_epi64(k1);
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) {
            __m512i a = _mm512_mul_epu32(m0, c0[g]), b = _mm512_mul_epu32(m1, c2[g]);
            /* 0x96 is the exclusive or of three */
            c0[g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c1[g], key0, 0x96);
            c2[g] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c3[g], key1, 0x96);
            c1[g] = b;
            c3[g] = a;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i last = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    const __mmask16 odd = 0xAAAA;
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; g++) {
        __m512i low = _mm512_mask_mov_epi32(c0[g], odd, _mm512_slli_epi64(c1[g], 32));
        __m512i high = _mm512_mask_mov_epi32(c2[g], odd, _mm512_slli_epi64(c3[g], 32));
        _mm512_storeu_si512(out + 16 * g, _mm512_permutex2var_epi64(low, first, high));
        _mm512_storeu_si512(out + 16 * g + 8, _mm512_permutex2var_epi64(low, last, high));
    }
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

#else

#define philox_blocks_avx512 philox_blocks

static bool has_avx512(void)
{
    return false;
}

#endif

const uint16_t *dropout_lanes(const struct dropout *d, int64_t sample, int64_t first, int64_t count,
                              uint16_t *buffer)
{
    bool wide = has_avx512();
    int64_t begin = first / LANES, end = (first + count + LANES - 1) / LANES;
    for (int64_t block = begin; block < end; block += WIDTH) {
        uint64_t words[2 * WIDTH];
        if (wide)
            philox_blocks_avx512(d->key, (uint32_t)block, d->site, (uint64_t)sample, words);
        else
            philox_blocks(d->key, (uint32_t)block, d->site, (uint64_t)sample, words);
        memcpy(buffer + (block - begin) * LANES, words, sizeof words); /* little-endian halves */
    }
    return buffer + first % LANES;
}

KERNEL void dropout_apply(const struct dropout *d, int64_t sample, int64_t first, int64_t count,
                          const real *x, real *y)
{
    if (d->threshold == 0) {
        if (x != y)
            memcpy(y, x, (size_t)count * sizeof *y);
        return;
    }
    for (int64_t done = 0; done < count; done += CHUNK) {
        uint16_t buffer[CHUNK + DROPOUT_SLACK];
        int64_t n = count - done < CHUNK ? count - done : CHUNK;
        const uint16_t *lane = dropout_lanes(d, sample, first + done, n, buffer);
        const real *from = x + done;
        real *to = y + done;
        const uint32_t threshold = d->threshold;
        const real scale = d->scale;
        real factor[CHUNK];
        for (int64_t j = 0; j < n; j++)
            factor[j] = dropout_factor(threshold, scale, lane[j]);
#pragma GCC ivdep /* y is x or apart from it */
        for (int64_t j = 0; j < n; j++)
            to[j] = from[j] * factor[j];
    }
}

void dropout_apply_batch(const struct dropout *d, const struct batch *batch, int64_t H, real *x)
{
    if (d->threshold == 0)
        return;
    for (int32_t s = 0; s < batch->B; s++) {
        int64_t begin = batch->offsets[s] - batch->offsets[0];
        int64_t T = batch->offsets[s + 1] - batch->offsets[s];
        dropout_apply(d, batch->sample[s], 0, T * H, x + begin * H, x + begin * H);
    }
}

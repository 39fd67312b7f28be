/* See activation_table.h.  Cost: a gather of 16 for each value or slope, a third of what the
 * polynomials of gelu take. */
#include "trainer/model/activation_table.h"

#include <pthread.h>
#include <stdbool.h>

#include "trainer/model/activation.h"
#include "trainer/model/bf16.h"

static struct activation_table table[ACT_COUNT];
static bool made[ACT_COUNT];
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static void make(enum activation a)
{
    enum { PIECE = 256 };
    real u[PIECE], g[PIECE];
    for (int from = 0; from < ACTIVATION_TABLE; from += PIECE) {
        real *slope = table[a].slope + from;
        for (int i = 0; i < PIECE; i++) {
            u[i] = (real)bf16_value((uint16_t)(from + i));
            slope[i] = 1;
        }
        activation_slopes(a, PIECE, u, g, slope);
        bf16_round(table[a].value + from, g, PIECE);
    }
}

const struct activation_table *activation_table_of(enum activation a)
{
    (void)pthread_mutex_lock(&making);
    if (!made[a])
        make(a);
    made[a] = true;
    (void)pthread_mutex_unlock(&making);
    return &table[a];
}

#if defined(__x86_64__) && !defined(MT_REAL_double)

#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl")))
#define ALWAYS inline __attribute__((always_inline))

static ALWAYS WIDE __m512i indices(const uint16_t *u)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)u));
}

static ALWAYS WIDE __m256i values(const struct activation_table *t, __m512i index)
{
    return _mm512_cvtepi32_epi16(_mm512_i32gather_epi32(index, (const void *)t->value, 2));
}

static ALWAYS WIDE void store_values(uint16_t *g, __m256i low, __m256i high)
{
    _mm512_stream_si512((void *)g, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}

WIDE void activation_table_values(const struct activation_table *t, int64_t rows, const uint16_t *u,
                                  uint16_t *g)
{
    for (int64_t r = 0; r < rows; r++, u += ACTIVATION_TABLE_ROW, g += ACTIVATION_TABLE_ROW)
        store_values(g, values(t, indices(u)), values(t, indices(u + 16)));
}

WIDE void activation_table_slopes(const struct activation_table *t, int64_t rows, const uint16_t *u,
                                  uint16_t *g, real *d)
{
    for (int64_t r = 0; r < rows; r++, u += ACTIVATION_TABLE_ROW, g += ACTIVATION_TABLE_ROW)
        for (int half = 0; half < 2; half++, d += 16) {
            __m512i index = indices(u + 16 * half);
            __m512 slope = _mm512_i32gather_ps(index, t->slope, 4);
            _mm512_storeu_ps(d, _mm512_mul_ps(_mm512_loadu_ps(d), slope));
            if (half == 1)
                store_values(g, values(t, indices(u)), values(t, index));
        }
}

#else

void activation_table_values(const struct activation_table *t, int64_t rows, const uint16_t *u,
                             uint16_t *g)
{
    (void)t, (void)rows, (void)u, (void)g;
    __builtin_trap();
}

void activation_table_slopes(const struct activation_table *t, int64_t rows, const uint16_t *u,
                             uint16_t *g, real *d)
{
    (void)t, (void)rows, (void)u, (void)g, (void)d;
    __builtin_trap();
}

#endif

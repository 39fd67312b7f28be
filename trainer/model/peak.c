/*
 * See peak.h.  Twelve sums hide a latency of four cycles on two units, or of five on two.  The best
 * of a few windows counts, since other work on the machine only ever makes one slower; a window is
 * long enough that a short burst of a higher clock does not fill it.  The numbers are not zeros and
 * ones, so that no unit takes less power than at work (a Sapphire Rapids is as fast with either).
 */
#include "trainer/model/peak.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "comm/base/clock.h"
#include "comm/base/rng.h"
#include "trainer/model/gemm_amx.h"

enum { SUMS = 12, ROUNDS = 5000, WINDOWS = 4 };

static const double WINDOW_S = 0.1; /* at most */

enum { VECTOR_BYTES = 64, OPERANDS = 4, TILE_NUMBERS = 512 };

/* Numbers of 0.5 to 1 of either sign: vectors of floats; tiles, or vectors, of bf16. */
static struct {
    _Alignas(VECTOR_BYTES) float full[OPERANDS][VECTOR_BYTES / sizeof(float)];
    _Alignas(VECTOR_BYTES) uint16_t half[OPERANDS][TILE_NUMBERS];
} numbers;

static void make_numbers(void)
{
    const uint32_t float_bits = 0x807fffff, float_half = 0x3f000000;
    const uint32_t bf16_bits = 0x807f, bf16_half = 0x3f00;
    uint64_t key = rng_key(1, RNG_TEST, 0);
    float *full = numbers.full[0];
    uint16_t *half = numbers.half[0];
    for (uint32_t i = 0; i < OPERANDS * TILE_NUMBERS; i++) {
        struct rng_block r = rng_philox(key, i, 0, 0, 0);
        uint32_t bits = float_half | (r.v[1] & float_bits);
        half[i] = (uint16_t)(bf16_half | (r.v[0] & bf16_bits));
        if (i < sizeof numbers.full / sizeof(float))
            memcpy(&full[i], &bits, sizeof bits);
    }
}

/* ROUNDS * SUMS operations `step` on vectors; answers a number that depends on all of them. */
#define PEAK_ROUNDS(vector, from, set, step, take)                                                 \
    vector sum[SUMS], x[OPERANDS];                                                                 \
    float total = 0;                                                                               \
    for (int i = 0; i < OPERANDS; i++)                                                             \
        memcpy(&x[i], (from)[i], sizeof x[i]);                                                     \
    for (int i = 0; i < SUMS; i++)                                                                 \
        sum[i] = set((float)i);                                                                    \
    for (int round = 0; round < ROUNDS; round++) {                                                 \
        _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) sum[i] =                           \
            step(sum[i], x[i % 2], x[2 + i / 2 % 2]);                                              \
    }                                                                                              \
    for (int i = 0; i < SUMS; i++)                                                                 \
        total += take(sum[i]);                                                                     \
    return total;

struct loop {
    float (*volatile run)(void); /* volatile: each call is made */
    double operations;           /* of a round */
};

#if defined(__x86_64__)

#include <immintrin.h>

#define FMA512(s, a, b) _mm512_fmadd_ps(s, a, b)
#define FMA256(s, a, b) _mm256_fmadd_ps(s, a, b)
#define DOT512(s, a, b) _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))

__attribute__((target("avx512f"))) static float loop_avx512(void)
{
    PEAK_ROUNDS(__m512, numbers.full, _mm512_set1_ps, FMA512, _mm512_cvtss_f32)
}

__attribute__((target("avx512f,avx512bf16"))) static float loop_bf16(void)
{
    PEAK_ROUNDS(__m512, numbers.half, _mm512_set1_ps, DOT512, _mm512_cvtss_f32)
}

__attribute__((target("avx2,fma"))) static float loop_avx2(void)
{
    PEAK_ROUNDS(__m256, numbers.full, _mm256_set1_ps, FMA256, _mm256_cvtss_f32)
}

#endif

typedef float lanes4 __attribute__((vector_size(16)));

static inline lanes4 set4(float x)
{
    return (lanes4){x, x, x, x};
}

static inline lanes4 multiply_add4(lanes4 s, lanes4 a, lanes4 b)
{
    return s * a + b;
}

static inline float take4(lanes4 v)
{
    return v[0];
}

static float loop_portable(void)
{
    PEAK_ROUNDS(lanes4, numbers.full, set4, multiply_add4, take4)
}

static struct loop float_loop(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return (struct loop){loop_avx512, 32 * SUMS};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (struct loop){loop_avx2, 16 * SUMS};
#endif
    return (struct loop){loop_portable, 8 * SUMS};
}

static double best_rate(const struct loop *loop, double seconds)
{
    double best = 0, end_s = clock_now_s() + seconds;
    double window_s = seconds / WINDOWS < WINDOW_S ? seconds / WINDOWS : WINDOW_S;
    volatile float seen = 0;
    make_numbers();
    do {
        double begin_s = clock_now_s(), took_s, rounds = 0;
        do {
            seen = seen + loop->run();
            rounds += ROUNDS;
            took_s = clock_now_s() - begin_s;
        } while (took_s < window_s);
        double rate = loop->operations * rounds / took_s;
        best = rate > best ? rate : best;
    } while (clock_now_s() < end_s);
    return best;
}

double peak_float(double seconds)
{
    struct loop loop = float_loop();
    return best_rate(&loop, seconds);
}

double peak_bf16_vectors(double seconds)
{
#if defined(__x86_64__)
    struct loop loop = {loop_bf16, 64 * SUMS};
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16"))
        return best_rate(&loop, seconds);
#endif
    (void)seconds;
    return 0;
}

static float loop_amx(void)
{
    gemm_amx_spin(ROUNDS, (const uint16_t(*)[TILE_NUMBERS])numbers.half);
    return 0;
}

double peak_bf16_unit(double seconds)
{
    struct loop loop = {loop_amx, GEMM_AMX_SPIN};
    return gemm_amx_has() ? best_rate(&loop, seconds) : 0;
}

double peak_copy(char *to, const char *from, int64_t bytes, double seconds)
{
    memcpy(to, from, (size_t)bytes); /* so that the pages are there */
    double best = 0, end_s = clock_now_s() + seconds;
    do {
        double begin_s = clock_now_s();
        memcpy(to, from, (size_t)bytes);
        double rate = 2.0 * (double)bytes / (clock_now_s() - begin_s);
        best = rate > best ? rate : best;
    } while (clock_now_s() < end_s);
    return best;
}

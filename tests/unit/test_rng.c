/* Known answers: Random123's kat_vectors, philox4x32 with 10 rounds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/rng.h"

static void philox_gives_the_published_vectors(void **state)
{
    (void)state;
    const struct {
        uint64_t key;
        uint32_t c[4], expect[4];
    } cases[] = {
        {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX,
         {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t *c = cases[i].c;
        struct rng_block b = rng_philox(cases[i].key, c[0], c[1], c[2], c[3]);
        assert_memory_equal(b.v, cases[i].expect, sizeof b.v);
    }
}

static void keys_of_different_seed_purpose_or_step_differ(void **state)
{
    (void)state;
    uint64_t keys[3 * 4 * 5];
    int n = 0;
    for (uint64_t seed = 0; seed < 3; seed++)
        for (int purpose = RNG_INIT; purpose <= RNG_DROPOUT; purpose++)
            for (uint64_t step = 0; step < 5; step++)
                keys[n++] = rng_key(seed, (enum rng_purpose)purpose, step << (8 * step));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_true(keys[i] != keys[j]);
}

static void check_bijection(uint64_t key, int64_t n, unsigned char *seen)
{
    memset(seen, 0, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        int64_t x = rng_permute(key, n, i);
        assert_true(x >= 0 && x < n);
        assert_int_equal(seen[x], 0);
        seen[x] = 1;
    }
}

static void permute_is_a_bijection(void **state)
{
    (void)state;
    static unsigned char seen[1 << 17];
    for (int64_t n = 1; n <= 300; n++)
        check_bijection(rng_key(7, RNG_TEST, (uint64_t)n), n, seen);
    const int64_t large[] = {4095, 4096, 4097, 65536, 65537, 100003, 1 << 17};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
        check_bijection(rng_key(8, RNG_TEST, i), large[i], seen);
}

static void permute_stays_in_range_for_huge_n(void **state)
{
    (void)state;
    const int64_t huge[] = {(int64_t)1 << 31, ((int64_t)1 << 40) + 17, ((int64_t)1 << 60) + 1};
    for (size_t h = 0; h < sizeof huge / sizeof huge[0]; h++) {
        for (int64_t i = 0; i < 1000; i++) {
            int64_t x = rng_permute(99, huge[h], huge[h] - 1 - i);
            assert_true(x >= 0 && x < huge[h]);
        }
    }
}

/* For 3 elements all 6 orders come about equally often over keys. */
static void permute_has_no_favourite_order(void **state)
{
    (void)state;
    int orders[27] = {0};
    const int keys = 12000;
    for (int k = 0; k < keys; k++) {
        uint64_t key = rng_key(1, RNG_TEST, (uint64_t)k);
        int64_t a = rng_permute(key, 3, 0), b = rng_permute(key, 3, 1), c = rng_permute(key, 3, 2);
        orders[a * 9 + b * 3 + c]++;
    }
    int kinds = 0;
    for (int i = 0; i < 27; i++) {
        kinds += orders[i] > 0;
        if (orders[i] > 0) /* 2000 expected, 5 standard deviations are 204 */
            assert_in_range(orders[i], 1796, 2204);
    }
    assert_int_equal(kinds, 6);
}

static void uniform_covers_zero_to_below_one(void **state)
{
    (void)state;
    assert_true(rng_uniform(0, 0) == 0.0);
    assert_true(rng_uniform(UINT32_MAX, UINT32_MAX) == 1.0 - 0x1p-53);
    assert_true(rng_uniform(0x80000000u, 0) == 0.5);
}

static void normal_has_the_moments_of_a_standard_normal(void **state)
{
    (void)state;
    const int n = 200000;
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int i = 0; i < n; i++) {
        double x = rng_normal(rng_key(3, RNG_TEST, 0), 5, (uint64_t)i);
        assert_true(isfinite(x));
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
    }
    /* five standard errors: sqrt(var / n) with var 1, 2, 15, 96 */
    assert_true(fabs(m1 / n) < 5 * sqrt(1.0 / n));
    assert_true(fabs(m2 / n - 1) < 5 * sqrt(2.0 / n));
    assert_true(fabs(m3 / n) < 5 * sqrt(15.0 / n));
    assert_true(fabs(m4 / n - 3) < 5 * sqrt(96.0 / n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(keys_of_different_seed_purpose_or_step_differ),
        cmocka_unit_test(permute_is_a_bijection),
        cmocka_unit_test(permute_stays_in_range_for_huge_n),
        cmocka_unit_test(permute_has_no_favourite_order),
        cmocka_unit_test(uniform_covers_zero_to_below_one),
        cmocka_unit_test(normal_has_the_moments_of_a_standard_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

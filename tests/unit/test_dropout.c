/* Dropout masks: the published counter scheme, their rate, and what they do not depend on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after what cmocka needs */
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/rng.h"
#include "trainer/model/dropout.h"

static const uint64_t key = 0x0123456789abcdefu;
static const int64_t sample = ((int64_t)3 << 40) | 77;

static uint16_t expected_lane(int32_t depth, uint32_t site, int64_t element)
{
    struct rng_block b = rng_philox(key, (uint32_t)(element / 8), (uint32_t)depth << 8 | site,
                                    (uint32_t)sample, (uint32_t)((uint64_t)sample >> 32));
    int lane = (int)(element % 8);
    return (uint16_t)(b.v[lane / 2] >> (lane % 2 * 16));
}

static void lanes_are_those_of_philox(void **state)
{
    (void)state;
    struct dropout d = dropout_make(0.1, key, 5, DROPOUT_FEED_FORWARD);
    uint16_t buffer[700 + DROPOUT_SLACK];
    static const int64_t firsts[] = {0, 1, 7, 8, 13, 1000, 123456789}, counts[] = {1, 5, 128, 700};
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            const uint16_t *lane = dropout_lanes(&d, sample, firsts[f], counts[c], buffer);
            for (int64_t i = 0; i < counts[c]; i++)
                assert_int_equal(lane[i], expected_lane(5, DROPOUT_FEED_FORWARD, firsts[f] + i));
        }
    }
}

static void any_cut_gives_the_same_mask(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct dropout d = dropout_make(0.3, key, 1, DROPOUT_ATTENTION);
    float *x = malloc(COUNT * sizeof *x), *whole = malloc(COUNT * sizeof *x);
    float *cut = malloc(COUNT * sizeof *x);
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)i;
    dropout_apply(&d, sample, 11, COUNT, x, whole);
    for (int64_t i = 0, n = 1; i < COUNT; i += n, n = n * 3 % 977) {
        int64_t count = n < COUNT - i ? n : COUNT - i;
        dropout_apply(&d, sample, 11 + i, count, x + i, cut + i);
    }
    assert_memory_equal(whole, cut, COUNT * sizeof *x);
    dropout_apply(&d, sample, 11, COUNT, x, x); /* in place */
    assert_memory_equal(whole, x, COUNT * sizeof *x);
    free(x);
    free(whole);
    free(cut);
}

static void kept_share_and_scale_agree(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    static const double rates[] = {0.1, 0.5, 0.9};
    float *x = malloc(COUNT * sizeof *x);
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        struct dropout d = dropout_make(rates[r], key, 2, DROPOUT_PROJECTION);
        int64_t kept = 0;
        for (int i = 0; i < COUNT; i++)
            x[i] = 1;
        dropout_apply(&d, sample, 0, COUNT, x, x);
        for (int i = 0; i < COUNT; i++) {
            assert_true(x[i] == 0 || x[i] == d.scale);
            kept += x[i] != 0;
        }
        double p = 1 - rates[r], sigma = sqrt(p * (1 - p) / COUNT);
        assert_true(fabs((double)kept / COUNT - p) < 5 * sigma + 1e-5);
        double exact = (65536.0 - d.threshold) / 65536.0; /* scale is its reciprocal */
        assert_true(fabs((double)d.scale * exact - 1) < 1e-7);
    }
    free(x);
}

static void rate_zero_changes_nothing(void **state)
{
    (void)state;
    struct dropout d = dropout_make(0, key, 2, DROPOUT_PROJECTION);
    float x[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, y[9];
    assert_int_equal(d.threshold, 0);
    dropout_apply(&d, sample, 0, 9, x, y);
    assert_memory_equal(x, y, sizeof x);
}

static void a_rate_near_one_keeps_the_scale_finite(void **state)
{
    (void)state;
    struct dropout d = dropout_make(0.9999999, key, 2, DROPOUT_PROJECTION);
    assert_int_equal(d.threshold, 65535);
    assert_true(d.scale == 65536);
}

static void sites_depths_samples_and_keys_differ(void **state)
{
    (void)state;
    struct dropout d[4] = {dropout_make(0.1, key, 1, DROPOUT_PROJECTION),
                           dropout_make(0.1, key, 1, DROPOUT_FEED_FORWARD),
                           dropout_make(0.1, key, 2, DROPOUT_PROJECTION),
                           dropout_make(0.1, key + 1, 1, DROPOUT_PROJECTION)};
    uint16_t first[64 + DROPOUT_SLACK], other[64 + DROPOUT_SLACK];
    dropout_lanes(&d[0], sample, 0, 64, first);
    for (int i = 1; i < 4; i++) {
        dropout_lanes(&d[i], sample, 0, 64, other);
        assert_memory_not_equal(first, other, 64 * sizeof *first);
    }
    dropout_lanes(&d[0], sample + 1, 0, 64, other);
    assert_memory_not_equal(first, other, 64 * sizeof *first);
}

static void a_batch_gives_each_sentence_its_own_mask(void **state)
{
    (void)state;
    enum { H = 5 };
    struct dropout d = dropout_make(0.4, key, 0, DROPOUT_EMBEDDING);
    struct batch b;
    float x[6 * H], alone[4 * H];
    assert_int_equal(batch_create(&b, 2, 6, 0), MT_OK);
    b.B = 2;
    b.N = 6;
    b.offsets[1] = 2;
    b.offsets[2] = 6;
    b.sample[0] = 1;
    b.sample[1] = sample;
    for (int i = 0; i < 6 * H; i++)
        x[i] = 1;
    for (int i = 0; i < 4 * H; i++)
        alone[i] = 1;
    dropout_apply_batch(&d, &b, H, x);
    dropout_apply(&d, sample, 0, 4 * H, alone, alone);
    assert_memory_equal(x + 2 * H, alone, sizeof alone);
    batch_destroy(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_are_those_of_philox),
        cmocka_unit_test(any_cut_gives_the_same_mask),
        cmocka_unit_test(kept_share_and_scale_agree),
        cmocka_unit_test(rate_zero_changes_nothing),
        cmocka_unit_test(a_rate_near_one_keeps_the_scale_finite),
        cmocka_unit_test(sites_depths_samples_and_keys_differ),
        cmocka_unit_test(a_batch_gives_each_sentence_its_own_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

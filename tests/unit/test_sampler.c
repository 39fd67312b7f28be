#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "io/sampler.h"

enum { ROWS_MAX = 4096, BATCH_MAX = 512 };

static struct sampler_spec spec_of(const int64_t *rows, int32_t sets, int32_t batch)
{
    return (struct sampler_spec){
        .seed = 42, .set_count = sets, .rows = rows, .batch_sentences = batch};
}

static int64_t total_of(const struct sampler_spec *spec)
{
    int64_t total = 0;
    for (int32_t k = 0; k < spec->set_count; k++)
        total += spec->rows[k];
    return total;
}

/* Runs one proportional epoch from *step; seen[set][row] must be 1 for every row. */
static void check_epoch(const struct sampler_spec *spec, int64_t *step, struct sampler_state *s)
{
    static uint8_t seen[8][ROWS_MAX];
    struct sample samples[BATCH_MAX];
    int64_t steps = sampler_steps_per_epoch(spec), total = total_of(spec), drawn = 0;
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < steps; i++) {
        int32_t count = -1;
        sampler_step(spec, (*step)++, s, s, samples, &count);
        int64_t left = total - drawn;
        assert_int_equal(count, left < spec->batch_sentences ? left : spec->batch_sentences);
        for (int32_t j = 0; j < count; j++) {
            assert_in_range(samples[j].set, 0, spec->set_count - 1);
            assert_in_range(samples[j].row, 0, spec->rows[samples[j].set] - 1);
            assert_int_equal(seen[samples[j].set][samples[j].row]++, 0);
        }
        drawn += count;
    }
    assert_int_equal(drawn, total);
}

static void a_proportional_epoch_has_every_row_exactly_once(void **state)
{
    (void)state;
    const int64_t sizes[][4] = {{1, 0, 0, 0},  {1, 1, 1, 1},    {100, 7, 0, 33}, {64, 64, 0, 0},
                                {0, 0, 0, 50}, {1000, 3, 1, 0}, {63, 1, 512, 9}};
    const int32_t batches[] = {1, 2, 7, 32, 64, 512};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            struct sampler_spec spec = spec_of(sizes[i], 4, batches[b]);
            struct sampler_state s = {0};
            int64_t step = 0;
            assert_int_equal(sampler_check(&spec), MT_OK);
            for (int epoch = 0; epoch < 3; epoch++) {
                check_epoch(&spec, &step, &s);
                assert_true(sampler_epoch(&spec, &s) == epoch + 1);
            }
            for (int32_t k = 0; k < 4; k++)
                assert_int_equal(s.drawn[k], 3 * sizes[i][k]);
        }
    }
}

static void every_mode_passes_over_each_set_row_by_row(void **state)
{
    (void)state;
    static uint8_t seen[3][ROWS_MAX];
    const int64_t rows[] = {37, 5, 200};
    const double weights[] = {0.2, 0.5, 0.3};
    for (int mode = 0; mode < SAMPLING_COUNT; mode++) {
        struct sampler_spec spec = spec_of(rows, 3, 16);
        spec.sampling = (enum sampling)mode;
        spec.temperature = 2;
        spec.weights = weights;
        assert_int_equal(sampler_check(&spec), MT_OK);
        struct sampler_state s = {0};
        int64_t in_pass[3] = {0};
        memset(seen, 0, sizeof seen);
        for (int64_t step = 0; step < 200; step++) {
            struct sample samples[16];
            int32_t count;
            sampler_step(&spec, step, &s, &s, samples, &count);
            for (int32_t j = 0; j < count; j++) {
                int32_t k = samples[j].set;
                assert_int_equal(seen[k][samples[j].row]++, 0);
                if (++in_pass[k] == rows[k]) { /* the next pass begins */
                    memset(seen[k], 0, sizeof seen[k]);
                    in_pass[k] = 0;
                }
            }
        }
    }
}

static void only_the_last_step_of_a_proportional_epoch_is_short(void **state)
{
    (void)state;
    const int64_t rows[] = {10, 9};
    for (int mode = 0; mode < SAMPLE_EXPLICIT; mode++) {
        struct sampler_spec spec = spec_of(rows, 2, 8);
        spec.sampling = (enum sampling)mode;
        spec.temperature = 1;
        struct sampler_state s = {0};
        for (int64_t step = 0; step < 12; step++) {
            struct sample samples[8];
            int32_t count;
            sampler_step(&spec, step, &s, &s, samples, &count);
            bool last = mode == SAMPLE_PROPORTIONAL && step % 3 == 2;
            assert_int_equal(count, last ? 3 : 8);
        }
    }
}

static void resuming_at_any_step_gives_the_same_samples(void **state)
{
    (void)state;
    enum { STEPS = 60 };
    const int64_t rows[] = {50, 0, 21, 300};
    const double weights[] = {1, 0, 1, 5};
    for (int mode = 0; mode < SAMPLING_COUNT; mode++) {
        struct sampler_spec spec = spec_of(rows, 4, 13);
        spec.sampling = (enum sampling)mode;
        spec.temperature = 3;
        spec.weights = weights;
        static struct sampler_state states[STEPS + 1];
        static struct sample first[STEPS][13];
        int32_t counts[STEPS];
        memset(states, 0, sizeof states);
        for (int i = 0; i < STEPS; i++)
            sampler_step(&spec, 1000 + i, &states[i], &states[i + 1], first[i], &counts[i]);
        for (int from = 0; from < STEPS; from += 7) {
            struct sampler_state s = states[from];
            for (int i = from; i < STEPS; i++) {
                struct sample again[13] = {{0}};
                int32_t count;
                sampler_step(&spec, 1000 + i, &s, &s, again, &count);
                assert_int_equal(count, counts[i]);
                for (int32_t j = 0; j < count; j++) {
                    assert_int_equal(again[j].set, first[i][j].set);
                    assert_int_equal(again[j].row, first[i][j].row);
                }
                assert_memory_equal(&s, &states[i + 1], sizeof s);
            }
        }
    }
}

/* Counts draws per set and compares them with p within five standard deviations. */
static void check_shares(const struct sampler_spec *spec, const double *p)
{
    enum { STEPS = 2000 };
    int64_t drawn[MT_SETS_MAX] = {0};
    struct sampler_state s = {0};
    assert_int_equal(sampler_check(spec), MT_OK);
    for (int64_t step = 0; step < STEPS; step++) {
        struct sample samples[BATCH_MAX];
        int32_t count;
        sampler_step(spec, step, &s, &s, samples, &count);
        for (int32_t j = 0; j < count; j++)
            drawn[samples[j].set]++;
    }
    double n = (double)STEPS * spec->batch_sentences;
    for (int32_t k = 0; k < spec->set_count; k++) {
        double bound = 5 * sqrt(n * p[k] * (1 - p[k]));
        assert_true(fabs((double)drawn[k] - n * p[k]) <= bound);
        assert_int_equal(s.drawn[k], drawn[k]);
    }
}

static void sets_are_drawn_with_their_probabilities(void **state)
{
    (void)state;
    const int64_t rows[] = {900, 0, 100, 25};
    struct sampler_spec spec = spec_of(rows, 4, 32);
    spec.sampling = SAMPLE_UNIFORM;
    check_shares(&spec, (const double[]){1.0 / 3, 0, 1.0 / 3, 1.0 / 3});
    spec.sampling = SAMPLE_TEMPERATURE;
    spec.temperature = 2; /* 30 : 10 : 5 */
    check_shares(&spec, (const double[]){30.0 / 45, 0, 10.0 / 45, 5.0 / 45});
    spec.temperature = 1;
    check_shares(&spec, (const double[]){900.0 / 1025, 0, 100.0 / 1025, 25.0 / 1025});
    spec.sampling = SAMPLE_EXPLICIT;
    spec.weights = (const double[]){3, 0, 0, 1};
    check_shares(&spec, (const double[]){0.75, 0, 0, 0.25});
}

static void a_proportional_epoch_mixes_its_sets_evenly(void **state)
{
    (void)state;
    const int64_t rows[] = {3000, 1000};
    struct sampler_spec spec = spec_of(rows, 2, 500);
    struct sampler_state s = {0};
    for (int64_t step = 0; step < 8; step++) {
        struct sample samples[BATCH_MAX];
        int32_t count, of_second = 0;
        sampler_step(&spec, step, &s, &s, samples, &count);
        for (int32_t j = 0; j < count; j++)
            of_second += samples[j].set == 1;
        /* hypergeometric: mean 125, variance 500 * 1/4 * 3/4 * 3500/3999 */
        assert_true(fabs(of_second - 125.0) <= 5 * sqrt(500 * 0.1875 * 3500 / 3999));
    }
}

static void orders_differ_between_epochs_sets_and_seeds(void **state)
{
    (void)state;
    const int64_t rows[] = {256, 256};
    struct sample a[BATCH_MAX], b[BATCH_MAX], c[BATCH_MAX];
    int32_t count;
    struct sampler_spec spec = spec_of(rows, 1, 256);
    struct sampler_state s = {0}, t = {0};
    sampler_step(&spec, 0, &s, &s, a, &count);
    sampler_step(&spec, 1, &s, &s, b, &count);
    spec.seed = 43;
    sampler_step(&spec, 0, &t, &t, c, &count);
    int same_epoch = 0, same_seed = 0, moved = 0;
    for (int i = 0; i < 256; i++) {
        same_epoch += a[i].row == b[i].row;
        same_seed += a[i].row == c[i].row;
        moved += a[i].row != i;
    }
    assert_true(same_epoch < 12 && same_seed < 12 && moved > 240);

    spec = spec_of(rows, 2, 512);
    memset(&s, 0, sizeof s);
    sampler_step(&spec, 0, &s, &s, a, &count);
    int64_t order[2][256];
    int at[2] = {0}, same_set = 0;
    for (int i = 0; i < 512; i++)
        order[a[i].set][at[a[i].set]++] = a[i].row;
    for (int i = 0; i < 256; i++)
        same_set += order[0][i] == order[1][i];
    assert_true(same_set < 12);
}

static void restricted_sets_give_only_eligible_rows(void **state)
{
    (void)state;
    const int64_t list[] = {3, 14, 15, 92, 65000};
    const int64_t *const eligible[] = {list, NULL};
    const int64_t rows[] = {5, 4};
    struct sampler_spec spec = spec_of(rows, 2, 9);
    spec.eligible = eligible;
    struct sampler_state s = {0};
    struct sample samples[9];
    int32_t count;
    sampler_step(&spec, 0, &s, &s, samples, &count);
    int found[5] = {0};
    for (int j = 0; j < 9; j++)
        for (int i = 0; samples[j].set == 0 && i < 5; i++)
            found[i] += samples[j].row == list[i];
    for (int i = 0; i < 5; i++)
        assert_int_equal(found[i], 1);
}

static void a_phase_with_another_mix_or_other_rows_goes_on_cleanly(void **state)
{
    (void)state;
    int64_t rows[] = {40, 100};
    struct sampler_spec spec = spec_of(rows, 2, 10);
    struct sampler_state s = {0};
    struct sample samples[10];
    int32_t count;
    int64_t step = 0;
    spec.sampling = SAMPLE_UNIFORM;
    for (; step < 33; step++)
        sampler_step(&spec, step, &s, &s, samples, &count);
    spec.sampling = SAMPLE_PROPORTIONAL; /* first the rest of the passes under way */
    int64_t rest = 2 * 140 - s.taken[0] - s.taken[1] - 140;
    while (rest > 0) {
        sampler_step(&spec, step++, &s, &s, samples, &count);
        assert_int_equal(count, rest < 10 ? rest : 10);
        rest -= count;
    }
    assert_int_equal(rest, 0);
    check_epoch(&spec, &step, &s);
    sampler_step(&spec, step++, &s, &s, samples, &count);
    rows[0] = 23; /* another task set: fewer rows count */
    rows[1] = 77;
    check_epoch(&spec, &step, &s);
    rows[0] = 0;
    check_epoch(&spec, &step, &s);
}

static void steps_per_epoch_follow_the_largest_set(void **state)
{
    (void)state;
    const int64_t rows[] = {1000, 100};
    struct sampler_spec spec = spec_of(rows, 2, 32);
    assert_int_equal(sampler_steps_per_epoch(&spec), 35); /* 1100 / 32 */
    spec.sampling = SAMPLE_UNIFORM;
    assert_int_equal(sampler_steps_per_epoch(&spec), 63); /* 1000 / 16 */
    spec.sampling = SAMPLE_EXPLICIT;
    spec.weights = (const double[]){0, 1};
    assert_int_equal(sampler_steps_per_epoch(&spec), 4); /* the large set is not in use */
    spec.batch_sentences = 50;
    assert_int_equal(sampler_steps_per_epoch(&spec), 2);
    struct sampler_state s = {.drawn = {0, 150}};
    assert_true(sampler_epoch(&spec, &s) == 1.5);
}

static void specs_that_cannot_work_are_refused(void **state)
{
    (void)state;
    const int64_t rows[] = {10, 0}, none[] = {0, 0}, negative[] = {-1, 5};
    struct sampler_spec good = spec_of(rows, 2, 4), bad;
    assert_int_equal(sampler_check(&good), MT_OK);
    bad = good;
    bad.rows = none;
    assert_int_equal(sampler_check(&bad), MT_CONFIG);
    bad.rows = negative;
    assert_int_equal(sampler_check(&bad), MT_CONFIG);
    bad = good;
    bad.batch_sentences = 0;
    assert_int_equal(sampler_check(&bad), MT_CONFIG);
    bad = good;
    bad.set_count = MT_SETS_MAX + 1;
    assert_int_equal(sampler_check(&bad), MT_CONFIG);
    bad = good;
    bad.sampling = SAMPLE_TEMPERATURE;
    const double temperatures[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        bad.temperature = temperatures[i];
        assert_int_equal(sampler_check(&bad), MT_CONFIG);
    }
    bad.sampling = SAMPLE_EXPLICIT;
    const double weights[][2] = {{0, 0}, {-1, 0}, {NAN, 0}, {1, 1}};
    for (int i = 0; i < 4; i++) {
        bad.weights = weights[i];
        assert_int_equal(sampler_check(&bad), MT_CONFIG);
    }
    bad.weights = (const double[]){1, 0};
    assert_int_equal(sampler_check(&bad), MT_OK);
}

static void damaged_states_are_refused(void **state)
{
    (void)state;
    struct sampler_state s = {0};
    assert_int_equal(sampler_state_check(&s), MT_OK);
    s.drawn[63] = -1;
    assert_int_equal(sampler_state_check(&s), MT_DATA);
    s.drawn[63] = INT64_MAX;
    assert_int_equal(sampler_state_check(&s), MT_DATA);
    s.drawn[63] = 0;
    s.taken[0] = -5;
    assert_int_equal(sampler_state_check(&s), MT_DATA);
}

static void names_of_modes_parse_back(void **state)
{
    (void)state;
    enum sampling mode;
    for (int i = 0; i < SAMPLING_COUNT; i++) {
        assert_true(sampling_parse(&mode, sampling_name((enum sampling)i)));
        assert_int_equal(mode, i);
    }
    assert_false(sampling_parse(&mode, "Uniform"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_proportional_epoch_has_every_row_exactly_once),
        cmocka_unit_test(every_mode_passes_over_each_set_row_by_row),
        cmocka_unit_test(only_the_last_step_of_a_proportional_epoch_is_short),
        cmocka_unit_test(resuming_at_any_step_gives_the_same_samples),
        cmocka_unit_test(sets_are_drawn_with_their_probabilities),
        cmocka_unit_test(a_proportional_epoch_mixes_its_sets_evenly),
        cmocka_unit_test(orders_differ_between_epochs_sets_and_seeds),
        cmocka_unit_test(restricted_sets_give_only_eligible_rows),
        cmocka_unit_test(a_phase_with_another_mix_or_other_rows_goes_on_cleanly),
        cmocka_unit_test(steps_per_epoch_follow_the_largest_set),
        cmocka_unit_test(specs_that_cannot_work_are_refused),
        cmocka_unit_test(damaged_states_are_refused),
        cmocka_unit_test(names_of_modes_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

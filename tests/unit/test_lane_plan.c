#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/lane_plan.h"

enum { CAPACITY = 512 };

static void random_lengths(struct sample *samples, int32_t count, int32_t longest, uint64_t key)
{
    for (int32_t i = 0; i < count; i++) {
        uint32_t bits = rng_philox(key, (uint32_t)i, 0, 0, 0).v[0];
        samples[i] = (struct sample){.length_tokens = 1 + (int32_t)(bits % (uint32_t)longest)};
    }
}

static void check_plan(const struct lane_plan *p, const struct sample *samples, int32_t count,
                       int32_t longest)
{
    uint8_t seen[CAPACITY] = {0};
    int64_t total = 0, fullest = 0, emptiest = INT64_MAX;
    assert_int_equal(p->first[0], 0);
    assert_int_equal(p->first[p->lanes], count);
    for (int32_t l = 0; l < p->lanes; l++) {
        int64_t tokens = 0;
        assert_true(p->first[l] <= p->first[l + 1]);
        for (int32_t j = p->first[l]; j < p->first[l + 1]; j++) {
            assert_int_equal(seen[p->slot[j]]++, 0);
            tokens += samples[p->slot[j]].length_tokens;
            if (j > p->first[l])
                assert_true(samples[p->slot[j - 1]].length_tokens >=
                            samples[p->slot[j]].length_tokens);
        }
        assert_int_equal(p->tokens[l], tokens);
        total += tokens;
        fullest = tokens > fullest ? tokens : fullest;
        emptiest = tokens < emptiest ? tokens : emptiest;
    }
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(p->total_tokens, total);
    assert_true(fullest - emptiest <= longest);
    assert_true(fullest <= lane_plan_tokens_bound(p->lanes, count > 0 ? count : 1, longest));
}

static void every_sentence_is_on_one_lane_and_lanes_are_balanced(void **state)
{
    (void)state;
    const int32_t lanes[] = {1, 2, 3, 8, 64}, counts[] = {0, 1, 7, 8, 9, 64, 500, 512};
    const int32_t longest[] = {1, 25, 512};
    struct sample samples[CAPACITY];
    for (size_t l = 0; l < 5; l++) {
        struct lane_plan p;
        assert_int_equal(lane_plan_create(&p, lanes[l], CAPACITY), MT_OK);
        for (size_t c = 0; c < 8; c++) {
            for (size_t n = 0; n < 3; n++) {
                random_lengths(samples, counts[c], longest[n], rng_key(1, RNG_TEST, c * 3 + n));
                lane_plan_make(&p, samples, counts[c]);
                check_plan(&p, samples, counts[c], longest[n]);
            }
        }
        lane_plan_destroy(&p);
    }
}

static void sixty_four_sentences_spread_within_a_tenth(void **state)
{
    (void)state;
    struct sample samples[64];
    struct lane_plan p;
    assert_int_equal(lane_plan_create(&p, 8, 64), MT_OK);
    for (uint64_t i = 0; i < 50; i++) {
        random_lengths(samples, 64, 50, rng_key(2, RNG_TEST, i));
        lane_plan_make(&p, samples, 64);
        assert_true(lane_plan_imbalance(&p) < 1.1);
    }
    lane_plan_destroy(&p);
}

static void ties_go_to_the_lower_slot_and_lane(void **state)
{
    (void)state;
    const int32_t lengths[] = {5, 9, 5, 5, 9, 1};
    struct sample samples[6];
    struct lane_plan p;
    for (int i = 0; i < 6; i++)
        samples[i] = (struct sample){.length_tokens = lengths[i]};
    /* 9 -> 0, 9 -> 1, 5 -> 2, 5 -> 3, 5 -> 2 (5 and 5: the lower), 1 -> 3 */
    assert_int_equal(lane_plan_create(&p, 4, 6), MT_OK);
    lane_plan_make(&p, samples, 6);
    const int32_t expect_slots[] = {1, 4, 0, 3, 2, 5}, expect_first[] = {0, 1, 2, 4, 6};
    assert_memory_equal(p.slot, expect_slots, sizeof expect_slots);
    assert_memory_equal(p.first, expect_first, sizeof expect_first);
    lane_plan_destroy(&p);
}

static void a_short_batch_leaves_lanes_empty(void **state)
{
    (void)state;
    struct sample samples[3] = {{.length_tokens = 4}, {.length_tokens = 2}, {.length_tokens = 3}};
    struct lane_plan p;
    assert_int_equal(lane_plan_create(&p, 8, 64), MT_OK);
    lane_plan_make(&p, samples, 3);
    for (int32_t l = 0; l < 8; l++)
        assert_int_equal(p.first[l + 1] - p.first[l], l < 3 ? 1 : 0);
    assert_true(lane_plan_imbalance(&p) == 8 * 4 / 9.0);
    lane_plan_make(&p, samples, 0);
    assert_true(lane_plan_imbalance(&p) == 1);
    lane_plan_destroy(&p);
}

static void planning_allocates_nothing(void **state)
{
    (void)state;
    struct sample samples[CAPACITY];
    struct lane_plan p;
    struct mt_memory_stats before, after;
    assert_int_equal(lane_plan_create(&p, 8, CAPACITY), MT_OK);
    random_lengths(samples, CAPACITY, 100, 5);
    mt_memory_stats(&before);
    lane_plan_make(&p, samples, CAPACITY);
    mt_memory_stats(&after);
    assert_int_equal(after.allocations, before.allocations);
    lane_plan_destroy(&p);
    lane_plan_destroy(&p);
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, 0);
}

static void lane_counts_out_of_range_are_refused(void **state)
{
    (void)state;
    struct lane_plan p;
    assert_int_equal(lane_plan_create(&p, 0, 64), MT_CONFIG);
    assert_int_equal(lane_plan_create(&p, LANE_PLAN_LANES_MAX + 1, 64), MT_CONFIG);
    assert_int_equal(lane_plan_create(&p, 8, 0), MT_CONFIG);
}

static void running_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 5; n++) {
        struct lane_plan p;
        struct mt_memory_stats after;
        mt_memory_fail_after(n);
        assert_int_equal(lane_plan_create(&p, 8, 64), MT_NOMEM);
        mt_memory_stats(&after);
        assert_int_equal(after.live_blocks, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sentence_is_on_one_lane_and_lanes_are_balanced),
        cmocka_unit_test(sixty_four_sentences_spread_within_a_tenth),
        cmocka_unit_test(ties_go_to_the_lower_slot_and_lane),
        cmocka_unit_test(a_short_batch_leaves_lanes_empty),
        cmocka_unit_test(planning_allocates_nothing),
        cmocka_unit_test(lane_counts_out_of_range_are_refused),
        cmocka_unit_test(running_out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

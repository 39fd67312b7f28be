/* Durations: what they mean, and that their text says the same. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schedules/duration.h"

static void units_mean_what_they_say(void **state)
{
    static const struct {
        const char *text;
        enum duration_unit unit;
        double amount;
    } cases[] = {
        {"500st", DURATION_STEPS, 500},    {"2ep", DURATION_EPOCHS, 2},
        {"0.3run", DURATION_RUN, 0.3},     {"0.1phase", DURATION_PHASE, 0.1},
        {"90min", DURATION_SECONDS, 5400}, {"1.5h", DURATION_SECONDS, 5400},
        {"30s", DURATION_SECONDS, 30},     {"2d", DURATION_SECONDS, 172800},
        {"1e5tok", DURATION_TOKENS, 1e5},  {".5ep", DURATION_EPOCHS, 0.5},
        {"0st", DURATION_STEPS, 0},        {"10 min", DURATION_SECONDS, 600},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct duration d = {0};
        assert_true(duration_parse(&d, cases[i].text));
        assert_int_equal(d.unit, cases[i].unit);
        assert_true(d.amount == cases[i].amount);
    }
}

static void anything_else_is_refused(void **state)
{
    static const char *const bad[] = {"",      "st",    "5",       "-1st",   "5steps",
                                      "nanst", "infep", "1e999st", "0x10st", "5st ",
                                      " 5st",  "5sts",  "1e308d",  "+3st"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct duration d = {0};
        assert_false(duration_parse(&d, bad[i]));
    }
}

static void printed_text_parses_to_the_same(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < 20000; i++) {
        struct duration d, back;
        d.unit = (enum duration_unit)(1 + random() % 6);
        d.amount = i % 3 == 0 ? (double)(random() % 100000)
                              : ldexp((double)random(), -(int)(random() % 40));
        char text[DURATION_TEXT_BYTES];
        duration_format(text, d);
        assert_true(duration_parse(&back, text));
        assert_int_equal(back.unit, d.unit);
        assert_true(back.amount == d.amount);
    }
}

static void steps_round_up_but_not_by_rounding_errors(void **state)
{
    const struct duration_scale s = {10, 1000, 30};
    (void)state;
    assert_int_equal(duration_steps((struct duration){DURATION_STEPS, 7}, &s), 7);
    assert_int_equal(duration_steps((struct duration){DURATION_EPOCHS, 0.3}, &s), 3);
    assert_int_equal(duration_steps((struct duration){DURATION_EPOCHS, 0.31}, &s), 4);
    assert_int_equal(duration_steps((struct duration){DURATION_RUN, 0.07}, &s), 70);
    assert_int_equal(duration_steps((struct duration){DURATION_PHASE, 0.1}, &s), 3);
    assert_int_equal(duration_steps((struct duration){DURATION_SECONDS, 10}, &s), -1);
    assert_int_equal(duration_steps((struct duration){DURATION_TOKENS, 10}, &s), -1);
    assert_int_equal(duration_steps((struct duration){DURATION_UNSET, 0}, &s), -1);
    const struct duration_scale unknown = {0};
    assert_int_equal(duration_steps((struct duration){DURATION_RUN, 0.5}, &unknown), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_mean_what_they_say),
        cmocka_unit_test(anything_else_is_refused),
        cmocka_unit_test(printed_text_parses_to_the_same),
        cmocka_unit_test(steps_round_up_but_not_by_rounding_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

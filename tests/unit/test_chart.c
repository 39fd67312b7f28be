#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "io/chart.h"
#include "tests/support/xml_check.h"

static struct markup page;

static int begin(void **state)
{
    (void)state;
    markup_init(&page, 1 << 22, "the page");
    return 0;
}

static int end(void **state)
{
    (void)state;
    markup_release(&page);
    struct mt_memory_stats m;
    mt_memory_stats(&m);
    return m.live_blocks == 0 ? 0 : -1;
}

static void assert_number(const char *expected, double value, int digits)
{
    char text[MARKUP_NUMBER_BYTES];
    markup_format_number(text, value, digits);
    assert_string_equal(text, expected);
}

static void numbers_read_well(void **state)
{
    (void)state;
    assert_number("0", 0, 6);
    assert_number("0.3", 0.1 + 0.2, 6);
    assert_number("-2.5", -2.5, 6);
    assert_number("1500", 1500, 6);
    assert_number("9999", 9999, 6);
    assert_number("12.5k", 12500, 6);
    assert_number("1M", 1e6, 6);
    assert_number("1M", 999999.9, 3);
    assert_number("3.2M", 3.2e6, 3);
    assert_number("1.5G", 1.5e9, 3);
    assert_number("5e-5", 5e-5, 6);
    assert_number("-1.23e-4", -0.0001234, 3);
    assert_number("0.00123", 0.0012345, 3);
    assert_number("0.123", 0.12345, 3);
    assert_number("1e20", 1e20, 3);
    assert_number("1.8e308", 1.797e308, 2);
    assert_number("-", NAN, 3);
    assert_number("-", INFINITY, 3);
}

static void counts_are_grouped(void **state)
{
    (void)state;
    static const struct {
        int64_t value;
        const char *text;
    } CASES[] = {{0, "0"},
                 {999, "999"},
                 {1000, "1,000"},
                 {109482240, "109,482,240"},
                 {-5, "-5"},
                 {-1234, "-1,234"},
                 {-123456, "-123,456"},
                 {INT64_MIN, "-9,223,372,036,854,775,808"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char text[MARKUP_NUMBER_BYTES];
        markup_format_count(text, CASES[i].value);
        assert_string_equal(text, CASES[i].text);
    }
}

static void ticks_are_round_and_inside(void **state)
{
    (void)state;
    static const double RANGES[][2] = {{0, 1},       {0, 15000},  {-3.7, 9.2}, {0.912, 0.9345},
                                       {1e-9, 2e-9}, {-1e9, 1e9}, {5, 5.0001}};
    for (size_t r = 0; r < sizeof RANGES / sizeof *RANGES; r++) {
        double t[32], low = RANGES[r][0], high = RANGES[r][1];
        int32_t n = chart_ticks(t, 32, low, high, 6);
        assert_in_range(n, 3, 13);
        double step = t[1] - t[0], mantissa = step / pow(10, floor(log10(step) + 1e-9));
        assert_true(fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 ||
                    fabs(mantissa - 5) < 1e-6);
        for (int32_t i = 0; i < n; i++)
            assert_true(t[i] >= low - 1e-6 * step && t[i] <= high + 1e-6 * step);
    }
    double t[4];
    assert_int_equal(chart_ticks(t, 4, 1, 1, 5), 0);
    assert_int_equal(chart_ticks(t, 4, NAN, 1, 5), 0);
    assert_int_equal(chart_ticks(t, 4, -1e308, 1e308, 5), 0);
    assert_int_equal(chart_ticks(t, 4, 1e300, 1e300 * (1 + 1e-15), 5), 0);
    assert_in_range(chart_ticks(t, 4, 0, 100, 1000), 0, 4);
}

static void text_is_escaped_wherever_it_comes_from(void **state)
{
    (void)state;
    const char *evil = "</svg><script>\"'&\x01\xff\xed\xa0\x80 gr\xc3\xbc\xc3\x9f";
    double x[] = {1, 2}, y[] = {1, 2};
    struct chart_series s[] = {{.name = evil, .x = x, .y = y, .count = 2}};
    struct chart_band b[] = {{1, 2, evil}};
    chart_add(&page, &(struct chart_spec){.title = evil,
                                          .x_label = evil,
                                          .y_label = evil,
                                          .series = s,
                                          .series_count = 1,
                                          .bands = b,
                                          .band_count = 1});
    const char *names[] = {evil, evil};
    chart_add(&page, &(struct chart_spec){.title = "bars",
                                          .series = s,
                                          .series_count = 1,
                                          .categories = names,
                                          .category_count = 2});
    double rate[] = {0, 1e-3};
    chart_layers_add(&page, &(struct chart_layers){.title = evil,
                                                   .row_names = names,
                                                   .row_count = 2,
                                                   .phases = b,
                                                   .phase_count = 1,
                                                   .rate = rate});
    assert_int_equal(markup_check(&page), MT_OK);
    assert_true(xml_is_well_formed(markup_text(&page)));
    assert_null(strstr(markup_text(&page), "<script"));
    assert_int_equal(text_occurrences(markup_text(&page), "</svg>"), 3);
    assert_non_null(strstr(markup_text(&page), "gr\xc3\xbc\xc3\x9f"));
}

static void values_that_are_not_finite_make_gaps(void **state)
{
    (void)state;
    double x[] = {0, 1, 2, 3, 4, 5, 6, 7}, y[] = {1, 2, NAN, 3, INFINITY, 5, 4, 1e200};
    struct chart_series s[] = {{.name = "a", .x = x, .y = y, .count = 8}};
    chart_add(&page, &(struct chart_spec){.series = s, .series_count = 1});
    const char *text = markup_text(&page), *d = strstr(text, "data-name=\"a\" d=\"");
    assert_true(xml_is_well_formed(text));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    char path[512] = "";
    sscanf(d, "data-name=\"a\" d=\"%511[^\"]", path);
    assert_int_equal(text_occurrences(path, "M"), 3);
    assert_int_equal(text_occurrences(path, "L"), 2);
    assert_int_equal(text_occurrences(text, "<circle"), 1); /* the point that stands alone */
}

static void a_logarithmic_axis_leaves_out_what_is_not_positive(void **state)
{
    (void)state;
    double x[] = {0, 1, 2, 3}, y[] = {1e-9, 0, -5, 1};
    struct chart_series s[] = {{.name = "a", .x = x, .y = y, .count = 4}};
    chart_add(&page, &(struct chart_spec){.series = s, .series_count = 1, .log_y = true});
    const char *text = markup_text(&page);
    assert_true(xml_is_well_formed(text));
    assert_non_null(strstr(text, " log\""));
    assert_non_null(strstr(text, ">1e-4<"));
    assert_null(strstr(text, ">1e-9<")); /* five decades are shown */
    assert_int_equal(text_occurrences(text, "<circle"), 2);
}

static void points_stay_inside_the_picture(void **state)
{
    (void)state;
    double x[100], y[100];
    for (int i = 0; i < 100; i++) {
        x[i] = i * 1e6;
        y[i] = 1e-7 * sin(i);
    }
    struct chart_series s[] = {{.name = "a", .kind = CHART_STEP, .x = x, .y = y, .count = 100}};
    chart_add(&page, &(struct chart_spec){.series = s, .series_count = 1});
    const char *p = strstr(markup_text(&page), " d=\"M");
    p = strstr(strstr(markup_text(&page), "data-name"), " d=\"") + 4;
    int points = 0;
    for (double px, py; *p != '"'; points++) {
        int used = 0;
        assert_int_equal(sscanf(p + 1, "%lf,%lf%n", &px, &py, &used), 2);
        assert_true(px >= 0 && px <= 640 && py >= 0 && py <= 300);
        p += 1 + used;
    }
    assert_int_equal(points, 199);
}

static void a_chart_without_values_says_so(void **state)
{
    (void)state;
    double x[] = {1}, y[] = {NAN};
    struct chart_series s[] = {{.name = "a", .x = x, .y = y, .count = 1}};
    chart_add(&page, &(struct chart_spec){.title = "t"});
    chart_add(&page, &(struct chart_spec){.title = "t", .series = s, .series_count = 1});
    chart_layers_add(&page, &(struct chart_layers){.title = "t"});
    assert_true(xml_is_well_formed(markup_text(&page)));
    assert_int_equal(text_occurrences(markup_text(&page), "no data"), 3);
}

static void one_point_and_constant_values_are_drawn(void **state)
{
    (void)state;
    double x[] = {7, 8}, y[] = {0, 0}, z[] = {1, 1};
    struct chart_series one[] = {{.name = "a", .x = x, .y = y, .count = 1}},
                        flat[] = {{.name = "b", .x = x, .y = z, .count = 2}};
    chart_add(&page, &(struct chart_spec){.series = one, .series_count = 1});
    chart_add(&page, &(struct chart_spec){.series = flat, .series_count = 1});
    chart_add(&page,
              &(struct chart_spec){.series = flat, .series_count = 1, .y_unit_interval = true});
    chart_add(&page, &(struct chart_spec){.series = one, .series_count = 1, .y_from_zero = true});
    assert_true(xml_is_well_formed(markup_text(&page)));
    assert_null(strstr(markup_text(&page), "nan"));
    assert_null(strstr(markup_text(&page), "inf"));
    assert_null(strstr(markup_text(&page), "no data"));
}

static void a_picture_alone_brings_its_style_for_light_and_dark(void **state)
{
    (void)state;
    double x[] = {1, 2}, y[] = {1, 2};
    struct chart_series s[] = {{.name = "a", .x = x, .y = y, .count = 2}};
    chart_add(&page, &(struct chart_spec){.series = s, .series_count = 1, .standalone = true});
    assert_true(xml_is_well_formed(markup_text(&page)));
    assert_int_equal(text_occurrences(markup_text(&page), "prefers-color-scheme:dark"), 1);
    assert_int_equal(text_occurrences(markup_text(&page), "xmlns="), 1);
}

static void layers_of_one_rate_are_one_rectangle(void **state)
{
    (void)state;
    const char *rows[26] = {"embeddings"};
    double rate[2 * 26] = {0};
    for (int i = 1; i < 26; i++)
        rows[i] = "layer";
    for (int i = 24; i < 26; i++)
        rate[i] = 1e-3;
    for (int i = 0; i < 26; i++)
        rate[26 + i] = 2e-5;
    struct chart_band phases[] = {{0, 100, "heads"}, {100, 300, "all"}};
    chart_layers_add(&page, &(struct chart_layers){.title = "layers",
                                                   .row_names = rows,
                                                   .row_count = 26,
                                                   .phases = phases,
                                                   .phase_count = 2,
                                                   .rate = rate});
    const char *text = markup_text(&page);
    assert_true(xml_is_well_formed(text));
    assert_int_equal(text_occurrences(text, "<title>"), 3);
    assert_int_equal(text_occurrences(text, "frozen</title>"), 1);
    assert_int_equal(text_occurrences(text, "train at 2e-5</title>"), 1);
}

static void the_text_stops_at_its_limit_and_says_so(void **state)
{
    (void)state;
    double x[] = {1, 2}, y[] = {1, 2};
    struct chart_series s[] = {{.name = "a", .x = x, .y = y, .count = 2}};
    struct markup small;
    markup_init(&small, 300, "a small page");
    chart_add(&small, &(struct chart_spec){.series = s, .series_count = 1});
    assert_int_equal(markup_check(&small), MT_NOMEM);
    assert_non_null(strstr(mt_error_peek()->message, "a small page"));
    assert_true(small.used_bytes <= 300);
    markup_release(&small);
    mt_memory_fail_after(1);
    markup_init(&small, 1 << 20, "a page");
    markup_add(&small, "x");
    mt_memory_fail_after(0);
    assert_int_equal(markup_check(&small), MT_NOMEM);
    markup_release(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_read_well, begin, end),
        cmocka_unit_test_setup_teardown(counts_are_grouped, begin, end),
        cmocka_unit_test_setup_teardown(ticks_are_round_and_inside, begin, end),
        cmocka_unit_test_setup_teardown(text_is_escaped_wherever_it_comes_from, begin, end),
        cmocka_unit_test_setup_teardown(values_that_are_not_finite_make_gaps, begin, end),
        cmocka_unit_test_setup_teardown(a_logarithmic_axis_leaves_out_what_is_not_positive, begin,
                                        end),
        cmocka_unit_test_setup_teardown(points_stay_inside_the_picture, begin, end),
        cmocka_unit_test_setup_teardown(a_chart_without_values_says_so, begin, end),
        cmocka_unit_test_setup_teardown(one_point_and_constant_values_are_drawn, begin, end),
        cmocka_unit_test_setup_teardown(a_picture_alone_brings_its_style_for_light_and_dark, begin,
                                        end),
        cmocka_unit_test_setup_teardown(layers_of_one_rate_are_one_rectangle, begin, end),
        cmocka_unit_test_setup_teardown(the_text_stops_at_its_limit_and_says_so, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

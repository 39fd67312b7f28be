#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/report.h"
#include "io/run_history.h"
#include "tests/support/test_dirs.h"
#include "tests/support/xml_check.h"

static char *events;
static size_t events_bytes;
static FILE *sink;

static void begin_events(void)
{
    sink = open_memstream(&events, &events_bytes);
    assert_non_null(sink);
}

static const char *end_events(void)
{
    fclose(sink);
    const char *path = test_write_file("metrics.jsonl", events, (long)events_bytes);
    free(events);
    return path;
}

static const char START[] =
    "{\"event\":\"start\",\"time\":1.7e9,\"iso\":\"x\",\"name\":\"a <b> & c\",\"ranks\":4,"
    "\"host\":\"node-01\",\"parameters\":11171845,\"resumed_from\":null}\n";

static void put_step(int step, double loss)
{
    fprintf(
        sink,
        "{\"event\":\"step\",\"time\":%d,\"step\":%d,\"phase\":\"heads\",\"loss\":%g,"
        "\"losses\":{\"category\":%g,\"sentiment\":%g},\"lr\":0.001,\"grad_norm\":1.5,"
        "\"tokens\":1000,\"tokens_per_s\":5000,\"wait_data_s\":0.001,\"wait_reduce_s\":0.002}\n",
        1700000000 + step, step, loss, loss / 2, loss / 2);
}

static void put_eval(int step, const char *task, double accuracy)
{
    fprintf(sink,
            "{\"event\":\"eval\",\"step\":%d,\"split\":\"dev\",\"task\":\"%s\",\"loss\":0.5,"
            "\"accuracy\":%g,\"f1_macro\":0.6,\"mcc\":0.4,\"confusion\":[[8,2],[1,%d]],"
            "\"labels\":[\"no\",\"<yes>\"]}\n",
            step, task, accuracy, step);
}

static char *read_report(void)
{
    char *bytes;
    int64_t count;
    assert_int_equal(report_write(test_dir()), MT_OK);
    assert_int_equal(file_read(&bytes, &count, test_path("report.html"), 1 << 26), MT_OK);
    assert_int_equal(strlen(bytes), count);
    return bytes;
}

static int leaves_nothing(void **state)
{
    (void)state;
    struct mt_memory_stats m;
    mt_memory_stats(&m);
    return m.live_blocks == 0 ? 0 : -1;
}

static void a_whole_run_becomes_one_page_of_its_own(void **state)
{
    (void)state;
    begin_events();
    fputs(START, sink);
    fputs("{\"event\":\"phase\",\"step\":0,\"phase\":\"heads\",\"index\":0,\"action\":\"begin\","
          "\"trainable_parameters\":1542,\"total_parameters\":11171845,\"until\":\"0.5run\"}\n",
          sink);
    for (int s = 1; s <= 100; s++) {
        put_step(s, 2.0 / s);
        if (s % 25 == 0) {
            put_eval(s, "category", 0.5 + s / 250.0);
            put_eval(s, "sentiment", 0.4 + s / 250.0);
        }
    }
    fputs("{\"event\":\"phase\",\"step\":100,\"phase\":\"heads\",\"action\":\"end\","
          "\"seconds\":61.5,\"reason\":\"0.5run\"}\n",
          sink);
    fputs("{\"event\":\"checkpoint\",\"step\":100,\"path\":\"checkpoints/step-00000100\","
          "\"seconds\":0.25,\"bytes\":134217728}\n",
          sink);
    fputs("{\"event\":\"warning\",\"step\":3,\"message\":\"loss <spike>\"}\n", sink);
    fputs("{\"event\":\"warning\",\"step\":9,\"message\":\"loss <spike>\"}\n", sink);
    fputs("{\"event\":\"done\",\"step\":100,\"seconds\":123.5,\"best_step\":100}\n", sink);
    (void)end_events();
    char *page = read_report();

    assert_non_null(strstr(page, "<title>a &lt;b&gt; &amp; c</title>"));
    assert_non_null(strstr(page, "11,171,845"));
    assert_non_null(strstr(page, "node-01"));
    assert_non_null(strstr(page, ">done</span>"));
    assert_non_null(strstr(page, "2023-11-14 22:13:20 UTC"));
    assert_non_null(strstr(page, "<td>heads</td><td class=\"n\">0</td><td class=\"n\">100</td>"
                                 "<td class=\"n\">1,542</td><td class=\"n\">0.01%</td>"));
    assert_non_null(strstr(page, "1m02s"));
    assert_non_null(strstr(page, "90.00%"));
    assert_non_null(strstr(page, "&lt;yes&gt;"));
    assert_non_null(strstr(page, "134,217,728"));
    assert_non_null(strstr(page, "<td>loss &lt;spike&gt;</td><td class=\"n\">2</td>"));
    assert_int_equal(text_occurrences(page, "<svg "), 8);
    assert_non_null(strstr(page, "data-name=\"sentiment, dev\""));
    assert_non_null(strstr(page, "From 115 events"));
    assert_null(strstr(page, "could not be read"));
    /* needs nothing from elsewhere */
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "href="));
    assert_null(strstr(page, "@import"));
    assert_null(strstr(page, "url("));
    /* well-formed between head and script */
    char *body = strstr(page, "<main>"), *end = strstr(page, "</main>");
    end[strlen("</main>")] = '\0';
    assert_true(xml_is_well_formed(body));
    mt_free(&page);
}

static void an_empty_file_and_an_unfinished_run_have_a_page(void **state)
{
    (void)state;
    (void)test_write_text("metrics.jsonl", "");
    char *page = read_report();
    assert_non_null(strstr(page, "no events"));
    mt_free(&page);
    (void)test_write_text("metrics.jsonl", START);
    page = read_report();
    assert_non_null(strstr(page, "running, or interrupted"));
    mt_free(&page);
    begin_events();
    fputs(START, sink);
    put_step(1, 1);
    fputs("{\"event\":\"stop\",\"step\":1,\"reason\":\"time limit\"}\n", sink);
    (void)end_events();
    page = read_report();
    assert_non_null(strstr(page, "stopped: time limit"));
    mt_free(&page);
}

static void a_missing_file_is_an_error_that_names_it(void **state)
{
    (void)state;
    assert_int_equal(file_remove(test_path("metrics.jsonl")), MT_OK);
    assert_int_equal(report_write(test_dir()), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "metrics.jsonl"));
}

static void a_torn_last_line_is_passed_over_in_silence(void **state)
{
    (void)state;
    begin_events();
    fputs(START, sink);
    put_step(1, 1);
    fputs("{\"event\":\"step\",\"step\":2,\"lo", sink);
    struct run_history h;
    assert_int_equal(run_history_read(&h, end_events()), MT_OK);
    assert_int_equal(h.lines, 2);
    assert_int_equal(h.bad_lines, 0);
    run_history_release(&h);
}

static void lines_that_are_no_events_are_counted(void **state)
{
    (void)state;
    begin_events();
    fputs("not json\n[1,2]\n{\"step\":3}\n\n\"x\"\n{\"event\":7}\n", sink);
    fputs("{\"event\":\"comet\",\"step\":1}\r\n", sink);
    put_step(1, 1);
    for (int i = 0; i < 5 << 20; i++)
        fputc('x', sink);
    fputs("\n", sink);
    put_step(2, 1);
    (void)end_events();
    struct run_history h;
    assert_int_equal(run_history_read(&h, test_path("metrics.jsonl")), MT_OK);
    assert_int_equal(h.lines, 3);
    assert_int_equal(h.bad_lines, 6);
    assert_int_equal(h.loss.count, 2);
    run_history_release(&h);
    char *page = read_report();
    assert_non_null(strstr(page, "6 lines could not be read"));
    mt_free(&page);
}

static void a_step_that_comes_again_replaces_what_followed(void **state)
{
    (void)state;
    begin_events();
    for (int s = 1; s <= 50; s++)
        put_step(s, 1);
    put_eval(40, "category", 0.9);
    for (int s = 31; s <= 60; s++)
        put_step(s, 2);
    put_eval(40, "category", 0.7);
    struct run_history h;
    assert_int_equal(run_history_read(&h, end_events()), MT_OK);
    assert_int_equal(h.loss.count, 60);
    for (int i = 0; i < 60; i++) {
        assert_true(h.loss.bucket[i].first == i + 1);
        assert_true(h.loss.bucket[i].sum == (i < 30 ? 1 : 2));
    }
    assert_int_equal(h.eval[0].accuracy.count, 1);
    assert_true(h.eval[0].accuracy.bucket[0].sum == 0.7);
    run_history_release(&h);
}

static void other_shapes_of_the_same_facts_are_understood(void **state)
{
    (void)state;
    begin_events();
    fputs("{\"event\":\"step\",\"step\":1,\"loss\":{\"total\":3,\"a\":1,\"b\":2},"
          "\"lr\":{\"x\":1e-5,\"y\":3e-5}}\n"
          "{\"event\":\"step\",\"step\":2,\"loss\":\"nan\",\"losses\":{\"a\":null},"
          "\"lr\":[1,5,2]}\n"
          "{\"event\":\"step\"}\n{\"event\":\"eval\",\"step\":2}\n{\"event\":\"phase\",\"step\":1,"
          "\"index\":4}\n{\"event\":\"checkpoint\"}\n{\"event\":\"warning\"}\n"
          "{\"event\":\"eval\",\"step\":3,\"task\":\"t\",\"confusion\":[[1],[2,3]]}\n"
          "{\"event\":\"eval\",\"step\":3,\"task\":\"u\",\"confusion\":[[1,-2],[2,3]]}\n",
          sink);
    (void)end_events();
    struct run_history h;
    assert_int_equal(run_history_read(&h, test_path("metrics.jsonl")), MT_OK);
    assert_int_equal(h.bad_lines, 0);
    assert_int_equal(h.task_count, 2);
    assert_true(h.loss.bucket[0].sum == 3 && h.loss.bucket[1].finite == 0);
    assert_true(h.rate.bucket[0].sum == 3e-5 && h.rate.bucket[1].sum == 5);
    assert_int_equal(h.task[1].loss.bucket[1].finite, 0);
    assert_string_equal(h.phase[0].name, "4");
    for (int i = 0; i < h.eval_count; i++)
        assert_int_equal(h.eval[i].classes, 0);
    run_history_release(&h);
    char *page = read_report();
    mt_free(&page);
}

static void waits_are_shares_of_the_time_of_the_tokens(void **state)
{
    (void)state;
    begin_events();
    fputs("{\"event\":\"start\",\"parameters\":2000}\n"
          "{\"event\":\"phase\",\"step\":0,\"phase\":\"p\",\"action\":\"begin\",\"planned_end\":90,"
          "\"trainable_parameters\":500}\n"
          "{\"event\":\"step\",\"step\":10,\"tokens\":4000,\"tokens_per_s\":2000,"
          "\"wait_s\":{\"data\":0.5,\"reduction\":1}}\n"
          "{\"event\":\"step\",\"step\":20,\"tokens\":1000,\"tokens_per_s\":1000,"
          "\"wait_data_s\":0.125}\n",
          sink);
    struct run_history h;
    assert_int_equal(run_history_read(&h, end_events()), MT_OK);
    assert_true(h.wait_data.bucket[0].sum == 0.25 && h.wait_reduce.bucket[0].sum == 0.5);
    assert_true(h.wait_data.bucket[1].sum == 0.125 && h.wait_reduce.bucket[1].finite == 0);
    assert_true(h.phase[0].total == 2000);
    assert_string_equal(h.phase[0].until, "step 90");
    run_history_release(&h);
}

static void a_phase_said_again_after_a_resume_goes_on(void **state)
{
    (void)state;
    static const char BEGIN[] = "{\"event\":\"phase\",\"step\":%d,\"phase\":\"%s\",\"action\":"
                                "\"%s\",\"time\":%d}\n";
    begin_events();
    fprintf(sink, BEGIN, 0, "heads", "begin", 100);
    fprintf(sink, BEGIN, 10, "heads", "end", 110);
    fprintf(sink, BEGIN, 10, "all", "begin", 110);
    fprintf(sink, BEGIN, 15, "all", "begin", 500);
    fprintf(sink, BEGIN, 20, "all", "end", 600);
    struct run_history h;
    assert_int_equal(run_history_read(&h, end_events()), MT_OK);
    assert_int_equal(h.phase_count, 2);
    assert_true(h.phase[1].begin_step == 10 && h.phase[1].end_step == 20);
    assert_true(h.phase[0].end_s - h.phase[0].begin_s == 10);
    run_history_release(&h);
}

static void long_curves_are_thinned_and_keep_their_spikes(void **state)
{
    (void)state;
    static double x[2 * CURVE_POINTS_MAX], y[2 * CURVE_POINTS_MAX];
    struct curve c = {0};
    const int n = 1000000;
    for (int i = 0; i < n; i++) {
        double v = i == 123456 ? 1e6 : i == 654321 ? -1e6 : 1;
        assert_int_equal(curve_add(&c, i, v), MT_OK);
    }
    int32_t points = curve_extremes(&c, x, y);
    assert_in_range(points, 900, REPORT_POINTS_MAX);
    double low = 0, high = 0;
    int64_t values = 0;
    for (int32_t i = 0; i < points; i++) {
        low = fmin(low, y[i]);
        high = fmax(high, y[i]);
        if (i > 0)
            assert_true(x[i] > x[i - 1]);
    }
    for (int32_t i = 0; i < c.count; i++)
        values += c.bucket[i].values;
    assert_true(low == -1e6 && high == 1e6 && values == n);
    assert_true(x[0] == 0 && x[points - 1] == n - 1);
    assert_in_range(curve_means(&c, x, y), 450, REPORT_POINTS_MAX);
    curve_release(&c);
    for (int i = 0; i < REPORT_POINTS_MAX; i++)
        assert_int_equal(curve_add(&c, i, i), MT_OK);
    assert_int_equal(curve_extremes(&c, x, y), REPORT_POINTS_MAX);
    assert_true(y[777] == 777);
    curve_release(&c);
}

static void tables_are_bounded_and_say_what_is_left_out(void **state)
{
    (void)state;
    begin_events();
    for (int i = 0; i < 1000; i++) {
        fprintf(sink, "{\"event\":\"checkpoint\",\"step\":%d,\"path\":\"c\"}\n", i);
        fprintf(sink, "{\"event\":\"warning\",\"message\":\"number %d\"}\n", i);
        fprintf(sink, "{\"event\":\"phase\",\"step\":%d,\"phase\":\"p%d\"}\n", i, i);
        fprintf(sink, "{\"event\":\"eval\",\"step\":%d,\"task\":\"t%d\",\"accuracy\":1}\n", i, i);
        fprintf(sink, "{\"event\":\"step\",\"step\":%d,\"loss\":1,\"losses\":{\"t%d\":1}}\n", i, i);
    }
    (void)end_events();
    char *page = read_report();
    assert_non_null(strstr(page, "The last 60; 940 came before."));
    assert_non_null(strstr(page, "900 more are in metrics.jsonl"));
    mt_free(&page);
}

static void a_write_that_fails_leaves_the_report_before(void **state)
{
    (void)state;
    begin_events();
    fputs(START, sink);
    put_step(1, 1);
    (void)end_events();
    char *before = read_report();
    mt_status st = MT_IO;
    for (int n = 1; st != MT_OK; n++) {
        assert_true(n < 60);
        file_fail_after(n);
        st = report_write(test_dir());
        file_fail_after(0);
        char *now;
        int64_t count;
        assert_int_equal(file_read(&now, &count, test_path("report.html"), 1 << 26), MT_OK);
        assert_string_equal(now, before);
        mt_free(&now);
    }
    st = MT_NOMEM;
    for (int n = 1; st != MT_OK; n++) {
        assert_true(n < 300);
        mt_memory_fail_after(n);
        st = report_write(test_dir());
        mt_memory_fail_after(0);
    }
    mt_free(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_whole_run_becomes_one_page_of_its_own, leaves_nothing),
        cmocka_unit_test_teardown(an_empty_file_and_an_unfinished_run_have_a_page, leaves_nothing),
        cmocka_unit_test_teardown(a_missing_file_is_an_error_that_names_it, leaves_nothing),
        cmocka_unit_test_teardown(a_torn_last_line_is_passed_over_in_silence, leaves_nothing),
        cmocka_unit_test_teardown(lines_that_are_no_events_are_counted, leaves_nothing),
        cmocka_unit_test_teardown(a_step_that_comes_again_replaces_what_followed, leaves_nothing),
        cmocka_unit_test_teardown(other_shapes_of_the_same_facts_are_understood, leaves_nothing),
        cmocka_unit_test_teardown(waits_are_shares_of_the_time_of_the_tokens, leaves_nothing),
        cmocka_unit_test_teardown(a_phase_said_again_after_a_resume_goes_on, leaves_nothing),
        cmocka_unit_test_teardown(long_curves_are_thinned_and_keep_their_spikes, leaves_nothing),
        cmocka_unit_test_teardown(tables_are_bounded_and_say_what_is_left_out, leaves_nothing),
        cmocka_unit_test_teardown(a_write_that_fails_leaves_the_report_before, leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

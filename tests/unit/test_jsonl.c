#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/jsonl.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static void append_event(struct jsonl *log, const char *event, int64_t step)
{
    struct json_writer *w = jsonl_begin(log, event);
    json_write_int(w, "step", step);
    expect_ok(jsonl_end(log));
}

/* "step:1 eval:2 " ... of all lines */
static void events_of(const char *path, char *out, size_t room)
{
    char *text;
    int64_t bytes;
    size_t at = 0;
    out[0] = '\0';
    expect_ok(file_read(&text, &bytes, path, 8 << 20));
    for (char *line = text; *line != '\0';) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        struct json_doc *doc;
        int64_t step;
        const char *event;
        expect_ok(json_doc_parse(&doc, line, end - line, path));
        expect_ok(json_read_string(json_doc_root(doc), "event", &event));
        expect_ok(json_read_int(json_doc_root(doc), "step", 0, 1000, &step));
        at += (size_t)snprintf(out + at, room - at, "%s:%d ", event, (int)step);
        json_doc_destroy(&doc);
        line = end + 1;
    }
    mt_free(&text);
}

static void an_event_is_one_line_with_its_time(void **state)
{
    (void)state;
    struct jsonl *log;
    struct json_doc *doc;
    char *text;
    int64_t bytes, n;
    double time, total;
    const char *iso;
    const char *path = test_path("m.jsonl");
    expect_ok(jsonl_open(&log, path));
    struct json_writer *w = jsonl_begin(log, "step");
    json_write_int(w, "step", 7);
    json_write_object(w, "loss");
    json_write_real(w, "total", (double)INFINITY);
    json_write_string(w, "note", "two\nlines");
    json_write_end(w);
    expect_ok(jsonl_end(log));
    jsonl_close(&log);
    expect_ok(file_read(&text, &bytes, path, 8 << 20));
    assert_true(strchr(text, '\n') == text + bytes - 1);
    expect_ok(json_doc_parse(&doc, text, bytes, path));
    expect_ok(json_read_int(json_doc_root(doc), "step", 7, 7, &n));
    expect_ok(json_read_real(json_doc_root(doc), "time", &time));
    expect_ok(json_read_string(json_doc_root(doc), "iso", &iso));
    expect_ok(json_read_real(json_node_get(json_doc_root(doc), "loss"), "total", &total));
    assert_true(time > 1.5e9 && strlen(iso) == 20 && iso[10] == 'T' && isinf(total));
    json_doc_destroy(&doc);
    mt_free(&text);
}

static void a_resume_drops_only_what_will_happen_again(void **state)
{
    (void)state;
    struct jsonl *log;
    char seen[512];
    int64_t dropped;
    const char *path = test_path("r.jsonl");
    expect_ok(jsonl_open(&log, path));
    append_event(log, "start", 0);
    append_event(log, "step", 1);
    append_event(log, "step", 2);
    append_event(log, "eval", 2);
    append_event(log, "step", 3);
    append_event(log, "phase", 3);
    append_event(log, "warning", 3);
    append_event(log, "checkpoint", 4);
    append_event(log, "stop", 4);
    jsonl_close(&log);
    expect_ok(jsonl_truncate_after(path, 2, &dropped));
    assert_int_equal(dropped, 3);
    events_of(path, seen, sizeof seen);
    assert_string_equal(seen, "start:0 step:1 step:2 eval:2 warning:3 stop:4 ");
    expect_ok(jsonl_truncate_after(path, 2, &dropped));
    assert_int_equal(dropped, 0);
    expect_ok(jsonl_truncate_after(test_path("absent.jsonl"), 2, &dropped));
    assert_int_equal(dropped, 0);
}

static void a_torn_last_line_goes(void **state)
{
    (void)state;
    struct jsonl *log;
    char seen[512];
    int64_t dropped;
    const char *path = test_write_text(
        "t.jsonl",
        "{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"st");
    expect_ok(jsonl_open(&log, path));
    append_event(log, "step", 3);
    jsonl_close(&log);
    events_of(path, seen, sizeof seen);
    assert_string_equal(seen, "step:1 step:2 step:3 ");
    path = test_write_text("t.jsonl", "{\"event\":\"step\",\"step\":1}\n{\"event\":\"st");
    expect_ok(jsonl_truncate_after(path, 9, &dropped));
    assert_int_equal(dropped, 1);
    events_of(path, seen, sizeof seen);
    assert_string_equal(seen, "step:1 ");
    path = test_write_text("t.jsonl", "torn from the first");
    expect_ok(jsonl_truncate_after(path, 9, NULL));
    int64_t bytes;
    expect_ok(file_size(&bytes, path));
    assert_int_equal(bytes, 0);
}

static void a_failed_write_leaves_whole_lines_and_its_event_waits(void **state)
{
    (void)state;
    struct jsonl *log;
    char seen[512];
    const char *path = test_path("f.jsonl");
    expect_ok(jsonl_open(&log, path));
    append_event(log, "step", 1);
    file_fail_after(1);
    json_write_int(jsonl_begin(log, "step"), "step", 2);
    expect_fail(jsonl_end(log), MT_IO, "f.jsonl");
    file_fail_after(0);
    append_event(log, "step", 3);
    (void)jsonl_begin(log, "step");

    append_event(log, "step", 4); /* an event begun and never ended is not written */
    jsonl_close(&log);
    events_of(path, seen, sizeof seen);
    assert_string_equal(seen, "step:1 step:2 step:3 step:4 ");
}

static void events_wait_in_order_as_far_as_there_is_room_and_the_rest_is_counted(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    static char text[BYTES], seen[512];
    struct jsonl *log;
    int64_t lost;
    const char *path = test_path("w.jsonl");
    memset(text, 'x', sizeof text - 1);
    expect_ok(jsonl_open(&log, path));
    for (int64_t step = 1; step <= 6; step++) {
        struct json_writer *w = jsonl_begin(log, "step");
        json_write_int(w, "step", step);
        json_write_string(w, "text", step > 4 ? "short" : text);
        file_fail_after(1);
        expect_fail(jsonl_end(log), MT_IO, "w.jsonl");
        file_fail_after(0);
        assert_true(jsonl_is_behind(log, &lost));
        assert_int_equal(lost, step <= 3 ? 0 : step - 3);
    }
    append_event(log, "step", 7);
    assert_false(jsonl_is_behind(log, &lost));
    jsonl_close(&log);
    events_of(path, seen, sizeof seen);
    assert_string_equal(seen, "step:1 step:2 step:3 step:7 ");
}

static void an_unbalanced_event_is_a_bug_and_not_written(void **state)
{
    (void)state;
    struct jsonl *log;
    int64_t bytes;
    const char *path = test_path("u.jsonl");
    expect_ok(jsonl_open(&log, path));
    json_write_object(jsonl_begin(log, "step"), "open");
    assert_int_equal(jsonl_end(log), MT_BUG);
    jsonl_close(&log);
    expect_ok(file_size(&bytes, path));
    assert_int_equal(bytes, 0);
}

static void every_fault_of_a_cut_leaves_the_old_or_the_new_file(void **state)
{
    (void)state;
    static const char before[] =
        "{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n";
    char seen[512];
    bool clean = false;
    for (int64_t n = 1; !clean && n < 200; n++) {
        const char *path = test_write_text("x.jsonl", before);
        file_fail_after(n);
        mt_status st = jsonl_truncate_after(path, 1, NULL);
        clean = st == MT_OK;
        file_fail_after(0);
        events_of(path, seen, sizeof seen);
        assert_true(strcmp(seen, "step:1 ") == 0 ||
                    (!clean && strcmp(seen, "step:1 step:2 ") == 0));
    }
    assert_true(clean);
}

static void the_last_whole_event_is_known(void **state)
{
    (void)state;
    bool answer = true;
    expect_ok(jsonl_ends_with(test_path("none.jsonl"), "done", &answer));
    assert_false(answer);
    static const struct {
        const char *text;
        bool answer;
    } cases[] = {{"", false},
                 {"{\"event\":\"done\"}\n", true},
                 {"{\"event\":\"step\"}\n{\"event\":\"done\"}\n{\"event\":\"st", true},
                 {"{\"event\":\"done\"}\n{\"event\":\"step\"}\n", false},
                 {"{\"event\":\"done\"}\nnot JSON\n", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_ok(jsonl_ends_with(test_write_text("ends.jsonl", cases[i].text), "done", &answer));
        assert_int_equal(answer, cases[i].answer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_whole_event_is_known),
        cmocka_unit_test(an_event_is_one_line_with_its_time),
        cmocka_unit_test(a_resume_drops_only_what_will_happen_again),
        cmocka_unit_test(a_torn_last_line_goes),
        cmocka_unit_test(a_failed_write_leaves_whole_lines_and_its_event_waits),
        cmocka_unit_test(events_wait_in_order_as_far_as_there_is_room_and_the_rest_is_counted),
        cmocka_unit_test(an_unbalanced_event_is_a_bug_and_not_written),
        cmocka_unit_test(every_fault_of_a_cut_leaves_the_old_or_the_new_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

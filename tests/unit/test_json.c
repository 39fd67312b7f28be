/* Exact round trips: what a resumed run reads must be what was saved, bit by bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>

#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "io/json.h"
#include "tests/support/small_table.h"

static const struct json_node *parse(struct json_doc **doc, struct json_writer *w)
{
    const char *text;
    int64_t bytes;
    expect_ok(json_writer_finish(w, &text, &bytes));
    assert_int_equal(strlen(text), bytes);
    expect_ok(json_doc_parse(doc, text, bytes, "test"));
    return json_doc_root(*doc);
}

static void reals_come_back_as_the_same_bits(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    static double v[COUNT], back[COUNT];
    const double edge[] = {0.0,
                           -0.0,
                           1.0,
                           0.1,
                           DBL_MIN,
                           DBL_MAX,
                           -DBL_MAX,
                           0x1p-1074,
                           1e15,
                           1e16,
                           123456789012345678.0,
                           (double)INFINITY,
                           -(double)INFINITY};
    for (uint32_t i = 0; i < COUNT; i++) {
        struct rng_block b = rng_philox(7, i, 0, 0, 0);
        uint64_t bits = (uint64_t)b.v[0] << 32 | b.v[1];
        memcpy(&v[i], &bits, sizeof v[i]);
        if (isnan(v[i]))
            v[i] = (double)i;
    }
    memcpy(v, edge, sizeof edge);
    struct json_writer w = {0};
    struct json_doc *doc;
    json_write_object(&w, NULL);
    json_write_reals(&w, "v", v, COUNT);
    json_write_real(&w, "nan", (double)NAN);
    json_write_end(&w);
    const struct json_node *root = parse(&doc, &w);
    expect_ok(json_read_reals(root, "v", back, COUNT));
    assert_memory_equal(v, back, sizeof v);
    double nan;
    expect_ok(json_read_real(root, "nan", &nan));
    assert_true(isnan(nan));
    json_doc_destroy(&doc);
    json_writer_release(&w);
}

static void whole_numbers_strings_and_hashes_come_back(void **state)
{
    (void)state;
    const int64_t v[] = {0, -1, INT64_MAX, INT64_MIN, 1LL << 53, (1LL << 53) + 1};
    int64_t back[6], n;
    const char *text;
    uint64_t hash;
    bool flag;
    for (int indent = 0; indent < 3; indent++) {
        struct json_writer w = {.indent = indent};
        struct json_doc *doc;
        json_write_object(&w, NULL);
        json_write_ints(&w, "v", v, 6);
        json_write_ints(&w, "none", NULL, 0);
        json_write_string(&w, "k\"\\\n", "a\tb\x01\xc3\xa9\xf0\x9f\x98\x80\"");
        json_write_string(&w, "bad", "x\xff\xc3");
        json_write_hash(&w, "hash", 0xfedcba9876543210u);
        json_write_bool(&w, "yes", true);
        json_write_object(&w, "deep");
        json_write_int(&w, "n", 5);
        json_write_end(&w);
        json_write_end(&w);
        const struct json_node *root = parse(&doc, &w);
        expect_ok(json_read_ints(root, "v", back, 6));
        assert_memory_equal(v, back, sizeof v);
        expect_ok(json_read_string(root, "k\"\\\n", &text));
        assert_string_equal(text, "a\tb\x01\xc3\xa9\xf0\x9f\x98\x80\"");
        expect_ok(json_read_string(root, "bad", &text));
        assert_string_equal(text, "x\xef\xbf\xbd\xef\xbf\xbd");
        expect_ok(json_read_hash(root, "hash", &hash));
        assert_true(hash == 0xfedcba9876543210u);
        expect_ok(json_read_bool(root, "yes", &flag));
        assert_true(flag);
        expect_ok(json_read_int(json_node_get(root, "deep"), "n", 0, 9, &n));
        assert_int_equal(n, 5);
        json_doc_destroy(&doc);
        json_writer_release(&w);
    }
}

static void members_of_another_kind_are_refused_by_name(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": 1.5, \"b\": [1, \"x\"], \"c\": \"zz\", \"d\": 70}";
    struct json_doc *doc;
    int64_t n, two[2];
    double reals[3];
    uint64_t hash;
    bool flag;
    const char *s;
    expect_ok(json_doc_parse(&doc, text, (int64_t)strlen(text), "x.json"));
    const struct json_node *root = json_doc_root(doc);
    expect_fail(json_read_int(root, "a", 0, 9, &n), MT_DATA, "\"a\"");
    expect_fail(json_read_int(root, "d", 0, 9, &n), MT_DATA, "70");
    expect_fail(json_read_int(root, "absent", 0, 9, &n), MT_DATA, "missing");
    expect_fail(json_read_ints(root, "b", two, 2), MT_DATA, "element 1");
    expect_fail(json_read_reals(root, "b", reals, 3), MT_DATA, "3 are wanted");
    expect_fail(json_read_hash(root, "c", &hash), MT_DATA, "\"c\"");
    expect_fail(json_read_real(root, "c", reals), MT_DATA, "\"c\"");
    expect_fail(json_read_bool(root, "d", &flag), MT_DATA, "\"d\"");
    expect_fail(json_read_string(root, "d", &s), MT_DATA, "\"d\"");
    expect_fail(json_read_string(NULL, "d", &s), MT_DATA, "\"d\"");
    json_doc_destroy(&doc);
    expect_fail(json_doc_parse(&doc, "{\"a\":1,\"a\":2}", 13, "x.json"), MT_DATA, "x.json:1");
    expect_fail(json_doc_parse(&doc, "{\n\n}}", 5, "x.json"), MT_DATA, "x.json:3");
}

static void a_number_past_int64_is_a_real(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": 1000000000000000019884624838656, \"b\": 3}";
    struct json_doc *doc;
    double v;
    int64_t n;
    expect_ok(json_doc_parse(&doc, text, (int64_t)strlen(text), "x"));
    expect_ok(json_read_real(json_doc_root(doc), "a", &v));
    assert_true(v == 1000000000000000019884624838656.0);
    expect_ok(json_read_real(json_doc_root(doc), "b", &v));
    assert_true(v == 3.0 && !json_node_int(json_node_get(json_doc_root(doc), "b"), &n));
    json_doc_destroy(&doc);
    expect_fail(json_doc_parse(&doc, "[1e999]", 7, "x"), MT_DATA, "x:1");
}

static void nesting_is_checked_and_bounded(void **state)
{
    (void)state;
    const char *text;
    int64_t bytes;
    struct json_writer w = {0};
    json_write_object(&w, NULL);
    expect_fail(json_writer_finish(&w, &text, &bytes), MT_BUG, "unbalanced");
    json_writer_reset(&w);
    json_write_end(&w);
    expect_fail(json_writer_finish(&w, &text, &bytes), MT_BUG, "unbalanced");
    json_writer_reset(&w);
    for (int i = 0; i < 100; i++)
        json_write_array(&w, NULL);
    for (int i = 0; i < 100; i++)
        json_write_end(&w);
    expect_fail(json_writer_finish(&w, &text, &bytes), MT_BUG, "nesting");
    json_writer_release(&w);
    static char deep[100000];
    struct json_doc *doc;
    memset(deep, '[', sizeof deep);
    expect_fail(json_doc_parse(&doc, deep, sizeof deep, "deep"), MT_DATA, "deep");
}

static void no_memory_is_answered_at_the_end(void **state)
{
    (void)state;
    const char *text;
    int64_t bytes;
    for (int64_t n = 1; n < 4; n++) {
        struct json_writer w = {0};
        mt_memory_fail_after(n);
        json_write_array(&w, NULL);
        for (int i = 0; i < 1000; i++)
            json_write_int(&w, NULL, i);
        json_write_end(&w);
        mt_memory_fail_after(0);
        assert_int_equal(json_writer_finish(&w, &text, &bytes), MT_NOMEM);
        json_writer_release(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reals_come_back_as_the_same_bits),
        cmocka_unit_test(whole_numbers_strings_and_hashes_come_back),
        cmocka_unit_test(members_of_another_kind_are_refused_by_name),
        cmocka_unit_test(a_number_past_int64_is_a_real),
        cmocka_unit_test(nesting_is_checked_and_bounded),
        cmocka_unit_test(no_memory_is_answered_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

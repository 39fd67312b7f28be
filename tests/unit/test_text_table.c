/* text_table: rows of TSV, CSV and JSON lines as their formats say, whatever the bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/text_table.h"
#include "tests/support/shared_data.h"
#include "tests/support/test_dirs.h"

/* Every row as "line:cell|cell\n", a missing cell as "-", a nested one as "{}"; "!message" after a
 * failure.  In a static buffer. */
static char shown[1 << 16];

static void show(const char *format, ...)
{
    va_list args;
    size_t used = strlen(shown);
    va_start(args, format);
    vsnprintf(shown + used, sizeof shown - used, format, args);
    va_end(args);
}

static mt_status read_path(const char *path, const struct text_format *format, int64_t *replaced)
{
    struct text_table *t = NULL;
    const struct text_row *row;
    shown[0] = '\0';
    mt_status st = text_table_open(&t, path, format);
    while (st == MT_OK) {
        st = text_table_next(t, &row);
        if (st != MT_OK || row == NULL)
            break;
        show("%d:", (int)row->line);
        for (int32_t i = 0; i < row->cell_count; i++) {
            const struct text_cell *c = &row->cells[i];
            assert_int_equal(strlen(c->text), c->bytes);
            show("%s%s", i > 0 ? "|" : "",
                 c->kind == TEXT_MISSING  ? "-"
                 : c->kind == TEXT_NESTED ? "{}"
                                          : c->text);
        }
        show("\n");
    }
    if (st != MT_OK)
        show("!%s", strstr(mt_error_peek()->message, file_path_base(path)));
    if (replaced != NULL)
        *replaced = t != NULL ? text_table_replaced(t) : -1;
    text_table_close(&t);
    return st;
}

static void expect_bytes(const char *name, const char *bytes, long count,
                         const struct text_format *format, const char *rows)
{
    (void)read_path(test_write_file(name, bytes, count), format, NULL);
    assert_string_equal(shown, rows);
}

static void expect(const char *name, const char *text, const char *rows)
{
    expect_bytes(name, text, (long)strlen(text), NULL, rows);
}

static void tsv_takes_quotes_and_backslashes_as_plain_bytes(void **state)
{
    (void)state;
    expect("a.tsv", "text\tlabel\nsay \"hi\tx\n\"open\ty\na\\tb\tz\n",
           "2:say \"hi|x\n3:\"open|y\n4:a\\tb|z\n");
}

static void csv_follows_rfc_4180(void **state)
{
    (void)state;
    expect("a.csv",
           "a,b\r\n\"x, y\",1\r\n\"he said \"\"no\"\"\",2\r\n\"two\r\nlines\",3\r\nplain,4\r\n",
           "2:x, y|1\n3:he said \"no\"|2\n4:two\r\nlines|3\n6:plain|4\n");
}

static void csv_takes_a_quote_within_a_field_literally(void **state)
{
    (void)state;
    expect("b.csv", "a,b\n5\" disk,1\n\"x\"y,2\n", "2:5\" disk|1\n3:xy|2\n");
}

static void an_open_quote_is_an_error_that_names_the_row(void **state)
{
    (void)state;
    expect(
        "c.csv", "a,b\nx,1\n\"y,2\nz,3\n",
        "2:x|1\n!c.csv:3: a quote opened in the row that begins here is not closed before the end "
        "of the file");
}

static void a_byte_order_mark_and_crlf_and_a_missing_last_line_end_are_fine(void **state)
{
    (void)state;
    struct text_table *t;
    int32_t column;
    expect("d.tsv", "\xEF\xBB\xBFtext\tlabel\r\nx\t1\r\ny\t2", "2:x|1\n3:y|2\n");
    expect("d.csv", "\xEF\xBB\xBFtext,label\r\nx,1\r\ny,", "2:x|1\n3:y|\n");
    expect("d.jsonl", "\xEF\xBB\xBF{\"a\":\"x\"}\r\n{\"a\":\"y\"}", "1:x\n2:y\n");
    assert_int_equal(text_table_open(&t, test_path("d.tsv"), NULL), MT_OK);
    assert_int_equal(text_table_column(t, "text", &column), MT_OK);
    assert_int_equal(column, 0);
    text_table_close(&t);
}

static void empty_fields_are_cells_and_blank_lines_are_no_rows(void **state)
{
    (void)state;
    expect("e.tsv", "a\tb\n\n\t1\nx\t\n\t\n\r\n", "3:|1\n4:x|\n5:|\n");
    expect("e.csv", "a,b\n\n,1\n\"\",\"\"\n\n", "3:|1\n4:|\n");
}

static void in_one_column_a_blank_line_is_no_row_but_csv_can_write_an_empty_one(void **state)
{
    (void)state;
    expect("f.tsv", "text\nx\n\ny\n", "2:x\n4:y\n");
    expect("f.csv", "text\nx\n\n\"\"\ny\n", "2:x\n4:\n5:y\n");
}

static void too_few_or_too_many_fields_name_the_line(void **state)
{
    (void)state;
    expect(
        "g.tsv", "a\tb\nx\t1\nonly\n",
        "2:x|1\n!g.tsv:3: has 1 field where the first row has 2; a field cannot hold its delimiter "
        "in this format");
    expect(
        "g.csv", "a,b\nx,y,1\n",
        "!g.csv:2: has 3 fields where the first row has 2; put quotes around a field with a comma "
        "or a line end in it");
}

static void a_file_without_header_has_numbered_columns(void **state)
{
    (void)state;
    struct text_format f = {.headerless = true};
    struct text_table *t;
    int32_t column;
    expect_bytes("h.tsv", "x\t1\ny\t2\n", 8, &f, "1:x|1\n2:y|2\n");
    assert_int_equal(text_table_open(&t, test_path("h.tsv"), &f), MT_OK);
    assert_int_equal(text_table_column(t, "1", &column), MT_OK);
    assert_int_equal(column, 1);
    assert_int_equal(text_table_column(t, "2", &column), MT_DATA);
    text_table_close(&t);
}

static void a_space_as_delimiter_leaves_the_rest_of_the_line_to_the_last_column(void **state)
{
    (void)state;
    struct text_format f = {.headerless = true, .delimiter = ' '};
    expect_bytes("i.all", "0 How did it ?\n1 x\n", 19, &f, "1:0|How did it ?\n2:1|x\n");
    struct text_format three = {.headerless = true, .columns = 3};
    expect_bytes("i.tsv", "a\tb\tc\td\n", 8, &three, "1:a|b|c\td\n");
}

static void json_values_become_text_and_null_or_absent_is_missing(void **state)
{
    (void)state;
    expect("j.jsonl",
           "{\"t\":\"x\\ty\",\"n\":3,\"r\":0.1,\"b\":true,\"o\":{\"k\":[1]},\"z\":null}\n\n"
           "{\"n\":\"\",\"extra\":1}\n{}\n",
           "1:x\ty|3|0.1|true|{}|-\n3:-||-|-|-|-\n4:-|-|-|-|-|-\n");
}

static void a_line_that_is_no_object_names_the_line(void **state)
{
    (void)state;
    expect("k.jsonl", "{\"a\":1}\n[1]\n",
           "1:1\n!k.jsonl:2: is not a JSON object; each line must be {\"key\": ...}");
    (void)read_path(test_write_text("l.jsonl", "{\"a\":1}\n{\"a\":\n"), NULL, NULL);
    assert_non_null(strstr(shown, "!l.jsonl:2: not JSON: "));
}

static void a_key_may_appear_later_but_one_that_never_does_is_an_error(void **state)
{
    (void)state;
    struct text_table *t;
    const struct text_row *row;
    int32_t late, never;
    const char *path = test_write_text("m.jsonl", "{\"a\":\"1\"}\n{\"a\":\"2\",\"late\":\"x\"}\n");
    assert_int_equal(text_table_open(&t, path, NULL), MT_OK);
    assert_int_equal(text_table_column(t, "late", &late), MT_OK);
    assert_int_equal(text_table_column(t, "never", &never), MT_OK);
    assert_int_equal(text_table_next(t, &row), MT_OK);
    assert_int_equal(row->cells[late].kind, TEXT_MISSING);
    assert_int_equal(text_table_next(t, &row), MT_OK);
    assert_string_equal(row->cells[late].text, "x");
    assert_int_equal(row->cells[never].kind, TEXT_MISSING);
    assert_int_equal(text_table_next(t, &row), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "no line has the key \"never\""));
    text_table_close(&t);
}

static void a_wrong_column_name_lists_the_columns_and_the_nearest(void **state)
{
    (void)state;
    struct text_table *t;
    int32_t column;
    const char *path = test_write_text("n.tsv", "sentence\tlabel\nx\t1\n");
    assert_int_equal(text_table_open(&t, path, NULL), MT_OK);
    assert_int_equal(text_table_column(t, "sentance", &column), MT_DATA);
    assert_non_null(strstr(mt_error_peek()->message, "did you mean \"sentence\"?"));
    assert_non_null(strstr(mt_error_peek()->message, "\"sentence\", \"label\""));
    text_table_close(&t);
    path = test_write_text("o.tsv", "a\ta\nx\t1\n");
    assert_int_equal(text_table_open(&t, path, NULL), MT_OK);
    assert_int_equal(text_table_column(t, "a", &column), MT_DATA);
    text_table_close(&t);
}

static void bad_bytes_are_replaced_and_counted(void **state)
{
    (void)state;
    int64_t replaced;
    const char bytes[] = "a\tb\nx\xFFy\t\xE2\x82\nz\0z\tok\n";
    (void)read_path(test_write_file("p.tsv", bytes, sizeof bytes - 1), NULL, &replaced);
    assert_string_equal(shown, "2:x\xEF\xBF\xBDy|\xEF\xBF\xBD\n3:z\xEF\xBF\xBDz|ok\n");
    assert_int_equal(replaced, 3);
    const char json[] =
        "{\"a\":\"x\xFFy\"}\n{\"a\":\"\\ud83d \\ud83d\\ude00 \\\\ud83d\"}\n{\"a\":\"q\\u0000q\"}\n";
    (void)read_path(test_write_file("p.jsonl", json, sizeof json - 1), NULL, &replaced);
    assert_string_equal(shown, "1:x\xEF\xBF\xBDy\n2:\xEF\xBF\xBD \xF0\x9F\x98\x80 \\ud83d\n"
                               "3:q\xEF\xBF\xBDq\n");
    assert_int_equal(replaced, 3);
}

static void bad_bytes_are_an_error_with_the_line_where_asked(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        long count;
    } list[] = {{"q.tsv", "a\tb\nx\t1\n\xC0\x80\t1\n", 13},
                {"q.csv", "a,b\nx,1\n\"\xED\xA0\x80\",1\n", 16},
                {"q2.tsv", "a\tb\nx\t1\nn\0n\t1\n", 14},
                {"q.jsonl", "{\"a\":1}\n\n{\"a\":\"\xF8\"}\n", 19},
                {"q2.jsonl", "{\"a\":1}\n\n{\"a\":\"\\udc00\"}\n", 24}};
    struct text_format f = {.bad_bytes = TEXT_ERROR};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const char *path = test_write_file(list[i].name, list[i].bytes, list[i].count);
        assert_int_equal(read_path(path, &f, NULL), MT_DATA);
        char expected[64];
        snprintf(expected, sizeof expected, "%s:3: ", list[i].name);
        assert_non_null(strstr(shown, expected));
    }
}

static void an_empty_file_and_an_unknown_extension_are_refused(void **state)
{
    (void)state;
    assert_int_equal(read_path(test_write_text("r.tsv", ""), NULL, NULL), MT_DATA);
    assert_int_equal(read_path(test_write_text("r.csv", "\n\n"), NULL, NULL), MT_DATA);
    assert_int_equal(read_path(test_write_text("r.jsonl", "\n"), NULL, NULL), MT_DATA);
    assert_int_equal(read_path(test_write_text("r.txt", "a\n"), NULL, NULL), MT_ARG);
    assert_int_equal(read_path(test_path("absent.tsv"), NULL, NULL), MT_DATA);
    struct text_format f = {.kind = TEXT_JSONL};
    expect_bytes("r2.txt", "{\"a\":1}\n", 8, &f, "1:1\n");
}

static void a_row_past_the_limit_is_an_error_that_names_its_first_line(void **state)
{
    (void)state;
    const char *path = test_path("huge.csv");
    FILE *f = fopen(path, "w");
    fputs("a,b\nx,1\n\"", f);
    for (int i = 0; i < (TEXT_ROW_BYTES_MAX >> 10) + 1; i++)
        fprintf(f, "%01023d\n", i);
    fclose(f);
    assert_int_equal(read_path(path, NULL, NULL), MT_DATA);
    assert_non_null(strstr(shown, "huge.csv:3: the row that begins here has more than"));
}

static void rows_longer_than_the_input_buffer_are_whole(void **state)
{
    (void)state;
    enum { LONG = 500000 };
    const char *names[] = {"w.tsv", "w.csv", "w.jsonl"};
    const char *heads[] = {"a\tb\n", "a,b\n", ""}, *begins[] = {"", "\"", "{\"a\":\""};
    const char *ends[] = {"\tq\n", "\",q\n", "\",\"b\":\"q\"}\n"};
    for (int k = 0; k < 3; k++) {
        const char *path = test_path(names[k]);
        FILE *f = fopen(path, "w");
        fputs(heads[k], f);
        for (int r = 0; r < 3; r++) {
            fputs(begins[k], f);
            for (int i = 0; i < LONG + r; i++)
                fputc('a' + (i + r) % 26, f);
            fputs(ends[k], f);
        }
        fclose(f);
        struct text_table *t;
        const struct text_row *row;
        assert_int_equal(text_table_open(&t, path, NULL), MT_OK);
        for (int r = 0; r < 3; r++) {
            assert_int_equal(text_table_next(t, &row), MT_OK);
            assert_int_equal(row->cells[0].bytes, LONG + r);
            for (int i = 0; i < LONG + r; i++)
                if (row->cells[0].text[i] != 'a' + (i + r) % 26)
                    fail_msg("byte %d", i);
            assert_string_equal(row->cells[1].text, "q");
        }
        assert_int_equal(text_table_next(t, &row), MT_OK);
        assert_null(row);
        assert_int_equal(text_table_bytes_read(t), text_table_size_bytes(t));
        text_table_close(&t);
    }
}

static uint32_t noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

static void random_bytes_never_harm(void **state)
{
    (void)state;
    static const char pieces[] = "a,\t\"\n\r{}[]:\\u0dF8\xFF\xC3\x00 ";
    static const char *const names[] = {"z.tsv", "z.csv", "z.jsonl"};
    uint32_t seed = 7;
    char bytes[200];
    for (int round = 0; round < 600; round++) {
        long count = (long)(noise(&seed) % sizeof bytes);
        for (long i = 0; i < count; i++)
            bytes[i] = pieces[noise(&seed) % (sizeof pieces - 1)];
        if (round % 3 == 2 && count > 8)
            memcpy(bytes, "{\"a\":\"x\"", 8);
        (void)read_path(test_write_file(names[round % 3], bytes, count), NULL, NULL);
    }
}

static void whichever_call_fails_the_answer_is_clean(void **state)
{
    (void)state;
    const char *path = test_write_text("y.jsonl", "{\"a\":\"x\"}\n{\"a\":\"y\xFF\"}\n");
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int kind = 0; kind < 2; kind++) {
        mt_status st = MT_BUG;
        for (int64_t n = 1; st != MT_OK; n++) {
            kind == 0 ? file_fail_after(n) : mt_memory_fail_after(n);
            st = read_path(path, NULL, NULL);
            file_fail_after(0);
            mt_memory_fail_after(0);
            assert_true(st == MT_OK || st == (kind == 0 ? MT_IO : MT_NOMEM));
        }
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static int64_t count_rows(const char *path, struct text_format format, int32_t columns)
{
    struct text_table *t;
    const struct text_row *row;
    int64_t rows = 0;
    assert_int_equal(text_table_open(&t, path, &format), MT_OK);
    assert_int_equal(text_table_column_count(t), columns);
    for (;;) {
        assert_int_equal(text_table_next(t, &row), MT_OK);
        if (row == NULL)
            break;
        rows++;
    }
    text_table_close(&t);
    return rows;
}

static void public_data_sets_have_their_published_sizes(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(sst, "data/sst2/dev.tsv");
    SHARED_DATA_OR_SKIP(trec, "data/trec/TREC.train.all");
    SHARED_DATA_OR_SKIP(banking, "data/banking77/train.csv");
    SHARED_DATA_OR_SKIP(cite, "data/sci-cite/dev.txt");
    assert_int_equal(count_rows(sst, (struct text_format){.headerless = true}, 2), 872);
    assert_int_equal(
        count_rows(trec, (struct text_format){.headerless = true, .delimiter = ' '}, 2), 5452);
    assert_int_equal(count_rows(banking, (struct text_format){0}, 2), 10003);
    assert_int_equal(count_rows(cite, (struct text_format){.kind = TEXT_JSONL}, 3), 916);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tsv_takes_quotes_and_backslashes_as_plain_bytes),
        cmocka_unit_test(csv_follows_rfc_4180),
        cmocka_unit_test(csv_takes_a_quote_within_a_field_literally),
        cmocka_unit_test(an_open_quote_is_an_error_that_names_the_row),
        cmocka_unit_test(a_byte_order_mark_and_crlf_and_a_missing_last_line_end_are_fine),
        cmocka_unit_test(empty_fields_are_cells_and_blank_lines_are_no_rows),
        cmocka_unit_test(in_one_column_a_blank_line_is_no_row_but_csv_can_write_an_empty_one),
        cmocka_unit_test(too_few_or_too_many_fields_name_the_line),
        cmocka_unit_test(a_file_without_header_has_numbered_columns),
        cmocka_unit_test(a_space_as_delimiter_leaves_the_rest_of_the_line_to_the_last_column),
        cmocka_unit_test(json_values_become_text_and_null_or_absent_is_missing),
        cmocka_unit_test(a_line_that_is_no_object_names_the_line),
        cmocka_unit_test(a_key_may_appear_later_but_one_that_never_does_is_an_error),
        cmocka_unit_test(a_wrong_column_name_lists_the_columns_and_the_nearest),
        cmocka_unit_test(bad_bytes_are_replaced_and_counted),
        cmocka_unit_test(bad_bytes_are_an_error_with_the_line_where_asked),
        cmocka_unit_test(an_empty_file_and_an_unknown_extension_are_refused),
        cmocka_unit_test(a_row_past_the_limit_is_an_error_that_names_its_first_line),
        cmocka_unit_test(rows_longer_than_the_input_buffer_are_whole),
        cmocka_unit_test(random_bytes_never_harm),
        cmocka_unit_test(whichever_call_fails_the_answer_is_clean),
        cmocka_unit_test(public_data_sets_have_their_published_sizes),
    };
    return cmocka_run_group_tests_name("text_table", tests, NULL, NULL);
}

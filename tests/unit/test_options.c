/* Option tables: one of each type, read, printed, compared and documented. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "schedules/options.h"

struct inner {
    char *where, *name;
    double weight;
};
struct sample {
    bool flag;
    int64_t number, size;
    double rate, unset;
    char *text, *path;
    int32_t choice;
    struct duration time;
    struct string_list words, files;
    struct real_list reals;
    struct weight_list weights;
    struct setting_list settings;
    struct inner group;
    struct inner *list;
    int32_t list_count;
};

static const char *const choices[] = {"auto", "on", "off", NULL};
static const char *const path_words[] = {"random", NULL};
static const struct option inner_rows[] = {
    {.key = "where", .type = OPTION_WHERE, .offset = offsetof(struct inner, where)},
    {.key = "name",
     .type = OPTION_STRING,
     .offset = offsetof(struct inner, name),
     .fallback = "x",
     .help = "a name"},
    {.key = "weight",
     .type = OPTION_REAL,
     .change = OPTION_TRAJECTORY,
     .offset = offsetof(struct inner, weight),
     .fallback = "1.0",
     .min = 0,
     .max = INFINITY,
     .help = "a weight"},
};
static const struct option_table inner_table = {inner_rows, 3, sizeof(struct inner), "name"};
static const struct option rows[] = {
    {.key = "flag",
     .type = OPTION_BOOL,
     .offset = offsetof(struct sample, flag),
     .fallback = "true",
     .help = "f"},
    {.key = "number",
     .type = OPTION_INT,
     .offset = offsetof(struct sample, number),
     .fallback = "7",
     .min = 1,
     .max = 1e12,
     .help = "n"},
    {.key = "size",
     .type = OPTION_BYTES,
     .offset = offsetof(struct sample, size),
     .fallback = "0",
     .help = "s"},
    {.key = "rate",
     .type = OPTION_REAL,
     .change = OPTION_TRAJECTORY,
     .offset = offsetof(struct sample, rate),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .help = "r"},
    {.key = "unset", .type = OPTION_REAL, .offset = offsetof(struct sample, unset), .help = "u"},
    {.key = "text",
     .type = OPTION_STRING,
     .offset = offsetof(struct sample, text),
     .flags = OPTION_REQUIRED | OPTION_NONEMPTY,
     .help = "what it is"},
    {.key = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct sample, path),
     .choices = path_words,
     .help = "p"},
    {.key = "choice",
     .type = OPTION_CHOICE,
     .change = OPTION_INCOMPATIBLE,
     .offset = offsetof(struct sample, choice),
     .choices = choices,
     .fallback = "auto",
     .help = "c"},
    {.key = "time",
     .type = OPTION_DURATION,
     .offset = offsetof(struct sample, time),
     .fallback = "1ep",
     .help = "t"},
    {.key = "words",
     .type = OPTION_STRINGS,
     .offset = offsetof(struct sample, words),
     .fallback = "*",
     .help = "w"},
    {.key = "files", .type = OPTION_PATHS, .offset = offsetof(struct sample, files), .help = "p"},
    {.key = "reals",
     .type = OPTION_REALS,
     .offset = offsetof(struct sample, reals),
     .fallback = "0.9 0.999",
     .help = "r"},
    {.key = "weights",
     .type = OPTION_WEIGHTS,
     .offset = offsetof(struct sample, weights),
     .help = "w"},
    {.key = "settings",
     .type = OPTION_SETTINGS,
     .offset = offsetof(struct sample, settings),
     .help = "s"},
    {.key = "group",
     .type = OPTION_GROUP,
     .offset = offsetof(struct sample, group),
     .table = &inner_table,
     .help = "a group"},
    {.key = "list",
     .type = OPTION_LIST,
     .offset = offsetof(struct sample, list),
     .count_offset = offsetof(struct sample, list_count),
     .max = 3,
     .table = &inner_table,
     .help = "a list"},
};
static const struct option_table table = {rows, sizeof rows / sizeof rows[0], sizeof(struct sample),
                                          NULL};

static mt_status parse(struct sample *s, const char *text, const char *set)
{
    struct config *c = NULL;
    char full[2048];
    (void)snprintf(full, sizeof full, "#@folder /base\n#@ 1 jobs/x.cfg\n%s", text);
    assert_int_equal(config_parse(&c, full, &set, set != NULL), MT_OK);
    mt_status st = options_parse(&table, s, c, config_root(c));
    config_close(&c);
    return st;
}

static const char everything[] =
    "flag = false; number = 3000000000; size = \"2GB\"; rate = 1; unset = 1e-30; text = "
    "\"a\\\"b\\n\\x01\";\n"
    "path = \"./d/e\"; choice = true; time = \"90min\"; words = [ \"a\", \"b\" ]; files = \"f\"; "
    "reals = ( 1, 0.1 );\n"
    "weights = { k = 2; l = 0.25; }; settings = { n = 4; s = \"gelu\"; b = true; r = 1e-12; };\n"
    "group = \"scalar\"; list = ( { name = \"one\"; }, \"two\", { weight = 3; } );";

static void defaults_come_from_the_table(void **state)
{
    struct sample s;
    (void)state;
    assert_int_equal(parse(&s, "text = \"t\";", NULL), MT_OK);
    assert_true(s.flag);
    assert_int_equal(s.number, 7);
    assert_true(s.rate == 0.5 && isnan(s.unset));
    assert_null(s.path);
    assert_int_equal(s.choice, 0);
    assert_int_equal(s.time.unit, DURATION_EPOCHS);
    assert_int_equal(s.words.count, 1);
    assert_int_equal(s.files.count, 0);
    assert_true(s.reals.count == 2 && s.reals.item[1] == 0.999);
    assert_string_equal(s.group.name, "x");
    assert_int_equal(s.list_count, 0);
    options_release(&table, &s);
}

static void every_type_is_read(void **state)
{
    struct sample s;
    (void)state;
    assert_int_equal(parse(&s, everything, NULL), MT_OK);
    assert_false(s.flag);
    assert_true(s.number == 3000000000 && s.size == 2147483648);
    assert_true(s.rate == 1 && s.unset == 1e-30);
    assert_string_equal(s.text, "a\"b\n\x01");
    assert_string_equal(s.path, "/base/d/e");
    assert_int_equal(s.choice, 1);
    assert_true(s.time.unit == DURATION_SECONDS && s.time.amount == 5400);
    assert_string_equal(s.words.item[1], "b");
    assert_string_equal(s.words.where, "jobs/x.cfg:2: words");
    assert_string_equal(s.files.item[0], "/base/f");
    assert_true(s.reals.item[0] == 1);
    assert_true(s.weights.value[weight_list_find(&s.weights, "l")] == 0.25);
    assert_true(s.settings.number[0] == 4 && s.settings.number[2] == 1);
    assert_string_equal(s.settings.text[1], "gelu");
    assert_string_equal(s.group.name, "scalar");
    assert_int_equal(s.list_count, 3);
    assert_string_equal(s.list[1].name, "two");
    assert_true(s.list[2].weight == 3);
    assert_string_equal(s.list[2].where, "jobs/x.cfg:4: list[2]");
    options_release(&table, &s);
}

static void bad_values_say_where_and_what(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"text = \"t\";\nrate = \"four\";",
         "jobs/x.cfg:2: rate: expected a number, got the string \"four\""},
        {"text = \"t\"; rate = 2.0;",
         "jobs/x.cfg:1: rate: expected a number from 0 to 1, got the number 2"},
        {"text = \"t\"; number = 1.5;",
         "jobs/x.cfg:1: number: expected a whole number, got the number 1.5"},
        {"text = \"t\"; number = 0;",
         "jobs/x.cfg:1: number: expected a number from 1 to 1e+12, got the number 0"},
        {"text = 4;", "jobs/x.cfg:1: text: expected a string, got the number 4"},
        {"text = \"\";",
         "jobs/x.cfg:1: text: expected a string that is not empty, got the string \"\""},
        {"rate = 0.5;", "jobs/x.cfg: text: is missing: what it is"},
        {"text = \"t\";\n\nrat = 1;", "jobs/x.cfg:3: rat: unknown key, did you mean \"rate\"?"},
        {"text = \"t\"; group = { wight = 1; };",
         "jobs/x.cfg:1: group.wight: unknown key, did you mean \"weight\"?"},
        {"text = \"t\"; group = { qqqqq = 1; };",
         "jobs/x.cfg:1: group.qqqqq: unknown key; known here: name, weight"},
        {"text = \"t\"; choice = \"of\";",
         "jobs/x.cfg:1: choice: expected one of \"auto\", \"on\", \"off\", got the string \"of\""},
        {"text = \"t\"; time = 0.1;", "jobs/x.cfg:1: time: expected a duration like \"500st\", "
                                      "\"2ep\", \"0.3run\", \"0.1phase\" or "
                                      "\"90min\", got the number 0.1"},
        {"text = \"t\"; size = \"2GiB\";",
         "jobs/x.cfg:1: size: expected a size like \"512MB\" or \"4GB\", got the string \"2GiB\""},
        {"text = \"t\"; flag = 1;", "jobs/x.cfg:1: flag: expected true or false, got the number 1"},
        {"text = \"t\"; words = [ 1 ];",
         "jobs/x.cfg:1: words[0]: expected a string, got the number 1"},

        {"text = \"t\"; list = ( {}, {}, {}, {} );",
         "jobs/x.cfg:1: list: expected at most 3 elements, got a list"},
        {"text = \"t\"; list = ( { }, { weight = -1; } );",
         "jobs/x.cfg:1: list[1].weight: expected a number of at least 0, got the number -1"},
        {"text = { };", "jobs/x.cfg:1: text: expected a string, got a group { }"},
        {"text = \"t\"; settings = { a = ( ); };",
         "jobs/x.cfg:1: settings.a: expected a number, a string or true or false, got a list"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sample s;
        mt_status st = parse(&s, cases[i].text, NULL);
        assert_int_equal(st, MT_CONFIG);
        assert_string_equal(mt_error_peek()->message, cases[i].message);
    }
}

static void an_override_of_a_string_may_look_like_a_number(void **state)
{
    struct sample s;
    (void)state;
    assert_int_equal(parse(&s, "", "text=42"), MT_OK);
    assert_string_equal(s.text, "42");
    options_release(&table, &s);
    assert_int_equal(parse(&s, "text = \"t\";", "rate=fast"), MT_CONFIG);
    assert_string_equal(mt_error_peek()->message,
                        "--set rate: expected a number, got the string \"fast\"");
}

static uint64_t hash(const struct sample *s, enum option_class least)
{
    uint64_t h = 0;
    assert_int_equal(options_hash(&table, s, least, &h), MT_OK);
    return h;
}

static void printed_text_reads_back_to_the_same(void **state)
{
    struct sample s, copy, back;
    struct text t = {0};
    char *text = NULL;
    (void)state;
    assert_int_equal(parse(&s, everything, NULL), MT_OK);
    assert_int_equal(options_copy(&table, &copy, &s), MT_OK);
    assert_true(hash(&copy, OPTION_HARMLESS) == hash(&s, OPTION_HARMLESS));
    options_print(&table, &copy, &t);
    assert_int_equal(text_finish(&t, &text), MT_OK);
    assert_int_equal(parse(&back, text, NULL), MT_OK);
    assert_true(hash(&back, OPTION_HARMLESS) == hash(&s, OPTION_HARMLESS));
    mt_free(&text);
    options_release(&table, &s);
    options_release(&table, &copy);
    options_release(&table, &back);
}

static void the_hash_sees_only_its_classes(void **state)
{
    struct sample a, b;
    (void)state;
    assert_int_equal(parse(&a, "text = \"t\";", NULL), MT_OK);
    assert_int_equal(parse(&b, "text = \"u\"; rate = 0.25;", NULL), MT_OK);
    assert_true(hash(&a, OPTION_HARMLESS) != hash(&b, OPTION_HARMLESS));
    assert_true(hash(&a, OPTION_TRAJECTORY) != hash(&b, OPTION_TRAJECTORY));
    assert_true(hash(&a, OPTION_INCOMPATIBLE) == hash(&b, OPTION_INCOMPATIBLE));
    options_release(&table, &a);
    options_release(&table, &b);
}

static void running_out_of_memory_is_clean(void **state)
{
    struct mt_memory_stats m;
    (void)state;
    for (int n = 1;; n++) {
        struct config *c = NULL;
        struct sample s, copy;
        assert_int_equal(config_parse(&c, everything, NULL, 0), MT_OK);
        mt_memory_fail_after(n);
        mt_status st = options_parse(&table, &s, c, config_root(c));
        if (st == MT_OK) {
            st = options_copy(&table, &copy, &s);
            if (st == MT_OK)
                options_release(&table, &copy);
            options_release(&table, &s);
        }
        mt_memory_fail_after(0);
        config_close(&c);
        mt_memory_stats(&m);
        assert_int_equal(m.live_blocks, 0);
        if (st == MT_OK)
            break;
        assert_int_equal(st, MT_NOMEM);
        assert_true(n < 2000);
    }
}

static void the_nearest_word_is_suggested(void **state)
{
    static const char *const names[] = {"epochs", "eval_every", "lr"};
    (void)state;
    assert_string_equal(text_nearest("epoch", names, 3), "epochs");
    assert_string_equal(text_nearest("eval_evry", names, 3), "eval_every");
    assert_string_equal(text_nearest("Lr", names, 3), "lr");
    assert_null(text_nearest("banana", names, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_come_from_the_table),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(bad_values_say_where_and_what),
        cmocka_unit_test(an_override_of_a_string_may_look_like_a_number),
        cmocka_unit_test(printed_text_reads_back_to_the_same),
        cmocka_unit_test(the_hash_sees_only_its_classes),
        cmocka_unit_test(running_out_of_memory_is_clean),
        cmocka_unit_test(the_nearest_word_is_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Config files: includes, lines, overrides, and text from strangers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "schedules/config.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/mt-config-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *put(const char *name, const char *text)
{
    static char path[4][256];
    static int turn;
    char *p = path[turn = (turn + 1) % 4];
    (void)snprintf(p, 256, "%s/%s", folder, name);
    FILE *f = fopen(p, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
    return p;
}

static void fails_with(const char *text, const char *const *set, int count, const char *message)
{
    struct config *c = NULL;
    assert_true(config_parse(&c, text, set, count) != MT_OK);
    assert_null(c);
    assert_string_equal(mt_error_peek()->message, message);
}

static void where_is(const struct config *c, const char *path, const char *expected)
{
    char where[CONFIG_WHERE_BYTES], full[512];
    const struct config_value *v = config_find(c, path);
    assert_non_null(v);
    config_where(where, v);
    if (strncmp(expected, "--set", 5) == 0)
        (void)snprintf(full, sizeof full, "%s", expected);
    else
        (void)snprintf(full, sizeof full, "%s/%s", folder, expected);
    assert_string_equal(where, full);
}

static void values_know_their_file_and_line(void **state)
{
    (void)state;
    (void)mkdir(strcat(strcpy((char[80]){0}, folder), "/sub"), 0700);
    (void)put("sub/inner.cfg", "// one\n// two\nz = 1;\n");
    (void)put("part.cfg", "b = 2; /* a\n comment */ c = 3;\n@include \"sub/inner.cfg\"\nd = 4;\n");
    const char *path =
        put("job.cfg", "a = 1;\n\n@include \"part.cfg\" // tail\ne = { f = [ 1, 2 ];\n"
                       "  g = ( { h = \"x // no comment\"; } );\n};\n");
    struct config *c = NULL;
    assert_int_equal(config_load(&c, path, NULL, 0), MT_OK);
    where_is(c, "a", "job.cfg:1: a");
    where_is(c, "b", "part.cfg:1: b");
    where_is(c, "c", "part.cfg:2: c");
    where_is(c, "z", "sub/inner.cfg:3: z");
    where_is(c, "d", "part.cfg:4: d");
    where_is(c, "e.f", "job.cfg:4: e.f");
    where_is(c, "e.g[0].h", "job.cfg:5: e.g[0].h");
    assert_string_equal(config_find(c, "e.g[0].h")->string, "x // no comment");
    assert_string_equal(config_folder(c), folder);
    config_close(&c);
}

static void shipped_schedules_are_found_from_anywhere(void **state)
{
    (void)state;
    const char *const names[] = {"schedules/staged.cfg", "staged.cfg"};
    for (int i = 0; i < 2; i++) {
        char text[128];
        struct config *c = NULL;
        (void)snprintf(text, sizeof text, "x = 1;\n@include \"%s\"\n", names[i]);
        assert_int_equal(config_load(&c, put("ship.cfg", text), NULL, 0), MT_OK);
        assert_non_null(config_find(c, "phases.top.lr"));
        config_close(&c);
    }
    char path[256];
    (void)snprintf(path, sizeof path, "%s/home", folder);
    (void)mkdir(path, 0700);
    (void)put("home/own.cfg", "own = 5;");
    (void)setenv("MTTRAIN_HOME", path, 1);
    struct config *c = NULL;
    assert_int_equal(config_load(&c, put("ship.cfg", "@include \"own.cfg\""), NULL, 0), MT_OK);
    assert_int_equal(config_find(c, "own")->integer, 5);
    config_close(&c);
    (void)unsetenv("MTTRAIN_HOME");
}

static void a_bundle_is_bytes_that_parse_alone(void **state)
{
    char *text = NULL;
    struct config *c = NULL;
    (void)state;
    (void)put("part.cfg", "b = 2;\n");
    assert_int_equal(config_bundle_read(&text, put("job.cfg", "a = 1;\n@include \"part.cfg\"\n")),
                     MT_OK);
    (void)put("part.cfg", "b = ;\n");
    assert_int_equal(config_parse(&c, text, NULL, 0), MT_OK);
    where_is(c, "b", "part.cfg:1: b");
    config_close(&c);
    mt_free(&text);
}

static void bad_includes_name_the_file(void **state)
{
    char *text = NULL;
    char expected[1024];
    (void)state;
    const char *path = put("loop.cfg", "\n@include \"loop.cfg\"\n");
    assert_int_equal(config_bundle_read(&text, path), MT_CONFIG);
    (void)snprintf(expected, sizeof expected, "%s/loop.cfg includes itself", folder);
    assert_string_equal(mt_error_peek()->message, expected);

    path = put("gone.cfg", "a = 1;\n  @include \"nowhere.cfg\"\n");
    assert_int_equal(config_bundle_read(&text, path), MT_CONFIG);
    (void)snprintf(expected, sizeof expected,
                   "%s/gone.cfg:2: cannot find \"nowhere.cfg\" to include: ", folder);
    assert_memory_equal(mt_error_peek()->message, expected, strlen(expected));

    path = put("word.cfg", "@include nowhere\n");
    assert_int_equal(config_bundle_read(&text, path), MT_CONFIG);
    (void)snprintf(expected, sizeof expected, "%s/word.cfg:1: expected @include \"FILE\"", folder);
    assert_string_equal(mt_error_peek()->message, expected);

    for (int i = 0; i < 20; i++) {
        char name[32], line[64];
        (void)snprintf(name, sizeof name, "deep%d.cfg", i);
        (void)snprintf(line, sizeof line, "@include \"deep%d.cfg\"\n", i + 1);
        path = put(name, line);
    }
    (void)snprintf(expected, sizeof expected, "%s/deep0.cfg", folder);
    assert_int_equal(config_bundle_read(&text, expected), MT_CONFIG);
    assert_non_null(strstr(mt_error_peek()->message, "too many files included (at most 16 deep"));

    assert_int_equal(config_bundle_read(&text, "/nonexistent/x.cfg"), MT_CONFIG);
    assert_int_equal(config_bundle_read(&text, folder), MT_IO);
    assert_null(text);
}

static void an_include_in_a_comment_or_string_is_none(void **state)
{
    struct config *c = NULL;
    (void)state;
    const char *path =
        put("c.cfg", "// @include \"gone\"\n# @include \"gone\"\n/*\n@include \"gone\"\n*/\n"
                     "a = \"\n@include \\\"gone\\\"\n\";\nb = 7;\n");
    assert_int_equal(config_load(&c, path, NULL, 0), MT_OK);
    where_is(c, "b", "c.cfg:9: b");
    config_close(&c);
}

static void long_integers_keep_their_value(void **state)
{
    struct config *c = NULL;
    (void)state;
    assert_int_equal(
        config_parse(&c, "a = 99999999999; b = -2147483649; c = 0xFFFFFFFFFF; d = 7L; e = 1e3;",
                     NULL, 0),
        MT_OK);
    assert_true(config_find(c, "a")->integer == 99999999999);
    assert_true(config_find(c, "b")->integer == -2147483649);
    assert_true(config_find(c, "c")->integer == 0xFFFFFFFFFF);
    assert_int_equal(config_find(c, "d")->integer, 7);
    assert_true(config_find(c, "e")->type == VALUE_REAL);
    config_close(&c);
    fails_with("a = 1;\nb = 99999999999999999999;", NULL, 0,
               "line:2: a whole number past 64 bits: 99999999999999999999");
    fails_with("b = 1e999;", NULL, 0, "line:1: a number out of range: 1e999");
}

static void wrong_syntax_is_placed(void **state)
{
    (void)state;
    fails_with("a = 1;\nb = = 2;", NULL, 0,
               "line 2: syntax error at or just before this line: is a \";\", a quote or a bracket "
               "missing?");
    fails_with("a = 1;\na = 2;", NULL, 0,
               "line 2: a key that stands in this group already (to replace a value of an included "
               "file use --set)");
    fails_with(
        "b = [ 0.9, 1 ];", NULL, 0,
        "line 1: the values in [ ] are of different types: write 1.0 instead of 1, or use ( )");
    fails_with("a = \"x\nb = 1;", NULL, 0, "line:1: a string that is never closed");
    fails_with("a = 1;\n/* x", NULL, 0, "line:2: a comment that is never closed");
}

static const char base[] =
    "train = { epochs = 4.0; };\nphases = ( { name = \"heads\"; lr = 1e-3; }, "
    "{ name = \"all\"; lr = 2e-5; } );\ntasks = ( { weight = 1.0; } );\nflat = 3;\n";

static void overrides_reach_every_key(void **state)
{
    static const char *const set[] = {"train.epochs=3",
                                      "phases[1].lr=1e-5",
                                      "phases.heads.lr=0.5",
                                      "tasks[0].weight=2",
                                      "train.eval_every=0.5ep",
                                      "new.group.key=true",
                                      "run_dir=out/a b;c",
                                      "train.list=[\"a\",\"b\"]",
                                      "flat={ x = 1; }",
                                      "quoted=\"42\"",
                                      "empty=",
                                      "phases.all.until=1.0run"};
    struct config *c = NULL;
    (void)state;
    assert_int_equal(config_parse(&c, base, set, 12), MT_OK);
    assert_int_equal(config_find(c, "train.epochs")->integer, 3);
    assert_true(config_find(c, "phases[1].lr")->real == 1e-5);
    assert_true(config_find(c, "phases[0].lr")->real == 0.5);
    assert_string_equal(config_find(c, "train.eval_every")->string, "0.5ep");
    assert_int_equal(config_find(c, "new.group.key")->integer, 1);
    assert_string_equal(config_find(c, "run_dir")->string, "out/a b;c");
    assert_string_equal(config_find(c, "train.list[1]")->string, "b");
    assert_int_equal(config_find(c, "flat.x")->integer, 1);
    assert_string_equal(config_find(c, "quoted")->string, "42");
    assert_string_equal(config_find(c, "empty")->string, "");
    where_is(c, "phases[1].lr", "--set phases[1].lr");
    assert_int_equal(config_find(c, "phases")->child_count, 2);
    config_close(&c);
}

static void wrong_overrides_say_why(void **state)
{
    static const struct {
        const char *set, *message;
    } cases[] = {
        {"train", "--set train: expected key=value"},
        {"=3", "--set =3: expected key=value"},
        {"phases[7].lr=1", "--set phases[7].lr: phases has 2 elements, counted from 0"},
        {"phases.tail.lr=1", "--set phases.tail.lr: phases has no element named \"tail\""},
        {"flat.x=1", "--set flat.x: flat is a single value, not a group"},
        {"train..x=1", "--set train..x: not a key like train.epochs or phases[1].lr"},
        {"train.list=[1,", "--set train.list=[1,: not a libconfig value"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        fails_with(base, &cases[i].set, 1, cases[i].message);
}

static void hostile_text_never_crashes(void **state)
{
    static const char good[] =
        "#@folder /x\n#@ 1 a.cfg\nname = \"x\\\"y\"; /* c */ a = [1, -2, 0x3];\n"
        "g : { l = ( 1, \"s\", { t = 1.5e-3; } ); }; // end\n#@ 9 b.cfg\nb = true;\n";
    enum { LENGTH = sizeof good - 1 };
    char text[LENGTH + 1];
    (void)state;
    srandom(11);
    for (int i = 0; i < 30000; i++) {
        size_t length = i < LENGTH ? (size_t)i : LENGTH;
        memcpy(text, good, length);
        text[length] = '\0';
        for (int k = 0; i >= LENGTH && k < 1 + i % 6; k++) {
            char byte = (char)random();
            text[(size_t)random() % LENGTH] = byte == '\0' ? '{' : byte;
        }
        struct config *c = NULL;
        if (config_parse(&c, text, NULL, 0) == MT_OK)
            config_close(&c);
    }
    static char deep[200001];
    memset(deep, '(', sizeof deep - 1);
    memcpy(deep, "a=", 2);
    struct config *c = NULL;
    assert_true(config_parse(&c, deep, NULL, 0) != MT_OK);
    (void)snprintf(deep, sizeof deep, "a=");
    for (int i = 0; i < 500; i++)
        (void)strcat(deep, "{a=");
    (void)strcat(deep, "1;");
    for (int i = 0; i < 500; i++)
        (void)strcat(deep, "};");
    assert_true(config_parse(&c, deep, NULL, 0) != MT_OK);
    assert_null(c);
}

static void nothing_is_left_allocated(void **state)
{
    struct mt_memory_stats s;
    (void)state;
    mt_memory_stats(&s);
    assert_int_equal(s.live_blocks, 0);
}

static void running_out_of_memory_is_clean(void **state)
{
    static const char *const set[] = {"train.epochs=3", "new.key=[1,2]"};
    (void)state;
    for (int n = 1; n < 500; n++) {
        struct config *c = NULL;
        mt_memory_fail_after(n);
        mt_status st = config_parse(&c, base, set, 2);
        mt_memory_fail_after(0);
        if (st == MT_OK) {
            assert_true(n > 20);
            config_close(&c);
            return;
        }
        assert_int_equal(st, MT_NOMEM);
        nothing_is_left_allocated(state);
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_know_their_file_and_line),
        cmocka_unit_test(shipped_schedules_are_found_from_anywhere),
        cmocka_unit_test(a_bundle_is_bytes_that_parse_alone),
        cmocka_unit_test(bad_includes_name_the_file),
        cmocka_unit_test(an_include_in_a_comment_or_string_is_none),
        cmocka_unit_test(long_integers_keep_their_value),
        cmocka_unit_test(wrong_syntax_is_placed),
        cmocka_unit_test(overrides_reach_every_key),
        cmocka_unit_test(wrong_overrides_say_why),
        cmocka_unit_test(hostile_text_never_crashes),
        cmocka_unit_test(running_out_of_memory_is_clean),
        cmocka_unit_test(nothing_is_left_allocated),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

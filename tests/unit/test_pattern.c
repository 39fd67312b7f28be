/* Patterns: which tensors of a 12-layer, two-task BERT each one means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schedules/options.h"
#include "schedules/pattern.h"

static struct tensor_table table;

static void add(const char *name, int depth, int task)
{
    assert_int_equal(tensor_table_add(&table, name, depth, task, 4, 4), MT_OK);
}

static int make_table(void **state)
{
    char name[128];
    (void)state;
    table.layers = 12;
    add("embeddings.word_embeddings.weight", 0, -1);
    add("embeddings.LayerNorm.weight", 0, -1);
    for (int l = 0; l < 12; l++) {
        (void)snprintf(name, sizeof name, "encoder.layer.%d.attention.self.query.weight", l);
        add(name, l + 1, -1);
        (void)snprintf(name, sizeof name, "encoder.layer.%d.output.dense.bias", l);
        add(name, l + 1, -1);
    }
    add("heads.category.weight", 13, 0);
    add("heads.category.bias", 13, 0);
    add("heads.sentiment.weight", 13, 1);
    add("heads.sentiment.bias", 13, 1);
    return 0;
}

static int drop_table(void **state)
{
    (void)state;
    tensor_table_release(&table);
    return 0;
}

static int count(const char *pattern)
{
    int n = 0;
    for (int i = 0; i < table.count; i++)
        n += pattern_match(pattern, &table.entry[i], table.layers);
    return n;
}

static bool means(const char *pattern, const char *name)
{
    return pattern_match(pattern, &table.entry[tensor_table_find(&table, name)], table.layers);
}

static void each_form_means_what_it_says(void **state)
{
    static const struct {
        const char *pattern;
        int tensors;
    } cases[] = {
        {"*", 30},
        {"all", 30},
        {"none", 0},
        {"heads.*", 4},
        {"heads", 4},
        {"heads.sentiment", 2},
        {"embeddings", 2},
        {"encoder.layer.3", 2},
        {"encoder.layer.[8-11].*", 8},
        {"encoder.layer.[8-11]", 8},
        {"encoder.layer.[0-1,11]", 6},
        {"encoder.layer.[1].*", 2},
        {"encoder.layer.1", 2},
        {"encoder.layer.1*", 6},
        {"*.bias", 14},
        {"*.{query,word_embeddings}.*", 13},
        {"heads.{category,sentiment}.bias", 2},
        {"{heads,embeddings}", 6},
        {"top(1)", 2},
        {"top(4)", 8},
        {"top(99)", 24},
        {"top(0)", 0},
        {"top(33%)", 8},
        {"top(100%)", 24},
        {"top(1%)", 2},
        {"encoder", 24},
        {"enc", 0},
        {"heads.sent", 0},
        {"encoder.layer.[12-20]", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (count(cases[i].pattern) != cases[i].tensors)
            print_message("%s\n", cases[i].pattern);
        assert_int_equal(count(cases[i].pattern), cases[i].tensors);
    }
    assert_true(means("top(1)", "encoder.layer.11.output.dense.bias"));
    assert_false(means("top(4)", "heads.category.bias"));
    assert_false(means("encoder.layer.[1-1]*", "encoder.layer.11.output.dense.bias"));
}

static void a_selection_is_a_mask(void **state)
{
    char first[] = "heads.*", second[] = "pooler.*", third[] = "top(2)";
    char *items[] = {first, second, third};
    const struct string_list list = {items, 3, NULL};
    uint8_t mask[30] = {0};
    int32_t absent = 0;
    (void)state;
    assert_int_equal(pattern_select(&list, &table, 1, mask, &absent), MT_OK);
    int n = 0;
    for (int i = 0; i < 30; i++)
        n += mask[i];
    assert_int_equal(n, 8);
    assert_int_equal(absent, 1);
}

static void fails_with(const char *pattern, const char *message)
{
    char text[300], place[] = "schedules/x.cfg:7: phases[1].train";
    uint8_t mask[30] = {0};
    (void)snprintf(text, sizeof text, "%s", pattern);
    char *items[] = {text};
    const struct string_list list = {items, 1, place};
    assert_int_equal(pattern_select(&list, &table, 1, mask, NULL), MT_CONFIG);
    assert_string_equal(mt_error_peek()->message, message);
}

static void a_pattern_that_means_nothing_is_an_error(void **state)
{
    (void)state;
    fails_with("encoder.layer.12.*",
               "schedules/x.cfg:7: phases[1].train: \"encoder.layer.12.*\" matches no "
               "tensor (layers are 0..11)");
    fails_with("heads.mood",
               "schedules/x.cfg:7: phases[1].train: \"heads.mood\" matches no tensor (layers are "
               "0..11; heads are category, sentiment)");
}

static void wrong_syntax_is_named(void **state)
{
    (void)state;
    fails_with("", "schedules/x.cfg:7: phases[1].train: \"\": an empty pattern");
    fails_with("top(x)",
               "schedules/x.cfg:7: phases[1].train: \"top(x)\": expected top(4) or top(33%)");
    fails_with("top(101%)",
               "schedules/x.cfg:7: phases[1].train: \"top(101%)\": expected top(4) or top(33%)");
    fails_with(
        "a[3",
        "schedules/x.cfg:7: phases[1].train: \"a[3\": expected a range of numbers like [8-11] or "
        "[0-2,7]");
    fails_with(
        "a[5-3]",
        "schedules/x.cfg:7: phases[1].train: \"a[5-3]\": expected a range of numbers like [8-11] "
        "or [0-2,7]");
    fails_with("{a,b", "schedules/x.cfg:7: phases[1].train: \"{a,b\": expected a choice of plain "
                       "texts like {a,b}");
    fails_with("a]", "schedules/x.cfg:7: phases[1].train: \"a]\": a bracket that was not opened");
}

static void many_stars_take_no_time(void **state)
{
    char pattern[200] = "";
    (void)state;
    for (int i = 0; i < 60; i++)
        (void)strcat(pattern, "*e");
    (void)strcat(pattern, "*Z");
    assert_int_equal(count(pattern), 0);
}

static void random_patterns_never_crash(void **state)
{
    static const char letters[] = "*[]{},-0189encoder.layer()%top$";
    char pattern[40];
    (void)state;
    srandom(3);
    for (int i = 0; i < 50000; i++) {
        size_t n = (size_t)random() % sizeof pattern;
        for (size_t k = 0; k < n; k++)
            pattern[k] = letters[(size_t)random() % (sizeof letters - 1)];
        pattern[n < sizeof pattern ? n : n - 1] = '\0';
        (void)count(pattern);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_means_what_it_says),
        cmocka_unit_test(a_selection_is_a_mask),
        cmocka_unit_test(a_pattern_that_means_nothing_is_an_error),
        cmocka_unit_test(wrong_syntax_is_named),
        cmocka_unit_test(many_stars_take_no_time),
        cmocka_unit_test(random_patterns_never_crash),
    };
    return cmocka_run_group_tests(tests, make_table, drop_table);
}

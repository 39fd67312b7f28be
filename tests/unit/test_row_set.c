#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/row_set.h"

enum { ROWS = 130, ROW = 3, BEGIN = 10, END = BEGIN + ROWS * ROW };

static struct range range[2] = {{4, END + 9}, {END + 20, END + 30}};
static const struct range_list ranges = {.r = range, .count = 2, .capacity = 2};

static bool is_used(const struct row_set *set, int64_t i)
{
    for (int32_t k = 0; k < set->active.count; k++)
        if (i >= set->active.r[k].begin && i < set->active.r[k].end)
            return true;
    return false;
}

static bool in_ranges(int64_t i)
{
    return (i >= range[0].begin && i < range[0].end) || (i >= range[1].begin && i < range[1].end);
}

static void check_list(const struct row_set *set, const int32_t *ids, int32_t count)
{
    int64_t elements = 0;
    for (int64_t i = 0; i < END + 40; i++) {
        bool expected = in_ranges(i) && (i < BEGIN || i >= END);
        for (int32_t k = 0; k < count; k++)
            expected = expected || (i >= BEGIN && (i - BEGIN) / ROW == ids[k]);
        assert_int_equal(is_used(set, i), expected);
        elements += expected;
    }
    assert_int_equal(set->active.elements, elements);
    assert_int_equal(range_list_within(&set->active, 0, END + 40), elements);
    for (int32_t k = 1; k < set->active.count; k++)
        assert_true(set->active.r[k].begin > set->active.r[k - 1].end);
}

static void the_list_has_the_rows_named_and_all_else(void **state)
{
    (void)state;
    static const int32_t cases[][5] = {
        {0, 1, 2, 3, 4}, {0, 63, 64, 65, 129}, {128, 129, 129, 127, 1}, {2, 4, 6, 8, 10}};
    struct row_set set;
    assert_int_equal(row_set_init(&set, BEGIN, ROWS, ROW, &ranges), MT_OK);
    assert_int_equal(set.active.elements, END + 9 - 4 + 10); /* all rows at first */
    row_set_clear(&set);
    row_set_list(&set);
    check_list(&set, NULL, 0);
    for (int c = 0; c < 4; c++) {
        row_set_clear(&set);
        row_set_add(&set, cases[c], 3);
        row_set_add(&set, cases[c] + 3, 2);
        row_set_list(&set);
        check_list(&set, cases[c], 5);
    }
    row_set_release(&set);
}

static void the_longest_list_fits(void **state)
{
    (void)state;
    struct row_set set;
    assert_int_equal(row_set_init(&set, BEGIN, ROWS, ROW, &ranges), MT_OK);
    row_set_clear(&set);
    for (int32_t id = 1; id < ROWS - 1; id += 2)
        row_set_add(&set, &id, 1);
    row_set_list(&set);
    assert_int_equal(set.active.count, ROWS / 2 - 1 + 3);
    assert_true(set.active.count <= set.active.capacity);
    row_set_release(&set);
}

static void zeroing_leaves_other_rows_alone(void **state)
{
    (void)state;
    static const int32_t ids[] = {0, 5, 64, 129};
    struct row_set set;
    float block[END + 40];
    assert_int_equal(row_set_init(&set, BEGIN, ROWS, ROW, &ranges), MT_OK);
    row_set_clear(&set);
    row_set_add(&set, ids, 4);
    row_set_list(&set);
    for (int64_t i = 0; i < END + 40; i++)
        block[i] = 1.0f;
    row_set_zero(&set, set.ranges, set.mask, block);
    for (int64_t i = 0; i < END + 40; i++)
        assert_true(block[i] == (is_used(&set, i) ? 0.0f : 1.0f));
    row_set_release(&set);
}

static void a_walk_gives_the_parts_within_bounds(void **state)
{
    (void)state;
    struct range r[] = {{2, 5}, {8, 9}, {9, 20}}, p;
    struct range_list list = {.r = r, .count = 3, .capacity = 3};
    for (int64_t begin = 0; begin < 24; begin++)
        for (int64_t end = begin; end < 24; end++) {
            int64_t count = 0, last = begin, expected = 0;
            for (int64_t i = begin; i < end; i++)
                expected += (i >= 2 && i < 5) || (i >= 8 && i < 20);
            for (struct range_walk w = range_walk_over(&list, begin, end);
                 range_walk_next(&w, &p);) {
                assert_true(p.begin >= last && p.end > p.begin && p.end <= end);
                last = p.end;
                count += p.end - p.begin;
            }
            assert_int_equal(count, expected);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list_has_the_rows_named_and_all_else),
        cmocka_unit_test(the_longest_list_fits),
        cmocka_unit_test(zeroing_leaves_other_rows_alone),
        cmocka_unit_test(a_walk_gives_the_parts_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/base/tensors.h"

static void add(struct tensor_table *t, const char *name, int32_t depth, int64_t rows, int64_t cols)
{
    assert_int_equal(tensor_table_add(t, name, depth, -1, rows, cols), MT_OK);
}

static void four_tensors(struct tensor_table *t)
{
    memset(t, 0, sizeof *t);
    add(t, "embeddings.word_embeddings.weight", 0, 5, 3);
    add(t, "embeddings.LayerNorm.weight", 0, 3, 0);
    add(t, "encoder.layer.0.output.dense.weight", 1, 3, 16);
    add(t, "encoder.layer.0.output.dense.bias", 1, 17, 0);
}

static void tensors_are_laid_out_aligned_and_in_order(void **state)
{
    (void)state;
    struct tensor_table t;
    four_tensors(&t);
    const int64_t offsets[] = {0, 16, 32, 80}, counts[] = {15, 3, 48, 17};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t.entry[i].offset, offsets[i]);
        assert_int_equal(t.entry[i].count, counts[i]);
    }
    assert_int_equal(t.total, 112);
    assert_int_equal(t.entry[1].ndim, 1);
    assert_int_equal(t.entry[1].shape[1], 1);
    tensor_table_release(&t);
}

static void weights_decay_and_biases_and_norms_do_not(void **state)
{
    (void)state;
    struct tensor_table t;
    four_tensors(&t);
    assert_true(t.entry[0].decays);
    assert_false(t.entry[1].decays);
    assert_true(t.entry[2].decays);
    assert_false(t.entry[3].decays);
    tensor_table_release(&t);
}

static void names_are_found_and_must_be_unique(void **state)
{
    (void)state;
    struct tensor_table t;
    four_tensors(&t);
    assert_int_equal(tensor_table_find(&t, "encoder.layer.0.output.dense.bias"), 3);
    assert_int_equal(tensor_table_find(&t, "encoder.layer.0.output.dense"), -1);
    assert_int_equal(tensor_table_add(&t, "embeddings.LayerNorm.weight", 0, -1, 3, 0), MT_BUG);
    char longest[TENSOR_NAME_BYTES + 1];
    memset(longest, 'n', sizeof longest);
    longest[TENSOR_NAME_BYTES] = '\0';
    assert_int_equal(tensor_table_add(&t, longest, 0, -1, 3, 0), MT_BUG);
    assert_int_equal(t.count, 4);
    tensor_table_release(&t);
}

static void the_table_grows_past_its_first_block(void **state)
{
    (void)state;
    struct tensor_table t = {0};
    for (int i = 0; i < 500; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "encoder.layer.%d.weight", i);
        add(&t, name, i, i + 1, 2);
    }
    assert_int_equal(t.count, 500);
    assert_int_equal(tensor_table_find(&t, "encoder.layer.321.weight"), 321);
    tensor_table_release(&t);
}

static void the_hash_tells_names_shapes_and_order_apart(void **state)
{
    (void)state;
    struct tensor_table a, b = {0}, c = {0}, d = {0};
    four_tensors(&a);
    struct tensor_table same;
    four_tensors(&same);
    assert_true(tensor_table_hash(&a) == tensor_table_hash(&same));
    add(&b, "x", 0, 4, 2);
    add(&b, "y", 0, 4, 2);
    add(&c, "y", 0, 4, 2);
    add(&c, "x", 0, 4, 2);
    add(&d, "x", 0, 2, 4);
    add(&d, "y", 0, 4, 2);
    assert_true(tensor_table_hash(&b) != tensor_table_hash(&c));
    assert_true(tensor_table_hash(&b) != tensor_table_hash(&d));
    assert_true(tensor_table_hash(&c) != tensor_table_hash(&d));
    tensor_table_release(&a);
    tensor_table_release(&b);
    tensor_table_release(&c);
    tensor_table_release(&d);
    tensor_table_release(&same);
}

static void ranges_cover_exactly_the_chosen_tensors(void **state)
{
    (void)state;
    struct tensor_table t;
    struct range_list list = {0};
    four_tensors(&t);
    const int64_t offsets[] = {0, 16, 32, 80}, counts[] = {15, 3, 48, 17};
    for (unsigned bits = 0; bits < 16; bits++) {
        uint8_t mask[4], covered[112] = {0}, chosen[112] = {0};
        for (int i = 0; i < 4; i++) {
            mask[i] = bits >> i & 1;
            if (mask[i])
                memset(chosen + offsets[i], 1, (size_t)counts[i]);
        }
        assert_int_equal(range_list_of(&list, &t, mask), MT_OK);
        int64_t elements = 0;
        for (int32_t r = 0; r < list.count; r++) {
            assert_true(list.r[r].begin < list.r[r].end);
            assert_true(r == 0 || list.r[r].begin > list.r[r - 1].end);
            memset(covered + list.r[r].begin, 1, (size_t)(list.r[r].end - list.r[r].begin));
            elements += list.r[r].end - list.r[r].begin;
        }
        assert_int_equal(list.elements, elements);
        for (int i = 0; i < 112; i++) {
            bool padding = true;
            for (int k = 0; k < 4; k++)
                padding = padding && !(i >= offsets[k] && i < offsets[k] + counts[k]);
            if (!padding)
                assert_int_equal(covered[i], chosen[i]);
        }
    }
    assert_int_equal(list.count, 1); /* all four melt into one */
    range_list_release(&list);
    tensor_table_release(&t);
}

static void nothing_is_left_allocated(void **state)
{
    (void)state;
    struct mt_memory_stats s;
    mt_memory_stats(&s);
    assert_int_equal(s.live_blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_laid_out_aligned_and_in_order),
        cmocka_unit_test(weights_decay_and_biases_and_norms_do_not),
        cmocka_unit_test(names_are_found_and_must_be_unique),
        cmocka_unit_test(the_table_grows_past_its_first_block),
        cmocka_unit_test(the_hash_tells_names_shapes_and_order_apart),
        cmocka_unit_test(ranges_cover_exactly_the_chosen_tensors),
        cmocka_unit_test(nothing_is_left_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

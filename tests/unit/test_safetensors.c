#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "tests/support/shared_data.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static float SMALL[6] = {1, 2, 3, 4, 5, -6.5f};

static const struct safetensors_item ITEMS[] = {
    {"b.weight", 2, {2, 3}, SMALL},
    {"a.bias", 1, {3, 1}, SMALL + 3},
    {"empty", 1, {0, 1}, SMALL},
};

/* A file of a JSON header and `data` zero bytes. */
static const char *write_raw(const char *header, long data)
{
    static char bytes[1 << 16];
    uint64_t length = strlen(header);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    return test_write_file("raw.safetensors", bytes, (long)length + 8 + data);
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct safetensors *f;
    float got[6];
    const char *path = test_path("w.safetensors");
    expect_ok(safetensors_write(path, ITEMS, 3));
    expect_ok(safetensors_open(&f, path));
    assert_int_equal(safetensors_count(f), 3);
    const struct safetensors_entry *e = safetensors_find(f, "b.weight");
    assert_true(e != NULL && e->ndim == 2 && e->shape[0] == 2 && e->shape[1] == 3);
    expect_ok(safetensors_copy_f32(f, e, got));
    assert_memory_equal(got, SMALL, sizeof got);
    e = safetensors_find(f, "a.bias");
    assert_true(e != NULL && e->ndim == 1 && e->count == 3 && e->begin_bytes == 0);
    expect_ok(safetensors_copy_f32(f, e, got));
    assert_memory_equal(got, SMALL + 3, 12);
    assert_int_equal(safetensors_find(f, "empty")->count, 0);
    assert_null(safetensors_find(f, "c"));
    assert_null(safetensors_find(f, "__metadata__"));
    assert_string_equal(safetensors_by_name(f, 0)->name, "a.bias");
    safetensors_close(&f);
    char *text;
    int64_t bytes;
    uint64_t length;
    expect_ok(file_read(&text, &bytes, path, 1 << 20));
    memcpy(&length, text, 8);
    assert_int_equal(length % 8, 0);
    assert_non_null(strstr(text + 8, "{\"__metadata__\":{\"format\":\"pt\"}"));
    mt_free(&text);
}

static void two_tensors_of_one_name_are_not_written(void **state)
{
    (void)state;
    struct safetensors_item twice[] = {ITEMS[0], ITEMS[1], ITEMS[0]};
    expect_fail(safetensors_write(test_path("d.safetensors"), twice, 3), MT_BUG, "b.weight");
    assert_false(file_exists(test_path("d.safetensors")));
}

static void half_precision_widens_exactly(void **state)
{
    (void)state;
    assert_true(safetensors_from_f16(0x3c00) == 1.0f);
    assert_true(safetensors_from_f16(0xc248) == -3.140625f);
    assert_true(safetensors_from_f16(0x7bff) == 65504.0f);
    assert_true(safetensors_from_f16(0x0001) == 0x1p-24f);
    assert_true(safetensors_from_f16(0x83ff) == -1023 * 0x1p-24f);
    assert_true(safetensors_from_f16(0x0400) == 0x1p-14f);
    assert_true(isinf(safetensors_from_f16(0xfc00)) && safetensors_from_f16(0xfc00) < 0);
    assert_true(isnan(safetensors_from_f16(0x7e01)));
    assert_true(signbit(safetensors_from_f16(0x8000)) && safetensors_from_f16(0x8000) == 0);
    assert_true(safetensors_from_bf16(0x3f80) == 1.0f);
    assert_true(safetensors_from_bf16(0xc049) == -3.140625f);
    assert_true(isnan(safetensors_from_bf16(0x7fc1)));
    /* every finite half is a float that rounds back to the same half by its definition */
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        int exponent = (int)(bits >> 10);
        double want = exponent == 0 ? ldexp((double)(bits & 1023), -24)
                                    : ldexp((double)((bits & 1023) + 1024), exponent - 25);
        assert_true((double)safetensors_from_f16((uint16_t)bits) == want);
    }
}

static void all_real_dtypes_are_converted_and_others_refused(void **state)
{
    (void)state;
    static const char header[] =
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]},"
        "\"c\":{\"dtype\":\"BF16\",\"shape\":[1,1,1],\"data_offsets\":[12,14]},"
        "\"d\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[14,22]}}   ";
    char bytes[1024];
    uint64_t length = strlen(header);
    double a = 1.0 / 3.0;
    uint16_t half[3] = {0x3c00, 0xc000, 0x4000};
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memset(bytes + 8 + length, 0, 22);
    memcpy(bytes + 8 + length, &a, 8);
    memcpy(bytes + 16 + length, half, 6);
    struct safetensors *f;
    float v[2];
    expect_ok(safetensors_open(&f, test_write_file("k.safetensors", bytes, (long)length + 30)));
    expect_ok(safetensors_copy_f32(f, safetensors_find(f, "a"), v));
    assert_true(v[0] == (float)(1.0 / 3.0));
    expect_ok(safetensors_copy_f32(f, safetensors_find(f, "b"), v));
    assert_true(v[0] == 1.0f && v[1] == -2.0f);
    expect_ok(safetensors_copy_f32(f, safetensors_find(f, "c"), v));
    assert_true(v[0] == 2.0f);
    assert_int_equal(safetensors_find(f, "d")->count, 1);
    expect_fail(safetensors_copy_f32(f, safetensors_find(f, "d"), v), MT_DATA, "tensor d is I64");
    safetensors_close(&f);
}

static void a_header_that_lies_is_refused_by_name(void **state)
{
    (void)state;
#define T(shape, begin, end)                                                                       \
    "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
    static const struct {
        const char *header;
        long data;
        const char *part;
    } bad[] = {
        {"{\"x\":" T("[2]", "0", "8") "}", 4, "truncated: tensor x"},
        {"{\"x\":" T("[2]", "0", "8") "}", 12, "header says 8 bytes of data, the file has 12"},
        {"{\"x\":" T("[2]", "0", "8") ",\"y\":" T("[1]", "12", "16") "}", 16, "hole"},
        {"{\"x\":" T("[2]", "0", "8") ",\"y\":" T("[1]", "4", "8") "}", 8, "overlap"},
        {"{\"x\":" T("[2]", "4", "12") "}", 12, "hole"},
        {"{\"x\":" T("[3]", "0", "8") "}", 8, "tensor x: its shape"},
        {"{\"x\":" T("[-1]", "0", "8") "}", 8, "tensor x: size 0"},
        {"{\"x\":" T("[4294967296,4294967296]", "0", "8") "}", 8, "tensor x: size 1"},
        {"{\"x\":" T("[2305843009213693952]", "0", "0") "}", 0, "tensor x"},
        {"{\"x\":" T("[2]", "8", "0") "}", 8, "data_offsets"},
        {"{\"x\":" T("[2]", "-8", "0") "}", 8, "data_offsets"},
        {"{\"x\":" T("[2]", "0", "9223372036854775807") "}", 8, "truncated: tensor x"},
        {"{\"x\":" T("[2]", "0", "9223372036854775808") "}", 8, "raw.safetensors"},
        {"{\"x\":" T("[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "tensor x: shape"},
        {"{\"x\":" T("2", "0", "8") "}", 8, "tensor x: shape"},
        {"{\"x\":" T("[2.0]", "0", "8") "}", 8, "tensor x: size"},
        {"{\"x\":{\"dtype\":\"Q4\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype Q4"},
        {"{\"x\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype (none)"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets"},
        {"{\"x\":5}", 8, "dtype"},
        {"{\"x\":" T("[2]", "0", "8") ",\"x\":" T("[2]", "0", "8") "}", 8, "duplicate"},
        {"{\"__metadata__\":{\"format\":5}}", 0, "__metadata__"},
        {"{\"__metadata__\":[]}", 0, "__metadata__"},
        {"[1]", 0, "does not begin with '{'"},
        {"{\"x\":", 0, "not valid JSON"},
        {"{\"\\u0000\":" T("[2]", "0", "8") "}", 8, "raw.safetensors"},
    };
    struct safetensors *f;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_fail(safetensors_open(&f, write_raw(bad[i].header, bad[i].data)), MT_DATA,
                    bad[i].part);
}

static void a_length_that_lies_costs_no_memory(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 3, 100, 90000000, 100000001, 1ull << 62, UINT64_MAX};
    struct safetensors *f;
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[16] = "01234567{}";
        memcpy(bytes, &lengths[i], 8);
        assert_int_equal(safetensors_open(&f, test_write_file("l.safetensors", bytes, 10)),
                         MT_DATA);
    }
    mt_memory_stats(&after);
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_true(after.peak_bytes - before.live_bytes < 1 << 20 ||
                after.peak_bytes == before.peak_bytes);
    for (long n = 0; n < 8; n++)
        expect_fail(safetensors_open(&f, test_write_file("l.safetensors", "abcdefgh", n)), MT_DATA,
                    "truncated");
    expect_fail(safetensors_open(&f, test_path("absent")), MT_DATA, "absent");
    expect_fail(safetensors_open(&f, test_dir()), MT_IO, "folder");
}

static char *small_file(int64_t *bytes)
{
    char *text;
    const char *path = test_path("s.safetensors");
    expect_ok(safetensors_write(path, ITEMS, 3));
    expect_ok(file_read(&text, bytes, path, 1 << 20));
    return text;
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    int64_t bytes;
    char *text = small_file(&bytes);
    struct safetensors *f;
    for (int64_t n = 0; n < bytes; n++)
        expect_fail(safetensors_open(&f, test_write_file("cut.safetensors", text, n)), MT_DATA,
                    "download it again");
    mt_free(&text);
}

static void a_flipped_bit_never_leads_out_of_the_file(void **state)
{
    (void)state;
    int64_t bytes, opened = 0;
    char *text = small_file(&bytes);
    for (int64_t bit = 0; bit < 8 * bytes; bit++) {
        struct safetensors *f;
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        mt_status st = safetensors_open(&f, test_write_file("flip.safetensors", text, bytes));
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << bit % 8));
        if (st != MT_OK) {
            assert_int_equal(st, MT_DATA);
            continue;
        }
        opened++;
        for (int32_t i = 0; i < safetensors_count(f); i++) {
            float v[64];
            const struct safetensors_entry *e = safetensors_at(f, i);
            assert_true(e->count <= 64);
            mt_status copied = safetensors_copy_f32(f, e, v); /* sanitizers watch the bounds */
            assert_true(copied == MT_OK || copied == MT_DATA);
        }
        safetensors_close(&f);
    }
    assert_true(opened > 0); /* flips in the numbers are not the format's to find */
    mt_free(&text);
}

static void every_fault_of_a_write_leaves_no_file_or_all_of_it(void **state)
{
    (void)state;
    bool clean = false;
    const char *path = test_path("fault.safetensors");
    struct mt_memory_stats before, after;
    mt_memory_stats(&before);
    for (int64_t n = 1; !clean && n < 200; n++) {
        expect_ok(file_remove(path));
        file_fail_after(n);
        clean = safetensors_write(path, ITEMS, 3) == MT_OK;
        file_fail_after(0);
        struct safetensors *f;
        if (file_exists(path)) {
            expect_ok(safetensors_open(&f, path));
            safetensors_close(&f);
        }
        for (int64_t m = 1; m < 40; m++) {
            mt_memory_fail_after(m);
            mt_status st = safetensors_write(path, ITEMS, 3);
            mt_memory_fail_after(0);
            assert_true(st == MT_OK || st == MT_NOMEM);
        }
    }
    mt_memory_stats(&after);
    assert_true(clean);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void a_file_of_another_implementation_is_read(void **state)
{
    (void)state;
    SHARED_DATA_OR_SKIP(path, "data/tiny-bert/tiny_bert.safetensors");
    struct safetensors *f;
    expect_ok(safetensors_open(&f, path));
    assert_int_equal(safetensors_count(f), 39);
    const struct safetensors_entry *e = safetensors_find(f, "embeddings.word_embeddings.weight");
    assert_true(e != NULL && e->shape[0] == 11 && e->shape[1] == 8);
    safetensors_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(two_tensors_of_one_name_are_not_written),
        cmocka_unit_test(half_precision_widens_exactly),
        cmocka_unit_test(all_real_dtypes_are_converted_and_others_refused),
        cmocka_unit_test(a_header_that_lies_is_refused_by_name),
        cmocka_unit_test(a_length_that_lies_costs_no_memory),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_flipped_bit_never_leads_out_of_the_file),
        cmocka_unit_test(every_fault_of_a_write_leaves_no_file_or_all_of_it),
        cmocka_unit_test(a_file_of_another_implementation_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

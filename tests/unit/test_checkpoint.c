#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/inspect_model.h"
#include "tests/support/small_run.h"

static void what_is_saved_is_read_back(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_reader *r;
    uint8_t groups[] = {ALL, 1, 1, ALL, 1}, present[5];
    float *back = small_table_block(&table, 9), *zero = small_table_block(&table, 9);
    char *text;
    int64_t bytes;
    expect_ok(try_save(run, 120, groups, NULL));
    expect_ok(checkpoint_open(&r, path_of(run, 120, "."), true));
    assert_int_equal(checkpoint_step(r), 120);
    assert_true(checkpoint_table_hash(r) == tensor_table_hash(&table));
    expect_ok(checkpoint_read_block(r, CHECKPOINT_PARAMS, &table, back, NULL));
    assert_memory_equal(back, params, (size_t)table.total * 4);
    memcpy(back, zero, (size_t)table.total * 4);
    expect_ok(checkpoint_read_block(r, CHECKPOINT_ADAM_V, &table, back, present));
    for (int32_t i = 0; i < table.count; i++) {
        const struct tensor *t = &table.entry[i];
        assert_int_equal(present[i], groups[i] == ALL);
        assert_memory_equal(back + t->offset, (present[i] ? adam_v : zero) + t->offset,
                            (size_t)t->count * 4);
    }
    expect_fail(checkpoint_read_tensor(r, CHECKPOINT_ADAM_M, 1, back), MT_DATA, "adam_m");
    expect_ok(checkpoint_read_text(r, "state.json", &text, &bytes));
    assert_string_equal(text, "{\"step\":1}");
    mt_free(&text);
    expect_fail(checkpoint_read_text(r, "job.cfg", &text, &bytes), MT_DATA, "job.cfg");
    expect_fail(checkpoint_read_text(r, "../state.json", &text, &bytes), MT_DATA, "has no");
    checkpoint_close(&r);
    mt_free(&back);
    mt_free(&zero);
}

static void a_table_of_other_shapes_is_refused_with_both(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_reader *r;
    struct tensor_table other;
    save(run, 1);
    small_table_make(&other);
    float *block = small_table_block(&other, 0);
    expect_ok(checkpoint_open(&r, path_of(run, 1, "."), true));
    other.entry[3].shape[0] = 2;
    expect_fail(checkpoint_read_block(r, CHECKPOINT_PARAMS, &other, block, NULL), MT_DATA,
                "heads.mood.weight is [3, 8], the model wants [2, 8]");
    (void)snprintf(other.entry[3].name, TENSOR_NAME_BYTES, "heads.other.weight");
    expect_fail(checkpoint_read_block(r, CHECKPOINT_PARAMS, &other, block, NULL), MT_DATA,
                "no tensor heads.other.weight");
    checkpoint_close(&r);
    mt_free(&block);
    tensor_table_release(&other);
}

static void arrays_must_be_announced_and_written_once(void **state)
{
    (void)state;
    struct checkpoint_writer *w;
    uint8_t groups[] = {1, 1, 1, 1, 1};
    const char *run = new_run();
    expect_ok(checkpoint_begin(&w, run, 3, &table, groups, NULL));
    assert_int_equal(checkpoint_add_tensor(w, CHECKPOINT_ADAM_M, 0, adam_m), MT_BUG);
    expect_ok(checkpoint_add_tensor(w, CHECKPOINT_PARAMS, 0, params));
    assert_int_equal(checkpoint_add_tensor(w, CHECKPOINT_PARAMS, 0, params), MT_BUG);
    expect_fail(checkpoint_commit(w), MT_BUG, "announced and not written");
    assert_int_equal(checkpoint_add_text(w, "../x", "", 0), MT_ARG);
    assert_int_equal(checkpoint_add_text(w, "manifest.json", "", 0), MT_ARG);
    assert_int_equal(checkpoint_add_text(w, "state.h5", "", 0), MT_ARG);
    assert_int_equal(checkpoint_add_text(w, ".hidden", "", 0), MT_ARG);
    checkpoint_discard(&w);
    assert_false(file_exists(path_of(run, 3, ".")));
    char temp[CHECKPOINT_PATH_BYTES];
    (void)snprintf(temp, sizeof temp, "%s/checkpoints/step-00000003.tmp", run);
    assert_false(file_exists(temp));
}

static void the_order_of_writing_does_not_show(void **state)
{
    (void)state;
    const char *run = new_run();
    uint8_t groups[] = {ALL, 1, 1, ALL, 1};
    struct checkpoint_writer *w;
    expect_ok(try_save(run, 1, groups, NULL));
    expect_ok(checkpoint_begin(&w, run, 2, &table, groups, NULL));
    for (int32_t i = table.count - 1; i >= 0; i--) {
        if (groups[i] == ALL) {
            expect_ok(
                checkpoint_add_tensor(w, CHECKPOINT_ADAM_V, i, adam_v + table.entry[i].offset));
            expect_ok(
                checkpoint_add_tensor(w, CHECKPOINT_ADAM_M, i, adam_m + table.entry[i].offset));
        }
        expect_ok(checkpoint_add_tensor(w, CHECKPOINT_PARAMS, i, params + table.entry[i].offset));
    }
    expect_ok(checkpoint_commit(w));
    checkpoint_discard(&w);
    assert_true(hash_of(run, 1) == hash_of(run, 2));
}

static void the_hash_sees_every_array_and_nothing_else(void **state)
{
    (void)state;
    const char *run = new_run();
    uint8_t fewer[] = {ALL, 1, 1, ALL, 1};
    uint64_t only, only_again;
    save(run, 1);
    save(run, 2);
    assert_true(hash_of(run, 1) == hash_of(run, 2)); /* the step is not in it */
    expect_ok(try_save(run, 3, fewer, NULL));
    assert_true(hash_of(run, 3) != hash_of(run, 1));
    expect_ok(inspect_model_hash(path_of(run, 1, "."), true, &only));
    expect_ok(inspect_model_hash(path_of(run, 3, "."), true, &only_again));
    assert_true(only == only_again && only != hash_of(run, 1));
    float *const blocks[] = {params, adam_m, adam_v};
    for (int b = 0; b < 3; b++) {
        float kept = blocks[b][table.entry[4].offset + 2];
        blocks[b][table.entry[4].offset + 2] += 0.5f;
        save(run, 4);
        assert_true(hash_of(run, 4) != hash_of(run, 1));
        blocks[b][table.entry[4].offset + 2] = kept;
    }
    save(run, 4);
    assert_true(hash_of(run, 4) == hash_of(run, 1));
}

static void every_damaged_byte_is_found(void **state)
{
    (void)state;
    static const char *const files[] = {"manifest.json", "state.h5", "state.json"};
    const char *run = new_run();
    save(run, 5);
    for (size_t f = 0; f < 3; f++) {
        char path[CHECKPOINT_PATH_BYTES];
        int64_t bytes, stride;
        (void)snprintf(path, sizeof path, "%s", path_of(run, 5, files[f]));
        expect_ok(file_size(&bytes, path));
        stride = bytes > 4000 ? 61 : 1;
        for (int64_t at = 0; at < bytes; at += stride) {
            overwrite(path, at, 1 << at % 8);
            assert_int_equal(checkpoint_verify(path_of(run, 5, ".")), MT_DATA);
            overwrite(path, at, 1 << at % 8);
        }
        expect_ok(checkpoint_verify(path_of(run, 5, ".")));
    }
}

static void every_truncation_is_found(void **state)
{
    (void)state;
    static const char *const files[] = {"manifest.json", "state.h5", "state.json"};
    const char *run = new_run();
    for (size_t f = 0; f < 3; f++) {
        char path[CHECKPOINT_PATH_BYTES];
        int64_t bytes;
        (void)snprintf(path, sizeof path, "%s", path_of(run, 5, files[f]));
        save(run, 5);
        expect_ok(file_size(&bytes, path));
        for (int64_t cut = bytes - 1; cut >= 0; cut -= cut > 4000 ? 97 : 1) {
            assert_int_equal(truncate(path, cut), 0);
            assert_int_equal(checkpoint_verify(path_of(run, 5, ".")), MT_DATA);
        }
        expect_ok(file_remove(path));
        assert_int_equal(checkpoint_verify(path_of(run, 5, ".")), MT_DATA);
    }
}

static void an_unfinished_or_renamed_folder_is_no_checkpoint(void **state)
{
    (void)state;
    const char *run = new_run();
    char other[CHECKPOINT_PATH_BYTES];
    save(run, 5);
    (void)snprintf(other, sizeof other, "%s/checkpoints/step-00000006", run);
    expect_ok(file_rename(path_of(run, 5, ""), other));
    expect_fail(checkpoint_verify(other), MT_DATA, "another checkpoint");
    (void)snprintf(other, sizeof other, "%s/checkpoints/step-00000005.tmp", run);
    expect_ok(file_rename(path_of(run, 6, ""), other));
    expect_fail(checkpoint_verify(other), MT_DATA, "never finished");
    (void)snprintf(other, sizeof other, "%s/copy", run);
    char from[CHECKPOINT_PATH_BYTES];
    (void)snprintf(from, sizeof from, "%s/checkpoints/step-00000005.tmp", run);
    expect_ok(file_rename(from, other));
    expect_ok(checkpoint_verify(other)); /* a copy under a name of the user's */
    expect_fail(checkpoint_verify(path_of(run, 5, "")), MT_DATA, "no checkpoint of this name");
}

/* A manifest that is whole, sealed and wrong. */
static void seal(char *out, size_t room, const char *body)
{
    char hash[HASH_TEXT_BYTES];
    hash64_format(hash, hash64_of(body, (int64_t)strlen(body)));
    (void)snprintf(out, room, "%s,\"manifest_xxh64\":\"%s\"}\n", body, hash);
}

static void a_sealed_manifest_that_lies_is_refused(void **state)
{
    (void)state;
#define HEAD "{\"format\":\"mttrain-checkpoint\",\"version\":1,\"step\":5,"
#define TABLE "\"table_hash\":\"0123456789abcdef\","
#define FILES "\"files\":[{\"name\":\"state.h5\",\"bytes\":100,\"xxh64\":\"0123456789abcdef\"}],"
    static const struct {
        const char *body, *part;
    } bad[] = {
        {"{\"format\":\"other\",\"version\":1,\"step\":5", "other"},
        {"{\"format\":\"mttrain-checkpoint\",\"version\":99,\"step\":5", "version 99"},
        {HEAD "\"x\":1", "table_hash"},
        {HEAD TABLE "\"files\":5", "files"},
        {HEAD TABLE "\"files\":[{\"name\":\"../../etc/passwd\",\"bytes\":1,\"xxh64\":"
                    "\"0123456789abcdef\"}],\"shared\":[]",
         "file name"},
        {HEAD TABLE "\"files\":[],\"shared\":[{\"name\":\"base/../x\",\"bytes\":1,\"xxh64\":"
                    "\"0123456789abcdef\"}]",
         "file name"},
        {HEAD TABLE "\"files\":[],\"shared\":[{\"name\":\"/etc/passwd\",\"bytes\":1,\"xxh64\":"
                    "\"0123456789abcdef\"}]",
         "file name"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[4],\"params\":["
                          "\"state.h5\",90]}]",
         "behind the end"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[4],\"params\":["
                          "\"state.h5\",-8]}]",
         "place"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[4],\"params\":["
                          "\"other.h5\",0]}]",
         "not listed"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[1099511627776,"
                          "1099511627776]}]",
         "shape"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[0]}]", "shape"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[1,1,1]}]",
         "shape"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[1]},{\"name\":"
                          "\"a\",\"shape\":[1]}]",
         "twice"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":[{\"name\":\"a\",\"shape\":[1]}]",
         "table_hash"},
        {HEAD TABLE FILES "\"shared\":[],\"tensors\":{}", "list of"},
    };
    const char *run = new_run();
    struct mt_memory_stats before, after;
    save(run, 5);
    mt_memory_stats(&before);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[2048];
        seal(text, sizeof text, bad[i].body);
        expect_ok(file_write_atomic(path_of(run, 5, "manifest.json"), text, (int64_t)strlen(text)));
        expect_fail(checkpoint_verify(path_of(run, 5, ".")), MT_DATA, bad[i].part);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void other_tools_see_hdf5(void **state)
{
    (void)state;
    const char *run = new_run();
    char command[CHECKPOINT_PATH_BYTES + 256], text[8192];
    struct checkpoint_base base;
    const uint8_t frozen[] = {1, 1, 1, 0, 0};
    uint8_t groups[] = {1, 1, 1, ALL, ALL};
    if (access("/usr/bin/h5dump", X_OK) != 0) {
        printf("skipped: h5dump absent\n");
        skip();
    }
    expect_ok(checkpoint_base_write(&base, run, &table, frozen, params));
    expect_ok(try_save(run, 7, groups, &base));
    checkpoint_base_release(&base);
    static const char *const asked[] = {
        "/params/embeddings.LayerNorm.bias", /* in the shared file */
        "/adam_v/heads.mood.bias"};
    static const char *const wanted[] = {"1099.7, 1099.71,", "3399.7, 3399.71,"};
    for (int i = 0; i < 2; i++) {
        size_t got;
        (void)snprintf(command, sizeof command, "h5dump -y -d %s %s 2>&1", asked[i],
                       path_of(run, 7, "state.h5"));
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        got = fread(text, 1, sizeof text - 1, pipe);
        text[got] = '\0';
        (void)pclose(pipe);
        assert_non_null(strstr(text, wanted[i]));
    }
}

static void inspect_prints_and_knows_what_it_sees(void **state)
{
    (void)state;
    const char *run = new_run();
    char text[8192] = "";
    save(run, 10);
    save(run, 20);
    expect_ok(checkpoint_set_link(run, "latest", 20));
    FILE *out = fmemopen(text, sizeof text, "w");
    expect_ok(inspect_model_print(out, path_of(run, 10, ".")));
    expect_ok(inspect_model_print(out, run));
    (void)fclose(out);
    assert_non_null(strstr(text, "step         10"));
    assert_non_null(strstr(text, "5 with 251 parameters"));
    assert_non_null(strstr(text, "step 20, latest: valid"));
    uint64_t hash;
    expect_ok(inspect_model_hash(run, false, &hash));
    assert_true(hash == hash_of(run, 20));
    expect_fail(inspect_model_hash(test_dir(), false, &hash), MT_DATA, "neither");
    expect_fail(inspect_model_hash("/nowhere/at/all", false, &hash), MT_DATA, "does not exist");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_read_back),
        cmocka_unit_test(a_table_of_other_shapes_is_refused_with_both),
        cmocka_unit_test(arrays_must_be_announced_and_written_once),
        cmocka_unit_test(the_order_of_writing_does_not_show),
        cmocka_unit_test(the_hash_sees_every_array_and_nothing_else),
        cmocka_unit_test(every_damaged_byte_is_found),
        cmocka_unit_test(every_truncation_is_found),
        cmocka_unit_test(an_unfinished_or_renamed_folder_is_no_checkpoint),
        cmocka_unit_test(a_sealed_manifest_that_lies_is_refused),
        cmocka_unit_test(other_tools_see_hdf5),
        cmocka_unit_test(inspect_prints_and_knows_what_it_sees),
    };
    return cmocka_run_group_tests(tests, make_table, drop_table);
}

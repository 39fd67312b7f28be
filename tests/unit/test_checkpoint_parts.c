#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "comm/base/memory.h"
#include "io/checkpoint_part.h"
#include "io/file.h"
#include "tests/support/small_parts.h"
#include "tests/support/small_run.h"

/* Moments in parts, but for tensor 2, whose moments rank 0 writes whole, and tensor 1: none. */
static const uint8_t PARTED = CHECKPOINT_BIT(CHECKPOINT_PARAMS) |
                              CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_M) |
                              CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_V);

static void choose(uint8_t groups[5])
{
    memset(groups, PARTED, 5);
    groups[1] = CHECKPOINT_BIT(CHECKPOINT_PARAMS);
    groups[2] = ALL;
}

static mt_status try_save_parts(const char *run, int64_t step, int32_t parts, int64_t stretch)
{
    struct checkpoint_writer *w = NULL;
    uint8_t groups[5];
    mt_status st;
    choose(groups);
    MT_TRY_GOTO(st, checkpoint_create(&w, run, step, &table), done);
    MT_TRY_GOTO(st, checkpoint_lay_out(w, groups, NULL), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_PARAMS, params), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_M, adam_m), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_V, adam_v), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", "{\"step\":1}", 10), done);
    MT_TRY_GOTO(st, checkpoint_flush(w), done);
    MT_TRY_GOTO(st, small_parts_write(w, run, step, &table, groups, adam_m, adam_v, parts, stretch),
                done);
    MT_TRY_GOTO(st, checkpoint_commit(w), done);
done:
    checkpoint_discard(&w);
    return st;
}

static void save_whole(const char *run, int64_t step)
{
    uint8_t groups[] = {ALL, 1, ALL, ALL, ALL};
    expect_ok(try_save(run, step, groups, NULL));
}

static void any_number_of_parts_is_the_same_state(void **state)
{
    (void)state;
    static const int32_t parts[] = {1, 2, 3, 4, 8};
    static const int64_t stretch[] = {1, 3, 16, 50, 1000};
    const char *run = new_run();
    float *back = small_table_block(&table, 9), *other = small_table_block(&table, 9);
    uint8_t present[5];
    save_whole(run, 1);
    for (size_t k = 0; k < 5; k++)
        for (size_t s = 0; s < 5; s++) {
            struct checkpoint_reader *r;
            expect_ok(try_save_parts(run, 2, parts[k], stretch[s]));
            expect_ok(checkpoint_verify(path_of(run, 2, ".")));
            assert_true(hash_of(run, 1) == hash_of(run, 2));
            expect_ok(checkpoint_open(&r, path_of(run, 2, "."), false));
            expect_ok(checkpoint_read_block(r, CHECKPOINT_ADAM_V, &table, back, present));
            for (int32_t i = 0; i < table.count; i++) {
                const struct tensor *t = &table.entry[i];
                assert_int_equal(present[i], i != 1);
                assert_memory_equal(back + t->offset, (i == 1 ? other : adam_v) + t->offset,
                                    (size_t)t->count * 4);
            }
            checkpoint_close(&r);
        }
    mt_free(&back);
    mt_free(&other);
}

static void only_a_checkpoint_in_parts_is_of_the_new_version(void **state)
{
    (void)state;
    const char *run = new_run();
    save_whole(run, 1);
    expect_ok(try_save_parts(run, 2, 3, 16));
    for (int step = 1; step <= 2; step++) {
        char *text;
        int64_t bytes;
        expect_ok(file_read(&text, &bytes, path_of(run, step, "manifest.json"), 1 << 20));
        assert_non_null(strstr(text, step == 1 ? "\"version\": 1," : "\"version\": 2,"));
        mt_free(&text);
    }
}

static void a_writer_wants_every_element_once(void **state)
{
    (void)state;
    static const struct {
        int64_t begin[3], end[3];
        const char *part; /* NULL = good */
    } cases[] = {
        {{0, 30, 60}, {30, 60, 88}, NULL},
        {{0, 30, 61}, {30, 60, 88}, "elements 60 to 60 are in no part"},
        {{0, 30, 60}, {30, 60, 87}, "elements 87 to 87 are in no part"},
        {{1, 30, 60}, {30, 60, 88}, "elements 0 to 0 are in no part"},
        {{0, 29, 60}, {30, 60, 88}, "elements from 29 on are in two parts"},
        {{0, 0, 88}, {88, 1, 89}, "no announced"},
    };
    const char *run = new_run();
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct checkpoint_writer *w = NULL;
        const uint8_t m_alone[] = {1 | CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_M), 1, 1, 1, 1};
        struct checkpoint_part p = {.number = 0};
        expect_ok(checkpoint_begin(&w, run, 4, &table, m_alone, NULL));
        expect_ok(checkpoint_add_block(w, CHECKPOINT_PARAMS, params));
        for (int i = 0; i < 3; i++)
            expect_ok(
                checkpoint_part_add(&p, CHECKPOINT_ADAM_M, 0, cases[k].begin[i], cases[k].end[i]));
        mt_status st = checkpoint_part_begin(&p, run, 4, &table);
        if (k == 5) { /* beyond the end of the tensor */
            expect_fail(st, MT_BUG, "of no tensor");
        } else {
            expect_ok(st);
            expect_ok(checkpoint_part_finish(&p));
            expect_ok(checkpoint_add_part(w, &p));
            expect_fail(checkpoint_add_part(w, &p), MT_ARG, "moments-00000.h5");
            if (cases[k].part == NULL)
                expect_ok(checkpoint_commit(w));
            else
                expect_fail(checkpoint_commit(w), MT_BUG, cases[k].part);
        }
        checkpoint_part_release(&p);
        checkpoint_discard(&w);
    }
}

static void pieces_that_were_not_announced_or_do_not_come_are_noticed(void **state)
{
    (void)state;
    const char *run = new_run();
    struct checkpoint_writer *w = NULL;
    uint8_t groups[] = {1, 1, 1, 1, PARTED};
    struct checkpoint_part p = {.number = 7};
    expect_ok(checkpoint_begin(&w, run, 4, &table, groups, NULL));
    expect_fail(checkpoint_flush(w), MT_BUG, "announced and not written");
    expect_ok(checkpoint_add_block(w, CHECKPOINT_PARAMS, params));
    expect_fail(checkpoint_commit(w), MT_BUG, "is in no part");
    expect_ok(checkpoint_part_add(&p, CHECKPOINT_ADAM_V, 3, 0, table.entry[3].count));
    expect_ok(checkpoint_part_begin(&p, run, 4, &table));
    expect_ok(checkpoint_part_finish(&p));
    expect_fail(checkpoint_add_part(w, &p), MT_BUG, "not announced");
    checkpoint_part_release(&p);
    checkpoint_discard(&w);
    assert_false(file_exists(path_of(run, 4, ".")));
}

static void a_part_without_a_folder_is_refused(void **state)
{
    (void)state;
    struct checkpoint_part p = {.number = 0};
    expect_ok(checkpoint_part_add(&p, CHECKPOINT_ADAM_V, 3, 0, 1));
    expect_fail(checkpoint_part_begin(&p, new_run(), 4, &table), MT_IO, "moments-00000.h5");
    checkpoint_part_release(&p);
}

static void damage_of_a_part_is_found_and_the_checkpoint_before_taken(void **state)
{
    (void)state;
    const char *run = new_run();
    char path[CHECKPOINT_PATH_BYTES], newest[CHECKPOINT_PATH_BYTES];
    int64_t bytes, step;
    expect_ok(try_save_parts(run, 4, 3, 16));
    expect_ok(try_save_parts(run, 5, 3, 16));
    (void)snprintf(path, sizeof path, "%s", path_of(run, 5, "moments-00001.h5"));
    expect_ok(file_size(&bytes, path));
    for (int64_t at = 0; at < bytes; at += 61) {
        overwrite(path, at, 1 << at % 8);
        expect_fail(checkpoint_verify(path_of(run, 5, ".")), MT_DATA, "moments-00001.h5: damaged");
        overwrite(path, at, 1 << at % 8);
    }
    expect_ok(checkpoint_verify(path_of(run, 5, ".")));
    for (int64_t cut = bytes - 1; cut >= 0; cut -= 397) {
        assert_int_equal(truncate(path, cut), 0);
        assert_int_equal(checkpoint_verify(path_of(run, 5, ".")), MT_DATA);
    }
    expect_ok(checkpoint_find_newest_valid(run, newest, &step, NULL, NULL));
    assert_int_equal(step, 4);
    expect_ok(file_remove(path));
    expect_fail(checkpoint_verify(path_of(run, 5, ".")), MT_DATA, "moments-00001.h5: missing");
}

/* A manifest that is whole, sealed and wrong about its pieces. */
static void a_sealed_manifest_with_wrong_pieces_is_refused(void **state)
{
    (void)state;
#define HEAD(version) "{\"format\":\"mttrain-checkpoint\",\"version\":" version ",\"step\":5,"
#define FILES                                                                                      \
    "\"table_hash\":\"0123456789abcdef\",\"files\":[{\"name\":\"moments-00000.h5\",\"bytes\":100," \
    "\"xxh64\":\"0123456789abcdef\"}],\"shared\":[],"
#define TENSOR(pieces) "\"tensors\":[{\"name\":\"a\",\"shape\":[4],\"adam_m\":" pieces "}]"
#define PIECE(offset, begin, end) "[\"moments-00000.h5\"," offset "," begin "," end "]"
    static const struct {
        const char *body, *part;
    } bad[] = {
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "4") "]"), "table_hash"}, /* else good */
        {HEAD("2") FILES TENSOR("[" PIECE("0", "2", "4") "," PIECE("50", "0", "2") "]"),
         "table_hash"}, /* in any order */
        {HEAD("1") FILES TENSOR("[" PIECE("0", "0", "4") "]"), "place is not"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "3") "]"), "elements 3 to 3 are in no part"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "1", "4") "]"), "elements 0 to 0 are in no part"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "1") "," PIECE("8", "3", "4") "]"),
         "elements 1 to 2 are in no part"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "3") "," PIECE("8", "2", "4") "]"),
         "from 2 on are in two parts"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "4") "," PIECE("0", "0", "4") "]"),
         "from 0 on are in two parts"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "0", "5") "]"), "a piece is not"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "-1", "4") "]"), "a piece is not"},
        {HEAD("2") FILES TENSOR("[" PIECE("0", "2", "2") "]"), "a piece is not"},
        {HEAD("2") FILES TENSOR("[[\"moments-00000.h5\",0]]"), "a piece is not"},
        {HEAD("2") FILES TENSOR("[[7,0,0,4]]"), "place is not"},
        {HEAD("2") FILES TENSOR("[[\"moments-00001.h5\",0,0,4]]"), "not listed"},
        {HEAD("2") FILES TENSOR("[" PIECE("-4", "0", "4") "]"), "place is not"},
        {HEAD("2") FILES TENSOR("[" PIECE("88", "0", "4") "]"), "behind the end"},
        {HEAD("2") FILES TENSOR("[]"), "place is not"},
    };
    const char *run = new_run();
    struct mt_memory_stats before, after;
    save(run, 5);
    mt_memory_stats(&before);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[2048], hash[HASH_TEXT_BYTES];
        hash64_format(hash, hash64_of(bad[i].body, (int64_t)strlen(bad[i].body)));
        (void)snprintf(text, sizeof text, "%s,\"manifest_xxh64\":\"%s\"}\n", bad[i].body, hash);
        expect_ok(file_write_atomic(path_of(run, 5, "manifest.json"), text, (int64_t)strlen(text)));
        expect_fail(checkpoint_verify(path_of(run, 5, ".")), MT_DATA, bad[i].part);
    }
    mt_memory_stats(&after);
    assert_int_equal(before.live_blocks, after.live_blocks);
}

static void other_tools_see_the_pieces(void **state)
{
    (void)state;
    const char *run = new_run();
    char command[CHECKPOINT_PATH_BYTES + 256], text[8192];
    if (access("/usr/bin/h5dump", X_OK) != 0) {
        printf("skipped: h5dump absent\n");
        skip();
    }
    expect_ok(try_save_parts(run, 7, 2, 40)); /* the first tensor has 88 elements */
    (void)snprintf(command, sizeof command, "h5dump -y -d %s/40 %s 2>&1",
                   "/adam_m/embeddings.word_embeddings.weight",
                   path_of(run, 7, "moments-00001.h5"));
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(text, 1, sizeof text - 1, pipe);
    text[got] = '\0';
    (void)pclose(pipe);
    assert_non_null(strstr(text, "( 40 )"));
    assert_non_null(strstr(text, "2000.01, 2000.02,")); /* 2000 + 40/128 - 0.3 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_parts_is_the_same_state),
        cmocka_unit_test(only_a_checkpoint_in_parts_is_of_the_new_version),
        cmocka_unit_test(a_writer_wants_every_element_once),
        cmocka_unit_test(pieces_that_were_not_announced_or_do_not_come_are_noticed),
        cmocka_unit_test(a_part_without_a_folder_is_refused),
        cmocka_unit_test(damage_of_a_part_is_found_and_the_checkpoint_before_taken),
        cmocka_unit_test(a_sealed_manifest_with_wrong_pieces_is_refused),
        cmocka_unit_test(other_tools_see_the_pieces),
    };
    return cmocka_run_group_tests(tests, make_table, drop_table);
}

/* small_run: a run folder with checkpoints of the small table, for tests of checkpoints. */
#ifndef MT_TEST_SMALL_RUN_H
#define MT_TEST_SMALL_RUN_H

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/inspect_model.h"
#include "tests/support/small_table.h"
#include "tests/support/test_dirs.h"

static const uint8_t ALL = CHECKPOINT_BIT(CHECKPOINT_PARAMS) | CHECKPOINT_BIT(CHECKPOINT_ADAM_M) |
                           CHECKPOINT_BIT(CHECKPOINT_ADAM_V);

static struct tensor_table table;
static float *params, *adam_m, *adam_v;

static inline int make_table(void **state)
{
    (void)state;
    small_table_make(&table);
    params = small_table_block(&table, 1);
    adam_m = small_table_block(&table, 2);
    adam_v = small_table_block(&table, 3);
    return 0;
}

static inline int drop_table(void **state)
{
    (void)state;
    mt_free(&params);
    mt_free(&adam_m);
    mt_free(&adam_v);
    tensor_table_release(&table);
    return 0;
}

/* The path of a new run folder; valid until the next one. */
static inline const char *new_run(void)
{
    static int number;
    static char path[TEST_PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/run%d", test_dir(), number++);
    return path;
}

static inline mt_status try_save(const char *run, int64_t step, const uint8_t *groups,
                                 const struct checkpoint_base *base)
{
    struct checkpoint_writer *w = NULL;
    mt_status st;
    MT_TRY_GOTO(st, checkpoint_begin(&w, run, step, &table, groups, base), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_PARAMS, params), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_M, adam_m), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_V, adam_v), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", "{\"step\":1}", 10), done);
    MT_TRY_GOTO(st, checkpoint_commit(w), done);
done:
    checkpoint_discard(&w);
    return st;
}

static inline void save(const char *run, int64_t step)
{
    uint8_t groups[8];
    memset(groups, ALL, sizeof groups);
    expect_ok(try_save(run, step, groups, NULL));
}

static inline const char *path_of(const char *run, int64_t step, const char *file)
{
    static char path[4][CHECKPOINT_PATH_BYTES];
    static int next;
    char *p = path[next++ % 4];
    (void)snprintf(p, CHECKPOINT_PATH_BYTES, "%s/checkpoints/step-%08d/%s", run, (int)step, file);
    return p;
}

static inline uint64_t hash_of(const char *run, int64_t step)
{
    uint64_t hash;
    expect_ok(inspect_model_hash(path_of(run, step, "."), false, &hash));
    return hash;
}

/* Changes one byte of a file. */
static inline void overwrite(const char *path, int64_t at, int change)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    (void)fputc(byte ^ change, f);
    (void)fclose(f);
}

#endif

/* See small_table.h. */
#include "tests/support/small_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"

static void die(const char *text)
{
    fprintf(stderr, "%s\n", text);
    abort();
}

void small_table_make(struct tensor_table *t)
{
    static const struct {
        const char *name;
        int32_t depth;
        int64_t rows, cols;
    } rows[] = {{"embeddings.word_embeddings.weight", 0, 11, 8},
                {"embeddings.LayerNorm.bias", 0, 8, 0},
                {"encoder.layer.0.output.dense.weight", 1, 8, 16},
                {"heads.mood.weight", 2, 3, 8},
                {"heads.mood.bias", 2, 3, 0}};
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (tensor_table_add(t, rows[i].name, rows[i].depth, rows[i].depth == 2 ? 0 : -1,
                             rows[i].rows, rows[i].cols) != MT_OK)
            die("no table");
}

float *small_table_block(const struct tensor_table *t, int seed)
{
    float *block;
    if (mt_alloc(&block, t->total, sizeof *block, "a test's block") != MT_OK)
        die("no block");
    for (int32_t i = 0; i < t->count; i++)
        for (int64_t k = 0; k < t->entry[i].count; k++)
            block[t->entry[i].offset + k] =
                (float)(seed * 1000 + i * 100) + (float)k / 128.0f - 0.3f;
    return block;
}

void expect_ok(mt_status st)
{
    if (st == MT_OK)
        return;
    fprintf(stderr, "%s: %s\n", mt_status_name(st), mt_error_peek()->message);
    die("a call failed that should not");
}

void expect_fail(mt_status st, mt_status want, const char *part)
{
    if (st == want && strstr(mt_error_peek()->message, part) != NULL)
        return;
    fprintf(stderr, "%s: %s\n", mt_status_name(st), mt_error_peek()->message);
    fprintf(stderr, "wanted %s: ...%s...\n", mt_status_name(want), part);
    die("a call answered something else");
}

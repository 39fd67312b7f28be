/*
 * A checkpoint whose manifest says what the input says, under a right hash of itself, beside files
 * that are there: opened, verified, every array and text read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "tests/fuzz/fuzz_file.h"

enum { TEXT_MAX = 1 << 16, ELEMENTS_MAX = 1 << 20 };

static void read_all(struct checkpoint_reader *r)
{
    const struct tensor_table *table = checkpoint_table(r);
    for (int32_t i = 0; i < table->count && i < 64; i++) {
        for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
            if (!checkpoint_has(r, (enum checkpoint_group)g, i) ||
                table->entry[i].count > ELEMENTS_MAX)
                continue;
            float *data = malloc((size_t)table->entry[i].count * sizeof(float) + 1);
            if (data != NULL)
                (void)fuzz_ok(checkpoint_read_tensor(r, (enum checkpoint_group)g, i, data));
            free(data);
        }
    }
    uint64_t hash;
    char *text = NULL;
    int64_t bytes;
    if (table->total <= ELEMENTS_MAX)
        (void)fuzz_ok(checkpoint_hash(r, false, &hash));
    for (int32_t i = 0; i < checkpoint_file_count(r); i++) {
        if (fuzz_ok(checkpoint_read_text(r, checkpoint_file_name(r, i, &bytes), &text, &bytes)))
            mt_free(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[TEXT_MAX + 64];
    if (size > TEXT_MAX)
        return 0;
    (void)fuzz_dir();
    memcpy(text, data, size);
    char hex[HASH_TEXT_BYTES];
    struct hash64 h;
    hash64_init(&h, 0);
    hash64_add(&h, text, (int64_t)size);
    hash64_format(hex, hash64_value(&h));
    int n = snprintf(text + size, 64, ",\"manifest_xxh64\":\"%s\"}\n", hex);
    char zeros[4096] = {0};
    (void)fuzz_file("manifest.json", text, size + (size_t)n);
    (void)fuzz_file("state.h5", zeros, sizeof zeros);
    (void)fuzz_file("state.json", "{}", 2);
    struct checkpoint_reader *r = NULL;
    if (fuzz_ok(checkpoint_open(&r, fuzz_dir(), false))) {
        read_all(r);
        checkpoint_close(&r);
    }
    (void)fuzz_ok(checkpoint_verify(fuzz_dir()));
    return 0;
}

/* A table of any bytes in each format, after one byte that chooses how it is read. */
#include <string.h>

#include "io/text_table.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"x.tsv", "x.csv", "x.jsonl", "x.tsv"};
    if (size == 0)
        return 0;
    struct text_format format = {.bad_bytes = data[0] & 4 ? TEXT_ERROR : TEXT_REPLACE,
                                 .headerless = data[0] & 8,
                                 .delimiter = data[0] & 16   ? ' '
                                              : data[0] & 32 ? ';'
                                                             : 0,
                                 .columns = data[0] & 64 ? 2 : 0};
    struct text_table *t = NULL;
    const struct text_row *row = NULL;
    const char *path = fuzz_file(names[data[0] % 4], data + 1, size - 1);
    if (!fuzz_ok(text_table_open(&t, path, &format)))
        return 0;
    int32_t column;
    (void)fuzz_ok(text_table_column(t, "text", &column));
    while (fuzz_ok(text_table_next(t, &row)) && row != NULL) {
        fuzz_claim(row->line >= 1, "rows have a line");
        for (int32_t i = 0; i < row->cell_count; i++) {
            const struct text_cell *c = &row->cells[i];
            fuzz_claim((int64_t)strlen(c->text) == c->bytes, "cells are text without NUL");
        }
    }
    text_table_close(&t);
    return 0;
}

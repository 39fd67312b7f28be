/* Two passes over the labels, which are in memory: count, then list.  A list costs 8 bytes a row,
 * and only where some row has no label. */
#include "io/eligible.h"

#include "comm/base/memory.h"
#include "io/dataset.h"

static bool has_label(const struct dataset *set, int64_t row, const int32_t *columns,
                      int32_t column_count)
{
    for (int32_t c = 0; c < column_count; c++) {
        if (columns[c] >= 0 && dataset_label(set, columns[c], row) >= 0)
            return true;
    }
    return false;
}

mt_status eligible_rows(int64_t **rows, int64_t *count, const struct dataset *set,
                        const int32_t *columns, int32_t column_count)
{
    int64_t total = dataset_rows(set), n = 0;
    for (int64_t row = 0; row < total; row++)
        n += has_label(set, row, columns, column_count);
    int64_t *list = NULL;
    if (n < total) {
        MT_TRY(mt_alloc(&list, n, sizeof *list, "the list of labelled rows"));
        n = 0;
        for (int64_t row = 0; row < total; row++) {
            if (has_label(set, row, columns, column_count))
                list[n++] = row;
        }
    }
    *rows = list;
    *count = n;
    return MT_OK;
}

/*
 * string_table: distinct strings of bytes, numbered 0, 1, 2 ... in the order they came.
 *
 *     struct string_table t = {0};
 *     int32_t i;
 *     MT_TRY(string_table_add(&t, bytes, n, &i));        // an old string gives its old number
 *     string_table_release(&t);
 */
#ifndef MT_IO_STRING_TABLE_H
#define MT_IO_STRING_TABLE_H

#include "comm/base/status.h"

/* Zeroed: empty. */
struct string_table {
    int32_t count, capacity;
    char *text;      /* each string and a NUL */
    int64_t *offset; /* [capacity+1] into text */
    int64_t text_bytes, text_capacity;
    int32_t *slot; /* [slot_count] number or -1 */
    int64_t slot_count;
};

/* Local.  Number of the string, entered if it is new.  Errors: NOMEM; DATA past INT32_MAX/2
 * strings. */
mt_status string_table_add(struct string_table *t, const char *bytes, int64_t n_bytes,
                           int32_t *number) MT_CHECKED;

/* Borrows until the next add; NUL-terminated. */
const char *string_table_get(const struct string_table *t, int32_t number, int64_t *n_bytes);

void string_table_release(struct string_table *t);

#endif

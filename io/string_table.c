/*
 * The idea: the bytes in one block, numbers in an open-addressing table at most half full that is
 * rebuilt at twice the size.  Cost: 20 bytes a string beside its text.
 */
#include "io/string_table.h"

#include "comm/base/hash.h"
#include "comm/base/memory.h"

#include <string.h>

const char *string_table_get(const struct string_table *t, int32_t number, int64_t *n_bytes)
{
    *n_bytes = t->offset[number + 1] - t->offset[number] - 1;
    return t->text + t->offset[number];
}

void string_table_release(struct string_table *t)
{
    mt_free(&t->text);
    mt_free(&t->offset);
    mt_free(&t->slot);
    *t = (struct string_table){0};
}

static int64_t slot_of(const struct string_table *t, const char *bytes, int64_t n_bytes)
{
    int64_t mask = t->slot_count - 1, length = 0;
    int64_t i = (int64_t)(hash64_of(bytes, n_bytes) & (uint64_t)mask);
    for (; t->slot[i] >= 0; i = (i + 1) & mask) {
        const char *old = string_table_get(t, t->slot[i], &length);
        if (length == n_bytes && memcmp(old, bytes, (size_t)n_bytes) == 0)
            break;
    }
    return i;
}

/* Makes room for one more string of n bytes. */
static mt_status reserve(struct string_table *t, int64_t n_bytes)
{
    int64_t need = t->text_bytes + n_bytes + 1;
    if (need > t->text_capacity) {
        int64_t capacity = 2 * need + 256;
        MT_TRY(mt_grow(&t->text, t->text_capacity, capacity, 1, "strings"));
        t->text_capacity = capacity;
    }
    if (t->count < t->capacity)
        return MT_OK;
    if (t->capacity > INT32_MAX / 4)
        return MT_FAIL(MT_DATA, "more than %d distinct words; give less text", t->capacity);
    int32_t capacity = t->capacity > 0 ? 2 * t->capacity : 256, *slot = NULL;
    MT_TRY(mt_grow(&t->offset, t->capacity > 0 ? t->capacity + 1 : 0, (int64_t)capacity + 1,
                   sizeof *t->offset, "strings"));
    t->capacity = capacity;
    MT_TRY(mt_alloc(&slot, 2 * (int64_t)capacity, sizeof *slot, "string index"));
    mt_free(&t->slot);
    t->slot = slot;
    t->slot_count = 2 * (int64_t)capacity;
    memset(slot, 0xFF, (size_t)t->slot_count * sizeof *slot);
    for (int32_t i = 0; i < t->count; i++) {
        int64_t length = 0;
        const char *bytes = string_table_get(t, i, &length);
        slot[slot_of(t, bytes, length)] = i;
    }
    return MT_OK;
}

mt_status string_table_add(struct string_table *t, const char *bytes, int64_t n_bytes,
                           int32_t *number)
{
    int64_t at = t->slot_count > 0 ? slot_of(t, bytes, n_bytes) : -1;
    if (at >= 0 && t->slot[at] >= 0) {
        *number = t->slot[at];
        return MT_OK;
    }
    bool grows = t->count == t->capacity;
    MT_TRY(reserve(t, n_bytes));
    if (grows)
        at = slot_of(t, bytes, n_bytes);
    memcpy(t->text + t->text_bytes, bytes, (size_t)n_bytes);
    t->offset[t->count] = t->text_bytes;
    t->text_bytes += n_bytes + 1;
    t->text[t->text_bytes - 1] = '\0';
    t->slot[at] = t->count;
    *number = t->count++;
    t->offset[t->count] = t->text_bytes;
    return MT_OK;
}

/* See label_set.h.  Linear probing in a table at most half full. */
#include "io/label_set.h"

#include <stdlib.h>
#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/shard.h"

/* The slot that holds the name, or the free one where it would go. */
static int32_t probe(const struct label_set *s, const char *name, int64_t bytes)
{
    int32_t at = (int32_t)(hash64_of(name, bytes) & (uint64_t)(s->slot_count - 1));
    for (;;) {
        int32_t k = s->slots[at];
        if (k < 0)
            return at;
        if ((int64_t)strlen(s->names[k]) == bytes && memcmp(s->names[k], name, (size_t)bytes) == 0)
            return at;
        at = (at + 1) & (s->slot_count - 1);
    }
}

int32_t label_set_find(const struct label_set *s, const char *name, int64_t bytes)
{
    return s->slot_count == 0 ? -1 : s->slots[probe(s, name, bytes)];
}

static mt_status enlarge(struct label_set *s)
{
    int32_t names = s->capacity == 0 ? 16 : s->capacity * 2, slots = names * 2;
    int32_t *table;
    MT_TRY(mt_grow(&s->names, s->capacity, names, sizeof *s->names, "label names"));
    s->capacity = names;
    MT_TRY(mt_alloc(&table, slots, sizeof *table, "label table"));
    mt_free(&s->slots);
    memset(table, 0xFF, (size_t)slots * sizeof *table);
    s->slots = table;
    s->slot_count = slots;
    for (int32_t k = 0; k < s->count; k++)
        s->slots[probe(s, s->names[k], (int64_t)strlen(s->names[k]))] = k;
    return MT_OK;
}

mt_status label_set_add(struct label_set *s, const char *name, int64_t bytes)
{
    if (s->count == SHARD_CLASSES_MAX)
        return MT_FAIL(MT_DATA, "more than %d different labels; is it a column of labels?",
                       SHARD_CLASSES_MAX);
    if (bytes > SHARD_LABEL_BYTES_MAX)
        return MT_FAIL(MT_DATA, "a label of more than %d bytes; is it a column of labels?",
                       SHARD_LABEL_BYTES_MAX);
    if (s->count == s->capacity || s->slots == NULL)
        MT_TRY(enlarge(s));
    MT_TRY(mt_alloc(&s->names[s->count], bytes + 1, 1, "label name"));
    memcpy(s->names[s->count], name, (size_t)bytes);
    s->slots[probe(s, name, bytes)] = s->count;
    s->count++;
    return MT_OK;
}

static bool is_number(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && digits <= 9 && name[digits] == '\0';
}

static int by_value(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    long p = strtol(x, NULL, 10), q = strtol(y, NULL, 10);
    return p != q ? (p > q) - (p < q) : strcmp(x, y);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void label_set_sort(struct label_set *s)
{
    bool numbers = true;
    if (s->count == 0)
        return;
    for (int32_t k = 0; k < s->count; k++)
        numbers = numbers && is_number(s->names[k]);
    qsort(s->names, (size_t)s->count, sizeof *s->names, numbers ? by_value : by_bytes);
    memset(s->slots, 0xFF, (size_t)s->slot_count * sizeof *s->slots);
    for (int32_t k = 0; k < s->count; k++)
        s->slots[probe(s, s->names[k], (int64_t)strlen(s->names[k]))] = k;
}

void label_set_release(struct label_set *s)
{
    for (int32_t k = 0; k < s->count; k++)
        mt_free(&s->names[k]);
    mt_free(&s->names);
    mt_free(&s->slots);
    memset(s, 0, sizeof *s);
}

/* See tensors.h.  Look-up is linear: a few hundred names, asked for at load time only. */
#include "comm/base/tensors.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"

static bool name_decays(const char *name)
{
    size_t n = strlen(name);
    bool bias = n >= 5 && strcmp(name + n - 5, ".bias") == 0;
    return !bias && strstr(name, "LayerNorm") == NULL;
}

mt_status tensor_table_add(struct tensor_table *t, const char *name, int32_t depth, int32_t task,
                           int64_t rows, int64_t cols)
{
    if (strlen(name) >= TENSOR_NAME_BYTES)
        return MT_FAIL(MT_BUG, "tensor name too long: %s", name);
    if (tensor_table_find(t, name) >= 0)
        return MT_FAIL(MT_BUG, "two tensors named %s", name);
    if (t->count == t->capacity) {
        int32_t grown = t->capacity == 0 ? 64 : 2 * t->capacity;
        MT_TRY(mt_grow(&t->entry, t->capacity, grown, sizeof *t->entry, "the tensor table"));
        t->capacity = grown;
    }
    struct tensor *e = &t->entry[t->count++];
    memset(e, 0, sizeof *e);
    (void)snprintf(e->name, sizeof e->name, "%s", name);
    e->ndim = cols == 0 ? 1 : 2;
    e->shape[0] = rows;
    e->shape[1] = cols == 0 ? 1 : cols;
    e->offset = t->total;
    e->count = e->shape[0] * e->shape[1];
    e->depth = depth;
    e->task = task;
    e->decays = name_decays(name);
    t->total += (e->count + TENSOR_ALIGN - 1) / TENSOR_ALIGN * TENSOR_ALIGN;
    return MT_OK;
}

void tensor_table_release(struct tensor_table *t)
{
    mt_free(&t->entry);
    memset(t, 0, sizeof *t);
}

int32_t tensor_table_find(const struct tensor_table *t, const char *name)
{
    for (int32_t i = 0; i < t->count; i++)
        if (strcmp(t->entry[i].name, name) == 0)
            return i;
    return -1;
}

uint64_t tensor_table_hash(const struct tensor_table *t)
{
    struct hash64 h;
    hash64_init(&h, 0);
    for (int32_t i = 0; i < t->count; i++) {
        hash64_add_string(&h, t->entry[i].name);
        hash64_add_int(&h, t->entry[i].ndim);
        hash64_add_int(&h, t->entry[i].shape[0]);
        hash64_add_int(&h, t->entry[i].shape[1]);
    }
    return hash64_value(&h);
}

mt_status range_list_of(struct range_list *out, const struct tensor_table *table,
                        const uint8_t *mask)
{
    out->count = 0;
    out->elements = 0;
    if (out->capacity < table->count) {
        MT_TRY(mt_grow(&out->r, 0, table->count, sizeof *out->r, "a list of ranges"));
        out->capacity = table->count;
    }
    for (int32_t i = 0; i < table->count; i++) {
        if (!mask[i])
            continue;
        const struct tensor *e = &table->entry[i];
        bool joins = out->count > 0 && i > 0 && mask[i - 1];
        if (joins)
            out->r[out->count - 1].end = e->offset + e->count;
        else
            out->r[out->count++] = (struct range){e->offset, e->offset + e->count};
    }
    for (int32_t i = 0; i < out->count; i++)
        out->elements += out->r[i].end - out->r[i].begin;
    return MT_OK;
}

void range_list_release(struct range_list *list)
{
    mt_free(&list->r);
    memset(list, 0, sizeof *list);
}

struct range_walk range_walk_over(const struct range_list *list, int64_t begin, int64_t end)
{
    int32_t low = 0, high = list->count; /* the first range that ends behind `begin` */
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (list->r[middle].end > begin)
            high = middle;
        else
            low = middle + 1;
    }
    return (struct range_walk){list, low, begin, end};
}

bool range_walk_next(struct range_walk *w, struct range *piece)
{
    if (w->next >= w->list->count)
        return false;
    struct range r = w->list->r[w->next++];
    piece->begin = r.begin > w->begin ? r.begin : w->begin;
    piece->end = r.end < w->end ? r.end : w->end;
    return piece->begin < piece->end;
}

int64_t range_list_within(const struct range_list *list, int64_t begin, int64_t end)
{
    struct range piece;
    int64_t elements = 0;
    for (struct range_walk w = range_walk_over(list, begin, end); range_walk_next(&w, &piece);)
        elements += piece.end - piece.begin;
    return elements;
}

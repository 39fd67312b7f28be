/* See row_set.h.  The list has at most one run for every second row, and the pieces of the ranges.
 */
#include "comm/base/row_set.h"

#include <string.h>

#include "comm/base/memory.h"

enum { WORD_BITS = 64 };

mt_status row_set_init(struct row_set *set, int64_t begin, int64_t rows, int64_t row_elements,
                       const struct range_list *ranges)
{
    int64_t words = (rows + WORD_BITS - 1) / WORD_BITS, most = ranges->count + rows / 2 + 2;
    if (words > INT32_MAX || most > INT32_MAX)
        return MT_FAIL(MT_BUG, "%lld rows in a row set", (long long)rows);
    memset(set, 0, sizeof *set);
    set->begin = begin;
    set->rows = rows;
    set->row_elements = row_elements;
    set->ranges = ranges;
    set->words = (int32_t)words;
    MT_TRY(mt_alloc(&set->mask, words, sizeof *set->mask, "the rows in use"));
    mt_status st = mt_alloc(&set->active.r, most, sizeof *set->active.r, "the runs in use");
    if (st != MT_OK) {
        mt_free(&set->mask);
        return st;
    }
    set->active.capacity = (int32_t)most;
    memset(set->mask, 0xff, (size_t)words * sizeof *set->mask);
    row_set_list(set);
    return MT_OK;
}

void row_set_release(struct row_set *set)
{
    mt_free(&set->mask);
    range_list_release(&set->active);
    memset(set, 0, sizeof *set);
}

void row_set_clear(struct row_set *set)
{
    memset(set->mask, 0, (size_t)set->words * sizeof *set->mask);
}

void row_set_add(struct row_set *set, const int32_t *ids, int64_t count)
{
    uint64_t *mask = (uint64_t *)set->mask;
    for (int64_t i = 0; i < count; i++)
        mask[ids[i] / WORD_BITS] |= (uint64_t)1 << (ids[i] % WORD_BITS);
}

/* The first row >= from that is used, or `rows`. */
static int64_t next_used(const struct row_set *set, const int64_t *mask, int64_t from)
{
    for (int64_t word = from / WORD_BITS; word < set->words; word++, from = word * WORD_BITS) {
        uint64_t bits = (uint64_t)mask[word] >> (from % WORD_BITS);
        if (bits != 0) {
            int64_t row = from + __builtin_ctzll(bits);
            return row < set->rows ? row : set->rows;
        }
    }
    return set->rows;
}

/* The end of the run of used rows that begins at `from`. */
static int64_t run_end(const struct row_set *set, const int64_t *mask, int64_t from)
{
    while (from < set->rows && (((uint64_t)mask[from / WORD_BITS] >> (from % WORD_BITS)) & 1) != 0)
        from++;
    return from;
}

static void push(struct range_list *list, int64_t begin, int64_t end)
{
    if (begin >= end)
        return;
    if (list->count > 0 && list->r[list->count - 1].end == begin)
        list->r[list->count - 1].end = end;
    else
        list->r[list->count++] = (struct range){begin, end};
    list->elements += end - begin;
}

void row_set_list(struct row_set *set)
{
    struct range_list *list = &set->active;
    int64_t end = set->begin + set->rows * set->row_elements;
    list->count = 0;
    list->elements = 0;
    for (int32_t i = 0; i < set->ranges->count; i++) {
        const struct range *r = &set->ranges->r[i];
        if (r->end <= set->begin || r->begin >= end) {
            push(list, r->begin, r->end);
            continue;
        }
        push(list, r->begin, set->begin);
        for (int64_t row = next_used(set, set->mask, 0); row < set->rows;) {
            int64_t stop = run_end(set, set->mask, row);
            push(list, set->begin + row * set->row_elements, set->begin + stop * set->row_elements);
            row = next_used(set, set->mask, stop);
        }
        push(list, end, r->end);
    }
}

static void zero(float *block, int64_t begin, int64_t end)
{
    if (begin < end)
        memset(block + begin, 0, (size_t)(end - begin) * sizeof *block);
}

void row_set_zero(const struct row_set *set, const struct range_list *ranges, const int64_t *mask,
                  float *block)
{
    int64_t end = set->begin + set->rows * set->row_elements;
    for (int32_t i = 0; i < ranges->count; i++) {
        const struct range *r = &ranges->r[i];
        zero(block, r->begin, r->end < set->begin ? r->end : set->begin);
        zero(block, r->begin > end ? r->begin : end, r->end);
    }
    for (int64_t row = next_used(set, mask, 0); row < set->rows;) {
        int64_t stop = run_end(set, mask, row);
        zero(block, set->begin + row * set->row_elements, set->begin + stop * set->row_elements);
        row = next_used(set, mask, stop);
    }
}

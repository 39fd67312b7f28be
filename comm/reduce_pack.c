/* See reduce_pack.h. */
#include "comm/reduce_pack.h"

#include <string.h>

#include "comm/lane_tree.h"
#include "comm/reduce_kernels.h"

bool reduce_is_whole(const struct range_list *active, int64_t begin, int64_t end)
{
    struct range piece;
    struct range_walk w = range_walk_over(active, begin, end);
    return begin >= end ||
           (range_walk_next(&w, &piece) && piece.begin == begin && piece.end == end);
}

int64_t reduce_pack(const struct range_list *active, const float *block, int64_t begin, int64_t end,
                    float *out)
{
    struct range piece;
    int64_t count = 0;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        int64_t n = piece.end - piece.begin;
        memcpy(out + count, block + piece.begin, (size_t)n * sizeof *out);
        count += n;
    }
    return count;
}

void reduce_unpack(const struct range_list *active, const float *packed, int64_t begin, int64_t end,
                   float *block)
{
    struct range piece;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        int64_t n = piece.end - piece.begin;
        memcpy(block + piece.begin, packed, (size_t)n * sizeof *block);
        packed += n;
    }
}

int64_t reduce_copy(const struct range_list *active, int64_t begin, int64_t end, const float *from,
                    float *to)
{
    int64_t count = 0;
    struct range p;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &p);) {
        memcpy(to + (p.begin - begin), from + (p.begin - begin),
               (size_t)(p.end - p.begin) * sizeof *to);
        count += p.end - p.begin;
    }
    return count;
}

int64_t reduce_pack_half(const struct range_list *active, const float *block, int64_t begin,
                         int64_t end, uint16_t *out)
{
    struct range piece;
    int64_t count = 0;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        reduce_narrow(block + piece.begin, out + count, piece.end - piece.begin);
        count += piece.end - piece.begin;
    }
    return count;
}

void reduce_unpack_half(const struct range_list *active, const uint16_t *packed, int64_t begin,
                        int64_t end, float *block)
{
    struct range piece;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        reduce_widen(packed, block + piece.begin, piece.end - piece.begin);
        packed += piece.end - piece.begin;
    }
}

/* From the front: an element's place is never behind where it stands. */
void reduce_spread(const struct range_list *active, float *slice, int64_t count, int64_t begin,
                   int64_t end, bool half)
{
    struct range piece;
    const float *packed = slice + (end - begin - count);
    const uint16_t *halves = (const uint16_t *)(const void *)(slice + (end - begin)) - count;
    if (half) {
        reduce_unpack_half(active, halves, begin, end, slice - begin);
        return;
    }
    if (count == end - begin)
        return;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        int64_t n = piece.end - piece.begin;
        memmove(slice + (piece.begin - begin), packed, (size_t)n * sizeof *slice);
        packed += n;
    }
}

void reduce_add_packed(const struct range_list *active, const float *packed, int64_t begin,
                       int64_t end, float *block)
{
    struct range piece;
    for (struct range_walk w = range_walk_over(active, begin, end); range_walk_next(&w, &piece);) {
        int64_t n = piece.end - piece.begin;
        lane_tree_add(block + piece.begin, packed, n);
        packed += n;
    }
}

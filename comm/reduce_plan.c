/*
 * See reduce_plan.h.  Refused: blocks that run across the holes between ranges.  They would save a
 * few messages where only short tensors are trained, but every bucket would have to be packed.
 */
#include "comm/reduce_plan.h"

#include <string.h>

#include "comm/base/memory.h"
#include "comm/reduce.h"

static int64_t blocks_of(int64_t elements)
{
    return (elements + REDUCE_BLOCK - 1) / REDUCE_BLOCK;
}

int64_t reduce_plan_bucket_elements(enum reduce_path path, int64_t asked, int32_t ranks)
{
    enum { NODE_BLOCKS = 4, WIRE_BLOCKS = 64, WIRE_BLOCKS_MOST = 128 };
    const int64_t most = INT32_MAX / REDUCE_BLOCK / 2;
    int64_t blocks = WIRE_BLOCKS;
    if (asked > 0)
        blocks = blocks_of(asked);
    else if (path == REDUCE_PATH_NODE)
        blocks = NODE_BLOCKS;
    else if (path != REDUCE_PATH_HOSTS && ranks > WIRE_BLOCKS)
        blocks = ranks < WIRE_BLOCKS_MOST ? ranks : WIRE_BLOCKS_MOST;
    return (blocks < most ? blocks : most) * REDUCE_BLOCK;
}

static int64_t count_buckets(const struct range_list *ranges, int64_t bucket_elements)
{
    int64_t n = 0;
    for (int32_t i = 0; i < ranges->count; i++) {
        int64_t elements = ranges->r[i].end - ranges->r[i].begin;
        n += (elements + bucket_elements - 1) / bucket_elements;
    }
    return n;
}

static mt_status check_ranges(const struct range_list *ranges)
{
    int64_t last = 0;
    for (int32_t i = 0; i < ranges->count; i++) {
        if (ranges->r[i].begin < last || ranges->r[i].end <= ranges->r[i].begin)
            return MT_FAIL(MT_BUG, "range %d of the reduction, [%lld, %lld), is out of order", i,
                           (long long)ranges->r[i].begin, (long long)ranges->r[i].end);
        last = ranges->r[i].end;
    }
    return MT_OK;
}

mt_status reduce_plan_init(struct reduce_plan *p, const struct range_list *ranges,
                           int64_t bucket_elements, int32_t ranks, bool halving)
{
    MT_TRY(check_ranges(ranges));
    int64_t buckets = count_buckets(ranges, bucket_elements);
    if (buckets > INT32_MAX)
        return MT_FAIL(MT_BUG, "%lld buckets in a reduction", (long long)buckets);
    memset(p, 0, sizeof *p);
    MT_TRY(mt_alloc(&p->bucket, buckets, sizeof *p->bucket, "the reduction's buckets"));
    p->buckets = (int32_t)buckets;
    p->ranks = ranks;
    p->halving = halving;
    struct reduce_bucket *b = p->bucket + buckets;
    for (int32_t i = 0; i < ranges->count; i++)
        for (int64_t at = ranges->r[i].begin; at < ranges->r[i].end;) {
            int64_t left = ranges->r[i].end - at;
            int64_t n = left < bucket_elements ? left : bucket_elements;
            *--b = (struct reduce_bucket){at, at + n, p->blocks, blocks_of(n)};
            p->blocks += b->blocks;
            p->elements += n;
            if (n > p->longest)
                p->longest = n;
            at += n;
        }
    return MT_OK;
}

void reduce_plan_release(struct reduce_plan *p)
{
    mt_free(&p->bucket);
    memset(p, 0, sizeof *p);
}

/* Blocks [first, end) of a bucket as elements; the bucket's last block may be short. */
static struct reduce_slice slice_of_blocks(const struct reduce_bucket *b, int64_t first,
                                           int64_t end)
{
    int64_t begin = b->begin + first * REDUCE_BLOCK, stop = b->begin + end * REDUCE_BLOCK;
    if (begin > b->end)
        begin = b->end;
    if (stop > b->end)
        stop = b->end;
    return (struct reduce_slice){begin, stop, b->first_block + first};
}

struct reduce_slice reduce_plan_halved(const struct reduce_plan *p, int32_t bucket, int32_t rank,
                                       int32_t stages)
{
    const struct reduce_bucket *b = &p->bucket[bucket];
    int64_t first = 0, end = b->blocks;
    for (int32_t k = 0; k < stages; k++) {
        int64_t middle = first + (end - first) / 2;
        if ((((rank ^ bucket) >> k) & 1) == 0)
            end = middle;
        else
            first = middle;
    }
    return slice_of_blocks(b, first, end);
}

struct reduce_slice reduce_plan_slice(const struct reduce_plan *p, int32_t bucket, int32_t rank)
{
    const struct reduce_bucket *b = &p->bucket[bucket];
    if (p->halving) {
        int32_t stages = 0;
        while ((1 << stages) < p->ranks)
            stages++;
        return reduce_plan_halved(p, bucket, rank, stages);
    }
    int64_t turn = ((int64_t)rank + bucket) % p->ranks;
    return slice_of_blocks(b, turn * b->blocks / p->ranks, (turn + 1) * b->blocks / p->ranks);
}

int64_t reduce_plan_longest_slice(const struct reduce_plan *p, int32_t rank)
{
    int64_t longest = 0;
    for (int32_t i = 0; i < p->buckets; i++) {
        struct reduce_slice s = reduce_plan_slice(p, i, rank);
        if (s.end - s.begin > longest)
            longest = s.end - s.begin;
    }
    return longest;
}

/* See memory.h.  A 64-byte header before each block keeps its size; counters are C11 atomics.
 * Blocks of some size ask for huge pages: a matrix product reads rows that lie pages apart, and the
 * first touch of 2 MiB costs one fault instead of 512.  A tensor that is used then costs up to 2
 * MiB more at either end; what lies between such pages is as free as before. Sanitizers watch
 * malloc and not mmap, so their builds map nothing. */
#include "comm/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
enum { ALIGN = 64, PAGE = 4096, MAPPED_FROM_BYTES = INT32_MAX };
#else
enum { ALIGN = 64, PAGE = 4096, MAPPED_FROM_BYTES = 1 << 20 };
#endif
enum { HUGE_PAGE = 2 << 20, HUGE_FROM_BYTES = 4 * HUGE_PAGE };

struct header {
    int64_t bytes; /* of the block, header not counted */
    uint64_t magic;
    size_t mapped_bytes; /* 0 = from malloc */
};

static const uint64_t MAGIC = 0x6d74747261696e21u;

static atomic_llong live_blocks, live_bytes, peak_bytes, allocations, fail_countdown;

static bool fails_now(void)
{
    if (atomic_load(&fail_countdown) == 0)
        return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

static char *map_pages(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static size_t up_to(size_t bytes, size_t page)
{
    return (bytes + page - 1) / page * page;
}

void *mt_map_huge(size_t bytes)
{
    char *all = map_pages(bytes + HUGE_PAGE);
    if (all == NULL)
        return NULL;
    size_t before = up_to((uintptr_t)all, HUGE_PAGE) - (uintptr_t)all, end = up_to(bytes, PAGE);
    char *block = all + before;
    if (before > 0)
        (void)munmap(all, before);
    if (up_to(bytes + HUGE_PAGE, PAGE) > before + end)
        (void)munmap(block + end, up_to(bytes + HUGE_PAGE, PAGE) - before - end);
#ifdef MADV_HUGEPAGE
    (void)madvise(block, bytes, MADV_HUGEPAGE); /* a kernel without them gives small ones */
#endif
    return block;
}

static void *map_block(size_t bytes)
{
    return bytes < HUGE_FROM_BYTES ? map_pages(bytes) : mt_map_huge(bytes);
}

static void *zeroed(size_t bytes)
{
    void *p = aligned_alloc(ALIGN, bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

static struct header *header_of(void *block)
{
    return (struct header *)(void *)((char *)block - ALIGN);
}

mt_status mt_alloc(void *out, int64_t count, size_t size, const char *what)
{
    if (count < 0 || size == 0 || (uint64_t)count > (uint64_t)(INT64_MAX / 2) / size)
        return MT_FAIL(MT_NOMEM, "%s: %lld elements of %zu bytes do not fit any memory", what,
                       (long long)count, size);
    size_t bytes = (size_t)count * size;
    size_t total = (ALIGN + bytes + ALIGN - 1) / ALIGN * ALIGN;
    size_t mapped = total >= MAPPED_FROM_BYTES ? total : 0;
    struct header *h = fails_now() ? NULL : mapped > 0 ? map_block(total) : zeroed(total);
    if (h == NULL)
        return MT_FAIL(MT_NOMEM, "no memory for %s (%zu bytes)", what, bytes);
    h->mapped_bytes = mapped;
    h->bytes = (int64_t)bytes;
    h->magic = MAGIC;
    atomic_fetch_add(&allocations, 1);
    atomic_fetch_add(&live_blocks, 1);
    long long now = atomic_fetch_add(&live_bytes, h->bytes) + h->bytes;
    long long peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now)) {
    }
    void *block = (char *)h + ALIGN;
    memcpy(out, &block, sizeof block);
    return MT_OK;
}

mt_status mt_grow(void *out, int64_t old_count, int64_t new_count, size_t size, const char *what)
{
    void *old, *grown;
    memcpy(&old, out, sizeof old);
    MT_TRY(mt_alloc(&grown, new_count, size, what));
    int64_t kept = old_count < new_count ? old_count : new_count;
    if (old != NULL && kept > 0)
        memcpy(grown, old, (size_t)kept * size);
    mt_free(&old);
    memcpy(out, &grown, sizeof grown);
    return MT_OK;
}

mt_status mt_strdup(char **out, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy;
    MT_TRY(mt_alloc(&copy, (int64_t)n, 1, "a string"));
    memcpy(copy, text, n);
    *out = copy;
    return MT_OK;
}

void mt_free(void *address)
{
    void *block;
    memcpy(&block, address, sizeof block);
    if (block == NULL)
        return;
    struct header *h = header_of(block);
    if (h->magic != MAGIC)
        __builtin_trap(); /* not a block of ours, or freed twice: going on would corrupt the heap */
    h->magic = 0;
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, h->bytes);
    if (h->mapped_bytes > 0)
        (void)munmap(h, h->mapped_bytes);
    else
        free(h);
    block = NULL;
    memcpy(address, &block, sizeof block);
}

void mt_discard(void *block, int64_t first, int64_t count, size_t size)
{
    char *begin = (char *)block + first * (int64_t)size, *end = begin + count * (int64_t)size;
    if (header_of(block)->mapped_bytes > 0) {
        char *page = (char *)(((uintptr_t)begin + PAGE - 1) / PAGE * PAGE);
        char *last = (char *)((uintptr_t)end / PAGE * PAGE);
        if (page < last && madvise(page, (size_t)(last - page), MADV_DONTNEED) == 0) {
            memset(begin, 0, (size_t)(page - begin));
            begin = last;
        }
    }
    memset(begin, 0, (size_t)(end - begin));
}

void mt_scatter(void *block)
{
#ifdef MADV_NOHUGEPAGE
    struct header *h = header_of(block);
    if (h->mapped_bytes > 0)
        (void)madvise(h, h->mapped_bytes, MADV_NOHUGEPAGE);
#else
    (void)block;
#endif
}

void mt_memory_stats(struct mt_memory_stats *out)
{
    out->live_blocks = atomic_load(&live_blocks);
    out->live_bytes = atomic_load(&live_bytes);
    out->peak_bytes = atomic_load(&peak_bytes);
    out->allocations = atomic_load(&allocations);
}

void mt_memory_fail_after(int64_t n)
{
    atomic_store(&fail_countdown, n);
}

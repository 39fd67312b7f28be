/*
 * memory: every heap block of mttrain's own, counted, aligned and failing on demand.
 *
 * Blocks are 64-byte aligned (a cache line, an AVX-512 register) and zeroed; a large one is mapped,
 * so that the parts nobody touches (gradients and moments of frozen tensors) take no memory.  The
 * counters let a test assert that nothing is left at exit and that no step allocates after the
 * second one. Outside libraries allocate for themselves and are not counted.
 */
#ifndef MT_BASE_MEMORY_H
#define MT_BASE_MEMORY_H

#include "comm/base/status.h"

/* Local.  A zeroed block of count * size bytes in *out (count 0 gives a valid block).
 * Owns: the caller, until mt_free.  Errors: NOMEM, also where the product overflows.
 * `what` names the block in the message ("gradients of lane 3"). */
mt_status mt_alloc(void *out, int64_t count, size_t size, const char *what) MT_CHECKED;

/* Local.  Like realloc: keeps the first old_count elements, zeroes the rest; *out may point to
 * NULL.  On failure *out is untouched and still owned. */
mt_status mt_grow(void *out, int64_t old_count, int64_t new_count, size_t size,
                  const char *what) MT_CHECKED;

/* Local.  A copy of the string. */
mt_status mt_strdup(char **out, const char *text) MT_CHECKED;

/* Local.  Releases *block and sets it to NULL; NULL is fine.  `address` is the address of the
 * owning pointer: mt_free(&ids). */
void mt_free(void *address);

/* Local.  Zeroes elements first .. first+count-1 of a block and gives their whole pages back where
 * the block is large: what is not touched afterwards costs no memory. */
void mt_discard(void *block, int64_t first, int64_t count, size_t size);

/* Local.  For a large block that has not been touched yet and of which only scattered stretches
 * will be: asks for pages of the usual size, since one byte would make a whole huge page of memory
 * its own. */
void mt_scatter(void *block);

/* Local.  Zeroed pages that begin where a huge page does, for what must not be counted; NULL where
 * memory is lacking.  Owns: the caller, until munmap of as many bytes. */
void *mt_map_huge(size_t bytes);

struct mt_memory_stats {
    int64_t live_blocks;
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t allocations; /* ever made; does not fall */
};

/* Local.  Counters of this process, all threads together. */
void mt_memory_stats(struct mt_memory_stats *out);

/* Local.  Fault injection for tests: the n-th allocation from now on fails (once); 0 = never. */
void mt_memory_fail_after(int64_t n);

#endif

/*
 * See instead.h: comm/base/memory.c for a simulation.  All blocks of a mebibyte or more that have
 * one length are one and the same memory, for all ranks, and SMPI does not copy messages from or to
 * it.  Ranks have their own globals but one environment, which therefore keeps the addresses.
 * Nothing is given back before the end of the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#include "comm/base/memory.h"

enum { SHARED_FROM_BYTES = 1 << 20 };

static struct mt_memory_stats stats;

static void *shared_block(size_t bytes)
{
    char name[64], address[32];
    (void)snprintf(name, sizeof name, "MT_SIMULATED_%zu", bytes);
    const char *known = getenv(name);
    if (known != NULL)
        return (void *)(uintptr_t)strtoumax(known, NULL, 16);
    void *block = smpi_shared_malloc(bytes, name, 1);
    (void)snprintf(address, sizeof address, "%" PRIxPTR, (uintptr_t)block);
    (void)setenv(name, address, 1);
    return block;
}

mt_status mt_alloc(void *out, int64_t count, size_t size, const char *what)
{
    size_t bytes = (size_t)count * size;
    void *block = bytes >= SHARED_FROM_BYTES ? shared_block(bytes) : calloc(1, bytes + 1);
    if (block == NULL)
        return MT_FAIL(MT_NOMEM, "no memory for %s (%zu bytes)", what, bytes);
    stats.allocations++;
    memcpy(out, &block, sizeof block);
    return MT_OK;
}

mt_status mt_grow(void *out, int64_t old_count, int64_t new_count, size_t size, const char *what)
{
    void *old, *grown;
    memcpy(&old, out, sizeof old);
    MT_TRY(mt_alloc(&grown, new_count, size, what));
    if (old != NULL)
        memcpy(grown, old, (size_t)(old_count < new_count ? old_count : new_count) * size);
    memcpy(out, &grown, sizeof grown);
    return MT_OK;
}

void mt_free(void *address)
{
    memset(address, 0, sizeof(void *));
}

void mt_memory_stats(struct mt_memory_stats *out)
{
    *out = stats;
}

/*
 * See instead.h: comm/shared.c for a simulation, whose hosts are parts of one process.  The first
 * bytes of a block, where counts are, are each host's own; all else is one and the same memory, as
 * in instead_memory.c.  Nothing is given back before the end of the process.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <mpi.h>

#include "comm/base/memory.h"
#include "comm/shared.h"

enum { OWN_BYTES = 65536 };

struct shared {
    void *base;
    int64_t bytes;
    bool first;
};

mt_status shared_create(struct shared **out, const struct comm *c, int64_t bytes, const char *what)
{
    static int made;
    char name[64], address[32];
    struct shared *s;
    MT_TRY(mt_alloc(&s, 1, sizeof *s, what));
    (void)snprintf(name, sizeof name, "MT_SHARED_%d_%d", c->node_index, made++);
    const char *known = getenv(name);
    s->bytes = bytes;
    s->first = c->node_rank == 0;
    if (known != NULL) {
        s->base = (void *)(uintptr_t)strtoumax(known, NULL, 16);
    } else {
        size_t all = (size_t)(bytes + OWN_BYTES), offsets[2] = {OWN_BYTES, all};
        s->base = smpi_shared_malloc_partial(all, offsets, 1);
        (void)snprintf(address, sizeof address, "%" PRIxPTR, (uintptr_t)s->base);
        (void)setenv(name, address, 1);
    }
    *out = s;
    return MT_OK;
}

void shared_destroy(struct shared **s)
{
    mt_free(s);
}

void *shared_base(const struct shared *s)
{
    return s->base;
}

int64_t shared_bytes(const struct shared *s)
{
    return s->bytes;
}

bool shared_is_first(const struct shared *s)
{
    return s->first;
}

mt_status shared_barrier(const struct shared *s)
{
    (void)s;
    return MT_FAIL(MT_BUG, "no barrier in a simulated host's memory");
}

int64_t shared_free_bytes(void)
{
    return -1;
}

/*
 * shared: one block of memory per host, seen by all of its ranks.
 *
 * The block is zeroed and its pages are reserved when it is made, so a host that is short of memory
 * says so there and not by a bus error later.  Its name is removed as soon as all ranks hold it: a
 * killed run leaves nothing behind.
 *
 *     MT_TRY(shared_create(&cache, comm, bytes, "the prefix cache"));
 *     if (shared_is_first(cache)) fill(shared_base(cache));
 *     MT_TRY(shared_barrier(cache));              // now every rank of the host sees the content
 */
#ifndef MT_COMM_SHARED_H
#define MT_COMM_SHARED_H

#include "comm/world.h"

struct shared;

/* Collective.  bytes > 0, the same on all ranks.  `what` names the block in messages.
 * Owns: the caller, until shared_destroy.  Errors: NOMEM (one host is enough), MPI, BUG. */
mt_status shared_create(struct shared **out, const struct comm *c, int64_t bytes,
                        const char *what) MT_CHECKED;
/* Local.  Each rank lets go for itself; the last one frees the memory. */
void shared_destroy(struct shared **s);

/* Local.  The block, 64-byte aligned, at another address in each rank; its length; whether this is
 * the one rank of its host that acts for all. */
void *shared_base(const struct shared *s);
int64_t shared_bytes(const struct shared *s);
bool shared_is_first(const struct shared *s);

/* Collective.  Writes before it are seen by all ranks of the host after it. */
mt_status shared_barrier(const struct shared *s) MT_CHECKED;

/* Local.  Bytes that shared memory can still take on this host; -1 = unknown. */
int64_t shared_free_bytes(void);

#endif

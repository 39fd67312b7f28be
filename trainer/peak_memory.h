/* peak_memory: the most memory that this process has had in use since a moment. */
#ifndef MT_TRAINER_PEAK_MEMORY_H
#define MT_TRAINER_PEAK_MEMORY_H

#include "comm/world.h"

/* Local.  Begins a new measurement, where Linux allows it; elsewhere the process' whole life
 * counts.  Source: proc(5), clear_refs. */
void peak_memory_reset(void);

/* Local.  Bytes resident at most since then. */
int64_t peak_memory_bytes(void);

/* The ranks' peaks; those of one host need not have been at the same time. */
struct peak_memory {
    int64_t rank_bytes; /* the largest */
    int32_t rank;       /* which one it is */
    int64_t host_bytes; /* the largest sum over the ranks of one host */
    int32_t host;       /* one of its ranks */
};

/* Collective.  Errors: NOMEM, MPI. */
mt_status peak_memory_gather(struct peak_memory *out, const struct comm *world) MT_CHECKED;

#endif

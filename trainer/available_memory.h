/* available_memory: what this host has left for a program, by its kernel and by its cgroups. */
#ifndef MT_TRAINER_AVAILABLE_MEMORY_H
#define MT_TRAINER_AVAILABLE_MEMORY_H

#include "comm/base/status.h"

enum { AVAILABLE_SOURCE_BYTES = 320 };

struct available_memory {
    int64_t bytes;                       /* -1 = unknown */
    char source[AVAILABLE_SOURCE_BYTES]; /* "MemAvailable", or the cgroup file that says less */
};

/* Local.  The least of MemAvailable and, for this process' cgroup and those above it, limit less
 * usage (file pages that the kernel would give up do not count as used).  root: "" for this host,
 * or a folder with proc/ and sys/ in it.
 * Source: proc(5); the kernel's cgroup-v2.rst and cgroup-v1/memory.rst. */
void available_memory_find(struct available_memory *out, const char *root);

#endif

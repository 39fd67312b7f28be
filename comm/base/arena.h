/*
 * arena: many blocks in one piece of memory, given back all at once.
 *
 * Sized by running the same plan twice: a measuring arena (arena_init_measure) hands out no memory
 * but counts, and the second run places.  So the plan is written once and cannot drift.
 *
 *     struct arena a;
 *     arena_init_measure(&a);  encoder_plan(&a, ...);        // all pointers NULL, sizes summed
 *     int64_t need = arena_peak_bytes(&a);
 *     MT_TRY(arena_init(&a, need, "activations"));  encoder_plan(&a, ...);
 *
 * mark/release nest like a stack.  Debug builds (MT_POISON) fill released memory with NaN.
 */
#ifndef MT_BASE_ARENA_H
#define MT_BASE_ARENA_H

#include "comm/base/status.h"

struct arena {
    char *base; /* NULL = measuring */
    int64_t capacity_bytes, used_bytes, peak_bytes;
    bool measuring;
};

/* Local.  Counts only. */
void arena_init_measure(struct arena *a);

/* Local.  Owns capacity_bytes until arena_destroy.  Errors: NOMEM. */
mt_status arena_init(struct arena *a, int64_t capacity_bytes, const char *what) MT_CHECKED;

/* Local.  A 64-byte aligned block of count * size bytes, NOT zeroed; NULL from a measuring arena.
 * Asking a placed arena for more than was planned is a bug and traps: it was measured. */
void *arena_take(struct arena *a, int64_t count, size_t size);

int64_t arena_mark(const struct arena *a);
void arena_release(struct arena *a, int64_t mark);
int64_t arena_peak_bytes(const struct arena *a);

/* Local.  Accepts an arena that is zeroed or only measuring. */
void arena_destroy(struct arena *a);

#define ARENA_TAKE(a, type, count) ((type *)arena_take((a), (count), sizeof(type)))

#endif

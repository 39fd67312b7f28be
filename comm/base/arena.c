/* See arena.h. */
#include "comm/base/arena.h"

#include <string.h>

#include "comm/base/memory.h"

enum { ALIGN = 64 };

void arena_init_measure(struct arena *a)
{
    memset(a, 0, sizeof *a);
    a->measuring = true;
}

mt_status arena_init(struct arena *a, int64_t capacity_bytes, const char *what)
{
    char *base;
    MT_TRY(mt_alloc(&base, capacity_bytes, 1, what));
    memset(a, 0, sizeof *a);
    a->base = base;
    a->capacity_bytes = capacity_bytes;
    return MT_OK;
}

void *arena_take(struct arena *a, int64_t count, size_t size)
{
    int64_t bytes = (count * (int64_t)size + ALIGN - 1) / ALIGN * ALIGN;
    char *block = a->measuring ? NULL : a->base + a->used_bytes;
    a->used_bytes += bytes;
    if (a->used_bytes > a->peak_bytes)
        a->peak_bytes = a->used_bytes;
    if (!a->measuring && a->used_bytes > a->capacity_bytes)
        __builtin_trap();
    return block;
}

int64_t arena_mark(const struct arena *a)
{
    return a->used_bytes;
}

void arena_release(struct arena *a, int64_t mark)
{
#ifdef MT_POISON
    if (!a->measuring)
        memset(a->base + mark, 0xff, (size_t)(a->used_bytes - mark)); /* 0xffffffff is a NaN */
#endif
    a->used_bytes = mark;
}

int64_t arena_peak_bytes(const struct arena *a)
{
    return a->peak_bytes;
}

void arena_destroy(struct arena *a)
{
    mt_free(&a->base);
    memset(a, 0, sizeof *a);
}

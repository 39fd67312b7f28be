/*
 * The choice of an instruction set, and the room for packed operands.
 *
 * A product borrows one of ROOMS fixed rooms for its duration, the one its thread had before where
 * that is free: nothing is allocated, nothing can fail, nobody has to give anything back.  Rooms
 * lie in zero pages of the program's image, so one that no thread enters takes no memory; one that
 * is entered takes one huge page.  More threads than rooms wait for each other.  Refused: memory of
 * the thread from mt_alloc (a product would have to be able to fail, and every thread that ever
 * multiplied to say goodbye).
 */
#include "trainer/model/gemm_native.h"

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

struct set {
    const char *name;
    void (*multiply)(const struct gemm_product *p, float *room);
    bool fast;
};

static bool has(const char *name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    if (strcmp(name, "neon") == 0)
        return true;
#endif
    return strcmp(name, "portable") == 0;
}

static const struct set sets[] = {{"avx512", gemm_avx512, true},
                                  {"avx2", gemm_avx2, true},
                                  {"neon", gemm_neon, true},
                                  {"portable", gemm_portable, false}};
enum { SETS = sizeof sets / sizeof *sets };

static _Atomic(const struct set *) chosen; /* NULL = none yet */

static const struct set *current(void)
{
    const struct set *s = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (s == NULL)
        for (s = sets; !has(s->name);)
            s++;
    return s;
}

bool gemm_native_is_fast(void)
{
    return current()->fast;
}

const char *gemm_native_set(void)
{
    return current()->name;
}

bool gemm_native_force(const char *set)
{
    const struct set *found = NULL;
    for (int i = 0; i < SETS && found == NULL; i++)
        if ((set == NULL || strcmp(sets[i].name, set) == 0) && has(sets[i].name))
            found = &sets[i];
    if (found != NULL)
        atomic_store(&chosen, found);
    return found != NULL;
}

enum { ROOMS = 64 };

/* One more than there are, so that rooms can begin where a huge page does. */
static char space[(size_t)(ROOMS + 1) * GEMM_ROOM_BYTES];
static atomic_bool taken[ROOMS];
static atomic_bool advised[ROOMS];
static atomic_int next_room;
static _Thread_local int own_room = -1;

static char *room_at(int i)
{
    uintptr_t at = ((uintptr_t)space + GEMM_ROOM_BYTES - 1) & ~(uintptr_t)(GEMM_ROOM_BYTES - 1);
    return space + (at - (uintptr_t)space) + (size_t)i * GEMM_ROOM_BYTES;
}

static int enter_room(void)
{
    if (own_room < 0)
        own_room = atomic_fetch_add(&next_room, 1) % ROOMS;
    for (int tried = 0; atomic_exchange_explicit(&taken[own_room], true, memory_order_acquire);) {
        own_room = (own_room + 1) % ROOMS;
        if (++tried % ROOMS == 0)
            (void)sched_yield();
    }
    if (!atomic_exchange_explicit(&advised[own_room], true, memory_order_relaxed))
        (void)madvise(room_at(own_room), GEMM_ROOM_BYTES, MADV_HUGEPAGE);
    return own_room;
}

void gemm_native(const struct gemm_product *p)
{
    if (p->m == 0 || p->n == 0)
        return;
    const struct set *s = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (s == NULL && gemm_native_force(NULL))
        s = atomic_load(&chosen);
    int room = enter_room();
    s->multiply(p, (float *)(void *)room_at(room));
    atomic_store_explicit(&taken[room], false, memory_order_release);
}

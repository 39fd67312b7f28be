/* The choice of an instruction set; the work is in gemm_blocks.h. */
#include "trainer/model/gemm_native.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct set {
    const char *name;
    void (*multiply)(const struct gemm_product *p, int64_t count);
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

void gemm_native(const struct gemm_product *p, int64_t count)
{
    const struct set *s = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (s == NULL && gemm_native_force(NULL))
        s = atomic_load(&chosen);
    if (p->m > 0)
        s->multiply(p, count);
}

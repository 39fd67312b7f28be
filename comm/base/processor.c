/* See processor.h. */
#include "comm/base/processor.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/status.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>
#endif

static void add(char *text, size_t bytes, const char *name)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, bytes - used, "%s%s", used > 0 ? " " : "", name);
}

static bool amx;

static void ask_for_amx(void)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of arch_prctl */
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
        return;
    bool multiplies = (d >> 22 & 1) != 0, has_tiles = (d >> 24 & 1) != 0;
    amx = multiplies && has_tiles && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#endif
}

bool processor_allows_amx(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, ask_for_amx);
    return amx;
}

const char *processor_features(void)
{
    static _Thread_local char text[256];
    text[0] = '\0';
#if defined(__x86_64__)
    __builtin_cpu_init();
#define CHECK(name)                                                                                \
    if (__builtin_cpu_supports(name))                                                              \
        add(text, sizeof text, name);
    CHECK("sse4.2")
    CHECK("avx2")
    CHECK("fma")
    CHECK("avx512f")
    CHECK("avx512bw")
    CHECK("avx512vl")
    CHECK("avx512bf16")
#undef CHECK
    if (processor_allows_amx())
        add(text, sizeof text, "amx-bf16");
#elif defined(__aarch64__)
    add(text, sizeof text, "neon");
#endif
    if (text[0] == '\0')
        add(text, sizeof text, "baseline");
    return text;
}

void processor_flush_denormals(void)
{
#if defined(__x86_64__) && defined(__linux__)
    const unsigned to_zero = 1u << 15, are_zero = 1u << 6; /* results, operands */
    _mm_setcsr(_mm_getcsr() | to_zero | are_zero);
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    control |= (uint64_t)1 << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
#endif
}

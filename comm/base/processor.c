/* See processor.h. */
#include "comm/base/processor.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/status.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static void add(char *text, size_t bytes, const char *name)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, bytes - used, "%s%s", used > 0 ? " " : "", name);
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
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) != 0)
        add(text, sizeof text, "amx-bf16");
#elif defined(__aarch64__)
    add(text, sizeof text, "neon");
#endif
    if (text[0] == '\0')
        add(text, sizeof text, "baseline");
    return text;
}

/* See peak_memory.h. */
#include "trainer/peak_memory.h"

#include <stdio.h>
#include <sys/resource.h>

void peak_memory_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f == NULL)
        return;
    (void)fputs("5", f);
    (void)fclose(f);
}

int64_t peak_memory_bytes(void)
{
    char line[128];
    long long kilobytes = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && kilobytes < 0 && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmHWM: %lld", &kilobytes) != 1)
            kilobytes = -1;
    if (f != NULL)
        (void)fclose(f);
    if (kilobytes < 0) {
        struct rusage usage = {0};
        (void)getrusage(RUSAGE_SELF, &usage);
        kilobytes = usage.ru_maxrss;
    }
    return (int64_t)kilobytes * 1024;
}

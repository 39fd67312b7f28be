/* See peak_memory.h. */
#include "trainer/peak_memory.h"

#include <stdio.h>
#include <sys/resource.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"

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

mt_status peak_memory_gather(struct peak_memory *out, const struct comm *world)
{
    int64_t mine = peak_memory_bytes(), *all = NULL, *host = NULL;
    mt_status st = mt_alloc(&all, world->size, sizeof *all, "the ranks' memory");
    if (st == MT_OK)
        st = mt_alloc(&host, world->node_count, sizeof *host, "the hosts' memory");
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    MT_TRY_GOTO(st, comm_allgather(world, &mine, (int64_t)sizeof mine, all), done);
    *out = (struct peak_memory){0};
    for (int32_t r = 0; r < world->size; r++) {
        int64_t sum = host[comm_node_of(world, r)] += all[r];
        if (all[r] > out->rank_bytes) {
            out->rank_bytes = all[r];
            out->rank = r;
        }
        if (sum > out->host_bytes) {
            out->host_bytes = sum;
            out->host = r;
        }
    }
done:
    mt_free(&all);
    mt_free(&host);
    return st;
}

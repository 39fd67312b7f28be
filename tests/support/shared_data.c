/* See shared_data.h. */
#include "tests/support/shared_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *shared_data_find(const char *name)
{
    static char path[8][4096];
    static int next;
    char *p = path[next++ % 8];
    const char *base = getenv("MT_SHARED");
    if (base != NULL)
        snprintf(p, sizeof path[0], "%s/%s", base, name);
    else
        snprintf(p, sizeof path[0], "%s/../shared/%s", MT_TEST_SOURCE_DIR, name);
    if (access(p, R_OK) == 0)
        return p;
    printf("skipped: %s absent\n", p);
    return NULL;
}

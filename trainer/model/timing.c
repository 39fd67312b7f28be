/* See timing.h.  Refused: a pointer handed through every kernel, for a command that few run. */
#include "trainer/model/timing.h"

#include <stddef.h>

#include "comm/base/clock.h"

static _Thread_local struct timing *of_thread;

void timing_set(struct timing *t)
{
    of_thread = t;
    if (t)
        t->last_s = clock_now_s();
}

void timing_mark(enum timing_group group)
{
    struct timing *t = of_thread;
    if (!t)
        return;
    double now_s = clock_now_s();
    t->seconds[group] += now_s - t->last_s;
    t->last_s = now_s;
}

const char *timing_name(enum timing_group group)
{
    static const char *const names[TIMING_GROUPS] = {
        [TIMING_PRODUCTS] = "products",     [TIMING_ATTENTION] = "attention",
        [TIMING_ACTIVATION] = "activation", [TIMING_NORM] = "norm",
        [TIMING_ROUNDING] = "rounding",     [TIMING_EMBEDDING] = "embedding",
        [TIMING_HEADS] = "heads",           [TIMING_OTHER] = "other",
    };
    return names[group];
}

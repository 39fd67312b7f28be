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

struct timing *timing_current(void)
{
    return of_thread;
}

static void tell(const struct timing *t, enum timing_span_kind kind, int32_t detail, double begin_s)
{
    struct timing_span span = {kind, detail, begin_s, t->last_s};
    if (t->watch != NULL && span.end_s > begin_s)
        t->watch(t->context, &span);
}

void timing_mark(enum timing_group group)
{
    struct timing *t = of_thread;
    if (!t)
        return;
    double now_s = clock_now_s(), begin_s = t->last_s;
    t->seconds[group] += now_s - begin_s;
    t->last_s = now_s;
    tell(t, TIMING_SPAN_GROUP, (int32_t)group, begin_s);
}

void timing_depth_begin(void)
{
    if (of_thread)
        of_thread->depth_begin_s = of_thread->last_s;
}

void timing_depth_end(int32_t depth, bool backward)
{
    if (of_thread)
        tell(of_thread, backward ? TIMING_SPAN_BACKWARD : TIMING_SPAN_FORWARD, depth,
             of_thread->depth_begin_s);
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

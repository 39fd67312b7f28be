/*
 * timing: where a pass spends its time, for `mttrain bench` and `--trace`.
 *
 * A thread that wants to know sets a struct timing for itself; kernels then note what the time
 * since the last mark was spent on.  Without one a mark is a load and a branch.
 */
#ifndef MT_MODEL_TIMING_H
#define MT_MODEL_TIMING_H

#include <stdbool.h>
#include <stdint.h>

enum timing_group {
    TIMING_PRODUCTS,   /* of the encoder's dense layers */
    TIMING_ATTENTION,  /* products of scores and values, softmax, its dropout */
    TIMING_ACTIVATION, /* bias and activation */
    TIMING_NORM,       /* bias, dropout, residual, layer norm */
    TIMING_ROUNDING,   /* to bf16, and adding what a bf16 product cannot add */
    TIMING_EMBEDDING,
    TIMING_HEADS, /* pooling, heads, loss */
    TIMING_OTHER,
    TIMING_GROUPS
};

enum timing_span_kind { TIMING_SPAN_GROUP, TIMING_SPAN_FORWARD, TIMING_SPAN_BACKWARD };

/* A stretch of time on one thread, told when it is over. */
struct timing_span {
    enum timing_span_kind kind;
    int32_t detail; /* the group, or the depth that went forward or backward */
    double begin_s, end_s;
};
typedef void (*timing_watch)(void *context, const struct timing_span *span);

struct timing {
    double seconds[TIMING_GROUPS];
    double last_s;
    timing_watch watch; /* NULL = none; spans of groups lie within those of depths */
    void *context;
    double depth_begin_s;
};

/* Local.  Begins to count in *t, which the caller zeroed, on the calling thread; NULL = stops. */
void timing_set(struct timing *t);

/* Local.  What is set for the calling thread, or NULL. */
struct timing *timing_current(void);

/* Local.  The time since the last mark was the group's. */
void timing_mark(enum timing_group group);

/* Local.  A depth begins with the last mark, and ended with the last mark. */
void timing_depth_begin(void);
void timing_depth_end(int32_t depth, bool backward);

/* Local.  Name of a group for people ("products"); static. */
const char *timing_name(enum timing_group group);

#endif

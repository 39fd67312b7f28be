/*
 * timing: where a pass spends its time, for `mttrain bench`.
 *
 * A thread that wants to know sets a struct timing for itself; kernels then note what the time
 * since the last mark was spent on.  Without one a mark is a load and a branch.
 */
#ifndef MT_MODEL_TIMING_H
#define MT_MODEL_TIMING_H

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

struct timing {
    double seconds[TIMING_GROUPS];
    double last_s;
};

/* Local.  Begins to count in *t, which the caller zeroed, on the calling thread; NULL = stops. */
void timing_set(struct timing *t);

/* Local.  The time since the last mark was the group's. */
void timing_mark(enum timing_group group);

/* Local.  Name of a group for people ("products"); static. */
const char *timing_name(enum timing_group group);

#endif

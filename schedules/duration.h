/*
 * duration: "500st" "2ep" "0.3run" "0.1phase" "90min" "1.5h" "30s" "2d" "100000tok".
 */
#ifndef MT_SCHEDULES_DURATION_H
#define MT_SCHEDULES_DURATION_H

#include "comm/base/status.h"

enum duration_unit {
    DURATION_UNSET,
    DURATION_STEPS,
    DURATION_EPOCHS, /* of the largest data set in use */
    DURATION_RUN,    /* fraction of the run */
    DURATION_PHASE,  /* fraction of the phase */
    DURATION_SECONDS,
    DURATION_TOKENS
};

struct duration {
    enum duration_unit unit;
    double amount; /* >= 0, finite */
};

enum { DURATION_TEXT_BYTES = 40 };

/* Local.  False for anything but a number >= 0 and a unit. */
bool duration_parse(struct duration *out, const char *text);

/* Local.  Text that parses to the same duration; "" for an unset one. */
void duration_format(char text[DURATION_TEXT_BYTES], struct duration d);

/* Lengths against which a duration becomes steps; a value <= 0 = unknown. */
struct duration_scale {
    double steps_per_epoch;
    int64_t run_steps, phase_steps;
};

/* Local.  The duration in steps, rounded up; -1 where its unit says nothing about steps (time,
 * tokens, unset) or the scale is unknown. */
int64_t duration_steps(struct duration d, const struct duration_scale *scale);

#endif

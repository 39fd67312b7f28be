/* clock: seconds.  Durations come from the monotonic clock, never from the wall clock. */
#ifndef MT_BASE_CLOCK_H
#define MT_BASE_CLOCK_H

#include "comm/base/status.h"

enum { CLOCK_TEXT_BYTES = 32 };

double clock_now_s(void);                           /* monotonic; only differences mean something */
int64_t clock_wall_s(void);                         /* Unix time */
void clock_format_iso(char text[CLOCK_TEXT_BYTES]); /* 2024-05-01T12:34:56Z */
void clock_format_duration(char text[CLOCK_TEXT_BYTES],
                           double seconds); /* "1h02m", "3m10s", "12s" */
void clock_sleep_s(double seconds);

#endif

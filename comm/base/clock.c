/* See clock.h. */
#include "comm/base/clock.h"

#include <stdio.h>
#include <time.h>

double clock_now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t clock_wall_s(void)
{
    return (int64_t)time(NULL);
}

void clock_format_iso(char text[CLOCK_TEXT_BYTES])
{
    time_t now = time(NULL);
    struct tm utc;
    (void)gmtime_r(&now, &utc);
    (void)strftime(text, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

void clock_format_duration(char text[CLOCK_TEXT_BYTES], double seconds)
{
    if (!(seconds >= 0.0) || seconds > 3.6e7) {
        (void)snprintf(text, CLOCK_TEXT_BYTES, "?");
        return;
    }
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%ldm%02lds", s / 60, s % 60);
    else
        (void)snprintf(text, CLOCK_TEXT_BYTES, "%lds", s);
}

void clock_sleep_s(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&t, NULL);
}

/*
 * stop: a wish to end the run, from a signal or from the program itself.
 *
 * A signal handler sets a flag and nothing else.  The loop asks stop_agree at its boundaries, so
 * that all ranks stop at the same one, wherever the wish arose.
 */
#ifndef MT_COMM_STOP_H
#define MT_COMM_STOP_H

#include "comm/world.h"

/* In rising urgency: of several wishes the largest counts. */
enum stop_reason {
    STOP_NONE,
    STOP_COMMAND,    /* `mttrain ctl stop` */
    STOP_TIME_LIMIT, /* the end of the time that the scheduler gives */
    STOP_USR1,
    STOP_USR2,
    STOP_INT,
    STOP_TERM,
    STOP_REASON_COUNT
};

/* Local.  Catches USR1, USR2, TERM and INT.  A second INT ends the process at once. */
mt_status stop_install(void) MT_CHECKED;

/* Local.  Once, after stop_install and before the program's own threads: signals from outside are
 * taken by a thread that does nothing else, never in the middle of a product (stop.c).
 * Errors: NOMEM. */
mt_status stop_listen(void) MT_CHECKED;

/* Local.  Any thread: a wish from the program itself, the flag, why, and the flag taken back (a
 * daemon between two jobs; INT is caught again). */
void stop_request(enum stop_reason reason);
bool stop_requested_local(void);
enum stop_reason stop_reason_local(void);
void stop_clear(void);

/* Local.  From this moment on (clock_now_s; INFINITY = never) there is a wish for STOP_TIME_LIMIT.
 */
void stop_set_deadline(double at_s);

/* Local.  "signal USR1", "the time limit", ... */
const char *stop_reason_text(enum stop_reason reason);

/* Collective.  The most urgent reason of all ranks; STOP_NONE = go on. */
mt_status stop_agree(const struct comm *c, enum stop_reason *out) MT_CHECKED;

#endif

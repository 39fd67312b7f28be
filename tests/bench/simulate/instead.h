/*
 * instead: what the simulation puts in place of the program's own parts, and how to steer it.
 *
 * Ranks of a simulation share one process and one processor, so that what costs memory or time but
 * is not communication is stood for: large blocks share their pages (instead_memory.c), a host's
 * shared memory is the process's own (instead_shared.c), additions and copies
 * only let simulated time pass (instead_kernels.c), and a nap between two looks at MPI ends when a
 * message arrives (instead_wait.c).  Every rank has its own copy of these globals.
 */
#ifndef MT_TESTS_INSTEAD_H
#define MT_TESTS_INSTEAD_H

#include <stdbool.h>

/* Seconds: after `window_s` of looking without a pause, looks are nap_s apart.  polls: every look
 * is simulated, since what is waited for may be a count in shared memory. */
struct instead_looks {
    double window_s, nap_s;
    bool polls;
};

extern struct instead_looks instead_looks;

/* Bytes a second at which a rank reads and writes memory; 0 = arithmetic takes no time. */
extern double instead_memory_bytes_s;

#endif

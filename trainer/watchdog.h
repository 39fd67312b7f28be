/*
 * watchdog: names the rank that makes no progress, and ends a job that hangs.
 *
 * The main thread of each rank says what it is doing (watchdog_beat), which costs two stores.  With
 * the job key `watchdog` a thread per rank writes that to run_dir/heartbeat/rank-N at most once a
 * second; when its own rank has stood still for half the time it begins to read the others', and at
 * the full time it names the culprits, writes an event "watchdog" and aborts with exit code 75, by
 * which a scheduler starts the job again.  Works across hosts that share run_dir; clocks are not
 * compared, only whether a record changes.
 */
#ifndef MT_TRAINER_WATCHDOG_H
#define MT_TRAINER_WATCHDOG_H

#include "comm/world.h"

enum watchdog_operation {
    WATCHDOG_STARTING,
    WATCHDOG_BATCH,   /* waiting for the next batch */
    WATCHDOG_COMPUTE, /* forward and backward */
    WATCHDOG_REDUCE,  /* waiting for the other ranks' gradients */
    WATCHDOG_UPDATE,
    WATCHDOG_BOUNDARY, /* waiting for the other ranks at a step boundary */
    WATCHDOG_EVALUATE,
    WATCHDOG_CACHE,
    WATCHDOG_PHASE,
    WATCHDOG_SAVE,
    WATCHDOG_PAUSED,
    WATCHDOG_OPERATIONS
};

/* Local.  Main thread: progress was made, and this is what comes now.  Works without a watchdog. */
void watchdog_beat(enum watchdog_operation operation);
void watchdog_place(int64_t step, int32_t phase);

/* Local.  Starts the thread; seconds 0 does nothing.  Borrows world and copies run_dir.  A thread
 * that cannot be started costs the watchdog: a warning. */
void watchdog_start(const struct comm *world, const char *run_dir, double seconds);
void watchdog_stop(void);

/* The judgement, apart from files and threads. */
struct watchdog_rank {
    bool silent;    /* its record has not changed: the process or its host is gone or stopped */
    double still_s; /* since its main thread came forward */
    int64_t step;
    int32_t phase;
    enum watchdog_operation operation;
};

/* Local.  Marks the culprits among ranks[count]: those that are silent; else those that stand still
 * in something that is not waiting for others; else all that are furthest behind.  Answers their
 * number. */
int32_t watchdog_judge(const struct watchdog_rank *ranks, int32_t count, double limit_s,
                       bool *culprit);
const char *watchdog_operation_name(enum watchdog_operation operation);
bool watchdog_operation_waits(enum watchdog_operation operation);

#endif

/*
 * mttrain without a job: the daemon.  Serves the spool folder (jobs/spool.h), one job after
 * another.
 *
 * Rank 0 looks at the folder and tells the others what it found; a job that fails is moved to
 * failed/ with its reason, and all ranks go on together.  A job in running/ was interrupted by a
 * crash and comes first; train's own resume does the rest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/stop.h"
#include "jobs/spool.h"
#include "trainer/commands/arguments.h"
#include "trainer/ctl.h"
#include "trainer/train.h"

static const double IDLE_S = 0.5, TELL_S = 5.0;

/* Root.  The next job, moved to running/; an empty path where there is none. */
static mt_status next_job(const char *spool, char name[SPOOL_NAME_BYTES],
                          char path[SPOOL_PATH_BYTES])
{
    bool taken = true;
    path[0] = '\0';
    MT_TRY(spool_first(spool, SPOOL_RUNNING, name));
    if (name[0] == '\0') {
        MT_TRY(spool_first(spool, SPOOL_QUEUE, name));
        if (name[0] == '\0')
            return MT_OK;
        MT_TRY(spool_take(spool, name, &taken));
    }
    return taken ? spool_path(spool, SPOOL_RUNNING, name, path) : MT_OK;
}

/* Failures of one job; anything else means that the daemon itself cannot go on. */
static bool is_jobs_own(mt_status st)
{
    return st == MT_ARG || st == MT_CONFIG || st == MT_DATA || st == MT_IO || st == MT_NUMERIC ||
           st == MT_NOMEM || st == MT_BUG;
}

static mt_status serve_one(const struct comm *world, const char *spool, const char *name,
                           const char *path)
{
    struct run_options options = {.resume = "auto"};
    log_info("job %s", name);
    if (world->rank == 0)
        ctl_use_spool(spool);
    mt_status st = comm_agree(world, train_job(world, path, &options));
    ctl_use_spool(NULL);
    if (st != MT_OK && !is_jobs_own(st))
        return st; /* stopped: the job stays in running/ and is resumed by the next daemon */
    char why[MT_MESSAGE_BYTES + 32];
    (void)snprintf(why, sizeof why, "%s: %s\n", mt_status_name(st), mt_error_peek()->message);
    if (st != MT_OK)
        log_warning("job %s failed: %s", name, mt_error_peek()->message);
    mt_error_clear();
    enum spool_place place = st == MT_OK ? SPOOL_DONE : SPOOL_FAILED;
    MT_ALL(world,
           world->rank == 0 ? spool_finish(spool, name, place, st == MT_OK ? NULL : why) : MT_OK);
    return MT_OK;
}

static mt_status open_spool(const char *spool)
{
    MT_TRY(spool_open(spool));
    return ctl_prepare(spool);
}

/* Root.  Hears commands while no job is trained; now and then says that it is there. */
static void hear(const struct comm *world, const char *spool, double *told_s)
{
    bool stops = ctl_poll(spool) || ctl_stop_after_job();
    if (stops)
        stop_request(STOP_COMMAND);
    if (!stops && clock_now_s() - *told_s < TELL_S)
        return;
    *told_s = clock_now_s();
    ctl_tell_idle(spool, stops ? "stopped" : "idle", comm_host(world, 0), world->size);
}

/* Collective.  A stop between two jobs: 75 only where one is half done. */
static mt_status leave(const struct comm *world, const char *spool, enum stop_reason reason)
{
    int64_t running = 0;
    MT_ALL(world, world->rank == 0 ? spool_count(spool, SPOOL_RUNNING, &running) : MT_OK);
    MT_TRY(comm_max_i64(world, &running, 1));
    log_info("stopped by %s", stop_reason_text(reason));
    return running == 0 ? MT_OK : MT_FAIL(MT_STOPPED, "stopped with a job in %s/running", spool);
}

static mt_status serve(const struct comm *world, const char *spool, bool drain)
{
    char place[SPOOL_PATH_BYTES + SPOOL_NAME_BYTES];
    char *path = place, *name = place + SPOOL_PATH_BYTES;
    bool said_idle = false;
    double told_s = -TELL_S;
    MT_ALL(world, world->rank == 0 ? open_spool(spool) : MT_OK);
    log_info("serving %s%s", spool, drain ? " until its queue is empty" : "");
    for (;;) {
        enum stop_reason reason;
        memset(place, 0, sizeof place);
        if (world->rank == 0)
            hear(world, spool, &told_s);
        MT_TRY(stop_agree(world, &reason));
        if (reason != STOP_NONE)
            return leave(world, spool, reason);
        MT_ALL(world, world->rank == 0 ? next_job(spool, name, path) : MT_OK);
        MT_TRY(comm_broadcast(world, place, (int64_t)sizeof place, 0));
        if (path[0] != '\0') {
            MT_TRY(serve_one(world, spool, name, path));
            said_idle = false;
            told_s = -TELL_S;
        } else if (drain) {
            return MT_OK;
        } else {
            if (!said_idle)
                log_info("waiting for jobs in %s/queue", spool);
            said_idle = true;
            clock_sleep_s(IDLE_S);
        }
    }
}

static mt_status run(const struct invocation *call)
{
    const char *spool = getenv("MTTRAIN_SPOOL");
    bool drain = false, help;
    if (spool == NULL)
        spool = "spool";
    const struct argument table[] = {
        {"--spool", "DIR", ARGUMENT_TEXT, &spool,
         "the folder (default $MTTRAIN_SPOOL, else \"spool\")"},
        {"--drain", NULL, ARGUMENT_FLAG, &drain, "leave with 0 when the queue is empty"},
        {0}};
    MT_TRY(arguments_parse(&command_serve, table, call->argc, call->argv, &help));
    return help ? MT_OK : serve(call->world, spool, drain);
}

const struct command command_serve = {
    "serve",
    "[--spool DIR] [--drain]",
    "The daemon: trains the job files that are put (renamed) into DIR/queue, in name order.",
    "mpirun -np 8 mttrain --spool /data/spool",
    COMMAND_ALL,
    run};

/*
 * See run_lock.h.
 *
 * A lock in doubt is decided by status.json, which a run that lives writes every two seconds: no
 * clocks of two hosts are compared, only whether the file changes.
 */
#include "trainer/run_lock.h"

#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/stop.h"
#include "io/file.h"
#include "jobs/slurm.h"

static const double WAIT_S = 5.0;           /* for one who was told to stop */
static const double WAIT_REQUEUED_S = 90.0; /* also for a host that is lost: a lease on NFS */
static const double LIFE_S = 6.0;           /* three times the period of status.json */
static const double NAP_S = 0.25;

/* 0 = not there. */
static uint64_t status_hash(const struct run *run)
{
    char *path = NULL;
    uint64_t hash = 0;
    if (file_path_join(&path, run->job.run_dir, "status.json") != MT_OK ||
        file_hash(&hash, NULL, path) != MT_OK)
        mt_error_clear();
    mt_free(&path);
    return hash;
}

static mt_status nap(const struct run *run)
{
    if (stop_requested_local())
        return MT_FAIL(MT_STOPPED,
                       "stopped by %s while waiting for %s; nothing was begun, and the same "
                       "command starts again",
                       stop_reason_text(stop_reason_local()), run->job.run_dir);
    clock_sleep_s(NAP_S);
    return MT_OK;
}

static mt_status refuse(const struct run *run, const struct folder_holder *other)
{
    return MT_FAIL(
        MT_CONFIG,
        "%s is in use by another run: process %lld on %s, since %s; wait for it, stop it "
        "(mttrain ctl %s stop), or take another folder (--set run_dir=...)",
        run->job.run_dir, (long long)other->pid,
        other->host[0] != '\0' ? other->host : "an unknown host",
        other->since[0] != '\0' ? other->since : "an unknown time", run->job.run_dir);
}

/* The lock is ours as far as it reaches; whether whoever has not given it back still lives. */
static mt_status claim_if_silent(struct run *run, const struct folder_holder *other)
{
    uint64_t before = status_hash(run);
    double begin_s = clock_now_s();
    log_warning("%s was not given back by process %lld on %s (since %s); looking for signs of life "
                "for %.0f s",
                run->job.run_dir, (long long)other->pid, other->host, other->since, LIFE_S);
    while (clock_now_s() - begin_s < LIFE_S) {
        MT_TRY(nap(run));
        if (status_hash(run) != before)
            return refuse(run, other);
    }
    return folder_lock_claim(&run->lock);
}

static mt_status wait_for_lock(struct run *run)
{
    struct slurm slurm;
    double begin_s = clock_now_s(), wait_s;
    bool told = false;
    slurm_read(&slurm);
    wait_s = slurm.present && slurm.restart_count > 0 ? WAIT_REQUEUED_S : WAIT_S;
    MT_TRY(file_make_dir(run->job.run_dir));
    for (;;) {
        enum folder_lock_state state;
        struct folder_holder other;
        MT_TRY(folder_lock_try(&run->lock, run->job.run_dir, &state, &other));
        if (state != FOLDER_LOCK_HELD && !run->lock.kept)
            log_warning("the file system of %s keeps no locks: see to it that only one run works "
                        "there",
                        run->job.run_dir);
        if (state == FOLDER_LOCK_TAKEN)
            return MT_OK;
        if (state == FOLDER_LOCK_DOUBTFUL)
            return claim_if_silent(run, &other);
        if (clock_now_s() - begin_s >= wait_s)
            return refuse(run, &other);
        if (!told)
            log_warning("%s is in use by process %lld on %s, since %s; waiting up to %.0f s for it "
                        "to end",
                        run->job.run_dir, (long long)other.pid, other.host, other.since, wait_s);
        told = true;
        MT_TRY(nap(run));
    }
}

mt_status run_lock_take(struct run *run)
{
    MT_ALL(run->world, run->world->rank == 0 ? wait_for_lock(run) : MT_OK);
    return MT_OK;
}

mt_status run_lock_check(struct run *run)
{
    MT_ALL(run->world, run->world->rank == 0 ? folder_lock_check(&run->lock) : MT_OK);
    return MT_OK;
}

/*
 * See save.h.  Rank 0 writes alone or, where the moments are shared out, each rank its own and rank
 * 0 the rest.  No thread that writes calls MPI: at a boundary all ranks learn whether any of them
 * is still at work, and take the next stage together, so a save that fails fails everywhere.
 */
#include "trainer/save.h"

#include <errno.h>
#include <stdlib.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "trainer/events.h"
#include "trainer/freeze_audit.h"
#include "trainer/save_parts.h"
#include "trainer/trace.h"
#include "trainer/update.h"
#include "trainer/watchdog.h"

/* The agreed outcome of a save, after which the next may begin. */
static mt_status conclude(struct run *run, mt_status st)
{
    struct saver *s = &run->saver;
    s->under_way = false;
    saver_close(s);
    if (st != MT_OK && st != MT_BUG && run->job.train.save_failure == JOB_SAVE_WARN) {
        event_warning(run, "checkpoint at step %lld NOT saved: %s", (long long)s->step,
                      mt_error_peek()->message);
        mt_error_clear();
        if (s->best)
            run->best = run->best_saved;
        return MT_OK;
    }
    MT_TRY(st);
    run->last_saved_step = s->step;
    if (s->best)
        run->best_saved = run->best;
    if (run->world->rank != 0)
        return MT_OK;
    double cost_s = s->write_s + s->stood_s;
    if (cost_s > run->save_cost_s)
        run->save_cost_s = cost_s;
    event_checkpoint(run, s);
    log_detail(
        "checkpoint at step %lld: %.1f MB written in %.2f s, training stood still for %.2f s",
        (long long)s->step, 1e-6 * (double)s->size_bytes, s->write_s, s->stood_s);
    save_warn_kill_timeout(run);
    return MT_OK;
}

bool save_is_at_work(const struct run *run)
{
    return run->saver.under_way && !saver_is_written(&run->saver);
}

mt_status save_proceed(struct run *run)
{
    struct saver *s = &run->saver;
    if (!s->under_way)
        return MT_OK;
    double begin_s = clock_now_s();
    mt_status st = saver_finish(s); /* beats as long as its thread comes forward */
    watchdog_beat(WATCHDOG_BOUNDARY);
    st = comm_agree(run->world, st);
    bool seals = st == MT_OK && s->parts && !s->sealing;
    if (seals)
        st = save_parts_gather(run);
    s->stood_s += clock_now_s() - begin_s;
    if (st != MT_OK || !seals)
        return conclude(run, st);
    s->sealing = true;
    if (run->world->rank == 0)
        saver_seal(s);
    return MT_OK;
}

mt_status save_wait(struct run *run)
{
    while (run->saver.under_way)
        MT_TRY(save_proceed(run));
    return MT_OK;
}

mt_status save_checkpoint(struct run *run)
{
    struct saver *s = &run->saver;
    bool best = run->save_best;
    int64_t newest = s->under_way ? s->step : run->last_saved_step;
    if (newest == run->machine.step && !best) {
        run->save_due = false;
        return MT_OK;
    }
    double trace_s = trace_begin(run->trace);
    MT_TRY(save_wait(run));
    double begin_s = clock_now_s(); /* what was waited for before is told by the save before */
    watchdog_beat(WATCHDOG_SAVE);
    if (run->phase.plan != NULL)
        MT_TRY(freeze_audit_verify(run));
    s->parts = save_parts_wanted(run);
    if (!s->parts)
        MT_TRY(update_gather_moments(run));
    s->best = best;
    s->step = run->machine.step;
    mt_status st = comm_agree(run->world, saver_open(s, run));
    if (st == MT_OK)
        saver_start(s);
    if (!s->parts)
        update_drop_foreign_moments(run);
    run->save_due = run->save_best = false;
    run->last_save_s = clock_now_s();
    s->stood_s = run->last_save_s - begin_s;
    trace_end(run->trace, TRACE_SAVE, TRACE_ROW_MAIN, 0, trace_s);
    if (st != MT_OK)
        return conclude(run, st);
    s->under_way = true;
    return MT_OK;
}

/* Parameters of run_dir/checkpoints/best into a flat block; *found = false where there is none. */
static mt_status read_best(const struct run *run, float *params, bool *found)
{
    struct checkpoint_reader *r = NULL;
    char path[CHECKPOINT_PATH_BYTES];
    *found = run->best.known;
    if (!run->best.known)
        return MT_OK;
    MT_TRY(checkpoint_path(path, run->job.run_dir, run->best.step));
    MT_TRY(checkpoint_open(&r, path, false));
    mt_status st = checkpoint_read_block(r, CHECKPOINT_PARAMS, &run->model.table, params, NULL);
    checkpoint_close(&r);
    return st;
}

mt_status save_load_best(struct run *run)
{
    bool found;
    MT_TRY(save_wait(run));
    MT_ALL(run->world, read_best(run, run->params, &found));
    if (found)
        log_info("parameters of the best checkpoint (step %lld)", (long long)run->best.step);
    return MT_OK;
}

static mt_status export_here(struct run *run)
{
    char *folder = NULL;
    float *params = NULL;
    bool found;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&folder, run->job.run_dir, "model"), done);
    MT_TRY_GOTO(st, mt_alloc(&params, run->model.table.total, sizeof *params, "best parameters"),
                done);
    MT_TRY_GOTO(st, read_best(run, params, &found), done);
    MT_TRY_GOTO(
        st,
        model_folder_write(folder, &run->about, &run->model.table, found ? params : run->params),
        done);
    if (found)
        log_info("model of step %lld (best %s = %.4f) in %s", (long long)run->best.step,
                 run->job.train.best, run->best.value, folder);
    else
        log_info("model of step %lld in %s", (long long)run->machine.step, folder);
done:
    mt_free(&params);
    mt_free(&folder);
    return st;
}

mt_status save_export(struct run *run)
{
    MT_TRY(save_wait(run));
    MT_ALL(run->world, run->world->rank == 0 ? export_here(run) : MT_OK);
    return MT_OK;
}

/* Seconds between SIGTERM and SIGKILL under mpirun; negative where mpirun is not what started us.
 */
static double kill_timeout_s(void)
{
    const char *text = getenv("OMPI_MCA_odls_base_sigkill_timeout");
    bool by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL && getenv("PMIX_NAMESPACE") != NULL &&
                     getenv("SLURM_STEP_ID") == NULL;
    if (text != NULL) {
        char *end;
        errno = 0;
        double value = strtod(text, &end);
        if (errno == 0 && end != text && value >= 0.0)
            return value;
    }
    return by_mpirun ? 1.0 : -1.0;
}

void save_warn_kill_timeout(struct run *run)
{
    const double disk_bytes_per_s = 200e6; /* until a save has been measured */
    double limit_s = kill_timeout_s(), need_s = run->save_cost_s + run->step_cost_s;
    if (need_s <= 0.0)
        need_s = 3.0 * (double)run->model.table.total * (double)sizeof(float) / disk_bytes_per_s;
    if (run->warned_kill_timeout || limit_s < 0.0 || need_s < limit_s)
        return;
    run->warned_kill_timeout = true;
    event_warning(
        run,
        "a save takes about %.1f s, but mpirun kills the ranks %.0f s after SIGTERM: stop "
        "with SIGUSR1, or start with --mca odls_base_sigkill_timeout %.0f",
        need_s, limit_s, 10.0 + 3.0 * need_s);
}

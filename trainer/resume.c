/*
 * See resume.h.  Rank 0 chooses the checkpoint and verifies it; all ranks read it for themselves.
 */
#include "trainer/resume.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "trainer/control.h"
#include "trainer/decisions.h"
#include "trainer/events.h"
#include "trainer/products.h"
#include "trainer/run_state.h"

static void tell_damage(void *context, const char *message)
{
    (void)context;
    log_warning("%s", message);
}

/* Root.  The checkpoint to begin from, "" for none. */
static mt_status choose_checkpoint(const struct run *run, const char *resume,
                                   char path[CHECKPOINT_PATH_BYTES])
{
    int64_t step = -1;
    path[0] = '\0';
    if (strcmp(resume, "auto") == 0)
        return checkpoint_find_newest_valid(run->job.run_dir, path, &step, tell_damage, NULL);
    if (strcmp(resume, "never") == 0) {
        int64_t *steps = NULL;
        int32_t count = 0;
        MT_TRY(checkpoint_list(run->job.run_dir, &steps, &count));
        mt_free(&steps);
        if (count > 0)
            return MT_FAIL(MT_CONFIG,
                           "--resume never, but %s holds %d checkpoints; name a fresh run_dir "
                           "(--set run_dir=...) or remove it",
                           run->job.run_dir, count);
        return MT_OK;
    }
    if (strlen(resume) >= CHECKPOINT_PATH_BYTES)
        return MT_FAIL(MT_ARG, "--resume: path too long");
    (void)snprintf(path, CHECKPOINT_PATH_BYTES, "%s", resume);
    return checkpoint_verify(path);
}

/* A key may change within a run, or not, or only when that is accepted. */
static mt_status judge_change(const struct job_change *c, bool accept)
{
    if (c->change == OPTION_INCOMPATIBLE)
        return MT_FAIL(MT_CONFIG,
                       "%s was %s in the run that is resumed and is %s now; that cannot change "
                       "within a run: take a fresh run_dir",
                       c->key, c->before, c->after);
    if (c->change == OPTION_TRAJECTORY && !accept)
        return MT_FAIL(MT_CONFIG,
                       "%s was %s in the run that is resumed and is %s now; that changes the "
                       "result: start with --accept-changes, or take a fresh run_dir",
                       c->key, c->before, c->after);
    return MT_OK;
}

/* Whether the run that wrote the checkpoint may be continued under this job file; `changes` gets
 * what differs, for the record. */
static mt_status check_job(const struct run *run, const struct checkpoint_reader *r, bool accept,
                           struct job_changes *changes)
{
    char *text = NULL;
    struct job before;
    int64_t bytes;
    MT_TRY(checkpoint_read_text(r, "job.cfg", &text, &bytes));
    mt_status st = job_load(&before, text, NULL, 0);
    mt_free(&text);
    MT_TRY(st);
    MT_TRY_GOTO(st, schedule_expand(&before.schedule, run->model.config.num_hidden_layers), done);
    MT_TRY_GOTO(st, job_compare(&before, &run->job, changes), done);
    for (int32_t i = 0; i < changes->count; i++)
        MT_TRY_GOTO(st, judge_change(&changes->change[i], accept), done);
done:
    job_release(&before);
    return st;
}

/* A longer or shorter run: the phase under way ends elsewhere. */
static void replan(struct run *run, const struct job_changes *changes)
{
    for (int32_t i = 0; i < changes->count; i++)
        if (changes->change[i].change == OPTION_TRAJECTORY) {
            phase_machine_replan(&run->machine, &run->job.schedule, &run->length);
            return;
        }
}

/* changes: NULL = the job is known to be the same. */
static mt_status read_checkpoint(struct run *run, const char *path, bool accept,
                                 struct job_changes *changes)
{
    struct checkpoint_reader *r = NULL;
    struct json_doc *doc = NULL;
    char *state = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY(checkpoint_open(&r, path, false));
    if (changes != NULL)
        MT_TRY_GOTO(st, check_job(run, r, accept, changes), done);
    if (checkpoint_table_hash(r) != tensor_table_hash(&run->model.table)) {
        st = MT_FAIL(MT_CONFIG,
                     "%s holds other tensors than this job's model (sizes, pooler or tasks "
                     "differ); take a fresh run_dir",
                     path);
        goto done;
    }
    MT_TRY_GOTO(st, checkpoint_read_text(r, "state.json", &state, &bytes), done);
    MT_TRY_GOTO(st, json_doc_parse(&doc, state, bytes, path), done);
    MT_TRY_GOTO(st, run_state_read(run, json_doc_root(doc)), done);
    MT_TRY_GOTO(st,
                checkpoint_read_block(r, CHECKPOINT_PARAMS, &run->model.table, run->params, NULL),
                done);
    for (int32_t i = 0; i < run->model.table.count; i++) {
        const struct tensor *e = &run->model.table.entry[i];
        if (!checkpoint_has(r, CHECKPOINT_ADAM_M, i)) {
            mt_discard(run->adam_m, e->offset, e->count, sizeof(float));
            mt_discard(run->adam_v, e->offset, e->count, sizeof(float));
            continue;
        }
        MT_TRY_GOTO(st, checkpoint_read_tensor(r, CHECKPOINT_ADAM_M, i, run->adam_m + e->offset),
                    done);
        MT_TRY_GOTO(st, checkpoint_read_tensor(r, CHECKPOINT_ADAM_V, i, run->adam_v + e->offset),
                    done);
    }
done:
    json_doc_destroy(&doc);
    mt_free(&state);
    checkpoint_close(&r);
    return st;
}

/* Rank 0 goes on writing metrics.jsonl behind the present step. */
static mt_status open_events(struct run *run)
{
    char *path = NULL;
    jsonl_close(&run->events);
    MT_TRY(file_path_join(&path, run->job.run_dir, "metrics.jsonl"));
    mt_status st = jsonl_truncate_after(path, run->machine.step, NULL);
    if (st == MT_OK)
        st = jsonl_open(&run->events, path);
    mt_free(&path);
    return st;
}

static void tell_changes(struct run *run, const struct job_changes *changes)
{
    static const char *const classes[] = {[OPTION_HARMLESS] = "harmless",
                                          [OPTION_TRAJECTORY] = "trajectory",
                                          [OPTION_INCOMPATIBLE] = "incompatible"};
    for (int32_t i = 0; i < changes->count; i++) {
        const struct job_change *c = &changes->change[i];
        event_change(run, c->key, c->before, c->after, classes[c->change]);
    }
}

/* Root.  A run that begins at a named checkpoint has no later ones, and no best one it cannot find.
 */
static mt_status begin_at(struct run *run, const char *path)
{
    char own[CHECKPOINT_PATH_BYTES];
    int64_t *steps = NULL;
    int32_t count = 0, later = 0;
    MT_TRY(checkpoint_list(run->job.run_dir, &steps, &count));
    for (int32_t i = 0; i < count; i++)
        later += steps[i] > run->machine.step;
    mt_free(&steps);
    MT_TRY(checkpoint_path(own, run->job.run_dir, run->machine.step));
    if (count > 0 && !file_same(own, path))
        return MT_FAIL(
            MT_CONFIG,
            "--resume %s: run_dir %s holds checkpoints of a run of its own; name a fresh "
            "run_dir (--set run_dir=...)",
            path, run->job.run_dir);
    if (later > 0)
        log_warning("%d later checkpoints of %s are dropped", later, run->job.run_dir);
    return checkpoint_drop_after(run->job.run_dir, run->machine.step);
}

/* Forgets a best checkpoint that is not in this run_dir. */
static mt_status check_best(struct run *run)
{
    char path[CHECKPOINT_PATH_BYTES];
    if (!run->best.known)
        return MT_OK;
    MT_TRY(checkpoint_path(path, run->job.run_dir, run->best.step));
    run->best.known = file_is_dir(path);
    return MT_OK;
}

static mt_status take_up(struct run *run, const char *path, bool named, bool accept,
                         struct job_changes *changes)
{
    MT_ALL(run->world, read_checkpoint(run, path, accept, changes));
    if (named)
        MT_ALL(run->world, run->world->rank == 0 ? begin_at(run, path) : MT_OK);
    MT_ALL(run->world, check_best(run));
    replan(run, changes);
    MT_TRY(products_take_up(run->world, &run->job.model, &run->model, &run->products_before));
    run->resumed_step = run->last_saved_step = run->machine.step;
    run->best_saved = run->best;
    log_info("resumed from %s", path);
    return MT_OK;
}

mt_status resume_run(struct run *run, const struct run_options *options)
{
    char path[CHECKPOINT_PATH_BYTES] = "";
    const char *resume = options->resume != NULL ? options->resume : "auto";
    struct job_changes changes = {0};
    mt_status st = run->world->rank == 0 ? choose_checkpoint(run, resume, path) : MT_OK;
    MT_TRY(comm_agree(run->world, st));
    MT_TRY(comm_broadcast(run->world, path, sizeof path, 0));
    if (path[0] != '\0')
        MT_TRY_GOTO(st,
                    take_up(run, path, strcmp(resume, "auto") != 0,
                            options->accept_changes || run->job.accept_changes, &changes),
                    done);
    st = strcmp(resume, "never") == 0 && run->world->rank == 0 ? decisions_forget(run) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(run->world, st), done);
    MT_TRY_GOTO(st, decisions_honour(run), done);
    control_take_up_settings(run);
    st = run->world->rank == 0 ? open_events(run) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(run->world, st), done);
    tell_changes(run, &changes);
done:
    job_changes_release(&changes);
    return st;
}

/* What a state that is read over this one would leave standing. */
static void forget_state(struct run *run)
{
    memset(run->evals.known, 0, sizeof run->evals.known);
    run->eval_pending = run->save_due = run->save_best = false;
    run->skip_count = run->setting_count = 0;
}

mt_status resume_rollback(struct run *run)
{
    char path[CHECKPOINT_PATH_BYTES] = "";
    int64_t step = -1;
    mt_status st = run->world->rank == 0 ? checkpoint_find_newest_valid(run->job.run_dir, path,
                                                                        &step, tell_damage, NULL)
                                         : MT_OK;
    MT_TRY(comm_agree(run->world, st));
    MT_TRY(comm_broadcast(run->world, path, sizeof path, 0));
    if (path[0] == '\0')
        return MT_FAIL(MT_DATA, "%s holds no sound checkpoint to go back to; take a fresh run_dir",
                       run->job.run_dir);
    forget_state(run);
    MT_ALL(run->world, read_checkpoint(run, path, true, NULL));
    run->last_saved_step = run->machine.step;
    run->best_saved = run->best;
    MT_TRY(decisions_honour(run));
    control_take_up_settings(run);
    MT_ALL(run->world, run->world->rank == 0 ? open_events(run) : MT_OK);
    log_warning("back at step %lld (%s)", (long long)run->machine.step, path);
    return MT_OK;
}

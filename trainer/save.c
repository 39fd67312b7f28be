/*
 * See save.h.  Rank 0 writes; the other ranks meet it at the end, so a save that fails fails
 * everywhere.  All ranks read for themselves.
 */
#include "trainer/save.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "trainer/decisions.h"
#include "trainer/events.h"
#include "trainer/freeze_audit.h"
#include "trainer/update.h"

enum { STATE_VERSION = 1 };

/* state.json: written and read side by side. */

static void write_machine(struct json_writer *w, const struct run *run)
{
    int32_t phases = run->job.schedule.count;
    json_write_object(w, "machine");
    for (int32_t i = 0; i < phase_machine_field_count(phases); i++) {
        struct phase_field f;
        phase_machine_get(&run->machine, phases, i, &f);
        if (f.is_real)
            json_write_real(w, f.name, f.real);
        else
            json_write_int(w, f.name, f.integer);
    }
    json_write_end(w);
}

static mt_status read_machine(const struct json_node *root, struct run *run)
{
    int32_t phases = run->job.schedule.count;
    const struct json_node *node = json_node_get(root, "machine");
    for (int32_t i = 0; i < phase_machine_field_count(phases); i++) {
        struct phase_field f;
        phase_machine_get(&run->machine, phases, i, &f);
        if (f.is_real)
            MT_TRY(json_read_real(node, f.name, &f.real));
        else
            MT_TRY(json_read_int(node, f.name, INT64_MIN, INT64_MAX, &f.integer));
        if (!phase_machine_set(&run->machine, phases, &f))
            return MT_FAIL(MT_BUG, "phase machine refuses field %s", f.name);
    }
    return phase_machine_check(&run->machine, &run->job.schedule);
}

static void write_evals(struct json_writer *w, const struct run *run)
{
    json_write_array(w, "evals");
    for (int32_t s = 0; s < SPLIT_COUNT; s++) {
        for (int32_t t = 0; t < run->job.task_count; t++) {
            if (!run->evals.known[s][t])
                continue;
            json_write_object(w, NULL);
            json_write_int(w, "split", s);
            json_write_int(w, "task", t);
            json_write_reals(w, "values", run->evals.value[s][t], METRIC_KINDS);
            json_write_end(w);
        }
    }
    json_write_end(w);
}

static mt_status read_evals(const struct json_node *root, struct run *run)
{
    const struct json_node *list = json_node_get(root, "evals");
    for (int64_t i = 0; i < json_node_count(list); i++) {
        const struct json_node *one = json_node_at(list, i);
        int64_t s, t;
        MT_TRY(json_read_int(one, "split", 0, SPLIT_COUNT - 1, &s));
        MT_TRY(json_read_int(one, "task", 0, run->job.task_count - 1, &t));
        MT_TRY(json_read_reals(one, "values", run->evals.value[s][t], METRIC_KINDS));
        run->evals.known[s][t] = true;
    }
    return MT_OK;
}

static mt_status write_state(const struct run *run, struct json_writer *w, const char **text,
                             int64_t *bytes)
{
    json_write_object(w, NULL);
    json_write_int(w, "version", STATE_VERSION);
    json_write_int(w, "step", run->machine.step);
    json_write_int(w, "ranks", run->world->size);
    write_machine(w, run);
    json_write_int(w, "entered", run->entered);
    json_write_bool(w, "eval_pending", run->eval_pending);
    json_write_ints(w, "drawn", run->position.drawn, run->job.data_count);
    json_write_ints(w, "taken", run->position.taken, run->job.data_count);
    json_write_ints(w, "adam_steps", run->adam_steps, run->model.table.count);
    json_write_bool(w, "best_known", run->best.known);
    json_write_real(w, "best_value", run->best.value);
    json_write_int(w, "best_step", run->best.step);
    json_write_int(w, "skipped_steps", run->skipped_steps);
    json_write_int(w, "skipped_in_row", run->skipped_in_row);
    json_write_int(w, "frozen_checks", run->frozen_checks);
    json_write_hash(w, "data_hash", run->data_hash);
    json_write_array(w, "cache_use");
    for (int32_t p = 0; p < run->job.schedule.count; p++)
        json_write_int(w, NULL, run->cache_use[p]);
    json_write_end(w);
    write_evals(w, run);
    json_write_end(w);
    return json_writer_finish(w, text, bytes);
}

static mt_status read_cache_use(const struct json_node *root, struct run *run)
{
    int64_t use[SCHEDULE_PHASES];
    MT_TRY(json_read_ints(root, "cache_use", use, run->job.schedule.count));
    for (int32_t p = 0; p < run->job.schedule.count; p++)
        run->cache_use[p] = use[p] == CACHE_USED     ? CACHE_USED
                            : use[p] == CACHE_UNUSED ? CACHE_UNUSED
                                                     : CACHE_UNDECIDED;
    return MT_OK;
}

static mt_status check_data(const struct json_node *root, const struct run *run)
{
    uint64_t before;
    MT_TRY(json_read_hash(root, "data_hash", &before));
    if (before != run->data_hash)
        return MT_FAIL(MT_CONFIG,
                       "the training data are not those of the run that is resumed (another file "
                       "content, order or label set); put them back, or take a fresh run_dir");
    return MT_OK;
}

static mt_status read_state(struct run *run, const struct json_node *root)
{
    int64_t version, entered, in_row;
    MT_TRY(json_read_int(root, "version", STATE_VERSION, STATE_VERSION, &version));
    MT_TRY(read_machine(root, run));
    MT_TRY(json_read_int(root, "entered", -1, run->job.schedule.count, &entered));
    run->entered = (int32_t)entered;
    MT_TRY(json_read_bool(root, "eval_pending", &run->eval_pending));
    MT_TRY(json_read_ints(root, "drawn", run->position.drawn, run->job.data_count));
    MT_TRY(json_read_ints(root, "taken", run->position.taken, run->job.data_count));
    MT_TRY(json_read_ints(root, "adam_steps", run->adam_steps, run->model.table.count));
    MT_TRY(json_read_bool(root, "best_known", &run->best.known));
    MT_TRY(json_read_real(root, "best_value", &run->best.value));
    MT_TRY(json_read_int(root, "best_step", 0, INT64_MAX, &run->best.step));
    MT_TRY(json_read_int(root, "skipped_steps", 0, INT64_MAX, &run->skipped_steps));
    MT_TRY(json_read_int(root, "skipped_in_row", 0, INT32_MAX, &in_row));
    run->skipped_in_row = (int32_t)in_row;
    MT_TRY(json_read_int(root, "frozen_checks", 0, INT64_MAX, &run->frozen_checks));
    MT_TRY(read_cache_use(root, run));
    MT_TRY(check_data(root, run));
    return read_evals(root, run);
}

/* Writing. */

static mt_status add_description(void *context, const char *name, const char *bytes, int64_t count)
{
    return checkpoint_add_text(context, name, bytes, count);
}

/* state.json, job.cfg, and what describes the model without the run around it. */
static mt_status add_texts(const struct run *run, struct checkpoint_writer *w)
{
    struct json_writer json = {0};
    const char *state;
    char *job = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY_GOTO(st, write_state(run, &json, &state, &bytes), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", state, bytes), done);
    MT_TRY_GOTO(st, job_print(&run->job, &job), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "job.cfg", job, (int64_t)strlen(job)), done);
    st = model_folder_each_text(&run->about, add_description, w);
done:
    json_writer_release(&json);
    mt_free(&job);
    return st;
}

/* Which arrays a checkpoint holds: all parameters, and the moments of tensors that were updated. */
static mt_status choose_groups(const struct run *run, uint8_t **out)
{
    MT_TRY(mt_alloc(out, run->model.table.count, 1, "checkpoint groups"));
    for (int32_t i = 0; i < run->model.table.count; i++)
        (*out)[i] = run->adam_steps[i] > 0
                        ? CHECKPOINT_BIT(CHECKPOINT_PARAMS) | CHECKPOINT_BIT(CHECKPOINT_ADAM_M) |
                              CHECKPOINT_BIT(CHECKPOINT_ADAM_V)
                        : CHECKPOINT_BIT(CHECKPOINT_PARAMS);
    return MT_OK;
}

/* The frozen tensors of the phase go to a shared file once; later saves only refer to it. */
static mt_status share_frozen(struct run *run)
{
    uint8_t *frozen = NULL;
    if (run->phase.plan == NULL || run->phase.base_known || run->phase.plan->frozen_tensors == 0)
        return MT_OK;
    MT_TRY(mt_alloc(&frozen, run->model.table.count, 1, "frozen tensors"));
    for (int32_t i = 0; i < run->model.table.count; i++)
        frozen[i] = !run->phase.plan->trainable[i];
    mt_status st = checkpoint_base_write(&run->phase.base, run->job.run_dir, &run->model.table,
                                         frozen, run->params);
    run->phase.base_known = st == MT_OK;
    mt_free(&frozen);
    return st;
}

static mt_status set_links(struct run *run, int64_t step)
{
    int64_t pinned[1] = {run->best.step};
    MT_TRY(checkpoint_set_link(run->job.run_dir, "latest", step));
    if (run->save_best)
        MT_TRY(checkpoint_set_link(run->job.run_dir, "best", step));
    return checkpoint_retain(run->job.run_dir, (int32_t)run->job.train.keep_last, pinned,
                             run->best.known ? 1 : 0);
}

static mt_status write_checkpoint(struct run *run, int64_t *size_bytes)
{
    struct checkpoint_writer *w = NULL;
    struct checkpoint_reader *r = NULL;
    char path[CHECKPOINT_PATH_BYTES];
    uint8_t *groups = NULL;
    int64_t step = run->machine.step;
    mt_status st;
    MT_TRY_GOTO(st, share_frozen(run), done);
    MT_TRY_GOTO(st, choose_groups(run, &groups), done);
    MT_TRY_GOTO(st,
                checkpoint_begin(&w, run->job.run_dir, step, &run->model.table, groups,
                                 run->phase.base_known ? &run->phase.base : NULL),
                done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_PARAMS, run->params), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_M, run->adam_m), done);
    MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_ADAM_V, run->adam_v), done);
    MT_TRY_GOTO(st, add_texts(run, w), done);
    MT_TRY_GOTO(st, checkpoint_commit(w), done);
    MT_TRY_GOTO(st, set_links(run, step), done);
    MT_TRY_GOTO(st, checkpoint_path(path, run->job.run_dir, step), done);
    MT_TRY_GOTO(st, checkpoint_open(&r, path, false), done);
    *size_bytes = checkpoint_bytes(r);
done:
    checkpoint_close(&r);
    checkpoint_discard(&w);
    mt_free(&groups);
    return st;
}

mt_status save_checkpoint(struct run *run)
{
    double begin_s = clock_now_s();
    int64_t size_bytes = 0;
    bool best = run->save_best;
    if (run->last_saved_step == run->machine.step && !best) {
        run->save_due = false;
        return MT_OK;
    }
    if (run->phase.plan != NULL)
        MT_TRY(freeze_audit_verify(run));
    MT_TRY(update_gather_moments(run));
    mt_status st = run->world->rank == 0 ? write_checkpoint(run, &size_bytes) : MT_OK;
    update_drop_foreign_moments(run);
    st = comm_agree(run->world, st);
    run->save_due = run->save_best = false;
    run->last_save_s = clock_now_s();
    if (st != MT_OK && st != MT_BUG && run->job.train.save_failure == JOB_SAVE_WARN) {
        event_warning(run, "checkpoint at step %lld NOT saved: %s", (long long)run->machine.step,
                      mt_error_peek()->message);
        mt_error_clear();
        return MT_OK;
    }
    MT_TRY(st);
    run->last_saved_step = run->machine.step;
    double cost = clock_now_s() - begin_s;
    if (cost > run->save_cost_s)
        run->save_cost_s = cost;
    event_checkpoint(run, run->machine.step, cost, size_bytes, best);
    log_detail("checkpoint at step %lld: %.1f MB in %.2f s", (long long)run->machine.step,
               1e-6 * (double)size_bytes, cost);
    return MT_OK;
}

/* Reading. */

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

/* Whether the run that wrote the checkpoint may be continued under this job file. */
static mt_status check_job(struct run *run, const struct checkpoint_reader *r, bool accept)
{
    char *text = NULL;
    struct job before;
    struct job_changes changes = {0};
    int64_t bytes;
    MT_TRY(checkpoint_read_text(r, "job.cfg", &text, &bytes));
    mt_status st = job_load(&before, text, NULL, 0);
    mt_free(&text);
    MT_TRY(st);
    MT_TRY_GOTO(st, schedule_expand(&before.schedule, run->model.config.num_hidden_layers), done);
    MT_TRY_GOTO(st, job_compare(&before, &run->job, &changes), done);
    for (int32_t i = 0; i < changes.count; i++) {
        const struct job_change *c = &changes.change[i];
        if (c->change == OPTION_INCOMPATIBLE) {
            st = MT_FAIL(MT_CONFIG,
                         "%s was %s in the run that is resumed and is %s now; that cannot change "
                         "within a run: take a fresh run_dir",
                         c->key, c->before, c->after);
            goto done;
        }
        if (c->change == OPTION_TRAJECTORY && !accept) {
            st = MT_FAIL(MT_CONFIG,
                         "%s was %s in the run that is resumed and is %s now; that changes the "
                         "result: start with --accept-changes, or take a fresh run_dir",
                         c->key, c->before, c->after);
            goto done;
        }
        if (run->world->rank == 0)
            log_warning("resumed with %s = %s (was %s)", c->key, c->after, c->before);
    }
done:
    job_changes_release(&changes);
    job_release(&before);
    return st;
}

static mt_status read_checkpoint(struct run *run, const char *path, bool accept)
{
    struct checkpoint_reader *r = NULL;
    struct json_doc *doc = NULL;
    char *state = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY(checkpoint_open(&r, path, false));
    MT_TRY_GOTO(st, check_job(run, r, accept), done);
    if (checkpoint_table_hash(r) != tensor_table_hash(&run->model.table)) {
        st = MT_FAIL(MT_CONFIG,
                     "%s holds other tensors than this job's model (sizes, pooler or tasks "
                     "differ); take a fresh run_dir",
                     path);
        goto done;
    }
    MT_TRY_GOTO(st, checkpoint_read_text(r, "state.json", &state, &bytes), done);
    MT_TRY_GOTO(st, json_doc_parse(&doc, state, bytes, path), done);
    MT_TRY_GOTO(st, read_state(run, json_doc_root(doc)), done);
    MT_TRY_GOTO(st,
                checkpoint_read_block(r, CHECKPOINT_PARAMS, &run->model.table, run->params, NULL),
                done);
    for (int32_t i = 0; i < run->model.table.count; i++) {
        const struct tensor *e = &run->model.table.entry[i];
        if (!checkpoint_has(r, CHECKPOINT_ADAM_M, i))
            continue;
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

static mt_status open_events(struct run *run)
{
    char *path = NULL;
    MT_TRY(file_path_join(&path, run->job.run_dir, "metrics.jsonl"));
    mt_status st = jsonl_truncate_after(path, run->machine.step, NULL);
    if (st == MT_OK)
        st = jsonl_open(&run->events, path);
    mt_free(&path);
    return st;
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

mt_status save_resume(struct run *run, const struct run_options *options)
{
    char path[CHECKPOINT_PATH_BYTES] = "";
    const char *resume = options->resume != NULL ? options->resume : "auto";
    mt_status st = run->world->rank == 0 ? choose_checkpoint(run, resume, path) : MT_OK;
    MT_TRY(comm_agree(run->world, st));
    MT_TRY(comm_broadcast(run->world, path, sizeof path, 0));
    if (path[0] != '\0') {
        MT_ALL(run->world,
               read_checkpoint(run, path, options->accept_changes || run->job.accept_changes));
        if (strcmp(resume, "auto") != 0)
            MT_ALL(run->world, run->world->rank == 0 ? begin_at(run, path) : MT_OK);
        MT_ALL(run->world, check_best(run));
        run->resumed_step = run->last_saved_step = run->machine.step;
        log_info("resumed from %s", path);
    }
    if (strcmp(resume, "never") == 0)
        MT_ALL(run->world, run->world->rank == 0 ? decisions_forget(run) : MT_OK);
    MT_TRY(decisions_honour(run));
    MT_ALL(run->world, run->world->rank == 0 ? open_events(run) : MT_OK);
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
    MT_ALL(run->world, run->world->rank == 0 ? export_here(run) : MT_OK);
    return MT_OK;
}

/*
 * See saver.h.  The copy is made by the rank's pool, so training stands still for a memcpy at the
 * speed of memory; its blocks have the full layout and are mapped, so frozen tensors cost nothing.
 *
 * Refused: fork (unsafe below MPI's memory registration) and copying piece by piece while training
 * goes on (the next update would have to wait for its piece).
 */
#include "trainer/saver.h"

#include <string.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "trainer/run.h"
#include "trainer/run_state.h"
#include "trainer/trace.h"
#include "trainer/watchdog.h"

/* Which arrays a checkpoint holds: all parameters, and the moments of tensors that were updated. */
static void choose_groups(struct saver *s, const struct run *run)
{
    const uint8_t moments = CHECKPOINT_BIT(CHECKPOINT_ADAM_M) | CHECKPOINT_BIT(CHECKPOINT_ADAM_V);
    for (int32_t i = 0; i < run->model.table.count; i++)
        s->groups[i] = CHECKPOINT_BIT(CHECKPOINT_PARAMS) | (run->adam_steps[i] > 0 ? moments : 0);
}

static void choose_pinned(struct saver *s, const struct run *run)
{
    s->pinned_count = 0;
    if (run->best.known)
        s->pinned[s->pinned_count++] = run->best.step;
    for (int32_t p = 0; run->job.train.keep_phase_ends && p < run->job.schedule.count; p++)
        if (p < run->machine.phase && s->pinned_count < SAVER_PINNED_MAX)
            s->pinned[s->pinned_count++] = run->machine.ended_step[p];
}

static mt_status take_texts(struct saver *s, const struct run *run)
{
    struct json_writer json = {0};
    const char *state;
    mt_status st;
    MT_TRY_GOTO(st, run_state_write(run, &json, &state, &s->state_bytes), done);
    MT_TRY_GOTO(st, mt_strdup(&s->state, state), done);
    st = job_print(&run->job, &s->job);
done:
    json_writer_release(&json);
    return st;
}

static mt_status copy_piece(void *context, int32_t index, int32_t worker)
{
    const struct saver *s = context;
    const struct run *run = s->run;
    const struct update_piece *piece = &run->phase.piece[index];
    const float *from[CHECKPOINT_GROUPS] = {run->params, run->adam_m, run->adam_v};
    (void)worker;
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        if (s->groups[piece->tensor] & CHECKPOINT_BIT(g))
            memcpy(s->copy[g] + piece->begin, from[g] + piece->begin,
                   (size_t)(piece->end - piece->begin) * sizeof(float));
    return MT_OK;
}

/* Blocks for the copy; without memory for them every save happens in the foreground. */
static void make_blocks(struct saver *s, const struct run *run)
{
    for (int g = 0; g < CHECKPOINT_GROUPS && !s->cannot_copy; g++) {
        if (s->copy[g] != NULL || mt_alloc(&s->copy[g], run->model.table.total, sizeof(float),
                                           "a copy to save from") == MT_OK)
            continue;
        log_warning("training stands still while checkpoints are written: %s",
                    mt_error_peek()->message);
        mt_error_clear();
        s->cannot_copy = true;
    }
    for (int g = 0; g < CHECKPOINT_GROUPS && s->cannot_copy; g++)
        mt_free(&s->copy[g]);
}

static mt_status add_description(void *context, const char *name, const char *bytes, int64_t count)
{
    return checkpoint_add_text(context, name, bytes, count);
}

/* The frozen tensors of the phase go to a shared file once; later saves only refer to it. */
static mt_status share_frozen(struct saver *s)
{
    const struct run *run = s->run;
    uint8_t *frozen = NULL;
    if (s->base == NULL || *s->base_known)
        return MT_OK;
    MT_TRY(mt_alloc(&frozen, run->model.table.count, 1, "frozen tensors"));
    for (int32_t i = 0; i < run->model.table.count; i++)
        frozen[i] = !run->phase.plan->trainable[i];
    mt_status st =
        checkpoint_base_write(s->base, run->job.run_dir, &run->model.table, frozen, run->params);
    *s->base_known = st == MT_OK;
    mt_free(&frozen);
    return st;
}

static mt_status write_arrays(struct saver *s, struct checkpoint_writer *w)
{
    const struct run *run = s->run;
    const float *live[CHECKPOINT_GROUPS] = {run->params, run->adam_m, run->adam_v};
    for (int32_t i = 0; i < run->model.table.count; i++) {
        int64_t offset = run->model.table.entry[i].offset;
        bool copied = s->copied != NULL && s->copied[i];
        bool shared = s->base != NULL && s->base->offset[i] >= 0;
        for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
            if (!(s->groups[i] & CHECKPOINT_BIT(g)) || (g == CHECKPOINT_PARAMS && shared))
                continue;
            MT_TRY(checkpoint_add_tensor(w, (enum checkpoint_group)g, i,
                                         (copied ? s->copy[g] : live[g]) + offset));
            atomic_fetch_add(&s->arrays, 1);
        }
    }
    return MT_OK;
}

static mt_status set_links(const struct saver *s)
{
    const struct job *job = &s->run->job;
    MT_TRY(checkpoint_set_link(job->run_dir, "latest", s->step));
    if (s->best)
        MT_TRY(checkpoint_set_link(job->run_dir, "best", s->step));
    return checkpoint_retain(job->run_dir, (int32_t)job->train.keep_last, s->pinned,
                             s->pinned_count);
}

static mt_status write_checkpoint(struct saver *s)
{
    const struct run *run = s->run;
    const char *run_dir = run->job.run_dir;
    struct checkpoint_writer *w = NULL;
    struct checkpoint_reader *r = NULL;
    char path[CHECKPOINT_PATH_BYTES];
    mt_status st;
    MT_TRY_GOTO(st, share_frozen(s), done);
    MT_TRY_GOTO(st, checkpoint_begin(&w, run_dir, s->step, &run->model.table, s->groups, s->base),
                done);
    MT_TRY_GOTO(st, write_arrays(s, w), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", s->state, s->state_bytes), done);
    MT_TRY_GOTO(st, checkpoint_add_text(w, "job.cfg", s->job, (int64_t)strlen(s->job)), done);
    MT_TRY_GOTO(st, model_folder_each_text(&run->about, add_description, w), done);
    MT_TRY_GOTO(st, checkpoint_commit(w), done);
    atomic_fetch_add(&s->arrays, 1);
    MT_TRY_GOTO(st, set_links(s), done);
    MT_TRY_GOTO(st, checkpoint_path(path, run_dir, s->step), done);
    MT_TRY_GOTO(st, checkpoint_open(&r, path, false), done);
    s->size_bytes = checkpoint_bytes(r);
done:
    checkpoint_close(&r);
    checkpoint_discard(&w);
    return st;
}

static void *write_thread(void *context)
{
    struct saver *s = context;
    double begin_s = clock_now_s();
    s->status = write_checkpoint(s);
    trace_end(s->run->trace, TRACE_WRITE, TRACE_ROW_SAVER, 0, s->trace_s);
    if (s->status != MT_OK)
        mt_error_get(&s->error);
    s->write_s = clock_now_s() - begin_s;
    atomic_store(&s->written, true);
    return NULL;
}

mt_status saver_start(struct saver *s, struct run *run)
{
    const struct phase_plan *plan = run->phase.plan;
    bool beside = plan != NULL && run->phase.piece_count > 0;
    mt_free(&s->state);
    mt_free(&s->job);
    s->run = run;
    s->step = run->machine.step;
    s->copied = NULL;
    s->base = plan != NULL && plan->frozen_tensors > 0 ? &run->phase.base : NULL;
    s->base_known = &run->phase.base_known;
    s->frozen_tensors = plan != NULL ? plan->frozen_tensors : 0;
    s->size_bytes = 0;
    s->threaded = false;
    atomic_store(&s->written, false);
    s->trace_s = 0.0;
    if (s->groups == NULL)
        MT_TRY(mt_alloc(&s->groups, run->model.table.count, 1, "checkpoint groups"));
    choose_groups(s, run);
    choose_pinned(s, run);
    MT_TRY(take_texts(s, run));
    if (beside)
        make_blocks(s, run);
    beside = beside && !s->cannot_copy;
    if (beside) {
        MT_TRY(pool_run(run->pool, copy_piece, s, run->phase.piece_count));
        s->copied = plan->trainable;
        s->trace_s = trace_begin(run->trace);
        s->threaded = pthread_create(&s->thread, NULL, write_thread, s) == 0;
    }
    if (!s->threaded)
        (void)write_thread(s);
    return MT_OK;
}

bool saver_is_written(const struct saver *s)
{
    return atomic_load(&s->written);
}

mt_status saver_finish(struct saver *s)
{
    const double nap_s = 0.001;
    for (long long seen = -1; !saver_is_written(s); clock_sleep_s(nap_s)) {
        long long now = atomic_load(&s->arrays);
        if (now != seen)
            watchdog_beat(WATCHDOG_SAVE);
        seen = now;
    }
    if (s->threaded)
        (void)pthread_join(s->thread, NULL);
    s->threaded = false;
    return s->status == MT_OK ? MT_OK : mt_error_set(&s->error);
}

void saver_release(struct saver *s)
{
    if (s->threaded)
        (void)pthread_join(s->thread, NULL);
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        mt_free(&s->copy[g]);
    mt_free(&s->groups);
    mt_free(&s->state);
    mt_free(&s->job);
    memset(s, 0, sizeof *s);
}

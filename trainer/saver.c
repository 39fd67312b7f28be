/*
 * See saver.h.  The copy is made by the rank's pool, so training stands still for a memcpy at the
 * speed of memory.  Rank 0's blocks have the full layout and are mapped, so frozen tensors cost
 * nothing; what a rank copies of shared out moments lies piece behind piece.
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

/* Which arrays a checkpoint holds: all parameters, and the moments of tensors that were updated.
 * In parts come those that the phase goes on updating; frozen ones' are whole on every rank. */
static void choose_groups(struct saver *s)
{
    const struct run *run = s->run;
    const uint8_t here = CHECKPOINT_BIT(CHECKPOINT_ADAM_M) | CHECKPOINT_BIT(CHECKPOINT_ADAM_V);
    const uint8_t parts =
        CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_M) | CHECKPOINT_PART_BIT(CHECKPOINT_ADAM_V);
    for (int32_t i = 0; i < run->model.table.count; i++) {
        uint8_t moments = s->parts && run->phase.plan->trainable[i] ? parts : here;
        s->groups[i] = CHECKPOINT_BIT(CHECKPOINT_PARAMS) | (run->adam_steps[i] > 0 ? moments : 0);
    }
}

/* The pieces that this rank owns of the arrays that come in parts, and their places in a copy. */
static mt_status choose_pieces(struct saver *s)
{
    const struct run *run = s->run;
    s->part.number = run->world->rank;
    s->moments_count = 0;
    mt_free(&s->moments_at);
    for (int g = CHECKPOINT_ADAM_M; s->parts && g < CHECKPOINT_GROUPS; g++)
        for (int32_t i = 0; i < run->model.table.count; i++) {
            const struct tensor *t = &run->model.table.entry[i];
            struct range own;
            if (!(s->groups[i] & CHECKPOINT_PART_BIT(g)))
                continue;
            for (struct range_walk w =
                     range_walk_over(&run->phase.owned, t->offset, t->offset + t->count);
                 range_walk_next(&w, &own);)
                MT_TRY(checkpoint_part_add(&s->part, (enum checkpoint_group)g, i,
                                           own.begin - t->offset, own.end - t->offset));
        }
    MT_TRY(mt_alloc(&s->moments_at, s->part.count, sizeof *s->moments_at, "places of moments"));
    for (int64_t i = 0; i < s->part.count; i++) {
        s->moments_at[i] = s->moments_count;
        s->moments_count += s->part.piece[i].end - s->part.piece[i].begin;
    }
    return MT_OK;
}

/* Where the numbers of piece i of this rank are trained. */
static const float *live_piece(const struct saver *s, int64_t i)
{
    const struct checkpoint_piece *p = &s->part.piece[i];
    const float *block = p->group == CHECKPOINT_ADAM_M ? s->run->adam_m : s->run->adam_v;
    return block + s->run->model.table.entry[p->tensor].offset + p->begin;
}

static void choose_pinned(struct saver *s)
{
    const struct run *run = s->run;
    s->pinned_count = 0;
    if (run->best.known)
        s->pinned[s->pinned_count++] = run->best.step;
    for (int32_t p = 0; run->job.train.keep_phase_ends && p < run->job.schedule.count; p++)
        if (p < run->machine.phase && s->pinned_count < SAVER_PINNED_MAX)
            s->pinned[s->pinned_count++] = run->machine.ended_step[p];
}

static mt_status take_texts(struct saver *s)
{
    const struct run *run = s->run;
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

/* Indices go over the pieces of the part, then, on rank 0, over the phase's. */
static mt_status copy_piece(void *context, int32_t index, int32_t worker)
{
    const struct saver *s = context;
    const struct run *run = s->run;
    (void)worker;
    if (index < s->part.count) {
        const struct checkpoint_piece *own = &s->part.piece[index];
        memcpy(s->moments + s->moments_at[index], live_piece(s, index),
               (size_t)(own->end - own->begin) * sizeof(float));
        return MT_OK;
    }
    const struct update_piece *piece = &run->phase.piece[index - s->part.count];
    const float *from[CHECKPOINT_GROUPS] = {run->params, run->adam_m, run->adam_v};
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        if (s->groups[piece->tensor] & CHECKPOINT_BIT(g))
            memcpy(s->copy[g] + piece->begin, from[g] + piece->begin,
                   (size_t)(piece->end - piece->begin) * sizeof(float));
    return MT_OK;
}

/* Rank 0's copy has the full layout.  Owned moments lie behind each other, since a full layout of
 * which every other megabyte is touched would take whole huge pages. */
static mt_status try_blocks(struct saver *s)
{
    static const char what[] = "a copy to save from";
    int groups = s->run->world->rank != 0 ? 0 : s->parts ? 1 : CHECKPOINT_GROUPS;
    for (int g = 0; g < groups; g++)
        if (s->copy[g] == NULL)
            MT_TRY(mt_alloc(&s->copy[g], s->run->model.table.total, sizeof(float), what));
    if (s->moments_capacity >= s->moments_count)
        return MT_OK;
    mt_free(&s->moments);
    s->moments_capacity = 0;
    MT_TRY(mt_alloc(&s->moments, s->moments_count, sizeof(float), what));
    s->moments_capacity = s->moments_count;
    return MT_OK;
}

static void free_blocks(struct saver *s)
{
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        mt_free(&s->copy[g]);
    mt_free(&s->moments);
    s->moments_capacity = 0;
}

/* Blocks for the copy; without memory for them every save happens in the foreground. */
static void make_blocks(struct saver *s)
{
    if (s->cannot_copy || try_blocks(s) == MT_OK)
        return;
    log_warning("training stands still while checkpoints are written: %s",
                mt_error_peek()->message);
    mt_error_clear();
    s->cannot_copy = true;
    free_blocks(s);
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

static mt_status write_arrays(struct saver *s)
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
            MT_TRY(checkpoint_add_tensor(s->writer, (enum checkpoint_group)g, i,
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

/* The pieces of this rank, where it has any. */
static mt_status write_part(struct saver *s)
{
    const struct run *run = s->run;
    struct checkpoint_part *p = &s->part;
    if (p->count == 0)
        return MT_OK;
    MT_TRY(checkpoint_part_begin(p, run->job.run_dir, s->step, &run->model.table));
    for (int64_t i = 0; i < p->count; i++) {
        const float *from = s->copied != NULL ? s->moments + s->moments_at[i] : live_piece(s, i);
        MT_TRY(checkpoint_part_write(p, i, from));
        atomic_fetch_add(&s->arrays, 1);
    }
    MT_TRY(checkpoint_part_finish(p));
    atomic_fetch_add(&s->arrays, 1);
    return MT_OK;
}

/* All of rank 0's but the commit. */
static mt_status write_whole(struct saver *s)
{
    const struct run *run = s->run;
    MT_TRY(share_frozen(s));
    if (s->writer == NULL)
        MT_TRY(checkpoint_create(&s->writer, run->job.run_dir, s->step, &run->model.table));
    MT_TRY(checkpoint_lay_out(s->writer, s->groups, s->base));
    MT_TRY(write_arrays(s));
    MT_TRY(checkpoint_add_text(s->writer, "state.json", s->state, s->state_bytes));
    MT_TRY(checkpoint_add_text(s->writer, "job.cfg", s->job, (int64_t)strlen(s->job)));
    MT_TRY(model_folder_each_text(&run->about, add_description, s->writer));
    return checkpoint_flush(s->writer);
}

static mt_status commit(struct saver *s)
{
    const char *run_dir = s->run->job.run_dir;
    struct checkpoint_reader *r = NULL;
    char path[CHECKPOINT_PATH_BYTES];
    MT_TRY(checkpoint_commit(s->writer));
    atomic_fetch_add(&s->arrays, 1);
    MT_TRY(set_links(s));
    MT_TRY(checkpoint_path(path, run_dir, s->step));
    MT_TRY(checkpoint_open(&r, path, false));
    s->size_bytes = checkpoint_bytes(r);
    checkpoint_close(&r);
    return MT_OK;
}

static mt_status write_all(struct saver *s)
{
    if (s->sealing)
        return commit(s);
    if (s->run->world->rank == 0)
        MT_TRY(write_whole(s));
    return s->parts ? write_part(s) : commit(s);
}

static void *write_thread(void *context)
{
    struct saver *s = context;
    double begin_s = clock_now_s();
    s->status = write_all(s);
    trace_end(s->run->trace, TRACE_WRITE, TRACE_ROW_SAVER, 0, s->trace_s);
    if (s->status != MT_OK)
        mt_error_get(&s->error);
    if (s->status != MT_OK || !s->parts || s->sealing)
        checkpoint_discard(&s->writer); /* what a commit replaced is taken apart here */
    s->write_s += clock_now_s() - begin_s;
    atomic_store(&s->written, true);
    return NULL;
}

static void launch(struct saver *s, bool beside)
{
    atomic_store(&s->written, false);
    s->trace_s = beside ? trace_begin(s->run->trace) : 0.0;
    s->threaded = beside && pthread_create(&s->thread, NULL, write_thread, s) == 0;
    if (!s->threaded)
        (void)write_thread(s);
}

mt_status saver_open(struct saver *s, struct run *run)
{
    const struct phase_plan *plan = run->phase.plan;
    bool root = run->world->rank == 0;
    mt_free(&s->state);
    mt_free(&s->job);
    s->run = run;
    s->step = run->machine.step;
    s->copied = NULL;
    s->sealing = false;
    s->size_bytes = 0;
    s->threaded = false;
    s->write_s = s->trace_s = 0.0;
    s->status = MT_OK;
    atomic_store(&s->written, true);
    if (!root && !s->parts)
        return MT_OK;
    if (s->groups == NULL)
        MT_TRY(mt_alloc(&s->groups, run->model.table.count, 1, "checkpoint groups"));
    choose_groups(s);
    MT_TRY(choose_pieces(s));
    if (!root)
        return MT_OK;
    s->base = plan != NULL && plan->frozen_tensors > 0 ? &run->phase.base : NULL;
    s->base_known = &run->phase.base_known;
    s->frozen_tensors = plan != NULL ? plan->frozen_tensors : 0;
    choose_pinned(s);
    MT_TRY(take_texts(s));
    return s->parts ? checkpoint_create(&s->writer, run->job.run_dir, s->step, &run->model.table)
                    : MT_OK;
}

void saver_start(struct saver *s)
{
    const struct run *run = s->run;
    const struct phase_plan *plan = run->phase.plan;
    bool beside = plan != NULL && run->phase.piece_count > 0;
    if (run->world->rank != 0 && s->part.count == 0)
        return;
    if (beside)
        make_blocks(s);
    beside = beside && !s->cannot_copy;
    if (beside) {
        int64_t pieces = s->part.count + (run->world->rank == 0 ? run->phase.piece_count : 0);
        s->status = pool_run(run->pool, copy_piece, s, (int32_t)pieces);
        if (s->status != MT_OK) {
            mt_error_get(&s->error);
            return;
        }
        s->copied = plan->trainable;
    }
    launch(s, beside);
}

void saver_seal(struct saver *s)
{
    launch(s, true);
}

void saver_close(struct saver *s)
{
    checkpoint_discard(&s->writer);
    checkpoint_part_release(&s->part);
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
    saver_close(s);
    free_blocks(s);
    mt_free(&s->moments_at);
    mt_free(&s->groups);
    mt_free(&s->state);
    mt_free(&s->job);
    memset(s, 0, sizeof *s);
}

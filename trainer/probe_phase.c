/*
 * See probe_phase.h.  The fit runs on rank 0 in double precision and is broadcast, so ranks cannot
 * differ.
 */
#include "trainer/probe_phase.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/embeddings.h"
#include "io/file.h"
#include "trainer/events.h"
#include "trainer/freeze_audit.h"
#include "trainer/row_blocks.h"
#include "trainer/watchdog.h"

/* The pooled vectors and labels of one split of one data set. */
struct features {
    float *x; /* [rows, H] */
    int64_t rows;
    int32_t *label[JOB_TASKS_MAX]; /* NULL = not a task of this set */
};

static void release(struct features *f)
{
    mt_free(&f->x);
    for (int32_t t = 0; t < JOB_TASKS_MAX; t++)
        mt_free(&f->label[t]);
}

/* What the heads see for the rows of a block: the cache's vectors, through the pooler if there is
 * one. */
static mt_status pool_block(const struct run *run, struct pass *pass, struct batch *batch,
                            enum split split, const struct row_block *block, real *boundary,
                            float *out)
{
    int32_t hidden = run->model.config.hidden_size;
    struct pass_plan plan = {.start = prefix_cache_depth(run->cache),
                             .train_from = run->model.config.num_hidden_layers + 2};
    MT_TRY(row_blocks_read(run->corpora.set[split][block->set], block, batch));
    prefix_cache_read(run->cache, split, batch, boundary);
    pass_forward(pass, run->params, batch, &plan, boundary);
    memcpy(out, pass_pooled(pass), (size_t)batch->B * (size_t)hidden * sizeof *out);
    return MT_OK;
}

static mt_status pool_rows(const struct run *run, enum split split, int32_t set, float *x)
{
    const struct dataset *d = run->corpora.set[split][set];
    int32_t tokens = row_blocks_max_tokens(d), hidden = run->model.config.hidden_size;
    struct row_block *block = NULL;
    struct batch batch = {0};
    struct pass *pass = NULL;
    real *boundary = NULL;
    int64_t count = row_blocks_cut(d, set, NULL);
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&block, count, sizeof *block, "blocks"), done);
    MT_TRY_GOTO(st, mt_alloc(&boundary, (int64_t)tokens * hidden, sizeof(real), "vectors"), done);
    MT_TRY_GOTO(st, batch_create(&batch, ROW_BLOCK_SENTENCES, tokens, run->model.task_count), done);
    MT_TRY_GOTO(st,
                pass_create(&pass, &run->model, tokens, ROW_BLOCK_SENTENCES,
                            run->model.config.num_hidden_layers + 2),
                done);
    (void)row_blocks_cut(d, set, block);
    for (int64_t b = 0; b < count; b++)
        MT_TRY_GOTO(st,
                    pool_block(run, pass, &batch, split, &block[b], boundary,
                               x + block[b].first_row * hidden),
                    done);
done:
    pass_destroy(&pass);
    batch_destroy(&batch);
    mt_free(&boundary);
    mt_free(&block);
    return st;
}

static mt_status gather_features(const struct run *run, enum split split, int32_t set,
                                 struct features *f)
{
    const struct dataset *d = run->corpora.set[split][set];
    memset(f, 0, sizeof *f);
    if (d == NULL)
        return MT_OK;
    f->rows = dataset_rows(d);
    MT_TRY(mt_alloc(&f->x, f->rows * run->model.config.hidden_size, sizeof(float), "embeddings"));
    MT_TRY(pool_rows(run, split, set, f->x));
    for (int32_t t = 0; t < run->job.task_count; t++) {
        int32_t column = run->corpora.column[split][set][t];
        if (column < 0)
            continue;
        MT_TRY(mt_alloc(&f->label[t], f->rows, sizeof(int32_t), "labels"));
        for (int64_t row = 0; row < f->rows; row++)
            f->label[t][row] = dataset_label(d, column, row);
    }
    return MT_OK;
}

static mt_status write_embeddings(const struct run *run, enum split split, int32_t set,
                                  const struct features *f)
{
    struct embeddings_task tasks[JOB_TASKS_MAX];
    struct embeddings_plan plan = {.rows = f->rows,
                                   .dim = run->model.config.hidden_size,
                                   .tasks = tasks,
                                   .model = run->job.model.init,
                                   .pooling = pooling_name(run->model.pooling)};
    struct embeddings_writer *w = NULL;
    char *dir = NULL, *path = NULL, name[160];
    mt_status st;
    if (f->rows == 0)
        return MT_OK;
    for (int32_t t = 0; t < run->job.task_count; t++)
        if (f->label[t] != NULL)
            tasks[plan.task_count++] = (struct embeddings_task){
                run->model.task[t].name, (const char *const *)run->corpora.labels[t].item,
                run->model.task[t].classes};
    (void)snprintf(name, sizeof name, "%.100s-%s.h5", run->job.data[set].name, split_name(split));
    MT_TRY_GOTO(st, file_path_join(&dir, run->job.run_dir, "embeddings"), done);
    MT_TRY_GOTO(st, file_make_dir(dir), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, name), done);
    MT_TRY_GOTO(st, embeddings_create(&w, path, &plan), done);
    MT_TRY_GOTO(st, embeddings_write_rows(w, 0, f->rows, f->x), done);
    for (int32_t t = 0, k = 0; t < run->job.task_count; t++)
        if (f->label[t] != NULL)
            MT_TRY_GOTO(st, embeddings_write_labels(w, k++, 0, f->rows, f->label[t]), done);
    st = embeddings_commit(w);
done:
    embeddings_discard(&w);
    mt_free(&dir);
    mt_free(&path);
    return st;
}

static bool should_stop(void *context)
{
    (void)context;
    watchdog_beat(WATCHDOG_PHASE);
    return stop_requested_local();
}

static mt_status fit_task(struct run *run, int32_t t, const struct features *train,
                          const struct features *dev)
{
    const struct tensor_table *table = &run->model.table;
    struct probe_data train_data = {train->x, train->label[t], train->rows};
    struct probe_data dev_data = {dev->x, dev->label[t], dev->rows};
    const struct real_list *weights = &run->job.tasks[t].class_weights;
    struct probe_options options = {.dim = run->model.config.hidden_size,
                                    .classes = run->model.task[t].classes,
                                    .class_weights = weights->count > 0 ? weights->item : NULL,
                                    .seed = (uint64_t)run->job.seed,
                                    .pool = run->pool,
                                    .should_stop = should_stop};
    struct probe_result r = {0};
    MT_TRY(probe_train(&r, &train_data, dev->label[t] != NULL ? &dev_data : NULL, &options));
    float *w = run->params + table->entry[run->model.head_w[t]].offset;
    float *b = run->params + table->entry[run->model.head_b[t]].offset;
    for (int64_t i = 0; i < (int64_t)r.classes * r.dim; i++)
        w[i] = (float)r.weight[i];
    for (int32_t k = 0; k < r.classes; k++)
        b[k] = (float)r.bias[k];
    event_probe(run, t, &r);
    probe_result_release(&r);
    return MT_OK;
}

/* Root.  All tasks of one data set. */
static mt_status fit_set(struct run *run, int32_t set)
{
    struct features train, dev;
    memset(&dev, 0, sizeof dev);
    mt_status st = gather_features(run, SPLIT_TRAIN, set, &train);
    if (st == MT_OK)
        st = gather_features(run, SPLIT_DEV, set, &dev);
    if (st == MT_OK)
        st = write_embeddings(run, SPLIT_TRAIN, set, &train);
    if (st == MT_OK)
        st = write_embeddings(run, SPLIT_DEV, set, &dev);
    for (int32_t t = 0; t < run->job.task_count && st == MT_OK; t++)
        if (train.label[t] != NULL && run->phase.plan->active[t])
            st = fit_task(run, t, &train, &dev);
    release(&train);
    release(&dev);
    return st;
}

mt_status probe_phase_run(struct run *run)
{
    const struct tensor_table *table = &run->model.table;
    mt_status st = MT_OK;
    for (int32_t set = 0; set < run->job.data_count && run->world->rank == 0 && st == MT_OK; set++)
        st = fit_set(run, set);
    MT_TRY(comm_agree(run->world, st));
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        if (e->task < 0)
            continue;
        MT_TRY(comm_broadcast(run->world, run->params + e->offset,
                              e->count * (int64_t)sizeof(float), 0));
        freeze_audit_adopt(run, i);
    }
    return MT_OK;
}

/* See source.h. */
#include "trainer/source.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"

static bool has_file(const char *folder, const char *name)
{
    char path[FOLDER_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path);
}

/* Follows a run directory to what it holds. */
static mt_status resolve(struct source *s, const char *path)
{
    static const char *const places[] = {"model", "checkpoints/best", "checkpoints/latest"};
    if (!file_exists(path))
        return MT_FAIL(MT_DATA, "%s does not exist; expected a model folder, run or checkpoint",
                       path);
    if (!file_is_dir(path))
        return MT_FAIL(MT_DATA, "%s is a file; expected the folder of a model, run or checkpoint",
                       path);
    if (strlen(path) + 32 >= sizeof s->folder)
        return MT_FAIL(MT_ARG, "path too long: %s", path);
    (void)snprintf(s->folder, sizeof s->folder, "%s", path);
    for (size_t i = 0; i < sizeof places / sizeof *places && !has_file(s->folder, "config.json");
         i++) {
        char place[FOLDER_PATH_BYTES];
        (void)snprintf(place, sizeof place, "%.4000s/%s", path, places[i]);
        if (has_file(place, "config.json"))
            (void)snprintf(s->folder, sizeof s->folder, "%s", place);
    }
    s->is_checkpoint = has_file(s->folder, "manifest.json") && has_file(s->folder, "state.h5");
    if (!has_file(s->folder, "config.json"))
        return MT_FAIL(MT_DATA,
                       "%s is neither a model folder (config.json), a run (model/ or "
                       "checkpoints/) nor a checkpoint (manifest.json)",
                       path);
    return MT_OK;
}

static mt_status open_here(struct source *s, const char *path)
{
    MT_TRY(resolve(s, path));
    MT_TRY(model_folder_describe(&s->about, s->folder));
    if (s->about.vocab_path[0] == '\0')
        return MT_FAIL(MT_DATA, "%s has no vocabulary (vocab.txt or tokenizer.json)", s->folder);
    return vocab_open(&s->vocab, s->folder, VOCAB_CASE_AUTO);
}

mt_status source_open(struct source *s, const struct comm *world, const char *path)
{
    memset(s, 0, sizeof *s);
    MT_ALL(world, open_here(s, path));
    return MT_OK;
}

void source_close(struct source *s)
{
    model_folder_release(&s->about);
    vocab_close(&s->vocab);
    memset(s, 0, sizeof *s);
}

static mt_status load_here(const struct source *s, const char *pooling, struct model *m,
                           float **params)
{
    struct model_task tasks[FOLDER_TASKS_MAX];
    struct folder_report report;
    enum pooling mode;
    const char *name = pooling != NULL ? pooling : s->about.pooling;
    if (!pooling_parse(&mode, name))
        return MT_FAIL(MT_ARG,
                       "pooling \"%s\" is not known; use mean, cls, max, mean_sqrt, weightedmean "
                       "or pooler",
                       name);
    if (mode == POOL_POOLER && !s->about.has_pooler)
        return MT_FAIL(MT_DATA, "%s has no pooler; use --pooling mean or cls", s->folder);
    for (int32_t t = 0; t < s->about.task_count; t++) {
        (void)snprintf(tasks[t].name, sizeof tasks[t].name, "%s", s->about.tasks[t].name);
        tasks[t].classes = s->about.tasks[t].label_count;
    }
    MT_TRY(model_init(m, &s->about.config, mode, s->about.has_pooler, tasks, s->about.task_count));
    MT_TRY(mt_alloc(params, m->table.total, sizeof **params, "parameters"));
    return source_read(s, &m->table, *params, &report);
}

mt_status source_load(const struct source *s, const struct comm *world, const char *pooling,
                      struct model *m, float **params)
{
    memset(m, 0, sizeof *m);
    *params = NULL;
    MT_ALL(world, load_here(s, pooling, m, params));
    return MT_OK;
}

/* Fills by name what both tables have; what a checkpoint lacks stays as it is. */
static mt_status read_checkpoint(const struct source *s, const struct tensor_table *table,
                                 float *params, struct folder_report *report)
{
    struct checkpoint_reader *r = NULL;
    mt_status st;
    MT_TRY(checkpoint_open(&r, s->folder, false));
    const struct tensor_table *theirs = checkpoint_table(r);
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        int32_t k = tensor_table_find(theirs, e->name);
        if (k < 0) {
            report->heads_missing += e->task >= 0;
            continue;
        }
        const struct tensor *other = &theirs->entry[k];
        if (other->shape[0] != e->shape[0] || other->shape[1] != e->shape[1]) {
            st = MT_FAIL(MT_DATA, "%s: %s has shape [%lld, %lld], the job needs [%lld, %lld]",
                         s->folder, e->name, (long long)other->shape[0], (long long)other->shape[1],
                         (long long)e->shape[0], (long long)e->shape[1]);
            goto done;
        }
        MT_TRY_GOTO(st, checkpoint_read_tensor(r, CHECKPOINT_PARAMS, k, params + e->offset), done);
        report->loaded++;
    }
    st = MT_OK;
done:
    checkpoint_close(&r);
    return st;
}

mt_status source_read(const struct source *s, const struct tensor_table *table, float *params,
                      struct folder_report *report)
{
    memset(report, 0, sizeof *report);
    if (s->is_checkpoint)
        return read_checkpoint(s, table, params, report);
    return model_folder_read(s->folder, table, params, report);
}

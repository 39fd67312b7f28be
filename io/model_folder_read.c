/* See model_folder.h: reading the numbers.  Each tensor goes from the mapping into its place in the
 * flat block; nothing is held twice. */
#include "io/model_folder.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/model_folder_names.h"
#include "io/model_weights.h"

struct reading {
    const char *dir;
    struct model_weights weights;
    struct safetensors *heads; /* NULL = no heads.safetensors */
    int32_t task_count;        /* of the table */
    struct folder_report report;
};

static bool is_head(const struct tensor *t)
{
    return strncmp(t->name, "heads.", 6) == 0;
}

static bool is_pooler(const struct tensor *t)
{
    return strncmp(t->name, "pooler.", 7) == 0;
}

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), e = strlen(ending);
    return n >= e && strcmp(name + n - e, ending) == 0;
}

/* A vector of n and a matrix [n, 1] are different shapes; a scalar fits nothing. */
static bool shape_fits(const struct safetensors_entry *e, const struct tensor *t)
{
    return e->ndim == t->ndim && e->shape[0] == t->shape[0] &&
           (t->ndim == 1 || e->shape[1] == t->shape[1]);
}

static void format_shape(char out[96], int32_t ndim, const int64_t *shape)
{
    size_t at = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < ndim && at < 80; i++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%" PRId64, i > 0 ? ", " : "", shape[i]);
}

/* Where a head's tensor comes from.  A classifier of Hugging Face serves the task of its name, and
 * the one task of a table if its shape happens to fit. */
static const struct safetensors_entry *find_head(struct reading *r, const struct tensor *t,
                                                 const struct safetensors **file)
{
    if (r->heads != NULL) {
        *file = r->heads;
        return safetensors_find(r->heads, t->name);
    }
    bool own = strncmp(t->name, "heads." FOLDER_CLASSIFIER ".", 17) == 0;
    if (!own && r->task_count != 1)
        return NULL;
    const struct safetensors_entry *e = model_weights_find(
        &r->weights, ends_in(t->name, ".bias") ? "classifier.bias" : "classifier.weight", file);
    return e != NULL && (own || shape_fits(e, t)) ? e : NULL;
}

static mt_status read_tensor(struct reading *r, const struct tensor *t, float *params)
{
    const struct safetensors *file = NULL;
    const struct safetensors_entry *e =
        is_head(t) ? find_head(r, t, &file) : model_weights_find(&r->weights, t->name, &file);
    char got[96], want[96];
    format_shape(want, t->ndim, t->shape);
    if (e == NULL && is_head(t)) {
        r->report.heads_missing++;
        return MT_OK;
    }
    if (e == NULL && is_pooler(t)) {
        r->report.pooler_missing = true;
        return MT_OK;
    }
    if (e == NULL)
        return MT_FAIL(MT_DATA,
                       "%s: has no tensor %s [%s]; is it a BERT of the sizes in its "
                       "config.json?",
                       r->dir, t->name, want);
    if (!shape_fits(e, t)) {
        format_shape(got, e->ndim, e->shape);
        return MT_FAIL(MT_DATA, "%s: tensor %s is [%s], the model wants [%s] for %s",
                       safetensors_path(file), e->name, got, want, t->name);
    }
    MT_TRY(safetensors_copy_f32(file, e, params + t->offset));
    r->report.loaded++;
    return MT_OK;
}

/* Buffers that old versions stored; nobody misses them. */
static bool is_buffer(const char *name)
{
    return ends_in(name, "embeddings.position_ids") || ends_in(name, "embeddings.token_type_ids");
}

static void count_ignored(struct reading *r)
{
    size_t at = 0, room = sizeof r->report.ignored_names;
    for (int32_t f = 0; f < r->weights.file_count; f++)
        for (int32_t i = 0; i < safetensors_count(r->weights.file[f]); i++) {
            const char *name = safetensors_at(r->weights.file[f], i)->name;
            if (r->weights.used[f][i] || is_buffer(name))
                continue;
            r->report.ignored++;
            if (at + strlen(name) + 3 < room)
                at += (size_t)snprintf(r->report.ignored_names + at, room - at, "%s%s",
                                       at > 0 ? ", " : "", name);
        }
}

static mt_status open_heads(struct reading *r)
{
    char *path;
    MT_TRY(file_path_join(&path, r->dir, FOLDER_HEADS_WEIGHTS));
    mt_status st = file_exists(path) ? safetensors_open(&r->heads, path) : MT_OK;
    mt_free(&path);
    return st;
}

mt_status model_folder_read(const char *dir, const struct tensor_table *table, float *params,
                            struct folder_report *report)
{
    struct reading r = {.dir = dir};
    mt_status st;
    MT_TRY(model_weights_open(&r.weights, dir));
    MT_TRY_GOTO(st, open_heads(&r), done);
    for (int32_t i = 0; i < table->count; i++)
        r.task_count += is_head(&table->entry[i]) && ends_in(table->entry[i].name, ".weight");
    for (int32_t i = 0; i < table->count; i++)
        MT_TRY_GOTO(st, read_tensor(&r, &table->entry[i], params), done);
    count_ignored(&r);
    if (report != NULL)
        *report = r.report;
done:
    safetensors_close(&r.heads);
    model_weights_close(&r.weights);
    return st;
}

/* See inspect_model.h. */
#include "io/inspect_model.h"

#include <inttypes.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/model_folder.h"
#include "io/model_weights.h"

static bool dir_has(const char *dir, const char *name)
{
    char path[CHECKPOINT_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path);
}

enum inspect_kind inspect_model_kind(const char *path)
{
    if (dir_has(path, "manifest.json") && dir_has(path, "state.h5"))
        return INSPECT_CHECKPOINT;
    if (dir_has(path, "checkpoints"))
        return INSPECT_RUN;
    return model_folder_is(path) ? INSPECT_MODEL : INSPECT_NOTHING;
}

static mt_status fail_kind(const char *path)
{
    return MT_FAIL(MT_DATA, "%s: %s", path,
                   file_exists(path) ? "neither a checkpoint, nor a run, nor a model folder"
                                     : "does not exist");
}

static double mib(int64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static void print_table(FILE *out, const struct checkpoint_reader *r)
{
    const struct tensor_table *t = checkpoint_table(r);
    int64_t params = 0, adam = 0, shared = 0;
    int32_t with_state = 0;
    for (int32_t i = 0; i < t->count; i++) {
        params += t->entry[i].count;
        shared += checkpoint_is_shared(r, i) ? t->entry[i].count : 0;
        if (checkpoint_has(r, CHECKPOINT_ADAM_M, i)) {
            adam += t->entry[i].count;
            with_state++;
        }
    }
    (void)fprintf(out, "tensors      %d with %" PRId64 " parameters\n", t->count, params);
    (void)fprintf(out, "optimizer    state of %d tensors with %" PRId64 " parameters\n", with_state,
                  adam);
    if (shared > 0)
        (void)fprintf(
            out, "shared       %" PRId64 " parameters lie in a file of checkpoints/base\n", shared);
    for (int32_t i = 0; i < t->count; i++)
        if (strncmp(t->entry[i].name, "heads.", 6) == 0 && t->entry[i].ndim == 2)
            (void)fprintf(out, "head         %s: %" PRId64 " classes\n", t->entry[i].name + 6,
                          t->entry[i].shape[0]);
}

static mt_status print_checkpoint(FILE *out, const char *path)
{
    struct checkpoint_reader *r;
    MT_TRY(checkpoint_open(&r, path, true));
    (void)fprintf(out, "checkpoint   %s\nstep         %" PRId64 "\n", path, checkpoint_step(r));
    (void)fprintf(out, "table hash   %016" PRIx64 "\n", checkpoint_table_hash(r));
    print_table(out, r);
    (void)fprintf(out, "size         %.1f MiB without shared files\n", mib(checkpoint_bytes(r)));
    for (int32_t i = 0; i < checkpoint_file_count(r); i++) {
        int64_t bytes;
        const char *name = checkpoint_file_name(r, i, &bytes);
        (void)fprintf(out, "file         %s (%" PRId64 " bytes)\n", name, bytes);
    }
    (void)fprintf(out, "valid        yes: every size and hash is as the manifest says\n");
    checkpoint_close(&r);
    return MT_OK;
}

static mt_status print_run(FILE *out, const char *path)
{
    int64_t *steps = NULL;
    int32_t count, sound = 0;
    (void)fprintf(out, "run          %s\n", path);
    MT_TRY(checkpoint_list(path, &steps, &count));
    int64_t latest = checkpoint_get_link(path, "latest"), best = checkpoint_get_link(path, "best");
    mt_status st = MT_OK;
    for (int32_t i = 0; i < count; i++) {
        char place[CHECKPOINT_PATH_BYTES];
        MT_TRY_GOTO(st, checkpoint_path(place, path, steps[i]), done);
        bool good = checkpoint_verify(place) == MT_OK;
        sound += good;
        (void)fprintf(out, "checkpoint   step %" PRId64 "%s%s: %s\n", steps[i],
                      steps[i] == latest ? ", latest" : "", steps[i] == best ? ", best" : "",
                      good ? "valid" : mt_error_peek()->message);
        mt_error_clear();
    }
    (void)fprintf(out, "checkpoints  %d, %d of them valid\n", count, sound);
    if (dir_has(path, "model/config.json"))
        (void)fprintf(out, "model        exported to %s/model\n", path);
done:
    mt_free(&steps);
    return st;
}

static int64_t count_parameters(const struct model_weights *w)
{
    int64_t total = 0;
    for (int32_t f = 0; f < w->file_count; f++)
        for (int32_t i = 0; i < safetensors_count(w->file[f]); i++)
            total += safetensors_at(w->file[f], i)->count;
    return total;
}

static void print_tasks(FILE *out, const struct model_folder *f)
{
    for (int32_t t = 0; t < f->task_count; t++) {
        const struct folder_task *task = &f->tasks[t];
        (void)fprintf(out, "task         %s: %s,", task->name, task->kind);
        for (int32_t k = 0; k < task->label_count && k < 20; k++)
            (void)fprintf(out, " %s", task->labels[k]);
        (void)fprintf(out, "%s (%d)\n", task->label_count > 20 ? " ..." : "", task->label_count);
    }
}

static mt_status print_folder(FILE *out, const char *path)
{
    struct model_folder f;
    struct model_weights w = {.file_count = 0};
    MT_TRY(model_folder_describe(&f, path));
    const struct bert_config *c = &f.config;
    mt_status st;
    MT_TRY_GOTO(st, model_weights_open(&w, path), done);
    (void)fprintf(out, "model        %s\n", path);
    (void)fprintf(out, "sizes        %d layers x %d hidden, %d heads, feed-forward %d, %s\n",
                  c->num_hidden_layers, c->hidden_size, c->num_attention_heads,
                  c->intermediate_size, activation_name(c->hidden_act));
    (void)fprintf(out, "vocabulary   %d tokens, %s\n", c->vocab_size,
                  f.vocab_path[0] == '\0' ? "no file of it here" : f.vocab_path);
    (void)fprintf(out, "text         %s, at most %d tokens of %d\n",
                  f.do_lower_case ? "lower case" : "cased", f.max_tokens,
                  c->max_position_embeddings);
    (void)fprintf(out, "pooling      %s%s, pooler %s\n", f.pooling,
                  f.normalize ? ", normalized" : "", f.has_pooler ? "present" : "absent");
    (void)fprintf(out, "parameters   %" PRId64 " in the encoder's file\n", count_parameters(&w));
    print_tasks(out, &f);
done:
    model_weights_close(&w);
    model_folder_release(&f);
    return st;
}

mt_status inspect_model_print(FILE *out, const char *path)
{
    switch (inspect_model_kind(path)) {
    case INSPECT_CHECKPOINT:
        return print_checkpoint(out, path);
    case INSPECT_RUN:
        return print_run(out, path);
    case INSPECT_MODEL:
        return print_folder(out, path);
    default:
        return fail_kind(path);
    }
}

/* All tensors of one file in the order of their names, as float32. */
static mt_status hash_file(const struct safetensors *file, struct hash64 *h)
{
    float *values = NULL;
    mt_status st = MT_OK;
    for (int32_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_entry *e = safetensors_by_name(file, i);
        if (e->dtype == SAFETENSORS_I64)
            continue; /* position_ids of old folders: a buffer, no parameter */
        hash64_add_string(h, e->name);
        for (int32_t d = 0; d < e->ndim; d++)
            hash64_add_int(h, e->shape[d]);
        mt_free(&values);
        MT_TRY_GOTO(st, mt_alloc(&values, e->count, sizeof *values, e->name), done);
        MT_TRY_GOTO(st, safetensors_copy_f32(file, e, values), done);
        hash64_add(h, values, e->count * (int64_t)sizeof *values);
    }
done:
    mt_free(&values);
    return st;
}

static mt_status hash_folder(const char *path, uint64_t *out)
{
    struct model_weights w;
    struct safetensors *heads = NULL;
    struct hash64 h;
    char *name;
    hash64_init(&h, 0);
    MT_TRY(model_weights_open(&w, path));
    mt_status st = MT_OK;
    for (int32_t f = 0; f < w.file_count; f++)
        MT_TRY_GOTO(st, hash_file(w.file[f], &h), done);
    MT_TRY_GOTO(st, file_path_join(&name, path, "heads.safetensors"), done);
    if (file_exists(name))
        st = safetensors_open(&heads, name);
    mt_free(&name);
    if (st == MT_OK && heads != NULL)
        st = hash_file(heads, &h);
    if (st == MT_OK)
        *out = hash64_value(&h);
done:
    safetensors_close(&heads);
    model_weights_close(&w);
    return st;
}

static mt_status hash_checkpoint(const char *path, bool params_only, uint64_t *out)
{
    struct checkpoint_reader *r;
    MT_TRY(checkpoint_open(&r, path, true));
    mt_status st = checkpoint_hash(r, params_only, out);
    checkpoint_close(&r);
    return st;
}

mt_status inspect_model_hash(const char *path, bool params_only, uint64_t *out)
{
    char newest[CHECKPOINT_PATH_BYTES];
    int64_t step;
    switch (inspect_model_kind(path)) {
    case INSPECT_CHECKPOINT:
        return hash_checkpoint(path, params_only, out);
    case INSPECT_RUN:
        MT_TRY(checkpoint_find_newest_valid(path, newest, &step, NULL, NULL));
        if (step < 0)
            return MT_FAIL(MT_DATA, "%s: has no valid checkpoint", path);
        return hash_checkpoint(newest, params_only, out);
    case INSPECT_MODEL:
        return hash_folder(path, out);
    default:
        return fail_kind(path);
    }
}

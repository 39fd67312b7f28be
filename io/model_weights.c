/* See model_weights.h. */
#include "io/model_weights.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"

enum { INDEX_MAX_BYTES = 16 << 20, LOOKUP_BYTES = SAFETENSORS_NAME_BYTES + 8 };

static mt_status add_file(struct model_weights *w, const char *dir, const char *name)
{
    char *path;
    for (int32_t i = 0; i < w->file_count; i++)
        if (strcmp(file_path_base(safetensors_path(w->file[i])), name) == 0)
            return MT_OK;
    if (w->file_count == WEIGHTS_FILES_MAX)
        return MT_FAIL(MT_DATA, "%s: its weights are in more than %d files", dir,
                       (int)WEIGHTS_FILES_MAX);
    MT_TRY(file_path_join(&path, dir, name));
    struct safetensors *file = NULL;
    mt_status st = safetensors_open(&file, path);
    mt_free(&path);
    MT_TRY(st);
    w->file[w->file_count] = file;
    MT_TRY(mt_alloc(&w->used[w->file_count++], safetensors_count(file), 1, "marks of tensors"));
    return MT_OK;
}

static mt_status add_shards(struct model_weights *w, const char *dir, const char *index)
{
    struct json_doc *doc;
    const struct json_node *value;
    const char *key;
    void *iter = NULL;
    mt_status st = MT_OK;
    MT_TRY(json_doc_read(&doc, index, INDEX_MAX_BYTES));
    const struct json_node *map = json_node_get(json_doc_root(doc), "weight_map");
    if (!json_node_is_object(map)) {
        st = MT_FAIL(MT_DATA, "%s: has no weight_map", index);
        goto done;
    }
    while (json_node_next(map, &iter, &key, &value)) {
        const char *name = json_node_string(value);
        if (name == NULL || name[0] == '.' || strchr(name, '/') != NULL) {
            st = MT_FAIL(MT_DATA, "%s: tensor %.100s is not in a file of this folder", index, key);
            goto done;
        }
        MT_TRY_GOTO(st, add_file(w, dir, name), done);
    }
done:
    json_doc_destroy(&doc);
    return st;
}

static bool dir_has(const char *dir, const char *name)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path);
}

static mt_status open_files(struct model_weights *w, const char *dir)
{
    if (dir_has(dir, "model.safetensors"))
        return add_file(w, dir, "model.safetensors");
    if (dir_has(dir, "model.safetensors.index.json")) {
        char *index;
        MT_TRY(file_path_join(&index, dir, "model.safetensors.index.json"));
        mt_status st = add_shards(w, dir, index);
        mt_free(&index);
        return st;
    }
    if (dir_has(dir, "pytorch_model.bin"))
        return MT_FAIL(
            MT_DATA,
            "%s: its weights are a pickle (pytorch_model.bin), which can run code and is "
            "not read; convert it once: python3 -c \"from transformers import "
            "BertModel; BertModel.from_pretrained('%s').save_pretrained('%s', "
            "safe_serialization=True)\"",
            dir, dir, dir);
    return MT_FAIL(MT_DATA, "%s: there is no model.safetensors in it", dir);
}

mt_status model_weights_open(struct model_weights *w, const char *dir)
{
    memset(w, 0, sizeof *w);
    mt_status st = open_files(w, dir);
    if (st != MT_OK)
        model_weights_close(w);
    return st;
}

void model_weights_close(struct model_weights *w)
{
    for (int32_t i = 0; i < w->file_count; i++) {
        safetensors_close(&w->file[i]);
        mt_free(&w->used[i]);
    }
    memset(w, 0, sizeof *w);
}

static const struct safetensors_entry *find_exact(struct model_weights *w, const char *name,
                                                  const struct safetensors **file)
{
    for (int32_t f = 0; f < w->file_count; f++) {
        const struct safetensors_entry *e = safetensors_find(w->file[f], name);
        if (e == NULL)
            continue;
        w->used[f][e - safetensors_at(w->file[f], 0)] = 1;
        *file = w->file[f];
        return e;
    }
    return NULL;
}

/* "x.LayerNorm.weight" -> "x.LayerNorm.gamma"; false for every other name. */
static bool name_of_old(char out[LOOKUP_BYTES], const char *name)
{
    static const char *const renamed[][2] = {{".LayerNorm.weight", ".LayerNorm.gamma"},
                                             {".LayerNorm.bias", ".LayerNorm.beta"}};
    size_t length = strlen(name);
    for (size_t i = 0; i < 2; i++) {
        size_t tail = strlen(renamed[i][0]);
        if (length < tail || strcmp(name + length - tail, renamed[i][0]) != 0)
            continue;
        (void)snprintf(out, LOOKUP_BYTES, "%.*s%s", (int)(length - tail), name, renamed[i][1]);
        return true;
    }
    return false;
}

const struct safetensors_entry *model_weights_find(struct model_weights *w, const char *name,
                                                   const struct safetensors **file)
{
    char names[4][LOOKUP_BYTES];
    int32_t count = 0;
    if (strlen(name) >= SAFETENSORS_NAME_BYTES)
        return NULL;
    (void)snprintf(names[count++], LOOKUP_BYTES, "%s", name);
    (void)snprintf(names[count++], LOOKUP_BYTES, "bert.%s", name);
    if (name_of_old(names[count], names[0])) {
        count++;
        (void)snprintf(names[count], LOOKUP_BYTES, "bert.%.*s", SAFETENSORS_NAME_BYTES,
                       names[count - 1]);
        count++;
    }
    for (int32_t i = 0; i < count; i++) {
        const struct safetensors_entry *e = find_exact(w, names[i], file);
        if (e != NULL)
            return e;
    }
    return NULL;
}

/* See model_folder.h: describing.  Every file but config.json and the weights may be missing. */
#include "io/model_folder.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/model_folder_names.h"
#include "io/model_weights.h"

enum { JSON_MAX_BYTES = 64 << 20 };

const struct pooling_mode FOLDER_POOLING_MODES[FOLDER_POOLING_COUNT] = {
    {"cls", "pooling_mode_cls_token"},
    {"max", "pooling_mode_max_tokens"},
    {"mean", "pooling_mode_mean_tokens"},
    {"mean_sqrt", "pooling_mode_mean_sqrt_len_tokens"},
    {"weightedmean", "pooling_mode_weightedmean_tokens"},
    {"lasttoken", "pooling_mode_lasttoken"},
};

/* The document of a file that may be missing: *doc is NULL then. */
static mt_status read_optional(struct json_doc **doc, const char *dir, const char *name)
{
    char *path;
    *doc = NULL;
    MT_TRY(file_path_join(&path, dir, name));
    mt_status st = file_exists(path) ? json_doc_read(doc, path, JSON_MAX_BYTES) : MT_OK;
    mt_free(&path);
    return st;
}

static const struct json_node *root_of(const struct json_doc *doc)
{
    return doc == NULL ? NULL : json_doc_root(doc);
}

bool model_folder_is(const char *path)
{
    char file[FOLDER_PATH_BYTES];
    int n = snprintf(file, sizeof file, "%s/config.json", path);
    return n > 0 && (size_t)n < sizeof file && file_exists(file);
}

static mt_status read_pooling(struct model_folder *f, const char *dir)
{
    struct json_doc *doc;
    MT_TRY(read_optional(&doc, dir, "1_Pooling/config.json"));
    size_t used = 0;
    for (int i = 0; i < FOLDER_POOLING_COUNT && doc != NULL; i++) {
        bool on = false;
        if (!json_node_bool(json_node_get(root_of(doc), FOLDER_POOLING_MODES[i].key), &on) || !on)
            continue;
        int n = snprintf(f->pooling + used, sizeof f->pooling - used, "%s%s", used > 0 ? "+" : "",
                         FOLDER_POOLING_MODES[i].name);
        used += (size_t)n; /* all names together are shorter than the field */
    }
    json_doc_destroy(&doc);
    return MT_OK;
}

static mt_status read_modules(struct model_folder *f, const char *dir)
{
    struct json_doc *doc;
    MT_TRY(read_optional(&doc, dir, "modules.json"));
    for (int64_t i = 0; i < json_node_count(root_of(doc)); i++) {
        const char *type = json_node_string(json_node_get(json_node_at(root_of(doc), i), "type"));
        if (type != NULL && strcmp(type, "sentence_transformers.models.Normalize") == 0)
            f->normalize = true;
    }
    json_doc_destroy(&doc);
    return MT_OK;
}

/* Switches of a tokenizer_config.json, or of tokenizer.json's normalizer. */
static void take_switches(struct model_folder *f, const struct json_node *node, const char *lower,
                          const char *chinese)
{
    bool flag;
    (void)json_node_bool(json_node_get(node, lower), &f->do_lower_case);
    (void)json_node_bool(json_node_get(node, chinese), &f->tokenize_chinese_chars);
    if (json_node_bool(json_node_get(node, "strip_accents"), &flag))
        f->strip_accents = flag ? 1 : 0;
}

/* At most the positions; a length may be a real as large as 1e30, which means none. */
static void take_length(struct model_folder *f, const struct json_node *value, bool *found)
{
    double length;
    if (*found || !json_node_real(value, &length) || !(length >= 1.0))
        return;
    if (length < (double)f->config.max_position_embeddings)
        f->max_tokens = (int32_t)length;
    *found = true;
}

static mt_status read_tokenizer(struct model_folder *f, const char *dir)
{
    struct json_doc *config = NULL, *whole = NULL, *sentence = NULL;
    bool lower = false, found = false;
    mt_status st;
    f->do_lower_case = f->tokenize_chinese_chars = true;
    f->strip_accents = -1;
    f->max_tokens = f->config.max_position_embeddings;
    MT_TRY_GOTO(st, read_optional(&sentence, dir, "sentence_bert_config.json"), done);
    take_length(f, json_node_get(root_of(sentence), "max_seq_length"), &found);
    MT_TRY_GOTO(st, read_optional(&config, dir, "tokenizer_config.json"), done);
    if (config == NULL) {
        MT_TRY_GOTO(st, read_optional(&whole, dir, "tokenizer.json"), done);
        take_switches(f, json_node_get(root_of(whole), "normalizer"), "lowercase",
                      "handle_chinese_chars");
    } else {
        take_switches(f, root_of(config), "do_lower_case", "tokenize_chinese_chars");
        take_length(f, json_node_get(root_of(config), "model_max_length"), &found);
    }
    if (json_node_bool(json_node_get(root_of(sentence), "do_lower_case"), &lower) && lower)
        f->do_lower_case = true;
done:
    json_doc_destroy(&config);
    json_doc_destroy(&whole);
    json_doc_destroy(&sentence);
    return st;
}

static void find_vocab(struct model_folder *f, const char *dir)
{
    static const char *const names[] = {"vocab.txt", "tokenizer.json"};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(f->vocab_path, sizeof f->vocab_path, "%s/%s", dir, names[i]);
        f->vocab_is_tokenizer_json = i == 1;
        if (n > 0 && (size_t)n < sizeof f->vocab_path && file_exists(f->vocab_path))
            return;
    }
    f->vocab_path[0] = '\0';
    f->vocab_is_tokenizer_json = false;
}

static mt_status take_labels(struct folder_task *t, int64_t count)
{
    if (count < 1 || count > FOLDER_LABELS_MAX)
        return MT_FAIL(MT_DATA, "task %s: 1 to %d labels are wanted", t->name,
                       (int)FOLDER_LABELS_MAX);
    MT_TRY(mt_alloc(&t->labels, count, sizeof *t->labels, "label names"));
    t->label_count = (int32_t)count;
    return MT_OK;
}

static mt_status read_task(struct folder_task *t, const struct json_node *node)
{
    const char *name, *kind;
    MT_TRY(json_read_string(node, "name", &name));
    MT_TRY(json_read_string(node, "kind", &kind));
    if (name[0] == '\0' || strlen(name) >= sizeof t->name || strlen(kind) >= sizeof t->kind)
        return MT_FAIL(MT_DATA, "task %.80s: name or kind empty or too long", name);
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    (void)snprintf(t->kind, sizeof t->kind, "%s", kind);
    t->dropout = -1.0;
    (void)json_node_real(json_node_get(node, "dropout"), &t->dropout);
    const struct json_node *labels = json_node_get(node, "labels");
    if (!json_node_is_array(labels))
        return MT_FAIL(MT_DATA, "task %s: has no list of labels", t->name);
    MT_TRY(take_labels(t, json_node_count(labels)));
    for (int32_t k = 0; k < t->label_count; k++) {
        const char *label = json_node_string(json_node_at(labels, k));
        if (label == NULL)
            return MT_FAIL(MT_DATA, "task %s: label %d is not a string", t->name, k);
        MT_TRY(mt_strdup(&t->labels[k], label));
    }
    return MT_OK;
}

static mt_status read_heads_doc(struct model_folder *f, const struct json_node *root)
{
    const char *format;
    int64_t version;
    const struct json_node *tasks = json_node_get(root, "tasks");
    const char *pooling = json_node_string(json_node_get(root, "pooling"));
    MT_TRY(json_read_string(root, "format", &format));
    MT_TRY(json_read_int(root, "version", 1, 1, &version));
    if (strcmp(format, FOLDER_HEADS_FORMAT) != 0 || !json_node_is_array(tasks) ||
        json_node_count(tasks) > FOLDER_TASKS_MAX)
        return MT_FAIL(MT_DATA, "not a list of at most %d tasks as mttrain writes it",
                       (int)FOLDER_TASKS_MAX);
    if (pooling != NULL)
        (void)snprintf(f->pooling, sizeof f->pooling, "%s", pooling);
    MT_TRY(mt_alloc(&f->tasks, json_node_count(tasks), sizeof *f->tasks, "the tasks of a model"));
    f->task_count = (int32_t)json_node_count(tasks);
    for (int32_t t = 0; t < f->task_count; t++)
        MT_TRY(read_task(&f->tasks[t], json_node_at(tasks, t)));
    return MT_OK;
}

/* A classifier of Hugging Face: the one task "classifier", labels from config.json's id2label. */
static mt_status read_classifier(struct model_folder *f, const char *dir, int64_t classes)
{
    struct json_doc *doc;
    MT_TRY(read_optional(&doc, dir, "config.json"));
    const struct json_node *names = json_node_get(root_of(doc), "id2label");
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&f->tasks, 1, sizeof *f->tasks, "the tasks of a model"), done);
    f->task_count = 1;
    struct folder_task *t = &f->tasks[0];
    (void)snprintf(t->name, sizeof t->name, FOLDER_CLASSIFIER);
    (void)snprintf(t->kind, sizeof t->kind, "classification");
    t->dropout = f->config.classifier_dropout;
    MT_TRY_GOTO(st, take_labels(t, classes), done);
    for (int32_t k = 0; k < t->label_count; k++) {
        char number[32], made[48];
        (void)snprintf(number, sizeof number, "%d", k);
        (void)snprintf(made, sizeof made, "LABEL_%d", k); /* transformers' own default */
        const char *name = json_node_string(json_node_get(names, number));
        MT_TRY_GOTO(st, mt_strdup(&t->labels[k], name == NULL ? made : name), done);
    }
done:
    json_doc_destroy(&doc);
    return st;
}

/* heads.json; *found = false where the folder has none. */
static mt_status read_heads(struct model_folder *f, const char *dir, bool *found)
{
    struct json_doc *heads;
    MT_TRY(read_optional(&heads, dir, FOLDER_HEADS_JSON));
    *found = heads != NULL;
    if (heads == NULL)
        return MT_OK;
    mt_status st = read_heads_doc(f, root_of(heads));
    if (st != MT_OK)
        mt_error_prefix("%s/%s", dir, FOLDER_HEADS_JSON);
    (void)json_node_bool(json_node_get(root_of(heads), "has_pooler"), &f->has_pooler);
    json_doc_destroy(&heads);
    return st;
}

/* What only the weights tell: a pooler, and a classifier where there is no heads.json. */
static mt_status read_weights(struct model_folder *f, const char *dir, bool has_heads)
{
    struct model_weights w;
    const struct safetensors *file;
    MT_TRY(model_weights_open(&w, dir));
    mt_status st = MT_OK;
    f->has_pooler = model_weights_find(&w, "pooler.dense.weight", &file) != NULL;
    const struct safetensors_entry *e = model_weights_find(&w, "classifier.weight", &file);
    if (!has_heads && e != NULL && e->ndim == 2) {
        MT_TRY_GOTO(st, read_classifier(f, dir, e->shape[0]), done);
        if (f->pooling[0] == '\0')
            (void)snprintf(f->pooling, sizeof f->pooling, "pooler");
    }
done:
    model_weights_close(&w);
    return st;
}

static mt_status read_tasks(struct model_folder *f, const char *dir)
{
    char manifest[FOLDER_PATH_BYTES];
    bool has_heads;
    (void)snprintf(manifest, sizeof manifest, "%.4000s/manifest.json", dir);
    MT_TRY(read_heads(f, dir, &has_heads));
    if (has_heads && file_exists(manifest)) /* a checkpoint: its numbers are elsewhere */
        return MT_OK;
    return read_weights(f, dir, has_heads);
}

static mt_status describe(struct model_folder *f, const char *dir)
{
    char *path;
    if (!model_folder_is(dir))
        return MT_FAIL(MT_DATA, "%s: not a model folder: there is no config.json in it", dir);
    MT_TRY(file_path_join(&path, dir, "config.json"));
    mt_status st = bert_config_read(&f->config, path);
    mt_free(&path);
    MT_TRY(st);
    MT_TRY(read_pooling(f, dir));
    MT_TRY(read_modules(f, dir));
    MT_TRY(read_tokenizer(f, dir));
    MT_TRY(read_tasks(f, dir));
    find_vocab(f, dir);
    if (f->pooling[0] == '\0')
        (void)snprintf(f->pooling, sizeof f->pooling, "mean");
    return MT_OK;
}

mt_status model_folder_describe(struct model_folder *out, const char *dir)
{
    memset(out, 0, sizeof *out);
    mt_status st = describe(out, dir);
    if (st != MT_OK)
        model_folder_release(out);
    return st;
}

void model_folder_release(struct model_folder *f)
{
    for (int32_t t = 0; t < f->task_count; t++) {
        for (int32_t k = 0; k < f->tasks[t].label_count; k++)
            mt_free(&f->tasks[t].labels[k]);
        mt_free(&f->tasks[t].labels);
    }
    mt_free(&f->tasks);
    memset(f, 0, sizeof *f);
}

/*
 * See model_folder.h: writing.
 *
 * One function a file, all into DIR.tmp-PID, then one rename.  A folder that holds anything this
 * module does not write is not replaced: its owner would lose it.
 */
#include "io/model_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/folder_install.h"
#include "io/json.h"
#include "io/model_folder_names.h"
#include "io/safetensors.h"

enum { VOCAB_COPY_MAX_BYTES = 128 << 20, FIXED_FILES = 12 };

static const char *const WRITTEN[FIXED_FILES] = {
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling",
    FOLDER_HEADS_JSON,
    FOLDER_HEADS_WEIGHTS,
};

/* Where the texts of a folder go. */
struct text_sink {
    folder_text put;
    void *context;
};

static mt_status put_file(void *context, const char *name, const char *text, int64_t bytes)
{
    char *path;
    MT_TRY(file_path_join(&path, context, name));
    mt_status st = file_write_atomic(path, text, bytes);
    mt_free(&path);
    return st;
}

/* Finishes a text and hands it on; the writer is empty again. */
static mt_status put_text(struct json_writer *w, const struct text_sink *sink, const char *name)
{
    const char *text;
    int64_t bytes;
    MT_TRY(json_writer_finish(w, &text, &bytes));
    MT_TRY(sink->put(sink->context, name, text, bytes));
    json_writer_reset(w);
    return MT_OK;
}

static void compose_tokenizer(struct json_writer *w, const struct model_folder *f)
{
    json_write_object(w, NULL);
    json_write_bool(w, "clean_up_tokenization_spaces", true);
    json_write_bool(w, "do_basic_tokenize", true);
    json_write_bool(w, "do_lower_case", f->do_lower_case);
    json_write_int(w, "model_max_length", f->config.max_position_embeddings);
    json_write_string(w, "never_split", NULL);
    if (f->strip_accents < 0)
        json_write_string(w, "strip_accents", NULL);
    else
        json_write_bool(w, "strip_accents", f->strip_accents == 1);
    json_write_bool(w, "tokenize_chinese_chars", f->tokenize_chinese_chars);
    json_write_string(w, "tokenizer_class", "BertTokenizer");
}

static void compose_special(struct json_writer *w)
{
    json_write_string(w, "cls_token", "[CLS]");
    json_write_string(w, "mask_token", "[MASK]");
    json_write_string(w, "pad_token", "[PAD]");
    json_write_string(w, "sep_token", "[SEP]");
    json_write_string(w, "unk_token", "[UNK]");
    json_write_end(w);
}

static void compose_module(struct json_writer *w, int64_t index, const char *path, const char *type)
{
    char name[16], full[80];
    (void)snprintf(name, sizeof name, "%d", (int)index);
    (void)snprintf(full, sizeof full, "sentence_transformers.models.%s", type);
    json_write_object(w, NULL);
    json_write_int(w, "idx", index);
    json_write_string(w, "name", name);
    json_write_string(w, "path", path);
    json_write_string(w, "type", full);
    json_write_end(w);
}

static void compose_modules(struct json_writer *w, const struct model_folder *f)
{
    json_write_array(w, NULL);
    compose_module(w, 0, "", "Transformer");
    compose_module(w, 1, "1_Pooling", "Pooling");
    if (f->normalize)
        compose_module(w, 2, "2_Normalize", "Normalize");
    json_write_end(w);
}

/* Versions are the oldest whose folders look like this one; the library warns of newer ones. */
static void compose_sentence_transformers(struct json_writer *w)
{
    json_write_object(w, NULL);
    json_write_object(w, "__version__");
    json_write_string(w, "sentence_transformers", "2.0.0");
    json_write_string(w, "transformers", "4.6.1");
    json_write_string(w, "pytorch", "1.8.1");
    json_write_end(w);
    json_write_end(w);
}

static void compose_pooling(struct json_writer *w, const struct model_folder *f)
{
    const char *pooling = strcmp(f->pooling, "pooler") == 0 ? "cls" : f->pooling;
    json_write_object(w, NULL);
    json_write_int(w, "word_embedding_dimension", f->config.hidden_size);
    for (int i = 0; i < FOLDER_POOLING_COUNT; i++)
        json_write_bool(w, FOLDER_POOLING_MODES[i].key,
                        strcmp(pooling, FOLDER_POOLING_MODES[i].name) == 0);
    json_write_bool(w, "include_prompt", true);
    json_write_end(w);
}

static void compose_heads(struct json_writer *w, const struct model_folder *f)
{
    json_write_object(w, NULL);
    json_write_string(w, "format", FOLDER_HEADS_FORMAT);
    json_write_int(w, "version", 1);
    json_write_string(w, "pooling", f->pooling);
    json_write_bool(w, "has_pooler", f->has_pooler);
    if (strcmp(f->pooling, "pooler") == 0)
        json_write_string(w, "note",
                          "heads read tanh(pooler.dense) of the first token; 1_Pooling, which has "
                          "no such mode, takes the first token itself");
    json_write_array(w, "tasks");
    for (int32_t t = 0; t < f->task_count; t++) {
        const struct folder_task *task = &f->tasks[t];
        json_write_object(w, NULL);
        json_write_string(w, "name", task->name);
        json_write_string(w, "kind", task->kind);
        if (task->dropout >= 0.0)
            json_write_real(w, "dropout", task->dropout);
        json_write_array(w, "labels");
        for (int32_t k = 0; k < task->label_count; k++)
            json_write_string(w, NULL, task->labels[k]);
        json_write_end(w);
        json_write_end(w);
    }
    json_write_end(w);
    json_write_end(w);
}

/* What describes the model and its tokenizer, without the numbers. */
static mt_status put_description(const struct text_sink *sink, const struct model_folder *f)
{
    struct json_writer w = {.indent = 2};
    const struct folder_task *only = f->task_count == 1 ? &f->tasks[0] : NULL;
    mt_status st;
    bert_config_compose(&f->config, only == NULL ? NULL : (const char *const *)only->labels,
                        only == NULL ? 0 : only->label_count, &w);
    MT_TRY_GOTO(st, put_text(&w, sink, "config.json"), done);
    compose_tokenizer(&w, f);
    compose_special(&w);
    MT_TRY_GOTO(st, put_text(&w, sink, "tokenizer_config.json"), done);
    json_write_object(&w, NULL);
    json_write_int(&w, "max_seq_length", f->max_tokens);
    json_write_bool(&w, "do_lower_case", false); /* the tokenizer does it */
    json_write_end(&w);
    MT_TRY_GOTO(st, put_text(&w, sink, "sentence_bert_config.json"), done);
    compose_heads(&w, f);
    if (f->task_count > 0)
        MT_TRY_GOTO(st, put_text(&w, sink, FOLDER_HEADS_JSON), done);
done:
    json_writer_release(&w);
    return st;
}

/* What sentence-transformers wants besides. */
static mt_status put_modules(const struct text_sink *sink, const struct model_folder *f)
{
    struct json_writer w = {.indent = 2};
    mt_status st;
    json_write_object(&w, NULL);
    compose_special(&w);
    MT_TRY_GOTO(st, put_text(&w, sink, "special_tokens_map.json"), done);
    compose_modules(&w, f);
    MT_TRY_GOTO(st, put_text(&w, sink, "modules.json"), done);
    compose_sentence_transformers(&w);
    MT_TRY_GOTO(st, put_text(&w, sink, "config_sentence_transformers.json"), done);
    compose_pooling(&w, f);
    MT_TRY_GOTO(st, put_text(&w, sink, "1_Pooling/config.json"), done);
done:
    json_writer_release(&w);
    return st;
}

/* Tensors whose name begins with "heads." go to one file, all others to the other. */
static mt_status write_tensors(const char *dir, const char *name, bool heads,
                               const struct tensor_table *table, const float *params)
{
    struct safetensors_item *items = NULL;
    char *path = NULL;
    int32_t count = 0;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&items, table->count, sizeof *items, "tensors to write"), done);
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *t = &table->entry[i];
        if ((strncmp(t->name, "heads.", 6) == 0) == heads)
            items[count++] = (struct safetensors_item){
                t->name, t->ndim, {t->shape[0], t->shape[1]}, params + t->offset};
    }
    if (count == 0)
        goto done;
    MT_TRY_GOTO(st, file_path_join(&path, dir, name), done);
    MT_TRY_GOTO(st, safetensors_write(path, items, count), done);
done:
    mt_free(&items);
    mt_free(&path);
    return st;
}

static mt_status put_vocab(const struct text_sink *sink, const struct model_folder *f)
{
    char *text = NULL;
    int64_t bytes;
    if (f->vocab_path[0] == '\0')
        return MT_FAIL(MT_DATA, "a model folder needs a vocabulary, and none is known");
    MT_TRY(file_read(&text, &bytes, f->vocab_path, VOCAB_COPY_MAX_BYTES));
    mt_status st = sink->put(
        sink->context, f->vocab_is_tokenizer_json ? "tokenizer.json" : "vocab.txt", text, bytes);
    mt_free(&text);
    return st;
}

mt_status model_folder_each_text(const struct model_folder *f, folder_text put, void *context)
{
    struct text_sink sink = {put, context};
    MT_TRY(put_description(&sink, f));
    return put_vocab(&sink, f);
}

static mt_status make_sub_folder(const char *dir, const char *name)
{
    char *path;
    MT_TRY(file_path_join(&path, dir, name));
    mt_status st = file_make_dir(path);
    mt_free(&path);
    return st;
}

static mt_status fill_folder(char *dir, const struct model_folder *f,
                             const struct tensor_table *table, const float *params)
{
    struct text_sink sink = {put_file, dir};
    MT_TRY(make_sub_folder(dir, "1_Pooling"));
    if (f->normalize)
        MT_TRY(make_sub_folder(dir, "2_Normalize"));
    MT_TRY(put_description(&sink, f));
    MT_TRY(put_modules(&sink, f));
    MT_TRY(put_vocab(&sink, f));
    MT_TRY(write_tensors(dir, "model.safetensors", false, table, params));
    MT_TRY(write_tensors(dir, FOLDER_HEADS_WEIGHTS, true, table, params));
    return file_sync(dir);
}

/* Whether everything in an existing folder is of this module's making. */
static mt_status check_replaceable(const char *dir)
{
    struct file_list list;
    if (!file_exists(dir))
        return MT_OK;
    if (!file_is_dir(dir))
        return MT_FAIL(MT_ARG, "%s: exists and is not a folder; choose another name", dir);
    MT_TRY(file_list_read(&list, dir));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < list.count && st == MT_OK; i++) {
        bool known = strcmp(list.names[i], "2_Normalize") == 0;
        for (int k = 0; k < FIXED_FILES; k++)
            known = known || strcmp(list.names[i], WRITTEN[k]) == 0;
        if (!known)
            st = MT_FAIL(MT_ARG,
                         "%s: holds %s, which would be lost if a model were written there; choose "
                         "another folder",
                         dir, list.names[i]);
    }
    file_list_release(&list);
    return st;
}

static mt_status write_beside(const char *dir, const struct model_folder *f,
                              const struct tensor_table *table, const float *params)
{
    char *temp = NULL, *aside = NULL, *above = NULL;
    int64_t room = (int64_t)strlen(dir) + 40;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&temp, room, 1, "a temporary name"), done);
    MT_TRY_GOTO(st, mt_alloc(&aside, room, 1, "a temporary name"), done);
    (void)snprintf(temp, (size_t)room, "%s.tmp-%ld", dir, (long)getpid());
    (void)snprintf(aside, (size_t)room, "%s.old.tmp-%ld", dir, (long)getpid());
    MT_TRY_GOTO(st, file_path_dir(&above, dir), done);
    MT_TRY_GOTO(st, file_make_dir(above), done);
    MT_TRY_GOTO(st, file_remove(temp), done);
    MT_TRY_GOTO(st, file_make_dir(temp), done);
    st = fill_folder(temp, f, table, params);
    if (st == MT_OK)
        st = folder_install(temp, dir, aside);
    struct mt_error kept;
    mt_error_get(&kept);
    if (file_remove(temp) != MT_OK) /* what failed, or the folder that was replaced */
        (void)mt_error_set(&kept);
done:
    mt_free(&temp);
    mt_free(&aside);
    mt_free(&above);
    return st;
}

mt_status model_folder_write(const char *dir, const struct model_folder *f,
                             const struct tensor_table *table, const float *params)
{
    char *path;
    MT_TRY(mt_strdup(&path, dir));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    mt_status st = check_replaceable(path);
    if (st == MT_OK)
        st = write_beside(path, f, table, params);
    mt_free(&path);
    return st;
}

/*
 * model_folder: a model on disk, in the folder layout of Hugging Face and sentence-transformers.
 *
 *     config.json model.safetensors vocab.txt tokenizer_config.json special_tokens_map.json
 *     modules.json config_sentence_transformers.json sentence_bert_config.json
 * 1_Pooling/config.json heads.safetensors heads.json          mttrain's own: one linear head per
 * task
 *
 * The last two are for mttrain; every other file is as those libraries write it, so they load the
 * folder as an encoder.  Reading also takes sharded folders, task classes with a `bert.` prefix
 * (their classifier becomes the one task "classifier") and the LayerNorm.gamma/beta names of old.
 *
 *     MT_TRY(model_folder_describe(&f, dir));                 // sizes, pooling, tasks, vocabulary
 *     MT_TRY(model_init(&m, &f.config, ...));                 // the caller's table
 *     MT_TRY(model_folder_read(dir, &m.table, params, &report));
 */
#ifndef MT_IO_MODEL_FOLDER_H
#define MT_IO_MODEL_FOLDER_H

#include "comm/base/tensors.h"
#include "io/bert_config.h"

enum { FOLDER_PATH_BYTES = 4096, FOLDER_TASKS_MAX = 64, FOLDER_LABELS_MAX = 100000 };

struct folder_task {
    char name[64];
    char kind[32]; /* "classification" */
    char **labels; /* [label_count] names in the order of the head's rows */
    int32_t label_count;
    double dropout; /* before the head; negative = the config's */
};

struct model_folder {
    struct bert_config config;
    bool has_pooler; /* pooler.dense.weight is there */

    char pooling[64]; /* mean | cls | max | mean_sqrt | weightedmean | lasttoken | pooler; several
                         modes are joined by '+', which mttrain cannot compute */
    bool normalize;   /* a Normalize module follows */

    struct folder_task *tasks; /* [task_count] */
    int32_t task_count;

    char vocab_path[FOLDER_PATH_BYTES]; /* vocab.txt, else tokenizer.json, else "" */
    bool vocab_is_tokenizer_json;
    bool do_lower_case;
    int32_t strip_accents; /* 1, 0; -1 = as do_lower_case */
    bool tokenize_chinese_chars;
    int32_t max_tokens; /* max_seq_length, else model_max_length, at most the positions */
};

/* Local.  Whether path looks like a model folder: it holds a config.json. */
bool model_folder_is(const char *path);

/* Local.  Reads everything but the numbers.  Owns: out, until model_folder_release.  Errors: IO,
 * DATA (also for a folder with pytorch_model.bin only, saying how to convert it). */
mt_status model_folder_describe(struct model_folder *out, const char *dir) MT_CHECKED;
void model_folder_release(struct model_folder *f);

/* What a read left out; tensors of the table count. */
struct folder_report {
    int32_t loaded;        /* tensors filled */
    bool pooler_missing;   /* the table has a pooler, the folder none: left as it was */
    int32_t heads_missing; /* head tensors of the table that the folder lacks: left as they were */
    int32_t ignored;       /* tensors of the folder that the table has no place for */
    char ignored_names[256]; /* the first few, for a message */
};

/* Local.  Fills params (table->total floats) by name: the encoder and pooler from model.safetensors
 * or its shards, heads.<task>.* from heads.safetensors, or from classifier.* for a task named
 * "classifier" or, where the table has exactly one task, for that one.  Mapped; converts f16, bf16
 * and f64.  report: may be NULL.  Errors: IO; DATA for a missing tensor other than pooler and
 * heads, and for a shape that differs, with both shapes. */
mt_status model_folder_read(const char *dir, const struct tensor_table *table, float *params,
                            struct folder_report *report) MT_CHECKED;

/* Local.  Writes a complete folder from f (config, pooling, tasks, max_tokens, tokenizer switches;
 * vocab_path is the file to copy) and params.  Pooling "pooler" is written for
 * sentence-transformers as cls, and as itself in heads.json.  Built beside dir and renamed,
 * replacing an old dir; a crash leaves the old or the new folder under the name.  Errors: IO,
 * NOMEM, DATA. */
mt_status model_folder_write(const char *dir, const struct model_folder *f,
                             const struct tensor_table *table, const float *params) MT_CHECKED;

/* Takes one text of a model's description. */
typedef mt_status (*folder_text)(void *context, const char *name, const char *text, int64_t bytes);

/* Local.  Calls put for config.json, tokenizer_config.json, sentence_bert_config.json, heads.json
 * and the vocabulary: with them model_folder_describe works on a folder without model.safetensors,
 * such as a checkpoint.  Errors: those of put; IO, DATA (no vocabulary). */
mt_status model_folder_each_text(const struct model_folder *f, folder_text put,
                                 void *context) MT_CHECKED;

#endif

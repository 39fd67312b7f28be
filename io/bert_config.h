/*
 * bert_config: the sizes and switches of a BERT encoder, as in Hugging Face's config.json.
 *
 * Key names, defaults and meaning are those of transformers' BertConfig; an absent key has the
 * class default (BERT-base).  Keys that mttrain does not know are tolerated.
 */
#ifndef MT_IO_BERT_CONFIG_H
#define MT_IO_BERT_CONFIG_H

#include "comm/base/hash.h"
#include "comm/base/status.h"

enum activation { ACT_GELU, ACT_GELU_NEW, ACT_RELU, ACT_SILU, ACT_TANH, ACT_COUNT };

struct bert_config {
    int32_t vocab_size;              /* V */
    int32_t hidden_size;             /* H, a multiple of num_attention_heads */
    int32_t num_hidden_layers;       /* L */
    int32_t num_attention_heads;     /* A */
    int32_t intermediate_size;       /* F */
    int32_t max_position_embeddings; /* P */
    int32_t type_vocab_size;
    int32_t pad_token_id;
    enum activation hidden_act;
    double hidden_dropout_prob, attention_probs_dropout_prob;
    double classifier_dropout; /* negative = absent: hidden_dropout_prob is used */
    double initializer_range;
    double layer_norm_eps;
};

/* Local.  BERT-base's values. */
void bert_config_defaults(struct bert_config *c);

/* Local.  Sets the field that a config.json key names ("hidden_size", ...): hidden_act takes text,
 * every other key takes number (text NULL).  False where there is no such key, where the value is
 * of the wrong kind, or where a whole number is wanted and it is none.  For the job file's
 * model.config group; ranges are for bert_config_check. */
bool bert_config_set(struct bert_config *c, const char *key, double number, const char *text);

/* Local.  Ranges and divisibility (H % A == 0, sizes > 0 and bounded ...).  `where` begins the
 * message ("models/x/config.json").  Errors: DATA. */
mt_status bert_config_check(const struct bert_config *c, const char *where) MT_CHECKED;

/* Local.  Reads the config.json at path.  Errors: IO, DATA (also for relative_key positions,
 * is_decoder, add_cross_attention, an unknown hidden_act or model_type other than bert). */
mt_status bert_config_read(struct bert_config *c, const char *path) MT_CHECKED;

/* Local.  Writes config.json of a BertModel.  labels: label_count names that become id2label and
 * label2id (NULL and 0: none).  Written atomically and made durable.  Errors: IO, NOMEM. */
mt_status bert_config_write(const struct bert_config *c, const char *const *labels,
                            int32_t label_count, const char *path) MT_CHECKED;

/* Local.  The same text into a writer, which reports what fails. */
struct json_writer;
void bert_config_compose(const struct bert_config *c, const char *const *labels,
                         int32_t label_count, struct json_writer *w);

const char *activation_name(enum activation a); /* "gelu" ... */

/* Adds every field to a hash: two configs compute the same function iff equal. */
void bert_config_hash(const struct bert_config *c, struct hash64 *h);

#endif

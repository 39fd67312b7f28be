/* See bert_config.h.  One table of fields drives reading, setting, checking, writing and hashing.
 */
#include "io/bert_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

enum { CONFIG_MAX_BYTES = 16 << 20 };

/* key, default, least, most: whole numbers.  The bounds keep every product of two sizes far from
 * the end of int64 and refuse what no memory holds. */
#define INT_FIELDS(X)                                                                              \
    X(vocab_size, 30522, 1, 1 << 24)                                                               \
    X(hidden_size, 768, 1, 1 << 16)                                                                \
    X(num_hidden_layers, 12, 1, 1024)                                                              \
    X(num_attention_heads, 12, 1, 1 << 12)                                                         \
    X(intermediate_size, 3072, 1, 1 << 18)                                                         \
    X(max_position_embeddings, 512, 1, 1 << 20)                                                    \
    X(type_vocab_size, 2, 1, 1 << 16)                                                              \
    X(pad_token_id, 0, 0, 1 << 24)

/* key, default, least, most: real numbers. */
#define REAL_FIELDS(X)                                                                             \
    X(hidden_dropout_prob, 0.1, 0.0, 0.99)                                                         \
    X(attention_probs_dropout_prob, 0.1, 0.0, 0.99)                                                \
    X(classifier_dropout, -1.0, -1.0, 0.99)                                                        \
    X(initializer_range, 0.02, 0.0, 100.0)                                                         \
    X(layer_norm_eps, 1e-12, 0.0, 1.0)

static const char *const ACTIVATION_NAMES[ACT_COUNT] = {
    [ACT_GELU] = "gelu", [ACT_GELU_NEW] = "gelu_new", [ACT_RELU] = "relu",
    [ACT_SILU] = "silu", [ACT_TANH] = "tanh",
};

/* Other names of transformers' ACT2FN for the same functions. */
static const struct {
    const char *name;
    enum activation activation;
} ACTIVATION_ALIASES[] = {
    {"gelu_python", ACT_GELU},
    {"gelu_pytorch_tanh", ACT_GELU_NEW},
    {"gelu_accurate", ACT_GELU_NEW},
    {"swish", ACT_SILU},
};

const char *activation_name(enum activation a)
{
    return ACTIVATION_NAMES[a];
}

static bool activation_parse(enum activation *out, const char *name)
{
    for (int a = 0; a < ACT_COUNT; a++)
        if (strcmp(ACTIVATION_NAMES[a], name) == 0) {
            *out = (enum activation)a;
            return true;
        }
    for (size_t i = 0; i < sizeof ACTIVATION_ALIASES / sizeof *ACTIVATION_ALIASES; i++)
        if (strcmp(ACTIVATION_ALIASES[i].name, name) == 0) {
            *out = ACTIVATION_ALIASES[i].activation;
            return true;
        }
    return false;
}

void bert_config_defaults(struct bert_config *c)
{
    memset(c, 0, sizeof *c);
#define X(name, value, least, most) c->name = (value);
    INT_FIELDS(X)
    REAL_FIELDS(X)
#undef X
    c->hidden_act = ACT_GELU;
}

bool bert_config_set(struct bert_config *c, const char *key, double number, const char *text)
{
    if (strcmp(key, "hidden_act") == 0)
        return text != NULL && activation_parse(&c->hidden_act, text);
    if (text != NULL)
        return false;
#define X(name, value, least, most)                                                                \
    if (strcmp(key, #name) == 0) {                                                                 \
        if (!(fabs(number) <= 2147483647.0) || number != floor(number))                            \
            return false;                                                                          \
        c->name = (int32_t)number;                                                                 \
        return true;                                                                               \
    }
    INT_FIELDS(X)
#undef X
#define X(name, value, least, most)                                                                \
    if (strcmp(key, #name) == 0) {                                                                 \
        c->name = number;                                                                          \
        return true;                                                                               \
    }
    REAL_FIELDS(X)
#undef X
    return false;
}

mt_status bert_config_check(const struct bert_config *c, const char *where)
{
#define X(name, value, least, most)                                                                \
    if (c->name < (least) || c->name > (most))                                                     \
        return MT_FAIL(MT_DATA, "%s: %s = %d is not within %d .. %d", where, #name, c->name,       \
                       (int)(least), (int)(most));
    INT_FIELDS(X)
#undef X
#define X(name, value, least, most)                                                                \
    if (!(c->name >= (least) && c->name <= (most)))                                                \
        return MT_FAIL(MT_DATA, "%s: %s = %g is not within %g .. %g", where, #name, c->name,       \
                       (double)(least), (double)(most));
    REAL_FIELDS(X)
#undef X
    if (c->hidden_size % c->num_attention_heads != 0)
        return MT_FAIL(MT_DATA, "%s: hidden_size %d is not a multiple of num_attention_heads %d",
                       where, c->hidden_size, c->num_attention_heads);
    if (c->pad_token_id >= c->vocab_size)
        return MT_FAIL(MT_DATA, "%s: pad_token_id %d is not below vocab_size %d", where,
                       c->pad_token_id, c->vocab_size);
    return MT_OK;
}

static bool is_true(const struct json_node *root, const char *key)
{
    bool value = false;
    return json_node_bool(json_node_get(root, key), &value) && value;
}

/* Refuses what computes something else than BertModel. */
static mt_status check_kind(const struct json_node *root, const char *path)
{
    const char *type = json_node_string(json_node_get(root, "model_type"));
    if (type != NULL && strcmp(type, "bert") != 0)
        return MT_FAIL(MT_DATA, "%s: model_type \"%s\"; mttrain computes \"bert\" only", path,
                       type);
    const char *position = json_node_string(json_node_get(root, "position_embedding_type"));
    if (position != NULL && strcmp(position, "absolute") != 0)
        return MT_FAIL(MT_DATA, "%s: position_embedding_type \"%s\"; only \"absolute\" is computed",
                       path, position);
    static const char *const refused[] = {"is_decoder", "add_cross_attention"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (is_true(root, refused[i]))
            return MT_FAIL(MT_DATA, "%s: %s = true; mttrain computes encoders only", path,
                           refused[i]);
    return MT_OK;
}

static mt_status read_field(struct bert_config *c, const char *path, const char *key,
                            const struct json_node *value)
{
    double number = 0.0;
    const char *text = json_node_string(value);
    struct bert_config probe;
    bert_config_defaults(&probe);
    bool known = strcmp(key, "hidden_act") == 0 || bert_config_set(&probe, key, 1.0, NULL);
    if (!known)
        return MT_OK;
    if (text == NULL && !json_node_real(value, &number)) {
        if (strcmp(key, "classifier_dropout") == 0)
            return MT_OK; /* null: absent */
        return MT_FAIL(MT_DATA, "%s: %s is neither a number nor a string", path, key);
    }
    if (bert_config_set(c, key, number, text))
        return MT_OK;
    if (strcmp(key, "hidden_act") == 0)
        return MT_FAIL(MT_DATA, "%s: hidden_act \"%s\"; known are gelu, gelu_new, relu, silu, tanh",
                       path, text == NULL ? "(a number)" : text);
    return MT_FAIL(MT_DATA, "%s: %s has a value of the wrong kind", path, key);
}

mt_status bert_config_read(struct bert_config *c, const char *path)
{
    struct json_doc *doc = NULL;
    struct bert_config read;
    MT_TRY(json_doc_read(&doc, path, CONFIG_MAX_BYTES));
    const struct json_node *root = json_doc_root(doc), *value;
    const char *key;
    void *iter = NULL;
    mt_status st = MT_OK;
    bert_config_defaults(&read);
    if (!json_node_is_object(root)) {
        st = MT_FAIL(MT_DATA, "%s: an object of keys is wanted", path);
        goto done;
    }
    MT_TRY_GOTO(st, check_kind(root, path), done);
    while (json_node_next(root, &iter, &key, &value))
        MT_TRY_GOTO(st, read_field(&read, path, key, value), done);
    MT_TRY_GOTO(st, bert_config_check(&read, path), done);
    *c = read;
done:
    json_doc_destroy(&doc);
    return st;
}

static void write_labels(struct json_writer *w, const char *const *labels, int32_t label_count)
{
    char number[16];
    json_write_object(w, "id2label");
    for (int32_t i = 0; i < label_count; i++) {
        (void)snprintf(number, sizeof number, "%d", i);
        json_write_string(w, number, labels[i]);
    }
    json_write_end(w);
    json_write_object(w, "label2id");
    for (int32_t i = 0; i < label_count; i++)
        json_write_int(w, labels[i], i);
    json_write_end(w);
}

void bert_config_compose(const struct bert_config *c, const char *const *labels,
                         int32_t label_count, struct json_writer *w)
{
    json_write_object(w, NULL);
    json_write_strings(w, "architectures", (const char *const[]){"BertModel"}, 1);
    json_write_string(w, "model_type", "bert");
#define X(name, value, least, most) json_write_int(w, #name, c->name);
    INT_FIELDS(X)
#undef X
    json_write_string(w, "hidden_act", activation_name(c->hidden_act));
#define X(name, value, least, most)                                                                \
    if (c->name < 0.0)                                                                             \
        json_write_string(w, #name, NULL);                                                         \
    else                                                                                           \
        json_write_real(w, #name, c->name);
    REAL_FIELDS(X)
#undef X
    json_write_string(w, "position_embedding_type", "absolute");
    json_write_bool(w, "use_cache", true);
    json_write_string(w, "torch_dtype", "float32");
    if (label_count > 0)
        write_labels(w, labels, label_count);
    json_write_end(w);
}

mt_status bert_config_write(const struct bert_config *c, const char *const *labels,
                            int32_t label_count, const char *path)
{
    struct json_writer w = {.indent = 2};
    const char *text;
    int64_t bytes;
    mt_status st;
    bert_config_compose(c, labels, label_count, &w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    MT_TRY_GOTO(st, file_write_atomic(path, text, bytes), done);
done:
    json_writer_release(&w);
    return st;
}

void bert_config_hash(const struct bert_config *c, struct hash64 *h)
{
#define X(name, value, least, most) hash64_add_int(h, c->name);
    INT_FIELDS(X)
#undef X
    hash64_add_int(h, c->hidden_act);
#define X(name, value, least, most) hash64_add(h, &c->name, (int64_t)sizeof c->name);
    REAL_FIELDS(X)
#undef X
}

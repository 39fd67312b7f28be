/*
 * json: JSON text written value by value, and read back with checks.
 *
 * What is written is read back exactly: whole numbers as int64, reals with 17 significant digits
 * (the same double), and the reals JSON has no word for as the strings "nan", "inf" and "-inf".
 * Keys keep the order in which they were written, so equal calls give equal bytes.
 *
 *     struct json_writer w = {0};
 *     json_write_object(&w, NULL);
 *     json_write_int(&w, "step", 120);
 *     json_write_reals(&w, "history", loss, 40);
 *     json_write_end(&w);
 *     MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);   // borrowed from w
 *
 *     MT_TRY(json_doc_parse(&doc, text, bytes, "state.json"));
 *     MT_TRY_GOTO(st, json_read_int(json_doc_root(doc), "step", 0, INT64_MAX, &step), done);
 *
 * The writer remembers its first failure and answers it at the end, so calls need no check each.
 */
#ifndef MT_IO_JSON_H
#define MT_IO_JSON_H

#include "comm/base/status.h"

enum { JSON_DEPTH_MAX = 16 };

struct json_writer {
    char *text;
    int64_t bytes, capacity;
    mt_status status; /* of the first failure */
    int32_t depth;
    int32_t indent; /* 0 = one line; otherwise spaces a level, set before the first call */
    struct {
        bool array, filled;
    } level[JSON_DEPTH_MAX];
};

/* Local.  Values.  key: the name in an object; NULL in an array and for the outermost value.
 * Strings are UTF-8; bytes that are not become U+FFFD.  A NULL string is written as null. */
void json_write_object(struct json_writer *w, const char *key);
void json_write_array(struct json_writer *w, const char *key);
void json_write_end(struct json_writer *w); /* of the innermost object or array */
void json_write_int(struct json_writer *w, const char *key, int64_t value);
void json_write_real(struct json_writer *w, const char *key, double value);
void json_write_bool(struct json_writer *w, const char *key, bool value);
void json_write_string(struct json_writer *w, const char *key, const char *value);
void json_write_hash(struct json_writer *w, const char *key, uint64_t value); /* 16 hex digits */
void json_write_ints(struct json_writer *w, const char *key, const int64_t *v, int64_t count);
void json_write_reals(struct json_writer *w, const char *key, const double *v, int64_t count);
void json_write_strings(struct json_writer *w, const char *key, const char *const *v,
                        int64_t count);

/* Local.  The finished text, a NUL behind it (not counted); borrowed until release or reset.
 * Errors: NOMEM; BUG for unbalanced or too deep nesting. */
mt_status json_writer_finish(struct json_writer *w, const char **text, int64_t *bytes) MT_CHECKED;
void json_writer_reset(struct json_writer *w);   /* empty again; keeps the memory and indent */
void json_writer_release(struct json_writer *w); /* accepts a zeroed writer */

struct json_doc;
struct json_node; /* a value in a document: borrowed from it */

enum { JSON_TEXT_MAX_BYTES = 256 << 20 };

/* Local.  Parses one JSON value.  where: begins messages ("x/state.json").  In a text with a whole
 * number past int64 (tokenizer_config.json has 10^30 for "no limit") all numbers are reals.  Owns:
 * the caller, until json_doc_destroy.  Errors: DATA for what is not JSON, a key that stands twice,
 * or more than JSON_TEXT_MAX_BYTES. */
mt_status json_doc_parse(struct json_doc **out, const char *text, int64_t bytes,
                         const char *where) MT_CHECKED;

/* Local.  Reads and parses a file of at most max_bytes.  Errors: IO, DATA. */
mt_status json_doc_read(struct json_doc **out, const char *path, int64_t max_bytes) MT_CHECKED;
void json_doc_destroy(struct json_doc **doc);

const struct json_node *json_doc_root(const struct json_doc *doc);

/* Local.  Look-ups that answer NULL, 0 or false where there is no such thing; a NULL node is fine.
 */
const struct json_node *json_node_get(const struct json_node *object, const char *key);
const struct json_node *json_node_at(const struct json_node *array, int64_t i);
int64_t json_node_count(const struct json_node *array_or_object);
bool json_node_is_object(const struct json_node *node);
bool json_node_is_array(const struct json_node *node);
const char *json_node_string(const struct json_node *node); /* NULL unless a string */
bool json_node_int(const struct json_node *node, int64_t *out);
bool json_node_real(const struct json_node *node, double *out); /* also ints, "nan", "inf" */
bool json_node_bool(const struct json_node *node, bool *out);

/* Local.  Members of an object in the order of the text: iter starts as NULL; false at the end. */
bool json_node_next(const struct json_node *object, void **iter, const char **key,
                    const struct json_node **value);

/* Local.  Members that must be there and of their kind.  Strings are borrowed from the document;
 * arrays must have exactly count elements.  Errors: DATA, naming the key. */
mt_status json_read_int(const struct json_node *object, const char *key, int64_t min, int64_t max,
                        int64_t *out) MT_CHECKED;
mt_status json_read_real(const struct json_node *object, const char *key, double *out) MT_CHECKED;
mt_status json_read_bool(const struct json_node *object, const char *key, bool *out) MT_CHECKED;
mt_status json_read_string(const struct json_node *object, const char *key,
                           const char **out) MT_CHECKED;
mt_status json_read_hash(const struct json_node *object, const char *key, uint64_t *out) MT_CHECKED;
mt_status json_read_ints(const struct json_node *object, const char *key, int64_t *v,
                         int64_t count) MT_CHECKED;
mt_status json_read_reals(const struct json_node *object, const char *key, double *v,
                          int64_t count) MT_CHECKED;

#endif

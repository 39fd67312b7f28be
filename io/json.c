/*
 * See json.h.
 *
 * Writing is text appended to one buffer; reading is jansson's tree behind a narrow door, so that
 * the rest of the program needs no outside header.  Refused: building a tree to write it (every
 * value an allocation, and jansson has no way to say nan).  Cost: linear in the text.
 */
#include "io/json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/utf8.h"

static void append(struct json_writer *w, const char *text, int64_t count)
{
    if (w->status != MT_OK)
        return;
    if (w->capacity - w->bytes <= count) {
        int64_t grown = 2 * w->capacity > w->bytes + count ? 2 * w->capacity : w->bytes + count;
        grown += 256;
        w->status = mt_grow(&w->text, w->bytes, grown, 1, "JSON text");
        if (w->status != MT_OK)
            return;
        w->capacity = grown;
    }
    memcpy(w->text + w->bytes, text, (size_t)count);
    w->bytes += count;
    w->text[w->bytes] = '\0';
}

static void append_text(struct json_writer *w, const char *text)
{
    append(w, text, (int64_t)strlen(text));
}

static void append_quoted(struct json_writer *w, const char *text)
{
    const char *end = text + strlen(text);
    append(w, "\"", 1);
    while (text < end) {
        struct utf8_char c = utf8_decode(text, end);
        char out[16];
        if (c.code == '"' || c.code == '\\') {
            (void)snprintf(out, sizeof out, "\\%c", (int)c.code);
            append_text(w, out);
        } else if (c.code == '\n') {
            append(w, "\\n", 2);
        } else if (c.code == '\t') {
            append(w, "\\t", 2);
        } else if (c.code < 0x20 || c.code == 0x7f) {
            (void)snprintf(out, sizeof out, "\\u%04x", (unsigned)c.code);
            append_text(w, out);
        } else {
            char bytes[UTF8_MAX_BYTES];
            append(w, bytes, utf8_encode(bytes, c.code));
        }
        text += c.bytes;
    }
    append(w, "\"", 1);
}

static void new_line(struct json_writer *w, int32_t depth)
{
    if (w->indent == 0)
        return;
    append(w, "\n", 1);
    for (int32_t i = 0; i < depth * w->indent; i++)
        append(w, " ", 1);
}

/* What stands before a value: the comma, the line, the key. */
static void begin_value(struct json_writer *w, const char *key)
{
    if (w->depth > 0 && w->depth <= JSON_DEPTH_MAX) {
        bool flat = w->level[w->depth - 1].array;
        if (w->level[w->depth - 1].filled)
            append_text(w, flat && w->indent > 0 ? ", " : ",");
        w->level[w->depth - 1].filled = true;
        if (!flat || key != NULL)
            new_line(w, w->depth);
    }
    if (key == NULL)
        return;
    append_quoted(w, key);
    append_text(w, w->indent > 0 ? ": " : ":");
}

static void open_level(struct json_writer *w, const char *key, bool array)
{
    begin_value(w, key);
    append(w, array ? "[" : "{", 1);
    if (w->depth >= JSON_DEPTH_MAX) {
        if (w->status == MT_OK)
            w->status = MT_FAIL(MT_BUG, "JSON text nested deeper than %d", (int)JSON_DEPTH_MAX);
        return;
    }
    w->level[w->depth].array = array;
    w->level[w->depth].filled = false;
    w->depth++;
}

void json_write_object(struct json_writer *w, const char *key)
{
    open_level(w, key, false);
}

void json_write_array(struct json_writer *w, const char *key)
{
    open_level(w, key, true);
}

void json_write_end(struct json_writer *w)
{
    if (w->depth == 0) {
        if (w->status == MT_OK)
            w->status = MT_FAIL(MT_BUG, "JSON text with an end too many");
        return;
    }
    w->depth--;
    if (!w->level[w->depth].array && w->level[w->depth].filled)
        new_line(w, w->depth);
    append(w, w->level[w->depth].array ? "]" : "}", 1);
}

void json_write_int(struct json_writer *w, const char *key, int64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    begin_value(w, key);
    append_text(w, text);
}

void json_write_real(struct json_writer *w, const char *key, double value)
{
    char text[40];
    begin_value(w, key);
    if (isnan(value)) {
        append_text(w, "\"nan\"");
    } else if (isinf(value)) {
        append_text(w, value > 0 ? "\"inf\"" : "\"-inf\"");
    } else {
        /* the shortest of the two that reads back as the same double */
        (void)snprintf(text, sizeof text, "%.15g", value);
        if (strtod(text, NULL) != value)
            (void)snprintf(text, sizeof text, "%.17g", value);
        append_text(w, text);
        if (strpbrk(text, ".eE") == NULL)
            append(w, ".0", 2); /* a real stays one, and -0 keeps its sign */
    }
}

void json_write_bool(struct json_writer *w, const char *key, bool value)
{
    begin_value(w, key);
    append_text(w, value ? "true" : "false");
}

void json_write_string(struct json_writer *w, const char *key, const char *value)
{
    begin_value(w, key);
    if (value == NULL)
        append_text(w, "null");
    else
        append_quoted(w, value);
}

void json_write_hash(struct json_writer *w, const char *key, uint64_t value)
{
    char text[HASH_TEXT_BYTES];
    hash64_format(text, value);
    json_write_string(w, key, text);
}

void json_write_ints(struct json_writer *w, const char *key, const int64_t *v, int64_t count)
{
    json_write_array(w, key);
    for (int64_t i = 0; i < count; i++)
        json_write_int(w, NULL, v[i]);
    json_write_end(w);
}

void json_write_reals(struct json_writer *w, const char *key, const double *v, int64_t count)
{
    json_write_array(w, key);
    for (int64_t i = 0; i < count; i++)
        json_write_real(w, NULL, v[i]);
    json_write_end(w);
}

void json_write_strings(struct json_writer *w, const char *key, const char *const *v, int64_t count)
{
    json_write_array(w, key);
    for (int64_t i = 0; i < count; i++)
        json_write_string(w, NULL, v[i]);
    json_write_end(w);
}

mt_status json_writer_finish(struct json_writer *w, const char **text, int64_t *bytes)
{
    if (w->status == MT_NOMEM)
        return MT_FAIL(MT_NOMEM, "no memory for a JSON text of %lld bytes", (long long)w->bytes);
    if (w->status != MT_OK || w->depth != 0 || w->bytes == 0)
        return MT_FAIL(MT_BUG, "JSON text with unbalanced or too deep nesting");
    *text = w->text;
    *bytes = w->bytes;
    return MT_OK;
}

void json_writer_reset(struct json_writer *w)
{
    w->bytes = 0;
    w->status = MT_OK;
    w->depth = 0;
}

void json_writer_release(struct json_writer *w)
{
    mt_free(&w->text);
    memset(w, 0, sizeof *w);
}

struct json_doc {
    json_t *root;
};

static const json_t *value_of(const struct json_node *node)
{
    return (const json_t *)node;
}

static const struct json_node *node_of(const json_t *value)
{
    return (const struct json_node *)value;
}

mt_status json_doc_parse(struct json_doc **out, const char *text, int64_t bytes, const char *where)
{
    if (bytes > JSON_TEXT_MAX_BYTES)
        return MT_FAIL(MT_DATA, "%s: JSON text of %lld bytes, at most %d are read", where,
                       (long long)bytes, (int)JSON_TEXT_MAX_BYTES);
    struct json_doc *doc;
    MT_TRY(mt_alloc(&doc, 1, sizeof *doc, "a JSON document"));
    json_error_t error;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    doc->root = json_loadb(text, (size_t)bytes, flags, &error);
    if (doc->root == NULL && json_error_code(&error) == json_error_numeric_overflow)
        doc->root = json_loadb(text, (size_t)bytes, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (doc->root == NULL) {
        mt_free(&doc);
        if (json_error_code(&error) == json_error_out_of_memory)
            return MT_FAIL(MT_NOMEM, "%s: no memory to parse it", where);
        return MT_FAIL(MT_DATA, "%s:%d: not valid JSON: %s", where, error.line, error.text);
    }
    *out = doc;
    return MT_OK;
}

mt_status json_doc_read(struct json_doc **out, const char *path, int64_t max_bytes)
{
    char *text = NULL;
    int64_t bytes;
    MT_TRY(file_read(&text, &bytes, path, max_bytes));
    mt_status st = json_doc_parse(out, text, bytes, path);
    mt_free(&text);
    return st;
}

void json_doc_destroy(struct json_doc **doc)
{
    if (*doc == NULL)
        return;
    json_decref((*doc)->root);
    mt_free(doc);
}

const struct json_node *json_doc_root(const struct json_doc *doc)
{
    return node_of(doc->root);
}

const struct json_node *json_node_get(const struct json_node *object, const char *key)
{
    return node_of(json_object_get(value_of(object), key));
}

const struct json_node *json_node_at(const struct json_node *array, int64_t i)
{
    return i < 0 ? NULL : node_of(json_array_get(value_of(array), (size_t)i));
}

int64_t json_node_count(const struct json_node *array_or_object)
{
    const json_t *v = value_of(array_or_object);
    return (int64_t)(json_is_array(v) ? json_array_size(v) : json_object_size(v));
}

bool json_node_is_object(const struct json_node *node)
{
    return json_is_object(value_of(node));
}

bool json_node_is_array(const struct json_node *node)
{
    return json_is_array(value_of(node));
}

const char *json_node_string(const struct json_node *node)
{
    return json_string_value(value_of(node));
}

bool json_node_int(const struct json_node *node, int64_t *out)
{
    if (!json_is_integer(value_of(node)))
        return false;
    *out = json_integer_value(value_of(node));
    return true;
}

bool json_node_real(const struct json_node *node, double *out)
{
    const json_t *v = value_of(node);
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return true;
    }
    const char *text = json_string_value(v);
    if (text == NULL)
        return false;
    if (strcmp(text, "nan") == 0)
        *out = (double)NAN;
    else if (strcmp(text, "inf") == 0)
        *out = (double)INFINITY;
    else if (strcmp(text, "-inf") == 0)
        *out = -(double)INFINITY;
    else
        return false;
    return true;
}

bool json_node_bool(const struct json_node *node, bool *out)
{
    if (!json_is_boolean(value_of(node)))
        return false;
    *out = json_is_true(value_of(node));
    return true;
}

bool json_node_next(const struct json_node *object, void **iter, const char **key,
                    const struct json_node **value)
{
    if (!json_is_object(value_of(object)))
        return false;
    /* jansson's iterator takes an object that it does not change */
    uintptr_t address = (uintptr_t)object;
    json_t *o = (json_t *)address;
    *iter = *iter == NULL ? json_object_iter(o) : json_object_iter_next(o, *iter);
    if (*iter == NULL)
        return false;
    *key = json_object_iter_key(*iter);
    *value = node_of(json_object_iter_value(*iter));
    return true;
}

static mt_status fail_member(const struct json_node *object, const char *key, const char *wanted)
{
    return MT_FAIL(MT_DATA, "key \"%s\" %s: %s is wanted", key,
                   json_node_get(object, key) == NULL ? "is missing" : "has another kind of value",
                   wanted);
}

mt_status json_read_int(const struct json_node *object, const char *key, int64_t min, int64_t max,
                        int64_t *out)
{
    int64_t value;
    if (!json_node_int(json_node_get(object, key), &value))
        return fail_member(object, key, "a whole number");
    if (value < min || value > max)
        return MT_FAIL(MT_DATA, "key \"%s\": %lld is not within %lld .. %lld", key,
                       (long long)value, (long long)min, (long long)max);
    *out = value;
    return MT_OK;
}

mt_status json_read_real(const struct json_node *object, const char *key, double *out)
{
    if (!json_node_real(json_node_get(object, key), out))
        return fail_member(object, key, "a number");
    return MT_OK;
}

mt_status json_read_bool(const struct json_node *object, const char *key, bool *out)
{
    if (!json_node_bool(json_node_get(object, key), out))
        return fail_member(object, key, "true or false");
    return MT_OK;
}

mt_status json_read_string(const struct json_node *object, const char *key, const char **out)
{
    const char *text = json_node_string(json_node_get(object, key));
    if (text == NULL)
        return fail_member(object, key, "a string");
    *out = text;
    return MT_OK;
}

mt_status json_read_hash(const struct json_node *object, const char *key, uint64_t *out)
{
    const char *text = json_node_string(json_node_get(object, key));
    if (text == NULL || !hash64_parse(out, text))
        return fail_member(object, key, "a hash of 16 hexadecimal digits");
    return MT_OK;
}

static mt_status array_of(const struct json_node *object, const char *key, int64_t count,
                          const struct json_node **out)
{
    const struct json_node *array = json_node_get(object, key);
    if (!json_node_is_array(array))
        return fail_member(object, key, "an array");
    if (json_node_count(array) != count)
        return MT_FAIL(MT_DATA, "key \"%s\": %lld elements, %lld are wanted", key,
                       (long long)json_node_count(array), (long long)count);
    *out = array;
    return MT_OK;
}

mt_status json_read_ints(const struct json_node *object, const char *key, int64_t *v, int64_t count)
{
    const struct json_node *array;
    MT_TRY(array_of(object, key, count, &array));
    for (int64_t i = 0; i < count; i++)
        if (!json_node_int(json_node_at(array, i), &v[i]))
            return MT_FAIL(MT_DATA, "key \"%s\": element %lld is no whole number", key,
                           (long long)i);
    return MT_OK;
}

mt_status json_read_reals(const struct json_node *object, const char *key, double *v, int64_t count)
{
    const struct json_node *array;
    MT_TRY(array_of(object, key, count, &array));
    for (int64_t i = 0; i < count; i++)
        if (!json_node_real(json_node_at(array, i), &v[i]))
            return MT_FAIL(MT_DATA, "key \"%s\": element %lld is no number", key, (long long)i);
    return MT_OK;
}

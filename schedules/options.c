/*
 * See options.h.  Reading: one switch over the type, one small reader each.
 *
 * Callbacks per option were refused: whatever a row cannot say (a power of two, a name that must
 * exist) is a check of the module that owns the table, after reading.
 */
#include "schedules/options.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"

enum { LIST_MAX = 100000 };

static void *field_of(const struct option *o, void *object)
{
    return (char *)object + o->offset;
}

static int32_t *count_of(const struct option *o, void *object)
{
    return (int32_t *)(void *)((char *)object + o->count_offset);
}

/* "the string \"four\"" */
static void describe(char *text, size_t bytes, const struct config_value *v)
{
    switch (v->type) {
    case VALUE_BOOL:
        (void)snprintf(text, bytes, "%s", v->integer ? "true" : "false");
        break;
    case VALUE_INT:
        (void)snprintf(text, bytes, "the number %lld", (long long)v->integer);
        break;
    case VALUE_REAL:
        (void)snprintf(text, bytes, "the number %g", v->real);
        break;
    case VALUE_STRING:
        (void)snprintf(text, bytes, "the string \"%.100s\"", v->string);
        break;
    case VALUE_GROUP:
        (void)snprintf(text, bytes, "a group { }");
        break;
    case VALUE_LIST:
        (void)snprintf(text, bytes, "a list");
        break;
    }
}

static mt_status expected(const struct config_value *v, const char *what)
{
    char where[CONFIG_WHERE_BYTES], got[160];
    config_where(where, v);
    describe(got, sizeof got, v);
    return MT_FAIL(MT_CONFIG, "%s: expected %s, got %s", where, what, got);
}

static mt_status check_range(const struct option *o, const struct config_value *v, double number)
{
    char range[96];
    if (!isfinite(number))
        return expected(v, "a finite number");
    if (o->min >= o->max || (number >= o->min && number <= o->max))
        return MT_OK;
    if (isinf(o->max))
        (void)snprintf(range, sizeof range, "a number of at least %.12g", o->min);
    else
        (void)snprintf(range, sizeof range, "a number from %.12g to %.12g", o->min, o->max);
    return expected(v, range);
}

static mt_status read_int(const struct option *o, int64_t *out, const struct config_value *v)
{
    int64_t n = v->integer;
    if (v->type == VALUE_REAL && v->real == floor(v->real) && fabs(v->real) < 9e15)
        n = (int64_t)v->real;
    else if (v->type != VALUE_INT)
        return expected(v, v->type == VALUE_REAL ? "a whole number" : "a number");
    MT_TRY(check_range(o, v, (double)n));
    *out = n;
    return MT_OK;
}

static mt_status read_real(const struct option *o, double *out, const struct config_value *v)
{
    if (v->type != VALUE_INT && v->type != VALUE_REAL)
        return expected(v, "a number");
    double n = v->type == VALUE_INT ? (double)v->integer : v->real;
    MT_TRY(check_range(o, v, n));
    *out = n;
    return MT_OK;
}

static mt_status read_bytes(const struct option *o, int64_t *out, const struct config_value *v)
{
    static const char *const names[] = {"B", "KB", "MB", "GB", "TB"};
    if (v->type != VALUE_STRING)
        return read_int(o, out, v);
    char *rest;
    double n = strtod(v->string, &rest);
    while (*rest == ' ')
        rest++;
    for (int i = 0; i < 5; i++) {
        if (rest == v->string || strcmp(rest, names[i]) != 0)
            continue;
        n *= ldexp(1, 10 * i);
        if (!(n >= 0) || n > 9e18)
            break;
        MT_TRY(check_range(o, v, n));
        *out = (int64_t)n;
        return MT_OK;
    }
    return expected(v, "a size like \"512MB\" or \"4GB\"");
}

static mt_status read_duration(struct duration *out, const struct config_value *v)
{
    if (v->type == VALUE_INT && v->integer >= 0) {
        *out = (struct duration){DURATION_STEPS, (double)v->integer};
        return MT_OK;
    }
    if (v->type != VALUE_STRING || (v->string[0] != '\0' && !duration_parse(out, v->string)))
        return expected(v, "a duration like \"500st\", \"2ep\", \"0.3run\", \"0.1phase\" or "
                           "\"90min\"");
    return MT_OK;
}

static mt_status read_choice(const struct option *o, int32_t *out, const struct config_value *v)
{
    const char *word = v->type == VALUE_STRING ? v->string : NULL;
    int32_t count = 0;
    for (; o->choices[count] != NULL; count++) {
        const char *c = o->choices[count];
        bool same = word != NULL && strcmp(c, word) == 0;
        if (v->type == VALUE_BOOL)
            same = strcmp(c, v->integer ? "on" : "off") == 0 ||
                   strcmp(c, v->integer ? "true" : "false") == 0;
        if (same) {
            *out = count;
            return MT_OK;
        }
    }
    struct text list = {0};
    text_add(&list, "one of ");
    for (int32_t i = 0; i < count; i++)
        text_printf(&list, "%s\"%s\"", i > 0 ? ", " : "", o->choices[i]);
    mt_status st = expected(v, list.failed ? "another word" : list.bytes);
    text_release(&list);
    return st;
}

static mt_status scalar_text(const struct option *o, const char **out, char number[32],
                             const struct config_value *v)
{
    *out = v->string;
    if (v->type == VALUE_INT && (o->flags & OPTION_NUMBER_OK) != 0) {
        (void)snprintf(number, 32, "%lld", (long long)v->integer);
        *out = number;
    } else if (v->type == VALUE_GROUP || v->type == VALUE_LIST || v->string == NULL) {
        return expected(v, "a string");
    }
    if ((o->flags & OPTION_NONEMPTY) != 0 && (*out)[0] == '\0')
        return expected(v, "a string that is not empty");
    return MT_OK;
}

static mt_status make_path(const struct option *o, char **out, const char *folder, const char *text)
{
    bool word = text[0] == '/' || folder[0] == '\0';
    for (int i = 0; o->choices != NULL && o->choices[i] != NULL; i++)
        word = word || strcmp(o->choices[i], text) == 0;
    if (text[0] == '\0')
        return options_set_string(out, NULL);
    if (word)
        return options_set_string(out, text);
    /* The folder is a real path, so ".." may be taken off it as text. */
    size_t kept = strcmp(folder, "/") == 0 ? 0 : strlen(folder);
    while (strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0) {
        bool up = text[1] == '.';
        while (up && kept > 0 && folder[--kept] != '/')
            continue;
        text += up ? 3 : 2;
    }
    struct text path = {0};
    text_printf(&path, "%.*s/%s", (int)kept, folder, text);
    mt_free(out);
    return text_finish(&path, out);
}

static mt_status keep_where(char **where, const struct config_value *v)
{
    char text[CONFIG_WHERE_BYTES];
    config_where(text, v);
    return options_set_string(where, text);
}

static mt_status read_strings(const struct option *o, struct string_list *out, const char *folder,
                              const struct config_value *v)
{
    char number[32];
    const char *text;
    int32_t count = v->type == VALUE_LIST ? v->child_count : 1;
    int32_t most = o->max > 0 ? (int32_t)o->max : LIST_MAX;
    if (count > most || (count == 0 && (o->flags & OPTION_NONEMPTY) != 0))
        return expected(v, count == 0 ? "at least one string" : "a shorter list");
    MT_TRY(mt_alloc(&out->item, count, sizeof *out->item, o->key));
    out->count = count;
    for (int32_t i = 0; i < count; i++) {
        MT_TRY(scalar_text(o, &text, number, v->type == VALUE_LIST ? v->child[i] : v));
        if (o->type == OPTION_PATHS)
            MT_TRY(make_path(o, &out->item[i], folder, text));
        else
            MT_TRY(mt_strdup(&out->item[i], text));
        if (out->item[i] == NULL)
            return expected(v, "paths that are not empty");
    }
    return keep_where(&out->where, v);
}

static mt_status read_reals(const struct option *o, struct real_list *out,
                            const struct config_value *v)
{
    if (v->type != VALUE_LIST)
        return expected(v, "a list of numbers [ ]");
    MT_TRY(mt_alloc(&out->item, v->child_count, sizeof *out->item, o->key));
    out->count = v->child_count;
    for (int32_t i = 0; i < v->child_count; i++)
        MT_TRY(read_real(o, &out->item[i], v->child[i]));
    return MT_OK;
}

static mt_status read_weights(const struct option *o, struct weight_list *out,
                              const struct config_value *v)
{
    if (v->type != VALUE_GROUP)
        return expected(v, "a group of numbers { name = 1.0; }");
    MT_TRY(mt_alloc(&out->name, v->child_count, sizeof *out->name, o->key));
    out->count = v->child_count;
    MT_TRY(mt_alloc(&out->value, v->child_count, sizeof *out->value, o->key));
    for (int32_t i = 0; i < v->child_count; i++) {
        MT_TRY(mt_strdup(&out->name[i], v->child[i]->name));
        MT_TRY(read_real(o, &out->value[i], v->child[i]));
    }
    return keep_where(&out->where, v);
}

static mt_status read_settings(const struct option *o, struct setting_list *out,
                               const struct config_value *v)
{
    if (v->type != VALUE_GROUP)
        return expected(v, "a group { key = value; }");
    MT_TRY(mt_alloc(&out->key, v->child_count, sizeof *out->key, o->key));
    out->count = v->child_count;
    MT_TRY(mt_alloc(&out->text, v->child_count, sizeof *out->text, o->key));
    MT_TRY(mt_alloc(&out->number, v->child_count, sizeof *out->number, o->key));
    for (int32_t i = 0; i < v->child_count; i++) {
        const struct config_value *e = v->child[i];
        if (e->type == VALUE_GROUP || e->type == VALUE_LIST)
            return expected(e, "a number, a string or true or false");
        MT_TRY(mt_strdup(&out->key[i], e->name));
        if (e->type == VALUE_STRING)
            MT_TRY(mt_strdup(&out->text[i], e->string));
        out->number[i] = e->type == VALUE_STRING ? NAN
                         : e->type == VALUE_REAL ? e->real
                                                 : (double)e->integer;
    }
    return keep_where(&out->where, v);
}

static mt_status read_group(const struct option_table *table, void *object, const struct config *c,
                            const struct config_value *v, const char *path);

static mt_status read_list(const struct option *o, void *object, const struct config *c,
                           const struct config_value *v)
{
    bool one = v->type == VALUE_GROUP || (v->type != VALUE_LIST && o->table->scalar_key != NULL);
    if (!one && v->type != VALUE_LIST)
        return expected(v, "a list of groups ( { ... }, { ... } )");
    int32_t count = one ? 1 : v->child_count;
    if (count > (o->max > 0 ? (int32_t)o->max : LIST_MAX)) {
        char most[64];
        (void)snprintf(most, sizeof most, "at most %d elements", (int)o->max);
        return expected(v, most);
    }
    char *items = NULL;
    MT_TRY(mt_alloc(&items, count, o->table->size, o->key));
    *(char **)field_of(o, object) = items;
    *count_of(o, object) = count;
    for (int32_t i = 0; i < count; i++) {
        const struct config_value *e = one ? v : v->child[i];
        char path[CONFIG_PATH_BYTES];
        config_path(path, e);
        MT_TRY(read_group(o->table, items + (size_t)i * o->table->size, c, e, path));
    }
    return MT_OK;
}

static mt_status read_field(const struct option *o, void *object, const struct config *c,
                            const struct config_value *v)
{
    void *field = field_of(o, object);
    const char *text;
    char number[32], path[CONFIG_PATH_BYTES];
    switch (o->type) {
    case OPTION_BOOL:
        if (v->type != VALUE_BOOL)
            return expected(v, "true or false");
        *(bool *)field = v->integer != 0;
        return MT_OK;
    case OPTION_INT:
        return read_int(o, field, v);
    case OPTION_BYTES:
        return read_bytes(o, field, v);
    case OPTION_REAL:
        return read_real(o, field, v);
    case OPTION_STRING:
        MT_TRY(scalar_text(o, &text, number, v));
        return options_set_string(field, text);
    case OPTION_PATH:
        MT_TRY(scalar_text(o, &text, number, v));
        return make_path(o, field, config_folder(c), text);
    case OPTION_CHOICE:
        return read_choice(o, field, v);
    case OPTION_DURATION:
        return read_duration(field, v);
    case OPTION_STRINGS:
    case OPTION_PATHS:
        return read_strings(o, field, config_folder(c), v);
    case OPTION_REALS:
        return read_reals(o, field, v);
    case OPTION_WEIGHTS:
        return read_weights(o, field, v);
    case OPTION_SETTINGS:
        return read_settings(o, field, v);
    case OPTION_GROUP:
        config_path(path, v);
        return read_group(o->table, field, c, v, path);
    case OPTION_LIST:
        return read_list(o, object, c, v);
    case OPTION_WHERE:
        break;
    }
    return MT_OK;
}

/* "0.9 0.999" */
static mt_status default_reals(struct real_list *out, const char *text)
{
    char *end;
    for (double n = strtod(text, &end); end != text; n = strtod(text, &end)) {
        MT_TRY(mt_grow(&out->item, out->count, out->count + 1, sizeof *out->item, "a list"));
        out->item[out->count++] = n;
        text = end;
    }
    return MT_OK;
}

/* Defaults of one field; the texts come from the tables, so a wrong one is a bug. */
static mt_status set_default(const struct option *o, void *object, const struct config *c,
                             const char *path)
{
    void *field = field_of(o, object);
    const char *text = o->fallback;
    char inner[CONFIG_PATH_BYTES];
    if (o->type == OPTION_GROUP) {
        (void)snprintf(inner, sizeof inner, "%s%s%s", path, path[0] != '\0' ? "." : "", o->key);
        return read_group(o->table, field, c, NULL, inner);
    }
    if (o->type == OPTION_REAL)
        *(double *)field = text == NULL ? NAN : strtod(text, NULL);
    if (text == NULL)
        return MT_OK;
    struct config_value v = {.type = VALUE_STRING, .file = "default"};
    switch (o->type) {
    case OPTION_BOOL:
        *(bool *)field = strcmp(text, "true") == 0;
        return MT_OK;
    case OPTION_INT:
    case OPTION_BYTES:
        *(int64_t *)field = strtoll(text, NULL, 10);
        return MT_OK;
    case OPTION_STRING:
        return options_set_string(field, text);
    case OPTION_PATH:
        return make_path(o, field, config_folder(c), text);
    case OPTION_STRINGS:
        return string_list_add(field, text);
    case OPTION_REALS:
        return default_reals(field, text);
    case OPTION_CHOICE:
    case OPTION_DURATION:
        MT_TRY(mt_strdup(&v.string, text));
        mt_status st =
            o->type == OPTION_CHOICE ? read_choice(o, field, &v) : read_duration(field, &v);
        mt_free(&v.string);
        return st;
    default:
        return MT_OK;
    }
}

static mt_status unknown_key(const struct option_table *table, const struct config_value *v)
{
    enum { KEYS = 64 };
    const char *keys[KEYS];
    int32_t count = 0;
    for (int32_t i = 0; i < table->count && count < KEYS; i++)
        if (table->option[i].type != OPTION_WHERE)
            keys[count++] = table->option[i].key;
    char where[CONFIG_WHERE_BYTES];
    config_where(where, v);
    const char *near = text_nearest(v->name, keys, count);
    if (near != NULL)
        return MT_FAIL(MT_CONFIG, "%s: unknown key, did you mean \"%s\"?", where, near);
    struct text list = {0};
    for (int32_t i = 0; i < count; i++)
        text_printf(&list, "%s%s", i > 0 ? ", " : "", keys[i]);
    mt_status st = MT_FAIL(MT_CONFIG, "%s: unknown key; known here: %s", where,
                           list.failed || count == 0 ? "none" : list.bytes);
    text_release(&list);
    return st;
}

static const struct option *find_option(const struct option_table *table, const char *key)
{
    for (int32_t i = 0; i < table->count; i++)
        if (table->option[i].type != OPTION_WHERE && strcmp(table->option[i].key, key) == 0)
            return &table->option[i];
    return NULL;
}

static bool is_scalar(const struct config_value *v)
{
    return v->type != VALUE_GROUP && v->type != VALUE_LIST;
}

/* Object is zeroed and v belongs to table, or is NULL; failures leave what was read. */
static mt_status read_group(const struct option_table *table, void *object, const struct config *c,
                            const struct config_value *v, const char *path)
{
    bool scalar = v != NULL && is_scalar(v) && table->scalar_key != NULL;
    if (v != NULL && v->type != VALUE_GROUP && !scalar)
        return expected(v, "a group { ... }");
    for (int32_t i = 0; v != NULL && i < v->child_count; i++)
        if (find_option(table, v->child[i]->name) == NULL)
            return unknown_key(table, v->child[i]);
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        const struct config_value *e = v == NULL ? NULL : config_member(v, o->key);
        if (scalar && strcmp(o->key, table->scalar_key) == 0)
            e = v;
        if (o->type == OPTION_WHERE) {
            if (v != NULL)
                MT_TRY(keep_where(field_of(o, object), v));
            continue;
        }
        if (e == NULL && (o->flags & OPTION_REQUIRED) != 0) {
            char key[CONFIG_PATH_BYTES + 64];
            (void)snprintf(key, sizeof key, "%s%s%s", path, path[0] != '\0' ? "." : "", o->key);
            return config_fail(c, key, "is missing: %s", o->help);
        }
        if (e == NULL)
            MT_TRY(set_default(o, object, c, path));
        else
            MT_TRY(read_field(o, object, c, e));
    }
    return MT_OK;
}

mt_status options_parse(const struct option_table *table, void *object, const struct config *c,
                        const struct config_value *v)
{
    char path[CONFIG_PATH_BYTES] = "";
    memset(object, 0, table->size);
    if (v != NULL)
        config_path(path, v);
    mt_status st = read_group(table, object, c, v, path);
    if (st != MT_OK)
        options_release(table, object);
    return st;
}

/* See options.h.  Printing, hashing, comparing and documenting all come from the same text of a
 * value, so what is printed is what is hashed. */
#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/options.h"

static const void *field_of(const struct option *o, const void *object)
{
    return (const char *)object + o->offset;
}

static void print_int(struct text *t, int64_t n)
{
    text_printf(t, "%lld%s", (long long)n, n > INT32_MAX || n < INT32_MIN ? "L" : "");
}

static void print_number(struct text *t, double n)
{
    if (n == floor(n) && fabs(n) < 9e15)
        print_int(t, (int64_t)n);
    else
        text_add_real(t, n);
}

static void print_strings(struct text *t, const struct string_list *l)
{
    text_add(t, "[");
    for (int32_t i = 0; i < l->count; i++) {
        text_add(t, i > 0 ? ", " : " ");
        text_add_quoted(t, l->item[i]);
    }
    text_add(t, " ]");
}

/* The libconfig text of a leaf; nothing where it is unset. */
static void print_value(struct text *t, const struct option *o, const void *object)
{
    const void *field = field_of(o, object);
    char duration[DURATION_TEXT_BYTES];
    switch (o->type) {
    case OPTION_BOOL:
        text_add(t, *(const bool *)field ? "true" : "false");
        break;
    case OPTION_INT:
    case OPTION_BYTES:
        print_int(t, *(const int64_t *)field);
        break;
    case OPTION_REAL:
        if (!isnan(*(const double *)field))
            text_add_real(t, *(const double *)field);
        break;
    case OPTION_STRING:
    case OPTION_PATH:
        if (*(char *const *)field != NULL)
            text_add_quoted(t, *(char *const *)field);
        break;
    case OPTION_CHOICE:
        text_add_quoted(t, o->choices[*(const int32_t *)field]);
        break;
    case OPTION_DURATION:
        duration_format(duration, *(const struct duration *)field);
        if (duration[0] != '\0')
            text_add_quoted(t, duration);
        break;
    case OPTION_STRINGS:
    case OPTION_PATHS:
        print_strings(t, field);
        break;
    case OPTION_REALS: {
        const struct real_list *l = field;
        text_add(t, "[");
        for (int32_t i = 0; i < l->count; i++) {
            text_add(t, i > 0 ? ", " : " ");
            text_add_real(t, l->item[i]);
        }
        text_add(t, " ]");
        break;
    }
    case OPTION_WEIGHTS: {
        const struct weight_list *l = field;
        text_add(t, "{ ");
        for (int32_t i = 0; i < l->count; i++) {
            text_printf(t, "%s = ", l->name[i]);
            text_add_real(t, l->value[i]);
            text_add(t, "; ");
        }
        text_add(t, "}");
        break;
    }
    case OPTION_SETTINGS: {
        const struct setting_list *l = field;
        text_add(t, "{ ");
        for (int32_t i = 0; i < l->count; i++) {
            text_printf(t, "%s = ", l->key[i]);
            if (l->text[i] != NULL)
                text_add_quoted(t, l->text[i]);
            else
                print_number(t, l->number[i]);
            text_add(t, "; ");
        }
        text_add(t, "}");
        break;
    }
    case OPTION_GROUP:
    case OPTION_LIST:
    case OPTION_WHERE:
        break;
    }
}

static void print_table(const struct option_table *table, const void *object, int32_t indent,
                        struct text *out);

static void print_list(const struct option *o, const void *object, int32_t indent, struct text *out)
{
    const char *items = *(char *const *)field_of(o, object);
    int32_t count = *(const int32_t *)(const void *)((const char *)object + o->count_offset);
    text_printf(out, "%*s%s = (", indent, "", o->key);
    for (int32_t i = 0; i < count; i++) {
        text_printf(out, "%s\n%*s{\n", i > 0 ? "," : "", indent + 2, "");
        print_table(o->table, items + (size_t)i * o->table->size, indent + 4, out);
        text_printf(out, "%*s}", indent + 2, "");
    }
    text_add(out, count > 0 ? "\n" : "");
    text_printf(out, "%*s);\n", count > 0 ? indent : 1, "");
}

static void print_table(const struct option_table *table, const void *object, int32_t indent,
                        struct text *out)
{
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        if (o->type == OPTION_WHERE)
            continue;
        if (o->type == OPTION_LIST) {
            print_list(o, object, indent, out);
        } else if (o->type == OPTION_GROUP) {
            text_printf(out, "%*s%s = {\n", indent, "", o->key);
            print_table(o->table, field_of(o, object), indent + 2, out);
            text_printf(out, "%*s};\n", indent, "");
        } else {
            struct text value = {0};
            print_value(&value, o, object);
            out->failed = out->failed || value.failed;
            if (value.count == 0)
                text_printf(out, "%*s// %s: not set\n", indent, "", o->key);
            else
                text_printf(out, "%*s%s = %s;\n", indent, "", o->key, value.bytes);
            text_release(&value);
        }
    }
}

void options_print(const struct option_table *table, const void *object, struct text *out)
{
    print_table(table, object, 0, out);
}

static mt_status each(const struct option_table *table, const void *object, const char *path,
                      options_visit visit, void *context)
{
    char key[CONFIG_PATH_BYTES];
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        if (o->type == OPTION_WHERE)
            continue;
        (void)snprintf(key, sizeof key, "%s%s%s", path, path[0] != '\0' ? "." : "", o->key);
        if (o->type == OPTION_GROUP) {
            MT_TRY(each(o->table, field_of(o, object), key, visit, context));
        } else if (o->type == OPTION_LIST) {
            const char *items = *(char *const *)field_of(o, object);
            int32_t n = *(const int32_t *)(const void *)((const char *)object + o->count_offset);
            for (int32_t k = 0; k < n; k++) {
                char element[CONFIG_PATH_BYTES + 16];
                (void)snprintf(element, sizeof element, "%s[%d]", key, k);
                MT_TRY(each(o->table, items + (size_t)k * o->table->size, element, visit, context));
            }
        } else {
            struct text value = {0};
            print_value(&value, o, object);
            if (value.failed)
                return MT_FAIL(MT_NOMEM, "out of memory while printing %s", key);
            visit(context, o, key, value.bytes == NULL ? "" : value.bytes);
            text_release(&value);
        }
    }
    return MT_OK;
}

mt_status options_each(const struct option_table *table, const void *object, options_visit visit,
                       void *context)
{
    return each(table, object, "", visit, context);
}

struct hashing {
    struct hash64 hash;
    enum option_class least;
};

static void hash_value(void *context, const struct option *o, const char *key, const char *text)
{
    struct hashing *h = context;
    if (o->change < h->least)
        return;
    hash64_add_string(&h->hash, key);
    hash64_add_string(&h->hash, text);
}

mt_status options_hash(const struct option_table *table, const void *object,
                       enum option_class least, uint64_t *out)
{
    struct hashing h = {.least = least};
    hash64_init(&h.hash, 0);
    MT_TRY(options_each(table, object, hash_value, &h));
    *out = hash64_value(&h.hash);
    return MT_OK;
}

static const char *type_name(enum option_type type)
{
    static const char *const names[] = {
        [OPTION_BOOL] = "true or false",
        [OPTION_INT] = "whole number",
        [OPTION_BYTES] = "size",
        [OPTION_REAL] = "number",
        [OPTION_STRING] = "string",
        [OPTION_PATH] = "path",
        [OPTION_CHOICE] = "word",
        [OPTION_DURATION] = "duration",
        [OPTION_STRINGS] = "list of strings",
        [OPTION_PATHS] = "list of paths",
        [OPTION_REALS] = "list of numbers",
        [OPTION_WEIGHTS] = "{ name = number }",
        [OPTION_SETTINGS] = "{ key = value }",
        [OPTION_GROUP] = "group",
        [OPTION_LIST] = "list of groups",
        [OPTION_WHERE] = "",
    };
    return names[type];
}

static void document_range(const struct option *o, struct text *out)
{
    bool number = o->type == OPTION_INT || o->type == OPTION_REAL || o->type == OPTION_REALS ||
                  o->type == OPTION_WEIGHTS || o->type == OPTION_BYTES;
    if (number && o->min < o->max && isinf(o->max))
        text_printf(out, ", at least %.12g", o->min);
    else if (number && o->min < o->max)
        text_printf(out, ", %.12g to %.12g", o->min, o->max);
    if (o->unit != NULL)
        text_printf(out, ", in %s", o->unit);
    if (o->type == OPTION_CHOICE)
        for (int i = 0; o->choices[i] != NULL; i++)
            text_printf(out, "%s`%s`", i == 0 ? ": " : ", ", o->choices[i]);
}

static void document_table(const struct option_table *table, const char *name, struct text *out)
{
    static const char *const change[] = {"yes", "with `--accept-changes`", "no"};
    text_add(out, "\n| key | type | default | meaning | may change at a resume |\n"
                  "|---|---|---|---|---|\n");
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        if (o->type == OPTION_WHERE)
            continue;
        text_printf(out, "| `%s` | %s", o->key, type_name(o->type));
        document_range(o, out);
        if ((o->flags & OPTION_REQUIRED) != 0)
            text_add(out, " | required");
        else if (o->fallback != NULL)
            text_printf(out, " | `%s`", o->fallback);
        else
            text_add(out, " | ");
        text_printf(out, " | %s | %s |\n", o->help,
                    o->type == OPTION_GROUP || o->type == OPTION_LIST ? "" : change[o->change]);
    }
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        if (o->type != OPTION_GROUP && o->type != OPTION_LIST)
            continue;
        char inner[CONFIG_PATH_BYTES];
        (void)snprintf(inner, sizeof inner, "%s%s%s%s", name, name[0] != '\0' ? "." : "", o->key,
                       o->type == OPTION_LIST ? "[]" : "");
        text_printf(out, "\n## `%s`\n\n%s%c%s.", inner, "",
                    o->help[0] >= 'a' && o->help[0] <= 'z' ? o->help[0] - 'a' + 'A' : o->help[0],
                    o->help + 1);
        if (o->table->scalar_key != NULL)
            text_printf(out, " A single value instead of the group means `%s`.",
                        o->table->scalar_key);
        text_add(out, "\n");
        document_table(o->table, inner, out);
    }
}

void options_document(const struct option_table *table, const char *title, struct text *out)
{
    text_printf(out, "# %s\n", title);
    document_table(table, "", out);
}

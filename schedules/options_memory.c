/* See options.h.  What an object owns: strings and lists, released and copied by the same table
 * that reads them. */
#include "schedules/options.h"

#include <string.h>

#include "comm/base/memory.h"

static void *field_of(const struct option *o, void *object)
{
    return (char *)object + o->offset;
}

static int32_t *count_of(const struct option *o, void *object)
{
    return (int32_t *)(void *)((char *)object + o->count_offset);
}

mt_status options_set_string(char **field, const char *text)
{
    char *copy = NULL;
    if (text != NULL)
        MT_TRY(mt_strdup(&copy, text));
    mt_free(field);
    *field = copy;
    return MT_OK;
}

mt_status string_list_add(struct string_list *list, const char *text)
{
    MT_TRY(mt_grow(&list->item, list->count, list->count + 1, sizeof *list->item, "a list"));
    MT_TRY(mt_strdup(&list->item[list->count], text));
    list->count++;
    return MT_OK;
}

int32_t string_list_find(const struct string_list *list, const char *text)
{
    for (int32_t i = 0; i < list->count; i++)
        if (strcmp(list->item[i], text) == 0)
            return i;
    return -1;
}

int32_t weight_list_find(const struct weight_list *list, const char *name)
{
    for (int32_t i = 0; i < list->count; i++)
        if (strcmp(list->name[i], name) == 0)
            return i;
    return -1;
}

/* Frees an array of strings. */
static void strings_free(char ***items, int32_t count)
{
    for (int32_t i = 0; *items != NULL && i < count; i++)
        mt_free(&(*items)[i]);
    mt_free(items);
}

static mt_status strings_copy(char ***out, char *const *items, int32_t count)
{
    MT_TRY(mt_alloc(out, count, sizeof **out, "a list"));
    for (int32_t i = 0; i < count; i++)
        if (items[i] != NULL)
            MT_TRY(mt_strdup(&(*out)[i], items[i]));
    return MT_OK;
}

void options_release(const struct option_table *table, void *object)
{
    for (int32_t i = 0; i < table->count; i++) {
        const struct option *o = &table->option[i];
        void *field = field_of(o, object);
        switch (o->type) {
        case OPTION_BOOL:
        case OPTION_INT:
        case OPTION_BYTES:
        case OPTION_REAL:
        case OPTION_CHOICE:
        case OPTION_DURATION:
            break;
        case OPTION_STRING:
        case OPTION_PATH:
        case OPTION_WHERE:
            mt_free(field);
            break;
        case OPTION_STRINGS:
        case OPTION_PATHS: {
            struct string_list *l = field;
            strings_free(&l->item, l->count);
            mt_free(&l->where);
            break;
        }
        case OPTION_REALS:
            mt_free(&((struct real_list *)field)->item);
            break;
        case OPTION_WEIGHTS: {
            struct weight_list *l = field;
            strings_free(&l->name, l->count);
            mt_free(&l->value);
            mt_free(&l->where);
            break;
        }
        case OPTION_SETTINGS: {
            struct setting_list *l = field;
            strings_free(&l->key, l->count);
            strings_free(&l->text, l->count);
            mt_free(&l->number);
            mt_free(&l->where);
            break;
        }
        case OPTION_GROUP:
            options_release(o->table, field);
            break;
        case OPTION_LIST: {
            char *items = *(char **)field;
            for (int32_t k = 0; items != NULL && k < *count_of(o, object); k++)
                options_release(o->table, items + (size_t)k * o->table->size);
            mt_free(field);
            break;
        }
        }
    }
    memset(object, 0, table->size);
}

static mt_status copy_field(const struct option *o, void *out, const void *object)
{
    void *to = (char *)out + o->offset;
    const void *from = (const char *)object + o->offset;
    switch (o->type) {
    case OPTION_BOOL:
        *(bool *)to = *(const bool *)from;
        return MT_OK;
    case OPTION_INT:
    case OPTION_BYTES:
        *(int64_t *)to = *(const int64_t *)from;
        return MT_OK;
    case OPTION_REAL:
        *(double *)to = *(const double *)from;
        return MT_OK;
    case OPTION_CHOICE:
        *(int32_t *)to = *(const int32_t *)from;
        return MT_OK;
    case OPTION_DURATION:
        *(struct duration *)to = *(const struct duration *)from;
        return MT_OK;
    case OPTION_STRING:
    case OPTION_PATH:
    case OPTION_WHERE:
        return options_set_string(to, *(char *const *)from);
    case OPTION_STRINGS:
    case OPTION_PATHS: {
        struct string_list *l = to;
        const struct string_list *f = from;
        l->count = f->count;
        MT_TRY(strings_copy(&l->item, f->item, f->count));
        return options_set_string(&l->where, f->where);
    }
    case OPTION_REALS: {
        struct real_list *l = to;
        const struct real_list *f = from;
        MT_TRY(mt_alloc(&l->item, f->count, sizeof *l->item, "a list"));
        l->count = f->count;
        for (int32_t i = 0; i < f->count; i++)
            l->item[i] = f->item[i];
        return MT_OK;
    }
    case OPTION_WEIGHTS: {
        struct weight_list *l = to;
        const struct weight_list *f = from;
        l->count = f->count;
        MT_TRY(strings_copy(&l->name, f->name, f->count));
        MT_TRY(mt_alloc(&l->value, f->count, sizeof *l->value, "a list"));
        for (int32_t i = 0; i < f->count; i++)
            l->value[i] = f->value[i];
        return options_set_string(&l->where, f->where);
    }
    case OPTION_SETTINGS: {
        struct setting_list *l = to;
        const struct setting_list *f = from;
        l->count = f->count;
        MT_TRY(strings_copy(&l->key, f->key, f->count));
        MT_TRY(strings_copy(&l->text, f->text, f->count));
        MT_TRY(mt_alloc(&l->number, f->count, sizeof *l->number, "a list"));
        for (int32_t i = 0; i < f->count; i++)
            l->number[i] = f->number[i];
        return options_set_string(&l->where, f->where);
    }
    case OPTION_GROUP:
        return options_copy(o->table, to, from);
    case OPTION_LIST: {
        int32_t count = *(const int32_t *)(const void *)((const char *)object + o->count_offset);
        const char *items = *(char *const *)from;
        MT_TRY(mt_alloc(to, count, o->table->size, o->key));
        *count_of(o, out) = count;
        for (int32_t k = 0; k < count; k++)
            MT_TRY(options_copy(o->table, *(char **)to + (size_t)k * o->table->size,
                                items + (size_t)k * o->table->size));
        return MT_OK;
    }
    }
    return MT_OK;
}

mt_status options_copy(const struct option_table *table, void *out, const void *object)
{
    memset(out, 0, table->size);
    for (int32_t i = 0; i < table->count; i++) {
        mt_status st = copy_field(&table->option[i], out, object);
        if (st != MT_OK) {
            options_release(table, out);
            return st;
        }
    }
    return MT_OK;
}

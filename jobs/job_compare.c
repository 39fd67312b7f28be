/* See job.h.  Two jobs as two flat lists of key and text; both are in the order of the tables, but
 * lists may differ in length, so each key is looked up. */
#include <string.h>

#include "comm/base/memory.h"
#include "jobs/job.h"

static mt_status append(struct job_changes *list, const char *key, const char *before,
                        const char *after, enum option_class change)
{
    if (list->count == list->capacity) {
        int32_t grown = list->capacity == 0 ? 128 : 2 * list->capacity;
        MT_TRY(
            mt_grow(&list->change, list->capacity, grown, sizeof *list->change, "keys of a job"));
        list->capacity = grown;
    }
    struct job_change *c = &list->change[list->count++];
    c->change = change;
    MT_TRY(mt_strdup(&c->key, key));
    MT_TRY(mt_strdup(&c->before, before));
    return mt_strdup(&c->after, after);
}

struct flattening {
    struct job_changes *list;
    mt_status status;
};

static void flatten(void *context, const struct option *o, const char *key, const char *text)
{
    struct flattening *f = context;
    if (f->status == MT_OK)
        f->status = append(f->list, key, text, text, o->change);
}

static mt_status flatten_job(const struct job *job, struct job_changes *out)
{
    struct flattening f = {out, MT_OK};
    MT_TRY(options_each(&job_options, job, flatten, &f));
    return f.status;
}

/* The key's text; keys are met in nearly the same order, so the search begins at *at. */
static const char *look_up(const struct job_changes *list, const char *key, int32_t *at)
{
    for (int32_t n = 0; n < list->count; n++) {
        int32_t i = (*at + n) % list->count;
        if (strcmp(list->change[i].key, key) != 0)
            continue;
        *at = i + 1;
        return list->change[i].before;
    }
    return NULL;
}

static mt_status compare(const struct job_changes *a, const struct job_changes *b,
                         struct job_changes *out)
{
    int32_t at = 0;
    for (int32_t i = 0; i < a->count; i++) {
        const struct job_change *c = &a->change[i];
        const char *after = look_up(b, c->key, &at);
        if (after == NULL || strcmp(after, c->before) != 0)
            MT_TRY(append(out, c->key, c->before, after == NULL ? "" : after, c->change));
    }
    at = 0;
    for (int32_t i = 0; i < b->count; i++)
        if (look_up(a, b->change[i].key, &at) == NULL)
            MT_TRY(append(out, b->change[i].key, "", b->change[i].after, b->change[i].change));
    return MT_OK;
}

mt_status job_compare(const struct job *before, const struct job *after, struct job_changes *out)
{
    struct job_changes a = {0}, b = {0}, changes = {0};
    mt_status st;
    MT_TRY_GOTO(st, flatten_job(before, &a), done);
    MT_TRY_GOTO(st, flatten_job(after, &b), done);
    MT_TRY_GOTO(st, compare(&a, &b, &changes), done);
    *out = changes;
    memset(&changes, 0, sizeof changes);
done:
    job_changes_release(&changes);
    job_changes_release(&a);
    job_changes_release(&b);
    return st;
}

void job_changes_release(struct job_changes *c)
{
    for (int32_t i = 0; i < c->count; i++) {
        mt_free(&c->change[i].key);
        mt_free(&c->change[i].before);
        mt_free(&c->change[i].after);
    }
    mt_free(&c->change);
    memset(c, 0, sizeof *c);
}

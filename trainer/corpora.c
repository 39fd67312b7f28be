/* See corpora.h.  Training data come first, because their labels are the names for dev and test. */
#include "trainer/corpora.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/stop.h"
#include "io/file.h"
#include "io/pack.h"
#include "io/shard_manifest.h"

static const char *const names[SPLIT_COUNT] = {"train", "dev", "test"};

const char *split_name(enum split s)
{
    return names[s];
}

bool split_parse(enum split *out, const char *name)
{
    for (int32_t s = 0; s < SPLIT_COUNT; s++) {
        if (strcmp(names[s], name) == 0) {
            *out = (enum split)s;
            return true;
        }
    }
    return false;
}

static const struct string_list *files_of(const struct job_data *d, enum split s)
{
    return s == SPLIT_TRAIN ? &d->train : s == SPLIT_DEV ? &d->dev : &d->test;
}

bool corpora_is_packed(const struct job_data *d, const char *path)
{
    return d->format == JOB_FORMAT_H5 || file_is_dir(path) ||
           file_path_has_extension(path, ".h5") ||
           strcmp(file_path_base(path), "manifest.json") == 0;
}

void corpora_describe_packing(struct corpora_packing *p, const struct corpora *c,
                              const struct job *job, int32_t set)
{
    static const enum text_kind kind_of[] = {[JOB_FORMAT_AUTO] = TEXT_BY_EXTENSION,
                                             [JOB_FORMAT_TSV] = TEXT_TSV,
                                             [JOB_FORMAT_CSV] = TEXT_CSV,
                                             [JOB_FORMAT_JSONL] = TEXT_JSONL,
                                             [JOB_FORMAT_H5] = TEXT_BY_EXTENSION};
    const struct job_data *d = &job->data[set];
    memset(p, 0, sizeof *p);
    p->options.text_column = d->text;
    p->options.pair_column = d->pair;
    p->options.max_tokens = (int32_t)job->model.max_tokens;
    p->options.labels = p->label;
    p->options.format.kind = kind_of[d->format];
    p->options.format.headerless = !d->header;
    p->options.format.bad_bytes = d->utf8 == JOB_UTF8_ERROR ? TEXT_ERROR : TEXT_REPLACE;
    p->options.format.delimiter = d->delimiter != NULL ? d->delimiter[0] : '\0';
    for (int32_t t = 0; t < job->task_count; t++) {
        if (job->tasks[t].set != set)
            continue;
        struct pack_label *l = &p->label[p->options.label_count++];
        l->task = job->tasks[t].name;
        l->column = job->tasks[t].column;
        l->name_count = c != NULL ? c->labels[t].count : 0;
        l->names = l->name_count > 0 ? (const char *const *)c->labels[t].item : NULL;
    }
}

struct pack_view {
    struct log_progress progress;
};

static void show_packing(void *context, int64_t done_bytes, int64_t total_bytes, int64_t rows)
{
    struct pack_view *view = context;
    (void)rows;
    progress_show(&view->progress, done_bytes, total_bytes, NULL);
}

static bool goes_on(void *context)
{
    (void)context;
    return !stop_requested_local();
}

/* Root.  Takes a packed folder that is damaged out of the way. */
static mt_status drop_damaged(const char *folder)
{
    if (!file_is_dir(folder))
        return MT_OK;
    mt_status st = shard_manifest_verify(folder, goes_on, NULL);
    if (st != MT_DATA)
        return st;
    log_warning("%s; it is packed anew", mt_error_peek()->message);
    mt_error_clear();
    return file_remove(folder);
}

/* Root.  Makes sure that the packed folder of one split is there; answers its path. */
static mt_status pack_split(const struct corpora *c, const struct job *job,
                            const struct vocab *vocab, int32_t set, enum split split,
                            const char *shards_dir, char **out)
{
    const struct string_list *files = files_of(&job->data[set], split);
    struct corpora_packing p;
    char *folder = NULL, name[256], hex[HASH_TEXT_BYTES];
    uint64_t key;
    mt_status st;
    corpora_describe_packing(&p, c, job, set);
    p.options.go_on = goes_on;
    MT_TRY_GOTO(st,
                pack_key(&p.options, vocab, (const char *const *)files->item, files->count, &key),
                done);
    hash64_format(hex, key);
    (void)snprintf(name, sizeof name, "%.128s-%s-%s", job->data[set].name, split_name(split), hex);
    MT_TRY_GOTO(st, file_path_join(&folder, shards_dir, name), done);
    MT_TRY_GOTO(st, drop_damaged(folder), done);
    if (!file_is_dir(folder)) {
        struct pack_view view;
        struct pack_result result;
        MT_TRY_GOTO(st, file_make_dir(shards_dir), done);
        progress_begin(&view.progress, "packing", "bytes", 0);
        p.options.progress = show_packing;
        p.options.progress_context = &view;
        MT_TRY_GOTO(st,
                    pack_files(&p.options, vocab, (const char *const *)files->item, files->count,
                               folder, &result),
                    done);
        progress_end(&view.progress);
        log_info("packed %s (%s): %lld sentences, %lld tokens, %.2f %% unknown, %lld truncated",
                 job->data[set].name, split_name(split), (long long)result.rows,
                 (long long)result.tokens,
                 100.0 * (double)result.unknown_tokens / (double)result.tokens,
                 (long long)result.truncated_rows);
        if (result.replaced_bytes > 0)
            log_warning("%s (%s): %lld byte sequences were not UTF-8 and became U+FFFD",
                        job->data[set].name, split_name(split), (long long)result.replaced_bytes);
    }
    *out = folder;
    folder = NULL;
done:
    mt_free(&folder);
    if (st == MT_STOPPED)
        return MT_FAIL(MT_STOPPED,
                       "stopped by %s before the data of \"%s\" (%s) were packed; the same command "
                       "goes on from there",
                       stop_reason_text(stop_reason_local()), job->data[set].name,
                       split_name(split));
    return st;
}

/* Collective.  Where the shards of a split are: the packed folder, the same on all ranks. */
static mt_status agree_on_folder(const struct corpora *c, const struct comm *world,
                                 const struct job *job, const struct vocab *vocab, int32_t set,
                                 enum split split, const char *shards_dir, char **folder)
{
    void *path = NULL;
    int64_t bytes = 0;
    mt_status st = MT_OK;
    if (world->rank == 0) {
        char *made = NULL;
        st = pack_split(c, job, vocab, set, split, shards_dir, &made);
        path = made;
        bytes = made != NULL ? (int64_t)strlen(made) : 0;
    }
    st = comm_agree(world, st);
    if (st == MT_OK)
        st = comm_broadcast_blob(world, &path, &bytes, 0);
    if (st != MT_OK) {
        mt_free(&path);
        return st;
    }
    *folder = path;
    return MT_OK;
}

static mt_status open_split(struct corpora *c, const struct comm *world, const struct job *job,
                            const struct vocab *vocab, int32_t set, enum split split,
                            const char *shards_dir)
{
    const struct job_data *d = &job->data[set];
    const struct string_list *files = files_of(d, split);
    struct dataset **slot = &c->set[split][set];
    if (files->count == 0)
        return MT_OK;
    bool packed = corpora_is_packed(d, files->item[0]);
    for (int32_t i = 1; i < files->count; i++)
        if (corpora_is_packed(d, files->item[i]) != packed)
            return MT_FAIL(MT_CONFIG, "%s.%s: shards and text tables in one list; use one kind",
                           d->where, split_name(split));
    mt_status st;
    if (packed) {
        MT_ALL(world, dataset_open(slot, d->name, (const char *const *)files->item, files->count));
    } else {
        char *folder = NULL;
        MT_TRY(agree_on_folder(c, world, job, vocab, set, split, shards_dir, &folder));
        const char *paths[] = {folder};
        st = comm_agree(world, dataset_open(slot, d->name, paths, 1));
        mt_free(&folder);
        MT_TRY(st);
    }
    MT_ALL(world, dataset_check_vocab(*slot, vocab_hash(vocab), vocab->count, job->model.init));
    return MT_OK;
}

/* The column of a task in a set, by the task's name or, in ready-made shards, its column key. */
static int32_t find_column(const struct dataset *set, const struct job_task *task)
{
    int32_t column = dataset_find_task(set, task->name);
    return column >= 0 ? column : dataset_find_task(set, task->column);
}

static mt_status bind_task(struct corpora *c, const struct job *job, int32_t t, enum split split)
{
    const struct job_task *task = &job->tasks[t];
    const struct dataset *set = c->set[split][task->set];
    if (set == NULL)
        return MT_OK;
    int32_t column = find_column(set, task);
    if (column < 0)
        return MT_FAIL(MT_DATA,
                       "%s: the %s shards of data set \"%s\" have no labels of task \"%s\"; "
                       "name their label column in tasks.column",
                       task->where, split_name(split), job->data[task->set].name, task->name);
    const struct shard_task *labels = dataset_task(set, column);
    if (c->labels[t].count == 0)
        for (int32_t k = 0; k < labels->classes; k++)
            MT_TRY(string_list_add(&c->labels[t], labels->labels[k]));
    MT_TRY(dataset_check_labels(set, labels->name, (const char *const *)c->labels[t].item,
                                c->labels[t].count));
    c->column[split][task->set][t] = column;
    return MT_OK;
}

mt_status corpora_open(struct corpora *c, const struct comm *world, const struct job *job,
                       const struct vocab *vocab, const char *shards_dir)
{
    memset(c, 0, sizeof *c);
    memset(c->column, -1, sizeof c->column);
    c->set_count = job->data_count;
    c->task_count = job->task_count;
    for (int32_t t = 0; t < job->task_count; t++)
        for (int32_t k = 0; k < job->tasks[t].labels.count; k++)
            MT_TRY(string_list_add(&c->labels[t], job->tasks[t].labels.item[k]));
    for (int32_t s = 0; s < SPLIT_COUNT; s++) {
        for (int32_t set = 0; set < job->data_count; set++)
            MT_TRY(open_split(c, world, job, vocab, set, (enum split)s, shards_dir));
        for (int32_t t = 0; t < job->task_count; t++)
            MT_ALL(world, bind_task(c, job, t, (enum split)s));
    }
    for (int32_t t = 0; t < job->task_count; t++)
        if (c->labels[t].count < 2)
            return MT_FAIL(MT_DATA, "%s: task \"%s\" has %d label%s; it needs two or more",
                           job->tasks[t].where, job->tasks[t].name, c->labels[t].count,
                           c->labels[t].count == 1 ? "" : "s");
    return MT_OK;
}

static void release_labels(struct string_list *labels)
{
    for (int32_t k = 0; k < labels->count; k++)
        mt_free(&labels->item[k]);
    mt_free(&labels->item);
    mt_free(&labels->where);
    labels->count = 0;
}

void corpora_close(struct corpora *c)
{
    for (int32_t s = 0; s < SPLIT_COUNT; s++)
        for (int32_t set = 0; set < c->set_count; set++)
            dataset_close(&c->set[s][set]);
    for (int32_t t = 0; t < c->task_count; t++)
        release_labels(&c->labels[t]);
    c->set_count = c->task_count = 0;
}

mt_status corpora_set_hash(const struct dataset *d, uint64_t *hash)
{
    struct hash64 h;
    hash64_init(&h, 0);
    for (int32_t i = 0; i < dataset_shard_count(d); i++) {
        uint64_t one = shard_info_of(dataset_shard(d, i))->content_hash;
        if (one == 0)
            MT_TRY(shard_content_hash(dataset_shard(d, i), &one));
        hash64_add_int(&h, (int64_t)one);
    }
    *hash = hash64_value(&h);
    return MT_OK;
}

mt_status corpora_hash(const struct corpora *c, uint64_t *hash)
{
    struct hash64 h;
    hash64_init(&h, 0);
    for (int32_t set = 0; set < c->set_count; set++) {
        uint64_t one = 0;
        if (c->set[SPLIT_TRAIN][set] != NULL)
            MT_TRY(corpora_set_hash(c->set[SPLIT_TRAIN][set], &one));
        hash64_add_int(&h, (int64_t)one);
    }
    *hash = hash64_value(&h);
    return MT_OK;
}

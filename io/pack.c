/*
 * See pack.h.
 *
 * One pass: a row of text, its tokens, the writer of the current shard.  A pass over the labels
 * alone comes first where label names must be learned, because every shard carries the full list
 * and shards are finished before the last row is seen.  Cost: the tokenizer's.
 */
#include "io/pack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/hash.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/label_set.h"
#include "io/nearest.h"
#include "io/shard.h"
#include "io/shard_manifest.h"
#include "io/tokenizer.h"

enum {
    DEFAULT_MAX_TOKENS = 512,
    DEFAULT_SHARD_ROWS = 1 << 20,
    DEFAULT_SHARD_TOKENS = 64 << 20,
    PROGRESS_ROWS = 512,
    PACK_KEY_VERSION = 1
};

struct packer {
    struct pack_options options; /* defaults filled in */
    const char *const *files;
    int32_t file_count;
    struct tokenizer *tokenizer;
    struct label_set sets[SHARD_TASKS_MAX];
    struct shard_task tasks[SHARD_TASKS_MAX]; /* borrow the sets' names */
    struct shard_info info;                   /* of every shard; its counts are the totals */
    struct shard_manifest manifest;
    struct shard_writer *writer;
    char *temp_dir;
    int64_t total_bytes, done_bytes; /* of files behind the current one */
};

/* Where the columns in use stand in one file. */
struct columns {
    int32_t text, pair, labels[SHARD_TASKS_MAX];
};

static mt_status fill_options(struct pack_options *o)
{
    o->max_tokens = o->max_tokens == 0 ? DEFAULT_MAX_TOKENS : o->max_tokens;
    o->shard_rows = o->shard_rows == 0 ? DEFAULT_SHARD_ROWS : o->shard_rows;
    o->shard_tokens = o->shard_tokens == 0 ? DEFAULT_SHARD_TOKENS : o->shard_tokens;
    int32_t least = o->pair_column != NULL ? 5 : TOKENIZER_MIN_LIMIT_TOKENS;
    if (o->max_tokens < least || o->max_tokens > SHARD_ROW_TOKENS_MAX)
        return MT_FAIL(MT_ARG, "a limit of %d tokens a row; %d to %d are possible", o->max_tokens,
                       least, SHARD_ROW_TOKENS_MAX);
    if (o->shard_rows < 1 || o->shard_rows > SHARD_ROWS_MAX || o->shard_tokens < 1 ||
        o->shard_tokens > (int64_t)UINT32_MAX - SHARD_ROW_TOKENS_MAX)
        return MT_FAIL(MT_ARG,
                       "shards of %lld rows and %lld tokens; at most %d rows and %lld tokens "
                       "are possible",
                       (long long)o->shard_rows, (long long)o->shard_tokens, SHARD_ROWS_MAX,
                       (long long)UINT32_MAX - SHARD_ROW_TOKENS_MAX);
    if (o->gzip_level < 0 || o->gzip_level > 9)
        return MT_FAIL(MT_ARG, "compression level %d; 0 to 9 are possible", o->gzip_level);
    if (o->label_count < 0 || o->label_count > SHARD_TASKS_MAX)
        return MT_FAIL(MT_ARG, "%d label columns; at most %d are possible", o->label_count,
                       SHARD_TASKS_MAX);
    for (int32_t i = 0; i < o->label_count; i++)
        for (int32_t j = 0; j < i; j++)
            if (strcmp(o->labels[i].task, o->labels[j].task) == 0)
                return MT_FAIL(MT_ARG, "task \"%s\" has two label columns; give it one",
                               o->labels[i].task);
    return MT_OK;
}

/* Columns. */

static bool has_column(const struct text_table *t, const char *name)
{
    for (int32_t i = 0; i < text_table_column_count(t); i++)
        if (strcmp(text_table_column_name(t, i), name) == 0)
            return true;
    return false;
}

static const char *text_column_of(const struct packer *p, const struct text_table *t)
{
    if (p->options.text_column != NULL)
        return p->options.text_column;
    if (p->options.format.headerless)
        return "0";
    return !has_column(t, "text") && has_column(t, "sentence") ? "sentence" : "text";
}

static mt_status find_columns(const struct packer *p, struct text_table *t, struct columns *c)
{
    MT_TRY(text_table_column(t, text_column_of(p, t), &c->text));
    c->pair = -1;
    if (p->options.pair_column != NULL)
        MT_TRY(text_table_column(t, p->options.pair_column, &c->pair));
    for (int32_t i = 0; i < p->options.label_count; i++)
        MT_TRY(text_table_column(t, p->options.labels[i].column, &c->labels[i]));
    return MT_OK;
}

/* Labels. */

static mt_status trimmed_label(const struct text_table *t, const struct text_row *row,
                               int32_t column, const char **text, int64_t *bytes)
{
    const struct text_cell *cell = &row->cells[column];
    if (cell->kind == TEXT_NESTED)
        return MT_FAIL(
            MT_DATA,
            "%s:%lld: key \"%s\" holds an object or a list, not a label; name the key of "
            "a plain value",
            text_table_path(t), (long long)row->line, text_table_column_name(t, column));
    const char *begin = cell->text, *end = cell->text + cell->bytes;
    while (begin < end && strchr(" \t\r\n", *begin) != NULL)
        begin++;
    while (end > begin && strchr(" \t\r\n", end[-1]) != NULL)
        end--;
    *text = begin;
    *bytes = end - begin;
    return MT_OK;
}

static mt_status fail_label(const struct packer *p, const struct text_table *t,
                            const struct text_row *row, int32_t label, const char *text,
                            int64_t bytes)
{
    char shown[128], list[NEAREST_TEXT_BYTES];
    const struct label_set *set = &p->sets[label];
    const char *const *names = (const char *const *)set->names;
    (void)snprintf(shown, sizeof shown, "%.*s", (int)(bytes < 100 ? bytes : 100), text);
    const char *near = nearest_name(shown, names, set->count);
    nearest_list(list, names, set->count);
    return MT_FAIL(MT_DATA,
                   "%s:%lld: column \"%s\": \"%s\" is not a label of task \"%s\"%s%s%s; its labels "
                   "are %s",
                   text_table_path(t), (long long)row->line, p->options.labels[label].column, shown,
                   p->options.labels[label].task, near != NULL ? " (did you mean \"" : "",
                   near != NULL ? near : "", near != NULL ? "\"?)" : "", list);
}

static mt_status label_of(const struct packer *p, const struct text_table *t,
                          const struct text_row *row, int32_t label, int32_t column, int32_t *value)
{
    const char *text;
    int64_t bytes;
    MT_TRY(trimmed_label(t, row, column, &text, &bytes));
    *value = bytes == 0 ? -1 : label_set_find(&p->sets[label], text, bytes);
    if (*value < 0 && bytes > 0)
        return fail_label(p, t, row, label, text, bytes);
    return MT_OK;
}

static mt_status learn_row(struct packer *p, const struct text_table *t, const struct text_row *row,
                           const struct columns *c)
{
    for (int32_t i = 0; i < p->options.label_count; i++) {
        const char *text;
        int64_t bytes;
        if (p->options.labels[i].names != NULL)
            continue;
        MT_TRY(trimmed_label(t, row, c->labels[i], &text, &bytes));
        if (bytes == 0 || label_set_find(&p->sets[i], text, bytes) >= 0)
            continue;
        mt_status st = label_set_add(&p->sets[i], text, bytes);
        if (st == MT_DATA)
            mt_error_prefix("%s:%lld: column \"%s\"", text_table_path(t), (long long)row->line,
                            p->options.labels[i].column);
        MT_TRY(st);
    }
    return MT_OK;
}

static mt_status fail_no_rows(const char *path)
{
    return MT_FAIL(MT_DATA, "%s: has a header and no rows; give a file with rows", path);
}

/* At row `row` of a file; answers now and then, not at each. */
static mt_status ask(const struct packer *p, const char *path, int64_t row)
{
    if (row % PROGRESS_ROWS != 0 || p->options.go_on == NULL ||
        p->options.go_on(p->options.go_on_context))
        return MT_OK;
    return MT_FAIL(MT_STOPPED, "stopped while packing %s", path);
}

static mt_status learn_file(struct packer *p, const char *path)
{
    struct text_table *t;
    struct columns c;
    const struct text_row *row;
    int64_t rows = 0;
    MT_TRY(text_table_open(&t, path, &p->options.format));
    mt_status st;
    MT_TRY_GOTO(st, find_columns(p, t, &c), done);
    for (;;) {
        MT_TRY_GOTO(st, text_table_next(t, &row), done);
        if (row == NULL)
            break;
        MT_TRY_GOTO(st, learn_row(p, t, row, &c), done);
        MT_TRY_GOTO(st, ask(p, path, ++rows), done);
    }
    if (rows == 0)
        st = fail_no_rows(path);
done:
    text_table_close(&t);
    return st;
}

static mt_status take_names(struct label_set *set, const struct pack_label *label)
{
    for (int32_t k = 0; k < label->name_count; k++) {
        int64_t bytes = (int64_t)strlen(label->names[k]);
        if (label_set_find(set, label->names[k], bytes) >= 0)
            return MT_FAIL(MT_ARG, "task \"%s\" names the label \"%s\" twice", label->task,
                           label->names[k]);
        MT_TRY(label_set_add(set, label->names[k], bytes));
    }
    return MT_OK;
}

static mt_status prepare_labels(struct packer *p)
{
    bool learn = false;
    for (int32_t i = 0; i < p->options.label_count; i++) {
        learn = learn || p->options.labels[i].names == NULL;
        if (p->options.labels[i].names != NULL)
            MT_TRY(take_names(&p->sets[i], &p->options.labels[i]));
    }
    for (int32_t i = 0; learn && i < p->file_count; i++)
        MT_TRY(learn_file(p, p->files[i]));
    for (int32_t i = 0; i < p->options.label_count; i++)
        if (p->options.labels[i].names == NULL)
            label_set_sort(&p->sets[i]);
    for (int32_t i = 0; i < p->options.label_count; i++) {
        const struct pack_label *label = &p->options.labels[i];
        if (p->sets[i].count == 0)
            return MT_FAIL(MT_DATA, "%s: column \"%s\" of task \"%s\" has no label in any row",
                           p->files[0], label->column, label->task);
        if (strlen(label->task) >= SHARD_TASK_NAME_BYTES)
            return MT_FAIL(MT_ARG, "the name of task \"%.40s...\" has more than %d bytes",
                           label->task, SHARD_TASK_NAME_BYTES - 1);
        (void)snprintf(p->tasks[i].name, sizeof p->tasks[i].name, "%s", label->task);
        p->tasks[i].classes = p->sets[i].count;
        p->tasks[i].labels = p->sets[i].names;
    }
    return MT_OK;
}

/* Shards. */

static mt_status finish_shard(struct packer *p)
{
    struct manifest_shard listed = {0};
    struct shard_info totals;
    char *path = NULL;
    (void)snprintf(listed.file, sizeof listed.file, "shard-%05d.h5", p->manifest.shard_count);
    mt_status st;
    MT_TRY_GOTO(st, shard_writer_commit(&p->writer, &totals), done);
    MT_TRY_GOTO(st, file_path_join(&path, p->temp_dir, listed.file), done);
    MT_TRY_GOTO(st, file_hash(&listed.hash, &listed.size_bytes, path), done);
    listed.rows = totals.rows;
    listed.tokens = totals.tokens;
    p->info.rows += totals.rows;
    p->info.tokens += totals.tokens;
    p->info.unknown_tokens += totals.unknown_tokens;
    p->info.truncated_rows += totals.truncated_rows;
    p->info.replaced_bytes += totals.replaced_bytes;
    MT_TRY_GOTO(st, shard_manifest_add(&p->manifest, &listed), done);
done:
    mt_free(&path);
    return st;
}

static mt_status begin_shard(struct packer *p)
{
    char name[MANIFEST_NAME_BYTES], *path;
    if (p->manifest.shard_count == MANIFEST_SHARDS_MAX)
        return MT_FAIL(MT_ARG, "more than %d shards; allow more rows a shard", MANIFEST_SHARDS_MAX);
    (void)snprintf(name, sizeof name, "shard-%05d.h5", p->manifest.shard_count);
    MT_TRY(file_path_join(&path, p->temp_dir, name));
    mt_status st = shard_writer_open(&p->writer, path, &p->info, p->options.gzip_level);
    mt_free(&path);
    return st;
}

static mt_status append_row(struct packer *p, const struct shard_row *row)
{
    if (p->writer != NULL &&
        (shard_writer_rows(p->writer) >= p->options.shard_rows ||
         shard_writer_tokens(p->writer) + row->token_count > p->options.shard_tokens))
        MT_TRY(finish_shard(p));
    if (p->writer == NULL)
        MT_TRY(begin_shard(p));
    return shard_writer_append(p->writer, row);
}

static mt_status check_text(const struct text_table *t, const struct text_row *row, int32_t column)
{
    const struct text_cell *cell = &row->cells[column];
    if (cell->kind == TEXT_VALUE)
        return MT_OK;
    return MT_FAIL(MT_DATA, "%s:%lld: %s under the key \"%s\", where the text should be",
                   text_table_path(t), (long long)row->line,
                   cell->kind == TEXT_MISSING ? "nothing" : "an object or a list",
                   text_table_column_name(t, column));
}

static mt_status pack_row(struct packer *p, const struct text_table *t, const struct text_row *row,
                          const struct columns *c, int64_t replaced)
{
    const struct text_cell *text = &row->cells[c->text];
    const struct text_cell *pair = c->pair >= 0 ? &row->cells[c->pair] : NULL;
    int32_t labels[SHARD_TASKS_MAX];
    struct encoding e;
    MT_TRY(check_text(t, row, c->text));
    if (pair != NULL)
        MT_TRY(check_text(t, row, c->pair));
    for (int32_t i = 0; i < p->options.label_count; i++)
        MT_TRY(label_of(p, t, row, i, c->labels[i], &labels[i]));
    MT_TRY(tokenizer_encode(p->tokenizer, text->text, text->bytes, pair != NULL ? pair->text : NULL,
                            pair != NULL ? pair->bytes : 0, p->options.max_tokens, &e));
    struct shard_row out = {.ids = e.ids,
                            .types = e.types,
                            .labels = labels,
                            .token_count = e.count,
                            .unknown_tokens = e.unknown,
                            .replaced_bytes = replaced,
                            .truncated = e.truncated};
    return append_row(p, &out);
}

static void report(const struct packer *p, const struct text_table *t, int64_t rows)
{
    if (p->options.progress != NULL)
        p->options.progress(p->options.progress_context,
                            p->done_bytes + (t != NULL ? text_table_bytes_read(t) : 0),
                            p->total_bytes, rows);
}

static mt_status pack_file(struct packer *p, const char *path, int64_t *rows)
{
    struct text_table *t;
    struct columns c;
    const struct text_row *row;
    int64_t replaced = 0, before = *rows;
    MT_TRY(text_table_open(&t, path, &p->options.format));
    mt_status st;
    MT_TRY_GOTO(st, find_columns(p, t, &c), done);
    for (;;) {
        MT_TRY_GOTO(st, text_table_next(t, &row), done);
        if (row == NULL)
            break;
        int64_t now = text_table_replaced(t);
        MT_TRY_GOTO(st, pack_row(p, t, row, &c, now - replaced), done);
        replaced = now;
        MT_TRY_GOTO(st, ask(p, path, ++*rows), done);
        if (*rows % PROGRESS_ROWS == 0)
            report(p, t, *rows);
    }
    if (*rows == before)
        st = fail_no_rows(path);
done:
    text_table_close(&t);
    return st;
}

/* Sources. */

static void describe_tokenizer(const struct vocab *v, char text[SHARD_TOKENIZER_BYTES])
{
    (void)snprintf(text, SHARD_TOKENIZER_BYTES,
                   "wordpiece lowercase=%d strip_accents=%d chinese_chars=%d clean_text=%d",
                   v->flags.lowercase, v->flags.strip_accents, v->flags.chinese_chars,
                   v->flags.clean_text);
}

static mt_status hash_sources(struct packer *p)
{
    struct hash64 sum;
    hash64_init(&sum, 0);
    MT_TRY(mt_alloc(&p->manifest.sources, p->file_count, sizeof *p->manifest.sources, "sources"));
    for (int32_t i = 0; i < p->file_count; i++) {
        struct manifest_source *source = &p->manifest.sources[i];
        MT_TRY(file_hash_large(&source->hash, &source->size_bytes, p->files[i], p->options.go_on,
                               p->options.go_on_context));
        MT_TRY(mt_strdup(&source->path, p->files[i]));
        p->manifest.source_count++;
        p->total_bytes += source->size_bytes;
        hash64_add_int(&sum, (int64_t)source->hash);
    }
    p->info.source_hash = hash64_value(&sum);
    return MT_OK;
}

static mt_status make_temp_dir(struct packer *p, const char *out_dir)
{
    struct file_list list;
    if (file_is_dir(out_dir)) {
        MT_TRY(file_list_read(&list, out_dir));
        int32_t count = list.count;
        file_list_release(&list);
        if (count > 0)
            return MT_FAIL(
                MT_ARG, "%s: exists and is not empty; remove it or choose another folder", out_dir);
    } else if (file_exists(out_dir)) {
        return MT_FAIL(MT_ARG, "%s: is a file; choose another folder", out_dir);
    }
    size_t length = strlen(out_dir);
    while (length > 1 && out_dir[length - 1] == '/')
        length--;
    int64_t room = (int64_t)length + 32;
    MT_TRY(mt_alloc(&p->temp_dir, room, 1, "temporary name"));
    (void)snprintf(p->temp_dir, (size_t)room, "%.*s.tmp-%ld", (int)length, out_dir, (long)getpid());
    MT_TRY(file_remove(p->temp_dir));
    return file_make_dir(p->temp_dir);
}

static mt_status pack_all(struct packer *p, const char *out_dir)
{
    int64_t rows = 0;
    MT_TRY(hash_sources(p));
    MT_TRY(prepare_labels(p));
    MT_TRY(make_temp_dir(p, out_dir));
    for (int32_t i = 0; i < p->file_count; i++) {
        MT_TRY(pack_file(p, p->files[i], &rows));
        p->done_bytes += p->manifest.sources[i].size_bytes;
    }
    if (p->writer != NULL)
        MT_TRY(finish_shard(p));
    report(p, NULL, rows);
    MT_TRY(shard_manifest_write(&p->manifest, p->temp_dir, &p->options, &p->info));
    return file_rename(p->temp_dir, out_dir);
}

mt_status pack_files(const struct pack_options *options, const struct vocab *vocab,
                     const char *const *files, int32_t file_count, const char *out_dir,
                     struct pack_result *result)
{
    struct packer *p;
    if (file_count < 1)
        return MT_FAIL(MT_ARG, "no files to pack; name at least one .tsv, .csv or .jsonl file");
    MT_TRY(mt_alloc(&p, 1, sizeof *p, "packer"));
    p->options = *options;
    p->files = files;
    p->file_count = file_count;
    mt_status st;
    MT_TRY_GOTO(st, fill_options(&p->options), done);
    p->info.vocab_size = vocab->count;
    p->info.vocab_hash = vocab_hash(vocab);
    p->info.max_tokens = p->options.max_tokens;
    p->info.has_types = p->options.pair_column != NULL;
    p->info.tasks = p->tasks;
    p->info.task_count = p->options.label_count;
    describe_tokenizer(vocab, p->info.tokenizer);
    MT_TRY_GOTO(st, tokenizer_create(&p->tokenizer, vocab, NULL), done);
    MT_TRY_GOTO(st, pack_all(p, out_dir), done);
    if (result != NULL)
        *result = (struct pack_result){p->info.rows,           p->info.tokens,
                                       p->info.unknown_tokens, p->info.truncated_rows,
                                       p->info.replaced_bytes, p->manifest.shard_count};
done:
    shard_writer_discard(&p->writer);
    if (st != MT_OK && p->temp_dir != NULL) {
        struct mt_error kept;
        mt_error_get(&kept);
        if (file_remove(p->temp_dir) != MT_OK) /* the first failure is the one to tell */
            mt_error_clear();
        st = mt_error_set(&kept);
    }
    for (int32_t i = 0; i < SHARD_TASKS_MAX; i++)
        label_set_release(&p->sets[i]);
    shard_manifest_release(&p->manifest);
    tokenizer_destroy(&p->tokenizer);
    mt_free(&p->temp_dir);
    mt_free(&p);
    return st;
}

static void add_text(struct hash64 *sum, const char *text)
{
    hash64_add_int(sum, text != NULL);
    if (text != NULL)
        hash64_add_string(sum, text);
}

mt_status pack_key(const struct pack_options *options, const struct vocab *vocab,
                   const char *const *files, int32_t file_count, uint64_t *key)
{
    struct pack_options o = *options;
    struct hash64 sum;
    MT_TRY(fill_options(&o));
    const int64_t numbers[] = {
        PACK_KEY_VERSION,   SHARD_FORMAT_VERSION, MANIFEST_VERSION,   (int64_t)vocab_hash(vocab),
        vocab->count,       o.max_tokens,         o.gzip_level,       o.shard_rows,
        o.shard_tokens,     o.format.kind,        o.format.bad_bytes, o.format.headerless,
        o.format.delimiter, o.format.columns,     o.label_count,      file_count};
    hash64_init(&sum, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        hash64_add_int(&sum, numbers[i]);
    add_text(&sum, o.text_column);
    add_text(&sum, o.pair_column);
    for (int32_t i = 0; i < o.label_count; i++) {
        const struct pack_label *label = &o.labels[i];
        add_text(&sum, label->task);
        add_text(&sum, label->column);
        hash64_add_int(&sum, label->names == NULL ? -1 : label->name_count);
        for (int32_t k = 0; label->names != NULL && k < label->name_count; k++)
            add_text(&sum, label->names[k]);
    }
    for (int32_t i = 0; i < file_count; i++) {
        uint64_t hash;
        const char *dot = strrchr(file_path_base(files[i]), '.');
        MT_TRY(file_hash_large(&hash, NULL, files[i], o.go_on, o.go_on_context));
        hash64_add_int(&sum, (int64_t)hash);
        add_text(&sum, dot); /* which may decide how the file is read */
    }
    *key = hash64_value(&sum);
    return MT_OK;
}

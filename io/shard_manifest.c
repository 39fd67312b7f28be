/* See shard_manifest.h.  Keys are written in a fixed order and without times: equal packings give
 * equal bytes. */
#include "io/shard_manifest.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"
#include "io/pack.h"
#include "io/shard.h"

enum { MANIFEST_BYTES_MAX = 256 << 20 };

mt_status shard_manifest_add(struct shard_manifest *m, const struct manifest_shard *s)
{
    if (m->shard_count == m->shard_capacity) {
        int32_t grown = m->shard_capacity == 0 ? 8 : m->shard_capacity * 2;
        MT_TRY(mt_grow(&m->shards, m->shard_capacity, grown, sizeof *m->shards, "shard list"));
        m->shard_capacity = grown;
    }
    m->shards[m->shard_count++] = *s;
    return MT_OK;
}

static void write_shards(struct json_writer *w, const struct shard_manifest *m)
{
    json_write_array(w, "shards");
    for (int32_t i = 0; i < m->shard_count; i++) {
        const struct manifest_shard *s = &m->shards[i];
        json_write_object(w, NULL);
        json_write_string(w, "file", s->file);
        json_write_int(w, "rows", s->rows);
        json_write_int(w, "tokens", s->tokens);
        json_write_int(w, "size_bytes", s->size_bytes);
        json_write_hash(w, "hash", s->hash);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_sources(struct json_writer *w, const struct shard_manifest *m)
{
    json_write_array(w, "sources");
    for (int32_t i = 0; i < m->source_count; i++) {
        json_write_object(w, NULL);
        json_write_string(w, "path", m->sources[i].path);
        json_write_int(w, "size_bytes", m->sources[i].size_bytes);
        json_write_hash(w, "hash", m->sources[i].hash);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_options(struct json_writer *w, const struct pack_options *o)
{
    json_write_object(w, "options");
    json_write_string(w, "text_column", o->text_column);
    json_write_string(w, "pair_column", o->pair_column);
    json_write_int(w, "max_tokens", o->max_tokens);
    json_write_int(w, "gzip_level", o->gzip_level);
    json_write_int(w, "shard_rows", o->shard_rows);
    json_write_int(w, "shard_tokens", o->shard_tokens);
    json_write_string(w, "bad_bytes", o->format.bad_bytes == TEXT_ERROR ? "error" : "replace");
    json_write_bool(w, "header", !o->format.headerless);
    json_write_end(w);
}

static void write_tasks(struct json_writer *w, const struct pack_options *o,
                        const struct shard_info *info)
{
    json_write_array(w, "tasks");
    for (int32_t t = 0; t < info->task_count; t++) {
        json_write_object(w, NULL);
        json_write_string(w, "task", info->tasks[t].name);
        json_write_string(w, "column", o->labels[t].column);
        json_write_strings(w, "labels", (const char *const *)info->tasks[t].labels,
                           info->tasks[t].classes);
        json_write_end(w);
    }
    json_write_end(w);
}

mt_status shard_manifest_write(const struct shard_manifest *m, const char *dir,
                               const struct pack_options *options, const struct shard_info *info)
{
    struct json_writer w = {0};
    char *path = NULL;
    const char *text;
    int64_t bytes;
    mt_status st;
    w.indent = 2;
    json_write_object(&w, NULL);
    json_write_string(&w, "format", MANIFEST_FORMAT);
    json_write_int(&w, "version", MANIFEST_VERSION);
    json_write_int(&w, "vocab_size", info->vocab_size);
    json_write_hash(&w, "vocab_hash", info->vocab_hash);
    json_write_string(&w, "tokenizer", info->tokenizer);
    json_write_int(&w, "rows", info->rows);
    json_write_int(&w, "tokens", info->tokens);
    json_write_int(&w, "unknown_tokens", info->unknown_tokens);
    json_write_int(&w, "truncated_rows", info->truncated_rows);
    json_write_int(&w, "replaced_bytes", info->replaced_bytes);
    write_options(&w, options);
    write_tasks(&w, options, info);
    write_sources(&w, m);
    write_shards(&w, m);
    json_write_end(&w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, MANIFEST_FILE), done);
    MT_TRY_GOTO(st, file_write_atomic(path, text, bytes), done);
done:
    mt_free(&path);
    json_writer_release(&w);
    return st;
}

static mt_status read_shard(struct manifest_shard *s, const struct json_node *node)
{
    const char *file;
    MT_TRY(json_read_string(node, "file", &file));
    if (file[0] == '\0' || file[0] == '.' || strchr(file, '/') != NULL ||
        strlen(file) >= sizeof s->file)
        return MT_FAIL(MT_DATA, "\"%.60s\" is not the name of a shard in the same folder", file);
    (void)snprintf(s->file, sizeof s->file, "%s", file);
    MT_TRY(json_read_int(node, "rows", 1, SHARD_ROWS_MAX, &s->rows));
    MT_TRY(json_read_int(node, "tokens", 1, UINT32_MAX, &s->tokens));
    MT_TRY(json_read_int(node, "size_bytes", 1, INT64_MAX, &s->size_bytes));
    MT_TRY(json_read_hash(node, "hash", &s->hash));
    return MT_OK;
}

static mt_status read_lists(struct shard_manifest *m, const struct json_node *root)
{
    const char *format;
    int64_t version;
    MT_TRY(json_read_string(root, "format", &format));
    if (strcmp(format, MANIFEST_FORMAT) != 0)
        return MT_FAIL(MT_DATA, "its format is \"%.40s\", not \"%s\"", format, MANIFEST_FORMAT);
    MT_TRY(json_read_int(root, "version", MANIFEST_VERSION, MANIFEST_VERSION, &version));
    const struct json_node *shards = json_node_get(root, "shards");
    int64_t count = json_node_is_array(shards) ? json_node_count(shards) : 0;
    if (count < 1 || count > MANIFEST_SHARDS_MAX)
        return MT_FAIL(MT_DATA, "it lists no shards");
    for (int64_t i = 0; i < count; i++) {
        struct manifest_shard shard;
        MT_TRY(read_shard(&shard, json_node_at(shards, i)));
        MT_TRY(shard_manifest_add(m, &shard));
    }
    const struct json_node *sources = json_node_get(root, "sources");
    count = json_node_is_array(sources) ? json_node_count(sources) : 0;
    if (count > MANIFEST_SHARDS_MAX)
        return MT_FAIL(MT_DATA, "it lists too many sources");
    MT_TRY(mt_alloc(&m->sources, count, sizeof *m->sources, "source list"));
    for (int64_t i = 0; i < count; i++) {
        const struct json_node *node = json_node_at(sources, i);
        struct manifest_source *source = &m->sources[i];
        const char *path;
        MT_TRY(json_read_string(node, "path", &path));
        MT_TRY(json_read_int(node, "size_bytes", 0, INT64_MAX, &source->size_bytes));
        MT_TRY(json_read_hash(node, "hash", &source->hash));
        MT_TRY(mt_strdup(&source->path, path));
        m->source_count++;
    }
    return MT_OK;
}

mt_status shard_manifest_read(struct shard_manifest *m, const char *dir)
{
    struct json_doc *doc = NULL;
    char *path;
    memset(m, 0, sizeof *m);
    MT_TRY(file_path_join(&path, dir, MANIFEST_FILE));
    mt_status st;
    MT_TRY_GOTO(st, json_doc_read(&doc, path, MANIFEST_BYTES_MAX), done);
    st = read_lists(m, json_doc_root(doc));
    if (st == MT_DATA)
        mt_error_prefix("%s", path);
done:
    json_doc_destroy(&doc);
    mt_free(&path);
    if (st != MT_OK)
        shard_manifest_release(m);
    return st;
}

void shard_manifest_release(struct shard_manifest *m)
{
    for (int32_t i = 0; i < m->source_count; i++)
        mt_free(&m->sources[i].path);
    mt_free(&m->sources);
    mt_free(&m->shards);
    memset(m, 0, sizeof *m);
}

static mt_status verify_shard(const struct manifest_shard *s, const char *dir, file_go_on go_on,
                              void *context)
{
    char *path;
    int64_t bytes;
    uint64_t hash;
    MT_TRY(file_path_join(&path, dir, s->file));
    mt_status st = file_hash_large(&hash, &bytes, path, go_on, context);
    if (st == MT_OK && (bytes != s->size_bytes || hash != s->hash))
        st = MT_FAIL(MT_DATA, "%s: is damaged: its bytes are not those that were packed", path);
    mt_free(&path);
    return st;
}

mt_status shard_manifest_verify(const char *dir, file_go_on go_on, void *context)
{
    struct shard_manifest m = {0};
    MT_TRY(shard_manifest_read(&m, dir));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < m.shard_count && st == MT_OK; i++)
        st = verify_shard(&m.shards[i], dir, go_on, context);
    shard_manifest_release(&m);
    return st;
}

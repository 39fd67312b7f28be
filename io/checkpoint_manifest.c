/* See checkpoint_manifest.h.  Cost: one pass over the text each way; look-up of names is linear in
 * the number of tensors, hence the cap on it. */
#include "io/checkpoint_manifest.h"

#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"

enum { FORMAT_VERSION = 1, MANIFEST_MAX_BYTES = 32 << 20, SEAL_BYTES = 38 };

static const char FORMAT[] = "mttrain-checkpoint", FORMAT_SHARED[] = "mttrain-shared-tensors";
static const char SEAL_FORMAT[] = ",\"manifest_xxh64\":\"%s\"}\n";
static const int64_t ELEMENTS_MAX = (int64_t)1 << 40;

const char *const CHECKPOINT_GROUP_NAMES[CHECKPOINT_GROUPS] = {"params", "adam_m", "adam_v"};

static mt_status take_places(struct manifest *m)
{
    MT_TRY(mt_alloc(&m->place, (int64_t)m->table.count * CHECKPOINT_GROUPS, sizeof *m->place,
                    "the manifest"));
    for (int64_t i = 0; i < (int64_t)m->table.count * CHECKPOINT_GROUPS; i++)
        m->place[i].file = -1;
    return MT_OK;
}

mt_status manifest_init(struct manifest *m, int64_t step, const struct tensor_table *table)
{
    memset(m, 0, sizeof *m);
    m->step = step;
    m->table = *table;
    m->table.capacity = table->count;
    m->table.entry = NULL;
    mt_status st;
    MT_TRY_GOTO(st,
                mt_alloc(&m->table.entry, table->count, sizeof *m->table.entry, "the tensor table"),
                done);
    if (table->count > 0)
        memcpy(m->table.entry, table->entry, (size_t)table->count * sizeof *table->entry);
    MT_TRY_GOTO(st, take_places(m), done);
done:
    if (st != MT_OK)
        manifest_release(m);
    return st;
}

void manifest_release(struct manifest *m)
{
    tensor_table_release(&m->table);
    mt_free(&m->place);
    mt_free(&m->file);
    memset(m, 0, sizeof *m);
}

bool manifest_name_is_plain(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t length = strlen(name);
    return length > 0 && length < MANIFEST_NAME_BYTES && name[0] != '.' &&
           strspn(name, allowed) == length;
}

mt_status manifest_add_file(struct manifest *m, const char *name, bool shared, int64_t bytes,
                            uint64_t hash, int32_t *index)
{
    for (int32_t i = 0; i < m->file_count; i++)
        if (strcmp(m->file[i].name, name) == 0)
            return MT_FAIL(MT_ARG, "two files named %s in one checkpoint", name);
    if (strlen(name) >= MANIFEST_NAME_BYTES || m->file_count >= MANIFEST_FILES_MAX)
        return MT_FAIL(MT_ARG, "%s: name too long, or too many files in one checkpoint", name);
    if (m->file_count == m->file_capacity) {
        int32_t grown = m->file_capacity + 8;
        MT_TRY(mt_grow(&m->file, m->file_count, grown, sizeof *m->file, "the manifest"));
        m->file_capacity = grown;
    }
    struct manifest_file *f = &m->file[m->file_count];
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    f->shared = shared;
    f->bytes = bytes;
    f->hash = hash;
    *index = m->file_count++;
    return MT_OK;
}

static void write_tensor(struct json_writer *w, const struct manifest *m, int32_t i)
{
    const struct tensor *t = &m->table.entry[i];
    json_write_object(w, NULL);
    json_write_string(w, "name", t->name);
    json_write_ints(w, "shape", t->shape, t->ndim);
    for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
        const struct manifest_place *p = manifest_place_of(m, (enum checkpoint_group)g, i);
        if (p->file < 0)
            continue;
        json_write_array(w, CHECKPOINT_GROUP_NAMES[g]);
        json_write_string(w, NULL, m->file[p->file].name);
        json_write_int(w, NULL, p->offset);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_files(struct json_writer *w, const struct manifest *m, bool shared)
{
    json_write_array(w, shared ? "shared" : "files");
    for (int32_t i = 0; i < m->file_count; i++) {
        if (m->file[i].shared != shared)
            continue;
        json_write_object(w, NULL);
        json_write_string(w, "name", m->file[i].name);
        json_write_int(w, "bytes", m->file[i].bytes);
        json_write_hash(w, "xxh64", m->file[i].hash);
        json_write_end(w);
    }
    json_write_end(w);
}

mt_status manifest_write(const struct manifest *m, const char *path)
{
    struct json_writer w = {.indent = 1};
    struct file_writer f = {.fd = -1};
    const char *text;
    int64_t bytes;
    char hash[HASH_TEXT_BYTES], seal[SEAL_BYTES + 1];
    mt_status st;
    json_write_object(&w, NULL);
    json_write_string(&w, "format", m->step < 0 ? FORMAT_SHARED : FORMAT);
    json_write_int(&w, "version", FORMAT_VERSION);
    json_write_int(&w, "step", m->step);
    json_write_hash(&w, "table_hash", tensor_table_hash(&m->table));
    write_files(&w, m, false);
    write_files(&w, m, true);
    json_write_array(&w, "tensors");
    for (int32_t i = 0; i < m->table.count; i++)
        write_tensor(&w, m, i);
    json_write_end(&w);
    json_write_end(&w);
    MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
    bytes--; /* the closing brace goes behind the seal */
    hash64_format(hash, hash64_of(text, bytes));
    (void)snprintf(seal, sizeof seal, SEAL_FORMAT, hash);
    MT_TRY_GOTO(st, file_writer_open(&f, path), done);
    MT_TRY_GOTO(st, file_writer_write(&f, text, bytes), done);
    MT_TRY_GOTO(st, file_writer_write(&f, seal, (int64_t)strlen(seal)), done);
    MT_TRY_GOTO(st, file_writer_commit(&f), done);
done:
    file_writer_discard(&f);
    json_writer_release(&w);
    return st;
}

static bool seal_is_good(const char *text, int64_t bytes)
{
    char hash[HASH_TEXT_BYTES], seal[SEAL_BYTES + 1];
    if (bytes < SEAL_BYTES)
        return false;
    hash64_format(hash, hash64_of(text, bytes - SEAL_BYTES));
    (void)snprintf(seal, sizeof seal, SEAL_FORMAT, hash);
    return memcmp(text + bytes - SEAL_BYTES, seal, SEAL_BYTES) == 0;
}

/* A shared file's name is "base/" and a plain name, so that it cannot lead out of the folder. */
static bool name_is_good(const char *name, bool shared)
{
    if (!shared)
        return manifest_name_is_plain(name);
    return strncmp(name, "base/", 5) == 0 && manifest_name_is_plain(name + 5);
}

static mt_status read_files(struct manifest *m, const struct json_node *root, bool shared)
{
    const struct json_node *list = json_node_get(root, shared ? "shared" : "files");
    if (!json_node_is_array(list))
        return MT_FAIL(MT_DATA, "no list of files");
    for (int64_t i = 0; i < json_node_count(list); i++) {
        const struct json_node *node = json_node_at(list, i);
        const char *name;
        int64_t bytes;
        uint64_t hash;
        int32_t index;
        MT_TRY(json_read_string(node, "name", &name));
        MT_TRY(json_read_int(node, "bytes", 0, INT64_MAX, &bytes));
        MT_TRY(json_read_hash(node, "xxh64", &hash));
        if (!name_is_good(name, shared))
            return MT_FAIL(MT_DATA, "a file name with other characters than letters, digits, ._-");
        MT_TRY(manifest_add_file(m, name, shared, bytes, hash, &index));
    }
    return MT_OK;
}

static mt_status read_table(struct manifest *m, const struct json_node *list)
{
    int64_t count = json_node_count(list);
    if (!json_node_is_array(list) || count > MANIFEST_TENSORS_MAX)
        return MT_FAIL(MT_DATA, "no list of at most %d tensors", (int)MANIFEST_TENSORS_MAX);
    for (int64_t i = 0; i < count; i++) {
        const struct json_node *node = json_node_at(list, i), *shape = json_node_get(node, "shape");
        const char *name;
        int64_t ndim = json_node_count(shape), rows, cols = 1;
        MT_TRY(json_read_string(node, "name", &name));
        if (strlen(name) >= TENSOR_NAME_BYTES || tensor_table_find(&m->table, name) >= 0)
            return MT_FAIL(MT_DATA, "tensor %.60s: name too long, or twice", name);
        bool good = (ndim == 1 || ndim == 2) && json_node_int(json_node_at(shape, 0), &rows) &&
                    (ndim == 1 || json_node_int(json_node_at(shape, 1), &cols));
        if (!good || rows < 1 || cols < 1 || rows > ELEMENTS_MAX || cols > ELEMENTS_MAX / rows)
            return MT_FAIL(MT_DATA, "tensor %.60s: not a shape of one or two sizes", name);
        MT_TRY(tensor_table_add(&m->table, name, 0, -1, rows, ndim == 1 ? 0 : cols));
    }
    return MT_OK;
}

static mt_status read_place(const struct manifest *m, const struct json_node *node, int64_t count,
                            struct manifest_place *p)
{
    const char *name = json_node_string(json_node_at(node, 0));
    int64_t offset;
    if (name == NULL || !json_node_int(json_node_at(node, 1), &offset) || offset < 0)
        return MT_FAIL(MT_DATA, "an array's place is not [file, offset]");
    for (int32_t f = 0; f < m->file_count; f++) {
        if (strcmp(m->file[f].name, name) != 0)
            continue;
        if (offset > m->file[f].bytes || count > (m->file[f].bytes - offset) / 4)
            return MT_FAIL(MT_DATA, "an array ends behind the end of %s", name);
        *p = (struct manifest_place){f, offset};
        return MT_OK;
    }
    return MT_FAIL(MT_DATA, "an array lies in a file that is not listed");
}

static mt_status read_places(struct manifest *m, const struct json_node *list)
{
    MT_TRY(take_places(m));
    for (int32_t i = 0; i < m->table.count; i++)
        for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
            const struct json_node *node =
                json_node_get(json_node_at(list, i), CHECKPOINT_GROUP_NAMES[g]);
            if (node != NULL)
                MT_TRY(read_place(m, node, m->table.entry[i].count,
                                  manifest_place_of(m, (enum checkpoint_group)g, i)));
        }
    return MT_OK;
}

static mt_status read_all(struct manifest *m, const struct json_node *root)
{
    const char *format;
    int64_t version;
    uint64_t table_hash;
    MT_TRY(json_read_string(root, "format", &format));
    MT_TRY(json_read_int(root, "step", -1, INT64_MAX, &m->step));
    if (strcmp(format, m->step < 0 ? FORMAT_SHARED : FORMAT) != 0)
        return MT_FAIL(MT_DATA, "format \"%.40s\" is not a checkpoint's", format);
    MT_TRY(json_read_int(root, "version", 0, INT32_MAX, &version));
    if (version != FORMAT_VERSION)
        return MT_FAIL(MT_DATA, "written by another mttrain: format version %d, this one reads %d",
                       (int)version, (int)FORMAT_VERSION);
    MT_TRY(json_read_hash(root, "table_hash", &table_hash));
    MT_TRY(read_files(m, root, false));
    MT_TRY(read_files(m, root, true));
    MT_TRY(read_table(m, json_node_get(root, "tensors")));
    MT_TRY(read_places(m, json_node_get(root, "tensors")));
    if (tensor_table_hash(&m->table) != table_hash)
        return MT_FAIL(MT_DATA, "its tensors are not those of its table_hash");
    return MT_OK;
}

mt_status manifest_read(struct manifest *m, const char *path)
{
    char *text = NULL;
    int64_t bytes;
    struct json_doc *doc = NULL;
    memset(m, 0, sizeof *m);
    MT_TRY(file_read(&text, &bytes, path, MANIFEST_MAX_BYTES));
    mt_status st;
    if (!seal_is_good(text, bytes)) {
        st = MT_FAIL(MT_DATA, "%s: incomplete or altered: the hash at its end does not fit", path);
        goto done;
    }
    MT_TRY_GOTO(st, json_doc_parse(&doc, text, bytes, path), done);
    st = read_all(m, json_doc_root(doc));
    if (st != MT_OK)
        mt_error_prefix("%s", path);
done:
    json_doc_destroy(&doc);
    mt_free(&text);
    if (st != MT_OK)
        manifest_release(m);
    return st;
}

/* See checkpoint_manifest.h.  Cost: one pass over the text each way; look-up of names is linear in
 * the number of tensors, hence the cap on it. */
#include "io/checkpoint_manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/json.h"

/* Version 2 has arrays in pieces; without them the first is written, for older readers. */
enum { FORMAT_VERSION = 2, FORMAT_PIECES = 2, MANIFEST_MAX_BYTES = 64 << 20, SEAL_BYTES = 38 };

static const char FORMAT[] = "mttrain-checkpoint", FORMAT_SHARED[] = "mttrain-shared-tensors";
static const char SEAL_FORMAT[] = ",\"manifest_xxh64\":\"%s\"}\n";
static const int64_t ELEMENTS_MAX = (int64_t)1 << 40;

const char *const CHECKPOINT_GROUP_NAMES[CHECKPOINT_GROUPS] = {"params", "adam_m", "adam_v"};

static mt_status take_places(struct manifest *m)
{
    MT_TRY(mt_alloc(&m->place, (int64_t)m->table.count * CHECKPOINT_GROUPS, sizeof *m->place,
                    "the manifest"));
    for (int64_t i = 0; i < (int64_t)m->table.count * CHECKPOINT_GROUPS; i++)
        m->place[i].file = MANIFEST_ABSENT;
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
    mt_free(&m->piece);
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

mt_status manifest_add_piece(struct manifest *m, const struct manifest_piece *piece)
{
    if (m->piece_count == m->piece_capacity) {
        int64_t grown = 2 * m->piece_capacity + 64;
        MT_TRY(mt_grow(&m->piece, m->piece_count, grown, sizeof *m->piece, "the manifest"));
        m->piece_capacity = grown;
    }
    m->piece[m->piece_count++] = *piece;
    return MT_OK;
}

static int compare_pieces(const void *a, const void *b)
{
    const struct manifest_piece *x = a, *y = b;
    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Pieces [first, last) are those of one array: together they must be all of it, once. */
static mt_status join_array(struct manifest *m, int64_t first, int64_t last)
{
    const struct manifest_piece *p = &m->piece[first];
    const struct tensor *t = &m->table.entry[p->tensor];
    const char *group = CHECKPOINT_GROUP_NAMES[p->group];
    int64_t at = 0;
    for (int64_t i = first; i <= last; i++) {
        int64_t next = i < last ? m->piece[i].begin : t->count;
        if (next > at)
            return MT_FAIL(MT_DATA, "%s of %s: elements %lld to %lld are in no part", group,
                           t->name, (long long)at, (long long)next - 1);
        if (next < at)
            return MT_FAIL(MT_DATA, "%s of %s: elements from %lld on are in two parts, or too many",
                           group, t->name, (long long)next);
        at = i < last ? m->piece[i].end : at;
    }
    struct manifest_place *place = manifest_place_of(m, (enum checkpoint_group)p->group, p->tensor);
    if (place->file != MANIFEST_ABSENT)
        return MT_FAIL(MT_DATA, "%s of %s: both whole and in parts", group, t->name);
    *place = (struct manifest_place){MANIFEST_IN_PIECES, 0, first, last - first};
    return MT_OK;
}

mt_status manifest_join_pieces(struct manifest *m)
{
    if (m->piece_count > 0)
        qsort(m->piece, (size_t)m->piece_count, sizeof *m->piece, compare_pieces);
    for (int64_t first = 0, last; first < m->piece_count; first = last) {
        for (last = first + 1; last < m->piece_count; last++)
            if (m->piece[last].tensor != m->piece[first].tensor ||
                m->piece[last].group != m->piece[first].group)
                break;
        MT_TRY(join_array(m, first, last));
    }
    return MT_OK;
}

static void write_place(struct json_writer *w, const struct manifest *m, const char *group,
                        const struct manifest_place *p)
{
    json_write_array(w, group);
    if (p->file >= 0) {
        json_write_string(w, NULL, m->file[p->file].name);
        json_write_int(w, NULL, p->offset);
    }
    for (int64_t i = 0; p->file == MANIFEST_IN_PIECES && i < p->pieces; i++) {
        const struct manifest_piece *piece = &m->piece[p->first_piece + i];
        json_write_array(w, NULL);
        json_write_string(w, NULL, m->file[piece->file].name);
        json_write_int(w, NULL, piece->offset);
        json_write_int(w, NULL, piece->begin);
        json_write_int(w, NULL, piece->end);
        json_write_end(w);
    }
    json_write_end(w);
}

static void write_tensor(struct json_writer *w, const struct manifest *m, int32_t i)
{
    const struct tensor *t = &m->table.entry[i];
    json_write_object(w, NULL);
    json_write_string(w, "name", t->name);
    json_write_ints(w, "shape", t->shape, t->ndim);
    for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
        const struct manifest_place *p = manifest_place_of(m, (enum checkpoint_group)g, i);
        if (p->file != MANIFEST_ABSENT)
            write_place(w, m, CHECKPOINT_GROUP_NAMES[g], p);
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
    json_write_int(&w, "version", m->piece_count > 0 ? FORMAT_PIECES : 1);
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

/* Where `count` floats lie: [file, offset, ...].  *file: where the search begins, and the file. */
static mt_status read_where(const struct manifest *m, const struct json_node *node, int64_t count,
                            int32_t *file, int64_t *offset)
{
    const char *name = json_node_string(json_node_at(node, 0));
    if (name == NULL || !json_node_int(json_node_at(node, 1), offset) || *offset < 0)
        return MT_FAIL(MT_DATA, "an array's place is not [file, offset]");
    for (int32_t i = 0; i < m->file_count; i++) {
        int32_t f = (int32_t)(((int64_t)*file + i) % m->file_count);
        if (strcmp(m->file[f].name, name) != 0)
            continue;
        if (*offset > m->file[f].bytes || count > (m->file[f].bytes - *offset) / 4)
            return MT_FAIL(MT_DATA, "an array ends behind the end of %s", name);
        *file = f;
        return MT_OK;
    }
    return MT_FAIL(MT_DATA, "an array lies in a file that is not listed");
}

/* The pieces of one array; neighbours tend to lie in neighbouring files. */
static mt_status read_pieces(struct manifest *m, const struct json_node *list, int32_t tensor,
                             int group)
{
    const struct tensor *t = &m->table.entry[tensor];
    struct manifest_piece p = {.tensor = tensor, .group = group};
    for (int64_t i = 0; i < json_node_count(list); i++) {
        const struct json_node *node = json_node_at(list, i);
        if (!json_node_int(json_node_at(node, 2), &p.begin) ||
            !json_node_int(json_node_at(node, 3), &p.end) || p.begin < 0 || p.end <= p.begin ||
            p.end > t->count)
            return MT_FAIL(MT_DATA, "%s of %.60s: a piece is not [file, offset, begin, end]",
                           CHECKPOINT_GROUP_NAMES[group], t->name);
        MT_TRY(read_where(m, node, p.end - p.begin, &p.file, &p.offset));
        MT_TRY(manifest_add_piece(m, &p));
    }
    return MT_OK;
}

static mt_status read_places(struct manifest *m, const struct json_node *list, int64_t version)
{
    MT_TRY(take_places(m));
    for (int32_t i = 0; i < m->table.count; i++)
        for (int g = 0; g < CHECKPOINT_GROUPS; g++) {
            const struct json_node *node =
                json_node_get(json_node_at(list, i), CHECKPOINT_GROUP_NAMES[g]);
            struct manifest_place p = {.file = 0};
            if (node == NULL)
                continue;
            if (version >= FORMAT_PIECES && json_node_is_array(json_node_at(node, 0))) {
                MT_TRY(read_pieces(m, node, i, g));
                continue;
            }
            MT_TRY(read_where(m, node, m->table.entry[i].count, &p.file, &p.offset));
            *manifest_place_of(m, (enum checkpoint_group)g, i) = p;
        }
    return manifest_join_pieces(m);
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
    if (version < 1 || version > FORMAT_VERSION)
        return MT_FAIL(MT_DATA,
                       "written by another mttrain: format version %d, this one reads 1 to %d",
                       (int)version, (int)FORMAT_VERSION);
    MT_TRY(json_read_hash(root, "table_hash", &table_hash));
    MT_TRY(read_files(m, root, false));
    MT_TRY(read_files(m, root, true));
    MT_TRY(read_table(m, json_node_get(root, "tensors")));
    MT_TRY(read_places(m, json_node_get(root, "tensors"), version));
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

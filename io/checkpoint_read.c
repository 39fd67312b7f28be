/*
 * See checkpoint.h: reading and checking.
 *
 * Arrays are read with pread at the places of the manifest, whose hash and whose files' hashes were
 * checked: a damaged HDF5 file never reaches the library.  Cost of a full check: one sequential
 * read.
 */
#include "io/checkpoint.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/checkpoint_manifest.h"
#include "io/checkpoint_paths.h"
#include "io/file.h"

enum { BLOCK_FLOATS = 1 << 16, OPEN_FILES_MAX = 128 };

struct checkpoint_reader {
    char path[CHECKPOINT_PATH_BYTES];   /* resolved: no link in it */
    char folder[CHECKPOINT_PATH_BYTES]; /* the one above */
    struct manifest manifest;
    int *fd; /* [file_count] kept open once arrays are read from them; -1 = is not */
    int32_t open_files;
};

static mt_status path_of_file(char **out, const struct checkpoint_reader *r, int32_t file)
{
    const struct manifest_file *f = &r->manifest.file[file];
    return file_path_join(out, f->shared ? r->folder : r->path, f->name);
}

static mt_status check_file(const struct checkpoint_reader *r, int32_t file, bool check_hashes)
{
    const struct manifest_file *f = &r->manifest.file[file];
    char *path;
    int64_t bytes;
    uint64_t hash = f->hash;
    MT_TRY(path_of_file(&path, r, file));
    mt_status st;
    if (!file_exists(path)) {
        st = MT_FAIL(MT_DATA, "%s: missing, though the manifest lists it", path);
        goto done;
    }
    MT_TRY_GOTO(st, file_size(&bytes, path), done);
    if (bytes == f->bytes && check_hashes)
        MT_TRY_GOTO(st, file_hash(&hash, &bytes, path), done);
    if (bytes != f->bytes)
        st = MT_FAIL(MT_DATA, "%s: has %" PRId64 " bytes, the manifest says %" PRId64, path, bytes,
                     f->bytes);
    else if (hash != f->hash)
        st = MT_FAIL(MT_DATA, "%s: damaged: its bytes do not have the hash of the manifest", path);
done:
    mt_free(&path);
    return st;
}

static mt_status resolve(struct checkpoint_reader *r, const char *path)
{
    char real[PATH_MAX];
    if (realpath(path, real) == NULL || strlen(real) >= sizeof r->path)
        return MT_FAIL(MT_DATA, "%s: there is no checkpoint of this name", path);
    memcpy(r->path, real, strlen(real) + 1);
    memcpy(r->folder, real, strlen(real) + 1);
    char *slash = strrchr(r->folder, '/');
    if (slash != NULL)
        slash[slash == r->folder ? 1 : 0] = '\0';
    return MT_OK;
}

static mt_status open_reader(struct checkpoint_reader *r, const char *path, bool check_hashes)
{
    char *manifest;
    MT_TRY(resolve(r, path));
    const char *name = file_path_base(r->path);
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".tmp") == 0)
        return MT_FAIL(MT_DATA, "%s: a checkpoint that was never finished", path);
    MT_TRY(file_path_join(&manifest, r->path, CHECKPOINT_MANIFEST));
    mt_status st = file_exists(manifest)
                       ? manifest_read(&r->manifest, manifest)
                       : MT_FAIL(MT_DATA, "%s: no " CHECKPOINT_MANIFEST " in it", path);
    mt_free(&manifest);
    MT_TRY(st);
    int64_t step = checkpoint_parse_name(name, "");
    if (r->manifest.step < 0 || (step >= 0 && step != r->manifest.step))
        return MT_FAIL(MT_DATA, "%s: its manifest is of another checkpoint, step %" PRId64, path,
                       r->manifest.step);
    MT_TRY(mt_alloc(&r->fd, r->manifest.file_count, sizeof *r->fd, "files of a checkpoint"));
    for (int32_t i = 0; i < r->manifest.file_count; i++)
        r->fd[i] = -1;
    for (int32_t i = 0; i < r->manifest.file_count; i++)
        MT_TRY(check_file(r, i, check_hashes));
    return MT_OK;
}

mt_status checkpoint_open(struct checkpoint_reader **out, const char *path, bool check_hashes)
{
    struct checkpoint_reader *r;
    MT_TRY(mt_alloc(&r, 1, sizeof *r, "a checkpoint reader"));
    mt_status st = open_reader(r, path, check_hashes);
    if (st != MT_OK) {
        checkpoint_close(&r);
        return st;
    }
    *out = r;
    return MT_OK;
}

void checkpoint_close(struct checkpoint_reader **r)
{
    if (*r == NULL)
        return;
    for (int32_t i = 0; (*r)->fd != NULL && i < (*r)->manifest.file_count; i++)
        file_fd_close(&(*r)->fd[i]);
    mt_free(&(*r)->fd);
    manifest_release(&(*r)->manifest);
    mt_free(r);
}

mt_status checkpoint_verify(const char *path)
{
    struct checkpoint_reader *r;
    MT_TRY(checkpoint_open(&r, path, true));
    checkpoint_close(&r);
    return MT_OK;
}

int64_t checkpoint_step(const struct checkpoint_reader *r)
{
    return r->manifest.step;
}

uint64_t checkpoint_table_hash(const struct checkpoint_reader *r)
{
    return tensor_table_hash(&r->manifest.table);
}

int64_t checkpoint_bytes(const struct checkpoint_reader *r)
{
    int64_t total = 0;
    for (int32_t i = 0; i < r->manifest.file_count; i++)
        total += r->manifest.file[i].shared ? 0 : r->manifest.file[i].bytes;
    return total;
}

int32_t checkpoint_file_count(const struct checkpoint_reader *r)
{
    return r->manifest.file_count;
}

const char *checkpoint_file_name(const struct checkpoint_reader *r, int32_t i, int64_t *bytes)
{
    *bytes = r->manifest.file[i].bytes;
    return r->manifest.file[i].name;
}

const struct tensor_table *checkpoint_table(const struct checkpoint_reader *r)
{
    return &r->manifest.table;
}

bool checkpoint_has(const struct checkpoint_reader *r, enum checkpoint_group group, int32_t tensor)
{
    return manifest_place_of(&r->manifest, group, tensor)->file != MANIFEST_ABSENT;
}

bool checkpoint_is_shared(const struct checkpoint_reader *r, int32_t tensor)
{
    int32_t file = manifest_place_of(&r->manifest, CHECKPOINT_PARAMS, tensor)->file;
    return file >= 0 && r->manifest.file[file].shared;
}

/* A tensor's pieces alternate between files, and opening one costs a network file system a message:
 * so they stay open, as far as a process may have as many. */
static mt_status read_floats(struct checkpoint_reader *r, int32_t file, int64_t offset,
                             int64_t count, float *dst)
{
    char *path;
    MT_TRY(path_of_file(&path, r, file));
    mt_status st = MT_OK;
    bool opens = r->fd[file] < 0;
    if (opens)
        MT_TRY_GOTO(st, file_fd_open(&r->fd[file], NULL, path), done);
    st = file_fd_read_at(r->fd[file], dst, count * (int64_t)sizeof *dst, offset, path);
    if (opens && r->open_files >= OPEN_FILES_MAX)
        file_fd_close(&r->fd[file]);
    else
        r->open_files += opens;
done:
    mt_free(&path);
    return st;
}

/* Reads `count` floats of an array from its element `first`. */
static mt_status read_part(struct checkpoint_reader *r, enum checkpoint_group group, int32_t tensor,
                           int64_t first, int64_t count, float *dst)
{
    const int64_t word = (int64_t)sizeof *dst;
    const struct manifest_place *p = manifest_place_of(&r->manifest, group, tensor);
    if (p->file == MANIFEST_ABSENT)
        return MT_FAIL(MT_DATA, "%s: has no %s of %s", r->path, CHECKPOINT_GROUP_NAMES[group],
                       r->manifest.table.entry[tensor].name);
    if (p->file >= 0)
        return read_floats(r, p->file, p->offset + first * word, count, dst);
    for (int64_t i = 0; i < p->pieces; i++) {
        const struct manifest_piece *piece = &r->manifest.piece[p->first_piece + i];
        int64_t begin = piece->begin > first ? piece->begin : first;
        int64_t end = piece->end < first + count ? piece->end : first + count;
        if (begin < end)
            MT_TRY(read_floats(r, piece->file, piece->offset + (begin - piece->begin) * word,
                               end - begin, dst + (begin - first)));
    }
    return MT_OK;
}

mt_status checkpoint_read_tensor(struct checkpoint_reader *r, enum checkpoint_group group,
                                 int32_t tensor, float *dst)
{
    return read_part(r, group, tensor, 0, r->manifest.table.entry[tensor].count, dst);
}

mt_status checkpoint_read_block(struct checkpoint_reader *r, enum checkpoint_group group,
                                const struct tensor_table *table, float *flat, uint8_t *present)
{
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *want = &table->entry[i];
        int32_t at = tensor_table_find(&r->manifest.table, want->name);
        bool has = at >= 0 && checkpoint_has(r, group, at);
        if (present != NULL)
            present[i] = has;
        if (!has) {
            if (group == CHECKPOINT_PARAMS)
                return MT_FAIL(MT_DATA, "%s: has no tensor %s; it is of another model", r->path,
                               want->name);
            continue;
        }
        const struct tensor *got = &r->manifest.table.entry[at];
        if (got->ndim != want->ndim || got->shape[0] != want->shape[0] ||
            got->shape[1] != want->shape[1])
            return MT_FAIL(MT_DATA,
                           "%s: tensor %s is [%" PRId64 ", %" PRId64 "], the model wants [%" PRId64
                           ", %" PRId64 "]",
                           r->path, want->name, got->shape[0], got->shape[1], want->shape[0],
                           want->shape[1]);
        MT_TRY(checkpoint_read_tensor(r, group, at, flat + want->offset));
    }
    return MT_OK;
}

mt_status checkpoint_read_text(const struct checkpoint_reader *r, const char *name, char **text,
                               int64_t *bytes)
{
    for (int32_t i = 0; i < r->manifest.file_count; i++) {
        char *path;
        if (r->manifest.file[i].shared || strcmp(r->manifest.file[i].name, name) != 0)
            continue;
        MT_TRY(path_of_file(&path, r, i));
        mt_status st = file_read(text, bytes, path, CHECKPOINT_TEXT_MAX_BYTES);
        mt_free(&path);
        return st;
    }
    return MT_FAIL(MT_DATA, "%s: has no %s", r->path, name);
}

static mt_status hash_array(struct checkpoint_reader *r, enum checkpoint_group group,
                            int32_t tensor, float *block, struct hash64 *h)
{
    int64_t count = r->manifest.table.entry[tensor].count;
    hash64_add_string(h, CHECKPOINT_GROUP_NAMES[group]);
    for (int64_t at = 0; at < count; at += BLOCK_FLOATS) {
        int64_t take = count - at < BLOCK_FLOATS ? count - at : BLOCK_FLOATS;
        MT_TRY(read_part(r, group, tensor, at, take, block));
        hash64_add(h, block, take * (int64_t)sizeof *block);
    }
    return MT_OK;
}

mt_status checkpoint_hash(struct checkpoint_reader *r, bool params_only, uint64_t *out)
{
    float *block;
    struct hash64 h;
    mt_status st = MT_OK;
    hash64_init(&h, 0);
    MT_TRY(mt_alloc(&block, BLOCK_FLOATS, sizeof *block, "a block of a tensor"));
    for (int32_t i = 0; i < r->manifest.table.count; i++) {
        const struct tensor *t = &r->manifest.table.entry[i];
        hash64_add_string(&h, t->name);
        hash64_add_int(&h, t->ndim);
        hash64_add_int(&h, t->shape[0]);
        hash64_add_int(&h, t->shape[1]);
        for (int g = 0; g < (params_only ? 1 : CHECKPOINT_GROUPS); g++)
            if (checkpoint_has(r, (enum checkpoint_group)g, i))
                MT_TRY_GOTO(st, hash_array(r, (enum checkpoint_group)g, i, block, &h), done);
    }
    *out = hash64_value(&h);
done:
    mt_free(&block);
    return st;
}

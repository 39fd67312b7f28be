/*
 * See checkpoint.h: writing.
 *
 * The HDF5 library lays state.h5 out once (h5_raw.h); the arrays are then written with pwrite, so
 * that a save from a background thread holds no lock of the library and a full disk is an ordinary
 * failed write.  Frozen tensors become external links, so that other tools see one whole file.
 * Everything happens under step-N.tmp; the one rename at the end makes it a checkpoint.
 *
 * Refused: hashing while writing (blocks come in any order; reading back from the page cache costs
 * less than a tenth of writing), and hard links to shared files (not every file system has them).
 */
#include "io/checkpoint.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/block_file.h"
#include "io/checkpoint_manifest.h"
#include "io/checkpoint_part.h"
#include "io/checkpoint_paths.h"
#include "io/file.h"
#include "io/folder_install.h"
#include "io/h5_raw.h"

struct checkpoint_writer {
    struct manifest manifest;
    char *run_dir, *folder, *temp, *final; /* folder: run_dir/checkpoints */
    struct block_file state;
    uint8_t *wanted;    /* [count] bits of arrays not written yet */
    int32_t state_file; /* index in the manifest */
    bool committed, listed, flushed;
    struct checkpoint_writer *next;
};

/* Writers at work in this process: their .tmp folders are not stale. */
static pthread_mutex_t writers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct checkpoint_writer *writers;

static void list_writer(struct checkpoint_writer *w)
{
    (void)pthread_mutex_lock(&writers_lock);
    w->next = writers;
    writers = w;
    w->listed = true;
    (void)pthread_mutex_unlock(&writers_lock);
}

static void unlist_writer(struct checkpoint_writer *w)
{
    (void)pthread_mutex_lock(&writers_lock);
    for (struct checkpoint_writer **at = &writers; w->listed && *at != NULL; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    (void)pthread_mutex_unlock(&writers_lock);
}

bool checkpoint_temp_is_in_use(const char *path)
{
    bool used = false;
    (void)pthread_mutex_lock(&writers_lock);
    for (const struct checkpoint_writer *w = writers; w != NULL; w = w->next)
        used = used || path == NULL || strcmp(w->temp, path) == 0;
    (void)pthread_mutex_unlock(&writers_lock);
    return used;
}

mt_status checkpoint_format_path(char **out, const char *dir, const char *format, int64_t step)
{
    char name[64];
    (void)snprintf(name, sizeof name, "step-%08" PRId64 "%s", step, format);
    return file_path_join(out, dir, name);
}

/* A dataset for one array; answers false for a name that HDF5 would take for a path. */
static bool item_make(struct h5_item *item, const char *group, const struct tensor *t)
{
    if (t->name[0] == '\0' || t->name[0] == '.' || strchr(t->name, '/') != NULL)
        return false;
    memset(item, 0, sizeof *item);
    (void)snprintf(item->path, sizeof item->path, "/%s/%s", group, t->name);
    item->kind = H5_KIND_F32;
    item->ndim = t->ndim;
    item->shape[0] = t->shape[0];
    item->shape[1] = t->shape[1];
    return true;
}

/* Lays out one file for the arrays whose bit is set in groups, links for shared ones, and notes
 * their places in the manifest as of file number `file`. */
static mt_status lay_out(struct manifest *m, const char *path, const uint8_t *groups, int32_t file,
                         const char *shared)
{
    int64_t room = (int64_t)m->table.count * CHECKPOINT_GROUPS;
    char hash[HASH_TEXT_BYTES];
    struct h5_item *items = NULL;
    struct h5_link *links = NULL;
    struct h5_layout layout = {0};
    mt_status st;
    hash64_format(hash, tensor_table_hash(&m->table));
    const struct h5_attribute attributes[] = {
        {"/", "format", m->step < 0 ? "mttrain-shared-tensors" : "mttrain-checkpoint", 0},
        {"/", "version", NULL, 1},
        {"/", "step", NULL, m->step},
        {"/", "table_hash", hash, 0},
    };
    MT_TRY_GOTO(st, mt_alloc(&items, room, sizeof *items, "a checkpoint's layout"), done);
    MT_TRY_GOTO(st, mt_alloc(&links, m->table.count, sizeof *links, "a checkpoint's layout"), done);
    layout.items = items;
    layout.links = links;
    layout.attributes = attributes;
    layout.attribute_count = (int32_t)(sizeof attributes / sizeof *attributes);
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        for (int32_t i = 0; i < m->table.count; i++) {
            struct h5_item item;
            if (!item_make(&item, CHECKPOINT_GROUP_NAMES[g], &m->table.entry[i])) {
                st = MT_FAIL(MT_BUG, "tensor name %s does not fit a checkpoint",
                             m->table.entry[i].name);
                goto done;
            }
            struct manifest_place *place = manifest_place_of(m, (enum checkpoint_group)g, i);
            if (groups[i] & CHECKPOINT_BIT(g)) {
                place->file = file;
                items[layout.item_count++] = item;
            } else if (place->file >= 0 && shared != NULL) {
                struct h5_link *l = &links[layout.link_count++];
                memcpy(l->path, item.path, sizeof l->path);
                l->file = shared;
                l->object = l->path;
            }
        }
    MT_TRY_GOTO(st, h5_raw_create(path, &layout), done);
    int32_t next = 0;
    for (int g = 0; g < CHECKPOINT_GROUPS; g++)
        for (int32_t i = 0; i < m->table.count; i++)
            if (groups[i] & CHECKPOINT_BIT(g))
                manifest_place_of(m, (enum checkpoint_group)g, i)->offset =
                    items[next++].offset_bytes;
done:
    mt_free(&items);
    mt_free(&links);
    return st;
}

/* Notes the shared parameters in the manifest and takes them out of what is to be written. */
static mt_status refer_to_base(struct checkpoint_writer *w, const struct checkpoint_base *base,
                               char name[MANIFEST_NAME_BYTES])
{
    char hash[HASH_TEXT_BYTES];
    int32_t file;
    hash64_format(hash, base->content_hash);
    (void)snprintf(name, MANIFEST_NAME_BYTES, "base/%s.h5", hash);
    if (base->count != w->manifest.table.count)
        return MT_FAIL(MT_BUG, "the shared tensors were written for another table");
    MT_TRY(manifest_add_file(&w->manifest, name, true, base->file_bytes, base->file_hash, &file));
    for (int32_t i = 0; i < base->count; i++) {
        if (base->offset[i] < 0 || !(w->wanted[i] & CHECKPOINT_BIT(CHECKPOINT_PARAMS)))
            continue;
        w->wanted[i] &= (uint8_t)~CHECKPOINT_BIT(CHECKPOINT_PARAMS);
        *manifest_place_of(&w->manifest, CHECKPOINT_PARAMS, i) =
            (struct manifest_place){.file = file, .offset = base->offset[i]};
    }
    return MT_OK;
}

static mt_status create(struct checkpoint_writer *w, const char *run_dir, int64_t step,
                        const struct tensor_table *table)
{
    MT_TRY(manifest_init(&w->manifest, step, table));
    MT_TRY(mt_alloc(&w->wanted, table->count, 1, "a checkpoint's marks"));
    MT_TRY(mt_strdup(&w->run_dir, run_dir));
    MT_TRY(file_path_join(&w->folder, run_dir, "checkpoints"));
    MT_TRY(checkpoint_format_path(&w->final, w->folder, "", step));
    MT_TRY(checkpoint_format_path(&w->temp, w->folder, ".tmp", step));
    list_writer(w);
    MT_TRY(file_remove(w->temp));
    return file_make_dir(w->temp);
}

mt_status checkpoint_lay_out(struct checkpoint_writer *w, const uint8_t *groups,
                             const struct checkpoint_base *base)
{
    char *path = NULL;
    char shared[MANIFEST_NAME_BYTES], link[MANIFEST_NAME_BYTES + 4];
    if (w->manifest.table.count > 0)
        memcpy(w->wanted, groups, (size_t)w->manifest.table.count);
    MT_TRY(manifest_add_file(&w->manifest, "state.h5", false, 0, 0, &w->state_file));
    if (base != NULL) {
        MT_TRY(refer_to_base(w, base, shared));
        (void)snprintf(link, sizeof link, "../%s", shared);
    }
    MT_TRY(file_path_join(&path, w->temp, "state.h5"));
    mt_status st;
    MT_TRY_GOTO(st,
                lay_out(&w->manifest, path, w->wanted, w->state_file, base == NULL ? NULL : link),
                done);
    MT_TRY_GOTO(st, block_file_open(&w->state, path, false), done);
done:
    mt_free(&path);
    return st;
}

mt_status checkpoint_create(struct checkpoint_writer **out, const char *run_dir, int64_t step,
                            const struct tensor_table *table)
{
    struct checkpoint_writer *w;
    MT_TRY(mt_alloc(&w, 1, sizeof *w, "a checkpoint writer"));
    w->state.fd = -1;
    mt_status st = create(w, run_dir, step, table);
    if (st != MT_OK) {
        checkpoint_discard(&w);
        return st;
    }
    *out = w;
    return MT_OK;
}

mt_status checkpoint_begin(struct checkpoint_writer **out, const char *run_dir, int64_t step,
                           const struct tensor_table *table, const uint8_t *groups,
                           const struct checkpoint_base *base)
{
    struct checkpoint_writer *w;
    MT_TRY(checkpoint_create(&w, run_dir, step, table));
    mt_status st = checkpoint_lay_out(w, groups, base);
    if (st != MT_OK) {
        checkpoint_discard(&w);
        return st;
    }
    *out = w;
    return MT_OK;
}

mt_status checkpoint_add_tensor(struct checkpoint_writer *w, enum checkpoint_group group,
                                int32_t tensor, const float *data)
{
    const struct tensor *t = &w->manifest.table.entry[tensor];
    if (!(w->wanted[tensor] & CHECKPOINT_BIT(group)))
        return MT_FAIL(MT_BUG, "%s of %s was not announced, or is written twice",
                       CHECKPOINT_GROUP_NAMES[group], t->name);
    MT_TRY(block_file_write(&w->state, data, t->count * (int64_t)sizeof *data,
                            manifest_place_of(&w->manifest, group, tensor)->offset));
    w->wanted[tensor] &= (uint8_t)~CHECKPOINT_BIT(group);
    return MT_OK;
}

mt_status checkpoint_add_block(struct checkpoint_writer *w, enum checkpoint_group group,
                               const float *flat)
{
    for (int32_t i = 0; i < w->manifest.table.count; i++)
        if (w->wanted[i] & CHECKPOINT_BIT(group))
            MT_TRY(checkpoint_add_tensor(w, group, i, flat + w->manifest.table.entry[i].offset));
    return MT_OK;
}

mt_status checkpoint_add_text(struct checkpoint_writer *w, const char *name, const void *bytes,
                              int64_t count)
{
    int32_t index;
    char *path = NULL;
    if (!manifest_name_is_plain(name) || strcmp(name, CHECKPOINT_MANIFEST) == 0)
        return MT_FAIL(MT_ARG, "%s: no name for a file of a checkpoint", name);
    if (count > CHECKPOINT_TEXT_MAX_BYTES)
        return MT_FAIL(MT_ARG, "%s: %" PRId64 " bytes are too many for a text of a checkpoint",
                       name, count);
    MT_TRY(file_path_join(&path, w->temp, name));
    mt_status st;
    MT_TRY_GOTO(st, file_write_atomic(path, bytes, count), done);
    MT_TRY_GOTO(
        st, manifest_add_file(&w->manifest, name, false, count, hash64_of(bytes, count), &index),
        done);
done:
    mt_free(&path);
    return st;
}

/* A checkpoint of the same step may stand there already. */
static mt_status put_in_place(const struct checkpoint_writer *w)
{
    char *aside;
    MT_TRY(checkpoint_format_path(&aside, w->folder, CHECKPOINT_ASIDE, w->manifest.step));
    mt_status st = folder_install(w->temp, w->final, aside);
    mt_free(&aside);
    return st;
}

mt_status checkpoint_add_part(struct checkpoint_writer *w, const struct checkpoint_part *part)
{
    char name[CHECKPOINT_PART_NAME_BYTES];
    int32_t file;
    checkpoint_part_name(name, part->number);
    MT_TRY(manifest_add_file(&w->manifest, name, false, part->bytes, part->hash, &file));
    for (int64_t i = 0; i < part->count; i++) {
        const struct checkpoint_piece *p = &part->piece[i];
        if (!checkpoint_piece_fits(p, &w->manifest.table) ||
            !(w->wanted[p->tensor] & CHECKPOINT_PART_BIT(p->group)))
            return MT_FAIL(MT_BUG, "%s: a piece of an array that was not announced", name);
        struct manifest_piece piece = {p->tensor, p->group, file, p->offset, p->begin, p->end};
        MT_TRY(manifest_add_piece(&w->manifest, &piece));
    }
    return MT_OK;
}

mt_status checkpoint_flush(struct checkpoint_writer *w)
{
    const uint8_t here = CHECKPOINT_BIT(CHECKPOINT_GROUPS) - 1;
    struct manifest_file *state = &w->manifest.file[w->state_file];
    for (int32_t i = 0; i < w->manifest.table.count; i++)
        if (w->wanted[i] & here)
            return MT_FAIL(MT_BUG, "an array of %s was announced and not written",
                           w->manifest.table.entry[i].name);
    if (w->flushed)
        return MT_OK;
    MT_TRY(block_file_sync(&w->state));
    MT_TRY(file_hash(&state->hash, &state->bytes, w->state.path));
    w->flushed = true;
    return MT_OK;
}

/* What was announced in parts must have come, whole. */
static mt_status join_parts(struct checkpoint_writer *w)
{
    mt_status st = manifest_join_pieces(&w->manifest);
    if (st == MT_DATA)
        return MT_FAIL(MT_BUG, "a save in parts: %s", mt_error_peek()->message);
    MT_TRY(st);
    for (int32_t i = 0; i < w->manifest.table.count; i++)
        for (int g = 0; g < CHECKPOINT_GROUPS; g++)
            if ((w->wanted[i] & CHECKPOINT_PART_BIT(g)) &&
                manifest_place_of(&w->manifest, (enum checkpoint_group)g, i)->file !=
                    MANIFEST_IN_PIECES)
                return MT_FAIL(MT_BUG, "%s of %s was announced, and is in no part",
                               CHECKPOINT_GROUP_NAMES[g], w->manifest.table.entry[i].name);
    return MT_OK;
}

/* Whether shared files are still there. */
static mt_status check_shared(const struct checkpoint_writer *w)
{
    const struct manifest *m = &w->manifest;
    for (int32_t i = 0; i < m->file_count; i++) {
        char *path;
        int64_t bytes;
        if (!m->file[i].shared)
            continue;
        MT_TRY(file_path_join(&path, w->folder, m->file[i].name));
        mt_status st = file_size(&bytes, path);
        if (st == MT_OK && bytes != m->file[i].bytes)
            st = MT_FAIL(MT_IO, "%s: the shared tensors changed under way", path);
        mt_free(&path);
        MT_TRY(st);
    }
    return MT_OK;
}

mt_status checkpoint_commit(struct checkpoint_writer *w)
{
    char *path = NULL;
    MT_TRY(checkpoint_flush(w));
    MT_TRY(join_parts(w));
    MT_TRY(check_shared(w));
    block_file_close(&w->state);
    MT_TRY(file_path_join(&path, w->temp, CHECKPOINT_MANIFEST));
    mt_status st = manifest_write(&w->manifest, path);
    mt_free(&path);
    MT_TRY(st);
    MT_TRY(file_sync(w->temp));
    MT_TRY(file_sync(w->run_dir));
    MT_TRY(put_in_place(w));
    w->committed = true;
    return MT_OK;
}

void checkpoint_discard(struct checkpoint_writer **w)
{
    struct checkpoint_writer *v = *w;
    if (v == NULL)
        return;
    block_file_close(&v->state);
    if (v->listed) { /* after a commit that replaced a checkpoint this is the old one */
        struct mt_error kept;
        mt_error_get(&kept);
        if (file_remove(v->temp) != MT_OK)
            (void)mt_error_set(&kept); /* retention removes it later */
    }
    unlist_writer(v);
    manifest_release(&v->manifest);
    mt_free(&v->run_dir);
    mt_free(&v->folder);
    mt_free(&v->temp);
    mt_free(&v->final);
    mt_free(&v->wanted);
    mt_free(w);
}

/* The tensors of a mask as a table of their own, and the hash of their content. */
static mt_status select_tensors(struct tensor_table *out, uint64_t *content,
                                const struct tensor_table *table, const uint8_t *mask,
                                const float *params)
{
    struct hash64 h;
    hash64_init(&h, 0);
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *t = &table->entry[i];
        if (!mask[i])
            continue;
        MT_TRY(tensor_table_add(out, t->name, 0, -1, t->shape[0], t->ndim == 1 ? 0 : t->shape[1]));
        hash64_add_string(&h, t->name);
        hash64_add_int(&h, t->ndim);
        hash64_add_int(&h, t->shape[0]);
        hash64_add_int(&h, t->shape[1]);
        hash64_add(&h, params + t->offset, t->count * (int64_t)sizeof *params);
    }
    *content = hash64_value(&h);
    return MT_OK;
}

/* Reads the record of a shared file and checks the file against it. */
static mt_status find_base(struct manifest *m, const char *record, const char *path)
{
    int64_t bytes;
    uint64_t hash;
    MT_TRY(manifest_read(m, record));
    MT_TRY(file_hash(&hash, &bytes, path));
    if (m->step >= 0 || m->file_count != 1 || m->file[0].bytes != bytes || m->file[0].hash != hash)
        return MT_FAIL(MT_DATA, "%s: not as its record says", path);
    return MT_OK;
}

static mt_status write_base(struct manifest *m, const char *record, const char *path,
                            const struct tensor_table *table, const float *params)
{
    struct block_file file = {-1, NULL};
    char *temp = NULL;
    uint8_t *groups = NULL;
    int32_t index;
    int64_t room = (int64_t)strlen(path) + 8;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&temp, room, 1, "a path"), done);
    (void)snprintf(temp, (size_t)room, "%s.tmp", path);
    MT_TRY_GOTO(st, mt_alloc(&groups, m->table.count, 1, "a layout's marks"), done);
    memset(groups, CHECKPOINT_BIT(CHECKPOINT_PARAMS), (size_t)m->table.count);
    MT_TRY_GOTO(st, manifest_add_file(m, file_path_base(path), false, 0, 0, &index), done);
    MT_TRY_GOTO(st, lay_out(m, temp, groups, index, NULL), done);
    MT_TRY_GOTO(st, block_file_open(&file, temp, false), done);
    for (int32_t i = 0; i < m->table.count; i++) {
        const struct tensor *t = &m->table.entry[i];
        const struct tensor *from = &table->entry[tensor_table_find(table, t->name)];
        MT_TRY_GOTO(st,
                    block_file_write(&file, params + from->offset,
                                     t->count * (int64_t)sizeof *params,
                                     manifest_place_of(m, CHECKPOINT_PARAMS, i)->offset),
                    done);
    }
    MT_TRY_GOTO(st, block_file_sync(&file), done);
    MT_TRY_GOTO(st, file_hash(&m->file[index].hash, &m->file[index].bytes, temp), done);
    MT_TRY_GOTO(st, file_rename(temp, path), done);
    MT_TRY_GOTO(st, manifest_write(m, record), done);
done:
    block_file_close(&file);
    if (st != MT_OK && temp != NULL)
        (void)unlink(temp);
    mt_free(&groups);
    mt_free(&temp);
    return st;
}

static mt_status fill_base(struct checkpoint_base *out, const struct manifest *m,
                           const struct tensor_table *table, uint64_t content)
{
    struct checkpoint_base base = {content, m->file[0].hash, m->file[0].bytes, table->count, NULL};
    MT_TRY(mt_alloc(&base.offset, table->count, sizeof *base.offset, "shared tensors"));
    for (int32_t i = 0; i < table->count; i++) {
        int32_t at = tensor_table_find(&m->table, table->entry[i].name);
        base.offset[i] = at < 0 ? -1 : manifest_place_of(m, CHECKPOINT_PARAMS, at)->offset;
    }
    *out = base;
    return MT_OK;
}

mt_status checkpoint_base_write(struct checkpoint_base *out, const char *run_dir,
                                const struct tensor_table *table, const uint8_t *mask,
                                const float *params)
{
    struct tensor_table chosen = {0};
    struct manifest m = {0};
    char *dir = NULL, *path = NULL, *record = NULL;
    char hash[HASH_TEXT_BYTES], name[MANIFEST_NAME_BYTES];
    uint64_t content;
    mt_status st;
    MT_TRY_GOTO(st, select_tensors(&chosen, &content, table, mask, params), done);
    hash64_format(hash, content);
    MT_TRY_GOTO(st, file_path_join(&dir, run_dir, "checkpoints/base"), done);
    MT_TRY_GOTO(st, file_make_dir(dir), done);
    (void)snprintf(name, sizeof name, "%s.h5", hash);
    MT_TRY_GOTO(st, file_path_join(&path, dir, name), done);
    (void)snprintf(name, sizeof name, "%s.json", hash);
    MT_TRY_GOTO(st, file_path_join(&record, dir, name), done);
    if (!file_exists(record) || find_base(&m, record, path) != MT_OK) {
        mt_error_clear(); /* a damaged one is written anew */
        manifest_release(&m);
        MT_TRY_GOTO(st, manifest_init(&m, -1, &chosen), done);
        MT_TRY_GOTO(st, write_base(&m, record, path, table, params), done);
    }
    MT_TRY_GOTO(st, fill_base(out, &m, table, content), done);
done:
    tensor_table_release(&chosen);
    manifest_release(&m);
    mt_free(&dir);
    mt_free(&path);
    mt_free(&record);
    return st;
}

void checkpoint_base_release(struct checkpoint_base *base)
{
    mt_free(&base->offset);
    memset(base, 0, sizeof *base);
}

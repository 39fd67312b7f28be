/*
 * See checkpoint_part.h.  As with state.h5, the HDF5 library lays the file out and the numbers are
 * written past it; the file is hashed by who wrote it, from the pages that it has just filled.
 */
#include "io/checkpoint_part.h"

#include <inttypes.h>
#include <stdio.h>

#include "comm/base/memory.h"
#include "io/checkpoint_manifest.h"
#include "io/checkpoint_paths.h"
#include "io/file.h"
#include "io/h5_raw.h"

mt_status checkpoint_part_add(struct checkpoint_part *p, enum checkpoint_group group,
                              int32_t tensor, int64_t begin, int64_t end)
{
    if (p->count == p->capacity) {
        int64_t grown = 2 * p->capacity + 16;
        MT_TRY(mt_grow(&p->piece, p->count, grown, sizeof *p->piece, "pieces of a checkpoint"));
        p->capacity = grown;
    }
    p->piece[p->count++] = (struct checkpoint_piece){(int32_t)group, tensor, begin, end, 0};
    return MT_OK;
}

void checkpoint_part_name(char out[CHECKPOINT_PART_NAME_BYTES], int32_t number)
{
    (void)snprintf(out, CHECKPOINT_PART_NAME_BYTES, "moments-%05" PRId32 ".h5", number);
}

bool checkpoint_piece_fits(const struct checkpoint_piece *piece, const struct tensor_table *table)
{
    return piece->group >= 0 && piece->group < CHECKPOINT_GROUPS && piece->tensor >= 0 &&
           piece->tensor < table->count && piece->begin >= 0 && piece->begin < piece->end &&
           piece->end <= table->entry[piece->tensor].count;
}

static mt_status lay_out(struct checkpoint_part *p, const char *path, int64_t step,
                         const struct tensor_table *table)
{
    char hash[HASH_TEXT_BYTES];
    struct h5_item *items = NULL;
    hash64_format(hash, tensor_table_hash(table));
    const struct h5_attribute attributes[] = {
        {"/", "format", "mttrain-checkpoint-part", 0},
        {"/", "version", NULL, 1},
        {"/", "step", NULL, step},
        {"/", "table_hash", hash, 0},
    };
    struct h5_layout layout = {.attributes = attributes,
                               .attribute_count = sizeof attributes / sizeof *attributes};
    mt_status st;
    MT_TRY(mt_alloc(&items, p->count, sizeof *items, "a checkpoint's layout"));
    for (int64_t i = 0; i < p->count; i++) {
        const struct checkpoint_piece *piece = &p->piece[i];
        struct h5_item *item = &items[i];
        if (p->count > INT32_MAX || !checkpoint_piece_fits(piece, table)) {
            st = MT_FAIL(MT_BUG, "piece %" PRId64 " of a checkpoint's part is of no tensor", i);
            goto done;
        }
        int n = snprintf(item->path, sizeof item->path, "/%s/%s/%" PRId64,
                         CHECKPOINT_GROUP_NAMES[piece->group], table->entry[piece->tensor].name,
                         piece->begin);
        if (n < 0 || (size_t)n >= sizeof item->path) {
            st = MT_FAIL(MT_BUG, "tensor name %s does not fit a checkpoint",
                         table->entry[piece->tensor].name);
            goto done;
        }
        item->kind = H5_KIND_F32;
        item->ndim = 1;
        item->shape[0] = piece->end - piece->begin;
    }
    layout.items = items;
    layout.item_count = (int32_t)p->count;
    MT_TRY_GOTO(st, h5_raw_create(path, &layout), done);
    for (int64_t i = 0; i < p->count; i++)
        p->piece[i].offset = items[i].offset_bytes;
done:
    mt_free(&items);
    return st;
}

mt_status checkpoint_part_begin(struct checkpoint_part *p, const char *run_dir, int64_t step,
                                const struct tensor_table *table)
{
    char name[CHECKPOINT_PART_NAME_BYTES];
    char *folder = NULL, *temp = NULL, *path = NULL;
    mt_status st;
    checkpoint_part_name(name, p->number);
    MT_TRY_GOTO(st, file_path_join(&folder, run_dir, "checkpoints"), done);
    MT_TRY_GOTO(st, checkpoint_format_path(&temp, folder, ".tmp", step), done);
    MT_TRY_GOTO(st, file_path_join(&path, temp, name), done);
    MT_TRY_GOTO(st, lay_out(p, path, step, table), done);
    MT_TRY_GOTO(st, block_file_open(&p->file, path, false), done);
done:
    mt_free(&folder);
    mt_free(&temp);
    mt_free(&path);
    return st;
}

mt_status checkpoint_part_write(const struct checkpoint_part *p, int64_t i, const float *data)
{
    const struct checkpoint_piece *piece = &p->piece[i];
    return block_file_write(&p->file, data, (piece->end - piece->begin) * (int64_t)sizeof *data,
                            piece->offset);
}

mt_status checkpoint_part_finish(struct checkpoint_part *p)
{
    MT_TRY(block_file_sync(&p->file));
    MT_TRY(file_hash(&p->hash, &p->bytes, p->file.path));
    block_file_close(&p->file);
    return MT_OK;
}

void checkpoint_part_release(struct checkpoint_part *p)
{
    if (p->file.path != NULL)
        block_file_close(&p->file);
    mt_free(&p->piece);
    *p = (struct checkpoint_part){.file.fd = -1};
}

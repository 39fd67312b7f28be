/*
 * checkpoint_manifest: what a checkpoint or a shared file consists of, as its manifest.json says.
 *
 * The text is JSON whose last member is the XXH64 of all the text before that member, so a manifest
 * that is cut or altered anywhere is known to be.  Reading it needs no HDF5: every array's place is
 * given in bytes.
 */
#ifndef MT_IO_CHECKPOINT_MANIFEST_H
#define MT_IO_CHECKPOINT_MANIFEST_H

#include "comm/base/tensors.h"
#include "io/checkpoint.h"

enum { MANIFEST_NAME_BYTES = 128, MANIFEST_TENSORS_MAX = 20000, MANIFEST_FILES_MAX = 4352 };

enum { MANIFEST_ABSENT = -1, MANIFEST_IN_PIECES = -2 }; /* in place of a file's index */

struct manifest_file {
    char name[MANIFEST_NAME_BYTES]; /* shared: "base/HASH.h5", from the folder of checkpoints */
    bool shared;
    int64_t bytes;
    uint64_t hash;
};

struct manifest_place {
    int32_t file;
    int64_t offset;
    int64_t first_piece, pieces; /* where file is MANIFEST_IN_PIECES */
};

/* A range of elements of an array that lies in several files. */
struct manifest_piece {
    int32_t tensor, group, file;
    int64_t offset, begin, end;
};

struct manifest {
    int64_t step; /* -1 in the manifest of a shared file */
    struct tensor_table table;
    struct manifest_place *place; /* [table.count * CHECKPOINT_GROUPS] */
    struct manifest_file *file;
    int32_t file_count, file_capacity;
    struct manifest_piece *piece; /* by tensor, group and begin once they are joined */
    int64_t piece_count, piece_capacity;
};

extern const char *const CHECKPOINT_GROUP_NAMES[CHECKPOINT_GROUPS]; /* "params" ... */

/* Local.  A manifest without files whose table is a copy and whose places are all
 * MANIFEST_ABSENT.
 * Owns: m, until manifest_release.  Errors: NOMEM. */
mt_status manifest_init(struct manifest *m, int64_t step,
                        const struct tensor_table *table) MT_CHECKED;
void manifest_release(struct manifest *m); /* accepts a zeroed one */

/* Local.  Errors: NOMEM; ARG for a name twice or too long. */
mt_status manifest_add_file(struct manifest *m, const char *name, bool shared, int64_t bytes,
                            uint64_t hash, int32_t *index) MT_CHECKED;

/* Local.  Adds a range of elements of an array, in any order.  Errors: NOMEM. */
mt_status manifest_add_piece(struct manifest *m, const struct manifest_piece *piece) MT_CHECKED;

/* Local.  After the last piece: sorts them and says in the places which arrays they make up.
 * Errors: DATA for a piece that is missing or there twice, saying which. */
mt_status manifest_join_pieces(struct manifest *m) MT_CHECKED;

/* Local.  Writes it, atomically and durably.  Errors: IO, NOMEM. */
mt_status manifest_write(const struct manifest *m, const char *path) MT_CHECKED;

/* Local.  Reads and checks it: self-hash, table, every place within its file.  Owns: m, until
 * manifest_release.  Errors: IO; DATA. */
mt_status manifest_read(struct manifest *m, const char *path) MT_CHECKED;

/* Local.  Whether a name may stand in a checkpoint: letters, digits, '.', '_' and '-', no leading
 * dot, shorter than MANIFEST_NAME_BYTES. */
bool manifest_name_is_plain(const char *name);

static inline struct manifest_place *manifest_place_of(const struct manifest *m,
                                                       enum checkpoint_group group, int32_t tensor)
{
    return &m->place[(int64_t)tensor * CHECKPOINT_GROUPS + (int64_t)group];
}

#endif

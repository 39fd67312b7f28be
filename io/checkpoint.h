/*
 * checkpoint: the state of a run at one step, complete or absent.
 *
 *     run_dir/checkpoints/step-00000120/state.h5       /params /adam_m /adam_v, a dataset a tensor
 *                                       state.json     the trainer's scalars, text of its own
 *                                       job.cfg ...    further texts
 *                                       moments-NNNNN.h5  optimizer state that a rank wrote itself
 *                                       manifest.json  every file with size and XXH64; written last
 *     run_dir/checkpoints/base/HASH.h5                 frozen tensors that checkpoints share
 *     run_dir/checkpoints/latest, best                 symbolic links
 *
 * A checkpoint is valid if and only if its name has no .tmp, its manifest is complete (it ends in a
 * hash of itself), and every file it lists, shared ones too, has the listed size and hash.  Tensors
 * are laid out by name; which rank held what is not in it, also where ranks wrote pieces of arrays
 * into files of their own (checkpoint_part.h): readers put them together.
 *
 *     MT_TRY(checkpoint_begin(&w, run_dir, step, &table, groups, NULL));
 *     MT_TRY_GOTO(st, checkpoint_add_block(w, CHECKPOINT_PARAMS, params), done);
 *     MT_TRY_GOTO(st, checkpoint_add_text(w, "state.json", text, bytes), done);
 *     MT_TRY_GOTO(st, checkpoint_commit(w), done);                  // now it is durable and
 * visible done: checkpoint_discard(&w);                                       // after a commit:
 * only frees
 *
 * A writer keeps its own copy of the table, and belongs to one thread at a time, which need not be
 * the one that began it.
 */
#ifndef MT_IO_CHECKPOINT_H
#define MT_IO_CHECKPOINT_H

#include "comm/base/tensors.h"

enum checkpoint_group {
    CHECKPOINT_PARAMS,
    CHECKPOINT_ADAM_M,
    CHECKPOINT_ADAM_V,
    CHECKPOINT_GROUPS
};

#define CHECKPOINT_BIT(group) ((uint8_t)(1u << (group)))
#define CHECKPOINT_PART_BIT(group) ((uint8_t)(1u << ((group) + 4))) /* in pieces, in parts */

enum { CHECKPOINT_PATH_BYTES = 4096, CHECKPOINT_TEXT_MAX_BYTES = 64 << 20 };

/* Frozen tensors in a shared file; made by checkpoint_base_write. */
struct checkpoint_base {
    uint64_t content_hash; /* of names, shapes and bytes: names the file */
    uint64_t file_hash;
    int64_t file_bytes;
    int32_t count;   /* tensors of the table it was made for */
    int64_t *offset; /* [count] bytes from the file's beginning; -1 = not in the file */
};

/* Local.  Makes sure that checkpoints/base holds the parameters of the tensors in mask
 * (mask[table->count]), writing the file only where no sound one is there.  Owns: out, until
 * checkpoint_base_release.  Errors: IO, NOMEM. */
mt_status checkpoint_base_write(struct checkpoint_base *out, const char *run_dir,
                                const struct tensor_table *table, const uint8_t *mask,
                                const float *params) MT_CHECKED;
void checkpoint_base_release(struct checkpoint_base *base);

struct checkpoint_writer;

/* Local.  Makes step-NNNNNNNN.tmp, empty, and lays out what it will hold.  groups[table->count]:
 * bits of the arrays that this checkpoint has for each tensor: CHECKPOINT_BIT for those that are
 * written here, CHECKPOINT_PART_BIT for those whose pieces come with checkpoint_add_part; the
 * parameters of tensors in `base` (may be NULL) are referred to, not copied.  Owns: the caller,
 * until checkpoint_discard.  Errors: IO, NOMEM. */
mt_status checkpoint_begin(struct checkpoint_writer **out, const char *run_dir, int64_t step,
                           const struct tensor_table *table, const uint8_t *groups,
                           const struct checkpoint_base *base) MT_CHECKED;

/* Local.  The two halves of checkpoint_begin: the folder, into which other processes may write
 * parts from then on, and the layout. */
mt_status checkpoint_create(struct checkpoint_writer **out, const char *run_dir, int64_t step,
                            const struct tensor_table *table) MT_CHECKED;
mt_status checkpoint_lay_out(struct checkpoint_writer *w, const uint8_t *groups,
                             const struct checkpoint_base *base) MT_CHECKED;

/* Local.  Writes one array: data has the tensor's count of floats.  Errors: IO; BUG for one that
 * was not announced in groups. */
mt_status checkpoint_add_tensor(struct checkpoint_writer *w, enum checkpoint_group group,
                                int32_t tensor, const float *data) MT_CHECKED;

/* Local.  Writes all announced arrays of a group from a flat block laid out by the table. */
mt_status checkpoint_add_block(struct checkpoint_writer *w, enum checkpoint_group group,
                               const float *flat) MT_CHECKED;

/* Local.  Writes a text file; name is of letters, digits, '.', '_' and '-'.  Errors: IO, ARG. */
mt_status checkpoint_add_text(struct checkpoint_writer *w, const char *name, const void *bytes,
                              int64_t count) MT_CHECKED;

/* Local.  Notes a part that is finished: a file of the folder, and which pieces are in it.  Errors:
 * NOMEM; ARG for a number that was there; BUG for a piece of no announced array. */
struct checkpoint_part;
mt_status checkpoint_add_part(struct checkpoint_writer *w,
                              const struct checkpoint_part *part) MT_CHECKED;

/* Local.  Once all arrays that are written here are: forces them to the disk and hashes them, so
 * that checkpoint_commit, which does it otherwise, has less to do.  Errors: IO, NOMEM; BUG for an
 * announced array that was never written. */
mt_status checkpoint_flush(struct checkpoint_writer *w) MT_CHECKED;

/* Local.  Hashes, writes the manifest, makes all durable and visible, replacing a checkpoint of the
 * same step.  Errors: IO, NOMEM; BUG for an announced array that was never written, or whose pieces
 * are not all of it, once.  After a failure an older checkpoint of the step is still there. */
mt_status checkpoint_commit(struct checkpoint_writer *w) MT_CHECKED;

/* Local.  Removes what was not committed; frees. */
void checkpoint_discard(struct checkpoint_writer **w);

struct checkpoint_reader; /* of one thread at a time */

/* Local.  Opens a checkpoint folder.  check_hashes: read every file and compare (needed once, by
 * one rank); otherwise only the manifest and the sizes are checked.  Owns: the caller, until
 * checkpoint_close.  Errors: DATA saying what is damaged; IO. */
mt_status checkpoint_open(struct checkpoint_reader **out, const char *path,
                          bool check_hashes) MT_CHECKED;
void checkpoint_close(struct checkpoint_reader **r);

/* Local.  Whether a checkpoint is valid.  Errors: DATA, IO, as checkpoint_open. */
mt_status checkpoint_verify(const char *path) MT_CHECKED;

int64_t checkpoint_step(const struct checkpoint_reader *r);
uint64_t checkpoint_table_hash(const struct checkpoint_reader *r);
int64_t checkpoint_bytes(const struct checkpoint_reader *r); /* of all its files, shared ones not */

int32_t checkpoint_file_count(const struct checkpoint_reader *r);
const char *checkpoint_file_name(const struct checkpoint_reader *r, int32_t i, int64_t *bytes);

/* Local.  The tensors it knows, in table order: offset and count are those of a table made of them.
 */
const struct tensor_table *checkpoint_table(const struct checkpoint_reader *r);
bool checkpoint_has(const struct checkpoint_reader *r, enum checkpoint_group group, int32_t tensor);
bool checkpoint_is_shared(const struct checkpoint_reader *r, int32_t tensor); /* in a base file */

/* Local.  Reads an array of the reader's own tensor index; dst has its count of floats.
 * Errors: IO; DATA where the checkpoint has no such array. */
mt_status checkpoint_read_tensor(struct checkpoint_reader *r, enum checkpoint_group group,
                                 int32_t tensor, float *dst) MT_CHECKED;

/* Local.  Fills a flat block by the names of `table`.  present (may be NULL for parameters):
 * [table->count] answers which tensors the group has; those without stay as they were.  For
 * CHECKPOINT_PARAMS every tensor must be there.  Errors: IO; DATA for a missing tensor or another
 * shape. */
mt_status checkpoint_read_block(struct checkpoint_reader *r, enum checkpoint_group group,
                                const struct tensor_table *table, float *flat,
                                uint8_t *present) MT_CHECKED;

/* Local.  A text, NUL behind it.  Owns: the caller, mt_free.  Errors: IO; DATA if not there. */
mt_status checkpoint_read_text(const struct checkpoint_reader *r, const char *name, char **text,
                               int64_t *bytes) MT_CHECKED;

/* Local.  One hash of parameters and optimizer state in table order: for each tensor its name,
 * shape, parameter bytes and, where present (params_only: never), those of adam_m and adam_v.  The
 * same whatever rank count wrote it and whether tensors are shared or copied.  Errors: IO, NOMEM.
 */
mt_status checkpoint_hash(struct checkpoint_reader *r, bool params_only, uint64_t *out) MT_CHECKED;

/* The folder of checkpoints (checkpoint_store.c). */

typedef void (*checkpoint_note)(void *context, const char *message);

/* Local.  The path of a step's checkpoint.  Errors: ARG where it is too long. */
mt_status checkpoint_path(char out[CHECKPOINT_PATH_BYTES], const char *run_dir,
                          int64_t step) MT_CHECKED;

/* Local.  Newest valid checkpoint of a run, found by full verification from the newest down; note
 * (may be NULL) is told of each damaged one.  *step = -1 and an empty path where there is none.
 * Errors: IO, NOMEM. */
mt_status checkpoint_find_newest_valid(const char *run_dir, char out[CHECKPOINT_PATH_BYTES],
                                       int64_t *step, checkpoint_note note,
                                       void *context) MT_CHECKED;

/* Local.  Steps that have a visible checkpoint, ascending, sound or not.  Owns: the caller,
 * mt_free. */
mt_status checkpoint_list(const char *run_dir, int64_t **steps, int32_t *count) MT_CHECKED;

/* Local.  Points checkpoints/NAME at a step, atomically.  name: "latest", "best" ... */
mt_status checkpoint_set_link(const char *run_dir, const char *name, int64_t step) MT_CHECKED;

/* Local.  The step that checkpoints/NAME points at, -1 where there is no such link. */
int64_t checkpoint_get_link(const char *run_dir, const char *name);

/* Local.  Before a run goes on from an older step: removes the checkpoints of greater steps, which
 * belong to a course that is given up.  Errors: IO, NOMEM. */
mt_status checkpoint_drop_after(const char *run_dir, int64_t step) MT_CHECKED;

/* Local.  Before a run goes on: removes what a writer of a process that was killed left behind,
 * and shared files that no checkpoint refers to; gives a checkpoint that was being replaced its
 * name back.  No writer is at work in the folder.  Errors: IO, NOMEM. */
mt_status checkpoint_remove_leftovers(const char *run_dir) MT_CHECKED;

/* Local.  Removes checkpoints beyond the newest keep_last sound ones, but for pinned steps and
 * those that latest and best point at; then shared files that none refers to, and .tmp folders that
 * no writer of this process is filling.  Removes nothing unless the newest that stays was verified.
 * Errors: IO, NOMEM. */
mt_status checkpoint_retain(const char *run_dir, int32_t keep_last, const int64_t *pinned,
                            int32_t pinned_count) MT_CHECKED;

#endif

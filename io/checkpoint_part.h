/*
 * checkpoint_part: the optimizer state that one rank owns, in a file of its own within a checkpoint
 * that is being written.
 *
 *     step-00000120.tmp/moments-00003.h5     /adam_m/<tensor>/<first element>, /adam_v/...
 *
 * A piece is a range of elements of one array; which rank has which is the caller's matter.  The
 * pieces of all parts together must be each announced array once: checkpoint_commit sees to that.
 *
 *     struct checkpoint_part p = {.number = rank};
 *     MT_TRY_GOTO(st, checkpoint_part_add(&p, CHECKPOINT_ADAM_M, tensor, begin, end), done); ...
 *     MT_TRY_GOTO(st, checkpoint_part_begin(&p, run_dir, step, &table), done);
 *     for (int64_t i = 0; i < p.count; i++)
 *         MT_TRY_GOTO(st, checkpoint_part_write(&p, i, data of piece i), done);
 *     MT_TRY_GOTO(st, checkpoint_part_finish(&p), done); // durable; bytes and hash are known
 *     ... checkpoint_add_part(writer, &p), where the writer is
 *     checkpoint_part_release(&p);
 */
#ifndef MT_IO_CHECKPOINT_PART_H
#define MT_IO_CHECKPOINT_PART_H

#include "io/block_file.h"
#include "io/checkpoint.h"

enum { CHECKPOINT_PARTS_MAX = 4096, CHECKPOINT_PART_NAME_BYTES = 24 };

struct checkpoint_piece {
    int32_t group, tensor;
    int64_t begin, end; /* elements of the tensor */
    int64_t offset;     /* answered: bytes from the file's beginning */
};

struct checkpoint_part {
    int32_t number; /* names the file: 0 .. CHECKPOINT_PARTS_MAX-1 */
    struct checkpoint_piece *piece;
    int64_t count, capacity;
    int64_t bytes; /* of the file, and its hash, once it is finished */
    uint64_t hash;
    struct block_file file;
};

/* Local.  Adds elements [begin, end) of an array.  Errors: NOMEM. */
mt_status checkpoint_part_add(struct checkpoint_part *p, enum checkpoint_group group,
                              int32_t tensor, int64_t begin, int64_t end) MT_CHECKED;

/* Local.  Lays out the file in the folder that checkpoint_create made, in this process or another;
 * answers each piece's offset.  Errors: IO, NOMEM; BUG for a piece that is not of the table. */
mt_status checkpoint_part_begin(struct checkpoint_part *p, const char *run_dir, int64_t step,
                                const struct tensor_table *table) MT_CHECKED;

/* Local.  Writes piece i: data has its floats.  Errors: IO. */
mt_status checkpoint_part_write(const struct checkpoint_part *p, int64_t i,
                                const float *data) MT_CHECKED;

/* Local.  Makes the file durable and answers its size and hash.  Errors: IO, NOMEM. */
mt_status checkpoint_part_finish(struct checkpoint_part *p) MT_CHECKED;

/* Local.  The name of a part's file; whether a piece lies within an array of the table. */
void checkpoint_part_name(char out[CHECKPOINT_PART_NAME_BYTES], int32_t number);
bool checkpoint_piece_fits(const struct checkpoint_piece *piece, const struct tensor_table *table);

/* Local.  Forgets the pieces; the file stays.  Accepts a zeroed one. */
void checkpoint_part_release(struct checkpoint_part *p);

#endif

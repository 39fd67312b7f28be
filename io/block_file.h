/*
 * block_file: a file filled at known offsets, in any order, then forced to the disk.
 *
 * For arrays whose place is known before their numbers are.  The caller chooses a temporary path
 * and renames; nothing here is atomic by itself.  Blocks may be written by several threads at once.
 */
#ifndef MT_IO_BLOCK_FILE_H
#define MT_IO_BLOCK_FILE_H

#include "comm/base/status.h"

struct block_file {
    int fd; /* -1 = closed */
    char *path;
};

/* Local.  Opens for writing; create: makes it, empty, else it must be there.  Owns: the caller,
 * until block_file_close.  Errors: IO, NOMEM. */
mt_status block_file_open(struct block_file *f, const char *path, bool create) MT_CHECKED;

/* Local.  Writes count bytes at offset.  Errors: IO, saying when the disk is full. */
mt_status block_file_write(const struct block_file *f, const void *bytes, int64_t count,
                           int64_t offset) MT_CHECKED;

/* Local.  Forces all that was written to the disk.  Errors: IO. */
mt_status block_file_sync(const struct block_file *f) MT_CHECKED;

/* Local.  Accepts a file that is closed already (fd -1, path NULL). */
void block_file_close(struct block_file *f);

#endif

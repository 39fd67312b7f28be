/*
 * prefix_file: the outputs of a frozen prefix for whole data sets, in one file that ranks share.
 *
 * A header of PREFIX_HEADER_BYTES, then the data as one array of float32 or bfloat16 elements, then
 * one XXH64 for each canonical block.  Several processes may write different blocks of one file.
 * The file gets its name only when it is complete, and a reader checks the blocks' hashes, so it
 * needs no fsync: what a crash tears is found and made again.  Reading maps the file; the ranks of
 * a host share the pages.
 */
#ifndef MT_IO_PREFIX_FILE_H
#define MT_IO_PREFIX_FILE_H

#include "comm/base/status.h"

enum { PREFIX_HEADER_BYTES = 4096 };

struct prefix_layout {
    uint64_t key;     /* of everything the content depends on */
    int64_t elements; /* of the array */
    int64_t blocks;
    const int64_t *first; /* [blocks+1] first element of each block; borrowed */
    bool bf16;            /* stored rounded to nearest even */
};

struct prefix_file;

/* Local.  Size of the file. */
int64_t prefix_file_bytes(const struct prefix_layout *layout);

/* Local.  Makes the file under a temporary name, which is the caller's to choose, with all its
 * space reserved.  Errors: IO (a full disk). */
mt_status prefix_file_make(const char *temp, const struct prefix_layout *layout) MT_CHECKED;

/* Local.  Opens what some process has made, for writing blocks.  Owns: the caller, close. */
mt_status prefix_file_open_writer(struct prefix_file **out, const char *temp,
                                  const struct prefix_layout *layout) MT_CHECKED;

/* Local.  Any thread.  data: the block's elements as float.  scratch: as many bytes again. */
mt_status prefix_file_write_block(struct prefix_file *f, int64_t block, const float *data,
                                  void *scratch) MT_CHECKED;

/* Local.  Gives the finished file its name; removes it in case of failure. */
mt_status prefix_file_publish(const char *temp, const char *path) MT_CHECKED;
void prefix_file_abandon(const char *temp);

/* Local.  Maps a complete file for reading.  populate: read all of it ahead.  Errors: IO; DATA
 * where it does not belong to the layout or has another size. */
mt_status prefix_file_open(struct prefix_file **out, const char *path,
                           const struct prefix_layout *layout, bool populate) MT_CHECKED;
void prefix_file_close(struct prefix_file **f);

/* Local.  Whether a block's bytes have their hash. */
bool prefix_file_check_block(const struct prefix_file *f, int64_t block);

/* Local.  Elements first .. first+count-1 as float. */
void prefix_file_read(const struct prefix_file *f, int64_t first, int64_t count, float *out);

/* Local.  Free bytes of the file system that holds dir; -1 = unknown. */
int64_t prefix_file_free_bytes(const char *dir);

#endif

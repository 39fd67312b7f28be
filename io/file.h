/*
 * file: files and folders, whole or in a stream, complete or absent.
 *
 * Nothing that this module writes is ever seen half-written under its own name: bytes go to
 * "NAME.tmp-PID" in the same folder, are forced to the disk, renamed, and the folder is forced too.
 * Messages name the path, the system's reason and the mend.
 *
 *     struct file_writer w;
 *     MT_TRY(file_writer_open(&w, path));
 *     MT_TRY_GOTO(st, file_writer_write(&w, bytes, count), done);
 *     MT_TRY_GOTO(st, file_writer_commit(&w), done);
 * done:
 *     file_writer_discard(&w);          // nothing to do after a commit
 *
 * Functions here are Local and may be called from several threads at the same time.
 */
#ifndef MT_IO_FILE_H
#define MT_IO_FILE_H

#include "comm/base/hash.h"
#include "comm/base/status.h"

/* Local.  The whole file in *bytes, followed by a NUL that *count does not include.
 * Owns: the caller, mt_free.  Errors: IO; DATA where it is not there or larger than max_bytes. */
mt_status file_read(char **bytes, int64_t *count, const char *path, int64_t max_bytes) MT_CHECKED;

/* Local.  Writes count bytes as `path`, atomically and durably.  Errors: IO, NOMEM. */
mt_status file_write_atomic(const char *path, const void *bytes, int64_t count) MT_CHECKED;

/* Local.  XXH64 of a file's bytes, and its size (NULL = not wanted).  Errors: IO, DATA (absent). */
mt_status file_hash(uint64_t *hash, int64_t *size_bytes, const char *path) MT_CHECKED;

/* Asked now and then in what may take long; false = stop, which comes back as STOPPED. */
typedef bool (*file_go_on)(void *context);

/* Local.  The same as file_hash of a file that may be large; go_on NULL = never asked. */
mt_status file_hash_large(uint64_t *hash, int64_t *size_bytes, const char *path, file_go_on go_on,
                          void *context) MT_CHECKED;

/* A file that is being written.  hash and size_bytes count what was handed in so far. */
struct file_writer {
    int fd; /* -1 = closed */
    char *path, *temp_path;
    unsigned char *buffer;
    int64_t buffered_bytes, size_bytes;
    struct hash64 hash;
};

/* Local.  Begins the temporary file.  Owns it until commit or discard.  Errors: IO, NOMEM. */
mt_status file_writer_open(struct file_writer *w, const char *path) MT_CHECKED;
mt_status file_writer_write(struct file_writer *w, const void *bytes, int64_t count) MT_CHECKED;

/* Local.  Flush, fsync, rename, fsync of the folder; closed afterwards, also on failure. */
mt_status file_writer_commit(struct file_writer *w) MT_CHECKED;

/* Local.  Removes the temporary file; accepts a writer that is zeroed, committed or discarded. */
void file_writer_discard(struct file_writer *w);

/* Local.  Plain descriptors for readers that page through a file.  file_fd_open refuses folders and
 * everything else that is not a regular file.  Errors: IO; DATA where there is none. */
mt_status file_fd_open(int *fd, int64_t *size_bytes, const char *path) MT_CHECKED;
mt_status file_fd_read(int fd, void *bytes, int64_t capacity, int64_t *got,
                       const char *path) MT_CHECKED;
mt_status file_fd_read_at(int fd, void *bytes, int64_t count, int64_t offset,
                          const char *path) MT_CHECKED; /* all of it, or DATA */
void file_fd_close(int *fd);

/* A file mapped read-only. */
struct file_map {
    const unsigned char *bytes; /* NULL where the file is empty */
    int64_t size_bytes;
};
/* Local.  Errors: IO. */
mt_status file_map_open(struct file_map *m, const char *path) MT_CHECKED;
void file_map_close(struct file_map *m);

/* Local.  Creates a folder and all above it; one that exists is fine.  Errors: IO, NOMEM. */
mt_status file_make_dir(const char *path) MT_CHECKED;

/* Local.  Removes a file, a symbolic link (not its target) or a folder with all it holds; absent is
 * fine.  Errors: IO. */
mt_status file_remove(const char *path) MT_CHECKED;

/* Names in a folder, sorted by bytes, without "." and "..". */
struct file_list {
    char **names;
    int32_t count;
};
/* Local.  Owns the names until file_list_release.  Errors: IO, NOMEM. */
mt_status file_list_read(struct file_list *list, const char *dir) MT_CHECKED;
void file_list_release(struct file_list *list);

/* Local.  rename(2) and fsync of the target's folder.  Errors: IO. */
mt_status file_rename(const char *from, const char *to) MT_CHECKED;

/* Local.  Forces a file's bytes, or a folder's entries, to the disk.  Errors: IO. */
mt_status file_sync(const char *path) MT_CHECKED;

/* Local.  Makes `link` a symbolic link to `target`, replacing one that is there in one step. */
mt_status file_symlink_atomic(const char *target, const char *link) MT_CHECKED;

bool file_exists(const char *path);
bool file_is_dir(const char *path);
bool file_same(const char *a, const char *b); /* one file or folder under two names */
mt_status file_size(int64_t *size_bytes, const char *path) MT_CHECKED;

/* Local.  "dir/name", or name where it is absolute or dir is empty.  Owns: the caller, mt_free. */
mt_status file_path_join(char **out, const char *dir, const char *name) MT_CHECKED;
/* Local.  What stands before the last '/', "." where there is none.  Owns: the caller, mt_free. */
mt_status file_path_dir(char **out, const char *path) MT_CHECKED;
/* What stands after the last '/'; borrows. */
const char *file_path_base(const char *path);
/* Whether the path ends in `extension` (".tsv"), whatever the case. */
bool file_path_has_extension(const char *path, const char *extension);

/* Local.  Fault injection for tests: the n-th input or output call from now on fails with EIO
 * (once); 0 = never.  Calls of the HDF5 library made by io count too. */
void file_fail_after(int64_t n);

/* Whether this call is the one that must fail; for the modules of io that make such calls. */
bool file_fault_now(void);

#endif

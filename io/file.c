/*
 * See file.h.
 *
 * Every call that can fail for reasons outside the program goes through one test, fault(), so that
 * a test can fail each of them in turn.  What a writer hands to the kernel is what its hash saw:
 * checksums of written files need no second reading.
 *
 * Refused: O_TMPFILE with linkat (it cannot replace a file), and fdatasync (the size matters here).
 */
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/base/memory.h"

enum { WRITE_BUFFER_BYTES = 256 << 10, READ_BUFFER_BYTES = 256 << 10, DEPTH_MAX = 64 };

static atomic_llong fail_countdown;

void file_fail_after(int64_t n)
{
    atomic_store(&fail_countdown, n);
}

bool file_fault_now(void)
{
    if (atomic_load(&fail_countdown) <= 0)
        return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

static bool fault(void)
{
    if (!file_fault_now())
        return false;
    errno = EIO;
    return true;
}

static const char *mend_of(int error)
{
    switch (error) {
    case ENOENT:
        return "; check the path (relative paths count from the job file's folder)";
    case EACCES:
    case EPERM:
        return "; check the permissions of the file and of the folders above it";
    case ENOSPC:
    case EDQUOT:
        return "; free some space there, or choose a folder on another disk";
    case EROFS:
        return "; choose a folder on a file system that can be written";
    case EMFILE:
    case ENFILE:
        return "; raise the limit of open files (ulimit -n)";
    case EIO:
        return "; the device reports an error: look at the system's log, then start again";
    default:
        return "";
    }
}

/* A record for the failed call that left errno. */
static mt_status fail_errno(const char *action, const char *path)
{
    int error = errno;
    return MT_FAIL(MT_IO, "%s: cannot %s: %s%s", path, action, strerror(error), mend_of(error));
}

void file_fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

mt_status file_fd_open(int *fd, int64_t *size_bytes, const char *path)
{
    /* O_NONBLOCK: opening a named pipe must not wait for a writer. */
    int opened = fault() ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0 && (errno == ENOENT || errno == ENOTDIR))
        return MT_FAIL(MT_DATA, "%s: cannot open: %s%s", path, strerror(errno), mend_of(ENOENT));
    if (opened < 0)
        return fail_errno("open", path);
    struct stat info;
    if (fault() || fstat(opened, &info) != 0) {
        mt_status st = fail_errno("examine", path);
        file_fd_close(&opened);
        return st;
    }
    if (!S_ISREG(info.st_mode)) {
        file_fd_close(&opened);
        return MT_FAIL(MT_IO, "%s: %s; name a plain file", path,
                       S_ISDIR(info.st_mode) ? "is a folder" : "is not a plain file");
    }
    if (size_bytes != NULL)
        *size_bytes = info.st_size;
    *fd = opened;
    return MT_OK;
}

mt_status file_fd_read(int fd, void *bytes, int64_t capacity, int64_t *got, const char *path)
{
    for (;;) {
        ssize_t n = fault() ? -1 : read(fd, bytes, (size_t)capacity);
        if (n >= 0) {
            *got = n;
            return MT_OK;
        }
        if (errno != EINTR)
            return fail_errno("read", path);
    }
}

mt_status file_fd_read_at(int fd, void *bytes, int64_t count, int64_t offset, const char *path)
{
    char *to = bytes;
    while (count > 0) {
        ssize_t n = fault() ? -1 : pread(fd, to, (size_t)count, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno("read", path);
        if (n == 0)
            return MT_FAIL(
                MT_DATA, "%s: ends at byte %lld, in the middle of its data; make or copy it again",
                path, (long long)offset);
        to += n;
        offset += n;
        count -= n;
    }
    return MT_OK;
}

mt_status file_read(char **bytes, int64_t *count, const char *path, int64_t max_bytes)
{
    int fd;
    int64_t size, done = 0;
    char *text = NULL;
    MT_TRY(file_fd_open(&fd, &size, path));
    mt_status st = MT_OK;
    if (size > max_bytes) {
        st = MT_FAIL(MT_DATA,
                     "%s: has %lld bytes, at most %lld are read here; is it the right file?", path,
                     (long long)size, (long long)max_bytes);
        goto done;
    }
    MT_TRY_GOTO(st, mt_alloc(&text, size + 1, 1, path), done);
    while (done < size) { /* a file that shrinks meanwhile is read as far as it goes */
        int64_t got = 0;
        MT_TRY_GOTO(st, file_fd_read(fd, text + done, size - done, &got, path), done);
        if (got == 0)
            break;
        done += got;
    }
    text[done] = '\0';
    *bytes = text;
    *count = done;
    text = NULL;
done:
    mt_free(&text);
    file_fd_close(&fd);
    return st;
}

mt_status file_hash(uint64_t *hash, int64_t *size_bytes, const char *path)
{
    return file_hash_large(hash, size_bytes, path, NULL, NULL);
}

mt_status file_hash_large(uint64_t *hash, int64_t *size_bytes, const char *path, file_go_on go_on,
                          void *context)
{
    int fd;
    int64_t got = 1, total = 0;
    unsigned char *buffer = NULL;
    struct hash64 h;
    hash64_init(&h, 0);
    MT_TRY(file_fd_open(&fd, NULL, path));
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&buffer, READ_BUFFER_BYTES, 1, "read buffer"), done);
    while (got > 0) {
        if (go_on != NULL && !go_on(context)) {
            st = MT_FAIL(MT_STOPPED, "stopped while reading %s", path);
            goto done;
        }
        MT_TRY_GOTO(st, file_fd_read(fd, buffer, READ_BUFFER_BYTES, &got, path), done);
        hash64_add(&h, buffer, got);
        total += got;
    }
    *hash = hash64_value(&h);
    if (size_bytes != NULL)
        *size_bytes = total;
done:
    mt_free(&buffer);
    file_fd_close(&fd);
    return st;
}

mt_status file_writer_open(struct file_writer *w, const char *path)
{
    memset(w, 0, sizeof *w);
    w->fd = -1;
    hash64_init(&w->hash, 0);
    mt_status st;
    int64_t room = (int64_t)strlen(path) + 32;
    MT_TRY_GOTO(st, mt_strdup(&w->path, path), done);
    MT_TRY_GOTO(st, mt_alloc(&w->temp_path, room, 1, "temporary name"), done);
    MT_TRY_GOTO(st, mt_alloc(&w->buffer, WRITE_BUFFER_BYTES, 1, "write buffer"), done);
    (void)snprintf(w->temp_path, (size_t)room, "%s.tmp-%ld", path, (long)getpid());
    w->fd = fault() ? -1 : open(w->temp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0)
        st = fail_errno("create", path);
done:
    if (st != MT_OK)
        file_writer_discard(w);
    return st;
}

static mt_status write_all(struct file_writer *w, const unsigned char *bytes, int64_t count)
{
    while (count > 0) {
        ssize_t n = fault() ? -1 : write(w->fd, bytes, (size_t)count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno("write", w->path);
        bytes += n;
        count -= n;
    }
    return MT_OK;
}

static mt_status flush_buffer(struct file_writer *w)
{
    int64_t count = w->buffered_bytes;
    w->buffered_bytes = 0;
    return write_all(w, w->buffer, count);
}

mt_status file_writer_write(struct file_writer *w, const void *bytes, int64_t count)
{
    if (w->fd < 0)
        return MT_FAIL(MT_BUG, "write to a file that is not open");
    hash64_add(&w->hash, bytes, count);
    w->size_bytes += count;
    if (count > WRITE_BUFFER_BYTES - w->buffered_bytes)
        MT_TRY(flush_buffer(w));
    if (count >= WRITE_BUFFER_BYTES)
        return write_all(w, bytes, count);
    if (count > 0)
        memcpy(w->buffer + w->buffered_bytes, bytes, (size_t)count);
    w->buffered_bytes += count;
    return MT_OK;
}

mt_status file_writer_commit(struct file_writer *w)
{
    mt_status st = MT_OK;
    if (w->fd < 0)
        return MT_FAIL(MT_BUG, "commit of a file that is not open");
    MT_TRY_GOTO(st, flush_buffer(w), done);
    if (fault() || fsync(w->fd) != 0) {
        st = fail_errno("force to disk", w->path);
        goto done;
    }
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 || fault()) {
        st = fail_errno("close", w->path);
        goto done;
    }
    MT_TRY_GOTO(st, file_rename(w->temp_path, w->path), done);
    mt_free(&w->temp_path); /* there is nothing left to remove */
done:
    file_writer_discard(w);
    return st;
}

void file_writer_discard(struct file_writer *w)
{
    if (w->path == NULL)
        return; /* zeroed or done */
    file_fd_close(&w->fd);
    if (w->temp_path != NULL)
        (void)unlink(w->temp_path);
    mt_free(&w->path);
    mt_free(&w->temp_path);
    mt_free(&w->buffer);
}

mt_status file_write_atomic(const char *path, const void *bytes, int64_t count)
{
    struct file_writer w;
    MT_TRY(file_writer_open(&w, path));
    mt_status st;
    MT_TRY_GOTO(st, file_writer_write(&w, bytes, count), done);
    MT_TRY_GOTO(st, file_writer_commit(&w), done);
done:
    file_writer_discard(&w);
    return st;
}

mt_status file_map_open(struct file_map *m, const char *path)
{
    int fd;
    int64_t size;
    MT_TRY(file_fd_open(&fd, &size, path));
    struct file_map map = {NULL, size};
    mt_status st = MT_OK;
    if (size > 0) {
        void *at = fault() ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
            st = fail_errno("map", path);
        else
            map.bytes = at;
    }
    file_fd_close(&fd);
    if (st == MT_OK)
        *m = map;
    return st;
}

void file_map_close(struct file_map *m)
{
    if (m->bytes != NULL) {
        uintptr_t at = (uintptr_t)m->bytes;
        (void)munmap((void *)at, (size_t)m->size_bytes);
    }
    m->bytes = NULL;
    m->size_bytes = 0;
}

mt_status file_sync(const char *path)
{
    int fd = fault() ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno("open", path);
    int answer = fault() ? -1 : fsync(fd);
    /* Some network file systems refuse to sync a folder, and need no such call. */
    mt_status st = answer == 0 || errno == EINVAL ? MT_OK : fail_errno("force to disk", path);
    file_fd_close(&fd);
    return st;
}

static mt_status sync_folder_of(const char *path)
{
    char *dir;
    MT_TRY(file_path_dir(&dir, path));
    mt_status st = file_sync(dir);
    mt_free(&dir);
    return st;
}

mt_status file_rename(const char *from, const char *to)
{
    if (fault() || rename(from, to) != 0)
        return fail_errno("put in place", to);
    MT_TRY(sync_folder_of(to));
    return MT_OK;
}

mt_status file_symlink_atomic(const char *target, const char *link)
{
    char *temp;
    int64_t room = (int64_t)strlen(link) + 32;
    MT_TRY(mt_alloc(&temp, room, 1, "temporary name"));
    (void)snprintf(temp, (size_t)room, "%s.tmp-%ld", link, (long)getpid());
    (void)unlink(temp);
    mt_status st = MT_OK;
    if (fault() || symlink(target, temp) != 0)
        st = fail_errno("create the link", link);
    else if ((st = file_rename(temp, link)) != MT_OK)
        (void)unlink(temp);
    mt_free(&temp);
    return st;
}

static mt_status make_one_dir(const char *path)
{
    struct stat info;
    if (!fault() && mkdir(path, 0777) == 0)
        return MT_OK;
    int error = errno;
    if (error != EIO && stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return MT_OK;
    errno = error == EEXIST ? ENOTDIR : error;
    return fail_errno("create the folder", path);
}

mt_status file_make_dir(const char *path)
{
    char *part;
    MT_TRY(mt_strdup(&part, path));
    mt_status st = MT_OK;
    for (char *at = part; *at != '\0'; at++) {
        if (*at != '/' || at == part)
            continue;
        *at = '\0';
        MT_TRY_GOTO(st, make_one_dir(part), done);
        *at = '/';
    }
    MT_TRY_GOTO(st, make_one_dir(part), done);
done:
    mt_free(&part);
    return st;
}

static mt_status remove_at(const char *path, int depth)
{
    struct stat info;
    if (fault() || lstat(path, &info) != 0)
        return errno == ENOENT ? MT_OK : fail_errno("examine", path);
    if (!S_ISDIR(info.st_mode)) {
        if ((fault() || unlink(path) != 0) && errno != ENOENT)
            return fail_errno("remove", path);
        return MT_OK;
    }
    if (depth == 0)
        return MT_FAIL(MT_IO, "%s: folders are nested too deeply to be removed", path);
    struct file_list list;
    MT_TRY(file_list_read(&list, path));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < list.count && st == MT_OK; i++) {
        char *below;
        MT_TRY_GOTO(st, file_path_join(&below, path, list.names[i]), done);
        st = remove_at(below, depth - 1);
        mt_free(&below);
    }
    if (st == MT_OK && (fault() || rmdir(path) != 0) && errno != ENOENT)
        st = fail_errno("remove", path);
done:
    file_list_release(&list);
    return st;
}

mt_status file_remove(const char *path)
{
    return remove_at(path, DEPTH_MAX);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static mt_status list_add(struct file_list *list, int32_t *capacity, const char *name)
{
    if (list->count == *capacity) {
        int32_t grown = *capacity == 0 ? 16 : *capacity * 2;
        MT_TRY(mt_grow(&list->names, *capacity, grown, sizeof *list->names, "names"));
        *capacity = grown;
    }
    MT_TRY(mt_strdup(&list->names[list->count], name));
    list->count++;
    return MT_OK;
}

mt_status file_list_read(struct file_list *list, const char *dir)
{
    struct file_list found = {NULL, 0};
    int32_t capacity = 0;
    DIR *handle = fault() ? NULL : opendir(dir);
    if (handle == NULL)
        return fail_errno("list the folder", dir);
    mt_status st = MT_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = fault() ? NULL : readdir(handle);
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        MT_TRY_GOTO(st, list_add(&found, &capacity, entry->d_name), done);
    }
    if (errno != 0) {
        st = fail_errno("list the folder", dir);
        goto done;
    }
    if (found.count > 1)
        qsort(found.names, (size_t)found.count, sizeof *found.names, compare_names);
    *list = found;
done:
    (void)closedir(handle);
    if (st != MT_OK)
        file_list_release(&found);
    return st;
}

void file_list_release(struct file_list *list)
{
    for (int32_t i = 0; i < list->count; i++)
        mt_free(&list->names[i]);
    mt_free(&list->names);
    list->count = 0;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool file_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

mt_status file_size(int64_t *size_bytes, const char *path)
{
    struct stat info;
    if (fault() || stat(path, &info) != 0)
        return fail_errno("examine", path);
    *size_bytes = info.st_size;
    return MT_OK;
}

mt_status file_path_join(char **out, const char *dir, const char *name)
{
    if (name[0] == '/' || dir[0] == '\0')
        return mt_strdup(out, name);
    size_t length = strlen(dir);
    const char *slash = dir[length - 1] == '/' ? "" : "/";
    int64_t room = (int64_t)(length + strlen(name) + 2);
    char *text;
    MT_TRY(mt_alloc(&text, room, 1, "path"));
    (void)snprintf(text, (size_t)room, "%s%s%s", dir, slash, name);
    *out = text;
    return MT_OK;
}

mt_status file_path_dir(char **out, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return mt_strdup(out, ".");
    if (slash == path)
        return mt_strdup(out, "/");
    char *text;
    MT_TRY(mt_strdup(&text, path));
    text[slash - path] = '\0';
    *out = text;
    return MT_OK;
}

const char *file_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

bool file_path_has_extension(const char *path, const char *extension)
{
    size_t a = strlen(path), b = strlen(extension);
    return a > b && strcasecmp(path + a - b, extension) == 0;
}

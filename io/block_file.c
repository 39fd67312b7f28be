/* See block_file.h. */
#include "io/block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/file.h"

static bool fault(void)
{
    bool fails = file_fault_now();
    if (fails)
        errno = EIO;
    return fails;
}

static mt_status fail_errno(const struct block_file *f, const char *action)
{
    int error = errno;
    return MT_FAIL(MT_IO, "%s: cannot %s: %s%s", f->path, action, strerror(error),
                   error == ENOSPC || error == EDQUOT ? "; free some space there" : "");
}

mt_status block_file_open(struct block_file *f, const char *path, bool create)
{
    f->fd = -1;
    f->path = NULL;
    MT_TRY(mt_strdup(&f->path, path));
    int flags = O_WRONLY | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0);
    f->fd = fault() ? -1 : open(path, flags, 0666);
    if (f->fd >= 0)
        return MT_OK;
    mt_status st = fail_errno(f, "open for writing");
    block_file_close(f);
    return st;
}

mt_status block_file_write(const struct block_file *f, const void *bytes, int64_t count,
                           int64_t offset)
{
    const char *from = bytes;
    while (count > 0) {
        ssize_t n = fault() ? -1 : pwrite(f->fd, from, (size_t)count, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(f, "write");
        from += n;
        offset += n;
        count -= n;
    }
    return MT_OK;
}

mt_status block_file_sync(const struct block_file *f)
{
    if (fault() || fsync(f->fd) != 0)
        return fail_errno(f, "force to disk");
    return MT_OK;
}

void block_file_close(struct block_file *f)
{
    file_fd_close(&f->fd);
    mt_free(&f->path);
}

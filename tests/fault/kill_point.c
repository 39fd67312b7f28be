/*
 * Preloaded into the program: lists, or dies before, the calls that change names on the disk.
 *
 * KILL_LIST=FILE appends one line "CALL PATH" for each; KILL_AT=N kills the process before its
 * N-th. Half-written files exist exactly between two of these calls.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static void point(const char *call, const char *path)
{
    const char *at = getenv("KILL_AT"), *list = getenv("KILL_LIST"),
               *within = getenv("KILL_WITHIN");
    char line[4400];
    if (within == NULL || strncmp(path, within, strlen(within)) != 0)
        return;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (at != NULL && atol(at) == n)
        (void)kill(getpid(), SIGKILL);
    if (list == NULL)
        return;
    int length = snprintf(line, sizeof line, "%s %s\n", call, path + strlen(within));
    int fd = (int)syscall(SYS_openat, AT_FDCWD, list, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (syscall(SYS_write, fd, line, length) != length)
        abort();
    (void)syscall(SYS_close, fd);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;
    va_end(more);
    if (flags & O_CREAT)
        point("create", path);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;
    va_end(more);
    if (flags & O_CREAT)
        point("create", path);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int rename(const char *from, const char *to)
{
    point("rename", to);
    return (int)syscall(SYS_rename, from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    point("exchange", to);
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
    point("mkdir", path);
    return (int)syscall(SYS_mkdir, path, mode);
}

int symlink(const char *target, const char *link)
{
    point("symlink", link);
    return (int)syscall(SYS_symlink, target, link);
}

int unlink(const char *path)
{
    point("unlink", path);
    return (int)syscall(SYS_unlink, path);
}

int rmdir(const char *path)
{
    point("rmdir", path);
    return (int)syscall(SYS_rmdir, path);
}

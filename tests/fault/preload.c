/*
 * Preloaded into the program: breaks one of its calls, of names on the disk, of input and output,
 * or for memory.
 *
 * KILL_LIST=FILE appends one line "CALL PATH" for each call that changes a name in KILL_WITHIN;
 * KILL_AT=N kills the process before the N-th: half-written files exist exactly between two of
 * them. FAIL_IO=N and FAIL_MEMORY=N let the N-th call fail that the program itself makes, not a
 * library for it; FAIL_COUNT=FILE gets how many there were.
 *
 * BREAK_PATH=TEXT concerns calls on files whose path has TEXT in it, of libraries, too, so that one
 * file of one rank can be meant: BREAK_AT=N lets the N-th fail or, with BREAK_KILLS, kills the
 * process before it.  BREAK_COUNT=FILE gets a byte for each of them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls, io_calls, memory_calls, break_calls;
static uintptr_t text_begin, text_end; /* of the program */
static long fail_io, fail_memory;

__attribute__((constructor)) static void begin(void)
{
    char line[512];
    const char *io = getenv("FAIL_IO"), *memory = getenv("FAIL_MEMORY");
    FILE *maps = fopen("/proc/self/maps", "r");
    char self[256] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *name = n > 0 ? strrchr(self, '/') : NULL;
    if (maps == NULL || name == NULL || strcmp(name, "/mttrain") != 0)
        return;
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        if (strstr(line, self) == NULL || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        text_begin = text_begin == 0 ? from : text_begin;
        text_end = to;
    }
    (void)fclose(maps);
    fail_io = io != NULL ? atol(io) : 0;
    fail_memory = memory != NULL ? atol(memory) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_COUNT");
    FILE *out = path != NULL && text_begin != 0 ? fopen(path, "w") : NULL;
    if (out == NULL)
        return;
    (void)fprintf(out, "%ld %ld\n", atomic_load(&io_calls), atomic_load(&memory_calls));
    (void)fclose(out);
}

static bool is_ours(const void *caller)
{
    return (uintptr_t)caller >= text_begin && (uintptr_t)caller < text_end;
}

static bool io_fails(const void *caller)
{
    if (!is_ours(caller) || atomic_fetch_add(&io_calls, 1) + 1 != fail_io)
        return false;
    errno = EIO;
    return true;
}

static bool memory_fails(const void *caller)
{
    if (!is_ours(caller) || atomic_fetch_add(&memory_calls, 1) + 1 != fail_memory)
        return false;
    errno = ENOMEM;
    return true;
}

/* The HDF5 library tries whether a file is there before it creates it: that may fail. */
static bool tries(int flags)
{
    return (flags & O_ACCMODE) == O_RDWR && !(flags & O_CREAT);
}

/* One more call on a file that is to be broken. */
static bool breaks(const char *path)
{
    const char *part = getenv("BREAK_PATH"), *at = getenv("BREAK_AT"),
               *count = getenv("BREAK_COUNT");
    if (part == NULL || text_begin == 0 || strstr(path, part) == NULL)
        return false;
    if (count != NULL) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, count, O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (syscall(SYS_write, fd, ".", 1) != 1)
            abort();
        (void)syscall(SYS_close, fd);
    }
    if (at == NULL || atomic_fetch_add(&break_calls, 1) + 1 != atol(at))
        return false;
    if (getenv("BREAK_KILLS") != NULL)
        (void)kill(getpid(), SIGKILL);
    errno = ENOSPC;
    return true;
}

static bool breaks_fd(int fd)
{
    char link[64], path[4096];
    if (getenv("BREAK_PATH") == NULL)
        return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    return breaks(path);
}

#define IO_FAILS() io_fails(__builtin_return_address(0))
#define MEMORY_FAILS() memory_fails(__builtin_return_address(0))
#define REAL(name) (*(__typeof__(&name) *)(void *[]){dlsym(RTLD_NEXT, #name)})

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
    if (IO_FAILS() || (!tries(flags) && breaks(path)))
        return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int rename(const char *from, const char *to)
{
    point("rename", to);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_rename, from, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    point("exchange", to);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_renameat2, a, from, b, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
    point("mkdir", path);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_mkdir, path, mode);
}

int symlink(const char *target, const char *link)
{
    point("symlink", link);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_symlink, target, link);
}

int unlink(const char *path)
{
    point("unlink", path);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_unlink, path);
}

int rmdir(const char *path)
{
    point("rmdir", path);
    if (IO_FAILS())
        return -1;
    return (int)syscall(SYS_rmdir, path);
}

ssize_t read(int fd, void *bytes, size_t count)
{
    return IO_FAILS() || breaks_fd(fd) ? -1 : syscall(SYS_read, fd, bytes, count);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    return fd > 2 && (IO_FAILS() || breaks_fd(fd)) ? -1 : syscall(SYS_write, fd, bytes, count);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at)
{
    return IO_FAILS() ? -1 : syscall(SYS_pread64, fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) __attribute__((alias("pread")));

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
    return IO_FAILS() || breaks_fd(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at)
    __attribute__((alias("pwrite")));

int fsync(int fd)
{
    return IO_FAILS() || breaks_fd(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fstat(int fd, struct stat *info)
{
    return IO_FAILS() ? -1 : (int)syscall(SYS_fstat, fd, info);
}

int posix_fallocate(int fd, off_t from, off_t count)
{
    return IO_FAILS() ? ENOSPC : REAL(posix_fallocate)(fd, from, count);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    bool fails = fd < 0 ? MEMORY_FAILS() : IO_FAILS();
    return fails ? MAP_FAILED : (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return MEMORY_FAILS() ? NULL : REAL(aligned_alloc)(alignment, bytes);
}

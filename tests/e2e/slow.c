/*
 * Preloaded into the program: makes it slow at chosen places, so that what a test does to a run in
 * the middle comes in the middle on a machine of any speed.  Times are in microseconds.
 *
 * SLOW_STEP_US: when a step is told in metrics.jsonl, from step SLOW_FROM to step SLOW_TO (default:
 * all) of runs whose folder has SLOW_RUN in its path (default: all). SLOW_MEETING_US: when ranks
 * meet (MPI_Allreduce): several times a step, and twice a round of an evaluation and of the filling
 * of a cache. SLOW_READ_US: each read of 32 KiB and more.  SLOW_SYNC_US: each fsync. STEP_HOLD,
 * READ_HOLD, SYNC_HOLD: a file; the same places wait for as long as it is there, those of SYNC_HOLD
 * within a checkpoint.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { LARGE_BYTES = 32768, LINE_BYTES = 256, PATH_BYTES = 4096, HOLD_US = 5000 };

static void wait_us(const char *variable)
{
    const char *us = getenv(variable);
    if (us != NULL)
        (void)usleep((unsigned)atoi(us));
}

static void wait_while(const char *variable)
{
    const char *file = getenv(variable);
    while (file != NULL && access(file, F_OK) == 0)
        (void)usleep(HOLD_US);
}

static int is_ours(void)
{
    return strcmp(program_invocation_short_name, "mttrain") == 0;
}

static long number_of(const char *variable, long otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? atol(text) : otherwise;
}

static void path_of(int fd, char path[PATH_BYTES])
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_BYTES - 1);
    path[length > 0 ? length : 0] = '\0';
}

/* The step of an event that is being written to a run of ours, -1 where it is none. */
static long step_told(int fd, const void *bytes, size_t count)
{
    char line[LINE_BYTES], path[PATH_BYTES];
    const char *run = getenv("SLOW_RUN"), *step;
    size_t n = count < sizeof line - 1 ? count : sizeof line - 1;
    memcpy(line, bytes, n);
    line[n] = '\0';
    if (strstr(line, "\"event\":\"step\"") == NULL || (step = strstr(line, "\"step\":")) == NULL)
        return -1;
    path_of(fd, path);
    return run == NULL || strstr(path, run) != NULL ? atol(step + strlen("\"step\":")) : -1;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    ssize_t n = (ssize_t)syscall(SYS_write, fd, bytes, count);
    int before = errno;
    long step = is_ours() ? step_told(fd, bytes, count) : -1;
    if (step >= number_of("SLOW_FROM", 0) && step <= number_of("SLOW_TO", step)) {
        wait_us("SLOW_STEP_US");
        wait_while("STEP_HOLD");
    }
    errno = before;
    return n;
}

ssize_t read(int fd, void *bytes, size_t count)
{
    if (count >= LARGE_BYTES && is_ours()) {
        wait_us("SLOW_READ_US");
        wait_while("READ_HOLD");
    }
    return (ssize_t)syscall(SYS_read, fd, bytes, count);
}

int fsync(int fd)
{
    char path[PATH_BYTES];
    path_of(fd, path);
    wait_us("SLOW_SYNC_US");
    if (strstr(path, "/checkpoints/step-") != NULL)
        wait_while("SYNC_HOLD");
    return (int)syscall(SYS_fsync, fd);
}

/* Handles are pointers or numbers, by the library; only handed on. */
int MPI_Allreduce(const void *in, void *out, int count, void *type, void *op, void *ranks)
{
    int (*real)(const void *, void *, int, void *, void *, void *);
    *(void **)&real = dlsym(RTLD_NEXT, "MPI_Allreduce");
    wait_us("SLOW_MEETING_US");
    return real(in, out, count, type, op, ranks);
}

/*
 * Preloaded into the program: a machine whose system keeps the matrix unit (AMX) to itself.
 *
 * NO_AMX_RANK: only the rank of that number is on such a machine (default: all are).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_here(void)
{
    const char *asked = getenv("NO_AMX_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    return asked == NULL || (rank != NULL && strcmp(asked, rank) == 0);
}

long syscall(long number, ...)
{
    enum { ARGUMENTS = 6, REQUEST = 0x1023 }; /* ARCH_REQ_XCOMP_PERM of arch_prctl */
    long a[ARGUMENTS];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < ARGUMENTS; i++)
        a[i] = va_arg(args, long);
    va_end(args);
#if defined(SYS_arch_prctl)
    if (number == SYS_arch_prctl && a[0] == REQUEST && is_here()) {
        errno = EPERM;
        return -1;
    }
#endif
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

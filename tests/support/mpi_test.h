/*
 * mpi_test: a cmocka group that runs on all ranks of a world together.
 *
 * A rank whose case fails ends the whole job with a failure, since the others may be waiting for it
 * inside a collective call; a hang ends by an alarm.  Ranks other than 0 are silent unless a case
 * fails on them.
 */
#ifndef MT_TESTS_MPI_TEST_H
#define MT_TESTS_MPI_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/world.h"

enum { MPI_TEST_SECONDS = 580 };

static struct comm world;

#ifdef __SANITIZE_ADDRESS__
/* Open MPI's modules stay loaded, so that the leak checker knows them by name and passes over what
 * they keep (tests/support/lsan.supp). */
int dlclose(void *handle);
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#endif

static void mpi_test_replay(FILE *kept, int console)
{
    char line[1024];
    fflush(stdout);
    fflush(stderr);
    rewind(kept);
    while (fgets(line, sizeof line, kept) != NULL)
        dprintf(console, "rank %d: %s", world.rank, line);
}

static int mpi_test_run(const struct CMUnitTest *tests, size_t count, int argc, char **argv)
{
    alarm(MPI_TEST_SECONDS);
    if (comm_init(&world, &argc, &argv) != MT_OK) {
        fprintf(stderr, "%s\n", mt_error_peek()->message);
        return 1;
    }
    FILE *kept = world.rank == 0 ? NULL : tmpfile();
    int console = dup(STDERR_FILENO);
    if (kept != NULL) {
        fflush(stdout);
        fflush(stderr);
        dup2(fileno(kept), STDOUT_FILENO);
        dup2(fileno(kept), STDERR_FILENO);
    }
    for (size_t i = 0; i < count; i++)
        if (_cmocka_run_group_tests(tests[i].name, &tests[i], 1, NULL, NULL) != 0) {
            if (kept != NULL)
                mpi_test_replay(kept, console);
            fflush(stdout);
            comm_abort(&world, 1);
        }
    if (kept != NULL) {
        fflush(stdout);
        fflush(stderr);
        dup2(console, STDOUT_FILENO);
        dup2(console, STDERR_FILENO);
        fclose(kept);
    }
    int code = comm_finalize(&world, 0);
    struct mt_memory_stats left;
    mt_memory_stats(&left);
    if (left.live_blocks != 0)
        dprintf(console, "%lld blocks are still allocated at the end\n",
                (long long)left.live_blocks);
    return left.live_blocks != 0 ? 1 : code;
}

/* Fails the case with the record's message where a call of mttrain fails. */
#define assert_mt_ok(call)                                                                         \
    do {                                                                                           \
        if ((call) != MT_OK)                                                                       \
            fail_msg("%s: %s", #call, mt_error_peek()->message);                                   \
    } while (0)

#endif

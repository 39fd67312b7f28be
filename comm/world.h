/*
 * world: the ranks of a run, and how one of them comes and goes.
 *
 * No type of mpi.h is seen outside comm: `struct comm` holds plain numbers and an opaque pointer.
 * Works under mpirun, under srun, and alone (a world of one rank).  Errors of MPI come back as
 * MT_MPI; after one of those the other ranks may be waiting for ever, so main leaves by comm_abort.
 *
 *     MT_TRY(comm_init(&world, &argc, &argv));
 *     ... Collective functions, called by all ranks in the same order ...
 *     return comm_finalize(&world, exit_code);
 *
 * The functions of comm are called from the main thread only; the reduction's own thread has a
 * communicator of its own.
 */
#ifndef MT_COMM_WORLD_H
#define MT_COMM_WORLD_H

#include "comm/base/status.h"

enum { COMM_HOST_BYTES = 64 };

struct comm_handles; /* MPI's objects, see comm/handles.h */

struct comm {
    int32_t rank, size;
    int32_t node_rank, node_size;   /* among the ranks that share this host's memory */
    int32_t node_index, node_count; /* hosts, numbered by their lowest rank */
    bool threads;                   /* MPI may be called by several threads at once */
    int64_t chunk_bytes;            /* longest single message; a test may lower it */
    struct comm_handles *handles;
};

/* Collective.  Starts MPI with MPI_THREAD_MULTIPLE and fills *world.  argc, argv: main's, from
 * which MPI may take its own arguments.  Owns MPI until comm_finalize.  Errors: MPI, NOMEM. */
mt_status comm_init(struct comm *world, int *argc, char ***argv) MT_CHECKED;

/* Collective.  Waits for all ranks, ends MPI, and answers the largest exit code of all ranks, with
 * which every rank should leave: mpirun kills the others as soon as one leaves with a failure, so
 * nothing may be left to do.  Accepts a world that was never or only partly begun. */
int comm_finalize(struct comm *world, int exit_code);

/* Local.  Ends all ranks at once with exit_code, without saving anything: for a watchdog, and for
 * main after MT_MPI.  Does not return. */
void comm_abort(const struct comm *world, int exit_code) __attribute__((noreturn));

/* Local.  Host name of a rank, the host's number, and the rank's number on it; rank in [0, size).
 */
const char *comm_host(const struct comm *world, int32_t rank);
int32_t comm_node_of(const struct comm *world, int32_t rank);

/* Local.  "Open MPI v4.1.4, ..." of the library in use, one line; works before comm_init. */
const char *comm_library_version(void);

#endif

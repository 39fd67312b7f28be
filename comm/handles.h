/*
 * handles: MPI's objects behind struct comm.  Included by the files of comm only.
 */
#ifndef MT_COMM_HANDLES_H
#define MT_COMM_HANDLES_H

#include <mpi.h>

#include "comm/world.h"

struct comm_handles {
    MPI_Comm main;                 /* all ranks, for the main thread */
    MPI_Comm reduce;               /* all ranks, for the reduction and its thread */
    MPI_Comm node;                 /* the ranks of this host, for the main thread */
    char (*host)[COMM_HOST_BYTES]; /* [size] */
    int32_t *node_of;              /* [size] number of the rank's host */
    int *counts, *offsets;         /* [size] arguments of gathers, main thread */
};

/* Local.  A failed MPI call as a record: which call, and MPI's own words. */
mt_status comm_fail_mpi(int code, const char *call, const char *function, const char *file,
                        int line);

/* Runs an MPI function and returns MT_MPI from the caller where it fails. */
#define MPI_TRY(name, ...)                                                                         \
    do {                                                                                           \
        int mpi_try_ = name(__VA_ARGS__);                                                          \
        if (mpi_try_ != MPI_SUCCESS)                                                               \
            return comm_fail_mpi(mpi_try_, #name, __func__, __FILE__, __LINE__);                   \
    } while (0)

#endif

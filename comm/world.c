/*
 * See world.h.
 *
 * Two duplicates of the world: collectives of the main thread and of the reduction's thread may be
 * under way at the same time, and on one communicator they would be paired wrongly.  Hosts are told
 * apart by which ranks can share memory, not by name: containers often carry one name.
 */
#include "comm/world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/handles.h"

static const int64_t CHUNK_BYTES = (int64_t)1 << 30;

mt_status comm_fail_mpi(int code, const char *call, const char *function, const char *file,
                        int line)
{
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    (void)MPI_Error_string(code, text, &length);
    return mt_error_begin(MT_MPI, function, file, line,
                          "%s failed: %s; a rank or the network is gone, start the job again", call,
                          text);
}

static mt_status start_mpi(struct comm *world, int *argc, char ***argv)
{
    int level = MPI_THREAD_SINGLE;
    MPI_TRY(MPI_Init_thread, argc, argv, MPI_THREAD_MULTIPLE, &level);
    world->threads = level >= MPI_THREAD_MULTIPLE;
    MPI_TRY(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_TRY(MPI_Comm_set_errhandler, MPI_COMM_SELF, MPI_ERRORS_RETURN);
    int rank, size;
    MPI_TRY(MPI_Comm_rank, MPI_COMM_WORLD, &rank);
    MPI_TRY(MPI_Comm_size, MPI_COMM_WORLD, &size);
    world->rank = rank;
    world->size = size;
    world->chunk_bytes = CHUNK_BYTES;
    return MT_OK;
}

/* MTTRAIN_HOSTS=n, for tests: the ranks behave as if they were on n hosts. */
static mt_status split_host(struct comm *world)
{
    const char *text = getenv("MTTRAIN_HOSTS");
    long hosts = text != NULL ? strtol(text, NULL, 10) : 0;
    MPI_Comm whole = world->handles->node;
    if (hosts < 2 || hosts > world->size)
        return MT_OK;
    world->handles->node = MPI_COMM_NULL;
    MPI_TRY(MPI_Comm_split, whole, (int)((int64_t)world->rank * hosts / world->size), world->rank,
            &world->handles->node);
    MPI_TRY(MPI_Comm_free, &whole);
    return MT_OK;
}

static mt_status make_communicators(struct comm *world)
{
    struct comm_handles *h = world->handles;
    MPI_TRY(MPI_Comm_dup, MPI_COMM_WORLD, &h->main);
    MPI_TRY(MPI_Comm_dup, MPI_COMM_WORLD, &h->reduce);
    MPI_TRY(MPI_Comm_split_type, h->main, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL,
            &h->node);
    MT_TRY(split_host(world));
    int rank, size;
    MPI_TRY(MPI_Comm_rank, h->node, &rank);
    MPI_TRY(MPI_Comm_size, h->node, &size);
    world->node_rank = rank;
    world->node_size = size;
    return MT_OK;
}

static mt_status allocate_tables(struct comm_handles *h, int64_t size)
{
    MT_TRY(mt_alloc(&h->host, size, sizeof *h->host, "the host names"));
    MT_TRY(mt_alloc(&h->node_of, size, sizeof *h->node_of, "the ranks' hosts"));
    MT_TRY(mt_alloc(&h->counts, size, sizeof *h->counts, "the ranks' counts"));
    return mt_alloc(&h->offsets, size, sizeof *h->offsets, "the ranks' offsets");
}

/* Hosts are numbered in the order of their lowest rank. */
static mt_status learn_hosts(struct comm *world)
{
    struct comm_handles *h = world->handles;
    char mine[COMM_HOST_BYTES] = {0};
    if (gethostname(mine, sizeof mine - 1) != 0)
        memcpy(mine, "unknown", 8);
    MPI_TRY(MPI_Allgather, mine, COMM_HOST_BYTES, MPI_CHAR, h->host, COMM_HOST_BYTES, MPI_CHAR,
            h->main);
    int first = world->rank;
    MPI_TRY(MPI_Bcast, &first, 1, MPI_INT, 0, h->node);
    MPI_TRY(MPI_Allgather, &first, 1, MPI_INT, h->counts, 1, MPI_INT, h->main);
    world->node_count = 0;
    for (int32_t r = 0; r < world->size; r++) /* h->counts[r] is the lowest rank of r's host */
        h->node_of[r] = h->counts[r] == r ? world->node_count++ : h->node_of[h->counts[r]];
    world->node_index = h->node_of[world->rank];
    return MT_OK;
}

mt_status comm_init(struct comm *world, int *argc, char ***argv)
{
    memset(world, 0, sizeof *world);
    MT_TRY(start_mpi(world, argc, argv));
    MT_TRY(mt_alloc(&world->handles, 1, sizeof *world->handles, "the communicators"));
    world->handles->main = world->handles->reduce = world->handles->node = MPI_COMM_NULL;
    MT_TRY(make_communicators(world));
    MT_ALL(world, allocate_tables(world->handles, world->size));
    return learn_hosts(world);
}

static void free_communicator(MPI_Comm *c)
{
    if (*c != MPI_COMM_NULL)
        (void)MPI_Comm_free(c);
}

int comm_finalize(struct comm *world, int exit_code)
{
    int begun = 0, ended = 0;
    (void)MPI_Initialized(&begun);
    (void)MPI_Finalized(&ended);
    if (!begun || ended)
        return exit_code;
    int agreed = exit_code;
    struct comm_handles *h = world->handles;
    if (h != NULL) {
        if (h->main != MPI_COMM_NULL &&
            MPI_Allreduce(&exit_code, &agreed, 1, MPI_INT, MPI_MAX, h->main) != MPI_SUCCESS)
            comm_abort(world, exit_code != 0 ? exit_code : mt_status_exit_code(MT_MPI));
        free_communicator(&h->node);
        free_communicator(&h->reduce);
        free_communicator(&h->main);
        mt_free(&h->host);
        mt_free(&h->node_of);
        mt_free(&h->counts);
        mt_free(&h->offsets);
        mt_free(&world->handles);
    }
    (void)MPI_Finalize();
    return agreed;
}

void comm_abort(const struct comm *world, int exit_code)
{
    (void)world;
    int begun = 0, ended = 0;
    (void)MPI_Initialized(&begun);
    (void)MPI_Finalized(&ended);
    if (begun && !ended)
        (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
    _exit(exit_code);
}

const char *comm_host(const struct comm *world, int32_t rank)
{
    return world->handles->host[rank];
}

int32_t comm_node_of(const struct comm *world, int32_t rank)
{
    return world->handles->node_of[rank];
}

const char *comm_library_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS)
        return "MPI, version unknown";
    text[strcspn(text, "\n")] = '\0';
    return text;
}

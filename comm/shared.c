/*
 * See shared.h.
 *
 * POSIX shared memory rather than MPI_Win_allocate_shared: posix_fallocate reserves the pages, so a
 * /dev/shm that is too small (64 MB is usual in containers) is an error with words instead of
 * SIGBUS in the middle of training.  The first rank of a host makes the object, the others open it
 * by name, and the name is gone before anyone goes on.
 */
#include "comm/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/handles.h"

enum { NAME_BYTES = 64 };

struct shared {
    void *base; /* NULL = not mapped */
    int64_t bytes;
    const struct comm *comm;
};

static _Atomic int objects_made;

int64_t shared_free_bytes(void)
{
    struct statvfs v;
    if (statvfs("/dev/shm", &v) != 0)
        return -1;
    return (int64_t)v.f_bavail * (int64_t)v.f_frsize;
}

static mt_status fail_to(const char *verb, int64_t bytes, const char *what, const struct comm *c,
                         int error)
{
    return MT_FAIL(MT_NOMEM,
                   "cannot %s %lld MB of shared memory for %s on %s: %s (%lld MB free in /dev/shm; "
                   "enlarge it or ask for less)",
                   verb, (long long)(bytes >> 20), what, comm_host(c, c->rank), strerror(error),
                   (long long)(shared_free_bytes() >> 20));
}

static mt_status map_object(struct shared *s, int fd, const char *what)
{
    void *base = mmap(NULL, (size_t)s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return fail_to("map", s->bytes, what, s->comm, errno);
    s->base = base;
    return MT_OK;
}

/* Made by one rank of the host; name[0] stays 0 where it fails. */
static mt_status make_object(struct shared *s, char name[NAME_BYTES], const char *what)
{
    char wanted[NAME_BYTES];
    (void)snprintf(wanted, sizeof wanted, "/mttrain-%ld-%d", (long)getpid(),
                   atomic_fetch_add(&objects_made, 1));
    (void)shm_unlink(wanted); /* of a process that had our number and was killed */
    int fd = shm_open(wanted, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_to("make", s->bytes, what, s->comm, errno);
    int error = posix_fallocate(fd, 0, (off_t)s->bytes);
    mt_status st =
        error != 0 ? fail_to("reserve", s->bytes, what, s->comm, error) : map_object(s, fd, what);
    (void)close(fd);
    if (st != MT_OK)
        (void)shm_unlink(wanted);
    else
        memcpy(name, wanted, NAME_BYTES);
    return st;
}

static mt_status open_object(struct shared *s, const char *name, const char *what)
{
    if (name[0] == '\0')
        return MT_OK; /* the rank that failed to make it has said so */
    int fd = shm_open(name, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_to("open", s->bytes, what, s->comm, errno);
    mt_status st = map_object(s, fd, what);
    (void)close(fd);
    return st;
}

mt_status shared_create(struct shared **out, const struct comm *c, int64_t bytes, const char *what)
{
    struct shared *s = NULL;
    char name[NAME_BYTES] = {0};
    mt_status st;
    MT_TRY(comm_agree_equal(c, what, (uint64_t)bytes));
    if (bytes <= 0)
        return MT_FAIL(MT_BUG, "%lld bytes of shared memory for %s", (long long)bytes, what);
    MT_TRY_GOTO(st, comm_agree(c, mt_alloc(&s, 1, sizeof *s, what)), failed);
    s->bytes = bytes;
    s->comm = c;
    mt_status made = c->node_rank == 0 ? make_object(s, name, what) : MT_OK;
    int rc = MPI_Bcast(name, NAME_BYTES, MPI_CHAR, 0, c->handles->node);
    if (rc != MPI_SUCCESS)
        made = comm_fail_mpi(rc, "MPI_Bcast", __func__, __FILE__, __LINE__);
    else if (c->node_rank != 0)
        made = open_object(s, name, what);
    st = comm_agree(c, made);
    if (c->node_rank == 0 && name[0] != '\0')
        (void)shm_unlink(name);
    if (st != MT_OK)
        goto failed;
    *out = s;
    return MT_OK;
failed:
    shared_destroy(&s);
    return st;
}

void shared_destroy(struct shared **s)
{
    if (*s == NULL)
        return;
    if ((*s)->base != NULL)
        (void)munmap((*s)->base, (size_t)(*s)->bytes);
    mt_free(s);
}

void *shared_base(const struct shared *s)
{
    return s->base;
}

int64_t shared_bytes(const struct shared *s)
{
    return s->bytes;
}

bool shared_is_first(const struct shared *s)
{
    return s->comm->node_rank == 0;
}

mt_status shared_barrier(const struct shared *s)
{
    atomic_thread_fence(memory_order_seq_cst);
    MPI_TRY(MPI_Barrier, s->comm->handles->node);
    atomic_thread_fence(memory_order_seq_cst);
    return MT_OK;
}

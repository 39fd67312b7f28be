/*
 * See agree.h.
 *
 * MAXLOC gives the worst status and the lowest rank that has it in one message of 8 bytes, so the
 * good case costs one small allreduce.  Only on failure the origin's record travels.  Frames hold
 * pointers into the origin's own text, which mean nothing elsewhere, so their names travel as
 * characters; a record names at most MT_FRAMES of them.
 */
#include "comm/agree.h"

#include <stdio.h>
#include <string.h>

#include "comm/handles.h"

enum { NAME_BYTES = 96 };

struct wire_frame {
    char function[NAME_BYTES];
    char file[NAME_BYTES];
    int32_t line;
};

struct wire_error {
    int32_t code, rank, frame_count;
    char message[MT_MESSAGE_BYTES];
    struct wire_frame frame[MT_FRAMES];
};

/* Keeps the names that the last agreed record's frames point to; main thread only. */
static struct wire_error agreed;

/* The end of a long name says more than its beginning. */
static void copy_name(char out[NAME_BYTES], const char *name)
{
    size_t n = name == NULL ? 0 : strlen(name);
    size_t skip = n >= NAME_BYTES ? n - (NAME_BYTES - 1) : 0;
    if (n > 0)
        memcpy(out, name + skip, n - skip);
    out[n - skip] = '\0';
}

static void pack_error(struct wire_error *w, mt_status code, int32_t rank)
{
    struct mt_error e;
    mt_error_get(&e);
    memset(w, 0, sizeof *w);
    w->code = (int32_t)code;
    w->rank = e.code == code && e.rank >= 0 ? e.rank : rank;
    if (e.code != code) { /* a status without a record */
        (void)snprintf(w->message, sizeof w->message, "%s", mt_status_name(code));
        return;
    }
    memcpy(w->message, e.message, sizeof w->message);
    w->frame_count = e.frame_count;
    for (int i = 0; i < e.frame_count; i++) {
        copy_name(w->frame[i].function, e.frames[i].function);
        copy_name(w->frame[i].file, e.frames[i].file);
        w->frame[i].line = e.frames[i].line;
    }
}

static mt_status unpack_error(const struct wire_error *w)
{
    struct mt_error e;
    memset(&e, 0, sizeof e);
    e.code = (mt_status)w->code;
    e.rank = w->rank;
    e.frame_count = w->frame_count;
    memcpy(e.message, w->message, sizeof e.message);
    for (int i = 0; i < e.frame_count; i++) {
        e.frames[i].function = w->frame[i].function;
        e.frames[i].file = w->frame[i].file;
        e.frames[i].line = w->frame[i].line;
    }
    return mt_error_set(&e);
}

mt_status comm_agree(const struct comm *c, mt_status local)
{
    struct {
        int code, rank;
    } mine = {(int)local, c->rank}, worst = {0, 0};
    MPI_TRY(MPI_Allreduce, &mine, &worst, 1, MPI_2INT, MPI_MAXLOC, c->handles->main);
    if (worst.code == (int)MT_OK)
        return MT_OK;
    /* built apart: this rank's own record may point into `agreed` */
    struct wire_error w;
    memset(&w, 0, sizeof w);
    if (c->rank == worst.rank)
        pack_error(&w, local, c->rank);
    MPI_TRY(MPI_Bcast, &w, (int)sizeof w, MPI_BYTE, worst.rank, c->handles->main);
    agreed = w;
    return unpack_error(&agreed);
}

/* Every rank looks at the same list and so says the same. */
static mt_status fail_unequal(const struct comm *c, const char *what, uint64_t hash)
{
    int32_t first = 0, differ = 0;
    uint64_t root_hash = hash, first_hash = 0;
    MPI_TRY(MPI_Bcast, &root_hash, 1, MPI_UINT64_T, 0, c->handles->main);
    int differs = hash != root_hash;
    int *all = c->handles->counts;
    MPI_TRY(MPI_Allgather, &differs, 1, MPI_INT, all, 1, MPI_INT, c->handles->main);
    for (int32_t r = c->size - 1; r >= 0; r--)
        if (all[r]) {
            first = r;
            differ++;
        }
    first_hash = hash;
    MPI_TRY(MPI_Bcast, &first_hash, 1, MPI_UINT64_T, first, c->handles->main);
    mt_status st =
        MT_FAIL(MT_CONFIG,
                "%s is not the same on all ranks: %d of %d differ from rank 0; first "
                "rank %d on %s (%016llx, rank 0 on %s has %016llx); start all ranks "
                "with the same files and options",
                what, differ, c->size, first, comm_host(c, first), (unsigned long long)first_hash,
                comm_host(c, 0), (unsigned long long)root_hash);
    struct mt_error e;
    mt_error_get(&e);
    e.rank = first;
    (void)mt_error_set(&e);
    return st;
}

mt_status comm_agree_equal(const struct comm *c, const char *what, uint64_t hash)
{
    uint64_t least[2] = {hash, ~hash}, all[2] = {0, 0};
    MPI_TRY(MPI_Allreduce, least, all, 2, MPI_UINT64_T, MPI_MIN, c->handles->main);
    if (all[0] == ~all[1]) /* the smallest is also the largest */
        return MT_OK;
    return fail_unequal(c, what, hash);
}

/*
 * See exchange.h.
 *
 * Where everything fits one MPI call, it is one; otherwise the same is made of broadcasts in
 * pieces, which cost more but only ever carry gigabytes.  Sums of doubles gather first and add in
 * rank order, since MPI_Allreduce chooses its order by size and rank count.
 */
#include "comm/exchange.h"

#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/handles.h"

enum { GATHER_TAG = 7 };

mt_status comm_barrier(const struct comm *c)
{
    MPI_TRY(MPI_Barrier, c->handles->main);
    return MT_OK;
}

mt_status comm_node_barrier(const struct comm *c)
{
    MPI_TRY(MPI_Barrier, c->handles->node);
    return MT_OK;
}

static int64_t piece(const struct comm *c, int64_t left)
{
    return left < c->chunk_bytes ? left : c->chunk_bytes;
}

mt_status comm_broadcast(const struct comm *c, void *data, int64_t bytes, int32_t root)
{
    for (int64_t done = 0, n; done < bytes; done += n) {
        n = piece(c, bytes - done);
        MPI_TRY(MPI_Bcast, (char *)data + done, (int)n, MPI_BYTE, root, c->handles->main);
    }
    return MT_OK;
}

mt_status comm_broadcast_blob(const struct comm *c, void **data, int64_t *bytes, int32_t root)
{
    int64_t length = c->rank == root ? *bytes : 0;
    char *block = NULL;
    MT_TRY(comm_broadcast(c, &length, (int64_t)sizeof length, root));
    mt_status st = MT_OK;
    if (c->rank != root)
        st = mt_alloc(&block, length + 1, 1, "a block from another rank");
    MT_TRY_GOTO(st, comm_agree(c, st), done);
    MT_TRY_GOTO(st, comm_broadcast(c, c->rank == root ? *data : block, length, root), done);
    if (c->rank != root) {
        *data = block;
        *bytes = length;
        block = NULL;
    }
done:
    mt_free(&block);
    return st;
}

mt_status comm_allgather(const struct comm *c, const void *mine, int64_t bytes, void *all)
{
    if (bytes <= c->chunk_bytes) {
        MPI_TRY(MPI_Allgather, mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE,
                c->handles->main);
        return MT_OK;
    }
    memcpy((char *)all + c->rank * bytes, mine, (size_t)bytes);
    for (int32_t r = 0; r < c->size; r++)
        MT_TRY(comm_broadcast(c, (char *)all + r * bytes, bytes, r));
    return MT_OK;
}

/* Where each rank's bytes begin: offsets[size+1]. */
static mt_status gather_offsets(const struct comm *c, int64_t bytes, int64_t *offsets)
{
    MPI_TRY(MPI_Allgather, &bytes, 1, MPI_INT64_T, offsets + 1, 1, MPI_INT64_T, c->handles->main);
    offsets[0] = 0;
    for (int32_t r = 0; r < c->size; r++)
        offsets[r + 1] += offsets[r];
    return MT_OK;
}

static mt_status allgatherv_into(const struct comm *c, const void *mine, int64_t bytes, char *block,
                                 const int64_t *offsets)
{
    if (offsets[c->size] <= c->chunk_bytes) {
        for (int32_t r = 0; r < c->size; r++) {
            c->handles->counts[r] = (int)(offsets[r + 1] - offsets[r]);
            c->handles->offsets[r] = (int)offsets[r];
        }
        MPI_TRY(MPI_Allgatherv, mine, (int)bytes, MPI_BYTE, block, c->handles->counts,
                c->handles->offsets, MPI_BYTE, c->handles->main);
        return MT_OK;
    }
    if (bytes > 0)
        memcpy(block + offsets[c->rank], mine, (size_t)bytes);
    for (int32_t r = 0; r < c->size; r++)
        MT_TRY(comm_broadcast(c, block + offsets[r], offsets[r + 1] - offsets[r], r));
    return MT_OK;
}

mt_status comm_allgatherv(const struct comm *c, const void *mine, int64_t bytes, void **all,
                          int64_t *offsets)
{
    char *block = NULL;
    mt_status st;
    MT_TRY(gather_offsets(c, bytes, offsets));
    MT_TRY_GOTO(st,
                comm_agree(c, mt_alloc(&block, offsets[c->size] + 1, 1, "the bytes of all ranks")),
                done);
    MT_TRY_GOTO(st, allgatherv_into(c, mine, bytes, block, offsets), done);
    *all = block;
    block = NULL;
done:
    mt_free(&block);
    return st;
}

static mt_status send_pieces(const struct comm *c, const char *data, int64_t bytes, int32_t root)
{
    for (int64_t done = 0, n; done < bytes; done += n) {
        n = piece(c, bytes - done);
        MPI_TRY(MPI_Send, data + done, (int)n, MPI_BYTE, root, GATHER_TAG, c->handles->main);
    }
    return MT_OK;
}

static mt_status receive_pieces(const struct comm *c, char *data, int64_t bytes, int32_t from)
{
    for (int64_t done = 0, n; done < bytes; done += n) {
        n = piece(c, bytes - done);
        MPI_TRY(MPI_Recv, data + done, (int)n, MPI_BYTE, from, GATHER_TAG, c->handles->main,
                MPI_STATUS_IGNORE);
    }
    return MT_OK;
}

static mt_status gather_at_root(const struct comm *c, const void *mine, int64_t bytes, char *block,
                                const int64_t *offsets)
{
    if (bytes > 0)
        memcpy(block + offsets[c->rank], mine, (size_t)bytes);
    for (int32_t r = 0; r < c->size; r++)
        if (r != c->rank)
            MT_TRY(receive_pieces(c, block + offsets[r], offsets[r + 1] - offsets[r], r));
    return MT_OK;
}

mt_status comm_gatherv(const struct comm *c, const void *mine, int64_t bytes, void **all,
                       int64_t *offsets, int32_t root)
{
    char *block = NULL;
    mt_status st;
    MPI_TRY(MPI_Gather, &bytes, 1, MPI_INT64_T, c->rank == root ? offsets + 1 : NULL, 1,
            MPI_INT64_T, root, c->handles->main);
    st = MT_OK;
    if (c->rank == root) {
        offsets[0] = 0;
        for (int32_t r = 0; r < c->size; r++)
            offsets[r + 1] += offsets[r];
        st = mt_alloc(&block, offsets[c->size] + 1, 1, "the bytes of all ranks");
    }
    MT_TRY_GOTO(st, comm_agree(c, st), done);
    MT_TRY_GOTO(st,
                c->rank == root ? gather_at_root(c, mine, bytes, block, offsets)
                                : send_pieces(c, mine, bytes, root),
                done);
    if (c->rank == root) {
        *all = block;
        block = NULL;
    }
done:
    mt_free(&block);
    return st;
}

static mt_status reduce_in_place(const struct comm *c, void *values, int32_t count,
                                 MPI_Datatype type, MPI_Op op)
{
    MPI_TRY(MPI_Allreduce, MPI_IN_PLACE, values, count, type, op, c->handles->main);
    return MT_OK;
}

mt_status comm_max_i64(const struct comm *c, int64_t *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_INT64_T, MPI_MAX);
}

mt_status comm_min_i64(const struct comm *c, int64_t *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_INT64_T, MPI_MIN);
}

mt_status comm_sum_i64(const struct comm *c, int64_t *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_INT64_T, MPI_SUM);
}

mt_status comm_or_i64(const struct comm *c, int64_t *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_INT64_T, MPI_BOR);
}

mt_status comm_max_f64(const struct comm *c, double *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_DOUBLE, MPI_MAX);
}

mt_status comm_min_f64(const struct comm *c, double *values, int32_t count)
{
    return reduce_in_place(c, values, count, MPI_DOUBLE, MPI_MIN);
}

mt_status comm_sum_f64(const struct comm *c, double *values, int32_t count)
{
    double *all = NULL;
    mt_status st;
    int64_t total = (int64_t)c->size * count;
    MT_TRY_GOTO(st, comm_agree(c, mt_alloc(&all, total, sizeof *all, "values of all ranks")), done);
    MT_TRY_GOTO(st, comm_allgather(c, values, count * (int64_t)sizeof *values, all), done);
    for (int32_t i = 0; i < count; i++) {
        double sum = all[i];
        for (int32_t r = 1; r < c->size; r++)
            sum += all[(int64_t)r * count + i];
        values[i] = sum;
    }
done:
    mt_free(&all);
    return st;
}

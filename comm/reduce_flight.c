/* See reduce_flight.h. */
#include "comm/reduce_flight.h"

#include "comm/base/memory.h"
#include "comm/reduce_pack.h"

enum { TAGS = 32768 }; /* MPI promises no more */

mt_status reduce_flight_init(struct reduce_flight *f, const struct reducer *r, int64_t requests,
                             int64_t staging, int64_t outgoing)
{
    f->bucket = -1;
    MT_TRY(mt_alloc(&f->request, requests, sizeof *f->request, "the reduction's requests"));
    MT_TRY(mt_alloc(&f->staging, staging, sizeof *f->staging, "the reduction's buffers"));
    if (r->rows == NULL && r->groups == 0)
        return MT_OK;
    return mt_alloc(&f->outgoing, outgoing, sizeof *f->outgoing, "what is sent");
}

void reduce_flight_release(struct reduce_flight *f)
{
    if (f->bucket >= 0)
        return;
    mt_free(&f->request);
    mt_free(&f->staging);
    mt_free(&f->outgoing);
}

void reduce_flight_start(struct reduce_flight *f, int32_t bucket)
{
    f->bucket = bucket;
    f->stage = 0;
    f->requests = 0;
    f->packed = 0;
}

struct reduce_form reduce_form_of_parts(const struct reducer *r)
{
    return (struct reduce_form){r->active, r->half};
}

struct reduce_form reduce_form_of_sums(const struct reducer *r)
{
    return (struct reduce_form){r->active, r->groups > 0}; /* whole sums are rounded */
}

bool reduce_form_is_plain(struct reduce_form form, int64_t begin, int64_t end)
{
    return !form.half && reduce_is_whole(form.active, begin, end);
}

struct reduce_parcel reduce_flight_pack(struct reduce_flight *f, struct reduce_form form,
                                        const float *block, int64_t begin, int64_t end)
{
    if (reduce_form_is_plain(form, begin, end))
        return (struct reduce_parcel){block + begin, end - begin, form.half};
    float *room = f->outgoing + f->packed;
    int64_t count = form.half
                        ? reduce_pack_half(form.active, block, begin, end, (uint16_t *)(void *)room)
                        : reduce_pack(form.active, block, begin, end, room);
    f->packed += form.half ? (count + 1) / 2 : count;
    return (struct reduce_parcel){room, count, form.half};
}

mt_status reduce_flight_post(struct reducer *r, struct reduce_flight *f,
                             const struct reduce_parcel *parcel, int32_t to)
{
    if (parcel->count == 0)
        return MT_OK;
    MPI_TRY(MPI_Isend, parcel->data, (int)parcel->count, parcel->half ? MPI_UINT16_T : MPI_FLOAT,
            to, f->bucket % TAGS, r->comm->handles->reduce, &f->request[f->requests]);
    f->requests++;
    r->stats.bytes_sent += parcel->count * (parcel->half ? 2 : 4);
    r->stats.messages++;
    return MT_OK;
}

mt_status reduce_flight_send(struct reducer *r, struct reduce_flight *f, struct reduce_form form,
                             const float *block, int64_t begin, int64_t end, int32_t to)
{
    struct reduce_parcel parcel = reduce_flight_pack(f, form, block, begin, end);
    return reduce_flight_post(r, f, &parcel, to);
}

mt_status reduce_flight_receive(struct reducer *r, struct reduce_flight *f, bool half, void *data,
                                int64_t count, int32_t from)
{
    if (count == 0)
        return MT_OK;
    MPI_TRY(MPI_Irecv, data, (int)count, half ? MPI_UINT16_T : MPI_FLOAT, from, f->bucket % TAGS,
            r->comm->handles->reduce, &f->request[f->requests]);
    f->requests++;
    return MT_OK;
}

mt_status reduce_flight_receive_tail(struct reducer *r, struct reduce_flight *f, bool half,
                                     float *room, int64_t length, int64_t count, int32_t from)
{
    void *data = half ? (void *)((uint16_t *)(void *)(room + length) - count)
                      : (void *)(room + (length - count));
    return reduce_flight_receive(r, f, half, data, count, from);
}

mt_status reduce_flight_arrived(struct reduce_flight *f, bool *all)
{
    int flag = 0;
    MPI_TRY(MPI_Testall, f->requests, f->request, &flag, MPI_STATUSES_IGNORE);
    *all = flag != 0;
    if (*all) {
        f->requests = 0;
        f->packed = 0;
    }
    return MT_OK;
}

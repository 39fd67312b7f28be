/*
 * reduce_flight: the messages of one bucket that are under way.  Included by comm/reduce*.c only.
 *
 * Which message is which: by its two ranks and its tag, the bucket's number.  From one rank to
 * another all messages of one tag are sent, and received, in one order: step after step, a step's
 * sums before the gather that follows, buckets with the same tag in plan order, and the messages of
 * a bucket in the order in which a transport posts them, the same on both sides.  MPI keeps that
 * order.  So flights may pass each other, and which of them is free first, a matter of time,
 * decides nothing.
 */
#ifndef MT_COMM_REDUCE_FLIGHT_H
#define MT_COMM_REDUCE_FLIGHT_H

#include "comm/reduce_core.h"

/* How a part of a block travels: what is used of it, without gaps, as fp32 or as bf16. */
struct reduce_form {
    const struct range_list *active;
    bool half;
};

struct reduce_flight {
    int32_t bucket; /* -1 = free */
    int32_t stage;
    int requests;
    MPI_Request *request;
    float *staging;  /* what other ranks send */
    float *outgoing; /* what cannot travel from where it stands; NULL where all can */
    int64_t packed;  /* elements of it in use */
};

/* Local.  Room for so many requests and elements; outgoing only where something is to be packed.
 * Errors: NOMEM. */
mt_status reduce_flight_init(struct reduce_flight *f, const struct reducer *r, int64_t requests,
                             int64_t staging, int64_t outgoing) MT_CHECKED;

/* Local.  Nothing where it was given up in the middle: messages may still arrive there. */
void reduce_flight_release(struct reduce_flight *f);

/* Local.  Takes up a bucket. */
void reduce_flight_start(struct reduce_flight *f, int32_t bucket);

/* Local.  What step sums travel as before they are whole, and when they are. */
struct reduce_form reduce_form_of_parts(const struct reducer *r);
struct reduce_form reduce_form_of_sums(const struct reducer *r);

/* Local.  Whether [begin, end) travels from and to where it stands. */
bool reduce_form_is_plain(struct reduce_form form, int64_t begin, int64_t end);

/* What is used of a part of a block, as it travels. */
struct reduce_parcel {
    const void *data;
    int64_t count; /* elements */
    bool half;
};

/* Local.  Of block[begin..end), which stays as it is until the parcel has arrived everywhere:
 * where it stands, or packed in f->outgoing. */
struct reduce_parcel reduce_flight_pack(struct reduce_flight *f, struct reduce_form form,
                                        const float *block, int64_t begin, int64_t end);

/* Local.  Sends a parcel, which may go to several ranks; whoever receives it knows how much that
 * is; nothing is sent where it is nothing.  Errors: MPI. */
mt_status reduce_flight_post(struct reducer *r, struct reduce_flight *f,
                             const struct reduce_parcel *parcel, int32_t to) MT_CHECKED;

/* Local.  Packs and sends to one rank.  Errors: MPI. */
mt_status reduce_flight_send(struct reducer *r, struct reduce_flight *f, struct reduce_form form,
                             const float *block, int64_t begin, int64_t end, int32_t to) MT_CHECKED;

/* Local.  Receives `count` elements to data[count].  Errors: MPI. */
mt_status reduce_flight_receive(struct reducer *r, struct reduce_flight *f, bool half, void *data,
                                int64_t count, int32_t from) MT_CHECKED;

/* Local.  As above, to the tail of room[length] (reduce_spread moves them to their places). */
mt_status reduce_flight_receive_tail(struct reducer *r, struct reduce_flight *f, bool half,
                                     float *room, int64_t length, int64_t count,
                                     int32_t from) MT_CHECKED;

/* Local.  Whether all that was posted has been sent and received; then there is room for more.
 * Errors: MPI. */
mt_status reduce_flight_arrived(struct reduce_flight *f, bool *all) MT_CHECKED;

#endif

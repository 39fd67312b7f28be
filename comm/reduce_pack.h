/*
 * reduce_pack: the part of a slice that a step uses, without gaps, as it travels.  No MPI.
 *
 * `active` lists what is used of a flat block; the rest is zero on every rank and stays at home.
 */
#ifndef MT_COMM_REDUCE_PACK_H
#define MT_COMM_REDUCE_PACK_H

#include "comm/base/tensors.h"

/* Local.  Whether all of [begin, end) is used: it can then travel from where it stands. */
bool reduce_is_whole(const struct range_list *active, int64_t begin, int64_t end);

/* Local.  Copies the used elements of block[begin..end) to out, and answers how many. */
int64_t reduce_pack(const struct range_list *active, const float *block, int64_t begin, int64_t end,
                    float *out);

/* Local.  Copies the used elements to the same places of another memory; from and to point at
 * element `begin`.  Answers how many. */
int64_t reduce_copy(const struct range_list *active, int64_t begin, int64_t end, const float *from,
                    float *to);

/* Local.  As reduce_pack for values of bf16 precision. */
int64_t reduce_pack_half(const struct range_list *active, const float *block, int64_t begin,
                         int64_t end, uint16_t *out);

/* Local.  The way back: packed -> block[begin..end). */
void reduce_unpack(const struct range_list *active, const float *packed, int64_t begin, int64_t end,
                   float *block);
void reduce_unpack_half(const struct range_list *active, const uint16_t *packed, int64_t begin,
                        int64_t end, float *block);

/* Local.  slice[end - begin] holds `count` packed elements at its tail; moves each to its place.
 * half: they are bf16, at the tail of its bytes. */
void reduce_spread(const struct range_list *active, float *slice, int64_t count, int64_t begin,
                   int64_t end, bool half);

/* Local.  block[begin..end) += packed, element by element. */
void reduce_add_packed(const struct range_list *active, const float *packed, int64_t begin,
                       int64_t end, float *block);

#endif

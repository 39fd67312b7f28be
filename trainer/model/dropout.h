/*
 * dropout: masks that are a pure function of (key, sample, depth, site, element).
 *
 * Element e of a site of one sentence has the 16-bit lane e % 8 of the Philox block
 * rng_philox(key, e / 8, depth << 8 | site, sample low, sample high); lane 2w is the low and lane
 * 2w+1 the high half of word w.  The element is kept iff lane >= threshold, with
 * threshold = round(p * 65536) (at most 65535), and kept elements are multiplied by
 * 65536 / (65536 - threshold): the reciprocal of the probability that the lanes really have, so
 * the expectation is exact.  p below 2^-17 is no dropout.
 *
 * e counts from the sentence's first token: token * H + column at hidden sites,
 * (head * T + query) * T + key at attention probabilities.  So a mask depends neither on the batch
 * around a sentence, nor on lanes and ranks; backward makes it again instead of keeping it.
 */
#ifndef MT_MODEL_DROPOUT_H
#define MT_MODEL_DROPOUT_H

#include <stdint.h>

#include "io/batch.h"
#include "trainer/model/real.h"

enum dropout_site_id {
    DROPOUT_EMBEDDING = 0,  /* depth 0 */
    DROPOUT_ATTENTION = 1,  /* probabilities of an encoder layer */
    DROPOUT_PROJECTION = 2, /* output dense of attention */
    DROPOUT_FEED_FORWARD = 3,
    DROPOUT_HEAD = 4 /* pooled features, depth L+1; one mask for all heads */
};

struct dropout {
    uint64_t key;
    uint32_t site;      /* depth << 8 | enum dropout_site_id */
    uint32_t threshold; /* 0 = off */
    real scale;
};

/* Elements that one call makes at most, and the room its buffer needs for them. */
enum { DROPOUT_SLACK = 272 };

/* Local.  p in [0,1). */
struct dropout dropout_make(double p, uint64_t key, int32_t depth, enum dropout_site_id site);

/* Local.  Makes the lanes of elements first .. first+count-1 of a sentence.  `buffer` has room for
 * count + DROPOUT_SLACK; answers the place of the first lane in it. */
const uint16_t *dropout_lanes(const struct dropout *d, int64_t sample, int64_t first, int64_t count,
                              uint16_t *buffer);

/* 0 or scale; both numbers come from a struct dropout, by value so that loops keep them in
 * registers. */
static inline real dropout_factor(uint32_t threshold, real scale, uint16_t lane)
{
    return lane < threshold ? 0 : scale;
}

/* Local.  y = x * mask for elements first .. first+count-1 of a sentence; y may be x.
 * Where dropout is off, copies. */
void dropout_apply(const struct dropout *d, int64_t sample, int64_t first, int64_t count,
                   const real *x, real *y);

/* Local.  x[N,H] *= mask, sentence by sentence; also its own backward.  Off: does nothing. */
void dropout_apply_batch(const struct dropout *d, const struct batch *batch, int64_t H, real *x);

#endif

/*
 * rng: random numbers as pure functions; nothing to seed, advance, or save.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): 128 random
 * bits from a 128-bit counter and a 64-bit key.  The key names seed, purpose and step; the counter
 * names sample, layer, site and element, so every rank that asks for the same thing gets the same
 * bits, in any order, at any rank count.
 */
#ifndef MT_BASE_RNG_H
#define MT_BASE_RNG_H

#include "comm/base/status.h"

/* What the numbers are for: streams of two purposes never meet. */
enum rng_purpose { RNG_INIT = 1, RNG_SHUFFLE, RNG_TASK, RNG_DROPOUT, RNG_TEST };

struct rng_block {
    uint32_t v[4];
};

/* The key of (seed, purpose, step). */
uint64_t rng_key(uint64_t seed, enum rng_purpose purpose, uint64_t step);

/* 128 bits for (key, counter). */
struct rng_block rng_philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3);

/* Uniform in [0,1), 53 bits, from two words. */
double rng_uniform(uint32_t hi, uint32_t lo);

/* The i-th standard normal of (key, stream): Box-Muller on one Philox block. */
double rng_normal(uint64_t key, uint64_t stream, uint64_t i);

/* The i-th element of the key's permutation of 0..n-1, in O(1): a four-round Feistel network on the
 * next power of four with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite
 * domains", CT-RSA 2002).  0 <= i < n. */
int64_t rng_permute(uint64_t key, int64_t n, int64_t i);

#endif

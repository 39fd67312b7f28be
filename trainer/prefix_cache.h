/*
 * prefix_cache: what a frozen prefix of the encoder gives for every sentence, computed once.
 *
 * Everything below the lowest trained tensor runs in evaluation mode, so its output is a pure
 * function of the sentence.  The cache holds that output for the training and dev rows of the data
 * sets in use: hidden states [tokens, H] at an encoder boundary, or one pooled vector [H] a
 * sentence where the whole encoder is frozen.
 *
 * It is filled by a pass of its own over the canonical blocks (trainer/row_blocks.h), so its bits
 * depend on the data, the frozen tensors and the library of products only: not on ranks, kills or
 * steps.  The file's name is a hash of all these; it survives a restart and is never used for
 * anything else.  Evaluation from the cache gives the same bits as without it (fp32); training
 * steps the same up to rounding, since their batches have other shapes.
 */
#ifndef MT_TRAINER_PREFIX_CACHE_H
#define MT_TRAINER_PREFIX_CACHE_H

#include "comm/pool.h"
#include "trainer/corpora.h"
#include "trainer/model/model.h"

struct prefix_cache;

struct prefix_setup {
    const struct comm *world;
    const struct model *model;
    const float *params;
    const struct corpora *corpora;
    struct pool *pool;
    int32_t depth;           /* whose input is kept: 1..L hidden states, L+1 pooled vectors */
    bool used[JOB_DATA_MAX]; /* which data sets */
    const char *dir;         /* folder of cache files */
    int64_t memory_bytes;    /* up to this the file is read ahead; 0 = a quarter of the node's */
    bool bf16;
    const struct prefix_cache *lower; /* an open cache of a smaller depth to fill from, or NULL */
};

/* Local.  Bytes of the file. */
int64_t prefix_cache_bytes(const struct prefix_setup *setup);

/* Collective.  Opens the cache, filling it first where there is no sound one.
 * Owns: the caller, until prefix_cache_close.  Errors: IO (no room), STOPPED (on all ranks), NOMEM,
 * DATA. */
mt_status prefix_cache_open(struct prefix_cache **out, const struct prefix_setup *setup) MT_CHECKED;
void prefix_cache_close(struct prefix_cache **cache);

/* Local.  Whether it holds all rows that another setup wants. */
bool prefix_cache_covers(const struct prefix_cache *c, const struct prefix_setup *setup);

/* Local.  Whether it holds the rows of a set's split; false for NULL. */
bool prefix_cache_has(const struct prefix_cache *c, enum split split, int32_t set);

/* Local.  What it holds, and what filling took. */
int32_t prefix_cache_depth(const struct prefix_cache *c);
double prefix_cache_fill_s(const struct prefix_cache *c); /* 0 = it was there already */
int64_t prefix_cache_sentences(const struct prefix_cache *c);

/* Local.  The boundary input of a batch of rows of a split, by batch->sample; any thread. */
void prefix_cache_read(const struct prefix_cache *c, enum split split, const struct batch *batch,
                       real *out);

/* Local.  The same as a lanes_boundary (trainer/lanes.h) for training rows; context = the cache. */
void prefix_cache_read_train(void *cache, const struct batch *slice, real *out);

#endif

/*
 * activation_table: activations of numbers in bf16, of which there are only 65536: looked up, with
 * the bits of activation.h.
 *
 * Only numbers that occur are read, a few thousand for a layer in training, so what is used of a
 * table fits the first cache.
 */
#ifndef MT_MODEL_ACTIVATION_TABLE_H
#define MT_MODEL_ACTIVATION_TABLE_H

#include <stdint.h>

#include "io/bert_config.h"
#include "trainer/model/real.h"

enum { ACTIVATION_TABLE = 1 << 16, ACTIVATION_TABLE_ROW = 32 };

struct activation_table {
    uint16_t value[ACTIVATION_TABLE + 1]; /* act(u) in bf16; one more, which a gather reads */
    real slope[ACTIVATION_TABLE];         /* act'(u) */
};

/* Local.  Static; made at the first call for it; any thread. */
const struct activation_table *activation_table_of(enum activation a);

/* The two below want AVX-512 (gemm_amx_has()); rows of 32 numbers, whole cache lines. */

/* Local.  g = act(u), past the caches. */
void activation_table_values(const struct activation_table *t, int64_t rows, const uint16_t *u,
                             uint16_t *g);

/* Local.  The same, and d *= act'(u). */
void activation_table_slopes(const struct activation_table *t, int64_t rows, const uint16_t *u,
                             uint16_t *g, real *d);

#endif

/* small_table: a table of a few named tensors with numbers to tell apart, for tests of storage. */
#ifndef MT_TEST_SMALL_TABLE_H
#define MT_TEST_SMALL_TABLE_H

#include "comm/base/tensors.h"

/* 5 tensors in the manner of BERT: two embeddings, a layer's weight, a head's weight and bias. */
void small_table_make(struct tensor_table *t);

/* A flat block of t->total floats, padding zero; the value of an element follows from seed, tensor
 * and place.  Owns: the caller, mt_free. */
float *small_table_block(const struct tensor_table *t, int seed);

/* Fails the test with the error's message unless st is MT_OK. */
void expect_ok(mt_status st);

/* Fails the test unless st is `want` and its message holds `part`. */
void expect_fail(mt_status st, mt_status want, const char *part);

#endif

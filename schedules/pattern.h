/*
 * pattern: which tensors a schedule means.
 *
 * A pattern is matched against the whole name of a tensor ("encoder.layer.3.output.dense.weight"):
 *   *         any run of characters, dots included
 *   [8-11]    a decimal number in the range (whole numbers only: layer 1 is not matched in "11");
 *             also [3] and [0-2,7]
 *   {a,b}     one of the texts
 *   top(4)    the four top encoder layers, top(33%) that share of them rounded up; encoder layers
 *             only, never pooler or heads; top(k) with k above the depth means all layers
 *   all, none every tensor, no tensor
 * A pattern that ends on a whole part of a name means all below it: `embeddings`,
 * `encoder.layer.3`, `heads.sentiment`.
 */
#ifndef MT_SCHEDULES_PATTERN_H
#define MT_SCHEDULES_PATTERN_H

#include "comm/base/tensors.h"

struct string_list;

/* Local.  Whether the syntax is right.  `where` ("x.cfg:7: phases[1].train") begins the message.
 * Errors: CONFIG. */
mt_status pattern_check(const char *pattern, const char *where) MT_CHECKED;

/* Local.  Whether the pattern means the tensor; false for a pattern with wrong syntax. */
bool pattern_match(const char *pattern, const struct tensor *tensor, int32_t layers);

/* Local.  Sets mask[i] = value (mask NULL = only checks) for each tensor that a pattern means.  A
 * pattern that means none is an error, but for those that begin with "pooler" (a model may have
 * none): they are only counted in *absent (may be NULL).  Errors: CONFIG. */
mt_status pattern_select(const struct string_list *patterns, const struct tensor_table *table,
                         uint8_t value, uint8_t *mask, int32_t *absent) MT_CHECKED;

/* Local.  How many layers top(...) means: k, or a share of `layers`; -1 for another pattern. */
int32_t pattern_top(const char *pattern, int32_t layers);

#endif

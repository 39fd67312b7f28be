/*
 * head: softmax cross-entropy of one task over the sentences that have a label for it.
 */
#ifndef MT_MODEL_HEAD_H
#define MT_MODEL_HEAD_H

#include "trainer/model/model.h"

/* Local.  From logits[B,K] and labels[B] (-1 = none): sums, and dlogits[B,K] = derivative of
 * weight * loss sum (NULL where not wanted; rows without a label become 0).
 * As torch.nn.CrossEntropyLoss: with smoothing e and class weights w, the loss of a sentence of
 * class y is (1-e) w_y (-log p_y) + e/K sum_c w_c (-log p_c), and the divisor of a mean is the sum
 * of w_y.  Computed in double. */
void head_loss(int32_t B, int32_t K, const real *logits, const int32_t *labels,
               const struct task_loss *how, real *dlogits, struct task_sums *sums);

#endif

/*
 * adamw: Adam with decoupled weight decay over one range of the flat blocks.
 *
 * Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), in the form of
 * torch.optim.AdamW:
 *
 *     g *= grad_scale            p -= lr weight_decay p
 *     m  = beta1 m + (1-beta1) g              v = beta2 v + (1-beta2) g^2
 *     p -= (lr / bias_c1) m / (sqrt(v) / sqrt(bias_c2) + eps)
 */
#ifndef MT_OPTIM_ADAMW_H
#define MT_OPTIM_ADAMW_H

#include <stdint.h>

/* Local.  Parameters p, moments m and v, gradients g, each [count]; bias_c1 = 1 - beta1^t and
 * bias_c2 = 1 - beta2^t for step t = 1, 2, ...; weight_decay 0 for tensors that do not decay.
 * Each element depends on itself alone: the bits do not depend on how ranges are cut. */
void adamw_update(float *p, float *m, float *v, const float *g, int64_t count, double lr,
                  double beta1, double beta2, double eps, double weight_decay, double bias_c1,
                  double bias_c2, double grad_scale);

#endif

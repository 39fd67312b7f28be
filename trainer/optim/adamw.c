/* One pass over four streams: limited by memory, 28 bytes an element. */
#include "trainer/optim/adamw.h"

#include <math.h>

#include "trainer/model/kernel.h"

KERNEL void adamw_update(float *restrict p, float *restrict m, float *restrict v,
                         const float *restrict g, int64_t count, double lr, double beta1,
                         double beta2, double eps, double weight_decay, double bias_c1,
                         double bias_c2, double grad_scale)
{
    const float b1 = (float)beta1, a1 = (float)(1 - beta1), b2 = (float)beta2;
    const float a2 = (float)(1 - beta2), e = (float)eps, scale = (float)grad_scale;
    const float keep = (float)(1 - lr * weight_decay), step = (float)(lr / bias_c1);
    const float correct = (float)(1 / sqrt(bias_c2));
    for (int64_t i = 0; i < count; i++) {
        float x = g[i] * scale;
        float mi = b1 * m[i] + a1 * x, vi = b2 * v[i] + a2 * x * x;
        m[i] = mi;
        v[i] = vi;
        p[i] = keep * p[i] - step * (mi / (sqrtf(vi) * correct + e));
    }
}

/* See head.h.  K is small and B a few dozen, so double costs nothing and the loss keeps its digits.
 */
#include "trainer/model/head.h"

#include <math.h>
#include <string.h>

static double class_weight(const struct task_loss *how, int32_t c)
{
    return how->class_weight ? (double)how->class_weight[c] : 1.0;
}

/* log sum exp of a row, and the place of its maximum. */
static double log_sum(int32_t K, const real *z, int32_t *best)
{
    *best = 0;
    for (int32_t c = 1; c < K; c++)
        if (z[c] > z[*best])
            *best = c;
    double max = (double)z[*best], sum = 0;
    for (int32_t c = 0; c < K; c++)
        sum += exp((double)z[c] - max);
    return max + log(sum);
}

void head_loss(int32_t B, int32_t K, const real *logits, const int32_t *labels,
               const struct task_loss *how, real *dlogits, struct task_sums *sums)
{
    double smooth = (double)how->label_smoothing / K, sharp = 1 - (double)how->label_smoothing;
    double all = 0;
    for (int32_t c = 0; c < K; c++)
        all += class_weight(how, c);
    for (int32_t i = 0; i < B; i++) {
        const real *z = logits + (int64_t)i * K;
        real *d = dlogits ? dlogits + (int64_t)i * K : NULL;
        int32_t y = labels[i], best;
        if (y < 0) {
            if (d)
                memset(d, 0, (size_t)K * sizeof *d);
            continue;
        }
        double lse = log_sum(K, z, &best), w = class_weight(how, y), loss = 0;
        for (int32_t c = 0; c < K; c++) {
            double share = smooth * class_weight(how, c) + (c == y ? sharp * w : 0);
            double logp = (double)z[c] - lse;
            if (share != 0)
                loss -= share * logp;
            if (d)
                d[c] =
                    (real)((double)how->weight * (exp(logp) * (sharp * w + smooth * all) - share));
        }
        sums->loss += loss;
        sums->weight += w;
        sums->labelled++;
        sums->correct += best == y;
    }
}

/* See spikes.h. */
#include "trainer/spikes.h"

#include <math.h>
#include <string.h>

double spikes_median(const double *values, int32_t count)
{
    double sorted[SPIKE_WINDOW];
    if (count <= 0 || count > SPIKE_WINDOW)
        return NAN;
    for (int32_t i = 0; i < count; i++) {
        int32_t k = i;
        for (; k > 0 && sorted[k - 1] > values[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = values[i];
    }
    int32_t half = count / 2;
    return count % 2 == 1 ? sorted[half] : 0.5 * (sorted[half - 1] + sorted[half]);
}

const char *spikes_judge(const struct spikes *s, int32_t phase, double loss, double norm,
                         double factor, double *median)
{
    if (s->phase != phase || s->count < SPIKE_LEAST)
        return NULL;
    *median = spikes_median(s->norm, s->count);
    if (norm > factor * *median)
        return "gradient norm";
    *median = spikes_median(s->loss, s->count);
    return loss > factor * *median ? "loss" : NULL;
}

void spikes_add(struct spikes *s, int32_t phase, double loss, double norm)
{
    if (s->phase != phase)
        s->count = 0;
    s->phase = phase;
    if (s->count == SPIKE_WINDOW) {
        s->count--;
        memmove(s->norm, s->norm + 1, (size_t)s->count * sizeof *s->norm);
        memmove(s->loss, s->loss + 1, (size_t)s->count * sizeof *s->loss);
    }
    s->norm[s->count] = norm;
    s->loss[s->count++] = loss;
}

/*
 * spikes: whether a step's loss or gradient norm stands far above those of the steps before.
 *
 * The median of the last SPIKE_WINDOW steps of the same phase that were not passed over.  Pure, and
 * all of it is in the checkpoint, so every rank and every resumed run judges alike.
 */
#ifndef MT_TRAINER_SPIKES_H
#define MT_TRAINER_SPIKES_H

#include <stdbool.h>
#include <stdint.h>

enum { SPIKE_WINDOW = 64, SPIKE_LEAST = 16 };

struct spikes {
    int32_t phase, count; /* count <= SPIKE_WINDOW, oldest first */
    double norm[SPIKE_WINDOW], loss[SPIKE_WINDOW];
};

/* Local.  Median of values[count]; NaN where there are none. */
double spikes_median(const double *values, int32_t count);

/* Local.  "gradient norm" or "loss" where the step's value is above factor x median, NULL where
 * neither is or fewer than SPIKE_LEAST steps are known; *median is that of the named one. */
const char *spikes_judge(const struct spikes *s, int32_t phase, double loss, double norm,
                         double factor, double *median);

/* Local.  Takes a good step into the window; another phase begins a new one. */
void spikes_add(struct spikes *s, int32_t phase, double loss, double norm);

#endif

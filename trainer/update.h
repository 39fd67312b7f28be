/* update: clip by the global norm and AdamW, over the trainable ranges. */
#ifndef MT_TRAINER_UPDATE_H
#define MT_TRAINER_UPDATE_H

#include "trainer/run.h"

/* Collective.  grads: a flat block with this rank's owned part of the summed gradients.  The mean
 * gradient is grads / divisor, of norm grad_norm; it is scaled by min(1, clip / (norm + 1e-6)) as
 * torch.nn.utils.clip_grad_norm_ does.  Without optimizer.shard all gradients are gathered and
 * every rank updates everything; with it each rank updates what it owns and the parameters are
 * gathered.  The bits are the same.  Errors: MPI. */
mt_status update_parameters(struct run *run, float *grads, double lr_factor, double divisor,
                            double grad_norm) MT_CHECKED;

/* Collective.  With optimizer.shard: makes the moments of the phase's tensors whole on every rank,
 * for a save or the end of the phase; otherwise nothing.  Errors: MPI. */
mt_status update_gather_moments(struct run *run) MT_CHECKED;

/* Local.  With optimizer.shard: forgets the moments of trainable tensors that other ranks own, and
 * gives their memory back. */
void update_drop_foreign_moments(struct run *run);

#endif

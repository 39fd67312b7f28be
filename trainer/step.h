/* step: one training step, from a lane batch to updated parameters. */
#ifndef MT_TRAINER_STEP_H
#define MT_TRAINER_STEP_H

#include "trainer/run.h"

/* What a step was, the same on all ranks but for the times. */
struct step_report {
    int64_t step; /* the step just done, counted from 1 */
    int32_t sentences;
    int64_t tokens;
    struct task_sums task[MODEL_TASKS_MAX];
    double loss;                                /* weighted sum over tasks / labels counted */
    double lr_factor;                           /* of the phase's peak rates */
    double grad_norm;                           /* before clipping */
    bool skipped;                               /* not sound, parameters left as they were */
    double imbalance;                           /* tokens of the fullest lane over the mean lane */
    int64_t reduced_bytes;                      /* sent by this rank */
    double wait_data_s, wait_reduce_s, seconds; /* of this rank */
    double hidden_reduce_s;                     /* reduction under way while this rank computed */
};

/* The summed gradient of a step. */
struct step_gradient {
    float *sum;     /* flat block; this rank's owned part is whole */
    double divisor; /* the mean is sum / divisor */
    bool finite;    /* neither the loss nor an element of any rank is inf or nan */
};

/* Collective.  Takes the next lane batch, computes this rank's lanes, reduces, clips, updates.
 * Afterwards run->position is that after the step; the phase machine is not told.
 * Errors: NUMERIC (non-finite under policy "stop", naming step, task and samples); DATA, IO, MPI.
 */
mt_status train_step(struct run *run, struct step_report *out) MT_CHECKED;

#endif

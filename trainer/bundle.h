/*
 * bundle: what is needed to look at one bad step again, as run_dir/bundles/step-NNNNNNNN.json.
 *
 * Step, phase, norms, losses and the samples of the batch; the parameters are made again from the
 * checkpoint before it by `mttrain replay`, since a step is a function of them, the job and the
 * step number.  decisions_bytes: how much of decisions.jsonl counted then.
 */
#ifndef MT_TRAINER_BUNDLE_H
#define MT_TRAINER_BUNDLE_H

#include "trainer/step.h"

enum { BUNDLE_PATH_BYTES = 4200, BUNDLE_SAMPLES_MAX = 65536 };

/* What is told of a step. */
struct bundle {
    int64_t step, decisions_bytes;
    int32_t phase;
    char phase_name[128], kind[32], what[32], action[16], culprits[700];
    double loss, grad_norm, median; /* median NaN = none */
};

/* Root.  Writes it; `path` gets where.  Errors: IO, NOMEM. */
mt_status bundle_write(const struct run *run, const struct bundle *b,
                       const struct step_batch *batch, const struct step_report *report,
                       char path[BUNDLE_PATH_BYTES]) MT_CHECKED;

/* Local.  Errors: IO; DATA for what is no bundle. */
mt_status bundle_read(struct bundle *out, const char *path) MT_CHECKED;

#endif

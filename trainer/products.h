/*
 * products: the library and the precision of a job's matrix products, agreed on by all ranks.
 */
#ifndef MT_TRAINER_PRODUCTS_H
#define MT_TRAINER_PRODUCTS_H

#include "comm/world.h"
#include "jobs/job.h"
#include "trainer/model/model.h"

/* Collective.  Applies model.products and model.precision.  bf16 where some rank cannot multiply
 * it: a warning that names the first such host, and fp32 on all ranks.  bf16 by AMX where all ranks
 * have it and the job does not ask for onednn, else by oneDNN.
 * Errors: CONFIG where a library is asked for that is not built in, where ranks of different
 * builds would choose different ones, or where bf16 needs oneDNN and some rank lacks it. */
mt_status products_choose(const struct comm *world, const struct job_model *job,
                          struct model *model) MT_CHECKED;

#endif

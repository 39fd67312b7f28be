/*
 * products: the library and the precision of a job's matrix products, agreed on by all ranks.
 */
#ifndef MT_TRAINER_PRODUCTS_H
#define MT_TRAINER_PRODUCTS_H

#include "comm/world.h"
#include "jobs/job.h"
#include "trainer/model/model.h"

/* Collective.  Applies model.products and model.precision.  fp32 by AMX, where the job leaves the
 * choice, if all ranks have it.  bf16 where some rank cannot multiply
 * it: a warning that names the first such host, and fp32 on all ranks.  bf16 by AMX where all ranks
 * have it and the job does not ask for onednn, else by oneDNN.
 * Errors: CONFIG where a library is asked for that is not built in, where ranks of different
 * builds would choose different ones, or where bf16 needs oneDNN and some rank lacks it. */
mt_status products_choose(const struct comm *world, const struct job_model *job,
                          struct model *model) MT_CHECKED;

/* The libraries of a run, which are part of its bits: checkpoints hold them. */
struct products_record {
    char fp32[16], bf16[16]; /* as gemm_choose and gemm_choose_bf16 take them; "": not known */
};

/* Local.  Those in use; bf16 is "" where the model multiplies in fp32. */
struct products_record products_record_of(const struct model *model);

/* Collective.  At a resume: goes on by the libraries of the checkpoint where the job leaves the
 * choice and all ranks have them; where some rank lacks one, a warning that bits change. */
mt_status products_take_up(const struct comm *world, const struct job_model *job,
                           const struct model *model,
                           const struct products_record *before) MT_CHECKED;

#endif

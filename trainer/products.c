/* See products.h. */
#include "trainer/products.h"

#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/exchange.h"
#include "trainer/model/gemm.h"

static const char *const library_name[] = {
    [JOB_PRODUCTS_AUTO] = "auto",
    [JOB_PRODUCTS_NATIVE] = "native",
    [JOB_PRODUCTS_OPENBLAS] = "openblas",
    [JOB_PRODUCTS_ONEDNN] = "onednn",
};

/* Whether all ranks can multiply bf16. */
static mt_status agree_on_bf16(const struct comm *world, bool *possible)
{
    const char *why;
    int64_t first = gemm_has_bf16(&why) ? world->size : world->rank;
    MT_TRY(comm_min_i64(world, &first, 1));
    *possible = first == world->size;
    if (*possible)
        return MT_OK;
    if (first != 0)
        why = "its processor or build lacks bf16";
    log_warning("model.precision = \"bf16\" is not possible on %s: %s; going on in fp32",
                comm_host(world, (int32_t)first), why);
    return MT_OK;
}

/* One library for bf16 on all ranks, since it is part of the bits: oneDNN where it is asked for or
 * where some rank has no AMX. */
static mt_status choose_bf16(const struct comm *world, const struct job_model *job)
{
    int64_t amx = job->products != JOB_PRODUCTS_ONEDNN && gemm_choose_bf16("amx") == MT_OK;
    mt_error_clear();
    MT_TRY(comm_min_i64(world, &amx, 1));
    MT_ALL(world, gemm_choose_bf16(amx ? "amx" : "onednn"));
    return MT_OK;
}

mt_status products_choose(const struct comm *world, const struct job_model *job,
                          struct model *model)
{
    bool bf16 = job->precision == JOB_BF16;
    MT_ALL(world, gemm_choose(library_name[job->products]));
    const char *chosen = gemm_chosen();
    MT_TRY(comm_agree_equal(world, "the library of matrix products (model.products)",
                            hash64_of(chosen, (int64_t)strlen(chosen))));
    if (bf16)
        MT_TRY(agree_on_bf16(world, &bf16));
    if (bf16)
        MT_TRY(choose_bf16(world, job));
    MT_ALL(world, model_set_precision(model, bf16 ? MODEL_BF16 : MODEL_FP32));
    return MT_OK;
}

/* See products.h. */
#include "trainer/products.h"

#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/exchange.h"
#include "trainer/model/gemm.h"

static const char *const library_name[] = {
    [JOB_PRODUCTS_AUTO] = "auto",     [JOB_PRODUCTS_AMX] = "amx",
    [JOB_PRODUCTS_NATIVE] = "native", [JOB_PRODUCTS_OPENBLAS] = "openblas",
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

/* The job's library; `auto` goes by AMX only where all ranks have it. */
static mt_status choose_fp32(const struct comm *world, const struct job_model *job)
{
    MT_ALL(world, gemm_choose(library_name[job->products]));
    int64_t amx = strcmp(gemm_chosen(), "amx") == 0, all = amx;
    MT_TRY(comm_min_i64(world, &all, 1));
    if (amx && !all && job->products == JOB_PRODUCTS_AUTO)
        MT_TRY(gemm_choose("native"));
    const char *chosen = gemm_chosen();
    return comm_agree_equal(world, "the library of matrix products (model.products)",
                            hash64_of(chosen, (int64_t)strlen(chosen)));
}

mt_status products_choose(const struct comm *world, const struct job_model *job,
                          struct model *model)
{
    bool bf16 = job->precision == JOB_BF16;
    MT_TRY(choose_fp32(world, job));
    if (bf16)
        MT_TRY(agree_on_bf16(world, &bf16));
    if (bf16)
        MT_TRY(choose_bf16(world, job));
    MT_ALL(world, model_set_precision(model, bf16 ? MODEL_BF16 : MODEL_FP32));
    return MT_OK;
}

struct products_record products_record_of(const struct model *model)
{
    struct products_record r = {0};
    (void)snprintf(r.fp32, sizeof r.fp32, "%s", gemm_chosen());
    if (model->precision == MODEL_BF16)
        (void)snprintf(r.bf16, sizeof r.bf16, "%s", gemm_chosen_bf16());
    return r;
}

/* The library `before` on all ranks; where that is not possible, `now`. */
static mt_status go_on_by(const struct comm *world, const char *precision,
                          mt_status (*choose)(const char *), const char *now, const char *before)
{
    if (before[0] == '\0' || strcmp(before, now) == 0)
        return MT_OK;
    int64_t possible = choose(before) == MT_OK;
    mt_error_clear();
    MT_TRY(comm_min_i64(world, &possible, 1));
    if (possible)
        return MT_OK;
    MT_ALL(world, choose(now));
    log_warning("the run multiplied %s by %s, which not all ranks have now; going on by %s: the "
                "results are as good, but not the same to the last bit",
                precision, before, now);
    return MT_OK;
}

mt_status products_take_up(const struct comm *world, const struct job_model *job,
                           const struct model *model, const struct products_record *before)
{
    struct products_record now = products_record_of(model);
    if (job->products == JOB_PRODUCTS_AUTO)
        MT_TRY(go_on_by(world, "fp32", gemm_choose, now.fp32, before->fp32));
    if (job->products != JOB_PRODUCTS_ONEDNN && now.bf16[0] != '\0')
        MT_TRY(go_on_by(world, "bf16", gemm_choose_bf16, now.bf16, before->bf16));
    return MT_OK;
}

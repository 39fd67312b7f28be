/* See freeze_audit.h. */
#include "trainer/freeze_audit.h"

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"

static uint64_t hash_tensor(const struct run *run, int32_t tensor)
{
    const struct tensor *e = &run->model.table.entry[tensor];
    return hash64_of(run->params + e->offset, e->count * (int64_t)sizeof(float));
}

mt_status freeze_audit_begin(struct run *run)
{
    int32_t count = run->model.table.count;
    MT_TRY(mt_alloc(&run->phase.frozen_hash, count, sizeof(uint64_t), "frozen hashes"));
    for (int32_t i = 0; i < count; i++)
        if (!run->phase.plan->trainable[i])
            freeze_audit_adopt(run, i);
    return MT_OK;
}

void freeze_audit_adopt(struct run *run, int32_t tensor)
{
    run->phase.frozen_hash[tensor] = hash_tensor(run, tensor);
}

static mt_status verify(const struct run *run)
{
    for (int32_t i = 0; i < run->model.table.count; i++)
        if (!run->phase.plan->trainable[i] && hash_tensor(run, i) != run->phase.frozen_hash[i])
            return MT_FAIL(MT_BUG, "frozen tensor %s changed during phase \"%s\"",
                           run->model.table.entry[i].name, run->phase.plan->phase->name);
    return MT_OK;
}

mt_status freeze_audit_verify(const struct run *run)
{
    MT_ALL(run->world, verify(run));
    return MT_OK;
}

static bool is_zero(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (x[i] != 0.0f)
            return false;
    return true;
}

/* Whether a first moment of a tensor is other than zero, of those that this rank updates. */
static bool is_touched(const struct run *run, const struct tensor *e)
{
    struct range own;
    if (run->phase.reducer == NULL) /* no steps: nothing is shared out */
        return !is_zero(run->adam_m + e->offset, e->count);
    for (struct range_walk w = range_walk_over(&run->phase.owned, e->offset, e->offset + e->count);
         range_walk_next(&w, &own);)
        if (!is_zero(run->adam_m + own.begin, own.end - own.begin))
            return true;
    return false;
}

mt_status freeze_audit_find_untouched(struct run *run)
{
    int32_t count = run->model.table.count;
    mt_free(&run->phase.touched);
    MT_ALL(run->world,
           mt_alloc(&run->phase.touched, count, sizeof(int64_t), "tensors with a gradient"));
    for (int32_t i = 0; i < count; i++)
        run->phase.touched[i] = run->phase.plan->trainable[i] && run->adam_steps[i] > 0 &&
                                is_touched(run, &run->model.table.entry[i]);
    return comm_max_i64(run->world, run->phase.touched, count);
}

int32_t freeze_audit_next_untouched(const struct run *run, int32_t from)
{
    for (int32_t i = from + 1; i < run->model.table.count; i++)
        if (run->phase.plan->trainable[i] && run->adam_steps[i] > 0 && !run->phase.touched[i])
            return i;
    return -1;
}

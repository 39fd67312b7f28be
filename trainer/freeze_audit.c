/* See freeze_audit.h. */
#include "trainer/freeze_audit.h"

#include "comm/agree.h"
#include "comm/base/memory.h"

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

int32_t freeze_audit_next_untouched(const struct run *run, int32_t from)
{
    for (int32_t i = from + 1; i < run->model.table.count; i++) {
        const struct tensor *e = &run->model.table.entry[i];
        if (run->phase.plan->trainable[i] && run->adam_steps[i] > 0 &&
            is_zero(run->adam_m + e->offset, e->count))
            return i;
    }
    return -1;
}

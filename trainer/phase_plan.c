/* See phase_plan.h. */
#include "trainer/phase_plan.h"

#include <math.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/eligible.h"

/* Takes away what no active task's loss reaches: an unused pooler, heads of other tasks. */
static void keep_reachable(struct phase_plan *plan, const struct model *model)
{
    for (int32_t i = 0; i < model->table.count; i++) {
        const struct tensor *e = &model->table.entry[i];
        if (!model_uses_tensor(model, i) || (e->task >= 0 && !plan->active[e->task]))
            plan->trainable[i] = 0;
    }
}

static mt_status choose_tensors(struct phase_plan *plan, const struct job *job,
                                const struct model *model)
{
    const struct phase *p = plan->phase;
    const struct tensor_table *table = &model->table;
    const char *task_names[JOB_TASKS_MAX];
    job_task_names(job, task_names);
    MT_TRY(mt_alloc(&plan->trainable, table->count, 1, "a phase's tensors"));
    MT_TRY(mt_alloc(&plan->lr, table->count, sizeof(double), "a phase's rates"));
    MT_TRY(mt_alloc(&plan->weight_decay, table->count, sizeof(double), "a phase's decay"));
    MT_TRY(phase_trainable(p, table, plan->trainable));
    phase_active_tasks(p, table, plan->trainable, task_names, job->task_count, plan->active);
    keep_reachable(plan, model);
    MT_TRY(phase_rates(p, table, plan->trainable, plan->lr));
    for (int32_t i = 0; i < table->count; i++) {
        plan->weight_decay[i] = phase_tensor_weight_decay(p, &table->entry[i], table->layers);
        if (plan->trainable[i])
            plan->trainable_elements += table->entry[i].count;
        else
            plan->frozen_tensors++;
    }
    plan->train_from = phase_train_from(table, plan->trainable);
    return MT_OK;
}

static void choose_losses(struct phase_plan *plan, const struct job *job)
{
    for (int32_t t = 0; t < job->task_count; t++) {
        int32_t i = weight_list_find(&plan->phase->loss_weights, job->tasks[t].name);
        plan->loss_weight[t] = i >= 0 ? plan->phase->loss_weights.value[i] : job->tasks[t].weight;
    }
}

/* A phase that trains something, but for no loss. */
static mt_status check_active(const struct phase_plan *plan, const struct job *job)
{
    bool any = false;
    for (int32_t t = 0; t < job->task_count; t++)
        any = any || plan->active[t];
    if (any)
        return MT_OK;
    return MT_FAIL(MT_CONFIG,
                   "%s: no task's loss counts in phase \"%s\", since it trains no head; add "
                   "\"heads.*\" to train, or name the tasks whose frozen heads lead the others "
                   "(tasks = [ \"%s\" ])",
                   plan->phase->where != NULL ? plan->phase->where : "schedule", plan->phase->name,
                   job->tasks[0].name);
}

static mt_status choose_rows(struct phase_plan *plan, const struct job *job,
                             const struct corpora *corpora)
{
    int64_t total = 0;
    for (int32_t set = 0; set < corpora->set_count; set++) {
        int32_t columns[JOB_TASKS_MAX], count = 0;
        const struct dataset *d = corpora->set[SPLIT_TRAIN][set];
        for (int32_t t = 0; t < job->task_count; t++)
            if (plan->active[t] && corpora->column[SPLIT_TRAIN][set][t] >= 0)
                columns[count++] = corpora->column[SPLIT_TRAIN][set][t];
        if (d == NULL || count == 0)
            continue;
        MT_TRY(eligible_rows(&plan->eligible[set], &plan->rows[set], d, columns, count));
        total += plan->rows[set];
        int32_t w = weight_list_find(&plan->phase->weights, job->data[set].name);
        plan->sampling_weight[set] = w >= 0 ? plan->phase->weights.value[w] : 1.0;
    }
    if (total == 0)
        return MT_FAIL(MT_CONFIG,
                       "%s: no training sentence has a label of a task that counts in phase "
                       "\"%s\"; see its train, freeze and tasks",
                       plan->phase->where != NULL ? plan->phase->where : "schedule",
                       plan->phase->name);
    return MT_OK;
}

mt_status phase_plan_make(struct phase_plan *plan, const struct job *job, int32_t phase,
                          const struct model *model, const struct corpora *corpora)
{
    static const enum sampling sampling_of[] = {[SAMPLING_INHERIT] = SAMPLE_PROPORTIONAL,
                                                [SAMPLING_PROPORTIONAL] = SAMPLE_PROPORTIONAL,
                                                [SAMPLING_UNIFORM] = SAMPLE_UNIFORM,
                                                [SAMPLING_TEMPERATURE] = SAMPLE_TEMPERATURE,
                                                [SAMPLING_EXPLICIT] = SAMPLE_EXPLICIT};
    memset(plan, 0, sizeof *plan);
    plan->phase = &job->schedule.phase[phase];
    plan->probe = plan->phase->classifier == CLASSIFIER_PROBE;
    plan->sampling = sampling_of[plan->phase->sampling];
    MT_TRY(choose_tensors(plan, job, model));
    if (plan->probe)
        for (int32_t t = 0; t < job->task_count; t++)
            plan->active[t] = true;
    else if (plan->trainable_elements == 0)
        return MT_FAIL(MT_CONFIG,
                       "%s: phase \"%s\" trains no tensor that a loss depends on; widen its train "
                       "list, or use classifier = \"probe\" for a wholly frozen network",
                       plan->phase->where != NULL ? plan->phase->where : "schedule",
                       plan->phase->name);
    else
        MT_TRY(check_active(plan, job));
    choose_losses(plan, job);
    MT_TRY(choose_rows(plan, job, corpora));
    struct sampler_spec spec = phase_plan_sampler(plan, job);
    MT_TRY(sampler_check(&spec));
    plan->steps_per_epoch = (double)sampler_steps_per_epoch(&spec);
    return MT_OK;
}

void phase_plan_release(struct phase_plan *plan)
{
    mt_free(&plan->trainable);
    mt_free(&plan->lr);
    mt_free(&plan->weight_decay);
    for (int32_t set = 0; set < JOB_DATA_MAX; set++)
        mt_free(&plan->eligible[set]);
    memset(plan, 0, sizeof *plan);
}

struct sampler_spec phase_plan_sampler(const struct phase_plan *plan, const struct job *job)
{
    struct sampler_spec spec = {0};
    spec.seed = (uint64_t)job->seed;
    spec.set_count = job->data_count;
    spec.rows = plan->rows;
    spec.eligible = (const int64_t *const *)plan->eligible;
    spec.sampling = plan->sampling;
    spec.temperature = plan->phase->temperature;
    spec.weights = plan->sampling_weight;
    spec.batch_sentences = (int32_t)plan->phase->sentences;
    return spec;
}

/* See phase_step.h. */
#include "trainer/phase_step.h"

#include <math.h>
#include <string.h>

#include "comm/base/rng.h"

void phase_step_plan_pass(const struct run *run, double *factor, struct pass_plan *plan)
{
    const struct phase_run *phase = &run->phase;
    const struct phase *declared = phase->plan->phase;
    const struct bert_config *config = &run->model.config;
    int64_t step = run->machine.step, k = step - run->machine.phase_begin_step;
    *factor = run->lr_scale *
              phase_factor(declared, k, phase->steps, phase->warmup_steps, phase->decay_steps);
    memset(plan, 0, sizeof *plan);
    plan->start = phase->start;
    plan->train_from = declared->frozen_dropout ? 0 : phase->plan->train_from;
    plan->trainable = phase->plan->trainable;
    plan->hidden_dropout =
        (real)(isnan(declared->dropout) ? config->hidden_dropout_prob : declared->dropout);
    plan->attention_dropout =
        (real)(isnan(declared->attention_dropout) ? config->attention_probs_dropout_prob
                                                  : declared->attention_dropout);
    plan->head_dropout = (real)(config->classifier_dropout >= 0.0 ? config->classifier_dropout
                                                                  : plan->hidden_dropout);
    plan->dropout_key = rng_key((uint64_t)run->job.seed, RNG_DROPOUT, (uint64_t)step);
    plan->loss = phase->loss;
}

static void begin_sums(void *context)
{
    const struct run *run = context;
    int32_t roots;
    float *const *block = lanes_roots(run->phase.lanes, &roots);
    reducer_begin_nodes(run->phase.reducer, block, lanes_nodes(run->phase.lanes), roots);
}

static void depth_done(void *context, int32_t depth)
{
    const struct run *run = context;
    const struct tensor_table *table = &run->model.table;
    for (int32_t i = 0; i < table->count; i++) {
        if (table->entry[i].depth >= depth) {
            reducer_ready(run->phase.reducer, table->entry[i].offset);
            return;
        }
    }
}

struct lanes_listener phase_step_listener(struct run *run)
{
    return (struct lanes_listener){begin_sums, depth_done, run};
}

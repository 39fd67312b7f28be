/* See phase.h.  The table of a phase's keys and the closed formulas. */
#include "schedules/phase.h"

#include <math.h>
#include <string.h>

#include "schedules/pattern.h"

const char *const phase_shape_names[] = {"inherit",    "constant",     "linear", "cosine",
                                         "polynomial", "inverse_sqrt", "wsd",    NULL};
const char *const phase_sampling_names[] = {"inherit",     "proportional", "uniform",
                                            "temperature", "explicit",     NULL};
const char *const phase_cache_names[] = {"inherit", "auto", "on", "off", NULL};
static const char *const state_names[] = {"keep", "reset", "reset_new", NULL};
static const char *const start_names[] = {"last", "best", NULL};
static const char *const classifier_names[] = {"heads", "probe", NULL};

#define FIELD(s, f) offsetof(struct s, f)
#define TRAJ OPTION_TRAJECTORY

static const struct option until_rows[] = {
    {.key = "at",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(until, at),
     .help = "position in the run: `500st`, `2ep`, `0.3run`, `90min`, `100000tok`"},
    {.key = "length",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(until, length),
     .help = "the same, counted from the phase's beginning"},
    {.key = "metric",
     .type = OPTION_STRING,
     .change = TRAJ,
     .offset = FIELD(until, metric),
     .help = "asked after each evaluation: `dev.TASK.accuracy`, `mean(dev.f1_macro)`; kinds are "
             "loss, accuracy, f1_macro, mcc"},
    {.key = "above",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(until, above),
     .help = "ends when the metric is at least this"},
    {.key = "below",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(until, below),
     .help = "ends when the metric is at most this"},
    {.key = "patience",
     .type = OPTION_INT,
     .change = TRAJ,
     .offset = FIELD(until, patience),
     .fallback = "0",
     .min = 0,
     .max = 1000000,
     .unit = "evaluations",
     .help = "ends after so many evaluations in a row without a better metric; 0 = not asked"},
    {.key = "min_delta",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(until, min_delta),
     .fallback = "0",
     .min = 0,
     .max = INFINITY,
     .help = "how much better counts as better"},
};
static const struct option_table until_options = {
    until_rows, sizeof until_rows / sizeof until_rows[0], sizeof(struct until), "at"};

static const struct option rate_rows[] = {
    {.key = "match",
     .type = OPTION_STRINGS,
     .change = TRAJ,
     .offset = FIELD(rate_rule, match),
     .flags = OPTION_REQUIRED | OPTION_NONEMPTY,
     .help = "patterns of tensor names"},
    {.key = "lr",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(rate_rule, lr),
     .min = 0,
     .max = INFINITY,
     .flags = OPTION_REQUIRED,
     .help = "their peak rate"},
    {.key = "weight_decay",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(rate_rule, weight_decay),
     .min = 0,
     .max = INFINITY,
     .help = "their weight decay; unset = the phase's"},
};
static const struct option_table rate_options = {rate_rows, sizeof rate_rows / sizeof rate_rows[0],
                                                 sizeof(struct rate_rule), NULL};

static const struct option gradual_rows[] = {
    {.key = "from",
     .type = OPTION_STRING,
     .change = TRAJ,
     .offset = FIELD(gradual, from),
     .help = "where the first phase stands: `none`, `top(1)`, `top(25%)`"},
    {.key = "to",
     .type = OPTION_STRING,
     .change = TRAJ,
     .offset = FIELD(gradual, to),
     .help = "where the last stands: `top(4)`, or `all` (embeddings too)"},
    {.key = "every",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(gradual, every),
     .help = "length of each phase but the last; unset = equal shares of the phase"},
};
static const struct option_table gradual_options = {
    gradual_rows, sizeof gradual_rows / sizeof gradual_rows[0], sizeof(struct gradual), NULL};

static const struct option phase_rows[] = {
    {.key = "where", .type = OPTION_WHERE, .offset = FIELD(phase, where)},
    {.key = "name",
     .type = OPTION_STRING,
     .change = TRAJ,
     .offset = FIELD(phase, name),
     .help = "unset = `phaseN`"},
    {.key = "until",
     .type = OPTION_LIST,
     .offset = FIELD(phase, until),
     .count_offset = FIELD(phase, until_count),
     .max = PHASE_CONDITIONS,
     .table = &until_options,
     .help = "when the phase ends: a duration, a condition or a list of them, of which the first "
             "to hold counts; none = at the end of the run"},
    {.key = "length",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(phase, length),
     .help = "longest duration of the phase, counted from its beginning"},
    {.key = "train",
     .type = OPTION_STRINGS,
     .change = TRAJ,
     .offset = FIELD(phase, train),
     .fallback = "*",
     .max = 1000,
     .help = "patterns of the tensors that are trained"},
    {.key = "freeze",
     .type = OPTION_STRINGS,
     .change = TRAJ,
     .offset = FIELD(phase, freeze),
     .max = 1000,
     .help = "patterns taken away from `train`"},
    {.key = "lr",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, lr),
     .min = 0,
     .max = INFINITY,
     .help = "peak rate; unset = `optimizer.lr`"},
    {.key = "shape",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, shape),
     .choices = phase_shape_names,
     .fallback = "inherit",
     .help = "course of the rate over the phase; `wsd` is warm-up, stable, decay"},
    {.key = "power",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, power),
     .min = 0,
     .max = 100,
     .help = "exponent of the shape `polynomial`; unset = `optimizer.power`"},
    {.key = "warmup",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(phase, warmup),
     .help = "linear rise at the beginning: `100st`, `0.1phase`, `0.5ep`; unset = "
             "`optimizer.warmup`"},
    {.key = "decay",
     .type = OPTION_DURATION,
     .change = TRAJ,
     .offset = FIELD(phase, decay),
     .help = "length of the last part of `wsd`; unset = `optimizer.decay`"},
    {.key = "final_lr",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, final_lr),
     .min = 0,
     .max = 1,
     .help = "share of `lr` on which the shape ends; unset = "
             "`optimizer.final_lr`"},
    {.key = "layer_decay",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, layer_decay),
     .min = 0,
     .max = 10,
     .help = "each layer's rate is this times that of the layer above, from heads and pooler "
             "(full rate) down to the embeddings; unset = `optimizer.layer_decay`"},
    {.key = "rates",
     .type = OPTION_LIST,
     .offset = FIELD(phase, rates),
     .count_offset = FIELD(phase, rate_count),
     .max = 256,
     .table = &rate_options,
     .help = "rates of their own for some tensors; the first rule that matches counts, and "
             "`layer_decay` does not apply"},
    {.key = "weight_decay",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, weight_decay),
     .min = 0,
     .max = INFINITY,
     .help = "unset = `optimizer.weight_decay`; biases and layer norms never decay"},
    {.key = "dropout",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, dropout),
     .min = 0,
     .max = 0.99,
     .help = "of hidden states and heads; unset = the model's"},
    {.key = "attention_dropout",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, attention_dropout),
     .min = 0,
     .max = 0.99,
     .help = "of attention; unset = the model's"},
    {.key = "frozen_dropout",
     .type = OPTION_BOOL,
     .change = TRAJ,
     .offset = FIELD(phase, frozen_dropout),
     .fallback = "false",
     .help = "dropout in frozen layers too; rules out the cache"},
    {.key = "tasks",
     .type = OPTION_STRINGS,
     .change = TRAJ,
     .offset = FIELD(phase, tasks),
     .max = 1000,
     .help = "tasks whose loss counts; unset = those with a trainable head"},
    {.key = "loss_weights",
     .type = OPTION_WEIGHTS,
     .change = TRAJ,
     .offset = FIELD(phase, loss_weights),
     .min = 0,
     .max = INFINITY,
     .help = "by task; a task not named keeps its `weight`"},
    {.key = "sampling",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, sampling),
     .choices = phase_sampling_names,
     .fallback = "inherit",
     .help = "as `batch.sampling`"},
    {.key = "temperature",
     .type = OPTION_REAL,
     .change = TRAJ,
     .offset = FIELD(phase, temperature),
     .min = 1e-3,
     .max = 1e6,
     .help = "as `batch.temperature`"},
    {.key = "weights",
     .type = OPTION_WEIGHTS,
     .change = TRAJ,
     .offset = FIELD(phase, weights),
     .min = 0,
     .max = INFINITY,
     .help = "as `batch.weights`"},
    {.key = "sentences",
     .type = OPTION_INT,
     .change = TRAJ,
     .offset = FIELD(phase, sentences),
     .fallback = "0",
     .min = 0,
     .max = 1 << 24,
     .help = "of one step; 0 = `batch.sentences`"},
    {.key = "optimizer_state",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, optimizer_state),
     .choices = state_names,
     .fallback = "keep",
     .help = "at the phase's beginning: keep the moments of tensors that go on being trained, "
             "reset all, or reset those of tensors that the phase before did not train"},
    {.key = "start_from",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, start_from),
     .choices = start_names,
     .fallback = "last",
     .help = "parameters at the phase's beginning: as they are, or those of the best checkpoint"},
    {.key = "cache",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, cache),
     .choices = phase_cache_names,
     .fallback = "inherit",
     .help = "outputs of the frozen lower layers computed once; `inherit` = `cache.mode`"},
    {.key = "classifier",
     .type = OPTION_CHOICE,
     .change = TRAJ,
     .offset = FIELD(phase, classifier),
     .choices = classifier_names,
     .fallback = "heads",
     .help = "`probe`: nothing is trained by steps; pooled sentence vectors are computed once and "
             "a separate classifier for each task is fitted to them (multinomial logistic "
             "regression)"},
    {.key = "gradual",
     .type = OPTION_GROUP,
     .offset = FIELD(phase, gradual),
     .table = &gradual_options,
     .help = "expands into one phase a layer, each training what `train` "
             "says and the top layers reached so far"},
};
const struct option_table phase_options = {phase_rows, sizeof phase_rows / sizeof phase_rows[0],
                                           sizeof(struct phase), NULL};

/* Where a decay from 1 to 0 stands after `done` of `length`. */
static double falling(const struct phase *p, double done)
{
    switch (p->shape) {
    case SHAPE_COSINE:
        return 0.5 * (1 + cos(acos(-1.0) * done));
    case SHAPE_POLYNOMIAL:
        return pow(1 - done, isnan(p->power) ? 1 : p->power);
    default:
        return 1 - done;
    }
}

double phase_factor(const struct phase *p, int64_t k, int64_t steps, int64_t warmup, int64_t decay)
{
    double final = isnan(p->final_lr) ? 0 : p->final_lr;
    if (k < warmup)
        return (double)k / (double)warmup;
    if (p->shape == SHAPE_CONSTANT || p->shape == SHAPE_INHERIT)
        return 1;
    if (p->shape == SHAPE_INVERSE_SQRT) {
        double scale = warmup > 0 ? (double)warmup : 10000;
        double f = 1 / sqrt(((double)k + scale - (double)warmup) / scale);
        return f > final ? f : final;
    }
    int64_t begin = warmup;
    if (p->shape == SHAPE_WSD && decay < steps - warmup)
        begin = steps - decay;
    if (k < begin)
        return 1;
    double length = (double)(steps - begin);
    double done = length > 0 ? (double)(k - begin) / length : 1;
    return final + (1 - final) * falling(p, done < 1 ? done : 1);
}

mt_status phase_trainable(const struct phase *p, const struct tensor_table *table, uint8_t *mask)
{
    memset(mask, 0, (size_t)table->count);
    MT_TRY(pattern_select(&p->train, table, 1, mask, NULL));
    return pattern_select(&p->freeze, table, 0, mask, NULL);
}

/* The first rule that means the tensor, or NULL. */
static const struct rate_rule *find_rule(const struct phase *p, const struct tensor *tensor,
                                         int32_t layers)
{
    for (int32_t r = 0; r < p->rate_count; r++)
        for (int32_t i = 0; i < p->rates[r].match.count; i++)
            if (pattern_match(p->rates[r].match.item[i], tensor, layers))
                return &p->rates[r];
    return NULL;
}

double phase_tensor_lr(const struct phase *p, const struct tensor *tensor, int32_t layers)
{
    const struct rate_rule *rule = find_rule(p, tensor, layers);
    if (rule != NULL)
        return rule->lr;
    double lr = p->lr;
    for (int32_t d = tensor->depth; d < layers + 1; d++)
        lr *= isnan(p->layer_decay) ? 1 : p->layer_decay;
    return lr;
}

mt_status phase_rates(const struct phase *p, const struct tensor_table *table, const uint8_t *mask,
                      double *lr)
{
    memset(lr, 0, (size_t)table->count * sizeof *lr);
    for (int32_t r = 0; r < p->rate_count; r++)
        MT_TRY(pattern_select(&p->rates[r].match, table, 1, NULL, NULL));
    for (int32_t t = 0; t < table->count; t++)
        if (mask[t])
            lr[t] = phase_tensor_lr(p, &table->entry[t], table->layers);
    return MT_OK;
}

double phase_tensor_weight_decay(const struct phase *p, const struct tensor *tensor, int32_t layers)
{
    const struct rate_rule *rule = find_rule(p, tensor, layers);
    if (!tensor->decays)
        return 0;
    if (rule != NULL && !isnan(rule->weight_decay))
        return rule->weight_decay;
    return isnan(p->weight_decay) ? 0 : p->weight_decay;
}

void phase_active_tasks(const struct phase *p, const struct tensor_table *table,
                        const uint8_t *mask, const char *const *task_names, int32_t task_count,
                        bool *active)
{
    for (int32_t t = 0; t < task_count; t++)
        active[t] = string_list_find(&p->tasks, task_names[t]) >= 0;
    for (int32_t i = 0; p->tasks.count == 0 && i < table->count; i++)
        if (mask[i] && table->entry[i].task >= 0 && table->entry[i].task < task_count)
            active[table->entry[i].task] = true;
}

int32_t phase_train_from(const struct tensor_table *table, const uint8_t *mask)
{
    int32_t lowest = table->layers + 2;
    for (int32_t i = 0; i < table->count; i++)
        if (mask[i] && table->entry[i].depth < lowest)
            lowest = table->entry[i].depth;
    return lowest;
}

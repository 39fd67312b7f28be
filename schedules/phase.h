/*
 * phase: one phase of a schedule as declared, and pure questions about it.
 *
 * Rates.  A tensor's rate at a step is phase_tensor_lr * phase_factor.  Step k of a phase counts
 * from 0; the formulas are those of Hugging Face's optimization.py, so step 0 of a warm-up has the
 * rate 0 and the last step of a linear decay 1/(steps - warm-up) of the peak.
 */
#ifndef MT_SCHEDULES_PHASE_H
#define MT_SCHEDULES_PHASE_H

#include "comm/base/tensors.h"
#include "schedules/options.h"

enum phase_shape {
    SHAPE_INHERIT,
    SHAPE_CONSTANT,
    SHAPE_LINEAR,
    SHAPE_COSINE,
    SHAPE_POLYNOMIAL,
    SHAPE_INVERSE_SQRT,
    SHAPE_WSD /* warm-up, stable, linear decay over the last `decay` */
};
enum phase_sampling {
    SAMPLING_INHERIT,
    SAMPLING_PROPORTIONAL,
    SAMPLING_UNIFORM,
    SAMPLING_TEMPERATURE,
    SAMPLING_EXPLICIT
};
enum phase_cache { CACHE_INHERIT, CACHE_AUTO, CACHE_ON, CACHE_OFF };
enum phase_state { STATE_KEEP, STATE_RESET, STATE_RESET_NEW };
enum phase_start { START_LAST, START_BEST };
enum phase_classifier { CLASSIFIER_HEADS, CLASSIFIER_PROBE };

extern const char *const phase_shape_names[];
extern const char *const phase_sampling_names[];
extern const char *const phase_cache_names[];

enum { PHASE_CONDITIONS = 8 };

/* Ends the phase when any of what is set in it holds. */
struct until {
    struct duration at;     /* position in the run: steps, epochs, run, time, tokens */
    struct duration length; /* the same from the phase's beginning */
    char *metric;           /* asked after each evaluation */
    double above, below;    /* threshold; NaN = none */
    int64_t patience;       /* evaluations without a better value than the best; 0 = no plateau */
    double min_delta;       /* what counts as better */
};

/* Tensors that get a rate of their own; layer_decay does not apply to it. */
struct rate_rule {
    struct string_list match;
    double lr;
    double weight_decay; /* NaN = the phase's */
};

/* One phase a layer: from top(k) to top(m) or all. */
struct gradual {
    char *from, *to;
    struct duration every; /* unset = equal shares of the phase */
};

struct phase {
    char *name, *where;
    struct until *until;
    int32_t until_count; /* 0 and no length = to the end of the run */
    struct duration length;
    struct string_list train, freeze;
    double lr;
    int32_t shape; /* enum phase_shape */
    double power;  /* of SHAPE_POLYNOMIAL */
    struct duration warmup, decay;
    double final_lr;    /* fraction of lr that the shape ends on */
    double layer_decay; /* rate of depth d = lr * layer_decay^(L+1-d) */
    struct rate_rule *rates;
    int32_t rate_count;
    double weight_decay;
    double dropout, attention_dropout; /* NaN = the model's */
    bool frozen_dropout;
    struct string_list tasks; /* empty = those with a trainable head */
    struct weight_list loss_weights;
    int32_t sampling; /* enum phase_sampling */
    double temperature;
    struct weight_list weights; /* of data sets, for SAMPLING_EXPLICIT */
    int64_t sentences;          /* of a step */
    int32_t optimizer_state, start_from, cache, classifier;
    struct gradual gradual;
};

extern const struct option_table phase_options;

/* Local.  The rate's factor at step 0 <= k of a phase of `steps` steps, `warmup` and (WSD) `decay`
 * of them; never negative.  Source: transformers/optimization.py. */
double phase_factor(const struct phase *p, int64_t k, int64_t steps, int64_t warmup, int64_t decay);

/* Local.  1 = trained: meant by `train` and not by `freeze`.  mask[table->count].
 * Errors: CONFIG for a pattern that means nothing. */
mt_status phase_trainable(const struct phase *p, const struct tensor_table *table,
                          uint8_t *mask) MT_CHECKED;

/* Local.  The peak rate of each tensor, 0 where mask is 0: an explicit rule (the first that
 * matches), else lr * layer_decay^(L+1-depth).  lr[table->count].  Errors: CONFIG. */
mt_status phase_rates(const struct phase *p, const struct tensor_table *table, const uint8_t *mask,
                      double *lr) MT_CHECKED;
double phase_tensor_lr(const struct phase *p, const struct tensor *tensor, int32_t layers);

/* Local.  0 for tensors that do not decay. */
double phase_tensor_weight_decay(const struct phase *p, const struct tensor *tensor,
                                 int32_t layers);

/* Local.  Which tasks' losses count: those named, else those with a trainable head.  Heads are the
 * tensors with tensor.task >= 0. */
void phase_active_tasks(const struct phase *p, const struct tensor_table *table,
                        const uint8_t *mask, const char *const *task_names, int32_t task_count,
                        bool *active);

/* Local.  The lowest depth that is trained; table->layers + 2 where nothing is. */
int32_t phase_train_from(const struct tensor_table *table, const uint8_t *mask);

#endif

/*
 * sampler: which samples a training step has, as a pure function of (seed, step, counters).
 *
 * Every data set is a sequence of passes over its rows, each pass a keyed permutation of its own,
 * so the i-th sample of a set is arithmetic: nothing is shuffled in memory and nothing is replayed
 * after a resume.  What is saved is how far each set has come.
 *
 *     MT_TRY(sampler_check(&spec));
 *     sampler_step(&spec, step, &state, &next, samples, &count);     // the same on every rank
 *
 * proportional: an epoch has every row of every set exactly once; within it the sets are mixed by
 * drawing without replacement, and its last step may be short.  uniform, temperature and explicit
 * draw the set of each sample by a fixed probability; a set that runs out begins its next pass.
 */
#ifndef MT_IO_SAMPLER_H
#define MT_IO_SAMPLER_H

#include "comm/base/status.h"
#include "io/batch.h"

enum { MT_SETS_MAX = 64 };

enum sampling {
    SAMPLE_PROPORTIONAL,
    SAMPLE_UNIFORM,
    SAMPLE_TEMPERATURE,
    SAMPLE_EXPLICIT,
    SAMPLING_COUNT
};

const char *sampling_name(enum sampling s); /* "proportional", ... */
bool sampling_parse(enum sampling *out, const char *name);

/* How far each data set has come; zeroed at the run's start, saved in checkpoints. */
struct sampler_state {
    int64_t
        drawn[MT_SETS_MAX]; /* place in the set's sequence of passes: pass drawn / n, drawn % n */
    int64_t taken[MT_SETS_MAX]; /* of those, in the epoch under way: 0..n */
};

struct sampler_spec {
    uint64_t seed;
    int32_t set_count;              /* 1..MT_SETS_MAX */
    const int64_t *rows;            /* [set_count] eligible rows n of each set; 0 = never drawn */
    const int64_t *const *eligible; /* [set_count] the row numbers of each set ([n], ascending);
                                       NULL, here or within, = rows 0..n-1 */
    enum sampling sampling;
    double temperature;      /* T of SAMPLE_TEMPERATURE: p ~ n^(1/T), T > 0 */
    const double *weights;   /* [set_count] of SAMPLE_EXPLICIT, >= 0; else not read */
    int32_t batch_sentences; /* of one step, over all ranks */
};

/* Local.  Whether sampler_step can work with it.  Errors: CONFIG. */
mt_status sampler_check(const struct sampler_spec *spec) MT_CHECKED;

/* Local.  Whether a state that was read from a file can be gone on from.  Errors: DATA. */
mt_status sampler_state_check(const struct sampler_state *state) MT_CHECKED;

/* Local.  The samples of one step: samples[batch_sentences] gets set and row (length_tokens 0),
 * *count of them; only a proportional epoch's last step has fewer than batch_sentences, and none
 * has 0.  `out` is the state after the step and may be `in`.  spec has passed sampler_check.  A
 * state that stems from another spec (sampling or eligible rows changed with the phase) is fine: a
 * set whose row count changed begins a new pass. */
void sampler_step(const struct sampler_spec *spec, int64_t step, const struct sampler_state *in,
                  struct sampler_state *out, struct sample *samples, int32_t *count);

/* Local.  Probability of each set to give a sample: p[set_count], sum 1. */
void sampler_probabilities(const struct sampler_spec *spec, double *p);

/* Local.  Steps of one epoch: proportional ceil(total / batch); else those that are expected to
 * visit the largest set in use once, ceil(n / (batch * p)). */
int64_t sampler_steps_per_epoch(const struct sampler_spec *spec);

/* Local.  Epochs that lie behind a state, for logs: of the union (proportional), else of the
 * largest set in use. */
double sampler_epoch(const struct sampler_spec *spec, const struct sampler_state *state);

#endif

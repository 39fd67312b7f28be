/*
 * The i-th sample of set k is row permute(key(seed, k, i / n), n, i % n) of its n eligible rows
 * (rng_permute): O(1), no shuffled index in memory, the same from any step on.
 *
 * proportional draws the set of each slot by how many rows each set has left in the epoch, that is
 * without replacement over the union.  `taken` tells a set that is through its rows from one that
 * has not begun, which `drawn` alone cannot.  One permutation of the union would need no draw, but
 * then sets could not keep their place when a phase changes the mix.
 *
 * Cost: one Philox block to choose the set and 4 to 16 for the row of each sample.
 */
#include "io/sampler.h"

#include <math.h>
#include <string.h>

#include "comm/base/rng.h"

static const char *const SAMPLING_NAMES[SAMPLING_COUNT] = {"proportional", "uniform", "temperature",
                                                           "explicit"};

const char *sampling_name(enum sampling s)
{
    return SAMPLING_NAMES[s];
}

bool sampling_parse(enum sampling *out, const char *name)
{
    for (int s = 0; s < SAMPLING_COUNT; s++) {
        if (strcmp(name, SAMPLING_NAMES[s]) == 0) {
            *out = (enum sampling)s;
            return true;
        }
    }
    return false;
}

static mt_status check_weights(const struct sampler_spec *spec)
{
    bool any = false;
    for (int32_t k = 0; k < spec->set_count; k++) {
        double w = spec->weights[k];
        if (!isfinite(w) || w < 0)
            return MT_FAIL(MT_CONFIG, "batch.weights[%d] is %g; a weight is a number >= 0", k, w);
        if (w > 0 && spec->rows[k] == 0)
            return MT_FAIL(
                MT_CONFIG,
                "batch.weights[%d] is %g, but that data set has no sentence with a label "
                "of an active task; set the weight to 0",
                k, w);
        any = any || w > 0;
    }
    if (!any)
        return MT_FAIL(MT_CONFIG, "batch.weights are all 0; at least one must be positive");
    return MT_OK;
}

mt_status sampler_check(const struct sampler_spec *spec)
{
    if (spec->set_count < 1 || spec->set_count > MT_SETS_MAX)
        return MT_FAIL(MT_CONFIG, "%d data sets; a job has 1 to %d", spec->set_count, MT_SETS_MAX);
    if (spec->batch_sentences < 1)
        return MT_FAIL(MT_CONFIG, "batch.sentences is %d; it must be at least 1",
                       spec->batch_sentences);
    if (spec->sampling < 0 || spec->sampling >= SAMPLING_COUNT)
        return MT_FAIL(MT_BUG, "unknown sampling %d", (int)spec->sampling);
    int64_t total = 0;
    for (int32_t k = 0; k < spec->set_count; k++) {
        if (spec->rows[k] < 0 || spec->rows[k] >= (int64_t)1 << 40)
            return MT_FAIL(MT_CONFIG, "data set %d has %lld rows; at most 2^40 can be drawn from",
                           k, (long long)spec->rows[k]);
        total += spec->rows[k];
    }
    if (total == 0)
        return MT_FAIL(MT_CONFIG, "no data set has a sentence with a label of an active task; "
                                  "check the label columns and the phase's tasks");
    if (spec->sampling == SAMPLE_TEMPERATURE &&
        !(isfinite(spec->temperature) && spec->temperature > 0))
        return MT_FAIL(MT_CONFIG, "batch.temperature is %g; it must be a positive number",
                       spec->temperature);
    if (spec->sampling == SAMPLE_EXPLICIT)
        MT_TRY(check_weights(spec));
    return MT_OK;
}

mt_status sampler_state_check(const struct sampler_state *state)
{
    for (int32_t k = 0; k < MT_SETS_MAX; k++) {
        if (state->drawn[k] < 0 || state->drawn[k] >= (int64_t)1 << 60 || state->taken[k] < 0)
            return MT_FAIL(MT_DATA, "the saved position in data set %d is damaged: %lld samples", k,
                           (long long)state->drawn[k]);
    }
    return MT_OK;
}

void sampler_probabilities(const struct sampler_spec *spec, double *p)
{
    int64_t largest = 1;
    for (int32_t k = 0; k < spec->set_count; k++)
        largest = spec->rows[k] > largest ? spec->rows[k] : largest;
    double sum = 0;
    for (int32_t k = 0; k < spec->set_count; k++) {
        double n = (double)spec->rows[k];
        p[k] = 0;
        if (spec->rows[k] > 0) {
            switch (spec->sampling) {
            case SAMPLE_UNIFORM:
                p[k] = 1;
                break;
            case SAMPLE_TEMPERATURE: /* relative to the largest: never overflows */
                p[k] = pow(n / (double)largest, 1 / spec->temperature);
                break;
            case SAMPLE_EXPLICIT:
                p[k] = spec->weights[k];
                break;
            default:
                p[k] = n;
            }
        }
        sum += p[k];
    }
    for (int32_t k = 0; k < spec->set_count; k++)
        p[k] /= sum;
}

/* Makes drawn and taken fit the spec: after a change of eligible rows or of the mix. */
static void align(const struct sampler_spec *spec, struct sampler_state *s)
{
    for (int32_t k = 0; k < spec->set_count; k++) {
        int64_t n = spec->rows[k];
        if (n == 0)
            continue;
        bool whole = s->taken[k] == 0 || s->taken[k] == n;
        int64_t place = s->drawn[k] % n;
        if (whole ? place != 0 : place != s->taken[k]) {
            s->drawn[k] += n - place;
            s->taken[k] = 0;
        }
    }
}

static int64_t left_of(const struct sampler_spec *spec, const struct sampler_state *s, int32_t k)
{
    return spec->rows[k] == 0 ? 0 : spec->rows[k] - s->taken[k];
}

static int64_t next_row(const struct sampler_spec *spec, struct sampler_state *s, int32_t k)
{
    int64_t n = spec->rows[k], pass = s->drawn[k] / n;
    uint64_t key = rng_key(spec->seed, RNG_SHUFFLE, (uint64_t)k << 56 | (uint64_t)pass);
    int64_t row = rng_permute(key, n, s->drawn[k] % n);
    s->drawn[k]++;
    s->taken[k]++;
    if (spec->eligible != NULL && spec->eligible[k] != NULL)
        row = spec->eligible[k][row];
    return row;
}

static int32_t draw_left(const struct sampler_spec *spec, const struct sampler_state *s,
                         int64_t left, const struct rng_block *bits)
{
    int64_t u = (int64_t)(rng_uniform(bits->v[0], bits->v[1]) * (double)left);
    u = u < left ? u : left - 1; /* the product may round up */
    int32_t k = 0;
    while (u >= left_of(spec, s, k)) {
        u -= left_of(spec, s, k);
        k++;
    }
    return k;
}

static int32_t draw_probability(const double *p, int32_t set_count, const struct rng_block *bits)
{
    double u = rng_uniform(bits->v[0], bits->v[1]);
    int32_t last = 0;
    for (int32_t k = 0; k < set_count; k++) {
        if (p[k] > 0 && u < p[k])
            return k;
        u -= p[k];
        last = p[k] > 0 ? k : last; /* for a u beyond the rounded sum */
    }
    return last;
}

static int32_t step_proportional(const struct sampler_spec *spec, uint64_t key,
                                 struct sampler_state *s, struct sample *samples)
{
    int64_t left = 0;
    for (int32_t k = 0; k < spec->set_count; k++)
        left += left_of(spec, s, k);
    if (left == 0) {
        for (int32_t k = 0; k < spec->set_count; k++) {
            s->taken[k] = 0;
            left += spec->rows[k];
        }
    }
    int32_t count = spec->batch_sentences;
    if (left < count)
        count = (int32_t)left;
    for (int32_t i = 0; i < count; i++) {
        struct rng_block bits = rng_philox(key, (uint32_t)i, 0, 0, 0);
        int32_t k = draw_left(spec, s, left - i, &bits);
        samples[i] = (struct sample){.set = k, .row = next_row(spec, s, k)};
    }
    return count;
}

static int32_t step_independent(const struct sampler_spec *spec, uint64_t key,
                                struct sampler_state *s, struct sample *samples)
{
    double p[MT_SETS_MAX];
    sampler_probabilities(spec, p);
    for (int32_t i = 0; i < spec->batch_sentences; i++) {
        struct rng_block bits = rng_philox(key, (uint32_t)i, 0, 0, 0);
        int32_t k = draw_probability(p, spec->set_count, &bits);
        if (s->taken[k] == spec->rows[k])
            s->taken[k] = 0;
        samples[i] = (struct sample){.set = k, .row = next_row(spec, s, k)};
    }
    return spec->batch_sentences;
}

void sampler_step(const struct sampler_spec *spec, int64_t step, const struct sampler_state *in,
                  struct sampler_state *out, struct sample *samples, int32_t *count)
{
    struct sampler_state s = *in;
    align(spec, &s);
    uint64_t key = rng_key(spec->seed, RNG_TASK, (uint64_t)step);
    if (spec->sampling == SAMPLE_PROPORTIONAL)
        *count = step_proportional(spec, key, &s, samples);
    else
        *count = step_independent(spec, key, &s, samples);
    *out = s;
}

static int32_t largest_in_use(const struct sampler_spec *spec, const double *p)
{
    int32_t best = -1;
    for (int32_t k = 0; k < spec->set_count; k++) {
        if (p[k] > 0 && (best < 0 || spec->rows[k] > spec->rows[best]))
            best = k;
    }
    return best;
}

static int64_t total_rows(const struct sampler_spec *spec)
{
    int64_t total = 0;
    for (int32_t k = 0; k < spec->set_count; k++)
        total += spec->rows[k];
    return total;
}

int64_t sampler_steps_per_epoch(const struct sampler_spec *spec)
{
    int64_t batch = spec->batch_sentences;
    if (spec->sampling == SAMPLE_PROPORTIONAL)
        return (total_rows(spec) + batch - 1) / batch;
    double p[MT_SETS_MAX];
    sampler_probabilities(spec, p);
    int32_t k = largest_in_use(spec, p);
    /* a hair below, so that a quotient that is whole but for rounding is not pushed up */
    double steps = ceil((double)spec->rows[k] / ((double)batch * p[k]) - 1e-9);
    return steps < 9e18 ? (int64_t)steps : INT64_MAX;
}

double sampler_epoch(const struct sampler_spec *spec, const struct sampler_state *state)
{
    if (spec->sampling == SAMPLE_PROPORTIONAL) {
        int64_t drawn = 0;
        for (int32_t k = 0; k < spec->set_count; k++)
            drawn += spec->rows[k] > 0 ? state->drawn[k] : 0;
        return (double)drawn / (double)total_rows(spec);
    }
    double p[MT_SETS_MAX];
    sampler_probabilities(spec, p);
    int32_t k = largest_in_use(spec, p);
    return (double)state->drawn[k] / (double)spec->rows[k];
}

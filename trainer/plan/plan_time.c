/*
 * See plan_time.h.  Threads take whole lanes, so a step's passes last as many rounds as the fullest
 * rank has lanes for each thread.  Sums begin in the backward pass of a rank's last lane, which
 * hides them, where one thread computes one lane after another.  Blocks of evaluation and of a
 * cache are dealt to all threads of all ranks; one rank saves and fits.
 */
#include "trainer/plan/plan_time.h"

#include <math.h>

/* Inverse of the normal distribution by bisection; p in (0, 1). */
static double normal_quantile(double p)
{
    double low = -9.0, high = 9.0;
    for (int i = 0; i < 60; i++) {
        double middle = 0.5 * (low + high);
        if (0.5 * erfc(-middle * M_SQRT1_2) < p)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

double plan_slowest(int32_t count)
{
    return count > 1 ? normal_quantile((count - 0.375) / (count + 0.25)) : 0.0;
}

double plan_exposed_s(const struct reduce_time *t, double hidden_s, double late)
{
    double stream_s = t->reduce_s - t->norm_s;
    double left_s = late * stream_s + fmax(0.0, (1.0 - late) * stream_s - hidden_s);
    return fmax(left_s, fmin(t->chain_s, stream_s)) + t->norm_s;
}

static double rounds(const struct plan *p, int32_t ranks, int32_t threads)
{
    double lanes = (double)p->run->job.batch.lanes;
    return ceil(ceil(lanes / ranks) / threads);
}

/* A rank's tokens are a sum over lanes: fewer lanes spread more. */
static double spread_of(const struct plan *p, const struct plan_phase *ph)
{
    if (p->target.spread >= 0.0)
        return p->target.spread;
    return ph->measured.spread * sqrt((double)p->target.ranks / p->here_ranks);
}

/* Of what is trained: the share of the lowest group, and of backward's time the part after the top
 * group is done. */
static void share_groups(const struct plan_phase *ph, double *late, double *after_top)
{
    int64_t trained = 0, lowest = 0;
    int32_t groups = 0;
    for (int32_t g = 0; g < ph->group_count; g++) {
        if (ph->group[g].trained == 0)
            continue;
        lowest = trained == 0 ? ph->group[g].trained : lowest;
        trained += ph->group[g].trained;
        groups += ph->group[g].depth > 0;
    }
    *late = trained > 0 ? (double)lowest / (double)trained : 1.0;
    *after_top = groups > 0 ? (groups - 1.0) / groups : 0.0;
}

/* Messages between hosts.  Ranks of one host: their shared memory's rate, without latencies. */
static void time_sums(const struct plan *p, struct plan_phase *ph, double passes_s)
{
    static const double SHARED_BYTES_S = 5e9;
    struct plan_step *step = &ph->time.step;
    double late, after_top, gflop = ph->forward_gflop + ph->backward_gflop;
    if (p->target.network_bytes_s <= 0.0) {
        step->exposed_s = (double)ph->volume.most_bytes / SHARED_BYTES_S;
        return;
    }
    share_groups(ph, &late, &after_top);
    double backward_s = gflop > 0.0 ? passes_s * ph->backward_gflop / gflop : 0.0;
    double lanes = ceil((double)p->run->job.batch.lanes / p->target.ranks);
    bool overlaps = p->target.threads == 1 || lanes <= 1.0;
    double hidden_s = overlaps ? after_top * backward_s / lanes : 0.0; /* by the last lane */
    step->exposed_s = plan_exposed_s(&ph->reduce, hidden_s, late);
    step->gather_s = ph->reduce.gather_s;
}

static double step_seconds(const struct plan *p, struct plan_phase *ph)
{
    const struct plan_measured *m = &ph->measured;
    const struct plan_target *t = &p->target;
    struct plan_step *step = &ph->time.step;
    if (t->here)
        return m->step_s;
    double alone = fmax(0.0, m->step_s - m->reduce_s - m->update_s);
    step->passes_s =
        alone * rounds(p, t->ranks, t->threads) / rounds(p, p->here_ranks, p->here_threads);
    step->update_s = m->update_s;
    if (p->run->job.optimizer.shard)
        step->update_s *= (double)p->here_ranks / t->ranks;
    if (t->ranks > 1) {
        double beyond = plan_slowest(t->ranks) - plan_slowest(p->here_ranks);
        step->waiting_s = step->passes_s * spread_of(p, ph) * fmax(0.0, beyond);
        time_sums(p, ph, step->passes_s);
    }
    return step->passes_s + step->waiting_s + step->exposed_s + step->gather_s + step->update_s;
}

/* Seconds of blocks of `tokens` tokens through a share of the forward pass. */
static double block_seconds(const struct plan *p, double tokens, int64_t blocks, double share)
{
    if (blocks == 0)
        return 0.0;
    double workers = (double)p->target.ranks * p->target.threads;
    double each = tokens / (double)blocks * p->common.token_s * share;
    return each * fmax(ceil((double)blocks / workers), (double)blocks / workers);
}

/* The share of a forward pass between two depths. */
static double depth_share(const struct plan *p, int32_t from, int32_t to)
{
    double L = p->run->model.config.num_hidden_layers;
    double low = from > 1 ? from : 1.0, high = to > 1 ? to : 1.0;
    return high > low ? (high - low) / L : 0.0;
}

/* How often something that comes every `d` does so in a phase; by time: 0 (see by_time). */
static double times_of(const struct plan *p, const struct plan_phase *ph, struct duration d)
{
    struct duration_scale scale = {.steps_per_epoch = ph->plan->steps_per_epoch,
                                   .run_steps = p->run->run_steps,
                                   .phase_steps = ph->end - ph->begin};
    int64_t every = duration_steps(d, &scale);
    return every > 0 ? (double)(ph->end / every - ph->begin / every) : 0.0;
}

static double by_time(struct duration d, double seconds)
{
    return d.unit == DURATION_SECONDS && d.amount > 0.0 ? floor(seconds / d.amount) : 0.0;
}

static double time_bound(const struct plan_phase *ph)
{
    const struct phase *declared = ph->plan->phase;
    double bound = declared->length.unit == DURATION_SECONDS ? declared->length.amount : INFINITY;
    for (int32_t i = 0; i < declared->until_count; i++)
        if (declared->until[i].length.unit == DURATION_SECONDS)
            bound = fmin(bound, declared->until[i].length.amount);
    return bound;
}

/* The steps that training time and tokens allow; `until` by time counts from the run's start. */
static double phase_steps(const struct plan_phase *ph, double seconds_before, double tokens_before)
{
    const struct phase *declared = ph->plan->phase;
    double steps = (double)(ph->end - ph->begin), bound_s = time_bound(ph);
    for (int32_t i = 0; i < declared->until_count; i++) {
        struct duration at = declared->until[i].at, length = declared->until[i].length;
        if (at.unit == DURATION_SECONDS)
            bound_s = fmin(bound_s, fmax(0.0, at.amount - seconds_before));
        if (at.unit == DURATION_TOKENS)
            steps = fmin(steps, fmax(1.0, ceil((at.amount - tokens_before) / ph->tokens)));
        if (length.unit == DURATION_TOKENS)
            steps = fmin(steps, ceil(length.amount / ph->tokens));
    }
    if (declared->length.unit == DURATION_TOKENS)
        steps = fmin(steps, ceil(declared->length.amount / ph->tokens));
    return ph->time.step_s > 0.0 ? fmin(steps, ceil(bound_s / ph->time.step_s)) : steps;
}

static void time_fit(const struct plan *p, struct plan_phase *ph)
{
    enum { GRID = 8, EVALUATIONS = 40 };
    for (int32_t t = 0; t < p->run->job.task_count; t++) {
        double rows = (double)ph->plan->rows[p->run->job.tasks[t].set];
        double panels = ceil(p->run->model.task[t].classes / 4.0);
        if (ph->plan->active[t])
            ph->time.fit_s += rows * panels * GRID * EVALUATIONS * ph->measured.fit_row_s;
    }
}

static void time_phase(struct plan *p, struct plan_phase *ph, double *training_s, double *tokens)
{
    const struct plan_common *c = &p->common;
    const struct job_train *train = &p->run->job.train;
    struct plan_time *t = &ph->time;
    int32_t top = p->run->model.config.num_hidden_layers + 1;
    int32_t start = ph->cached ? ph->cache_depth : 0;
    double steps = 0.0;
    bool has_dev = c->dev_blocks > 0;
    t->step_s = ph->measured.steps > 0 ? step_seconds(p, ph) : 0.0;
    if (ph->measured.steps > 0)
        steps = phase_steps(ph, *training_s, *tokens);
    t->steps_s = steps * t->step_s + ph->measured.enter_s;
    t->sentences_per_s = t->step_s > 0.0 ? ph->sentences / t->step_s : 0.0;
    if (ph->cached)
        t->fill_s = block_seconds(p, c->fill_tokens, c->fill_blocks,
                                  depth_share(p, ph->fill_from, ph->cache_depth)) +
                    (double)ph->cache_bytes * c->save_byte_s;
    if (ph->plan->probe)
        time_fit(p, ph);
    t->eval_s =
        block_seconds(p, c->dev_tokens, c->dev_blocks, fmax(depth_share(p, start, top), 0.002));
    bool happens = steps > 0.0 || ph->plan->probe;
    double bytes = (double)ph->memory.moments + 4.0 * (double)ph->plan->trainable_elements;
    t->save_s = c->save_fixed_s + c->save_byte_s * bytes;
    double frozen_s =
        c->frozen_byte_s * 4.0 * (double)(p->run->model.table.total - ph->plan->trainable_elements);
    double share = ph->end > ph->begin ? steps / (double)(ph->end - ph->begin) : 1.0;
    double most = 0.0;
    for (int pass = 0; pass < 2 && happens; pass++) { /* the second knows the phase's seconds */
        double evals =
            times_of(p, ph, train->eval_every) * share + by_time(train->eval_every, most);
        t->evals = has_dev ? fmax(1.0, ceil(evals)) : 0.0;
        t->saves = floor(times_of(p, ph, train->save_every) * share) +
                   by_time(train->save_every, most) + (train->keep_phase_ends ? 1.0 : 0.0);
        if (train->best != NULL)
            t->saves += ceil(0.6 * t->evals);
        t->evals_s = t->evals * t->eval_s;
        t->saves_s = t->saves * t->save_s + (t->saves > 0.0 ? frozen_s : 0.0);
        most = t->steps_s + t->evals_s + t->saves_s;
    }
    t->total_s = t->fill_s + t->fit_s + most;
    *training_s += steps * t->step_s;
    *tokens += steps * ph->tokens;
}

/* How many submissions the run takes where one has limit_s. */
static int32_t count_submissions(const struct plan *p, double step_s, double save_s)
{
    const struct plan_target *t = &p->target;
    double spent_s = p->common.open_s + 20.0 + 2.0 * save_s + 2.0 * step_s;
    double work_s = p->total_s - p->common.open_s;
    double first_s = t->limit_left_s - spent_s, later_s = t->limit_s - spent_s;
    if (p->total_s <= t->limit_left_s - 20.0)
        return 1;
    if (later_s <= step_s)
        return 0;
    double n = 1.0 + ceil((work_s - fmax(0.0, first_s)) / later_s);
    return n < 1e6 ? (int32_t)n : 0;
}

void plan_forecast(struct plan *p)
{
    const struct plan_common *c = &p->common;
    double training_s = 0.0, tokens = 0.0, step_s = 0.0, save_s = 0.0;
    p->total_s = c->open_s + c->export_s;
    for (int32_t i = 0; i < p->phase_count; i++) {
        time_phase(p, &p->phase[i], &training_s, &tokens);
        p->total_s += p->phase[i].time.total_s;
        step_s = fmax(step_s, p->phase[i].time.step_s);
        save_s = fmax(save_s, p->phase[i].time.save_s);
    }
    p->total_s += save_s + block_seconds(p, c->test_tokens, c->test_blocks, 1.0);
    p->submissions = count_submissions(p, step_s, save_s);
}

/*
 * A ring of depth + 1 steps and three counters: made by the thread, taken and returned by the
 * caller; a step lives in slot counter % slots.  One mutex guards the counters; the buffers need
 * none, since a slot belongs to exactly one side at a time.
 *
 * Every rank draws the whole step and plans all lanes, which costs microseconds and spares any
 * exchange, but reads only the sentences of its own lanes.  Labels of the whole step are at hand
 * too (they are in memory): a task's loss is divided by its count over all ranks, and that count is
 * then known before the backward pass without asking.
 *
 * Refused: growing the buffers as needed (a step late in a run would allocate), and a pool of
 * readers (one thread prepares a short sentence in 2 to 3 microseconds from the page cache).  A
 * failure of the thread is handed over after the steps that were made before it, so that it strikes
 * at the same step on every run.
 *
 * Cost: for lanes of 8 sentences of 512 tokens 32 KiB a lane and slot.
 */
#include "io/prefetch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/dataset.h"
#include "io/lane_plan.h"

enum { DEPTH_MAX = 64 };

static const double PATIENCE_S = 600, STOP_PATIENCE_S = 30;

struct slot {
    struct step_batch b;
    struct sample *samples;
    int32_t *labels;
    int64_t *labelled;
};

struct prefetch {
    struct prefetch_config config;
    const struct dataset **sets;
    int32_t *label_column;
    int32_t slots;
    struct slot *slot;
    struct lane_plan plan;
    struct sampler_spec spec;
    int64_t rows[MT_SETS_MAX];
    const int64_t *eligible[MT_SETS_MAX];
    double weights[MT_SETS_MAX];
    int64_t first_step; /* what prefetch_start was told */
    int64_t step;       /* of the thread: the next to make, and the state before it */
    struct sampler_state state;

    pthread_t thread;
    bool running; /* started and not yet stopped */
    bool lost;    /* a thread was left behind and may still write into the buffers */
    atomic_bool stop;
    double waited_s;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    int64_t made, taken, returned;
    bool ended, failed;
    struct mt_error error;
};

static mt_status check_config(const struct prefetch_config *c)
{
    if (c->set_count < 1 || c->set_count > MT_SETS_MAX)
        return MT_FAIL(MT_CONFIG, "%d data sets; a job has 1 to %d", c->set_count, MT_SETS_MAX);
    if (c->task_count < 0 || c->lane_count < 0 || c->first_lane < 0 ||
        c->first_lane > c->lanes - c->lane_count || c->depth < 0 || c->depth > DEPTH_MAX)
        return MT_FAIL(MT_BUG, "lanes %d..%d of %d, %d tasks, depth %d", c->first_lane,
                       c->first_lane + c->lane_count - 1, c->lanes, c->task_count, c->depth);
    for (int32_t k = 0; k < c->set_count; k++) {
        for (int32_t t = 0; t < c->task_count; t++) {
            int32_t column = c->label_column[k * c->task_count + t];
            if (column >= dataset_task_count(c->sets[k]))
                return MT_FAIL(MT_BUG, "data set %s has no label column %d",
                               dataset_name(c->sets[k]), column);
        }
        int32_t longest = dataset_longest_row_tokens(c->sets[k]);
        if (longest > c->max_tokens)
            return MT_FAIL(MT_DATA,
                           "data set %s has a sentence of %d tokens, but model.max_tokens is %d; "
                           "raise it, or pack the data again with --max-tokens %d",
                           dataset_name(c->sets[k]), longest, c->max_tokens, c->max_tokens);
    }
    return MT_OK;
}

static mt_status create_slot(struct slot *s, const struct prefetch_config *c, int32_t tokens)
{
    int64_t labels = (int64_t)c->task_count * c->batch_sentences;
    MT_TRY(mt_alloc(&s->b.lane, c->lane_count, sizeof *s->b.lane, "lane batches"));
    for (int32_t l = 0; l < c->lane_count; l++)
        MT_TRY(batch_create(&s->b.lane[l], c->batch_sentences, tokens, c->task_count));
    MT_TRY(mt_alloc(&s->samples, c->batch_sentences, sizeof *s->samples, "samples of a step"));
    MT_TRY(mt_alloc(&s->labels, labels, sizeof *s->labels, "labels of a step"));
    MT_TRY(mt_alloc(&s->labelled, c->task_count, sizeof *s->labelled, "labels of a step"));
    s->b.samples = s->samples;
    s->b.labels = s->labels;
    s->b.labelled = s->labelled;
    return MT_OK;
}

static void destroy_slot(struct slot *s, int32_t lane_count)
{
    for (int32_t l = 0; s->b.lane != NULL && l < lane_count; l++)
        batch_destroy(&s->b.lane[l]);
    mt_free(&s->b.lane);
    mt_free(&s->samples);
    mt_free(&s->labels);
    mt_free(&s->labelled);
}

static mt_status create_buffers(struct prefetch *p)
{
    struct prefetch_config *c = &p->config;
    int64_t columns = (int64_t)c->set_count * c->task_count;
    int32_t longest = 1;
    MT_TRY(lane_plan_create(&p->plan, c->lanes, c->batch_sentences));
    MT_TRY(mt_alloc(&p->sets, c->set_count, sizeof *p->sets, "data sets"));
    MT_TRY(mt_alloc(&p->label_column, columns, sizeof *p->label_column, "label columns"));
    if (columns > 0)
        memcpy(p->label_column, c->label_column, (size_t)columns * sizeof *p->label_column);
    for (int32_t k = 0; k < c->set_count; k++) {
        p->sets[k] = c->sets[k];
        int32_t tokens = dataset_longest_row_tokens(p->sets[k]);
        longest = tokens > longest ? tokens : longest;
    }
    int64_t tokens = lane_plan_tokens_bound(c->lanes, c->batch_sentences, longest);
    if (tokens > INT32_MAX)
        return MT_FAIL(MT_CONFIG,
                       "batch.sentences %d on %d lanes may put %lld tokens on one lane; raise "
                       "batch.lanes or lower batch.sentences",
                       c->batch_sentences, c->lanes, (long long)tokens);
    p->slots = c->depth + 1;
    MT_TRY(mt_alloc(&p->slot, p->slots, sizeof *p->slot, "prefetched steps"));
    for (int32_t i = 0; i < p->slots; i++)
        MT_TRY(create_slot(&p->slot[i], c, (int32_t)tokens));
    return MT_OK;
}

int64_t prefetch_bytes(const struct prefetch_config *c)
{
    const int64_t word = (int64_t)sizeof(int32_t);
    int64_t tokens = lane_plan_tokens_bound(c->lanes, c->batch_sentences, c->max_tokens);
    int64_t sentence = word * (1 + c->task_count) + (int64_t)sizeof(int64_t);
    int64_t lane = 2 * word * tokens + sentence * c->batch_sentences;
    int64_t step = ((int64_t)sizeof(struct sample) + word * c->task_count) * c->batch_sentences;
    return ((c->depth > 0 ? c->depth : PREFETCH_DEPTH) + 1) * (c->lane_count * lane + step);
}

mt_status prefetch_create(struct prefetch **out, const struct prefetch_config *config)
{
    struct prefetch *p;
    pthread_condattr_t monotonic;
    MT_TRY(check_config(config));
    MT_TRY(mt_alloc(&p, 1, sizeof *p, "prefetch"));
    p->config = *config;
    p->config.depth = config->depth > 0 ? config->depth : PREFETCH_DEPTH;
    p->config.patience_s = config->patience_s > 0 ? config->patience_s : PATIENCE_S;
    (void)pthread_mutex_init(&p->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&p->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    mt_status st;
    MT_TRY_GOTO(st, create_buffers(p), done);
    *out = p;
done:
    if (st != MT_OK)
        prefetch_destroy(&p);
    return st;
}

/* Labels of the whole step, and their counts. */
static void fill_labels(const struct prefetch *p, struct slot *s)
{
    int32_t tasks = p->config.task_count, n = s->b.sentences;
    for (int32_t t = 0; t < tasks; t++) {
        s->labelled[t] = 0;
        for (int32_t i = 0; i < n; i++) {
            const struct sample *x = &s->samples[i];
            int32_t column = p->label_column[x->set * tasks + t];
            int32_t label = column < 0 ? -1 : dataset_label(p->sets[x->set], column, x->row);
            s->labels[(int64_t)t * n + i] = label;
            s->labelled[t] += label >= 0;
        }
    }
}

static mt_status read_lane(const struct prefetch *p, const struct slot *s, int32_t lane,
                           struct batch *b)
{
    b->B = 0;
    b->N = 0;
    for (int32_t j = p->plan.first[lane]; j < p->plan.first[lane + 1]; j++) {
        if (atomic_load(&p->stop))
            return MT_OK;
        int32_t i = p->plan.slot[j];
        const struct sample *x = &s->samples[i];
        MT_TRY(dataset_append(p->sets[x->set], b, x->set, x->row));
        for (int32_t t = 0; t < p->config.task_count; t++)
            batch_labels(b, t)[b->B - 1] = s->labels[(int64_t)t * s->b.sentences + i];
    }
    return MT_OK;
}

static mt_status fill_step(struct prefetch *p, struct slot *s)
{
    s->b.step = p->step;
    sampler_step(&p->spec, p->step, &p->state, &s->b.after, s->samples, &s->b.sentences);
    for (int32_t i = 0; i < s->b.sentences; i++) {
        struct sample *x = &s->samples[i];
        const struct dataset *set = p->sets[x->set];
        if (x->row < 0 || x->row >= dataset_rows(set))
            return MT_FAIL(MT_BUG, "row %lld of data set %s, which has %lld", (long long)x->row,
                           dataset_name(set), (long long)dataset_rows(set));
        x->length_tokens = dataset_length(set, x->row);
    }
    fill_labels(p, s);
    lane_plan_make(&p->plan, s->samples, s->b.sentences);
    s->b.tokens = p->plan.total_tokens;
    s->b.imbalance = lane_plan_imbalance(&p->plan);
    for (int32_t l = 0; l < p->config.lane_count; l++)
        MT_TRY(read_lane(p, s, p->config.first_lane + l, &s->b.lane[l]));
    p->state = s->b.after;
    p->step++;
    return MT_OK;
}

static void *work(void *argument)
{
    struct prefetch *p = argument;
    (void)pthread_mutex_lock(&p->lock);
    while (!p->failed) {
        while (!atomic_load(&p->stop) && p->made - p->returned == p->slots)
            (void)pthread_cond_wait(&p->changed, &p->lock);
        if (atomic_load(&p->stop))
            break;
        struct slot *s = &p->slot[p->made % p->slots];
        (void)pthread_mutex_unlock(&p->lock);
        mt_status st = fill_step(p, s);
        (void)pthread_mutex_lock(&p->lock);
        if (st != MT_OK) {
            mt_error_get(&p->error);
            p->failed = true;
        } else if (!atomic_load(&p->stop)) {
            p->made++;
        }
        (void)pthread_cond_broadcast(&p->changed);
    }
    p->ended = true;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
    return NULL;
}

static mt_status keep_spec(struct prefetch *p, const struct sampler_spec *spec)
{
    MT_TRY(sampler_check(spec));
    if (spec->set_count > p->config.set_count || spec->batch_sentences > p->config.batch_sentences)
        return MT_FAIL(MT_CONFIG, "a phase with %d data sets and batches of %d; made for %d and %d",
                       spec->set_count, spec->batch_sentences, p->config.set_count,
                       p->config.batch_sentences);
    for (int32_t k = 0; k < spec->set_count; k++) {
        int64_t n = spec->rows[k], rows = dataset_rows(p->sets[k]);
        p->rows[k] = n;
        p->eligible[k] = spec->eligible != NULL ? spec->eligible[k] : NULL;
        p->weights[k] = spec->sampling == SAMPLE_EXPLICIT ? spec->weights[k] : 0;
        if (n > rows || (n > 0 && p->eligible[k] != NULL && p->eligible[k][n - 1] >= rows))
            return MT_FAIL(MT_DATA, "data set %s has %lld rows, fewer than the sampler was told",
                           dataset_name(p->sets[k]), (long long)rows);
    }
    p->spec = *spec;
    p->spec.rows = p->rows;
    p->spec.eligible = p->eligible;
    p->spec.weights = p->weights;
    return MT_OK;
}

mt_status prefetch_start(struct prefetch *p, const struct sampler_spec *spec, int64_t step,
                         const struct sampler_state *state)
{
    prefetch_stop(p);
    if (p->lost)
        return MT_FAIL(MT_IO, "reading of the data sets hangs; the file system does not answer");
    MT_TRY(sampler_state_check(state));
    MT_TRY(keep_spec(p, spec));
    p->first_step = p->step = step;
    p->state = *state;
    p->made = p->taken = p->returned = 0;
    p->ended = p->failed = false;
    atomic_store(&p->stop, false);

    sigset_t all, before; /* signals are for the thread that looks at their flag */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&p->thread, NULL, work, p);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return MT_FAIL(MT_NOMEM, "cannot start a thread for reading data: %s", strerror(error));
    p->running = true;
    return MT_OK;
}

static struct timespec deadline_after(double seconds)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    seconds = seconds < 1e9 ? seconds : 1e9;
    int64_t ns = t.tv_nsec + (int64_t)(seconds * 1e9);
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

mt_status prefetch_take(struct prefetch *p, struct step_batch **out)
{
    if (!p->running)
        return MT_FAIL(MT_BUG, "prefetch_take before prefetch_start");
    double begin_s = clock_now_s();
    struct timespec deadline = deadline_after(p->config.patience_s);
    mt_status st = MT_OK;
    (void)pthread_mutex_lock(&p->lock);
    if (p->taken - p->returned == p->slots)
        st = MT_FAIL(MT_BUG, "all %d prefetched steps are taken and none was given back", p->slots);
    int waited = 0;
    while (st == MT_OK && p->made == p->taken && !p->failed && waited == 0)
        waited = pthread_cond_timedwait(&p->changed, &p->lock, &deadline);
    if (st == MT_OK && p->made > p->taken)
        *out = &p->slot[p->taken++ % p->slots].b;
    else if (st == MT_OK && p->failed)
        st = mt_error_set(&p->error);
    else if (st == MT_OK)
        st = MT_FAIL(MT_IO,
                     "no data for step %lld after %.3g s: %s; is the file system of the shards "
                     "overloaded or gone?",
                     (long long)(p->first_step + p->taken), p->config.patience_s, strerror(waited));
    (void)pthread_mutex_unlock(&p->lock);
    double wait_s = clock_now_s() - begin_s;
    p->waited_s += wait_s;
    if (st == MT_OK)
        (*out)->wait_s = wait_s;
    return st;
}

void prefetch_give_back(struct prefetch *p, struct step_batch *batch)
{
    (void)pthread_mutex_lock(&p->lock);
    bool oldest = p->returned < p->taken && batch == &p->slot[p->returned % p->slots].b;
    if (!oldest)
        __builtin_trap(); /* the thread would write into a step that is in use */
    p->returned++;
    (void)pthread_cond_broadcast(&p->changed);
    (void)pthread_mutex_unlock(&p->lock);
}

void prefetch_stop(struct prefetch *p)
{
    if (!p->running)
        return;
    struct timespec deadline = deadline_after(STOP_PATIENCE_S);
    int waited = 0;
    (void)pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    (void)pthread_cond_broadcast(&p->changed);
    while (!p->ended && waited == 0)
        waited = pthread_cond_timedwait(&p->changed, &p->lock, &deadline);
    p->lost = !p->ended;
    (void)pthread_mutex_unlock(&p->lock);
    p->running = false;
    if (!p->lost) {
        (void)pthread_join(p->thread, NULL);
        return;
    }
    (void)pthread_detach(p->thread);
    log_warning("a read of the data sets has not come back for %.0f s; it is left behind",
                STOP_PATIENCE_S);
}

void prefetch_destroy(struct prefetch **address)
{
    struct prefetch *p = *address;
    *address = NULL;
    if (p == NULL)
        return;
    prefetch_stop(p);
    if (p->lost)
        return; /* the thread may still use what would be freed */
    for (int32_t i = 0; p->slot != NULL && i < p->slots; i++)
        destroy_slot(&p->slot[i], p->config.lane_count);
    lane_plan_destroy(&p->plan);
    mt_free(&p->slot);
    mt_free(&p->sets);
    mt_free(&p->label_column);
    (void)pthread_cond_destroy(&p->changed);
    (void)pthread_mutex_destroy(&p->lock);
    mt_free(&p);
}

double prefetch_waited_s(const struct prefetch *p)
{
    return p->waited_s;
}

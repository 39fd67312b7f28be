/*
 * See plan_measure.h.  Every phase is entered as training enters it, but for the cache: filling one
 * would be most of the work, so its boundary is stood for by numbers of the same shape, read from
 * as large a block of memory.  What filling costs is known from a forward pass over some blocks.
 */
#include "trainer/plan/plan_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/exchange.h"
#include "comm/stop.h"
#include "trainer/phase_run.h"
#include "trainer/probe.h"
#include "trainer/row_blocks.h"
#include "trainer/save.h"
#include "trainer/step.h"
#include "trainer/update.h"

/* A phase is rehearsed until one of the two is enough. */
static const double REHEARSAL_S = 1.0, BLOCKS_S = 1.5;
enum { REHEARSAL_STEPS = 200, LEAST_STEPS = 2, STAND_IN_ELEMENTS = 1 << 22 };

/* Stands for the rows of a prefix cache. */
struct stand_in {
    float *value; /* [STAND_IN_ELEMENTS] */
    int32_t hidden;
    bool pooled;
};

static void read_stand_in(void *context, const struct batch *slice, real *out)
{
    const struct stand_in *s = context;
    for (int32_t b = 0; b < slice->B; b++) {
        int64_t vectors = s->pooled ? 1 : slice->offsets[b + 1] - slice->offsets[b];
        int64_t n = vectors * s->hidden;
        int64_t at = slice->sample[b] * 7919 % (STAND_IN_ELEMENTS - n);
        memcpy(out, s->value + at, (size_t)n * sizeof *out);
        out += n;
    }
}

static mt_status fill_stand_in(struct stand_in *s, const struct model *m)
{
    MT_TRY(mt_alloc(&s->value, STAND_IN_ELEMENTS, sizeof *s->value, "numbers for the rehearsal"));
    for (int32_t i = 0; i < STAND_IN_ELEMENTS; i++)
        s->value[i] = (float)(2.0 * rng_uniform((uint32_t)i * 2654435761u, (uint32_t)i) - 1.0);
    s->hidden = m->config.hidden_size;
    return MT_OK;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The mean without the slowest tenth: what else the machine did meanwhile is not the run's cost. */
static double trimmed_mean(double *seconds, int32_t count)
{
    int32_t kept = count - count / 10;
    double sum = 0.0;
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    for (int32_t i = 0; i < kept; i++)
        sum += seconds[i];
    return sum / kept;
}

/* By the quartiles, for the same reason; seconds[count] ascending.  Few steps say nothing. */
static double relative_spread(const double *seconds, int32_t count)
{
    enum { LEAST = 8 };
    static const double QUARTILES = 1.349; /* between those of the normal distribution */
    if (count < LEAST)
        return 0.0;
    return (seconds[count - 1 - count / 4] - seconds[count / 4]) / QUARTILES / seconds[count / 2];
}

static mt_status check_stop(const struct run *run)
{
    enum stop_reason reason;
    MT_TRY(stop_agree(run->world, &reason));
    if (reason != STOP_NONE)
        return MT_FAIL(MT_STOPPED, "stopped by %s while the plan was measured",
                       stop_reason_text(reason));
    return MT_OK;
}

/* Steps of the phase that is entered; the first, which touches all memory, counts as entering. */
static mt_status rehearse_steps(struct run *run, struct plan_measured *m)
{
    struct step_report report;
    double seconds[REHEARSAL_STEPS], reduce_s = 0.0, begin_s = clock_now_s(), spent_s = 0.0;
    int32_t count = 0;
    MT_TRY(train_step(run, &report));
    double first_s = clock_now_s() - begin_s;
    while (count < REHEARSAL_STEPS && (count < LEAST_STEPS || spent_s < REHEARSAL_S)) {
        begin_s = clock_now_s();
        MT_TRY(train_step(run, &report));
        double word = clock_now_s() - begin_s;
        MT_TRY(comm_max_f64(run->world, &word, 1));
        MT_TRY(check_stop(run));
        seconds[count++] = word;
        reduce_s += report.wait_reduce_s;
        spent_s += word;
    }
    m->steps = count;
    m->reduce_s = reduce_s / count;
    m->step_s = trimmed_mean(seconds, count); /* and in ascending order */
    m->spread = relative_spread(seconds, count);
    m->enter_s += first_s > m->step_s ? first_s - m->step_s : 0.0;
    return MT_OK;
}

static mt_status rehearse_update(struct run *run, struct plan_measured *m)
{
    enum { TIMES = 3 };
    int32_t roots;
    float *const *block = lanes_roots(run->phase.lanes, &roots);
    double begin_s = clock_now_s();
    for (int32_t i = 0; i < TIMES; i++)
        MT_TRY(update_parameters(run, block[0], 0.0, 1.0, 0.0));
    m->update_s = (clock_now_s() - begin_s) / TIMES;
    return MT_OK;
}

static void enter_machine(struct run *run, const struct plan_phase *ph, int32_t index)
{
    run->machine.phase = index;
    run->machine.finished = false;
    run->machine.step = run->machine.phase_begin_step = ph->begin;
    run->machine.phase_end_step = ph->end;
}

/* A few evaluations of a separate classifier on stand-in vectors. */
static mt_status rehearse_fit(struct run *run, struct plan_measured *m, const struct stand_in *s)
{
    enum { ROWS = 4096, CLASSES = 2 };
    int32_t labels[ROWS], rows = STAND_IN_ELEMENTS / s->hidden;
    rows = rows < ROWS ? rows : ROWS;
    for (int32_t i = 0; i < rows; i++)
        labels[i] = i % CLASSES;
    struct probe_data data = {s->value, labels, rows};
    struct probe_options options = {.dim = s->hidden,
                                    .classes = CLASSES,
                                    .l2_min = 1.0,
                                    .l2_max = 1.0,
                                    .tolerance = 1e-12,
                                    .pool = run->pool,
                                    .max_iterations = 8};
    struct probe_result r = {0};
    if (run->world->rank != 0)
        return MT_OK;
    double begin_s = clock_now_s();
    MT_TRY(probe_train(&r, &data, NULL, &options));
    m->fit_row_s = (clock_now_s() - begin_s) / ((double)rows * (r.fit.evaluations + 2));
    probe_result_release(&r);
    return MT_OK;
}

static mt_status rehearse_phase(struct plan *p, struct run *run, int32_t index, struct stand_in *s)
{
    struct plan_phase *ph = &p->phase[index];
    double begin_s = clock_now_s();
    if (ph->plan->probe) {
        MT_ALL(run->world, rehearse_fit(run, &ph->measured, s));
        return MT_OK;
    }
    if (ph->end <= ph->begin)
        return MT_OK;
    enter_machine(run, ph, index);
    s->pooled = ph->cache_depth == run->model.config.num_hidden_layers + 1;
    MT_TRY(phase_run_rehearse(run, ph->cached ? read_stand_in : NULL, s,
                              ph->cached ? ph->cache_depth : 0));
    ph->measured.enter_s = clock_now_s() - begin_s;
    MT_TRY(rehearse_steps(run, &ph->measured));
    return rehearse_update(run, &ph->measured);
}

/* Forward passes over blocks of training rows. */
struct forward {
    struct run *run;
    struct row_block *block;
    struct pass **pass;  /* [threads] */
    struct batch *batch; /* [threads] */
    float **out;         /* [threads] */
    double *seconds;     /* [threads] */
    int64_t *tokens;     /* [threads] */
};

static mt_status forward_block(void *context, int32_t index, int32_t worker)
{
    struct forward *f = context;
    const struct run *run = f->run;
    int32_t top = run->model.config.num_hidden_layers + 1;
    struct pass_plan plan = {.train_from = top + 1};
    const struct row_block *block = &f->block[index];
    double begin_s = clock_now_s();
    MT_TRY(row_blocks_read(run->corpora.set[SPLIT_TRAIN][block->set], block, &f->batch[worker]));
    pass_forward_boundary(f->pass[worker], run->params, &f->batch[worker], &plan, NULL, top,
                          f->out[worker]);
    f->seconds[worker] += clock_now_s() - begin_s;
    f->tokens[worker] += f->batch[worker].N;
    return MT_OK;
}

static mt_status create_forward(struct forward *f, const struct run *run, const struct dataset *d,
                                int32_t threads)
{
    int32_t tokens = row_blocks_max_tokens(d), H = run->model.config.hidden_size;
    MT_TRY(mt_alloc(&f->pass, threads, sizeof(struct pass *), "passes"));
    MT_TRY(mt_alloc(&f->batch, threads, sizeof *f->batch, "batches"));
    MT_TRY(mt_alloc(&f->out, threads, sizeof(float *), "outputs"));
    MT_TRY(mt_alloc(&f->seconds, threads, sizeof *f->seconds, "seconds"));
    MT_TRY(mt_alloc(&f->tokens, threads, sizeof *f->tokens, "tokens"));
    for (int32_t i = 0; i < threads; i++) {
        MT_TRY(pass_create(&f->pass[i], &run->model, tokens, ROW_BLOCK_SENTENCES,
                           run->model.config.num_hidden_layers + 2));
        MT_TRY(batch_create(&f->batch[i], ROW_BLOCK_SENTENCES, tokens, run->model.task_count));
        MT_TRY(mt_alloc(&f->out[i], (int64_t)ROW_BLOCK_SENTENCES * H, sizeof(float), "vectors"));
    }
    return MT_OK;
}

static void release_forward(struct forward *f, int32_t threads)
{
    for (int32_t i = 0; i < threads; i++) {
        if (f->pass != NULL)
            pass_destroy(&f->pass[i]);
        if (f->batch != NULL)
            batch_destroy(&f->batch[i]);
        if (f->out != NULL)
            mt_free(&f->out[i]);
    }
    mt_free(&f->pass);
    mt_free(&f->batch);
    mt_free(&f->out);
    mt_free(&f->seconds);
    mt_free(&f->tokens);
    mt_free(&f->block);
}

/* All threads of all ranks at once, as when a cache is filled; seconds a token and thread. */
static mt_status measure_blocks(struct run *run, int32_t set, double *token_s)
{
    const struct dataset *d = run->corpora.set[SPLIT_TRAIN][set];
    int32_t threads = pool_threads(run->pool);
    struct forward f = {.run = run};
    int64_t count = row_blocks_cut(d, set, NULL), done = 0, tokens = 0;
    double begin_s = clock_now_s(), seconds = 0.0;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&f.block, count, sizeof *f.block, "blocks"), done);
    (void)row_blocks_cut(d, set, f.block);
    MT_TRY_GOTO(st, create_forward(&f, run, d, threads), done);
    struct row_block *all = f.block;
    for (int32_t round = 0; round < 2 || clock_now_s() - begin_s < BLOCKS_S; round++) {
        f.block = all + done % count;
        int64_t left = count - done % count;
        int32_t n = left < threads ? (int32_t)left : threads;
        st = pool_run(run->pool, forward_block, &f, n);
        if (st != MT_OK)
            break;
        done += n;
        for (int32_t i = 0; round == 0 && i < threads; i++) { /* memory was touched first */
            f.seconds[i] = 0.0;
            f.tokens[i] = 0;
        }
    }
    f.block = all;
    for (int32_t i = 0; i < threads; i++) {
        seconds += f.seconds[i];
        tokens += f.tokens[i];
    }
    *token_s = tokens > 0 ? seconds / (double)tokens : 0.0;
done:
    release_forward(&f, threads);
    return st;
}

static void count_rows(struct plan_common *c, const struct run *run)
{
    for (int32_t set = 0; set < run->job.data_count; set++) {
        const struct dataset *const d[SPLIT_COUNT] = {run->corpora.set[SPLIT_TRAIN][set],
                                                      run->corpora.set[SPLIT_DEV][set],
                                                      run->corpora.set[SPLIT_TEST][set]};
        for (int32_t s = 0; s < SPLIT_COUNT; s++) {
            if (d[s] == NULL)
                continue;
            double tokens = (double)dataset_tokens(d[s]);
            int64_t blocks = row_blocks_cut(d[s], set, NULL);
            c->fill_tokens += s == SPLIT_TEST ? 0.0 : tokens;
            c->fill_blocks += s == SPLIT_TEST ? 0 : blocks;
            c->dev_tokens += s == SPLIT_DEV ? tokens : 0.0;
            c->dev_blocks += s == SPLIT_DEV ? blocks : 0;
            c->test_tokens += s == SPLIT_TEST ? tokens : 0.0;
            c->test_blocks += s == SPLIT_TEST ? blocks : 0;
        }
    }
}

/* A save in the state of the phase that is entered, waited for: beside training it takes the disk
 * and a processor for as long, and the next phase must not begin before it is over. */
static mt_status time_save(struct run *run, double *seconds)
{
    double begin_s = clock_now_s();
    run->last_saved_step = -1;
    run->machine.step++;
    MT_TRY(save_checkpoint(run));
    MT_TRY(save_wait(run));
    *seconds = clock_now_s() - begin_s;
    return comm_max_f64(run->world, seconds, 1);
}

/* Bytes that a save of a phase writes, once its frozen tensors lie in the shared file. */
static double saved_bytes(const struct plan_phase *ph)
{
    return (double)(ph->plan->trainable_elements * (int64_t)sizeof(float) + ph->memory.moments);
}

static double frozen_bytes(const struct plan_phase *ph, const struct run *run)
{
    return 4.0 * (double)(run->model.table.total - ph->plan->trainable_elements);
}

/* Two phases that differ in what they save give the fixed part and that of a byte. */
static void fit_save_line(struct plan_common *c, double s0, double b0, double s1, double b1)
{
    if (b0 > b1) {
        fit_save_line(c, s1, b1, s0, b0);
        return;
    }
    c->save_byte_s = b1 > 1.2 * b0 && s1 > s0 ? (s1 - s0) / (b1 - b0) : 0.0;
    c->save_fixed_s = fmax(0.0, s1 - c->save_byte_s * b1);
}

static mt_status rehearse_all(struct plan *p, struct run *run, struct stand_in *s)
{
    int32_t least = -1, most = -1, last = -1;
    double seconds[2] = {0.0, 0.0}, first_s;
    for (int32_t i = 0; i < p->phase_count; i++) {
        struct plan_phase *ph = &p->phase[i];
        if (ph->plan->probe || ph->end <= ph->begin)
            continue;
        if (least < 0 || saved_bytes(ph) < saved_bytes(&p->phase[least]))
            least = i;
        if (most < 0 || saved_bytes(ph) > saved_bytes(&p->phase[most]))
            most = i;
    }
    for (int32_t i = 0; i < p->phase_count; i++) {
        const struct plan_phase *ph = &p->phase[i];
        MT_TRY(rehearse_phase(p, run, i, s));
        if (run->phase.plan == NULL)
            continue;
        last = i;
        if (i == least || i == most) {
            MT_TRY(time_save(run, &first_s)); /* with the frozen tensors */
            MT_TRY(time_save(run, &seconds[i == most]));
            if (i == least && frozen_bytes(ph, run) > 0.0)
                p->common.frozen_byte_s =
                    fmax(0.0, first_s - seconds[i == most]) / frozen_bytes(ph, run);
            seconds[0] = least == most ? seconds[1] : seconds[0];
        }
    }
    if (last >= 0)
        fit_save_line(&p->common, seconds[0], saved_bytes(&p->phase[least]), seconds[1],
                      saved_bytes(&p->phase[most]));
    return MT_OK;
}

/* All ranks go on with the slowest one's numbers. */
static mt_status agree_on_times(struct plan *p, const struct run *run)
{
    struct plan_common *c = &p->common;
    double word[6] = {c->open_s,      c->token_s,  c->save_fixed_s,
                      c->save_byte_s, c->export_s, c->frozen_byte_s};
    MT_TRY(comm_max_f64(run->world, word, 6));
    c->open_s = word[0];
    c->token_s = word[1];
    c->save_fixed_s = word[2];
    c->save_byte_s = word[3];
    c->export_s = word[4];
    c->frozen_byte_s = word[5];
    for (int32_t i = 0; i < p->phase_count; i++) {
        struct plan_measured *m = &p->phase[i].measured;
        double own[6] = {m->enter_s, m->step_s, m->reduce_s, m->update_s, m->fit_row_s, m->spread};
        MT_TRY(comm_max_f64(run->world, own, 6));
        m->enter_s = own[0];
        m->step_s = own[1];
        m->reduce_s = own[2];
        m->update_s = own[3];
        m->fit_row_s = own[4];
        m->spread = own[5];
    }
    return MT_OK;
}

mt_status plan_measure(struct plan *p, struct run *run, double open_s)
{
    struct stand_in s = {0};
    struct plan_common *c = &p->common;
    int32_t set = 0;
    mt_status st;
    p->here_ranks = run->world->size;
    p->here_threads = pool_threads(run->pool);
    c->open_s = open_s;
    count_rows(c, run);
    for (int32_t i = 0; i < p->phase_count; i++) /* stand-in numbers must not lead anywhere */
        memset(run->plan[i].lr, 0, (size_t)run->model.table.count * sizeof(double));
    while (set < run->job.data_count - 1 && run->corpora.set[SPLIT_TRAIN][set] == NULL)
        set++;
    st = comm_agree(run->world, fill_stand_in(&s, &run->model));
    MT_TRY_GOTO(st, st, done);
    MT_TRY_GOTO(st, rehearse_all(p, run, &s), done);
    st = comm_agree(run->world, measure_blocks(run, set, &c->token_s));
    MT_TRY_GOTO(st, st, done);
    double begin_s = clock_now_s();
    MT_TRY_GOTO(st, save_export(run), done);
    c->export_s = clock_now_s() - begin_s;
    st = agree_on_times(p, run);
done:
    mt_free(&s.value);
    return st;
}

/*
 * See bench.h: training steps through the code that trains (trainer/lanes.h, comm/reduce.h,
 * trainer/update.h), on synthetic ids.
 *
 * A run without files is put together by hand: the parts of struct run that a step touches.  Every
 * step meets at a barrier first, so that waiting for a slow rank counts as reduction, not as
 * computing; tokens per second are the tokens of all ranks over the slowest rank's seconds.  The
 * peak is measured again before and after each step, at the clock that products leave: a processor
 * lowers it when its units are fed from memory, by a tenth and more.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "comm/base/rng.h"
#include "comm/exchange.h"
#include "comm/lane_tree.h"
#include "schedules/pattern.h"
#include "trainer/bench/bench.h"
#include "trainer/model/gemm.h"
#include "trainer/model/timing.h"
#include "trainer/phase_run.h"
#include "trainer/phase_step.h"
#include "trainer/trace.h"
#include "trainer/update.h"

enum { TASKS = 2, CLASSES = 3, WARMUP = 2, SHORTEST = 4, LONGEST = 66, FIRST_ID = 1000 };

/* What a step took. */
struct step_times {
    double *step_s;  /* [steps] of the slowest rank */
    double possible; /* operations that the peaks under load allow in their time */
    double cpu_s;    /* of this rank's process, all measured steps */
    double reduce_s, update_s;
    double hidden_s; /* of the reduction, beside compute; not a part of the step */
    struct timing compute;
};

struct step_bench {
    struct run run;
    struct phase_plan plan;
    double betas[2];
    struct batch *batch; /* [steps + WARMUP][own_lanes] */
    int32_t own_lanes, batches;
    bool trains;
    double tokens;                     /* of this rank's measured steps */
    double layer_work, attention_work; /* their operations, recomputation not counted */
    struct step_times times;
};

/* A standard gamma variate of the given shape > 1, for (key, counter).
 * Source: Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). */
static double gamma_of(uint64_t key, uint64_t counter, double shape)
{
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (uint64_t i = 0;; i++) {
        struct rng_block r = rng_philox(key, (uint32_t)counter, (uint32_t)i, 7, 0);
        double x = rng_normal(key, counter + 1, i), v = 1 + c * x;
        v = v * v * v;
        if (v > 0 && log(rng_uniform(r.v[0], r.v[1])) < x * x / 2 + d - d * v + d * log(v))
            return d * v;
    }
}

/* Tokens of a sentence: as asked, or shaped like GLUE's SST-2 (mean 25, 4 to 66). */
static int32_t length_of(const struct bench *b, uint64_t sentence)
{
    if (b->tokens > 0)
        return b->tokens;
    const double shape = 4.6, mean = 25.3;
    double length = round(gamma_of(rng_key(7, RNG_TEST, 0), sentence, shape) * mean / shape);
    return (int32_t)fmin(LONGEST, fmax(SHORTEST, length));
}

static void fill_batch(const struct bench *b, struct batch *to, int32_t sentences, uint64_t first)
{
    uint64_t key = rng_key(5, RNG_TEST, 0);
    int32_t vocabulary = b->config.vocab_size;
    int32_t lowest = vocabulary > 2 * FIRST_ID ? FIRST_ID : 1;
    for (int32_t s = 0; s < sentences; s++) {
        int32_t T = length_of(b, first + (uint64_t)s);
        for (int32_t t = 0; t < T; t++, to->N++) {
            struct rng_block r =
                rng_philox(key, (uint32_t)(first + (uint64_t)s), (uint32_t)t, 0, 0);
            to->ids[to->N] = lowest + (int32_t)(r.v[0] % (uint32_t)(vocabulary - lowest));
            to->types[to->N] = 0;
        }
        for (int32_t task = 0; task < TASKS; task++)
            batch_labels(to, task)[s] = (int32_t)(first + (uint64_t)s) % CLASSES;
        to->sample[s] = (int64_t)first + s;
        to->offsets[++to->B] = to->N;
    }
}

static mt_status make_batches(struct step_bench *s, const struct bench *b)
{
    int32_t longest = b->tokens > 0 ? b->tokens : LONGEST;
    s->batches = b->steps + WARMUP;
    MT_TRY(mt_alloc(&s->batch, (int64_t)s->batches * s->own_lanes, sizeof *s->batch, "batches"));
    for (int32_t i = 0; i < s->batches; i++) {
        uint64_t first = (uint64_t)(i * b->world->size + b->world->rank) * (uint64_t)b->sentences;
        for (int32_t lane = 0; lane < s->own_lanes; lane++) {
            struct batch *to = &s->batch[i * s->own_lanes + lane];
            int32_t count = b->sentences / s->own_lanes + (lane < b->sentences % s->own_lanes);
            MT_TRY(batch_create(to, count, count * longest, TASKS));
            fill_batch(b, to, count, first);
            first += (uint64_t)count;
        }
    }
    return MT_OK;
}

static mt_status choose_trainable(struct step_bench *s, const struct bench *b)
{
    struct tensor_table *table = &s->run.model.table;
    char heads[] = "heads", train[256], *words[] = {train, heads};
    struct string_list patterns = {.item = words, .count = 2};
    (void)snprintf(train, sizeof train, "%s", b->train);
    s->plan.train_from = table->layers + 2;
    MT_TRY(mt_alloc(&s->plan.trainable, table->count, 1, "trainable tensors"));
    MT_TRY(mt_alloc(&s->plan.lr, table->count, sizeof(double), "learning rates"));
    MT_TRY(mt_alloc(&s->plan.weight_decay, table->count, sizeof(double), "weight decay"));
    if (!s->trains)
        return range_list_of(&s->run.phase.ranges, table, s->plan.trainable);
    MT_TRY(pattern_select(&patterns, table, 1, s->plan.trainable, NULL));
    for (int32_t i = 0; i < table->count; i++) {
        if (s->plan.trainable[i] && table->entry[i].depth < s->plan.train_from)
            s->plan.train_from = table->entry[i].depth;
        s->plan.lr[i] = 2e-5;
        s->plan.weight_decay[i] = table->entry[i].decays ? 0.01 : 0;
    }
    return range_list_of(&s->run.phase.ranges, table, s->plan.trainable);
}

static mt_status make_pieces(struct run *run, const uint8_t *trainable)
{
    const struct tensor_table *table = &run->model.table;
    MT_TRY(mt_alloc(&run->phase.piece, table->count, sizeof *run->phase.piece, "update pieces"));
    for (int32_t i = 0; i < table->count; i++) {
        const struct tensor *e = &table->entry[i];
        if (trainable[i])
            run->phase.piece[run->phase.piece_count++] =
                (struct update_piece){i, e->offset, e->offset + e->count};
    }
    return MT_OK;
}

/* Weights as small as a new model's, without the time that normal variates take. */
static void fill_tensor(const struct tensor *t, float *params)
{
    bool matrix = t->ndim == 2, norm = strstr(t->name, "LayerNorm.weight") != NULL;
    for (int64_t k = 0; k < t->count; k++)
        params[t->offset + k] =
            matrix ? (float)(k * 2654435761 % 2001 - 1000) * 3.5e-5f : (float)(norm ? 1 : 0);
}

static mt_status make_model(struct step_bench *s, const struct bench *b)
{
    static const struct model_task tasks[TASKS] = {{"one", CLASSES}, {"two", CLASSES}};
    struct run *run = &s->run;
    MT_TRY(model_init(&run->model, &b->config, POOL_MEAN, false, tasks, TASKS));
    MT_TRY(model_set_precision(&run->model, b->precision));
    MT_TRY(mt_alloc(&run->params, run->model.table.total, sizeof(float), "parameters"));
    MT_TRY(mt_alloc(&run->adam_m, run->model.table.total, sizeof(float), "first moments"));
    MT_TRY(mt_alloc(&run->adam_v, run->model.table.total, sizeof(float), "second moments"));
    MT_TRY(mt_alloc(&run->adam_steps, run->model.table.count, sizeof(int64_t), "update counts"));
    for (int32_t i = 0; i < run->model.table.count; i++)
        fill_tensor(&run->model.table.entry[i], run->params);
    return MT_OK;
}

static mt_status make_phase(struct step_bench *s, const struct bench *b)
{
    struct run *run = &s->run;
    struct lane_range own = lane_tree_range(b->lanes, b->world->size, b->world->rank);
    int32_t longest = b->tokens > 0 ? b->tokens : LONGEST;
    s->own_lanes = own.end - own.begin;
    run->phase.plan = &s->plan;
    run->job.optimizer.clip = 1;
    run->job.optimizer.eps = 1e-8;
    s->betas[0] = 0.9;
    s->betas[1] = 0.999;
    run->job.optimizer.betas = (struct real_list){.item = s->betas, .count = 2};
    for (int32_t t = 0; t < TASKS; t++)
        run->phase.loss[t] = (struct task_loss){.active = s->trains, .weight = (real)0.5};
    MT_TRY(choose_trainable(s, b));
    run->job.reduction_rows = b->dense_rows ? JOB_ROWS_DENSE : JOB_ROWS_SPARSE;
    MT_TRY(phase_run_choose_rows(run, s->plan.trainable));
    MT_TRY(make_pieces(run, s->plan.trainable));
    MT_TRY(range_list_of(&run->phase.owned, &run->model.table, s->plan.trainable));
    MT_TRY(make_batches(s, b));
    MT_TRY(pool_create(&run->pool, 1));
    int32_t most = b->sentences * longest;
    struct lanes_setup setup = {.model = &run->model,
                                .pool = run->pool,
                                .lanes = b->lanes,
                                .first = own.begin,
                                .count = s->own_lanes,
                                .micro_tokens = b->micro_tokens < most ? b->micro_tokens : most,
                                .max_sentences = b->sentences,
                                .train_from = s->plan.train_from,
                                .recompute = b->recompute,
                                .ranges = &run->phase.ranges,
                                .trace = run->trace,
                                .rows = phase_run_rows(run),
                                .groups = b->wire_groups};
    return lanes_create(&run->phase.lanes, &setup);
}

static mt_status make(struct step_bench *s, const struct bench *b)
{
    s->run.world = b->world;
    s->trains = strcmp(b->train, "none") != 0;
    MT_TRY(mt_alloc(&s->times.step_s, b->steps, sizeof(double), "times"));
    MT_TRY(make_model(s, b));
    return make_phase(s, b);
}

static void release(struct step_bench *s)
{
    struct run *run = &s->run;
    reducer_destroy(&run->phase.reducer);
    trace_close(&run->trace);
    lanes_destroy(&run->phase.lanes);
    pool_destroy(&run->pool);
    for (int32_t i = 0; s->batch != NULL && i < s->batches * s->own_lanes; i++)
        batch_destroy(&s->batch[i]);
    mt_free(&s->batch);
    row_set_release(&run->phase.rows);
    range_list_release(&run->phase.ranges);
    range_list_release(&run->phase.owned);
    mt_free(&run->phase.piece);
    mt_free(&s->plan.trainable);
    mt_free(&s->plan.lr);
    mt_free(&s->plan.weight_decay);
    mt_free(&run->params);
    mt_free(&run->adam_m);
    mt_free(&run->adam_v);
    mt_free(&run->adam_steps);
    model_release(&run->model);
    mt_free(&s->times.step_s);
}

/* Operations of a step: 2 for each multiply-add; backward costs twice the forward of the layers
 * that are trained. */
static void count_work(struct step_bench *s, const struct bench *b, const struct batch *lane)
{
    double H = b->config.hidden_size, F = b->config.intermediate_size;
    int32_t L = b->config.num_hidden_layers;
    int32_t lowest = s->plan.train_from > 1 ? s->plan.train_from : 1;
    double forwards = L + 2.0 * (lowest <= L ? L + 1 - lowest : 0);
    for (int32_t i = 0; i < lane->B; i++) {
        double T = lane->offsets[i + 1] - lane->offsets[i];
        s->layer_work += forwards * 2 * (4 * H * H + 2 * H * F) * T;
        s->attention_work += forwards * 4 * T * T * H;
        s->tokens += T;
    }
}

static struct pass_plan plan_pass(const struct step_bench *s, int32_t step)
{
    struct pass_plan p = {.train_from = s->plan.train_from,
                          .trainable = s->plan.trainable,
                          .hidden_dropout = (real)0.1,
                          .attention_dropout = (real)0.1,
                          .head_dropout = (real)0.1,
                          .dropout_key = rng_key(1, RNG_DROPOUT, (uint64_t)step),
                          .loss = s->run.phase.loss};
    return p;
}

/* One step as trainer/step.c does it, without reading data ahead and without looking for losses
 * that are not finite. */
static mt_status one_step(struct step_bench *s, const struct bench *b, int32_t step)
{
    struct run *run = &s->run;
    const struct batch *batch = &s->batch[step * s->own_lanes];
    struct pass_plan plan = plan_pass(s, step);
    struct reduce_sum sum;
    struct lanes_listener listener = phase_step_listener(run);
    int32_t roots;
    double divisor = (double)b->sentences * b->world->size, begin_s;
    MT_TRY(phase_run_agree_rows(run, batch, s->own_lanes));
    double trace_s = trace_begin(run->trace);
    timing_set(&s->times.compute);
    MT_TRY(lanes_run(run->phase.lanes, run->params, batch, &plan, NULL, NULL,
                     s->trains ? &listener : NULL));
    timing_mark(TIMING_OTHER);
    timing_set(NULL);
    trace_end(run->trace, TRACE_LANES, TRACE_ROW_MAIN, 0, trace_s);
    if (!s->trains)
        return MT_OK;
    trace_s = trace_begin(run->trace);
    begin_s = clock_now_s();
    struct reducer_stats before, after;
    reducer_stats(run->phase.reducer, &before);
    MT_TRY(reducer_finish(run->phase.reducer, &sum));
    reducer_stats(run->phase.reducer, &after);
    s->times.hidden_s += after.hidden_s - before.hidden_s;
    s->times.reduce_s += clock_now_s() - begin_s;
    trace_end(run->trace, TRACE_WAIT_REDUCTION, TRACE_ROW_MAIN, 0, trace_s);
    trace_s = trace_begin(run->trace);
    begin_s = clock_now_s();
    MT_TRY(update_parameters(run, lanes_roots(run->phase.lanes, &roots)[0], 1, divisor,
                             sqrt(sum.norm2) / divisor));
    s->times.update_s += clock_now_s() - begin_s;
    trace_end(run->trace, TRACE_UPDATE, TRACE_ROW_MAIN, 0, trace_s);
    return MT_OK;
}

/* Seconds that this process has been on a processor: what a step costs on a machine that others
 * use too. */
static double cpu_now_s(void)
{
    struct rusage u = {0};
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static mt_status run_steps(struct step_bench *s, const struct bench *b)
{
    double peak_before, peak_after = 0;
    for (int32_t i = 0; i < s->batches; i++) {
        if (i == WARMUP) {
            memset(&s->times.compute, 0, sizeof s->times.compute);
            s->times.reduce_s = s->times.update_s = s->times.hidden_s = 0;
        }
        peak_before = peak_after;
        MT_TRY(comm_barrier(b->world));
        trace_step(s->run.trace, i - WARMUP + 1);
        double begin_s = clock_now_s(), cpu_begin_s = cpu_now_s();
        double trace_s = trace_begin(s->run.trace);
        MT_TRY(one_step(s, b, i));
        trace_end(s->run.trace, TRACE_STEP, TRACE_ROW_MAIN, 0, trace_s);
        double took_s = clock_now_s() - begin_s, cpu_s = cpu_now_s() - cpu_begin_s;
        MT_TRY(comm_max_f64(b->world, &took_s, 1));
        MT_TRY(bench_peak_loaded(b, &peak_after));
        if (i < WARMUP)
            continue;
        s->times.step_s[i - WARMUP] = took_s;
        s->times.possible += took_s * (peak_before + peak_after) / 2;
        s->times.cpu_s += cpu_s;
        for (int32_t lane = 0; lane < s->own_lanes; lane++)
            count_work(s, b, &s->batch[i * s->own_lanes + lane]);
    }
    return MT_OK;
}

struct result {
    double tokens_per_s, gflops, median_s;
    double fraction, fraction_of_highest; /* of the peak under load; of the highest */
    double fraction_of_split;             /* of peak_split; 0 where products go another way */
    double tokens_per_cpu_s;              /* of all ranks, over the processor time of all ranks */
    double rss_bytes;                     /* of the largest rank */
};

static mt_status sum_up(struct step_bench *s, const struct bench *b, struct result *r)
{
    double total_s = 0;
    double sums[3] = {s->tokens, s->layer_work + s->attention_work, s->times.cpu_s};
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    r->rss_bytes = 1024.0 * (double)usage.ru_maxrss;
    MT_TRY(comm_max_f64(b->world, &r->rss_bytes, 1));
    MT_TRY(comm_sum_f64(b->world, sums, 3));
    for (int32_t i = 0; i < b->steps; i++)
        total_s += s->times.step_s[i];
    r->tokens_per_s = sums[0] / total_s;
    r->tokens_per_cpu_s = sums[2] > 0 ? sums[0] / sums[2] : 0;
    r->gflops = sums[1] / total_s / 1e9;
    r->fraction = s->times.possible > 0 ? sums[1] / s->times.possible : 0;
    r->fraction_of_highest =
        b->peak[b->precision] > 0 ? r->gflops * 1e9 / b->peak[b->precision] : 0;
    if (b->precision == MODEL_FP32 && b->peak_split > 0 && strcmp(gemm_chosen(), "amx") == 0)
        r->fraction_of_split = r->gflops * 1e9 / b->peak_split;
    r->median_s = bench_median(s->times.step_s, b->steps);
    return MT_OK;
}

/* A row of the breakdown, of rank 0. */
static void show_part(const struct bench *b, const char *name, double seconds, double total_s,
                      double work)
{
    double ms = 1e3 * seconds / b->steps;
    if (b->json != NULL)
        json_write_real(b->json, name, seconds / b->steps);
    else if (work > 0 && seconds > 0)
        bench_line(b, "  %-18s %9.1f ms %5.1f %%  %8.1f GFLOP/s", name, ms, 100 * seconds / total_s,
                   work / seconds / 1e9);
    else
        bench_line(b, "  %-18s %9.1f ms %5.1f %%", name, ms, 100 * seconds / total_s);
}

static void show_parts(const struct step_bench *s, const struct bench *b)
{
    const struct step_times *t = &s->times;
    double total_s = t->reduce_s + t->update_s;
    for (int g = 0; g < TIMING_GROUPS; g++)
        total_s += t->compute.seconds[g];
    if (b->json != NULL)
        json_write_object(b->json, "seconds_per_step");
    for (int g = 0; g < TIMING_GROUPS; g++)
        show_part(b, timing_name((enum timing_group)g), t->compute.seconds[g], total_s,
                  g == TIMING_PRODUCTS    ? s->layer_work
                  : g == TIMING_ATTENTION ? s->attention_work
                                          : 0);
    show_part(b, "reduction", t->reduce_s, total_s, 0);
    show_part(b, "update", t->update_s, total_s, 0);
    if (b->json != NULL)
        json_write_real(b->json, "reduction hidden", t->hidden_s / b->steps);
    else
        bench_line(b, "  %-18s %9.1f ms beside the computing", "reduction hidden",
                   1e3 * t->hidden_s / b->steps);
    if (b->json != NULL)
        json_write_end(b->json);
}

static void show(const struct step_bench *s, const struct bench *b, const struct result *r)
{
    const char *precision = b->precision == MODEL_BF16 ? "bf16" : "fp32";
    char tokens[16] = "sst2";
    if (b->tokens > 0)
        (void)snprintf(tokens, sizeof tokens, "%d", b->tokens);
    bench_line(b,
               "step: %d rank%s x %d sentences, tokens %s, %s, train %s, %d layers x %d, median of "
               "%d steps",
               b->world->size, b->world->size == 1 ? "" : "s", b->sentences, tokens, precision,
               b->train, b->config.num_hidden_layers, b->config.hidden_size, b->steps);
    bench_line(b, "  %.1f tokens/s, %.3f s a step, %.2f GiB a rank", r->tokens_per_s, r->median_s,
               r->rss_bytes / (1 << 30));
    bench_line(b, "  %.1f GFLOP/s = %.1f %% of the peak under load, %.1f %% of the highest, of %s",
               r->gflops, 100 * r->fraction, 100 * r->fraction_of_highest,
               b->precision == MODEL_BF16 ? "bf16 products" : "multiply-adds");
    if (r->fraction_of_split > 0)
        bench_line(b, "  %.1f %% of what AMX could do, which multiplies fp32 as six bf16 products",
                   100 * r->fraction_of_split);
    if (b->json != NULL) {
        json_write_string(b->json, "precision", precision);
        json_write_string(b->json, "tokens", tokens);
        json_write_string(b->json, "train", b->train);
        json_write_int(b->json, "ranks", b->world->size);
        json_write_int(b->json, "sentences_per_rank", b->sentences);
        json_write_real(b->json, "tokens_per_s", r->tokens_per_s);
        json_write_real(b->json, "tokens_per_cpu_s", r->tokens_per_cpu_s);
        json_write_real(b->json, "gflops", r->gflops);
        json_write_real(b->json, "fraction_of_peak", r->fraction);
        json_write_real(b->json, "fraction_of_highest_peak", r->fraction_of_highest);
        json_write_real(b->json, "fraction_of_fp32_by_amx", r->fraction_of_split);
        json_write_string(b->json, "products",
                          b->precision == MODEL_BF16 ? gemm_chosen_bf16() : gemm_chosen());
        json_write_int(b->json, "peak_rss_bytes", (int64_t)r->rss_bytes);
        json_write_real(b->json, "step_s", r->median_s);
    }
    show_parts(s, b);
}

mt_status bench_step(struct bench *b)
{
    struct step_bench *s = NULL;
    struct result result = {0};
    struct reducer_options options = {.whole = true,
                                      .watch = b->trace != NULL ? trace_bucket : NULL,
                                      .bucket_elements = b->bucket_elements,
                                      .wire_groups = b->wire_groups};
    mt_status st;
    if (b->peak[MODEL_FP32] == 0)
        MT_TRY(bench_peak(b));
    MT_ALL(b->world, mt_alloc(&s, 1, sizeof *s, "a step's parts"));
    if (b->trace != NULL)
        MT_TRY_GOTO(
            st, trace_open(&s->run.trace, b->world, b->trace, b->trace_first, b->trace_last), done);
    options.watch_context = s->run.trace;
    MT_TRY_GOTO(st, comm_agree(b->world, make(s, b)), done);
    options.rows = phase_run_rows(&s->run);
    if (s->trains)
        MT_TRY_GOTO(st,
                    reducer_create(&s->run.phase.reducer, b->world, b->lanes, b->reduction,
                                   &s->run.phase.ranges, &options),
                    done);
    MT_TRY_GOTO(st, run_steps(s, b), done);
    MT_TRY_GOTO(st, sum_up(s, b, &result), done);
    show(s, b, &result);
    st = trace_write(s->run.trace);
done:
    release(s);
    mt_free(&s);
    return st;
}

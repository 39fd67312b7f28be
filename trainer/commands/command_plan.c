/* mttrain plan: what every phase will do, cost and take; trains nothing that is kept. */
#include <math.h>
#include <stdio.h>

#include "comm/agree.h"
#include "comm/base/clock.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "jobs/slurm.h"
#include "schedules/duration.h"
#include "trainer/commands/arguments.h"
#include "trainer/plan/plan_measure.h"
#include "trainer/plan/plan_time.h"
#include "trainer/plan/scratch.h"

struct plan_words {
    struct text_list jobs, sets;
    int64_t ranks, threads, host_ranks;
    double network, latency, spread;
    const char *limit, *svg;
    bool json;
};

/* --limit, else what SLURM says of the job we are in. */
static mt_status choose_limit(struct plan_target *t, const char *limit)
{
    struct slurm slurm;
    struct duration d;
    t->limit_s = t->limit_left_s = INFINITY;
    if (limit != NULL) {
        if (!duration_parse(&d, limit) || d.unit != DURATION_SECONDS || d.amount <= 0.0)
            return MT_FAIL(MT_ARG, "--limit %s: expected a time like 90min or 4h", limit);
        t->limit_s = t->limit_left_s = d.amount;
        return MT_OK;
    }
    slurm_read(&slurm);
    double left = slurm_seconds_left(&slurm, clock_wall_s());
    if (left < 0.0)
        return MT_OK;
    t->limit_left_s = left;
    t->limit_s = slurm.start_time_s > 0 ? (double)(slurm.end_time_s - slurm.start_time_s) : left;
    return MT_OK;
}

static mt_status choose_target(struct plan_target *t, const struct plan_words *words,
                               const struct run *run, const struct scratch *s)
{
    int32_t threads = pool_threads(run->pool);
    *t = (struct plan_target){.ranks = run->world->size, .threads = threads, .here = true};
    t->cache_dir = s->cache_dir;
    if (words->ranks < 0 || words->ranks > LANES_MAX || words->threads < 0 ||
        words->threads > POOL_THREADS_MAX || !(words->network >= 0.0 && words->network < 1e6))
        return MT_FAIL(MT_ARG, "--ranks, --threads and --network take positive numbers");
    if (words->host_ranks < 1 || words->host_ranks > LANES_MAX ||
        !(words->latency >= 0.0 && words->latency < 1e6) || !(words->spread < 1000.0))
        return MT_FAIL(MT_ARG,
                       "--ranks-per-host takes at least 1, --latency microseconds, --spread "
                       "per cent below 1000");
    t->host_ranks = (int32_t)words->host_ranks;
    t->latency_s = 1e-6 * words->latency;
    t->spread = words->spread / 100.0;
    if (words->ranks > 0 || words->threads > 0 || words->network > 0.0) {
        t->here = false;
        t->ranks = words->ranks > 0 ? (int32_t)words->ranks : t->ranks;
        t->threads = words->threads > 0 ? (int32_t)words->threads : threads;
        t->network_bytes_s = 1e9 * words->network;
    }
    return choose_limit(t, words->limit);
}

static mt_status write_picture(const struct plan *p, const char *path)
{
    struct markup svg;
    markup_init(&svg, 16 << 20, "the picture of the plan");
    mt_status st = plan_picture(p, &svg);
    if (st == MT_OK)
        st = file_write_atomic(path, markup_text(&svg), svg.used_bytes);
    markup_release(&svg);
    return st;
}

/* Root. */
static mt_status show(const struct plan *p, const struct plan_words *words)
{
    struct json_writer w = {.indent = 2};
    const char *text;
    int64_t bytes;
    mt_status st = MT_OK;
    if (words->json) {
        plan_json(p, &w);
        MT_TRY_GOTO(st, json_writer_finish(&w, &text, &bytes), done);
        printf("%s\n", text);
    } else {
        plan_print(p);
    }
    if (words->svg != NULL)
        st = write_picture(p, words->svg);
done:
    json_writer_release(&w);
    return st;
}

static mt_status plan_run(struct run *run, const struct plan_words *words, const struct scratch *s,
                          double open_s)
{
    struct plan_target target;
    struct plan plan = {0};
    mt_status st;
    MT_ALL(run->world, choose_target(&target, words, run, s));
    if (run->run_steps == INT64_MAX)
        return MT_FAIL(MT_CONFIG,
                       "%s: the run has no bound in steps, so nothing can be forecast; set "
                       "train.epochs or train.max_steps to the longest that it may take",
                       run->job.file);
    st = comm_agree(run->world, plan_make(&plan, run, &target));
    MT_TRY_GOTO(st, st, done);
    MT_TRY_GOTO(st, plan_measure(&plan, run, open_s), done);
    plan_forecast(&plan);
    st = comm_agree(run->world, run->world->rank == 0 ? show(&plan, words) : MT_OK);
done:
    plan_release(&plan);
    return st;
}

static mt_status plan_job(const struct comm *world, const char *path,
                          const struct run_options *options, const struct plan_words *words)
{
    struct scratch scratch;
    struct run *run = NULL;
    enum log_level level = log_set_level(LOG_WARNING);
    mt_status st = scratch_open(&scratch, world, path, options);
    MT_TRY_GOTO(st, st, done);
    st = comm_agree(world, mt_alloc(&run, 1, sizeof *run, "a run"));
    MT_TRY_GOTO(st, st, done);
    double begin_s = clock_now_s();
    st = run_open(run, world, path, &scratch.options);
    if (st == MT_OK)
        st = plan_run(run, words, &scratch, clock_now_s() - begin_s);
    run_close(run);
done:
    mt_free(&run);
    scratch_close(&scratch);
    (void)log_set_level(level);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct plan_words words = {.host_ranks = 1, .latency = 30.0, .spread = -1.0};
    struct run_options options = {.resume = "auto"};
    bool help;
    const struct argument table[] = {
        {"--set", "KEY=VALUE", ARGUMENT_LIST, &words.sets,
         "overrides a key of the job; may be repeated"},
        {"--schedule", "FILE", ARGUMENT_TEXT, &options.schedule,
         "another schedule than the job's; also full, staged, ... of those that come along"},
        {"--ranks", "R", ARGUMENT_INT, &words.ranks, "forecast for R ranks instead of those here"},
        {"--threads", "T", ARGUMENT_INT, &words.threads, "of each of them (default: as here)"},
        {"--network", "GB/s", ARGUMENT_REAL, &words.network,
         "of each host (default: all ranks on one host)"},
        {"--latency", "US", ARGUMENT_REAL, &words.latency,
         "microseconds of a message between hosts (default: 30; InfiniBand 2)"},
        {"--ranks-per-host", "N", ARGUMENT_INT, &words.host_ranks,
         "ranks that share a host, its memory and network (default: 1)"},
        {"--spread", "%", ARGUMENT_REAL, &words.spread,
         "standard deviation of a rank's passes, per cent (default: as measured here)"},
        {"--limit", "TIME", ARGUMENT_TEXT, &words.limit,
         "of one submission, as 4h (default: what SLURM says, if anything)"},
        {"--svg", "FILE", ARGUMENT_TEXT, &words.svg, "picture of rates and trained layers"},
        {"--json", NULL, ARGUMENT_FLAG, &words.json, "one JSON object instead of a table"},
        {NULL, "JOB.cfg", ARGUMENT_REST, &words.jobs, "the job file"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_plan, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (words.jobs.count != 1) {
        st = MT_FAIL(MT_ARG, "plan needs one job file");
        goto done;
    }
    options.overrides = words.sets.item;
    options.override_count = words.sets.count;
    st = plan_job(call->world, words.jobs.item[0], &options, &words);
done:
    text_list_release(&words.jobs);
    text_list_release(&words.sets);
    return st;
}

const struct command command_plan = {
    "plan",
    "JOB.cfg [--set key=value]... [--ranks R --network GB/s --latency US] [--svg FILE] [--json]",
    "What every phase will do, cost and take, from a short measurement; touches nothing.",
    "mpirun -np 4 mttrain plan jobs/quickstart.cfg --svg plan.svg",
    COMMAND_ALL,
    run};

/*
 * mttrain compare: several schedules on one job.
 *
 * Each is a run of its own in run_dir/compare/NAME, stopped and resumed like any; packed data and
 * prefix caches are shared with each other and with the job's own run.
 */
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"
#include "trainer/commands/arguments.h"
#include "trainer/plan/comparison.h"
#include "trainer/train.h"

enum { SCHEDULES_MAX = 64, PATH_BYTES = 4096, OWN_OVERRIDES = 2 };

struct compare {
    const struct comm *world;
    const char *job_path;
    const struct text_list *sets;
    char *schedule[SCHEDULES_MAX]; /* as named */
    int32_t count;
    struct comparison_run run[SCHEDULES_MAX];
    char run_dir[PATH_BYTES], cache_dir[PATH_BYTES];
};

/* "a.cfg,b.cfg" to its parts. */
static mt_status split_list(struct compare *c, const char *list)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ",");
        if (c->count == SCHEDULES_MAX)
            return MT_FAIL(MT_ARG, "--schedules: more than %d", SCHEDULES_MAX);
        if (n > 0) {
            char **part = &c->schedule[c->count];
            MT_TRY(mt_alloc(part, (int64_t)n + 1, 1, "a schedule's name"));
            memcpy(*part, list, n);
            const char *base = file_path_base(*part);
            size_t length = strlen(base);
            if (length > 4 && strcmp(base + length - 4, ".cfg") == 0)
                length -= 4;
            (void)snprintf(c->run[c->count].name, COMPARISON_NAME_BYTES, "%.*s", (int)length, base);
            for (int32_t i = 0; i < c->count; i++)
                if (strcmp(c->run[i].name, c->run[c->count].name) == 0)
                    return MT_FAIL(MT_ARG,
                                   "--schedules: two named \"%s\"; a name is the file's without "
                                   "folder and .cfg",
                                   c->run[i].name);
            c->count++;
        }
        list += n + (list[n] == ',');
    }
    if (c->count == 0)
        return MT_FAIL(MT_ARG, "compare needs --schedules a.cfg,b.cfg,...");
    return MT_OK;
}

/* Root.  The job under one schedule; also finds what is wrong with a schedule before any trains. */
static mt_status load(const struct compare *c, int32_t which, struct job *job)
{
    char *bundle = NULL;
    mt_status st;
    MT_TRY_GOTO(st, config_bundle_read(&bundle, c->job_path), done);
    MT_TRY_GOTO(st, config_bundle_replace(&bundle, c->schedule[which]), done);
    st = job_load(job, bundle, c->sets->item, c->sets->count);
done:
    mt_free(&bundle);
    return st;
}

/* Root.  Folders of all runs, each with a link to the shared shards. */
static mt_status prepare(struct compare *c)
{
    char *shards = NULL, *link = NULL;
    mt_status st = MT_OK;
    for (int32_t i = 0; i < c->count; i++) {
        struct job job = {0};
        MT_TRY(load(c, i, &job));
        (void)snprintf(c->run_dir, PATH_BYTES, "%s", job.run_dir);
        if (job.cache.dir != NULL)
            (void)snprintf(c->cache_dir, PATH_BYTES, "%s", job.cache.dir);
        else
            (void)snprintf(c->cache_dir, PATH_BYTES, "%.4000s/cache", job.run_dir);
        job_release(&job);
    }
    MT_TRY_GOTO(st, file_path_join(&shards, c->run_dir, "shards"), done);
    MT_TRY_GOTO(st, file_make_dir(shards), done);
    for (int32_t i = 0; i < c->count; i++) {
        struct comparison_run *run = &c->run[i];
        (void)snprintf(run->run_dir, sizeof run->run_dir, "%.3900s/compare/%s", c->run_dir,
                       run->name);
        MT_TRY_GOTO(st, file_make_dir(run->run_dir), done);
        MT_TRY_GOTO(st, file_path_join(&link, run->run_dir, "shards"), done);
        if (!file_exists(link))
            MT_TRY_GOTO(st, file_symlink_atomic("../../shards", link), done);
        mt_free(&link);
    }
done:
    mt_free(&shards);
    mt_free(&link);
    return st;
}

static mt_status train(struct compare *c, int32_t which)
{
    char run_dir[PATH_BYTES + 32], cache_dir[PATH_BYTES + 32];
    const char **overrides;
    int32_t n = c->sets->count;
    MT_ALL(c->world, mt_alloc(&overrides, n + OWN_OVERRIDES, sizeof *overrides, "overrides"));
    for (int32_t i = 0; i < n; i++)
        overrides[i] = c->sets->item[i];
    (void)snprintf(run_dir, sizeof run_dir, "run_dir=\"%s\"", c->run[which].run_dir);
    (void)snprintf(cache_dir, sizeof cache_dir, "cache.dir=\"%s\"", c->cache_dir);
    overrides[n] = run_dir;
    overrides[n + 1] = cache_dir;
    struct run_options options = {.overrides = overrides,
                                  .override_count = n + OWN_OVERRIDES,
                                  .schedule = c->schedule[which],
                                  .resume = "auto"};
    log_info("schedule %d/%d: %s", which + 1, c->count, c->run[which].name);
    mt_status st = train_job(c->world, c->job_path, &options);
    mt_free(&overrides);
    return st;
}

/* Root. */
static mt_status show(struct compare *c)
{
    struct job job = {0};
    char *dir = NULL;
    mt_status st;
    MT_TRY(load(c, 0, &job));
    struct comparison all = {&job, c->run, c->count};
    for (int32_t i = 0; i < c->count; i++)
        MT_TRY_GOTO(st, comparison_read(&c->run[i], &job), done);
    comparison_print(&all);
    MT_TRY_GOTO(st, file_path_join(&dir, c->run_dir, "compare"), done);
    MT_TRY_GOTO(st, comparison_write(&all, dir), done);
    log_info("compare.json, compare.svg and compare.html are in %s", dir);
done:
    mt_free(&dir);
    job_release(&job);
    return st;
}

static mt_status compare(struct compare *c, const char *list)
{
    MT_ALL(c->world, split_list(c, list));
    MT_ALL(c->world, c->world->rank == 0 ? prepare(c) : MT_OK);
    MT_TRY(comm_broadcast(c->world, c->cache_dir, PATH_BYTES, 0));
    MT_TRY(comm_broadcast(c->world, c->run, (int64_t)sizeof c->run, 0));
    for (int32_t i = 0; i < c->count; i++)
        MT_TRY(train(c, i));
    MT_ALL(c->world, c->world->rank == 0 ? show(c) : MT_OK);
    return MT_OK;
}

static mt_status run(const struct invocation *call)
{
    struct text_list jobs = {0}, sets = {0};
    struct compare *c = NULL;
    const char *list = "";
    bool help;
    const struct argument table[] = {
        {"--schedules", "A,B,...", ARGUMENT_TEXT, &list,
         "schedule files; also full, staged, ... of those that come along"},
        {"--set", "KEY=VALUE", ARGUMENT_LIST, &sets, "overrides a key of the job; may be repeated"},
        {NULL, "JOB.cfg", ARGUMENT_REST, &jobs, "the job file"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_compare, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (jobs.count != 1) {
        st = MT_FAIL(MT_ARG, "compare needs one job file");
        goto done;
    }
    st = comm_agree(call->world, mt_alloc(&c, 1, sizeof *c, "a comparison"));
    MT_TRY_GOTO(st, st, done);
    c->world = call->world;
    c->job_path = jobs.item[0];
    c->sets = &sets;
    st = compare(c, list);
done:
    for (int32_t i = 0; c != NULL && i < SCHEDULES_MAX; i++)
        mt_free(&c->schedule[i]);
    mt_free(&c);
    text_list_release(&jobs);
    text_list_release(&sets);
    return st;
}

const struct command command_compare = {
    "compare",
    "JOB.cfg --schedules a.cfg,b.cfg,... [--set key=value]...",
    "Runs several schedules on one job and prints a table: quality, time, trained parameters.",
    "mpirun -np 4 mttrain compare jobs/quickstart.cfg --schedules heads-only,staged,full",
    COMMAND_ALL,
    run};

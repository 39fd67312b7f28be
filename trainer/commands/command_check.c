/* mttrain check: validate a job with its data, model and schedule; touch nothing. */
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "trainer/commands/arguments.h"
#include "trainer/job_checks.h"
#include "trainer/plan/scratch.h"

static void print_data(const struct run *run)
{
    for (int32_t set = 0; set < run->job.data_count; set++) {
        for (int32_t s = 0; s < SPLIT_COUNT; s++) {
            const struct dataset *d = run->corpora.set[s][set];
            if (d == NULL)
                continue;
            printf("  %-16s %-6s %9lld sentences %11lld tokens, longest %d", dataset_name(d),
                   split_name((enum split)s), (long long)dataset_rows(d),
                   (long long)dataset_tokens(d), dataset_longest_row_tokens(d));
            for (int32_t t = 0; t < run->job.task_count; t++)
                if (run->corpora.column[s][set][t] >= 0)
                    printf("; %s %lld labelled", run->job.tasks[t].name,
                           (long long)dataset_labelled_rows(d, run->corpora.column[s][set][t]));
            printf("\n");
        }
    }
}

static void print_phases(const struct run *run, const int64_t *begin, const int64_t *end)
{
    for (int32_t p = 0; p < run->job.schedule.count; p++) {
        const struct phase_plan *plan = &run->plan[p];
        printf("  %d. %-12s steps %lld..%lld  %lld of %lld parameters trained; tasks", p + 1,
               plan->phase->name, (long long)begin[p], (long long)end[p],
               (long long)plan->trainable_elements, (long long)run->model.table.total);
        for (int32_t t = 0; t < run->job.task_count; t++)
            if (plan->active[t])
                printf(" %s", run->job.tasks[t].name);
        printf("\n");
    }
}

static mt_status print_report(const struct run *run)
{
    const struct bert_config *c = &run->model.config;
    int64_t *begin = NULL, *end = NULL;
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&begin, run->job.schedule.count, sizeof *begin, "bounds"), done);
    MT_TRY_GOTO(st, mt_alloc(&end, run->job.schedule.count, sizeof *end, "bounds"), done);
    schedule_phase_bounds(&run->job.schedule, &run->length, begin, end);
    printf("job \"%s\" is valid\n", run->job.name);
    printf("model: %d layers x %d, %d heads, vocabulary %d, %s pooling, init %s\n",
           c->num_hidden_layers, c->hidden_size, c->num_attention_heads, c->vocab_size,
           pooling_name(run->model.pooling), run->job.model.init);
    printf("data:\n");
    print_data(run);
    printf("schedule \"%s\": %d phases\n",
           run->job.schedule.name != NULL ? run->job.schedule.name : "full",
           run->job.schedule.count);
    print_phases(run, begin, end);
done:
    mt_free(&begin);
    mt_free(&end);
    return st;
}

/* Text is packed into a scratch folder that goes away again, unless the run has packed it. */
static mt_status check(const struct comm *world, const char *path,
                       const struct run_options *options)
{
    struct scratch scratch;
    struct run *run = NULL;
    char *shards = NULL;
    mt_status st = scratch_open(&scratch, world, path, options);
    MT_TRY_GOTO(st, st, done);
    st = mt_alloc(&run, 1, sizeof *run, "a run");
    if (st == MT_OK)
        st = file_path_join(&shards, scratch.path, "shards");
    st = comm_agree(world, st);
    MT_TRY_GOTO(st, st, done);
    st = run_open_description(run, world, path, options, shards);
    if (st == MT_OK)
        st = comm_agree(world, world->rank == 0 ? job_checks_run(run) : MT_OK);
    if (st == MT_OK && world->rank == 0)
        st = print_report(run);
    run_close(run);
done:
    mt_free(&run);
    mt_free(&shards);
    scratch_close(&scratch);
    return st;
}

static void print_value(const struct config_value *v)
{
    switch (v->type) {
    case VALUE_BOOL:
        printf("%s\n", v->integer != 0 ? "true" : "false");
        break;
    case VALUE_INT:
        printf("%lld\n", (long long)v->integer);
        break;
    case VALUE_REAL:
        printf("%.17g\n", v->real);
        break;
    case VALUE_STRING:
        printf("%s\n", v->string);
        break;
    case VALUE_GROUP:
    case VALUE_LIST:
        for (int32_t i = 0; i < v->child_count; i++)
            print_value(v->child[i]);
    }
}

/* Root.  The effective value of one key, for scripts; reads no more than the job file. */
static mt_status print_key(const char *path, const struct run_options *options, const char *key)
{
    struct config *config = NULL;
    char *bundle = NULL, *text = NULL;
    struct job job;
    MT_TRY(config_bundle_read(&bundle, path));
    if (options->schedule != NULL)
        MT_TRY(config_bundle_replace(&bundle, options->schedule));
    mt_status st = job_load(&job, bundle, options->overrides, options->override_count);
    mt_free(&bundle);
    MT_TRY(st);
    MT_TRY_GOTO(st, job_print(&job, &text), done);
    MT_TRY_GOTO(st, config_parse(&config, text, NULL, 0), done);
    const struct config_value *value = config_find(config, key);
    if (value != NULL)
        print_value(value);
    else
        st = MT_FAIL(MT_ARG, "--get %s: %s has no such key, or it is unset (jobs/JOB.md lists all)",
                     key, path);
done:
    config_close(&config);
    mt_free(&text);
    job_release(&job);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list jobs = {0}, sets = {0};
    struct run_options options = {.resume = "auto"};
    const char *key = NULL;
    bool help;
    const struct argument table[] = {
        {"--set", "KEY=VALUE", ARGUMENT_LIST, &sets, "overrides a key of the job; may be repeated"},
        {"--schedule", "FILE", ARGUMENT_TEXT, &options.schedule,
         "another schedule than the job's; also full, staged, ... of those that come along"},
        {"--get", "KEY", ARGUMENT_TEXT, &key,
         "only print the effective value of a key (paths are absolute), reading the job file "
         "alone"},
        {NULL, "JOB.cfg", ARGUMENT_REST, &jobs, "the job file"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_check, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (jobs.count == 0) {
        st = MT_FAIL(MT_ARG, "check needs a job file");
        goto done;
    }
    options.overrides = sets.item;
    options.override_count = sets.count;
    for (int32_t i = 0; i < jobs.count && st == MT_OK; i++) {
        if (key == NULL)
            st = check(call->world, jobs.item[i], &options);
        else
            st = call->world->rank == 0 ? print_key(jobs.item[i], &options, key) : MT_OK;
    }
done:
    text_list_release(&jobs);
    text_list_release(&sets);
    return st;
}

const struct command command_check = {
    "check",
    "JOB.cfg [--set key=value]... [--get KEY]",
    "Validates a job with its data, model and schedule, and touches nothing.",
    "mttrain check jobs/quickstart.cfg",
    COMMAND_ALL,
    run};

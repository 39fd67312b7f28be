/* mttrain JOB.cfg ...: train each job in turn. */
#include "trainer/commands/arguments.h"
#include "trainer/trace.h"
#include "trainer/train.h"

static mt_status run(const struct invocation *call)
{
    struct text_list jobs = {0}, sets = {0};
    struct run_options options = {.resume = "auto"};
    const char *trace_steps = NULL;
    const struct argument table[] = {
        {"--set", "KEY=VALUE", ARGUMENT_LIST, &sets, "overrides a key of the job; may be repeated"},
        {"--schedule", "FILE", ARGUMENT_TEXT, &options.schedule,
         "another schedule than the job's; also full, staged, ... of those that come along"},
        {"--resume", "auto|never|PATH", ARGUMENT_TEXT, &options.resume,
         "where to begin (default auto: the newest valid checkpoint of run_dir)"},
        {"--accept-changes", NULL, ARGUMENT_FLAG, &options.accept_changes,
         "resume although keys changed that alter the result"},
        {"--trace", "FILE", ARGUMENT_TEXT, &options.trace,
         "what every thread does in a few steps, for chrome://tracing or ui.perfetto.dev"},
        {"--trace-steps", "N[-M]", ARGUMENT_TEXT, &trace_steps,
         "which steps (default: the second to the fourth from here)"},
        {NULL, "JOB.cfg ...", ARGUMENT_REST, &jobs, "job files, trained one after the other"},
        {0}};
    bool help;
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_train, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (jobs.count == 0) {
        st = MT_FAIL(MT_ARG, "no job file named (mttrain train --help)");
        goto done;
    }
    if (options.trace == NULL ? trace_steps != NULL : jobs.count > 1) {
        st = MT_FAIL(MT_ARG, "--trace-steps belongs to --trace FILE, which takes one job");
        goto done;
    }
    if (trace_steps != NULL)
        MT_TRY_GOTO(st, trace_parse_steps(trace_steps, &options.trace_first, &options.trace_last),
                    done);
    options.overrides = sets.item;
    options.override_count = sets.count;
    for (int32_t i = 0; i < jobs.count; i++)
        MT_TRY_GOTO(st, train_job(call->world, jobs.item[i], &options), done);
done:
    text_list_release(&jobs);
    text_list_release(&sets);
    return st;
}

const struct command command_train = {
    "train",
    "JOB.cfg ... [--set key=value]... [--resume auto|never|PATH]",
    "Trains each job in turn, under mpirun, srun or alone; the same line resumes a stopped run.",
    "mpirun -np 8 mttrain jobs/quickstart.cfg --set optimizer.lr=3e-5",
    COMMAND_ALL,
    run};

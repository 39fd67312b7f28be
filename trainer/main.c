/*
 * main: which command was meant, and the one place where an error is printed and an exit code made.
 *
 * `mttrain NAME ...` runs a row of the table; a job file trains; nothing at all serves the spool.
 * All ranks agree on the outcome before MPI ends, because mpirun kills the others as soon as one
 * leaves with a failure.
 */
#include <stdio.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/hash.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/base/processor.h"
#include "comm/stop.h"
#include "schedules/text.h"
#include "trainer/commands/command.h"
#include "trainer/versions.h"

static const struct command *const commands[] = {
    &command_pack,  &command_vocab,  &command_check,   &command_eval, &command_predict,
    &command_embed, &command_export, &command_inspect, &command_ctl,  &command_replay,
    &command_bench, &command_plan,   &command_compare, &command_probe};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("mttrain: fine-tune a BERT encoder with several task heads, data-parallel over MPI\n\n"
           "usage:\n"
           "  mpirun -np N mttrain JOB.cfg ...      train; the same line resumes\n"
           "  mpirun -np N mttrain [--spool DIR]    serve the jobs of a spool folder\n"
           "  mttrain COMMAND ...                   one of:\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("    %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n  mttrain COMMAND --help                options and an example\n"
           "  mttrain train --help, serve --help    those of the first two\n"
           "  mttrain --version                     versions of the program and its libraries\n\n"
           "example:\n  mpirun -np 4 mttrain jobs/quickstart.cfg --set train.epochs=2\n");
}

static bool ends_with(const char *word, const char *end)
{
    size_t n = strlen(word), m = strlen(end);
    return n >= m && strcmp(word + n - m, end) == 0;
}

static bool is_any(const char *word, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strncmp(word, *names, strlen(*names)) == 0)
            return true;
    return false;
}

/* The command that the words mean; *skip = how many of them name it. */
static mt_status choose_command(int argc, char **argv, const struct command **out, int *skip)
{
    static const char *const serve_options[] = {"--spool", "--drain", "--http", NULL};
    const char *names[COMMANDS + 2];
    *skip = 1;
    *out = &command_serve;
    if (argc == 0 || is_any(argv[0], serve_options)) {
        *skip = 0;
        return MT_OK;
    }
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i]->name;
        if (strcmp(argv[0], names[i]) == 0) {
            *out = commands[i];
            return MT_OK;
        }
    }
    if (strcmp(argv[0], "serve") == 0)
        return MT_OK;
    *out = &command_train;
    if (strcmp(argv[0], "train") == 0)
        return MT_OK;
    *skip = 0;
    if (argv[0][0] == '-' || ends_with(argv[0], ".cfg") || strchr(argv[0], '/') != NULL)
        return MT_OK;
    names[COMMANDS] = "train";
    names[COMMANDS + 1] = "serve";
    const char *near = text_nearest(argv[0], names, COMMANDS + 2);
    if (near != NULL)
        return MT_FAIL(MT_ARG, "unknown command \"%s\"; did you mean \"%s\"?", argv[0], near);
    return MT_FAIL(MT_ARG,
                   "unknown command \"%s\" (mttrain --help lists them; a job file ends in "
                   ".cfg)",
                   argv[0]);
}

/* Takes -q and -v out of the words and answers the level they ask for. */
static enum log_level take_verbosity(int *argc, char **argv)
{
    int level = LOG_INFO, kept = 0;
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "-q") == 0)
            level = LOG_WARNING;
        else if (strcmp(argv[i], "-v") == 0)
            level = LOG_DETAIL;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    return (enum log_level)level;
}

/* Ranks that were told different things would wait for each other in different places. */
static mt_status agree_on_words(const struct comm *world, int argc, char **argv)
{
    struct hash64 h;
    hash64_init(&h, 0);
    for (int i = 0; i < argc; i++)
        hash64_add_string(&h, argv[i]);
    return comm_agree_equal(world, "the command line", hash64_value(&h));
}

static mt_status run_command(const struct comm *world, int argc, char **argv)
{
    const struct command *command;
    int skip;
    MT_TRY(agree_on_words(world, argc, argv));
    MT_TRY(choose_command(argc, argv, &command, &skip));
    struct invocation call = {world, argc - skip, argv + skip};
    if (command->ranks == COMMAND_ALL)
        return comm_agree(world, command->run(&call));
    return comm_agree(world, world->rank == 0 ? command->run(&call) : MT_OK);
}

static void print_error(const struct comm *world, mt_status st)
{
    const struct mt_error *e = mt_error_peek();
    if (world->rank != 0)
        return;
    if (st == MT_STOPPED)
        log_info("%s", e->message);
    else if (world->size > 1 && e->rank > 0)
        log_error("%s (rank %d)", e->message, e->rank);
    else
        log_error("%s", e->message);
    if (st == MT_BUG)
        for (int i = 0; i < e->frame_count; i++)
            log_error("    in %s, %s:%d", e->frames[i].function, e->frames[i].file,
                      e->frames[i].line);
}

int main(int argc, char **argv)
{
    struct comm world;
    enum log_level level = take_verbosity(&argc, argv);
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_help();
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        versions_print(stdout);
        return 0;
    }
    processor_flush_denormals(); /* before there is a second thread */
    mt_status st = comm_init(&world, &argc, &argv);
    log_init(world.rank, level);
    if (st == MT_OK)
        st = stop_install();
    if (st == MT_OK)
        st = stop_listen();
    if (st == MT_OK)
        st = run_command(&world, argc - 1, argv + 1);
    if (st != MT_OK)
        print_error(&world, st);
    if (st == MT_MPI)
        comm_abort(&world, mt_status_exit_code(st));
    (void)fflush(stdout);
    return comm_finalize(&world, mt_status_exit_code(st));
}

/*
 * command: what `mttrain NAME ...` runs.
 *
 * One file a command (trainer/commands/command_NAME.c), one row in the table of trainer/main.c.
 */
#ifndef MT_TRAINER_COMMAND_H
#define MT_TRAINER_COMMAND_H

#include "comm/world.h"

struct invocation {
    const struct comm *world;
    int argc; /* words after the command's name */
    char **argv;
};

enum command_ranks {
    COMMAND_ALL, /* Collective: every rank runs it */
    COMMAND_ROOT /* rank 0 runs it, the others wait */
};

struct command {
    const char *name;
    const char *synopsis; /* what follows "mttrain NAME" */
    const char *summary;  /* one line */
    const char *example;  /* a whole command line and what it does */
    enum command_ranks ranks;
    mt_status (*run)(const struct invocation *call);
};

extern const struct command command_train, command_serve, command_pack, command_vocab,
    command_check, command_eval, command_predict, command_embed, command_export, command_inspect,
    command_bench, command_plan, command_compare, command_probe;
extern const struct command command_ctl, command_replay;

#endif

/*
 * arguments: a command's options as a table, and the parsing that all commands share.
 *
 *     struct text_list files = {0};
 *     int64_t size = 30000;
 *     const struct argument table[] = {
 *         {"--size", "N", ARGUMENT_INT, &size, "entries of the vocabulary (default 30000)"},
 *         {NULL, "FILE...", ARGUMENT_REST, &files, "text files"}, {0}};
 *     MT_TRY(arguments_parse(&command_vocab, table, argc, argv));
 *
 * Options may stand anywhere, as "--name value" or "--name=value"; "--" ends them.  An unknown
 * option is an error with the nearest known name.
 */
#ifndef MT_TRAINER_ARGUMENTS_H
#define MT_TRAINER_ARGUMENTS_H

#include "trainer/commands/command.h"

enum argument_kind {
    ARGUMENT_FLAG,  /* bool */
    ARGUMENT_TEXT,  /* const char *, borrowed from argv */
    ARGUMENT_INT,   /* int64_t */
    ARGUMENT_REAL,  /* double */
    ARGUMENT_LIST,  /* struct text_list, the option may be repeated */
    ARGUMENT_FILES, /* struct text_list, all words up to the next option */
    ARGUMENT_REST   /* struct text_list, what is not an option; at most one row */
};

struct argument {
    const char *name;       /* "--size"; NULL for ARGUMENT_REST */
    const char *value_name; /* for the help page; NULL for a flag */
    enum argument_kind kind;
    void *target;
    const char *help;
};

enum { TEXT_LIST_MAX = 4096 };

/* Words borrowed from argv. */
struct text_list {
    const char **item;
    int32_t count;
};

/* Local.  Fills the targets from argv[0..argc-1] (the words after the command's name).  Lists own
 * their arrays of pointers: text_list_release.  "--help" prints the page and answers MT_OK with
 * *help_shown.  Errors: ARG. */
mt_status arguments_parse(const struct command *command, const struct argument *table, int argc,
                          char **argv, bool *help_shown) MT_CHECKED;

/* Local.  The help page of a command to standard output. */
void arguments_print_help(const struct command *command, const struct argument *table);

/* Local.  Frees the array; the strings belong to argv. */
void text_list_release(struct text_list *list);

#endif

/* See arguments.h.  Refused: getopt_long, which knows neither tables nor near misses. */
#include "trainer/commands/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"
#include "schedules/text.h"

static mt_status list_add(struct text_list *list, const char *word)
{
    if (list->item == NULL)
        MT_TRY(mt_alloc(&list->item, TEXT_LIST_MAX, sizeof *list->item, "a list of words"));
    if (list->count == TEXT_LIST_MAX)
        return MT_FAIL(MT_ARG, "more than %d values on the command line; use a folder",
                       TEXT_LIST_MAX);
    list->item[list->count++] = word;
    return MT_OK;
}

void text_list_release(struct text_list *list)
{
    mt_free(&list->item);
    list->count = 0;
}

static mt_status store(const struct argument *a, const char *word)
{
    char *end;
    errno = 0;
    switch (a->kind) {
    case ARGUMENT_TEXT:
        *(const char **)a->target = word;
        return MT_OK;
    case ARGUMENT_INT: {
        long long v = strtoll(word, &end, 10);
        if (*word == '\0' || *end != '\0' || errno != 0)
            return MT_FAIL(MT_ARG, "%s: expected a whole number, got \"%s\"", a->name, word);
        *(int64_t *)a->target = v;
        return MT_OK;
    }
    case ARGUMENT_REAL: {
        double v = strtod(word, &end);
        if (*word == '\0' || *end != '\0' || errno != 0)
            return MT_FAIL(MT_ARG, "%s: expected a number, got \"%s\"", a->name, word);
        *(double *)a->target = v;
        return MT_OK;
    }
    case ARGUMENT_LIST:
    case ARGUMENT_FILES:
    case ARGUMENT_REST:
        return list_add(a->target, word);
    case ARGUMENT_FLAG:
        *(bool *)a->target = true;
        return MT_OK;
    }
    return MT_FAIL(MT_BUG, "argument kind %d", (int)a->kind);
}

static const struct argument *find(const struct argument *table, const char *word, size_t length)
{
    for (; table->help != NULL; table++)
        if (table->name != NULL && strlen(table->name) == length &&
            strncmp(table->name, word, length) == 0)
            return table;
    return NULL;
}

static const struct argument *find_rest(const struct argument *table)
{
    for (; table->help != NULL; table++)
        if (table->kind == ARGUMENT_REST)
            return table;
    return NULL;
}

static mt_status unknown_option(const struct command *command, const struct argument *table,
                                const char *word)
{
    enum { NAMES = 64 };
    const char *names[NAMES];
    int32_t n = 0;
    for (; table->help != NULL && n < NAMES; table++)
        if (table->name != NULL)
            names[n++] = table->name;
    const char *near = text_nearest(word, names, n);
    if (near != NULL)
        return MT_FAIL(MT_ARG, "unknown option %s; did you mean %s? (mttrain %s --help)", word,
                       near, command->name);
    return MT_FAIL(MT_ARG, "unknown option %s (mttrain %s --help lists them)", word, command->name);
}

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

mt_status arguments_parse(const struct command *command, const struct argument *table, int argc,
                          char **argv, bool *help_shown)
{
    const struct argument *rest = find_rest(table);
    bool options = true;
    *help_shown = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            arguments_print_help(command, table);
            *help_shown = true;
            return MT_OK;
        } else if (options && is_option(word)) {
            const char *equals = strchr(word, '=');
            size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
            const struct argument *a = find(table, word, length);
            if (a == NULL)
                return unknown_option(command, table, word);
            if (a->kind == ARGUMENT_FLAG) {
                MT_TRY(store(a, ""));
            } else if (equals != NULL) {
                MT_TRY(store(a, equals + 1));
            } else {
                if (i + 1 == argc)
                    return MT_FAIL(MT_ARG, "%s needs a value (%s)", a->name, a->value_name);
                MT_TRY(store(a, argv[++i]));
                while (a->kind == ARGUMENT_FILES && i + 1 < argc && !is_option(argv[i + 1]))
                    MT_TRY(store(a, argv[++i]));
            }
        } else if (rest != NULL) {
            MT_TRY(store(rest, word));
        } else {
            return MT_FAIL(MT_ARG, "unexpected word \"%s\" (mttrain %s --help)", word,
                           command->name);
        }
    }
    return MT_OK;
}

void arguments_print_help(const struct command *command, const struct argument *table)
{
    const char *space = command->name[0] != '\0' ? " " : "";
    printf("usage: mttrain%s%s %s\n\n%s\n\n", space, command->name, command->synopsis,
           command->summary);
    for (const struct argument *a = table; a->help != NULL; a++) {
        char left[64];
        (void)snprintf(left, sizeof left, "%s%s%s", a->name != NULL ? a->name : "",
                       a->name != NULL && a->value_name != NULL ? " " : "",
                       a->value_name != NULL ? a->value_name : "");
        printf("  %-28s %s\n", left, a->help);
    }
    printf("  %-28s %s\n", "-q, -v", "say less, say more");
    printf("  %-28s %s\n", "--help", "this page");
    printf("\nexample:\n  %s\n", command->example);
}

/* mttrain vocab: learn a WordPiece vocabulary from text. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "io/file.h"
#include "io/text_table.h"
#include "io/wordpiece_learn.h"
#include "trainer/commands/arguments.h"
#include "trainer/lines.h"

struct learning {
    struct wordpiece_learner *learner;
    struct log_progress progress;
    int64_t texts;
};

static mt_status add_line(void *context, const char *line, int64_t bytes)
{
    struct learning *l = context;
    l->texts++;
    progress_show(&l->progress, l->texts, 0, NULL);
    return wordpiece_learner_add_text(l->learner, line, bytes);
}

/* One column of a table, or every line of a plain text file. */
static mt_status add_file(struct learning *l, const char *path, const char *column)
{
    bool table_file = file_path_has_extension(path, ".tsv") ||
                      file_path_has_extension(path, ".csv") ||
                      file_path_has_extension(path, ".jsonl");
    struct text_table *table = NULL;
    const struct text_row *row;
    int32_t index = 0;
    mt_status st;
    if (!table_file || column == NULL)
        return lines_each(path, add_line, l);
    MT_TRY(text_table_open(&table, path, NULL));
    MT_TRY_GOTO(st, text_table_column(table, column, &index), done);
    for (;;) {
        MT_TRY_GOTO(st, text_table_next(table, &row), done);
        if (row == NULL)
            break;
        MT_TRY_GOTO(st, add_line(l, row->cells[index].text, row->cells[index].bytes), done);
    }
done:
    text_table_close(&table);
    return st;
}

static mt_status learn(const struct text_list *files, int64_t size, const char *out, bool cased,
                       const char *column)
{
    struct wordpiece_options options = wordpiece_options_default();
    struct learning l = {0};
    struct vocab vocab = {0};
    mt_status st;
    options.flags = vocab_flags_default(!cased);
    MT_TRY_GOTO(st, wordpiece_learner_create(&l.learner, &options), done);
    progress_begin(&l.progress, "reading", "texts", 0);
    for (int32_t i = 0; i < files->count; i++)
        MT_TRY_GOTO(st, add_file(&l, files->item[i], column), done);
    progress_end(&l.progress);
    MT_TRY_GOTO(st, wordpiece_learner_train(l.learner, (int32_t)size, &vocab), done);
    MT_TRY_GOTO(st, vocab_write(&vocab, out), done);
    log_info("%s: %d tokens from %lld texts, %lld words (%lld distinct)", out, vocab.count,
             (long long)l.texts, (long long)wordpiece_learner_total_words(l.learner),
             (long long)wordpiece_learner_distinct_words(l.learner));
done:
    wordpiece_learner_destroy(&l.learner);
    vocab_close(&vocab);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list files = {0};
    int64_t size = 30000;
    const char *out = NULL, *column = NULL;
    bool cased = false, help;
    const struct argument table[] = {
        {"--size", "N", ARGUMENT_INT, &size, "tokens of the vocabulary at most (default 30000)"},
        {"--out", "VOCAB.txt", ARGUMENT_TEXT, &out, "the file to write"},
        {"--cased", NULL, ARGUMENT_FLAG, &cased, "keep case and accents"},
        {"--text-column", "C", ARGUMENT_TEXT, &column,
         "only this column of .tsv, .csv and .jsonl files (default: whole lines)"},
        {NULL, "FILE...", ARGUMENT_REST, &files, "text to learn from"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_vocab, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (out == NULL || files.count == 0)
        st = MT_FAIL(MT_ARG, "vocab needs --out VOCAB.txt and at least one file of text");
    else if (size < 6 || size > VOCAB_MAX_TOKENS)
        st = MT_FAIL(MT_ARG, "--size %lld is not in 6..%d", (long long)size, VOCAB_MAX_TOKENS);
    else
        st = learn(&files, size, out, cased, column);
done:
    text_list_release(&files);
    return st;
}

const struct command command_vocab = {
    "vocab",
    "--size N --out VOCAB.txt [--cased] [--text-column C] FILE...",
    "Learns a WordPiece vocabulary from text.",
    "mttrain vocab --size 8000 --out vocab.txt --text-column sentence train.tsv",
    COMMAND_ROOT,
    run};

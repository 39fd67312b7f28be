/* mttrain pack: text tables to HDF5 shards and a manifest. */
#include <stdio.h>
#include <string.h>

#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/stop.h"
#include "io/pack.h"
#include "io/shard.h"
#include "io/vocab.h"
#include "trainer/commands/arguments.h"

struct request {
    const char *vocab, *out, *delimiter, *format, *utf8;
    bool cased, headerless;
    int64_t shard_rows;
    struct text_list labels, files;
    struct pack_options options;
    struct pack_label label[SHARD_TASKS_MAX];
    char *words; /* copies of the label options, cut at their separators */
};

static void show(void *context, int64_t done_bytes, int64_t total_bytes, int64_t rows)
{
    char note[64];
    (void)snprintf(note, sizeof note, "%lld sentences", (long long)rows);
    progress_show(context, done_bytes, total_bytes, note);
}

/* "TASK=COLUMN", or a column that names its task too. */
static mt_status parse_labels(struct request *r)
{
    int64_t bytes = 1;
    for (int32_t i = 0; i < r->labels.count; i++)
        bytes += (int64_t)strlen(r->labels.item[i]) + 1;
    if (r->labels.count > SHARD_TASKS_MAX)
        return MT_FAIL(MT_ARG, "%d label columns; at most %d", r->labels.count, SHARD_TASKS_MAX);
    MT_TRY(mt_alloc(&r->words, bytes, 1, "label options"));
    char *at = r->words;
    for (int32_t i = 0; i < r->labels.count; i++) {
        size_t n = strlen(r->labels.item[i]) + 1;
        memcpy(at, r->labels.item[i], n);
        char *equals = strchr(at, '=');
        if (equals != NULL)
            *equals = '\0';
        r->label[i].task = at;
        r->label[i].column = equals != NULL ? equals + 1 : at;
        if (at[0] == '\0' || r->label[i].column[0] == '\0')
            return MT_FAIL(MT_ARG, "--label %s: expected TASK=COLUMN", r->labels.item[i]);
        at += n;
    }
    r->options.labels = r->label;
    r->options.label_count = r->labels.count;
    return MT_OK;
}

static mt_status parse_format(struct request *r)
{
    struct text_format *f = &r->options.format;
    f->headerless = r->headerless;
    if (r->format != NULL && !text_kind_parse(&f->kind, r->format))
        return MT_FAIL(MT_ARG, "--format %s: expected auto, tsv, csv or jsonl", r->format);
    if (r->utf8 != NULL && !text_bad_bytes_parse(&f->bad_bytes, r->utf8))
        return MT_FAIL(MT_ARG, "--utf8 %s: expected replace or error", r->utf8);
    if (r->delimiter != NULL) {
        bool tab = strcmp(r->delimiter, "\\t") == 0;
        if (!tab && strlen(r->delimiter) != 1)
            return MT_FAIL(MT_ARG, "--delimiter \"%s\": expected one character", r->delimiter);
        f->delimiter = tab ? '\t' : r->delimiter[0];
    }
    return MT_OK;
}

static bool goes_on(void *context)
{
    (void)context;
    return !stop_requested_local();
}

static mt_status pack(struct request *r)
{
    struct log_progress progress;
    struct pack_result result;
    struct vocab vocab = {0};
    mt_status st;
    MT_TRY_GOTO(st, parse_labels(r), done);
    MT_TRY_GOTO(st, parse_format(r), done);
    MT_TRY_GOTO(st, vocab_open(&vocab, r->vocab, r->cased ? VOCAB_CASE_CASED : VOCAB_CASE_AUTO),
                done);
    progress_begin(&progress, "packing", "bytes", 0);
    r->options.progress = show;
    r->options.progress_context = &progress;
    r->options.go_on = goes_on;
    r->options.shard_rows = r->shard_rows;
    MT_TRY_GOTO(st, pack_files(&r->options, &vocab, r->files.item, r->files.count, r->out, &result),
                done);
    progress_end(&progress);
    log_info("%s: %lld sentences, %lld tokens in %d shards; %.3f %% unknown tokens, %lld "
             "truncated, %lld byte sequences that were not UTF-8",
             r->out, (long long)result.rows, (long long)result.tokens, result.shard_count,
             100.0 * (double)result.unknown_tokens / (double)result.tokens,
             (long long)result.truncated_rows, (long long)result.replaced_bytes);
done:
    vocab_close(&vocab);
    mt_free(&r->words);
    if (st == MT_STOPPED)
        return MT_FAIL(MT_STOPPED, "stopped by %s; %s was not made, and the same command makes it",
                       stop_reason_text(stop_reason_local()), r->out);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct request r = {0};
    int64_t max_tokens = 512, gzip = 0;
    bool help;
    const struct argument table[] = {
        {"--vocab", "VOCAB.txt", ARGUMENT_TEXT, &r.vocab, "vocabulary, or a model folder"},
        {"--out", "DIR", ARGUMENT_TEXT, &r.out, "folder to make: shards and manifest.json"},
        {"--cased", NULL, ARGUMENT_FLAG, &r.cased, "keep case and accents"},
        {"--max-tokens", "N", ARGUMENT_INT, &max_tokens, "cut longer sentences (default 512)"},
        {"--text-column", "C", ARGUMENT_TEXT, &r.options.text_column,
         "column of the text (default \"text\" or \"sentence\")"},
        {"--pair-column", "C", ARGUMENT_TEXT, &r.options.pair_column,
         "column of a second text, for sentence pairs"},
        {"--label", "TASK=COLUMN", ARGUMENT_LIST, &r.labels, "a label column; may be repeated"},
        {"--format", "F", ARGUMENT_TEXT, &r.format, "tsv, csv or jsonl (default: by the ending)"},
        {"--delimiter", "C", ARGUMENT_TEXT, &r.delimiter, "between fields (default: the format's)"},
        {"--no-header", NULL, ARGUMENT_FLAG, &r.headerless,
         "the first line is data; columns are named 0, 1, ..."},
        {"--utf8", "replace|error", ARGUMENT_TEXT, &r.utf8,
         "what to do with bytes that are not UTF-8 (default replace: U+FFFD)"},
        {"--shard-rows", "N", ARGUMENT_INT, &r.shard_rows, "rows of a shard (default 1048576)"},
        {"--gzip", "0-9", ARGUMENT_INT, &gzip, "compress the shards (default 0: not)"},
        {NULL, "FILE...", ARGUMENT_REST, &r.files, "tables, packed in this order"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_pack, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (r.vocab == NULL || r.out == NULL || r.files.count == 0)
        st = MT_FAIL(MT_ARG, "pack needs --vocab VOCAB.txt, --out DIR and at least one FILE");
    else if (max_tokens < 3 || max_tokens > 1 << 20)
        st = MT_FAIL(MT_ARG, "--max-tokens %lld is not in 3..1048576", (long long)max_tokens);
    else if (gzip < 0 || gzip > 9)
        st = MT_FAIL(MT_ARG, "--gzip %lld is not in 0..9", (long long)gzip);
    else if (r.shard_rows < 0)
        st = MT_FAIL(MT_ARG, "--shard-rows %lld is negative", (long long)r.shard_rows);
    if (st == MT_OK) {
        r.options.max_tokens = (int32_t)max_tokens;
        r.options.gzip_level = (int32_t)gzip;
        st = pack(&r);
    }
done:
    text_list_release(&r.labels);
    text_list_release(&r.files);
    return st;
}

const struct command command_pack = {
    "pack",
    "--vocab VOCAB.txt --out DIR [--label TASK=COLUMN]... FILE...",
    "Packs TSV, CSV or JSON lines into HDF5 shards and a manifest, rows in input order.",
    "mttrain pack --vocab vocab.txt --out shards --text-column sentence --label mood=sentiment "
    "train.tsv",
    COMMAND_ROOT,
    run};

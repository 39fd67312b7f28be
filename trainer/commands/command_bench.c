/* mttrain bench: measure the machine and how near training comes to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "io/model_folder.h"
#include "schedules/text.h"
#include "trainer/commands/arguments.h"
#include "trainer/bench/bench.h"
#include "trainer/model/gemm.h"
#include "trainer/trace.h"

struct part {
    const char *name;
    mt_status (*run)(struct bench *b);
};

static const struct part parts[] = {
    {"peak", bench_peak}, {"gemm", bench_gemm}, {"step", bench_step}, {"comm", bench_comm}};

enum { PARTS = sizeof parts / sizeof *parts };

/* Sizes of Google's published models. */
static const struct {
    const char *name;
    int32_t L, H;
} sizes[] = {{"bert-base", 12, 768}, {"bert-large", 24, 1024}, {"bert-medium", 8, 512},
             {"bert-small", 4, 512}, {"bert-mini", 4, 256},    {"bert-tiny", 2, 128}};

static mt_status choose_model(struct bench *b, const char *name)
{
    bert_config_defaults(&b->config);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(name, sizes[i].name) != 0)
            continue;
        b->config.num_hidden_layers = sizes[i].L;
        b->config.hidden_size = sizes[i].H;
        b->config.num_attention_heads = sizes[i].H / 64;
        b->config.intermediate_size = 4 * sizes[i].H;
        return MT_OK;
    }
    if (!model_folder_is(name))
        return MT_FAIL(MT_ARG,
                       "--model %s is neither a model folder nor bert-base, bert-large, "
                       "bert-medium, bert-small, bert-mini or bert-tiny",
                       name);
    struct model_folder folder = {0};
    MT_TRY(model_folder_describe(&folder, name));
    b->config = folder.config;
    model_folder_release(&folder);
    return MT_OK;
}

static mt_status choose_tokens(struct bench *b, const char *text)
{
    char *end;
    if (strcmp(text, "sst2") == 0) {
        b->tokens = 0;
        return MT_OK;
    }
    long tokens = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || tokens < 1 || tokens > b->config.max_position_embeddings)
        return MT_FAIL(MT_ARG, "--tokens %s is neither sst2 nor in 1..%d, the model's positions",
                       text, b->config.max_position_embeddings);
    b->tokens = (int32_t)tokens;
    return MT_OK;
}

static mt_status choose_precision(struct bench *b, const char *text)
{
    if (strcmp(text, "fp32") != 0 && strcmp(text, "bf16") != 0)
        return MT_FAIL(MT_ARG, "--precision %s: fp32 or bf16", text);
    b->precision = strcmp(text, "bf16") == 0 ? MODEL_BF16 : MODEL_FP32;
    return MT_OK;
}

static mt_status choose_reduction(struct bench *b, const char *text)
{
    if (strcmp(text, "exact") != 0 && strcmp(text, "mpi") != 0)
        return MT_FAIL(MT_ARG, "--reduction %s: exact or mpi", text);
    b->reduction = strcmp(text, "mpi") == 0 ? REDUCE_MPI : REDUCE_EXACT;
    return MT_OK;
}

static mt_status check_number(const char *name, int64_t value, int64_t most)
{
    if (value < 1 || value > most)
        return MT_FAIL(MT_ARG, "%s %lld is not in 1..%lld", name, (long long)value,
                       (long long)most);
    return MT_OK;
}

static mt_status check_parts(const struct text_list *chosen)
{
    const char *names[PARTS];
    for (int p = 0; p < PARTS; p++)
        names[p] = parts[p].name;
    for (int32_t i = 0; i < chosen->count; i++) {
        bool known = false;
        for (int p = 0; p < PARTS; p++)
            known |= strcmp(chosen->item[i], names[p]) == 0;
        const char *near = known ? NULL : text_nearest(chosen->item[i], names, PARTS);
        if (!known)
            return MT_FAIL(MT_ARG, "bench has no part \"%s\"%s%s%s (peak, gemm, step, comm)",
                           chosen->item[i], near != NULL ? "; did you mean \"" : "",
                           near != NULL ? near : "", near != NULL ? "\"?" : "");
    }
    return MT_OK;
}

static bool is_chosen(const struct text_list *chosen, const char *name)
{
    for (int32_t i = 0; i < chosen->count; i++)
        if (strcmp(chosen->item[i], name) == 0)
            return true;
    return chosen->count == 0;
}

static mt_status run_parts(struct bench *b, const struct text_list *chosen, bool json)
{
    struct json_writer writer = {0};
    const char *text;
    int64_t bytes;
    mt_status st = MT_OK;
    b->json = json && b->world->rank == 0 ? &writer : NULL;
    if (b->json != NULL)
        json_write_object(b->json, NULL);
    for (int p = 0; p < PARTS; p++)
        if (is_chosen(chosen, parts[p].name))
            MT_TRY_GOTO(st, parts[p].run(b), done);
    if (b->json != NULL) {
        json_write_end(b->json);
        MT_TRY_GOTO(st, json_writer_finish(b->json, &text, &bytes), done);
        (void)printf("%s\n", text);
    }
done:
    json_writer_release(&writer);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list chosen = {0};
    const char *model = "bert-base", *tokens = "128", *precision = "fp32", *trace_steps = "1-3";
    int64_t sentences = 32, steps = 5, micro_tokens = 2048, layers = 0;
    const char *reduction = "exact", *wire = "fp32";
    struct bench b = {.world = call->world, .train = "all", .products = "auto"};
    bool json = false, help;
    const struct argument table[] = {
        {"--model", "NAME|FOLDER", ARGUMENT_TEXT, &model,
         "bert-base (default), -large, -medium, -small, -mini, -tiny, or a model folder"},
        {"--layers", "L", ARGUMENT_INT, &layers, "so many instead of the model's"},
        {"--tokens", "N|sst2", ARGUMENT_TEXT, &tokens,
         "tokens of every sentence (default 128), or lengths like SST-2's"},
        {"--sentences", "N", ARGUMENT_INT, &sentences, "of a step, per rank (default 32)"},
        {"--precision", "fp32|bf16", ARGUMENT_TEXT, &precision, "of products (default fp32)"},
        {"--products", "LIBRARY", ARGUMENT_TEXT, &b.products,
         "of a step in fp32: auto (default), amx, native, openblas, onednn"},
        {"--train", "PATTERN", ARGUMENT_TEXT, &b.train,
         "what is trained beside the heads: all (default), top(2), ...; none = embeddings only"},
        {"--steps", "N", ARGUMENT_INT, &steps, "steps that are measured (default 5)"},
        {"--micro-tokens", "N", ARGUMENT_INT, &micro_tokens,
         "most tokens of one forward pass (default 2048)"},
        {"--recompute", NULL, ARGUMENT_FLAG, &b.recompute,
         "compute activations again in backward, as batch.recompute does"},
        {"--trace", "FILE", ARGUMENT_TEXT, &b.trace,
         "what every thread does in the steps, for chrome://tracing or ui.perfetto.dev"},
        {"--trace-steps", "N[-M]", ARGUMENT_TEXT, &trace_steps, "which of them (default 1-3)"},
        {"--reduction", "exact|mpi", ARGUMENT_TEXT, &reduction, "of a step (default exact)"},
        {"--dense", NULL, ARGUMENT_FLAG, &b.dense_rows,
         "reduce every row of the word embeddings, not only those of a step's tokens"},
        {"--wire", "fp32|bf16", ARGUMENT_TEXT, &wire, "between the ranks of a step (default fp32)"},
        {"--bucket", "N", ARGUMENT_INT, &b.bucket_elements,
         "gradients reduced at a time (default chosen)"},
        {"--json", NULL, ARGUMENT_FLAG, &json, "one JSON object instead of tables"},
        {NULL, "peak|gemm|step|comm", ARGUMENT_REST, &chosen, "parts to measure (default all)"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_bench, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    MT_TRY_GOTO(st, check_parts(&chosen), done);
    MT_TRY_GOTO(st, choose_model(&b, model), done);
    if (layers != 0) {
        MT_TRY_GOTO(st, check_number("--layers", layers, 1024), done);
        b.config.num_hidden_layers = (int32_t)layers;
    }
    MT_TRY_GOTO(st, choose_tokens(&b, tokens), done);
    MT_TRY_GOTO(st, choose_precision(&b, precision), done);
    MT_TRY_GOTO(st, gemm_choose(b.products), done);
    MT_TRY_GOTO(st, choose_reduction(&b, reduction), done);
    if (b.bucket_elements != 0)
        MT_TRY_GOTO(st, check_number("--bucket", b.bucket_elements, 1 << 30), done);
    MT_TRY_GOTO(st, check_number("--sentences", sentences, 1 << 16), done);
    MT_TRY_GOTO(st, check_number("--steps", steps, 1 << 16), done);
    MT_TRY_GOTO(st, trace_parse_steps(trace_steps, &b.trace_first, &b.trace_last), done);
    MT_TRY_GOTO(st, check_number("--micro-tokens", micro_tokens, 1 << 20), done);
    b.sentences = (int32_t)sentences;
    b.steps = (int32_t)steps;
    b.micro_tokens = (int32_t)micro_tokens;
    for (b.lanes = 1; b.lanes < call->world->size;)
        b.lanes *= 2;
    if (strcmp(wire, "fp32") != 0 && strcmp(wire, "bf16") != 0)
        MT_TRY_GOTO(st, MT_FAIL(MT_ARG, "--wire %s: fp32 or bf16", wire), done);
    b.wire_groups = strcmp(wire, "bf16") == 0 ? b.lanes : 0;
done:
    st = comm_agree(call->world, st);
    if (st == MT_OK && !help)
        st = run_parts(&b, &chosen, json);
    text_list_release(&chosen);
    return st;
}

const struct command command_bench = {
    "bench",
    "[peak|gemm|step|comm]... [--tokens 128|sst2] [--precision fp32|bf16] [--train PATTERN]",
    "Measures this machine: its peak, the products, a training step, the reduction.",
    "mpirun -np 2 mttrain bench step --tokens sst2 --precision bf16",
    COMMAND_ALL,
    run};

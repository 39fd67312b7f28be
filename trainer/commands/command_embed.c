/* mttrain embed: sentence embeddings of a text file. */
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "comm/topology.h"
#include "io/embeddings.h"
#include "trainer/apply.h"
#include "trainer/commands/arguments.h"
#include "trainer/lines.h"
#include "trainer/source.h"

struct embed {
    const char *model, *in, *out, *pooling;
    int64_t threads, max_tokens;
    struct embeddings_writer *writer; /* rank 0 */
};

static mt_status count_line(void *context, const char *line, int64_t bytes)
{
    (void)line;
    (void)bytes;
    ++*(int64_t *)context;
    return MT_OK;
}

static mt_status write_rows(void *context, int64_t first, int32_t count, const char *const *lines,
                            const float *rows)
{
    struct embed *e = context;
    (void)lines;
    return embeddings_write_rows(e->writer, first, count, rows);
}

/* Root.  Counts the lines and begins the output. */
static mt_status begin_output(struct embed *e, const struct model *m, int64_t *rows)
{
    MT_TRY(lines_each(e->in, count_line, rows));
    if (*rows == 0)
        return MT_FAIL(MT_DATA, "%s has no line", e->in);
    struct embeddings_plan plan = {.rows = *rows,
                                   .dim = m->config.hidden_size,
                                   .model = e->model,
                                   .pooling = pooling_name(m->pooling)};
    return embeddings_create(&e->writer, e->out, &plan);
}

static mt_status embed(const struct comm *world, struct embed *e)
{
    struct source source;
    struct model model = {0};
    struct topology topology;
    float *params = NULL;
    int64_t rows = 0;
    mt_status st;
    MT_TRY_GOTO(st, source_open(&source, world, e->model), done);
    MT_TRY_GOTO(st, source_load(&source, world, e->pooling, &model, &params), done);
    MT_TRY_GOTO(st, topology_inspect(&topology, world), done);
    st = world->rank == 0 ? begin_output(e, &model, &rows) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    struct apply_setup setup = {.world = world,
                                .model = &model,
                                .params = params,
                                .vocab = &source.vocab,
                                .max_tokens = e->max_tokens > 0 ? (int32_t)e->max_tokens
                                                                : source.about.max_tokens,
                                .threads = e->threads > 0 ? (int32_t)e->threads : topology.threads,
                                .output = APPLY_POOLED,
                                .path = e->in,
                                .total_rows = rows};
    if (setup.max_tokens < 3 || setup.max_tokens > model.config.max_position_embeddings) {
        st = MT_FAIL(MT_ARG, "--max-tokens %d is not in 3..%d, the positions of the model",
                     setup.max_tokens, model.config.max_position_embeddings);
        goto done;
    }
    MT_TRY_GOTO(st, apply_run(&setup, write_rows, e), done);
    st = world->rank == 0 ? embeddings_commit(e->writer) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    log_info("%s: %lld embeddings of %d numbers (%s pooling)", e->out, (long long)rows,
             model.config.hidden_size, pooling_name(model.pooling));
done:
    embeddings_discard(&e->writer);
    mt_free(&params);
    model_release(&model);
    source_close(&source);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list models = {0};
    struct embed e = {0};
    bool help;
    const struct argument table[] = {
        {"--in", "FILE", ARGUMENT_TEXT, &e.in, "text, a sentence a line"},
        {"--out", "FILE", ARGUMENT_TEXT, &e.out, "what to write: .h5, .npy or .tsv"},
        {"--pooling", "MODE", ARGUMENT_TEXT, &e.pooling,
         "mean, cls, max, mean_sqrt, weightedmean or pooler (default: the model's own)"},
        {"--max-tokens", "N", ARGUMENT_INT, &e.max_tokens,
         "cut longer sentences (default: the model's own)"},
        {"--threads", "N", ARGUMENT_INT, &e.threads, "of each rank (default: its cores)"},
        {NULL, "MODEL", ARGUMENT_REST, &models, "a model folder, a run or a checkpoint"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_embed, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (models.count != 1 || e.in == NULL || e.out == NULL) {
        st = MT_FAIL(MT_ARG, "embed needs one MODEL, --in FILE and --out FILE");
        goto done;
    }
    if (strcmp(e.in, "-") == 0) {
        st = MT_FAIL(MT_ARG, "embed reads its input twice, so --in must be a file");
        goto done;
    }
    e.model = models.item[0];
    st = embed(call->world, &e);
done:
    text_list_release(&models);
    return st;
}

const struct command command_embed = {
    "embed",
    "MODEL --in FILE --out FILE.{h5,npy,tsv} [--pooling mean]",
    "Sentence embeddings of a text file, in the order of its lines.",
    "mpirun -np 4 mttrain embed runs/quickstart --in sentences.txt --out sentences.npy",
    COMMAND_ALL,
    run};

/* mttrain export: a run or checkpoint as a Hugging Face and sentence-transformers folder. */
#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "trainer/commands/arguments.h"
#include "trainer/source.h"

static mt_status export_to(const struct comm *world, const char *from, const char *to)
{
    struct source source;
    struct model model = {0};
    float *params = NULL;
    mt_status st;
    MT_TRY_GOTO(st, source_open(&source, world, from), done);
    MT_TRY_GOTO(st, source_load(&source, world, NULL, &model, &params), done);
    st = world->rank == 0 ? model_folder_write(to, &source.about, &model.table, params) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    log_info("%s -> %s", source.folder, to);
done:
    mt_free(&params);
    model_release(&model);
    source_close(&source);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list from = {0};
    const char *to = NULL;
    bool help;
    const struct argument table[] = {
        {"--to", "DIR", ARGUMENT_TEXT, &to, "the folder to write (replaced if it is there)"},
        {NULL, "RUN_OR_CHECKPOINT", ARGUMENT_REST, &from, "what to export"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_export, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (from.count != 1 || to == NULL)
        st = MT_FAIL(MT_ARG, "export needs one RUN_OR_CHECKPOINT and --to DIR");
    else
        st = export_to(call->world, from.item[0], to);
done:
    text_list_release(&from);
    return st;
}

const struct command command_export = {
    "export",
    "RUN_OR_CHECKPOINT --to DIR",
    "Writes a Hugging Face and sentence-transformers model folder, heads included.",
    "mttrain export runs/quickstart/checkpoints/best --to models/mine",
    COMMAND_ALL,
    run};

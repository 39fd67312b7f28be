/* mttrain inspect: describe a shard, manifest, checkpoint, run or model folder. */
#include <stdio.h>

#include "comm/base/hash.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/inspect_data.h"
#include "io/inspect_model.h"
#include "trainer/commands/arguments.h"

static mt_status inspect(const char *path, bool hash, bool params_only, bool verify)
{
    if (!file_exists(path))
        return MT_FAIL(MT_DATA, "%s does not exist", path);
    enum inspect_kind kind = inspect_model_kind(path);
    if (kind == INSPECT_NOTHING) {
        if (inspect_data_is(path))
            return inspect_data_print(stdout, path, hash);
        return MT_FAIL(
            MT_DATA, "%s is no shard, manifest, checkpoint, run or model folder of mttrain", path);
    }
    if (verify) {
        if (kind != INSPECT_CHECKPOINT)
            return MT_FAIL(MT_ARG, "--verify takes a checkpoint folder; %s is none", path);
        MT_TRY(checkpoint_verify(path));
        printf("valid\n");
        return MT_OK;
    }
    if (hash) {
        uint64_t value;
        char text[HASH_TEXT_BYTES];
        MT_TRY(inspect_model_hash(path, params_only, &value));
        hash64_format(text, value);
        printf("%s\n", text);
        return MT_OK;
    }
    return inspect_model_print(stdout, path);
}

static mt_status run(const struct invocation *call)
{
    struct text_list paths = {0};
    bool hash = false, params_only = false, verify = false, help;
    const struct argument table[] = {
        {"--hash", NULL, ARGUMENT_FLAG, &hash,
         "one hash of all parameters and optimizer state in logical order (data: of all content)"},
        {"--parameters", NULL, ARGUMENT_FLAG, &params_only,
         "with --hash: leave optimizer state out"},
        {"--verify", NULL, ARGUMENT_FLAG, &verify, "check every size and hash of a checkpoint"},
        {NULL, "PATH", ARGUMENT_REST, &paths, "what to look at"},
        {0}};
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_inspect, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (paths.count == 0)
        st = MT_FAIL(MT_ARG, "inspect needs a PATH");
    for (int32_t i = 0; i < paths.count && st == MT_OK; i++)
        st = inspect(paths.item[i], hash, params_only, verify);
done:
    text_list_release(&paths);
    return st;
}

const struct command command_inspect = {
    "inspect",
    "PATH [--hash] [--verify]",
    "Describes a shard, manifest, checkpoint, run or model folder.",
    "mttrain inspect runs/quickstart/checkpoints/latest --hash",
    COMMAND_ROOT,
    run};

/*
 * mttrain replay BUNDLE: a bad step once more.
 *
 * The run goes on from the newest sound checkpoint before the step (or from its beginning) in a
 * scratch folder beside the bundle, which borrows the run's shards and cache by symbolic links and
 * the decisions that counted then; the run itself is not touched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "comm/base/log.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "trainer/commands/arguments.h"
#include "trainer/bundle.h"
#include "trainer/train.h"

enum { DECISIONS_MAX_BYTES = 16 << 20, LINK_BYTES = BUNDLE_PATH_BYTES + 64 };

struct place {
    char run_dir[BUNDLE_PATH_BYTES], scratch[LINK_BYTES], job[LINK_BYTES];
    char checkpoint[CHECKPOINT_PATH_BYTES]; /* "" = from the beginning */
};

static mt_status borrow(const struct place *p, const char *name)
{
    char target[LINK_BYTES + 16], link[LINK_BYTES + 16];
    (void)snprintf(target, sizeof target, "%s/%s", p->run_dir, name);
    (void)snprintf(link, sizeof link, "%s/%s", p->scratch, name);
    return file_is_dir(target) ? file_symlink_atomic(target, link) : MT_OK;
}

static mt_status copy_decisions(const struct place *p, int64_t most_bytes)
{
    char *from = NULL, *to = NULL, *text = NULL;
    int64_t bytes;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&from, p->run_dir, "decisions.jsonl"), done);
    MT_TRY_GOTO(st, file_path_join(&to, p->scratch, "decisions.jsonl"), done);
    if (!file_exists(from))
        goto done;
    MT_TRY_GOTO(st, file_read(&text, &bytes, from, DECISIONS_MAX_BYTES), done);
    st = file_write_atomic(to, text, bytes < most_bytes ? bytes : most_bytes);
done:
    mt_free(&from);
    mt_free(&to);
    mt_free(&text);
    return st;
}

/* The newest sound checkpoint that lies before the step. */
static mt_status choose_checkpoint(struct place *p, int64_t step)
{
    int64_t *steps = NULL;
    int32_t count = 0;
    MT_TRY(checkpoint_list(p->run_dir, &steps, &count));
    mt_status st = MT_OK;
    for (int32_t i = count - 1; i >= 0; i--) {
        if (steps[i] >= step)
            continue;
        MT_TRY_GOTO(st, checkpoint_path(p->checkpoint, p->run_dir, steps[i]), done);
        if (checkpoint_verify(p->checkpoint) == MT_OK)
            goto done;
        mt_error_clear();
        p->checkpoint[0] = '\0';
    }
done:
    mt_free(&steps);
    return st;
}

/* Root.  BUNDLE is run_dir/bundles/step-N.json. */
static mt_status prepare(struct place *p, const char *path, struct bundle *b)
{
    char *folder = NULL, *run_dir = NULL;
    mt_status st;
    MT_TRY(bundle_read(b, path));
    MT_TRY_GOTO(st, file_path_dir(&folder, path), done);
    MT_TRY_GOTO(st, file_path_join(&run_dir, folder, ".."), done);
    if (realpath(run_dir, p->run_dir) == NULL || strlen(p->run_dir) > CHECKPOINT_PATH_BYTES - 128) {
        st = MT_FAIL(MT_DATA, "%s: its run's folder is not there or its path too long", path);
        goto done;
    }
    (void)snprintf(p->scratch, sizeof p->scratch, "%s/bundles/replay-%lld", p->run_dir,
                   (long long)b->step);
    (void)snprintf(p->job, sizeof p->job, "%s/job.cfg", p->run_dir);
    if (!file_exists(p->job)) {
        st = MT_FAIL(MT_DATA, "%s is not there; a bundle is replayed in the folder of its run",
                     p->job);
        goto done;
    }
    MT_TRY_GOTO(st, file_remove(p->scratch), done);
    MT_TRY_GOTO(st, file_make_dir(p->scratch), done);
    MT_TRY_GOTO(st, borrow(p, "shards"), done);
    MT_TRY_GOTO(st, borrow(p, "cache"), done);
    MT_TRY_GOTO(st, copy_decisions(p, b->decisions_bytes), done);
    st = choose_checkpoint(p, b->step);
done:
    mt_free(&folder);
    mt_free(&run_dir);
    return st;
}

static mt_status replay(const struct comm *world, const char *path)
{
    struct place *p = NULL;
    struct bundle b;
    char run_dir[LINK_BYTES + 16];
    const char *overrides[] = {run_dir, "train.save_every=1000000000st",
                               "train.keep_phase_ends=false", "train.log_every=1000000000st",
                               "watchdog=0"};
    memset(&b, 0, sizeof b);
    MT_ALL(world, mt_alloc(&p, 1, sizeof *p, "a replay"));
    mt_status st = world->rank == 0 ? prepare(p, path, &b) : MT_OK;
    MT_TRY_GOTO(st, comm_agree(world, st), done);
    MT_TRY_GOTO(st, comm_broadcast(world, p, (int64_t)sizeof *p, 0), done);
    MT_TRY_GOTO(st, comm_broadcast(world, &b, (int64_t)sizeof b, 0), done);
    (void)snprintf(run_dir, sizeof run_dir, "run_dir=%s", p->scratch);
    struct run_options options = {.overrides = overrides,
                                  .override_count = sizeof overrides / sizeof *overrides,
                                  .resume = p->checkpoint[0] != '\0' ? p->checkpoint : "auto",
                                  .accept_changes = true,
                                  .replay_step = b.step,
                                  .replay = &b};
    st = train_job(world, p->job, &options);
    if (world->rank == 0 && file_remove(p->scratch) != MT_OK)
        mt_error_clear();
done:
    mt_free(&p);
    return st;
}

static mt_status run(const struct invocation *call)
{
    struct text_list paths = {0};
    const struct argument table[] = {
        {NULL, "BUNDLE", ARGUMENT_REST, &paths, "run_dir/bundles/step-N.json"}, {0}};
    bool help;
    mt_status st;
    MT_TRY_GOTO(st, arguments_parse(&command_replay, table, call->argc, call->argv, &help), done);
    if (help)
        goto done;
    if (paths.count != 1)
        st = MT_FAIL(MT_ARG, "replay needs one BUNDLE (mttrain replay --help)");
    else
        st = replay(call->world, paths.item[0]);
done:
    text_list_release(&paths);
    return st;
}

const struct command command_replay = {
    "replay",
    "BUNDLE",
    "Does a step again that was not finite or a spike, and shows losses and norms one by one.",
    "mpirun -np 4 mttrain replay runs/a/bundles/step-00000120.json",
    COMMAND_ALL,
    run};

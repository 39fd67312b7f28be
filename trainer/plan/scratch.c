/* See scratch.h.  Rank 0 makes the folder and hands its path to the others. */
#include "trainer/plan/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/agree.h"
#include "comm/base/memory.h"
#include "comm/exchange.h"
#include "io/file.h"

void scratch_nearest_dir(char out[SCRATCH_PATH_BYTES], const char *path)
{
    (void)snprintf(out, SCRATCH_PATH_BYTES, "%s", path);
    while (!file_is_dir(out)) {
        char *slash = strrchr(out, '/');
        if (slash == NULL || slash == out) {
            (void)snprintf(out, SCRATCH_PATH_BYTES, "%s", slash == NULL ? "." : "/");
            return;
        }
        *slash = '\0';
    }
}

static mt_status make_folder(struct scratch *s)
{
    char above[SCRATCH_PATH_BYTES], parent[SCRATCH_PATH_BYTES];
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(parent, sizeof parent, "%s", s->run_dir);
    char *slash = strrchr(parent, '/');
    if (slash != NULL)
        *slash = '\0';
    scratch_nearest_dir(above, parent[0] == '\0' ? "/" : parent);
    (void)snprintf(s->path, sizeof s->path, "%.4000s/.mttrain-scratch-XXXXXX", above);
    if (mkdtemp(s->path) != NULL)
        return MT_OK;
    (void)snprintf(s->path, sizeof s->path, "%.4000s/mttrain-scratch-XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(s->path) != NULL)
        return MT_OK;
    s->path[0] = '\0';
    return MT_FAIL(MT_IO,
                   "no scratch folder can be made in %s or in TMPDIR; set TMPDIR to a "
                   "folder that can be written",
                   above);
}

/* What is packed already need not be packed again. */
static mt_status link_shards(const struct scratch *s)
{
    struct file_list list = {0};
    char *from = NULL, *to = NULL, *target = NULL, *link = NULL;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&from, s->run_dir, "shards"), done);
    MT_TRY_GOTO(st, file_path_join(&to, s->path, "shards"), done);
    if (!file_is_dir(from))
        goto done;
    MT_TRY_GOTO(st, file_make_dir(to), done);
    MT_TRY_GOTO(st, file_list_read(&list, from), done);
    for (int32_t i = 0; i < list.count; i++) {
        MT_TRY_GOTO(st, file_path_join(&target, from, list.names[i]), done);
        MT_TRY_GOTO(st, file_path_join(&link, to, list.names[i]), done);
        MT_TRY_GOTO(st, file_symlink_atomic(target, link), done);
        mt_free(&target);
        mt_free(&link);
    }
done:
    file_list_release(&list);
    mt_free(&from);
    mt_free(&to);
    mt_free(&target);
    mt_free(&link);
    return st;
}

/* Root. */
static mt_status open_root(struct scratch *s, const char *job_path,
                           const struct run_options *options)
{
    char *bundle = NULL;
    struct job job = {0};
    mt_status st;
    MT_TRY_GOTO(st, config_bundle_read(&bundle, job_path), done);
    if (options->schedule != NULL)
        MT_TRY_GOTO(st, config_bundle_replace(&bundle, options->schedule), done);
    MT_TRY_GOTO(st, job_load(&job, bundle, options->overrides, options->override_count), done);
    (void)snprintf(s->run_dir, sizeof s->run_dir, "%s", job.run_dir);
    if (job.cache.dir != NULL)
        (void)snprintf(s->cache_dir, sizeof s->cache_dir, "%s", job.cache.dir);
    else
        (void)snprintf(s->cache_dir, sizeof s->cache_dir, "%.4000s/cache", job.run_dir);
    MT_TRY_GOTO(st, make_folder(s), done);
    st = link_shards(s);
done:
    job_release(&job);
    mt_free(&bundle);
    return st;
}

mt_status scratch_open(struct scratch *s, const struct comm *world, const char *job_path,
                       const struct run_options *options)
{
    memset(s, 0, sizeof *s);
    s->world = world;
    mt_status st = world->rank == 0 ? open_root(s, job_path, options) : MT_OK;
    MT_TRY(comm_agree(world, st));
    MT_TRY(comm_broadcast(world, s->path, SCRATCH_PATH_BYTES, 0));
    MT_TRY(comm_broadcast(world, s->run_dir, SCRATCH_PATH_BYTES, 0));
    MT_TRY(comm_broadcast(world, s->cache_dir, SCRATCH_PATH_BYTES, 0));
    int32_t n = options->override_count;
    MT_ALL(world, mt_alloc(&s->override, n + 1, sizeof *s->override, "overrides"));
    for (int32_t i = 0; i < n; i++)
        s->override[i] = options->overrides[i];
    (void)snprintf(s->override_text, sizeof s->override_text, "run_dir=\"%s\"", s->path);
    s->override[n] = s->override_text;
    s->options = *options;
    s->options.overrides = s->override;
    s->options.override_count = n + 1;
    s->options.resume = "auto";
    return MT_OK;
}

void scratch_close(struct scratch *s)
{
    struct mt_error kept;
    mt_error_get(&kept);
    mt_free(&s->override);
    if (s->world == NULL)
        return;
    if (kept.code != MT_MPI && comm_barrier(s->world) != MT_OK) /* nobody works in it any more */
        mt_error_clear();
    if (s->world->rank == 0 && s->path[0] != '\0' && file_remove(s->path) != MT_OK)
        log_warning("%s", mt_error_peek()->message);
    (void)mt_error_set(&kept);
    s->path[0] = '\0';
}

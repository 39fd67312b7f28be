/*
 * See checkpoint.h: the folder of checkpoints.
 *
 * A checkpoint disappears as it appeared, by one rename: first it gets a name with .tmp, then it is
 * taken apart.  What is kept is decided from the folder alone, so a crash between two removals
 * costs nothing but space until the next call.
 */
#include "io/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "io/checkpoint_manifest.h"
#include "io/checkpoint_paths.h"
#include "io/file.h"
#include "io/leftovers.h"

enum { STEP_DIGITS = 8, STEP_DIGITS_MAX = 18 };

int64_t checkpoint_parse_name(const char *name, const char *ending)
{
    int64_t step = 0;
    if (strncmp(name, "step-", 5) != 0)
        return -1;
    size_t digits = strspn(name + 5, "0123456789");
    if (digits < STEP_DIGITS || digits > STEP_DIGITS_MAX || strcmp(name + 5 + digits, ending) != 0)
        return -1;
    for (size_t i = 0; i < digits; i++)
        step = 10 * step + (name[5 + i] - '0');
    return step;
}

static mt_status folder_of(char **out, const char *run_dir)
{
    return file_path_join(out, run_dir, "checkpoints");
}

mt_status checkpoint_path(char out[CHECKPOINT_PATH_BYTES], const char *run_dir, int64_t step)
{
    int n = snprintf(out, CHECKPOINT_PATH_BYTES, "%s/checkpoints/step-%08" PRId64, run_dir, step);
    if (n < 0 || n >= CHECKPOINT_PATH_BYTES)
        return MT_FAIL(MT_ARG, "%.200s...: path too long", run_dir);
    return MT_OK;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Steps of the names with this ending, ascending; no folder is none. */
static mt_status list_steps(const char *folder, const char *ending, int64_t **steps, int32_t *count)
{
    struct file_list names = {NULL, 0};
    int64_t *found = NULL;
    int32_t n = 0;
    if (file_is_dir(folder))
        MT_TRY(file_list_read(&names, folder));
    mt_status st;
    MT_TRY_GOTO(st, mt_alloc(&found, names.count, sizeof *found, "a list of checkpoints"), done);
    for (int32_t i = 0; i < names.count; i++) {
        int64_t step = checkpoint_parse_name(names.names[i], ending);
        if (step >= 0)
            found[n++] = step;
    }
    if (n > 0)
        qsort(found, (size_t)n, sizeof *found, compare_steps);
    *steps = found;
    *count = n;
done:
    file_list_release(&names);
    return st;
}

mt_status checkpoint_list(const char *run_dir, int64_t **steps, int32_t *count)
{
    char *folder;
    MT_TRY(folder_of(&folder, run_dir));
    mt_status st = list_steps(folder, "", steps, count);
    mt_free(&folder);
    return st;
}

/* Gives back its name to a checkpoint that was set aside when its replacement did not arrive. */
static mt_status set_back(const char *run_dir)
{
    char *folder = NULL, *aside = NULL, *path = NULL;
    int64_t *steps = NULL;
    int32_t count = 0;
    mt_status st;
    MT_TRY_GOTO(st, folder_of(&folder, run_dir), done);
    MT_TRY_GOTO(st, list_steps(folder, CHECKPOINT_ASIDE, &steps, &count), done);
    for (int32_t i = 0; i < count; i++) {
        mt_free(&aside);
        mt_free(&path);
        MT_TRY_GOTO(st, checkpoint_format_path(&aside, folder, CHECKPOINT_ASIDE, steps[i]), done);
        MT_TRY_GOTO(st, checkpoint_format_path(&path, folder, "", steps[i]), done);
        if (!file_exists(path))
            MT_TRY_GOTO(st, file_rename(aside, path), done);
    }
done:
    mt_free(&folder);
    mt_free(&aside);
    mt_free(&path);
    mt_free(&steps);
    return st;
}

mt_status checkpoint_find_newest_valid(const char *run_dir, char out[CHECKPOINT_PATH_BYTES],
                                       int64_t *step, checkpoint_note note, void *context)
{
    int64_t *steps = NULL, newest = -1;
    int32_t count;
    char path[CHECKPOINT_PATH_BYTES] = "";
    MT_TRY(set_back(run_dir));
    MT_TRY(checkpoint_list(run_dir, &steps, &count));
    mt_status st = MT_OK;
    for (int32_t i = count - 1; i >= 0 && newest < 0; i--) {
        char text[MT_MESSAGE_BYTES + 64];
        MT_TRY_GOTO(st, checkpoint_path(path, run_dir, steps[i]), done);
        mt_status verdict = checkpoint_verify(path);
        if (verdict == MT_OK) {
            newest = steps[i];
            break;
        }
        if (verdict == MT_NOMEM) { /* says nothing about the checkpoint */
            st = verdict;
            goto done;
        }
        (void)snprintf(text, sizeof text, "checkpoint skipped: %s", mt_error_peek()->message);
        mt_error_clear();
        if (note != NULL)
            note(context, text);
    }
    (void)snprintf(out, CHECKPOINT_PATH_BYTES, "%s", newest < 0 ? "" : path);
    *step = newest;
done:
    mt_free(&steps);
    return st;
}

mt_status checkpoint_set_link(const char *run_dir, const char *name, int64_t step)
{
    char target[64];
    char *folder = NULL, *link = NULL;
    mt_status st;
    if (!manifest_name_is_plain(name))
        return MT_FAIL(MT_ARG, "%s: no name for a link", name);
    (void)snprintf(target, sizeof target, "step-%08" PRId64, step);
    MT_TRY_GOTO(st, folder_of(&folder, run_dir), done);
    MT_TRY_GOTO(st, file_path_join(&link, folder, name), done);
    MT_TRY_GOTO(st, file_symlink_atomic(target, link), done);
done:
    mt_free(&folder);
    mt_free(&link);
    return st;
}

int64_t checkpoint_get_link(const char *run_dir, const char *name)
{
    char link[CHECKPOINT_PATH_BYTES], target[64];
    int n = snprintf(link, sizeof link, "%s/checkpoints/%s", run_dir, name);
    if (n < 0 || (size_t)n >= sizeof link)
        return -1;
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0)
        return -1;
    target[length] = '\0';
    return checkpoint_parse_name(target, "");
}

/* Out of sight in one step, then off the disk. */
static mt_status remove_step(const char *folder, int64_t step)
{
    char *path = NULL, *temp = NULL;
    mt_status st;
    MT_TRY_GOTO(st, checkpoint_format_path(&path, folder, "", step), done);
    MT_TRY_GOTO(st, checkpoint_format_path(&temp, folder, ".tmp", step), done);
    if (checkpoint_temp_is_in_use(temp))
        goto done; /* this very step is being written again */
    MT_TRY_GOTO(st, file_remove(temp), done);
    MT_TRY_GOTO(st, file_rename(path, temp), done);
    MT_TRY_GOTO(st, file_remove(temp), done);
done:
    mt_free(&path);
    mt_free(&temp);
    return st;
}

mt_status checkpoint_drop_after(const char *run_dir, int64_t step)
{
    char *folder = NULL;
    int64_t *steps = NULL;
    int32_t count = 0;
    mt_status st;
    MT_TRY_GOTO(st, folder_of(&folder, run_dir), done);
    MT_TRY_GOTO(st, list_steps(folder, "", &steps, &count), done);
    for (int32_t i = count - 1; i >= 0 && steps[i] > step; i--)
        MT_TRY_GOTO(st, remove_step(folder, steps[i]), done);
done:
    mt_free(&steps);
    mt_free(&folder);
    return st;
}

static mt_status remove_stale(const char *folder)
{
    struct file_list names;
    MT_TRY(file_list_read(&names, folder));
    mt_status st = MT_OK;
    for (int32_t i = 0; i < names.count; i++) {
        const char *name = names.names[i];
        char *path;
        if (checkpoint_parse_name(name, ".tmp") < 0 &&
            checkpoint_parse_name(name, CHECKPOINT_ASIDE) < 0)
            continue;
        MT_TRY_GOTO(st, file_path_join(&path, folder, name), done);
        st = checkpoint_temp_is_in_use(path) ? MT_OK : file_remove(path);
        mt_free(&path);
        if (st != MT_OK)
            goto done;
    }
done:
    file_list_release(&names);
    return st;
}

/* Whether a name in base/ is that of the shared file `file` ("base/HASH.h5") or of its record. */
static bool is_file_or_record(const char *name, const char *file)
{
    size_t stem = strcspn(name, ".");
    return strncmp(file + 5, name, stem) == 0 && file[5 + stem] == '.' &&
           (strcmp(name + stem, ".h5") == 0 || strcmp(name + stem, ".json") == 0);
}

/* Marks the names of base/ that the visible checkpoint of a step refers to. */
static mt_status mark_shared(const char *folder, int64_t step, const struct file_list *names,
                             uint8_t *used)
{
    char *dir = NULL, *path = NULL;
    struct manifest m = {0};
    mt_status st;
    MT_TRY_GOTO(st, checkpoint_format_path(&dir, folder, "", step), done);
    MT_TRY_GOTO(st, file_path_join(&path, dir, CHECKPOINT_MANIFEST), done);
    if (file_exists(path))
        st = manifest_read(&m, path);
    if (st == MT_DATA) { /* damaged: it is no checkpoint, and refers to nothing */
        mt_error_clear();
        st = MT_OK;
    }
    if (st != MT_OK)
        goto done;
    for (int32_t f = 0; f < m.file_count; f++)
        for (int32_t i = 0; i < names->count; i++)
            if (m.file[f].shared && is_file_or_record(names->names[i], m.file[f].name))
                used[i] = 1;
done:
    manifest_release(&m);
    mt_free(&dir);
    mt_free(&path);
    return st;
}

/* Removes shared files that no visible checkpoint refers to. */
static mt_status remove_unshared(const char *folder)
{
    char *base = NULL;
    struct file_list names = {NULL, 0};
    uint8_t *used = NULL;
    int64_t *steps = NULL;
    int32_t count;
    mt_status st;
    MT_TRY_GOTO(st, file_path_join(&base, folder, "base"), done);
    if (!file_is_dir(base) || checkpoint_temp_is_in_use(NULL))
        goto done; /* a checkpoint under way may refer to any of them */
    MT_TRY_GOTO(st, file_list_read(&names, base), done);
    MT_TRY_GOTO(st, mt_alloc(&used, names.count, 1, "marks of shared files"), done);
    MT_TRY_GOTO(st, list_steps(folder, "", &steps, &count), done);
    for (int32_t i = 0; i < count; i++)
        MT_TRY_GOTO(st, mark_shared(folder, steps[i], &names, used), done);
    for (int32_t i = 0; i < names.count; i++) {
        char *path;
        if (used[i])
            continue;
        MT_TRY_GOTO(st, file_path_join(&path, base, names.names[i]), done);
        st = file_remove(path);
        mt_free(&path);
        if (st != MT_OK)
            goto done;
    }
done:
    file_list_release(&names);
    mt_free(&base);
    mt_free(&used);
    mt_free(&steps);
    return st;
}

static bool is_pinned(const char *run_dir, int64_t step, const int64_t *pinned, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if (pinned[i] == step)
            return true;
    return checkpoint_get_link(run_dir, "latest") == step ||
           checkpoint_get_link(run_dir, "best") == step;
}

/* Removes old checkpoints, given the newest one that was verified in full. */
static mt_status remove_old(const char *run_dir, const char *folder, int64_t newest,
                            int32_t keep_last, const int64_t *pinned, int32_t pinned_count)
{
    int64_t *steps;
    int32_t count, kept = 1;
    MT_TRY(checkpoint_list(run_dir, &steps, &count));
    mt_status st = MT_OK;
    for (int32_t i = count - 1; i >= 0; i--) {
        char path[CHECKPOINT_PATH_BYTES];
        struct checkpoint_reader *r = NULL;
        if (steps[i] >= newest)
            continue;
        if (kept < keep_last) {
            MT_TRY_GOTO(st, checkpoint_path(path, run_dir, steps[i]), done);
            st = checkpoint_open(&r, path, false);
            checkpoint_close(&r);
            if (st == MT_OK)
                kept++;
            if (st != MT_DATA && st != MT_OK)
                goto done;
            if (st == MT_OK)
                continue;
            mt_error_clear();
            st = MT_OK;
        }
        if (!is_pinned(run_dir, steps[i], pinned, pinned_count))
            MT_TRY_GOTO(st, remove_step(folder, steps[i]), done);
    }
done:
    mt_free(&steps);
    return st;
}

mt_status checkpoint_remove_leftovers(const char *run_dir)
{
    char *folder = NULL;
    mt_status st;
    MT_TRY_GOTO(st, set_back(run_dir), done);
    MT_TRY_GOTO(st, folder_of(&folder, run_dir), done);
    if (!file_is_dir(folder))
        goto done;
    MT_TRY_GOTO(st, leftovers_remove(folder, NULL, 0.0), done);
    MT_TRY_GOTO(st, remove_stale(folder), done);
    MT_TRY_GOTO(st, remove_unshared(folder), done);
done:
    mt_free(&folder);
    return st;
}

mt_status checkpoint_retain(const char *run_dir, int32_t keep_last, const int64_t *pinned,
                            int32_t pinned_count)
{
    char *folder = NULL;
    char path[CHECKPOINT_PATH_BYTES];
    int64_t *steps = NULL, newest = -1;
    int32_t count;
    mt_status st;
    MT_TRY_GOTO(st, set_back(run_dir), done);
    MT_TRY_GOTO(st, folder_of(&folder, run_dir), done);
    if (!file_is_dir(folder))
        goto done;
    MT_TRY_GOTO(st, checkpoint_list(run_dir, &steps, &count), done);
    if (count > (keep_last < 1 ? 1 : keep_last)) {
        MT_TRY_GOTO(st, checkpoint_find_newest_valid(run_dir, path, &newest, NULL, NULL), done);
        if (newest >= 0)
            MT_TRY_GOTO(st, remove_old(run_dir, folder, newest, keep_last, pinned, pinned_count),
                        done);
    }
    MT_TRY_GOTO(st, remove_stale(folder), done);
    MT_TRY_GOTO(st, remove_unshared(folder), done);
done:
    mt_free(&steps);
    mt_free(&folder);
    return st;
}

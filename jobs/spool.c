/* See spool.h.  Plain renames: no lock file, no database; the folder is the state. */
#include "jobs/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/base/memory.h"

const char *spool_place_name(enum spool_place place)
{
    static const char *const names[SPOOL_PLACES] = {"queue", "running", "done", "failed"};
    return (unsigned)place < SPOOL_PLACES ? names[place] : "?";
}

static mt_status make_folder(const char *path)
{
    struct stat s;
    if (mkdir(path, 0777) == 0)
        return MT_OK;
    int error = errno;
    if (error == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode))
        return MT_OK;
    return MT_FAIL(MT_IO, "cannot make the folder %s: %s", path,
                   strerror(error == EEXIST ? ENOTDIR : error));
}

static mt_status folder_path(const char *spool, enum spool_place place, char path[SPOOL_PATH_BYTES])
{
    int n = snprintf(path, SPOOL_PATH_BYTES, "%s/%s", spool, spool_place_name(place));
    if (n < 0 || n >= SPOOL_PATH_BYTES)
        return MT_FAIL(MT_ARG, "the spool's path is too long: %.80s...", spool);
    return MT_OK;
}

mt_status spool_path(const char *spool, enum spool_place place, const char *name,
                     char path[SPOOL_PATH_BYTES])
{
    int n = snprintf(path, SPOOL_PATH_BYTES, "%s/%s/%s", spool, spool_place_name(place), name);
    if (n < 0 || n >= SPOOL_PATH_BYTES)
        return MT_FAIL(MT_ARG, "the spool's path is too long: %.80s...", spool);
    return MT_OK;
}

mt_status spool_open(const char *spool)
{
    char path[SPOOL_PATH_BYTES];
    MT_TRY(make_folder(spool));
    for (int p = 0; p < SPOOL_PLACES; p++) {
        MT_TRY(folder_path(spool, (enum spool_place)p, path));
        MT_TRY(make_folder(path));
    }
    return MT_OK;
}

static bool is_job(const char *name)
{
    size_t n = strlen(name);
    return name[0] != '.' && n > 4 && n < SPOOL_NAME_BYTES - 16 &&
           strcmp(name + n - 4, ".cfg") == 0;
}

/* Counts the jobs of a folder and finds the first by name; name may be NULL. */
static mt_status read_folder(const char *spool, enum spool_place place, char *name, int64_t *count)
{
    char path[SPOOL_PATH_BYTES], job[SPOOL_PATH_BYTES];
    MT_TRY(folder_path(spool, place, path));
    DIR *dir = opendir(path);
    if (dir == NULL)
        return MT_FAIL(MT_IO, "cannot list %s: %s", path, strerror(errno));
    mt_status st = MT_OK;
    const struct dirent *e;
    *count = 0;
    if (name != NULL)
        name[0] = '\0';
    while (errno = 0, (e = readdir(dir)) != NULL) {
        struct stat s;
        if (!is_job(e->d_name) || spool_path(spool, place, e->d_name, job) != MT_OK ||
            stat(job, &s) != 0 || !S_ISREG(s.st_mode))
            continue;
        ++*count;
        if (name != NULL && (name[0] == '\0' || strcmp(e->d_name, name) < 0))
            (void)snprintf(name, SPOOL_NAME_BYTES, "%s", e->d_name);
    }
    if (errno != 0)
        st = MT_FAIL(MT_IO, "cannot list %s: %s", path, strerror(errno));
    (void)closedir(dir);
    return st;
}

mt_status spool_first(const char *spool, enum spool_place place, char name[SPOOL_NAME_BYTES])
{
    int64_t count;
    return read_folder(spool, place, name, &count);
}

mt_status spool_count(const char *spool, enum spool_place place, int64_t *count)
{
    return read_folder(spool, place, NULL, count);
}

/* Makes names in a folder durable; a file system that cannot is not worse than before. */
static void sync_folder(const char *spool, enum spool_place place)
{
    char path[SPOOL_PATH_BYTES];
    if (folder_path(spool, place, path) != MT_OK)
        return;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    (void)close(fd);
}

/* A path in `place` for the job that no file has: NAME.cfg, else NAME.2.cfg, NAME.3.cfg ... */
static mt_status free_path(const char *spool, enum spool_place place, const char *name,
                           char path[SPOOL_PATH_BYTES])
{
    char other[SPOOL_NAME_BYTES];
    struct stat s;
    MT_TRY(spool_path(spool, place, name, path));
    for (int i = 2; lstat(path, &s) == 0; i++) {
        int stem = (int)strlen(name) - 4;
        int n = snprintf(other, sizeof other, "%.*s.%d.cfg", stem, name, i);
        if (n < 0 || n >= (int)sizeof other || i > 1000000)
            return MT_FAIL(MT_IO, "too many jobs named %s in %s", name, spool_place_name(place));
        MT_TRY(spool_path(spool, place, other, path));
    }
    return MT_OK;
}

mt_status spool_take(const char *spool, const char *name, bool *taken)
{
    char from[SPOOL_PATH_BYTES], to[SPOOL_PATH_BYTES];
    struct stat s;
    MT_TRY(spool_path(spool, SPOOL_QUEUE, name, from));
    MT_TRY(spool_path(spool, SPOOL_RUNNING, name, to));
    if (lstat(to, &s) == 0)
        return MT_FAIL(MT_IO, "%s stands in running/ already", name);
    if (rename(from, to) == 0) {
        sync_folder(spool, SPOOL_RUNNING);
        sync_folder(spool, SPOOL_QUEUE);
        *taken = true;
        return MT_OK;
    }
    if (errno != ENOENT)
        return MT_FAIL(MT_IO, "cannot move %s to %s: %s", from, to, strerror(errno));
    *taken = false;
    return MT_OK;
}

static mt_status write_why(const char *path, const char *why)
{
    FILE *f = fopen(path, "we");
    if (f == NULL)
        return MT_FAIL(MT_IO, "cannot write %s: %s", path, strerror(errno));
    size_t n = strlen(why);
    bool good =
        fwrite(why, 1, n, f) == n && (n > 0 && why[n - 1] == '\n' ? true : fputc('\n', f) != EOF);
    good = fflush(f) == 0 && good;
    good = fsync(fileno(f)) == 0 && good;
    int error = errno;
    if (fclose(f) != 0 || !good)
        return MT_FAIL(MT_IO, "cannot write %s: %s", path, strerror(error));
    return MT_OK;
}

mt_status spool_finish(const char *spool, const char *name, enum spool_place place, const char *why)
{
    char from[SPOOL_PATH_BYTES], to[SPOOL_PATH_BYTES], beside[SPOOL_PATH_BYTES + 8];
    MT_TRY(spool_path(spool, SPOOL_RUNNING, name, from));
    MT_TRY(free_path(spool, place, name, to));
    if (why != NULL) {
        (void)snprintf(beside, sizeof beside, "%s.why", to);
        MT_TRY(write_why(beside, why));
    }
    if (rename(from, to) != 0)
        return MT_FAIL(MT_IO, "cannot move %s to %s: %s", from, to, strerror(errno));
    sync_folder(spool, place);
    sync_folder(spool, SPOOL_RUNNING);
    return MT_OK;
}

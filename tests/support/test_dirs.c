/* See test_dirs.h.  Forked children leave the removal to the process that made the folder. */
#include "tests/support/test_dirs.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static char folder[TEST_PATH_BYTES];
static pid_t owner;

static void die(const char *what, const char *path)
{
    fprintf(stderr, "cannot %s %s\n", what, path);
    exit(1);
}

const char *test_dir(void)
{
    if (folder[0] != '\0')
        return folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/mttrain-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        die("make the folder", folder);
    if (owner == 0)
        atexit(test_dir_remove);
    owner = getpid();
    return folder;
}

void test_dir_in_memory(void)
{
    const unsigned long room_bytes = 16UL << 20;
    struct statvfs info;
    if (access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &info) == 0 &&
        info.f_bavail >= room_bytes / info.f_frsize)
        (void)setenv("TMPDIR", "/dev/shm", 0);
}

const char *test_path(const char *name)
{
    static char path[8][TEST_PATH_BYTES + 256];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", test_dir(), name);
    return p;
}

const char *test_write_file(const char *name, const void *bytes, long count)
{
    const char *path = test_path(name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, (size_t)count, f) != (size_t)count || fclose(f) != 0)
        die("write", path);
    return path;
}

const char *test_write_text(const char *name, const char *text)
{
    return test_write_file(name, text, (long)strlen(text));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void test_dir_remove(void)
{
    if (folder[0] == '\0' || owner != getpid())
        return;
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    folder[0] = '\0';
}

/*
 * See config.h.  The bundle: all files of a job as one text.
 *
 * A small scanner knows strings, comments and numbers, which is enough to find every @include
 * wherever it stands, and to mend two things that libconfig 1.5 does silently: a whole number past
 * 32 bits is wrapped (it gets the suffix L here) and a comment that is never closed is accepted.
 * Comments are dropped on the way.  libconfig's own includes were refused: they are relative to
 * the working folder, cannot be searched for, and would be read again on every rank.
 */
#include "schedules/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/base/memory.h"
#include "schedules/config_scan.h"
#include "schedules/text.h"

#ifndef MT_SCHEDULES_DIR
#define MT_SCHEDULES_DIR ""
#endif

struct bundle {
    struct text out;
    int32_t depth, includes;
    dev_t device[CONFIG_INCLUDE_DEPTH];
    ino_t inode[CONFIG_INCLUDE_DEPTH];
};

static mt_status read_all(int fd, const char *path, char **text, int64_t *count)
{
    struct text t = {0};
    char block[16384];
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            text_release(&t);
            return MT_FAIL(MT_IO, "cannot read %s: %s", path, strerror(errno));
        }
        text_add_bytes(&t, block, n);
        if (t.count > CONFIG_BUNDLE_BYTES || memchr(block, '\0', (size_t)n) != NULL) {
            bool large = t.count > CONFIG_BUNDLE_BYTES;
            text_release(&t);
            return MT_FAIL(MT_CONFIG, "%s: %s; is this a job file?", path,
                           large ? "larger than 4 MiB" : "holds a NUL byte");
        }
    }
    *count = t.count;
    return text_finish(&t, text);
}

static mt_status add_file(struct bundle *b, const char *path);

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISDIR(s.st_mode);
}

/* Writes ROOT/NAME or ROOT/schedules/NAME to path where one is a file. */
static bool find_under(const char *root, const char *name, char path[PATH_MAX])
{
    static const char *const between[] = {"/", "/schedules/"};
    for (int i = 0; i < 2; i++) {
        int n = snprintf(path, PATH_MAX, "%s%s%s", root, between[i], name);
        if (root[0] != '\0' && n > 0 && n < PATH_MAX && is_file(path))
            return true;
    }
    return false;
}

/* The folder above the program's, with /share/mttrain. */
static void share_folder(char folder[PATH_MAX])
{
    char program[PATH_MAX];
    folder[0] = '\0';
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return;
    program[n] = '\0';
    char *slash = strrchr(program, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    if (snprintf(folder, PATH_MAX, "%s/../share/mttrain", program) >= PATH_MAX)
        folder[0] = '\0';
}

static bool find_include(const char *from, const char *name, char path[PATH_MAX])
{
    if (name[0] == '/')
        return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX && is_file(path);
    const char *slash = strrchr(from, '/');
    int folder_bytes = slash == NULL ? 0 : (int)(slash + 1 - from);
    int n = snprintf(path, PATH_MAX, "%.*s%s", folder_bytes, from, name);
    if (n > 0 && n < PATH_MAX && is_file(path))
        return true;
    char share[PATH_MAX];
    share_folder(share);
    const char *home = getenv("MTTRAIN_HOME");
    return (home != NULL && find_under(home, name, path)) || find_under(share, name, path) ||
           find_under(MT_SCHEDULES_DIR, name, path);
}

static mt_status include(void *context, struct text *out, const char *from, int32_t line,
                         const char *name)
{
    struct bundle *b = context;
    char path[PATH_MAX];
    (void)out;
    if (!find_include(from, name, path))
        return MT_FAIL(MT_CONFIG,
                       "%s:%d: cannot find \"%s\" to include: looked beside this file, in "
                       "$MTTRAIN_HOME and among the schedules that come with mttrain",
                       from, line, name);
    mt_status st = add_file(b, path);
    if (st != MT_OK && strncmp(mt_error_peek()->message, path, strlen(path)) != 0)
        mt_error_prefix("%s:%d", from, line);
    return st;
}

static mt_status enter(struct bundle *b, int fd, const char *path)
{
    struct stat s;
    if (fstat(fd, &s) != 0)
        return MT_FAIL(MT_IO, "cannot examine %s: %s", path, strerror(errno));
    if (S_ISDIR(s.st_mode))
        return MT_FAIL(MT_IO, "%s is a folder, not a job file", path);
    for (int32_t i = 0; i < b->depth; i++)
        if (b->device[i] == s.st_dev && b->inode[i] == s.st_ino)
            return MT_FAIL(MT_CONFIG, "%s includes itself", path);
    if (b->depth == CONFIG_INCLUDE_DEPTH || ++b->includes > CONFIG_INCLUDES)
        return MT_FAIL(MT_CONFIG, "%s: too many files included (at most %d deep, %d in all)", path,
                       CONFIG_INCLUDE_DEPTH, CONFIG_INCLUDES);
    b->device[b->depth] = s.st_dev;
    b->inode[b->depth++] = s.st_ino;
    return MT_OK;
}

static mt_status add_file(struct bundle *b, const char *path)
{
    for (const char *c = path; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20)
            return MT_FAIL(MT_ARG, "a file name with control characters");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return MT_FAIL(MT_CONFIG, "cannot open %s: %s", path, strerror(errno));
    char *text = NULL;
    int64_t count = 0;
    mt_status st;
    MT_TRY_GOTO(st, enter(b, fd, path), done);
    MT_TRY_GOTO(st, read_all(fd, path, &text, &count), left);
    struct config_scan scan = {.file = path, .include = include, .context = b};
    MT_TRY_GOTO(st, config_scan_text(&scan, text, count, &b->out), left);
left:
    b->depth--;
done:
    mt_free(&text);
    (void)close(fd);
    return st;
}

mt_status config_bundle_read(char **text, const char *path)
{
    char real[PATH_MAX];
    if (realpath(path, real) == NULL)
        return MT_FAIL(MT_CONFIG, "cannot open %s: %s", path, strerror(errno));
    *strrchr(real, '/') = '\0';
    struct bundle b = {.depth = 0};
    text_printf(&b.out, "#@folder %s\n", real[0] == '\0' ? "/" : real);
    mt_status st = add_file(&b, path);
    if (st == MT_OK)
        return text_finish(&b.out, text);
    text_release(&b.out);
    return st;
}

mt_status config_bundle_replace(char **text, const char *path)
{
    char found[PATH_MAX], named[PATH_MAX];
    (void)snprintf(named, sizeof named, "%s.cfg", path);
    if (!is_file(path) && !find_include("", path, found) && !find_include("", named, found))
        return MT_FAIL(MT_CONFIG,
                       "cannot find the schedule %s: looked in $MTTRAIN_HOME and among the "
                       "schedules that come with mttrain",
                       path);
    struct bundle b = {.depth = 0};
    text_printf(&b.out, "%s%s", *text, CONFIG_REPLACE_LINE);
    mt_status st = add_file(&b, is_file(path) ? path : found);
    char *both;
    if (st == MT_OK)
        st = text_finish(&b.out, &both);
    text_release(&b.out);
    if (st != MT_OK)
        return st;
    mt_free(text);
    *text = both;
    return MT_OK;
}

mt_status config_load(struct config **out, const char *path, const char *const *overrides,
                      int32_t override_count)
{
    char *text = NULL;
    MT_TRY(config_bundle_read(&text, path));
    mt_status st = config_parse(out, text, overrides, override_count);
    mt_free(&text);
    return st;
}

/* See leftovers.h. */
#include "io/leftovers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/file.h"

/* The process number of NAME.tmp-PID; 0 = a name of another kind. */
static pid_t writer_of(const char *name, const char *spared)
{
    const int64_t most = 1 << 30; /* beyond any system's pid_max */
    const char *dot = strrchr(name, '.');
    if (dot == NULL || dot == name || strncmp(dot, ".tmp-", 5) != 0)
        return 0;
    size_t digits = strspn(dot + 5, "0123456789"), stem = (size_t)(dot - name);
    if (digits == 0 || dot[5 + digits] != '\0')
        return 0;
    if (spared != NULL && stem >= strlen(spared) &&
        strncmp(dot - strlen(spared), spared, strlen(spared)) == 0)
        return 0;
    int64_t pid = 0;
    for (size_t i = 0; i < digits && pid <= most; i++)
        pid = 10 * pid + (dot[5 + i] - '0');
    return pid <= most ? (pid_t)pid : 0;
}

/* Whether a process has ended and waits for its parent to ask how; also killed ones of a lost
 * mpirun do, where process 1 is slow to ask.  Without /proc: no. */
static bool is_zombie(pid_t pid)
{
    char path[32], text[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[length] = '\0';
    const char *name_end = strrchr(text, ')'); /* of "PID (NAME) STATE ..." */
    return name_end != NULL &&
           (strncmp(name_end, ") Z", 3) == 0 || strncmp(name_end, ") X", 3) == 0);
}

static bool lives(pid_t pid)
{
    return pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM) && !is_zombie(pid);
}

/* One that was killed a moment ago may still be on its way out.  naps: what is left of those that a
 * call may take, however many files living writers have there. */
static bool stays(pid_t pid, int *naps)
{
    const double nap_s = 0.05;
    for (; lives(pid) && *naps > 0; --*naps)
        clock_sleep_s(nap_s);
    return lives(pid);
}

static bool is_touched(const char *path, double untouched_s)
{
    struct stat info;
    return untouched_s > 0.0 && lstat(path, &info) == 0 &&
           (double)(clock_wall_s() - (int64_t)info.st_mtime) < untouched_s;
}

mt_status leftovers_remove(const char *dir, const char *spared, double untouched_s)
{
    struct file_list list;
    if (!file_is_dir(dir))
        return MT_OK;
    MT_TRY(file_list_read(&list, dir));
    mt_status st = MT_OK;
    int naps = 20;
    for (int32_t i = 0; i < list.count; i++) {
        char *path;
        pid_t pid = writer_of(list.names[i], spared);
        if (pid == 0 || stays(pid, &naps))
            continue;
        MT_TRY_GOTO(st, file_path_join(&path, dir, list.names[i]), done);
        st = is_touched(path, untouched_s) ? MT_OK : file_remove(path);
        mt_free(&path);
        if (st != MT_OK)
            goto done;
    }
done:
    file_list_release(&list);
    return st;
}

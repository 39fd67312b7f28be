/*
 * See folder_lock.h.
 *
 * Open-file-description locks: unlike flock they reach an NFS server, and unlike plain fcntl locks
 * they are not dropped when some other descriptor of the file is closed.  Since the file is removed
 * at the end, a lock counts only if its file still has its name.
 */
#include "io/folder_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "comm/base/clock.h"
#include "comm/base/memory.h"
#include "io/file.h"

enum { TRIES = 16 };

static mt_status fail(const char *action, const char *path)
{
    return MT_FAIL(MT_IO, "%s: cannot %s: %s; check permissions and space of the folder", path,
                   action, strerror(errno));
}

static void own_host(char host[64])
{
    if (gethostname(host, 64) != 0 || host[0] == '\0')
        (void)snprintf(host, 64, "unknown");
    host[63] = '\0';
}

/* The record of an open lock file; what is not printable ends it. */
static void read_record(int fd, char text[FOLDER_LOCK_TEXT_BYTES])
{
    ssize_t n = pread(fd, text, FOLDER_LOCK_TEXT_BYTES - 1, 0);
    size_t end = 0;
    while (n > 0 && end < (size_t)n && text[end] >= ' ' && text[end] <= '~')
        end++;
    text[end] = '\0';
}

static void parse_record(const char *text, struct folder_holder *out)
{
    const char *most = "0123456789";
    memset(out, 0, sizeof *out);
    size_t host = strcspn(text, " "), digits;
    if (text[host] == '\0')
        return;
    (void)snprintf(out->host, sizeof out->host, "%.*s", (int)(host < 63 ? host : 63), text);
    text += host + 1;
    digits = strspn(text, most);
    for (size_t i = 0; i < digits && i < 12; i++)
        out->pid = 10 * out->pid + (text[i] - '0');
    text += digits;
    (void)snprintf(out->since, sizeof out->since, "%.30s", *text == ' ' ? text + 1 : "");
}

/* Whether the name still leads to the open file. */
static bool has_its_name(int fd, const char *path)
{
    struct stat named, opened;
    return lstat(path, &named) == 0 && fstat(fd, &opened) == 0 && named.st_dev == opened.st_dev &&
           named.st_ino == opened.st_ino;
}

/* Opens the file and asks the kernel; *taken = not another's. */
static mt_status open_locked(struct folder_lock *l, bool *taken)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    l->fd = file_fault_now()
                ? (errno = EIO, -1)
                : open(l->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (l->fd < 0)
        return fail("open the lock of the folder", l->path);
    l->open = true;
    *taken = l->kept = true;
    if (fcntl(l->fd, F_OFD_SETLK, &whole) == 0)
        return MT_OK;
    if (errno == EAGAIN || errno == EACCES)
        *taken = false;
    else if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)
        l->kept = false;
    else
        return fail("lock the folder", l->path);
    return MT_OK;
}

static void let_go(struct folder_lock *l)
{
    if (l->open)
        (void)close(l->fd);
    mt_free(&l->path);
    memset(l, 0, sizeof *l);
}

/* Until the file that was locked is the one that has the name. */
static mt_status lock_by_name(struct folder_lock *l, const char *dir, bool *taken)
{
    mt_status st;
    MT_TRY(file_path_join(&l->path, dir, "lock"));
    for (int i = 0; i < TRIES; i++) {
        MT_TRY_GOTO(st, open_locked(l, taken), failed);
        if (!*taken || has_its_name(l->fd, l->path))
            return MT_OK;
        (void)close(l->fd);
        l->open = false;
    }
    st = MT_FAIL(MT_IO, "%s: comes and goes; is another program started here over and over?",
                 l->path);
failed:
    let_go(l);
    return st;
}

mt_status folder_lock_try(struct folder_lock *l, const char *dir, enum folder_lock_state *state,
                          struct folder_holder *other)
{
    char text[FOLDER_LOCK_TEXT_BYTES], host[64], iso[CLOCK_TEXT_BYTES];
    bool taken;
    memset(l, 0, sizeof *l);
    MT_TRY(lock_by_name(l, dir, &taken));
    read_record(l->fd, text);
    parse_record(text, other);
    if (!taken) {
        let_go(l);
        *state = FOLDER_LOCK_HELD;
        return MT_OK;
    }
    own_host(host);
    clock_format_iso(iso);
    (void)snprintf(l->record, sizeof l->record, "%s %ld %s", host, (long)getpid(), iso);
    *state = FOLDER_LOCK_DOUBTFUL;
    if (text[0] != '\0' && (!l->kept || strcmp(other->host, host) != 0))
        return MT_OK;
    mt_status st = folder_lock_claim(l);
    if (st != MT_OK)
        let_go(l);
    else
        *state = FOLDER_LOCK_TAKEN;
    return st;
}

mt_status folder_lock_claim(struct folder_lock *l)
{
    char line[FOLDER_LOCK_TEXT_BYTES + 1];
    int bytes = snprintf(line, sizeof line, "%s\n", l->record);
    bool fails = file_fault_now();
    errno = EIO;
    if (fails || ftruncate(l->fd, 0) != 0 || pwrite(l->fd, line, (size_t)bytes, 0) != bytes)
        return fail("write the lock of the folder", l->path);
    l->claimed = true;
    return MT_OK;
}

mt_status folder_lock_check(const struct folder_lock *l)
{
    char text[FOLDER_LOCK_TEXT_BYTES];
    struct folder_holder other;
    int fd = l->claimed ? open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd < 0)
        return MT_OK;
    read_record(fd, text);
    (void)close(fd);
    if (text[0] == '\0' || strcmp(text, l->record) == 0)
        return MT_OK;
    parse_record(text, &other);
    return MT_FAIL(MT_IO,
                   "%s was taken by process %lld on %s since %s while this program worked there, "
                   "and is left to it (its file system lost the lock or keeps none); run only one "
                   "of the two",
                   l->path, (long long)other.pid, other.host, other.since);
}

void folder_lock_release(struct folder_lock *l)
{
    char text[FOLDER_LOCK_TEXT_BYTES];
    if (l->claimed && has_its_name(l->fd, l->path)) {
        read_record(l->fd, text);
        if (strcmp(text, l->record) == 0)
            (void)unlink(l->path);
    }
    let_go(l);
}

/*
 * See h5_lock.h.
 *
 * One recursive mutex.  The error stack may be one for the whole process, which is why a message
 * must be taken from it before the lock is given back; where the library is built for threads each
 * has one of its own, which prints itself unless that thread says no.
 *
 * A file whose closing failed, as on a full disk, stays open within the library, which tries again
 * at exit and crashes: so it is told to leave exits alone.
 */
#include "io/h5_lock.h"

#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"

static pthread_mutex_t lock;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void set_up(void)
{
    pthread_mutexattr_t kind;
    (void)pthread_mutexattr_init(&kind);
    (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    (void)pthread_mutex_init(&lock, &kind);
    (void)pthread_mutexattr_destroy(&kind);
    (void)H5dont_atexit();
    (void)H5open();
    (void)H5PLset_loading_state(0);
}

void h5_enter(void)
{
    (void)pthread_once(&once, set_up);
    (void)pthread_mutex_lock(&lock);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void h5_leave(void)
{
    (void)pthread_mutex_unlock(&lock);
}

struct reason {
    char text[200];
};

/* The walk goes from the outermost call to the innermost; the last one knows best.  Of what a
 * failed system call leaves there, the system's words are enough. */
static herr_t keep_reason(unsigned n, const H5E_error2_t *error, void *context)
{
    struct reason *reason = context;
    static const char mark[] = "error message = '";
    const char *text = error->desc;
    (void)n;
    if (text == NULL || text[0] == '\0')
        return 0;
    const char *words = strstr(text, mark);
    if (words != NULL)
        text = words + sizeof mark - 1;
    size_t length = words != NULL ? strcspn(text, "'") : strcspn(text, "\n");
    (void)snprintf(reason->text, sizeof reason->text, "%.*s", (int)length, text);
    return 0;
}

mt_status h5_fail(mt_status code, const char *path, const char *what)
{
    struct reason reason = {"no reason given by HDF5"};
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, &reason);
    (void)H5Eclear2(H5E_DEFAULT);
    return MT_FAIL(code, "%s: cannot %s: %s", path, what, reason.text);
}

mt_status h5_check_file(const char *path)
{
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
    unsigned char begin[9];
    int fd;
    int64_t size;
    MT_TRY(file_fd_open(&fd, &size, path));
    mt_status st = MT_OK;
    if (size >= (int64_t)sizeof begin)
        st = file_fd_read_at(fd, begin, sizeof begin, 0, path);
    file_fd_close(&fd);
    MT_TRY(st);
    if (size < (int64_t)sizeof begin || memcmp(begin, signature, sizeof signature) != 0)
        return MT_FAIL(MT_DATA, "%s: is not an HDF5 file (damaged, cut short, or another kind?)",
                       path);
    if (begin[8] < 2)
        return MT_FAIL(MT_DATA,
                       "%s: is an HDF5 file of the oldest kind, which has no checksums and is not "
                       "read; write it with libver=\"latest\", or convert it with h5repack "
                       "--low=2 --high=2",
                       path);
    return MT_OK;
}

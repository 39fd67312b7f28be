/*
 * folder_lock: one program at a time works in a folder.
 *
 * DIR/lock is locked by the kernel for as long as the holder's descriptor is open, so a holder that
 * was killed never keeps the next one out.  The file says who that is, "HOST PID SINCE", and goes
 * away when the lock is given back.
 *
 * Not every network file system keeps locks, some keep them among the processes of one host only,
 * and one that was held can be lost.  Where the record of another host's program stands in a file
 * that the kernel would give us, the lock is in doubt: the caller looks for signs of life and then
 * claims it.  A holder asks now and then whether the folder is still its own.
 *
 *     MT_TRY(folder_lock_try(&lock, dir, &state, &other));
 *     if (state == FOLDER_LOCK_DOUBTFUL && nothing moves)
 *         MT_TRY(folder_lock_claim(&lock));
 *     ... MT_TRY(folder_lock_check(&lock)) ...
 *     folder_lock_release(&lock);
 *
 * Functions here are Local.
 */
#ifndef MT_IO_FOLDER_LOCK_H
#define MT_IO_FOLDER_LOCK_H

#include "comm/base/status.h"

enum { FOLDER_LOCK_TEXT_BYTES = 192 };

struct folder_lock {
    bool open;    /* the file is; a zeroed one is not */
    bool kept;    /* the file system keeps locks */
    bool claimed; /* our record stands in it */
    int fd;
    char *path;
    char record[FOLDER_LOCK_TEXT_BYTES]; /* ours */
};

enum folder_lock_state {
    FOLDER_LOCK_TAKEN,    /* it is ours */
    FOLDER_LOCK_DOUBTFUL, /* ours once claimed, if the one named by the record is gone */
    FOLDER_LOCK_HELD      /* by another program */
};

/* Who stands in the record; empty texts = unknown. */
struct folder_holder {
    char host[64], since[32];
    int64_t pid;
};

/* Local.  Tries once, without waiting.  The folder must be there.  other: whoever holds the lock,
 * or held it last and did not give it back.  Owns: after TAKEN and DOUBTFUL the caller, until
 * release. Errors: IO, NOMEM. */
mt_status folder_lock_try(struct folder_lock *l, const char *dir, enum folder_lock_state *state,
                          struct folder_holder *other) MT_CHECKED;

/* Local.  Writes our record.  Errors: IO. */
mt_status folder_lock_claim(struct folder_lock *l) MT_CHECKED;

/* Local.  IO where another program has claimed the folder since.  A file that is gone or cannot be
 * read is no such sign; neither is a lock that was never taken. */
mt_status folder_lock_check(const struct folder_lock *l) MT_CHECKED;

/* Local.  Removes the file, if it is still ours, and lets go; accepts a zeroed one. */
void folder_lock_release(struct folder_lock *l);

#endif

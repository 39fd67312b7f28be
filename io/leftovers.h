/*
 * leftovers: what a writer that was killed left in a folder.
 *
 * A file or folder under way is named "NAME.tmp-PID" (file.h).  Who was killed has no chance to
 * remove it, so whoever takes over the folder does.  A process number says nothing about other
 * hosts: in folders that several hosts write to, only what nobody has touched for a while may go.
 *
 * Functions here are Local.
 */
#ifndef MT_IO_LEFTOVERS_H
#define MT_IO_LEFTOVERS_H

#include "comm/base/status.h"

/* Local.  Removes from `dir`, not from the folders in it, every NAME.tmp-PID that has not been
 * changed for untouched_s and whose process does not run on this host; waits a second at most
 * for such as are about to end.  One of the caller's own
 * number is left by a process of an earlier time: the caller has nothing under way there.
 * spared: NAMEs with this ending stay, NULL = none.  Absent is fine.  Errors: IO, NOMEM. */
mt_status leftovers_remove(const char *dir, const char *spared, double untouched_s) MT_CHECKED;

#endif

/*
 * h5_lock: one thread at a time in the HDF5 library, and its errors in our words.
 *
 * The serial library keeps global state and is not safe for threads.  Every use of it in this
 * program stands between h5_enter and h5_leave (which nest), and so does reading its error stack.
 * The first h5_enter also silences the library's own printing and forbids it to load plugins.
 */
#ifndef MT_IO_H5_LOCK_H
#define MT_IO_H5_LOCK_H

#include "comm/base/status.h"

void h5_enter(void);
void h5_leave(void);

/* Local.  A record "path: cannot `what`: HDF5's innermost reason"; clears HDF5's error stack.
 * To be called between h5_enter and h5_leave.  `what`: "open", "read input_ids". */
mt_status h5_fail(mt_status code, const char *path, const char *what) MT_CHECKED;

#endif

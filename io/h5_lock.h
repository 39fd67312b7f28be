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

/* Local.  DATA unless the file begins as HDF5 with a superblock of version 2 or later (format 1.8,
 * libver "v108" or "latest"): only there do all structures carry checksums.  The library crashes on
 * some damaged files of the older kind, so it is not shown them.  To be called before H5Fopen.
 * Errors: IO, DATA.  Source: HDF5 File Format Specification 3.0, II.A. */
mt_status h5_check_file(const char *path) MT_CHECKED;

#endif

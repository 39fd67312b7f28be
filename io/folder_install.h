/* folder_install: a finished folder takes its name, whether or not an older one has it. */
#ifndef MT_IO_FOLDER_INSTALL_H
#define MT_IO_FOLDER_INSTALL_H

#include "comm/base/status.h"

/* Local.  Renames the folder `temp` to `final`, durably.  An older `final` is exchanged with it in
 * one step and is then under the name `temp`; on a file system without such a call the old one is
 * renamed to `aside` first and removed last.  Errors: IO; the old one is then under `final`, or, by
 * a crash on such a file system only, under `aside`. */
mt_status folder_install(const char *temp, const char *final, const char *aside) MT_CHECKED;

#endif

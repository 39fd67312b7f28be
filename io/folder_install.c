/* See folder_install.h.  The exchange is Linux's renameat2(2) with RENAME_EXCHANGE. */
#include "io/folder_install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"

static mt_status sync_above(const char *path)
{
    char *dir;
    MT_TRY(file_path_dir(&dir, path));
    mt_status st = file_sync(dir);
    mt_free(&dir);
    return st;
}

static mt_status install_by_steps(const char *temp, const char *final, const char *aside)
{
    MT_TRY(file_remove(aside));
    MT_TRY(file_rename(final, aside));
    mt_status st = file_rename(temp, final);
    if (st != MT_OK && !file_exists(final)) {
        struct mt_error kept;
        mt_error_get(&kept);
        if (file_rename(aside, final) != MT_OK)
            (void)mt_error_set(&kept);
        return mt_error_set(&kept);
    }
    MT_TRY(st);
    return file_remove(aside);
}

mt_status folder_install(const char *temp, const char *final, const char *aside)
{
    if (!file_exists(final))
        return file_rename(temp, final);
    bool fails = file_fault_now();
    if (fails)
        errno = EIO;
    else if (renameat2(AT_FDCWD, temp, AT_FDCWD, final, RENAME_EXCHANGE) == 0)
        return sync_above(final);
    if (fails || (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP))
        return MT_FAIL(MT_IO, "%s: cannot replace the folder: %s", final, strerror(errno));
    return install_by_steps(temp, final, aside);
}

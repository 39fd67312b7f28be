/* checkpoint_paths: names that the parts of the checkpoint module share. */
#ifndef MT_IO_CHECKPOINT_PATHS_H
#define MT_IO_CHECKPOINT_PATHS_H

#include "comm/base/status.h"

#define CHECKPOINT_MANIFEST "manifest.json"
#define CHECKPOINT_ASIDE ".old.tmp" /* a checkpoint being replaced without an atomic exchange */

/* Local.  dir/step-NNNNNNNN and an ending.  Owns: the caller, mt_free. */
mt_status checkpoint_format_path(char **out, const char *dir, const char *ending,
                                 int64_t step) MT_CHECKED;

/* Local.  The step of a name "step-NNNNNNNN" followed by `ending`; -1 for any other name. */
int64_t checkpoint_parse_name(const char *name, const char *ending);

/* Local.  Whether a writer of this process is filling this .tmp folder; NULL: any at all. */
bool checkpoint_temp_is_in_use(const char *path);

#endif

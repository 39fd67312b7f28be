/* config_scan: the scanner that flattens config files; internal to schedules/config*.c. */
#ifndef MT_SCHEDULES_CONFIG_SCAN_H
#define MT_SCHEDULES_CONFIG_SCAN_H

#include "schedules/text.h"

/* Stands in a bundle between a file and another whose settings replace its own. */
#define CONFIG_REPLACE_LINE "\n#@replace\n"

struct config_scan {
    const char *file;
    /* Called at `@include "name"`; appends to out.  NULL = includes are refused. */
    mt_status (*include)(void *context, struct text *out, const char *from, int32_t line,
                         const char *name);
    void *context;
    bool markers; /* the text is a bundle: keep its marker lines, write none */
};

/* Local.  Appends the text to out without comments, includes followed, long integers marked.
 * Errors: CONFIG; those of include. */
mt_status config_scan_text(const struct config_scan *scan, const char *text, int64_t count,
                           struct text *out) MT_CHECKED;

#endif

/* lines: the lines of a text file or of standard input, one after another. */
#ifndef MT_TRAINER_LINES_H
#define MT_TRAINER_LINES_H

#include "comm/base/status.h"

enum { LINE_BYTES_MAX = 16 << 20 };

struct lines;

/* Local.  path "-" = standard input.  Owns: the caller, until lines_close.  Errors: IO, NOMEM. */
mt_status lines_open(struct lines **out, const char *path) MT_CHECKED;
void lines_close(struct lines **l);

/* Local.  The next line without its end (LF or CRLF); NULL at the end; valid until the next call.
 * Errors: IO; DATA for a line of more than LINE_BYTES_MAX. */
mt_status lines_next(struct lines *l, const char **line, int64_t *bytes) MT_CHECKED;

/* Local.  Calls `each` for every line of a file; stops at its first failure. */
typedef mt_status (*lines_visit)(void *context, const char *line, int64_t bytes);
mt_status lines_each(const char *path, lines_visit each, void *context) MT_CHECKED;

#endif

/* nearest: the name that was probably meant, for "did you mean" in messages. */
#ifndef MT_IO_NEAREST_H
#define MT_IO_NEAREST_H

#include "comm/base/status.h"

enum { NEAREST_TEXT_BYTES = 320 };

/* Local.  The name with the least edit distance (Levenshtein, letters compared without case) to
 * `asked`, or NULL where none is close.  Long names are compared by their first 64 bytes. */
const char *nearest_name(const char *asked, const char *const *names, int64_t count);

/* Local.  "a", "b", "c" and so on as far as text has room, "..." where it has none. */
void nearest_list(char text[NEAREST_TEXT_BYTES], const char *const *names, int64_t count);

#endif

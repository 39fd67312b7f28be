/* text: a string that grows; for what is printed into files and messages. */
#ifndef MT_SCHEDULES_TEXT_H
#define MT_SCHEDULES_TEXT_H

#include "comm/base/status.h"

/* Zeroed = empty.  After a failed append the text keeps what it had and `failed` stays set, so a
 * writer may append many times and ask once, with text_finish. */
struct text {
    char *bytes; /* NUL at bytes[count]; NULL while empty */
    int64_t count, capacity;
    bool failed;
};

/* Local.  Appends; never fails visibly (see above). */
void text_add(struct text *t, const char *string);
void text_add_bytes(struct text *t, const char *bytes, int64_t count);
void text_printf(struct text *t, const char *format, ...) MT_PRINTF(2, 3);

/* Local.  A quoted libconfig string. */
void text_add_quoted(struct text *t, const char *string);

/* Local.  The shortest decimal that reads back as the same double, always with a point or an
 * exponent so that libconfig takes it for a float. */
void text_add_real(struct text *t, double value);

/* Local.  Gives the string (never NULL) to the caller, who frees it with mt_free; the text is
 * empty afterwards.  Errors: NOMEM where any append failed. */
mt_status text_finish(struct text *t, char **out) MT_CHECKED;
void text_release(struct text *t);

/* Local.  The entry of names[count] nearest to `word` by edit distance, or NULL where none is near
 * enough to be meant.  For "did you mean". */
const char *text_nearest(const char *word, const char *const *names, int32_t count);

#endif

/*
 * text_buffer: a text that grows up to a limit, with one check at the end.
 *
 * Adding cannot fail in the caller's face: the first failure is remembered, what comes after it is
 * dropped, and text_buffer_check answers it.
 *
 *     struct text_buffer t;
 *     text_buffer_init(&t, 1 << 20, "the report");
 *     text_add(&t, "<p>");  text_add_escaped(&t, name);  text_addf(&t, " at %d</p>", step);
 *     MT_TRY_GOTO(st, text_buffer_check(&t), done);
 *     ... t.bytes, t.used_bytes
 * done:
 *     text_buffer_release(&t);
 */
#ifndef MT_IO_TEXT_BUFFER_H
#define MT_IO_TEXT_BUFFER_H

#include "comm/base/status.h"

struct text_buffer {
    char *bytes; /* NUL-terminated once anything was added */
    int64_t used_bytes, capacity_bytes, limit_bytes;
    const char *what;
    mt_status state;
};

/* Local.  Nothing is allocated before the first text.  `what` names it in messages; borrowed. */
void text_buffer_init(struct text_buffer *t, int64_t limit_bytes, const char *what);
void text_buffer_release(struct text_buffer *t);

/* Local.  MT_OK, or the first failure.  Errors: NOMEM, also past the limit. */
mt_status text_buffer_check(const struct text_buffer *t) MT_CHECKED;

/* Local.  The text, "" while there is none.  Borrows. */
const char *text_buffer_string(const struct text_buffer *t);

void text_add(struct text_buffer *t, const char *text);
void text_addf(struct text_buffer *t, const char *format, ...) MT_PRINTF(2, 3);

/* Local.  For the inside of an element or of a quoted attribute, XML or HTML: & < > " ' become
 * entities; control characters and bytes that are not UTF-8 become U+FFFD. */
void text_add_escaped(struct text_buffer *t, const char *text);

enum { TEXT_NUMBER_BYTES = 32 };

/* Local.  A number for people: at most `digits` significant digits, no trailing zeros, "12.5k",
 * "3.2M", "5e-05"; "-" where it is not finite. */
void text_format_number(char text[TEXT_NUMBER_BYTES], double value, int digits);

/* Local.  A count with thin groups of three: "109 482 240". */
void text_format_count(char text[TEXT_NUMBER_BYTES], int64_t value);

#endif

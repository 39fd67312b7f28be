/*
 * markup: HTML or SVG text that grows up to a limit, with one check at the end.
 *
 * Adding cannot fail in the caller's face: the first failure is remembered, what comes after it is
 * dropped, and markup_check answers it.
 *
 *     struct markup t;
 *     markup_init(&t, 1 << 20, "the report");
 *     markup_add(&t, "<p>");  markup_add_escaped(&t, name);  markup_addf(&t, " at %d</p>", step);
 *     MT_TRY_GOTO(st, markup_check(&t), done);
 *     ... t.bytes, t.used_bytes
 * done:
 *     markup_release(&t);
 */
#ifndef MT_IO_MARKUP_H
#define MT_IO_MARKUP_H

#include "comm/base/status.h"

struct markup {
    char *bytes; /* NUL-terminated once anything was added */
    int64_t used_bytes, capacity_bytes, limit_bytes;
    const char *what;
    mt_status state;
};

/* Local.  Nothing is allocated before the first text.  `what` names it in messages; borrowed. */
void markup_init(struct markup *t, int64_t limit_bytes, const char *what);
void markup_release(struct markup *t);

/* Local.  MT_OK, or the first failure.  Errors: NOMEM, also past the limit. */
mt_status markup_check(const struct markup *t) MT_CHECKED;

/* Local.  The text, "" while there is none.  Borrows. */
const char *markup_text(const struct markup *t);

void markup_add(struct markup *t, const char *text);
void markup_addf(struct markup *t, const char *format, ...) MT_PRINTF(2, 3);

/* Local.  For the inside of an element or of a quoted attribute, XML or HTML: & < > " ' become
 * entities; control characters and bytes that are not UTF-8 become U+FFFD. */
void markup_add_escaped(struct markup *t, const char *text);

enum { MARKUP_NUMBER_BYTES = 32 };

/* Local.  A number for people: at most `digits` significant digits, no trailing zeros, "12.5k",
 * "3.2M", "5e-5"; "-" where it is not finite. */
void markup_format_number(char text[MARKUP_NUMBER_BYTES], double value, int digits);

/* Local.  A whole number in groups of three: "109,482,240". */
void markup_format_count(char text[MARKUP_NUMBER_BYTES], int64_t value);

#endif

/*
 * utf8: bytes that claim to be UTF-8, decoded with bounds and with a policy for what is not.
 *
 * A sequence that is not UTF-8 decodes as one U+FFFD per maximal subpart of it (Unicode 15,
 * section 3.9, "U+FFFD Substitution of Maximal Subparts"), as Rust's String::from_utf8_lossy and
 * web browsers do.  Surrogates, overlong forms and values past U+10FFFF are not UTF-8.
 */
#ifndef MT_IO_UTF8_H
#define MT_IO_UTF8_H

#include "comm/base/status.h"

enum { UTF8_REPLACEMENT = 0xFFFD, UTF8_MAX_BYTES = 4 };

struct utf8_char {
    uint32_t code;  /* the scalar value; UTF8_REPLACEMENT where the bytes are not UTF-8 */
    int32_t bytes;  /* consumed, >= 1 */
    bool malformed; /* false for a U+FFFD that stands in the text */
};

/* Local.  Decodes the character at p < end; reads nothing at or past end. */
struct utf8_char utf8_decode(const char *p, const char *end);

/* Local.  Writes a scalar value as 1 to 4 bytes, without a NUL; answers how many. */
int32_t utf8_encode(char out[UTF8_MAX_BYTES], uint32_t code);

/* Local.  Offset of the first byte of the first malformed sequence, or -1: for the policy that
 * answers bad bytes with an error. */
int64_t utf8_first_invalid(const char *text, int64_t n_bytes);

/* Local.  How many U+FFFD replacing text takes; 0 = it is UTF-8. */
int64_t utf8_count_invalid(const char *text, int64_t n_bytes);

#endif

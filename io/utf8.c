/*
 * The idea: one decoder, and everything else is a loop over it.  It looks at the second byte with
 * the narrowed range that some first bytes ask for (E0, ED, F0, F4), which rules out overlong
 * forms, surrogates and values past U+10FFFF, and stops before the first byte that does not fit:
 * what it has consumed by then is the maximal subpart.
 * Source: the table "Well-Formed UTF-8 Byte Sequences" (3-7) of the Unicode Standard.
 */
#include "io/utf8.h"

static struct utf8_char malformed_char(int32_t bytes)
{
    return (struct utf8_char){UTF8_REPLACEMENT, bytes, true};
}

struct utf8_char utf8_decode(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char first = s[0];
    if (first < 0x80)
        return (struct utf8_char){first, 1, false};
    if (first < 0xC2 || first > 0xF4)
        return malformed_char(1);
    int32_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    uint32_t code = first & (0x7Fu >> length);
    for (int32_t i = 1; i < length; i++) {
        if (end - p <= i || s[i] < low || s[i] > high)
            return malformed_char(i);
        code = code << 6 | (s[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return (struct utf8_char){code, length, false};
}

int32_t utf8_encode(char out[UTF8_MAX_BYTES], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    int32_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int32_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF00u >> length & 0xFFu) | code);
    return length;
}

int64_t utf8_first_invalid(const char *text, int64_t n_bytes)
{
    const char *end = text + n_bytes;
    for (const char *p = text; p < end;) {
        struct utf8_char c = utf8_decode(p, end);
        if (c.malformed)
            return p - text;
        p += c.bytes;
    }
    return -1;
}

int64_t utf8_count_invalid(const char *text, int64_t n_bytes)
{
    const char *end = text + n_bytes;
    int64_t count = 0;
    for (const char *p = text; p < end;) {
        struct utf8_char c = utf8_decode(p, end);
        count += c.malformed;
        p += c.bytes;
    }
    return count;
}

/* See markup.h.  Growth by doubling, so n bytes cost O(n). */
#include "io/markup.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"

enum { FIRST_BYTES = 4096 };

void markup_init(struct markup *t, int64_t limit_bytes, const char *what)
{
    memset(t, 0, sizeof *t);
    t->limit_bytes = limit_bytes;
    t->what = what;
}

void markup_release(struct markup *t)
{
    mt_free(&t->bytes);
    t->used_bytes = t->capacity_bytes = 0;
}

mt_status markup_check(const struct markup *t)
{
    if (t->state == MT_OK)
        return MT_OK;
    return MT_FAIL(t->state, "%s does not fit memory or its limit of %lld bytes (%lld are written)",
                   t->what, (long long)t->limit_bytes, (long long)t->used_bytes);
}

const char *markup_text(const struct markup *t)
{
    return t->bytes != NULL ? t->bytes : "";
}

/* Room for `count` more bytes and the NUL. */
static bool reserve(struct markup *t, int64_t count)
{
    if (t->state != MT_OK)
        return false;
    if (count > t->limit_bytes - t->used_bytes) {
        t->state = MT_NOMEM;
        return false;
    }
    int64_t need = t->used_bytes + count + 1;
    if (need <= t->capacity_bytes)
        return true;
    int64_t capacity = t->capacity_bytes > 0 ? t->capacity_bytes : FIRST_BYTES;
    while (capacity < need)
        capacity *= 2;
    t->state = mt_grow(&t->bytes, t->capacity_bytes, capacity, 1, t->what);
    if (t->state == MT_OK)
        t->capacity_bytes = capacity;
    return t->state == MT_OK;
}

static void add_bytes(struct markup *t, const char *bytes, int64_t count)
{
    if (!reserve(t, count))
        return;
    memcpy(t->bytes + t->used_bytes, bytes, (size_t)count);
    t->used_bytes += count;
    t->bytes[t->used_bytes] = '\0';
}

void markup_add(struct markup *t, const char *text)
{
    add_bytes(t, text, (int64_t)strlen(text));
}

void markup_addf(struct markup *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (count >= 0 && reserve(t, count)) {
        (void)vsnprintf(t->bytes + t->used_bytes, (size_t)count + 1, format, again);
        t->used_bytes += count;
    }
    va_end(again);
}

/* Bytes of the UTF-8 character at p, which ends in a NUL; 0 where there is none that XML allows. */
static int utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 || p[0] == '\t' || p[0] == '\n' ? p[0] != 0x7F : 0;
    int length = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    for (int i = 1; i < length; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xF0 && p[1] < 0x90);
    bool surrogate = p[0] == 0xED && p[1] >= 0xA0, too_high = p[0] == 0xF4 && p[1] >= 0x90;
    bool not_a_character = p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE;
    return overlong || surrogate || too_high || not_a_character ? 0 : length;
}

void markup_add_escaped(struct markup *t, const char *text)
{
    for (const char *p = text; *p != '\0';) {
        int length = utf8_length((const unsigned char *)p);
        if (length == 0)
            markup_add(t, "\xEF\xBF\xBD");
        else if (*p == '&')
            markup_add(t, "&amp;");
        else if (*p == '<')
            markup_add(t, "&lt;");
        else if (*p == '>')
            markup_add(t, "&gt;");
        else if (*p == '"')
            markup_add(t, "&quot;");
        else if (*p == '\'')
            markup_add(t, "&#39;");
        else
            add_bytes(t, p, length);
        p += length > 0 ? length : 1;
    }
}

/* "5.0e-05" and "1.20" without what says nothing. */
static void trim_number(char *text)
{
    char *exponent = strchr(text, 'e');
    char tail[16] = "";
    if (exponent != NULL) {
        const char *digits = exponent + 1;
        bool negative = *digits == '-';
        while (*digits == '+' || *digits == '-' || *digits == '0')
            digits++;
        (void)snprintf(tail, sizeof tail, "e%s%s", negative ? "-" : "", digits);
        *exponent = '\0';
    }
    size_t end = strlen(text);
    if (strchr(text, '.') != NULL) {
        while (text[end - 1] == '0')
            end--;
        if (text[end - 1] == '.')
            end--;
    }
    memcpy(text + end, tail, strlen(tail) + 1);
}

void markup_format_number(char text[MARKUP_NUMBER_BYTES], double value, int digits)
{
    static const struct {
        double unit;
        const char *suffix;
    } UNITS[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    if (!isfinite(value)) {
        (void)snprintf(text, MARKUP_NUMBER_BYTES, "-");
        return;
    }
    digits = digits < 1 ? 1 : digits > 15 ? 15 : digits;
    double size = fabs(value);
    if (size > 0 && (size < 1e-3 || size >= 1e15)) {
        (void)snprintf(text, MARKUP_NUMBER_BYTES, "%.*e", digits - 1, value);
        trim_number(text);
        return;
    }
    const char *suffix = "";
    if (size >= 9999.5) {
        for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
            if (size >= UNITS[i].unit * (1 - 5e-4)) {
                value /= UNITS[i].unit;
                suffix = UNITS[i].suffix;
                break;
            }
        }
    }
    int whole = fabs(value) < 1 ? 0 : 1 + (int)floor(log10(fabs(value)));
    int zeros = fabs(value) < 1 && value != 0 ? (int)floor(-log10(fabs(value))) : 0;
    int decimals = digits - whole + zeros;
    (void)snprintf(text, MARKUP_NUMBER_BYTES - 2, "%.*f", decimals > 0 ? decimals : 0, value);
    trim_number(text);
    size_t end = strlen(text);
    memcpy(text + end, suffix, strlen(suffix) + 1);
}

void markup_format_count(char text[MARKUP_NUMBER_BYTES], int64_t value)
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%lld", (long long)value), at = 0;
    for (int i = 0; i < count; i++) {
        bool sign = i == 1 && digits[0] == '-';
        if (i > 0 && !sign && (count - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
}

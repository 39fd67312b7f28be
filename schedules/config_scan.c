/* See config_scan.h and the head of config.c.  One pass, one character of look-ahead. */
#include "schedules/config_scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "schedules/config.h"

struct scanner {
    const struct config_scan *scan;
    const char *at, *end; /* *end is NUL */
    int32_t line;
    struct text *out;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
           c == '-' || c == '*';
}

static void copy_to(struct scanner *s, const char *end)
{
    text_add_bytes(s->out, s->at, end - s->at);
    s->at = end;
}

static mt_status scan_string(struct scanner *s)
{
    int32_t first = s->line;
    const char *c = s->at + 1;
    for (; c < s->end && *c != '"'; c++) {
        if (*c == '\n')
            s->line++;
        if (*c == '\\' && c + 1 < s->end) {
            c++;
            if (*c == '\n')
                s->line++;
        }
    }
    if (c >= s->end)
        return MT_FAIL(MT_CONFIG, "%s:%d: a string that is never closed", s->scan->file, first);
    copy_to(s, c + 1);
    return MT_OK;
}

static mt_status scan_comment(struct scanner *s)
{
    if (s->at[0] == '/' && s->at[1] == '*') {
        int32_t first = s->line;
        const char *c = s->at + 2;
        for (; c < s->end && !(c[0] == '*' && c[1] == '/'); c++) {
            if (*c != '\n')
                continue;
            s->line++;
            text_add(s->out, "\n");
        }
        if (c >= s->end)
            return MT_FAIL(MT_CONFIG, "%s:%d: a comment that is never closed", s->scan->file,
                           first);
        text_add(s->out, " ");
        s->at = c + 2;
        return MT_OK;
    }
    const char *c = s->at;
    while (c < s->end && *c != '\n')
        c++;
    if (s->scan->markers && s->at[1] == '@')
        copy_to(s, c);
    s->at = c;
    return MT_OK;
}

static mt_status scan_number(struct scanner *s)
{
    const char *c = s->at;
    bool hex = false;
    bool real = false;
    if (*c == '+' || *c == '-')
        c++;
    if (c[0] == '0' && (c[1] == 'x' || c[1] == 'X')) {
        hex = true;
        c += 2;
        while (is_digit(*c) || (*c >= 'a' && *c <= 'f') || (*c >= 'A' && *c <= 'F'))
            c++;
    } else {
        while (is_digit(*c) || *c == '.' ||
               ((*c == '-' || *c == '+') && (c[-1] == 'e' || c[-1] == 'E')) || *c == 'e' ||
               *c == 'E') {
            real = real || !is_digit(*c);
            c++;
        }
    }
    errno = 0;
    if (real && !isfinite(strtod(s->at, NULL)))
        return MT_FAIL(MT_CONFIG, "%s:%d: a number out of range: %.*s", s->scan->file, s->line,
                       (int)(c - s->at < 40 ? c - s->at : 40), s->at);
    errno = 0;
    long long value = real ? 0 : strtoll(s->at, NULL, hex ? 16 : 10);
    if (!real && errno == ERANGE)
        return MT_FAIL(MT_CONFIG, "%s:%d: a whole number past 64 bits: %.*s", s->scan->file,
                       s->line, (int)(c - s->at < 40 ? c - s->at : 40), s->at);
    copy_to(s, c);
    if (!real && *c != 'L' && (value > INT32_MAX || value < INT32_MIN))
        text_add(s->out, "L");
    return MT_OK;
}

static void add_marker(struct scanner *s)
{
    if (s->scan->markers)
        return;
    if (s->out->count > 0 && s->out->bytes != NULL && s->out->bytes[s->out->count - 1] != '\n')
        text_add(s->out, "\n");
    text_printf(s->out, "#@ %d %s\n", s->line, s->scan->file);
}

static mt_status scan_include(struct scanner *s)
{
    enum { NAME_BYTES = 1024 };
    char name[NAME_BYTES];
    const char *c = s->at + strlen("@include");
    while (*c == ' ' || *c == '\t')
        c++;
    size_t n = *c == '"' ? strcspn(c + 1, "\"\n\\") : 0;
    if (n == 0 || c[1 + n] != '"' || n >= NAME_BYTES)
        return MT_FAIL(MT_CONFIG, "%s:%d: expected @include \"FILE\"", s->scan->file, s->line);
    if (s->scan->include == NULL)
        return MT_FAIL(MT_CONFIG, "%s:%d: @include is not possible here", s->scan->file, s->line);
    memcpy(name, c + 1, n);
    name[n] = '\0';
    s->at = c + n + 2;
    while (*s->at == ' ' || *s->at == '\t')
        s->at++;
    if (*s->at == ';')
        s->at++;
    MT_TRY(s->scan->include(s->scan->context, s->out, s->scan->file, s->line, name));
    add_marker(s);
    return MT_OK;
}

static mt_status scan_token(struct scanner *s)
{
    char c = *s->at;
    if (c == '"')
        return scan_string(s);
    if (c == '#' || (c == '/' && (s->at[1] == '/' || s->at[1] == '*')))
        return scan_comment(s);
    if (strncmp(s->at, "@include", 8) == 0)
        return scan_include(s);
    if (is_digit(c) || ((c == '.' || c == '-' || c == '+') &&
                        (is_digit(s->at[1]) || (c != '.' && s->at[1] == '.'))))
        return scan_number(s);
    const char *end = s->at + 1;
    if (is_name(c) && c != '-')
        while (end < s->end && is_name(*end))
            end++;
    if (c == '\n')
        s->line++;
    copy_to(s, end);
    return MT_OK;
}

mt_status config_scan_text(const struct config_scan *scan, const char *text, int64_t count,
                           struct text *out)
{
    struct scanner s = {scan, text, text + count, 1, out};
    if (count >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        s.at += 3;
    add_marker(&s);
    while (s.at < s.end) {
        MT_TRY(scan_token(&s));
        if (out->count > CONFIG_BUNDLE_BYTES)
            return MT_FAIL(MT_CONFIG, "%s:%d: the job and its includes are larger than 4 MiB",
                           scan->file, s.line);
    }
    return MT_OK;
}

/* See xml_check.h.  A stack of open elements and one pass. */
#include "tests/support/xml_check.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 32 };

static bool fail(const char *text, const char *at, const char *why)
{
    printf("not well-formed at byte %ld: %s: %.60s\n", (long)(at - text), why, at);
    return false;
}

static const char *skip_name(const char *p)
{
    while (isalnum((unsigned char)*p) || *p == '-' || *p == '_' || *p == ':')
        p++;
    return p;
}

static bool entity_ok(const char *p)
{
    static const char *const KNOWN[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (int i = 0; i < 5; i++)
        if (strncmp(p, KNOWN[i], strlen(KNOWN[i])) == 0)
            return true;
    return false;
}

static bool byte_ok(const char *p)
{
    unsigned char c = (unsigned char)*p;
    return (c >= 0x20 || c == '\n' || c == '\t') && (*p != '&' || entity_ok(p));
}

/* Attributes up to '>' or '/'; NULL where they are wrong. */
static const char *skip_attributes(const char *p)
{
    char seen[16][NAME_MAX_BYTES];
    int count = 0;
    for (;;) {
        while (*p == ' ' || *p == '\n')
            p++;
        if (*p == '>' || *p == '/')
            return p;
        const char *end = skip_name(p);
        size_t n = (size_t)(end - p);
        if (n == 0 || n >= NAME_MAX_BYTES || count == 16 || end[0] != '=' || end[1] != '"')
            return NULL;
        for (int i = 0; i < count; i++)
            if (strlen(seen[i]) == n && memcmp(seen[i], p, n) == 0)
                return NULL;
        memcpy(seen[count], p, n);
        seen[count++][n] = '\0';
        for (p = end + 2; *p != '"'; p++)
            if (*p == '\0' || *p == '<' || !byte_ok(p))
                return NULL;
        p++;
    }
}

bool xml_is_well_formed(const char *text)
{
    char open[DEPTH_MAX][NAME_MAX_BYTES];
    int depth = 0;
    for (const char *p = text; *p != '\0';) {
        if (*p != '<') {
            if (!byte_ok(p) || (depth == 0 && !isspace((unsigned char)*p)))
                return fail(text, p, "text");
            p++;
            continue;
        }
        bool closes = p[1] == '/';
        const char *name = p + 1 + closes, *end = skip_name(name);
        size_t n = (size_t)(end - name);
        if (n == 0 || n >= NAME_MAX_BYTES)
            return fail(text, p, "name");
        if (closes) {
            if (depth == 0 || strlen(open[depth - 1]) != n ||
                memcmp(open[depth - 1], name, n) != 0 || *end != '>')
                return fail(text, p, "end tag");
            depth--;
            p = end + 1;
            continue;
        }
        const char *after = skip_attributes(end);
        if (after == NULL || depth == DEPTH_MAX)
            return fail(text, p, "attributes");
        if (*after == '/') {
            p = after + 2;
            continue;
        }
        memcpy(open[depth], name, n);
        open[depth++][n] = '\0';
        p = after + 1;
    }
    return depth == 0 ? true : fail(text, text + strlen(text), "unclosed element");
}

int text_occurrences(const char *text, const char *piece)
{
    int count = 0;
    for (const char *p = strstr(text, piece); p != NULL; p = strstr(p + 1, piece))
        count++;
    return count;
}

/* See text.h.  Doubling storage; a failed growth is remembered instead of answered, so that a long
 * printer needs one check. */
#include "schedules/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"

static bool make_room(struct text *t, int64_t more)
{
    int64_t need = t->count + more + 1;
    if (t->failed)
        return false;
    if (need <= t->capacity)
        return true;
    int64_t grown = t->capacity < 256 ? 256 : t->capacity;
    while (grown < need)
        grown *= 2;
    if (mt_grow(&t->bytes, t->capacity, grown, 1, "a text") != MT_OK) {
        t->failed = true;
        return false;
    }
    t->capacity = grown;
    return true;
}

void text_add_bytes(struct text *t, const char *bytes, int64_t count)
{
    if (!make_room(t, count))
        return;
    memcpy(t->bytes + t->count, bytes, (size_t)count);
    t->count += count;
    t->bytes[t->count] = '\0';
}

void text_add(struct text *t, const char *string)
{
    text_add_bytes(t, string, (int64_t)strlen(string));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        t->failed = true;
    else if (make_room(t, n)) {
        (void)vsnprintf(t->bytes + t->count, (size_t)n + 1, format, again);
        t->count += n;
    }
    va_end(again);
}

void text_add_quoted(struct text *t, const char *string)
{
    text_add(t, "\"");
    for (const char *c = string; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            text_printf(t, "\\%c", *c);
        else if (*c == '\n')
            text_add(t, "\\n");
        else if (*c == '\t')
            text_add(t, "\\t");
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            text_printf(t, "\\x%02X", (unsigned)(unsigned char)*c);
        else
            text_add_bytes(t, c, 1);
    }
    text_add(t, "\"");
}

void text_add_real(struct text *t, double value)
{
    char digits[40];
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    text_add(t, digits);
    if (strpbrk(digits, ".en") == NULL)
        text_add(t, ".0");
}

mt_status text_finish(struct text *t, char **out)
{
    text_add(t, "");
    if (t->failed) {
        text_release(t);
        return MT_FAIL(MT_NOMEM, "out of memory while printing");
    }
    *out = t->bytes;
    memset(t, 0, sizeof *t);
    return MT_OK;
}

void text_release(struct text *t)
{
    mt_free(&t->bytes);
    memset(t, 0, sizeof *t);
}

enum { WORD_MAX = 48 };

/* Edit distance in which two neighbours that changed places count as one edit (optimal string
 * alignment); both words shorter than WORD_MAX. */
static int edit_distance(const char *a, const char *b)
{
    int table[WORD_MAX + 1][WORD_MAX + 1];
    int m = (int)strlen(a), n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        table[0][j] = j;
    for (int i = 1; i <= m; i++) {
        table[i][0] = i;
        for (int j = 1; j <= n; j++) {
            int best = table[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            if (table[i - 1][j] + 1 < best)
                best = table[i - 1][j] + 1;
            if (table[i][j - 1] + 1 < best)
                best = table[i][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && table[i - 2][j - 2] + 1 < best)
                best = table[i - 2][j - 2] + 1;
            table[i][j] = best;
        }
    }
    return table[m][n];
}

const char *text_nearest(const char *word, const char *const *names, int32_t count)
{
    size_t length = strlen(word);
    if (length >= WORD_MAX)
        return NULL;
    const char *nearest = NULL;
    int least = length <= 3 ? 2 : 1 + (int)length / 3;
    for (int32_t i = 0; i < count; i++) {
        if (strlen(names[i]) >= WORD_MAX)
            continue;
        int d = edit_distance(word, names[i]);
        if (d < least) {
            least = d;
            nearest = names[i];
        }
    }
    return nearest;
}

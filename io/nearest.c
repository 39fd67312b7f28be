/* See nearest.h.  One row of the edit table at a time; only ever run on the way to an error. */
#include "io/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { COMPARED_BYTES = 64 };

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static int distance(const char *a, const char *b)
{
    int row[COMPARED_BYTES + 1];
    int la = (int)strnlen(a, COMPARED_BYTES), lb = (int)strnlen(b, COMPARED_BYTES);
    for (int j = 0; j <= lb; j++)
        row[j] = j;
    for (int i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= lb; j++) {
            int same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            int change = diagonal + (same ? 0 : 1);
            diagonal = row[j];
            row[j] = smaller(change, smaller(row[j], row[j - 1]) + 1);
        }
    }
    return row[lb];
}

const char *nearest_name(const char *asked, const char *const *names, int64_t count)
{
    const char *best = NULL;
    int least = smaller((int)strnlen(asked, COMPARED_BYTES), 8) / 2 + 1;
    for (int64_t i = 0; i < count; i++) {
        int d = distance(asked, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

void nearest_list(char text[NEAREST_TEXT_BYTES], const char *const *names, int64_t count)
{
    size_t used = 0;
    text[0] = '\0';
    for (int64_t i = 0; i < count; i++) {
        const char *comma = i > 0 ? ", " : "";
        size_t room = NEAREST_TEXT_BYTES - used;
        if (strlen(names[i]) + 16 > room) {
            (void)snprintf(text + used, room, "%s...", comma);
            return;
        }
        int n = snprintf(text + used, room, "%s\"%s\"", comma, names[i]);
        used += (size_t)n;
    }
}

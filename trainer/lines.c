/* See lines.h.  A byte order mark at the beginning is skipped. */
#include "trainer/lines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"

struct lines {
    FILE *file;
    char *path, *text;
    int64_t capacity, number;
};

mt_status lines_open(struct lines **out, const char *path)
{
    struct lines *l;
    MT_TRY(mt_alloc(&l, 1, sizeof *l, "a reader of lines"));
    mt_status st = mt_strdup(&l->path, strcmp(path, "-") == 0 ? "standard input" : path);
    if (st == MT_OK) {
        l->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
        if (l->file == NULL)
            st = MT_FAIL(MT_DATA, "cannot read %s: %s", path, strerror(errno));
    }
    if (st != MT_OK)
        lines_close(&l);
    else
        *out = l;
    return st;
}

void lines_close(struct lines **lines)
{
    struct lines *l = *lines;
    if (l == NULL)
        return;
    if (l->file != NULL && l->file != stdin)
        (void)fclose(l->file);
    mt_free(&l->text);
    mt_free(&l->path);
    mt_free(lines);
}

/* Room for one more byte and a NUL. */
static mt_status make_room(struct lines *l, int64_t used)
{
    if (used + 2 <= l->capacity)
        return MT_OK;
    if (used >= LINE_BYTES_MAX)
        return MT_FAIL(MT_DATA, "%s:%lld: a line of more than %d bytes", l->path,
                       (long long)l->number, LINE_BYTES_MAX);
    int64_t grown = 2 * l->capacity + 256;
    MT_TRY(mt_grow(&l->text, l->capacity, grown, 1, "a line"));
    l->capacity = grown;
    return MT_OK;
}

mt_status lines_next(struct lines *l, const char **line, int64_t *bytes)
{
    int64_t n = 0;
    int c = getc(l->file);
    *line = NULL;
    *bytes = 0;
    l->number++;
    bool ended = c == EOF;
    for (; c != EOF && c != '\n'; c = getc(l->file)) {
        MT_TRY(make_room(l, n));
        l->text[n++] = (char)c;
    }
    if (ferror(l->file))
        return MT_FAIL(MT_IO, "%s: reading failed: %s", l->path, strerror(errno));
    if (ended)
        return MT_OK;
    MT_TRY(make_room(l, n));
    while (n > 0 && l->text[n - 1] == '\r')
        n--;
    l->text[n] = '\0';
    bool marked = l->number == 1 && n >= 3 && memcmp(l->text, "\xEF\xBB\xBF", 3) == 0;
    *line = marked ? l->text + 3 : l->text;
    *bytes = marked ? n - 3 : n;
    return MT_OK;
}

mt_status lines_each(const char *path, lines_visit each, void *context)
{
    struct lines *l = NULL;
    const char *line;
    int64_t bytes;
    mt_status st;
    MT_TRY(lines_open(&l, path));
    for (;;) {
        MT_TRY_GOTO(st, lines_next(l, &line, &bytes), done);
        if (line == NULL)
            break;
        MT_TRY_GOTO(st, each(context, line, bytes), done);
    }
done:
    lines_close(&l);
    return st;
}

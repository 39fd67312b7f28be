/* See lines.h.  A byte order mark at the beginning is skipped. */
#include "trainer/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/base/memory.h"

struct lines {
    FILE *file;
    char *path, *text; /* text is getline's */
    size_t capacity;
    int64_t number;
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
    free(l->text);
    mt_free(&l->path);
    mt_free(lines);
}

mt_status lines_next(struct lines *l, const char **line, int64_t *bytes)
{
    ssize_t n = getline(&l->text, &l->capacity, l->file);
    *line = NULL;
    *bytes = 0;
    if (n < 0) {
        if (ferror(l->file))
            return MT_FAIL(MT_IO, "%s: reading failed: %s", l->path, strerror(errno));
        return MT_OK;
    }
    l->number++;
    if (n > LINE_BYTES_MAX)
        return MT_FAIL(MT_DATA, "%s:%lld: a line of %lld bytes; at most %d are read", l->path,
                       (long long)l->number, (long long)n, LINE_BYTES_MAX);
    while (n > 0 && (l->text[n - 1] == '\n' || l->text[n - 1] == '\r'))
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

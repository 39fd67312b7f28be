/*
 * See text_rows.h.
 *
 * The fields of a row lie one after the other in `raw`, one byte apart: the delimiter's place,
 * which no field owns.  The buffer keeps its size from row to row.
 */
#include "io/text_rows.h"

#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"

enum { INPUT_BYTES = 128 << 10, END_OF_FILE = -1 };

static mt_status fill(struct text_rows *t)
{
    int64_t got;
    MT_TRY(file_fd_read(t->fd, t->input, INPUT_BYTES, &got, t->path));
    t->input_at = 0;
    t->input_count = got;
    t->bytes_read += got;
    return MT_OK;
}

/* The next byte without taking it, or END_OF_FILE. */
static mt_status peek(struct text_rows *t, int *byte)
{
    if (t->input_at == t->input_count)
        MT_TRY(fill(t));
    *byte = t->input_at < t->input_count ? t->input[t->input_at] : END_OF_FILE;
    return MT_OK;
}

static mt_status skip_byte_order_mark(struct text_rows *t)
{
    MT_TRY(fill(t));
    while (t->input_count < 3) { /* a short read, not yet the end of a short file */
        int64_t got;
        MT_TRY(file_fd_read(t->fd, t->input + t->input_count, INPUT_BYTES - t->input_count, &got,
                            t->path));
        if (got == 0)
            break;
        t->input_count += got;
        t->bytes_read += got;
    }
    if (t->input_count >= 3 && memcmp(t->input, "\xEF\xBB\xBF", 3) == 0)
        t->input_at = 3;
    return MT_OK;
}

static mt_status raw_room(struct text_rows *t, int64_t more)
{
    int64_t need = t->raw_bytes + more;
    if (need > TEXT_ROW_BYTES_MAX)
        return MT_FAIL(
            MT_DATA,
            "%s:%lld: the row that begins here has more than %d bytes%s; cut the file at "
            "that line",
            t->path, (long long)t->row_line, TEXT_ROW_BYTES_MAX,
            t->format.kind == TEXT_CSV ? " (is a quote not closed?)" : "");
    if (need <= t->raw_capacity)
        return MT_OK;
    int64_t grown = t->raw_capacity * 2 > need ? t->raw_capacity * 2 : need + 4096;
    MT_TRY(mt_grow(&t->raw, t->raw_capacity, grown, 1, "a row of text"));
    t->raw_capacity = grown;
    return MT_OK;
}

static mt_status raw_add(struct text_rows *t, const void *bytes, int64_t count)
{
    MT_TRY(raw_room(t, count));
    if (count > 0)
        memcpy(t->raw + t->raw_bytes, bytes, (size_t)count);
    t->raw_bytes += count;
    return MT_OK;
}

static mt_status raw_begin_field(struct text_rows *t)
{
    if (t->raw_fields == TEXT_COLUMNS_MAX)
        return MT_FAIL(MT_DATA, "%s:%lld: more than %d fields; is \"%c\" the right delimiter?",
                       t->path, (long long)t->row_line, TEXT_COLUMNS_MAX, t->format.delimiter);
    if (t->raw_fields == t->raw_field_capacity) {
        int32_t grown = t->raw_field_capacity == 0 ? 16 : t->raw_field_capacity * 2;
        MT_TRY(mt_grow(&t->raw_begin, t->raw_field_capacity, grown, sizeof *t->raw_begin,
                       "fields of a row"));
        t->raw_field_capacity = grown;
    }
    t->raw_begin[t->raw_fields++] = t->raw_bytes;
    return MT_OK;
}

static void raw_reset(struct text_rows *t)
{
    t->raw_bytes = 0;
    t->raw_fields = 0;
    t->row_line = t->line;
}

mt_status text_rows_line(struct text_rows *t, bool *found)
{
    raw_reset(t);
    *found = false;
    for (;;) {
        int byte;
        MT_TRY(peek(t, &byte));
        if (byte == END_OF_FILE)
            break;
        *found = true;
        const unsigned char *from = t->input + t->input_at;
        int64_t left = t->input_count - t->input_at;
        const unsigned char *end = memchr(from, '\n', (size_t)left);
        int64_t count = end == NULL ? left : end - from;
        MT_TRY(raw_add(t, from, count));
        t->input_at += count + (end != NULL);
        if (end != NULL) {
            t->line++;
            break;
        }
    }
    if (t->raw_bytes > 0 && t->raw[t->raw_bytes - 1] == '\r')
        t->raw_bytes--;
    return MT_OK;
}

mt_status text_rows_tsv(struct text_rows *t, bool *found)
{
    do {
        MT_TRY(text_rows_line(t, found));
    } while (*found && t->raw_bytes == 0);
    if (!*found)
        return MT_OK;
    int64_t total = t->raw_bytes;
    t->raw_bytes = 0;
    MT_TRY(raw_begin_field(t));
    while (t->format.columns == 0 || t->raw_fields < t->format.columns) {
        const char *from = t->raw + t->raw_bytes;
        const char *end = memchr(from, t->format.delimiter, (size_t)(total - t->raw_bytes));
        if (end == NULL)
            break;
        /* The delimiter's place becomes the end of the field, one byte that no field owns. */
        t->raw_bytes = end - t->raw + 1;
        MT_TRY(raw_begin_field(t));
    }
    t->raw_bytes = total + 1; /* as if a delimiter followed */
    return MT_OK;
}

enum csv_state { CSV_FIELD, CSV_PLAIN, CSV_QUOTED, CSV_AFTER_QUOTE };

/* One byte within a row; `ended` says that the row is whole.  Fields are one byte apart, as in
 * text_rows_tsv. */
static mt_status csv_byte(struct text_rows *t, enum csv_state *state, unsigned char byte,
                          bool *ended)
{
    if (*state == CSV_QUOTED) {
        if (byte == '"') {
            *state = CSV_AFTER_QUOTE;
            return MT_OK;
        }
        t->line += byte == '\n';
        return raw_add(t, &byte, 1);
    }
    if (byte == '"' && *state == CSV_FIELD) {
        *state = CSV_QUOTED;
        return MT_OK;
    }
    if (byte == '"' && *state == CSV_AFTER_QUOTE) {
        *state = CSV_QUOTED;
        return raw_add(t, &byte, 1);
    }
    if (byte == '\r') {
        int next;
        MT_TRY(peek(t, &next));
        if (next == '\n' || next == END_OF_FILE)
            return MT_OK;
    }
    if (byte == '\n') {
        t->line++;
        *ended = true;
        return raw_add(t, &byte, 1);
    }
    if (byte == (unsigned char)t->format.delimiter) {
        *state = CSV_FIELD;
        MT_TRY(raw_add(t, &byte, 1));
        return raw_begin_field(t);
    }
    *state = CSV_PLAIN;
    return raw_add(t, &byte, 1);
}

mt_status text_rows_csv(struct text_rows *t, bool *found)
{
    bool ended, any_quote;
    do { /* again while the row is a blank line */
        enum csv_state state = CSV_FIELD;
        raw_reset(t);
        ended = any_quote = false;
        *found = false;
        MT_TRY(raw_begin_field(t));
        while (!ended) {
            int byte;
            MT_TRY(peek(t, &byte));
            if (byte == END_OF_FILE && state == CSV_QUOTED)
                return MT_FAIL(MT_DATA,
                               "%s:%lld: a quote opened in the row that begins here is not closed "
                               "before the end of the file",
                               t->path, (long long)t->row_line);
            if (byte == END_OF_FILE) {
                MT_TRY(raw_add(t, "\n", *found ? 1 : 0));
                break;
            }
            t->input_at++;
            *found = true;
            any_quote = any_quote || byte == '"';
            MT_TRY(csv_byte(t, &state, (unsigned char)byte, &ended));
        }
    } while (*found && !any_quote && t->raw_fields == 1 && t->raw_bytes <= 1);
    return MT_OK;
}

mt_status text_rows_open(struct text_rows *t, const char *path, const struct text_format *format)
{
    memset(t, 0, sizeof *t);
    t->fd = -1;
    t->line = 1;
    t->path = path;
    t->format = *format;
    mt_status st;
    MT_TRY_GOTO(st, file_fd_open(&t->fd, &t->size_bytes, path), done);
    MT_TRY_GOTO(st, mt_alloc(&t->input, INPUT_BYTES, 1, "text input"), done);
    MT_TRY_GOTO(st, skip_byte_order_mark(t), done);
done:
    if (st != MT_OK)
        text_rows_close(t);
    return st;
}

void text_rows_close(struct text_rows *t)
{
    if (t->path == NULL)
        return;
    file_fd_close(&t->fd);
    mt_free(&t->raw_begin);
    mt_free(&t->raw);
    mt_free(&t->input);
    t->path = NULL;
}

/*
 * See text_table.h.
 *
 * A row goes through two buffers: `raw` holds the bytes of its fields as they stood in the file
 * (quotes taken off), `clean` the same as valid UTF-8, which may be longer.  Both keep their size
 * from row to row, so a file costs what its longest row costs.  Cells are kept as offsets until the
 * row is whole, because the buffers move while they grow.
 *
 * A file without a header, and JSON lines, must be looked at to learn the columns: the first row is
 * read when the file is opened and held back for the first call of text_table_next.
 */
#include "io/text_table.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "comm/base/memory.h"
#include "io/file.h"
#include "io/nearest.h"
#include "io/text_rows.h"
#include "io/utf8.h"

struct text_table {
    char *path;
    struct text_format format;
    struct text_rows rows;

    char *clean;
    int64_t clean_bytes, clean_capacity;
    int64_t *cell_begin; /* [cell_capacity] into clean */
    struct text_cell *cells;
    int32_t cell_capacity;

    char **columns;
    bool *key_seen; /* [cell_capacity] JSONL: whether a line had it */
    int32_t column_count;

    struct text_row row;
    bool row_held, header_read;
    int64_t replaced;
};

bool text_kind_parse(enum text_kind *out, const char *name)
{
    static const struct {
        const char *name;
        enum text_kind kind;
    } table[] = {
        {"auto", TEXT_BY_EXTENSION}, {"tsv", TEXT_TSV}, {"csv", TEXT_CSV}, {"jsonl", TEXT_JSONL}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(name, table[i].name) == 0) {
            *out = table[i].kind;
            return true;
        }
    }
    return false;
}

bool text_bad_bytes_parse(enum text_bad_bytes *out, const char *name)
{
    if (strcmp(name, "replace") != 0 && strcmp(name, "error") != 0)
        return false;
    *out = strcmp(name, "error") == 0 ? TEXT_ERROR : TEXT_REPLACE;
    return true;
}

static mt_status clean_room(struct text_table *t, int64_t more)
{
    int64_t need = t->clean_bytes + more;
    if (need <= t->clean_capacity)
        return MT_OK;
    int64_t grown = t->clean_capacity * 2 > need ? t->clean_capacity * 2 : need + 4096;
    MT_TRY(mt_grow(&t->clean, t->clean_capacity, grown, 1, "a row of text"));
    t->clean_capacity = grown;
    return MT_OK;
}

static mt_status bad_text(const struct text_table *t, const char *what)
{
    return MT_FAIL(MT_DATA,
                   "%s:%lld: %s in the row that begins here; mend the file, or allow U+FFFD in its "
                   "place (bad bytes: \"replace\")",
                   t->path, (long long)t->row.line, what);
}

/* Copies text with every malformed sequence and NUL as U+FFFD. */
static mt_status clean_replace(struct text_table *t, const char *text, int64_t bytes)
{
    const char *end = text + bytes;
    MT_TRY(clean_room(t, bytes * 3 + 1));
    while (text < end) {
        struct utf8_char c = utf8_decode(text, end);
        bool bad = c.malformed || c.code == 0;
        const char *from = bad ? "\xEF\xBF\xBD" : text;
        int32_t count = bad ? 3 : c.bytes;
        memcpy(t->clean + t->clean_bytes, from, (size_t)count);
        t->clean_bytes += count;
        t->replaced += bad;
        text += c.bytes;
    }
    return MT_OK;
}

static mt_status set_cell(struct text_table *t, int32_t column, const char *text, int64_t bytes,
                          enum text_cell_kind kind)
{
    t->cell_begin[column] = t->clean_bytes;
    bool has_nul = bytes > 0 && memchr(text, '\0', (size_t)bytes) != NULL;
    bool malformed = bytes > 0 && utf8_first_invalid(text, bytes) >= 0;
    if (t->format.bad_bytes == TEXT_ERROR && (has_nul || malformed))
        return bad_text(t, has_nul ? "a NUL byte" : "bytes that are not UTF-8");
    if (has_nul || malformed) {
        MT_TRY(clean_replace(t, text, bytes));
    } else {
        MT_TRY(clean_room(t, bytes + 1));
        if (bytes > 0)
            memcpy(t->clean + t->clean_bytes, text, (size_t)bytes);
        t->clean_bytes += bytes;
    }
    t->cells[column].bytes = t->clean_bytes - t->cell_begin[column];
    t->cells[column].kind = kind;
    MT_TRY(clean_room(t, 1));
    t->clean[t->clean_bytes++] = '\0';
    return MT_OK;
}

static mt_status cell_room(struct text_table *t, int32_t count)
{
    if (count <= t->cell_capacity)
        return MT_OK;
    int32_t old = t->cell_capacity, grown = count < 16 ? 16 : count * 2;
    MT_TRY(mt_grow(&t->cells, old, grown, sizeof *t->cells, "cells"));
    MT_TRY(mt_grow(&t->cell_begin, old, grown, sizeof *t->cell_begin, "cells"));
    MT_TRY(mt_grow(&t->columns, old, grown, sizeof *t->columns, "columns"));
    MT_TRY(mt_grow(&t->key_seen, old, grown, sizeof *t->key_seen, "columns"));
    t->cell_capacity = grown;
    return MT_OK;
}

static void point_cells(struct text_table *t, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        t->cells[i].text = t->clean + t->cell_begin[i];
    t->row.cell_count = count;
    t->row.cells = t->cells;
}

/* The next row of a TSV or CSV file as cells; cell_count 0 at the end. */
static mt_status read_fields(struct text_table *t)
{
    bool found;
    t->clean_bytes = 0;
    t->row.cell_count = 0;
    MT_TRY(t->format.kind == TEXT_CSV ? text_rows_csv(&t->rows, &found)
                                      : text_rows_tsv(&t->rows, &found));
    t->row.line = t->rows.row_line;
    if (!found)
        return MT_OK;
    MT_TRY(cell_room(t, t->rows.raw_fields));
    for (int32_t i = 0; i < t->rows.raw_fields; i++) {
        int64_t end = i + 1 < t->rows.raw_fields ? t->rows.raw_begin[i + 1] : t->rows.raw_bytes;
        MT_TRY(set_cell(t, i, t->rows.raw + t->rows.raw_begin[i], end - 1 - t->rows.raw_begin[i],
                        TEXT_VALUE));
    }
    point_cells(t, t->rows.raw_fields);
    return MT_OK;
}

/* JSON lines. */

static int hex4(const char *p)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Half a surrogate pair, which other programs write as "\ud83d", becomes "\uFFFD" in place. */
static mt_status mend_surrogates(struct text_table *t)
{
    char *end = t->rows.raw + t->rows.raw_bytes;
    for (char *p = t->rows.raw; p + 1 < end; p++) {
        if (*p != '\\')
            continue;
        p++; /* what follows a backslash is no backslash of its own */
        int code = *p == 'u' && end - p >= 5 ? hex4(p + 1) : -1;
        if (code < 0xD800 || code > 0xDFFF)
            continue;
        int low = end - p >= 11 && p[5] == '\\' && p[6] == 'u' ? hex4(p + 7) : -1;
        if (code < 0xDC00 && low >= 0xDC00 && low <= 0xDFFF) {
            p += 10;
            continue;
        }
        if (t->format.bad_bytes == TEXT_ERROR)
            return bad_text(t, "half a surrogate pair (\\ud800 to \\udfff)");
        memcpy(p + 1, "FFFD", 4);
        t->replaced++;
    }
    return MT_OK;
}

/* The library refuses bytes that are not UTF-8, so they are replaced before it sees the line. */
static mt_status mend_line(struct text_table *t)
{
    MT_TRY(mend_surrogates(t));
    if (utf8_first_invalid(t->rows.raw, t->rows.raw_bytes) < 0)
        return MT_OK;
    if (t->format.bad_bytes == TEXT_ERROR)
        return bad_text(t, "bytes that are not UTF-8");
    t->clean_bytes = 0;
    MT_TRY(clean_replace(t, t->rows.raw, t->rows.raw_bytes));
    int64_t count = t->clean_bytes;
    t->rows.raw_bytes = 0;
    if (count > t->rows.raw_capacity) {
        MT_TRY(mt_grow(&t->rows.raw, t->rows.raw_capacity, count, 1, "a row of text"));
        t->rows.raw_capacity = count;
    }
    memcpy(t->rows.raw, t->clean, (size_t)count);
    t->rows.raw_bytes = count;
    return MT_OK;
}

static mt_status parse_line(struct text_table *t, json_t **object)
{
    json_error_t error;
    MT_TRY(mend_line(t));
    json_t *value = json_loadb(t->rows.raw, (size_t)t->rows.raw_bytes, JSON_ALLOW_NUL, &error);
    if (value == NULL)
        return MT_FAIL(MT_DATA, "%s:%lld: not JSON: %s, at byte %d of the line", t->path,
                       (long long)t->row.line, error.text, error.position);
    if (!json_is_object(value)) {
        json_decref(value);
        return MT_FAIL(MT_DATA, "%s:%lld: is not a JSON object; each line must be {\"key\": ...}",
                       t->path, (long long)t->row.line);
    }
    *object = value;
    return MT_OK;
}

static mt_status add_column(struct text_table *t, const char *name)
{
    if (t->column_count == TEXT_COLUMNS_MAX)
        return MT_FAIL(MT_DATA, "%s: has more than %d columns", t->path, TEXT_COLUMNS_MAX);
    MT_TRY(cell_room(t, t->column_count + 1));
    MT_TRY(mt_strdup(&t->columns[t->column_count], name));
    t->key_seen[t->column_count] = false;
    t->column_count++;
    return MT_OK;
}

static mt_status set_json_cell(struct text_table *t, int32_t column, const json_t *value)
{
    char number[64];
    if (value == NULL || json_is_null(value))
        return set_cell(t, column, "", 0, TEXT_MISSING);
    if (json_is_string(value))
        return set_cell(t, column, json_string_value(value), (int64_t)json_string_length(value),
                        TEXT_VALUE);
    if (json_is_object(value) || json_is_array(value))
        return set_cell(t, column, "", 0, TEXT_NESTED);
    if (json_is_integer(value)) {
        (void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        (void)snprintf(number, sizeof number, "%.15g", json_real_value(value));
    } else {
        (void)snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
    }
    return set_cell(t, column, number, (int64_t)strlen(number), TEXT_VALUE);
}

/* The next object as cells of the columns; the first object's keys become the columns. */
static mt_status read_object(struct text_table *t)
{
    bool found;
    t->row.cell_count = 0;
    do {
        MT_TRY(text_rows_line(&t->rows, &found));
    } while (found && t->rows.raw_bytes == 0);
    t->row.line = t->rows.row_line;
    if (!found)
        return MT_OK;
    json_t *object;
    MT_TRY(parse_line(t, &object));
    mt_status st = MT_OK;
    if (!t->header_read) {
        const char *key;
        json_t *value;
        json_object_foreach(object, key, value)
        {
            MT_TRY_GOTO(st, add_column(t, key), done);
        }
        t->header_read = true;
    }
    t->clean_bytes = 0;
    MT_TRY_GOTO(st, cell_room(t, t->column_count + 1), done);
    for (int32_t i = 0; i < t->column_count; i++) {
        const json_t *value = json_object_get(object, t->columns[i]);
        t->key_seen[i] = t->key_seen[i] || value != NULL;
        MT_TRY_GOTO(st, set_json_cell(t, i, value), done);
    }
    if (t->column_count == 0) /* {} is a row, too */
        MT_TRY_GOTO(st, set_json_cell(t, 0, NULL), done);
    point_cells(t, t->column_count > 0 ? t->column_count : 1);
done:
    json_decref(object);
    return st;
}

/* Opening. */

static mt_status resolve_format(struct text_table *t)
{
    struct text_format *f = &t->format;
    if (f->kind == TEXT_BY_EXTENSION) {
        if (file_path_has_extension(t->path, ".csv"))
            f->kind = TEXT_CSV;
        else if (file_path_has_extension(t->path, ".jsonl") ||
                 file_path_has_extension(t->path, ".ndjson") ||
                 file_path_has_extension(t->path, ".json"))
            f->kind = TEXT_JSONL;
        else if (file_path_has_extension(t->path, ".tsv") || f->delimiter != 0)
            f->kind = TEXT_TSV;
        else
            return MT_FAIL(
                MT_ARG,
                "%s: its name does not tell its format; name it .tsv, .csv or .jsonl, or "
                "give the format",
                t->path);
    }
    if (f->kind == TEXT_JSONL && (f->delimiter != 0 || f->headerless || f->columns != 0))
        return MT_FAIL(MT_ARG, "%s: JSON lines have no delimiter, header or number of columns",
                       t->path);
    if (f->kind == TEXT_CSV && f->columns != 0)
        return MT_FAIL(MT_ARG, "%s: a number of columns can be given for TSV only", t->path);
    if (f->columns < 0 || f->columns > TEXT_COLUMNS_MAX || f->delimiter == '\n' ||
        f->delimiter == '\r' || f->delimiter == '"' || (unsigned char)f->delimiter > 127)
        return MT_FAIL(MT_ARG,
                       "%s: the delimiter must be one ASCII character, no quote and no line "
                       "end, and the columns at most %d",
                       t->path, TEXT_COLUMNS_MAX);
    if (f->delimiter == ' ' && f->columns == 0 && f->kind == TEXT_TSV)
        f->columns = 2;
    if (f->delimiter == 0)
        f->delimiter = f->kind == TEXT_CSV ? ',' : '\t';
    return MT_OK;
}

static mt_status read_header(struct text_table *t)
{
    if (t->format.kind == TEXT_JSONL) {
        MT_TRY(read_object(t));
    } else {
        MT_TRY(read_fields(t));
        char number[16];
        for (int32_t i = 0; i < t->row.cell_count; i++) {
            (void)snprintf(number, sizeof number, "%d", i);
            MT_TRY(add_column(t, t->format.headerless ? number : t->cells[i].text));
        }
        t->header_read = true;
    }
    if (t->row.cell_count == 0)
        return MT_FAIL(MT_DATA, "%s: is empty; it should hold %s", t->path,
                       t->format.kind == TEXT_JSONL ? "one JSON object a line"
                       : t->format.headerless       ? "rows of text"
                                                    : "a header and rows of text");
    t->row_held = t->format.kind == TEXT_JSONL || t->format.headerless;
    return MT_OK;
}

mt_status text_table_open(struct text_table **out, const char *path,
                          const struct text_format *format)
{
    struct text_table *t;
    MT_TRY(mt_alloc(&t, 1, sizeof *t, "text table"));
    if (format != NULL)
        t->format = *format;
    mt_status st;
    MT_TRY_GOTO(st, mt_strdup(&t->path, path), done);
    MT_TRY_GOTO(st, resolve_format(t), done);
    MT_TRY_GOTO(st, text_rows_open(&t->rows, t->path, &t->format), done);
    MT_TRY_GOTO(st, read_header(t), done);
    *out = t;
done:
    if (st != MT_OK)
        text_table_close(&t);
    return st;
}

void text_table_close(struct text_table **table)
{
    struct text_table *t = *table;
    if (t == NULL)
        return;
    text_rows_close(&t->rows);
    for (int32_t i = 0; i < t->column_count; i++)
        mt_free(&t->columns[i]);
    mt_free(&t->columns);
    mt_free(&t->key_seen);
    mt_free(&t->cells);
    mt_free(&t->cell_begin);
    mt_free(&t->clean);
    mt_free(&t->path);
    mt_free(table);
}

static mt_status fail_column(const struct text_table *t, const char *name)
{
    char list[NEAREST_TEXT_BYTES];
    const char *const *columns = (const char *const *)t->columns;
    const char *near = nearest_name(name, columns, t->column_count);
    nearest_list(list, columns, t->column_count);
    bool number = name[0] != '\0' && strspn(name, "0123456789") == strlen(name);
    return MT_FAIL(MT_DATA, "%s: has no column \"%s\"%s%s%s; its columns are %s%s", t->path, name,
                   near != NULL ? " (did you mean \"" : "", near != NULL ? near : "",
                   near != NULL ? "\"?)" : "", list,
                   number && !t->format.headerless && t->format.kind != TEXT_JSONL
                       ? "; columns go by number where the file is said to have no header"
                       : "");
}

mt_status text_table_column(struct text_table *t, const char *name, int32_t *column)
{
    int32_t found = -1, times = 0;
    for (int32_t i = 0; i < t->column_count; i++) {
        if (strcmp(t->columns[i], name) == 0) {
            found = i;
            times++;
        }
    }
    if (times > 1)
        return MT_FAIL(MT_DATA, "%s: has %d columns of the name \"%s\"; rename all but one",
                       t->path, times, name);
    if (times == 0 && t->format.kind == TEXT_JSONL && t->row_held) {
        MT_TRY(add_column(t, name));
        found = t->column_count - 1;
        MT_TRY(set_cell(t, found, "", 0, TEXT_MISSING));
        point_cells(t, t->column_count);
    } else if (times == 0) {
        return fail_column(t, name);
    }
    *column = found;
    return MT_OK;
}

int32_t text_table_column_count(const struct text_table *t)
{
    return t->column_count;
}

const char *text_table_column_name(const struct text_table *t, int32_t column)
{
    return column >= 0 && column < t->column_count ? t->columns[column] : "";
}

/* At the end: a key that was asked for and that no line had is a wrong name, not missing data. */
static mt_status check_keys(const struct text_table *t)
{
    for (int32_t i = 0; i < t->column_count && t->format.kind == TEXT_JSONL; i++) {
        if (t->key_seen[i])
            continue;
        char list[NEAREST_TEXT_BYTES];
        const char *const *columns = (const char *const *)t->columns;
        nearest_list(list, columns, i);
        return MT_FAIL(MT_DATA, "%s: no line has the key \"%s\"; keys of the first line are %s",
                       t->path, t->columns[i], list);
    }
    return MT_OK;
}

mt_status text_table_next(struct text_table *t, const struct text_row **row)
{
    if (!t->row_held)
        MT_TRY(t->format.kind == TEXT_JSONL ? read_object(t) : read_fields(t));
    t->row_held = false;
    if (t->row.cell_count == 0) {
        MT_TRY(check_keys(t));
        *row = NULL;
        return MT_OK;
    }
    if (t->format.kind != TEXT_JSONL && t->row.cell_count != t->column_count)
        return MT_FAIL(MT_DATA, "%s:%lld: has %d field%s where the first row has %d%s", t->path,
                       (long long)t->row.line, t->row.cell_count, t->row.cell_count == 1 ? "" : "s",
                       t->column_count,
                       t->format.kind == TEXT_CSV ? "; put quotes around a field with a comma or a "
                                                    "line end in it"
                                                  : "; a field cannot hold its delimiter in this "
                                                    "format");
    *row = &t->row;
    return MT_OK;
}

int64_t text_table_bytes_read(const struct text_table *t)
{
    return t->rows.bytes_read - (t->rows.input_count - t->rows.input_at);
}

int64_t text_table_size_bytes(const struct text_table *t)
{
    return t->rows.size_bytes;
}

int64_t text_table_replaced(const struct text_table *t)
{
    return t->replaced;
}

const char *text_table_path(const struct text_table *t)
{
    return t->path;
}

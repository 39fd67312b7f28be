/*
 * text_table: the rows of a .tsv, .csv or .jsonl file, one at a time.
 *
 *     MT_TRY(text_table_open(&t, "train.csv", NULL));
 *     MT_TRY_GOTO(st, text_table_column(t, "text", &column), done);
 *     for (;;) {
 *         MT_TRY_GOTO(st, text_table_next(t, &row), done);
 *         if (row == NULL)
 *             break;
 *         use(row->cells[column].text);
 *     }
 *
 * What every format shares: a byte order mark is skipped, lines end in LF or CRLF, the last one may
 * lack its end, and a line with nothing on it is no row (also in a table of one column, where an
 * empty field can be written as "" in CSV but not in TSV).  Cells are valid UTF-8 without NUL: what
 * is not becomes U+FFFD and is counted, or is an error that names the line.
 *
 * CSV    RFC 4180: fields may stand in quotes, with "" for a quote and line ends inside.  A quote
 *        within an unquoted field, and text after a closing quote, are taken literally.
 * TSV    a tab ends a field and nothing is special: quotes and backslashes are plain bytes.
 * JSONL  one object a line.  Strings, numbers and booleans become text; null and an absent key are
 *        a missing cell.  Objects and arrays are kept as "nested" and are of no use as a cell.
 *
 * Memory is bounded by the longest row, and a row by TEXT_ROW_BYTES_MAX.
 */
#ifndef MT_IO_TEXT_TABLE_H
#define MT_IO_TEXT_TABLE_H

#include "comm/base/status.h"

enum { TEXT_ROW_BYTES_MAX = 16 << 20, TEXT_COLUMNS_MAX = 4096 };

enum text_kind { TEXT_BY_EXTENSION, TEXT_TSV, TEXT_CSV, TEXT_JSONL };
enum text_bad_bytes { TEXT_REPLACE, TEXT_ERROR };

/* "tsv", "csv", "jsonl" and "auto"; "replace" and "error".  False where the name is another. */
bool text_kind_parse(enum text_kind *out, const char *name);
bool text_bad_bytes_parse(enum text_bad_bytes *out, const char *name);

/* How to read a file; all zero is right for a file with a header and a telling extension. */
struct text_format {
    enum text_kind kind;
    enum text_bad_bytes bad_bytes;
    bool headerless; /* columns are named "0", "1", ... */
    char delimiter;  /* 0 = that of the kind; with kind TEXT_BY_EXTENSION, another one means TSV */
    int32_t
        columns; /* 0 = as many as the first row has; otherwise the last one takes the rest of
                  * the line (TSV only).  A delimiter ' ' without it means 2: TREC's "label text" */
};

enum text_cell_kind { TEXT_VALUE, TEXT_MISSING, TEXT_NESTED };

struct text_cell {
    const char *text; /* NUL-terminated; "" where missing or nested */
    int64_t bytes;
    enum text_cell_kind kind;
};

struct text_row {
    int64_t line; /* first line of the row, from 1 */
    int32_t cell_count;
    const struct text_cell *cells;
};

struct text_table;

/* Local.  Opens the file and reads its header.  format may be NULL; it is copied.
 * Owns: the caller, text_table_close.  Errors: IO, NOMEM, DATA, ARG (unknown extension). */
mt_status text_table_open(struct text_table **out, const char *path,
                          const struct text_format *format) MT_CHECKED;
void text_table_close(struct text_table **t);

/* Local.  Position of a column.  JSONL: any key may be asked for, before the first row is read.
 * Errors: DATA, with the columns that there are and the nearest name. */
mt_status text_table_column(struct text_table *t, const char *name, int32_t *column) MT_CHECKED;

/* Columns known so far: the header's, or the keys of the first object; names borrowed. */
int32_t text_table_column_count(const struct text_table *t);
const char *text_table_column_name(const struct text_table *t, int32_t column);

/* Local.  The next row, valid until the next call; NULL at the end.  Errors: IO, NOMEM, DATA
 * ("file:line: ..."). */
mt_status text_table_next(struct text_table *t, const struct text_row **row) MT_CHECKED;

int64_t text_table_bytes_read(const struct text_table *t);
int64_t text_table_size_bytes(const struct text_table *t);
int64_t text_table_replaced(const struct text_table *t); /* U+FFFD put in so far */
const char *text_table_path(const struct text_table *t);

#endif

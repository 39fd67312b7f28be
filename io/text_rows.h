/*
 * text_rows: lines and delimited fields of a text file, as bytes; the lower half of text_table.
 *
 * After a call, field i of the row is raw[raw_begin[i]] up to one byte before raw_begin[i+1], or
 * before raw_bytes for the last.  No row has more than TEXT_ROW_BYTES_MAX bytes.
 */
#ifndef MT_IO_TEXT_ROWS_H
#define MT_IO_TEXT_ROWS_H

#include "io/text_table.h"

struct text_rows {
    const char *path; /* borrowed; NULL = closed */
    struct text_format format;
    int fd;
    int64_t size_bytes, bytes_read;

    unsigned char *input;
    int64_t input_at, input_count;
    int64_t line;     /* of the next byte, from 1 */
    int64_t row_line; /* first line of the row */

    char *raw;
    int64_t raw_bytes, raw_capacity;
    int64_t *raw_begin; /* [raw_fields] */
    int32_t raw_fields, raw_field_capacity;
};

/* Local.  Opens the file and skips a byte order mark.  path is borrowed, format is complete (see
 * text_table.c).  Errors: IO, NOMEM. */
mt_status text_rows_open(struct text_rows *t, const char *path,
                         const struct text_format *format) MT_CHECKED;

/* Local.  Accepts a zeroed or closed one. */
void text_rows_close(struct text_rows *t);

/* Local.  One line, without its end, as raw[0..raw_bytes-1]; *found is false at the end of the
 * file.  Errors: IO, NOMEM, DATA (too long). */
mt_status text_rows_line(struct text_rows *t, bool *found) MT_CHECKED;

/* Local.  The fields of the next line that is not blank, cut at format.delimiter; with
 * format.columns the last field takes the rest.  Errors: as text_rows_line. */
mt_status text_rows_tsv(struct text_rows *t, bool *found) MT_CHECKED;

/* Local.  The fields of the next CSV row, quotes taken off.  Errors: as text_rows_line; DATA for a
 * quote that is not closed.  Source: RFC 4180. */
mt_status text_rows_csv(struct text_rows *t, bool *found) MT_CHECKED;

#endif

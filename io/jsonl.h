/*
 * jsonl: the event file of a run, one JSON object a line, appended only.
 *
 * Each event begins with "event", "time" (Unix seconds, a real) and "iso" (UTC).  A line is built
 * in memory and written by one write(2), so a reader never sees half an event except after a crash,
 * and then only at the end.  Reals JSON has no word for are the strings "nan", "inf" and "-inf".
 *
 *     MT_TRY(jsonl_open(&log, "runs/a/metrics.jsonl"));
 *     struct json_writer *w = jsonl_begin(log, "step");
 *     json_write_int(w, "step", 120);
 *     json_write_object(w, "loss");  json_write_real(w, "total", 0.7);  json_write_end(w);
 *     MT_TRY(jsonl_end(log));
 *
 * One thread at a time.
 */
#ifndef MT_IO_JSONL_H
#define MT_IO_JSONL_H

#include "io/json.h"

struct jsonl;

/* Local.  Opens for appending, making the file where there is none; a torn last line is cut off.
 * Owns: the caller, until jsonl_close.  Errors: IO, NOMEM. */
mt_status jsonl_open(struct jsonl **out, const char *path) MT_CHECKED;
void jsonl_close(struct jsonl **log);

/* Local.  Begins an event; its members are written to the answered writer (json.h), which stands
 * inside the event's object. */
struct json_writer *jsonl_begin(struct jsonl *log, const char *event);

/* Local.  Appends the event, and before it those that could not be written.  Errors: IO, NOMEM; the
 * file then holds whole lines still, where the file system lets a part be taken back, and the event
 * waits (4 MiB of them do) for the next one or is dropped at jsonl_close. */
mt_status jsonl_end(struct jsonl *log) MT_CHECKED;

/* Local.  Whether events wait or were lost for want of room; how many were lost. */
bool jsonl_is_behind(const struct jsonl *log, int64_t *lost);

/* Local.  Before a resume at `step`: drops the step, eval, phase, checkpoint and done events whose
 * step is greater (they will happen again) and a torn last line; start, stop, warning and unknown
 * events stay.  Rewrites atomically, and only where there is something to drop; no file is fine.
 * dropped: lines taken away; may be NULL.  Errors: IO, NOMEM. */
mt_status jsonl_truncate_after(const char *path, int64_t step, int64_t *dropped) MT_CHECKED;

/* Local.  Whether the last whole line is an event of this kind; false where there is no file.
 * Errors: IO, NOMEM. */
mt_status jsonl_ends_with(const char *path, const char *event, bool *answer) MT_CHECKED;

#endif

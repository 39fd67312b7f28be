/*
 * log: what the program tells a person while it works, and its progress line.
 *
 * Rank 0 writes to standard error and, once a run has a folder, to log.txt; another rank writes
 * only warnings and errors, to its own log-rankN.txt, made at the first of them.  Threads may log
 * at the same time. Results that a command is asked for (tables, JSON lines) go to standard output,
 * not here.
 */
#ifndef MT_BASE_LOG_H
#define MT_BASE_LOG_H

#include "comm/base/status.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DETAIL };

/* Local.  To be called once, before other threads; level: the most talkative that is shown. */
void log_init(int rank, enum log_level level);

/* Local.  Sets the most talkative level that is shown; answers the one before. */
enum log_level log_set_level(enum log_level level);

/* Local.  Also append to run_dir/log.txt (rank 0) or run_dir/log-rankN.txt.  A folder that cannot
 * be written costs the file, not the run.  NULL closes. */
void log_set_dir(const char *run_dir);

void log_error(const char *format, ...) MT_PRINTF(1, 2);
void log_warning(const char *format, ...) MT_PRINTF(1, 2);
void log_info(const char *format, ...) MT_PRINTF(1, 2);
void log_detail(const char *format, ...) MT_PRINTF(1, 2);

/* Progress of `what`: on a terminal one line redrawn at most ten times a second (bar, rate, time
 * left), otherwise a plain line at most every ten seconds.  Rank 0 only; total <= 0 = unknown.
 * `note` may be NULL ("loss 0.41 lr 2e-5").  progress_end clears the line. */
struct log_progress {
    const char *what, *unit;
    double begin_s, last_s;
    int64_t begin_done;
    bool shown;
};
void progress_begin(struct log_progress *p, const char *what, const char *unit, int64_t done);
void progress_show(struct log_progress *p, int64_t done, int64_t total, const char *note);
void progress_end(struct log_progress *p);

#endif

/*
 * report: a run's metrics.jsonl as one page to look at, report.html.
 *
 * One file that needs no network and no script to be read.  Events are taken as they come; a key
 * that is missing leaves a gap, one that is not known is ignored, a line that is not JSON is
 * counted and said at the foot, a torn last line is passed over.  A step that comes again (a run
 * resumed from before it) replaces the earlier one and what followed it.
 *
 * Memory does not grow with the run: curves are thinned while reading to REPORT_POINTS_MAX points,
 * tables keep a bounded number of rows and say how many were left out.
 */
#ifndef MT_IO_REPORT_H
#define MT_IO_REPORT_H

#include "comm/base/status.h"

enum { REPORT_POINTS_MAX = 2000 };

/* Local.  Reads run_dir/metrics.jsonl, writes run_dir/report.html atomically.
 * Errors: IO (no such file, cannot write), NOMEM. */
mt_status report_write(const char *run_dir) MT_CHECKED;

#endif

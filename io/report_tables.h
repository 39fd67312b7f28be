/* report_tables: the tables of report.html. */
#ifndef MT_IO_REPORT_TABLES_H
#define MT_IO_REPORT_TABLES_H

#include "io/markup.h"
#include "io/run_history.h"

/* Local.  Phases, evaluations with confusion tables, checkpoints, warnings. */
void report_add_tables(struct markup *m, const struct run_history *h);

#endif

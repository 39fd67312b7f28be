/* report_page: the frame of report.html: head, style, and the script that shows values. */
#ifndef MT_IO_REPORT_PAGE_H
#define MT_IO_REPORT_PAGE_H

#include "io/markup.h"

/* Local.  All before the contents, with the styles of charts; the title is escaped. */
void report_page_begin(struct markup *out, const char *title);

/* Local.  All behind the contents. */
void report_page_end(struct markup *out);

#endif

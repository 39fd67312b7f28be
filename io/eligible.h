/* eligible: the rows of a data set that have a label for at least one of some tasks. */
#ifndef MT_IO_ELIGIBLE_H
#define MT_IO_ELIGIBLE_H

#include "comm/base/status.h"

struct dataset;

/* Local.  columns[column_count]: label columns of the set (-1 is passed over).  *rows becomes the
 * ascending row numbers, [*count]; NULL where every row is eligible, since then a list is not
 * needed.  Owns: the caller, mt_free(rows).  Errors: NOMEM. */
mt_status eligible_rows(int64_t **rows, int64_t *count, const struct dataset *set,
                        const int32_t *columns, int32_t column_count) MT_CHECKED;

#endif

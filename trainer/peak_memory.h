/* peak_memory: the most memory that this process has had in use since a moment. */
#ifndef MT_TRAINER_PEAK_MEMORY_H
#define MT_TRAINER_PEAK_MEMORY_H

#include "comm/base/status.h"

/* Local.  Begins a new measurement, where Linux allows it; elsewhere the process' whole life
 * counts.  Source: proc(5), clear_refs. */
void peak_memory_reset(void);

/* Local.  Bytes resident at most since then. */
int64_t peak_memory_bytes(void);

#endif

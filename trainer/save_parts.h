/* save_parts: saves in which every rank writes the moments that it owns. */
#ifndef MT_TRAINER_SAVE_PARTS_H
#define MT_TRAINER_SAVE_PARTS_H

#include "trainer/run.h"

/* Local.  Whether a save is now to be made in parts, the same on all ranks: where the moments are
 * shared out, and neither over more ranks than a checkpoint has files for nor in more pieces than
 * its manifest can tell of. */
bool save_parts_wanted(const struct run *run);

/* Collective.  When every rank has written its part: tells rank 0's writer of all of them, and
 * makes its write_s that of the slowest rank.  Errors: NOMEM, MPI, BUG. */
mt_status save_parts_gather(struct run *run) MT_CHECKED;

#endif
